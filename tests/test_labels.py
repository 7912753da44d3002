"""The label lists of a store -> classes and targets, as a loader gives them."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from stores import build, key_of

from pyrad.errors import UsageError
from pyrad.loader.labels import read_targets
from pyrad.loader.loader import Loader
from pyrad.store.reader import open_store


def pictures(count):
    return [np.full((8, 8), number, np.uint8) for number in range(count)]


def small(store, **options):
    return Loader(store, **{"batch_size": 8, "size": 4, "threads": 1, **options})


def drawn(loader, passes):
    """The keys of everything that comes in ``passes`` rounds of a training loader."""
    return {key for _ in range(passes) for batch in loader for key in batch.keys}


def test_lists_of_any_chunking_become_targets():
    column = pa.chunked_array(
        [pa.array([["b"], ["a"], [], ["b", "a", "b"], ["z"]]), pa.array([["é"], ["q", "b"]])],
        type=pa.list_(pa.string()),
    )
    training = np.array([1, 1, 1, 0, 0, 1, 0], dtype=bool)
    for labels in (column, pa.concat_arrays(column.chunks), column.slice(0, 7)):
        targets = read_targets(
            pa.chunked_array([labels]) if isinstance(labels, pa.Array) else labels, training
        )
        assert targets.classes == ("a", "b", "é")
        assert not targets.multi_label
        assert targets.single().tolist() == [1, 0, -1, -1, -1, 2, -1]
        assert targets.usable().tolist() == [True, True, False, False, False, True, False]
        assert targets.class_counts(np.flatnonzero(training)) == (1, 1, 1)
        hot = targets.multi_hot(np.array([3, 2, 6, 0, 0]))
        assert hot.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]]
    sliced = read_targets(column.slice(3, 3), training[:3])
    assert sliced.classes == ("a", "b", "z", "é")
    assert sliced.multi_label


def test_samples_without_a_usable_label(tmp_path):
    """Unlabelled training samples are left out; elsewhere no label, or one unseen in training, is -1."""
    labels = [("b",), (), ("a",), ("b",), ("z",), (), ("a",)]
    splits = ["train"] * 4 + ["val"] * 3
    facts = [{"labels": label, "split": split} for label, split in zip(labels, splits, strict=True)]
    with open_store(build(tmp_path / "s.zarr", pictures(7), facts)) as opened:
        training = small(opened, batch_size=3)
        assert not training.multi_label
        assert training.left_out == 1
        assert training.class_counts == (1, 2)
        assert drawn(training, 4) == {key_of(0), key_of(2), key_of(3)}
        (batch,) = small(opened, split="val", batch_size=3)
        assert batch.labels.tolist() == [-1, -1, 0]
        (batch,) = small(opened, split="train", batch_size=4, shuffle=False)
        assert batch.labels.tolist() == [1, -1, 0, 1]
        (batch,) = small(opened, split="val", batch_size=3, classes=("z", "a"))
        assert batch.labels.tolist() == [0, -1, 1]
        with pytest.raises(UsageError, match="none of its 4 samples has a label among the 1 classes"):
            small(opened, classes=("z",))
        with pytest.raises(UsageError, match=r"'test' holds no sample; .*train 4, val 3, test 0"):
            small(opened, split="test")


def test_multi_label_stores(tmp_path):
    labels = [("é", "a"), ("b",), (), ("b", "new", "a")]
    facts = [{"labels": label, "split": "val" if n == 3 else "train"} for n, label in enumerate(labels)]
    with open_store(build(tmp_path / "s.zarr", pictures(4), facts)) as opened:
        loader = small(opened, split="train", shuffle=False, batch_size=3)
        assert loader.multi_label
        assert loader.classes == ("a", "b", "é")
        (batch,) = loader
        assert batch.labels.dtype == torch.float32
        assert batch.labels.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
        (batch,) = small(opened, split="val", batch_size=1)
        assert batch.labels.tolist() == [[1, 1, 0]]
        assert drawn(small(opened, batch_size=2), 3) == {key_of(0), key_of(1)}
        (batch,) = small(opened, split="val", batch_size=1, multi_label=False)
        assert batch.labels.tolist() == [-1]


def test_a_store_without_labels_still_streams(tmp_path):
    with open_store(build(tmp_path / "s.zarr", pictures(4))) as opened:
        loader = small(opened, batch_size=4)
        (batch,) = loader
        assert loader.classes == ()
        assert batch.labels.tolist() == [-1] * 4
        assert set(batch.keys) == {key_of(number) for number in range(4)}
