"""The test studies of a run, what is generated for them, and which findings real and generated data show (method 6)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from core.config.preset import Measuring
from core.config.recipe import SamplerChoice
from core.data.cohort import Cohort
from core.data.studies import ROWS, Studies
from core.engine.checkpoint import WEIGHTS, load_weights, save_weights
from core.engine.progress import progress
from core.errors import UserError
from core.evaluate.bootstrap import can_mismatch, interleave_patients, mismatched_patients, patients_of, sample_studies
from core.evaluate.classification import best_thresholds, reliable_findings
from core.evaluate.finding_classifier import FindingClassifier, classifier_scores, image_features, train_classifier
from core.generate.bundle import Bundle
from core.generate.conditioning import ConditioningGraph, conditioning_graph
from core.generate.pipeline import BatchRequest, decoded, generate_latents, in_batches, restored
from core.types import Batch

REMEMBERED = 2**31  # bytes of generated data that later measures may use again
UNPROMPTED, PROMPTED = "generated, no prompt", "generated, prompted"  # ways of `TestSet.joint_ways`

TextFindings = Mapping[str, int]  # of one text, finding to 1 present or 0 absent; missing: not mentioned


@dataclass(frozen=True, kw_only=True)
class _Ways:
    """How samples differ from those of their studies: partners or prompts of others, other noise."""

    shuffled: bool
    other_prompts: bool
    seed: int

    @property
    def mismatched(self) -> bool:
        return self.shuffled or self.other_prompts


class TestSet:
    """The test studies of a run, what is generated for them, and the finding classifiers that read images."""

    __test__ = False  # pytest collects classes by this prefix

    def __init__(self, bundle: Bundle, cohort: Cohort) -> None:
        self.bundle, self.cohort, self.run, self.compute = bundle, cohort, bundle.run, bundle.networks.compute
        self.studies, self.settings = cohort.test, self.run.config.training.measure
        self.seed = self.run.config.seed
        self.sampler = _sampler(self.run.config.sampler, self.settings)
        self._pooled: dict[str, dict[int, Tensor]] = {}
        self._classifiers: dict[tuple[str, bool], FindingClassifier] = {}
        self._generated: dict[Hashable, dict[str, list[Batch]]] = {}

    @cached_property
    def centre(self) -> str | None:
        """The modality that prompts generation: the centre of alignment, where the run has trained its encoder."""
        name = self.run.config.align.centre
        return (
            name if name in self.run.flows.union.modalities and self.bundle.has_trained_prompt_encoder(name) else None
        )

    @cached_property
    def grids(self) -> tuple[str, ...]:
        """The outputs that are images or volumes."""
        return tuple(name for name in self.run.outputs if self.run.parts(name).data.kind == "grid")

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """The findings that are labelled present and labelled absent, among training and among test studies."""
        splits = (self.cohort.whole.records, self.studies.records)
        both = [{item for record in records for item in record.labels.items()} for records in splits]
        names = sorted({name for name, _ in both[0]})
        return tuple(name for name in names if all({(name, 0), (name, 1)} <= known for known in both))

    def indices(self, *names: str, most: int | None = None) -> list[int]:
        """Return the test studies that hold all of ``names``, at most ``most``, by index (see `sample_studies`)."""
        return sample_studies(self.studies, names, most or self.settings.samples, self.seed, "measure")

    def comparable_indices(self, *names: str) -> list[int]:
        """Return the same studies, patients interleaved; none where patients cannot be compared (`can_mismatch`)."""
        indices = self.indices(*names)
        patients = self.patients(indices)
        return interleave_patients(indices, patients, ROWS) if can_mismatch(patients) else []

    def can_classify(self, name: str) -> bool:
        """Return whether there are findings, and labelled training studies to train a classifier on."""
        studies = self.cohort.whole
        return (
            bool(self.findings)
            and sum(bool(studies.records[index].labels) for index in studies.indices_with(name)) >= 2
        )

    def patients(self, indices: Sequence[int]) -> list[Hashable]:
        """Return the patient of each study (`patients_of`)."""
        return patients_of(self.studies, indices)

    def labels(self, studies: Studies, indices: Sequence[int]) -> np.ndarray:
        """Return the labels ``sample finding`` of studies: 1 present, 0 absent, NaN unknown."""
        rows = [[studies.records[index].labels.get(name, np.nan) for name in self.findings] for index in indices]
        return np.array(rows, dtype=np.float64).reshape(len(indices), len(self.findings))

    def data(self, name: str, indices: Sequence[int], studies: Studies | None = None) -> Tensor:
        """Return canonical data of studies, on the CPU."""
        return joined((studies or self.studies).batches(name, indices))

    def pooled(self, name: str) -> Mapping[int, Tensor]:
        """Return the pooled vector of every test study that holds a modality, by index."""
        if name not in self._pooled:
            indices = self.studies.indices_with(name)
            rows = [self.embedded(name, batch) for batch in self.studies.batches(name, indices)]
            self._pooled[name] = dict(zip(indices, torch.cat(rows) if rows else (), strict=True))
        return self._pooled[name]

    def embedded(self, name: str, batch: Batch) -> Tensor:
        """Return the pooled vectors ``sample width`` of a batch, on the CPU."""
        return pooled_vectors(self.bundle, name, batch).float().cpu()

    def reconstructed(self, name: str, indices: Sequence[int]) -> list[Batch]:
        """Return the autoencoder's reconstructions of studies, in batches on the CPU."""
        batches = self.studies.batches(name, indices)
        return [reconstruct(self.bundle, name, batch).to("cpu") for batch in batches]

    def generated(
        self,
        outputs: Sequence[str],
        indices: Sequence[int],
        *,
        prompts: Sequence[str] = (),
        given: Sequence[str] = (),
        couple: bool = True,
        shuffled: bool = False,
        other_prompts: bool = False,
        draw: int = 0,
        title: str = "",
    ) -> dict[str, list[Batch]]:
        """Return what the model generates for studies, in batches; sample ``i`` has the same noise on every call.

        With ``shuffled`` each sample is conditioned on the partners of another patient of its batch, with
        ``other_prompts`` on the prompts of another patient. ``draw`` above 0 draws other noise. What was generated once
        is returned again.
        """
        key = (*map(tuple, (outputs, indices, prompts, given)), couple, shuffled, other_prompts, draw)
        key = (*key, self.sampler.model_dump_json())
        if key not in self._generated:
            graph = conditioning_graph(
                self.bundle,
                outputs,
                prompts=prompts,
                given=dict.fromkeys(given),
                coupling="auto" if couple else "none",
                first=self.sampler.first,
                unguided=self.sampler.unguided(outputs),
            )
            ways = _Ways(shuffled=shuffled, other_prompts=other_prompts, seed=self.seed + draw)
            self._remember(key, self._sampled(graph, indices, prompts, given, ways, title or "generate"))
        return dict(self._generated[key])

    def _remember(self, key: Hashable, batches: dict[str, list[Batch]]) -> None:
        """Keep what was generated, and drop the oldest of it beyond `REMEMBERED` bytes."""
        self._generated[key] = batches
        while len(self._generated) > 1 and sum(map(_num_bytes, self._generated.values())) > REMEMBERED:
            del self._generated[next(iter(self._generated))]

    def _sampled(
        self,
        graph: ConditioningGraph,
        indices: Sequence[int],
        prompts: Sequence[str],
        given: Sequence[str],
        ways: _Ways,
        title: str,
    ) -> dict[str, list[Batch]]:
        batches: dict[str, list[Batch]] = {name: [] for name in graph.outputs}
        size = self._even_size(indices, ways.mismatched)
        with progress(f"measure {title}", len(indices), silent=not self.compute.is_main) as watch:
            for positions in in_batches(len(indices), size):
                rows = [indices[position] for position in positions]
                others = mismatched_patients(len(rows), self.patients(rows)) if ways.mismatched else None
                prompted = [rows[other] for other in others] if others and ways.other_prompts else rows
                request = BatchRequest(
                    graph=graph,
                    indices=positions,
                    seed=ways.seed,
                    prompts={name: self.studies.batch(name, prompted) for name in prompts},
                    given={name: self.studies.batch(name, rows) for name in given},
                    partner_rows=others if ways.shuffled else None,
                )
                for name, latents in generate_latents(self.bundle, request, self.sampler).items():
                    batches[name].append(decoded(self.bundle, name, latents).to("cpu"))
                watch(positions[-1] + 1)
        return batches

    @cached_property
    def joint_indices(self) -> list[int]:
        """Return the test studies whose prompts whole studies are generated from (`comparable_indices`)."""
        return self.comparable_indices(*(() if self.centre is None else (self.centre,)))

    def joint_ways(self) -> dict[str, dict[str, list[Batch]]]:
        """Return whole studies that are generated together, with no prompt and prompted by the centre of alignment.

        Their samples belong to the studies `joint_indices`; empty where patients cannot be compared.
        """
        if not self.joint_indices:
            return {}
        outputs = self.run.outputs
        ways = {UNPROMPTED: self.generated(outputs, self.joint_indices, title="studies, no prompt")}
        if self.centre is not None and (rest := [name for name in outputs if name != self.centre]):
            title = f"studies from {self.centre}"
            ways[PROMPTED] = self.generated(rest, self.joint_indices, prompts=[self.centre], title=title)
        return ways

    def _even_size(self, indices: Sequence[int], shuffled: bool) -> int:
        """Return the size of even batches; with ``shuffled``, of batches in which every patient can be mismatched."""
        for num in range(-(-len(indices) // ROWS), 0, -1):
            size = -(-len(indices) // num)
            batches = (indices[start : start + size] for start in range(0, len(indices), size))
            if not shuffled or all(can_mismatch(self.patients(batch)) for batch in batches):
                return size
        raise UserError("one patient has more than half of the studies: there are too few of others to compare with")

    def scores(self, name: str, data: Tensor) -> np.ndarray:
        """Return the finding classifier's logits ``sample finding``."""
        return classifier_scores(self.classifier(name), data).numpy()

    def features(self, name: str, data: Tensor) -> np.ndarray:
        """Return features ``sample feature`` of a finding classifier that sees brightness and contrast."""
        return image_features(self.classifier(name, standardise=False), data).double().numpy()

    def classifier(self, name: str, *, standardise: bool = True) -> FindingClassifier:
        """Return the finding classifier of a modality, trained on real training images and stored in the run folder.

        Without ``standardise`` it sees brightness and contrast.
        """
        key = (name, standardise)
        if key not in self._classifiers:
            # Without waiting for other processes: measures run in the main process alone.
            self._classifiers[key] = self._classifier(name, standardise)
        return self._classifiers[key]

    def _classifier(self, name: str, standardise: bool) -> FindingClassifier:
        kind = "finding_classifier" if standardise else "feature_classifier"
        folder = self.run.config.run / "measure" / f"{kind}.{name}"
        studies = self.cohort.whole
        if (folder / WEIGHTS).is_file():
            spec, num = self.run.parts(name).data, len(self.findings)
            classifier = FindingClassifier(spec.channels, num, dims=len(spec.space), standardise=standardise)
            load_weights(classifier, folder)
            return classifier.eval()
        indices = [index for index in studies.indices_with(name) if studies.records[index].labels]
        labels = torch.from_numpy(self.labels(studies, indices)).float()
        # What only embeds images need not recognise findings as well as it could.
        epochs = self.settings.judge_epochs if standardise else -(-self.settings.judge_epochs // 2)
        data = self.data(name, indices, studies)
        classifier = train_classifier(data, labels, seed=self.seed, epochs=epochs, standardise=standardise)
        if self.compute.is_main:
            save_weights(classifier, folder, {"modality": name, "findings": list(self.findings)})
        return classifier

    def texts(self, name: str, batches: Sequence[Batch]) -> list[str]:
        """Return decoded batches of a text modality as strings."""
        return [str(sample.data) for batch in batches for sample in restored(self.bundle, name, batch)]

    def text_findings(self, texts: Sequence[str], indices: Sequence[int]) -> list[TextFindings]:
        """Return the findings of each text, extracted as its study's data set does; empty where it has no extractor."""
        extractors = [self.cohort.findings_of.get(self.studies.records[index].dataset) for index in indices]
        return [{} if extract is None else extract(text) for extract, text in zip(extractors, texts, strict=True)]

    def text_details(self, texts: Sequence[str], indices: Sequence[int]) -> list[TextFindings]:
        """Return the details of findings in each text, ``FINDING/DETAIL``, as `text_findings` returns the findings."""
        extractors = [self.cohort.details_of.get(self.studies.records[index].dataset) for index in indices]
        return [{} if extract is None else extract(text) for extract, text in zip(extractors, texts, strict=True)]


def _sampler(recipe: SamplerChoice, settings: Measuring) -> SamplerChoice:
    """Return the run's sampler with the preset's settings for measuring; solvers other than DDIM draw no noise."""
    solver = settings.solver or recipe.solver
    eta = recipe.eta if solver == "ddim" else 0.0
    return recipe.model_copy(update={"solver": solver, "eta": eta, "steps": settings.steps or recipe.steps})


def _num_bytes(batches: Mapping[str, Sequence[Batch]]) -> int:
    return sum(batch.data.nbytes for each in batches.values() for batch in each)


def joined(batches: Iterable[Batch]) -> Tensor:
    """Return the data of several batches as one tensor."""
    return torch.cat([batch.data for batch in batches])


def pooled_vectors(bundle: Bundle, name: str, batch: Batch) -> Tensor:
    """Return the prompt encoder's pooled vectors ``sample width`` of a batch, on the device of the run."""
    with torch.no_grad():
        return bundle.part(name, "prompt").eval()(bundle.networks.compute.to_device(batch)).pooled


def reconstruct(bundle: Bundle, name: str, batch: Batch) -> Batch:
    """Return the autoencoder's reconstruction of a batch from its mean latents, on the device of the run."""
    module = bundle.part(name, "autoencoder").eval()
    with torch.no_grad():
        return module.decode(module.encode(bundle.networks.compute.to_device(batch)).mean)


def predicted_findings(test_set: TestSet, name: str, batches: Sequence[Batch], indices: Sequence[int]) -> np.ndarray:
    """Return ``sample finding``: 1 shown, 0 not shown, NaN unknown; ``indices`` are the studies of the batches.

    A text that mentions any finding counts as negative for all findings it does not mention. In images only the
    findings count that the classifier recognises, at thresholds of best F1; both are chosen on validation studies.
    """
    unknown = np.full((len(indices), len(test_set.findings)), np.nan)
    if test_set.run.parts(name).data.kind == "tokens":
        mentioned = test_set.text_findings(test_set.texts(name, batches), indices)
        rows = [[text.get(finding, 0) if text else np.nan for finding in test_set.findings] for text in mentioned]
        return np.array(rows, dtype=np.float64).reshape(unknown.shape)
    if name not in test_set.grids:
        return unknown
    reliable = reliable_on_validation(test_set, name)
    if not reliable.any():
        return unknown
    shown = test_set.scores(name, joined(batches)) > validation_thresholds(test_set, name)
    return np.where(reliable, shown, unknown)


def validation_thresholds(test_set: TestSet, name: str) -> np.ndarray:
    """Return the classifier's thresholds of best F1 on validation studies, float64 ``finding``."""
    return best_thresholds(*_validation(test_set, name))


def reliable_on_validation(test_set: TestSet, name: str) -> np.ndarray:
    """Return the `reliable_findings`, bool ``finding``; chosen on validation studies, so that the test stays fair."""
    if not test_set.cohort.held_out.indices_with(name) or not test_set.can_classify(name):
        return np.zeros(len(test_set.findings), dtype=bool)
    return reliable_findings(*_validation(test_set, name))


def _validation(test_set: TestSet, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the classifier's scores of the validation studies, and their labels; both ``sample finding``."""
    studies = test_set.cohort.held_out
    indices = studies.indices_with(name)
    return test_set.scores(name, test_set.data(name, indices, studies)), test_set.labels(studies, indices)
