"""Weights in two precisions, and their moving average.

A small network trains fastest with bfloat16 arithmetic, but bfloat16 weights would lose most of a late update: 8 bits of
mantissa cannot hold weight + 1e-4 * weight. So the arithmetic runs on a working copy, the optimiser on float32 masters
(Micikevicius et al. 2018, section 3.1), and the average that is shipped follows the masters.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Weights:
    """The float32 masters of a module's parameters and their exponential moving average, by name.

    `module` is cast to `precision` in place and stays the network that runs. Buffers are not averaged.
    """

    def __init__(self, module: nn.Module, precision: torch.dtype, decay: float) -> None:
        self.module = module
        self.decay = decay
        self.working = dict(module.named_parameters())
        self.masters = {name: p.detach().float().clone() for name, p in self.working.items()}
        self.average = {name: p.clone() for name, p in self.masters.items()}
        module.to(precision)

    @torch.no_grad()
    def publish(self, step: int) -> None:
        """Copy the masters to the working copy and move the average towards them.

        Early averages forget faster: at step n the decay is at most (1 + n) / (10 + n), so that the random start is gone soon.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        names = list(self.masters)
        masters = [self.masters[name] for name in names]
        torch._foreach_lerp_([self.average[name] for name in names], masters, 1 - decay)
        torch._foreach_copy_([self.working[name] for name in names], masters)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Run the module on the float32 average inside the `with`; training weights are back after it."""
        held = {name: parameter.data for name, parameter in self.working.items()}
        buffers = {name: buffer.data for name, buffer in self.module.named_buffers()}
        training = self.module.training
        for name, parameter in self.working.items():
            parameter.data = self.average[name]
        for _, buffer in self.module.named_buffers():
            if buffer.is_floating_point():
                buffer.data = buffer.data.float()
        self.module.eval()
        try:
            yield
        finally:
            for name, parameter in self.working.items():
                parameter.data = held[name]
            for name, buffer in self.module.named_buffers():
                buffer.data = buffers[name]
            self.module.train(training)

    def tensors(self) -> dict[str, Tensor]:
        """Masters and average under one flat set of names, for a checkpoint."""
        return {f"master.{n}": t for n, t in self.masters.items()} | {f"average.{n}": t for n, t in self.average.items()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take masters and average from `tensors()` of an earlier run."""
        for name, master in self.masters.items():
            master.copy_(tensors[f"master.{name}"])
            self.average[name].copy_(tensors[f"average.{name}"])
            self.working[name].copy_(master)
