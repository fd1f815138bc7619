"""CLIP's tokenizer: byte-level byte pair encoding (Sennrich et al. 2016; Radford et al. 2021).

A text is normalised (NFC, runs of white space to one space, lower case), cut into pieces (words, single digits, runs of
punctuation), each piece is spelt in bytes with `</w>` on its last one, and the pairs of the merge table are joined, first
listed first, until none is left. This is what the published Stable Diffusion folders do. OpenAI's own code also repairs
mis-decoded text (ftfy) and HTML entities before; that changes ids only for such text.

The engine is the `tokenizers` library, imported when a tokenizer is built.
"""

import difflib
import gzip
import hashlib
import importlib.util
import json
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, TypeAlias

from sumi.errors import CheckpointError, DependencyError, OutputError, PromptError

BOS, EOS, END = "<|startoftext|>", "<|endoftext|>", "</w>"
CLIP_FILE = "bpe_simple_vocab_16e6.txt.gz"
CLIP_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
CLIP_MERGES = 48_894
PIECE = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
CONTRACTIONS = frozenset(("'s", "'t", "'re", "'ve", "'m", "'ll", "'d"))

Vocabulary: TypeAlias = dict[str, int]
Merges: TypeAlias = list[tuple[str, str]]


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
    padded sequence, BOS and EOS included; pad_id: fills the sequence after EOS (None: EOS; Stable Diffusion 2 uses 0).
    A literal `<|endoftext|>` in a text is that token, as in the reference. Raises CheckpointError if the tables do not fit.
    """

    def __init__(self, vocab: Mapping[str, int], merges: Sequence[tuple[str, str]], length: int = 77, pad_id: int | None = None):
        from tokenizers import Regex, normalizers, pre_tokenizers
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
        engine.add_special_tokens([BOS, EOS])
        self._engine = engine
        self.vocab, self.merges, self.length = dict(vocab), list(merges), length
        self.bos_id, self.eos_id = vocab[BOS], vocab[EOS]
        self.pad_id = self.eos_id if pad_id is None else pad_id
        self._token = {id: token for token, id in self.vocab.items()}
        if self.pad_id not in self._token:
            raise CheckpointError(f"the padding id {self.pad_id} is not in the vocabulary of {len(self.vocab)} tokens")

    def encode(self, text: str) -> list[int]:
        """Bare ids of a text of any length: no BOS, no EOS, no padding. PromptError if the text is not Unicode."""
        return list(self._engine.encode(_checked(text), add_special_tokens=False).ids)

    def __call__(self, text: str) -> list[int]:
        """`length` ids: BOS, the text cut to `length - 2` (see `overflow`), EOS, padding."""
        ids = [self.bos_id, *self.encode(text)[: self.length - 2], self.eos_id]
        return ids + [self.pad_id] * (self.length - len(ids))

    def pieces(self, text: str) -> list[str]:
        """The vocabulary's entry for each id of `encode`; the last entry of a word ends in `</w>`."""
        return [self._token[id] for id in self.encode(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The normalised text, pieces apart by one space; BOS and EOS are left out, broken UTF-8 becomes U+FFFD."""
        tokens = (self._token[id] for id in ids if id not in (self.bos_id, self.eos_id))
        ends = ((token.removesuffix(END), token.endswith(END)) for token in tokens)
        spelt = b"".join(bytes(BYTE[letter] for letter in body) + b" " * end for body, end in ends)
        return spelt.decode("utf-8", "replace").strip()

    def overflow(self, text: str) -> list[str]:
        """The words that `__call__` leaves out, the one that is cut first: so that the caller can say so."""
        encoding = self._engine.encode(_checked(text), add_special_tokens=False)
        if len(encoding) <= self.length - 2:
            return []
        first = self.length - 2
        word = encoding.word_ids[first]
        while first and word is not None and encoding.word_ids[first - 1] == word:
            first -= 1
        return text[encoding.offsets[first][0] :].split()

    def unknown_words(self, text: str) -> list[tuple[str, str]]:
        """Words that are not one token, in order and once each, with the most alike word that is (difflib's measure).

        Meant for a `word_vocabulary`; with CLIP's, rare words are several tokens and known all the same. Punctuation and
        contractions are left alone.
        """
        encoding = self._engine.encode(_checked(text), add_special_tokens=False)
        pieces = []
        for _, group in groupby(zip(encoding.word_ids, encoding.offsets, strict=True), key=lambda item: item[0]):
            spans = [span for _, span in group]
            if len(spans) > 1:
                pieces.append(text[spans[0][0] : spans[-1][1]].lower())
        whole = [left + right.removesuffix(END) for left, right in self.merges if right.endswith(END)]
        known = [word for word in whole if word.isascii() and word.isalpha()]
        unknown = [piece for piece in dict.fromkeys(pieces) if not _is_punctuation(piece)]
        return [(word, next(iter(difflib.get_close_matches(word, known, n=1, cutoff=0.0)), "")) for word in unknown]

    def save(self, path: Path) -> None:
        """Writes the four files of a Hugging Face tokenizer folder, which transformers' CLIPTokenizer opens; OutputError if it cannot."""
        special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": self._token[self.pad_id]}
        config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": self.length, "do_lower_case": True, **special}
        files = {
            "vocab.json": json.dumps(self.vocab, ensure_ascii=False),
            "merges.txt": "\n".join(["#version: 0.2", *(f"{left} {right}" for left, right in self.merges)]),
            "tokenizer_config.json": json.dumps(config, indent=2),
            "special_tokens_map.json": json.dumps(special, indent=2),
        }
        try:
            path.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (path / name).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another place or free some space") from error

    @classmethod
    def from_folder(cls, path: Path) -> "Tokenizer":
        """Opens a Hugging Face tokenizer folder: vocab.json and merges.txt, or tokenizer.json; CheckpointError if it cannot."""
        try:
            if (path / "vocab.json").is_file():
                vocab = _read_json(path / "vocab.json")
                lines = _read_text(path / "merges.txt").split("\n")
                merges = [_pair(line) for line in lines if line and not line.startswith("#version")]
            else:
                model = _read_json(path / "tokenizer.json")["model"]
                vocab, merges = dict(model["vocab"]), [_pair(pair) for pair in model["merges"]]
            if not all(type(id) is int and 0 <= id < 1 << 32 for id in vocab.values()):
                raise ValueError("the ids are not whole numbers")
            settings: dict[str, Any] = {}
            for name in ("special_tokens_map.json", "tokenizer_config.json"):  # published folders use either
                settings |= _read_json(path / name) if (path / name).is_file() else {}
            pad = settings.get("pad_token") or EOS
            length = int(settings.get("model_max_length", 77))
            # transformers writes 1e30 for "no limit".
            return cls(vocab, merges, length if length < 1e6 else 77, vocab[pad["content"] if isinstance(pad, dict) else pad])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{path} is not a CLIP tokenizer ({error}): copy the tokenizer folder again") from error


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


def find_clip_vocabulary() -> tuple[Vocabulary, Merges]:
    """OpenAI's vocabulary of 49,408 tokens, out of an installed `open_clip` or `clip` package, which is not imported."""
    for package in ("open_clip", "clip"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            path = Path(folder, CLIP_FILE)
            if path.is_file():
                data = path.read_bytes()
                if hashlib.sha256(data).hexdigest() != CLIP_SHA256:
                    raise CheckpointError(f"{path} is not OpenAI's vocabulary: install open_clip_torch again")
                lines = gzip.decompress(data).decode("utf-8").split("\n")[1 : CLIP_MERGES + 1]
                merges = [(left, right) for left, right in (line.split() for line in lines)]
                return vocabulary(merges), merges
    raise DependencyError("CLIP's vocabulary is not on this machine: pip install --no-deps open_clip_torch")


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


def _checked(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError("the prompt is not Unicode text (it holds half of a surrogate pair): type it again") from error
    return text


def _is_punctuation(piece: str) -> bool:
    return piece in CONTRACTIONS or all(c in string.punctuation or unicodedata.category(c).startswith("P") for c in piece)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing: copy the whole tokenizer folder") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}; copy it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object: copy it again")
    return value
