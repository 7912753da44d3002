"""Training learns, stops, resumes bit for bit, and says clearly when it cannot."""

import errno
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
from io import StringIO
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import toy_training
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_training import STEPS_AN_EPOCH, TRAIN, VAL, Toy

from pyrad.errors import IntegrityError, PyradError, StoppedError, UsageError
from pyrad.models import MODELS, create_model
from pyrad.models.resnet50 import ResNet50
from pyrad.models.weights import read_weights
from pyrad.progress import Reporter
from pyrad.store import durable
from pyrad.train import checkpoint
from pyrad.train.loop import train
from pyrad.train.optim import learning_rate, make_adamw, optimizer_tensors, restore_optimizer
from pyrad.train.options import TrainOptions
from pyrad.train.run import RunFolder
from pyrad.train.validate import class_loss

EPOCHS = 3
TOTAL = EPOCHS * STEPS_AN_EPOCH


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    monkeypatch.setitem(MODELS, "toy", Toy)
    toy_training.reset()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_training.build_store(tmp_path_factory.mktemp("toy") / "toy.zarr")


@pytest.fixture
def options(store, tmp_path):
    def make(**changes):
        given = {
            "store": store,
            "model": "toy",
            "out": tmp_path / "run",
            "size": toy_training.SIZE,
            "batch_size": 4,
            "epochs": EPOCHS,
            "lr": 0.02,
            "checkpoint_every": 4,
            "deterministic": True,
            "flip": 0.0,
        }
        return TrainOptions(**{**given, **changes})

    return make


@pytest.fixture(scope="module")
def uninterrupted(store, tmp_path_factory):
    """The run that every interrupted one must equal."""
    MODELS["toy"] = Toy
    toy_training.reset()
    out = tmp_path_factory.mktemp("whole") / "run"
    train(
        TrainOptions(
            store=store,
            model="toy",
            out=out,
            size=toy_training.SIZE,
            batch_size=4,
            epochs=EPOCHS,
            lr=0.02,
            checkpoint_every=4,
            deterministic=True,
        )
    )
    del MODELS["toy"]
    return out


def as_bytes(run):
    """Every file of a run but run.json, whose ``out`` differs."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


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


def test_a_run_learns_and_leaves_a_model_that_says_what_it_is(uninterrupted, store):
    log = lines(uninterrupted)
    steps = [line for line in log if line["kind"] == "train"]
    assert [line["step"] for line in steps] == list(range(1, TOTAL + 1))
    assert [line["epoch"] for line in steps] == [1 + step // STEPS_AN_EPOCH for step in range(TOTAL)]
    assert sum(line["loss"] for line in steps[-5:]) < 0.5 * sum(line["loss"] for line in steps[:5])
    validations = [line for line in log if line["kind"] == "val"]
    assert [line["step"] for line in validations] == [5, 10, 15]
    assert validations[-1]["accuracy"] == 1.0
    assert validations[-1]["samples"] == VAL

    record = json.loads((uninterrupted / "run.json").read_text())
    assert record["classes"] == ["left", "right"]
    assert record["multi_label"] is False
    assert record["options"]["store"] == str(store)
    assert record["options"]["lr"] == 0.02
    assert sum(record["class_counts"]) == TRAIN
    assert record["result"]["step"] == TOTAL
    best = min(validations, key=lambda line: line["loss"])
    assert record["result"]["best"] == {name: best[name] for name in ("step", "loss", "accuracy")}

    _, description = read_weights(uninterrupted / "model.safetensors")
    assert description["model"] == "toy"
    assert description["classes"] == ["left", "right"]
    assert description["step"] == TOTAL
    assert description["preprocessing"] == record["preprocessing"]
    assert description["preprocessing"] == {
        "size": 16,
        "window": "auto",
        "fit": "stretch",
        "mean": [0.5],
        "std": [0.5],
        "channels": 1,
    }
    model = create_model("toy", num_classes=2, weights=uninterrupted / "model.safetensors")
    last = checkpoint.load_newest(uninterrupted / "checkpoints", pytest.fail)
    assert last.state.step == TOTAL
    assert all(torch.equal(value, last.model[name]) for name, value in model.state_dict().items())


def test_the_newest_two_checkpoints_and_the_best_are_kept(options):
    kept_best = False
    for number, lr in enumerate((0.02, 2.0)):  # the second one soon gets worse
        out = train(options(out=options().out / str(number), lr=lr, epochs=5)).model_path.parent
        best = json.loads((out / "run.json").read_text())["result"]["best"]["step"]
        assert checkpoint.steps_in(out / "checkpoints") == sorted({best, 24, 25})
        kept_best |= best not in (24, 25)
    assert kept_best


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


def test_training_images_without_a_label_are_left_out_and_counted(options, tmp_path):
    table = toy_training.facts()
    for fact in table[:3]:
        fact["labels"] = ()
    said = StringIO()
    train(
        options(store=toy_training.build_store(tmp_path / "gaps.zarr", table), epochs=1),
        Reporter("log", err=said, out=StringIO()),
    )
    assert "3 training images have no label and are left out" in said.getvalue()
    assert all(line["loss"] is not None for line in lines(options().out))


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


@pytest.mark.parametrize("what", ["nan", "inf-gradient"])
def test_a_loss_that_is_not_finite_names_step_and_samples_and_changes_nothing_saved(options, what):
    toy_training.reset(f"step-9:{what}")
    number = "the loss of step 9 is nan" if what == "nan" else "the gradient of step 9 is (nan|inf)"
    with pytest.raises(PyradError, match=rf"{number}; its 4 samples are [0-9a-f]{{32}}, .*step-00000008"):
        train(options())
    newest = checkpoint.load_newest(options().out / "checkpoints", pytest.fail)
    assert newest.state.step == 8
    assert newest.state.best.step == 5
    assert all(torch.isfinite(value).all() for value in newest.model.values())
    assert not (options().out / "model.safetensors").exists()


def test_a_full_disk_is_one_clear_error_and_the_checkpoint_before_stays(options, monkeypatch):
    real = durable.create

    def create(path):
        if "step-00000012" in str(path) and path.name == "optimizer.safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path)

    monkeypatch.setattr(durable, "create", create)
    with pytest.raises(PyradError, match="No space left on device; the last whole checkpoint stays") as full:
        train(options())
    assert full.value.exit_code == 1
    folder = options().out / "checkpoints"
    assert checkpoint.load_newest(folder, pytest.fail).state.step == 10
    assert [entry.name for entry in folder.iterdir() if entry.name.startswith(".")] == []


def test_a_folder_in_use_is_refused_unless_it_is_resumed(options):
    out = options().out
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(
            UsageError, match=r"holds no run, but 'notes\.txt'; give an empty or absent folder"
        ):
            train(options(resume=resume))
    (out / "notes.txt").unlink()
    train(options(epochs=1, resume=True))  # empty: it starts
    with pytest.raises(UsageError, match="already holds a run; --resume goes on with it"):
        train(options(epochs=1))
    (out / "run.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"run\.json is damaged"):
        train(options(epochs=1, resume=True))
    with pytest.raises(UsageError, match="is a file"):
        train(options(out=out / "run.json"))


def test_a_second_process_is_kept_out(options):
    options().out.mkdir()
    fd = os.open(options().out, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with pytest.raises(PyradError, match="another process is training in"):
            train(options())
    finally:
        os.close(fd)


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


def test_a_run_without_validation_samples_or_with_several_labels(options, tmp_path):
    several = toy_training.build_store(tmp_path / "several.zarr", toy_training.facts(several_labels=True))
    summary = train(options(store=several, epochs=6, label_smoothing=0.05))
    log = lines(options().out)
    assert json.loads((options().out / "run.json").read_text())["multi_label"] is True
    assert all("accuracy" not in line for line in log)
    assert summary.validation.accuracy is None
    train_losses = [line["loss"] for line in log if line["kind"] == "train"]
    assert sum(train_losses[-5:]) < 0.6 * sum(train_losses[:5])

    table = [{**fact, "split": fact["split"].replace("val", "test")} for fact in toy_training.facts()]
    without = toy_training.build_store(tmp_path / "without.zarr", table)
    summary = train(options(store=without, epochs=1, out=tmp_path / "without"))
    assert summary.best is None
    assert {line["kind"] for line in lines(tmp_path / "without")} == {"train"}


def test_a_store_that_cannot_be_learned_from_is_refused(options, tmp_path):
    for labels, words in (((), "have no label"), (("knee",), "all have the one label 'knee'")):
        table = [{**fact, "labels": labels} for fact in toy_training.facts()]
        path = toy_training.build_store(tmp_path / f"{len(labels)}.zarr", table)
        with pytest.raises(UsageError, match=words):
            train(options(store=path))
    with pytest.raises(UsageError, match="no model 'resnet51'; models: "):
        train(options(model="resnet51"))
    with pytest.raises(UsageError, match="window"):
        train(options(window="moon"))
    assert not options().out.exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 8),
        ("batch_size", 1),
        ("epochs", 0),
        ("lr", 0.0),
        ("lr", math.nan),
        ("warmup", 1.5),
        ("label_smoothing", -0.1),
        ("scale", 0.0),
        ("channels", 2),
        ("fit", "squash"),
        ("device", "tpu"),
        ("threads", 0),
        ("checkpoint_every", 0),
    ],
)
def test_values_outside_their_range_are_refused_by_flag(options, name, value):
    with pytest.raises(UsageError, match="--" + name.replace("_", "-")):
        options(**{name: value})


@settings(max_examples=50, deadline=None)
@given(total=st.integers(1, 500), warmup=st.floats(0, 1), peak=st.floats(1e-6, 1))
def test_the_learning_rate_rises_then_falls_and_never_passes_its_peak(total, warmup, peak):
    rates = [learning_rate(step, total=total, warmup=warmup, peak=peak) for step in range(total)]
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates)
    top = max(round(warmup * total), 1)
    assert all(a < b for a, b in pairwise(rates[:top]))
    assert all(a > b for a, b in pairwise(rates[top:]))


def test_adamw_follows_its_formula_whatever_the_memory_layout_and_after_a_restore():
    torch.manual_seed(0)
    model = Toy(num_classes=2, in_chans=3).to(memory_format=torch.channels_last)
    optimizer = make_adamw(model, weight_decay=0.1)
    lr, beta1, beta2, eps = 0.01, 0.9, 0.999, 1e-8
    expected = {name: value.detach().clone().double() for name, value in model.named_parameters()}
    first = {name: torch.zeros_like(value) for name, value in expected.items()}
    second = {name: torch.zeros_like(value) for name, value in expected.items()}
    for step in range(1, 4):
        if step == 3:
            saved = {name: value.clone() for name, value in optimizer_tensors(optimizer, model).items()}
            assert set(saved) == {
                f"{kind}/{name}" for kind in ("step", "exp_avg", "exp_avg_sq") for name in expected
            }
            optimizer = make_adamw(model, weight_decay=0.1)
            contiguous = {name: value.contiguous() for name, value in saved.items()}
            restore_optimizer(optimizer, model, contiguous)
        optimizer.zero_grad()
        model(torch.randn(4, 3, 16, 16)).square().sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = lr
        for name, parameter in model.named_parameters():
            gradient = parameter.grad.double()
            first[name] = beta1 * first[name] + (1 - beta1) * gradient
            second[name] = beta2 * second[name] + (1 - beta2) * gradient**2
            decay = 0.1 if parameter.ndim > 1 else 0.0
            corrected = (second[name] / (1 - beta2**step)).sqrt() + eps
            expected[name] = (
                expected[name] * (1 - lr * decay) - lr * first[name] / (1 - beta1**step) / corrected
            )
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=1e-5, atol=1e-6)
    with pytest.raises(IntegrityError, match="exp_avg/nothing"):
        restore_optimizer(optimizer, model, {"exp_avg/nothing": torch.zeros(3)})


def test_the_losses_against_their_formulas():
    torch.manual_seed(0)
    logits = torch.randn(5, 3, dtype=torch.float64)
    labels = torch.tensor([0, 2, 1, 1, 0])
    log_p = logits - logits.exp().sum(dim=1, keepdim=True).log()
    smooth = torch.full((5, 3), 0.1 / 3, dtype=torch.float64)
    smooth[torch.arange(5), labels] += 0.9
    found = class_loss(logits, labels, multi_label=False, smoothing=0.1)
    torch.testing.assert_close(found, -(smooth * log_p).sum(dim=1).mean())
    hot = torch.tensor([[1, 0, 1]] * 5, dtype=torch.float64)
    p = 1 / (1 + (-logits).exp())
    smooth = hot * 0.9 + 0.05
    expected = -(smooth * p.log() + (1 - smooth) * (1 - p).log()).mean()
    torch.testing.assert_close(class_loss(logits, hot, multi_label=True, smoothing=0.1), expected)
