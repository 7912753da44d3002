"""Every peer's loader from the same images to the same batches: images/s, processor time, disk, memory.

Each run is a process of its own with as many cores as are named, and no more, whatever threads it starts;
peers take turns, so that a machine that slows down slows them all. Cold: what a peer reads is dropped from
the page cache before it starts (posix_fadvise; what the disk itself caches stays); what it prefetched before
the clock started came from the disk before that, so that the share read meanwhile is told. Hot: all is read
once before. Data sets and environments are made once and kept in the scratch folder. A peer that cannot be
installed, fails, or delivers other than what was asked for is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import environments
import forms
import plot
import timing
from corpus import Corpus, make_corpus, open_corpus
from peers import BY_NAME, PEERS, Peer

HERE = Path(__file__).parent
CORES = (1, 2)
LIMIT_S = 900  # of one run or one data set
BATCH, SIDE_PX = 256, 224
Run = dict[str, Any]


class PeerError(Exception):
    """A peer failed; the message is its last word."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A peer under one condition."""

    peer: Peer
    cache: str
    cores: int


def main() -> None:
    """Prepare, measure in turns, print the table, save it and draw it."""
    options = _options()
    with tempfile.TemporaryDirectory() as throwaway:
        scratch = Path(throwaway if options.smoke else options.scratch)
        chosen = [BY_NAME[name] for name in options.peers]
        corpus = _corpus(scratch, options)
        pythons, failed = _prepared(chosen, corpus, scratch, options)
        cases = [
            Case(peer=peer, cache=cache, cores=cores)
            for cache, cores in options.conditions
            for peer in chosen
            if cache in peer.caches
        ]
        runs = _taken_in_turns(cases, pythons, corpus, scratch, options, failed)
        sizes = {peer.name: _bytes(scratch / peer.form) for peer in chosen if peer.name in pythons}
    rows = [_row(case, runs[case], corpus, sizes) for case in cases if case.peer.name not in failed]
    print(timing.table(rows))
    for name, reason in failed.items():
        print(f"{name} ({BY_NAME[name].about}) is not in the table: {reason}")
    _save(rows, runs, failed, corpus, options)


def _options() -> argparse.Namespace:
    names = [peer.name for peer in PEERS]
    parser = timing.arguments(__doc__.splitlines()[0], repetitions=5)
    parser.add_argument("--rounds", dest="repetitions", type=int, help="the same as --repetitions")
    parser.add_argument("--peers", type=lambda text: text.split(","), default=names, help=",".join(names))
    parser.add_argument("--caches", type=lambda text: text.split(","), default=["hot", "cold"])
    parser.add_argument("--images", type=int, default=4096, help="of an epoch (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of a hot run, at least (whole epochs)")
    parser.add_argument("--scratch", default=str(Path(tempfile.gettempdir()) / "pyrad-peers"))
    parser.add_argument("--environments", default="", help="where to keep them (default: in the scratch)")
    options = parser.parse_args()
    unknown = sorted(set(options.peers) - set(names))
    if unknown:
        parser.error(f"no such peers: {', '.join(unknown)}; there are {', '.join(names)}")
    options.batch, options.side = (8, 32) if options.smoke else (BATCH, SIDE_PX)
    options.conditions = [("hot", 1)] if options.smoke else [(c, n) for c in options.caches for n in CORES]
    if options.smoke:
        options.images, options.seconds, options.repetitions = 16, 0.0, 1
    return options


def _corpus(scratch: Path, options: argparse.Namespace) -> Corpus:
    folder = scratch / "images"
    wanted = (options.images - options.images % options.batch, options.batch, options.side)
    if (folder / "corpus.json").is_file():
        corpus = open_corpus(folder)
        if (corpus.count, corpus.batch, corpus.side) == wanted:
            return corpus
        raise SystemExit(f"{scratch} holds {corpus.count} images: give another --scratch, or remove it")
    return make_corpus(folder, count=wanted[0], batch=wanted[1], side=wanted[2], smoke=options.smoke)


def _prepared(
    chosen: Sequence[Peer], corpus: Corpus, scratch: Path, options: argparse.Namespace
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the interpreter of every peer that could be prepared, and why the others could not."""
    pythons: dict[str, str] = {}
    failed: dict[str, str] = {}
    home = Path(options.environments or scratch / "environments")
    for peer in chosen:
        try:
            # A smoke test installs nothing: what this environment has must do.
            python = sys.executable if options.smoke else environments.python_of(peer.requirements, home)
            _write(peer, python, corpus, scratch)
        except (PeerError, environments.InstallError) as error:
            failed[peer.name] = str(error)
        else:
            pythons[peer.name] = python
    return pythons, failed


def _write(peer: Peer, python: str, corpus: Corpus, scratch: Path) -> None:
    """Write a peer's data set, unless one of its form is there; it appears when it is whole."""
    folder = scratch / peer.form
    if folder.is_dir():
        return
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    if peer.form in forms.WRITERS:
        forms.WRITERS[peer.form](corpus, partial)
    else:
        _child(python, ["write", peer.module, "--corpus", str(corpus.folder), "--data", str(partial)])
    partial.rename(folder)
    os.sync()  # a page that still has to be written cannot be dropped from the cache


def _taken_in_turns(
    cases: Sequence[Case],
    pythons: dict[str, str],
    corpus: Corpus,
    scratch: Path,
    options: argparse.Namespace,
    failed: dict[str, str],
) -> dict[Case, list[Run]]:
    """Run every case once a round, each round beginning with another; who fails is noted in ``failed``."""
    runs: dict[Case, list[Run]] = defaultdict(list)
    for number in range(options.repetitions):
        start = number * len(cases) // options.repetitions
        for case in [*cases[start:], *cases[:start]]:
            if case.peer.name in failed:
                continue
            folder = scratch / case.peer.form
            _visit(folder, drop=case.cache == "cold")
            words = ["--corpus", str(corpus.folder), "--data", str(folder), "--cores", str(case.cores)]
            words += ["--seconds", str(options.seconds if case.cache == "hot" else 0)]
            words += ["--requirements", str(case.peer.requirements)]
            try:
                line = _child(pythons[case.peer.name], ["read", case.peer.module, *words])
                runs[case].append(json.loads(line))
            except PeerError as error:
                failed[case.peer.name] = f"{case.cache}, {case.cores} cores: {error}"
    return runs


def _child(python: str, words: Sequence[str]) -> str:
    """Run child.py; return the last line it printed. PeerError with the last line of its complaint."""
    command = [python, str(HERE / "child.py"), *words]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": ""}
    try:
        run = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, timeout=LIMIT_S, env=environment
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"took more than {LIMIT_S} s") from None
    if run.returncode:
        raise PeerError((run.stderr.strip().splitlines() or [f"exit code {run.returncode}"])[-1])
    return (run.stdout.strip().splitlines() or [""])[-1]


def _visit(folder: Path, *, drop: bool) -> None:
    """Read every file of a data set, or drop it from the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                if drop:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                while not drop and file.read(1 << 22):
                    pass


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _row(case: Case, runs: Sequence[Run], corpus: Corpus, sizes: dict[str, int]) -> dict[str, Any]:
    """Sum up one case; the times are those of an epoch."""
    epoch_s = [run["seconds"] * corpus.count / run["images"] for run in runs]
    read = [run["bytes_read"] * corpus.count / run["images"] for run in runs]
    cpu_s = [1000 * run["cpu_seconds"] / run["images"] for run in runs]
    return {
        "peer": case.peer.name,
        "starts from": case.peer.starts_from,
        "cache": case.cache,
        "cores": case.cores,
        "images/s": timing.rate(epoch_s, work=corpus.count, unit="images"),
        "CPU s/1000 images": f"{statistics.median(cpu_s):.2f} ({min(cpu_s):.2f}-{max(cpu_s):.2f})",
        "% read": round(100 * statistics.median(read) / sizes[case.peer.name]),
        "MB on disk": round(sizes[case.peer.name] / 1e6),
        "peak MB": round(max(run["memory_bytes"] for run in runs) / 1e6),
        "greatest error": float(f"{max(run['error'] for run in runs):.1g}"),
    }


def _save(
    rows: Sequence[Run],
    runs: dict[Case, list[Run]],
    failed: dict[str, str],
    corpus: Corpus,
    options: argparse.Namespace,
) -> None:
    """Save all runs, and draw the medians beside them; a smoke test does neither."""
    facts = {"name": corpus.name, "fingerprint": corpus.fingerprint, "unique images": corpus.unique}
    every = [
        {"peer": case.peer.name, "cache": case.cache, "cores": case.cores, **run}
        for case, taken in runs.items()
        for run in taken
    ]
    del options.scratch, options.environments  # folders of this machine
    path = timing.save("peers", rows, options, corpus=facts, failed=failed, runs=every)
    if path:
        plot.draw(rows, path.with_suffix(".png"), f"{corpus.count} x 512x512, 16 bits, to 224x224 float32")
        print(f"saved {path.name} and its picture")


if __name__ == "__main__":
    main()
