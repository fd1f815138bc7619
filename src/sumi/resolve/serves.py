"""Whether a model can serve a request: what it needs, what it takes, and what goes together."""

from collections.abc import Iterator

from sumi.config import BertConfig, Concat, ModelSpec
from sumi.errors import RequestError
from sumi.models.embedders import takes_image_embedding
from sumi.request import Request
from sumi.store.layout import reads_words

NEEDS: dict[Concat, tuple[str, str]] = {
    "mask": ("a mask", "mask"),
    "masked_image": ("a picture to fill in", "image"),
    "image": ("a picture to change", "image"),
    "low_res": ("a picture to enlarge", "low_res"),
    "depth": ("a depth map", "depth"),
    "map": ("a map of classes", "map"),
}
"""What a model with such channels is given, and the field that gives it."""
INSTEAD = {
    "low_res": "use a model of super-resolution, such as the x4 upscaler, or start from the picture, as image, at a larger size",
    "depth": "use a model of depth to picture",
    "map": "use a model of maps to pictures",
    "label": "use a model of class labels, or say it in the prompt",
    "like": "use an unCLIP model, or start from the picture, as image",
}
MOST_NOISE = 350
"""The highest level of noise that the x4 upscaler was trained to see through."""
DEPENDS = {
    "strength": ("image",),
    "exact": ("image",),
    "noise_multiplier": ("image",),
    "image_guidance": ("image",),
    "mask": ("image",),
    "outpaint": ("image",),
    "mask_grow": ("mask", "outpaint"),
    "mask_blur": ("mask", "outpaint"),
    "mask_invert": ("mask",),
    "level": ("low_res", "like"),
    "hires_strength": ("hires",),
    "hires_steps": ("hires",),
    "tile_overlap": ("tile",),
}
"""Fields that mean nothing unless another, or one of others, is given."""


def serves(spec: ModelSpec, request: Request, *, told: bool = False) -> None:
    """RequestError unless a model of the spec can serve the request. `told`: what it needs beside words, it is told otherwise."""
    for need, field in () if told else needs(spec):
        if field is None:
            raise RequestError(f"{spec.name} needs {need}, which a request cannot give: use another model")
        if getattr(request, field) is None and not (field == "mask" and request.outpaint):
            raise RequestError(f"{spec.name} needs {need}: give it one as {field}, or use another model")
    for name, others in DEPENDS.items():
        if _given(request, name) and not any(_given(request, other) for other in others):
            raise RequestError(
                f"{name} without {' or '.join(others)} means nothing: give {'one' if len(others) > 1 else 'it'}, or leave it out"
            )
    for name, instead in INSTEAD.items():
        if _given(request, name) and not takes(spec, name):
            raise RequestError(f"{spec.name} takes no {name}: {instead}")
    _pictures(spec, request)
    if spec.text is None and (request.prompt or request.negative):
        raise RequestError(f"{spec.name} makes pictures without words: leave the prompt empty")
    if spec.text is None and (request.clip_skip != 1 or request.emphasis != "mean"):
        raise RequestError(f"{spec.name} makes pictures without words: leave clip_skip and emphasis out")


def takes(spec: ModelSpec, name: str) -> bool:
    """Whether a model is told of a field of a request that not every model is."""
    match name:
        case "label":
            return spec.label is not None
        case "like":
            return takes_image_embedding(spec)
        case "level":
            return takes_image_embedding(spec) or ("low_res" in spec.concat and spec.unet.label_classes is not None)
        case "image_guidance":
            return "image" in spec.concat
    return name in spec.concat


def _pictures(spec: ModelSpec, request: Request) -> None:
    """RequestError for pictures, and for what is to be done with them, that do not go together, or not with the model."""
    for name in ("level", "image_guidance"):
        if _given(request, name) and not takes(spec, name):
            raise RequestError(f"{spec.name} takes no {name}: leave it out")
    if request.level is not None and request.low_res and request.level > MOST_NOISE:
        raise RequestError(f"level of low_res must be at most {MOST_NOISE}, as in training; got {request.level}")
    if "image" in spec.concat and (request.mask or request.outpaint):
        raise RequestError(
            f"{spec.name} changes a picture as it is told to, and all of it: leave mask and outpaint out, or use another model"
        )
    if request.image and request.low_res:
        raise RequestError("image and low_res are two pictures to go by: leave one of them out")
    if request.outpaint and not any(request.outpaint):
        raise RequestError("outpaint adds nothing: give pixels to add on the left, top, right and bottom, as in 64,0,64,0")
    if request.outpaint and any(number % 1 for number in request.outpaint):
        raise RequestError("outpaint must be whole pixels")
    if request.sigmas is not None and (request.strength is not None or request.exact):
        raise RequestError("sigmas say where to start from the image: leave strength and exact out")
    if request.hires is not None and (request.mask or request.outpaint or request.low_res):
        raise RequestError("hires makes the whole picture again: leave mask, outpaint and low_res out, or do one after the other")
    if request.tile is not None and request.sag:
        raise RequestError("sag looks at the whole picture's attention, and windows have each their own: leave tile or sag out")
    if request.hires is not None and spec.concat and not spec.optional:
        raise RequestError(f"hires needs a model of text to picture, and {spec.name} is told of more: leave it out")
    if sum(source == "-" for source in (request.image, request.mask, request.map, request.depth, request.low_res, request.like)) > 1:
        raise RequestError("standard input holds one picture: name a file for the others")


def needs(spec: ModelSpec) -> Iterator[tuple[str, str | None]]:
    """What a model is told that is not words, nor follows from the size of the picture, and the field that gives it; None: none does."""
    if not spec.optional:
        yield from (NEEDS[name] for name in spec.concat)
        if spec.label is not None:
            yield "a class label", "label"
    if spec.unet.label_classes is not None and "low_res" not in spec.concat:
        yield "a label that is added to the time", None
    if spec.unet.in_channels != spec.autoencoder.latent_channels and not spec.concat:
        yield "a picture beside its noise", None
    if spec.label is None and spec.text is None and spec.unet.context_width is not None:
        yield "a context other than text", None
    if isinstance(spec.text, BertConfig) and not reads_words(spec.text):
        yield "a layout of boxes", None
    if takes_image_embedding(spec):
        yield "a picture to make variations of", "like"


def _given(request: Request, name: str) -> bool:
    """Whether a field says something else than its default."""
    return bool(getattr(request, name) != type(request).__dataclass_fields__[name].default)
