"""A model as a folder, in the layout of Hugging Face, which diffusers and transformers open too.

    model_index.json                  what the parts are; under "sumi" the settings that have no place elsewhere
    unet/          config.json        diffusion_pytorch_model.safetensors
    vae/           config.json        diffusion_pytorch_model.safetensors
    text_encoder/  config.json        model.safetensors                       (text_encoder_2 beside it, where there are two)
    tokenizer/     vocab.json         merges.txt  tokenizer_config.json  special_tokens_map.json      (tokenizer_2 likewise)
    scheduler/     scheduler_config.json

Nothing is fetched, and nothing in a folder is run.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from sumi.config import ModelSpec, TextConfig
from sumi.errors import CheckpointError, OutputError
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
# What comes of reading a description that describes nothing possible.
NONSENSE = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)

T = TypeVar("T")
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
        _write_part(folder / "unet", configs.unet_json(spec.unet) | sides, parts.unet, DIFFUSION, dtype)
        vae = configs.autoencoder_json(spec.autoencoder) | {"sample_size": max(spec.size)}
        _write_part(folder / "vae", vae, parts.autoencoder, DIFFUSION, dtype)
        for suffix, encoder, tokenizer in zip(("", "_2"), parts.text_encoders, parts.tokenizers, strict=False):
            _write_part(folder / f"text_encoder{suffix}", configs.text_json(encoder.config), encoder, TRANSFORMER, dtype)
            tokenizer.save(folder / f"tokenizer{suffix}")
        _write_json(folder / "scheduler" / "scheduler_config.json", configs.schedule_json(spec.schedule, spec.spacing))
        published, _ = _published(folder)
        _write_json(folder / "model_index.json", _index(spec) | {"sumi": configs.differences(spec, published)})


def read_spec(path: Path) -> ModelSpec:
    """What the model in a folder is, without its weights; CheckpointError as `read_folder`."""
    return _described(path)[0]


def read_folder(path: Path, dtype: torch.dtype = torch.float32) -> tuple[ModelSpec, Parts]:
    """The model in a folder, its numbers as `dtype`; those that are of it already stay on the disk until they are used.

    CheckpointError, in one line, for whatever is missing, damaged, or not of the family.
    """
    spec, tokenizers = _described(path)
    return spec, Parts(
        _read_part(path / "unet", DIFFUSION, lambda: UNet(spec.unet), dtype),
        _read_part(path / "vae", DIFFUSION, lambda: Autoencoder(spec.autoencoder), dtype),
        tuple(_read_text_encoder(path / folder, config, dtype) for folder, config in zip(_text_folders(path), _texts(spec), strict=True)),
        tokenizers,
    )


def _described(path: Path) -> tuple[ModelSpec, tuple[Tokenizer, ...]]:
    """The spec that a folder's files describe, sumi's own settings among them, and the tokenizers."""
    index = _read_index(path)
    spec, tokenizers = _published(path)
    where = path / "model_index.json"
    spec = _understood(where, lambda: configs.amended(spec, index.get("sumi", {})))
    if len(_texts(spec)) != len(tokenizers):
        raise CheckpointError(f"{where} and the folder do not have the same text encoders: copy the whole folder again")
    return spec, tokenizers


def _published(path: Path) -> tuple[ModelSpec, tuple[Tokenizer, ...]]:
    """The spec as far as diffusers' and transformers' files give it, and the tokenizers."""
    unet_file, scheduler_file = path / "unet" / "config.json", path / "scheduler" / "scheduler_config.json"
    unet_json, scheduler = _read_json(unet_file), _read_json(scheduler_file)
    unet = _understood(unet_file, lambda: configs.unet_config(unet_json))
    autoencoder = _parsed(path / "vae" / "config.json", configs.autoencoder_config)
    schedule = _understood(scheduler_file, lambda: configs.schedule_config(scheduler))
    texts, tokenizers = [], []
    for folder in _text_folders(path):
        tokenizer = Tokenizer.from_folder(path / folder.replace("text_encoder", "tokenizer"))
        text = _parsed(path / folder / "config.json", partial(configs.text_config, eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id))
        if max(tokenizer.vocab.values()) >= text.vocab_size or tokenizer.length > text.length:
            raise CheckpointError(f"{path / folder} and its tokenizer are not of one model: copy the whole folder again")
        tokenizers.append(tokenizer)
        if unet.vector_width is not None and unet.vector_name == "add_embedding":  # SDXL reads an earlier layer
            text = replace(text, output_layer=-2, final_norm=False)
        texts.append(text)
    side = unet_json.get("sample_size") or ModelSpec.size[0] // autoencoder.factor
    sides = side if isinstance(side, list) else [side, side]
    sampler, spacing = configs.sampler_and_spacing(scheduler)
    spec = ModelSpec(
        name=path.resolve().name,
        unet=unet,
        autoencoder=autoencoder,
        text=texts[0] if texts else None,
        text_2=texts[1] if len(texts) > 1 else None,
        schedule=schedule,
        size=_understood(unet_file, lambda: (sides[0] * autoencoder.factor, sides[1] * autoencoder.factor)),
        sampler=sampler,
        spacing=spacing,
    )
    return _understood(unet_file, lambda: configs.amended(spec, {})), tuple(tokenizers)


def _texts(spec: ModelSpec) -> tuple[TextConfig, ...]:
    return tuple(text for text in (spec.text, spec.text_2) if text is not None)


def _text_folders(path: Path) -> list[str]:
    """SDXL's refiner has only the second."""
    return [name for name in ("text_encoder", "text_encoder_2") if (path / name).is_dir()]


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


def _write_part(folder: Path, config: Json, module: nn.Module, stem: str, dtype: torch.dtype) -> None:
    _write_json(folder / "config.json", config)
    state = module.state_dict()
    save(folder / f"{stem}.safetensors", {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()})


def _read_part(folder: Path, stem: str, build: Callable[[], Network], dtype: torch.dtype) -> Network:
    """A network with its weights: built without memory, then given the file's."""
    with torch.device("meta"):
        module = _understood(folder / "config.json", build)
    where, tensors = _weights(folder, stem)
    renamed = {OLD_ATTENTION.sub(lambda m: f"{m[1]}.{NEW_ATTENTION[m[2]]}.", name): tensor for name, tensor in tensors.items()}
    fill(module, renamed, str(where), dtype)
    return module.eval()


def _read_text_encoder(folder: Path, config: TextConfig, dtype: torch.dtype) -> TextEncoder:
    return _read_part(folder, TRANSFORMER, lambda: TextEncoder(config), dtype)


def _weights(folder: Path, stem: str) -> tuple[Path, dict[str, Tensor]]:
    """The tensors of a part, in one file or in several with an index, and where they were."""
    for name in (f"{stem}.safetensors", f"{stem}.fp16.safetensors"):
        if (folder / name).exists():
            return folder / name, load(folder / name)
    index = folder / f"{stem}.safetensors.index.json"
    if index.exists():
        shards = _parsed(index, lambda found: sorted(set(found["weight_map"].values())))
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


def _parsed(path: Path, parse: Callable[[Json], T]) -> T:
    found = _read_json(path)
    return _understood(path, lambda: parse(found))


def _understood(path: Path, parse: Callable[[], T]) -> T:
    """What `parse` makes of a file; whatever it raises becomes one line with the file's name."""
    try:
        return parse()
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (*NONSENSE, OSError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} is damaged or not of a Stable Diffusion model ({reason}): copy it again") from error
