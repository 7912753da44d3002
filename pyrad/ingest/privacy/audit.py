"""What was done with a secret's stores -> a log in the private folder in which an edit or a cut shows.

# Note [chain]
``audit.jsonl`` has one JSON line an event. Its last field, ``mac``, is HMAC-SHA256, under a subkey of the
secret, of the line before it and of its own other fields: whoever has no secret can neither change a line nor
take one out of the middle. ``audit.head`` holds the number of lines and a seal, HMAC-SHA256 of the last line
under another subkey: without it the end could be cut off unseen.

What this does not show: that both files were removed, or put back together to an earlier state, by someone
who may write in the folder; nor anything done by one who has the secret. A head that was written down
elsewhere (`pyrad audit` prints it, ``--head`` compares it) shows the former.

A line says what, when, which account of the machine, which store (by name), counts and keyed digests: no
identifier of a patient, no path of a source.
"""

from __future__ import annotations

import fcntl
import hmac
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyrad.errors import IntegrityError, PyradError, SecretError, UsageError
from pyrad.ingest.privacy.folder import PrivateFolder
from pyrad.ingest.privacy.options import PrivateOptions
from pyrad.ingest.privacy.secret import Secret, own_secret
from pyrad.progress import Reporter
from pyrad.store import durable

AUDIT_FILE = "audit.jsonl"
HEAD_FILE = "audit.head"
_HEAD = re.compile(r"[0-9]+:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A log that was found whole."""

    entries: tuple[Mapping[str, Any], ...] = ()  # with their mac
    head: str = ""  # "COUNT:SEAL", what `audit.head` holds

    @property
    def last_mac(self) -> str:
        """The mac of the newest line, "" where there is none."""
        return str(self.entries[-1]["mac"]) if self.entries else ""


class AuditLog:
    """The audit log of a private folder, written under a lock; made when something is noted."""

    def __init__(self, folder: Path, secret: Secret) -> None:
        self.folder = folder
        self._key_check = secret.key_check
        self._line_key = secret.subkey("audit lines")
        self._head_key = secret.subkey("audit head")

    def check_chain(self, *, known_head: str | None = None) -> Chain:
        """Check every line and the head; returns the log, empty where none was ever written.

        ``known_head`` is a head that was noted elsewhere: the log must contain it. IntegrityError says which
        line is wrong; SecretError where the log is of another secret.
        """
        if not self.folder.is_dir():
            return self._checked(b"", None, known_head)
        with self._locked() as fd:
            return self._checked(_contents(fd), self._read_head(), known_head)

    def note(self, event: str, **facts: Any) -> None:
        """Add one line, durably; ``facts`` are JSON values. IntegrityError where the log is not whole."""
        with durable.disk_errors(f"the audit log {self.folder / AUDIT_FILE}"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked() as fd:
                contents, head = _contents(fd), self._read_head()
                chain = self._checked(contents, head)
                if head is None:
                    self._write_head(chain)
                entry = {
                    **facts,
                    "event": event,
                    "key_check": self._key_check,
                    "number": len(chain.entries) + 1,
                    "at": datetime.now(UTC).isoformat(timespec="seconds"),
                    "user": _account(),
                }
                entry["mac"] = self._mac(chain.last_mac, entry)
                whole = contents.rfind(b"\n") + 1
                os.ftruncate(fd, whole)  # what a crash left of a line that was never finished
                _write_all(fd, _spelled(entry) + b"\n", whole)
                os.fsync(fd)
                self._write_head(Chain(entries=(*chain.entries, entry)))

    @contextmanager
    def event(self, name: str, **facts: Any) -> Iterator[dict[str, Any]]:
        """Note ``NAME begun`` before the block and ``NAME done`` after it, or ``NAME failed``.

        The block may fill the dict that it is given: facts of the last line.
        """
        self.note(f"{name} begun", **facts)
        outcome: dict[str, Any] = {}
        try:
            yield outcome
        except BaseException as error:
            with suppress(PyradError, OSError):  # the first error is the one to be told
                self.note(f"{name} failed", **{**facts, **outcome, "error": type(error).__name__})
            raise
        self.note(f"{name} done", **{**facts, **outcome})

    def _checked(self, contents: bytes, head: str | None, known_head: str | None = None) -> Chain:
        """The chain in the log's bytes. A line cut short by a crash does not count."""
        entries: list[Mapping[str, Any]] = []
        heads = [self._head(0, "")]
        before = ""
        for number, line in enumerate(contents.split(b"\n")[:-1], 1):
            entry = self._entry(line, number, before)
            before = entry["mac"]
            entries.append(entry)
            heads.append(self._head(number, before))
        # A crash between a line and its head leaves the head one line behind: that line proves itself.
        if (head is not None or contents) and head not in heads[-2:]:
            raise self._broken("its end was cut off, or its head was removed or replaced")
        if known_head is not None and known_head not in heads:
            raise self._broken(f"it does not contain the head {known_head} that is known of it")
        return Chain(entries=tuple(entries), head=heads[-1])

    def _entry(self, line: bytes, number: int, before: str) -> dict[str, Any]:
        try:
            entry = json.loads(line)
        except ValueError:
            raise self._broken(f"line {number} is no JSON") from None
        if not isinstance(entry, dict):
            raise self._broken(f"line {number} is no event")
        if entry.get("key_check") != self._key_check and number == 1:
            raise SecretError(
                f"{self.folder / AUDIT_FILE} belongs to another secret: give that one (--secret-file or "
                "PYRAD_SECRET), or another folder by --private"
            )
        mac = str(entry.pop("mac", ""))
        if not hmac.compare_digest(mac.encode(), self._mac(before, entry).encode()):
            raise self._broken(f"line {number} was changed, or a line before it was taken out")
        return {**entry, "mac": mac}

    def _mac(self, before: str, entry: Mapping[str, Any]) -> str:
        return hmac.new(self._line_key, before.encode() + b"\n" + _spelled(entry), "sha256").hexdigest()

    def _head(self, count: int, last_mac: str) -> str:
        seal = hmac.new(self._head_key, f"{count}\n{last_mac}".encode(), "sha256").hexdigest()
        return f"{count}:{seal}"

    def _read_head(self) -> str | None:
        try:
            return (self.folder / HEAD_FILE).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError):
            raise self._broken(f"{HEAD_FILE} cannot be read") from None

    def _write_head(self, chain: Chain) -> None:
        temporary = self.folder / f".{HEAD_FILE}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(self._head(len(chain.entries), chain.last_mac).encode() + b"\n")
            file.flush()
            os.fsync(fd)
        temporary.replace(self.folder / HEAD_FILE)
        durable.sync_folder(self.folder)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self.folder / AUDIT_FILE, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)

    def _broken(self, what: str) -> IntegrityError:
        return IntegrityError(
            f"the audit log {self.folder / AUDIT_FILE} is not whole: {what}; find out by whom, restore it "
            "from a copy, or move it and its head away to begin another"
        )


def _spelled(entry: Mapping[str, Any]) -> bytes:
    """One spelling for one event, which is what the mac covers."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _contents(fd: int) -> bytes:
    with open(os.dup(fd), "rb") as file:
        file.seek(0)
        return file.read()


def _write_all(fd: int, data: bytes, at: int) -> None:
    while data:
        written = os.pwrite(fd, data, at)
        data, at = data[written:], at + written


def _account() -> str:
    """The account of this machine that runs the command."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


@dataclass(frozen=True, kw_only=True)
class AuditOptions(PrivateOptions):
    """The options of `pyrad audit`."""

    head: str | None = field(
        default=None,
        metadata={
            "help": "a head that this command printed earlier: the log must contain it",
            "metavar": "COUNT:SEAL",
        },
    )

    def __post_init__(self) -> None:
        if self.head is not None and _HEAD.fullmatch(self.head) is None:
            raise UsageError(
                f"--head {self.head!r} is no head: give COUNT:SEAL, a number and 64 hexadecimal digits, as "
                "this command printed it"
            )


def audit(options: AuditOptions, reporter: Reporter) -> None:
    """Check the log of a private folder and give its lines.

    UsageError where the folder has no log, IntegrityError where the log is not whole.
    """
    secret = own_secret(options.secret_file)
    folder = PrivateFolder(options.private, secret.key_check).path
    if not any((folder / name).exists() for name in (AUDIT_FILE, HEAD_FILE)):
        raise UsageError(f"there is no audit log in {folder}: name the folder of the ingests by --private")
    chain = AuditLog(folder, secret).check_chain(known_head=options.head)
    lines = [
        f"{entry['at']}  {entry['user']:<10} {entry['event']:<16} {entry.get('store', '')}"
        for entry in chain.entries
    ]
    lines.append(f"{len(chain.entries)} lines, whole; head {chain.head}")
    reporter.result({"entries": chain.entries, "head": chain.head}, "\n".join(lines))
