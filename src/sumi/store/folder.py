"""A model as a folder, in the layout of Hugging Face, which diffusers and transformers open too.

    model_index.json                  what the parts are
    unet/          config.json        diffusion_pytorch_model.safetensors
    vae/           config.json        diffusion_pytorch_model.safetensors     (vqvae/ with the models of the latent diffusion paper)
    text_encoder/  config.json        model.safetensors                       (text_encoder_2 beside it, where there are two; bert/)
    tokenizer/     vocab.json         merges.txt  tokenizer_config.json  special_tokens_map.json      (tokenizer_2 likewise)
    scheduler/     scheduler_config.json
    image_encoder/     config.json    model.safetensors                       (of unCLIP, with feature_extractor/ for its pictures)
    image_normalizer/  config.json    diffusion_pytorch_model.safetensors     (what unCLIP was told of: mean and deviation)

What the published fields cannot say is in the same files under "sumi". Beside them there may be leftover.safetensors, what a single
file had that no part reads. Nothing is fetched, and nothing in a folder is run.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from sumi.config import AutoencoderConfig, BertConfig, ModelSpec, TextConfig
from sumi.errors import CheckpointError, OutputError
from sumi.models.embedders import takes_image_embedding
from sumi.models.placement import weightless
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.clip import TextEncoder
from sumi.nets.unet import UNet
from sumi.store import configs, schedulers
from sumi.store.checkpoint import atomic_folder, fill, load
from sumi.store.clip_image import vision_json, write_processor
from sumi.store.configs import Json
from sumi.store.described import autoencoder_folder, read_config, read_description, read_index, read_published, read_text_config
from sumi.store.dialects import native_name
from sumi.store.layout import (
    AUTOENCODER_FOLDERS,
    DIFFUSION,
    IMAGE_ENCODER,
    LOW_RES_SCHEDULER,
    NOISING_SCHEDULER,
    PROCESSOR,
    TEXT_FOLDERS,
    TRANSFORMER,
    index,
    places,
    tokenizer_folder,
)
from sumi.store.model import STATISTICS, Model, Parts, State, build, model_of
from sumi.store.tables import read_json, understood, write_json
from sumi.store.weights import TRAINED, read_trained, read_weights, summed, weights_file, write_weights
from sumi.store.writer import Say, write

__all__ = ["Parts"]  # where it was first

LEFTOVER = "leftover.safetensors"
WRITTEN = {"model_index.json", LEFTOVER, STATISTICS, "unet", *AUTOENCODER_FOLDERS, *TEXT_FOLDERS, "tokenizer", "tokenizer_2", "scheduler"}
WRITTEN |= {IMAGE_ENCODER, PROCESSOR, "label_embedding", "map_rescaler", "low_res_scheduler", "image_noising_scheduler"}
"""All that may be in a folder that sumi wrote."""
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
    say = None if say is None else summed(say, [*model.states.values(), model.trained], precision)
    with atomic_folder(path) as folder:
        height, width = (side // spec.factor for side in spec.size)
        sides: dict[str, Json] = {
            "unet": {"sample_size": height if height == width else [height, width]},
            "vae": {"sample_size": max(spec.size)},
        }
        found = places(spec)
        for part, place in found.items():
            published, ours = _part_json(spec, part)
            write_json(folder / place.folder / "config.json", published | sides.get(part, {}) | ({"sumi": ours} if ours else {}))
            write_weights(folder / place.folder, place.stem, model.states[part], variant, shard, precision, say)
        if model.trained:
            write_weights(folder / "unet", DIFFUSION, model.trained, ".".join(filter(None, (variant, TRAINED))), shard, precision, say)
        if spec.vision is not None:
            write_processor(folder, spec.vision)
        readers = [place.folder for place in found.values() if place.folder in TEXT_FOLDERS]
        for reader, words in zip(readers, model.tokenizers, strict=False):
            words.save(folder / tokenizer_folder(reader))
        if STATISTICS in model.states:
            width = model.states[STATISTICS]["mean"].shape[-1]
            write_json(folder / STATISTICS / "config.json", {"_class_name": "StableUnCLIPImageNormalizer", "embedding_dim": width})
            write_weights(folder / STATISTICS, DIFFUSION, model.states[STATISTICS], variant, None, precision, say)
        else:
            table.pop(STATISTICS, None)
        if model.leftover:
            write(folder / LEFTOVER, model.leftover)
        write_json(
            folder / "scheduler" / "scheduler_config.json",
            schedulers.schedule_json(spec.schedule, spec.spacing, spec.sampler, dict(spec.options)),
        )
        for name, noising in (("low_res_scheduler", LOW_RES_SCHEDULER), ("image_noising_scheduler", NOISING_SCHEDULER)):
            if name in table:
                write_json(folder / name / "scheduler_config.json", noising)
        derived, _ = read_published(folder, table)
        write_json(folder / "model_index.json", table | {"sumi": configs.differences(spec, derived)})


def write_autoencoder(path: Path, config: AutoencoderConfig, state: State, dtype: torch.dtype = torch.float32) -> None:
    """Writes the `vae` folder alone, `state` being the network's; OutputError as `write_model`."""
    _write_alone(path, configs.autoencoder_json(config), config, configs.autoencoder_config, state, DIFFUSION, dtype)


def write_text_encoder(path: Path, config: TextConfig, state: State, dtype: torch.dtype = torch.float32) -> None:
    """Writes a `text_encoder` folder alone; reading it takes the `tokenizer` folder beside it (`Tokenizer.save`)."""
    parse = partial(configs.text_config, eos_id=config.eos_id, pad_id=config.pad_id)
    _write_alone(path, configs.text_json(config), config, parse, state, TRANSFORMER, dtype)


def read_folder(path: Path, dtype: torch.dtype = torch.float32) -> tuple[ModelSpec, Parts]:
    """The networks in a folder, their numbers as `dtype`; those that are of it already stay on the disk until they are used.

    CheckpointError, in one line, for whatever is missing, damaged, or not of the family.
    """
    model = read_model(path)
    return model.spec, build(model, dtype)


def read_model(path: Path, *, variant: str | None = None) -> Model:
    """The model in a folder: each part of a variant (`fp16`) if it has that, else as it is, or of whatever variant there is.

    CheckpointError as `read_folder`, and if no part has the variant.
    """
    table = read_index(path)
    spec, tokenizers = read_description(path, table)
    found = {part: (path / place.folder, place.stem) for part, place in places(spec).items()}
    if "vae" in found:
        found["vae"] = (path / autoencoder_folder(path), DIFFUSION)
    if takes_image_embedding(spec) and (path / STATISTICS).is_dir():
        found[STATISTICS] = (path / STATISTICS, DIFFUSION)
    if variant and not any(weights_file(*place, variant) for place in found.values()):
        raise CheckpointError(f"{path} has no weights of the variant {variant}: leave it out, or name another")
    states = {part: _native(read_weights(*place, variant)) for part, place in found.items()}
    notes = []
    if lacking := [name for name in (IMAGE_ENCODER, STATISTICS) if takes_image_embedding(spec) and name not in found]:
        notes.append(f"{path} has no {' and no '.join(lacking)}, without which no picture can be given: copy the whole folder again")
    scheduler = read_json(path / "scheduler" / "scheduler_config.json")
    if "sumi" not in table:  # else the scheduler is what sumi wrote for want of a better one
        notes += [f"{path} asks for {lack}" for lack in schedulers.lacking(scheduler)]
    if spec.autoencoder.identity and scheduler.get("clip_sample", True):
        notes.append(f"{path} is for sampling that keeps to [-1, 1] at each step (clip_sample), which is not done here")
    return Model(
        spec,
        states,
        tokenizers,
        {} if variant == TRAINED else _native(read_trained(path / "unet", variant)),
        load(path / LEFTOVER) if (path / LEFTOVER).is_file() else {},
        "its scheduler's file",
        tuple(notes),
        where=str(path),
    )


def read_unet(path: Path, dtype: torch.dtype = torch.float32) -> UNet:
    """The network of a `unet` folder; CheckpointError as `read_folder`."""
    config = read_config(path, configs.unet_config)
    with weightless():
        unet = understood(path / "config.json", lambda: UNet(config))
    return _filled(unet, path, DIFFUSION, dtype)


def read_autoencoder(path: Path, dtype: torch.dtype = torch.float32) -> Autoencoder:
    """The network of a `vae` folder; CheckpointError as `read_folder`."""
    config = read_config(path, configs.autoencoder_config)
    with weightless():
        autoencoder = understood(path / "config.json", lambda: Autoencoder(config))
    return _filled(autoencoder, path, DIFFUSION, dtype)


def read_text_encoder(path: Path, dtype: torch.dtype = torch.float32) -> TextEncoder:
    """The network of a `text_encoder` folder that has its tokenizer's folder beside it; CheckpointError as `read_folder`."""
    config, _ = read_text_config(path)
    if not isinstance(config, TextConfig):
        raise CheckpointError(f"{path} is not CLIP's: use the text encoder of a Stable Diffusion model")
    with weightless():
        encoder = understood(path / "config.json", lambda: TextEncoder(config))
    return _filled(encoder, path, TRANSFORMER, dtype)


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
        case "image_encoder":
            assert spec.vision is not None
            return vision_json(spec.vision), {}
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
        write_json(folder / "config.json", published | ({"sumi": ours} if ours else {}))
        write_weights(folder, stem, state, None, None, dtype)


def _filled(network: Network, folder: Path, stem: str, dtype: torch.dtype) -> Network:
    fill(network, _native(read_weights(folder, stem)), str(folder), dtype)
    network.eval()
    return network


def _native(tensors: State) -> dict[str, Tensor]:
    return {native_name(name): tensor for name, tensor in tensors.items()}


def _is_ours(path: Path) -> bool:
    """Whether a folder is one that sumi wrote and holds nothing else."""
    try:
        return "sumi" in read_index(path) and {file.name for file in path.iterdir()} <= WRITTEN
    except CheckpointError:
        return False
