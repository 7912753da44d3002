"""The same batches, bit for bit, by every door: each is compared with a loader of one thread."""

import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from toy_loading import open_small, optional, same, small, take

from pyrad.loader.augment import Augment
from pyrad.loader.datasets import BatchOrder, IterableView, MapView
from pyrad.records import Batch, Window

pytestmark = pytest.mark.filterwarnings("ignore")  # of other libraries, on forks and workers


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_small(tmp_path_factory.mktemp("stores") / "s.zarr") as opened:
        yield opened


def batch_of(images, labels, keys):
    """What a collation stacked, as a batch."""
    return Batch(
        images=images, labels=labels, keys=tuple(keys), valid=torch.ones(len(images), dtype=torch.bool)
    )


def passes(dataset, found, count):
    """``count`` passes over a DataLoader of an iterable view."""
    for epoch in range(count):
        dataset.set_epoch(epoch)
        yield from found


def threads(loader, _workers):
    return take(loader, 8)


def resumed(loader, _workers):
    first = take(loader, 3)
    again = pickle.loads(pickle.dumps(loader))  # noqa: S301  our own
    return first + take(again, 5)


def map_view(loader, workers):
    found = DataLoader(MapView(loader), batch_size=None, sampler=BatchOrder(loader), num_workers=workers)
    return [*found, *found]


def stacked_map_view(loader, workers):
    found = DataLoader(MapView(loader), batch_sampler=BatchOrder(loader), num_workers=workers)
    return [batch_of(*item) for _ in range(2) for item in found]


def iterable_view(loader, workers):
    view = IterableView(loader)
    return list(passes(view, DataLoader(view, batch_size=None, num_workers=workers), 2))


def torchdata(loader, workers):
    library = optional("torchdata.stateful_dataloader")
    found = library.StatefulDataLoader(
        MapView(loader), batch_size=None, sampler=BatchOrder(loader), num_workers=workers
    )
    first = list(islice(found, 3))
    state = found.state_dict()
    found.load_state_dict(state)
    return [*first, *found, *found]


def lightning(loader, _workers):
    optional("pytorch_lightning")
    from pyrad.loader.lightning import StoreDataModule

    settings = dict(loader._settings)
    del settings["store"], settings["split"], settings["rank"], settings["world_size"]
    return take(StoreDataModule(loader.store, **settings).train_dataloader(), 8)


def monai(loader, workers):
    monai_loader = optional("monai.data").DataLoader
    from pyrad.loader.monai import DictView

    found = monai_loader(DictView(loader), batch_sampler=BatchOrder(loader), num_workers=workers)
    return [
        batch_of(item["image"].as_tensor(), item["label"], item["key"]) for _ in range(2) for item in found
    ]


def dlpack(loader, _workers):
    return [
        batch_of(torch.from_numpy(np.from_dlpack(batch.images)), batch.labels, batch.keys)
        for batch in take(loader, 8)
    ]


DOORS = (threads, resumed, map_view, stacked_map_view, iterable_view, torchdata, lightning, monai, dlpack)


@pytest.mark.parametrize(("count", "workers"), [(1, 0), (2, 2), (8, 0)])
@pytest.mark.parametrize("door", DOORS)
def test_every_door_leads_to_the_same_batches(store, door, count, workers):
    options = {
        "augment": Augment(
            flip_vertical=0.5, rotate=25.0, shear=10.0, window_width=(0.7, 1.4), window_center=0.2
        ),
        "window": (
            Window(center=90.0, width=120.0),
            "auto",
            Window(center=20.0, width=30.0, function="SIGMOID"),
        ),
        "fit": "letterbox",
        "channels": 3,
        "mean": (0.4, 0.5, 0.6),
    }
    found = door(small(store, threads=count, **options), workers)
    same(found, take(small(store, threads=1, **options), 8))
