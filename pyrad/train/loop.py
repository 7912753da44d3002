"""A store and options -> a finished run folder: what is checked, opened and recorded around the steps."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pyrad import __version__
from pyrad.errors import UsageError
from pyrad.loader.loader import Loader
from pyrad.loader.presets import window_of
from pyrad.models import MODELS
from pyrad.progress import Reporter
from pyrad.store.reader import Store, open_store
from pyrad.train.checkpoint import MODEL_FILE, Result
from pyrad.train.options import TrainOptions, refuse_changes
from pyrad.train.run import FORMAT, RunFolder
from pyrad.train.signals import StopWish
from pyrad.train.trainer import Trainer

MEAN = (0.5,)  # of the window's [0, 1], so that the network sees [-1, 1]
STD = (0.5,)


@dataclass(frozen=True, kw_only=True)
class TrainSummary:
    """A finished run; ``validation`` is the last, ``best`` that of lowest loss, None without a val split."""

    model_path: Path
    steps: int
    validation: Result | None
    best: Result | None
    images_per_s: float | None  # of this process, validation included; None where nothing was left to do
    exit_code: int = 0


def train(options: TrainOptions, reporter: Reporter | None = None) -> TrainSummary:
    """Train a model, or go on with one, until the run's last step.

    Raises:
        UsageError: an unknown model or window, a store without labels, an ``out`` that is in use, or a
            resumption whose options or store differ from those the run was begun with.
        IntegrityError: no checkpoint of the run is whole, or the store is damaged.
        StoppedError: SIGTERM or Ctrl-C came; a checkpoint of the last finished step is saved.
        PyradError: the loss is no longer finite, or the disk is full.

    """
    reporter = reporter or Reporter()
    if options.model not in MODELS:
        raise UsageError(f"there is no model {options.model!r}; models: {', '.join(sorted(MODELS))}")
    with StopWish() as stop, open_store(options.store) as store:
        loader = _loader(options, store, "train")
        has_val = "val" in store.samples["split"].unique().to_pylist()
        val_loader = _loader(options, store, "val", like=loader) if has_val else None
        _check_classes(loader, options)
        record = _record(options, store, loader)
        with RunFolder(options.out) as folder:
            begun = folder.begun()
            if begun is not None:
                _check_resumable(options, begun, record)
                if _is_finished(begun, options) and folder.model.is_file():
                    reporter.say(f"the run in {options.out} is finished; nothing is left to do")
                    return _report(options, begun["result"], reporter, images_per_s=None)
            _say_what_is_not_used(options, loader, reporter)
            with torch.random.fork_rng(devices=[]), _determinism(on=options.deterministic):
                torch.manual_seed(options.seed)
                trainer = Trainer(options, reporter, stop, folder, loader, val_loader, record)
                trainer.begin_or_resume(begun)
                result = trainer.run()
            return _report(options, result, reporter, images_per_s=trainer.images_per_s)


def _loader(options: TrainOptions, store: Store, split: str, like: Loader | None = None) -> Loader:
    return Loader(
        store,
        split,
        options.batch_size,
        options.size,
        options.device,
        window_of(options.window),
        options.fit,
        "float32",
        options.channels,
        options.augment() if like is None else None,
        options.seed,
        threads=options.threads,
        mean=MEAN,
        std=STD,
        classes=None if like is None else like.classes,
        multi_label=None if like is None else like.multi_label,
    )


def _check_classes(loader: Loader, options: TrainOptions) -> None:
    count = len(loader.classes)
    if count > 1 or (count == 1 and loader.multi_label):
        return
    what = f"all have the one label {loader.classes[0]!r}" if count else "have no label"
    raise UsageError(
        f"the training samples of {options.store} {what}; a model needs two to tell apart: ingest again with "
        "labels (a table, or folders as classes)"
    )


def _say_what_is_not_used(options: TrainOptions, loader: Loader, reporter: Reporter) -> None:
    if loader.left_out:
        reporter.say(f"{loader.left_out:,} training images have no label and are left out")
    if options.device == "auto" and torch.cuda.is_available():
        reporter.say("a GPU is here; this version trains on the CPU only")


def _record(options: TrainOptions, store: Store, loader: Loader) -> dict[str, Any]:
    """Everything the run was begun with, as run.json holds it."""
    return {
        "format": FORMAT,
        "model": options.model,
        "num_classes": len(loader.classes),
        "in_chans": options.channels,
        "classes": list(loader.classes),
        "class_counts": list(loader.class_counts),
        "multi_label": loader.multi_label,
        "preprocessing": {
            "size": options.size,
            "window": options.window,
            "fit": options.fit,
            "mean": list(MEAN),
            "std": list(STD),
            "channels": options.channels,
        },
        "options": options.record(),
        "store_fingerprint": store.fingerprint,
        "versions": {
            "pyrad": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "torch_threads": torch.get_num_threads(),
        },
    }


def _check_resumable(options: TrainOptions, begun: dict[str, Any], record: dict[str, Any]) -> None:
    if not options.resume:
        raise UsageError(
            f"--out {options.out} already holds a run; --resume goes on with it, another --out begins anew"
        )
    refuse_changes(options, begun["options"], options.out)
    then, now = begun.get("store_fingerprint"), record["store_fingerprint"]
    if then != now:
        raise UsageError(
            f"--resume: the store {options.store} is not as it was when the run in {options.out} was begun "
            f"(fingerprint {str(then)[:12]}, now {now[:12]}); begin a new run with another --out"
        )


def _is_finished(begun: dict[str, Any], options: TrainOptions) -> bool:
    return bool(begun.get("result")) and begun["options"].get("epochs") == options.epochs


def _report(
    options: TrainOptions, result: dict[str, Any], reporter: Reporter, *, images_per_s: float | None
) -> TrainSummary:
    validation, best = result["validation"], result["best"]
    summary = TrainSummary(
        model_path=options.out / MODEL_FILE,
        steps=result["step"],
        validation=validation and Result(**validation),
        best=best and Result(**best),
        images_per_s=images_per_s,
    )
    words = [f"{options.model} after {summary.steps:,} steps"]
    if summary.validation and summary.validation.loss is not None:
        words.append(f"validation loss {summary.validation.loss:.4f}")
        if summary.validation.accuracy is not None:
            words.append(f"top-1 {summary.validation.accuracy:.4f}")
    if summary.best:
        words.append(f"best at step {summary.best.step:,}")
    record = {**asdict(summary), "model_path": str(summary.model_path)}
    reporter.result(record, f"{', '.join(words)}: {summary.model_path}")
    return summary


@contextmanager
def _determinism(*, on: bool) -> Iterator[None]:
    """Refuse operations that are not repeatable, inside the block."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(on or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
