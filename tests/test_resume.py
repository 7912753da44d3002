"""A run that was killed, stopped or damaged goes on bit for bit, or says why it cannot."""

import json
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import toy_training
from toy_training import STEPS_AN_EPOCH, Toy, lines

from pyrad.errors import IntegrityError, StoppedError, UsageError
from pyrad.models import MODELS
from pyrad.models.resnet50 import ResNet50
from pyrad.models.weights import read_weights
from pyrad.progress import Reporter
from pyrad.train import checkpoint
from pyrad.train.loop import train
from pyrad.train.run import RunFolder


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    monkeypatch.setitem(MODELS, "toy", Toy)
    toy_training.reset()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_training.build_store(tmp_path_factory.mktemp("toy") / "toy.zarr")


@pytest.fixture
def options(store, tmp_path):
    return lambda **changes: toy_training.options(**{"store": store, "out": tmp_path / "run", **changes})


@pytest.fixture(scope="module")
def uninterrupted(store, tmp_path_factory):
    """The run that every interrupted one must equal."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "toy", Toy)
        toy_training.reset()
        train(toy_training.options(store=store, out=out))
    return out


def as_bytes(run):
    """Every file of a run but run.json, whose ``out`` differs."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def in_another_process(fail, options):
    arguments = ["train"]
    for name, value in options.record().items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            arguments += [flag] if value else []
        elif value is not None:
            arguments += [flag, str(value)]
    script = Path(__file__).parent / "toy_training.py"
    return subprocess.run(
        [sys.executable, str(script), fail, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_two_kills_in_one_epoch_and_a_resumption_equal_an_uninterrupted_run(options, uninterrupted):
    # The first dies in step 7, after the checkpoint of step 5 (the best so far); the second in step 9.
    for fail in ("step-7:KILL", "step-4:KILL"):
        died = in_another_process(fail, options(resume=True))
        assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (options().out / "model.safetensors").exists()
    assert lines(options().out)[-1]["step"] == 8
    resumed = in_another_process("", options(resume=True))
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after step 8 of 15" in resumed.stderr
    assert as_bytes(options().out) == as_bytes(uninterrupted)


@pytest.mark.parametrize("fail", ["step-1:TERM", "step-5:TERM", "step-8:INT", "val-2:TERM", "step-15:TERM"])
def test_a_signal_ends_the_step_and_saves_it(options, uninterrupted, fail):
    toy_training.reset(fail)
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(StoppedError, match="--resume goes on") as stopped:
        train(options())
    assert stopped.value.exit_code == (130 if fail.endswith("INT") else 143)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    steps = {"val-2:TERM": 5}.get(fail) or int(fail.partition(":")[0].removeprefix("step-"))
    assert checkpoint.load_newest(options().out / "checkpoints", pytest.fail).state.step == steps
    toy_training.reset()
    train(options(resume=True))
    assert lines(options().out) == lines(uninterrupted)
    assert (options().out / "model.safetensors").read_bytes() == (
        uninterrupted / "model.safetensors"
    ).read_bytes()


def test_a_signal_before_the_first_step_saves_the_beginning(options, uninterrupted, monkeypatch):
    write = RunFolder.write

    def write_and_stop(folder, record):
        write(folder, record)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write", write_and_stop)
        with pytest.raises(StoppedError, match="after step 0 of 15"):
            train(options())
    assert checkpoint.steps_in(options().out / "checkpoints") == [0]
    train(options(resume=True))
    assert as_bytes(options().out) == as_bytes(uninterrupted)


def test_a_signal_reaches_the_shell_as_143(options):
    stopped = in_another_process("step-3:TERM", options())
    assert stopped.returncode == 143, stopped.stderr
    assert "stopped by SIGTERM after step 3 of 15" in stopped.stderr
    assert checkpoint.steps_in(options().out / "checkpoints") == [3]


def test_resnet50_resumes_bit_for_bit(options, tmp_path, monkeypatch):
    """The only run of the real network here: its files are large, so two steps, cut after the first."""
    table = [fact for fact in toy_training.facts() if fact["split"] == "train"][:8]
    changes = {
        "store": toy_training.build_store(tmp_path / "eight.zarr", table),
        "model": "resnet50",
        "size": 32,
        "epochs": 1,
        "flip": 0.5,
    }
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(options(**changes, out=whole))
    forward = ResNet50.forward

    def forward_and_stop(model, images):
        os.kill(os.getpid(), signal.SIGTERM)
        return forward(model, images)

    with monkeypatch.context() as patch:
        patch.setattr(ResNet50, "forward", forward_and_stop)
        with pytest.raises(StoppedError, match="after step 1 of 2"):
            train(options(**changes, out=cut))
    train(options(**changes, out=cut, resume=True))
    assert lines(cut) == lines(whole)
    last = f"checkpoints/{checkpoint.name_of(2)}"
    for name in (f"{last}/state.json", f"{last}/optimizer.safetensors", "model.safetensors"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_damaged_newest_checkpoint_falls_back_and_says_so(options, uninterrupted):
    toy_training.reset("step-13:TERM")
    with pytest.raises(StoppedError):
        train(options())
    folder = options().out / "checkpoints"
    assert checkpoint.steps_in(folder)[-1] == 13
    path = folder / checkpoint.name_of(13) / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    toy_training.reset()
    said = StringIO()
    train(options(resume=True), Reporter("log", err=said, out=StringIO()))
    assert "checkpoint step-00000013 is damaged: optimizer.safetensors" in said.getvalue()
    assert "falling back to step-00000012" in said.getvalue()
    assert "resuming after step 12 of 15" in said.getvalue()
    assert as_bytes(options().out) == as_bytes(uninterrupted)


def test_no_whole_checkpoint_is_an_integrity_error(options):
    toy_training.reset("step-6:TERM")
    with pytest.raises(StoppedError):
        train(options())
    for path in (options().out / "checkpoints").rglob("state.json"):
        path.write_text("{")
    before = as_bytes(options().out)
    with pytest.raises(IntegrityError, match="none of the 2 checkpoints") as refused:
        train(options(resume=True))
    assert refused.value.exit_code == 5
    assert as_bytes(options().out) == before


def test_resuming_with_other_settings_is_refused_by_name_and_value(options, tmp_path):
    train(options(epochs=2))
    with pytest.raises(UsageError, match=r"--lr is 0\.01, and the run .* was begun with 0\.02"):
        train(options(epochs=2, resume=True, lr=0.01))
    with pytest.raises(UsageError, match=r"--epochs 1 is 5 steps, and the run has made 10: give at least 2"):
        train(options(epochs=1, resume=True))
    other = toy_training.build_store(tmp_path / "other.zarr", toy_training.facts(several_labels=True))
    with pytest.raises(UsageError, match=r"the store .* is not as it was"):
        train(options(epochs=2, resume=True, store=other))
    assert (options().out / "model.safetensors").exists()


def test_a_finished_run_says_so_and_a_longer_one_goes_on(options):
    first = train(options(epochs=1))
    said = StringIO()
    again = train(options(epochs=1, resume=True), Reporter("log", err=said, out=StringIO()))
    assert "is finished; nothing is left to do" in said.getvalue()
    assert again.exit_code == 0
    assert again.images_per_s is None
    assert (again.steps, again.best, again.validation) == (first.steps, first.best, first.validation)
    longer = train(options(epochs=2, resume=True, checkpoint_every=100, threads=1))
    assert longer.steps == 2 * STEPS_AN_EPOCH
    record = json.loads((options().out / "run.json").read_text())
    assert record["options"]["epochs"] == 2
    assert read_weights(options().out / "model.safetensors")[1]["step"] == 2 * STEPS_AN_EPOCH
    # A longer run that is stopped leaves no final weights of the shorter one.
    toy_training.reset("step-1:TERM")
    with pytest.raises(StoppedError):
        train(options(epochs=3, resume=True))
    assert not (options().out / "model.safetensors").exists()
    assert "result" not in json.loads((options().out / "run.json").read_text())
