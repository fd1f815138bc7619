"""How long a picture takes, from a cold command line and in a process that has the model already, and what batches gain.

    python benchmarks/shipped_picture.py [folder of a model]

Without a folder, the shipped model. Seconds on the clock, the fastest of several runs.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time

import torch
from timing import fastest

from sumi.pipeline import Decoded, Encoded, Step, generate, stream
from sumi.request import Request
from sumi.store.assembly import load

RUNS = 3
REQUEST = Request(prompt="two yellow stars above a red heart", seed=7)


def main() -> None:
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    flags = [] if folder is None else ["-m", folder]
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "sumi", REQUEST.prompt, "--seed", "7", "-q", "-o", f"{out}/picture.png", *flags]
        cold = fastest(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), RUNS)
    loading = fastest(lambda: load(folder), RUNS)
    model = load(folder)
    generate(model, REQUEST)
    warm = fastest(lambda: generate(model, REQUEST), RUNS)
    spent = {Encoded: 0.0, Step: 0.0, Decoded: 0.0}
    start = time.perf_counter()
    for event in stream(model, REQUEST):
        now = time.perf_counter()
        if type(event) in spent:
            spent[type(event)] += now - start
        start = now
    print(f"{model.spec.name} on {model.device}, {torch.get_num_threads()} threads, load of the machine {os.getloadavg()[0]:.1f}")
    print(f"command line, cold     {cold:8.3f} s")
    print(f"load                   {loading:8.3f} s")
    print(f"picture, warm          {warm:8.3f} s")
    print(f"  prompt               {spent[Encoded]:8.3f} s")
    print(f"  {model.spec.steps:3} steps            {spent[Step]:8.3f} s")
    print(f"  decoding             {spent[Decoded]:8.3f} s")
    for count in (4, 16, 64):
        seconds = fastest(lambda count=count: generate(model, REQUEST, count=count), RUNS)  # type: ignore[misc]
        print(f"{count:3} pictures, each     {seconds / count:8.3f} s")
    print(f"largest memory         {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MiB")


if __name__ == "__main__":
    main()
