"""The number of the next part of a store in a bucket -> claimed by one writer. Note [conditional commit]."""

from __future__ import annotations

import hashlib

from pyrad.errors import StoreBusyError
from pyrad.store import layout
from pyrad.store.bucket import Bucket


class Claim:
    """An object beside the store at ``url``, named by a part's number, that names the root that will hold it.

    It keeps other writers from that number. Once a root has the part, the claim keeps nobody from anything,
    so whoever comes across it then may give it up.
    """

    def __init__(self, url: str, part_id: str, root: bytes = b"") -> None:
        self._store = url
        self._bucket = Bucket(f"{url}.partial")
        self._name = f"claim-{part_id}.json"
        self._text = layout.json_bytes({"root": hashlib.sha256(root).hexdigest()})

    def take(self) -> None:
        """Claim the number; again, where a run of the same command had. StoreBusyError where another has."""
        if not self._bucket.create(self._name, self._text) and not self.is_held():
            raise StoreBusyError(
                f"another ingest has claimed the next commit of {self._store}: wait for it to end, or start "
                f"it again where it ran; if it is dead for good, delete its claim "
                f"(aws s3 rm {self._bucket.url}/{self._name}) and run this command again"
            )

    def is_held(self) -> bool:
        """Whether the claim is there and ours."""
        found = self._bucket.read(self._name)
        return found is not None and found[0] == self._text

    def give_up(self) -> None:
        """Delete the claim, whoever's it is."""
        self._bucket.delete(self._name)
