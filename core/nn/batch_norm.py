"""Batch normalisation whose batch is that of all processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """torch's, with the statistics of the rows of all processes together while it trains, on any device.

    torch's ``SyncBatchNorm`` does the same on GPUs alone. Alone it is `torch.nn.BatchNorm2d` to the bit, and its state
    is the same. Processes may hold different numbers of rows, and must come here equally often.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``batch channel H W``, normalised by channel."""
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        x = input.float()
        count = _summed(x.new_tensor([x.numel() / x.shape[1]]))
        mean = _summed(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = _summed(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        normal = centred * (variance + self.eps).rsqrt()[:, None, None]
        return (normal * self.weight[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics, which later read single images."""
        known: Any = self
        known.num_batches_tracked += 1
        known.running_mean.lerp_(mean, self.momentum)
        known.running_var.lerp_(variance, self.momentum)


def _summed(value: Tensor) -> Tensor:
    found: Any = _Summed.apply(value)
    return found


class _Summed(torch.autograd.Function):
    """The sum over the processes; each one's gradient reaches what every process has put in."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total
