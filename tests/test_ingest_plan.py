"""Duplicates, groups, splits, order and places: decided before a pixel is written."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrad.errors import PyradError, QuarantineBudgetError, UsageError
from pyrad.ingest.archive import Member
from pyrad.ingest.book import Book
from pyrad.ingest.duplicates import File, by_preference, settle, undecided
from pyrad.ingest.grouping import assign, check_groups, join, recorded_split
from pyrad.ingest.layouts import Listing, Selection
from pyrad.ingest.layouts.arrange import Census
from pyrad.ingest.ledger import Ledger, ledger_rows, quarantined_files, read_ledger, totals
from pyrad.ingest.names import Names
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.plan import make_plan, planned
from pyrad.ingest.prepare import enter_scans, label_files, tell_apart
from pyrad.ingest.scan import Listed, PixelDigests, scanned
from pyrad.ingest.secret import Secret
from pyrad.ingest.settle import settle_files
from pyrad.ingest.split import assign_splits, parse_ratios, parse_split
from pyrad.progress import Reporter
from pyrad.records import SPLITS, Source

SECRET = Secret(b"a secret", "the test")


def told(**changes):
    return IngestOptions(src=(Path(),), store=Path("s.zarr"), **changes)


def names(group_by="patient"):
    return Names(SECRET, group_by)


def source(number, **facts):
    uid = facts.get("uid", f"1.2.{number}")
    defaults = {
        "rows": 16,
        "columns": 16,
        "dtype": "int16",
        "kind": "dicom",
        "uid": uid,
        "patient": f"p{number}",
    }
    return Source(archive=0, path=f"{number:03d}.dcm", **{**defaults, **facts})


def file(*sources, digest=None):
    digest = digest or f"bytes of {sources[0].path}"
    return File(digest=digest, sources=sources, keys=tuple(names().key(s, digest) for s in sources))


class NoWorkers:
    """A pool that nothing must be asked of."""

    def run(self, _function, tasks, _stage):
        assert not list(tasks)
        return iter(())


class Made:
    """What a book says of files after all that comes between scan and shards, and after them."""

    def __init__(self, files, options=None, groups=None, workers=None):
        options = options or told()
        label = names(options.group_by)
        numbered = [
            (
                Listed(number, f.sources[0].archive, Member(path=f.sources[0].path, size=1)),
                scanned(f.sources, f.digest),
            )
            for number, f in enumerate(files)
        ]
        found = [Census()]
        selection = Selection(
            layouts=("dicom",), rows={}, joins={}, masks=frozenset(), maskless=frozenset(), notes=()
        )
        listing = Listing(path=Path("x"), paths=(), read=lambda _: b"")
        with Book() as book:
            enter_scans(book, numbered, label, found)
            label_files(book, found, [listing], selection, options, label)
            book.many("INSERT INTO committed_group VALUES (?, ?)", (groups or {}).items())
            settle_files(book, None, label, workers or NoWorkers(), Reporter())
            plan = make_plan(book, options=options, digest_key=b"key", base="")
            self.digest = plan.digest
            self.notes = check_groups(book, options)
            self.buckets = {b.geometry: planned(book, b, 0, b.count) for b in plan.buckets}
            self.notes += assign(book, options, label)
            self.recorded = recorded_split(book, options)
            self.splits = dict(
                book.each("SELECT key, group_split.split FROM frame JOIN group_split USING (grp)")
            )
            self.groups = dict(book.each("SELECT key, grp FROM frame"))
            self.ranks = dict(book.each("SELECT key, slice FROM frame JOIN rank ON frame.id = rank.frame"))
            self.reasons = [reason for (reason,) in book.each("SELECT reason FROM frame")]


# ---- split


strata = st.dictionaries(
    st.integers(0, 10**6).map(str),
    st.sampled_from([(), ("a",), ("b",), ("a", "b"), ("c",), ("d",), ("e",)]),
    min_size=1,
    max_size=150,
)
ratios = st.tuples(*[st.integers(0, 20)] * 3).filter(lambda r: sum(r) > 0)


@given(strata, ratios)
@settings(max_examples=150, deadline=None)
def test_every_stratum_and_the_whole_keep_the_ratios(groups, shares):
    splits = assign_splits(groups, shares, rank=str.encode)
    assert splits.keys() == groups.keys()
    wanted = [share / sum(shares) for share in shares]
    counts = Counter(splits.values())
    enough = sum(share > 0 for share in shares) <= len(groups)
    # Where a share of all is below one patient, filling its empty split takes up to two from elsewhere.
    slack = 1 + 1e-9 if all(w == 0 or w * len(groups) >= 2 for w in wanted) else 3 + 1e-9
    for position, split in enumerate(SPLITS):
        assert counts[split] == 0 or wanted[position] > 0
        assert abs(counts[split] - wanted[position] * len(groups)) <= slack
        if enough and wanted[position] > 0:
            assert counts[split] >= 1
        for stratum in set(groups.values()):
            members = [group for group in groups if groups[group] == stratum]
            inside = sum(splits[group] == split for group in members)
            assert abs(inside - wanted[position] * len(members)) <= slack


def test_strata_of_one_patient_each_still_add_up():
    groups = {str(n): (f"label {n:04d}",) for n in range(400)}
    counts = Counter(assign_splits(groups, (75, 10, 15), rank=str.encode).values())
    assert counts == {"train": 300, "val": 40, "test": 60}


def test_growing_by_one_patient_at_a_time_keeps_the_ratios():
    committed = []
    for number in range(100):
        committed += assign_splits(
            {str(number): ("x",)}, (75, 10, 15), rank=str.encode, committed=committed
        ).values()
    counts = Counter(committed)
    assert abs(counts["train"] - 75) <= 1
    assert abs(counts["val"] - 10) <= 1
    assert abs(counts["test"] - 15) <= 1


def test_three_patients_fill_three_splits():
    assert set(assign_splits({"a": (), "b": (), "c": ()}, (75, 10, 15), rank=str.encode).values()) == set(
        SPLITS
    )


def test_the_rank_decides_within_a_stratum_not_the_name():
    groups = dict.fromkeys("abcdefghij", ("x",))
    forward = assign_splits(groups, (5, 2, 3), rank=str.encode)
    backward = assign_splits(groups, (5, 2, 3), rank=lambda g: bytes([255 - ord(g)]))
    assert [forward[g] for g in "abcdefghij"] == [backward[g] for g in "jihgfedcba"]
    assert forward != backward


@pytest.mark.parametrize(
    "text", ["", "75", "75/25", "a/b/c", "1/2/3/4", "-1/1/1", "0/0/0", "nan/1/1", "inf/1/1"]
)
def test_a_split_that_is_none_is_a_usage_error(text):
    with pytest.raises(UsageError, match="train/val/test"):
        parse_ratios(text)
    with pytest.raises(UsageError):
        told(split=text)


def test_words_for_splits():
    assert [parse_split(word) for word in ("Training", "valid", "TEST", "rest", "")] == [
        "train", "val", "test", None, None,
    ]  # fmt: skip


# ---- plan


def test_a_plan_does_not_depend_on_the_order_of_files():
    files = [file(source(n, labels=("a",) if n % 3 else ("b",), patient=f"p{n // 2}")) for n in range(40)]
    made, again = Made(files), Made(files[::-1])
    assert vars(made) == vars(again)
    (samples,) = made.buckets.values()
    assert [sample.key for sample in samples] == sorted(made.groups)
    assert [s.source.path for s in samples] != sorted(s.source.path for s in samples)


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
    assert names().group(source(0, patient="p\0"), "") == names().group(source(1, patient="p"), "")
    assert names().group(source(0, patient="p\0Clinic"), "") != names().group(source(1, patient="p"), "")


def test_known_patients_keep_their_committed_split():
    files = [file(source(n, patient="p")) for n in range(5)]
    group = names().group(files[0].sources[0], "")
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
    assert sorted(s.source.path for its in buckets.values() for s in its) == [
        f"{n:03d}.dcm" for n in range(30)
    ]
    for geometry, its in buckets.items():
        assert {(s.source.rows, s.source.dtype) for s in its} == {(geometry.rows, geometry.dtype)}
        assert [s.key for s in its] == sorted(s.key for s in its)


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
        keys = [names().key(s, "") for s in files]
        before = dict(book.each("SELECT key, grp FROM frame"))
        join(book, [(before[key], "g") for key in keys[:3]])
        groups = dict(book.each("SELECT key, grp FROM frame"))
        assert [groups[key] == "g" for key in keys] == [True, True, False, False]
        assign(book, told(), names())
        splits = dict(book.each("SELECT key, group_split.split FROM frame JOIN group_split USING (grp)"))
        assert splits[keys[0]] == splits[keys[1]]


# ---- copies


def settled(copies, pixels=None):
    return settle(by_preference(copies), pixels or {})


def test_equal_copies_are_kept_once_with_all_labels():
    copies = [file(source(n, uid="1.2.9", patient="p", labels=(label,))) for n, label in enumerate("ba")]
    assert {f.id for f in undecided(copies, claimed=False)} == {f.id for f in copies}
    result = settled(copies, {f.digest: PixelDigests(frames=("same",)) for f in copies})
    assert result.kept.id[1] == "000.dcm"
    assert result.kept.sources[0].labels == ("a", "b")
    assert result.rejected == {(0, "001.dcm"): ("duplicate", "")}


def test_copies_that_differ_are_all_out():
    copies = [file(source(n, uid="1.2.9", patient="p")) for n in range(3)]
    pixels = {f.digest: PixelDigests(frames=("same" if n else "other",)) for n, f in enumerate(copies)}
    result = settled(copies, pixels)
    assert result.kept is None
    assert set(result.rejected.values()) == {("uid-conflict", "")}
    other = [file(source(0, uid="1.2.9", patient="p")), file(source(1, uid="1.2.9", patient="q"))]
    assert undecided(other, claimed=False) == []
    assert len(settled(other).rejected) == 2


def test_a_copy_that_does_not_decode_says_nothing_about_the_others():
    copies = [file(source(n, uid="1.2.9", patient="p")) for n in range(2)]
    pixels = {
        copies[0].digest: PixelDigests(reason="decode-failed", detail="PixelData"),
        copies[1].digest: PixelDigests(frames=("x",)),
    }
    result = settled(copies, pixels)
    assert result.kept.id[1] == "001.dcm"
    assert result.rejected == {(0, "000.dcm"): ("decode-failed", "PixelData")}


def test_of_equal_bytes_the_held_out_copy_stays():
    copies = [
        file(source(n, uid="", kind="raster", patient="", split=split, labels=(split,)), digest="same")
        for n, split in enumerate(("train", "test", "val"))
    ]
    assert undecided(copies, claimed=False) == []
    result = settled(copies)
    assert result.kept.sources[0].split == "test"
    assert result.kept.sources[0].labels == ("test", "train", "val")
    made = Made(copies)
    assert sorted(map(str, made.reasons)) == ["None", "duplicate", "duplicate"]


# ---- ledger


def ledger(**endings):
    """Files by their reasons, "__" for "-" and "_and_" between several."""
    counts = {frozenset(name.replace("__", "-").split("_and_")): files for name, files in endings.items()}
    return Ledger(endings=counts)


def test_the_budget_counts_quarantined_over_candidates():
    ledger(stored=95, not__an__image=1, decode__failed=5).check_budget(0.05)
    with pytest.raises(QuarantineBudgetError, match=r"6 of 101 images .*decode-failed 6"):
        ledger(stored=95, not__an__image=1, decode__failed=6).check_budget(0.05)
    assert ledger(already__stored=3, duplicate=1, mask=7, only__padding=1).candidates == 5


def test_a_file_is_quarantined_if_any_of_its_frames_is():
    mixed = ledger(stored_and_decode__failed=1, stored_and_frame__not__chosen=2)
    assert mixed.counts() == {"stored": 2, "skipped": 0, "quarantined": 1}
    assert mixed.by_reason() == {"skipped": {"frame-not-chosen": 2}, "quarantined": {"decode-failed": 1}}


def test_a_ledger_holds_what_is_news():
    with Book() as book:
        book.run("INSERT INTO file VALUES (1, 0, x'61', 5, 'cine', '', '', '1', 1, NULL, '', 'x')")
        book.run("INSERT INTO file VALUES (2, 0, x'62', 5, 'text', '', '', NULL, 0, 'not-an-image', '', '')")
        for n, reason in enumerate([None] * 9 + ["decode-failed"]):
            row = (n, 1, n, f"{n}", *[""] * 3, 0, *[None] * 4, 1, None, None, 0, 0, 0, None, "[]", reason, "")
            book.run("INSERT INTO frame VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", row)
        rows = [("quarantined", "decode-failed", 1), ("stored", "stored", 9)]
        text = ("text", "skipped", "not-an-image", 1)
        assert read_ledger(book).counts() == {"stored": 0, "skipped": 1, "quarantined": 1}
        assert [*ledger_rows(book)] == [*(("cine", *row) for row in rows), text]
        assert [*quarantined_files(book, 9)] == [("cine", "decode-failed", "")]
        book.many("INSERT INTO before VALUES ('cine', ?, ?, ?)", rows)
        book.run("INSERT INTO before VALUES ('old', 'skipped', 'mask', 1)")
        assert [*ledger_rows(book)] == [text]
        assert totals(book) == {"stored": 0, "skipped": 2, "quarantined": 1}
        book.run("UPDATE frame SET reason = 'already-stored'")
        assert totals(book) == {"stored": 1, "skipped": 2, "quarantined": 0}


# ---- book


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
                for image in [replace(source(0, uid="", kind="raster"), archive=archive, path="a.png")]
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


# ---- identity


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
    group = names().group(source(1, patient=known, study=study, uid="1.2"), "")
    for other, other_study in others:
        same = names().group(source(1, patient=other, study=other_study, uid="1.2"), "") == group
        assert same == ((known or study, bool(known)) == (other or other_study, bool(other)))
