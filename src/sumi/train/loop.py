"""One training loop for every task. It knows nothing of diffusion.

What a step draws at random is a function of (seed, step) alone, so a run that was stopped and resumed makes the same
weights as one that was not.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from sumi.errors import RecipeError
from sumi.models.placement import for_gradients
from sumi.store.checkpoint import load, save
from sumi.store.images import from_pixels, save_png
from sumi.train.ema import Weights

CPU = torch.device("cpu")


class Task(Protocol):
    """What is trained: the networks, their loss, and how to look at them."""

    modules: dict[str, nn.Module]
    """The networks that learn, by name."""
    rates: dict[str, float]
    """Learning rate of a network relative to the recipe's; 1 where absent."""

    def loss(self, step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of one batch, and figures for the log. All randomness comes from `rng`; several workers may call at once."""
        ...

    def validate(self) -> dict[str, float]:
        """Figures on fixed held-out data with fixed noise: equal weights give equal figures."""
        ...

    def pictures(self) -> dict[str, np.ndarray]:
        """Strips to look at, each uint8 [height, width, 3], by name."""
        ...

    def export(self, folder: Path) -> None:
        """Write the finished networks."""
        ...


@dataclass(frozen=True)
class Training:
    """How to train: the `[training]` table of a recipe."""

    steps: int
    rate: float = 1e-3
    warmup: int = 200
    cooldown: int = 0
    """The last steps over which the rate falls to zero; before them it is constant, so a run can be made longer later."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    average: float = 0.999
    precision: str = "bfloat16"
    seed: int = 0
    workers: int = 2
    """Batches worked on at once, one core each; their gradients are averaged. Two of one thread
    each use two cores better than one of two threads, which wait for each other at every operation."""
    log_every: int = 50
    validate_every: int = 1000
    save_every: int = 500

    def __post_init__(self) -> None:
        for name in ("workers", "log_every", "validate_every", "save_every"):
            if getattr(self, name) < 1:
                raise RecipeError(f"training.{name} must be at least 1; got {getattr(self, name)}")
        if self.steps < 1 or self.cooldown > self.steps:
            raise RecipeError(f"training.steps must be at least 1 and at least training.cooldown; got {self.steps} and {self.cooldown}")
        if self.precision not in ("float32", "bfloat16"):
            raise RecipeError(f"training.precision must be float32 or bfloat16, not {self.precision!r}")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, constant, linear cool-down (Hägele et al. 2024)."""
        up = min(1.0, (step + 1) / max(1, self.warmup))
        down = min(1.0, (self.steps - step) / self.cooldown) if self.cooldown else 1.0
        return self.rate * up * down


def train(
    task: Task,
    training: Training,
    out: Path,
    *,
    device: torch.device = CPU,
    fresh: bool = False,
    minutes: float | None = None,
    say: Callable[[str], None] = print,
) -> bool:
    """Train `task` on a device until `training.steps`, or for `minutes`, resuming from `out` unless `fresh`.

    Writes to `out`: checkpoint.safetensors (atomically, every `save_every` steps and at the end or on an interrupt),
    log.jsonl (one line a report), strips as PNG files. Returns whether all steps are done; then `task.export(out)` has
    run on the averaged weights.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint, log = out / "checkpoint.safetensors", out / "log.jsonl"
    whole = nn.ModuleDict(task.modules).to(device)
    weights = Weights(whole, getattr(torch, training.precision), training.average)
    optimiser = _optimiser(task, weights, training)
    step = 0
    if checkpoint.exists() and not fresh:
        step = _resume(checkpoint, weights, optimiser)
        say(f"resumed at step {step} of {training.steps}")
    else:
        log.unlink(missing_ok=True)
        say(f"training {sum(p.numel() for p in whole.parameters()) / 1e6:.2f} M parameters for {training.steps} steps")

    def report(figures: dict[str, float]) -> None:
        with log.open("a") as file:
            file.write(json.dumps({"step": step, **{k: float(f"{v:.6g}") for k, v in figures.items()}}) + "\n")
        say(f"step {step}/{training.steps}  " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items()))

    def look() -> None:
        with weights.averaged(), torch.inference_mode():
            report(task.validate())
            for name, picture in task.pictures().items():
                save_png(from_pixels(picture), out / f"{name}.png", {})

    start, first = time.monotonic(), step
    sums: dict[str, float] = {}
    counted = 0
    whole.train()
    pool = ThreadPoolExecutor(training.workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        while step < training.steps and (minutes is None or time.monotonic() - start < minutes * 60):
            loss, figures = _gradients(task, weights, training, step, pool)
            if not math.isfinite(loss):
                raise RecipeError(f"the loss is {loss} at step {step}; lower training.rate or use precision float32")
            norm = torch.nn.utils.clip_grad_norm_(weights.masters.values(), training.clip)
            for group in optimiser.param_groups:
                group["lr"] = training.rate_at(step) * group["scale"]
            optimiser.step()
            weights.publish(step)
            step += 1
            counted += 1
            for name, value in (figures | {"loss": loss, "gradient": float(norm)}).items():
                sums[name] = sums.get(name, 0.0) + value
            if step % training.log_every == 0 or step == training.steps:
                rate = (step - first) / (time.monotonic() - start)
                report({n: v / counted for n, v in sums.items()} | {"rate": rate, "eta": (training.steps - step) / rate})
                sums, counted = {}, 0
            if step % training.validate_every == 0 or step == training.steps:
                look()
            if step == training.steps - training.cooldown and training.cooldown:
                _save(out / "before-cooldown.safetensors", weights, optimiser, step)
            if step % training.save_every == 0:
                _save(checkpoint, weights, optimiser, step)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if step > first:
            _save(checkpoint, weights, optimiser, step)
    if step < training.steps:
        say(f"stopped at step {step} of {training.steps}; run the same command to go on")
        return False
    with weights.averaged(), torch.inference_mode():
        task.export(out)
    return True


def _gradients(task: Task, weights: Weights, training: Training, step: int, pool: ThreadPoolExecutor) -> tuple[float, dict[str, float]]:
    """Give the masters their gradients, averaged over the workers' batches; returns the mean loss and figures."""
    learning = {name: parameter for name, parameter in weights.working.items() if parameter.requires_grad}
    device = next(iter(weights.masters.values())).device

    def work(worker: int) -> tuple[float, dict[str, float], Sequence[Tensor | None]]:
        with for_gradients(device):
            loss, figures = task.loss(step, np.random.default_rng([training.seed, step, worker]))
        return float(loss.detach()), figures, torch.autograd.grad(loss, list(learning.values()), allow_unused=True)

    results = list(pool.map(work, range(training.workers)))
    for name, *gradients in zip(learning, *(gradients for *_, gradients in results), strict=True):
        parts = [gradient.float() for gradient in gradients if gradient is not None]
        weights.masters[name].grad = torch.stack(parts).sum(0) / training.workers if parts else None
    figures = {key: sum(each[key] for _, each, _ in results) / training.workers for key in results[0][1]}
    return sum(loss for loss, *_ in results) / training.workers, figures


def _optimiser(task: Task, weights: Weights, training: Training) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) on the masters; biases, norms and embeddings of one dimension do not decay."""
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, master in weights.masters.items():
        scale = task.rates.get(name.split(".", 1)[0], 1.0)
        groups.setdefault((scale, training.weight_decay if master.ndim > 1 else 0.0), []).append(master)
    return torch.optim.AdamW(
        [{"params": params, "scale": scale, "weight_decay": decay} for (scale, decay), params in groups.items()],
        lr=training.rate,
        betas=training.betas,
        fused=True,
    )


def _save(path: Path, weights: Weights, optimiser: torch.optim.AdamW, step: int) -> None:
    tensors = weights.tensors() | {"step": torch.tensor(step)}
    for name, master in weights.masters.items():
        for key, value in optimiser.state.get(master, {}).items():
            tensors[f"optimiser.{key}.{name}"] = value
    save(path, tensors)


def _resume(path: Path, weights: Weights, optimiser: torch.optim.AdamW) -> int:
    tensors = load(path)
    try:
        weights.restore(tensors)
    except (KeyError, RuntimeError) as error:
        raise RecipeError(f"{path} is of another recipe ({error}); choose another --out or start again with --fresh") from None
    for name, master in weights.masters.items():
        state = {key: tensors.get(f"optimiser.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
        if all(value is not None for value in state.values()):
            optimiser.state[master] = {key: value.to(master.device) for key, value in state.items() if value is not None}
    return int(tensors["step"])
