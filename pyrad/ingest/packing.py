"""Sources -> bytes, in the worker that scanned them; and back, where a query does not tell enough.

Between the two nobody looks inside: the process that keeps the book passes on what it was given.
"""

from __future__ import annotations

import pickle
from io import BytesIO
from operator import attrgetter
from typing import Any

from pyrad.records import PixelElement, PixelFormat, Source, Window

_of_window = attrgetter("center", "width", "function")

# Nearly every image has these: as bare values they take a third of the time.
_WINDOWS, _FORM = Source._fields.index("windows"), Source._fields.index("form")


def pack_source(source: Source) -> bytes:
    """One frame as the book keeps it: equal bytes for equal frames."""
    values: list[Any] = [*source]
    values[_WINDOWS] = [*map(_of_window, source.windows)]
    values[_FORM] = source.form and (*source.form[:-1], tuple(source.form.element))
    buffer = BytesIO()
    pickler = pickle.Pickler(buffer, protocol=5)
    pickler.fast = True  # whether two equal texts are one object must not show
    pickler.dump(values)
    return buffer.getvalue()


def unpack_source(packed: bytes) -> Source:
    """The inverse of `pack_source`."""
    values = pickle.loads(packed)  # noqa: S301 - a worker of this ingest, or this process, made it
    values[_WINDOWS] = tuple(
        Window(center=center, width=width, function=function) for center, width, function in values[_WINDOWS]
    )
    if values[_FORM] is not None:
        *form, element = values[_FORM]
        values[_FORM] = PixelFormat._make([*form, PixelElement(*element)])
    return Source._make(values)
