"""Sources -> what a book says of them once they are planned: what the tests of planning share."""

from pathlib import Path

from pyrad.ingest.archive import Member
from pyrad.ingest.book import Book
from pyrad.ingest.duplicates import File
from pyrad.ingest.grouping import assign, check_groups, recorded_split
from pyrad.ingest.layouts import Listing, Selection
from pyrad.ingest.layouts.arrange import Census
from pyrad.ingest.options import IngestOptions
from pyrad.ingest.packing import unpack_source
from pyrad.ingest.plan import make_plan, planned
from pyrad.ingest.prepare import enter_scans, label_files
from pyrad.ingest.privacy.names import Names
from pyrad.ingest.privacy.secret import Secret
from pyrad.ingest.scan import Listed, scanned
from pyrad.ingest.settle import settle_files
from pyrad.progress import Reporter
from pyrad.records import Source

SECRET = Secret(b"a secret", "the test")


def told(**changes):
    return IngestOptions(src=(Path(),), store=Path("s.zarr"), **changes)


def names(group_by="patient"):
    return Names(SECRET, group_by)


def source(number, **facts):
    uid = facts.get("uid", f"1.2.{number}")
    defaults = {
        "rows": 16,
        "columns": 16,
        "dtype": "int16",
        "kind": "dicom",
        "uid": uid,
        "patient": f"p{number}",
    }
    return Source(archive=0, path=f"{number:03d}.dcm", **{**defaults, **facts})


def file(*sources, digest=None):
    digest = digest or f"bytes of {sources[0].path}"
    return File(digest=digest, sources=sources, keys=tuple(names().key(s) for s in sources))


class NoWorkers:
    """A pool that nothing must be asked of."""

    def run(self, _function, tasks, _stage):
        assert not list(tasks)
        return iter(())


class Made:
    """What a book says of files after all that comes between scan and shards, and after them."""

    def __init__(self, files, options=None, groups=None, workers=None):
        options = options or told()
        label = names(options.group_by)
        numbered = [
            (
                Listed(number, f.sources[0].archive, Member(path=f.sources[0].path, size=1)),
                scanned(f.sources, f.digest),
            )
            for number, f in enumerate(files)
        ]
        found = [Census()]
        selection = Selection(
            layouts=("dicom",), rows={}, joins={}, masks=frozenset(), maskless=frozenset(), notes=()
        )
        listing = Listing(path=Path("x"), paths=(), read=lambda _: b"")
        with Book() as book:
            enter_scans(book, numbered, label, found)
            label_files(book, found, [listing], selection, options, label)
            book.many("INSERT INTO committed_group VALUES (?, ?)", (groups or {}).items())
            settle_files(book, None, label, workers or NoWorkers(), Reporter())
            plan = make_plan(book, options=options, digest_key=b"key", base="")
            self.digest = plan.digest
            self.notes = check_groups(book, options)
            self.buckets = {
                b.geometry: [unpack_source(slot.packed) for slot in planned(book, b, 0, b.count)]
                for b in plan.buckets
            }
            self.notes += assign(book, options, label)
            self.recorded = recorded_split(book, options)
            self.splits = dict(
                book.each("SELECT key, group_split.split FROM frame JOIN group_split USING (grp)")
            )
            self.groups = dict(book.each("SELECT key, grp FROM frame"))
            self.ranks = dict(book.each("SELECT key, slice FROM frame JOIN rank ON frame.id = rank.frame"))
            self.reasons = [reason for (reason,) in book.each("SELECT reason FROM frame")]
