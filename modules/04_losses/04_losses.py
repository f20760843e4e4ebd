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
# 04 · Losses: one number for how wrong we are

| | |
|---|---|
| **You have** | tensors, activations and layers (modules 01 to 03): a network that answers |
| **You will build** | squared, absolute and Huber loss for quantities; binary and categorical cross-entropy, from probabilities and from logits; the divergence of two distributions |
| **You will be able to** | choose a loss and say why, know what it should read before training starts, and compute it where the textbook formula gives `inf` or NaN |

Needs modules 01 to 03. Exports `core/losses.py`. Medium; about three hours.

```
                        how wrong in each place           one number
   prediction   2.5   0.0   2.0   8.0
   truth        3.0  -0.5   2.0   7.0
                 |     |     |     |
                0.25  0.25  0.0   1.0    ---- mean ---->   0.375      smaller is better, 0 is perfect
                                                             |
                                                  which way is down? (module 05)
```

Training means: change the weights so that one number goes down. So everything you want from a model has to be in that
number, and everything in it will be taken literally. A loss must also have a usable slope everywhere, most of all where
the model is badly wrong.
"""

# %%
#| default_exp core.losses

# %%
#| export
"""Losses: one number for how wrong a model is.

Every loss takes what the model says, what is true, and `reduction`: "mean" over all elements (or rows), "sum", or
"none" for one number each. Shapes and values are checked before anything is computed.
"""

import numpy as np

from tinytorch.core.activations import _pieces, _shifted, log_softmax
from tinytorch.core.layers import Module
from tinytorch.core.tensor import (
    Tensor,
    abs,
    as_array,
    as_tensor,
    floating,
    from_numpy,
    masked_fill,
    mean,
    pair,
    reshape,
    result,
    sum,
)

# %%
import time
import tracemalloc

import matplotlib.pyplot as plt

from tinytorch.core.activations import sigmoid, softmax
from tinytorch.core.layers import Linear
from tinytorch.core.tensor import manual_seed, randint, randn

np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
"""
## Quantities: the squared distance

A model predicts four temperatures; the truth is known. How wrong is it? Square every difference, take the mean:

```
   prediction    2.5    0.0    2.0    8.0
   truth         3.0   -0.5    2.0    7.0
   difference   -0.5    0.5    0.0    1.0
   squared       0.25   0.25   0.0    1.0       mean 1.5 / 4 = 0.375
```

Before the code, a trap that has cost people weeks. A network's output has the shape `(4, 1)`; the truth, read from a
file, `(4,)`. NumPy is helpful and stretches both to `(4, 4)`:
"""

# %%
truth = np.array([3.0, -0.5, 2.0, 7.0], np.float32)
perfect = truth.reshape(4, 1)
print("differences of a perfect prediction:", (perfect - truth).shape)
print("their mean square:", ((perfect - truth) ** 2).mean())

# %% [markdown]
"""
A perfect prediction, and the loss is far from 0. Training still makes it smaller: the best it can do is to predict the
average for everyone. So our losses broadcast nothing; two shapes, or an error. `_elementwise` below checks that, and
gives both sides one dtype.

**Write `_reduced` and `mse_loss`.** `_reduced(values, reduction)` returns two things: the reduced array, and the
*share* of one element in it, which is what the slope of every element will be multiplied by in module 05: `1 /
values.size` for the mean, 1 for the sum and for "none" (where `values` stays as it is). `mse_loss` squares the
distance, reduces it, and announces `"mse_loss"` with both tensors as inputs, saving `distance=` and `share=`.

`mse_loss(Tensor([2.5, 0.0, 2.0, 8.0]), Tensor([3.0, -0.5, 2.0, 7.0]))` is `Tensor(0.375)`; with `reduction="sum"` it is
1.5.

<details><summary>Hint 1</summary>

`_reduced` has three returns, each a pair; the first is `values.mean()` and its share.
</details>
<details><summary>Hint 2</summary>

The distance is `pred.data - target.data`, and its product with itself is what is reduced.
</details>
<details><summary>Hint 3</summary>

`_reduced(distance * distance, reduction)` gives `out` and `share`. The announcement is `result` of `out`, the name,
both tensors, and the two things to save by keyword.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "losses-mse", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _check_reduction(op, reduction, count, shape):
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{op} needs reduction 'mean', 'sum' or 'none', got {reduction!r}")
    if reduction == "mean" and count == 0:
        raise ValueError(f"{op} cannot average over an empty batch, got shape {shape}")


def _elementwise(op, pred, target, reduction):
    """Prediction and target as floating tensors of one dtype and, without any broadcasting, one shape."""
    pred, target = floating(pred), as_tensor(target)
    if pred.shape != target.shape:
        raise ValueError(
            f"{op} needs a target for every prediction, got shapes {pred.shape} and {target.shape}; "
            "reshape one of them, for nothing is broadcast here"
        )
    _check_reduction(op, reduction, pred.size, pred.shape)
    return pair(op, pred, target)


def _reduced(values, reduction):
    """The array `values` reduced, and the share of each element in the result."""
    ### BEGIN SOLUTION
    if reduction == "mean":
        return values.mean(), 1 / values.size
    if reduction == "sum":
        return values.sum(), 1
    return values, 1
    ### END SOLUTION


def mse_loss(pred: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(pred - target)^2: the squared distance, in the squared units of the target.

    pred, target  any one shape; (4, 1) against (4,) is an error, not 16 differences
    """
    pred, target = _elementwise("mse_loss", pred, target, reduction)
    ### BEGIN SOLUTION
    distance = pred.data - target.data
    out, share = _reduced(distance * distance, reduction)
    return result(out, "mse_loss", pred, target, distance=distance, share=share)
    ### END SOLUTION


# %%
pred, truth = Tensor([2.5, 0.0, 2.0, 8.0]), Tensor([3.0, -0.5, 2.0, 7.0])
for reduction in ("mean", "sum", "none"):
    print(f"{reduction:5}", mse_loss(pred, truth, reduction))
try:
    mse_loss(pred.reshape(4, 1), truth)
except ValueError as error:
    print(error)

# %% [markdown]
"""
## One wild value

Say four thermometers read 1, 2, 3 and, because it is broken, 100. A model that may only answer with one constant: which
constant has the smallest loss? Try all of them.
"""

# %%
readings = np.array([1.0, 2.0, 3.0, 100.0])
answers = np.linspace(0, 100, 2001)
squared = ((answers[:, None] - readings) ** 2).mean(axis=1)
absolute = np.abs(answers[:, None] - readings).mean(axis=1)
print(
    "the best answer for the squared distance: ", answers[squared.argmin()], " mean of the readings:", readings.mean()
)
best = answers[absolute == absolute.min()]
print(f"the best answer for the absolute distance: {best.min()} to {best.max()}")

# %% [markdown]
"""
The squared distance obeys the broken thermometer: at distance 97 its slope is 194, at distance 1 it is 2. The absolute
distance has the slope 1 everywhere: everyone has one vote, and the answer is the median. But it has a corner at 0,
where it keeps pulling with full force at answers that are nearly right. Huber's loss is round near 0 and straight far
out:

```
   |d| <= delta     d^2 / 2                        slope d
   |d| >  delta     delta * (|d| - delta / 2)      slope delta or -delta
```

Look at the right column: the slope is simply d, held between -delta and delta. Call it s. Then both lines of the
middle column are `s * (d - s / 2)`: inside, s = d gives d^2 / 2; outside, s = delta gives the straight line. One
formula, no case distinction, and the slope is just what module 05 will ask for.

**Write `l1_loss` and `huber_loss`.** The first needs no announcement of its own: `pred - target` and `abs` on tensors
announce themselves, and `_reduce` reduces a tensor. The second is fused as `mse_loss` is; save `slope=` and `share=`.

With distances `[-0.5, 3.0]` and delta 1: l1 gives (0.5 + 3) / 2 = 1.75; Huber gives (0.125 + 2.5) / 2 = 1.3125.

<details><summary>Hint 1</summary>

`_reduce` of `abs(pred - target)` is all of l1.
</details>
<details><summary>Hint 2</summary>

"Held between" is `np.clip(distance, -delta, delta)`.
</details>
<details><summary>Hint 3</summary>

What is reduced is `slope * (distance - slope / 2)`; the announcement is as in `mse_loss`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "losses-huber", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _reduce(values, reduction):
    """The tensor `values` reduced."""
    return {"mean": mean, "sum": sum, "none": lambda x: x}[reduction](values)


def l1_loss(pred: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|pred - target|: the distance; one wild target pulls no harder than any other."""
    pred, target = _elementwise("l1_loss", pred, target, reduction)
    ### BEGIN SOLUTION
    return _reduce(abs(pred - target), reduction)
    ### END SOLUTION


def huber_loss(pred: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Half the squared distance up to `delta`, from there on a straight line of slope delta. (Huber 1964)

    Raises ValueError unless delta > 0.
    """
    pred, target = _elementwise("huber_loss", pred, target, reduction)
    if not delta > 0:
        raise ValueError(f"huber_loss needs delta > 0, got {delta}")
    ### BEGIN SOLUTION
    distance = pred.data - target.data
    slope = np.clip(distance, -delta, delta)
    out, share = _reduced(slope * (distance - slope / 2), reduction)
    return result(out, "huber_loss", pred, target, slope=slope, share=share)
    ### END SOLUTION


# %%
distances = Tensor(np.linspace(-4, 4, 161))
zero = Tensor(np.zeros(161))
plt.figure(figsize=(6, 2.6))
for loss in (mse_loss, l1_loss, huber_loss):
    plt.plot(distances.data, loss(distances, zero, "none").data, label=loss.__name__)
plt.ylim(0, 6)
plt.legend()
plt.show()
print(l1_loss([-0.5, 3.0], [0.0, 0.0]), huber_loss([-0.5, 3.0], [0.0, 0.0]))

# %% [markdown]
"""
## Yes or no: surprise

A model says "rain, with probability 0.9". It rains. How wrong was it? It does not rain. How wrong now? Information
theory has a measure that fits: *surprise*, minus the logarithm of the probability given to what happened.

```
   p given to what happened     1.0    0.9    0.5    0.1    0.01    0.0
   surprise -log(p), nats       0      0.105  0.693  2.303  4.605   infinite
```

Certain and right costs nothing. Certain and wrong costs without bound, which is what makes it a good teacher and a
dangerous number: one `log(0)` and the loss is `inf`, its slope NaN. PyTorch cuts each logarithm off at -100, and so do
we. With truth t (1 for yes, 0 for no) and p the probability of yes, the loss is `-(t log p + (1 - t) log(1 - p))`.

**Write the heart of `binary_cross_entropy`.** `yes` is log p and `no` is log(1 - p), both at least -100;
`np.log1p(-p)` is log(1 - p), exact for small p. The logarithm of 0 is what the cut is for, so its warning goes under
`np.errstate(divide="ignore")`. Reduce, and announce `op` with both tensors, saving `yes=`, `no=` and `share=`.

For p = [0.9, 0.2] and t = [1, 0]: (0.1054 + 0.2231) / 2 = 0.1643.

<details><summary>Hint 1</summary>

`np.maximum(np.log(p), -100)` is `yes`, and `no` is made likewise.
</details>
<details><summary>Hint 2</summary>

`-(t * yes + (1 - t) * no)` is the loss of each element; `(t - 1) * no - t * yes` is the same with one sign less.
</details>
<details><summary>Hint 3</summary>

Then `_reduced`, and `result` with `op`, `prob`, `target` and the three things to save.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "losses-bce", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _between_0_and_1(op, what, array, advice=""):
    outside = ~((array >= 0) & (array <= 1))  # NaN is outside too
    if outside.any():
        place = tuple(np.argwhere(outside)[0].tolist())
        raise ValueError(f"{op} needs {what} from 0 to 1, got {array[place]:.6g} at {place}{advice}")


def binary_cross_entropy(prob: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """-(t log p + (1 - t) log(1 - p)): how surprised p, the probability given to "yes", is by the truth t, in nats.

    prob    any shape, 0 <= p <= 1; the logs are cut off at -100, so certain and wrong costs 100, not infinity
    target  the same shape, 0 <= t <= 1

    From logits use `binary_cross_entropy_with_logits`, which is exact where p rounds to 0 or 1.
    """
    op = "binary_cross_entropy"
    prob, target = _elementwise(op, prob, target, reduction)
    _between_0_and_1(op, "probabilities", prob.data, "; for logits use binary_cross_entropy_with_logits")
    _between_0_and_1(op, "targets", target.data)
    p, t = prob.data, target.data
    ### BEGIN SOLUTION
    with np.errstate(divide="ignore"):  # log(0) = -inf is what the cut-off is for
        yes = np.maximum(np.log(p), -100)
        no = np.maximum(np.log1p(-p), -100)
    out, share = _reduced((t - 1) * no - t * yes, reduction)
    return result(out, op, prob, target, yes=yes, no=no, share=share)
    ### END SOLUTION


# %%
print(binary_cross_entropy([0.9, 0.2], [1.0, 0.0]))
print(binary_cross_entropy([1.0, 0.0, 0.0], [1.0, 0.0, 1.0], "none"))

# %% [markdown]
"""
The probability comes from a sigmoid of some number x, the *logit*. Computing it first and the logarithm afterwards
throws away what we wanted to know. At x = 20 the sigmoid is 1 - 2e-9; float32 has no number there, so p is 1, and if
the truth is "no" the loss jumps to the cut-off:
"""

# %%
for value in (5.0, 15.0, 20.0, 90.0):
    p = sigmoid(Tensor([value]))
    print(f"logit {value:4}: p = {p.item():.8f}, loss for 'no' {binary_cross_entropy(p, [0.0]).item():.4f}")

# %% [markdown]
"""
The right answers are 5.0067, 15, 20 and 90: far out, the surprise is simply x. Do the logarithm on paper. With
`softplus(x) = log(1 + e^x)` from module 02,

```
   log(sigmoid(x))  =  x - softplus(x)         log(1 - sigmoid(x))  =  -softplus(x)

   loss  =  -(t (x - softplus(x)) - (1 - t) softplus(x))  =  softplus(x) - t x
```

Its slope is as short: `sigmoid(x) - t`, what the model believes minus what is true. Softplus is `max(x, 0) +
log1p(e^-|x|)`, as in module 02, and one more thing can round: at x = 20 and t = 1 it is 20 + 2e-9, which float32
stores as 20, and minus t x that is 0. So take `max(x, 0) - t x` first, which is exact, and add the small part last.

**Write the heart of `binary_cross_entropy_with_logits`.** The two parts of softplus, `corner` and `tail`; then
`corner - t * x + tail` reduced; then the announcement of `op`, saving `softplus=`, which is the sum of the two parts,
and `share=`.

For x = [2, -1] and t = [1, 1]: (0.1269 + 1.3133) / 2 = 0.7201.

<details><summary>Hint 1</summary>

The corner is `np.maximum(x, 0)`, the tail `np.log1p(np.exp(-np.abs(x)))`.
</details>
<details><summary>Hint 2</summary>

Reduce `corner - t * x + tail`, in this order.
</details>
<details><summary>Hint 3</summary>

The announcement is as before, with `softplus=corner + tail` for what is saved.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "losses-bce-logits", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def binary_cross_entropy_with_logits(logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """`binary_cross_entropy` of sigmoid(logits), computed as softplus(x) - t x, which neither overflows nor rounds.

    logits  any shape, any real numbers
    target  the same shape, 0 <= t <= 1
    """
    op = "binary_cross_entropy_with_logits"
    logits, target = _elementwise(op, logits, target, reduction)
    _between_0_and_1(op, "targets", target.data)
    x, t = logits.data, target.data
    ### BEGIN SOLUTION
    corner, tail = np.maximum(x, 0), np.log1p(np.exp(-np.abs(x)))
    out, share = _reduced(corner - t * x + tail, reduction)  # the small part last: it would drown in the corner
    return result(out, op, logits, target, softplus=corner + tail, share=share)
    ### END SOLUTION


# %%
print(binary_cross_entropy_with_logits([2.0, -1.0], [1.0, 1.0]))
print(binary_cross_entropy_with_logits([5.0, 15.0, 20.0, 90.0, 1e4], [0.0] * 5, "none"))
print(binary_cross_entropy_with_logits([20.0], [1.0]).item())

# %% [markdown]
"""
### Why not the squared distance here too?

`(p - t)^2` is also 0 for the right answer and largest for the wrong one. The difference is in the slope, and the slope
is all that training sees. The truth is "yes"; the model says no, more and more firmly. How hard does each loss pull?
"""


# %%
def slope(loss, x, step=1e-4):
    above, below = (loss(Tensor([x + d], dtype=np.float64), [1.0]).item() for d in (step, -step))
    return (above - below) / (2 * step)


def squared_of_sigmoid(x, t):
    return mse_loss(sigmoid(x), t)


print("logit   probability    slope of (p - t)^2   slope of the surprise")
for x in (0.0, -2.0, -5.0, -10.0):
    p = sigmoid(Tensor([x])).item()
    print(f"{x:5} {p:13.6f} {slope(squared_of_sigmoid, x):21.6f} {slope(binary_cross_entropy_with_logits, x):23.6f}")

# %% [markdown]
"""
The more wrong the model is, the *less* the squared distance pulls: the sigmoid's flat end multiplies it away. The
logarithm undoes exactly that exponential, and the confidently wrong model gets the full slope of -1.

## One of many: cross-entropy

Ten classes, and the network gives ten logits per example, a row. A softmax makes probabilities of them; the loss is the
surprise at the true class. Two rows and three classes by hand:

```
   logits          softmax                   true class     -log(p)
   [ 2  1  0 ]     [ 0.665  0.245  0.090 ]   0              0.408
   [ 0  0  0 ]     [ 0.333  0.333  0.333 ]   2              1.099  = log 3          mean 0.753
```

The second row is worth remembering. A model that knows nothing gives every class 1/C, and its loss is `log(C)`: 2.303
for ten digits, 10.8 for the 50,257 tokens of GPT-2. An untrained network reads a little more, because its random
logits are not all equal. If training starts far from there, look for the mistake before you wait.
"""


# %%
def naive_cross_entropy(logits, targets):
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return np.mean([-np.log(p[i, t]) for i, t in enumerate(targets)])


print("by hand:", naive_cross_entropy(np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]]), [0, 2]))

manual_seed(0)
untrained = Linear(64, 10)
logits, labels = untrained(randn(2000, 64)), randint(0, 10, 2000)
print("an untrained layer:", naive_cross_entropy(logits.data, labels.data), " log(10):", np.log(10))

# %% [markdown]
"""
### Which targets count, and how much

Before the formula, three practical things. A target that is no class is the most common error in classification (labels
counted from 1, or one class too few), and NumPy would take -1 for "the last": `_classes` checks every target and
names the first wrong one. Sentences in a batch are padded to one length, and the padding must not count:
`ignore_index` marks it. And rare classes may count more: `weight` has one number per class.

The mean then divides by what was counted, not by the number of rows. Say weights are `[1, 5]`, targets are `[0, 1, 1]`
with losses `[0.3, 0.1, 0.5]`:

```
   (1 * 0.3 + 5 * 0.1 + 5 * 0.5) / (1 + 5 + 5)  =  3.3 / 11  =  0.3
```

**Write the heart of `_row_shares`**: how much each row counts, and the total. Without weights and with nothing to
ignore, return `None` and the number of rows: the usual case should cost nothing. Otherwise `shares` is the weight of
each row's class (or ones, in `dtype`), times `counts`, which is False where a row is ignored; and `total` is their
sum.

For `rows = [0, 1, 1]`, weights `[1, 5]` and `counts = [True, True, False]`: shares `[1, 5, 0]`, total 6.

<details><summary>Hint 1</summary>

The first thing to ask is whether both `weight` and `counts` are None; then the pair None and `len(rows)` is returned.
</details>
<details><summary>Hint 2</summary>

The weight of each row's class is `weight[rows]`, an array as long as `rows`.
</details>
<details><summary>Hint 3</summary>

Without weights the shares are `np.ones(len(rows), dtype)`. If there are `counts`, multiply by them; a boolean times a
float32 is a float32. The total is the sum.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "losses-row-shares", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _rows(op, x, reduction):
    """x as a floating tensor (..., C), of which there is something to average."""
    x = floating(x)
    if x.ndim == 0:
        raise ValueError(f"{op} needs one number per class, shape (..., C), got shape ()")
    _check_reduction(op, reduction, x.size, x.shape)
    return x


def _classes(op, targets, x, ignore_index):
    """`targets` as an array of class numbers, one per row of the tensor x, and where they count (None: everywhere)."""
    targets = as_tensor(targets).data
    C = x.shape[-1]
    if targets.dtype.kind not in "iu":
        raise TypeError(
            f"{op} needs class numbers as integers of shape {x.shape[:-1]}, or probabilities as floats of shape "
            f"{x.shape}, got {targets.dtype} of shape {targets.shape}"
        )
    if targets.shape != x.shape[:-1]:
        advice = "; rows of 0 and 1 are probabilities: give them as floats" if targets.shape == x.shape else ""
        raise ValueError(
            f"{op} with logits {x.shape} needs one class number per row, targets of shape {x.shape[:-1]}, "
            f"got {targets.shape}{advice}"
        )
    rows = targets.reshape(-1)
    counts = None if ignore_index is None else rows != ignore_index
    wrong = (rows < 0) | (rows >= C)
    if counts is not None:
        wrong &= counts
    if wrong.any():
        place = np.unravel_index(wrong.argmax(), targets.shape)
        where = ", ".join(str(int(i)) for i in place)
        raise ValueError(f"{op} needs targets from 0 to {C - 1} for {C} classes, got {targets[place]} at ({where})")
    if counts is None or counts.all():
        return rows, None
    return np.where(counts, rows, 0), counts


def _class_weights(op, weight, x):
    """The weight of each class as an array in the dtype of x, or None."""
    if weight is None:
        return None
    weight = as_array(weight, x.dtype)
    if weight.shape != x.shape[-1:]:
        raise ValueError(f"{op} needs one weight per class, so {x.shape[-1:]}, got {weight.shape}")
    if not (weight >= 0).all():
        raise ValueError(f"{op} needs weights of at least 0, got {weight.min()}")
    return weight


def _row_shares(op, rows, counts, weight, dtype, reduction):
    """How much each row counts (None: 1 each), and what a mean divides the sum by."""
    ### BEGIN SOLUTION
    if weight is None and counts is None:
        return None, len(rows)
    shares = np.ones(len(rows), dtype) if weight is None else weight[rows]
    if counts is not None:
        shares = shares * counts
    total = shares.sum()
    ### END SOLUTION
    if total == 0 and reduction == "mean":
        raise ValueError(f"{op} cannot average: every target is ignored or has weight 0")
    return shares, total


# %% [markdown]
"""
### From log-probabilities

If the model ends in a `log_softmax`, the surprise is already there: it only has to be picked. The loss is called
*negative log-likelihood*.

**Write the heart of `nll_loss`** with tensor operations, so that no new gradient rule is needed. Make x a matrix of
rows, pick element `rows[i]` of row i, and change the sign. Where a row does not count its loss becomes 0 (it may be
anything now, even infinite: *fill* it, do not multiply by 0). If there are `shares`, multiply by them.

For log-probabilities `[[-0.1, -2.4], [-1.2, -0.4]]` and targets `[0, 0]` the picked losses are `[0.1, 1.2]`, their mean
0.65.

<details><summary>Hint 1</summary>

NumPy's index with two arrays picks pairs: `matrix[[0, 1, 2], [4, 1, 1]]` is elements (0, 4), (1, 1) and (2, 1). Tensors
do the same.
</details>
<details><summary>Hint 2</summary>

The rows are `x.reshape(-1, x.shape[-1])`, and the index is the pair `np.arange(len(rows)), rows`.
</details>
<details><summary>Hint 3</summary>

`masked_fill(x, mask, 0.0)` fills where the mask is True, so the mask is `~counts`. Only if `counts` is not None; the
same care with `shares`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "losses-nll", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _averaged(losses, total, shape, reduction):
    """The tensor `losses`, one per row: as it is in `shape`, summed, or summed and divided by what all rows count."""
    if reduction == "none":
        return reshape(losses, shape)
    return sum(losses) if reduction == "sum" else sum(losses) / total


def nll_loss(
    log_probs: Tensor,
    targets: Tensor,
    weight=None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability of the true class: `cross_entropy` for what is already a log_softmax.

    log_probs (..., C); all else as in `cross_entropy`.
    """
    op = "nll_loss"
    x = _rows(op, log_probs, reduction)
    rows, counts = _classes(op, targets, x, ignore_index)
    shares, total = _row_shares(op, rows, counts, _class_weights(op, weight, x), x.dtype, reduction)
    ### BEGIN SOLUTION
    picked = -x.reshape(-1, x.shape[-1])[np.arange(len(rows)), rows]
    if counts is not None:
        picked = masked_fill(picked, ~counts, 0.0)
    losses = picked if shares is None else picked * shares
    ### END SOLUTION
    return _averaged(losses, total, x.shape[:-1], reduction)


# %%
print(nll_loss([[-0.1, -2.4], [-1.2, -0.4]], [0, 0]))
print(nll_loss(log_softmax(logits), labels), "for the untrained layer")

# %% [markdown]
"""
### From logits, in one operation

`nll_loss(log_softmax(x), t)` is right everywhere. It is also wasteful: it keeps the log-probabilities of all C classes
to use one per row, and its gradient goes back through three operations. Fused, the gradient is one line (you will
write it in module 05):

```
   d loss / d logits  =  softmax(x) - onehot(t)        what the model believes, minus what is true
```

What does it need? The softmax, so: the exponentials of the shifted row and their sum. Both are at hand in the forward
pass.

**Write `_surprises(x, classes, exps)`**, for some rows x `(n, C)` and their true classes `(n,)`. With m the largest logit of
a row, the loss of the row is

```
   log( sum e^(x_j - m) )  -  (x_t - m)
```

Shift the rows with `_shifted` from module 02 and fill the array `exps` with their exponentials. `totals` is the sum of
each row, 1 instead of 0. Return `totals` and the losses, both `(n,)`.

For the two rows above the losses are `[0.4076, 1.0986]`.

<details><summary>Hint 1</summary>

x may be the caller's own array: write nothing into it. `_shifted(x, 1)` is a new array, and you need it twice: `np.exp`
with `out=exps` for the sums, and its entries of the true classes for the losses.
</details>
<details><summary>Hint 2</summary>

The sums along axis 1 are mended by adding `totals == 0`. (A sum is a product with ones, and `np.vecdot`, the product of
rows with rows, is the fastest sum there is.) Pick with the index pair from `nll_loss`.
</details>
<details><summary>Hint 3</summary>

The losses are the logarithm of `totals` minus the picked entries.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "losses-cross-entropy", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _surprises(x, classes, exps):
    """Fill the array `exps` with e^(x - its row's maximum); returns its sum and the loss of each row, both (n,).

    x        (n, C)  array of logits
    classes  (n,)    the true class of each row
    """
    ### BEGIN SOLUTION
    shifted = _shifted(x, 1)
    np.exp(shifted, out=exps)
    totals = np.vecdot(exps, np.ones_like(exps, shape=exps.shape[1]))  # faster than exps.sum(axis=1)
    totals += totals == 0  # nothing but -inf
    return totals, np.log(totals) - shifted[np.arange(len(classes)), classes]
    ### END SOLUTION


# %% [markdown]
"""
The rest is given: it checks, takes the rows in pieces that the cache holds (module 02), silences rows that do not count
and weighs the others.
"""


# %%
#| export
def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weight=None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """How surprised a softmax over `logits` is by the true classes, in nats: log(C) for a model that knows nothing.

    logits           (..., C)  any real numbers; shifted by their maximum, so large ones are safe
    targets          (...)     integers, 0 <= t < C; or (..., C) floats, the probability of every class
    weight           (C,)      how much each class counts; the mean is then the weighted one
    ignore_index     targets of this value do not count, whether or not it is a class
    label_smoothing  this share of the target is spread evenly over all classes (Szegedy et al. 2015)
    returns          (), or with reduction="none" one number per row: (...)

    Raises TypeError for targets of the wrong kind, ValueError for a target that is no class, for shapes that do not
    fit, and for a mean over nothing. One fused operation for class numbers: its gradient is (softmax - onehot) / N.
    """
    op = "cross_entropy"
    x, targets = _rows(op, logits, reduction), as_tensor(targets)
    weight = _class_weights(op, weight, x)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{op} needs 0 <= label_smoothing <= 1, got {label_smoothing}")
    if targets.dtype.kind == "f" and targets.shape == x.shape:
        if ignore_index is not None:
            raise ValueError(f"{op} needs class numbers to know which to ignore, got probabilities")
        _between_0_and_1(op, "target probabilities", targets.data)
        return _soft_cross_entropy(x, _smooth(targets, label_smoothing, weight), x.size // x.shape[-1], reduction)
    rows, counts = _classes(op, targets, x, ignore_index)
    shares, total = _row_shares(op, rows, counts, weight, x.dtype, reduction)
    if label_smoothing > 0:
        onehot = np.zeros_like(x.data)
        onehot.reshape(-1, x.shape[-1])[np.arange(len(rows)), rows] = 1
        targets = _smooth(from_numpy(onehot), label_smoothing, weight)
        if counts is not None:
            targets = targets * counts.reshape(*x.shape[:-1], 1)
        return _soft_cross_entropy(x, targets, total, reduction)
    matrix = x.data.reshape(-1, x.shape[-1])
    part = np.ones(len(rows), x.dtype) if shares is None else shares
    part = part / total if reduction == "mean" else part  # of each row in the result
    softmax, losses, done = np.empty_like(matrix, order="C"), np.empty(len(rows), x.dtype), 0
    for piece, e in _pieces(matrix, softmax, axis=-1):
        here = slice(done, done + len(piece))
        totals, losses[here] = _surprises(piece, rows[here], e)
        e *= np.expand_dims(part[here] / totals, 1)  # while it is in the cache: the gradient is then nearly there
        done = here.stop
    if counts is not None:
        losses = np.where(counts, losses, 0)
    if shares is not None:
        losses *= shares
    out = losses.reshape(x.shape[:-1]) if reduction == "none" else losses.sum()
    if reduction == "mean":
        out = out / total
    return result(out, op, x, rows=rows, part=part, softmax=softmax)


# %% [markdown]
"""
### Targets that are not sure themselves

The truth need not be one class. It may be a distribution: an image blended from two, the opinion of another model. And
*label smoothing* makes it one on purpose: with 0.1, nine tenths of the target stay on the true class and one tenth is
spread over all of them, so the model is never asked for infinite logits. Then the surprise is averaged under the target
distribution: `-sum q_c log p_c`.

**Write the heart of `_soft_cross_entropy`**, one line of tensor operations: minus the sum over the last axis of the
log-softmax of x times the targets. (With a target of 1 for one class it is the loss from above; checked below.)

For logits `[2, 1, 0]` and target probabilities `[0.5, 0.5, 0]`: 0.5 * 0.4076 + 0.5 * 1.4076 = 0.9076.

<details><summary>Hint 1</summary>

`log_softmax(x) * targets` has the shape `(..., C)`; `sum(..., axis=-1)` takes the sum over the classes.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "losses-soft", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _smooth(targets, smoothing, weight):
    """Probabilities of the classes with the share `smoothing` spread evenly, times the weight of each class."""
    if smoothing > 0:
        targets = targets * (1 - smoothing) + smoothing / targets.shape[-1]
    return targets if weight is None else targets * weight


def _soft_cross_entropy(x, targets, total, reduction):
    """The definition: minus the mean, under the target probabilities, of the log-probabilities."""
    ### BEGIN SOLUTION
    losses = -sum(log_softmax(x) * targets, axis=-1)
    ### END SOLUTION
    return _averaged(losses, total, x.shape[:-1], reduction)


# %%
two_rows = Tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
print(cross_entropy(two_rows, [0, 2], reduction="none"), cross_entropy(two_rows, [0, 2]))
print("as probabilities:", cross_entropy(two_rows, [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]))
print("smoothed by 0.1: ", cross_entropy(two_rows, [0, 2], label_smoothing=0.1))
print("second ignored:  ", cross_entropy(two_rows, [0, -100], ignore_index=-100))
print("large logits:    ", cross_entropy([[1e4, 0.0], [0.0, 1e4]], [0, 0], reduction="none"))
try:
    cross_entropy(two_rows, [1, 3])
except ValueError as error:
    print(error)

# %% [markdown]
"""
## From one distribution to another

How far is what the model believes, p, from what is true, q? Cross-entropy `-sum q log p` does not answer that: it is
not 0 even for a perfect model, if the world itself is uncertain. Subtract what the world costs anyway, its entropy
`-sum q log q`, and the rest is the *Kullback-Leibler divergence*, 0 exactly when p = q:

```
   sum q (log q - log p)          q = [0.5  0.5]   p = [0.9  0.1]

   0.5 * (log 0.5 - log 0.9) + 0.5 * (log 0.5 - log 0.1)  =  -0.294 + 0.805  =  0.511
```

Two conventions of PyTorch are worth knowing before they bite: the first argument is `log p`, not p; and "mean" divides
by the number of *elements*. The divergence per row is "batchmean".

**Write the heart of `kl_div`.** `surprise` is `log t - x` where t > 0 and 0 elsewhere (what has probability 0 adds
nothing, even if x is `-inf`). The loss of an element is `t * surprise`. For "batchmean" reduce with "sum", and then
multiply the result by the share, `1 / len(x)`. Announce `"kl_div"`, saving `surprise=` and `share=`.

For the numbers above, `kl_div(Tensor([[0.9, 0.1]]).log(), [[0.5, 0.5]], "batchmean")` is 0.5108.

<details><summary>Hint 1</summary>

`np.where` computes both sides, so `np.log(t)` would warn at 0. Take the logarithm of `np.where(t > 0, t, 1)`.
</details>
<details><summary>Hint 2</summary>

From that logarithm subtract x, and put a second `np.where` around it: 0 where t is 0.
</details>
<details><summary>Hint 3</summary>

Reduce `t * surprise` with `"sum" if batchmean else reduction`. For `batchmean` the share is then `1 / len(x)`, and
`out` is multiplied by it.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "losses-kl", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def kl_div(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Kullback-Leibler divergence: what it costs, in nats, to believe `input` when `target` is true.

    input      log-probabilities, as log_softmax gives them
    target     probabilities of the same shape; where one is 0 nothing is added
    reduction  "mean" divides by the number of elements, as in PyTorch; "batchmean" by the length of the first axis,
               which gives the divergence per row; "sum"; "none"

    Raises ValueError for negative probabilities.
    """
    batchmean = reduction == "batchmean"
    input, target = _elementwise("kl_div", input, target, "mean" if batchmean else reduction)
    if batchmean and input.ndim == 0:
        raise ValueError("kl_div with reduction 'batchmean' needs at least one axis, got shape ()")
    if (target.data < 0).any():
        raise ValueError(f"kl_div needs target probabilities of at least 0, got {target.data.min():.6g}")
    x, t = input.data, target.data
    ### BEGIN SOLUTION
    surprise = np.where(t > 0, np.log(np.where(t > 0, t, 1)) - x, 0)
    out, share = _reduced(t * surprise, "sum" if batchmean else reduction)
    if batchmean:
        share = 1 / len(x)
        out = out * share
    ### END SOLUTION
    return result(out, "kl_div", input, target, surprise=surprise, share=share)


# %%
q, p = Tensor([[0.5, 0.5]]), Tensor([[0.9, 0.1]])
divergence = kl_div(p.log(), q, "batchmean").item()
crossed = cross_entropy(p.log(), q).item()
entropy = cross_entropy(q.log(), q).item()
print(f"divergence {divergence:.4f} = cross-entropy {crossed:.4f} - entropy {entropy:.4f}")
print(f"the other way round {kl_div(q.log(), p, 'batchmean').item():.4f}: not a distance, it has a direction")

# %% [markdown]
"""
## Classes

Each loss as an object that keeps its settings, for a Trainer (module 07) that wants to be handed a loss.
"""


# %%
#| export
class _Loss(Module):
    """A loss function with its settings."""

    def __init__(self, reduction: str = "mean"):
        _check_reduction(type(self).__name__, reduction, 1, None)
        self.reduction = reduction

    def extra_repr(self):
        settings = {name: value for name, value in vars(self).items() if name != "training" and name[0] != "_"}
        return ", ".join(f"{name}={value!r}" for name, value in settings.items())


class MSELoss(_Loss):
    """`mse_loss` as an object."""

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return mse_loss(pred, target, self.reduction)


class L1Loss(_Loss):
    """`l1_loss` as an object."""

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return l1_loss(pred, target, self.reduction)


class HuberLoss(_Loss):
    """`huber_loss` as an object."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = delta

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return huber_loss(pred, target, self.reduction, self.delta)


class BinaryCrossEntropyLoss(_Loss):
    """`binary_cross_entropy` as an object."""

    def forward(self, prob: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy(prob, target, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """`binary_cross_entropy_with_logits` as an object."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(logits, target, self.reduction)


class CrossEntropyLoss(_Loss):
    """`cross_entropy` as an object."""

    def __init__(
        self,
        weight=None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ):
        super().__init__(reduction)
        self.weight = weight
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(logits, targets, self.weight, self.ignore_index, self.label_smoothing, self.reduction)


class NLLLoss(_Loss):
    """`nll_loss` as an object."""

    def __init__(self, weight=None, ignore_index: int | None = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.weight = weight
        self.ignore_index = ignore_index

    def forward(self, log_probs: Tensor, targets: Tensor) -> Tensor:
        return nll_loss(log_probs, targets, self.weight, self.ignore_index, self.reduction)


class KLDivLoss(_Loss):
    """`kl_div` as an object."""

    def __init__(self, reduction: str = "mean"):
        super().__init__("mean" if reduction == "batchmean" else reduction)
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return kl_div(input, target, self.reduction)


# %%
loss_function = CrossEntropyLoss(label_smoothing=0.1)
print(loss_function)
print(loss_function(two_rows, [0, 2]), loss_function.parameters())

# %% [markdown]
"""
## What does it cost?

A loss is one number, but on the way there is a row of C numbers per example, and for language models C is the size of
the vocabulary. Time and peak memory per call, for 1024 rows and growing C: the textbook formula, the log-softmax with
a pick, and the fused operation. `logits` is the size of the input alone.
"""


# %%
def textbook(logits, targets):
    p = softmax(logits)
    return -(p[np.arange(len(targets)), targets]).log().mean()


def in_two_steps(logits, targets):
    return nll_loss(log_softmax(logits), targets)


def cost(function, *inputs):
    function(*inputs)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        function(*inputs)
        times.append(time.perf_counter() - start)
    tracemalloc.start()
    function(*inputs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return min(times) * 1e3, peak / 1e6


print("classes   logits      textbook            log_softmax, pick   fused")
for C in (10, 100, 1000, 5000):
    logits, targets = randn(1024, C, rng=0), randint(0, C, 1024, rng=1)
    row = [cost(function, logits, targets) for function in (textbook, in_two_steps, cross_entropy)]
    cells = "".join(f"{milliseconds:8.2f} ms {megabytes:6.1f} MB" for milliseconds, megabytes in row)
    print(f"{C:7} {logits.data.nbytes / 1e6:5.1f} MB {cells}")

# %% [markdown]
"""
Everything grows in proportion to C, and the passes over a matrix are what counts, not the logarithms of the 1024
picked numbers. In memory the fused operation makes one array of the size of the logits, and that same array becomes
the gradient in module 05.

## All together

The checks of this lesson in one cell.
"""

# %%
# Numbers worked out by hand.
assert mse_loss([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0]).item() == 0.375
np.testing.assert_allclose(huber_loss([-0.5, 3.0], [0.0, 0.0]).item(), 1.3125)
np.testing.assert_allclose(binary_cross_entropy([0.9, 0.2], [1.0, 0.0]).item(), 0.164252, rtol=1e-5)
np.testing.assert_allclose(cross_entropy(two_rows, [0, 2]).item(), 0.753109, rtol=1e-5)
np.testing.assert_allclose(divergence, 0.510826, rtol=1e-5)

# Knowing nothing costs log(C); being certain and right costs nothing.
for C in (2, 10, 50257):
    np.testing.assert_allclose(cross_entropy(np.zeros((3, C)), [0, 1, C - 1]).item(), np.log(C), rtol=1e-6)
assert cross_entropy([[1e4, 0.0]], [0]).item() == 0.0

# Four ways to the same number.
sample, wanted = randn(50, 7, rng=0), randint(0, 7, 50, rng=1)
ways = [
    naive_cross_entropy(sample.data, wanted.data),
    cross_entropy(sample, wanted).item(),
    nll_loss(log_softmax(sample), wanted).item(),
    cross_entropy(sample, np.eye(7)[wanted.data]).item(),
]
print("cross-entropy, four ways:", np.array(ways))
np.testing.assert_allclose(ways, ways[0], rtol=1e-5)
yes_no = randn(50, rng=2)
np.testing.assert_allclose(
    binary_cross_entropy(sigmoid(yes_no), np.arange(50) % 2).item(),
    binary_cross_entropy_with_logits(yes_no, np.arange(50) % 2).item(),
    rtol=1e-5,
)

# Finite where the textbook is not, and float32 stays float32.
for loss in (
    cross_entropy([[1e4, -1e4]], [1]),
    binary_cross_entropy_with_logits([-1e4], [1.0]),
    binary_cross_entropy([0.0], [1.0]),
    nll_loss(log_softmax([[0.0, -1e4]]), [1]),
):
    assert np.isfinite(loss.item())
    assert loss.dtype == np.float32
    print("finite:", loss.item())

# %% [markdown]
"""
## Questions

**1.** You start training on ten classes and the first loss is 6.9. What does it tell you?

<details><summary>Answer</summary>

A model that knows nothing should read log(10) = 2.3. 6.9 nats is a probability of e^-6.9 = 0.001 for the truth: the
untrained model is confident, and wrong. Its logits are far too large, so the last layer's weights start too large, or
the inputs were not scaled (pixels from 0 to 255 instead of 0 to 1). If it read 6.9 for 1000 classes it would be right.
</details>

**2.** The loss of a language model over 50,257 tokens falls from 10.8 to 3.0. How many tokens is it choosing between,
before and after, in effect?

<details><summary>Answer</summary>

e^10.8 is all 50,257; e^3.0 is 20. It is as unsure as if it had to guess among 20 equally likely tokens: that number is
called perplexity.
</details>

**3.** A batch of 8 texts of 1024 tokens, vocabulary 50,257, float32. How large are the logits? What does the fused loss
add, and what would softmax, log and pick add as three operations that each keep their result?

<details><summary>Answer</summary>

8 * 1024 * 50257 * 4 bytes = 1.65 GB. The fused operation adds one array of that size, which later becomes the gradient:
3.3 GB in all. Three operations hold the softmax and its logarithm, and two gradients of that size on the way back: at
least 6.6 GB. For small models the loss is the largest thing in memory, larger than the model.
</details>

**4.** In a batch of 4, three rows are padding and ignored; the fourth has the loss 2.0. What is the mean? What would
it be if you divided by 4, and what would that do to training?

<details><summary>Answer</summary>

2.0. Dividing by 4 gives 0.5: batches with much padding would count less, and the size of a step would depend on how
well the texts happen to fit together.
</details>

**5.** Why does `binary_cross_entropy` refuse the "probability" 1.0001, when cutting it off at 1 would do?

<details><summary>Answer</summary>

Because a number above 1 means that it was no probability: most often a logit, for which the loss has another formula.
Cutting it off would give a plausible number, a slope of 0, and a model that does not learn.
</details>
"""
