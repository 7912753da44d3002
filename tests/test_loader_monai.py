"""A loader as MONAI's dictionaries: the same images, where they lie, and its own tools."""

import numpy as np
import pytest
import torch
from stores import build
from toy_loading import open_small, optional, small, take

from pyrad.loader.augment import Augment
from pyrad.loader.datasets import BatchOrder
from pyrad.loader.loader import Loader
from pyrad.records import Window
from pyrad.store.reader import open_store

monai_data, transforms = optional("monai.data"), optional("monai.transforms")
from pyrad.loader.monai import DictView  # noqa: E402  it needs MONAI

pytestmark = pytest.mark.filterwarnings("ignore")  # MONAI's own
SPACING_MM = (0.5, 0.75)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with open_small(tmp_path_factory.mktemp("stores") / "s.zarr") as opened:
        yield opened


@pytest.fixture(scope="module", params=["rows", "columns"])
def ramps(request, tmp_path_factory):
    """Images whose stored values are 100 times their row or column, with a spacing."""
    axis = ("rows", "columns").index(request.param)
    shapes = [(60, 90), (90, 60), (80, 80)] * 3
    images = [(100 * np.indices(shape)[axis]).astype(np.uint16) for shape in shapes]
    facts = [{"spacing_mm": SPACING_MM, "labels": ("a",)}] * len(images)
    with open_store(build(tmp_path_factory.mktemp("ramps") / "s.zarr", images, facts)) as opened:
        yield axis, opened


@pytest.mark.parametrize("workers", [0, 2])
def test_monais_loader_collates_the_loaders_batches(store, workers):
    loader = small(store, augment=Augment())
    found = monai_data.DataLoader(DictView(loader), batch_sampler=BatchOrder(loader), num_workers=workers)
    for ours, batch in zip(found, take(small(store, augment=Augment()), 4), strict=True):
        assert isinstance(ours["image"], monai_data.MetaTensor)
        assert torch.equal(ours["image"].as_tensor(), batch.images)
        assert torch.equal(ours["label"], batch.labels)
        assert tuple(ours["key"]) == batch.keys
        assert ours["image"].affine.shape == (8, 4, 4)
        assert monai_data.decollate_batch(ours)[3]["image"].meta["filename_or_obj"] == batch.keys[3]


@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_the_affine_leads_back_to_the_stored_pixel(ramps, fit):
    """A ramp's value says where in the stored image it was seen; so must its affine, for any crop."""
    axis, opened = ramps  # and what is seen is larger, where interpolation keeps a ramp as it is
    augment = Augment(flip=0.5, flip_vertical=0.5, scale=(0.5, 0.9))
    window = Window(center=5000.0, width=10000.0, function="LINEAR_EXACT")
    loader = Loader(
        opened,
        size=(100, 120),
        fit=fit,
        augment=augment,
        window=window,
        mean=(0.0,),
        std=(1.0,),
        batch_size=9,
    )
    places = np.stack(
        np.meshgrid(range(20, 80), range(24, 96), indexing="ij"), -1
    )  # away from any edge's taps
    for item in map(DictView(loader).__getitem__, range(9)):
        image, meta = item["image"].numpy()[0, 20:80, 24:96], item["image"].meta
        affine = meta["affine"].numpy()
        place = (places @ affine[:2, :2].T + affine[:2, 3])[..., axis] / SPACING_MM[axis]
        shown = 100 * image  # rows, or columns, of the stored image
        inside = (shown > 2) & (shown < int(meta["spatial_shape"][axis]) - 3)  # no margin, no edge
        assert inside.sum() > 1000
        assert np.abs(place - shown)[inside].max() < 1e-3
        assert np.allclose(meta["original_affine"], np.diag([*SPACING_MM, 1, 1]))
        assert np.allclose(meta["spacing_mm"], SPACING_MM)


def test_without_spacing_the_affine_is_in_pixels(store):
    item = DictView(small(store, shuffle=False))[1]
    assert item["image"].meta["spacing_mm"].isnan().all()
    assert np.allclose(item["image"].pixdim[:2], [33 / 12, 20 / 12])


def test_monais_transforms_and_datasets_take_it(ramps):
    _, opened = ramps
    view = DictView(Loader(opened, size=30, shuffle=False))
    to_2_mm = transforms.Compose(
        [transforms.Spacingd("image", pixdim=(2.0, 2.0)), transforms.Flipd("image", spatial_axis=0)]
    )
    plain, cached = monai_data.Dataset(view, to_2_mm), monai_data.CacheDataset(view, to_2_mm, progress=False)
    assert len(plain) == len(cached) == 9
    image = plain[0]["image"]
    height_mm, width_mm = 60 * SPACING_MM[0], 90 * SPACING_MM[1]
    assert abs(image.shape[1] * 2 - height_mm) <= 2
    assert abs(image.shape[2] * 2 - width_mm) <= 2
    assert torch.equal(image, cached[0]["image"])
