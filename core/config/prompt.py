"""How prompts reach a denoiser (method section 2): the table ``prompt`` of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from core.config.toml import Table

PromptForm = Literal["pooled_and_neighbour_tokens", "mixed_pooled", "pooled", "tokens_pooled_size"]
NullPrompt = Literal["learned", "empty_input", "empty_text"]


class PromptChoice(Table):
    """What a denoiser is prompted with (method section 2).

    ``form``: the pooled vector of every prompt and the tokens of trained neighbours (E6b); one ``mixed_pooled`` vector
    as the only token (E4; MedCoDi-M), or one ``pooled`` vector, the same of a single prompt (CoDi_XR); or the tokens,
    the pooled vector and size ids (``tokens_pooled_size``; MediSyn, as Stable Diffusion XL). In every form the mixed
    pooled vector also enters the time embedding of a denoiser that takes one.
    ``sources``: neighbours in either flow, in the align flow only, or the centre only (MediSyn; elsewhere an ablation).
    ``sampling``: one of all non-empty subsets (E5), one prompt, or all that there are.
    ``null``: the null prompt is a ``learned`` token and pooled vector, the encoding of an ``empty_input`` of each
    prompting modality (an empty text, a constant image), or that of an ``empty_text`` alone.
    ``drop``: probability per sample of the null prompt (E6). ``pooled_only``: probability of the pooled vectors without
    tokens, which prepares for prompts of modalities that were never paired with this one (E6b). ``sentence_dropout``:
    probability that a text prompts with some of its sentences only (E6d).
    """

    form: PromptForm
    sampling: Literal["subsets", "single", "all"] = "subsets"
    sources: Literal["any_flow", "align_flow", "centre"] = "any_flow"
    null: NullPrompt = "learned"
    drop: float = Field(default=0.1, ge=0, lt=1)
    pooled_only: float = Field(default=0.0, ge=0, lt=1)
    sentence_dropout: float = Field(default=0.0, ge=0, le=1)
