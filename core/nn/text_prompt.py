"""Prompts from text (METHOD E1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from core.errors import UserError
from core.nn.bert import bert
from core.nn.prompt_head import PromptHead
from core.nn.prompts import TextPromptEncoderConfig
from core.types import Batch, Prompt


class TextPromptEncoder(nn.Module):
    """A learned null token, then one token per id; see `TextPromptEncoderConfig`. Padding stands on the right."""

    def __init__(self, config: TextPromptEncoderConfig) -> None:
        super().__init__()
        self.width = config.prompt_width
        self._length, self._dropout = config.length, config.token_dropout
        self.network = bert(config.vocabulary, config.length, config.width, config.depth, config.num_heads)
        self.head = PromptHead(config.width, config.prompt_width)

    def forward(self, batch: Batch) -> Prompt:
        """``batch.data`` int64 ids ``batch length``, what they are where ``batch.mask`` is false does not matter.

        Raises `UserError` for more tokens than the encoder was made for.
        """
        ids, length = batch.data, batch.data.shape[1]
        if length > self._length:
            raise UserError(
                f"the prompt encoder takes at most {self._length} tokens, found {length}; cut or split them"
            )
        mask = torch.ones_like(ids, dtype=torch.bool) if batch.mask is None else batch.mask
        if self.training and self._dropout:
            mask = mask & (torch.rand(mask.shape, device=mask.device) >= self._dropout)
        # Four axes, as attention wants it: of a mask with two, transformers asks whether it is all true, which
        # stops a GPU's queue at every step and cannot be answered without data.
        attended = _never_empty(mask)[:, None, None, :].expand(-1, 1, length, -1)
        found = self.network(input_ids=ids.masked_fill(~mask, 0), attention_mask=attended)
        return self.head(found.last_hidden_state, mask)


def _never_empty(mask: Tensor) -> Tensor:
    """The mask with the first column true in rows that have no token: attention to nothing is not a number."""
    first = mask[:, :1] | ~mask.any(dim=1, keepdim=True)
    return torch.cat([first, mask[:, 1:]], dim=1)
