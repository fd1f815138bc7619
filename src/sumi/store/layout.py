"""Where the parts of a model lie in a folder of Hugging Face's, and what its model_index.json calls them, for every variant."""

from dataclasses import dataclass
from typing import Any

from sumi.config import AutoencoderConfig, BertConfig, Concat, ModelSpec, TextConfig, UNetConfig
from sumi.models.embedders import takes_image_embedding
from sumi.store import configs, schedulers
from sumi.store.configs import Json

DIFFUSION, TRANSFORMER = "diffusion_pytorch_model", "model"
IMAGE_ENCODER, PROCESSOR = "image_encoder", "feature_extractor"
"""What sees a picture, and the folder of what prepares it."""
TEXT_FOLDERS = ("text_encoder", "bert", "text_encoder_2")
AUTOENCODER_FOLDERS = ("vae", "vqvae")
OURS = "sumi"
"""The library named for parts that only sumi has."""

INPAINT: tuple[Concat, ...] = ("mask", "masked_image")
CONCATS: dict[str, tuple[Concat, ...]] = {
    "StableDiffusionInpaintPipeline": INPAINT,
    "StableDiffusionXLInpaintPipeline": INPAINT,
    "StableDiffusionInstructPix2PixPipeline": ("image",),
    "StableDiffusionXLInstructPix2PixPipeline": ("image",),
    "StableDiffusionDepth2ImgPipeline": ("depth",),
    "StableDiffusionUpscalePipeline": ("low_res",),
    "LDMSuperResolutionPipeline": ("low_res",),
}
"""What lies beside the latent in the models of each of diffusers' pipelines, which run plain models, too."""
OFFSET_ONE = ("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline")
"""Pipelines that move the times of the leading spacing by 1, whatever the scheduler's file says."""
UPSCALER = "StableDiffusionUpscalePipeline"
UPSCALER_SCALE = 0.08333
"""Of latents in that pipeline, whatever the autoencoder's file says."""

# What noises the embeddings of pictures in unCLIP.
NOISING_SCHEDULER: Json = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
}
# Of the x4-upscaler, whose low resolution is noised by a schedule of its own.
LOW_RES_SCHEDULER: Json = {
    "_class_name": "DDPMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "variance_type": "fixed_small",
}


@dataclass(frozen=True)
class Place:
    """Where a part lies, and who opens it."""

    folder: str
    stem: str
    library: str
    kind: str
    """The class of that library."""


def pipeline(spec: ModelSpec) -> str:
    """The class of diffusers' that runs a model; `DiffusionPipeline` if none does."""
    large, words = spec.unet.vector_name == "add_embedding" and spec.unet.vector_width is not None, isinstance(spec.text, TextConfig)
    if spec.label is not None or spec.map is not None or (isinstance(spec.text, BertConfig) and not reads_words(spec.text)):
        return "DiffusionPipeline"
    if spec.autoencoder.identity:
        return "DDIMPipeline"
    if spec.concat:
        fitting = [
            name
            for name, concat in CONCATS.items()
            if concat == spec.concat and ("XL" in name) == large and name.startswith("LDM") != words
        ]
        return fitting[0] if fitting else "DiffusionPipeline"
    if isinstance(spec.text, BertConfig):
        return "LDMTextToImagePipeline"
    if not words:
        return "LDMPipeline" if spec.unet.context_width is None else "DiffusionPipeline"
    if large:
        return "StableDiffusionXLPipeline" if spec.text_2 is not None else "StableDiffusionXLImg2ImgPipeline"
    return "StableUnCLIPImg2ImgPipeline" if takes_image_embedding(spec) else "StableDiffusionPipeline"


def concat(kind: str, unet: UNetConfig, autoencoder: AutoencoderConfig) -> tuple[Concat, ...]:
    """What lies beside the latent in the model of a pipeline: what is usual there, if the U-Net has room for just that."""
    latent = autoencoder.latent_channels
    usual = [CONCATS[kind]] if kind in CONCATS else []
    if kind.startswith("StableDiffusion"):  # there, too, are models of one task under the name of another's pipeline
        usual += [INPAINT, ("depth",)]
    wide = {"mask": 1, "depth": 1, "low_res": autoencoder.image_channels}
    return next((names for names in usual if sum(wide.get(name, latent) for name in names) == unet.in_channels - latent), ())


def places(spec: ModelSpec) -> dict[str, Place]:
    """Where each part of a spec lies, by the part's name."""
    kind = pipeline(spec)
    found = {"unet": Place("unet", DIFFUSION, "diffusers", configs.unet_json(spec.unet)["_class_name"])}
    if not spec.autoencoder.identity:
        folder = "vqvae" if kind.startswith("LDM") else "vae"
        found["vae"] = Place(folder, DIFFUSION, "diffusers", configs.autoencoder_json(spec.autoencoder)["_class_name"])
    # Stable Diffusion XL's refiner has the second encoder of its base, and no first.
    names = ("text_encoder_2", "") if kind == "StableDiffusionXLImg2ImgPipeline" else ("text_encoder", "text_encoder_2")
    for part, folder, text in zip(("text_encoder", "text_encoder_2"), names, (spec.text, spec.text_2), strict=True):
        match text:
            case TextConfig():
                found[part] = Place(folder, TRANSFORMER, "transformers", configs.text_json(text)["architectures"][0])
            case BertConfig():
                found["bert"] = Place("bert", TRANSFORMER, "latent_diffusion", "LDMBertModel")
    if spec.label is not None:
        found["label_embedding"] = Place("label_embedding", DIFFUSION, OURS, "LabelEmbedding")
    if spec.map is not None:
        found["map_rescaler"] = Place("map_rescaler", DIFFUSION, OURS, "MapRescaler")
    if spec.vision is not None:
        found[IMAGE_ENCODER] = Place(IMAGE_ENCODER, TRANSFORMER, "transformers", "CLIPVisionModelWithProjection")
    return found


def named(table: Json, folder: str) -> bool:
    """Whether model_index.json says that there is such a part."""
    return table.get(folder) not in (None, [], [None, None])


def tokenizer_folder(text_folder: str) -> str:
    """Where the tokenizer of a text encoder's folder lies."""
    return "tokenizer" if text_folder == "bert" else text_folder.replace("text_encoder", "tokenizer")


def reads_words(text: BertConfig) -> bool:
    """Whether a BERT reads words, by bert-base-uncased's vocabulary; the layout model's reads boxes."""
    return text.vocab_size == BertConfig.vocab_size


def index(spec: ModelSpec, *, has_words: bool = True) -> Json:
    """model_index.json: what diffusers asks of a folder, and None for what it can do without."""
    kind, found = pipeline(spec), places(spec)
    table: Json = {
        "_class_name": kind,
        "_diffusers_version": "0.30.0",
        "scheduler": ["diffusers", schedulers.scheduler_class(spec.sampler)],
    }
    for place in found.values():
        if place.library != OURS:
            table[place.folder] = [place.library, place.kind]
        if place.folder in TEXT_FOLDERS and has_words:
            table[tokenizer_folder(place.folder)] = ["transformers", "BertTokenizer" if place.folder == "bert" else "CLIPTokenizer"]
    if spec.vision is not None:
        table[PROCESSOR] = ["transformers", "CLIPImageProcessor"]
    table |= {name: value for name, value in EXTRAS.get(kind, {}).items() if name not in table}
    return table | ({"force_zeros_for_empty_prompt": spec.zero_null} if "XL" in kind else {})


NOTHING: list[Any] = [None, None]
UNCHECKED: Json = {"safety_checker": NOTHING, "feature_extractor": NOTHING, "requires_safety_checker": False}
EXTRAS: dict[str, Json] = {
    "StableDiffusionPipeline": UNCHECKED,
    "StableDiffusionInpaintPipeline": UNCHECKED,
    "StableDiffusionInstructPix2PixPipeline": UNCHECKED,
    "StableDiffusionUpscalePipeline": {
        "safety_checker": NOTHING,
        "feature_extractor": NOTHING,
        "watermarker": NOTHING,
        "low_res_scheduler": ["diffusers", "DDPMScheduler"],
        "max_noise_level": 350,
    },
    "StableDiffusionDepth2ImgPipeline": {"depth_estimator": NOTHING, "feature_extractor": NOTHING},
    "StableUnCLIPImg2ImgPipeline": {
        "image_encoder": NOTHING,
        "feature_extractor": NOTHING,
        "image_normalizer": ["stable_diffusion", "StableUnCLIPImageNormalizer"],
        "image_noising_scheduler": ["diffusers", "DDPMScheduler"],
    },
    "StableDiffusionXLPipeline": {"feature_extractor": NOTHING, "image_encoder": NOTHING},
    "StableDiffusionXLInpaintPipeline": {
        "requires_aesthetics_score": False,
        "feature_extractor": NOTHING,
        "image_encoder": NOTHING,
    },
    "StableDiffusionXLImg2ImgPipeline": {
        "requires_aesthetics_score": True,
        "text_encoder": NOTHING,
        "tokenizer": NOTHING,
        "feature_extractor": NOTHING,
        "image_encoder": NOTHING,
    },
}
