"""A patch adversary that learns to tell reconstructions from data, and the two losses of that game (method section 3).

The network and the loss are MONAI's.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from core.config.autoencoder import AutoencoderChoice
from core.engine.rng import forked_rng

_GROUPS = 8


class Adversary(nn.Module):
    """A patch discriminator (Isola et al. 2017): one logit per patch of data ``batch channel *space``.

    It normalises by groups of channels: it has no running statistics, and a sample does not see its batch. It trains in
    the same step as the autoencoder, and is dropped after the phase.
    """

    def __init__(self, channels: int, dims: int, choice: AutoencoderChoice, seed: int) -> None:
        from monai.losses.adversarial_loss import PatchAdversarialLoss
        from monai.networks.nets.patchgan_discriminator import PatchDiscriminator

        super().__init__()
        width = choice.adversary_channels
        with forked_rng(seed, "autoencoder", "adversary"):
            self.network = PatchDiscriminator(
                spatial_dims=dims,
                channels=width,
                in_channels=channels,
                num_layers_d=choice.adversary_layers,
                norm=("group", {"num_groups": _GROUPS if width % _GROUPS == 0 else 1}),
            )
        self._criterion: Any = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)
        self._weight = choice.adversarial_weight

    def losses(self, data: Tensor, reconstructed: Tensor) -> dict[str, Tensor]:
        """Return both terms, weighted float32 scalars of least squares (Mao et al. 2017, Eq. 2).

        ``adversarial`` trains the autoencoder to be taken for data; its gradient does not reach the adversary.
        ``adversary`` trains the adversary; its gradient does not reach the autoencoder. Both have one weight, so that
        the clipping of gradients is not the adversary's alone; the step size of Adam does not depend on it.
        """
        fixed = {name: value.detach() for name, value in self.network.named_parameters()}
        taken_for_data = self._criterion(functional_call(self.network, fixed, (reconstructed,))[-1], True, False)
        fake, real = self._logits(reconstructed.detach()), self._logits(data)
        separation = (self._criterion(fake, False, True) + self._criterion(real, True, True)) / 2
        return {
            "adversarial": self._weight * taken_for_data.float(),
            "adversary": self._weight * separation.float(),
        }

    def _logits(self, data: Tensor) -> Tensor:
        return self.network(data)[-1]


def adversary_of(choice: AutoencoderChoice, channels: int, dims: int, seed: int) -> Adversary | None:
    """Return the adversary of data with ``dims`` axes of space, where the recipe has one."""
    return Adversary(channels, dims, choice, seed) if choice.adversarial_weight else None
