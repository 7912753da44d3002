"""Images of every kind -> tilepack chunks, and what becomes of damaged ones."""

import numpy as np

from pyrad import ops
from pyrad.errors import CorruptChunkError

DTYPES = ("uint8", "int8", "uint16", "int16")


def image_of(kind: str, shape: tuple[int, int], dtype: str, seed: int = 0) -> np.ndarray:
    rows, columns = np.indices(shape)
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    if kind == "random":
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    values = {
        "zero": 0 * rows,
        "lowest": 0 * rows + info.min,
        "highest": 0 * rows + info.max,
        "alternating": np.where((rows + columns) % 2, info.min, info.max),
        "stripes": np.where(columns % 2, info.min, info.max),
        "smooth": (40 * np.sin(rows / 9) + 30 * np.cos(columns / 7) + 60),
        "slope": 3 * rows + 5 * columns,
        "textured": 90 * np.sin(rows * rows / 11) + columns / 3,  # columns alike: the gradient pays
        "sparse": np.where(rng.random(shape) < 0.01, info.max, 0),
        "noisy": rng.normal(50, 2.0 ** rng.integers(0, info.bits), shape),
    }[kind]
    return np.asarray(values).astype(np.int64).astype(dtype)


KINDS = (
    "random",
    "zero",
    "lowest",
    "highest",
    "alternating",
    "stripes",
    "smooth",
    "slope",
    "textured",
    "sparse",
    "noisy",
)


def decoded(chunk: bytes, image: np.ndarray) -> np.ndarray:
    rows, columns = image.shape
    return ops.tilepack_decode(chunk, rows=rows, columns=columns, dtype=image.dtype)


def refused_or_decoded(chunk: bytes, shape: tuple[int, int], dtype: str) -> bool:
    """True if the chunk was refused; crashing or any other error fails the test."""
    # An allocation of its own: a sanitizer sees any access outside.
    try:
        image = ops.tilepack_decode(
            np.array(bytearray(chunk), np.uint8), rows=shape[0], columns=shape[1], dtype=dtype
        )
    except CorruptChunkError:
        return True
    assert image.shape == shape
    return False
