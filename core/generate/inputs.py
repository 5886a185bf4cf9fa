"""Prompts and given files as they are read, and what a generated file may say of them.

Prompts and given modalities that no output hears are refused: a file would say of them that they were used.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.contract.modality import Parts, Reader
from core.errors import UserError, join_choices
from core.generate.bundle import Bundle
from core.generate.coupling import Couple
from core.generate.pipeline import heard_prompts, trained_couples
from core.io.npz_archive import container, member_of
from core.preprocess.collate import collate
from core.types import Batch, Geometry, Prompt, Sample

_SHOWN = 60  # characters of a value in a message
_SETTING = re.compile(r"\bset \w+ = ")  # how an error of a reader names one


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """A batch of one, and what provenance says of it: a text, or the SHA-256 of a file; never a path.

    ``geometry``: where the file's image lies.
    """

    batch: Batch
    shown: str
    geometry: Geometry | None = None


def read_told(bundle: Bundle, flag: str, name: str, value: str, *, keep: bool) -> Told:
    """A file, or for text the text itself. ``keep``: the text of a file is shown in place of its SHA-256."""
    parts = bundle.run.parts(name)
    if parts.reader is None or parts.preprocess is None:
        raise UserError(f"modality '{name}' cannot be read at preset '{bundle.run.config.preset}'; leave it out")
    reader: Reader = parts.reader.build()
    if parts.data.kind == "tokens" and not is_file(value):
        _refuse_path(flag, name, value, reader)
        sample, shown = Sample(modality=name, data=value), value
    else:
        sample = _read(reader, flag, name, value)
        shown = sample.data if keep and isinstance(sample.data, str) else _digest(Path(value))
    return Told(batch=_canonical(flag, sample, value, parts), shown=shown, geometry=sample.geometry)


def _read(reader: Reader, flag: str, name: str, value: str) -> Sample:
    try:
        return reader.read(Path(value))
    except UserError as error:
        if not _SETTING.search(str(error)):
            raise
        raise UserError(
            f"{error}; for {flag} {name} the settings of the run hold and no others: give a file that needs none (of a"
            " volume, the file of one slice)"
        ) from error


def is_file(value: str) -> bool:
    """Whether a value names a file."""
    try:
        return container(Path(value)).is_file()
    except (OSError, ValueError):  # a long text is no path
        return False


def _is_folder(value: str) -> bool:
    try:
        return Path(value).is_dir()
    except (OSError, ValueError):
        return False


def _refuse_path(flag: str, name: str, value: str, reader: Reader) -> None:
    """`UserError` where a text is the name of a file that is not there: it would be the prompt, and be published."""
    word = value.strip()
    what = f"{flag} {name}={word[:_SHOWN]}"
    if _is_folder(word):
        raise UserError(f"{what}: is a folder; name a file, or write the text in several words")
    pathlike = len(word.split()) == 1 and any(separator in word for separator in "/\\")
    if pathlike or word.lower().endswith(tuple(reader.suffixes)):
        raise UserError(f"{what}: no such file; correct the path, or write a text that does not look like a file name")


def _canonical(flag: str, sample: Sample, value: str, parts: Parts) -> Batch:
    assert parts.preprocess is not None  # noqa: S101  # read_told has looked
    try:
        return collate([parts.preprocess.build().apply(sample)], parts.data)
    except (ValueError, UserError) as error:
        raise UserError(
            f"{flag} {sample.modality}={value[:_SHOWN]}: does not fit modality '{sample.modality}' ({error}); give a"
            " file of this modality"
        ) from error


def _digest(path: Path) -> str:
    """The SHA-256 of a file, or of all files in a folder."""
    member = member_of(path)
    path = container(path)
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    digest = hashlib.sha256(b"" if member is None else str(member[1:]).encode())
    for one in files:
        digest.update(one.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def refuse_unheard_prompts(bundle: Bundle, outputs: Sequence[str], told: Mapping[str, Prompt]) -> None:
    """`UserError` for a prompt that conditions no output (METHOD E6b)."""
    heard = {name: prompts_heard_by(bundle, name, told) for name in outputs}
    for prompt in told:
        if not any(prompt in names for names in heard.values()):
            sources = {name: bundle.run.prompt_sources(name) for name in outputs}
            raise UserError(
                f"--prompt {prompt}: no output hears it ({_who(sources, 'hears')}); prompt with one of these, make"
                " another --output, or leave it out"
            )


def prompts_heard_by(bundle: Bundle, output: str, told: Mapping[str, Prompt]) -> set[str]:
    """The prompts that an output is conditioned on: its sources, and strangers as long as a source's place is free."""
    sources = bundle.run.prompt_sources(output)
    taken = {name: prompt for name, prompt in told.items() if name in sources}
    heard = set(taken)
    for name, prompt in told.items():
        if name not in sources:
            places = len(heard_prompts(bundle, output, taken))
            taken[name] = prompt
            if len(heard_prompts(bundle, output, taken)) > places:
                heard.add(name)
    return heard


def refuse_unheard_given(
    bundle: Bundle, outputs: Sequence[str], given: Collection[str], couple: Couple | None, way: str
) -> None:
    """`UserError` for a given modality that no output listens to; ``way`` is the ``--couple`` that was chosen."""
    heard = {name: partners_of(bundle, name, given, couple) for name in outputs}
    for partner in given:
        if not any(partner in names for names in heard.values()):
            known = trained_couples(bundle, outputs, bundle.run.flows.union.modalities)
            trained = {name: sorted(known[name]) if bundle.coupled(name) else () for name in outputs}
            raise UserError(
                f"--given {partner}: no output listens to it with --couple {way} (trained:"
                f" {_who(trained, 'listens to')}); give it as --prompt, choose another --couple, or leave it out"
            )


def partners_of(bundle: Bundle, output: str, others: Collection[str], couple: Couple | None) -> Collection[str]:
    """Those of the ``others`` that an output listens to; one that has not learned to listen hears nobody."""
    if not bundle.coupled(output):
        return ()
    return others if couple is None else couple.get(output, ())


def _who(heard: Mapping[str, Collection[str]], verb: str) -> str:
    return "; ".join(f"{name} {verb} {join_choices(names)}" for name, names in heard.items())
