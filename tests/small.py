"""A model in the shape of Stable Diffusion 1, for tests of files in the original layout; and one like it for each task.

Such files have no vocabulary inside: whoever opens one puts `WORDS` in the place of the real one, which takes a second to read.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import nn

from sumi.config import AutoencoderConfig, LabelConfig, MapConfig, ModelSpec, ScheduleConfig, TextConfig, UNetConfig, VisionConfig
from sumi.models.channels import channels
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.placement import place
from sumi.store.assembly import assemble
from sumi.store.model import STATISTICS, Model, build, expected
from sumi.text.bpe import Tokenizer, word_vocabulary
from support import randomise

WORDS = Tokenizer(*word_vocabulary(["a", "cat", "above", "tree"]), length=12)

SMALL = ModelSpec(
    "small",
    unet=UNetConfig(
        block_channels=(16, 32),
        layers_per_block=1,
        attention_depth=(1, 0),
        cross_only=(False, False),
        heads=2,
        context_width=8,
        norm_groups=8,
    ),
    autoencoder=AutoencoderConfig(block_channels=(8, 16), layers_per_block=1, attention_levels=(False,) * 2, norm_groups=4),
    text=TextConfig(
        vocab_size=len(WORDS.vocab), length=12, width=8, layers=1, heads=2, mlp_width=16, eos_id=WORDS.eos_id, pad_id=WORDS.pad_id
    ),
    size=(16, 16),
    steps=2,
)


@cache
def small(seed: int = 0) -> Model:
    """With random weights. Not to be changed."""
    networks: dict[str, nn.Module] = expected(SMALL)
    states = {name: dict(randomise(network.to_empty(device="cpu"), seed).state_dict()) for name, network in networks.items()}
    return Model(SMALL, states, (WORDS,))


TASK = replace(
    SMALL,
    # Four pixels a cell, as few as a picture to be enlarged can lie beside.
    autoencoder=replace(SMALL.autoencoder, patch_size=2, latent_scale=0.5),
    schedule=ScheduleConfig(prediction="v", final_sigma_zero=True),
    sampler="euler",
    spacing="trailing",
    guidance=3.0,
    size=(24, 32),
)
NAMES = ("cat", "tree", "star")
INPAINT: dict[str, Any] = {"concat": ("mask", "masked_image")}
MAP = MapConfig(classes=len(NAMES) + 1, channels=2, halvings=1, patch_size=2)
LABEL = LabelConfig(classes=len(NAMES) + 1, width=8)
EYES = VisionConfig(image_size=28, width=16, layers=1, heads=2, mlp_width=32, projection_width=8)

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "inpaint": INPAINT,
    "depth": {"concat": ("depth",)},
    "map": {"concat": ("map",), "map": MAP, "classes": NAMES},
    "label": {"label": LABEL, "classes": NAMES},
    "unnamed": {"label": LABEL},
    "low-res": {"concat": ("low_res",)},
    "upscaler": {"concat": ("low_res",), "unet": {"label_classes": 1000}},
    "edits": {"concat": ("image",)},
    "like": {"unet": {"vector_width": 16, "vector_name": "class_embedding"}, "vision": EYES},
    # Without a first stage, as random weights undo nothing that random weights have done.
    "pixels": {
        "autoencoder": AutoencoderConfig(latent_channels=3, block_channels=(), attention_levels=(), latent_scale=1.0),
        "unet": {"in_channels": 3, "out_channels": 3},
    },
    "optional": {
        "concat": ("mask", "masked_image", "map", "low_res"),
        "map": MAP,
        "label": LABEL,
        "classes": NAMES,
        "optional": True,
    },
}
"""What a model for each task has beyond `TASK`; under "unet", beyond that one's."""


@cache
def variant_files(name: str) -> Model:
    """One of `VARIANTS`, with random weights, as files hold it. Not to be changed."""
    fields = VARIANTS[name]
    spec = replace(TASK, **{"name": name, **fields, "unet": replace(TASK.unet, **fields.get("unet", {}))})
    wanted = spec.autoencoder.latent_channels + sum(channels(spec).values())
    spec = replace(spec, unet=replace(spec.unet, in_channels=wanted))
    networks: dict[str, nn.Module] = expected(spec)
    states = {part: dict(randomise(network.to_empty(device="cpu")).state_dict()) for part, network in networks.items()}
    for part, state in states.items():
        # What they are told would else hardly show.
        told = [
            weight for key, weight in state.items() if part in ("label_embedding", "map_rescaler") or "attn2" in key or "class_emb" in key
        ]
        for weight in told:
            weight *= 6
    if name == "like":
        states[STATISTICS] = {"mean": torch.full((1, 8), 0.1), "std": torch.full((1, 8), 0.5)}
    return Model(spec, states, (WORDS,))


@cache
def variant(name: str) -> LatentDiffusion:
    """The same, ready to run. Not to be changed."""
    model = variant_files(name)
    parts = build(model)
    place(parts.networks, torch.device("cpu"), torch.float32)
    return assemble(model.spec, parts)
