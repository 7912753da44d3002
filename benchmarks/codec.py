"""tilepack beside the codecs that an archive could use instead: ratio and GB/s of pixels, on one core.

GB/s count raw pixels of a named corpus. Every codec is given every image, and its answer is checked to be
bit-exact before it is timed. Blosc runs without its threads; Pillow writes PNG at its default effort.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import corpora
import numpy as np
import PIL.Image
import timing
from numcodecs import blosc, zstd

from pyrad import ops


class Codec(NamedTuple):
    """One way to store an image without loss."""

    encode: Callable[[corpora.Image], Any]
    decode: Callable[[Any, corpora.Image], corpora.Image]  # of shape and dtype of the second


def _tilepack_decode(chunk: bytes, like: corpora.Image) -> corpora.Image:
    return ops.tilepack_decode(chunk, rows=like.shape[0], columns=like.shape[1], dtype=like.dtype)


def _numcodec(codec: Any) -> Codec:
    def decode(chunk: Any, like: corpora.Image) -> corpora.Image:
        return np.frombuffer(codec.decode(chunk), like.dtype).reshape(like.shape)

    return Codec(codec.encode, decode)


def _png_encode(image: corpora.Image) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(image.view(f"u{image.itemsize}")).save(file, "PNG")
    return file.getvalue()


def _png_decode(chunk: bytes, like: corpora.Image) -> corpora.Image:
    with PIL.Image.open(io.BytesIO(chunk)) as picture:
        return np.asarray(picture).astype(f"u{like.itemsize}").view(like.dtype)


CODECS = {
    **{
        f"tilepack {mode}": Codec(partial(ops.tilepack_encode, mode=mode), _tilepack_decode)
        for mode in ops.MODES
    },
    "bitshuffle+zstd": _numcodec(blosc.Blosc("zstd", clevel=3, shuffle=blosc.BITSHUFFLE)),
    "zstd": _numcodec(zstd.Zstd(level=3)),
    "LZ4": _numcodec(blosc.Blosc("lz4", clevel=5, shuffle=blosc.NOSHUFFLE)),
    "PNG": Codec(_png_encode, _png_decode),
}


def measure(name: str, images: list[corpora.Image], repetitions: int) -> list[dict[str, Any]]:
    """Return one row a codec: ratio, encoding and decoding rate over the whole corpus."""
    chunks = {codec_name: [codec.encode(image) for image in images] for codec_name, codec in CODECS.items()}
    for codec_name, codec in CODECS.items():
        for image, chunk in zip(images, chunks[codec_name], strict=True):
            if not np.array_equal(codec.decode(chunk, image), image):
                raise AssertionError(f"{codec_name} did not give back an image of {name}")
    raw_bytes = sum(image.nbytes for image in images)
    cases: dict[str, Callable[[], object]] = {}
    for codec_name, codec in CODECS.items():
        cases[f"encode {codec_name}"] = partial(_encode_all, codec, images)
        cases[f"decode {codec_name}"] = partial(_decode_all, codec, chunks[codec_name], images)
    seconds = timing.interleaved(cases, repetitions=repetitions)
    return [
        {
            "corpus": name,
            "codec": codec_name,
            "ratio": round(raw_bytes / sum(len(chunk) for chunk in chunks[codec_name]), 3),
            "decode GB/s": timing.rate(seconds[f"decode {codec_name}"], work=raw_bytes / 1e9, unit="GB"),
            "encode GB/s": timing.rate(seconds[f"encode {codec_name}"], work=raw_bytes / 1e9, unit="GB"),
        }
        for codec_name in CODECS
    ]


def _encode_all(codec: Codec, images: list[corpora.Image]) -> None:
    for image in images:
        codec.encode(image)


def _decode_all(codec: Codec, chunks: list[Any], images: list[corpora.Image]) -> None:
    for chunk, image in zip(chunks, images, strict=True):
        codec.decode(chunk, image)


def main() -> None:
    """Measure every codec on every corpus, print the table, save the result."""
    options = timing.arguments(__doc__.splitlines()[0]).parse_args()
    blosc.use_threads = False
    rows: list[dict[str, Any]] = []
    facts = {}
    for name, images in corpora.load(smoke=options.smoke).items():
        facts[name] = {"images": len(images), "fingerprint": corpora.fingerprint(images)}
        rows += measure(name, images, 2 if options.smoke else options.repetitions)
    print(timing.table(rows))
    path = timing.save("codec", rows, options, corpora=facts)
    if path:
        print(f"saved {path.name}")


if __name__ == "__main__":
    main()
