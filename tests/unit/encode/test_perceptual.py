"""The perceptual loss: its distance, and the networks that see the features."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from core.encode.perceptual import PerceptualLoss, PromptFeatures, TimmFeatures, feature_distance, feature_layers
from core.errors import UserError
from core.nn import GridPromptEncoderConfig

CPU = torch.device("cpu")


def draws(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_l2_is_twice_one_minus_the_cosine():
    a, b = draws(2, 5, 3, 4), draws(2, 5, 3, 4, seed=1)
    expected = 2 * (1 - torch.cosine_similarity(a, b, dim=1)).mean()
    torch.testing.assert_close(feature_distance(a, b, "l2"), expected)
    torch.testing.assert_close(feature_distance(3 * a, b, "l2"), expected)


def test_l1_is_the_sum_over_channels_of_unit_vectors():
    a, b = torch.tensor([[[3.0], [4.0]]]), torch.tensor([[[0.0], [2.0]]])
    assert float(feature_distance(a, b, "l1")) == pytest.approx(0.6 + 0.2)
    assert float(feature_distance(a, a, "l1")) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A timm network in a folder, as timm publishes it: with its classifier."""
    path = tmp_path_factory.mktemp("timm")
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", pretrained=False)
    save_file(network.state_dict(), path / "model.safetensors")
    (path / "config.json").write_text(json.dumps({"architecture": "test_resnet", "num_classes": 1000}))
    return path


def test_a_timm_network_of_a_folder_sees_grey_images(folder):
    features = TimmFeatures(folder, CPU)
    data = draws(2, 1, 32, 32).clamp(-1, 1)
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", pretrained=False).eval()
    mean, std = (torch.tensor(network.pretrained_cfg[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    expected = network.forward_intermediates(((data.repeat(1, 3, 1, 1) + 1) / 2 - mean) / std, intermediates_only=True)
    for own, other in zip(features(data), expected, strict=True):
        torch.testing.assert_close(own, other)


def test_a_network_of_fixed_size_sees_resized_images(tmp_path):
    network = timm.create_model("test_vit", pretrained=False)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_vit"}))
    assert [len(maps) for maps in TimmFeatures(tmp_path, CPU)(draws(2, 1, 32, 32))][:1] == [2]


def test_folders_that_do_not_fit_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"no network found there; a timm network needs config\.json"):
        TimmFeatures(tmp_path, CPU)
    about = tmp_path / "config.json"
    about.write_text(json.dumps({"architecture": "test_vit"}))
    with pytest.raises(UserError, match=r"cannot be loaded .*model\.safetensors"):
        TimmFeatures(tmp_path, CPU)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match="weights that do not fit test_vit"):
        TimmFeatures(tmp_path, CPU)
    about.write_text(json.dumps({"architecture": "no_such_network"}))
    with pytest.raises(UserError, match="cannot be loaded"):
        TimmFeatures(tmp_path, CPU)
    with pytest.raises(UserError, match="sees images only, found a volume"):
        TimmFeatures(folder, CPU)(draws(1, 1, 8, 8, 8))


PROMPTS = [
    ({"space": (16, 16), "convolutions": (8, 8, 8, 8), "regions": 2}, 5),
    ({"space": (16, 16)}, 1),
    ({"space": (8, 8, 8)}, 1),
]


@pytest.mark.parametrize(("settings", "layers"), PROMPTS, ids=["convolutions", "patches", "volume"])
def test_an_aligned_prompt_encoder_sees_features_of_every_stage(settings, layers):
    torch.manual_seed(0)
    config = GridPromptEncoderConfig(
        channels=1, patch=8 if len(settings["space"]) == 2 else 4, width=16, depth=1, num_heads=2, prompt_width=16,
        **settings,
    )  # fmt: skip
    loss = PerceptualLoss(PromptFeatures(encoder := config.build()), "l2")
    data = draws(2, 1, *config.space)
    other = (data + 0.3 * draws(*data.shape, seed=1)).requires_grad_()
    assert len(loss.features(data)) == layers
    assert float(loss(data, data.clone())) == pytest.approx(0, abs=1e-6)
    value = loss(data, other)
    value.backward()
    assert value > 1e-4
    assert other.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in encoder.parameters())


def test_another_network_is_refused():
    with pytest.raises(UserError, match="a Linear is no vision transformer"):
        feature_layers(torch.nn.Linear(2, 2))
