"""Adaptive projected guidance (Sadat et al. 2024): what guidance adds, without what only makes pictures glare."""

import torch
from jaxtyping import Float
from torch import Tensor

PIXELS = (1, 2, 3)


def limited(update: Float[Tensor, "B C H W"], norm: float) -> Float[Tensor, "B C H W"]:
    """Each sample's update, no longer than `norm` (their equation for the rescaling, r)."""
    length = torch.linalg.vector_norm(update, dim=PIXELS, keepdim=True)
    share: Tensor = norm / length
    return update * share.clamp(max=1)


def projected(update: Float[Tensor, "B C H W"], onto: Float[Tensor, "B C H W"], eta: float) -> Float[Tensor, "B C H W"]:
    """Each sample's update with `eta` times its part that is parallel to `onto`, and the whole of the rest."""
    square = (onto * onto).sum(PIXELS, keepdim=True)
    share = (update * onto).sum(PIXELS, keepdim=True) / square.clamp(min=torch.finfo(onto.dtype).tiny)
    return update - (1 - eta) * share * onto


class Projection:
    """Their algorithm 1, for one run: D_c + (scale - 1) times the update D_c - D_u with momentum, limited and projected onto D_c.

    It remembers the updates so far, each sample's its own: one number for a number of x. A negative momentum leads away from them.
    """

    def __init__(self, eta: float, norm: float, momentum: float) -> None:
        self.eta, self.norm, self.momentum = eta, norm, momentum
        self.running: Tensor | None = None

    def __call__(self, given: Float[Tensor, "B C H W"], away: Float[Tensor, "B C H W"], scale: float) -> Float[Tensor, "B C H W"]:
        """The guided x0, from that of what is asked for and that of what guidance leads away from."""
        update = given - away
        if self.running is not None:
            update = update + self.momentum * self.running
        self.running = update
        return given + (scale - 1) * projected(limited(update, self.norm), given, self.eta)
