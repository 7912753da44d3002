"""What a header or a table calls a body region -> one word for it, by a table that a user can edit.

`anatomy.csv`, beside this file, has three columns: ``kind``, ``pattern``, ``anatomy``. The kinds are

    body-part     Body Part Examined, or the meaning of a code: blanks, marks and case do not count
    code          the value of an anatomic region's code (SNOMED CT, or the retired SRT)
    description   whole words of Series Description; the first row that is found counts

An empty anatomy says that the pattern means nothing. No word enters a store that is not in the table's third
column: of the header, nothing does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from pyrad.errors import UsageError
from pyrad.ingest.csvfile import columns_of, refuse_rows

KINDS = ("body-part", "code", "description")

_WORD = re.compile(r"[a-z][a-z0-9]{1,31}")
_LONGEST_DESCRIPTION = 64  # of a Series Description, PS3.5 6.2 (LO); what goes on is not looked at


@dataclass(frozen=True, kw_only=True)
class AnatomyTable:
    """Patterns and their words; each pattern as `_normal` writes it."""

    body_parts: Mapping[str, str]
    codes: Mapping[str, str]
    descriptions: Mapping[str, str]  # in the order in which they are tried

    def of_text(self, text: str) -> str | None:
        """The word for ``Body Part Examined``, for the meaning of a code, or for a cell of a label table."""
        word = _normal(text).replace(" ", "")
        if not word:
            return None
        return self.body_parts.get(word) or None

    def of_code(self, value: str) -> str | None:
        """The word for a code of ``Anatomic Region Sequence`` (PS3.16 CID 4)."""
        return self.codes.get(value.upper()) or None

    def of_description(self, text: str) -> str | None:
        """The word for a ``Series Description``, which is looked at and dropped."""
        words = f" {_normal(text[:_LONGEST_DESCRIPTION])} "
        found = next((word for part, word in self.descriptions.items() if f" {part} " in words), "")
        return found or None

    def over(self, other: AnatomyTable) -> AnatomyTable:
        """Add ``other`` where this table says nothing."""
        return AnatomyTable(
            body_parts={**other.body_parts, **self.body_parts},
            codes={**other.codes, **self.codes},
            # Its own come first: a dictionary keeps the place of a key that is there already
            descriptions={**self.descriptions, **other.descriptions, **self.descriptions},
        )


@lru_cache(maxsize=1)
def packaged() -> AnatomyTable:
    """The table that comes with pyrad."""
    data = files("pyrad.ingest").joinpath("anatomy.csv").read_bytes()
    return parse_anatomy(data, "anatomy.csv")


def read_anatomy(path: Path) -> AnatomyTable:
    """The table of ``--anatomy-table``, over the one that comes with pyrad; UsageError where it is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--anatomy-table {path} cannot be read: {error.strerror}") from None
    return parse_anatomy(data, path.name).over(packaged())


def parse_anatomy(data: bytes, name: str) -> AnatomyTable:
    """A CSV file with the columns kind, pattern and anatomy; UsageError names the rows that are wrong."""
    found: dict[str, dict[str, str]] = {kind: {} for kind in KINDS}
    bad = []
    for number, (kind, pattern, word) in columns_of(data, name, "kind", "pattern", "anatomy"):
        key = pattern.upper() if kind == "code" else _normal(pattern)
        key = key.replace(" ", "") if kind == "body-part" else key
        if kind not in KINDS or not key or not (word == "" or _WORD.fullmatch(word)):
            bad.append(number)
        else:
            found[kind].setdefault(key, word)
    refuse_rows(
        name,
        bad,
        f"are not a kind of {', '.join(KINDS)}, a pattern, and a word of 2 to 32 lower-case letters "
        "and digits (or none)",
    )
    for word in {word for its in found.values() for word in its.values() if word}:
        found["body-part"].setdefault(word, word)
    return AnatomyTable(body_parts=found["body-part"], codes=found["code"], descriptions=found["description"])


def _normal(text: str) -> str:
    """Lower case, words of ASCII letters and digits with one blank between them."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))
