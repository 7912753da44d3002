"""What leads back from a store to its files -> the private folder, readable by its owner alone.

``crosswalk.parquet`` has one row a frame, or a file where it has none: the key in the store, the ledger's
name of the source, the file's archive, path and keyed digest, the keyed digest of its pixels, and how it
ended. Stores made with one secret share one folder: their keys are the same.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pyrad.errors import PyradError
from pyrad.ingest.secret import data_folder

CROSSWALK_FILE = "crosswalk.parquet"
PLAN_FILE = "plan.json"
_SCHEMA = pa.schema(
    [
        pa.field("store", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),  # empty for a file without frames
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("archive", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field("pixels", pa.string(), nullable=False),  # empty where it was never decoded
        pa.field("reason", pa.string(), nullable=False),  # "stored", or a code of the ledger
        pa.field("detail", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One row of the crosswalk."""

    store: str  # where the store lay when it was written
    source: str
    key: str = ""
    frame: int = 0
    archive: str
    path: str
    digest: str = ""
    pixels: str = ""
    reason: str
    detail: str = ""


class PrivateFolder:
    """The private folder of a secret; made, mode 700, when something is written."""

    def __init__(self, path: Path | None, key_check: str) -> None:
        self.path = path if path is not None else data_folder() / key_check

    def traces(self, store: str) -> list[Trace]:
        """What earlier ingests into one store left here; nothing where there is no crosswalk."""
        return [trace for trace in self._read() if trace.store == store]

    def find(self, names: Collection[str]) -> Iterator[Trace]:
        """Rows of every store whose key, or whose source in the ledger, is among ``names``."""
        wanted = frozenset(names)
        return (trace for trace in self._read() if trace.key in wanted or trace.source in wanted)

    def remove(self, keys: Iterable[str]) -> None:
        """Forget the traces of keys."""
        gone = frozenset(keys)
        if gone and (self.path / CROSSWALK_FILE).exists():
            with self._locked():
                self._write(trace for trace in self._read() if trace.key not in gone)

    def record(self, traces: Iterable[Trace], facts: Mapping[str, Any]) -> None:
        """Add traces, replacing older ones of the same store, source and key, and note the plan's facts."""
        with self._locked():
            merged = {(trace.store, trace.source, trace.key): trace for trace in self._read()}
            for trace in traces:
                at = trace.store, trace.source, trace.key
                old = merged.get(at)
                # A frame that is stored already was not decoded again: what is known of its pixels stays.
                known = old is not None and not trace.pixels and old.digest == trace.digest
                merged[at] = replace(trace, pixels=old.pixels) if known and old is not None else trace
            self._write(merged[at] for at in sorted(merged))
            self._replace(PLAN_FILE, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())

    def _write(self, traces: Iterable[Trace]) -> None:
        columns = list(zip(*map(astuple, traces), strict=True))
        arrays = [
            pa.array([_text(value) for value in values], field.type)
            for values, field in zip(columns or [()] * len(_SCHEMA), _SCHEMA, strict=True)
        ]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(arrays, schema=_SCHEMA), sink, compression="zstd")
        self._replace(CROSSWALK_FILE, sink.getvalue().to_pybytes())

    def _read(self) -> list[Trace]:
        file = self.path / CROSSWALK_FILE
        try:
            table = pq.read_table(file, schema=_SCHEMA) if file.exists() else _SCHEMA.empty_table()
        except (OSError, pa.ArrowException):
            raise PyradError(
                f"{file} cannot be read: it is damaged; restore it from a copy, or move it away and give up "
                "the way back from keys to files"
            ) from None
        return [Trace(**row) for row in table.to_pylist()]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise PyradError(
                f"the private folder {self.path} cannot be used: {error.strerror}; name another by "
                f"--private DIR"
            ) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # stores of one secret may be written at the same time
            yield
        finally:
            os.close(fd)

    def _replace(self, name: str, data: bytes) -> None:
        temporary = self.path / f".{name}.{os.getpid()}"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            temporary.replace(self.path / name)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise PyradError(
                f"{self.path / name} cannot be written: {error.strerror}; nothing was committed"
            ) from None


def _text(value: Any) -> Any:
    """A path may hold bytes that are no text; Parquet wants text."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return value
