"""One kernel for every denoiser: a stand-in for xformers is called with its layout, and what does not fit is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from diffusers.models import attention_dispatch

from core.errors import UserError
from core.nn import ContextSite, GridDenoiserConfig, VectorDenoiserConfig, attention
from core.nn.attention import attend
from core.types import Conditioning

CPU = torch.device("cpu")
LAYERS = {"attention": (False, True), "widths": (16, 32), "num_blocks": 1, "head_width": 8, "norm_groups": 8}


@pytest.fixture
def xformers(monkeypatch):
    """A module `xformers.ops` that computes what the real one documents, and remembers its calls."""
    calls = []

    def memory_efficient_attention(query, key, value, attn_bias=None, p=0.0, scale=None):
        calls.append((query, key, value, attn_bias))
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * (scale or query.shape[-1] ** -0.5)
        scores = scores if attn_bias is None else scores + attn_bias
        return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value)

    operators = ModuleType("xformers.ops")
    operators.memory_efficient_attention = memory_efficient_attention
    package = ModuleType("xformers")
    package.ops = operators
    monkeypatch.setitem(sys.modules, "xformers", package)
    monkeypatch.setitem(sys.modules, "xformers.ops", operators)
    monkeypatch.setattr(attention, "_choice", attention._Choice())
    monkeypatch.setattr(attention_dispatch, "xops", None)  # as where diffusers was imported without it
    attention._bind(attention._load_xformers())
    attention.choose("xformers", "cpu")
    return calls


def tokens(*, heads: int = 2, query: int = 5, length: int = 7, width: int = 8) -> list[torch.Tensor]:
    draws = torch.Generator().manual_seed(0)
    return [torch.randn(3, heads, n, width, generator=draws) for n in (query, length, length)]


@pytest.mark.parametrize("shape", [None, (1, 2, 5, 7), (3, 1, 1, 7), (3, 2, 5, 7)], ids=str)
@pytest.mark.parametrize("kind", ["bool", "added"])
def test_xformers_is_called_with_its_layout_and_its_result_is_used(xformers, shape, kind):
    query, key, value = tokens()
    draws = torch.Generator().manual_seed(1)
    mask = None
    if shape is not None:
        mask = torch.randn(shape, generator=draws)
        mask = (mask > 0) | (torch.arange(7) == 0) if kind == "bool" else mask
    update = attend(query, key, value, mask, scale=0.2)
    ((q, k, v, bias),) = xformers
    assert q.shape == (3, 5, 2, 8), "batch token head width"
    assert k.shape == v.shape == (3, 7, 2, 8)
    if shape is not None:
        assert bias.shape == (3, 2, 5, 7)
        assert bias.is_floating_point()
        assert all(step % 8 == 0 for step in bias.stride()[:-1]), "every row begins at a multiple of 8 numbers"
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.2)
    assert torch.allclose(update, expected, atol=1e-6)
    assert not torch.equal(update, torch.zeros_like(update))


def test_what_the_kernel_cannot_take_goes_to_pytorch(xformers):
    for width in (6, 264):
        query, key, value = tokens(width=width)
        assert torch.equal(attend(query, key, value), F.scaled_dot_product_attention(query, key, value))
    attention.choose("flash", "cpu")  # neither masks nor float32
    query, key, value = tokens()
    mask = torch.zeros(1, 1, 5, 7)
    assert torch.equal(attend(query, key, value, mask), F.scaled_dot_product_attention(query, key, value, mask))
    attention.choose("xformers", "cuda")  # tensors of another device
    attend(query, key, value)
    assert not xformers


DENOISERS = {
    "text": VectorDenoiserConfig(
        width=6, model_width=16, prompt_width=8, multipliers=(1, 2), attention=(True, True), num_heads=2, norm_groups=8
    ),
    "plane": GridDenoiserConfig(channels=3, space=(8, 8), prompt_width=8, **LAYERS),
    "volume": GridDenoiserConfig(channels=3, space=(4, 4, 4), prompt_width=8, **LAYERS),
}


@pytest.mark.parametrize("kind", DENOISERS)
@torch.no_grad()
def test_every_attention_of_a_denoiser_takes_the_chosen_kernel(kind, xformers, randomised):
    network = randomised(DENOISERS[kind].build().eval())
    draws = torch.Generator().manual_seed(2)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    given = Conditioning(prompt=torch.randn(2, 3, 8, generator=draws), prompt_mask=mask)
    z, level = torch.randn(2, *network.latent_shape, generator=draws), torch.tensor([-1.0, 2.0])
    update = network(z, level, given)
    blocks = sum(isinstance(module, ContextSite) for module in network.modules())
    assert len(xformers) == 2 * blocks, "self-attention and cross-attention of every block"
    attention.choose("sdpa", "cpu")
    assert torch.allclose(update, network(z, level, given), atol=1e-5)
    assert len(xformers) == 2 * blocks


def test_a_cpu_has_pytorch_alone():
    assert attention.use_attention("auto", CPU) == attention.use_attention("sdpa", CPU) == "sdpa"
    assert attention.usable("xformers", CPU) == attention.usable("flash", CPU) == "auto"
    assert attention.usable("sdpa", CPU) == "sdpa"
    for kernel in ("xformers", "flash"):
        with pytest.raises(UserError, match=f"attention '{kernel}' needs an NVIDIA GPU.*choose auto or sdpa"):
            attention.use_attention(kernel, CPU)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "xformers.ops", None)
    with pytest.raises(UserError, match=r"pip install 'medweave\[cuda\]', or choose sdpa"):
        attention._load_xformers()


def test_on_a_cpu_an_installed_xformers_is_never_imported(tmp_path):
    """diffusers imports it with its models where it is installed, and a CUDA build fails or costs seconds on a CPU."""
    (tmp_path / "xformers").mkdir()
    (tmp_path / "xformers/__init__.py").write_text("raise SystemExit('xformers was imported')")
    (tmp_path / "xformers-0.0.33.dist-info").mkdir()
    (tmp_path / "xformers-0.0.33.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: xformers\nVersion: 0.0.33\n"
    )
    program = (
        "import sys, torch; from core.nn.attention import use_attention; use_attention('auto', torch.device('cpu'));"
        "import diffusers.models.attention; assert 'xformers' not in sys.modules"
    )
    root = Path(attention.__file__).parents[2]
    found = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": f"{tmp_path}:{root}"}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr or found.stdout
