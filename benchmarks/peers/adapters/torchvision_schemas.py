"""What torchvision's wheel looks for in a CPU build of torch and does not find: two operators' schemas.

Nothing here calls them; packages that import torchvision cannot be imported without. Import this before them.
"""

from __future__ import annotations

import torch

LIBRARY = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
