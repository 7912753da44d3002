"""Percentiles of a whole series: exactly NumPy's of all its images together, read back from the shards."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from parts import DIGEST, SECRET

from pyrad.errors import PyradError
from pyrad.ingest.percentiles import Histogram
from pyrad.ingest.series_percentiles import (
    Place,
    SeriesTask,
    series_percentiles,
    series_tasks,
    shares_percentiles,
)
from pyrad.records import Source
from pyrad.store.shard import write_shard
from pyrad.store.writer import StoreWriter

images = st.sampled_from(["uint8", "int8", "uint16", "int16"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=2, max_side=9))
)


@given(st.lists(images, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_histogram_of_many_is_that_of_all_together(pictures):
    histogram = Histogram()
    for picture in pictures:
        histogram.add(picture)
    together = np.concatenate([picture.ravel().astype(np.int64) for picture in pictures])
    expected = np.percentile(together, [1, 99])
    assert histogram.percentiles() == pytest.approx(tuple(expected), rel=1e-12)


@pytest.fixture
def stored(tmp_path):
    """A shard of every geometry, finished and not committed: (place, image) in order."""
    rng = np.random.default_rng(0)
    shapes = [(8, 9, "uint16"), (5, 5, "int16"), (8, 9, "uint8")]
    with StoreWriter.open(tmp_path / "a.zarr", codec=None, **SECRET) as writer:
        writer.begin(DIGEST)
        found = []
        for rows, columns, dtype in shapes:
            pictures = [rng.integers(0, 200 + 50 * n, (rows, columns)).astype(dtype) for n in range(4)]
            entry = writer.images(count=4, rows=rows, columns=columns, planes=1, dtype=dtype)
            (spec,) = writer.shards(entry)
            write_shard(spec, [*pictures[:3], None], facts=[0] * 4)
            found += [(Place(spec=spec, slot=n, padding=None), pictures[n]) for n in range(3)]
        yield found


def test_a_series_may_lie_in_several_shards(stored):
    places = tuple(place for place, _ in stored)
    expected = np.percentile(np.concatenate([image.ravel().astype(int) for _, image in stored]), [1, 99])
    alone = np.percentile(stored[0][1], [1, 99])
    (together, one) = series_percentiles(SeriesTask(series=(places[::-1], places[:1])))
    assert together == pytest.approx(tuple(expected), rel=1e-12)
    assert one == pytest.approx(tuple(alone), rel=1e-12)


def test_padding_is_left_out(stored):
    padded = tuple(dataclasses.replace(place, padding=(0, 99)) for place, _ in stored)
    values = np.concatenate([image.ravel().astype(int) for _, image in stored])
    (found,) = series_percentiles(SeriesTask(series=(padded,)))
    assert found == pytest.approx(tuple(np.percentile(values[values > 99], [1, 99])), rel=1e-12)


def test_an_empty_slot_is_an_error(stored):
    with pytest.raises(PyradError, match="slot 3 is empty"):
        series_percentiles(SeriesTask(series=((dataclasses.replace(stored[0][0], slot=3),),)))


def test_tasks_hold_whole_series(stored):
    place = stored[0][0]
    many = [("a", place)] * 3 + [("b", place)] * 600 + [("c", place)] * 2
    assert [[len(its) for its in task.series] for task in series_tasks(many)] == [[3, 600], [2]]
    assert [*series_tasks([])] == []


def test_only_mr_shares():
    def source(**facts):
        base = {"archive": 0, "path": "a", "kind": "dicom", "rows": 1, "columns": 1, "dtype": "int16"}
        return Source(**{**base, "modality": "MR", "series": "1.2", **facts})

    assert shares_percentiles(source())
    for facts in ({"modality": "CT"}, {"modality": None}, {"series": ""}, {"planes": 3}):
        assert not shares_percentiles(source(**facts))
