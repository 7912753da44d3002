"""The compiled core under many threads at once: the same bits as alone, and no need of Python's lock."""

import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pixels import Case, rendered

from pyrad import ops

THREADS = 8
TURNS = 6  # of each thread, over every image
SHAPES = [(64, 48), (130, 33), (200, 257), (31, 129)]


def images():
    rng = np.random.default_rng(11)
    slopes = [rng.integers(-9, 10, shape).cumsum(axis=0) + 2000 for shape in SHAPES]
    return [slope.astype(dtype) for slope in slopes for dtype in ("uint16", "int16", "uint8")]


def walk(image, path):
    """What every function of the core makes of an image, in the order in which one meets them."""
    chunk = ops.tilepack_encode(image)
    path.write_bytes(chunk)
    slab = np.zeros(len(chunk), np.uint8)
    with path.open("rb") as file:
        status = ops.read_ranges([file.fileno()], [0], [len(chunk)], slab, [0], threads=2)
    seen = Case(pixels=image, center=2000.0, width=500.0, flip_x=True)
    rows, columns = image.shape
    return {
        "read": (status.tolist(), slab.tobytes()),
        "encoded": chunk,
        "decoded": ops.tilepack_decode(chunk, rows=rows, columns=columns, dtype=image.dtype).tobytes(),
        "crc32c": ops.crc32c(chunk),
        "percentiles": ops.percentiles(image, (0.01, 0.5, 0.99)),
        "preprocessed": rendered([seen] * 3, (40, 40), mode="pack", threads=2).tobytes(),
    }


def test_many_threads_get_the_bits_that_one_gets(tmp_path):
    pictures = images()
    alone = [walk(image, tmp_path / "alone") for image in pictures]
    for image, bits in zip(pictures, alone, strict=True):
        assert bits["decoded"] == image.tobytes()
        assert bits["read"] == ([0], bits["encoded"])
    start = threading.Barrier(THREADS)

    def work(thread):
        start.wait()
        numbers = np.random.default_rng(thread).permutation(np.tile(np.arange(len(pictures)), TURNS))
        return [(number, walk(pictures[number], tmp_path / f"of-{thread}")) for number in numbers]

    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(work, range(THREADS)):
            for number, bits in found:
                assert bits == alone[number]


@pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has no free threading"
)
def test_a_free_threaded_python_keeps_its_lock_off():
    assert not sys._is_gil_enabled()
