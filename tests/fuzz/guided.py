"""One Python target under atheris: ``python guided.py TARGET [libFuzzer arguments]``."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import atheris

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

_OURS = ("pyrad.", "pydicom.", "PIL.")


def main() -> None:
    """Fuzz until an argument, a finding or Ctrl-C ends it."""
    import targets

    target = targets.TARGETS[sys.argv.pop(1)]()
    instrument()
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


def instrument() -> None:
    """Count coverage in what reads bytes.

    atheris.instrument_imports misses modules that an editable install's finder loads, and instrument_all
    takes a minute for NumPy and all else.
    """
    for name, module in list(sys.modules.items()):
        if not name.startswith(_OURS):
            continue
        classes = [it for it in vars(module).values() if isinstance(it, type) and it.__module__ == name]
        for holder in (module, *classes):
            for member in list(vars(holder).values()):
                function = member.__func__ if isinstance(member, staticmethod | classmethod) else member
                if isinstance(function, types.FunctionType) and function.__module__ == name:
                    atheris.instrument_func(function)


if __name__ == "__main__":
    main()
