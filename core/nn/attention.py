"""Attention in one module: every denoiser computes it here, with the kernel that a run chose (decision 22).

The kernels of xformers and the flash kernel are called through diffusers' dispatcher, which knows their layouts. Calls
that a kernel cannot take (its masks, widths or types) go to PyTorch's ``scaled_dot_product_attention``, and so do all
on a CPU, where xformers is never imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from core.errors import UserError

AttentionKernel = Literal["auto", "sdpa", "xformers", "flash"]
_NAMES_IN_DIFFUSERS = {"xformers": "xformers", "flash": "_native_flash"}
_WIDEST_HEAD = 256
_ALIGNMENT = 8  # numbers of a row of a mask in xformers
_TIMED_CALLS = 5


@dataclass
class _Choice:
    """The kernel of this process, for tensors on this type of device; ``faster`` holds what `auto` has measured."""

    kernel: AttentionKernel = "sdpa"
    device: str = "cuda"
    faster: dict[tuple[Any, ...], str] = field(default_factory=dict)


_choice = _Choice()


def use_attention(kernel: AttentionKernel, device: torch.device) -> str:
    """Choose the kernel of this process for a device, and return it.

    ``auto`` is PyTorch's own, but on CUDA where xformers is installed: there both are timed when a shape first occurs,
    and the faster one computes it from then on. The choice may differ between runs by rounding; name a kernel where
    runs have to repeat to the bit. Raises `UserError` for a kernel that this device or installation does not have.
    """
    on_gpu = device.type == "cuda"
    if not on_gpu:
        _hide_xformers()
    if kernel in _NAMES_IN_DIFFUSERS and not on_gpu:
        raise UserError(f"attention '{kernel}' needs an NVIDIA GPU, and this run is on '{device}'; choose auto or sdpa")
    if kernel == "auto" and not (on_gpu and _has_xformers()):
        kernel = "sdpa"
    if kernel in ("auto", "xformers"):
        _bind(_load_xformers())
    choose(kernel, device.type)
    return kernel


def usable(kernel: AttentionKernel, device: torch.device) -> AttentionKernel:
    """Return the kernel of a run for another device or installation: ``auto`` where it is not to be had there."""
    missing = kernel in _NAMES_IN_DIFFUSERS and device.type != "cuda"
    return "auto" if missing or (kernel == "xformers" and not _has_xformers()) else kernel


def choose(kernel: AttentionKernel, device: str) -> None:
    """Set the kernel for tensors on a type of device, without a check."""
    _choice.kernel, _choice.device, _choice.faster = kernel, device, {}


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **options: Any) -> Tensor:
    """Return softmax(query keyᵀ / √width + mask) value, ``batch head token width`` as ``query`` and ``key``.

    ``mask``: bool, true where a query attends, or what is added to the scores; ``batch or 1, head or 1, query or 1,
    length``. ``options``: ``scale`` in place of 1 / √width, ``dropout_p``.
    """
    kernel = _choice.kernel
    if kernel == "sdpa" or query.device.type != _choice.device:
        return _sdpa(query, key, value, mask, **options)
    if kernel == "auto":
        kernel = _faster(query, key, value, mask, options)
    compute = partial(_dispatched, kernel) if _fits(kernel, query, mask) else _sdpa
    return compute(query, key, value, mask, **options)


def by_head(features: Tensor, num_heads: int) -> Tensor:
    """Return ``batch token (head width)`` as ``batch head token width``."""
    return rearrange(features, "batch token (head width) -> batch head token width", head=num_heads)


def heads_joined(attended: Tensor) -> Tensor:
    """Return ``batch head token width`` as ``batch token (head width)``."""
    return rearrange(attended, "batch head token width -> batch token (head width)")


def _sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, **options)


def _dispatched(kernel: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> Tensor:
    """Compute attention by diffusers' dispatcher, whose layout is ``batch token head width``."""
    from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn

    tokens = [rearrange(each, "batch head token width -> batch token head width") for each in (query, key, value)]
    shape = (*query.shape[:3], key.shape[2])
    attended = dispatch_attention_fn(
        *tokens,
        attn_mask=None if mask is None else aligned_mask(mask, shape, query.dtype),
        backend=AttentionBackendName(_NAMES_IN_DIFFUSERS[kernel]),
        **options,
    )
    return rearrange(attended, "batch token head width -> batch head token width")


def aligned_mask(mask: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return what is added to the scores, ``shape``: batch, head, query, length.

    xformers takes no bool, and rows only where each begins at a multiple of 8 numbers.
    """
    if mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, -torch.inf)
    length = mask.shape[-1]
    return F.pad(mask.to(dtype), (0, -length % _ALIGNMENT))[..., :length].expand(shape)


def _fits(kernel: str, query: Tensor, mask: Tensor | None) -> bool:
    """Return whether a kernel takes these widths, this type and this mask."""
    half, width = query.dtype in (torch.float16, torch.bfloat16), query.shape[-1]
    if width > _WIDEST_HEAD or width % (8 if half else 4):
        return False
    return kernel == "xformers" or (kernel == "flash" and half and mask is None)


def _faster(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]) -> str:
    """Return the kernel that was faster for such a call, measured when one first occurs."""
    masked = None if mask is None else (mask.shape, mask.dtype, mask.requires_grad)
    graph = torch.is_grad_enabled() and query.requires_grad
    about = (query.shape, key.shape, query.dtype, masked, graph)
    if about not in _choice.faster:
        with torch.no_grad():
            seconds = {
                kernel: _seconds(compute, query, key, value, mask, options)
                for kernel, compute in (("sdpa", _sdpa), ("xformers", partial(_dispatched, "xformers")))
                if kernel == "sdpa" or _fits(kernel, query, mask)
            }
        _choice.faster[about] = min(seconds, key=lambda kernel: seconds[kernel])
    return _choice.faster[about]


def _seconds(
    compute: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]
) -> float:
    """Return the seconds of a call on the GPU after one that prepares; infinity where the kernel refuses it."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    try:
        compute(query, key, value, mask, **options)
        start.record()
        for _ in range(_TIMED_CALLS):
            compute(query, key, value, mask, **options)
        end.record()
    except (RuntimeError, NotImplementedError, ValueError):
        return float("inf")
    end.synchronize()
    return start.elapsed_time(end) / _TIMED_CALLS / 1000


def _has_xformers() -> bool:
    """Return whether xformers can be imported."""
    try:
        _load_xformers()
    except UserError:
        return False
    return True


def _load_xformers() -> ModuleType:
    """Return ``xformers.ops``; `UserError` where it is missing or was built for another torch."""
    try:
        return import_module("xformers.ops")
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"attention 'xformers': the package does not load ({error}); pip install 'medweave[cuda]', or choose sdpa"
        ) from None


def _hide_xformers() -> None:
    """Let diffusers do without xformers, which its models import where it is installed."""
    if find_spec("xformers") is not None:
        from diffusers.utils import import_utils

        import_utils._xformers_available = False


def _bind(operators: ModuleType) -> None:
    """Give xformers to diffusers' dispatcher, which binds it only where it is present when diffusers is imported."""
    from diffusers.models import attention_dispatch

    attention_dispatch.xops = operators  # type: ignore[attr-defined]
