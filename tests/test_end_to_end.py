"""archive -> store -> batch -> model -> evaluation -> report, by the commands that a user types."""

import json

import numpy as np
import pytest

from pyrad.cli import main
from pyrad.loader.loader import Loader
from pyrad.store.reader import open_store


def run(*words, exit_code=0):
    assert main([str(word) for word in words]) == exit_code


@pytest.fixture(scope="module")
def walk(tmp_path_factory):
    """Folder with a phantom, its store, and a ResNet50 trained on it for one small epoch."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "secret").write_text("of the test")
    private = ["--secret-file", folder / "secret", "--private", folder / "private"]
    run("phantom", folder / "archive", "--patients", 24, "--seed", 3)
    run("ingest", folder / "archive", "--store", folder / "s.zarr", *private, exit_code=3)
    run("verify", folder / "s.zarr")
    run("train", "--store", folder / "s.zarr", "--out", folder / "run", "--size", 32, "--epochs", 1)
    run("evaluate", "--run", folder / "run")
    run("report", folder / "run")
    return folder


def test_the_walk_ends_with_numbers_and_a_page(walk):
    metrics = json.loads((walk / "run" / "evaluation" / "metrics.json").read_text())
    page = (walk / "run" / "report.html").read_text()
    assert metrics
    assert "AUROC" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert (walk / "run" / "model.safetensors").stat().st_size > 90_000_000


def test_no_patient_is_on_two_sides(walk):
    samples = open_store(walk / "s.zarr").samples
    sides = {}
    for group, split in zip(samples["group"].to_pylist(), samples["split"].to_pylist(), strict=True):
        sides.setdefault(group, set()).add(split)
    assert {len(splits) for splits in sides.values()} == {1}
    assert {split for splits in sides.values() for split in splits} == {"train", "val", "test"}


def test_the_phantoms_masks_reach_the_store(walk, tmp_path):
    table = walk / "archive" / "lesions.csv"
    private = ["--secret-file", walk / "secret", "--private", tmp_path / "private"]
    words = ["--table", table, "--columns", "mask=mask"]
    run("ingest", walk / "archive", "--store", tmp_path / "m.zarr", *words, *private, exit_code=3)
    store = open_store(tmp_path / "m.zarr")
    masked = np.flatnonzero(store.samples["mask"].to_numpy())
    assert masked.size > 0
    for i in masked[:5]:
        mask = store.mask(int(i))
        assert mask.shape == store.image(int(i)).shape
        assert set(np.unique(mask)) == {0, 1}


def test_batches_are_what_a_network_eats(walk):
    with open_store(walk / "s.zarr") as store:
        loader = Loader(store, split="test", batch_size=8, size=32)
        batches = list(loader)
    assert sum(int(batch.valid.sum()) for batch in batches) == len(loader.samples)
    assert all(batch.images.shape == (8, 1, 32, 32) for batch in batches)
    assert all(np.isfinite(batch.images.numpy()).all() for batch in batches)
