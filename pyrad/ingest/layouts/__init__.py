"""Files of an archive -> a table of sources: labels, patients, studies, splits and masks.

A layout is a function from files to such a table. `select.select` says what is known before a file is read,
`arrange.make_arranger` gives each scanned file what its layout says of it. Here are the nouns they share;
docs/layouts.md states how paths are matched and what is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyrad.errors import UsageError
from pyrad.ingest.layouts.join import Join
from pyrad.ingest.table import Row

FileId = tuple[int, str]  # which archive, path in it


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One archive as layouts see it: its files' paths, and how to read one of them."""

    path: Path  # as it was given
    paths: tuple[str, ...]
    read: Callable[[str], bytes]

    @property
    def top(self) -> str:
        """``name/`` where everything lies in one folder, else ""."""
        tops = {path.partition("/")[0] for path in self.paths if "/" in path}
        return f"{tops.pop()}/" if len(tops) == 1 and all("/" in path for path in self.paths) else ""

    def search(self, pattern: str) -> Iterator[tuple[str, re.Match[str]]]:
        """The paths that end in what ``pattern`` matches, which begins at the root or behind a slash."""
        ends = re.compile(rf"(?:.*/)?(?:{pattern})", re.DOTALL)
        return ((path, match) for path in self.paths if (match := ends.fullmatch(path)))

    def unlike(self, data_set: str, expected: str) -> UsageError:
        """The error for an archive that is not the data set whose layout was asked for."""
        return UsageError(
            f"{self.path.name} does not look like {data_set}: expected are {expected}; docs/layouts.md shows "
            "the tree, and --layout auto reads any other"
        )


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is known before any file is read."""

    layouts: tuple[str, ...]  # of each archive: table, dicom, folder; auto where only the scan can tell
    rows: Mapping[FileId, Row]  # a table's word on each file it lists, masks as paths
    joins: Mapping[int, Join]  # archive -> the table whose rows mean files by what headers say
    masks: frozenset[FileId]  # files that are masks of others, not images
    maskless: frozenset[FileId]  # images whose row names a mask that is not there
    notes: tuple[str, ...]

    def skip_reason(self, file: FileId) -> str | None:
        """Why this file is not read at all, or None."""
        if file in self.masks:
            return "mask"
        if self.layouts[file[0]] == "table" and file[0] not in self.joins and file not in self.rows:
            return "not-in-table"
        return None
