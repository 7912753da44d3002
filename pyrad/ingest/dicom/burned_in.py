"""Text that may be burned into pixels -> refused, or which part of the frame is kept and which is blanked.

The header declares it, or is silent where it is common (ultrasound, secondary captures). What cannot be told
is refused; a rectangle that is known to be free of text, from the header or from a rule, is another answer.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from pyrad.errors import UsageError
from pyrad.ingest import vocabulary
from pyrad.ingest.dicom.classes import is_class_name
from pyrad.ingest.dicom.parse import integer, items, text
from pyrad.ingest.reasons import Rejected
from pyrad.records import Cut, Rectangle

BURNED_IN = ("refuse", "allow", "crop-us-region")
RULES = "rules:"  # and a file

_SPATIAL_2D = 1  # PS3.3 C.8.5.5.1.1, Region Spatial Format
_MATCHERS = {"manufacturer": str, "model": str, "class": str, "rows": int, "columns": int}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Images of one kind, and what of them shows no text: ``keep``, less ``blank``.

    An absent matcher matches everything; rectangles are in the pixels of the file.
    """

    manufacturer: str = ""
    model: str = ""
    class_name: str = ""
    rows: int | None = None
    columns: int | None = None
    keep: Rectangle | None = None
    blank: tuple[Rectangle, ...] = ()

    def matches(self, root: Dataset, class_name: str, rows: int, columns: int) -> bool:
        """Whether the rule is about an image, and its rectangles lie in it."""
        maker, model = text(root, "Manufacturer"), text(root, "ManufacturerModelName")
        return (
            self.manufacturer.casefold()
            in ("", maker.casefold(), (vocabulary.manufacturer(maker) or "").casefold())
            and self.model.casefold() in ("", model.casefold())
            and self.class_name.casefold() in ("", class_name.casefold())
            and self.rows in (None, rows)
            and self.columns in (None, columns)
            and all(
                r[2] <= rows and r[3] <= columns for r in (*self.blank, *([self.keep] if self.keep else []))
            )
        )

    def recorded(self) -> dict[str, Any]:
        """The rule for a store's manifest; a name that no public list has becomes "..."."""
        maker = (
            self.manufacturer
            if vocabulary.manufacturer(self.manufacturer) == self.manufacturer.upper()
            else "..."
        )
        values: dict[str, Any] = {
            "manufacturer": maker if self.manufacturer else "",
            "model": "..." if self.model else "",
            "class": self.class_name,
            "rows": self.rows,
            "columns": self.columns,
            "keep": list(self.keep) if self.keep else None,
            "blank": [list(rectangle) for rectangle in self.blank],
        }
        return {name: value for name, value in values.items() if value}


def read_rules(path: Path) -> tuple[Rule, ...]:
    """The rules of a TOML file, a table ``[[rule]]`` each; the first that matches an image counts."""
    where = f"--burned-in {RULES}{path}"
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror}; give the path of a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is not valid TOML: {error}") from None
    tables = document.get("rule")
    if set(document) != {"rule"} or not isinstance(tables, list) or not tables:
        raise UsageError(f"{where} must hold tables [[rule]] and nothing else")
    return tuple(_rule(table, f"{where}: rule {number}") for number, table in enumerate(tables, 1))


def admit_burned_in(
    root: Dataset, *, class_name: str, prone: bool, how: str, rules: Sequence[Rule]
) -> tuple[Cut | None, tuple[str, ...]]:
    """What is kept of an image's frames (None: all), and warnings; Rejected where text may be in it.

    ``prone`` says that the object's class must declare to be free of text; ``how`` is one of ``BURNED_IN``,
    or "rules".
    """
    annotation = text(root, "BurnedInAnnotation").upper()
    cut = None
    rows, columns = integer(root, "Rows"), integer(root, "Columns")
    if rows and columns and how == "rules":
        rule = next((rule for rule in rules if rule.matches(root, class_name, rows, columns)), None)
        cut = Cut(rows=rows, columns=columns, keep=rule.keep, blank=rule.blank) if rule else None
    elif rows and columns and how == "crop-us-region":
        region = _spatial_region(root, rows, columns)
        cut = Cut(rows=rows, columns=columns, keep=region) if region else None
    if cut is not None:
        noticed = {"cropped": cut.keep is not None, "blanked": bool(cut.blank)}
        return cut, tuple(code for code, is_so in noticed.items() if is_so)
    if annotation == "YES":
        if how == "allow":
            return None, ("burned-in-annotation",)
        raise Rejected("burned-in-annotation", "BurnedInAnnotation")
    if prone and annotation != "NO" and how != "allow":
        raise Rejected("burned-in-unknown", "BurnedInAnnotation")
    return None, ()


def _spatial_region(root: Dataset, rows: int, columns: int) -> Rectangle | None:
    """The one two-dimensional Ultrasound Region (PS3.3 C.8.5.5); its bounds are pixels that belong to it."""
    found = [
        [integer(region, f"RegionLocation{end}") for end in ("MinY0", "MinX0", "MaxY1", "MaxX1")]
        for region in items(root, "SequenceOfUltrasoundRegions")
        if integer(region, "RegionSpatialFormat") == _SPATIAL_2D
    ]
    if len(found) != 1:
        return None
    top, left, bottom, right = (-1 if value is None else value for value in found[0])
    inside = 0 <= top <= bottom < rows and 0 <= left <= right < columns
    return (top, left, bottom + 1, right + 1) if inside else None


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    unknown = set(table) - {*_MATCHERS, "keep", "blank"}
    if unknown:
        raise UsageError(f"{where} has no key {min(unknown)!r}; allowed: {', '.join(_MATCHERS)}, keep, blank")
    for name, kind in _MATCHERS.items():
        if name in table and (type(table[name]) is not kind or not table[name]):
            raise UsageError(f"{where}: {name} must be {'text' if kind is str else 'a number from 1 up'}")
    if not table.keys() & _MATCHERS.keys():
        raise UsageError(f"{where} matches every image; give one of {', '.join(_MATCHERS)}")
    if not table.keys() & {"keep", "blank"}:
        raise UsageError(f"{where} has neither keep nor blank")
    if "class" in table and not is_class_name(table["class"]):
        raise UsageError(f"{where}: no SOP class of the standard is called {table['class']!r}")
    blank = table.get("blank", [])
    if not isinstance(blank, list):
        raise UsageError(f"{where}: blank must be a list of rectangles [top, left, bottom, right]")
    return Rule(
        manufacturer=table.get("manufacturer", ""),
        model=table.get("model", ""),
        class_name=table.get("class", ""),
        rows=table.get("rows"),
        columns=table.get("columns"),
        keep=_rectangle(table["keep"], f"{where}: keep") if "keep" in table else None,
        blank=tuple(_rectangle(value, f"{where}: blank") for value in blank),
    )


def _rectangle(value: Any, where: str) -> Rectangle:
    if isinstance(value, list) and len(value) == 4 and all(type(number) is int for number in value):
        top, left, bottom, right = value
        if 0 <= top < bottom and 0 <= left < right:
            return top, left, bottom, right
    raise UsageError(
        f"{where} must be [top, left, bottom, right] in pixels, from 0, the last two just outside"
    )
