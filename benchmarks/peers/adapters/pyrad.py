"""pyrad's Loader over a store of its own: tilepack chunks with their checksums."""

from __future__ import annotations

from pathlib import Path

from corpus import Corpus

from adapters.torch_workers import Batches
from pyrad.loader.loader import Loader
from pyrad.records import Sample
from pyrad.store import tables
from pyrad.store.reader import open_store
from pyrad.store.segments import SegmentWriter, join_segments
from pyrad.store.writer import StoreWriter

SETTINGS = {"threads": "cores", "prefetch": 2}


def write(corpus: Corpus, folder: Path) -> None:
    """Write a store by the store's writer: an ingest would find the copies and keep one of each."""
    with StoreWriter.open(
        folder / "store.zarr", codec=None, key_check="0" * 16, file_salt="0" * 32
    ) as writer:
        writer.begin("0" * 16)
        entry = writer.images(
            count=corpus.count, rows=corpus.rows, columns=corpus.rows, planes=1, dtype="uint16"
        )
        for spec in writer.shards(entry):
            with SegmentWriter(spec, range(spec.slots)) as segment:
                for number in range(spec.first, spec.first + spec.slots):
                    segment.add(corpus.image(number))
                join_segments(spec, [segment.finish()])
        numbers = range(corpus.count)
        writer.commit(
            [entry],
            tables.samples_table([_sample(corpus, number, entry.path) for number in numbers]),
            tables.ledger_table([(_key(number), "stored", "stored", 1) for number in numbers]),
            counts={"stored": corpus.count, "skipped": 0, "quarantined": 0},
            split={"ratios": [100, 0, 0], "source": "layout"},
            options={},
        )


def batches(corpus: Corpus, folder: Path, cores: int) -> Batches:
    """Read by `pyrad.Loader`; a sample's key is its number."""
    loader = Loader(
        open_store(folder / "store.zarr"),
        batch_size=corpus.batch,
        size=corpus.side,
        device="cpu",
        dtype="float32",
        threads=cores,
        prefetch=SETTINGS["prefetch"],
    )
    while True:
        for batch in loader:
            yield batch.images, [int(key, 16) for key in batch.keys]


def _key(number: int) -> str:
    return f"{number:032x}"


def _sample(corpus: Corpus, number: int, bucket: str) -> Sample:
    center, width = corpus.windows[number % corpus.unique].tolist()
    return Sample(
        key=_key(number),
        bucket=bucket,
        row=number,
        group=_key(number),
        study="",
        series="",
        frame=0,
        modality="CT",
        anatomy=None,
        labels=(),
        split="train",
        rows=corpus.rows,
        columns=corpus.rows,
        slope=1.0,
        intercept=0.0,
        window_center=(center,),
        window_width=(width,),
        voi_function="LINEAR",
        voi_lut=None,
        modality_lut=None,
        photometric="MONOCHROME2",
        bits_stored=16,
        padding=None,
        percentiles=(center - width / 2, center + width / 2),
        spacing_mm=None,
        slice_index=None,
        laterality=None,
        view=None,
        sex=None,
        age_band=None,
        manufacturer=None,
        lossy=False,
        mask=False,
        warnings=(),
    )
