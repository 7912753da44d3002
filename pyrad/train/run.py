"""What was asked for, what happened, what came of it <-> the files of a run folder.

run.json           the options and what followed from them and the store; written first, and once more at
                   the end with ``result``
metrics.jsonl      one JSON object a line: ``{"kind": "train" | "val", "step": ..., "loss": ...}``
checkpoints/       see `pyrad.train.checkpoint`
model.safetensors  the final weights; it exists only once the run is finished
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch

from pyrad.errors import IntegrityError, PyradError, UsageError
from pyrad.models.weights import encode_tensors
from pyrad.store import durable
from pyrad.train.checkpoint import MODEL_FILE

RUN_FILE = "run.json"
METRICS_FILE = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
FORMAT = 1

_TEMPORARIES = ".tmp"  # a folder of files that are not yet whole


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError while the run is being written into one clear sentence."""
    try:
        yield
    except OSError as error:
        raise PyradError(
            f"cannot write the run in {folder}: {error.strerror or error}; the last whole checkpoint stays "
            "as it was. Mend the cause (free space, permissions), then give the same command with --resume"
        ) from error


class RunFolder:
    """One run's folder, locked against a second writer while it is entered."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / CHECKPOINTS
        self.metrics = path / METRICS_FILE
        self.model = path / MODEL_FILE
        self._lock = -1

    def __enter__(self) -> Self:
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"--out {self.path} is a file; give an empty or absent folder")
        with disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise PyradError(f"another process is training in {self.path}; wait for it, or stop it") from None
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def begun(self) -> dict[str, Any] | None:
        """Return the record of the run that is here; None where the folder is empty.

        Raises:
            UsageError: there are other things in the folder, and no run.
            IntegrityError: the record is damaged.

        """
        path = self.path / RUN_FILE
        try:
            record = json.loads(path.read_bytes())
            options = record["options"]
        except FileNotFoundError:
            if others := self.entries():
                raise UsageError(
                    f"--out {self.path} holds no run, but {others[0]!r}; give an empty or absent folder"
                ) from None
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{path} is damaged; begin again with another --out") from error
        if record.get("format") != FORMAT or not isinstance(options, dict):
            raise UsageError(
                f"{path} has format {record.get('format')}; this pyrad reads {FORMAT}: begin again with "
                "another --out"
            )
        return dict(record)

    def entries(self) -> list[str]:
        """Names in the folder, but for what a killed start may have left."""
        return sorted(entry.name for entry in self.path.iterdir() if entry.name != _TEMPORARIES)

    def write(self, record: Mapping[str, Any]) -> None:
        """Write run.json, as a whole."""
        self._put(RUN_FILE, (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())

    def write_model(self, tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> None:
        """Write the final weights, as a whole."""
        self._put(MODEL_FILE, encode_tensors(tensors, description))

    def _put(self, name: str, data: bytes) -> None:
        temporaries = self.path / _TEMPORARIES
        with disk_errors(self.path):
            durable.remove_tree(temporaries)  # of a process that was killed here
            temporaries.mkdir()
            try:
                durable.write_file(self.path / name, data, temporaries)
            finally:
                durable.remove_tree(temporaries)


class MetricsLog:
    """metrics.jsonl, appended to line by line and flushed, so that a run can be watched."""

    def __init__(self, path: Path, *, step: int, validated: int) -> None:
        """Open the log of a run that stands after ``step``, whose last validation followed ``validated``.

        Lines of what will happen again are cut off: a resumed run's log equals an uninterrupted one's.
        """
        kept = []
        for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
            if not _is_past(line, {"train": step, "val": validated}):
                break
            kept.append(line)
        self._file = path.open("ab")
        self._file.truncate(sum(map(len, kept)))

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line."""
        self._file.write((json.dumps(record, allow_nan=False) + "\n").encode())
        self._file.flush()

    def sync(self) -> None:
        """Flush the lines to the disk, so that no checkpoint is ever ahead of them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _is_past(line: bytes, last: Mapping[str, int]) -> bool:
    try:
        record = json.loads(line)
        return line.endswith(b"\n") and bool(record["step"] <= last[record["kind"]])
    except (ValueError, KeyError, TypeError):
        return False
