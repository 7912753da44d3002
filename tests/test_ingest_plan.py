"""Groups, splits, order and places: decided before a pixel is written."""

import itertools
import resource
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import Made, file, names, source, told

from pyrad.errors import PyradError, UsageError
from pyrad.ingest.archive import Member
from pyrad.ingest.book import Book
from pyrad.ingest.grouping import assign, join
from pyrad.ingest.layouts import Listing, Selection
from pyrad.ingest.layouts.arrange import Census
from pyrad.ingest.plan import make_plan
from pyrad.ingest.prepare import enter_scans, label_files, tell_apart
from pyrad.ingest.scan import Listed, scanned
from pyrad.records import SPLITS


def test_a_plan_does_not_depend_on_the_order_of_files():
    files = [file(source(n, labels=("a",) if n % 3 else ("b",), patient=f"p{n // 2}")) for n in range(40)]
    made, again = Made(files), Made(files[::-1])
    assert vars(made) == vars(again)
    (samples,) = made.buckets.values()
    assert [names().key(sample) for sample in samples] == sorted(made.groups)
    assert [s.path for s in samples] != sorted(s.path for s in samples)


def test_the_digest_covers_what_shapes_the_shards():
    files = [file(source(n)) for n in range(3)]
    base = Made(files).digest
    changed = [*files[:2], file(source(2, slope=2.0))]
    other_bytes = [*files[:2], replace(files[2], digest="other")]
    digests = {base, Made(changed).digest, Made(other_bytes).digest, Made(files, told(color="planes")).digest}
    assert len(digests) == 4
    assert Made(files, told(workers=7, max_quarantine="50%")).digest == base
    assert (
        Made(files, told(split="1/1/1")).digest == base
    )  # another split resumes the shards that are written


def test_a_patient_is_in_one_split():
    made = Made([file(source(n, patient=f"p{n % 7}", labels=(str(n % 4),))) for n in range(60)])
    by_group = {}
    for key, split in made.splits.items():
        by_group.setdefault(made.groups[key], set()).add(split)
    assert len(by_group) == 7
    assert all(len(splits) == 1 for splits in by_group.values())


@pytest.mark.parametrize(("group_by", "groups"), [("patient", 2), ("study", 3), ("series", 4)])
def test_group_by(group_by, groups):
    files = [
        file(source(0, patient="p", study="1", series="1.1")),
        file(source(1, patient="p", study="1", series="1.2")),
        file(source(2, patient="p", study="2", series="2.1")),
        file(source(3, patient="q", study="3", series="3.1")),
    ]
    assert len(set(Made(files, told(group_by=group_by)).groups.values())) == groups


def test_without_a_patient_the_study_groups_and_without_both_the_file():
    made = Made([file(source(n, patient="", study="1" if n < 2 else "")) for n in range(4)])
    assert len(set(made.groups.values())) == 3
    assert any("2 images have no patient" in note for note in made.notes)


def test_a_patient_without_an_issuer_is_the_one_that_a_table_names():
    assert names().grouped(source(0, patient="p\0")).group == names().grouped(source(1, patient="p")).group
    assert (
        names().grouped(source(0, patient="p\0Clinic")).group != names().grouped(source(1, patient="p")).group
    )


def test_known_patients_keep_their_committed_split():
    files = [file(source(n, patient="p")) for n in range(5)]
    group = names().grouped(files[0].sources[0]).group
    for split in SPLITS:
        assert set(Made(files, groups={group: split}).splits.values()) == {split}
    held = Made([file(source(n, patient="p", split="train")) for n in range(5)], groups={group: "test"})
    assert set(held.splits.values()) == {"test"}
    assert held.notes == ["1 groups stay in the split in which they are stored, not in the one given now"]


def test_a_layouts_split_wins_unless_one_is_given():
    files = [file(source(n, split="test")) for n in range(20)]
    own = Made(files)
    assert set(own.splits.values()) == {"test"}
    assert own.recorded == {"ratios": [75, 10, 15], "source": "layout"}
    given = Made(files, told(split="50/25/25"))
    assert Counter(given.splits.values()) == {"train": 10, "val": 5, "test": 5}
    assert given.recorded == {"ratios": [50, 25, 25], "source": "ratios"}


def test_a_layouts_split_that_divides_a_patient_is_refused():
    files = [file(source(n, patient="p", split=split)) for n, split in enumerate(("train", "test", "train"))]
    with pytest.raises(UsageError, match=r"divides 1 patient groups \(3 images\)"):
        Made(files)


def test_slices_rank_by_position_then_by_instance():
    huge = 10**30  # an Instance Number may be any number of digits
    places = [(5.0, 1), (-2.5, 2), (None, huge), (None, 3), (0.0, 4)]
    files = [
        file(source(n, series="s", position_mm=position, instance=instance))
        for n, (position, instance) in enumerate(places)
    ]
    ranks = Made(files).ranks
    assert [ranks[f.keys[0]] for f in files] == [2, 0, 4, 3, 1]
    assert Made([file(source(1, series=""))]).ranks == {}


def test_buckets_hold_one_geometry_and_every_sample_once():
    files = [file(source(n, rows=16 + n % 3, dtype="int16" if n % 2 else "uint16")) for n in range(30)]
    buckets = Made(files).buckets
    assert len(buckets) == 6
    assert sorted(s.path for its in buckets.values() for s in its) == [f"{n:03d}.dcm" for n in range(30)]
    for geometry, its in buckets.items():
        assert {(s.rows, s.dtype) for s in its} == {(geometry.rows, geometry.dtype)}
        keys = [names().key(s) for s in its]
        assert keys == sorted(keys)


def test_images_without_a_patient_may_join():
    with Book() as book:
        files = [source(n, patient="p" if n == 2 else "") for n in range(4)]
        scans = [
            (Listed(n, 0, Member(path=s.path, size=1)), scanned([s], str(n))) for n, s in enumerate(files)
        ]
        found = [Census()]
        enter_scans(book, scans, names(), found)
        selection = Selection(
            layouts=("dicom",), rows={}, joins={}, masks=frozenset(), maskless=frozenset(), notes=()
        )
        label_files(book, found, [Listing(path=Path("x"), paths=(), read=bytes)], selection, told(), names())
        make_plan(book, options=told(), digest_key=b"key", base="")
        keys = [names().key(s) for s in files]
        before = dict(book.each("SELECT key, grp FROM frame"))
        join(book, [(before[key], "g") for key in keys[:3]])
        groups = dict(book.each("SELECT key, grp FROM frame"))
        assert [groups[key] == "g" for key in keys] == [True, True, False, False]
        assign(book, told(), names())
        splits = dict(book.each("SELECT key, group_split.split FROM frame JOIN group_split USING (grp)"))
        assert splits[keys[0]] == splits[keys[1]]


def test_a_book_is_private_and_leaves_nothing(tmp_path):
    path = tmp_path / "a b%20c?.sqlite"
    path.write_text("of a run that was killed")
    with Book(path) as book:
        assert path.stat().st_mode & 0o777 == 0o600
        book.run("INSERT INTO merged VALUES (1, 'x')")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_told(tmp_path):
    def fill():
        with Book(tmp_path / "b") as book:
            book.run("PRAGMA max_page_count = 200")
            book.many("INSERT INTO merged VALUES (NULL, ?)", (("x" * 4096,) for _ in range(999)))

    with pytest.raises(PyradError, match="cannot be kept: database or disk is full"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_files_of_one_path_in_several_archives_have_names_of_their_own():
    def named(*archives):
        with Book() as book:
            scans = [
                (
                    Listed(n, archive, Member(path="a.png", size=1)),
                    scanned([image], digest),
                )
                for n, (archive, digest) in enumerate(archives)
                for image in [source(0, uid="", kind="raster")._replace(archive=archive, path="a.png")]
            ]
            enter_scans(book, scans, names(), [Census() for _ in archives])
            tell_apart(book, names())
            return dict(book.each("SELECT digest, name FROM file"))

    plain = names().source("a.png")
    assert named((0, "x")) == {"x": plain}
    assert named((0, "x"), (1, "x")) == {"x": plain}
    both = named((0, "x"), (1, "y"))
    assert both == named((0, "y"), (1, "x")) == named((0, "y"), (1, "x"), (2, "y"))
    assert len(set(both.values())) == 2
    assert plain in both.values()


def many(*patients):
    """Files of (patient, images, studies)."""
    numbers = itertools.count()
    return [
        file(source(next(numbers), patient=patient, study=f"{patient}.{n % studies}"))
        for patient, images, studies in patients
        for n in range(images)
    ]


@pytest.mark.parametrize(
    ("patients", "told_of"),
    [
        ([("ANONYMOUS", 210, 30)], 1),  # one made-up id of many patients
        ([("ANONYMOUS", 40, 25), *((f"p{n}", 20, 1) for n in range(9))], 1),
        ([(f"p{n}", 30, 2) for n in range(8)], 0),  # a small archive: nobody is suspicious
        ([("A", 20, 1), *((f"p{n}", 4, 1) for n in range(50))], 1),  # one of many, much larger
        ([("A", 6, 1), *((f"p{n}", 4, 1) for n in range(50))], 0),
        ([("A", 100, 100)], 0),  # too few images to say
    ],
)
def test_a_group_too_large_for_one_patient_is_told(patients, told_of):
    notes = [note for note in Made(many(*patients)).notes if "more than 5 % of the images" in note]
    assert len(notes) == min(told_of, 1)
    assert all(note.startswith(f"{told_of} groups") for note in notes)


@given(
    issuer=st.sampled_from(["", "A", "B"]),
    patient=st.sampled_from(["", "1", "2"]),
    study=st.sampled_from(["", "s"]),
)
def test_a_patient_is_an_id_and_its_issuer_and_without_an_id_the_study(issuer, patient, study):
    known = f"{patient}\0{issuer}" if patient else ""
    others = [
        (f"{p}\0{i}" if p else "", s) for p in ("", "1", "2") for i in ("", "A", "B") for s in ("", "s")
    ]
    group = names().grouped(source(1, patient=known, study=study, uid="1.2")).group
    for other, other_study in others:
        same = names().grouped(source(1, patient=other, study=other_study, uid="1.2")).group == group
        assert same == ((known or study, bool(known)) == (other or other_study, bool(other)))


def test_a_book_that_cannot_be_begun_is_a_sentence_and_leaves_nothing(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # less than a page of it
    try:
        with (
            pytest.raises(PyradError, match="cannot be kept"),
            Book(tmp_path / "b"),
        ):
            pytest.fail("it was begun")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [*tmp_path.iterdir()]
