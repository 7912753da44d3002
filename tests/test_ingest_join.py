"""A table without paths joins by what headers say; what fits nothing, or too much, is counted both ways."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from archives import Listener, dicom, ingest, ledger_of, pixels, samples_of, table
from hypothesis import given
from hypothesis import strategies as st

from pyrad.errors import UsageError
from pyrad.ingest.layouts import Listing
from pyrad.ingest.layouts.arrange import make_arranger, new_census
from pyrad.ingest.layouts.select import select
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.packing import pack_source
from pyrad.ingest.reasons import Rejected
from pyrad.records import Source


def image(name, **facts):
    return Source(archive=0, path=name, kind="dicom", rows=8, columns=8, dtype="int16", **facts)


def joined(text, sources, *columns):
    """Arrange the files of an archive by its root table; path -> source or reason, and the notes."""
    options = IngestOptions(src=(Path("x"),), store=Path("s.zarr"), columns=columns)
    paths = (*(source.path for source in sources), "labels.csv")
    listings = [Listing(path=Path("x"), paths=paths, read=lambda _: text.encode())]
    selection = select(listings, options)
    assert {selection.skip_reason((0, source.path)) for source in sources} <= {None}
    found = new_census(selection)
    for source in sources:
        found[0].count(source.path, pack_source(source), dicom=True)
    arrange, notes = make_arranger(found, selection, listings, options)

    def outcome(source):
        try:
            return arrange((0, source.path), (source,))[0]
        except Rejected as rejected:
            return rejected.reason

    return {source.path: outcome(source) for source in sources}, notes


def test_rows_join_by_uid():
    sources = [image("a", uid="1.2.1", patient="p"), image("b", uid="1.2.2"), image("c")]
    found, notes = joined("sop,label\n1.2.1,x\n1.2.1,y\n1.2.9,z\n", sources, "uid=sop", "label=label")
    assert (found["a"].labels, found["a"].patient, found["a"].uid) == (("x", "y"), "p", "1.2.1")
    assert (found["b"], found["c"]) == ("not-in-table", "not-in-table")
    assert "labels.csv: row 4 fit no file (1 in all)" in notes
    assert "labels.csv: 2 files fit no row and are left out" in notes


def test_a_row_joins_by_the_finest_key_that_it_fills_and_a_file_takes_the_finest_row():
    text = "sop,st,acc,label\n1.2.1,7,A,image\n,7,A,study\n,,A,order\n"
    sources = [
        image("a", uid="1.2.1", study="7", accession="A"),
        image("b", uid="1.2.2", study="7", accession="A"),
        image("c", uid="1.2.3", study="8", accession="A"),
    ]
    found, notes = joined(text, sources, "uid=sop", "study=st", "accession=acc")
    assert [found[name].labels for name in "abc"] == [("image",), ("study",), ("order",)]
    assert {source.accession for source in found.values()} == {""}
    assert notes == []


def test_an_accession_number_of_two_patients_says_nothing():
    sources = [
        image("a", accession="A", patient="p"),
        image("b", accession="A", patient="q"),
        image("c", accession="B", patient="q"),
    ]
    found, notes = joined("acc,label\nA,x\nB,y\nA,z\n", sources, "accession=acc")
    assert (found["a"], found["b"], found["c"].labels) == ("ambiguous-row", "ambiguous-row", ("y",))
    assert notes == ["labels.csv: rows 2, 4 fit files of several patients: the 2 files are quarantined"]


def test_a_table_of_several_archives_counts_its_rows_over_all(tmp_path):
    file = table(tmp_path / "t.csv", "st,label\n7,x\n8,y\n9,z\n")
    options = IngestOptions(
        src=(Path("x"), Path("y")), store=Path("s.zarr"), table=file, columns=("study=st",)
    )
    listings = [Listing(path=Path(name), paths=("a",), read=lambda _: b"") for name in "xy"]
    selection = select(listings, options)
    found = new_census(selection)
    found[0].count("a", pack_source(image("a", study="7")), dicom=True)
    found[1].count("a", pack_source(image("a", study="8")), dicom=True)
    arrange, notes = make_arranger(found, selection, listings, options)
    assert arrange((1, "a"), (image("a", study="8"),))[0].labels == ("y",)
    assert notes == ["t.csv: row 4 fit no file (1 in all)"]


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        ("sop,label\n9,x\n8,y\n", ("uid=sop",), "none of its 2 rows has a UID.* 1 files were read"),
        ("sop,label\n1,x\n,y\n", ("uid=sop",), "row 3 have no UID, study or accession number"),
        ("sop,label,p\n1,x,a\n1,y,b\n", ("uid=sop", "patient=p"), "rows 2, 3 are of one file and differ"),
        ("sop,path,label\n1,a,x\n", ("uid=sop", "path=path"), "uid beside path or mask"),
        ("sop,m,label\n1,a,x\n", ("uid=sop", "mask=m"), "uid beside path or mask"),
        ("sop,label\n1,x\n", ("uid=uid",), "has no column uid"),
    ],
)
def test_what_is_refused(text, columns, says):
    with pytest.raises(UsageError, match=says):
        joined(text, [image("a", uid="1")], *columns)


def test_a_column_of_paths_gives_way_to_a_key_that_is_asked_for():
    found, _ = joined("sop,path,label\n1,elsewhere.dcm,x\n", [image("a", uid="1")], "uid=sop")
    assert found["a"].labels == ("x",)


def test_join_keys_are_not_copied_into_a_store():
    options = IngestOptions(
        src=(Path("x"),), store=Path("s"), columns=("accession=acc",), keep_columns=("acc",)
    )
    listing = Listing(path=Path("x"), paths=("labels.csv",), read=lambda _: b"acc,label\nA,x\n")
    with pytest.raises(UsageError, match="identify a file or a patient"):
        select([listing], options)


keys = st.sampled_from(["", "1", "2", "3"])


@given(st.lists(st.tuples(keys, keys, keys), max_size=8), st.lists(st.tuples(keys, keys), max_size=8))
def test_every_row_and_every_file_is_accounted_for(files, rows):
    rows = [row for row in rows if any(row)]
    lines = [f"{study},{accession},r{n}" for n, (study, accession) in enumerate(rows)]
    sources = [
        image(f"f{n}", study=study, accession=accession, patient=patient)
        for n, (study, accession, patient) in enumerate(files)
    ]
    try:
        found, _ = joined("\n".join(["st,acc,label", *lines]), sources, "study=st", "accession=acc")
    except UsageError:
        found = {}
    taken = {label for it in found.values() if not isinstance(it, str) for label in it.labels}
    by_study = {study for study, _ in rows if study}
    by_accession = {accession for study, accession in rows if not study}
    fits = [source.study in by_study or source.accession in by_accession for source in sources]
    if found:
        assert [it != "not-in-table" for it in found.values()] == fits
        assert taken <= {f"r{n}" for n in range(len(rows))}
    else:
        assert not any(fits)


def test_an_ingest_by_accession_number(tmp_path, monkeypatch):
    monkeypatch.setenv("PYRAD_SECRET", "of the tests")
    archive = tmp_path / "a"
    for n, (accession, patient) in enumerate((("ACC-1", "P1"), ("ACC-1", "P1"), ("ACC-2", "P2"), ("", "P3"))):
        dicom(
            archive / f"{n}.dcm",
            pixels(n, dtype=np.int16),
            uid=f"1.2.{n}",
            patient=patient,
            study=f"1.3.{patient[1]}",
            series=f"1.4.{patient[1]}",
            AccessionNumber=accession,
        )
    file = table(tmp_path / "ris.csv", "ACC,finding\nACC-1,nodule\nACC-2,normal\nACC-9,mass\n")
    listener = Listener()
    store = tmp_path / "x.zarr"
    options = {"table": file, "columns": ("accession=ACC", "label=finding"), "reporter": listener}
    ingest(store, archive, **options)
    assert Counter(tuple(s["labels"]) for s in samples_of(store)) == {("nodule",): 2, ("normal",): 1}
    assert Counter(row[2] for row in ledger_of(store))["not-in-table"] == 1
    said = " ".join(listener.said)
    assert "ris.csv: row 4 fit no file (1 in all)" in said
    assert "ris.csv: 1 files fit no row" in said
    for path in tmp_path.rglob("x.zarr/**/*"):
        assert path.is_dir() or b"ACC-1" not in path.read_bytes()
