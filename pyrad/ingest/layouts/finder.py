"""What a table calls a file -> the paths of an archive that it may mean."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable


class Finder:
    """What a table calls a file -> paths of one archive."""

    def __init__(self, paths: Iterable[str], folder: str) -> None:
        self._paths = set(paths)
        self._folders = tuple(dict.fromkeys((folder, "")))
        self._stems: dict[str, list[str]] = defaultdict(list)
        self._names: dict[str, list[str]] = defaultdict(list)
        for path in sorted(self._paths):
            name = path.rpartition("/")[2]
            self._stems[_stem(path)].append(path)
            self._names[name].append(path)
            if _stem(name) != name:
                self._names[_stem(name)].append(path)

    def find(self, value: str, beside: str = "") -> list[str]:
        """Paths that ``value`` may mean: one is good, none is absent, several are ambiguous.

        The first of these that exists: the path itself; the path without its extension; the only file of that
        name anywhere. Paths start from the folder ``beside``, the table's folder, or the archive's root.
        """
        value = value.replace("\\", "/").removeprefix("./").lstrip("/")
        starts = dict.fromkeys((*([beside] if beside else []), *self._folders))
        for start in starts:
            if start + value in self._paths:
                return [start + value]
        for start in starts:
            if self._stems.get(start + value):
                return self._stems[start + value]
        return [] if "/" in value else self._names.get(value, [])


def _stem(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return folder + slash + (stem if dot and stem else name)
