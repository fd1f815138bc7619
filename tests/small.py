"""A model in the shape of Stable Diffusion 1, small in everything but its vocabulary, for tests of files in the original layout."""

from functools import cache

from torch import nn

from sumi.config import AutoencoderConfig, ModelSpec, TextConfig, UNetConfig
from sumi.store.model import Model, expected
from sumi.store.vocabulary import clip_tokenizer
from support import randomise

SMALL = ModelSpec(
    "small",
    unet=UNetConfig(
        block_channels=(16, 32),
        layers_per_block=1,
        attention_depth=(1, 0),
        cross_only=(False, False),
        heads=2,
        context_width=8,
        norm_groups=8,
    ),
    autoencoder=AutoencoderConfig(block_channels=(8, 16), layers_per_block=1, attention_levels=(False,) * 2, norm_groups=4),
    text=TextConfig(width=8, layers=1, heads=2, mlp_width=16),
    size=(16, 16),
    steps=2,
)


@cache
def small(seed: int = 0) -> Model:
    """With random weights. Not to be changed."""
    networks: dict[str, nn.Module] = expected(SMALL)
    states = {name: dict(randomise(network.to_empty(device="cpu"), seed).state_dict()) for name, network in networks.items()}
    return Model(SMALL, states, (clip_tokenizer(None, pad_id=49407),))
