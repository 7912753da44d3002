"""Tiny archives of PNG, NPY and DICOM files, and what the ingest tests share."""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from pyrad.ingest.options import IngestOptions
from pyrad.ingest.run import run
from pyrad.progress import Reporter
from pyrad.store.reader import open_store


def pixels(seed, rows=16, columns=20, high=200, dtype=np.uint8):
    """A grey image that no other seed has."""
    return np.random.default_rng(seed).integers(0, high, (rows, columns)).astype(dtype)


def png(path, image) -> Path:
    """Write a grey PNG of 8 bits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def npy(path, image) -> Path:
    """Write an array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, image)
    return path


def dicom(path, image, *, uid, patient="P1", study="1.2.1", series="1.2.1.1", **elements) -> Path:
    """Write an uncompressed CT image of signed 16 bits; ``elements`` are further DICOM keywords."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, uid
    dataset.PatientID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID = patient, study, series
    dataset.Modality, dataset.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Rows, dataset.Columns = image.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = "1", "-1024", "HU"
    dataset.WindowCenter, dataset.WindowWidth = "40", "400"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = image.astype("<i2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def two_classes(folder, count=8) -> Path:
    """``sick`` and ``well``, ``count`` images each."""
    for number in range(count):
        png(folder / "sick" / f"{number}.png", pixels(number))
        png(folder / "well" / f"{number}.png", pixels(1000 + number))
    return folder


def zipped(folder, path) -> Path:
    """The files of a folder as a zip with the same relative paths, in reverse order."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((f for f in folder.rglob("*") if f.is_file()), reverse=True):
            archive.write(file, file.relative_to(folder).as_posix())
    return path


def table(path, text) -> Path:
    """Write a table just as it is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def ingest(store, *sources, reporter=None, **options):
    """Run an ingest with one worker; returns its summary."""
    settings = {"workers": 1, "private": store.parent / "private", **options}
    return run(IngestOptions(src=tuple(sources), store=store, **settings), reporter or Reporter())


def samples_of(store) -> list[dict]:
    """Every row of a store's samples table, with its pixels."""
    with open_store(store) as opened:
        rows = opened.samples.to_arrow().to_pylist()
        return [
            {**row, "image": opened.image(at), "stored_mask": opened.mask(at)} for at, row in enumerate(rows)
        ]


def tree(store) -> dict[str, bytes]:
    """Relative path -> contents of every file of a store."""
    return {f.relative_to(store).as_posix(): f.read_bytes() for f in sorted(store.rglob("*")) if f.is_file()}


def ledger_of(store) -> list[tuple[str, str, str, int]]:
    """Every ledger row of every part."""
    import pyarrow.parquet as pq

    rows = []
    for file in sorted(store.glob("parts/*/ledger.parquet")):
        rows += [tuple(row.values()) for row in pq.read_table(file).to_pylist()]
    return rows


def outcomes(store):
    """(outcome, reason) -> files, over all parts' ledgers."""
    return Counter(row[1:3] for row in ledger_of(store))


class Listener(Reporter):
    """Keeps what is said and the result."""

    def __init__(self):
        super().__init__("silent")
        self.said = []
        self.record = None

    def say(self, text):
        self.said.append(text)

    def result(self, record, text):
        self.record = record
        self.said.append(text)
