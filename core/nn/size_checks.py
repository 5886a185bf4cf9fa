"""Size checks that several configs share. Each error is one line: the fields, their values, what is allowed."""

from __future__ import annotations

from collections.abc import Sequence

from core.errors import UserError

CONVOLUTION_STRIDE = 8  # of the convolutional stem that cuts an image into patches


def require_multiples(config: str, divisor: str, by: int, **fields: int | Sequence[int]) -> None:
    """Raise `UserError` unless every size in ``fields`` (one or several a field) is a multiple of ``by``."""
    for name, sizes in fields.items():
        several = [sizes] if isinstance(sizes, int) else sizes
        wrong = [size for size in several if size % by]
        if wrong:
            raise UserError(f"{config}: {name} {sizes} must be multiples of {by} ({divisor}), found {_joined(wrong)}")


def require_same_length(config: str, **fields: Sequence[object]) -> None:
    """Raise `UserError` unless all of the named tuples have one item per level."""
    lengths = {name: len(items) for name, items in fields.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise UserError(f"{config}: one item per level is needed, found {shown}")


def require_axes(config: str, space: Sequence[int], allowed: Sequence[int]) -> None:
    """Raise `UserError` unless ``space`` has one of the allowed numbers of axes, each at least 1 long."""
    if len(space) not in allowed or min(space, default=1) < 1:
        axes = " or ".join(map(str, allowed))
        raise UserError(f"{config}: space must have {axes} axes of at least 1, found {tuple(space)}")


def require_equal(config: str, name: str, value: object, expected: object, where: str) -> None:
    """Raise `UserError` unless a field agrees with a weights folder."""
    if value != expected:
        raise UserError(f"{config}: {name} is {value}, but {where} has {expected}; set {name} to {expected}")


def _joined(sizes: Sequence[int]) -> str:
    return ", ".join(str(size) for size in dict.fromkeys(sizes))
