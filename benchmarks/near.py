"""Near duplicates: recall of copies by how they differ, pairs among originals, images/s.

Copies are made of the picture that a viewer shows of each image (8 bits, p1 to p99 of the stored values),
saved as JPEG and read back; recall is the share whose original is found among all originals. Images of which
JPEG leaves nothing to find are left out and counted: smaller than a thumbnail, or of fewer than 16 values, as
masks and test pictures are. Pairs among the originals of cxr_nih, where every patient has one image, are
false; elsewhere nobody has said which are. Of whole data sets of other patients only the pairs are counted.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import corpora
import numpy as np
import timing
from numpy.typing import NDArray
from PIL import Image

from pyrad.ingest.near import pairs as near
from pyrad.ingest.near.thumbnails import SIDE, oriented, thumbnail

Picture = NDArray[np.uint8]
_IMAGES = 100  # of each corpus
_VALUES = 16
_STRANGERS = ("cxr_covid", "covid_ct", "head_ct_hem", "knee_oa")
_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def shown(image: NDArray[np.generic]) -> Picture:
    """Return what a viewer shows: 8 bits as they are, else p1 to p99 of the values."""
    return image if image.dtype == np.uint8 else windowed(image, 1, 99)


def windowed(image: NDArray[np.generic], low: float, high: float) -> Picture:
    """Spread the values between two percentiles over 8 bits."""
    first, last = np.percentile(image, [low, high])
    return np.clip((image - first) * (255 / max(last - first, 1)), 0, 255).round().astype(np.uint8)


def resaved(image: Picture, quality: int, down: float = 1, across: float = 1, kernel: int = 1) -> Picture:
    """Resize by both factors, save as JPEG, read back."""
    size = max(round(image.shape[1] * across), 8), max(round(image.shape[0] * down), 8)
    data = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).resize(size, _FILTERS[kernel]).save(
        data, "JPEG", quality=quality
    )
    return np.asarray(Image.open(data))


def ways() -> dict[str, Callable[[Picture, np.random.Generator], Picture]]:
    """Return what may become of a copy, by name."""

    def all_at_once(image: Picture, rng: np.random.Generator) -> Picture:
        turned = oriented(image, int(rng.integers(8)))
        return resaved(turned, int(rng.integers(50, 96)), *rng.uniform(0.5, 2, 2), int(rng.integers(3)))

    return {
        "JPEG 95": lambda image, _: resaved(image, 95),
        "JPEG 50": lambda image, _: resaved(image, 50),
        "half": lambda image, _: resaved(image, 85, 0.5, 0.5),
        "double": lambda image, _: resaved(image, 85, 2, 2),
        "other aspect": lambda image, _: resaved(image, 85, 0.6, 1.3),
        "flip or turn": lambda image, rng: oriented(image, int(rng.integers(1, 8))),
        "gamma 0.6": lambda image, _: resaved((255 * (image / 255) ** 0.6).round().astype(np.uint8), 90),
        "gamma 1.7": lambda image, _: resaved((255 * (image / 255) ** 1.7).round().astype(np.uint8), 90),
        "window p5-p95": lambda image, _: resaved(windowed(image, 5, 95), 90),
        "turn, size, JPEG": all_at_once,
    }


def survives(image: NDArray[np.generic]) -> bool:
    """Whether there is anything in an image that a JPEG keeps."""
    return min(image.shape) >= SIDE and len(np.unique(image)) >= _VALUES


def strangers() -> list[dict[str, object]]:
    """Return the pairs among all images of a data set, for those that are there."""
    rows = []
    for name in _STRANGERS:
        if (corpora.folder() / f"{name}.zip").is_file():
            images = list(corpora.rasters(f"{name}.zip", most=1000)(corpora.folder()))
            rows.append({"data set": name, "images": len(images), "pairs": pairs_among(images)})
    return rows


def pairs_among(images: Sequence[NDArray[np.generic]]) -> int:
    """Return how many pairs of images count as near duplicates."""
    thumbs = np.stack([thumbnail(image) for image in images])
    return len(near.find_pairs(thumbs, near.hashes(thumbs), np.arange(len(images)), new=len(images)))


def recall(images: Sequence[NDArray[np.generic]]) -> dict[str, str]:
    """Return the share of copies whose original is found, by way, and the pairs among originals."""
    thumbs = np.stack([thumbnail(image) for image in images])
    packed, count = near.hashes(thumbs), len(images)
    row = {"pairs among originals": str(pairs_among(images))}
    rng = np.random.default_rng(0)
    for name, way in ways().items():
        copies = np.stack([thumbnail(way(shown(image), rng)) for image in images])
        both = np.concatenate([copies, thumbs])
        found = near.find_pairs(
            both, np.concatenate([near.hashes(copies), packed]), np.arange(2 * count), new=count
        )
        hits = np.unique(found.first[found.second == found.first + count])
        row[name] = f"{len(hits) / count:.3f}"
    return row


def rates(count: int, size: int, repetitions: int) -> list[dict[str, object]]:
    """Return images/s of thumbnail and hash, and of the search among ``count`` images without copies."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 4096, (8, size, size)).astype(np.int16)
    # Smooth random pictures: their low frequencies are as free as those of images.
    coarse = rng.integers(0, 65536, (count, 9, 9)).astype(np.uint16)
    thumbs = coarse.repeat(4, axis=1).repeat(4, axis=2)[:, :SIDE, :SIDE]
    packed = near.hashes(thumbs)
    cases = {
        f"thumbnail and hash, {size} x {size}": lambda: near.hashes(np.stack([thumbnail(i) for i in images])),
        f"search, {count} images": lambda: near.find_pairs(thumbs, packed, np.arange(count), new=count),
    }
    seconds = timing.interleaved(cases, repetitions=repetitions)
    return [
        {
            "case": name,
            "rate": timing.rate(taken, work=len(images) if "hash" in name else count, unit="images"),
        }
        for name, taken in seconds.items()
    ]


def main() -> None:
    """Measure, print, save."""
    options = timing.arguments(__doc__.splitlines()[0], repetitions=5).parse_args()
    found = []
    for name, corpus in corpora.load(smoke=options.smoke).items():
        first = corpus[:_IMAGES]
        images = [image for image in first if survives(image)]
        row = {"corpus": name, "images": len(images), "left out": len(first) - len(images), **recall(images)}
        found.append(row)
    print(timing.table(found))
    others = [] if options.smoke else strangers()
    print(timing.table(others))
    taken = rates(*((50, 64, 1) if options.smoke else (20_000, 512, options.repetitions)))
    print(timing.table(taken))
    timing.save("near", [*found, *others, *taken], options)


if __name__ == "__main__":
    main()
