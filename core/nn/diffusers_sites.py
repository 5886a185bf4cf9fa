"""Sites in diffusers' ``UNet2DConditionModel`` (METHOD E13)."""

from __future__ import annotations

from typing import Any

from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from core.nn.sites import ContextSite, adopt, replace_each


class DiffusersTransformerSite(ContextSite, BasicTransformerBlock):
    """diffusers' transformer block, then context attention.

    The context arrives as ``cross_attention_kwargs={"context": Context}``, which diffusers hands down to every
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
        """``hidden_states`` ``batch tokens width``, same shape out; the other arguments are diffusers' own."""
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


def offer_diffusers_sites(network: UNet2DConditionModel) -> dict[str, DiffusersTransformerSite]:
    """Adopt every transformer block of ``network`` in place; path of the block to the site that it became."""
    sites: dict[str, DiffusersTransformerSite] = {}

    def adopted(path: str, block: nn.Module) -> DiffusersTransformerSite:
        sites[path] = adopt(block, DiffusersTransformerSite)
        sites[path].site = path
        return sites[path]

    replace_each(network, BasicTransformerBlock, adopted)
    return sites
