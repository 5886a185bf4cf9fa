"""Cached prompts equal those that would be encoded again."""

from types import SimpleNamespace

import pytest
import torch

from core.diffuse import study_prompts
from core.diffuse.study_prompts import StudyPrompts
from core.types import Batch, Prompt


class Studies:
    """Sequences of different lengths; counts what is read."""

    def __init__(self):
        self.rows = [torch.full((1 + index % 5,), index) for index in range(150)]
        self.read = []

    def batch(self, name, indices):
        self.read += list(indices)
        length = max(len(self.rows[index]) for index in indices)
        data = torch.stack(
            [torch.nn.functional.pad(self.rows[index], (0, length - len(self.rows[index]))) for index in indices]
        )
        lengths = torch.tensor([len(self.rows[index]) for index in indices])
        return Batch(modality=name, data=data, mask=torch.arange(length)[None] < lengths[:, None])


def encoder(batch):
    tokens = batch.data.float()[..., None] * torch.tensor([1.0, 2.0])
    null = torch.zeros(len(tokens), 1, 2)
    pooled = torch.nn.functional.normalize(torch.stack([batch.data[:, 0].float(), torch.ones(len(tokens))], 1), dim=1)
    mask = torch.nn.functional.pad(batch.mask, (1, 0), value=True)
    return Prompt(tokens=torch.cat([null, tokens * batch.mask[..., None]], 1), pooled=pooled, mask=mask)


@pytest.fixture
def parts():
    return Studies(), SimpleNamespace(to_device=lambda value: value)


def same(found, expected):
    assert torch.equal(found.mask, expected.mask)
    assert torch.equal(found.pooled, expected.pooled)
    assert torch.equal(found.tokens * found.mask[..., None], expected.tokens * expected.mask[..., None])


def test_cached_prompts_are_the_encoded_ones(parts):
    studies, compute = parts
    cached = StudyPrompts(encoder, "text", list(range(150)), studies, compute)
    read = len(studies.read)
    for indices in ([3, 149, 3], [0], list(range(20, 60))):
        found = cached.prompts_of(indices)
        assert len(studies.read) == read, "nothing is read again"
        same(found, encoder(Studies().batch("text", indices)))


def test_what_exceeds_the_memory_limit_is_encoded_again(parts, monkeypatch):
    monkeypatch.setattr(study_prompts, "MOST_BYTES", 100)
    studies, compute = parts
    cached = StudyPrompts(encoder, "text", list(range(150)), studies, compute)
    read = len(studies.read)
    same(cached.prompts_of([7, 8]), encoder(Studies().batch("text", [7, 8])))
    assert len(studies.read) == read + 2


def test_the_order_of_the_indices_does_not_matter(parts):
    studies, compute = parts
    StudyPrompts(encoder, "text", [9, 1, 9, 4], studies, compute)
    assert studies.read[-3:] == [1, 4, 9]
