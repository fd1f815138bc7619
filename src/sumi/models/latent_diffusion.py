"""Latent diffusion (Rombach et al. 2022): the parts put together.

Legend: B batch, C latent channels, h w latent height and width, H W picture height and width, E width of CLIP's embedding.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sumi.config import Concat, ModelSpec
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.denoiser import Denoiser, Network
from sumi.diffusion.noise import Noise
from sumi.diffusion.schedule import Schedule
from sumi.errors import RequestError
from sumi.models.channels import Depth, LowRes, Mask, MaskedImage, NoisyLowRes, Segmentation, Source, enlarged_patch, left_out
from sumi.models.embedders import ImageEmbedding, Label, sizes
from sumi.models.prompt import Emphasis, Prompt
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.clip import VisionEncoder
from sumi.nets.unet import UNet
from sumi.text.prompt import Passage

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a batch of pictures is made from beside words; a model takes those that its spec names."""

    image: Float[Tensor, "B 3 H W"] | None = None
    """In [-1, 1]: the picture to fill in or to change."""
    mask: Float[Tensor, "B 1 H W"] | None = None
    """1 where the picture is to be made anew."""
    low_res: Float[Tensor, "B 3 _ _"] | None = None
    """In [-1, 1]: the picture to enlarge."""
    depth: Float[Tensor, "B 1 _ _"] | None = None
    """Of any size and unit, larger nearer to the eye."""
    map: Int[Tensor, "B _ _"] | None = None
    """Of any size: the number of the class that each pixel is of, -1 where it is not known."""
    labels: Int[Tensor, " B"] | None = None
    embedding: Float[Tensor, "B E"] | None = None
    """CLIP's, of the picture to make more like."""
    level: int | None = None
    """How much noise hides the details of a picture to enlarge, or of an embedding; None: as much as is usual."""

    def __getitem__(self, rows: slice) -> "Inputs":
        """Those of some of the pictures."""
        return self._each(lambda tensor: tensor[rows])

    @property
    def count(self) -> int:
        """How many pictures they are of; 1 where there are none, or one for all."""
        return max((len(value) for field in fields(self) if isinstance(value := getattr(self, field.name), Tensor)), default=1)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Inputs":
        found: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        changed: dict[str, Any] = {name: change(value) if isinstance(value, Tensor) else value for name, value in found.items()}
        return Inputs(**changed)


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
    vision: VisionEncoder | None = None
    """What makes the embedding of a picture; None: the model takes none, or came without it."""
    source: str | None = None
    """The path or name that it was loaded by."""
    windows: Callable[[Network], Network] | None = None
    """How a picture larger than the network can see is shown to it; None: whole."""

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
        words = self.encode(texts, size), self.encode(negative or [""] * len(texts), size, away=True)
        given, away = self.beside_words(inputs, noise, size)
        return words[0].followed(given), words[1].followed(away)

    def beside_words(self, inputs: Inputs, noise: Noise, size: tuple[int, int] | None = None) -> tuple[Conditioning, Conditioning]:
        """What the UNet is told of each picture of a batch beside words, as in `conditions`: to follow what it is told in words.

        Inputs of one picture are those of each. Nothing is told where the model takes nothing.
        """
        count, given, away = len(noise.images), Conditioning(), Conditioning()
        if self.label is not None:
            labels = inputs.labels if self.spec.optional else self._needed(inputs.labels, "a class label", "label")
            away = self.label.null(count)
            given = away if labels is None else self.label(labels.expand(count))
        if self.image_embedding is not None:
            embedding = self._needed(inputs.embedding, "a picture to make variations of", "like").to(self.device)
            given = given.beside(self.image_embedding(embedding.expand(count, -1), noise, inputs.level))
            away = away.beside(self.image_embedding.null(count).to(self.device))
        channels = Conditioning()
        for name in self.spec.concat:
            told = self._channels(name, inputs, noise, size or self.spec.size).to(self.device)
            channels = channels.beside(replace(told, concat=None if told.concat is None else told.concat.expand(count, -1, -1, -1)))
        return given.beside(channels), away.beside(channels)

    def denoiser(self, network: Network | None = None) -> Denoiser:
        """(x, sigma, conditioning) -> x0, in float32, whatever the precision of the network, by default the UNet."""
        seen = partial(self._predict, network or self.unet)
        return Denoiser(self.windows(seen) if self.windows else seen, self.schedule, self.spec.schedule.prediction)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of a picture's latent; sides in pixels, multiples of `spec.multiple`."""
        return self.spec.autoencoder.latent_channels, height // self.spec.factor, width // self.spec.factor

    def latent(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """The most likely latent of pictures in [-1, 1]."""
        return self.autoencoder.encode(image.to(next(self.autoencoder.parameters(), image))).mode().float().to(self.device)

    def embed(self, pixels: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B E"]:
        """CLIP's embeddings of pictures as its image encoder wants them: of its size, normalised. RequestError if there is no encoder."""
        if self.vision is None:
            raise RequestError(f"{self.spec.name} has no image encoder, so no picture can be given: use a folder of it that has one")
        embedding: Tensor = self.vision(pixels.to(self.vision.visual_projection.weight))
        return embedding.float()

    def decode(self, latent: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 H W"]:
        """Pictures in [-1, 1], unclamped."""
        # An autoencoder for which pixels are latents has no parameters.
        return self.autoencoder.decode(latent.to(next(self.autoencoder.parameters(), latent))).float()

    def _channels(self, name: Concat, inputs: Inputs, noise: Noise, size: tuple[int, int]) -> Conditioning:
        """One entry of `spec.concat`."""
        concat, (_, *cells) = self.spec.concat, self.latent_shape(*size)
        height, width = cells
        if self.spec.optional and None in self._of(name, inputs):
            return left_out(self.spec, name, len(noise.images), (height, width))
        # The latent diffusion paper's inpainting differs from Stable Diffusion's in more than this, but is known by it.
        paper = name in ("mask", "masked_image") and concat.index("masked_image") < concat.index("mask")
        match name:
            case "mask":
                return Mask(signed=paper)(self._needed(inputs.mask, "a mask", "mask"), (height, width))
            case "masked_image":
                image, mask = self._needed(inputs.image, "a picture to fill in", "image"), self._needed(inputs.mask, "a mask", "mask")
                return MaskedImage(self.autoencoder, black=paper)(image, mask, noise)
            case "image":
                return Source(self.autoencoder)(self._needed(inputs.image, "a picture to change", "image"))
            case "low_res":
                image = self._needed(inputs.low_res, "a picture to enlarge", "low_res")
                if self.spec.unet.label_classes is None:
                    return LowRes(enlarged_patch(self.spec))(image)
                return NoisyLowRes()(image.expand(len(noise.images), -1, -1, -1), noise, inputs.level)
            case "depth":
                return Depth()(self._needed(inputs.depth, "a depth map", "depth"), (height, width))
            case "map":
                segmentation = self.segmentation
                assert segmentation is not None
                fine = segmentation.rescaler.config.patch_size << segmentation.rescaler.config.halvings
                return segmentation(_nearest(self._needed(inputs.map, "a map of classes", "map"), (height * fine, width * fine)))

    def _of(self, name: Concat, inputs: Inputs) -> tuple[Tensor | None, ...]:
        """The inputs that an entry of `spec.concat` is made from."""
        match name:
            case "mask":
                return (inputs.mask,)
            case "masked_image":
                return inputs.image, inputs.mask
            case _:
                return (getattr(inputs, name),)

    def _needed(self, value: T | None, what: str, field: str) -> T:
        if value is None:
            raise RequestError(f"{self.spec.name} needs {what}: give it one as {field}")
        return value

    def digest(self) -> str:
        """Twelve hexadecimal digits that another model, or the same in another precision, most likely has not.

        Of what it predicts, and of every weight's name, shape and a few of its numbers: reading all the weights of a large model would
        take seconds.
        """
        found = blake2b(repr(self.spec.schedule).encode(), digest_size=6)
        eyes = () if self.vision is None else (self.vision,)
        networks = (self.unet, self.autoencoder, *self._text_encoders(), *eyes)
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


def _nearest(labels: Int[Tensor, "B _ _"], size: tuple[int, int]) -> Int[Tensor, "B H W"]:
    """A map of numbers at another (height, width), each the nearest one's."""
    rows, columns = ((torch.arange(to) * 2 + 1) * length // (2 * to) for to, length in zip(size, labels.shape[1:], strict=True))
    return labels[:, rows[:, None], columns]
