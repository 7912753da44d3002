"""Objects below s3://bucket/prefix -> listed, read, written on a condition; the one place of boto3."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never

from pyrad.errors import MissingDependencyError, PyradError, UsageError

_MULTIPART_FROM_BYTES = 64 << 20
_PIECE_BYTES = 32 << 20
_URL = re.compile(r"s3:/+([^/]+)/?(.*?)/*")
_TAKEN = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_ABSENT = frozenset({"NoSuchKey", "404"})


def url_of(path: str | Path) -> str | None:
    """``s3://bucket/prefix`` where ``path`` is one (a Path has folded the slashes), else None."""
    match = _URL.fullmatch(str(path))
    return f"s3://{match[1]}/{match[2]}" if match else None


def place_of(path: Path) -> str:
    """What names a store or source wherever a command is run: its s3:// URL, else its resolved path."""
    return url_of(path) or str(path.resolve())


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One object below a prefix."""

    path: str  # relative to the prefix
    bytes: int
    etag: str  # changes with the contents


class Bucket:
    """The objects below one prefix of a bucket; pickled by its URL, credentials are each machine's own.

    Endpoint, region and credentials are those of the AWS tools: AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID,
    profiles, roles. PyradError where the storage refuses or cannot be reached.
    """

    def __init__(self, url: str) -> None:
        match = _URL.fullmatch(url)
        if match is None:
            raise UsageError(f"{url} is no s3://bucket/prefix")
        self.url = url
        self._bucket, self._prefix = match[1], f"{match[2]}/" if match[2] else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return Bucket, (self.url,)

    def list(self) -> Iterator[RemoteFile]:
        """Every object below the prefix, by path."""
        with _answers(self.url):
            pages = _client(os.getpid()).get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
                for found in page.get("Contents", ()):
                    path = found["Key"].removeprefix(self._prefix)
                    if path and not path.endswith("/"):
                        yield RemoteFile(path=path, bytes=found["Size"], etag=found["ETag"])

    def read(self, path: str) -> tuple[bytes, str] | None:
        """The contents of an object and its etag; None where there is none."""
        try:
            with _answers(self.url):
                got = _client(os.getpid()).get_object(Bucket=self._bucket, Key=self._prefix + path)
                return got["Body"].read(), got["ETag"]
        except FileNotFoundError:
            return None

    def read_start(self, path: str, count: int) -> tuple[bytes, int] | None:
        """The first ``count`` bytes of an object and how many it has; None where there is none."""
        place = {"Bucket": self._bucket, "Key": self._prefix + path}
        try:
            with _answers(self.url):
                got = _client(os.getpid()).get_object(**place, Range=f"bytes=0-{count - 1}")
                return got["Body"].read(), int(got["ContentRange"].rpartition("/")[2])
        except FileNotFoundError:
            return None

    def download(self, path: str, target: Path) -> None:
        """Copy an object to a file, piece by piece; FileNotFoundError where there is none."""
        with _answers(self.url):
            got = _client(os.getpid()).get_object(Bucket=self._bucket, Key=self._prefix + path)
            with target.open("wb") as file:
                shutil.copyfileobj(got["Body"], file, 4 << 20)

    def create(self, path: str, source: Path | bytes) -> bool:
        """Write an object if there is none of its name (If-None-Match: *); False where there is one."""
        return self._put(path, source, {"IfNoneMatch": "*"})

    def replace(self, path: str, source: Path | bytes) -> None:
        """Write an object over any."""
        self._put(path, source, {})

    def commit(self, path: str, source: bytes, etag: str | None) -> bool:
        """Write an object over that of ``etag`` (If-Match), None: over none; False where that is not so."""
        return self._put(path, source, {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag})

    def delete(self, path: str) -> None:
        """Remove an object, if it is there."""
        with _answers(self.url):
            _client(os.getpid()).delete_object(Bucket=self._bucket, Key=self._prefix + path)

    def _put(self, path: str, source: Path | bytes, condition: dict[str, str]) -> bool:
        place = {"Bucket": self._bucket, "Key": self._prefix + path}
        try:
            with _answers(self.url):
                if isinstance(source, bytes):
                    _client(os.getpid()).put_object(**place, Body=source, **condition)
                elif source.stat().st_size < _MULTIPART_FROM_BYTES:
                    with source.open("rb") as file:
                        _client(os.getpid()).put_object(**place, Body=file, **condition)
                else:
                    _put_in_pieces(place, source, condition)
        except FileExistsError:
            return False
        return True


@functools.lru_cache(maxsize=1)
def _client(process: int) -> Any:  # noqa: ARG001 - a connection does not survive a fork
    boto3, botocore = _packages()
    config = botocore.config.Config(retries={"mode": "standard", "max_attempts": 5})
    return boto3.client("s3", config=config)


def _packages() -> tuple[Any, Any]:
    """The packages boto3 and botocore. MissingDependencyError where they are not installed."""
    try:
        import boto3
        import botocore.config
        import botocore.exceptions
    except ImportError:
        raise MissingDependencyError("s3:// needs the package boto3: pip install 'pyrad[s3]'") from None
    return boto3, botocore


@contextmanager
def _answers(url: str) -> Iterator[None]:
    """Turn what the storage answers into our errors; of a key nothing but the user's own prefix is said."""
    boto = _packages()[1].exceptions
    try:
        yield
    except boto.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _TAKEN:
            raise FileExistsError from None
        if code in _ABSENT:
            raise FileNotFoundError from None
        if code == "NoSuchBucket":
            raise UsageError(
                f"{url}: there is no such bucket; create it, or check its name and AWS_ENDPOINT_URL"
            ) from None
        _fail(url, code)
    except boto.BotoCoreError as error:
        _fail(url, type(error).__name__)


def _fail(url: str, what: str) -> Never:
    raise PyradError(
        f"{url}: the object storage answered {what}; check the bucket, AWS_ENDPOINT_URL and the credentials"
    ) from None


def _put_in_pieces(place: dict[str, str], source: Path, condition: dict[str, str]) -> None:
    """A multipart upload; the condition is part of its completion."""
    client = _client(os.getpid())
    upload = {**place, "UploadId": client.create_multipart_upload(**place)["UploadId"]}
    try:
        pieces = []
        with source.open("rb") as file:
            for number, piece in enumerate(iter(lambda: file.read(_PIECE_BYTES), b""), 1):
                answer = client.upload_part(**upload, PartNumber=number, Body=piece)
                pieces.append({"PartNumber": number, "ETag": answer["ETag"]})
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": pieces}, **condition)
    except BaseException:
        with suppress(Exception):  # the first error is the one that counts
            client.abort_multipart_upload(**upload)
        raise
