"""The grammar of flows, the rounds that they mean, and who may see what."""

import random
import warnings

import pytest

from core.contract.modality import Modality, PartConfig, Parts, Shared
from core.errors import MedWeaveWarning, UserError
from core.flow.grammar import Flow, parse_flow, reachable_pairs
from core.flow.patient_pools import assign_pools, visible, with_pools
from core.flow.prompt_sources import neighbours
from core.flow.rounds import missing_parts, plan_rounds, require_parts, trained_once, weight_sets
from core.types import DataSpec, Record

ALIASES = {"xray": ("xray_frontal", "xray_lateral")}


class Part(PartConfig):
    width: int = 8


def modality(name: str, kind: str = "grid", **other: object) -> Modality:
    data = DataSpec(kind="vector") if kind == "vector" else DataSpec(kind="grid", space=(4, 4))
    parts = {part: Part() for part in ("reader", "preprocess", "augment", "prompt", "autoencoder", "denoiser")}
    chosen = {part: config for part, config in {**parts, **other}.items() if config is not None}
    return Modality(name=name, title=name, presets={"tiny": Parts(data=data, **chosen)})  # type: ignore[arg-type]


def named(*modalities: Modality) -> dict[str, Modality]:
    return {item.name: item for item in modalities}


MODALITIES = named(
    modality("text"),
    modality("xray_frontal", prompt=Shared("xray.prompt", Part(width=4))),
    modality("xray_lateral", prompt=Shared("xray.prompt", Part(width=4))),
    modality("ct"),
    modality("mri"),
)


def parse(text: str, **options: object) -> Flow:
    return parse_flow(text, MODALITIES, ALIASES, **options)  # type: ignore[arg-type]


def refusal(text: str, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        parse(text, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


MEDM2G = "text-xray,text-ct,ct-mri"


def test_grammar():
    flow = parse(" text + xray_frontal - xray_lateral ,\n text - ct ")
    assert str(flow) == "text+xray_frontal-xray_lateral,text-ct"
    assert [edge.modalities for edge in flow.edges] == [("text", "xray_frontal", "xray_lateral"), ("text", "ct")]
    assert flow.edges[0].pairs == (("text", "xray_lateral"), ("xray_frontal", "xray_lateral"))


def test_alias_is_a_group_in_one_round():
    edge = parse("text-xray").edges[0]
    assert edge.target.modalities == ("xray_frontal", "xray_lateral")
    assert edge.pairs == (("text", "xray_frontal"), ("text", "xray_lateral"))


def test_unknown_name_shows_choices_and_the_nearest():
    assert refusal("text-ct,ct-mir") == (
        "flow item 'ct-mir': no modality 'mir' (installed: ct, mri, text, xray_frontal, xray_lateral; aliases: xray);"
        " did you mean 'mri'?"
    )


def test_without_aliases_the_choices_are_the_modalities():
    with pytest.raises(UserError) as caught:
        parse_flow("ct-mir", MODALITIES, {})
    assert str(caught.value) == (
        "flow item 'ct-mir': no modality 'mir' (installed: ct, mri, text, xray_frontal, xray_lateral); did you mean"
        " 'mri'?"
    )


def test_broken_plugins_explain_an_unknown_name():
    broken = {"other": UserError("no module 'y'"), "pet": UserError("no module 'x'")}
    message = refusal("text-pet", broken=broken)
    assert "no modality 'pet'" in message
    assert message.index("plugin 'pet' failed to load: no module 'x'") < message.index("plugin 'other' failed to load")


def test_alias_with_a_member_that_is_not_installed():
    with pytest.raises(UserError, match=r"alias 'all' means modality 'pet', which is not installed.*aliases\.all"):
        parse_flow("text-all", MODALITIES, {"all": ("ct", "pet")})
    # It matters only when it is used.
    parse_flow("text-ct", MODALITIES, {"all": ("ct", "pet")})


def test_alias_may_not_hide_a_modality():
    with pytest.raises(UserError, match="alias 'ct' has the name of an installed modality"):
        parse_flow("text-ct", MODALITIES, {"ct": ("mri",)})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "the flow is empty"),
        ("  ", "the flow is empty"),
        ("text-ct,", "has an empty item"),
        ("text-ct,,ct-mri", "has an empty item"),
        ("text", "flow item 'text': found no '-'"),
        ("text-ct-mri", "flow item 'text-ct-mri': found 2 times '-'"),
        ("-ct", "flow item '-ct': a name is missing"),
        ("text-", "flow item 'text-': a name is missing"),
        ("text+-ct", "flow item 'text+-ct': a name is missing"),
        ("text-ct+mri", "'+' joins sources only"),
        ("ct-ct", "'ct' is at both ends"),
        ("xray_frontal-xray", "'xray_frontal' is at both ends"),
        ("text+text-ct", "source 'text' is given twice"),
        ("xray+xray_frontal-ct", "source 'xray_frontal' is given twice"),
        ("text-ct,text-ct", "flow item 'text-ct' repeats 'text-ct'"),
        ("text-ct,ct-text", "flow item 'ct-text' repeats 'text-ct'; write it once, both directions"),
        ("text+ct-mri,ct+text-mri", "repeats 'text+ct-mri'"),
    ],
)
def test_bad_flow(text, part):
    assert part in refusal(text)


def test_island_names_what_is_known():
    message = refusal("text-xray,ct-mri")
    assert "flow item 'ct-mri' is an island" in message
    assert "(text, xray_frontal, xray_lateral)" in message
    assert "put an edge before it" in message


def sets_of(flow, modalities, preset="tiny"):
    return weight_sets(flow.modalities, modalities, preset)


def rounds_of(flow, modalities, preset, phase, **options):
    return plan_rounds(flow, sets_of(flow, modalities, preset), phase, **options)


def test_cycle_is_allowed_with_a_warning():
    with pytest.warns(MedWeaveWarning, match="flow item 'text-mri' brings no new modality"):
        flow = parse("text-ct,ct-mri,text-mri")
    assert rounds_of(flow, MODALITIES, "tiny", "align")[2].trains == ()
    assert rounds_of(flow, MODALITIES, "tiny", "align", freeze=False)[2].trains == ("text.prompt", "mri.prompt")


def test_a_tree_gives_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow = parse(MEDM2G)
    assert [len(edge.sources) for edge in flow.edges] == [1, 1, 1]


def test_medm2g_align_rounds():
    """Method E2."""
    rounds = rounds_of(parse(MEDM2G), MODALITIES, "tiny", "align")
    assert [(item.index, item.modalities, item.trains, item.frozen) for item in rounds] == [
        (1, ("text", "xray_frontal", "xray_lateral"), ("text.prompt", "xray.prompt"), ()),
        (2, ("text", "ct"), ("ct.prompt",), ("text.prompt",)),
        (3, ("ct", "mri"), ("mri.prompt",), ("ct.prompt",)),
    ]


def test_medm2g_guide_rounds():
    """Method E15."""
    rounds = rounds_of(parse(MEDM2G), MODALITIES, "tiny", "guide")
    assert [set(item.trains) for item in rounds] == [
        {"context.text", "context.xray_frontal", "context.xray_lateral"}
        | {f"sites.{name}.denoiser" for name in ("text", "xray_frontal", "xray_lateral")},
        {"context.ct", "sites.ct.denoiser"},
        {"context.mri", "sites.mri.denoiser"},
    ]
    assert [item.frozen for item in rounds] == [
        (),
        ("context.text", "sites.text.denoiser"),
        ("context.ct", "sites.ct.denoiser"),
    ]


def test_medcodi_m_guide_rounds():
    """The views first, then the report with the frontal side frozen (method page, recipes)."""
    flow = parse("xray_frontal-xray_lateral,xray_frontal-text")
    first, second = rounds_of(flow, MODALITIES, "tiny", "guide")
    views = ("xray_frontal", "xray_lateral")
    assert first.trains == tuple(key for name in views for key in (f"context.{name}", f"sites.{name}.denoiser"))
    assert first.frozen == ()
    assert second.trains == ("context.text", "sites.text.denoiser")
    assert second.frozen == ("context.xray_frontal", "sites.xray_frontal.denoiser")


def test_shared_denoiser_has_its_sites_once():
    shared = Shared("image.denoiser", Part())
    modalities = named(modality("a"), modality("b", denoiser=shared), modality("c", denoiser=shared))
    rounds = rounds_of(parse_flow("a-b,a-c", modalities, {}), modalities, "tiny", "guide")
    assert rounds[1].trains == ("context.c",)
    assert rounds[1].frozen == ("context.a", "sites.a.denoiser", "sites.image.denoiser")


def test_trained_once_joins_owners():
    shared = Shared("image.autoencoder", Part())
    modalities = named(modality("a", autoencoder=shared), modality("b", autoencoder=shared), modality("c"))
    sets = trained_once(sets_of(parse_flow("a-b,b-c", modalities, {}), modalities), "autoencoder")
    assert [(item.key, item.owners) for item in sets] == [("image.autoencoder", ("a", "b")), ("c.autoencoder", ("c",))]


def test_unequal_configs_under_one_key():
    modalities = named(
        modality("a", prompt=Shared("image", Part(width=4))), modality("b", prompt=Shared("image", Part(width=5)))
    )
    flow = parse_flow("a-b", modalities, {})
    for phase in ("align", "guide"):
        with pytest.raises(UserError, match=r"'image': modalities 'a' and 'b'.*width = 4, 5.*two keys"):
            rounds_of(flow, modalities, "tiny", phase)
    with pytest.raises(UserError, match="'image'"):
        trained_once(sets_of(flow, modalities), "diffuse")


def test_one_key_for_two_parts():
    modalities = named(modality("a", prompt=Shared("image", Part())), modality("b", denoiser=Shared("image", Part())))
    with pytest.raises(UserError, match="shared key 'image' stands for the prompt and the denoiser"):
        rounds_of(parse_flow("a-b", modalities, {}), modalities, "tiny", "align")


def test_parts_that_a_phase_needs():
    modalities = named(modality("a"), modality("b", prompt=None), modality("c", denoiser=None, augment=None))
    flow = parse_flow("a-b,a-c", modalities, {})
    assert missing_parts(flow, modalities, "tiny", "align") == ("b: no prompt",)
    assert missing_parts(flow, modalities, "tiny", "align", augmented=True) == ("b: no prompt", "c: no augment")
    assert missing_parts(flow, modalities, "tiny", "diffuse") == ()
    with pytest.raises(UserError, match=r"phase guide of flow 'a-b,a-c' .*: c: no denoiser; leave"):
        require_parts(flow, modalities, "tiny", "guide")


def test_unknown_preset():
    with pytest.raises(UserError, match=r"no preset of modality 'text' 'tinny' .*did you mean 'tiny'\?"):
        rounds_of(parse(MEDM2G), MODALITIES, "tinny", "align")


def test_neighbours():
    flow = parse(MEDM2G)
    assert neighbours(flow, "text") == ("xray_frontal", "xray_lateral", "ct")
    assert neighbours(flow, "ct") == ("text", "mri")
    assert neighbours(flow, "mri") == ("ct",)
    # Members of a group are neighbours of the other end, not of each other.
    assert neighbours(flow, "xray_frontal") == ("text",)


def test_joined_sources_are_neighbours_of_the_target_only():
    flow = parse("text+xray_frontal-xray_lateral")
    assert neighbours(flow, "xray_lateral") == ("text", "xray_frontal")
    assert neighbours(flow, "text") == ("xray_lateral",)


def test_reachable_without_pairs():
    assert reachable_pairs(parse(MEDM2G)) == (
        ("text", "mri"),
        ("xray_frontal", "ct"),
        ("xray_frontal", "mri"),
        ("xray_lateral", "ct"),
        ("xray_lateral", "mri"),
    )
    assert reachable_pairs(parse("text+xray_frontal-xray_lateral")) == ()


def record(patient: str, split: str = "train", pool: int | None = None) -> Record:
    files = dict.fromkeys(MODALITIES, ("x",))
    return Record(patient=patient, study="1", files=files, split=split, pool=pool)  # type: ignore[arg-type]


def test_pools_are_even_disjoint_and_repeatable():
    patients = [f"p{number}" for number in range(100)]
    pools = assign_pools(patients, 3, seed=1)
    sizes = [list(pools.values()).count(pool) for pool in (1, 2, 3)]
    assert sorted(sizes) == [33, 33, 34]
    assert pools == assign_pools(reversed(patients), 3, seed=1)
    assert pools != assign_pools(patients, 3, seed=2)


def test_a_pool_shows_its_round_and_held_out_patients_everything():
    flow = parse(MEDM2G)
    records = with_pools([record("a"), record("a"), record("b"), record("c"), record("t", "test")], flow)
    assert records[0].pool == records[1].pool
    assert {item.pool for item in records[:4]} == {1, 2, 3}
    assert records[4].pool is None
    assert visible(record("a", pool=2), flow, "disjoint") == ("text", "ct")
    assert visible(record("a", pool=2), flow, "all") == flow.modalities
    assert visible(records[4], flow, "disjoint") == flow.modalities
    together = [set(visible(item, flow, "disjoint")) for item in records[:4]]
    for pair in reachable_pairs(flow):
        assert not any(set(pair) <= seen for seen in together)


@pytest.mark.parametrize("seed", range(60))
def test_random_trees(seed):
    """Every modality is trained exactly once, and only what was trained is frozen."""
    draw = random.Random(seed)
    names = [f"m{number}" for number in range(draw.randint(2, 9))]
    keys = {name: draw.choice(["", "one", "two"]) for name in names}
    modalities = named(*(modality(name, prompt=Shared(keys[name], Part()) if keys[name] else Part()) for name in names))
    edges = []
    for index in range(1, len(names)):
        ends = [draw.choice(names[:index]), names[index]]
        draw.shuffle(ends)
        edges.append("-".join(ends))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow = parse_flow(" , ".join(edges), modalities, {})
    assert str(parse_flow(str(flow), modalities, {})) == str(flow)
    for phase in ("align", "guide"):
        trained: list[str] = []
        for item in rounds_of(flow, modalities, "tiny", phase):
            assert set(item.frozen) <= set(trained)
            assert not set(item.trains) & set(trained)
            trained += item.trains
        assert len(trained) == len(set(trained))
        expected = {f"context.{name}" for name in names} | {f"sites.{name}.denoiser" for name in names}
        if phase == "align":
            expected = {keys[name] or f"{name}.prompt" for name in names}
        assert set(trained) == expected
    once = trained_once(sets_of(flow, modalities), "diffuse")
    assert sorted(owner for item in once for owner in item.owners) == sorted(names)
    joined = sum(len(neighbours(flow, name)) for name in names) // 2
    assert joined + len(reachable_pairs(flow)) == len(names) * (len(names) - 1) // 2
