"""The objects below s3://bucket/prefix -> an archive, like a folder."""

from __future__ import annotations

from pyrad.errors import PyradError
from pyrad.ingest.archive import Member, path_bytes
from pyrad.ingest.policy import MAX_FILE_BYTES
from pyrad.ingest.reasons import Rejected
from pyrad.store.bucket import Bucket


class BucketArchive:
    """Objects as files, read on any machine that has credentials of its own."""

    def __init__(self, url: str) -> None:
        self._bucket = Bucket(url)

    def members(self) -> list[Member]:
        """Every object, sorted by the bytes of its path."""
        found = sorted(self._bucket.list(), key=lambda file: path_bytes(file.path))
        return [Member(path=file.path, size=file.bytes) for file in found]

    def read(self, path: str, limit: int = MAX_FILE_BYTES) -> bytes:
        """The bytes of an object; Rejected where it is larger than ``limit`` or cannot be read."""
        try:
            got = self._bucket.read(path, first=limit + 1)
        except PyradError:
            raise Rejected("unreadable-file") from None
        if got is None:
            raise Rejected("unreadable-file")
        if len(got[0]) > limit:
            raise Rejected("file-too-large", detail=f"more than {limit} bytes")
        return got[0]
