"""Byte ranges of files -> a slab."""

import errno
import os

import numpy as np
import pytest

from pyrad import ops


@pytest.fixture
def file(tmp_path):
    """An open file of 1,000 known bytes: (descriptor, its content)."""
    content = np.random.default_rng(0).integers(0, 256, 1000, np.uint8)
    path = tmp_path / "bytes"
    path.write_bytes(content.tobytes())
    fd = os.open(path, os.O_RDONLY)
    yield fd, content
    os.close(fd)


def test_ranges_land_at_their_places(file):
    fd, content = file
    offsets, sizes = [10, 0, 999, 500], [20, 64, 1, 500]
    starts, total = ops.slab_layout(sizes)
    slab = np.full(total, 0xAA, np.uint8)
    status = ops.read_ranges([fd] * 4, offsets, sizes, slab, starts)
    assert status.dtype == np.int32
    assert status.tolist() == [0, 0, 0, 0]
    untouched = np.ones(total, bool)
    for offset, size, start in zip(offsets, sizes, starts.astype(int), strict=True):
        np.testing.assert_array_equal(slab[start : start + size], content[offset : offset + size])
        untouched[start : start + size] = False
    assert (slab[untouched] == 0xAA).all()


def test_the_slab_is_laid_out_in_64_byte_steps_with_room_to_spare():
    starts, total = ops.slab_layout([0, 1, 64, 65])
    assert starts.tolist() == [0, 0, 64, 128]
    assert total == 256 + 64
    starts, total = ops.slab_layout([])
    assert starts.size == 0
    assert total == 64


def test_many_threads_read_what_one_reads(tmp_path):
    rng = np.random.default_rng(1)
    contents = [rng.integers(0, 256, 20_000, np.uint8) for _ in range(5)]
    fds = []
    for i, content in enumerate(contents):
        (tmp_path / str(i)).write_bytes(content.tobytes())
        fds.append(os.open(tmp_path / str(i), os.O_RDONLY))
    which = rng.integers(0, 5, 700)
    sizes = rng.integers(0, 3000, 700)
    offsets = rng.integers(0, 17_000, 700)
    starts, total = ops.slab_layout(sizes)
    slabs = []
    for threads in (1, 2, 16, 5000):
        slab = np.zeros(total, np.uint8)
        assert not ops.read_ranges(np.array(fds)[which], offsets, sizes, slab, starts, threads=threads).any()
        slabs.append(slab)
    for i, start in enumerate(starts.astype(int)):
        expected = contents[which[i]][offsets[i] : offsets[i] + sizes[i]]
        np.testing.assert_array_equal(slabs[0][start : start + sizes[i]], expected)
    for slab in slabs[1:]:
        np.testing.assert_array_equal(slab, slabs[0])
    for fd in fds:
        os.close(fd)


def test_the_end_of_a_file_is_reported_and_its_neighbours_are_read(file):
    fd, content = file
    slab = np.zeros(400, np.uint8)
    status = ops.read_ranges([fd] * 4, [950, 1000, 5000, 0], [100] * 4, slab, [0, 100, 200, 300])
    assert status.tolist() == [ops.Status.TRUNCATED, ops.Status.TRUNCATED, ops.Status.TRUNCATED, 0]
    np.testing.assert_array_equal(slab[300:], content[:100])


def test_a_file_that_shrinks_is_a_short_read_not_a_signal(tmp_path):
    path = tmp_path / "shrinks"
    path.write_bytes(bytes(8192))
    fd = os.open(path, os.O_RDONLY)
    os.truncate(path, 100)
    slab = np.zeros(8192, np.uint8)
    assert ops.read_ranges([fd], [0], [8192], slab, [0]).tolist() == [ops.Status.TRUNCATED]
    os.close(fd)


def test_a_bad_descriptor_is_its_errno(file, tmp_path):
    fd, _ = file
    folder = os.open(tmp_path, os.O_RDONLY)
    reading, writing = os.pipe()
    slab = np.zeros(40, np.uint8)
    status = ops.read_ranges([-1, folder, reading, fd], [0] * 4, [10] * 4, slab, [0, 10, 20, 30], threads=2)
    assert status.tolist() == [-errno.EBADF, -errno.EISDIR, -errno.ESPIPE, 0]
    for each in (folder, reading, writing):
        os.close(each)


def test_nothing_to_read_is_no_error(file):
    fd, _ = file
    slab = np.zeros(0, np.uint8)
    assert ops.read_ranges([], [], [], slab, []).size == 0
    # A range of no bytes is whole, wherever it lies.
    assert ops.read_ranges([fd, fd], [0, 5000], [0, 0], slab, [0, 0], threads=4).tolist() == [0, 0]


def test_an_offset_beyond_any_file_is_einval(file):
    fd, _ = file
    slab = np.zeros(10, np.uint8)
    status = ops.read_ranges([fd, fd], np.array([2**63, 2**64 - 1], np.uint64), [10, 10], slab, [0, 0])
    assert status.tolist() == [-errno.EINVAL, -errno.EINVAL]


@pytest.mark.parametrize(
    ("sizes", "starts"),
    [([10, 11], [0, 90]), ([10, 10], [0, 101]), ([10, 2**63], [0, 0]), ([10, 10], [0, 2**64 - 5])],
)
def test_ranges_outside_the_slab_are_refused(file, sizes, starts):
    fd, _ = file
    slab = np.zeros(100, np.uint8)
    with pytest.raises(ValueError, match="range 1 does not lie inside the slab"):
        ops.read_ranges([fd] * 2, [0] * 2, np.array(sizes, np.uint64), slab, np.array(starts, np.uint64))


def test_nonsense_arguments_are_refused(file):
    fd, _ = file
    slab = np.zeros(100, np.uint8)
    with pytest.raises(ValueError, match="equally long"):
        ops.read_ranges([fd], [0, 0], [1], slab, [0])
    with pytest.raises(ValueError, match="threads is 0"):
        ops.read_ranges([fd], [0], [1], slab, [0], threads=0)
    with pytest.raises(TypeError):
        ops.read_ranges([fd], [0], [1], slab.astype(np.uint16), [0])
    with pytest.raises(TypeError):
        ops.read_ranges([fd], [0], [1], slab[::2], [0])
    slab.flags.writeable = False
    with pytest.raises(ValueError, match="not writeable"):
        ops.read_ranges([fd], [0], [1], slab, [0])
