"""Pictures that look alike: a difference hash of 64 bits, and which of many hashes are near each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SIDE, FINE_SIDE = 8, 16  # areas along a side: of 64 bits to find what is alike, of 256 to be sure of it
_EVEN = 0.002  # of the range of a picture: smaller steps are noise of even areas
_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
_BANDS = 4
_NEIGHBOURS = 64  # in a crowd with one band alike, each is compared with so many


def difference_hash(plane: np.ndarray, side: int = SIDE) -> int:
    """A bit for each of ``side`` x ``side`` areas of a picture ``H W``: whether its right neighbour is brighter.

    N. Krawetz, Kind of Like That (2013). 0 where nothing differs. Robust to size, contrast and compression; mirrored or
    turned pictures differ.
    """
    means = _area_means(np.asarray(plane), (side, side + 1))
    step = np.diff(means, axis=1)
    bits = step > _EVEN * max(float(means.max() - means.min()), 1e-12)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """In how many bits hashes differ: uint64 ``num``, or ``num word`` for longer ones."""
    bits = np.ascontiguousarray(first ^ second)
    return _ONES[bits.view(np.uint8).reshape(len(bits), -1)].sum(axis=-1)


def near_within(hashes: np.ndarray, groups: np.ndarray, most: int) -> np.ndarray:
    """Which hashes differ in at most ``most`` bits from another one of their group; bool, in their order.

    Hashes of 0 say nothing and count as alone.
    """
    near = np.zeros(len(hashes), dtype=bool)
    for places in _members(groups):
        places = places[hashes[places] != 0]
        for first, second in _compared(hashes, places, _NEIGHBOURS * 8, most):
            near[first] = near[second] = True
    return near


def near_across(
    hashes: np.ndarray, fine: np.ndarray, groups: np.ndarray, most: int, most_fine: int
) -> Iterator[tuple[int, int]]:
    """Pairs of different groups whose hashes differ in at most ``most`` < 4 bits, and the fine ones in ``most_fine``.

    Each pair comes once or more. Two such hashes agree in one of four bands of 16 bits at least, so only those are
    compared. Where more than 64 have a band in common each is compared with the 64 next in order: of very many alike,
    not every pair is listed.
    """
    if most >= _BANDS:
        raise ValueError(f"at most {_BANDS - 1} bits, found {most}")
    known = np.flatnonzero(hashes)
    for band in range(_BANDS):
        word = (hashes[known] >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        for members in _members(word):
            places = known[members]
            places = places[np.argsort(hashes[places], kind="stable")]
            for first, second in _compared(hashes, places, _NEIGHBOURS, most, fine, most_fine):
                if groups[first] != groups[second]:
                    yield first, second


def _compared(
    hashes: np.ndarray, places: np.ndarray, ahead: int, most: int, fine: np.ndarray | None = None, most_fine: int = 0
) -> Iterator[tuple[int, int]]:
    """Pairs of near ones, each compared with those at most ``ahead`` places on."""
    for step in range(1, min(ahead + 1, len(places))):
        first, second = places[:-step], places[step:]
        near = distance(hashes[first], hashes[second]) <= most
        first, second = first[near], second[near]
        if fine is not None and len(first):
            near = distance(fine[first], fine[second]) <= most_fine
            first, second = first[near], second[near]
        yield from zip(first.tolist(), second.tolist(), strict=True)


def _members(groups: np.ndarray) -> Iterator[np.ndarray]:
    """The places of every group of two or more."""
    order = np.argsort(groups, kind="stable")
    ends = np.flatnonzero(groups[order][1:] != groups[order][:-1]) + 1
    for members in np.split(order, ends):
        if len(members) > 1:
            yield members


def _area_means(plane: np.ndarray, parts: tuple[int, int]) -> np.ndarray:
    for axis, num in ((1, parts[1]), (0, parts[0])):  # along rows first: their numbers lie side by side
        size = plane.shape[axis]
        edges = np.linspace(0, size, num + 1)
        starts = np.minimum(edges[:-1].astype(int), size - 1)
        counts = np.maximum(np.diff(np.r_[starts, size]), 1)
        plane = np.add.reduceat(plane, starts, axis=axis, dtype=np.float64) / np.expand_dims(counts, 1 - axis)
    return plane
