"""Recipes (methods): the typed tables ``[recipes.NAME]`` of ``registry.toml``.

Every switch of method section 0 is a field here. Names of modalities are values, never code.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from core.config.autoencoder import AutoencoderChoice
from core.config.preset import PHASES, OtherTraining, Phase, TrainingName
from core.config.prompt import PromptChoice
from core.config.sampler import SamplerChoice
from core.config.toml import Table
from core.types import Objective, ScheduleName

Pools = Literal["disjoint", "all"]


class FlowChoice(Table):
    """The flow of a run. ``main`` serves both phases unless ``align`` or ``guide`` is given (MedCoDi-M).

    A plain string stands for ``main`` alone.
    """

    main: str
    align: str | None = None
    guide: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"main": value} if isinstance(value, str) else value

    def of(self, phase: Phase) -> str:
        """Return the text of the flow of a phase; autoencoders and denoisers are not trained in rounds (``main``)."""
        return {"align": self.align, "guide": self.guide}.get(phase) or self.main


class PhaseChoice(Table):
    """Which phases run (put in their order), and what is frozen in the rounds of a flow.

    ``freeze``: ``earlier_rounds`` freezes what earlier rounds trained (E2, E15). ``then_joint`` does so too, and a last
    round of ``guide`` trains all coupled flows together (F9). ``joint`` is that last round alone: ``guide`` has no
    other, ``align`` is as with ``earlier_rounds``.
    """

    run: tuple[Phase, ...] = PHASES
    freeze: Literal["earlier_rounds", "none", "then_joint", "joint"] = "earlier_rounds"

    @field_validator("run")
    @classmethod
    def _in_order(cls, run: tuple[Phase, ...]) -> tuple[Phase, ...]:
        if not run:
            raise ValueError(f"name at least one phase of {', '.join(PHASES)}")
        return tuple(phase for phase in PHASES if phase in run)


class AlignChoice(Table):
    """Shared latent space (method section 1).

    ``centre`` is the modality that all others are aligned with (E2); it need not be in a user's flow.
    ``encoders = "given"``: prompt encoders are trained before and stay frozen; ``MODALITY.prompt.init_from`` names
    their folder. ``image_encoder``: the vision transformer of the stock image prompt encoders at the preset ``paper``;
    other presets have their own, from scratch. ``temperature``: initial value of the contrast, within CLIP's bounds.
    ``equal_reports``: whether studies with the same report are ``negatives`` of each other or ``masked``. With
    ``soft``, the targets of a pair with a text are spread over the studies by the agreement of their labels and of the
    findings in their reports, the more evenly the higher ``target_temperature``; two images are masked
    (docs/decisions/0016). ``findings_weight``: weight of the loss of a finding probe, one for all modalities of a
    round, that predicts these findings from the pooled vectors (docs/decisions/0017). The loss is left out at 0, and
    where studies do not differ. ``sentence_dropout``: probability that a text whose encoder is trained holds some of
    its sentences only (E6d).
    """

    centre: str
    encoders: Literal["trained", "given"] = "trained"
    image_encoder: Literal["vit_l_14", "vit_b_16", "none"] = "vit_l_14"
    visual_invariance: bool = False
    invariance_weight: float = Field(default=1.0, ge=0)
    invariance_lambda: float = Field(default=0.0051, ge=0)
    temperature: float = Field(default=0.07, ge=0.01, le=1)
    equal_reports: Literal["masked", "negatives", "soft"] = "masked"
    target_temperature: float = Field(default=0.1, gt=0)
    findings_weight: float = Field(default=0.0, ge=0)
    sentence_dropout: float = Field(default=0.0, ge=0, le=1)


class DiffuseChoice(Table):
    """What denoisers predict, at which noise levels (E9, E10), and which modalities are outputs.

    ``objective``: the noise, the velocity, the clean latent, or noise minus clean latent. ``schedule``: the papers'
    ``scaled_linear`` with ``timesteps``, ``beta_start`` and ``beta_end``; the same with ``zero_terminal_snr``;
    ``cosine``; or ``linear``, the path of rectified flow. ``shift`` is added to the log-SNR of every level: below 0
    there is more noise, as large latents need.
    ``density`` of the training levels: ``uniform`` in time, or the sigmoid of a normal variable with
    ``density_location`` and ``density_scale``. ``min_snr_gamma`` weighs the noise levels of the phase `diffuse`; the
    phase `guide` counts them equally. ``denoisers``: one for ``each`` modality, or one ``shared`` by all images that
    declare equal ones (MediSyn).
    """

    objective: Objective = "epsilon"
    schedule: ScheduleName = "scaled_linear"
    timesteps: int = Field(default=1000, ge=2)
    beta_start: float = Field(default=0.00085, gt=0, lt=1)
    beta_end: float = Field(default=0.0120, gt=0, lt=1)
    shift: float = Field(default=0.0, ge=-10, le=10)
    density: Literal["uniform", "logit_normal"] = "uniform"
    density_location: float = 0.0
    density_scale: float = Field(default=1.0, gt=0)
    min_snr_gamma: float | None = Field(default=None, gt=0)
    outputs: Literal["all", "all_but_centre"] = "all"
    denoisers: Literal["each", "shared"] = "each"


class GuideChoice(Table):
    """Cross-guidance (method section 5).

    ``context``: tokens that a partner sends (F2), at most ``tokens`` of them along each axis of a sequence, a plane and
    a volume. ``adaptation``: the learned tokens f of E12. ``contrast``: E14.
    ``description``: context encoders learn to reconstruct their modality too (docs/decisions/0012), with spatial
    context only.
    ``levels``: one noise level for a study, or in a share ``independent`` of the studies one per modality (F3).
    ``clean``: probability that some of the modalities are clean. ``null_prompt``: E6c. ``partner_drop``: probability
    that a flow reads no partner (F4, F8).
    ``studies``: pairs of modalities take turns, or ``whole`` studies are denoised (F9). ``trains``: the context
    encoders and what is attached to the denoisers, or ``all``, the denoisers and their prompts too (F9).
    ``generated_partners``: probability per step that partners read the model's clean estimate of a flow (F9).
    ``aligned``: partners that have positions in the patient also send ``aligned_width`` features at the resolution of
    their latents, ``beside`` their tokens or ``alone`` (F7): then nothing is read by attention. ``summary``: every
    partner, a report too, sends a vector of ``summary_width`` (F7).
    """

    context: Literal["none", "pooled", "spatial"]
    tokens: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 8, 4)
    adaptation: bool = False
    contrast: bool = False
    contrast_weight: float = Field(default=1.0, ge=0)
    description: bool = False
    description_weight: float = Field(default=1.0, ge=0)
    levels: Literal["equal", "independent"] = "equal"
    clean: float = Field(default=0.0, ge=0, le=1)
    independent: float = Field(default=0.5, ge=0, le=1)
    null_prompt: float = Field(default=0.5, ge=0, le=1)
    partner_drop: float = Field(default=0.0, ge=0, lt=1)
    studies: Literal["pairs", "whole"] = "pairs"
    trains: Literal["sublayers", "all"] = "sublayers"
    generated_partners: float = Field(default=0.0, ge=0, le=1)
    aligned: Literal["none", "beside", "alone"] = "none"
    aligned_width: int = Field(default=32, ge=1)
    summary: bool = False
    summary_width: int = Field(default=128, ge=8)

    @model_validator(mode="after")
    def _tokens_are_read(self) -> Self:
        if self.aligned == "alone" and self.adaptation:
            raise ValueError(
                "guide.aligned = 'alone' sends no tokens, so that none can stand for an absent partner: set "
                "guide.adaptation = false, or guide.aligned = 'beside'"
            )
        return self

    def site_widths(self, context_width: int) -> dict[str, int | None]:
        """Return the widths of what the sites of a receiver read, as `attach_guidance` takes them (F7).

        ``context_width`` is that of the tokens; ``None`` where partners do not send it.
        """
        return {
            "context_width": None if self.aligned == "alone" else context_width,
            "aligned_width": self.features_width,
            "summary_width": self.summary_width if self.summary else None,
        }

    @property
    def features_width(self) -> int | None:
        """Return the width of aligned features; ``None`` where none are sent."""
        return None if self.aligned == "none" else self.aligned_width


class DataChoice(Table):
    """Data sets of the run by their names in ``[datasets]``, and which studies a round may use.

    ``pools = "disjoint"``: each training patient of a data set with ``deal = true`` is in the pool of one round.
    """

    names: tuple[str, ...] = ()
    pools: Pools = "all"

    @field_validator("names")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(names))


class Recipe(Table):
    """A method.

    ``train``: settings of training by preset name, then phase, such as the published ones; no other preset uses them.
    ``extended``: those of ``--extended`` in the same form, over the preset's.
    """

    title: str = ""
    flow: FlowChoice
    phases: PhaseChoice = PhaseChoice()
    autoencoder: AutoencoderChoice = AutoencoderChoice()
    align: AlignChoice
    prompt: PromptChoice
    diffuse: DiffuseChoice = DiffuseChoice()
    guide: GuideChoice
    sampler: SamplerChoice
    data: DataChoice = DataChoice()
    train: dict[str, dict[TrainingName, OtherTraining]] = Field(default_factory=dict)
    extended: dict[str, dict[TrainingName, OtherTraining]] = Field(default_factory=dict)
