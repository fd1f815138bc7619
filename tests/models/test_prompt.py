"""Words to conditioning, and what is said of words that are lost on the way."""

from dataclasses import replace

import pytest
import torch

from sumi.config import BertConfig, TextConfig
from sumi.errors import PromptError, RequestError
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.prompt import Notice, Prompt
from sumi.nets.bert import BertEncoder
from sumi.nets.clip import TextEncoder
from sumi.store.vocabulary import find_clip_vocabulary
from sumi.text.bpe import Tokenizer
from sumi.text.prompt import Passage, parse, plain
from sumi.text.wordpiece import WordPiece
from sumi.text.words import Word
from support import randomise

LONG = "two red stars above a tree and a cat and a horse, " * 3


@pytest.fixture
def prompt(tiny: LatentDiffusion) -> Prompt:
    assert tiny.prompt is not None
    return tiny.prompt


def passage(text: str) -> Passage:
    (part,) = parse(text).at(0, 1)
    return part.passage


def test_a_prompt_fills_the_slots_it_is_told_to(prompt: Prompt) -> None:
    both = prompt(["a cat", "two stars"])
    assert both.context is not None and both.vector is not None
    assert both.context.shape == (2, 24, 24) and both.vector.shape == (2, 24) and both.concat is None
    context = Prompt(prompt.tokenizer, prompt.encoder)(["a cat"])
    assert context.vector is None and context.context is not None and torch.allclose(context.context, both.context[:1], atol=1e-6)
    vector = Prompt(prompt.tokenizer, prompt.encoder, context=False, vector=True)(["a cat"])
    assert vector.context is None and vector.vector is not None and torch.allclose(vector.vector, both.vector[:1], atol=1e-6)


def test_what_fits_is_the_encoders_own_features_to_the_bit(prompt: Prompt) -> None:
    texts = ["", "a cat", "(two [stars:cat", "cat " * 22]
    features = prompt.encoder(torch.tensor([prompt.tokenizer(text) for text in texts]))
    for given in (texts, [plain(text) for text in texts]):
        for emphasis in ("mean", "plain", "off"):
            told = prompt(given, emphasis=emphasis)
            assert told.context is not None and told.vector is not None
            assert torch.equal(told.context, features.hidden) and torch.equal(told.vector, features.pooled)


def test_the_null_is_the_empty_prompt(prompt: Prompt) -> None:
    null, empty = prompt.null(2), prompt([""])
    assert null.context is not None and empty.context is not None
    assert len(null.context) == 2 and torch.allclose(null.context[1:], empty.context, atol=1e-6)


def test_a_long_prompt_is_read_chunk_by_chunk(prompt: Prompt) -> None:
    pieces = [chunk.ids(prompt.tokenizer) for chunk in prompt.chunks(LONG)]
    assert len(pieces) == 2 and {len(piece) for piece in pieces} == {24}
    told, features = prompt([LONG]), [prompt.encoder(torch.tensor([piece])) for piece in pieces]
    assert told.context is not None and told.vector is not None
    assert torch.equal(told.context, torch.cat([feature.hidden for feature in features], dim=1))
    assert torch.equal(told.vector, features[0].pooled)
    with pytest.raises(PromptError, match=r"1 and 2 chunks .* read each alone"):
        prompt(["a cat", LONG])


def test_weights_of_one_text_leave_another_of_its_batch_alone(prompt: Prompt) -> None:
    heavy, light = passage("a (cat:1.5)"), plain("two stars")
    for emphasis in ("mean", "plain"):
        both, alone = prompt([heavy, light], emphasis=emphasis), prompt([light, light])
        assert both.context is not None and alone.context is not None and both.vector is not None
        assert torch.equal(both.context[1], alone.context[1])
        assert not torch.allclose(both.context[0], prompt(["a cat", "a cat"]).context[0])
        assert torch.equal(both.vector, prompt(["a cat", "two stars"]).vector)
    off = prompt([heavy, light], emphasis="off")
    assert off.equals(prompt(["a cat", "two stars"]))


def test_weights_that_leave_no_mean_are_refused(prompt: Prompt) -> None:
    """Vectors of ones: of 24 weights, 23 are 1."""
    encoder = TextEncoder(prompt.encoder.config).eval().requires_grad_(False)
    torch.nn.init.zeros_(encoder.text_model.final_layer_norm.weight)
    torch.nn.init.ones_(encoder.text_model.final_layer_norm.bias)
    ones = Prompt(prompt.tokenizer, encoder)
    with pytest.raises(PromptError, match="choose emphasis plain"):
        ones([passage("a (cat:-23)")])
    found = ones([passage("a (cat:-23)")], emphasis="plain").context
    assert found is not None and found[0, :, 0].tolist() == [1, 1, -23, *[1] * 21]
    restored = ones([passage("a (cat:-22)")]).context
    assert restored is not None and restored[0, :, 0].tolist() == [24, 24, -22 * 24, *[24] * 21]


def test_a_mean_that_is_rounding_alone_is_not_restored(prompt: Prompt) -> None:
    """Normalised vectors have none before an encoder's first step of training."""
    text = [passage("a (cat:1.5)")]
    assert prompt(text).equals(prompt(text, emphasis="plain"))


def test_two_encoders_lie_side_by_side_and_the_seconds_vector_is_used(prompt: Prompt) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(replace(prompt.encoder.config, width=16, projection_width=12)).eval().requires_grad_(False)
    second = Prompt(prompt.tokenizer, encoder, vector=True)
    first = Prompt(prompt.tokenizer, prompt.encoder)
    for texts in (["a cat", "two stars"], [LONG, LONG], [passage("a (cat:1.2)"), passage("[two] stars")]):
        both = Prompt(prompt.tokenizer, prompt.encoder, second=second)(texts, skip=2)
        one, two = first(texts, skip=2), second(texts, skip=2)
        assert both.context is not None and both.vector is not None
        assert both.context.shape[2] == 40
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
    assert zeros.away([Passage()]).equals(zeros.null()) and zeros.away([passage("()")]).equals(zeros.null())
    assert zeros.away([" "]).equals(prompt([" "]))


def test_a_word_that_is_not_in_the_vocabulary_is_named_once_with_the_one_most_like_it(prompt: Prompt) -> None:
    notices = prompt.notices("a hourse, a hourse, two staars")
    assert notices == [Notice("hourse", "horse"), Notice("staars", "stars")]
    assert [str(notice) for notice in notices] == [
        "'hourse' is not in this model's vocabulary; nearest: horse",
        "'staars' is not in this model's vocabulary; nearest: stars",
    ]
    assert prompt.notices(passage("a (hourse:1.3) BREAK [staars] (hourse)")) == notices
    assert prompt.notices("Two red STARS, above a tree!") == prompt.notices("") == prompt.notices(LONG) == []


def test_every_word_is_said_with_what_was_done_to_it(prompt: Prompt) -> None:
    ids = prompt.tokenizer.vocab
    found = prompt.words(passage("a Red (hourse:1.3), BREAK cat"))
    hourse = tuple(prompt.tokenizer.encode("hourse"))
    assert found == (
        Word("a", 1.0, 0, (ids["a</w>"],)),
        Word("Red", 1.0, 0, (ids["red</w>"],)),
        Word("hourse", 1.3, 0, hourse, known=False),
        Word(",", 1.0, 0, (ids[",</w>"],)),
        Word("cat", 1.0, 1, (ids["cat</w>"],)),
    )
    assert prompt.words("") == prompt.words(" \n") == ()
    assert [word.text for word in prompt.words("e\u0301 two  stars'")] == ["e\u0301", "two", "stars", "'"]


def test_a_word_that_a_chunk_cuts_is_two_and_nothing_is_left_out(prompt: Prompt) -> None:
    long = "cat " * 20 + "hourse"
    *_, one, two = prompt.words(long)
    assert (one.chunk, two.chunk, one.text + two.text, one.known, two.known) == (0, 1, "hourse", False, False)
    found = prompt.words(LONG)
    assert "".join(word.text for word in found) == LONG.replace(" ", "")
    assert [id for word in found for id in word.tokens] == prompt.tokenizer.encode(LONG)
    assert {word.chunk for word in found} == {0, 1}


def test_a_vocabulary_that_spells_any_word_has_no_unknown_ones() -> None:
    vocab, merges = find_clip_vocabulary()
    reader = Prompt(Tokenizer(vocab, merges), TextEncoder(replace(TextConfig(), width=8, layers=1, heads=1, mlp_width=8)))
    assert reader.notices("an axolotl playing theremin") == []
    assert all(word.known for word in reader.words("an axolotl playing theremin"))


def test_the_papers_encoder_reads_chunks_weights_and_no_other_layer() -> None:
    vocab = {token: id for id, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", ","])}
    config = BertConfig(vocab_size=len(vocab), length=6, width=8, layers=1, heads=1, head_width=8)
    encoder = randomise(BertEncoder(config)).requires_grad_(False)
    assert isinstance(encoder, BertEncoder)
    reader = Prompt(WordPiece(vocab, length=6), encoder)
    ids = [chunk.ids(reader.tokenizer) for chunk in reader.chunks("a cat a cat a cat")]
    assert ids == [[2, 4, 5, 4, 5, 3], [2, 4, 5, 3, 0, 0]]
    long, weighted = reader(["a cat a cat a cat"]).context, reader([passage("a (cat:2)")], emphasis="plain").context
    assert long is not None and weighted is not None and long.shape == (1, 12, 8)
    assert torch.equal(long, torch.cat([encoder(torch.tensor([piece])).hidden for piece in ids], dim=1))
    hidden = encoder(torch.tensor([ids[1]])).hidden
    assert torch.equal(weighted, hidden * torch.tensor([1.0, 1, 2, 1, 1, 1])[:, None])
    assert [word.known for word in reader.words("a catz")] == [True, False]
    with pytest.raises(RequestError, match="leave clip skip at 1"):
        reader(["a"], skip=2)


@pytest.mark.parametrize("skip", [0, 3])
def test_a_layer_that_the_encoder_does_not_have_is_refused(prompt: Prompt, skip: int) -> None:
    with pytest.raises(RequestError, match=f"from 1 to 2, the layers of this model's text encoder; got {skip}"):
        prompt(["a cat"], skip=skip)
    assert not prompt(["a cat"], skip=2).equals(prompt(["a cat"], skip=1))


def test_text_that_is_not_unicode_is_a_prompt_error(prompt: Prompt) -> None:
    for read in (prompt.chunks, prompt.words, prompt.notices, lambda text: prompt([text])):
        with pytest.raises(PromptError):
            read("\ud800")
