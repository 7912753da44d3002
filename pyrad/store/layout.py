"""Shapes -> names, chunk grids and Zarr v3 documents: all of a store that follows from geometry alone.

Every document here is a pure function of an `ArrayEntry`, so writer, reader and verify agree by construction.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

Profile = Literal["tilepack", "tilepack-mixed", "tilepack-dense", "zstd"]
PROFILES: tuple[Profile, ...] = ("tilepack", "tilepack-mixed", "tilepack-dense", "zstd")

DTYPE_SUFFIX = {"uint8": "u8", "int8": "i8", "uint16": "u16", "int16": "i16"}
DTYPE_BYTES = {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2}

ABSENT = (
    2**64 - 1
)  # offset and size of a chunk that is not there (Zarr sharding, index entry of an empty chunk)
ALIGNMENT = 64  # chunks start at multiples of this in their shard: one cache line
CHECKSUM_BYTES = 4  # crc32c behind every chunk and behind every shard index
ENTRY_BYTES = 16  # offset and size of one chunk, in index.bin and in a shard's index

ROWS_LIMIT = COLUMNS_LIMIT = 65_535  # DICOM's Rows and Columns are 16-bit unsigned: PS3.3 C.7.6.3.1.1
PLANE_BYTES_LIMIT = 1 << 30  # one raw plane, so one chunk; far above any radiograph, far below any memory
SHARD_BYTES_TARGET = 256 << 20
SHARD_IMAGES_LIMIT = 4096
PARTS_LIMIT = 999_999

PARTS = "parts"
PARTIAL = ".partial"  # beside the store, behind its name: a writer's lock and work in progress
ROOT_DOCUMENT = "zarr.json"
SAMPLES_FILE = "samples.parquet"
LEDGER_FILE = "ledger.parquet"
LUTS_FILE = "luts.parquet"  # only where an image of the part needs a lookup table
INDEX_FILE = "index.bin"

PART_ID = re.compile(r"[0-9]{6}")
_ARRAY_PATH = re.compile(r"parts/([0-9]{6})/(images|masks)/((?:3x)?[1-9][0-9]*x[1-9][0-9]*_[ui](?:8|16))")


@dataclass(frozen=True, kw_only=True)
class ArrayEntry:
    """One array of a store, as the manifest names it.

    ``shape`` is (N, rows, columns), or (N, 3, rows, columns) where colour keeps its planes; ``chunk`` is
    the inner chunk, always one 2-D plane; ``shard_n`` is images a shard; ``index_offset`` is where the
    array's entries begin in its part's index.bin, in bytes.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    chunk: tuple[int, ...]
    shard_n: int
    index_offset: int

    @property
    def count(self) -> int:
        """Images (or masks) along the first axis, absent ones included."""
        return self.shape[0]

    @property
    def planes(self) -> int:
        """1, or 3 for true colour."""
        return self.shape[1] if len(self.shape) == 4 else 1

    @property
    def rows(self) -> int:
        """Height in pixels."""
        return self.shape[-2]

    @property
    def columns(self) -> int:
        """Width in pixels."""
        return self.shape[-1]

    @property
    def chunks(self) -> int:
        """Inner chunks of the array."""
        return self.count * self.planes

    @property
    def shards(self) -> int:
        """Shard files of the array."""
        return -(-self.count // self.shard_n)

    @property
    def plane_bytes(self) -> int:
        """Bytes of one raw plane."""
        return self.rows * self.columns * DTYPE_BYTES[self.dtype]

    @property
    def footer_bytes(self) -> int:
        """Bytes of the index at the end of each of its shards, checksum included."""
        return self.shard_n * self.planes * ENTRY_BYTES + CHECKSUM_BYTES

    def shard_path(self, shard: int) -> str:
        """Path of shard number ``shard`` (default chunk key encoding), relative to the store."""
        return f"{self.path}/c/{shard}" + "/0" * (len(self.shape) - 1)

    def chunk_name(self, row: int, plane: int = 0) -> str:
        """What an error calls a chunk: ``parts/000001/images/512x512_i16 chunk 17``."""
        return f"{self.path} chunk {row}" + (f" plane {plane}" if self.planes > 1 else "")


def bucket_name(rows: int, columns: int, planes: int, dtype: str) -> str:
    """(512, 512, 1, "int16") -> ``512x512_i16``; three planes -> ``3x512x512_u8``."""
    return ("3x" if planes == 3 else "") + f"{rows}x{columns}_{DTYPE_SUFFIX[dtype]}"


def shard_n(count: int, rows: int, columns: int, planes: int, dtype: str) -> int:
    """Images a shard: about 256 MiB of raw pixels, from 1 to 4,096, and never more than there are."""
    image_bytes = rows * columns * planes * DTYPE_BYTES[dtype]
    return min(max(SHARD_BYTES_TARGET // max(image_bytes, 1), 1), SHARD_IMAGES_LIMIT, count)


def image_array(
    part_id: str,
    *,
    count: int,
    rows: int,
    columns: int,
    planes: int,
    dtype: str,
    index_offset: int = 0,
) -> ArrayEntry:
    """The array that holds ``count`` images of one geometry in part ``part_id``."""
    middle = (3,) if planes == 3 else ()
    return ArrayEntry(
        path=f"{PARTS}/{part_id}/images/{bucket_name(rows, columns, planes, dtype)}",
        shape=(count, *middle, rows, columns),
        dtype=dtype,
        chunk=(1, *(1 for _ in middle), rows, columns),
        shard_n=shard_n(count, rows, columns, planes, dtype),
        index_offset=index_offset,
    )


def masks_of(entry: ArrayEntry) -> ArrayEntry:
    """The array with the masks of an image array: uint8, the same rows in the same shards, under masks/."""
    return replace(
        entry,
        path=mask_path(entry.path),
        shape=(entry.count, entry.rows, entry.columns),
        dtype="uint8",
        chunk=(1, entry.rows, entry.columns),
    )


def mask_path(image_path: str) -> str:
    """``parts/000001/images/512x512_i16`` -> ``parts/000001/masks/512x512_i16``."""
    return image_path.replace("/images/", "/masks/")


def array_faults(entry: ArrayEntry, part_id: str) -> Iterator[str]:
    """Yield what is wrong with an array entry of an untrusted manifest.

    Nothing may be allocated from an entry before this has passed; later faults rely on the absence of
    earlier ones.
    """
    if entry.dtype not in DTYPE_SUFFIX:
        yield f"dtype {entry.dtype[:20]!r} is none of {', '.join(DTYPE_SUFFIX)}"
        return
    if len(entry.shape) not in (3, 4) or (len(entry.shape) == 4 and entry.shape[1] != 3):
        yield f"shape {entry.shape} is neither (N, rows, columns) nor (N, 3, rows, columns)"
        return
    if not (1 <= entry.rows <= ROWS_LIMIT and 1 <= entry.columns <= COLUMNS_LIMIT):
        yield f"{entry.rows} rows x {entry.columns} columns is outside 1..{ROWS_LIMIT}"
    if entry.plane_bytes > PLANE_BYTES_LIMIT:
        yield f"a chunk of {entry.plane_bytes} raw bytes is above the limit of {PLANE_BYTES_LIMIT}"
    if entry.chunk != (*(1 for _ in entry.shape[:-2]), entry.rows, entry.columns):
        yield f"chunk {entry.chunk} is not one plane of shape {entry.shape}"
    if entry.count < 1 or not 1 <= entry.shard_n <= min(entry.count, SHARD_IMAGES_LIMIT):
        yield f"{entry.shard_n} images a shard does not fit {entry.count} images"
    match = _ARRAY_PATH.fullmatch(entry.path)
    if match is None or match[1] != part_id:
        yield f"the path names no bucket of part {part_id}"
    elif match[2] == "images" and match[3] != bucket_name(
        entry.rows, entry.columns, entry.planes, entry.dtype
    ):
        yield f"its name is not that of shape {entry.shape} and dtype {entry.dtype}"


def tilepack_mode(profile: Profile, dtype: str) -> str | None:
    """The mode of tilepack that a profile stores a dtype in; None where it has another codec.

    ``tilepack`` is pack throughout, as in all stores before there was another mode.
    """
    if profile == "tilepack-dense":
        return "dense"
    if profile == "tilepack-mixed":
        return "rice" if DTYPE_BYTES[dtype] == 1 else "pack"
    return "pack" if profile == "tilepack" else None


def inner_codecs(profile: Profile, dtype: str) -> list[dict[str, Any]]:
    """The codec chain of one chunk, as Zarr v3 writes it."""
    mode = tilepack_mode(profile, dtype)
    if mode is not None:
        return [{"name": "tilepack", "configuration": {"mode": mode, "version": 1}}, {"name": "crc32c"}]
    return [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
        {"name": "crc32c"},
    ]


def array_document(entry: ArrayEntry, profile: Profile) -> dict[str, Any]:
    """The Zarr v3 metadata document of an array: a function of its entry and the store's profile alone."""
    sharding = {
        "chunk_shape": list(entry.chunk),
        "codecs": inner_codecs(profile, entry.dtype),
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(entry.shape),
        "data_type": entry.dtype,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [entry.shard_n, *entry.shape[1:]]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": ["sample", *(["plane"] if entry.planes > 1 else []), "row", "column"],
        "attributes": {},
    }


def group_document() -> dict[str, Any]:
    """The document of a group between the root and the arrays."""
    return {"zarr_format": 3, "node_type": "group", "attributes": {}}


def group_paths(entries: tuple[ArrayEntry, ...], part_id: str) -> list[str]:
    """Groups of one part, itself first; a group that would hold nothing is not there."""
    kinds = sorted({entry.path.split("/")[2] for entry in entries})
    return [f"{PARTS}/{part_id}", *(f"{PARTS}/{part_id}/{kind}" for kind in kinds)]


def json_bytes(document: Any) -> bytes:
    """JSON with one spelling for one value: sorted keys, fixed separators, ASCII, a newline at the end."""
    return (
        json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
    )


def chunk_bytes_limit(entry: ArrayEntry) -> int:
    """The most bytes a chunk may claim to have; a claim above it is refused before a byte is read.

    Pixels padded to whole 8 x 8 tiles, a sixteenth more for widths, and headers: noise stays below it in
    both codecs.
    """
    padded = -(-entry.rows // 8) * -(-entry.columns // 8) * 64 * DTYPE_BYTES[entry.dtype]
    return padded + padded // 16 + 4 * (entry.rows + entry.columns) + 1024
