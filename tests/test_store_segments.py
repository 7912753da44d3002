"""Segments of a shard: the shard's bytes do not depend on where it is cut, nor on who writes which piece."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import write_shard

from pyrad import ops
from pyrad.errors import PyradError
from pyrad.store import layout, segments
from pyrad.store.chunk import encode_chunk
from pyrad.store.segments import SegmentWriter, cut, join_segments
from pyrad.store.shard import TREE, finished_shard
from pyrad.store.writer import StoreWriter

DIGEST = "0" * 32
SECRET = {"key_check": "0" * 16, "file_salt": "0" * 32}


def images_of(spec, seed=0, absent=()):
    """Images for every slot; None where a slot stays empty."""
    generator = np.random.default_rng(seed)
    shape = (spec.slots, *spec.image_shape)
    every = generator.integers(0, 900, shape).astype(spec.dtype)
    return [None if n in absent else image for n, image in enumerate(every)]


def golden(spec, images):
    """The bytes of a shard, put together as docs/format.md says."""
    data, index = b"", np.full((spec.shard_n * spec.planes, 2), layout.ABSENT, "<u8")
    for slot, image in enumerate(images):
        for plane in range(spec.planes) if image is not None else ():
            chunk = encode_chunk(image.reshape(spec.planes, spec.rows, spec.columns)[plane], spec.profile)
            index[slot * spec.planes + plane] = len(data), len(chunk)
            data += chunk + bytes(-len(chunk) % 64)
    return data + index.tobytes() + ops.crc32c(index.tobytes()).to_bytes(4, "little")


@pytest.fixture
def spec(tmp_path):
    """The first shard of an array of 7 small images of three planes; the writer stays open."""
    with StoreWriter.open(tmp_path / "s.zarr", codec="tilepack", **SECRET) as writer:
        writer.begin(DIGEST)
        yield writer.shards(writer.images(count=7, rows=9, columns=14, planes=3, dtype="int16"))[0]


def test_any_cut_gives_the_same_bytes(spec):
    @settings(max_examples=20, deadline=None)
    @given(st.sets(st.integers(1, 6)), st.sets(st.integers(0, 6)), st.randoms(use_true_random=False))
    def check(ends, absent, order):
        images = images_of(spec, absent=absent)
        bounds = [0, *sorted(ends), 7]
        runs = [range(a, b) for a, b in pairwise(bounds)]
        written = {}
        for run in order.sample(runs, len(runs)):
            with SegmentWriter(spec, run) as writer:
                for slot in run:
                    writer.add(images[slot])
                written[run] = writer.finish()
        result = join_segments(spec, [written[run] for run in runs], facts=[1, "two"])
        assert (spec.folder / TREE / spec.file).read_bytes() == golden(spec, images)
        assert finished_shard(spec) == result == write_shard(spec, images, facts=[1, "two"])

    check()


def test_joining_again_is_joining_once(spec):
    images, parts = images_of(spec), []
    for run in (range(3), range(3, 7)):
        with SegmentWriter(spec, run) as writer:
            for at in run:
                writer.add(images[at])
            parts.append(writer.finish())
    first = join_segments(spec, parts)
    assert join_segments(spec, parts) == first
    segments.remove_segments([*parts, *parts])
    assert [file.name for file in (spec.folder / "temporary").iterdir()] == []


def test_the_file_of_one_segment_becomes_that_of_the_shard(spec):
    with SegmentWriter(spec, range(7)) as writer:
        for image in images_of(spec):
            writer.add(image)
        whole = writer.finish()
    inode = whole.file.stat().st_ino
    join_segments(spec, [whole])
    assert (spec.folder / "tree" / spec.file).stat().st_ino == inode
    segments.remove_segments([whole])
    assert list((spec.folder / "temporary").iterdir()) == []


def test_a_segment_must_be_filled_and_leaves_nothing_where_it_is_not(spec):
    def write_one_of_two():
        with SegmentWriter(spec, range(2, 4)) as writer:
            writer.add(None)
            writer.finish()

    with pytest.raises(PyradError, match="shard 0: 1 images were given for 2 slots"):
        write_one_of_two()
    assert list((spec.folder / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((512, 512, 1), 48), ((8, 8, 1), 256), ((4096, 4096, 1), 1), ((512, 512, 3), 16)],
)
def test_where_a_shard_is_cut_follows_from_its_shape(spec, shape, expected):
    rows, columns, planes = shape
    runs = cut(replace(spec, rows=rows, columns=columns, planes=planes, slots=1000))
    assert {len(run) for run in runs[:-1]} == {expected}
    assert [slot for run in runs for slot in run] == list(range(1000))
