"""The words that a text encoder reads, each at its place in the prompt."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sumi.config import BertConfig, TextConfig
from sumi.errors import PromptError
from sumi.text.bpe import Tokenizer, word_vocabulary
from sumi.text.chunks import AnyTokenizer, chunks
from sumi.text.prompt import parse
from sumi.text.wordpiece import WordPiece
from sumi.text.words import Word, words

CLIP = Tokenizer(*word_vocabulary(["a", "cat", "red", "two"]), length=6)
BERT = WordPiece({token: id for id, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", ",", "cat", "##s", "a", "red"])}, length=6)
SMALL = TextConfig(vocab_size=len(CLIP.vocab)), BertConfig(vocab_size=len(BERT.vocab))


def read(text: str, tokenizer: AnyTokenizer = CLIP, encoder: TextConfig | BertConfig = SMALL[0], step: int = 0) -> tuple[Word, ...]:
    (part,) = parse(text).at(step, 10)
    return words(tokenizer, encoder, chunks(tokenizer, part.passage))


def shown(text: str, **how: object) -> list[tuple[str, str]]:
    """Each word, and what is written at its place."""
    return [(word.text, text[word.places.start : word.places.stop]) for word in read(text, **how)]  # type: ignore[arg-type]


def test_a_words_place_is_its_own_without_the_space_around_it() -> None:
    assert shown("  a  Cat,\n(red:1.3)") == [("a", "a"), ("Cat", "Cat"), (",", ","), ("red", "red")]
    assert shown("two [a:red:5]", step=0) == [("two", "two"), ("a", "a")]
    assert shown("two [a:red:5]", step=9) == [("two", "two"), ("red", "red")]
    assert shown(r"\(cat\)") == [("(", "("), ("cat", "cat"), (")", ")")]


def test_a_word_of_pieces_that_lie_apart_is_all_from_the_first_to_the_last() -> None:
    assert shown("(re)(d)cat") == [("red", "re)(d"), ("cat", "cat")]
    assert shown("c[a|b]t cat") == [("cat", "c[a|b]t"), ("cat", "cat")]


def test_a_word_that_a_chunk_cuts_is_two() -> None:
    found = read("a a a zebra")
    assert [(word.text, word.chunk, word.known) for word in found] == [
        ("a", 0, True), ("a", 0, True), ("a", 0, True), ("z", 0, False), ("ebra", 1, False)
    ]  # fmt: skip
    assert [word.places for word in found][-2:] == [range(6, 7), range(7, 11)]


def test_words_are_unknown_to_vocabularies_of_words_alone() -> None:
    long = Tokenizer(CLIP.vocab, CLIP.merges, length=24)
    assert [word.known for word in read("a zebra , cats", long)] == [True, False, True, False]
    assert all(word.known for word in read("a zebra , cats", long, TextConfig()))
    assert [word.known for word in read("a zebra , cat", BERT, SMALL[1])] == [True, False, True, True]
    # One that a chunk cuts, and whose parts are words, is known as little as before.
    assert [word.known for word in read("a a a acat")][-2:] == [False, False]


PIECES = [
    "a",
    "cat",
    "red",
    " ",
    "  ",
    ", ",
    "(",
    ")",
    ":1.3)",
    "[",
    "|",
    "]",
    ":0.5]",
    " BREAK ",
    "\\(",
    "é",
    "日本",
    "😀",
    "zebra",
    "e\u0301",
]


@pytest.mark.parametrize(("tokenizer", "encoder"), [(CLIP, SMALL[0]), (BERT, SMALL[1])], ids=["clip", "bert"])
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12), step=st.integers(0, 9))
@settings(max_examples=300, deadline=None)
def test_places_follow_one_another_and_hold_the_word(
    tokenizer: AnyTokenizer, encoder: TextConfig | BertConfig, pieces: list[str], step: int
) -> None:
    text = "".join(pieces)
    try:
        found = read(text, tokenizer, encoder, step)
    except PromptError:
        return
    end = 0
    for word in found:
        if not word.text:  # of a sign of several tokens, all but one
            continue
        assert end <= word.places.start < word.places.stop <= len(text)
        at = text[word.places.start : word.places.stop]
        left = iter(at)
        assert at[0] == word.text[0] and at[-1] == word.text[-1] and all(letter in left for letter in word.text)
        end = word.places.stop
