"""What a text encoder reads and where. Its numbers are tested in parity/."""

from dataclasses import replace

import pytest
import torch

from sumi.config import TextConfig, VisionConfig
from sumi.nets.clip import TextEncoder, VisionEncoder
from support import assert_agree, randomise

TINY = TextConfig(vocab_size=50, length=10, width=16, layers=3, heads=2, mlp_width=32, eos_id=49)


def encoder(**fields: object) -> TextEncoder:
    return randomise(TextEncoder(replace(TINY, **fields)))


@torch.no_grad()
def test_a_token_sees_what_came_before_it() -> None:
    model, ids = encoder(), torch.randint(1, 49, (1, 10))
    ids[:, -1] = 49
    changed = ids.clone()
    changed[:, 5] = (ids[:, 5] + 7) % 49
    before, after = model(ids).hidden, model(changed).hidden
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.isclose(before[:, 5:], after[:, 5:]).all(-1).any()


@torch.no_grad()
def test_pooled_is_the_state_at_the_first_end() -> None:
    """Not the last (the padding may be the end again), and not the highest id (new words have higher ones)."""
    model = encoder(eos_id=30)
    ids = torch.tensor([[1, 2, 30, 30, 30], [1, 49, 3, 30, 0]])
    features = model(ids)
    assert_agree(features.pooled, features.hidden[[0, 1], [2, 3]])


@torch.no_grad()
def test_padding_is_read() -> None:
    """No mask hides it, as in every published model: what it holds changes what stands there."""
    model = encoder()
    ends, zeros = torch.tensor([[1, 49, 49, 49]]), torch.tensor([[1, 49, 0, 0]])
    assert torch.equal(model(ends).hidden[:, :2], model(zeros).hidden[:, :2])
    assert not torch.allclose(model(ends).hidden[:, 2:], model(zeros).hidden[:, 2:])


@torch.no_grad()
def test_layers() -> None:
    ids = torch.tensor([[1, 2, 49, 49]])
    model, raw = encoder(), encoder(final_norm=False)
    norm = model.text_model.final_layer_norm
    for layer in (-1, -2, -4, 0, 3):
        assert_agree(model(ids, layer=layer).hidden, norm(raw(ids, layer=layer).hidden))
    assert torch.equal(raw(ids, layer=0).hidden, raw.text_model.embeddings(ids))
    assert torch.equal(encoder(output_layer=-2)(ids).hidden, model(ids, layer=-2).hidden)
    assert torch.equal(model(ids, layer=-2).pooled, model(ids).pooled)
    with pytest.raises(ValueError, match="layer -5 of a text encoder that has 3 layers"):
        model(ids, layer=-5)


@torch.no_grad()
def test_activations() -> None:
    ids = torch.tensor([[1, 2, 49, 49]])
    quick, exact = encoder(), encoder(activation="gelu")
    mlp = quick.text_model.encoder.layers[0].mlp
    x = torch.randn(1, 2, 16)
    assert_agree(mlp(x), mlp.fc2(mlp.fc1(x) * torch.sigmoid(1.702 * mlp.fc1(x))))
    assert not torch.equal(quick(ids).hidden, exact(ids).hidden)


@torch.no_grad()
def test_projection() -> None:
    ids = torch.tensor([[1, 2, 49, 49]])
    plain, projecting = encoder(), encoder(projection_width=6)
    projecting.load_state_dict(plain.state_dict(), strict=False)
    assert_agree(projecting(ids).pooled, projecting.text_projection(plain(ids).pooled))


def test_every_parameter_learns() -> None:
    model = encoder(projection_width=6)
    features = model(torch.tensor([[1, 2, 49, 0, 0, 0, 0, 0, 0, 0]]))
    (features.hidden.square().sum() + features.pooled.square().sum()).backward()
    assert [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0] == []


def test_every_parameter_of_a_vision_encoder_learns() -> None:
    config = VisionConfig(image_size=8, patch_size=4, width=16, layers=2, heads=2, mlp_width=32, projection_width=6)
    model = randomise(VisionEncoder(config))
    model(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if not p.grad.abs().sum() > 0] == []
