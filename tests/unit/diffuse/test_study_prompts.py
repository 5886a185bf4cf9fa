"""Cached prompts equal those that would be encoded again."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from core.diffuse import study_prompts
from core.diffuse.study_prompts import NUM_SHORTENED, StudyPrompts, draw_versions
from core.types import Batch, DataSpec, Prompt, Sample


class Studies:
    """Sequences of different lengths; counts what is read. A shortened one begins with the id 1,000 + a draw."""

    parts = dict.fromkeys(
        ("text", "picture"), SimpleNamespace(data=DataSpec(kind="tokens", space=(9,), vocabulary=10_000))
    )

    def __init__(self):
        self.rows = [torch.full((1 + index % 5,), index) for index in range(150)]
        self.read = []

    def sample(self, name, index):
        self.read.append(index)
        return Sample(modality=name, data=self.rows[index].numpy())

    def shortened_sample(self, name, index, draws):
        self.read.append(index)
        first = 1000 + int(torch.randint(0, 1000, (1,), generator=draws))
        return Sample(modality=name, data=np.array([first, index], dtype=np.int64))

    def batch(self, name, indices):
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


def test_shortened_versions_are_drawn_once_and_repeated(parts, monkeypatch):
    studies, compute = parts
    cached = StudyPrompts(encoder, "text", [1, 4], studies, compute, shortened=True, seed=3)
    read = len(studies.read)
    versions = [0, 1, NUM_SHORTENED, 1]
    found = cached.prompts_of([4, 4, 4, 1], versions)
    assert len(studies.read) == read, "nothing is read again"
    first = found.tokens[:, 1, 0].tolist()
    assert first[0] == 4
    assert len({*first}) == 4, "versions of a study, and studies of a version, differ"
    assert min(first[1:]) >= 1000
    monkeypatch.setattr(study_prompts, "MOST_BYTES", 100)
    same(
        StudyPrompts(encoder, "text", [1, 4], studies, compute, shortened=True, seed=3).prompts_of(
            [4, 4, 4, 1], versions
        ),
        found,
    )
    other = StudyPrompts(encoder, "text", [1, 4], studies, compute, shortened=True, seed=4).prompts_of([4], [1])
    assert other.tokens[0, 1, 0] != first[1]


def test_only_texts_are_shortened(parts):
    studies, compute = parts
    studies.parts = {"picture": SimpleNamespace(data=DataSpec(kind="grid", space=(4, 4)))}
    studies.sample = lambda name, index: Sample(modality=name, data=np.full((1, 4, 4), index, np.float32))
    of_mean = lambda batch: Prompt(  # noqa: E731
        tokens=batch.data.reshape(len(batch.data), 4, 4),
        pooled=torch.ones(len(batch.data), 2),
        mask=torch.ones(len(batch.data), 4, dtype=torch.bool),
    )
    cached = StudyPrompts(of_mean, "picture", [1, 3], studies, compute, shortened=True)
    assert cached.prompts_of([3, 1], [2, 0]).tokens[:, 0, 0].tolist() == [3, 1]


def test_versions_follow_the_probability():
    draws = torch.Generator().manual_seed(0)
    state = draws.get_state()
    assert draw_versions(5, 0.0, draws) == [0] * 5
    assert torch.equal(state, draws.get_state()), "recipes without it draw nothing"
    versions = torch.tensor(draw_versions(20_000, 0.3, draws))
    shares = torch.bincount(versions, minlength=1 + NUM_SHORTENED) / len(versions)
    assert torch.allclose(shares, torch.tensor([0.7, *[0.3 / NUM_SHORTENED] * NUM_SHORTENED]), atol=0.01)
