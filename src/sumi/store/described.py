"""What the descriptions in a model's folder say of it: its spec, and its tokenizers. Weights are left alone.

CheckpointError, in one line, for whatever is missing, damaged, or not of the family.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from sumi.config import AutoencoderConfig, BertConfig, LabelConfig, MapConfig, ModelSpec, TextConfig, UNetConfig
from sumi.errors import CheckpointError
from sumi.models.embedders import takes_image_embedding
from sumi.models.zoo import ZOO
from sumi.store import configs, layout, schedulers
from sumi.store.clip_image import read_vision
from sumi.store.configs import Json
from sumi.store.layout import AUTOENCODER_FOLDERS, IMAGE_ENCODER, TEXT_FOLDERS, named, reads_words, tokenizer_folder
from sumi.store.model import Words
from sumi.store.tables import read_json, understood
from sumi.text.bpe import Tokenizer
from sumi.text.wordpiece import WordPiece

T = TypeVar("T")


def read_index(path: Path) -> Json:
    """model_index.json, which makes a folder a model."""
    return read_json(path / "model_index.json")


def read_spec(path: Path) -> ModelSpec:
    """What the model in a folder is."""
    return read_description(path, read_index(path))[0]


def read_description(path: Path, table: Json) -> tuple[ModelSpec, tuple[Words, ...]]:
    """The spec that a folder's files describe, sumi's own settings among them, and the tokenizers."""
    spec, tokenizers = read_published(path, table)
    where = path / "model_index.json"
    amended = understood(where, lambda: configs.amended(spec, table.get("sumi", {})))
    if [type(text) for text in _texts(amended)] != [type(text) for text in _texts(spec)]:
        raise CheckpointError(f"{where} and the folder do not have the same text encoders: copy the whole folder again")
    return amended, tokenizers


def read_published(path: Path, table: Json) -> tuple[ModelSpec, tuple[Words, ...]]:
    """The spec as far as the files of the parts give it, and the tokenizers."""
    unet, where = read_config(path / "unet", configs.unet_config), path / "unet" / "config.json"
    scheduler_file = path / "scheduler" / "scheduler_config.json"
    scheduler = read_json(scheduler_file)
    texts: list[TextConfig | BertConfig] = []
    tokenizers: list[Words] = []
    for folder in _text_folders(table):
        text, words = read_text_config(path / folder)
        if "sumi" not in table and isinstance(text, TextConfig) and unet.vector_width is not None and unet.vector_name == "add_embedding":
            text = replace(text, output_layer=-2, final_norm=False)  # so SDXL is read, though no file of its says so
        texts.append(text)
        tokenizers += [words] if words is not None else []
    autoencoder = _autoencoder(path, table, unet)
    side = read_json(where).get("sample_size")
    sides = side if isinstance(side, list) else [64 if side is None else side] * 2
    sampler, spacing, options = schedulers.asked(scheduler)
    schedule = understood(scheduler_file, lambda: schedulers.schedule_config(scheduler))
    kind = str(table.get("_class_name"))
    spec = ModelSpec(
        name=path.resolve().name,
        unet=unet,
        autoencoder=autoencoder,
        text=texts[0] if texts else None,
        text_2=_second(texts, path),
        label=_ours(path / "label_embedding", LabelConfig),
        map=_ours(path / "map_rescaler", MapConfig),
        concat=layout.concat(kind, unet, autoencoder),
        zero_null="XL" in kind and table.get("force_zeros_for_empty_prompt", True),
        schedule=replace(schedule, steps_offset=1) if kind in layout.OFFSET_ONE else schedule,
        size=understood(where, lambda: (sides[0] * autoencoder.factor, sides[1] * autoencoder.factor)),
        sampler=sampler,
        options=options,
        spacing=spacing,
    )
    if takes_image_embedding(spec) and named(table, IMAGE_ENCODER):
        spec = replace(spec, vision=read_vision(path))
    return understood(where, lambda: configs.amended(spec, _usual(spec))), tuple(tokenizers)


def _usual(spec: ModelSpec) -> Json:
    """The steps and the guidance that suit the published model of this form: no file of a folder tells them."""

    def form(model: ModelSpec) -> tuple[object, ...]:
        return model.unet, model.concat, model.schedule.prediction

    alike = [model for model in ZOO.values() if form(model) == form(spec)]
    # Models of few steps are told by their spacing and size; without these, it is the first: the one that they were made of.
    like = max(alike, key=lambda model: (model.spacing, model.size) == (spec.spacing, spec.size), default=None)
    return {} if like is None else {"steps": like.steps, "guidance": like.guidance}


def _autoencoder(path: Path, table: Json, unet: UNetConfig) -> AutoencoderConfig:
    """That of the folder; latents are pixels in models of pipelines that have none."""
    folder, kind = autoencoder_folder(path), table.get("_class_name")
    if folder not in table and kind in ("DDPMPipeline", "DDIMPipeline"):
        channels = unet.out_channels
        return AutoencoderConfig(channels, channels, (), attention_levels=(), latent_scale=1.0)
    config = read_config(path / folder, configs.autoencoder_config)
    return replace(config, latent_scale=layout.UPSCALER_SCALE) if kind == layout.UPSCALER else config


def autoencoder_folder(path: Path) -> str:
    return next((name for name in AUTOENCODER_FOLDERS if (path / name).is_dir()), AUTOENCODER_FOLDERS[0])


def read_config(folder: Path, parse: Callable[[Json], T]) -> T:
    """The configuration of a part: what its published fields say, amended by ours."""
    path = folder / "config.json"
    found = read_json(path)
    config: T = understood(path, lambda: configs.amended(parse(found), found.get("sumi", {})))
    return config


def _ours(folder: Path, kind: Callable[..., T]) -> T | None:
    """The configuration of a part that only sumi has, whose fields are those of the file."""
    if not folder.is_dir():
        return None
    path = folder / "config.json"
    fields = {name: value for name, value in read_json(path).items() if name[0] != "_"}
    config: T = understood(path, lambda: configs.amended(kind(), fields))
    return config


def read_text_config(folder: Path) -> tuple[TextConfig | BertConfig, Words | None]:
    if folder.name == "bert":
        bert = read_config(folder, configs.bert_config)
        words = (
            WordPiece.from_folder(folder.with_name("tokenizer")) if reads_words(bert) or folder.with_name("tokenizer").is_dir() else None
        )
        _check_ids(folder, bert, words)
        return bert, words
    tokenizer = Tokenizer.from_folder(folder.with_name(tokenizer_folder(folder.name)))
    text = read_config(folder, partial(configs.text_config, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id))
    _check_ids(folder, text, tokenizer)
    return text, tokenizer


def _check_ids(folder: Path, text: TextConfig | BertConfig, words: Words | None) -> None:
    if words is not None and (max(words.vocab.values()) >= text.vocab_size or words.length > text.length):
        raise CheckpointError(f"{folder} and its tokenizer are not of one model: copy the whole folder again")


def _second(texts: list[TextConfig | BertConfig], path: Path) -> TextConfig | None:
    second = texts[1] if len(texts) > 1 else None
    if isinstance(second, BertConfig):
        raise CheckpointError(f"{path} has two text encoders of different kinds: use a model of the Stable Diffusion family")
    return second


def _texts(spec: ModelSpec) -> tuple[TextConfig | BertConfig, ...]:
    return tuple(text for text in (spec.text, spec.text_2) if text is not None)


def _text_folders(table: Json) -> list[str]:
    """Text encoders that there are: none, the first, both, or (SDXL's refiner) only the second."""
    return [name for name in TEXT_FOLDERS if named(table, name)]
