"""The prompts of studies, which frozen encoders compute once and not at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from core.data.studies import Studies
from core.engine.distributed import Compute
from core.engine.rng import make_generator
from core.preprocess.collate import collate
from core.types import Prompt, Sample

_ROWS = 64  # studies encoded at once
MOST_BYTES = 2**31  # cached in memory; more is encoded again at every step
NUM_SHORTENED = 4  # of each text, where prompts leave sentences out

Key = tuple[int, int]  # the index of a study, and the version of its prompt: 0 is the whole of it


def draw_versions(num: int, probability: float, draws: Generator) -> list[int]:
    """Draw for ``num`` rows which version of a text prompts: 0, the whole, or a shortened one (method E6d).

    Nothing is drawn where the ``probability`` of a shortened one is 0.
    """
    if not probability:
        return [0] * num
    shortened = torch.rand(num, generator=draws) < probability
    return (torch.randint(1, 1 + NUM_SHORTENED, (num,), generator=draws) * shortened).tolist()


class StudyPrompts:
    """The prompts that a frozen encoder computes from one modality of some studies.

    ``shortened``: texts have shortened versions too (method E6d), drawn with ``seed``. The studies are encoded in the
    order of their indices, so that a resumed run gets bit-equal prompts.
    """

    def __init__(
        self,
        encoder: Any,
        name: str,
        indices: Sequence[int],
        studies: Studies,
        compute: Compute,
        *,
        shortened: bool = False,
        seed: int = 0,
    ) -> None:
        self.encoder, self.name, self.studies, self.compute, self.seed = encoder, name, studies, compute, seed
        self.num_versions = 1 + NUM_SHORTENED if shortened and studies.parts[name].data.kind == "tokens" else 1
        self._rows: dict[Key, tuple[Tensor, Tensor, Tensor]] = {}
        ordered = sorted(set(indices))
        room = float(MOST_BYTES)
        for version in range(self.num_versions):
            keys = [(index, version) for index in ordered]
            first = keys[:_ROWS]
            room -= _num_bytes(self._encode(first)) / len(first) * len(keys) if first else 0
            if room < 0:
                return
            for start in range(0, len(keys), _ROWS):
                self._cache(keys[start : start + _ROWS])

    def prompts_of(self, indices: Sequence[int], versions: Sequence[int] | None = None) -> Prompt:
        """Return the prompts of these studies on the device, padded to the longest of them.

        ``versions``: see `draw_versions`; all that is no text has one only.
        """
        numbers = [0] * len(indices) if versions is None or self.num_versions == 1 else versions
        keys = list(zip(indices, numbers, strict=True))
        if not set(keys) <= self._rows.keys():
            return self._encode(keys)
        rows = [self._rows[key] for key in keys]
        length = max(len(tokens) for tokens, _, _ in rows)
        to_device = self.compute.to_device
        return Prompt(
            tokens=to_device(torch.stack([F.pad(tokens, (0, 0, 0, length - len(tokens))) for tokens, _, _ in rows])),
            pooled=to_device(torch.stack([pooled for _, pooled, _ in rows])),
            mask=to_device(torch.stack([F.pad(mask, (0, length - len(mask))) for _, _, mask in rows])),
        )

    def _encode(self, keys: Sequence[Key]) -> Prompt:
        samples = [self._sample(*key) for key in keys]
        with torch.no_grad():
            return self.encoder(self.compute.to_device(collate(samples, self.studies.parts[self.name].data)))

    def _sample(self, index: int, version: int) -> Sample:
        if not version:
            return self.studies.sample(self.name, index)
        draws = make_generator(self.seed, "shortened", self.name, index, version)
        return self.studies.shortened_sample(self.name, index, draws)

    def _cache(self, keys: Sequence[Key]) -> None:
        prompt = self._encode(keys)
        for key, tokens, pooled, mask in zip(
            keys, prompt.tokens.cpu(), prompt.pooled.cpu(), prompt.mask.cpu(), strict=True
        ):
            length = int(mask.nonzero().max()) + 1  # token 0 is never masked
            self._rows[key] = (tokens[:length].clone(), pooled.clone(), mask[:length].clone())


def _num_bytes(prompt: Prompt) -> int:
    return sum(value.numel() * value.element_size() for value in (prompt.tokens, prompt.pooled, prompt.mask))
