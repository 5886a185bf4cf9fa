"""Prompts from text (method E1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from core.errors import UserError
from core.nn.bert import bert
from core.nn.prompts.head import PromptHead
from core.types import Batch, Prompt

if TYPE_CHECKING:
    from core.nn.prompts.config import TextPromptEncoderConfig

_OVERLAP = 4  # a window begins with one quarter of the previous window


class TextPromptEncoder(nn.Module):
    """A null token of zeros, then one token per id; see `TextPromptEncoderConfig`. Padding stands on the right."""

    def __init__(self, config: TextPromptEncoderConfig) -> None:
        super().__init__()
        self.width, self.token_width = config.prompt_width, config.width
        self._length, self._dropout = config.length, config.token_dropout
        self._overlap = config.length // _OVERLAP
        self._most = config.length + (config.windows - 1) * (config.length - self._overlap)
        self.network = bert(config.vocabulary, config.length, config.width, config.depth, config.num_heads)
        self.head = PromptHead(config.width, config.prompt_width)

    def forward(self, batch: Batch) -> Prompt:
        """Encode ``batch.data`` int64 ids ``batch length``; ids where ``batch.mask`` is false have no influence.

        Raises `UserError` for more tokens than the encoder was built for.
        """
        ids, length = batch.data, batch.data.shape[1]
        if length > self._most:
            raise UserError(
                f"the prompt encoder takes at most {self._most} tokens, found {length}; cut or split them, or raise"
                " windows"
            )
        mask = torch.ones_like(ids, dtype=torch.bool) if batch.mask is None else batch.mask
        if self.training and self._dropout:
            mask = mask & (torch.rand(mask.shape, device=mask.device) >= self._dropout)
        return self.head(self._features(ids, mask), mask)

    def _features(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return ``batch length width``; tokens of two windows have the features of the first window."""
        windows = [self._read(ids[:, : self._length], mask[:, : self._length])]
        for start in range(self._length - self._overlap, ids.shape[1] - self._overlap, self._length - self._overlap):
            window = slice(start, start + self._length)
            windows.append(self._read(ids[:, window], mask[:, window])[:, self._overlap :])
        return windows[0] if len(windows) == 1 else torch.cat(windows, dim=1)

    def _read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the features of one window, ``batch length width``."""
        # Four axes, as attention expects: of a mask with two, transformers tests whether it is all true, which
        # synchronises the GPU at every step and cannot be decided without data.
        attended = _never_empty(mask)[:, None, None, :].expand(-1, 1, ids.shape[1], -1)
        return self.network(input_ids=ids.masked_fill(~mask, 0), attention_mask=attended).last_hidden_state


def _never_empty(mask: Tensor) -> Tensor:
    """Return the mask with the first column true in rows without tokens: attention to nothing is not a number."""
    first = mask[:, :1] | ~mask.any(dim=1, keepdim=True)
    return torch.cat([first, mask[:, 1:]], dim=1)
