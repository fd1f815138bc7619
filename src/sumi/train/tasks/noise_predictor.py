"""Train the noise predictor, with its text encoder, on cached latents."""

import threading
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
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
from sumi.nets.autoencoder import Autoencoder
from sumi.nets.clip import TextEncoder
from sumi.nets.unet import UNet
from sumi.store.folder import Parts, write_folder
from sumi.text.bpe import Tokenizer
from sumi.train.data import Drawn, drawn, normal, sheet, to_pictures, to_tensor
from sumi.train.scenes import World

MAP_CELLS = 2
"""Cells of the auxiliary segmentation map along one side of a cell of the features that it is read off."""
CHUNK = 128
"""Scenes that are drawn, and encoded, together."""

Order: TypeAlias = tuple[World, tuple[int, ...], int, int, int, str]
"""Arguments of `drawn`."""


@dataclass(frozen=True)
class Batch:
    """Scenes as the noise predictor sees them: latents, captions, and the map of what is where."""

    latents: Tensor  # B Z h w, scaled
    ids: Tensor  # B L
    maps: Tensor  # B m m, class id + 1, 0 for the background

    def __getitem__(self, index: Tensor | slice) -> "Batch":
        return Batch(self.latents[index], self.ids[index], self.maps[index])

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.latents.to(device), self.ids.to(device), self.maps.to(device))


class NoisePredictorTask:
    """Learn f(x, t, y) by denoising (Ho et al. 2020; Rombach et al. 2022, equation 3), y being a caption.

    Captions are replaced by the empty one for `drop` of the samples, so that one network serves both sides of guidance
    (Ho and Salimans 2022). Times are stratified over the batch. Losses are weighted by min(SNR, 5) for x0, that is
    (min(SNR, 5) + 1) / (SNR + 1) for v (Hang et al. 2023, with the 1 that keeps pure noise from counting for nothing).

    Since every scene's segmentation map is known, a linear head on the UNet's innermost upsampled features also has to
    name what is where: features that carry the classes come much earlier than by denoising alone (the idea of aligning
    features with a trained encoder, Yu et al. 2025). The head is thrown away.
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
    ) -> None:
        if len(spec.unet.block_channels) < 2:
            raise RecipeError("unet.block_channels needs two levels at least: the auxiliary map is read off the first upsampling")
        self.spec, self.batch, self.drop, self.map_weight = spec, batch, drop, map_weight
        self.world = World(vocabulary, kinds)
        self.autoencoder, self.tokenizer, self.text_encoder = autoencoder.eval().requires_grad_(False), tokenizer, text_encoder
        self.unet = unet if unet is not None else fresh_unet(spec.unet)
        self.map_head = nn.Conv2d(spec.unet.block_channels[-1], MAP_CELLS**2 * (len(self.world.classes) + 1), 1)
        self.modules: dict[str, nn.Module] = {"unet": self.unet, "text": self.text_encoder, "map_head": self.map_head}
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
        self._ahead: dict[int, list[Future[Drawn]]] = {}
        self.unet.get_submodule("up_blocks.0.upsamplers.0").register_forward_hook(self._keep)
        self.held_out = self._encoded(starmap(drawn, self._orders((1,), 256, "held-out")), (1,))

    @property
    def device(self) -> torch.device:
        """Where the networks that learn are; what else takes part in a step goes there."""
        return self.unet.conv_in.weight.device

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        cached, device = self._epoch(step // self.epoch_steps), self.device
        batch = cached[torch.from_numpy(rng.integers(self.cache_size, size=self.batch)).to(device)]
        dropped = torch.from_numpy(rng.random(self.batch) < self.drop).to(device)
        ids = torch.where(dropped[:, None], self.null.to(device), batch.ids)
        t = torch.from_numpy((np.arange(self.batch) + rng.random(self.batch)) / self.batch * len(self.schedule.sigmas)).long()
        error, features = self._error(batch.latents, ids, t, normal(rng, batch.latents))
        snr = self.schedule.sigmas[t].to(device) ** -2
        denoising = (error * (snr.clamp(max=5) + 1) / (snr + 1)).mean()
        logits = F.pixel_shuffle(self.map_head(features), MAP_CELLS).float()
        naming = F.cross_entropy(logits, batch.maps)
        return denoising + self.map_weight * naming, {"denoising": float(denoising.detach()), "naming": float(naming.detach())}

    def validate(self) -> dict[str, float]:
        """Squared error of v on held-out scenes with fixed times and noise: with their captions, with another's, with none."""
        batch = self.held_out.to(self.device)
        count = len(batch.ids)
        noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        t = ((torch.arange(count) * 157 % count + 0.5) / count * len(self.schedule.sigmas)).long()
        captions = {"val": batch.ids, "val_wrong": batch.ids.roll(1, 0), "val_null": self.null.to(self.device).expand(count, -1)}
        return {name: float(self._error(batch.latents, ids, t, noise)[0].mean()) for name, ids in captions.items()}

    def pictures(self) -> dict[str, np.ndarray]:
        """The fixed prompts, seed 0, at the model's own settings."""
        return {"prompts": sheet(to_pictures(self.sample(self.prompts)), 8)} if self.prompts else {}

    def sample(self, prompts: tuple[str, ...], seed: int = 0) -> Tensor:
        """Pictures [B 3 H W] of `prompts` at the model's own settings; picture i is image i of the seed."""
        spec = self.spec
        height, width = (side // spec.factor for side in spec.size)
        noise = Noise(seed, range(len(prompts)), (spec.autoencoder.latent_channels, height, width), self.device)
        cond = self._condition(torch.tensor([self.tokenizer(p) for p in prompts]))
        null = self._condition(self.null.expand(len(prompts), -1))
        sampler = SAMPLERS[spec.sampler]
        sigmas = spaced(self.schedule, spec.steps, spec.spacing, to_zero=not sampler.ends_early)
        denoise = cfg(self.denoiser, cond, null, spec.guidance)
        *_, last = sampler.function(denoise, start(noise(0), sigmas[0]), sigmas, noise)
        return self.autoencoder.decode(finish(last.x, last.sigma))

    def export(self, folder: Path) -> None:
        """Write the whole model: a folder that `sumi.load` and published programs open."""
        parts = Parts(self.unet, self.autoencoder, (self.text_encoder,), (self.tokenizer,))
        write_folder(folder / "model", self.spec, parts, dtype=torch.float16)

    def _network(self, x: Tensor, t: Tensor, context: Tensor | None, vector: Tensor | None) -> Tensor:
        """The UNet in the precision that it is trained in."""
        out: Tensor = self.unet(x.to(self.unet.conv_in.weight.dtype), t, context, vector)
        return out

    def _condition(self, ids: Tensor) -> Conditioning:
        features = self.text_encoder(ids.to(self.device))
        return Conditioning(features.hidden, vector=features.pooled)

    def _error(self, latents: Tensor, ids: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Squared error of each sample, and the features that the map is read off."""
        sigma = self.schedule.sigmas[t].to(self.device)
        output = self.denoiser.output(latents + sigma[:, None, None, None] * noise, sigma, self._condition(ids))
        target = self.denoiser.target(latents, noise, sigma)
        return (output - target).square().mean((1, 2, 3)), self._kept.features

    def _epoch(self, epoch: int) -> Batch:
        """The latents of one epoch: a function of its number, so that a resumed run sees the same."""
        with self._lock:
            if self.cache is None or epoch != self.cached_epoch:
                self.cache, self.cached_epoch = self._encoded(self._scenes(epoch), (7, epoch)), epoch
                if self._pool is not None:
                    self._ahead = {epoch + 1: self._ordered(epoch + 1, self._pool)}
            return self.cache

    def _scenes(self, epoch: int) -> Iterable[Drawn]:
        if self._pool is None:
            return starmap(drawn, self._orders((7, epoch), self.cache_size, "train"))
        return (future.result() for future in self._ordered(epoch, self._pool))

    def _ordered(self, epoch: int, pool: ProcessPoolExecutor) -> list[Future[Drawn]]:
        """The scenes of an epoch, being rendered."""
        return self._ahead.pop(epoch, None) or [pool.submit(drawn, *order) for order in self._orders((7, epoch), self.cache_size, "train")]

    def _keep(self, _module: nn.Module, _inputs: object, features: Tensor) -> None:
        """Hold the features of this thread's last forward pass, for the auxiliary head."""
        self._kept.features = features

    def _orders(self, seed: tuple[int, ...], count: int, split: str) -> list[Order]:
        """What to draw, a hundred or so at a time."""
        # The first upsampling doubles the coarsest of the UNet's levels.
        cells = MAP_CELLS * self.spec.size[0] // self.spec.factor >> len(self.spec.unet.block_channels) - 2
        sizes = [min(CHUNK, count - first) for first in range(0, count, CHUNK)]
        return [(self.world, (*seed, number), size, self.spec.size[0], cells, split) for number, size in enumerate(sizes)]

    def _encoded(self, chunks: Iterable[Drawn], seed: tuple[int, ...]) -> Batch:
        parts = []
        rng, device = np.random.default_rng([*seed, CHUNK]), self.device
        self.autoencoder.to(device)
        with torch.inference_mode():
            for chunk in chunks:
                posterior = self.autoencoder.encode(to_tensor(chunk.pictures).to(device))
                ids = torch.tensor([self.tokenizer(caption) for caption in chunk.captions])
                parts.append((posterior.sample(normal(rng, posterior.mean)), ids.to(device), torch.from_numpy(chunk.maps).to(device)))
        latents, ids, maps = (torch.cat(column).clone() for column in zip(*parts, strict=True))
        return Batch(latents, ids, maps)


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
