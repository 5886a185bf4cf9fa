"""Scales of guidance by modality, and what is refused: one line that names the setting."""

from pathlib import Path

import pytest

from core.config.recipe import SamplerChoice
from core.config.registry import load_registry
from core.config.run_config import Flags, resolve
from core.errors import UserError

REGISTRY = load_registry(Path(__file__).parents[3] / "registry.toml")
MODALITIES = ("text", "xray_frontal", "xray_lateral", "ct", "mri")


def sampler(*items):
    return resolve(REGISTRY, MODALITIES, Flags(set=[f"sampler.{item}" for item in items])).sampler


def test_a_scale_is_a_number_for_all_or_a_table_by_modality():
    assert {SamplerChoice(scale=3).scale_of(name) for name in MODALITIES} == {3.0}
    table = SamplerChoice(scale={"ct": 2, "mri": 4.5}, context_scale={"default": 3.0, "text": 1.0})
    assert [table.scale_of(name) for name in ("ct", "mri", "text")] == [2.0, 4.5, 1.0]
    assert [table.context_scale_of(name) for name in ("ct", "text")] == [3.0, 1.0]
    assert SamplerChoice().scale_of("ct") == SamplerChoice().context_scale_of("ct") == 1.0


def test_an_alias_in_a_table_stands_for_its_members_and_a_name_goes_before_it():
    assert sampler("scale={ xray = 2.0, xray_lateral = 3.0 }").scale == {
        **{"default": 5.0, "text": 9.0, "ct": 3.0, "mri": 3.0},  # those of `tiny` stay
        **{"xray_frontal": 2.0, "xray_lateral": 3.0},
    }
    assert sampler("lead.text=0.25").lead == {"text": 0.25}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("scale=-1", "sampler.scale: a guidance scale is a number between 0 and 100, found '-1'"),
        ("scale=1e9", "sampler.scale: a guidance scale is a number between 0 and 100, found '1000000000.0'"),
        ("scale=nan", "sampler.scale: a guidance scale is a number between 0 and 100, found 'nan'"),
        ("context_scale={ct = inf}", "sampler.context_scale: a guidance scale of 'ct' is a number between 0 and 100"),
        ("scale=true", "sampler.scale: a guidance scale is a number between 0 and 100, found 'True'"),
        ("scale.cct=2", "no modality for sampler.scale 'cct'"),
        (
            "guidance_order=both",
            "sampler.guidance_order: Input should be 'prompt_first' or 'context_first', found 'both'",
        ),
        (
            "interval=[3, -4]",
            "sampler.interval: an interval of guidance rises, from the noisier log-SNR to the cleaner",
        ),
        ("interval=[0.8]", "sampler.interval: an interval of guidance is two log-SNR, e.g. [-4, 3], found '[0.8]'"),
        ("interval=[0, inf]", "sampler.interval: an interval of guidance is two log-SNR, e.g. [-4, 3]"),
        ("interval=0.5", "sampler.interval: an interval of guidance is two log-SNR, e.g. [-4, 3], found '0.5'"),
        ("rescale=1.5", "sampler.rescale: a rescale of guidance is a number between 0 and 1, found '1.5'"),
        ("rescale.text=-1", "sampler.rescale: a rescale of guidance of 'text' is a number between 0 and 1"),
        ("rescale.txt=0.5", "no modality for sampler.rescale 'txt'"),
        ("lead=0.2", "sampler.lead: the lead is a table of numbers by modality, e.g. { text = 0.3 }, found '0.2'"),
        ("lead.text=1.5", "sampler.lead: the lead of 'text' is a share of the steps, from 0 to 1"),
        ("first=['txt']", "no modality for sampler.first 'txt'"),
        ("lead.txt=0.5", "no modality for sampler.lead 'txt'"),
    ],
)
def test_what_is_refused(item, message):
    with pytest.raises(UserError) as error:
        sampler(item)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_preset_may_name_what_is_not_installed_and_a_user_may_not():
    few = ("text", "xray_frontal", "xray_lateral")
    flags = Flags(flow="text-xray_frontal")
    assert resolve(REGISTRY, few, flags).sampler.scale == {"default": 5.0, "text": 9.0}
    with pytest.raises(UserError, match=r"no modality for sampler\.scale 'ct'"):
        resolve(REGISTRY, few, Flags(flow="text-xray_frontal", set=["sampler.scale.ct=3"]))
