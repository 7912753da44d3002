"""MRNet: knee MR exams as volumes in three planes, with findings of the whole exam -> a table.

Bien et al., Deep-learning-assisted diagnosis for knee magnetic resonance imaging, PLoS Medicine 15 (2018)
e1002699.
"""

from __future__ import annotations

from collections import defaultdict

from pyrad.ingest.csvfile import parse_csv, refuse_rows
from pyrad.ingest.layouts import Listing
from pyrad.ingest.split import parse_split
from pyrad.ingest.table import Row, Table

FINDINGS = ("abnormal", "acl", "meniscus")
NORMAL = "normal"  # the label of an exam of which all findings are 0


def mrnet(listing: Listing) -> list[Table]:
    """A row for each volume: the findings of its exam, and the authors' train or valid."""
    volumes = [(path, *found.groups()) for path, found in listing.search(_VOLUME)]
    findings = {
        (found[1], found[2]): _exams(listing.read(path), path.rpartition("/")[2])
        for path, found in listing.search(rf"(train|valid)-({'|'.join(FINDINGS)})\.csv")
    }
    if not volumes or not findings:
        raise listing.unlike("MRNet", "train/axial/0000.npy and the like, and train-abnormal.csv beside them")
    labels: dict[tuple[str, str], set[str]] = defaultdict(set)  # folder, exam -> those that are known
    for (folder, finding), exams in findings.items():
        for exam, present in exams.items():
            labels[folder, exam].add(finding if present else NORMAL)
    rows = []
    for path, folder, plane, exam in volumes:
        known = labels[folder, exam]
        rows.append(
            Row(
                path=path,
                labels=tuple(sorted(known - {NORMAL} or known)),
                study=f"mrnet/{exam}",
                series=f"mrnet/{exam}/{plane}",
                split=parse_split(folder),
                modality="MR",
                anatomy="knee",
            )
        )
    bare = sum(not row.labels for row in rows)
    notes = (f"{listing.path.name}: {bare} volumes are of exams that no table lists",) if bare else ()
    return [Table(name=listing.path.name, rows=tuple(rows), notes=notes)]


_VOLUME = r"(train|valid)/(axial|coronal|sagittal)/(\d+)\.npy"


def _exams(data: bytes, name: str) -> dict[str, bool]:
    """``0000,1`` a line, without a header -> exam, and whether the finding is present."""
    first, rest = parse_csv(data, name)
    lines = [(1, list(first)), *rest]
    refuse_rows(
        name,
        (number for number, cells in lines if len(cells) != 2 or cells[1] not in ("0", "1")),
        "are not an exam's number and 0 or 1",
    )
    return {exam: present == "1" for _, (exam, present) in lines}
