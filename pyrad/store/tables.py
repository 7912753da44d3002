"""Samples and ledger rows <-> Parquet files, whose bytes follow from the rows and pyarrow's version."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pyrad.errors import IntegrityError, PyradError, UsageError
from pyrad.records import SPLITS, Lut, Sample
from pyrad.store.layout import ArrayEntry, mask_path

GROUP_ROWS = 1 << 17  # of a Parquet file's row group
OUTCOMES = ("stored", "skipped", "quarantined")

_PAIR = pa.list_(pa.float64(), 2)
SAMPLES_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("bucket", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("study", pa.string(), nullable=False),
        pa.field("series", pa.string(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("modality", pa.string()),
        pa.field("anatomy", pa.string()),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("rows", pa.int32(), nullable=False),
        pa.field("columns", pa.int32(), nullable=False),
        pa.field("slope", pa.float64(), nullable=False),
        pa.field("intercept", pa.float64(), nullable=False),
        pa.field("window_center", pa.list_(pa.float64()), nullable=False),
        pa.field("window_width", pa.list_(pa.float64()), nullable=False),
        pa.field("voi_function", pa.string()),
        pa.field("voi_lut", pa.int32()),
        pa.field("modality_lut", pa.int32()),
        pa.field("photometric", pa.string(), nullable=False),
        pa.field("bits_stored", pa.int32(), nullable=False),
        pa.field("padding_low", pa.int32()),
        pa.field("padding_high", pa.int32()),
        pa.field("percentiles", _PAIR, nullable=False),
        pa.field("spacing_mm", _PAIR),
        pa.field("slice_index", pa.int32()),
        pa.field("laterality", pa.string()),
        pa.field("view", pa.string()),
        pa.field("sex", pa.string()),
        pa.field("age_band", pa.string()),
        pa.field("manufacturer", pa.string()),
        pa.field("lossy", pa.bool_(), nullable=False),
        pa.field("mask", pa.bool_(), nullable=False),
        pa.field("warnings", pa.list_(pa.string()), nullable=False),
    ]
)
LEDGER_SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("frames", pa.int32(), nullable=False),
    ]
)

_KEY = "^[0-9a-f]{32}$"  # an HMAC, never an identifier
_KEY_OR_NONE = "^([0-9a-f]{32})?$"
_SPLIT_VALUES = "^(" + "|".join(SPLITS) + ")$"
_PATTERNS = {
    "key": _KEY,
    "group": _KEY,
    "study": _KEY_OR_NONE,
    "series": _KEY_OR_NONE,
    "split": _SPLIT_VALUES,
}


def samples_table(
    samples: Iterable[Sample],
    luts: Mapping[Lut, int] | None = None,
    *,
    buckets: Collection[str] | None = None,
    kept_columns: Collection[str] | None = None,
) -> pa.Table:
    """The samples table, one row a sample in the order given; kept columns stand behind ours, as strings.

    ``luts`` numbers the lookup tables of the whole part (`luts.number_luts`); None where there are none.
    Where the rows are but some of a part's, ``buckets`` and ``kept_columns`` are those of all its rows.
    UsageError where a kept column has the name of one of ours.
    """
    rows = list(samples)
    kept = sorted({name for sample in rows for name in sample.kept} if kept_columns is None else kept_columns)
    clash = sorted(set(kept) & set(SAMPLES_SCHEMA.names))
    if clash:
        raise UsageError(
            f"--keep-columns {','.join(clash)}: the samples table has columns of that name already; "
            "rename them in the source table"
        )
    columns: dict[str, pa.Array] = {}
    numbers = luts or {}
    for field in SAMPLES_SCHEMA:
        if field.name in ("padding_low", "padding_high"):
            end = int(field.name == "padding_high")
            values: list[Any] = [None if sample.padding is None else sample.padding[end] for sample in rows]
        elif field.name in ("voi_lut", "modality_lut"):
            values = [numbers[lut] if (lut := getattr(sample, field.name)) else None for sample in rows]
        else:
            values = [getattr(sample, field.name) for sample in rows]
        if pa.types.is_dictionary(field.type):
            names = sorted(set(values) if buckets is None else buckets)
            at = {name: position for position, name in enumerate(names)}
            codes = pa.array([at[value] for value in values], pa.int32())
            columns[field.name] = pa.DictionaryArray.from_arrays(codes, pa.array(names, pa.string()))
        else:
            columns[field.name] = pa.array(values, field.type)
    for name in kept:
        columns[name] = pa.array([sample.kept.get(name) for sample in rows], pa.string())
    schema = pa.schema([*SAMPLES_SCHEMA, *(pa.field(name, pa.string()) for name in kept)])
    return pa.table(list(columns.values()), schema=schema)


def ledger_table(rows: Iterable[tuple[str, str, str, int]]) -> pa.Table:
    """(source, outcome, reason, frames) rows -> the ledger; ``source`` is an HMAC of 32 hex characters."""
    columns = list(zip(*rows, strict=True)) or [(), (), (), ()]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, LEDGER_SCHEMA, strict=True)]
    return pa.table(arrays, schema=LEDGER_SCHEMA)


def schema_fault(schema: pa.Schema, expected: pa.Schema, *, kept: bool) -> str:
    """What keeps a table from being ours, or ""; with ``kept`` further columns of strings may follow."""
    for position, field in enumerate(expected):
        if position >= len(schema) or schema.field(position).name != field.name:
            return f"column {position} is not {field.name!r}"
        if schema.field(position).type != field.type:
            return f"column {field.name!r} is {schema.field(position).type} instead of {field.type}"
    extra = [schema.field(position) for position in range(len(expected), len(schema))]
    if extra and (not kept or any(field.type != pa.string() for field in extra)):
        return f"columns {', '.join(repr(field.name) for field in extra)} do not belong there"
    return ""


def value_faults(samples: pa.Table) -> list[str]:
    """Values of a samples table that no writer may write: an identifier where a hash is due, say."""
    faults = []
    for name, pattern in _PATTERNS.items():
        good = pc.match_substring_regex(samples[name], pattern)
        wrong = len(samples) - (pc.sum(good).as_py() or 0)
        if wrong:
            faults.append(f"samples column {name!r}: {wrong} values are not as docs/format.md specifies")
    for field in SAMPLES_SCHEMA:
        missing = 0 if field.nullable else samples[field.name].null_count
        if missing:
            faults += [f"samples column {field.name!r}: {missing} values are missing"]
    twice = len(samples) - pc.count_distinct(samples["key"]).as_py()
    return [*faults, f"samples column 'key': {twice} keys are not unique"] if twice else faults


def ledger_faults(ledger: pa.Table) -> list[str]:
    """Values of a ledger that no writer may write."""
    hashed = pc.sum(pc.match_substring_regex(ledger["source"], _KEY)).as_py() or 0
    known = pc.sum(pc.is_in(ledger["outcome"], pa.array(OUTCOMES))).as_py() or 0
    faults = [] if hashed == len(ledger) else [f"ledger: {len(ledger) - hashed} sources are not keyed hashes"]
    return (
        faults if known == len(ledger) else [*faults, f"ledger: {len(ledger) - known} outcomes are unknown"]
    )


def row_faults(
    samples: pa.Table, arrays: Sequence[ArrayEntry], present: Mapping[str, NDArray[np.bool_]]
) -> list[str]:
    """Rows of a part's samples table that do not point to a stored image of their shape, or lie about masks.

    ``present`` maps the path of each array to which of its chunks are there, bool (count, planes).
    """
    faults = []
    by_path = {entry.path: entry for entry in arrays}
    bucket = samples["bucket"].combine_chunks()
    codes = bucket.indices.to_numpy(zero_copy_only=False)
    columns = {name: samples[name].to_numpy() for name in ("row", "rows", "columns", "mask")}
    for code, path in enumerate(bucket.dictionary.to_pylist()):
        mine = codes == code
        if not mine.any():
            continue
        entry = by_path.get(path)
        if entry is None or path.split("/")[2] != "images":
            faults.append(
                f"{int(mine.sum())} samples rows name bucket {path[:80]!r}, which is not in their part"
            )
            continue
        row = columns["row"][mine]
        if ((row < 0) | (row >= entry.count)).any() or len(np.unique(row)) != len(row):
            faults.append(f"{path}: samples rows point outside it or twice to one image")
            continue
        absent = row[~present[path][row].all(axis=1)]
        faults += [f"{entry.chunk_name(int(n))} is absent, and a samples row points to it" for n in absent]
        if (columns["rows"][mine] != entry.rows).any() or (columns["columns"][mine] != entry.columns).any():
            faults.append(f"{path}: samples rows state another image size")
        masks = present.get(mask_path(path), np.zeros((entry.count, 1), bool))
        wrong = row[columns["mask"][mine] != masks[row, 0]]
        faults += [
            f"{entry.chunk_name(int(n))}: its mask and its samples row's mask flag differ" for n in wrong
        ]
    return faults


def parquet_bytes(table: pa.Table) -> bytes:
    """A table as Parquet: zstd, page checksums, fixed row groups, no metadata of other libraries."""
    sink = io.BytesIO()
    pq.write_table(
        table.replace_schema_metadata(None).combine_chunks(),
        sink,
        compression="zstd",
        compression_level=3,
        row_group_size=GROUP_ROWS,
        version="2.6",
        data_page_version="1.0",
        write_page_checksum=True,
    )
    return sink.getvalue()


def checked_samples(table: pa.Table) -> pa.Table:
    """The table, once it is fit to be committed; PyradError otherwise."""
    fault = schema_fault(table.schema, SAMPLES_SCHEMA, kept=True)
    faults = [f"samples: {fault}"] if fault else value_faults(table)
    if faults:
        raise PyradError(f"the samples table cannot be committed: {'; '.join(faults)}")
    return table


def checked_ledger(table: pa.Table) -> pa.Table:
    """The ledger, once it is fit to be committed; PyradError otherwise."""
    fault = schema_fault(table.schema, LEDGER_SCHEMA, kept=False)
    faults = [f"ledger: {fault}"] if fault else ledger_faults(table)
    if faults:
        raise PyradError(f"the ledger cannot be committed: {'; '.join(faults)}")
    return table


def open_parquet(source: Any, name: str) -> pq.ParquetFile:
    """A Parquet file of a store, page checksums verified as it is read; IntegrityError where it is none."""
    try:
        return pq.ParquetFile(source, page_checksum_verification=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise IntegrityError(f"{name} is damaged: {_first_line(error)}; run `pyrad verify`") from None


def read_columns(
    file: pq.ParquetFile, columns: list[str] | None, name: str, *, group: int | None = None
) -> pa.Table:
    """Some columns of an open Parquet file (all for None), of one row group or of all that there are.

    IntegrityError where a page is damaged.
    """
    try:
        if group is not None:
            return file.read_row_group(group, columns=columns, use_threads=True)
        return file.read(columns=columns, use_threads=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise IntegrityError(f"{name} is damaged: {_first_line(error)}; run `pyrad verify`") from None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
