"""A picture put back around what was made anew in it.

Legend: H W height and width, in pixels.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from sumi.store.images import from_pixels, opaque

if TYPE_CHECKING:
    from PIL.Image import Image


def composite(original: "Image", made: "Image", mask: Float[Tensor, "1 1 H W"]) -> "Image":
    """The original where the mask is 0, bit for bit, what was made where it is 1, and between them the mean so weighted.

    8 bits, as the values stand (no gamma), rounded. A transparent original is seen on white. ValueError if the sizes differ.
    """
    kept, new = (np.asarray(opaque(image)).astype(np.float64) for image in (original, made))
    share = mask[0, 0, :, :, None].double().cpu().numpy()
    if not kept.shape[:2] == new.shape[:2] == share.shape[:2]:
        raise ValueError(f"pictures of {original.size} and {made.size} and a mask of {tuple(mask.shape)} are to be put together")
    return from_pixels(np.floor((1 - share) * kept + share * new + 0.5).astype(np.uint8))
