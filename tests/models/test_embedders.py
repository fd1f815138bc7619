"""Prompts to conditioning, and what is said of words that are lost on the way."""

from dataclasses import replace

import pytest
import torch

from sumi.config import TextConfig
from sumi.errors import PromptError
from sumi.models.embedders import Notice, Prompt
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.nets.clip import TextEncoder
from sumi.text.bpe import Tokenizer, find_clip_vocabulary


@pytest.fixture
def prompt(tiny: LatentDiffusion) -> Prompt:
    assert tiny.prompt is not None
    return tiny.prompt


def test_a_prompt_fills_the_slots_it_is_told_to(prompt: Prompt) -> None:
    both = prompt(["a cat", "two stars"])
    assert both.context is not None and both.vector is not None
    assert both.context.shape == (2, 24, 24) and both.vector.shape == (2, 24) and both.concat is None
    context = Prompt(prompt.tokenizer, prompt.encoder)(["a cat"])
    assert context.vector is None and context.context is not None and torch.allclose(context.context, both.context[:1], atol=1e-6)
    vector = Prompt(prompt.tokenizer, prompt.encoder, context=False, vector=True)(["a cat"])
    assert vector.context is None and vector.vector is not None and torch.allclose(vector.vector, both.vector[:1], atol=1e-6)


def test_the_null_is_the_empty_prompt(prompt: Prompt) -> None:
    null, empty = prompt.null(2), prompt([""])
    assert null.context is not None and empty.context is not None
    assert len(null.context) == 2 and torch.allclose(null.context[1:], empty.context, atol=1e-6)


def test_a_word_that_is_not_in_the_vocabulary_is_named_once_with_the_one_most_like_it(prompt: Prompt) -> None:
    notices = prompt.notices("a hourse, a hourse, two staars")
    assert [str(notice) for notice in notices] == [
        "'hourse' is not in this model's vocabulary; nearest: horse",
        "'staars' is not in this model's vocabulary; nearest: stars",
    ]
    assert prompt.notices("Two red STARS, above a tree!") == prompt.notices("") == []


def test_words_that_do_not_fit_are_named(prompt: Prompt) -> None:
    (notice,) = prompt.notices("a cat and " * 7 + "two red stars")
    assert notice == Notice("overflow", ("red", "stars"), room=22)
    assert str(notice) == "the prompt is longer than the 22 tokens this model reads; left out: 'red stars'"


def test_a_vocabulary_that_spells_any_word_has_no_unknown_ones() -> None:
    vocab, merges = find_clip_vocabulary()
    encoder = TextEncoder(replace(TextConfig(), width=8, layers=1, heads=1, mlp_width=8))
    assert Prompt(Tokenizer(vocab, merges), encoder).notices("an axolotl playing theremin") == []


def test_text_that_is_not_unicode_is_a_prompt_error(prompt: Prompt) -> None:
    with pytest.raises(PromptError):
        prompt(["\ud800"])
