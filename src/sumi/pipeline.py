"""A request to pictures, as a stream of events: progress, preview and cancelling are the caller's `for` loop."""

import secrets
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from sumi.config import BertConfig, Concat, ModelSpec, Prediction
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.guidance import cfg, unguided
from sumi.diffusion.noise import Noise
from sumi.diffusion.samplers.step import finish, start
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.diffusion.schedule import Schedule
from sumi.diffusion.spacings import SPACINGS, spaced
from sumi.errors import ModelWarning, RequestError
from sumi.models.channels import Segmentation
from sumi.models.embedders import ImageEmbedding, Label, Notice, Prompt, takes_image_embedding
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.placement import batch_size, choose, place, weightless
from sumi.nets.unet import UNet
from sumi.request import Request, did_you_mean
from sumi.store.anything import open_model
from sumi.store.images import save_png, to_pil
from sumi.store.layout import reads_words
from sumi.store.model import Parts, build

if TYPE_CHECKING:
    from PIL.Image import Image

CHANNELS: dict[Concat, str] = {
    "mask": "a mask",
    "masked_image": "a picture to fill in",
    "image": "a picture to change",
    "low_res": "a picture to enlarge",
    "depth": "a depth map",
    "map": "a map of classes",
}
SHIPPED = Path(str(files("sumi"))) / "weights" / "sumi-shapes"


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture and what makes it again."""

    image: "Image"
    request: Request
    """Of this picture alone: its `first` is the picture's number and its `count` is 1. Nothing in it is left open."""
    latent: Tensor
    """[C h w], float32."""

    def save(self, path: str | Path) -> None:
        """Writes a PNG, whole or not at all, that carries the request in a text chunk named sumi. OutputError if it cannot."""
        save_png(self.image, Path(path), {"sumi": self.request.to_json()})


@dataclass(frozen=True)
class Encoded:
    """The prompt is read. `request` has every default filled in; `notices` say what the model could not take as it was meant."""

    request: Request
    notices: tuple[Notice, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """A sampling step is done: number `index` of `total`, from 1, for the pictures numbered `images`, which share a batch.

    `sigma` [] is the noise level of the state `x` [B C h w]; `denoised` [B C h w] is the latent that the model expects.
    """

    index: int
    total: int
    images: range
    sigma: Tensor
    x: Tensor
    denoised: Tensor


@dataclass(frozen=True)
class Decoded:
    """The pictures of one batch."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Finished:
    """Every picture of the request, in order."""

    pictures: tuple[Picture, ...]


T = TypeVar("T")
Event: TypeAlias = Encoded | Step | Decoded | Finished


def load(
    path: str | Path | None = None,
    *,
    device: str | None = None,
    precision: str | None = None,
    ema: bool = True,
    prediction: Prediction | None = None,
    variant: str | None = None,
    revision: str | None = None,
    download: bool = False,
) -> LatentDiffusion:
    """The model that a path, a name in the user's model folders or the id of a repository stands for, ready to run.

    By default the one that comes with sumi. `device` is one of PyTorch's names, `precision` is float32, bfloat16 or float16; None:
    what is fastest for this model on this hardware and leaves its pictures as they are. `ema`: take averaged weights where a file
    has them. `prediction` is eps, v or x0, for files that do not say. `variant` and `revision`: which files of a folder (fp16), which
    state of a repository. `download`: get a vocabulary that is not on this machine.

    CheckpointError or another SumiError, in one line, if the model or the device cannot be used; ModelWarning for what a file
    holds that is no part of the model.
    """
    model = open_model(
        SHIPPED if path is None else path, ema=ema, prediction=prediction, variant=variant, revision=revision, download=download
    )
    for note in model.notes:
        warnings.warn(note, ModelWarning, stacklevel=2)
    with weightless():
        parameters = sum(weight.numel() for weight in UNet(model.spec.unet).parameters())
    where, dtype = choose(parameters, device, precision)
    parts = build(model, dtype)
    place(parts.networks, where, dtype)
    return assemble(model.spec, parts)


def assemble(spec: ModelSpec, parts: Parts) -> LatentDiffusion:
    """The model that a spec describes, of parts that are in their place."""
    return LatentDiffusion(
        spec,
        parts.unet,
        parts.autoencoder,
        _prompt(spec, parts),
        Schedule(spec.schedule),
        label=None if parts.label is None else Label(parts.label),
        segmentation=None if parts.map is None else Segmentation(parts.map),
        image_embedding=None if parts.embeddings is None else ImageEmbedding(*parts.embeddings),
    )


def _prompt(spec: ModelSpec, parts: Parts) -> Prompt | None:
    """The reader of words; None without a tokenizer: boxes, too, are read by a text encoder."""
    context, vector = spec.unet.context_width is not None, spec.unet.vector_width is not None and not takes_image_embedding(spec)
    readers = list(zip(parts.tokenizers, parts.text_encoders, strict=False))
    if len(readers) < 2:
        return Prompt(*readers[0], context=context, vector=vector, zero_null=spec.zero_null) if readers else None
    second = Prompt(*readers[1], context=context, vector=vector)
    return Prompt(*readers[0], context=context, second=second, zero_null=spec.zero_null)


def resolve(request: Request, spec: ModelSpec) -> Request:
    """The request with the model's defaults filled in and a seed drawn if there is none.

    RequestError if a model of this spec cannot serve it.
    """
    _serves(spec, request)
    sampler, spacing = _or(request.sampler, spec.sampler), _or(request.spacing, spec.spacing)
    for kind, name, known in (("sampler", sampler, list(SAMPLERS)), ("spacing", spacing, list(SPACINGS))):
        if name not in known:
            raise RequestError(f"there is no {kind} {name!r}{did_you_mean(name, known)}: use {', '.join(known)}")
    options = SAMPLERS[sampler].options
    if request.eta is not None and "eta" not in options:
        takers = [name for name, row in SAMPLERS.items() if "eta" in row.options]
        raise RequestError(f"sampler {sampler} takes no eta: leave it out, or use {' or '.join(takers)}")
    steps, (height, width) = _or(request.steps, spec.steps), spec.size
    if steps > spec.schedule.steps:
        raise RequestError(f"steps must be at most the {spec.schedule.steps} of this model's training; got {steps}")
    return replace(
        request,
        seed=secrets.randbits(32) if request.seed is None else request.seed,
        steps=steps,
        guidance=_or(request.guidance, spec.guidance),
        sampler=sampler,
        spacing=spacing,
        eta=_or(request.eta, options.get("eta")),
        height=_side("height", _or(request.height, height), spec.multiple),
        width=_side("width", _or(request.width, width), spec.multiple),
    )


@torch.inference_mode()
def stream(model: LatentDiffusion, request: Request) -> Iterator[Event]:
    """Makes the pictures of a request: Encoded; Steps and Decoded, a batch at a time; Finished.

    Runs no further than the caller asks. Which batch a picture is in changes nothing but float rounding, for its noise
    depends on the seed and its number alone. RequestError if the model cannot serve the request.
    """
    request = resolve(request, model.spec)
    size = _size(request)
    given, away = model.encode([request.prompt], size), model.encode([request.negative], size, away=True)
    yield Encoded(request, _notices(model, (request.prompt, request.negative)))
    done: list[Picture] = []
    for images in _batches(model, request, request.count):
        count = len(images)
        for event in _batch(model, request, images, [request.prompt] * count, given.repeat(count), away.repeat(count)):
            yield event
            if isinstance(event, Decoded):
                done += event.pictures
    yield Finished(tuple(done))


def generate(model: LatentDiffusion, request: Request | None = None, **fields: Any) -> list[Picture]:
    """The pictures of a request, given whole or as its fields, or both: `fields` change it. RequestError as in `stream`."""
    request = replace(request or Request(), **fields)
    return [picture for event in stream(model, request) if isinstance(event, Decoded) for picture in event.pictures]


@torch.inference_mode()
def illustrate(model: LatentDiffusion, prompts: Sequence[str], request: Request | None = None, **fields: Any) -> Iterator[Picture]:
    """One picture for each prompt, in order, many prompts in a batch: what measuring a model takes.

    Prompt k gives picture `first` + k of the request, whose own prompt and count play no part; RequestError as in `stream`.
    """
    request = resolve(replace(request or Request(), **fields), model.spec)
    size = _size(request)
    away = model.encode([request.negative], size, away=True)
    for images in _batches(model, request, len(prompts)):
        texts = prompts[images[0] - request.first : images[-1] + 1 - request.first]
        for event in _batch(model, request, images, texts, model.encode(texts, size), away.repeat(len(texts))):
            if isinstance(event, Decoded):
                yield from event.pictures


def _batches(model: LatentDiffusion, request: Request, count: int) -> Iterator[range]:
    """The numbers of `count` pictures from `first` on, cut into batches."""
    size = batch_size(model.spec, *_size(request), model.unet.conv_in.weight)
    numbers = range(request.first, request.first + count)
    return (numbers[at : at + size] for at in range(0, count, size))


def _batch(
    model: LatentDiffusion, request: Request, images: range, prompts: Sequence[str], given: Conditioning, away: Conditioning
) -> Iterator[Step | Decoded]:
    """Samples and decodes the pictures numbered `images` of a resolved request, each of its own prompt."""
    assert request.seed is not None and request.guidance is not None and request.steps is not None
    assert request.sampler is not None and request.spacing is not None
    sampler = SAMPLERS[request.sampler]
    options = {"eta": request.eta} if "eta" in sampler.options else {}
    sigmas = spaced(model.schedule, request.steps, request.spacing, to_zero=not sampler.ends_early)
    noise = Noise(request.seed, images, model.latent_shape(*_size(request)), model.device)
    # Away from the prompt itself leads nowhere; so an empty prompt is, for most models, one network call a step, not two.
    guided = request.guidance != 1 and not given.equals(away)
    denoiser = model.denoiser()
    denoise = cfg(denoiser, given, away, request.guidance, request.guidance_rescale) if guided else unguided(denoiser, given)
    for step in sampler.function(denoise, start(noise(0), sigmas[0]), sigmas, noise, **options):
        yield Step(step.index + 1, request.steps, images, step.sigma, step.x, step.denoised)
    latents = finish(step.x, step.sigma)
    parts = zip(to_pil(model.decode(latents)), prompts, images, latents.cpu(), strict=True)
    yield Decoded(tuple(Picture(image, replace(request, prompt=p, first=number, count=1), z) for image, p, number, z in parts))


def _notices(model: LatentDiffusion, texts: Sequence[str]) -> tuple[Notice, ...]:
    """What of the texts is lost on the model, each said once."""
    return () if model.prompt is None else tuple(dict.fromkeys(n for text in texts for n in model.prompt.notices(text)))


def _serves(spec: ModelSpec, request: Request) -> None:
    """RequestError unless a prompt is all that the model needs, and a prompt is given only to a model that takes one."""
    for need in _needs(spec):
        raise RequestError(f"{spec.name} needs {need}, which a request cannot give: use a model of text to picture")
    if spec.text is None and (request.prompt or request.negative):
        raise RequestError(f"{spec.name} makes pictures without words: leave the prompt empty")


def _needs(spec: ModelSpec) -> Iterator[str]:
    """What a model is told that is not words, nor follows from the size of the picture."""
    yield from (CHANNELS[name] for name in spec.concat)
    if spec.unet.in_channels != spec.autoencoder.latent_channels and not spec.concat:
        yield "a picture beside its noise"
    if spec.label is not None or spec.unet.label_classes is not None:
        yield "a label"
    elif spec.text is None and spec.unet.context_width is not None:
        yield "a context other than text"
    if isinstance(spec.text, BertConfig) and not reads_words(spec.text):
        yield "a layout of boxes"
    if takes_image_embedding(spec):
        yield "the embedding of a picture"


def _side(name: str, pixels: int, multiple: int) -> int:
    if pixels % multiple == 0:
        return pixels
    below = pixels // multiple * multiple
    near = f"{below} or {below + multiple}" if below else f"{multiple}"
    raise RequestError(f"{name} must be a multiple of {multiple} with this model: use {near}; got {pixels}")


def _size(request: Request) -> tuple[int, int]:
    """Height and width of a resolved request."""
    assert request.height is not None and request.width is not None
    return request.height, request.width


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
