"""A run folder -> what a finished run and its evaluation say; and files written as a whole, or not at all."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyrad.errors import IntegrityError, PyradError, UsageError
from pyrad.store import durable
from pyrad.train.checkpoint import MODEL_FILE
from pyrad.train.run import FORMAT, METRICS_FILE, RUN_FILE

EVALUATION = "evaluation"
PREDICTIONS_FILE = "predictions.parquet"
VALUES_FILE = "metrics.json"
REPORT_FILE = "report.html"
EVALUATION_FORMAT = 1

_TEMPORARIES = ".tmp-evaluation"  # files that are not yet whole


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run that has its final weights: ``record`` is run.json."""

    path: Path
    record: dict[str, Any]
    weights_sha256: str

    @property
    def model(self) -> Path:
        """The final weights."""
        return self.path / MODEL_FILE

    @property
    def evaluation(self) -> Path:
        """Where the evaluation lies."""
        return self.path / EVALUATION

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the model's outputs."""
        return tuple(self.record["classes"])


def open_run(path: Path) -> FinishedRun:
    """Read a finished run.

    Raises:
        UsageError: there is no run in the folder, or it is not finished.
        IntegrityError: its record is damaged.

    """
    record = _read_json(
        path / RUN_FILE,
        absent=f"{path} holds no run ({RUN_FILE} is missing); give the --out folder of pyrad train",
    )
    needed = ("model", "num_classes", "in_chans", "classes", "multi_label", "preprocessing", "options")
    if record.get("format") != FORMAT:
        raise UsageError(
            f"{path / RUN_FILE} has format {record.get('format')!r}; this pyrad reads {FORMAT}: train again"
        )
    if missing := [name for name in (*needed, "store_fingerprint") if name not in record]:
        raise IntegrityError(f"{path / RUN_FILE} is damaged: it lacks {', '.join(missing)}; train again")
    try:
        weights = (path / MODEL_FILE).read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"the run in {path} is not finished ({MODEL_FILE} is missing); finish it with "
            "pyrad train --resume"
        ) from None
    return FinishedRun(path=path, record=record, weights_sha256=hashlib.sha256(weights).hexdigest())


def read_evaluation(run: FinishedRun) -> dict[str, Any]:
    """Read the evaluation's metrics.json, checked to be of these weights and of the predictions beside it.

    Raises:
        UsageError: there is none, or it is of other weights.
        IntegrityError: it is damaged.

    """
    again = f"pyrad evaluate --run {run.path}"
    path = run.evaluation / VALUES_FILE
    values = _read_json(path, absent=f"the run in {run.path} is not evaluated yet; first run: {again}")
    if values.get("format") != EVALUATION_FORMAT or values.get("weights_sha256") != run.weights_sha256:
        raise UsageError(
            f"{path} is of other weights than {run.path / MODEL_FILE}, or of another pyrad; "
            f"run again: {again}"
        )
    try:
        predictions = (run.evaluation / PREDICTIONS_FILE).read_bytes()
    except FileNotFoundError:
        predictions = b""
    if values.get("predictions_sha256") != hashlib.sha256(predictions).hexdigest():
        raise IntegrityError(
            f"{run.evaluation / PREDICTIONS_FILE} is not as {VALUES_FILE} describes it; run again: {again}"
        )
    return values


def read_log(run: FinishedRun) -> list[dict[str, Any]]:
    """Read the lines of the training log, metrics.jsonl; none where there is no log.

    Raises:
        IntegrityError: a line is damaged.

    """
    path = run.path / METRICS_FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    try:
        return [dict(json.loads(line)) for line in lines]
    except (ValueError, TypeError) as error:
        raise IntegrityError(f"{path} is damaged: not every line is a JSON object") from error


def put(path: Path, data: bytes) -> None:
    """Write a file of the run as a whole, replacing what was there.

    Raises:
        PyradError: the disk is full, or the folder cannot be written.

    """
    temporaries = path.parent / _TEMPORARIES
    try:
        path.parent.mkdir(exist_ok=True)
        durable.remove_tree(temporaries)  # of a process that was killed here
        temporaries.mkdir()
        try:
            durable.write_file(path, data, temporaries)
        finally:
            durable.remove_tree(temporaries)
    except OSError as error:
        raise PyradError(
            f"cannot write {path}: {error.strerror or error}; what was there is as it was. Mend the cause "
            "(free space, permissions) and give the same command again"
        ) from error


def json_bytes(record: dict[str, Any]) -> bytes:
    """JSON for people and machines; nan is refused, null says undefined."""
    return (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _read_json(path: Path, *, absent: str) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(absent) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise IntegrityError(f"{path} is damaged: it is no JSON") from error
    if not isinstance(record, dict):
        raise IntegrityError(f"{path} is damaged: it holds no JSON object")
    return record
