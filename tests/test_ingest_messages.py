"""What an ingest says of archives that it refuses: sources as they were given, and no name found inside."""

import os
import stat
import zipfile

import pytest
from archives import pixels, png, table

from pyrad import cli

pytestmark = pytest.mark.usefixtures("own_secret")

FOUND = "Found7Inside^Qz"  # in every name and cell of these archives
ROWS = "path,label,patient"


def zipped(path, *entries):
    """A zip whose entries are (name or ZipInfo, bytes)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def slip(folder):
    return zipped(folder.with_suffix(".zip"), (f"../{FOUND}.png", b"1"))


def link_in_a_zip(folder):
    link = zipfile.ZipInfo(f"{FOUND}.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return zipped(folder.with_suffix(".zip"), (link, FOUND.encode()))


def bomb(folder):
    return zipped(folder.with_suffix(".zip"), (f"{FOUND}.png", bytes(600 << 20)))


def cut_zip(folder):
    path = zipped(folder.with_suffix(".zip"), (f"{FOUND}.png", os.urandom(999)))
    path.write_bytes(path.read_bytes()[:-30])
    return path


def damaged_members(folder):
    path = zipped(folder.with_suffix(".zip"), (f"{FOUND}.png", os.urandom(999)))
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    return path


def no_files_at_all(folder):
    (folder / FOUND).mkdir(parents=True)
    return folder


def nothing_that_can_be_read(folder):
    (folder / FOUND).mkdir(parents=True)
    os.mkfifo(folder / FOUND / f"{FOUND}.png")
    (folder / f"{FOUND}.dcm").symlink_to(folder / FOUND)
    (folder / FOUND / f"{FOUND} cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def folders_that_are_no_classes(folder):
    for n in range(150):
        png(folder / f"{FOUND}{n}" / f"{FOUND}.png", pixels(n))
    return folder


def with_table(*rows):
    """An archive of two images of one name in two folders, and a table of these rows."""

    def make(folder):
        for n in range(2):
            png(folder / f"{FOUND}{n}" / f"{FOUND}.png", pixels(n))
        table(folder / "labels.csv", "\n".join(rows))
        return folder

    return make


REFUSED = {
    slip: 6,
    link_in_a_zip: 6,
    bomb: 6,
    cut_zip: 2,
    damaged_members: 4,
    no_files_at_all: 2,
    nothing_that_can_be_read: 4,
    folders_that_are_no_classes: 2,
    with_table(ROWS, f"{FOUND}9.png,a,{FOUND}"): 2,  # matches nothing
    with_table(ROWS, f"{FOUND}.png,a,{FOUND}"): 2,  # could be either
    with_table(ROWS, f"{FOUND}0/{FOUND}.png,,{FOUND}"): 2,  # no label in any row
    with_table(f"{ROWS},split", f"{FOUND}0/{FOUND}.png,a,p,{FOUND}"): 2,
    with_table(f"{ROWS},modality", f"{FOUND}0/{FOUND}.png,a,p,{FOUND}"): 2,
    with_table(f"{ROWS},anatomy", f"{FOUND}0/{FOUND}.png,a,p,{FOUND}"): 2,
    with_table(f"{ROWS},mask", f"{FOUND}0/{FOUND}.png,a,p,{FOUND}"): 2,
    with_table(ROWS, f"{FOUND}0/{FOUND}.png,a,p", f"{FOUND}0/{FOUND}.png,a,{FOUND}"): 2,  # two patients
    with_table(ROWS, f'{FOUND}0/{FOUND}.png,"{FOUND},a,p'): 2,  # no CSV
    with_table(f"{FOUND}0/{FOUND}.png,a,{FOUND}"): 2,  # no header
}


@pytest.mark.parametrize(("make", "code"), REFUSED.items(), ids=range(len(REFUSED)))
def test_no_message_names_what_is_found_inside_an_archive(tmp_path, capfd, make, code):
    typed = make(tmp_path / "typed")
    words = ["ingest", str(typed), "--store", str(tmp_path / "s.zarr"), "--workers", "1"]
    if (typed / "labels.csv").is_file():
        header = (typed / "labels.csv").read_text().partition("\n")[0].split(",")
        further = [f"{name}={name}" for name in header if name in ("split", "modality", "anatomy", "mask")]
        words += ["--columns", ",".join(further)] if further else []
    assert cli.main(words) == code
    said = "".join(capfd.readouterr())
    assert "typed" in said or "labels.csv" in said or "quarantined" in said
    assert FOUND.lower() not in said.lower(), said
    assert "Qz" not in said


def test_a_source_that_is_not_there_is_named_as_it_was_given(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ingest", "not/there", "--store", "s.zarr"]) == 2
    assert "not/there does not exist" in capfd.readouterr().err
