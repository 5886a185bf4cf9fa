"""A small convolutional network and its training, for the measurements beside this file."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Four convolutions with batch norm, two linear layers; 64 px, about 0.1 M weights."""

    def __init__(self, outputs: int, width: int = 16) -> None:
        super().__init__()
        sizes = (1, width, 2 * width, 3 * width, 4 * width)
        blocks = []
        for before, after in pairwise(sizes):
            first = before == 1
            blocks += [nn.Conv2d(before, after, 5 if first else 3, 2 if first else 1, 2 if first else 1)]
            blocks += [nn.BatchNorm2d(after), nn.ReLU()]
            blocks += [nn.MaxPool2d(2)] if before in (width, 2 * width) else []
        self.features = nn.Sequential(*blocks)
        self.drop = nn.Dropout(0.3)
        # The maximum finds a lesion wherever it is, the 4 x 4 plane knows that gas under the diaphragm is no finding.
        self.head = nn.Linear(4 * width * 17, outputs)

    def forward(self, picture: Tensor) -> Tensor:
        """``batch 1 64 64`` to logits ``batch outputs``."""
        found = self.features(picture)
        where = nn.functional.avg_pool2d(found, 2).flatten(1)
        return self.head(self.drop(torch.cat([where, found.amax((2, 3))], dim=1)))


def standardised(pictures: np.ndarray) -> Tensor:
    """``num H W`` to ``num 1 H W``, every picture of zero mean and unit deviation."""
    data = torch.from_numpy(np.asarray(pictures, np.float32))[:, None]
    mean, deviation = data.mean((2, 3), keepdim=True), data.std((2, 3), keepdim=True)
    return (data - mean) / deviation.clamp(min=1e-6)


def fit(pictures: Tensor, targets: Tensor, epochs: int, seed: int, *, jitter: float = 0.06) -> SmallCNN:
    """Train with binary cross-entropy on small shifts, scales and contrast changes; no flips, side matters."""
    torch.manual_seed(seed)
    model = SmallCNN(targets.shape[1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = epochs * (len(pictures) // 32)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(pictures), generator=generator)[: len(pictures) // 32 * 32]
        for rows in order.view(-1, 32):
            logits = model(varied(pictures[rows], jitter, generator))
            loss = nn.functional.binary_cross_entropy_with_logits(logits, targets[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def varied(pictures: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """Every picture a little shifted, scaled and changed in contrast."""
    num = len(pictures)
    noise = torch.randn(num, 5, generator=generator)
    place = torch.zeros(num, 2, 3)
    place[:, 0, 0], place[:, 1, 1] = 1 + jitter * noise[:, 0], 1 + jitter * noise[:, 1]
    place[:, :, 2] = jitter * noise[:, 2:4]
    grid = nn.functional.affine_grid(place, list(pictures.shape), align_corners=False)
    moved = nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    return moved * (1 + 0.1 * noise[:, 4, None, None, None])


@torch.no_grad()
def scores(model: SmallCNN, pictures: Tensor) -> np.ndarray:
    """Logits ``num outputs``."""
    return torch.cat([model(part) for part in pictures.split(256)]).numpy()
