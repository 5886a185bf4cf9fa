"""Checks of a whole data set: patients, splits, pairs of modalities, labels; counted while the manifest is written."""

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
    """Counts of studies; of a patient a hash and a byte are in memory."""

    def __init__(self) -> None:
        self.num = 0
        self.files: Counter[str] = Counter()
        self._held: Counter[tuple[frozenset[str], str]] = Counter()
        self._splits: dict[int, int] = {}
        self._leaks: list[str] = []
        self._unused: Counter[str] = Counter()
        self._labels: Counter[str] = Counter()
        self._unlabelled: list[str] = []
        self._num_unlabelled = 0
        self._masks = self._num_missing_masks = 0
        self._missing_masks: list[str] = []

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the modalities that any study holds, sorted by name."""
        return tuple(sorted(self.files))

    @property
    def num_patients(self) -> int:
        """Return the number of different patients."""
        return len(self._splits)

    def add(self, record: Record) -> None:
        """Count one study."""
        self.num += 1
        names = [name for name in {**record.files, **record.texts} if record.has(name)]
        for name in names:
            count = 1 if name in record.texts else len(record.files[name])
            self.files[name] += count
            self._unused[name] += count - 1
        self._held[frozenset(names), record.split] += 1
        self._add_patient(record)
        self._labels.update(name for name, value in record.labels.items() if value)
        if not record.labels:
            self._num_unlabelled += 1
            self._unlabelled += [record.study][: EXAMPLES - len(self._unlabelled)]
        self._masks += len(record.masks)
        missing = [str(path) for path in record.masks.values() if not os.path.exists(path)]  # noqa: PTH110 - never raises
        self._num_missing_masks += len(missing)
        self._missing_masks += missing[: EXAMPLES - len(self._missing_masks)]

    def exclude(self, record: Record, names: Collection[str]) -> None:
        """Count a study without these modalities, whose files cannot be read."""
        held = frozenset(name for name in {**record.files, **record.texts} if record.has(name))
        self._held[held, record.split] -= 1
        self._held[held - {*names}, record.split] += 1

    def findings(self, chosen: Sequence[str]) -> Iterator[Finding]:
        """Yield what there is of the chosen modalities."""
        yield self._studies()
        yield self._leak()
        yield from self._pairs(chosen)
        yield from self._unused_files(chosen)
        yield from self._labelled()
        if self._masks:
            yield Finding(
                check="masks",
                verdict="error" if self._num_missing_masks else "ok",
                message=f"{share(self._num_missing_masks, self._masks)} are named and not there",
                count=self._num_missing_masks,
                num=self._masks,
                examples=tuple(self._missing_masks),
            )

    def _add_patient(self, record: Record) -> None:
        key, bit = hash64(record.patient), 1 << _SPLITS.index(record.split)
        before = self._splits.get(key, 0)
        self._splits[key] = before | bit
        if before and not before & bit:
            self._leaks += [record.patient][: EXAMPLES - len(self._leaks)]

    def _studies(self) -> Finding:
        patients = {name: sum(bool(bits >> bit & 1) for bits in self._splits.values())
                    for bit, name in enumerate(_SPLITS)}  # fmt: skip
        empty = [name for name, num in patients.items() if not num]
        few = self.num_patients < _FEW
        message = f"{self.num:,} studies of {self.num_patients:,} patients: " + ", ".join(
            f"{num:,} {name}" for name, num in patients.items()
        )
        message += f"; too few patients to claim that anything differs (below {_FEW})" if few else ""
        message += f"; nobody in {' and '.join(empty)}, so nothing is measured there" if empty else ""
        return Finding(
            check="patients",
            verdict="warning" if few or empty else "ok",
            message=message,
            count=self.num_patients,
            num=self.num,
            numbers={"studies": self.num, "patients": self.num_patients, **patients},
        )

    def _leak(self) -> Finding:
        count = sum(bits & (bits - 1) > 0 for bits in self._splits.values())
        return Finding(
            check="patients in two splits",
            verdict="error" if count else "ok",
            message=f"{share(count, self.num_patients)} are in more than one split: what is measured on one was trained"
            " on; keep each in one, or set split = 'by_patient'",
            count=count,
            num=self.num_patients,
            examples=tuple(self._leaks),
        )

    def _pairs(self, chosen: Sequence[str]) -> Iterator[Finding]:
        for first, second in combinations(chosen, 2):
            splits = {
                split: sum(num for (held, part), num in self._held.items() if {first, second} <= held and part == split)
                for split in _SPLITS
            }
            count = sum(splits.values())
            message = (
                f"{count:,} studies hold both (" + ", ".join(f"{num:,} {name}" for name, num in splits.items()) + ")"
            )
            yield Finding(
                check="pairs", where=f"{first}, {second}", message=message, count=count, num=self.num, numbers=splits
            )
        for name in chosen if len(chosen) > 1 else ():
            holding = sum(num for (held, _), num in self._held.items() if name in held)
            alone = sum(num for (held, _), num in self._held.items() if name in held and len(held & {*chosen}) == 1)
            yield Finding(
                check="without a partner",
                where=name,
                verdict="warning" if alone and alone == holding else "ok",
                message=f"{share(alone, holding)} of its studies hold no other modality",
                count=alone,
                num=holding,
            )

    def _unused_files(self, chosen: Sequence[str]) -> Iterator[Finding]:
        for name in chosen:
            unused, num = self._unused[name], self.files[name]
            yield Finding(
                check="unused files",
                where=name,
                verdict="warning" if unused > num / 2 else "ok",
                message=f"{share(unused, num)} are second and later files of a study: training takes the first",
                count=unused,
                num=num,
            )

    def _labelled(self) -> Iterator[Finding]:
        labelled = self.num - self._num_unlabelled
        if not labelled:
            yield Finding(check="labels", message="no study has any", count=0, num=self.num)
            return
        most = ", ".join(f"'{name}' {share(num, self.num)}" for name, num in self._labels.most_common(3))
        yield Finding(
            check="labels",
            message=f"{len(self._labels):,} different; most frequent {most or 'none present'}",
            count=labelled,
            num=self.num,
            numbers=dict(self._labels.most_common(20)),
        )
        yield Finding(
            check="labels missing",
            verdict="warning" if self._num_unlabelled else "ok",
            message=f"{share(self._num_unlabelled, self.num)} studies have none",
            count=self._num_unlabelled,
            num=self.num,
            examples=tuple(self._unlabelled),
        )
