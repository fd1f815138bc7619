"""One line of a table between two layouts of the same weights: what an original tensor is called here, and how its numbers lie."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

Form = Literal["same", "conv", "conv1d", "transposed"]
"""What a native linear layer is in the original: the same, a 1x1 convolution over two axes or over one, or x @ W."""
SINGLETONS = {"conv": 2, "conv1d": 1}
"""How many axes of size 1 the weight of such a convolution ends in."""


@dataclass(frozen=True)
class Rule:
    """An original tensor, and the native tensor, or three, that it is."""

    original: str
    native: tuple[str, ...]
    """More than one: query, key and value, which are one stack of rows in the original."""
    form: Form = "same"
    heads: int = 1
    """The stack holds query, key and value of the first head, then of the second. No shape tells how many there are."""
    aliases: tuple[str, ...] = ()
    """Other original names, read and never written."""

    def split(self, tensor: Tensor) -> list[Tensor]:
        """The native tensors, as views where there is one head. IndexError or RuntimeError if the shape cannot be that of the original."""
        if self.form in SINGLETONS:
            tensor = tensor.flatten(1)  # some files have left the axes of size 1 out
        elif self.form == "transposed":
            tensor = tensor.t()
        if len(self.native) == 1:
            return [tensor]
        dealt = tensor.reshape(self.heads, len(self.native), -1, *tensor.shape[1:])
        return [rows.flatten(0, 1) for rows in dealt.unbind(1)]

    def join(self, tensors: list[Tensor]) -> Tensor:
        """The reverse of `split`."""
        tensor, *others = tensors
        if others:
            tensor = torch.stack([rows.reshape(self.heads, -1, *rows.shape[1:]) for rows in tensors], dim=1).flatten(0, 2)
        if self.form == "transposed":
            return tensor.t()
        return tensor[(..., *[None] * SINGLETONS.get(self.form, 0))]


Rules: TypeAlias = tuple[Rule, ...]


def layer(original: str, native: str, form: Form = "same") -> Iterator[Rule]:
    """The weight and the bias of a layer; `form` is the weight's."""
    yield Rule(f"{original}.weight", (f"{native}.weight",), form)
    yield Rule(f"{original}.bias", (f"{native}.bias",))
