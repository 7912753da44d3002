"""The report: one page that loads nothing, says everything, escapes what the data says, and never varies."""

import json
import re
import shutil
from html.parser import HTMLParser
from io import BytesIO, StringIO

import numpy as np
import pytest
import toy_run
from PIL import Image

from pyrad.cli import main
from pyrad.errors import IntegrityError, RefusedError, UsageError
from pyrad.eval import figures
from pyrad.eval.classify import EvaluateOptions, evaluate
from pyrad.eval.gallery import draw, right_ones, worst_mistakes
from pyrad.eval.predictions import Predictions
from pyrad.eval.report import ReportOptions, write_report
from pyrad.loader.loader import Loader
from pyrad.models import MODELS
from pyrad.progress import Reporter
from pyrad.store.reader import open_store

HOSTILE = ("<script>alert(1)</script>", 'b" onload="x', "$c_{d$ & 漢字", "plain")
VOID = {"meta", "img", "br", "use", "path"}


@pytest.fixture(autouse=True)
def _spotter(monkeypatch):
    monkeypatch.setitem(MODELS, "spotter", toy_run.Spotter)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """An evaluated run whose classes have names that a page must not take for markup."""
    run = toy_run.finished(tmp_path_factory.mktemp("hostile"), HOSTILE, toy_run.table(HOSTILE), epochs=2)
    evaluate(EvaluateOptions(run=run))
    del MODELS["spotter"]
    return run


@pytest.fixture
def copied(hostile, tmp_path):
    return shutil.copytree(hostile, tmp_path / "run")


class Page(HTMLParser):
    """Every tag, and the text outside of style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def written(run, **options):
    write_report(ReportOptions(run=run, **options))
    return (run / "report.html").read_text(encoding="utf-8")


def test_it_loads_nothing_and_takes_no_label_for_markup(hostile):
    text = written(hostile)
    page = Page(text)
    assert page.open == []
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "base", "form"}
    pictures = 0
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert "srcset" not in attributes
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/png;base64,")
            pictures += 1
        if "href" in attributes:
            assert attributes["href"].startswith(("#", "data:image/png"))
    assert pictures > 6
    told = "".join(page.text)
    for name in HOSTILE[:2]:
        assert name in told
    assert HOSTILE[2] in told


def test_ids_are_unique_and_every_reference_has_its_target(hostile):
    text = written(hostile)
    ids = re.findall(r'(?<= )id="([^"]*)"', text)
    referred = set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', text))
    assert referred
    for target in {first or second for first, second in referred}:
        assert ids.count(target) == 1, target


def test_it_says_what_the_evaluation_found_and_how_to_do_it_again(hostile):
    told = "".join(Page(written(hostile)).text)
    values = json.loads((hostile / "evaluation" / "metrics.json").read_text())
    record = json.loads((hostile / "run.json").read_text())
    assert f"{values['auroc']['value']:.3f}" in told
    for row in values["classes"]:
        assert f"{row['auroc']['by_patient'][0]:.3f}-{row['auroc']['by_patient'][1]:.3f}" in told
    assert "36 images of 18 patients" in told
    for fingerprint in (
        values["division"]["fingerprint"],
        record["store_fingerprint"],
        values["weights_sha256"],
    ):
        assert fingerprint in told
    for heading in ("Learning curves", "ROC curves", "Confusion matrix", "Worst mistakes", "Settings"):
        assert heading in told
    train, evaluation, report = (
        next(line for line in told.splitlines() if line.startswith(f"pyrad {name}"))
        for name in ("train", "evaluate", "report")
    )
    assert "--model spotter" in train
    assert "--lr 0.02" in train
    assert "--epochs 2" in train
    assert evaluation == f"pyrad evaluate --run {hostile} --split test"
    assert report == f"pyrad report {hostile}"


def test_a_second_report_has_the_same_bytes(hostile):
    first = written(hostile)
    assert written(hostile) == first


def test_the_command_line_writes_it_and_says_where(copied, capsys):
    assert main(["evaluate", "--run", str(copied)]) == 0
    assert main(["report", str(copied)]) == 0
    assert str(copied / "report.html") in capsys.readouterr().out
    shutil.rmtree(copied / "evaluation")
    assert main(["report", str(copied)]) == 2
    assert f"pyrad evaluate --run {copied}" in capsys.readouterr().err


def test_an_evaluation_that_is_not_of_this_run_is_refused(copied, tmp_path):
    values = json.loads((copied / "evaluation" / "metrics.json").read_text())
    moved = shutil.copytree(values["store"], tmp_path / "moved.zarr")
    toy_run.change(copied / "evaluation" / "metrics.json", store=str(tmp_path / "gone.zarr"))
    with pytest.raises(UsageError, match="--store"):
        write_report(ReportOptions(run=copied))
    assert "Worst mistakes" in written(copied, store=moved)
    toy_run.change(copied / "evaluation" / "metrics.json", store_fingerprint="0" * 64)
    with pytest.raises(RefusedError, match="not as it was evaluated"):
        write_report(ReportOptions(run=copied, store=moved))
    with (copied / "evaluation" / "predictions.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(IntegrityError, match=r"predictions\.parquet"):
        write_report(ReportOptions(run=copied, store=moved))
    toy_run.change(copied / "evaluation" / "metrics.json", weights_sha256="0" * 64)
    with pytest.raises(UsageError, match="other weights"):
        write_report(ReportOptions(run=copied, store=moved))


def test_several_labels_and_undefined_values_make_a_report_too(tmp_path):
    names = ("a", "b", "c")
    facts = [
        {**fact, "labels": ("a", "b")} if fact["split"] == "test" else fact
        for fact in toy_run.table(names, several=True)
    ]
    run = toy_run.finished(tmp_path, names, facts, epochs=1, channels=3)
    evaluate(EvaluateOptions(run=run))
    told = "".join(Page(written(run)).text)
    assert "undefined" in told
    assert "Undefined: a curve needs images with and without a class." in told
    assert "nan" not in told.replace("nan-", "")
    assert "in question" in told
    assert "Confusion matrix" not in told


def predictions(scores, own, *, multi_label=False):
    scores = np.array(scores)
    truth = np.array(own) if multi_label else np.eye(scores.shape[1], dtype=int)[own]
    return Predictions(
        classes=tuple("abc"[: scores.shape[1]]),
        multi_label=multi_label,
        keys=np.array([f"k{n}" for n in range(len(scores))]),
        groups=np.array([f"g{n}" for n in range(len(scores))]),
        truth=truth,
        scores=scores,
    )


def test_the_most_confident_mistake_comes_first():
    found = predictions([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]], [1, 0, 0, 1])
    assert [(choice.key, choice.said, choice.score) for choice in worst_mistakes(found, 9)] == [
        ("k0", "a", 0.9),
        ("k1", "b", 0.8),
        ("k2", "b", 0.6),
    ]
    assert [choice.key for choice in worst_mistakes(found, 1)] == ["k0"]
    assert [choice.key for choice in right_ones(found, 9)] == ["k3"]


def test_of_several_labels_the_class_furthest_on_the_wrong_side_is_in_question():
    found = predictions(
        [[0.9, 0.6, 0.1], [0.9, 0.05, 0.2], [0.5, 0.9, 0.4]],
        [[1, 0, 0], [1, 1, 0], [0, 0, 0]],  # the last has no label: it is no mistake
        multi_label=True,
    )
    worst = worst_mistakes(found, 9)
    assert [(choice.key, choice.said, choice.truth) for choice in worst] == [
        ("k1", "a (b in question)", "a, b"),
        ("k0", "a, b (b in question)", "a"),
    ]
    assert worst[0].score == 0.05


def test_right_ones_take_the_classes_in_turn():
    found = predictions([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.4, 0.6]], [0, 0, 0, 1])
    assert [choice.key for choice in right_ones(found, 3)] == ["k0", "k3", "k1"]


def test_pictures_are_what_the_network_saw(hostile):
    record = json.loads((hostile / "run.json").read_text())
    with open_store(record["options"]["store"]) as store:
        settings = {"size": toy_run.SIZE, "shuffle": False, "threads": 1}
        loader = Loader(store, "test", 1, **settings)
        keys = [batch.keys[0] for batch in loader]
        found = predictions(np.tile([0.9, 0.1], (len(keys), 1)), [1] * len(keys))
        found.keys[:] = [f"k{n}" for n in range(len(keys))]
        found = Predictions(**{**found.__dict__, "keys": np.array(keys)})
        chosen = worst_mistakes(found, 3)
        pictures = [np.asarray(Image.open(BytesIO(png))) for png in draw(loader, chosen)]
        seen = {batch.keys[0]: batch.images[0, 0].numpy() for batch in loader}
        for choice, picture in zip(chosen, pictures, strict=True):
            expected = (seen[choice.key].astype(float) * 0.5 + 0.5).clip(0, 1) * 255
            assert np.abs(picture - expected).max() <= 0.51
        assert picture.shape == (toy_run.SIZE, toy_run.SIZE)
        wrong = worst_mistakes(Predictions(**{**found.__dict__, "keys": np.array(keys[::-1])}), 1)
        with pytest.raises(IntegrityError, match="is not the one that was predicted"):
            draw(loader, wrong)


def test_many_classes_and_long_names_still_draw():
    count = 60
    draw_ = np.random.default_rng(0)
    own = np.arange(240) % count
    scores = draw_.dirichlet(np.ones(count), 240)
    found = Predictions(
        classes=tuple(f"a class with a very long name {k}" for k in range(count)),
        multi_label=False,
        keys=own.astype(str),
        groups=own.astype(str),
        truth=np.eye(count, dtype=int)[own],
        scores=scores,
    )
    rows = [{"class": name, "auroc": {"value": 0.5 + k / 200}} for k, name in enumerate(found.classes)]
    svg = figures.roc_curves(found, rows)
    assert svg.count("a class with a very lon…") == figures.CURVES
    assert len(figures.confusion(np.eye(count, dtype=int), found.classes)) < 60_000
    log = [{"kind": "train", "step": n, "loss": 1.0} for n in range(1, 5000)]
    assert len(figures.learning_curves(log)) < 60_000


def test_a_silent_run_of_both_says_nothing(copied, capsys):
    evaluate(EvaluateOptions(run=copied), Reporter("silent", StringIO(), StringIO()))
    write_report(ReportOptions(run=copied))
    assert capsys.readouterr() == ("", "")
