"""The Python targets: bytes of a file, a label table, a store's root or shard -> an answer, never a surprise.

Each target takes any bytes and returns, or raises what is a finding.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import damage
import numpy as np

from pyrad.errors import PyradError, UsageError
from pyrad.ingest import files
from pyrad.ingest.anatomy import packaged
from pyrad.ingest.layouts import Listing
from pyrad.ingest.layouts.ddti import ddti
from pyrad.ingest.policy import INCLUDES, ScanOptions
from pyrad.ingest.reasons import REASONS, Rejected
from pyrad.ingest.table import read_table
from pyrad.store.layout import ROOT_DOCUMENT
from pyrad.store.manifest import parse_root
from pyrad.store.reader import open_store

_OPTIONS = (
    ScanOptions(include=INCLUDES, burned_in="allow", digest_key=b"k"),
    ScanOptions(include=INCLUDES, burned_in="allow", color="planes", digest_key=b"k"),
)


def image_file(data: bytes) -> None:
    """A file of an archive: every frame is decoded as announced, or has a reason of the table."""
    options = _OPTIONS[len(data) % 2]
    try:
        sources = files.scan(0, "a.dcm", data, options)
    except Rejected as rejected:
        _check_reason(rejected)
        return
    for source, frame in zip(sources, files.decode_frames(sources, data), strict=True):
        if isinstance(frame, Rejected):
            _check_reason(frame)
            continue
        shape = ((3,) if source.planes == 3 else ()) + (source.rows, source.columns)
        if frame.shape != shape or frame.dtype != np.dtype(source.dtype):
            raise AssertionError(f"{frame.shape} {frame.dtype} was decoded for {shape} {source.dtype}")


def label_table(data: bytes) -> None:
    """A label table: rows, or a sentence."""
    try:
        read_table(data, "labels.csv", roles={}, keep=(), anatomy=packaged(), need_label=bool(len(data) % 2))
    except UsageError:
        return


def outline_file(data: bytes) -> None:
    """The XML of a DDTI case: rows with outlines, or a sentence."""
    listing = Listing(path=Path("ddti"), paths=("1.xml", "1_1.jpg"), read=lambda _: data)
    try:
        ddti(listing)
    except UsageError:
        return


def store_root(data: bytes) -> None:
    """A store's root document: a manifest without contradictions, or a sentence."""
    try:
        parse_root(data, "fuzz.zarr")
    except PyradError:
        return


class StoreFile:
    """A small store of which one file is replaced: whatever is read is right, or a sentence."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.path = damage.sound_store(Path(self._folder.name) / "fuzz.zarr", "tilepack")
        with open_store(self.path) as store:
            self._images = [store.image(i) for i in range(len(store))]
        self.files = sorted(
            path
            for path in self.path.rglob("*")
            if path.is_file() and path.name != ROOT_DOCUMENT and path.suffix != ".parquet"
        )
        self._originals = [path.read_bytes() for path in self.files]

    def __call__(self, data: bytes) -> None:
        """Byte 0 chooses the file; then edits of three bytes: where (2), what; or, if odd, the whole file."""
        if len(data) < 2:
            return
        number = data[0] % len(self.files)
        path, original = self.files[number], self._originals[number]
        if data[1] & 1:
            bad = data[2:]
        else:
            edited = bytearray(original)
            for at in range(2, len(data) - 2, 3):
                edited[int.from_bytes(data[at : at + 2], "little") % len(edited)] = data[at + 2]
            bad = bytes(edited)
        path.write_bytes(bad)
        try:
            self._read()
        finally:
            path.write_bytes(original)

    def _read(self) -> None:
        try:
            with open_store(self.path) as store:
                for index, image in enumerate(self._images):
                    if not np.array_equal(store.image(index), image):
                        raise AssertionError(f"sample {index} was read with wrong pixels")
        except PyradError:
            return


def _check_reason(rejected: Rejected) -> None:
    if rejected.reason not in REASONS or rejected.reason == "unexpected":
        raise AssertionError(f"{rejected.reason}: {rejected.detail}")


TARGETS: dict[str, Callable[[], Callable[[bytes], None]]] = {
    "image_file": lambda: image_file,
    "label_table": lambda: label_table,
    "outline_file": lambda: outline_file,
    "store_root": lambda: store_root,
    "store_file": StoreFile,
}
