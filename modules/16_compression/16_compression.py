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
# 16 · Compression: the same answers from fewer numbers

| | |
|---|---|
| **You have** | networks that read digits and write text, with as many weights as it took to train them (modules 01 to 13) |
| **You will build** | pruning of single weights, and of whole units, channels and heads; masks to train on with; sparse storage; low rank; distillation from a teacher to a student |
| **You will be able to** | say what each of these saves in bytes and in milliseconds, and what it costs in accuracy; spot a "compression" that compresses nothing |

Needs modules 01 to 13. Exports `optimization/compression.py`. Medium; about four hours.

```
   a trained layer (in, out)

   x . x x . x        x x x        |  = = = =        teacher  -->  what it says
   . x x . . x        x x x        |                                   |
   x . . x x .        x x x        |                               student
   small weights      whole units  two thin          a small model trained on
   set to 0           removed      matrices          a large one's answers
```

A network needs many weights to *learn* and, as it turns out, far fewer to *know*. This lesson takes weights away from
a trained network in four ways. Two questions go with us all the time: does it still read the digits? And has anything
really become smaller?
"""

# %%
#| default_exp optimization.compression

# %%
#| export
"""Compression: the same answers from fewer numbers.

    magnitude_prune         small weights become 0; shapes stay, nothing is saved until zeros are stored by `to_csr`
    structured_prune        whole units, channels and heads are removed, and the layers become smaller
    low_rank_approximate    one Linear becomes two thin ones
    KnowledgeDistillation   a small model learns from what a large one says

Every function returns a new model and leaves the one it was given as it was.
"""

import copy
import math
from collections import Counter
from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple

import numpy as np

from tinytorch.core.activations import (
    GELU,
    LeakyReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    log_softmax,
    softmax,
)
from tinytorch.core.attention import MultiHeadAttention
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import (
    Dropout,
    Flatten,
    Identity,
    Linear,
    Sequential,
    _is_layer,
    _is_parameter,
    _positive,
    walk,
)
from tinytorch.core.losses import cross_entropy, kl_div
from tinytorch.core.spatial import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    MaxPool2d,
)
from tinytorch.core.tensor import Tensor, as_array, floating
from tinytorch.core.training import Callback, _evaluating
from tinytorch.models.transformer import MLP
from tinytorch.text.embeddings import Embedding, PositionalEncoding

# %%
import functools
import time

import matplotlib.pyplot as plt

from tinytorch.core.activations import Softmax
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import manual_seed, randn
from tinytorch.data.datasets import digits
from tinytorch.data.loader import DataLoader
from tinytorch.models.transformer import GPT, LayerNorm

np.set_printoptions(precision=3, suppress=True)
manual_seed(0)

# %% [markdown]
"""
The network of this lesson reads the digits that came with module 08. It is trained here, once.
"""


# %%
train_images, train_labels = digits("train").tensors
test_images, test_labels = digits("test").tensors


def learn(model, epochs, lr=3e-3, after_step=None):
    """Train on the digits, calling `after_step()` after every step. Returns the model, in eval mode."""
    optimizer = Adam(model.parameters(), lr=lr)
    model.train()
    for epoch in range(epochs):
        for images, labels in DataLoader(digits("train"), batch_size=64, shuffle=True, seed=epoch):
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()
            if after_step is not None:
                after_step()
    return model.eval()


def accuracy(model):
    """The share of the held-out digits that the model reads correctly."""
    with no_grad():
        return float((model(test_images).argmax(axis=-1) == test_labels).data.mean())


def reader(width, rng=0):
    half = width // 2
    return Sequential(
        Flatten(),
        Linear(64, width, rng=rng),
        ReLU(),
        Linear(width, half, rng=rng + 1),
        ReLU(),
        Linear(half, 10, rng=rng + 2),
    )


model = learn(reader(128), 20)
print(f"{model.num_parameters():,} parameters read {accuracy(model):.1%} of the held-out digits")

# %% [markdown]
"""
## Which weights can go?

The cheapest guess: those that are close to 0 already, because the sums they take part in hardly notice. Here is a layer
of two inputs and three outputs, and what is left of it when half of its weights go:

```
   0.9  -0.1   0.4          0.9    .    0.4         |w| in order: 0.1  0.2  0.3 | 0.4  0.7  0.9
  -0.7   0.2  -0.3   -->   -0.7    .     .                         these go     |   these stay
```

Two ways to get it wrong, both tempting. Without the absolute value, -0.7 goes first: the smallest number, and the
second largest weight. And only *weights* are candidates. A bias or the scale of a norm is one number that moves a whole
output; there are few of them, so nothing is saved, and a norm whose scale is 0 has forgotten its channel. Tables that
are looked up, such as a GPT's token vectors, are left alone as well. The cell below makes the list.
"""


# %%
#| export
def _share(who, name, value, below_1=False):
    """`value` as a Python float, checked: 0 <= value <= 1, or < 1."""
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{who} needs a number as {name}, got {value!r}")
    if not 0 <= value <= 1 or (below_1 and value == 1):
        raise ValueError(f"{who} needs 0 <= {name} {'<' if below_1 else '<='} 1, a share, got {value}")
    return float(value)


def _weights(who, model):
    """(name, tensor) of every weight that multiplies something: no biases, no norms, no tables that are looked up."""
    if not _is_layer(model):
        raise TypeError(f"{who} needs a model with parameters(), got {type(model).__name__}")
    parts = list(walk(model))
    parameters = [(name, thing) for name, thing in parts if _is_parameter(thing)]
    if not parameters:
        raise ValueError(f"{who} needs a model with parameters, and {type(model).__name__} has none")
    tables = [layer for _, layer in parts if isinstance(layer, (Embedding, PositionalEncoding))]
    looked_up = {id(thing) for layer in tables for thing in vars(layer).values()}
    return [
        (name, p) for name, p in parameters if p.ndim > 1 and id(p) not in looked_up and name.split(".")[-1] != "bias"
    ]


def _weights_to_prune(who, model):
    """`_weights`, of which there must be some, without NaN."""
    weights = _weights(who, model)
    if not weights:
        raise ValueError(f"{who} found no weights in {type(model).__name__}: no parameter of two axes or more")
    for name, p in weights:
        if np.isnan(p.data).any():
            raise ValueError(f"{who} cannot compare weights, for {name} {p.shape} holds NaN")
    return weights


# %% [markdown]
"""
**Write `measure_sparsity`**: the share of zeros among the numbers of all weights together. `weights` is the list of
(name, tensor). A layer of 2 x 3 with one zero and one of 10 x 10 with none have a sparsity of `1 / 106`, not the mean
of `1 / 6` and 0. Where there are no weights at all, say 0.

<details><summary>Hint 1</summary>

Two sums over the list: how many numbers there are, and how many of them are 0.
</details>
<details><summary>Hint 2</summary>

`p.size` counts the numbers of a tensor, `(p.data == 0).sum()` those that are 0.
</details>
<details><summary>Hint 3</summary>

Divide the second sum by the first; only if the first is 0, return 0.0.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "compression-measure-sparsity", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def sparsity_by_layer(model) -> dict:
    """From the name of every weight to the share of its numbers that are 0."""
    return {name: float(np.mean(p.data == 0)) for name, p in _weights("sparsity_by_layer", model)}


def measure_sparsity(model) -> float:
    """The share of the model's weights that are 0, from 0 to 1: 0.9 means that one in ten is left.

    Counted are the weights that `magnitude_prune` may prune: those of linear layers and convolutions, neither biases,
    norms nor embedding tables.
    """
    weights = _weights("measure_sparsity", model)
    ### BEGIN SOLUTION
    total = sum(p.size for _, p in weights)
    zeros = sum(int((p.data == 0).sum()) for _, p in weights)
    return zeros / total if total else 0.0
    ### END SOLUTION


# %% [markdown]
"""
Next, the choice. The usual line is `magnitudes <= threshold`, with the threshold read off the sorted numbers. Try it by
hand on `[1, 1, 1, 1]`, of which one is to go: the threshold is 1, and all four go. Weights that are equal are no rarity
(zeros from pruning before, weights rounded to few bits), so the count has to be exact.

**Write `smallest`**: booleans, exactly `count` of them True, at the smallest numbers; of equal ones the first.
`smallest(np.array([2, 1, 2, 1, 2]), 3)` is True at the places 1, 3 and 0.

<details><summary>Hint 1</summary>

Everything below the threshold goes. Of the numbers that equal it, just as many as are missing.
</details>
<details><summary>Hint 2</summary>

The threshold is the number at place `count - 1` of the sorted ones. `np.partition(magnitudes, k)[k]` finds the number
at place k without sorting the rest. It cannot be asked for place -1, so deal with `count == 0` first.
</details>
<details><summary>Hint 3</summary>

`np.flatnonzero(magnitudes == threshold)` lists the places of the equal ones in order; cut that list to what is missing,
and set `chosen` to True there.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "compression-smallest", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def smallest(magnitudes, count: int):
    """Which `count` of the numbers are the smallest: booleans, exactly `count` of them True.

    magnitudes  (n,)  numbers >= 0
    count       0 <= count <= n; of numbers that are equal the first ones are taken
    """
    ### BEGIN SOLUTION
    if count == 0:
        return np.zeros(magnitudes.shape, bool)
    threshold = np.partition(magnitudes, count - 1)[count - 1]
    chosen = magnitudes < threshold
    equal = np.flatnonzero(magnitudes == threshold)
    chosen[equal[: count - int(chosen.sum())]] = True
    return chosen
    ### END SOLUTION


# %%
magnitudes = np.abs(np.array([0.9, -0.1, 0.4, -0.7, 0.2, -0.3]))
print("the three smallest:", magnitudes[smallest(magnitudes, 3)])
print("one of four equals:", smallest(np.ones(4), 1))

# %% [markdown]
"""
Compare within each layer, or across the whole model? *By layer* takes the same share everywhere. *Globally* lets a
layer of large weights keep more and one of small weights lose more, which is better as long as large means important.

**Write `_pruning`**: for every array a mask of its shape, True where a weight is to become 0. By layer, each array has
its own `round(sparsity * size)` smallest magnitudes; globally, they are picked from all arrays together, and the
answer is cut up again. With arrays `[0.1 0.2]` and `[3 4]` and sparsity 0.5, globally both of the first go and none of
the second.

<details><summary>Hint 1</summary>

By layer it is one line: `smallest` of the flat magnitudes of each array, reshaped.
</details>
<details><summary>Hint 2</summary>

Globally: `np.concatenate` the flat magnitudes of all arrays, and ask `smallest` once.
</details>
<details><summary>Hint 3</summary>

`np.split(chosen, ends[:-1])` cuts the answer where one array ends and the next begins; `ends` is the `np.cumsum` of
the sizes. Reshape every part.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "compression-magnitude-prune", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _pruning(arrays, sparsity, scope):
    """For every array a mask of its shape, True where a weight is to become 0."""
    ### BEGIN SOLUTION
    if scope == "layer":
        return [smallest(np.abs(a).ravel(), round(sparsity * a.size)).reshape(a.shape) for a in arrays]
    magnitudes = np.concatenate([np.abs(a).ravel() for a in arrays])
    chosen = smallest(magnitudes, round(sparsity * magnitudes.size))
    ends = np.cumsum([a.size for a in arrays])
    return [part.reshape(a.shape) for part, a in zip(np.split(chosen, ends[:-1]), arrays)]
    ### END SOLUTION


def magnitude_prune(model, sparsity: float, scope: str = "global", in_place: bool = False):
    """The model with its smallest weights set to 0, by magnitude: the share `sparsity` of them, rounded.

    sparsity  0 <= sparsity <= 1, of all weights; those that are 0 already count
    scope     "global": the smallest of the whole model, so that some layers lose more than others; "layer": the same
              share of every layer
    in_place  change this very model and return it

    Weights of linear layers and convolutions only (see `measure_sparsity`). Shapes stay, and so do memory and time; to
    go on training see `PruningMasks`. Raises TypeError or ValueError before anything has changed.
    (Han et al. 2015, section 3)
    """
    sparsity = _share("magnitude_prune", "sparsity", sparsity)
    if scope not in ("global", "layer"):
        raise ValueError(f"magnitude_prune needs scope 'global' or 'layer', got {scope!r}")
    _weights_to_prune("magnitude_prune", model)
    model = model if in_place else copy.deepcopy(model)
    weights = [p for _, p in _weights("magnitude_prune", model)]
    for p, mask in zip(weights, _pruning([p.data for p in weights], sparsity, scope)):
        _set_to_zero(p, mask)
    return model


def _set_to_zero(p, mask):
    np.copyto(p.data, 0, where=mask)
    p._version += 1


# %%
layer = Linear(2, 3, rng=0)
layer.weight.data = np.array([[0.9, -0.1, 0.4], [-0.7, 0.2, -0.3]], np.float32)
half = magnitude_prune(layer, 0.5)
print(half.weight.data, " sparsity", measure_sparsity(half), " of the original", measure_sparsity(layer))

# %% [markdown]
"""
How far can it be driven? The network of above, at growing sparsity, with nothing done to make up for it:
"""

# %%
sparsities = [0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95]
curves = {
    scope: [accuracy(magnitude_prune(model, s, scope=scope)) for s in sparsities] for scope in ("global", "layer")
}
print("sparsity", "  ".join(f"{s:5.0%}" for s in sparsities))
for scope, curve in curves.items():
    print(f"{scope:8}", "  ".join(f"{a:5.1%}" for a in curve))
print()
for scope in curves:
    shares = sparsity_by_layer(magnitude_prune(model, 0.9, scope=scope))
    print(f"at 90%, {scope:6}:", "  ".join(f"{name} {share:.0%}" for name, share in shares.items()))

# %% [markdown]
"""
The first half costs next to nothing, and then there is a cliff. Look also at the last two lines: which layer pays
depends on the scope.

**What goes wrong in practice.** Magnitudes are comparable only within limits. A layer with many inputs starts with
small weights (module 03: `1 / sqrt(in_features)`), and a global threshold can take *all* of it; then nothing passes any
more, no gradient either, and no fine-tuning brings it back. Look at `sparsity_by_layer` before you believe a total.

## Training on

The weights that are left were trained in the company of those that are gone. Let them adjust: a few more epochs. But
the optimizer knows nothing of pruning. Every weight has a gradient, also one that is 0, and after a single step of Adam
all of them are back. So remember where the zeros were, and restore them after every step.

```
   optimizer.step()     0.31  0.002  -0.2      moved, all of them
   masks.apply()        0.31  0      -0.2      and the zeros are zeros again
```

(Momentum still accumulates for the pruned weights. It moves nothing that lasts, and costs what it cost before.)

**Write `PruningMasks`**: in `__init__` remember for each weight tensor where it is 0 *now*, in `self._masks`; in
`apply`, set those places to 0 again with `_set_to_zero(p, mask)`. (`_set_to_zero` also counts the change, so that a
backward pass through the old numbers raises instead of lying.)

As a `Callback` of module 07 it can be handed to a `Trainer`, which calls `step_end` after every step.

<details><summary>Hint 1</summary>

`_weights_to_prune("PruningMasks", model)` lists (name, tensor) and refuses a model that has none.
</details>
<details><summary>Hint 2</summary>

Keep pairs of tensor and mask. The mask has to be computed now: by the time of `apply` the zeros have moved.
</details>
<details><summary>Hint 3</summary>

The mask is `p.data == 0`, a new array of booleans; `apply` is a loop of two lines.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "compression-masks", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class PruningMasks(Callback):
    """Which weights of a model are 0 now, so that training on does not grow them back.

        masks = PruningMasks(model)                     a weight that is exactly 0 counts as pruned
        optimizer.step(); masks.apply()                 in a loop of one's own
        Trainer(..., callbacks=[masks])                 applies them after every step

    The optimizer still moves pruned weights; they are put back to 0 after each step, before anybody computes with them.
    """

    def __init__(self, model):
        ### BEGIN SOLUTION
        self._masks = [(p, p.data == 0) for _, p in _weights_to_prune("PruningMasks", model)]
        ### END SOLUTION

    def apply(self):
        """Set the weights that were 0 to 0 again."""
        ### BEGIN SOLUTION
        for p, mask in self._masks:
            _set_to_zero(p, mask)
        ### END SOLUTION

    def step_end(self, trainer, batch, loss):
        self.apply()


# %%
tuned, grown = [], []
for sparsity in sparsities[1:]:
    pruned = magnitude_prune(model, sparsity)
    masks = PruningMasks(pruned)
    tuned.append(accuracy(learn(pruned, 4, after_step=masks.apply)))
    assert abs(measure_sparsity(pruned) - sparsity) < 1e-3
free = learn(magnitude_prune(model, 0.9), 1)
print(f"after one epoch without masks the sparsity is {measure_sparsity(free):.1%} instead of 90%")

figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
for scope, curve in curves.items():
    axis.plot(sparsities, curve, marker=".", label=f"pruned, {scope}")
axis.plot(sparsities[1:], tuned, marker="o", label="pruned globally, 4 more epochs")
axis.set(xlabel="sparsity", ylabel="accuracy", ylim=(0, 1))
axis.legend()
plt.show()
print("with fine-tuning:", "  ".join(f"{s:.0%} {a:.1%}" for s, a in zip(sparsities[1:], tuned)))

# %% [markdown]
"""
The cliff has moved a long way to the right. Most of what a trained network stores is not needed for what it does.

## What has been saved?

Nine of ten weights are 0. How many bytes is that, and how much faster? Measure before you answer.
"""


# %%
def time_of(function, repeats=7):
    """The fastest of a few runs, in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def megabytes(model):
    return sum(p.data.nbytes for p in model.parameters()) / 1e6


def forward_time(model, x):
    with no_grad():
        return time_of(functools.partial(model, x))


wide = Sequential(Linear(1024, 1024, rng=0), ReLU(), Linear(1024, 1024, rng=1), ReLU(), Linear(1024, 64, rng=2))
batch = randn(64, 1024, rng=3)
for sparsity in (0.0, 0.5, 0.9):
    sparse = magnitude_prune(wide, sparsity)
    print(f"{sparsity:4.0%} zeros: {megabytes(sparse):5.2f} MB, {forward_time(sparse, batch):5.2f} ms for 64 inputs")

# %% [markdown]
"""
Nothing. A zero is a number of four bytes like any other, and the matrix product multiplies by it like by any other.
This is the step that is left out when a pruned model is announced as "ten times smaller".

To save memory the zeros must not be stored. In *compressed sparse row* form a matrix is three arrays:

```
    0 5 0 1        values   5 1 2        what is not 0, row by row
    0 0 0 0        columns  1 3 0        where in its row
    2 0 0 0        starts   0 2 2 3      row i is values[starts[i] : starts[i + 1]]
```

Row 1 is empty: it starts where it ends, at 2. Each number now takes 4 bytes and 2 more for its column, 6 instead of 4.
So at which sparsity does it begin to pay? (At one third: `6 * (1 - s) < 4`.)

**Write `to_csr`**, given `matrix` and the dtype `small` for the columns. The example above is the value to expect.

<details><summary>Hint 1</summary>

`np.nonzero(matrix)` gives the rows and the columns of all numbers that are not 0, row by row.
</details>
<details><summary>Hint 2</summary>

`starts` is a 0 and then the cumulative sum of how many numbers each row has. Rows without any must be counted too.
</details>
<details><summary>Hint 3</summary>

`np.bincount(rows, minlength=len(matrix))` counts, empty rows included. Store `starts` as `np.uint32`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "compression-csr", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class CSR(NamedTuple):
    """A matrix as its nonzero numbers, row by row ("compressed sparse row").

    values   (nnz,)       the numbers that are not 0
    columns  (nnz,)       the column of each
    starts   (rows + 1,)  row i is values[starts[i] : starts[i + 1]]
    shape    (rows, columns)
    """

    values: np.ndarray
    columns: np.ndarray
    starts: np.ndarray
    shape: tuple

    @property
    def nbytes(self):
        """Bytes of the three arrays together."""
        return self.values.nbytes + self.columns.nbytes + self.starts.nbytes

    def dense(self):
        """The matrix as an ordinary array (rows, columns)."""
        out = np.zeros(self.shape, self.values.dtype)
        rows = np.repeat(np.arange(self.shape[0]), np.diff(self.starts.astype(np.int64)))
        out[rows, self.columns] = self.values
        return out


def to_csr(matrix) -> CSR:
    """A matrix in the form that stores no zeros; columns take 2 bytes each where there are at most 65,536 of them."""
    matrix = as_array(matrix)
    if matrix.ndim != 2:
        raise ValueError(f"to_csr needs a matrix, got shape {matrix.shape}; reshape(len(a), -1) makes one")
    small = np.uint16 if matrix.shape[1] <= 1 << 16 else np.uint32
    ### BEGIN SOLUTION
    rows, columns = np.nonzero(matrix)
    counts = np.bincount(rows, minlength=len(matrix))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint32)
    return CSR(matrix[rows, columns], columns.astype(small), starts, matrix.shape)
    ### END SOLUTION


# %%
print(to_csr(np.array([[0, 5, 0, 1], [0, 0, 0, 0], [2, 0, 0, 0]], np.float32)))


def csr_product(x, csr):
    """x (N, columns) times the transpose of the matrix in `csr`: (N, rows), touching no zero."""
    out = np.empty((len(x), csr.shape[0]), x.dtype)
    for row in range(csr.shape[0]):
        part = slice(csr.starts[row], csr.starts[row + 1])
        out[:, row] = x[:, csr.columns[part]] @ csr.values[part]
    return out


weight = wide[2].weight.data
x = batch.data
dense_time = time_of(lambda: x @ weight)
for sparsity in (0.0, 0.3, 0.5, 0.9, 0.98):
    zeroed = magnitude_prune(wide[2], sparsity).weight.data
    csr = to_csr(zeroed.T)  # one row per output
    assert np.allclose(csr_product(x, csr), x @ zeroed, atol=1e-4)
    print(
        f"{sparsity:4.0%} zeros: {weight.nbytes / 1e6:.2f} MB dense, {csr.nbytes / 1e6:5.2f} MB in CSR;  "
        f"product {dense_time:5.2f} ms dense, {time_of(lambda csr=csr: csr_product(x, csr), 2):7.2f} ms in CSR"
    )

# %% [markdown]
"""
The memory is saved, the time is not: gathering numbers from scattered places, row by row, is work for which the
processor has no wide instructions, and the dense product has been tuned for decades. A compiled sparse product does
better than this loop of ours, but it too needs a sparsity far above one half to win. Single weights are the finest
grain, keep the most accuracy, and fit the machine worst.

## Whole units

So remove something that leaves a smaller *dense* matrix behind: a unit. In a pair of layers it owns a column of the
first and a row of the second.

```
   Linear(3, 4)             Linear(4, 2)                 Linear(3, 3)      Linear(3, 2)

   a b [c] d                 a  a                         a b d             a a
   a b [c] d       -->       b  b            becomes      a b d      -->    b b
   a b [c] d                [c  c]                        a b d             d d
   bias: a b [c] d           d  d                         bias: a b d
```

Take only the column, and the second layer no longer fits. Leave the shapes and fill in zeros, and we are back at the
last section: many a "structured pruning" does just that.

What else hangs on a unit? The four arrays of a batch norm behind it. Behind a `Flatten`, not one row but one for every
pixel of its channel. In attention, a head owns three blocks of columns in `in_proj` and a block of rows in `out_proj`.
So we describe all of them in one way: an array, an axis, and for every place along that axis the unit that *owns* it.
"""


# %%
#| export
class _Cut(NamedTuple):
    """An array of a layer, and which unit each of its slices along an axis belongs to."""

    layer: object
    name: str  # the layer's attribute
    axis: int
    owner: np.ndarray  # (length of the axis,) numbers of units


class _Group(NamedTuple):
    """Units that can be removed: what makes them, what hears them, and what else goes with them."""

    name: str  # of the layer that makes them, for errors and `keep`
    layer: object
    count: int
    makes: list  # of cuts; their size says how strongly a unit is driven
    hears: list  # of cuts; their size says how much the next layer listens
    others: tuple = ()

    @property
    def cuts(self):
        return [*self.makes, *self.hears, *self.others]


def _array(cut):
    value = getattr(cut.layer, cut.name)
    return value.data if isinstance(value, Tensor) else value


# %% [markdown]
"""
**Which units go?** Two numbers matter: how strongly a unit is driven (the size of what makes it), and how much the next
layer listens (the size of what hears it). Take their product. It has a virtue that either alone has not: double all
weights into a unit with a relu behind it, halve those out of it, and the network computes the same; the product stays
the same too.

```
   unit    |into it|   |out of it|   product
     a        5           0.1          0.5        large, and nobody listens
     b        1           3            3
     c        0.2         4            0.8
```

**Write `_squares`**: for every unit, the sum of the squares of all numbers it owns, over all `cuts`. With one cut of
the array `[[1 2] [3 4]]`, axis 1, owners `[0 1]`, it is `[10 20]`; with axis 0, `[5 25]`.
**And finish `_kept_units`**: the numbers of the units that stay, those with the largest scores, of equal ones the first.

<details><summary>Hint 1</summary>

Bring the axis of the cut to the front with `np.moveaxis`, make everything behind it one axis, and sum the squares: one
number for every place. Then several places belong to one unit.
</details>
<details><summary>Hint 2</summary>

`np.bincount(owner, weights, minlength=count)` adds up `weights` by owner. Add that to `total` for every cut.
</details>
<details><summary>Hint 3</summary>

For the ranking, `np.argsort(-scores, kind="stable")` lists the units from the largest score down; `remove` of them go,
from the end.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "compression-unit-scores", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _squares(cuts, count):
    """The sum of the squares of all numbers that belong to each unit: (count,) float64."""
    ### BEGIN SOLUTION
    total = np.zeros(count)
    for cut in cuts:
        rows = np.moveaxis(_array(cut), cut.axis, 0).reshape(len(cut.owner), -1).astype(np.float64)
        total += np.bincount(cut.owner, (rows * rows).sum(axis=1), minlength=count)
    return total
    ### END SOLUTION


def _kept_units(group, prune_ratio):
    """The numbers of the units that stay: those of the largest |what makes it| * |what hears it|."""
    remove = math.floor(prune_ratio * group.count + 1e-9)  # 0.29 * 100 is 28.999999999999996
    scores = np.sqrt(_squares(group.makes, group.count) * _squares(group.hears, group.count))
    ### BEGIN SOLUTION
    ranked = np.argsort(-scores, kind="stable")
    return ranked[: group.count - remove]
    ### END SOLUTION


# %% [markdown]
"""
**Write the heart of `_remove_units`**: `places`, where along the axis the owner is one of `kept`, and `shorter`, the
array with nothing but those places. Owners `[0 0 1 1 2 2]` and `kept = [2, 0]` leave the places `[0 1 4 5]`.

<details><summary>Hint 1</summary>

A unit may own several places, so `kept` is not the list of places.
</details>
<details><summary>Hint 2</summary>

`np.isin(cut.owner, kept)` is True at the places that stay; `np.flatnonzero` lists them.
</details>
<details><summary>Hint 3</summary>

`_array(cut)` is the array, and arrays have `take(places, axis=...)`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "compression-cut", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _remove_units(cuts, kept):
    """Shorten every array to the slices whose owner is among `kept`."""
    for cut in cuts:
        ### BEGIN SOLUTION
        places = np.flatnonzero(np.isin(cut.owner, kept))
        shorter = _array(cut).take(places, axis=cut.axis)
        ### END SOLUTION
        value = getattr(cut.layer, cut.name)
        if isinstance(value, Tensor):
            value.data = shorter
        else:
            setattr(cut.layer, cut.name, shorter)


def _settle(layer):
    """Let the settings of a layer say what its arrays are."""
    if isinstance(layer, Linear):
        layer.in_features, layer.out_features = layer.weight.shape
    elif isinstance(layer, (Conv1d, Conv2d)):
        layer.out_channels, layer.in_channels = layer.weight.shape[:2]
    elif isinstance(layer, (BatchNorm1d, BatchNorm2d)):
        layer.num_features = layer.weight.size


# %% [markdown]
"""
**Behind a Flatten.** Three channels of two pixels each, (N, 3, 1, 2), or two places of a sequence with three units
each, (N, 2, 3). Both flatten to six numbers; whose are they?

```
   channels   a0 a1 b0 b1 c0 c1       owners 0 0 1 1 2 2      a channel's pixels stand together
   places     a0 b0 c0 a1 b1 c1       owners 0 1 2 0 1 2      at every place all units, in turn
```

**Write `_owners`** for both cases; `features` is a multiple of `units`.

<details><summary>Hint 1</summary>

Every unit owns `features // units` numbers.
</details>
<details><summary>Hint 2</summary>

One of `np.repeat` and `np.tile` turns `0 1 2` into `0 0 1 1 2 2`, the other into `0 1 2 0 1 2`.
</details>
<details><summary>Hint 3</summary>

`np.repeat(np.arange(units), each)` is for channels.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "compression-owners", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _owners(units, features, channels):
    """Which unit each of `features` numbers comes from, once everything but the batch has been flattened.

    channels  True: of units (N, units, H, W), whose pixels stand together; False: of (N, T, units), which take turns
    """
    ### BEGIN SOLUTION
    each = features // units
    return np.repeat(np.arange(units), each) if channels else np.tile(np.arange(units), each)
    ### END SOLUTION


# %% [markdown]
"""
The plumbing: follow the units of a layer through a chain to the layer that hears them. Activations that act on every
number by itself, dropout and pooling let units pass. A softmax or a layer norm does not: there every unit changes all
others, and taking one away is another function. Then the only honest answer is an error that names the layer.
"""


# %%
#| export
_ONE_BY_ONE = (ReLU, LeakyReLU, Sigmoid, Tanh, GELU, SiLU, Softplus, Dropout, Identity)
_POOLING = (MaxPool2d, AvgPool2d, AdaptiveAvgPool2d)
_SHRINKING = (Linear, Conv1d, Conv2d)  # layers whose units can be removed
_WITH_UNITS = (*_SHRINKING, ConvTranspose1d, ConvTranspose2d)


def _runs_as(layer, *classes):
    """Whether the layer computes what one of the classes computes, being one or a subclass with the same `forward`."""
    return any(isinstance(layer, cls) and type(layer).forward is cls.forward for cls in classes)


def _can_shrink(layer):
    return _runs_as(layer, *_SHRINKING) and (isinstance(layer, Linear) or layer.groups == 1)


def _title(name, layer):
    return f"{name or 'the model'} ({type(layer).__name__})"


class _Open:
    """The units of a layer on their way through a chain to the layer that hears them."""

    def __init__(self, name, layer):
        self.name, self.layer = name, layer
        self.channels = not isinstance(layer, Linear)
        self.flat = False
        self.obstacle = None if _can_shrink(layer) else (name, layer)
        self.count = layer.weight.shape[0 if self.channels else 1]
        axis, owner = 0 if self.channels else 1, np.arange(self.count)
        self.makes = [_Cut(layer, "weight", axis, owner)]
        if layer.bias is not None:
            self.makes.append(_Cut(layer, "bias", 0, owner))
        self.others = []

    def owners(self, features):
        """`_owners` of the features that arrive here, or None if they do not fit."""
        if features % self.count or (features != self.count and not self.flat):
            return None
        return _owners(self.count, features, self.channels)

    def passes(self, name, layer):
        """Take note of a layer on the way that is no Linear and no convolution."""
        if _runs_as(layer, Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
            self.flat = True
        elif _runs_as(layer, BatchNorm1d, BatchNorm2d) and self.owners(layer.num_features) is not None:
            owner = self.owners(layer.num_features)
            self.others += [*self.makes, *(_Cut(layer, s, 0, owner) for s in ("running_mean", "running_var"))]
            self.makes = [_Cut(layer, "weight", 0, owner), _Cut(layer, "bias", 0, owner)]
        elif not _runs_as(layer, *_ONE_BY_ONE) and not (_runs_as(layer, *_POOLING) and self.channels and not self.flat):
            self.obstacle = self.obstacle or (name, layer)

    def heard_by(self, name, layer):
        """The group, complete with the layer that hears it; ValueError if there is no telling which of its weights."""
        linear = isinstance(layer, Linear)
        width = layer.weight.shape[0 if linear else 1]
        owner = self.owners(width)
        fits = linear == (self.flat or not self.channels) and owner is not None and _can_shrink(layer)
        obstacle = self.obstacle or (None if fits else (name, layer))
        if obstacle is not None:
            raise ValueError(
                f"structured_prune cannot take units out of {_title(self.name, self.layer)}, which "
                f"{_title(name, layer)} hears: it does not know how to adjust {_title(*obstacle)}. "
                f"keep=[{self.name!r}] leaves its units as they are"
            )
        hears = [_Cut(layer, "weight", 0 if linear else 1, owner)]
        return _Group(self.name, self.layer, self.count, self.makes, hears, self.others)


def _chain(name, sequential, uses):
    """(name, layer) of everything in a Sequential, and in those inside it that are used once, in order of running."""
    for i, layer in enumerate(sequential.layers):
        inner = f"{name}.{i}" if name else str(i)
        if _runs_as(layer, Sequential) and uses[id(layer)] == 1:
            yield from _chain(inner, layer, uses)
        else:
            yield inner, layer


def _chain_groups(chain, keep):
    """A group for every Linear and convolution of a chain but the last, whose outputs others rely on."""
    groups, units = [], None
    for name, layer in chain:
        if isinstance(layer, _WITH_UNITS):
            if units is not None and units.name not in keep:
                groups.append(units.heard_by(name, layer))
            units = _Open(name, layer)
        elif units is not None:
            units.passes(name, layer)
    return groups


# %% [markdown]
"""
**Heads.** `in_proj` of a `MultiHeadAttention` gives 3 H D numbers for H heads of width D: first all queries, head by
head, then all keys, then all values. `out_proj` reads H D numbers, head by head. For H = 2 and D = 2:

```
   columns of in_proj    q0 q0 q1 q1  k0 k0 k1 k1  v0 v0 v1 v1        owners 0 0 1 1  0 0 1 1  0 0 1 1
   rows of out_proj      h0 h0 h1 h1                                  owners 0 0 1 1
```

The class of module 12 computes D from the width and the number of heads. When heads are gone that is no longer true, so
what is left becomes a `PrunedAttention`, which remembers D. **Write the two lists of owners**, `rows` and `columns`.

<details><summary>Hint 1</summary>

The rows are the pattern of channels and pixels from the last blank: every head owns D that stand together.
</details>
<details><summary>Hint 2</summary>

The columns are the rows, three times over, once each for queries, keys and values.
</details>
<details><summary>Hint 3</summary>

`np.tile(rows, 3)`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "compression-attention", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class PrunedAttention(MultiHeadAttention):
    """Attention that has lost heads: `num_heads` of them, each `head_dim` wide, together narrower than embed_dim.

    in_proj is a Linear(E, 3 num_heads head_dim), out_proj a Linear(num_heads head_dim, E). Takes over the layers of a
    MultiHeadAttention.
    """

    def __init__(self, attention: MultiHeadAttention):
        vars(self).update(vars(attention))

    def extra_repr(self):
        return f"{super().extra_repr()}, head_dim={self.head_dim}"


def _attention_group(name, attention):
    """The heads as units: three blocks of columns each in `in_proj`, and a block of rows in `out_proj`."""
    H, D = attention.num_heads, attention.head_dim
    ### BEGIN SOLUTION
    rows = np.repeat(np.arange(H), D)
    columns = np.tile(rows, 3)
    ### END SOLUTION
    makes = [_Cut(attention.in_proj, "weight", 1, columns)]
    if attention.in_proj.bias is not None:
        makes.append(_Cut(attention.in_proj, "bias", 0, columns))
    return _Group(name, attention, H, makes, [_Cut(attention.out_proj, "weight", 0, rows)])


# %% [markdown]
"""
The last piece of plumbing finds all groups of units in a model, checks that no array among them is used anywhere else,
and takes the units out of a copy.
"""


# %%
#| export
def _inside(thing):
    """(key, part) for what a layer, list, tuple or dict refers to directly."""
    if isinstance(thing, dict):
        return list(thing.items())
    if isinstance(thing, (list, tuple)):
        return list(enumerate(thing))
    return list(getattr(thing, "__dict__", {}).items()) if _is_layer(thing) else []


def _uses(model):
    """From the id of a layer or parameter to the number of places in the model that refer to it."""
    return Counter(id(part) for _, thing in walk(model) for _, part in _inside(thing))


def _exchange(model, old, new):
    """The model with the layer `new` in every place where `old` was."""
    for _, thing in list(walk(model)):
        for key, part in _inside(thing):
            if part is not old:
                continue
            if isinstance(thing, tuple):
                raise TypeError(f"a layer in a tuple cannot be exchanged, {type(old).__name__}; keep layers in a list")
            if isinstance(thing, (list, dict)):
                thing[key] = new
            else:
                setattr(thing, key, new)
    return new if model is old else model


def _is_attention(layer):
    own = type(layer).heads if isinstance(layer, MultiHeadAttention) else None
    return _runs_as(layer, MultiHeadAttention, PrunedAttention) and own in (
        MultiHeadAttention.heads,
        PrunedAttention.heads,
    )


def _need_linear(name, owner, layers):
    for key, layer in layers.items():
        if not _runs_as(layer, Linear):
            raise ValueError(
                f"structured_prune cannot take units out of {_title(name, owner)}: its {key} is a "
                f"{type(layer).__name__}. Prune structure first, and make layers low-rank afterwards"
            )


def _groups(model, keep, uses):
    """All groups of a model. ValueError names a layer whose surroundings are not understood."""
    groups, known = [], set()
    for name, layer in walk(model):
        if id(layer) in known or not _is_layer(layer):
            continue
        if _runs_as(layer, Sequential):
            chain = list(_chain(name, layer, uses))
            known |= {id(inner) for _, inner in chain if isinstance(inner, _WITH_UNITS)}
            known |= {id(inner) for _, inner in walk(layer) if _runs_as(inner, Sequential) and uses[id(inner)] == 1}
            groups += _chain_groups(chain, keep)
        elif _runs_as(layer, MLP):
            known |= {id(inner) for inner in (layer.fc1, layer.fc2) if isinstance(inner, Linear)}
            if name not in keep:
                _need_linear(name, layer, {"fc1": layer.fc1, "fc2": layer.fc2})
                units = _Open(name, layer.fc1)
                groups.append(units.heard_by(name, layer.fc2)._replace(layer=layer))
        elif _is_attention(layer):
            known |= {id(inner) for inner in (layer.in_proj, layer.out_proj) if isinstance(inner, Linear)}
            if name not in keep:
                _need_linear(name, layer, {"in_proj": layer.in_proj, "out_proj": layer.out_proj})
                groups.append(_attention_group(name, layer))
        elif isinstance(layer, (*_WITH_UNITS, MultiHeadAttention, MLP)) and name and name not in keep:
            raise ValueError(
                f"structured_prune does not know what hears the units of {_title(name, layer)}: it is not in a "
                f"Sequential, an MLP or a MultiHeadAttention. keep=[{name!r}] leaves its units as they are"
            )
    return groups


def _check_groups(model, groups, keep, uses):
    """Raise unless there is something to prune, every name in `keep` is a layer, and no layer is used twice."""
    names = {name for name, layer in walk(model) if _is_layer(layer)}
    unknown = sorted(set(keep) - names)
    if unknown:
        raise ValueError(f"structured_prune: keep names no layer of this model: {unknown[0]!r}")
    if not groups:
        raise ValueError(
            f"structured_prune found no units to remove in {type(model).__name__}: it needs a Sequential of two layers "
            "or more, an MLP or a MultiHeadAttention (inputs and outputs of the model are never removed)"
        )
    for group in groups:
        for cut in group.cuts:
            if uses[id(cut.layer)] > 1 or uses[id(getattr(cut.layer, cut.name))] > 1:
                raise ValueError(
                    f"structured_prune cannot take units out of {_title(group.name, group.layer)}: the {cut.name} of "
                    f"{type(cut.layer).__name__} is used in two places. keep=[{group.name!r}] leaves its units"
                )


def structured_prune(model, prune_ratio: float, keep=()):
    """A model with fewer units: columns of a Linear, channels of a convolution, heads of an attention are really gone.

    prune_ratio  0 <= prune_ratio < 1: the share of the units of every layer to remove, rounded down. Those go whose
                 weights are small, what makes them times what hears them
    keep         names of layers whose units all stay, such as ["0", "blocks.1.attention"]

    The new model computes what the old one would if the next layer did not hear the removed units. Understood are:
    Sequentials of Linear, Conv1d, Conv2d, batch norm, pooling, Flatten, Dropout and activations that act on each number
    by itself; and, anywhere in a model such as a GPT, the insides of MLP and MultiHeadAttention. Of anything else a
    ValueError names the layer. How many units stay depends on sizes only: to load a checkpoint of a pruned model, load
    it into a new model pruned by the same share. (Li et al. 2017; Michel et al. 2019 for heads)
    """
    prune_ratio = _share("structured_prune", "prune_ratio", prune_ratio, below_1=True)
    if isinstance(keep, str):
        raise TypeError(f"structured_prune needs keep as a list of names, got {keep!r}; write [{keep!r}]")
    _weights_to_prune("structured_prune", model)
    model = copy.deepcopy(model)
    uses = _uses(model)
    groups = _groups(model, keep, uses)
    _check_groups(model, groups, keep, uses)
    chosen = [_kept_units(group, prune_ratio) for group in groups]
    for group, kept in zip(groups, chosen):
        if len(kept) < group.count:
            _remove_units(group.cuts, kept)
            for cut in group.cuts:
                _settle(cut.layer)
            if isinstance(group.layer, MultiHeadAttention):
                smaller = PrunedAttention(group.layer)
                smaller.num_heads = len(kept)
                model = _exchange(model, group.layer, smaller)
    return model


# %%
small = structured_prune(Sequential(Linear(3, 4, rng=0), ReLU(), Linear(4, 2, rng=1)), 0.25)
print(small)
for obstacle in (Softmax(), LayerNorm(4)):
    try:
        structured_prune(Sequential(Linear(3, 4), obstacle, Linear(4, 2)), 0.25)
    except ValueError as error:
        print(error)

# %% [markdown]
"""
Is it right? The smaller network must compute exactly what the large one computes when the next layer is deaf to the
units that went. Here with a convolution, a batch norm, pooling and a Flatten on the way:
"""

# %%
images = Sequential(
    Conv2d(1, 16, 3, padding=1, rng=0), BatchNorm2d(16), ReLU(), MaxPool2d(2), Flatten(), Linear(256, 10, rng=1)
)
learn(images, 2)
thin = structured_prune(images, 0.5)
deaf = copy.deepcopy(images)
lost = [c for c in range(16) if images[0].bias.data[c] not in thin[0].bias.data]
for c in lost:
    deaf[5].weight.data[16 * c : 16 * (c + 1)] = 0  # 4 x 4 pixels of channel c
with no_grad():
    difference = np.abs(thin(test_images).data - deaf(test_images).data).max()
    change = np.abs(thin(test_images).data - images(test_images).data).max()
print("channels removed:", lost)
print(f"largest difference to the deaf network {difference:.1e}, to the original {change:.2f}")

# %% [markdown]
"""
And now the same two measurements as before, on the same wide network; and the accuracy, on the digits.
"""

# %%
for ratio in (0.0, 0.25, 0.5, 0.75):
    narrow = structured_prune(wide, ratio)
    print(f"{ratio:4.0%} of the units gone: {megabytes(narrow):5.2f} MB, {forward_time(narrow, batch):5.2f} ms")
print()
for ratio in (0.25, 0.5, 0.75, 0.9):
    narrow = structured_prune(model, ratio)
    before = accuracy(narrow)
    after = accuracy(learn(narrow, 4))
    print(
        f"digits, {ratio:3.0%} of the units gone: {narrow.num_parameters():6,} parameters, "
        f"{before:.1%}, after 4 epochs {after:.1%}"
    )

# %% [markdown]
"""
Really smaller, really faster, with no special format and no special kernel: half of the units at both ends of a matrix
is a quarter of the matrix. The price shows before fine-tuning: at equal numbers of weights, a coarse cut hurts more
than a fine one.

## Low rank

A third way to spend fewer numbers on a matrix. Every matrix can be written as a sum of directions,

```
   W  =  s0 u0 v0^T  +  s1 u1 v1^T  +  s2 u2 v2^T  +  ...          s0 >= s1 >= s2 >= ... >= 0
```

each of which takes the component of x along u, stretches it by s, and sends it along v. If the stretches fall off
quickly, keep the first r. What is left is two thin matrices, (in, r) and (r, out), and the mistake is known in advance:
the longest output that can be lost is the first stretch left out, and over all numbers of the matrix the error is the
root of the sum of the squares of all that were left out. No other pair of thin matrices is nearer.

A Linear(64, 128) has 8,192 weights, at rank 16 it is `16 * (64 + 128) = 3,072`. At which rank is nothing saved any
more? (`64 * 128 / (64 + 128)`, a little above 42.)

**Write the middle of `low_rank_approximate`**: the weights of `down` (in, rank) and `up` (rank, out), with the root of
every stretch in each. (All of it in one would be right as well, but the two would then learn at different paces.) For
the matrix `[[0 3] [1 0]]` and rank 1, their product is `[[0 3] [0 0]]`.

<details><summary>Hint 1</summary>

`np.linalg.svd(a, full_matrices=False)` returns u, s and v *already transposed*, the largest stretch first. In float64
it is exact enough for anything that follows.
</details>
<details><summary>Hint 2</summary>

The directions are the columns of u and the rows of vt.
</details>
<details><summary>Hint 3</summary>

`u[:, :rank] * root` scales columns, `root[:, None] * vt[:rank]` scales rows; then `.astype(dtype)`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "compression-low-rank", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def low_rank_approximate(layer: Linear, rank: int) -> Sequential:
    """A Linear(in, out) as two, Linear(in, rank) and Linear(rank, out): the nearest there is of that rank.

    rank  1 <= rank <= min(in, out); smaller than the layer where rank < in * out / (in + out)

    With the singular values s of the weight, largest first, the error of the weight is s[rank] (how far the longest
    output of a unit input moves), and sqrt(sum(s[rank:]^2)) over all numbers. (Eckart & Young 1936)
    """
    if not _runs_as(layer, Linear):
        raise TypeError(f"low_rank_approximate needs a Linear, got {type(layer).__name__}")
    rank = _positive("low_rank_approximate", "rank", rank)
    fan_in, fan_out = layer.weight.shape
    if rank > min(fan_in, fan_out):
        raise ValueError(f"Linear({fan_in}, {fan_out}) has no rank above {min(fan_in, fan_out)}, got {rank}")
    if not np.isfinite(layer.weight.data).all():
        raise ValueError(
            f"low_rank_approximate needs finite weights, Linear({fan_in}, {fan_out}) holds NaN or infinity"
        )
    dtype = layer.weight.dtype
    down, up = Linear(fan_in, rank, bias=False, rng=0), Linear(rank, fan_out, bias=layer.bias is not None, rng=0)
    ### BEGIN SOLUTION
    u, s, vt = np.linalg.svd(layer.weight.data.astype(np.float64), full_matrices=False)
    root = np.sqrt(s[:rank])  # half of every stretch to each, so that both learn alike
    down.weight.data = (u[:, :rank] * root).astype(dtype)
    up.weight.data = (root[:, None] * vt[:rank]).astype(dtype)
    ### END SOLUTION
    if layer.bias is not None:
        up.bias.data = layer.bias.data.copy()
        up.bias.requires_grad = layer.bias.requires_grad
    for thin in (down, up):
        thin.weight.requires_grad = layer.weight.requires_grad
    return Sequential(down, up).train(layer.training)


# %%
untrained = reader(128)
figure, axis = plt.subplots(figsize=(6, 3), layout="constrained")
for name, network in (("drawn at random", untrained), ("trained", model)):
    for place, style in ((1, "-"), (3, "--")):
        s = np.linalg.svd(network[place].weight.data, compute_uv=False)
        axis.plot(s / s[0], style, label=f"layer {place}, {name}")
axis.set(xlabel="number", ylabel="singular value / the first")
axis.legend()
plt.show()

layer = model[3]
s = np.linalg.svd(layer.weight.data.astype(np.float64), compute_uv=False)
print("rank   weights   lost at most   as predicted   accuracy with layers 1 and 3 of that rank")
for rank in (32, 16, 8, 4):
    pair = low_rank_approximate(layer, rank)
    error = layer.weight.data - pair[0].weight.data.astype(np.float64) @ pair[1].weight.data
    thin = copy.deepcopy(model)
    thin[1], thin[3] = low_rank_approximate(model[1], rank), low_rank_approximate(model[3], rank)
    weights = pair[0].weight.size + pair[1].weight.size
    print(
        f"{rank:4} {weights:5} of {layer.weight.size} {np.linalg.norm(error, 2):10.4f} {s[rank]:13.4f} "
        f"{accuracy(thin):13.1%}"
    )

# %% [markdown]
"""
The picture says why it works at all: training adds a few strong directions to a random start, and the random rest is a
long flat tail that can go. It also says when it does not: without a fall there is nothing to cut.

## A teacher

The fourth way does not touch the large network. Train a small one, from scratch, on what the large one says.

Why should that be better than training it on the labels? A label says "this is a 3". The teacher says "a 3, rather an 8
than a 5, and certainly no 1". By the label the wrong answers are all equally wrong; the teacher ranks them, and the
ranking holds much of what it has learnt. Except that a good teacher is so sure that the ranking drowns:

```
   logits of "cat", "dog", "car":  6  3  0

   T = 1    softmax([6  3  0])          0.950  0.047  0.002      "cat", and little else
   T = 3    softmax([2  1  0])          0.665  0.245  0.090      a cat, much like a dog, little like a car
   T = 9    softmax([2/3  1/3  0])      0.448  0.321  0.230      everything is a bit of everything
```

So both are softened by a *temperature* T before they are compared.

The comparison has a direction. `KL(teacher || student)`, the sum of `p_teacher log(p_teacher / p_student)`, asks what it
costs to believe the student when the teacher is right: the student must give a share to all that the teacher thinks
possible. The other way round it may pick one favourite and forget the rest.

And it has a size. The gradient of the divergence with respect to the student's logits is `(p_student - p_teacher) / T`,
and softened probabilities differ less, by another 1 / T or so: it shrinks with `T^2`. Multiply the loss by `T^2`, and
the balance with the labels does not change whenever you change T. The cell measures it.
"""

# %%
teacher_logits = Tensor([[6.0, 3.0, 0.0]])
print("  T   teacher, softened        |gradient| of KL    of T^2 KL")
for T in (1.0, 3.0, 9.0, 27.0):
    student_logits = Tensor([[0.5, 1.0, 0.0]], requires_grad=True)
    softened = softmax(teacher_logits / T)
    kl_div(log_softmax(student_logits / T), softened, "batchmean").backward()
    size = np.linalg.norm(student_logits.grad)
    print(f"{T:4.0f}   {softened.data[0]}   {size:15.5f} {T * T * size:14.4f}")

# %% [markdown]
"""
**Write `distillation_loss`**, given the tensors `student` and `teacher` (already without history) of shape (..., C):
`alpha` times `T^2` times the divergence of the softened two, averaged over all rows, plus `1 - alpha` times the cross
entropy of the student, *not* softened, with the targets. With `alpha == 1` there may be no targets.

For student logits `[0 0]`, teacher logits `[log 3, 0]`, target 0, T = 1, alpha = 0.5: the teacher says 3/4 and 1/4, the
student 1/2 and 1/2, so the loss is `0.5 (0.75 log 1.5 + 0.25 log 0.5) + 0.5 log 2`, which is 0.412.

<details><summary>Hint 1</summary>

`kl_div(input, target, "batchmean")` of module 04 takes the log-probabilities of the one who is believed, here the
student, first; then the probabilities of the one who is right.
</details>
<details><summary>Hint 2</summary>

"batchmean" divides by the length of the first axis. For logits (N, T, V) of a language model that is not the number of
rows; so make both (-1, C) first.
</details>
<details><summary>Hint 3</summary>

`log_softmax(student / temperature).reshape(-1, C)` and `softmax(teacher / temperature).reshape(-1, C)`; the divergence
times `temperature**2`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "compression-distillation-loss", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _check_distillation(temperature, alpha):
    if not isinstance(temperature, Real) or isinstance(temperature, bool):
        raise TypeError(f"distillation needs a number as temperature, got {temperature!r}")
    if not 0 < temperature < math.inf:
        raise ValueError(f"distillation needs a temperature above 0, got {temperature}")
    _share("distillation", "alpha", alpha)


def distillation_loss(student_logits, teacher_logits, targets=None, temperature: float = 3.0, alpha: float = 0.7):
    """How far a student is from its teacher and from the truth, in nats; gradients flow to the student only.

        alpha T^2 KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) cross_entropy(student, targets)

    student_logits  (..., C)
    teacher_logits  (..., C), a tensor or array
    targets         (...) class numbers; may be None with alpha=1, which learns from the teacher alone
    temperature     T > 0; a high one shows how the teacher ranks the wrong answers. Softening by T shrinks the gradient
                    by about T^2, which the factor makes up for
    alpha           0 <= alpha <= 1, how much the teacher counts

    The mean over all rows. (Hinton et al. 2015, section 2)
    """
    _check_distillation(temperature, alpha)
    student, teacher = floating(student_logits), floating(teacher_logits).detach()
    if student.shape != teacher.shape or student.ndim == 0:
        raise ValueError(
            f"distillation needs logits (..., C) of one shape from both, got student {student.shape} and "
            f"teacher {teacher.shape}"
        )
    if targets is None and alpha != 1:
        raise ValueError(f"distillation needs targets for its share {1 - alpha:g} of cross entropy; or set alpha=1")
    C = student.shape[-1]
    ### BEGIN SOLUTION
    believed = log_softmax(student / temperature).reshape(-1, C)
    told = softmax(teacher / temperature).reshape(-1, C)
    soft = kl_div(believed, told, "batchmean") * temperature**2
    if alpha == 1:
        return soft
    return alpha * soft + (1 - alpha) * cross_entropy(student, targets)
    ### END SOLUTION


# %%
loss = distillation_loss([[0.0, 0.0]], [[math.log(3), 0.0]], [0], temperature=1.0, alpha=0.5)
print(f"{loss.item():.3f}")

# %% [markdown]
"""
The class around it remembers who is who. The teacher speaks in eval mode and without being recorded, and
`parameters()` are the student's, so an optimizer cannot move the teacher by mistake.
"""


# %%
#| export
class KnowledgeDistillation:
    """The loss of a student that learns from a teacher: `distillation_loss` of what both say about the same input.

        distillation = KnowledgeDistillation(teacher, student)
        optimizer = Adam(distillation.parameters())      # the student's; the teacher never changes
        loss = distillation(images, labels)

    temperature, alpha   as for `distillation_loss`
    """

    def __init__(self, teacher, student, temperature: float = 3.0, alpha: float = 0.7):
        for role, model in (("teacher", teacher), ("student", student)):
            if not callable(model) or isinstance(model, type):
                raise TypeError(f"KnowledgeDistillation needs a model as {role}, got {model!r}")
        if teacher is student:
            raise ValueError(
                "KnowledgeDistillation: teacher and student are the same model, which has nothing to learn"
            )
        if not _is_layer(student) or not student.parameters():
            raise ValueError(
                f"KnowledgeDistillation: the student, {type(student).__name__}, has no parameters to learn"
            )
        _check_distillation(temperature, alpha)
        self.teacher = teacher
        self.student = student
        self.temperature = temperature
        self.alpha = alpha

    def parameters(self):
        """The student's parameters."""
        return self.student.parameters()

    def teacher_logits(self, *inputs) -> Tensor:
        """What the teacher says: in eval mode, nothing recorded; for data that come again it may be kept."""
        with no_grad(), _evaluating(self.teacher):
            return self.teacher(*inputs)

    def loss(self, student_logits, teacher_logits, targets=None) -> Tensor:
        """`distillation_loss` with the settings of this object."""
        return distillation_loss(student_logits, teacher_logits, targets, self.temperature, self.alpha)

    def forward(self, x, targets=None) -> Tensor:
        """The loss on a batch, through the student."""
        return self.loss(self.student(x), self.teacher_logits(x), targets)

    def __call__(self, x, targets=None) -> Tensor:
        return self.forward(x, targets)

    def __repr__(self):
        teacher, student = type(self.teacher).__name__, type(self.student).__name__
        return f"KnowledgeDistillation({teacher} -> {student}, temperature={self.temperature}, alpha={self.alpha})"


# %% [markdown]
"""
A fair trial. The student is small, and it has only 100 digits to learn from. It is trained on them alone, and then,
from the same start and for as many steps, with what the teacher says about the same 100. Three starts each.
"""

# %%
few_images, few_labels = train_images.data[:100], train_labels.data[:100]


def raise_student(seed, temperature=None):
    """The accuracy of a student after 300 steps, with a teacher or without."""
    student = reader(16, rng=10 * seed)
    temperature, alpha = (1.0, 0.0) if temperature is None else (temperature, 0.9)
    distillation = KnowledgeDistillation(model, student, temperature, alpha)
    said = distillation.teacher_logits(Tensor(few_images)).data  # the same in every step, so asked for once
    optimizer = Adam(distillation.parameters(), lr=0.01)
    rng = np.random.default_rng(seed)
    for _ in range(300):
        rows = rng.integers(0, 100, 50)
        optimizer.zero_grad()
        distillation.loss(student(Tensor(few_images[rows])), said[rows], Tensor(few_labels[rows])).backward()
        optimizer.step()
    return accuracy(student.eval())


print(f"the teacher: {model.num_parameters():,} parameters, {accuracy(model):.1%}")
print(f"the student: {reader(16).num_parameters():,} parameters")
for temperature in (None, 1.0, 3.0, 9.0):
    scores = [raise_student(seed, temperature) for seed in range(3)]
    name = "labels alone" if temperature is None else f"teacher, T = {temperature:.0f}"
    print(f"  {name:16} {np.mean(scores):.1%}   ({', '.join(f'{score:.1%}' for score in scores)})")

# %% [markdown]
"""
The images and their labels are the same in all rows; what is added is the teacher's opinion of the wrong answers. (The
teacher has seen all training digits. That is the point: the student never did, and some of it comes across.) Try it
with all the labels, and there is less left to tell.

## All of it

`compress_model` applies what a config names, in the order in which the parts do not disturb each other: structure
first, while layers are still plain Linears; then rank; then zeros.
"""


# %%
#| export
def _low_rank_everywhere(model, rank):
    """The model with `low_rank_approximate` of every Linear that it makes smaller; there must be one."""
    layers = [layer for _, layer in walk(model) if _runs_as(layer, Linear)]
    chosen = [layer for layer in layers if rank * sum(layer.weight.shape) < layer.weight.size]
    if not chosen:
        raise ValueError(f"compress_model: rank {rank} makes no Linear of this {type(model).__name__} smaller")
    uses = _uses(model)
    for layer in chosen:
        if uses[id(layer.weight)] > 1:
            raise ValueError(f"compress_model cannot replace {layer}: its weight is used in two places")
    for layer in chosen:
        model = _exchange(model, layer, low_rank_approximate(layer, rank))
    return model


def compress_model(model, config: Mapping):
    """A smaller copy of the model: structured_prune, then low_rank_approximate, then magnitude_prune, as `config` says.

    config  from the name of a function to its number, such as
            {"structured_prune": 0.5, "low_rank_approximate": 16, "magnitude_prune": 0.8}; the order does not matter.
            The rank is for every Linear that two thin ones of that rank make smaller

    Raises TypeError or ValueError before anything has changed; the model itself never does.
    """
    if not isinstance(config, Mapping):
        raise TypeError(f"compress_model needs a dict such as {{'magnitude_prune': 0.8}}, got {config!r}")
    known = ("structured_prune", "low_rank_approximate", "magnitude_prune")
    unknown = [name for name in config if name not in known]
    if unknown or not config:
        what = f"it does not know {unknown[0]!r}" if unknown else "the config is empty"
        raise ValueError(f"compress_model: {what}; it takes {', '.join(known)}")
    for name in ("structured_prune", "magnitude_prune"):
        if name in config:
            _share("compress_model", name, config[name], below_1=name == "structured_prune")
    if "low_rank_approximate" in config:
        _positive("compress_model", "low_rank_approximate", config["low_rank_approximate"])
    _weights_to_prune("compress_model", model)
    out = copy.deepcopy(model)
    if "structured_prune" in config:
        out = structured_prune(out, config["structured_prune"])
    if "low_rank_approximate" in config:
        out = _low_rank_everywhere(out, config["low_rank_approximate"])
    if "magnitude_prune" in config:
        out = magnitude_prune(out, config["magnitude_prune"], in_place=True)
    return out


# %%
def packed(model):
    """Megabytes if every weight that gains by it is stored in CSR, all else dense."""
    total = 0
    for p in model.parameters():
        sparse = to_csr(p.data.reshape(len(p), -1)).nbytes if p.ndim > 1 else p.data.nbytes
        total += min(sparse, p.data.nbytes)
    return total / 1e6


configs = [
    {"magnitude_prune": 0.8},
    {"structured_prune": 0.5},
    {"low_rank_approximate": 12},
    {"structured_prune": 0.25, "low_rank_approximate": 12, "magnitude_prune": 0.4},
]
print(f"{'original':75} {accuracy(model):.1%}  {1e3 * megabytes(model):5.1f} kB")
for config in configs:
    small = compress_model(model, config)
    masks = PruningMasks(small)
    learn(small, 4, after_step=masks.apply)
    text = ", ".join(f"{name} {number}" for name, number in config.items())
    print(f"{text:75} {accuracy(small):.1%}  {1e3 * megabytes(small):5.1f} kB, in CSR {1e3 * packed(small):5.1f} kB")

# %% [markdown]
"""
A GPT is compressed by the same calls. Its stream keeps its width, since every block adds to it; what shrinks is the
inside of each block, heads and hidden units.
"""

# %%
gpt = GPT(vocab_size=512, embed_dim=128, num_layers=4, num_heads=8, max_seq_len=128, rng=0)
tokens = np.arange(4 * 128).reshape(4, 128) % 512
for ratio in (0.0, 0.25, 0.5):
    lean = structured_prune(gpt, ratio)
    attention = lean.blocks[0].attention
    print(
        f"{ratio:4.0%}: {attention.num_heads} heads, {lean.blocks[0].mlp.fc1.out_features} hidden units, "
        f"{lean.num_parameters():,} parameters, {forward_time(lean, tokens):6.1f} ms for {tokens.size} tokens"
    )

# %% [markdown]
"""
## All together
"""

# %%
by_hand = Linear(2, 3)
by_hand.weight.data = np.array([[0.9, -0.1, 0.4], [-0.7, 0.2, -0.3]], np.float32)
assert magnitude_prune(by_hand, 0.5).weight.data.astype(bool).tolist() == [[True, False, True], [True, False, False]]
assert measure_sparsity(by_hand) == 0
assert measure_sparsity(magnitude_prune(Linear(10, 10), 0.37)) == 0.37
assert smallest(np.ones(4), 3).tolist() == [True, True, True, False]
assert to_csr([[0.0, 5.0], [0.0, 0.0]]).starts.tolist() == [0, 1, 1]
assert _owners(3, 6, channels=True).tolist() == [0, 0, 1, 1, 2, 2]
assert _owners(3, 6, channels=False).tolist() == [0, 1, 2, 0, 1, 2]
assert structured_prune(reader(128), 0.5)[3].weight.shape == (64, 32)
down, up = low_rank_approximate(model[3], 8)
assert np.isclose(np.linalg.norm(model[3].weight.data - down.weight.data @ up.weight.data, 2), s[8], rtol=1e-3)
assert abs(distillation_loss([[0.0, 0.0]], [[30.0, 0.0]], alpha=1, temperature=1.0).item() - math.log(2)) < 1e-5
student = reader(8)
KnowledgeDistillation(model, student)(Tensor(few_images), Tensor(few_labels)).backward()
assert all(p.grad is not None for p in student.parameters())
for wrong in (
    lambda: magnitude_prune(model, 1.5),
    lambda: structured_prune(model, 1),
    lambda: low_rank_approximate(model[1], 0),
    lambda: KnowledgeDistillation(model, student, temperature=0),
):
    try:
        wrong()
    except ValueError as error:
        print(error)
    else:
        raise AssertionError("this should have been refused")

# %% [markdown]
"""
## Questions

**1.** A layer of 1024 x 1024 is stored with 4 bytes a number. From which sparsity on is CSR smaller, with columns of 2
bytes? With columns of 4? And if the weights are quantized to 1 byte each, with columns of 2 bytes?

<details><summary>Answer</summary>

With k numbers left of n, dense takes 4n, CSR 6k (the starts are 4 bytes per row, next to nothing): 6k < 4n at a
sparsity above 1/3. With columns of 4 bytes 8k < 4n: above 1/2. With 1-byte weights dense takes n, CSR 3k: above 2/3.
The smaller the numbers, the heavier the addresses.
</details>

**2.** GPT-3 has 175 billion parameters; at 2 bytes each, how many bytes is that? Someone prunes half of its weights.
How many bytes does CSR take with 2-byte columns? With one bit per weight that says whether it is there, followed by the
values that are?

<details><summary>Answer</summary>

350 GB. Half the values in CSR: 87.5e9 * (2 + 2) = 350 GB: nothing gained. With a bit mask, 175e9 / 8 = 22 GB, and 175
GB of values, 197 GB. That is why hardware with support for sparsity asks for a fixed pattern, such as two of every four:
the address of each value then fits in two bits.
</details>

**3.** In one block of GPT-3 the width is 12,288, there are 96 heads of 128, and the MLP is 49,152 wide. How many weights
does a quarter of the heads hold, and a quarter of the hidden units? What share of the block is each? And what share of
the block's memory for keys and values do the heads save?

<details><summary>Answer</summary>

Attention has 4 * 12,288^2 = 604 million weights, a quarter is 151 million. The MLP has 2 * 12,288 * 49,152 = 1,208
million, a quarter is 302 million. The block has 1,812 million: 8.3 % and 16.7 %, together a quarter. The cache of keys
and values shrinks with the heads, by a quarter; hidden units do not touch it.
</details>

**4.** The output layer of a language model is 12,288 x 50,257. At which rank are two thin matrices smaller? Low-rank
*updates* of rank 8 are a popular way to fine-tune: how many numbers are they for one 12,288 x 12,288 matrix, and what
share of it? Why is such a rank enough there, and not for the matrix itself?

<details><summary>Answer</summary>

Below 12,288 * 50,257 / (12,288 + 50,257) = 9,874. An update of rank 8 has 8 * 2 * 12,288 = 196,608 numbers, 0.13 % of
151 million. The matrix holds all that was learnt from a whole language, in many directions; what has to change for one
more task is a few. The picture above shows it on a small scale: the ten kinds of digits took about ten directions.
</details>

**5.** A teacher has 50,257 classes, and you want to store what it says about 10 million tokens so that the student can
be trained later. How large is that in float32? What would you store instead?

<details><summary>Answer</summary>

10e6 * 50,257 * 4 bytes = 2 TB. At a moderate temperature nearly all of the probability is in a few classes: the 20
largest, each with its number (2 bytes) and probability (4 bytes), are 120 bytes a token, 1.2 GB in all. What is left
out can be spread evenly. Or keep the teacher loaded and ask it again, which costs time instead of memory.
</details>
"""
