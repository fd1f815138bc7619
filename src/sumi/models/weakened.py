"""A UNet made worse on purpose, for guidance to lead away from; and one whose attention is watched.

None of these touches the UNet that it is given. Each makes another that shares its weights and differs in the chosen layers: there is
nothing to detach, and one may run while the other does. They are for calling, not for training or moving.

Layers are named as in the UNet, blocks for short: "mid", "down", "down.1", "up.0.attentions.1".
"""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar, cast

from jaxtyping import Float
from torch import Tensor, nn

from sumi.errors import RequestError
from sumi.nets.attention import Attend, Attention, AttentionBlock, TransformerBlock
from sumi.nets.unet import UNet

MIDDLE = ("mid",)
BLOCKS = {"mid": "mid_block", "down": "down_blocks", "up": "up_blocks"}

M = TypeVar("M", bound=nn.Module)


def perturbed(unet: UNet, layers: Sequence[str] = MIDDLE) -> UNet:
    """The UNet with self-attention by the identity: each cell attends to itself alone (perturbed attention: Ahn et al. 2024).

    RequestError if a layer has no self-attention.
    """
    for path in _chosen(_self_attention(unet), layers):
        unet = _replaced(unet, path, _attending_by(unet.get_submodule(path), _to_itself))
    return unet


def skipped(unet: UNet, layers: Sequence[str] = MIDDLE) -> UNet:
    """The UNet without some of its transformer blocks, or of its attention where it has no transformers (skip-layer guidance).

    That guidance was made for networks that are transformers throughout; of a UNet, the same parts are left out here as by diffusers.
    RequestError if a layer has none.
    """
    blocks = [path for path, module in unet.named_modules() if isinstance(module, TransformerBlock | AttentionBlock)]
    for path in _chosen(blocks, layers):
        unet = _replaced(unet, path, Nothing())
    return unet


def attending(unet: UNet, see: Callable[[Float[Tensor, "B N T T"]], object]) -> UNet:
    """The UNet, which at each call shows the middle's self-attention probabilities: from each of T cells to each, by N heads.

    Where the middle has several layers, the first's. RequestError if it has none.
    """
    path = _chosen(_self_attention(unet), MIDDLE)[0]
    attention = unet.get_submodule(path)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        see((q.float() @ k.float().transpose(2, 3) / math.sqrt(q.shape[3])).softmax(3))
        return cast(Attention | AttentionBlock, attention).attend(q, k, v)

    return _replaced(unet, path, _attending_by(attention, attend))


class Nothing(nn.Module):
    """Leaves its input as it is, whatever else it is told."""

    def forward(self, x: Tensor, *told: Tensor) -> Tensor:
        return x


def _to_itself(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return v


def _self_attention(unet: UNet) -> list[str]:
    """Where the cells of a feature map attend to each other."""
    found = []
    for path, module in unet.named_modules():
        if isinstance(module, AttentionBlock):
            found.append(path)
        elif isinstance(module, TransformerBlock) and not module.cross_only:
            found.append(f"{path}.attn1")
    return found


def _chosen(paths: Sequence[str], layers: Iterable[str]) -> list[str]:
    """Those of the paths that are in one of the layers, each once. RequestError for a layer with none."""
    chosen: dict[str, None] = {}
    for layer in layers:
        block, dot, rest = layer.partition(".")
        found = [path for path in paths if f"{path}.".startswith(f"{BLOCKS.get(block, block)}{dot}{rest}.")]
        if not found:
            raise RequestError(f"this model has no attention to guide by in its {layer} layers: leave pag, skip and sag out")
        chosen |= dict.fromkeys(found)
    return list(chosen)


def _attending_by(attention: nn.Module, attend: Attend) -> nn.Module:
    twin = copy.copy(cast(Attention | AttentionBlock, attention))
    twin.attend = attend
    return twin


def _replaced(module: M, path: str, new: nn.Module) -> M:
    """A copy that differs in the submodule at `path`; all that is not above it is shared."""
    name, _, rest = path.partition(".")
    twin = copy.copy(module)
    child = module.get_submodule(name)
    twin._modules = {**module._modules, name: _replaced(child, rest, new) if rest else new}
    return twin
