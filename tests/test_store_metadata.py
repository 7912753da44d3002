"""What the world does to documents, indexes and tables: what contradicts anything is refused before use."""

import struct

import pytest
from damage import ARRAY, edit_root, recommit, rewrite_samples, sound_store
from parts import DIGEST, SECRET, add_part, picture

from pyrad.errors import IntegrityError, NotAStoreError, PyradError, UsageError
from pyrad.progress import Reporter
from pyrad.store import layout, manifest, tables
from pyrad.store.info import info
from pyrad.store.reader import open_store
from pyrad.store.verify import verify
from pyrad.store.writer import StoreWriter


@pytest.fixture(params=layout.PROFILES)
def path(request, tmp_path):
    return sound_store(tmp_path / "a.zarr", request.param)


HUGE = 1 << 20


def array_of(raw):
    return next(entry for entry in raw["parts"][0]["arrays"] if entry["path"] == ARRAY)


EDITS = {
    "shape": lambda _, raw: array_of(raw).update(shape=[2, 20, 14]),
    "rows and chunk": lambda _, raw: array_of(raw).update(shape=[2, 21, 13], chunk=[1, 21, 13]),
    "dtype": lambda _, raw: array_of(raw).update(dtype="uint16"),
    "wide dtype": lambda _, raw: array_of(raw).update(dtype="float64"),
    "1 TiB chunk": lambda _, raw: array_of(raw).update(
        shape=[2, HUGE, HUGE], chunk=[1, HUGE, HUGE], path=f"parts/000001/images/{HUGE}x{HUGE}_i16"
    ),
    "8 GiB chunk": lambda _, raw: array_of(raw).update(
        shape=[2, 65_535, 65_535], chunk=[1, 65_535, 65_535], path="parts/000001/images/65535x65535_i16"
    ),
    "count": lambda _, raw: array_of(raw).update(shape=[1 << 60, 20, 13]),
    "count as text": lambda _, raw: array_of(raw).update(shape=["2", 20, 13]),
    "negative": lambda _, raw: array_of(raw).update(shape=[-2, 20, 13]),
    "no rows": lambda _, raw: array_of(raw).update(shape=[2, 0, 13]),
    "shard size": lambda _, raw: array_of(raw).update(shard_n=1),
    "index offset": lambda _, raw: array_of(raw).update(index_offset=16),
    "path": lambda _, raw: array_of(raw).update(path="parts/000001/images/../../../../etc/20x13_i16"),
    "file path": lambda _, raw: raw["parts"][0]["files"][3].update(path="../../etc/passwd"),
    "file hash": lambda _, raw: raw["parts"][0]["files"][3].update(sha256="x"),
    "part id": lambda _, raw: raw["parts"][0].update(id="../001"),
    "codec": lambda _, raw: raw.update(codec="zstd" if raw["codec"] == "tilepack" else "tilepack"),
    "unknown codec": lambda _, raw: raw.update(codec="blosc"),
    "counts": lambda _, raw: raw["counts"].update(samples=3),
    "samples": lambda _, raw: (raw["parts"][0].update(samples=99), raw["counts"].update(samples=99)),
    "format": lambda _, raw: raw.update(format=0),
    "extra field": lambda _, raw: raw.update(extra=1),
    "missing field": lambda _, raw: raw.pop("counts"),
    "no parts": lambda _, raw: raw.update(parts=[]),
    "parts as text": lambda _, raw: raw.update(parts="000001"),
    "consolidated shape": lambda root, _: root["consolidated_metadata"]["metadata"][ARRAY].update(
        shape=[2, HUGE, HUGE]
    ),
    "consolidated codec": lambda root, _: root["consolidated_metadata"]["metadata"][ARRAY].update(codecs=[]),
    "no consolidated": lambda root, _: root.pop("consolidated_metadata"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_root_metadata_is_refused(path, edit):
    edit_root(path, EDITS[edit])
    for use in (open_store, verify, manifest.read_manifest):
        with pytest.raises(IntegrityError, match=r"zarr\.json is damaged or was edited"):
            use(path)


def test_an_edited_array_document_is_refused_even_where_only_it_was_edited(path):
    document = path / ARRAY / "zarr.json"
    data = document.read_bytes()
    for old, new in ((b"[2,20,13]", b"[2,20,14]"), (b'"int16"', b'"uint8"'), (b'"crc32c"', b'"crc32d"')):
        assert old in data
        document.write_bytes(data.replace(old, new))
        with pytest.raises(IntegrityError, match=f"{ARRAY}/zarr.json"):
            verify(path)
        with open_store(path) as store, pytest.raises(IntegrityError, match=f"{ARRAY}/zarr.json was edited"):
            store.image(0)


def test_a_root_that_is_no_json_or_too_large_or_newer_is_told_apart(path, monkeypatch):
    root = path / "zarr.json"
    good = root.read_bytes()
    for data in (b"", good[:-5], b"\xff\xfe", b"[" * 100_000, b"[]", b'{"attributes": []}'):
        root.write_bytes(data)
        with pytest.raises((IntegrityError, NotAStoreError)):
            open_store(path)
    root.write_bytes(good)
    monkeypatch.setattr(manifest, "ROOT_BYTES_LIMIT", 1000)
    with pytest.raises(IntegrityError, match="above the limit"):
        open_store(path)
    with pytest.raises(UsageError, match=r"1 buckets and its root .* above the limit"):
        add_part(path.with_name("b.zarr"), [picture(0, 8, 8)])
    monkeypatch.undo()
    edit_root(path, lambda _, raw: raw.update(format=3, codec="new", surprise={}))
    with pytest.raises(UsageError, match="has format version 3, and this pyrad reads up to 2: upgrade pyrad"):
        open_store(path)


def test_an_index_that_points_outside_is_refused_before_reading(path):
    name = "parts/000001/index.bin"
    data = (path / name).read_bytes()
    entries = [
        (1 << 40, 100),
        (64, 1 << 40),
        (2**64 - 64, 128),
        (3, 100),
        (0, 0),
        (0, 2**64 - 1),
        (2**64 - 1, 9),
    ]
    for offset, size in entries:
        (path / name).write_bytes(struct.pack("<QQ", offset, size) + data[16:])
        with open_store(path) as store, pytest.raises(IntegrityError, match="match the manifest's hash"):
            store.image(0)
        recommit(path)
        with open_store(path) as store, pytest.raises(IntegrityError, match="does not lie inside its shard"):
            store.image(0)
        with pytest.raises(IntegrityError, match="does not lie inside its shard"):
            verify(path)


def test_an_index_of_another_size_is_noticed_on_opening(path):
    name = path / "parts/000001/index.bin"
    name.write_bytes(name.read_bytes()[:-16])
    with pytest.raises(IntegrityError, match=r"index\.bin has \d+ bytes instead of"):
        open_store(path)


# --- tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[0].update(row=7), f"{ARRAY}: samples rows point outside it or twice"),
        (lambda rows: rows[0].update(row=1), f"{ARRAY}: samples rows point outside it or twice"),
        (
            lambda rows: rows[0].update(bucket="parts/000009/images/1x1_u8"),
            "is not in their part|not in their part",
        ),
        (lambda rows: rows[0].update(bucket="parts/000001/masks/20x13_i16"), "not in their part"),
        (lambda rows: rows[0].update(rows=512), f"{ARRAY}: samples rows state another image size"),
        (lambda rows: rows[0].update(mask=True), "mask flag differ"),
        (lambda rows: rows[1].update(mask=False), "mask flag differ"),
        (lambda rows: rows[0].update(key=rows[1]["key"]), "keys are not unique"),
        (lambda rows: rows[0].update(split="val"), "1 groups .patients. stand in more than one split"),
        (lambda rows: rows[0].update(group="0" * 32), "the manifest counts 5 groups, the samples 6"),
    ],
)
def test_a_samples_table_that_lies_is_found(path, change, said):
    rewrite_samples(path, change)
    with pytest.raises(IntegrityError, match=said):
        verify(path)


def test_samples_of_the_wrong_shape_are_refused_by_the_reader(path):
    good = (path / "parts/000001/samples.parquet").read_bytes()
    for change, said in (
        (lambda rows: rows.pop(), "it has 9 rows instead of 10"),
        (lambda rows: rows[0].update(row=-1), "points to images that are not in the part"),
    ):
        rewrite_samples(path, change)
        with open_store(path) as store, pytest.raises(IntegrityError, match=said):
            store.image(0)
        (path / "parts/000001/samples.parquet").write_bytes(good)
        recommit(path)
    (path / "parts/000001/samples.parquet").write_bytes(b"PAR1" + bytes(len(good) - 8) + b"PAR1")
    with open_store(path) as store, pytest.raises(IntegrityError, match=r"samples\.parquet is damaged"):
        store.samples["key"]


def test_files_that_no_commit_names_are_mentioned_only(path):
    said = []
    reporter = Reporter()
    reporter.say = said.append
    (path / "notes.txt").write_text("hello")
    (path / "parts/000001/images/link").symlink_to("/etc")
    verify(path, reporter)
    assert [line.split()[1] for line in said] == ["notes.txt", "parts/000001/images/link"]


def test_a_commit_that_could_not_be_read_back_is_not_made(path):
    before = (path / "zarr.json").read_bytes()
    how = {"counts": {"stored": -1}, "split": {}, "options": {}}
    with StoreWriter.open(path, codec=None, **SECRET) as writer:
        writer.begin(DIGEST)
        with pytest.raises(PyradError, match="the commit could not be read back"):
            writer.commit([], tables.samples_table([]), tables.ledger_table([]), **how)
    assert (path / "zarr.json").read_bytes() == before
    verify(path)


def test_a_commit_without_a_sample_is_a_commit(tmp_path):
    path = tmp_path / "a.zarr"
    with StoreWriter.open(path, codec=None, **SECRET) as writer:
        writer.begin(DIGEST)
        how = {"counts": {"stored": 0, "skipped": 1, "quarantined": 0}, "split": {}, "options": {}}
        writer.commit([], tables.samples_table([]), tables.ledger_table([]), **how)
    add_part(path, [picture(0, 8, 8)])
    assert verify(path)["samples"] == 1
    with open_store(path) as store:
        assert store.samples.to_arrow().num_rows == 1
        assert store.image(0).shape == (8, 8)
    assert info(path)["samples"] == 1
