"""Who is in a data set: patients, splits, pairs of modalities, labels. Looked at while the manifest is written."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import get_args

from core.data.audit.findings import EXAMPLES, Finding, share
from core.data.fingerprint import hash64
from core.types import Record, Split

_SPLITS: tuple[str, ...] = get_args(Split)
_FEW = 30  # patients: with fewer, what differs between two of them may be all that differs


class Population:
    """Counts; of a patient a hash and a byte are kept."""

    def __init__(self) -> None:
        self.num = 0
        self.files: Counter[str] = Counter()
        self._held: Counter[tuple[frozenset[str], str]] = Counter()
        self._splits: dict[int, int] = {}
        self._leaks: list[str] = []
        self._spare: Counter[str] = Counter()
        self._labels: Counter[str] = Counter()
        self._unlabelled: list[str] = []
        self._num_unlabelled = 0
        self._masks = self._num_lost = 0
        self._lost: list[str] = []

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that any study holds, in the order of their names."""
        return tuple(sorted(self.files))

    @property
    def num_patients(self) -> int:
        """Different patients."""
        return len(self._splits)

    def add(self, record: Record) -> None:
        """Count one study."""
        self.num += 1
        names = [name for name in {**record.files, **record.texts} if record.has(name)]
        for name in names:
            count = 1 if name in record.texts else len(record.files[name])
            self.files[name] += count
            self._spare[name] += count - 1
        self._held[frozenset(names), record.split] += 1
        self._add_patient(record)
        self._labels.update(name for name, value in record.labels.items() if value)
        if not record.labels:
            self._num_unlabelled += 1
            self._unlabelled += [record.study][: EXAMPLES - len(self._unlabelled)]
        self._masks += len(record.masks)
        lost = [str(path) for path in record.masks.values() if not os.path.exists(path)]  # noqa: PTH110 - never raises
        self._num_lost += len(lost)
        self._lost += lost[: EXAMPLES - len(self._lost)]

    def lose(self, record: Record, names: Collection[str]) -> None:
        """Count a study anew that has lost these modalities, since their files cannot be read."""
        held = frozenset(name for name in {**record.files, **record.texts} if record.has(name))
        self._held[held, record.split] -= 1
        self._held[held - {*names}, record.split] += 1

    def findings(self, chosen: Sequence[str]) -> Iterator[Finding]:
        """What there is of the chosen modalities."""
        yield self._studies()
        yield self._leak()
        yield from self._pairs(chosen)
        yield from self._spares(chosen)
        yield from self._labelled()
        if self._masks:
            yield Finding(
                check="masks",
                verdict="error" if self._num_lost else "ok",
                told=f"{share(self._num_lost, self._masks)} are named and not there",
                count=self._num_lost,
                num=self._masks,
                examples=tuple(self._lost),
            )

    def _add_patient(self, record: Record) -> None:
        key, bit = hash64(record.patient), 1 << _SPLITS.index(record.split)
        before = self._splits.get(key, 0)
        self._splits[key] = before | bit
        if before and not before & bit:
            self._leaks += [record.patient][: EXAMPLES - len(self._leaks)]

    def _studies(self) -> Finding:
        patients = {name: sum(bool(bits >> place & 1) for bits in self._splits.values())
                    for place, name in enumerate(_SPLITS)}  # fmt: skip
        empty = [name for name, num in patients.items() if not num]
        few = self.num_patients < _FEW
        told = f"{self.num:,} studies of {self.num_patients:,} patients: " + ", ".join(
            f"{num:,} {name}" for name, num in patients.items()
        )
        told += f"; too few patients to claim that anything differs (below {_FEW})" if few else ""
        told += f"; nobody in {' and '.join(empty)}, so nothing is measured there" if empty else ""
        return Finding(
            check="patients",
            verdict="warning" if few or empty else "ok",
            told=told,
            count=self.num_patients,
            num=self.num,
            numbers={"studies": self.num, "patients": self.num_patients, **patients},
        )

    def _leak(self) -> Finding:
        count = sum(bits & (bits - 1) > 0 for bits in self._splits.values())
        return Finding(
            check="patients in two splits",
            verdict="error" if count else "ok",
            told=f"{share(count, self.num_patients)} stand in more than one split: what is measured on one was trained"
            " on; keep each in one, or set split = 'by_patient'",
            count=count,
            num=self.num_patients,
            examples=tuple(self._leaks),
        )

    def _pairs(self, chosen: Sequence[str]) -> Iterator[Finding]:
        found = 0
        for first, second in combinations(chosen, 2):
            splits = {
                split: sum(num for (held, one), num in self._held.items() if {first, second} <= held and one == split)
                for split in _SPLITS
            }
            count = sum(splits.values())
            found += count
            told = f"{count:,} studies hold both (" + ", ".join(f"{num:,} {name}" for name, num in splits.items()) + ")"
            yield Finding(
                check="pairs", where=f"{first}, {second}", told=told, count=count, num=self.num, numbers=splits
            )
        for name in chosen if len(chosen) > 1 else ():
            holding = sum(num for (held, _), num in self._held.items() if name in held)
            alone = sum(num for (held, _), num in self._held.items() if name in held and len(held & {*chosen}) == 1)
            yield Finding(
                check="without a partner",
                where=name,
                verdict="warning" if alone and alone == holding else "ok",
                told=f"{share(alone, holding)} of its studies hold no other modality",
                count=alone,
                num=holding,
            )

    def _spares(self, chosen: Sequence[str]) -> Iterator[Finding]:
        for name in chosen:
            spare, num = self._spare[name], self.files[name]
            yield Finding(
                check="files not taken",
                where=name,
                verdict="warning" if spare > num / 2 else "ok",
                told=f"{share(spare, num)} are second and later files of a study: training takes the first",
                count=spare,
                num=num,
            )

    def _labelled(self) -> Iterator[Finding]:
        labelled = self.num - self._num_unlabelled
        if not labelled:
            yield Finding(check="labels", told="no study has any", count=0, num=self.num)
            return
        most = ", ".join(f"'{name}' {share(num, self.num)}" for name, num in self._labels.most_common(3))
        yield Finding(
            check="labels",
            told=f"{len(self._labels):,} different; most often {most or 'none present'}",
            count=labelled,
            num=self.num,
            numbers=dict(self._labels.most_common(20)),
        )
        yield Finding(
            check="labels missing",
            verdict="warning" if self._num_unlabelled else "ok",
            told=f"{share(self._num_unlabelled, self.num)} studies have none",
            count=self._num_unlabelled,
            num=self.num,
            examples=tuple(self._unlabelled),
        )
