"""A store of small images and loaders over it, for the tests of what a loader yields and by which door."""

import importlib
import warnings

import numpy as np
import pytest
import torch
from stores import build

from pyrad.loader.loader import Loader
from pyrad.store.reader import open_store

LABELS = ("cyst", "normal", "abscess")
SHAPES = [((16, 24), "int16"), ((33, 20), "uint8"), ((20, 20), "uint16")]


def pictures(count, seed=0):
    """Images of three sizes and dtypes, turn and turn about."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(0, 200, shape).astype(dtype)
        for shape, dtype in (SHAPES[number % len(SHAPES)] for number in range(count))
    ]


def open_small(path, codec="tilepack"):
    """A store of 37 training samples with one label of three, 5 to validate on, none to test on."""
    facts = [
        {"labels": (LABELS[number % 3],), "split": "train" if number < 37 else "val"} for number in range(42)
    ]
    return open_store(build(path, pictures(42), facts, codec=codec))


def small(store, **options):
    """A loader of small images in small batches."""
    return Loader(store, **{"batch_size": 8, "size": 12, "threads": 2, **options})


def take(loader, batches):
    """The next ``batches`` batches of a training loader, over as many `for` as it takes."""
    found = []
    while len(found) < batches:
        for batch in loader:
            found.append(batch)
            if len(found) == batches:
                break
    return found


def keys(batches):
    """The keys of all ``batches``, in order."""
    return [key for batch in batches for key in batch.keys]


def same(ours, theirs):
    """Assert that two lists of batches are equal, bit for bit."""
    assert keys(ours) == keys(theirs)
    for left, right in zip(ours, theirs, strict=True):
        assert torch.equal(left.images, right.images)
        assert torch.equal(left.labels, right.labels)
        assert torch.equal(left.valid, right.valid)


def optional(module):
    """A module that is not always installed, whatever its import warns of; without it the test is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(module.partition(".")[0])
        return importlib.import_module(module)
