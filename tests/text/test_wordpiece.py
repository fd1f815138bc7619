"""BERT's way of reading words, folders of its tokenizer, and what is said of words that it cannot read."""

import json
from pathlib import Path

import pytest

from sumi.errors import CheckpointError, OutputError, PromptError
from sumi.text.wordpiece import WordPiece, read_vocabulary

# The special tokens, two pieces that a careless reader takes for ends of lines, and some words.
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2028", "\x85", "a", "cat", "un", "##happy", "##hap", "##py", "##s", "cafe"]
TOKENS += ["!", ",", "日", "本", "##本", "paint", "##ing", "of"]
VOCAB = {token: id for id, token in enumerate(TOKENS)}


@pytest.fixture
def bert() -> WordPiece:
    return WordPiece(VOCAB, length=8)


def test_the_longest_piece_first(bert: WordPiece) -> None:
    assert bert.pieces("unhappy cats") == ["un", "##happy", "cat", "##s"]
    assert bert.pieces("A Painting of CATS!") == ["a", "paint", "##ing", "of", "cat", "##s", "!"]
    assert bert.pieces("Café,cafe\u0301\x00 日本") == ["cafe", ",", "cafe", "日", "本"]
    assert bert.pieces("catz a") == ["[UNK]", "a"]  # a word is unknown as a whole
    assert bert.pieces("a[SEP]cat [sep]") == ["a", "[SEP]", "cat", "[UNK]", "[UNK]", "[UNK]"]
    assert bert.encode("") == bert.encode(" \t\n\u200b") == []
    assert bert.pieces("a" * 101) == ["[UNK]"]


def test_a_sequence_is_framed_cut_and_padded(bert: WordPiece) -> None:
    assert bert("a cat") == [2, 7, 8, 3, 0, 0, 0, 0]
    assert bert("cat " * 20) == [2, *[8] * 6, 3]
    assert (bert.length, bert.bos_id, bert.eos_id, bert.pad_id) == (8, 2, 3, 0)
    assert len(WordPiece(VOCAB)("a")) == 77


def test_decode_and_unknown_words(bert: WordPiece) -> None:
    assert bert.decode(bert("Unhappy CATS!")) == "unhappy cats !"
    assert bert.unknown_words("a dog, a cat 😀 Dog dog") == [("dog", ""), ("😀", ""), ("Dog", "")]
    assert bert.unknown_words("a cat!") == []


def test_half_a_surrogate_pair_is_a_prompt_error(bert: WordPiece) -> None:
    for method in (bert, bert.encode, bert.pieces, bert.unknown_words):
        with pytest.raises(PromptError, match="surrogate"):
            method("\ud800")


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        ({"a": 0}, r"no \[PAD\] and no \[UNK\]"),
        (VOCAB | {"dog": 99}, "without a gap"),
        (VOCAB | {"dog": 3}, "without a gap"),
    ],
)
def test_a_vocabulary_of_another_kind(vocab: dict[str, int], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        WordPiece(vocab)
    with pytest.raises(CheckpointError, match="no room"):
        WordPiece(VOCAB, length=2)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("vocab.txt", b"\xff\xfe"),
        ("vocab.txt", b"a\nb\n"),
        ("vocab.txt", "\n".join([*TOKENS, "cat"]).encode()),
        ("tokenizer_config.json", b"{"),
        ("tokenizer_config.json", b'{"do_lower_case": false}'),
        ("tokenizer_config.json", b'{"strip_accents": false}'),
        ("tokenizer_config.json", b'{"tokenize_chinese_chars": false}'),
        ("tokenizer_config.json", b'{"model_max_length": "many"}'),
        ("tokenizer_config.json", b'{"model_max_length": NaN}'),
        ("tokenizer_config.json", b'{"model_max_length": 2}'),
    ],
)
def test_a_damaged_folder_or_one_that_reads_otherwise(bert: WordPiece, tmp_path: Path, file: str, content: bytes) -> None:
    bert.save(tmp_path)
    assert WordPiece.from_folder(tmp_path).vocab == VOCAB
    (tmp_path / file).write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        WordPiece.from_folder(tmp_path)
    assert "\n" not in str(caught.value)


NORMALISER = {"type": "BertNormalizer", "lowercase": True, "strip_accents": None, "clean_text": True, "handle_chinese_chars": True}


def test_a_folder_with_tokenizer_json_alone(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": VOCAB}, "normalizer": NORMALISER}))
    opened = WordPiece.from_folder(tmp_path)
    assert (opened.vocab, opened.length) == (VOCAB, 77)


@pytest.mark.parametrize(
    "whole",
    [
        {},
        {"model": None, "normalizer": NORMALISER},
        {"model": {"type": "WordPiece", "vocab": VOCAB}, "normalizer": None},
        {"model": {"type": "WordPiece", "vocab": {"a": "b"}}, "normalizer": NORMALISER},
        {"model": {"type": "BPE", "vocab": VOCAB}, "normalizer": NORMALISER},
        {"model": {"type": "WordPiece", "vocab": VOCAB}, "normalizer": NORMALISER | {"lowercase": False}},
        {"model": {"type": "WordPiece", "vocab": VOCAB}, "normalizer": {"type": "Sequence", "normalizers": []}},
    ],
)
def test_a_tokenizer_json_of_another_kind(tmp_path: Path, whole: object) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(CheckpointError, match=r"BERT|bert"):
        read_vocabulary(tmp_path)


def test_where_it_cannot_be_saved_or_found(bert: WordPiece, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        bert.save(tmp_path / "file" / "tokenizer")
    with pytest.raises(CheckpointError, match="missing"):
        WordPiece.from_folder(tmp_path / "nowhere")
