"""`--select` -> conditions on what a file says of its series -> whether an image is chosen.

    condition  = ["!"] name operator value {"|" value}
    operator   = "=" | "~" (contains), for words; "=" | "<" | "<=" | ">" | ">=", for numbers

All conditions must hold; one of several values is enough; case does not matter. An attribute that a file does
not state meets no condition, so "!" keeps the file. Dates are not offered: none leaves its file, not even as
a choice. docs/choosing.md has the names.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pyrad.errors import UsageError
from pyrad.ingest import vocabulary
from pyrad.ingest.anatomy import packaged
from pyrad.ingest.dicom.classes import in_a_class_name
from pyrad.ingest.reasons import Rejected

WORDS = (
    *("modality", "anatomy", "body-part", "manufacturer", "class", "image-type", "description"),
    *("laterality", "view"),
)
NUMBERS = ("rows", "columns", "frames", "slice-thickness")

Attributes = Mapping[str, Sequence[str] | float | None]  # by name: the words, or the number

_CONDITION = re.compile(r"(!?)\s*([a-z-]+)\s*(<=|>=|=|~|<|>)\s*(.*\S)\s*")
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CLOSED: Mapping[str, frozenset[str]] = {
    "modality": vocabulary.MODALITIES,
    "laterality": vocabulary.LATERALITIES,
    "view": vocabulary.VIEWS,
}


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition of ``--select``."""

    name: str
    operator: str
    words: tuple[str, ...] = ()  # casefolded
    numbers: tuple[float, ...] = ()
    negated: bool = False

    def holds(self, attributes: Attributes) -> bool:
        """Whether a file with these attributes meets it."""
        return self._met(attributes.get(self.name)) != self.negated

    def _met(self, found: Sequence[str] | float | None) -> bool:
        if found is None:
            return False
        if isinstance(found, float):
            return any(_COMPARE[self.operator](found, number) for number in self.numbers)
        stated = [word.casefold() for word in found]
        if self.operator == "=":
            return any(word in stated for word in self.words)
        return any(word in whole for word in self.words for whole in stated)

    def recorded(self) -> str:
        """The condition for a store's manifest; a word that no list of the standard's has becomes "...".

        A pattern is the user's own text, and it may have been copied from a patient's header.
        """
        values = [f"{number:g}" for number in self.numbers]
        values += [word if _is_public(self.name, word) else "..." for word in self.words]
        return f"{'!' * self.negated}{self.name}{self.operator}{'|'.join(values)}"


def parse_conditions(expressions: Sequence[str]) -> tuple[Condition, ...]:
    """``--select`` as conditions; UsageError says what is allowed."""
    return tuple(_parse(expression) for expression in expressions)


def admit_selected(attributes: Attributes, conditions: Sequence[Condition]) -> None:
    """Refuse a file that does not meet every condition; what it was judged by is dropped."""
    for condition in conditions:
        if not condition.holds(attributes):
            raise Rejected("not-selected", detail=condition.name)


def _parse(expression: str) -> Condition:
    match = _CONDITION.fullmatch(expression)
    if match is None:
        raise UsageError(
            f"--select {expression!r} is no condition: write NAME=VALUE, such as modality=CT, rows>=256, "
            f"description~lung or !laterality=L"
        )
    sign, name, comparison, text = match.groups()
    if name not in WORDS and name not in NUMBERS:
        raise UsageError(
            f"--select {expression!r}: there is no {name!r}; names: {', '.join(WORDS + NUMBERS)}"
        )
    allowed = ("=", "~") if name in WORDS else tuple(_COMPARE)
    if comparison not in allowed:
        raise UsageError(f"--select {expression!r}: {name} takes {' '.join(allowed)}")
    values = tuple(value.strip() for value in text.split("|"))
    if name in WORDS:
        words = tuple(value.casefold() for value in values)
        _check_words(expression, name, comparison, words)
        return Condition(name=name, operator=comparison, words=words, negated=bool(sign))
    try:
        numbers = tuple(float(value) for value in values)
    except ValueError:
        raise UsageError(f"--select {expression!r}: {name} is compared with numbers") from None
    return Condition(name=name, operator=comparison, numbers=numbers, negated=bool(sign))


def _check_words(expression: str, name: str, comparison: str, words: tuple[str, ...]) -> None:
    """UsageError for a word that nothing can equal."""
    if "" in words:
        raise UsageError(f"--select {expression!r}: a value is empty")
    for word in words:
        if name in _CLOSED and comparison == "=" and not _is_public(name, word):
            raise UsageError(
                f"--select {expression!r}: {word.upper()!r} is no {name} that pyrad knows; allowed are "
                f"{', '.join(sorted(_CLOSED[name]))}"
            )
        if name == "class" and not _is_public(name, word):
            raise UsageError(
                f"--select {expression!r}: no SOP class of the standard is called so; an example is "
                f"class=CT Image Storage, or class~enhanced"
            )


def _is_public(name: str, word: str) -> bool:
    """Whether the word stands in a list that anybody may read."""
    if name == "class":
        return in_a_class_name(word)
    if name == "anatomy":
        return packaged().of_text(word) is not None
    if name == "manufacturer":
        return vocabulary.manufacturer(word) == word.upper()
    return name in _CLOSED and word.upper() in _CLOSED[name]
