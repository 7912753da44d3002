"""Stored values and a plan -> the bytes of a DICOM file, whole or broken on purpose."""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from signal import SIGINT, SIGTERM
from threading import current_thread, main_thread

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset

from pyrad.phantom.cohort import Image, Purpose, chance, make_uid
from pyrad.phantom.scanner import PADDING

SYNTAXES: dict[str, uid.UID] = {
    "implicit": uid.ImplicitVRLittleEndian,
    "explicit": uid.ExplicitVRLittleEndian,
    "big-endian": uid.ExplicitVRBigEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
    "rle": uid.RLELossless,
    "jpeg-ls": uid.JPEGLSLossless,
    "jpeg-2000": uid.JPEG2000Lossless,
}
# Named, or pydicom would take whichever is installed and the bytes would differ from machine to machine.
_ENCODERS = {"rle": "pylibjpeg", "jpeg-ls": "pyjpegls", "jpeg-2000": "pylibjpeg"}
_UNKNOWN_SYNTAX = "2.25.329800735698586629295641978511506172918"

_CLASSES = {
    "CT": uid.CTImageStorage,
    "MR": uid.MRImageStorage,
    "US": uid.UltrasoundImageStorage,
    "DX": uid.DigitalXRayImageStorageForPresentation,
}
_FIRST_DAY = date(2021, 1, 4)
_SLICE_MM = 5.0


def encode(image: Image, pixels: NDArray[np.generic], seed: int) -> bytes:
    """Write one file: ``pixels`` (frames, rows, columns) of stored values, its kind's headers, its damage."""
    if image.broken == "garbage":
        return chance(seed, Purpose.GARBAGE, image.series.patient.number).bytes(2048)
    dataset = _headers(image, seed)
    syntax = image.series.syntax
    if image.broken is not None:  # damage shows most plainly in native pixel data
        syntax = "explicit"
    if image.series.scanner.colour:
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    native = syntax if syntax in ("implicit", "big-endian", "deflated") else "explicit"
    stored = pixels.dtype.newbyteorder(">" if native == "big-endian" else "<")
    data = pixels.astype(stored).tobytes()
    if image.broken == "missing-rows":
        data = data[: len(data) * 2 // 3 & ~1]
    if image.broken != "no-pixels":
        dataset.add(
            DataElement("PixelData", "OB" if pixels.itemsize == 1 else "OW", data + b"\0" * (len(data) % 2))
        )
    dataset.file_meta.TransferSyntaxUID = SYNTAXES[native]
    if syntax in _ENCODERS:
        with _signals_held():
            dataset.compress(SYNTAXES[syntax], encoding_plugin=_ENCODERS[syntax], generate_instance_uid=False)
    if image.broken == "unknown-syntax":
        dataset.file_meta.TransferSyntaxUID = uid.UID(_UNKNOWN_SYNTAX)
    buffer = io.BytesIO()
    if image.broken == "unknown-syntax":
        dataset.save_as(buffer, implicit_vr=False, little_endian=True, enforce_file_format=True)
    else:
        dataset.save_as(buffer, enforce_file_format=True)
    whole = buffer.getvalue()
    return whole[: len(whole) * 3 // 5] if image.broken == "truncated" else whole


@contextmanager
def _signals_held() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait: OpenJPEG's wrapper calls Python, and raising there is a SIGSEGV."""
    if current_thread() is not main_thread():  # Python gives signals to no other
        yield
        return
    came: list[int] = []
    former = {n: signal.signal(n, lambda number, _: came.append(number)) for n in (SIGINT, SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for missed in came:
            signal.raise_signal(missed)


def _headers(image: Image, seed: int) -> Dataset:
    series = image.series
    scanner, patient = series.scanner, series.patient
    modality, frames = scanner.modality, image.frames
    place = (patient.number, series.study)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.ImplementationClassUID = uid.UID(make_uid(0, "implementation"))
    dataset.file_meta.ImplementationVersionName = "PYRAD_PHANTOM"

    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = uid.UltrasoundMultiFrameImageStorage if frames > 1 else _CLASSES[modality]
    dataset.SOPInstanceUID = make_uid(seed, *place, image.number)
    day = _FIRST_DAY + timedelta(days=series.day)
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = f"{day:%Y%m%d}"
    dataset.StudyTime = dataset.SeriesTime = "090000"
    dataset.ContentTime = f"0900{image.number:02d}"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if modality == "CT" else ["ORIGINAL", "PRIMARY"]
    dataset.AccessionNumber = f"A{seed}{patient.number + 1:04d}{series.study}"
    dataset.Modality = modality
    dataset.Manufacturer = scanner.manufacturer
    dataset.ManufacturerModelName = f"{modality} {series.rows}"
    dataset.ReferringPhysicianName = ""
    dataset.PatientName = patient.name
    dataset.PatientID = patient.identifier
    dataset.PatientBirthDate = f"{day.year - patient.age}0101"
    dataset.PatientSex = patient.sex
    dataset.PatientAge = f"{patient.age:03d}Y"
    dataset.BodyPartExamined = scanner.body_part
    dataset.StudyInstanceUID = make_uid(seed, *place, "study")
    dataset.SeriesInstanceUID = make_uid(seed, *place, "series")
    dataset.StudyID = str(series.study)
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = image.number
    if series.laterality:
        dataset.Laterality = series.laterality
    _add_geometry(dataset, image, seed)
    _add_pixel_module(dataset, image)
    return dataset


def _add_geometry(dataset: Dataset, image: Image, seed: int) -> None:
    series = image.series
    scanner = series.scanner
    spacing = [round(scanner.field_mm[0] / series.rows, 6), round(scanner.field_mm[1] / series.columns, 6)]
    if scanner.modality in ("CT", "MR"):
        dataset.FrameOfReferenceUID = make_uid(
            seed, series.patient.number, series.study, "frame of reference"
        )
        dataset.PositionReferenceIndicator = ""
        dataset.PixelSpacing = spacing
        dataset.SliceThickness = _SLICE_MM
        left, top = -scanner.field_mm[1] / 2, -scanner.field_mm[0] / 2
        offset = _SLICE_MM * (image.number - 1)
        if scanner.body_part == "KNEE":  # sagittal: rows run from front to back, columns downwards
            dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
            dataset.ImagePositionPatient = [offset, left, -top]
        else:
            dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            dataset.ImagePositionPatient = [left, top, offset]
    if scanner.modality == "CT":
        dataset.KVP = 120
    elif scanner.modality == "MR":
        dataset.ScanningSequence = "SE"
        dataset.SequenceVariant = "NONE"
        dataset.ScanOptions = ""
        dataset.MRAcquisitionType = "2D"
        dataset.RepetitionTime = 550
        dataset.EchoTime = 12
        dataset.EchoTrainLength = 1
        dataset.MagneticFieldStrength = 1.5
    elif scanner.modality == "DX":
        dataset.ImagerPixelSpacing = spacing
        dataset.ViewPosition = "PA"
        dataset.PatientOrientation = ["L", "F"]
        dataset.PresentationIntentType = "FOR PRESENTATION"
        dataset.PixelIntensityRelationship = "LOG"
        dataset.PixelIntensityRelationshipSign = 1 if series.inverted else -1
    else:
        region = Dataset()  # PS3.3 C.8.5.5: spacing in cm
        region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
        region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
        region.RegionLocationMaxX1, region.RegionLocationMaxY1 = series.columns - 1, series.rows - 1
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.PhysicalDeltaX, region.PhysicalDeltaY = spacing[1] / 10, spacing[0] / 10
        dataset.SequenceOfUltrasoundRegions = [region]


def _add_pixel_module(dataset: Dataset, image: Image) -> None:
    series = image.series
    scanner = series.scanner
    dataset.SamplesPerPixel = 3 if scanner.colour else 1
    if scanner.colour:
        dataset.PhotometricInterpretation = "RGB"
        dataset.PlanarConfiguration = 0
    else:
        dataset.PhotometricInterpretation = "MONOCHROME1" if series.inverted else "MONOCHROME2"
    if image.frames > 1:
        dataset.NumberOfFrames = image.frames
        dataset.FrameTime = 40
        dataset.FrameIncrementPointer = 0x00181063
    dataset.Rows, dataset.Columns = series.rows, series.columns
    dataset.BitsAllocated = 8 * np.dtype(scanner.dtype).itemsize
    dataset.BitsStored = scanner.bits_stored
    dataset.HighBit = scanner.bits_stored - 1
    dataset.PixelRepresentation = int(scanner.dtype == "int16")
    dataset.BurnedInAnnotation = "NO"
    dataset.LossyImageCompression = "00"
    if series.padded:
        dataset.PixelPaddingValue = PADDING
    if scanner.modality != "US":
        dataset.RescaleIntercept, dataset.RescaleSlope = scanner.intercept, scanner.slope
        dataset.RescaleType = "HU" if scanner.modality == "CT" else "US"
        _add_windows(dataset, image)
    if scanner.modality == "DX":
        dataset.PresentationLUTShape = "INVERSE" if series.inverted else "IDENTITY"


def _add_windows(dataset: Dataset, image: Image) -> None:
    series = image.series
    scanner = series.scanner
    factor_center, factor_width = series.window_factor
    windows = [scanner.window, scanner.other_window] if series.many_windows else [scanner.window]
    # The readers' habits differ from series to series: the window moves, the pixels do not.
    centers = [center + (factor_center - 1) * width for center, width in windows]
    if series.inverted:
        centers = [2**scanner.bits_stored - 1 - center for center in centers]
    # Rounded last: a DS holds 16 characters (PS3.5 6.2).
    dataset.WindowCenter = [round(center, 1) for center in centers]
    dataset.WindowWidth = [round(width * factor_width, 1) for _, width in windows]
    if series.many_windows:
        dataset.WindowCenterWidthExplanation = ["USUAL", "OTHER"]
