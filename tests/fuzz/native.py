"""The C++ targets: decode, preprocess, reader -> binaries under ASan and UBSan, their seeds, their runs."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np

from pyrad import ops

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
SOURCES = {
    "decode": ("decode.cpp", "encode.cpp", "encode_rice.cpp"),
    "preprocess": ("preprocess.cpp", "reader.cpp", "decode.cpp", "encode.cpp", "encode_rice.cpp"),
    "reader": ("reader.cpp",),
}
_DTYPES = ("uint8", "uint16", "int8", "int16")  # as decode.cpp numbers them


def has_libfuzzer() -> bool:
    """Whether clang is here; without it targets are replayed with blind mutations."""
    return shutil.which("clang++") is not None


def build(target: str, folder: Path, *, guided: bool) -> Path:
    """Compile one target: with libFuzzer where ``guided``, else with the replay driver."""
    compiler = ["clang++", "-fsanitize=fuzzer"] if guided else ["g++"]
    binary = folder / f"{target}-{'guided' if guided else 'replay'}"
    driver = [] if guided else [str(HERE / "replay.cpp")]
    subprocess.run(
        [
            *compiler,
            "-fsanitize=address,undefined",
            *(
                "-std=c++17",
                "-O1" if guided else "-O0",
                "-g",
                "-fno-sanitize-recover=all",
                "-ffp-contract=off",
                f"-I{CSRC}",
            ),
            *(str(HERE / f"{target}.cpp"), *driver),
            *(str(CSRC / name) for name in SOURCES[target]),
            *("-pthread", "-o", str(binary)),
        ],
        check=True,
    )
    return binary


def write_seeds(target: str, folder: Path) -> None:
    """Write valid inputs of a target: small images of every type, and what surrounds them."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {"decode": _decode_seeds, "preprocess": _preprocess_seeds, "reader": _reader_seeds}[target]()
    for name, data in made.items():
        (folder / name).write_bytes(data)


def _images() -> dict[str, np.ndarray]:
    rows, columns = np.indices((133, 21))
    smooth = 40 * np.sin(rows / 9) + 30 * np.cos(columns / 7) + 60
    noise = np.random.default_rng(0).integers(0, 120, smooth.shape)
    return {
        f"{kind}-{dtype}": image.astype(dtype)
        for dtype in _DTYPES
        for kind, image in {"smooth": smooth, "noise": noise, "small": smooth[:3, :5]}.items()
    }


def _decode_seeds() -> dict[str, bytes]:
    seeds = {}
    for name, image in _images().items():
        kind = _DTYPES.index(image.dtype.name)
        rows, columns = image.shape
        head = struct.pack("<BHH", kind, columns - 1, rows - 1)
        for number, mode in enumerate(ops.MODES):
            seeds[f"chunk-{mode}-{name}"] = head + ops.tilepack_encode(image, mode=mode)
            seeds[f"pixels-{mode}-{name}"] = bytes([kind | 4 | number << 3]) + head[1:] + image.tobytes()
    return seeds


def _preprocess_seeds() -> dict[str, bytes]:
    seeds = {}
    for number, (name, image) in enumerate(_images().items()):
        chunk = ops.tilepack_encode(image, mode=ops.MODES[number % 3])
        chunk += ops.crc32c(chunk).to_bytes(4, "little")
        record = np.zeros(1, ops.RECORD_DTYPE)
        rows, columns = image.shape
        record["chunk_size"][0, 0] = len(chunk)
        record["x1"], record["y1"], record["rows"], record["columns"] = columns, rows, rows, columns
        record["a"], record["b"] = 0.01, 0.0
        record["dst_w"], record["dst_h"] = 24, 24
        record["windows"] = (1, 3)[number // 4 % 2]  # three where there are three channels
        record["turned"], record["turn"] = number % 2, ((0.8, -0.6, 9.0), (0.6, 0.8, -5.0))
        record["dtype"] = {"uint8": 1, "uint16": 2, "int8": 0x81, "int16": 0x82}[image.dtype.name]
        record["planes"], record["codec"], record["crc"], record["voi"] = 1, 1, 1, number % 3
        record["flip_x"], record["invert"] = number & 1, number >> 1 & 1
        seeds[name] = bytes([number % 16]) + record.tobytes() + chunk
        record["voi_lut"]["count"], record["voi_lut"]["first"] = 16, 90
        record["modality_lut"]["count"], record["modality_lut"]["at"] = 20, 16
        record["voi"], record["a"] = 3, 1000.0
        seeds[f"luts-{name}"] = bytes([number % 8]) + record.tobytes() + chunk + bytes(range(128))
    return seeds


def _reader_seeds() -> dict[str, bytes]:
    ranges = [(0, 10), (4990, 10), (4995, 10), (6000, 0), (2**63, 5), (0, 5000)]
    return {"ranges": b"\2" + b"".join(struct.pack("<QH", *each) for each in ranges)}
