"""Scan records of a large archive -> the plan of its ingest: seconds of each step, and peak memory.

The records are made up, in the proportions of RadImageNet: 1.35 million images of 131,872 patients, several
series each, two labels in a hundred and sixty-five, one file in a hundred twice. Nothing is read or decoded:
what is timed lies between the scan and the first shard, and the split that follows the last. The scan itself
is timed by ingest.py.
"""

from __future__ import annotations

import hashlib
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timing

from pyrad.ingest.archive import Member
from pyrad.ingest.book import Book, batched
from pyrad.ingest.grouping import assign, check_groups
from pyrad.ingest.layouts import Listing, Selection
from pyrad.ingest.layouts.arrange import Census
from pyrad.ingest.ledger import read_ledger
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.plan import Plan, make_plan
from pyrad.ingest.prepare import enter_scans, label_files, tell_apart
from pyrad.ingest.privacy.names import Names
from pyrad.ingest.privacy.secret import Secret
from pyrad.ingest.scan import FileScan, Listed, PixelDigests, PixelTask, scanned
from pyrad.ingest.settle import settle_files
from pyrad.progress import Reporter
from pyrad.records import Source, Window

IMAGES = 1_350_000
PATIENTS = 131_872
LABELS = 165
SLICES_A_SERIES = 4
FILES_A_TASK = 64  # as a worker reports them
TWICE_OF = 100  # one file in so many is there twice
SIZES = ((512, 512), (256, 256), (320, 320), (384, 384), (640, 480), (1024, 1024))


def main() -> None:
    """Plan, print and save."""
    parser = timing.arguments(__doc__ or "", repetitions=1)
    parser.add_argument("--images", type=int, default=IMAGES, help="scan records (default: %(default)s)")
    options = parser.parse_args()
    images = 3_000 if options.smoke else options.images
    with tempfile.TemporaryDirectory() as folder:
        seconds = plan(Path(folder), images)
    rows = [{"step": name, "seconds": round(taken, 3)} for name, taken in seconds.items()]
    rows.append({"step": "together", "seconds": round(sum(seconds.values()), 3)})
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(timing.table(rows))
    print(f"{images:,} images; peak memory {peak_gib:.2f} GiB")
    timing.save("plan", rows, options, images=images, peak_gib=round(peak_gib, 3))


def plan(folder: Path, images: int) -> dict[str, float]:
    """Seconds of each step."""
    options = IngestOptions(src=(folder,), store=folder / "s.zarr", max_quarantine="100%")
    names = Names(Secret(b"of the benchmark", "benchmark"), options.group_by)
    selection = Selection(
        layouts=("dicom",), rows={}, joins={}, masks=frozenset(), maskless=frozenset(), notes=()
    )
    listing = Listing(path=folder, paths=(), read=lambda _: b"")
    found = [Census()]
    seconds: dict[str, float] = defaultdict(float)

    def timed(step: str, work: Callable[[], Any]) -> Any:
        began_s = time.perf_counter()
        result = work()
        seconds[step] += time.perf_counter() - began_s
        return result

    with Book(folder / "book.sqlite") as book:
        for task in batched(scans(images), FILES_A_TASK):
            timed("enter scans", lambda task=task: enter_scans(book, task, names, found))
        timed("tell apart", lambda: tell_apart(book, names))
        timed("label, name", lambda: label_files(book, found, [listing], selection, options, names))
        timed("settle copies, rank", lambda: settle_files(book, None, names, Decoded(), Reporter()))  # type: ignore[arg-type]
        made_plan: Plan = timed(
            "permute, place, digest", lambda: make_plan(book, options=options, digest_key=b"key", base="")
        )
        timed("check groups, ledger", lambda: (check_groups(book, options), read_ledger(book)))
        timed("split", lambda: assign(book, options, names))
        if made_plan.count != images - images // TWICE_OF:
            raise SystemExit("a plan of another size than its records")
    return seconds


def scans(images: int) -> Iterator[tuple[Listed, FileScan]]:
    """Scan records, one image a file."""
    copies = images // TWICE_OF
    for number in range(images):
        image = number - copies if number >= images - copies else number
        digest = hashlib.blake2b(image.to_bytes(8, "little"), digest_size=16).hexdigest()
        series, place = divmod(image, SLICES_A_SERIES)
        patient = series * PATIENTS * SLICES_A_SERIES // IMAGES
        rows, columns = SIZES[series % len(SIZES)]
        path = f"archive/{patient:06d}/{series:07d}/{number:07d}.dcm"
        source = Source(
            archive=0,
            path=path,
            kind="dicom",
            rows=rows,
            columns=columns,
            dtype="int16" if series % 2 else "uint16",
            patient=f"PATIENT-{patient}\0",
            study=f"1.2.826.0.1.3680043.8.498.{patient}.{series % 2}",
            series=f"1.2.826.0.1.3680043.8.498.{series}",
            uid=f"1.2.826.0.1.3680043.8.498.{series}.{image}",
            labels=(f"CT/abd/label {series % LABELS}",),
            modality="CT",
            anatomy="abdomen",
            slope=1.0,
            intercept=-1024.0,
            windows=(Window(center=40.0, width=400.0),),
            bits_stored=12,
            spacing_mm=(0.7, 0.7),
            position_mm=place * 2.5,
            instance=place + 1,
            sex="F",
            age_band="60-69",
            manufacturer="SIEMENS",
        )
        listed = Listed(number, 0, Member(path=path, size=rows * columns * 2))
        yield listed, scanned([source], digest)


class Decoded:
    """Workers that have decoded the copies already: they are equal."""

    def run(
        self, _function: Any, tasks: Iterator[PixelTask], _stage: Any
    ) -> Iterator[tuple[int, PixelDigests]]:
        """Answer every task."""
        for number, task in enumerate(tasks):
            yield number, PixelDigests(frames=(task.digest,))


if __name__ == "__main__":
    main()
