"""What benchmarks have in common: a stopwatch."""

import time
from collections.abc import Callable


def fastest(work: Callable[[], object], runs: int) -> float:
    """Seconds of the fastest of several runs."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
