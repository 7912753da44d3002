"""The numbers of an evaluation -> words and tables for people; undefined is said in so many letters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

UNDEFINED = "undefined"
_NAME_WIDTH = 32  # characters of a class's name on a terminal

HEADLINES = {
    "auroc": "macro AUROC",
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
}


def number(value: float | None) -> str:
    """0.91234 -> '0.912'."""
    return UNDEFINED if value is None else f"{value:.3f}"


def interval(bounds: Sequence[float] | None) -> str:
    """[0.871, 0.944] -> '0.871-0.944'."""
    return UNDEFINED if bounds is None else f"{bounds[0]:.3f}-{bounds[1]:.3f}"


def headlines(values: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Name, value, interval by patient and interval by image of what sums the evaluation up.

    What does not apply (top-5 of few classes, accuracies where an image has several labels) is left out.
    """
    for key, name in HEADLINES.items():
        found = values[key]
        if found is not None:
            yield name, number(found["value"]), interval(found["by_patient"]), interval(found["by_image"])
    if values["confusion"] is not None:
        yield "balanced accuracy", number(values["balanced_accuracy"]), "", ""


def notes(values: Mapping[str, Any]) -> Iterator[str]:
    """Sentences without which the numbers would mislead."""
    if not values["own_store"]:
        yield (
            f"{values['store_name']} is not the store this model learned from"
            + (
                ""
                if values["patients_compared"]
                else ", and its patients cannot be compared with the training's"
            )
        )
    group_by = values["ingest_options"].get("group_by", "patient")
    if group_by != "patient":
        yield f"the store was grouped by {group_by}: what is called a patient here is a {group_by}"
    counts = values["counts"]
    if not counts["images"]:
        yield "no image of this split has a label that the model knows: nothing can be measured"
    if counts["unlabelled"]:
        yield f"{counts['unlabelled']:,} images without a label are left out"
    if counts["unusable"]:
        why = (
            "whose labels are no class of the model"
            if values["multi_label"]
            else ("with several labels, or one that is no class of the model,")
        )
        yield f"{counts['unusable']:,} images {why} are left out"
    if unknown := values["unknown_labels"]:
        yield f"labels that the model does not know: {some(unknown)}"
    absent = [row["class"] for row in values["classes"] if not row["images"]]
    if absent and counts["images"]:
        yield f"no image here is of {some(absent)}: left out of every mean over classes"
    few = [row["class"] for row in values["classes"] if 0 < row["patients"] < 10]
    if few:
        yield f"fewer than 10 patients have {some(few)}: read those intervals with care"


def some(names: Sequence[str], most: int = 5) -> str:
    """'a, b, c, d, e and 7 more'."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def class_table(values: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Column heads and one row of words a class."""
    heads = ["class", "images", "patients", "AUROC", "95% by patient", "95% by image", "precision", "recall"]
    rows = [
        [
            row["class"],
            f"{row['images']:,}",
            f"{row['patients']:,}",
            number(row["auroc"]["value"]),
            interval(row["auroc"]["by_patient"]),
            interval(row["auroc"]["by_image"]),
            number(row["precision"]),
            number(row["recall"]),
        ]
        for row in values["classes"]
    ]
    return heads, rows


def as_text(values: Mapping[str, Any]) -> str:
    """Return what a terminal shows."""
    counts = values["counts"]
    heads, rows = class_table(values)
    rows = [[_plain(row[0])[:_NAME_WIDTH], *row[1:]] for row in rows]
    summary = [
        [name, value, by_patient and f"{by_patient} by patient, {by_image} by image"]
        for name, value, by_patient, by_image in headlines(values)
    ]
    title = (
        f"{values['model']} on split {values['split']} of {values['store_name']}: "
        f"{counts['images']:,} images of {counts['patients']:,} patients, {len(values['classes'])} classes"
    )
    return "\n".join(
        [
            _plain(title),
            "",
            *_aligned([heads, *rows], right=range(1, len(heads))),
            "",
            *_aligned(summary, right=()),
            *(f"note: {_plain(note)}" for note in notes(values)),
        ]
    )


def _plain(text: str) -> str:
    """Return a name from the data without what could steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _aligned(rows: Sequence[Sequence[str]], right: Sequence[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place in right else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
