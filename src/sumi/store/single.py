"""A model as one file: the layout in which the original projects publish, every part under a prefix (`dialects`)."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sumi.config import BertConfig, ModelSpec, Prediction, TextConfig
from sumi.errors import CheckpointError, OutputError
from sumi.models.embedders import takes_image_embedding
from sumi.models.zoo import ZOO
from sumi.store import checkpoint, configs, detect, dialects, tables
from sumi.store.model import STATISTICS, Model, Words, check
from sumi.store.pickled import reader
from sumi.store.pickled.reader import Form
from sumi.store.vocabulary import bert_tokenizer, clip_tokenizer
from sumi.store.writer import Say, write
from sumi.text.bpe import Tokenizer, vocabulary

MARK = f"{detect.UNET}input_blocks.0.0.weight"
PUBLISHED = {"eps": "epsilon", "v": "v", "x0": "sample"}
OURS = "sumi"
"""The metadata under which a model of no published variant is described."""
BERT_WORDS = BertConfig.vocab_size
AUGMENTOR = {"mean": "noise_augmentor.data_mean", "std": "noise_augmentor.data_std"}
VAE = "vae."
"""What some repackaged files call the autoencoder."""
UNSCALED = 1024
"""Width of OpenCLIP ViT-H's embeddings, which unCLIP noises as they are: no file has their statistics."""


def describe(path: Path) -> tuple[dict[str, Form], dict[str, object]]:
    """Kind and shape of each tensor of a file, and what the file and the .yaml beside it say; no numbers are read."""
    forms = checkpoint.describe(path)
    says: dict[str, object] = dict(reader.values(path) if reader.is_pickle(path) else checkpoint.metadata(path))
    yaml = path.with_suffix(".yaml")
    if yaml.is_file() and yaml.stat().st_size < 1 << 20:
        says["yaml"] = yaml.read_text(encoding="utf-8", errors="replace")
    usual = _usual_names(forms)
    return {usual[name]: form for name, form in forms.items()}, says


def identify(
    path: Path,
    forms: Mapping[str, Form],
    says: Mapping[str, object],
    *,
    prediction: Prediction | None = None,
    specs: Iterable[ModelSpec] = ZOO.values(),
) -> detect.Found:
    """What the model in a described file is: as the file says if sumi wrote it, else the one of `specs` that it can be.

    CheckpointError as `detect.identify`.
    """
    own, shapes = _own(says, path), {name: shape for name, (_, shape) in forms.items()}
    return detect.identify(shapes, says, str(path), prediction=prediction, specs=specs if own is None else [own.spec])


def read_single(
    path: Path,
    *,
    ema: bool = True,
    prediction: Prediction | None = None,
    download: bool = False,
    specs: Iterable[ModelSpec] = ZOO.values(),
) -> Model:
    """The model in a .safetensors, .ckpt or other file of the original layout.

    ema: take the weights that were averaged over training, where the file has them, as the original projects do. prediction: what
    the network predicts, for files that do not say. download: get a vocabulary that is not on this machine. `specs` are the models
    that it may be one of. CheckpointError, in one line, for whatever the file is not, or lacks.
    """
    forms, says = describe(path)
    found = identify(path, forms, says, prediction=prediction, specs=specs)
    tensors = _load(path)
    spec, used = _scaled(found.spec, tensors), set[str]()
    states: dict[str, dict[str, Tensor]] = {}
    called: dict[str, dict[str, str]] = {}
    for part in (part for part in dialects.parts(spec) if part.rules):
        own = {name.removeprefix(part.prefix): tensor for name, tensor in tensors.items() if name.startswith(part.prefix)}
        states[part.name] = dialects.to_native(part.rules, own)
        called[part.name] = {name: part.prefix + rule.original for rule in part.rules for name in rule.native}
        used |= {part.prefix + name for rule in part.rules for name in (rule.original, *rule.aliases)}
    if statistics := _statistics(spec, tensors):
        states[STATISTICS] = statistics
        used |= set(AUGMENTOR.values())
    trained: dict[str, Tensor] = {}
    if ema and found.ema:
        part = dialects.parts(spec)[0]
        trained, states["unet"] = states["unet"], dialects.to_native(part.rules, _averages(part, tensors, path))
        used |= {dialects.ema_name(part.prefix + rule.original) for rule in part.rules}
    leftover = {name: tensor for name, tensor in tensors.items() if name not in used}
    unknown = [name for name in leftover if not detect.ignorable(name)]
    notes = []
    if unknown:
        some = f"{', '.join(unknown[:5])}{' ...' * (len(unknown) > 5)}"
        notes.append(f"{path} has {len(unknown)} tensors that belong to no part of {spec.name}: {some}")
    lacking = [] if statistics else [*AUGMENTOR.values()]
    lacking += [] if spec.vision is not None else [f"{dialects.VISION}*"]
    if takes_image_embedding(spec) and lacking:
        notes.append(f"{path} does not hold {' and '.join(lacking)}, without which no picture can be given: use a folder of it")
    model = Model(
        spec,
        states,
        tokenizers(spec, path, says, download=download),
        trained,
        leftover,
        found.known_by,
        tuple(notes),
        str(path),
    )
    return check(model, called)


def write_single(path: Path, model: Model, *, precision: torch.dtype | None = None, say: Say | None = None) -> None:
    """Writes a model as one .safetensors file, whole or not at all; what is left over of the file that it came from goes along.

    precision: of the fractions, None for that which each has. say: told of the progress. OutputError if it cannot be written.
    """
    if path.suffix != ".safetensors":
        raise OutputError(
            f"models are written as safetensors, which hold numbers and nothing that runs: name the file {path.with_suffix('.safetensors')}"
        )
    tensors: dict[str, Tensor] = {}
    for part in dialects.parts(model.spec):
        tensors |= {
            part.prefix + name: tensor for name, tensor in dialects.to_original(part.rules, model.states.get(part.name, {})).items()
        }
    if model.trained:
        part = dialects.parts(model.spec)[0]
        tensors |= {dialects.ema_name(name): tensors[name] for name in tensors if name.startswith(part.prefix)}
        tensors |= {part.prefix + name: tensor for name, tensor in dialects.to_original(part.rules, model.trained).items()}
    if not _unscaled(statistics := model.states.get(STATISTICS, {})):
        tensors |= {AUGMENTOR[name]: tensor for name, tensor in statistics.items()}
    tensors |= model.leftover
    says = {"modelspec.prediction_type": PUBLISHED[model.spec.schedule.prediction], "modelspec.title": model.spec.name}
    if model.spec not in ZOO.values():
        says[OURS] = json.dumps({"spec": configs.whole_json(model.spec), "words": _words_json(model.tokenizers)})
    # Buffers are not weights: a scale in half the precision is another scale.
    weights = (detect.EMA, *(part.prefix for part in dialects.parts(model.spec)))
    kept = {name for name, tensor in model.leftover.items() if tensor.ndim == 0 or not name.startswith(weights)}
    write(path, tensors, says, precision=precision, kept=kept, say=say)


def write_part(path: Path, model: Model, name: str, *, precision: torch.dtype | None = None, say: Say | None = None) -> None:
    """Writes one part of a model alone, by its original names without prefix, as autoencoders are passed around."""
    found = [part for part in dialects.parts(model.spec) if part.name == name]
    if not found or not found[0].rules:
        raise OutputError(f"{model.spec.name} has no part {name!r}: it has {', '.join(model.states)}")
    write(path, dialects.to_original(found[0].rules, model.states[name]), precision=precision, say=say)


def read_part(path: Path, name: str, spec: ModelSpec) -> dict[str, Tensor]:
    """One part of a spec, by native names, out of a file that holds it alone or among others; CheckpointError as `read_single`."""
    tensors = _load(path)
    (part,) = (part for part in dialects.parts(spec) if part.name == name)
    first = part.rules[0].original
    prefix = next((prefix for prefix in (part.prefix, *detect.AUTOENCODER_PREFIXES) if prefix + first in tensors), None)
    if prefix is None:
        raise CheckpointError(f"{path} holds no {name} of {spec.name}: none of its tensors is called {part.prefix}{first} or {first}")
    own = {each.removeprefix(prefix): tensor for each, tensor in tensors.items() if each.startswith(prefix)}
    return dialects.to_native(part.rules, own)


def _load(path: Path) -> dict[str, Tensor]:
    tensors = checkpoint.load(path)
    usual = _usual_names(tensors)
    return {usual[name]: tensor for name, tensor in tensors.items()}


def _usual_names(names: Collection[str]) -> dict[str, str]:
    """What the original projects would call each tensor: outside of any table, the autoencoder by its long name."""
    inside = _inside(names)
    short = not any(name.startswith(inside + detect.AUTOENCODER) for name in names)
    found = {name: name.removeprefix(inside) for name in names}
    if short:
        found |= {name: detect.AUTOENCODER + usual[len(VAE) :] for name, usual in found.items() if usual.startswith(VAE)}
    return found


def _inside(names: Iterable[str]) -> str:
    """What the names of a checkpoint's tensors begin with when it keeps them in a table of their own, or in one within another."""
    return next((name.removesuffix(MARK) for name in names if name.endswith("." + MARK)), "") or next(
        (prefix for prefix in ("state_dict.state_dict.", "state_dict.") if any(name.startswith(prefix) for name in names)), ""
    )


def _scaled(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> ModelSpec:
    """The spec with the scale of its latents where the file has it: it was measured at the start of the model's training."""
    if (scale := tensors.get("scale_factor")) is None or scale.numel() != 1 or spec.autoencoder.identity:
        return spec
    return replace(spec, autoencoder=replace(spec.autoencoder, latent_scale=float(scale)))


def _statistics(spec: ModelSpec, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mean and deviation of the embeddings that a model is told of (unCLIP), as far as they are known."""
    if not takes_image_embedding(spec) or spec.unet.vector_width is None:
        return {}
    if all(name in tensors for name in AUGMENTOR.values()):
        return {name: tensors[original] for name, original in AUGMENTOR.items()}
    width = spec.unet.vector_width // 2
    return {"mean": torch.zeros(1, width), "std": torch.ones(1, width)} if width == UNSCALED else {}


def _unscaled(statistics: Mapping[str, Tensor]) -> bool:
    return not statistics or (
        statistics["mean"].shape[-1] == UNSCALED and not statistics["mean"].any() and bool((statistics["std"] == 1).all())
    )


def _averages(part: dialects.Part, tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The averaged weights of a U-Net, by original names without prefix."""
    names = {rule.original: dialects.ema_name(part.prefix + rule.original) for rule in part.rules}
    if missing := [name for name in names.values() if name not in tensors]:
        raise CheckpointError(
            f"{path} has averaged weights (EMA), but {len(missing)} are missing, {missing[0]} first: leave them alone with --no-ema"
        )
    return {name: tensors[average] for name, average in names.items()}


@dataclass(frozen=True)
class _Own:
    """What a file that sumi wrote of an unpublished model says of it, since no table does."""

    spec: ModelSpec
    tokenizers: tuple[Words, ...]


def _own(says: Mapping[str, object], path: Path) -> _Own | None:
    if OURS not in says:
        return None
    try:
        table = json.loads(str(says[OURS]))
        spec = configs.whole_config(table["spec"])
        tokenizers = tuple(_words(each) for each in table["words"])
        if not isinstance(spec, ModelSpec):
            raise ValueError("it is of something else")
    except (*tables.NONSENSE, RecursionError) as error:
        raise CheckpointError(f"{path} describes its model in a way that cannot be read ({error}): write it again") from error
    return _Own(spec, tokenizers)


def _words_json(tokenizers: tuple[Words, ...]) -> list[dict[str, object]]:
    """Vocabularies of words, which are nobody's but the model's; none if they are CLIP's or BERT's."""
    own = [words for words in tokenizers if isinstance(words, Tokenizer) and len(words.vocab) < TextConfig.vocab_size]
    if len(own) < len(tokenizers):
        return []
    return [{"merges": [" ".join(pair) for pair in each.merges], "length": each.length, "pad_id": each.pad_id} for each in own]


def _words(table: Mapping[str, Any]) -> Tokenizer:
    merges = [(left, right) for left, right in (pair.split(" ") for pair in table["merges"])]
    return Tokenizer(vocabulary(merges), merges, int(table["length"]), int(table["pad_id"]))


def tokenizers(spec: ModelSpec, path: Path, says: Mapping[str, object], *, download: bool = False) -> tuple[Words, ...]:
    """Those of a described file: its own, else by the vocabularies on this machine. CheckpointError as `read_single`."""
    own = _own(says, path)
    if own is not None and own.tokenizers:
        return own.tokenizers
    found: list[Words] = []
    for text in (spec.text, spec.text_2):
        match text:
            case TextConfig():
                found.append(clip_tokenizer(path.parent, pad_id=text.pad_id, length=text.length, download=download))
            case BertConfig(vocab_size=size) if size == BERT_WORDS:  # the layout model's reads boxes, not words
                found.append(bert_tokenizer(path.parent, length=text.length, download=download))
    return tuple(found)
