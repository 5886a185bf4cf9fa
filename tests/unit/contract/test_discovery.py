"""Plugins come and go by installing packages; each way of going wrong is one clear line."""

import importlib
import sys
import textwrap
from pathlib import Path

import pytest

from core.config.run_config import RunConfig
from core.contract.discovery import discover
from core.errors import UserError
from core.generate.sources import default_model, model_folder

MODALITY = """
from core.api import DataSpec, Modality, Parts, hookimpl
@hookimpl
def register_modalities():
    return [Modality(name="{name}", title="T", presets={{"tiny": Parts(data=DataSpec(kind="vector"))}}, contract={contract})]
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A fresh folder on sys.path in which distributions can be 'installed'."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("mw_test_")]:
        del sys.modules[name]


def install(
    site: Path,
    module: str,
    source: str,
    *,
    plugin: str | None = None,
    distribution: str | None = None,
    requires: str = "",
) -> str:
    """A module plus the metadata that `pip install` would leave; the plugin's name is returned."""
    distribution = distribution or module.replace("_", "-")
    plugin = plugin or module
    (site / f"{module}.py").write_text(textwrap.dedent(source))
    info = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n{requires}")
    (info / "entry_points.txt").write_text(f"[medweave.plugins]\n{plugin} = {module}\n")
    importlib.invalidate_caches()
    return plugin


def broken(name: str) -> str:
    """The one line that says why a plugin cannot be used."""
    catalog = discover([name], reserved=RunConfig.model_fields)
    message = str(catalog.broken[name])
    assert "\n" not in message
    assert f"plugin '{name}'" in message
    assert catalog.modalities == {}
    return message


def test_an_installed_package_adds_a_modality(site):
    name = install(site, "mw_test_good", MODALITY.format(name="sono", contract=1))
    catalog = discover([name])
    assert list(catalog.modalities) == ["sono"]
    assert catalog.owner == {"sono": name}
    assert [plugin.source for plugin in catalog.plugins if plugin.name == name] == ["mw-test-good 1.2"]


def test_all_plugins_are_enabled_by_default_and_the_others_are_listed_as_off(site):
    name = install(site, "mw_test_good", MODALITY.format(name="sono", contract=1))
    assert "sono" in discover().modalities
    catalog = discover(["toy"])
    assert "sono" not in catalog.modalities
    assert {plugin.name: plugin.enabled for plugin in catalog.plugins}[name] is False


def test_development_door(site):
    (site / "mw_test_dev.py").write_text(MODALITY.format(name="sono", contract=1))
    assert "sono" in discover(["dev"], {"dev": "mw_test_dev"}).modalities


def test_development_door_may_not_shadow(site):
    name = install(site, "mw_test_good", MODALITY.format(name="sono", contract=1))
    with pytest.raises(UserError, match="has the name of the installed plugin of mw-test-good"):
        discover(None, {name: "mw_test_dev"})


def test_two_distributions_with_one_plugin_name(site):
    install(site, "mw_test_one", MODALITY.format(name="one", contract=1), plugin="echo")
    install(site, "mw_test_two", MODALITY.format(name="two", contract=1), plugin="echo")
    with pytest.raises(
        UserError, match=r"two plugins are called 'echo': mw-test-one 1.2 and mw-test-two 1.2; uninstall"
    ):
        discover()


def test_two_plugins_with_one_modality(site):
    names = [
        install(site, "mw_test_one", MODALITY.format(name="sono", contract=1)),
        install(site, "mw_test_two", MODALITY.format(name="sono", contract=1)),
    ]
    with pytest.raises(UserError, match="modality 'sono' is offered by the plugins 'mw_test_one' and 'mw_test_two'"):
        discover(names)


def test_enabled_but_not_installed():
    with pytest.raises(UserError, match=r"no plugin 'toi' \(installed: .*toy.*\); did you mean 'toy'\?"):
        discover(["toi"])


def test_raises_on_import(site):
    message = broken(install(site, "mw_test_bad", "1 / 0"))
    assert "ZeroDivisionError: division by zero" in message
    assert "mw_test_bad.py:1" in message
    assert "mw-test-bad 1.2" in message


def test_exits_on_import(site):
    assert "SystemExit" in broken(install(site, "mw_test_bad", "raise SystemExit(3)"))


def test_missing_optional_package_names_the_extra(site):
    name = install(
        site,
        "mw_test_extra",
        "import sonopy_missing",
        requires='Requires-Dist: sonopy_missing>=2; extra == "sono"\nProvides-Extra: sono\n',
    )
    message = broken(name)
    assert "needs the package 'sonopy_missing'" in message
    assert "pip install 'mw-test-extra[sono]'" in message


def test_missing_undeclared_package_names_the_package(site):
    message = broken(install(site, "mw_test_extra", "import sonopy_missing.deep"))
    assert "pip install sonopy_missing" in message


def test_module_of_the_entry_point_is_gone(site):
    name = install(site, "mw_test_gone", "")
    (site / "mw_test_gone.py").unlink()
    importlib.invalidate_caches()
    assert "No module named 'mw_test_gone'" in broken(name)


@pytest.mark.parametrize(
    ("contract", "remedy"),
    [(2, "update MedWeave, or install an older plugin"), (0, "update the plugin, or install an older MedWeave")],
)
def test_other_contract_version(site, contract, remedy):
    message = broken(install(site, "mw_test_new", MODALITY.format(name="sono", contract=contract)))
    assert f"modality 'sono' was written for contract {contract}, this MedWeave has contract 1; {remedy}" in message


@pytest.mark.parametrize("name", ["recipe", "data", "align", "training", "parts"])
def test_names_of_run_options_are_taken(site, name):
    message = broken(install(site, "mw_test_option", MODALITY.format(name=name, contract=1)))
    assert f"modality '{name}' has the name of a run option" in message
    assert "choose another name (taken: aliases, align, attention, autoencoder, data," in message


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("modalities='ct', scan=list", "needs a tuple of modality names, found 'ct'"),
        ("modalities=(3,), scan=list", "needs a tuple of modality names, found (3,)"),
        ("modalities=('ct',), scan=3", "needs a function scan(root)"),
        ("modalities=('ct',), scan=list, make=3", "needs a function scan(root), and for make a function or None"),
        ("modalities=('ct',)", "missing 1 required keyword-only argument: 'scan'"),
    ],
)
def test_wrong_data_sets(site, fields, expected):
    source = f"""
from core.api import DatasetAdapter, hookimpl
@hookimpl
def register_datasets():
    return [DatasetAdapter(name="clinic", title="C", licence="-", citation="-", {fields})]
"""
    assert expected in broken(install(site, "mw_test_data", source))


def test_what_is_off_says_so(site):
    name = install(site, "mw_test_good", MODALITY.format(name="sono", contract=1))
    catalog = discover(["toy"])
    assert str(catalog.off[name]) == f"plugin '{name}' is turned off: add it to [plugins] enabled"
    assert discover().off == {}


def test_unknown_hook_is_named_with_the_nearest(site):
    source = "from core.api import hookimpl\n@hookimpl\ndef register_modality():\n    return []\n"
    message = broken(install(site, "mw_test_hook", source))
    assert "no known hook 'register_modality'" in message
    assert "did you mean 'register_modalities'?" in message


def test_hook_with_wrong_arguments(site):
    source = "from core.api import hookimpl\n@hookimpl\ndef register_modalities(config):\n    return []\n"
    assert "register_modalities" in broken(install(site, "mw_test_hook", source))


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ("['ct']", "returned a str; it returns a sequence of Modality"),
        ("[Modality(name='CT', title='', presets={'tiny': PARTS})]", "offers the name 'CT'; a name is lower case"),
        ("[Modality(name='a', title='', presets={})]", "has no preset"),
        ("[Modality(name='a', title='', presets=['tiny'])]", "presets are a mapping of names to Parts, found ['tiny']"),
        ("[Modality(name=None, title='', presets={'tiny': PARTS})]", "offers the name 'None'; a name is lower case"),
        ("[Modality(name='a', title='', presets={'tiny': 3})]", "found a int; a preset is a Parts value"),
        (
            "[Modality(name='a', title='', presets={'tiny': Parts(data=SPEC, exports={'DICOM': PartConfig()})})]",
            "exports are a mapping of lower-case names to writers",
        ),
        (
            "[Modality(name='a', title='', presets={'tiny': Parts(data=SPEC, exports={'dicom': 3})})]",
            "export 'dicom' is a int; it is a PartConfig",
        ),
        (
            "[Modality(name='a', title='', presets={'tiny': Parts(data=SPEC, reader=3)})]",
            "part 'reader' is a int; it is a PartConfig",
        ),
        ("[Modality(name='a')]", "missing 2 required keyword-only arguments"),
    ],
)
def test_wrong_offers(site, returned, expected):
    source = f"""
from core.api import DataSpec, Modality, PartConfig, Parts, hookimpl
SPEC = DataSpec(kind="vector")
PARTS = Parts(data=SPEC)
@hookimpl
def register_modalities():
    return {returned}
"""
    assert expected in broken(install(site, "mw_test_offer", source))


def test_one_broken_plugin_leaves_the_others(site):
    bad = install(site, "mw_test_bad", "1 / 0")
    good = install(site, "mw_test_good", MODALITY.format(name="sono", contract=1))
    catalog = discover([bad, good])
    assert list(catalog.modalities) == ["sono"]
    assert list(catalog.broken) == [bad]


def test_unregistered_third_party_loads_nothing_heavy(site):
    """Registering the built-in plugins imports no torch (each hook is promised to take milliseconds)."""
    import subprocess

    code = "import sys\nfrom core.contract.discovery import discover\ndiscover()\nassert 'torch' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_every_hook_is_heard(site):
    source = """
from pathlib import Path
from core.api import DataSpec, DatasetAdapter, MetricSpec, Modality, PackagedModel, PartConfig, Parts, hookimpl

class Agreement(PartConfig):
    pass

@hookimpl
def register_modalities():
    return (Modality(name="sono", title="S", presets={"tiny": Parts(data=DataSpec(kind="vector"))}),)

@hookimpl
def register_datasets():
    yield DatasetAdapter(name="clinic", title="C", modalities=("sono",), licence="-", citation="-", scan=lambda root: [])

@hookimpl
def register_metrics():
    return [MetricSpec(name="agree", compares="pairs", better="higher", config=Agreement(), relates=("sono", "text"))]

@hookimpl
def register_models():
    return [PackagedModel(name="small", title="S", folder=Path(__file__).parent / "small")]
"""
    catalog = discover([install(site, "mw_test_all", source)])
    assert list(catalog.modalities) == ["sono"]
    assert list(catalog.datasets) == ["clinic"]
    assert [metric.relates for metric in catalog.metrics] == [("sono", "text")]
    assert catalog.models["small"].folder.parent == site
    assert model_folder(Path("small"), catalog.models) == site / "small"
    assert model_folder(Path("other"), catalog.models) == Path("other")
    assert default_model(Path("no/run"), catalog.models) == (site / "small", "small")
    assert default_model(site, catalog.models) == (site, "")


def test_a_hook_that_raises_names_its_line(site):
    source = "from core.api import hookimpl\n@hookimpl\ndef register_datasets():\n    raise OSError('no disk')\n"
    assert "OSError: no disk" in broken(install(site, "mw_test_raise", source))


def test_two_plugins_with_one_data_set(site):
    source = """
from core.api import DatasetAdapter, hookimpl
@hookimpl
def register_datasets():
    return [DatasetAdapter(name="clinic", title="C", modalities=(), licence="-", citation="-", scan=list)]
"""
    names = [install(site, f"mw_test_{number}", source) for number in ("one", "two")]
    with pytest.raises(UserError, match="data set 'clinic' is offered by the plugins"):
        discover(names)
