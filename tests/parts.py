"""Images, masks and empty slots -> parts of a store, for the tests of the store itself."""

import numpy as np
from stores import key_of, sample, write_shard

from pyrad.store import luts, tables
from pyrad.store.writer import StoreWriter

SECRET = {"key_check": "ab" * 8, "file_salt": "cd" * 16}
DIGEST = "12" * 32
MASK = (np.arange(20 * 13).reshape(20, 13) % 3 == 0).astype(np.uint8)  # fits the first of mixed()


def picture(seed, rows, columns, dtype="int16", planes=1):
    """A smooth image with a little noise, so that it packs like a real one."""
    rng = np.random.default_rng(seed)
    shape = (3, rows, columns) if planes == 3 else (rows, columns)
    slope = np.add.outer(np.arange(rows), np.arange(columns)) // 2
    low = -100 if dtype.startswith("i") else 0
    return (slope + rng.integers(0, 9, shape) + low).astype(dtype)


def mixed(seed=0):
    """Pictures of every dtype and of one and three planes, two of each."""
    shapes = [(20, 13, "int16"), (8, 40, "uint16"), (9, 9, "uint8"), (17, 8, "int8")]
    grey = [picture(seed + n, rows, columns, dtype) for rows, columns, dtype in shapes for n in range(2)]
    return [*grey, *(picture(seed + n, 10, 12, "uint8", planes=3) for n in range(2))]


def write_part(writer, images, *, masks=None, first=0, facts=None, written=None):
    """Write ``images`` as the next part of an open writer and commit it; returns the manifest.

    ``masks`` maps positions in ``images`` to masks; samples are numbered from ``first``. ``written`` collects
    the shards that were not finished before.
    """
    masks = masks or {}
    writer.begin(DIGEST)
    buckets = {}
    for number, image in enumerate(images):
        buckets.setdefault((image.shape, image.dtype.name), []).append(number)
    arrays, samples = [], [None] * len(images)
    for (shape, dtype), numbers in sorted(buckets.items()):
        planes = 3 if len(shape) == 3 else 1
        entry = writer.images(
            count=len(numbers), rows=shape[-2], columns=shape[-1], planes=planes, dtype=dtype
        )
        tasks = [(entry, images)]
        if any(number in masks for number in numbers):
            tasks.append((writer.masks(entry), [masks.get(number) for number in range(len(images))]))
        for array, pictures in tasks:
            arrays.append(array)
            for spec in writer.shards(array):
                if writer.finished(spec) is None:
                    slots = numbers[spec.first : spec.first + spec.slots]
                    write_shard(spec, [pictures[number] for number in slots], facts=slots)
                    if written is not None:
                        written.append(spec.file)
        for row, number in enumerate(numbers):
            extra = {} if facts is None else facts[number]
            samples[number] = sample(
                first + number, images[number], entry.path, row, mask=number in masks, **extra
            )
    numbers = luts.number_luts(lut for s in samples for lut in (s.voi_lut, s.modality_lut))
    return writer.commit(
        arrays,
        tables.samples_table(samples, numbers),
        tables.ledger_table([(key_of(first + n), "stored", "stored", 1) for n in range(len(images))]),
        lookup=luts.luts_table(numbers),
        counts={"stored": first + len(images), "skipped": 0, "quarantined": 0},
        split={"ratios": [75, 10, 15], "source": "ratios"},
        options={"color": "luma"},
    )


def add_part(path, images, *, codec=None, **how):
    """Open a store for writing, write and commit one part."""
    with StoreWriter.open(path, codec=codec, **SECRET) as writer:
        write_part(writer, images, **how)
    return path


def tree_bytes(path):
    """Every file below ``path`` -> its contents."""
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file()
    }
