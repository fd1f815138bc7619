"""A model in the shape of Stable Diffusion 1, for tests of files in the original layout.

Such files have no vocabulary inside: whoever opens one puts `WORDS` in the place of the real one, which takes a second to read.
"""

from functools import cache

from torch import nn

from sumi.config import AutoencoderConfig, ModelSpec, TextConfig, UNetConfig
from sumi.store.model import Model, expected
from sumi.text.bpe import Tokenizer, word_vocabulary
from support import randomise

WORDS = Tokenizer(*word_vocabulary(["a", "cat", "above", "tree"]), length=12)

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
    text=TextConfig(
        vocab_size=len(WORDS.vocab), length=12, width=8, layers=1, heads=2, mlp_width=16, eos_id=WORDS.eos_id, pad_id=WORDS.pad_id
    ),
    size=(16, 16),
    steps=2,
)


@cache
def small(seed: int = 0) -> Model:
    """With random weights. Not to be changed."""
    networks: dict[str, nn.Module] = expected(SMALL)
    states = {name: dict(randomise(network.to_empty(device="cpu"), seed).state_dict()) for name, network in networks.items()}
    return Model(SMALL, states, (WORDS,))
