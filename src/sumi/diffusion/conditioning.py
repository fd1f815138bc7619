"""What a picture is conditioned on: three optional slots, enough for every model of the family."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """The y of the noise predictor f(x, t, y); a slot that the model does not take is None.

    Args:
        context: tokens for cross-attention.
        concat: channels put beside the latent (a mask, a low-resolution picture, a semantic map).
        vector: added to the time embedding (pooled text, sizes), or class labels.
    """

    context: Float[Tensor, "B L D"] | None = None
    concat: Float[Tensor, "B K H W"] | None = None
    vector: Float[Tensor, "B V"] | Int[Tensor, " B"] | None = None

    def cat(self, *others: "Conditioning") -> "Conditioning":
        """Joins along the batch. Raises ValueError if a slot is filled in one and empty in another."""
        joined: dict[str, Tensor] = {}
        for field in fields(self):
            slots = [getattr(part, field.name) for part in (self, *others)]
            filled = [slot for slot in slots if slot is not None]
            if filled and len(filled) < len(slots):
                raise ValueError(f"conditionings to join must fill the same slots: {field.name} is filled in {len(filled)} of {len(slots)}")
            if filled:
                joined[field.name] = torch.cat(filled)
        return Conditioning(**joined)

    def beside(self, *others: "Conditioning") -> "Conditioning":
        """Joins what is said of the same samples: tokens' vectors and vectors in width, channels behind one another."""
        joined: dict[str, Tensor] = {}
        for name, dim in (("context", 2), ("concat", 1), ("vector", 1)):
            filled = [slot for part in (self, *others) if (slot := getattr(part, name)) is not None]
            if filled:
                joined[name] = torch.cat(filled, dim) if len(filled) > 1 else filled[0]
        return Conditioning(**joined)

    def followed(self, other: "Conditioning") -> "Conditioning":
        """With the tokens of another behind its own; what else that one says lies beside."""
        if self.context is None or other.context is None:
            return self.beside(other)
        tokens = torch.cat([self.context, other.context.to(self.context)], 1)
        return replace(self, context=tokens).beside(replace(other, context=None))

    def to(self, device: torch.device) -> "Conditioning":
        """The same on another device."""
        slots = {field.name: getattr(self, field.name) for field in fields(self)}
        return Conditioning(**{name: None if slot is None else slot.to(device) for name, slot in slots.items()})

    def equals(self, other: "Conditioning") -> bool:
        """Whether the UNet is told the very same."""
        pairs = [(getattr(self, field.name), getattr(other, field.name)) for field in fields(self)]
        return all(one is two if one is None or two is None else torch.equal(one, two) for one, two in pairs)

    def repeat(self, n: int) -> "Conditioning":
        """The whole batch n times: [a, b] becomes [a, b, a, b, ...]."""
        return self.cat(*[self] * (n - 1))
