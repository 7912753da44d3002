"""Sound stores -> stores damaged on purpose, their manifests mended where only the sense shall be wrong."""

import json
import struct

import pyarrow as pa
import pyarrow.parquet as pq
from parts import MASK, add_part, mixed

from pyrad import ops
from pyrad.store import durable, layout
from pyrad.store.tables import parquet_bytes
from pyrad.store.verify import verify

ARRAY = "parts/000001/images/20x13_i16"
SHARD = f"{ARRAY}/c/0/0/0"


def sound_store(path, profile):
    """A small store, verified; its samples 0 and 1 are in ARRAY and SHARD, sample 1 has a mask."""
    add_part(path, mixed(), masks={1: MASK}, codec=profile)
    verify(path)
    return path


def edit_root(path, change):
    """Change the root document as JSON and write it back."""
    root = json.loads((path / "zarr.json").read_text())
    change(root, root["attributes"]["pyrad"])
    (path / "zarr.json").write_bytes(layout.json_bytes(root))


def recommit(path):
    """Make the manifest match the files again: sizes and hashes, and metadata that follow from it."""
    root = json.loads((path / "zarr.json").read_text())
    raw = root["attributes"]["pyrad"]
    for part in raw["parts"]:
        for file in part["files"]:
            data = (path / file["path"]).read_bytes()
            file["bytes"] = len(data)
            with (path / file["path"]).open("rb") as stream:
                file["sha256"] = durable.file_hash(stream.fileno(), raw["file_salt"])
    (path / "zarr.json").write_bytes(layout.json_bytes(root))


def replace_chunk(path, data):
    """Put ``data`` in place of chunk 0 of ARRAY (if it fits there), index, hashes and all."""
    shard = bytearray((path / SHARD).read_bytes())
    index = bytearray((path / "parts/000001/index.bin").read_bytes())
    raw = json.loads((path / "zarr.json").read_text())["attributes"]["pyrad"]
    (array,) = (entry for entry in raw["parts"][0]["arrays"] if entry["path"] == ARRAY)
    at = array["index_offset"]
    offset, _ = struct.unpack_from("<QQ", index, at)
    footer = len(shard) - (array["shard_n"] * 16 + 4)
    room = struct.unpack_from("<Q", index, at + 16)[0] - offset
    assert len(data) <= room
    shard[offset : offset + room] = data.ljust(room, b"\0")
    struct.pack_into("<QQ", index, at, offset, len(data))
    struct.pack_into("<QQ", shard, footer, offset, len(data))
    struct.pack_into("<I", shard, len(shard) - 4, ops.crc32c(bytes(shard[footer:-4])))
    (path / SHARD).write_bytes(shard)
    (path / "parts/000001/index.bin").write_bytes(index)
    recommit(path)


def rewrite_samples(path, change):
    """Change the samples table as a list of rows; the manifest follows, so that only its meaning is wrong."""
    file = path / "parts/000001/samples.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    change(rows)
    file.write_bytes(parquet_bytes(pa.Table.from_pylist(rows, schema=table.schema)))
    recommit(path)


def with_crc(payload):
    return payload + ops.crc32c(payload).to_bytes(4, "little")
