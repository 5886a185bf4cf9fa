"""What an autoencoder keeps of an image: PSNR, SSIM and mean absolute error (METHOD 6).

What an autoencoder keeps of a text: do the findings that it tells survive? (METHOD 6)

What the autoencoders keep (METHOD 6).

Is an image that was generated beside a given partner nearer to the truth? (METHOD F3)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from core.errors import UserError
from core.evaluate.bootstrap import Interval, bootstrap, mean_interval, paired_interval
from core.evaluate.table import Line, line
from core.evaluate.test_set import Subjects, joined

DATA_RANGE = 2.0  # of canonical grids, in [-1, 1]
_LEAST = 6  # SSIM's window has 11 points, and its border is mirrored: an axis needs more than half of it


def reconstruction_errors(real: Tensor, made: Tensor, *, batch: int = 64) -> dict[str, np.ndarray]:
    """``psnr_db``, ``ssim`` and ``mae`` of every sample, float64 ``sample``.

    Both ``sample channel *space`` in [-1, 1], 2-D or 3-D, in the same order. PSNR is infinite where both are equal.
    Raises `UserError` for images that differ in shape or are too small for SSIM.
    """
    if real.shape != made.shape or real.ndim not in (4, 5) or min(real.shape[2:]) < _LEAST:
        raise UserError(
            f"images are compared that have one shape, 2-D or 3-D, and {_LEAST} points or more along each axis; "
            f"found {tuple(real.shape)} and {tuple(made.shape)}"
        )
    parts = [_errors(*pair) for pair in zip(real.split(batch), made.split(batch), strict=True)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def reconstruction(
    real: Tensor, made: Tensor, *, patients: Sequence[Hashable] | None = None, seed: int = 0
) -> dict[str, Interval]:
    """The means of `reconstruction_errors` with their intervals by patient."""
    errors = reconstruction_errors(real, made)
    return {name: mean_interval(values, patients, seed=seed) for name, values in errors.items()}


@torch.no_grad()
def _errors(real: Tensor, made: Tensor) -> dict[str, np.ndarray]:
    real, made = real.double().cpu(), made.double().cpu()
    axes = tuple(range(1, real.ndim))
    found = {
        "psnr_db": peak_signal_noise_ratio(made, real, data_range=DATA_RANGE, reduction="none", dim=axes),
        "ssim": structural_similarity_index_measure(made, real, data_range=DATA_RANGE, reduction="none"),
        "mae": (made - real).abs().mean(axes),
    }
    return {name: np.atleast_1d(np.asarray(value)) for name, value in found.items()}


Told = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Survival:
    """``whole``: share of texts that tell of every finding what they told before.

    ``precision``: of the findings called present afterwards, those that were; ``recall``: of those that were, those
    that still are; both over all findings of all texts (micro), NaN where there is none.
    """

    whole: Interval
    precision: Interval
    recall: Interval


def survival(
    told_before: Sequence[Told],
    told_after: Sequence[Told],
    *,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Survival:
    """What each text tells (finding to 1 present or 0 absent; missing: not told) before and after, in the same order.

    A finding that was told and is not any more did not survive; one told as absent that nobody told of before is no
    loss, one told as present is.
    """
    pairs = list(zip(told_before, told_after, strict=True))
    kept = np.array([len(present(before) & present(after)) for before, after in pairs])
    before, after = (np.array([len(present(told)) for told in side]) for side in (told_before, told_after))

    def share(of: np.ndarray) -> Interval:
        def statistic(rows: np.ndarray) -> float:
            return float(kept[rows].sum() / of[rows].sum()) if of[rows].any() else float("nan")

        return bootstrap(statistic, len(pairs), patients=patients, seed=seed)

    whole = [survives(*pair) for pair in pairs]
    return Survival(whole=mean_interval(whole, patients, seed=seed), precision=share(after), recall=share(before))


def survives(before: Told, after: Told) -> bool:
    """Whether every finding is told as before, and none is called present that was not."""
    return all(after.get(finding) == told for finding, told in before.items()) and present(after) <= present(before)


def present(told: Told) -> set[str]:
    """The findings that are told as present."""
    return {finding for finding, value in told.items() if value == 1}


def exact_share(
    before: Sequence[Hashable],
    after: Sequence[Hashable],
    *,
    patients: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Interval:
    """Share of texts that came back as they were, character by character or token by token."""
    same = [first == second for first, second in zip(before, after, strict=True)]
    return mean_interval(same, patients, seed=seed)


def reconstructions(subjects: Subjects) -> Iterator[Line]:
    """PSNR and SSIM of images, findings that survive in texts."""
    for name in subjects.run.outputs:
        places = subjects.places(name)
        if not places:
            continue
        made, who = subjects.reconstructed(name, places), subjects.patients(places)
        kind = subjects.run.parts(name).data.kind
        if kind == "grid":
            found = reconstruction(subjects.data(name, places), joined(made), patients=who, seed=subjects.seed)
            yield line(f"{name}: autoencoder, PSNR dB", found["psnr_db"])
            yield line(f"{name}: autoencoder, SSIM", found["ssim"])
        elif kind == "tokens":
            before = subjects.texts(name, [subjects.studies.batch(name, places)])
            after = subjects.texts(name, made)
            told = subjects.told(before, places)
            if any(told):
                kept = survival(told, subjects.told(after, places), patients=who, seed=subjects.seed)
                yield line(f"{name}: autoencoder, all findings survive", kept.whole)
            yield line(
                f"{name}: autoencoder, word for word", exact_share(before, after, patients=who, seed=subjects.seed)
            )


_UNITS = {"psnr_db": "PSNR dB", "ssim": "SSIM"}


def translations(subjects: Subjects) -> Iterator[Line]:
    """PSNR and SSIM against the real image, with and without a given partner, from the same noise and no prompt."""
    both = [pair for pair in subjects.bundle.trained_pairs if set(pair) <= set(subjects.grids)]
    for given, output in [*both, *(pair[::-1] for pair in both)]:
        yield from _of(subjects, given, output)


def _of(subjects: Subjects, given: str, output: str) -> Iterator[Line]:
    places = subjects.enough(given, output)
    if not places:
        return
    who, real = subjects.patients(places), subjects.data(output, places)
    guided = subjects.generated([output], places, given=[given], title=f"{output} from {given}")
    alone = subjects.generated([output], places, couple=False, title=f"{output} alone")
    errors = [reconstruction_errors(real, joined(made[output])) for made in (guided, alone)]
    for key, unit in _UNITS.items():
        with_partner, without = (one[key] for one in errors)
        beside = f"without it {without.mean():.3f}"
        label = f"{output} from a given {given}"
        yield line(f"{label}: {unit}", mean_interval(with_partner, who, seed=subjects.seed), beside)
        yield line(f"{label}: {unit} gained", paired_interval(with_partner - without, who, seed=subjects.seed))
