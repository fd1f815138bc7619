"""Prompts against what others' code gives, on tiny random text encoders.

Weights: AUTOMATIC1111's published rule (modules/sd_emphasis.py, "Original" and "No norm"), written out here over transformers'
encoders. The layer read: transformers' hidden states, and `clip_skip` of diffusers' pipelines.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from torch import Tensor

from sumi.models.prompt import Prompt
from sumi.nets.clip import TextEncoder
from sumi.store.configs import text_config
from sumi.text.bpe import Tokenizer, word_vocabulary
from sumi.text.prompt import Passage, parse
from support import assert_agree, randomise

WORDS, LENGTH, LAYERS = ("a", "and", "cat", "horse", "red", "tree", "two"), 12, 4


@cache
def tokenizer(pad: int | None = None) -> Tokenizer:
    return Tokenizer(*word_vocabulary(WORDS), length=LENGTH, pad_id=pad)


def theirs(width: int = 16, projection: int | None = None) -> Any:
    kind = transformers.CLIPTextModel if projection is None else transformers.CLIPTextModelWithProjection
    config = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer().vocab),
        max_position_embeddings=LENGTH,
        hidden_size=width,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=2 * width,
        projection_dim=projection or width,
        bos_token_id=tokenizer().bos_id,
        eos_token_id=tokenizer().eos_id,
    )
    return randomise(kind(config), seed=width)


def ours(encoder: Any, pad: int | None = None, **fields: Any) -> TextEncoder:
    described = encoder.config.to_dict() | {"architectures": [type(encoder).__name__]}
    read = TextEncoder(replace(text_config(described, tokenizer().eos_id, tokenizer(pad).pad_id), **fields))
    prefixed = ("embeddings.", "encoder.", "final_layer_norm.")
    state = {"text_model." + name if name.startswith(prefixed) else name: value for name, value in encoder.state_dict().items()}
    read.load_state_dict({name: value for name, value in state.items() if not name.endswith("position_ids")})
    return read.eval()


def passage(text: str) -> Passage:
    (part,) = parse(text).at(0, 1)
    return part.passage


def chunk(tokens: list[tuple[str, float]], pad: int | None = None) -> tuple[Tensor, Tensor]:
    """Ids and weights of words that are one token each, framed and filled up."""
    reader, room = tokenizer(pad), LENGTH - 2 - len(tokens)
    ids = [reader.bos_id, *(reader.vocab[word + "</w>"] for word, _ in tokens), reader.eos_id, *[reader.pad_id] * room]
    return torch.tensor([ids]), torch.tensor([[1.0, *(weight for _, weight in tokens), 1.0, *[1.0] * room]])


def weighted(z: Tensor, weights: Tensor, emphasis: str) -> Tensor:
    """The published rule, of a prompt alone."""
    scaled = z * weights[..., None]
    return scaled * (z.mean() / scaled.mean()) if emphasis == "mean" else scaled


CASES = {
    "a (cat:1.3)": [[("a", 1.0), ("cat", 1.3)]],
    "[a] ((red)) cat": [[("a", 1 / 1.1), ("red", 1.1 * 1.1), ("cat", 1.0)]],
    "(two:0) (cat:-0.5)": [[("two", 0.0), ("cat", -0.5)]],
    "(a:0.5) BREAK red BREAK (tree:2)": [[("a", 0.5)], [("red", 1.0)], [("tree", 2.0)]],
    "(two " + "cat " * 10 + ":1.2)": [[("two", 1.2), *[("cat", 1.2)] * 9], [("cat", 1.2)]],
}


@pytest.mark.parametrize("emphasis", ["mean", "plain"])
@pytest.mark.parametrize("text", CASES)
@torch.no_grad()
def test_weights_are_the_published_rule(text: str, emphasis: Any) -> None:
    encoder = theirs()
    found = Prompt(tokenizer(), ours(encoder), vector=True)([passage(text)], emphasis=emphasis)
    read = [(encoder(ids), weights) for ids, weights in map(chunk, CASES[text])]
    assert found.context is not None and found.vector is not None
    assert_agree(found.context, torch.hstack([weighted(z.last_hidden_state, weights, emphasis) for z, weights in read]))
    assert_agree(found.vector, read[0][0].pooler_output)


@pytest.mark.parametrize("emphasis", ["mean", "plain"])
@torch.no_grad()
def test_both_encoders_of_sdxl_weigh_by_themselves(emphasis: Any) -> None:
    """The second one's mean is restored apart from the first's; the pooled vector is of the first chunk, not weighted."""
    small, large = theirs(16), theirs(24, projection=20)
    layer = {"output_layer": -2, "final_norm": False}
    second = Prompt(tokenizer(0), ours(large, 0, **layer), vector=True)
    both = Prompt(tokenizer(), ours(small, **layer), second=second)([passage("(red:1.4) cat BREAK [tree]")], emphasis=emphasis)
    columns, pooled = [], []
    for tokens in ([("red", 1.4), ("cat", 1.0)], [("tree", 1 / 1.1)]):
        parts = []
        for encoder, pad in ((small, None), (large, 0)):
            ids, weights = chunk(tokens, pad)
            seen = encoder(ids, output_hidden_states=True)
            parts.append(weighted(seen.hidden_states[-2], weights, emphasis))
        columns.append(torch.cat(parts, dim=2))
        pooled.append(seen.text_embeds)
    assert both.context is not None and both.vector is not None
    assert_agree(both.context, torch.hstack(columns))
    assert_agree(both.vector, pooled[0])


def published_tokenizer(folder: Path, pad: int | None = None) -> Any:
    tokenizer(pad).save(folder)
    return transformers.CLIPTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("skip", range(1, LAYERS + 1))
@torch.no_grad()
def test_clip_skip_is_transformers_hidden_state_and_diffusers_option(tmp_path: Path, skip: int) -> None:
    """The web UI's number; diffusers counts from 0. The vector of the whole is the last layer's all the same."""
    encoder = theirs()
    found = Prompt(tokenizer(), ours(encoder), vector=True)(["a red cat", "two"], skip=skip)
    ids = torch.tensor([tokenizer()("a red cat"), tokenizer()("two")])
    seen = encoder(ids, output_hidden_states=True)
    norm = ours(encoder).text_model.final_layer_norm
    assert found.context is not None and found.vector is not None
    assert_agree(found.context, norm(seen.hidden_states[-skip]))
    assert_agree(found.vector, seen.pooler_output)
    # diffusers asks for the norm by the name that it had before transformers 5.
    encoder.__dict__.setdefault("text_model", getattr(encoder, "text_model", encoder))
    parts: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = diffusers.StableDiffusionPipeline(None, encoder, published_tokenizer(tmp_path), None, None, **parts)
    context, _ = pipeline.encode_prompt(["a red cat", "two"], "cpu", 1, False, clip_skip=skip - 1 or None)
    assert_agree(found.context, context)


@pytest.mark.parametrize("skip", range(1, LAYERS))
@torch.no_grad()
def test_clip_skip_of_sdxl_is_diffusers(tmp_path: Path, skip: int) -> None:
    small, large = theirs(16), theirs(24, projection=20)
    layer = {"output_layer": -2, "final_norm": False}
    second = Prompt(tokenizer(0), ours(large, 0, **layer), vector=True)
    found = Prompt(tokenizer(), ours(small, **layer), second=second)(["a red cat"], skip=skip)
    tokenizers = published_tokenizer(tmp_path / "one"), published_tokenizer(tmp_path / "two", 0)
    pipeline = diffusers.StableDiffusionXLPipeline(None, small, large, *tokenizers, None, None, add_watermarker=False)
    context, _, vector, _ = pipeline.encode_prompt("a red cat", None, "cpu", 1, False, clip_skip=skip - 1 or None)
    assert found.context is not None and found.vector is not None
    assert_agree(found.context, context)
    assert_agree(found.vector, vector)
