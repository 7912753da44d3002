"""ResNet50: its names, shapes and count are the published ones, and weights load by name or say why not."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pyrad.errors import IntegrityError, RefusedError, UsageError
from pyrad.models import MODELS, create_model
from pyrad.models.weights import decode_tensors, encode_tensors, read_weights


def norm_names(prefix):
    return [
        f"{prefix}.{name}"
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    ]


def published_names():
    """Torchvision's state dict of resnet50, by rule: 320 entries."""
    names = ["conv1.weight", *norm_names("bn1")]
    for layer, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            prefix = f"layer{layer}.{block}"
            for part in (1, 2, 3):
                names += [f"{prefix}.conv{part}.weight", *norm_names(f"{prefix}.bn{part}")]
            if block == 0:
                names += [f"{prefix}.downsample.0.weight", *norm_names(f"{prefix}.downsample.1")]
    return [*names, "fc.weight", "fc.bias"]


@pytest.fixture(scope="module")
def grey():
    torch.manual_seed(0)
    return create_model("resnet50", num_classes=5).eval()


def test_the_parameter_count_and_the_names_are_the_published_ones():
    model = create_model("resnet50", num_classes=1000, in_chans=3)
    assert sum(parameter.numel() for parameter in model.parameters()) == 25_557_032
    assert len(published_names()) == 320
    assert list(model.state_dict()) == published_names()


def test_the_stride_sits_on_the_3x3_convolution(grey):
    first = grey.get_submodule("layer2.0")
    assert first.conv1.stride == (1, 1)
    assert first.conv2.stride == (2, 2)
    assert first.downsample[0].stride == (2, 2)


@pytest.mark.parametrize("size", [32, 64, 224])
def test_the_shapes(grey, size):
    images = torch.randn(2, 1, size, size)
    with torch.no_grad():
        assert grey.forward_features(images).shape == (2, 2048, size // 32, size // 32)
        assert grey(images).shape == (2, 5)


def test_every_parameter_gets_a_gradient_once_the_zero_scales_have_moved():
    torch.manual_seed(0)
    model = create_model("resnet50", num_classes=3)
    blocks = [module for module in model.modules() if hasattr(module, "bn3")]
    assert len(blocks) == 16
    assert all(torch.count_nonzero(block.bn3.weight) == 0 for block in blocks)
    for block in blocks:
        nn.init.ones_(block.bn3.weight)
    model(torch.randn(2, 1, 64, 64)).square().sum().backward()
    silent = [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0]
    assert silent == []


def test_evaluation_is_deterministic_and_blind_to_the_rest_of_the_batch(grey):
    images = torch.randn(3, 1, 64, 64)
    with torch.no_grad():
        once, twice, alone = grey(images), grey(images), grey(images[:1])
    assert torch.equal(once, twice)
    torch.testing.assert_close(alone, once[:1], rtol=1e-4, atol=1e-4)


def test_an_unknown_name_and_impossible_counts_are_refused():
    with pytest.raises(UsageError, match=r"no model 'resnet51'; models: .*resnet50"):
        create_model("resnet51", num_classes=2)
    with pytest.raises(UsageError, match="num_classes is 0"):
        create_model("resnet50", num_classes=0)
    with pytest.raises(UsageError, match="in_chans is 2; allowed are 1"):
        create_model("resnet50", num_classes=2, in_chans=2)


def test_weights_load_as_they_are(grey, tmp_path):
    save_file(grey.state_dict(), tmp_path / "model.safetensors")
    again = create_model("resnet50", num_classes=5, weights=tmp_path / "model.safetensors")
    assert all(torch.equal(again.state_dict()[name], value) for name, value in grey.state_dict().items())


def test_three_channels_fold_into_one_and_back(grey, tmp_path):
    torch.manual_seed(1)
    planes = create_model("resnet50", num_classes=5, in_chans=3).eval()
    images = torch.randn(2, 1, 64, 64)
    for source, in_chans, mine in ((planes, 1, images), (grey, 3, images.repeat(1, 3, 1, 1))):
        save_file(source.state_dict(), tmp_path / "model.safetensors")
        folded = create_model(
            "resnet50", num_classes=5, in_chans=in_chans, weights=str(tmp_path / "model.safetensors")
        ).eval()
        theirs = images if source is grey else images.repeat(1, 3, 1, 1)
        with torch.no_grad():
            torch.testing.assert_close(folded(mine), source(theirs), rtol=1e-4, atol=1e-4)


def test_wrong_weights_name_what_is_missing_unexpected_or_of_another_shape(grey, tmp_path):
    path = tmp_path / "model.safetensors"
    tensors = dict(grey.state_dict())
    tensors["head.weight"] = tensors.pop("fc.weight")
    save_file(tensors, path)
    with pytest.raises(UsageError, match=r"missing fc\.weight; unexpected head\.weight"):
        create_model("resnet50", num_classes=5, weights=path)
    save_file(grey.state_dict(), path)
    with pytest.raises(UsageError, match=r"fc\.weight is \(5, 2048\), not \(7, 2048\)"):
        create_model("resnet50", num_classes=7, weights=path)
    save_file({f"module.{name}": value for name, value in grey.state_dict().items()}, path)
    with pytest.raises(UsageError, match=r"and 315 more; unexpected .* and 315 more"):
        create_model("resnet50", num_classes=5, weights=path)
    path.write_bytes(encode_tensors(grey.state_dict(), {"model": "densenet121"}))
    with pytest.raises(UsageError, match="are of model 'densenet121'"):
        create_model("resnet50", num_classes=5, weights=path)


def test_damaged_absent_and_pickled_weights_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(UsageError, match="No such file"):
        read_weights(path)
    data = encode_tensors({"a": torch.arange(6.0)}, {"model": "x"})
    for wrong in (b"", data[:5], data[:40], data[:-1], b"\xff" * 64):
        path.write_bytes(wrong)
        with pytest.raises(IntegrityError, match="no whole safetensors file"):
            read_weights(path)
    for pickled in (pickle.dumps({"a": 1}), b"PK\x03\x04rest"):
        path.write_bytes(pickled)
        with pytest.raises(RefusedError, match="pickle"):
            read_weights(path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(RefusedError, match="pickle"):
        read_weights(path)


def test_a_header_whose_length_looks_like_a_pickle_is_read():
    for length in range(200):
        data = encode_tensors({"a": torch.zeros(1)}, {"filler": "x" * length})
        if data[0] == 0x80:
            assert decode_tensors(data, "test")[1] == {"filler": "x" * length}
            return
    pytest.fail("no header of 128 bytes was made")


def test_equal_contents_give_equal_bytes_whatever_the_memory_layout():
    kernel = torch.randn(4, 3, 5, 5)
    description = {"model": "x", "classes": ["b", "a"]}
    plain = encode_tensors({"k": kernel, "n": torch.tensor(3)}, description)
    last = encode_tensors(
        {"k": kernel.to(memory_format=torch.channels_last), "n": torch.tensor(3)}, description
    )
    assert plain == last
    tensors, words = decode_tensors(plain, "test")
    assert torch.equal(tensors["k"], kernel)
    assert tensors["n"].shape == ()
    assert words == description


def test_the_same_function_as_timm(tmp_path):
    timm = pytest.importorskip("timm", reason="timm is not installed", exc_type=ImportError)
    path = tmp_path / "timm.safetensors"
    torch.manual_seed(2)
    theirs = timm.create_model("resnet50", num_classes=5, in_chans=1, zero_init_last=False).eval()
    save_file(theirs.state_dict(), path)
    ours = create_model("resnet50", num_classes=5, weights=path).eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_the_table_of_models_builds_each_of_them():
    for name in MODELS:
        model = create_model(name, num_classes=2)
        assert isinstance(model.get_submodule(model.head), nn.Module)
        assert model.get_parameter(f"{model.input_layer}.weight").shape[1] == 1
