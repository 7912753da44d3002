"""The whole state after a step <-> ``checkpoints/step-00000100/``: two files of tensors and one of integers.

    model.safetensors      parameters and batch norm's statistics; its header describes the model
    optimizer.safetensors  the optimiser's moments (``exp_avg/NAME``) and torch's generator (``rng/torch``)
    state.json             step, the loader's position, the last validation, the best so far, and the SHA-256
                           of both files and of itself

No clock, host or path is in them: equal states are equal bytes. Nothing here is a pickle.

# Note [checkpoint]
A checkpoint is written into a hidden folder beside its final place, each file flushed, and renamed when it is
whole: whatever moment a process dies at, a folder under a final name is complete, and the one before is still
there. Only then are older ones removed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from pyrad.errors import IntegrityError, UsageError
from pyrad.models.weights import Tensors, decode_tensors, encode_tensors
from pyrad.store import durable

FORMAT = 1
MODEL_FILE = "model.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
STATE_FILE = "state.json"
KEEP_NEWEST = 2

_NAME = re.compile(r"step-(\d{8,})")
_UNFINISHED = ".new-"  # a checkpoint being written
_REPLACED = ".old-"  # a checkpoint whose successor of the same step is being moved in
_RNG = "rng/torch"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A validation: after which step, and what came of it; ``loss`` is None where it is undefined."""

    step: int
    loss: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class State:
    """What is no tensor: ``step`` counts finished steps, ``loader`` is its ``state_dict()``."""

    step: int
    loader: Mapping[str, Any]
    validation: Result | None = None  # the last one
    best: Result | None = None  # the one with the lowest loss


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint read back whole."""

    state: State
    model: Tensors
    optimizer: Tensors
    rng: torch.Tensor


def name_of(step: int) -> str:
    """Name of a step's folder."""
    return f"step-{step:08d}"


def steps_in(folder: Path) -> list[int]:
    """Steps that have a checkpoint in ``folder``, ascending; none where it does not exist."""
    if not folder.is_dir():
        return []
    found = (_NAME.fullmatch(entry.name) for entry in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def save(
    folder: Path,
    state: State,
    *,
    model: Mapping[str, torch.Tensor],
    optimizer: Mapping[str, torch.Tensor],
    description: Mapping[str, Any],
) -> Path:
    """Write a checkpoint into ``folder``, whole or not at all, with torch's generator as it stands.

    ``description`` goes into the header of the model's file. OSError where the disk refuses; what was there
    before is then as it was.
    """
    contents = {
        MODEL_FILE: encode_tensors(model, {**description, "step": state.step}),
        OPTIMIZER_FILE: encode_tensors({**optimizer, _RNG: torch.get_rng_state()}, {"step": state.step}),
    }
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    contents[STATE_FILE] = _encode_state(state, hashes)

    folder.mkdir(exist_ok=True)
    target = folder / name_of(state.step)
    fresh = durable.temporary(folder, _UNFINISHED + target.name)
    try:
        fresh.mkdir()
        for name, data in contents.items():
            with open(durable.create(fresh / name), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        durable.sync_folder(fresh)
    except OSError:
        durable.remove_tree(fresh)  # on a full disk its bytes are needed
        raise
    replaced = folder / (_REPLACED + target.name)
    if target.exists():
        durable.remove_tree(replaced)
        target.rename(replaced)  # `tidy` undoes this if we die before the next line is done
    fresh.rename(target)
    durable.sync_folder(folder)
    durable.remove_tree(replaced)
    return target


def tidy(folder: Path) -> None:
    """Remove what a killed process left half-written, and restore what it was about to replace."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        target = folder / entry.name.removeprefix(_REPLACED)
        if entry.name.startswith(_UNFINISHED) or (target != entry and target.exists()):
            durable.remove_tree(entry)
        elif target != entry:
            entry.rename(target)


def prune(folder: Path, *, step: int, best: int | None) -> None:
    """Keep the newest two up to ``step`` and the one of step ``best``; remove the others.

    One beyond ``step`` is of a future that did not load and is being lived again.
    """
    steps = steps_in(folder)
    keep = {*[each for each in steps if each <= step][-KEEP_NEWEST:], best}
    for each in steps:
        if each not in keep:
            durable.remove_tree(folder / name_of(each))


def load_newest(folder: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """Read the newest checkpoint that is whole; ``say`` hears of each newer one that is not.

    None where there is no checkpoint at all.

    Raises:
        IntegrityError: there are some, and not one of them is whole.

    """
    steps = steps_in(folder)
    for step in reversed(steps):
        try:
            return load(folder / name_of(step))
        except IntegrityError as error:
            before = [each for each in steps if each < step]
            then = f"falling back to {name_of(before[-1])}" if before else "there is none before it"
            say(f"{error}; {then}")
    if steps:
        raise IntegrityError(
            f"none of the {len(steps)} checkpoints in {folder} is whole; restore one from a copy, or begin "
            "again with another --out"
        )
    return None


def load(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        IntegrityError: a file is missing, short or changed; the message names it.
        UsageError: a newer pyrad wrote it.

    """
    state, hashes = _decode_state(_read(path, STATE_FILE), path)
    tensors = {}
    for name in (MODEL_FILE, OPTIMIZER_FILE):
        data = _read(path, name)
        if hashlib.sha256(data).hexdigest() != hashes.get(name):
            raise _damaged(path, name, f"its {len(data):,} bytes are not those that were written")
        tensors[name], _ = decode_tensors(data, f"{path.name}/{name}")
    rng = tensors[OPTIMIZER_FILE].pop(_RNG, None)
    if rng is None:
        raise _damaged(path, OPTIMIZER_FILE, f"it holds no {_RNG}")
    return Checkpoint(state=state, model=tensors[MODEL_FILE], optimizer=tensors[OPTIMIZER_FILE], rng=rng)


def finite_or_none(value: float) -> float | None:
    """JSON has no nan: an undefined value is null."""
    return value if math.isfinite(value) else None


def _encode_state(state: State, hashes: Mapping[str, str]) -> bytes:
    record = {"format": FORMAT, **asdict(state), "sha256": dict(hashes)}
    record["digest"] = _digest(record)
    return (json.dumps(record, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def _decode_state(data: bytes, path: Path) -> tuple[State, Mapping[str, str]]:
    try:
        record = json.loads(data)
        digest = record.pop("digest")
        if record["format"] != FORMAT and digest == _digest(record):
            raise UsageError(
                f"checkpoint {path.name} has format {record['format']}; this pyrad reads {FORMAT}: update it"
            )
        if digest != _digest(record):
            raise _damaged(path, STATE_FILE, "its digest differs")
        state = State(
            step=record["step"],
            loader=record["loader"],
            validation=record["validation"] and Result(**record["validation"]),
            best=record["best"] and Result(**record["best"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, STATE_FILE, "it is no whole JSON object of a checkpoint") from error
    if name_of(state.step) != path.name:
        raise _damaged(path, STATE_FILE, f"it is of step {state.step}")
    return state, record["sha256"]


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError as error:
        raise _damaged(path, name, error.strerror or "it cannot be read") from error


def _damaged(path: Path, name: str, fault: str) -> IntegrityError:
    return IntegrityError(f"checkpoint {path.name} is damaged: {name}: {fault}")
