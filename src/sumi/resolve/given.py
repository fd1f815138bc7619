"""The pictures that a request goes by, from their files to tensors, and the size that follows from them.

Legend: B batch, C latent channels, h w latent height and width, H W picture height and width.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sumi.config import ModelSpec
from sumi.errors import RequestError
from sumi.models.channels import ENLARGEMENT
from sumi.models.latent_diffusion import Inputs, LatentDiffusion
from sumi.models.placement import tile_size
from sumi.models.seamless import seamless
from sumi.models.tiles import inside, tiled, windows
from sumi.request import FILES, Request, did_you_mean
from sumi.resolve.defaults import resolve
from sumi.store import inputs
from sumi.store.images import to_pil
from sumi.store.inputs import Opened, opened

if TYPE_CHECKING:
    from PIL.Image import Image

LARGEST = 8192


@dataclass(frozen=True, eq=False)
class Kept:
    """A picture of which part stays as it is.

    picture: whole, of 8 bits. mask: [1 1 H W], 1 where it is made anew, 0 where every pixel stays, and shares between. latent: the
    picture's, [1 C h w]; cells: [1 1 h w], 1 where it is made anew; these two for a network that has no channels for them.
    """

    picture: "Image"
    mask: Float[Tensor, "1 1 H W"]
    latent: Float[Tensor, "1 C h w"]
    cells: Float[Tensor, "1 1 h w"]


@dataclass(frozen=True, eq=False)
class Given:
    """A request that nothing is left open in, and what its files came to.

    inputs: what the model is told, of one picture. latent: of the picture to start from, [1 C h w]. told: sentences about what became of
    the files.
    """

    request: Request
    inputs: Inputs
    latent: Float[Tensor, "1 C h w"] | None = None
    kept: Kept | None = None
    told: tuple[str, ...] = ()


def given(model: LatentDiffusion, request: Request, told_otherwise: Inputs | None = None) -> Given:
    """Reads what a request goes by, or takes it as `told_otherwise`.

    RequestError if the model cannot serve it, ImageError for a file that cannot be taken.
    """
    spec = model.spec
    if told_otherwise is not None:
        return Given(resolve(request, spec, told=True), told_otherwise)
    resolve(request, spec)  # what can be refused without its files is refused before they are read
    files = {name: opened(source) for name in FILES if (source := getattr(request, name)) is not None}
    request, told = _sized(_same(request, files), files, spec)
    request = resolve(request, spec)
    assert request.height is not None and request.width is not None
    size = request.height, request.width
    multiples = {"image": None if request.outpaint else spec.multiple, "low_res": max(1, spec.multiple // ENLARGEMENT)}
    told += [
        said
        for name, multiple in multiples.items()
        if name in files and (said := inputs.told(files[name], _taken(request, name, size), multiple))
    ]
    found = Inputs(
        low_res=inputs.picture(files["low_res"], _taken(request, "low_res", size)) if "low_res" in files else None,
        depth=inputs.depth(files["depth"], size) if "depth" in files else None,
        map=inputs.class_map(files["map"], size, spec.map.classes) if "map" in files and spec.map is not None else None,
        labels=None if request.label is None else torch.tensor([class_number(request.label, spec)]),
        embedding=_embedding(model, files["like"]) if "like" in files else None,
        level=request.level,
    )
    if "image" not in files:
        return Given(request, found, told=tuple(told))
    image, mask = _started(request, files, size)
    found = replace(found, image=image, mask=mask)
    if "image" in spec.concat:  # told of the picture, rather than started from it
        return Given(request, found, told=tuple(told))
    model = adapted(model, request, size)
    if mask is None:
        return Given(request, found, model.latent(image), told=tuple(told))
    hole, anew = mask >= 0.5, request.strength == 1
    # An autoencoder sees far: of what is to be made anew altogether, it would tell in what is kept.
    latent = model.latent(inputs.covered(image, hole) if anew else image)
    # A cell of which one pixel is to be made anew is: else that pixel would stay.
    cells = F.adaptive_max_pool2d(hole.float(), latent.shape[2:]).to(latent)
    kept = Kept(to_pil(image)[0], mask, latent, cells)
    # All of it made anew begins as all other pictures do: with noise alone.
    return Given(request, found, None if anew else latent, kept, tuple(told))


def adapted(model: LatentDiffusion, request: Request, size: tuple[int, int]) -> LatentDiffusion:
    """The model, closed on itself along the axes that are to be seamless, and in windows and tiles where those are asked for.

    Where memory does not hold a picture whole, it is decoded in tiles all the same: that changes nothing but the time it takes.
    """
    axes, factor = request.seamless, model.spec.factor
    unet, windowed = seamless(model.unet, axes), None
    if request.tile is not None:
        side, overlap = request.tile // factor, (request.tile_overlap or 0) // factor
        unet = seamless(model.unet, inside(axes, (size[0] // factor, size[1] // factor), side))
        windowed = partial(windows, size=side, overlap=overlap, axes=axes)
    autoencoder, tile = seamless(model.autoencoder, axes), request.tile or tile_size(model.spec, *size, model.unet.conv_in.weight)
    return replace(model, unet=unet, autoencoder=autoencoder if tile is None else tiled(autoencoder, tile), windows=windowed)


def _same(request: Request, files: Mapping[str, Opened]) -> Request:
    """The request with the digests of its files. RequestError if one is not the file that it was."""
    for name, picture in files.items():
        was = (request.digests or {}).get(name, picture.sha256)
        if was != picture.sha256:
            raise RequestError(
                f"{picture.name} is not the picture that it was: its SHA-256 is {picture.sha256[:12]}..., not {was[:12]!r}..."
            )
    return replace(request, digests={name: picture.sha256 for name, picture in files.items()} or None)


def _sized(request: Request, files: Mapping[str, Opened], spec: ModelSpec) -> tuple[Request, list[str]]:
    """The request with the size of its picture, which follows from the files where it is not asked for; and what is to be told of it.

    Of a picture to enlarge, four times its own; else in the proportions of the file, and no more pixels than the model's own size has.
    """
    leading = next((files[name] for name in ("low_res", "image", "map", "depth") if name in files), None)
    if leading is None or (request.width is not None and request.height is not None):
        return request, []
    if "low_res" in files:
        most = (LARGEST // ENLARGEMENT) ** 2
        height, width = (ENLARGEMENT * side for side in inputs.own_size(leading, max(1, spec.multiple // ENLARGEMENT), most))
        return _with_size(request, height, width, leading, spec), []
    area = spec.size[0] * spec.size[1]
    if request.outpaint is None:
        return _with_size(request, *inputs.own_size(leading, spec.multiple, area), leading, spec), []
    if request.width is not None or request.height is not None:
        raise RequestError("outpaint says how large the picture becomes: give width and height both, or neither")
    height, width = inputs.own_size(leading, 1, area)
    left, top, right, bottom = (int(side) for side in request.outpaint)
    left, right = _up_to(left, right, width, spec.multiple)
    top, bottom = _up_to(top, bottom, height, spec.multiple)
    sides = (left, top, right, bottom)
    told = [f"outpaint adds {','.join(map(str, sides))}: sides are multiples of {spec.multiple}"] if sides != request.outpaint else []
    return replace(request, outpaint=sides, width=left + width + right, height=top + height + bottom), told


def _with_size(request: Request, height: int, width: int, leading: Opened, spec: ModelSpec) -> Request:
    """The size, but where one side is asked for, the other by the proportions of the file."""

    def snapped(side: float) -> int:
        return max(1, round(side / spec.multiple)) * spec.multiple

    tall, wide = leading.size
    if request.width is not None:
        return replace(request, height=snapped(request.width * tall / wide))
    if request.height is not None:
        return replace(request, width=snapped(request.height * wide / tall))
    return replace(request, height=height, width=width)


def _up_to(before: int, after: int, side: int, multiple: int) -> tuple[int, int]:
    """What is added before and after a side, with more where there is more already, so that all is a multiple."""
    lacking = -(before + side + after) % multiple
    return (before + lacking, after) if before > after else (before, after + lacking)


def _taken(request: Request, name: str, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width that a file is drawn at, where the picture is of `size`. RequestError if there is nothing left of them."""
    height, width = size
    if name == "low_res":
        if height % ENLARGEMENT or width % ENLARGEMENT:
            raise RequestError(
                f"width and height must be multiples of {ENLARGEMENT}, by which low_res is enlarged; got {width} and {height}"
            )
        return height // ENLARGEMENT, width // ENLARGEMENT
    if request.outpaint is None:
        return size
    left, top, right, bottom = (int(side) for side in request.outpaint)
    if height <= top + bottom or width <= left + right:
        raise RequestError(f"outpaint leaves nothing of the picture in {width} by {height} pixels: raise width and height, or add less")
    return height - top - bottom, width - left - right


def _started(request: Request, files: Mapping[str, Opened], size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """The picture to start from, [1 3 H W], beyond its edges as at them, and what of it is to be made anew, [1 1 H W]."""
    inner = _taken(request, "image", size)
    image, like = inputs.picture(files["image"], inner), files["image"].size
    invert, grow, blur = request.mask_invert, request.mask_grow, request.mask_blur
    if request.outpaint is None:
        if "mask" not in files:
            return image, None
        return image, inputs.mask(files["mask"], size, like=like, grow=grow, blur=blur, invert=invert)
    left, top, right, bottom = (int(side) for side in request.outpaint)
    sides = (left, right, top, bottom)
    inside = torch.zeros(1, 1, *inner)
    if "mask" in files:
        inside = inputs.mask(files["mask"], inner, like=like, invert=invert, full=True)
    mask = inputs.blurred(inputs.grown(F.pad(inside, sides, value=1.0), grow), blur)
    return F.pad(image, sides, mode="replicate"), mask


def class_number(label: str, spec: ModelSpec) -> int:
    """The number of a class, by its name or number. RequestError if there is none of that name or number."""
    assert spec.label is not None
    names = [name.casefold() for name in spec.classes]
    if label.strip().casefold() in names:
        return names.index(label.strip().casefold())
    count = len(names) or spec.label.classes
    if label.strip().isdecimal() and len(label) < 20 and int(label) < count:
        return int(label)
    known = f"a name or a number from 0 to {count - 1}" if names else f"a number from 0 to {count - 1}"
    raise RequestError(f"there is no class {label[:40]!r}{did_you_mean(label, spec.classes)}: give {known}")


def _embedding(model: LatentDiffusion, picture: Opened) -> Float[Tensor, "1 E"]:
    if model.vision is None:
        raise RequestError(f"{model.spec.name} lacks its image encoder, which sees what like is: use the whole folder, image_encoder too")
    from sumi.store.clip_image import clip_pixels

    return model.embed(clip_pixels(picture.image, model.vision.config.image_size))
