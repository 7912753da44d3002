"""What the world does to shards and chunks: every flipped bit, missing, swapped or cut file is named."""

import json
import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
from damage import ARRAY, SHARD, recommit, replace_chunk, sound_store, with_crc
from numcodecs.zstd import Zstd
from parts import add_part, mixed, picture, tree_bytes

from pyrad import ops
from pyrad.errors import CorruptChunkError, IntegrityError, NotAStoreError, UsageError
from pyrad.store import chunk, layout
from pyrad.store.reader import open_store
from pyrad.store.verify import verify


@pytest.fixture(params=layout.PROFILES)
def path(request, tmp_path):
    return sound_store(tmp_path / "a.zarr", request.param)


# --- shards -------------------------------------------------------------------------------------


def test_a_flip_in_any_byte_of_a_shard_is_detected_and_named(tmp_path):
    images = [picture(n, 8, 8, "uint8") for n in range(2)]
    path = add_part(tmp_path / "a.zarr", images)
    name = "parts/000001/images/8x8_u8"
    shard = path / name / "c/0/0/0"
    data = shard.read_bytes()
    with open_store(path) as store:
        located = store.locate(np.arange(2))
        ranges = list(zip(located.offset, located.offset + located.size, strict=True))
    footer = len(data) - (2 * 16 + 4)
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1 << (at % 8)
        shard.write_bytes(broken)
        with pytest.raises(IntegrityError) as caught:
            verify(path)
        assert f"{name}/c/0/0/0: its contents do not match the manifest's hash" in str(caught.value)
        with open_store(path) as store:
            for number, (start, end) in enumerate(ranges):
                if start <= at < end:
                    said = f"{name} chunk {number} is damaged"
                    assert said in str(caught.value)
                    with pytest.raises(CorruptChunkError, match=said):
                        store.image(number)
                elif at >= footer:
                    assert "the index at its end" in str(caught.value)
                    with pytest.raises(IntegrityError, match="the index at its end"):
                        store.image(number)
                else:
                    np.testing.assert_array_equal(store.image(number), images[number])
    shard.write_bytes(data)
    verify(path)


def test_a_flip_in_any_other_file_is_detected(path):
    for name, data in tree_bytes(path).items():
        file = path / name
        for at in {0, len(data) // 3, len(data) // 2, len(data) - 1}:
            broken = bytearray(data)
            broken[at] ^= 4
            file.write_bytes(broken)
            with pytest.raises((IntegrityError, NotAStoreError, UsageError)):
                verify(path)
        file.write_bytes(data)
    verify(path)


@pytest.mark.parametrize("left", [0, 1, 0.5])
def test_a_truncated_shard_is_never_zeros(path, left):
    data = (path / SHARD).read_bytes()
    (path / SHARD).write_bytes(data[: int(len(data) * left) - 1] if left else b"")
    with pytest.raises(IntegrityError, match=rf"{SHARD} has \d+ bytes instead of {len(data)}"):
        verify(path)
    with open_store(path) as store:
        with pytest.raises(IntegrityError, match=f"{SHARD} has"):
            store.image(0)
        store.image(5)  # other shards are whole


def test_a_shard_truncated_while_it_is_read_is_an_error_not_a_signal(path):
    with open_store(path) as store:
        store.image(0)
        os.truncate(path / SHARD, 70)
        with pytest.raises(IntegrityError, match=f"{ARRAY} chunk 1 ends too early"):
            store.image(1)
        assert (
            store.read_error(1, 0, -5).args[0].endswith(f"{ARRAY} chunk 1 cannot be read: {os.strerror(5)}")
        )


def test_a_deleted_chunk_is_never_zeros(path):
    """Both indexes say that there is none, and every hash is right."""
    absent = struct.pack("<QQ", layout.ABSENT, layout.ABSENT)
    index, shard = (bytearray((path / name).read_bytes()) for name in ("parts/000001/index.bin", SHARD))
    raw = json.loads((path / "zarr.json").read_text())["attributes"]["pyrad"]
    (array,) = (entry for entry in raw["parts"][0]["arrays"] if entry["path"] == ARRAY)
    footer = len(shard) - (array["shard_n"] * 16 + 4)
    index[array["index_offset"] : array["index_offset"] + 16] = absent
    shard[footer : footer + 16] = absent
    struct.pack_into("<I", shard, len(shard) - 4, ops.crc32c(bytes(shard[footer:-4])))
    (path / "parts/000001/index.bin").write_bytes(index)
    (path / SHARD).write_bytes(shard)
    recommit(path)
    with pytest.raises(IntegrityError, match=f"{ARRAY} chunk 0"):
        verify(path)
    with open_store(path) as store:
        with pytest.raises(IntegrityError, match=f"{ARRAY} chunk 0"):
            store.image(0)
        store.image(1)


def test_a_missing_or_linked_shard_is_refused(path, tmp_path):
    moved = tmp_path / "elsewhere"
    (path / SHARD).rename(moved)
    for link, said in ((False, "No such file"), (True, "symbolic link")):
        if link:
            (path / SHARD).symlink_to(moved)
        with pytest.raises(IntegrityError, match=rf"{SHARD} cannot be opened: .*{said}"):
            verify(path)
        with open_store(path) as store, pytest.raises(IntegrityError, match=said):
            store.image(0)
    (path / SHARD).unlink()
    moved.rename(path / SHARD)
    (path / ARRAY / "c").rename(tmp_path / "c")
    (path / ARRAY / "c").symlink_to(tmp_path / "c")
    with pytest.raises(IntegrityError, match="symbolic link"):
        verify(path)
    with open_store(path) as store, pytest.raises(IntegrityError, match="symbolic link"):
        store.image(0)


def test_a_fifo_in_place_of_a_shard_does_not_hang(path):
    (path / SHARD).unlink()
    os.mkfifo(path / SHARD)
    with pytest.raises(IntegrityError, match="no regular file"):
        verify(path)


def test_swapped_shards_are_detected(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "SHARD_IMAGES_LIMIT", 2)
    images = [picture(n, 20, 13) if n < 2 else picture(n, 20, 13) % 2 for n in range(4)]
    path = add_part(tmp_path / "a.zarr", images)
    one, two = path / ARRAY / "c/0/0/0", path / ARRAY / "c/1/0/0"
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(IntegrityError, match="c/1/0/0"):
        verify(path)
    with open_store(path) as store, pytest.raises(IntegrityError, match="c/0/0/0"):
        store.image(0)


def test_shards_of_equal_sizes_that_are_swapped_are_found_by_their_hash(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "SHARD_IMAGES_LIMIT", 1)
    path = add_part(tmp_path / "a.zarr", [np.full((8, 8), n, np.uint8) for n in (2, 3)])
    one, two = (path / f"parts/000001/images/8x8_u8/c/{n}/0/0" for n in (0, 1))
    first, second = one.read_bytes(), two.read_bytes()
    assert len(first) == len(second)
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(
        IntegrityError, match=r"c/0/0/0: its contents do not match the manifest's hash\n.*c/1/0/0"
    ):
        verify(path)


def test_a_shard_of_an_older_commit_is_detected(tmp_path):
    path = add_part(tmp_path / "a.zarr", [picture(1, 20, 13)])
    other = add_part(tmp_path / "b.zarr", [picture(2, 20, 13)])
    shutil.copy(other / SHARD, path / SHARD)
    with pytest.raises(IntegrityError, match=SHARD):
        verify(path)


# --- chunks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("claimed", [1 << 30, 20 * 13 * 2 + 1, 1])
def test_a_chunk_that_inflates_to_another_size_is_refused(tmp_path, claimed):
    path = add_part(tmp_path / "a.zarr", mixed(), codec="zstd")
    bomb = bytes(Zstd(level=3).encode(np.zeros(claimed, np.uint8)))
    if len(bomb) > 300:  # 1 GiB of zeros: keep the header, which makes the claim
        bomb = bomb[:300]
    replace_chunk(path, with_crc(bomb))
    with open_store(path) as store:
        with pytest.raises(
            CorruptChunkError, match=f"{ARRAY} chunk 0 .*claims to inflate to {claimed} bytes"
        ):
            store.image(0)
        store.image(1)
    with pytest.raises(IntegrityError, match=f"{ARRAY} chunk 0"):
        verify(path)


def test_the_size_in_a_zstd_header_is_read_in_every_form():
    for length in (0, 1, 255, 256, 257, 65_791, 65_792, 70_000):
        frame = bytes(Zstd(level=1).encode(np.ones(length, np.uint8)))
        assert chunk.zstd_content_bytes(frame) == length
    assert chunk.zstd_content_bytes(b"\x28\xb5\x2f\xfd\x00\x58" + bytes(9)) is None  # streamed: no size
    huge = b"\x28\xb5\x2f\xfd\xe0" + (1 << 60).to_bytes(8, "little")
    assert chunk.zstd_content_bytes(huge) == 1 << 60
    for broken in (b"", b"\x28\xb5\x2f", b"\x28\xb5\x2f\xfd\xe0\x01", bytes(20)):
        with pytest.raises(ValueError, match="zstd"):
            chunk.zstd_content_bytes(broken)


@pytest.mark.parametrize("profile", layout.PROFILES)
@pytest.mark.parametrize("payload", [b"", b"x", bytes(64), b"\xff" * 200, b"\x28\xb5\x2f\xfd" + b"\xff" * 60])
def test_a_chunk_of_nonsense_with_a_true_checksum_is_an_error(profile, payload):
    with pytest.raises(CorruptChunkError, match="here is damaged"):
        chunk.decode_chunk(with_crc(payload), profile=profile, rows=8, columns=8, dtype="uint8", where="here")
    with pytest.raises(CorruptChunkError, match="crc32c"):
        chunk.decode_chunk(payload, profile=profile, rows=8, columns=8, dtype="uint8")


def test_a_chunk_of_another_shape_is_an_error(path):
    with open_store(path) as store:
        profile = store.codec
    replace_chunk(path, chunk.encode_chunk(picture(0, 13, 12), profile))
    with open_store(path) as store, pytest.raises(CorruptChunkError, match=f"{ARRAY} chunk 0 is damaged"):
        store.image(0)


def test_at_most_twenty_problems_are_listed(tmp_path):
    path = add_part(tmp_path / "a.zarr", [picture(n, 8, 8) for n in range(30)])
    with open_store(path) as store:
        located = store.locate(np.arange(30))
    shard = path / "parts/000001/images/8x8_i16/c/0/0/0"
    data = bytearray(shard.read_bytes())
    for offset in located.offset:
        data[int(offset) + 20] ^= 255
    shard.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"31 problems:") as caught:
        verify(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert lines[-1] == "... and 11 more"


def test_the_command_ends_with_exit_code_5(path):
    data = bytearray((path / SHARD).read_bytes())
    data[20] ^= 1
    (path / SHARD).write_bytes(data)
    script = (
        "import sys\nfrom pyrad.errors import PyradError\nfrom pyrad.store.verify import verify\n"
        "try: verify(sys.argv[1])\nexcept PyradError as error: print(error); sys.exit(error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 5
    assert f"{ARRAY} chunk 0 is damaged" in done.stdout
