"""A tiny network, a store of noise with a bright spot, and a finished run by the real training loop."""

import json

import numpy as np
import stores
import torch
from torch import nn

from pyrad.models import MODELS
from pyrad.train.loop import train
from pyrad.train.options import TrainOptions

SIZE = 16


class Spotter(nn.Module):
    input_layer = "conv"
    head = "fc"

    def __init__(self, *, num_classes, in_chans=1):
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 4, 3, stride=2)
        self.fc = nn.Linear(4 * 16, num_classes)

    def forward(self, x):
        return self.fc(nn.functional.adaptive_avg_pool2d(torch.relu(self.conv(x)), 4).flatten(1))


def table(names, counts=(24, 6, 18), *, several=False, images_a_patient=2):
    """Facts of samples: ``counts`` patients in train, val and test, the classes in turn."""
    facts = []
    for split_number, (split, count) in enumerate(zip(("train", "val", "test"), counts, strict=True)):
        for patient in range(count):
            for image in range(images_a_patient):
                labels = {names[(patient + image * (patient % 4 == 0)) % len(names)]}
                if several and patient % 3 == 0:
                    labels.add(names[0])
                group = f"{split_number}{patient:031d}"
                facts.append({"split": split, "labels": tuple(sorted(labels)), "group": group})
    return facts


def build(path, names, facts):
    """Noise with one brighter square for each label; its place says which."""
    draw = np.random.default_rng(3)
    images = []
    for fact in facts:
        image = draw.integers(0, 150, (20, 24), dtype=np.uint8)
        for name in fact["labels"]:
            if name in names:
                row, column = divmod(names.index(name), 4)
                image[row * 6 : row * 6 + 6, column * 6 : column * 6 + 6] += 60
        images.append(image)
    return stores.build(path, images, facts)


def finished(folder, names, facts, *, epochs=4, channels=1):
    """A store and a run in ``folder``; `Spotter` must be among `MODELS` as long as the run is used."""
    MODELS["spotter"] = Spotter
    store = build(folder / "toy.zarr", names, facts)
    options = TrainOptions(
        store=store,
        model="spotter",
        out=folder / "run",
        size=SIZE,
        batch_size=8,
        epochs=epochs,
        lr=0.02,
        scale=1.0,
        channels=channels,
        threads=1,
    )
    train(options)
    return options.out


def change(path, **changes):
    """Edit a JSON file of a run."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
