"""Words of a command line or a TOML file -> the options of `pyrad train`, checked at the door."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pyrad.errors import UsageError
from pyrad.loader.augment import Augment

# What may differ between a run and its resumption: where things lie, how long it runs (the cosine of the
# steps to come then ends at the new end), how fast it goes.
FREE_ON_RESUME = ("store", "out", "epochs", "checkpoint_every", "resume", "threads", "device")

# (smallest, largest) of the numbers, both allowed
_RANGES: dict[str, tuple[float, float]] = {
    "size": (16, 4096),
    "batch_size": (2, 1 << 20),  # batch norm has no statistics of one image
    "epochs": (1, 1 << 20),
    "seed": (0, (1 << 63) - 1),
    "weight_decay": (0.0, 1.0),
    "warmup": (0.0, 1.0),
    "label_smoothing": (0.0, 0.9),
    "flip": (0.0, 1.0),
    "translate": (0.0, 1.0),
    "checkpoint_every": (1, 1 << 40),
}


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """One training run. Everything that shapes the result is here or in the store."""

    store: Path = field(metadata={"help": "the store to learn from, a folder NAME.zarr"})
    model: str = field(default="resnet50", metadata={"help": "the network"})
    out: Path = field(
        metadata={"help": "the run folder; empty or absent, or the one to --resume", "metavar": "DIR"}
    )
    size: int = field(
        default=224, metadata={"help": "height and width of the images that the network sees, in pixels"}
    )
    batch_size: int = field(default=32, metadata={"help": "images a step"})
    epochs: int = field(default=10, metadata={"help": "how often each training image is seen"})
    seed: int = field(default=0, metadata={"help": "of the initial weights, the order and the augmentation"})
    lr: float = field(default=1e-3, metadata={"help": "peak learning rate of AdamW"})
    weight_decay: float = field(
        default=0.05, metadata={"help": "decoupled weight decay; norms and biases have none"}
    )
    warmup: float = field(
        default=0.05,
        metadata={"help": "share of all steps in which the learning rate rises; then a cosine falls"},
    )
    label_smoothing: float = field(
        default=0.0, metadata={"help": "share of each target spread over all classes"}
    )
    channels: int = field(
        default=1, metadata={"help": "input channels: 1, or 3 (equal ones of a grey image)"}
    )
    window: str = field(
        default="auto",
        metadata={
            "help": "auto, anatomy, a preset, the number of an own window from 0, or three as brain,1,bone"
        },
    )
    fit: str = field(
        default="stretch",
        metadata={"help": "how an image fills the square", "choices": ("stretch", "letterbox", "crop")},
    )
    flip: float = field(
        default=0.0,
        metadata={
            "help": "augmentation: probability of a left-right flip; it swaps the sides of the patient"
        },
    )
    scale: float = field(
        default=0.8,
        metadata={"help": "augmentation: least share of the image's area that is kept; 1 keeps all of it"},
    )
    translate: float = field(
        default=1.0,
        metadata={"help": "augmentation: how far the kept part may move; 0 is centred, 1 is anywhere"},
    )
    checkpoint_every: int = field(
        default=500,
        metadata={"help": "steps between checkpoints, beside those of the best and the last epoch"},
    )
    resume: bool = field(
        default=False, metadata={"help": "go on from the newest checkpoint; start where there is none"}
    )
    deterministic: bool = field(
        default=False, metadata={"help": "refuse operations that are not bit for bit repeatable"}
    )
    threads: int | None = field(
        default=None, metadata={"help": "threads that prepare batches (default: one a core)"}
    )
    device: str = field(default="auto", metadata={"help": "where to train", "choices": ("auto", "cpu")})

    def __post_init__(self) -> None:
        """Refuse values outside what is allowed; names of models and windows are checked where they live."""
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:  # nan too
                raise UsageError(f"{_flag(name)} is {value}; it lies between {low} and {high}")
        for name in ("fit", "device"):
            allowed = self.__dataclass_fields__[name].metadata["choices"]
            if getattr(self, name) not in allowed:
                raise UsageError(
                    f"{_flag(name)} is {getattr(self, name)!r}; allowed are {', '.join(allowed)}"
                )
        if self.channels not in (1, 3):
            raise UsageError(f"--channels is {self.channels}; allowed are 1 and 3")
        if not 0.0 < self.lr < math.inf:
            raise UsageError(f"--lr is {self.lr}; it is above 0")
        if not 0.0 < self.scale <= 1.0:
            raise UsageError(f"--scale is {self.scale}; it is above 0 and at most 1")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads is {self.threads}; it is at least 1")

    def augment(self) -> Augment | None:
        """What may happen to a training image; None where flip and scale leave it as it is."""
        if self.flip == 0.0 and self.scale == 1.0:
            return None
        if self.scale == 1.0:
            return Augment(flip=self.flip, scale=(1.0, 1.0), ratio=(1.0, 1.0), translate=0.0)
        return Augment(flip=self.flip, scale=(self.scale, 1.0), translate=self.translate)

    def record(self) -> dict[str, Any]:
        """Return the options as JSON values, in field order."""
        return {
            name: str(value) if isinstance(value, Path) else value
            for name, value in ((each.name, getattr(self, each.name)) for each in fields(self))
        }


def refuse_changes(options: TrainOptions, recorded: dict[str, Any], out: Path) -> None:
    """Check that ``options`` may resume the run whose ``recorded`` options these are.

    Raises:
        UsageError: one that shapes the result differs; the message names it and both values.

    """
    asked = options.record()
    for name, value in asked.items():
        if name in FREE_ON_RESUME or recorded.get(name, value) == value:
            continue
        raise UsageError(
            f"--resume: {_flag(name)} is {value}, and the run in {out} was begun with {recorded[name]}; give "
            f"{_flag(name)} {recorded[name]}, or another --out for a new run"
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
