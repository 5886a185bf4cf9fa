"""The flags of ``core.generate``: their former names, and the sampler that they choose."""

import pytest

from core.config.recipe import SamplerChoice
from core.errors import MedWeaveWarning, UserError
from core.generate.__main__ import main, parser
from core.generate.sampling_flags import require_weights, sampler_with

DDIM = SamplerChoice(solver="ddim", steps=50, eta=1.0, scale=2.0)


OUTPUTS, ALIASES = ("text", "xray_frontal", "xray_lateral", "ct"), {"xray": ("xray_frontal", "xray_lateral")}


def sampler(*flags):
    return sampler_with(DDIM, parser().parse_args(("--out", "x", *flags)), OUTPUTS, ALIASES)


@pytest.mark.parametrize(
    ("flags", "changed"),
    [
        ("", {}),
        ("--steps 9 --guidance-scale 3", {"steps": 9, "scale": 3.0}),
        ("--steps 9 --solver ddim", {"steps": 9}),
        ("--steps 12 --solver dpmpp_2m", {"steps": 12, "solver": "dpmpp_2m", "eta": 0.0}),
        ("--guidance-scale ct=2,text=4.5", {"scale": {"default": 2.0, "ct": 2.0, "text": 4.5}}),
        ("--context-scale xray=3", {"context_scale": {"default": 1.0, "xray_frontal": 3.0, "xray_lateral": 3.0}}),
        ("--context-scale default=3,text=0", {"context_scale": {"default": 3.0, "text": 0.0}}),
        ("--guidance-interval=-4,3 --guidance-rescale .7", {"interval": (-4.0, 3.0), "rescale": 0.7}),
        ("--first text", {"first": ("text",)}),
        ("--first none", {}),
        ("--lead text=0.5 --guidance-order prompt_first", {"lead": {"text": 0.5}, "guidance_order": "prompt_first"}),
    ],
)
def test_flags_are_laid_over_the_sampler_of_the_run(flags, changed):
    assert sampler(*flags.split()) == DDIM.model_copy(update=changed)


def test_a_table_of_scales_leaves_those_of_the_run_to_the_others():
    run = DDIM.model_copy(update={"scale": {"ct": 5.0, "text": 3.0}})
    options = parser().parse_args(("--out", "x", "--guidance-scale", "ct=2"))
    assert sampler_with(run, options, OUTPUTS, ALIASES).scale == {"ct": 2.0, "text": 3.0}


SCALE = "a scale is a number between 0 and 100, or several as in ct=2,mri=4 (see"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--guidance-scale 1e9", f"argument --guidance-scale: 1e9: {SCALE}"),
        ("--guidance-scale nan", f"nan: {SCALE}"),
        ("--guidance-scale=-1", f"-1: {SCALE}"),
        ("--guidance-scale many", f"many: {SCALE}"),
        ("--context-scale ct=inf", f"argument --context-scale: ct=inf: {SCALE}"),
        ("--context-scale ct=1,=2", f"ct=1,=2: {SCALE}"),
        ("--guidance-scale cct=2", "no modality for --guidance-scale 'cct' (known: ct, text, xray, xray_frontal"),
        ("--guidance-scale cct=2", "did you mean 'ct'?"),
        ("--first mri", "no output for --first 'mri'"),
        ("--lead mri=0.5", "no modality for --lead 'mri'"),
        ("--lead text=2", "text=2: a lead is a share of the steps from 0 to 1, by modality as in text=0.5"),
        ("--lead 0.5", "0.5: a lead is a share"),
        ("--guidance-interval 3,-4", "3,-4: an interval is two log-SNR, the noisier first: -4,3"),
        ("--guidance-interval 3", "3: an interval is two log-SNR"),
        ("--guidance-rescale 2", "2: a share is a number from 0 to 1"),
        ("--prompt-weight text=0", "text=0: a weight is a number above 0, by modality as in text=2,ct=1"),
        ("--prompt-weight text", "text: a weight is a number above 0"),
        ("--steps 0", "command line: steps: Input should be greater than or equal to 1"),
        ("--solver eular", "command line: solver: "),
    ],
)
def test_wrong_settings_are_refused_as_single_line(flags, message):
    with pytest.raises(UserError) as error:
        sampler(*flags.split())
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_are_those_of_prompts_that_are_given():
    require_weights({"text": 2.0}, ("text", "ct"))
    require_weights({}, ())
    with pytest.raises(UserError, match=r"no prompt for --prompt-weight 'mri' \(given: ct, text"):
        require_weights({"mri": 2.0}, ("text", "ct"))
    with pytest.raises(UserError, match="--prompt-weight: weighs several prompts"):
        require_weights({"text": 2.0}, ("text",))


def test_a_negative_seed_is_refused():
    with pytest.raises(UserError, match="--seed -1: must be 0 or more"):
        main(("--out", "x", "--seed", "-1"))


@pytest.mark.parametrize(
    ("former", "current"),
    [
        (("--given", "ct=a.nii.gz"), ("--condition", "ct=a.nii.gz")),
        (("--couple", "trained"), ("--coupling", "trained")),
        (("--coupling", "helpful"), ("--coupling", "auto")),
        (("--scale", "3.5"), ("--guidance-scale", "3.5")),
    ],
)
def test_a_former_name_parses_alike_with_one_warning_line(former, current):
    with pytest.warns(MedWeaveWarning) as warned:
        options = parser().parse_args(("--out", "x", *former))
    assert options == parser().parse_args(("--out", "x", *current))
    (message,) = [str(warning.message) for warning in warned]
    assert "\n" not in message
    assert current[0] in message
    assert "now" in message


def test_former_names_are_hidden():
    text = parser().format_help()
    assert not any(f"{flag} " in text for flag in ("--given", "--couple", "--scale"))
    assert "helpful" not in text
