"""What is there more than once: the same bytes, the same pixels under another name, near-copies, the same words."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from itertools import chain, islice

import numpy as np

from core.data.audit.file_facts import Facts
from core.data.audit.findings import EXAMPLES, Finding, Names, Verdict, share
from core.data.audit.image_hash import near_across, near_within
from core.data.fingerprint import hash64
from core.types import LABEL_UNITS

_NEAR_WITHIN = 8  # bits of 64
# Copies of radiographs at half the size or compressed anew differ in at most 3 bits of 64 and 10 of 256, radiographs of
# two patients in 20 of 256 at least (2,248 frontal ones, openi_cxr).
_NEAR_ACROSS, _NEAR_ACROSS_FINE = 3, 12
_WORDS = 4  # of 64 bits
_FEW_WORDS = 5  # a caption of so few words says nothing of its patient


class Owners:
    """Whose each file is: its number, its patient and its split; 17 bytes."""

    def __init__(self, names: Names) -> None:
        self._names, self._numbers, self._patients, self._splits = names, array("L"), array("Q"), array("B")
        self._known: dict[str, int] = {}

    def add(self, facts: Facts) -> None:
        """One more."""
        self._numbers.append(self._names.last)
        self._patients.append(hash64(facts["patient"]))
        self._splits.append(self._known.setdefault(facts["split"], len(self._known)))

    def name(self, place: int) -> str:
        """The name of one of them."""
        return self._names[self._numbers[place]]

    @property
    def patients(self) -> np.ndarray:
        """A hash of the patient of each, uint64."""
        return np.array(self._patients, dtype=np.uint64)

    @property
    def splits(self) -> np.ndarray:
        """A number for the split of each, uint8."""
        return np.array(self._splits, dtype=np.uint8)


class Alike:
    """Groups of equal hashes: how many files are in one, and in one that joins patients, or splits."""

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
        """The first two of some groups; those that join splits go first, then those that join patients."""
        found = []
        for group in np.flatnonzero(self._shown)[:EXAMPLES]:
            start = self._starts[group]
            found.append(" = ".join(self._owners.name(int(place)) for place in self._order[start : start + 2]))
        return tuple(found)

    def _differ(self, owners: np.ndarray) -> np.ndarray:
        if not self.num:
            return np.zeros(0, dtype=bool)
        sorted_ = owners[self._order]
        return np.minimum.reduceat(sorted_, self._starts) != np.maximum.reduceat(sorted_, self._starts)


class Copies:
    """Files that are copies of each other; across splits that is a leak. Of even ones `Values` tells."""

    def __init__(self, modality: str, names: Names, units: str) -> None:
        self.modality, self.owners = modality, Owners(names)
        self.content, self.pixels, self.looks, self.fine = array("Q"), array("Q"), array("Q"), array("Q")
        self.maps = units == LABEL_UNITS  # label maps of different patients are alike, and often empty

    def add(self, facts: Facts) -> None:
        """Keep its hashes: 56 bytes."""
        if "look" not in facts or (facts["low"] == facts["high"] and facts["low"] is not None):
            return
        self.owners.add(facts)
        self.content.append(facts["content"])
        self.pixels.append(facts["pixels"])
        self.looks.append(facts["look"])
        self.fine.extend(int(facts["fine"][16 * word : 16 * word + 16], 16) for word in range(_WORDS))

    def findings(self) -> Iterator[Finding]:
        """Equal bytes, equal pixels, near-copies."""
        if not len(self.content):
            return
        yield self._equal("same bytes", np.array(self.content, dtype=np.uint64))
        yield self._equal("same pixels", np.array(self.pixels, dtype=np.uint64))
        if not self.maps:
            looks = np.array(self.looks, dtype=np.uint64)
            yield self._near_within(looks)
            yield self._near_across(looks)

    def _equal(self, check: str, hashes: np.ndarray) -> Finding:
        alike = Alike(hashes, self.owners)
        verdict: Verdict = "error" if alike.across_splits and not self.maps else "warning" if alike.files else "ok"
        told = (
            f"{share(alike.files, alike.num)} stand there under several names ({alike.across_patients:,} for several"
            f" patients, {alike.across_splits:,} in several splits)"
        )
        return Finding(
            check=check,
            where=self.modality,
            verdict=verdict,
            told=told,
            count=alike.files,
            num=alike.num,
            examples=alike.examples(),
            numbers={"groups": alike.groups, "patients": alike.across_patients, "splits": alike.across_splits},
        )

    def _near_within(self, looks: np.ndarray) -> Finding:
        count, num = int(near_within(looks, self.owners.patients, _NEAR_WITHIN).sum()), len(looks)
        return Finding(
            check="near-copies of one patient",
            where=self.modality,
            verdict="warning" if 2 * count > num else "ok",
            told=f"{share(count, num)} look almost like another file of their patient, as neighbouring slices do: they"
            " count less than their number",
            count=count,
            num=num,
        )

    def _near_across(self, looks: np.ndarray) -> Finding:
        splits, patients = self.owners.splits, self.owners.patients
        fine = np.array(self.fine, dtype=np.uint64).reshape(-1, _WORDS)
        pairs = near_across(looks, fine, patients, _NEAR_ACROSS, _NEAR_ACROSS_FINE)
        equal = np.array(self.pixels, dtype=np.uint64)
        found, across, examples = set[int](), set[int](), list[str]()
        for first, second in pairs:
            if equal[first] == equal[second]:
                continue
            found |= {first, second}
            if splits[first] != splits[second]:
                across |= {first, second}
            if len(examples) < EXAMPLES:
                examples.append(f"{self.owners.name(first)} ~ {self.owners.name(second)}")
        count = share(len(found), len(looks))
        return Finding(
            check="near-copies of two patients",
            where=self.modality,
            verdict="warning" if found else "ok",
            told=f"{count} look almost like a file of another patient ({len(across):,} in another split): look at them",
            count=len(found),
            num=len(looks),
            examples=tuple(examples),
            numbers={"splits": len(across)},
        )


class Repeats:
    """Texts, and sections of them, that are those of other patients word by word."""

    def __init__(self, modality: str, names: Names) -> None:
        self.modality, self.names, self.owners, self.words = modality, names, Owners(names), array("Q")
        self.parts: dict[str, tuple[Owners, array[int]]] = {}

    def add(self, facts: Facts) -> None:
        """Keep a hash of the words and of those of each section."""
        if facts.get("words", 0) < _FEW_WORDS:
            return
        self.owners.add(facts)
        self.words.append(facts["pixels"])
        for name, said in facts["parts"].items():
            owners, words = self.parts.setdefault(name, (Owners(self.names), array("Q")))
            owners.add(facts)
            words.append(said)

    def findings(self) -> Iterator[Finding]:
        """The whole text, then each section."""
        if not len(self.words):
            return
        parts = ((f"{self.modality}, {name}", *both) for name, both in sorted(self.parts.items()))
        for where, owners, words in chain([(self.modality, self.owners, self.words)], parts):
            alike = Alike(np.array(words, dtype=np.uint64), owners)
            yield Finding(
                check="same words, two patients",
                where=where,
                verdict="warning" if alike.across_splits else "ok",
                told=f"{share(alike.across_patients, alike.num)} are those of another patient too, word by word"
                f" ({alike.across_splits:,} in several splits): compare scores with those of the nearest training text",
                count=alike.across_patients,
                num=alike.num,
                examples=tuple(islice(alike.examples(), EXAMPLES if alike.across_patients else 0)),
                numbers={"groups": alike.groups, "splits": alike.across_splits},
            )
