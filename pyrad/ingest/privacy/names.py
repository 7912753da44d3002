"""Identifiers of an archive -> what a store calls them: keyed hashes, each kind under a prefix of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from pyrad.ingest.privacy.secret import Secret
from pyrad.records import Source

# What groups images that must not be divided, the first that is known; the file itself is always known.
_GROUP_CHAIN = {
    "patient": ("patient", "study", "series"),
    "study": ("study", "patient", "series"),
    "series": ("series", "study", "patient"),
}
_REMEMBERED = 1 << 12  # names that the files of one folder share; more do not fit a processor's cache
GROUP_KINDS = ("patient", "study", "series")


def group_name(secret: Secret, kind: str, value: str) -> str:
    """The group of a patient (PatientID, or PatientID NUL Issuer), a study or a series."""
    return secret.name(f"group\0{kind}", value.rstrip("\0"))


def mark(secret: Secret, name: str) -> str:
    """What a store keeps of a group or key that it has forgotten: without the secret it leads nowhere."""
    return secret.name("forgotten", name)


class Grouped(NamedTuple):
    """What an image belongs to, as a store calls it; "" where it is unknown."""

    group: str  # stays in one split; always known
    study: str
    series: str
    alone: bool  # whether nothing is known that groups the file with others


class Names:
    """Makes a store's names; an identifier that comes again soon is hashed once."""

    def __init__(self, secret: Secret, group_by: str, forgotten: Collection[str] = ()) -> None:
        self._secret = secret
        self._forgotten = frozenset(forgotten)  # marks of groups and keys
        self._chain = _GROUP_CHAIN[group_by]
        self._identity_key = secret.subkey("identities")
        self._name = lru_cache(_REMEMBERED)(secret.name)
        self._grouped = lru_cache(_REMEMBERED)(self._known)

    def key(self, source: Source) -> str:
        """The key of one frame: of its SOP Instance UID, else of its file's bytes.

        A file that is moved or renamed keeps its key, and the same bytes never enter a store twice.
        """
        return self._secret.name("key", source.uid or source.digest, str(source.frame))

    def grouped(self, source: Source) -> Grouped:
        """What an image belongs to."""
        known = self._grouped(source.patient, source.study, source.series)
        return known._replace(group=self._file_group(source)) if known.alone else known

    def is_forgotten(self, source: Source) -> bool:
        """Whether the store has forgotten the source's patient, study or series, or the image itself."""
        if not self._forgotten:
            return False
        values = ((kind, getattr(source, kind)) for kind in GROUP_KINDS)
        names = [self._name(f"group\0{kind}", value.rstrip("\0")) for kind, value in values if value]
        names += [self.grouped(source).group, self.key(source)]
        return any(mark(self._secret, name) in self._forgotten for name in names)

    def identity(self, uid: str, digest: str) -> bytes:
        """16 bytes, equal for files that claim to be one image: of the UID, else of the file's bytes."""
        what = (uid or digest).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(what, key=self._identity_key, digest_size=16).digest()

    def source(self, path: str, apart: bytes = b"") -> str:
        """What ledger and messages call a file; ``apart`` tells files of one path in several archives."""
        parts = [path, apart.decode("utf-8", "surrogateescape")] if apart else [path]
        return self._secret.name("source", *parts)

    def rank(self, group: str) -> bytes:
        """The order of groups within a stratum."""
        return self._secret.mac("split", group.encode())

    def _known(self, patient: str, study: str, series: str) -> Grouped:
        values = {"patient": patient, "study": study, "series": series}
        kind = next((kind for kind in self._chain if values[kind]), None)
        return Grouped(
            # PatientID NUL Issuer; without an issuer it is what a label table calls the patient.
            group=self._name(f"group\0{kind}", values[kind].rstrip("\0")) if kind else "",  # as `group_name`
            study=self._name("study", study) if study else "",
            series=self._secret.name("series", series) if series else "",
            alone=kind is None,
        )

    def _file_group(self, source: Source) -> str:
        return self._secret.name("group\0file", source.uid or source.digest)
