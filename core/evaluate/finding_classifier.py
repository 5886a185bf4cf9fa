"""A small network that recognises findings in images, to measure what generated ones show (method 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from core.align.findings import finding_loss
from core.engine.rng import forked_rng, make_generator
from core.errors import UserError

EPOCHS, BATCH, WIDTH = 25, 32, 16
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
_POOLS = (nn.MaxPool2d, nn.MaxPool3d)
_COARSE = 4  # points per axis of the average-pooled map that the head reads
_PEAK_RATE = 3e-3

Network = TypeVar("Network", bound=nn.Module)


class FindingClassifier(nn.Module):
    """Four convolutions and a linear layer; 2-D or 3-D by ``dims``. About 0.1 M weights at 2-D.

    With ``standardise`` every channel of a sample is standardised first, so that brightness and contrast carry no
    information. Without it, they change the features.
    """

    def __init__(
        self, channels: int, num_findings: int, *, dims: int, width: int = WIDTH, standardise: bool = True
    ) -> None:
        super().__init__()
        self.standardise = standardise
        if dims not in (2, 3):
            raise UserError(f"a finding classifier reads images with 2 or 3 axes, found {dims}")
        sizes = (channels, width, 2 * width, 3 * width, 4 * width)
        layers = [_block(before, after, dims, depth) for depth, (before, after) in enumerate(pairwise(sizes))]
        self.features = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4 * width * (_COARSE**dims + 1), num_findings)

    def forward(self, data: Tensor) -> Tensor:
        """Map ``sample channel *space`` in [-1, 1] to logits ``sample finding``."""
        features = self._maps(data)
        # The maximum detects a lesion anywhere; the coarse map tells where it is (gas in the stomach is no finding).
        pool = F.adaptive_avg_pool2d if features.ndim == 4 else F.adaptive_avg_pool3d
        coarse = pool(features, _COARSE).flatten(1)
        return self.head(self.drop(torch.cat([coarse, features.flatten(2).amax(2)], dim=1)))

    def embed(self, data: Tensor) -> Tensor:
        """Return the features ``sample feature`` of images: the mean of each map of the last convolution."""
        return self._maps(data).flatten(2).mean(2)

    def _maps(self, data: Tensor) -> Tensor:
        return self.features(_standardised(data) if self.standardise else data)


def train_classifier(
    data: Tensor,
    labels: Tensor,
    *,
    seed: int,
    epochs: int = EPOCHS,
    batch: int = BATCH,
    width: int = WIDTH,
    standardise: bool = True,
) -> FindingClassifier:
    """Train a classifier on real images ``sample channel *space`` in [-1, 1]; return it in evaluation mode.

    ``labels`` float ``sample finding``: 1 present, 0 absent, NaN unknown (without effect). Images are augmented by
    small shifts, scalings and changes of contrast, and never mirrored: sides matter. Without ``standardise`` contrast
    is not changed. The same seed gives the same classifier, and torch's global random state is untouched. Raises
    `UserError` for fewer than two samples.
    """

    def new() -> FindingClassifier:
        dims, num = data.ndim - 2, labels.shape[1]
        return FindingClassifier(data.shape[1], num, dims=dims, width=width, standardise=standardise)

    def augmented(images: Tensor, generator: Generator) -> Tensor:
        return augment(images, generator, contrast=0.1 if standardise else 0.0)

    return fit(new, data, labels, finding_loss, augmented, seed=seed, epochs=epochs, batch=batch)


def fit(
    new: Callable[[], Network],
    data: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    augmented: Callable[[Tensor, Generator], Tensor],
    *,
    seed: int,
    epochs: int,
    batch: int = BATCH,
    purpose: str = "judge",
) -> Network:
    """Train a ``new`` network to minimise ``loss(network(augmented images), targets)``; return it in evaluation mode.

    ``data`` ``sample channel *space`` and ``targets`` ``sample *rest`` belong together. AdamW, one cycle of the
    learning rate. Raises `UserError` for fewer than two samples.
    """
    batch = min(batch, len(data))
    if batch < 2 or len(targets) != len(data):
        raise UserError(
            f"a finding classifier needs two images or more, and labels for each; found {len(data)} and {len(targets)}"
        )
    generator, num_steps = make_generator(seed, purpose, "draws"), epochs * (len(data) // batch)
    with forked_rng(seed, purpose, "weights"):
        network = new().to(data.device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=_PEAK_RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _PEAK_RATE, total_steps=max(2, num_steps))
        for _ in range(epochs):
            order = torch.randperm(len(data), generator=generator)[: len(data) // batch * batch]
            for rows in order.view(-1, batch).to(data.device):
                error = loss(network(augmented(data[rows], generator)), targets[rows])
                optimizer.zero_grad()
                error.backward()
                optimizer.step()
                schedule.step()
    return network.eval()


@torch.no_grad()
def classifier_scores(classifier: nn.Module, data: Tensor, *, batch: int = 256) -> Tensor:
    """Return logits ``sample finding`` of images ``sample channel *space``, on the CPU."""
    return torch.cat([classifier(part).float().cpu() for part in data.split(batch)])


@torch.no_grad()
def image_features(classifier: FindingClassifier, data: Tensor, *, batch: int = 256) -> Tensor:
    """Return `FindingClassifier.embed` of images ``sample channel *space``, on the CPU."""
    return torch.cat([classifier.embed(part).float().cpu() for part in data.split(batch)])


def augment(data: Tensor, generator: Generator, *, jitter: float = 0.06, contrast: float = 0.1) -> Tensor:
    """Return every image ``sample channel *space`` slightly shifted, scaled and changed in contrast; never mirrored."""
    num, dims = len(data), data.ndim - 2
    noise = torch.randn(num, 2 * dims + 1, generator=generator).to(data).clamp(-3, 3)
    affine = torch.zeros(num, dims, dims + 1).to(data)
    affine[:, :, :dims] = torch.diag_embed(1 + jitter * noise[:, :dims])
    affine[:, :, dims] = jitter * noise[:, dims : 2 * dims]
    grid = F.affine_grid(affine, list(data.shape), align_corners=False)
    moved = F.grid_sample(data, grid, padding_mode="border", align_corners=False)
    return moved * (1 + contrast * noise[:, -1]).view(-1, *[1] * (dims + 1))


def _block(before: int, after: int, dims: int, depth: int) -> nn.Sequential:
    """Return a convolution block; the first halves the image, the first two are pooled: the last two see an eighth."""
    kernel, step = (5, 2) if depth == 0 else (3, 1)
    layers: Sequence[nn.Module] = [
        _CONVOLUTIONS[dims - 2](before, after, kernel, step, kernel // 2),
        _NORMS[dims - 2](after),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, *([_POOLS[dims - 2](2, ceil_mode=True)] if depth < 2 else []))


def _standardised(data: Tensor) -> Tensor:
    axes = tuple(range(2, data.ndim))
    return (data - data.mean(axes, keepdim=True)) / data.std(axes, keepdim=True).clamp(min=1e-6)
