"""The tokenizer gives the ids that the published models were trained on."""

import json
import random
from pathlib import Path

import pytest

from sumi.errors import CheckpointError, OutputError, PromptError
from sumi.store.vocabulary import find_clip_vocabulary
from sumi.text.bpe import Tokenizer, word_vocabulary

WORDS = """
    a an and above below behind bear big black blue cat circle cow cube dog fish five four fox green heart hexagon
    horse in is left lion moon moose mouse of on one orange owl pig plain red right small sphere square star starfish stars
    sun ten the three tree triangle two under white with yellow I x
""".split()  # noqa: SIM905 (a list would be a page long)

# Ids that OpenAI's code gives, without BOS and EOS; the last two lines are what the published folders give instead,
# since they do not repair text first.
GOLDEN = {
    "a photo of an astronaut riding a horse on mars": [320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496],
    "Hello World!": [3306, 1002, 256],
    "!!!": [995],
    "! !": [256, 256],
    "1234": [272, 273, 274, 275],
    "it's 2022, naïve café 😀": [585, 568, 273, 271, 273, 273, 267, 1097, 35689, 563, 15304, 7334],
    "don't DON'T": [847, 713, 847, 713],
    "日本語": [39121, 44353, 34002, 508],
    "x<|endoftext|>y": [343, 49407, 344],
    "": [],
    " \t\n ": [],
    "&amp;lt;b&gt;": [261, 6259, 282, 3333, 282, 321, 261, 4725, 282],
    "\ufb01ne \uff21\uff22\uff23 “quoted”": [171, 105, 223, 1422, 171, 121, 223, 171, 121, 224, 171, 121, 481, 728, 506, 27706, 728, 507],
}


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    return Tokenizer(*find_clip_vocabulary())


def test_golden_ids(clip: Tokenizer) -> None:
    assert {text: clip.encode(text) for text in GOLDEN} == GOLDEN


def test_clip_vocabulary_has_the_published_numbering(clip: Tokenizer) -> None:
    known = {"!": 0, "!</w>": 256, "in": 512, "a</w>": 320, "the</w>": 518, "photo</w>": 1125, "jekyll</w>": 49405}
    assert {token: clip.vocab[token] for token in known} == known
    assert (len(clip.vocab), clip.bos_id, clip.eos_id, clip.pad_id) == (49408, 49406, 49407, 49407)
    assert clip.pieces("a naïve 😀") == ["a</w>", "na", "Ã¯", "ve</w>", "ðŁĺĢ</w>"]


def test_a_sequence_is_framed_cut_and_padded(clip: Tokenizer) -> None:
    assert clip("a cat") == [49406, 320, 2368, 49407] + [49407] * 73
    full = clip("cat " * 200)
    assert (len(full), full[0], full[1:76], full[76]) == (77, 49406, [2368] * 75, 49407)
    second = Tokenizer(clip.vocab, clip.merges, length=8, pad_id=0)
    assert second("a cat!") == [49406, 320, 2368, 256, 49407, 0, 0, 0]


def test_an_exclamation_mark_is_a_word_and_never_the_padding(clip: Tokenizer, tmp_path: Path) -> None:
    """Folders give the padding of id 0 by its token, "!"; the words "!" and "!!!" are others."""
    Tokenizer(clip.vocab, clip.merges, pad_id=0).save(tmp_path)
    opened = Tokenizer.from_folder(tmp_path)
    assert opened.pad_id == 0 and json.loads((tmp_path / "tokenizer_config.json").read_text())["pad_token"] == "!"
    for tokenizer in (clip, opened):
        assert [tokenizer.encode(text) for text in ("!", "!!!", "a cat !", "!cat")] == [[256], [995], [320, 2368, 256], [256, 2368]]
        assert clip.vocab["!</w>"] == 256 and clip.vocab["!"] == 0


def test_added_tokens_are_whole_wherever_they_stand(clip: Tokenizer, tmp_path: Path) -> None:
    added = {"<cat-toy>": 49408, "<ねこ>": 49409}
    tokenizer = Tokenizer(clip.vocab | added, clip.merges, added=tuple(added))
    assert tokenizer.encode("a <cat-toy>, a<ねこ>!") == [320, 49408, 267, 320, 49409, 256]
    assert tokenizer.decode(tokenizer("a <cat-toy> <ねこ>cat")) == "a <cat-toy> <ねこ> cat"
    assert tokenizer.encode("a photo") == clip.encode("a photo")
    tokenizer.save(tmp_path)
    again = Tokenizer.from_folder(tmp_path)
    assert (again.vocab, again.merges, again.added) == (tokenizer.vocab, tokenizer.merges, tokenizer.added)


def test_decode_is_the_normalised_text(clip: Tokenizer) -> None:
    for text in ("a naïve café", "日本語", "👩‍👩‍👧 hello", "two  Words"):
        assert clip.decode(clip(text)) == " ".join(text.lower().split())
    assert clip.decode(clip.encode("日")[:1]) != ""  # half a character is shown, not raised
    assert clip.decode(clip.encode("</w>")) == "</ w >"


@pytest.mark.parametrize("text", ["\ud800", "a \udfff cat"])
def test_half_a_surrogate_pair_is_a_prompt_error(text: str) -> None:
    tokenizer = Tokenizer(*word_vocabulary(WORDS), length=32)
    for method in (tokenizer, tokenizer.encode, tokenizer.pieces, tokenizer.unknown_words):
        with pytest.raises(PromptError, match="surrogate"):
            method(text)


def test_words_are_one_token_each_and_others_are_not() -> None:
    vocab, merges = word_vocabulary(WORDS)
    tokenizer = Tokenizer(vocab, merges, length=32)
    assert [word for word in WORDS if len(tokenizer.encode(word)) != 1] == []
    assert [word for word in ("zebra", "stare", "cats", "sta", "moos", "redgreen", "der", "quare") if len(tokenizer.encode(word)) < 2] == []
    assert len(tokenizer.encode(" ".join(WORDS))) == len(WORDS)
    assert tokenizer.decode(tokenizer(" ".join(WORDS[:30]))) == " ".join(WORDS[:30])
    assert len(vocab) == 514 + len(merges) == len(set(vocab.values())) == max(vocab.values()) + 1
    assert vocab["<|startoftext|>"] == len(vocab) - 2


def test_word_vocabulary_shares_pieces_and_does_not_depend_on_order() -> None:
    vocab, merges = word_vocabulary(WORDS)
    assert word_vocabulary([*reversed(WORDS), "RED"]) == (vocab, merges)
    # Spelling every word from its left would take one merge for each of its beginnings.
    beginnings = {word[:n] for word in WORDS for n in range(2, len(word))}
    assert len(merges) <= len(beginnings) + sum(len(word) > 1 for word in set(WORDS))
    assert {left + right.removesuffix("</w>") for left, right in merges if right.endswith("</w>")} == {w for w in WORDS if len(w) > 1}


def test_any_words_are_whole() -> None:
    """Words that overlap in every way, so that the merges of one are tempting in another."""
    draw = random.Random(1)
    for _ in range(30):
        words = {"".join(draw.choice("ab" if draw.random() < 0.8 else "abc") for _ in range(draw.randint(1, 9))) for _ in range(30)}
        tokenizer = Tokenizer(*word_vocabulary(words))
        assert [word for word in sorted(words) if len(tokenizer.encode(word)) != 1] == []


def test_word_vocabulary_refuses_what_it_cannot_make_whole() -> None:
    with pytest.raises(ValueError, match="ASCII"):
        word_vocabulary(["red", "two words"])


def test_unknown_words_once_each_with_the_most_alike() -> None:
    tokenizer = Tokenizer(*word_vocabulary(WORDS))
    text = "A squar and a zebra, squar! it's 12 trianglle... (the STARS) don't <|endoftext|>"
    expected = [("squar", "square"), ("zebra", ""), ("it", "with"), ("trianglle", "triangle"), ("don", "on")]
    assert tokenizer.unknown_words(text) == expected
    assert tokenizer.unknown_words("a red cat, above the two blue stars!") == []
    assert [word for word, _ in tokenizer.unknown_words("日本語 😀")] == ["日本語", "😀"]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("vocab.json", "{"),
        ("vocab.json", "[1]"),
        ("vocab.json", '{"a": "x"}'),
        ("vocab.json", "[" * 100_000),
        ("vocab.json", '{"<|startoftext|>": -1, "<|endoftext|>": 1}'),
        ("vocab.json", '{"<|startoftext|>": 0}'),
        ("vocab.json", '{"<|startoftext|>": 0, "<|endoftext|>": 0}'),
        ("vocab.json", b"\xff\xfe"),
        ("merges.txt", None),
        ("merges.txt", "#version: 0.2\na b c\n"),
        ("merges.txt", "#version: 0.2\nzz qq\n"),
        ("special_tokens_map.json", '{"pad_token": "nowhere"}'),
        ("special_tokens_map.json", '{"pad_token": {"x": 1}}'),
        ("special_tokens_map.json", '{"pad_token": [1]}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"5": 3}}'),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"5": {"content": "<new>"}}}'),
        ("added_tokens.json", '{"<new>": "x"}'),
        ("tokenizer_config.json", '{"model_max_length": "many"}'),
        ("tokenizer_config.json", '{"model_max_length": Infinity}'),
        ("tokenizer_config.json", '{"model_max_length": 2}'),
    ],
)
def test_a_damaged_folder_is_one_line_naming_it(tmp_path: Path, file: str, content: str | bytes | None) -> None:
    Tokenizer(*word_vocabulary(WORDS)).save(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CheckpointError) as caught:
        Tokenizer.from_folder(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value) or "vocabulary" in str(caught.value) or "room" in str(caught.value)


@pytest.mark.parametrize("model", [None, [], {"vocab": 3, "merges": []}, {"vocab": {}, "merges": [1]}, {"merges": []}])
def test_a_damaged_tokenizer_json(tmp_path: Path, model: object) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model}))
    with pytest.raises(CheckpointError):
        Tokenizer.from_folder(tmp_path)


def test_where_it_cannot_be_saved(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        Tokenizer(*word_vocabulary(WORDS)).save(tmp_path / "file" / "tokenizer")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="missing"):
        Tokenizer.from_folder(tmp_path / "nowhere")
