"""Ingests that are refused: one sentence, the right exit code, and nothing written."""

import numpy as np
import pytest
from archives import (
    dicom,
    ingest,
    pixels,
    png,
    samples_of,
    tree,
    two_classes,
)

from pyrad.errors import QuarantineBudgetError, SecretError, UsageError

pytestmark = pytest.mark.usefixtures("own_secret")


def test_usage_errors_write_nothing(tmp_path):
    store = tmp_path / "s.zarr"
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain.txt").write_text("just words")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("just words")
    for source in ("absent", "empty", "plain.txt", "texts"):
        with pytest.raises(UsageError) as caught:
            ingest(store, tmp_path / source)
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)
        assert not store.exists()
        assert not store.with_name("s.zarr.partial").exists()


def test_skips_that_leave_nothing_say_what_would_keep_them(tmp_path):
    dicom(tmp_path / "a/1.dcm", pixels(1, dtype=np.int16), uid="1.2.3", BurnedInAnnotation="YES")
    with pytest.raises(UsageError, match=r"burned-in-annotation 1.*--burned-in crop-us-region or.*allow"):
        ingest(tmp_path / "s.zarr", tmp_path / "a")
    assert ingest(tmp_path / "s.zarr", tmp_path / "a", burned_in="allow").images == 1


def test_a_path_that_is_no_store(tmp_path):
    two_classes(tmp_path / "a", 2)
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="no pyrad store"):
        ingest(tmp_path / "s.zarr", tmp_path / "a")
    assert tree(tmp_path / "s.zarr") == {"notes.txt": b"mine"}


def test_another_secret_is_refused(tmp_path, monkeypatch):
    store = tmp_path / "s.zarr"
    ingest(store, two_classes(tmp_path / "a", 2))
    before = tree(store)
    monkeypatch.setenv("PYRAD_SECRET", "another")
    with pytest.raises(SecretError, match="another secret") as caught:
        ingest(store, two_classes(tmp_path / "a", 3))
    assert caught.value.exit_code == 6
    monkeypatch.delenv("PYRAD_SECRET")
    with pytest.raises(SecretError, match="none is given"):
        ingest(store, tmp_path / "a")
    assert not (tmp_path / "config").exists()
    assert tree(store) == before


def test_too_much_quarantine_commits_nothing_and_a_larger_budget_resumes(tmp_path):
    folder, store = two_classes(tmp_path / "a"), tmp_path / "s.zarr"
    cut = (folder / "sick/0.png").read_bytes()
    (folder / "sick/cut.png").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(QuarantineBudgetError, match=r"1 of 17 images .*5.9 %") as caught:
        ingest(store, folder)
    assert caught.value.exit_code == 4
    assert not store.exists()
    assert ingest(store, folder, max_quarantine="6%").exit_code == 3
    everything_bad = tmp_path / "b"
    everything_bad.mkdir()
    (everything_bad / "cut.png").write_bytes(cut[: len(cut) // 2])
    with pytest.raises(QuarantineBudgetError):
        ingest(tmp_path / "t.zarr", everything_bad)


@pytest.mark.parametrize(
    ("percent", "budget", "exit_code"), [(1, "5%", 3), (10, "10%", 3), (10, "5%", 4), (100, "5%", 4)]
)
def test_the_share_of_bad_files_decides(tmp_path, percent, budget, exit_code):
    folder, store = tmp_path / "a", tmp_path / "s.zarr"
    for n in range(100):
        file = png(folder / f"{'ab'[n % 2]}/{n}.png", pixels(n))
        if n < percent:
            file.write_bytes(file.read_bytes()[:40])
    if exit_code == 3:
        summary = ingest(store, folder, max_quarantine=budget)
        assert (summary.exit_code, summary.quarantined) == (3, {"raster-damaged": percent})
        stored = {row["image"].tobytes() for row in samples_of(store)}
        assert stored == {pixels(n).tobytes() for n in range(percent, 100)}
    else:
        with pytest.raises(QuarantineBudgetError) as caught:
            ingest(store, folder, max_quarantine=budget)
        assert caught.value.exit_code == 4
        assert not store.exists()


def test_a_run_that_is_refused_leaves_no_private_folder(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("just words")
    with pytest.raises(UsageError):
        ingest(tmp_path / "s.zarr", tmp_path / "texts")
    assert not (tmp_path / "private").exists()
