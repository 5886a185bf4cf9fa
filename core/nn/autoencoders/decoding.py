"""How the text autoencoder chooses ids when it writes a text (method E8)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from core.errors import UserError


class Decoding(BaseModel):
    """How the next id is chosen when a text is written (method E8); by default greedily, the most likely.

    ``top_k`` and ``top_p`` draw from the most likely ids, more evenly at a ``temperature`` above 1. ``beams`` above 1
    searches for the most likely text. ``no_repeat`` above 0: no sequence of that many ids occurs twice in a text
    (Paulus et al. 2018).

    ``language`` above 0 adds so many times the score that the same decoder gives without latent (`fused_scores`). A
    sampled latent may lie between two reports; the text alone tells that both together are none. It needs a decoder
    that was trained without latents too (`TextAutoencoderConfig.latent_dropout`).

    ``candidates`` above 1 writes several texts, the likeliest beams or as many draws. The one whose posterior mean is
    nearest to the wanted latent is returned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    top_k: PositiveInt | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    temperature: PositiveFloat = 1.0
    beams: PositiveInt = 1
    no_repeat: NonNegativeInt = 0
    language: NonNegativeFloat = 0.0
    candidates: PositiveInt = 1

    @property
    def random(self) -> bool:
        """Whether ids are drawn."""
        return self.top_k is not None or self.top_p is not None

    @model_validator(mode="after")
    def _require_single_strategy(self) -> Self:
        if self.random and self.beams > 1:
            raise UserError(f"Decoding: beams {self.beams} searches, top_k and top_p draw; choose one of them")
        if not self.random and self.candidates > self.beams:
            raise UserError(
                f"Decoding: {self.candidates} candidates need draws (top_k, top_p) or as many beams, found beams"
                f" {self.beams}"
            )
        return self
