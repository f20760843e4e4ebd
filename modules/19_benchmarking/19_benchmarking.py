# ---
# jupyter:
#   jupytext:
#     cell_markers: '"""'
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
"""
# 19 · Benchmarking: which is faster, and how sure are we?

| | |
|---|---|
| **You have** | models, and five ways to make them smaller or faster (modules 14 to 18), each with a number that somebody printed once |
| **You will build** | measurements that say how sure they are: the median with an interval, two programs timed in turns, a check that finds what became slower, and a suite that holds models against each other |
| **You will be able to** | tell a difference from luck, say in advance how often you will be wrong, and read a benchmark that somebody else made and see what it hides |

Needs modules 01 to 15. Exports `benchmarking/benchmark.py`. Medium; about three hours.

```
   one call      many calls           which of two?                 better than last week?
                                      A B  B A  A B  B A
      t    -->   t t t t t t t  -->   a/b  a/b  a/b  a/b   -->      old.json  new.json
                      |                    |                            |
                 median and           median ratio and            same machine? then
                 its interval         its interval                ratio and its interval
                      |                    |                            |
                 "this long,          "A takes 0.8 of B's,        "slower, by more than
                  95 % sure"           or nothing seen"            we tolerate"
```

Everyone who makes something faster wants to see that it is faster. That is the best way to fool oneself: time the old
one, time the new one, and if the new one lost, try once more. Every number in this lesson comes with a second one that
says how far the first can be trusted, and we test *that* number too.
"""

# %%
#| default_exp benchmarking.benchmark

# %%
#| export
"""Benchmarks whose numbers say how sure they are.

Nothing here is made up: every time was read from a clock, every interval has a stated chance to hold the true median,
and what fails, fails. Times of different machines are never compared.
"""

import functools
import gc
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import repeat
from numbers import Real
from typing import NamedTuple

import numpy as np

from tinytorch.core.autograd import no_grad
from tinytorch.core.checkpoint import _replace_file
from tinytorch.core.tensor import Tensor
from tinytorch.core.training import _evaluating
from tinytorch.optimization.quantization import model_size
from tinytorch.profiling.profiler import _one_tensor, count_parameters

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Dropout, Flatten, Linear, Sequential
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import Adam
from tinytorch.core.spatial import BatchNorm2d, Conv2d, MaxPool2d
from tinytorch.core.tensor import manual_seed
from tinytorch.data.datasets import digits
from tinytorch.data.loader import DataLoader
from tinytorch.models.transformer import GPT
from tinytorch.optimization.quantization import quantize_model

manual_seed(0)


# %% [markdown]
"""
## One number

A program multiplies two matrices. How long does that take? Read the clock, multiply, read the clock. Now do it again.
"""

# %%
a, b = (np.random.default_rng(seed).normal(size=(160, 160)).astype(np.float32) for seed in (0, 1))


def clocked(function, count):
    """Microseconds of `count` calls, each for itself."""
    found = []
    for _ in range(count):
        start = time.perf_counter()
        function()
        found.append((time.perf_counter() - start) * 1e6)
    return np.array(found)


calls = clocked(lambda: a @ b, 1000)
print("the first ten, in microseconds:", *(f"{t:.0f}" for t in calls[:10]))
for share in (0, 1, 25, 50, 75, 99, 100):
    print(f"{share:4} % of all are done in {np.percentile(calls, share):7.1f} us")

figure, axes = plt.subplots(1, 2, figsize=(10, 2.8), layout="constrained")
axes[0].plot(calls, ".", ms=2)
axes[0].set(xlabel="call", ylabel="microseconds", yscale="log", title="a thousand calls of one function")
axes[1].hist(np.minimum(calls, 2 * np.median(calls)), bins=60)
axes[1].set(xlabel="microseconds (last bar: more)", ylabel="calls", yscale="log", title="how often")
plt.show()

# %% [markdown]
"""
The same numbers are multiplied in the same way each time, and the answers differ, the slowest from the fastest by a
lot. So *the* time of a function does not exist; there is a distribution, and it is lopsided. There is a least time that
the arithmetic takes, and then other programs, interrupts, caches and the processor's own changes of speed add to it.
They add rarely and much.

What do you say, if you may say one number? The mean is the tempting one. Here is a function that does the same work
each time, and every 20th time is made to wait for 3 ms, as if another program had its turn:
"""

# %%
turn = iter(range(10**6))


def interrupted():
    a @ b
    if next(turn) % 20 == 7:
        time.sleep(0.003)


disturbed = clocked(interrupted, 200)
for what, times in (("undisturbed", calls[:200]), ("every 20th waits", disturbed)):
    print(f"{what:17} mean {times.mean():7.1f} us   median {np.median(times):7.1f} us   fastest {times.min():7.1f} us")

# %% [markdown]
"""
The mean has become one of the waiting; the median is what it was, as long as fewer than half of the runs are disturbed.
(If the waiting belongs to the program, because it fetches something, say, then it is not noise, and the mean is the
right number: the mean times the number of calls is how long you sit there. Decide before you look.)

The fastest run has friends too. It is the cleanest, and the luckiest: the more often you try, the smaller it gets, and
nobody can say how sure it is. We report it, and decide by the median.

And the first calls? Here a function writes its results into memory that has just been asked for. The system hands out
such memory page by page, when it is touched for the first time. (Seven fresh pieces of memory, and of each call the
median over these.)
"""

# %%
source = np.ones(2_000_000, np.float32)
curves = []
for _ in range(7):
    memory = np.empty_like(source)
    curves.append(clocked(lambda memory=memory: np.multiply(source, 2, out=memory), 12))
curve = np.median(curves, axis=0)
print("calls 1 to 6, in multiples of the later ones:", *(f"{t:.2f}" for t in curve[:6] / np.median(curve[6:])))

# %% [markdown]
"""
That is *warm-up*: memory, caches, threads that wake up, files that are read once. It is real, and a program that runs
once has to pay for it; for one that runs a million times it says nothing. So it is thrown away, and that it was is
said.

## How sure is a median?

Say nine runs took

```
   31   28   35   30   29   90   33   30   32   microseconds;  in order:   28  29  30  30  31  32  33  35  90
```

The median is 31. Nine other runs would have given another one. How far can it be from the *true* median, the number
that half of all runs, if one could wait for all of them, are below? The bell curve and its standard deviation are no
help: look at the picture above, that is no bell.

It is easier. By its definition, a run falls below the true median with chance 1/2. Whatever the distribution looks
like, each run is the throw of a coin: below or above. Now take the second smallest and the second largest, 29 and 35.
When is the true median *not* between them?

```
                 28   29   30  30  31  32  33   35   90
                       [------------------------]
   it is left of 29:  at most one run fell below it      chance (1 + 9) / 512
   it is right of 35: at most one run fell above it      chance (1 + 9) / 512
```

Of the 2^9 = 512 ways that nine coins can fall, one shows no head and nine show a single one. So the interval from 29 to
35 holds the true median with chance 1 - 20 / 512 = 96.1 %. The 90 might be 9,000: it makes no difference.

With the third smallest and third largest we would also fail for two heads, of which there are 36 ways: 1 - 92 / 512 =
82 %. So for nine runs and 95 % it is the second.

**Write `_rank`.** Return the largest k for which the interval from the k-th smallest to the k-th largest of n values
has a chance of at least `level`, and that chance. In general it is 1 - 2 * (C(n, 0) + ... + C(n, k - 1)) / 2^n. If even
k = 1 has less, return 1 and its chance: it is honest, and the caller can see that it is not what was asked for.

`_rank(9, 0.95)` is (2, 0.9609375), `_rank(5, 0.95)` is (1, 0.9375), and `_rank(1, 0.95)` is (1, 0.0): one run alone
says nothing about a median.

<details><summary>Hint 1</summary>

Go up: k = 1 has the chance 1 - 2 * 1 / 2^n. As long as k + 1 still has enough, take it.
</details>
<details><summary>Hint 2</summary>

C(n, k) follows from the one before: `ways * (n - k + 1) // k`. In whole numbers it stays exact for any n.
</details>
<details><summary>Hint 3</summary>

Keep `fewer`, the sum of the ways for fewer than k heads; it begins with 1. Compute the next `ways`; if
`1 - 2 * ((fewer + ways) / 2**n)` is below the level, return k and `1 - 2 * (fewer / 2**n)`; otherwise add and go on.
</details>
"""


# %%
#| export
class Interval(NamedTuple):
    """A median, between which two values the true one lies, and the chance that an interval made so does hold it."""

    median: float
    low: float
    high: float
    coverage: float

    def __str__(self):
        return f"{self.median:.4g} ({self.low:.4g} to {self.high:.4g}, {self.coverage:.1%} sure)"


# %% nbgrader={"grade": false, "grade_id": "benchmarking-rank", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
@functools.lru_cache(maxsize=256)
def _rank(n, level):
    """(k, coverage): the true median lies between the k-th smallest and the k-th largest of n values with that chance.

    The largest k for which the chance is at least `level`. Where not even the smallest and the largest value have it, k
    is 1 and the chance what it is.
    """
    ### BEGIN SOLUTION
    k, ways, fewer = 1, 1, 1  # in how many of 2**n cases are exactly k - 1 values, and fewer than k, below the median?
    while True:
        ways = ways * (n - k + 1) // k
        if 1 - 2 * ((fewer + ways) / 2**n) < level:
            return k, 1 - 2 * (fewer / 2**n)
        k, fewer = k + 1, fewer + ways
    ### END SOLUTION


# %%
print("    n      k    from, to     really sure")
for n in (1, 3, 5, 6, 9, 15, 30, 100, 1000):
    k, coverage = _rank(n, 0.95)
    print(f"{n:5} {k:6}    {k:3}, {n + 1 - k:4} {coverage:13.1%}")

# %% [markdown]
"""
Read the column on the right. For five runs and fewer nothing gives 95 %; that is how many repeats a benchmark needs at
least, and most that are published have three. Above, there is always a bit more than was asked for, since k is a whole
number. And read the one in the middle: of 9 runs the middle 7 are needed, of 1,000 only the middle 60 or so. That is
how the interval shrinks.

Do not take it for the quartiles of module 14. They say how much single *runs* differ, and stay where they are however
often you measure. The interval says how well the *median* is known.

**Write the heart of `median_interval`.** Sort the values, ask `_rank`, and return an `Interval`: median, low, high,
coverage, all of them Python floats. For the nine numbers above: 31, from 29 to 35, 0.9609375.

<details><summary>Hint 1</summary>

The k-th smallest is at place k - 1 of the sorted array.
</details>
<details><summary>Hint 2</summary>

Counted from the end, the k-th largest is at -k.
</details>
<details><summary>Hint 3</summary>

`np.median` takes the mean of the two in the middle where there is an even number.
</details>
"""


# %%
#| export
def _check_level(who, level):
    if not isinstance(level, Real) or isinstance(level, bool) or not 0 < level < 1:
        raise ValueError(f"{who} needs a level between 0 and 1, such as 0.95, got {level!r}")


# %% nbgrader={"grade": false, "grade_id": "benchmarking-interval", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def median_interval(values, level: float = 0.95) -> Interval:
    """The median of `values` and an interval for the true one, whatever the distribution of independent values is.

    values   numbers, at least one
    level    the chance with which the interval shall hold the true median; `coverage` of the result says what it
             really is: a little more, or less where there are too few values for it (below 6 for 95 %)

    Order statistics; the chance is that of a fair coin thrown once for each value.
    """
    _check_level("median_interval", level)
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f"median_interval needs a list of finite numbers, at least one, got {values!r}")
    ### BEGIN SOLUTION
    values = np.sort(values)
    k, coverage = _rank(len(values), level)
    return Interval(float(np.median(values)), float(values[k - 1]), float(values[-k]), coverage)
    ### END SOLUTION


# %%
nine = [31, 28, 35, 30, 29, 90, 33, 30, 32]
print("nine runs:         ", median_interval(nine))
print("the 90 is 9,000:   ", median_interval([9000 if t == 90 else t for t in nine]))
print("three of them:     ", median_interval(nine[:3]))
print("at 80 %:           ", median_interval(nine, 0.8))

# %% [markdown]
"""
### Does it hold what it promises?

We can check that, for we can make runs whose true median we know: 100, times noise of which one half is below 1 and one
half above, and lopsided, with a few runs that take five times as long. Make 20,000 such benchmarks, and count how often
the interval holds 100. Beside it what most people do: the mean plus and minus two standard errors, which should hold
the true *mean* in 95 % of all cases.
"""


# %%
def noise(rng, shape):
    """Factors of a lopsided distribution whose median is 1."""
    factors = np.exp(0.1 * np.abs(rng.normal(size=shape)) * rng.choice([-0.3, 1.0], size=shape))
    return np.where(rng.random(shape) < 0.04, np.maximum(factors, 1 / factors) * 5, factors) / centre


rng, centre = np.random.default_rng(0), 1.0
many = noise(rng, 1_000_000)
centre = np.median(many)  # 4 % of the runs went from both halves to the upper one
true_mean = 100 * (many / centre).mean()

print("   n    promised   measured   width      mean +- 2 errors: measured")
for n in (5, 9, 15, 30, 100):
    runs = np.sort(100 * noise(rng, (20_000, n)), axis=1)
    k, coverage = _rank(n, 0.95)
    low, high = runs[:, k - 1], runs[:, -k]
    held = ((low <= 100) & (high >= 100)).mean()
    error = 2 * runs.std(axis=1, ddof=1) / np.sqrt(n)
    naive = (np.abs(runs.mean(axis=1) - true_mean) <= error).mean()
    print(f"{n:4} {coverage:11.1%} {held:10.1%} {np.mean(high - low):7.2f} {naive:31.1%}")

# %% [markdown]
"""
The second and third columns agree, for any n, and the formula knows nothing of the noise. The last column is what
happens to a method that believes in bells: with few runs, most samples hold no slow run at all, and the mean and its
error know nothing of them.

One thing we did assume: that the runs are *independent*. Real disturbances last. Here each run's noise is partly that
of the one before:
"""

# %%
print("memory from run to run    promised   measured")
for memory in (0.0, 0.5, 0.9):
    z = rng.normal(size=(5_000, 30))
    for i in range(1, 30):
        z[:, i] = memory * z[:, i - 1] + np.sqrt(1 - memory**2) * z[:, i]
    runs = np.sort(z, axis=1)
    k, coverage = _rank(30, 0.95)
    print(f"{memory:22.1f} {coverage:11.1%} {((runs[:, k - 1] <= 0) & (runs[:, -k] >= 0)).mean():10.1%}")

# %% [markdown]
"""
A long disturbance hits many runs alike, and then thirty runs are worth no more than three. The interval cannot see it.
So: distrust intervals of runs that were made in one breath; spread them out; and, best, measure what you want to
compare *under the same disturbance*. We come to that.

## What belongs to a time

A time without the machine it was taken on is half a measurement. Nobody can repeat it, and it will be compared with one
from another machine sooner or later, by somebody in a hurry. So every result carries what it depends on: processor,
cores, system, Python, NumPy, the library for matrix products and its threads. And it carries *all* its times, not only
the median: what is thrown away now cannot be looked at later.
"""


# %%
#| export
def _processor():
    """The name of the processor, as far as the system tells."""
    import platform

    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        return names[0] if names else platform.machine()
    if sys.platform == "darwin":
        import subprocess

        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip() or platform.machine()
    return platform.processor() or platform.machine()


def machine() -> dict:
    """What a time depends on besides the program: from the name of each thing to text or a number.

    `threads` is what the environment asks of BLAS now. BLAS asked once, when NumPy was imported; later changes of the
    environment have no effect on it.
    """
    import platform

    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    names = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": usable,
        "system": platform.platform(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "threads": ", ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ) or "as BLAS likes",
    }


# %%
#| export
def _seconds(seconds):
    """A time as text, in the unit that suits it."""
    for unit, size in (("s", 1), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds * 1e9:.4g} ns"


def _check_count(who, name, count, least):
    if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < least:
        raise ValueError(f"{who} needs {name} as a whole number of at least {least}, got {count!r}")


def _check_name(who, name):
    if not isinstance(name, str) or not name:
        raise TypeError(f"{who} needs a name to be called by, got {name!r}")


def _check_keys(who, document, keys):
    """Whether `document`, which came from outside, is a dictionary with these keys and no others."""
    if not isinstance(document, dict) or set(document) != set(keys):
        got = ", ".join(sorted(map(str, document))) if isinstance(document, dict) else type(document).__name__
        raise ValueError(f"{who} needs an object with {', '.join(sorted(keys))}, got {got or 'nothing'}")


@dataclass(frozen=True)
class BenchmarkResult:
    """How long something took, each time that it was measured.

    name      what was measured
    times     seconds per call, one number for each repeat, in the order in which they were measured
    machine   where: what `machine()` said there
    loops     how many calls each of the times is the mean of
    level     how sure `low` and `high` shall be

    Raises TypeError or ValueError for what cannot have been measured: no times, or times that are not above 0.
    """

    name: str
    times: tuple[float, ...]
    machine: dict = field(hash=False)
    loops: int = 1
    level: float = 0.95

    def __post_init__(self):
        who = "BenchmarkResult"
        _check_name(who, self.name)
        if not isinstance(self.times, (tuple, list)) or not self.times:
            raise ValueError(f"{who} {self.name!r} needs the times of at least one repeat, got {self.times!r}")
        times = [t.item() if isinstance(t, np.generic) else t for t in self.times]
        for t in times:
            if not isinstance(t, Real) or isinstance(t, bool) or not 0 < t <= sys.float_info.max:
                raise ValueError(f"{who} {self.name!r} needs times in seconds, above 0, got {t!r}")
        if not isinstance(self.machine, dict) or not self.machine:
            raise TypeError(f"{who} {self.name!r} needs the machine as machine() tells it, got {self.machine!r}")
        for key, value in self.machine.items():
            if not isinstance(key, str) or not isinstance(value, (str, int)):
                raise TypeError(
                    f"{who} {self.name!r}: a machine has names with text or numbers, got {key!r}: {value!r}"
                )
        _check_count(who, "loops", self.loops, 1)
        _check_level(who, self.level)
        for name, value in (
            ("times", tuple(map(float, times))),
            ("loops", int(self.loops)),
            ("level", float(self.level)),
        ):
            object.__setattr__(self, name, value)

    @functools.cached_property
    def interval(self) -> Interval:
        """The median, `low`, `high`, and how sure they really are."""
        return median_interval(self.times, self.level)

    @property
    def median(self) -> float:
        """Seconds: half of the repeats took less."""
        return self.interval.median

    @property
    def low(self) -> float:
        """Seconds: the lower end of the interval for the median."""
        return self.interval.low

    @property
    def high(self) -> float:
        """Seconds: the upper end of the interval for the median."""
        return self.interval.high

    @property
    def coverage(self) -> float:
        """The chance that `low` and `high` enclose the true median, if the repeats were independent."""
        return self.interval.coverage

    @property
    def minimum(self) -> float:
        """Seconds of the fastest repeat."""
        return min(self.times)

    def to_dict(self) -> dict:
        """What `from_dict` takes, in numbers, text, lists and dictionaries alone."""
        return {**asdict(self), "times": list(self.times)}

    @classmethod
    def from_dict(cls, document: dict) -> "BenchmarkResult":
        """A result from what `to_dict` gave; TypeError or ValueError for anything else."""
        _check_keys("BenchmarkResult.from_dict", document, cls.__dataclass_fields__)
        return cls(**document)

    def __str__(self):
        n = len(self.times)
        return (
            f"{self.name}: {_seconds(self.median)} ({_seconds(self.low)} to {_seconds(self.high)}, "
            f"{self.coverage:.1%} sure, {n} repeat{'s' if n > 1 else ''})"
        )


# %%
for name, value in machine().items():
    print(f"{name:10} {value}")
result = BenchmarkResult("by hand", [t / 1e6 for t in nine], machine())
print(result)
for wrong in ([], [0.001, 0.0], [float("nan")]):
    try:
        BenchmarkResult("nothing", wrong, machine())
    except ValueError as error:
        print(error)

# %% [markdown]
"""
## A clock has ticks

Reading a clock takes time, and it moves in steps. How long is the shortest thing that can be timed?
"""

# %%
readings = np.array([time.perf_counter() for _ in range(10_000)])
steps = np.diff(readings)
print(
    f"one reading after the other: {np.median(steps) * 1e9:.0f} ns; smallest step {steps[steps > 0].min() * 1e9:.0f} ns"
)
tick = np.median(steps)
print(f"one reading is {tick / 1e-3:.4%} of a millisecond, and {tick / 1e-6:.1%} of a microsecond")
tiny = np.ones(4, np.float32)
alone = clocked(lambda: tiny + tiny, 1000)
start = time.perf_counter()
for _ in range(1000):
    tiny + tiny
together = (time.perf_counter() - start) * 1e3
print(
    f"tiny + tiny: timed for itself {np.median(alone) * 1e3:.0f} ns, a thousand in a row {together * 1e3:.0f} ns each"
)

# %% [markdown]
"""
The reading is part of what is timed, and a step of the clock more or less as well. So short functions are called
several times between two readings, and the time is divided. (That makes each time a mean of several calls, so it looks
calmer than the calls are. That is why a result says its `loops`.)

How many calls? It depends on the function, so the warm-up finds out: one call, and if that took less than `min_time`,
two, four, eight. Powers of two cost at most as much again as the last try.

**Write the heart of `_loops`.** `_timed(function, loops, clock)` (given) is the seconds that so many calls take
together. Begin with 1 and double until they are at least `min_time`. A clock that stands still would keep us here for
ever: as soon as the next number of calls would take longer than `min_time` even at `LEAST_CALL` seconds each, raise a
ValueError with the name.

For a function of 30 us and a `min_time` of 100 us the answer is 4.

<details><summary>Hint 1</summary>

`while _timed(...) < min_time`, and inside the loop `loops` doubles.
</details>
<details><summary>Hint 2</summary>

Check right after doubling, before the next round is timed: it would take longest of all.
</details>
<details><summary>Hint 3</summary>

```
   loops = 1
   while _timed(function, loops, clock) < min_time:
       loops *= 2
       if loops * LEAST_CALL > min_time:
           raise ValueError(...)
   return loops
```
</details>
"""


# %%
#| export
@contextmanager
def _quiet():
    """Without the garbage collector inside; afterwards as it was."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _timed(function, loops, clock):
    """Seconds that `loops` calls take together."""
    calls = repeat(None, loops)
    start = clock()
    for _ in calls:
        function()
    return clock() - start


# %% nbgrader={"grade": false, "grade_id": "benchmarking-loops", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
LEAST_CALL = 1e-9  # seconds; if a call seems to take less, it is the clock that is wrong


def _loops(name, function, min_time, clock):
    """How many calls in a row, a power of two, take at least `min_time` seconds."""
    ### BEGIN SOLUTION
    loops = 1
    while _timed(function, loops, clock) < min_time:
        loops *= 2
        if loops * LEAST_CALL > min_time:
            raise ValueError(f"{name!r}: {loops // 2:,} calls take less than {min_time} s; does the clock go?")
    return loops
    ### END SOLUTION


# %%
reader = GPT(vocab_size=256, embed_dim=64, num_layers=2, num_heads=4, max_seq_len=64, rng=0).eval()
tokens = np.zeros((4, 64), int)
for name, function in (("tiny + tiny", lambda: tiny + tiny), ("a @ b", lambda: a @ b), ("GPT", lambda: reader(tokens))):
    print(f"{name:12} {_loops(name, function, 1e-3, time.perf_counter):5} calls for one measurement of 1 ms")

# %% [markdown]
"""
## A, then B

You have an old function and a new one. Time the old one thirty times, then the new one thirty times, and divide. What
can go wrong?

A laptop gets warm and its processor slows down. A server gets neighbours. To see what that does, we build a machine
that we can slow down as we like: a clock that moves only when work is done, by the amount of work and a bit more each
time. `clock()` tells its time, just as `time.perf_counter()` tells ours.
"""


# %%
class Slowing:
    """A machine and its clock. Everything takes `drift` longer for each second that it has run, with some noise."""

    def __init__(self, drift, spread=0.02, seed=0):
        self.now = 0.0
        self.drift = drift
        self.spread = spread
        self.rng = np.random.default_rng(seed)

    def __call__(self):
        return self.now

    def work(self, seconds):
        """A function that takes so long here."""

        def run():
            self.now += seconds * (1 + self.drift * self.now) * np.exp(self.spread * abs(self.rng.normal()))

        return run


def one_after_the_other(functions, repeats, clock):
    """The naive way: all runs of the first, then all runs of the second."""
    found = {}
    for name, function in functions.items():
        found[name] = []
        for _ in range(repeats):
            start = clock()
            function()
            found[name].append(clock() - start)
    return found


for drift in (0.0, 0.02):
    laptop = Slowing(drift)
    times = one_after_the_other({"A": laptop.work(0.1), "B": laptop.work(0.1)}, 30, laptop)
    first, second = (median_interval(times[name]) for name in "AB")
    print(f"slower by {drift:.0%} a second:  A {first}   B {second}")

# %% [markdown]
"""
A and B are the same function. On the machine that slows down, B is slower, and the intervals do not even touch: they
are sure of it, and wrong. More repeats make it worse. Turn the order around, and A is the slower one.

The remedy costs nothing. Take turns. In one *round* everything runs once, close together in time, under the same
conditions. And every other round goes backwards, so that none is always the one that comes later:

```
   A B   B A   A B   B A   ...            three of them:   A B C   C B A   A B C   ...
```

**Write the heart of `_in_turns`.** The warm-up is given. With the garbage collector resting (`with _quiet():`), ask
`_loops` for each function, then measure `repeats` rounds: for each name in turn, the seconds of its loops divided by
their number. Turn the order around after each round. Return from name to `(loops, tuple of times)`.

With A and B and three rounds, the calls that count are A B, B A, A B.

<details><summary>Hint 1</summary>

`order = list(functions)`, and `order.reverse()` at the end of each round.
</details>
<details><summary>Hint 2</summary>

`_timed` gives the seconds of all loops together; a time is per call.
</details>
<details><summary>Hint 3</summary>

```
   for _ in range(repeats):
       for name in order:
           times[name].append(_timed(functions[name], loops[name], clock) / loops[name])
       order.reverse()
```
</details>
"""


# %%
#| export
def _check_functions(who, functions, warmup, repeats, min_time, level, clock):
    for name, function in functions.items():
        _check_name(who, name)
        if not callable(function):
            raise TypeError(f"{who} needs {name!r} as a function to call, got {type(function).__name__}")
    if not callable(clock):
        raise TypeError(f"{who} needs a clock to call, such as time.perf_counter, got {type(clock).__name__}")
    _check_count(who, "warmup", warmup, 0)
    _check_count(who, "repeats", repeats, 1)
    if not isinstance(min_time, Real) or not 0 <= min_time < math.inf:
        raise ValueError(f"{who} needs min_time in seconds, at least 0, got {min_time!r}")
    _check_level(who, level)


# %% nbgrader={"grade": false, "grade_id": "benchmarking-turns", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _in_turns(functions, warmup, repeats, min_time, clock):
    """From name to (loops, seconds per call in each round): one of each in a round, every other round backwards."""
    for function in functions.values():
        for _ in range(warmup):
            function()
    ### BEGIN SOLUTION
    with _quiet():
        loops = {name: _loops(name, function, min_time, clock) for name, function in functions.items()}
        times = {name: [] for name in functions}
        order = list(functions)
        for _ in range(repeats):
            for name in order:
                times[name].append(_timed(functions[name], loops[name], clock) / loops[name])
            order.reverse()
    return {name: (loops[name], tuple(times[name])) for name in functions}
    ### END SOLUTION


# %%
#| export
def _results(functions, warmup, repeats, min_time, level, clock):
    here = machine()
    measured = _in_turns(functions, warmup, repeats, min_time, clock)
    return tuple(BenchmarkResult(name, times, here, loops, level) for name, (loops, times) in measured.items())


class Benchmark:
    """Times one function.

    function   called without arguments
    name       what the result is called
    warmup     calls before the clock is read for the first time; those that find the number of loops come after them
    repeats    how often it is measured
    min_time   seconds: a function that takes less is called several times in a row for each measurement
    level      how sure the interval of the median shall be
    clock      tells seconds

    The garbage collector rests meanwhile. What the function raises is raised.
    """

    def __init__(
        self,
        function,
        name: str,
        *,
        warmup: int = 3,
        repeats: int = 30,
        min_time: float = 1e-3,
        level: float = 0.95,
        clock=time.perf_counter,
    ):
        _check_functions("Benchmark", {name: function}, warmup, repeats, min_time, level, clock)
        self.function = function
        self.name = name
        self.warmup = warmup
        self.repeats = repeats
        self.min_time = min_time
        self.level = level
        self.clock = clock

    def run(self) -> BenchmarkResult:
        """Measure it now, on this machine."""
        functions = {self.name: self.function}
        (result,) = _results(functions, self.warmup, self.repeats, self.min_time, self.level, self.clock)
        return result

    def __repr__(self):
        return f"Benchmark({self.name!r}, warmup={self.warmup}, repeats={self.repeats})"


# %%
print(Benchmark(lambda: a @ b, "160 x 160").run())
print(Benchmark(lambda: tiny + tiny, "tiny + tiny").run())


def broken():
    raise OSError("the disk is gone")


try:
    Benchmark(broken, "broken").run()
except OSError as error:
    print("raised, and no number in its place:", error)

# %% [markdown]
"""
`Benchmark` is the case of one function. For two, what do we do with the times? The two times of a round were taken
under the same conditions, so whatever slowed one of them slowed the other. Then their *ratio* is free of it. Take the
ratio of each round, and of these the median and its interval:

```
   round        1     2     3     4     5            the machine is getting slower
   A          1.0   1.1   1.3   1.6   2.0            medians: A 1.3, B 1.04
   B          0.8   0.88  1.04  1.28  1.6
   B / A      0.8   0.8   0.8   0.8   0.8            the answer, and no doubt about it
```

Before two times may be divided at all, they must be of one machine.

**Write `differences`.** Return a line of text for everything in which two machines differ, as `python: 'CPython 3.11.7'
and 'CPython 3.12.1'`, first the names in the order of `a`, then those that only `b` has. A name that one of them lacks
counts as None there. Equal machines give an empty list.

<details><summary>Hint 1</summary>

The keys: those of `a`, then those of `b` that are not in `a`.
</details>
<details><summary>Hint 2</summary>

`a.get(key)` is None where there is none.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "benchmarking-differences", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def differences(a: dict, b: dict) -> list[str]:
    """In what two machines differ, one line of text for each thing; empty if they are alike."""
    ### BEGIN SOLUTION
    keys = [*a, *(key for key in b if key not in a)]
    return [f"{key}: {a.get(key)!r} and {b.get(key)!r}" for key in keys if a.get(key) != b.get(key)]
    ### END SOLUTION


# %%
#| export
def _listed(who, results):
    """The results as a list of at least one, each with a name of its own."""
    results = [results] if isinstance(results, BenchmarkResult) else list(results)
    if not results:
        raise ValueError(f"{who} needs at least one result, got none")
    for result in results:
        if not isinstance(result, BenchmarkResult):
            raise TypeError(f"{who} needs results of benchmarks, got {type(result).__name__}")
    names = [result.name for result in results]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{who} needs results with different names, got {', '.join(map(repr, twice))} more than once")
    return results


def _check_machines(who, results, which=None):
    for result in results[1:]:
        found = differences(results[0].machine, result.machine)
        if found:
            which = which or f"{results[0].name!r} and {result.name!r}"
            raise ValueError(
                f"{who}: {which} were measured on different machines, and say nothing about each other "
                f"({'; '.join(found)}); measure both on one"
            )


def table(results) -> str:
    """Results of one machine as text, a line each."""
    results = _listed("table", results)
    _check_machines("table", results)
    width = max(len("name"), *(len(result.name) for result in results))
    lines = [f"{'name':{width}}      median         low        high    sure   minimum  repeats    loops"]
    for r in results:
        times = f"{_seconds(r.median):>11} {_seconds(r.low):>11} {_seconds(r.high):>11}"
        lines.append(
            f"{r.name:{width}} {times} {r.coverage:7.1%} {_seconds(r.minimum):>9} {len(r.times):8} {r.loops:8}"
        )
    return "\n".join(lines)


# %% [markdown]
"""
**Write the heart of `paired_ratio`.** Both results have a time for each round. Return the `median_interval` of the
ratios `result / base`, one for each round, at the given level. For the table above: 0.8.

Not the ratio of the medians: that throws the pairs away, and with them all that was gained by taking turns.

<details><summary>Hint 1</summary>

`zip(result.times, base.times)` gives the pairs.
</details>
<details><summary>Hint 2</summary>

`median_interval` takes a list, and the level as its second argument.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "benchmarking-ratio", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def paired_ratio(result: BenchmarkResult, base: BenchmarkResult, level: float = 0.95) -> Interval:
    """How many times as long as `base` the `result` takes: the median of the ratios of each round, with its interval.

    Both must have been measured in turns, with one time for each round.
    """
    if len(result.times) != len(base.times):
        raise ValueError(
            f"paired_ratio needs a time of both for each round, got {len(result.times)} of {result.name!r} and "
            f"{len(base.times)} of {base.name!r}"
        )
    _check_machines("paired_ratio", [base, result])
    ### BEGIN SOLUTION
    return median_interval([a / b for a, b in zip(result.times, base.times)], level)
    ### END SOLUTION


# %%
getting_slower = [1.0, 1.1, 1.3, 1.6, 2.0]
A = BenchmarkResult("A", getting_slower, machine())
B = BenchmarkResult("B", [0.8 * t for t in getting_slower], machine())
print("B / A, pair by pair:", paired_ratio(B, A))
print("their medians' own intervals:", A.interval, "and", B.interval)
elsewhere = BenchmarkResult("A", getting_slower, {**machine(), "cores": 64, "numpy": "1.0"})
try:
    paired_ratio(B, elsewhere)
except ValueError as error:
    print(error)

# %% [markdown]
"""
Now for the verdict. An interval of the ratio that lies wholly below 1 says "faster", with the certainty of the
interval. One that contains 1 says: *I cannot tell*. It does not say "they are equal"; perhaps the difference is small,
perhaps there were too few rounds. A benchmark has to be able to say that, and most cannot.

**Write the heart of `faster`.** Return the name of the one whose ratio to *every* other lies wholly below 1 (`high`
below 1), and whose intervals really are as sure as was asked for (`coverage` at least `self.level`); None if there is
none. The second condition matters: of a single round the interval is a point, which is always on one side of 1, with
coverage 0.

<details><summary>Hint 1</summary>

`self.ratio(name, other)` is the interval of `name / other`.
</details>
<details><summary>Hint 2</summary>

For each name, a list of the ratios to all others; then `all(...)` over the two conditions.
</details>
<details><summary>Hint 3</summary>

At most one name can be below all others, so the first that is found can be returned.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "benchmarking-faster", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
@dataclass(frozen=True)
class Comparison:
    """Several functions that were timed in turns: time number i of each is of round i.

    results   at least two, of one machine, with different names
    level     how sure a verdict shall be
    """

    results: tuple[BenchmarkResult, ...]
    level: float = 0.95

    def __post_init__(self):
        results = tuple(_listed("Comparison", self.results))
        if len(results) < 2:
            raise ValueError(f"Comparison needs at least two results, got only {results[0].name!r}")
        object.__setattr__(self, "results", results)
        for result in results[1:]:
            paired_ratio(result, results[0], self.level)

    @property
    def names(self) -> tuple[str, ...]:
        """In the order in which they were given."""
        return tuple(result.name for result in self.results)

    def __getitem__(self, name: str) -> BenchmarkResult:
        for result in self.results:
            if result.name == name:
                return result
        raise KeyError(f"the comparison is of {', '.join(self.names)}, not of {name!r}")

    def ratio(self, name: str, base: str | None = None) -> Interval:
        """How many times as long as `base`, the first one if not told, `name` takes."""
        return paired_ratio(self[name], self[self.names[0] if base is None else base], self.level)

    @property
    def faster(self) -> str | None:
        """The one that takes less than every other, each interval wholly below 1; None if nobody can tell."""
        ### BEGIN SOLUTION
        for name in self.names:
            ratios = [self.ratio(name, other) for other in self.names if other != name]
            if all(ratio.high < 1 and ratio.coverage >= self.level for ratio in ratios):
                return name
        return None
        ### END SOLUTION

    @property
    def verdict(self) -> str:
        """A sentence."""
        rounds = len(self.results[0].times)
        coverage = _rank(rounds, self.level)[1]
        if coverage < self.level:
            return f"no verdict: {rounds} rounds give {coverage:.1%}, {self.level:.1%} is asked for; take more"
        if self.faster is None:
            return f"no verdict: none is faster than every other with {self.level:.0%} certainty"
        return f"{self.faster} is the fastest"

    def __str__(self):
        first = self.names[0]
        ratios = [f"{name} / {first}: {self.ratio(name)}" for name in self.names[1:]]
        return "\n".join([table(self.results), *ratios, self.verdict])


def compare(
    functions: dict,
    *,
    rounds: int = 30,
    warmup: int = 3,
    min_time: float = 1e-3,
    level: float = 0.95,
    clock=time.perf_counter,
) -> Comparison:
    """Time at least two functions in turns: A B, B A, A B, ...

    functions   from name to function without arguments
    The rest is as in `Benchmark`; a round is one repeat of each.
    """
    if not isinstance(functions, Mapping) or len(functions) < 2:
        raise ValueError(f"compare needs at least two functions, as {{name: function}}, got {functions!r}")
    _check_functions("compare", functions, warmup, rounds, min_time, level, clock)
    return Comparison(_results(dict(functions), warmup, rounds, min_time, level, clock), level)


# %%
laptop = Slowing(0.02)
print(compare({"A": laptop.work(0.1), "B": laptop.work(0.1)}, warmup=0, clock=laptop))
laptop = Slowing(0.02)
print()
slowing = compare({"A": laptop.work(0.1), "B": laptop.work(0.098)}, warmup=0, clock=laptop)
print(slowing)

# %% [markdown]
"""
The same machine that gets slower, the same function twice: no verdict. And a function that really takes 2 % less is
found out, although the machine's own slowing is many times that. Look at the first table's `low` and `high`: the
medians of A and B are known badly, and their ratio well.

Now in earnest, and not on a simulated machine:
"""

# %%
values = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
powers = compare({"x ** 3": lambda: values**3, "x * x * x": lambda: values * values * values})
print(powers)
print()
twice = compare({"x * x": lambda: values * values, "the same": lambda: values * values})
print(twice)

# %% [markdown]
"""
### How often does it cry wolf?

At a level of 95 % we are wrong in up to 5 % of all cases in which there is nothing to find: half of them "faster", half
"slower". Count it: two equal functions, 300 times, on a machine that gets slower. What does each way of measuring say?
"""

# %%
verdicts = {"one after the other": 0, "in turns": 0}
for seed in range(300):
    laptop = Slowing(0.005, seed=seed)
    times = one_after_the_other({"A": laptop.work(0.1), "B": laptop.work(0.1)}, 20, laptop)
    first, second = (median_interval(times[name]) for name in "AB")
    verdicts["one after the other"] += first.high < second.low or second.high < first.low
    laptop = Slowing(0.005, seed=seed)
    equal = compare({"A": laptop.work(0.1), "B": laptop.work(0.1)}, rounds=20, warmup=0, min_time=0, clock=laptop)
    verdicts["in turns"] += equal.faster is not None
real = sum(compare({"A": lambda: a @ b, "B": lambda: a @ b}, rounds=15, warmup=0).faster is not None for _ in range(20))
for way, count in verdicts.items():
    print(f"{way:20} a difference seen in {count / 300:6.1%} of 300 comparisons of a function with itself")
print(f"promised for 20 rounds: at most {1 - _rank(20, 0.95)[1]:.1%}")
print(f"on this machine, in turns: {real} of 20 (15 rounds; promised: {1 - _rank(15, 0.95)[1]:.1%})")

# %% [markdown]
"""
The last line is no simulation: your machine compared a product with itself. If it says more than one or two, its
disturbances last longer than a round, or the two differ in something we did not think of. Tiny differences can be
*real* and mean nothing: another place in memory, another alignment. A verdict says that a difference is there, and the
interval how large it is; whether it matters is for you to say.

All this is per comparison. Whoever compares twenty things at 95 % finds one "improvement" by luck; whoever repeats a
benchmark until it shows what was hoped for always finds it. Decide how many rounds there will be before you see them.

## Slower than last week?

Taking turns is not always possible: the old version ran last week, and what is left of it is a file. Then there are no
pairs, only two medians, each with its interval. The ratio is smallest if the new one is as low as it can be and the old
one as high as it can be:

```
   old     100   (95 to 105)
   new     130   (120 to 140)            new / old:  1.3   from 120 / 105 = 1.14   to 140 / 95 = 1.47
```

Each of the two intervals may be wrong. If both shall hold *at once* with 95 %, each has to hold with 97.5 %: the
chances of being wrong add up, at worst. In general each gets the level (1 + level) / 2.

**Write the heart of `unpaired_ratio`.** The intervals of both medians at that level; then an `Interval` with the ratio
of the medians, low by high, high by low, and a coverage of 1 minus both chances to be wrong (not below 0).

<details><summary>Hint 1</summary>

`median_interval(result.times, each)`, not `result.interval`: that one is for `result.level`.
</details>
<details><summary>Hint 2</summary>

`1 - (1 - over.coverage) - (1 - under.coverage)` is `over.coverage + under.coverage - 1`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "benchmarking-unpaired", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def unpaired_ratio(result: BenchmarkResult, base: BenchmarkResult, level: float = 0.95) -> Interval:
    """How many times as long as `base` the `result` takes, where both were measured at different times.

    The intervals of both medians, each surer than `level`, so that both hold at once with at least `level`.
    """
    _check_level("unpaired_ratio", level)
    _check_machines("unpaired_ratio", [base, result])
    ### BEGIN SOLUTION
    each = (1 + level) / 2
    over, under = median_interval(result.times, each), median_interval(base.times, each)
    coverage = max(0.0, over.coverage + under.coverage - 1)
    return Interval(over.median / under.median, over.low / under.high, over.high / under.low, coverage)
    ### END SOLUTION


# %%
rng, here = np.random.default_rng(1), machine()
before = BenchmarkResult("step", tuple(0.100 * noise(rng, 30)), here)
after = BenchmarkResult("step", tuple(0.130 * noise(rng, 30)), here)
print(before, "", after, sep="\n")
print("as long:", unpaired_ratio(after, before))

# %% [markdown]
"""
Shall everything be reported whose interval lies above 1? With enough repeats an interval becomes so narrow that it sees
half a percent, and half a percent comes and goes with where the system put an array in memory. It is *real*, and nobody
wants to be woken for it. So there is a tolerance, and a regression is an interval that lies wholly above 1 + tolerance:

```
                    1        1 + tolerance
   ------------------|-----------|------------------>  new / old
        [----]                                            faster
                [--------]                                nothing
                          [-----------------]             perhaps: measure longer
                                      [--------]          a regression
```

**Write the heart of `regressions`.** Given are `old` and `new` as dictionaries by name and the `common` names. Make a
`Change(name, old, new, ratio)` for each of these, keep those whose ratio's `low` is above 1 + tolerance, put the worst
first (by the median of the ratio), and return `Regressions(slower, missing, added)`: the names that only `old` has, and
those that only `new` has. A benchmark that has disappeared must be said: else the surest way to pass is to delete it.

<details><summary>Hint 1</summary>

The ratio is `unpaired_ratio(new[name], old[name], level)`: how many times as long the *new* one takes.
</details>
<details><summary>Hint 2</summary>

`sort(key=lambda change: change.ratio.median, reverse=True)`.
</details>
<details><summary>Hint 3</summary>

`[name for name in old if name not in new]` are missing, and the other way round added.
</details>
"""


# %%
#| export
class Change(NamedTuple):
    """What was measured before and after, and how many times as long it takes now."""

    name: str
    old: BenchmarkResult
    new: BenchmarkResult
    ratio: Interval

    def __str__(self):
        times = f"{_seconds(self.old.median)} -> {_seconds(self.new.median)}"
        return f"{self.name}: {times}, {self.ratio} times as long"


class Regressions(list):
    """The changes for the worse, the worst first; and what could not be compared.

    missing   names that were measured before and are not now
    added     names that were not measured before
    """

    def __init__(self, changes=(), missing=(), added=()):
        super().__init__(changes)
        self.missing = tuple(missing)
        self.added = tuple(added)

    @property
    def ok(self) -> bool:
        """Nothing has become slower, and nothing is missing."""
        return not self and not self.missing

    def __str__(self):
        lines = [f"slower: {change}" for change in self] or ["nothing is slower"]
        lines += [f"missing: {name}, measured before and not now" for name in self.missing]
        lines += [f"added: {name}, not measured before" for name in self.added]
        return "\n".join(lines)


# %% nbgrader={"grade": false, "grade_id": "benchmarking-regressions", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def regressions(old, new, tolerance: float = 0.05, level: float = 0.95) -> Regressions:
    """What takes longer in `new` than in `old`, by more than the share `tolerance` and with certainty `level`.

    old, new   results; those with the same name are compared

    Raises ValueError if they are of different machines, have no name in common, or too few repeats for the level.
    """
    who = "regressions"
    if not isinstance(tolerance, Real) or isinstance(tolerance, bool) or not 0 <= tolerance < math.inf:
        raise ValueError(f"{who} needs a tolerance of at least 0, such as 0.05 for 5 %, got {tolerance!r}")
    _check_level(who, level)
    old = {result.name: result for result in _listed(who, old)}
    new = {result.name: result for result in _listed(who, new)}
    for results in (old, new):
        _check_machines(who, list(results.values()))
    _check_machines(who, [next(iter(old.values())), next(iter(new.values()))], "old and new")
    common = [name for name in old if name in new]
    if not common:
        raise ValueError(f"{who}: nothing to compare, {', '.join(old)} before and {', '.join(new)} now")
    for result in (group[name] for group in (old, new) for name in common):
        if _rank(len(result.times), (1 + level) / 2)[1] < (1 + level) / 2:
            raise ValueError(
                f"{who}: {len(result.times)} repeats of {result.name!r} cannot give {level:.1%}; take more"
            )
    ### BEGIN SOLUTION
    changes = [Change(name, old[name], new[name], unpaired_ratio(new[name], old[name], level)) for name in common]
    slower = [change for change in changes if change.ratio.low > 1 + tolerance]
    slower.sort(key=lambda change: change.ratio.median, reverse=True)
    return Regressions(slower, [name for name in old if name not in new], [name for name in new if name not in old])
    ### END SOLUTION


# %% [markdown]
"""
Plant one. Last week's programs: a product and a sum over rows. Today somebody "cleaned up": one of the arrays is
float64, because it met a NumPy number, and nobody has seen it.
"""


# %%
def measured(weights):
    """A week's results."""
    work = {
        "product": lambda: a @ weights,
        "rows": lambda: a.sum(axis=1),
        "gpt": lambda: reader(tokens),
    }
    with no_grad():
        return [Benchmark(function, name).run() for name, function in work.items()]


last_week = measured(b)
today = measured(b * np.float64(1.0) + np.zeros(1))
print(regressions(last_week, today))
print()
print(regressions(last_week, today[:2]))
try:
    regressions(last_week, [BenchmarkResult("gpt", today[2].times, {**machine(), "threads": "OMP_NUM_THREADS=64"})])
except ValueError as error:
    print(error)

# %% [markdown]
"""
### How small a regression can it find, and how often does it find one that is not there?

On simulated runs with the lopsided noise of above, 30 repeats before and after, 300 times each:
"""

# %%
print("really slower by   reported, tolerance 0 %   reported, tolerance 5 %")
for slower in (0.0, 0.03, 0.06, 0.1, 0.15):
    reported = [0, 0]
    for _ in range(300):
        pair = [BenchmarkResult("step", tuple(t * noise(rng, 30)), here) for t in (0.1, 0.1 * (1 + slower))]
        for i, tolerance in enumerate((0.0, 0.05)):
            reported[i] += len(regressions(pair[:1], pair[1:], tolerance))
    print(f"{slower:16.0%} {reported[0] / 300:25.1%} {reported[1] / 300:25.1%}")

# %% [markdown]
"""
The first line is the rate of false alarms, and it is far below the 2.5 % that the level allows on the upper side: both
intervals have to be unlucky at once. The price stands in the lines below it. To be found nearly always, a regression
has to be larger than the tolerance by about the width of the interval. Repeats make that narrower, with the square root
of their number; so does a calmer machine.

The false alarms counted here come from noise *within* a run. Between runs there is more: another kernel, other
neighbours, another place in memory. No interval of one run knows it. That is what the tolerance is for, and it has to
be found by measuring: run the same program on ten days.

## Results in files

One JSON document, with a name of what it is (`schema`), so that a program that reads it can say "this is not mine" at
once. It is written beside the old file and then renamed (module 07), so there is no moment without a whole file. What
is read is checked as if somebody else had written it, for somebody may have.
"""


# %%
#| export
SCHEMA = "tinytorch.benchmark/1"
SUITE_SCHEMA = "tinytorch.suite/1"


def _write(path, schema, key, entries):
    text = json.dumps({"schema": schema, key: [entry.to_dict() for entry in entries]}, indent=1, allow_nan=False)
    _replace_file(path, text.encode() + b"\n")


def _no_number(text):
    raise ValueError(f"{text} is no number of JSON")


def _read(path, schema, key, kind):
    """The entries of a document of ours; ValueError that says what is wrong with any other file."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        document = json.loads(data.decode("utf-8"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    got = document.get("schema") if isinstance(document, dict) else None
    if got != schema:
        raise ValueError(f"{path} is not a document of schema {schema!r}, its schema is {got!r}")
    try:
        _check_keys("the document", document, ("schema", key))
        if not isinstance(document[key], list):
            raise TypeError(f"{key} must be a list, got {type(document[key]).__name__}")
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
    entries = []
    for i, entry in enumerate(document[key]):
        try:
            entries.append(kind.from_dict(entry))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, {key} number {i}: {error}") from None
    return entries


def save_results(path, results):
    """Write results into one JSON document; whatever happens, the file is the old one or the new one."""
    _write(path, SCHEMA, "results", _listed("save_results", results))


def load_results(path) -> list[BenchmarkResult]:
    """The results that `save_results` wrote; ValueError for any other file."""
    results = _read(path, SCHEMA, "results", BenchmarkResult)
    try:
        return _listed("load_results", results)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


# %%
with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "today.json"
    save_results(file, today)
    print(file.read_text()[:150], "...")
    print("read back, the same:", load_results(file) == today)
    for text in (
        '{"schema": "somebody.else/3"}',
        '{"results": [',
        '{"schema": "tinytorch.benchmark/1", "results": [1]}',
    ):
        file.write_text(text)
        try:
            load_results(file)
        except ValueError as error:
            print(str(error).replace(str(file), "the file"))

# %% [markdown]
"""
## A picture

`table` (above) has each number. A picture shows what no table shows: whether two clouds overlap, whether there are two
heaps instead of one, whether the slow runs all came at the end.
"""


# %%
#| export
def _draw_times(axis, results):
    """Each repeat a pale dot, each median a dark one with its interval; the first result on top."""
    slowest = max(max(result.times) for result in results)
    unit, size = next((pair for pair in (("s", 1), ("ms", 1e-3), ("us", 1e-6)) if slowest >= pair[1]), ("ns", 1e-9))
    for y, result in enumerate(results):
        times = np.array(result.times) / size
        axis.plot(times, y + np.linspace(-0.25, 0.25, len(times)), ".", ms=4, c="#a6cee3", zorder=1)
        axis.plot(np.array([result.low, result.high]) / size, [y, y], c="#1f3b73", lw=3, zorder=2)
        axis.plot(result.median / size, y, "o", ms=6, c="#1f3b73", zorder=3)
    fastest = min(result.minimum for result in results)
    axis.set(xlabel=f"time of a call ({unit})", xscale="log" if slowest > 10 * fastest else "linear")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(range(len(results)), [result.name for result in results], parse_math=False)
    axis.set_ylim(len(results) - 0.5, -0.5)
    axis.grid(axis="x", alpha=0.3)


def plot(results, path):
    """Draw results of one machine into the picture file `path`: every repeat, the medians and their intervals."""
    from matplotlib.figure import Figure

    results = _listed("plot", results)
    _check_machines("plot", results)
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(results)), layout="constrained")
    axis = figure.subplots()
    _draw_times(axis, results)
    sure = sorted({f"{result.coverage:.1%}" for result in results})
    axis.set_title(f"median, its interval ({', '.join(sure)} sure), and every repeat", fontsize=10)
    figure.savefig(path, dpi=120)


# %%
print(table([*powers.results, *twice.results]))


def show(draw):
    """What `draw(path)` draws."""
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder) / "picture.png")
        image = plt.imread(Path(folder) / "picture.png")
    _, axis = plt.subplots(figsize=(10, 10 * len(image) / image.shape[1]), layout="constrained")
    axis.imshow(image)
    axis.axis("off")
    plt.show()


show(lambda path: plot(slowing.results, path))

# %% [markdown]
"""
The picture is of the machine that gets slower. Each pale dot is a round, from the first at the top of its strip to the
last: the strips lean. The two intervals overlap, and yet we know from the pairs that B takes less.

## A suite: model against model

Speed alone is easy: a model that answers "3" to everything is hard to beat. So a suite measures, for each model on each
data set, what it costs *and* what it is worth:

```
   quality       a function of yours, of all outputs and all targets
   parameters    numbers that can be trained                          (module 14)
   bytes         of all arrays that are held, int8 as one byte each   (module 15)
   latency       of one batch, all models on one data set in turns
```

What if a model cannot be evaluated, because the metric fails or the shapes do not fit? Suites have been seen to put a
plausible number there "so that the table is complete". Then the table is worth nothing, all of it: nobody can know
which numbers are real. Ours raises, and says at which model and data set.

**Write the heart of `_quality`.** In evaluation mode (`_evaluating(model)` brings it back to its own mode afterwards)
and without a graph, let the model answer all inputs, `batch_size` at a time; join the outputs' arrays; return what
`metric(outputs, targets)` says, as a float. `_one_tensor("BenchmarkSuite", out)` is `out`, if it is a tensor.

Not the mean of the batches' qualities: the last batch is smaller, and would count too much.

<details><summary>Hint 1</summary>

`for start in range(0, len(inputs), batch_size)`, and `Tensor(inputs[start : start + batch_size])` for the model.
</details>
<details><summary>Hint 2</summary>

A list of arrays, then `np.concatenate`.
</details>
<details><summary>Hint 3</summary>

`with _evaluating(model), no_grad():` around the loop.
</details>
"""


# %%
#| export
def _array(x):
    return x.data if isinstance(x, Tensor) else np.asarray(x)


def accuracy(outputs, targets) -> float:
    """The share of targets that have the largest number in `outputs`.

    outputs   (..., C)
    targets   (...) class numbers; a negative one does not count
    """
    outputs, targets = _array(outputs), _array(targets)
    if outputs.shape[:-1] != targets.shape or targets.dtype.kind not in "iu":
        raise ValueError(
            f"accuracy needs a row of outputs for each target and whole numbers as targets, got outputs "
            f"{outputs.shape} and targets {targets.shape} {targets.dtype}"
        )
    counting = targets >= 0
    if not counting.any():
        raise ValueError("accuracy needs at least one target that counts, got none")
    return float((outputs.argmax(axis=-1) == targets)[counting].mean())


@dataclass(frozen=True)
class SuiteRow:
    """What was measured of one model on one data set.

    metric, quality   what the metric function is called, and what it said
    parameters        numbers that can be trained; those of a quantized layer are none any more
    bytes             of all arrays that the model holds, whatever they are for
    batch             samples in each of the calls that were timed
    latency           of such a call, in evaluation mode, without a graph
    """

    model: str
    dataset: str
    metric: str
    quality: float
    parameters: int
    bytes: int
    batch: int
    latency: BenchmarkResult

    def __post_init__(self):
        who = "SuiteRow"
        for name in (self.model, self.dataset, self.metric):
            _check_name(who, name)
        if not isinstance(self.quality, Real) or isinstance(self.quality, bool) or not math.isfinite(self.quality):
            raise ValueError(f"{who}: the quality of {self.model!r} must be a finite number, got {self.quality!r}")
        object.__setattr__(self, "quality", float(self.quality))
        for name, least in (("parameters", 0), ("bytes", 1), ("batch", 1)):
            _check_count(who, name, getattr(self, name), least)
        if not isinstance(self.latency, BenchmarkResult):
            raise TypeError(f"{who}: a latency is a BenchmarkResult, got {type(self.latency).__name__}")

    def to_dict(self) -> dict:
        """What `from_dict` takes, in numbers, text, lists and dictionaries alone."""
        return {**asdict(self), "latency": self.latency.to_dict()}

    @classmethod
    def from_dict(cls, document: dict) -> "SuiteRow":
        """A row from what `to_dict` gave; TypeError or ValueError for anything else."""
        _check_keys("SuiteRow.from_dict", document, cls.__dataclass_fields__)
        return cls(**{**document, "latency": BenchmarkResult.from_dict(document["latency"])})


def load_suite(path) -> list[SuiteRow]:
    """The rows that `BenchmarkSuite.save` wrote; ValueError for any other file."""
    return _read(path, SUITE_SCHEMA, "rows", SuiteRow)


# %%
#| export
def _samples(name, data):
    """Inputs and targets of a data set, as arrays: from a pair, or from whatever gives a pair for [:]."""
    whole = isinstance(data, (tuple, list)) or not callable(getattr(data, "__getitem__", None))
    pair = data if whole else data[:]
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"BenchmarkSuite needs data set {name!r} as (inputs, targets), got {type(data).__name__}")
    inputs, targets = map(_array, pair)
    if not inputs.ndim or not targets.ndim or len(inputs) != len(targets) or not len(inputs):
        raise ValueError(
            f"BenchmarkSuite needs as many targets as inputs in {name!r}, at least one, got {inputs.shape} and "
            f"{targets.shape}"
        )
    return inputs, targets


@contextmanager
def _said(model, dataset):
    """What is raised inside says of which model and data set it is."""
    try:
        yield
    except Exception as error:
        error.add_note(f"BenchmarkSuite: this happened to model {model!r} on data set {dataset!r}")
        raise


# %% nbgrader={"grade": false, "grade_id": "benchmarking-quality", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _quality(model, inputs, targets, metric, batch_size):
    """What `metric` says of all the outputs of `model`, in evaluation mode; its own mode again afterwards."""
    ### BEGIN SOLUTION
    outputs = []
    with _evaluating(model), no_grad():
        for start in range(0, len(inputs), batch_size):
            out = model(Tensor(inputs[start : start + batch_size]))
            outputs.append(_one_tensor("BenchmarkSuite", out).data)
    return float(metric(np.concatenate(outputs), targets))
    ### END SOLUTION


# %%
#| export
def suite_table(rows) -> str:
    """Rows of a suite, measured on one machine, as text, a line each."""
    rows = list(rows)
    _check_machines("suite_table", [row.latency for row in rows])
    wide = [max(map(len, column)) for column in zip(("model", "data set"), *((r.model, r.dataset) for r in rows))]
    metric = "/".join(dict.fromkeys(row.metric for row in rows))
    lines = [
        f"{'model':{wide[0]}}  {'data set':{wide[1]}} {metric:>10} parameters      bytes  batch    latency  between and"
    ]
    for r in rows:
        between = f"{_seconds(r.latency.low):>9} {_seconds(r.latency.high):>9} ({r.latency.coverage:.1%})"
        lines.append(
            f"{r.model:{wide[0]}}  {r.dataset:{wide[1]}} {r.quality:10.4g} {r.parameters:10,} {r.bytes:10,} "
            f"{r.batch:6} {_seconds(r.latency.median):>10} {between}"
        )
    return "\n".join(lines)


def suite_plot(rows, path):
    """Draw rows of a suite, measured on one machine, into the picture file `path`: quality, bytes and latency."""
    from matplotlib.figure import Figure

    rows = list(rows)
    _check_machines("suite_plot", [row.latency for row in rows])
    figure = Figure(figsize=(11, 1.4 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    places = range(len(rows))
    metric = "/".join(dict.fromkeys(row.metric for row in rows))
    for axis, title, numbers, form in (
        (axes[0], metric, [row.quality for row in rows], "{:.3g}"),
        (axes[1], "kilobytes held", [row.bytes / 1e3 for row in rows], "{:,.0f}"),
    ):
        axis.bar_label(axis.barh(places, numbers, height=0.6, color="#a6cee3"), map(form.format, numbers), padding=3)
        axis.margins(x=0.2)
        axis.set_title(title, fontsize=10)
    _draw_times(axes[2], [row.latency for row in rows])
    axes[2].set_title(f"latency of {'/'.join(sorted({str(row.batch) for row in rows}))} samples", fontsize=10)
    axes[2].set_yticks(places, [f"{row.model}\non {row.dataset}" for row in rows], parse_math=False)
    figure.savefig(path, dpi=120)


# %%
#| export
class BenchmarkSuite:
    """Every model on every data set: quality, parameters, bytes and latency, all of them measured.

    models       from name to model
    datasets     from name to (inputs, targets), or to something that gives them for [:], as a TensorDataset does
    metric       metric(outputs, targets) -> a number; outputs of the whole data set, as arrays
    pairs        (model, data set) names, where not every model suits every data set
    batch_size   samples in a call, at most; the call that is timed gets the first ones of the data set
    The rest is as in `compare`: models on one data set are timed in turns.

    What a model or the metric raises is raised, with a note on where it happened. No row is ever filled in.
    """

    def __init__(
        self,
        models: dict,
        datasets: dict,
        metric=accuracy,
        *,
        pairs=None,
        batch_size: int = 32,
        rounds: int = 30,
        warmup: int = 3,
        min_time: float = 1e-3,
        level: float = 0.95,
        clock=time.perf_counter,
    ):
        who = "BenchmarkSuite"
        for what, given in (("models", models), ("datasets", datasets)):
            if not isinstance(given, Mapping) or not given:
                raise ValueError(f"{who} needs {what} as {{name: ...}}, at least one, got {given!r}")
        if not callable(metric):
            raise TypeError(f"{who} needs a metric to call, got {type(metric).__name__}")
        _check_functions(who, dict(models), warmup, rounds, min_time, level, clock)
        _check_count(who, "batch_size", batch_size, 1)
        pairs = [(m, d) for d in datasets for m in models] if pairs is None else list(pairs)
        for pair in pairs:
            if (
                not isinstance(pair, (tuple, list))
                or len(pair) != 2
                or pair[0] not in models
                or pair[1] not in datasets
            ):
                raise ValueError(f"{who} needs pairs of the name of a model and that of a data set, got {pair!r}")
        if not pairs or len(set(map(tuple, pairs))) < len(pairs):
            raise ValueError(f"{who} needs pairs, at least one and each once, got {pairs}")
        self.models = dict(models)
        self.datasets = {name: _samples(name, data) for name, data in datasets.items()}
        self.metric = metric
        self.pairs = [tuple(pair) for pair in pairs]
        self.batch_size = batch_size
        self.options = {"warmup": warmup, "repeats": rounds, "min_time": min_time, "level": level, "clock": clock}
        self._rows = []

    @property
    def rows(self) -> list[SuiteRow]:
        """What `run` measured."""
        if not self._rows:
            raise RuntimeError("BenchmarkSuite has measured nothing yet: call run() first")
        return list(self._rows)

    def run(self) -> list[SuiteRow]:
        """Measure everything now, on this machine."""
        sizes = {}
        for name in dict.fromkeys(model for model, _ in self.pairs):
            model = self.models[name]
            parameters, held = count_parameters(model), model_size(model)
            if not held:
                raise ValueError(
                    f"BenchmarkSuite: model {name!r} has no parameters, so it has no size to tell; leave it out"
                )
            sizes[name] = parameters, held
        metric, rows = getattr(self.metric, "__name__", type(self.metric).__name__), {}
        for dataset in dict.fromkeys(dataset for _, dataset in self.pairs):
            names = [model for model, other in self.pairs if other == dataset]
            inputs, targets = self.datasets[dataset]
            quality = {}
            for name in names:
                with _said(name, dataset):
                    quality[name] = _quality(self.models[name], inputs, targets, self.metric, self.batch_size)
                    if not math.isfinite(quality[name]):
                        raise ValueError(f"{metric} gave {quality[name]}, which is no quality")
            batch = Tensor(inputs[: self.batch_size])
            latencies = self._latencies(names, dataset, batch)
            for name, latency in zip(names, latencies):
                rows[name, dataset] = SuiteRow(name, dataset, metric, quality[name], *sizes[name], len(batch), latency)
        self._rows = [rows[pair] for pair in self.pairs]
        return self.rows

    def _latencies(self, names, dataset, batch):
        functions = {f"{name} on {dataset}": functools.partial(self.models[name], batch) for name in names}
        with _said(", ".join(names), dataset), no_grad(), ExitStack() as modes:
            for name in names:
                modes.enter_context(_evaluating(self.models[name]))
            return _results(functions, **self.options)

    def table(self) -> str:
        """The rows as text."""
        return suite_table(self.rows)

    def plot(self, path):
        """Draw the rows into the picture file `path`."""
        suite_plot(self.rows, path)

    def save(self, path):
        """Write the rows into one JSON document, which `load_suite` reads."""
        _write(path, SUITE_SCHEMA, "rows", self.rows)

    def __repr__(self):
        return f"BenchmarkSuite({', '.join(self.models)} on {', '.join(self.datasets)})"


# %% [markdown]
"""
### The models of the milestones

Small ones, trained here and now: the network of hidden layers of milestone 03, the convolutions of 04, and a GPT, as in
05, that reads four letters and writes them backwards. Only the places where a letter is asked for count. Each of them
also in int8 (module 15).
"""


# %%
def train(model, batches, lr):
    """One step of Adam for each batch."""
    optimizer = Adam(model.parameters(), lr)
    for inputs, targets in batches:
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets, ignore_index=-1).backward()
        optimizer.step()
    return model


def reversals(rng, count, length=4, letters=8):
    """Letters, a 0, and the same letters backwards: what is read, and what comes next (-1 where nobody can know)."""
    word = rng.integers(1, letters + 1, (count, length))
    text = np.concatenate([word, np.zeros((count, 1), int), word[:, ::-1]], axis=1)
    targets = text[:, 1:].copy()
    targets[:, :length] = -1
    return text[:, :-1], targets


manual_seed(0)
mlp = Sequential(Flatten(), Linear(64, 64), ReLU(), Dropout(0.2), Linear(64, 10))
cnn = Sequential(
    *(Conv2d(1, 8, 3, padding=1), BatchNorm2d(8), ReLU(), MaxPool2d(2)),
    *(Conv2d(8, 16, 3, padding=1), BatchNorm2d(16), ReLU(), MaxPool2d(2)),
    *(Flatten(), Linear(64, 10)),
)
gpt = GPT(vocab_size=9, embed_dim=32, num_layers=2, num_heads=2, max_seq_len=8, rng=0)
for model, epochs in ((mlp, 8), (cnn, 5)):
    loader = DataLoader(digits("train"), 32, shuffle=True, seed=0)
    train(model, (batch for _ in range(epochs) for batch in loader), lr=3e-3)
rng = np.random.default_rng(0)
train(gpt, (reversals(rng, 32) for _ in range(150)), lr=5e-3)

models = {"mlp": mlp, "cnn": cnn, "gpt": gpt}
models.update({f"{name} int8": quantize_model(model) for name, model in models.items()})
suite = BenchmarkSuite(
    models,
    {"digits": digits("test"), "reversals": reversals(np.random.default_rng(1), 300)},
    pairs=[(name, "reversals" if name.startswith("gpt") else "digits") for name in models],
)
suite.run()
print(suite.table())
show(suite.plot)

# %% [markdown]
"""
Read it row against row. The convolutions get by with fewer bytes than the hidden layers, and take longer. The int8
models hold less, and their column of parameters counts what can still be trained: in a quantized layer that is nothing. Are
they faster? On one data set all models were timed in turns, so the rounds can be held against each other, pair by pair:
"""

# %%
latency = {row.model: row.latency for row in suite.rows}
for name in ("mlp", "cnn", "gpt"):
    print(f"{name} int8 / {name}: {paired_ratio(latency[f'{name} int8'], latency[name])}")

# %% [markdown]
"""
NumPy has no products of bytes (module 15), so nothing below 1 is to be expected; the ratios would say so even if that
module had not.

The qualities are measured too, and they have an interval as well: on so few test samples two models differ by luck. By
how much? If a share p of n answers is right, by about 2 * sqrt(p (1 - p) / n) either way, at 95 %. For a model without
a mistake that would be nothing at all, as if it could never make one; so two right answers and two wrong ones are
added first (Agresti & Coull 1998).
"""

# %%
for row in suite.rows:
    n = (suite.datasets[row.dataset][1] >= 0).sum()
    p = (row.quality * n + 2) / (n + 4)
    reach = 2 * (p * (1 - p) / (n + 4)) ** 0.5
    print(
        f"{row.model:9} {row.quality:6.1%} of {n:4} answers right; between {p - reach:.1%} and {min(1, p + reach):.1%}"
    )


def random_quality(outputs, targets):
    raise OSError("the targets could not be read")


for wrong in (
    lambda: BenchmarkSuite({"relu": ReLU()}, {"digits": digits("test")}).run(),
    lambda: BenchmarkSuite({"mlp": mlp}, {"digits": digits("test")}, random_quality).run(),
    lambda: BenchmarkSuite({"mlp": mlp}, {"digits": digits("test")}).table(),
):
    try:
        wrong()
    except (OSError, RuntimeError, ValueError) as error:
        print(error, *getattr(error, "__notes__", ()), sep="; ")

# %% [markdown]
"""
## What it costs to know more

Certainty is bought with time. How wide is the interval of one function, and how long did it take to get it?
"""

# %%
print("repeats      seconds spent      interval, in % of the median      really sure")
for repeats in (7, 15, 30, 60, 120):
    start = time.perf_counter()
    found = Benchmark(lambda: a @ b, "product", repeats=repeats, min_time=1e-3).run()
    spent = time.perf_counter() - start
    print(f"{repeats:7} {spent:18.3f} {(found.high - found.low) / found.median:29.2%} {found.coverage:19.1%}")

# %% [markdown]
"""
Four times the repeats for half the width, if the runs were independent. Where the width stops shrinking, or grows, they
are not: the machine has moods that last longer than a run.

## What goes wrong in practice

- **The result is not used.** Not in Python, but in compiled languages whole loops vanish because nobody looks at what
  they computed, and the benchmark is very fast.
- **The input is always the same** and lies in the cache; in earnest each one comes from memory.
- **A function that changes its input** gets an easier one the second time: sorting what is sorted.
- **A lazy result.** On an accelerator a call returns before the work is done. Wait for it before you read the clock.
- **The baseline is bad.** "40 times faster" is often said of a loop that nobody would have written.
- **The best of five settings** is compared with one setting of the other.
- **Threads.** Two BLAS threads beside a busy neighbour are slower than one. `machine()` writes down what was asked for.
- **Numbers from a paper** in the same table as your own: another machine. `_check_machines` exists because of this.

## All together

The checks of this lesson in one cell.
"""

# %%
# Intervals: by hand, and what few runs are worth.
assert median_interval(nine) == (31, 29, 35, 1 - 20 / 512)
assert _rank(5, 0.95) == (1, 1 - 2 / 32)
assert median_interval([7.0]).coverage == 0

# Loops and turns, on a clock that moves only when told.
laptop = Slowing(0, spread=0)
called = []
functions = {name: (lambda name=name: (called.append(name), laptop.work(0.25)())) for name in "ABC"}
for name, (loops, times) in _in_turns(functions, 0, 4, 0, laptop).items():
    assert (loops, times) == (1, (0.25,) * 4), name
assert "".join(called[3:]) == "ABC" + "CBA" + "ABC" + "CBA"
assert Benchmark(laptop.work(0.25), "work", min_time=1, clock=laptop).run().loops == 4

# Comparing: turns see through a machine that gets slower, and one round is no verdict.
laptop = Slowing(0.05)
assert compare({"A": laptop.work(0.1), "B": laptop.work(0.09)}, clock=laptop).faster == "B"
assert compare({"A": laptop.work(0.1), "B": laptop.work(0.1)}, clock=laptop).faster is None
assert compare({"A": laptop.work(0.1), "B": laptop.work(0.01)}, rounds=1, clock=laptop).faster is None

# Regressions: found, tolerated, missing.
old = [BenchmarkResult(name, [1 + i / 100 for i in range(9)], here) for name in ("kept", "gone")]
new = [BenchmarkResult("kept", [2 + i / 100 for i in range(9)], here)]
found = regressions(old, new)
assert [change.name for change in found] == ["kept"]
assert found.missing == ("gone",)
assert not found.ok
assert not regressions(old, new, tolerance=1.2)

# What must be refused.
for wrong in (
    lambda: compare({"A": len}),
    lambda: Benchmark(lambda: None, "standing clock", clock=lambda: 0.0).run(),
    lambda: regressions(old, [BenchmarkResult("other", [1.0], here)]),
    lambda: regressions(old, [BenchmarkResult("kept", [1.0, 2.0], here)]),
    lambda: BenchmarkSuite({"mlp": mlp}, {"digits": ([1, 2], [3])}),
):
    try:
        wrong()
    except ValueError as error:
        print(error)

# %% [markdown]
"""
## Questions

**1.** A paper reports the best of three runs for its method, and the mean of three for the others. What can be said
about the methods? How sure can an interval of three runs be at best?

<details><summary>Answer</summary>

Nothing: the best of three of the *same* method would look faster too. The interval from the smallest to the largest of
three holds the median with 1 - 2 / 8 = 75 %.
</details>

**2.** How many runs are needed at least for 99 %? And for 99.9 %?

<details><summary>Answer</summary>

1 - 2 / 2^n must be at least 0.99, so 2^n at least 200: 8 runs. For 0.999: 2^n at least 2,000, 11 runs. Each run more
halves the chance to be wrong, for as long as one is content with the widest interval there is.
</details>

**3.** Your check compares 40 benchmarks each night, with no tolerance, and at a level of 95 %. How many false alarms do
you expect in a month at most, if the nights are alike? What would you change?

<details><summary>Answer</summary>

At most 2.5 % on the upper side: 40 * 0.025 = 1 a night, 30 a month, and after two weeks nobody reads them. A higher
level (99.9 %: 40 * 0.0005, one in 50 nights; it needs at least 12 repeats, for each interval has 99.95 %), a tolerance,
and a second measurement of whatever was reported before anyone is told.
</details>

**4.** Training a model of GPT-3's size takes 30 days on 1,000 accelerators. Somebody has a change that makes a step 1 %
faster. Steps take 5 s, and single steps differ by 5 % (standard deviation). About how many steps, old and new in turns,
does it take to see the 1 %? What do they cost, and what does the 1 % bring?

<details><summary>Answer</summary>

A ratio of two steps differs by about 7 %. The median of n such ratios is known to about 2 * 1.25 * 7 % / sqrt(n). For
that to be half a percent, n = (17.5 / 0.5)^2 = 1,225 pairs, 2,450 steps of 5 s: 3.4 hours. One percent of 30 days is
7.2 hours of all 1,000 accelerators. It is worth it, but only just: so one tests on fewer of them, where a step costs
less.
</details>

**5.** The program is a service, and its users complain about the slowest answers. Is the median the right number? Which
k of 1,000 runs bound the 99th percentile instead, and why are 100 runs not enough?

<details><summary>Answer</summary>

No; they care about a high percentile. The coin is now a bent one: a run lies below the 99th percentile with chance
0.99. Of 1,000 runs on average 10 are above it, with a standard deviation of about 3.1; so roughly the 4th and the 16th
or 17th largest bound it. Of 100 runs, one is above it on average, and with chance 0.99^100 = 37 % none: then even the
largest lies below what is sought, and no interval has an upper end.
</details>
"""
