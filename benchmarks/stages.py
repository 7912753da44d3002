"""Where the time of an image goes: microseconds and cycles a pixel of every stage, beside what memory can do.

stages.cpp, compiled on the spot with the package's own flags, runs each stage of the fused kernel alone on
512x512 images of the 16-bit DICOM corpus (224x224 out), and the whole kernel over the same images, in turns.
What the stages do not add up to is what they do to each other's caches. One core.
"""

from __future__ import annotations

import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import corpora
import timing

from pyrad import ops

ROOT = Path(__file__).parents[1]
SOURCES = ("benchmarks/stages.cpp", "csrc/preprocess.cpp", "csrc/reader.cpp")
FLAGS = ("-std=c++17", "-DNDEBUG", "-ffp-contract=off", "-fno-math-errno", "-Icsrc", "-pthread")
SIDE_PX = 512
MACHINE = ("cycle", "read a byte", "copy a byte", "compute", "compute, beside another")


def chunks(images: Sequence[corpora.Image]) -> bytes:
    """Return what stages.cpp reads: dtype, size and bytes of every chunk."""
    parts = []
    for image in images:
        chunk = bytes(ops.tilepack_encode(image))
        chunk += struct.pack("<I", ops.crc32c(chunk))
        parts.append(bytes([ops.dtype_code(image.dtype)]) + struct.pack("<I", len(chunk)) + chunk)
    return b"".join(parts)


def measured(data: bytes, *, rounds: int, images: int, optimise: str = "-O3") -> dict[str, list[float]]:
    """Return the nanoseconds of every stage, one figure a round."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or sys.exit("no C++ compiler: set CXX to one")
    with tempfile.TemporaryDirectory() as folder:
        program = f"{folder}/stages"
        subprocess.run([compiler, optimise, *FLAGS, *SOURCES, "-o", program], cwd=ROOT, check=True)  # noqa: S603
        command = [program, str(rounds), str(images)]
        run = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True)  # noqa: S603
    lines = [line.split("\t") for line in run.stdout.decode().splitlines()]
    return {name: [float(figure) for figure in figures] for name, *figures in lines}


def main() -> None:
    """Measure every stage, print the table, save the result."""
    options = timing.arguments(__doc__.splitlines()[0], repetitions=30).parse_args()
    if options.smoke:
        name, images = "synthetic16", list(corpora.synthetic(2, SIDE_PX, 1))
        ns = measured(chunks(images), rounds=1, images=1, optimise="-O0")
    else:
        loaded = corpora.load()
        name = next(name for name in ("dicom16", "synthetic16") if name in loaded)
        images = [image for image in loaded[name] if image.shape == (SIDE_PX, SIDE_PX)]
        ns = measured(chunks(images), rounds=options.repetitions, images=110)
    cycle_ns = min(ns["cycle"])
    rows = [
        {
            "stage": stage,
            "us an image": f"{statistics.median(us):.1f} ({min(us):.1f}-{max(us):.1f})",
            "cycles a pixel": f"{min(us) * 1e3 / cycle_ns / SIDE_PX**2:.3f}",
        }
        for stage, us in ((stage, [figure / 1e3 for figure in figures]) for stage, figures in ns.items())
        if stage not in MACHINE
    ]
    print(timing.table(rows))
    facts = {
        "clock GHz": round(1 / cycle_ns, 2),
        "memory read GB/s": round(1 / min(ns["read a byte"]), 1),
        "memory copied GB/s": round(1 / min(ns["copy a byte"]), 1),
        "compute on two threads, times one": round(
            2 * min(ns["compute"]) / min(ns["compute, beside another"]), 2
        ),
    }
    for fact, value in facts.items():
        print(f"{fact}: {value}")
    corpus = {"name": name, "images": len(images), "fingerprint": corpora.fingerprint(images)}
    path = timing.save("stages", rows, options, corpus=corpus, machine_rates=facts, ns=ns)
    if path:
        print(f"saved {path.name}")


if __name__ == "__main__":
    main()
