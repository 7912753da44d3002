"""Archive -> store: files and MB a second, by pyrad and by pydicom + zarr-python, on 1, 2 and 4 processes.

The peer is what one writes first: pydicom reads, zarr-python writes a sharded array of zstd; of several
processes each writes an array of its own from its share of the files, which needs no coordination at all. It
splits, checks and remembers nothing; pyrad scans every file before it writes one, settles duplicates, splits,
digests and flushes what it writes to the disk, and all of that is in its figures. ``--dry-run`` is the scan
of the headers and the plan alone. Compressed syntaxes have the plugin alone as well: frames in memory go
through the decoder that pyrad uses, on one process; beside it files in memory go through pyrad's headers and
decoding on one process.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import corpora
import jpeg_ls
import numpy as np
import pydicom
import timing
import zarr
from numpy.typing import NDArray
from openjpeg.utils import decode as decode_jpeg_2000
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)
from rle.utils import decode_frame as decode_rle

from pyrad.ingest import files
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.run import run

ZIPS = {"knee_oa.zip": ("label=kl_grade", "group=patient_id"), "medical_mnist.zip": ()}
PROCESSES = (1, 2, 4)
_MORE = 4  # times as many files are not compressed: they are read so fast that starting would weigh
SHARD_BYTES = 256 << 20
SYNTAXES = {
    "uncompressed": ExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG-LS": JPEGLSLossless,
    "JPEG 2000": JPEG2000Lossless,
}
PLUGINS: dict[str, Callable[[bytes, int], object]] = {
    "RLE": lambda frame, size: decode_rle(frame, size * size, 16, "<"),
    "JPEG-LS": lambda frame, _size: jpeg_ls.decode_buffer(frame),
    "JPEG 2000": lambda frame, _size: decode_jpeg_2000(frame),
}


def main() -> None:
    """Measure every corpus at hand, print the table, save it."""
    parser = timing.arguments(__doc__.splitlines()[0], repetitions=3)
    parser.add_argument(
        "--files", type=int, default=1000, help="of a compressed CT corpus (default: %(default)s)"
    )
    options = parser.parse_args()
    os.environ["PYRAD_SECRET"] = "of the benchmark"  # noqa: S105 - its stores are thrown away
    if options.smoke:
        options.files = 8
    size = 64 if options.smoke else 512
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name, syntax in SYNTAXES.items():
            archive = work / "ct"
            count = options.files if name in PLUGINS else _MORE * options.files
            write_archive(archive, size=size, count=count, syntax=syntax)
            title = f"{count} CT {size}x{size}, {name}"
            rows += measure(title, archive, (), work, options, plugin=PLUGINS.get(name), size=size)
            timing.save("ingest", rows, options)  # what is measured stays, whatever ends the rest
            shutil.rmtree(archive)
        if not options.smoke:
            for name, columns in ZIPS.items():
                if (corpora.folder() / name).is_file():
                    rows += measure(name, corpora.folder() / name, columns, work, options)
                    timing.save("ingest", rows, options)
    print(timing.table(rows))


def measure(
    name: str,
    archive: Path,
    columns: tuple[str, ...],
    work: Path,
    options: argparse.Namespace,
    *,
    plugin: Callable[[bytes, int], object] | None = None,
    size: int = 0,
) -> list[dict[str, Any]]:
    """Return one row a case: files/s and MB/s of sources."""
    sizes = [len(data) for data in sources(archive)]
    store = work / "store.zarr"
    cases: dict[str, Callable[[], object]] = {}
    if plugin is not None:
        cases["plugin alone"] = partial(decode_only, list(frames(archive)), plugin, size)
        cases["pyrad, decoding alone"] = partial(decode_by_pyrad, list(sources(archive)))
    for processes in PROCESSES:
        cases[f"pydicom + zarr, {processes}"] = partial(peer, archive, store, processes)
        cases[f"pyrad, {processes}"] = partial(ingest, archive, store, columns, processes)
        cases[f"pyrad --dry-run, {processes}"] = partial(look, archive, store, columns, processes)
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


def look(archive: Path, store: Path, columns: tuple[str, ...], workers: int) -> None:
    """Scan the headers and plan, and write nothing."""
    options = {"src": (archive,), "store": store, "columns": columns, "workers": workers, "dry_run": True}
    run(IngestOptions(**options, private=store.parent / "private"))


def peer(archive: Path, store: Path, processes: int) -> None:
    """Write one array a process by pydicom and zarr-python, and remove them."""
    names = source_names(archive)
    shares = [names[at::processes] for at in range(processes)]
    jobs = [(archive, share, store / str(at)) for at, share in enumerate(shares) if share]
    if processes == 1:
        write_array(*jobs[0])
    else:
        with multiprocessing.get_context("fork").Pool(processes) as pool:  # the quickest start there is
            pool.starmap(write_array, jobs)
    shutil.rmtree(store)


def write_array(archive: Path, names: Sequence[str], path: Path) -> None:
    """Write files of one shape as a sharded array, one slab a shard."""
    images = (image_values(data) for data in sources(archive, names))
    first = next(images)
    shard_n = min(max(SHARD_BYTES // first.nbytes, 1), len(names))
    array = zarr.create_array(
        path,
        shape=(-(-len(names) // shard_n) * shard_n, *first.shape),
        dtype=first.dtype,
        chunks=(1, *first.shape),
        shards=(shard_n, *first.shape),
        compressors=zarr.codecs.ZstdCodec(level=3),
    )
    slab = [first]
    at = 0
    for image in images:
        if len(slab) == shard_n:
            array[at : at + shard_n] = np.stack(slab)
            at, slab = at + shard_n, []
        slab.append(image)
    array[at : at + len(slab)] = np.stack(slab)


def decode_only(encoded: list[bytes], plugin: Callable[[bytes, int], object], size: int) -> None:
    """Decode every frame and keep none."""
    for frame in encoded:
        plugin(frame, size)


def decode_by_pyrad(encoded: list[bytes]) -> None:
    """Read the header of every file and decode it, as a worker does, and keep none."""
    options = IngestOptions(src=(Path(),), store=Path("s.zarr")).scan_options(digest_key=b"of the benchmark")
    for data in encoded:
        files.decode(files.scan(0, "one.dcm", data, options)[0], data)


def frames(archive: Path) -> Iterator[bytes]:
    """The compressed frame of every file."""
    for data in sources(archive):
        dataset = pydicom.dcmread(io.BytesIO(data))
        yield next(iter(generate_frames(dataset.PixelData, number_of_frames=1)))


def source_names(archive: Path) -> list[str]:
    """Every image of a folder or a zip."""
    if archive.is_dir():
        return sorted(path.name for path in archive.rglob("*.dcm"))
    with zipfile.ZipFile(archive) as file:
        return sorted(name for name in file.namelist() if name.endswith((".png", ".jpeg")))


def sources(archive: Path, names: Sequence[str] | None = None) -> Iterator[bytes]:
    """The bytes of images of a folder or a zip, of all by default."""
    names = source_names(archive) if names is None else names
    if archive.is_dir():
        yield from ((archive / name).read_bytes() for name in names)
        return
    with zipfile.ZipFile(archive) as file:
        yield from map(file.read, names)


def image_values(data: bytes) -> NDArray[Any]:
    """One grey image."""
    if data[128:132] == b"DICM":
        return pydicom.dcmread(io.BytesIO(data)).pixel_array
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("L"))


def write_archive(folder: Path, *, size: int, count: int, syntax: str = ExplicitVRLittleEndian) -> None:
    """Write CT files of 12 bits: tissue of its own in each, in air, with noise, ten slices a patient."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    for number in range(count):
        organs = generator.normal(0, 300, (12, 12)).astype(np.float32)
        tissue = 1050 + np.asarray(Image.fromarray(organs).resize((size, size), Image.Resampling.BICUBIC))
        left, top, wide, high = generator.uniform(-0.2, 0.2, 4)
        body = np.hypot((x - left) * (1.3 + wide), (y - top) * (1.6 + high)) < 1
        image = np.where(body, tissue, 24) + generator.normal(0, 12, (size, size))
        image = image.clip(0, 4095).astype("<i2")
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
        if syntax != ExplicitVRLittleEndian:
            file.compress(syntax, generate_instance_uid=False)
        file.save_as(folder / f"{number:05d}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    main()
