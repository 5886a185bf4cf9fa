"""How outputs are sampled: solver, steps and guidance; in recipes, presets and commands."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from core.config.toml import Table
from core.errors import unknown_name

Solver = Literal["ddim", "euler", "heun", "dpmpp_2m"]
GuidanceOrder = Literal["prompt_first", "context_first"]
DEFAULT = "default"  # the entry of a table of scales for all modalities that it does not name
LARGEST_SCALE = 100.0  # published ones are below 20; beyond it nothing is left but saturated latents


def _checked_scales(value: Any) -> Any:
    """Return a guidance scale as a number, or numbers by modality; `ValueError` for anything else."""
    return _checked_numbers(value, "a guidance scale", LARGEST_SCALE)


def _checked_rescale(value: Any) -> Any:
    """Return a share as a number, or numbers by modality; `ValueError` for anything else."""
    return _checked_numbers(value, "a rescale of guidance", 1)


def _checked_numbers(value: Any, what: str, largest: float) -> Any:
    numbers = value if isinstance(value, Mapping) else {"": value}
    for name, number in numbers.items():
        valid = isinstance(number, int | float) and not isinstance(number, bool)
        if not valid or not math.isfinite(number) or not 0 <= number <= largest:
            named = f" of '{name}'" if name else ""
            raise ValueError(f"{what}{named} is a number between 0 and {largest:g}")
    return value


def _checked_interval(value: Any) -> Any:
    """Return two rising log-SNR; `ValueError` for anything else."""
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(numbers) != 2 or not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        raise ValueError("an interval of guidance is two log-SNR, e.g. [-4, 3]")
    if numbers[0] >= numbers[1]:
        raise ValueError("an interval of guidance rises, from the noisier log-SNR to the cleaner one")
    return value


def _checked_lead(value: Any) -> Any:
    """Return shares of the steps by modality; `ValueError` for anything else."""
    if not isinstance(value, Mapping):
        raise ValueError("the lead is a table of numbers by modality, e.g. { text = 0.3 }")
    for name, number in value.items():
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number <= 1:
            raise ValueError(f"the lead of '{name}' is a share of the steps, from 0 to 1")
    return value


Scales = Annotated[float | dict[str, float], BeforeValidator(_checked_scales)]
Rescale = Annotated[float | dict[str, float], BeforeValidator(_checked_rescale)]
Interval = Annotated[tuple[float, float], BeforeValidator(_checked_interval)]
Lead = Annotated[dict[str, float], BeforeValidator(_checked_lead)]


class SamplerChoice(Table):
    """Sampling of all outputs on one schedule of noise levels (E16), with guidance by prompts and partners (E6, F8).

    ``scale`` is that of the prompt and ``context_scale`` that of the partners: a number for all outputs, or numbers by
    modality (``default`` for those it leaves out, else 1). Both 1 is the plain model. ``guidance_order`` says with
    which of the two the sum of `core.generate.guidance.branch_weights` begins; with ``context_scale`` 1,
    ``context_first`` is the guidance of the papers, whose two halves read the same partners.

    ``interval``: guidance acts between these two log-SNR only (negative where noise prevails). ``rescale``: share phi
    of the contrast that guidance adds, which is taken back; a number, or numbers by modality, else 0.

    ``lead``: share of the steps by which an output runs ahead of the others (F3). ``first``: modalities that, where
    they are an output and no prompt, are finished first and then prompt the other outputs (F3).
    """

    solver: Solver = "ddim"
    steps: int = Field(default=50, ge=1)
    eta: float = Field(default=0.0, ge=0, le=1)
    scale: Scales = 1.0
    context_scale: Scales = 1.0
    guidance_order: GuidanceOrder = "context_first"
    interval: Interval | None = None
    rescale: Rescale = 0.0
    lead: Lead = Field(default_factory=dict)
    first: tuple[str, ...] = ()

    def scale_of(self, modality: str) -> float:
        """Return the guidance scale of the prompt for an output."""
        return number_of(self.scale, modality)

    def context_scale_of(self, modality: str) -> float:
        """Return the guidance scale of the partners for an output."""
        return number_of(self.context_scale, modality)

    def unguided(self, outputs: Iterable[str]) -> tuple[str, ...]:
        """Return the outputs that do not follow their partners: those at context scale 0."""
        return tuple(name for name in outputs if self.context_scale_of(name) == 0)

    def rescale_of(self, modality: str) -> float:
        """Return the share of the contrast that guidance adds to an output, and that is taken back."""
        return number_of(self.rescale, modality, 0.0)


class OtherSampling(Table):
    """Values that replace those of a recipe's sampler at this size.

    The guidance scales and the number of steps that pay off depend on the size.
    """

    solver: Solver | None = None
    steps: int | None = Field(default=None, ge=1)
    eta: float | None = Field(default=None, ge=0, le=1)
    scale: Scales | None = None
    context_scale: Scales | None = None
    guidance_order: GuidanceOrder | None = None
    interval: Interval | None = None
    rescale: Rescale | None = None
    lead: Lead | None = None
    first: tuple[str, ...] | None = None


def number_of(scales: float | Mapping[str, float], modality: str, otherwise: float = 1.0) -> float:
    """Return the number of a modality; where a table leaves it out, its ``default``, or ``otherwise``."""
    return scales.get(modality, scales.get(DEFAULT, otherwise)) if isinstance(scales, Mapping) else scales


def expanded_sampler(
    sampler: SamplerChoice, modalities: Collection[str], aliases: Mapping[str, Sequence[str]], centre: str = ""
) -> SamplerChoice:
    """Return the sampler with aliases in its tables replaced by their members.

    The ``centre`` of alignment may stand there where its plugin is not installed: recipes and presets name it for all.
    Raises `UserError` for a name that is neither a modality nor an alias.
    """
    tables = {key: getattr(sampler, key) for key in ("scale", "context_scale", "rescale", "lead")}
    expanded = {
        key: expanded_table(f"sampler.{key}", table, {*modalities, centre}, aliases)
        for key, table in tables.items()
        if isinstance(table, Mapping)
    }
    for name in sampler.first:
        if name not in modalities and name not in aliases and name != centre:
            raise unknown_name("modality for sampler.first", name, [*modalities, *aliases])
    first = [member for name in sampler.first for member in aliases.get(name, (name,))]
    return sampler.model_copy(update={**expanded, "first": tuple(dict.fromkeys(first))})


def expanded_table(
    source: str, table: Mapping[str, float], modalities: Collection[str], aliases: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Return numbers by modality; an alias stands for its members, and a modality by its name goes before an alias."""
    for name in table:
        if name not in modalities and name not in aliases and name != DEFAULT:
            raise unknown_name(f"modality for {source}", name, [*modalities, *aliases])
    members = {member: number for name, number in table.items() for member in aliases.get(name, ())}
    return members | {name: number for name, number in table.items() if name not in aliases}
