"""A request to pictures, as a stream of events: progress, preview and cancelling are the caller's `for` loop."""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from sumi.config import ModelSpec
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.guidance import cfg, unguided
from sumi.diffusion.noise import Noise
from sumi.diffusion.samplers import SAMPLERS, finish, start
from sumi.diffusion.schedule import SPACINGS, Schedule
from sumi.errors import RequestError
from sumi.models.embedders import Notice, Prompt
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.placement import batch_size, choose, place, weightless
from sumi.nets.unet import UNet
from sumi.request import Request, did_you_mean
from sumi.store.folder import read_folder, read_spec
from sumi.store.images import save_png, to_pil

if TYPE_CHECKING:
    from PIL.Image import Image

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


def load(path: str | Path | None = None, *, device: str | None = None, precision: str | None = None) -> LatentDiffusion:
    """The model in a folder, ready to run; by default the one that comes with sumi.

    `device` is one of PyTorch's names, `precision` is float32, bfloat16 or float16; None: what is fastest for this model on
    this hardware and leaves its pictures as they are. SumiError, in one line, if the folder or the device cannot be used.
    """
    folder = SHIPPED if path is None else Path(path)
    spec = read_spec(folder)
    with weightless():
        parameters = sum(weight.numel() for weight in UNet(spec.unet).parameters())
    where, dtype = choose(parameters, device, precision)
    spec, parts = read_folder(folder, dtype)
    place([parts.unet, parts.autoencoder, *parts.text_encoders], where, dtype)
    prompt = None
    if parts.text_encoders:
        context, vector = spec.unet.context_width is not None, spec.unet.vector_width is not None
        prompt = Prompt(parts.tokenizers[0], parts.text_encoders[0], context=context, vector=vector)
    return LatentDiffusion(spec, parts.unet, parts.autoencoder, prompt, Schedule(spec.schedule))


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
    prompt, negative = model.encode([request.prompt]), model.encode([request.negative])
    yield Encoded(request, _notices(model, (request.prompt, request.negative)))
    done: list[Picture] = []
    for images in _batches(model, request, request.count):
        size = len(images)
        for event in _batch(model, request, images, [request.prompt] * size, prompt.repeat(size), negative.repeat(size)):
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
    negative = model.encode([request.negative])
    for images in _batches(model, request, len(prompts)):
        texts = prompts[images[0] - request.first : images[-1] + 1 - request.first]
        for event in _batch(model, request, images, texts, model.encode(texts), negative.repeat(len(texts))):
            if isinstance(event, Decoded):
                yield from event.pictures


def _batches(model: LatentDiffusion, request: Request, count: int) -> Iterator[range]:
    """The numbers of `count` pictures from `first` on, cut into batches."""
    assert request.height is not None and request.width is not None
    size = batch_size(model.spec, request.height, request.width, model.unet.conv_in.weight)
    numbers = range(request.first, request.first + count)
    return (numbers[at : at + size] for at in range(0, count, size))


def _batch(
    model: LatentDiffusion, request: Request, images: range, prompts: Sequence[str], cond: Conditioning, uncond: Conditioning
) -> Iterator[Step | Decoded]:
    """Samples and decodes the pictures numbered `images` of a resolved request, each of its own prompt."""
    assert request.seed is not None and request.guidance is not None and request.steps is not None
    assert request.height is not None and request.width is not None and request.sampler is not None and request.spacing is not None
    sampler = SAMPLERS[request.sampler]
    options = {"eta": request.eta} if "eta" in sampler.options else {}
    sigmas = model.schedule.spaced(request.steps, request.spacing, to_zero=not sampler.ends_early)
    noise = Noise(request.seed, images, model.latent_shape(request.height, request.width), model.device)
    # Away from the prompt itself leads nowhere; so an empty prompt is one network call a step, not two.
    guided = request.guidance != 1 and any(prompt != request.negative for prompt in prompts)
    denoiser = model.denoiser()
    denoise = cfg(denoiser, cond, uncond, request.guidance, request.guidance_rescale) if guided else unguided(denoiser, cond)
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
    unet, text = spec.unet, spec.text
    pooled = None if text is None else text.projection_width or text.width
    needs = {
        "a picture beside its noise": unet.in_channels != spec.autoencoder.latent_channels,
        "a label": unet.label_classes is not None,
        "a context other than text": unet.context_width is not None and text is None,
        "a vector other than the text's": unet.vector_width not in (None, pooled),
    }
    for need, needed in needs.items():
        if needed:
            raise RequestError(f"{spec.name} needs {need}, which a request cannot give: use a model of text to picture")
    if text is None and (request.prompt or request.negative):
        raise RequestError(f"{spec.name} makes pictures without words: leave the prompt empty")


def _side(name: str, pixels: int, multiple: int) -> int:
    if pixels % multiple == 0:
        return pixels
    below = pixels // multiple * multiple
    near = f"{below} or {below + multiple}" if below else f"{multiple}"
    raise RequestError(f"{name} must be a multiple of {multiple} with this model: use {near}; got {pixels}")


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
