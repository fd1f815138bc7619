"""BERT's tokenizer: the longest pieces of a word that a vocabulary holds (Wu et al. 2016; Devlin et al. 2019).

Control characters are dropped, Chinese characters set apart, accents stripped, letters made lower case; a text is cut at white
space and around every sign of punctuation; each word is read as the longest piece that it begins with, then the longest that
goes on from there (these are listed with `##` before them), and so on. A word that cannot be read so to its end is [UNK]
as a whole. The latent diffusion paper's text models read words like this, by the vocabulary of bert-base-uncased.

The engine is the `tokenizers` library, imported when a tokenizer is built.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sumi.errors import CheckpointError
from sumi.text import files
from sumi.text.bpe import Vocabulary, checked

PAD, UNKNOWN, FIRST, LAST, MASK = "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"
LENGTH = 77
CONTINUES = "##"
# How this tokenizer reads, in the words of tokenizer_config.json and of tokenizer.json's normaliser.
READING = {
    "do_lower_case": (True,),
    "lowercase": (True,),
    "strip_accents": (True, None),
    "tokenize_chinese_chars": (True,),
    "handle_chinese_chars": (True,),
    "clean_text": (True,),
}


class WordPiece:
    """Words to ids.

    vocab: token to id, all from 0 on; length: ids in a padded sequence, [CLS] and [SEP] included. A literal `[SEP]` in a text
    is that token, as in the reference. CheckpointError if the vocabulary is of another kind.
    """

    def __init__(self, vocab: Mapping[str, int], length: int = LENGTH) -> None:
        from tokenizers import Tokenizer as Engine
        from tokenizers import models, normalizers, pre_tokenizers

        missing = [token for token in (PAD, UNKNOWN, FIRST, LAST) if token not in vocab]
        if missing:
            raise CheckpointError(f"the vocabulary has no {' and no '.join(missing)}: it is not BERT's kind")
        if sorted(vocab.values()) != list(range(len(vocab))):
            raise CheckpointError("the vocabulary does not number its tokens from 0 without a gap: copy it again")
        if length < 3:
            raise CheckpointError(f"a tokenizer of length {length} has no room for a word between {FIRST} and {LAST}: use 3 or more")
        engine = Engine(models.WordPiece(dict(vocab), unk_token=UNKNOWN, continuing_subword_prefix=CONTINUES))
        engine.normalizer = normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True)
        engine.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        engine.add_special_tokens([token for token in (PAD, UNKNOWN, FIRST, LAST, MASK) if token in vocab])
        self._engine = engine
        self.vocab, self.length = dict(vocab), length
        self.bos_id, self.eos_id, self.pad_id = vocab[FIRST], vocab[LAST], vocab[PAD]
        self._token = {id: token for token, id in self.vocab.items()}

    def encode(self, text: str) -> list[int]:
        """Bare ids of a text of any length: no [CLS], no [SEP], no padding. PromptError if the text is not Unicode."""
        return list(self.encoding(text).ids)

    def encoding(self, text: str) -> Any:
        """The same with the places of the tokens in the text, as the `tokenizers` library tells them. PromptError if it is not Unicode."""
        return self._engine.encode(checked(text), add_special_tokens=False)

    def __call__(self, text: str) -> list[int]:
        """`length` ids: [CLS], the text cut to `length - 2`, [SEP], padding."""
        ids = [self.bos_id, *self.encode(text)[: self.length - 2], self.eos_id]
        return ids + [self.pad_id] * (self.length - len(ids))

    def pieces(self, text: str) -> list[str]:
        """The vocabulary's entry for each id of `encode`; those that go on with a word begin with `##`."""
        return [self._token[id] for id in self.encode(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text as it is read, words and signs apart by one space; [CLS], [SEP] and [PAD] are left out."""
        tokens = (self._token[id] for id in ids if id not in (self.bos_id, self.eos_id, self.pad_id))
        return " ".join(tokens).replace(f" {CONTINUES}", "")

    def unknown_words(self, text: str) -> list[tuple[str, str]]:
        """Words that are read as [UNK], in order and once each; with no word most like it, as any ASCII word can be spelt."""
        encoding = self.encoding(text)
        unknown = self.vocab[UNKNOWN]
        words = (text[start:end] for id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True) if id == unknown)
        return [(word, "") for word in dict.fromkeys(words)]

    def knows(self, text: str) -> bool:
        """Whether no word of it is one of `unknown_words`."""
        return self.vocab[UNKNOWN] not in self.encoding(text).ids

    def save(self, path: Path) -> None:
        """Writes the files of a Hugging Face tokenizer folder, which transformers' BertTokenizer opens; OutputError if it cannot."""
        special = {"unk_token": UNKNOWN, "sep_token": LAST, "pad_token": PAD, "cls_token": FIRST, "mask_token": MASK}
        config = {"tokenizer_class": "BertTokenizer", "model_max_length": self.length, "do_lower_case": True, **special}
        written = {
            "vocab.txt": "\n".join(self._token[id] for id in range(len(self._token))),
            "tokenizer_config.json": json.dumps(config, indent=2),
            "special_tokens_map.json": json.dumps(special, indent=2),
        }
        files.write(path, written)

    @classmethod
    def from_folder(cls, path: Path) -> "WordPiece":
        """Opens a Hugging Face tokenizer folder: vocab.txt or tokenizer.json; CheckpointError if it cannot.

        A folder may allow more than 77 ids (bert-base-uncased's own says 512); the models of this family read no more.
        """
        vocab = read_vocabulary(path)
        settings = files.read_settings(path)
        _check_reading(path, settings)
        try:
            return cls(vocab, int(min(settings.get("model_max_length", LENGTH), LENGTH)))
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is not a BERT tokenizer ({error}): copy the tokenizer folder again") from error


def read_vocabulary(path: Path) -> Vocabulary:
    """The vocabulary of a tokenizer folder: vocab.txt, or tokenizer.json; CheckpointError as `WordPiece.from_folder`."""
    if (path / "vocab.txt").is_file() or not (path / "tokenizer.json").is_file():
        # Not splitlines: tokens may be signs that it takes for the end of a line.
        return {token: id for id, token in enumerate(files.read_text(path / "vocab.txt").removesuffix("\n").split("\n"))}
    whole = files.read_json(path / "tokenizer.json")
    try:
        vocab: Vocabulary = dict(whole["model"]["vocab"])
        normaliser = dict(whole["normalizer"])
        kinds = (whole["model"]["type"], normaliser["type"], {type(id) for id in vocab.values()})
        if kinds != ("WordPiece", "BertNormalizer", {int}):
            raise ValueError("it cuts words in another way")
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is not a BERT tokenizer ({error}): copy the tokenizer folder again") from error
    _check_reading(path, normaliser)
    return vocab


def _check_reading(path: Path, settings: Mapping[str, Any]) -> None:
    other = [f"{name} {settings[name]}" for name, values in READING.items() if name in settings and settings[name] not in values]
    if other:
        raise CheckpointError(f"{path} reads words otherwise than bert-base-uncased ({', '.join(other)}): use its tokenizer")
