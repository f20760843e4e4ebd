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
# 15 · Quantization: a quarter of the bytes, almost the same answers

| | |
|---|---|
| **You have** | trained networks, and a GPT that writes (modules 01 to 13); every weight takes 4 bytes |
| **You will build** | int8 numbers with scale and zero point; linear layers and tables that hold bytes; exact integer products; calibration; `quantize_model` for any model |
| **You will be able to** | say what rounding costs before you round, why every output wants a scale of its own, what calibration decides, and what is won in memory and in time, which is not the same |

Needs modules 01 to 13. Exports `optimization/quantization.py`. Medium; about three hours.

```
   float32, 4 bytes each             int8, 1 byte each              when it is used
   +--------------------+  round   +--------------------+  x scale  +------------------+
   |  0.31 -1.20  0.07  | -------> |   33  -127     7   | --------> | 0.312 -1.2 0.066 |
   +--------------------+          +--------------------+           +------------------+
                                     + one scale a column: 0.00945
```

A model is trained once and used a million times. While it is used nobody needs its seventh decimal. What do its
answers need, then? Let us take away bits until it hurts, and keep one more.
"""

# %%
#| default_exp optimization.quantization

# %%
#| export
"""Quantization: a trained model in a quarter of the bytes.

A float becomes a whole number of steps of size `scale`, counted from `zero_point`, and fits into one byte:

    q = round(x / scale) + zero_point          x is about (q - zero_point) * scale

Weights are symmetric (zero_point 0) with a scale per output, which leaves the product as it is and multiplies its
result. Inputs, where they are quantized too, are asymmetric with one scale for all, found by calibration. Nothing here
keeps the floats it was made from.
"""

import copy
from collections.abc import Iterable

import numpy as np

from tinytorch.core.autograd import Function, no_grad
from tinytorch.core.layers import Linear, Module, _is_parameter, walk
from tinytorch.core.tensor import Tensor, _memory, as_tensor, astype, floating, from_numpy, result
from tinytorch.text.embeddings import Embedding, PositionalEncoding, _token_ids

# %%
import time

import matplotlib.pyplot as plt

from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Flatten, Sequential
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import manual_seed, randn
from tinytorch.data.datasets import digits
from tinytorch.data.loader import DataLoader
from tinytorch.models.transformer import GPT
from tinytorch.text.tokenization import CharTokenizer

np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
"""
## Five numbers by hand

Five numbers are to be kept in a byte each: -1, 0, 0.5, 2 and 4.1. A byte with a sign holds the whole numbers from -128
to 127. So lay a ruler over the floats, with 256 marks, the first at -1 and the last at 4.1:

```
   float    -1.0        0.0   0.5        2.0                4.1
             |-----------|-----|----------|------------------|
   int8    -128        -78   -53         22                127

   scale       the distance between two marks: (4.1 - (-1)) / 255 = 0.02      255 steps between 256 marks
   zero point  the mark at which 0.0 lies:     -128 + 1 / 0.02    = -78
   q           round(x / scale) + zero point:  2 / 0.02 - 78      = 22
   and back    (q - zero point) * scale:       (22 + 78) * 0.02   = 2.0
```

Two numbers, scale and zero point, are kept once for the whole array. Everything between two marks goes to the nearer
one, so no number moves by more than half a step, here 0.01.

**Which range?** From the smallest number to the largest, one thinks. Then what of an array `[5, 6]`? The scale would be
1 / 255, and 0.0 would lie at mark -128 - 5 * 255 = -1403, which is no byte. But 0.0 is needed, and exactly: padding is
0, a relu returns 0, a missing bias is 0, and a zero that comes back as 0.003 in a million places is no rounding error
but a bias. So the range is always widened until it contains 0. The same rule settles arrays of equal numbers, except
for one: all zeros, range 0 to 0. There the scale may be anything but 0; take 1.

**Symmetric or not?** Weights lie around 0, about as far up as down. For them make the ruler symmetric: 127 steps
each way, zero point 0, and mark -128 unused. One number less to keep, and, as we shall see, a good deal less to
compute. What comes out of a relu lies on one side of 0. A symmetric ruler would waste half of its marks on it, one of
eight bits; so inputs get a zero point.

**Write `scale_and_zero_point`.** First widen the range to contain 0. The symmetric scale is the larger distance from 0
in 127 steps, the other one the whole range in 255. A scale too small for float32 becomes 1. The zero point is 0, or
the whole number that makes `low` fall on -128.

`scale_and_zero_point(-1, 4.1)` is `(0.02, -78)`; `scale_and_zero_point(-1, 4.1, symmetric=True)` is `(0.0323, 0)`;
`scale_and_zero_point(5, 6)` is `(0.0235, -128)`.

<details><summary>Hint 1</summary>

`low` and `high` may be arrays: `np.minimum`, `np.maximum` and `np.where` treat every element for itself, and numbers
as arrays of one.
</details>
<details><summary>Hint 2</summary>

"Too small" is below `np.finfo(np.float32).tiny`, which includes 0. Choose with `np.where`, then make it float32, and
use *that* scale for the zero point: it is the one everybody will compute with.
</details>
<details><summary>Hint 3</summary>

`low` lies `low / scale` steps from 0.0, so 0.0 is mark `-128 - low / scale`, to be rounded with `np.rint`. The
symmetric zero points are zeros in the shape of `low`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "quantization-scale", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def scale_and_zero_point(low, high, symmetric: bool = False):
    """The step between neighbouring int8 values, and the int8 value of 0.0, for floats from `low` to `high`.

    low, high   numbers, or arrays of one shape; a range that does not contain 0 is widened until it does
    symmetric   0.0 is the integer 0, and the integers are -127 to 127; otherwise they are -128 to 127

    returns (scale float32, zero_point int32) in the shape of `low`. A range of width 0 has scale 1.

    Raises ValueError if a bound is not finite, or low > high.
    """
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)  # high - low may exceed what float32 holds
    if not (np.isfinite(low) & (low <= high) & np.isfinite(high)).all():
        raise ValueError(f"scale_and_zero_point needs finite low <= high, got {low} and {high}")
    ### BEGIN SOLUTION
    low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = np.maximum(-low, high) / 127 if symmetric else (high - low) / 255
    scale = np.where(scale < np.finfo(np.float32).tiny, 1, scale).astype(np.float32)
    zero_point = np.zeros_like(low) if symmetric else np.rint(-128 - low / scale)
    ### END SOLUTION
    return scale[()], zero_point.astype(np.int32)[()]


# %%
for low, high, symmetric in [(-1, 4.1, False), (-1, 4.1, True), (5, 6, False), (0, 0, False)]:
    scale, zero_point = scale_and_zero_point(low, high, symmetric)
    print(f"{low:4} to {high:4}, symmetric {symmetric!s:5}   scale {scale:.4f}   zero point {zero_point:4}")

# %% [markdown]
"""
## Rounding, and a trap in each direction

What is 2.5, rounded? At school it is 3, and so is 3.5 to 4: every half goes up. Over many numbers that pushes their
mean upwards. `np.rint` sends halves to the *even* neighbour, 2.5 to 2 and 3.5 to 4, so that half of them go down. That
is also what processors do, and what every other library expects. Halves are not rare: a picture's grey levels, for
instance, may sit on a grid of their own.
"""

# %%
halves = np.arange(-50, 50) + 0.5
print(
    f"mean error of half up {np.mean(np.floor(halves + 0.5) - halves):5.2f}, of half to even {np.mean(np.rint(halves) - halves):5.2f}"
)

# %% [markdown]
"""
**On the way down: wrapping around.** If a number lies beyond the range, its q is beyond the byte, and a byte does not
stop at its end. 130 stored in int8 becomes -126. The largest input becomes the most negative one. So clip, always, in
floats, before the conversion.

**On the way back: the same.** `q - zero_point` looks harmless. With `q = 127` and `zero_point = -128` it is 255, and in
int8 that is -1. Convert to float first, then subtract.
"""

# %%
with np.errstate(over="ignore"):
    print("130 as a byte:", np.int32(130).astype(np.int8), "   127 - (-128) in bytes:", np.int8(127) - np.int8(-128))

# %% [markdown]
"""
**Write `_to_int8`, and the ends of `quantize_int8` and `dequantize_int8`.**

1. `_to_int8`: divide by the scale, round, add the zero point, clip; `q`, still in floats, is what becomes int8 below.
2. `quantize_int8`: which range does each scale belong to? For `axis=None` that of the whole array. With `axis=1` every
   index along axis 1 has a range of its own: reduce over all *other* axes, and keep them with length 1 so that the
   results broadcast against x.
3. `dequantize_int8`: to float32, less the zero point, times the scale.

The five numbers above give `q = [-128, -78, -53, 22, 127]`. `[[1.27, 127], [-0.5, 50]]`, symmetric with `axis=1`, gives
`scale = [[0.01, 1]]` and `q = [[127, 127], [-50, 50]]`.

<details><summary>Hint 1</summary>

In `_to_int8` the first line may be `q = np.divide(x, scale, out=np.empty_like(x))`. From there everything works in
place, with `out=q`. Make the zero point an array of q's dtype, or NumPy computes in float64.
</details>
<details><summary>Hint 2</summary>

`axes` is a tuple of all i in `range(x.ndim)` but the chosen one, which may be negative: `axis % x.ndim`. For
`axis=None`, `axes` is None too.
</details>
<details><summary>Hint 3</summary>

`x.min(axis=axes, keepdims=axis is not None, initial=0)`, and the same with max. `initial=0` lets arrays without any
elements pass, and does no harm otherwise, since ranges contain 0 anyway.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "quantization-int8", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _to_int8(x, scale, zero_point):
    """The array x in steps of `scale` from `zero_point`; what lies outside of int8 becomes its nearest end."""
    ### BEGIN SOLUTION
    q = np.divide(x, scale, out=np.empty_like(x))
    np.rint(q, out=q)  # halves go to the even neighbour, so that errors do not all point upwards
    q += np.asarray(zero_point, q.dtype)
    np.clip(q, -128, 127, out=q)
    ### END SOLUTION
    return q.astype(np.int8)


def _eight(who, bits):
    if bits != 8:
        raise ValueError(f"{who} stores 8 bits per number, got bits={bits!r}; fewer would have to share a byte")


def quantize_int8(t, symmetric: bool = False, axis: int | None = None, bits: int = 8):
    """Floats as bytes: (q, scale, zero_point) such that (q - zero_point) * scale is about `t`.

    t           tensor or array of any shape, all of it finite
    symmetric   zero_point is 0 and q stays within -127 to 127; otherwise within -128 to 127
    axis        a scale and a zero point for every index along this axis; None: one of each for all of `t`

    q           int8 array in the shape of `t`
    scale       float32, and zero_point int32: scalars, or arrays with length 1 along all axes but `axis`

    No element is off by more than half its scale. Raises ValueError for NaN and infinity, an axis that is not there, or
    bits other than 8.
    """
    _eight("quantize_int8", bits)
    x = astype(floating(t), np.result_type(floating(t).dtype, np.float32)).data
    if axis is not None and not -x.ndim <= axis < x.ndim:
        raise ValueError(f"quantize_int8: axis {axis} is not one of a tensor of shape {x.shape}")
    finite = np.isfinite(x)
    if not finite.all():
        raise ValueError(f"quantize_int8 needs finite numbers; {int((~finite).sum())} of {x.size} are NaN or infinite")
    ### BEGIN SOLUTION
    axes = None if axis is None else tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    low, high = (reduce(axis=axes, keepdims=axis is not None, initial=0) for reduce in (x.min, x.max))
    scale, zero_point = scale_and_zero_point(low, high, symmetric)
    return _to_int8(x, scale, zero_point), scale, zero_point
    ### END SOLUTION


def dequantize_int8(q, scale, zero_point=0) -> Tensor:
    """The floats that q stands for: (q - zero_point) * scale, as float32.

    q   int8 array or tensor; scale and zero_point as `quantize_int8` returns them
    """
    q = q.data if isinstance(q, Tensor) else q
    if getattr(q, "dtype", None) != np.int8:
        raise TypeError(f"dequantize_int8 needs an array of int8, got {getattr(q, 'dtype', type(q).__name__)}")
    ### BEGIN SOLUTION
    x = q.astype(np.float32)  # first: in int8, 127 - (-128) is -1
    x -= np.asarray(zero_point, np.float32)
    x *= scale
    ### END SOLUTION
    return from_numpy(x)


# %%
x = Tensor([-1.0, 0.0, 0.5, 2.0, 4.1])
q, scale, zero_point = quantize_int8(x)
print("q", q, q.dtype, "  scale", scale, "  zero point", zero_point)
print("back", dequantize_int8(q, scale, zero_point))

x = randn(1000, 1000, rng=0)
for symmetric in (False, True):
    q, scale, zero_point = quantize_int8(x, symmetric)
    error = np.abs(dequantize_int8(q, scale, zero_point).numpy() - x.numpy())
    print(
        f"a million normal numbers: {x.data.nbytes:,} -> {q.nbytes:,} bytes; "
        f"largest error {error.max() / scale:.4f} steps, mean {error.mean() / scale:.4f}"
    )

# %% [markdown]
"""
The bytes are counted by NumPy, and that is the point of them. It is easy to write "quantized" code that rounds to 256
values and keeps them in float32; it has all of the error and none of the gain.

The mean error is a quarter of a step: errors spread evenly from none to half a step.

## How many bits?

Eight is a habit. Let us ask. We need a model that has something to lose, so train one: a network that reads the digits of
module 08.
"""

# %%
manual_seed(0)
train, test = digits("train"), digits("test")
images, labels = test[:]
reader = Sequential(Flatten(), Linear(64, 256), ReLU(), Linear(256, 128), ReLU(), Linear(128, 10))
optimizer = Adam(reader.parameters(), lr=2e-3)
for epoch in range(12):
    optimizer.lr = 2e-3 * (1 - epoch / 12)
    for x, y in DataLoader(train, batch_size=64, shuffle=True):
        optimizer.zero_grad()
        cross_entropy(reader(x), y).backward()
        optimizer.step()


@no_grad()
def accuracy(model):
    """The share of held-out digits that `model` reads correctly, in percent."""
    return 100 * float((model(images).numpy().argmax(axis=1) == labels.numpy()).mean())


print(
    f"{reader.num_parameters():,} parameters, {accuracy(reader):.2f} % of {len(labels)} held-out digits read correctly"
)

# %% [markdown]
"""
For other numbers of bits we only pretend: round to a ruler with fewer marks, and keep the result in floats. With `b`
bits a symmetric ruler has `2^(b - 1) - 1` steps each way: 127 for eight bits, 7 for four, 1 for two. Every bit less
makes the steps twice as long.
"""


# %%
def rounded(weight, bits, per_channel=True):
    """The weight (in, out), rounded to a symmetric ruler of `bits` bits, for every column or for all of it."""
    steps = 2 ** (bits - 1) - 1
    scale = np.abs(weight).max(axis=0 if per_channel else None) / steps
    return np.rint(weight / scale) * scale


def with_rounded_weights(model, bits, per_channel=True):
    """A copy of the model whose matrices were rounded."""
    out = copy.deepcopy(model)
    for p in out.parameters():
        if p.ndim == 2:
            p.data = rounded(p.data, bits, per_channel).astype(np.float32)
    return out


bits = range(2, 9)
weight = reader[3].weight.numpy()
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
for per_channel in (False, True):
    name = "a scale per column" if per_channel else "one scale for all"
    errors = [float(np.sqrt(np.mean((rounded(weight, b, per_channel) - weight) ** 2)) / weight.std()) for b in bits]
    right = [accuracy(with_rounded_weights(reader, b, per_channel)) for b in bits]
    axes[0].semilogy(bits, errors, marker=".", label=name)
    axes[1].plot(bits, right, marker=".", label=name)
    print(f"{name:18}  bits ", "  ".join(f"{b:6}" for b in bits))
    print(f"{'':18}  error", "  ".join(f"{error:6.3f}" for error in errors))
    print(f"{'':18}  right", "  ".join(f"{share:5.1f}%" for share in right))
axes[0].set(xlabel="bits", ylabel="error / spread of the weights")
axes[1].axhline(accuracy(reader), color="lightgray")
axes[1].set(xlabel="bits", ylabel="read correctly, %")
axes[0].legend()
plt.show()

# %% [markdown]
"""
Look at the error first: on a logarithmic axis a straight line, each bit halves it. The answers care much less. The
network was trained on noisy data with noisy gradients, and what is noise to it hardly matters; down to some number of
bits next to nothing happens, and then everything does. Eight bits leave room to spare. (Larger networks and harder tasks need
more bits than this one; four are where people work hard, and two need training with the rounding in place.)

## One loud column

Here is a fact about relu networks: multiply everything that goes *into* a hidden unit by 500, and divide what goes *out*
of it by 500, and the network computes exactly the same function. So the following network is as good as ours. What
will eight bits do to its first matrix, with one scale for all? The step is 1/127 of the largest weight, and that is now
far larger than everybody else's.
"""

# %%
loud = copy.deepcopy(reader)
loud[1].weight.data[:, 0] *= 500
loud[1].bias.data[0] *= 500
loud[3].weight.data[0] /= 500

first = loud[1].weight
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for axis, channel in zip(axes, (None, 1)):
    q, _, _ = quantize_int8(first, symmetric=True, axis=channel)
    name = "one scale for all" if channel is None else "a scale per column"
    axis.hist(q.ravel(), bins=np.arange(-128.5, 128), log=True)
    axis.set(title=f"{name}: {len(np.unique(q[:, 1:]))} values in use", xlabel="q", ylabel="weights")
    print(
        f"{name:18}  the quiet columns use {len(np.unique(q[:, 1:])):3} of 255 values; "
        f"read correctly: {accuracy(with_rounded_weights(loud, 8, channel == 1)):.2f} %"
    )
print(f"{'in floats':18}  read correctly: {accuracy(loud):.2f} %")
plt.show()

# %% [markdown]
"""
All eight bits are spent on one column, and the others share what is left. With a scale per column, the loud column
is nobody's problem but its own.

This is no invention. Trained transformers have a few features that are tens of times larger than all others (Dettmers
et al. 2022), and that is the main reason why large language models are harder to quantize than small ones.

Why per *column*, one scale for each output, and not per row? Look at the product:

```
   out[j] = sum over i of  x[i] * q[i, j] * scale[j]  =  scale[j] * (sum over i of  x[i] * q[i, j])
```

A scale per column comes out of the sum: multiply with bytes, and scale the result once. A scale per row would stay
inside, one for every term.

## A linear layer that holds bytes

So the weight is int8 and the inputs are floats. NumPy has no product of floats and bytes: `x @ q` would convert all of q to
floats, in a new array four times as large as q itself. What we saved comes back at every call, if only for a moment. In
blocks of a few rows, the floats that exist at any moment stay small, and in the processor's cache:

```
   q (in, out) int8          block, float32, always the same memory
   +---------------+         +---------------+
   | rows 0-84     |  ---->  |               |   out += x[:, 0:85]   @ block
   | rows 85-169   |  ---->  |               |   out += x[:, 85:170] @ block
   | ...           |         +---------------+   ...
   +---------------+                             out *= scale, out += bias
```

`_float_blocks` is given; it yields slices and blocks.

**Write `quantized_linear`, and the loop of its rule.** Forward: add up the products of the blocks, then scale, then
bias, in this order. Back: `dx = grad @ weight.T`, and the weight is `q * scale`. The scales have gone to `rows`
already, so what is left for the loop is to fill the columns `part` of dx.

With `x = [1, 2]`, `q = [[3], [4]]`, `scale = [[0.5]]` and `bias = [1]` the result is `(1 * 3 + 2 * 4) * 0.5 + 1 = 6.5`.

<details><summary>Hint 1</summary>

`for part, block in _float_blocks(q, len(rows), rows.dtype):` in both. Rows `part` of q meet columns `part` of `rows`.
</details>
<details><summary>Hint 2</summary>

Forward, every block adds to all of `out`: `+=`. Back, every block fills columns of its own: an assignment.
</details>
<details><summary>Hint 3</summary>

Back, a block (b, out) takes `rows` (n, out) to (n, b): transpose the block.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "quantization-linear", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
_BLOCK = 262144  # elements: what of a weight is floats at any time stays in the second-level cache


def _float_blocks(q, rows, dtype, most=None):
    """The matrix q in floats, a few of its rows at a time: pairs (slice, block), every block in the same memory.

    rows   of the other factor: for many of them blocks may be larger, as large as the product is
    most   rows of q in one block at most
    """
    K, M = q.shape
    step = max(1, min(K, max(_BLOCK // max(M, 1), rows), most or K))
    memory = np.empty_like(q, shape=(step, M), dtype=dtype)
    for start in range(0, K, step):
        part = q[start : start + step]
        block = memory[: len(part)]
        block[...] = part
        yield slice(start, start + step), block


def quantized_linear(x: Tensor, q, scale, bias=None) -> Tensor:
    """x @ (q * scale) + bias, without ever holding q * scale.

    x       (..., in)     floats
    q       (in, out)     int8
    scale   (1, out)      one step size per output: it comes out of the sum, so it multiplies the result
    bias    (out,) or None

    Gradients flow to x; the weight has none.
    """
    x = floating(x)
    x = astype(x, np.result_type(x.dtype, np.float32))
    rows = x.data.reshape(-1, x.shape[-1])
    out = np.zeros_like(rows, shape=(len(rows), q.shape[1]))
    ### BEGIN SOLUTION
    for part, block in _float_blocks(q, len(rows), rows.dtype):
        out += rows[:, part] @ block
    out *= scale
    if bias is not None:
        out += bias
    ### END SOLUTION
    return result(out.reshape(*x.shape[:-1], q.shape[1]), "quantized_linear", x, q=q, scale=scale)


class QuantizedLinearBackward(Function, op="quantized_linear"):
    """dx = grad @ (q * scale).T: the scales go to grad, which is small, and q stays as it is."""

    def backward(self, grad):
        (x,), q = self.inputs, self.saved["q"]
        rows = grad.reshape(-1, q.shape[1]) * self.saved["scale"]
        dx = np.empty_like(rows, shape=(len(rows), q.shape[0]))
        ### BEGIN SOLUTION
        for part, block in _float_blocks(q, len(rows), rows.dtype):
            dx[:, part] = rows @ block.T
        ### END SOLUTION
        return dx.reshape(x.shape)


# %%
weight = randn(768, 3072, rng=1) * 0.02
q, scale, _ = quantize_int8(weight, symmetric=True, axis=1)
x = randn(16, 768, rng=2)
exact, ours = x.numpy() @ weight.numpy(), quantized_linear(x, q, scale).numpy()
print(
    f"weight {weight.data.nbytes:,} bytes, q and scale {q.nbytes + scale.nbytes:,}; floats in a block at most {4 * _BLOCK:,}"
)
print(f"outputs differ by {np.sqrt(np.mean((ours - exact) ** 2)) / exact.std():.2%} of their spread")

x = Tensor([[1.0, 2.0]], requires_grad=True)
out = quantized_linear(x, np.array([[3], [4]], np.int8), np.array([[0.5]], np.float32), np.array([1.0], np.float32))
out.backward()
print("out", out.tolist(), "  dx", x.grad.tolist())

# %% [markdown]
"""
Gradients pass through to the input, which is what one needs to train something small in front of a large quantized
model. The weight itself has none: it is what it is.

## Whole numbers all the way

If inputs are bytes as well, the product consists of whole numbers, and those can be added up without any error. On
hardware with instructions for it, this is where the speed is. NumPy has no fast product for integers: `int32 @ int32` runs
through a plain loop. But think of what a float32 can hold: every whole number up to 2^24 = 16,777,216, exactly. How many
products of two bytes may one add up?

```
   the largest product     (-128) * (-128)  =  2^14
   exact in float32        sums up to          2^24
   terms                   2^24 / 2^14      =  2^10 = 1,024
```

So with at most 1,024 terms, the float32 product *is* the integer product, in whatever order BLAS adds. For longer
sums, add the partial sums in int32. That holds 2^31 / 2^14, some 131,000 terms, enough for any layer.

**Write `int8_matmul`.** Make floats of `a`, go through the blocks of `b` with at most `EXACT` rows each, and add every
partial product to `total` as int32.

`int8_matmul([[127, -128]], [[2], [3]])` (int8 arrays) is `[[254 - 384]] = [[-130]]`, which is no byte, but an int32.

<details><summary>Hint 1</summary>

`a.astype(np.float32)`, once, before the loop.
</details>
<details><summary>Hint 2</summary>

`_float_blocks(b, len(a), np.float32, most=EXACT)`: without the limit, a block may have as many rows as fit.
</details>
<details><summary>Hint 3</summary>

`total += float_array` is refused, because float does not fit into int. Convert the partial product: it holds whole
numbers, so nothing is lost.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "quantization-int8-matmul", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
EXACT = 2**24 // 2**14  # products of two int8 whose sum float32 holds exactly: each is at most 2^14, float32 to 2^24
LONGEST = (2**31 - 1) // 2**14  # whose sum int32 holds


def int8_matmul(a, b):
    """The product of two int8 matrices in int32, every bit of it right: (N, K) @ (K, M) -> (N, M).

    Computed by the float32 matrix product, which is exact as long as sums stay within 2^24: at most 1,024 terms at a
    time, and those sums are added in int32.
    """
    if a.dtype != np.int8 or b.dtype != np.int8:
        raise TypeError(f"int8_matmul needs int8 arrays, got {a.dtype} and {b.dtype}")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"int8_matmul needs shapes (N, K) and (K, M), got {a.shape} and {b.shape}")
    if len(b) > LONGEST:
        raise ValueError(f"int8_matmul: sums of {len(b):,} products may exceed int32, which is sure of {LONGEST:,}")
    total = np.zeros_like(a, shape=(len(a), b.shape[1]), dtype=np.int32)
    ### BEGIN SOLUTION
    a = a.astype(np.float32)
    for part, block in _float_blocks(b, len(a), np.float32, most=EXACT):
        total += (a[:, part] @ block).astype(np.int32)
    ### END SOLUTION
    return total


# %%
rng = np.random.default_rng(0)
a, b = rng.integers(-128, 128, (64, 3072)).astype(np.int8), rng.integers(-128, 128, (3072, 256)).astype(np.int8)
right = a.astype(np.int32) @ b.astype(np.int32)
print("equal to int32 arithmetic, every bit:", np.array_equal(int8_matmul(a, b), right))

a[:], b[:] = 127, 127
a[0, 0] = 126
one_sum = a.astype(np.float32) @ b.astype(np.float32)
print(
    f"3,072 terms in one float32 sum: off by up to {np.abs(one_sum - a.astype(np.int32) @ b.astype(np.int32)).max():.0f}; "
    f"in sums of 1,024: {np.abs(int8_matmul(a, b) - a.astype(np.int32) @ b.astype(np.int32)).max()}"
)


def time_of(function, repeats=5):
    """The fastest of a few runs, in seconds: the others were disturbed by something."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


plain, ours = time_of(lambda: a.astype(np.int32) @ b.astype(np.int32), 2), time_of(lambda: int8_matmul(a, b))
print(f"int32 @ int32 {1e3 * plain:.1f} ms, int8_matmul {1e3 * ours:.2f} ms")

# %% [markdown]
"""
### What the zero point adds

Inputs are asymmetric: they have a zero point z, and what a byte stands for is `(x_q - z) * x_scale`. Multiply out:

```
   sum of (x_q - z) * w_q   =   sum of x_q * w_q   -   z * (sum of w_q)
                                 int8_matmul            does not depend on the input
```

The second sum runs down a column of the weight. It is known before the first input arrives, so work it out once and put it
where a constant per output belongs: into the bias. By hand: inputs 0.5 and 1.0 in steps of 0.01 with z = -28 are the
bytes 22 and 72; the weights are 3 and -2.

```
   directly      (22 + 28) * 3 + (72 + 28) * (-2)   =  150 - 200  =  -50
   in two parts   22 * 3 + 72 * (-2)                =  -78
                  less z * (3 - 2) = -28            =  -78 + 28   =  -50
```

Here is why weights are symmetric: with a zero point of their own, there would be a third sum, over the *inputs*, which is
not known in advance.

**Write both blanks of `QuantizedLinear`.** In `__init__`: the surplus of every output is the zero point, times the sum of
its column of q, times both scales; the bias loses it. In `forward`: make bytes of `rows`, multiply, convert the sums to
floats, scale with both scales, add the bias.

A weight `[[1.0]]` with inputs from -1 to 1.55 returns 1.55 for an input of 5: what lies beyond the range is clipped.

<details><summary>Hint 1</summary>

Bytes added up in int8 wrap around: `self.q.sum(axis=0, dtype=np.int64)`. In float64 the surplus is exact enough;
convert at the end.
</details>
<details><summary>Hint 2</summary>

`self.scale` is (1, out); its row 0 has the shape of a bias. Where there was no bias, take it as 0.
</details>
<details><summary>Hint 3</summary>

The sums are int32. An int32 array times a float32 array is float64 in NumPy, so convert them to `rows.dtype` first.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "quantization-layer", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class QuantizedLinear(Module):
    """A linear layer, for inference, whose weights are bytes.

    weight, bias   of the layer: (in, out) and (out,) or None; only read
    input_range    (low, high) of the inputs: these become bytes too, and products are sums of whole numbers

    q       (in, out)  int8, symmetric
    scale   (1, out)   float32
    bias    (out,)     float32 or None; with an input range, less what the zero point of the inputs adds to every sum
    """

    input_scale = input_zero_point = None

    def __init__(self, weight, bias=None, input_range=None):
        weight = floating(weight)
        if weight.ndim != 2:
            raise ValueError(f"QuantizedLinear needs a weight (in, out), got shape {weight.shape}")
        self.q, self.scale, _ = quantize_int8(weight, symmetric=True, axis=1)
        self.bias = None if bias is None else np.array(floating(bias).data, np.float32)
        if input_range is not None:
            scale, zero_point = scale_and_zero_point(*input_range)
            self.input_scale, self.input_zero_point = np.asarray(scale), np.asarray(zero_point)  # arrays: saved
            ### BEGIN SOLUTION
            surplus = zero_point * self.q.sum(axis=0, dtype=np.int64) * (self.scale[0].astype(np.float64) * scale)
            self.bias = ((0 if bias is None else self.bias) - surplus).astype(np.float32)
            ### END SOLUTION

    @classmethod
    def from_linear(cls, linear: Linear, input_range=None) -> "QuantizedLinear":
        """The same layer in bytes; `linear` stays as it is."""
        return cls(linear.weight, linear.bias, input_range)

    @property
    def in_features(self):
        return self.q.shape[0]

    @property
    def out_features(self):
        return self.q.shape[1]

    @property
    def weight(self) -> Tensor:
        """The weight in floats (in, out), made anew each time it is asked for."""
        return dequantize_int8(self.q, self.scale)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out). With an input range nothing can be learnt through this layer: rounding is flat."""
        x = floating(x)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            who = f"QuantizedLinear({self.in_features}, {self.out_features})"
            raise ValueError(f"{who} needs inputs (..., {self.in_features}), got {x.shape}")
        if self.input_scale is None:
            return quantized_linear(x, self.q, self.scale, self.bias)
        x = astype(x, np.result_type(x.dtype, np.float32))
        rows = x.data.reshape(-1, self.in_features)
        if np.isnan(rows.min(initial=0)):
            raise ValueError("QuantizedLinear: the inputs hold NaN, for which there is no integer")
        ### BEGIN SOLUTION
        sums = int8_matmul(_to_int8(rows, self.input_scale, self.input_zero_point), self.q)
        out = sums.astype(rows.dtype)
        out *= self.scale * self.input_scale
        out += self.bias
        ### END SOLUTION
        return result(out.reshape(*x.shape[:-1], self.out_features), "int8_linear", x)

    def extra_repr(self):
        size = f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        return f"{size}, inputs={'float' if self.input_scale is None else 'int8'}"


# %%
x_q, w_q, z = np.array([[22, 72]], np.int8), np.array([[3], [-2]], np.int8), -28
print("in two parts:", int8_matmul(x_q, w_q)[0, 0] - z * int(w_q.sum(dtype=np.int64)))

linear, x = Linear(768, 3072, rng=0), Tensor(np.maximum(randn(64, 768, rng=1).numpy(), 0))  # as after a relu
high = float(x.numpy().max())
for name, layer in {
    "float inputs": QuantizedLinear.from_linear(linear),
    "int8 inputs, 0 to largest": QuantizedLinear.from_linear(linear, (0, high)),
    "int8 inputs, as if symmetric": QuantizedLinear.from_linear(linear, (-high, high)),
    "int8 inputs, range ten times too wide": QuantizedLinear.from_linear(linear, (0, 10 * high)),
    "int8 inputs, a third of the range": QuantizedLinear.from_linear(linear, (0, high / 3)),
}.items():
    error = np.sqrt(np.mean((layer(x).numpy() - linear(x).numpy()) ** 2)) / linear(x).numpy().std()
    print(f"{name:38} error {error:7.2%}")

# %% [markdown]
"""
The last two lines are the subject of calibration: a range too wide wastes bits, one too narrow cuts off what matters.

## Tables

An embedding is a table of rows, and a row becomes floats when it is looked up. Here every *row* has a scale, so that a
common word with a long vector does not coarsen a rare one. In a GPT the same table also makes the logits, as `x @ table.T`:
there rows become columns, and the scales are again one per output.

**Write `__getitem__`**: the bytes of the rows asked for, times the scales of the same rows. `rows` may be a slice or
an array of any shape.

If row 3 holds the bytes `[127, -64]` and its scale is 0.01, then `table[np.array([3])]` is `[[1.27, -0.64]]`.

<details><summary>Hint 1</summary>

One line. Index first: multiplying the whole table and then indexing would make floats of all rows.
</details>
<details><summary>Hint 2</summary>

The scales are (V, 1), and so is what an index takes out of them, in the last axis: it broadcasts against the rows.
</details>
<details><summary>Hint 3</summary>

`self.q[rows]` and `self.scale[rows]`; int8 times float32 is float32.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "quantization-embedding", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class QuantizedEmbedding(Module):
    """A table of vectors in bytes, one scale per row; a row becomes floats when it is looked up.

    q       (V, E)  int8, symmetric
    scale   (V, 1)  float32

    Stands in for an `Embedding`, and, by `shape` and `[...]`, for the table of a `PositionalEncoding`.
    """

    def __init__(self, table):
        table = floating(table)
        if table.ndim != 2:
            raise ValueError(f"QuantizedEmbedding needs a table (V, E), got shape {table.shape}")
        self.q, self.scale, _ = quantize_int8(table, symmetric=True, axis=0)

    @classmethod
    def from_embedding(cls, embedding: Embedding) -> "QuantizedEmbedding":
        """The same table in bytes; `embedding` stays as it is."""
        return cls(embedding.weight)

    @property
    def shape(self):
        return self.q.shape

    @property
    def vocab_size(self):
        return self.q.shape[0]

    @property
    def embed_dim(self):
        return self.q.shape[1]

    @property
    def weight(self) -> Tensor:
        """All of the table in floats, made anew each time it is asked for."""
        return self[:]

    def __getitem__(self, rows) -> Tensor:
        """Some rows in floats: `rows` is a slice, or an array of integers of any shape."""
        ### BEGIN SOLUTION
        out = self.q[rows] * self.scale[rows]
        ### END SOLUTION
        return result(out, "quantized_embedding")

    def forward(self, tokens) -> Tensor:
        """(...) integers -> (..., embed_dim)"""
        return self[_token_ids(tokens, self.vocab_size)]

    def extra_repr(self):
        return f"vocab_size={self.vocab_size}, embed_dim={self.embed_dim}"


# %%
embedding = Embedding(1000, 64, rng=0)
table = QuantizedEmbedding.from_embedding(embedding)
tokens = np.array([[3, 141, 59]])
error = np.abs(table(tokens).numpy() - embedding(tokens).numpy()).max()
print(f"{embedding.weight.data.nbytes:,} -> {table.q.nbytes + table.scale.nbytes:,} bytes; largest error {error:.5f}")

# %% [markdown]
"""
## Calibration

The range of a weight can be looked up. The range of an input cannot: it depends on the data. So run the model on a few
batches of typical data, before it is quantized, and watch what every layer is given. That is calibration.

The simplest observer keeps the smallest and the largest value. It has one weakness, which you can name by now: a single
freak value stretches the ruler for all. A remedy is to cut off a small share, say one value in a thousand at each end; it is
clipped, and all others get a finer ruler. That takes percentiles, and percentiles of a stream of batches that one does not
want to store. So count, in bins of equal width. When a value comes that lies beyond the last bin, make all bins twice as wide:
two old bins are one new bin exactly, and nothing that was counted is lost.

```
   -reach                  0                  reach              8 bins here, 2,048 in the code
     |  1 |  0 |  2 |  5  |  6 |  1 |  1 |  0 |
       +----+    +----+    +----+    +----+                        a value at 1.2 reach arrives: pairs merge
     |    |    |  1 |  7  |  7 |  1 |    |    |
  -2 reach                 0               2 reach              and goes into the last but one bin
```

**Write the two blanks of `Observer`.** In `see`: merge the bins in pairs, put them into the middle, double `reach`. In
`range`: from the cumulated share of the counts find the first bin in which it rises above `1 - percentile / 100`, and the
first in which it reaches `percentile / 100`; return the left edge of the one and the right edge of the other, but
nothing outside of what was really seen.

10,000 numbers evenly from -1 to 1 and a single 1000, with percentile 99: about -0.98 to 0.98, to the width of a bin.

<details><summary>Hint 1</summary>

`counts[0::2] + counts[1::2]` merges pairs. There are `half` of them, and as many places in the middle, from `half // 2`.
</details>
<details><summary>Hint 2</summary>

`share = counts.cumsum() / counts.sum()` never falls, so `np.searchsorted` finds where a value would stand in it;
`side="right"` finds the first that is *larger*, the default the first that is not smaller.
</details>
<details><summary>Hint 3</summary>

Bin i lies between `edges[i]` and `edges[i + 1]` of `np.linspace(-reach, reach, bins + 1)`. Then `max(self.low, ...)` and
`min(self.high, ...)`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "quantization-observer", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class Observer:
    """Sees arrays go by and says what range their values keep to.

    name         what messages call it
    percentile   None: from the smallest value to the largest. Otherwise the range from the (100 - percentile)-th to the
                 percentile-th percentile of all values seen, to the width of a bin

    counts   how many values fell into each of 2,048 bins of equal width from -reach to reach. When a value lies
             beyond, reach doubles and the bins merge in pairs, so that nothing already counted is lost
    """

    def __init__(self, percentile: float | None = None, name: str = "Observer"):
        if percentile is not None and not 50 < percentile <= 100:
            raise ValueError(f"Observer needs a percentile above 50 and up to 100, got {percentile}")
        self.percentile = percentile
        self.name = name
        self.low, self.high = np.inf, -np.inf
        self.counts = np.zeros(2048, np.int64)
        self.reach = 2.0**-100

    def see(self, values):
        """Take in an array of any shape. Raises ValueError if one of its numbers is NaN or infinite."""
        values = values.data if isinstance(values, Tensor) else np.asarray(values)
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(low) or not np.isfinite(high):
            raise ValueError(f"calibration: {self.name} saw numbers that are not finite, from {low} to {high}")
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.percentile is None:
            return
        half = len(self.counts) // 2
        while self.reach <= max(-low, high):
            ### BEGIN SOLUTION
            pairs = self.counts[0::2] + self.counts[1::2]
            self.counts[:] = 0
            self.counts[half // 2 : half // 2 + half] = pairs
            self.reach *= 2
            ### END SOLUTION
        self.counts += np.histogram(values.astype(np.float64), len(self.counts), (-self.reach, self.reach))[0]

    def range(self) -> tuple[float, float]:
        """(low, high), for `scale_and_zero_point`. Raises ValueError if nothing was seen."""
        if self.low > self.high:
            raise ValueError(f"calibration: {self.name} saw nothing; give it batches with something in them")
        if self.percentile is None:
            return self.low, self.high
        ### BEGIN SOLUTION
        share = self.counts.cumsum() / self.counts.sum()
        first = np.searchsorted(share, 1 - self.percentile / 100, side="right")
        last = np.searchsorted(share, self.percentile / 100)
        edges = np.linspace(-self.reach, self.reach, len(self.counts) + 1)
        return max(self.low, float(edges[first])), min(self.high, float(edges[last + 1]))
        ### END SOLUTION


def _plain(layer, kind):
    """Whether `layer` is a `kind` that computes what a `kind` computes."""
    return isinstance(layer, kind) and type(layer).forward is kind.forward


def _batches(data):
    """The inputs in `data`, one after the other."""
    if isinstance(data, (Tensor, np.ndarray)):
        data = [data]
    if not isinstance(data, Iterable):
        raise TypeError(f"calibration needs batches of inputs, got {type(data).__name__}")
    for batch in data:
        x = batch[0] if isinstance(batch, tuple) else batch  # a loader's (inputs, labels)
        yield as_tensor(x) if isinstance(x, np.ndarray) else x


def calibrate(model, data, percentile: float | None = None) -> dict:
    """Run the model on batches and watch what every linear layer is given: {name of the layer: its `Observer`}.

    data   one tensor, or tensors one after the other, or a loader; of tuples the first element is the input

    The model is in eval mode meanwhile, and afterwards as before. Raises ValueError if a layer saw nothing, or saw
    anything that is not finite.
    """
    layers = [thing for _, thing in walk(model) if isinstance(thing, Module)]
    modes = [layer.training for layer in layers]
    observers = {name: Observer(percentile, f"layer {name!r}") for name, layer in walk(model) if _plain(layer, Linear)}
    hooks = []
    try:
        for name, layer in walk(model):
            if name in observers:
                see = observers[name].see
                hooks.append(layer.register_forward_hook(lambda _, inputs, out, see=see: see(inputs[0])))
        for layer in layers:
            layer.training = False
        with no_grad():
            for batch in _batches(data):
                model(batch)
    finally:
        for hook in hooks:
            hook.remove()
        for layer, mode in zip(layers, modes):
            layer.training = mode
    idle = [repr(name) for name, observer in observers.items() if observer.low > observer.high]
    if idle:
        raise ValueError(f"calibration: no data reached layer {', '.join(idle)}; give it batches that do")
    return observers


# %%
typical = train[:200][0]
figure, axes = plt.subplots(1, 3, figsize=(10, 2.8), layout="constrained")
for axis, (name, observer) in zip(axes, calibrate(reader, typical, percentile=99.9).items()):
    edges = np.linspace(-observer.reach, observer.reach, len(observer.counts) + 1)
    axis.stairs(observer.counts, edges, fill=True)
    for bound in observer.range():
        axis.axvline(bound, color="black", linewidth=1)
    axis.set(title=f"into layer {name}", yscale="log", xlim=(observer.low - 0.2, observer.high + 0.2))
    cut = observer.range()
    print(
        f"into layer {name}: from {observer.low:.2f} to {observer.high:.2f}; 99.9 % from {cut[0]:.2f} to {cut[1]:.2f}"
    )
plt.show()

# %% [markdown]
"""
All that these layers see is on one side of 0, ink and relus: an asymmetric ruler uses every mark. And behind a relu there
is the long thin tail that percentiles are about. (The pictures count on a logarithmic scale; on an ordinary one you would
not see the tail at all.)

## A whole model

`quantize_model` returns a *new* model. It must find layers wherever they are, replace each once, copy all the rest,
keep shared things shared, and leave the old model alone, weights and modes and all. It sounds like a lot of code. But
finding is `walk`, from module 03, and Python's `copy.deepcopy` does the rest: it keeps a dictionary, from the `id` of an old
object to its copy, to copy nothing twice. Whatever we put into that dictionary beforehand is taken instead of a copy:

```
   walk(model)   ->   new = {id(old Linear): QuantizedLinear, ...}   ->   copy.deepcopy(model, new)
```

So the floats of the replaced layers are not even copied.

**Write the loop of `quantize_model`.** `_plain(layer, kind)` tells whether something is a layer of that kind (and not a
subclass that computes something else). A `Linear` becomes a `QuantizedLinear` with the range for its name, if there is
one; two layers with the same weight tensor share q and scale. An `Embedding` becomes a `QuantizedEmbedding`. Of a
`PositionalEncoding`, the *tensor* `position_embeddings` is replaced by a `QuantizedEmbedding`, which answers to `shape` and
`[...]` as the tensor did; the layer itself is copied and notices nothing.

**Write `model_size`**, the honest one: walk the model, and add up `nbytes` of every array there is, whoever holds it, each
piece of memory once. `_memory(array)` is the array that owns the memory of a view.

`model_size(Linear(10, 5))` is `4 * (50 + 5) = 220`; quantized, `50 + 4 * (5 + 5) = 90`.

<details><summary>Hint 1</summary>

`new[id(layer)] = QuantizedLinear.from_linear(layer, ranges.get(name))` is nearly the first case; `get` returns None where
nothing was calibrated.
</details>
<details><summary>Hint 2</summary>

`first.setdefault(id(layer.weight), made)` returns what is filed under this weight already, or files `made` and returns it.
</details>
<details><summary>Hint 3</summary>

In `model_size` a dictionary from `id(owner)` to `owner.nbytes` counts each owner once; the answer is the sum of its
values. What `walk` finds may be a tensor (look at its `data`), an array, or something else.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "quantization-model", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def quantize_model(model, calibration_data=None, percentile: float | None = None, bits: int = 8):
    """A new model with the weights of `model` in int8, for inference. `model` itself stays as it is.

    Every `Linear` becomes a `QuantizedLinear`, every `Embedding` and table of places a `QuantizedEmbedding`, wherever
    they are: in attributes, lists, tuples, dicts, layers inside layers. All else is copied; subclasses with a forward
    of their own are, too.

    calibration_data   batches of inputs, as `calibrate` takes them: the inputs of linear layers become int8 as well
    percentile         how much of the inputs the range must hold, in percent; None: all that calibration saw

    The new model is in eval mode and its parameters are frozen. Raises ValueError if there is nothing to quantize.
    """
    _eight("quantize_model", bits)
    if calibration_data is None and percentile is not None:
        raise ValueError("quantize_model: a percentile is of inputs, which need calibration_data")
    ranges = {}
    if calibration_data is not None:
        observers = calibrate(model, calibration_data, percentile)
        ranges = {name: observer.range() for name, observer in observers.items()}
    new = {}  # from the id of a part of the old model to what takes its place
    first = {}  # from the id of a weight to the first layer made of it: layers that share one go on sharing
    for name, layer in walk(model):
        ### BEGIN SOLUTION
        if _plain(layer, Linear):
            made = QuantizedLinear.from_linear(layer, ranges.get(name))
            shared = first.setdefault(id(layer.weight), made)
            made.q, made.scale = shared.q, shared.scale
            new[id(layer)] = made
        elif _plain(layer, Embedding):
            new[id(layer)] = QuantizedEmbedding.from_embedding(layer)
        elif _plain(layer, PositionalEncoding):
            new[id(layer.position_embeddings)] = QuantizedEmbedding(layer.position_embeddings)
        ### END SOLUTION
    if not new:
        raise ValueError(f"quantize_model found no Linear and no Embedding in this {type(model).__name__}")
    quantized = copy.deepcopy(model, new)  # what `new` knows is not copied but replaced
    for _, thing in walk(quantized):
        if isinstance(thing, Module):
            thing.training = False
        elif _is_parameter(thing):
            thing.requires_grad = False
    return quantized


def model_size(model) -> int:
    """The bytes of all arrays that `model` holds, in parameters, buffers or anything else; shared memory counts once.

    Gradients do not count.
    """
    ### BEGIN SOLUTION
    held = {}
    for _, thing in walk(model):
        array = thing.data if isinstance(thing, Tensor) else thing
        if isinstance(array, np.ndarray):
            owner = _memory(array)
            held[id(owner)] = owner.nbytes
    return sum(held.values())
    ### END SOLUTION


# %%
def report(name, before, after, score, unit):
    """One line: what the model scores, and how many bytes it holds."""
    size = model_size(after)
    print(f"{name:22} {score:8.3f} {unit}   {size:9,} bytes, {size / model_size(before):.4f} of float32")


report("digits, float32", reader, reader, accuracy(reader), "% right")
report("int8 weights", reader, quantize_model(reader), accuracy(quantize_model(reader)), "% right")
for percentile in (None, 99.9):
    quantized = quantize_model(reader, typical, percentile)
    report(f"and inputs, {percentile or 100} %", reader, quantized, accuracy(quantized), "% right")

spoiled = Tensor(typical.numpy().copy())
spoiled.data[0, 0, 0, 0] = 1000.0  # one broken pixel among 12,800
for percentile in (None, 99.9):
    quantized = quantize_model(reader, spoiled, percentile)
    report(f"broken pixel, {percentile or 100} %", reader, quantized, accuracy(quantized), "% right")

# %% [markdown]
"""
The held-out digits are few, and one of them more or less is no news. But one broken pixel in the calibration data, and
with the smallest-and-largest ruler the model is blind: all ink lies within the first step. The percentile does not
notice.

Now a language model. It is small and learns a short tale by heart, which is enough to have something to lose. The measure is
*perplexity*, e to the mean cross-entropy: among how many equally likely letters the model hesitates.
"""

# %%
TALE = """In the valley there was a mill, and by the mill there was a river, and in the river there lived an old fish. Every
morning the miller came to the bank and asked the fish what the weather would be. Every morning the fish said: look up,
and you will know as much as I do. So the miller looked up, saw the clouds over the hill, and knew. One winter the river
froze. The miller came to the bank and asked the ice what the weather would be, and the ice said nothing. Then the
miller looked up, saw the clouds over the hill, and knew, and understood what the fish had been telling him."""

manual_seed(0)
tokenizer = CharTokenizer()
tokenizer.build_vocab([TALE])
ids, T = np.array(tokenizer.encode(TALE)), 32
writer = GPT(tokenizer.vocab_size, embed_dim=96, num_layers=1, num_heads=4, max_seq_len=T)
optimizer = Adam(writer.parameters(), lr=3e-3)
rng = np.random.default_rng(0)
for _ in range(160):
    window = ids[rng.integers(0, len(ids) - T, 8)[:, None] + np.arange(T + 1)]
    optimizer.zero_grad()
    cross_entropy(writer(window[:, :-1]), window[:, 1:]).backward()
    optimizer.step()

windows = np.stack([ids[start : start + T + 1] for start in range(0, len(ids) - T, T)])


@no_grad()
def perplexity(model):
    """Among how many letters the model hesitates, over the tale."""
    return float(np.exp(cross_entropy(model(windows[:, :-1]), windows[:, 1:]).item()))


before = perplexity(writer)
report("GPT, float32", writer, writer, before, "perplexity")
for name, options in {
    "int8 weights": {},
    "and inputs": {"calibration_data": windows[:, :-1]},
    "and inputs, 99.99 %": {"calibration_data": windows[:, :-1], "percentile": 99.99},
}.items():
    quantized = quantize_model(writer, **options)
    report(name, writer, quantized, perplexity(quantized), "perplexity")
    print(f"{'':22} {perplexity(quantized) / before - 1:+8.3%}")
print(tokenizer.decode(quantize_model(writer).generate(tokenizer.encode("Every morning"), 60, temperature=0)))

# %% [markdown]
"""
Why a little above a quarter? Every output keeps a scale and a bias of 4 bytes each, and the norms stay floats. For a
column of n weights that is `(n + 8) / (4 n + 4)`: the wider the layer, the closer to 0.25.

A file becomes shorter as well: the arrays are ordinary buffers, so `state_dict`, `save` and `load` of module 07 know
what to do. To read such a file, quantize a fresh model of the same sizes, and load into that.

## What it costs, and what it gains

Memory is a quarter, that is settled. And time? Let us be honest about it: measure a layer of GPT-2's size, and one too large
for any cache, for one input and for 64.
"""


# %%
def timings(K, M, batch):
    """Milliseconds for a layer (K, M) in four forms."""
    weight = np.random.default_rng(0).standard_normal((K, M), np.float32)
    floats, whole = Linear(1, 1, bias=False), QuantizedLinear(Tensor(weight))
    floats.weight.data = weight
    integers = QuantizedLinear(Tensor(weight), input_range=(-4, 4))
    x = randn(batch, K, rng=1)
    forms = {
        "float32": lambda: floats(x),
        "all floats at once": lambda: x @ whole.weight,
        "block by block": lambda: whole(x),
        "int8 inputs too": lambda: integers(x),
    }
    with no_grad():
        return {name: 1e3 * time_of(form, 4) for name, form in forms.items()}


print(
    f"{'':24}",
    "  ".join(f"{name:>18}" for name in ("float32", "all floats at once", "block by block", "int8 inputs too")),
)
for K, M in ((768, 3072), (2048, 8192)):
    for batch in (1, 64):
        found = timings(K, M, batch)
        print(f"{K} x {M}, batch {batch:2}".ljust(24), "  ".join(f"{ms:15.2f} ms" for ms in found.values()))

# %% [markdown]
"""
Look at the first row. Our layer reads a quarter of the bytes, and then spends its time on turning them into floats: one
conversion per weight, for one multiplication. On most machines that loses more than it gains, and most where the floats
would have fitted into a cache. With 64 inputs each converted block is used 64 times, and the conversion nearly
disappears beside the product; but the product is as long as before. Making all floats at once is worst for one input,
since all of them go to main memory and back. Bytes for inputs add work of their own, and no instruction is faster for
it.

So in NumPy, int8 is for *memory*: a model four times as large fits. What would a program gain that multiplies bytes
directly, as the libraries for phones and servers do? For one input, each weight is fetched from memory, used in
one multiplication, and not looked at again. The processor waits for memory nearly all the time, so the time is the
bytes divided by the speed of memory:
"""

# %%
source = np.ones(2**24, np.float32)
target = np.empty_like(source)
speed = 2 * source.nbytes / time_of(lambda: np.copyto(target, source))  # every byte is read and written
print(f"this machine moves {speed / 1e9:.1f} GB/s between memory and processor")
print(f"{'reading all weights once, for one token:':44} float32      int8")
for name, weights in {
    "GPT-2 small, 124 million": 124e6,
    "GPT-2 XL, 1.5 billion": 1.5e9,
    "GPT-3, 175 billion": 175e9,
}.items():
    print(f"{name:42}", "  ".join(f"{1e3 * size * weights / speed:6,.0f} ms" for size in (4, 1)))
bytes_per_second = (lambda q, block: q.size / time_of(lambda: np.copyto(block, q)))(
    np.ones((1024, 1024), np.int8), np.empty((1024, 1024), np.float32)
)
print(f"NumPy turns {bytes_per_second / 1e9:.1f} billion bytes per second into floats, in the cache")

# %% [markdown]
"""
Four times fewer bytes, four times less time: that is the gain of a real kernel for one token at a time, and it comes from
the memory, not from faster arithmetic. For large batches the arithmetic decides, and there processors and GPUs
with int8 instructions do two to four times as many multiplications per second as in float32. NumPy reaches neither.

## All together
"""

# %%
q, scale, zero_point = quantize_int8(Tensor([-1.0, 0.0, 0.5, 2.0, 4.1]))
assert q.dtype == np.int8
assert q.tolist() == [-128, -78, -53, 22, 127]
assert np.abs(dequantize_int8(*quantize_int8(Tensor([5.0, 6.0]))).numpy() - [5, 6]).max() < 6 / 255 / 2

a, b = (np.random.default_rng(seed).integers(-128, 128, (2000, 2000)).astype(np.int8)[:8] for seed in (1, 2))
assert np.array_equal(int8_matmul(a, b.T.copy()), a.astype(np.int32) @ b.T.astype(np.int32))

state = reader.state_dict()
for model, data, score, worse in (
    (reader, typical, accuracy, lambda now, then: now > then - 0.5),
    (writer, windows[:, :-1], perplexity, lambda now, then: now < 1.02 * then),
):
    for quantized in (quantize_model(model), quantize_model(model, data)):
        assert worse(score(quantized), score(model))
        assert model_size(quantized) <= 0.27 * model_size(model)
assert all(np.array_equal(array, state[name]) for name, array in reader.state_dict().items())

again = quantize_model(Sequential(*copy.deepcopy(reader).layers))
again.load_state_dict(quantize_model(reader).state_dict())
assert np.array_equal(again(images).numpy(), quantize_model(reader)(images).numpy())
print(quantize_model(reader, typical))

# %% [markdown]
"""
## Questions

**1.** The values of an array go from -0.2 to 1.075, and 0.372 is among them. What are scale, zero point and q of 0.372 with
256 marks? What comes back, and how large could the error have been at most?

<details><summary>Answer</summary>

The scale is 1.275 / 255 = 0.005, the zero point -128 + 0.2 / 0.005 = -88. 0.372 / 0.005 = 74.4, so q = 74 - 88 = -14. Back:
74 * 0.005 = 0.37, off by 0.002. At most half a step, 0.0025.
</details>

**2.** What comes out of a relu goes from 0 to 6. How long is a step with a symmetric ruler, and with an asymmetric
one? How many bits is that worth?

<details><summary>Answer</summary>

6 / 127 = 0.0472 and 6 / 255 = 0.0235: about half. As each bit halves the step, one bit.
</details>

**3.** GPT-3 has 175 billion weights, in matrices with columns of 12,288 numbers and more. How much memory do they take in
float32, in float16, and in int8 with a scale per column? How many accelerators with 80 GB each does that take?

<details><summary>Answer</summary>

700 GB, 350 GB, and 175 GB plus 4 bytes per 12,288, which is 0.03 %: 175.06 GB. That is 9, 5 and 3 accelerators, before
anything else they have to hold. In 4 bits it would be 87.5 GB, and 2.
</details>

**4.** A sum in a layer of GPT-3 has up to 49,152 terms (4 * 12,288). Do the products of int8 fit into int32? Are
they exact if float32 adds them up all at once? In float16, which holds whole numbers up to 2,048?

<details><summary>Answer</summary>

49,152 * 2^14 = 8.05e8, below 2^31 = 2.1e9: they fit. In one float32 sum they may not: exact up to 2^24, which is 1,024
terms in the worst case. In float16 not even a single product is: 2^14 = 16,384 is above 2,048 already. That is why
hardware that multiplies bytes adds in int32.
</details>

**5.** Somebody quantizes a chat model, and calibrates on English prose. Users then paste program code into it. What may
happen, with smallest-and-largest and with a 99.9 % range? Does it concern a model with int8 weights and float inputs?

<details><summary>Answer</summary>

Layers see values that calibration never saw. Whatever lies beyond the range is clipped, to the largest value of English
prose, and nothing reports it: answers get worse, for code only. With the 99.9 % range, which is narrower, it starts
earlier. With float inputs nothing is calibrated and nothing can be clipped; that, and needing no data, is why
int8 weights alone are the usual first step.
</details>
"""
