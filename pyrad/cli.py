"""The command line: words -> a stage's options -> the stage -> an exit code.

Exit codes: 0 good; 1 anything else; 2 usage; 3 finished with some inputs quarantined; 4 quarantine budget
exceeded; 5 a store or checkpoint is damaged; 6 refused for safety; 130 and 143 stopped by a signal.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from traceback import walk_tb
from types import FrameType
from typing import Any, Never

from pyrad import __version__
from pyrad.config import Parser, add_flags, resolve
from pyrad.errors import PyradError, UsageError
from pyrad.progress import Mode, Reporter, printable


@dataclass(frozen=True, kw_only=True)
class Command:
    """One verb: where its options and its function live, loaded only when it is called."""

    options: str  # module:class
    run: str  # module:function(options, reporter) -> None or an object that may have .exit_code
    summary: str
    example: str
    resumes: bool = False  # whether a stopped run is taken up by the same command


@dataclass(frozen=True, kw_only=True)
class StoreOptions:
    """The options of the commands that look at one store."""

    store: Path = field(metadata={"help": "the store, a folder NAME.zarr", "positional": True})


# In the order in which the data meets them.
COMMANDS = {
    "phantom": Command(
        options="pyrad.phantom:PhantomOptions",
        run="pyrad.phantom:write",
        summary="write a synthetic DICOM archive to try everything on",
        example="pyrad phantom archive --patients 40 --seed 1",
    ),
    "ingest": Command(
        options="pyrad.ingest.options:IngestOptions",
        run="pyrad.ingest.run:run",
        summary="turn archives of DICOM, PNG, JPEG or NPY into a store",
        example="pyrad ingest /archive/2024 --store chest.zarr",
        resumes=True,
    ),
    "info": Command(
        options="pyrad.cli:StoreOptions",
        run="pyrad.cli:_info",
        summary="say what a store holds",
        example="pyrad info chest.zarr",
    ),
    "verify": Command(
        options="pyrad.ingest.repair:VerifyOptions",
        run="pyrad.ingest.repair:verify_store",
        summary="check every byte of a store, and make again what is damaged",
        example="pyrad verify chest.zarr --rewrite-from /archive/2024",
    ),
    "card": Command(
        options="pyrad.ingest.privacy.card:CardOptions",
        run="pyrad.ingest.privacy.card:card",
        summary="write a store's data card: what it holds and how it was de-identified",
        example="pyrad card chest.zarr --out chest.md",
    ),
    "relink": Command(
        options="pyrad.ingest.privacy.relink:RelinkOptions",
        run="pyrad.ingest.privacy.relink:relink",
        summary="say which files keys of a store, or names of its ledger, stand for",
        example="pyrad relink --private /secure/pyrad 0f3c9a5be1d2478890abcdef12345678",
    ),
    "forget": Command(
        options="pyrad.ingest.privacy.forget:ForgetOptions",
        run="pyrad.ingest.privacy.forget:forget",
        summary="remove patients from a store for good",
        example="pyrad forget chest.zarr --patients withdrawn.txt --runs runs",
    ),
    "audit": Command(
        options="pyrad.ingest.privacy.audit:AuditOptions",
        run="pyrad.ingest.privacy.audit:audit",
        summary="check the log of what was done with your secret's stores",
        example="pyrad audit --private /secure/pyrad",
    ),
    "train": Command(
        options="pyrad.train.options:TrainOptions",
        run="pyrad.train.loop:train",
        summary="train a network on a store",
        example="pyrad train --store chest.zarr --model resnet50 --out runs/first --size 64 --epochs 3",
    ),
    "evaluate": Command(
        options="pyrad.eval.classify:EvaluateOptions",
        run="pyrad.eval.classify:evaluate",
        summary="evaluate a trained run on its store's test split",
        example="pyrad evaluate --run runs/first",
    ),
    "report": Command(
        options="pyrad.eval.report:ReportOptions",
        run="pyrad.eval.report:write_report",
        summary="write a run's report, one self-contained HTML file",
        example="pyrad report runs/first",
    ),
}

_SHARED_FLAGS = ("config", "json")


class _Terminated(BaseException):
    """SIGTERM, as an exception: it unwinds like Ctrl-C, so that children end and files close."""


def main(argv: Sequence[str] | None = None) -> int:  # noqa: PLR0911 - one return for each way to end
    """Run one command; returns the exit code. A user sees one line of error, never a traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words else ""
    try:
        with _sigterm_as_exception():
            return _run(name, words[1:])
    except PyradError as error:
        return _complain(name, str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain(name, _stopped("stopped", name), 130)
    except _Terminated:
        return _complain(name, _stopped("terminated", name), 143)
    except BrokenPipeError:
        # The reader of our output has gone (`pyrad info | head`): nothing is left to say, or to flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno is None:  # a library's, not the system's
            return _bug(name, error)
        # Its path is not told: it may be a source's, with a name in it.
        what = f"the system refused: {error.strerror} (errno {error.errno})"
        return _unforeseen(name, error, what, "PYRAD_TRACEBACK=1 shows which file, in the traceback")
    except Exception as error:  # noqa: BLE001 - a user sees one line
        return _bug(name, error)


def _run(name: str, words: Sequence[str]) -> int:
    if name in ("", "-h", "--help", "help"):
        print(_overview())  # noqa: T201 - help goes to stdout
        return 0 if name else 2
    if name in ("-V", "--version"):
        print(f"pyrad {__version__}")  # noqa: T201 - likewise
        return 0
    if name not in COMMANDS:
        raise UsageError(f"there is no command {name!r}; commands: {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    # OpenMP reads this when torch is imported. Its threads spin while they wait for one another, and take the
    # cores from the loader and from everyone else: steps on two busy cores took 2 to 8 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # the others keep what is freed
    options_class = _load(command.options)
    parser = Parser(
        prog=f"pyrad {name}",
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        epilog=f"example: {command.example}",
    )
    add_flags(parser, options_class)
    parser.add_argument("--config", type=Path, help=f"TOML file whose table [{name}] holds these options")
    parser.add_argument("--json", action="store_true", help="progress and result as JSON lines")
    try:
        flags = vars(parser.parse_args(words))
    except SystemExit as stop:  # --help
        return int(stop.code or 0)
    shared = {key: flags.pop(key) for key in _SHARED_FLAGS}
    options = resolve(options_class, flags, shared["config"], name)
    mode: Mode = "json" if shared["json"] else "terminal" if sys.stderr.isatty() else "log"
    outcome = _load(command.run)(options, Reporter(mode))
    return int(getattr(outcome, "exit_code", 0))


def _info(options: StoreOptions, reporter: Reporter) -> None:
    from pyrad.store.info import info, info_text

    facts = info(options.store)
    reporter.result(facts, info_text(facts))


def _overview() -> str:
    lines = [
        "pyrad: archive -> store -> batch -> model -> evaluation",
        "",
        "usage: pyrad COMMAND [options]; pyrad COMMAND --help explains one",
        "",
        *(f"  {name:<10}{command.summary}" for name, command in COMMANDS.items()),
        "",
        "the whole way:",
        *(f"  {command.example}" for command in COMMANDS.values()),
    ]
    return "\n".join(lines)


def _load(place: str) -> Any:
    module, attribute = place.split(":")
    return getattr(importlib.import_module(module), attribute)


def _complain(name: str, text: str, exit_code: int) -> int:
    print(f"pyrad{' ' + name if name in COMMANDS else ''}: {printable(text)}", file=sys.stderr)  # noqa: T201
    return exit_code


def _stopped(how: str, name: str) -> str:
    command = COMMANDS.get(name)
    return f"{how}; the same command resumes" if command and command.resumes else how


def _bug(name: str, error: Exception) -> int:
    what = f"internal error {type(error).__name__}"
    return _unforeseen(name, error, what, "a bug; PYRAD_TRACEBACK=1 shows the traceback")


def _unforeseen(name: str, error: Exception, what: str, advice: str) -> int:
    """Complain of what nobody caught; its own text may hold what a file said: type and place are safe."""
    if os.environ.get("PYRAD_TRACEBACK"):
        raise error
    return _complain(name, f"{what} at {_place(error)}: {advice}", 1)


def _place(error: Exception) -> str:
    """FILE:LINE of the innermost call of ours, or of the innermost call where only this module is ours."""
    calls = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    here = Path(__file__)
    ours = [(file, line) for file, line in calls if here.parent in file.parents and file != here]
    file, line = (ours or calls)[-1]
    return f"{file.name}:{line}"


class _sigterm_as_exception:  # noqa: N801 - reads as a statement
    """Turn SIGTERM into ``_Terminated`` in the main thread; restore the former handler after."""

    def __enter__(self) -> None:
        def handler(_number: int, _frame: FrameType | None) -> Never:
            raise _Terminated

        self._former = None
        try:
            self._former = signal.signal(signal.SIGTERM, handler)
        except ValueError:  # not the main thread: the host program's business
            return

    def __exit__(self, *_: object) -> None:
        if self._former is not None:
            signal.signal(signal.SIGTERM, self._former)
