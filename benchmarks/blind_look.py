"""Look at studies without knowing which are generated: mark them first, and count by origin afterwards.

    python benchmarks/blind_look.py draw RUN FOLDER [SEED]
    python benchmarks/blind_look.py count FOLDER

``draw`` writes sheets of eight studies: half are real test studies through the autoencoders, a quarter is generated
without a prompt, a quarter from reports of test studies. Their order is drawn, and stands in ``key.json``, which is not
to be read before. Marks go to ``marks.csv``: a line for each study with something wrong, its number and some of torn,
dark, washed_out, two_bodies. ``count`` then says how many of each origin were marked.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.cases.agreement_by_grade import test_set_of
from core.evaluate.test_set import TestSet
from core.generate.output.contact_sheet import columns_of, contact_sheet
from core.preprocess.collate import uncollate
from core.types import Batch, Sample

NUM, ON_SHEET = 64, 8
MARKS = ("torn", "dark", "washed_out", "two_bodies")
ORIGINS = ("real, reconstructed", "generated, no prompt", "generated, prompted")

Study = dict[str, Sample]


def draw(run: Path, folder: Path, seed: int) -> None:
    """Write the sheets and the key into a new folder."""
    folder.mkdir(parents=True)
    test_set = test_set_of(run)
    studies = studies_of(test_set, seed)
    random.Random(f"order {seed}").shuffle(studies)
    names = [name for name in test_set.run.outputs if name in studies[0][1]]
    for start in range(0, len(studies), ON_SHEET):
        shown = [study for _, study in studies[start : start + ON_SHEET]]
        titles = [f"study {start + number + 1}" for number in range(len(shown))]
        sheet = contact_sheet(shown, columns_of(test_set.run, names), titles)
        sheet.save(folder / f"sheet_{start // ON_SHEET + 1}.png")
    key = {number + 1: origin for number, (origin, _) in enumerate(studies)}
    (folder / "key.json").write_text(json.dumps({"run": run.name, "seed": seed, "origin": key}, indent=1) + "\n")


def studies_of(test_set: TestSet, seed: int) -> list[tuple[str, Study]]:
    """Return the studies by origin: no patient is in two of them."""
    outputs, centre = test_set.run.outputs, test_set.centre
    assert centre is not None
    able = list(test_set.studies.indices_with(*outputs))
    random.Random(f"patients {seed}").shuffle(able)
    half, quarter = NUM // 2, NUM // 4
    real, unprompted, prompted = able[:half], able[half : half + quarter], able[half + quarter : half + 2 * quarter]
    images = [name for name in outputs if name != centre]
    of_origin: tuple[dict[str, Sequence[Batch]], ...] = (
        {name: test_set.reconstructed(name, real) for name in outputs},
        dict(test_set.generated(outputs, unprompted, draw=seed)),
        {centre: [test_set.studies.batch(centre, prompted)]}
        | dict(test_set.generated(images, prompted, prompts=[centre], draw=seed)),
    )
    return [
        (origin, study)
        for origin, batches in zip(ORIGINS, of_origin, strict=True)
        for study in rows_of(test_set, batches)
    ]


def rows_of(test_set: TestSet, batches: dict[str, Sequence[Batch]]) -> list[Study]:
    """Return batches by modality as studies: texts as strings, all else in canonical form."""
    columns: dict[str, list[Sample]] = {}
    for name, parts in batches.items():
        if test_set.run.parts(name).data.kind == "tokens":
            columns[name] = [Sample(modality=name, data=text) for text in test_set.texts(name, parts)]
        else:
            columns[name] = [sample for batch in parts for sample in uncollate(batch)]
    num = min(map(len, columns.values()))
    return [{name: samples[row] for name, samples in columns.items()} for row in range(num)]


def count(folder: Path) -> list[dict[str, Any]]:
    """Return a row for each origin: its studies, those with any mark, and those with each."""
    origin = {int(number): name for number, name in json.loads((folder / "key.json").read_text())["origin"].items()}
    marks: dict[int, set[str]] = {}
    with (folder / "marks.csv").open(newline="") as file:
        for number, *marked in csv.reader(file):
            words = {word.strip() for word in marked if word.strip()}
            if unknown := words - {*MARKS}:
                sys.exit(f"marks.csv: study {number} is marked '{unknown.pop()}' (known: {', '.join(MARKS)})")
            marks[int(number)] = words
    rows = []
    for name in ORIGINS:
        numbers = [number for number, of_study in origin.items() if of_study == name]
        counted = Counter(mark for number in numbers for mark in marks.get(number, ()))
        marked = sum(bool(marks.get(number)) for number in numbers)
        rows.append({"origin": name, "studies": len(numbers), "marked": marked, **{m: counted[m] for m in MARKS}})
    return rows


def main(arguments: Sequence[str]) -> None:
    """Draw or count."""
    match arguments:
        case ["draw", run, folder, *seed]:
            draw(Path(run), Path(folder), int(seed[0]) if seed else 0)
        case ["count", folder]:
            for row in count(Path(folder)):
                print("  ".join(f"{key}: {value}" for key, value in row.items()))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
