"""Contract checks, and the context that hands a check what it needs.

A check is a function of a `CheckContext`. It returns when the property holds, raises `CheckFailed` when it does not,
and `NotApplicable` when the modality has no such part or the property does not concern its kind of data.
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

from core.contract.modality import Modality, Parts, pooled_width
from core.testing.samples import draw_off_grid, draw_sample
from core.types import Batch, Conditioning, Provenance, Sample

if TYPE_CHECKING:
    from torch import Generator, Tensor

_MODULES = ("declaration", "reader", "preprocess", "augment", "prompt", "autoencoder", "denoiser", "writer", "metric")


class CheckFailed(AssertionError):
    """A part fails a check; the message states what was observed."""


class NotApplicable(Exception):
    """The check does not concern this modality."""


Check = Callable[["CheckContext"], None]
_checks: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Register a contract check under ``<module>.<function>``, e.g. ``denoiser.samples_independent``."""
    part = function.__module__.rpartition(".")[2]
    _checks[f"{part}.{function.__name__}"] = function
    return function


def all_checks() -> dict[str, Check]:
    """Return every check by name, in the order of the data flow."""
    for module in _MODULES:
        import_module(f"core.testing.{module}")
    return dict(_checks)


def check_names() -> tuple[str, ...]:
    """Return the names of all checks."""
    return tuple(all_checks())


def require(condition: bool, message: str) -> None:
    """Raise `CheckFailed` unless the condition holds."""
    if not condition:
        raise CheckFailed(message)


def same(first: Any, second: Any) -> bool:
    """Return whether two strings, arrays or tensors are exactly equal."""
    if isinstance(first, str) or isinstance(second, str):
        return first == second
    first, second = np.asarray(first), np.asarray(second)
    return first.shape == second.shape and first.dtype == second.dtype and np.array_equal(first, second)


@dataclass
class CheckContext:
    """One modality at one preset; what a check needs is made on first use.

    ``samples`` replace random samples where noise in the value range does not represent the modality. ``files``:
    example files, read as copies; without them a reader is tested on files of the modality's own writer.
    Every draw is seeded, and the global random state is left unchanged.
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
        """Build a part from its config with seeded weights; `NotApplicable` where the modality has none."""
        config = self.parts.declared().get(name)
        if config is None:
            raise NotApplicable(f"no {name}")
        with forked_rng(seed):
            return config.build()

    def writers(self) -> dict[str, Any]:
        """Return the writer and those of other formats, by their name in messages."""
        if self.parts.writer is None and not self.parts.exports:
            raise NotApplicable("no writer")
        writers = {} if self.parts.writer is None else {"writer": self.part("writer")}
        return writers | {f"export '{name}'": config.build() for name, config in self.parts.exports.items()}

    def fresh(self) -> list[Sample]:
        """Return copies of the samples: a part that changes its input fails one check, not all later ones."""
        return deepcopy(list(self.samples))

    def canonical(self) -> list[Sample]:
        """Return copies of the samples after preprocessing, or as they are without a preprocessor."""
        return deepcopy(self._canonical)

    @cached_property
    def _canonical(self) -> list[Sample]:
        if self.parts.preprocess is None:
            return self.fresh()
        preprocess = self.part("preprocess")
        return [preprocess.apply(sample) for sample in self.fresh()]

    def batch(self) -> Batch:
        """Return the canonical samples as one batch."""
        from core.preprocess.collate import collate

        return collate(self.canonical(), self.parts.data)

    def latent(self, seed: int = 0, batch: int = 3) -> Tensor:
        """Return unit-variance noise in the shape of the denoiser's latents."""
        import torch

        return torch.randn(batch, *self.part("denoiser").latent_shape, generator=generator(seed))

    def conditioning(self, batch: int = 3, length: int = 5, seed: int = 0) -> Conditioning:
        """Return a prompt of noise; rows use different numbers of tokens, as prompts of real batches do."""
        import torch

        width = self.part("denoiser").prompt_width
        tokens = torch.randn(batch, length, width, generator=generator(seed + 100))
        features = pooled_width(self.part("denoiser")) or width
        pooled = torch.randn(batch, features, generator=generator(seed + 200))
        mask = torch.arange(length)[None] < (length - torch.arange(batch) % length)[:, None]
        return Conditioning(prompt=tokens, prompt_mask=mask, pooled=pooled)

    def provenance(self) -> Provenance:
        """Return a provenance for files that the kit writes."""
        return Provenance(model="conformance-kit", recipe="none", seed=0)

    def file(self, name: str = "sample") -> Path:
        """Write the first sample with the modality's writer into a fresh folder and return its path."""
        writer = self.part("writer")
        path = Path(tempfile.mkdtemp(dir=self.folder)) / f"{name}{writer.suffix}"
        writer.write(self.fresh()[0], path, self.provenance())
        return path

    def examples(self) -> list[Path]:
        """Return files to read, each in a fresh folder: one of the modality's writer and copies of the given ones."""
        written = [] if self.parts.writer is None else [self.file()]
        if not written and not self.files:
            raise NotApplicable("no writer, and no example files were given")
        return written + [Path(shutil.copy(path, tempfile.mkdtemp(dir=self.folder))) for path in self.files]

    def off_grid(self) -> dict[str, Sample]:
        """Return samples on other grids than the canonical one, by what is different about them."""
        return draw_off_grid(self.modality.name, self.parts.data)


def generator(seed: int) -> Generator:
    """Return a CPU generator with this seed."""
    import torch

    return torch.Generator().manual_seed(seed)


@contextmanager
def forked_rng(seed: int) -> Iterator[None]:
    """Seed torch's global random state inside the block and restore it afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def random_state() -> tuple[object, ...]:
    """Return a fingerprint of every global random state that a part might disturb."""
    import random

    import torch

    _, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - the global state is what is watched
    numpy_state = (np.asarray(keys).tobytes(), position, has_gauss, gauss)
    return random.getstate(), numpy_state, torch.random.get_rng_state().numpy().tobytes()


def randomised(module: Any, seed: int = 0, std: float = 0.05) -> Any:
    """Return the module in evaluation mode with noise on every parameter, so that no zero hides a defect."""
    import torch

    draws = generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draws) * std)
    return module.eval()
