"""A patient who is forgotten is in no file of a store, comes back in no ingest; nobody else is touched."""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from archives import dicom, ingest, ledger_of, pixels, png, samples_of, table, tree
from forgetting import archive, copy_of, images_of, patient_of, run

from pyrad import cli
from pyrad.errors import SecretError, UsageError
from pyrad.ingest.privacy.audit import AuditLog
from pyrad.ingest.privacy.folder import PrivateFolder
from pyrad.ingest.privacy.secret import own_secret
from pyrad.store.reader import open_store
from pyrad.store.verify import verify

pytestmark = pytest.mark.usefixtures("own_secret")


@pytest.fixture
def store(tmp_path, four_patients):
    return copy_of(four_patients, tmp_path)


def test_a_patient_goes_and_the_others_stay_as_they_are(store):
    before, whose, sources = images_of(store), patient_of(store), {row[0] for row in ledger_of(store)}
    inodes = {file.stat().st_ino for file in store.rglob("c/*/*/*")}
    assert run(store, "P2\n") == {
        "store": "s.zarr",
        "images": 3,
        "groups": 1,
        "marked_groups": 1,
        "marked_images": 0,
        "remembered": 1,
        "trained_on_it": [],
    }
    after = images_of(store)
    assert after == {key: row for key, row in before.items() if whose[key] != "P2"}
    assert len(ledger_of(store)) == 9
    assert {row[0] for row in ledger_of(store)} < sources
    counts = verify(store)
    assert (counts["samples"], counts["groups"], counts["parts"]) == (9, 3, 1)
    assert [path.name for path in (store / "parts").iterdir() if path.is_dir()] == ["000002"]
    assert not store.with_name("s.zarr.partial").exists()
    assert "P2" not in patient_of(store).values()
    assert (
        len(inodes & {file.stat().st_ino for file in store.rglob("c/*/*/*")}) >= 1
    )  # untouched shards are linked


def test_no_byte_of_the_patient_is_left(store):
    """Every chunk of every image of the patient is searched for in every file."""
    whose, chunks, names = patient_of(store), [], set()
    with open_store(store) as opened:
        for index, key in enumerate(opened.samples["key"].to_pylist()):
            if whose[key] == "P2":
                located = opened.locate(np.array([index]))
                with opened.pinned(located.shard) as fds:
                    chunks.append(os.pread(int(fds[0]), int(located.size[0]), int(located.offset[0])))
                names |= {key, opened.samples["group"][index].as_py(), opened.samples["study"][index].as_py()}
    names |= {f"P2/{number}.dcm" for number in range(3)}
    run(store, "P2\n")
    texts = json.dumps(list(samples_of(store)), default=str) + json.dumps(ledger_of(store))
    assert len(chunks) == 3
    for path in [*store.rglob("*"), *(store.parent / "private").rglob("*")]:
        if path.is_file():
            data = path.read_bytes()
            assert not [chunk for chunk in chunks if chunk in data], path
            assert not [name for name in names if name.encode() in data], path
    assert not [name for name in names if name in texts]


def test_the_patient_does_not_come_back_and_others_do(store, tmp_path):
    run(store, "P2\n")
    before = tree(store)
    summary = ingest(store, tmp_path / "a")
    assert (summary.part, summary.skipped) == (None, {"already-stored": 9, "forgotten": 3})
    assert tree(store) == before
    # A new file of the same patient, from another study, under another name.
    dicom(tmp_path / "b/new.dcm", pixels(5, dtype="int16"), uid="1.7", patient="P2", study="1.8")
    summary = ingest(store, archive(tmp_path / "b", ["P5"]))
    assert summary.skipped == {"forgotten": 1}
    assert summary.images == 3
    assert "P2" not in patient_of(store).values()
    private = PrivateFolder(tmp_path / "private", "")
    assert not [trace.path for trace in private.traces(str(store)) if trace.path == "new.dcm"]
    assert verify(store)["groups"] == 4
    with open_store(store) as opened:
        assert len(opened.manifest.forgotten) == 1


def test_traces_of_images_that_were_never_stored_go_too(tmp_path):
    store, uid = tmp_path / "s.zarr", "1.5.5"
    archive(tmp_path / "a", ["P1", "P2"])
    for number in range(2):  # one UID, two images: both are quarantined
        dicom(tmp_path / f"a/twice/{number}.dcm", pixels(number, dtype="int16"), uid=uid, patient="P1")
    ingest(store, tmp_path / "a", max_quarantine="50%")
    private = PrivateFolder(tmp_path / "private", "")
    assert len([trace for trace in private.traces(str(store)) if trace.reason == "uid-conflict"]) == 2
    (tmp_path / "private/book-left-by-nobody.sqlite").write_bytes(b"")
    left = tmp_path / f"private/{private._book_name(store)}"
    left.write_bytes(b"of a killed ingest")
    run(store, "P1\n")
    assert {trace.path.split("/")[0] for trace in private.traces(str(store))} == {"P2"}
    assert {row[1] for row in ledger_of(store)} == {"stored"}
    assert open_store(store).manifest.counts["quarantined"] == 0
    assert not left.exists()


def test_a_group_is_named_by_its_key_where_nobody_knows_the_patients_id(tmp_path):
    store = tmp_path / "s.zarr"
    for number in range(4):
        png(tmp_path / f"a/x/{number}.png", pixels(number))
    ingest(store, tmp_path / "a")
    row = samples_of(store)[0]
    done = run(store, row["group"] + "\n")
    assert (done["marked_groups"], done["marked_images"], done["remembered"]) == (1, 1, 2)
    assert row["key"] not in images_of(store)
    assert ingest(store, tmp_path / "a").skipped == {"already-stored": 3, "forgotten": 1}


def test_several_parts_masks_and_kept_columns(tmp_path):
    store, rows = tmp_path / "s.zarr", ["path,label,patient,mask,site"]
    for patient, number in itertools.product("ABC", range(2)):
        png(tmp_path / f"a/{patient}/{number}.png", pixels(10 * ord(patient) + number))
        png(tmp_path / f"a/{patient}/{number}_mask.png", pixels(7, high=2) * 255)
        mask = f"{patient}/{number}_mask.png" if patient == "B" else ""
        rows.append(f"{patient}/{number}.png,x,{patient},{mask},here")
    options = {"table": table(tmp_path / "t.csv", "\n".join(rows)), "keep_columns": ("site",)}
    ingest(store, tmp_path / "a", **options)
    (tmp_path / "b/D").mkdir(parents=True)
    png(tmp_path / "b/D/0.png", pixels(1))
    second = table(tmp_path / "u.csv", "path,label,patient\nD/0.png,x,D")
    ingest(store, tmp_path / "b", table=second)
    third = table(tmp_path / "v.csv", "path,label,patient\nA/9.png,x,A\nE/9.png,x,E")
    png(tmp_path / "c/A/9.png", pixels(91))
    png(tmp_path / "c/E/9.png", pixels(92))
    ingest(store, tmp_path / "c", table=third)
    before, whose = images_of(store), patient_of(store)
    untouched = {name: data for name, data in tree(store).items() if name.startswith("parts/000002/")}
    run(store, "patient_id\nA\nB\n")
    assert images_of(store) == {key: row for key, row in before.items() if whose[key] not in "AB"}
    assert [part.id for part in open_store(store).manifest.parts] == ["000002", "000004", "000005"]
    after = tree(store)
    assert untouched == {name: data for name, data in after.items() if name.startswith("parts/000002/")}
    assert not [name for name in after if "/masks/" in name]  # only B had masks
    assert verify(store)["samples"] == 4


def test_everybody_may_be_forgotten(tmp_path):
    store = tmp_path / "s.zarr"
    ingest(store, archive(tmp_path / "a", ["P1"]))
    run(store, "P1\n")
    assert verify(store)["samples"] == 0
    assert images_of(store) == {}
    assert cli.main(["info", str(store)]) == 0
    with pytest.raises(UsageError, match=r"no image to store in a \(forgotten 3\)"):
        ingest(store, tmp_path / "a")
    assert ingest(store, archive(tmp_path / "b", ["P2"])).images == 3
    assert verify(store)["groups"] == 1


def test_a_line_that_names_nobody_changes_nothing(store, tmp_path):
    before = tree(store)
    with pytest.raises(UsageError, match=r"row 3 name nobody in s\.zarr") as caught:
        run(store, "P1\n\nDoe^John\n")
    assert "Doe" not in str(caught.value)
    for text in ("", "a,b,c\n", ",x\n"):
        with pytest.raises(UsageError, match=r"names nobody|neither"):
            run(store, text)
    assert tree(store) == before
    run(store, "P1\nDoe^John\n", unknown="remember")
    dicom(tmp_path / "b/x.dcm", pixels(5, dtype="int16"), uid="1.7", patient="Doe^John")
    with pytest.raises(UsageError, match="forgotten 1"):
        ingest(store, tmp_path / "b")


def test_an_issuer_belongs_to_the_id(tmp_path):
    store = tmp_path / "s.zarr"
    for issuer in ("N", "S"):
        image = pixels(ord(issuer), dtype="int16")
        dicom(
            tmp_path / f"a/{issuer}.dcm", image, uid=f"1.{ord(issuer)}", patient="7", IssuerOfPatientID=issuer
        )
    ingest(store, tmp_path / "a")
    with pytest.raises(UsageError, match="with its issuer"):
        run(store, "7\n")
    assert run(store, "7,S\n")["images"] == 1


def test_a_study_is_forgotten_where_the_store_groups_by_study(tmp_path):
    store = tmp_path / "s.zarr"
    ingest(store, archive(tmp_path / "a", ["P1", "P2"]), group_by="study")
    assert run(store, f"1.9.{sum(map(ord, 'P1'))}\n")["images"] == 3
    assert ingest(store, tmp_path / "a", group_by="study").skipped == {"already-stored": 3, "forgotten": 3}


def test_running_it_again_changes_nothing(store):
    run(store, "P1\n")
    before = tree(store)
    assert run(store, "P1\n")["images"] == 0
    assert tree(store) == before


def test_the_secret_is_asked_for(store, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", "another")
    with pytest.raises(SecretError):
        run(store, "P1\n")


def test_models_that_were_trained_on_it_are_listed_and_it_is_noted(store, tmp_path, capsys):
    then = open_store(store).fingerprint
    ingest(store, archive(tmp_path / "b", ["P5"]))
    now = open_store(store).fingerprint
    records = {
        "then": {"store_fingerprint": then, "options": {"store": "moved.zarr"}},
        "now": {"store_fingerprint": now},
        "path": {"store_fingerprint": "0" * 64, "options": {"store": str(store)}},
        "other": {"store_fingerprint": "1" * 64, "options": {"store": "/other.zarr"}},
        "odd": [],
    }
    for name, record in records.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text(json.dumps(record))
    (tmp_path / "list").write_text("P1\n")
    words = ["forget", store, "--patients", tmp_path / "list", "--private", tmp_path / "private"]
    assert cli.main([*map(str, words), "--runs", str(tmp_path / "runs"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    found = {(Path(run["run"]).name, run["by"]) for run in record["trained_on_it"]}
    assert found == {("then", "fingerprint"), ("now", "fingerprint"), ("path", "path")}
    last = AuditLog(tmp_path / "private", own_secret(None)).check_chain().entries[-1]
    assert (last["event"], last["images"], last["store"]) == ("forget done", 3, "s.zarr")
    assert "P1" not in (tmp_path / "private/audit.jsonl").read_text()
