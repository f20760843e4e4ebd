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
# 14 · Profiling: where the time and the memory go

| | |
|---|---|
| **You have** | a framework that trains a language model (modules 01 to 13), and no idea why it takes as long as it does |
| **You will build** | a stopwatch that can be trusted, counts of parameters, bytes and arithmetic, and a profiler that records every operation forwards and backwards and writes a timeline |
| **You will be able to** | say which operation to make faster and how much that can bring, predict the cost of a model before building it, and tell a measurement from a guess |

Needs modules 01 to 05, 11 and 13 in the code. Exports `profiling/profiler.py`. Medium; about four hours.

```
   a training step      forward            backward                 optimizer
                    |--embedding--|  ...  |--LinearBackward--|  ...  |-------|
                            |                      |                     |
   who tells?        result(...) announces   the engine runs a rule   nobody: you mark it
                            v                      v                     v
   the profiler      name, start, end, bytes, arithmetic, shapes     a region
                            |
                  table: what costs most?      timeline: when?      counts: what should it cost?
```

"The attention is slow, let us rewrite it." Half of all such sentences are wrong, and the rewrite makes a tenth of the
time faster and the program worse. Measuring is not hard, but nearly every obvious way of doing it is wrong by a little
or by a lot: the first run, the fastest run, the clock that jumps, the FLOPs that forget the batch, a backward pass that
is "twice the forward" because a book says so. This lesson is about numbers that are true.
"""

# %%
#| default_exp profiling.profiler

# %%
#| export
"""Profiling: how long it takes, what it holds, how much it computes, and which operation is to blame.

Nothing here guesses. Times are measured, memory is what the allocator says, arithmetic follows from shapes by a formula
for each operation; an operation without a formula is reported as unknown and never counted as 0.
"""

import json
import math
import sys
import tracemalloc
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np

from tinytorch.core.autograd import no_grad, set_runner
from tinytorch.core.layers import Module, walk
from tinytorch.core.tensor import Tensor, _memory, generator, set_observer, zeros
from tinytorch.core.training import _evaluating
from tinytorch.text.embeddings import Embedding

# %%
import tempfile
import time

import matplotlib.pyplot as plt

from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import checkpoint
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import AdamW
from tinytorch.core.spatial import Conv2d
from tinytorch.core.tensor import manual_seed, randint, randn, result
from tinytorch.models.transformer import GPT

manual_seed(0)

# %% [markdown]
"""
## How long does it take?

Read the clock, run, read the clock. Which clock? `time.time()` tells the time of day and is set back and forth while the
program runs; `perf_counter_ns()` only ever goes forward, in nanoseconds. And how often? Run one thing thirty times:
"""

# %%
layer, x = Linear(256, 256), randn(64, 256)
runs = []
for _ in range(30):
    start = perf_counter_ns()
    layer(x)
    runs.append((perf_counter_ns() - start) / 1e3)
print("microseconds:", " ".join(f"{run:.0f}" for run in runs))
print(f"first {runs[0]:.0f}, mean {np.mean(runs):.0f}, median {np.median(runs):.0f}, fastest {min(runs):.0f}")

# %% [markdown]
"""
The first runs are slow: memory is fetched from the system, caches are empty, threads wake up. That is *warm-up*, and it
is not what you want to know. Some of the others are slow too, because the machine did something else meanwhile. Noise
only ever *adds*: it is never negative, so a single interruption drags the mean along. The median does not care. And a
number without a spread is half a number: if the runs lie between 100 and 300, then a change from 200 to 190 is nothing.

So: throw the first runs away, keep the rest, report the median and between which two values the middle half lies (the
quartiles: 25 % are below the first, 25 % above the second).

**Write the heart of `measure_latency`.** Call `model(input)` `warmup` times without a look at the clock, then `repeats`
times with one, and return `_latency` of the list of seconds (given). For runs of 1, 2, 3, 4 and 100 seconds the median
is 3 s, between 2 and 4; the mean would be 22.

<details><summary>Hint 1</summary>

Two loops. The clock is read directly before and directly after the call, and nothing else stands between.
</details>
<details><summary>Hint 2</summary>

`perf_counter_ns` counts nanoseconds; `_latency` takes seconds: divide the difference by 1e9.
</details>
<details><summary>Hint 3</summary>

```
   start = perf_counter_ns()
   model(input)
   seconds.append((perf_counter_ns() - start) / 1e9)
```
</details>
"""


# %%
#| export
class Latency(NamedTuple):
    """Seconds that one run takes: the median of several, and between which two values the middle half of them lies."""

    median: float
    low: float
    high: float

    def __str__(self):
        return f"{self.median * 1e3:.3f} ms ({self.low * 1e3:.3f} to {self.high * 1e3:.3f})"


def _latency(seconds):
    low, median, high = np.percentile(seconds, [25, 50, 75]).tolist()
    return Latency(median, low, high)


def _check_runs(who, model, warmup, repeats):
    if not callable(model):
        raise TypeError(f"{who} needs a model or function to call, got {type(model).__name__}")
    for name, count, least in (("warmup", warmup, 0), ("repeats", repeats, 1)):
        if not isinstance(count, (int, np.integer)) or isinstance(count, bool) or count < least:
            raise ValueError(f"{who} needs {name} as a whole number of at least {least}, got {count!r}")


# %% nbgrader={"grade": false, "grade_id": "profiling-latency", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def measure_latency(model, input, warmup: int = 3, repeats: int = 20) -> Latency:
    """How long `model(input)` takes, in the mode that the model is in; under `no_grad` without building a graph.

    warmup    runs before the clock is read for the first time
    repeats   runs that count
    """
    _check_runs("measure_latency", model, warmup, repeats)
    ### BEGIN SOLUTION
    for _ in range(warmup):
        model(input)
    seconds = []
    for _ in range(repeats):
        start = perf_counter_ns()
        model(input)
        seconds.append((perf_counter_ns() - start) / 1e9)
    return _latency(seconds)
    ### END SOLUTION


# %%
print(_latency([1, 2, 3, 4, 100]))
for width in (64, 256, 1024):
    print(f"Linear({width:4}, {width:4}) of 64 rows:", measure_latency(Linear(width, width), randn(64, width)))

# %% [markdown]
"""
## How many numbers does it learn?

The easy one, with one trap: a tensor that is used in two places is *one* parameter. In a GPT the token table is also the
last layer (module 13); whoever counts layer by layer counts it twice.

**Write the heart of `count_parameters`.** Given is a list of parameters that may hold one tensor several times. Add up
the sizes, each tensor once; with `trainable_only` only of those that require a gradient.

`count_parameters(Linear(3, 4))` is 16.

<details><summary>Hint 1</summary>

`==` compares elements, so "have I seen this tensor?" must ask for identity: `id(p)`.
</details>
<details><summary>Hint 2</summary>

A dictionary from `id(p)` to `p` holds each tensor once.
</details>
<details><summary>Hint 3</summary>

`once = {id(p): p for p in parameters}.values()`, then a sum over `p.size` with a condition.
</details>
"""


# %%
#| export
def _parameters(who, model):
    if not callable(getattr(model, "parameters", None)):
        raise TypeError(f"{who} needs a model with parameters(), got {type(model).__name__}")
    return model.parameters()


# %% nbgrader={"grade": false, "grade_id": "profiling-parameters", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def count_parameters(model, trainable_only: bool = False) -> int:
    """How many numbers the parameters of `model` hold, a shared tensor once; 0 for a layer that learns nothing.

    trainable_only   without those that are frozen
    """
    parameters = _parameters("count_parameters", model)
    ### BEGIN SOLUTION
    once = {id(p): p for p in parameters}.values()
    return sum(p.size for p in once if p.requires_grad or not trainable_only)
    ### END SOLUTION


# %%
gpt = GPT(256, 128, 4, 4, max_seq_len=128, rng=0)
V, E, L, T = 256, 128, 4, 128
by_hand = V * E + T * E + L * (12 * E * E + 13 * E) + 2 * E
print(f"{count_parameters(gpt):,} numbers, {4 * count_parameters(gpt) / 1e6:.1f} MB; by the formula {by_hand:,}")
print("relu learns", count_parameters(ReLU()))

# %% [markdown]
"""
## How much memory does it hold?

Four different things, and people mean different ones:

```
   parameters     always there
   gradients      as many bytes again, once backward has run
   activations    what the forward pass leaves behind for the backward pass; grows with the batch
   peak           the most that was held at any moment: what decides whether it fits
```

Guessing activations from the layers' output shapes is the usual shortcut, and wrong: views cost nothing, rules keep
arrays that are no output (the shares of attention, the mask of dropout), others keep nothing at all. Python can say what
was really allocated: `tracemalloc` notes every allocation, NumPy's included. `get_traced_memory()` returns how many
bytes are held now and the most since `reset_peak()`. It makes everything slower, so times and memory are never measured
in the same run.

**Write the heart of `measure_memory`.** `held()` (given) is the number of bytes held now. Run the model and note how
much more is held than `before`, while its output is still alive: the activations. If the output requires a gradient,
run backward from its sum; the gradients are the bytes of all `p.grad` that are there then. The rest is given.

For `Linear(100, 100)` and an input of shape (50, 100): parameters 40,400 bytes, gradients as many; activations a little
over 20,000, for the output is all that is new.

<details><summary>Hint 1</summary>

`out = model(x)` and then `held() - before`, in this order, before anything else is computed.
</details>
<details><summary>Hint 2</summary>

`out.sum().backward()` if `out.requires_grad`. Frozen parameters have `p.grad` None.
</details>
<details><summary>Hint 3</summary>

`sum(p.grad.nbytes for p in parameters if p.grad is not None)`.
</details>
"""


# %%
#| export
class Memory(NamedTuple):
    """Bytes that a model holds for one input.

    parameters    its numbers
    gradients     what backward leaves in them
    activations   what forward leaves behind, its output included: with gradients recorded, all that backward needs
    peak          the most held at one moment of forward and backward together, the parameters included
    """

    parameters: int
    gradients: int
    activations: int
    peak: int

    def __str__(self):
        return ", ".join(f"{name} {bytes / 1e6:.2f} MB" for name, bytes in self._asdict().items())


@contextmanager
def _traced():
    """With tracemalloc on inside, from a fresh peak; as it was afterwards."""
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    tracemalloc.reset_peak()
    try:
        yield
    finally:
        if not running:
            tracemalloc.stop()


@contextmanager
def _undisturbed(model, *inputs):
    """No gradients inside at first; afterwards gradients, buffers and the random generator are what they were."""
    leaves = [*(model.parameters() if callable(getattr(model, "parameters", None)) else ()), *inputs]
    grads = [(x, x.grad) for x in leaves if isinstance(x, Tensor)]
    buffers = [(b, b.copy()) for b in (model.buffers() if isinstance(model, Module) else ())]
    random = generator().bit_generator
    state = random.state
    _forget(leaves)
    try:
        yield
    finally:
        for x, grad in grads:
            x.grad = grad
        for buffer, values in buffers:
            buffer[...] = values
        random.state = state


def _forget(tensors):
    for x in tensors:
        if isinstance(x, Tensor):
            x.grad = None


def _example(who, model, input_shape, dtype):
    """An input of zeros: token numbers for a model with an `Embedding` inside, float32 for others."""
    if not isinstance(input_shape, (tuple, list)):
        raise TypeError(f"{who} needs the shape of an input, the batch included, such as (1, 784), got {input_shape!r}")
    if dtype is None:
        dtype = np.int64 if any(isinstance(layer, Embedding) for _, layer in walk(model)) else np.float32
    return zeros(input_shape, dtype=dtype)


def _one_tensor(who, out):
    if not isinstance(out, Tensor):
        raise TypeError(f"{who} needs a model that returns one tensor, got {type(out).__name__}")
    return out


# %% nbgrader={"grade": false, "grade_id": "profiling-memory", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def measure_memory(model, input_shape, dtype=None) -> Memory:
    """What `model` holds during one pass forwards and backwards over an input of `input_shape`, batch included.

    dtype   of the input; by default int64 for models with an `Embedding`, float32 for others

    The model is run in the mode it is in. Under `no_grad` there is nothing to go back to, and no gradients.
    """
    who = "measure_memory"
    parameters = list({id(p): p for p in _parameters(who, model)}.values())
    x = _example(who, model, input_shape, dtype)
    owned = sum(p.data.nbytes for p in parameters)
    gradients = 0
    with _undisturbed(model), _traced():

        def held():
            return tracemalloc.get_traced_memory()[0]

        before = held()
        ### BEGIN SOLUTION
        out = _one_tensor(who, model(x))
        activations = held() - before
        if out.requires_grad:
            out.sum().backward()
            gradients = sum(p.grad.nbytes for p in parameters if p.grad is not None)
        ### END SOLUTION
        peak = owned + tracemalloc.get_traced_memory()[1] - before
    return Memory(owned, gradients, activations, peak)


# %%
print("Linear(100, 100):", measure_memory(Linear(100, 100), (50, 100)))
for N in (1, 4, 16):
    print(f"GPT, {N:2} texts of 64:", measure_memory(gpt, (N, 64)))
with no_grad():
    print("16, without a graph:", measure_memory(gpt, (16, 64)))

# %% [markdown]
"""
Parameters and gradients stay, activations grow with the batch and soon are nearly everything. Without a graph the same
pass needs a small part of it: every intermediate result is freed as soon as the next one exists.

## How much arithmetic is it?

A FLOP is one floating-point operation: an addition, a multiplication. Take a matrix product by hand, (2, 3) @ (3, 4).
Each of its 8 numbers is a sum of 3 products: 3 multiplications and 3 additions (the first one to 0). So 2 * 3 * 8 = 48:
a multiplication with its addition counts as **two**. (Some papers count it as one and call it a MAC. Always ask.)

```
   operation             arithmetic                                       for each
   matmul (M,K) (K,N)    2 K                                              number of the result
   linear                2 in, and 1 more for the bias                    number of the result
   conv                  2 C/groups KH KW, and 1 more for the bias        number of the result
   conv_transpose        2 F/groups KH KW                                 number of the input (each one stamps)
   attention             2 D (score), 5 (softmax), 2 Dv (mean)            pair of a query and a key
   gelu, softmax, ...    the steps of its formula, e^x being one          number of the result
   reshape, getitem      none: they move or rename
```

Two mistakes are nearly everywhere. The *batch*: a layer's FLOPs per example are reported as those of the pass. Here the
shapes are those of the arrays that were really multiplied, so the batch is in. And the *default 0*: a counter that knows
`Linear` and `Conv2d` goes over a GPT and finds 8 FLOPs. A formula per **operation**, not per layer, finds everything,
since every layer is made of operations that announce themselves. What has no formula is unknown and is said to be.

**Write five formulas.** Each gets the result `out`, the `inputs` (both with `.shape` and `.size`) and what was `saved`,
and returns a whole number.

- `_matmul`: the shared length K is the last of the first input's shape, also if one is a vector.
- `_linear`: inputs x (..., in), weight (in, out) and maybe a bias.
- `_convolution`: x, weight (F, C / groups, KH, KW) or (F, C / groups, K), maybe a bias.
- `_transposed`: the same weight layout; every number of *x* meets all of `weight.shape[1:]`; a bias adds one per result.
- `_attention`: q (..., T, D), k (..., S, D), v (..., S, Dv). Out is (..., T, Dv); for each of its out.size / Dv queries
  there are S keys, each with a score of 2 D, a softmax of 5 and 2 Dv for the mean; before, each query is scaled: D. If
  `saved["kept"]` is not None, one more per pair, for dropout.

(2, 3) @ (3, 4) is 48; a linear layer from 3 to 4 with a bias, for 2 rows, is 56.

<details><summary>Hint 1</summary>

`out.size * (...)` for the first three. Whether there is a bias: `len(inputs) > 2`, which is 0 or 1 in a sum.
</details>
<details><summary>Hint 2</summary>

`math.prod(weight.shape[1:])` is C / groups * KH * KW, for one axis or two.
</details>
<details><summary>Hint 3</summary>

Attention: `queries = out.size // v.shape[-1]`, and then
`queries * D + queries * S * (2 * D + 5 + 2 * v.shape[-1])`. Nothing to divide by if Dv is 0: `math.prod(out.shape[:-1])`
is the number of queries too.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "profiling-formulas", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _matmul(out, inputs, saved):
    ### BEGIN SOLUTION
    return 2 * inputs[0].shape[-1] * out.size
    ### END SOLUTION


def _linear(out, inputs, saved):
    ### BEGIN SOLUTION
    return (2 * inputs[1].shape[0] + (len(inputs) > 2)) * out.size
    ### END SOLUTION


def _convolution(out, inputs, saved):
    ### BEGIN SOLUTION
    return (2 * math.prod(inputs[1].shape[1:]) + (len(inputs) > 2)) * out.size
    ### END SOLUTION


def _transposed(out, inputs, saved):
    ### BEGIN SOLUTION
    return 2 * math.prod(inputs[1].shape[1:]) * inputs[0].size + (len(inputs) > 2) * out.size
    ### END SOLUTION


def _attention(out, inputs, saved):
    ### BEGIN SOLUTION
    q, k, v = inputs[:3]
    queries, (S, D) = math.prod(out.shape[:-1]), k.shape[-2:]
    return queries * D + queries * S * (2 * D + 5 + 2 * v.shape[-1] + (saved["kept"] is not None))
    ### END SOLUTION


# %% [markdown]
"""
The rest is a table (given). `_each(n)` is n per number of the result, `_read(n)` n per number of the first input, for
reductions. `NO_ARITHMETIC` lists what only moves, renames or compares bits, one by one: an operation must stand in one
of the two, or it is unknown. An `einsum` of three tensors *is* unknown: its cost depends on the order in which NumPy
decides to multiply. So is a sort. `checkpoint` computes nothing itself; what its function does announces itself.
"""


# %%
#| export
def _each(n):
    """n for every number of the result."""
    return lambda out, inputs, saved: n * out.size


def _read(n):
    """n for every number of the first input."""
    return lambda out, inputs, saved: n * inputs[0].size


def _einsum(out, inputs, saved):
    """Of one or two tensors: a multiplication and, where something is summed, an addition for every combination."""
    if len(inputs) > 2:
        return None
    lengths = {}
    for names, x in zip(saved["inputs"], inputs):
        for name, length in zip(names, x.shape):
            lengths[name] = max(lengths.get(name, 1), length) if length else 0
    summed = set(lengths) != set(saved["output"])
    return (len(inputs) - 1 + summed) * math.prod(lengths.values())


def _window(out, inputs, saved):
    return out.size * len(saved["rows"]) * len(saved["columns"])


def _adaptive(out, inputs, saved):
    heights, widths = (sum(s.stop - s.start for s in saved[axis]) for axis in ("rows", "columns"))
    return math.prod(out.shape[:2]) * heights * widths


FLOPS = {  # from operation to formula(out, inputs, saved); what counts as one: + - * / max, and exp, log, sqrt, tanh
    "matmul": _matmul,
    "linear": _linear,
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv_transpose1d": _transposed,
    "conv_transpose2d": _transposed,
    "attention": _attention,
    "einsum": _einsum,
    "max_pool2d": _window,
    "avg_pool2d": _window,
    "adaptive_avg_pool2d": _adaptive,
    **dict.fromkeys(("add", "sub", "mul", "div", "neg", "abs", "exp", "log", "sqrt", "pow"), _each(1)),
    **dict.fromkeys(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"), _each(1)),
    **dict.fromkeys(("sum", "mean", "max", "min", "argmax", "argmin"), _read(1)),
    "var": _read(4),  # its mean; distance, square, sum
    "logsumexp": _read(4),  # maximum, shift, exp, sum
    "cumsum": _each(1),
    "scatter_add": lambda out, inputs, saved: inputs[1].size,
    "clip": lambda out, inputs, saved: out.size * sum(saved[bound] is not None for bound in ("min", "max")),
    "relu": _each(1),
    "leaky_relu": _each(2),
    "sigmoid": _each(4),  # minus, exp, plus 1, 1 / it
    "tanh": _each(1),
    "softplus": _each(6),  # exp(-|x|) is three; log1p; maximum; sum
    "silu": _each(5),
    "gelu": _each(10),  # the gate's argument 5, the gate 4, the product
    "softmax": _each(5),  # maximum, shift, exp, sum, division
    "log_softmax": _each(5),
    "dropout": _each(1),
    "layer_norm": _each(7),  # mean, shift, square, sum, scale, weight, bias
    "rms_norm": _each(4),  # square, sum, scale, weight
    "batch_norm": lambda out, inputs, saved: (6 if saved["training"] else 3) * out.size,
    "rotary": _each(3),  # a product of complex numbers is 6 for two columns
    "mse_loss": _read(3),  # distance, square, sum
    "huber_loss": _read(7),
    "binary_cross_entropy": _read(11),
    "binary_cross_entropy_with_logits": _read(9),
    "cross_entropy": _read(4),  # maximum, shift, exp, sum
    "kl_div": _read(4),
}

NO_ARITHMETIC = {
    *("astype", "as_integers", "broadcast_to", "cat", "copy", "getitem", "pad", "permute", "reshape", "where"),
    "embedding",
    *("any", "all", "invert", "bitwise_and", "bitwise_or", "bitwise_xor"),
    "checkpoint",  # what happens inside announces itself
}


def flops(op: str, out, inputs, saved) -> int | None:
    """How much arithmetic an announced operation took; None if nobody knows."""
    if op in NO_ARITHMETIC:
        return 0
    formula = FLOPS.get(op)
    return None if formula is None else formula(out, inputs, saved)


# %% [markdown]
"""
Counting is now a matter of listening. `set_observer(f)` (module 01, a second listener beside autograd's) calls
`f(out, op, inputs, saved)` after every operation, under `no_grad` too.

**Write `hear` inside `count_flops`.** Ask `flops`. Add what it says to `total`; if it says None, count the operation
under its name in `unknown` (a `Counter`). `total` belongs to the function around: say `nonlocal total`.

`count_flops(Linear(3, 4), (2, 3))` is 56.

<details><summary>Hint 1</summary>

`count = flops(op, out, inputs, saved)`, then two cases.
</details>
<details><summary>Hint 2</summary>

`if count:` is wrong: 0 is a count, too, and None is not 0. Ask `count is None`.
</details>
<details><summary>Hint 3</summary>

`unknown[op] += 1` or `total += count`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "profiling-count", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def count_flops(model, input_shape, dtype=None) -> int:
    """The arithmetic of one forward pass in evaluation mode over an input of `input_shape`, the batch included.

    A multiplication and the addition that follows count as 2. Convolutions count the zeros of their padding and
    attention the pairs that a mask hides, for both are computed.
    dtype   of the input; by default int64 for models with an `Embedding`, float32 for others

    Raises ValueError that names them if there are operations without a formula in `FLOPS`.
    """
    x = _example("count_flops", model, input_shape, dtype)
    total, unknown = 0, Counter()

    def hear(out, op, inputs, saved):
        ### BEGIN SOLUTION
        nonlocal total
        count = flops(op, out, inputs, saved)
        if count is None:
            unknown[op] += 1
        else:
            total += count
        ### END SOLUTION

    previous = set_observer(hear)
    try:
        with _evaluating(model), no_grad():
            model(x)
    finally:
        set_observer(previous)
    if unknown:
        calls = ", ".join(f"{op} ({n} calls)" for op, n in unknown.items())
        raise ValueError(f"count_flops knows no formula for {calls}; put one into FLOPS, or profile without counting")
    return total


# %%
print("Linear(3, 4), 2 rows:", count_flops(Linear(3, 4), (2, 3)))
print("Conv2d(3, 16, 3), one image 32 x 32:", count_flops(Conv2d(3, 16, 3), (1, 3, 32, 32)), "by hand:", end=" ")
print(16 * 30 * 30 * (2 * 3 * 3 * 3 + 1))
for N in (1, 2, 4):
    print(f"GPT, {N} texts of 64: {count_flops(gpt, (N, 64)):,}")
try:
    count_flops(lambda x: result(x.data * 2, "twice", x), (2, 3))
except ValueError as error:
    print(error)

# %% [markdown]
"""
A rule of thumb says: 2 FLOPs per parameter and token. The formula of the GPT shows where it comes from and what it
forgets. Per text of T tokens and block, with 24 T E^2 for the four matrices:
"""


# %%
def gpt_flops(N, T, V, E, L, H):
    """The closed form: products first, then everything that is one operation per number."""
    products = L * (24 * T * E * E + 4 * T * T * E) + 2 * T * E * V
    biases = L * 9 * T * E
    norms = (2 * L + 1) * 7 * T * E
    softmax_and_scale = L * (5 * H * T * T + T * E)
    gelus = L * 10 * 4 * T * E
    sums = L * 2 * T * E + T * E
    return N * (products + biases + norms + softmax_and_scale + gelus + sums), N * products


print("    T          FLOPs     products    2 per parameter and token")
for T in (16, 64, 128):
    everything, products = gpt_flops(1, T, 256, 128, 4, 4)
    assert everything == count_flops(gpt, (1, T))
    print(f"{T:5} {everything:14,} {products / everything:11.1%} {2 * T * count_parameters(gpt) / everything:20.1%}")

# %% [markdown]
"""
## One pass forwards, one pass back

How long does backward take? "Twice the forward" is the rule of thumb: a product forwards becomes two products on the
way back, one for each input. It is a statement about the arithmetic of products. The look-up in a table, the adding up
of gradients and the memory that is read once more do not follow it, and an input that needs no gradient saves half. A
profiler that reports twice the forward as if it had measured it is lying. Ours has a clock between the loss and
`backward()`.

**Write the heart of `profile_backward_pass`.** `warmup + repeats` times: forget the gradients (`_forget(leaves)`,
given), compute `loss = loss_fn(model(input))`, go back, and append to `forward` and to `backward` the seconds that
each took. The first `warmup` of both are dropped by the last line.

<details><summary>Hint 1</summary>

Three readings of the clock in each round: before the model, after the loss, after `backward()`.
</details>
<details><summary>Hint 2</summary>

Check the loss with `_check_loss(loss)` (given) after the second reading, and read the clock again before `backward()`,
or let it stand between; it takes next to nothing.
</details>
<details><summary>Hint 3</summary>

```
   start = perf_counter_ns()
   loss = loss_fn(model(input))
   middle = perf_counter_ns()
   loss.backward()
   end = perf_counter_ns()
```
</details>
"""


# %%
#| export
class ForwardPass(NamedTuple):
    """latency of one pass; its arithmetic (None if some operation's is unknown) and that by the second; and the peak
    of memory in bytes, beyond what was held before.
    """

    latency: Latency
    flops: int | None
    flops_per_second: float | None
    peak_bytes: int


class BackwardPass(NamedTuple):
    """Latencies of the forward pass with its loss and of the backward pass, measured one after the other."""

    forward: Latency
    backward: Latency

    @property
    def ratio(self) -> float:
        """How many times as long as forward backward took."""
        return self.backward.median / self.forward.median


def profile_forward_pass(model, input, warmup: int = 3, repeats: int = 10) -> ForwardPass:
    """Time, arithmetic and memory of `model(input)`, in the mode that the model is in, measured in separate runs.

    Buffers, gradients and the random generator are afterwards what they were.
    """
    _check_runs("profile_forward_pass", model, warmup, repeats)
    counts = []
    with _undisturbed(model, input):
        latency = measure_latency(model, input, warmup, repeats)
        previous = set_observer(lambda *announced: counts.append(flops(announced[1], announced[0], *announced[2:])))
        try:
            model(input)
        finally:
            set_observer(previous)
        with _traced():
            before = tracemalloc.get_traced_memory()[0]
            model(input)
            peak = tracemalloc.get_traced_memory()[1] - before
    total = None if None in counts else sum(counts)
    return ForwardPass(latency, total, None if total is None else total / latency.median, peak)


def _check_loss(loss):
    if not isinstance(loss, Tensor):
        raise TypeError(f"profile_backward_pass needs a loss_fn that returns a tensor, got {type(loss).__name__}")
    if not loss.requires_grad:
        raise ValueError(
            "profile_backward_pass: the loss depends on nothing that requires a gradient, so there is no way back; "
            "leave no_grad(), or give a model with parameters or an input with requires_grad=True"
        )


# %% nbgrader={"grade": false, "grade_id": "profiling-backward", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def profile_backward_pass(model, input, loss_fn, warmup: int = 3, repeats: int = 10) -> BackwardPass:
    """How long `loss_fn(model(input))` takes, and how long `backward` from there: measured, not concluded.

    loss_fn   from the model's output to a tensor with one number

    Buffers, gradients and the random generator are afterwards what they were.
    """
    _check_runs("profile_backward_pass", model, warmup, repeats)
    leaves = [*(model.parameters() if callable(getattr(model, "parameters", None)) else ()), input]
    forward, backward = [], []
    with _undisturbed(model, input):
        for _ in range(warmup + repeats):
            _forget(leaves)
            ### BEGIN SOLUTION
            start = perf_counter_ns()
            loss = loss_fn(model(input))
            middle = perf_counter_ns()
            _check_loss(loss)
            loss.backward()
            end = perf_counter_ns()
            forward.append((middle - start) / 1e9)
            backward.append((end - middle) / 1e9)
            ### END SOLUTION
    return BackwardPass(_latency(forward[warmup:]), _latency(backward[warmup:]))


# %%
cases = {
    "Linear(512, 512), 128 rows": (Linear(512, 512), randn(128, 512, requires_grad=True)),
    "the same, x needs none": (Linear(512, 512), randn(128, 512)),
    "ReLU, 128 rows of 512": (ReLU(), randn(128, 512, requires_grad=True)),
    "GPT, 2 texts of 32": (gpt, randint(0, 256, (2, 32))),
}
for name, (model, x) in cases.items():
    there, back = profile_forward_pass(model, x), profile_backward_pass(model, x, lambda out: (out * out).mean())
    print(
        f"{name:27} {there.flops_per_second / 1e9:5.1f} GFLOP/s  forward {back.forward}  backward {back.ratio:.2f} times"
    )

# %% [markdown]
"""
## Which operation is to blame?

Now the profiler proper: for every operation its name, how long it took, the bytes it made, its arithmetic, the shapes.
It listens as `count_flops` did. But when did an operation *begin*? It announces its end only.

The naive answer: when the last one ended. Let us try that on a training loop, with the optimizer in it.
"""

# %%
tokens, targets = randint(0, 256, (2, 32)).data, randint(0, 256, (2, 32)).data
optimizer = AdamW(gpt.parameters(), lr=1e-3)


def training_step():
    optimizer.zero_grad()
    loss = cross_entropy(gpt(tokens), targets)
    loss.backward()
    optimizer.step()


naive, mark = Counter(), perf_counter_ns()


def since_the_last(out, op, inputs, saved):
    global mark
    now = perf_counter_ns()
    naive[op] += (now - mark) / 1e6
    mark = now


training_step()
set_observer(since_the_last)
for _ in range(5):
    training_step()
set_observer(None)
for op, milliseconds in naive.most_common(4):
    print(f"{op:12} {milliseconds:8.2f} ms")

# %% [markdown]
"""
The look-up of a few rows in a table as one of the most expensive operations of a GPT? It is the first operation of
the step, and so everything since the end of the forward pass was put on its bill: the whole of backward and of AdamW.
The numbers add up, the report looks plausible, and somebody spends a week on making embeddings faster.

What is true of the naive answer: *within* a forward pass the time between two operations is short (the Python of the
layers, which runs only to call the next operation; we leave it on that operation's bill). What must not be on any bill:

1. **Backward**: the engine calls `_runner(rule, grad)` (module 05), so a rule has a beginning and an end of its own.
2. **The time after a pause**: after the start, after a backward pass, after a region. What happens then is anybody's
   guess: an optimizer, the next batch. For the first operation after a pause we need its true beginning. Python can
   tell: `sys.setprofile(f)` calls `f` at the beginning of *every* function. That is too slow to leave on, hundreds of
   calls for each operation, but until the next operation it does no harm. The function that called `result` is found in
   the list, and the list is thrown away.
3. **Our own time**: the mark is set anew *after* the profiler has written its line.

What remains is on nobody's bill and is called that, "between". A part of the program may be given a name,
`with p.region("optimizer"):`, and becomes a bill of its own. Regions may contain operations, and a rule may: that of
`checkpoint` computes a piece of the forward pass again. If the table counted such time for both, it would add up to more
than there is, so it shows everybody's *own* time: without what lies inside.

```
   region "step"       |==================================|             own:  2 + 3 + 1 = 6
     linear              |-------|
     CheckpointBackward              |-------------------|              own:  1 + 2 = 3
       linear                         |----|
       LinearBackward                       |------|
```

**Write `_own_times`.** `events` have a `start` and an `end`, and either lie inside one another or apart. Return a list,
in the order of the events: the length of each minus the lengths of those *directly* inside.

For (0, 10), (1, 4), (5, 9), (6, 8): 10 - 3 - 4 = 3, 3, 4 - 2 = 2, 2.

<details><summary>Hint 1</summary>

Go through the events by start; among those with one start the longer first (the list is in the order of their ends, so
the later in the list is the outer one). Keep a stack of those that are still open.
</details>
<details><summary>Hint 2</summary>

Close what has ended: while the last on the stack has an end <= the new start, take it away. What is then on top
directly contains the new one.
</details>
<details><summary>Hint 3</summary>

`order = sorted(range(len(events)), key=lambda i: (events[i].start, -events[i].end, -i))`, and for each `i` in it
`own[around[-1]] -= events[i].end - events[i].start` if the stack `around` is not empty.
</details>
"""


# %%
#| export
class Event(NamedTuple):
    """Something that took time; `start` and `end` in nanoseconds since the profiler first began.

    kind     "forward" (an operation), "backward" (a rule) or "region"
    bytes    of new memory in its results; views take none
    flops    of operations; None if unknown, and for rules and regions, whose arithmetic is not counted
    shapes   of the inputs
    """

    name: str
    kind: str
    start: int
    end: int
    bytes: int
    flops: int | None
    shapes: tuple


# %% nbgrader={"grade": false, "grade_id": "profiling-own", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _own_times(events):
    """How long each event took without the events inside it, in the order of `events`, which is that of their ends."""
    ### BEGIN SOLUTION
    own = [event.end - event.start for event in events]
    around = []
    for i in sorted(range(len(events)), key=lambda i: (events[i].start, -events[i].end, -i)):
        while around and events[around[-1]].end <= events[i].start:
            around.pop()
        if around:
            own[around[-1]] -= events[i].end - events[i].start
        around.append(i)
    return own
    ### END SOLUTION


# %%
spans = [(1, 4), (6, 8), (5, 9), (0, 10)]
print(_own_times([Event("", "region", start, end, 0, None, ()) for start, end in spans]))

# %% [markdown]
"""
Bytes: an operation made as many as its result holds, unless the result is a view of an input's memory. A `reshape` of a
gigabyte makes none. `_memory(array)` of module 01 follows a view to the array that owns the memory.

Then the profiler itself. Most is plumbing: installing observer and runner and, whatever happens, taking them away again;
sums; printing. The two places where measuring happens are yours.

**Write `_heard` and `_run`.**

`_heard` is called at the end of an operation. `now` was read first thing; `self._start()` (given) says when the
operation began. Append an `Event`: kind "forward", the times minus `self._origin`, the bytes from `_new_bytes`, the
arithmetic from `flops`, the shapes of the inputs as a tuple. The last lines, given, put the mark after our own work.

`_run` stands in for `node.apply(grad)`: read the clock, apply, read the clock, append an event of kind "backward" named
as the rule's class, with no flops (None), and return the gradients. Inside apply a checkpoint may compute operations
again: for these the mark must be set to the start. `node.inputs` are the tensors; an entry of the gradients may be None.

<details><summary>Hint 1</summary>

`Event(op, "forward", start - self._origin, now - self._origin, bytes, flops(...), shapes)` with
`_new_bytes([out.data], [x.data for x in inputs])`.
</details>
<details><summary>Hint 2</summary>

In `_run`: `start = self._mark = perf_counter_ns()`, `grads = node.apply(grad)`, `end = perf_counter_ns()`. The new
memory is that in the gradients which are not None; `grad` itself is what came in.
</details>
<details><summary>Hint 3</summary>

`_new_bytes([g for g in grads if g is not None], [grad])`, name `type(node).__name__`, shapes as in `_heard`.
</details>
"""


# %%
#| export
def _new_bytes(arrays, given):
    """Bytes in `arrays`, each memory once and without what the arrays `given` own already."""
    seen, total = {id(_memory(array)) for array in given}, 0
    for array in arrays:
        owner = id(_memory(array))
        if owner not in seen:
            seen.add(owner)
            total += array.nbytes
    return total


class Row(NamedTuple):
    """All events of one name (and, if asked for, of one list of shapes) together; `seconds` is their own time."""

    name: str
    kind: str
    calls: int
    seconds: float
    bytes: int
    flops: int | None
    shapes: tuple | None


def _rows(events, by_shape):
    groups = {}
    for event, own in zip(events, _own_times(events)):
        groups.setdefault((event.name, event.kind, event.shapes if by_shape else None), []).append((event, own))
    rows = []
    for (name, kind, shapes), members in groups.items():
        counts = [event.flops for event, _ in members]
        total = None if None in counts else sum(counts)
        seconds = sum(own for _, own in members) / 1e9
        rows.append(Row(name, kind, len(members), seconds, sum(e.bytes for e, _ in members), total, shapes))
    return sorted(rows, key=lambda row: -row.seconds)


def _amount(n):
    """12345678 as 12.3M."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.3g}{unit}" if n < 1000 * size else f"{n / size:.0f}{unit}"
    return str(n)


# %% nbgrader={"grade": false, "grade_id": "profiling-profiler", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class Profiler:
    """Records every operation and every rule that runs inside `with Profiler() as p:`, in this thread.

    memory   also measure the peak of memory, which makes everything slower

    Works under `no_grad` as elsewhere, and changes no result. May be entered again, and then goes on; two at once are
    refused. `print(p)` shows the table.

    How time is attributed. A rule is timed from its call to its return. An operation announces only its end; it is
    taken to begin where what came before it ended, so that the Python between two operations counts to the second.
    After a pause (the start, the last rule of a backward pass, the border of a region) it begins where the function
    that announces it was called. All else, such as an optimizer, is in no operation: give it a `region`.

    events     a list of `Event`, in the order in which they ended
    seconds    spent inside `with`
    overhead   of these, spent by the profiler itself (its bookkeeping; that it is called comes on top)
    """

    count_parameters = staticmethod(count_parameters)
    count_flops = staticmethod(count_flops)
    measure_memory = staticmethod(measure_memory)
    measure_latency = staticmethod(measure_latency)
    profile_forward_pass = staticmethod(profile_forward_pass)
    profile_backward_pass = staticmethod(profile_backward_pass)

    def __init__(self, memory: bool = False):
        self.events = []
        self.seconds = 0.0
        self.overhead = 0.0
        self._with_memory = memory
        self._peak = 0
        self._origin = None
        self._running = False
        self._calls = None  # while waiting for an operation after a pause: from code to when it was last called

    # Coming and going

    def __enter__(self):
        previous = set_observer(self._heard)
        if previous is not None:
            set_observer(previous)
            raise RuntimeError("somebody is profiling already, and only one can; to mark a part use p.region(name)")
        self._runner = set_runner(self._run)
        self._tracing = tracemalloc.is_tracing()
        if self._with_memory:
            if not self._tracing:
                tracemalloc.start()
            tracemalloc.reset_peak()
            self._held = tracemalloc.get_traced_memory()[0]
        self._thread = get_ident()
        self._mark = self._entered = perf_counter_ns()
        if self._origin is None:
            self._origin = self._entered
        self._running = True
        self._pause()
        return self

    def __exit__(self, *exception):
        self._resume()
        self._running = False
        self.seconds += (perf_counter_ns() - self._entered) / 1e9
        set_observer(None)
        set_runner(self._runner)
        if self._with_memory:
            self._peak = max(self._peak, tracemalloc.get_traced_memory()[1] - self._held)
            if not self._tracing:
                tracemalloc.stop()

    @contextmanager
    def region(self, name: str):
        """Give what happens inside a name: `with p.region("optimizer"): ...`. Regions may lie in one another."""
        if not self._running:
            raise RuntimeError(
                f"region {name!r} needs a Profiler that is running: put it inside `with Profiler() as p:`"
            )
        self._resume()
        start = self._mark = perf_counter_ns()
        self._pause()
        try:
            yield
        finally:
            self._resume()
            end = self._mark = perf_counter_ns()
            self.events.append(Event(name, "region", start - self._origin, end - self._origin, 0, None, ()))
            self._pause()

    def _pause(self):
        """From here to the next operation anything may happen: note when every function is called."""
        if self._running and sys.getprofile() is None:
            self._calls = {}
            sys.setprofile(self._called)

    def _resume(self):
        """No longer. Returns when the functions were called."""
        calls, self._calls = self._calls, None
        if calls is not None:
            sys.setprofile(None)
        return calls

    def _called(self, frame, event, arg):
        if event == "call":
            self._calls[frame.f_code] = perf_counter_ns()

    def _start(self):
        """When the operation began that is announced to `_heard`: after a pause its call, otherwise the last mark."""
        if self._calls is None:
            return self._mark
        return self._resume().get(sys._getframe(3).f_code, self._mark)

    # Listening

    def _heard(self, out, op, inputs, saved):
        """What `result` calls for every operation."""
        now = perf_counter_ns()
        if get_ident() != self._thread:
            return
        start = self._start()
        ### BEGIN SOLUTION
        made = _new_bytes([out.data], [x.data for x in inputs])
        shapes = tuple(x.shape for x in inputs)
        count = flops(op, out, inputs, saved)
        self.events.append(Event(op, "forward", start - self._origin, now - self._origin, made, count, shapes))
        ### END SOLUTION
        self._mark = perf_counter_ns()
        self.overhead += (self._mark - now) / 1e9

    def _run(self, node, grad):
        """What the engine calls in place of `node.apply(grad)`."""
        if get_ident() != self._thread:
            return node.apply(grad)
        last = all(x._grad_fn is None for x in node.inputs)  # nothing lies behind: backward may end here
        self._resume()
        ### BEGIN SOLUTION
        start = self._mark = perf_counter_ns()
        grads = node.apply(grad)
        end = perf_counter_ns()
        made = _new_bytes([g for g in grads if g is not None], [grad])
        shapes = tuple(x.shape for x in node.inputs)
        name = type(node).__name__
        self.events.append(Event(name, "backward", start - self._origin, end - self._origin, made, None, shapes))
        ### END SOLUTION
        self._mark = perf_counter_ns()
        self.overhead += (self._mark - end) / 1e9
        if last:
            self._pause()
        return grads

    # Reporting

    @property
    def flops(self) -> int:
        """The arithmetic of all operations whose arithmetic is known; see `unknown`."""
        return sum(event.flops or 0 for event in self.events)

    @property
    def unknown(self) -> Counter:
        """From operation to number of calls, for all whose arithmetic is not known."""
        return Counter(event.name for event in self.events if event.kind == "forward" and event.flops is None)

    @property
    def between(self) -> float:
        """Seconds in no operation, rule or region."""
        return self.seconds - sum(_own_times(self.events)) / 1e9

    @property
    def peak_bytes(self) -> int:
        """The most memory that was held at one moment beyond what was held on entering."""
        if not self._with_memory:
            raise RuntimeError("memory was not measured; use Profiler(memory=True)")
        return self._peak

    def rows(self, by_shape: bool = False) -> list[Row]:
        """One `Row` for each operation, rule and region, by time of its own, the longest first."""
        return _rows(self.events, by_shape)

    def table(self, limit: int | None = None, by_shape: bool = False) -> str:
        """The rows as text, at most `limit` of them, and what is not in them."""
        rows = self.rows(by_shape)
        width = max([len(row.name) for row in rows] + [9])
        lines = [f"{'operation':{width}}  calls        ms   share    memory   FLOPs  FLOPs/s"]
        for row in rows[:limit]:
            counted, rate = "-", "-"
            if row.kind == "forward":
                counted = "unknown" if row.flops is None else _amount(row.flops)
                rate = _amount(round(row.flops / row.seconds)) if row.flops and row.seconds > 0 else "-"
            share = row.seconds / self.seconds if self.seconds else 0
            numbers = f"{row.calls:5} {row.seconds * 1e3:9.3f} {share:7.1%} {_amount(row.bytes) + 'B':>9}"
            shapes = f"  {row.shapes}" if by_shape else ""
            lines.append(f"{row.name:{width}}  {numbers} {counted:>7} {rate:>8}{shapes}")
        if limit is not None and len(rows) > limit:
            rest = sum(row.seconds for row in rows[limit:])
            lines.append(f"{len(rows) - limit} more rows, {rest * 1e3:.3f} ms")
        lines.append(
            f"{self.seconds * 1e3:.3f} ms in all, {self.between * 1e3:.3f} between the rows; profiling took "
            f"{self.overhead * 1e3:.3f}; {_amount(self.flops)} FLOPs forward"
        )
        if self.unknown:
            lines.append("without " + ", ".join(f"{op} ({n})" for op, n in self.unknown.items()) + ", unknown")
        if self._with_memory:
            lines.append(f"peak {_amount(self.peak_bytes)}B of memory; times are too long because it was measured")
        return "\n".join(lines)

    __str__ = table

    def __repr__(self):
        return f"<Profiler: {len(self.events)} events in {self.seconds:.6f} s>"

    def export(self, path):
        """Write a timeline that ui.perfetto.dev and chrome://tracing open: trace events in JSON."""
        Path(path).write_text(json.dumps(_trace(self.events)), encoding="utf-8")


# %%
with Profiler() as p:
    for _ in range(5):
        optimizer.zero_grad()
        loss = cross_entropy(gpt(tokens), targets)
        loss.backward()
        with p.region("optimizer"):
            optimizer.step()
print(p.table(limit=12))
(embedding,) = (row for row in p.rows() if row.name == "embedding")
print(f"embedding: {naive['embedding']:.2f} ms by the naive profiler, {embedding.seconds * 1e3:.2f} ms by this one")

# %% [markdown]
"""
Compare with the naive list. The embedding has gone where it belongs, and the optimizer has a row. Read the columns
against one another: a product of matrices does many more FLOPs per second than a `gelu`, which goes over its numbers
once for each step of its formula and waits for memory. An operation with few FLOPs and a long time is no better than one
with many: *time* is what is spent.

`profiling took` is the profiler's own time. What does watching cost? One run with and one without is no answer on a
machine that does other things as well; we alternate, and take the fastest of each. The less an operation has to do, the
more a fixed cost weighs:
"""

# %%
print("   N    T    without       with    events     more")
for N, T in ((1, 8), (1, 64), (8, 64)):
    batch, expected = randint(0, 256, (N, T)).data, randint(0, 256, (N, T)).data

    def step(batch=batch, expected=expected):
        cross_entropy(gpt(batch), expected).backward()

    times = {False: [], True: []}
    for _ in range(12):
        for watched in times:
            start = time.perf_counter()
            if watched:
                with Profiler() as watch:
                    step()
            else:
                step()
            times[watched].append(time.perf_counter() - start)
    plain, profiled = min(times[False]), min(times[True])
    print(
        f"{N:4} {T:4} {plain * 1e3:7.2f} ms {profiled * 1e3:7.2f} ms {len(watch.events):9} {profiled / plain - 1:8.1%}"
    )

# %% [markdown]
"""
A few microseconds for every event, whatever its size. On a model that is worth profiling that is little; on operations
of two numbers it is most of what you see. (Where `more` jumps about, or comes out negative, the difference drowns in the
noise of the machine, which is an answer too.)

A word on checkpoints (module 05). Their function runs twice, once forwards and once inside its rule on the way back, and
both times its operations announce themselves. The arithmetic is counted as often as it is done:
"""


# %%
class Checkpointed(Module):
    """A layer whose intermediate results are computed again instead of kept."""

    def __init__(self, layer):
        self.layer = layer

    def forward(self, x):
        return checkpoint(self.layer, x)


block, x = gpt.blocks[0], randn(2, 64, 128, requires_grad=True)
for model in (block, Checkpointed(block)):
    with Profiler() as watch:
        model(x).sum().backward()
    kept = measure_memory(model, (2, 64, 128)).activations
    print(f"{type(model).__name__:17} {watch.flops:12,} FLOPs, {kept / 1e6:.2f} MB kept for the way back")

# %% [markdown]
"""
## When? A timeline

A table says what costs most; a picture says in which order, and what stands still. Two viewers run in a browser,
ui.perfetto.dev and, in Chromium and its relatives, `chrome://tracing`. Both read the same format: JSON with a list
`traceEvents`. One event with a beginning and a duration is

```
   {"name": "linear", "cat": "forward", "ph": "X", "ts": 12.5, "dur": 3.0, "pid": 1, "tid": 1, "args": {...}}
```

with times in *micro*seconds. What lies inside another event in time on the same thread is drawn below it: a flame.

**Write `_trace`.** Return `{"traceEvents": [...], "displayTimeUnit": "ms"}` with one such dictionary per event, by
start, the longer first. `args` holds `shapes` (as text), `bytes` and `flops`.

<details><summary>Hint 1</summary>

An `Event` has nanoseconds: `ts` is `event.start / 1000`, `dur` the difference divided by 1000.
</details>
<details><summary>Hint 2</summary>

`sorted(events, key=lambda event: (event.start, -event.end))`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "profiling-trace", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _trace(events):
    """Events in the trace event format: complete events ("X") on one thread, times in microseconds."""
    ### BEGIN SOLUTION
    traced = [
        {
            "name": event.name,
            "cat": event.kind,
            "ph": "X",
            "ts": event.start / 1000,
            "dur": (event.end - event.start) / 1000,
            "pid": 1,
            "tid": 1,
            "args": {"shapes": str(event.shapes), "bytes": event.bytes, "flops": event.flops},
        }
        for event in sorted(events, key=lambda event: (event.start, -event.end))
    ]
    return {"traceEvents": traced, "displayTimeUnit": "ms"}
    ### END SOLUTION


# %%
with Profiler() as p, p.region("step"):
    optimizer.zero_grad()
    cross_entropy(gpt(tokens), targets).backward()
    with p.region("optimizer"):
        optimizer.step()
with tempfile.TemporaryDirectory() as folder:
    p.export(Path(folder) / "step.json")
    print(f"{(Path(folder) / 'step.json').stat().st_size:,} bytes of JSON; the first event:")
    print(json.loads((Path(folder) / "step.json").read_text())["traceEvents"][0])

colours = {"region": "lightgrey", "forward": "tab:blue", "backward": "tab:orange"}
_, panel = plt.subplots(figsize=(9, 1.8))
for event in p.events:
    row = 0 if event.name == "step" else 1
    colour = colours[event.kind]
    panel.broken_barh([(event.start / 1e6, (event.end - event.start) / 1e6)], (-row, 0.9), color=colour, edgecolor="w")
panel.set(xlabel="milliseconds", yticks=[], title="one training step: forward blue, backward orange, optimizer grey")
plt.tight_layout()
plt.show()

# %% [markdown]
"""
## What is it good for?

*Before* writing a line of faster code, ask what it can bring. If an operation takes the share s of the time and becomes
k times as fast, the whole becomes 1 / (1 - s + s / k) times as fast (Amdahl's law). Even infinitely fast it is
1 / (1 - s). From the table of above:
"""

# %%
total = sum(row.seconds for row in p.rows())
print("                    share   twice as fast   infinitely fast")
for row in p.rows()[:6]:
    share = row.seconds / total
    print(f"{row.name:18} {share:6.1%} {1 / (1 - share / 2):13.2f} x {1 / (1 - share):15.2f} x")

# %% [markdown]
"""
*Growth.* Which part of a model grows how? Arithmetic says it before anything is built, and the clock says whether it is
true. Attention's products grow with the square of the length, everything else with the length:
"""

# %%
long = GPT(256, 64, 2, 2, max_seq_len=1024, rng=0)
print("    T    million FLOPs    attention's share: of the FLOPs   of the time     GFLOP/s")
with no_grad():
    for T in (64, 128, 256, 512, 1024):
        batch = randint(0, 256, (1, T)).data
        long(batch)
        with Profiler() as watch:
            long(batch)
        (attention,) = (row for row in watch.rows() if row.name == "attention")
        seconds = sum(row.seconds for row in watch.rows())
        print(
            f"{T:5} {watch.flops / 1e6:16.1f} {attention.flops / watch.flops:34.1%} "
            f"{attention.seconds / seconds:13.1%} {watch.flops / seconds / 1e9:11.1f}"
        )

# %% [markdown]
"""
The two shares are not the same number: a softmax is cheap to count and dear to run, a product of matrices the other way
round. That is why one measures.

*Batch.* The same weights serve all rows of a batch, so more rows mean more arithmetic for each number read from memory.
How long does one token take?
"""

# %%
print("    N     latency of the pass                        per token     MB kept")
for N in (1, 4, 16):
    batch = randint(0, 256, (N, 32))
    latency = measure_latency(gpt, batch, warmup=2, repeats=7)
    kept = measure_memory(gpt, (N, 32)).activations / 1e6
    print(f"{N:5}     {latency!s:38} {latency.median / (N * 32) * 1e6:8.1f} us {kept:11.1f}")

# %% [markdown]
"""
## What goes wrong in practice

- **The first run** is measured, with its imports, its page faults and its caches that are still empty.
- **The profiler is measured**: a tracer that is called for every function makes small functions look slow. Ours listens
  to the interpreter only during pauses; memory is measured in runs of its own.
- **The wrong thing is made fast**: 3 % of the time made ten times as fast is 2.7 %.
- **Two numbers without a spread are compared**, and the better one was luck. Module 19 does this properly.
- **FLOPs are taken for time.** They are arithmetic. A `permute` has none and moves every number of a tensor in the next
  operation that reads it.

## All together

The checks of this lesson in one cell.
"""

# %%
# Arithmetic by hand, with bias and batch.
assert count_flops(Linear(3, 4), (2, 3)) == 2 * 4 * (2 * 3 + 1)
assert count_flops(Conv2d(3, 16, 3), (5, 3, 32, 32)) == 5 * 16 * 30 * 30 * (2 * 27 + 1)
assert count_flops(gpt, (3, 32)) == gpt_flops(3, 32, 256, 128, 4, 4)[0]

# Own times; a timeline that nests.
assert _own_times([Event("", "region", a, b, 0, None, ()) for a, b in spans]) == [3, 2, 2, 3]
model = Sequential(Linear(8, 16), ReLU(), Linear(16, 2))
with Profiler() as p, p.region("step"):
    model(randn(4, 8)).sum().backward()
assert [event.name for event in p.events if event.kind == "forward"] == ["linear", "relu", "linear", "sum"]
outer, *inner = _trace(p.events)["traceEvents"]
assert outer["name"] == "step"
assert all(outer["ts"] <= event["ts"] <= event["ts"] + event["dur"] <= outer["ts"] + outer["dur"] for event in inner)

# Memory: parameters exactly, activations as what is really held.
memory = measure_memory(model, (100, 8))
assert memory.parameters == memory.gradients == 4 * count_parameters(model)
assert memory.activations >= 4 * 100 * (16 + 16 + 2)

# Under no_grad everything is recorded and no graph is built; two profilers at once are refused.
with no_grad(), Profiler() as p:
    out = model(randn(4, 8))
assert len(p.events) == 3
assert not out.requires_grad


def two_at_once():
    with Profiler(), Profiler():
        pass


for wrong in (
    two_at_once,
    lambda: count_flops(model, (4, 9)),
    lambda: count_parameters([1, 2]),
    lambda: profile_backward_pass(ReLU(), randn(3), lambda out: out.sum()),
):
    try:
        wrong()
    except (RuntimeError, TypeError, ValueError) as error:
        print(error)

# %% [markdown]
"""
## Questions

**1.** GPT-3 has 175 billion parameters and was trained on 300 billion tokens. About how many FLOPs is that, if backward
costs twice the arithmetic of forward? A processor that does 100 TFLOP/s in earnest: how long would one take, and a
thousand?

<details><summary>Answer</summary>

2 FLOPs per parameter and token forwards, 4 backwards: 6 * 175e9 * 300e9 = 3.15e23. At 1e14 per second that is 3.15e9
seconds, a hundred years; a thousand of them need about 36 days. (For arithmetic, twice is a good rule at this size. For
time you would measure.)
</details>

**2.** A step takes 100 ms: 60 in products, 25 in softmax and norms, 15 in AdamW. A colleague offers products that are
three times as fast, another one a fused AdamW that costs nothing. Whom do you thank first?

<details><summary>Answer</summary>

The first: 100 - 60 + 20 = 60 ms, 1.67 times as fast; the second brings 85 ms, 1.18 times. But after the first, AdamW is
15 of 60 ms, a quarter: profile again after every change.
</details>

**3.** A Linear(4096, 4096) processes one row, as in generating a text token by token. How many FLOPs, how many bytes of
weights are read, and what limits the speed if memory delivers 20 GB/s and the processor does 100 GFLOP/s?

<details><summary>Answer</summary>

2 * 4096 * 4096 = 33.6 MFLOP, 0.34 ms of arithmetic. The weights are 67 MB, 3.4 ms of reading. Memory, by a factor of ten;
up to ten rows would be nearly free. That is why servers gather requests into batches, and why smaller numbers (module
15) make generation faster even if they compute no faster.
</details>

**4.** Why does an operation's row show its *own* time, and what would the sum of the column be otherwise, if a whole
training step is a region?

<details><summary>Answer</summary>

The region's length would contain every operation in it, and each operation would stand in its own row again: the sum
would be about twice the time there was, and the region at the top of the table would say nothing.
</details>

**5.** Your profiler attributes the Python between two operations to the second one. When is that wrong by so much that
it matters, and what can you do?

<details><summary>Answer</summary>

When something long that announces nothing happens between two operations of one forward pass: tokenising, drawing
samples with NumPy, reading a file. A region around it puts it on a bill of its own, and the first operation after the
region is timed from its call.
</details>
"""
