"""Laws, and the bench on which a part is put to be examined.

A law is a function of a `Bench`. It returns when the law holds, raises `LawBroken` when it does not, and
`NotApplicable` when the modality has no such part or the law says nothing about its kind of data.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.contract.modality import Modality, Parts
from core.testing.samples import draw_off_grid, draw_sample
from core.types import Batch, Conditioning, Provenance, Sample

if TYPE_CHECKING:
    from torch import Generator, Tensor

_MODULES = ("declaration", "reader", "preprocess", "augment", "prompt", "autoencoder", "denoiser", "writer", "metric")


class LawBroken(AssertionError):
    """A part breaks a law; the message says what was seen."""


class NotApplicable(Exception):
    """The law says nothing about this modality."""


Law = Callable[["Bench"], None]
_laws: dict[str, Law] = {}


def law(function: Law) -> Law:
    """Register a law under ``<module>.<function>``, e.g. ``denoiser.samples_independent``."""
    part = function.__module__.rpartition(".")[2]
    _laws[f"{part}.{function.__name__}"] = function
    return function


def all_laws() -> dict[str, Law]:
    """Every law by name, in the order of the data flow."""
    for module in _MODULES:
        import_module(f"core.testing.{module}")
    return dict(_laws)


def law_names() -> tuple[str, ...]:
    """The names of all laws."""
    return tuple(all_laws())


def demand(condition: bool, message: str) -> None:
    """Raise `LawBroken` unless the condition holds."""
    if not condition:
        raise LawBroken(message)


def same(first: Any, second: Any) -> bool:
    """Exactly equal data: strings, arrays or tensors."""
    if isinstance(first, str) or isinstance(second, str):
        return first == second
    first, second = np.asarray(first), np.asarray(second)
    return first.shape == second.shape and first.dtype == second.dtype and np.array_equal(first, second)


@dataclass
class Bench:
    """One modality at one preset, with everything a law needs made on first use.

    ``samples`` may be given where noise in the modality's range is not a fair sample of it. ``files``: example files,
    read as copies; without them a reader is tried on what the modality's own writer makes.
    Every draw is seeded; the global random state is left as it was.
    """

    modality: Modality
    preset: str = "tiny"
    samples: tuple[Sample, ...] = ()
    files: tuple[Path, ...] = ()
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="medweave-check-")))

    def __post_init__(self) -> None:
        if not self.samples:
            spec = self.parts.data
            self.samples = tuple(draw_sample(self.modality.name, spec, seed) for seed in range(4))

    @cached_property
    def parts(self) -> Parts:
        """The parts at the preset."""
        return self.modality.parts(self.preset)

    def part(self, name: str, seed: int = 0) -> Any:
        """A fresh part built from its config with seeded weights."""
        config = self.parts.declared().get(name)
        if config is None:
            raise NotApplicable(f"no {name}")
        with seeded(seed):
            return config.build()

    def writers(self) -> dict[str, Any]:
        """The writer and those of other formats, by what a message calls them."""
        if self.parts.writer is None and not self.parts.exports:
            raise NotApplicable("no writer")
        own = {} if self.parts.writer is None else {"writer": self.part("writer")}
        return own | {f"export '{name}'": config.build() for name, config in self.parts.exports.items()}

    def fresh(self) -> list[Sample]:
        """Copies of the samples: a part that spoils its input fails one law, not all that come after it."""
        return deepcopy(list(self.samples))

    def canonical(self) -> list[Sample]:
        """The samples after preprocessing (as they are, where the modality has no preprocessor), as copies."""
        return deepcopy(self._canonical)

    @cached_property
    def _canonical(self) -> list[Sample]:
        if self.parts.preprocess is None:
            return self.fresh()
        preprocess = self.part("preprocess")
        return [preprocess.apply(sample) for sample in self.fresh()]

    def batch(self) -> Batch:
        """The canonical samples as one batch."""
        from core.preprocess.collate import collate

        return collate(self.canonical(), self.parts.data)

    def latent(self, seed: int = 0, batch: int = 3) -> Tensor:
        """Unit-variance noise in the shape of the latents that the denoiser was built for."""
        import torch

        return torch.randn(batch, *self.part("denoiser").latent_shape, generator=generator(seed))

    def conditioning(self, batch: int = 3, length: int = 5, seed: int = 0) -> Conditioning:
        """A prompt of noise; every row uses another number of its tokens, as prompts of real batches do."""
        import torch

        width = self.part("denoiser").prompt_width
        tokens = torch.randn(batch, length, width, generator=generator(seed + 100))
        pooled = torch.nn.functional.normalize(torch.randn(batch, width, generator=generator(seed + 200)), dim=-1)
        mask = torch.arange(length)[None] < (length - torch.arange(batch) % length)[:, None]
        return Conditioning(prompt=tokens, prompt_mask=mask, pooled=pooled)

    def provenance(self) -> Provenance:
        """A provenance for files that the kit writes."""
        return Provenance(model="conformance-kit", recipe="none", seed=0)

    def file(self, name: str = "sample") -> Path:
        """A file of the first sample, written by the modality's writer into a fresh folder."""
        writer = self.part("writer")
        path = Path(tempfile.mkdtemp(dir=self.folder)) / f"{name}{writer.suffix}"
        writer.write(self.fresh()[0], path, self.provenance())
        return path

    def examples(self) -> list[Path]:
        """Files to read, each in a fresh folder: one by the modality's writer, where it has one, and the given ones."""
        made = [] if self.parts.writer is None else [self.file()]
        if not made and not self.files:
            raise NotApplicable("no writer, and no example files were given")
        return made + [Path(shutil.copy(path, tempfile.mkdtemp(dir=self.folder))) for path in self.files]

    def off_grid(self) -> dict[str, Sample]:
        """Samples on other grids than the canonical one, by what is different about them."""
        return draw_off_grid(self.modality.name, self.parts.data)


def generator(seed: int) -> Generator:
    """A CPU generator of its own."""
    import torch

    return torch.Generator().manual_seed(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights drawn from a known seed, and the global random state put back afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def random_state() -> tuple[object, ...]:
    """A fingerprint of every global random state that a part might disturb."""
    import random

    import torch

    _, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - the global state is what is watched
    numpy_state = (np.asarray(keys).tobytes(), position, has_gauss, gauss)
    return random.getstate(), numpy_state, torch.random.get_rng_state().numpy().tobytes()


def randomised(module: Any, seed: int = 0, std: float = 0.05) -> Any:
    """The module in evaluation mode with every parameter non-zero, so that nothing is hidden behind a zero."""
    import torch

    draws = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draws) * std)
    return module.eval()
