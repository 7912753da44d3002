"""A store through other people's readers: zarr-python, numcodecs, tensorstore agree with ours bit for bit."""

import json
import subprocess
import sys

import numcodecs
import numpy as np
import pyarrow.parquet as pq
import pytest
import reference
import reference_tilepack
import tensorstore
import zarr
from parts import MASK, add_part, mixed, picture

from pyrad.errors import CorruptChunkError, UsageError
from pyrad.store import layout
from pyrad.store.codec import TilepackCodec, TilepackNumcodec
from pyrad.store.reader import open_store


@pytest.fixture(params=layout.PROFILES)
def store_path(request, tmp_path, monkeypatch):
    """Two parts, every dtype, planes, masks, several shards."""
    monkeypatch.setattr(layout, "SHARD_IMAGES_LIMIT", 2)
    path = add_part(tmp_path / "a.zarr", [*mixed(), *mixed(5)], masks={1: MASK}, codec=request.param)
    return add_part(path, [picture(n, 20, 13) for n in range(3)], first=20)


def test_zarr_reads_every_bucket_bit_exactly(store_path):
    group = zarr.open_group(store_path, mode="r")
    assert group.metadata.consolidated_metadata is not None
    arrays = {name: node for name, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}
    with open_store(store_path) as store:
        entries = {entry.path: entry for entry in store.index.arrays}
        assert set(arrays) == set(entries)
        assert len(entries) == 7
        for path, array in arrays.items():
            assert array.shape == entries[path].shape
            assert array.dtype == np.dtype(entries[path].dtype)
            assert array.chunks == entries[path].chunk
            assert array.shards == (entries[path].shard_n, *entries[path].shape[1:])
        columns = zip(store.samples["bucket"].to_pylist(), store.samples["row"].to_pylist(), strict=True)
        seen = dict.fromkeys(arrays, 0)
        for number, (bucket, row) in enumerate(columns):
            np.testing.assert_array_equal(arrays[bucket][row], store.image(number))
            seen[bucket] += 1
        masks = arrays["parts/000001/masks/20x13_i16"][:]
    assert all(count == arrays[path].shape[0] for path, count in seen.items() if "/images/" in path)
    np.testing.assert_array_equal(masks[1], MASK)
    assert not masks[[0, 2, 3]].any()  # absent chunks read as the fill value


def test_zarr_lists_and_reads_under_warnings_as_errors_without_importing_pyrad(store_path):
    script = (
        "import sys, zarr\n"
        "group = zarr.open_group(sys.argv[1], mode='r')\n"
        "every = group.members(max_depth=None)\n"
        "names = sorted(name for name, node in every if isinstance(node, zarr.Array))\n"
        "print(len(names), sum(int(group[name][:].astype('int64').sum()) for name in names))\n"
        "assert 'torch' not in sys.modules\n"
    )
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, str(store_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    with open_store(store_path) as store:
        total = sum(int(store.image(n).astype("int64").sum()) for n in range(len(store)))
    assert shown.stdout.split() == ["7", str(total + int(MASK.sum()))]
    assert shown.stderr == ""


def test_zarr_finds_each_array_by_its_path_without_consolidated_metadata(store_path):
    group = zarr.open_group(store_path, mode="r", use_consolidated=False)
    with open_store(store_path) as store:
        for entry in store.index.arrays:
            assert group[entry.path].shape == entry.shape
        path = store.samples["bucket"][1].as_py()
        np.testing.assert_array_equal(group[path][1], store.image(1))


def test_tensorstore_reads_the_zstd_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "SHARD_IMAGES_LIMIT", 2)
    path = add_part(tmp_path / "a.zarr", [*mixed(), *mixed(5)], masks={1: MASK}, codec="zstd")
    with open_store(path) as store:
        for entry in store.index.arrays:
            kvstore = {"driver": "file", "path": f"{path}/{entry.path}/"}
            array = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}, read=True, open=True).result()
            assert array.shape == entry.shape
            assert array.dtype.numpy_dtype == np.dtype(entry.dtype)
            ours = zarr.open_array(f"{path}/{entry.path}", mode="r")[:]
            np.testing.assert_array_equal(array.read().result(), ours)
        columns = zip(store.samples["bucket"].to_pylist(), store.samples["row"].to_pylist(), strict=True)
        for number, (bucket, row) in enumerate(columns):
            kvstore = {"driver": "file", "path": f"{path}/{bucket}/"}
            array = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}, read=True, open=True).result()
            np.testing.assert_array_equal(array[row].read().result(), store.image(number))


def test_zarr_writes_with_the_codec_too(tmp_path):
    values = np.stack([picture(n, 30, 21, "uint16") for n in range(3)])
    array = zarr.create_array(
        tmp_path / "b.zarr",
        shape=values.shape,
        chunks=(1, 30, 21),
        dtype="uint16",
        serializer=TilepackCodec(),
        compressors=None,
    )
    array[:] = values
    again = zarr.open_array(tmp_path / "b.zarr", mode="r")
    assert isinstance(again.metadata.codecs[0], TilepackCodec)
    np.testing.assert_array_equal(again[:], values)
    assert TilepackCodec.from_dict(TilepackCodec().to_dict()) == TilepackCodec()


def test_the_codec_refuses_settings_and_chunks_that_it_does_not_know():
    known = TilepackCodec().to_dict()
    for settings in ({"mode": "lzw"}, {"version": 2}, {"level": 3}):
        with pytest.raises(UsageError, match="tilepack"):
            TilepackCodec.from_dict({**known, "configuration": {**known["configuration"], **settings}})
    with pytest.raises(UsageError, match="is not the codec 'tilepack'"):
        TilepackCodec.from_dict({"name": "zstd", "configuration": {}})
    with pytest.raises(UsageError, match="one plane a chunk"):
        TilepackNumcodec().encode(np.zeros((2, 8, 8), np.uint8))


def test_numcodecs_finds_the_codec_by_its_name():
    codec = numcodecs.get_codec({"id": "tilepack", "mode": "pack", "version": 1})
    assert codec.get_config() == {"id": "tilepack", "mode": "pack", "version": 1}
    for dtype in layout.DTYPE_SUFFIX:
        image = picture(3, 17, 9, dtype)
        payload = codec.encode(image[np.newaxis])
        decoded = codec.decode(payload)
        assert decoded.dtype == image.dtype
        np.testing.assert_array_equal(decoded, image)
        out = np.empty_like(image)
        codec.decode(payload, out)
        np.testing.assert_array_equal(out, image)
    with pytest.raises(ValueError, match="out has 4 bytes"):
        codec.decode(payload, np.empty(4, np.uint8))
    for broken in (b"", payload[:15], b"\xff" * 64, payload[:-1]):
        with pytest.raises(CorruptChunkError):
            codec.decode(broken)
    rows = 2**31 - 1
    forged = payload[:4] + rows.to_bytes(4, "little") * 2 + payload[12:]
    with pytest.raises(CorruptChunkError):  # and no allocation of 2^62 pixels
        codec.decode(forged)


# --- another reader, from docs/format.md alone: it shares no code with pyrad --------------------


def plain_read(path, number):
    """Sample ``number`` of a store, by the five steps at the end of docs/format.md's store sections."""
    manifest = json.loads((path / "zarr.json").read_text())["attributes"]["pyrad"]
    for part in manifest["parts"]:
        if number < part["samples"]:
            break
        number -= part["samples"]
    folder = path / "parts" / part["id"]
    row_of = pq.read_table(folder / "samples.parquet", columns=["bucket", "row", "mask"]).to_pylist()[number]
    planes = []
    for bucket in (row_of["bucket"], row_of["bucket"].replace("/images/", "/masks/")):
        if "/masks/" in bucket and not row_of["mask"]:
            return np.squeeze(planes[0]), None
        (array,) = (entry for entry in part["arrays"] if entry["path"] == bucket)
        index = np.fromfile(folder / "index.bin", "<u8", offset=array["index_offset"]).reshape(-1, 2)
        depth = 3 if len(array["shape"]) == 4 else 1
        shard, row = row_of["row"] // array["shard_n"], row_of["row"]
        data = (path / bucket / f"c/{shard}/0/0" / ("0" if depth == 3 else "")).read_bytes()
        entries = index[row * depth : (row + 1) * depth].tolist()
        chunks = [data[offset : offset + size] for offset, size in entries]
        planes.append(np.stack([plain_decode(chunk, manifest["codec"], array) for chunk in chunks]))
    return np.squeeze(planes[0]), planes[1][0]


def plain_decode(chunk, profile, array):
    assert reference.crc32c(chunk[:-4]) == int.from_bytes(chunk[-4:], "little")
    if profile != "zstd":
        return reference_tilepack.tilepack_decode(chunk[:-4])
    raw = numcodecs.zstd.decompress(chunk[:-4])
    return np.frombuffer(raw, np.dtype(array["dtype"]).newbyteorder("<")).reshape(array["shape"][-2:])


def test_a_reader_written_from_the_specification_agrees(store_path):
    with open_store(store_path) as store:
        for number in range(len(store)):
            image, mask = plain_read(store_path, number)
            assert image.dtype == store.image(number).dtype
            np.testing.assert_array_equal(image, store.image(number))
            assert (mask is None) == (store.mask(number) is None)
            if mask is not None:
                np.testing.assert_array_equal(mask, store.mask(number))
