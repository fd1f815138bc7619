"""How CLIP sees a picture: the preparation of its pixels, and what Hugging Face's folders say of it and of the image encoder.

Legend: S side of the square that the encoder takes, in pixels.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sumi.config import VisionConfig
from sumi.errors import CheckpointError
from sumi.store.configs import Fixed, Json, check, written
from sumi.store.images import opaque
from sumi.store.layout import IMAGE_ENCODER, PROCESSOR
from sumi.store.sound import sound
from sumi.store.tables import read_json, understood, write_json

if TYPE_CHECKING:
    from PIL.Image import Image

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue in [0, 1], over the pictures that CLIP was trained on."""
BICUBIC = 3
"""Pillow's number for it, which is also the one in folders."""
LONGEST = 64
"""Times the shorter side."""
VISION: Fixed = {"layer_norm_eps": (1e-5,), "model_type": ("clip_vision_model",), "num_channels": (3,)}
PREPARATION = "preprocessor_config.json"


def clip_pixels(image: "Image", side: int) -> Float[Tensor, "1 3 S S"]:
    """A picture as CLIP was trained to see it: the shorter side scaled to `side` pixels, the middle, normalised.

    As transformers' CLIPImageProcessor; transparency shows white. Of a strip longer than `LONGEST`, the middle alone is scaled.
    """
    image = opaque(image)
    if max(image.size) > (longest := LONGEST * min(image.size)):  # which, scaled, might not fit into memory
        left, top = (max(0, length - longest) // 2 for length in image.size)
        image = image.crop((left, top, image.width - left, image.height - top))
    width, height = (side * length // min(image.size) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), BICUBIC).crop((left, top, left + side, top + side))
    pixels = torch.tensor(np.asarray(resized)).movedim(-1, 0)[None].float() / 255
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    return (pixels - mean) / std


def read_vision(path: Path) -> VisionConfig | None:
    """What the folder of a model says of its image encoder; None if it came without one.

    CheckpointError if that is none of CLIP's, or its pictures are to be prepared in another way than by `clip_pixels`.
    """
    description, preparation = path / IMAGE_ENCODER / "config.json", path / PROCESSOR / PREPARATION
    if not description.parent.is_dir():
        return None
    found = read_json(description)
    config = understood(description, lambda: vision_config(found))
    if preparation.is_file():
        asked = read_json(preparation)
        understood(preparation, lambda: check(asked, _prepared(config.image_size)))
    return config


def write_processor(path: Path, config: VisionConfig) -> None:
    """Writes into the folder of a model how pictures are prepared for its image encoder: transformers' CLIPImageProcessor."""
    table = {"image_processor_type": "CLIPImageProcessor", **written(_prepared(config.image_size)), "do_convert_rgb": True}
    write_json(path / PROCESSOR / PREPARATION, table)


def vision_json(config: VisionConfig) -> Json:
    """transformers' CLIPVisionModelWithProjection."""
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        **written(VISION),
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_width,
        "hidden_act": config.activation,
        "projection_dim": config.projection_width,
    }


def vision_config(json: Json) -> VisionConfig:
    """The reverse of `vision_json`."""
    check(json, VISION)
    config = sound(
        VisionConfig(
            image_size=json["image_size"],
            patch_size=json["patch_size"],
            width=json["hidden_size"],
            layers=json["num_hidden_layers"],
            heads=json["num_attention_heads"],
            mlp_width=json["intermediate_size"],
            activation=json.get("hidden_act", "quick_gelu"),
            projection_width=json["projection_dim"],
        )
    )
    if config.width % config.heads or config.patch_size > config.image_size:
        raise CheckpointError(f"{config.heads} heads of {config.width} numbers, or patches of {config.patch_size} pixels, do not fit")
    return config


def _prepared(side: int) -> Fixed:
    """What is asked for by the files of all models; the second value, where there is one, is how older ones say it."""
    return {
        "do_resize": (True,),
        "size": ({"shortest_edge": side}, side),
        "resample": (BICUBIC,),
        "do_center_crop": (True,),
        "crop_size": ({"height": side, "width": side}, side),
        "do_rescale": (True,),
        "rescale_factor": (1 / 255,),
        "do_normalize": (True,),
        "image_mean": (list(MEAN),),
        "image_std": (list(STD),),
    }
