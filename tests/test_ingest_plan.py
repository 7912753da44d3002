"""Duplicates, groups, splits, order and places: decided before a pixel is written."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrad.errors import QuarantineBudgetError, UsageError
from pyrad.ingest.duplicates import File, find_copies, settle, undecided
from pyrad.ingest.ledger import Ledger
from pyrad.ingest.names import Names
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.plan import make_plan, rank_slices
from pyrad.ingest.scan import PixelDigests
from pyrad.ingest.secret import Secret
from pyrad.ingest.split import assign_splits, parse_ratios, parse_split
from pyrad.records import SPLITS, Source

SECRET = Secret(b"a secret", "the test")


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


def plan_of(files, options=None, groups=None):
    options = options or IngestOptions(src=(Path(),), store=Path("s.zarr"))
    return make_plan(
        files,
        slice_index=rank_slices(files, names()),
        groups=groups or {},
        options=options,
        names=names(options.group_by),
        digest_key=b"key",
        base="",
    )


def told(**changes):
    return IngestOptions(src=(Path(),), store=Path("s.zarr"), **changes)


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
    plan = plan_of(files)
    again = plan_of(files[::-1])
    assert plan == again
    assert [sample.key for sample in plan.samples] == sorted(sample.key for sample in plan.samples)
    assert [s.source.path for s in plan.samples] != sorted(s.source.path for s in plan.samples)


def test_the_digest_covers_what_shapes_bytes():
    files = [file(source(n)) for n in range(3)]
    base = plan_of(files).digest
    changed = [*files[:2], file(source(2, slope=2.0))]
    other_bytes = [*files[:2], replace(files[2], digest="other")]
    assert (
        len(
            {
                base,
                plan_of(changed).digest,
                plan_of(other_bytes).digest,
                plan_of(files, told(split="1/1/1")).digest,
            }
        )
        == 4
    )
    assert plan_of(files, told(workers=7, max_quarantine="50%")).digest == base


def test_a_patient_is_in_one_split():
    files = [file(source(n, patient=f"p{n % 7}", labels=(str(n % 4),))) for n in range(60)]
    by_group = {}
    for sample in plan_of(files).samples:
        by_group.setdefault(sample.group, set()).add(sample.split)
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
    assert len({sample.group for sample in plan_of(files, told(group_by=group_by)).samples}) == groups


def test_without_a_patient_the_study_groups_and_without_both_the_file():
    files = [file(source(n, patient="", study="1" if n < 2 else "")) for n in range(4)]
    assert len({sample.group for sample in plan_of(files).samples}) == 3


def test_a_patient_without_an_issuer_is_the_one_that_a_table_names():
    assert names().group(source(0, patient="p\0"), "") == names().group(source(1, patient="p"), "")
    assert names().group(source(0, patient="p\0Clinic"), "") != names().group(source(1, patient="p"), "")


def test_known_patients_keep_their_committed_split():
    files = [file(source(n, patient="p")) for n in range(5)]
    group = names().group(files[0].sources[0], "")
    for split in SPLITS:
        assert {sample.split for sample in plan_of(files, groups={group: split}).samples} == {split}


def test_a_layouts_split_wins_unless_one_is_given():
    files = [file(source(n, split="test")) for n in range(20)]
    own = plan_of(files)
    assert {sample.split for sample in own.samples} == {"test"}
    assert own.split == {"ratios": [75, 10, 15], "source": "layout"}
    given = plan_of(files, told(split="50/25/25"))
    assert Counter(sample.split for sample in given.samples) == {"train": 10, "val": 5, "test": 5}
    assert given.split == {"ratios": [50, 25, 25], "source": "ratios"}


def test_a_layouts_split_that_divides_a_patient_is_refused():
    files = [file(source(n, patient="p", split=split)) for n, split in enumerate(("train", "test", "train"))]
    with pytest.raises(UsageError, match=r"divides 1 patient groups \(3 images\)"):
        plan_of(files)


def test_slices_rank_by_position_then_by_instance():
    files = [
        file(source(n, series="s", position_mm=position, instance=instance))
        for n, (position, instance) in enumerate([(5.0, 1), (-2.5, 2), (None, 9), (None, 3), (0.0, 4)])
    ]
    ranks = rank_slices(files, names())
    assert [ranks[f.keys[0]] for f in files] == [2, 0, 4, 3, 1]
    assert rank_slices([file(source(1, series=""))], names()) == {}


def test_buckets_hold_one_geometry_and_every_sample_once():
    files = [file(source(n, rows=16 + n % 3, dtype="int16" if n % 2 else "uint16")) for n in range(30)]
    plan = plan_of(files)
    assert len(plan.buckets) == 6
    assert sorted(at for positions in plan.buckets.values() for at in positions) == list(range(30))
    for geometry, positions in plan.buckets.items():
        assert {plan.samples[at].geometry for at in positions} == {geometry}
        assert list(positions) == sorted(positions)


# ---- copies


def test_equal_copies_are_kept_once_with_all_labels():
    copies = [file(source(n, uid="1.2.9", patient="p", labels=(label,))) for n, label in enumerate("ba")]
    assert {f.id for f in undecided(find_copies(copies), ())} == {f.id for f in copies}
    pixels = {f.digest: PixelDigests(frames=("same",)) for f in copies}
    settled = settle(find_copies(copies), pixels)
    assert [f.id[1] for f in settled.kept] == ["000.dcm"]
    assert settled.kept[0].sources[0].labels == ("a", "b")
    assert settled.rejected == {(0, "001.dcm"): ("duplicate", "")}


def test_copies_that_differ_are_all_out():
    copies = [file(source(n, uid="1.2.9", patient="p")) for n in range(3)]
    pixels = {f.digest: PixelDigests(frames=("same" if n else "other",)) for n, f in enumerate(copies)}
    settled = settle(find_copies(copies), pixels)
    assert settled.kept == ()
    assert set(settled.rejected.values()) == {("uid-conflict", "")}
    other = [file(source(0, uid="1.2.9", patient="p")), file(source(1, uid="1.2.9", patient="q"))]
    assert undecided(find_copies(other), ()) == []
    assert len(settle(find_copies(other), {}).rejected) == 2


def test_a_copy_that_does_not_decode_says_nothing_about_the_others():
    copies = [file(source(n, uid="1.2.9", patient="p")) for n in range(2)]
    pixels = {
        copies[0].digest: PixelDigests(reason="decode-failed", detail="PixelData"),
        copies[1].digest: PixelDigests(frames=("x",)),
    }
    settled = settle(find_copies(copies), pixels)
    assert [f.id[1] for f in settled.kept] == ["001.dcm"]
    assert settled.rejected == {(0, "000.dcm"): ("decode-failed", "PixelData")}


def test_of_equal_bytes_the_held_out_copy_stays():
    copies = [
        file(source(n, uid="", kind="raster", patient="", split=split, labels=(split,)), digest="same")
        for n, split in enumerate(("train", "test", "val"))
    ]
    assert undecided(find_copies(copies), ()) == []
    settled = settle(find_copies(copies), {})
    assert [f.sources[0].split for f in settled.kept] == ["test"]
    assert settled.kept[0].sources[0].labels == ("test", "train", "val")


# ---- ledger


def test_the_budget_counts_quarantined_over_candidates():
    ledger = Ledger()
    for number in range(95):
        ledger.add((0, f"{number}"), "stored")
    ledger.add((0, "a.txt"), "not-an-image")
    for number in range(5):
        ledger.add((0, f"bad {number}"), "decode-failed")
    ledger.check_budget(0.05)
    ledger.add((0, "one more"), "decode-failed")
    with pytest.raises(QuarantineBudgetError, match=r"6 of 101 images .*decode-failed 6"):
        ledger.check_budget(0.05)
    ledger.check_budget(0.05, pending=[(0, f"later {n}") for n in range(40)])


def test_a_file_is_quarantined_if_any_of_its_frames_is():
    ledger = Ledger()
    ledger.add((0, "cine"), "stored", 9)
    ledger.add((0, "cine"), "decode-failed", 1)
    assert ledger.counts() == {"stored": 0, "skipped": 0, "quarantined": 1}
    assert [row[1:] for row in ledger.rows(str, {})] == [
        ("quarantined", "decode-failed", 1),
        ("stored", "stored", 9),
    ]
    before = {"cine": frozenset({("quarantined", "decode-failed", 1), ("stored", "stored", 9)})}
    assert ledger.rows(str, before) == []
    assert ledger.totals(str, before | {"old": frozenset({("skipped", "mask", 1)})}) == {
        "stored": 0, "skipped": 1, "quarantined": 1,
    }  # fmt: skip
