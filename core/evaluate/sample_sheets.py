"""Contact sheets for the eye: real, reconstructed and generated studies side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from core.evaluate.table import Line
from core.evaluate.test_set import Subjects
from core.generate.contact_sheet import contact_sheet, write_sheet
from core.preprocess.collate import uncollate
from core.types import Batch, Sample

FOLDER, NUM = "samples", 8


def pictures(subjects: Subjects) -> Iterator[Line]:
    """Write ``samples/*.png``; no line of the table."""
    outputs, centre = subjects.run.outputs, subjects.centre
    held = outputs if centre is None else tuple(dict.fromkeys((centre, *outputs)))
    places = subjects.places(*held, most=NUM) or subjects.places(*outputs[:1], most=NUM)
    if not places:
        return
    here = [name for name in held if set(places) <= set(subjects.studies.indices_with(name))]
    real = {name: [subjects.studies.batch(name, places)] for name in here}
    _sheet(subjects, "real", real, f"real studies of the test split ({', '.join(subjects.run.config.data.names)})")
    made = {name: subjects.reconstructed(name, places) for name in outputs if name in here}
    _sheet(subjects, "reconstructed", made, "the same studies through the autoencoders")
    if "diffuse" not in subjects.run.config.phases.run:
        return
    if centre is not None and centre in here:
        rest = [name for name in outputs if name != centre]
        told = subjects.generated(rest, places, prompts=[centre], title="pictures, prompted")
        what = f"generated together from the {centre} of each row"
        _sheet(subjects, "prompted", {centre: real[centre], **told}, what, synthetic=True, but=centre)
    made = subjects.generated(outputs, places, title="pictures")
    _sheet(subjects, "unprompted", made, "generated without a prompt", synthetic=True)
    yield from ()


def _sheet(
    subjects: Subjects,
    name: str,
    batches: Mapping[str, Sequence[Batch]],
    what: str,
    *,
    synthetic: bool = False,
    but: str = "",
) -> None:
    if not subjects.compute.is_main or not batches:
        return
    samples = {key: _for_the_eye(subjects, key, rows) for key, rows in batches.items()}
    num = min(len(rows) for rows in samples.values())
    titles = {key: subjects.run.modalities[key].title for key in samples}
    sheet = contact_sheet([{key: rows[row] for key, rows in samples.items()} for row in range(num)], titles, [what])
    folder: Path = subjects.run.config.run / FOLDER
    folder.mkdir(exist_ok=True)
    write_sheet(sheet, folder / f"{name}.png", synthetic=synthetic, but=but, made=_made(subjects))


def _made(subjects: Subjects) -> str:
    """How the studies of a sheet were made; not in which folder, on which no file of a run depends."""
    config, sampler = subjects.run.config, subjects.sampler
    made = {"recipe": config.recipe, "preset": config.preset, "seed": subjects.seed}
    return json.dumps(made | {"sampling": sampler.model_dump(mode="json")})


def _for_the_eye(subjects: Subjects, name: str, batches: Sequence[Batch]) -> list[Sample]:
    """Texts as they read, everything else in canonical form."""
    if subjects.run.parts(name).data.kind == "tokens":
        return [Sample(modality=name, data=text) for text in subjects.texts(name, batches)]
    return [sample for batch in batches for sample in uncollate(batch)]
