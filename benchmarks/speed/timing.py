"""How long a piece of code takes, in µs: many short samples, since one long one hides what else the machine did."""

import gc
from collections.abc import Callable
from time import perf_counter

from benchmarks.speed.figures import Spread, spread

SAMPLES = 15
SAMPLE_S = 0.01


def timed(work: Callable[[], object], *, samples: int = SAMPLES, sample_s: float = SAMPLE_S) -> Spread:
    """One call's time in µs, of `samples`; each is as many calls as fill `sample_s`, after one to warm up."""
    number = 1
    while (took := _sample(work, number)) < sample_s:
        number = max(number + 1, min(number * 10, round(number * sample_s / max(took, 1e-7)) + 1))
    gc.collect()
    gc.disable()  # as timeit does: whose garbage is collected when is chance, and shows in the runs with processes
    try:
        return spread([_sample(work, number) / number * 1e6 for _ in range(samples)])
    finally:
        gc.enable()


def _sample(work: Callable[[], object], number: int) -> float:
    began = perf_counter()
    for _ in range(number):
        work()
    return perf_counter() - began
