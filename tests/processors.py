"""A set of vector instructions -> the core runs the code compiled for it, so that tests can compare them."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyrad import ops

SETS = ops._C.instructions()  # of this processor, first the one in use


@contextmanager
def compiled_for(name: str) -> Iterator[None]:
    """Run the core as compiled for one of SETS, until the end of the block."""
    ops._C.use_instructions(name)
    try:
        yield
    finally:
        ops._C.use_instructions(SETS[0])
