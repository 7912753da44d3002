"""torchdata's StatefulDataLoader over a loader's views: it goes on where it was saved, to the batch."""

import pickle

import pytest
from toy_loading import open_small, optional, same, small, take

from pyrad.loader.augment import Augment
from pyrad.loader.datasets import BatchOrder, IterableView, MapView

torchdata = optional("torchdata.stateful_dataloader")
pytestmark = [
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),  # torchdata calls it
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


def stateful(dataset, sampler=None, *, workers):
    return torchdata.StatefulDataLoader(dataset, batch_size=None, sampler=sampler, num_workers=workers)


def views(loader):
    """How torchdata is given each view, and what says which pass is next."""
    view, order = IterableView(loader), BatchOrder(loader)
    return {"iterable": (view, None, view.set_epoch), "map": (MapView(loader), order, order.set_epoch)}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["map", "iterable"])
@pytest.mark.parametrize("seen", [0, 1, 3, 4])
def test_torchdata_resumes_in_the_middle_of_an_epoch(store, loader, kind, workers, seen):
    batches = take(small(store, augment=Augment()), 12)
    dataset, sampler, set_epoch = views(loader)[kind]
    found = stateful(dataset, sampler, workers=workers)
    set_epoch(1)
    running = iter(found)
    same([next(running) for _ in range(seen)], batches[4 : 4 + seen])
    state = found.state_dict()
    dataset, sampler, set_epoch = views(small(store, augment=Augment()))[kind]
    resumed = stateful(dataset, sampler, workers=workers)
    resumed.load_state_dict(pickle.loads(pickle.dumps(state)))  # noqa: S301  our own
    same(list(resumed), batches[4 + seen : 8])
    if kind == "iterable":
        set_epoch(2)
    same(list(resumed), batches[8:])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["map", "iterable"])
def test_torchdata_goes_on_after_a_finished_epoch(store, loader, kind, workers):
    dataset, sampler, _ = views(loader)[kind]
    found = stateful(dataset, sampler, workers=workers)
    list(found)
    state = found.state_dict()
    dataset, sampler, set_epoch = views(small(store, augment=Augment()))[kind]
    resumed = stateful(dataset, sampler, workers=workers)
    resumed.load_state_dict(state)
    if kind == "iterable":
        set_epoch(1)
    same(list(resumed), take(small(store, augment=Augment()), 8)[4:])
