"""Run options: which layer wins, what is refused, and that the written file repeats the run."""

import tomllib
import warnings
from pathlib import Path

import pytest
from pydantic import Field

from core.config.registry import load_registry
from core.config.run_config import Flags, RunConfig, resolve, to_toml
from core.contract.modality import Modality, PartConfig, Parts, Shared
from core.errors import UserError
from core.flow.run import Run, start_run
from core.types import DataSpec

REGISTRY = load_registry(Path(__file__).parents[3] / "registry.toml")


class Norm(PartConfig):
    groups: int = 4


class Part(PartConfig):
    channels: int = Field(default=8, ge=1)
    name: str = "small"
    norm: Norm = Norm()


def modality(name: str, **other: PartConfig | Shared) -> Modality:
    parts = {part: Part() for part in ("reader", "preprocess", "augment", "prompt", "autoencoder", "denoiser")}
    chosen = Parts(data=DataSpec(kind="grid", space=(4, 4)), **{**parts, **other})
    return Modality(name=name, title=name, presets={"tiny": chosen, "small": chosen})


VIEW = {"prompt": Shared("xray.prompt", Part())}
MODALITIES = {
    name: modality(name, **(VIEW if name.startswith("xray") else {}))
    for name in ("text", "xray_frontal", "xray_lateral", "ct", "mri")
}


def config(**flags: object) -> RunConfig:
    return resolve(REGISTRY, MODALITIES, Flags(**flags))  # type: ignore[arg-type]


def started(**flags: object) -> Run:
    return start_run(config(**flags), MODALITIES)


def refusal(**flags: object) -> str:
    with pytest.raises(UserError) as caught:
        started(**flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def test_defaults():
    plain = config()
    assert (plain.recipe, plain.preset, plain.seed, plain.device) == ("medweave", "tiny", 0, "auto")
    assert plain.flow.of("align") == plain.flow.of("guide") == "text-xray,text-ct,ct-mri"
    assert plain.run == Path("runs/medweave-tiny")
    assert plain.data.names == ("phantom",)
    plain = config(recipe="medm2g")
    assert plain.training == REGISTRY.preset("tiny").model_copy(update={"extended": None, "sampler": None})


def test_steps_of_the_command_line_are_those_of_the_joint_round_too():
    assert config(steps=7).training.of("joint").steps == 7
    assert config(recipe="medm2g", steps=7).training.joint is None


def test_settings_of_a_recipe_for_a_size_are_laid_over_those_of_the_preset():
    """The joint round is as the others of `guide` where the recipe leaves a value out."""
    joint, preset = config().training.joint, REGISTRY.preset("tiny")
    assert joint is not None
    assert joint.steps == REGISTRY.recipe("medweave").train["tiny"]["joint"].steps
    assert (joint.ema, joint.precision) == (preset.guide.ema, preset.guide.precision)
    assert config(recipe="medm2g").training.of("joint") == preset.guide


def test_extended_training_of_a_recipe_is_laid_over_that_of_the_preset():
    longer = config(extended=True).training
    stated = REGISTRY.recipe("medweave").extended["tiny"]
    assert longer.joint is not None
    assert (longer.joint.steps, longer.diffuse.steps) == (stated["joint"].steps, stated["diffuse"].steps)
    assert longer.diffuse.steps_tokens == REGISTRY.preset("tiny").extended.diffuse.steps_tokens
    assert config(recipe="medm2g", extended=True).training.joint is None


def test_each_layer_wins_over_the_one_below(tmp_path):
    path = written(tmp_path, "seed = 1\ndevice = 'cpu'\n[sampler]\nsteps = 11\nscale = 3.0\neta = 0.5\n")
    assert config().sampler.steps == REGISTRY.preset("tiny").sampler.steps
    both = config(config=path, seed=2, set=["sampler.steps=13", "sampler.scale=4", "seed=3"])
    assert (both.sampler.steps, both.sampler.scale, both.sampler.eta) == (13, 4.0, 0.5)
    assert (both.seed, both.device) == (3, "cpu")
    assert config(config=path, seed=2).seed == 2


def test_recipe_and_preset_from_a_file_and_from_flags(tmp_path):
    path = written(tmp_path, "recipe = 'codi_xr'\npreset = 'small'\n")
    assert config(config=path).guide.context == "pooled"
    assert config(config=path).training == REGISTRY.preset("small")
    assert config(config=path, recipe="medisyn").sampler.solver == "euler"
    assert config(preset="small", set=["recipe=medisyn"]).sampler.solver == "euler"


def test_published_numbers_reach_the_paper_preset_only():
    assert config(recipe="medcodi_m", preset="paper").training.diffuse.learning_rate == 5e-5
    assert config(recipe="medcodi_m", preset="paper").training.diffuse.batch_of("tokens") == 1024
    assert config(recipe="medcodi_m", preset="small").training == REGISTRY.preset("small")
    assert config(recipe="medisyn", preset="paper").training.diffuse.num_steps(1000) == 15 * 8


def test_long_and_steps():
    longer, usual = config(extended=True).training, config().training
    assert longer.align.steps == REGISTRY.preset("tiny").extended.align.steps > usual.align.steps
    assert longer.measure.samples > usual.measure.samples
    assert longer.align.batch == usual.align.batch
    assert longer.extended is usual.extended is None
    assert config(extended=True, set=["training.align.steps=7"]).training.align.steps == 7
    with pytest.raises(UserError, match=r"training.extended: only presets of the registry have one"):
        config(set=["training.extended.align.steps=7"])
    with pytest.raises(
        UserError, match=r"--extended: preset 'paper' has no extended training \(these have: tiny, tiny3d\)"
    ):
        config(extended=True, preset="paper")
    short = config(steps=3, recipe="medisyn", preset="paper")
    assert short.training.diffuse.num_steps(10**6) == 3


def test_a_preset_may_part_the_halves_of_guidance_further_than_the_paper_and_take_fewer_steps():
    tiny = REGISTRY.preset("tiny").sampler.model_dump(exclude_none=True)
    assert config().sampler == REGISTRY.recipe("medweave").sampler.model_copy(update=tiny)
    assert config(recipe="medcodi_m").sampler == REGISTRY.recipe("medcodi_m").sampler.model_copy(update=tiny)
    assert config(preset="paper").sampler == REGISTRY.recipe("medweave").sampler
    assert config(set=["sampler.scale=3"]).sampler == config().sampler.model_copy(update={"scale": 3})
    with pytest.raises(UserError, match=r"training.sampler: only presets of the registry have one; set sampler.KEY"):
        config(set=["training.sampler.scale=3"])


def test_phases_and_data_flags():
    assert config(phase="guide, align").phases.run == ("align", "guide")
    assert config(data="openi_cxr,medpix_ct_mr").data.names == ("openi_cxr", "medpix_ct_mr")
    assert "phases.run.0" in (message := refusal(phase="algin"))
    assert "'autoencoder', 'align', 'diffuse' or 'guide'" in message
    assert "no data set 'openy'" in refusal(data="openy")


def test_flow_flag_replaces_both_flows():
    own = config(recipe="medcodi_m")
    assert own.flow.of("guide") == "xray_frontal-xray_lateral,xray_frontal-text"
    assert own.flow.of("align") == "text-xray"
    given = config(recipe="medcodi_m", flow="text-ct")
    assert given.flow.of("guide") == given.flow.of("align") == "text-ct"
    one = config(recipe="medcodi_m", set=["flow.guide=text-xray_frontal,text-xray_lateral"])
    assert one.flow.of("align") == "text-xray"
    assert one.flow.of("guide") == "text-xray_frontal,text-xray_lateral"


def test_two_flows_and_disjoint_pools_do_not_go_together():
    assert "data.pools = 'disjoint'" in refusal(recipe="medcodi_m", set=["data.pools=disjoint"])


def test_prompt_sources_follow_the_recipe():
    """method page, recipes: MedCoDi-M prompts with every neighbour, CoDi_XR images with text only, MediSyn with text."""
    assert started(recipe="medcodi_m").prompt_sources("xray_frontal") == ("text", "xray_lateral")
    assert started(recipe="codi_xr").prompt_sources("xray_frontal") == ("text",)
    assert started(recipe="codi_xr").prompt_sources("text") == ("xray_frontal", "xray_lateral")
    medisyn = started(recipe="medisyn")
    assert medisyn.prompt_sources("ct") == ("text",)
    assert medisyn.outputs == ("xray_frontal", "xray_lateral", "ct", "mri")
    assert started().prompt_sources("ct") == ("text", "mri")


def test_rounds_of_the_recipes():
    assert [item.edge.text for item in started().rounds["guide"]] == ["joint"]
    rounds = started(recipe="medm2g").rounds["guide"]
    assert [item.edge.text for item in rounds] == ["text-xray", "text-ct", "ct-mri"]
    first, second = started(recipe="medcodi_m").rounds["guide"]
    assert "context.xray_frontal" in first.trains
    assert second.trains == ("context.text", "sites.text.denoiser")
    thawed = started(set=["phases.freeze=none"]).rounds["align"]
    assert thawed[1].trains == ("text.prompt", "ct.prompt")
    assert [item.key for item in started(recipe="medisyn").trained_once("diffuse")][-1] == "image.denoiser"


def test_missing_part_is_an_error_before_training():
    without = Parts(data=DataSpec(kind="vector"), reader=Part(), preprocess=Part(), prompt=Part())
    modalities = {**MODALITIES, "lab": Modality(name="lab", title="", presets={"tiny": without})}
    run = start_run(resolve(REGISTRY, modalities, Flags(flow="text-lab")), modalities)
    with pytest.raises(UserError, match=r"phase guide .*lab: no autoencoder; lab: no denoiser"):
        run.require_parts()
    started().require_parts()


@pytest.mark.parametrize(
    ("item", "part"),
    [
        ("gude.context=none", "--set: unknown key 'gude' (options: "),
        ("gude.context=none", "did you mean 'guide'?"),
        ("ctt.autoencoder.channels=8", "modalities: ct, mri, text, xray_frontal, xray_lateral"),
        ("guide.contxt=none", "unknown key 'guide.contxt' (known: "),
        ("guide.contxt=none", "did you mean 'context'?"),
        ("guide.context=some", "guide.context: Input should be 'none', 'pooled' or 'spatial', found 'some'"),
        ("training.align.step=5", "unknown key 'training.align.step'"),
        ("training.align.steps=0", "training.align.steps"),
        ("sampler.scale=nan", "sampler.scale"),
        ("seed", "--set seed: write it as key=value"),
        (".=3", "write it as key=value"),
        ("recipe=medmg", "no recipe 'medmg'"),
        ("preset=3", "no preset '3'"),
        ("flow=text-cct", "flow item 'text-cct': no modality 'cct'"),
        ("ct.autoencoder.chanels=8", "unknown key 'ct.autoencoder.chanels' (known: channels, name, norm); did you"),
        ("ct.autoencoder.channels=many", "ct.autoencoder.channels: "),
        ("ct.autoencoder.channels=0", "ct.autoencoder.channels: "),
        ("ct.autoencoder.norm.grups=2", "unknown key 'ct.autoencoder.norm.grups'"),
        ("ct.encoder.channels=8", "no part of modality 'ct' at preset 'tiny' 'encoder'"),
        ("ct.encoder.channels=8", "did you mean 'autoencoder'?"),
        ("parts.cct.autoencoder.channels=8", "no modality 'cct'"),
        ("ct=8", "parts.ct"),
    ],
)
def test_bad_settings(item, part):
    assert part in refusal(set=[item])


def test_faults_of_a_file_name_the_file_and_come_together(tmp_path):
    path = written(tmp_path, "[guide]\ncontxt = 'none'\n[sampler]\nsteps = 'few'\n")
    message = refusal(config=path)
    assert message.startswith(f"--config {path}: ")
    assert "guide.contxt" in message
    assert "sampler.steps" in message
    assert "No such file" in refusal(config=tmp_path / "none.toml")


def test_settings_of_parts():
    run = started(set=["ct.autoencoder.channels=16", "ct.autoencoder.norm.groups=2", "ct.prompt.name=x"])
    parts = run.parts("ct")
    assert parts.autoencoder == Part(channels=16, norm=Norm(groups=2))
    assert parts.prompt == Part(name="x")
    assert parts.denoiser == Part()
    assert run.modalities["mri"] == MODALITIES["mri"]
    # The installed modality and its other presets stay as they were.
    assert MODALITIES["ct"].parts("tiny").autoencoder == Part()
    assert run.modalities["ct"].parts("small").autoencoder == Part()


def test_shared_part_changes_for_all_owners():
    run = started(set=["xray_frontal.prompt.channels=3"])
    for name in ("xray_frontal", "xray_lateral"):
        assert run.parts(name).prompt == Shared("xray.prompt", Part(channels=3))
    message = refusal(set=["xray_frontal.prompt.channels=3", "xray_lateral.prompt.channels=4"])
    assert "shared part 'xray.prompt' is set differently through 'xray_frontal' and 'xray_lateral'" in message


@pytest.mark.parametrize("recipe", sorted(REGISTRY.recipes))
@pytest.mark.parametrize("preset", sorted(REGISTRY.presets))
def test_written_file_repeats_the_run(tmp_path, recipe, preset):
    first = config(
        recipe=recipe,
        preset=preset,
        seed=5,
        extended=REGISTRY.preset(preset).extended is not None,
        run=tmp_path / "out",
        set=["guide.null_prompt=0.1"],
    )
    again = config(config=written(tmp_path, to_toml(first)))
    assert again == first
    assert to_toml(again) == to_toml(first)


def test_written_file_keeps_flows_and_parts(tmp_path):
    flags = {
        "recipe": "medcodi_m",
        "flow": "text-xray",
        "set": ["xray_lateral.prompt.channels=3", "ct.prompt.name=3d", "ct.prompt.norm.groups=1"],
    }
    path = written(tmp_path, to_toml(config(**flags)))
    again = started(config=path)
    assert again == started(**flags)
    assert str(again.flows.guide) == "text-xray"
    assert again.parts("xray_frontal").prompt == Shared("xray.prompt", Part(channels=3))
    assert tomllib.loads(path.read_text())["parts"]["ct"]["prompt"] == {"name": "3d", "norm": {"groups": 1}}


def test_written_file_does_not_depend_on_the_registry(tmp_path):
    path = written(tmp_path, to_toml(config()))
    other = REGISTRY.model_copy(update={"aliases": {"xray": ("ct",)}, "default_recipe": "medisyn"})
    again = resolve(other, MODALITIES, Flags(config=path))
    assert again == config()


def test_a_flow_is_warned_of_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        started(flow="text-ct,ct-mri,text-mri")
    assert len(caught) == 1


@pytest.mark.parametrize("flags", [{"recipe": "medisyn"}, {"preset": "small"}, {"extended": True}])
def test_a_resolved_run_file_is_not_mixed_with_another_recipe_or_sizes(tmp_path, flags):
    """Its switches would stay as they are: asked for MediSyn, got MedM2G under that name."""
    path = written(tmp_path, to_toml(config()))
    with pytest.raises(UserError, match=r"that run file spells out the switches and sizes"):
        config(config=path, **flags)
    assert config(config=path, recipe=config().recipe) == config()


def test_steps_of_tokens():
    training = config(preset="tiny").training.autoencoder
    assert training.num_steps(100, "tokens") == training.steps_tokens != training.steps
    assert training.num_steps(100, "grid") == training.steps
    assert config(preset="tiny3d").training.diffuse.steps_tokens is None
    assert config(preset="tiny", steps=7).training.autoencoder.num_steps(100, "tokens") == 7
