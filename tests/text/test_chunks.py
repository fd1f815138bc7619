"""Every token of a passage, in order, in chunks that the text encoder reads at once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sumi.errors import PromptError
from sumi.text.bpe import Tokenizer, word_vocabulary
from sumi.text.chunks import Chunk, Token, chunks
from sumi.text.prompt import Passage, Segment, parse, plain
from sumi.text.wordpiece import WordPiece

TABLES = word_vocabulary(["a", "cat", "red", "two"])
LONG, SHORT = Tokenizer(*TABLES, length=77), Tokenizer(*TABLES, length=24, pad_id=0)
BERT = WordPiece({token: id for id, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", ",", "cat", "##s", "a", "red"])}, length=24)


def passage(text: str) -> Passage:
    (part,) = parse(text).at(0, 1)
    return part.passage


def lengths(tokenizer: Tokenizer | WordPiece, text: str) -> list[int]:
    return [len(chunk.tokens) for chunk in chunks(tokenizer, passage(text))]


@pytest.mark.parametrize("tokenizer", [LONG, SHORT, BERT], ids=["75", "22", "bert"])
def test_a_text_that_fits_is_the_tokenizers_own_sequence(tokenizer: Tokenizer | WordPiece) -> None:
    for text in ("", "  ", "a cat", "cat " * (tokenizer.length - 2)):
        (chunk,) = chunks(tokenizer, plain(text))
        assert chunk.ids(tokenizer) == tokenizer(text) and chunk.weights(tokenizer) == [1.0] * tokenizer.length


def test_each_token_has_its_weight_and_what_frames_them_has_one() -> None:
    (chunk,) = chunks(SHORT, passage("a (red:1.5) [cat]"))
    assert chunk.ids(SHORT) == SHORT("a red cat")
    assert chunk.weights(SHORT) == [1.0, 1.0, 1.5, 1 / 1.1] + [1.0] * 20


def test_segments_are_read_apart_as_the_web_ui_reads_them() -> None:
    whole, apart = (chunks(SHORT, passage(text))[0].tokens for text in ("(red)(cat)", "(red)cat"))
    assert [token.id for token in apart] == SHORT.encode("red") + SHORT.encode("cat")
    assert [token.id for token in whole] == SHORT.encode("redcat") and {token.word for token in whole} == {0}


def test_a_break_fills_the_chunk_up() -> None:
    assert lengths(SHORT, "a cat BREAK red") == [2, 1]
    assert lengths(SHORT, "BREAK a BREAK BREAK cat BREAK") == [0, 1, 0, 1]
    assert lengths(SHORT, "BREAK") == [0]
    assert lengths(SHORT, "cat " * 23 + "BREAK a") == [22, 1, 1]


@pytest.mark.parametrize(("tokenizer", "room", "back"), [(LONG, 75, 20), (SHORT, 22, 5), (BERT, 22, 5)], ids=["75", "22", "bert"])
def test_what_follows_a_comma_near_the_end_moves_on_as_one(tokenizer: Tokenizer | WordPiece, room: int, back: int) -> None:
    for before in range(room - back - 2, room):
        text = "cat " * before + "," + "red " * 30
        kept = before + 1 if before >= room - back else room
        assert lengths(tokenizer, text)[0] == kept, before
    # Where a comma comes next, nothing was cut in two.
    assert lengths(tokenizer, "cat " * (room - 2) + ", red" + ", red")[0] == room
    # The last comma counts, whatever weighs otherwise, and one before a break does not.
    assert lengths(tokenizer, "cat " * (room - 4) + ", a (, a red:1.2) red")[0] == room - 1
    assert lengths(tokenizer, "a, BREAK" + " cat" * (room + 1)) == [2, room, 1]


def test_no_comma_no_backtrack() -> None:
    vocab = {token: id for id, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"])}
    assert [len(chunk.tokens) for chunk in chunks(WordPiece(vocab, length=5), plain("a a , a a"))] == [3, 2]


@given(st.lists(st.sampled_from(["a ", "cat", "redcat ", ", ", "(two:1.3)", "[x]", " é日 ", "e\u0301", " BREAK ", ",", "!!"]), max_size=60))
@settings(max_examples=150, deadline=None)
def test_no_token_is_dropped_or_moved_and_every_letter_belongs_to_one(pieces: list[str]) -> None:
    read = passage("".join(pieces))
    for tokenizer in (SHORT, BERT):
        found = chunks(tokenizer, read)
        tokens = [token for chunk in found for token in chunk.tokens]
        expected = [(id, segment.weight) for segment in read.segments for id in tokenizer.encode(segment.text)]
        assert [(token.id, token.weight) for token in tokens] == expected
        assert all(len(chunk.ids(tokenizer)) == len(chunk.weights(tokenizer)) == tokenizer.length for chunk in found)
        written = "".join(segment.text for segment in read.segments if tokenizer.encode(segment.text))
        assert "".join(token.text for token in tokens) == written
        words = [token.word for token in tokens]
        assert words == sorted(words) and set(words) == set(range(len({*words})))


def test_words_of_several_tokens_are_one() -> None:
    (chunk,) = chunks(BERT, plain("cats, a red"))
    assert [(token.text, token.word) for token in chunk.tokens] == [("cat", 0), ("s", 0), (", ", 1), ("a ", 2), ("red", 3)]
    assert chunks(BERT, Passage(((Segment("a", 2.0),),))) == (Chunk((Token(7, 2.0, "a", 0),)),)


def test_text_that_is_not_unicode_is_a_prompt_error() -> None:
    with pytest.raises(PromptError):
        chunks(SHORT, Passage(((Segment("\ud800"),),)))
