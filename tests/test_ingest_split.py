"""Patients divided by ratio: every stratum and the whole keep it, and a rank decides."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import told

from pyrad.errors import UsageError
from pyrad.ingest.split import assign_splits, parse_ratios, parse_split
from pyrad.records import SPLITS

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
