"""Description: what a context encoder tells must hold its own modality (docs/decisions/0012)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from core.guide.environment import Environment
from core.guide.patches import num_tokens, patch_width, patches
from core.types import Context


class Description(nn.Module):
    """Reads the clean latent of a modality off the tokens that it tells; training only (docs/decisions/0012).

    Rounds freeze what they trained (METHOD E15), so a context encoder that only ever helped its first partner has
    nothing to tell a later one. Asked to describe itself, it keeps what it knows, whoever listens. One linear layer
    per modality, so that a listener's attention can read as much. Raises `ValueError` for an encoder in pooled form.
    """

    def __init__(self, environments: Mapping[str, Environment]) -> None:
        super().__init__()
        for name, one in environments.items():
            if one.form != "spatial":
                raise ValueError(f"{name}: a context of one token cannot describe a grid")
        self.heads = nn.ModuleDict({name: _head(one) for name, one in environments.items()})

    def forward(self, name: str, environment: Environment, context: Context, latent: Tensor) -> Tensor:
        """Mean squared error per study, ``batch``, of the clean ``latent`` ``batch channel *space`` as read."""
        wanted = patches(latent, environment.space)
        told = environment.told(context).reshape(*wanted.shape[:2], -1)
        return (self.heads[name](told).float() - wanted.float()).square().flatten(1).mean(1)


def _head(environment: Environment) -> nn.Linear:
    """A vector is read off its tokens together, a grid token by token."""
    together = 1 if environment.space else num_tokens(())
    return nn.Linear(together * environment.width, patch_width(environment.shape[0], environment.space))
