"""Latent diffusion (Rombach et al. 2022): the parts put together.

Legend: B batch, C latent channels, h w latent height and width, H W picture height and width, E width of CLIP's embedding.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sumi.config import Concat, ModelSpec
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.denoiser import Denoiser, Network
from sumi.diffusion.noise import Noise
from sumi.diffusion.schedule import Schedule
from sumi.errors import RequestError
from sumi.models.channels import Depth, LowRes, Mask, MaskedImage, NoisyLowRes, Segmentation, Source
from sumi.models.embedders import ImageEmbedding, Label, sizes
from sumi.models.prompt import Emphasis, Prompt
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.unet import UNet
from sumi.text.prompt import Passage

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a batch of pictures is made from beside words; a model takes those that its spec names."""

    image: Float[Tensor, "B 3 H W"] | None = None
    """In [-1, 1]: the picture to fill in or to change, or, as large as the latent, to enlarge."""
    mask: Float[Tensor, "B 1 H W"] | None = None
    """1 where the picture is to be made anew."""
    depth: Float[Tensor, "B 1 _ _"] | None = None
    """Of any size and unit, larger nearer to the eye."""
    map: Int[Tensor, "B H W"] | None = None
    """The number of the class that each pixel is of."""
    labels: Int[Tensor, " B"] | None = None
    embedding: Float[Tensor, "B E"] | None = None
    """CLIP's, of the picture to make more like."""
    level: int | None = None
    """How much noise hides the details of a picture to enlarge, or of an embedding; None: as much as is usual."""


@dataclass(frozen=True, eq=False)
class LatentDiffusion:
    """A whole model. Its networks may be on any device and of any precision; what goes in and comes out is float32."""

    spec: ModelSpec
    unet: UNet
    autoencoder: Autoencoder
    prompt: Prompt | None
    """None: the model takes no text."""
    schedule: Schedule
    label: Label | None = None
    segmentation: Segmentation | None = None
    image_embedding: ImageEmbedding | None = None
    source: str | None = None
    """The path or name that it was loaded by."""

    @property
    def device(self) -> torch.device:
        return self.unet.conv_in.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.conv_in.weight.dtype

    def encode(
        self,
        texts: Sequence[str | Passage],
        size: tuple[int, int] | None = None,
        *,
        away: bool = False,
        emphasis: Emphasis = "mean",
        skip: int = 1,
    ) -> Conditioning:
        """What the UNet is told of each text, a str being taken as it is; nothing, if the model takes no text.

        `size`, in pixels, is the pictures' height and width, by default the model's own, of which some models are told, too.
        `away`: to be what guidance leads away from. `emphasis` and `skip`: see `Prompt`.
        """
        if self.prompt is None:
            return Conditioning()
        told = (self.prompt.away if away else self.prompt)(texts, emphasis=emphasis, skip=skip)
        if (embedder := sizes(self.spec)) is None:
            return told
        told_size = (embedder.null if away else embedder)(size or self.spec.size, len(texts))
        return told.to(self.device).beside(told_size.to(self.device))

    def conditions(
        self,
        texts: Sequence[str],
        inputs: Inputs,
        noise: Noise,
        *,
        negative: Sequence[str] | None = None,
        size: tuple[int, int] | None = None,
    ) -> tuple[Conditioning, Conditioning]:
        """All that the UNet is told of each picture of a batch: what guidance leads to, and what it leads away from.

        `noise` is the pictures' own; draws for their sampling are left alone. RequestError for an input that is missing.
        """
        count = len(texts)
        given, away = self.encode(texts, size), self.encode(negative or [""] * count, size, away=True)
        if self.label is not None:
            given, away = given.beside(self.label(self._needed(inputs.labels, "a label"))), away.beside(self.label.null(count))
        if self.image_embedding is not None:
            embedding = self._needed(inputs.embedding, "the embedding of a picture").to(self.device)
            given = given.beside(self.image_embedding(embedding, noise, inputs.level))
            away = away.beside(self.image_embedding.null(count).to(self.device))
        channels = Conditioning().beside(*(self._channels(name, inputs, noise, size or self.spec.size) for name in self.spec.concat))
        channels = channels.to(self.device)
        return given.beside(channels), away.beside(channels)

    def denoiser(self, network: Network | None = None) -> Denoiser:
        """(x, sigma, conditioning) -> x0, in float32, whatever the precision of the network, by default the UNet."""
        return Denoiser(partial(self._predict, network or self.unet), self.schedule, self.spec.schedule.prediction)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of a picture's latent; sides in pixels, multiples of `spec.multiple`."""
        return self.spec.autoencoder.latent_channels, height // self.spec.factor, width // self.spec.factor

    def latent(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """The most likely latent of pictures in [-1, 1]."""
        return self.autoencoder.encode(image.to(next(self.autoencoder.parameters(), image))).mode().float().to(self.device)

    def decode(self, latent: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        """Pictures in [-1, 1], unclamped."""
        # An autoencoder for which pixels are latents has no parameters.
        return self.autoencoder.decode(latent.to(next(self.autoencoder.parameters(), latent))).float()

    def _channels(self, name: Concat, inputs: Inputs, noise: Noise, size: tuple[int, int]) -> Conditioning:
        """One entry of `spec.concat`."""
        concat, (_, height, width) = self.spec.concat, self.latent_shape(*size)
        # The latent diffusion paper's inpainting differs from Stable Diffusion's in more than this, but is known by it.
        paper = name in ("mask", "masked_image") and concat.index("masked_image") < concat.index("mask")
        match name:
            case "mask":
                return Mask(signed=paper)(self._needed(inputs.mask, "a mask"), (height, width))
            case "masked_image":
                image, mask = self._needed(inputs.image, "a picture"), self._needed(inputs.mask, "a mask")
                return MaskedImage(self.autoencoder, black=paper)(image, mask, noise)
            case "image":
                return Source(self.autoencoder)(self._needed(inputs.image, "a picture"))
            case "low_res":
                image = self._needed(inputs.image, "a picture")
                return LowRes()(image) if self.spec.unet.label_classes is None else NoisyLowRes()(image, noise, inputs.level)
            case "depth":
                return Depth()(self._needed(inputs.depth, "a depth map"), (height, width))
            case "map":
                segmentation = self.segmentation
                assert segmentation is not None
                return segmentation(self._needed(inputs.map, "a map of classes"))

    def _needed(self, value: T | None, what: str) -> T:
        if value is None:
            raise RequestError(f"{self.spec.name} needs {what}: give it one")
        return value

    def digest(self) -> str:
        """Twelve hexadecimal digits that another model, or the same in another precision, most likely has not.

        Of what it predicts, and of every weight's name, shape and a few of its numbers: reading all the weights of a large model would
        take seconds.
        """
        found = blake2b(repr(self.spec.schedule).encode(), digest_size=6)
        networks = (self.unet, self.autoencoder, *self._text_encoders())
        for name, weight in itertools.chain.from_iterable(network.state_dict().items() for network in networks):
            sampled = weight.flatten()[:: max(1, weight.numel() // 16)].float().cpu().numpy()
            found.update(f"{name} {tuple(weight.shape)} ".encode() + sampled.tobytes())
        return found.hexdigest()

    def _text_encoders(self) -> Iterator[nn.Module]:
        reader = self.prompt
        while reader is not None:
            yield reader.encoder
            reader = reader.second

    def _predict(self, network: Network, x: Tensor, t: Tensor, context: Tensor | None, vector: Tensor | None) -> Tensor:
        dtype = self.dtype
        return network(x.to(dtype), t, None if context is None else context.to(dtype), vector).float()
