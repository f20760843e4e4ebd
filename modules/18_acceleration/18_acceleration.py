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
| **You will build** | a matrix product in tiles, kernels that work on rows in the cache, memory that is used again, threads that share the work out, one operation made of five, and a picture of what your machine can do at most |
| **You will be able to** | say before you rewrite anything whether arithmetic or memory is the limit, which of four techniques moves it, and when none will |

Needs modules 02, 05 and 14 in the code, 06, 09, 12 and 13 to look at. Exports `optimization/acceleration.py`. Hard;
about four hours.

```
     registers     first cache    second cache     third cache        memory
      ~ 1 kB   <--   ~ 32 kB   <--   ~ 1 MB    <--   ~ 32 MB    <--   ~ 32 GB
    numbers are       each step to the right is larger, and slower     numbers
    added here                                                        live here
```

A processor adds far faster than its memory delivers. Most of what is slow in a framework is not slow because it computes
much. It fetches numbers, does one thing with them, carries them back, and fetches them again for the next thing. All
four techniques of this lesson are about that road: use what is near while it is near (tiles and blocks), take no new
memory where old will do (buffers), do everything in one visit (fusion), and let several processors work at once
(threads). None of them changes what is computed.
"""

# %%
#| default_exp optimization.acceleration

# %% [markdown]
"""
One thing first. The matrix product inside NumPy may use several threads by itself. Here it shall not, so that what we
measure is our own doing. That has to be said before NumPy is imported; if it was imported already, restart the notebook.
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
says what a machine can reach at most. Every fast form stands beside a naive one, and `speedup` measures both in turn.

Kernels work on arrays, not on tensors: operations on tensors announce themselves, and that belongs to one thread. How
work is cut depends on shapes alone and never on the number of threads; so the results do not depend on it either.
"""

import math
import os
import sys
import threading
from collections import deque
from contextvars import ContextVar, copy_context
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np

from tinytorch.core.autograd import Function
from tinytorch.core.layers import _positive
from tinytorch.core.tensor import Tensor, floats, result
from tinytorch.profiling.profiler import Latency, _check_runs, _latency

# %%
import subprocess
import threading
import time
from functools import partial

import matplotlib.pyplot as plt

from tinytorch.core import optimizers, spatial
from tinytorch.core.activations import gelu, log_softmax, silu, softmax, tanh
from tinytorch.core.attention import scaled_dot_product_attention
from tinytorch.core.autograd import gradcheck
from tinytorch.core.layers import Linear, Module
from tinytorch.core.losses import cross_entropy
from tinytorch.core.tensor import from_numpy, randn
from tinytorch.models import transformer
from tinytorch.profiling.profiler import Profiler

rng = np.random.default_rng(0)


def numbers(*shape):
    return rng.standard_normal(shape, dtype=np.float32)


# %% [markdown]
"""
## A ladder

How fast is a matrix product? Take the definition, three loops, and write it down. For (2, 3) @ (3, 2) it does 12
multiplications and as many additions. What can your processor do? Some ten or a hundred thousand million in a second.
And what does Python do?

The second rung leaves the two inner loops to NumPy: one row of the result is one row of a times the whole of b. Both
are given.
"""


# %%
#| export
def _floats(who, *arrays):
    """Raise unless all are arrays of floats, and of one dtype."""
    for array in arrays:
        if not hasattr(array, "__array_function__"):
            advice = "; give its array, x.data" if isinstance(array, Tensor) else ""
            raise TypeError(f"{who} needs arrays of floats, got {type(array).__name__}{advice}")
        if array.dtype.kind != "f":
            raise TypeError(f"{who} needs arrays of floats, got {array.dtype}; try x.astype(np.float32)")
        if array.dtype != arrays[0].dtype:
            raise TypeError(f"{who} needs arrays of one dtype, got {arrays[0].dtype} and {array.dtype}")


def _matrices(who, a, b):
    """The sizes M, K, N of a product (M, K) @ (K, N), checked."""
    _floats(who, a, b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"{who} needs matrices (M, K) and (K, N), got {a.shape} and {b.shape}")
    return *a.shape, b.shape[1]


def naive_matmul(a, b):
    """(M, K) @ (K, N) by the definition: for each number of the result a sum of K products, in Python."""
    M, K, N = _matrices("naive_matmul", a, b)
    out = np.zeros_like(a, shape=(M, N), order="C")
    for i in range(M):
        for j in range(N):
            for k in range(K):
                out[i, j] += a[i, k] * b[k, j]
    return out


def rowwise_matmul(a, b):
    """(M, K) @ (K, N), one row of the result at a time: each row of a meets the whole of b."""
    M, _, N = _matrices("rowwise_matmul", a, b)
    out = np.empty_like(a, shape=(M, N), order="C")
    for i in range(M):
        np.dot(a[i], b, out=out[i])
    return out


# %%
def rate(product, a, b):
    """GFLOPs per second of one product, the second of two."""
    product(a, b)
    start = time.perf_counter()
    product(a, b)
    return 2e-9 * a.size * b.shape[1] / (time.perf_counter() - start)


a, b = numbers(512, 4096), numbers(4096, 4096)
for product, n in ((naive_matmul, 32), (rowwise_matmul, 512), (np.matmul, 512)):
    speed = rate(product, a[:n, :n].copy(), b[:n, :n].copy())
    print(f"{product.__name__:15} {speed:8.3f} GFLOP/s, all matrices {n} x {n}")
a = a[:16]
for n in (256, 1024, 4096):
    part = np.ascontiguousarray(b[:n, :n])
    print(
        f"rowwise_matmul  {rate(rowwise_matmul, a[:, :n], part):8.3f} GFLOP/s, 16 rows and b of {part.nbytes / 1e6:5.1f} MB"
    )

# %% [markdown]
"""
Python pays for every single number: fetch an object, find out what `*` means, make a new object. That is the first
rung's fall, and NumPy's whole reason to be.

The last three lines are more interesting. The arithmetic per row is the same kind of `np.dot`; only b gets larger. Why
does it slow down? Each row of a reads all of b. As long as b is in a cache, the second row finds it there. When b is
larger than the cache, then by the time a row has come to the end of b, its beginning has been thrown out, and the next
row fetches it from memory again:

```
   row 0 of a:   reads b[0] b[1] ... b[K-1]          the cache holds only the last part of b
   row 1 of a:   reads b[0] ...                      gone: fetched again, and so on for each row
```

So turn it round. Fetch a *tile* of b that fits into the cache, let **all** rows of a use it, and only then fetch the
next. Each number of b then comes from memory once, however many rows there are.

```
           b                       for this tile, k = rows, j = columns:
      +----+----+----+                  out[0, j] += a[0, k] @ tile
      |    |tile|    |  k               out[1, j] += a[1, k] @ tile
      +----+----+----+                  out[2, j] += a[2, k] @ tile
      |    |    |    |                  ...
      +----+----+----+             then the next tile
             j
```

**Write `blocks`**, which cuts n things into pieces: a list of slices of length `size`, the last one shorter where it does
not come out even. `blocks(5, 2)` is `[slice(0, 2), slice(2, 4), slice(4, 5)]`; `blocks(0, 2)` is empty.

<details><summary>Hint 1</summary>

`range(0, n, size)` counts the starts.
</details>
<details><summary>Hint 2</summary>

`start + size` may lie beyond n. Slicing would forgive that, whoever computes with `stop` would not.
</details>
<details><summary>Hint 3</summary>

`slice(start, min(start + size, n))` for each start.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "acceleration-blocks", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def blocks(n: int, size: int) -> list[slice]:
    """Slices that cut n things into pieces of `size`: blocks(5, 2) is 0:2, 2:4, 4:5."""
    size = _positive("blocks", "size", size)
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
        raise ValueError(f"blocks needs a whole number of things, at least 0, got {n!r}")
    ### BEGIN SOLUTION
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
    ### END SOLUTION


# %% [markdown]
"""
**Write the heart of `tiled_matmul`.** For every tile of b, that is for every k of `blocks(K, tile)` and every j of
`blocks(N, tile)`: make the tile one piece of memory, then let each row of a add its share to the result, as in the
picture. `out` starts as zeros.

For `a = [[1, 2]]`, `b = [[3], [4]]` and tiles of 1: the first tile adds 1 * 3, the second 2 * 4, together 11.

<details><summary>Hint 1</summary>

Three loops: over k, over j, and innermost over the rows. If the loop over rows were outermost, each row would fetch all
tiles again: the row-wise product with more work.
</details>
<details><summary>Hint 2</summary>

`np.ascontiguousarray(b[k, j])` copies the tile to one place. Its rows lie far apart in b, and would share the cache
badly.
</details>
<details><summary>Hint 3</summary>

`out[i, j] += a[i, k] @ near`, with `+=`: a number of the result is the sum over all k.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "acceleration-tiles", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def tiled_matmul(a, b, tile: int = 512):
    """(M, K) @ (K, N), a tile of b at a time: it is fetched once, and all rows of a use it.

    tile   rows and columns of a tile; its tile * tile numbers should fit into the second-level cache
    """
    M, K, N = _matrices("tiled_matmul", a, b)
    tile = _positive("tiled_matmul", "tile", tile)
    out = np.zeros_like(a, shape=(M, N), order="C")
    ### BEGIN SOLUTION
    for k in blocks(K, tile):
        for j in blocks(N, tile):
            near = np.ascontiguousarray(b[k, j])
            for i in range(M):
                out[i, j] += a[i, k] @ near
    ### END SOLUTION
    return out


# %% [markdown]
"""
Faster than what? A comparison needs both forms, measured in turn (a machine that slows down slows both), several times,
and above all the same result: a kernel that is fast and wrong is not fast. `speedup` (given) refuses to time what
disagrees. Lesson 19 builds a proper benchmark; this is enough to work with.
"""


# %%
#| export
class Speedup(NamedTuple):
    """What two functions that compute the same took, measured in turn, and how far apart their results are.

    error   the largest difference, relative to the largest number in them
    """

    naive: Latency
    fast: Latency
    error: float

    @property
    def factor(self) -> float:
        """How many times as long the naive one takes."""
        return self.naive.median / self.fast.median

    def __str__(self):
        return (
            f"{self.naive.median * 1e3:8.3f} ms -> {self.fast.median * 1e3:8.3f} ms, {self.factor:5.2f} times as fast"
        )


def _seconds(function):
    start = perf_counter_ns()
    function()
    return (perf_counter_ns() - start) / 1e9


def _distance(naive, fast, rtol):
    """The largest difference between two results, relative to the largest number in them."""
    naive, fast = (np.asarray(getattr(x, "data", x)) for x in (naive, fast))
    if naive.dtype.kind != "f" or fast.dtype.kind != "f":
        raise TypeError(f"speedup needs functions that return floats, got {naive.dtype} and {fast.dtype}")
    if naive.shape != fast.shape:
        raise ValueError(f"speedup: naive gives shape {naive.shape}, fast {fast.shape}; they must compute the same")
    if not naive.size:
        return 0.0
    largest = max(np.abs(naive).max(), np.abs(fast).max(), np.finfo(naive.dtype).tiny)
    error = float(np.abs(naive - fast).max() / largest)
    if not error <= rtol:
        raise ValueError(f"speedup: the results differ by {error:.1e} (allowed {rtol:.0e}), so speed means nothing yet")
    return error


def speedup(naive, fast, warmup: int = 1, repeats: int = 5, rtol: float = 1e-4) -> Speedup:
    """Time naive() and fast() in turn, once it is certain that they give the same numbers.

    warmup    runs of both before the clock is read, beyond the one whose results are compared
    repeats   runs that count
    rtol      how far apart the results may be, relative to the largest number

    Raises ValueError if they compute different things.
    """
    for function in (naive, fast):
        _check_runs("speedup", function, warmup, repeats)
    error = _distance(naive(), fast(), rtol)
    for _ in range(warmup):
        naive(), fast()
    times = [(_seconds(naive), _seconds(fast)) for _ in range(repeats)]
    return Speedup(*(_latency(column) for column in zip(*times)), error)


# %%
by_row = partial(rowwise_matmul, a, b)
print("row by row -> tiles, and -> a @ b")
for tile in (128, 256, 512, 1024, 4096):
    print(f"tiles of {4 * tile * tile / 1e6:5.2f} MB: {speedup(by_row, partial(tiled_matmul, a, b, tile), 0, 1)}")
print(f"a @ b:             {speedup(by_row, partial(np.matmul, a, b), 0, 1)}")

# %% [markdown]
"""
A valley with two walls. On the left the tiles are tiny and Python's own work per tile weighs more than the product. On
the right a tile no longer fits into the cache, and at the end *is* b: the row-wise product. In between lies the size
that your second-level cache can hold, and there the very same dot products run faster, because nothing else changed
than the order in which they happen.

And `a @ b` is faster still. The BLAS inside NumPy does the same in three levels at once, for the second cache, the first
and the registers, in code written for your processor, without Python in between. **You will not beat it, and need not.**
What you need is the idea, for all that is *not* a matrix product; there nobody has done it for you.

## Under the roof

How fast can an operation be at most? Two things limit it: the processor computes so many FLOPs in a second (*peak*),
and memory delivers so many bytes (*bandwidth*). How many FLOPs an operation gets out of a byte is its *intensity*. By
hand, for float32:

```
   operation                    FLOPs       bytes                               intensity
   x += y, n numbers            n           8 n read, 4 n written               1 / 12
   relu, n numbers              n           4 n read, 4 n written               1 / 8
   (n, n) @ (n, n)              2 n^3       8 n^2 read, 4 n^2 written           n / 6
```

With the bandwidth B, an operation of intensity I can reach B * I FLOPs a second, and never more than the peak. As a
picture with both axes logarithmic it is a roof: a slope, and from the *ridge* on a flat top (Williams, Waterman &
Patterson 2009).

**Write the four formulas**: intensity and performance of a `Point`, the ridge of a `Roofline`, and what is attainable.
For a peak of 100 and a bandwidth of 20, the ridge is 5; attainable are 20 at intensity 1 and 100 at intensity 8.

<details><summary>Hint 1</summary>

Intensity is FLOPs per byte, performance FLOPs per second. Neither needs anything but a division.
</details>
<details><summary>Hint 2</summary>

At the ridge both limits are equal: bandwidth * intensity = peak.
</details>
<details><summary>Hint 3</summary>

Two limits hold at once, so the smaller one counts: `min`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "acceleration-roofline", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
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
        ### BEGIN SOLUTION
        return self.flops / self.bytes
        ### END SOLUTION

    @property
    def performance(self) -> float:
        """FLOPs per second."""
        ### BEGIN SOLUTION
        return self.flops / self.seconds
        ### END SOLUTION


class Roofline(NamedTuple):
    """What a machine can do at most. (Williams, Waterman & Patterson 2009)

    peak        FLOPs per second
    bandwidth   bytes per second, from and to memory
    """

    peak: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """The intensity from which on arithmetic is the limit, and no longer memory."""
        ### BEGIN SOLUTION
        return self.peak / self.bandwidth
        ### END SOLUTION

    def attainable(self, intensity: float) -> float:
        """The most FLOPs per second that an operation of this intensity can reach."""
        ### BEGIN SOLUTION
        return min(self.peak, self.bandwidth * intensity)
        ### END SOLUTION


# %% [markdown]
"""
Both limits are measured, not read off a data sheet. For the peak a large matrix product will do: nothing in NumPy comes
closer. For the bandwidth take something with next to no arithmetic, `x += y`, over arrays that no cache can hold.

**Write the last two lines of `measure_bandwidth`.** The fastest of `repeats` runs of `np.add(x, y, out=x)` (time one with
`_seconds`), and from it bytes per second. How many bytes move in one run? If x holds 4 MB and a run takes 1 ms, the
answer is 12e9.

<details><summary>Hint 1</summary>

x is read, y is read, x is written.
</details>
<details><summary>Hint 2</summary>

The fastest, because we ask what the machine *can* do; whatever disturbed the other runs was not the memory.
</details>
<details><summary>Hint 3</summary>

`min(_seconds(lambda: np.add(x, y, out=x)) for _ in range(repeats))`, and three times `x.nbytes`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "acceleration-bandwidth", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def measure_bandwidth(nbytes: int = 1 << 25, repeats: int = 5) -> float:
    """Bytes per second of the fastest of some x += y, with arrays of `nbytes` each: two are read, one is written.

    Arrays that fit into a cache measure the cache.
    """
    nbytes = _positive("measure_bandwidth", "nbytes", nbytes)
    repeats = _positive("measure_bandwidth", "repeats", repeats)
    if nbytes < 4:
        raise ValueError(f"measure_bandwidth needs nbytes for at least one number, 4, got {nbytes}")
    x, y = np.zeros(nbytes // 4, np.float32), np.ones(nbytes // 4, np.float32)
    np.add(x, y, out=x)  # the first run fetches the memory from the system
    ### BEGIN SOLUTION
    seconds = min(_seconds(lambda: np.add(x, y, out=x)) for _ in range(repeats))
    return 3 * x.nbytes / seconds
    ### END SOLUTION


# %%
#| export
def measure_peak(n: int = 1024, dtype=np.float32, repeats: int = 5) -> float:
    """FLOPs per second of the fastest of some products (n, n) @ (n, n), with as many threads as NumPy's BLAS has."""
    n, repeats = _positive("measure_peak", "n", n), _positive("measure_peak", "repeats", repeats)
    if np.dtype(dtype).kind != "f":
        raise TypeError(f"measure_peak needs a floating dtype, got {np.dtype(dtype)}")
    a = np.ones((n, n), dtype)
    out = a @ a
    return 2 * n**3 / min(_seconds(lambda: np.matmul(a, a, out=out)) for _ in range(repeats))


def measure_point(name: str, function, flops: int, bytes: int, warmup: int = 1, repeats: int = 5) -> Point:
    """`function()` as a `Point`: arithmetic and traffic as you count them, and the median time of some runs."""
    _check_runs("measure_point", function, warmup, repeats)
    for what, count in (("flops", flops), ("bytes", bytes)):
        if not count > 0:
            raise ValueError(f"measure_point needs {what} above 0 to place {name!r}, got {count}")
    for _ in range(warmup):
        function()
    return Point(name, flops, bytes, _latency([_seconds(function) for _ in range(repeats)]).median)


# %%
sizes = [1 << power for power in range(14, 26)]
speeds = [measure_bandwidth(size, 50 if size < 1 << 20 else 3) / 1e9 for size in sizes]
for size, speed in list(zip(sizes, speeds))[1::2]:
    print(f"two arrays of {size / 1e6:7.3f} MB: {speed:6.1f} GB/s")
roof = Roofline(measure_peak(), measure_bandwidth())
print(
    f"peak {roof.peak / 1e9:.0f} GFLOP/s, memory {roof.bandwidth / 1e9:.0f} GB/s, ridge at {roof.ridge:.1f} FLOPs per byte"
)

figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
axis.semilogx([2 * size / 1e6 for size in sizes], speeds, "o-")
axis.set_xlabel("MB in use")
axis.set_ylabel("GB/s")
axis.set_title("x += y: caches, and what lies beyond")
plt.show()

# %% [markdown]
"""
The stairs of this picture are your caches; the lowest step is memory. Below some ten kilobytes the start of a NumPy
operation is all you see.

Now read the ridge. An operation must do that many FLOPs with every byte before arithmetic becomes the limit. `x += y`
does a twelfth of one. So an elementwise operation on large arrays cannot reach more than a few percent of the peak,
whatever you do to its arithmetic; halve its bytes, and it takes half the time. There are only three ways to fewer bytes:
do more while they are in the cache, do not make new arrays, do not go twice.
"""

# %% [markdown]
"""
## A few rows at a time

`np.maximum(x * 1.5 + 0.5, 0)` looks like one expression. To NumPy it is three operations, and each runs over the whole
array before the next begins:

```
   whole arrays                              blocks
   x  ------ * 1.5 ------> t   (memory)      rows 0..k of x:  * 1.5, + 0.5, max   in the cache
   t  ------ + 0.5 ------> u   (memory)      rows k..2k    :  * 1.5, + 0.5, max   in the cache
   u  ------ max   ------> out (memory)      ...
   24 bytes moved per number                 8 bytes moved per number
```

Do all three on a few rows, then go on to the next few: what the first writes, the second finds in the cache. For that
the operations must write where we say, with `out=`; otherwise each makes a new array and the cache fills with those.
"""


# %%
def chain(x):
    return np.maximum(x * 1.5 + 0.5, 0)


def chain_block(x, out):
    np.multiply(x, 1.5, out=out)
    np.add(out, 0.5, out=out)
    np.maximum(out, 0, out=out)


def chain_in_blocks(x, out, size):
    for part in blocks(len(x), size):
        chain_block(x[part], out[part])
    return out


x, out = numbers(1 << 23), np.zeros(1 << 23, np.float32)
whole = partial(chain_in_blocks, x, out, x.size)
print("new arrays -> out=:                ", speedup(partial(chain, x), whole, repeats=3))
for power in (12, 14, 17, 20):
    found = speedup(whole, partial(chain_in_blocks, x, out, 1 << power), 0, 3)
    print(f"out=, whole -> blocks of {4 * 2**power / 1e6:5.2f} MB:  {found}")

# %% [markdown]
"""
Two effects, measured one by one. The first line only writes into memory that is there already, which is a technique of
its own: see below. The others are the blocks, and again there is a valley: small ones pay Python's price for every call,
large ones no longer fit.

And how large must an array be for this to matter? As long as all of it fits into the last cache, the slow memory is not
on the way, and there is nothing to win:
"""

# %%
for power in (16, 18, 20, 22, 23):
    part, place = x[: 1 << power], out[: 1 << power]
    found = speedup(partial(chain, part), partial(chain_in_blocks, part, place, 1 << 17), repeats=5)
    print(f"arrays of {4 * 2**power / 1e6:5.2f} MB, new -> out= and blocks: {found}")

# %% [markdown]
"""
One more look before we go on. A pass is a pass, and memory is the limit? Only if the operation keeps up with it. Here is
what a number costs in each of NumPy's own operations while everything lies in the cache:
"""

# %%
near, there = x[: 1 << 15], out[: 1 << 15]
print("nanoseconds a number, in the cache")
for name, operation in (
    ("x * y", partial(np.multiply, near, near, out=there)),
    ("x + 1", partial(np.add, near, 1, out=there)),
    ("maximum(x, 0)", partial(np.maximum, near, 0, out=there)),
    ("clip(x, 0, inf)", partial(np.clip, near, 0, np.inf, out=there)),
    ("1 / x", partial(np.divide, 1, near, out=there)),
    ("reciprocal(x)", partial(np.reciprocal, near, out=there)),
    ("exp(x)", partial(np.exp, near, out=there)),
    ("x > 0 ? x : 0", lambda: np.where(near > 0, near, 0)),
):
    print(f"  {name:16} {measure_point(name, operation, near.size, 1, 3, 30).seconds / near.size * 1e9:5.2f}")

# %% [markdown]
"""
Some loops of NumPy were written for the processor's wide registers and some were not, and the name does not tell.
Where two operations give the same numbers, let the clock choose; and ask it again with the next NumPy.
"""

# %% [markdown]
"""
### Softmax, a few rows at a time

Rows have to stay whole here: the maximum and the sum belong to a row. So a block is some rows, and the kernel is a
softmax of a small matrix that writes into `out` and makes nothing of that size itself.

```
   x = [0, log 3]       maximum log 3        x - max = [-log 3, 0]       exp = [1/3, 1]
                        sum 4/3              out = [1/4, 3/4]
```

One trick from earlier lessons: `out @ ones` adds the rows up faster than `out.sum(axis=1)`, because a matrix product is
the best-written sum in the house. And dividing is slower than multiplying, so each row is multiplied by 1 / sum.

**Write `softmax_rows`.** What a row of -inf should become was settled in module 02: zeros. Subtracting -inf from -inf
gives NaN, so the maximum must be a number, and 0 is not divided by 0.

<details><summary>Hint 1</summary>

`x.max(axis=1, keepdims=True)`, raised with `np.maximum` to the least number of the dtype, `np.finfo(x.dtype).min`.
</details>
<details><summary>Hint 2</summary>

`np.subtract(x, peak, out=out)`, `np.exp(out, out=out)`: both write where they are told to.
</details>
<details><summary>Hint 3</summary>

`total = out @ np.ones_like(out, shape=out.shape[1])`, then `total += total == 0`, then
`out *= (1 / total)[:, None]`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "acceleration-softmax", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def softmax_rows(x, out):
    """Write the softmax of every row of x (n, C) into out, which may be x; a row of -inf gives zeros."""
    ### BEGIN SOLUTION
    peak = np.maximum(x.max(axis=1, keepdims=True), np.finfo(x.dtype).min)
    np.subtract(x, peak, out=out)
    np.exp(out, out=out)
    total = out @ np.ones_like(out, shape=out.shape[1])
    total += total == 0
    out *= (1 / total)[:, None]
    ### END SOLUTION


# %%
def naive_softmax(x):
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_in_blocks(x, out, rows):
    for part in blocks(len(x), rows):
        softmax_rows(x[part], out[part])
    return out


small = np.log(np.array([[1, 3], [2, 2]], np.float32))
print(softmax_in_blocks(small, np.empty_like(small), 1))
matrix, place = x.reshape(-1, 1024), out.reshape(-1, 1024)
for rows in (4, 16, 128, len(matrix)):
    found = speedup(partial(naive_softmax, matrix), partial(softmax_in_blocks, matrix, place, rows), 0, 1)
    print(f"naive -> blocks of {rows:4} rows, {4 * 1024 * rows / 1e6:5.2f} MB: {found}")

# %% [markdown]
"""
## Memory that is used again

`np.empty` costs nothing, it is said. It costs nothing *now*. The system only promises the memory; a page of it (4 kB
on most machines) is really handed over when it is first touched, and emptied of what others left in it. Each such
*page fault* interrupts the program. Large arrays are given back to the system when they are freed, so that the next one
pays again. The system counts; ask it.
"""


# %%
def faults():
    """Page faults of this process so far; None where the system does not tell (Windows)."""
    try:
        import resource
    except ModuleNotFoundError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def fresh():
    return np.add(x, x)


def reused():
    return np.add(x, x, out=out)


print("fresh memory -> the same again:", speedup(fresh, reused, repeats=4))
if faults() is not None:
    for function in (fresh, reused):
        before = faults()
        function()
        print(f"{function.__name__:6} {faults() - before:6,} page faults for {x.nbytes / 4096:,.0f} pages of 4 kB")

# %% [markdown]
"""
(Fewer faults than pages means that the system hands out several at a time.) The remedy: keep the memory, and compute in
it again. Adam of module 06 has kept its two scratch arrays from step to step all along, and convolutions keep one buffer
for the patches of all their blocks.

What is needed is a shelf: ask for "t", of this shape, in the dtype of that array; get what lay there last time if it is
large enough. And as there will be threads, each needs a shelf of its own: two that compute in the same scratch array
overwrite each other, without any error. `threading.local` is a class whose attributes every thread has for itself.

**Write `take`.** Kept are flat arrays, in the dictionary `self._kept`, under name and dtype. If there is none or it is
too small, make one with `size` elements; hand out its beginning in the shape asked for.

After `take("t", (2, 3), like)`, `take("t", (2, 2), like)` is the same memory; `take("u", (2, 2), like)` another.

<details><summary>Hint 1</summary>

`self._kept.get((name, like.dtype))` is None where nothing was kept yet.
</details>
<details><summary>Hint 2</summary>

`np.empty_like(like, shape=size)` makes an array of the kind and dtype of `like`, with another shape.
</details>
<details><summary>Hint 3</summary>

`kept[:size].reshape(shape)` is a view, and `shape` may be smaller than what is kept.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "acceleration-workspace", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class Workspace(threading.local):
    """Arrays to compute in, kept from call to call, for every thread its own.

    What `take` gives is full of whatever was there before, and good until the same thread takes the same name again.
    """

    def __init__(self):
        self._kept = {}

    def take(self, name: str, shape: tuple, like):
        """An array of `shape` and the dtype of `like`, in memory that this name had before if that is enough."""
        size = math.prod(shape)
        ### BEGIN SOLUTION
        key = name, like.dtype
        kept = self._kept.get(key)
        if kept is None or kept.size < size:
            kept = self._kept[key] = np.empty_like(like, shape=size)
        return kept[:size].reshape(shape)
        ### END SOLUTION

    @property
    def nbytes(self) -> int:
        """What is kept for the thread that asks."""
        return sum(array.nbytes for array in self._kept.values())

    def clear(self):
        """Let go of what is kept for the thread that asks."""
        self._kept.clear()


# %%
shelf = Workspace()
first, again, other = (shelf.take(*key, x) for key in (("t", (2, 3)), ("t", (2, 2)), ("u", (2, 2))))
print("the same memory:", np.shares_memory(first, again), "  another name:", np.shares_memory(first, other))
print("kept:", shelf.nbytes, "bytes")
helper = threading.Thread(target=lambda: print("in another thread:", shelf.nbytes))
helper.start()
helper.join()

# %% [markdown]
"""
What goes wrong in practice: a function that *returns* what it took. The next call changes the result of the last one
under the feet of whoever holds it. Scratch memory is for what nobody sees; results get memory of their own, or are
written where the caller says.

## Several processors at once

Python runs one thread at a time; a lock (the GIL) sees to it. But NumPy lets go of that lock inside its operations,
because there it touches no Python objects. So while one thread is deep in an `np.exp` of a hundred thousand numbers,
another one can be in another. The longer the operations, the better; lines of Python between them queue up at the lock.

Blocks are just what is needed: they are many, they are independent, and each is some operations long.

```
                   +-- caller  --  block 0 --- block 3 --- block 4 --+
   blocks 0..5  ---+                                                 +--- all done: the caller goes on
                   +-- helper  -- block 1 - block 2 --- block 5 -----+
```

Nobody is told in advance which blocks to do. Whoever is free takes the next one, so that a slow thread delays nobody.
The caller works too. And there are five ways to get this wrong:

1. An exception in a helper is lost, and half of the result is garbage. It must reach the caller.
2. The caller goes on, or raises, while helpers still write into its arrays.
3. A part calls `parallel` itself, all threads wait for others to become free, and nothing ever moves again.
4. The result depends on the number of threads, because somebody cut the work into as many parts as there are threads,
   and sums of other parts round differently.
5. Threads are started when the library is imported, in programs that never need one.

All around it is given. `num_threads` says how many: what the caller asks for, or what the environment says in
`TINYTORCH_NUM_THREADS`, or as many as there are processors for this process, or 1 where nobody knows. A pool is made by
the first who needs one (5); inside a part, further calls run on the spot (3). Helpers run in a copy of the caller's
context, so that an `np.errstate` around the call counts for them too.

**Write `work`**, what each thread does. `waiting` is a `deque` of (number, part). Until it is empty: take the one at the
left, call `function(part)`, put what it returns into `results` at its number. If it raises, put the exception into
`errors` at its number and clear `waiting`, so that nobody begins another part.

`parallel(len, ["a", "bb", ""])` is `[1, 2, 0]`.

<details><summary>Hint 1</summary>

`waiting.popleft()` is one step that no other thread can come between. But between `while waiting` and `popleft` another
thread may take the last one: then it raises IndexError, and there is nothing left to do.
</details>
<details><summary>Hint 2</summary>

Two separate `try`s. An IndexError raised by `function` is an error of the part, not the end of the work.
</details>
<details><summary>Hint 3</summary>

Catch `BaseException`, so that an interrupt from the keyboard reaches the caller as well.
</details>
"""


# %%
#| export
def num_threads(threads: int | None = None) -> int:
    """How many threads to use: `threads`, or what TINYTORCH_NUM_THREADS in the environment says, or as many as there
    are processors that this process may run on; 1 where that is not known.
    """
    if threads is not None:
        return _positive("num_threads", "threads", threads)
    said = os.environ.get("TINYTORCH_NUM_THREADS", "").strip()
    if not said:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not said.isdecimal() or int(said) < 1:
        raise ValueError(f"TINYTORCH_NUM_THREADS needs a whole number of at least 1, got {said!r}")
    return int(said)


_inside = ContextVar("inside", default=False)  # whether what runs is already a part of some `parallel`
_pool = 0, None  # how many threads may wait for work, and the pool they are in


def _helpers(count):
    """A pool with room for at least `count` threads, the same for all who ask."""
    global _pool
    from concurrent.futures import ThreadPoolExecutor

    if _pool[0] < count:
        _pool = count, ThreadPoolExecutor(count, thread_name_prefix="tinytorch-parallel")
    return _pool[1]


def _forget_helpers():
    global _pool
    _pool = 0, None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_helpers)  # a forked process has the pool and none of its threads


# %% nbgrader={"grade": false, "grade_id": "acceleration-parallel", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def parallel(function, parts, threads: int | None = None) -> list:
    """[function(part) for part in parts], shared out to several threads, the caller among them.

    function   works on arrays; the order in which the parts are done is left open
    threads    see `num_threads`

    If a part raises, no further one is begun; when all threads are done, the exception (of several, that of the
    earliest part) is raised here. With one part or thread, and inside of another `parallel`, the caller does it all.
    """
    parts = list(parts)
    count = min(num_threads(threads), len(parts))
    if count <= 1 or _inside.get():
        return [function(part) for part in parts]
    waiting, results, errors = deque(enumerate(parts)), [None] * len(parts), {}

    def work():
        _inside.set(True)
        ### BEGIN SOLUTION
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
        ### END SOLUTION

    pool = _helpers(count - 1)
    helpers = [pool.submit(copy_context().run, work) for _ in range(count - 1)]
    try:
        copy_context().run(work)
    finally:
        waiting.clear()
        for helper in helpers:
            helper.cancel() or helper.result()  # one that has not begun is no longer needed
    if errors:
        try:
            raise errors[min(errors)]
        finally:
            errors.clear()  # an exception knows this frame, which knows `errors`: a circle
    return results


# %%
print(parallel(len, ["a", "bb", ""], threads=2), "  threads by default:", num_threads())
try:
    parallel(lambda n: 1 // n, [2, 1, 0, 1], threads=2)
except ZeroDivisionError as error:
    print("reached the caller:", error)


def both(threads):
    """Two parts that do nothing: what is left is the price of handing over."""
    for _ in range(200):
        parallel(len, [(), ()], threads)
    return np.zeros(1)


found = speedup(partial(both, 1), partial(both, 2))
cost = (found.fast.median - found.naive.median) / 200
print(
    f"handing work over costs {cost * 1e6:.0f} microseconds; meanwhile one thread adds {cost * speeds[3] * 1e9 / 12:,.0f} numbers"
)

# %% [markdown]
"""
That is why small arrays should stay where they are. Here they do by themselves: an array of one block is one part, and
one part never leaves the caller.

Now the two kernels that need nothing more. `by_rows` (given) cuts any number of arrays at the same rows and hands the
pieces to a kernel. Its blocks hold `BLOCK` numbers, whether there is one thread or ten.

**Write the heart of `threaded_matmul`.** The rows of a product do not know of each other: cut `range(M)` into blocks of
`rows` rows, and let each part write its own rows of `out`, with `np.matmul(..., out=...)`.

<details><summary>Hint 1</summary>

`parallel(f, blocks(M, rows), threads)`, where f gets a slice.
</details>
<details><summary>Hint 2</summary>

`out[part]` is a view: what is written there is written into `out`.
</details>
<details><summary>Hint 3</summary>

`lambda part: np.matmul(a[part], b, out=out[part])`
</details>
"""


# %%
#| export
BLOCK = 131072  # elements of an array in one block: a few such blocks fit into a second-level cache


def by_rows(kernel, *arrays, threads: int | None = None, block: int = BLOCK):
    """Call kernel(*pieces), the same few rows of every array, until all rows have had their turn.

    kernel   reads some of its arrays and writes into others, and must not care which rows it got
    arrays   equally long; they may be flat
    block    about how many elements of the widest array to take at a time
    """
    block = _positive("by_rows", "block", block)
    shapes = [array.shape for array in arrays]
    if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"by_rows needs arrays with equally many rows, got shapes {shapes}")
    width = max(math.prod(shape[1:]) for shape in shapes)
    parts = blocks(shapes[0][0], max(1, block // max(1, width)))
    parallel(lambda rows: kernel(*(array[rows] for array in arrays)), parts, threads)


def blocked_softmax(x, out=None, threads: int | None = None, block: int = BLOCK):
    """The softmax of every row of the array x (M, C), some rows at a time. Its naive form is `activations.softmax`.

    out   where to write, an array like x or x itself; a new one by default
    """
    _floats("blocked_softmax", x, *([] if out is None else [out]))
    if x.ndim != 2 or not x.shape[1]:
        raise ValueError(f"blocked_softmax needs rows of at least one number, (M, C), got shape {x.shape}")
    if out is None:
        out = np.empty_like(x, order="C")
    elif out.shape != x.shape:
        raise ValueError(f"blocked_softmax needs an out of shape {x.shape}, got {out.shape}")
    by_rows(softmax_rows, x, out, threads=threads, block=block)
    return out


# %% nbgrader={"grade": false, "grade_id": "acceleration-threads", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def threaded_matmul(a, b, rows: int = 256, threads: int | None = None):
    """(M, K) @ (K, N), `rows` rows of a at a time, shared out to threads. Its naive form is a @ b.

    Of use only where the product inside NumPy has one thread. How it rounds may depend on `rows`, never on `threads`.
    """
    M, _, N = _matrices("threaded_matmul", a, b)
    rows = _positive("threaded_matmul", "rows", rows)
    out = np.empty_like(a, shape=(M, N), order="C")
    ### BEGIN SOLUTION
    parallel(lambda part: np.matmul(a[part], b, out=out[part]), blocks(M, rows), threads)
    ### END SOLUTION
    return out


# %%
cores = num_threads()
c, d = numbers(2048, 512), numbers(512, 512)


def chain_by(threads, x, out, block=BLOCK):
    by_rows(chain_block, x, out, threads=threads, block=block)
    return out


print(f"1 thread -> {cores} threads")
print("chain:            ", speedup(partial(chain_by, 1, x, out), partial(chain_by, cores, x, out)))
softmaxes = [partial(blocked_softmax, matrix, place, threads) for threads in (1, cores)]
print("softmax:          ", speedup(*softmaxes))
print("c @ d -> threaded:", speedup(partial(np.matmul, c, d), partial(threaded_matmul, c, d)))
tiny = x[:256], out[:256], 128
print("256 numbers:      ", speedup(partial(chain_by, 1, *tiny), partial(chain_by, cores, *tiny), 3, 50))
one, three = threaded_matmul(c, d, threads=1), threaded_matmul(c, d, threads=3)
print("the same to the last bit:", np.array_equal(one, three))

# %% [markdown]
"""
What to expect, if the processors are free (on a machine that others use too, the second thread may find none): what
computes much per byte (the product, the exponentials of the softmax) gains nearly as much as there are processors. What
only moves memory gains less, because all processors hang on the same memory: the slope of the roof is one for all of them
together. And tiny parts are faster without help.

## One visit instead of five

The last technique needs the least imagination and brings the most. Llama and most language models since have a *gate*
in their MLP (Shazeer 2020): out = silu(gate) * x, with silu(t) = t * sigmoid(t). Written as it stands, from operations
that we have, `gate / (1 + (-gate).exp()) * x`, it is five operations:

```
   operation        -       exp      1 +      /        *       together     as one
   arrays moved     2       2        2        3        3       12           3
   new arrays kept for
   the way back     1       1        1        1        -        4            0
```

Every one announces itself, makes an array, and has its rule run on the way back, which makes more. As *one* operation
it reads two arrays and writes one. And on the way back? We need s = sigmoid(gate) again. Either keep it (an array of
memory, written and fetched) or compute it once more from the gate, block by block in the cache. Try which is cheaper:
an exponential of a number in the cache, or two trips to memory.

The rule by hand, with t for the gate and s for its sigmoid, whose slope is s (1 - s):

```
   silu       = t s
   its slope  = s + t s (1 - s) = s (1 + t (1 - s))
   dx         = grad * t s
   dgate      = grad * x * s (1 + t (1 - s))

   t = 0:     s = 1/2,  silu = 0,  slope = 1/2       so with x = 3 and grad = 1:   dx = 0,  dgate = 3/2
```

`_gate` (given) fills two blocks with t, held back from -inf, and with s. `_room` is a `Workspace`.

**Write `_swiglu_block`**, for one block: fill `t` from the workspace and `out` with `_gate`, so that `out` holds s; then
make it s * t * x, in place.

<details><summary>Hint 1</summary>

`_gate(gate, t, out)` leaves t in `t` and s in `out`.
</details>
<details><summary>Hint 2</summary>

`out *= t` and `out *= x` make no new array. `out = out * t` would make one, and leave the caller's as it was.
</details>
<details><summary>Hint 3</summary>

Three lines: the call and the two products.
</details>
"""


# %%
#| export
_FAR = 1000.0  # so far from 0 that a sigmoid is exactly 0 or 1 there, in float64 too
_room = Workspace()


def _gate(gate, t, s):
    """Fill t with `gate`, kept from -inf, and s with its sigmoid."""
    np.clip(gate, -_FAR, np.inf, out=t)  # 0 * -inf is not a number, 0 * -1000 is 0
    np.negative(t, out=s)
    with np.errstate(over="ignore"):  # e^1000 is inf, and 1 / inf the 0 that it should be
        np.exp(s, out=s)
    s += 1
    np.divide(1, s, out=s)


# %% nbgrader={"grade": false, "grade_id": "acceleration-swiglu", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _swiglu_block(gate, x, out):
    """out = gate * sigmoid(gate) * x, for a block that stays in the cache."""
    t = _room.take("t", out.shape, out)
    ### BEGIN SOLUTION
    _gate(gate, t, out)
    out *= t
    out *= x
    ### END SOLUTION


# %%
#| export
def swiglu(gate: Tensor, x: Tensor, threads: int | None = None) -> Tensor:
    """silu(gate) * x, element by element, as one operation that keeps nothing but its inputs. (Shazeer 2020)

    gate, x   of one shape: nothing is broadcast
    threads   see `num_threads`; for the way back as well
    """
    gate, x = floats(gate, x)
    if gate.shape != x.shape:
        raise ValueError(f"swiglu needs a gate for every number of x, got gate {gate.shape} and x {x.shape}")
    threads = num_threads(threads)
    out = np.empty_like(x.data, order="C")
    by_rows(_swiglu_block, *(array.reshape(-1) for array in (gate.data, x.data, out)), threads=threads)
    return result(out, "swiglu", gate, x, threads=threads)


# %% [markdown]
"""
**Write `_swiglu_rule`**, the way back for one block. `t` and `s` are filled. Write `dx` and `dgate`, in place, without a
new array.

<details><summary>Hint 1</summary>

`np.multiply(t, s, out=dx)` and `dx *= grad` for the first.
</details>
<details><summary>Hint 2</summary>

From inside out: 1 - s, times t, plus 1, times s, times x, times grad, all in `dgate`.
</details>
<details><summary>Hint 3</summary>

`np.subtract(1, s, out=dgate)`, then `dgate *= t`, `dgate += 1`, `dgate *= s`, ...
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "acceleration-swiglu-backward", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _swiglu_rule(gate, x, grad, dgate, dx):
    """dgate = grad x s (1 + t (1 - s)) and dx = grad t s, for a block that stays in the cache."""
    t, s = _room.take("t", dx.shape, dx), _room.take("s", dx.shape, dx)
    _gate(gate, t, s)
    ### BEGIN SOLUTION
    np.multiply(t, s, out=dx)
    dx *= grad
    np.subtract(1, s, out=dgate)
    dgate *= t
    dgate += 1
    dgate *= s
    dgate *= x
    dgate *= grad
    ### END SOLUTION


# %%
#| export
class SwiGLUBackward(Function, op="swiglu"):
    """out = silu(t) x with silu(t) = t s and s = sigmoid(t), so dx = grad t s and dgate = grad x s (1 + t (1 - s)).

    s is computed once more: that costs less in the cache than an array of it in memory.
    """

    def backward(self, grad):
        gate, x = (tensor.data for tensor in self.inputs)
        dgate, dx = np.empty_like(gate, order="C"), np.empty_like(x, order="C")
        flat = (array.reshape(-1) for array in (gate, x, grad, dgate, dx))
        by_rows(_swiglu_rule, *flat, threads=self.saved["threads"])
        return dgate, dx


# %%
def composed(gate, x):
    return gate / (1 + (-gate).exp()) * x


def there_and_back(function, *inputs):
    """The gradient of the first input, after forward and backward."""
    leaves = [from_numpy(array) for array in inputs]
    for leaf in leaves:
        leaf.requires_grad = True
    function(*leaves).sum().backward()
    return leaves[0].grad


print(swiglu([0.0, 1.0], [3.0, 3.0]), there_and_back(swiglu, np.zeros(1), np.full(1, 3.0)))
print("gradients agree with finite differences:", gradcheck(swiglu, [rng.normal(size=(3, 4)) for _ in range(2)]))
gates, values = x.reshape(-1, 1024), numbers(x.size).reshape(-1, 1024)
inputs = from_numpy(gates), from_numpy(values)
print("composed -> one operation")
print("forward:         ", speedup(partial(composed, *inputs), partial(swiglu, *inputs, threads=1), 0, 2))
round_trip = partial(there_and_back, composed, gates, values)
for threads in dict.fromkeys((1, cores)):
    fused = partial(there_and_back, partial(swiglu, threads=threads), gates, values)
    print(f"and back, {threads:2} thread{'s' if threads > 1 else ''}:", speedup(round_trip, fused, 0, 1))
for function in (composed, swiglu):
    with Profiler(memory=True) as p:
        there_and_back(function, gates[:128], values[:128])
    print(
        f"{function.__name__:8} {len(p.events)} operations and rules, at most {p.peak_bytes / gates[:128].nbytes:.1f} arrays of this size held"
    )

# %% [markdown]
"""
## All of it under one roof

Now put every kernel into the picture: FLOPs and bytes as we count them, seconds as the clock says. An operation keeps
its FLOPs when it is made faster, and moves to the right (fewer bytes) and up (less time).

How to count is a decision that must be the same for both forms. FLOPs: what was asked for (3 per number for the chain,
5 for softmax and swiglu). Bytes: what each NumPy operation reads and writes if nothing stays in a cache; for blocks and
tiles, what comes from memory once.
"""


# %%
#| export
def plot_roofline(roofline: Roofline, points=(), path=None):
    """The roof and the points under it, both axes logarithmic, written to `path` if given. Returns the figure."""
    from matplotlib.figure import Figure

    points = list(points)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.add_subplot()
    reach = [roofline.ridge, *(point.intensity for point in points)]
    left, right = min(reach) / 3, max(reach) * 3
    intensities = [left, roofline.ridge, right]
    axis.loglog(intensities, [roofline.attainable(i) / 1e9 for i in intensities], color="black")
    for number, point in enumerate(points):
        marker = "osD^v"[number // 10 % 5]
        axis.loglog(point.intensity, point.performance / 1e9, marker, color=f"C{number % 10}", label=point.name)
    axis.set_xlabel("intensity: FLOPs per byte")
    axis.set_ylabel("GFLOP/s")
    axis.set_title(f"peak {roofline.peak / 1e9:.3g} GFLOP/s, memory {roofline.bandwidth / 1e9:.3g} GB/s")
    axis.grid(alpha=0.3)
    if points:
        axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


# %%
n = x.size
square = b[:1024, :1024].copy()
work, shares = 2 * a.size * 4096, 12 * a.size * 4096 // 512  # each tile adds to 512 numbers of every row
points = [
    measure_point("x += y", lambda: np.add(out, x, out=out), n, 12 * n, repeats=3),
    measure_point("chain, whole arrays", lambda: chain(x), 3 * n, 24 * n, repeats=3),
    measure_point("chain, blocks", lambda: chain_by(1, x, out), 3 * n, 8 * n, repeats=3),
    measure_point("softmax, whole arrays", lambda: naive_softmax(matrix), 5 * n, 36 * n, repeats=2),
    measure_point("softmax, blocks", lambda: blocked_softmax(matrix, place, 1), 5 * n, 8 * n, repeats=3),
    measure_point("swiglu, composed", lambda: composed(*inputs), 5 * n, 48 * n, repeats=2),
    measure_point("swiglu, one operation", lambda: swiglu(*inputs, 1), 5 * n, 12 * n, repeats=2),
    measure_point("product, row by row", lambda: rowwise_matmul(a, b), work, 4 * len(a) * b.size, repeats=2),
    measure_point("product, tiles", lambda: tiled_matmul(a, b), work, 4 * b.size + shares, repeats=2),
    measure_point("product, @", lambda: square @ square, 2 * 1024**3, 12 * 1024**2, repeats=3),
]
for point in points:
    print(
        f"{point.name:22} {point.intensity:7.2f} FLOPs per byte {point.performance / 1e9:7.2f} GFLOP/s, "
        f"{point.performance / roof.attainable(point.intensity):4.0%} of what is possible there"
    )
plot_roofline(roof, points)

# %% [markdown]
"""
Read it from left to right. `x += y` touches the slope, and the product row by row is not far from it: memory is their
limit, and no cleverness in the arithmetic would help. Whole-array expressions lie lower, although they only move memory:
besides that they pay for new pages, of which no roof knows. Their fast forms lie further right and higher up, but *below*
the roof. Memory is out of the way, and what limits them now is the exponential (one FLOP in our count, some twenty in
truth) and that every operation goes through the cache on its own. `@` sits under the flat top: there is nothing left.

That is what a roofline is good for: it tells you **when to stop**, and what not to try. An operation at its roof can only
get faster by moving to the right; one far below it has another problem, and you have to find out which.

Percentages around or above 100 on the slope mean that part of the arrays stays in the last cache, and fewer bytes come
from memory than we count.

## What the library does already

These ideas were put into the library when it was written. Here each is set beside the form without it: the same numbers,
then the clock.
"""


# %%
def gelu_composed(x):
    u = 0.7978845608 * (x + 0.044715 * x * x * x)
    return 0.5 * x * (1 + tanh(u))


def norm_composed(x, weight, bias):
    center = x - x.mean(axis=-1, keepdims=True)
    return center / ((center * center).mean(axis=-1, keepdims=True) + 1e-5).sqrt() * weight + bias


def entropy_composed(x):
    return -log_softmax(x)[np.arange(len(x)), classes].mean()


def attention_composed(q, k, v):
    return softmax(q @ k.swapaxes(-1, -2) / 8) @ v


rows, classes = numbers(2048, 512), rng.integers(0, 512, 2048)
heads = [numbers(4, 4, 128, 64) for _ in range(3)]
print("fusion: composed -> one operation, forward and back")
for name, naive, fused, leaves in (
    ("gelu", gelu_composed, gelu, [rows]),
    ("layer_norm", norm_composed, transformer.layer_norm, [rows, numbers(512), numbers(512)]),
    ("cross_entropy", entropy_composed, lambda x: cross_entropy(x, classes), [rows]),
    ("attention", attention_composed, lambda q, k, v: scaled_dot_product_attention(q, k, v)[0], heads),
):
    found = speedup(partial(there_and_back, naive, *leaves), partial(there_and_back, fused, *leaves), repeats=3)
    print(f"  {name:14}", found)

# %% [markdown]
"""
Blocks: the optimizers move parameters in pieces of `PIECE` elements, `layer_norm` goes through its rows in blocks, and a
convolution makes its patches for some images at a time. All three can be told to take everything as one piece.
"""


# %%
def adam_by_formula(p, g, m, v):
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    return p - 0.001 * (m / (1 - 0.9)) / (np.sqrt(v / (1 - 0.999)) + 1e-8)


def adam(p, g, m, v, size):
    """One first step in place, from zero moments; `size` elements at a time."""
    p = p.copy()
    m[:], v[:] = 0, 0
    scratch = [np.empty_like(p, shape=min(size, p.size)) for _ in range(2)]
    for piece in optimizers.pieces(p, g, m, v, size=size):
        optimizers.adam_update(*piece, [s[: piece[0].size] for s in scratch], 1, 0.001)
    return p


def norm_of_rows(block):
    usual, transformer._BLOCK = transformer._BLOCK, block
    try:
        return transformer.layer_norm(many, np.ones(512, np.float32), np.zeros(512, np.float32))
    finally:
        transformer._BLOCK = usual


p, g = numbers(1 << 21), numbers(1 << 21)
zeros = np.zeros_like(p), np.zeros_like(p)
moments = np.zeros_like(p), np.zeros_like(p)
usual = partial(adam, p, g, *moments, p.size)
print("Adam, new arrays -> kept ones:  ", speedup(partial(adam_by_formula, p, g, *zeros), usual, 0, 3))
print("Adam, whole -> pieces:          ", speedup(usual, partial(adam, p, g, *moments, optimizers.PIECE), 0, 3))

many = x.reshape(-1, 512)[:8192]
norms = partial(norm_of_rows, many.size), partial(norm_of_rows, transformer._BLOCK)
print("layer_norm, whole -> blocks:    ", speedup(*norms, repeats=3))

images, kernels = randn(32, 16, 32, 32, rng=0), randn(32, 16, 3, 3, rng=1, requires_grad=True)
sweeps = [spatial.conv2d(images, kernels, padding=1)._grad_fn.saved["sweep"] for _ in range(2)]
sweeps[0].batch, sweeps[0].band = sweeps[0].image[0], sweeps[0].stops[0]  # all images, all rows
convolutions = [partial(spatial._correlate, sweep, images.data, kernels.data) for sweep in sweeps]
print("conv2d, whole batch -> blocks:  ", speedup(*convolutions, repeats=3))

narrow = many.reshape(-1, 32)[:65536]
row_sums = partial(narrow.sum, axis=1), partial(np.matmul, narrow, np.ones_like(narrow[0]))
column_sums = partial(narrow.sum, axis=0), partial(np.matmul, np.ones_like(narrow[:, 0]), narrow)
print("row sums, sum(axis=1) -> @ 1:   ", speedup(*row_sums))
print("column sums, sum(axis=0) -> 1 @:", speedup(*column_sums))

# %% [markdown]
"""
All of that is about large arrays. A model that writes a text, token by token, computes with a few hundred numbers at a
time, and there something else counts: *calls*. NumPy needs about as long for one number as for a hundred, so what is
saved is not passes over memory but operations, and functions that are written in Python, as `mean` and `var` are inside.
"""


# %%
def by_mean_and_var():
    return (row - row.mean(axis=-1, keepdims=True)) / np.sqrt(row.var(axis=-1, keepdims=True) + 1e-5)


def by_few_calls():
    out = np.empty_like(row)
    transformer._normalise(row, weight, bias, 1e-5, out)
    return out


def a_thousand_times(function, *inputs):
    def many():
        for _ in range(1000):
            out = function(*inputs)
        return out

    return many


row, weight, bias = numbers(1, 128), np.ones(128, np.float32), np.zeros(128, np.float32)
for n in (1, 100, 10_000):
    seconds = [_seconds(a_thousand_times(np.add, numbers(n), numbers(n))) for _ in range(5)]
    print(f"adding {n:6,} numbers takes {1e3 * _latency(seconds).median:.2f} us")
print("norm of one row, 1,000 times:   ", speedup(a_thousand_times(by_mean_and_var), a_thousand_times(by_few_calls)))

# %% [markdown]
"""
And threads? No operation before this lesson uses them, on purpose. Take a whole step instead of one operation: an MLP
with our gate, as large as in a small language model, forward and backward, with one thread and with all.
"""


# %%
class GatedMLP(Module):
    """Llama's MLP: down(silu(gate(x)) * up(x))."""

    def __init__(self, E, hidden, function):
        self.gate, self.up, self.down = Linear(E, hidden, rng=1), Linear(E, hidden, rng=2), Linear(hidden, E, rng=3)
        self.function = function

    def forward(self, x):
        return self.down(self.function(self.gate(x), self.up(x)))


def step(model):
    model.zero_grad()
    model(tokens).sum().backward()
    return model.gate.weight.grad


tokens = randn(512, 256, rng=0)
plain = GatedMLP(256, 1024, composed)
fused = GatedMLP(256, 1024, partial(swiglu, threads=1))
shared = GatedMLP(256, 1024, swiglu)
print("a step, composed -> one operation:", speedup(partial(step, plain), partial(step, fused), 1, 4))
print(f"a step, 1 thread -> {cores} threads:     ", speedup(partial(step, fused), partial(step, shared), 1, 4))
with Profiler() as p:
    step(fused)
seconds = {row.name: row.seconds for row in p.rows()}
share = (seconds["swiglu"] + seconds["SwiGLUBackward"]) / p.seconds
print(
    f"share of swiglu in the step: {share:.0%}; with {cores} threads on it alone, at best {1 / (1 - share + share / cores):.2f} times as fast"
)

# %% [markdown]
"""
The last line is Amdahl's law: what is 20 % of the time can at best save 20 %, with any number of threads. The products
are most of a step, and BLAS has threads of its own for those, which we switched off above and you normally have. Its
threads and ours on the same processors would only take turns. So: threads for large single operations, by hand, where you
have measured that they help; for whole training steps the gain is next to nothing, and that is what we do with it.

### One call for the whole program

There is one more thing, and it is not in any operation. Page faults come from memory that is given back to the system
and taken anew; a training step does that with every array it makes. Who gives it back? Not Python and not NumPy, but
the C library below, which thinks it polite. Linux's usual one (glibc) can be told not to: keep what is freed, and use it
for the next array. The price is that the program never gets smaller than it once was.

`keep_memory` (given) says so, and returns whether anybody listened; other systems have other libraries. It cannot be
taken back. (glibc also learns by itself, from the largest arrays that were freed. Ours were large, so in this notebook
it has learnt a good part already.)
"""


# %%
#| export
def keep_memory(nbytes: int = 1 << 30) -> bool:
    """Ask the C library to keep up to `nbytes` of freed memory for later arrays, and to serve arrays up to that size
    from it, instead of returning memory to the system and paying page faults for new one. Holds until the program ends.

    Returns whether the C library understands it: glibc does, others do not.
    """
    nbytes = _positive("keep_memory", "nbytes", nbytes)
    if nbytes >= 1 << 31:
        raise ValueError(f"keep_memory needs nbytes below 2**31, got {nbytes}")
    if not sys.platform.startswith("linux"):
        return False
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    return mallopt(trim_threshold, nbytes) == mallopt(mmap_threshold, nbytes) == 1


# %%
def page_faults(function):
    before = faults()
    function()
    return None if before is None else faults() - before


before = page_faults(fresh)
listening = keep_memory()
fresh()  # once more from the system, and then kept
print(f"anybody listening: {listening}; x + x takes {before} page faults before, {page_faults(fresh)} after")

# %% [markdown]
"""
What is it worth to a training step? For that we need programs that have just begun: two, one of which is told by
environment variables what `keep_memory` says from inside. Processor time, the fastest of some steps.
"""

# %%
PROGRAM = """
import time
import numpy as np
from tinytorch.core.losses import cross_entropy
from tinytorch.models.transformer import GPT

gpt, text = GPT(256, 128, 2, 4, 128, rng=0), np.random.default_rng(0).integers(0, 256, (8, 129))
times = []
for _ in range(6):
    start = time.process_time()
    cross_entropy(gpt(text[:, :-1]), text[:, 1:]).backward()
    gpt.zero_grad()
    times.append(time.process_time() - start)
print(f"{1e3 * min(times[1:]):.1f} ms of processor time for a step of a GPT")
"""
usual = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
told = usual | dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(1 << 30))
for name, environment in (("memory given back", usual), ("memory kept", told)):
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    print(f"{name:17} {done.stdout}", end="")

# %% [markdown]
"""
Here is the order in which to try things, from what brings much for little work to what brings little for much:

1. no float64 that you did not ask for, and no copies (module 01);
2. memory that is kept: one call for the program, `out=` where it counts;
3. one operation with a rule of its own instead of several (fusion);
4. blocks that fit the cache, where arrays are larger than it; sums as products;
5. threads, and measure again.
"""

# %% [markdown]
"""
## All together

The checks of this lesson in one cell.
"""

# %%
assert [list(range(5))[part] for part in blocks(5, 2)] == [[0, 1], [2, 3], [4]]
assert blocks(0, 3) == []

a, b = a[:5, :7], b[:7, :9]
for product in (
    naive_matmul,
    rowwise_matmul,
    lambda a, b: tiled_matmul(a, b, 3),
    lambda a, b: threaded_matmul(a, b, 2, 2),
):
    assert np.abs(product(a, b) - a @ b).max() < 1e-5

machine = Roofline(100, 20)
assert (machine.ridge, machine.attainable(1), machine.attainable(8)) == (5, 20, 100)
assert (Point("", 6, 3, 2).intensity, Point("", 6, 3, 2).performance) == (2, 3)

hidden = np.array([[0, np.log(3)], [-np.inf, -np.inf], [1e4, 1e4]], np.float32)
assert np.abs(blocked_softmax(hidden, block=1, threads=2) - [[0.25, 0.75], [0, 0], [0.5, 0.5]]).max() < 1e-6

assert parallel(lambda n: n * n, range(6), threads=3) == [0, 1, 4, 9, 16, 25]
assert parallel(lambda n: parallel(abs, [n, -n], threads=2), [1, 2], threads=2) == [[1, 1], [2, 2]]

assert np.abs(there_and_back(swiglu, np.zeros(1), np.full(1, 3.0)) - 1.5).max() < 1e-6
g, v = numbers(300, 1000), numbers(300, 1000)
assert np.array_equal(swiglu(g, v, 1).data, swiglu(g, v, 3).data)
assert np.abs(swiglu(g, v).data - (silu(from_numpy(g)) * v).data).max() < 1e-5

# What must be refused.
for wrong in (
    lambda: tiled_matmul(a, b, tile=0),
    lambda: threaded_matmul(a, b.T),
    lambda: naive_matmul(np.ones((2, 2), int), np.ones((2, 2), int)),
    lambda: parallel(abs, [1, 2], threads=-1),
    lambda: swiglu(g, v[:1]),
    lambda: speedup(lambda: np.zeros(2), lambda: np.ones(2)),
):
    try:
        wrong()
    except (ValueError, TypeError) as error:
        print(error)

# %% [markdown]
"""
## Questions

**1.** A processor does 200 GFLOP/s and moves 25 GB/s. Where is its ridge? How fast can a relu on a large array be, and
how large must n be so that (n, n) @ (n, n) can reach the peak, if every matrix is moved once?

<details><summary>Answer</summary>

The ridge is at 200 / 25 = 8 FLOPs per byte. A relu has 1 / 8: 3.1 GFLOP/s, a 64th of the peak. The product has n / 6, so
n = 48. That is *if* every matrix is moved once, which is what tiles are for: row by row, each row reads all of b, the
intensity is 2 n^2 / 4 n^2 = 1/2 whatever n is, and 12.5 GFLOP/s the most.
</details>

**2.** A block of `swiglu` on the way back: gate, x, grad, dgate, dx and two scratch arrays, 131,072 float32 numbers each.
How many bytes is that? Your second-level cache has 1 MB. Is the block too large? What would the measurement have to show?

<details><summary>Answer</summary>

7 * 131,072 * 4 = 3.7 MB, more than the second cache, and far less than the third. Smaller blocks would be nearer, and
would call NumPy more often: at about a microsecond for each of 13 operations, 131,072 numbers at 2 a nanosecond and
operation are 65 microseconds an operation, so calls are 2 %. With 8,192 they would be a fifth. Only the valley of
times over block sizes can decide, and it is flat at the bottom.
</details>

**3.** A step spends 60 % in matrix products, 30 % in elementwise operations, 10 % in Python. Which is better: elementwise
twice as fast by fusion, or four threads for the products alone, with which they take a third of the time?

<details><summary>Answer</summary>

Fusion: 0.6 + 0.15 + 0.1 = 0.85, 1.18 times as fast. Threads: 0.2 + 0.3 + 0.1 = 0.6, 1.67 times. Both: 0.45, 2.2 times,
and now Python is 22 %. Whatever you do not touch becomes the limit.
</details>

**4.** GPT-3 writes one token (module 17): each of its 175e9 weights, 2 bytes, is multiplied once and added. What is the
intensity? A GPU does 312e12 FLOP/s and moves 2e12 bytes/s. What share of its peak can it reach, how many texts must be
written side by side to reach the ridge, and what does this have to do with `tiled_matmul`?

<details><summary>Answer</summary>

2 FLOPs for 2 bytes: intensity 1. The ridge is at 156, so 1/156 = 0.6 % of the peak. With 156 texts each weight that is
fetched serves 156 of them. They are the rows of a, and the weights are b: fetch once, let all rows use it.
</details>

**5.** FlashAttention (Dao et al. 2022) computes attention for T = 2,048 without ever writing the (T, T) scores to memory.
Per head with D = 64 and 2 bytes a number: how many bytes are q, k, v and the result, and how many would the scores move,
if they are written and read once before and once after the softmax?

<details><summary>Answer</summary>

4 * 2,048 * 64 * 2 = 1.05 MB against 4 * 2,048^2 * 2 = 33.6 MB: 32 times as much. It is this lesson's softmax in blocks and
fusion in one. The difficulty is that a block of columns does not know the maximum of the whole row; it keeps a running
one and corrects what it has added up when a larger one comes.
</details>
"""
