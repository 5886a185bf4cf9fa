"""A round of alignment: what is masked, what is invariant, what the log holds."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import core.align.supervision
from core.align.findings import FindingProbe, StudyFindings
from core.align.invariance import Projector
from core.align.losses import Temperature, info_nce
from core.align.train import AlignRound, train_round
from core.config.preset import Training
from core.config.recipe import AlignChoice
from core.contract.modality import PartConfig, Parts
from core.data.studies import Studies
from core.engine.distributed import Compute
from core.engine.progress import RunLog
from core.engine.rng import forked_rng
from core.engine.trainer import Trainer
from core.nn import TextPromptEncoderConfig
from core.preprocess import ByteTokenizerConfig
from core.preprocess.grid import CANONICAL
from core.testing.toy import TOY_GRID, TOY_VECTOR, ToyReaderConfig, scan, write_cohort
from core.types import DataSpec, Record

TOYS = {modality.name: modality for modality in (TOY_GRID, TOY_VECTOR)}


def trainer(run):
    log = RunLog(run / "metrics.jsonl")
    return Trainer(compute=Compute("cpu"), log=log, folder=run, seed=0, log_every=4, save_every=100)


@pytest.fixture
def rows(tmp_path):
    """Trains a short round and returns the rows of its log; ``trained``: which of the two encoders.

    ``lonely``: so many studies at the end show one modality, ``shown``, alone.
    """
    write_cohort(tmp_path / "toy", 40)

    def call(trained=tuple(TOYS), labels=None, lonely=0, shown="toy_vector", **choice):
        records = list(scan(tmp_path / "toy"))
        for index, record in enumerate(records):
            record.labels.update((labels or (lambda index: {}))(index))
        seen = [tuple(TOYS)] * (40 - lonely) + [(shown,)] * lonely
        studies = Studies(records, seen, {name: toy.parts("tiny") for name, toy in TOYS.items()})
        encoders = {}
        for name, toy in TOYS.items():
            with forked_rng(0, name):
                encoders[name] = toy.parts("tiny").prompt.build()
        train_round(
            trainer(tmp_path / "run"),
            AlignRound(
                name="1", encoders=encoders, trained={f"{name}.prompt": encoders[name] for name in trained},
                pairs=[tuple(TOYS)], studies=studies, training=Training(steps=8, batch=16, learning_rate=1e-3),
                choice=AlignChoice(centre="toy_vector", **choice),
            ),
        )  # fmt: skip
        return [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]

    return call


def test_images_are_seen_in_two_views_and_both_gradients_are_logged(rows):
    first, *_ = rows(visual_invariance=True)
    assert first["invariance toy_grid"] > 0
    assert "invariance toy_vector" not in first, "a vector has no views"
    assert first["gradient of contrast"] > 0
    assert first["gradient of invariance"] > 0
    assert first["loss"] == pytest.approx(first["contrast toy_grid-toy_vector"] + first["invariance toy_grid"])


@pytest.mark.parametrize("views", [True, False])
def test_contrast_is_the_mean_over_the_views(rows, monkeypatch, views):
    terms = []

    def noted(*vectors):
        terms.append(info_nce(*vectors))
        return terms[-1]

    monkeypatch.setattr("core.align.supervision.info_nce", noted)
    first, *_ = rows(visual_invariance=views)
    seen = [float(term.detach()) for term in terms[: 2 if views else 1]]
    assert len(set(seen)) == len(seen)
    assert len(terms) == 8 * len(seen)
    assert first["contrast toy_grid-toy_vector"] == pytest.approx(sum(seen) / len(seen), rel=1e-6)


def test_the_weight_scales_the_term(rows):
    first, *_ = rows(visual_invariance=True, invariance_weight=0.0)
    assert first["invariance toy_grid"] == 0
    assert first["gradient of invariance"] == 0


@pytest.mark.parametrize(("trained", "on"), [(("toy_vector",), True), (tuple(TOYS), False)])
def test_frozen_images_and_other_recipes_have_no_invariance(rows, trained, on):
    assert "invariance toy_grid" not in rows(trained, visual_invariance=on)[0]


def test_masked_pairs_are_counted(rows):
    """All 16 studies of a batch say the same: each of the 120 pairs is masked, and nothing is left to contrast."""
    first, *_ = rows(labels=lambda index: {"finding": 1})
    assert first["masked toy_grid-toy_vector"] == 120
    assert first["contrast toy_grid-toy_vector"] == pytest.approx(0, abs=1e-6)


def test_without_labels_and_text_nothing_is_masked(rows):
    assert rows()[0]["masked toy_grid-toy_vector"] == 0


def test_masking_can_be_switched_off(rows):
    first, *_ = rows(labels=lambda index: {"finding": 1}, equal_reports="negatives")
    assert "masked toy_grid-toy_vector" not in first
    assert first["contrast toy_grid-toy_vector"] > 1


@pytest.fixture
def blind(monkeypatch):
    """A finding probe that sees nothing: a coin knows as much."""
    monkeypatch.setattr("core.align.findings._SCALE", 0.0)


def study_findings(texts=()):
    """Two labelled studies, and unlabelled ones whose text speaks of a big heart, or of nothing."""
    records = [Record(patient=str(index), study="s", labels={"found": index, "lost": index}) for index in (0, 1)]
    records += [Record(patient=f"t{text}", study="s", texts={"report": text}, dataset="d") for text in texts]
    letters = ByteTokenizerConfig(length=16)
    parts = {"report": Parts(data=letters.spec, preprocess=letters)}
    studies = Studies(records, [()] * 2 + [("report",)] * len(texts), parts)
    return StudyFindings(studies, ["report"], {"d": lambda text: {"found": 1, "lost": 1} if text else {}})


def half(index):
    return {"found": index % 2, "everywhere": 1}


@pytest.mark.usefixtures("blind")
def test_both_ends_are_probed_for_findings_that_some_have_and_others_lack(rows):
    """Of two labels one is everywhere: only the other is probed."""
    first, *_ = rows(labels=half, findings_weight=1.0)
    for name in TOYS:
        assert first[f"findings {name}"] == pytest.approx(math.log(2), rel=1e-6)


def test_pooled_vectors_are_pulled_to_what_the_findings_say():
    """The step that lowers the loss makes the finding likelier where it is present, and less likely where it is not."""
    findings = FindingProbe(("found",), study_findings(), 4, seed=0)
    pooled = torch.nn.functional.one_hot(torch.tensor([0, 0]), 4).float().requires_grad_()
    findings.loss(pooled, [0, 1]).backward()
    moved = findings(pooled.detach() - 0.01 * pooled.grad) - findings(pooled.detach())
    assert moved[0] < 0 < moved[1]


@pytest.mark.parametrize(("trained", "draws"), [(tuple(TOYS), 2), (("toy_grid",), 1)], ids=["trained", "frozen"])
@pytest.mark.usefixtures("blind")
def test_studies_without_a_partner_teach_what_is_trained(rows, trained, draws):
    first, *_ = rows(trained, labels=half, lonely=12, findings_weight=1.0)
    assert first["findings toy_vector"] == pytest.approx(draws * math.log(2), rel=1e-6)
    assert first["findings toy_grid"] == pytest.approx(math.log(2), rel=1e-6)


def test_an_image_that_is_trained_is_never_seen_as_it_is(rows, monkeypatch):
    """Nor one without a partner; the vector, which has no views, is."""
    read, batch = set(), Studies.batch
    monkeypatch.setattr(Studies, "batch", lambda self, name, indices: read.add(name) or batch(self, name, indices))
    rows(labels=half, lonely=12, shown="toy_grid", findings_weight=1.0, visual_invariance=True)
    assert read == {"toy_vector"}


@torch.no_grad()
def test_the_loss_is_the_sum_over_what_is_known_and_unknown_ones_teach_nothing():
    findings = FindingProbe(("found", "lost"), study_findings(texts=("big heart", "")), 4, seed=0)
    findings.read.weight.data[:] = torch.tensor([[1.0, 0, 0, 0]] * 2)
    pooled = torch.nn.functional.one_hot(torch.tensor([0]), 4).float()  # a logit of 10 for each
    sure, wrong = math.log1p(math.exp(-10)), 10 + math.log1p(math.exp(-10))
    assert float(findings.loss(pooled, [0])) == pytest.approx(2 * wrong, rel=1e-5)
    assert float(findings.loss(pooled, [1])) == pytest.approx(2 * sure, rel=1e-3)
    assert float(findings.loss(pooled, [2])) == pytest.approx(2 * sure, rel=1e-3)
    assert float(findings.loss(pooled, [3])) == 0


def test_a_frozen_end_is_read_too(rows):
    assert "findings toy_vector" in rows(("toy_grid",), labels=half, findings_weight=1.0)[0]


@pytest.mark.usefixtures("blind")
def test_the_weight_of_findings_scales_their_terms(rows):
    first, *_ = rows(labels=half, findings_weight=0.5)
    assert first["findings toy_grid"] == pytest.approx(math.log(2) / 2, rel=1e-6)
    assert first["loss"] == pytest.approx(
        sum(value for key, value in first.items() if key.startswith(("cont", "find")))
    )


@pytest.mark.parametrize(
    ("labels", "weight"), [(half, 0.0), (None, 1.0), (lambda index: {"found": 1}, 1.0)], ids=["off", "none", "all"]
)
def test_without_differing_findings_there_is_no_probe(rows, labels, weight):
    assert not [key for key in rows(labels=labels, findings_weight=weight)[0] if key.startswith("findings")]


@pytest.fixture
def reported(tmp_path):
    """Trains a step on eight studies that all have the finding, each with a report of one letter; returns its row."""
    write_cohort(tmp_path / "toy", 8)
    records = list(scan(tmp_path / "toy"))
    for index, record in enumerate(records):
        record.labels["finding"] = 1
        record.texts["report"] = "abcdefgh"[index]
    report = Parts(
        data=DataSpec(kind="tokens", space=(8,), vocabulary=128),
        preprocess=LettersConfig(),
        prompt=TextPromptEncoderConfig(vocabulary=128, length=8, width=16, depth=1, num_heads=2, prompt_width=16),
    )
    parts = {"report": report} | {name: toy.parts("tiny") for name, toy in TOYS.items()}

    def call(details_of=None, frozen=(), **choice):
        encoders = {name: part.prompt.build() for name, part in parts.items()}
        trained = {f"{name}.prompt": module for name, module in encoders.items() if name not in frozen}
        train_round(
            trainer(tmp_path / "run"),
            AlignRound(
                name="1", encoders=encoders, trained=trained,
                pairs=[("report", "toy_grid"), ("toy_grid", "toy_vector")],
                studies=Studies(records, [tuple(parts)] * 8, parts),
                training=Training(steps=1, batch=8, learning_rate=1e-3),
                choice=AlignChoice(centre="report", **choice), details_of=details_of or {},
            ),
        )  # fmt: skip
        return json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])

    return call


@pytest.mark.parametrize(("choice", "masked"), [("soft", None), ("masked", 28), ("negatives", None)])
def test_soft_targets_are_for_texts(reported, choice, masked):
    """A batch whose labels all say the same: with soft targets every image is as good for a report as its own.

    Two images share more than their findings, and are contrasted as with masks.
    """
    first = reported(equal_reports=choice)
    assert first.get("masked report-toy_grid") == masked
    assert first.get("masked toy_grid-toy_vector") == (None if choice == "negatives" else 28)
    if choice == "soft":
        assert first["contrast report-toy_grid"] >= 2 * math.log(8) - 1e-4, "no better than chance can be asked for"
    if choice != "negatives":
        assert first["contrast toy_grid-toy_vector"] == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("blind")
def test_details_of_reports_are_probed_in_all_and_tell_studies_apart(reported, monkeypatch):
    """Half of the findings are on the left: the other half is no longer as good for such a report."""
    asked, match = [], core.align.supervision.semantic_matching
    monkeypatch.setattr("core.align.supervision.semantic_matching", lambda *a: asked.append(a[3]) or match(*a))
    first = reported(
        {"": lambda text: {"finding/left": int(text in "abcd")}}, equal_reports="soft", findings_weight=1.0
    )
    for name in ("report", *TOYS):
        assert first[f"findings {name}"] == pytest.approx(math.log(2), rel=1e-6)
    same, other = 1.0, 0.5**0.5
    assert sorted({round(float(value), 4) for value in asked[0].flatten()}) == [round(other, 4), same]


@pytest.mark.parametrize(("frozen", "probability", "expected"), [((), 1.0, 8), ((), 0.0, 0), (("report",), 1.0, 0)])
def test_texts_that_are_trained_have_some_of_their_sentences(reported, monkeypatch, frozen, probability, expected):
    shortened = []
    draw = Studies.shortened_sample
    monkeypatch.setattr(
        Studies, "shortened_sample", lambda self, *given: shortened.append(given[:2]) or draw(self, *given)
    )
    reported(sentence_dropout=probability, frozen=frozen)
    assert sorted(shortened) == [("report", index) for index in range(expected)]


class LettersConfig(PartConfig):
    """Preprocesses a text to the codes of its letters."""

    def build(self):
        return self

    def apply(self, sample):
        codes = np.array([ord(letter) for letter in sample.data])
        return replace(sample, data=codes, meta={CANONICAL: True})

    def invert(self, sample, like=None):
        return replace(sample, data="".join(map(chr, sample.data)), meta={})


def test_images_that_share_an_encoder_go_through_it_together(tmp_path):
    """Batch normalisation then learns the statistics by which it reads them afterwards, those of the mixture."""
    write_cohort(tmp_path / "toy", 40)
    records = list(scan(tmp_path / "toy"))
    other = replace(TOY_GRID.parts("tiny"), reader=ToyReaderConfig(modality="toy_other"))
    parts = {name: toy.parts("tiny") for name, toy in TOYS.items()} | {"toy_other": other}
    for record in records:
        record.files["toy_other"] = record.files["toy_grid"]
    seen = [
        ("toy_grid", "toy_other", "toy_vector") if index < 30 else ("toy_grid", "toy_vector") for index in range(40)
    ]
    shared, vector = Counting(TOY_GRID.parts("tiny").prompt.build()), TOY_VECTOR.parts("tiny").prompt.build()
    train_round(
        trainer(tmp_path / "run"),
        AlignRound(
            name="1", encoders={"toy_grid": shared, "toy_other": shared, "toy_vector": vector},
            trained={"grid.prompt": shared, "vector.prompt": vector},
            pairs=[("toy_grid", "toy_vector"), ("toy_other", "toy_vector")], studies=Studies(records, seen, parts),
            training=Training(steps=2, batch=8, learning_rate=1e-3),
            choice=AlignChoice(centre="toy_vector", visual_invariance=True),
        ),
    )  # fmt: skip
    assert shared.rows == [16] * 4, "two steps of two views, both modalities at once"


class Counting(torch.nn.Module):
    """An encoder that notes how many rows it is given."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.width, self.rows = encoder, encoder.width, []

    def forward(self, batch):
        self.rows.append(len(batch))
        return self.encoder(batch)


def test_the_temperature_stays_within_its_bounds():
    """A clamp alone has no gradient outside: what has left the bounds would never come back."""
    temperature = Temperature(0.01)
    with torch.no_grad():
        temperature.logit_scale.add_(1)
    temperature.bound()
    assert temperature.value == pytest.approx(0.01)


def test_an_epoch_sees_every_study_once(tmp_path):
    """Two pairs of the same 40 studies: a step draws 8 for both, so that an epoch is 5 steps."""
    write_cohort(tmp_path / "toy", 40)
    records = list(scan(tmp_path / "toy"))
    for record in records:
        record.files["toy_other"] = record.files["toy_grid"]
    other = replace(TOY_GRID.parts("tiny"), reader=ToyReaderConfig(modality="toy_other"))
    parts = {name: toy.parts("tiny") for name, toy in TOYS.items()} | {"toy_other": other}
    encoders = {name: part.prompt.build() for name, part in parts.items()}
    train_round(
        trainer(tmp_path / "run"),
        AlignRound(
            name="1", encoders=encoders, trained={"vector.prompt": encoders["toy_vector"]},
            pairs=[("toy_vector", "toy_grid"), ("toy_vector", "toy_other")],
            studies=Studies(records, [tuple(parts)] * 40, parts),
            training=Training(steps=1, epochs=1, batch=8, learning_rate=1e-3), choice=AlignChoice(centre="toy_vector"),
        ),
    )  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 4


def test_the_projector_standardises_every_output():
    out = Projector(6)(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)))
    assert out.shape == (50, 24)
    assert torch.allclose(out.mean(0), torch.zeros(24), atol=1e-5)
    assert torch.allclose(out.std(0, correction=0), torch.ones(24), atol=1e-2)
    assert not [name for name, _ in Projector(6).named_parameters() if name.startswith("layers.7")]
