"""Archive -> store: files and MB of sources a second, by pyrad with one and two workers and by a plain loop.

The plain loop is what one writes first: read with pydicom or Pillow, write a sharded zstd array with
zarr-python, one slab a shard. It splits, checks and remembers nothing; pyrad reads every file twice (its
scan settles duplicates and splits before a pixel is written), starts its processes anew and flushes all it
writes to the disk, and all of that is in its figures.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import corpora
import numpy as np
import pydicom
import timing
import zarr
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from pyrad.ingest.options import IngestOptions
from pyrad.ingest.run import run

ZIPS = {"knee_oa.zip": ("label=kl_grade", "group=patient_id"), "medical_mnist.zip": ()}
WORKERS = (1, 2)
SHARD_BYTES = 256 << 20


def main() -> None:
    """Measure every corpus at hand, print the table, save it."""
    options = timing.arguments(__doc__.splitlines()[0], repetitions=3).parse_args()
    os.environ["PYRAD_SECRET"] = "of the benchmark"  # noqa: S105 - its stores are thrown away
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        archive = work / "ct"
        size, count = (64, 8) if options.smoke else (512, 400)
        write_archive(archive, size=size, count=count)
        rows += measure(f"{count} CT {size}x{size}", archive, (), work, options)
        if not options.smoke:
            for name, columns in ZIPS.items():
                if (corpora.folder() / name).is_file():
                    rows += measure(name, corpora.folder() / name, columns, work, options)
    print(timing.table(rows))
    timing.save("ingest", rows, options)


def measure(
    name: str, archive: Path, columns: tuple[str, ...], work: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Return one row a case: files/s and MB/s of sources."""
    sizes = [len(data) for data in sources(archive)]
    store = work / "store.zarr"
    cases: dict[str, Callable[[], object]] = {"plain loop": partial(plain_loop, archive, store)}
    for workers in WORKERS:
        cases[f"pyrad, {workers} workers"] = partial(ingest, archive, store, columns, workers)
    seconds = timing.interleaved(cases, repetitions=1 if options.smoke else options.repetitions)
    return [
        {
            "corpus": name,
            "case": case,
            "files/s": timing.rate(taken, work=len(sizes), unit="files"),
            "MB/s": timing.rate(taken, work=sum(sizes) / 1e6, unit="MB"),
        }
        for case, taken in seconds.items()
    ]


def ingest(archive: Path, store: Path, columns: tuple[str, ...], workers: int) -> None:
    """Write a store by pyrad, and remove it."""
    summary = run(
        IngestOptions(
            src=(archive,), store=store, columns=columns, workers=workers, private=store.parent / "private"
        )
    )
    if summary.exit_code or not summary.images:
        raise AssertionError(f"the corpus is not clean: {summary.as_text()}")
    shutil.rmtree(store)
    shutil.rmtree(store.parent / "private")


def plain_loop(archive: Path, store: Path) -> None:
    """Write an array by the loop that one writes first, and remove it."""
    images = [image_values(data) for data in sources(archive)]
    shape, dtype = images[0].shape, images[0].dtype
    shard_n = max(SHARD_BYTES // images[0].nbytes, 1)
    shard_n = min(shard_n, len(images))
    padded = -(-len(images) // shard_n) * shard_n
    array = zarr.create_array(
        store,
        shape=(padded, *shape),
        dtype=dtype,
        chunks=(1, *shape),
        shards=(shard_n, *shape),
        compressors=zarr.codecs.ZstdCodec(level=3),
    )
    for first in range(0, len(images), shard_n):
        slab = np.stack(images[first : first + shard_n])
        array[first : first + len(slab)] = slab
    shutil.rmtree(store)


def sources(archive: Path) -> Iterator[bytes]:
    """The bytes of every image of a folder or a zip."""
    if archive.is_dir():
        for path in sorted(archive.rglob("*.dcm")):
            yield path.read_bytes()
        return
    with zipfile.ZipFile(archive) as file:
        for name in sorted(file.namelist()):
            if name.endswith((".png", ".jpeg")):
                yield file.read(name)


def image_values(data: bytes) -> NDArray[Any]:
    """One grey image."""
    if data[128:132] == b"DICM":
        return pydicom.dcmread(io.BytesIO(data)).pixel_array
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("L"))


def write_archive(folder: Path, *, size: int, count: int) -> None:
    """Write uncompressed CT files of 12 bits: smooth tissue in air, with noise, ten slices a patient."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    for number in range(count):
        body = np.hypot(x, y * (1.2 + 0.01 * (number % 10))) < 0.8
        image = np.where(body, 1050 + 60 * np.sin(4 * x + number) * np.cos(5 * y), 24)
        image = (image + generator.normal(0, 12, image.shape)).clip(0, 4095).astype("<i2")
        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.{number}"
        file = pydicom.Dataset()
        file.file_meta = meta
        file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, f"1.2.826.0.1.{number}"
        file.PatientID = str(number // 10)
        file.StudyInstanceUID, file.SeriesInstanceUID = f"1.2.{number // 10}", f"1.2.{number // 10}.1"
        file.Modality, file.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        file.Rows, file.Columns = image.shape
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
        file.RescaleSlope, file.RescaleIntercept, file.RescaleType = "1", "-1024", "HU"
        file.WindowCenter, file.WindowWidth = "40", "400"
        file.PixelData = image.tobytes()
        file.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    main()
