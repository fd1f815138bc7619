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
