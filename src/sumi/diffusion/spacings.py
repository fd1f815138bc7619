"""Which noise levels a sampler visits.

T training steps, N sampling steps.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from sumi.diffusion.schedule import Schedule


def spaced(schedule: Schedule, steps: int, spacing: str, *, to_zero: bool = False) -> Float32[Tensor, " N"]:
    """The sigmas that a sampler visits: `steps` of them, descending, and the one where it ends.

    The end is 0 if the configuration says `final_sigma_zero` or the sampler wants it `to_zero` (`Sampler.ends_early`); otherwise
    it is sigma(t=0), where the DDIM of the latent diffusion code ends. A spacing that visits t=0 itself always ends at 0, so
    that the list is strictly descending.

    Raises:
        ValueError: fewer steps than 1 or more than the T of training.
    """
    if not 1 <= steps <= len(schedule.sigmas):
        raise ValueError(f"steps must be from 1 to {len(schedule.sigmas)}, the number of steps in training; got {steps}")
    visited = SPACINGS[spacing](schedule, steps).float()
    smallest = schedule.sigmas[:1]
    zero = to_zero or schedule.config.final_sigma_zero or bool((visited[-1] <= smallest).item())
    end = torch.zeros(1) if zero else smallest
    return torch.cat([visited, end])


def leading(schedule: Schedule, steps: int) -> Float[Tensor, " N"]:
    """t = 0, T // N, 2 (T // N), ..., all moved up by `steps_offset`: the spacing of DDIM; it stops short of T - 1."""
    total = len(schedule.sigmas)
    stride = total // steps
    # With every step taken there is no room to move up.
    offset = min(schedule.config.steps_offset, total - 1 - (steps - 1) * stride)
    return schedule.sigma(torch.arange(steps - 1, -1, -1) * stride + offset)


def trailing(schedule: Schedule, steps: int) -> Float[Tensor, " N"]:
    """Whole t, evenly spaced down from T - 1, short of 0: what zero-terminal-SNR needs (Lin et al. 2023, section 3.3)."""
    total = len(schedule.sigmas)
    return schedule.sigma((total - torch.arange(steps, dtype=torch.float64) * (total / steps)).round() - 1)


def linspace(schedule: Schedule, steps: int) -> Float[Tensor, " N"]:
    """Fractional t, evenly spaced from T - 1 to 0, both included."""
    return schedule.sigma(torch.linspace(len(schedule.sigmas) - 1, 0, steps, dtype=torch.float64))


def karras(schedule: Schedule, steps: int) -> Float[Tensor, " N"]:
    """sigma^(1/7) evenly spaced over the range of training (Karras et al. 2022, equation 5)."""
    rho = 7
    smallest, largest = schedule.sigmas[0].item() ** (1 / rho), schedule.sigmas[-1].item() ** (1 / rho)
    return torch.linspace(largest, smallest, steps, dtype=torch.float64) ** rho


SPACINGS: dict[str, Callable[[Schedule, int], Float[Tensor, " N"]]] = {
    "leading": leading,
    "trailing": trailing,
    "linspace": linspace,
    "karras": karras,
}
