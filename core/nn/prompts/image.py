"""Prompts from images and volumes (method E1)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import UserError
from core.nn.batch_norm import BatchNorm2d
from core.nn.prompts.head import PromptHead
from core.nn.size_checks import CONVOLUTION_STRIDE
from core.types import Batch, Prompt

if TYPE_CHECKING:
    from core.nn.prompts.config import GridPromptEncoderConfig


class GridPromptEncoder(nn.Module):
    """A null token of zeros, then one token per patch, row by row; see `GridPromptEncoderConfig`."""

    def __init__(self, config: GridPromptEncoderConfig) -> None:
        super().__init__()
        self.width, self.token_width = config.prompt_width, config.width
        self._shape = (config.channels, *config.space)
        self.network: Any = _plane_network(config) if len(config.space) == 2 else _volume_network(config)
        self._plain = config.convolutions is None
        self._cells, self._regions = config.cells, config.regions
        self.head = PromptHead(config.width, config.prompt_width, (config.regions or 0) ** len(config.space))

    def forward(self, batch: Batch) -> Prompt:
        """Encode ``batch.data`` ``batch channel *space`` as a `Prompt` of a null token and one token per patch.

        Raises `UserError` for data of another shape.
        """
        if tuple(batch.data.shape[1:]) != self._shape:
            raise UserError(f"the prompt encoder takes data {self._shape}, found {tuple(batch.data.shape[1:])}")
        features = self._features(batch.data)
        return self.head(features, features.new_ones(features.shape[:2]).bool(), self._means(features))

    def _means(self, features: Tensor) -> Tensor | None:
        """Return ``batch regions width``: the mean over the patches of each region, row by row."""
        if self._regions is None:
            return None
        image = features.transpose(1, 2).unflatten(2, self._cells)
        pool: Any = F.adaptive_avg_pool2d if len(self._cells) == 2 else F.adaptive_avg_pool3d
        return pool(image, self._regions).flatten(2).transpose(1, 2)

    def _features(self, data: Tensor) -> Tensor:
        features = self.network(data if self._plain else _standardised(data))
        return features[0] if isinstance(features, tuple) else features  # MONAI adds the features of every layer


def _plane_network(config: GridPromptEncoderConfig) -> nn.Module:
    from timm.layers.hybrid_embed import HybridEmbed
    from timm.models.vision_transformer import VisionTransformer

    height, width = config.space
    cut: dict[str, Any] = {"patch_size": (config.patches[0], config.patches[1])}
    if config.convolutions is not None:
        cut = {
            "patch_size": 1,
            "embed_layer": partial(HybridEmbed, _Convolutions(config.channels, config.convolutions)),
        }
    return VisionTransformer(
        img_size=(height, width),
        **cut,
        in_chans=config.channels,
        num_classes=0,
        global_pool="",
        class_token=False,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.num_heads,
        dynamic_img_size=False,
    )


class _Convolutions(nn.Module):
    """timm's residual network down to an eighth of the image size, as a feature map."""

    def __init__(self, channels: int, widths: tuple[int, int, int, int]) -> None:
        from timm.models.resnet import BasicBlock, ResNet

        super().__init__()
        block: Any = BasicBlock  # timm's annotation allows bottlenecks only
        self.network = ResNet(
            block,
            (1, 1, 1, 1),
            channels=widths,
            stem_width=widths[0],
            in_chans=channels,
            num_classes=0,
            global_pool="",
            output_stride=CONVOLUTION_STRIDE,
            norm_layer=BatchNorm2d,
        )

    def forward(self, data: Tensor) -> Tensor:
        """Map ``batch channel H W`` to ``batch width H/8 W/8``."""
        return self.network.forward_features(data)


def _standardised(data: Tensor) -> Tensor:
    """Return every channel of every sample with mean 0 and standard deviation 1."""
    mean, deviation = data.mean((2, 3), keepdim=True), data.std((2, 3), keepdim=True)
    return (data - mean) / deviation.clamp(min=1e-6)


def _volume_network(config: GridPromptEncoderConfig) -> nn.Module:
    from monai.networks.nets.vit import ViT

    network = ViT(
        in_channels=config.channels,
        img_size=config.space,
        patch_size=config.patches,
        hidden_size=config.width,
        mlp_dim=4 * config.width,
        num_layers=config.depth,
        num_heads=config.num_heads,
        spatial_dims=3,
    )
    for block in network.blocks:
        # MONAI makes this norm for a cross-attention that an encoder does not have: it would get no gradient.
        block.norm_cross_attn = nn.Identity()
    return network
