"""A store -> what is in it, in numbers, for a machine and for a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pyrad.store.layout import ABSENT, DTYPE_BYTES
from pyrad.store.reader import open_store


def info(path: str | Path) -> dict[str, Any]:
    """What a store holds, for a machine; reads tables and index, and no image."""
    with open_store(path) as store:
        labels = store.samples["labels"]
        files = [file for part in store.manifest.parts for file in part.files]
        raw = stored = 0
        for entry in store.index.arrays:
            found = store.index.array_entries(entry)
            there = found[:, 0] != ABSENT
            raw += int(there.sum()) * entry.rows * entry.columns * DTYPE_BYTES[entry.dtype]
            stored += int(found[there, 1].sum())
        return {
            "store": store.path.name,
            "format": store.manifest.format,
            "codec": store.codec,
            "fingerprint": store.fingerprint,
            "parts": len(store.manifest.parts),
            "samples": len(store),
            "counts": dict(store.manifest.counts),
            "split_rule": dict(store.manifest.split),
            "options": dict(store.manifest.options),
            "splits": _tally(store.samples["split"]),
            "labels": _tally(pc.list_flatten(labels)),
            "unlabelled": int(pc.sum(pc.equal(pc.list_value_length(labels), 0)).as_py() or 0),
            "modalities": _tally(store.samples["modality"]),
            "masks": int(pc.sum(store.samples["mask"]).as_py() or 0),
            "buckets": [
                {
                    "path": bucket.path,
                    "images": bucket.count,
                    "rows": bucket.rows,
                    "columns": bucket.columns,
                    "planes": bucket.planes,
                    "dtype": bucket.dtype.name,
                }
                for bucket in store.buckets
            ],
            "raw_bytes": raw,
            "chunk_bytes": stored,
            "stored_bytes": sum(file.bytes for file in files),
            "ratio": round(raw / stored, 4) if stored else None,
        }


def info_text(facts: dict[str, Any]) -> str:
    """The facts of `info` for a person."""
    counts = facts["counts"]
    ratio = "-" if facts["ratio"] is None else f"{facts['ratio']:.2f}"
    lines = [
        f"{facts['store']}: {facts['samples']:,} samples of {counts.get('groups', 0):,} groups (patients)",
        f"  format      {facts['format']}, codec {facts['codec']}, {facts['parts']} parts",
        f"  size        {_size(facts['stored_bytes'])}; pixels {_size(facts['raw_bytes'])}, ratio {ratio}",
        *_rows("split", facts["splits"]),
        *_rows("label", facts["labels"]),
        *([f"  label       {facts['unlabelled']:>9,}  (none)"] if facts["unlabelled"] else []),
        *_rows("modality", facts["modalities"]),
        *([f"  masks       {facts['masks']:>9,}"] if facts["masks"] else []),
        *_rows("bucket", {bucket["path"]: bucket["images"] for bucket in facts["buckets"]}),
        *(f"  {name:<11} {counts.get(name, 0):>9,}" for name in ("stored", "skipped", "quarantined")),
    ]
    return "\n".join(lines)


def _rows(title: str, tally: dict[str, int], limit: int = 20) -> list[str]:
    """At most ``limit`` lines of a tally, the largest first."""
    largest = sorted(tally.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"  {title:<11} {count:>9,}  {name or '(none)'}" for name, count in largest[:limit]]
    return lines + (
        [f"  {title:<11} {'...':>9}  {len(largest) - limit} more"] if len(largest) > limit else []
    )


def _tally(values: pa.ChunkedArray) -> dict[str, int]:
    """How often each value stands in a column; "" where it has none."""
    counted = pc.value_counts(values).to_pylist()
    return {
        entry["values"] or "": entry["counts"] for entry in sorted(counted, key=lambda e: e["values"] or "")
    }


def _size(size_bytes: int) -> str:
    """1536 -> ``1.5 KiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:,.1f} {unit}" if unit != "B" else f"{size_bytes} B"
        size /= 1024
    return f"{size:,.1f} TiB"
