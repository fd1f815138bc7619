import pytest
import torch

from sumi.diffusion.conditioning import Conditioning


def test_cat_joins_each_slot_along_the_batch():
    a = Conditioning(torch.zeros(1, 5, 3), torch.zeros(1, 2, 4, 4), torch.zeros(1, 7))
    b = Conditioning(torch.ones(2, 5, 3), torch.ones(2, 2, 4, 4), torch.ones(2, 7))
    joined = a.cat(b, a)
    for slot in (joined.context, joined.concat, joined.vector):
        assert slot is not None
        assert slot.flatten(1)[:, 0].tolist() == [0, 1, 1, 0]


def test_cat_keeps_empty_slots_empty():
    assert Conditioning().cat(Conditioning()) == Conditioning()


def test_cat_refuses_to_mix_empty_and_filled_slots():
    with pytest.raises(ValueError, match=r"context is filled in 1 of 2"):
        Conditioning(torch.zeros(1, 5, 3)).cat(Conditioning())


def test_repeat_is_of_the_whole_batch():
    labels = Conditioning(vector=torch.tensor([3, 8]))
    assert torch.equal(labels.repeat(3).vector, torch.tensor([3, 8, 3, 8, 3, 8]))
    assert torch.equal(labels.repeat(1).vector, labels.vector)


def test_beside_joins_what_is_said_of_the_same_samples():
    words = Conditioning(torch.zeros(2, 5, 3), vector=torch.zeros(2, 7))
    more = Conditioning(torch.ones(2, 5, 4), torch.ones(2, 1, 8, 8), torch.ones(2, 2))
    joined = words.beside(more, Conditioning(concat=torch.zeros(2, 3, 8, 8)))
    assert joined.context.shape == (2, 5, 7) and joined.context[0, 0].tolist() == [0] * 3 + [1] * 4
    assert joined.concat.shape == (2, 4, 8, 8) and joined.concat[0, :, 0, 0].tolist() == [1, 0, 0, 0]
    assert joined.vector.shape == (2, 9) and joined.vector[0].tolist() == [0] * 7 + [1] * 2


def test_beside_leaves_alone_what_is_said_once():
    labels = Conditioning(vector=torch.tensor([3, 8]))
    joined = Conditioning().beside(labels, Conditioning(concat=torch.zeros(2, 1, 4, 4)))
    assert joined.vector is labels.vector and joined.context is None
    assert Conditioning().beside() == Conditioning()


def test_equals_is_of_every_slot():
    one = Conditioning(torch.zeros(1, 5, 3), vector=torch.zeros(1, 7))
    assert one.equals(Conditioning(torch.zeros(1, 5, 3), vector=torch.zeros(1, 7)))
    assert not one.equals(Conditioning(torch.zeros(1, 5, 3), vector=torch.ones(1, 7)))
    assert not one.equals(Conditioning(torch.zeros(1, 5, 3)))
    assert Conditioning().equals(Conditioning())


def test_to_moves_what_there_is():
    moved = Conditioning(vector=torch.tensor([3, 8])).to(torch.device("meta"))
    assert moved.vector.device.type == "meta" and moved.context is None
