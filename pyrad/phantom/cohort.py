"""A seed -> who is examined, on which scanner, and what each file will show: the phantom's plan.

The label is drawn before the anatomy, scanner, matrix, window and transfer syntax, and independently of
them: only the pixels tell it. Patient p of a seed is the same in an archive of any size; which files are
broken depends on how many there are.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.random import Generator

from pyrad.phantom.lesion import LESIONS, NORMAL
from pyrad.phantom.scanner import SCANNERS, Scanner

_REGIONS = (  # scanners that look at the same part of the body, and how often a patient comes for it
    ("head", ("ct-head", "mr-brain"), 0.26),
    ("chest", ("ct-chest", "dx-chest"), 0.26),
    ("abdomen", ("ct-abdomen", "us-abdomen"), 0.24),
    ("knee", ("mr-knee",), 0.12),
    ("neck", ("us-thyroid",), 0.12),
)
_HEALTHY_SHARE = 0.16  # of patients; every other one has normal slices too
_SECOND_STUDY_SHARE = 0.25
_CINE_SHARE = 0.15  # of ultrasound images
_CINE_FRAMES = 4
_BROKEN_SHARE = 0.02
_MOST_BROKEN_SHARE = 0.03

# The first is the plainest, so that an archive with one broken file has one that cannot be mistaken.
BROKEN = ("truncated", "missing-rows", "unknown-syntax", "garbage", "no-pixels")


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A fictitious person."""

    number: int  # from 0
    identifier: str
    name: str
    sex: str
    age: int  # years


@dataclass(frozen=True, kw_only=True)
class Series:
    """What all slices of one series share."""

    patient: Patient
    study: int  # from 1
    scanner: Scanner
    rows: int
    columns: int
    day: int  # of the study, from the archive's first day
    window_factor: tuple[float, float]  # of centre and width
    padded: bool  # has a PixelPaddingValue outside the reconstruction circle
    many_windows: bool
    inverted: bool  # MONOCHROME1
    syntax: str  # a key of dicom.SYNTAXES
    laterality: str


@dataclass(frozen=True, kw_only=True)
class Image:
    """One file."""

    series: Series
    number: int  # from 1
    count: int  # images in the series
    label: str
    frames: int  # 1, or more in a cine
    broken: str | None = None

    @property
    def path(self) -> str:
        """Return where the file lies in the archive, with forward slashes."""
        patient, study = self.series.patient.number + 1, self.series.study
        return f"patient-{patient:04d}/study-{study}/image-{self.number:03d}.dcm"

    @property
    def level(self) -> float:
        """Return the slice's place along the body, from -1 to 1."""
        return 0.0 if self.count == 1 else 2 * (self.number - 1) / (self.count - 1) - 1


class Purpose(IntEnum):
    """What a random stream decides."""

    PATIENT = 1
    DAMAGE = 2
    GARBAGE = 3
    BODY = 4
    NOISE = 5
    LESION = 6
    LESION_SLICE = 7
    LESION_TEXTURE = 8


def chance(
    seed: int, purpose: Purpose, patient: int = 0, study: int = 0, image: int = 0, frame: int = 0
) -> Generator:
    """Return the random stream of one purpose at one place in the archive; no two share a stream."""
    return np.random.default_rng([seed, purpose, patient, study, image, frame])


def make_uid(seed: int, *place: int | str) -> str:
    """Return a UID that depends on the seed and the place alone. Source: PS3.5 B.2, UUID derived."""
    name = "/".join(str(part) for part in ("pyrad phantom", seed, *place))
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, name).int}"


def plan(patients: int, seed: int) -> list[Image]:
    """Plan every file of the archive, in order of patient, study and image."""
    images = [image for number in range(patients) for image in _patient_images(seed, number)]
    return _break_some(images, seed)


def _patient_images(seed: int, number: int) -> list[Image]:
    draw = chance(seed, Purpose.PATIENT, number)
    patient = Patient(
        number=number,
        identifier=f"PHANTOM-{seed}-{number + 1:04d}",
        name=f"Phantom^{('Ada', 'Bo', 'Cy', 'Dee', 'Eli', 'Flo', 'Gil', 'Ida')[number % 8]}^{number + 1}",
        sex=str(draw.choice(("F", "M"))),
        age=int(draw.integers(18, 90)),
    )
    finding = NORMAL if draw.random() < _HEALTHY_SHARE else str(draw.choice(LESIONS))
    shares = [share for _, _, share in _REGIONS]
    scanners = list(_REGIONS[int(draw.choice(len(_REGIONS), p=shares))][1])
    draw.shuffle(scanners)
    images: list[Image] = []
    for study in range(1, 3 if draw.random() < _SECOND_STUDY_SHARE else 2):
        scanner = SCANNERS[scanners[study % len(scanners)]]
        series = _series(draw, patient, study, scanner)
        images += _series_images(draw, series, finding)
    return images


def _series(draw: Generator, patient: Patient, study: int, scanner: Scanner) -> Series:
    rows, columns = scanner.matrices[int(draw.integers(len(scanner.matrices)))]
    return Series(
        patient=patient,
        study=study,
        scanner=scanner,
        rows=rows,
        columns=columns,
        day=int(draw.integers(0, 300)) + 400 * (study - 1),
        window_factor=(draw.uniform(0.92, 1.08), draw.uniform(0.9, 1.2)),
        padded=scanner.modality == "CT" and draw.random() < 0.5,
        many_windows=draw.random() < 0.5,
        inverted=scanner.modality == "DX" and draw.random() < 0.5,
        syntax=str(draw.choice(scanner.syntaxes)),
        laterality=str(draw.choice(("L", "R"))) if scanner.paired else "",
    )


def _series_images(draw: Generator, series: Series, finding: str) -> list[Image]:
    count = int(draw.integers(2, 4) if series.scanner.modality == "DX" else draw.integers(3, 7))
    # A lesion spans neighbouring slices: its run is about two thirds of the stack, anywhere in it.
    run = max(1, round(count * draw.uniform(0.5, 0.95)))
    first = int(draw.integers(1, count - run + 2))
    cine = series.scanner.modality == "US"
    return [
        Image(
            series=series,
            number=number,
            count=count,
            label=finding if first <= number < first + run else NORMAL,
            frames=_CINE_FRAMES if cine and draw.random() < _CINE_SHARE else 1,
        )
        for number in range(1, count + 1)
    ]


def _break_some(images: list[Image], seed: int) -> list[Image]:
    # Never above 3 % of the files, and at least one as soon as that allows it: from 34 files up.
    most = int(len(images) * _MOST_BROKEN_SHARE + 1e-9)
    wanted = min(most, max(1, round(len(images) * _BROKEN_SHARE)))
    order = chance(seed, Purpose.DAMAGE).permutation(len(images))
    chosen = [int(i) for i in order if images[i].frames == 1][:wanted]
    broken = {index: BROKEN[rank % len(BROKEN)] for rank, index in enumerate(chosen)}
    return [replace(image, broken=broken.get(index)) for index, image in enumerate(images)]
