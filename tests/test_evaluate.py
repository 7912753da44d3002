"""A finished run on its held-out patients: numbers equal outside ones, and what must be refused is."""

import json
import shutil
from io import StringIO

import numpy as np
import pyarrow.parquet as pq
import pytest
import toy_run
from sklearn import metrics as sk

from pyrad.errors import IntegrityError, NotAStoreError, PyradError, RefusedError, UsageError
from pyrad.eval.classify import EvaluateOptions, evaluate
from pyrad.eval.measure import measure
from pyrad.eval.predictions import Predictions, from_parquet, to_parquet
from pyrad.models import MODELS
from pyrad.progress import Reporter

SIX = ("a", "b", "c", "d", "e", "f")


@pytest.fixture(autouse=True)
def _spotter(monkeypatch):
    monkeypatch.setitem(MODELS, "spotter", toy_run.Spotter)


@pytest.fixture(scope="module")
def six(tmp_path_factory):
    """A finished run of six classes; some test images have no label, or one that is unknown in training."""
    facts = toy_run.table(SIX)
    facts[-1]["labels"] = ()
    facts[-2]["labels"] = ("g",)
    run = toy_run.finished(tmp_path_factory.mktemp("six"), SIX, facts, epochs=2)
    del MODELS["spotter"]
    return run


@pytest.fixture
def copied(six, tmp_path):
    """A copy of that run whose files a test may change."""
    return shutil.copytree(six, tmp_path / "run")


def table_of(run):
    return pq.read_table(run / "evaluation" / "predictions.parquet")


def scores_of(table, names):
    return np.stack([table[f"score:{name}"].to_numpy() for name in names], axis=1)


def elsewhere(fact):
    """The group of another patient, on the same side."""
    return fact["group"][0] + "e" + fact["group"][2:]


def test_the_numbers_equal_scikit_learns_on_the_written_predictions(six):
    values = evaluate(EvaluateOptions(run=six)).values
    assert values == json.loads((six / "evaluation" / "metrics.json").read_text())
    table = table_of(six)
    assert len(table) == 36
    assert table["label"].null_count == 2
    assert values["counts"] == {"images": 34, "patients": 17, "unlabelled": 1, "unusable": 1}
    assert values["unknown_labels"] == ["g"]

    table = table.filter(table["label"].is_valid())
    scores, own = scores_of(table, SIX), np.array([SIX.index(name) for name in table["label"].to_pylist()])
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=0, atol=1e-12)
    said = scores.argmax(axis=1)
    assert values["auroc"]["value"] == pytest.approx(
        sk.roc_auc_score(own, scores, multi_class="ovr", average="macro")
    )
    assert values["top1"]["value"] == pytest.approx(sk.accuracy_score(own, said))
    assert values["top5"]["value"] == pytest.approx(sk.top_k_accuracy_score(own, scores, k=5))
    assert values["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(own, said))
    assert values["confusion"] == sk.confusion_matrix(own, said, labels=range(6)).tolist()
    precision, recall, _, support = sk.precision_recall_fscore_support(
        own, said, labels=range(6), zero_division=np.nan
    )
    for k, row in enumerate(values["classes"]):
        assert row["class"] == SIX[k]
        assert row["images"] == support[k]
        assert row["recall"] == pytest.approx(recall[k])
        assert (row["precision"] is None) == bool(np.isnan(precision[k]))
        assert row["precision"] is None or row["precision"] == pytest.approx(precision[k])
        assert row["auroc"]["value"] == pytest.approx(sk.roc_auc_score(own == k, scores[:, k]))
        for which in ("by_patient", "by_image"):
            low, high = row["auroc"][which]
            assert 0 <= low <= row["auroc"]["value"] <= high <= 1


def test_a_second_evaluation_gives_the_same_bytes_with_any_batch_size(six):
    evaluate(EvaluateOptions(run=six, threads=1))
    before = {path.name: path.read_bytes() for path in (six / "evaluation").iterdir()}
    evaluate(EvaluateOptions(run=six, threads=1))
    assert {path.name: path.read_bytes() for path in (six / "evaluation").iterdir()} == before
    assert sorted(before) == ["metrics.json", "predictions.parquet"]
    table = table_of(six)
    evaluate(EvaluateOptions(run=six, batch_size=5))
    np.testing.assert_allclose(scores_of(table_of(six), SIX), scores_of(table, SIX), rtol=1e-5)
    assert table_of(six)["key"] == table["key"]


def test_a_learned_task_is_recognised_and_the_terminal_gets_a_table(tmp_path):
    names = ("left", "right")
    run = toy_run.finished(tmp_path, names, toy_run.table(names), epochs=6)
    out = StringIO()
    values = evaluate(EvaluateOptions(run=run), Reporter("log", StringIO(), out)).values
    assert values["auroc"]["value"] > 0.8
    assert values["top5"] is None
    assert [row["auroc"]["value"] for row in values["classes"]] == pytest.approx(
        [values["auroc"]["value"]] * 2
    )
    text = out.getvalue()
    assert "spotter on split test of toy.zarr: 36 images of 18 patients, 2 classes" in text
    assert f"macro AUROC        {values['auroc']['value']:.3f}" in text
    assert "by patient" in text
    assert "top-5" not in text
    assert values["division"]["patients"] == {"train": 24, "val": 6, "test": 18}
    assert values["division"]["patients_in_several"] == 0


def test_intervals_by_patient_are_wider_where_images_of_a_patient_say_the_same():
    draw = np.random.default_rng(0)
    own = np.repeat(draw.integers(0, 2, 40), 5)
    score = np.repeat(draw.normal(size=40), 5) + 0.7 * own
    sigmoid = 1 / (1 + np.exp(-score))
    values = measure(
        Predictions(
            classes=("no", "yes"),
            multi_label=False,
            keys=np.array([str(n) for n in range(200)]),
            groups=np.repeat(np.arange(40).astype(str), 5),
            truth=np.stack([1 - own, own], axis=1),
            scores=np.stack([1 - sigmoid, sigmoid], axis=1),
        )
    )
    for found in (values["auroc"], values["top1"], values["classes"][1]["auroc"]):
        width = {which: found[which][1] - found[which][0] for which in ("by_patient", "by_image")}
        assert width["by_patient"] > 1.5 * width["by_image"]


def test_several_labels_are_measured_class_by_class(tmp_path):
    names = ("a", "b", "c")
    facts = toy_run.table(names, several=True)
    facts[-1]["labels"] = ()
    run = toy_run.finished(tmp_path, names, facts, epochs=1)
    values = evaluate(EvaluateOptions(run=run)).values
    assert values["multi_label"] is True
    assert (values["top1"], values["top5"], values["confusion"]) == (None, None, None)
    table = table_of(run)
    assert table["labels"].to_pylist()[-1] == []
    own = np.array([[name in labels for name in names] for labels in table["labels"].to_pylist()])[:-1]
    scores = scores_of(table, names)[:-1]
    assert values["auroc"]["value"] == pytest.approx(sk.roc_auc_score(own, scores, average="macro"))
    for k, row in enumerate(values["classes"]):
        assert row["recall"] == pytest.approx(sk.recall_score(own[:, k], scores[:, k] >= 0.5))
    read = from_parquet((run / "evaluation" / "predictions.parquet").read_bytes(), names, multi_label=True)
    assert to_parquet(read) == (run / "evaluation" / "predictions.parquet").read_bytes()


def test_one_class_in_the_test_split_is_undefined_and_says_so(tmp_path):
    names = ("a", "b")
    facts = [fact for fact in toy_run.table(names) if fact["split"] != "test" or fact["labels"] == ("a",)]
    run = toy_run.finished(tmp_path, names, facts, epochs=1)
    out = StringIO()
    values = evaluate(EvaluateOptions(run=run), Reporter("log", StringIO(), out)).values
    undefined = {"value": None, "by_patient": None, "by_image": None}
    assert values["auroc"] == undefined
    assert [row["auroc"] for row in values["classes"]] == [undefined] * 2
    assert values["classes"][1]["recall"] is None
    assert "undefined" in out.getvalue()
    assert "no image here is of b" in out.getvalue()
    assert "nan" not in out.getvalue()


def test_a_split_without_a_single_label_is_undefined_throughout(tmp_path):
    names = ("a", "b")
    facts = toy_run.table(names)
    for fact in facts:
        if fact["split"] == "test":
            fact["labels"] = ()
    values = evaluate(EvaluateOptions(run=toy_run.finished(tmp_path, names, facts, epochs=1))).values
    assert values["counts"] == {"images": 0, "patients": 0, "unlabelled": 36, "unusable": 0}
    assert values["auroc"]["value"] is None
    assert values["top1"]["value"] is None
    assert values["balanced_accuracy"] is None


def test_patients_on_both_sides_are_refused(tmp_path):
    names = ("a", "b")
    facts = toy_run.table(names)
    facts[-1]["group"] = facts[0]["group"]
    run = toy_run.finished(tmp_path, names, facts, epochs=1)
    with pytest.raises(RefusedError, match="1 of the 19 patients of split 'test'") as refused:
        evaluate(EvaluateOptions(run=run))
    assert refused.value.exit_code == 6
    assert not (run / "evaluation").exists()


def test_a_changed_store_is_refused_unless_it_is_named(copied, tmp_path):
    names, facts = SIX, toy_run.table(SIX, counts=(24, 6, 12))
    for fact in facts:
        fact["group"] = elsewhere(fact)
    other = toy_run.build(tmp_path / "other.zarr", names, facts)
    record = json.loads((copied / "run.json").read_text())
    learned_from = record["options"]["store"]
    toy_run.change(copied / "run.json", options={**record["options"], "store": str(other)})
    with pytest.raises(RefusedError, match="--store"):
        evaluate(EvaluateOptions(run=copied))
    toy_run.change(copied / "run.json", options={**record["options"], "store": learned_from})
    out = StringIO()
    values = evaluate(EvaluateOptions(run=copied, store=other), Reporter("log", StringIO(), out)).values
    assert values["own_store"] is False
    assert values["patients_compared"] is True
    assert "note: other.zarr is not the store this model learned from" in out.getvalue()
    toy_run.change(copied / "run.json", options={**record["options"], "store": str(tmp_path / "gone.zarr")})
    assert evaluate(EvaluateOptions(run=copied, store=other)).values["patients_compared"] is False


def test_training_patients_in_another_store_of_the_same_secret_are_refused(copied, tmp_path):
    facts = toy_run.table(SIX, counts=(24, 6, 12))
    for fact in facts:  # what was learned from is tested on
        fact["split"] = {"train": "test", "test": "train"}.get(fact["split"], "val")
    other = toy_run.build(tmp_path / "other.zarr", SIX, facts)
    with pytest.raises(RefusedError, match=r"24 of the 24 patients .* training split of toy\.zarr"):
        evaluate(EvaluateOptions(run=copied, store=other))


def test_a_store_of_other_classes_is_refused(copied, tmp_path):
    facts = [{**fact, "group": elsewhere(fact)} for fact in toy_run.table(("p", "q"))]
    other = toy_run.build(tmp_path / "other.zarr", ("p", "q"), facts)
    with pytest.raises(RefusedError, match="it has p, q; the run knows a, b, c, d, e and 1 more"):
        evaluate(EvaluateOptions(run=copied, store=other))


def test_what_is_no_finished_run_is_said(copied, tmp_path):
    with pytest.raises(UsageError, match="holds no run"):
        evaluate(EvaluateOptions(run=tmp_path / "nothing"))
    with pytest.raises(NotAStoreError):
        evaluate(EvaluateOptions(run=copied, store=tmp_path / "nothing"))
    with pytest.raises(UsageError, match="allowed are test, val"):
        EvaluateOptions(run=copied, split="train")
    with pytest.raises(UsageError, match="at least 1"):
        EvaluateOptions(run=copied, batch_size=0)
    toy_run.change(copied / "run.json", classes=list(reversed(SIX)))
    with pytest.raises(IntegrityError, match="another classes"):
        evaluate(EvaluateOptions(run=copied))
    (copied / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="not finished"):
        evaluate(EvaluateOptions(run=copied))
    toy_run.change(copied / "run.json", format=99)
    with pytest.raises(UsageError, match="format 99"):
        evaluate(EvaluateOptions(run=copied))
    (copied / "run.json").write_text('{"format": 1}')
    with pytest.raises(IntegrityError, match="lacks model"):
        evaluate(EvaluateOptions(run=copied))
    (copied / "run.json").write_text("{")
    with pytest.raises(IntegrityError, match="no JSON"):
        evaluate(EvaluateOptions(run=copied))


def test_scores_that_are_not_finite_are_an_error(copied, monkeypatch):
    forward = toy_run.Spotter.forward
    monkeypatch.setattr(toy_run.Spotter, "forward", lambda self, x: forward(self, x) * float("nan"))
    with pytest.raises(PyradError, match="not finite for 36 of 36"):
        evaluate(EvaluateOptions(run=copied))


def test_a_full_disk_leaves_the_former_evaluation(copied, monkeypatch):
    evaluate(EvaluateOptions(run=copied))
    before = {path.name: path.read_bytes() for path in (copied / "evaluation").iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pyrad.store.durable.os.fsync", full)
    with pytest.raises(PyradError, match="No space left"):
        evaluate(EvaluateOptions(run=copied))
    assert {path.name: path.read_bytes() for path in (copied / "evaluation").iterdir()} == before
