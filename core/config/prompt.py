"""The forms in which prompts reach a denoiser (method section 2)."""

from __future__ import annotations

from typing import Literal

PromptForm = Literal["pooled_and_neighbour_tokens", "mixed_pooled", "pooled", "tokens_pooled_size"]
