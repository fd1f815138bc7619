"""A model as a folder, in the layout of Hugging Face, which diffusers and transformers open too.

    model_index.json                  what the parts are
    unet/          config.json        diffusion_pytorch_model.safetensors
    vae/           config.json        diffusion_pytorch_model.safetensors
    text_encoder/  config.json        model.safetensors                       (text_encoder_2 beside it, where there are two)
    tokenizer/     vocab.json         merges.txt  tokenizer_config.json  special_tokens_map.json      (tokenizer_2 likewise)
    scheduler/     scheduler_config.json

What the published fields cannot say is in the same files under "sumi". Nothing is fetched, and nothing in a folder is run.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from sumi.config import AutoencoderConfig, ModelSpec, TextConfig, UNetConfig
from sumi.errors import CheckpointError, OutputError
from sumi.models.placement import weightless
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.clip import TextEncoder
from sumi.nets.unet import UNet
from sumi.store import configs
from sumi.store.checkpoint import PICKLE, atomic_folder, fill, load, save
from sumi.store.configs import Json
from sumi.text.bpe import Tokenizer

DIFFUSION, TRANSFORMER = "diffusion_pytorch_model", "model"
# Names that diffusers gave to attention without context before its version 0.15.
OLD_ATTENTION = re.compile(r"(?<=attentions\.)(\d+)\.(query|key|value|proj_attn)\.")
NEW_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
# Names as transformers 5 saves them.
BARE_TEXT = re.compile(r"^(?=embeddings\.|encoder\.layers\.|final_layer_norm\.)")
# What comes of reading a description that describes nothing possible.
NONSENSE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

State: TypeAlias = Mapping[str, Tensor]
T = TypeVar("T")
Config = TypeVar("Config", UNetConfig, AutoencoderConfig, TextConfig)
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Parts:
    """The networks of a model, and a tokenizer for each text encoder."""

    unet: UNet
    autoencoder: Autoencoder
    text_encoders: tuple[TextEncoder, ...] = ()
    tokenizers: tuple[Tokenizer, ...] = ()


def write_folder(path: Path, spec: ModelSpec, parts: Parts, dtype: torch.dtype = torch.float32) -> None:
    """Writes a model, whole or not at all, its numbers as `dtype` (float16 halves the size).

    A folder that sumi wrote is replaced. OutputError if another is in the way, or the disk does not take it.
    """
    if path.is_dir() and any(path.iterdir()) and not _is_ours(path):
        raise OutputError(f"{path} holds other files: choose a new folder")
    _check_parts(spec, parts)
    with atomic_folder(path) as folder:
        height, width = (side // spec.factor for side in spec.size)
        sides = {"sample_size": height if height == width else [height, width]}
        _write_unet(folder / "unet", spec.unet, parts.unet.state_dict(), dtype, sides)
        _write_autoencoder(folder / "vae", spec.autoencoder, parts.autoencoder.state_dict(), dtype, {"sample_size": max(spec.size)})
        for suffix, encoder, tokenizer in zip(("", "_2"), parts.text_encoders, parts.tokenizers, strict=False):
            _write_text_encoder(folder / f"text_encoder{suffix}", encoder.config, encoder.state_dict(), dtype)
            tokenizer.save(folder / f"tokenizer{suffix}")
        _write_json(folder / "scheduler" / "scheduler_config.json", configs.schedule_json(spec.schedule, spec.spacing))
        index = _index(spec)
        published, _ = _published(folder, index)
        _write_json(folder / "model_index.json", index | {"sumi": configs.differences(spec, published)})


def write_autoencoder(path: Path, config: AutoencoderConfig, state: State, dtype: torch.dtype = torch.float32) -> None:
    """Writes the `vae` folder alone, `state` being the network's; OutputError as `write_folder`."""
    with _alone(path) as folder:
        _write_autoencoder(folder, config, state, dtype, {})


def write_text_encoder(path: Path, config: TextConfig, state: State, dtype: torch.dtype = torch.float32) -> None:
    """Writes a `text_encoder` folder alone; reading it takes the `tokenizer` folder beside it (`Tokenizer.save`)."""
    with _alone(path) as folder:
        _write_text_encoder(folder, config, state, dtype)


def read_spec(path: Path) -> ModelSpec:
    """What the model in a folder is, without its weights; CheckpointError as `read_folder`."""
    return _described(path, _read_index(path))[0]


def read_folder(path: Path, dtype: torch.dtype = torch.float32) -> tuple[ModelSpec, Parts]:
    """The model in a folder, its numbers as `dtype`; those that are of it already stay on the disk until they are used.

    CheckpointError, in one line, for whatever is missing, damaged, or not of the family.
    """
    index = _read_index(path)
    spec, tokenizers = _described(path, index)
    unet = _read_part(path / "unet", DIFFUSION, lambda: UNet(spec.unet), dtype)
    autoencoder = _read_part(path / "vae", DIFFUSION, lambda: Autoencoder(spec.autoencoder), dtype)
    text_encoders = [
        _read_part(path / folder, TRANSFORMER, partial(TextEncoder, config), dtype)
        for folder, config in zip(_text_folders(index), _texts(spec), strict=True)
    ]
    return spec, Parts(unet, autoencoder, tuple(text_encoders), tokenizers)


def read_unet(path: Path, dtype: torch.dtype = torch.float32) -> UNet:
    """The network of a `unet` folder; CheckpointError as `read_folder`."""
    config = _config(path, configs.unet_config)
    return _read_part(path, DIFFUSION, lambda: UNet(config), dtype)


def read_autoencoder(path: Path, dtype: torch.dtype = torch.float32) -> Autoencoder:
    """The network of a `vae` folder; CheckpointError as `read_folder`."""
    config = _config(path, configs.autoencoder_config)
    return _read_part(path, DIFFUSION, lambda: Autoencoder(config), dtype)


def read_text_encoder(path: Path, dtype: torch.dtype = torch.float32) -> TextEncoder:
    """The network of a `text_encoder` folder that has its tokenizer's folder beside it; CheckpointError as `read_folder`."""
    config, _ = _text(path)
    return _read_part(path, TRANSFORMER, lambda: TextEncoder(config), dtype)


def _described(path: Path, index: Json) -> tuple[ModelSpec, tuple[Tokenizer, ...]]:
    """The spec that a folder's files describe, sumi's own settings among them, and the tokenizers."""
    spec, tokenizers = _published(path, index)
    where = path / "model_index.json"
    spec = _understood(where, lambda: configs.amended(spec, index.get("sumi", {})))
    if len(_texts(spec)) != len(tokenizers):
        raise CheckpointError(f"{where} and the folder do not have the same text encoders: copy the whole folder again")
    return spec, tokenizers


def _published(path: Path, index: Json) -> tuple[ModelSpec, tuple[Tokenizer, ...]]:
    """The spec as far as the files of the parts give it, and the tokenizers."""
    unet, autoencoder = _config(path / "unet", configs.unet_config), _config(path / "vae", configs.autoencoder_config)
    scheduler_file = path / "scheduler" / "scheduler_config.json"
    scheduler = _read_json(scheduler_file)
    texts, tokenizers = [], []
    for folder in _text_folders(index):
        text, tokenizer = _text(path / folder)
        if "sumi" not in index and unet.vector_width is not None and unet.vector_name == "add_embedding":
            text = replace(text, output_layer=-2, final_norm=False)  # so SDXL is read, though no file of its says so
        texts.append(text)
        tokenizers.append(tokenizer)
    side = _read_json(path / "unet" / "config.json").get("sample_size", 64)
    sides = side if isinstance(side, list) else [side, side]
    sampler, spacing = configs.sampler_and_spacing(scheduler)
    spec = ModelSpec(
        name=path.resolve().name,
        unet=unet,
        autoencoder=autoencoder,
        text=texts[0] if texts else None,
        text_2=texts[1] if len(texts) > 1 else None,
        schedule=_understood(scheduler_file, lambda: configs.schedule_config(scheduler)),
        size=_understood(path / "unet" / "config.json", lambda: (sides[0] * autoencoder.factor, sides[1] * autoencoder.factor)),
        sampler=sampler,
        spacing=spacing,
    )
    return _understood(path / "unet" / "config.json", lambda: configs.amended(spec, {})), tuple(tokenizers)


def _config(folder: Path, parse: Callable[[Json], Config]) -> Config:
    """The configuration of a part: what its published fields say, amended by ours."""
    path = folder / "config.json"
    found = _read_json(path)
    config: Config = _understood(path, lambda: configs.amended(parse(found), found.get("sumi", {})))
    return config


def _text(folder: Path) -> tuple[TextConfig, Tokenizer]:
    tokenizer = Tokenizer.from_folder(folder.with_name(folder.name.replace("text_encoder", "tokenizer")))
    text = _config(folder, partial(configs.text_config, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id))
    if max(tokenizer.vocab.values()) >= text.vocab_size or tokenizer.length > text.length:
        raise CheckpointError(f"{folder} and its tokenizer are not of one model: copy the whole folder again")
    return text, tokenizer


def _texts(spec: ModelSpec) -> tuple[TextConfig, ...]:
    return tuple(text for text in (spec.text, spec.text_2) if text is not None)


def _text_folders(index: Json) -> list[str]:
    """Text encoders that there are: none, the first, both, or (SDXL's refiner) only the second."""
    return [name for name in ("text_encoder", "text_encoder_2") if index.get(name) not in (None, [], [None, None])]


def _check_parts(spec: ModelSpec, parts: Parts) -> None:
    encoders = tuple(encoder.config for encoder in parts.text_encoders)
    if (parts.unet.config, parts.autoencoder.config, encoders) != (spec.unet, spec.autoencoder, _texts(spec)):
        raise ValueError("the networks are not those that the spec describes")
    ids = [(tokenizer.length, tokenizer.eos_id, tokenizer.pad_id) for tokenizer in parts.tokenizers]
    if ids != [(text.length, text.eos_id, text.pad_id) for text in encoders]:
        raise ValueError("the tokenizers are not those that the spec describes")


def _index(spec: ModelSpec) -> Json:
    """What diffusers' pipelines ask of a folder."""
    kind = ("DiffusionPipeline", "StableDiffusionPipeline", "StableDiffusionXLPipeline")[len(_texts(spec))]
    index: Json = {
        "_class_name": kind,
        "_diffusers_version": "0.30.0",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", configs.unet_json(spec.unet)["_class_name"]],
        "vae": ["diffusers", configs.autoencoder_json(spec.autoencoder)["_class_name"]],
    }
    for suffix, text in zip(("", "_2"), _texts(spec), strict=False):
        index[f"text_encoder{suffix}"] = ["transformers", configs.text_json(text)["architectures"][0]]
        index[f"tokenizer{suffix}"] = ["transformers", "CLIPTokenizer"]
    if kind == "StableDiffusionPipeline":
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    return index


def _write_unet(folder: Path, config: UNetConfig, state: State, dtype: torch.dtype, extra: Json) -> None:
    published = configs.unet_json(config)
    _write_part(folder, published | extra, configs.differences(config, configs.unet_config(published)), state, DIFFUSION, dtype)


def _write_autoencoder(folder: Path, config: AutoencoderConfig, state: State, dtype: torch.dtype, extra: Json) -> None:
    published = configs.autoencoder_json(config)
    _write_part(folder, published | extra, configs.differences(config, configs.autoencoder_config(published)), state, DIFFUSION, dtype)


def _write_text_encoder(folder: Path, config: TextConfig, state: State, dtype: torch.dtype) -> None:
    published = configs.text_json(config)
    ours = configs.differences(config, configs.text_config(published, config.eos_id, config.pad_id))
    _write_part(folder, published, ours, state, TRANSFORMER, dtype)


def _write_part(folder: Path, config: Json, ours: Json, state: State, stem: str, dtype: torch.dtype) -> None:
    _write_json(folder / "config.json", config | ({"sumi": ours} if ours else {}))
    save(folder / f"{stem}.safetensors", {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()})


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """A new folder for one part, which takes the place of one that held the same and nothing else."""
    if path.is_dir() and any(file.name != "config.json" and file.suffix != ".safetensors" for file in path.iterdir()):
        raise OutputError(f"{path} holds other files: choose a new folder")
    with atomic_folder(path) as folder:
        yield folder


def _read_part(folder: Path, stem: str, build: Callable[[], Network], dtype: torch.dtype) -> Network:
    """A network with its weights: built without memory, then given the file's."""
    with weightless():
        module = _understood(folder / "config.json", build)
    where, tensors = _weights(folder, stem)
    fill(module, {_present_name(name): tensor for name, tensor in tensors.items()}, str(where), dtype)
    return module.eval()


def _present_name(name: str) -> str:
    return BARE_TEXT.sub("text_model.", OLD_ATTENTION.sub(lambda found: f"{found[1]}.{NEW_ATTENTION[found[2]]}.", name))


def _weights(folder: Path, stem: str) -> tuple[Path, dict[str, Tensor]]:
    """The tensors of a part, in one file or in several with an index, and where they were."""
    for name in (f"{stem}.safetensors", f"{stem}.fp16.safetensors"):
        if (folder / name).exists():
            return folder / name, load(folder / name)
    index = folder / f"{stem}.safetensors.index.json"
    if index.exists():
        found = _read_json(index)
        shards = _understood(index, lambda: list(set(found["weight_map"].values())))
        # The index comes with the folder: a name in it must not lead out of the folder.
        if not all(isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*\.safetensors", name) for name in shards):
            raise CheckpointError(f"{index} names files outside of its folder: get the folder from somewhere else")
        return index, {name: tensor for shard in shards for name, tensor in load(folder / shard).items()}
    pickles = [*folder.glob("*.bin"), *folder.glob("*.ckpt"), *folder.glob("*.pt")]
    if pickles:
        raise CheckpointError(f"{pickles[0]} {PICKLE}")
    raise CheckpointError(f"{folder / stem}.safetensors is missing: copy the whole folder again")


def _read_index(path: Path) -> Json:
    return _read_json(path / "model_index.json")


def _is_ours(path: Path) -> bool:
    try:
        return "sumi" in _read_index(path)
    except CheckpointError:
        return False


def _write_json(path: Path, value: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _read_json(path: Path) -> Json:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: check the path, or copy the whole folder again")
    value = _understood(path, lambda: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object: copy it again")
    return value


def _understood(path: Path, parse: Callable[[], T]) -> T:
    """What `parse` makes of a file; whatever it raises becomes one line with the file's name."""
    try:
        return parse()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (*NONSENSE, OSError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} is damaged or not of a Stable Diffusion model ({reason}): copy it again") from error
