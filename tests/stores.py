"""Images and a few facts about each -> a tiny store, for the tests that read one."""

import hashlib
from pathlib import Path

import numpy as np

from pyrad.records import Sample
from pyrad.store import luts, tables
from pyrad.store.segments import SegmentWriter, join_segments, remove_segments
from pyrad.store.writer import StoreWriter


def key_of(number):
    """The key of the ``number``-th sample of a test store."""
    return hashlib.sha256(b"test sample %d" % number).hexdigest()[:32]


def write_shard(spec, images, *, facts=()):
    """Write a whole shard in this process: exactly ``spec.slots`` images, None for an empty slot."""
    with SegmentWriter(spec, range(spec.slots)) as writer:
        for image in images:
            writer.add(image)
        segment = writer.finish()
    try:
        return join_segments(spec, [segment], facts=facts)
    finally:
        remove_segments([segment])


def sample(number, image, bucket, row, **facts):
    """A sample of a test store: an unlabelled training image without a window, unless ``facts`` say more."""
    padding = facts.get("padding")
    values = image if padding is None else image[(image < padding[0]) | (image > padding[1])]
    values = image if not values.size else values
    defaults = {
        "key": key_of(number),
        "group": facts.pop("group", key_of(number // 2)),
        "study": "",
        "series": "",
        "frame": 0,
        "modality": None,
        "anatomy": None,
        "labels": (),
        "split": "train",
        "slope": 1.0,
        "intercept": 0.0,
        "window_center": (),
        "window_width": (),
        "voi_function": None,
        "voi_lut": None,
        "modality_lut": None,
        "photometric": "RGB" if image.ndim == 3 else "MONOCHROME2",
        "bits_stored": 8 * image.dtype.itemsize,
        "padding": None,
        "percentiles": tuple(float(value) for value in np.percentile(values, [1, 99])),
        "spacing_mm": None,
        "slice_index": None,
        "laterality": None,
        "view": None,
        "sex": None,
        "age_band": None,
        "manufacturer": None,
        "lossy": False,
        "mask": False,
        "warnings": (),
    }
    return Sample(
        **{**defaults, **facts}, bucket=bucket, row=row, rows=image.shape[-2], columns=image.shape[-1]
    )


def build(path, images, facts=None, codec="tilepack") -> Path:
    """Write a store of ``images`` (any mixture of sizes and dtypes), samples in the order of the images.

    ``facts`` holds a dict of Sample fields for each image.
    """
    facts = [{}] * len(images) if facts is None else facts
    buckets: dict[tuple, list[int]] = {}
    for number, image in enumerate(images):
        buckets.setdefault((image.shape, image.dtype.name), []).append(number)
    samples = [None] * len(images)
    with StoreWriter.open(path, codec=codec, key_check="0" * 16, file_salt="0" * 32) as writer:
        writer.begin("00" * 32)
        arrays = []
        for (shape, dtype), numbers in sorted(buckets.items()):
            entry = writer.images(
                count=len(numbers),
                rows=shape[-2],
                columns=shape[-1],
                planes=3 if len(shape) == 3 else 1,
                dtype=dtype,
            )
            arrays.append(entry)
            for spec in writer.shards(entry):
                slots = numbers[spec.first : spec.first + spec.slots]
                write_shard(spec, (images[number] for number in slots), facts=[])
            for row, number in enumerate(numbers):
                samples[number] = sample(number, images[number], entry.path, row, **facts[number])
        numbers = luts.number_luts(lut for s in samples for lut in (s.voi_lut, s.modality_lut))
        writer.commit(
            arrays,
            tables.samples_table(samples, numbers),
            tables.ledger_table([(key_of(number), "stored", "stored", 1) for number in range(len(images))]),
            lookup=luts.luts_table(numbers),
            counts={"stored": len(images), "skipped": 0, "quarantined": 0},
            split={"ratios": [75, 10, 15], "source": "layout"},
            options={},
        )
    return path
