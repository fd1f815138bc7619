"""A whole model of the smallest size, with random weights: what tests of everything above the networks run on."""

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from small import variant_files
from sumi.config import AutoencoderConfig, ModelSpec, ScheduleConfig, TextConfig, UNetConfig
from sumi.diffusion.schedule import Schedule
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.prompt import Prompt
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.clip import TextEncoder
from sumi.nets.unet import UNet
from sumi.store.folder import Parts, write_folder, write_model
from sumi.text.bpe import Tokenizer, word_vocabulary

WORDS = ("a", "and", "above", "cat", "horse", "red", "star", "stars", "tree", "two")


SOURCE = Path(__file__).parents[1] / "src"


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For a process of its own, in which sumi is found whether or not it is installed."""
    return {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}


def _tiny() -> LatentDiffusion:
    vocab, merges = word_vocabulary(WORDS)
    tokenizer = Tokenizer(vocab, merges, length=24)
    spec = ModelSpec(
        "tiny",
        unet=UNetConfig(
            block_channels=(16, 32),
            layers_per_block=1,
            attention_depth=(0, 1),
            heads=2,
            context_width=24,
            vector_width=24,
            vector_name="class_embedding",
            cross_only=(False, False),
            norm_groups=8,
        ),
        autoencoder=AutoencoderConfig(
            block_channels=(8, 16), layers_per_block=1, attention_levels=(False, False), norm_groups=8, latent_scale=0.5
        ),
        text=TextConfig(
            vocab_size=len(vocab),
            length=24,
            width=24,
            layers=2,
            heads=2,
            mlp_width=48,
            eos_id=tokenizer.eos_id,
            pad_id=tokenizer.pad_id,
        ),
        schedule=ScheduleConfig(prediction="v", final_sigma_zero=True),
        size=(16, 24),
        steps=4,
        guidance=3.0,
        sampler="ddim",
        spacing="trailing",
    )
    assert spec.text is not None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet, autoencoder, encoder = UNet(spec.unet), Autoencoder(spec.autoencoder), TextEncoder(spec.text)
    for network in (unet, autoencoder, encoder):
        network.eval().requires_grad_(False)
    return LatentDiffusion(spec, unet, autoencoder, Prompt(tokenizer, encoder, vector=True), Schedule(spec.schedule))


@pytest.fixture(scope="session")
def tiny() -> LatentDiffusion:
    """The model, in memory. Not to be changed."""
    return _tiny()


@pytest.fixture
def calls(tiny: LatentDiffusion) -> Iterator[list[int]]:
    """The batch size of every call of the UNet of `tiny`."""
    sizes: list[int] = []
    hook = tiny.unet.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    yield sizes
    hook.remove()


@pytest.fixture(scope="session")
def tiny_model(tiny: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model, as a folder. Not to be changed."""
    assert tiny.prompt is not None
    folder = tmp_path_factory.mktemp("models") / "tiny"
    write_folder(folder, tiny.spec, Parts(tiny.unet, tiny.autoencoder, (tiny.prompt.encoder,), (tiny.prompt.tokenizer,)))
    return folder


@pytest.fixture(scope="session")
def model_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of one of `small.VARIANTS`. Not to be changed."""

    @cache
    def written(name: str) -> Path:
        folder = tmp_path_factory.mktemp("models") / name
        write_model(folder, variant_files(name))
        return folder

    return written
