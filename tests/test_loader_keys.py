"""The samples table a block at a time -> what a loader keeps of it: as much as it needs, and no more."""

import numpy as np
import pyarrow as pa
import pytest
from stores import build, key_of
from toy_loading import open_small, pictures

from pyrad.errors import IntegrityError
from pyrad.loader import blocks as blocks_
from pyrad.loader.blocks import by_block
from pyrad.loader.keys import Keys
from pyrad.records import Lut
from pyrad.store import tables
from pyrad.store.reader import open_store


class Blocks:
    """Samples whose keys come in the blocks that are given."""

    def __init__(self, *blocks):
        self._blocks = blocks

    def blocks(self, names):
        assert names == ["key"]
        return iter([pa.table({"key": pa.chunked_array([block], pa.string())}) for block in self._blocks])


def test_keys_are_those_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "GROUP_ROWS", 5)
    with open_small(tmp_path / "s.zarr") as store:
        keys = Keys(store.samples)
        wanted = np.array([41, 0, 7, 7, 12])
        assert keys.of(wanted) == tuple(key_of(number) for number in wanted)
        assert keys.of(np.empty(0, np.int64)) == ()
        assert list(keys.of(np.arange(42))) == store.samples["key"].to_pylist()


def test_keys_of_a_slice():
    column = pa.array([key_of(number) for number in range(9)])
    assert Keys(Blocks(column[2:5], column[:0], column[8:])).of(np.arange(4)) == tuple(
        key_of(number) for number in (2, 3, 4, 8)
    )
    assert Keys(Blocks()).of(np.empty(0, np.int64)) == ()


@pytest.mark.parametrize("wrong", ["", "ab", "x" * 32, "A" * 32, " " * 32, key_of(1) + "00", "\u0661" * 16])
def test_what_is_no_key_is_refused(wrong):
    column = pa.array([key_of(0), wrong, key_of(2)])
    with pytest.raises(IntegrityError, match="pyrad verify"):
        Keys(Blocks(column))
    if wrong:  # of the right length together
        with pytest.raises(IntegrityError, match="pyrad verify"):
            Keys(Blocks(pa.array([wrong, key_of(1)[: 64 - len(wrong)].ljust(64 - len(wrong), "0")])))


def test_blocks_are_the_table_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "GROUP_ROWS", 4)
    luts = [Lut(first=0, bits=8, entries=bytes([number, 0] * 3)) for number in range(3)]
    facts = [{"voi_lut": luts[number % 3] if number % 2 else None} for number in range(11)]
    path = build(tmp_path / "s.zarr", pictures(11), facts)
    names = ["key", "row", "voi_lut", "labels", "bucket"]
    with open_store(path) as store:
        blocks = list(store.samples.blocks(names))
        assert [len(block) for block in blocks] == [4, 4, 3]
        assert [block.column_names for block in blocks] == [names] * 3
        together, whole = pa.concat_tables(blocks), store.samples.read(names)
        assert together.to_pylist() == whole.to_pylist()
        assert whole["voi_lut"].to_pylist() == store.samples["voi_lut"].to_pylist()
        assert not store.samples._columns.keys() & {"key", "labels"}


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_what_is_made_of_blocks_is_what_is_made_of_all(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(tables, "GROUP_ROWS", 5)
    monkeypatch.setattr(blocks_, "_AT_ONCE", at_once)
    with open_small(tmp_path / "s.zarr") as store:
        rows = np.array([0, 1, 6, 7, 8, 9, 17, 41])  # none of some blocks

        def make(columns, here):
            assert list(columns) == ["key", "row"]
            assert (wanted[here] == columns["key"].to_pylist()).all()
            row = columns["row"].to_numpy()
            return {"row": row, "pair": np.stack([row, -row], axis=1).astype(np.float32)}

        wanted = np.array([key_of(number) for number in rows])
        made = by_block(store.samples, rows, ["key", "row"], make)
        expected = store.samples["row"].to_numpy()[rows]
        np.testing.assert_array_equal(made["row"], expected)
        np.testing.assert_array_equal(made["pair"], np.stack([expected, -expected], axis=1))
        assert made["pair"].dtype == np.float32
        assert by_block(store.samples, rows[:0], ["key"], make) == {}
