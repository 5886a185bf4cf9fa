"""Is an image that was generated beside a given partner nearer to the truth? (METHOD F3)"""

from __future__ import annotations

from collections.abc import Iterator

from core.curriculum.measures.subjects import Subjects, joined
from core.curriculum.table import Line, line
from core.evaluate.interval import mean_interval, paired_interval
from core.evaluate.reconstruction import reconstruction_errors

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
