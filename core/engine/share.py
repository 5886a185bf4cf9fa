"""Which rows of a drawn batch one process, or one part of an accumulated step, computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from core.errors import UserError


@dataclass(frozen=True)
class Share:
    """Part ``index`` of ``count``. All draw the same batch and the same noise; each computes its own rows.

    A loss that is a mean over rows is right when it is taken over the rows of the share and given to `weighted`: then
    the mean over all shares is the mean over the whole batch.
    """

    index: int = 0
    count: int = 1

    def rows(self, size: int) -> slice:
        """The rows of this share in a batch of ``size``; `UserError` where some share would be empty."""
        if size < self.count:
            raise UserError(
                f"a batch of {size} cannot be shared by {self.count} (processes times accumulation): use fewer, or a"
                " larger batch"
            )
        return slice(size * self.index // self.count, size * (self.index + 1) // self.count)

    def weighted(self, terms: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
        """Means over the rows of this share, weighted for the mean over all shares of a batch of ``size``."""
        rows = self.rows(size)
        factor = (rows.stop - rows.start) * self.count / size
        return {name: value if factor == 1 else value * factor for name, value in terms.items()}

    @contextmanager
    def noise(self, size: int) -> Iterator[None]:
        """Inside, ``torch.randn`` and ``torch.rand`` with a generator draw for the whole batch and keep these rows.

        For parts that draw their own noise, so that a share sees the noise that the whole batch would give its rows.
        """
        if self.count == 1:
            yield
            return
        with _WholeBatchNoise(self.rows(size), size):
            yield


class _WholeBatchNoise(TorchFunctionMode):
    """Widens draws whose first axis is that of the share."""

    def __init__(self, rows: slice, size: int) -> None:
        super().__init__()
        self.rows, self.size = rows, size

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.randn, torch.rand) and kwargs.get("generator") is not None:
            shape = tuple(args) if args and isinstance(args[0], int) else tuple(kwargs.get("size", *args))
            if shape and shape[0] == self.rows.stop - self.rows.start:
                rest = {name: value for name, value in kwargs.items() if name != "size"}
                return func((self.size, *shape[1:]), **rest)[self.rows]
        return func(*args, **kwargs)
