"""archive -> store -> batch -> model -> evaluation.

The face of the library is five names, each loaded on first use, so that `import pyrad` costs nothing:
`open_store`, `Loader`, `create_model`, `metrics` and `errors`.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Loader", "create_model", "errors", "metrics", "open_store"]

_OWNERS = {
    "open_store": "pyrad.store.reader",
    "Loader": "pyrad.loader.loader",
    "create_model": "pyrad.models",
}
_MODULES = ("errors", "metrics")


def __getattr__(name: str) -> Any:
    if name in _OWNERS:
        return getattr(importlib.import_module(_OWNERS[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"pyrad.{name}")
    raise AttributeError(f"module 'pyrad' has no attribute {name!r}; it offers {', '.join(__all__)}")
