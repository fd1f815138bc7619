"""Where a model runs and how precisely: chosen by hardware, applied to the networks from outside.

The only file that names a kind of device.
"""

import ctypes
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sumi.config import ModelSpec
from sumi.errors import SumiError

GPU = "cuda"
"""What PyTorch calls a GPU, and those who read what it says."""
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LARGE = 100_000_000
"""Parameters from which a model gains by bfloat16 and by another matrix library; below, their overhead is more than that."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


class _NoNormal(TorchFunctionMode):
    """Leaves alone what `nn.init.normal_` would fill."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return (kwargs or {})["tensor"] if func is nn.init.normal_ else func(*args, **(kwargs or {}))


class _PlainAttention(TorchFunctionMode):
    """Attention by its formula in place of the fused kernel. Takes q, k and v alone, as sumi's networks give them, and a causal mask."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        return _attention(*args, **(kwargs or {}))


def _attention(q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if is_causal:
        scores = scores + torch.full(scores.shape[-2:], -torch.inf, dtype=scores.dtype, device=scores.device).triu(1)
    out: Tensor = scores.softmax(-1) @ v
    return out


@contextmanager
def for_gradients(device: torch.device) -> Iterator[None]:
    """Inside the `with`, in this thread, what is computed is chosen to be fast backwards, too.

    On a CPU the fused attention is four times slower, forwards and back, than its formula (torch 2.13, bfloat16, 64 tokens);
    the two agree to rounding.
    """
    if device.type == "cpu":
        with _PlainAttention():
            yield
    else:
        yield


@contextmanager
def weightless() -> Iterator[None]:
    """Networks built inside the `with` have parameters of the right shapes and no numbers: no memory, and next to no time.

    On the meta device all fillings but one are free: that of embeddings first imports a compiler, for a second.
    """
    with torch.device("meta"), _NoNormal():
        yield


def choose(parameters: int, device: str | None = None, precision: str | None = None) -> tuple[torch.device, torch.dtype]:
    """The device and precision asked for; where None, the fastest that is safe for a model of so many parameters.

    bfloat16 only where the hardware computes in it and the model is large. Raises SumiError for a device that is not here, or
    a precision that does not exist.
    """
    if precision is not None and precision not in PRECISIONS:
        raise SumiError(f"there is no precision {precision!r}: use {', '.join(PRECISIONS)}")
    try:
        where = torch.device((GPU if torch.cuda.is_available() else "cpu") if device is None else device)
        torch.zeros(1, device=where).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise SumiError(f"device {device!r} is not available here: use cpu, or leave it out") from error
    if precision is not None:
        return where, PRECISIONS[precision]
    return where, torch.bfloat16 if parameters >= LARGE and _computes_in_bfloat16(where) else torch.float32


def is_here(device: str) -> bool:
    """Whether there is such a device."""
    try:
        choose(0, device)
    except SumiError:
        return False
    return True


def place(networks: Sequence[nn.Module], device: torch.device, dtype: torch.dtype) -> None:
    """Moves networks, in place, ready to run: no gradients, no dropout.

    On a CPU it also changes two settings of the process, which alter results by no more than float32 rounding.
    """
    for network in networks:
        network.to(device, dtype).eval().requires_grad_(False)
    if device.type == "cpu":
        _keep_freed_memory()
        if sum(weight.numel() for network in networks for weight in network.parameters()) >= LARGE:
            _multiply_with_onednn()


def batch_size(spec: ModelSpec, height: int, width: int, weight: Tensor) -> int:
    """How many pictures of this size to make at once: as many as gain speed, and no more than a share of the memory holds.

    The largest activations are the UNet's at its finest level, twice for guidance, or the decoder's at full size; about
    two dozen and half a dozen of them are alive at a time. `weight`, one of the model's, says where and of what precision.
    """
    pixels = height * width
    unet = 24 * 2 * (pixels // spec.factor**2) * spec.unet.block_channels[0]
    decoder = 0 if spec.autoencoder.identity else 6 * pixels * spec.autoencoder.block_channels[0]
    memory, useful = (torch.cuda.mem_get_info(weight.device)[0] // 4, 64) if weight.is_cuda else (1 << 28, 16)
    return max(1, min(useful, memory // (max(unet, decoder) * weight.element_size())))


def tile_size(spec: ModelSpec, height: int, width: int, weight: Tensor) -> int | None:
    """Side of the tiles, in pixels, in which a picture has to be encoded and decoded to fit into half of the memory that is free.

    None: it fits whole, as far as can be known. As `batch_size`.
    """
    free = _free(weight.device)
    if spec.autoencoder.identity or free is None:
        return None
    pixel = 6 * spec.autoencoder.block_channels[0] * weight.element_size()
    if height * width * pixel <= free // 2:
        return None
    return max(8, math.isqrt(free // 2 // pixel) // spec.factor) * spec.factor


def _free(device: torch.device) -> int | None:
    """Bytes of memory that nothing else uses; None where that cannot be told."""
    if device.type == GPU:
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _computes_in_bfloat16(device: torch.device) -> bool:
    if device.type == GPU:
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(_cpu().get("avx512_bf16") or _cpu().get("amx_bf16"))


@cache
def _cpu() -> dict[str, Any]:
    """The instruction sets of this processor; empty before the release of PyTorch that reports them."""
    return dict(torch.cpu.get_capabilities()) if hasattr(torch.cpu, "get_capabilities") else {}


@cache
def _keep_freed_memory() -> None:
    """Activations come and go; returned to the system each time, they cost a page fault for every 4 KiB of the next one."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@cache
def _multiply_with_onednn() -> None:
    """Matrix products of large models by oneDNN rather than MKL, which is slow away from Intel; small ones gain nothing."""
    # "medium" would also round to bfloat16 with AMX and on ARM, and to TensorFloat-32 on a GPU.
    if _cpu().get("architecture") == "x86_64" and not _cpu().get("amx_bf16") and not torch.cuda.is_available():
        torch.set_float32_matmul_precision("medium")
