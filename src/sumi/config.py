"""What a model *is*: frozen data, one class a part. A variant is `dataclasses.replace(base, ...)`.

The defaults are Stable Diffusion 1.5. How a model runs (device, precision) is placement, what is asked of it is a
`Request`: neither belongs here.
"""

from dataclasses import dataclass
from typing import Literal

Activation = Literal["quick_gelu", "gelu"]
Prediction = Literal["eps", "v", "x0"]


@dataclass(frozen=True)
class UNetConfig:
    """The noise predictor. Every tuple has one entry a level, finest resolution first."""

    in_channels: int = 4
    """Latent channels plus those of `Conditioning.concat`."""
    out_channels: int = 4
    block_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    attention_depth: tuple[int, ...] = (1, 1, 1, 0)
    """Transformer blocks after each residual block of a level; 0 is none."""
    middle_depth: int = 1
    heads: int | tuple[int, ...] | None = 8
    """Attention heads, fixed or by level. Exactly one of `heads` and `head_width` is set."""
    head_width: int | None = None
    context_width: int | None = 768
    """Width of the cross-attended tokens. None: attention is over the picture alone, one `AttentionBlock` a layer."""
    linear_projection: bool = False
    """Enter and leave a transformer by a linear layer (SD 2, SDXL) rather than a 1x1 convolution (SD 1)."""
    cross_only: tuple[bool, ...] = (False, False, False, False)
    """Levels whose first attention, too, attends to the context (x4-upscaler)."""
    scale_shift: bool = False
    """The time embedding scales and shifts the second normalisation instead of being added before it."""
    residual_resampling: bool = False
    """Resample inside a residual block (average pooling, nearest) instead of by a strided convolution."""
    label_classes: int | None = None
    """Size of an embedding table for integer labels, added to the time embedding."""
    vector_width: int | None = None
    """Width of a conditioning vector that a two-layer perceptron adds to the time embedding."""
    vector_name: Literal["add_embedding", "class_embedding"] = "add_embedding"
    """What published folders call that perceptron: SDXL the first, unCLIP and the shipped model the second."""
    norm_groups: int = 32

    def __post_init__(self) -> None:
        levels = len(self.block_channels)
        for name in ("attention_depth", "cross_only"):
            if len(getattr(self, name)) != levels:
                raise ValueError(f"UNetConfig.{name} has {len(getattr(self, name))} entries for {levels} levels")
        if isinstance(self.heads, tuple) and len(self.heads) != levels:
            raise ValueError(f"UNetConfig.heads has {len(self.heads)} entries for {levels} levels")
        if (self.heads is None) == (self.head_width is None):
            raise ValueError("UNetConfig: set exactly one of heads and head_width")
        if self.label_classes is not None and self.vector_width is not None:
            raise ValueError("UNetConfig: set at most one of label_classes and vector_width")

    def heads_at(self, level: int) -> int:
        """Attention heads of a level (0 is the finest; -1 is the middle's)."""
        if self.head_width is not None:
            return self.block_channels[level] // self.head_width
        heads = self.heads
        assert heads is not None
        return heads[level] if isinstance(heads, tuple) else heads


@dataclass(frozen=True)
class AutoencoderConfig:
    """Pixels and latents: KL-regularised, vector-quantised when `codebook_size` is set, or one and the same when there are no blocks."""

    image_channels: int = 3
    latent_channels: int = 4
    block_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    attention_levels: tuple[bool, ...] = (False, False, False, False)
    middle_attention: bool = True
    norm_groups: int = 32
    latent_scale: float = 0.18215
    """Latents are multiplied by this on the way out of `encode`, divided by it on the way into `decode`."""
    codebook_size: int | None = None
    patch_size: int = 1
    """Pixels along one side that enter and leave as channels of one cell. Published models have 1; 2 lets a network that is too small
    to work at full resolution spend itself on the rest, and learn far faster."""

    def __post_init__(self) -> None:
        if len(self.attention_levels) != len(self.block_channels):
            raise ValueError(
                f"AutoencoderConfig.attention_levels has {len(self.attention_levels)} entries for {len(self.block_channels)} levels"
            )
        if self.identity:
            same = (self.latent_channels, self.latent_scale, self.codebook_size, self.patch_size) == (self.image_channels, 1.0, None, 1)
            if not same:
                raise ValueError("AutoencoderConfig without blocks: latents are the pixels themselves, and nothing else can be set")

    @property
    def identity(self) -> bool:
        """Whether latents are pixels: diffusion without a first stage."""
        return not self.block_channels

    @property
    def factor(self) -> int:
        """Pixels per latent cell, along one side."""
        return 1 if self.identity else self.patch_size << (len(self.block_channels) - 1)


@dataclass(frozen=True)
class TextConfig:
    """A CLIP text transformer and the tokens it reads."""

    vocab_size: int = 49408
    length: int = 77
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    activation: Activation = "quick_gelu"
    projection_width: int | None = None
    output_layer: int = -1
    """Which layer's output is the context: -1 the last, -2 the one before (SD 2 by its 24-layer file, SDXL)."""
    final_norm: bool = True
    """Whether the final layer norm is applied to that output (SD 1 and SD 2 do, SDXL does not)."""
    eos_id: int = 49407
    pad_id: int = 49407


@dataclass(frozen=True)
class BertConfig:
    """The transformer that reads words (or boxes) in the latent diffusion paper's own text models: no mask, no bias to q, k and v."""

    vocab_size: int = 30522
    length: int = 77
    width: int = 1280
    layers: int = 32
    heads: int = 8
    head_width: int = 64
    pad_id: int = 0


@dataclass(frozen=True)
class LabelConfig:
    """A table with one token of context for each class label (ImageNet models of the latent diffusion paper)."""

    classes: int = 1000
    """One more than the data has where the last stands for no label."""
    width: int = 512


@dataclass(frozen=True)
class MapConfig:
    """What makes a one-hot segmentation map as small as the latent (semantic synthesis): halvings, then a 1x1 convolution."""

    classes: int = 182
    channels: int = 3
    halvings: int = 2
    patch_size: int = 1
    """Cells along one side, of what is left, that enter as channels of one; published models have 1."""


@dataclass(frozen=True)
class VisionConfig:
    """A CLIP image transformer."""

    image_size: int = 224
    patch_size: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    mlp_width: int = 4096
    activation: Activation = "quick_gelu"
    projection_width: int = 768


@dataclass(frozen=True)
class ScheduleConfig:
    """The forward process, and what its network predicts."""

    kind: Literal["scaled_linear", "linear", "cosine"] = "scaled_linear"
    start: float = 0.00085
    end: float = 0.012
    steps: int = 1000
    zero_terminal_snr: bool = False
    prediction: Prediction = "eps"
    final_sigma_zero: bool = False
    """Whether sampling ends at sigma 0 or, as the reference DDIM, at sigma(t=0)."""
    steps_offset: int = 1
    """Added to each time of the leading spacing (1 in every published Stable Diffusion)."""


Concat = Literal["mask", "masked_image", "image", "low_res", "depth", "map"]


@dataclass(frozen=True)
class ModelSpec:
    """A whole latent diffusion model and the settings that suit it."""

    name: str
    unet: UNetConfig = UNetConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    text: TextConfig | BertConfig | None = TextConfig()
    """None: no words."""
    text_2: TextConfig | None = None
    """A second text encoder, whose features lie beside the first's and whose pooled vector is the one used (SDXL)."""
    label: LabelConfig | None = None
    """Class labels as context, behind the words where there are words."""
    map: MapConfig | None = None
    """Segmentation maps as channels beside the latent."""
    vision: VisionConfig | None = None
    """The image encoder whose embedding of a picture the UNet is told (unCLIP)."""
    concat: tuple[Concat, ...] = ()
    """What lies beside the noised latent in the UNet's input, in order."""
    optional: bool = False
    """Whether the model was trained without its labels and without each of `concat`, too, so that they may be left out."""
    zero_null: bool = False
    """No prompt is zeros rather than what the text encoders say of the empty one (SDXL, which was trained so)."""
    schedule: ScheduleConfig = ScheduleConfig()
    classes: tuple[str, ...] = ()
    """Names of the classes of labels, where they have any. In a map they count from 1, and 0 is what is none of them."""
    size: tuple[int, int] = (512, 512)
    """Height and width, in pixels, of a picture when none are asked for."""
    steps: int = 50
    guidance: float = 7.5
    sampler: str = "ddim"
    options: tuple[tuple[str, float], ...] = ()
    """Of the sampler, by name, where they are not its own."""
    spacing: str = "leading"

    @property
    def factor(self) -> int:
        """Pixels per latent cell, along one side."""
        return self.autoencoder.factor

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this, or the UNet's levels would not meet again on the way up."""
        return self.factor << (len(self.unet.block_channels) - 1)
