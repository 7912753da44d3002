"""A run folder with its evaluation -> report.html: one file, offline, with all that a rerun needs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pyrad.errors import RefusedError, UsageError
from pyrad.eval import figures, files, gallery, page, table
from pyrad.eval.classify import evaluation_loader
from pyrad.eval.predictions import Predictions, from_parquet
from pyrad.progress import Reporter
from pyrad.records import SPLITS
from pyrad.store.reader import open_store

MISTAKES = 18
RIGHT_ONES = 6


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """One report of one run."""

    run: Path = field(metadata={"help": "the run folder: --out of pyrad train", "positional": True})
    store: Path | None = field(
        default=None, metadata={"help": "where the evaluated store lies now (default: where it lay then)"}
    )


@dataclass(frozen=True, kw_only=True)
class ReportSummary:
    """Where the report lies."""

    path: Path
    exit_code: int = 0


def write_report(options: ReportOptions, reporter: Reporter | None = None) -> ReportSummary:
    """Write DIR/report.html; the same run, evaluation and place give the same bytes.

    Raises:
        UsageError: the run is not finished or not evaluated, or the evaluated store is not there.
        RefusedError: the store is not as it was evaluated.
        IntegrityError: the evaluation or the store is damaged.

    """
    reporter = reporter or Reporter()
    run = files.open_run(options.run)
    values = files.read_evaluation(run)
    predictions = from_parquet(
        (run.evaluation / files.PREDICTIONS_FILE).read_bytes(), run.classes, multi_label=values["multi_label"]
    )
    worst = gallery.worst_mistakes(predictions, MISTAKES)
    right = gallery.right_ones(predictions, RIGHT_ONES)
    pictures = _pictures(run, values, options.store, [*worst, *right])
    parts = [
        *_headline(run, values),
        page.section("Learning curves", *_learning(files.read_log(run))),
        page.section("ROC curves", *_roc(predictions.only(predictions.labelled), values)),
        *_confusion(run, values),
        page.section("Classes", *_classes(values)),
        page.section(
            "Worst mistakes", *_shown(worst, pictures[: len(worst)], "Nothing was predicted wrongly.")
        ),
        page.section("Right ones", *_shown(right, pictures[len(worst) :], "Nothing was predicted rightly.")),
        page.section("Split", *_split(values)),
        page.section("Settings", *_settings(run, values)),
        page.section("Run it again", page.commands(_commands(run, values))),
    ]
    text = page.page(f"{_title(values)}: {_name(run)}", parts)
    path = run.path / files.REPORT_FILE
    files.put(path, text.encode())
    reporter.result({"path": str(path), "bytes": len(text.encode())}, f"the report: {path}")
    return ReportSummary(path=path)


def _pictures(
    run: files.FinishedRun, values: Mapping[str, Any], moved: Path | None, choices: list[gallery.Choice]
) -> list[bytes]:
    place = moved or Path(values["store"])
    if not place.exists():
        raise UsageError(f"the evaluated store is no longer at {place}; say where it is: --store STORE.zarr")
    with open_store(place) as store:
        if store.fingerprint != values["store_fingerprint"]:
            raise RefusedError(
                f"{place} is not as it was evaluated (fingerprint {store.fingerprint[:12]}, then "
                f"{values['store_fingerprint'][:12]}); run again: pyrad evaluate --run "
                f"{run.path} --store {place}"
            )
        loader = evaluation_loader(run, store, values["split"], batch_size=1, threads=1)
        return gallery.draw(loader, choices)


def _headline(run: files.FinishedRun, values: Mapping[str, Any]) -> Iterator[str]:
    counts = values["counts"]
    yield page.heading(_title(values))
    yield page.paragraph(
        f"Run folder {_name(run)}, evaluated on the {values['split']} split: {counts['images']:,} images of "
        f"{counts['patients']:,} patients, {len(values['classes'])} classes. No patient of it is "
        "in the training split."
    )
    yield page.cards(table.headlines(values))
    yield page.paragraph(
        "Ranges are 95% intervals. By patient: images of one patient are not independent of each other, so "
        "this is what carries over to new patients. By image: every image counts as independent (DeLong, "
        "Wilson), as in most papers.",
        "soft",
    )
    for note in table.notes(values):
        yield page.paragraph(f"{note[:1].upper()}{note[1:]}.", "note")


def _learning(log: list[dict[str, Any]]) -> Iterator[str]:
    if any(line.get("loss") is not None for line in log):
        yield page.drawing(
            figures.learning_curves(log),
            "Training values are of single batches as the weights change, with augmentation, and their "
            "running mean; validation values are of the whole validation split after each epoch.",
        )
    else:
        yield page.paragraph("The run has no log of its training.")


def _roc(counted: Predictions, values: Mapping[str, Any]) -> Iterator[str]:
    defined = sum(row["auroc"]["value"] is not None for row in values["classes"])
    if not defined:
        yield page.paragraph("Undefined: a curve needs images with and without a class.")
        return
    told = "Each class against the rest, with its AUROC."
    if defined > figures.CURVES:
        told += f" Named are the {figures.CURVES} of lowest AUROC; the others are pale."
    yield page.drawing(figures.roc_curves(counted, values["classes"]), told)


def _confusion(run: files.FinishedRun, values: Mapping[str, Any]) -> Iterator[str]:
    if values["confusion"] is None or not values["counts"]["images"]:
        return
    drawn = figures.confusion(np.array(values["confusion"]), run.classes)
    told = "Images by true class (rows) and predicted class (columns); the shade is the share of the row."
    yield page.section("Confusion matrix", page.drawing(drawn, told))


def _classes(values: Mapping[str, Any]) -> Iterator[str]:
    heads, rows = table.class_table(values)
    what = (
        "predicted where the score is 0.5 or more"
        if values["multi_label"]
        else "the highest score is predicted"
    )
    yield page.table(
        heads, rows, f"AUROC of each class against the rest; precision and recall: {what}.", numbers=1
    )


def _shown(choices: list[gallery.Choice], pictures: list[bytes], none: str) -> Iterator[str]:
    if not choices:
        yield page.paragraph(none)
        return
    yield page.paragraph(
        "As the network saw them: windowed, at its input size. The number is the score of the predicted or "
        "questioned class; the code is the image's key in the store.",
        "soft",
    )
    yield page.gallery(choices, pictures)


def _split(values: Mapping[str, Any]) -> Iterator[str]:
    division = values["division"]
    source = (
        "taken from the archive's own layout"
        if division["source"] == "layout"
        else ("drawn by patient, in the ratio " + "/".join(map(str, division["ratios"])))
    )
    yield page.paragraph(
        f"The split was {source}. Patients with images in more than one split: "
        f"{division['patients_in_several']:,}. That none of the evaluated split is in the training split was "
        "checked before the evaluation."
    )
    rows = [[split, f"{division['images'][split]:,}", f"{division['patients'][split]:,}"] for split in SPLITS]
    yield page.table(["split", "images", "patients"], rows, numbers=1)
    yield page.paragraph("Fingerprint of the split, the SHA-256 of its sorted pairs of patient and split:")
    yield page.commands([division["fingerprint"]])


def _settings(run: files.FinishedRun, values: Mapping[str, Any]) -> Iterator[str]:
    record = run.record
    yield page.side_by_side(
        page.table([], _rows(record["options"]), "Training"),
        page.table([], _rows(record["preprocessing"]), "How images are seen")
        + page.table([], _rows(values["ingest_options"]), "Ingest")
        + _versions(record.get("versions", {}), values["versions"]),
    )
    prints = {
        "store, at the training": record["store_fingerprint"],
        "store, evaluated": values["store_fingerprint"],
        "weights": run.weights_sha256,
        "predictions": values["predictions_sha256"],
    }
    yield page.table([], _rows(prints), "Fingerprints (SHA-256)")


def _versions(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [*then, *(name for name in now if name not in then)]
    rows = [[_words(name), str(then.get(name, "")), str(now.get(name, ""))] for name in names]
    return page.table(["version of", "training", "evaluation"], rows, "Versions")


def _commands(run: files.FinishedRun, values: Mapping[str, Any]) -> Iterator[str]:
    options = run.record["options"]
    yield "# The archive's place is not recorded in a store; its settings are: see Ingest above."
    yield shlex.join(["pyrad", "verify", options["store"]])
    words = ["pyrad", "train"]
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [flag] if value and name != "resume" else []
        elif value is not None:
            words += [flag, str(value)]
    yield shlex.join(words)
    words = ["pyrad", "evaluate", "--run", str(run.path), "--split", values["split"]]
    yield shlex.join(words if values["own_store"] else [*words, "--store", values["store"]])
    yield shlex.join(["pyrad", "report", str(run.path)])


def _rows(record: Mapping[str, Any]) -> list[list[str]]:
    return [[_words(name), _value(value)] for name, value in record.items()]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_value(own)}" for name, own in value.items()) or "none"
    return str(value)


def _title(values: Mapping[str, Any]) -> str:
    return f"{values['model']} on {values['store_name']}"


def _name(run: files.FinishedRun) -> str:
    return run.path.absolute().name
