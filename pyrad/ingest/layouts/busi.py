"""BUSI: breast ultrasound in three folders, with lesion masks beside the images -> a table.

Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28 (2020) 104863.
"""

from __future__ import annotations

import re
from collections import defaultdict

from pyrad.ingest.layouts import Listing
from pyrad.ingest.table import Row, Table

CLASSES = ("benign", "malignant", "normal")

_MASK = re.compile(r"(.+)_mask(?:_\d+)?")


def busi(listing: Listing) -> list[Table]:
    """A row for each image: its class, and every mask that bears its name."""
    images: dict[str, tuple[str, str]] = {}  # path -> class, name
    masks: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path, found in listing.search(rf"({'|'.join(CLASSES)})/(?:[^/]+/)?([^/]+)\.(?i:png)"):
        label, name = found[1], found[2]
        mask = _MASK.fullmatch(name)
        if mask:
            masks[label, mask[1]].append(path)
        else:
            images[path] = label, name
    if not images:
        raise listing.unlike("BUSI", "PNG files in folders benign, malignant and normal")
    bare = sum(image not in masks for image in images.values())
    orphans = sum(len(its) for image, its in masks.items() if image not in set(images.values()))
    notes = [f"{listing.path.name}: no patients are known, and several images may be of one woman"]
    notes += [f"{listing.path.name}: {bare} images have no mask file"] if bare else []
    notes += [f"{listing.path.name}: {orphans} mask files have no image"] if orphans else []
    return [
        Table(
            name=listing.path.name,
            rows=tuple(
                Row(
                    path=path,
                    labels=(image[0],),
                    masks=tuple(masks.get(image, ())),
                    modality="US",
                    anatomy="breast",
                )
                for path, image in images.items()
            ),
            notes=tuple(notes),
        )
    ]
