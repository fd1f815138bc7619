"""What an autoencoder that works by tiles takes beside the same one whole, of memory and of time, and how near it comes to it.

    python benchmarks/tiles.py [side of the picture]

Stable Diffusion 1.5's autoencoder with random weights, float32, on the CPU, a picture of 1024 px unless another side is given; each way in
a process of its own. Memory is the largest that the process held less what it held with the weights loaded and warm. Seconds are the
processor's, on one thread, which other work on the machine moves less than those of the clock. PSNR is of a range of 2, against the picture
or the latent made whole; so it is of the shipped model's autoencoder, for real pictures of 256 px.

Last, how near pictures of the shipped model come by windows of its own size to those that its noise predictor makes seeing all: the PSNR of
what it expects at three noise levels. It has learnt no pictures that large, so that neither is right.
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from sumi.config import AutoencoderConfig
from sumi.models.tiles import tiled, windows
from sumi.nets.autoencoder import Autoencoder

SIDE, SEED = 1024, 0
TILES = (None, 512, 256)


def peak() -> int:
    """Bytes, the most so far."""
    # Not getrusage: what that says of a new process begins with its parent's.
    return next(int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))


def psnr(found: Tensor, expected: Tensor) -> float:
    return -10 * math.log10(max((found - expected).square().mean().item() / 4, 1e-20))


@torch.inference_mode()
def measure(task: str, tile: int | None, side: int, folder: Path) -> dict[str, float]:
    """Decodes or encodes a picture, whole or by tiles; the result of the first way is kept to compare the others with."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    autoencoder = Autoencoder(AutoencoderConfig()).eval()
    # Uneven, as pictures are: noise alone has the same mean and variance in every tile.
    uneven = torch.nn.functional.interpolate(torch.randn(1, 4, 5, 5), size=(side // 8, side // 8), mode="bicubic")
    latent = uneven + 0.3 * torch.randn(1, 4, side // 8, side // 8)
    given = latent if task == "decode" else torch.nn.functional.interpolate(latent[:, :3], scale_factor=8, mode="bicubic").clamp(-1, 1)
    network = autoencoder if tile is None else tiled(autoencoder, tile)

    def run(given: Tensor) -> Tensor:
        return network.decode(given) if task == "decode" else network.encode(given).mode()

    run(given[..., : given.shape[2] * 64 // side, : given.shape[3] * 64 // side])
    before, began = peak(), time.process_time()
    found = run(given)
    took, held = time.process_time() - began, peak() - before
    if tile is None:
        torch.save(found, folder / task)
        return {"seconds": took, "bytes": held, "psnr": math.inf}
    return {"seconds": took, "bytes": held, "psnr": psnr(found, torch.load(folder / task))}


def large(side: int) -> None:
    """Memory, time and nearness of Stable Diffusion's."""
    print(f"Stable Diffusion 1.5's autoencoder, {side} x {side}, float32, one thread")
    print(f"{'':8} {'tile':>6} {'memory':>12} {'of whole':>9} {'time':>10} {'of whole':>9} {'PSNR':>10}")
    for task in ("decode", "encode"):
        with tempfile.TemporaryDirectory() as temporary:
            whole: dict[str, float] = {}
            for tile in TILES:
                command = [sys.executable, __file__, task, str(tile or 0), str(side), temporary]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found = json.loads(out.splitlines()[-1])
                whole = whole or found
                ratios = (found[name] / whole[name] for name in ("bytes", "seconds"))
                memory, longer = ratios
                row = f"{tile or 'whole':>6} {found['bytes'] / 2**20:8.0f} MiB {memory:9.2f} {found['seconds']:8.1f} s {longer:9.2f}"
                print(f"{task:8} {row} {'' if tile is None else format(found['psnr'], '.1f'):>7} dB", flush=True)


@torch.inference_mode()
def shipped() -> None:
    """Nearness of the shipped model's, of real pictures; and of windows."""
    import numpy as np

    import sumi
    from sumi.train.scenes.render import render
    from sumi.train.scenes.world import World

    model = sumi.load(device="cpu", precision="float32")
    world = World("objects")
    pictures = np.stack([render(world.sample(np.random.default_rng(number)), 256) for number in range(4)])
    image = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    latent = model.latent(image)
    whole = model.autoencoder.decode(latent)
    print(f"\n{model.spec.name}: PSNR against whole, {len(image)} pictures of 256 x 256, and for that the whole one's to the pictures")
    print(f"{'tile':>6} {'decode':>10} {'encode':>10}")
    for tile in (64, 96):
        parts = tiled(model.autoencoder, tile)
        print(f"{tile:6} {psnr(parts.decode(latent), whole):7.1f} dB {psnr(parts.encode(image).mode(), latent):7.1f} dB")
    print(f"{'whole':>6} {psnr(whole, image):7.1f} dB")

    cells = model.spec.size[1] // model.spec.factor
    both = torch.cat([model.latent(image[:2, :, 96:160, :64]), model.latent(image[2:, :, 96:160, :64])], 3)
    told = model.encode(["two things side by side"] * len(both), (64, 128))
    size = f"{both.shape[2]} x {both.shape[3]}"
    print(f"\nwindows of {cells} x {cells} cells on {size}: PSNR of the expected picture against that without windows")
    print(f"{'overlap':>8} " + " ".join(f"{f'sigma {sigma:g}':>12}" for sigma in (0.2, 1.0, 5.0)))
    noise = torch.randn(both.shape, generator=torch.Generator().manual_seed(SEED))
    for overlap in (0, cells // 2, cells - 2):
        row = []
        for level in (0.2, 1.0, 5.0):
            sigma = torch.tensor(level)
            seen = (
                model.denoiser(network)(both + sigma * noise, sigma, told) for network in (model.unet, windows(model.unet, cells, overlap))
            )
            expected, found = (model.decode(x0) for x0 in seen)
            row.append(f"{psnr(found, expected):9.1f} dB")
        print(f"{overlap:8} " + " ".join(row))


def main() -> None:
    if len(sys.argv) == 5:
        task, tile, side, folder = sys.argv[1:]
        print(json.dumps(measure(task, int(tile) or None, int(side), Path(folder))))
        return
    large(int(sys.argv[1]) if len(sys.argv) > 1 else SIDE)
    shipped()


if __name__ == "__main__":
    main()
