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
# 18 · Acceleration: the same numbers, sooner

| | |
|---|---|
| **You have** | a framework that works, and a profiler that says where the time goes (module 14) |
| **You will build** | a matrix product in tiles, kernels that work on rows in the cache, memory that is used again, threads that share the work out, one operation out of five, and a picture of what this machine can do at most |
| **You will be able to** | say before you rewrite anything whether arithmetic or memory is the limit, which of four techniques moves it, and when none will |

Needs modules 01, 02, 05 and 14 in the code, 06, 09 and 13 to look at. Exports `optimization/acceleration.py`. Hard;
about four hours.

```
        registers       first cache     second cache     third cache      memory
         ~ 1 kB   <-->    ~ 32 kB  <-->    ~ 1 MB   <-->   ~ 32 MB  <-->   ~ 32 GB
        here numbers                                                       here numbers
        are added       every step to the right is larger, and slower          live
```

A processor adds far faster than its memory delivers. Most of what is slow in a framework is not slow because it computes
much, but because it carries numbers to the processor, does one thing with them, carries them back, and fetches them
again for the next thing. All four techniques of this lesson are about that road: use what is near while it is near
(tiles and blocks), do not make new memory (buffers), do everything in one visit (fusion), and let several processors
drive at once (threads). None of them changes what is computed.
"""

# %%
#| default_exp optimization.acceleration

# %% [markdown]
"""
One thing first. The matrix product inside NumPy may use several threads by itself. Here it shall not, so that what we
measure is ours; this has to be said before NumPy is imported. (If yours was imported already: restart the notebook.)
"""

# %%
import os

for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(variable, "1")

# %%
#| export
"""Acceleration: the same numbers sooner, because fewer bytes travel and several processors work.

Tiles and blocks use what is in the cache while it is there; a `Workspace` uses memory again instead of taking new;
`parallel` shares work out to threads; `swiglu` does in one visit what composed operations do in several. A `Roofline`
says what a machine can reach at most. Every fast form stands beside a naive one, and `compare` measures both in turn.

Kernels work on arrays, not on tensors, because operations on tensors announce themselves and that belongs to one
thread. How the work is cut depends on shapes alone and never on the number of threads, so the results do not either.
"""

import math
import os
import threading
from collections import deque
from contextvars import ContextVar, copy_context
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np

from tinytorch.core.autograd import Function
from tinytorch.core.layers import _one_dtype, _positive
from tinytorch.core.tensor import Tensor, floating, result
from tinytorch.profiling.profiler import Latency, _check_runs, _latency

# %%
#| export
def _floats(who, *arrays):
    """Raise unless all are arrays of floats, of one dtype."""
    for array in arrays:
        kind = getattr(array, "dtype", None)
        if isinstance(array, Tensor) or not hasattr(array, "__array_function__"):
            advice = "; give its array, x.data" if isinstance(array, Tensor) else ""
            raise TypeError(f"{who} needs arrays of floats, got {type(array).__name__}{advice}")
        if kind.kind != "f":
            raise TypeError(f"{who} needs arrays of floats, got {kind}; try .astype(np.float32)")
        if kind != arrays[0].dtype:
            raise TypeError(f"{who} needs arrays of one dtype, got {arrays[0].dtype} and {kind}")


def _matrices(who, a, b):
    """The sizes M, K, N of a product (M, K) @ (K, N), checked."""
    _floats(who, a, b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"{who} needs matrices (M, K) and (K, N), got {a.shape} and {b.shape}")
    return *a.shape, b.shape[1]


def naive_matmul(a, b):
    """(M, K) @ (K, N) by the definition: for each number of the result the sum of K products, in Python."""
    M, K, N = _matrices("naive_matmul", a, b)
    out = np.zeros_like(a, shape=(M, N))
    for i in range(M):
        for j in range(N):
            total = 0.0
            for k in range(K):
                total += a[i, k] * b[k, j]
            out[i, j] = total
    return out


def rowwise_matmul(a, b):
    """(M, K) @ (K, N), one row of the result at a time: every row of a reads the whole of b."""
    M, _, N = _matrices("rowwise_matmul", a, b)
    out = np.empty_like(a, shape=(M, N))
    for i in range(M):
        np.dot(a[i], b, out=out[i])
    return out


def blocks(n: int, size: int) -> list[slice]:
    """Slices that cut n things into pieces of `size`, the last of which may be smaller: blocks(5, 2) is 0:2, 2:4, 4:5."""
    size = _positive("blocks", "size", size)
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
        raise ValueError(f"blocks needs a whole number of things, at least 0, got {n!r}")
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def tiled_matmul(a, b, tile: int = 512):
    """(M, K) @ (K, N), tile by tile of b: one is fetched, all rows of a use it, then the next.

    tile   width and height of a tile; tile * tile numbers should fit into the second-level cache
    """
    M, K, N = _matrices("tiled_matmul", a, b)
    tile = _positive("tiled_matmul", "tile", tile)
    out = np.zeros_like(a, shape=(M, N))
    for k in blocks(K, tile):
        for j in blocks(N, tile):
            near = np.ascontiguousarray(b[k, j])
            for i in range(M):
                out[i, j] += a[i, k] @ near
    return out


class Comparison(NamedTuple):
    """What two functions that compute the same took, measured in turn, and how far apart their results are.

    error   the largest difference, relative to the largest number of the naive result
    """

    naive: Latency
    fast: Latency
    error: float

    @property
    def gain(self) -> float:
        """How many times as long the naive one takes."""
        return self.naive.median / self.fast.median

    def __str__(self):
        return f"naive {self.naive.median * 1e3:.3f} ms, fast {self.fast.median * 1e3:.3f} ms: {self.gain:.2f} times"


def _seconds(function):
    start = perf_counter_ns()
    function()
    return (perf_counter_ns() - start) / 1e9


def _distance(naive, fast, rtol):
    """The largest difference between two results, relative to the largest number of the first."""
    naive, fast = (np.asarray(getattr(x, "data", x)) for x in (naive, fast))
    if naive.shape != fast.shape:
        raise ValueError(f"compare: naive gives shape {naive.shape}, fast {fast.shape}; they must compute the same")
    if not naive.size:
        return 0.0
    error = float(np.abs(naive - fast).max() / max(np.abs(naive).max(), np.finfo(np.float32).tiny))
    if not error <= rtol:
        raise ValueError(f"compare: naive and fast differ by {error:.1e} (allowed {rtol:.0e}); speed means nothing yet")
    return error


def compare(naive, fast, warmup: int = 1, repeats: int = 5, rtol: float = 1e-4) -> Comparison:
    """Time naive() and fast() in turn, after making sure that they give the same numbers.

    warmup    runs of both before the clock is read; at least the one whose results are compared
    repeats   runs that count
    rtol      how far apart the results may be, relative to the largest number

    Raises ValueError if they compute different things.
    """
    for function in (naive, fast):
        _check_runs("compare", function, warmup, repeats)
    error = _distance(naive(), fast(), rtol)
    for _ in range(warmup - 1):
        naive(), fast()
    times = [(_seconds(naive), _seconds(fast)) for _ in range(repeats)]
    return Comparison(*(_latency(column) for column in zip(*times)), error)


class Point(NamedTuple):
    """An operation on the roofline.

    flops     how much it computes
    bytes     how much it moves between memory and processor
    seconds   how long it took
    """

    name: str
    flops: int
    bytes: int
    seconds: float

    @property
    def intensity(self) -> float:
        """FLOPs for each byte moved."""
        return self.flops / self.bytes

    @property
    def performance(self) -> float:
        """FLOPs per second."""
        return self.flops / self.seconds


class Roofline(NamedTuple):
    """What a machine can do at most. (Williams, Waterman & Patterson 2009)

    peak        FLOPs per second
    bandwidth   bytes per second, to and from memory
    """

    peak: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """The intensity from which on arithmetic is the limit, and no longer memory."""
        return self.peak / self.bandwidth

    def attainable(self, intensity: float) -> float:
        """The most FLOPs per second that an operation of this intensity can reach."""
        return min(self.peak, self.bandwidth * intensity)


def measure_peak(n: int = 1024, dtype=np.float32, repeats: int = 5) -> float:
    """FLOPs per second of the fastest of some products (n, n) @ (n, n)."""
    n, repeats = _positive("measure_peak", "n", n), _positive("measure_peak", "repeats", repeats)
    a = np.ones((n, n), dtype)
    _floats("measure_peak", a)
    out = a @ a
    return 2 * n**3 / min(_seconds(lambda: np.matmul(a, a, out=out)) for _ in range(repeats))


def measure_bandwidth(nbytes: int = 1 << 27, repeats: int = 5) -> float:
    """Bytes per second of the fastest of some x += y over two arrays of `nbytes` each.

    Two are read and one is written. Arrays that fit into a cache measure the cache.
    """
    n = _positive("measure_bandwidth", "nbytes", nbytes) // 4
    repeats = _positive("measure_bandwidth", "repeats", repeats)
    if not n:
        raise ValueError(f"measure_bandwidth needs at least the 4 bytes of one number, got {nbytes}")
    x, y = np.zeros(n, np.float32), np.ones(n, np.float32)
    np.add(x, y, out=x)
    seconds = min(_seconds(lambda: np.add(x, y, out=x)) for _ in range(repeats))
    return 3 * x.nbytes / seconds


def measure_point(name: str, function, flops: int, bytes: int, warmup: int = 1, repeats: int = 5) -> Point:
    """`function()` as a `Point`: its arithmetic and traffic as counted by you, its time the median of some runs."""
    _check_runs("measure_point", function, warmup, repeats)
    for what, count in (("flops", flops), ("bytes", bytes)):
        if not count > 0:
            raise ValueError(f"measure_point needs {what} above 0 to place {name!r}, got {count}")
    for _ in range(warmup):
        function()
    return Point(name, flops, bytes, _latency([_seconds(function) for _ in range(repeats)]).median)


def softmax_rows(x, out):
    """Write the softmax of every row of x (n, C) into out, which may be x."""
    peak = np.maximum(x.max(axis=1, keepdims=True), np.finfo(x.dtype).min)
    np.subtract(x, peak, out=out)
    np.exp(out, out=out)
    total = out @ np.ones_like(out, shape=out.shape[1])
    total += total == 0
    out *= (1 / total)[:, None]


class Workspace(threading.local):
    """Arrays to compute in, kept from call to call: no thread gets what another one uses.

    What `take` gives is full of whatever was there before, and belongs to its name until that name is taken again.
    """

    def __init__(self):
        self._kept = {}

    def take(self, name: str, shape: tuple, like):
        """An array of `shape` in the dtype of the array `like`; memory taken under this name before if it is enough."""
        size = math.prod(shape)
        key = name, like.dtype
        kept = self._kept.get(key)
        if kept is None or kept.size < size:
            kept = self._kept[key] = np.empty_like(like, shape=size)
        return kept[:size].reshape(shape)

    @property
    def nbytes(self) -> int:
        """What is kept for the thread that asks."""
        return sum(array.nbytes for array in self._kept.values())

    def clear(self):
        """Give back what is kept for the thread that asks."""
        self._kept.clear()


def num_threads(threads: int | None = None) -> int:
    """How many threads to use: `threads`, or the environment's TINYTORCH_NUM_THREADS, or as many as there are
    processors; 1 if nobody knows how many there are.
    """
    if threads is not None:
        return _positive("num_threads", "threads", threads)
    said = os.environ.get("TINYTORCH_NUM_THREADS", "").strip()
    if not said:
        return os.cpu_count() or 1
    if not said.isdecimal() or int(said) < 1:
        raise ValueError(f"TINYTORCH_NUM_THREADS must be a whole number of at least 1, got {said!r}")
    return int(said)


_inside = ContextVar("inside", default=False)  # whether this already is a part of some `parallel`
_pool = None  # of threads that wait for work; the first who needs one makes it


def _threads(count):
    """A pool of at least `count` threads, shared by all."""
    global _pool
    from concurrent.futures import ThreadPoolExecutor

    if _pool is None or _pool._max_workers < count:
        _pool = ThreadPoolExecutor(count, thread_name_prefix="tinytorch")
    return _pool


def _forget_pool():
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):  # a forked process has the pool and none of its threads
    os.register_at_fork(after_in_child=_forget_pool)


def parallel(function, parts, threads: int | None = None) -> list:
    """[function(part) for part in parts], shared out to several threads, the caller among them.

    function   works on arrays: NumPy lets go of Python's lock inside its operations, so that threads do run at once
    threads    see `num_threads`

    If a part raises, no further one is begun, and the first exception, in the order of parts, is raised here once all
    threads are done. Inside of another `parallel`, and with one part or thread, everything runs in the caller.
    """
    parts = list(parts)
    count = min(num_threads(threads), len(parts))
    if count <= 1 or _inside.get():
        return [function(part) for part in parts]
    results, errors = [None] * len(parts), {}
    waiting = deque(enumerate(parts))

    def work():
        _inside.set(True)
        while waiting:
            try:
                i, part = waiting.popleft()
            except IndexError:  # another thread was faster
                return
            try:
                results[i] = function(part)
            except BaseException as error:
                errors[i] = error
                waiting.clear()

    pool = _threads(count - 1)
    helpers = [pool.submit(copy_context().run, work) for _ in range(count - 1)]
    copy_context().run(work)
    for helper in helpers:
        helper.cancel() or helper.result()  # one that has not begun is not needed any more
    if errors:
        raise errors[min(errors)]
    return results


BLOCK = 65536  # elements of each array in a block: a few such blocks fit into a second-level cache


def by_rows(kernel, *arrays, threads: int | None = None, block: int = BLOCK):
    """Call kernel(*rows), where rows are the same few rows of each array, until all rows have had their turn.

    kernel   reads from some of the arrays and writes into others, and must not care which rows it gets
    arrays   equally long
    block    about how many elements of the largest array to take at a time
    """
    block = _positive("by_rows", "block", block)
    if not arrays or min(array.ndim for array in arrays) == 0 or len({len(array) for array in arrays}) > 1:
        raise ValueError(f"by_rows needs arrays with equally many rows, got shapes {[a.shape for a in arrays]}")
    width = max(math.prod(array.shape[1:]) for array in arrays)
    pieces = blocks(len(arrays[0]), max(1, block // max(1, width)))
    parallel(lambda rows: kernel(*(array[rows] for array in arrays)), pieces, threads)


def blocked_softmax(x, threads: int | None = None, block: int = BLOCK):
    """The softmax of every row of the array x (M, C), a few rows at a time. The naive form: `activations.softmax`."""
    _floats("blocked_softmax", x)
    if x.ndim != 2 or not x.shape[1]:
        raise ValueError(f"blocked_softmax needs rows of at least one number, (M, C), got shape {x.shape}")
    out = np.empty_like(x, order="C")
    by_rows(softmax_rows, x, out, threads=threads, block=block)
    return out


def threaded_matmul(a, b, rows: int = 128, threads: int | None = None):
    """(M, K) @ (K, N), `rows` rows of a at a time, shared out to threads. The naive form: a @ b.

    Only of use where the product inside NumPy has one thread. How it rounds may depend on `rows`, not on `threads`.
    """
    M, _, N = _matrices("threaded_matmul", a, b)
    rows = _positive("threaded_matmul", "rows", rows)
    out = np.empty_like(a, shape=(M, N))
    parallel(lambda part: np.matmul(a[part], b, out=out[part]), blocks(M, rows), threads)
    return out


_FAR = 1000.0  # so far from 0 that a sigmoid is exactly 0 or 1 there, in float64 too
_room = Workspace()


def _gate(gate, t, s):
    """Fill t with `gate`, kept from -inf, and s with its sigmoid."""
    np.maximum(gate, -_FAR, out=t)  # 0 * -inf is not a number, 0 * -1000 is 0
    np.negative(t, out=s)
    with np.errstate(over="ignore"):  # e^1000 is inf, and 1 / inf the 0 it should be
        np.exp(s, out=s)
    s += 1
    np.reciprocal(s, out=s)


def _swiglu_block(gate, x, out):
    """out = gate * sigmoid(gate) * x, for a block that stays in the cache."""
    t = _room.take("t", out.shape, out)
    _gate(gate, t, out)
    out *= t
    out *= x


def _swiglu_rule(gate, x, grad, dgate, dx):
    """Fill dgate and dx, for a block that stays in the cache."""
    s, t = (_room.take(name, dx.shape, dx) for name in "st")
    _gate(gate, t, s)
    np.multiply(t, s, out=dx)  # silu
    np.subtract(1, s, out=dgate)
    dgate *= t
    dgate += 1
    dgate *= s  # its slope, s + t s (1 - s)
    dgate *= x
    dgate *= grad
    dx *= grad


def swiglu(gate: Tensor, x: Tensor, threads: int | None = None) -> Tensor:
    """silu(gate) * x, element by element, as one operation that keeps nothing but its inputs. (Shazeer 2020)

    gate, x   one shape; nothing is broadcast
    threads   see `num_threads`; for the way back too
    """
    gate, x = _one_dtype(floating(gate), floating(x))
    if gate.shape != x.shape:
        raise ValueError(f"swiglu needs a gate for every number, got shapes {gate.shape} and {x.shape}")
    threads = num_threads(threads)
    out = np.empty_like(x.data, order="C")
    by_rows(_swiglu_block, *(array.reshape(-1) for array in (gate.data, x.data, out)), threads=threads)
    return result(out, "swiglu", gate, x, threads=threads)


class SwiGLUBackward(Function, op="swiglu"):
    """out = silu(gate) * x with silu(t) = t s and s = sigmoid(t), so

    dgate = grad * x * (s + t s (1 - s))        dx = grad * t s

    s is computed once more: a block of it in the cache costs less than an array of it kept in memory.
    """

    def backward(self, grad):
        gate, x = (tensor.data for tensor in self.inputs)
        dgate, dx = np.empty_like(gate, order="C"), np.empty_like(x, order="C")
        flat = (array.reshape(-1) for array in (gate, x, grad, dgate, dx))
        by_rows(_swiglu_rule, *flat, threads=self.saved["threads"])
        return dgate, dx


def plot_roofline(roofline: Roofline, points=(), path=None):
    """The roof and the points under it, both axes logarithmic; written to `path` if given. Returns the figure."""
    from matplotlib.figure import Figure

    points = list(points)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    reach = [roofline.ridge, *(point.intensity for point in points)]
    x = np.geomspace(min(reach) / 4, max(reach) * 4, 200)
    axes.loglog(x, [roofline.attainable(i) / 1e9 for i in x], color="black")
    for point in points:
        axes.loglog(point.intensity, point.performance / 1e9, "o", label=point.name)
    axes.set_xlabel("intensity, FLOPs per byte")
    axes.set_ylabel("GFLOP/s")
    if points:
        axes.legend(fontsize=8)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
