"""How CLIP is shown a picture, and its image encoder in folders: as transformers has both."""

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

import sumi
from small import SMALL, WORDS
from sumi.config import VisionConfig
from sumi.errors import CheckpointError, ModelWarning, RequestError
from sumi.models.latent_diffusion import LatentDiffusion
from sumi.store.assembly import assemble
from sumi.store.clip_image import clip_pixels
from sumi.store.described import read_spec
from sumi.store.find import wanted
from sumi.store.folder import read_model, write_model
from sumi.store.model import STATISTICS, Model, build, expected, model_of
from support import assert_agree, randomise

SIDE = 14
EYES = VisionConfig(image_size=SIDE, patch_size=7, width=16, layers=2, heads=2, mlp_width=24, activation="gelu", projection_width=6)
SPEC = replace(SMALL, name="alike", unet=replace(SMALL.unet, vector_width=12, vector_name="class_embedding"), vision=EYES)


@cache
def alike() -> Model:
    """A model that is told of a picture. Not to be changed."""
    states = {name: dict(randomise(network.to_empty(device="cpu")).state_dict()) for name, network in expected(SPEC).items()}
    draw = torch.Generator().manual_seed(1)
    states[STATISTICS] = {"mean": torch.randn(1, 6, generator=draw), "std": torch.rand(1, 6, generator=draw) + 0.5}
    return Model(SPEC, states, (WORDS,))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path / "alike", alike())
    return tmp_path / "alike"


def loaded(folder: Path, **options: Any) -> LatentDiffusion:
    return sumi.load(folder, device="cpu", **{"precision": "float32"} | options)


def edit(path: Path, **changes: Any) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in (found | changes).items() if value is not ...}))


# Pixels


def painted(size: tuple[int, int], mode: str) -> Image.Image:
    """A picture of (width, height) pixels, of some colours, and transparent in places if it can be."""
    draw = np.random.default_rng(sum(size))
    coarse = draw.integers(0, 256, (4, 3, 4), dtype=np.uint8)  # smooth as photographs are, with noise on it
    image = Image.fromarray(coarse, "RGBA").resize(size, Image.Resampling.BICUBIC)
    noisy = np.asarray(image).astype(int) + draw.integers(-40, 40, (size[1], size[0], 4))
    found = Image.fromarray(noisy.clip(0, 255).astype(np.uint8), "RGBA")
    return (found if mode.endswith("A") else found.convert("RGB")).convert(mode)


def clear(size: tuple[int, int]) -> Image.Image:
    """A palette with a transparent colour in it."""
    image = painted(size, "RGB").quantize(8)
    image.info["transparency"] = 3
    return image


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr"])
@pytest.mark.parametrize("size", [(224, 224), (333, 225), (225, 333), (31, 17), (1, 1), (500, 8), (223, 448)])
@pytest.mark.parametrize("side", [224, 35])
def test_pixels_are_those_of_transformers(size: tuple[int, int], mode: str, side: int) -> None:
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size=side)
    image = painted(size, mode)
    ours, theirs = clip_pixels(image, side), processor(image, return_tensors="pt").pixel_values
    assert ours.dtype == theirs.dtype == torch.float32
    assert ours.shape == theirs.shape == (1, 3, side, side)
    assert (ours - theirs).abs().max() < 1e-6


def test_transparent_colours_of_a_palette() -> None:
    image = clear((40, 30))
    theirs = transformers.CLIPImageProcessorPil()(image, return_tensors="pt").pixel_values
    assert (clip_pixels(image, 224) - theirs).abs().max() < 1e-6
    assert not torch.equal(theirs, clip_pixels(painted((40, 30), "RGB"), 224))


@pytest.mark.parametrize("size", [(4_000_000, 1), (1, 4_000_000)])
def test_of_a_strip_the_middle_is_seen(size: tuple[int, int]) -> None:
    """Scaled as a whole it would take hundreds of gigabytes."""
    strip = Image.new("RGB", size, "black")
    middle = (size[0] // 2, size[1] // 2)
    strip.paste((255, 0, 0), (max(0, middle[0] - 2), max(0, middle[1] - 2), middle[0] + 2, middle[1] + 2))
    red = clip_pixels(Image.new("RGB", (9, 9), (255, 0, 0)), SIDE)
    assert torch.equal(clip_pixels(strip, SIDE), red)


# Folders


@torch.no_grad()
def test_transformers_opens_what_is_written(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    assert index["image_encoder"] == ["transformers", "CLIPVisionModelWithProjection"]
    assert index["feature_extractor"] == ["transformers", "CLIPImageProcessor"]
    theirs = transformers.CLIPVisionModelWithProjection.from_pretrained(folder, subfolder="image_encoder")
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder, subfolder="feature_extractor")
    image = painted((23, 41), "RGB")
    pixels = processor(image, return_tensors="pt").pixel_values
    ours = loaded(folder)
    assert_agree(ours.embed(clip_pixels(image, SIDE)), theirs(pixels).image_embeds)
    both = torch.cat([pixels, pixels.flip(-1)])
    assert_agree(ours.embed(both), theirs(both).image_embeds)
    low = loaded(folder, precision="bfloat16").embed(pixels)
    assert low.dtype == torch.float32
    assert_agree(low, theirs(pixels).image_embeds, 0.05)


@torch.no_grad()
def test_what_transformers_saves_is_opened(folder: Path, tmp_path: Path) -> None:
    config = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 8, "projection_dim": 6}
    theirs: Any = randomise(
        transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config, image_size=21, patch_size=7)), 3
    )
    theirs.save_pretrained(folder / "image_encoder")
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 21}, crop_size=21).save_pretrained(folder / "feature_extractor")
    ours = loaded(folder)
    expected = VisionConfig(21, 7, 16, 1, 4, 8, "quick_gelu", 6)
    assert ours.spec.vision == expected == read_spec(folder).vision
    pixels = torch.randn(2, 3, 21, 21)
    assert_agree(ours.embed(pixels), theirs(pixels).image_embeds)
    write_model(tmp_path / "again", read_model(folder))
    again = transformers.CLIPVisionModelWithProjection.from_pretrained(tmp_path / "again", subfolder="image_encoder")
    assert_agree(again(pixels).image_embeds, theirs(pixels).image_embeds, 1e-9)


def test_preparation_is_the_published_one(tmp_path: Path) -> None:
    """As transformers has it for all of OpenAI's models and OpenCLIP's."""
    eyes = replace(EYES, image_size=224, patch_size=112)
    spec = replace(SPEC, vision=eyes)
    (table,) = [network for name, network in expected(spec).items() if name == "image_encoder"]
    write_model(tmp_path, Model(spec, alike().states | {"image_encoder": dict(table.to_empty(device="cpu").state_dict())}, (WORDS,)))
    found = transformers.CLIPImageProcessorPil.from_pretrained(tmp_path, subfolder="feature_extractor")
    assert found.to_dict() == transformers.CLIPImageProcessorPil().to_dict()
    # As folders of 2022 say it.
    edit(tmp_path / "feature_extractor" / "preprocessor_config.json", size=224, crop_size=224, rescale_factor=..., do_rescale=...)
    assert read_spec(tmp_path).vision == eyes


@pytest.mark.parametrize("how", ["sharded", "variant", "sharded variant", "pickled"])
def test_weights_lie_as_those_of_the_other_parts(how: str, tmp_path: Path) -> None:
    """And transformers reads them there."""
    variant, shard = ("fp16" if "variant" in how else None), (2_000 if "sharded" in how else None)
    write_model(tmp_path, alike(), variant=variant, shard=shard)
    eyes = tmp_path / "image_encoder"
    assert len(list(eyes.glob("*.safetensors"))) > 1 if shard else (eyes / f"model{'.fp16' * bool(variant)}.safetensors").is_file()
    if how == "pickled":
        torch.save(load_file(eyes / "model.safetensors"), eyes / "pytorch_model.bin")
        (eyes / "model.safetensors").unlink()
    found, wanted = read_model(tmp_path, variant=variant).states["image_encoder"], alike().states["image_encoder"]
    theirs = transformers.CLIPVisionModelWithProjection.from_pretrained(eyes, variant=variant).state_dict()
    assert found.keys() == wanted.keys() == theirs.keys()
    assert all(torch.equal(found[name], tensor) and torch.equal(theirs[name], tensor) for name, tensor in wanted.items())


def test_it_is_got_with_the_rest_of_a_repository(folder: Path) -> None:
    files = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    assert {name for name in wanted(files, None, "here") if name.startswith("image_encoder/")} == {
        "image_encoder/config.json",
        "image_encoder/model.safetensors",
    }


def test_it_is_one_of_the_models_networks() -> None:
    parts = build(alike())
    assert parts.vision in parts.networks
    assert model_of(SPEC, parts).states.keys() == alike().states.keys()
    with pytest.raises(ValueError, match="describes a image_encoder that is not there"):
        model_of(SPEC, replace(parts, vision=None))
    model = assemble(SPEC, parts)
    digest, blind = model.digest(), replace(model, vision=None)
    assert digest != blind.digest()
    assert blind.digest() == assemble(replace(SPEC, vision=None), replace(parts, vision=None)).digest()
    assert parts.vision is not None
    with torch.no_grad():
        parts.vision.visual_projection.weight[0, 0] += 1
    assert digest != model.digest()


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_without_it(folder: Path, named: bool) -> None:
    shutil.rmtree(folder / "image_encoder")
    if not named:
        edit(folder / "model_index.json", image_encoder=[None, None])
    with pytest.warns(ModelWarning, match="has no image_encoder, without which no picture can be given: copy the whole folder again"):
        ours = loaded(folder)
    assert ours.vision is None and ours.spec == replace(SPEC, vision=None) and ours.image_embedding is not None
    with pytest.raises(RequestError, match="alike has no image encoder"):
        ours.embed(torch.zeros(1, 3, SIDE, SIDE))
    write_model(folder, read_model(folder))
    assert not (folder / "feature_extractor").exists()
    assert json.loads((folder / "model_index.json").read_text())["image_encoder"] == [None, None]


@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        ("image_encoder/config.json", {"projection_dim": 8}, "an image encoder of 8 numbers for a U-Net that is told 6"),
        (
            "image_encoder/config.json",
            {"num_attention_heads": 3},
            r"config\.json: 3 heads of 16 numbers, or patches of 7 pixels",
        ),
        ("image_encoder/config.json", {"patch_size": 15}, r"config\.json: 2 heads of 16 numbers, or patches of 15 pixels"),
        ("image_encoder/config.json", {"num_hidden_layers": 3}, "image_encoder.*16 missing"),
        ("image_encoder/config.json", {"num_hidden_layers": 1e9}, r"config\.json: VisionConfig.layers cannot be 1000000000\.0"),
        ("image_encoder/config.json", {"hidden_act": "relu"}, r"VisionConfig.activation cannot be 'relu'"),
        ("image_encoder/config.json", {"model_type": "siglip_vision_model"}, "model_type 'siglip_vision_model' is not something sumi does"),
        ("image_encoder/config.json", {"layer_norm_eps": 1e-6}, "layer_norm_eps 1e-06 is not something sumi does"),
        ("image_encoder/config.json", {"projection_dim": ...}, "no 'projection_dim'"),
        ("feature_extractor/preprocessor_config.json", {"image_mean": [0.5, 0.5, 0.5]}, r"preprocessor_config\.json: image_mean \[0\.5"),
        ("feature_extractor/preprocessor_config.json", {"size": {"shortest_edge": 224}}, r"size \{'shortest_edge': 224\} is not"),
        ("feature_extractor/preprocessor_config.json", {"resample": 2}, "resample 2 is not something sumi does"),
    ],
)
def test_what_is_not_clips_is_refused(folder: Path, file: str, changes: dict[str, Any], told: str) -> None:
    edit(folder / file, **changes)
    with pytest.raises(CheckpointError, match=told) as caught:
        loaded(folder)
    assert str(caught.value).startswith(str(folder)) and str(caught.value).isprintable()


def test_weights_that_are_missing_are_missed(folder: Path) -> None:
    (folder / "image_encoder" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"image_encoder has no weights \(model\.safetensors\)"):
        read_model(folder)
