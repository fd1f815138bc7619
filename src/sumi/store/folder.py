"""A model as a folder, in the layout of Hugging Face, which diffusers and transformers open too.

    model_index.json                  what the parts are
    unet/          config.json        diffusion_pytorch_model.safetensors
    vae/           config.json        diffusion_pytorch_model.safetensors     (vqvae/ with the models of the latent diffusion paper)
    text_encoder/  config.json        model.safetensors                       (text_encoder_2 beside it, where there are two; bert/)
    tokenizer/     vocab.json         merges.txt  tokenizer_config.json  special_tokens_map.json      (tokenizer_2 likewise)
    scheduler/     scheduler_config.json

What the published fields cannot say is in the same files under "sumi". Beside them there may be leftover.safetensors, what a single
file had that no part reads. Nothing is fetched, and nothing in a folder is run.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sumi.config import AutoencoderConfig, BertConfig, LabelConfig, MapConfig, ModelSpec, TextConfig, UNetConfig
from sumi.errors import CheckpointError, OutputError
from sumi.models.placement import weightless
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.clip import TextEncoder
from sumi.nets.unet import UNet
from sumi.store import configs, schedulers
from sumi.store.checkpoint import atomic_folder, fill, load, save
from sumi.store.configs import Json
from sumi.store.dialects import native_name
from sumi.store.layout import (
    AUTOENCODER_FOLDERS,
    CONCATS,
    DIFFUSION,
    LOW_RES_SCHEDULER,
    TEXT_FOLDERS,
    TRANSFORMER,
    index,
    places,
    reads_words,
    tokenizer_folder,
)
from sumi.store.model import Model, Parts, State, Words, build, model_of
from sumi.store.writer import Say, write
from sumi.text.bpe import Tokenizer
from sumi.text.wordpiece import WordPiece

__all__ = ["Parts"]  # where it was first

LEFTOVER = "leftover.safetensors"
TRAINED = "non_ema"
"""The variant of a U-Net's file that holds its weights as training left them, beside their average."""
# What comes of reading a description that describes nothing possible.
NONSENSE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)


def write_folder(path: Path, spec: ModelSpec, parts: Parts, dtype: torch.dtype = torch.float32) -> None:
    """Writes networks, whole or not at all, their numbers as `dtype` (float16 halves the size); OutputError as `write_model`."""
    write_model(path, model_of(spec, parts), precision=dtype)


def write_model(
    path: Path,
    model: Model,
    *,
    variant: str | None = None,
    shard: int | None = None,
    precision: torch.dtype | None = None,
    say: Say | None = None,
) -> None:
    """Writes a model, whole or not at all.

    variant: a word in the names of the weight files (`fp16`). shard: bytes that one of them may have at most. precision: of the
    fractions, None for that which each has. say: told of the progress. A folder that sumi wrote is replaced. OutputError if another
    is in the way, or the disk does not take it.
    """
    if path.is_dir() and any(path.iterdir()) and not _is_ours(path):
        raise OutputError(f"{path} holds other files: choose a new folder")
    spec, table = model.spec, index(model.spec, has_words=bool(model.tokenizers))
    say = None if say is None else _summed(say, [*model.states.values(), model.trained], precision)
    with atomic_folder(path) as folder:
        height, width = (side // spec.factor for side in spec.size)
        sides: dict[str, Json] = {
            "unet": {"sample_size": height if height == width else [height, width]},
            "vae": {"sample_size": max(spec.size)},
        }
        found = places(spec)
        for part, place in found.items():
            published, ours = _part_json(spec, part)
            _write_json(folder / place.folder / "config.json", published | sides.get(part, {}) | ({"sumi": ours} if ours else {}))
            _write_weights(folder / place.folder, place.stem, model.states[part], variant, shard, precision, say)
        if model.trained:
            _write_weights(folder / "unet", DIFFUSION, model.trained, ".".join(filter(None, (variant, TRAINED))), shard, precision, say)
        readers = [place.folder for place in found.values() if place.folder in TEXT_FOLDERS]
        for reader, words in zip(readers, model.tokenizers, strict=False):
            words.save(folder / tokenizer_folder(reader))
        if model.leftover:
            save(folder / LEFTOVER, model.leftover)
        _write_json(folder / "scheduler" / "scheduler_config.json", schedulers.schedule_json(spec.schedule, spec.spacing, spec.sampler))
        if "low_res_scheduler" in table:
            _write_json(folder / "low_res_scheduler" / "scheduler_config.json", LOW_RES_SCHEDULER)
        derived, _ = _published(folder, table)
        _write_json(folder / "model_index.json", table | {"sumi": configs.differences(spec, derived)})


def write_autoencoder(path: Path, config: AutoencoderConfig, state: State, dtype: torch.dtype = torch.float32) -> None:
    """Writes the `vae` folder alone, `state` being the network's; OutputError as `write_model`."""
    _write_alone(path, configs.autoencoder_json(config), config, configs.autoencoder_config, state, DIFFUSION, dtype)


def write_text_encoder(path: Path, config: TextConfig, state: State, dtype: torch.dtype = torch.float32) -> None:
    """Writes a `text_encoder` folder alone; reading it takes the `tokenizer` folder beside it (`Tokenizer.save`)."""
    parse = partial(configs.text_config, eos_id=config.eos_id, pad_id=config.pad_id)
    _write_alone(path, configs.text_json(config), config, parse, state, TRANSFORMER, dtype)


def read_spec(path: Path) -> ModelSpec:
    """What the model in a folder is, without its weights; CheckpointError as `read_folder`."""
    return _described(path, read_index(path))[0]


def read_folder(path: Path, dtype: torch.dtype = torch.float32) -> tuple[ModelSpec, Parts]:
    """The networks in a folder, their numbers as `dtype`; those that are of it already stay on the disk until they are used.

    CheckpointError, in one line, for whatever is missing, damaged, or not of the family.
    """
    model = read_model(path)
    return model.spec, build(model, dtype)


def read_model(path: Path, *, variant: str | None = None) -> Model:
    """The model in a folder, with the weight files of a variant (`fp16`) or, by default, the plain ones or whatever there are.

    CheckpointError as `read_folder`.
    """
    table = read_index(path)
    spec, tokenizers = _described(path, table)
    states = {}
    for part, place in places(spec).items():
        folder = path / ("vqvae" if part == "vae" and (path / "vqvae").is_dir() else place.folder)
        states[part] = {native_name(name): tensor for name, tensor in _weights(folder, place.stem, variant).items()}
    trained = path / "unet" / f"{DIFFUSION}.{TRAINED}.safetensors"
    return Model(
        spec,
        states,
        tokenizers,
        {native_name(name): tensor for name, tensor in load(trained).items()} if trained.is_file() else {},
        load(path / LEFTOVER) if (path / LEFTOVER).is_file() else {},
        "its scheduler's file",
        where=str(path),
    )


def read_unet(path: Path, dtype: torch.dtype = torch.float32) -> UNet:
    """The network of a `unet` folder; CheckpointError as `read_folder`."""
    config = _config(path, configs.unet_config)
    with weightless():
        unet = _understood(path / "config.json", lambda: UNet(config))
    return _filled(unet, path, DIFFUSION, dtype)


def read_autoencoder(path: Path, dtype: torch.dtype = torch.float32) -> Autoencoder:
    """The network of a `vae` folder; CheckpointError as `read_folder`."""
    config = _config(path, configs.autoencoder_config)
    with weightless():
        autoencoder = _understood(path / "config.json", lambda: Autoencoder(config))
    return _filled(autoencoder, path, DIFFUSION, dtype)


def read_text_encoder(path: Path, dtype: torch.dtype = torch.float32) -> TextEncoder:
    """The network of a `text_encoder` folder that has its tokenizer's folder beside it; CheckpointError as `read_folder`."""
    config, _ = _text(path)
    if not isinstance(config, TextConfig):
        raise CheckpointError(f"{path} is not CLIP's: use the text encoder of a Stable Diffusion model")
    with weightless():
        encoder = _understood(path / "config.json", lambda: TextEncoder(config))
    return _filled(encoder, path, TRANSFORMER, dtype)


def read_index(path: Path) -> Json:
    """model_index.json, which makes a folder a model; CheckpointError as `read_folder`."""
    return read_json(path / "model_index.json")


def read_json(path: Path) -> Json:
    """A JSON object in a file; CheckpointError if it is not there or not one."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: check the path, or copy the whole folder again")
    value = _understood(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object: copy it again")
    return value


def _described(path: Path, table: Json) -> tuple[ModelSpec, tuple[Words, ...]]:
    """The spec that a folder's files describe, sumi's own settings among them, and the tokenizers."""
    spec, tokenizers = _published(path, table)
    where = path / "model_index.json"
    amended = _understood(where, lambda: configs.amended(spec, table.get("sumi", {})))
    if [type(text) for text in _texts(amended)] != [type(text) for text in _texts(spec)]:
        raise CheckpointError(f"{where} and the folder do not have the same text encoders: copy the whole folder again")
    return amended, tokenizers


def _published(path: Path, table: Json) -> tuple[ModelSpec, tuple[Words, ...]]:
    """The spec as far as the files of the parts give it, and the tokenizers."""
    unet, where = _config(path / "unet", configs.unet_config), path / "unet" / "config.json"
    scheduler_file = path / "scheduler" / "scheduler_config.json"
    scheduler = read_json(scheduler_file)
    texts: list[TextConfig | BertConfig] = []
    tokenizers: list[Words] = []
    for folder in _text_folders(table):
        text, words = _text(path / folder)
        if "sumi" not in table and isinstance(text, TextConfig) and unet.vector_width is not None and unet.vector_name == "add_embedding":
            text = replace(text, output_layer=-2, final_norm=False)  # so SDXL is read, though no file of its says so
        texts.append(text)
        tokenizers += [words] if words is not None else []
    autoencoder = _autoencoder(path, table, unet)
    side = read_json(where).get("sample_size", 64)
    sides = side if isinstance(side, list) else [side, side]
    sampler, spacing = schedulers.sampler_and_spacing(scheduler)
    spec = ModelSpec(
        name=path.resolve().name,
        unet=unet,
        autoencoder=autoencoder,
        text=texts[0] if texts else None,
        text_2=_second(texts, path),
        label=_ours(path / "label_embedding", LabelConfig),
        map=_ours(path / "map_rescaler", MapConfig),
        concat=CONCATS.get(str(table.get("_class_name")), ()),
        schedule=_understood(scheduler_file, lambda: schedulers.schedule_config(scheduler)),
        size=_understood(where, lambda: (sides[0] * autoencoder.factor, sides[1] * autoencoder.factor)),
        sampler=sampler,
        spacing=spacing,
    )
    return _understood(where, lambda: configs.amended(spec, {})), tuple(tokenizers)


def _autoencoder(path: Path, table: Json, unet: UNetConfig) -> AutoencoderConfig:
    """That of the folder; latents are pixels in models of pipelines that have none."""
    folder = next((name for name in AUTOENCODER_FOLDERS if (path / name).is_dir()), AUTOENCODER_FOLDERS[0])
    if folder not in table and table.get("_class_name") in ("DDPMPipeline", "DDIMPipeline"):
        channels = unet.out_channels
        return AutoencoderConfig(channels, channels, (), attention_levels=(), latent_scale=1.0)
    return _config(path / folder, configs.autoencoder_config)


def _config(folder: Path, parse: Callable[[Json], T]) -> T:
    """The configuration of a part: what its published fields say, amended by ours."""
    path = folder / "config.json"
    found = read_json(path)
    config: T = _understood(path, lambda: configs.amended(parse(found), found.get("sumi", {})))
    return config


def _ours(folder: Path, kind: Callable[..., T]) -> T | None:
    """The configuration of a part that only sumi has, whose fields are those of the file."""
    if not folder.is_dir():
        return None
    path = folder / "config.json"
    fields = {name: value for name, value in read_json(path).items() if name[0] != "_"}
    config: T = _understood(path, lambda: configs.amended(kind(), fields))
    return config


def _text(folder: Path) -> tuple[TextConfig | BertConfig, Words | None]:
    if folder.name == "bert":
        bert = _config(folder, configs.bert_config)
        words = (
            WordPiece.from_folder(folder.with_name("tokenizer")) if reads_words(bert) or folder.with_name("tokenizer").is_dir() else None
        )
        _check_ids(folder, bert, words)
        return bert, words
    tokenizer = Tokenizer.from_folder(folder.with_name(tokenizer_folder(folder.name)))
    text = _config(folder, partial(configs.text_config, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id))
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
    return [name for name in TEXT_FOLDERS if table.get(name) not in (None, [], [None, None])]


def _part_json(spec: ModelSpec, part: str) -> tuple[Json, Json]:
    """What the published fields of a part's config.json say, and what they cannot."""
    match part:
        case "unet":
            published = configs.unet_json(spec.unet)
            return published, configs.differences(spec.unet, configs.unet_config(published))
        case "vae":
            published = configs.autoencoder_json(spec.autoencoder)
            return published, configs.differences(spec.autoencoder, configs.autoencoder_config(published))
        case "bert":
            assert isinstance(spec.text, BertConfig)
            published = configs.bert_json(spec.text)
            return published, configs.differences(spec.text, configs.bert_config(published))
        case "label_embedding" | "map_rescaler":
            config = spec.label if part == "label_embedding" else spec.map
            return {"_class_name": type(config).__name__.replace("Config", "")} | vars(config), {}
    text = spec.text if part == "text_encoder" else spec.text_2
    assert isinstance(text, TextConfig)
    published = configs.text_json(text)
    return published, configs.differences(text, configs.text_config(published, text.eos_id, text.pad_id))


def _write_alone(path: Path, published: Json, config: T, parse: Callable[[Json], T], state: State, stem: str, dtype: torch.dtype) -> None:
    """A new folder for one part, which takes the place of one that held the same and nothing else."""
    if path.is_dir() and any(file.name != "config.json" and file.suffix != ".safetensors" for file in path.iterdir()):
        raise OutputError(f"{path} holds other files: choose a new folder")
    ours = configs.differences(config, parse(published))
    with atomic_folder(path) as folder:
        _write_json(folder / "config.json", published | ({"sumi": ours} if ours else {}))
        _write_weights(folder, stem, state, None, None, dtype)


def _write_weights(
    folder: Path,
    stem: str,
    state: State,
    variant: str | None,
    shard: int | None,
    precision: torch.dtype | None = None,
    say: Say | None = None,
) -> None:
    """One file, or several of at most `shard` bytes with an index, as Hugging Face's libraries write and open them."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = f".{variant}" if variant else ""
    shards = list(_sharded(state, shard))
    if len(shards) < 2:
        write(folder / f"{stem}{suffix}.safetensors", state, precision=precision, say=say)
        return
    files = [f"{stem}{suffix}-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for name, tensors in zip(files, shards, strict=True):
        write(folder / name, tensors, precision=precision, say=say)
    weight_map = {name: file for file, tensors in zip(files, shards, strict=True) for name in tensors}
    total = {"total_size": sum(_bytes(tensor, precision) for tensor in state.values())}
    where = folder / (f"{stem}.safetensors.index{suffix}.json" if suffix else f"{stem}.safetensors.index.json")
    _write_json(where, {"metadata": total, "weight_map": weight_map})


def _summed(say: Say, states: Iterable[State], precision: torch.dtype | None) -> Say:
    """One count of bytes for all files of a model."""
    total, before = sum(_bytes(tensor, precision) for state in states for tensor in state.values()), 0

    def told(done: int, end: int) -> None:
        nonlocal before
        say(before + done, total)
        before += end if done == end else 0

    return told


def _bytes(tensor: Tensor, precision: torch.dtype | None) -> int:
    """What a tensor takes in a file, its fractions as `precision`."""
    kind = precision if precision is not None and tensor.is_floating_point() else tensor.dtype
    return tensor.numel() * kind.itemsize


def _sharded(state: State, most: int | None) -> Iterator[dict[str, Tensor]]:
    """The tensors in their order, cut where one more would be too much."""
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in state.items():
        if most is not None and shard and size + tensor.nbytes > most:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor
        size += tensor.nbytes
    yield shard


def _filled(network: Network, folder: Path, stem: str, dtype: torch.dtype) -> Network:
    tensors = {native_name(name): tensor for name, tensor in _weights(folder, stem, None).items()}
    fill(network, tensors, str(folder), dtype)
    network.eval()
    return network


def _weights(folder: Path, stem: str, variant: str | None) -> dict[str, Tensor]:
    """The tensors of a part, in one file or in several with an index; those of `variant`, else the plain ones, else what there is."""
    stems = (stem, TRANSFORMER_PICKLE) if stem == TRANSFORMER else (stem,)
    for found in _suffixes(folder, stem, variant):
        for name in (f"{stem}{found}.safetensors", *(f"{each}{found}.bin" for each in stems)):
            if (folder / name).is_file():
                return load(folder / name)
        for name in (f"{stem}.safetensors.index{found}.json", *(f"{each}.bin.index{found}.json" for each in stems)):
            if (folder / name).is_file():
                return _shards(folder / name)
    asked = f" of the variant {variant}" if variant else ""
    raise CheckpointError(f"{folder} has no weights{asked} ({stem}.safetensors): copy the whole folder again")


TRANSFORMER_PICKLE = "pytorch_model"


def _suffixes(folder: Path, stem: str, variant: str | None) -> list[str]:
    """What may come between the stem and the ending of a weight file, in the order of preference."""
    if variant:
        return [f".{variant}"]
    known = re.compile(rf"{stem}(\.\w+)(-\d+-of-\d+)?\.(safetensors|bin)")
    others = {match[1] for path in sorted(folder.glob(f"{stem}.*")) if (match := known.fullmatch(path.name))}
    return ["", *sorted(others - {f".{TRAINED}"})]


def _shards(table: Path) -> dict[str, Tensor]:
    found = read_json(table)
    shards = _understood(table, lambda: list(dict.fromkeys(found["weight_map"].values())))
    # The index comes with the folder: a name in it must not lead out of the folder.
    if not all(isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*\.(safetensors|bin)", name) for name in shards):
        raise CheckpointError(f"{table} names files outside of its folder: get the folder from somewhere else")
    return {name: tensor for shard in shards for name, tensor in load(table.parent / shard).items()}


def _is_ours(path: Path) -> bool:
    try:
        return "sumi" in read_index(path)
    except CheckpointError:
        return False


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _understood(path: Path, parse: Callable[[], T]) -> T:
    """What `parse` makes of a file; whatever it raises becomes one line with the file's name."""
    try:
        return parse()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (*NONSENSE, OSError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} is damaged or not of a Stable Diffusion model ({reason}): copy it again") from error
