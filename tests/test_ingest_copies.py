"""Files that are the same image: one is kept, with all labels, or none where they contradict each other."""

from plans import Made, file, source

from pyrad.ingest.duplicates import by_preference, settle, undecided
from pyrad.ingest.scan import PixelDigests


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
