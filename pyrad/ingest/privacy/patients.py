"""A list of patients -> the groups of a store that they are, and what it shall remember of them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyrad.errors import UsageError
from pyrad.ingest.privacy.names import GROUP_KINDS, group_name, mark
from pyrad.ingest.privacy.secret import Secret

_GROUP = re.compile(r"[0-9a-f]{32}")
_HEADERS = frozenset({"patient", "patient_id", "patientid", "group", "id"})


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the list."""

    number: int
    identifier: str
    issuer: str


@dataclass(frozen=True, kw_only=True)
class Patients:
    """Those of a list, as a store knows them."""

    groups: frozenset[str]  # of the store, to be removed
    marks: frozenset[str]  # to be remembered
    by_key: tuple[str, ...]  # groups that were named by their key: nobody knows their patients' ids
    unknown: tuple[int, ...]  # numbers of lines that name nobody


def read_list(path: Path) -> list[Line]:
    """The lines of a file: ID, or ID,ISSUER; a header may come first. UsageError names lines by number."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "it is not UTF-8")
        raise UsageError(f"--patients {path} cannot be read as text: {why}") from None
    lines = []
    for number, cells in enumerate(csv.reader(io.StringIO(text)), 1):
        words = [cell.strip() for cell in cells]
        if not any(words) or (number == 1 and words[0].lower() in _HEADERS):
            continue
        if len(words) > 2 or not words[0]:
            raise UsageError(f"--patients {path}: line {number} is neither an id nor ID,ISSUER")
        lines.append(Line(number=number, identifier=words[0], issuer="".join(words[1:])))
    if not lines:
        raise UsageError(f"--patients {path} names nobody")
    return lines


def find_patients(
    lines: Sequence[Line], groups: Collection[str], forgotten: Collection[str], secret: Secret
) -> Patients:
    """Find each line's groups among those of a store; ``forgotten`` are the marks that it has already.

    A line is a patient's id, or a study's or series' UID where a store groups by these, or a group's key.
    """
    found: set[str] = set()
    marks: set[str] = set()
    by_key: list[str] = []
    unknown = []
    for line in lines:
        kinds = GROUP_KINDS[:1] if line.issuer else GROUP_KINDS
        value = f"{line.identifier}\0{line.issuer}" if line.issuer else line.identifier
        names = {group_name(secret, kind, value) for kind in kinds}
        if not line.issuer and _GROUP.fullmatch(line.identifier):  # it may still be a patient's id
            names.add(line.identifier)
        mine = names.intersection(groups)
        marked = {mark(secret, name) for name in names}
        if mine:
            marks |= {mark(secret, name) for name in mine}
            by_key += mine & {line.identifier}
        elif marked.isdisjoint(forgotten):
            marks |= marked
            unknown.append(line.number)
        found |= mine
    return Patients(
        groups=frozenset(found), marks=frozenset(marks), by_key=tuple(by_key), unknown=tuple(unknown)
    )
