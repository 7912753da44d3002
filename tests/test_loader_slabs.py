"""Memory of batches that nobody holds -> batches to come; what anybody holds stays as it is."""

import gc

import numpy as np
import pytest
import torch

from pyrad.loader.slabs import Slabs

SHAPE = (3, 1, 5, 7)


def address(slabs, dtype=torch.float32):
    return slabs.empty(SHAPE, dtype).data_ptr()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tensor_has_its_shape_and_dtype_and_can_be_written(dtype):
    tensor = Slabs(kept=1).empty(SHAPE, dtype)
    assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == (SHAPE, dtype, True)
    assert tensor.fill_(2).sum() == 2 * tensor.numel()


def test_what_nobody_holds_is_given_out_again():
    slabs = Slabs(kept=1)
    assert address(slabs) == address(slabs) == address(slabs, torch.bfloat16)


@pytest.mark.parametrize(
    "guise",
    [
        lambda tensor: tensor,
        lambda tensor: tensor[1:, :, 2],
        lambda tensor: tensor.permute(0, 2, 3, 1),
        lambda tensor: tensor.numpy()[0],
        np.from_dlpack,
        torch.Tensor.untyped_storage,
        lambda tensor: memoryview(tensor.numpy()),
    ],
    ids=["itself", "slice", "permuted", "numpy", "dlpack", "storage", "memoryview"],
)
def test_what_is_held_in_any_guise_is_not_given_out(guise):
    slabs = Slabs(kept=2)
    tensor = slabs.empty(SHAPE, torch.float32)
    held, begin = guise(tensor), tensor.data_ptr()
    del tensor
    gc.collect()
    assert address(slabs) != begin
    del held
    gc.collect()
    assert begin in {address(slabs), slabs.empty(SHAPE, torch.float32).data_ptr()}


def test_no_more_is_kept_than_was_asked_for():
    slabs = Slabs(kept=2)
    many = [slabs.empty(SHAPE, torch.float32) for _ in range(5)]
    del many
    assert len(slabs._free) == 2


def test_a_larger_tensor_takes_a_larger_block():
    slabs = Slabs(kept=1)
    slabs.empty((2,), torch.float32)
    assert slabs.empty((200,), torch.float32).fill_(1).sum() == 200
