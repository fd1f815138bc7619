"""Where models run and how precisely."""

import platform
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from sumi.errors import SumiError
from sumi.models import placement
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.placement import batch_size, choose, place
from sumi.models.zoo import SD15
from sumi.nets.layers import Perceptron
from support import assert_agree

BFLOAT16 = {"avx512_bf16": True, "amx_bf16": False}


def test_what_is_asked_for_is_what_is_chosen() -> None:
    assert choose(1, "cpu", "bfloat16") == (torch.device("cpu"), torch.bfloat16)
    assert choose(10**10, "cpu", "float32") == (torch.device("cpu"), torch.float32)


@pytest.mark.parametrize(
    ("parameters", "cpu", "dtype"),
    [
        (10**6, BFLOAT16, torch.float32),
        (10**9, BFLOAT16, torch.bfloat16),
        (10**9, {"amx_bf16": True}, torch.bfloat16),
        (10**9, {"avx512_f": True}, torch.float32),
        (10**9, {}, torch.float32),
    ],
)
def test_bfloat16_is_for_large_models_on_hardware_that_computes_in_it(
    parameters: int, cpu: dict[str, bool], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "_cpu", lambda: cpu)
    assert choose(parameters, "cpu") == (torch.device("cpu"), dtype)


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "cpu:", "", "\x00", "meta"])
def test_a_device_that_is_not_here_is_refused(device: str) -> None:
    with pytest.raises(SumiError, match="is not available here"):
        choose(1, device)


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SumiError, match="no precision 'float8': use float32, bfloat16, float16"):
        choose(1, "cpu", "float8")


def test_placed_networks_are_ready_to_run() -> None:
    network = Perceptron(4, 8)
    place([network], torch.device("cpu"), torch.bfloat16)
    assert not network.training
    assert {(p.dtype, p.requires_grad) for p in network.parameters()} == {(torch.bfloat16, False)}


def test_the_batch_is_one_large_picture_or_many_small_ones(tiny: LatentDiffusion) -> None:
    weight = torch.empty(0)
    assert batch_size(SD15, 512, 512, weight) == 1
    sizes = [batch_size(tiny.spec, side, side, weight) for side in (16, 64, 256, 1024, 8192)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 8 and sizes[-1] == 1
    assert batch_size(replace(SD15, size=(64, 64)), 64, 64, weight.bfloat16()) >= batch_size(SD15, 64, 64, weight)


@pytest.mark.parametrize(
    ("cpu", "size", "precision"),
    [
        ({"architecture": "x86_64", "amx_bf16": False}, 4, "medium"),
        ({"architecture": "x86_64", "amx_bf16": False}, 3, "highest"),
        ({"architecture": "x86_64", "amx_bf16": True}, 4, "highest"),
        ({"architecture": "aarch64"}, 4, "highest"),
        ({}, 4, "highest"),
    ],
)
def test_matrix_products_are_rerouted_for_large_models_where_that_is_exact(
    cpu: dict[str, object], size: int, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "LARGE", 40)
    monkeypatch.setattr(placement, "_cpu", lambda: cpu)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    placement._multiply_with_onednn.cache_clear()
    before = torch.get_float32_matmul_precision()
    try:
        place([Perceptron(size, 4)], torch.device("cpu"), torch.float32)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
        placement._multiply_with_onednn.cache_clear()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's allocator")
def test_freed_memory_stays_with_the_process(environment: dict[str, str]) -> None:
    """In another process, as the setting cannot be undone: 64 MiB, freed and asked for again, costs no page faults."""
    script = """
import resource, torch
from sumi.models.placement import place
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults() for _ in range(8)) > 1000)
place([], torch.device("cpu"), torch.float32)
print(min(faults() for _ in range(8)) < 100)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout.split() == ["True", "True"]


def test_weightless_networks_have_shapes_and_no_compiler_is_imported() -> None:
    code = """
import sys
from sumi.config import TextConfig
from sumi.models.placement import weightless
from sumi.nets.clip import TextEncoder
with weightless():
    encoder = TextEncoder(TextConfig())
assert all(parameter.is_meta for parameter in encoder.parameters())
assert sum(parameter.numel() for parameter in encoder.parameters()) == 123_060_480
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_for_gradients_is_the_fused_one(causal: bool) -> None:
    q, k, v = (torch.randn(2, 3, 5, 8, requires_grad=True, generator=torch.Generator().manual_seed(n)) for n in range(3))
    fused = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    with placement.for_gradients(torch.device("cpu")):
        plain = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert plain.grad_fn is not None and fused.grad_fn is not None
    assert plain.grad_fn.name() != fused.grad_fn.name(), "it is the fused one"
    assert_agree(plain, fused)
    for ours, theirs in zip(*(torch.autograd.grad(h.square().sum(), (q, k, v)) for h in (plain, fused)), strict=True):
        assert_agree(ours, theirs)
