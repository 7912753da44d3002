"""The secret -> every key, hash and rank of an ingest; where the secret comes from, and when one is made.

All derivations are HMAC-SHA256 under the secret with a prefix of their own. The secret itself stays in this
process: workers get subkeys, and nothing here prints, logs or pickles it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

from pyrad.errors import SecretError

SECRET_BYTES = 32
_BLOCK_BYTES = 64  # of SHA-256
ENVIRONMENT = "PYRAD_SECRET"


class Secret:
    """The bytes that make keys of identifiers; cannot be printed or pickled."""

    __slots__ = ("_begun", "_inner", "_new_file", "_outer", "_secret", "origin")

    def __init__(self, secret: bytes, origin: str, new_file: Path | None = None) -> None:
        self._secret = secret
        self._inner, self._outer = _begin_hmac(secret)
        self._begun: dict[str, Any] = {}  # prefix -> the inner hash before any identity
        self._new_file = new_file  # where `keep` writes it
        self.origin = origin  # where it came from, for messages

    def __repr__(self) -> str:
        return f"Secret({self.origin})"

    def __reduce__(self) -> Never:
        raise TypeError("a secret does not leave its process; pass a subkey")

    def keep(self, say: Callable[[str], None]) -> None:
        """Write a secret that was just made to its file, and say so; nothing for one that was given.

        Called before anything is written that depends on it. SecretError where the file cannot be made.
        """
        if self._new_file is None:
            return
        _write(self._new_file, self._secret)
        say(f"a new secret was written to {self._new_file}: keep it, its stores cannot grow without")
        self._new_file = None

    @property
    def is_new(self) -> bool:
        """Whether it was made just now and stands in no file yet."""
        return self._new_file is not None

    def mac(self, prefix: str, identity: bytes = b"") -> bytes:
        """HMAC-SHA256 of ``prefix``, NUL, ``identity``: 32 bytes."""
        begun = self._begun.get(prefix)
        if begun is None:
            begun = self._begun[prefix] = self._inner.copy()
            begun.update(prefix.encode() + b"\0")
        inner, outer = begun.copy(), self._outer.copy()  # in half the time of the hmac module
        inner.update(identity)
        outer.update(inner.digest())
        return bytes(outer.digest())

    def name(self, prefix: str, *identity: str) -> str:
        """What stands in a store for an identifier: 32 hex characters of its HMAC.

        The parts of ``identity`` are joined by NUL and taken as UTF-8, undecodable bytes of a path as they
        were.
        """
        return self.mac(prefix, "\0".join(identity).encode("utf-8", "surrogateescape"))[:16].hex()

    def subkey(self, purpose: str) -> bytes:
        """A key of 32 bytes for one purpose; it leads nobody back to the secret, so workers may have it."""
        return self.mac("subkey", purpose.encode())

    @property
    def key_check(self) -> str:
        """16 hex characters by which a store knows its secret again."""
        return hmac.digest(self._secret, b"pyrad key check 1", "sha256")[:8].hex()

    @property
    def file_salt(self) -> str:
        """32 hex characters that salt the hashes of a store's files."""
        return hmac.digest(self._secret, b"pyrad file salt 1", "sha256")[:16].hex()


def resolve_secret(
    secret_file: Path | None, *, key_check: str | None, store: str, must_be_given: bool = False
) -> Secret:
    """The secret of this ingest: ``--secret-file``, else ``PYRAD_SECRET``, else the user's own file.

    ``key_check`` is the one of the store that is added to, None for a new store: only then is a secret made,
    which `Secret.keep` writes to the user's file. SecretError where it is absent or not the store's, or where
    it ``must_be_given`` and is only a file of this machine's user.
    """
    secret = _given(secret_file)
    if secret is None and must_be_given:
        raise SecretError(
            "a shared cluster is no place to make or find a secret: give one by --secret-file or "
            f"{ENVIRONMENT} (to make one: openssl rand -hex 32)"
        )
    if secret is None:
        path = config_folder() / "secret"
        if path.is_file():
            secret = Secret(_read(path), str(path))
        elif key_check is not None:
            raise SecretError(
                f"{store} has a secret, and none is given: there is no --secret-file, no {ENVIRONMENT} and "
                f"no {path}; give the secret that the store was made with"
            )
        else:
            secret = Secret(_random(), str(path), new_file=path)
    if key_check is not None and not hmac.compare_digest(secret.key_check, key_check):
        raise SecretError(
            f"{store} was made with another secret than that of {secret.origin}: give the store's own "
            f"(--secret-file or {ENVIRONMENT}), or ingest into a new store"
        )
    return secret


def own_secret(secret_file: Path | None) -> Secret:
    """The secret of somebody who has stores already; SecretError where there is none: none is made."""
    secret = resolve_secret(secret_file, key_check=None, store="")
    if secret.is_new:
        raise SecretError(
            f"no secret is given: there is no --secret-file, no {ENVIRONMENT} and no {secret.origin}; "
            "give the secret that the stores were made with"
        )
    return secret


def _begin_hmac(key: bytes) -> tuple[Any, Any]:
    """The two hashes of an HMAC-SHA256, inner and outer, before any message (RFC 2104)."""
    block = (key if len(key) <= _BLOCK_BYTES else hashlib.sha256(key).digest()).ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(bytes(b ^ 0x36 for b in block)), hashlib.sha256(bytes(b ^ 0x5C for b in block))


def config_folder() -> Path:
    """``$XDG_CONFIG_HOME/pyrad``, by default ``~/.config/pyrad``."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "pyrad"


def data_folder() -> Path:
    """``$XDG_DATA_HOME/pyrad``, by default ``~/.local/share/pyrad``."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "pyrad"


def _given(secret_file: Path | None) -> Secret | None:
    if secret_file is not None:
        return Secret(_read(secret_file), f"--secret-file {secret_file}")
    text = os.environ.get(ENVIRONMENT, "")
    return Secret(os.fsencode(text), ENVIRONMENT) if text else None


def _read(path: Path) -> bytes:
    """A file's bytes without the line end that an editor leaves; SecretError where there are none."""
    try:
        secret = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise SecretError(f"the secret file {path} cannot be read: {error.strerror}") from None
    if not secret:
        raise SecretError(f"the secret file {path} is empty: it must hold the secret, any text or bytes")
    return secret


def _random() -> bytes:
    """32 random bytes that do not end like a line, which reading would cut off."""
    secret = b"\n"
    while secret[-1:] in b"\r\n":
        secret = os.urandom(SECRET_BYTES)
    return secret


def _write(path: Path, secret: bytes) -> None:
    """Make a file that its owner alone can read; never replaces one."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(secret)
            file.flush()
            os.fsync(fd)
    except FileExistsError:
        raise SecretError(
            f"another ingest has made the secret {path} in this moment: run the same command again to use it"
        ) from None
    except OSError as error:
        raise SecretError(
            f"no secret is given and none can be written to {path} ({error.strerror}): "
            f"give one by --secret-file or {ENVIRONMENT}"
        ) from None
