"""Decode, window, resize and normalise: the core beside what one would otherwise put together in Python.

Everyone starts from the same images as they lie in a store and ends with float32 (224, 224) at y * 2 - 1:
pyrad from tilepack chunks with their crc32c and from raw pixels, in one call; the others from zstd chunks
(the other profile of a store), windowed by NumPy or by pydicom, resized by Pillow or by torch, one image at a
time as a data set's __getitem__ would. Every answer is compared with the core's before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import corpora
import numpy as np
import PIL.Image
import pydicom
import pydicom.pixels
import timing
import torch
from numcodecs import zstd
from numpy.typing import NDArray

from pyrad import geometry, ops, voi

MEAN, STD = 0.5, 0.5
AGREE = 1e-4  # of y * 2 - 1: enough to see that all do the same job; the tests hold the tight bounds
Y = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Job:
    """A corpus, for each image a LINEAR window from its 1st to its 99th percentile, and the output's side."""

    images: Sequence[corpora.Image]
    centers: NDArray[np.float64]
    widths: NDArray[np.float64]
    side: int


def job_of(images: Sequence[corpora.Image], side: int) -> Job:
    """Give every image its window: wide enough to be a window."""
    low, high = np.array([np.percentile(image, (1, 99)) for image in images]).T
    return Job(images=images, centers=(low + high) / 2, widths=np.maximum(high - low, 2.0), side=side)


class Core:
    """The whole batch by one call of the core, into memory that is used again."""

    def __init__(self, job: Job, *, tilepack: bool, bfloat16: bool = False, threads: int = 1) -> None:
        chunks = [
            ops.tilepack_encode(image) if tilepack else np.ascontiguousarray(image).tobytes()
            for image in job.images
        ]
        if tilepack:
            chunks = [chunk + ops.crc32c(chunk).to_bytes(4, "little") for chunk in chunks]
        sizes = [len(chunk) for chunk in chunks]
        offsets, total = ops.slab_layout(sizes)
        self.slab = np.zeros(total, np.uint8)
        for chunk, offset in zip(chunks, offsets.tolist(), strict=True):
            self.slab[offset : offset + len(chunk)] = np.frombuffer(chunk, np.uint8)
        rows, columns = np.array([image.shape for image in job.images]).T
        self.records = np.zeros(len(chunks), ops.RECORD_DTYPE)
        self.records["chunk_offset"][:, 0], self.records["chunk_size"][:, 0] = offsets, sizes
        fields: dict[str, Any] = {
            "rows": rows,
            "columns": columns,
            "x1": columns,
            "y1": rows,
            "planes": 1,
            "dtype": [ops.dtype_code(image.dtype) for image in job.images],
            "codec": ops.Codec.TILEPACK if tilepack else ops.Codec.RAW,
            "crc": tilepack,
            **geometry.stretch(rows, columns, size=(job.side, job.side)),
            **voi.window_params(1.0, 0.0, job.centers, job.widths, "LINEAR"),
        }
        for name, values in fields.items():
            self.records[name] = values
        shape = (len(chunks), 1, job.side, job.side)
        self.out: NDArray[Any] = np.empty(shape, np.uint16 if bfloat16 else np.float32)
        self.threads = threads

    def __call__(self) -> NDArray[Any]:
        """Return the batch, (n, side, side)."""
        statuses = ops.preprocess(
            self.slab, self.records, self.out, mean=[MEAN], std=[STD], channels=1, threads=self.threads
        )
        if statuses.any():
            raise AssertionError(f"statuses {statuses[statuses != 0].tolist()}")
        return self.out[:, 0]


def numpy_window(stored: corpora.Image, center: float, width: float) -> Y:
    """PS3.3 C.11.2.1.2.1 in float32."""
    y = (stored.astype(np.float32) - np.float32(center - 0.5)) / np.float32(width - 1) + np.float32(0.5)
    return np.clip(y, 0, 1)


def pydicom_window(stored: corpora.Image, center: float, width: float) -> Y:
    """What pydicom makes of it; its output range is that of the stored values."""
    info = np.iinfo(stored.dtype)
    header = pydicom.Dataset()
    header.PhotometricInterpretation = "MONOCHROME2"
    header.BitsStored, header.PixelRepresentation = info.bits, int(info.min < 0)
    header.WindowCenter, header.WindowWidth = center, width
    seen = pydicom.pixels.apply_windowing(stored, header)
    return ((seen - info.min) / (info.max - info.min)).astype(np.float32)


def pillow_resize(y: Y, side: int) -> Y:
    """BILINEAR in float mode."""
    return np.asarray(PIL.Image.fromarray(y).resize((side, side), PIL.Image.Resampling.BILINEAR))


def torch_resize(y: Y, side: int) -> Y:
    """The antialiased interpolate."""
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(y)[None, None], (side, side), mode="bilinear", antialias=True
    )
    return resized[0, 0].numpy()


class Pieces:
    """One image after the other through other people's parts, or `threads` of them at a time."""

    def __init__(
        self,
        job: Job,
        window: Callable[[corpora.Image, float, float], Y],
        resize: Callable[[Y, int], Y],
        *,
        threads: int = 1,
    ) -> None:
        self.job, self.window, self.resize, self.threads = job, window, resize, threads
        self.codec = zstd.Zstd(level=3)
        self.chunks = [self.codec.encode(np.ascontiguousarray(image)) for image in job.images]

    def one(self, i: int) -> Y:
        """Return one image, (side, side)."""
        like = self.job.images[i]
        stored = np.frombuffer(self.codec.decode(self.chunks[i]), like.dtype).reshape(like.shape)
        y = self.window(stored, float(self.job.centers[i]), float(self.job.widths[i]))
        return (self.resize(y, self.job.side) - np.float32(MEAN)) / np.float32(STD)

    def __call__(self) -> Y:
        """Return the batch, (n, side, side)."""
        if self.threads == 1:
            return np.stack([self.one(i) for i in range(len(self.chunks))])
        with ThreadPoolExecutor(self.threads) as pool:
            return np.stack(list(pool.map(self.one, range(len(self.chunks)))))


def cases_of(job: Job, threads: int) -> dict[str, Callable[[], NDArray[Any]]]:
    """Every way of doing the job, by name."""
    pieces = partial(Pieces, job, threads=threads)
    return {
        "pyrad, tilepack": Core(job, tilepack=True, threads=threads),
        "pyrad, tilepack, bfloat16": Core(job, tilepack=True, bfloat16=True, threads=threads),
        "pyrad, raw pixels": Core(job, tilepack=False, threads=threads),
        "zstd, NumPy, Pillow": pieces(numpy_window, pillow_resize),
        "zstd, NumPy, torch": pieces(numpy_window, torch_resize),
        "zstd, pydicom, Pillow": pieces(pydicom_window, pillow_resize),
    }


def measure(name: str, job: Job, threads: int, repetitions: int) -> list[dict[str, Any]]:
    """Return one row a way: images and pixels (of the source) a second."""
    cases = cases_of(job, threads)
    expected = cases["pyrad, tilepack"]().copy()
    for case_name, case in cases.items():
        answer = case()
        if answer.dtype == np.float32 and not np.abs(answer - expected).max() <= AGREE:
            raise AssertionError(f"{case_name} does another job on {name}")
    seconds = timing.interleaved(cases, repetitions=repetitions)
    megapixels = sum(image.size for image in job.images) / 1e6
    return [
        {
            "corpus": name,
            "threads": threads,
            "way": case_name,
            "images/s": timing.rate(seconds[case_name], work=len(job.images), unit="images"),
            "Mpixel/s": timing.rate(seconds[case_name], work=megapixels, unit="Mpixel"),
        }
        for case_name in cases
    ]


def main() -> None:
    """Measure every way on every corpus with one thread and with two, print the table, save the result."""
    options = timing.arguments(__doc__.splitlines()[0]).parse_args()
    torch.set_num_threads(1)  # its own threads would not be the ones counted here
    side = 32 if options.smoke else 224
    rows: list[dict[str, Any]] = []
    facts = {}
    for name, images in corpora.load(smoke=options.smoke).items():
        facts[name] = {"images": len(images), "fingerprint": corpora.fingerprint(images)}
        job = job_of(images, side)
        for threads in (1, 2):
            rows += measure(name, job, threads, 2 if options.smoke else options.repetitions)
    print(timing.table(rows))
    path = timing.save("preprocess", rows, options, corpora=facts, side=side)
    if path:
        print(f"saved {path.name}")


if __name__ == "__main__":
    main()
