"""benchmarks/peers: no peer is timed for less work than the others, and what its workers use is counted."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

PEERS = Path(__file__).parents[1] / "benchmarks" / "peers"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(PEERS.parent)
    monkeypatch.syspath_prepend(PEERS)


@pytest.fixture(autouse=True)
def _threads_as_before():
    """Peers set the threads of torch, on which the last bits of other tests' sums depend."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def child():
    import child

    return child


@pytest.fixture
def corpus(tmp_path):
    from corpus import make_corpus

    return make_corpus(tmp_path, count=32, batch=8, side=32, smoke=True)


def epochs(corpus, *, order=lambda rng, count: rng.permutation(count), change=lambda images: images):
    rng = np.random.default_rng(0)
    while True:
        for numbers in order(rng, corpus.count).reshape(-1, corpus.batch):
            images = corpus.expected[numbers % corpus.unique][:, None].copy()
            yield torch.from_numpy(change(images)), numbers


def test_a_peer_that_does_all_the_work_is_timed(child, corpus):
    result = child.measure(epochs(corpus), corpus, seconds=0.0, tolerance=1e-6)
    assert result["images"] == corpus.count
    assert result["seconds"] > 0
    assert result["memory_bytes"] > 1 << 20
    assert result["error"] == 0


def _one_left_black(images):
    images[3] = -1
    return images


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"change": lambda images: images / 2}, "off by"),
        ({"change": _one_left_black}, "off by"),
        ({"change": lambda images: images[:, :, ::-1].copy()}, "off by"),
        ({"change": lambda images: images[:4]}, "a batch of"),
        ({"change": lambda images: images.astype(np.float64)}, "a batch of"),
        ({"order": lambda _, count: np.arange(count)}, "not shuffled"),
        ({"order": lambda rng, count: rng.integers(0, count // 2, count)}, "of 32 images"),
    ],
)
def test_a_peer_that_leaves_work_out_is_refused(child, corpus, how, said):
    with pytest.raises(AssertionError, match=said):
        child.measure(epochs(corpus, **how), corpus, seconds=0.0, tolerance=1e-3)


def test_every_image_is_looked_at_and_not_the_first_batch_alone(child, corpus):
    batches = epochs(corpus)
    delivered = child.Delivered(corpus)
    for number in range(4):
        images, numbers = next(batches)
        delivered.take(iter([(images - float(number == 3), numbers)]))
    with pytest.raises(AssertionError, match="nine pixels"):
        delivered.check(1e-3)


def test_time_and_memory_of_workers_are_counted():
    import usage

    before_s = usage.cpu_seconds()
    burn = "data = bytearray(1 << 26)\nwhile time.process_time() < 0.4: pass\nprint(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    alone = usage.memory()[0]
    with subprocess.Popen([sys.executable, "-c", f"import time; {burn}"], **pipes) as worker:
        worker.stdout.readline()
        assert worker.pid in set(usage.tree())
        assert usage.cpu_seconds() - before_s >= 0.35
        assert usage.memory()[0] - alone > 1 << 26
        worker.communicate(b"\n")
    assert usage.cpu_seconds() - before_s >= 0.35


def test_the_window_that_peers_are_given_is_that_of_dicom(corpus):
    from windowing import pool_of, see, see_batch

    numbers = np.arange(8)
    stored = np.stack([corpus.image(number) for number in numbers])
    together = see_batch(stored, corpus.affine[numbers], corpus.side, pool_of(2))
    for number in numbers:
        alone = see(corpus.image(number), *corpus.affine[number], corpus.side)
        assert np.abs(alone.numpy() - corpus.expected[number % corpus.unique]).max() < 1e-4
        assert torch.equal(alone, together[number])
