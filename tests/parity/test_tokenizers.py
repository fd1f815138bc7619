"""Our tokenizers against transformers' and against the original code, on ten thousand lines of what people and fuzzers type.

The vocabulary of CLIP is the real one; that of BERT is made of the lines, so that words are whole, in pieces and unknown.
"""

import importlib.util
import json
import random
import re
import sys
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers

from sumi.store.vocabulary import find_clip_vocabulary
from sumi.text.bpe import BOS, EOS, Merges, Tokenizer, Vocabulary, word_vocabulary
from sumi.text.wordpiece import WordPiece

try:
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy as OriginalBert
except ImportError:  # transformers 4
    from transformers import BertTokenizer as OriginalBert

SCRIPTS = [
    "abcdefghijklmnopqrstuvwxyz" * 4 + "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "0123456789٣४²½Ⅷ๓",
    "!?.,;:'\"-_()[]{}<>|/\\@#$%^&*+=~`«»“”\u2019…—",
    "áàâäãåçéèêëíñóöøúüßæœıİÅǅﬁＡ",
    "αβγδεζηθσςΩЖЗИЙюяאבגד",
    "日本語中文字漢한국어ひらがなカタカナ。、「」",
    "العربيةهويفارسی\u064b\u0651",
    "अआइकखगहिन्दीक्षि",
    "กขคเแโภาษาไทยุิี",
    "😀🤷🏽👩‍👩‍👧🏳️‍🌈🇯🇵🇧🇷❤️☕",
    "\u0301\u0327\u0308\u0e38\u093f\u20dd",
    "\u200b\u200c\u200d\u2060\ufe0f\u00ad\ufeff\u202e",
    " \t\n\r\u00a0\u3000\u2028\u2029\x00\x07\x1f\x7f\x85\ufffd",
]
WORDS = """
    a photo of an astronaut riding a horse on mars, it's DON'T we'll they've I'd you're 'tis rock'n'roll ultra-detailed 8k 4K, 1024x768
    (masterpiece:1.2) [red|blue] <lora:name:0.8> BREAK and AND portrait Painting café cafe\u0301 naïve ﬀ ǅ İstanbul ΣΊΣΥΦΟΣ straße Ångström
    &amp; &lt;b&gt; &#39; &quot;art&quot; &nbsp; &amp;amp; https://example.org/?a=1&b=2 <|endoftext|>
    <|StartOfText|> <|ENDofText|> </w> ##ing [SEP] [mask]
    日本語 東京タワー 안녕하세요 مرحبا नमस्ते สวัสดี Привет γειά שלום 👨‍👩‍👧‍👦 🏴󠁧󠁢󠁥󠁮󠁧󠁿 👍🏽 🇫🇷🇩🇪 1️⃣ ...
""".split()  # noqa: SIM905 (a list would be a page long)


@cache
def corpus(count: int = 10_000) -> tuple[str, ...]:
    """The same lines every time."""
    draw = random.Random(0)

    def anywhere() -> str:
        """A character of any plane, assigned or not, that is not half of a pair."""
        return chr(draw.choice((draw.randrange(0xD800), draw.randrange(0xE000, 0x110000))))

    kinds: list[Callable[[], str]] = [
        lambda: " ".join(draw.choices(WORDS, k=draw.randint(1, 14))),
        lambda: draw.choice(("", " ", "  ", "-")).join(draw.choices(WORDS, k=draw.randint(1, 6))),
        lambda: "".join(draw.choices(draw.choice(SCRIPTS), k=draw.randint(1, 40))),
        lambda: "".join(draw.choice(draw.choice(SCRIPTS)) for _ in range(draw.randint(1, 40))),
        lambda: "".join(anywhere() for _ in range(draw.randint(1, 12))),
        lambda: "".join(
            draw.choice((draw.choice(WORDS), anywhere(), draw.choice(draw.choice(SCRIPTS)))) for _ in range(draw.randint(1, 12))
        ),
    ]
    long = [
        "word " * 300,
        "x" * 5000,
        "!" * 200,
        "é" * 100,
        "\u0301" * 50,
        "a" + " " * 500 + "b",
        "日本語" * 60,
        "\ufeffa cat",
        "",
        " \t\n ",
    ]
    return (*long, *(draw.choice(kinds)() for _ in range(count - len(long))))


def plain(count: int) -> list[str]:
    """Lines in which Python, in which the original code is written, sees the characters that the engine sees.

    Unicode grows, and they know different versions; Python lowers a sigma by its place, and takes four controls for white space.
    """
    known = set("".join([*SCRIPTS, *WORDS])) - set("Σ\x1c\x1d\x1e\x1f")
    return [line for line in corpus()[:count] if known.issuperset(line)]


@pytest.fixture(scope="module")
def tables() -> tuple[Vocabulary, Merges]:
    return find_clip_vocabulary()


def older_folder(folder: Path, vocab: Vocabulary, merges: Merges, pad: str, length: int) -> Path:
    """As transformers 4 wrote one: Stable Diffusion 2's names one padding in its first file and another in its second.

    Tokens are "normalized", found in any case, as OpenAI's code does; published folders leave that out for the padding, whereupon
    some versions of transformers find `<|EndOfText|>` no more.
    """
    folder.mkdir()
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, "do_lower_case": True, "pad_token": EOS, "errors": "replace"}
    whole = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {"bos_token": {"content": BOS, **whole}, "eos_token": {"content": EOS, **whole}, "unk_token": {"content": EOS, **whole}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps(special | {"pad_token": pad if pad != EOS else {"content": pad, **whole}}))
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges), encoding="utf-8")
    return folder


def newer_folder(folder: Path, vocab: Vocabulary, merges: Merges, pad: str, length: int) -> Path:
    """As transformers 5 writes one, as far as it is read."""
    folder.mkdir()
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": vocab[token], "content": token, **flags} for token in sorted({BOS, EOS, pad}, key=vocab.__getitem__)]
    model = {"type": "BPE", "unk_token": EOS, "end_of_word_suffix": "</w>", "vocab": vocab, "merges": merges}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "added_tokens": added, "model": model}))
    config = {"backend": "tokenizers", "bos_token": BOS, "eos_token": EOS, "model_max_length": length, "pad_token": pad, "unk_token": EOS}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "CLIPTokenizer"}))
    return folder


def test_clip(tables: tuple[Vocabulary, Merges], tmp_path: Path) -> None:
    """Bare, and framed, cut at 77 and padded by either habit."""
    theirs = transformers.CLIPTokenizerFast.from_pretrained(older_folder(tmp_path / "clip", *tables, EOS, 77))
    lines = list(corpus())
    first, second = Tokenizer(*tables), Tokenizer(*tables, pad_id=0)
    bare = theirs(lines, add_special_tokens=False).input_ids
    padded = theirs(lines, padding="max_length", truncation=True)
    assert max(map(len, bare)) > 1000 and {len(ids) for ids in padded.input_ids} == {77}
    assert [line for line, ids in zip(lines, bare, strict=True) if first.encode(line) != ids] == []
    assert [line for line, ids in zip(lines, padded.input_ids, strict=True) if first(line) != ids] == []
    for line, ids, mask in list(zip(lines, padded.input_ids, padded.attention_mask, strict=True))[::5]:
        assert second(line) == [id if given else 0 for id, given in zip(ids, mask, strict=True)]


def test_clip_by_the_original_code(tables: tuple[Vocabulary, Merges], monkeypatch: pytest.MonkeyPatch) -> None:
    """As open_clip has it: the algorithm written out, padded with 0. Its repairs of text, which the folders leave out, are held off."""
    monkeypatch.setitem(sys.modules, "ftfy", SimpleNamespace(fix_text=lambda text: unicodedata.normalize("NFC", text)))
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # which that file sets
    package = importlib.util.find_spec("open_clip")
    assert package is not None and package.submodule_search_locations
    found = importlib.util.spec_from_file_location("original", Path(package.submodule_search_locations[0], "tokenizer.py"))
    assert found is not None and found.loader is not None
    original = importlib.util.module_from_spec(found)
    found.loader.exec_module(original)
    ours, theirs = Tokenizer(*tables, pad_id=0), original.SimpleTokenizer()
    lines = [line for line in plain(4000) if "&" not in line and "<|" not in line]  # HTML; special tokens have other names there
    assert len(lines) > 1000
    assert [line for line in lines if ours(line) != theirs(line)[0].tolist()] == []
    assert ours("a cat!!! !") == theirs("a cat!!! !")[0].tolist()


@pytest.mark.parametrize("pad", [EOS, "!"], ids=["padded with the end", "padded with 0"])
def test_folders_of_both_generations_open(tables: tuple[Vocabulary, Merges], tmp_path: Path, pad: str) -> None:
    """Those of the installed transformers and those of the other. Where "!" is the padding, transformers reads no other "!"."""
    lines = [line for line in corpus(1000) if pad != "!" or "!" not in line]
    older = older_folder(tmp_path / "older", *tables, pad, 77)
    theirs = transformers.CLIPTokenizerFast.from_pretrained(older)
    theirs.save_pretrained(tmp_path / "installed")
    expected = theirs(lines, padding="max_length", truncation=True).input_ids
    assert len(lines) > 500 and {ids[-1] for ids in expected} >= {tables[0][pad]}
    for folder in (older, newer_folder(tmp_path / "newer", *tables, pad, 77), tmp_path / "installed"):
        ours = Tokenizer.from_folder(folder)
        assert (ours.vocab, ours.merges, ours.added, ours.length, ours.pad_id) == (*tables, (), 77, tables[0][pad])
        assert [ours(line) for line in lines] == expected
        assert ours.encode("!") == [256]


def test_tokens_added_to_a_folder(tmp_path: Path) -> None:
    """Those of textual inversion: whole in any case, one that begins like another included."""
    theirs: Any = transformers.CLIPTokenizerFast.from_pretrained(older_folder(tmp_path / "clip", *word_vocabulary(["cat"]), EOS, 16))
    theirs.add_tokens(["<cat-toy>", "<cat-toy>_1", "Ünï"])
    lines = ["a <cat-toy> cat", "<CAT-TOY>_1<cat-toy>", "ünï\u0308 cat-toy", "cat<cat-toy>cat", "u\u0308nï Ünï"]
    expected = theirs(lines, padding="max_length", truncation=True).input_ids
    assert len({id for ids in expected for id in ids if id > theirs.eos_token_id}) == 3
    theirs.save_pretrained(tmp_path / "installed")
    ours = Tokenizer.from_folder(tmp_path / "installed")
    ours.save(tmp_path / "ours")
    again = transformers.CLIPTokenizerFast.from_pretrained(tmp_path / "ours")
    assert [ours(line) for line in lines] == expected == again(lines, padding="max_length", truncation=True).input_ids


@pytest.mark.parametrize(("length", "pad_id"), [(32, None), (12, 0)])
def test_a_saved_folder_opens_in_transformers_and_here(tmp_path: Path, length: int, pad_id: int | None) -> None:
    words = ["a", "above", "and", "bear", "cat", "red", "square", "star", "stars", "two", "I", "x"]
    tokenizer = Tokenizer(*word_vocabulary(words), length=length, pad_id=pad_id)
    tokenizer.save(tmp_path / "ours")
    theirs = transformers.CLIPTokenizerFast.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    lines = [line for line in corpus(400) if "!" not in line]  # with pad_id 0, transformers reads "!" as padding
    lines += ["a red cat above two stars", "", "zebra", " ".join(words)]
    expected = theirs(lines, padding="max_length", truncation=True).input_ids
    assert [tokenizer(line) for line in lines] == expected
    for folder in ("ours", "theirs"):
        again = Tokenizer.from_folder(tmp_path / folder)
        assert (again.vocab, again.merges) == (tokenizer.vocab, tokenizer.merges)
        assert (again.length, again.pad_id) == (length, tokenizer.pad_id)


@pytest.fixture(scope="module")
def bert_vocabulary() -> Vocabulary:
    """Numbered as bert-base-uncased: 30,522 tokens of which some hundred are unused, and the special ones where they are there."""
    draw = random.Random(1)
    words = sorted({word for line in corpus() for word in re.findall(r"\w+|\S", line.lower()) if len(word) < 20})
    pieces = {word for word in words if len(word) == 1 and draw.random() < 0.8} | {f"##{letter}" for letter in "abcdefghijklmnopqrstuv"}
    for word in draw.sample(words, 8000):
        at = draw.randint(1, len(word))
        pieces |= {word[:at], f"##{word[at:]}"} if at < len(word) else {word}
    special = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return {token: id for id, token in enumerate([*special, *sorted(pieces - {"\n", "\r"})])}


def test_bert(bert_vocabulary: Vocabulary, tmp_path: Path) -> None:
    """Bare, and framed, cut at 77 and padded; folders of ours open there and theirs here."""
    ours = WordPiece(bert_vocabulary)
    ours.save(tmp_path / "ours")
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path / "ours")
    lines = list(corpus())
    bare = theirs(lines, add_special_tokens=False).input_ids
    padded = theirs(lines, padding="max_length", truncation=True).input_ids
    used = [id for ids in bare for id in ids]
    assert len(set(used)) > 3000 and 0.1 < used.count(100) / len(used) < 0.6
    assert [line for line, ids in zip(lines, bare, strict=True) if ours.encode(line) != ids] == []
    assert [line for line, ids in zip(lines, padded, strict=True) if ours(line) != ids] == []
    theirs.save_pretrained(tmp_path / "theirs")
    again = WordPiece.from_folder(tmp_path / "theirs")
    assert (again.vocab, again.length, again.pad_id, again.eos_id) == (bert_vocabulary, 77, 0, 102)
    assert ours(lines[0])[0] == 101


def test_bert_by_the_original_code(bert_vocabulary: Vocabulary, tmp_path: Path) -> None:
    ours = WordPiece(bert_vocabulary)
    ours.save(tmp_path)
    theirs = OriginalBert(str(tmp_path / "vocab.txt"))
    lines = plain(4000)
    assert len(lines) > 1000
    assert [line for line in lines if ours.encode(line) != theirs.encode(line, add_special_tokens=False)] == []
