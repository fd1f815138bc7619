"""A network for pictures that close on themselves: what leaves at one side comes in at the other, and copies side by side show no seam.

The network that is given stays as it is. What is made shares its weights and differs in how its convolutions pad: along the chosen axes
with what lies at the other side of the map instead of with zeros. Then whatever a map is rolled by (a multiple of the network's total
stride), the output is rolled by the same, and no place in the picture is an edge. Normalisation and attention, which know no places,
need no change.
"""

import copy
from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sumi.nets.layers import Downsample

Axes: TypeAlias = Literal["none", "x", "y", "both"]
"""Along which a picture closes on itself: x from left to right, y from top to bottom."""

M = TypeVar("M", bound=nn.Module)


def seamless(module: M, axes: Axes) -> M:
    """The network, closed along the axes: another that shares its weights; itself for "none". For calling, not for training or moving.

    ValueError for a network that is closed already.
    """
    if axes == "none":
        return module
    if (already := closed(module)) != "none":
        raise ValueError(f"the network is seamless along {already} already: give the one that it was made of")

    def close(part: nn.Module) -> nn.Module:
        if isinstance(part, nn.Conv2d) and part.padding != (0, 0):
            return ClosedConv(part, axes)
        if isinstance(part, Downsample) and part.asymmetric:
            return ClosedDownsample(part, axes)
        return part

    return _altered(module, close)


def closed(module: nn.Module) -> Axes:
    """The axes along which `seamless` has closed a network."""
    return next((part.axes for part in module.modules() if isinstance(part, ClosedConv | ClosedDownsample)), "none")


def across(axes: Axes) -> tuple[bool, bool]:
    """Whether they are closed from top to bottom, and from left to right: as the last two dimensions of a map."""
    return axes in ("y", "both"), axes in ("x", "both")


class ClosedConv(nn.Conv2d):
    """A convolution's weights, by another padding."""

    def __init__(self, conv: nn.Conv2d, axes: Axes) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(conv))
        self.axes: Axes = axes

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C2 H2 W2"]:
        assert not isinstance(self.padding, str)
        rows, columns = self.padding
        x = _padded(x, (rows, rows), (columns, columns), self.axes)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class ClosedDownsample(Downsample):
    """The autoencoder's halving, whose padding to the right and below is not its convolution's."""

    def __init__(self, downsample: Downsample, axes: Axes) -> None:
        nn.Module.__init__(self)
        vars(self).update(vars(downsample))
        self.axes: Axes = axes

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H2 W2"]:
        out: Tensor = self.conv(_padded(x, (0, 1), (0, 1), self.axes))
        return out


def _padded(x: Tensor, rows: tuple[int, int], columns: tuple[int, int], axes: Axes) -> Tensor:
    """Rows above and below, columns left and right: from the other side along the axes, zeros elsewhere."""
    down, along = across(axes)
    x = F.pad(x, (0, 0, *rows), mode="circular" if down else "constant")
    return F.pad(x, (*columns, 0, 0), mode="circular" if along else "constant")


def _altered(module: M, change: Callable[[nn.Module], nn.Module]) -> M:
    """A copy with every submodule changed. All else is shared."""
    twin = copy.copy(module)
    twin._modules = {name: None if child is None else change(_altered(child, change)) for name, child in module._modules.items()}
    return twin
