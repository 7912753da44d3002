"""Zips of real images -> named lists of grey images, so that each ratio and rate belongs to a known corpus.

A corpus is what its recipe takes of a zip of PYRAD_DATA (or ../shared/data beside the checkout), in the order
of names. Without the zips there are synthetic corpora, drawn from a fixed seed. Run by itself it lists them
with their fingerprints.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import timing
from numpy.typing import NDArray

Image = NDArray[np.generic]


def folder() -> Path:
    """Return where the zips are, or would be."""
    return Path(os.environ.get("PYRAD_DATA", Path(__file__).parents[2] / "shared" / "data"))


def load(*, smoke: bool = False) -> dict[str, list[Image]]:
    """Return every corpus at hand as arrays (rows, columns), or the synthetic ones if there is no other."""
    recipes = [] if smoke else [(name, *recipe) for name, recipe in RECIPES.items()]
    real = {name: list(take(folder())) for name, zip_name, take in recipes if (folder() / zip_name).is_file()}
    if real:
        return real
    size = 64 if smoke else 512
    return {f"synthetic{8 * bits}": list(synthetic(bits, size, 4 if smoke else 24)) for bits in (1, 2)}


def fingerprint(images: Sequence[Image]) -> str:
    """Return 16 hex characters that change with any pixel, shape or dtype of a corpus."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.shape} {image.dtype} ".encode())
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()[:16]


def _dicom(data: Path) -> Iterator[Image]:
    """Take every grey frame of more than 8 bits of dicom.zip and of pydicom's test files, none twice."""
    import pydicom  # for this corpus only

    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    bundled = sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm"))
    seen: set[bytes] = set()
    with zipfile.ZipFile(data / "dicom.zip") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reads: list[Callable[[], bytes]] = [
            partial(archive.read, name) for name in sorted(archive.namelist())
        ]
        for read in reads + [path.read_bytes for path in bundled]:
            try:
                file = pydicom.dcmread(io.BytesIO(read()))
                wanted = file.get("SamplesPerPixel", 1) == 1 and file.get("BitsStored", 0) > 8
                frames = file.pixel_array if wanted else np.empty((0, 0, 0))
            except Exception:  # noqa: BLE001, S112  both hold broken files on purpose
                continue
            little = frames.astype(frames.dtype.newbyteorder("<"), copy=False)
            for frame in little if frames.ndim == 3 else little[None]:
                digest = hashlib.sha256(frame.tobytes()).digest()
                if frame.itemsize == 2 and min(frame.shape) >= 16 and digest not in seen:
                    seen.add(digest)
                    yield np.ascontiguousarray(frame)


def rasters(
    zip_name: str, *, but_not: str = "\0", step: int = 1, most: int = 100
) -> Callable[[Path], Iterator[Image]]:
    """Take every ``step``-th picture whose name does not hold ``but_not``, as luma, at most ``most``."""

    def take(data: Path) -> Iterator[Image]:
        import PIL.Image  # likewise

        with zipfile.ZipFile(data / zip_name) as archive:
            names = [
                name
                for name in sorted(archive.namelist())
                if name.lower().endswith((".png", ".jpg", ".jpeg"))
            ]
            for name in [name for name in names if but_not not in name][::step][:most]:
                with PIL.Image.open(io.BytesIO(archive.read(name))) as picture:
                    yield np.array(picture.convert("L"))

    return take


RECIPES: dict[str, tuple[str, Callable[[Path], Iterator[Image]]]] = {
    "dicom16": ("dicom.zip", _dicom),
    "busi": ("busi.zip", rasters("busi.zip", but_not="mask")),
    "covid_ct": ("covid_ct.zip", rasters("covid_ct.zip")),
    "head_ct_hem": ("head_ct_hem.zip", rasters("head_ct_hem.zip")),
    "knee_oa": ("knee_oa.zip", rasters("knee_oa.zip", step=4)),
    "cxr_nih": ("cxr_nih.zip", rasters("cxr_nih.zip")),
    "brain_mri4": ("brain_mri4.zip", rasters("brain_mri4.zip", step=10)),
}


def synthetic(bytes_per_pixel: int, size: int, count: int) -> Iterator[Image]:
    """Draw smooth blobs with noise of a few grey levels inside an ellipse, as a slice of a body has them."""
    rng = np.random.default_rng(bytes_per_pixel)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    scale = 100 if bytes_per_pixel == 1 else 1500
    for _ in range(count):
        image = np.zeros((size, size))
        for _ in range(12):
            cx, cy, width = rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.6), rng.uniform(0.05, 0.4)
            image += rng.uniform(0.2, 1) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / width**2)
        image = scale * (0.3 + image / image.max()) + rng.normal(0, scale / 60, image.shape)
        image[(x / 0.9) ** 2 + (y / 0.8) ** 2 > 1] = 0
        yield np.clip(image, 0, 2 ** (8 * bytes_per_pixel) - 1).astype(f"u{bytes_per_pixel}")


def main() -> None:
    """List every corpus with its fingerprint."""
    options = timing.arguments(__doc__.splitlines()[0]).parse_args()
    rows = [
        {
            "corpus": name,
            "images": len(images),
            "MB": f"{sum(image.nbytes for image in images) / 1e6:.1f}",
            "fingerprint": fingerprint(images),
        }
        for name, images in load(smoke=options.smoke).items()
    ]
    print(timing.table(rows))


if __name__ == "__main__":
    main()
