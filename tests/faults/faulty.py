"""An ingest of a small archive in its own processes, with a fault at the n-th call that changes the disk."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from archives import pixels, png, table, tree

from pyrad.store.verify import verify

KILL = "kill"
SOURCE = Path(__file__).with_name("inject.c")
_TIMEOUT_S = 120


def build(folder: Path) -> Path:
    """Compile the injector."""
    library = folder / "inject.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How one ingest ended."""

    code: int  # of the process; -9 where it was killed
    said: str
    calls: int  # counted calls, the one that failed included
    trace: list[tuple[str, str, str]]  # call, path, name before a rename; paths relative to the work folder


class Scene:
    """A work folder: archives, a store that may have a first part already, a private folder."""

    def __init__(self, folder: Path, library: Path, *, parts: int) -> None:
        self.folder = folder
        self.library = library
        self.store = folder / "s.zarr"
        self._parts = parts
        self._images()
        for _ in range(parts - 1):
            self._ingest("first")
        self._base = folder.with_name(folder.name + "-base")
        shutil.copytree(folder, self._base)
        self.before = self._root()
        self.ingest()
        self.whole = tree(self.store)
        self.reset()

    def reset(self) -> None:
        """Back to the state before the last ingest."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._base, self.folder)

    def ingest(self, at: int = 0, action: str = "", *, trace: bool = False) -> Ended:
        """Add the last archive; call number ``at`` is the one that ``action`` befalls."""
        return self._ingest("first" if self._parts == 1 else "second", at, action, trace=trace)

    def check_state(self) -> None:
        """The store is what it was before, or whole; never a mixture."""
        if self._root() != self.before:
            assert tree(self.store) == self.whole
        elif self.before:
            verify(self.store)

    def _images(self) -> None:
        for archive, first in (("first", 0), ("second", 40)):
            rows = ["path,label,patient,mask"]
            for n in range(6):
                name = f"{archive}-{n}.png"
                png(self.folder / archive / name, pixels(first + n, rows=16 + n % 2, columns=16))
                rows.append(f"{name},{'ab'[n % 2]},p{n},{'m.png' if n == 2 else ''}")
            png(self.folder / archive / "m.png", pixels(first + 9, rows=16, columns=16, high=2))
            table(self.folder / archive / "labels.csv", "\n".join(rows))

    def _ingest(self, archive: str, at: int = 0, action: str = "", *, trace: bool = False) -> Ended:
        state, lines = (self.folder.with_name(f"{self.folder.name}.{kind}") for kind in ("state", "trace"))
        state.write_bytes(bytes(8))
        lines.unlink(missing_ok=True)
        faults = {
            "LD_PRELOAD": str(self.library),
            "FAULT_ROOTS": f"{self.store}:{self.folder / 'private'}",
            "FAULT_STATE": str(state),
            "FAULT_AT": str(at),
            "FAULT_ACTION": action,
            **({"FAULT_TRACE": str(lines)} if trace else {}),
        }
        source = str(self.folder / archive)
        command = [sys.executable, "-m", "pyrad.ingest", source, "--store", str(self.store)]
        command += [
            "--private",
            str(self.folder / "private"),
            "--workers",
            "1",
            "--columns",
            "mask=mask",
            "--max-quarantine",
            "100%",
        ]
        ended = subprocess.run(
            command,
            env={**os.environ, **faults, "PYRAD_SECRET": "of the tests"},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            start_new_session=True,
            check=False,
        )
        made = [line.split("\t") for line in lines.read_text().splitlines()] if trace else []
        return Ended(
            code=ended.returncode,
            said=ended.stdout + ended.stderr,
            calls=struct.unpack("<Q", state.read_bytes())[0],
            trace=[(call, self._relative(path), self._relative(old)) for _, call, path, old in made],
        )

    def _relative(self, path: str) -> str:
        return path.removeprefix(f"{self.folder}/")

    def _root(self) -> bytes:
        root = self.store / "zarr.json"
        return root.read_bytes() if root.exists() else b""
