"""Percentiles of a whole series: exactly NumPy's of all its images together, read back from the shards."""

import dataclasses

import dicoms
import numpy as np
import pytest
from archives import ingest, samples_of, tree
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from parts import DIGEST, SECRET
from stores import write_shard

from pyrad.errors import PyradError
from pyrad.ingest.percentiles import Histogram
from pyrad.ingest.series_percentiles import (
    Place,
    SeriesTask,
    series_percentiles,
    shares_percentiles,
)
from pyrad.records import Source
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


def test_only_mr_shares():
    def source(**facts):
        base = {"archive": 0, "path": "a", "kind": "dicom", "rows": 1, "columns": 1, "dtype": "int16"}
        return Source(**{**base, "modality": "MR", "series": "1.2", **facts})

    assert shares_percentiles(source())
    for facts in ({"modality": "CT"}, {"modality": None}, {"series": ""}, {"planes": 3}):
        assert not shares_percentiles(source(**facts))


def mr(folder, name, image, number, **elements):
    """An MR image of its own series unless told; percentiles are of int16."""
    data = dicoms.dicom(image, modality="MR", SOPInstanceUID=f"1.2.{number}", **elements)
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.dcm").write_bytes(data)


def test_an_ingest_gives_mr_the_percentiles_of_its_series(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 100 * (n + 1), (9, 8 + n % 2)).astype(np.int16) for n in range(7)]
    series = [{"SeriesInstanceUID": "1.7"}] * 4 + [{"SeriesInstanceUID": "1.8"}] * 2
    series += [{"SeriesInstanceUID": "1.7", "RescaleSlope": "2", "RescaleIntercept": "0"}]  # another scale
    series[3] = {**series[3], "PixelPaddingValue": 0}
    for number, (picture, elements) in enumerate(zip(pictures, series, strict=True)):
        mr(tmp_path / "in", number, picture, number + 10, **elements)
    ct = rng.integers(0, 900, (9, 8)).astype(np.int16)
    (tmp_path / "in" / "ct.dcm").write_bytes(
        dicoms.dicom(ct, SeriesInstanceUID="1.7", SOPInstanceUID="1.2.9")
    )
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    monkeypatch.setattr("pyrad.store.layout.SHARD_IMAGES_LIMIT", 2)
    ingest(tmp_path / "a.zarr", tmp_path / "in")

    def ends(*images):
        return tuple(np.percentile(np.concatenate([image.ravel() for image in images]), [1, 99]))

    together = ends(*pictures[:3], pictures[3][pictures[3] != 0])
    expected = [together] * 4 + [ends(*pictures[4:6])] * 2 + [ends(pictures[6]), ends(ct)]
    rows = samples_of(tmp_path / "a.zarr")
    for picture, its in zip([*pictures, ct], expected, strict=True):
        (row,) = (row for row in rows if np.array_equal(row["image"], picture))
        assert row["percentiles"] == pytest.approx(its, rel=1e-12)
    ingest(tmp_path / "b.zarr", tmp_path / "in", workers=2)
    assert tree(tmp_path / "a.zarr") == tree(tmp_path / "b.zarr")
