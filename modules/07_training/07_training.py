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
# 07 · Training: the loop, and how to survive a crash

| | |
|---|---|
| **You have** | models, losses, exact gradients, optimizers (modules 01 to 06) |
| **You will build** | learning-rate schedules, gradient clipping, exact gradient accumulation, a `Trainer`, and checkpoints that outlive a pulled plug |
| **You will be able to** | train anything with one call, read from its history what is going wrong, double the batch without doubling the memory, and go on after `kill -9` as if nothing had happened, to the last bit |

Needs modules 01 to 06. Exports `core/training.py` and `core/checkpoint.py`. Medium; about four hours.

```
        +--------------------------------- for every epoch ---------------------------------+
        |  schedule: how long are the steps now?                                             |
        |  +---------------------------- for every batch ---------------------------------+  |
        |  |  forward -> loss -> is it a number? -> backward -> clip -> optimizer.step()  |  |
        |  +------------------------------------------------------------------------------+  |
        |  evaluate: eval mode, no gradients, every sample counts the same                   |
        |  checkpoint: all of it on disk, or what was there before; never half               |
        +-------------------------------------------------------------------------------------+
```

The loop is eight lines, and you could write it now. This lesson is about everything that goes wrong around those lines.
"""

# %%
#| default_exp core.training

# %%
#| export
"""Training: schedules for the learning rate, clipping, and the loop around forward, backward and step.

A schedule is a function from epoch to learning rate. `Trainer` runs the loop: it accumulates gradients exactly, refuses
to step on a loss or gradient that is no number, evaluates, keeps a history, reports through callbacks, and can be
saved and taken up again so that the weights come out the same to the last bit.
"""

import math
import os
import sys
import time
from contextlib import contextmanager

import numpy as np

from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Module, walk
from tinytorch.core.losses import CrossEntropyLoss, NLLLoss
from tinytorch.core.optimizers import Optimizer, pieces
from tinytorch.core.tensor import Tensor

# %%
import functools
import signal
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import matplotlib.pyplot as plt

from tito import pictures
from tinytorch.core.activations import ReLU, Tanh
from tinytorch.core.layers import Dropout, Linear, Sequential
from tinytorch.core.losses import MSELoss, cross_entropy, mse_loss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import generator, manual_seed

np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
"""
## The loop by hand

Something to train on first: three arms of a spiral, and the question which arm a point is on. A straight line cannot
separate them; a small network can.
"""


# %%
def spirals(count, rng):
    """Points (3 count, 2) on three arms, and the arm of each, in random order."""
    distance = rng.uniform(0.1, 1, (3, count))
    angle = 4.5 * distance + 2 * np.pi * np.arange(3)[:, None] / 3
    points = np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=-1).reshape(-1, 2)
    points += rng.normal(0, 0.03, points.shape)
    order = rng.permutation(3 * count)
    return Tensor(points[order]), Tensor(np.repeat(np.arange(3), count)[order])


points, arms = spirals(200, np.random.default_rng(0))
unseen_points, unseen_arms = spirals(100, np.random.default_rng(1))


class Batches:
    """A new random order in every epoch; module 08 builds the real thing."""

    def __init__(self, inputs, targets, size):
        self.inputs, self.targets, self.size = inputs, targets, size

    def __len__(self):
        return math.ceil(len(self.inputs) / self.size)

    def __iter__(self):
        order = generator().permutation(len(self.inputs))
        for start in range(0, len(order), self.size):
            rows = order[start : start + self.size]
            yield self.inputs[rows], self.targets[rows]


def network(dropout=0.0):
    return Sequential(Linear(2, 64), Tanh(), Linear(64, 64), Tanh(), Dropout(dropout), Linear(64, 3))


manual_seed(0)
train, unseen = Batches(points, arms, 32), [(unseen_points, unseen_arms)]
model = network()
optimizer = Adam(model.parameters(), lr=0.01)
for epoch in range(20):
    for inputs, targets in train:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
    if epoch % 5 == 4:
        right = (model(unseen_points).argmax(axis=1) == unseen_arms).numpy().mean()
        print(f"epoch {epoch + 1:2}: loss of the last batch {loss.item():.3f}, of unseen points {right:.0%} right")

# %% [markdown]
"""
It works. Now count what it does not do. The learning rate is the same at the start, where the weights are random, and
at the end, where they are nearly right. One bad batch could throw everything away. "Loss of the last batch" is a
lottery ticket. And if the machine stops in epoch 19, nothing is left.

## Schedules: long steps first, short ones later

A step that is too long to settle into a minimum may be just right for reaching it. So the learning rate should fall.
The most used curve is half a cosine: flat at first, steep in the middle, flat at the end.

```
   lr                                          epoch e of E:
   max  *  *                                   lr = min + (max - min) * (1 + cos(pi e / E)) / 2
                *
                    *                          E = 10, max 0.1, min 0:
                        *                         e = 0:   0.1 * (1 + 1) / 2 = 0.1
                            *                     e = 5:   0.1 * (1 + 0) / 2 = 0.05
   min                          *   *             e = 10:  0.1 * (1 - 1) / 2 = 0
        0                           E
```

And at the very start? Look at what Adam does there. Its first step is `lr` for every weight whatever the gradient
(module 06), because m and v have seen one batch only. The cell measures how long its steps are, on average over all
weights, as a share of `lr`:
"""

# %%
manual_seed(0)
model = network()
optimizer = Adam(model.parameters(), lr=0.001)
lengths = []
while len(lengths) < 200:
    for inputs, targets in train:
        before = [p.data.copy() for p in model.parameters()]
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        moved = np.concatenate([np.abs(p.data - old).ravel() for p, old in zip(model.parameters(), before)])
        lengths.append(moved.mean() / optimizer.lr)
for step in (1, 2, 5, 10, 50, 200):
    print(f"step {step:3}: {lengths[step - 1]:.2f} lr")

# %% [markdown]
"""
The longest steps come first, when the least is known about the direction. That is what a *warm-up* is for: let the
rate rise from small to full over the first epochs. Small networks forgive its absence, deep ones often do not (Liu et
al. 2020 trace it to just this: v is a poor estimate at first).

We count epochs from 0 and make the first rate not 0 but one step up, since an epoch at rate 0 would be wasted: with
`warmup=4`, epochs 0, 1, 2, 3 have 1/5, 2/5, 3/5, 4/5 of the rate, and epoch 4 the full one. The epoch may also be a
fraction, 2.5 in the middle of the third, for those who want the rate to move with every step.

**Write `rate` in three classes.** (The checks, and calling a schedule like a function, are given.)

- `StepSchedule(max_lr, step_size, gamma)`: multiply by gamma after every `step_size` epochs. `StepSchedule(1.0, 10,
  0.1)` is 1 up to epoch 9, 0.1 from 10 to 19, 0.01 from 20 on.
- `LinearWarmup(schedule, warmup)`: before epoch `warmup`, the share `(epoch + 1) / (warmup + 1)` of the rate that
  `schedule` has at epoch `warmup`; from then on what `schedule` says. `LinearWarmup(0.5, 4)` is 0.1, 0.2, 0.3, 0.4,
  0.5, 0.5, ...
- `CosineSchedule(max_lr, min_lr, total_epochs, warmup=0)`: the half cosine. After a warm-up it runs from epoch
  `warmup` to epoch `total_epochs`, and stays at `min_lr` afterwards. `CosineSchedule(0.1, 0.0, 10)` is 0.1 at 0, 0.05
  at 5, 0 at 10 and at 11.

<details><summary>Hint 1</summary>

`epoch // step_size` says how many times a step schedule has been multiplied by gamma, for fractions of an epoch too.
</details>
<details><summary>Hint 2</summary>

For the cosine, first work out `done`, how much of the way from `warmup` to `total_epochs` lies behind: 0 at the
first, 1 at the second, and never more than 1.
</details>
<details><summary>Hint 3</summary>

The warm-up of `CosineSchedule` need not be written again: `LinearWarmup.rate` asks any schedule for its rate, and
`_share` below is what both need.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "training-schedules", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _at_least(who, name, value, least, strictly=False):
    """`value` as a float, checked."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{who} needs a number as {name}, got {value!r}")
    if not math.isfinite(value) or value < least or (strictly and value == least):
        raise ValueError(f"{who} needs {name} {'>' if strictly else '>='} {least}, got {value}")
    return float(value)


def _share(epoch, warmup):
    """How much of the full rate there is at `epoch`: 1 / (warmup + 1), 2 / (warmup + 1), ..., 1, 1, ..."""
    return min(1.0, (epoch + 1) / (warmup + 1))


class Schedule:
    """A learning rate for every epoch: schedule(epoch), counted from 0, fractions allowed. Subclasses write `rate`."""

    def __call__(self, epoch):
        return float(self.rate(_at_least(type(self).__name__, "epoch", epoch, 0)))

    def rate(self, epoch):
        raise NotImplementedError(f"{type(self).__name__} does not say what the rate is")

    def __repr__(self):
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({options})"


class StepSchedule(Schedule):
    """`max_lr`, multiplied by `gamma` after every `step_size` epochs."""

    def __init__(self, max_lr: float, step_size: float, gamma: float = 0.1):
        self.max_lr = _at_least("StepSchedule", "max_lr", max_lr, 0)
        self.step_size = _at_least("StepSchedule", "step_size", step_size, 0, strictly=True)
        self.gamma = _at_least("StepSchedule", "gamma", gamma, 0, strictly=True)

    def rate(self, epoch):
        ### BEGIN SOLUTION
        return self.max_lr * self.gamma ** (epoch // self.step_size)
        ### END SOLUTION


class LinearWarmup(Schedule):
    """Rise linearly for `warmup` epochs to where `schedule` is then, a schedule or a constant rate, and follow it."""

    def __init__(self, schedule, warmup: float):
        self.schedule = schedule if callable(schedule) else _at_least("LinearWarmup", "its rate", schedule, 0)
        self.warmup = _at_least("LinearWarmup", "warmup", warmup, 0)

    def rate(self, epoch):
        after = self.schedule if callable(self.schedule) else lambda epoch: self.schedule
        ### BEGIN SOLUTION
        return _share(epoch, self.warmup) * after(max(epoch, self.warmup))
        ### END SOLUTION


class CosineSchedule(Schedule):
    """From `max_lr` to `min_lr` along half a cosine, after `warmup` epochs of linear rise (Loshchilov & Hutter 2017).

    total_epochs  where `min_lr` is reached, the warm-up included; it stays there
    """

    def __init__(self, max_lr: float, min_lr: float, total_epochs: float, warmup: float = 0):
        who = "CosineSchedule"
        self.max_lr = _at_least(who, "max_lr", max_lr, 0)
        self.min_lr = _at_least(who, "min_lr", min_lr, 0)
        self.total_epochs = _at_least(who, "total_epochs", total_epochs, 0, strictly=True)
        self.warmup = _at_least(who, "warmup", warmup, 0)
        if self.min_lr > self.max_lr:
            raise ValueError(f"{who} falls from max_lr to min_lr, got max_lr={max_lr} and min_lr={min_lr}")
        if self.warmup >= self.total_epochs:
            raise ValueError(f"{who} needs warmup < total_epochs, got {warmup} of {total_epochs} epochs")

    def rate(self, epoch):
        ### BEGIN SOLUTION
        done = min(1.0, max(0.0, epoch - self.warmup) / (self.total_epochs - self.warmup))
        fallen = self.min_lr + (self.max_lr - self.min_lr) * (1 + math.cos(math.pi * done)) / 2
        return _share(epoch, self.warmup) * fallen
        ### END SOLUTION


# %%
schedules = [
    CosineSchedule(0.1, 0.001, 30),
    CosineSchedule(0.1, 0.001, 30, warmup=5),
    StepSchedule(0.1, 10),
    LinearWarmup(StepSchedule(0.1, 10, gamma=0.5), 5),
]
figure, axis = plt.subplots(figsize=(7, 3), layout="constrained")
epochs = np.linspace(0, 32, 500)
for schedule in schedules:
    axis.plot(epochs, [schedule(epoch) for epoch in epochs], label=type(schedule).__name__)
    print(schedule)
    print("    ", "  ".join(f"{epoch}: {schedule(epoch):.4f}" for epoch in (0, 4, 5, 15, 29)))
axis.set(xlabel="epoch", ylabel="learning rate")
axis.legend(fontsize=8)
plt.show()

# %% [markdown]
"""
## Clipping: one bad batch

Some losses have cliffs. Multiply by the same weight twenty times, as a recurrent network does, and ask for the result
1: the loss is `(w^20 - 1)^2`. At w = 1 all is well. At w = 1.5, which is not far away, `w^20` is 3325 and the slope
is `2 * 3324 * 20 * 1.5^19`: about 290 million. What does a step of 0.01 times that do?

The direction is right, only the length is absurd. So keep the direction and limit the length: if the *norm* of the
gradient, over all parameters together, is above `max_norm`, scale all of it down by the same factor.

```
   gradients [3, 0] and [4]:   norm = sqrt(9 + 0 + 16) = 5
   max_norm = 1:               times 1/5:  [0.6, 0] and [0.8]        same direction, length 1
   max_norm = 10:              5 is below: nothing happens
```

Clip each parameter by itself, and the direction changes. Return the norm *before*: it is what one wants to plot, since
afterwards it says `max_norm` all the time.

And a gradient that holds a NaN? Its norm is NaN, and to scale by NaN would spread it into every parameter. We refuse.

**Write `gradient_norm`** in one pass over the gradients. The sum of squares of a flat piece is `np.vdot(piece,
piece)`: one call, no temporary array. It adds up in the dtype of the gradient, so take pieces (`pieces` of module 06
cuts), turn each sum into a Python float, and add those. Parameters without gradient count nothing.

**Write the end of `clip_grad_norm`**: scale if needed, return the norm. Give each parameter a *new* array: two
parameters may hold the same one.

`gradient_norm` of the example is 5.0. `clip_grad_norm(parameters, 1.0)` returns 5.0 and leaves `[0.6, 0]` and `[0.8]`.

<details><summary>Hint 1</summary>

Two loops, one over parameters and one over `pieces(p.grad)`, which yields lists of one array each.
</details>
<details><summary>Hint 2</summary>

`float(np.vdot(piece, piece))`; a sum of NumPy float32 numbers would stay a float32 and lose small terms.
</details>
<details><summary>Hint 3</summary>

For a gradient of shape `()` the product with a number is no longer an array; `np.asarray` makes it one again.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "training-clip", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def gradient_norm(parameters) -> float:
    """The length of all gradients together: the root of the sum of their squares. NaN or inf if one holds such."""
    parameters = [p for p in parameters if p.grad is not None]
    total = 0.0
    ### BEGIN SOLUTION
    for p in parameters:
        for (piece,) in pieces(p.grad):
            total += float(np.vdot(piece, piece))
    ### END SOLUTION
    if 1e-30 < total < math.inf or math.isnan(total) or not parameters:
        return math.sqrt(total)
    largest = max(float(np.abs(p.grad).max(initial=0)) for p in parameters)  # the squares left the range of the dtype
    if largest in (0.0, math.inf):
        return largest
    scaled = (np.asarray(p.grad, np.float64) / largest for p in parameters)
    return largest * math.sqrt(sum(float(np.vdot(grad, grad)) for grad in scaled))


def clip_grad_norm(parameters, max_norm: float) -> float:
    """Scale all gradients by one factor so that their norm is at most `max_norm`. Returns the norm before.

    parameters  tensors, or (name, tensor) pairs, so that errors can name them
    max_norm    > 0; math.inf only measures

    Raises ValueError if a gradient holds NaN or infinity, and names it; then no gradient has changed.
    """
    if isinstance(parameters, Tensor):
        parameters = [parameters]
    named = [p if isinstance(p, tuple) else (f"parameter {i}", p) for i, p in enumerate(parameters)]
    for name, p in named:
        if not isinstance(p, Tensor):
            raise TypeError(f"clip_grad_norm needs tensors, as model.parameters() gives, but {name} is {p!r}")
    if max_norm != math.inf:
        _at_least("clip_grad_norm", "max_norm", max_norm, 0, strictly=True)
    norm = gradient_norm(p for _, p in named)
    if not math.isfinite(norm):
        bad = [f"{name} {p.shape}" for name, p in named if p.grad is not None and not np.isfinite(p.grad).all()]
        raise ValueError(f"the norm of the gradients is {norm}; NaN or infinity is in the gradient of {', '.join(bad)}")
    ### BEGIN SOLUTION
    if norm > max_norm:
        for _, p in named:
            if p.grad is not None:
                p.grad = np.asarray(p.grad * (max_norm / norm))
    return norm
    ### END SOLUTION


# %%
for max_norm in (math.inf, 1.0):
    w = Tensor([1.5], requires_grad=True)
    optimizer = SGD([w], lr=0.01)
    path, norms = [w.item()], []
    for _ in range(60):
        optimizer.zero_grad()
        ((w**20 - 1) ** 2).sum().backward()
        norms.append(clip_grad_norm([w], max_norm))
        optimizer.step()
        path.append(w.item())
        if abs(w.item()) > 1e4:
            break
    print(f"max_norm {max_norm}: norm at the start {norms[0]:.3g}; w after", end=" ")
    print(", ".join(f"{step} steps {path[step]:.4g}" for step in (1, 10, 30, 60) if step < len(path)))

# %% [markdown]
"""
## Accumulation: a large batch in small portions

A batch of 1,024 may not fit into memory, because the forward pass keeps every layer's output for the backward pass. But
gradients *add up* (`backward` adds to `p.grad`), and the gradient of a sum is the sum of the gradients. So go through
the batch in portions, call `backward` after each, and step once at the end.

What must each portion's loss be multiplied by, so that the result is exactly the gradient of the whole batch? "By 1/k
for k portions", says nearly every tutorial. Try it with six samples whose losses are 1, 1, 1, 1 and 4, 4, in portions
of four and two (the last one is often smaller):

```
   the mean over all six         (1 + 1 + 1 + 1 + 4 + 4) / 6   = 2
   the mean of the two means     (1 + 4) / 2                   = 2.5     wrong: the last two count double
   weighted by their sizes       1 * 4/6 + 4 * 2/6             = 2       right
```

Each portion's mean has to be weighted by its *share of what the mean is over*. For a language model that ignores
padding this is the number of tokens that count, not of sentences; for classes with weights, the sum of their weights.
Getting it wrong crashes nothing. For years it was wrong in widely used training code.

The other classic: scale the loss that is *printed* by 1/k and forget the gradient, or drop the leftover portion at the
end of an epoch.

**Write `grouped`**, a generator that yields lists of `size` batches from any iterable, the last list being shorter if
need be.

`list(grouped("abcde", 2))` is `[["a", "b"], ["c", "d"], ["e"]]`.

<details><summary>Hint 1</summary>

Keep a list. When it is full, yield it and begin a new one.
</details>
<details><summary>Hint 2</summary>

After the loop there may be something in the list. An empty list should not be yielded.
</details>
<details><summary>Hint 3</summary>

"Begin a new one" means a new list. Clearing the old one with `clear()` would empty it under the hands of whoever got
it.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "training-grouped", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def grouped(items, size: int):
    """Lists of `size` items each, in order; the last one holds what is left."""
    ### BEGIN SOLUTION
    group = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
    ### END SOLUTION


def mean_count(loss_fn, targets) -> float:
    """How many terms the mean loss of a batch is taken over, so that means can be combined exactly.

    That is one per target. A CrossEntropyLoss or NLLLoss leaves out the class numbers it ignores, and counts the others
    with the weights of their classes; of a plain function with such habits nothing can be known.
    """
    targets = targets.data
    if targets.dtype.kind not in "iu" or not isinstance(loss_fn, (CrossEntropyLoss, NLLLoss)):
        return float(targets.size)
    if loss_fn.ignore_index is not None:
        targets = targets[targets != loss_fn.ignore_index]
    return float(targets.size if loss_fn.weight is None else np.asarray(loss_fn.weight, np.float64)[targets].sum())


# %%
manual_seed(0)
model = network()
inputs, targets = points[:100], arms[:100]
portions = [(points[start : min(start + 32, 100)], arms[start : min(start + 32, 100)]) for start in range(0, 100, 32)]
cross_entropy(model(inputs), targets).backward()
whole = model[0].weight.grad
for name, share in {"weighted by 1/k": lambda y: 1 / len(portions), "weighted by size": lambda y: len(y) / 100}.items():
    model.zero_grad()
    for x, y in portions:
        (cross_entropy(model(x), y) * share(y)).backward()
    error = np.abs(model[0].weight.grad - whole).max() / np.abs(whole).max()
    print(f"{[len(y) for _, y in portions]} {name}: off by {error:.1e} of the largest gradient")

# %% [markdown]
"""
What is left in the second line is rounding: float32 carries about seven digits.

## Checkpoints

Training takes hours, and machines stop. What has to be on disk so that the run can go on *as if nothing had happened*?

```
   the weights                          of course
   the optimizer: velocities, m, v,     without them Adam starts anew, with its longest steps
     counts, learning rate
   the random generator                 otherwise the next order of samples and every dropout mask differ
   how many epochs are done             for the schedule
   the history                          for the plot
```

All of it goes into one file, because two files can disagree. The format is *safetensors*: eight bytes with a length,
a header in JSON, then the bytes of the arrays. It stores numbers and nothing else. Python's own `pickle` stores
*programs*: whoever opens a pickled file runs what is in it, and model files are downloaded from strangers.

```
   +--------+-----------------------------------------------------------+--------------------+
   | length | {"__metadata__": {"tinytorch": "{...}"},                  | 3f80 0000 bf00 ... |
   | 8 bytes|  "model.0.weight": {"dtype": "F32", "shape": [2, 64],     |                    |
   |        |                     "data_offsets": [0, 512]}, ...}       |                    |
   +--------+-----------------------------------------------------------+--------------------+
```

Everything that is no array (counts, options, the history) becomes one JSON text in the metadata. So a nested
structure has to be taken apart: arrays here, the rest there, and a note where each array was.

**Write `_pack`.** It returns `value` with every array replaced by the dictionary `{"__array__": its name}`, and puts
the arrays into `arrays`. The cases: an array (`_store` puts it away and returns the name); a NumPy number (as a
Python number); a dictionary (pack every value, under the name of the whole and the key; `_items` checks the keys,
which must be text); a list or tuple (likewise, with the position as the key); None, bool, int, float, str (as they
are). Anything else is a TypeError, *now*, before a file has been touched.

`_pack({"step": 3, "m": array}, "state", arrays)` is `{"step": 3, "m": {"__array__": "state.m"}}`, and `arrays` is then
`{"state.m": array}`.

<details><summary>Hint 1</summary>

The function calls itself for what is inside a dictionary or list; the name grows from `"state"` to `"state.m"`.
</details>
<details><summary>Hint 2</summary>

`isinstance(value, np.ndarray)`, `isinstance(value, np.generic)` (a NumPy number; its `item()` is a Python number),
`isinstance(value, Mapping)`, `isinstance(value, (list, tuple))`, in this order.
</details>
<details><summary>Hint 3</summary>

A dictionary is packed by a comprehension over `_items(name, value)`, a list by one over `enumerate`. For what fits
nowhere, raise the TypeError that `_refused` makes.
</details>
"""

# %%
#| export core.checkpoint
"""Checkpoints: a model, its optimizer and the random generator in one file that is whole or not there.

The file is in the safetensors format: arrays, and in the header's metadata one JSON text with everything else. Nothing
is ever unpickled. `save` writes beside the old file and renames; `load` looks at everything before it changes anything.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Mapping

import numpy as np

from tinytorch.core.tensor import Tensor, generator

# %%
#| export core.checkpoint
VERSION = 1  # of what is in the metadata; a file with a higher one is refused

_RESERVED = ("model", "optimizer", "random")


class CheckpointError(ValueError):
    """A file that cannot be used as a checkpoint, and why. Nothing has been changed."""


# %% nbgrader={"grade": false, "grade_id": "checkpoint-pack", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export core.checkpoint
def _refused(name, value):
    return TypeError(
        f"save: {name} is a {type(value).__name__}; a checkpoint holds numbers, text, None, arrays, and lists and "
        "dicts of these"
    )


def _store(array, name, arrays):
    """Put a copy-free, contiguous `array` into `arrays` under a name that is free, and return the name."""
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"save: {name} is an array of {array.dtype}; a checkpoint holds numbers of up to 8 bytes")
    while name in arrays or name == "__metadata__":
        name += "_"
    arrays[name] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    return name


def _items(name, mapping):
    """The items of a dictionary, whose keys must be text, and not the mark of an array."""
    for key in mapping:
        if not isinstance(key, str) or key == "__array__":
            raise TypeError(f"save: {name} has the key {key!r}; keys must be text (and not '__array__')")
    return mapping.items()


def _pack(value, name, arrays):
    """`value` as JSON knows it; arrays go into `arrays`, and {"__array__": name} stands where they were."""
    if isinstance(value, Tensor):
        value = value.data
    ### BEGIN SOLUTION
    if isinstance(value, np.ndarray):
        return {"__array__": _store(value, name, arrays)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _pack(part, f"{name}.{key}" if name else key, arrays) for key, part in _items(name, value)}
    if isinstance(value, (list, tuple)):
        return [_pack(part, f"{name}.{i}", arrays) for i, part in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise _refused(name, value)
    ### END SOLUTION


def _unpack(value, arrays):
    """The opposite of `_pack`."""
    if isinstance(value, dict):
        if value.keys() == {"__array__"}:
            return arrays[value["__array__"]]
        return {key: _unpack(part, arrays) for key, part in value.items()}
    if isinstance(value, list):
        return [_unpack(part, arrays) for part in value]
    return value


# %%
arrays = {}
packed = _pack({"epoch": 3, "losses": [0.5, np.float32(0.25)], "state": [{"m": np.ones(2)}, {}]}, "", arrays)
print(packed)
print(arrays)

# %% [markdown]
"""
### All or nothing

Now write the bytes. `open(path, "wb")` *empties the old file at once*. If the machine stops a moment later, the old
checkpoint is gone and the new one is not there yet: the one moment where a checkpoint is needed is the moment it does
not exist. So:

```
   1.  write everything into a temporary file beside it        old file: untouched
   2.  flush, fsync: wait until the bytes are on the disk      old file: untouched
   3.  rename it to the name of the old one                    one step, from old to new, for the whole file
   4.  fsync the folder, so that the new name is on the disk too
```

Step 3 (`os.replace`) is atomic: whoever looks sees the old file or the new one. Why step 2? Without it the system may
write the new *name* to the disk before the new *bytes*; after a power cut the name is there and the file is empty.

**Write `_replace_file`**, steps 1 to 3 (step 4 is given). If anything goes wrong on the way, remove the temporary
file and let the error pass on.

<details><summary>Hint 1</summary>

The file's `flush` empties Python's buffer into the system's; `os.fsync` of its `fileno()` empties the system's onto the
disk. Both belong inside the `with`, while the file is open.
</details>
<details><summary>Hint 2</summary>

A `try` around steps 1 to 3. Its `except` has to catch a Ctrl-C too, which is a `BaseException` but no `Exception`, and
ends in a bare `raise`.
</details>
<details><summary>Hint 3</summary>

To remove a file that was not made yet is a FileNotFoundError, which `contextlib.suppress` swallows.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "checkpoint-replace", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export core.checkpoint
def _replace_file(path, data):
    """Make the file `path` hold the bytes `data`. Whenever a crash comes, it is the old file or the new one."""
    path = os.path.realpath(path)  # through a link, to the file it stands for
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    ### BEGIN SOLUTION
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise
    ### END SOLUTION
    if os.name == "posix":  # elsewhere folders cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


# %% [markdown]
"""
What does it leave behind if it cannot finish? Text is not bytes, so the second call fails in the middle of step 1:
"""

# %%
folder = Path(tempfile.mkdtemp())
_replace_file(folder / "note", b"old")
try:
    _replace_file(folder / "note", "new")
except TypeError as error:
    print("refused:", error)
print("content:", (folder / "note").read_bytes(), "in the folder:", os.listdir(folder))
(folder / "note").unlink()

# %% [markdown]
"""
### Look first, change later

A checkpoint that does not fit must not leave half of a model changed. Truncated, damaged, from another program, from
another model, from a newer version: all of it is found out before the first weight is touched. A checksum over
everything catches even a single flipped bit.

**Write `_misfits`**: given two dictionaries from name to array, what the model has and what the file has, return a
list of lines, one for each name that is `missing: ...` in the file, one for each that is `unexpected: ...`, and one
for each whose shape or dtype differs.

With `here = {"a": zeros (2,), "b": zeros (3,)}` and `saved = {"b": zeros (4,), "c": zeros (1,)}` there are three
lines, one for each of a, c and b.

<details><summary>Hint 1</summary>

Three loops or comprehensions: names only here, names only in the file, names in both.
</details>
<details><summary>Hint 2</summary>

For names in both compare `array.shape` and `array.dtype`; the line should say what is here and what is in the file.
</details>
<details><summary>Hint 3</summary>

`here.keys() & saved.keys()` are the names in both, as a set, and sets have no order. Sort the lines at the end, so that
the same error always reads the same.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "checkpoint-misfits", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export core.checkpoint
def _misfits(here, saved):
    """What keeps the arrays in `saved` from being those in `here`, as lines of text; both from name to array."""
    ### BEGIN SOLUTION
    lines = [f"missing: {name} {array.shape}" for name, array in here.items() if name not in saved]
    lines += [f"unexpected: {name} {array.shape}" for name, array in saved.items() if name not in here]
    for name in here.keys() & saved.keys():
        ours, theirs = here[name], saved[name]
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            lines.append(f"{name} is {ours.shape} {ours.dtype} here and {theirs.shape} {theirs.dtype} in the file")
    return sorted(lines)
    ### END SOLUTION


def _model_state(model):
    """From name to array: the model's own `state_dict`, or its parameters by number; a dictionary is taken as it is."""
    if isinstance(model, Mapping):
        return dict(model)
    if callable(getattr(model, "state_dict", None)):
        return model.state_dict()
    if callable(getattr(model, "parameters", None)):
        return {str(i): p.data for i, p in enumerate(model.parameters())}
    raise TypeError(f"a checkpoint needs a model with parameters(), got {type(model).__name__}")


def _set_model_state(model, state):
    if callable(getattr(model, "load_state_dict", None)):
        model.load_state_dict(state)
        return
    for p, array in zip(model.parameters(), state.values()):
        np.copyto(p.data, array)
        p._version += 1


def _checksum(text, arrays):
    """A number that changes if any character of `text` or any bit of `arrays` does."""
    total = zlib.crc32(text.encode())
    for name, array in sorted(arrays.items()):
        total = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), total)
        total = zlib.crc32(array.reshape(-1), total)
    return total


def _checked_path(who, path):
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{who} needs a path as its first argument, got {type(path).__name__}") from None


def save(path, model, optimizer=None, **extra):
    """Write a checkpoint: the model, the optimizer, the random generator's state, and whatever else there is to keep.

    model  anything with parameters(), or a dictionary from name to array
    extra  numbers, text, None, arrays, and lists and dicts of these; `load` returns them by name

    The file is replaced in one step: after a crash at any moment it is the new one or the old one. A process killed
    while it writes may leave a file `.NAME.PID.tmp` beside it, which can be deleted.
    """
    from safetensors.numpy import save as serialize

    path = _checked_path("save", path)
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"save: there is no folder {folder}; make it first, with os.makedirs")
    if os.path.isdir(path) or not path:
        raise IsADirectoryError(f"save needs the path of a file, got {path!r}")
    if optimizer is not None and not callable(getattr(optimizer, "state_dict", None)):
        raise TypeError(f"save needs an optimizer with a state_dict(), got {type(optimizer).__name__}")
    taken = [name for name in _RESERVED if name in extra]
    if taken:
        raise ValueError(f"save keeps the name {taken[0]!r} for itself; choose another")
    state = {
        "model": _model_state(model),
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "random": generator().bit_generator.state,
        **extra,
    }
    arrays = {}
    content = _pack(state, "", arrays)
    checksum = _checksum(json.dumps(content), arrays)
    document = json.dumps({"version": VERSION, "checksum": checksum, "content": content})
    _replace_file(path, serialize(arrays, {"tinytorch": document}))


def _read(path):
    """What `save` was given, from a file that has been checked from the first byte to the last."""
    from safetensors import SafetensorError, safe_open

    if os.path.isdir(path):
        raise CheckpointError(f"{path} is a folder, not a checkpoint")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if "tinytorch" not in metadata:
                raise CheckpointError(
                    f"{path} is a safetensors file, but not a checkpoint of TinyTorch; "
                    "safetensors.numpy.load_file reads its arrays"
                )
            document = json.loads(metadata["tinytorch"])
            version = document.get("version") if isinstance(document, dict) else None
            if not isinstance(version, int) or version < 1:
                raise CheckpointError(f"{path} is damaged: its metadata makes no sense")
            if version > VERSION:
                raise CheckpointError(
                    f"{path} has version {version} of the format, written by a newer TinyTorch; "
                    f"this one reads versions up to {VERSION}"
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise FileNotFoundError(f"load: there is no file {path}") from None
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged or cut short ({error})") from None
    content = document.get("content")
    if document.get("checksum") != _checksum(json.dumps(content), arrays):
        raise CheckpointError(f"{path} is damaged: its checksum does not fit its content")
    if not isinstance(content, dict) or not content.keys() >= set(_RESERVED):
        raise CheckpointError(f"{path} lacks some of {', '.join(_RESERVED)}")
    return _unpack(content, arrays)


def _checked_random(path, state):
    """Raise unless the library's random generator can take `state`."""
    trial = type(generator().bit_generator)()
    try:
        trial.state = state
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} holds the state of another kind of random generator ({error})") from None


def load(path, model=None, optimizer=None, check=None):
    """Read a checkpoint; give `model` its weights back, and `optimizer` all that it remembered.

    With an optimizer a run is taken up again, and the library's random generator goes back to where it was as well.

    check    called with what will be returned before anything changes; may raise
    returns  a dict: the extra values by name, "model" (name -> array), "optimizer" (its state, or None) and "random"

    Raises FileNotFoundError, or CheckpointError if the file is truncated, damaged, foreign, of a newer version, or of
    another model or optimizer. Then model, optimizer and random generator are as before.
    """
    path = _checked_path("load", path)
    content = _read(path)
    if model is not None:
        if isinstance(model, Mapping):
            raise TypeError("load fills a model; for a dictionary of arrays use load(path)['model']")
        problems = _misfits(_model_state(model), content["model"])
        if problems:
            raise CheckpointError(f"{path} is not of this {type(model).__name__}:\n  " + "\n  ".join(problems))
    if optimizer is not None:
        if content["optimizer"] is None:
            raise CheckpointError(f"{path} was saved without an optimizer")
        _checked_random(path, content["random"])
    if check is not None:
        check(content)
    if optimizer is not None:
        try:
            optimizer.load_state_dict(content["optimizer"])  # looks at everything before it changes anything
        except ValueError as error:
            raise CheckpointError(f"{path} does not fit this optimizer: {error}") from error
        generator().bit_generator.state = content["random"]
    if model is not None:
        _set_model_state(model, content["model"])
    return content


# %%
manual_seed(0)
model = network()
optimizer = Adam(model.named_parameters(), lr=0.01)
cross_entropy(model(points), arms).backward()
optimizer.step()
save(folder / "first.safetensors", model, optimizer, note="after one step")

data = (folder / "first.safetensors").read_bytes()
length = int.from_bytes(data[:8], "little")
header = data[8 : 8 + length].decode()
print(f"{len(data):,} bytes, of which the header {length:,}")
print(header[: header.index("content")], "...")
print(load(folder / "first.safetensors")["note"])

# %% [markdown]
"""
Three ways in which it is refused, and the weights before and after:
"""

# %%
weights = model[0].weight.data.copy()
(folder / "cut.safetensors").write_bytes(data[:-100])
(folder / "flipped.safetensors").write_bytes(data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
for name, other in {
    "cut.safetensors": model,
    "flipped.safetensors": model,
    "first.safetensors": Sequential(Linear(2, 64), Tanh(), Linear(64, 3)),
}.items():
    try:
        load(folder / name, other, optimizer)
    except CheckpointError as error:
        print(str(error).replace(str(folder) + os.sep, ""))
print("weights as before:", np.array_equal(weights, model[0].weight.data))

# %% [markdown]
"""
## The Trainer

All the pieces are there; what is left is the loop itself, and four decisions.

**Means over an epoch.** Batches differ in size, the last one nearly always. A mean of batch means counts the samples
of a small batch more. `Running` adds up `loss * count` and divides once, at the end.

**Accuracy** makes sense where targets are class numbers, integers of the shape of the outputs without their last
axis. `hits` counts; elsewhere the accuracy is None.

**A loss that is no number** ends the run, *before* the step: the weights of the last good step are worth something. The
error says where it happened, at which learning rate, and what to try.

**Who is told what?** The trainer prints nothing itself. Callbacks are told when an epoch or step ends; `Progress` is
one of them, `Checkpoint` another, and any function of the trainer can be one.

**Write `Running.add` and `hits`.** `hits(outputs, targets)` returns two integers, how many rows of `outputs` have their
maximum where the target says, and how many rows count (targets equal to `ignore_index` do not).

For outputs `[[2, 1], [0, 3], [5, 4]]` and targets `[0, 1, 1]` it is `(2, 3)`; with `ignore_index=0` it is `(1, 2)`.

<details><summary>Hint 1</summary>

A comparison of two arrays is an array of True and False, and its `sum()` counts the True ones.
</details>
<details><summary>Hint 2</summary>

`counted`, for the rows that count, is all True without `ignore_index`; a hit is a row that is right *and* counted.
</details>
<details><summary>Hint 3</summary>

`outputs.argmax(axis=-1) == targets` says which rows are right, `&` joins two arrays of True and False, and `int(...)`
makes a Python number of what `sum()` returns.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "training-running", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class Running:
    """Mean loss and accuracy over batches of different sizes."""

    def __init__(self):
        self.total, self.count, self.right, self.labelled = 0.0, 0.0, 0, 0

    def add(self, loss, count, right=0, labelled=0):
        """A batch whose mean loss over `count` terms is `loss`, with `right` of `labelled` classes right."""
        ### BEGIN SOLUTION
        self.total += loss * count
        self.count += count
        self.right += right
        self.labelled += labelled
        ### END SOLUTION

    @property
    def loss(self):
        return self.total / self.count if self.count else math.nan

    @property
    def accuracy(self):
        return self.right / self.labelled if self.labelled else None


def hits(outputs, targets, ignore_index=None):
    """(how many classes are right, of how many); (0, 0) where the targets are no class numbers.

    outputs (..., C)   a score for each class
    targets (...)      integers
    """
    outputs, targets = outputs.data, targets.data
    if targets.dtype.kind not in "iu" or targets.shape != outputs.shape[:-1]:
        return 0, 0
    ### BEGIN SOLUTION
    right = outputs.argmax(axis=-1) == targets
    counted = np.ones_like(right) if ignore_index is None else targets != ignore_index
    return int((right & counted).sum()), int(counted.sum())
    ### END SOLUTION


# %%
#| export
def _batch(batch, number):
    """(inputs, targets) as tensors, checked."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        what = f"{len(batch)} parts" if isinstance(batch, (tuple, list)) else f"a {type(batch).__name__}"
        raise TypeError(f"Trainer needs batches (inputs, targets), but batch {number} is {what}")
    inputs, targets = (part if isinstance(part, Tensor) else Tensor(part) for part in batch)
    if inputs.size == 0 or targets.size == 0:
        raise ValueError(f"Trainer: batch {number} is empty, inputs {inputs.shape} and targets {targets.shape}")
    return inputs, targets


def _batches(loader):
    """The batches of one epoch, checked; at least one."""
    number = -1
    for number, batch in enumerate(loader):
        yield _batch(batch, number)
    if number < 0:
        raise ValueError(
            "Trainer got no batches from the loader. A generator can be gone through only once: "
            "pass a list of batches, or a DataLoader"
        )


def _set_mode(model, training):
    """Put the model and all its layers into train or eval mode."""
    if isinstance(model, Module):
        model.train(training)
        return
    for _, layer in walk(model):  # a class of the user's own, with layers inside
        if isinstance(layer, Module):
            layer.training = training


@contextmanager
def _evaluating(model):
    """Eval mode inside, and every layer's own mode again afterwards."""
    modes = [(layer, layer.training) for _, layer in walk(model) if isinstance(layer, Module)]
    _set_mode(model, False)
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


def _state_of(thing):
    """`thing.state_dict()` if it has one, as loaders and schedules may."""
    return thing.state_dict() if callable(getattr(thing, "state_dict", None)) else None


# %% [markdown]
"""
### Callbacks

A callback is an object with any of four methods, or a plain function, which is called with the trainer after every
epoch. Both of ours are short. `Progress` writes a line per epoch, and on a terminal a bar for the epoch under way;
where there is no terminal it speaks up every ten seconds, so that a long epoch does not look like a crash. There is
nothing to write.
"""


# %%
#| export
class Callback:
    """Something that wants to hear of training. Override what is of interest."""

    def fit_begin(self, trainer, epochs, batches):
        """`fit` begins: up to `epochs` epochs, each of `batches` batches (None if the loader does not say)."""

    def step_end(self, trainer, batch, loss):
        """A step has been made after `batch` batches of this epoch; `loss` is the mean over the epoch so far."""

    def epoch_end(self, trainer):
        """An epoch is in `trainer.history`, with its validation."""

    def fit_end(self, trainer):
        """`fit` is over, be it by an error."""


class _AfterEpoch(Callback):
    """A plain function as a callback."""

    def __init__(self, function):
        self.function = function

    def epoch_end(self, trainer):
        self.function(trainer)


class Checkpoint(Callback):
    """Save the trainer to `path` after every `every` epochs."""

    def __init__(self, path, every: int = 1):
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise ValueError(f"Checkpoint needs every >= 1 as a whole number, got {every!r}")
        self.path, self.every = path, every

    def epoch_end(self, trainer):
        if trainer.epoch % self.every == 0:
            trainer.save_checkpoint(self.path)


class Progress(Callback):
    """A line per epoch on `stream` (standard output if None); on a terminal also a bar for the epoch under way."""

    patience = 10.0  # seconds of silence within an epoch, where there is no bar

    def __init__(self, stream=None):
        self.stream = stream
        self._out = self._bar = None  # where to write, and the bar, while `fit` runs

    def _say(self, line):
        if self._bar is not None:
            self._bar.print(line, highlight=False)
        else:
            self._out.write(line + "\n")
            self._out.flush()

    def fit_begin(self, trainer, epochs, batches):
        self._out = sys.stdout if self.stream is None else self.stream
        self._epochs, self._batches = epochs, batches
        self._started = self._spoken = time.monotonic()
        if self._out.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(file=self._out), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(f"epoch {trainer.epoch + 1}/{epochs}", total=batches)

    def step_end(self, trainer, batch, loss):
        if self._out is None:  # an epoch outside `fit`
            return
        if self._bar is not None:
            title = f"epoch {trainer.epoch + 1}/{self._epochs}  loss {loss:.4f}"
            self._bar.update(self._task, completed=batch, description=title)
        elif time.monotonic() - self._spoken > self.patience:
            self._spoken = time.monotonic()
            of = "" if self._batches is None else f"/{self._batches}"
            self._say(f"epoch {trainer.epoch + 1}/{self._epochs}  batch {batch}{of}  loss {loss:.4f}")

    def epoch_end(self, trainer):
        now = time.monotonic()
        last = {name: values[-1] for name, values in trainer.history.items()}
        parts = [f"epoch {trainer.epoch:{len(str(self._epochs))}}/{self._epochs}", f"loss {last['train_loss']:.4f}"]
        if last["train_accuracy"] is not None:
            parts.append(f"accuracy {last['train_accuracy']:.2%}")
        if last["validation_loss"] is not None:
            parts.append(f"validation loss {last['validation_loss']:.4f}")
        if last["validation_accuracy"] is not None:
            parts.append(f"accuracy {last['validation_accuracy']:.2%}")
        self._say("  ".join([*parts, f"lr {last['lr']:.3g}", f"{now - self._started:.1f} s"]))
        self._started = self._spoken = now
        if self._bar is not None:
            self._bar.reset(self._task, description=f"epoch {trainer.epoch + 1}/{self._epochs}")

    def fit_end(self, trainer):
        if self._bar is not None:
            self._bar.stop()
        self._out = self._bar = None


# %% [markdown]
"""
### The loop

Four blanks in the class.

**`train_step(batches)`**: one step of the optimizer, from one or several portions. For each of them (skip one whose
`count` is 0, where every target is ignored): compute outputs and loss; pass the loss through `self._number(loss,
inputs)`, which raises if it is no number and returns it as a float; add it to `running`, with its count and the two
numbers of `hits(outputs, targets, self._ignored)`; then `backward`, of the loss times its share of the `total` count.
Zeroing before and the step after are given.

**`train_epoch(loader)`**: for every group of `self.accumulate` batches: let `self._schedule(fraction)` set the learning
rate, where `fraction` is `self._batch / batches`, how much of the epoch is done, if `self.schedule_steps`, else 0; make
the step, and keep the `largest` norm that `train_step` returns; count the batches in `self._batch`; call
`step_end(self, self._batch, running.loss)` of every callback.

**`evaluate(loader)`**: mean loss and accuracy over the loader, all in `running`. In eval mode
(`_evaluating(self.model)`), or dropout goes on dropping; without recording (`no_grad()`), or every batch builds a graph
that nobody needs. Here too a batch whose count is 0 is skipped.

**`fit`**: as long as there are fewer than `epochs` epochs and nobody has set `stop`: train one, evaluate if there is
something to evaluate on and let `self._complete` put that into the history, call `epoch_end(self)` of every callback.

<details><summary>Hint 1</summary>

`loss * share` with a Python number is a tensor of the loss's dtype, recorded like everything else. For a single
portion the share is 1, and multiplying would only lengthen the graph.
</details>
<details><summary>Hint 2</summary>

In `train_epoch`, `grouped(_batches(loader), self.accumulate)` gives the groups, and the number of batches done grows by
the length of each. The schedule is asked before the step, with the share of the epoch that is done then.
</details>
<details><summary>Hint 3</summary>

In `evaluate` one `with` can open both, separated by a comma. A batch is added to `running` with
`mean_count` and `hits`, as in training; its loss is a number by `item()`, and may be NaN: reporting is all that happens
here.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "training-trainer", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
HISTORY = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "lr", "grad_norm")


class Trainer:
    """The loop: forward, backward, clip, step; epochs, evaluation, history, checkpoints.

    model           called with the inputs of a batch; has parameters()
    optimizer       over some or all of them
    loss_fn         loss_fn(outputs, targets), the *mean* over the batch
    scheduler       scheduler(epoch) is the learning rate of that epoch, counted from 0; if groups have different rates,
                    it is the largest, and their proportions stay
    grad_clip_norm  limit of the norm of all gradients together
    callbacks       `Callback` objects, or functions that are called with the trainer after every epoch
    accumulate      how many batches make one step; exact, whatever their sizes
    schedule_steps  ask the scheduler before every step, at fractions of an epoch; the loader then needs a length
    progress        print a line per epoch (see `Progress`)

    `history` is a dictionary of lists, one entry per epoch: train_loss, train_accuracy, validation_loss,
    validation_accuracy (None where there is none), lr, and grad_norm, the largest before clipping. A callback that sets
    `stop` to True ends `fit` after the epoch.
    """

    def __init__(
        self,
        model,
        optimizer: Optimizer,
        loss_fn,
        scheduler=None,
        grad_clip_norm: float | None = None,
        callbacks=(),
        accumulate: int = 1,
        schedule_steps: bool = False,
        progress: bool = True,
    ):
        if not callable(model) or not callable(getattr(model, "parameters", None)):
            raise TypeError(f"Trainer needs a model that can be called and has parameters(), got {model!r}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"Trainer needs an optimizer such as SGD(model.parameters()), got {optimizer!r}")
        if not {id(p) for p in model.parameters()} & {id(p) for p in optimizer.parameters}:
            raise ValueError(
                "Trainer: the optimizer holds none of the model's parameters; was it made for another model?"
            )
        if not callable(loss_fn) or not (scheduler is None or callable(scheduler)):
            raise TypeError(f"Trainer needs functions as loss_fn and scheduler, got {loss_fn!r} and {scheduler!r}")
        if getattr(loss_fn, "reduction", "mean") not in ("mean", "batchmean"):
            raise ValueError(f"Trainer needs a loss with reduction='mean', got {loss_fn.reduction!r}")
        if isinstance(accumulate, bool) or not isinstance(accumulate, (int, np.integer)) or accumulate < 1:
            raise ValueError(f"Trainer needs accumulate >= 1 as a whole number, got {accumulate!r}")
        if grad_clip_norm is not None:
            _at_least("Trainer", "grad_clip_norm", grad_clip_norm, 0, strictly=True)
        self.model, self.optimizer, self.loss_fn, self.scheduler = model, optimizer, loss_fn, scheduler
        self.grad_clip_norm, self.accumulate, self.schedule_steps = grad_clip_norm, accumulate, schedule_steps
        self.callbacks = [Progress()] if progress else []
        for callback in callbacks:
            if not isinstance(callback, Callback) and (isinstance(callback, type) or not callable(callback)):
                raise TypeError(f"Trainer needs callbacks that are Callback objects or functions, got {callback!r}")
            self.callbacks.append(callback if isinstance(callback, Callback) else _AfterEpoch(callback))
        self.history = {name: [] for name in HISTORY}
        self.stop = False
        self._batch = 0  # batches done in the epoch under way
        self._ignored = loss_fn.ignore_index if isinstance(loss_fn, (CrossEntropyLoss, NLLLoss)) else None
        rates = [group["lr"] for group in optimizer.param_groups]
        self._proportions = [lr / max(rates) if max(rates) else 1.0 for lr in rates]
        self._loader = self._loader_state = None
        self._loaded = None  # the epoch at which a checkpoint took up

    @property
    def epoch(self):
        """How many epochs have been trained."""
        return len(self.history["train_loss"])

    # Training

    def fit(self, train, epochs: int, validation=None, resume_from=None):
        """Train until `epochs` epochs are done, counted from the very first, and return the history.

        train, validation  loaders: anything that yields batches (inputs, targets), every time it is gone through
        resume_from        path of a checkpoint to take up first, if there is such a file

        So the same call begins a run, and after a crash goes on with it.
        """
        if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 1:
            raise ValueError(f"Trainer.fit needs epochs >= 1 as a whole number, got {epochs!r}")
        if resume_from is not None and os.path.exists(resume_from):
            self.load_checkpoint(resume_from)
        if self.epoch >= epochs and self.epoch != self._loaded:
            raise ValueError(
                f"Trainer.fit(epochs={epochs}): {self.epoch} epochs are already done. epochs counts from the first one "
                f"on; for {epochs} more say epochs={self.epoch + epochs}"
            )
        self.stop = False
        batches = len(train) if hasattr(train, "__len__") else None
        try:
            for callback in self.callbacks:
                callback.fit_begin(self, epochs, batches)
            ### BEGIN SOLUTION
            while self.epoch < epochs and not self.stop:
                self.train_epoch(train)
                if validation is not None:
                    self._complete(self.evaluate(validation))
                for callback in self.callbacks:
                    callback.epoch_end(self)
            ### END SOLUTION
        finally:
            for callback in self.callbacks:
                callback.fit_end(self)
        return self.history

    def train_epoch(self, loader) -> float:
        """Go through `loader` once, add a row to the history, and return the mean loss."""
        if self.schedule_steps and not hasattr(loader, "__len__"):
            raise TypeError(f"Trainer with schedule_steps=True needs a loader with a length, got {loader!r}")
        self._take(loader)
        _set_mode(self.model, True)
        running, largest = Running(), 0.0
        batches = len(loader) if self.schedule_steps else 1
        self._batch = 0
        ### BEGIN SOLUTION
        for group in grouped(_batches(loader), self.accumulate):
            self._schedule(self._batch / batches if self.schedule_steps else 0)
            largest = max(largest, self.train_step(group, running))
            self._batch += len(group)
            for callback in self.callbacks:
                callback.step_end(self, self._batch, running.loss)
        ### END SOLUTION
        row = {"train_loss": running.loss, "train_accuracy": running.accuracy}
        row |= {"lr": max(group["lr"] for group in self.optimizer.param_groups), "grad_norm": largest}
        self.history = {name: [*values, row.get(name)] for name, values in self.history.items()}  # all at once
        self._batch = 0
        return running.loss

    def train_step(self, batches, running=None) -> float:
        """One step of the optimizer from a list of (inputs, targets); returns the norm of the gradient before clipping.

        Raises ValueError if a loss or gradient is NaN or infinite; then no weight has changed.
        """
        running = Running() if running is None else running
        counts = [mean_count(self.loss_fn, targets) for _, targets in batches]
        total = sum(counts)
        if not total:
            raise ValueError(f"Trainer: {self._where()}, every target is ignored or has weight 0")
        self.optimizer.zero_grad()
        ### BEGIN SOLUTION
        for (inputs, targets), count in zip(batches, counts):
            if count == 0:
                continue
            outputs = self.model(inputs)
            loss = self.loss_fn(outputs, targets)
            running.add(self._number(loss, inputs), count, *hits(outputs, targets, self._ignored))
            if count != total:
                loss = loss * (count / total)
            loss.backward()
        ### END SOLUTION
        try:
            norm = clip_grad_norm(self.optimizer.named_parameters, self.grad_clip_norm or math.inf)
        except ValueError as error:
            raise ValueError(f"Trainer: {self._where()}, {error}. No weight was changed by this batch") from None
        self.optimizer.step()
        return norm

    def evaluate(self, loader) -> dict:
        """{"loss": mean over all samples, "accuracy": share of classes that are right, or None} in eval mode."""
        running = Running()
        ### BEGIN SOLUTION
        with _evaluating(self.model), no_grad():
            for inputs, targets in _batches(loader):
                count = mean_count(self.loss_fn, targets)
                if count == 0:
                    continue
                outputs = self.model(inputs)
                loss = self.loss_fn(outputs, targets).item()
                running.add(loss, count, *hits(outputs, targets, self._ignored))
        ### END SOLUTION
        return {"loss": running.loss, "accuracy": running.accuracy}

    def _complete(self, result):
        """Put the result of `evaluate` into the last row of the history."""
        values = {"validation_loss": result["loss"], "validation_accuracy": result["accuracy"]}
        self.history = self.history | {name: [*self.history[name][:-1], value] for name, value in values.items()}

    def _where(self):
        lr = max(group["lr"] for group in self.optimizer.param_groups)
        return f"epoch {self.epoch + 1}, batch {self._batch}, learning rate {lr:.3g}"

    def _number(self, loss, inputs):
        """The loss as a Python float; raises if it is not one finite number."""
        if not isinstance(loss, Tensor) or loss.size != 1:
            got = f"shape {loss.shape}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise ValueError(f"Trainer needs one number from loss_fn, the mean over the batch, got {got}")
        value = float(loss.item())
        if not math.isfinite(value):
            if np.isfinite(inputs.data).all():
                advice = "Try a smaller learning rate, a warm-up (LinearWarmup), or grad_clip_norm=1.0"
            else:
                advice = "The inputs of this batch hold NaN or infinity: look at the data"
            raise ValueError(f"Trainer: {self._where()}, the loss is {value}. No weight was changed by it. {advice}")
        return value

    def _schedule(self, fraction):
        """Set the learning rate for the epoch under way, of which `fraction` is done."""
        if self.scheduler is None:
            return
        lr = _at_least("Trainer", "the scheduler's rate", self.scheduler(self.epoch + fraction), 0)
        for group, proportion in zip(self.optimizer.param_groups, self._proportions):
            group["lr"] = lr * proportion

    # Checkpoints

    def _take(self, loader):
        """Remember the loader, for checkpoints; and if one was loaded, put the loader where it stood."""
        if self._loader_state is not None:
            if not callable(getattr(loader, "load_state_dict", None)):
                raise ValueError(
                    "Trainer: the checkpoint holds the state of a loader, but this "
                    f"{type(loader).__name__} has no load_state_dict; train with the same kind of loader"
                )
            loader.load_state_dict(self._loader_state)
            self._loader_state = None
        self._loader = loader

    def save_checkpoint(self, path):
        """Save all that it takes to go on after the last complete epoch (`save` says how).

        Model, optimizer, random generator, history, and what the loader and the scheduler remember, if they have a
        state_dict(). Within an epoch the place in it is not saved: such an epoch would be begun again.
        """
        loader = _state_of(self._loader) if self._loader_state is None else self._loader_state
        trainer = {"history": self.history, "loader": loader, "scheduler": _state_of(self.scheduler)}
        save(path, self.model, self.optimizer, trainer=trainer)

    def load_checkpoint(self, path):
        """Go on where the trainer stood that was saved to `path`.

        Raises CheckpointError if the file is damaged or does not fit; then nothing has changed.
        """

        def check(content):
            trainer = content.get("trainer")
            history = trainer.get("history") if isinstance(trainer, dict) else None
            if not isinstance(history, dict) or history.keys() != self.history.keys():
                raise CheckpointError(f"{path} was not saved by a Trainer; use load(path, model, optimizer)")
            if (trainer["scheduler"] is None) != (_state_of(self.scheduler) is None):
                raise CheckpointError(f"{path} was saved with another kind of scheduler")

        trainer = load(path, self.model, self.optimizer, check)["trainer"]
        self.history = trainer["history"]
        self._loader_state = trainer["loader"]
        if trainer["scheduler"] is not None:
            self.scheduler.load_state_dict(trainer["scheduler"])
        self._loaded = self.epoch

    def __repr__(self):
        return f"Trainer({type(self.model).__name__}, {type(self.optimizer).__name__}, {self.epoch} epochs done)"


# %%
manual_seed(0)
model = network(dropout=0.1)
trainer = Trainer(
    model,
    Adam(model.named_parameters(), lr=0.01),
    CrossEntropyLoss(),
    scheduler=CosineSchedule(0.01, 0.0001, total_epochs=20, warmup=2),
    grad_clip_norm=5.0,
)
history = trainer.fit(train, epochs=20, validation=unseen)

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained")
pictures.curves({"train": history["train_loss"], "unseen": history["validation_loss"]}, "epoch", axis=axes[0])
for axis, name, label in ((axes[1], "lr", "learning rate"), (axes[2], "grad_norm", "largest gradient norm")):
    pictures.curves({name: history[name]}, "epoch", label, "linear", axis)
plt.show()

# %% [markdown]
"""
The loss of the training points is the mean over the epoch, with dropout at work and weights that were still getting
better; that of the unseen points is taken at the end of the epoch, without dropout. So at first the second may well
be lower.

Lines can be watched while it trains, the picture came afterwards. Any function can be a callback, so the picture may
as well grow with every epoch: in a notebook it is redrawn where it stands, on a terminal it is one line of bars per
curve. (`progress=False`, or two would write to one screen.)
"""

# %%
manual_seed(0)
model = network()
with pictures.Live("epoch") as live:

    def draw(trainer):
        live.show({"train": trainer.history["train_loss"], "unseen": trainer.history["validation_loss"]})

    trainer = Trainer(
        model, Adam(model.named_parameters(), lr=0.01), CrossEntropyLoss(), callbacks=[draw], progress=False
    )
    trainer.fit(train, epochs=20, validation=unseen)

# %% [markdown]
"""
And what has it learnt? Ask it about every point of the plane, and give each answer a colour.
"""

# %%
with no_grad():
    pictures.boundary(lambda plane: model(Tensor(plane)).data, unseen_points.data, unseen_arms.data)
plt.show()

# %% [markdown]
"""
Between the arms, where no point ever was, it has drawn lines that nobody gave it; at the corners of the picture its
answers are as sure, and mean nothing.

And when it goes wrong? A learning rate of 1000, and then data with a hole in it:
"""


# %%
def attempt(lr, inputs):
    """What fit says."""
    manual_seed(0)
    model = network()
    optimizer = SGD(model.named_parameters(), lr=lr)
    trainer = Trainer(model, optimizer, lambda out, y: mse_loss(out.sum(axis=1), y.astype("float32")), progress=False)
    try:
        trainer.fit(Batches(inputs, arms, 32), epochs=3)
    except ValueError as error:
        print(error)
    print("   weights still numbers:", all(np.isfinite(p.data).all() for p in model.parameters()))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # NumPy remarks on the overflow
    attempt(1000.0, points)
holed = points.copy()
holed[17, 1] = np.nan
attempt(0.01, holed)

# %% [markdown]
"""
## A crash

Now pull the plug. A copy of this process trains, saves a checkpoint after every epoch, and in the middle of its seventh
epoch it is killed with signal 9, which no program can catch or clean up after. Then *we* build everything anew, with
another seed, load the checkpoint and go on to epoch 12. For comparison, a run that nobody interrupted.
"""


# %%
def new_trainer(seed, callbacks=()):
    manual_seed(seed)
    model = network(dropout=0.2)
    optimizer = Adam(model.named_parameters(), lr=0.01)
    schedule = CosineSchedule(0.01, 0.0001, total_epochs=12)
    return Trainer(model, optimizer, CrossEntropyLoss(), schedule, callbacks=callbacks, progress=False)


class Plug(Callback):
    """Kills this process in the middle of epoch 7."""

    def step_end(self, trainer, batch, loss):
        if trainer.epoch == 6 and batch == 10:
            os.kill(os.getpid(), signal.SIGKILL)


def in_another_process(work):
    """Run work() in a copy of this process, and return how that ended: minus the signal that killed it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking where there are threads: ours hold no locks
        process = os.fork()
    if process == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


path = folder / "run.safetensors"
undisturbed = new_trainer(seed=0)
undisturbed.fit(train, epochs=12)

if hasattr(os, "fork"):
    doomed = new_trainer(seed=0, callbacks=[Checkpoint(path), Plug()])
    print("the other process ended with", in_another_process(lambda: doomed.fit(train, epochs=12)))
else:  # no fork on Windows; there the run simply ends
    new_trainer(seed=0, callbacks=[Checkpoint(path)]).fit(train, epochs=6)

resumed = new_trainer(seed=99)
resumed.load_checkpoint(path)
print("taken up after epoch", resumed.epoch)
resumed.fit(train, epochs=12)


def difference(a, b):
    """The largest difference between any two weights."""
    return max(np.abs(p.data - q.data).max() for p, q in zip(a.model.parameters(), b.model.parameters()))


print("largest difference to the run that was not interrupted:", difference(undisturbed, resumed))

# %% [markdown]
"""
Zero: not small, zero. Which parts of the checkpoint does that take? Leave them out, one at a time:
"""

# %%
for name, parts in {
    "everything": {"optimizer", "random"},
    "without the random generator": {"optimizer"},
    "without the optimizer": {"random"},
    "weights and epoch alone": set(),
}.items():
    run = new_trainer(seed=99)
    content = load(path, run.model)
    run.history = content["trainer"]["history"]
    if "optimizer" in parts:
        run.optimizer.load_state_dict(content["optimizer"])
    if "random" in parts:
        generator().bit_generator.state = content["random"]
    run.fit(train, epochs=12)
    print(f"{name:29} off by {difference(undisturbed, run):.4f}")

# %% [markdown]
"""
## What it costs

**Memory.** Accumulation trades time for memory: portions of a batch, one after another, each with activations of its
size only. The cell measures the peak during one step on 2,048 points.
"""

# %%
many_points, many_arms = spirals(683, np.random.default_rng(2))
many_points, many_arms = many_points[:2048], many_arms[:2048]
for portions in (1, 4, 16):
    manual_seed(0)
    model = network()
    trainer = Trainer(model, SGD(model.parameters(), lr=0.0), CrossEntropyLoss(), accumulate=portions, progress=False)
    batches = list(Batches(many_points, many_arms, 2048 // portions))
    trainer.train_step(batches)
    tracemalloc.start()
    trainer.train_step(batches)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    start = time.perf_counter()
    for _ in range(5):
        trainer.train_step(batches)
    seconds = (time.perf_counter() - start) / 5
    print(f"{portions:2} portions of {2048 // portions:4}: peak {peak / 1e6:5.2f} MB, {1e3 * seconds:5.2f} ms a step")

# %% [markdown]
"""
**The loop itself.** What do the checks, the means and the norm add to the eight lines from the beginning?
"""


# %%
def bare(loader, model, optimizer):
    for inputs, targets in loader:
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()


def best_of(function, repeats=5):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


model = network()
optimizer = Adam(model.named_parameters())
trainer = Trainer(model, optimizer, CrossEntropyLoss(), progress=False)
by_hand = best_of(functools.partial(bare, train, model, optimizer)) / len(train)
by_trainer = best_of(functools.partial(trainer.train_epoch, train)) / len(train)
print(f"a step by hand {1e6 * by_hand:.0f} us, by the trainer {1e6 * by_trainer:.0f} us")

# %% [markdown]
"""
**A checkpoint.** How large, and where does the time go? To write the bytes is one thing, to wait until the disk has
them another.
"""

# %%
model = Sequential(Linear(784, 512), ReLU(), Linear(512, 256), ReLU(), Linear(256, 10))
optimizer = Adam(model.named_parameters())
for p in model.parameters():
    p.grad = np.ones_like(p.data)
optimizer.step()
path = folder / "large.safetensors"
seconds = best_of(lambda: save(path, model, optimizer))
data = path.read_bytes()
written = best_of(lambda: (folder / "plain").write_bytes(data))
safely = best_of(lambda: _replace_file(folder / "safe", data))
weights = 4 * model.num_parameters()
print(f"weights {weights / 1e6:.2f} MB, checkpoint {len(data) / 1e6:.2f} MB: {len(data) / weights:.2f} times as much")
print(
    f"save {1e3 * seconds:.1f} ms; to write alone {1e3 * written:.1f} ms, with fsync and rename {1e3 * safely:.1f} ms"
)

# %% [markdown]
"""
## All together
"""

# %%
assert [CosineSchedule(0.1, 0.0, 10)(epoch) for epoch in (0, 10, 11)] == [0.1, 0.0, 0.0]
assert abs(CosineSchedule(0.1, 0.0, 10)(5) - 0.05) < 1e-12
assert np.allclose([LinearWarmup(0.5, 4)(epoch) for epoch in range(6)], [0.1, 0.2, 0.3, 0.4, 0.5, 0.5])
assert np.allclose([StepSchedule(1.0, 10)(epoch) for epoch in (0, 9, 10, 19, 20)], [1, 1, 0.1, 0.1, 0.01])

a, b = Tensor([0.0, 0.0], requires_grad=True), Tensor([0.0], requires_grad=True)
a.grad, b.grad = np.array([3, 0], np.float32), np.array([4], np.float32)
assert clip_grad_norm([a, b], 10.0) == 5.0
assert a.grad.tolist() == [3, 0]
assert clip_grad_norm([a, b], 1.0) == 5.0
assert np.allclose([*a.grad, *b.grad], [0.6, 0, 0.8])

arrays = {}
assert _pack({"step": 3, "m": np.ones(2)}, "state", arrays) == {"step": 3, "m": {"__array__": "state.m"}}
assert arrays["state.m"].tolist() == [1, 1]
_replace_file(folder / "note", b"new")
assert (folder / "note").read_bytes() == b"new"
assert len(_misfits({"a": np.zeros(2), "b": np.zeros(3)}, {"b": np.zeros(4), "c": np.zeros(1)})) == 3

assert list(grouped("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
assert hits(Tensor([[2, 1], [0, 3], [5, 4]]), Tensor([0, 1, 1]), ignore_index=0) == (1, 2)

line = Sequential(Linear(1, 1, rng=0))
samples = Tensor([[1.0], [2.0], [3.0], [4.0], [5.0]]), Tensor([[2.0], [4.0], [6.0], [8.0], [10.0]])
gradients = []
for batches in ([samples], [(samples[0][:3], samples[1][:3]), (samples[0][3:], samples[1][3:])]):
    trainer = Trainer(line, SGD(line.parameters(), lr=0.0), MSELoss(), accumulate=2, progress=False)
    loss = trainer.train_epoch(batches)
    gradients.append([loss, *line[0].weight.grad.ravel(), *line[0].bias.grad])
assert np.allclose(gradients[0], gradients[1], rtol=1e-6)

assert difference(undisturbed, resumed) == 0.0
assert undisturbed.history == resumed.history
print(trainer)
print(trainer.evaluate([samples]))

# %% [markdown]
"""
## Questions

**1.** A run has 50 epochs and `CosineSchedule(0.001, 0.0, 50)`. It is resumed from the checkpoint of epoch 20, by a
script that forgot to restore the epoch count. What does the learning rate do, and how would you see it in the
history?

<details><summary>Answer</summary>

It starts again at 0.001, where it should be 0.001 * (1 + cos(0.4 pi)) / 2 = 0.00065, and is never below 0.001 * (1 +
cos(0.6 pi)) / 2 = 0.00035 if the script stops after 30 more epochs. The plot of `lr` has a jump, and the loss jumps
up with it.
</details>

**2.** With `grad_clip_norm=1.0` the history's `grad_norm` lies between 40 and 60 in every epoch. What does that mean
for the step length of SGD, and for Adam's?

<details><summary>Answer</summary>

Every step is clipped, so SGD walks with constant length lr * 1.0: it is no longer gradient descent with a learning
rate but with a fixed step length, and changing the loss's scale changes nothing. Adam divides by sqrt(v), which
shrinks with the clipped gradients, so its steps are about as long as before. A limit is meant for the rare batch;
take one a little above the usual norm.
</details>

**3.** Batches of 32, `accumulate=4`, and 100 batches in an epoch, the last of which has 8 samples. How many steps
does an epoch have? What share of its group's gradient do the last 8 samples get, and what would they get with 1/k?

<details><summary>Answer</summary>

100 / 4 = 25 steps. The last group has 32 + 32 + 32 + 8 = 104 samples, so the last portion gets 8/104 = 7.7 %. With
1/4 it would get 25 %: each of these 8 samples would count 32/8 = 4 times as much as the others.
</details>

**4.** GPT-2 small has 124 million parameters and is trained with Adam in float32. How large is a checkpoint? The disk
takes 500 MB per second and the run saves every ten minutes: what share of the time is spent on it? And for a model of
175 billion parameters, on the same disk?

<details><summary>Answer</summary>

Weights, m and v: 12 bytes per parameter, 1.49 GB; 3 s, or 0.5 % of the time. 175 billion: 2.1 TB, 4,200 s, longer
than the ten minutes between two checkpoints. Large runs write in parallel from many machines, and in the background
from a copy in memory.
</details>

**5.** Write a callback that ends the run when the loss on the validation data has not improved for three epochs, and
keeps the best weights. Which line of the trainer makes it possible to write it without touching the class?

<details><summary>Answer</summary>

    def best_and_enough(trainer):
        losses = trainer.history["validation_loss"]
        if losses[-1] == min(losses):
            trainer.save_checkpoint("best.safetensors")
        trainer.stop = len(losses) - losses.index(min(losses)) > 3

Callbacks get the trainer itself, and `fit` looks at `self.stop` before every epoch. Afterwards
`load("best.safetensors", model)` puts the best weights back.
</details>
"""
