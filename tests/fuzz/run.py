"""Fuzz every target for a while: ``python tests/fuzz/run.py --seconds 600 [--target NAME] [--keep]``.

Guided by coverage: atheris for Python, libFuzzer (clang++) with ASan and UBSan for C++. Seeds are made by
code and taken from pydicom's own test files; the corpus that is kept beside this file joins them. A finding
ends its target, and is left in ``findings/``. ``--keep`` replaces the kept corpus by a minimised one of small
inputs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import native  # noqa: E402 - beside this script
import seeds  # noqa: E402

KEPT = HERE / "corpus"
FINDINGS = HERE / "findings"
PYTHON = ("image_file", "label_table", "outline_file", "store_root", "store_file")
LIMITS = ("-timeout=25", "-rss_limit_mb=4096", "-max_len=60000")
_LARGEST_KEPT_BYTES = 1024
_MOST_KEPT = 200


def main() -> int:
    """Fuzz; returns 1 where there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("--target", choices=(*PYTHON, *native.SOURCES), help="only this one")
    parser.add_argument("--keep", action="store_true", help="minimise the corpus and keep it")
    options = parser.parse_args()
    if not native.has_libfuzzer():
        print("clang++ is not here: the C++ targets need it (apt-get install clang)")  # noqa: T201 - a script
        return 2
    targets = [options.target] if options.target else [*PYTHON, *native.SOURCES]
    findings = 0
    for target in targets:
        with tempfile.TemporaryDirectory() as folder:
            findings += not fuzz(target, options.seconds // len(targets), Path(folder), keep=options.keep)
    return int(findings > 0)


def fuzz(target: str, seconds: int, folder: Path, *, keep: bool) -> bool:
    """Fuzz one target; returns whether it found nothing."""
    (seeds if target in PYTHON else native).write_seeds(target, folder / "seeds")
    grown = folder / "grown"
    grown.mkdir()
    FINDINGS.mkdir(exist_ok=True)
    corpora = [str(grown), str(folder / "seeds"), *([str(KEPT / target)] if (KEPT / target).is_dir() else [])]
    command = _command(target, folder)
    began = time.monotonic()
    ended = subprocess.run(
        [*command, *LIMITS, f"-max_total_time={seconds}", f"-artifact_prefix={FINDINGS}/{target}-", *corpora],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        errors="replace",
        check=False,
    )
    last = [line for line in ended.stderr.splitlines() if "exec/s" in line][-1:]
    print(f"{target}: {time.monotonic() - began:.0f} s, {' '.join(last).strip()}", flush=True)  # noqa: T201 - a script
    if ended.returncode:
        print("\n".join(ended.stderr.splitlines()[-60:]), flush=True)  # noqa: T201
    elif keep:
        _keep(target, command, corpora, folder)
    return not ended.returncode


def _command(target: str, folder: Path) -> list[str]:
    if target in PYTHON:
        return [sys.executable, str(HERE / "guided.py"), target]
    return [str(native.build(target, folder, guided=True))]


def _keep(target: str, command: list[str], corpora: list[str], folder: Path) -> None:
    """Minimise the corpus (libFuzzer's merge) and keep its small inputs, fewest bytes first."""
    merged = folder / "merged"
    merged.mkdir()
    subprocess.run(
        [*command, *LIMITS, "-merge=1", str(merged), *corpora],
        check=True,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    small = [path for path in merged.iterdir() if path.stat().st_size <= _LARGEST_KEPT_BYTES]
    kept = KEPT / target
    kept.mkdir(parents=True, exist_ok=True)
    for old in kept.iterdir():
        old.unlink()
    for path in sorted(small, key=lambda each: (each.stat().st_size, each.name))[:_MOST_KEPT]:
        (kept / path.name[:16]).write_bytes(path.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
