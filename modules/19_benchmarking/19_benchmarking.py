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

Nothing here is assumed or made up: every time was read from a clock, every interval has a stated chance to hold the true
median, and what fails, fails. Times of different machines are never compared.
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
from tinytorch.core.tensor import manual_seed, randn
from tinytorch.data.datasets import digits
from tinytorch.data.loader import DataLoader
from tinytorch.models.transformer import GPT
from tinytorch.optimization.quantization import quantize_model

manual_seed(0)


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
#| export
def _processor():
    """The name of the processor, as far as the system tells."""
    import platform

    if sys.platform == "linux":
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
        for t in self.times:
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
            ("times", tuple(map(float, self.times))),
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
#| export
@contextmanager
def _quiet():
    """Without the garbage collector inside; afterwards as it was."""
    running = gc.isenabled()
    gc.collect()
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
MOST_LOOPS = 2**24  # after so many calls in no time it is the clock that is wrong


def _loops(name, function, min_time, clock):
    """How many calls in a row, a power of two, take at least `min_time` seconds."""
    ### BEGIN SOLUTION
    loops = 1
    while _timed(function, loops, clock) < min_time:
        loops *= 2
        if loops > MOST_LOOPS:
            raise ValueError(f"{name!r}: {loops // 2:,} calls take less than {min_time} s; does the clock go?")
    return loops
    ### END SOLUTION


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
        min_time: float = 1e-4,
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
    """The results as a list of at least one, all of one machine and each with a name of its own."""
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


def _check_machines(who, results):
    for result in results[1:]:
        found = differences(results[0].machine, result.machine)
        if found:
            raise ValueError(
                f"{who}: {results[0].name!r} and {result.name!r} were measured on different machines, and say nothing "
                f"about each other ({'; '.join(found)}); measure both on one"
            )


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
    min_time: float = 1e-4,
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
    _check_machines(who, [*old.values(), *new.values()])
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
#| export
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


def _draw_times(axis, results):
    """Each repeat a pale dot, each median a dark one with its interval; the first result on top."""
    slowest = max(result.median for result in results)
    unit, size = next((pair for pair in (("s", 1), ("ms", 1e-3), ("us", 1e-6)) if slowest >= pair[1]), ("ns", 1e-9))
    for y, result in enumerate(results):
        times = np.array(result.times) / size
        axis.plot(times, y + np.linspace(-0.25, 0.25, len(times)), ".", ms=4, c="#a6cee3", zorder=1)
        axis.plot(np.array([result.low, result.high]) / size, [y, y], c="#1f3b73", lw=3, zorder=2)
        axis.plot(result.median / size, y, "o", ms=6, c="#1f3b73", zorder=3)
    fastest = min(result.median for result in results)
    axis.set(xlabel=f"time of a call ({unit})", xscale="log" if slowest > 10 * fastest else "linear")
    axis.set_yticks(range(len(results)), [result.name for result in results])
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
#| export
def accuracy(outputs, targets) -> float:
    """The share of targets that have the largest number in `outputs`.

    outputs   (..., C)
    targets   (...) class numbers; a negative one does not count
    """
    outputs, targets = (np.asarray(getattr(x, "data", x)) for x in (outputs, targets))
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
    pair = data if isinstance(data, (tuple, list)) else data[:]
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"BenchmarkSuite needs data set {name!r} as (inputs, targets), got {type(data).__name__}")
    inputs, targets = (np.asarray(getattr(x, "data", x)) for x in pair)
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
        f"{'model':{wide[0]}}  {'data set':{wide[1]}} {metric:>10} parameters      bytes  batch    latency   between and"
    ]
    for r in rows:
        between = f"{_seconds(r.latency.low):>9} {_seconds(r.latency.high):>9} ({r.latency.coverage:.1%})"
        lines.append(
            f"{r.model:{wide[0]}}  {r.dataset:{wide[1]}} {r.quality:10.4g} {r.parameters:10,} {r.bytes:10,} {r.batch:6} "
            f"{_seconds(r.latency.median):>10} {between}"
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
    axes[2].set_yticks(places, [f"{row.model}\non {row.dataset}" for row in rows])
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
        min_time: float = 1e-4,
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
