"""Checks for duplicates: the same bytes, the same pixels under another name, near-copies, the same words."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np

from core.data.audit.file_facts import Facts
from core.data.audit.findings import EXAMPLES, Finding, NameIndex, Verdict, share
from core.data.audit.image_hash import near_across_groups, near_within_groups
from core.data.fingerprint import hash64
from core.types import LABEL_UNITS

_NEAR_WITHIN = 8  # bits of 64
# Copies of radiographs at half the size or compressed anew differ in at most 3 bits of 64 and 10 of 256, radiographs of
# two patients in 20 of 256 at least (2,248 frontal ones, openi_cxr).
_NEAR_ACROSS, _NEAR_ACROSS_FINE = 3, 12
_WORDS = 4  # of 64 bits
_FEW_WORDS = 5  # a caption of so few words does not identify its patient


class Owners:
    """The number, the patient and the split of each file; 17 bytes."""

    def __init__(self, names: NameIndex) -> None:
        self._names, self._numbers, self._patients, self._splits = names, array("L"), array("Q"), array("B")
        self._split_numbers: dict[str, int] = {}

    def add(self, facts: Facts) -> None:
        """Record the owner of one more file."""
        self._numbers.append(self._names.last)
        self._patients.append(hash64(facts["patient"]))
        self._splits.append(self._split_numbers.setdefault(facts["split"], len(self._split_numbers)))

    def name(self, index: int) -> str:
        """Return the name of a file."""
        return self._names[self._numbers[index]]

    @property
    def patients(self) -> np.ndarray:
        """Return a hash of the patient of each, uint64."""
        return np.array(self._patients, dtype=np.uint64)

    @property
    def splits(self) -> np.ndarray:
        """Return a number for the split of each, uint8."""
        return np.array(self._splits, dtype=np.uint8)


class EqualGroups:
    """Groups of equal hashes: how many files are in a group, and in a group of several patients or splits."""

    def __init__(self, hashes: np.ndarray, owners: Owners) -> None:
        order = np.argsort(hashes, kind="stable")
        starts = np.flatnonzero(np.r_[True, hashes[order][1:] != hashes[order][:-1]]) if len(hashes) else order
        sizes = np.diff(np.r_[starts, len(order)])
        self.num, self._order, self._starts, self._sizes = len(hashes), order, starts, sizes
        several = sizes > 1
        self._patients = several & self._differ(owners.patients)
        self._splits = several & self._differ(owners.splits)
        self.files, self.groups = int(sizes[several].sum()), int(several.sum())
        self.across_patients = int(sizes[self._patients].sum())
        self.across_splits = int(sizes[self._splits].sum())
        self._owners = owners
        self._shown = self._splits if self._splits.any() else self._patients if self._patients.any() else several

    def examples(self) -> tuple[str, ...]:
        """Return the first two of some groups: of several splits where there are such, else of several patients."""
        examples = []
        for group in np.flatnonzero(self._shown)[:EXAMPLES]:
            start = self._starts[group]
            examples.append(" = ".join(self._owners.name(int(index)) for index in self._order[start : start + 2]))
        return tuple(examples)

    def _differ(self, owners: np.ndarray) -> np.ndarray:
        if not self.num:
            return np.zeros(0, dtype=bool)
        sorted_ = owners[self._order]
        return np.minimum.reduceat(sorted_, self._starts) != np.maximum.reduceat(sorted_, self._starts)


class DuplicateFiles:
    """Files that are copies of each other; across splits that is a leak. `Values` counts constant images."""

    def __init__(self, modality: str, names: NameIndex, units: str) -> None:
        self.modality, self.owners = modality, Owners(names)
        self.content, self.pixels, self.hashes, self.fine = array("Q"), array("Q"), array("Q"), array("Q")
        self.maps = units == LABEL_UNITS  # label maps of different patients are alike, and often empty

    def add(self, facts: Facts) -> None:
        """Record its hashes: 56 bytes."""
        if "look" not in facts or (facts["low"] == facts["high"] and facts["low"] is not None):
            return
        self.owners.add(facts)
        self.content.append(facts["content"])
        self.pixels.append(facts["pixels"])
        self.hashes.append(facts["look"])
        self.fine.extend(int(facts["fine"][16 * word : 16 * word + 16], 16) for word in range(_WORDS))

    def findings(self) -> Iterator[Finding]:
        """Yield equal bytes, equal pixels, near-copies."""
        if not len(self.content):
            return
        yield self._equal("same bytes", np.array(self.content, dtype=np.uint64))
        yield self._equal("same pixels", np.array(self.pixels, dtype=np.uint64))
        if not self.maps:
            hashes = np.array(self.hashes, dtype=np.uint64)
            yield self._near_within(hashes)
            yield self._near_across(hashes)

    def _equal(self, check: str, hashes: np.ndarray) -> Finding:
        groups = EqualGroups(hashes, self.owners)
        verdict: Verdict = "error" if groups.across_splits and not self.maps else "warning" if groups.files else "ok"
        message = (
            f"{share(groups.files, groups.num)} are there under several names ({groups.across_patients:,} for several"
            f" patients, {groups.across_splits:,} in several splits)"
        )
        return Finding(
            check=check,
            where=self.modality,
            verdict=verdict,
            message=message,
            count=groups.files,
            num=groups.num,
            examples=groups.examples(),
            numbers={"groups": groups.groups, "patients": groups.across_patients, "splits": groups.across_splits},
        )

    def _near_within(self, hashes: np.ndarray) -> Finding:
        count, num = int(near_within_groups(hashes, self.owners.patients, _NEAR_WITHIN).sum()), len(hashes)
        return Finding(
            check="near-copies of one patient",
            where=self.modality,
            verdict="warning" if 2 * count > num else "ok",
            message=f"{share(count, num)} look almost like another file of their patient, as neighbouring slices do:"
            " they count less than their number",
            count=count,
            num=num,
        )

    def _near_across(self, hashes: np.ndarray) -> Finding:
        splits, patients = self.owners.splits, self.owners.patients
        fine = np.array(self.fine, dtype=np.uint64).reshape(-1, _WORDS)
        pairs = near_across_groups(hashes, fine, patients, _NEAR_ACROSS, _NEAR_ACROSS_FINE)
        equal = np.array(self.pixels, dtype=np.uint64)
        near, across, examples = set[int](), set[int](), list[str]()
        for first, second in pairs:
            if equal[first] == equal[second]:
                continue
            near |= {first, second}
            if splits[first] != splits[second]:
                across |= {first, second}
            if len(examples) < EXAMPLES:
                examples.append(f"{self.owners.name(first)} ~ {self.owners.name(second)}")
        count = share(len(near), len(hashes))
        return Finding(
            check="near-copies of two patients",
            where=self.modality,
            verdict="warning" if near else "ok",
            message=f"{count} look almost like a file of another patient ({len(across):,} in another split): compare"
            " them",
            count=len(near),
            num=len(hashes),
            examples=tuple(examples),
            numbers={"splits": len(across)},
        )


class RepeatedTexts:
    """Texts, and sections of them, that have the same words as those of other patients."""

    def __init__(self, modality: str, names: NameIndex) -> None:
        self.modality, self.names, self.owners, self.words = modality, names, Owners(names), array("Q")
        self.parts: dict[str, tuple[Owners, array[int]]] = {}

    def add(self, facts: Facts) -> None:
        """Record a hash of the words and of those of each section."""
        if facts.get("words", 0) < _FEW_WORDS:
            return
        self.owners.add(facts)
        self.words.append(facts["pixels"])
        for name, section in facts["parts"].items():
            owners, words = self.parts.setdefault(name, (Owners(self.names), array("Q")))
            owners.add(facts)
            words.append(section)

    def findings(self) -> Iterator[Finding]:
        """Yield the whole text, then each section."""
        if not len(self.words):
            return
        parts = ((f"{self.modality}, {name}", *both) for name, both in sorted(self.parts.items()))
        for where, owners, words in chain([(self.modality, self.owners, self.words)], parts):
            groups = EqualGroups(np.array(words, dtype=np.uint64), owners)
            yield Finding(
                check="same text, two patients",
                where=where,
                verdict="warning" if groups.across_splits else "ok",
                message=f"{share(groups.across_patients, groups.num)} have the same words as another patient's"
                f" ({groups.across_splits:,} in several splits): compare scores with those of the"
                " nearest training text",
                count=groups.across_patients,
                num=groups.num,
                examples=tuple(islice(groups.examples(), EXAMPLES if groups.across_patients else 0)),
                numbers={"groups": groups.groups, "splits": groups.across_splits},
            )
