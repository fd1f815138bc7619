"""A model as files hold it, before and after it is one that runs: its spec, the tensors of each part, its tokenizers.

Every reader gives a `Model` and every writer takes one, so that a file turns into a folder and back without a network being
built, and tensor for tensor the same.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from sumi.config import BertConfig, ModelSpec, TextConfig
from sumi.errors import CheckpointError
from sumi.models.placement import weightless
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.bert import BertEncoder
from sumi.nets.clip import TextEncoder, VisionEncoder
from sumi.nets.conditioners import LabelEmbedding, MapRescaler
from sumi.nets.unet import UNet
from sumi.store.checkpoint import fill, noted
from sumi.text.bpe import Tokenizer
from sumi.text.wordpiece import WordPiece

State: TypeAlias = Mapping[str, Tensor]
Words: TypeAlias = Tokenizer | WordPiece
TEXTS = ("text_encoder", "text_encoder_2", "bert")
STATISTICS = "image_normalizer"
"""The part that is no network: mean and deviation [1 E] of CLIP's embeddings, without which unCLIP takes no picture."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The networks of a model, and a tokenizer for each text encoder that reads words."""

    unet: UNet
    autoencoder: Autoencoder
    text_encoders: tuple[TextEncoder | BertEncoder, ...] = ()
    tokenizers: tuple[Words, ...] = ()
    label: LabelEmbedding | None = None
    map: MapRescaler | None = None
    vision: VisionEncoder | None = None
    embeddings: tuple[Tensor, Tensor] | None = None
    """Mean and deviation [E] of the embeddings of pictures in training (unCLIP)."""

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        others = (part for part in (self.label, self.map, self.vision) if part is not None)
        return (self.unet, self.autoencoder, *self.text_encoders, *others)


@dataclass(frozen=True, eq=False)
class Model:
    """What is in the files of a model. Tensors are mapped from the disk: they take memory only when they are used."""

    spec: ModelSpec
    states: dict[str, dict[str, Tensor]]
    """By part (the keys of `expected`, and `STATISTICS` where there are any), then by native name."""
    tokenizers: tuple[Words, ...] = ()
    trained: dict[str, Tensor] = field(default_factory=dict)
    """The U-Net's weights as training left them, where `states` has their average over training."""
    leftover: dict[str, Tensor] = field(default_factory=dict)
    """Tensors of a single file that no part reads, by their names there: what is needed to write that file again."""
    known_by: str = "its configuration"
    """How it is known what the network predicts, for people to read."""
    notes: tuple[str, ...] = ()
    """What the reader should be told: tensors that belong to nothing, and the like; one line each."""
    where: str = "the model"


def expected(spec: ModelSpec) -> dict[str, nn.Module]:
    """The networks of a spec by the name of their part, without memory: their names, shapes and numbers of parameters."""
    with weightless():
        found: dict[str, nn.Module] = {"unet": UNet(spec.unet)}
        if not spec.autoencoder.identity:
            found["vae"] = Autoencoder(spec.autoencoder)
        for name, text in zip(TEXTS, (spec.text, spec.text_2), strict=False):
            match text:
                case TextConfig():
                    found[name] = TextEncoder(text)
                case BertConfig():
                    found["bert"] = BertEncoder(text)
        if spec.label is not None:
            found["label_embedding"] = LabelEmbedding(spec.label)
        if spec.map is not None:
            found["map_rescaler"] = MapRescaler(spec.map)
        if spec.vision is not None:
            found["image_encoder"] = VisionEncoder(spec.vision)
    return found


def _expected(model: Model) -> dict[str, nn.Module]:
    """As `expected`; CheckpointError where a description from a file describes nothing possible."""
    try:
        return expected(model.spec)
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{model.where} describes no network that there can be ({error}): copy it again") from error


def build(model: Model, dtype: torch.dtype = torch.float32) -> Parts:
    """The networks, their numbers as `dtype`; those that are of it already stay on the disk until they are used.

    CheckpointError that names what is missing, not known, or of another shape, or if there can be no such network.
    """
    networks = _expected(model)
    _check_embedding(model)
    for name, network in networks.items():
        fill(network, model.states.get(name, {}), f"{model.where}, its {name},", dtype)
    return replace(_parts(model.spec, networks, model.tokenizers), embeddings=_statistics(model))


def model_of(spec: ModelSpec, parts: Parts) -> Model:
    """The reverse of `build`. ValueError if the networks are not those that the spec describes."""
    texts = tuple(text for text in (spec.text, spec.text_2) if text is not None)
    if (parts.unet.config, parts.autoencoder.config, tuple(text.config for text in parts.text_encoders)) != (
        spec.unet,
        spec.autoencoder,
        texts,
    ):
        raise ValueError("the networks are not those that the spec describes")
    given = iter(parts.text_encoders)
    owners: dict[str, nn.Module | None] = {
        "unet": parts.unet,
        "vae": parts.autoencoder,
        "label_embedding": parts.label,
        "map_rescaler": parts.map,
        "image_encoder": parts.vision,
    }
    networks = {name: owners[name] if name in owners else next(given) for name in expected(spec)}
    if missing := [name for name, network in networks.items() if network is None]:
        raise ValueError(f"the spec describes a {missing[0]} that is not there")
    ids = [(words.length, words.eos_id, words.pad_id) for words in parts.tokenizers]
    wanted = [(text.length, text.eos_id, text.pad_id) for text in texts if isinstance(text, TextConfig)]
    if wanted and ids != wanted:
        raise ValueError("the tokenizers are not those that the spec describes")
    states = {name: dict(network.state_dict()) for name, network in networks.items() if network is not None}
    if parts.embeddings is not None:
        states[STATISTICS] = dict(zip(("mean", "std"), (tensor[None] for tensor in parts.embeddings), strict=True))
    return Model(spec, states, parts.tokenizers)


def misfits(model: Model, names: Mapping[str, Mapping[str, str]] | None = None, only: str | None = None) -> dict[str, list[str]]:
    """Names that are missing, unexpected or of another shape, of all parts or one; `names` are those to say, by part and native name."""
    found: dict[str, list[str]] = {"missing": [], "unexpected": [], "of another shape": []}
    for part, network in _expected(model).items():
        if only not in (None, part):
            continue
        wanted, given, said = network.state_dict(), model.states.get(part, {}), (names or {}).get(part, {})
        call = partial(_called, part, said)
        found["missing"] += [call(name) for name in wanted if name not in given]
        found["unexpected"] += [call(name) for name in given if name not in wanted and not name.endswith("position_ids")]
        found["of another shape"] += [
            f"{call(name)} {list(given[name].shape)} for {list(tensor.shape)}"
            for name, tensor in wanted.items()
            if name in given and given[name].shape != tensor.shape
        ]
    return {kind: found_names for kind, found_names in found.items() if found_names}


def check(model: Model, names: Mapping[str, Mapping[str, str]] | None = None, only: str | None = None) -> Model:
    """The same model. CheckpointError, in one line and with all names in its notes, if a tensor is missing or does not fit."""
    if found := misfits(model, names, only):
        told = "; ".join(f"{len(each)} {kind}: {', '.join(each[:5])}{' ...' if len(each) > 5 else ''}" for kind, each in found.items())
        raise noted(CheckpointError(f"{model.where} does not fit {model.spec.name}: {told}; use the weights of one model"), found)
    return model


def _called(part: str, names: Mapping[str, str], name: str) -> str:
    return names.get(name, f"{part}.{name}")


def _check_embedding(model: Model) -> None:
    """CheckpointError if the image encoder makes another embedding than the U-Net is told."""
    vision, width = model.spec.vision, (model.spec.unet.vector_width or 0) // 2
    if vision is not None and vision.projection_width != width:
        raise CheckpointError(
            f"{model.where} has an image encoder of {vision.projection_width} numbers for a U-Net that is told {width}: "
            "use the parts of one model"
        )


def _statistics(model: Model) -> tuple[Tensor, Tensor] | None:
    state = model.states.get(STATISTICS)
    if state is None:
        return None
    shapes, width = {name: tuple(tensor.shape) for name, tensor in state.items()}, (model.spec.unet.vector_width or 0) // 2
    if shapes != {"mean": (1, width), "std": (1, width)}:
        raise CheckpointError(f"{model.where}, its {STATISTICS}, should hold mean and std of {width} numbers each: copy it again")
    return state["mean"][0].float(), state["std"][0].float()


def _parts(spec: ModelSpec, networks: Mapping[str, nn.Module], tokenizers: tuple[Words, ...]) -> Parts:
    unet, autoencoder = networks["unet"], networks.get("vae", Autoencoder(spec.autoencoder) if spec.autoencoder.identity else None)
    texts = tuple(networks[name] for name in ("text_encoder", "bert", "text_encoder_2") if name in networks)
    label, rescaler, eyes = (networks.get(name) for name in ("label_embedding", "map_rescaler", "image_encoder"))
    assert isinstance(unet, UNet) and isinstance(autoencoder, Autoencoder)
    assert label is None or isinstance(label, LabelEmbedding)
    assert rescaler is None or isinstance(rescaler, MapRescaler)
    assert eyes is None or isinstance(eyes, VisionEncoder)
    encoders = tuple(text.eval() for text in texts if isinstance(text, TextEncoder | BertEncoder))
    return Parts(unet.eval(), autoencoder.eval(), encoders, tokenizers, label, rescaler, None if eyes is None else eyes.eval())
