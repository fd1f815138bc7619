"""What a step of a sampler costs beside the network call: sumi's samplers and the schedulers of diffusers, side by side.

    python benchmarks/sampler_overhead.py [seconds of one UNet call]

Both walk the same number of steps with a network that costs nothing: it hands a tensor back. Everything else is counted: ours with the
denoiser that makes x0 of the network's answer, theirs with scale_model_input and step. Milliseconds a step on one thread, by the
processor's clock, which other work on the machine does not move; the fastest of several walks that take turns. Latents of two pictures
of 512 px, and tiny ones, where only the calls count. The share is of the seconds of a UNet call; by default 2.0, less than SD 1.5 takes
for two pictures on two cores.
"""

import sys
import time
import warnings
from collections.abc import Callable

import diffusers
import torch

from sumi.config import ScheduleConfig
from sumi.diffusion.conditioning import Conditioning
from sumi.diffusion.denoiser import Denoiser
from sumi.diffusion.guidance import unguided
from sumi.diffusion.noise import Noise
from sumi.diffusion.samplers.step import start
from sumi.diffusion.samplers.table import SAMPLERS
from sumi.diffusion.schedule import Schedule
from sumi.diffusion.spacings import spaced

STEPS, WALKS = 20, 7
SHAPES = ((2, 4, 64, 64), (1, 4, 8, 8))
PAIRS = {
    "ddim": "DDIMScheduler",
    "plms": "PNDMScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler_ancestral": "EulerAncestralDiscreteScheduler",
    "heun": "HeunDiscreteScheduler",
    "lms": "LMSDiscreteScheduler",
    "dpm2": "KDPM2DiscreteScheduler",
    "dpmpp_2m": "DPMSolverMultistepScheduler",
    "dpmpp_2m_sde": "DPMSolverMultistepScheduler",
    "unipc": "UniPCMultistepScheduler",
    "deis": "DEISMultistepScheduler",
    "sa_solver": "SASolverScheduler",
    "lcm": "LCMScheduler",
}
FIELDS = {"dpmpp_2m_sde": {"algorithm_type": "sde-dpmsolver++"}, "plms": {"skip_prk_steps": True}, "ddim": {"clip_sample": False}}
SCHEDULE = Schedule(ScheduleConfig(final_sigma_zero=True))


def ours(name: str, shape: tuple[int, ...]) -> Callable[[], None]:
    """A walk with our sampler."""
    answer, noise = torch.randn(shape), Noise(0, range(shape[0]), shape[1:])
    denoise = unguided(Denoiser(lambda x, t, context, vector: answer, SCHEDULE, "eps"), Conditioning())
    sigmas, x = spaced(SCHEDULE, STEPS, "leading"), start(noise(0), SCHEDULE.sigmas[-1])

    def walk() -> None:
        for _ in SAMPLERS[name].function(denoise, x, sigmas, noise):
            pass

    return walk


def theirs(name: str, shape: tuple[int, ...]) -> Callable[[], None]:
    """The same walk with the scheduler of diffusers."""
    answer, x = torch.randn(shape), torch.randn(shape)
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    scheduler = getattr(diffusers, PAIRS[name])(**betas, **FIELDS.get(name, {}))
    generator = torch.Generator().manual_seed(0)
    takes = "generator" in scheduler.step.__code__.co_varnames

    def walk() -> None:
        scheduler.set_timesteps(STEPS)
        sample = x
        for t in scheduler.timesteps:
            scheduler.scale_model_input(sample, t)
            sample = scheduler.step(answer, t, sample, **({"generator": generator} if takes else {})).prev_sample

    return walk


def milliseconds(walks: dict[str, Callable[[], None]]) -> dict[str, float]:
    """A step's, of each: the fastest of walks that take turns."""
    times: dict[str, list[float]] = {who: [] for who in walks}
    for _ in range(WALKS):
        for who, walk in walks.items():
            began = time.process_time()
            walk()
            times[who].append((time.process_time() - began) / STEPS * 1000)
    return {who: min(found) for who, found in times.items()}


def main() -> None:
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    torch.set_num_threads(1)
    unet = float(sys.argv[1]) if len(sys.argv) > 1 else 2.0
    large, tiny = SHAPES
    print(f"{STEPS} steps; ms a step beside the network; share of a UNet call of {unet:g} s")
    print(f"{'':16} {list(large)!s:>40} {list(tiny)!s:>38}")
    print(f"{'':16} {'sumi':>10} {'diffusers':>10} {'ratio':>7} {'share':>10} {'sumi':>16} {'diffusers':>10} {'ratio':>10}")
    with torch.inference_mode():
        for name in PAIRS:
            first, second = (milliseconds({"ours": ours(name, shape), "theirs": theirs(name, shape)}) for shape in SHAPES)
            share, ratios = first["ours"] / 1000 / unet, [found["ours"] / found["theirs"] for found in (first, second)]
            print(
                f"{name:16} {first['ours']:10.3f} {first['theirs']:10.3f} {ratios[0]:7.2f} {share:10.3%}"
                f" {second['ours']:16.3f} {second['theirs']:10.3f} {ratios[1]:10.2f}"
            )


if __name__ == "__main__":
    main()
