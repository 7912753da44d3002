"""Lookup tables in a store: each once, in one order, checked, numbered over all parts."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import recommit, rewrite_samples
from parts import add_part, picture, tree_bytes

from pyrad.errors import IntegrityError, PyradError
from pyrad.records import Lut
from pyrad.store import luts, tables
from pyrad.store.reader import open_store
from pyrad.store.verify import verify


def lut(first, bits, *entries):
    return Lut(first=first, bits=bits, entries=np.array(entries, "<u2").tobytes())


LOW, DEEP, LONG = lut(-1000, 8, 0, 128, 255), lut(0, 12, 4095, 0), lut(0, 16, *range(65535, -1, -1))
FILE = "parts/000001/luts.parquet"


def stored(path, *facts, first=0):
    return add_part(path, [picture(first + n, 9, 8) for n in range(len(facts))], facts=facts, first=first)


@pytest.fixture
def path(tmp_path):
    return stored(
        tmp_path / "a.zarr",
        {"voi_lut": LONG},
        {},
        {"modality_lut": DEEP, "voi_lut": LOW},
        {"voi_lut": LONG, "modality_lut": LONG},
    )


def test_each_table_is_stored_once_and_named_by_its_row(path):
    assert verify(path)["samples"] == 4
    with open_store(path) as store:
        assert store.luts.all() == (LOW, DEEP, LONG)
        assert store.samples["voi_lut"].to_pylist() == [2, None, 0, 2]
        assert store.samples["modality_lut"].to_pylist() == [None, None, 1, 2]
        assert pickle.loads(pickle.dumps(store)).luts.all() == (LOW, DEEP, LONG)  # noqa: S301


def test_tables_of_later_parts_are_numbered_behind(path):
    stored(path, {"voi_lut": DEEP}, {}, first=4)
    stored(path, {}, first=6)
    stored(path, {"modality_lut": LOW}, first=7)
    verify(path)
    with open_store(path) as store:
        every = store.luts.all()
        assert every == (LOW, DEEP, LONG, DEEP, LOW)
        voi, modality = (store.samples[name].to_pylist() for name in luts.COLUMNS)
        assert voi == [2, None, 0, 2, 3, None, None, None]
        assert modality == [None, None, 1, 2, None, None, None, 4]
        assert store.samples.to_arrow()["voi_lut"].to_pylist() == voi


def test_the_order_of_arrival_changes_no_byte():
    tables_in = [LONG, None, LOW, DEEP, LOW, lut(0, 12, 4095, 1)]
    one, other = (luts.luts_table(luts.number_luts(order)) for order in (tables_in, tables_in[::-1]))
    assert tables.parquet_bytes(one) == tables.parquet_bytes(other)
    assert luts.luts_of(one) == tuple(sorted({*tables_in} - {None}))
    assert luts.luts_table({}) is None


def test_a_store_without_tables_has_no_file_of_them(tmp_path):
    store = stored(tmp_path / "b.zarr", {}, {})
    assert FILE not in tree_bytes(store)
    with open_store(store) as opened:
        assert opened.luts.all() == ()
        assert opened.samples["voi_lut"].null_count == 2


def edited(change):
    def edit(path):
        rows = pq.read_table(path / FILE).to_pylist()
        change(rows)
        table = pa.Table.from_pylist(rows, schema=luts.LUTS_SCHEMA)
        (path / FILE).write_bytes(tables.parquet_bytes(table))
        recommit(path)

    return edit


FAULTS = {
    "order": (edited(lambda rows: rows.reverse()), "not distinct and in order"),
    "twice": (edited(lambda rows: rows.append(rows[-1])), "not distinct and in order"),
    "missing": (edited(lambda rows: rows.pop()), "name 3 tables, and the part has 2"),
    "deeper than its bits": (edited(lambda rows: rows[0].update(bits=7)), "luts row 0: its first, bits"),
    "bits": (edited(lambda rows: rows[2].update(bits=17)), "luts row 2: its first, bits"),
    "empty": (edited(lambda rows: rows[0].update(entries=[])), "luts row 0: its first, bits"),
    "first": (edited(lambda rows: rows[2].update(first=1 << 16)), "luts row 2: its first, bits"),
    "not named": (
        lambda path: rewrite_samples(path, lambda rows: [row.update(voi_lut=None) for row in rows]),
        "name 2 tables, and the part has 3",
    ),
    "outside": (
        lambda path: rewrite_samples(path, lambda rows: rows[1].update(voi_lut=3)),
        "name 4 tables, and the part has 3",
    ),
    "contents": (lambda path: (path / FILE).write_bytes(bytes(400)), "luts.parquet"),
    "gone": (lambda path: (path / FILE).unlink(), "luts.parquet"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_verify_names_what_is_wrong_with_a_table(path, fault):
    spoil, message = FAULTS[fault]
    spoil(path)
    with pytest.raises(IntegrityError, match=message):
        verify(path)


def test_tables_that_no_row_names_are_not_committed():
    numbers = luts.number_luts([LOW])
    samples = tables.samples_table([])
    with pytest.raises(PyradError, match="name 0 tables, and the part has 1"):
        luts.checked_luts(luts.luts_table(numbers), samples)
