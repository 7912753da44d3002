"""A loader as torch's datasets: any number of workers, forked or spawned; and its images by DLPack."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from toy_loading import keys, open_small, same, small, take

from pyrad import ops
from pyrad.errors import CorruptChunkError, UsageError
from pyrad.loader.augment import Augment
from pyrad.loader.datasets import BatchOrder, IterableView, MapView

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),  # more workers than cores
    # From Python 3.12 on; at that moment none of the threads is pyrad's.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_small(tmp_path_factory.mktemp("stores") / "s.zarr") as opened:
        yield opened


@pytest.fixture
def loader(store):
    return small(store, augment=Augment())


def whole(dataset, **options):
    """A DataLoader of whole batches; a worker that hangs is an error."""
    waits = {"timeout": 60} if options.get("num_workers") else {}
    return DataLoader(dataset, batch_size=None, **waits, **options)


def by_order(loader, **options):
    return whole(MapView(loader), sampler=BatchOrder(loader), **options)


def test_a_map_view_is_a_sequence_of_the_loaders_images(store, loader):
    view = MapView(loader)
    batch = take(small(store, augment=Augment()), 1)[0]
    assert len(view) == 37
    image, label, key = view[3]
    assert torch.equal(image, batch.images[3])
    assert label == batch.labels[3]
    assert key == batch.keys[3]
    same([view[list(range(8))]], [batch])
    assert len([item.key for item in view]) == 37
    for outside in (-1, 37):
        with pytest.raises(IndexError, match=f"image {outside} of 37"):
            view[outside]
    with pytest.raises(IndexError, match="position -2"):
        view[[4, -2]]


def test_a_fetched_batch_is_one_call_of_the_core(loader, monkeypatch):
    calls = []
    preprocess = ops.preprocess
    monkeypatch.setattr(ops, "preprocess", lambda *a, **k: calls.append(len(a[1])) or preprocess(*a, **k))
    for _ in DataLoader(MapView(loader), batch_size=8, drop_last=True):
        pass
    assert calls == [8] * 4


def test_a_map_view_without_a_sampler_has_the_first_epochs_order(store, loader):
    batches = take(small(store, augment=Augment()), 4)
    for (images, labels, names), batch in zip(
        DataLoader(MapView(loader), batch_size=8, drop_last=True), batches, strict=True
    ):
        assert torch.equal(images, batch.images)
        assert torch.equal(labels, batch.labels)
        assert tuple(names) == batch.keys


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_each_for_over_a_map_view_is_the_next_pass(store, loader, workers):
    found = by_order(loader, num_workers=workers)
    same([*found, *found, *found], take(small(store, augment=Augment()), 12))


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 6])
@pytest.mark.parametrize("persistent", [False, True])
def test_an_iterable_view_is_the_same_for_any_workers(store, loader, workers, persistent):
    view = IterableView(loader)
    found = whole(view, num_workers=workers, persistent_workers=persistent and workers > 0)
    assert len(found) == 4
    batches = []
    for epoch in range(3):
        view.set_epoch(epoch)
        batches += found
    same(batches, take(small(store, augment=Augment()), 12))
    view.set_epoch(1)
    same(list(found), batches[4:8])


@pytest.mark.parametrize("view", [by_order, lambda loader, **options: whole(IterableView(loader), **options)])
def test_spawned_workers_open_the_store_again(store, loader, view):
    found = view(loader, num_workers=2, multiprocessing_context="spawn")
    same(list(found), take(small(store, augment=Augment()), 4))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_abandoned_pass_is_over(store, loader, workers):
    found = by_order(loader, num_workers=workers)
    for _ in found:
        break
    same(list(found), take(small(store, augment=Augment()), 8)[4:])


def test_the_loaders_own_iteration_and_its_views_do_not_disturb_each_other(store, loader):
    batches = iter(loader)
    first = [next(batches)]
    same([MapView(loader)[[30, 31]]], [MapView(small(store, augment=Augment()))[[30, 31]]])
    same(first + list(batches), take(small(store, augment=Augment()), 4))


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_out_the_batches_of_the_views(store, workers):
    batches = take(small(store), 4)
    for make in (by_order, lambda loader, **options: whole(IterableView(loader), **options)):
        ranks = [list(make(small(store, rank=rank, world_size=2), num_workers=workers)) for rank in range(2)]
        for batch, halves in zip(batches, zip(*ranks, strict=True), strict=True):
            assert keys(halves) == list(batch.keys)
            assert torch.equal(torch.cat([half.images for half in halves]), batch.images)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_evaluation_passes_once_in_order(store, workers):
    loader = small(store, split="val", batch_size=4)
    batches = list(loader)
    assert batches[-1].valid.tolist() == [True, False, False, False]
    for found in (by_order(loader, num_workers=workers), whole(IterableView(loader), num_workers=workers)):
        same(list(found), batches)
        same(list(found), batches)
    stacked = list(DataLoader(MapView(loader), batch_sampler=BatchOrder(loader), num_workers=workers))
    assert [len(item.key) for item in stacked] == [4, 1]  # a collation never sees the padding


def test_a_pickled_loader_goes_on_where_it_stood(store, loader):
    batches = take(loader, 9)
    del batches[3:]
    again = pickle.loads(pickle.dumps(loader))  # noqa: S301  our own
    same(take(again, 3), take(loader, 3))
    assert again.store is not store
    assert again.store.fingerprint == store.fingerprint


def test_a_damaged_chunk_is_named_by_a_worker_too(tmp_path):
    with open_small(tmp_path / "s.zarr") as opened:
        shard = tmp_path / "s.zarr/parts/000001/images/33x20_u8/c/0/0/0"
        data = bytearray(shard.read_bytes())
        data[20] ^= 4
        shard.write_bytes(data)
        for workers in (0, 1):
            with pytest.raises(CorruptChunkError, match="33x20_u8 chunk 0"):
                list(whole(IterableView(small(opened, shuffle=False)), num_workers=workers))


@pytest.mark.parametrize(
    ("other", "said"),
    [({"seed": 1}, "saved with seed"), ({"size": 10}, "saved with settings"), ({"split": "val"}, "samples")],
)
def test_a_pass_refuses_the_state_of_another_loader(store, loader, other, said):
    state = iter(BatchOrder(loader)).state_dict()
    with pytest.raises(UsageError, match=said):
        iter(BatchOrder(small(store, **{"augment": Augment(), **other}))).load_state_dict(state)


def test_a_pass_refuses_the_state_of_another_worker(loader):
    state = iter(BatchOrder(loader)).state_dict()
    with pytest.raises(UsageError, match="number 0, is not one of worker 0 of 1 in pass 1"):
        iter(BatchOrder(loader)).load_state_dict({**state, "epoch": 1})


def test_images_go_out_by_dlpack_without_a_copy(store):
    batch = take(small(store), 1)[0]
    array = np.from_dlpack(batch.images)
    assert array.dtype == np.float32
    assert array.ctypes.data == batch.images.data_ptr()
    assert np.array_equal(array, batch.images.numpy())
    last = np.from_dlpack(take(small(store, channels=3, channels_last=True), 1)[0].images)
    assert last.shape == (8, 3, 12, 12)
    assert last.transpose(0, 2, 3, 1).flags.c_contiguous


def test_what_is_held_by_dlpack_alone_does_not_change(store):
    held, copies = [], []
    for batch in take(small(store), 12):
        held.append(np.from_dlpack(batch.images))
        copies.append(batch.images.numpy().copy())
    del batch
    take(small(store), 12)
    assert all(np.array_equal(array, copy) for array, copy in zip(held, copies, strict=True))


def test_numpy_has_no_bfloat16_but_takes_its_bits(store):
    batch = take(small(store, dtype="bfloat16"), 1)[0]
    with pytest.raises((BufferError, RuntimeError, TypeError)):
        np.from_dlpack(batch.images)
    bits = np.from_dlpack(batch.images.view(torch.uint16))
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(wide, batch.images.float().numpy())
