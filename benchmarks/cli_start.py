"""How long the command line takes to start: median and fastest of several runs, on the clock and on the processor.

    python benchmarks/cli_start.py [runs]

The first row is Python itself. The target for `sumi --help` is 0.3 s on the clock; only the rows that compute import PyTorch.
"""

import os
import resource
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "sumi --help": ["-m", "sumi", "--help"],
    "sumi train --help": ["-m", "sumi", "train", "--help"],
    "import torch": ["-c", "import torch"],
    "sumi samplers": ["-m", "sumi", "samplers"],
}


def measure(arguments: list[str]) -> tuple[float, float]:
    """Seconds on the clock and on the processor of one run."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print(f"{runs} runs each, load of the machine {os.getloadavg()[0]:.1f}; milliseconds, median (fastest)")
    print(f"{'':20} {'clock':>14} {'processor':>14}")
    for name, arguments in COMMANDS.items():
        measure(arguments)  # bytecode and page cache
        columns = zip(*(measure(arguments) for _ in range(runs)), strict=True)
        print(f"{name:20}", *(f"{1e3 * statistics.median(c):8.0f} ({1e3 * min(c):.0f})".rjust(14) for c in map(list, columns)))


if __name__ == "__main__":
    main()
