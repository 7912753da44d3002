"""The samples' keys -> 16 bytes each, and those of a batch as text again."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyrad.errors import IntegrityError
from pyrad.store.samples import Samples

_BYTES = 16  # of a key, whose text is 32 hexadecimal characters


class Keys:
    """The keys of a store's samples: 22 MB for 1.35 million, less than half of their text.

    Raises:
        IntegrityError: a key is not of 32 hexadecimal characters.

    """

    def __init__(self, samples: Samples) -> None:
        blocks = [_packed(block["key"].combine_chunks()) for block in samples.blocks(["key"])]
        self._packed = np.concatenate(blocks) if blocks else np.empty((0, _BYTES), np.uint8)

    def of(self, samples: NDArray[np.int64]) -> tuple[str, ...]:
        """The keys of ``samples`` (n,)."""
        text = self._packed[samples].tobytes().hex()
        return tuple([text[at : at + 2 * _BYTES] for at in range(0, len(text), 2 * _BYTES)])


def _packed(keys: pa.StringArray) -> NDArray[np.uint8]:
    """(n, 16) of a column, without making a string of each."""
    if not len(keys):
        return np.empty((0, _BYTES), np.uint8)
    ends = np.frombuffer(keys.buffers()[1], np.int32)[keys.offset :][: len(keys) + 1]
    text = bytes(memoryview(keys.buffers()[2])[ends[0] : ends[-1]])
    try:
        packed = bytes.fromhex(text.decode())
    except ValueError:
        packed = b""
    if packed.hex().encode() != text or (np.diff(ends) != 2 * _BYTES).any():
        raise IntegrityError(
            "a key of the samples table is not as docs/format.md specifies; run `pyrad verify`"
        )
    return np.frombuffer(packed, np.uint8).reshape(-1, _BYTES)
