"""The licence and the card of a model: what it is for, what it was trained on, and what was measured.

Its fields are those of the applied model card of the Coalition for Health AI (CHAI). Values are measured or taken from
the run. What only its maker can know stands there as a sentence that says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from core.contract.build import package_versions
from core.contract.modality import DatasetAdapter
from core.errors import UserError, join_choices
from core.evaluate.table import MetricRow
from core.evaluate.verdicts import head_cells
from core.generate.bundle import Bundle

_TO_SAY = "To be stated by those who publish the model."
_NOT_CLINICAL = "Not for diagnosis, treatment or any decision about a patient: research software, no medical device."
_PACKAGES = ("medweave", "torch", "diffusers")


@dataclass(frozen=True)
class DataLicence:
    """The terms of one data set, and whether they let weights be passed on that were trained on it."""

    dataset: str
    licence: str
    citation: str
    shareable: bool


def licences_of(names: Iterable[str], datasets: Mapping[str, DatasetAdapter]) -> list[DataLicence]:
    """Return the licences of these data sets; `UserError` for one that no installed plugin knows."""
    return [_licence_of(name, datasets) for name in names]


def _licence_of(name: str, datasets: Mapping[str, DatasetAdapter]) -> DataLicence:
    adapter = datasets.get(name)
    if adapter is None:
        raise UserError(
            f"data set '{name}': no installed plugin knows its licence (known: {join_choices(datasets)}); install that"
            " plugin, so that the terms of the data can be passed on"
        )
    return DataLicence(name, adapter.licence, adapter.citation, adapter.weights_may_be_shared)


def require_shareable(licences: Iterable[DataLicence]) -> None:
    """Raise `UserError` where the terms of a data set do not let weights be passed on."""
    closed = [f"{each.dataset} ({each.licence})" for each in licences if not each.shareable]
    if closed:
        raise UserError(
            f"the terms of its training data do not say that weights may be shared: {'; '.join(closed)}; read them, and"
            " give --licence-allows-sharing if you have the permission"
        )


class Measured(BaseModel):
    """One row of the measured table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    reference: str = ""


class ModelCard(BaseModel):
    """The fields of the card, by the sections of the CHAI applied model card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Identity
    name: str
    developer: str
    inquiries: str
    release_stage: str
    release_date: str
    version: str
    global_availability: str
    regulatory_approval: str
    summary: str
    keywords: tuple[str, ...]
    # Uses and directions
    intended_use: str
    primary_users: str
    how_to_use: str
    targeted_patients: str
    out_of_scope: str
    # Warnings
    known_risks: tuple[str, ...]
    known_biases: str
    clinical_risk_level: str
    # Trust ingredients
    outputs: Mapping[str, str]
    inputs: Mapping[str, str]
    model_type: str
    foundation_models: str
    data_sources: Mapping[str, str]
    citations: tuple[str, ...]
    licence: str
    characterisation: str
    bias_mitigation: str
    maintenance: str
    security: str
    transparency: str
    # Key metrics
    verdicts: tuple[tuple[str, str, str, str], ...]
    measured: tuple[Measured, ...]
    fairness: str
    # Resources
    references: tuple[str, ...]
    consent: str


def card_of(
    bundle: Bundle, name: str, licences: Sequence[DataLicence], progress: Mapping[str, Any], contact: str
) -> ModelCard:
    """Return the card of a run: facts from its configuration, figures from the table that it ended with."""
    config, run, rows = bundle.run.config, bundle.run, list(_rows(progress))
    titles = {output: run.modalities[output].title for output in run.outputs}
    prompts = [each for each in run.flows.union.modalities if bundle.has_trained_prompt_encoder(each)]
    return ModelCard(
        name=name,
        developer=contact or _TO_SAY,
        inquiries=contact or _TO_SAY,
        release_stage="research",
        release_date=_TO_SAY,
        version=package_versions(_PACKAGES)["medweave"],
        global_availability=_TO_SAY,
        regulatory_approval="None.",
        summary=f"Generates {', '.join(titles.values())} of one made-up patient together, from any subset of them.",
        keywords=("medical imaging", "synthetic data", "multimodal generation", *run.outputs),
        intended_use="Research: synthetic paired studies to develop, test and augment methods.",
        primary_users="Researchers in medical imaging.",
        how_to_use=_how_to_use(prompts),
        targeted_patients="None. Populations are those of the training data.",
        out_of_scope=_NOT_CLINICAL,
        known_risks=_risks(rows),
        known_biases="Those of the training data: what is rare there is drawn rarely or wrongly.",
        clinical_risk_level="Not to be used in the clinic.",
        outputs=titles,
        inputs={each: run.modalities[each].title for each in prompts},
        model_type=f"latent diffusion, recipe {config.recipe}, sizes {config.preset}, flow {config.flow.main}",
        foundation_models=", ".join(_given_encoders(progress)) or "None: all networks were trained on the data below.",
        data_sources={each.dataset: each.licence for each in licences},
        citations=tuple(each.citation for each in licences),
        licence=" and ".join(dict.fromkeys(each.licence for each in licences)),
        characterisation=f"Split by patient: {', '.join(config.data.names)}. {_measured_on(rows)}",
        bias_mitigation="None beyond what the data sets do.",
        maintenance=_TO_SAY,
        security="Safetensors and JSON only. Loading the model runs no code of it, and checks digests of all weights.",
        transparency=f"Trained by MedWeave with {config.recipe}, seed {config.seed}; config.toml repeats it.",
        verdicts=tuple(head_cells(rows)),
        measured=tuple(
            Measured(metric=row.what, value=row.value, low=row.low, high=row.high, reference=row.reference)
            for row in rows
            if row.phase == "measure"
        ),
        fairness="Not measured.",
        references=("MedM2G (CVPR 2024)", "MedCoDi-M", "MedWeave: docs/explanation/method.md"),
        consent="No patient is shown. Files say inside themselves that they are synthetic.",
    )


def _measured_on(rows: Sequence[MetricRow]) -> str:
    if any(row.phase == "measure" for row in rows):
        return "Measured on the test split, which trained nothing."
    return "Not measured: the run ended before its measures."


def _how_to_use(prompts: Sequence[str]) -> str:
    inputs = f'prompts={{"{prompts[0]}": "..."}}' if prompts else ""
    return f'medweave.load("FOLDER").generate({inputs})'


def front_matter_and_text(card: ModelCard) -> str:
    """Return the card as Markdown, with the front matter that model hubs read."""
    matter = {
        "library_name": "medweave",
        "license": _hub_licence(card.licence),
        "license_name": card.licence,
        "tags": list(card.keywords),
        "datasets": list(card.data_sources),
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in matter.items()]  # JSON is YAML
    return "\n".join(["---", *lines, "---", "", *_lines(card)]) + "\n"


def _lines(card: ModelCard) -> Iterator[str]:
    yield f"# {card.name}\n\n{card.summary}\n\n**{_NOT_CLINICAL}**\n"
    skipped = {"name", "summary", "verdicts", "measured"}
    for field in (name for name in ModelCard.model_fields if name not in skipped):
        yield f"- *{field.replace('_', ' ')}*: {_phrase(getattr(card, field))}"
    if card.verdicts:
        yield "\n## Measured, in brief\n\n| verdict | question | value | of and beside |\n| --- | --- | --- | --- |"
        yield from (f"| {' | '.join(map(_cell, row))} |" for row in card.verdicts)
    yield "\n## Measured\n\n| metric | value | 95 % interval | reference |\n| --- | --- | --- | --- |"
    for row in card.measured:
        interval = "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
        yield f"| {_cell(row.metric)} | {row.value:.4f} | {interval} | {_cell(row.reference)} |"


def _phrase(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {text}" for name, text in value.items())
    return "; ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _rows(progress: Mapping[str, Any]) -> Iterator[MetricRow]:
    """Yield the table rows of a run; `UserError` where another version wrote them."""
    try:
        for stage in progress["stages"].values():
            yield from (MetricRow(**row) for row in stage["lines"])
    except (TypeError, KeyError):
        raise UserError("the run's table was written by another version of MedWeave; export it with that one") from None


def _risks(rows: Sequence[MetricRow]) -> tuple[str, ...]:
    """Return what was measured to fall short, worst first, and what holds for every generative model."""
    poor = [
        f"{title}: {value} ({grade})" for grade, title, value, _ in head_cells(rows) if grade in ("poor", "limited")
    ]
    general = "Generated studies can look plausible and be wrong. Training data can be memorised: audit before sharing."
    return (*poor, general)


def _given_encoders(progress: Mapping[str, Any]) -> list[str]:
    return [title.removeprefix("align given ") for title in progress["stages"] if title.startswith("align given ")]


def _hub_licence(licence: str) -> str:
    """Return the identifier that hubs have for a licence; ``other`` where the union has none."""
    identifier = re.sub(r"[ ]+", "-", licence.lower())
    known = r"apache-2\.0|mit|cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[34]\.0"
    return identifier if re.fullmatch(known, identifier) else "other"
