"""A store of 1.35 million samples -> how long and how much memory it takes to open it and get a first batch.

The store is as an ingest leaves it: sharded arrays, index, samples table, ledger and manifest by the store's
own writer, which checks them. Only the images are tiny (8 rows of 8 to 15 columns, in eight buckets, 4,096 a
shard: 330 shards, about as many as RadImageNet has), and the table's values are drawn, not read from headers.

Each repetition is a process of its own. What counts is what comes on top of an interpreter that has imported
pyrad, torch and pyarrow (and pandas, which pyarrow imports where it finds it): seconds by the clock, and the
highest resident memory up to then. The system has the store's files in memory.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import timing
from numpy.typing import NDArray

from pyrad.loader.loader import Loader
from pyrad.store import tables
from pyrad.store.layout import ArrayEntry
from pyrad.store.reader import open_store
from pyrad.store.segments import SegmentWriter, join_segments
from pyrad.store.writer import StoreWriter

SAMPLES, PATIENTS, CLASSES = 1_350_000, 130_000, 165  # RadImageNet's
BUCKETS = 8
SPLITS = ("train", "val", "test")
BATCH = 256
ORDERED = 64  # batches whose order is timed: it is worked out for several at once
STEPS = ("open_store", "Loader", "first batch", "next batch", "order of a batch")


def main() -> None:
    """Write the store, open it in processes of their own, print and save."""
    parser = timing.arguments(__doc__.splitlines()[0], repetitions=3)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="of the store (default: %(default)s)")
    parser.add_argument("--store", type=Path, help="one that is there already, or a path to keep it at")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(opened(options.store)))
        return
    if options.smoke:
        options.samples, options.repetitions = 2_000, 1
    with tempfile.TemporaryDirectory() as folder:
        store = options.store or Path(folder) / "store.zarr"
        if not store.exists():
            write_store(store, options.samples)
        taken = [in_a_process(store) for _ in range(options.repetitions)]
    rows = [
        {
            "step": step,
            "ms": summary([one[step]["seconds"] * 1e3 for one in taken]),
            "MB above the interpreter": summary([one[step]["peak_mb"] for one in taken]),
        }
        for step in STEPS
    ]
    print(timing.table(rows))
    options.store = None  # no path in a result
    path = timing.save("open", rows, options, samples=options.samples)
    if path:
        print(f"saved {path.name}")


def summary(values: list[float]) -> str:
    """Median (least-most)."""
    return f"{np.median(values):.4g} ({min(values):.4g}-{max(values):.4g})"


def in_a_process(store: Path) -> dict[str, dict[str, float]]:
    """What `opened` finds, in a process that has done nothing else."""
    words = [sys.executable, __file__, "--child", "--store", str(store)]
    run = subprocess.run(words, check=True, capture_output=True, text=True)  # noqa: S603 - our own command
    found: dict[str, dict[str, float]] = json.loads(run.stdout)
    return found


def opened(path: Path) -> dict[str, dict[str, float]]:
    """Open the store and get two batches: of each step the seconds, and the peak up to its end, in MB."""
    found: dict[str, dict[str, float]] = {}
    pa.array([0])  # imports pandas, where it is
    before_mb = peak_mb()

    def step(name: str, work: Callable[[], Any]) -> Any:
        began_s = time.perf_counter()
        result = work()
        seconds = time.perf_counter() - began_s
        found[name] = {"seconds": seconds, "peak_mb": peak_mb() - before_mb}
        return result

    store = step("open_store", lambda: open_store(path))
    loader = step("Loader", lambda: Loader(store, batch_size=min(BATCH, len(store)), size=8))
    batches = iter(loader)
    step("first batch", lambda: next(batches))
    step("next batch", lambda: next(batches))
    positions = np.arange(7 * len(loader.samples), 7 * len(loader.samples) + ORDERED * BATCH)
    step("order of a batch", lambda: [loader.drawing.draw(some) for some in np.split(positions, ORDERED)])
    found["order of a batch"]["seconds"] /= ORDERED
    batches.close()
    return found


def peak_mb() -> float:
    """The most memory that this process has had at once."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024 / 1e6


def write_store(path: Path, samples: int) -> None:
    """Write the store by the store's writer."""
    rng = np.random.default_rng(0)
    with StoreWriter.open(path, codec=None, key_check="0" * 16, file_salt="0" * 32) as writer:
        writer.begin("0" * 16)
        counts = [samples // BUCKETS + (number < samples % BUCKETS) for number in range(BUCKETS)]
        arrays = [
            writer.images(count=count, rows=8, columns=8 + number, planes=1, dtype="uint8")
            for number, count in enumerate(counts)
        ]
        for entry in arrays:
            pictures = rng.integers(0, 255, (64, entry.rows, entry.columns), np.uint8)
            for spec in writer.shards(entry):
                with SegmentWriter(spec, range(spec.slots)) as segment:
                    for slot in range(spec.slots):
                        segment.add(pictures[slot % len(pictures)])
                    join_segments(spec, [segment.finish()])
        table = samples_table(rng, arrays, counts)
        ledger = pa.table(
            [
                table["key"],
                pa.array(["stored"]).take(pa.array(np.zeros(samples, np.int8))),
                pa.array(["stored"]).take(pa.array(np.zeros(samples, np.int8))),
                pa.array(np.ones(samples, np.int32)),
            ],
            schema=tables.LEDGER_SCHEMA,
        )
        writer.commit(
            arrays,
            table,
            ledger,
            counts={"stored": samples, "skipped": 0, "quarantined": 0},
            split={"ratios": [75, 10, 15], "source": "drawn"},
            options={},
        )


def samples_table(rng: np.random.Generator, arrays: list[ArrayEntry], counts: list[int]) -> pa.Table:
    """A row an image, in random order over the buckets, as an ingest has them."""
    samples = sum(counts)
    order = rng.permutation(samples)
    bucket = np.repeat(np.arange(BUCKETS, dtype=np.int32), counts)[order]
    row = np.concatenate([np.arange(count) for count in counts])[order]
    patient = rng.integers(0, PATIENTS, samples)
    study = patient + PATIENTS * rng.integers(0, 2, samples)
    label = patient % CLASSES
    split = np.searchsorted([0.75, 0.85], rng.random(PATIENTS), side="right")[patient]
    center = rng.integers(-600, 400, samples).astype(np.float64)
    columns: dict[str, pa.Array] = {
        "key": hexes(rng, samples),
        "bucket": pa.DictionaryArray.from_arrays(
            pa.array(bucket), pa.array([entry.path for entry in arrays])
        ),
        "row": pa.array(row),
        "group": hexes(rng, PATIENTS).take(pa.array(patient)),
        "study": hexes(rng, 2 * PATIENTS).take(pa.array(study)),
        "series": hexes(rng, 2 * PATIENTS).take(pa.array(study)),
        "frame": pa.array(np.zeros(samples, np.int32)),
        "modality": pa.array(["CT", "MR", "US"]).take(pa.array(label % 3)),
        "anatomy": pa.array([f"anatomy {number}" for number in range(11)]).take(pa.array(label % 11)),
        "labels": pa.ListArray.from_arrays(
            np.arange(samples + 1, dtype=np.int32),
            pa.array([f"finding {number}" for number in range(CLASSES)]).take(pa.array(label)),
        ),
        "split": pa.array(SPLITS).take(pa.array(split)),
        "rows": pa.array(np.full(samples, 8, np.int32)),
        "columns": pa.array(8 + bucket),
        "slope": pa.array(np.ones(samples)),
        "intercept": pa.array(np.zeros(samples)),
        "window_center": lists(center),
        "window_width": lists(np.full(samples, 400.0)),
        "photometric": pa.array(["MONOCHROME2"]).take(pa.array(np.zeros(samples, np.int8))),
        "bits_stored": pa.array(np.full(samples, 8, np.int32)),
        "percentiles": pa.FixedSizeListArray.from_arrays(np.sort(rng.uniform(0, 255, 2 * samples)), 2),
        "spacing_mm": pa.FixedSizeListArray.from_arrays(np.full(2 * samples, 0.7), 2),
        "lossy": pa.array(np.zeros(samples, np.bool_)),
        "mask": pa.array(np.zeros(samples, np.bool_)),
        "warnings": pa.ListArray.from_arrays(np.zeros(samples + 1, np.int32), pa.array([], pa.string())),
    }
    nothing = {field.name: pa.nulls(samples, field.type) for field in tables.SAMPLES_SCHEMA}
    return pa.table(list((nothing | columns).values()), schema=tables.SAMPLES_SCHEMA)


def hexes(rng: np.random.Generator, count: int) -> pa.Array:
    """Keys of 32 hexadecimal characters."""
    offsets = np.arange(0, 32 * count + 1, 32, dtype=np.int32)
    text = rng.bytes(16 * count).hex().encode()
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text))


def lists(values: NDArray[np.float64]) -> pa.Array:
    """One value in each list."""
    return pa.ListArray.from_arrays(np.arange(len(values) + 1, dtype=np.int32), pa.array(values))


if __name__ == "__main__":
    main()
