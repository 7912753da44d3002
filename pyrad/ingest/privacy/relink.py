"""Keys and groups of a store, or names of its ledger -> their files, for those who may know.

The answer comes from the crosswalk of the private folder and identifies patients. It is given only to one who
has the stores' secret, and every question is noted in the audit log before it is answered.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pyrad.errors import UsageError
from pyrad.ingest.privacy.audit import AuditLog
from pyrad.ingest.privacy.folder import PrivateFolder, Trace
from pyrad.ingest.privacy.options import PrivateOptions
from pyrad.ingest.privacy.secret import own_secret
from pyrad.progress import Reporter, printable

_NAME = re.compile(r"[0-9a-f]{32}")
_UNKNOWN_EXIT_CODE = 1
_SHOWN = ("store", "archive", "path", "frame", "reason", "detail")


@dataclass(frozen=True, kw_only=True)
class RelinkOptions(PrivateOptions):
    """The options of `pyrad relink`."""

    keys: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "keys or groups of samples, or names of sources as ledger and messages give them: 32 "
            "hexadecimal characters",
            "positional": True,
            "metavar": "KEY",
        },
    )
    keys_from: Path | None = field(
        default=None,
        metadata={"help": "file with one key a line; - reads standard input", "metavar": "FILE"},
    )


@dataclass(frozen=True, kw_only=True)
class Relinked:
    """What was found; ``unknown`` are keys that the private folder does not have."""

    found: tuple[tuple[str, Trace], ...]
    unknown: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """0, or 1 where a key is unknown."""
        return _UNKNOWN_EXIT_CODE if self.unknown else 0


def relink(options: RelinkOptions, reporter: Reporter) -> Relinked:
    """Answer from the crosswalk, and note it; UsageError where a key is none, SecretError without secret."""
    names = tuple(dict.fromkeys(_names(options)))
    if not names:
        raise UsageError("no key is given: name some, or a file of them by --keys-from")
    secret = own_secret(options.secret_file)
    folder = PrivateFolder(options.private, secret.key_check)
    if not folder.path.is_dir():
        raise UsageError(f"there is no private folder {folder.path}: name that of the ingests by --private")
    traces = sorted(folder.find(names), key=lambda t: (t.store, t.archive, t.path, t.frame, t.key))
    found = tuple((name, trace) for name in names for trace in traces if name in _names_of(trace))
    known = {name for name, _ in found}
    result = Relinked(found=found, unknown=tuple(name for name in names if name not in known))
    # Noted before it is told. Names that are not there are not: they may be anything.
    AuditLog(folder.path, secret).note(
        "relink", asked=len(names), found=[name for name in names if name in known]
    )
    reporter.result(
        {"found": [{"asked": name, **asdict(trace)} for name, trace in found], "unknown": result.unknown},
        _as_text(result),
    )
    return result


def _names_of(trace: Trace) -> tuple[str, str, str]:
    return trace.key, trace.source, trace.group


def _names(options: RelinkOptions) -> Iterator[str]:
    for position, key in enumerate(options.keys, 1):
        yield _checked(key, f"key {position}")
    if options.keys_from is None:
        return
    try:
        from_stdin = str(options.keys_from) == "-"
        text = sys.stdin.read() if from_stdin else options.keys_from.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", "it is not UTF-8")
        raise UsageError(f"--keys-from {options.keys_from} cannot be read as text: {why}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            yield _checked(line, f"--keys-from {options.keys_from}: line {number}")


def _checked(text: str, where: str) -> str:
    """The key without blanks around it; what is no key may be a patient's name and is not quoted."""
    name = text.strip().lower()
    if _NAME.fullmatch(name) is None:
        raise UsageError(f"{where} is no key: one has 32 hexadecimal characters, as in the column key")
    return name


def _as_text(result: Relinked) -> str:
    """Tab-separated, one row a frame, a header first; unknown keys behind."""
    rows: list[tuple[str, ...]] = [("asked", *_SHOWN)]
    for name, trace in result.found:
        rows.append((name, *(printable(str(getattr(trace, column)), keep="") for column in _SHOWN)))
    lines = ["\t".join(row) for row in rows] if result.found else []
    return "\n".join([*lines, *(f"{name}\tunknown" for name in result.unknown)])
