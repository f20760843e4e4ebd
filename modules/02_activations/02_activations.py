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
# 02 · Activations: the bend between two layers

| | |
|---|---|
| **You have** | tensors and their operations (module 01) |
| **You will build** | relu, leaky relu, sigmoid, tanh, softplus, silu, gelu, softmax and log-softmax, and a small class for each |
| **You will be able to** | say why a network without a bend is a single layer in disguise, write functions that survive any number you feed them, and tell what an activation costs in time and memory |

Needs module 01. Exports `core/activations.py`. Easy to medium; about two hours.

```
        numbers in        a bend, element by element       shares of a row
   x = [-2.0  0.5  3.0]   relu(x) = [0.0  0.5  3.0]     softmax(x) = [0.006 0.075 0.918]
           ______                 ____/                      e^x
          |layer | -------------> bend ------------------> ------- ---> probabilities
          |______|                                         sum e^x
                      between any two layers              at the very end
```

Two families: functions that look at one number at a time and bend the line (all but the last two), and softmax, which
looks at a whole row and turns it into shares. Each is a few lines of NumPy. What takes thought is the far ends: what
happens at -10000, at 10000, at minus infinity? A network reaches such numbers sooner than one would like.
"""

# %%
#| default_exp core.activations

# %%
#| export
"""Activations: the bend between two layers.

Each is a free function on tensors of any shape and a thin class over it. All are safe from -inf to large numbers: what
would overflow is never computed, or is known to end in the right limit. What the gradient rules of module 05 need is
saved once, usually the output itself.
"""

import math

import numpy as np

from tinytorch.core.tensor import Tensor, floating, normalize_axes, result

# %% [markdown]
"""
The cells that try things out need a little more: a clock, a way to look at warnings, and pictures.
"""

# %%
import time
import tracemalloc
import warnings

import matplotlib.pyplot as plt

from tito import pictures
from tinytorch.core.tensor import manual_seed, randn, set_recorder

# %% [markdown]
"""
## Why bend at all?

A layer multiplies by a matrix. Put two layers in a row and you multiply by two matrices. How much more can the pair do
than one layer? Work it out for these two:

```
          [ 1  2 ]          [ 2  0 ]              [ 2+2  0+2 ]     [ 4  2 ]
   W1  =  [ 0  1 ]   W2  =  [ 1  1 ]   W1 @ W2 =  [ 0+1  0+1 ]  =  [ 1  1 ]
```

`x @ W1 @ W2` is `x @ (W1 @ W2)`: a hundred layers without a bend are one layer with a matrix that somebody could have
multiplied out beforehand. They cost a hundred times as much and can do nothing new: straight lines stay straight,
and XOR stays out of reach (milestone 02 shows it failing).
"""

# %%
W1 = Tensor([[1.0, 2.0], [0.0, 1.0]])
W2 = Tensor([[2.0, 0.0], [1.0, 1.0]])
x = Tensor([[1.0, -1.0], [0.5, 3.0], [-2.0, 1.0]])
print("two layers:\n", (x @ W1 @ W2).data)
print("one layer: \n", (x @ (W1 @ W2)).data)

# %% [markdown]
r"""
Now put the smallest bend between them: replace what is negative by 0. Two such units make `|x|`, which no straight
line does: `max(x, 0) + max(-x, 0)`. Three make a bump that is 0 everywhere except around one place; with enough bumps,
side by side, any curve can be drawn. That is why one bend is enough for everything.

```
   max(x, 0)      max(-x, 0)       sum = |x|            a bump from three bends
        /          \                \     /                  /\
   ____/            \____            \   /              ____/  \____
                                      \ /
```
"""

# %%
places = np.linspace(-3, 3, 601)


def bend(z):
    return np.maximum(z, 0)


bump = bend(places + 1) - 2 * bend(places) + bend(places - 1)
plt.figure(figsize=(6, 2))
plt.plot(places, bend(places) + bend(-places), label="|x| from two bends")
plt.plot(places, bump, label="a bump from three")
plt.legend()
plt.show()

# %% [markdown]
"""
## Relu

That smallest bend is called *rectified linear unit*, relu for short.

**Write `relu`.** Everything negative becomes 0, everything else stays. End with `result(out, "relu", x, out=out)`: the
name announces the operation, and `out=out` saves the output, because the gradient rule of module 05 asks "was it
positive?", and the output knows. Saving an array that exists anyway costs nothing.

`relu(Tensor([-2.0, -0.5, 0.0, 1.5]))` is `Tensor([0., 0., 0., 1.5])`.

<details><summary>Hint 1</summary>

`max(x, 0)`, element by element. The array inside the tensor is `x.data`.
</details>
<details><summary>Hint 2</summary>

`np.maximum(a, b)` takes the larger of two numbers at every place. (`np.max` takes the largest of one array: something
else.)
</details>
<details><summary>Hint 3</summary>

`out` is `np.maximum(x.data, 0)`; the `return` is described above.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "activations-relu", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def relu(x: Tensor) -> Tensor:
    """max(x, 0), element by element; the slope at 0 is 0. (Nair & Hinton 2010)"""
    x = floating(x)
    ### BEGIN SOLUTION
    out = np.maximum(x.data, 0)
    return result(out, "relu", x, out=out)
    ### END SOLUTION


# %%
manual_seed(0)
signal = randn(4, 8)
np.set_printoptions(precision=2, suppress=True)
print(relu(signal).data)
print(f"share of zeros: {(relu(randn(1000, 1000)).data == 0).mean():.3f}")

# %% [markdown]
"""
Half of a centred signal is switched off, each time another half: which units are on depends on the input, and that is
what makes the network more than one matrix.

What goes wrong in practice: a unit whose input is negative for *every* example gives 0 for every example, and its
slope is 0 for every example. No gradient reaches it, so it stays as it is: a dead unit. Large learning rates make many.

## Leaky relu

The repair is to leave a small slope on the negative side, so that a dead unit can find its way back.

**Write `leaky_relu`.** `x` where x is positive, `negative_slope * x` elsewhere. The slope lies between 0 and 1 (that is
checked for you), and there is a way without asking about signs. The array `out` is made for you, and the announcement
is written; two lines fill it.

`leaky_relu(Tensor([-2.0, 3.0]), 0.1)` is `Tensor([-0.2, 3.])`.

<details><summary>Hint 1</summary>

For x = -2 and slope 0.1 the two candidates are -2 and -0.2. For x = 3 they are 3 and 0.3. Which one is right, both
times?
</details>
<details><summary>Hint 2</summary>

The larger one, because the slope is at most 1. The naive form, `np.where(x > 0, x, negative_slope * x)`, is right too
and several times slower when signs are random: the processor guesses badly which side comes next.
</details>
<details><summary>Hint 3</summary>

First the product of x and the slope into `out` (`np.multiply`, with `out=`), then the larger of x and `out` into `out`
(`np.maximum`): reading and writing the same array, element by element, is fine.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "activations-leaky-relu", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, negative_slope * x elsewhere.

    Raises ValueError unless 0 <= negative_slope <= 1. (Maas et al. 2013)
    """
    x = floating(x)
    if not 0 <= negative_slope <= 1:
        raise ValueError(f"leaky_relu needs 0 <= negative_slope <= 1, got {negative_slope}")
    if negative_slope == 0:
        return relu(x)  # 0 * inf is not a number
    out = np.empty_like(x.data)
    ### BEGIN SOLUTION
    np.multiply(x.data, negative_slope, out=out)
    np.maximum(x.data, out, out=out)
    ### END SOLUTION
    return result(out, "leaky_relu", x, negative_slope=negative_slope)


# %%
print(leaky_relu(Tensor([-2.0, -0.5, 0.0, 1.5]), 0.1))

# %% [markdown]
"""
## Sigmoid: any number to a number between 0 and 1

`1 / (1 + e^-x)`. At 0 it is 1/2; at 2 it is 1 / (1 + 0.135) = 0.881; at -2 it is 1 - 0.881 = 0.119. Multiply the
fraction by `e^x` above and below and it reads `e^x / (1 + e^x)`: the same function. The same program? Try both at the
far ends.
"""


# %%
def naive_sigmoid(x):
    return 1 / (1 + np.exp(-x))


def naive_sigmoid_too(x):
    return np.exp(x) / (1 + np.exp(x))


for function in (naive_sigmoid, naive_sigmoid_too):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = function(np.array([-1000.0, -2.0, 0.0, 2.0, 1000.0], np.float32))
    print(f"{function.__name__:18} {values}  {[str(w.message) for w in caught]}")

# %% [markdown]
"""
`e^1000` is more than any float holds (float32 ends at 3.4e38, which is e^88.7), so it becomes `inf`. In the first form
that is the right thing: `1 / inf` is 0, and the sigmoid of -1000 *is* 0 as far as floats can tell. In the second form
`inf / inf` is not a number, and one NaN is enough to turn every weight of a network into NaN within a step. Equal
formulas are not equal programs.

So the first form is right, and its one warning is about something we have thought through. We will need this function
three times, so it gets a helper on arrays.

**Write `_gate(x, out)`.** It fills the array `out` with `1 / (1 + e^-x)`. Compute every step *into* `out`:
`np.exp(a, out=out)` writes there instead of making another array, and `out += 1` does as well. Put the exponential
under `with np.errstate(over="ignore"):`, which silences that one warning inside the block. Nothing is returned.

After `out = np.empty(2)` and `_gate(np.array([0.0, 2.0]), out)`, `out` is `array([0.5, 0.8808])`.

<details><summary>Hint 1</summary>

Four steps: minus, exponential, plus one, one over it.
</details>
<details><summary>Hint 2</summary>

`np.negative`, `np.exp`, `+=`, `np.reciprocal`.
</details>
<details><summary>Hint 3</summary>

The first reads x, all others read `out`, and all write `out` (`out=out`). Only the exponential stands inside the
`with`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "activations-gate", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _gate(x, out):
    """Fill the array `out`, which may be x itself, with 1 / (1 + e^-x): from 0 far left to 1 far right."""
    ### BEGIN SOLUTION
    np.negative(x, out=out)
    with np.errstate(over="ignore"):  # e^-x beyond the largest number is inf, and 1 / inf is the 0 it should be
        np.exp(out, out=out)
    out += 1
    np.reciprocal(out, out=out)
    ### END SOLUTION


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x): from 0 far left through 1/2 at 0 to 1 far right."""
    x = floating(x)
    out = np.empty_like(x.data)
    _gate(x.data, out)
    return result(out, "sigmoid", x, out=out)


def tanh(x: Tensor) -> Tensor:
    """(e^x - e^-x) / (e^x + e^-x): from -1 through 0 to 1. A sigmoid stretched and centred: 2 sigmoid(2x) - 1."""
    x = floating(x)
    out = np.tanh(x.data)
    return result(out, "tanh", x, out=out)


# %%
x = Tensor([-1e4, -2.0, 0.0, 2.0, 1e4])
print(sigmoid(x))
print(tanh(x))
print(2 * sigmoid(2 * x) - 1)

# %% [markdown]
"""
Sigmoid is how a network says "yes, with probability 0.88". `tanh`, given here because NumPy has it, is the same curve
centred on 0.

### Why nobody stacks them any more

Learning follows slopes: to know how the first layer should change, the slopes of all bends behind it are multiplied.
The sigmoid's slope is `s (1 - s)`, which is 1/4 at its steepest, in the middle. Ten sigmoids in a row multiply the
signal for the first layer by at most (1/4)^10, a millionth. And further out it is worse: the curve is flat there. It
is *saturated*.

Do not believe it, measure it: push a number through ten bends, push it again moved by a little, and compare.
"""


# %%
def through(function, x, depth):
    for _ in range(depth):
        x = function(x)
    return x


def slope(function, at, depth=1, step=1e-5):
    above, below = (through(function, Tensor([at + d], dtype=np.float64), depth).item() for d in (step, -step))
    return (above - below) / (2 * step)


print("slope of one bend at x =    0         2         5        10")
for function in (sigmoid, tanh, relu, leaky_relu):
    row = [slope(function, at if at else 1e-3) for at in (0.0, 2.0, 5.0, 10.0)]
    print(f"{function.__name__:20}", "".join(f"{value:10.6f}" for value in row))
print("\nslope of ten bends in a row, at 0.5")
for function in (sigmoid, tanh, relu, leaky_relu):
    print(f"{function.__name__:20} {slope(function, 0.5, depth=10):10.2e}")

# %% [markdown]
"""
A relu passes the whole signal or nothing; a chain of open ones loses none of it. That is why deep networks became
trainable when relu replaced the sigmoid between layers.

## Softplus: a relu with a round corner

`log(1 + e^x)` bends like a relu without the corner, and its slope is exactly the sigmoid. Where will it break? `e^x`
overflows at 89 in float32, and the answer there should be plain `x`. This time the overflow does not end well:
`log(inf)` is `inf`.

Pull the larger part out of the logarithm before exponentiating. For positive x,

```
   log(1 + e^x)  =  log(e^x (e^-x + 1))  =  x + log(1 + e^-x)
```

and for negative x it is `0 + log(1 + e^x)` as it stands. Both at once: `max(x, 0) + log(1 + e^-|x|)`. The exponential
is never larger than 1. At x = 3: 3 + log(1.0498) = 3.0486.

**Write `softplus`**, into the array `out`. There is one more trap: for x = -20, `e^-20` is 2e-9, and in float32
`1 + 2e-9` is 1, whose logarithm is 0. `np.log1p(z)` computes `log(1 + z)` without that rounding.

`softplus(Tensor([-1000.0, 0.0, 3.0, 1000.0]))` is `Tensor([0., 0.6931, 3.0486, 1000.])`.

<details><summary>Hint 1</summary>

Step by step into `out`: the absolute value, minus it, the exponential, `log1p`; then add the relu of x.
</details>
<details><summary>Hint 2</summary>

`np.abs`, `np.negative`, `np.exp`, `np.log1p`: the first reads `x.data`, the others `out`, and all have `out=out`.
</details>
<details><summary>Hint 3</summary>

The last line adds `np.maximum(x.data, 0)` to `out` in place.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "activations-softplus", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), a relu with a round corner; its slope is the sigmoid."""
    x = floating(x)
    out = np.empty_like(x.data)
    ### BEGIN SOLUTION
    np.abs(x.data, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)  # e^-|x| is at most 1
    np.log1p(out, out=out)
    out += np.maximum(x.data, 0)
    ### END SOLUTION
    return result(out, "softplus", x, out=out)


# %%
print(softplus(Tensor([-1000.0, -20.0, 0.0, 3.0, 1000.0])).data.tolist())
print("slope at 2:", slope(softplus, 2.0), "sigmoid at 2:", sigmoid(Tensor([2.0], dtype=np.float64)).item())

# %% [markdown]
"""
## Gates: silu and gelu

A relu multiplies x by 0 or by 1, and jumps between the two at 0. Why not let the factor slide? `x * sigmoid(x)` is
called silu (or swish). Gelu, which GPT-2 uses, multiplies x by the share of a normal distribution that lies below x;
in the form everyone computes,

```
   gelu(x) = x * (1 + tanh(u)) / 2         u = sqrt(2 / pi) * (x + 0.044715 x^3)
```

You know that `(1 + tanh(u)) / 2` is a sigmoid: `sigmoid(2 u)`. So both are `x * gate`.
At x = 1: u = 0.7979 * 1.0447 = 0.8336, the gate is sigmoid(1.667) = 0.8412, and so is gelu(1).

The far ends again. At -inf the gate is 0, and `0 * -inf` is not a number, though the answer should be 0. Beyond -1000
the gate is 0 anyhow, so replacing everything below -1000 by -1000 changes no result: `0 * -1000` is 0. That is the
constant `_FAR`. For gelu there is also `x^3`, which overflows at 7e12 in float32. It may: the gate of infinity is 1, as
it is out there.

Why save the gate and not the output? Because the rule in module 05 needs it: the slope of `x * gate` is
`gate + x * (slope of the gate)`, and the slope of the gate follows from the gate itself.
"""

# %%
#| export
_FAR = 1000.0  # so far from 0 that every gate here is exactly 0 or 1, in float64 too

# %% [markdown]
"""
One thing about memory first, because these functions go over their arrays ten times. A large array does not fit into
the processor's cache, and then every pass fetches all of it from memory again. The remedy is to do *all* passes on a
small piece before going on to the next piece:

```
   ten passes over the whole          |-----------------------------------|   fetched ten times
   ten passes over each piece         |----|----|----|----|----|----|----|    each piece fetched once
```

`_pieces` (given) cuts arrays of one shape into such pieces, side by side. What you write below works on one piece; you
need not know how large it is. How much is won is measured at the end of the lesson.
"""


# %%
#| export
_PIECE = 262144  # numbers: a megabyte in float32, about what a core has as a cache of its own


def _pieces(*arrays, axis=None):
    """The arrays, all of one shape, side by side in pieces that fit into a core's cache: a list of tuples of views.

    axis   not to be cut, counted from the end; for -1 the pieces are whole rows (n, C), for any other there is a single
           piece, the arrays as they are

    Arrays that are to be written to must be contiguous: the pieces of others are copies.
    """
    if arrays[0].size <= _PIECE or axis not in (None, -1):
        return [arrays]
    row = () if axis is None else arrays[0].shape[-1:]
    flat, step = [array.reshape(-1, *row) for array in arrays], max(1, _PIECE // math.prod(row))
    return [tuple(array[i : i + step] for array in flat) for i in range(0, len(flat[0]), step)]


# %% [markdown]
"""
**Write `_silu`**, which fills the arrays `out` and `gate` from the array x: `gate` with `_gate`, then `out` with x cut
below at `-_FAR`, multiplied by the gate in place. `silu` itself is written: it makes the arrays, hands you their pieces
and announces.

`silu(Tensor([-np.inf, 0.0, 2.0]))` is `Tensor([-0., 0., 1.7616])`.

<details><summary>Hint 1</summary>

2 * 0.8808 = 1.7616. Only the lower side needs cutting: at +inf, `1 * inf` is the right answer.
</details>
<details><summary>Hint 2</summary>

Cutting below is `np.maximum` of x and `-_FAR`, with `out=out`.
</details>
<details><summary>Hint 3</summary>

Three lines: `_gate` from x into `gate`; the cut; and `out` times the gate in place.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "activations-silu", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _silu(x, out, gate):
    """Fill `gate` with sigmoid(x) and `out` with x * sigmoid(x); all three are arrays."""
    ### BEGIN SOLUTION
    _gate(x, gate)
    np.maximum(x, -_FAR, out=out)  # 0 * -inf is not a number, 0 * -1000 is 0
    out *= gate
    ### END SOLUTION


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x), also called swish. (Elfwing et al. 2017; Ramachandran et al. 2017)"""
    x = floating(x)
    out, gate = np.empty_like(x.data, order="C"), np.empty_like(x.data, order="C")
    for piece in _pieces(x.data, out, gate):
        _silu(*piece)
    return result(out, "silu", x, gate=gate)


# %% [markdown]
"""
**Write `_gelu`**, which fills the same two arrays. `out` begins as x cut below at `-_FAR`, as for silu. The gate is
`1 / (1 + e^(-2 u))`, and its exponent, with `c = 2 * sqrt(2 / pi)`, is

```
   -2 u  =  -c * (x + 0.044715 x^3)  =  x * (-0.044715 c * x * x - c)
```

which is written that way for speed: never `x**3`, for NumPy's general power is many times slower than two products
(measured below), and with the minus among the constants no pass over the array is spent on it. Work inside the two
arrays: `gate` holds one thing after the other until it is the gate, and then `out` is multiplied by it. All up to the
exponential goes under `np.errstate`, as in `_gate`.

`gelu(Tensor([-1.0, 0.0, 1.0]))` is `Tensor([-0.1588, 0., 0.8412])`.

<details><summary>Hint 1</summary>

After the cut, the product of `out` with itself goes into `gate` (`np.multiply`), to be changed in place.
</details>
<details><summary>Hint 2</summary>

Times `-0.044715 * c`, minus `c`, times `out`: three lines, and `gate` is `-2 u`.
</details>
<details><summary>Hint 3</summary>

After those: `np.exp` of `gate`, into `gate`; plus 1; `np.reciprocal`; and `out` times `gate`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "activations-gelu", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _gelu(x, out, gate):
    """Fill `gate` with sigmoid(2 u), u = sqrt(2 / pi) * (x + 0.044715 x^3), and `out` with x * gate; all are arrays."""
    ### BEGIN SOLUTION
    c = 2 * math.sqrt(2 / math.pi)
    np.maximum(x, -_FAR, out=out)  # 0 * -inf is not a number, 0 * -1000 is 0
    with np.errstate(over="ignore"):  # where x^3 or e^-2u are infinite, the gate is 1 or 0, as it should be
        np.multiply(out, out, out=gate)
        gate *= -0.044715 * c
        gate -= c
        gate *= out  # now -2 u
        np.exp(gate, out=gate)
    gate += 1
    np.reciprocal(gate, out=gate)
    out *= gate
    ### END SOLUTION


def gelu(x: Tensor) -> Tensor:
    """x times the share of a normal distribution that lies below x, in the tanh form of GPT-2.

    x * (1 + tanh(u)) / 2 with u = sqrt(2 / pi) * (x + 0.044715 x^3), computed as x * sigmoid(2 u), which is the same.
    (Hendrycks & Gimpel 2016)
    """
    x = floating(x)
    out, gate = np.empty_like(x.data, order="C"), np.empty_like(x.data, order="C")
    for piece in _pieces(x.data, out, gate):
        _gelu(*piece)
    return result(out, "gelu", x, gate=gate)


# %% [markdown]
"""
All of them in one picture, and their slopes beside it. Look at the left side: relu is flat, leaky relu is not, and
silu and gelu dip below 0 before they come back. Their slope is even negative for a while.
"""

# %%
grid = Tensor(np.linspace(-5, 5, 401))
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2))
for function in (relu, leaky_relu, sigmoid, tanh, softplus, silu, gelu):
    values = function(grid).data
    left.plot(grid.data, values, label=function.__name__)
    right.plot(grid.data, np.gradient(values, grid.data))
left.set_title("value")
left.set_ylim(-1.5, 4)
left.legend(fontsize=7)
right.set_title("slope")
plt.show()

# %% [markdown]
"""
Where a curve is flat, a change of the input changes nothing: what lies there cannot be told apart, and module 05 will
add that it cannot be learnt from. Once that is harmless. What if the output of one bend goes into the next, ten times in
a row, each time through a random matrix? `pictures` is a drawer of ready-made drawings that comes with the course; this
one has a row per layer.
"""


# %%
def through(function, scale, shift=0.0, depth=10):
    """What `function` makes of 100 random signals in each of `depth` layers with weights of this size."""
    rng, signal = np.random.default_rng(0), randn(100, 64, rng=0)
    for number in range(1, depth + 1):
        signal = function(signal @ Tensor(rng.normal(0, scale / 8, (64, 64))) + shift)
        yield f"{function.__name__} {number}", signal.data


for chosen in (through(tanh, 5.0), through(sigmoid, 1.0), through(relu, 1.4, shift=-0.3)):
    pictures.activations(chosen)
plt.show()

# %% [markdown]
"""
Three ways to lose a signal. A tanh whose weights are too large: in every layer most values are stuck at -1 or 1, where
the curve is flat. A sigmoid: in a few layers all signals have become the same one, and what is left of the deviation are
differences between units, not between signals; every unit is *dead*. A relu with an offset just below 0: each layer is
flat for more values than the one before, and in the end nearly every unit is dead. Module 03 chooses weights with
which none of this happens.
"""

# %% [markdown]
"""
## Softmax: shares of a row

A classifier ends with one number per class, and we want probabilities: positive, adding up to 1, larger for larger
numbers. Exponentials are positive; dividing by their sum makes them add up. For `[1, 2, 3]`:

```
   e^x   =  2.718   7.389  20.086      sum 30.193
   share =  0.090   0.245   0.665      sum  1
```

Written down just like that, it has the most famous bug of the field:
"""


# %%
def naive_softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


print(naive_softmax(np.array([1.0, 2.0, 3.0])))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(naive_softmax(np.array([1000.0, 1001.0, 1002.0])), [str(w.message) for w in caught])

# %% [markdown]
"""
`inf / inf`. But the numbers `[1000, 1001, 1002]` differ by the same amounts as `[1, 2, 3]`, and only differences
matter: multiply above and below by `e^-m`,

```
      e^x_i           e^x_i   e^-m           e^(x_i - m)
   ------------  =  ------------------  =  ---------------
    sum e^x_j        sum e^x_j   e^-m       sum e^(x_j - m)
```

for any m. With m the largest number of the row every exponent is at most 0, every exponential at most 1, and the sum at
least 1. Overflow is impossible. Nothing was lost: what underflows to 0 was smaller than a 1e-45 share.

Minus infinity is a number we want to support: "this one must not be chosen" is written so, and module 12 masks the
future of a sentence that way. `e^-inf` is 0, fine. What if a whole row is `-inf`? Its maximum is `-inf`, and
`-inf - -inf` is not a number. We raise the maximum to the smallest finite float there, so the differences stay `-inf`.

**Write `_shifted(x, axis)`**: the array x minus its largest element along `axis`, the largest being raised to at least
`np.finfo(x.dtype).min` (the most negative finite number).

`_shifted(np.array([[1.0, 3.0], [-np.inf, -np.inf]]), 1)` is `array([[-2., 0.], [-inf, -inf]])`.

<details><summary>Hint 1</summary>

The maximum must keep its axis, so that a column of row maxima is subtracted from the rows.
</details>
<details><summary>Hint 2</summary>

`x.max(axis=axis, keepdims=True)` is that column, and `np.maximum` raises it.
</details>
<details><summary>Hint 3</summary>

With `peak` for that maximum, return x minus the larger of `peak` and `np.finfo(x.dtype).min`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "activations-shifted", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _axis(op, x, dim):
    """`dim` as an axis of x counted from the front, along which there is something."""
    if not isinstance(dim, (int, np.integer)):
        raise TypeError(f"{op} needs one integer dim, got {dim!r}")
    (axis,) = normalize_axes(op, x, dim)
    if x.shape[axis] == 0:
        raise ValueError(f"{op} needs at least one element along dim {dim}, got shape {x.shape}")
    return axis


def _shifted(x, axis):
    """The array x minus its maximum along `axis`, so that e^shifted is at most 1. Where all are -inf they stay -inf."""
    ### BEGIN SOLUTION
    peak = x.max(axis=axis, keepdims=True)
    return x - np.maximum(peak, np.finfo(x.dtype).min)
    ### END SOLUTION


# %% [markdown]
"""
**Write `_softmax(x, out, axis)`** with it, which fills the array `out`: the exponentials of the shifted array, the sum
along `axis`, the division in place. One decision is left: the row of nothing but `-inf` now has exponentials 0 and sum 0, and `0 / 0` is not a number.
PyTorch returns NaN there. We return zeros: there was nothing to choose, nothing is chosen, and a sentence of padding
does not poison the batch. A sum that is 0 is made 1 before dividing.

`softmax(Tensor([1.0, 2.0, 3.0]))` is `Tensor([0.09, 0.2447, 0.6652])`.

<details><summary>Hint 1</summary>

The exponentials of `_shifted(x, axis)` go straight into the result: `np.exp` with `out=out`. The sum keeps its axis,
as the maximum did.
</details>
<details><summary>Hint 2</summary>

A sum is at least 1, or 0 where all were -inf. Adding `total == 0` to `total` adds True, which is 1, exactly there.
</details>
<details><summary>Hint 3</summary>

`out.sum(axis=axis, keepdims=True)` is the total; mend it as above, and divide `out` by it in place.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "activations-softmax", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _softmax(x, out, axis):
    """Fill the array `out` with e^x divided by its sum along `axis`; with zeros where all of x are -inf."""
    ### BEGIN SOLUTION
    np.exp(_shifted(x, axis), out=out)
    total = out.sum(axis=axis, keepdims=True)  # at least e^0 = 1, or 0 where all were -inf
    total += total == 0
    out /= total
    ### END SOLUTION


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """e^x divided by its sum along `dim`: positive shares that add up to 1.

    -inf gets the share 0; where all along `dim` are -inf there is nothing to share, and all get 0 (PyTorch: NaN).
    """
    x = floating(x)
    axis = _axis("softmax", x, dim)
    out = np.empty_like(x.data, order="C")
    from_end = axis - x.ndim
    for piece in _pieces(x.data, out, axis=from_end):
        _softmax(*piece, from_end)
    return result(out, "softmax", x, out=out, axis=axis)


# %%
print(softmax(Tensor([1000.0, 1001.0, 1002.0])))
print(softmax(Tensor([[0.0, -np.inf, 0.0], [-np.inf, -np.inf, -np.inf]])))
scores = Tensor([2.0, 1.0, 0.0])
for temperature in (10.0, 1.0, 0.1):
    print(f"divided by {temperature:4}: {softmax(scores / temperature).data}")

# %% [markdown]
"""
Dividing the numbers before the softmax makes it shy (all shares alike) or bold (all to the largest). Language models
call that number the temperature.

What goes wrong in practice: the wrong axis. `(N, C)` logits need shares over the *classes*, the last axis. Over the
first one every column adds up to 1: the examples of the batch compete with each other, and training looks almost
normal.

## Log-softmax

A loss wants the *logarithm* of the probability (module 04 says why). What is `log(softmax(x))` for `[0, -200]`? The
share of the second is e^-200, which float32 rounds to 0, and log(0) is `-inf`: infinitely wrong, though the answer is
simply -200. Taking the logarithm on paper first removes both operations that hurt:

```
   log( e^s_i / sum e^s_j )  =  s_i - log( sum e^s_j )          s = shifted x
```

**Write `_log_softmax(x, out, axis)`**: the shifted array, minus the log of the sum of its exponentials. A sum of 0 becomes
1 as before; its log is 0 and the row stays `-inf`.

`log_softmax(Tensor([0.0, -200.0]))` is `Tensor([0., -200.])`.

<details><summary>Hint 1</summary>

Keep the shifted array under a name. Its exponentials may go into `out`, since only their sum is wanted.
</details>
<details><summary>Hint 2</summary>

The total is `np.exp(shifted, out=out).sum(axis=axis, keepdims=True)`, mended as in softmax.
</details>
<details><summary>Hint 3</summary>

`np.subtract` the logarithm of the total from the shifted array, with `out=out`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "activations-log-softmax", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _log_softmax(x, out, axis):
    """Fill the array `out` with x minus the logsumexp of x along `axis`."""
    ### BEGIN SOLUTION
    shifted = _shifted(x, axis)
    total = np.exp(shifted, out=out).sum(axis=axis, keepdims=True)
    total += total == 0
    np.subtract(shifted, np.log(total), out=out)
    ### END SOLUTION


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """log(softmax(x)) along `dim`, exact where softmax underflows to 0: x minus the logsumexp of x.

    Where all along `dim` are -inf the result is -inf.
    """
    x = floating(x)
    axis = _axis("log_softmax", x, dim)
    out = np.empty_like(x.data, order="C")
    from_end = axis - x.ndim
    for piece in _pieces(x.data, out, axis=from_end):
        _log_softmax(*piece, from_end)
    return result(out, "log_softmax", x, out=out, axis=axis)


# %%
x = Tensor([0.0, -200.0])
with np.errstate(divide="ignore"):
    print("log of softmax:", softmax(x).log())
print("log_softmax:   ", log_softmax(x))

# %% [markdown]
"""
## Classes

A network is written as a list of things that are called one after the other, so each function also gets a class: it
keeps the settings and calls the function. `parameters()` is empty, because none of these learns anything; module 03
will ask every layer for its parameters, and an honest "none" is the simplest answer.
"""


# %%
#| export
class _Activation:
    """A layer without parameters: its `forward` applies one function, its attributes are settings."""

    def __call__(self, x):
        return self.forward(x)

    def parameters(self):
        """Nothing to learn here."""
        return []

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in vars(self).items())})"


class ReLU(_Activation):
    """`relu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


class LeakyReLU(_Activation):
    """`leaky_relu` as a layer."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x, self.negative_slope)


class Sigmoid(_Activation):
    """`sigmoid` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class Tanh(_Activation):
    """`tanh` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class GELU(_Activation):
    """`gelu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)


class SiLU(_Activation):
    """`silu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return silu(x)


class Softplus(_Activation):
    """`softplus` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return softplus(x)


class Softmax(_Activation):
    """`softmax` as a layer."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return softmax(x, self.dim)


class LogSoftmax(_Activation):
    """`log_softmax` as a layer."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return log_softmax(x, self.dim)


# %%
layers = [LeakyReLU(0.2), Tanh(), Softmax()]
y = Tensor([[1.0, -1.0, 0.5]])
for layer in layers:
    y = layer(y)
    print(f"{layer!r:32} {y.data}")

# %% [markdown]
"""
## What does it cost?

An activation does a handful of operations per number, a matrix product hundreds. So it should be free, and nearly is,
if it goes over memory few times. Two figures tell: nanoseconds per element, and the bytes the operation keeps alive
until module 05 has computed its gradient. For the second we listen at `result`: whatever is saved by keyword is held.
An array saved that is the output itself costs nothing extra; `extra` counts only the others.
"""


# %%
def cost(function, x):
    held = []

    def listen(out, op, inputs, saved):
        held.extend(a for a in saved.values() if isinstance(a, np.ndarray) and a is not out.data)

    function(x)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        function(x)
        times.append(time.perf_counter() - start)
    before = set_recorder(listen)
    tracemalloc.start()
    function(x)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    set_recorder(before)
    return min(times) / x.size * 1e9, sum(a.nbytes for a in held) / x.size, peak / x.size


def gelu_as_written(x):
    a = x.data
    return Tensor(0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi).astype(np.float32) * (a + np.float32(0.044715) * a**3))))


big = randn(1000, 1000)
cube = min(cost(lambda x: Tensor(x.data**3), big)[0] for _ in range(2))
product = min(cost(lambda x: Tensor(x.data * x.data * x.data), big)[0] for _ in range(2))
print(f"x**3: {cube:.1f} ns per element, x*x*x: {product:.1f} ns\n")
print("1,000,000 float32, 4 bytes each       ns per element   extra bytes held   bytes at the peak")
functions = (relu, leaky_relu, sigmoid, tanh, softplus, silu, gelu, softmax, log_softmax, gelu_as_written)
for function in functions:
    nanoseconds, extra, peak = cost(function, big)
    print(f"{function.__name__:38} {nanoseconds:13.2f} {extra:18.1f} {peak:19.1f}")

# %% [markdown]
"""
Read three things off the table. The time goes with the number of passes over memory, with exponentials, and with the
number of arrays: a fresh large array is memory that the operating system must first hand over, page by page. So compare
the columns of time and peak; 4 bytes per element are the result, the rest was made on the way or is held. And the last
line is gelu typed in as on paper; the line above the table says where its time goes.

And the pieces? The same functions on four times as many numbers, first on the whole arrays at once and then piece by
piece. The numbers that come out are the same, to the last bit.
"""

# %%
wide = randn(2000, 2000).data
for function, arrays in ((_silu, 3), (_gelu, 3), (_softmax, 2), (_log_softmax, 2)):
    axis = () if arrays == 3 else (-1,)
    made = [np.empty_like(wide) for _ in range(arrays - 1)]
    cut = _pieces(wide, *made, axis=axis[0] if axis else None)

    def at_once(function=function, made=made, axis=axis):
        function(wide, *made, *axis)

    def in_pieces(function=function, cut=cut, axis=axis):
        for piece in cut:
            function(*piece, *axis)

    at_once()
    whole = [array.copy() for array in made]
    seconds = []
    for way in (at_once, in_pieces):
        runs = []
        for _ in range(5):
            start = time.perf_counter()
            way()
            runs.append(time.perf_counter() - start)
        seconds.append(min(runs))
    assert all(np.array_equal(a, b) for a, b in zip(whole, made))
    times = f"at once {seconds[0] * 1e3:5.1f} ms, in {len(cut)} pieces {seconds[1] * 1e3:5.1f} ms"
    print(f"{function.__name__[1:]:12} {times}, {seconds[0] / seconds[1]:.2f} times faster")

# %% [markdown]
"""
Now beside the layer that feeds it: one matrix product of 1000 x 1000.
"""

# %%
weight = randn(1000, 1000)
big @ weight
start = time.perf_counter()
big @ weight
product = (time.perf_counter() - start) / big.size * 1e9
print(f"matrix product: {product:.1f} ns per output element, 2000 operations each")
print(f"gelu is {cost(gelu, big)[0] / product:.0%} of it, relu {cost(relu, big)[0] / product:.0%}")

# %% [markdown]
"""
## All together

The checks of this lesson in one cell: values worked out above, both ends of the number line, naive against safe.
"""

# %%
np.testing.assert_allclose(relu([-2.0, -0.5, 0.0, 1.5]).data, [0, 0, 0, 1.5])
np.testing.assert_allclose(leaky_relu([-2.0, 3.0], 0.1).data, [-0.2, 3.0], rtol=1e-6)
np.testing.assert_allclose(sigmoid([-2.0, 0.0, 2.0]).data, [0.1192029, 0.5, 0.8807971], rtol=1e-6)
np.testing.assert_allclose(gelu([-1.0, 0.0, 1.0]).data, [-0.1588080, 0.0, 0.8411920], rtol=1e-5)
np.testing.assert_allclose(softmax([1.0, 2.0, 3.0]).data, [0.0900306, 0.2447285, 0.6652410], rtol=1e-5)

sample = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
np.testing.assert_allclose(sigmoid(sample).data, naive_sigmoid(sample), rtol=1e-6)
np.testing.assert_allclose(softmax(sample).data, naive_softmax(sample), rtol=1e-5)
np.testing.assert_allclose(gelu(sample).data, gelu_as_written(Tensor(sample)).data, rtol=1e-4, atol=1e-6)
np.testing.assert_allclose(softmax(sample, dim=0).data.sum(axis=0), np.ones(7), rtol=1e-5)

ends = Tensor([-np.inf, -1e4, 1e4])
for function, wanted in [
    (relu, [0, 0, 1e4]),
    (leaky_relu, [-np.inf, -100, 1e4]),
    (sigmoid, [0, 0, 1]),
    (tanh, [-1, -1, 1]),
    (softplus, [0, 0, 1e4]),
    (silu, [0, 0, 1e4]),
    (gelu, [0, 0, 1e4]),
    (softmax, [0, 0, 1]),
    (log_softmax, [-np.inf, -2e4, 0]),
]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = function(ends)
    np.testing.assert_allclose(got.data, wanted, rtol=1e-6)
    assert got.dtype == np.float32
    print(f"{function.__name__:12} of -inf, -10000, 10000: {got.data}")

# %% [markdown]
"""
## Questions

**1.** A network has 30 sigmoid layers. By what factor is the signal for the first layer multiplied at most by the
slopes of the bends? Is that number a float32?

<details><summary>Answer</summary>

(1/4)^30 = 8.7e-19. It is a float32 (the smallest normal one is 1.2e-38), so nothing underflows and no warning appears.
The first layer just does not learn: it would take about 10^18 steps to move as far as the last layer moves in one.
</details>

**2.** Softmax over 10 classes, and all logits are equal. What does it give? What if you add 7 to all of them, or
multiply all of `[1, 2, 3]` by 2?

<details><summary>Answer</summary>

0.1 each, and adding 7 changes nothing: only differences count. Multiplying does change it: differences double, and the
shares become their squares, scaled to add up to 1. `[0.090, 0.245, 0.665]` becomes `[0.016, 0.117, 0.867]`.
</details>

**3.** Why is it wrong to repair the naive softmax with `np.clip(x, -80, 80)`?

<details><summary>Answer</summary>

It does not overflow any more, but `[1000, 1001, 1002]` becomes `[80, 80, 80]` and the shares 1/3 each: a confident
answer is silently turned into none. Shifting changes no result; clipping does.
</details>

**4.** A feed-forward block of a GPT-3-size model has 2048 tokens and 4 * 12288 hidden numbers each. How many bytes does
gelu hold for one layer in float32 (its input and what it saves), and for 96 layers?

<details><summary>Answer</summary>

2048 * 49152 = 100.7 million numbers, 403 MB as float32. The rule needs the input and the gate: 805 MB per layer, 77 GB
for 96 layers and one sequence. Relu would need the output only, which the next layer keeps anyway: 403 MB and nothing
else. This is why large models recompute activations instead of keeping them (`checkpoint`, module 05), and store them
in 16 bits.
</details>

**5.** Your `softmax` returns zeros for a row of `-inf`, PyTorch returns NaN. Name one situation where each is better.

<details><summary>Answer</summary>

Zeros: attention over a padded sentence, where a row without any allowed place is normal and its output is ignored. NaN:
a classifier whose logits became `-inf` by accident; NaN is noticed at once, zeros let training go on with an example
that says nothing. Here the loss notices: module 04 returns `inf` for it.
</details>
"""
