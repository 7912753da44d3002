"""Two collections of chest CT of COVID-19: COVID-CT (figures of papers) and CC-CCII (scans) -> a table.

Yang et al., COVID-CT-Dataset, arXiv:2003.13865. Zhang et al., Clinically applicable AI system for accurate
diagnosis of COVID-19 pneumonia using computed tomography, Cell 181 (2020) 1423-1433.
"""

from __future__ import annotations

from pyrad.errors import UsageError
from pyrad.ingest.csvfile import columns_of
from pyrad.ingest.layouts import Listing
from pyrad.ingest.split import parse_split
from pyrad.ingest.table import Row, Table
from pyrad.records import Split

_IMAGE = r"[^/]+\.(?i:png|jpe?g|bmp|tiff?)"
_META = {  # file, and its columns of image and patient
    "COVID": ("COVID-CT-MetaInfo.csv", "File name", "Patient ID"),
    "NonCOVID": ("NonCOVID-CT-MetaInfo.csv", "image name", "patient id"),
}
_LESION_FROM = 2  # of the masks of CC-CCII: 0 is background, 1 lung, 2 ground glass, 3 consolidation


def covid_ct(listing: Listing) -> list[Table]:
    """A row for each figure: its class by its folder, its patient and the authors' split where they are."""
    name = listing.path.name
    images = {
        (found[1], path.rpartition("/")[2]): path
        for path, found in listing.search(rf"CT_(COVID|NonCOVID)/{_IMAGE}")
    }
    if not images:
        raise listing.unlike("COVID-CT", "images in folders CT_COVID and CT_NonCOVID")
    patients = _patients(listing)
    splits = _splits(listing)
    rows = tuple(
        Row(
            path=path,
            labels=(label,),
            patient=patients.get((label, image)) or patients.get((label, image.rpartition(".")[0]), ""),
            split=splits.get((label, image)),
            modality="CT",
            anatomy="chest",
        )
        for (label, image), path in images.items()
    )
    alone = sum(not row.patient for row in rows)
    loose = sum(row.split is None for row in rows)
    absent = sum(key not in images for key in splits)
    notes = [f"{name}: {alone} images have no patient in a MetaInfo.csv"] if alone else []
    notes += [f"{name}: {loose} images are in no list of Data-split"] if loose and splits else []
    notes += [f"{name}: {absent} files that Data-split lists are not there"] if absent else []
    return [Table(name=name, rows=rows, notes=tuple(notes))]


def cc_ccii(listing: Listing) -> list[Table]:
    """A row for each slice: class, patient and scan by its folders; lesion masks where they are published."""
    rows = [
        Row(
            path=path,
            labels=(found[1],),
            patient=f"cc-ccii/{found[2]}",
            series=f"cc-ccii/{found[2]}/{found[3]}",
            modality="CT",
            anatomy="chest",
        )
        for path, found in listing.search(rf"(CP|NCP|Normal)/([^/]+)/([^/]+)/{_IMAGE}")
    ]
    masks = {
        (path[: found.start(1)], found[1]): path
        for path, found in listing.search(r"mask/([^/]+/[^/]+)\.(?i:png)")
    }
    for path, found in listing.search(r"image/([^/]+)/([^/]+)\.(?i:jpe?g)"):
        at = path[: found.start(1)].removesuffix("image/") + "mask/"
        mask = masks.get((at, f"{found[1]}/{found[2]}"))
        rows.append(
            Row(
                path=path,
                labels=("NCP",),  # the lesions of 150 patients with COVID-19 were drawn
                series=f"cc-ccii/lesions/{found[1]}",
                masks=(mask,) if mask else (),
                mask_from=_LESION_FROM,
                modality="CT",
                anatomy="chest",
            )
        )
    if not rows:
        raise listing.unlike("CC-CCII", "images NCP/PATIENT/SCAN/SLICE.png, and CP and Normal likewise")
    return [Table(name=listing.path.name, rows=tuple(rows))]


def _patients(listing: Listing) -> dict[tuple[str, str], str]:
    """Class and file name -> patient; the numbers of the two classes are not those of the same people."""
    patients = {}
    for label, (title, image, patient) in _META.items():
        for path, _ in listing.search(title):
            for _number, (file, person) in columns_of(listing.read(path), title, image, patient):
                if person:
                    patients[label, file] = f"covid-ct/{label}/{person}"
    return patients


def _splits(listing: Listing) -> dict[tuple[str, str], Split]:
    """Class and file name -> split, by the lists trainCT_COVID.txt and the like."""
    splits: dict[tuple[str, str], Split] = {}
    twice = 0
    for path, found in listing.search(r"(train|val|test)CT_(COVID|NonCOVID)\.txt"):
        split = parse_split(found[1])
        if split is None or "/old_split/" in f"/{path}":
            continue
        for line in listing.read(path).decode("utf-8", "replace").splitlines():
            if line.strip():
                twice += splits.setdefault((found[2], line.strip()), split) != split
    if twice:
        raise UsageError(
            f"{listing.path.name}: {twice} files stand in two lists of Data-split; remove the older lists"
        )
    return splits
