"""Our BERT of the latent diffusion paper against diffusers', tiny and random, by the published names."""

import pytest
import torch
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

from sumi.config import BertConfig
from sumi.models.placement import weightless
from sumi.nets.bert import BertEncoder
from support import assert_agree, assert_same_norms, parameters, randomise


def theirs(config: BertConfig) -> LDMBertModel:
    return LDMBertModel(
        LDMBertConfig(
            vocab_size=config.vocab_size,
            max_position_embeddings=config.length,
            encoder_layers=config.layers,
            encoder_ffn_dim=4 * config.width,
            encoder_attention_heads=config.heads,
            head_dim=config.head_width,
            d_model=config.width,
        )
    )


@pytest.mark.parametrize(("heads", "head_width"), [(2, 8), (4, 12)], ids=["narrower than the tokens", "wider"])
@torch.no_grad()
def test_hidden(heads: int, head_width: int) -> None:
    config = BertConfig(vocab_size=100, length=12, width=32, layers=3, heads=heads, head_width=head_width)
    published = randomise(theirs(config))
    ours = BertEncoder(config).eval()
    ours.load_state_dict(published.state_dict(), strict=True)
    assert_same_norms(ours, published)
    ids = torch.randint(1, 100, (3, 12))
    ids[1, 5:] = 0
    (expected,) = published(ids, return_dict=False)
    assert_agree(ours(ids).hidden, expected)
    (expected,) = published(ids[:, :7], return_dict=False)
    assert_agree(ours(ids[:, :7]).hidden, expected)


@pytest.mark.parametrize("config", [BertConfig(), BertConfig(vocab_size=8192, length=92, width=512, layers=16)], ids=["text", "layout"])
def test_names_and_shapes_at_full_size(config: BertConfig) -> None:
    with weightless():
        ours = BertEncoder(config)
    with torch.device("meta"):
        published = theirs(config)
    assert {name: t.shape for name, t in ours.state_dict().items()} == {name: t.shape for name, t in published.state_dict().items()}
    assert parameters(ours) == parameters(published)
