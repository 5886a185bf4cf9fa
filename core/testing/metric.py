"""Laws of a modality's measures."""

from __future__ import annotations

from typing import Any

from core.contract.modality import MetricSpec
from core.testing.laws import Bench, NotApplicable, demand, generator, law
from core.types import Batch


def _specs(bench: Bench) -> list[MetricSpec]:
    specs = [spec for spec in bench.modality.metrics if spec.compares != "single"]
    if not specs:
        raise NotApplicable("no measure that compares")
    return specs


def _value(spec: MetricSpec, synthetic: Batch, real: Batch) -> float:
    metric: Any = spec.build()
    metric.update(synthetic, real)
    return float(metric.compute())


def _spoilt(batch: Batch) -> Batch:
    import torch

    if batch.data.is_floating_point():
        noise = torch.randn(batch.data.shape, generator=generator(4))
        return Batch(modality=batch.modality, data=(batch.data + 0.5 * noise).clamp(-1, 1), mask=batch.mask)
    return Batch(modality=batch.modality, data=batch.data.flip(1), mask=batch.mask)


@law
def itself_is_best(bench: Bench) -> None:
    """Real data against itself is better than spoilt data against it."""
    real = bench.batch()
    for spec in _specs(bench):
        itself, spoilt = _value(spec, real, real), _value(spec, _spoilt(real), real)
        better = itself > spoilt if spec.better == "higher" else itself < spoilt
        demand(better, f"{spec.name}: {itself:.4g} on itself, {spoilt:.4g} on spoilt data, '{spec.better}' is better")


@law
def order_does_not_matter(bench: Bench) -> None:
    """Another order of the samples gives the same value."""
    real, spoilt = bench.batch(), _spoilt(bench.batch())
    order = list(reversed(range(len(real))))
    for spec in _specs(bench):
        straight, turned = _value(spec, spoilt, real), _value(spec, spoilt[order], real[order])
        close = abs(straight - turned) <= 1e-4 * max(1.0, abs(straight))
        demand(close, f"{spec.name}: {straight:.6g} in one order, {turned:.6g} in another")
