"""A perceptual hash of pictures, and which of many hashes are near each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SIDE, FINE_SIDE = 8, 16  # areas along a side: 64 bits to find similar pictures, 256 to be sure of them
_NOISE = 0.002  # of the range of a picture: smaller steps are noise of uniform areas
_ONES = np.array([bin(byte).count("1") for byte in range(256)], dtype=np.uint8)
_BANDS = 4
_NEIGHBOURS = 64  # of many hashes with a band in common, each is compared with so many


def perceptual_hash(plane: np.ndarray, side: int = SIDE) -> int:
    """Return a bit for each of ``side`` x ``side`` areas of a picture ``H W``: whether its right neighbour is brighter.

    A difference hash: N. Krawetz, Kind of Like That (2013). 0 where nothing differs. Robust to size, contrast and
    compression; mirrored or turned pictures differ.
    """
    means = _area_means(np.asarray(plane), (side, side + 1))
    step = np.diff(means, axis=1)
    bits = step > _NOISE * max(float(means.max() - means.min()), 1e-12)
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return in how many bits hashes differ: uint64 ``num``, or ``num word`` for longer hashes."""
    bits = np.ascontiguousarray(first ^ second)
    return _ONES[bits.view(np.uint8).reshape(len(bits), -1)].sum(axis=-1)


def near_within_groups(hashes: np.ndarray, groups: np.ndarray, max_bits: int) -> np.ndarray:
    """Return which hashes differ in at most ``max_bits`` bits from another of their group; bool, in their order.

    Hashes of 0 say nothing and are near none.
    """
    near = np.zeros(len(hashes), dtype=bool)
    for indices in _members(groups):
        indices = indices[hashes[indices] != 0]
        for first, second in _near_pairs(hashes, indices, _NEIGHBOURS * 8, max_bits):
            near[first] = near[second] = True
    return near


def near_across_groups(
    hashes: np.ndarray, fine: np.ndarray, groups: np.ndarray, max_bits: int, max_fine_bits: int
) -> Iterator[tuple[int, int]]:
    """Yield pairs of different groups with hashes at most ``max_bits`` < 4 apart, fine ones at most ``max_fine_bits``.

    Each pair comes once or more. Two such hashes agree in one of four bands of 16 bits at least, so only those are
    compared. Where more than 64 have a band in common each is compared with the 64 next in order: of very many alike,
    not every pair is listed.
    """
    if max_bits >= _BANDS:
        raise ValueError(f"at most {_BANDS - 1} bits, got {max_bits}")
    known = np.flatnonzero(hashes)
    for band in range(_BANDS):
        word = (hashes[known] >> np.uint64(16 * band)) & np.uint64(0xFFFF)
        for members in _members(word):
            indices = known[members]
            indices = indices[np.argsort(hashes[indices], kind="stable")]
            for first, second in _near_pairs(hashes, indices, _NEIGHBOURS, max_bits, fine, max_fine_bits):
                if groups[first] != groups[second]:
                    yield first, second


def _near_pairs(
    hashes: np.ndarray,
    indices: np.ndarray,
    ahead: int,
    max_bits: int,
    fine: np.ndarray | None = None,
    max_fine_bits: int = 0,
) -> Iterator[tuple[int, int]]:
    """Yield pairs of near hashes, each compared with the ``ahead`` next in the order of ``indices``."""
    for step in range(1, min(ahead + 1, len(indices))):
        first, second = indices[:-step], indices[step:]
        near = distance(hashes[first], hashes[second]) <= max_bits
        first, second = first[near], second[near]
        if fine is not None and len(first):
            near = distance(fine[first], fine[second]) <= max_fine_bits
            first, second = first[near], second[near]
        yield from zip(first.tolist(), second.tolist(), strict=True)


def _members(groups: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the indices of every group of two or more."""
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
