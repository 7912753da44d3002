"""The options that lead to the private folder -> one base of every command that opens it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PrivateOptions:
    """Where the private folder and the secret are."""

    private: Path | None = field(
        default=None,
        metadata={
            "help": "the private folder of the ingests (default: in your data folder)",
            "metavar": "DIR",
        },
    )
    secret_file: Path | None = field(
        default=None,
        metadata={
            "help": "file with the secret of the store (else PYRAD_SECRET, else your own file)",
            "metavar": "FILE",
        },
    )
