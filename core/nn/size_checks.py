"""Rules on sizes that several configs share. Each breach is one line: the fields, what was found, what is allowed."""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import UserError

CONVOLUTION_STRIDE = 8  # of the stem that cuts a picture into patches


def divides(config: str, divisor: str, by: int, **found: int | Sequence[int]) -> None:
    """`UserError` unless every number in ``found`` (field name to one or several sizes) is a multiple of ``by``."""
    for name, sizes in found.items():
        several = [sizes] if isinstance(sizes, int) else sizes
        wrong = [size for size in several if size % by]
        if wrong:
            raise UserError(f"{config}: {name} {sizes} must be multiples of {by} ({divisor}), found {_joined(wrong)}")


def same_length(config: str, **found: Sequence[object]) -> None:
    """`UserError` unless all of the named tuples have one item per level."""
    lengths = {name: len(items) for name, items in found.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UserError(f"{config}: one item per level is needed, found {shown}")


def has_axes(config: str, space: Sequence[int], allowed: Sequence[int]) -> None:
    """`UserError` unless ``space`` has one of the allowed numbers of axes, each at least 1 long."""
    if len(space) not in allowed or min(space, default=1) < 1:
        axes = " or ".join(map(str, allowed))
        raise UserError(f"{config}: space must have {axes} axes of at least 1, found {tuple(space)}")


def equal(config: str, name: str, found: object, expected: object, where: str) -> None:
    """`UserError` unless a field agrees with what a weights folder says."""
    if found != expected:
        raise UserError(f"{config}: {name} is {found}, but {where} has {expected}; set {name} to {expected}")


def _joined(sizes: Sequence[int]) -> str:
    return ", ".join(str(size) for size in dict.fromkeys(sizes))
