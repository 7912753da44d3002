"""Tables, folders and tags: what is accepted and what is refused, with row numbers (docs/layouts.md)."""

from pathlib import Path

import pytest
from archives import table

from pyrad.errors import UsageError
from pyrad.ingest.anatomy import packaged
from pyrad.ingest.layouts import Listing
from pyrad.ingest.layouts.arrange import Census, make_arranger
from pyrad.ingest.layouts.folders import folder_labels
from pyrad.ingest.layouts.select import select
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.packing import pack_source
from pyrad.ingest.table import merge_rows, parse_roles, read_table
from pyrad.records import Source

PATHS = ("a/1.png", "a/2.png", "b/1.png", "b/3.jpeg", "m/1_mask.png", "m/2_mask.png")


def read(text, *columns, keep=(), need_label=True):
    data = text.encode() if isinstance(text, str) else text
    return read_table(
        data, "t.csv", roles=parse_roles(columns), anatomy=packaged(), keep=keep, need_label=need_label
    )


def told(**options):
    return IngestOptions(src=(Path("x"),), store=Path("s.zarr"), **options)


def listing(*paths, tables=None, path="x"):
    tables = tables or {}
    return Listing(path=Path(path), paths=(*paths, *tables), read=lambda name: tables[name].encode())


def match(text, *paths, **options):
    """Rows of a root table that match ``paths``, by path."""
    selection = select([listing(*(paths or PATHS), tables={"labels.csv": text})], told(**options))
    return {path: row for (_, path), row in selection.rows.items()}, selection


def image(path, kind="raster", **facts):
    return Source(archive=0, path=path, kind=kind, rows=8, columns=8, dtype="uint8", **facts)


# ---- tables


@pytest.mark.parametrize(
    "text",
    [
        "path,label,patient\na/1.png,x,p\n",
        "\ufeffpath,label,patient\r\na/1.png,x,p\r\n",
        " path , label,\tpatient\na/1.png , x , p",
        "path;label;patient\na/1.png;x;p\n",
        "patient\tlabel\tpath\np\tx\ta/1.png\n",
        'extra,path,label,patient\n"one, two\nlines",a/1.png,x,p\n\n  \n',
    ],
)
def test_what_is_accepted(text):
    (row,) = read(text).rows
    assert (row.path, row.labels, row.patient) == ("a/1.png", ("x",), "p")


def test_rows_are_numbered_as_an_editor_shows_them():
    text = 'path,label\n\na,x\n"b\n",y\nc,z\n'
    assert [row.number for row in read(text).rows] == [3, 4, 6]


@pytest.mark.parametrize("cell", ["", " ", "nan", "NaN", "NA", "n/a", "null", "<NA>", "|", "nan|"])
def test_a_label_that_is_missing_is_no_label(cell):
    assert read(f"path,label\na,x\nb,{cell}\n").rows[1].labels == ()


def test_several_labels_are_sorted_and_single():
    assert read("path,label\na,y| x |y\n").rows[0].labels == ("x", "y")


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        ("", (), "t.csv is empty"),
        ("\n\n", (), "t.csv is empty"),
        ("file,label\na,x\n", (), "no column for path; its columns are file, label"),
        ("path,grade\na,x\n", (), "no column for label; its columns are path, grade"),
        ("path,label\na,x\n", ("label=grade",), "no column grade; its columns are path, label"),
        ("path,label,label\na,x,y\n", (), "two columns of the name label"),
        ("path,label\na,x\nb\nc,y,z\nd\n", (), "rows 3, 4, 5 do not have the header's 2 columns"),
        ("path,label\na,x\n,y\n", (), "row 3 have no path"),
        ('path,label\na,"x\n', (), "is no CSV"),
        (b"path,label\na,x\nb,\xff\n", (), r"not UTF-8 text \(row 3\)"),
        ("path,label,m\na,x,ct\nb,y,tomo\n", ("modality=m",), "row 3 have another word than .*CT.* column m"),
        ("path,label,an\na,x,\nb,y,Hans\n", ("anatomy=an",), "row 3 have another word .*anatomy-table"),
        ("path,label,split\na,x,train\nb,y,later\n", ("split=split",), "row 3 have another word than train"),
    ],
)
def test_what_is_refused(text, columns, says):
    with pytest.raises(UsageError, match=says):
        read(text, *columns)


def test_a_message_never_quotes_a_cell():
    for text in ("path,label,split\nMUELLER,x,MUELLER\n", "path,label\nMUELLER,x,y\n", "path\nMUELLER\n"):
        with pytest.raises(UsageError) as caught:
            read(text, *(["split=split"] if "split" in text else []))
        assert "MUELLER" not in str(caught.value)


@pytest.mark.parametrize(
    "words", ["label", "label=", "=x", "colour=x", "label=a,label=b", "group=a,patient=b"]
)
def test_roles_that_are_none(words):
    with pytest.raises(UsageError, match="--columns"):
        parse_roles(words.split(","))


def test_every_role_can_be_mapped():
    header = "f,l,p,st,se,sp,m,mo,an"
    columns = ["path=f", "label=l", "group=p", "study=st", "series=se", "split=sp"]
    columns += ["mask=m", "modality=mo", "anatomy=an"]
    (row,) = read(f"{header}\na,x,pat,1,2,Testing,k|j,ct,Knee joint\n", *columns).rows
    assert (row.path, row.labels, row.patient, row.study, row.series) == ("a", ("x",), "pat", "1", "2")
    assert (row.split, row.masks, row.modality, row.anatomy) == ("test", ("j", "k"), "CT", "knee")


def test_identifiers_are_not_copied_into_a_store():
    text = "path,label,pid,side\na,x,p,L\n"
    assert read(text, "group=pid", keep=("side",)).rows[0].kept == {"side": "L"}
    with pytest.raises(UsageError, match="identify a file or a patient"):
        read(text, "group=pid", keep=("side", "pid"))
    with pytest.raises(UsageError, match="no column site"):
        read(text, keep=("site",))
    with pytest.raises(UsageError, match="rename them"):
        match("path,label,view\na/1.png,x,PA\n", keep_columns=("view",))


def test_rows_of_one_file():
    rows = read("path,label,patient\na,x,p\na,y,\na,,p\n").rows
    merged = merge_rows(rows, "t.csv")
    assert (merged.labels, merged.patient) == (("x", "y"), "p")
    with pytest.raises(UsageError, match="rows 2, 3 are of one file and differ in patient"):
        merge_rows(read("path,label,patient\na,x,p\na,y,q\n").rows, "t.csv")


# ---- paths


@pytest.mark.parametrize("name", ["a/1.png", "./a/1.png", "/a/1.png", "a\\1.png", "a/1"])
def test_what_a_path_may_look_like(name):
    assert list(match(f"path,label\n{name},x\n")[0]) == ["a/1.png"]


@pytest.mark.parametrize("name", ["3.jpeg", "3"])
def test_a_bare_name_finds_the_only_file_of_that_name(name):
    assert list(match(f"path,label\n{name},x\n")[0]) == ["b/3.jpeg"]


def test_a_name_that_could_mean_several_files_is_refused():
    with pytest.raises(UsageError, match="row 3 could mean several files"):
        match("path,label\na/1.png,x\n1.png,y\n")
    with pytest.raises(UsageError, match="row 2 could mean several files"):
        match("path,label\nx/1,y\n", "x/1.png", "x/1.jpg")


def test_paths_never_leave_the_archive():
    with pytest.raises(UsageError, match="none of its 2 rows matches"):
        match("path,label\n../../etc/passwd,x\n/etc/passwd,y\n")


def test_absent_files_are_counted_and_told():
    rows, selection = match("path,label\na/1.png,x\nq.png,y\nr.png,z\n")
    assert list(rows) == ["a/1.png"]
    assert any("rows 3, 4 name files that are not there (2 in all)" in note for note in selection.notes)
    assert selection.skip_reason((0, "a/2.png")) == "not-in-table"
    assert selection.skip_reason((0, "a/1.png")) is None
    with pytest.raises(UsageError, match=r"none of its 1 rows matches a file of x; .*columns: path, label"):
        match("path,label\nq.png,y\n")
    with pytest.raises(UsageError, match="none of its 0 rows"):
        match("path,label\n")


def test_labels_that_are_all_missing_are_refused_and_some_are_told():
    with pytest.raises(UsageError, match="column label is empty in every row"):
        match("path,label\na/1.png,\na/2.png,nan\n")
    _, selection = match("path,label\na/1.png,\na/2.png,x\n")
    assert any("row 2 have no label" in note for note in selection.notes)


def test_a_forgotten_patient_column_is_told():
    _, selection = match("path,label,patient_id\na/1.png,x,p\n")
    assert any("--columns group=patient_id" in note for note in selection.notes)
    _, selection = match("path,label,patient_id\na/1.png,x,p\n", columns=("group=patient_id",))
    assert not any("group=" in note for note in selection.notes)


def test_masks_are_no_images():
    lines = ["a/1.png,x,1_mask.png|m/2_mask.png", "a/2.png,y,", "b/1.png,y,absent.png", "m/1_mask.png,x,"]
    text = "\n".join(["path,label,mask", *lines])
    rows, selection = match(text, columns=("mask=mask",))
    assert rows["a/1.png"].masks == ("m/1_mask.png", "m/2_mask.png")
    assert selection.skip_reason((0, "m/1_mask.png")) == "mask"
    assert selection.maskless == {(0, "b/1.png")}
    with pytest.raises(UsageError, match="none of the masks"):
        match("path,label,mask\na/1.png,x,absent.png\n", columns=("mask=mask",))


# ---- which layout


def test_auto_reads_a_root_table_also_below_a_single_top_folder():
    for top in ("", "data/"):
        tables = {f"{top}manifest.csv": "path\na/1.png\n"}
        selection = select([listing(f"{top}a/1.png", f"{top}b/2.png", tables=tables)], told())
        assert selection.layouts == ("table",)
        assert list(selection.rows) == [(0, f"{top}a/1.png")]
    deep = {"x/y/manifest.csv": "path\na/1.png\n"}
    assert select([listing("a/1.png", tables=deep)], told()).layouts == ("auto",)


def test_labels_csv_comes_before_manifest_csv():
    tables = {"manifest.csv": "nonsense", "labels.csv": "path,label\na/1.png,x\n"}
    assert select([listing("a/1.png", tables=tables)], told()).layouts == ("table",)


def test_the_table_layout_needs_a_table_and_a_label():
    with pytest.raises(UsageError, match="no table is given"):
        select([listing("a/1.png")], told(layout="table"))
    with pytest.raises(UsageError, match="no table is given"):
        select([listing("a/1.png")], told(columns=("label=grade",)))
    with pytest.raises(UsageError, match="no column for label"):
        match("path\na/1.png\n", layout="table")
    assert list(match("path\na/1.png\n")[0]) == ["a/1.png"]


def test_a_table_given_by_name(tmp_path):
    file = table(tmp_path / "outside.csv", "path,label\na/1.png,x\n")
    sources = [listing(*PATHS), listing("c/9.png")]
    selection = select(sources, told(table=file))
    assert selection.layouts == ("table", "table")
    assert list(selection.rows) == [(0, "a/1.png")]
    with pytest.raises(UsageError, match="could mean several"):
        select([listing("a/1.png"), listing("a/1.png")], told(table=file))
    with pytest.raises(UsageError, match="cannot be read"):
        select(sources, told(table=tmp_path / "absent.csv"))


@pytest.mark.parametrize("layout", ["dicom", "folder"])
def test_options_that_contradict_each_other(layout):
    with pytest.raises(UsageError, match="reads none"):
        told(layout=layout, table=Path("t.csv"))
    with pytest.raises(UsageError, match="reads none"):
        told(layout=layout, columns=("label=x",))


@pytest.mark.parametrize(
    "changes",
    [
        *({"layout": "imagenet"}, {"group_by": "ward"}, {"codec": "lz4"}, {"color": "red"}),
        *({"burned_in": "maybe"}, {"frames": "some"}, {"frames": "every:0"}, {"frames": "every:x"}),
        *({"frames": "every:-1"}, {"workers": 0}, {"max_quarantine": "101%"}, {"max_quarantine": "-1%"}),
        *({"max_quarantine": "few"}, {"max_quarantine": "nan"}, {"src": ()}),
    ],
)
def test_options_are_checked_at_the_door(changes):
    with pytest.raises(UsageError):
        IngestOptions(**{"src": (Path("x"),), "store": Path("s.zarr"), **changes})


def test_quarantine_shares():
    assert [told(max_quarantine=text).quarantine_share for text in ("5%", "0.5 %", "0", "1", "100%")] == [
        0.05, 0.005, 0, 1, 1,
    ]  # fmt: skip


# ---- labels


def test_folders_are_labels():
    assert folder_labels(["a", "CT/abd/normal", ""]) == {
        "a": ("a", None),
        "CT/abd/normal": ("CT/abd/normal", None),
        "": ("", None),
    }
    assert folder_labels(["top", "top/a"], "top/") == {"top": ("", None), "top/a": ("a", None)}


def test_folders_named_like_splits_are_the_split():
    assert folder_labels(["Training/x", "Testing/x", "Testing/y"]) == {
        "Training/x": ("x", "train"),
        "Testing/x": ("x", "test"),
        "Testing/y": ("y", "test"),
    }
    assert folder_labels(["test/x", "other/x"])["test/x"] == ("test/x", None)


def arranged(sources, options=None, **listed):
    options = options or told()
    listings = [listing(*(source.path for source in sources), **listed)]
    selection = select(listings, options)
    census = Census()
    for source in sources:
        census.count(source.path, pack_source(source), dicom=source.kind == "dicom")
    arrange, notes = make_arranger([census], selection, listings, options)
    return {source.path: arrange((0, source.path), (source,))[0] for source in sources}, notes


def test_auto_takes_dicom_by_its_tags_and_rasters_by_their_folders():
    dicom, _ = arranged([image(f"a/{n}.dcm", "dicom", patient="p") for n in range(3)] + [image("a/x.png")])
    assert {source.labels for source in dicom.values()} == {()}
    rasters, _ = arranged([image(f"a/{n}.png") for n in range(3)] + [image("b/x.dcm", "dicom", patient="p")])
    assert rasters["a/0.png"].labels == ("a",)
    assert (rasters["b/x.dcm"].labels, rasters["b/x.dcm"].patient) == (("b",), "p")


def test_files_that_are_called_masks_are_told():
    paths = ("a/1.png", "a/1_mask.png", "a/1_Mask_2.PNG", "a/2-seg.png", "a/maskros.png", "b/unmasked.png")
    _, notes = arranged([image(path) for path in paths])
    assert any("3 files are called masks and are taken as images" in note for note in notes)
    assert not any("called masks" in note for note in arranged([image("a/1.png"), image("b/2.png")])[1])


def test_a_table_wins_over_tags_and_tags_fill_the_rest():
    sources = [image("1.dcm", "dicom", patient="tag", study="1.2", modality="CT", anatomy="chest")]
    found, _ = arranged(
        sources,
        told(columns=("anatomy=part",)),
        tables={"labels.csv": "path,label,patient,part\n1.dcm,x,table,\n"},
    )
    source = found["1.dcm"]
    assert (source.labels, source.patient, source.study, source.modality) == (("x",), "table", "1.2", "CT")
    assert source.anatomy == "chest"


def test_a_zip_that_wraps_one_folder_of_its_own_name(tmp_path):
    archive = tmp_path / "scans.zip"
    archive.write_bytes(b"")
    found, _ = arranged([image("scans/a/1.png"), image("scans/b/1.png")], path=archive)
    assert found["scans/a/1.png"].labels == ("a",)
    found, _ = arranged([image("scans/a/1.png"), image("scans/b/1.png")], path=tmp_path)
    assert found["scans/a/1.png"].labels == ("scans/a",)


def test_folders_that_look_like_patients_do_not_become_labels():
    sources = [image(f"patient {n}/{m}.png") for n in range(30) for m in range(2)]
    with pytest.raises(UsageError, match="do not look like classes") as caught:
        arranged(sources)
    assert "patient 3" not in str(caught.value)
    found, _ = arranged(sources, told(layout="folder"))
    assert found["patient 3/0.png"].labels == ("patient 3",)
