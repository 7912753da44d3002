"""Folders of runs -> those that were trained on a store, whose weights may remember its patients."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from pyrad.errors import UsageError
from pyrad.store.reader import Store


def find_runs(
    folders: Sequence[Path], store: Store, fingerprints: Collection[str]
) -> Iterator[dict[str, str]]:
    """Training runs on the store, now or as it was: those whose weights may remember a patient.

    A run is known by the store's fingerprint in its run.json, or by the store's path there.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"--runs {folder} is no folder")
        for file in sorted(folder.rglob("run.json")):
            try:
                record = json.loads(file.read_bytes())
                fingerprint = str(record["store_fingerprint"])
                path = Path(str(record.get("options", {}).get("store", "")))
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                continue
            known = fingerprint in (store.fingerprint, *fingerprints)
            if known or path.absolute() == store.path:
                yield {"run": str(file.parent), "by": "fingerprint" if known else "path"}
