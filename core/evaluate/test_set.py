"""Whom the measures look at, and what is generated for them.

Which findings texts and images show, called by the reader of texts and by the judges of images (METHOD 6).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
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
from core.evaluate.bootstrap import drawn, have_strangers, interleaved, patients_of, strangers
from core.evaluate.classification import best_thresholds, readable
from core.evaluate.finding_classifier import Judge, judge_scores, train_judge
from core.generate.bundle import Bundle
from core.generate.coupling import Couple
from core.generate.pipeline import Request, decoded, generate_latents, helpful_couples, in_batches, restored
from core.types import Batch


class Subjects:
    """The test studies of a run, what is generated for them, and the judges that look at it."""

    def __init__(self, bundle: Bundle, cohort: Cohort) -> None:
        self.bundle, self.cohort, self.run, self.compute = bundle, cohort, bundle.run, bundle.networks.compute
        self.studies, self.settings = cohort.test, self.run.config.training.measure
        self.seed = self.run.config.seed
        self.sampler = _sampler(self.run.config.sampler, self.settings)
        self._pooled: dict[str, dict[int, Tensor]] = {}
        self._judges: dict[str, Judge] = {}

    @cached_property
    def centre(self) -> str | None:
        """The modality whose prompts are followed: the centre of alignment, where the run has trained its encoder."""
        name = self.run.config.align.centre
        return name if name in self.run.flows.union.modalities and self.bundle.may_prompt(name) else None

    @cached_property
    def grids(self) -> tuple[str, ...]:
        """The outputs that are images or volumes."""
        return tuple(name for name in self.run.outputs if self.run.parts(name).data.kind == "grid")

    @cached_property
    def findings(self) -> tuple[str, ...]:
        """The names of the labels that are known present and known absent, in training and among the test studies."""
        splits = (self.cohort.whole.records, self.studies.records)
        both = [{item for record in records for item in record.labels.items()} for records in splits]
        names = sorted({name for name, _ in both[0]})
        return tuple(name for name in names if all({(name, 0), (name, 1)} <= known for known in both))

    def places(self, *names: str, most: int | None = None) -> list[int]:
        """Test studies that hold all of these, at most ``most``, drawn from all data sets alike; in their order."""
        return drawn(self.studies, names, most or self.settings.samples, self.seed, "measure")

    def enough(self, *names: str) -> list[int]:
        """The same, patients mixed, and none where they are too few to compare with each other: two patients at least.

        Nor where one patient has more than half of them, for then some would have no stranger.
        """
        places = self.places(*names)
        who = self.patients(places)
        return interleaved(places, who, ROWS) if have_strangers(who) else []

    def judged(self, name: str) -> bool:
        """Whether there are findings, and labelled training studies to teach a judge."""
        studies = self.cohort.whole
        return (
            bool(self.findings)
            and sum(bool(studies.records[place].labels) for place in studies.indices_with(name)) >= 2
        )

    def patients(self, places: Sequence[int]) -> list[Hashable]:
        """Who they are: two data sets may use one name for two patients."""
        return patients_of(self.studies, places)

    def labels(self, studies: Studies, places: Sequence[int]) -> np.ndarray:
        """``sample finding``: 1 present, 0 absent, NaN unknown."""
        rows = [[studies.records[place].labels.get(name, np.nan) for name in self.findings] for place in places]
        return np.array(rows, dtype=np.float64).reshape(len(places), len(self.findings))

    def data(self, name: str, places: Sequence[int], studies: Studies | None = None) -> Tensor:
        """Canonical data of studies, on the CPU."""
        return torch.cat([batch.data for batch in (studies or self.studies).batches(name, places)])

    def pooled(self, name: str) -> Mapping[int, Tensor]:
        """The pooled prompt of every test study that holds a modality, by place."""
        if name not in self._pooled:
            places = self.studies.indices_with(name)
            rows = [self.embedded(name, batch) for batch in self.studies.batches(name, places)]
            self._pooled[name] = dict(zip(places, torch.cat(rows) if rows else (), strict=True))
        return self._pooled[name]

    def embedded(self, name: str, batch: Batch) -> Tensor:
        """Pooled vectors ``sample width`` of a batch, on the CPU."""
        with torch.no_grad():
            return self.bundle.part(name, "prompt").eval()(self.compute.to_device(batch)).pooled.float().cpu()

    def reconstructed(self, name: str, places: Sequence[int]) -> list[Batch]:
        """What the autoencoder makes of studies."""
        module, made = self.bundle.part(name, "autoencoder").eval(), []
        for batch in self.studies.batches(name, places):
            with torch.no_grad():
                made.append(module.decode(module.encode(self.compute.to_device(batch)).mean).to("cpu"))
        return made

    def generated(
        self,
        outputs: Sequence[str],
        places: Sequence[int],
        *,
        prompts: Sequence[str] = (),
        given: Sequence[str] = (),
        couple: bool = True,
        shuffled: bool = False,
        title: str = "",
    ) -> dict[str, list[Batch]]:
        """What the model makes for studies, in batches; sample ``i`` has the same noise in every way of generating.

        ``shuffled``: each hears the partners of another patient of its batch.
        """
        listeners: Couple = helpful_couples(self.bundle, outputs, given) if couple else {}
        made: dict[str, list[Batch]] = {name: [] for name in outputs}
        size = self._even(places, shuffled)
        with progress(f"measure {title or 'generate'}", len(places), silent=not self.compute.is_main) as watch:
            for indices in in_batches(len(places), size):
                rows = [places[index] for index in indices]
                asked = Request(
                    outputs=outputs,
                    indices=indices,
                    seed=self.seed,
                    prompts={name: self.studies.batch(name, rows) for name in prompts},
                    given={name: self.studies.batch(name, rows) for name in given},
                    couple=listeners,
                    partner_of=strangers(len(rows), self.patients(rows)) if shuffled else None,
                )
                for name, latents in generate_latents(self.bundle, asked, self.sampler).items():
                    made[name].append(decoded(self.bundle, name, latents).to("cpu"))
                watch(indices[-1] + 1)
        return made

    def _even(self, places: Sequence[int], shuffled: bool) -> int:
        """The size of even batches; where partners are ``shuffled``, of as many as leave nobody without a stranger."""
        for num in range(-(-len(places) // ROWS), 0, -1):
            size = -(-len(places) // num)
            batches = (places[start : start + size] for start in range(0, len(places), size))
            if not shuffled or all(have_strangers(self.patients(batch)) for batch in batches):
                return size
        raise UserError("one patient has more than half of the studies: there are too few of others to compare with")

    def judge(self, name: str) -> Judge:
        """A small network that reads the findings in a modality, trained on real training images; kept in the run."""
        if name not in self._judges:
            with self.compute.main_first():  # the others load what the first has trained
                self._judges[name] = self._judge(name)
        return self._judges[name]

    def _judge(self, name: str) -> Judge:
        folder = self.run.config.run / "measure" / f"judge.{name}"
        studies = self.cohort.whole
        if (folder / WEIGHTS).is_file():
            spec = self.run.parts(name).data
            judge = Judge(spec.channels, len(self.findings), dims=len(spec.space))
            load_weights(judge, folder)
            return judge.eval()
        places = [place for place in studies.indices_with(name) if studies.records[place].labels]
        labels = torch.from_numpy(self.labels(studies, places)).float()
        data = self.data(name, places, studies)
        judge = train_judge(data, labels, seed=self.seed, epochs=self.settings.judge_epochs)
        if self.compute.is_main:
            save_weights(judge, folder, {"modality": name, "findings": list(self.findings)})
        return judge

    def scores(self, name: str, data: Tensor) -> np.ndarray:
        """A judge's logits ``sample finding``."""
        return judge_scores(self.judge(name), data).numpy()

    def texts(self, name: str, batches: Sequence[Batch]) -> list[str]:
        """What decoded batches of a text say."""
        return [str(sample.data) for batch in batches for sample in restored(self.bundle, name, batch)]

    def told(self, texts: Sequence[str], places: Sequence[int]) -> list[Mapping[str, int]]:
        """What texts tell, each read as its study's data set does; nothing where that cannot read."""
        readers = [self.cohort.findings_of.get(self.studies.records[place].dataset) for place in places]
        return [{} if read is None else read(text) for read, text in zip(readers, texts, strict=True)]


def _sampler(recipe: SamplerChoice, settings: Measuring) -> SamplerChoice:
    """The run's sampler with what the preset says of measuring; solvers other than DDIM draw no noise."""
    solver = settings.solver or recipe.solver
    eta = recipe.eta if solver == "ddim" else 0.0
    return recipe.model_copy(update={"solver": solver, "eta": eta, "steps": settings.steps or recipe.steps})


def joined(batches: Sequence[Batch]) -> Tensor:
    """The data of batches of images as one tensor."""
    return torch.cat([batch.data for batch in batches])


def calls(subjects: Subjects, name: str, batches: Sequence[Batch], places: Sequence[int]) -> np.ndarray:
    """``sample finding``: 1 shown, 0 not shown, NaN where nobody can tell; ``places`` are the studies they stand for.

    A text that tells of any finding tells of the absence of all others. Of an image the findings count that its judge
    reads, at thresholds of best F1; both are decided on validation studies.
    """
    nobody = np.full((len(places), len(subjects.findings)), np.nan)
    if subjects.run.parts(name).data.kind == "tokens":
        told = subjects.told(subjects.texts(name, batches), places)
        rows = [[one.get(finding, 0) if one else np.nan for finding in subjects.findings] for one in told]
        return np.array(rows, dtype=np.float64).reshape(nobody.shape)
    if name not in subjects.grids:
        return nobody
    chosen = readable_findings(subjects, name)
    if not chosen.any():
        return nobody
    thresholds = best_thresholds(*_validation(subjects, name))
    return np.where(chosen, subjects.scores(name, joined(batches)) > thresholds, nobody)


def readable_findings(subjects: Subjects, name: str) -> np.ndarray:
    """Bool ``finding``: what the judge reads on validation studies; chosen there, so that the test split stays fair."""
    if not subjects.cohort.held_out.indices_with(name) or not subjects.judged(name):
        return np.zeros(len(subjects.findings), dtype=bool)
    return readable(*_validation(subjects, name))


def _validation(subjects: Subjects, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The judge's scores of the validation studies, and their labels; both ``sample finding``."""
    studies = subjects.cohort.held_out
    places = studies.indices_with(name)
    return subjects.scores(name, subjects.data(name, places, studies)), subjects.labels(studies, places)
