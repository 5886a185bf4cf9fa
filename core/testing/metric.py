"""Contract checks of a modality's measures."""

from __future__ import annotations

from typing import Any

from core.contract.modality import MetricSpec
from core.testing.checks import CheckContext, NotApplicable, check, generator, require
from core.types import Batch


def _specs(ctx: CheckContext) -> list[MetricSpec]:
    specs = [spec for spec in ctx.modality.metrics if spec.compares != "single"]
    if not specs:
        raise NotApplicable("no measure that compares")
    return specs


def _value(spec: MetricSpec, synthetic: Batch, real: Batch) -> float:
    metric: Any = spec.build()
    metric.update(synthetic, real)
    return float(metric.compute())


def _degraded(batch: Batch) -> Batch:
    import torch

    if batch.data.is_floating_point():
        noise = torch.randn(batch.data.shape, generator=generator(4))
        return Batch(modality=batch.modality, data=(batch.data + 0.5 * noise).clamp(-1, 1), mask=batch.mask)
    return Batch(modality=batch.modality, data=batch.data.flip(1), mask=batch.mask)


@check
def itself_is_best(ctx: CheckContext) -> None:
    """Real data compared with itself scores better than degraded data."""
    real = ctx.batch()
    for spec in _specs(ctx):
        itself, degraded = _value(spec, real, real), _value(spec, _degraded(real), real)
        better = itself > degraded if spec.better == "higher" else itself < degraded
        require(
            better, f"{spec.name}: {itself:.4g} on itself, {degraded:.4g} on degraded data, '{spec.better}' is better"
        )


@check
def order_does_not_matter(ctx: CheckContext) -> None:
    """Another order of the samples gives the same value."""
    real, degraded = ctx.batch(), _degraded(ctx.batch())
    order = list(reversed(range(len(real))))
    for spec in _specs(ctx):
        straight, turned = _value(spec, degraded, real), _value(spec, degraded[order], real[order])
        close = abs(straight - turned) <= 1e-4 * max(1.0, abs(straight))
        require(close, f"{spec.name}: {straight:.6g} in one order, {turned:.6g} in another")
