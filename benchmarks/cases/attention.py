"""Kernels of attention on the shapes of the presets, with and without a mask; only where there is a GPU.

Milliseconds of a call, the median of 20, beside PyTorch's own kernel. Without CUDA there is nothing to measure, and the
table says so.
"""

from __future__ import annotations

import statistics
from typing import Any

# batch, heads, queries, length, width of a head: context attention at tiny, self- and cross-attention at paper
SHAPES = ((8, 8, 64, 230, 8), (8, 8, 1024, 1024, 40), (8, 8, 1024, 256, 40), (2, 8, 4096, 4096, 64))
REPEATS = 20


def measure() -> list[dict[str, Any]]:
    """A row per shape, type, mask and kernel."""
    import torch

    from core.errors import UserError
    from core.nn.attention import use_attention

    if not torch.cuda.is_available():
        return [{"kernel": "none", "note": "no GPU: nothing was measured"}]
    rows = []
    for kernel in ("sdpa", "xformers", "flash"):
        try:
            use_attention(kernel, torch.device("cuda"))
        except UserError as error:
            rows.append({"kernel": kernel, "note": str(error)})
            continue
        rows += [
            {"kernel": kernel, "shape": str(shape), "dtype": str(dtype), "mask": masked, "ms": milliseconds(*case)}
            for shape in SHAPES
            for dtype in (torch.float32, torch.bfloat16)
            for masked in (False, True)
            for case in [(shape, dtype, masked)]
        ]
    return rows


def milliseconds(shape: tuple[int, int, int, int, int], dtype: Any, masked: bool) -> float:
    """The median of a call on the GPU."""
    import torch

    from core.nn.attention import attend

    batch, heads, queries, length, width = shape
    query = torch.randn(batch, heads, queries, width, device="cuda", dtype=dtype)
    key, value = (torch.randn(batch, heads, length, width, device="cuda", dtype=dtype) for _ in range(2))
    mask = torch.randn(1, heads, queries, length, device="cuda", dtype=dtype) if masked else None
    times = []
    for _ in range(REPEATS + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        attend(query, key, value, mask)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return round(statistics.median(times[3:]), 4)
