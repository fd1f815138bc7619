"""Train the noise predictor, with its text encoder, on cached latents."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import starmap
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sumi.config import ModelSpec, TextConfig, UNetConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.denoiser import Denoiser
from sumi.diffusion.guidance import cfg
from sumi.diffusion.noise import Noise
from sumi.diffusion.samplers.step import finish, start
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.diffusion.schedule import Schedule
from sumi.diffusion.spacings import spaced
from sumi.errors import RecipeError
from sumi.models.channels import LowRes, Mask, MaskedImage, Segmentation, enlarged_patch, left_out
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.clip import TextEncoder
from sumi.nets.conditioners import LabelEmbedding, MapRescaler
from sumi.nets.unet import UNet
from sumi.store.folder import Parts, write_folder
from sumi.text.bpe import Tokenizer
from sumi.train.contexts import UNKNOWN, Example
from sumi.train.data import drawn, normal, sheet, to_pictures, to_tensor
from sumi.train.scenes import World

MAP_CELLS = 2
"""Cells of the auxiliary segmentation map along one side of a cell of the features that it is read off."""
CHUNK = 128
"""Scenes that are drawn, and encoded, together."""

Order: TypeAlias = tuple[World, tuple[int, ...], int, int, int, str, Mapping[str, float]]
"""Arguments of `drawn`."""


@dataclass(frozen=True)
class Batch:
    """Scenes as the noise predictor sees them: latents, captions, and the map of what is where."""

    latents: Tensor  # B Z h w, scaled
    ids: Tensor  # B L
    maps: Tensor  # B m m, class id + 1, 0 for the background
    labels: Tensor  # B, the last where there is none
    channels: Tensor  # B K h w, of all of `concat` but the map
    classes: Tensor  # B H W, class id + 1, 0 for the background, -1 where it is not said

    def __getitem__(self, index: Tensor | slice) -> "Batch":
        return self._each(lambda tensor: tensor[index])

    def to(self, device: torch.device) -> "Batch":
        return self._each(lambda tensor: tensor.to(device))

    def without_words(self, dropped: Tensor, ids: Tensor, label: int) -> "Batch":
        """Where `dropped` [B] is true, with the empty caption's `ids` and the `label` that stands for none."""
        return replace(
            self,
            ids=torch.where(dropped[:, None], ids, self.ids),
            labels=torch.where(dropped, torch.full_like(self.labels, label), self.labels),
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(*(change(getattr(self, field.name)) for field in fields(self)))


class NoisePredictorTask:
    """Learn f(x, t, y) by denoising (Ho et al. 2020; Rombach et al. 2022, equation 3), y being a caption.

    Captions are replaced by the empty one for `drop` of the samples, so that one network serves both sides of guidance
    (Ho and Salimans 2022). Times are stratified over the batch. Losses are weighted by min(SNR, 5) for x0, that is
    (min(SNR, 5) + 1) / (SNR + 1) for v (Hang et al. 2023, with the 1 that keeps pure noise from counting for nothing).

    Since every scene's segmentation map is known, a linear head on the UNet's innermost upsampled features also has to
    name what is where: features that carry the classes come much earlier than by denoising alone (the idea of aligning
    features with a trained encoder, Yu et al. 2025). The head is thrown away.

    A spec with labels, maps or other channels beside the latent is trained with them: `jobs` says how often each is what a sample
    is to be made from (see `sumi.train.contexts`); what a sample is not made from is left out of it.
    """

    def __init__(
        self,
        spec: ModelSpec,
        autoencoder: Autoencoder,
        tokenizer: Tokenizer,
        text_encoder: TextEncoder,
        *,
        vocabulary: str,
        kinds: dict[str, float] | None = None,
        batch: int = 64,
        drop: float = 0.1,
        map_weight: float = 0.1,
        text_rate: float = 1.0,
        cache: int = 8192,
        reuse: int = 6,
        prompts: tuple[str, ...] = (),
        unet: UNet | None = None,
        processes: int = 0,
        jobs: Mapping[str, float] | None = None,
        label: LabelEmbedding | None = None,
        rescaler: MapRescaler | None = None,
    ) -> None:
        if len(spec.unet.block_channels) < 2:
            raise RecipeError("unet.block_channels needs two levels at least: the auxiliary map is read off the first upsampling")
        if "map" in spec.concat[:-1]:
            raise RecipeError("a map's channels are learnt, and lie behind those that are not: put map last in concat")
        self.spec, self.batch, self.drop, self.map_weight = spec, batch, drop, map_weight
        self.jobs = dict(jobs or {"text": 1.0})
        self.world = World(vocabulary, kinds)
        self.autoencoder, self.tokenizer, self.text_encoder = autoencoder.eval().requires_grad_(False), tokenizer, text_encoder
        self.unet = unet if unet is not None else fresh_unet(spec.unet)
        self.map_head = nn.Conv2d(spec.unet.block_channels[-1], MAP_CELLS**2 * (len(self.world.classes) + 1), 1)
        if unet is not None:  # which has learnt something already: a head that knows nothing would disturb it
            nn.init.zeros_(self.map_head.weight)
        self.modules: dict[str, nn.Module] = {"unet": self.unet, "text": self.text_encoder, "map_head": self.map_head}
        self.label = label or (None if spec.label is None else LabelEmbedding(spec.label))
        self.rescaler = rescaler or (None if spec.map is None else MapRescaler(spec.map))
        self.modules |= {} if self.label is None else {"label": self.label}
        self.modules |= {} if self.rescaler is None else {"map": self.rescaler}
        self.rates = {"text": text_rate}
        text_encoder.requires_grad_(text_rate > 0)
        self.schedule = Schedule(spec.schedule)
        self.denoiser = Denoiser(self._network, self.schedule, spec.schedule.prediction)
        self.prompts = prompts
        self.null = torch.tensor(tokenizer(""))
        self.cache_size, self.epoch_steps = cache, max(1, cache * reuse // batch)
        self.cache: Batch | None = None
        self.cached_epoch = -1
        self._lock = threading.Lock()
        self._kept = threading.local()
        self._pool = ProcessPoolExecutor(processes, get_context("spawn")) if processes else None
        self._ahead: dict[int, list[Future[list[Example]]]] = {}
        self.unet.get_submodule("up_blocks.0.upsamplers.0").register_forward_hook(self._keep)
        self.held_out = self._encoded(starmap(drawn, self._orders((1,), 256, "held-out", {"text": 1.0})), (1,))
        self.held_out_jobs = {
            job: self._encoded(starmap(drawn, self._orders((1, number), 64, "held-out", {job: 1.0})), (1, number))
            for number, job in enumerate(self.jobs)
            if job != "text"
        }

    @property
    def device(self) -> torch.device:
        """Where the networks that learn are; what else takes part in a step goes there."""
        return self.unet.conv_in.weight.device

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        cached, device = self._epoch(step // self.epoch_steps), self.device
        batch = cached[torch.from_numpy(rng.integers(self.cache_size, size=self.batch)).to(device)]
        dropped = torch.from_numpy(rng.random(self.batch) < self.drop).to(device)
        batch = batch.without_words(dropped, self.null.to(device), self._no_label)
        t = torch.from_numpy((np.arange(self.batch) + rng.random(self.batch)) / self.batch * len(self.schedule.sigmas)).long()
        error, features = self._error(batch, t, normal(rng, batch.latents))
        snr = self.schedule.sigmas[t].to(device) ** -2
        denoising = (error * (snr.clamp(max=5) + 1) / (snr + 1)).mean()
        logits = F.pixel_shuffle(self.map_head(features), MAP_CELLS).float()
        naming = F.cross_entropy(logits, batch.maps)
        return denoising + self.map_weight * naming, {"denoising": float(denoising.detach()), "naming": float(naming.detach())}

    def validate(self) -> dict[str, float]:
        """Squared error of v on held-out scenes with fixed times and noise: with their captions, with another's, with none.

        And with what each job makes a picture from.
        """
        batch, null = self.held_out.to(self.device), self.null.to(self.device)
        captions = {"val": batch.ids, "val_wrong": batch.ids.roll(1, 0), "val_null": null.expand(len(batch.ids), -1)}
        found = {name: self._fixed_error(replace(batch, ids=ids)) for name, ids in captions.items()}
        return found | {f"val_{job}": self._fixed_error(held_out.to(self.device)) for job, held_out in self.held_out_jobs.items()}

    def pictures(self) -> dict[str, np.ndarray]:
        """The fixed prompts, and of each job held-out scenes above what is made from them; seed 0, at the model's own settings."""
        found = {"prompts": sheet(to_pictures(self.sample(self.prompts)), 8)} if self.prompts else {}
        for job, batch in self.held_out_jobs.items():
            some = batch[:8].to(self.device)
            pairs = [to_pictures(self.autoencoder.decode(some.latents)), to_pictures(self.made(some))]
            found[job] = sheet(np.concatenate(pairs), 8)
        return found

    def sample(self, prompts: tuple[str, ...], seed: int = 0) -> Tensor:
        """Pictures [B 3 H W] of `prompts` at the model's own settings; picture i is image i of the seed."""
        ids = torch.tensor([self.tokenizer(p) for p in prompts]).to(self.device)
        nothing = self._nothing(len(prompts))
        return self.made(replace(nothing, ids=ids), seed)

    def made(self, batch: Batch, seed: int = 0) -> Tensor:
        """Pictures [B 3 H W] from what a batch gives, whatever its latents, as `sample`."""
        spec, count = self.spec, len(batch.ids)
        noise = Noise(seed, range(count), tuple(batch.latents.shape[1:]), self.device)
        cond = self._condition(batch)
        everywhere = torch.ones(count, dtype=torch.bool, device=self.device)
        null = self._condition(batch.without_words(everywhere, self.null.to(self.device), self._no_label))
        sampler = SAMPLERS[spec.sampler]
        sigmas = spaced(self.schedule, spec.steps, spec.spacing, to_zero=not sampler.ends_early)
        denoise = cfg(self.denoiser, cond, null, spec.guidance)
        *_, last = sampler.function(denoise, start(noise(0), sigmas[0]), sigmas, noise)
        return self.autoencoder.decode(finish(last.x, last.sigma))

    def export(self, folder: Path) -> None:
        """Write the whole model: a folder that `sumi.load` and published programs open."""
        parts = Parts(self.unet, self.autoencoder, (self.text_encoder,), (self.tokenizer,), self.label, self.rescaler)
        write_folder(folder / "model", self.spec, parts, dtype=torch.float16)

    def _network(self, x: Tensor, t: Tensor, context: Tensor | None, vector: Tensor | None) -> Tensor:
        """The UNet in the precision that it is trained in."""
        out: Tensor = self.unet(x.to(self.unet.conv_in.weight.dtype), t, context, vector)
        return out

    @property
    def _no_label(self) -> int:
        return 0 if self.spec.label is None else self.spec.label.classes - 1

    def _condition(self, batch: Batch) -> Conditioning:
        features = self.text_encoder(batch.ids)
        told = Conditioning(features.hidden, vector=features.pooled)
        if self.label is not None:
            told = told.followed(Conditioning(self.label(batch.labels)))
        if batch.channels.shape[1]:
            told = told.beside(Conditioning(concat=batch.channels))
        if self.rescaler is not None:
            told = told.beside(Segmentation(self.rescaler)(batch.classes.long()))
        return told

    def _error(self, batch: Batch, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error of each sample, and the features that the map is read off."""
        sigma = self.schedule.sigmas[t].to(self.device)
        output = self.denoiser.output(batch.latents + sigma[:, None, None, None] * noise, sigma, self._condition(batch))
        target = self.denoiser.target(batch.latents, noise, sigma)
        return (output - target).square().mean((1, 2, 3)), self._kept.features

    def _fixed_error(self, batch: Batch) -> float:
        """Of all times alike, with noise that depends on nothing but the number of samples."""
        count = len(batch.ids)
        noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        t = ((torch.arange(count) * 157 % count + 0.5) / count * len(self.schedule.sigmas)).long()
        return float(self._error(batch, t, noise)[0].mean())

    def _nothing(self, count: int) -> Batch:
        """Samples that nothing is given of."""
        height, width = (side // self.spec.factor for side in self.spec.size)
        names = [name for name in self.spec.concat if name != "map"]
        channels = [left_out(self.spec, name, count, (height, width)).concat for name in names]
        return Batch(
            torch.zeros(count, self.spec.autoencoder.latent_channels, height, width),
            self.null.expand(count, -1),
            torch.zeros(count, 0, 0, dtype=torch.long),
            torch.full((count,), self._no_label),
            torch.cat([torch.zeros(count, 0, height, width), *(each for each in channels if each is not None)], 1),
            torch.full((count, *self.spec.size), UNKNOWN, dtype=torch.int16),
        ).to(self.device)

    def _epoch(self, epoch: int) -> Batch:
        """The latents of one epoch: a function of its number, so that a resumed run sees the same."""
        with self._lock:
            if self.cache is None or epoch != self.cached_epoch:
                self.cache, self.cached_epoch = self._encoded(self._scenes(epoch), (7, epoch)), epoch
                if self._pool is not None:
                    self._ahead = {epoch + 1: self._ordered(epoch + 1, self._pool)}
            return self.cache

    def _scenes(self, epoch: int) -> Iterable[list[Example]]:
        if self._pool is None:
            return starmap(drawn, self._orders((7, epoch), self.cache_size, "train", self.jobs))
        return (future.result() for future in self._ordered(epoch, self._pool))

    def _ordered(self, epoch: int, pool: ProcessPoolExecutor) -> list[Future[list[Example]]]:
        """The scenes of an epoch, being rendered."""
        orders = self._orders((7, epoch), self.cache_size, "train", self.jobs)
        return self._ahead.pop(epoch, None) or [pool.submit(drawn, *order) for order in orders]

    def _keep(self, _module: nn.Module, _inputs: object, features: Tensor) -> None:
        """Hold the features of this thread's last forward pass, for the auxiliary head."""
        self._kept.features = features

    def _orders(self, seed: tuple[int, ...], count: int, split: str, jobs: Mapping[str, float]) -> list[Order]:
        """What to draw, a hundred or so at a time."""
        # The first upsampling doubles the coarsest of the UNet's levels.
        cells = MAP_CELLS * self.spec.size[0] // self.spec.factor >> len(self.spec.unet.block_channels) - 2
        sizes = [min(CHUNK, count - first) for first in range(0, count, CHUNK)]
        return [(self.world, (*seed, number), size, self.spec.size[0], cells, split, jobs) for number, size in enumerate(sizes)]

    def _encoded(self, chunks: Iterable[list[Example]], seed: tuple[int, ...]) -> Batch:
        parts = []
        rng, device = np.random.default_rng([*seed, CHUNK]), self.device
        self.autoencoder.to(device)
        with torch.inference_mode():
            for chunk in chunks:
                images = to_tensor([example.picture for example in chunk]).to(device)
                posterior = self.autoencoder.encode(images)
                given = Batch(
                    posterior.sample(normal(rng, posterior.mean)),
                    torch.tensor([self.tokenizer(example.caption) for example in chunk]).to(device),
                    torch.from_numpy(np.stack([example.cells for example in chunk])).to(device),
                    torch.tensor([self._no_label if example.label == UNKNOWN else example.label for example in chunk], device=device),
                    self._channels(chunk, images, rng),
                    torch.from_numpy(np.stack([example.classes for example in chunk])).to(device),
                )
                parts.append([getattr(given, field.name) for field in fields(given)])
        return Batch(*(torch.cat(column).clone() for column in zip(*parts, strict=True)))

    def _channels(self, chunk: Sequence[Example], images: Tensor, rng: np.random.Generator) -> Tensor:
        """What lies beside the latents of examples, but for the map, which is learned; as it is when pictures are made."""
        cells = (images.shape[2] // self.spec.factor, images.shape[3] // self.spec.factor)
        noise = Noise(int(rng.integers(2**63)), range(len(chunk)), (self.spec.autoencoder.latent_channels, *cells))
        found = [images.new_zeros(len(chunk), 0, *cells)]
        for name in self.spec.concat:
            if name == "map":
                continue
            everything = left_out(self.spec, name, len(chunk), cells).to(self.device).concat
            assert everything is not None
            has = [example.low_res is not None if name == "low_res" else not example.hole.all() for example in chunk]
            if any(has):
                rows = torch.tensor(has)
                some = [example for example, given in zip(chunk, has, strict=True) if given]
                holes = torch.from_numpy(np.stack([example.hole for example in some]))[:, None].float().to(self.device)
                match name:
                    case "mask":
                        told = Mask()(holes, cells)
                    case "masked_image":
                        told = MaskedImage(self.autoencoder)(
                            images[rows], holes, replace(noise, images=[i for i, h in enumerate(has) if h])
                        )
                    case "low_res":
                        small = to_tensor([example.low_res for example in some if example.low_res is not None])
                        told = LowRes(enlarged_patch(self.spec))(small.to(self.device))
                    case _:
                        raise RecipeError(f"a model that takes {name} is not trained here: use mask, masked_image, low_res and map")
                assert told.concat is not None
                everything[rows] = told.concat
            found.append(everything)
        return torch.cat(found, 1)


def fresh_unet(config: UNetConfig) -> UNet:
    """A UNet to be trained from nothing: whatever is added to a shortcut starts at zero (Ho et al. 2020; Goyal et al. 2017)."""
    unet = UNet(config)
    for name, parameter in unet.named_parameters():
        if name.startswith("conv_out.") or ".conv2." in name or ".proj_out." in name:
            nn.init.zeros_(parameter)
    return unet


def fresh_text_encoder(config: TextConfig) -> TextEncoder:
    """A text encoder to be trained from nothing, with the deviations of CLIP (Radford et al. 2021, released code)."""
    encoder = TextEncoder(config)
    embeddings = encoder.text_model.embeddings
    nn.init.normal_(embeddings.token_embedding.weight, std=0.05)
    nn.init.normal_(embeddings.position_embedding.weight, std=0.01)
    return encoder


def extend_vocabulary(encoder: TextEncoder, old: Tokenizer, new: Tokenizer) -> TextEncoder:
    """The same encoder for another vocabulary and length: rows of words and positions that both have are kept, others start at random."""
    config = replace(encoder.config, vocab_size=len(new.vocab), eos_id=new.eos_id, pad_id=new.pad_id, length=new.length)
    extended = fresh_text_encoder(config)
    state = extended.state_dict()
    table, positions = (f"text_model.embeddings.{name}_embedding.weight" for name in ("token", "position"))
    shared = min(old.length, new.length)
    for name, tensor in encoder.state_dict().items():
        if name == table:
            for token, row in old.vocab.items():
                if token in new.vocab:
                    state[name][new.vocab[token]] = tensor[row]
        elif name == positions:
            state[name][:shared] = tensor[:shared]
        else:
            state[name].copy_(tensor)
    return extended


def extend_inputs(unet: UNet, channels: int) -> UNet:
    """The same network with so many channels of input; what it says does not depend on the new ones yet."""
    if channels == unet.config.in_channels:
        return unet
    extended = UNet(replace(unet.config, in_channels=channels))
    state = unet.state_dict()
    weight = state["conv_in.weight"]
    state["conv_in.weight"] = torch.cat([weight, weight.new_zeros(len(weight), channels - weight.shape[1], *weight.shape[2:])], 1)
    extended.load_state_dict(state, assign=True)
    return extended
