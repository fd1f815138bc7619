"""What loading Stable Diffusion 1.5 takes, of memory and of time, beside diffusers: float16, on the CPU, from a folder and from one file.

    python benchmarks/load_memory.py

The weights are random, of the real shapes; each program loads them in a process of its own, then reads every number once, as a
first step would. Memory is the largest that the process held less what it held after its imports, over the size of the weights.
Pages of a mapped file count as held once they are read.
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

SEED, RUNS = 0, 1


def peak() -> int:
    """Bytes, the most so far."""
    # Not getrusage: what that says of a new process begins with its parent's.
    return next(int(line.split()[1]) * 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))


def make(folder: Path) -> None:
    """The folder and the file, of random numbers."""
    from sumi.models.zoo import SD15
    from sumi.store.folder import write_model
    from sumi.store.model import Model, expected
    from sumi.store.single import write_single
    from sumi.store.vocabulary import clip_tokenizer

    generator = torch.Generator().manual_seed(SEED)

    def numbers(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator).mul_(0.02).half()

    states = {part: {name: numbers(tensor) for name, tensor in network.state_dict().items()} for part, network in expected(SD15).items()}
    model = Model(SD15, states, (clip_tokenizer(None, pad_id=SD15.text.pad_id if SD15.text else None),))
    write_model(folder / "folder", model)
    write_single(folder / "file.safetensors", model)


def load(program: str, folder: Path) -> dict[str, Any]:
    """Loads, reads every number, and says what that took."""
    if program.startswith("sumi"):
        import sumi

        loader: Any = sumi.load
        source = folder / ("folder" if program == "sumi folder" else "file.safetensors")
        settings: dict[str, Any] = {"precision": "float16", "device": "cpu"}
    else:
        import diffusers

        kind = diffusers.StableDiffusionPipeline
        loader = kind.from_pretrained if program == "diffusers folder" else kind.from_single_file
        source = folder / ("folder" if program == "diffusers folder" else "file.safetensors")
        settings = {"torch_dtype": torch.float16}
        if program == "diffusers file":
            settings |= {"config": str(folder / "folder"), "local_files_only": True}
    imported, began = peak(), time.perf_counter()
    model = loader(source, **settings)
    loaded, took = peak(), time.perf_counter() - began
    networks = _networks(model)
    total = sum(float(weight.sum(dtype=torch.float32)) for network in networks for weight in network.parameters())
    size = sum(weight.nbytes for network in networks for weight in network.parameters())
    return {
        "loading": (loaded - imported) / size,
        "reading": (peak() - imported) / size,
        "seconds": took,
        "all": time.perf_counter() - began,
        "bytes": size,
        "sum": total,
    }


def _networks(model: Any) -> list[torch.nn.Module]:
    if hasattr(model, "text_encoder"):
        return [model.unet, model.vae, model.text_encoder]
    return [model.unet, model.autoencoder, model.prompt.encoder]


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder)
        print(f"{'':18} {'loaded':>8} {'and read':>9} {'seconds':>8} {'and read':>9}    (memory over the weights' size; {RUNS} run each)")
        for program in ("sumi folder", "diffusers folder", "sumi file", "diffusers file"):
            runs = []
            for _ in range(RUNS):
                command = [sys.executable, __file__, program, str(folder)]
                out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                runs.append(json.loads(out.splitlines()[-1]))
            middle = {name: sorted(run[name] for run in runs)[RUNS // 2] for name in runs[0]}
            print(f"{program:18} {middle['loading']:8.2f} {middle['reading']:9.2f} {middle['seconds']:8.2f} {middle['all']:9.2f}")
        print(f"weights {middle['bytes'] / 1e6:,.0f} MB")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if len(sys.argv) == 3:
        print(json.dumps(load(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
