"""Files that ``core.prepare`` has not read are tried before the first step, since a broken file would stop late."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from core.contract.modality import PartConfig, Parts
from core.data.fingerprint import files_of
from core.data.studies import Studies
from core.errors import MedWeaveWarning, UserError
from core.types import DataFile, Record, path_on_disk

_MAX_FILES, _MAX_BYTES = 2048, 256 << 20  # of a data set: some seconds


def without(record: Record, names: Collection[str]) -> Record:
    """Return a study without these modalities."""
    files = {name: paths for name, paths in record.files.items() if name not in names}
    return replace(record, files=files, texts={name: text for name, text in record.texts.items() if name not in names})


def drop_unreadable(
    dataset: str, records: list[Record], parts: Mapping[str, Parts], readers: Mapping[tuple[str, str], PartConfig]
) -> list[Record]:
    """Return the studies without what cannot be read of these modalities, with one warning.

    Each file is read once, and nothing stays in memory. A data set of more than 2,048 files or 256 MB is not tried,
    and a warning says so. `UserError` where a modality cannot be read at all: its settings are wrong, not its files.
    """
    seen = [tuple(name for name in parts if record.has(name)) for record in records]
    paths = [record.files[name][0] for record, names in zip(records, seen, strict=True) for name in names
             if name not in record.texts]  # fmt: skip
    if not _is_small(paths):
        _warn(
            f"data set '{dataset}': {len(paths):,} files are not tried before training, which one that cannot be"
            f" read would stop late: run core.prepare {dataset} first"
        )
        return records
    studies = Studies([replace(record, dataset=dataset) for record in records], seen, parts, readers)
    broken, faults = _broken(studies)
    _require_some_readable(dataset, studies, faults)
    if broken:
        counts = ", ".join(f"{len(messages)} of {name}" for name, messages in sorted(faults.items()))
        first = next(messages[0] for _, messages in sorted(faults.items()))
        _warn(
            f"data set '{dataset}': left out what cannot be read: {counts}; e.g. {first} (core.prepare {dataset} lists"
            " all)"
        )
    return [without(record, broken[index]) if index in broken else record for index, record in enumerate(records)]


def _broken(studies: Studies) -> tuple[dict[int, list[str]], dict[str, list[str]]]:
    """Return by study the modalities that cannot be read, and by modality the reasons."""
    broken, faults = dict[int, list[str]](), dict[str, list[str]]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are shown when the file is read for training
        for index, names in enumerate(studies.visible):
            for name in names:
                fault = studies.read_error(name, index)
                if fault:
                    broken.setdefault(index, []).append(name)
                    faults.setdefault(name, []).append(fault)
    return broken, faults


def _require_some_readable(dataset: str, studies: Studies, faults: Mapping[str, Sequence[str]]) -> None:
    held = Counter(name for names in studies.visible for name in names)
    for name, messages in faults.items():
        if len(messages) == held[name]:
            raise UserError(
                f"data set '{dataset}': nothing of {name} can be read ({len(messages)}); e.g. {messages[0]}"
            )


def _is_small(paths: Sequence[DataFile]) -> bool:
    size = 0
    for path in dict.fromkeys(map(path_on_disk, paths)) if len(paths) <= _MAX_FILES else ():
        try:
            size += sum(file.stat().st_size for file in files_of(path))
        except (OSError, ValueError):  # its reader gives the reason
            continue
        if size > _MAX_BYTES:
            return False
    return len(paths) <= _MAX_FILES


def _warn(message: str) -> None:
    warnings.warn(MedWeaveWarning(message), stacklevel=4)
