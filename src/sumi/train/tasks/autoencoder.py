"""Train the first stage: pictures to latents and back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sumi.config import AutoencoderConfig
from sumi.nets.autoencoder import Autoencoder
from sumi.store.folder import write_autoencoder
from sumi.train.data import crowd, draw, normal, sheet, to_pictures, to_tensor
from sumi.train.scenes import World, render


class AutoencoderTask:
    """Reconstruct scenes through a KL-regularised bottleneck (Rombach et al. 2022, section 3.1).

    The loss is absolute error, plus squared error, plus absolute error of the differences between neighbours, which is
    what keeps edges sharp in a network too small for an adversary, plus a small divergence from the standard normal.
    A share of the pictures are crowds of things, so that a few thousand steps see every thing often.

    With `decoder_only`, the encoder of `start` stays as it is and so do its latents: a noise predictor that was trained on them
    goes on working, and its pictures get sharper.
    """

    def __init__(
        self,
        config: AutoencoderConfig,
        *,
        vocabulary: str,
        size: int = 64,
        batch: int = 16,
        crowds: float = 0.4,
        kl_weight: float = 1e-3,
        start: Autoencoder | None = None,
        decoder_only: bool = False,
    ) -> None:
        self.world = World(vocabulary)
        self.size, self.batch, self.crowds, self.kl_weight = size, batch, crowds, kl_weight
        self.autoencoder = fresh_autoencoder(config) if start is None else start
        self.decoder_only = decoder_only
        for part in (self.autoencoder.encoder, self.autoencoder.quant_conv):
            part.requires_grad_(not decoder_only)
        self.modules: dict[str, nn.Module] = {"autoencoder": self.autoencoder}
        self.rates: dict[str, float] = {}
        _, self.held_out = draw(self.world, np.random.default_rng(1), 128, size, "held-out")

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        image = self._batch(rng)
        posterior = self.autoencoder.encode(image.to(self._weight.dtype))
        latent = posterior.sample(normal(rng, posterior.mean))
        error = self.autoencoder.decode(latent).float() - image
        edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        loss = error.abs().mean() + error.square().mean() + 0.5 * edges + self.kl_weight * kl
        return loss, {"kl": float(kl.detach()), "l1": float(error.detach().abs().mean())}

    def validate(self) -> dict[str, float]:
        """Peak signal-to-noise ratio on held-out scenes, in decibels, and the spread of their latents."""
        image = self.held_out.to(self._weight.device)
        with torch.inference_mode():
            latents = self.autoencoder.encode(image).mode()
            error = (self.autoencoder.decode(latents).clamp(-1, 1) - image) / 2
            psnr = -10 * torch.log10(error.square().mean((1, 2, 3)))
        return {"psnr": float(psnr.mean()), "psnr_worst": float(psnr.min()), "latent_std": float(latents.std())}

    def pictures(self) -> dict[str, np.ndarray]:
        image = self.held_out[:16].to(self._weight.device)
        again = self.autoencoder.decode(self.autoencoder.encode(image).mode())
        pairs = np.stack([to_pictures(image), to_pictures(again)], axis=1).reshape(-1, self.size, self.size, 3)
        return {"reconstructions": sheet(pairs, 8)}

    def export(self, folder: Path) -> None:
        """Write the folder `vae/`, with the latent scale that gives latents of train scenes unit variance, or that of `start`'s."""
        if self.decoder_only:
            write_autoencoder(folder / "vae", self.autoencoder.config, self.autoencoder.state_dict(), torch.float16)
            return
        rng = np.random.default_rng(2)
        with torch.inference_mode():
            batches = [self.autoencoder.encode(draw(self.world, rng, 128, self.size)[1].to(self._weight.device)) for _ in range(16)]
        second_moment = torch.stack([p.mean.square().mean() + p.logvar.exp().mean() for p in batches]).mean()
        config = replace(self.autoencoder.config, latent_scale=round(float(second_moment.rsqrt()), 5))
        write_autoencoder(folder / "vae", config, self.autoencoder.state_dict(), torch.float16)

    @property
    def _weight(self) -> Tensor:
        return self.autoencoder.quant_conv.weight

    def _batch(self, rng: np.random.Generator) -> Tensor:
        crowds = round(self.batch * self.crowds)
        scenes = [crowd(self.world, rng) for _ in range(crowds)]
        scenes += [self.world.sample(rng, split="train") for _ in range(self.batch - crowds)]
        return to_tensor([render(scene, self.size) for scene in scenes]).to(self._weight.device)


def fresh_autoencoder(config: AutoencoderConfig) -> Autoencoder:
    """An autoencoder to be trained from nothing.

    Residual blocks start as identities (Goyal et al. 2017, section 5.1). The first convolutions get biases as large as what
    they make of a picture: group normalisation takes the scale away from a flat picture, white and gray alike, unless there
    is something in its groups to compare with.
    """
    autoencoder = Autoencoder(config)
    for name, parameter in autoencoder.named_parameters():
        if ".conv2." in name or ".to_out." in name:
            nn.init.zeros_(parameter)
        elif name.endswith(".conv_in.bias"):
            nn.init.normal_(parameter)
    return autoencoder
