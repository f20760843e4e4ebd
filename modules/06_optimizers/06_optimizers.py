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
# 06 · Optimizers: which way is down, and how far

| | |
|---|---|
| **You have** | a loss, and its exact slope for every weight (modules 01 to 05) |
| **You will build** | gradient descent with momentum, Nesterov's variant and weight decay; Adam; AdamW; parameter groups; a state that can be saved |
| **You will be able to** | say why a step is too long, why Adam needs no tuning where plain descent does, what an optimizer costs in memory, and write a new one in ten lines |

Needs modules 01 to 05. Exports `core/optimizers.py`. Medium; about three hours.

```
   loss.backward()                  optimizer.step()                      next batch
   +----------------+   p.grad   +--------------------------+   p.data   +---------+
   | module 05:     | ---------> | the rule:  p, grad, and  | ---------> | forward |
   | which way is up|            | what it remembers        |            +---------+
   +----------------+            +--------------------------+
                                   SGD    velocity       4 bytes a weight
                                   Adam   m and v        8 bytes a weight
```

The gradient says which way the loss rises, and how steeply *right here*. It does not say how far to go. Everything in
this lesson is an answer to that one question.
"""

# %%
#| default_exp core.optimizers

# %%
#| export
"""Optimizers: from gradients to better parameters.

A rule such as `adam_update` is a function of flat arrays that works in place and makes no temporaries. An `Optimizer`
holds parameters in groups, keeps what the rule remembers about each, and applies the rule piece by piece, a piece being
small enough to stay in the processor's cache from the first operation to the last. A new rule is a subclass with two
methods, `memory` and `update`.
"""

import math
from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple

import numpy as np

from tinytorch.core.tensor import Tensor

# %%
import functools
import time
import tracemalloc

import matplotlib.pyplot as plt

from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import cross_entropy
from tinytorch.core.tensor import manual_seed, randn

np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
"""
## A step downhill

Take one weight and the loss `(w - 3)^2`. At `w = 0` the slope is `2 (0 - 3) = -6`: the loss falls if w grows. So go
against the slope, and scale the step by a *learning rate*:

```
   w  <-  w - lr * slope          lr = 0.1:   0  ->  0.6  ->  1.08  ->  1.464  ->  ...  ->  3
```

The distance to 3 shrinks by the factor `1 - 2 lr = 0.8` in every step. That one formula already tells the whole story
of the learning rate. What happens at 0.5? At 1? At 1.1? Work out the factor before you run the cell.
"""


# %%
def descend(slope, start, lr, steps):
    """Where plain gradient descent goes from `start`."""
    path = [start]
    for _ in range(steps):
        path.append(path[-1] - lr * slope(path[-1]))
    return path


for lr in (0.1, 0.5, 0.9, 1.0, 1.1):
    path = descend(lambda w: 2 * (w - 3), 0.0, lr, 6)
    print(f"lr {lr}: factor {1 - 2 * lr:5.1f}   w =", "  ".join(f"{w:6.2f}" for w in path))

# %% [markdown]
"""
At 0.5 it is there in one step; at 0.9 it jumps across and back, and still arrives; at 1 it jumps for ever; at 1.1 every
jump is longer than the last. The curvature of this loss is 2 (its second derivative), and the limit is `lr < 2 /
curvature`. So far one would simply choose well.

## The valley

Now two weights, and a loss that is 25 times more curved along one than along the other: `f(x, y) = (x^2 + 25 y^2) /
2`, with the slope `(x, 25 y)`. One learning rate has to serve both. The steep direction allows at most `2 / 25 =
0.08`. With 0.076, what is the factor in each direction?

```
   across the valley   y:   1 - 0.076 * 25 = -0.9       jumps from wall to wall, slowly closing in
   along the valley    x:   1 - 0.076      =  0.924     creeps, because 0.076 is small for a slope this gentle
```

A real network has millions of directions and curvatures that differ by factors of a thousand and more. The valley is
the normal case.

## Momentum: a heavy ball

A ball rolling down the same valley does not stop at every wall. It keeps a velocity: what the slope pushes in the same
direction step after step adds up, what it pushes to and fro cancels. Keep nine tenths of the velocity in each step:

```
   velocity  <-  0.9 velocity + slope
   p         <-  p - lr * velocity

   slope      1     1     1     1     1    ...          along the valley, always the same way
   velocity   1     1.9   2.71  3.44  4.10 ... -> 10    ten times as fast, for 1 / (1 - 0.9) = 10

   slope      1    -1     1    -1     1    ...          across, to and fro
   velocity   1    -0.1   0.91 -0.18  0.84 ... -> +-0.53   half as much
```

Check two of the numbers: `0.9 * 1.9 + 1 = 2.71`, and `0.9 * (-0.1) + 1 = 0.91`.

Two refinements that every library has:

**Nesterov's momentum.** By the time the velocity acts, the ball will have moved on. So take the slope plus what the
velocity is about to add, `slope + 0.9 velocity`, as if the step had been taken and looked at from there. It brakes
earlier.

**Weight decay.** Pull every weight towards 0 a little, so that only those stay large that the data insists on. Adding
`weight_decay * p` to the slope does it: a weight of 10 with slope 0, `weight_decay = 0.5` and `lr = 0.1` goes to
`10 - 0.1 * (0 + 0.5 * 10) = 9.5`.

As expressions, this is the whole rule:
"""


# %%
def naive_sgd(p, g, velocity, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
    """The new p and the new velocity."""
    g = g + weight_decay * p
    velocity = momentum * velocity + g
    step = g + momentum * velocity if nesterov else velocity
    return p - lr * step, velocity


def roll(lr, momentum, nesterov=False, steps=40):
    """The path through the valley from (10, 1)."""
    steepness = np.array([1.0, 25.0])
    p, velocity = np.array([10.0, 1.0]), np.zeros(2)
    path = [p]
    for _ in range(steps):
        p, velocity = naive_sgd(p, steepness * p, velocity, lr, momentum, nesterov=nesterov)
        path.append(p)
    return np.array(path)


paths = {
    "plain, lr 0.076": roll(0.076, 0.0),
    "momentum 0.8, lr 0.04": roll(0.04, 0.8),
    "Nesterov 0.8, lr 0.03": roll(0.03, 0.8, nesterov=True),
}
x, y = np.meshgrid(np.linspace(-4, 11, 200), np.linspace(-2, 2, 100))
figure, axes = plt.subplots(3, 1, figsize=(7, 7), sharex=True, layout="constrained")
for axis, (name, path) in zip(axes, paths.items()):
    axis.contour(x, y, (x**2 + 25 * y**2) / 2, levels=np.geomspace(0.1, 60, 10), colors="lightgray")
    axis.plot(*path.T, marker=".", linewidth=1)
    axis.set(title=f"{name}: {np.hypot(*path[-1]):.4f} from the bottom after 40 steps", ylabel="y (steep)")
axes[-1].set(xlabel="x (gentle)")
plt.show()

# %% [markdown]
"""
## In place

`naive_sgd` is right, and wasteful: for ten million weights every `+` and `*` asks the system for 40 MB, writes them,
and gives them back a moment later. An optimizer runs after every batch, so we write it as NumPy can do it best: every
operation gets an array to write into.

```
   np.multiply(p, 0.5, out=s)      s = 0.5 p, in an array that already exists
   s *= 0.9                        in place
```

The catch: which array may be written to? `p` and `velocity` are ours to change. The gradient `g` is *not*: somebody
may want to look at it after the step, or add the next batch to it. That is what `scratch` is for, two arrays whose
contents nobody cares about.

**Write `sgd_update`.** With `s, t = scratch`: if there is weight decay, make `g + weight_decay * p` in `s` and call it
`g` from here on. If there is momentum, update the velocity, and choose the direction: the velocity, or for Nesterov
`g + momentum * velocity`, made in `t`. Then subtract `lr` times the direction from `p`, by way of `t`.

With `p = [10]`, `g = [1]`, `velocity = [2]`, `lr=0.1`, `momentum=0.9`: the velocity becomes 2.8 and p becomes 9.72.
With `nesterov=True` the direction is `1 + 0.9 * 2.8 = 3.52`, and p becomes 9.648.

<details><summary>Hint 1</summary>

A ufunc with `out=` also returns that array, so two of them fit into one line without a new array: `np.add` of `g` and
of what `np.multiply` put into `s`, again with `out=s`. Name the result `g`.
</details>
<details><summary>Hint 2</summary>

The velocity must change in place, with `*=` and `+=`. An ordinary assignment makes a new array, which is forgotten when
the function returns: the ball has no memory, and no error says so.
</details>
<details><summary>Hint 3</summary>

The last line puts `lr` times the direction into `t` and takes that from `p` in place. It is right even where the
direction is `t` itself, because element i of the result needs only element i of the input.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "optimizers-sgd-update", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def sgd_update(p, g, velocity, scratch, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
    """One step of gradient descent with momentum, in place:

        g        = g + weight_decay * p
        velocity = momentum * velocity + g
        p        = p - lr * velocity            with nesterov:  p - lr * (g + momentum * velocity)

    p, velocity  (n,)  changed in place; velocity may be None where momentum is 0
    g            (n,)  only read
    scratch      two arrays (n,) to compute in

    Sutskever et al. 2013, section 2, with the learning rate outside the velocity, as PyTorch has it.
    """
    s, t = scratch
    ### BEGIN SOLUTION
    if weight_decay:
        g = np.add(g, np.multiply(p, weight_decay, out=s), out=s)
    direction = g
    if momentum:
        velocity *= momentum
        velocity += g
        direction = np.add(g, np.multiply(velocity, momentum, out=t), out=t) if nesterov else velocity
    p -= np.multiply(direction, lr, out=t)
    ### END SOLUTION


# %%
p, g, velocity = (np.array([value], np.float32) for value in (10, 1, 2))
sgd_update(p, g, velocity, (np.empty(1, np.float32), np.empty(1, np.float32)), lr=0.1, momentum=0.9)
print("p", p, " g", g, " velocity", velocity)

# %% [markdown]
"""
## In pieces

In place is half of it. Count what the processor does for ten million weights: scaling the velocity walks through 40
MB, and by the time it reaches the end, the beginning has long been pushed out of its cache. The next line, which adds
the gradient, fetches everything from main memory again. Six lines, six trips.

Do all six lines for the first 65,536 weights, then for the next, and everything is fetched once:

```
   whole arrays                                 pieces
   line 1   [=======================>]          piece 1: lines 1-6   [==]
   line 2   [=======================>]          piece 2: lines 1-6       [==]
   line 3   [=======================>]          piece 3: lines 1-6           [==]
   each line: 40 MB from main memory            a piece: 256 KB, in the cache from line 2 on
```

**Write `pieces`**, a generator that yields the given arrays side by side, flat, at most `size` elements at a time.
What it yields must be *views*: whoever writes into one writes into its array.

`list(pieces(np.arange(5), 10 * np.arange(5), size=2))` is
`[[[0 1], [0 10]], [[2 3], [20 30]], [[4], [40]]]` (arrays, written short).

<details><summary>Hint 1</summary>

`array.reshape(-1)` is a flat view of a contiguous array; slices of it are views.
</details>
<details><summary>Hint 2</summary>

A `range` from 0 in steps of `size` gives the places where pieces begin. The last slice may reach past the end; NumPy
cuts it off.
</details>
<details><summary>Hint 3</summary>

Inside the loop yield one list: the slice from `start` to `start + size` of every flat array.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "optimizers-pieces", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
PIECE = 65536  # elements: a piece of p, g, two states and scratch together fill a usual second-level cache


def pieces(*arrays, size: int = PIECE):
    """The arrays side by side, flat, at most `size` elements of each at a time.

    arrays  equally many elements each, contiguous: what is yielded are views, and may be written to
    yields  lists of arrays (n,), n <= size, one for each of `arrays`
    """
    ### BEGIN SOLUTION
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, size):
        yield [array[start : start + size] for array in flat]
    ### END SOLUTION


# %%
def time_of(function, repeats=5):
    """The fastest of a few runs, in seconds: the others were disturbed by something."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


count = 10_000_000
p, g, velocity, s, t = (np.full(count, value, np.float32) for value in (1, 0.5, 0.25, 0, 0))


def in_pieces(size):
    for p_, g_, v_, s_, t_ in pieces(p, g, velocity, s, t, size=size):
        sgd_update(p_, g_, v_, (s_, t_), lr=1e-6, momentum=0.9, weight_decay=0.01)


naive = time_of(lambda: naive_sgd(p, g, velocity, 1e-6, 0.9, 0.01))
print(f"{count:,} weights, expressions      {1e3 * naive:6.1f} ms")
for size in (1024, 16384, PIECE, 2**20, count):
    seconds = time_of(functools.partial(in_pieces, size))
    print(f"in place, pieces of {size:9,}   {1e3 * seconds:6.1f} ms, {naive / seconds:4.1f} times as fast")

# %% [markdown]
"""
Too small a piece, and Python's own overhead per piece shows; too large, and the cache is too small for it. In between
there is a broad plain, which is why one constant serves all machines.

## Adam: a step length of its own for every weight

Momentum helps across the valley. But one learning rate still serves weights whose gradients differ by factors of a
thousand: the first layer's and the last layer's, those of common words and of rare ones. Adam (Kingma and Ba, 2015)
divides each weight's step by the size its gradients usually have:

```
   p  <-  p - lr * (average gradient, lately) / sqrt(average squared gradient, lately)
                    which way, on average             how large, usually
```

If g is always 0.001, the fraction is 1. If it is always 1000, it is 1 as well: **the step is about `lr` long, whatever
the scale of the loss.** If g flips its sign all the time, the average is close to 0 and that of the squares is not: the
step is short, as it should be when nobody knows the way.

"Lately" means that a gradient counts less with every step: 0.9 times as much in the first average, 0.999 times in the
second. The paper keeps both averages as they are:

```
   m  <-  0.9   m + 0.1   g
   v  <-  0.999 v + 0.001 g^2
```

One flaw. They start at 0 and need time to warm up. Put in the first gradient, say 4:

```
   m = 0.1   * 4   = 0.4           ten times too small
   v = 0.001 * 4^2 = 0.016         a thousand times too small; its root, 0.126, some 32 times
   m / sqrt(v) = 3.16              so the first step would be three times too long
```

They are too small by a factor that is known: after t steps the weights of all gradients seen add up to `1 - 0.9^t`
instead of 1. Divide by it:

```
   m / (1 - 0.9^1)   = 0.4 / 0.1     = 4
   v / (1 - 0.999^1) = 0.016 / 0.001 = 16         4 / sqrt(16) = 1:  the first step is lr, whatever the gradient
```

That is the bias correction. It is left out surprisingly often, and the model still learns, only worse at the start.
"""


# %%
def naive_adam(p, g, m, v, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """The new p, m and v, as Algorithm 1 of the paper writes them: m and v are averages."""
    g = g + weight_decay * p
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    corrected_m = m / (1 - betas[0] ** step)
    corrected_v = v / (1 - betas[1] ** step)
    return p - lr * corrected_m / (np.sqrt(corrected_v) + eps), m, v


for gradient in (1e-4, 4.0, 1e6):
    p, m, v = naive_adam(np.array([1.0]), np.array([gradient]), np.zeros(1), np.zeros(1), step=1)
    uncorrected = 1e-3 * m / np.sqrt(v)
    print(f"gradient {gradient:9.4g}: the first step is {1 - p[0]:.6f} long; uncorrected {uncorrected[0]:.6f}")

# %% [markdown]
"""
There is a shorter way to the same numbers, with neither a factor 0.1 nor a correction: keep *sums*, and divide by what
their weights add up to when an average is wanted.

```
   m  <-  0.9   m + g              g_t + 0.9 g_(t-1) + 0.81 g_(t-2) + ...
   v  <-  0.999 v + g^2
   weights of m:  1 + 0.9 + ... + 0.9^(t-1)  =  (1 - 0.9^t) / (1 - 0.9)          1 at first, 10 in the end
```

Such an m is what the velocity was above, and it saves two passes of thirteen.

**Write `adam_update`** with sums, in place. `m` and `v` are changed where they are, `g` is only read, and everything
else happens in `s` and `t`. Three groups of lines:

1. if there is weight decay, `g + weight_decay * p` in `t`, called `g` from here on;
2. m and v: each is scaled by its beta, then g is added to m, and its square, made in `s`, to v;
3. the step. What the weights of both add up to, `ones` and `twos`, are plain numbers, so no array need be divided by
   them. With `root = sqrt(twos)` multiply numerator and denominator by `root`, and one pass is saved (the paper
   mentions it at the end of section 2):

```
             m / ones                 root           m
   lr * --------------------  =  lr * ---- * --------------------
        sqrt(v) / root + eps          ones   sqrt(v) + eps * root
```

With `p = [1]`, `g = [4]`, `m = v = [0]`, `step=1` and `lr=0.1`: m becomes 4, v 16, p 0.9.

<details><summary>Hint 1</summary>

`*=` and `+=` change m and v where they are. The square is `np.multiply` of g by itself with `out=s`; `g**2` would be a new
array.
</details>
<details><summary>Hint 2</summary>

Take `root` by `math.sqrt`, and the root of the array v by `np.sqrt` with `out=s`. (`np.sqrt` of a number gives a NumPy
float64, and one of those makes NumPy compute in float64.) Then `s` gets `eps` times `root` added to it.
</details>
<details><summary>Hint 3</summary>

What remains is `np.divide` of m by `s`, into `s`; a scaling of `s` by one number, the fraction that stands before the
last one in the formula, times `lr`; and a subtraction from `p`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "optimizers-adam-update", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def adam_update(p, g, m, v, scratch, step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """One step of Adam, in place:

        g = g + weight_decay * p
        m = beta1 * m + g
        v = beta2 * v + g^2
        p = p - lr * (m / ones) / (sqrt(v / twos) + eps)        ones = (1 - beta1^step) / (1 - beta1), twos likewise

    p, m, v  (n,)  changed in place
    g        (n,)  only read
    scratch  two arrays (n,) to compute in
    step     how many steps this is, from 1

    Kingma & Ba 2015, Algorithm 1, whose m and v, and PyTorch's, are 1 - beta times these sums: then each is an average
    but for the factor 1 - beta^step. What the weights of a sum add up to, `ones` and `twos`, is both at once.
    """
    s, t = scratch
    beta1, beta2 = betas
    ### BEGIN SOLUTION
    if weight_decay:
        g = np.add(g, np.multiply(p, weight_decay, out=t), out=t)
    m *= beta1
    m += g
    v *= beta2
    v += np.multiply(g, g, out=s)
    ones, twos = (1 - beta1**step) / (1 - beta1), (1 - beta2**step) / (1 - beta2)
    root = math.sqrt(twos)
    np.sqrt(v, out=s)
    s += eps * root
    np.divide(m, s, out=s)
    s *= lr * root / ones
    p -= s
    ### END SOLUTION


# %%
rng = np.random.default_rng(0)
p, scratch = np.ones(5, np.float32), np.empty((2, 5), np.float32)
m, v = np.zeros_like(p), np.zeros_like(p)
slow = p.copy(), m.copy(), v.copy()
for step in range(1, 101):
    g = rng.normal(size=5).astype(np.float32)
    adam_update(p, g, m, v, scratch, step, lr=0.01)
    slow = naive_adam(slow[0], g, *slow[1:], step, lr=0.01)
print("in place   ", p, p.dtype)
print("expressions", slow[0])

# %% [markdown]
"""
## The optimizer

What is left is to look after the parameters: which there are, what the rule remembers about each, how many steps each
has made, which options apply. Four decisions, before the code:

**In which forms may parameters come?** `model.parameters()`, as everyone writes. Pairs of name and tensor, as
`model.named_parameters()` gives, so that errors can speak of `0.weight` instead of "parameter 0". The model itself. Or
*groups*, dictionaries with options of their own: weights with decay, biases without.

```
   AdamW([{"params": weights}, {"params": biases, "weight_decay": 0.0}], lr=1e-3)
```

**What is refused?** A list that is empty (a model whose layers were not found trains nothing, in silence), a tensor
that is no leaf or asks for no gradient, one that is listed twice (it would move twice per step), integers, options
that make no sense.

**When is it looked at?** Before the first weight moves. If the gradient of the last parameter has the wrong shape, then
after the error the first one must not have moved.

**What does a rule have to say?** Which arrays it wants to be kept, `memory(options)`, and how one piece moves,
`update(p, g, memory, scratch, step, options)`. The rest is the same for all.

The plumbing first. Read it once; there is nothing to write.
"""


# %%
#| export
class _Slot(NamedTuple):
    """One parameter, and what belongs to it."""

    parameter: Tensor
    name: str
    state: dict  # "step" and the arrays named by `memory`; empty before the first step
    options: dict  # its group


def _number(who, name, value, below=math.inf):
    """`value` as a Python float, checked: 0 <= value < below."""
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{who} needs a number as {name}, got {value!r}")
    if not 0 <= value < below:
        raise ValueError(f"{who} needs 0 <= {name} < {below}, got {value}")
    return float(value)


def _listed(who, params):
    """The parameters in `params`, whatever form they come in, as a list."""
    if isinstance(params, Tensor):
        raise TypeError(f"{who} needs a list of parameters, got one tensor; write {who}([w])")
    if isinstance(params, (Mapping, str)):
        raise TypeError(f"{who} needs a list of parameters or of groups, got a {type(params).__name__}; write [...]")
    for method in ("named_parameters", "parameters"):
        if callable(getattr(params, method, None)):
            params = getattr(params, method)()
            break
    try:
        return list(params)
    except TypeError:
        raise TypeError(f"{who} needs a list of parameters, got {type(params).__name__}") from None


def _named(who, params, first):
    """(name or None, tensor) for each of `params`, checked; `first` is the number of the first one."""
    found = []
    for number, param in enumerate(_listed(who, params), first):
        name = None
        if isinstance(param, tuple) and len(param) == 2 and isinstance(param[0], str):
            name, param = param
        called = f"parameter {number}" if name is None else name
        if not isinstance(param, Tensor):
            raise TypeError(f"{who} needs tensors, but {called} is a {type(param).__name__}")
        if param.dtype.kind != "f":
            raise TypeError(f"{who} moves floating tensors, but {called} is {param.dtype}; try .astype('float32')")
        if param._grad_fn is not None:
            raise ValueError(f"{who}: {called} was computed from other tensors; give the tensors it was computed from")
        if not param.requires_grad:
            raise ValueError(
                f"{who}: {called} {param.shape} has requires_grad=False and would never move; "
                "leave it out: [p for p in model.parameters() if p.requires_grad]"
            )
        found.append((name, param))
    if not found:
        raise ValueError(f"{who} got no parameters; has the model any, and are its layers in attributes or lists?")
    return found


# %% [markdown]
"""
Now the class. Its blanks:

**`zero_grad`**: forget every parameter's gradient, by setting it to None. (Why not to zero? `backward` *adds* to
what is there; with None it can keep the array it just made, and `step` can tell "no gradient" from "gradient 0".)

**`check_gradients`**: raise a ValueError that names every parameter whose gradient holds a NaN or an infinity.
`problems` is a list of lines such as `"0.weight (784, 512): 12 NaN, 0 infinite of 401408"`; append one for each that
is not clean.

**`step`**: collect the slots whose parameter has a gradient; let `self._check` look at each of them; only then let
`self._move` move each. A parameter without a gradient is not touched at all: its momentum does not roll on, its count
does not grow.

**`_move`**: one parameter's step, with `data`, its array, contiguous. Count the step; make sure that `state` has a zero
array for every name in `names`; go through the pieces of data, gradient and memory, and call `self.update`.

**`state_dict`**: everything that is needed to go on exactly here: the options of each group, and a *copy* of the
state of each parameter. Copies, because the arrays go on changing in place, and the state saved a minute ago should
not.

**`load_state_dict`**: the checks are given. Write the end: `groups` holds the options of every group, and
`states` what is remembered about every parameter, as copies already. Put them where they belong. The dictionaries in
`self.param_groups` and in the slots must stay the same objects, so change what is in them.

<details><summary>Hint 1</summary>

Each slot in `self._slots` has `slot.parameter`, whose gradient is `slot.parameter.grad`, `slot.name` and
`slot.state`. NaN and infinite values are counted by `int(np.isnan(grad).sum())` and `int(np.isinf(grad).sum())`.
</details>
<details><summary>Hint 2</summary>

In `_move` the count is `state["step"]`, absent before the first step (`state.get`). `self._zeros(missing, data)` makes
the arrays of the names that are missing, as a dictionary; make none for names that are there.
</details>
<details><summary>Hint 3</summary>

The loop of `_move` unpacks every list of pieces into `p, g, *memory`; the arrays to be cut are `data`, the gradient,
and `state[name]` for every name. `update` gets each scratch array cut to `len(p)`. In `state_dict`, copy what is an
`np.ndarray` with `np.array(value)` and take the rest as it is.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "optimizers-optimizer", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class Optimizer:
    """Parameters in groups, and the step that moves them; a subclass says how, in `memory` and `update`.

    params    tensors, as model.parameters() gives; or (name, tensor) pairs, as model.named_parameters() gives, so that
              errors can name them; or a model; or groups, dicts such as {"params": tensors, "lr": 0.1}
    defaults  the options of the rule, for all groups that do not say otherwise

    `param_groups` is the list of groups, whose options may be changed between steps.
    """

    def __init__(self, params, **defaults):
        self.defaults = self.check_options(defaults)
        self.param_groups = []
        self._slots = []
        self._scratch = {}
        params = _listed(type(self).__name__, params)
        grouped = bool(params) and isinstance(params[0], Mapping)
        for group in params if grouped else [{"params": params}]:
            self.add_param_group(group)

    # For a subclass to say

    def check_options(self, options):
        """`options` with every value checked, numbers as Python floats. A subclass with more options extends this."""
        who = type(self).__name__
        options = dict(options)
        for name in ("lr", "weight_decay"):
            if name in options:
                options[name] = _number(who, name, options[name])
        return options

    def memory(self, options):
        """The names of the arrays, shaped as the parameter and 0 at first, that the rule keeps for each parameter."""
        return ()

    def update(self, p, g, memory, scratch, step, options):
        """Move p, in place.

        p        (n,)  a piece of a parameter
        g        (n,)  its gradient; only to be read
        memory   list of arrays (n,), in the order of `self.memory(options)`, to be changed in place
        scratch  two arrays (n,) to compute in
        step     how many steps this parameter has made, with this one
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how a parameter moves")

    # Parameters

    def add_param_group(self, group):
        """Take in more parameters, a dict {"params": ..., option: value}; absent options are the defaults."""
        who = type(self).__name__
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"{who} needs each group as a dict with 'params', got {group!r}")
        unknown = sorted(group.keys() - self.defaults.keys() - {"params"})
        if unknown:
            raise ValueError(f"{who} has no option {unknown[0]!r}; its options are {', '.join(self.defaults)}")
        options = self.check_options(self.defaults | {k: v for k, v in group.items() if k != "params"})
        named = _named(who, group["params"], first=len(self._slots))
        taken = {id(slot.parameter): slot.name for slot in self._slots}
        for number, (name, parameter) in enumerate(named, len(self._slots)):
            called = f"parameter {number}" if name is None else name
            if id(parameter) in taken:
                raise ValueError(f"{who}: {called} is the same tensor as {taken[id(parameter)]}; list it once")
            taken[id(parameter)] = called
        names = [name for name, _ in named]
        options = {"params": [parameter for _, parameter in named], **options}
        if None not in names:
            options["param_names"] = names
        self.param_groups.append(options)
        for number, (name, parameter) in enumerate(named, len(self._slots)):
            self._slots.append(_Slot(parameter, f"parameter {number}" if name is None else name, {}, options))

    @property
    def parameters(self):
        """All parameters, group after group."""
        return [slot.parameter for slot in self._slots]

    @property
    def named_parameters(self):
        """(name, tensor) of all parameters; those that came without a name are "parameter 0" and so on."""
        return [(slot.name, slot.parameter) for slot in self._slots]

    @property
    def state(self):
        """What is remembered about each parameter, in the order of `parameters`; empty before its first step."""
        return [slot.state for slot in self._slots]

    @property
    def lr(self):
        """The learning rate, of the first group if they differ. Assigning sets it for all groups."""
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value):
        value = _number(type(self).__name__, "lr", value)
        for group in self.param_groups:
            group["lr"] = value

    # Steps

    def zero_grad(self):
        """Forget all gradients."""
        ### BEGIN SOLUTION
        for slot in self._slots:
            slot.parameter.grad = None
        ### END SOLUTION

    def check_gradients(self):
        """Raise ValueError that names every parameter whose gradient holds NaN or infinity."""
        problems = []
        ### BEGIN SOLUTION
        for slot in self._slots:
            grad = slot.parameter.grad
            if grad is not None and not np.isfinite(grad).all():
                nan, infinite = int(np.isnan(grad).sum()), int(np.isinf(grad).sum())
                problems.append(f"{slot.name} {grad.shape}: {nan} NaN, {infinite} infinite of {grad.size}")
        ### END SOLUTION
        if problems:
            raise ValueError(f"{type(self).__name__}: gradients that are not numbers\n  " + "\n  ".join(problems))

    def step(self, check=False):
        """Move every parameter that has a gradient. With check=True, `check_gradients` first.

        Raises ValueError if a gradient does not fit its parameter; then nothing has moved.
        """
        if check:
            self.check_gradients()
        for group in self.param_groups:
            group["lr"] = _number(type(self).__name__, "lr", group["lr"])
        ### BEGIN SOLUTION
        moving = [slot for slot in self._slots if slot.parameter.grad is not None]
        for slot in moving:
            self._check(slot)
        for slot in moving:
            self._move(slot)
        ### END SOLUTION

    def _check(self, slot):
        """Raise unless gradient and state fit the parameter as it is now."""
        data, grad = slot.parameter.data, slot.parameter.grad
        problem = None
        if isinstance(grad, Tensor) or not hasattr(grad, "__array_function__"):
            problem = f"needs a NumPy array as its grad, got {type(grad).__name__}"
        elif grad.shape != data.shape or grad.dtype != data.dtype:
            problem = f"has a gradient of shape {grad.shape} and dtype {grad.dtype}; they must be alike"
        elif not data.flags.writeable:
            problem = "has a read-only array and cannot move; give it a copy: w.data = w.data.copy()"
        else:
            for name in self.memory(slot.options):
                if name in slot.state and slot.state[name].shape != data.shape:
                    problem = f"had the shape {slot.state[name].shape} at its last step; make a new optimizer"
        if problem is not None:
            raise ValueError(f"{type(self).__name__}: {slot.name} {data.shape} {data.dtype} {problem}")

    def _move(self, slot):
        """One parameter's step, piece by piece."""
        parameter, _, state, options = slot
        data = parameter.data if parameter.data.flags.c_contiguous else parameter.data.copy()
        names = self.memory(options)
        scratch = self._scratch_like(data)
        ### BEGIN SOLUTION
        state["step"] = state.get("step", 0) + 1
        missing = [name for name in names if name not in state]
        if missing:
            state.update(self._zeros(missing, data))
        for p, g, *memory in pieces(data, parameter.grad, *(state[name] for name in names)):
            self.update(p, g, memory, [s[: len(p)] for s in scratch], state["step"], options)
        ### END SOLUTION
        if data is not parameter.data:
            parameter.data[...] = data
        parameter._version += 1  # so that autograd notices a graph that still needed the old values

    def _zeros(self, names, data):
        """For each name an array of zeros, shaped as `data` and contiguous.

        They share a piece of memory: from 4 MB on the system serves it in large pages, which are faster to reach.
        """
        rows = np.zeros_like(data, shape=(len(names), data.size), order="C")
        return {name: row.reshape(data.shape) for name, row in zip(names, rows)}

    def _scratch_like(self, data):
        """Two flat arrays, kept from step to step, large enough for a piece of `data`."""
        needed = min(data.size, PIECE)
        scratch = self._scratch.get(data.dtype)
        if scratch is None or scratch[0].size < needed:
            scratch = self._scratch[data.dtype] = [np.empty_like(data, shape=needed, order="C") for _ in range(2)]
        return scratch

    # Saving and loading

    def state_dict(self):
        """All that is needed to go on exactly here, as dicts, lists, numbers, text, and copies of arrays.

        {"optimizer": "Adam", "param_groups": [{"lr": ..., "params": [0, 1]}], "state": [{"step": 3, "m": ...}, {}]}
        """
        groups, first = [], 0
        for group in self.param_groups:
            count = len(group["params"])
            groups.append(group | {"params": list(range(first, first + count))})
            first += count
        ### BEGIN SOLUTION
        states = [
            {key: np.array(value) if isinstance(value, np.ndarray) else value for key, value in slot.state.items()}
            for slot in self._slots
        ]
        return {"optimizer": type(self).__name__, "param_groups": groups, "state": states}
        ### END SOLUTION

    def load_state_dict(self, state):
        """Go on where the optimizer that gave `state` stood, options and learning rate included.

        Raises ValueError if `state` is not of this kind of optimizer with parameters of these shapes; then nothing has
        changed.
        """
        groups, states = self._checked_state(state)
        ### BEGIN SOLUTION
        for group, options in zip(self.param_groups, groups):
            group.update(options)
        for slot, memory in zip(self._slots, states):
            slot.state.clear()
            slot.state.update(memory)
        ### END SOLUTION

    def _checked_state(self, state):
        """The options of each group and the state of each parameter, as copies, from a `state_dict`."""
        who = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping) or not {"optimizer", "param_groups", "state"} <= state.keys():
            raise ValueError(f"{who} needs what state_dict() returned, got {type(state).__name__}")
        if state["optimizer"] != type(self).__name__:
            raise ValueError(f"{who} got the state of {state['optimizer']}")
        sizes = [len(group["params"]) for group in self.param_groups]
        theirs = [len(group["params"]) for group in state["param_groups"]]
        if sizes != theirs or len(state["state"]) != len(self._slots):
            raise ValueError(f"{who}: this optimizer has groups of {sizes} parameters, the state of {theirs}")
        groups, states = [], []
        for group, saved in zip(self.param_groups, state["param_groups"]):
            options = {key: value for key, value in saved.items() if key not in ("params", "param_names")}
            if options.keys() != self.defaults.keys():
                raise ValueError(f"{who} needs the options {sorted(self.defaults)}, got {sorted(options)}")
            names, other = group.get("param_names"), saved.get("param_names")
            if names and other and list(names) != list(other):
                raise ValueError(f"{who}: the parameters are {names} here and {other} in the state")
            groups.append(self.check_options(options))
        slot_groups = [options for options, size in zip(groups, sizes) for _ in range(size)]
        for slot, options, saved in zip(self._slots, slot_groups, state["state"]):
            states.append(self._checked_memory(who, slot, options, saved))
        return groups, states

    def _checked_memory(self, who, slot, options, saved):
        """What is remembered about one parameter, as copies."""
        shape, dtype = slot.parameter.shape, slot.parameter.dtype
        if not saved:
            return {}
        steps = saved.get("step")
        missing = [name for name in self.memory(options) if name not in saved]
        if not isinstance(steps, (int, np.integer)) or steps < 1 or missing:
            raise ValueError(f"{who}: the state of {slot.name} needs a step count and {list(self.memory(options))}")
        memory = {"step": int(steps)}
        for name in sorted(saved.keys() - {"step"}):
            array = np.array(saved[name])
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"{who}: {slot.name} is {shape} {dtype}, but its {name} in the state {array.shape} {array.dtype}"
                )
            memory[name] = array
        return memory

    def __repr__(self):
        numbers = sum(slot.parameter.size for slot in self._slots)
        text = f"{type(self).__name__}({len(self._slots)} parameters, {numbers:,} numbers"
        for group in self.param_groups:
            options = ", ".join(f"{name}={group[name]}" for name in self.defaults)
            text += f", {options}" if len(self.param_groups) == 1 else f",\n  {len(group['params'])} with {options}"
        return text + ")"


# %% [markdown]
"""
## Three rules

With the rules and the class written, an optimizer is a few lines. `SGD` is given as the pattern: which options it
checks, what it wants to be kept (a velocity, but only where there is momentum: 4 bytes per weight otherwise spent on
nothing), and a call of its rule.

**Write `Adam.update`** in the same way; `memory` is the list of m and v.

**Write `AdamW.update`.** What is wrong with weight decay in Adam? The decay goes into `g`, and is then divided by
`sqrt(v)` like everything else. So a weight with large gradients is hardly decayed at all, and one with small gradients
strongly. AdamW (Loshchilov and Hutter, 2019) decays the weight itself, by `1 - lr * weight_decay`, and *then* takes
a plain Adam step. For `p = [1]`, `g = [100]`, `lr = 0.1`, `weight_decay = 0.5`:

```
   Adam    g = 100 + 0.5;  the first step is lr, whatever g:   p = 1 - 0.1               = 0.9    (no decay to be seen)
   AdamW   p = 1 * (1 - 0.1 * 0.5) = 0.95;  then the step:     p = 0.95 - 0.1            = 0.85
```

The order matters: decayed after the step, it would be `(1 - 0.1) * 0.95 = 0.855`.

<details><summary>Hint 1</summary>

Unpack `memory` in the order of its names, and call `adam_update` with what the options of the group say.
</details>
<details><summary>Hint 2</summary>

The first line of `AdamW.update` scales `p` in place, by 1 minus the product of learning rate and decay.
</details>
<details><summary>Hint 3</summary>

The second is Adam's own `update`, through `super()`, with options in which the decay is 0: `options | {...}` makes
such a copy.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "optimizers-rules", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class SGD(Optimizer):
    """Gradient descent, with momentum if asked; see `sgd_update`."""

    def __init__(self, params, lr: float = 0.01, momentum: float = 0.0, weight_decay: float = 0.0, nesterov=False):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def check_options(self, options):
        options = super().check_options(options)
        options["momentum"] = _number("SGD", "momentum", options["momentum"], below=1)
        options["nesterov"] = bool(options["nesterov"])
        if options["nesterov"] and not options["momentum"]:
            raise ValueError("SGD needs momentum > 0 for nesterov=True, got 0; try momentum=0.9")
        return options

    def memory(self, options):
        return ("velocity",) if options["momentum"] else ()

    def update(self, p, g, memory, scratch, step, options):
        velocity = memory[0] if memory else None
        momentum, decay, nesterov = options["momentum"], options["weight_decay"], options["nesterov"]
        sgd_update(p, g, velocity, scratch, options["lr"], momentum, decay, nesterov)


class Adam(Optimizer):
    """Steps of about `lr`, whatever the size of a parameter's gradients; see `adam_update`.

    betas         how much of the average gradient, and of the average squared gradient, is kept per step
    eps           keeps the division sane where gradients vanish
    weight_decay  is added to the gradient (L2); for decay of the weights themselves see `AdamW`
    """

    def __init__(
        self, params, lr: float = 1e-3, betas: tuple = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def check_options(self, options):
        options = super().check_options(options)
        who = type(self).__name__
        if not isinstance(options["betas"], (tuple, list)) or len(options["betas"]) != 2:
            raise TypeError(f"{who} needs two numbers as betas, got {options['betas']!r}")
        options["betas"] = tuple(_number(who, f"betas[{i}]", b, below=1) for i, b in enumerate(options["betas"]))
        options["eps"] = _number(who, "eps", options["eps"])
        return options

    def memory(self, options):
        return ("m", "v")

    def update(self, p, g, memory, scratch, step, options):
        ### BEGIN SOLUTION
        m, v = memory
        lr, betas, eps, decay = options["lr"], options["betas"], options["eps"], options["weight_decay"]
        adam_update(p, g, m, v, scratch, step, lr, betas, eps, decay)
        ### END SOLUTION


class AdamW(Adam):
    """Adam that decays the weights themselves, by 1 - lr * weight_decay, before it steps (Loshchilov & Hutter 2019)."""

    def __init__(
        self, params, lr: float = 1e-3, betas: tuple = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01
    ):
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, p, g, memory, scratch, step, options):
        ### BEGIN SOLUTION
        p *= 1 - options["lr"] * options["weight_decay"]
        super().update(p, g, memory, scratch, step, options | {"weight_decay": 0.0})
        ### END SOLUTION


# %%
def first_step(rule, **options):
    """Where w = 1 is after one step with gradient 100."""
    w = Tensor([1.0], requires_grad=True)
    w.grad = np.array([100.0], np.float32)
    optimizer = rule([w], lr=0.1, **options)
    optimizer.step()
    return w.item()


print("Adam   with decay 0.5:", first_step(Adam, weight_decay=0.5))
print("AdamW  with decay 0.5:", first_step(AdamW, weight_decay=0.5))

# %% [markdown]
"""
### On a network

Two crescents that bend around each other, and a small network that has to tell them apart. Every optimizer starts
from the same weights and makes 150 steps, at ten learning rates between 0.0003 and 10. The question is less which one
wins at its best than how wide the range is in which it does well: nobody tells you the best rate in advance.
"""


# %%
def crescents(count, rng):
    """Points (2 count, 2) on two noisy half circles, and which of the two each is on."""
    angle = rng.uniform(0, np.pi, (2, count))
    upper = np.stack([np.cos(angle[0]), np.sin(angle[0])], axis=1)
    lower = np.stack([1 - np.cos(angle[1]), 0.5 - np.sin(angle[1])], axis=1)
    points = np.concatenate([upper, lower]) + rng.normal(0, 0.1, (2 * count, 2))
    return Tensor(points), Tensor(np.repeat([0, 1], count))


points, labels = crescents(100, np.random.default_rng(0))


def learn(make_optimizer, steps=150):
    """The loss after some steps."""
    model = Sequential(Linear(2, 32, rng=0), ReLU(), Linear(32, 32, rng=1), ReLU(), Linear(32, 2, rng=2))
    optimizer = make_optimizer(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        loss = cross_entropy(model(points), labels)
        loss.backward()
        optimizer.step()
    return loss.item()


rates = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0]
rules = {
    "SGD": SGD,
    "SGD, momentum 0.9": functools.partial(SGD, momentum=0.9),
    "Adam": Adam,
}
print("learning rate     ", "  ".join(f"{lr:7.4g}" for lr in rates))
figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, rule in rules.items():
    losses = [learn(functools.partial(rule, lr=lr)) for lr in rates]
    good = [lr for lr, loss in zip(rates, losses) if loss < 0.1]
    print(f"{name:18}", "  ".join(f"{loss:7.4f}" for loss in losses), f"  below 0.1: {good[0]:g} to {good[-1]:g}")
    axis.loglog(rates, np.clip(losses, 1e-4, 10), marker=".", label=name)
axis.set(xlabel="learning rate", ylabel="loss after 150 steps", ylim=(1e-4, 10))
axis.legend()
plt.show()

# %% [markdown]
"""
Every rule has a window of learning rates, and beyond its right end the loss is worse than no training at all.
Momentum's window lies a factor of ten to the left of plain descent's, as the sum 1 / (1 - 0.9) predicted. Adam's is
the widest, which is why it is what people try first; that its *best* is better is not always so.

### Groups, and looking inside

Decay is meant for weights that multiply something. Biases and scales are usually left alone, which takes two groups.
And when a loss turns into NaN, the first question is *where*: a named optimizer can say it.
"""

# %%
model = Sequential(Linear(2, 32, rng=0), ReLU(), Linear(32, 2, rng=1))
named = model.named_parameters()
optimizer = AdamW(
    [
        {"params": [(name, p) for name, p in named if p.ndim > 1]},
        {"params": [(name, p) for name, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ],
    lr=1e-3,
)
print(optimizer)

cross_entropy(model(points), labels).backward()
model[2].weight.grad[3, 1] = np.nan
before = model[0].weight.data.copy()
try:
    optimizer.step(check=True)
except ValueError as error:
    print(error)
print("any weight moved:", not np.array_equal(before, model[0].weight.data))

# %% [markdown]
"""
### A rule of your own

How much is saved by having written the class once? Here is a published rule that was found by a search over programs
(Lion: Chen et al. 2023): go by the *sign* of a mixture of momentum and gradient. Every weight moves by exactly `lr`. It
keeps one array where Adam keeps two.
"""


# %%
class Lion(Optimizer):
    """p = p - lr * (sign(0.9 m + 0.1 g) + weight_decay * p);  m = 0.99 m + 0.01 g."""

    def __init__(self, params, lr=1e-4, weight_decay=0.0):
        super().__init__(params, lr=lr, weight_decay=weight_decay)

    def memory(self, options):
        return ("m",)

    def update(self, p, g, memory, scratch, step, options):
        (m,), (s, t) = memory, scratch
        np.add(np.multiply(m, 0.9, out=s), np.multiply(g, 0.1, out=t), out=s)
        np.sign(s, out=s)
        s += np.multiply(p, options["weight_decay"], out=t)
        p -= np.multiply(s, options["lr"], out=s)
        m *= 0.99
        m += np.multiply(g, 0.01, out=t)


print(f"Lion: loss after 150 steps {learn(functools.partial(Lion, lr=0.003)):.4f}")

# %% [markdown]
"""
## What it costs

**Memory.** A weight is 4 bytes, its gradient 4 more; what does each rule add? The cell counts what is really held,
for a network of the size that reads handwritten digits.
"""


# %%
def held(optimizer):
    """Bytes of the parameters, and bytes of everything remembered about them."""
    weights = sum(p.data.nbytes for p in optimizer.parameters)
    kept = sum(value.nbytes for state in optimizer.state for value in state.values() if isinstance(value, np.ndarray))
    return weights, kept


def digit_reader():
    return Sequential(Linear(784, 512, rng=0), ReLU(), Linear(512, 256, rng=1), ReLU(), Linear(256, 10, rng=2))


images, digit = randn(128, 784, rng=0), Tensor(np.arange(128) % 10)
for name, make in {
    "SGD": SGD,
    "SGD, momentum": functools.partial(SGD, momentum=0.9),
    "Adam": Adam,
}.items():
    model = digit_reader()
    optimizer = make(model.parameters())
    cross_entropy(model(images), digit).backward()
    optimizer.step()
    weights, kept = held(optimizer)
    print(f"{name:14} weights {weights / 1e6:5.2f} MB   remembered {kept / 1e6:5.2f} MB   {kept / weights:.0f} x")

# %% [markdown]
"""
**Time.** How long does a step take beside the forward and backward pass that it follows? And how much of it is
spent on the small parameters, the biases, where there is next to nothing to compute and Python's own overhead is all
there is?
"""

# %%
model = digit_reader()
optimizer = Adam(model.parameters())


def forward_backward():
    optimizer.zero_grad()
    cross_entropy(model(images), digit).backward()


forward_backward()
step = time_of(optimizer.step, 20)
tiny = Adam([Tensor(np.zeros(10), requires_grad=True) for _ in range(100)])
for p in tiny.parameters:
    p.grad = np.ones_like(p.data)
print(f"forward and backward   {1e3 * time_of(forward_backward, 20):6.2f} ms")
print(f"Adam step              {1e3 * step:6.2f} ms for {sum(p.size for p in optimizer.parameters):,} weights")
print(f"overhead               {1e6 * time_of(tiny.step, 20) / 100:6.2f} us per parameter, however small")

# %%
count = 4_000_000
w = Tensor(np.ones(count), requires_grad=True)
w.grad = np.full(count, 0.5, np.float32)
optimizer = Adam([w])
optimizer.step()  # from here on, m and v are there
m, v = optimizer.state[0]["m"], optimizer.state[0]["v"]
for name, function in {
    "expressions": lambda: naive_adam(w.data, w.grad, m, v, 2),
    "in place, in pieces": optimizer.step,
}.items():
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"Adam, {count:,} weights, {name:20} {1e3 * time_of(function):6.1f} ms   new memory {peak / 1e6:6.2f} MB")

# %% [markdown]
"""
Adam reads p, g, m and v and writes p, m and v: seven times 4 bytes for every weight, and some eleven operations on
them. A processor core can do several operations per byte that it fetches. So a step takes as long as its 28 bytes per
weight take to travel, and the only thing worth optimizing is how often they travel.

## All together
"""

# %%
w = Tensor([10.0], requires_grad=True)
w.grad = np.array([1.0], np.float32)
optimizer = SGD([w], lr=0.1, momentum=0.9)
for position in (9.9, 9.71, 9.439):  # velocities 1, 1.9, 2.71
    optimizer.step()
    assert abs(w.item() - position) < 1e-5

assert [p.tolist() for (p,) in pieces(np.arange(5), size=2)] == [[0, 1], [2, 3], [4]]
assert abs(first_step(Adam) - 0.9) < 1e-6
assert abs(first_step(AdamW, weight_decay=0.5) - 0.85) < 1e-6
assert abs(first_step(SGD, weight_decay=0.5) - (1 - 0.1 * 100.5)) < 1e-5

manual_seed(0)
a, b = digit_reader(), digit_reader()
first = Adam(a.parameters())
for _ in range(3):
    first.zero_grad()
    cross_entropy(a(images), digit).backward()
    first.step()
b.load_state_dict(a.state_dict())
second = Adam(b.parameters(), lr=0.5)
second.load_state_dict(first.state_dict())
for model, optimizer in ((a, first), (b, second)):
    optimizer.zero_grad()
    cross_entropy(model(images), digit).backward()
    optimizer.step()
assert second.lr == 1e-3
assert all(np.array_equal(p.data, q.data) for p, q in zip(a.parameters(), b.parameters()))

w = Tensor([1.0], requires_grad=True)
still = Tensor([1.0], requires_grad=True)
w.grad = np.ones(1, np.float32)
optimizer = Adam([("w", w), ("still", still)])
optimizer.step()
optimizer.zero_grad()
assert w.grad is None
assert optimizer.state[1] == {}
print(optimizer)

# %% [markdown]
"""
## Questions

**1.** GPT-2 in its smallest size has 124 million parameters, GPT-3 has 175 billion. Both are trained with Adam. In
float32, how many bytes do weights, gradients, m and v take together, before a single activation is stored?

<details><summary>Answer</summary>

Four numbers of 4 bytes for each parameter, 16 bytes. GPT-2 small: 124e6 * 16 = 1.98 GB, of which the weights are a
quarter. GPT-3: 175e9 * 16 = 2.8 TB, more than any machine has; the optimizer state has to be spread over many. With
momentum SGD it would be 12 bytes, with Lion 12, with plain SGD 8.
</details>

**2.** With `momentum=0.9` and `lr=0.1`, how far does a weight move per step in the end, if its gradient is always 1?
You switch momentum on in a script that ran well with plain SGD at 0.1. What will happen, and what should you do?

<details><summary>Answer</summary>

The velocity tends to 1 / (1 - 0.9) = 10, so a step is 1.0: ten times as long. If 0.1 was close to the limit, the loss
explodes. Divide the learning rate by 10 when momentum 0.9 comes in, and by 100 for 0.99.
</details>

**3.** "Adam's first step is lr, whatever the gradient." Is it still true for a gradient of 1e-10? For which gradients
does it begin to fail, and is that good or bad?

<details><summary>Answer</summary>

The step is lr * |g| / (|g| + eps), and eps is 1e-8. For |g| = 1e-10 that is lr / 101. It fails where |g| is not much
larger than eps. Below, eps acts as a floor: a gradient that small is mostly rounding error, and it is well that
it does not move the weight by a full lr. (In half precision, 1e-8 is rounded to 0: there eps has to be larger.)
</details>

**4.** Forget the bias correction in Adam, and keep everything else. How long is the first step, the tenth and the
thousandth, for a constant gradient?

<details><summary>Answer</summary>

After t steps m is (1 - 0.9^t) g and v is (1 - 0.999^t) g^2, so the step is lr (1 - 0.9^t) / sqrt(1 - 0.999^t). For t =
1: 0.1 / 0.0316 = 3.2 lr. For t = 10: 0.651 / 0.0998 = 6.5 lr. For t = 1000: 1 / 0.795 = 1.26 lr. So it is too long just
where the gradients can be trusted least. A warm-up of the learning rate (module 07) hides it.
</details>

**5.** A machine moves 20 GB per second between memory and processor. How long does one Adam step take at least for 10
million parameters? For the 124 million of GPT-2 small? Can a faster processor core help?

<details><summary>Answer</summary>

28 bytes per parameter: 280 MB, 14 ms; and 3.5 GB, 174 ms. A faster core does not help, more memory bandwidth does,
and so does a rule that remembers less, or keeps m and v in fewer bits.
</details>
"""
