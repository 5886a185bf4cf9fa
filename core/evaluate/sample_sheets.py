"""Contact sheets for visual inspection: real, reconstructed and generated studies side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from core.evaluate.table import MetricRow
from core.evaluate.test_set import TestSet
from core.generate.output.contact_sheet import columns_of, contact_sheet, write_sheet
from core.preprocess.collate import uncollate
from core.types import Batch, Sample

FOLDER, NUM = "samples", 8


def write_sample_sheets(test_set: TestSet) -> Iterator[MetricRow]:
    """Write ``samples/*.png``. A measure like the others, but without rows of the table."""
    outputs, centre = test_set.run.outputs, test_set.centre
    names = outputs if centre is None else tuple(dict.fromkeys((centre, *outputs)))
    indices = test_set.indices(*names, most=NUM) or test_set.indices(*outputs[:1], most=NUM)
    if not indices:
        return
    complete = [name for name in names if set(indices) <= set(test_set.studies.indices_with(name))]
    real = {name: [test_set.studies.batch(name, indices)] for name in complete}
    _sheet(test_set, "real", real, f"real studies of the test split ({', '.join(test_set.run.config.data.names)})")
    reconstructed = {name: test_set.reconstructed(name, indices) for name in outputs if name in complete}
    _sheet(test_set, "reconstructed", reconstructed, "the same studies through the autoencoders")
    if "diffuse" not in test_set.run.config.phases.run:
        return
    if centre is not None and centre in complete:
        rest = [name for name in outputs if name != centre]
        prompted = test_set.generated(rest, indices, prompts=[centre], title="pictures, prompted")
        what = f"generated together from the {centre} of each row"
        _sheet(test_set, "prompted", {centre: real[centre], **prompted}, what, synthetic=True, but=centre)
    unprompted = test_set.generated(outputs, indices, title="pictures")
    _sheet(test_set, "unprompted", unprompted, "generated without a prompt", synthetic=True)
    yield from ()


def _sheet(
    test_set: TestSet,
    name: str,
    batches: Mapping[str, Sequence[Batch]],
    what: str,
    *,
    synthetic: bool = False,
    but: str = "",
) -> None:
    if not test_set.compute.is_main or not batches:
        return
    samples = {key: _displayed(test_set, key, rows) for key, rows in batches.items()}
    num = min(len(rows) for rows in samples.values())
    columns = columns_of(test_set.run, samples)
    sheet = contact_sheet([{key: rows[row] for key, rows in samples.items()} for row in range(num)], columns, [what])
    folder: Path = test_set.run.config.run / FOLDER
    folder.mkdir(exist_ok=True)
    write_sheet(sheet, folder / f"{name}.png", synthetic=synthetic, but=but, command=_sampling(test_set))


def _sampling(test_set: TestSet) -> str:
    """Return how the studies were generated, as JSON; without the run folder, on which no file of a run depends."""
    config, sampler = test_set.run.config, test_set.sampler
    settings = {"recipe": config.recipe, "preset": config.preset, "seed": test_set.seed}
    return json.dumps(settings | {"sampling": sampler.model_dump(mode="json")})


def _displayed(test_set: TestSet, name: str, batches: Sequence[Batch]) -> list[Sample]:
    """Return texts as strings, everything else in canonical form."""
    if test_set.run.parts(name).data.kind == "tokens":
        return [Sample(modality=name, data=text) for text in test_set.texts(name, batches)]
    return [sample for batch in batches for sample in uncollate(batch)]
