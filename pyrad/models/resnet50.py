"""ResNet-50: images (N, C, H, W) -> 2048 features on a grid a 32nd as fine -> logits.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition", CVPR 2016, in the form known as v1.5: the
stride of a stage's first block sits on its 3x3 convolution, as in torchvision and timm. State-dict names are
theirs. 25,557,032 parameters for 3 channels and 1,000 classes.

Initialisation: convolutions by He's normal rule (fan-out); the scale of the last batch norm of every block is
zero, so that each block begins as the identity (Goyal et al., arXiv:1706.02677, section 5.1); the last layer
as torch does it.
"""

from __future__ import annotations

import torch
from torch import nn

# (blocks, width of the 3x3 convolution, stride of the first block) of layer1 to layer4
_STAGES = ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2))
_EXPANSION = 4  # a block's output is four times as wide as its 3x3 convolution


class Bottleneck(nn.Module):
    """1x1 -> 3x3 -> 1x1 convolutions added to their input: (N, in, H, W) -> (N, 4 width, H / stride, ...)."""

    def __init__(self, in_features: int, width: int, stride: int) -> None:
        super().__init__()
        out_features = width * _EXPANSION
        self.conv1 = nn.Conv2d(in_features, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_features, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_features)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_features != out_features:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_features, out_features, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_features),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the block's correction to its input (N, C, H, W)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        out: torch.Tensor = self.relu(y + shortcut)
        return out


class ResNet50(nn.Module):
    """The network; ``in_chans`` input channels, ``num_classes`` logits."""

    input_layer = "conv1"
    head = "fc"

    def __init__(self, *, num_classes: int, in_chans: int = 1) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.num_features = _STAGES[-1][1] * _EXPANSION
        self.conv1 = nn.Conv2d(in_chans, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        features = 64
        for number, (blocks, width, stride) in enumerate(_STAGES, start=1):
            layer = nn.Sequential(Bottleneck(features, width, stride))
            features = width * _EXPANSION
            layer.extend(Bottleneck(features, width, 1) for _ in range(blocks - 1))
            self.add_module(f"layer{number}", layer)
        self.fc = nn.Linear(self.num_features, num_classes)
        self._initialise()

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_chans, H, W) -> the last grid of features (N, 2048, ceil(H / 32), ceil(W / 32))."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for number in range(1, len(_STAGES) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_chans, H, W) -> logits (N, num_classes)."""
        logits: torch.Tensor = self.fc(self.forward_features(x).mean(dim=(2, 3)))
        return logits

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)
