"""CLIP's tokenizer: byte-level byte pair encoding (Sennrich et al. 2016; Radford et al. 2021).

A text is normalised (NFC, runs of white space to one space, lower case), cut into pieces (words, single digits, runs of
punctuation), each piece is spelt in bytes with `</w>` on its last one, and the pairs of the merge table are joined, first
listed first, until none is left. This is what transformers does with the published Stable Diffusion folders, with one exception:
where the padding is the token "!" (id 0; Stable Diffusion 2, the second one of XL), a "!" in a text stays the word that it is,
`!</w>` (id 256), as in the code that those models were trained by, while transformers takes it for padding. OpenAI's own code
also repairs mis-decoded text (ftfy) and HTML entities before; that changes ids only for such text.

The engine is the `tokenizers` library, imported when a tokenizer is built.
"""

import difflib
import json
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from sumi.errors import CheckpointError, PromptError
from sumi.text import files

BOS, EOS, END = "<|startoftext|>", "<|endoftext|>", "</w>"
PIECE = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
CONTRACTIONS = frozenset(("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"))

Vocabulary: TypeAlias = dict[str, int]
Merges: TypeAlias = list[tuple[str, str]]


class Tables(NamedTuple):
    """What a tokenizer folder spells words by; `added` are tokens of `vocab` that are never spelt (textual inversion's)."""

    vocab: Vocabulary
    merges: Merges
    added: tuple[str, ...] = ()


def _byte_letters() -> dict[int, str]:
    """One printable letter for each byte, in the order of the ids: the printable bytes first, then the other 68."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


LETTER = _byte_letters()
BYTE = {letter: byte for byte, letter in LETTER.items()}


class Tokenizer:
    """Words to ids.

    vocab: token to id, holding at least BOS and EOS; merges: pairs of tokens, the first joined first; length: ids in a
    padded sequence, BOS and EOS included; pad_id: fills the sequence after EOS (None: EOS; Stable Diffusion 2 uses 0); added:
    tokens of the vocabulary that are taken whole wherever they stand. A literal `<|endoftext|>` in a text is that token, as in
    OpenAI's code; all these count in any case. Raises CheckpointError if the tables do not fit.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        length: int = 77,
        pad_id: int | None = None,
        added: Sequence[str] = (),
    ) -> None:
        from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers
        from tokenizers import Tokenizer as Engine
        from tokenizers.models import BPE

        missing = [token for token in (BOS, EOS) if token not in vocab]
        if missing:
            raise CheckpointError(f"the vocabulary has no {' and no '.join(missing)}: it is not CLIP's kind")
        if length < 3:
            raise CheckpointError(f"a tokenizer of length {length} has no room for a word between BOS and EOS: use 3 or more")
        try:
            engine = Engine(BPE(dict(vocab), list(merges), end_of_word_suffix=END, unk_token=EOS))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"the merge table does not fit the vocabulary: {error}") from error
        engine.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()])
        engine.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(PIECE), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        engine.add_special_tokens([AddedToken(token, normalized=True) for token in (BOS, EOS)])
        engine.add_tokens(list(added))
        self._engine = engine
        self.vocab, self.merges, self.added, self.length = dict(vocab), list(merges), tuple(added), length
        self.bos_id, self.eos_id = vocab[BOS], vocab[EOS]
        self.pad_id = self.eos_id if pad_id is None else pad_id
        self._token = {id: token for token, id in self.vocab.items()}
        if self.pad_id not in self._token:
            raise CheckpointError(f"the padding id {self.pad_id} is not in the vocabulary of {len(self.vocab)} tokens")

    def encode(self, text: str) -> list[int]:
        """Bare ids of a text of any length: no BOS, no EOS, no padding. PromptError if the text is not Unicode."""
        return list(self.encoding(text).ids)

    def encoding(self, text: str) -> Any:
        """The same with the places of the tokens in the text, as the `tokenizers` library tells them. PromptError if it is not Unicode."""
        return self._engine.encode(checked(text), add_special_tokens=False)

    def __call__(self, text: str) -> list[int]:
        """`length` ids: BOS, the text cut to `length - 2`, EOS, padding."""
        ids = [self.bos_id, *self.encode(text)[: self.length - 2], self.eos_id]
        return ids + [self.pad_id] * (self.length - len(ids))

    def pieces(self, text: str) -> list[str]:
        """The vocabulary's entry for each id of `encode`; the last entry of a word ends in `</w>`."""
        return [self._token[id] for id in self.encode(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The normalised text, pieces apart by one space; BOS and EOS are left out, broken UTF-8 becomes U+FFFD."""
        tokens = (self._token[id] for id in ids if id not in (self.bos_id, self.eos_id))
        return b"".join(map(self._spelt, tokens)).decode("utf-8", "replace").strip()

    def unknown_words(self, text: str) -> list[tuple[str, str]]:
        """Words that are not one token, in order and once each, with the most alike word that is, if one is alike (difflib's measure).

        Meant for a `word_vocabulary`; with CLIP's, rare words are several tokens and known all the same. Punctuation and
        contractions are left alone.
        """
        unknown = self._spelt_words(text)
        whole = [left + right.removesuffix(END) for left, right in self.merges if right.endswith(END)]
        known = [word for word in whole if word.isascii() and word.isalpha()]
        return [(word, next(iter(difflib.get_close_matches(word, known, n=1)), "")) for word in unknown]

    def knows(self, text: str) -> bool:
        """Whether no word of it is one of `unknown_words`."""
        return not self._spelt_words(text)

    def _spelt_words(self, text: str) -> list[str]:
        encoding = self.encoding(text)
        words = []
        for _, group in groupby(zip(encoding.word_ids, encoding.offsets, strict=True), key=lambda item: item[0]):
            spans = [span for _, span in group]
            if len(spans) > 1:
                words.append(text[spans[0][0] : spans[-1][1]].lower())
        return [word for word in dict.fromkeys(words) if not _is_punctuation(word)]

    def save(self, path: Path) -> None:
        """Writes the files of a Hugging Face tokenizer folder, which transformers' CLIPTokenizer opens; OutputError if it cannot."""
        special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": self._token[self.pad_id]}
        config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": self.length, "do_lower_case": True, **special}
        spelling = {token: id for token, id in self.vocab.items() if token not in self.added}
        written = {
            "vocab.json": json.dumps(spelling, ensure_ascii=False),
            "merges.txt": "\n".join(["#version: 0.2", *(f"{left} {right}" for left, right in self.merges)]),
            "tokenizer_config.json": json.dumps(config, indent=2),
            # "normalized": in any case.
            "special_tokens_map.json": json.dumps(
                {name: {"content": token, "normalized": True} for name, token in special.items()}, indent=2
            ),
        }
        if self.added:
            written["added_tokens.json"] = json.dumps({token: self.vocab[token] for token in self.added}, ensure_ascii=False)
        files.write(path, written)

    @classmethod
    def from_folder(cls, path: Path) -> "Tokenizer":
        """Opens a Hugging Face tokenizer folder, of transformers 4 or 5; CheckpointError if it cannot."""
        vocab, merges, added = read_tables(path)
        settings = files.read_settings(path)
        try:
            pad = settings.get("pad_token") or EOS
            length = int(settings.get("model_max_length", 77))
            # transformers writes 1e30 for "no limit".
            return cls(vocab, merges, length if length < 1e6 else 77, vocab[pad["content"] if isinstance(pad, dict) else pad], added)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _foreign(path, error) from error

    def _spelt(self, token: str) -> bytes:
        if token in self.added:
            return token.encode() + b" "
        return bytes(BYTE[letter] for letter in token.removesuffix(END)) + b" " * token.endswith(END)


def read_tables(path: Path) -> Tables:
    """The tables of a tokenizer folder: vocab.json and merges.txt (transformers 4), or tokenizer.json; CheckpointError as `from_folder`."""
    try:
        whole = path / "tokenizer.json"
        if (path / "vocab.json").is_file() and ((path / "merges.txt").is_file() or not whole.is_file()):
            vocab = files.read_json(path / "vocab.json")
            lines = files.read_text(path / "merges.txt").split("\n")
            merges = [_pair(line) for line in lines if line and not line.startswith("#version")]
            added = files.read_json(path / "added_tokens.json") if (path / "added_tokens.json").is_file() else {}
            decoder = files.read_settings(path).get("added_tokens_decoder", {})
            added |= {token["content"]: int(id) for id, token in decoder.items()}
        else:
            found = files.read_json(whole)
            vocab, merges = dict(found["model"]["vocab"]), [_pair(pair) for pair in found["model"]["merges"]]
            added = {token["content"]: token["id"] for token in found.get("added_tokens", [])}
        new = {token: id for token, id in added.items() if token not in vocab}
        ids = [*vocab.values(), *new.values()]
        if not all(type(id) is int and 0 <= id < 1 << 32 for id in ids) or len(set(ids)) < len(ids):
            raise ValueError("the ids are not whole numbers, one a token")
        return Tables(vocab | new, merges, tuple(new))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _foreign(path, error) from error


def vocabulary(merges: Merges) -> Vocabulary:
    """CLIP's numbering: 256 bytes, 256 bytes with `</w>`, the result of each merge, BOS, EOS."""
    letters = list(LETTER.values())
    tokens = [*letters, *(letter + END for letter in letters), *(left + right for left, right in merges), BOS, EOS]
    return {token: id for id, token in enumerate(tokens)}


def word_vocabulary(words: Iterable[str]) -> tuple[Vocabulary, Merges]:
    """A vocabulary in which each of `words` (ASCII letters, any case) is exactly one token; the same for any order of words.

    Merges are learnt as Sennrich et al. (2016) do, the most frequent pair first, until every word is whole. A new merge comes
    after all others, so it cannot disturb a word that is whole already. The last letter joins last: apart from single
    characters, a token that ends a word is one of `words`.
    """
    whole = sorted({word.lower() for word in words})
    odd = [word for word in whole if not (word.isascii() and word.isalpha())]
    if odd:
        raise ValueError(f"words must be ASCII letters: {odd[:5]}")
    spelling = {word: [*word[:-1], word[-1] + END] for word in whole}
    ranks: dict[tuple[str, str], int] = {}
    while counts := Counter(pair for symbols in spelling.values() for pair in _candidates(symbols)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        ranks[best] = len(ranks)
        spelling = {word: _join(symbols, ranks) if best in pairwise(symbols) else symbols for word, symbols in spelling.items()}
    merges = list(ranks)
    return vocabulary(merges), merges


def checked(text: str) -> str:
    """The text, if it is Unicode; PromptError otherwise."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError("the prompt is not Unicode text (it holds half of a surrogate pair): type it again") from error
    return text


def _candidates(symbols: list[str]) -> Iterable[tuple[str, str]]:
    """Pairs that may become a merge: those of the stem, and the stem with the last letter once it is whole."""
    return pairwise(symbols[:-1] if len(symbols) > 2 else symbols)


def _join(symbols: list[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Applies the merges to a spelt word: the pair of lowest rank first, of these the leftmost, until none is left."""
    while candidates := [(ranks[pair], n) for n, pair in enumerate(pairwise(symbols)) if pair in ranks]:
        _, n = min(candidates)
        symbols = [*symbols[:n], symbols[n] + symbols[n + 1], *symbols[n + 2 :]]
    return symbols


def _pair(merge: Any) -> tuple[str, str]:
    """A merge as it is in a file, `"a b"` or `["a", "b"]`."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return str(left), str(right)


def _is_punctuation(piece: str) -> bool:
    return piece in CONTRACTIONS or all(c in string.punctuation or unicodedata.category(c).startswith("P") for c in piece)


def _foreign(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is not a CLIP tokenizer ({error}): copy the tokenizer folder again")
