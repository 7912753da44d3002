"""Tiny DICOM files in memory, well-formed unless a test says otherwise."""

import io
import struct
from collections.abc import Sequence

import numpy as np
import pytest
from pydicom import config
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pyrad.ingest.files import decode, scan
from pyrad.ingest.policy import ScanOptions
from pyrad.ingest.reasons import Rejected

CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "US-MF": "1.2.840.10008.5.1.4.1.1.3.1",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "MG": "1.2.840.10008.5.1.4.1.1.1.2",
    "SC": "1.2.840.10008.5.1.4.1.1.7",
    "ECT": "1.2.840.10008.5.1.4.1.1.2.1",
    "EMR": "1.2.840.10008.5.1.4.1.1.4.1",
}
NATIVE = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)
RLE = "1.2.840.10008.1.2.5"
JPEG = "1.2.840.10008.1.2.4.50"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
OPTIONS = ScanOptions(include=("sc",), burned_in="allow")


def dicom(
    cells: np.ndarray | bytes | Sequence[bytes],
    *,
    modality: str = "CT",
    sop_class: str | None = None,
    syntax: str = ExplicitVRLittleEndian,
    frames: int | None = None,
    offsets: bool = True,
    **elements: object,
) -> bytes:
    """A file whose Pixel Data are ``cells``: (rows, columns[, 3]) or bytes, or compressed frames.

    ``elements`` add or replace elements by keyword; None leaves one out. Frames are a first axis of ``cells``
    where ``frames`` is given.
    """
    with config.disable_value_validation():
        return write(_dataset(cells, modality, sop_class, syntax, frames, offsets, elements), syntax)


def _dataset(cells, modality, sop_class, syntax, frames, offsets, elements):
    dataset = Dataset()
    dataset.SOPClassUID = sop_class or CLASSES[modality]
    dataset.SOPInstanceUID = "1.2.3.4.5"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.4"
    dataset.PatientID = "patient"
    dataset.Modality = modality if modality in CLASSES and len(modality) == 2 else "CT"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.BurnedInAnnotation = "NO"
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.SamplesPerPixel = 1
    big = syntax == ExplicitVRBigEndian
    if isinstance(cells, np.ndarray):
        shape = cells.shape[1 if frames else 0 :]
        dataset.Rows, dataset.Columns = shape[:2]
        dataset.SamplesPerPixel = 3 if len(shape) == 3 else 1
        if len(shape) == 3:
            dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
        dataset.BitsAllocated = dataset.BitsStored = 8 * cells.dtype.itemsize
        dataset.PixelRepresentation = int(cells.dtype.kind == "i")
        pixels = cells.astype(cells.dtype.newbyteorder(">" if big else "<")).tobytes()
    else:
        dataset.Rows, dataset.Columns = 4, 6
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.PixelRepresentation = 0
        pixels = cells if isinstance(cells, bytes) else encapsulate(list(cells), has_bot=offsets)
    if frames:
        dataset.NumberOfFrames = frames
    wide = dataset.BitsAllocated > 8
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OW" if wide else "OB"
    if not isinstance(cells, np.ndarray | bytes):
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    if "HighBit" not in dataset and "BitsStored" in dataset:
        dataset.HighBit = dataset.BitsStored - 1
    return dataset


def write(dataset: Dataset, syntax: str) -> bytes:
    """The data set as a file with preamble and meta."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID or "1.2"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID") or "1.2"
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def item(**elements: object) -> Dataset:
    """A sequence item."""
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def ramp(rows: int = 4, columns: int = 6, dtype: str = "int16", start: int = -1000) -> np.ndarray:
    """Distinct values, some negative where the type allows."""
    first = start if np.dtype(dtype).kind == "i" else 0
    return (np.arange(rows * columns).reshape(rows, columns) * 7 + first).astype(dtype)


def rle_segments(planes: Sequence[bytes]) -> bytes:
    """An RLE frame (PS3.5 G) of literal runs only."""
    segments = []
    for plane in planes:
        runs = (plane[at : at + 128] for at in range(0, len(plane), 128))
        segment = b"".join(bytes([len(run) - 1]) + run for run in runs)
        segments.append(segment + b"\0" * (len(segment) % 2))
    offsets = [64]
    for segment in segments[:-1]:
        offsets.append(offsets[-1] + len(segment))
    return struct.pack("<16L", len(segments), *offsets, *[0] * (15 - len(offsets))) + b"".join(segments)


def pixels(data, options=OPTIONS):
    """Every frame of a file; one is given as it is, several are stacked."""
    sources = scan(0, "a.dcm", data, options)
    frames = [decode(source, data) for source in sources]
    for source, frame in zip(sources, frames, strict=True):
        assert frame.shape == ((3,) if source.planes == 3 else ()) + (source.rows, source.columns)
        assert frame.dtype == source.dtype
        assert frame.flags.c_contiguous
        if source.form is not None:  # the header read again says the same
            np.testing.assert_array_equal(decode(source._replace(form=None), data), frame)
    return frames[0] if len(frames) == 1 else np.stack(frames)


def refusal(data, options=OPTIONS):
    """The reason and the tag for which a file is rejected, by the scan or by the decoder."""
    with pytest.raises(Rejected) as caught:
        pixels(data, options)
    return caught.value.reason, caught.value.tag
