"""Small data sets of pictures and reports, prepared as `core.prepare` does, without plugins or a registry."""

from dataclasses import replace

import numpy as np
from PIL import Image

from core.contract.modality import Parts
from core.data.prepared.manifest import source_digest
from core.data.prepared.prepare import PrepareRequest, prepare
from core.data.prepared.samples import PreparedSamples
from core.data.prepared.settings import digests_of, settings_of
from core.data.studies import Studies
from core.io import ImageReaderConfig, TextReaderConfig
from core.preprocess import ByteTokenizerConfig, WindowNormalizationConfig
from core.types import Record

GRID = WindowNormalizationConfig(space=(16, 16), spacing_mm=(2.0, 2.0), orientation="IL", low=0, high=1)
READER = ImageReaderConfig(modality="film", orientation="IL", value_range=(0, 1), spacing_mm=(2.0, 2.0))
WORDS = ByteTokenizerConfig(length=96)
PARTS = {
    "film": Parts(data=GRID.spec, reader=READER, preprocess=GRID),
    "words": Parts(data=WORDS.spec, reader=TextReaderConfig(modality="words"), preprocess=WORDS),
}
PRESET = "tiny"


def picture(path, seed, shape=(20, 24)):
    """A picture that nothing else looks like."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def tree(root, num=6):
    """A record per study: a picture and, in the table, a report."""
    splits = ("train", "validation", "test")
    return [
        Record(
            patient=f"p{index}",
            study=f"s{index}",
            files={"film": (picture(root / f"films/{index}.png", index),)},
            texts={"words": f"Findings: nodule number {index} in the left lung. Impression: nodule {index}."},
            split=splits[index % 3],
            labels={"nodule": 1},
        )
        for index in range(num)
    ]


def request(root, out, records, parts=None, **options):
    parts = PARTS if parts is None else parts
    given = {
        "dataset": "mine",
        "root": root,
        "out": out,
        "preset": PRESET,
        "source": source_digest(root, "any", {}),
        "records": iter(records),
        "split": lambda record: record,
        "choose": lambda result: {name: settings_of(name, parts[name]) for name in result if name in parts},
        "silent": True,
    }
    return PrepareRequest(**{**given, **options})


def prepared(root, out, records, **options):
    """The report of a whole preparation."""
    return prepare(request(root, out, records, **options))


def studies(root, out, records, parts=None, readers=None):
    """As training has them."""
    parts = PARTS if parts is None else parts
    records = [replace(record, dataset="mine") for record in records]
    digests = digests_of(parts, readers or {}, "mine")
    taken = {} if out is None else {"mine": PreparedSamples("mine", out / PRESET, root, digests)}
    visible = [tuple(name for name in parts if record.has(name)) for record in records]
    return Studies(records, visible, parts, readers, taken)


def content(folder):
    """Every file below a folder with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def row(report, check, where=""):
    """The finding of a check; of one modality where it is named."""
    matches = [finding for finding in report.findings if finding.check == check and where in ("", finding.where)]
    assert len(matches) == 1, [(finding.check, finding.where) for finding in report.findings]
    return matches[0]
