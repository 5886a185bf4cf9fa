"""The registry's torchvision beside a CPU torch must not break what imports it."""

import subprocess
import sys

import pytest

LIBRARIES = {
    "timm": "import timm; timm.create_model",
    "transformers": "from transformers import BertModel",
    "diffusers": "from diffusers import AutoencoderKL, UNet2DConditionModel",
    "torchmetrics": "from torchmetrics.image import StructuralSimilarityIndexMeasure",
    "torchvision": "import torchvision; from torchvision.transforms.v2 import Resize",
}


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("first", LIBRARIES)
def test_imports_after_core_in_any_order(first):
    rest = [name for name in LIBRARIES if name != first]
    code = "import core\n" + "\n".join(LIBRARIES[name] for name in [first, *rest])
    result = python(code)
    assert result.returncode == 0, result.stderr[-2000:]


def test_core_does_not_import_torch():
    result = python("import sys, core, core.api; assert 'torch' not in sys.modules and 'numpy' not in sys.modules")
    assert result.returncode == 0, result.stderr


def test_operators_are_not_declared_twice():
    """Where the operators exist already, the cure must leave them alone (a CPU build of torchvision)."""
    code = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import core
import torchvision
print(torch.ops.torchvision.nms.default._schema, torch.ops.torchvision.qnms.default._schema)
"""
    result = python(code)
    assert result.returncode == 0, result.stderr[-2000:]
