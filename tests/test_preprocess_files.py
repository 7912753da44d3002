"""Chunks in files -> the batch that the same chunks in memory give, or a status where they cannot be read."""

import ctypes
import errno
import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pixels import Case, batch, tables_of

from pyrad import ops

SIZE = (9, 11)
FORM = {"mean": [0.4], "std": [0.3], "channels": 3}


def noise(shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


CASES = [
    Case(pixels=noise((40, 33), "uint16"), center=100.0, width=150.0),
    Case(pixels=noise((3, 17, 20), "uint8"), box=(1.5, 2.0, 19.0, 16.0), flip_x=True),
    Case(pixels=noise((130, 5), "int16", 1), center=90.0, width=80.0, padding=(0, 9)),
    Case(pixels=noise((1, 1), "int8", 2)),
]


def run(slab, records, cases, **options):
    """The batch's bits and statuses, into memory that was used before."""
    out = np.full((len(records), 3, *SIZE), 7.0, np.float32)
    statuses = ops.preprocess(slab, records, out, luts=tables_of(cases)[1], **{**FORM, **options})
    return out.tobytes(), statuses.tolist()


@pytest.fixture
def opened(tmp_path):
    """Write bytes to a file and open it, for as long as the test lasts."""
    fds = []

    def write(data):
        path = tmp_path / str(len(fds))
        path.write_bytes(data)
        fds.append(os.open(path, os.O_RDONLY))
        return fds[-1]

    yield write
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("mode", [None, *ops.MODES])
@pytest.mark.parametrize("threads", [1, 2, 8])
def test_files_give_the_bits_that_memory_gives(opened, mode, threads):
    slab, records = batch(CASES, SIZE, mode=mode, crc=True)
    expected = run(slab, records, CASES)
    assert expected[1] == [ops.Status.OK] * 4
    fd = opened(slab.tobytes())
    nothing = np.zeros(0, np.uint8)
    times = np.full(4, -1, np.int64)
    files = np.full(4, fd, np.int32)
    assert run(nothing, records, CASES, files=files, read_ns=times, threads=threads) == expected
    assert (times > 0).all()
    files[[1, 3]] = ops.NO_FILE  # some lie in memory
    assert run(slab, records, CASES, files=files, read_ns=times, threads=threads) == expected
    assert times[1] == times[3] == 0


def test_a_chunk_may_end_where_its_file_ends(opened):
    for case in CASES[::2]:
        slab, records = batch([case], SIZE, mode="pack", crc=True)
        begin, size = int(records["chunk_offset"][0, 0]), int(records["chunk_size"][0, 0])
        fd = opened(slab[: begin + size].tobytes())
        assert run(slab, records, [case], files=np.array([fd], np.int32)) == run(slab, records, [case])


def test_a_read_that_fails_is_its_own_status_and_its_neighbours_are_sound(opened, tmp_path):
    cases = [CASES[0]] * 5
    slab, records = batch(cases, SIZE, mode="pack", crc=True)
    sound = opened(slab.tobytes())
    cut = opened(slab[: int(records["chunk_offset"][4, 0] + records["chunk_size"][4, 0]) - 1].tobytes())
    folder = os.open(tmp_path, os.O_RDONLY)
    memory = os.open("/proc/self/mem", os.O_RDONLY)  # of whose first page there is none: EIO
    files = np.array([sound, folder, memory, sound, cut], np.int32)
    out = np.full((5, 3, *SIZE), 7.0, np.float32)
    statuses = ops.preprocess(slab, records, out, files=files, threads=2, **FORM)
    assert statuses.tolist() == [0, -errno.EISDIR, -errno.EIO, 0, ops.Status.TRUNCATED]
    assert not out[[1, 2, 4]].any()
    whole, _ = run(slab, records, cases)
    assert out[[0, 3]].tobytes() == np.frombuffer(whole, np.float32).reshape(out.shape)[[0, 3]].tobytes()
    for fd in (folder, memory):
        os.close(fd)


def test_a_file_of_another_chunk_is_told_by_its_checksum(opened):
    slab, records = batch([CASES[0]], SIZE, mode="pack", crc=True)
    begin = int(records["chunk_offset"][0, 0])
    slab[begin + 100] ^= 1
    _, statuses = run(slab, records, CASES[:1], files=np.array([opened(slab.tobytes())], np.int32))
    assert statuses == [ops.Status.CHECKSUM]


@pytest.mark.parametrize("claimed", [1 << 62, (1 << 64) - 1, 1 << 24])
def test_no_memory_is_had_for_more_than_a_chunk_can_be(opened, claimed):
    slab, records = batch([CASES[0]], SIZE, mode="pack", crc=True)
    records["chunk_size"][0, 0] = claimed
    _, statuses = run(slab, records, CASES[:1], files=np.array([opened(slab.tobytes())], np.int32))
    assert statuses == [ops.Status.BOUNDS]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 500), st.integers(0, 500))
def test_any_bytes_in_a_file_are_what_they_are_in_memory(tmp_path_factory, data, offset, size):
    path = tmp_path_factory.mktemp("any") / "bytes"
    path.write_bytes(data)
    _, records = batch([CASES[3]], SIZE, mode="pack", crc=True)
    records["chunk_offset"][0, 0], records["chunk_size"][0, 0] = offset, size
    with path.open("rb") as file:
        _, (status,) = run(
            np.zeros(0, np.uint8), records, CASES[3:], files=np.array([file.fileno()], np.int32)
        )
    _, (in_memory,) = run(np.frombuffer(data, np.uint8), records, CASES[3:])
    outside = offset + size > len(data)
    assert status == in_memory or (outside and in_memory == ops.Status.BOUNDS)
    assert not outside or status in (ops.Status.TRUNCATED, ops.Status.BOUNDS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"files": np.zeros(2, np.int32)},
        {"files": np.zeros((1, 1), np.int32)},
        {"files": np.zeros(1, np.int64)},
        {"read_ns": np.zeros(2, np.int64)},
        {"read_ns": np.zeros(1, np.int32)},
        {"read_ns": np.zeros(1, np.int64)[None]},
    ],
)
def test_arguments_that_cannot_be(wrong):
    slab, records = batch([CASES[0]], SIZE)
    with pytest.raises((ValueError, TypeError)):
        run(slab, records, CASES[:1], **wrong)


def test_reading_ahead_is_advice(opened, tmp_path):
    """Nothing fails, whatever is asked: no file, a folder, a pipe, ranges outside, nothing."""
    fd = opened(bytes(10_000))
    folder, (reading, writing) = os.open(tmp_path, os.O_RDONLY), os.pipe()
    offsets = [0, 9_000, 50_000, 0, 0, 0, (1 << 64) - 1, 5]
    ops.read_ahead([fd, fd, fd, folder, reading, -1, fd, fd], offsets, [100, 5_000, 10, 1, 1, 1, 1, 0])
    ops.read_ahead([], [], [])
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0
    with pytest.raises(ValueError, match="equally long"):
        ops.read_ahead([fd], [0, 1], [1])
    for each in (folder, reading, writing):
        os.close(each)


CACHESTAT = 451  # the system call, Linux 6.5: how many pages of a range are in memory, without asking for any


def pages_in_memory(fd, offset, size):
    found = (ctypes.c_uint64 * 5)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(CACHESTAT, fd, (ctypes.c_uint64 * 2)(offset, size), found, 0):
        pytest.skip(f"this system does not tell what it has in memory: {os.strerror(ctypes.get_errno())}")
    return found[0]


def test_what_is_read_ahead_comes_while_nobody_reads(tmp_path):
    path = tmp_path / "cold"
    path.write_bytes(os.urandom(1 << 22))
    with path.open("rb") as file:
        fd = file.fileno()
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if pages_in_memory(fd, 0, 1 << 22):
            pytest.skip("this file system keeps what it is told to drop")
        places = np.arange(0, 1 << 22, 1 << 18)
        deadline = time.monotonic() + 20
        while any(pages_in_memory(fd, int(place), 1 << 16) < 16 for place in places):
            assert time.monotonic() < deadline, "it was asked for and never came"
            ops.read_ahead([fd] * len(places), places, [1 << 16] * len(places))  # a busy disk may refuse
            time.sleep(0.01)
        assert pages_in_memory(fd, 0, 1 << 22) < 1024, "and nothing else"
