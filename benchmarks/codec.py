"""tilepack beside the codecs that an archive could use instead: ratio and GB/s of pixels, on one core.

GB/s count raw pixels of a named corpus. Every codec is given every image, and its answer is checked to be
bit-exact before it is timed. All decode into the same memory, one image after the other. Blosc runs without
its threads; Pillow writes PNG at its default effort.
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
    decode: Callable[[Any, corpora.Image], object]  # into the second


def _tilepack_decode(chunk: bytes, out: corpora.Image) -> None:
    ops.tilepack_decode(chunk, rows=out.shape[0], columns=out.shape[1], dtype=out.dtype, out=out)


def _numcodec(codec: Any) -> Codec:
    return Codec(codec.encode, lambda chunk, out: codec.decode(chunk, out=out))


def _png_encode(image: corpora.Image) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(image.view(f"u{image.itemsize}")).save(file, "PNG")
    return file.getvalue()


def _png_decode(chunk: bytes, out: corpora.Image) -> None:
    with PIL.Image.open(io.BytesIO(chunk)) as picture:
        out.view(f"u{out.itemsize}")[...] = picture


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
    room = np.empty(max(image.nbytes for image in images), np.uint8)  # each image is decoded into it
    outs = [room[: image.nbytes].view(image.dtype).reshape(image.shape) for image in images]
    for codec_name, codec in CODECS.items():
        for image, chunk, out in zip(images, chunks[codec_name], outs, strict=True):
            room.fill(0x55)
            codec.decode(chunk, out)
            if not np.array_equal(out, image):
                raise AssertionError(f"{codec_name} did not give back an image of {name}")
    raw_bytes = sum(image.nbytes for image in images)
    cases: dict[str, Callable[[], object]] = {}
    for codec_name, codec in CODECS.items():
        cases[f"encode {codec_name}"] = partial(_encode_all, codec, images)
        cases[f"decode {codec_name}"] = partial(_decode_all, codec, chunks[codec_name], outs)
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


def _decode_all(codec: Codec, chunks: list[Any], outs: list[corpora.Image]) -> None:
    for chunk, out in zip(chunks, outs, strict=True):
        codec.decode(chunk, out)


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
