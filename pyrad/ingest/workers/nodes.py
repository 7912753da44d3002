"""What the ingest's own process sees -> in what another machine of a cluster differs from it.

A machine that has another version of a decoder would store other bytes, and one that does not see the
archives or the store's folder would store none: either is found before the first file is read.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyrad
from pyrad.ingest.plan import shaping_versions
from pyrad.ingest.privacy.secret import ENVIRONMENT

_ABSENT = "absent"
_SEEN = "seen"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A file or folder that every node must see under the same path."""

    kind: Literal["source", "store"]  # what a message calls it: the path itself may name a patient
    path: Path
    bytes: int | None = None  # of a file; None for a folder
    written: bool = False  # tasks write there


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the driver has, and every node must have too."""

    versions: Mapping[str, str]
    places: tuple[Place, ...]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing in which a node differs: ``here`` on the driver, ``there`` on the node."""

    what: str
    here: str
    there: str


def expect(sources: Sequence[Path], working: Path) -> Expected:
    """What a node must have to work on ``sources`` for the store whose working folder is ``working``.

    Call it on the driver. A folder alone proves little, for an empty mount point is one too: a file in it is
    named as well. Sources that are no local paths (object stores) are left out.
    """
    places = [Place(kind="store", path=working, written=True)]
    for source in sources:
        path = source if source.is_file() else _some_file(source)
        if path is not None:
            places.append(Place(kind="source", path=path, bytes=path.lstat().st_size))
    return Expected(versions=_versions(), places=tuple(places))


@contextmanager
def probe(working: Path) -> Iterator[Place]:
    """A folder of the store that was made this moment, under a name that nobody can have by chance.

    Its name is that of a plan's working folder, so the store's writer removes it should this process die.
    """
    folder = working / os.urandom(8).hex()
    folder.mkdir()
    try:
        yield Place(kind="store", path=folder, written=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def differences(expected: Expected) -> list[Difference]:
    """In what the machine that runs this differs from the driver; call it in a process of the node."""
    found: list[Difference] = []
    here = _versions()
    for name, version in expected.versions.items():
        if here[name] != version:
            found.append(Difference(what=name, here=version or _ABSENT, there=here[name] or _ABSENT))
    for place in expected.places:
        there = _look(place)
        if there != _SEEN:
            found.append(Difference(what=f"a {place.kind}", here=_SEEN, there=there))
    if os.environ.get(ENVIRONMENT):
        found.append(Difference(what=ENVIRONMENT, here="not passed on", there="in Ray's environment"))
    return found


def as_table(by_node: Mapping[str, Sequence[Difference]]) -> str:
    """Differences as lines of columns, one node after another."""
    rows = [("node", "what", "here", "there")]
    rows += [(node, it.what, it.here, it.there) for node, its in by_node.items() for it in its]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)) + f"  {row[3]}"
        for row in rows
    )


def _look(place: Place) -> str:
    """What is to be said of a place on this machine."""
    try:
        if place.bytes is None:
            if not place.path.is_dir():
                return "not seen"
        elif not place.path.is_file():
            return "not seen"
        elif place.path.lstat().st_size != place.bytes:
            return "another size"
        if place.written:
            with tempfile.NamedTemporaryFile(dir=place.path, prefix="probe-"):
                pass
        elif not os.access(place.path, os.R_OK):
            return "not readable"
    except OSError as error:
        return f"not writable ({error.strerror})" if place.written else f"not readable ({error.strerror})"
    return _SEEN


def _some_file(folder: Path) -> Path | None:
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if path.is_file() and not path.is_symlink():
                return path
    return None


@functools.cache
def _versions() -> dict[str, str]:
    """Versions of all that shapes a store's bytes; pyrad's own with a digest of its source."""
    versions = {"python": platform.python_version(), **shaping_versions()}
    digest = hashlib.sha256()
    folder = Path(pyrad.__file__).parent
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    versions["pyrad"] += f" ({digest.hexdigest()[:8]})"
    return versions
