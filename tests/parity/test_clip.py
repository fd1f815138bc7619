"""Our CLIP encoders against transformers', tiny and random, by the published names."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from sumi.config import TextConfig, VisionConfig
from sumi.nets.clip import TextEncoder, VisionEncoder
from support import assert_agree, randomise

EOS, PAD = 99, 0


def published(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    """The state dict under the names of published folders, whose `prefix` newer versions of transformers leave out."""
    names = ("embeddings.", "encoder.", "final_layer_norm.", "pre_layrnorm.", "post_layernorm.")
    state = {prefix + name if name.startswith(names) else name: tensor for name, tensor in module.state_dict().items()}
    return {name: tensor for name, tensor in state.items() if not name.endswith("position_ids")}


def text_pair(kind: type[nn.Module], eos: int = EOS, **fields: Any) -> tuple[TextEncoder, Any]:
    ours = TextConfig(vocab_size=100, length=16, width=32, layers=3, heads=4, mlp_width=64, eos_id=EOS, **fields)
    theirs: Any = randomise(
        kind(
            CLIPTextConfig(
                vocab_size=100,
                max_position_embeddings=16,
                hidden_size=32,
                num_hidden_layers=3,
                num_attention_heads=4,
                intermediate_size=64,
                hidden_act=ours.activation,
                projection_dim=ours.projection_width or 32,
                eos_token_id=eos,
            )
        )
    )
    encoder = TextEncoder(ours).eval()
    encoder.load_state_dict(published(theirs, "text_model."), strict=True)
    return encoder, theirs


def tokens() -> Tensor:
    """Prompts of several lengths, the unused places filled with the end, as SD 1 does, or with 0, as SD 2 and SDXL do."""
    ids = torch.randint(1, 98, (4, 16))
    for row, (length, pad) in enumerate([(3, EOS), (15, EOS), (7, PAD), (1, PAD)]):
        ids[row, length], ids[row, length + 1 :] = EOS, pad
    return ids


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"], ids=["sd1", "sd2"])
@pytest.mark.parametrize("eos", [EOS, 2], ids=["by id", "as the highest id"])
@torch.no_grad()
def test_text(activation: str, eos: int) -> None:
    """Published configurations give the end as 2, at which transformers takes the first of the highest ids instead."""
    ours, theirs = text_pair(CLIPTextModel, eos, activation=activation)
    ids = tokens()
    features, expected = ours(ids), theirs(ids, output_hidden_states=True)
    assert_agree(features.hidden, expected.last_hidden_state)
    assert_agree(features.pooled, expected.pooler_output)
    norm = ours.text_model.final_layer_norm
    for layer in (-1, -2, -3):
        assert_agree(ours(ids, layer=layer).hidden, norm(expected.hidden_states[layer]))


@torch.no_grad()
def test_text_of_sdxl() -> None:
    """The last layer but one, not normalised; the pooled vector is the last layer's, normalised and projected."""
    ours, theirs = text_pair(CLIPTextModelWithProjection, activation="gelu", projection_width=24, output_layer=-2, final_norm=False)
    ids = tokens()
    features, expected = ours(ids), theirs(ids, output_hidden_states=True)
    assert_agree(features.hidden, expected.hidden_states[-2])
    assert_agree(features.pooled, expected.text_embeds)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@torch.no_grad()
def test_vision(activation: str) -> None:
    sizes = {"image_size": 28, "patch_size": 7}
    theirs: Any = randomise(
        CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                **sizes,
                hidden_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=64,
                hidden_act=activation,
                projection_dim=24,
            )
        )
    )
    ours = VisionEncoder(
        VisionConfig(**sizes, width=32, layers=2, heads=4, mlp_width=64, activation=activation, projection_width=24)
    ).eval()
    ours.load_state_dict(published(theirs, "vision_model."), strict=True)
    image = torch.randn(3, 3, 28, 28)
    assert_agree(ours(image), theirs(image).image_embeds)
