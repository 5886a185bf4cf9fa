"""Cross-attention from a denoiser's hidden tokens to the context of its partners (method E13, MedM2G Eq. 6)."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from einops import repeat
from torch import Tensor, nn

from core.errors import UserError
from core.nn.attention import attend, by_head, heads_joined
from core.types import Context

_complete: WeakKeyDictionary[Context, bool] = WeakKeyDictionary()


class ContextAttention(nn.Module):
    """A sublayer with separate query, key and value; a fresh one adds exactly 0 (method E13, MedM2G Eq. 6).

    ``width`` features of a hidden token, a multiple of ``num_heads``; ``context_width`` features of a context token.
    Raises `UserError` where the heads do not divide the width.
    """

    def __init__(self, width: int, context_width: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or width % num_heads:
            raise UserError(f"context attention: width {width} must be a multiple of its number of heads {num_heads}")
        self.num_heads = num_heads
        self.norm_hidden = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(context_width)
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key = nn.Linear(context_width, width, bias=False)
        self.to_value = nn.Linear(context_width, width, bias=False)
        self.to_update = nn.Linear(width, width)
        # Before training, joint generation equals independent generation bit for bit.
        nn.init.zeros_(self.to_update.weight)
        nn.init.zeros_(self.to_update.bias)

    def forward(self, hidden: Tensor, context: Context) -> Tensor:
        """Return the update to add to ``hidden`` ``batch tokens width``, in the same shape and dtype.

        The rows of ``hidden`` may be a multiple of those of ``context``: branches of guidance, one after the other,
        that share it. Its keys and values are then computed once. Raises `UserError` for other numbers of rows.
        """
        # The frozen denoiser may run in bfloat16 while these weights train in float32.
        dtype = self.to_update.weight.dtype
        num = _num_branches(len(hidden), len(context.tokens))
        partners = self.norm_context(context.tokens.to(dtype))
        attended = attend(
            by_head(self.to_query(self.query_tokens(hidden.to(dtype))), self.num_heads),
            repeated(by_head(self.to_key(partners), self.num_heads), num),
            repeated(by_head(self.to_value(partners), self.num_heads), num),
            self.score_mask(context, num),
        )
        return self.to_update(heads_joined(attended)).to(hidden.dtype)

    def query_tokens(self, hidden: Tensor) -> Tensor:
        """Return what the queries are computed from, ``batch tokens width``."""
        return self.norm_hidden(hidden)

    def score_mask(self, context: Context, num: int) -> Tensor | None:
        """Return the mask of the scores for ``num`` branches; ``None`` where every token counts."""
        return None if is_complete(context) else repeated(context.mask[:, None, None, :], num)


def is_complete(context: Context) -> bool:
    """Return whether no token of a context is masked; looked at once, though every site of a forward needs it."""
    known = _complete.get(context)
    if known is None:
        known = _complete[context] = bool(context.mask.all())
    return known


def repeated(rows: Tensor, num: int) -> Tensor:
    """Return rows of a shared context for ``num`` branches, one after the other; a single row as it is."""
    return rows if num == 1 or len(rows) == 1 else repeat(rows, "row ... -> (num row) ...", num=num)


def _num_branches(rows: int, context_rows: int) -> int:
    if rows % context_rows:
        raise UserError(
            f"context attention: {rows} rows of hidden tokens are no multiple of the {context_rows} of context"
        )
    return rows // context_rows
