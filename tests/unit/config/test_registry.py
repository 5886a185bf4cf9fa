"""registry.toml: what is shipped, what is refused, and where it is looked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from core.config.registry import Registry, load_registry
from core.contract.modality import DatasetAdapter
from core.errors import UserError

SHIPPED = Path(__file__).parents[3] / "registry.toml"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shipped_with(place: Path, extra: str = "", *, replace: tuple[str, str] = ("", "")) -> Path:
    path = place / "registry.toml"
    path.write_text(SHIPPED.read_text().replace(*replace) + "\n" + extra)
    return path


def refusal(path: Path | None) -> str:
    with pytest.raises(UserError) as caught:
        load_registry(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def adapter(name: str) -> DatasetAdapter:
    return DatasetAdapter(name=name, title="", modalities=(), licence="", citation="", scan=lambda root: [])


def test_shipped_recipes_match_the_table_of_the_method():
    registry = load_registry(SHIPPED)
    assert set(registry.recipes) == {"medweave", "medm2g", "medcodi_m", "codi_xr", "medisyn"}
    assert registry.default_recipe == "medweave"
    table = {
        name: (
            recipe.align.visual_invariance,
            recipe.prompt.form,
            recipe.prompt.null,
            recipe.guide.context,
            recipe.guide.contrast,
            recipe.guide.levels,
            recipe.sampler.solver,
            recipe.sampler.steps,
            recipe.sampler.eta,
            recipe.sampler.scale,
        )
        for name, recipe in registry.recipes.items()
    }
    tokens = "pooled_and_neighbour_tokens"
    assert table == {
        "medweave": (True, tokens, "learned", "spatial", False, "independent", "dpmpp_2m", 25, 0.0, 2.0),
        "medm2g": (True, tokens, "learned", "spatial", True, "independent", "ddim", 50, 1.0, 2.0),
        "medcodi_m": (False, "mixed_pooled", "empty_input", "pooled", False, "equal", "ddim", 50, 1.0, 7.5),
        "codi_xr": (False, "pooled", "empty_input", "pooled", True, "equal", "ddim", 50, 0.0, 7.5),
        "medisyn": (False, "tokens_pooled_size", "empty_text", "none", False, "equal", "euler", 50, 0.0, 7.0),
    }
    assert registry.recipe("medisyn").phases.run == ("autoencoder", "diffuse")


def test_shipped_presets():
    registry = load_registry(SHIPPED)
    assert set(registry.presets) == {"tiny", "tiny3d", "small", "paper"}
    assert [name for name, preset in registry.presets.items() if preset.extended] == ["tiny", "tiny3d"]
    assert registry.plugins.enabled is None


def test_published_numbers_are_for_paper_only():
    recipes = load_registry(SHIPPED).recipes
    for name in ("medm2g", "medcodi_m", "codi_xr", "medisyn"):
        assert set(recipes[name].train) == {"paper"}
    published = load_registry(SHIPPED).recipe("medm2g").train["paper"]
    assert published["diffuse"].learning_rate_tokens == 5e-5
    assert published["diffuse"].batch_tokens == 1024
    assert (published["guide"].optimiser, published["guide"].weight_decay) == ("adam", 1e-4)


def test_all_faults_come_as_single_line(place):
    path = shipped_with(place, replace=("solver = ", "solvr = "))
    message = refusal(path)
    assert "unknown key 'recipes.medm2g.sampler.solvr'" in message
    assert "did you mean 'solver'?" in message
    assert "unknown key 'recipes.medisyn.sampler.solvr'" in message


def test_wrong_value_is_named_with_its_path(place):
    message = refusal(shipped_with(place, replace=('context = "spatial"', 'context = "spacial"')))
    assert "recipes.medm2g.guide.context" in message
    assert "'none', 'pooled' or 'spatial'" in message
    assert "'spacial'" in message


def test_syntax_error_names_file_and_line(place):
    (place / "registry.toml").write_text("schema = 1\nrecipes = [\n")
    assert "registry.toml" in (message := refusal(None))
    assert "line" in message


@pytest.mark.parametrize("first", ["schema = 2", ""])
def test_other_schema(place, first):
    message = refusal(shipped_with(place, replace=("schema = 1", first)))
    assert "schema must be 1" in message


def test_missing_file(place):
    assert "nowhere.toml: no such file" in refusal(place / "nowhere.toml")


def test_default_must_exist(place):
    message = refusal(shipped_with(place, replace=('default_recipe = "medweave"', 'default_recipe = "medm2"')))
    assert "default_recipe: no recipe 'medm2'" in message
    assert "did you mean 'medm2g'?" in message


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("xray = []", "at least one modality"),
        ('xray = ["xray"]', "not itself"),
        ('xray = ["ct", "ct"]', "each once"),
        ('"X-ray" = ["ct"]', "lower-case"),
    ],
)
def test_bad_alias(place, line, part):
    message = refusal(shipped_with(place, replace=('xray = ["xray_frontal", "xray_lateral"]', line)))
    assert part in message


def test_look_up_order(place):
    assert load_registry().sources == (SHIPPED,)
    here = shipped_with(place)
    assert load_registry().sources == (here,)
    other = place / "other"
    other.mkdir()
    given = shipped_with(other)
    assert load_registry(given).sources == (given,)


def test_modules_of_a_registry_that_was_only_found_are_not_loaded(place):
    here = shipped_with(place)
    (place / "registry.local.toml").write_text("[plugins.modules]\nclinic = 'mw_clinic'\n")
    with pytest.raises(UserError, match=r"\[plugins\.modules\] would run code \(mw_clinic\); if you trust this folder"):
        load_registry()
    assert load_registry(here).plugins.modules == {"clinic": "mw_clinic"}


def test_local_file_wins_key_by_key(place):
    path = shipped_with(place)
    local = place / "registry.local.toml"
    local.write_text('[datasets.openi_cxr]\nroot = "/data/openi"\n[presets.tiny.align]\nsteps = 7\n')
    registry = load_registry(path)
    assert registry.sources == (path, local)
    assert registry.datasets["openi_cxr"].root == "/data/openi"
    assert registry.datasets["openi_cxr"].adapter == "manifest"
    assert registry.preset("tiny").align.steps == 7
    assert registry.preset("tiny").align.batch == load_registry(SHIPPED).preset("tiny").align.batch


def test_fault_in_local_file(place):
    path = shipped_with(place)
    (place / "registry.local.toml").write_text('[datasets.openi_cxr]\nrot = "/data"\n')
    message = refusal(path)
    assert "registry.local.toml" in message
    assert "did you mean 'root'?" in message


def test_root_from_the_environment(place, monkeypatch):
    registry = load_registry(SHIPPED)
    monkeypatch.setenv("MEDWEAVE_DATA", "/somewhere")
    assert registry.data_source("openi_cxr", {"manifest": adapter("manifest")}).root == Path("/somewhere/openi_cxr")


def test_unset_variable_matters_only_when_used(place, monkeypatch):
    monkeypatch.delenv("MEDWEAVE_DATA", raising=False)
    registry = load_registry(SHIPPED)
    adapters = {"manifest": adapter("manifest"), "phantom": adapter("phantom")}
    assert registry.data_source("phantom", adapters).root == Path("data/phantom")
    with pytest.raises(UserError, match=r"MEDWEAVE_DATA, which is not set.*datasets\.openi_cxr\.root"):
        registry.data_source("openi_cxr", adapters)


def test_unknown_data_set_and_adapter():
    registry = load_registry(SHIPPED)
    with pytest.raises(UserError, match=r"no data set 'opni_cxr' .*did you mean 'openi_cxr'\?"):
        registry.data_source("opni_cxr", {})
    with pytest.raises(UserError, match=r"data set 'openi_cxr': no adapter 'manifest' .*datasets\.openi_cxr\.adapter"):
        registry.data_source("openi_cxr", {"phantom": adapter("phantom")})


def test_pairs_in_either_order(place):
    path = shipped_with(place, '[pairs."text-ct"]\ndatasets = ["medpix_ct_mr"]\nweight = 2.0')
    registry = load_registry(path)
    assert registry.pair("ct", "text").datasets == ("medpix_ct_mr",)
    assert registry.pair("text", "ct").weight == 2.0
    assert registry.pair("text", "mri").datasets is None


def test_pair_has_two_ends(place):
    assert "two different modalities" in refusal(shipped_with(place, '[pairs."text-ct-mri"]\nweight = 2.0'))


def test_pair_names_known_data_sets(place):
    message = refusal(shipped_with(place, '[pairs."text-ct"]\ndatasets = ["medpx"]'))
    assert "pairs.text-ct.datasets: no data set 'medpx'" in message
    assert "did you mean 'medpix_ct_mr'?" in message


def test_frozen():
    registry = load_registry(SHIPPED)
    with pytest.raises(ValueError, match="frozen"):
        registry.default_recipe = "x"  # type: ignore[misc]
    assert isinstance(registry, Registry)


def test_importing_is_light():
    code = "import sys, core.config.registry, core.flow.grammar, core.config.run_config, core.plan.describe; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SHIPPED.parent
    )
    assert answer.stdout.strip() == "False"
