"""Every variant of the family, as data: Stable Diffusion 1, 2 and XL, their turbo, inpainting, depth and upscaling models,
and the systems of the latent diffusion paper (Rombach et al. 2022).

The numbers are those of the configurations published with the weights; a test counts the parameters of each. A variant is
one `replace` here and one row there.
"""

from dataclasses import replace

from sumi.config import (
    AutoencoderConfig,
    BertConfig,
    LabelConfig,
    MapConfig,
    ModelSpec,
    ScheduleConfig,
    TextConfig,
    UNetConfig,
    VisionConfig,
)

# Text encoders

CLIP_L = TextConfig()
"""OpenAI's ViT-L/14, as Stable Diffusion 1 reads it: the last layer, normalised."""
CLIP_L_XL = replace(CLIP_L, output_layer=-2, final_norm=False)
OPENCLIP_H = TextConfig(width=1024, layers=23, heads=16, mlp_width=4096, activation="gelu", pad_id=0)
"""OpenCLIP's ViT-H/14 without its last layer, which Stable Diffusion 2 does not read and published folders leave out."""
OPENCLIP_BIGG = TextConfig(
    width=1280,
    layers=32,
    heads=20,
    mlp_width=5120,
    activation="gelu",
    projection_width=1280,
    output_layer=-2,
    final_norm=False,
    pad_id=0,
)
"""OpenCLIP's ViT-bigG/14, as Stable Diffusion XL reads it."""
BERT = BertConfig()
"""Of the latent diffusion paper's large text model."""
BERT_F4 = replace(BERT, width=640)
"""Of its smaller one."""
BERT_BOXES = BertConfig(vocab_size=8192, length=92, width=512, layers=16)
"""Reads where things are: tokens of boxes and their classes."""

# Image encoders

CLIP_L_VISION = VisionConfig()
"""OpenAI's ViT-L/14."""
OPENCLIP_H_VISION = VisionConfig(width=1280, layers=32, mlp_width=5120, activation="gelu", projection_width=1024)
"""OpenCLIP's ViT-H/14."""

# Autoencoders, named by kind and factor

KL_F8 = AutoencoderConfig()
KL_F8_XL = replace(KL_F8, latent_scale=0.13025)
KL_F8_UNSCALED = replace(KL_F8, latent_scale=1.0)
"""Of LSUN churches, whose file holds the scale it was trained with beside the weights, as `scale_factor`."""
KL_F4 = AutoencoderConfig(latent_channels=3, block_channels=(128, 256, 512), attention_levels=(False,) * 3, latent_scale=1.0)
KL_F4_UPSCALER = replace(KL_F4, latent_channels=4, latent_scale=0.08333)
KL_F16 = AutoencoderConfig(
    latent_channels=16,
    block_channels=(128, 128, 256, 256, 512),
    attention_levels=(False, False, False, False, True),
    latent_scale=0.22765929,
)
"""Scaled as in retrieval-augmented diffusion."""
KL_F32 = AutoencoderConfig(
    latent_channels=64,
    block_channels=(128, 128, 256, 256, 512, 512),
    attention_levels=(False, False, False, False, True, True),
    latent_scale=1.0,
)
VQ_F4 = replace(KL_F4, codebook_size=8192)
VQ_F4_PLAIN = replace(VQ_F4, middle_attention=False)
VQ_F8 = AutoencoderConfig(
    block_channels=(128, 256, 256, 512), attention_levels=(False, False, False, True), latent_scale=1.0, codebook_size=16384
)
VQ_F8_SMALL = replace(VQ_F8, codebook_size=256)
VQ_F16 = replace(KL_F16, latent_channels=8, latent_scale=1.0, codebook_size=16384)
IDENTITY = AutoencoderConfig(latent_channels=3, block_channels=(), attention_levels=(), latent_scale=1.0)
"""Latents are pixels."""

# Stable Diffusion

SD15 = ModelSpec("sd15")
SD15_INPAINT = replace(SD15, name="sd15-inpaint", unet=replace(SD15.unet, in_channels=9), concat=("mask", "masked_image"))
INSTRUCT_PIX2PIX = replace(SD15, name="instruct-pix2pix", unet=replace(SD15.unet, in_channels=8), concat=("image",), steps=100)
"""Edits a picture as it is told to (Brooks et al. 2023)."""

SD2 = replace(
    SD15,
    name="sd2",
    unet=replace(SD15.unet, heads=None, head_width=64, context_width=1024, linear_projection=True),
    text=OPENCLIP_H,
    guidance=9.0,
)
SD2_V = replace(SD2, name="sd2-v", schedule=replace(SD2.schedule, prediction="v"), size=(768, 768))
SD2_INPAINT = replace(SD2, name="sd2-inpaint", unet=replace(SD2.unet, in_channels=9), concat=("mask", "masked_image"), guidance=7.5)
SD2_DEPTH = replace(SD2, name="sd2-depth", unet=replace(SD2.unet, in_channels=5), concat=("depth",))
SD2_UNCLIP_H = replace(
    SD2_V, name="sd2-unclip-h", unet=replace(SD2.unet, vector_width=2048, vector_name="class_embedding"), vision=OPENCLIP_H_VISION
)
SD2_UNCLIP_L = replace(
    SD2_V, name="sd2-unclip-l", unet=replace(SD2.unet, vector_width=1536, vector_name="class_embedding"), vision=CLIP_L_VISION
)
SD_TURBO = replace(
    SD2,
    name="sd-turbo",
    schedule=replace(SD2.schedule, final_sigma_zero=True),
    steps=1,
    guidance=1.0,
    sampler="euler_ancestral",
    spacing="trailing",
)

X4_UPSCALER = ModelSpec(
    "x4-upscaler",
    unet=UNetConfig(
        in_channels=7,
        block_channels=(256, 512, 512, 1024),
        attention_depth=(0, 1, 1, 1),
        cross_only=(True, True, True, False),
        context_width=1024,
        linear_projection=True,
        label_classes=1000,
    ),
    autoencoder=KL_F4_UPSCALER,
    text=OPENCLIP_H,
    concat=("low_res",),
    schedule=ScheduleConfig(start=0.0001, end=0.02, prediction="v"),
    steps=75,
    guidance=9.0,
)

SDXL = ModelSpec(
    "sdxl",
    unet=UNetConfig(
        block_channels=(320, 640, 1280),
        attention_depth=(0, 2, 10),
        middle_depth=10,
        cross_only=(False,) * 3,
        heads=None,
        head_width=64,
        context_width=2048,
        linear_projection=True,
        vector_width=2816,
    ),
    autoencoder=KL_F8_XL,
    text=CLIP_L_XL,
    text_2=OPENCLIP_BIGG,
    zero_null=True,
    schedule=ScheduleConfig(final_sigma_zero=True),
    size=(1024, 1024),
    guidance=5.0,
    sampler="euler",
)
SDXL_INPAINT = replace(SDXL, name="sdxl-inpaint", unet=replace(SDXL.unet, in_channels=9), concat=("mask", "masked_image"), guidance=7.5)
SDXL_REFINER = replace(
    SDXL,
    name="sdxl-refiner",
    unet=replace(
        SDXL.unet,
        block_channels=(384, 768, 1536, 1536),
        attention_depth=(0, 4, 4, 0),
        middle_depth=4,
        cross_only=(False,) * 4,
        context_width=1280,
        vector_width=2560,
    ),
    text=OPENCLIP_BIGG,
    text_2=None,
    zero_null=False,
)
SDXL_TURBO = replace(SDXL, name="sdxl-turbo", size=(512, 512), steps=1, guidance=1.0, sampler="euler_ancestral", spacing="trailing")

# The latent diffusion paper

LDM_TEXT = replace(SD15, name="ldm-text", unet=replace(SD15.unet, context_width=1280), text=BERT, size=(256, 256), guidance=5.0)

LDM_FACES = ModelSpec(
    "ldm-faces",
    unet=UNetConfig(
        in_channels=3,
        out_channels=3,
        block_channels=(224, 448, 672, 896),
        attention_depth=(0, 1, 1, 1),
        heads=None,
        head_width=32,
        context_width=None,
    ),
    autoencoder=VQ_F4,
    text=None,
    schedule=ScheduleConfig(start=0.0015, end=0.0195),
    size=(256, 256),
    guidance=1.0,
)
"""CelebA-HQ, FFHQ and LSUN bedrooms: one architecture, no condition."""

LDM_CHURCHES = replace(
    LDM_FACES,
    name="ldm-churches",
    unet=UNetConfig(
        block_channels=(192, 384, 384, 768, 768),
        attention_depth=(1, 1, 1, 1, 0),
        cross_only=(False,) * 5,
        context_width=None,
        scale_shift=True,
        residual_resampling=True,
    ),
    autoencoder=KL_F8_UNSCALED,
    schedule=ScheduleConfig(start=0.0015, end=0.0155),
)

LDM_IMAGENET = replace(
    LDM_FACES,
    name="ldm-imagenet",
    unet=replace(LDM_FACES.unet, block_channels=(192, 384, 576, 960), heads=1, head_width=None, context_width=512),
    label=LabelConfig(classes=1001),
    steps=20,
    guidance=3.0,
)
"""ImageNet by class label, guided (cin256-v2): label 1000 means no label."""
LDM_IMAGENET_F8 = replace(
    LDM_IMAGENET,
    name="ldm-imagenet-f8",
    unet=UNetConfig(
        block_channels=(256, 512, 1024),
        attention_depth=(1, 1, 1),
        cross_only=(False,) * 3,
        heads=None,
        head_width=32,
        context_width=512,
    ),
    autoencoder=VQ_F8,
    label=LabelConfig(classes=1000),
    steps=50,
    guidance=1.0,
)
LDM_TEXT_F4 = replace(
    LDM_FACES,
    name="ldm-text-f4",
    unet=replace(LDM_FACES.unet, block_channels=(192, 384, 576, 960), context_width=640),
    text=BERT_F4,
)
LDM_LAYOUT = replace(
    LDM_FACES,
    name="ldm-layout",
    unet=replace(LDM_FACES.unet, block_channels=(128, 256, 384, 512), attention_depth=(0, 3, 3, 3), middle_depth=3, context_width=512),
    text=BERT_BOXES,
    schedule=ScheduleConfig(start=0.0015, end=0.0205),
)
LDM_INPAINT = replace(
    LDM_FACES,
    name="ldm-inpaint",
    unet=UNetConfig(
        in_channels=7,
        out_channels=3,
        block_channels=(256, 512, 768, 1024),
        attention_depth=(0, 1, 1, 1),
        context_width=None,
        residual_resampling=True,
    ),
    autoencoder=VQ_F4_PLAIN,
    concat=("masked_image", "mask"),
    schedule=ScheduleConfig(start=0.0015, end=0.0205),
)
LDM_SEMANTIC = replace(
    LDM_FACES,
    name="ldm-semantic",
    unet=UNetConfig(
        in_channels=6,
        out_channels=3,
        block_channels=(128, 512, 1024),
        # The published configuration asks for attention at resolutions that its three levels never reach.
        attention_depth=(0, 0, 0),
        cross_only=(False,) * 3,
        context_width=None,
    ),
    map=MapConfig(),
    concat=("map",),
    schedule=ScheduleConfig(start=0.0015, end=0.0205),
)
LDM_SUPERRES = replace(
    LDM_FACES,
    name="ldm-superres",
    unet=replace(LDM_FACES.unet, in_channels=6, block_channels=(160, 320, 320, 640), attention_depth=(0, 0, 0, 1)),
    concat=("low_res",),
    schedule=ScheduleConfig(start=0.0015, end=0.0155),
    steps=100,
)
RDM = replace(
    SD15,
    name="rdm",
    unet=UNetConfig(in_channels=16, out_channels=16, block_channels=(448, 896, 1344, 1792), heads=None, head_width=32, context_width=768),
    autoencoder=KL_F16,
    text=None,
    schedule=ScheduleConfig(start=0.0015, end=0.015),
    size=(768, 768),
)
"""Retrieval-augmented diffusion (Blattmann et al. 2022): CLIP embeddings of neighbours are the context."""

PIXELS = ModelSpec(
    "pixels",
    unet=UNetConfig(
        in_channels=3,
        out_channels=3,
        block_channels=(128, 256, 384, 512),
        attention_depth=(0, 0, 1, 1),
        heads=None,
        head_width=64,
        context_width=None,
    ),
    autoencoder=IDENTITY,
    text=None,
    schedule=ScheduleConfig(kind="linear", start=0.0001, end=0.02),
    size=(64, 64),
    guidance=1.0,
)
"""Diffusion in pixel space (Ho et al. 2020, whose schedule it has): latent diffusion whose first stage changes nothing."""

ZOO: dict[str, ModelSpec] = {
    spec.name: spec
    for spec in (
        SD15,
        SD15_INPAINT,
        INSTRUCT_PIX2PIX,
        SD2,
        SD2_V,
        SD2_INPAINT,
        SD2_DEPTH,
        SD2_UNCLIP_H,
        SD2_UNCLIP_L,
        SD_TURBO,
        X4_UPSCALER,
        SDXL,
        SDXL_INPAINT,
        SDXL_REFINER,
        SDXL_TURBO,
        LDM_TEXT,
        LDM_TEXT_F4,
        LDM_FACES,
        LDM_CHURCHES,
        LDM_IMAGENET,
        LDM_IMAGENET_F8,
        LDM_LAYOUT,
        LDM_INPAINT,
        LDM_SEMANTIC,
        LDM_SUPERRES,
        RDM,
        PIXELS,
    )
}
"""The specs by name."""
