"""Files and their first sentences -> the tree in README.md: this script writes it, a test compares.

Files stand in the order in which the package's own docstring names them, others after them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
CSRC = (
    *(
        "common.h",
        "instructions.h",
        "tilepack.h",
        "pack.h",
        "rice.h",
        "segment.h",
        "vectors.h",
        "fields.h",
        "kernels.inc",
        "x86.inc",
        "neon.inc",
        "encode.h",
        "residuals.h",
        "encode.cpp",
        "encode_rice.cpp",
        "decode.h",
        "decode.cpp",
        "crc32c.h",
        "statistics.h",
    ),
    *("statistics.cpp", "window.h", "resize.h", "passes.h", "scratch.h", "preprocess.h", "preprocess.cpp"),
    *("reader.h", "reader.cpp", "device.h", "device.cu", "no_cuda.cpp", "bind.cpp"),
)
PACKAGE = ("cli", "config", "progress", "errors", "records", "ops", "geometry", "metrics")
PACKAGES = ("phantom", "ingest", "store", "loader", "models", "train", "eval")
_WIDTH = 24


def tree() -> str:
    """The tree as README.md shows it."""
    return "\n".join(_lines())


def with_tree(readme: str) -> str:
    """The text of README.md with the tree put in."""
    return re.sub(r"```text\ncsrc/.*?\n```", lambda _: f"```text\n{tree()}\n```", readme, flags=re.DOTALL)


def _lines() -> Iterator[str]:
    yield _line(0, "csrc/", "the compiled core; csrc/README.md draws its flow")
    there = {path.name for path in (ROOT / "csrc").iterdir() if path.suffix in (".h", ".inc", ".cpp", ".cu")}
    for name in [*(name for name in CSRC if name in there), *sorted(there - set(CSRC))]:
        yield _line(1, name, _sentence(ROOT / "csrc" / name))
    yield _line(0, "pyrad/", "the package")
    for name in PACKAGE:
        yield _line(1, f"{name}.py", _sentence(ROOT / "pyrad" / f"{name}.py"))
    for name in PACKAGES:
        yield from _package(ROOT / "pyrad" / name, 1)
    yield _line(0, "pipelines/", "recipes that walk the whole way")
    yield _line(1, "demo.sh", "make demo")
    yield _line(0, "benchmarks/", "rates, ratios and recall, recorded in results/")
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        yield _line(1, path.name, _sentence(path))
    yield _line(0, "tests/", "one file a stage, in the order of the tree; beside them what they share:")
    for path in sorted((ROOT / "tests").glob("*.py")):
        if not path.name.startswith("test_"):
            yield _line(1, path.name, _sentence(path))
    yield _line(1, "native/", "the core's own test for processors on which Python does not run")
    yield _line(1, "fuzz/", "targets, seeds and the kept corpus; run.py fuzzes for as long as you like")
    yield _line(
        1, "faults/", "a library that kills or fails an ingest at its n-th call that changes the disk"
    )
    yield _line(
        0,
        "docs/",
        "format, layouts, reasons, decoders, privacy, clusters, storage, decisions: docs/README.md",
    )


def _package(folder: Path, depth: int) -> Iterator[str]:
    yield _line(depth, f"{folder.name}/", _sentence(folder / "__init__.py"))
    document = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    named = [match[1] for match in re.finditer(r"^(\w+)/?\s{2,}\S", document, re.MULTILINE)]
    files = {path.stem: path for path in folder.glob("*.py") if path.stem != "__init__"}
    folders = {path.name: path for path in folder.iterdir() if (path / "__init__.py").is_file()}
    there = files | folders
    for name in [*(name for name in named if name in there), *sorted(there.keys() - set(named))]:
        if name in folders:
            yield from _package(folders[name], depth + 1)
        else:
            yield _line(depth + 1, f"{name}.py", _sentence(files[name]))


def _line(depth: int, name: str, text: str) -> str:
    return f"{'  ' * depth}{name:<{_WIDTH - 2 * depth - 1}} {text}"


def _sentence(path: Path) -> str:
    """The first line of a module's docstring, or of a C++ file's first comment."""
    text = path.read_text()
    if path.suffix == ".py":
        first = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
    else:
        first = next((line[3:] for line in text.split("\n") if line.startswith("// ")), "")
    return first.replace("`", "").split(". ")[0].rstrip(".")


if __name__ == "__main__":
    README.write_text(with_tree(README.read_text()))
