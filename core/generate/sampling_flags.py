"""The flags of ``core.generate`` that choose solver, steps and guidance, laid over the run's sampler."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from core.config.sampler import DEFAULT, LARGEST_SCALE, expanded_table
from core.errors import UserError, unknown_name

if TYPE_CHECKING:
    from core.cli.command import Parser
    from core.config.sampler import SamplerChoice

Scales = float | dict[str, float]


def add_sampling_flags(flags: Parser) -> None:
    """Add the flags that `sampler_with` reads, and ``--prompt-weight``."""
    flags.add_argument("--steps", type=int, help="sampling steps (default: the run's)")
    flags.add_argument("--solver", help="ddim, euler, heun or dpmpp_2m (default: the run's)")
    flags.add_argument(
        "--guidance-scale",
        type=scales,
        metavar="SCALE",
        help="classifier-free guidance scale of the prompt, for all outputs or as ct=2,mri=4 (default: the run's)",
    )
    flags.add_argument(
        "--context-scale",
        type=scales,
        metavar="SCALE",
        help="guidance scale of the partners, for all outputs or by modality; 1 adds nothing (default: the run's)",
    )
    flags.add_argument(
        "--guidance-order",
        choices=("prompt_first", "context_first"),
        help="whether prompts are guided without partners, or with them (default: the run's)",
    )
    flags.add_argument(
        "--guidance-interval", type=interval, metavar="FROM,TO", help="guide between two log-SNR only, e.g. -4,3"
    )
    flags.add_argument(
        "--guidance-rescale", type=share, metavar="SHARE", help="share of guidance's contrast to take back, 0 to 1"
    )
    flags.add_argument(
        "--lead", type=shares, metavar="MODALITY=SHARE", help="outputs that run ahead by a share of the steps: text=0.5"
    )
    flags.add_argument(
        "--first",
        metavar="MODALITIES",
        help="outputs that are finished first and then prompt the others, or none (default: the run's)",
    )
    flags.add_argument(
        "--prompt-weight",
        type=weights,
        default={},
        metavar="MODALITY=WEIGHT",
        help="weights of several prompts: text=2,xray_frontal=1 (default: equal)",
    )


def sampler_with(
    sampler: SamplerChoice, options: Namespace, outputs: Collection[str], aliases: Mapping[str, Sequence[str]]
) -> SamplerChoice:
    """Return the run's sampler with the settings of the flags; `UserError` names what is wrong.

    A table of scales replaces those of its modalities, the others keep the run's.
    """
    from pydantic import ValidationError

    from core.config.sampler import SamplerChoice
    from core.errors import format_validation_error

    # Only DDIM draws noise during sampling: another solver replaces the run's without its eta.
    eta = 0.0 if options.solver is not None and options.solver != "ddim" else None
    requested = {
        "steps": options.steps,
        "solver": options.solver,
        "eta": eta,
        "scale": _laid_over(sampler.scale, options.guidance_scale, "--guidance-scale", outputs, aliases),
        "context_scale": _laid_over(sampler.context_scale, options.context_scale, "--context-scale", outputs, aliases),
        "guidance_order": options.guidance_order,
        "interval": options.guidance_interval,
        "rescale": options.guidance_rescale,
        "lead": None if options.lead is None else _named(options.lead, "--lead", outputs, aliases),
        "first": _first(options.first, outputs, aliases),
    }
    changed = {key: value for key, value in requested.items() if value is not None}
    try:
        return SamplerChoice.model_validate(sampler.model_dump() | changed)
    except ValidationError as error:
        raise format_validation_error(error, SamplerChoice, "command line") from None


def with_scales(
    sampler: SamplerChoice,
    scale: Mapping[str, float],
    context_scale: Mapping[str, float],
    outputs: Collection[str],
    aliases: Mapping[str, Sequence[str]],
) -> SamplerChoice:
    """Return a sampler with guidance scales of a row laid over its own; ``default`` is that of all outputs."""
    return sampler.model_copy(
        update={
            "scale": _row_scales(sampler.scale, scale, "guidance_scale", outputs, aliases),
            "context_scale": _row_scales(sampler.context_scale, context_scale, "context_scale", outputs, aliases),
        }
    )


def _row_scales(
    run: Scales, row: Mapping[str, float], column: str, outputs: Collection[str], aliases: Mapping[str, Sequence[str]]
) -> Scales:
    of_all, named = row.get(DEFAULT), {name: number for name, number in row.items() if name != DEFAULT}
    below = run if of_all is None else of_all
    return _laid_over(below, named, column, outputs, aliases) if named else below  # type: ignore[return-value]


def _first(text: str | None, outputs: Collection[str], aliases: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return the outputs that ``--first`` names, ``[]`` for none; `UserError` for what is no output."""
    if text is None or text == "none":
        return None if text is None else []
    names = [member for name in text.split(",") for member in aliases.get(name.strip(), (name.strip(),))]
    for name in names:
        if name not in outputs:
            raise unknown_name("output for --first", name, outputs)
    return list(dict.fromkeys(names))


def require_weights(given: Mapping[str, float], prompts: Collection[str]) -> None:
    """Raise `UserError` for a weight of a prompt that is not given."""
    for name in given:
        if name not in prompts:
            raise unknown_name("prompt for --prompt-weight", name, prompts, adjective="given")
    if given and len(prompts) < 2:
        raise UserError(
            "--prompt-weight: weighs several prompts against each other; give another --prompt, or leave it out"
        )


def _laid_over(
    run: Scales, requested: Scales | None, flag: str, outputs: Collection[str], aliases: Mapping[str, Sequence[str]]
) -> Scales | None:
    if not isinstance(requested, dict):
        return requested
    below = run if isinstance(run, dict) else {DEFAULT: run}
    return {**below, **_named(requested, flag, outputs, aliases)}


def _named(
    table: Mapping[str, float], flag: str, outputs: Collection[str], aliases: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Return numbers by output; those of an alias for its members among the outputs."""
    members = {name: [member for member in group if member in outputs] for name, group in aliases.items()}
    return expanded_table(flag, table, outputs, {name: group for name, group in members.items() if group})


def scales(text: str) -> Scales:
    """Return a scale, or scales by modality from ``ct=2,mri=4``."""
    numbers = _table(text) if "=" in text else {"": finite_number(text)}
    for number in numbers.values():
        if number is None or not 0 <= number <= LARGEST_SCALE:
            raise ArgumentTypeError(
                f"{text}: a scale is a number between 0 and {LARGEST_SCALE:g}, or several as in ct=2,mri=4"
            )
    return {name: float(number or 0) for name, number in numbers.items()} if "=" in text else float(numbers[""] or 0)


def weights(text: str) -> dict[str, float]:
    """Return weights by modality from ``text=2,xray_frontal=1``."""
    return _numbers(text, "a weight is a number above 0, by modality as in text=2,ct=1", lambda number: number > 0)


def shares(text: str) -> dict[str, float]:
    """Return shares by modality from ``text=0.5``."""
    what = "a lead is a share of the steps from 0 to 1, by modality as in text=0.5"
    return _numbers(text, what, lambda number: 0 <= number <= 1)


def share(text: str) -> float:
    """Return a number from 0 to 1."""
    number = finite_number(text)
    if number is None or not 0 <= number <= 1:
        raise ArgumentTypeError(f"{text}: a share is a number from 0 to 1")
    return number


def interval(text: str) -> tuple[float, float]:
    """Return two rising numbers from ``-4,3``."""
    numbers = [finite_number(part) for part in text.split(",")]
    first, last = numbers if len(numbers) == 2 else (None, None)
    if first is None or last is None or first >= last:
        raise ArgumentTypeError(f"{text}: an interval is two log-SNR, the noisier first: -4,3")
    return first, last


def _numbers(text: str, what: str, allowed: Callable[[float], bool]) -> dict[str, float]:
    numbers = {name: number for name, number in _table(text).items() if number is not None and allowed(number)}
    if len(numbers) < len(text.split(",")):
        raise ArgumentTypeError(f"{text}: {what}")
    return numbers


def _table(text: str) -> dict[str, float | None]:
    """Return numbers by name; ``None`` for what is no finite number, and where the name is missing."""
    pairs = [part.partition("=") for part in text.split(",")]
    return {name.strip(): finite_number(number) if name.strip() else None for name, _, number in pairs}


def finite_number(text: str) -> float | None:
    """Return a finite number; ``None`` for anything else."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
