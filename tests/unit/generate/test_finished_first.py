"""Outputs that are finished first: what the others read of them (method F3)."""

from types import SimpleNamespace

import pytest
import torch

from core.generate import pipeline
from core.generate.conditioning import ConditioningGraph
from core.generate.pipeline import BatchRequest, generate_latents


@pytest.fixture
def stages(monkeypatch):
    """The outputs and prompts of each stage of sampling."""
    seen = []

    def sampled(bundle, request, sampler):
        seen.append((request.graph.outputs, dict(request.prompts)))
        return {name: torch.zeros(2, 1) for name in request.graph.outputs}

    monkeypatch.setattr(pipeline, "_sampled", sampled)
    monkeypatch.setattr(pipeline, "decoded", lambda bundle, name, latents: f"decoded {name}")
    monkeypatch.setattr(pipeline, "require_output", lambda bundle, name: None)
    return seen


def test_a_report_that_was_prompted_by_a_sentence_reads_what_it_is_routed_and_no_more(stages):
    """A mask, which has no prompt encoder, is finished along and is no prompt."""
    graph = ConditioningGraph(
        prompts={"text": {"ct": "ct"}, "ct": {"text": "text"}, "mask": {}},
        partners={"text": (), "ct": ("mask",), "mask": ("ct",)}, reasons={}, grids={}, first=("ct", "mask"),
    )  # fmt: skip
    request = BatchRequest(graph=graph, indices=[0, 1], prompts={"text": "a sentence"})
    latents = generate_latents(SimpleNamespace(), request, SimpleNamespace())
    assert list(latents) == ["text", "ct", "mask"]
    assert stages == [
        (("ct", "mask"), {"text": "a sentence"}),
        (("text",), {"text": "a sentence", "ct": "decoded ct"}),
    ]
