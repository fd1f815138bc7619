"""How near the fast preview comes to the decoded picture, on the way and at the end, and what it costs beside decoding.

    python benchmarks/preview.py [folder of a model]

Without a folder, the shipped model. Both are compared cell by cell: the decoded picture is averaged over the pixels of a latent cell.
Decibels of the peak [-1, 1], mean over pictures; "best" is the linear map that is fitted to those very pictures, which none can beat.
"""

import os
import sys
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from timing import fastest
from torch import Tensor

from sumi.models.latent_diffusion import LatentDiffusion
from sumi.models.preview import Preview
from sumi.pipeline import Step, stream
from sumi.request import Request
from sumi.store.assembly import load
from sumi.store.images import from_pil, from_pixels
from sumi.train.scenes import World, render

PICTURES, RUNS = 64, 7


def averaged(model: LatentDiffusion, latent: Tensor) -> Tensor:
    """The decoded pictures, as small as their latents."""
    decoded = torch.cat([model.decode(part) for part in torch.split(latent, 16)]).clamp(-1, 1)
    return F.avg_pool2d(decoded, model.spec.factor)


def decibels(shown: Tensor, wanted: Tensor) -> float:
    """PSNR, mean over pictures."""
    return float((10 * torch.log10(4 / (shown - wanted).square().mean((1, 2, 3)))).mean())


def best(latent: Tensor, wanted: Tensor) -> Tensor:
    """What the best linear map for these latents shows."""
    cells = latent.movedim(1, -1).flatten(0, 2).double()
    cells = torch.cat([cells, torch.ones(len(cells), 1)], 1)
    map = torch.linalg.lstsq(cells, wanted.movedim(1, -1).flatten(0, 2).double(), driver="gelsd").solution
    return (cells @ map).float().reshape(len(latent), *latent.shape[2:], 3).movedim(-1, 1).clamp(-1, 1)


def row(name: str, preview: Preview, latent: Tensor, wanted: Tensor) -> None:
    print(f"{name:24} {decibels(preview(latent).clamp(-1, 1), wanted):10.1f} {decibels(best(latent, wanted), wanted):10.1f}")


def predicted(model: LatentDiffusion, prompts: Sequence[str]) -> list[Tensor]:
    """The x0 predicted at every step, of a picture for each prompt."""
    found: dict[int, list[Tensor]] = {}
    for number, prompt in enumerate(prompts):
        for event in stream(model, Request(prompt=prompt, seed=7, first=number)):
            if isinstance(event, Step):
                found.setdefault(event.index, []).append(event.denoised)
    return [torch.cat(states) for states in found.values()]


@torch.inference_mode()
def main() -> None:
    model = load(sys.argv[1] if len(sys.argv) > 1 else None)
    height, width = model.spec.size
    fitting = fastest(lambda: Preview.of(model.autoencoder), RUNS)
    preview = Preview.of(model.autoencoder)
    print(f"{model.spec.name} on {model.device}, {torch.get_num_threads()} threads, load of the machine {os.getloadavg()[0]:.1f}")
    print(f"{'decibels':24} {'preview':>10} {'best':>10}")
    scenes = [World("objects").sample(np.random.default_rng([1, number])) for number in range(PICTURES)]
    latent = torch.cat([model.latent(from_pil([from_pixels(render(scene, height))])) for scene in scenes])
    row(f"{PICTURES} scenes, encoded", preview, latent, averaged(model, latent))
    steps = predicted(model, [scene.caption for scene in scenes[:16]])
    for number in sorted({0, 1, 2, 3, len(steps) // 2, len(steps) - 1}):
        row(f"x0 predicted at step {number + 1}", preview, steps[number], averaged(model, steps[number]))
    one = latent[:1]
    decoding, showing = fastest(lambda: model.decode(one), RUNS), fastest(lambda: preview(one), RUNS)
    print(f"decoding one of {width} by {height} {1e3 * decoding:8.2f} ms")
    print(f"preview of it          {1e3 * showing:8.3f} ms, {decoding / showing:.0f} times as fast")
    print(f"fitting the preview    {1e3 * fitting:8.0f} ms, once a model")


if __name__ == "__main__":
    main()
