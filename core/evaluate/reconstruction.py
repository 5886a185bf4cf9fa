"""What the autoencoders preserve of images and texts, and whether a given partner brings an image nearer to the truth.

Images are compared by PSNR, SSIM and mean absolute error, texts by exact match and by the findings that they mention
(method 6). Translation compares generation with and without a given partner (method F3).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from core.data.studies import Studies
from core.errors import UserError
from core.evaluate.bootstrap import ConfidenceInterval, bootstrap, mean_interval, paired_interval
from core.evaluate.table import MetricRow, metric_row
from core.evaluate.test_set import TestSet, TextFindings, joined, reconstruct
from core.generate.bundle import Bundle
from core.types import Batch

DATA_RANGE = 2.0  # of canonical grids, in [-1, 1]
_LEAST = 6  # SSIM's window has 11 points, and its border is mirrored: an axis needs more than half of it
_UNITS = {"psnr_db": "PSNR dB", "ssim": "SSIM"}


def reconstruction_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield PSNR and SSIM of reconstructed images; finding preservation and exact match of reconstructed texts."""
    for name in test_set.run.outputs:
        indices = test_set.indices(name)
        if not indices:
            continue
        batches, patients = test_set.reconstructed(name, indices), test_set.patients(indices)
        kind = test_set.run.parts(name).data.kind
        if kind == "grid":
            real, seed = test_set.data(name, indices), test_set.seed
            quality = reconstruction(real, joined(batches), patients=patients, seed=seed)
            for key, unit in _UNITS.items():
                yield metric_row(f"{name}: autoencoder, {unit}", quality[key])
        elif kind == "tokens":
            yield from _text_rows(test_set, name, indices, batches)


def _text_rows(
    test_set: TestSet, name: str, indices: Sequence[int], reconstructed: Sequence[Batch]
) -> Iterator[MetricRow]:
    patients, seed = test_set.patients(indices), test_set.seed
    before = test_set.texts(name, [test_set.studies.batch(name, indices)])
    after = test_set.texts(name, reconstructed)
    findings = test_set.text_findings(before, indices)
    if any(findings):
        preserved = finding_preservation(findings, test_set.text_findings(after, indices), patients=patients, seed=seed)
        yield metric_row(f"{name}: autoencoder, all findings preserved", preserved.whole)
    yield metric_row(f"{name}: autoencoder, exact match", exact_match_rate(before, after, patients=patients, seed=seed))


def translation_rows(test_set: TestSet) -> Iterator[MetricRow]:
    """Yield PSNR and SSIM against the real image with and without a given partner, from the same noise, unprompted."""
    pairs = [pair for pair in test_set.bundle.trained_pairs if set(pair) <= set(test_set.grids)]
    for given, output in [*pairs, *(pair[::-1] for pair in pairs)]:
        yield from _translation(test_set, given, output)


def _translation(test_set: TestSet, given: str, output: str) -> Iterator[MetricRow]:
    indices = test_set.comparable_indices(given, output)
    if not indices:
        return
    patients, real = test_set.patients(indices), test_set.data(output, indices)
    guided = test_set.generated([output], indices, given=[given], title=f"{output} from {given}")
    alone = test_set.generated([output], indices, couple=False, title=f"{output} alone")
    with_partner, without = (reconstruction_errors(real, joined(ways[output])) for ways in (guided, alone))
    for key, unit in _UNITS.items():
        label = f"{output} from a given {given}: {unit}"
        reference = f"without it {without[key].mean():.3f}"
        yield metric_row(label, mean_interval(with_partner[key], patients, seed=test_set.seed), reference)
        gain = paired_interval(with_partner[key] - without[key], patients, seed=test_set.seed)
        yield metric_row(f"{label} gained", gain)


def validation_reconstruction(bundle: Bundle, studies: Studies, name: str) -> tuple[str, float]:
    """Return the name and the mean of the metric by which training follows an autoencoder, over all ``studies``.

    That is the exact match of token sequences for texts, and the mean absolute error for everything else.
    """
    is_text = studies.parts[name].data.kind == "tokens"
    values: list[float] = []
    for batch in studies.batches(name, studies.indices_with(name)):
        on_device = bundle.networks.compute.to_device(batch)
        reconstructed = reconstruct(bundle, name, on_device)
        if is_text:
            values += exact_matches(_token_rows(on_device), _token_rows(reconstructed))
        else:
            values += mean_absolute_errors(on_device.data, reconstructed.data).float().tolist()
    return "exact match" if is_text else "mean absolute error", sum(values) / len(values)


def _token_rows(batch: Batch) -> list[list[int]]:
    """Return the tokens of every text without padding."""
    rows = range(len(batch))
    return [(batch.data[row] if batch.mask is None else batch.data[row][batch.mask[row]]).tolist() for row in rows]


def reconstruction(
    real: Tensor, reconstructed: Tensor, *, patients: Sequence[Hashable] | None = None, seed: int = 0
) -> dict[str, ConfidenceInterval]:
    """Return the means of `reconstruction_errors` with their intervals by patient."""
    errors = reconstruction_errors(real, reconstructed)
    return {name: mean_interval(values, patients, seed=seed) for name, values in errors.items()}


def reconstruction_errors(real: Tensor, other: Tensor, *, batch: int = 64) -> dict[str, np.ndarray]:
    """Return ``psnr_db``, ``ssim`` and ``mae`` of every sample, float64 ``sample``.

    Both are ``sample channel *space`` in [-1, 1], 2-D or 3-D, in the same order. PSNR is infinite where both are equal.
    Raises `UserError` for images that differ in shape or are too small for SSIM.
    """
    if real.shape != other.shape or real.ndim not in (4, 5) or min(real.shape[2:]) < _LEAST:
        raise UserError(
            f"images are compared that have one shape, 2-D or 3-D, and {_LEAST} points or more along each axis; "
            f"found {tuple(real.shape)} and {tuple(other.shape)}"
        )
    parts = [_errors(*pair) for pair in zip(real.split(batch), other.split(batch), strict=True)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@torch.no_grad()
def _errors(real: Tensor, other: Tensor) -> dict[str, np.ndarray]:
    real, other = real.double().cpu(), other.double().cpu()
    axes = tuple(range(1, real.ndim))
    errors = {
        "psnr_db": peak_signal_noise_ratio(other, real, data_range=DATA_RANGE, reduction="none", dim=axes),
        "ssim": structural_similarity_index_measure(other, real, data_range=DATA_RANGE, reduction="none"),
        "mae": mean_absolute_errors(real, other),
    }
    return {name: np.atleast_1d(np.asarray(value)) for name, value in errors.items()}


def mean_absolute_errors(real: Tensor, other: Tensor) -> Tensor:
    """Return the mean absolute error ``sample`` of data ``sample *rest``."""
    return (other - real).abs().flatten(1).mean(1)


def exact_match_rate(
    before: Sequence[Hashable],
    after: Sequence[Hashable],
    *,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> ConfidenceInterval:
    """Return the rate of `exact_matches` with its interval by patient."""
    return mean_interval(exact_matches(before, after), patients, seed=seed)


def exact_matches(before: Sequence[object], after: Sequence[object]) -> list[float]:
    """Return 1 for every text that came back unchanged, character by character or token by token, and 0 otherwise."""
    return [float(first == second) for first, second in zip(before, after, strict=True)]


@dataclass(frozen=True, kw_only=True)
class FindingPreservation:
    """How many findings a text still mentions after reconstruction.

    ``whole`` is the rate of texts that mention every finding as before. ``precision``: of the findings mentioned as
    present afterwards, those that were; ``recall``: of those that were, those that still are. Both count all findings
    of all texts (micro), and are NaN where there is none.
    """

    whole: ConfidenceInterval
    precision: ConfidenceInterval
    recall: ConfidenceInterval


def finding_preservation(
    before: Sequence[TextFindings],
    after: Sequence[TextFindings],
    *,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> FindingPreservation:
    """Compare the findings of each text before and after reconstruction, in the same order.

    A finding that was mentioned and no longer is counts as lost. A new mention of an absent finding is no loss, a new
    mention of a present finding is.
    """
    pairs = list(zip(before, after, strict=True))
    common = np.array([len(present(first) & present(second)) for first, second in pairs])
    num_before, num_after = (np.array([len(present(findings)) for findings in side]) for side in (before, after))

    def share_of(totals: np.ndarray) -> ConfidenceInterval:
        def statistic(rows: np.ndarray) -> float:
            return float(common[rows].sum() / totals[rows].sum()) if totals[rows].any() else float("nan")

        return bootstrap(statistic, len(pairs), patients=patients, seed=seed)

    return FindingPreservation(
        whole=mean_interval([is_preserved(*pair) for pair in pairs], patients, seed=seed),
        precision=share_of(num_after),
        recall=share_of(num_before),
    )


def is_preserved(before: TextFindings, after: TextFindings) -> bool:
    """Return whether every finding is mentioned as before, and no further one as present."""
    return all(after.get(finding) == value for finding, value in before.items()) and present(after) <= present(before)


def present(findings: TextFindings) -> set[str]:
    """Return the findings that a text mentions as present."""
    return {finding for finding, value in findings.items() if value == 1}
