"""Heads that put what is felt into words: contact, slip, and the normal force on each pad.

Letters: B rows, Z numbers per tick, F force channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from forerun.layers import mlp
from forerun.types import StreamSpec

NEWTONS = 10.0
"""One unit of the force head."""


def normal_channels(spec: StreamSpec) -> list[int]:
    """Which numbers of a burst are mean normal forces.

    Of several pads, called SIDE.fx, the force along their closing; of a wrench its fz; else the first number.
    """
    means = [name.removesuffix(" mean") for name in spec.names if name.endswith(" mean")]
    named = [i for i, name in enumerate(means) if name == "fz" or name.endswith(".fx")]
    return named or [0]


class Feel(nn.Module):
    """Contact and slip as probabilities, normal forces in N, from one tick's whitened latents (..., Z)."""

    slips: Tensor

    def __init__(self, latent_size: int, bursts: Sequence[StreamSpec], width: int) -> None:
        super().__init__()
        self.forces = [(spec.name, channel) for spec in bursts for channel in normal_channels(spec)]
        """Stream and channel of every normal force, in order."""
        self.out = mlp(latent_size, width, 2 + len(self.forces), norm=True)
        self.register_buffer("slips", torch.tensor(False))

    def predict(self, z: Float[Tensor, "*B Z"]) -> dict[str, Tensor]:
        """``contact`` and, if it was ever taught, ``slip`` (...) in 0..1; ``normal_force`` (..., F) in N."""
        contact, slip, force = self.out(z).split([1, 1, len(self.forces)], dim=-1)
        found = {"contact": contact[..., 0].sigmoid(), "normal_force": NEWTONS * force}
        return {**found, "slip": slip[..., 0].sigmoid()} if bool(self.slips) else found

    def loss(self, z: Float[Tensor, "B T Z"], labels: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropies and squared force error; labels (B, T) and (B, T, F) as `WorldModel.loss` says."""
        contact, slip, force = self.out(z).split([1, 1, len(self.forces)], dim=-1)
        loss = F.binary_cross_entropy_with_logits(contact[..., 0], labels["contact"])
        loss = loss + F.smooth_l1_loss(force, labels["normal_force"] / NEWTONS)
        if "slip" in labels:
            self.slips.fill_(True)
            loss = loss + F.binary_cross_entropy_with_logits(slip[..., 0], labels["slip"])
        return loss
