"""A toy store, a toy network that can be made to fail, and the real command line over both.

As a script: ``python toy_training.py FAIL pyrad-arguments...``, where FAIL is what `Toy.fail` holds.
"""

import json
import os
import signal
import sys

import numpy as np
import stores
import torch
from torch import nn

from pyrad.cli import main
from pyrad.models import MODELS
from pyrad.train.options import TrainOptions

TRAIN, VAL, TEST = 22, 7, 3
STEPS_AN_EPOCH = 5  # TRAIN // 4
SIZE = 16
EPOCHS = 3
TOTAL = EPOCHS * STEPS_AN_EPOCH


class Toy(nn.Module):
    """Everything that has a state in training: a norm's statistics, dropout's draws, moments."""

    input_layer = "conv"
    head = "fc"
    # Which call of this process, in training or evaluation, and what then: a signal, nan or inf-gradient.
    # For example "step-7:KILL", "val-1:TERM", "step-9:nan".
    fail = ""
    calls = {"step": 0, "val": 0}  # noqa: RUF012 - a toy

    def __init__(self, *, num_classes, in_chans=1):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 6, 3, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(6 * 16, num_classes)

    def forward(self, x):
        kind = "step" if self.training else "val"
        Toy.calls[kind] += 1
        place, _, what = Toy.fail.partition(":")
        x = torch.relu(self.bn(self.conv(x)))
        logits = self.fc(self.dropout(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1)))
        if place != f"{kind}-{Toy.calls[kind]}":
            return logits
        if what == "nan":
            return logits * float("nan")
        if what == "inf-gradient":
            logits.register_hook(lambda gradient: gradient * float("inf"))
            return logits
        os.kill(os.getpid(), getattr(signal, f"SIG{what}"))
        return logits


def reset(fail=""):
    Toy.fail = fail
    Toy.calls.update(step=0, val=0)


def facts(*, several_labels=False):
    splits = ["train"] * TRAIN + ["val"] * VAL + ["test"] * TEST
    table = []
    for number, split in enumerate(splits):
        labels = ("left",) if number % 2 else ("right",)
        if several_labels and number % 3 == 0:
            labels = ("left", "right")
        table.append({"split": split, "labels": labels})
    return table


def build_store(path, table=None):
    """Noise with a bright half: its side is the label."""
    draw = np.random.default_rng(7)
    images = []
    table = facts() if table is None else table
    for fact in table:
        image = draw.integers(0, 120, (20, 24), dtype=np.uint8)
        for label in fact["labels"]:
            half = slice(0, 12) if label == "left" else slice(12, 24)
            image[:, half] += 80
        images.append(image)
    return stores.build(path, images, table)


def options(**changes):
    """A run of the toy network, 15 steps, unless ``changes`` say otherwise; they name store and out."""
    usual = {
        "model": "toy",
        "size": SIZE,
        "batch_size": 4,
        "epochs": EPOCHS,
        "lr": 0.02,
        "checkpoint_every": 4,
        "deterministic": True,
    }
    return TrainOptions(**{**usual, **changes})


def lines(run):
    """A run's metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    MODELS["toy"] = Toy
    reset(sys.argv[1])
    raise SystemExit(main(sys.argv[2:]))
