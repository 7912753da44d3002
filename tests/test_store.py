"""Writer and reader: what is written is what is read, column by column and chunk by chunk."""

import gc
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import DIGEST, MASK, SECRET, add_part, mixed, picture
from stores import key_of, sample, write_shard

from pyrad import ops
from pyrad.errors import CorruptChunkError, NotAStoreError, PyradError, UsageError
from pyrad.store import chunk, layout, manifest, tables
from pyrad.store.index import StoreIndex
from pyrad.store.info import info, info_text
from pyrad.store.reader import open_store
from pyrad.store.shard import TREE, FinishedShard
from pyrad.store.verify import verify
from pyrad.store.writer import StoreWriter


@pytest.fixture
def small_shards(monkeypatch):
    """Two images a shard, so that tiny buckets have several."""
    monkeypatch.setattr(layout, "SHARD_IMAGES_LIMIT", 2)


# --- round trips --------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", layout.PROFILES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_chunk_decodes_to_its_plane(profile, data):
    dtype = data.draw(st.sampled_from(sorted(layout.DTYPE_SUFFIX)))
    rows, columns = data.draw(st.tuples(st.integers(1, 140), st.integers(1, 40)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    limits = np.iinfo(dtype)
    spread = data.draw(st.sampled_from([0, 3, 200, limits.max - limits.min]))
    plane = rng.integers(
        limits.min, min(limits.min + spread, limits.max), (rows, columns), dtype, endpoint=True
    )
    stored = chunk.encode_chunk(plane, profile)
    decoded = chunk.decode_chunk(stored, profile=profile, rows=rows, columns=columns, dtype=dtype)
    assert decoded.dtype == plane.dtype
    np.testing.assert_array_equal(decoded, plane)
    entry = layout.image_array("000001", count=1, rows=rows, columns=columns, planes=1, dtype=dtype)
    assert len(stored) <= layout.chunk_bytes_limit(entry)


@pytest.mark.parametrize("profile", layout.PROFILES)
@pytest.mark.usefixtures("small_shards")
def test_every_dtype_plane_and_mask_comes_back(tmp_path, profile):
    images = [*mixed(), *mixed(7), *mixed(11)]
    masks = {0: MASK, 1: 1 - MASK, 21: np.ones((20, 13), np.uint8)}
    path = add_part(tmp_path / "a.zarr", images, masks=masks, codec=profile)
    counts = verify(path)
    assert counts["samples"] == len(images) == 30
    assert counts["chunks"] == 24 + 6 * 3 + len(masks)
    assert counts["shards"] > counts["arrays"] == 6
    with open_store(path) as store:
        assert len(store) == len(images)
        for number, image in enumerate(images):
            stored = store.image(number)
            assert stored.dtype == image.dtype
            np.testing.assert_array_equal(stored, image)
            mask = store.mask(number)
            assert (mask is None) == (number not in masks)
            if mask is not None:
                np.testing.assert_array_equal(mask, masks[number])
    assert not (tmp_path / "a.zarr.partial").exists()


def test_threads_read_one_store_with_few_open_files(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "SHARD_IMAGES_LIMIT", 1)
    images = [picture(n, 8, 8) for n in range(12)]
    path = add_part(tmp_path / "a.zarr", images)
    monkeypatch.setattr("pyrad.store.reader.MAX_OPEN", 2)
    with open_store(path) as store, ThreadPoolExecutor(4) as pool:
        numbers = np.random.default_rng(0).integers(0, 12, 300)
        for number, image in zip(numbers, pool.map(store.image, numbers), strict=True):
            np.testing.assert_array_equal(image, images[number])
        shards = store.locate(np.arange(12)).shard
        with store.pinned(shards) as fds:  # more at once than may stay open
            assert len({os.fstat(fd).st_ino for fd in fds}) == 12
        still_open = [fd for fd in fds if _is_open(fd)]
        assert len(still_open) == 2 == store.max_open
    assert not any(_is_open(fd) for fd in fds)


@pytest.mark.parametrize(("limit", "kept"), [(1024, 512), (1, 1), (1 << 20, 4096), (-1, 4096)])
def test_half_of_a_process_files_are_a_store_s_at_most(tmp_path, monkeypatch, limit, kept):
    path = add_part(tmp_path / "a.zarr", [picture(0, 8, 8)])
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, 1 << 20))
    with open_store(path) as store:
        assert store.max_open == kept
        store.image(0)


def _is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.mark.usefixtures("small_shards")
def test_locate_gives_ranges_that_hold_the_chunks(tmp_path):
    images = mixed()
    path = add_part(tmp_path / "a.zarr", images)
    add_part(path, mixed(50), first=len(images))
    images += mixed(50)
    with open_store(path) as store:
        wanted = np.random.default_rng(1).integers(0, len(images), 64)
        located = store.locate(wanted)
        assert located.first[-1] == len(located.shard) == sum(images[n].ndim == 3 for n in wanted) * 2 + 64
        slab_offsets, total = ops.slab_layout(located.size)
        slab = np.empty(total, np.uint8)
        with store.pinned(located.shard) as fds:
            assert not ops.read_ranges(fds, located.offset, located.size, slab, slab_offsets).any()
        for k, number in enumerate(wanted):
            bucket = store.buckets[int(located.bucket[k])]
            planes = images[number].reshape(-1, bucket.rows, bucket.columns)
            ranges = range(located.first[k], located.first[k + 1])
            for at, plane in zip(ranges, planes, strict=True):
                start = int(slab_offsets[at])
                stored = slab[start : start + located.size[at]]
                decoded = chunk.decode_chunk(
                    stored, profile=bucket.codec, rows=bucket.rows, columns=bucket.columns, dtype=bucket.dtype
                )
                np.testing.assert_array_equal(decoded, plane)
        assert (located.offset % layout.ALIGNMENT == 0).all()
        assert store.locate(np.array([], np.int64)).shard.size == 0
        assert store.chunk_name(0) == "parts/000001/images/20x13_i16 chunk 0"
        for wrong in (-1, len(images)):
            with pytest.raises(IndexError, match="of a store of 20"):
                store.locate(np.array([0, wrong]))
            with pytest.raises(IndexError, match="of a store of 20"):
                store.image(wrong)


def test_a_slot_without_an_image_is_absent_and_may_not_be_named(tmp_path):
    image = picture(0, 8, 8)
    with StoreWriter.open(tmp_path / "a.zarr", codec="tilepack", **SECRET) as writer:
        writer.begin(DIGEST)
        entry = writer.images(count=3, rows=8, columns=8, planes=1, dtype="int16")
        for spec in writer.shards(entry):
            result = write_shard(spec, iter([image, None, image]), facts=[1, {"reason": "x"}, None])
        assert result.offsets[1] == result.sizes[1] == layout.ABSENT
        assert result.facts == (1, {"reason": "x"}, None)
        how = {"counts": {"stored": 2, "skipped": 0, "quarantined": 1}, "split": {}, "options": {}}
        ledger = tables.ledger_table([])
        every = tables.samples_table([sample(n, image, entry.path, n) for n in range(3)])
        with pytest.raises(PyradError, match="chunk 1 is absent"):
            writer.commit([entry], every, ledger, **how)
        rows = [sample(n, image, entry.path, n) for n in (2, 0)]
        writer.commit([entry], tables.samples_table(rows), ledger, **how)
    assert verify(tmp_path / "a.zarr")["chunks"] == 2
    with open_store(tmp_path / "a.zarr") as store:
        assert store.samples["row"].to_pylist() == [2, 0]
        np.testing.assert_array_equal(store.image(0), image)


@pytest.mark.parametrize("profile", layout.PROFILES)
@pytest.mark.parametrize("planes", [1, 3])
def test_a_finished_shard_is_read_back_before_its_commit(tmp_path, profile, planes):
    images = [picture(seed, 20, 13, "uint8", planes=planes) for seed in range(3)]
    with StoreWriter.open(tmp_path / "s.zarr", codec=profile, **SECRET) as writer:
        writer.begin(DIGEST)
        entry = writer.images(count=4, rows=20, columns=13, planes=planes, dtype="uint8")
        spec = writer.shards(entry)[0]
        with pytest.raises(PyradError, match="before it is finished"):
            FinishedShard(spec)
        result = write_shard(spec, [images[0], None, *images[1:]])
        with FinishedShard(spec) as shard:
            found = [shard.image(slot) for slot in range(4)]
            with pytest.raises(IndexError, match="slot 4 of a shard of 4"):
                shard.image(4)
        assert found[1] is None
        for image, read in zip(images, (found[0], *found[2:]), strict=True):
            assert read.dtype == image.dtype
            np.testing.assert_array_equal(read, image)
        file = spec.folder / TREE / spec.file
        data = bytearray(file.read_bytes())
        data[result.offsets[-1] + result.sizes[-1] // 2] ^= 1
        file.write_bytes(data)
        with FinishedShard(spec) as shard:
            np.testing.assert_array_equal(shard.image(0), images[0])
            with pytest.raises(CorruptChunkError, match=f"chunk {4 * planes - 1} is damaged"):
                shard.image(3)


def test_a_writer_refuses_what_does_not_fit(tmp_path):
    with StoreWriter.open(tmp_path / "a.zarr", codec="tilepack", **SECRET) as writer:
        with pytest.raises(PyradError, match="begin"):
            writer.shards(layout.image_array("000001", count=1, rows=8, columns=8, planes=1, dtype="int16"))
        writer.begin(DIGEST)
        for rows, columns in ((0, 8), (8, 65_536), (40_000, 40_000)):
            with pytest.raises(UsageError, match=f"{rows} x {columns} int16"):
                writer.images(count=1, rows=rows, columns=columns, planes=1, dtype="int16")
        entry = writer.images(count=2, rows=8, columns=8, planes=1, dtype="int16")
        (spec,) = writer.shards(entry)
        good = picture(0, 8, 8)
        for images in ([good], [good] * 3, [good, good[:4]], [good, good.astype("uint16")]):
            with pytest.raises(PyradError, match=r"images/8x8_i16 shard 0"):
                write_shard(spec, images)
        with pytest.raises(PyradError, match="other than 0 and 1"):
            write_shard(writer.shards(writer.masks(entry))[0], [None, np.full((8, 8), 255, np.uint8)])
        assert writer.finished(spec) is None
        assert not any((spec.folder / "temporary").iterdir())
        table = tables.samples_table([sample(0, good, entry.path, 0)])
        with pytest.raises(PyradError, match="shard 0 is not finished: nothing was committed"):
            writer.commit([entry], table, tables.ledger_table([]), counts={}, split={}, options={})
    with pytest.raises(NotAStoreError):
        open_store(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ([{"key": "PATIENT-7"}, {}], "'key': 1 values"),
        ([{"group": "4711"}, {}], "'group': 1 values"),
        ([{"split": "holdout"}, {}], "'split': 1 values"),
        ([{"key": key_of(1)}, {}], "1 keys are not unique"),
    ],
)
def test_values_that_could_identify_or_mislead_are_not_committed(tmp_path, facts, said):
    images = [picture(0, 8, 8), picture(1, 8, 8)]
    with pytest.raises(PyradError, match=said) as caught:
        add_part(tmp_path / "a.zarr", images, facts=facts)
    assert "PATIENT" not in str(caught.value)
    assert "4711" not in str(caught.value)
    assert manifest.read_manifest(tmp_path / "a.zarr") is None


# --- the samples table --------------------------------------------------------------------------


def test_samples_are_read_column_by_column_over_all_parts(tmp_path, monkeypatch):
    images = [picture(n, 8, 8) for n in range(4)]
    one = [{"labels": ("x", "y"), "kept": {"site": "A"}, "spacing_mm": (0.5, 2.0), "padding": (-5, -5)}, {}]
    two = [{"window_center": (40.0,), "window_width": (400.0,), "kept": {"age": "60"}}, {}]
    path = add_part(tmp_path / "a.zarr", images[:2], facts=one)
    add_part(path, images[2:], facts=two, first=2)
    asked = []
    read = tables.read_columns
    monkeypatch.setattr(
        tables,
        "read_columns",
        lambda file, columns, name, **which: asked.append(columns) or read(file, columns, name, **which),
    )
    with open_store(path) as store:
        samples = store.samples
        assert isinstance(samples["labels"], pa.ChunkedArray)
        assert samples["labels"].to_pylist() == [["x", "y"], [], [], []]
        assert samples["labels"] is samples["labels"]
        assert asked == [["labels"], ["labels"]]
        assert samples.column_names == [*tables.SAMPLES_SCHEMA.names, "site", "age"]
        assert samples["site"].to_pylist() == ["A", None, None, None]
        assert samples["age"].to_pylist() == [None, None, "60", None]
        with pytest.raises(KeyError, match="'nothing' is no column"):
            samples["nothing"]
        table = samples.to_arrow()
    assert table.num_rows == 4
    assert table.column_names == samples.column_names
    assert not tables.schema_fault(table.schema, tables.SAMPLES_SCHEMA, kept=True)
    rows = table.to_pylist()
    assert rows[0]["spacing_mm"] == [0.5, 2.0]
    assert rows[1]["spacing_mm"] is None
    assert (rows[0]["padding_low"], rows[0]["padding_high"], rows[1]["padding_low"]) == (-5, -5, None)
    assert rows[2]["window_center"] == [40.0]
    assert rows[3]["bucket"] == "parts/000002/images/8x8_i16"
    assert [row["key"] for row in rows] == [key_of(n) for n in range(4)]


def test_a_kept_column_may_not_shadow_ours():
    with pytest.raises(UsageError, match="--keep-columns split"):
        tables.samples_table([sample(0, picture(0, 8, 8), "b", 0, kept={"split": "mine"})])


def test_opening_reads_neither_the_table_nor_the_index(tmp_path, monkeypatch):
    count = 20_000
    image = np.zeros((1, 1), np.uint8)
    first = sample(0, image, "", 0)
    with StoreWriter.open(tmp_path / "a.zarr", codec="tilepack", **SECRET) as writer:
        writer.begin(DIGEST)
        entry = writer.images(count=count, rows=1, columns=1, planes=1, dtype="uint8")
        for spec in writer.shards(entry):
            write_shard(spec, (image for _ in range(spec.slots)))
        one = tables.samples_table([first])
        columns = {name: pa.repeat(one[name][0], count) for name in one.column_names}
        columns["key"] = pa.array([key_of(n) for n in range(count)])
        columns["row"] = pa.array(np.arange(count))
        columns["bucket"] = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), [entry.path])
        table = pa.table(columns, schema=one.schema)
        writer.commit([entry], table, tables.ledger_table([]), counts={}, split={}, options={})

    with monkeypatch.context() as patch:

        def refuse(*_):
            raise AssertionError("opening a store reads only its root")

        patch.setattr(tables, "open_parquet", refuse)
        patch.setattr(StoreIndex, "_load", refuse)
        store = open_store(tmp_path / "a.zarr")
        assert len(store) == count
        assert store.buckets[0].count == count
    with store:
        located = store.locate(np.array([count - 1, 0]))
        assert store.image(count - 1) == 0
        assert located.shard.tolist() == [count // 4096, 0]


def test_a_pickled_store_is_the_same_commit(tmp_path):
    path = add_part(tmp_path / "a.zarr", mixed())
    with open_store(str(path)) as store:
        add_part(path, [picture(0, 8, 8)], first=10)
        with pickle.loads(pickle.dumps(store)) as other:  # noqa: S301  our own
            assert other.fingerprint == store.fingerprint
            assert len(other) == 10 < len(open_store(path))
            np.testing.assert_array_equal(other.image(2), store.image(2))
        path.rename(tmp_path / "b.zarr")
        with pytest.raises(NotAStoreError, match="cannot be opened"):
            pickle.loads(pickle.dumps(store))  # noqa: S301
        np.testing.assert_array_equal(store.image(3), mixed()[3])  # an open folder may be renamed


def test_info_counts_what_is_there(tmp_path):
    facts = [
        {"labels": ("nodule",), "modality": "CT", "split": "val", "group": key_of(100 + n)} for n in range(2)
    ]
    path = add_part(tmp_path / "a.zarr", [picture(n, 40, 40) for n in range(2)], facts=facts)
    found = info(path)
    assert found["splits"] == {"val": 2}
    assert found["labels"] == {"nodule": 2}
    assert found["modalities"] == {"CT": 2}
    assert found["raw_bytes"] == 2 * 40 * 40 * 2
    assert found["ratio"] == pytest.approx(found["raw_bytes"] / found["chunk_bytes"], abs=1e-4)
    assert found["counts"]["groups"] == 2
    text = info_text(found)
    assert "2 samples of 2 groups" in text
    assert "parts/000001/images/40x40_i16" in text


def test_a_table_outlives_the_name_of_its_store(tmp_path):
    samples = open_store(add_part(tmp_path / "a.zarr", mixed())).samples
    gc.collect()
    assert len(samples["key"]) == len(mixed())
