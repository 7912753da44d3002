"""What must not leak, in every form that it might take -> where it stands in some bytes, if anywhere.

Every token is looked for as it is, in UTF-16, base64 (at its three alignments), hexadecimal, byte-swapped and
reversed, and as an unsalted MD5, SHA-1 or SHA-256 of itself, raw, in hexadecimal and in base64.
"""

import base64
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pyrad.store.reader import open_store

SHORTEST = 8  # bytes of a token, and of every form of it


def forms(token: bytes) -> Iterator[tuple[str, bytes]]:
    """Every way in which a token is looked for."""
    text = token.decode("latin-1")
    yield "plain", token
    yield "lower case", token.lower()
    yield "upper case", token.upper()
    yield "UTF-16 LE", text.encode("utf-16-le")
    yield "UTF-16 BE", text.encode("utf-16-be")
    yield "hexadecimal", token.hex().encode()
    yield "HEXADECIMAL", token.hex().upper().encode()
    yield "reversed", token[::-1]
    yield "bytes swapped", _swapped(token[: len(token) & ~1])
    yield "bytes swapped, odd", _swapped(token[1:][: len(token[1:]) & ~1])
    for shift in range(3):
        # What of the text in base64 does not depend on the bytes before and behind.
        coded = base64.b64encode(bytes(shift) + token)
        yield f"base64 at {shift}", coded[-(-shift * 8 // 6) : (shift + len(token)) * 8 // 6]
    yield from digests(token)


def digests(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Unsalted hashes: whoever has the original can look them up."""
    for name in ("md5", "sha1", "sha256"):
        digest = hashlib.new(name, data, usedforsecurity=False).digest()
        yield name, digest
        yield f"{name} in hexadecimal", digest.hex().encode()
        yield f"{name} IN HEXADECIMAL", digest.hex().upper().encode()
        yield f"{name} in base64", base64.b64encode(digest).rstrip(b"=")


def _swapped(data: bytes) -> bytes:
    return np.frombuffer(data, "<u2").byteswap().tobytes()


class Search:
    """Looks for many tokens at once; ``contents`` are whole files or images, looked for by their hashes."""

    def __init__(self, tokens: Iterable[str | bytes], contents: Iterable[bytes] = ()) -> None:
        self._patterns: dict[bytes, dict[bytes, tuple[str, str]]] = defaultdict(dict)
        self.tokens = 0
        for given in tokens:
            token = given if isinstance(given, bytes) else given.encode()
            assert len(token) >= SHORTEST, token
            self.tokens += 1
            for form, pattern in forms(token):
                if len(pattern) >= SHORTEST:
                    self._patterns[pattern[:SHORTEST]].setdefault(pattern, (token.decode("latin-1"), form))
        for content in contents:
            for form, pattern in digests(content):
                self._patterns[pattern[:SHORTEST]][pattern] = (f"{len(content)} bytes", form)
        self._firsts = np.sort(np.frombuffer(b"".join(self._patterns), "<u8"))

    def find(self, carriers: Mapping[str, bytes]) -> list[tuple[str, str, str]]:
        """(carrier, token, form) of everything that is found."""
        return [
            (name, *found) for name, data in carriers.items() for found in sorted(set(self._in_bytes(data)))
        ]

    def _in_bytes(self, data: bytes) -> Iterator[tuple[str, str]]:
        for phase in range(SHORTEST):
            words = np.frombuffer(data[phase : phase + (len(data) - phase) // 8 * 8], "<u8")
            at = np.searchsorted(self._firsts, words).clip(max=len(self._firsts) - 1)
            for position in np.flatnonzero(self._firsts[at] == words):
                start = phase + int(position) * SHORTEST
                for pattern, what in self._patterns[data[start : start + SHORTEST]].items():
                    if data.startswith(pattern, start):
                        yield what


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file and every name below a folder; what is JSON or Parquet also decoded."""
    carriers = {"names": "\0".join(str(path.relative_to(folder)) for path in folder.rglob("*")).encode()}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = f"{folder.name}/{path.relative_to(folder)}"
        data = path.read_bytes()
        carriers[name] = data
        if path.suffix == ".parquet":
            carriers[f"{name}, decoded"] = parquet_text(data)
        elif path.suffix == ".json":
            carriers[f"{name}, decoded"] = "\0".join(json_texts(json.loads(data))).encode()
    return carriers


def pixels_of(store: Path) -> dict[str, bytes]:
    """The decoded pixels and masks of a store, in both byte orders."""
    carriers = {}
    with open_store(store) as opened:
        for index in range(len(opened)):
            for kind, image in (("image", opened.image(index)), ("mask", opened.mask(index))):
                if image is not None:
                    carriers[f"{kind} {index}"] = image.tobytes() + image.byteswap().tobytes()
    return carriers


def parquet_text(data: bytes) -> bytes:
    """Every cell, every column's name and every piece of metadata of a Parquet file."""
    table = pq.read_table(io.BytesIO(data))
    return "\0".join(json_texts([table.to_pydict(), str(table.schema), str(table.schema.metadata)])).encode()


def json_texts(value: object) -> Iterator[str]:
    """Every text and number in a JSON value, keys included."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from json_texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from json_texts(inner)
    else:
        yield str(value)
