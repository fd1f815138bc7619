"""Pictures, masks and maps that a request names, made into tensors of the size that is drawn.

All of them are scaled to fill that size and cropped in the middle alike, so that they stay lined up.

Legend: H W height and width of what is drawn, h w of a file, in pixels.
"""

import hashlib
import sys
from dataclasses import dataclass
from math import ceil, floor, isqrt, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sumi.errors import ImageError
from sumi.store.data_urls import data_url
from sumi.store.images import (
    decoded,
    file_bytes,
    fitted,
    fitted_levels,
    from_pil,
    grey_levels,
    limited,
    shown,
    with_alpha,
)

if TYPE_CHECKING:
    from PIL.Image import Image

STANDARD_INPUT = "-"
UNKNOWN = -1
"""In a map: any class may be here."""
# JPEG leaves noise; a mask within so many of 255 levels of an end was meant to be at it.
NEARLY = 8


@dataclass(frozen=True, eq=False)
class Opened:
    """A picture as it was given: upright, decoded, not yet converted.

    sha256: of the bytes of its file, in hexadecimal digits. name: what an error calls it.
    """

    image: "Image"
    sha256: str
    name: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.height, self.image.width


def opened(source: str) -> Opened:
    """The picture that a path, "-" (standard input) or a data: URL (RFC 2397) stands for. PNG, JPEG and WebP are read.

    ImageError if there is none, or it is damaged, cut short, animated, or beyond `MAX_BYTES` or `MAX_PIXELS`.
    """
    if source == STANDARD_INPUT:
        data, name = _standard_input(), "standard input"
    elif source[:5].lower() == "data:":
        data, name = data_url(source), "the data URL"
    else:
        data, name = file_bytes(Path(source)), shown(source)
    return Opened(decoded(data, name), hashlib.sha256(data).hexdigest(), name)


def picture(opened: Opened, size: tuple[int, int]) -> Float[Tensor, "1 3 H W"]:
    """Red, green and blue in [-1, 1]; transparency shows white."""
    return from_pil([fitted(opened.image, size)])


def mask(
    opened: Opened,
    size: tuple[int, int],
    *,
    like: tuple[int, int] | None,
    grow: int = 0,
    blur: float = 0.0,
    invert: bool = False,
    full: bool = False,
) -> Float[Tensor, "1 1 H W"]:
    """What is to be made anew: 1 where the file is white, 0 where it is black, in steps between; `invert` exchanges the two.

    In a file with transparency, what is transparent is made anew, as in OpenAI's API, unless nine tenths of what is visible are black and
    white, both: then these tell, and what is transparent is kept. Levels within `NEARLY` of black and white count as these.

    like: (height, width) of the file of the picture that it belongs to. The mask may have another resolution, if the sides have the same
    ratio to within a pixel.
    grow: pixels of the output by which what is white becomes larger all round, or if negative smaller, but not at the picture's edges.
    blur: standard deviation, in pixels of the output, of a Gaussian that the mask is convolved with at last: a pixel that was white may
    then be below 1. Beyond its edges, the mask is as at them.
    full: that all of it is white is no error.

    ImageError if it does not belong to a picture of that size, if nothing in it reaches 1/2, before or after growing and blurring, or if
    all of it does; or if all that is visible is white, for transparency then says the opposite of white.
    """
    name = opened.name
    if like is not None and not _alike(opened.size, like):
        raise ImageError(
            f"the mask {name} is of {_by(opened.size)} pixels and its picture of {_by(like)}: make the mask as large as the picture"
        )
    levels = fitted_levels(_mask_levels(opened), size)
    found = torch.tensor(levels, dtype=torch.float32)[None, None].clamp(0, 1)
    if invert:
        found = 1 - found
    if not (found >= 0.5).any():
        raise ImageError(f"nothing in the mask {name} is {'black' if invert else 'white'}: paint so what is to be made anew")
    found = blurred(grown(found, grow), blur)
    if not (found >= 0.5).any():
        raise ImageError(f"nothing of the mask {name} is left after growing it by {grow} and blurring it by {blur:g}: let more of it be")
    if not full and (found >= 0.5).all():
        raise ImageError(f"by the mask {name} everything is to be made anew: leave the picture and the mask out, or keep something")
    return found


def class_map(opened: Opened, size: tuple[int, int], classes: int) -> Int[Tensor, "1 H W"]:
    """The class number of each pixel, from 0 to `classes - 1`, or `UNKNOWN`; where it is scaled, that of the nearest pixel.

    A file's numbers are its levels of grey (8 or 16 bits) or the indices of its palette. 255 is unknown, in 16 bits 65535 too, where
    255 is then a class if there are as many. ImageError for another kind of picture, and for a number that is no class.
    """
    image, name = opened.image, opened.name
    if image.format == "JPEG":
        raise ImageError(f"the map {name} is a JPEG, which alters class numbers: save it as PNG")
    if image.mode == "1":
        raise ImageError(f"the map {name} has 1 bit a pixel, where white may be class 1 or unknown: save it with 8 bits")
    if image.mode not in ("L", "P") and not image.mode.startswith("I"):
        raise ImageError(
            f"the map {name} is in colour or has transparency ({image.mode}): a map has one number a pixel, as grey or palette index"
        )
    numbers = np.asarray(image).astype(np.int32)
    unknown = numbers == 255
    if image.mode.startswith("I"):
        unknown = (unknown & (classes <= 255)) | (numbers == 65535)
    wrong = ~unknown & (numbers >= classes)
    if wrong.any():
        y, x = (int(at) for at in np.unravel_index(wrong.argmax(), wrong.shape))
        raise ImageError(
            f"the map {name} says {numbers[y, x]} at ({x}, {y}), which is no class: there are {classes}, from 0 to {classes - 1}"
        )
    numbers[unknown] = UNKNOWN
    return torch.tensor(fitted_levels(numbers, size, smooth=False), dtype=torch.int64)[None]


def depth(opened: Opened, size: tuple[int, int]) -> Float[Tensor, "1 1 H W"]:
    """How near each pixel is, from 0 to 1, of a grey picture of 8 or 16 bits, the nearer the lighter. ImageError for another kind."""
    image, name = opened.image, opened.name
    if not image.mode.startswith("I") or image.has_transparency_data:
        channels = np.asarray(with_alpha(image))
        if channels[..., 3].min() < 255:
            raise ImageError(f"the depth map {name} is partly transparent: fill these parts with a depth, black for the farthest")
        if np.ptp(channels[..., :3], axis=-1).max() > NEARLY:
            raise ImageError(f"the depth map {name} is in colour: a depth map is grey, the nearer the lighter")
    return torch.tensor(fitted_levels(grey_levels(image), size), dtype=torch.float32)[None, None]


def own_size(opened: Opened, multiple: int, area: int | None) -> tuple[int, int]:
    """Height and width nearest to the picture's own, both multiples of `multiple`, in about its own proportions.

    area: the most pixels, as far as multiples allow; a larger picture is taken smaller, none is taken larger.
    """
    height, width = opened.size
    scale = 1.0 if area is None else min(1.0, sqrt(area / (height * width)))
    sides = [max(1, floor(side * scale / multiple + 0.5)) for side in (height, width)]
    if area is not None:
        while sides[0] * sides[1] * multiple**2 > area and max(sides) > 1:
            # The side that was rounded up the most loses a multiple.
            excess = [side * multiple / (whole * scale) if side > 1 else 0.0 for side, whole in zip(sides, (height, width), strict=True)]
            sides[excess.index(max(excess))] -= 1
    return sides[0] * multiple, sides[1] * multiple


def told(opened: Opened, size: tuple[int, int], multiple: int | None = None) -> str | None:
    """What became of the picture, drawn at (height, width), in one sentence; None if it is taken as it is."""
    if opened.size == size:
        return None
    (height, width), scale = opened.size, max(size[0] / opened.size[0], size[1] / opened.size[1])
    done = [f"scaled to {100 * scale:.3g} %"] if scale != 1 else []
    down, across = round(height * scale) - size[0], round(width * scale) - size[1]
    if lost := max(down, across):
        done.append(f"cropped by {lost} pixel{'' if lost == 1 else 's'} of its {'width' if across == lost else 'height'}")
    reason = f"; sides are multiples of {multiple}" if multiple else ""
    return f"the picture of {_by(opened.size)} is taken at {_by(size)}: {' and '.join(done)}{reason}"


def grown(mask: Float[Tensor, "1 1 H W"], radius: int) -> Float[Tensor, "1 1 H W"]:
    """The largest value within a disc of that radius, in pixels, around each pixel; the smallest, if it is negative."""
    if radius < 0:
        return 1 - grown(1 - mask, -radius)
    height, width = mask.shape[-2:]
    reach = min(radius, width - 1)
    # runs[k] holds the largest of each 2**k neighbours in a row; two of them, overlapping, cover a row of the disc.
    runs = [F.pad(mask, (reach, reach))]
    while 2 ** len(runs) <= 2 * reach + 1:
        step = 2 ** (len(runs) - 1)
        runs.append(torch.maximum(runs[-1][..., :-step], runs[-1][..., step:]))
    found = mask.clone()
    for row in range(min(radius, height - 1) + 1):
        half = min(isqrt(radius**2 - row**2), reach)
        level = (2 * half + 1).bit_length() - 1
        left, right = reach - half, reach + half + 1 - 2**level
        widest = torch.maximum(runs[level][..., left : left + width], runs[level][..., right : right + width])
        found[..., row:, :] = torch.maximum(found[..., row:, :], widest[..., : height - row, :])
        found[..., : height - row, :] = torch.maximum(found[..., : height - row, :], widest[..., row:, :])
    return found


def blurred(mask: Float[Tensor, "1 1 H W"], sigma: float) -> Float[Tensor, "1 1 H W"]:
    """The mean under a Gaussian of that standard deviation, in pixels; beyond the edges, the mask is as at them."""
    if sigma == 0:
        return mask
    for axis in (2, 3):
        radius = min(ceil(4 * sigma), mask.shape[axis])
        # Of the normal distribution, each pixel's share; the outermost take what lies beyond.
        edges = torch.arange(-radius, radius, dtype=torch.float64) + 0.5
        below = F.pad(torch.special.ndtr(edges / sigma), (1, 1))
        below[-1] = 1
        rows = F.pad(mask.transpose(axis, 3), (radius, radius, 0, 0), mode="replicate")
        mask = F.conv2d(rows, below.diff().to(rows)[None, None, None]).transpose(axis, 3)
    return mask.clamp(0, 1).contiguous()


def covered(image: Float[Tensor, "1 C H W"], hole: Bool[Tensor, "1 1 H W"]) -> Float[Tensor, "1 C H W"]:
    """The picture with its hole filled from around it, smoothly, and nothing left of what was there (Gortler et al. 1996: pull-push).

    The pixels that are known are halved in size until nothing is missing; each hole is filled from the size below.
    """
    if hole.all() or not hole.any():
        return image.masked_fill(hole, 0.0)
    share = F.avg_pool2d((~hole).float(), 2, ceil_mode=True, count_include_pad=False)
    means = F.avg_pool2d(image.masked_fill(hole, 0.0), 2, ceil_mode=True, count_include_pad=False) / share.clamp(min=0.25)
    below = F.interpolate(covered(means, share == 0), image.shape[2:], mode="bilinear")
    return torch.where(hole, below, image)


def _mask_levels(opened: Opened) -> np.ndarray:
    """How much of each pixel is to be made anew, [h w], from 0 to 1."""
    levels = grey_levels(opened.image)
    channels = np.asarray(with_alpha(opened.image)) if opened.image.has_transparency_data else None
    if channels is not None and channels[..., 3].min() < 255:
        colours, opacity = channels[..., :3], channels[..., 3]
        visible = opacity > 0
        black = (colours <= NEARLY).all(-1) & visible
        white = (colours >= 255 - NEARLY).all(-1) & visible
        if (black | white).sum() < 0.9 * visible.sum() or not white.any():
            levels = 1 - opacity.astype(np.float32) / 255
        elif not black.any():
            raise ImageError(
                f"the mask {opened.name} is all white where it is not transparent, and either may be meant: "
                "make black what is to be kept and white what is to be made anew"
            )
        else:
            levels = levels * opacity / 255
    near = NEARLY / 255
    return np.where(levels <= near, 0, np.where(levels >= 1 - near, 1, levels)).astype(np.float32)


def _standard_input() -> bytes:
    try:
        if sys.stdin is None or sys.stdin.isatty():
            raise ImageError("there is no picture in standard input: send one into it, as in `sumi --image - < cat.png`, or give a path")
        data = limited(sys.stdin.buffer, "standard input")
    except (OSError, ValueError) as error:  # ValueError: it was closed
        raise ImageError("standard input cannot be read: send a picture into it, or give a path") from error
    if not data:
        raise ImageError("standard input is empty: send a picture into it; it can be read once, so for one field")
    return data


def _alike(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes are of one ratio, to within a pixel of the first."""
    (height, width), (h, w) = size, other
    return abs(height - width * h / w) < 1 or abs(width - height * w / h) < 1


def _by(size: tuple[int, int]) -> str:
    """Width x height, as people say it."""
    return f"{size[1]} x {size[0]}"
