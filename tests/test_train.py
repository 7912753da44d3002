"""Training learns, records what it did, and says clearly when it cannot."""

import errno
import fcntl
import json
import math
import os
from io import StringIO

import pytest
import torch
import toy_training
from toy_training import STEPS_AN_EPOCH, TOTAL, TRAIN, VAL, Toy, lines

from pyrad.errors import IntegrityError, PyradError, UsageError
from pyrad.models import MODELS, create_model
from pyrad.models.weights import read_weights
from pyrad.progress import Reporter
from pyrad.store import durable
from pyrad.train import checkpoint
from pyrad.train.loop import train


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
    """A run to its end."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS, "toy", Toy)
        toy_training.reset()
        train(toy_training.options(store=store, out=out))
    return out


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
