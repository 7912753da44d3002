"""What tilepack could have been: bytes by predictor, tile shape and coding, beside what it is.

Sizes alone, by NumPy, of tables and payload without padding; ratios are raw bytes over these. `codec.py`
times what was built. Each row is a predictor for all of an image, or the best of several for each segment.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import corpora
import numpy as np
import timing
from numpy.typing import NDArray

Pixels = NDArray[np.int64]
SHAPES = ((4, 8), (8, 8), (2, 8), (4, 4), (8, 4), (4, 16), (8, 16))
SEGMENT_ROWS = 128
NIBBLE_BITS = 4


class Choice(NamedTuple):
    """Predictors, the best of which each segment of ``rows`` rows takes."""

    name: str
    predictors: tuple[str, ...]
    rows: int = SEGMENT_ROWS


CHOICES = (
    *(Choice(name, (name,)) for name in ("above", "gradient", "median", "mean", "smooth", "interpolated")),
    Choice("above or gradient (rice)", ("above", "gradient")),
    Choice("the same, every 32 rows", ("above", "gradient"), 32),
    Choice("or median (dense)", ("above", "gradient", "median")),
    Choice("any", ("above", "gradient", "median", "mean", "smooth", "interpolated")),
)


def predictions(image: Pixels) -> dict[str, Pixels]:
    """Return what each predictor makes of every pixel; the image's first row is from the left in all."""
    above = np.vstack([np.zeros_like(image[:1]), image[:-1]])
    left = np.hstack([above[:, :1], image[:, :-1]])
    corner = np.hstack([above[:, :1], above[:, :-1]])
    across = np.hstack([above[:, 1:], above[:, -1:]])
    right = np.hstack([image[:, 1:], above[:, -1:]])
    gradient = above + left - corner
    between = above + ((left - corner + right - across + 1) >> 1)  # of odd columns, once the even are there
    made = {
        "above": above,
        "gradient": gradient,
        "median": np.clip(gradient, np.minimum(above, left), np.maximum(above, left)),
        "mean": (above + left) >> 1,
        "smooth": (corner + 2 * above + across + 2) >> 2,
        "interpolated": np.where(np.arange(image.shape[1]) % 2 == 1, between, above),
    }
    for prediction in made.values():
        prediction[0] = left[0]
        prediction[0, 0] = 0
    return made


def tiles(values: Pixels, shape: tuple[int, int]) -> Pixels:
    """Cut (rows, columns) into tiles: (tile rows, tiles, pixels of one), zeros outside."""
    height, width = shape
    rows, columns = (-(-n // side) for n, side in zip(values.shape, shape, strict=True))
    whole = np.zeros((rows * height, columns * width), np.int64)
    whole[: values.shape[0], : values.shape[1]] = values
    return whole.reshape(rows, height, columns, width).swapaxes(1, 2).reshape(rows, columns, height * width)


def rice_bits(residual: Pixels, shape: tuple[int, int], bits: int) -> Pixels:
    """Bits of each row of tiles by Rice codes, the best parameter for each tile."""
    numbers = tiles(np.where(residual < 0, -2 * residual - 1, 2 * residual), shape)
    best = np.where(numbers.any(axis=2), bits * numbers.shape[2], 0)
    for low in range(bits):
        best = np.minimum(best, (low + 1) * numbers.shape[2] + (numbers >> low).sum(axis=2))
    return np.asarray((best + NIBBLE_BITS).sum(axis=1))


def pack_bits(residual: Pixels, shape: tuple[int, int], _bits: int) -> Pixels:
    """Bits of each row of tiles in fields of one width a tile."""
    magnitude = tiles(np.where(residual < 0, -residual - 1, residual), shape).max(axis=2)
    width = np.where(tiles(residual, shape).any(axis=2), np.ceil(np.log2(magnitude + 1)).astype(int) + 1, 0)
    width = np.where(width <= 10, width, np.where(width <= 12, 12, 16))
    return np.asarray((width * shape[0] * shape[1] + NIBBLE_BITS).sum(axis=1))


def study(
    images: list[corpora.Image], choices: tuple[Choice, ...], shapes: tuple[tuple[int, int], ...]
) -> Any:
    """Return {(choice, shape, coding): ratio} over a corpus."""
    total: dict[tuple[str, str, str], float] = {}
    for image in images:
        bits = 8 * image.itemsize
        pixels = image.astype(np.int64)
        made = predictions(pixels)
        half = 1 << (bits - 1)
        residuals = {name: (pixels - made[name] + half) % (2 * half) - half for name in made}
        for shape in shapes:
            for coding, cost in (("pack", pack_bits), ("rice", rice_bits)):
                rows = {name: cost(residual, shape, bits) for name, residual in residuals.items()}
                for choice in choices:
                    step = choice.rows // shape[0]
                    sums = [
                        np.add.reduceat(rows[name], range(0, len(rows[name]), step))
                        for name in choice.predictors
                    ]
                    key = (choice.name, f"{shape[0]}x{shape[1]}", coding)
                    total[key] = total.get(key, 0.0) + float(np.min(sums, axis=0).sum()) / 8
    raw = sum(image.nbytes for image in images)
    return {key: raw / size for key, size in total.items()}


def main() -> None:
    """Study every corpus: all choices for tiles of 4 x 8, all shapes for what was chosen."""
    parser = timing.arguments(__doc__.splitlines()[0])
    parser.add_argument(
        "--every", type=int, default=3, help="take each n-th 8-bit image (default: %(default)s)"
    )
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    facts = {}
    for name, every in corpora.load(smoke=options.smoke).items():
        images = every if every[0].itemsize == 2 or options.smoke else every[:: options.every]
        facts[name] = {"images": len(images), "fingerprint": corpora.fingerprint(images)}
        found = study(images, CHOICES, SHAPES[:1]) | study(images, CHOICES[6:9:2], SHAPES[1:])
        for choice, shape, _ in dict.fromkeys((c, s, "") for c, s, _ in found):
            ratios = {coding: round(found[choice, shape, coding], 3) for coding in ("pack", "rice")}
            rows.append({"corpus": name, "predictor": choice, "tile": shape, **ratios})
    print(timing.table(rows))
    path = timing.save("tilepack_study", rows, options, corpora=facts)
    if path:
        print(f"saved {path.name}")


if __name__ == "__main__":
    main()
