"""seed -> archive: a realistic DICOM archive by code, with the table, masks and damage that real ones have.

    cohort    who is examined, on which scanner, what each file shows, which files are broken
    anatomy   a slice of a body region, drawn on a canvas
    lesion    what a label means, painted into an organ, and its mask
    scanner   noise and speckle; stored values of each bit depth
    render    all of these: a planned file's pixels and masks
    dicom     headers, transfer syntaxes, damage

Written: ``patient-0001/study-1/image-001.dcm`` and so on, ``labels.csv`` (path, label, patient), ``masks/``
with a picture for every file that shows a lesion, ``lesions.csv`` that lists these, and ``phantom.json`` with
the hash of each file, by which a repeated command knows that its work is done.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from pyrad.errors import UsageError
from pyrad.phantom.cohort import Image, plan
from pyrad.phantom.dicom import encode
from pyrad.phantom.lesion import LABELS, Mask
from pyrad.phantom.render import Rendering, render
from pyrad.progress import Reporter

_RECORD = "phantom.json"
_EDITION = 1  # raised whenever the same options give other bytes
_MOST_PATIENTS = 9999


@dataclass(frozen=True, kw_only=True)
class PhantomOptions:
    """What ``pyrad phantom`` may be told."""

    directory: Path = field(metadata={"help": "the folder to write: new, or empty", "positional": True})
    patients: int = field(
        default=320, metadata={"help": f"how many patients, 1 to {_MOST_PATIENTS}, about five images each"}
    )
    seed: int = field(default=0, metadata={"help": "another seed is another archive, 0 to 4294967295"})

    def __post_init__(self) -> None:
        if not 1 <= self.patients <= _MOST_PATIENTS:
            raise UsageError(f"--patients {self.patients}: give a number from 1 to {_MOST_PATIENTS}")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed {self.seed}: give a number from 0 to {2**32 - 1}")


@dataclass(frozen=True, kw_only=True)
class PhantomSummary:
    """What an archive holds."""

    directory: Path
    patients: int
    files: int  # DICOM files, broken ones included
    frames: int  # images in the files that are whole
    broken: int
    files_by_label: Mapping[str, int]
    written: bool  # False: it was there already, byte for byte


def write(options: PhantomOptions, reporter: Reporter | None = None) -> PhantomSummary:
    """Write the archive that ``options`` describe; the same options write the same bytes.

    An interrupted or damaged archive of the same options is completed, a whole one is left alone.

    Raises:
        UsageError: the directory is a file, or holds anything else.

    """
    reporter = Reporter() if reporter is None else reporter
    directory = options.directory
    identity = {"edition": _EDITION, "patients": options.patients, "seed": options.seed}
    _refuse_foreign(directory, identity)
    images = plan(options.patients, options.seed)
    written = not _is_whole(directory)
    if written:
        # First without hashes: whoever finds it so knows that the archive is ours and unfinished.
        directory.mkdir(parents=True, exist_ok=True)
        _put(directory, _RECORD, _as_json(identity))
        hashes = _write_files(images, options, reporter)
        _put(directory, _RECORD, _as_json({**identity, "sha256": hashes}))
    summary = PhantomSummary(
        directory=directory,
        patients=options.patients,
        files=len(images),
        frames=sum(image.frames for image in images if image.broken is None),
        broken=sum(image.broken is not None for image in images),
        files_by_label={label: sum(image.label == label for image in images) for label in LABELS},
        written=written,
    )
    _report(summary, reporter)
    return summary


def _write_files(images: Sequence[Image], options: PhantomOptions, reporter: Reporter) -> dict[str, str]:
    """Write everything but the record; returns the SHA-256 of each file by its path."""
    hashes: dict[str, str] = {}

    def put(path: str, content: bytes) -> None:
        hashes[path] = hashlib.sha256(content).hexdigest()
        _put(options.directory, path, content)

    labels: list[Sequence[object]] = [("path", "label", "patient")]
    lesions: list[Sequence[object]] = [("path", "label", "patient", "mask", "diameter_mm", "contrast")]
    with reporter.stage("phantom", len(images), "files") as stage:
        for image in images:
            drawing = render(image, options.seed)
            put(image.path, encode(image, drawing.pixels, options.seed))
            labels.append((image.path, image.label, image.series.patient.identifier))
            if image.broken is None and drawing.lesion is not None:
                lesions.append(_lesion_row(image, drawing))
                put(_mask_path(image), _as_picture(drawing.masks))
            stage.advance()
    put("lesions.csv", _as_csv(lesions))
    put("labels.csv", _as_csv(labels))
    return hashes


def _lesion_row(image: Image, drawing: Rendering) -> tuple[object, ...]:
    """What lesions.csv says of a file; of several frames, the largest cut of the lesion counts."""
    assert drawing.lesion is not None  # noqa: S101 - asked for images with one
    series = image.series
    pixel_mm2 = math.prod(series.scanner.field_mm) / (series.rows * series.columns)
    largest = max(int(mask.sum()) for mask in drawing.masks)
    diameter_mm = 2 * math.sqrt(largest * pixel_mm2 / math.pi)
    facts = (image.path, image.label, series.patient.identifier, _mask_path(image))
    return (*facts, f"{diameter_mm:.1f}", f"{drawing.lesion.contrast:.3f}")


def _mask_path(image: Image) -> str:
    """A PNG, or for several frames a TIFF of as many pages."""
    return f"masks/{image.path.removesuffix('.dcm')}.{'tif' if image.frames > 1 else 'png'}"


def _refuse_foreign(directory: Path, identity: Mapping[str, int]) -> None:
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UsageError(f"{directory} is a file; give a folder that is new or empty")
    record = _read_record(directory)
    if record is None:
        if any(directory.iterdir()):
            raise UsageError(
                f"{directory} is not empty and holds no phantom; give a folder that is new or empty"
            )
        return
    found = {key: record.get(key) for key in identity}
    if found != identity:
        options = f"--patients {found['patients']} --seed {found['seed']}, edition {found['edition']}"
        raise UsageError(
            f"{directory} holds another phantom ({options}; this is edition {_EDITION}); "
            "give another folder, or delete that one first"
        )


def _is_whole(directory: Path) -> bool:
    hashes = (_read_record(directory) or {}).get("sha256")
    if not isinstance(hashes, dict):
        return False
    try:
        return all(
            hashlib.sha256((directory / path).read_bytes()).hexdigest() == expected
            for path, expected in hashes.items()
        )
    except OSError:
        return False


def _read_record(directory: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((directory / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _put(directory: Path, path: str, content: bytes) -> None:
    # By rename, so that a killed command leaves no half file that a reader could take for a broken one.
    target = directory / path
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(target.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(target)


def _as_csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _as_json(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()


def _as_picture(masks: Sequence[Mask]) -> bytes:
    first, *others = (Picture.fromarray(mask.astype(np.uint8) * 255) for mask in masks)
    buffer = io.BytesIO()
    if others:
        first.save(buffer, "TIFF", save_all=True, append_images=others, compression="tiff_adobe_deflate")
    else:
        first.save(buffer, "PNG")
    return buffer.getvalue()


def _report(summary: PhantomSummary, reporter: Reporter) -> None:
    labels = ", ".join(f"{count:,} {label}" for label, count in summary.files_by_label.items())
    record = {
        "directory": str(summary.directory),
        "patients": summary.patients,
        "files": summary.files,
        "frames": summary.frames,
        "broken": summary.broken,
        "labels": dict(summary.files_by_label),
        "written": summary.written,
    }
    verb = "written to" if summary.written else "already whole in"
    text = (
        f"{summary.files:,} DICOM files of {summary.patients:,} patients {verb} {summary.directory}: "
        f"{labels}; {summary.broken} broken on purpose"
    )
    reporter.result(record, text)
