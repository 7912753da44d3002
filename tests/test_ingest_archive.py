"""Folders, zips and single files as archives: deterministic lists, safe bytes, hostile ones refused."""

import os
import pickle
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrad.errors import UnsafeArchiveError, UsageError
from pyrad.ingest import archive as archives
from pyrad.ingest.archive import FolderArchive, ZipArchive, open_archive, path_bytes
from pyrad.ingest.reasons import REASONS, WARNINGS, Rejected, outcome


def zipped(path, members, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as file:
        for name, content in members:
            file.writestr(name, content)
    return path


def listed(archive):
    return [(member.path, member.size, member.reason) for member in archive.members()]


def reason_of(archive, path, **options):
    with pytest.raises(Rejected) as caught:
        archive.read(path, **options)
    return caught.value.reason


FILES = {"b/2.dcm": b"two", "a.png": b"one", "b/c/3": b"", "B": b"capital", "b-": b"before the slash"}


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "root"


def test_a_folder_and_its_zip_are_one_archive(folder, tmp_path):
    from_folder = open_archive(folder)
    from_zip = open_archive(zipped(tmp_path / "x.zip", reversed(FILES.items())))
    assert listed(from_folder) == listed(from_zip)
    assert [path for path, *_ in listed(from_zip)] == ["B", "a.png", "b-", "b/2.dcm", "b/c/3"]
    for archive in (from_folder, pickle.loads(pickle.dumps(from_zip))):  # noqa: S301 - our own
        assert {name: archive.read(name) for name in FILES} == FILES


def test_one_file_is_an_archive_of_one(folder):
    archive = open_archive(folder / "b" / "2.dcm")
    assert listed(archive) == [("2.dcm", 3, None)]
    assert archive.read("2.dcm") == b"two"


def test_a_zip_is_known_by_its_content(folder, tmp_path):
    disguised = zipped(tmp_path / "x.dcm", FILES.items())
    assert isinstance(open_archive(disguised), ZipArchive)
    fake = folder / "fake.zip"
    fake.write_bytes(b"no zip at all")
    assert isinstance(open_archive(fake), FolderArchive)


def test_a_source_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        open_archive(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="neither"):
        open_archive(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError):
        open_archive(tmp_path / "loop")
    cut = zipped(tmp_path / "cut.zip", FILES.items())
    cut.write_bytes(cut.read_bytes()[:-30])
    with pytest.raises(UsageError, match="may be cut"):
        open_archive(cut)


@given(
    st.lists(
        st.text(st.characters(exclude_characters="/\0\\", exclude_categories=["Cs"]), min_size=1), max_size=6
    )
)
@settings(max_examples=50, deadline=None)
def test_order_is_that_of_bytes(names):
    members = sorted({path_bytes(name) for name in names})
    assert members == sorted(name.encode() for name in set(names))
    assert path_bytes(os.fsdecode(b"\xff.dcm")) == b"\xff.dcm"


# Folders


def test_links_pipes_and_folders_named_like_files_are_not_read(folder, tmp_path):
    (tmp_path / "outside.dcm").write_bytes(b"secret")
    (folder / "x.dcm").mkdir()
    (folder / "x.dcm" / "inside").write_bytes(b"in")
    (folder / "link").symlink_to(tmp_path / "outside.dcm")
    (folder / "loop").symlink_to(folder)
    (folder / "self").symlink_to("self")
    os.mkfifo(folder / "pipe.dcm")
    archive = open_archive(folder)
    reasons = {path: reason for path, _size, reason in listed(archive) if path not in FILES}
    assert reasons == {
        "x.dcm/inside": None,
        "link": "symlink",
        "loop": "symlink",
        "self": "symlink",
        "pipe.dcm": "not-a-regular-file",
    }
    assert reason_of(archive, "link") == "unreadable-file"
    assert reason_of(archive, "pipe.dcm") == "not-a-regular-file"
    assert reason_of(archive, "x.dcm") in {"not-a-regular-file", "unreadable-file"}


def test_a_file_or_folder_that_cannot_be_opened_is_quarantined(folder, monkeypatch):
    archive = open_archive(folder)
    refuse = {folder / "a.png", folder / "b"}
    true_open, true_list = os.open, os.scandir

    def deny(call):
        def guarded(path, *args):
            if Path(path) in refuse:
                raise PermissionError
            return call(path, *args)

        return guarded

    monkeypatch.setattr(os, "open", deny(true_open))
    monkeypatch.setattr(os, "scandir", deny(true_list))
    assert ("b", 0, "unreadable-folder") in listed(archive)
    assert reason_of(archive, "a.png") == "unreadable-file"
    assert reason_of(archive, "gone") == "unreadable-file"


def test_a_file_above_the_limit_is_not_read(folder, tmp_path):
    assert reason_of(open_archive(folder), "B", limit=6) == "file-too-large"
    assert open_archive(folder).read("B", limit=7) == b"capital"
    assert (
        reason_of(open_archive(zipped(tmp_path / "x.zip", FILES.items())), "B", limit=6) == "file-too-large"
    )


@pytest.mark.parametrize("change", [b"two and more", b"", b"ot!"])
def test_a_file_that_changes_while_it_is_read_is_refused(folder, monkeypatch, change):
    true_fstat = os.fstat

    def fstat_then_write(handle):
        status = true_fstat(handle)
        (folder / "b" / "2.dcm").write_bytes(change)
        os.utime(folder / "b" / "2.dcm", ns=(1, status.st_mtime_ns + 10**9))
        return status

    monkeypatch.setattr(os, "fstat", fstat_then_write)
    assert reason_of(open_archive(folder), "b/2.dcm") == "file-changed"


# Zips


@pytest.mark.parametrize(
    "name", ["../x.dcm", "a/../../x", "/etc/passwd", "C:\\x.dcm", "c:x", "..\\x", "\\\\host\\x"]
)
def test_paths_that_climb_out_are_refused_by_number_only(tmp_path, name):
    path = zipped(tmp_path / "x.zip", [("good", b"1"), (name, b"2")])
    with pytest.raises(UnsafeArchiveError, match=r"entry 1 of x\.zip") as caught:
        open_archive(path)
    assert name not in str(caught.value)
    assert caught.value.exit_code == 6


def test_links_in_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UnsafeArchiveError, match="symbolic link"):
        open_archive(zipped(tmp_path / "x.zip", [(link, b"/etc/passwd")]))


def test_a_bomb_is_refused_before_it_inflates(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "RATIO_COUNTS_FROM_BYTES", 1 << 16)
    with pytest.raises(UnsafeArchiveError, match="200-fold"):
        open_archive(zipped(tmp_path / "bomb.zip", [("zeros", bytes(1 << 20))]))
    small = open_archive(zipped(tmp_path / "small.zip", [("zeros", bytes(1 << 15))]))
    assert small.read("zeros") == bytes(1 << 15)


def test_entries_that_share_their_bytes_are_refused(tmp_path):
    path = zipped(tmp_path / "x.zip", [("a", os.urandom(500))])
    data = path.read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    again = data[start:end].replace(b"a", b"b")
    tail = bytearray(data[end:])
    tail[8], tail[10] = 2, 2
    tail[12:16] = (2 * (end - start)).to_bytes(4, "little")
    path.write_bytes(data[:end] + again + bytes(tail))
    with pytest.raises(UnsafeArchiveError, match="overlap"):
        open_archive(path)


def test_an_encrypted_member_is_quarantined(tmp_path):
    path = zipped(tmp_path / "x.zip", [("a", b"1"), ("b", b"2")])
    data = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.index(magic) + offset] |= 1
    path.write_bytes(data)
    archive = open_archive(path)
    assert listed(archive) == [("a", 1, "encrypted-member"), ("b", 1, None)]
    assert reason_of(archive, "a") == "encrypted-member"
    assert archive.read("b") == b"2"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_quarantined_and_its_neighbour_read(tmp_path, method):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("a", b"some bytes " * 20)
        file.writestr("b", b"2")
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x03\x04") + 31 + 8
    data[at] ^= 0xFF
    path.write_bytes(data)
    archive = open_archive(path)
    assert reason_of(archive, "a") == "damaged-member"
    assert archive.read("b") == b"2"


def test_a_member_that_inflates_past_its_declared_size_is_quarantined(tmp_path):
    path = zipped(tmp_path / "x.zip", [("a", bytes(5000))])
    data = path.read_bytes().replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little"))
    path.write_bytes(data)
    assert reason_of(open_archive(path), "a") == "damaged-member"


def test_the_later_of_two_members_with_one_path_counts(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("./a", b"old")
        file.writestr("b//a", b"other")
        file.writestr("folder/", b"")
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("a", b"newer")
    archive = open_archive(path)
    assert listed(archive) == [("a", 5, None), ("b/a", 5, None)]
    assert archive.read("a") == b"newer"


# Reasons


def test_reasons_are_carried_and_pickled():
    rejected = Rejected("bad-size", "Rows", "0")
    again = pickle.loads(pickle.dumps(rejected))  # noqa: S301 - our own
    assert (again.reason, again.tag, again.detail, again.outcome) == ("bad-size", "Rows", "0", "quarantined")
    assert str(again) == "bad-size (Rows): Rows or Columns is missing, zero or no number. [0]"
    assert outcome("symlink") == "skipped"


def test_the_documented_reasons_are_those_of_the_code():
    text = (Path(__file__).parents[1] / "docs" / "reasons.md").read_text()
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| `")]
    reasons = {
        cells[0].strip(" `"): (cells[1].strip(), cells[2].strip()) for cells in rows if len(cells) == 3
    }
    warnings = {cells[0].strip(" `"): cells[1].strip() for cells in rows if len(cells) == 2}
    assert reasons == dict(REASONS)
    assert warnings == dict(WARNINGS)
