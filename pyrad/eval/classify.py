"""A finished run + a held-out split -> predictions.parquet, metrics.json and a table."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch

from pyrad import __version__
from pyrad.errors import IntegrityError, NotAStoreError, RefusedError, UsageError
from pyrad.eval import files, table
from pyrad.eval.measure import measure
from pyrad.eval.predictions import predict, to_parquet
from pyrad.eval.split import comparable, describe_split, refuse_leaks
from pyrad.loader.loader import Loader
from pyrad.loader.presets import window_of
from pyrad.models import create_model
from pyrad.models.weights import read_weights
from pyrad.progress import Reporter
from pyrad.store.reader import Store, open_store

HELD_OUT = ("test", "val")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """One evaluation of one run."""

    run: Path = field(metadata={"help": "the run folder: --out of pyrad train", "metavar": "DIR"})
    store: Path | None = field(
        default=None,
        metadata={"help": "another store to evaluate on (default: the one that was learned from)"},
    )
    split: str = field(default="test", metadata={"help": "which held-out images", "choices": HELD_OUT})
    batch_size: int = field(default=64, metadata={"help": "images at a time"})
    threads: int | None = field(
        default=None, metadata={"help": "threads that prepare batches (default: one a core)"}
    )

    def __post_init__(self) -> None:
        """Refuse values outside what is allowed."""
        if self.split not in HELD_OUT:
            raise UsageError(f"--split is {self.split!r}; allowed are {', '.join(HELD_OUT)}")
        if self.batch_size < 1:
            raise UsageError(f"--batch-size is {self.batch_size}; it is at least 1")
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads is {self.threads}; it is at least 1")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Where the evaluation lies; ``values`` is its metrics.json."""

    folder: Path
    values: dict[str, Any]
    exit_code: int = 0


def evaluate(options: EvaluateOptions, reporter: Reporter | None = None) -> Evaluation:
    """Measure a finished run on patients it has not learned from, and write what was found.

    Raises:
        UsageError: the run is not finished, the store or its split is not there, or the split is empty.
        RefusedError: the store is not as it was when the run began (unless ``store`` names it), it shares no
            class with the run, or a patient of the split is in training.
        IntegrityError: the run or the store is damaged.

    """
    reporter = reporter or Reporter()
    run = files.open_run(options.run)
    recorded = Path(run.record["options"]["store"])
    with open_store(options.store or recorded) as store, _trained_on(run, recorded, store) as trained_on:
        own = store.fingerprint == run.record["store_fingerprint"]
        _check_store(run, store, own=own, named=options.store is not None)
        refuse_leaks(store, options.split, trained_on)
        loader = evaluation_loader(
            run, store, options.split, batch_size=options.batch_size, threads=options.threads
        )
        labels = _check_labels(run, loader)
        with reporter.stage("evaluate", total=len(loader.samples), unit="images") as stage:
            predictions = predict(_load_model(run), loader, stage)
        measured = measure(predictions)
        left_out = measured["counts"].pop("left_out")
        unlabelled = int((labels["lengths"] == 0).sum())
        measured["counts"] |= {"unlabelled": unlabelled, "unusable": left_out - unlabelled}
        written = to_parquet(predictions)
        values = {
            "format": files.EVALUATION_FORMAT,
            "model": run.record["model"],
            "multi_label": loader.multi_label,
            "split": options.split,
            "store": store.place,
            "store_name": store.path.name,
            "store_fingerprint": store.fingerprint,
            "own_store": own,
            "patients_compared": own or comparable(store, trained_on),
            "unknown_labels": labels["unknown"],
            **measured,
            "division": describe_split(store),
            "ingest_options": dict(store.manifest.options),
            "weights_sha256": run.weights_sha256,
            "predictions_sha256": hashlib.sha256(written).hexdigest(),
            "versions": _versions(),
        }
    files.put(run.evaluation / files.PREDICTIONS_FILE, written)
    files.put(run.evaluation / files.VALUES_FILE, files.json_bytes(values))
    reporter.result({"folder": str(run.evaluation), **values}, table.as_text(values))
    return Evaluation(folder=run.evaluation, values=values)


def evaluation_loader(
    run: files.FinishedRun, store: Store, split: str, *, batch_size: int, threads: int | None
) -> Loader:
    """Make the loader that shows a split as the run's training saw its images, without augmentation."""
    seen = run.record["preprocessing"]
    return Loader(
        store,
        split,
        batch_size,
        seen["size"],
        "cpu",
        window_of(seen["window"]),
        seen["fit"],
        "float32",
        seen["channels"],
        shuffle=False,
        threads=threads,
        mean=seen["mean"],
        std=seen["std"],
        classes=run.classes,
        multi_label=run.record["multi_label"],
    )


@contextmanager
def _trained_on(run: files.FinishedRun, recorded: Path, store: Store) -> Iterator[Store | None]:
    """Open the store the run learned from, where it is another one and still as it was."""
    wanted = run.record["store_fingerprint"]
    if store.fingerprint == wanted:
        yield None
        return
    try:
        trained_on = open_store(recorded)
    except NotAStoreError:
        yield None
        return
    with trained_on:
        yield trained_on if trained_on.fingerprint == wanted else None


def _check_store(run: files.FinishedRun, store: Store, *, own: bool, named: bool) -> None:
    if not own and not named:
        raise RefusedError(
            f"{store.path} is not as it was when the run in {run.path} began (fingerprint "
            f"{store.fingerprint[:12]}, then {run.record['store_fingerprint'][:12]}): its split may have "
            f"changed. To evaluate on it all the same, name it: --store {store.path}"
        )


def _check_labels(run: files.FinishedRun, loader: Loader) -> dict[str, Any]:
    """Number of labels of each image of the split, and the labels that are no class of the run."""
    column = loader.store.samples["labels"].take(loader.samples)
    names = [name for name in pc.unique(pc.list_flatten(column)).to_pylist() if name is not None]
    unknown = sorted((name for name in names if name not in run.classes), key=str.encode)
    if names and len(unknown) == len(names):
        raise RefusedError(
            f"no label of split {loader.split!r} of {loader.store.path.name} is a class of the run: it has "
            f"{table.some(unknown)}; the run knows {table.some(run.classes)}. Ingest with those "
            "names as labels"
        )
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    return {"lengths": np.asarray(lengths), "unknown": unknown}


def _load_model(run: files.FinishedRun) -> torch.nn.Module:
    _, description = read_weights(run.model)
    for name in ("model", "classes", "multi_label", "preprocessing"):
        if description.get(name) != run.record[name]:
            raise IntegrityError(
                f"{run.model} was written with another {name} than run.json names: they are not of one run"
            )
    with torch.random.fork_rng(devices=[]):  # the caller's draws do not depend on ours
        return create_model(
            run.record["model"],
            num_classes=run.record["num_classes"],
            in_chans=run.record["in_chans"],
            weights=run.model,
        )


def _versions() -> dict[str, str]:
    return {
        "pyrad": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
