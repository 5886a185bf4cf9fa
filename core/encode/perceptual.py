"""A perceptual loss: the distance between features of data and of their reconstruction (method section 3)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import UserError
from core.types import Batch

Distance = Literal["l1", "l2"]
Features = Callable[[Tensor], Sequence[Tensor]]
_SMALLEST = 1e-10
_STAGE = re.compile(r"patch_embed\.backbone\.network\.layer\d")
_BLOCK = re.compile(r"blocks\.\d+")
_NEEDED = "config.json with an 'architecture', and model.safetensors"


class PerceptualLoss:
    """The mean over layers of `feature_distance`, with a frozen network that sees the features.

    ``features`` maps data ``batch channel *space`` in [-1, 1] to feature maps ``batch channel *space``, one per layer.
    """

    def __init__(self, features: Features, distance: Distance) -> None:
        self.features = features
        self.distance: Distance = distance

    def __call__(self, data: Tensor, reconstructed: Tensor) -> Tensor:
        """Return the loss, a float32 scalar; its gradient reaches ``reconstructed`` only."""
        with torch.no_grad():
            expected = self.features(data)
        pairs = zip(self.features(reconstructed), expected, strict=True)
        return torch.stack([feature_distance(a, b, self.distance) for a, b in pairs]).mean()


def feature_distance(a: Tensor, b: Tensor, kind: Distance) -> Tensor:
    """Return the mean over positions of the distance between the unit vectors of features, summed over channels.

    ``l2`` is the squared distance: LPIPS with all weights 1 (Zhang et al. 2018, Eq. 1); ``l1`` the absolute one. Both
    are ``batch channel *space``. Computed in float32.
    """
    difference = _unit(a.float()) - _unit(b.float())
    size = difference.square() if kind == "l2" else difference.abs()
    return size.sum(1).mean()


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True) + _SMALLEST).sqrt()


class TimmFeatures:
    """The feature maps of a timm network from a local folder; no network connection, nothing unpickled.

    ``folder`` holds `config.json` with the name of the architecture, as timm writes it, and `model.safetensors`, loaded
    strictly but for the classifying head. Grey images go into all channels of a colour network, and are standardised as
    the folder says. Raises `UserError` where the folder does not fit, and for volumes.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        about = _read_about(folder)
        network = _timm_network(about, folder)
        self._network: Any = network.requires_grad_(False).eval().to(device)
        settings = {**self._network.pretrained_cfg, **about.get("pretrained_cfg", {})}
        self._channels = int(settings["input_size"][0])
        self._size = tuple(settings["input_size"][1:]) if settings.get("fixed_input_size") else None
        self._mean, self._std = (
            torch.tensor(settings[name], device=device).view(1, -1, 1, 1) for name in ("mean", "std")
        )

    def __call__(self, data: Tensor) -> list[Tensor]:
        """Return the feature maps of all stages of images ``batch channel H W`` in [-1, 1]."""
        if data.ndim != 4:
            raise UserError(
                "autoencoder.perceptual_from: a timm network sees images only, found a volume; give the folder of an"
                " earlier run, whose prompt encoders see volumes, or set autoencoder.perceptual_weight=0"
            )
        image = data.expand(-1, self._channels, -1, -1) if data.shape[1] == 1 else data
        if self._size is not None:
            image = F.interpolate(image, self._size, mode="bilinear", antialias=True)
        return self._network.forward_intermediates(((image + 1) / 2 - self._mean) / self._std, intermediates_only=True)


def _read_about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return about if about["architecture"] else {}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"autoencoder.perceptual_from = '{folder}': no network found there; a timm network needs {_NEEDED}"
        ) from None


def _timm_network(about: dict[str, Any], folder: Path) -> nn.Module:
    import timm
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    where = f"autoencoder.perceptual_from = '{folder}'"
    try:
        network: Any = timm.create_model(
            about["architecture"], pretrained=False, num_classes=0, **about.get("model_args", {})
        )
        state = load_file(folder / "model.safetensors")
    except (OSError, RuntimeError, TypeError, SafetensorError) as error:
        raise UserError(f"{where} cannot be loaded ({str(error)[:200]}); needed is {_NEEDED}") from None
    head = network.pretrained_cfg.get("classifier") or ()
    heads = (head,) if isinstance(head, str) else tuple(head)
    state = {name: value for name, value in state.items() if not name.startswith(tuple(f"{key}." for key in heads))}
    wrong = sorted(state.keys() ^ network.state_dict().keys())
    if wrong:
        raise UserError(f"{where}: weights that do not fit {about['architecture']}: {', '.join(wrong[:4])}")
    try:
        network.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"{where}: weights that do not fit {about['architecture']}: {str(error)[:200]}") from None
    if not hasattr(network, "forward_intermediates"):
        raise UserError(f"{where}: timm gives no feature maps of {about['architecture']}; take a ResNet, VGG or ViT")
    return network


class PromptFeatures:
    """The feature maps of an aligned prompt encoder: of its convolutional stages, and of its transformer blocks.

    ``encoder``: a `core.nn.prompts.image.GridPromptEncoder` with trained weights, which stay as they are.
    """

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder.requires_grad_(False).eval()
        self._layers = feature_layers(encoder.network)

    def __call__(self, data: Tensor) -> list[Tensor]:
        """Return the features of data ``batch channel *space``: maps, or tokens as ``batch channel length``."""
        features: list[Tensor] = []

        def store(module: nn.Module, inputs: Any, result: Tensor) -> None:
            features.append(result.transpose(1, 2) if result.ndim == 3 else result)

        hooks = [layer.register_forward_hook(store) for layer in self._layers]
        try:
            self._encoder(Batch(modality="", data=data))
        finally:
            for hook in hooks:
                hook.remove()
        return features


def feature_layers(network: nn.Module) -> list[nn.Module]:
    """Return the stages of the residual network in front of a vision transformer, if any, and its blocks.

    Raises `UserError` for another network.
    """
    stages = [layer for name, layer in network.named_modules() if _STAGE.fullmatch(name)]
    blocks = [layer for name, layer in network.named_modules() if _BLOCK.fullmatch(name)]
    if not blocks:
        raise UserError(
            f"autoencoder.perceptual_from: a {type(network).__name__} is no vision transformer with 'blocks', and its"
            " features are not known; give the folder of a timm network"
        )
    return [*stages, *blocks]
