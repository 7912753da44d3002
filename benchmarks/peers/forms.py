"""Images -> the forms that more than one peer reads: files of NPY, PNG, JPEG and DICOM, and a Zarr array.

Each writes the whole corpus into an empty folder. An image is encoded once and its copies are written from
that, so that preparing takes no longer than the disk.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import PIL.Image
from corpus import Corpus

SHARD_IMAGES = 512  # 256 MB of stored values, as in a pyrad store
JPEG_QUALITY = 90  # FFCV's default; everyone's here


def npy(corpus: Corpus, folder: Path) -> None:
    """One uncompressed .npy an image."""

    def encode(number: int) -> bytes:
        data = io.BytesIO()
        np.save(data, corpus.image(number))
        return data.getvalue()

    _files(corpus, folder, "npy", encode)


def png(corpus: Corpus, folder: Path) -> None:
    """One 16-bit grey PNG an image, at zlib's level 6."""

    def encode(number: int) -> bytes:
        data = io.BytesIO()
        PIL.Image.fromarray(corpus.image(number)).save(data, "PNG")
        return data.getvalue()

    _files(corpus, folder, "png", encode)


def jpeg(corpus: Corpus, folder: Path) -> None:
    """One 8-bit grey JPEG an image, seen through its window: lossy, and no window can be chosen later."""

    def encode(number: int) -> bytes:
        data = io.BytesIO()
        PIL.Image.fromarray(corpus.picture(number)).save(data, "JPEG", quality=JPEG_QUALITY)
        return data.getvalue()

    _files(corpus, folder, "jpg", encode)


def dicom(corpus: Corpus, folder: Path) -> None:
    """One uncompressed CT image (Explicit VR Little Endian) an image: the syntax that is read fastest."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    def encode(number: int) -> bytes:
        file = Dataset()
        file.file_meta = FileMetaDataset()
        file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = CTImageStorage
        file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = f"1.2.3.{number}"
        file.Rows, file.Columns = corpus.image(number).shape
        file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
        file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
        file.RescaleSlope, file.RescaleIntercept = "1", "0"
        file.WindowCenter, file.WindowWidth = corpus.windows[number % corpus.unique].tolist()
        file.PixelData = corpus.image(number).tobytes()
        data = io.BytesIO()
        file.save_as(data, enforce_file_format=True)
        return data.getvalue()

    _files(corpus, folder, "dcm", encode)


def zarr(corpus: Corpus, folder: Path) -> None:
    """One Zarr v3 array in shards, an image a chunk, blosc with LZ4 and byte shuffle: fast to decode."""
    import zarr as zarr_python
    from zarr.codecs import BloscCodec

    array = zarr_python.create_array(
        str(folder / "images.zarr"),
        shape=(corpus.count, corpus.rows, corpus.rows),
        chunks=(1, corpus.rows, corpus.rows),
        shards=(min(SHARD_IMAGES, corpus.count), corpus.rows, corpus.rows),
        dtype="uint16",
        compressors=BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),
    )
    for first in range(0, corpus.count, array.shards[0]):
        last = min(first + array.shards[0], corpus.count)
        array[first:last] = np.stack([corpus.image(number) for number in range(first, last)])


def paths(corpus: Corpus, folder: Path, suffix: str) -> list[str]:
    """Return where the files of `npy`, `png`, `jpeg` and `dicom` are, in the order of their numbers."""
    return [str(folder / f"{number:06d}.{suffix}") for number in range(corpus.count)]


WRITERS: Mapping[str, Callable[[Corpus, Path], None]] = MappingProxyType(
    {"npy": npy, "png": png, "jpeg": jpeg, "dicom": dicom, "zarr": zarr}
)


def _files(corpus: Corpus, folder: Path, suffix: str, encode: Callable[[int], bytes]) -> None:
    unique = [encode(number) for number in range(min(corpus.unique, corpus.count))]
    for number, path in enumerate(paths(corpus, folder, suffix)):
        Path(path).write_bytes(unique[number % corpus.unique])
