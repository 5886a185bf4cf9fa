"""The tables of the current standard, as highdicom ships them: newer than dciodvfy's, without its knowledge of values."""

import pydicom
import pytest
from highdicom._standard_utils import get_iod_module_map, get_module_attribute_map, get_sop_class_iod_map

FILES = (
    "slice/ct.dcm",
    "slice/mri.dcm",
    "slice/xray_frontal.dcm",
    "slice/xray_lateral.dcm",
    "slice/text.dcm",
    "slice/organs.dcm",
    "volume/ct/0001.dcm",
    "volume/mri/0001.dcm",
    "volume/organs.dcm",
)
# Its types hold for content items of other kinds; dsrdump and dciodvfy look at these.
OF_ITEMS = "sr-document-content"


def modules_of(dataset):
    """Module and usage of an object: M is mandatory, C conditional, U the user's choice."""
    iod = get_sop_class_iod_map()[dataset.SOPClassUID]
    return {one["key"]: one["usage"] for one in get_iod_module_map()[iod]}


def attributes(module):
    return {one["keyword"]: one["type"] for one in get_module_attribute_map()[module] if not one["path"]}


@pytest.mark.parametrize("name", FILES)
def test_what_the_standard_asks_for_is_there(study, name):
    dataset = pydicom.dcmread(study / name)
    asked = [module for module, usage in modules_of(dataset).items() if usage == "M" and module != OF_ITEMS]
    assert {"patient", "general-study", "sop-common"} < set(asked)
    for module in asked:
        for keyword, kind in attributes(module).items():
            assert kind not in ("1", "2") or keyword in dataset, f"{module}: {keyword} is missing"
            assert kind != "1" or not dataset[keyword].is_empty, f"{module}: {keyword} is empty"


@pytest.mark.parametrize("name", FILES)
def test_nothing_but_our_private_block_is_outside_the_standard(study, name):
    """Synthetic Data (0008,001C) belongs to the module SOP Common, whatever an older validator says."""
    dataset = pydicom.dcmread(study / name)
    known = {keyword for module in modules_of(dataset) for keyword in attributes(module)}
    assert "SyntheticData" in known
    assert [element.tag for element in dataset if not element.tag.is_private and element.keyword not in known] == []
    assert {element.tag.group for element in dataset if element.tag.is_private} == {0x0099}
