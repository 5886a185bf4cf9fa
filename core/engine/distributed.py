"""The device of a run, the processes that share its work, and the rows of a batch that each of them computes."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from core.errors import UserError
from core.nn.attention import AttentionKernel, use_attention
from core.types import Batch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt
_LARGEST = 2**31 - 1
_LONGEST_WAIT = timedelta(days=7)


class Compute:
    """The device of this process and its index among the processes that torchrun started.

    accelerate starts the processes, wraps modules for averaged gradients and gathers tensors. Its checkpoints are not
    used, since they pickle. ``device``: auto, cpu, cuda, cuda:1, mps. ``attention``: the kernel of all denoisers in
    this process (`use_attention`).
    """

    def __init__(self, device: str = "auto", attention: AttentionKernel = "auto") -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs

        self.device = resolve_device(device)
        self.attention = use_attention(attention, self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        # A step may leave weights without gradient: modalities take turns in a shared network, and prompts are drawn.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        patient = InitProcessGroupKwargs(timeout=_LONGEST_WAIT)  # while the main process measures
        self._accelerator = Accelerator(cpu=self.device.type == "cpu", kwargs_handlers=[unused, patient])
        self.index, self.count = self._accelerator.process_index, self._accelerator.num_processes
        if self.count > 1 and self.device.type == "cuda":
            if self.device.index is not None:
                raise UserError(f"device '{device}' is one GPU, but {self.count} processes run: give --device cuda")
            self.device = self._accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.index == 0

    def to_device(self, value: Any) -> Any:
        """Return a tensor, batch or module on the device.

        On the CPU tensors and batches are copied: memory of numpy is not aligned as that of torch, and sums over
        unaligned memory may round differently from run to run.
        """
        if isinstance(value, nn.Module):
            return value.to(self.device)
        if isinstance(value, Batch):
            mask = None if value.mask is None else self.to_device(value.mask)
            return Batch(modality=value.modality, data=self.to_device(value.data), mask=mask)
        return value.clone() if self.device.type == "cpu" else value.to(self.device)

    def shared(self, module: nn.Module) -> nn.Module:
        """Wrap the module so that ``backward`` averages its gradients over the processes."""
        return module if self.count == 1 else self._accelerator.prepare_model(module, device_placement=False)

    def no_sync(self, module: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
        """Skip the averaging of gradients until the last part of an accumulated step."""
        return nullcontext() if last or self.count == 1 else self._accelerator.no_sync(module)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes, without gradient."""
        value = value.detach()
        return value if self.count == 1 else torch.as_tensor(self._accelerator.reduce(value.clone(), "mean"))

    def all_gather(self, rows: Tensor, size: int) -> Tensor:
        """Return all ``size`` rows of a batch of which each process has its shard, with gradient (method E1, E3).

        Every process must compute the same loss from them; gradients averaged over the processes then equal those of
        one process with the whole batch.
        """
        return rows if self.count == 1 else _Gathered.apply(rows, size, self)  # type: ignore[return-value]

    def gather_rows(self, rows: Tensor, size: int) -> Tensor:
        """Return `all_gather` without gradient. Shards differ by one row at most; short ones are padded on the way."""
        most = -(-size // self.count)
        padded = torch.cat([rows, rows.new_zeros(most - len(rows), *rows.shape[1:])])
        parts = torch.as_tensor(self._accelerator.gather(padded.contiguous())).split(most)
        rows_of_shards = [BatchShard(index, self.count).rows(size) for index in range(self.count)]
        lengths = [rows.stop - rows.start for rows in rows_of_shards]
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def barrier(self) -> None:
        """Wait until all processes have reached this call."""
        if self.count > 1:
            self._accelerator.wait_for_everyone()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process run the block before the others."""
        with self._accelerator.main_process_first():
            yield

    @contextmanager
    def main_alone(self) -> Iterator[None]:
        """Give the threads of all processes of a CPU to the main one, for work that the others wait for."""
        threads = torch.get_num_threads()
        if self.is_main and self.device.type == "cpu":
            torch.set_num_threads(threads * self.count)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

    def solo(self) -> Compute:
        """Return this device with its work to itself: one process, which waits for no other."""
        alone = copy(self)
        alone.index, alone.count = 0, 1
        return alone

    def copy_from_main(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors on the device by those of the main process; all processes give the same shapes in order."""
        if self.count > 1:
            with torch.no_grad():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)

    def forget(self) -> None:
        """Release what was wrapped for a finished stage."""
        if self.count > 1:
            self._accelerator.free_memory()

    def close(self) -> None:
        """Leave the process group."""
        self._accelerator.end_training()


class _Gathered(torch.autograd.Function):
    """Forward: rows of all processes. Backward: rows of this process, times the number of processes averaged over."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, size: int, compute: Compute) -> Tensor:
        ctx.rows, ctx.count = BatchShard(compute.index, compute.count).rows(size), compute.count
        return compute.gather_rows(rows, size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.rows] * ctx.count, None, None


def resolve_device(name: str) -> torch.device:
    """Return the device of a name; `UserError` where it is unknown or unavailable."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"no device '{name}' (known: auto, cpu, cuda, cuda:1, mps); choose one of these") from None
    if device.type == "cuda":
        _require_cuda(name, device)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device 'mps' is not available: this is no Mac with Metal; choose --device cpu")
    elif device.type not in ("cpu", "mps"):
        raise UserError(f"device '{name}' is not supported (known: auto, cpu, cuda, cuda:1, mps)")
    return device


def _require_cuda(name: str, device: torch.device) -> None:
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not num_gpus:
        build = "this torch was built without CUDA" if torch.version.cuda is None else "torch finds no GPU and driver"
        raise UserError(f"device '{name}': {build}; choose --device cpu, or install a CUDA build of torch")
    if device.index is not None and device.index >= num_gpus:
        raise UserError(
            f"device '{name}': there are {num_gpus} GPUs, cuda:0 to cuda:{num_gpus - 1}; choose one of these"
        )


@dataclass(frozen=True)
class BatchShard:
    """Shard ``index`` of ``count``. All draw the same batch and the same noise; each computes its rows.

    A loss that is a mean over rows is taken over the rows of the shard and passed through `weighted`: then the mean
    over all shards is the mean over the whole batch.
    """

    index: int = 0
    count: int = 1

    def rows(self, size: int) -> slice:
        """Return the rows of this shard in a batch of ``size``; `UserError` where some shard would be empty."""
        if size < self.count:
            raise UserError(
                f"a batch of {size} cannot be divided among {self.count} (processes times accumulation): use fewer, or"
                " a larger batch"
            )
        return slice(size * self.index // self.count, size * (self.index + 1) // self.count)

    def weighted(self, terms: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
        """Weigh means over the rows of this shard for the mean over all shards of a batch of ``size``."""
        rows = self.rows(size)
        factor = (rows.stop - rows.start) * self.count / size
        return {name: value if factor == 1 else value * factor for name, value in terms.items()}

    @contextmanager
    def noise(self, size: int) -> Iterator[None]:
        """Make ``torch.randn`` and ``torch.rand`` with a generator draw for the whole batch and return these rows.

        For parts that draw noise themselves: a shard then sees the noise that the whole batch gives its rows.
        """
        if self.count == 1:
            yield
            return
        with _WholeBatchNoise(self.rows(size), size):
            yield


class _WholeBatchNoise(TorchFunctionMode):
    """Widens draws whose first axis has the length of the shard."""

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


def keep_freed_memory() -> None:
    """Let the C library retain freed blocks for the next step; does nothing without glibc.

    By default it returns large blocks at once, and every step allocates thousands of fresh pages (measured: a seventh
    of a step of the image autoencoder at ``tiny``). In exchange the process stays at its peak size.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(_MMAP_THRESHOLD, 2**30)
    library.mallopt(_TRIM_THRESHOLD, _LARGEST)
