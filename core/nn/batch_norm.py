"""Batch normalisation over the rows of all processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation whose training statistics are those of the rows of all processes, on any device.

    torch's ``SyncBatchNorm`` does the same on GPUs only. In a single process it equals `torch.nn.BatchNorm2d` bit for
    bit, and its state is the same. Processes may have different numbers of rows, and must call it equally often.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise ``batch channel H W`` by channel."""
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(input)
        x = input.float()
        count = _summed(x.new_tensor([x.numel() / x.shape[1]]))
        mean = _summed(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = _summed(centred.square().sum((0, 2, 3))) / count
        self._update_running_statistics(mean.detach(), variance.detach() * count / (count - 1))
        normal = centred * (variance + self.eps).rsqrt()[:, None, None]
        return (normal * self.weight[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _update_running_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics, which evaluation of single images uses."""
        buffers: Any = self
        buffers.num_batches_tracked += 1
        buffers.running_mean.lerp_(mean, self.momentum)
        buffers.running_var.lerp_(variance, self.momentum)


def _summed(value: Tensor) -> Tensor:
    total: Any = _Summed.apply(value)
    return total


class _Summed(torch.autograd.Function):
    """The sum over the processes; the gradient of each process reaches the input of all processes."""

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
