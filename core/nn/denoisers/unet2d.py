"""The 2-D denoiser: diffusers' ``UNet2DConditionModel`` with sites for context attention (method E10, E13)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, channels_last, nn, tensor

from core.contract.modality import Site
from core.errors import UserError
from core.nn.denoisers.diffusers_attention import use_shared_attention
from core.nn.denoisers.residual_sites import (
    INPUT,
    UpdatedInput,
    install_residual_sites,
    residual_arguments,
    with_update,
)
from core.nn.denoisers.sites import ContextSite, SitedDenoiser, halved, reclass, replace_each, unet_level
from core.nn.pretrained import load_folder, load_levels
from core.nn.size_checks import require_equal, require_multiples
from core.types import Conditioning

if TYPE_CHECKING:
    from core.nn.denoisers.config import GridDenoiserConfig

PIXELS_PER_LATENT = 8
_MIDDLE = "mid_block"
NUM_SIZE_IDS = 6  # original height and width, top and left of the crop, target height and width


class PlaneDenoiser(SitedDenoiser):
    """Latents ``batch channel height width``; see `GridDenoiserConfig`."""

    def __init__(self, config: GridDenoiserConfig) -> None:
        network = _from_scratch(config) if config.init_from is None else _from_folder(config, config.init_from)
        widths = network.config["block_out_channels"]
        sites = [
            Site(path, block.dim, halved(config.space, unet_level(path, len(widths))))
            for path, block in install_diffusers_sites(network).items()
        ]
        sites += install_residual_sites(network, UpdatedConv2d, widths, config.space, _MIDDLE)
        if config.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        trained = None if config.init_from is None else load_levels(config.init_from, "unet")
        super().__init__(
            cast(Any, network).to(memory_format=channels_last),  # faster convolutions, on CPUs too
            sites,
            channels=config.channels,
            space=config.space,
            prompt_width=config.prompt_width,
            pooled_width=config.pooled_width,
            pretrained_log_snr=None if trained is None else trained.log_snr,
            pretrained_objective=None if trained is None else trained.objective,
        )
        self._takes_size_ids = network.config["addition_embed_type"] == "text_time"
        target = tuple(PIXELS_PER_LATENT * size for size in config.space)
        self._size_ids = config.size_ids or (*target, 0, 0, *target)

    def predict(self, noisy: Tensor, timestep: Tensor, conditioning: Conditioning) -> Tensor:
        """Run the network; same shape as ``noisy``."""
        context = conditioning.context
        updates = self.updates(noisy, context)
        return self.network(
            with_update(noisy, updates.get(INPUT)),
            timestep,
            encoder_hidden_states=conditioning.prompt,
            encoder_attention_mask=conditioning.prompt_mask,
            cross_attention_kwargs=None if context is None else {"context": context},
            return_dict=False,
            **residual_arguments(self.network, updates, _MIDDLE),
            **self._pooled_arguments(conditioning),
        )[0]

    def _pooled_arguments(self, conditioning: Conditioning) -> dict[str, Any]:
        """Return the pooled vector as diffusers' class embedding, or as SDXL's added embedding."""
        if self.pooled_width is None:
            return {}
        pooled = conditioning.pooled
        if not self._takes_size_ids:
            return {"class_labels": pooled}
        ids = tensor(self._size_ids, device=conditioning.prompt.device).expand(len(conditioning.prompt), -1)
        return {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}


class UpdatedConv2d(UpdatedInput, nn.Conv2d):  # pyright: ignore[reportIncompatibleMethodOverride]
    """diffusers' first convolution with an update."""


def _from_scratch(config: GridDenoiserConfig) -> UNet2DConditionModel:
    heads = [max(width // head, 1) for width, head in zip(config.widths, config.head_widths, strict=True)]
    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.attention]
    up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(config.attention)]
    sized = config.size_width is not None
    embedded = None if config.pooled_width is None else config.pooled_width + NUM_SIZE_IDS * (config.size_width or 0)
    return UNet2DConditionModel(
        sample_size=(config.space[0], config.space[1]),
        in_channels=config.channels,
        out_channels=config.channels,
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        block_out_channels=config.widths,
        layers_per_block=config.num_blocks,
        attention_head_dim=cast(Any, tuple(heads)),  # diffusers' name for the number of heads
        cross_attention_dim=config.prompt_width,
        norm_num_groups=config.norm_groups,
        class_embed_type=None if config.pooled_width is None or sized else "projection",
        addition_embed_type="text_time" if sized else None,  # diffusers' name for pooled vector and size ids (SDXL)
        addition_time_embed_dim=config.size_width,
        projection_class_embeddings_input_dim=embedded,
    )


def _from_folder(config: GridDenoiserConfig, folder: str) -> UNet2DConditionModel:
    """Load the folder's network; `UserError` where a field that other parts rely on differs from it."""
    network: UNet2DConditionModel = load_folder(UNet2DConditionModel, folder, "unet")
    name, stored, where = type(config).__name__, network.config, f"init_from '{folder}'"
    require_equal(name, "channels", config.channels, stored["in_channels"], where)
    require_equal(name, "prompt_width", config.prompt_width, stored["cross_attention_dim"], where)
    require_equal(name, "pooled_width", config.pooled_width, _pooled_width(stored, where), where)
    levels = len(stored["block_out_channels"])
    require_multiples(name, f"2**(levels - 1) with {levels} levels", 2 ** (levels - 1), space=config.space)
    return network


def _pooled_width(stored: Any, where: str) -> int | None:
    """Return the width of the pooled vector that a network takes; `UserError` for unsupported embeddings."""
    kind, width = stored["addition_embed_type"], stored["projection_class_embeddings_input_dim"]
    if kind == "text_time":
        return width - NUM_SIZE_IDS * stored["addition_time_embed_dim"]  # SDXL joins them to the vector
    if kind is not None or stored["class_embed_type"] not in (None, "projection"):
        raise UserError(f"{where} needs added embeddings of a kind that MedWeave cannot provide: {kind}")
    return width if stored["class_embed_type"] == "projection" else None


class DiffusersTransformerSite(ContextSite, BasicTransformerBlock):
    """diffusers' transformer block, then context attention.

    The context arrives as ``cross_attention_kwargs={"context": Context}``, which diffusers passes to every
    block, through gradient checkpointing too.
    """

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        timestep: Any = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        class_labels: Any = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Transform ``hidden_states`` ``batch tokens width``; same shape out. Other arguments: see diffusers."""
        # A copy: the other blocks, and the recomputation of this one under checkpointing, read the same dictionary.
        kwargs = dict(cross_attention_kwargs or {})
        context = kwargs.pop("context", None)
        hidden = BasicTransformerBlock.forward(
            self,
            hidden_states,
            attention_mask=attention_mask,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            timestep=timestep,
            cross_attention_kwargs=kwargs,
            class_labels=class_labels,
            added_cond_kwargs=added_cond_kwargs,
        )
        return self.joined(hidden, context)


def install_diffusers_sites(network: UNet2DConditionModel) -> dict[str, DiffusersTransformerSite]:
    """Turn every transformer block of ``network`` into a site in place; return the sites by path."""
    sites: dict[str, DiffusersTransformerSite] = {}

    def site_at(path: str, block: nn.Module) -> DiffusersTransformerSite:
        sites[path] = reclass(block, DiffusersTransformerSite)
        use_shared_attention(block)
        sites[path].site = path
        return sites[path]

    replace_each(network, BasicTransformerBlock, site_at)
    return sites
