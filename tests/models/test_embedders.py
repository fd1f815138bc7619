"""Words and numbers to conditioning, and what is said of words that are lost on the way."""

import math
from dataclasses import replace

import pytest
import torch

from sumi.config import LabelConfig, ModelSpec, TextConfig
from sumi.diffusion.noise import Noise
from sumi.errors import PromptError
from sumi.models.embedders import (
    IMAGE_EMBEDDING,
    ImageEmbedding,
    Label,
    Notice,
    Prompt,
    Sizes,
    drawn,
    pooled_width,
    sizes,
    takes_image_embedding,
)
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.zoo import ZOO
from sumi.nets.clip import TextEncoder
from sumi.nets.conditioners import LabelEmbedding
from sumi.store.vocabulary import find_clip_vocabulary
from sumi.text.bpe import Tokenizer


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


def test_two_encoders_lie_side_by_side_and_the_seconds_vector_is_used(prompt: Prompt) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(replace(prompt.encoder.config, width=16, projection_width=12)).eval().requires_grad_(False)
    second = Prompt(prompt.tokenizer, encoder, vector=True)
    first = Prompt(prompt.tokenizer, prompt.encoder)
    both = Prompt(prompt.tokenizer, prompt.encoder, second=second)(["a cat", "two stars"])
    assert both.context is not None and both.vector is not None
    one, two = first(["a cat", "two stars"]), second(["a cat", "two stars"])
    assert both.context.shape == (2, 24, 40)
    assert torch.equal(both.context[..., :24], one.context) and torch.equal(both.context[..., 24:], two.context)
    assert torch.equal(both.vector, two.vector)


def test_no_prompt_is_zeros_where_the_model_was_trained_so(prompt: Prompt) -> None:
    zeros = Prompt(prompt.tokenizer, prompt.encoder, vector=True, zero_null=True)
    away, read = zeros.away(["", "a cat"]), zeros(["", "a cat"])
    assert away.context is not None and away.vector is not None
    assert not away.context[0].any() and not away.vector[0].any()
    assert torch.equal(away.context[1], read.context[1]) and torch.equal(away.vector[1], read.vector[1])
    assert read.context[0].any() and read.vector[0].any()
    assert zeros.null(2).equals(zeros.away(["", ""])) and prompt.away(["", "a cat"]).equals(prompt(["", "a cat"]))


def test_what_neither_tokenizer_has_room_for_is_named_once(prompt: Prompt) -> None:
    long = "a cat and " * 7 + "two red stars"
    alike = Prompt(prompt.tokenizer, prompt.encoder, second=prompt)
    assert alike.notices(long) == prompt.notices(long)
    shorter = Prompt(Tokenizer(prompt.tokenizer.vocab, prompt.tokenizer.merges, length=23), prompt.encoder)
    notices = Prompt(prompt.tokenizer, prompt.encoder, second=shorter).notices(long)
    assert [(notice.room, notice.words) for notice in notices] == [(22, ("red", "stars")), (21, ("two", "red", "stars"))]


def test_sizes_are_sinusoids_of_height_before_width_and_top_before_left() -> None:
    found = Sizes(6)((768, 1024), 2, original=(900, 1200), crop=(16, 8)).vector
    assert found is not None and found.shape == (2, 6 * 256) and torch.equal(found[0], found[1])
    for number, part in zip((900, 1200, 16, 8, 768, 1024), found[0].split(256), strict=True):
        angles = [number * math.exp(-math.log(10000) * i / 128) for i in (0, 1, 127)]
        expected = [f(angle) for f in (math.cos, math.sin) for angle in angles]
        torch.testing.assert_close(part[[0, 1, 127, 128, 129, 255]], torch.tensor(expected), atol=1e-4, rtol=0)
    assert Sizes(6)((768, 1024)).equals(Sizes(6)((768, 1024), original=(768, 1024), crop=(0, 0)))
    assert Sizes(6).null((768, 1024)).equals(Sizes(6)((768, 1024)))


def test_the_refiner_is_told_a_score_in_place_of_the_size_asked_for() -> None:
    given, away = Sizes(5)((768, 1024)), Sizes(5).null((768, 1024))
    assert given.vector is not None and away.vector is not None
    assert given.vector.shape == (1, 5 * 256)
    assert torch.equal(given.vector[:, : 4 * 256], Sizes(6)((768, 1024)).vector[:, : 4 * 256])
    assert torch.equal(given.vector[:, : 4 * 256], away.vector[:, : 4 * 256])
    assert [part[0, 4 * 256].item() for part in (given.vector, away.vector)] == pytest.approx([math.cos(6), math.cos(2.5)])


@pytest.mark.parametrize("spec", ZOO.values(), ids=ZOO)
def test_what_the_vector_of_a_model_is_made_of(spec: ModelSpec) -> None:
    embedder = sizes(spec)
    numbers = None if embedder is None else embedder.numbers
    assert numbers == (5 if spec.name == "sdxl-refiner" else 6 if spec.name.startswith("sdxl") else None)
    assert takes_image_embedding(spec) == ("unclip" in spec.name)
    assert pooled_width(spec) == (None if spec.text is None or spec.name.startswith("ldm") else (spec.text_2 or spec.text).width)


def test_a_label_has_a_null_of_its_own() -> None:
    table = LabelEmbedding(LabelConfig(classes=5, width=4)).requires_grad_(False)
    label = Label(table)
    assert torch.equal(label(torch.tensor([3, 0])).context, table.embedding.weight[[3, 0]][:, None])
    assert label.null(2).equals(label(torch.tensor([4, 4])))


def test_an_embedding_is_noised_on_the_scale_of_training_and_told_how_much() -> None:
    mean, std, embedding, noise = torch.randn(6), torch.rand(6) + 0.5, torch.randn(2, 6), Noise(3, range(2), (4, 8, 8))
    embed = ImageEmbedding(mean, std)
    clean = embed(embedding, noise)
    assert clean.vector is not None and clean.vector.shape == (2, 12)
    torch.testing.assert_close(clean.vector[0, 6:], torch.tensor([1.0] * 3 + [0.0] * 3))
    noisiest = embed(embedding, noise, 999).vector
    torch.testing.assert_close(noisiest[:, :6], drawn(noise, IMAGE_EMBEDDING, embedding) * std + mean, atol=1e-3, rtol=0)
    assert torch.equal(embed.null(3).vector, torch.zeros(3, 12))
