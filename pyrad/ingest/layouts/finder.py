"""What a table calls a file -> the paths of an archive that it may mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property


class Finder:
    """The paths of one archive, by every name that a table may call them."""

    def __init__(self, paths: Iterable[str], folder: str) -> None:
        self._paths = {path: path for path in paths}  # to give back the very string, not one more copy
        self._folders = tuple(dict.fromkeys((folder, "")))

    def find(self, value: str, beside: str = "") -> list[str]:
        """Paths that ``value`` may mean: one is good, none is absent, several are ambiguous.

        The first of these that exists: the path itself; the path without its extension; the only file of that
        name anywhere. Paths start from the folder ``beside``, the table's folder, or the archive's root.
        """
        value = value.replace("\\", "/").removeprefix("./").lstrip("/")
        starts = dict.fromkeys((*([beside] if beside else []), *self._folders))
        for start in starts:
            if start + value in self._paths:
                return [self._paths[start + value]]
        for start in starts:
            if start + value in self._stems:
                return self._stems[start + value]
        return [] if "/" in value else self._names.get(value, [])

    @cached_property
    def _stems(self) -> Mapping[str, list[str]]:
        """Paths by themselves without extension; a table of whole paths never needs them."""
        stems = defaultdict(list)
        for path in sorted(self._paths):
            stems[_stem(path)].append(path)
        return stems

    @cached_property
    def _names(self) -> Mapping[str, list[str]]:
        """Paths by their last part, with and without extension."""
        names = defaultdict(list)
        for path in sorted(self._paths):
            name = path.rpartition("/")[2]
            for known in {name, _stem(name)}:
                names[known].append(path)
        return names


def _stem(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return folder + slash + (stem if dot and stem else name)
