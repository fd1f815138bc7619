"""What the latent diffusion paper's text transformer reads and where. Its numbers are tested in parity/."""

from dataclasses import replace

import pytest
import torch

from sumi.config import BertConfig
from sumi.models.placement import weightless
from sumi.nets.bert import BertEncoder
from support import parameters, randomise

TINY = BertConfig(vocab_size=50, length=10, width=16, layers=2, heads=2, head_width=6)


def test_size_of_the_published_model() -> None:
    with weightless():
        model = BertEncoder(BertConfig())
    assert (parameters(model), len(model.state_dict())) == (581_994_042, 422)


def test_size_of_the_layout_model() -> None:
    """Counted by hand: tables, layers of four projections and a perceptron, the last normalisation, and the unused way out."""
    width, inner = 512, 8 * 64
    layer = 3 * width * inner + (inner * width + width) + 2 * 2 * width + (width * 4 * width + 4 * width) + (4 * width * width + width)
    expected = 8192 * width + 92 * width + 16 * layer + 2 * width + (width * 8192 + 8192)
    with weightless():
        assert parameters(BertEncoder(BertConfig(vocab_size=8192, length=92, width=width, layers=16))) == expected


@torch.no_grad()
def test_every_token_sees_every_other_the_padding_included() -> None:
    model, ids = randomise(BertEncoder(TINY)), torch.randint(1, 50, (1, 10))
    ids[:, 6:] = 0
    before = model(ids).hidden
    for place, token in ((2, (ids[0, 2] + 7) % 50), (9, 1)):
        changed = ids.clone()
        changed[:, place] = token
        assert not torch.isclose(before, model(changed).hidden).all(-1).any()


@torch.no_grad()
def test_fewer_tokens_than_places_and_not_more() -> None:
    model, ids = randomise(BertEncoder(TINY)), torch.randint(0, 50, (2, 4))
    short = randomise(BertEncoder(replace(TINY, length=4)))
    state = model.state_dict()
    state["model.embed_positions.weight"] = state["model.embed_positions.weight"][:4]
    short.load_state_dict(state)
    assert torch.equal(model(ids).hidden, short(ids).hidden)
    with pytest.raises(RuntimeError, match="must match"):
        model(torch.zeros(1, 11, dtype=torch.long))


def test_every_parameter_learns_but_the_unused_layer() -> None:
    model = randomise(BertEncoder(TINY))
    model(torch.arange(10)[None]).hidden.square().sum().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == ["to_logits.weight", "to_logits.bias"]
