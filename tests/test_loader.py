"""store -> batch: the stream of samples, its resumption, its ranks, its threads and its errors."""

import gc
import json
import threading

import pytest
import torch
from stores import build, key_of
from toy_loading import LABELS, keys, open_small, pictures, same, small, take

from pyrad.errors import CorruptChunkError, IntegrityError, PyradError, UsageError
from pyrad.loader.augment import Augment
from pyrad.store.reader import open_store


@pytest.fixture(scope="module", params=["tilepack", "zstd"])
def store(request, tmp_path_factory):
    """37 training samples with one label of three, 5 to validate on, none to test on."""
    path = tmp_path_factory.mktemp("stores") / f"{request.param}.zarr"
    with open_small(path, request.param) as opened:
        yield opened


def loader_threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pyrad")]


def test_batches_have_the_promised_form(store):
    loader = small(store)
    batch = take(loader, 1)[0]
    assert batch.images.shape == (8, 1, 12, 12)
    assert batch.images.dtype == torch.float32
    assert batch.labels.dtype == torch.int64
    assert batch.valid.dtype == torch.bool
    assert batch.valid.all()
    assert loader.classes == ("abscess", "cyst", "normal")
    assert not loader.multi_label
    assert loader.class_counts == (12, 13, 12)
    label_of = {key_of(number): sorted(LABELS).index(LABELS[number % 3]) for number in range(42)}
    assert batch.labels.tolist() == [label_of[key] for key in batch.keys]
    assert batch.images.min() >= -1
    assert batch.images.max() <= 1
    assert batch.images.std() > 0.1


def test_each_sample_once_an_epoch_and_batches_straddle_epochs(store):
    loader = small(store)
    assert len(loader) == 4
    stream = keys(take(loader, 37))  # 8 epochs of 37
    for epoch in range(8):
        assert sorted(stream[37 * epoch : 37 * (epoch + 1)]) == sorted(key_of(n) for n in range(37))
    assert stream[:37] != stream[37:74]


def test_one_for_yields_len_batches_and_the_next_goes_on(store):
    loader, other = small(store), small(store)
    first, second = list(loader), list(loader)
    assert len(first) == len(second) == len(loader)
    same(first + second, take(other, 2 * len(loader)))
    for _ in loader:
        break
    for _ in take(other, 1):
        pass
    same(take(loader, 2), take(other, 2))


def test_a_batch_larger_than_the_split_is_full(store):
    loader = small(store, batch_size=80)
    assert len(loader) == 1
    stream = keys(take(loader, 2))
    assert sorted(stream[:37]) == sorted(stream[37:74])
    assert len(stream) == 160


def test_threads_and_prefetch_change_nothing(store):
    batches = take(small(store, threads=1, prefetch=1, augment=Augment()), 6)
    for threads, prefetch in ((2, 2), (4, 1), (4, 5)):
        same(take(small(store, threads=threads, prefetch=prefetch, augment=Augment()), 6), batches)


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_share_out_one_global_sequence(store, world_size):
    whole = take(small(store, augment=Augment()), 6)
    ranks = [
        take(small(store, augment=Augment(), rank=rank, world_size=world_size), 6)
        for rank in range(world_size)
    ]
    for step, batch in enumerate(whole):
        slices = [rank[step] for rank in ranks]
        assert keys(slices) == list(batch.keys)
        assert torch.equal(torch.cat([part.images for part in slices]), batch.images)


def test_resume_is_exact_in_the_middle_of_an_epoch_and_on_other_ranks(store):
    loader = small(store, augment=Augment(), prefetch=4)
    take(loader, 3)
    state = json.loads(json.dumps(loader.state_dict()))
    assert all(isinstance(value, int) for value in state.values())
    assert state["position"] == 24  # what was yielded, not what was prepared ahead
    rest = take(loader, 9)
    resumed = small(store, augment=Augment(), threads=1)
    resumed.load_state_dict(state)
    same(take(resumed, 9), rest)
    halves = [small(store, augment=Augment(), rank=rank, world_size=2) for rank in range(2)]
    for half in halves:
        half.load_state_dict(state)
    parts = [take(half, 9) for half in halves]
    assert [keys(pair) for pair in zip(*parts, strict=True)] == [list(batch.keys) for batch in rest]


def test_resume_far_away_costs_nothing(store):
    loader = small(store)
    loader.load_state_dict({**loader.state_dict(), "position": 8 * 10**12})
    assert len(take(loader, 1)[0].keys) == 8


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 1}, "seed"),
        ({"batch_size": 4}, "batch_size"),
        ({"size": 13}, "settings"),
        ({"augment": Augment(flip=0.25)}, "settings"),
        ({"split": "val"}, "samples"),
    ],
)
def test_a_state_of_other_settings_is_refused(store, changed, named):
    state = small(store, augment=Augment()).state_dict()
    with pytest.raises(UsageError, match=f"saved with {named}"):
        small(store, **{"augment": Augment(), **changed}).load_state_dict(state)


def test_a_state_of_another_store_or_version_is_refused(store, tmp_path):
    state = small(store).state_dict()
    facts = [{"labels": (LABELS[number % 3],)} for number in range(37)]
    with (
        open_store(build(tmp_path / "other.zarr", pictures(37, seed=1), facts)) as other,
        pytest.raises(UsageError, match="saved with store"),
    ):
        small(other).load_state_dict(state)
    with pytest.raises(UsageError, match="version 1"):
        small(store).load_state_dict({**state, "version": 1})
    with pytest.raises(UsageError, match="position -8"):
        small(store).load_state_dict({**state, "position": -8})


def test_seeds_give_other_orders(store):
    assert keys(take(small(store, seed=1), 4)) != keys(take(small(store, seed=0), 4))


def test_augmentation_follows_the_sample_not_the_batch(store):
    """The same epoch in other batches: each sample looks the same; in another epoch it does not."""
    big, little = (
        take(small(store, augment=Augment()), 10),
        take(small(store, augment=Augment(), batch_size=4), 20),
    )
    seen = [
        dict(zip(keys(batches)[:37], torch.cat([b.images for b in batches]), strict=False))
        for batches in (big, little)
    ]
    again = dict(zip(keys(big)[37:74], torch.cat([b.images for b in big])[37:], strict=False))
    assert len(seen[0]) == 37
    for key, image in seen[0].items():
        assert torch.equal(image, seen[1][key])
        assert not torch.equal(image, again[key])


def test_evaluation_passes_once_in_order_and_pads(store):
    loader = small(store, split="val", batch_size=4)
    assert len(loader) == 2
    for _ in range(2):  # each `for` starts anew
        first, last = list(loader)
        assert keys([first, last]) == [key_of(n) for n in (37, 38, 39, 40, 41, 41, 41, 41)]
        assert first.valid.all()
        assert last.valid.tolist() == [True, False, False, False]
        assert torch.equal(last.images[0], last.images[3])
    for _ in loader:
        break
    assert len(list(loader)) == 2
    assert loader.state_dict()["position"] == 0


def test_evaluation_on_ranks_covers_the_split_once(store):
    parts = [list(small(store, split="val", batch_size=8, rank=rank, world_size=4)) for rank in range(4)]
    assert [len(part) for part in parts] == [1, 1, 1, 1]
    valid = [key for part in parts for key, good in zip(part[0].keys, part[0].valid, strict=True) if good]
    assert valid == [key_of(number) for number in range(37, 42)]


def test_evaluation_resumes_within_a_pass(store):
    loader = small(store, split="train", shuffle=False)
    passed = []
    for batch in loader:
        passed.append(batch)
        if len(passed) == 2:
            state = loader.state_dict()
        over = loader.state_dict()
    assert len(passed) == 5
    resumed = small(store, split="train", shuffle=False)
    resumed.load_state_dict(state)
    same(list(resumed), passed[2:])
    assert len(list(resumed)) == 5
    resumed.load_state_dict(over)  # saved while the last batch was in use: nothing is left of that pass
    assert len(list(resumed)) == 0
    assert len(list(resumed)) == 5


def test_batches_that_are_held_do_not_change(store):
    loader = small(store, augment=Augment())
    held, copies = [], []
    for batch in take(loader, 12):
        held.append(batch)
        copies.append(batch.images.clone())
    again = take(small(store, augment=Augment()), 12)
    for batch, copy, other in zip(held, copies, again, strict=True):
        assert torch.equal(batch.images, copy)
        assert torch.equal(batch.images, other.images)
    assert len({batch.images.data_ptr() for batch in held}) == 12


def test_leaving_early_leaves_no_thread(store):
    loader = small(store)
    for _ in loader:
        assert loader_threads()
        break
    gc.collect()
    assert not loader_threads()
    iterator = iter(loader)
    next(iterator)
    del iterator
    gc.collect()
    assert not loader_threads()
    list(loader)
    assert not loader_threads()
    kept = iter(loader)
    next(kept)
    loader.close()
    assert not loader_threads()
    with pytest.raises(PyradError, match="one at a time"):
        next(kept)


def test_a_newer_iteration_ends_an_earlier_one(store):
    loader = small(store)
    older, newer = iter(loader), iter(loader)
    next(older)
    next(newer)
    with pytest.raises(PyradError, match="one at a time"):
        next(older)
    next(newer)
    newer.close()


def test_the_report_adds_up(store):
    loader = small(store)
    list(loader)
    report = loader.report()
    assert report["images"] == 32
    assert report["batches"] == 4
    assert set(report) == {"images", "batches", "read_s", "preprocess_s", "wait_s", "consumer_s", "idle_s"}
    assert all(value >= 0 for value in report.values())
    assert report["read_s"] > 0
    assert report["preprocess_s"] > 0


@pytest.mark.parametrize("codec", ["tilepack", "zstd"])
def test_a_damaged_chunk_is_named_where_its_batch_is_due(tmp_path, codec):
    facts = [{"labels": ("a",)}] * 12
    path = build(tmp_path / "s.zarr", pictures(12), facts, codec=codec)
    shard = path / "parts/000001/images/33x20_u8/c/0/0/0"
    data = bytearray(shard.read_bytes())
    data[20] ^= 4  # inside the first chunk
    shard.write_bytes(data)
    with open_store(path) as opened:
        loader = small(opened, shuffle=False, batch_size=1)
        batches = iter(loader)
        assert next(batches).keys == (key_of(0),)
        with pytest.raises(CorruptChunkError, match="parts/000001/images/33x20_u8 chunk 0"):
            next(batches)
        assert loader.state_dict()["position"] == 1
        assert not loader_threads()


def test_a_truncated_shard_is_an_error_not_a_signal(tmp_path):
    facts = [{"labels": ("a",)}] * 12
    path = build(tmp_path / "s.zarr", pictures(12), facts)
    with open_store(path) as opened:
        list(small(opened, batch_size=4))
        shard = path / "parts/000001/images/33x20_u8/c/0/0/0"
        with shard.open("r+b") as file:
            file.truncate(100)
        with pytest.raises(IntegrityError, match="parts/000001/images/33x20_u8"):
            list(small(opened, batch_size=12))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"split": "training"}, "none of train, val, test"),
        ({"split": "test"}, "holds no sample"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 9, "world_size": 2}, "multiple of world_size 2"),
        ({"rank": 1}, "rank 1 of 1"),
        ({"size": 0}, "size"),
        ({"device": "tpu"}, "none of auto, cpu"),
        ({"window": "liver"}, "none of auto, anatomy, lung"),
        ({"window": "lung"}, "no CT"),
        ({"fit": "squash"}, "none of stretch"),
        ({"dtype": "float64"}, "none of auto"),
        ({"channels": 2}, "channels 2"),
        ({"threads": 0}, "threads 0"),
        ({"prefetch": 0}, "prefetch 0"),
        ({"mean": (0.5, 0.5)}, "mean"),
        ({"std": (0.0,)}, "std"),
        ({"classes": ("a", "a")}, "twice"),
    ],
)
def test_what_cannot_be_meant_is_refused(store, bad, said):
    with pytest.raises(UsageError, match=said):
        small(store, **bad)


def test_a_gpu_is_refused_and_auto_says_why_it_is_a_cpu(store):
    with pytest.raises(PyradError, match="on the CPU only"):
        small(store, device="cuda")
    loader = small(store)
    assert loader.device == "cpu"
    assert "CPU" in loader.device_reason
