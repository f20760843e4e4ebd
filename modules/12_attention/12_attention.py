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
# 12 · Attention: every token asks all the others

| | |
|---|---|
| **You have** | vectors that know their word and their place (module 11), layers, gradients for everything (modules 01 to 05) |
| **You will build** | masks, scaled dot-product attention as one operation with its own rule, and `MultiHeadAttention` |
| **You will be able to** | compute attention by hand, recognise the mask mistakes that no error message reports, draw what a head looks at, and say what a longer context costs |

Needs modules 01 to 05 and 11 in the code, 06 to train. Exports `core/attention.py`. Hard; about five hours.

```
                the     cat     sat    because     it      was     tired
                                                    |
   "it" asks:  who here can be tired?               q
                k       k       k        k          k       k        k       every place answers
   fits:       low    HIGH    low      low         mid     low     low       q . k
   shares:     .02     .71     .03      .02        .15     .03      .04      softmax: they add up to 1
                v       v       v        v          v       v        v       what each has to say
                                                    |
               new vector of "it" = .02 v(the) + .71 v(cat) + ... : "it", which is a cat
```

A linear layer treats every place alone. A convolution sees a window. Attention lets every place look at every other and
decide *by content* whom to listen to. Three products of matrices and a softmax; that is all, and the rest of this lesson
is about doing them right.
"""

# %%
#| default_exp core.attention

# %%
#| export
"""Attention: every place of a sequence asks all the others, and takes from those whose answer fits.

The axes, in this order: N batch, heads, T queries, S keys and values, D the size of one head. One operation with its
own rule computes scores, shares and the weighted mean; the only array it makes of the size T x S are the shares.
"""

import math

import numpy as np

from tinytorch.core.autograd import Function, unbroadcast
from tinytorch.core.layers import Linear, Module, _positive
from tinytorch.core.tensor import Tensor, broadcast_shape, filled, floating, floats, from_numpy, generator, result

# %%
import time
import tracemalloc

import matplotlib.pyplot as plt

from tito import pictures
from tinytorch.core.activations import softmax
from tinytorch.core.autograd import gradcheck, no_grad
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import cat, manual_seed, randint, randn, where
from tinytorch.text.embeddings import EmbeddingLayer, RotaryEmbedding

np.set_printoptions(precision=3, suppress=True)


def milliseconds(function, *inputs):
    """The shortest of five runs."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        function(*inputs)
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


# %% [markdown]
"""
## A dictionary that never says no

A dictionary takes a query, finds the key that is equal to it, and returns that key's value. If no key is equal, it
fails; and there is no slope anywhere: move the query a little, and nothing changes until everything does. A network
cannot learn what to ask from that.

So make it soft. Queries and keys are vectors. How well does a key fit? Take the product of the two vectors. Turn the
fits into shares that add up to 1 (softmax, module 02). Return not one value but the mean of all, weighted by the
shares. A query of two numbers, three keys, and a number as the value of each:

```
   query  [2  0]

   key       q . k    / sqrt(2)    e^...    share       value    share * value
   [1  0]      2        1.414      4.113    0.446        10          4.46
   [0  1]      0        0          1        0.108        20          2.17
   [1  1]      2        1.414      4.113    0.446        30         13.37
                                   9.226    1.000                   20.00
```

The division by sqrt(2) will be explained; 2 is the number of columns. The first and the third key fit equally well, so
the answer lies in the middle of their values, with a little of the second. Let a loop do the same, one query at a time,
one key at a time. It is slow and it is the definition; everything faster has to agree with it.
"""


# %%
def naive_attention(q, k, v, may_look=None):
    """One query at a time, one key at a time."""
    out, weights = np.zeros((len(q), v.shape[1])), np.zeros((len(q), len(k)))
    for i in range(len(q)):
        fits = {}
        for j in range(len(k)):
            if may_look is None or may_look[i, j]:
                fits[j] = math.exp(sum(a * b for a, b in zip(q[i], k[j])) / math.sqrt(q.shape[1]))
        for j, fit in fits.items():
            weights[i, j] = fit / sum(fits.values())
            out[i] += weights[i, j] * v[j]
    return out, weights


q, k, v = np.array([[2.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([[10.0], [20.0], [30.0]])
answer, shares = naive_attention(q, k, v)
print("shares", shares[0], " answer", answer[0])

# %% [markdown]
"""
In a text, the three come from the same vectors: each place makes a query (what am I looking for?), a key (what can I be
found by?) and a value (what do I have to say?) out of its vector x, by three learned matrices. That is *self*-attention.
For T queries and S keys of D numbers each, all fits at once are one product of matrices:

```
   scores   (T, S)  =  q (T, D) @ k^T (D, S) / sqrt(D)
   weights  (T, S)  =  softmax of every row
   out      (T, Dv) =  weights (T, S) @ v (S, Dv)
```

## Why divide by sqrt(D)?

A product of two vectors is a sum of D terms. If the numbers in both are drawn with variance 1, every term has variance
1, and the sum has variance D: the wider the vectors, the larger the scores. What does softmax do with large scores?
"""

# %%
manual_seed(0)
print("   D    spread of scores    largest share            slope of the softmax")
for D in (4, 64, 1024):
    q, k = randn(500, D), randn(20, D)
    for name, scores in (("not divided", q @ k.T), ("divided", q @ k.T / math.sqrt(D))):
        p = softmax(scores).data
        print(f"{D:4}  {name:11} {scores.data.std():6.2f} {p.max(axis=1).mean():15.3f} {(p * (1 - p)).mean():25.4f}")

# %% [markdown]
"""
Without the division a wide head gives everything to one key from the start, by chance. That would be no harm if it
could change its mind; but the slope of a share p is p (1 - p), and where p is 0 or 1 there is none. The head stays with
its first guess. Divided by sqrt(D), scores have a spread of 1 at any width.

## Shares, in place

A row of scores becomes a row of shares: subtract the maximum (so that nothing overflows), exponentiate, divide by the
sum. You wrote this in module 02. Here it has to be done in the array itself, for that array is the largest one in the
model, and one case is new. Soon there will be rows in which *every* score is `-inf`, because a place may look nowhere.
The maximum of such a row is `-inf`, and `-inf - -inf` is NaN; one NaN in one row is enough to spoil all weights in a
single step of training. Such a row should come out as zeros: nothing seen, nothing taken.

**Write `_share`.** Work on `scores` in place. `max` has an option for the value it starts from: with
`initial=np.finfo(scores.dtype).min`, the lowest finite number, the maximum is never `-inf`, and `-inf` minus it stays
`-inf`. After exponentiating, such a row is all zeros, and its sum 0 must be replaced by 1 before dividing.

`[1.414, 0, 1.414]` becomes `[0.446, 0.108, 0.446]`, and `[-inf, -inf]` becomes `[0, 0]`.

<details><summary>Hint 1</summary>

`scores -= ...` and `np.exp(scores, out=scores)` work in place. Keep the reduced axis for the subtraction:
`keepdims=True`.
</details>
<details><summary>Hint 2</summary>

A sum over the last axis is a product with a vector of ones, and several times faster that way: `np.vecdot` of `scores`
and `filled(scores.shape[-1], 1, scores)` (that many ones), with `keepdims=True` again.
</details>
<details><summary>Hint 3</summary>

The largest share is e^0 = 1 before it is divided, so every total is 1 or more, but for the 0 of rows that were all
`-inf`: `np.maximum(total, 1)` is 1 there, and changes nothing else.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "attention-shares", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _share(scores):
    """Turn every row of the array `scores` into shares that add up to 1, in place; rows of -inf into zeros."""
    ### BEGIN SOLUTION
    scores -= scores.max(axis=-1, keepdims=True, initial=np.finfo(scores.dtype).min)
    np.exp(scores, out=scores)
    total = np.vecdot(scores, filled(scores.shape[-1], 1, scores), keepdims=True)  # faster than sum
    scores /= np.maximum(total, 1)  # the largest is e^0, so the sum is 1 at least, or 0 where all were -inf
    ### END SOLUTION


# %%
rows = np.array([[1.414, 0, 1.414], [1e4, 0, -1e4], [-np.inf, 3, -np.inf], [-np.inf] * 3], np.float32)
_share(rows)
print(rows)

# %% [markdown]
"""
## Who may look at whom?

Two reasons to forbid a look. Texts in a batch differ in length, and the short ones are filled up: nobody should listen
to the filling. And a model that learns to say the next word must not see it: place i may look at places 0 to i. That is
the *causal* mask:

```
                 keys    0  1  2  3
   query 0               x  .  .  .          x   may look
   query 1               x  x  .  .          .   may not
   query 2               x  x  x  .
   query 3               x  x  x  x          every row has one more than the row above
```

When a text is written word by word (module 17), the old keys are kept, and only the newest query is asked: T = 1 query,
S = 4 keys. It stands at the *last* place, so its row is the last one of the table, not the first. In general, T queries
and S keys: query i may look at key j if j <= i + (S - T).

**Write the heart of `causal_mask`.** `np.tri` makes such triangles: `np.tri(T, S, n)` has ones where j <= i + n.

`causal_mask(3)` is `[[True, False, False], [True, True, False], [True, True, True]]`, and `causal_mask(1, 4)` is four
times True.

<details><summary>Hint 1</summary>

The third argument of `np.tri` is what the formula above adds to i.
</details>
<details><summary>Hint 2</summary>

`np.tri` takes `dtype=bool`; `from_numpy` boxes the array without a copy.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "attention-causal-mask", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def causal_mask(T: int, S: int | None = None) -> Tensor:
    """Who may look at whom if nobody may look ahead: (T, S) booleans, True on and below the diagonal.

    S   number of keys, T unless said otherwise; with more keys than queries the queries are the last T places
    """
    S = T if S is None else S
    if S < T:
        raise ValueError(f"causal_mask needs at least as many keys as queries, got {T} queries and {S} keys")
    ### BEGIN SOLUTION
    return from_numpy(np.tri(T, S, S - T, dtype=bool))
    ### END SOLUTION


# %%
print(causal_mask(4).data.astype(int))
print("one new query, four keys:", causal_mask(1, 4).data.astype(int))

# %% [markdown]
"""
How is a look forbidden? By a score of `-inf`: `e^-inf` is 0, so the share is 0, and the others divide the whole among
themselves. *Adding* does it: a score plus 0 stays, a score plus `-inf` is `-inf`. So there are two kinds of mask in the
world, and they are opposites:

```
   boolean     True  = may look          False = may not
   additive    0.0   = may look          -inf (or -1e9) = may not         anything between: look more, or less
```

Worse, there is a third: PyTorch's `MultiheadAttention` takes booleans with True = may *not*, while its
`scaled_dot_product_attention` takes True = may. We accept the first two kinds, told apart by their dtype, and refuse
integers: a mask of ones and zeros could be either.

**Write `_wall` and the heart of `_bias`.** `_wall(allowed, dtype)` is 0 where `allowed` is True and `-inf` elsewhere, in
the dtype given. `_bias` combines everything into one array to add: the wall of a boolean mask, or a float mask as it is
in the dtype given; plus, if `causal`, the wall of the causal mask. If there is neither, None stays. (The cast of a float
mask goes under `np.errstate(over="ignore")`: -1e300 becomes `-inf` in float32, and NumPy would warn.)

`_wall([True, False], np.dtype("float32"))` is `[0, -inf]`.

<details><summary>Hint 1</summary>

`np.where(allowed, 0.0, -np.inf)` is float64. With `dtype.type(0)` and `dtype.type(-np.inf)` it has the dtype wanted.
</details>
<details><summary>Hint 2</summary>

`mask.dtype.kind` is "b" for booleans and "f" for floats; other kinds have been refused before.
</details>
<details><summary>Hint 3</summary>

Two walls are added like any two masks: `-inf + -inf` is `-inf`. If there was no mask, the causal wall is the bias;
otherwise it is added to it, and both must allow.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "attention-bias", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _mask(mask):
    """The mask as a tensor of booleans or floats."""
    if not isinstance(mask, Tensor):
        mask = from_numpy(mask if hasattr(mask, "__array_function__") else np.asarray(mask))
    if mask.dtype.kind not in "bf":
        raise TypeError(
            f"a mask needs booleans (True: may look) or floats to be added to the scores, got {mask.dtype}; "
            "of ones and zeros make booleans, mask == 1"
        )
    return mask


def _wall(allowed, dtype):
    """0 where the boolean array `allowed` is True, -inf elsewhere."""
    ### BEGIN SOLUTION
    return np.where(allowed, dtype.type(0), dtype.type(-np.inf))
    ### END SOLUTION


def _bias(mask, causal, T, S, dtype):
    """What to add to the scores so that nobody looks where they may not; None if all may look everywhere."""
    bias = None
    ### BEGIN SOLUTION
    if mask is not None and mask.dtype.kind == "b":
        bias = _wall(mask.data, dtype)
    elif mask is not None:
        with np.errstate(over="ignore"):  # -1e300 becomes -inf in float32, which is what was meant
            bias = mask.data.astype(dtype, copy=False)
    if causal:
        ahead = _wall(causal_mask(T, S).data, dtype)
        bias = ahead if bias is None else bias + ahead
    ### END SOLUTION
    return bias


# %%
padding = Tensor(np.array([[True, True, True, False]]))
print("the last key is padding:", _bias(padding, False, 4, 4, np.dtype(np.float32)))
print("and nobody looks ahead:\n", _bias(padding, True, 4, 4, np.dtype(np.float32)), sep="")

# %% [markdown]
"""
## Attention, as one operation

Everything is there. Written with the operations of module 01, attention would be five announcements, each with a
result that the graph keeps: scores, scaled scores, masked scores, shares, answer. Four of these have T x S numbers.
Which of them does the way back need? Only the shares, as you will see. So attention becomes one operation that makes
one such array, and works in it.

**Write the heart of `scaled_dot_product_attention`.** `weights` are the scores, q times k transposed; then the bias is
added if there is one; then rows become shares. Multiply q by `scale` before the product: q has T x D numbers, the
scores T x S. The shapes are checked, and the rest (dropout, the mean of the values, the announcement) is given.

For the three keys above the shares are `[0.446, 0.108, 0.446]` and the answer is 20.

<details><summary>Hint 1</summary>

The transpose of the last two axes is `k.data.swapaxes(-1, -2)`; with leading axes `@` multiplies matrix by matrix.
</details>
<details><summary>Hint 2</summary>

After the product `weights` is an array of our own, so `weights += bias` is allowed. It also stretches the bias over
batch and heads without building it in full.
</details>
<details><summary>Hint 3</summary>

`_share(weights)` works in place and returns nothing.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "attention-forward", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _check(q, k, v, causal, dropout):
    """q, k, v are the shapes."""
    if len(q) < 2 or len(k) < 2 or len(v) < 2:
        raise ValueError(f"attention needs q, k, v of shape (..., T, D), got {q}, {k}, {v}")
    if q[-1] != k[-1]:
        raise ValueError(f"attention compares queries with keys and needs one width, got q {q}, k {k}")
    if k[-2] != v[-2]:
        raise ValueError(f"attention needs a value for every key, got k {k}, v {v}")
    if causal and k[-2] < q[-2]:
        raise ValueError(f"causal attention needs at least as many keys as queries, got {k[-2]} and {q[-2]}")
    if not 0 <= dropout <= 1:
        raise ValueError(f"attention needs a dropout 0 <= p <= 1, got {dropout}")


def _kept(weights, p, rng):
    """0 with probability p, otherwise 1 / (1 - p), for every weight."""
    keep = generator(rng).random(weights.shape, dtype=np.float32) >= p
    return keep * weights.dtype.type(1 / (1 - p) if p < 1 else 0)


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask=None,
    causal: bool = False,
    dropout: float = 0.0,
    rng=None,
) -> tuple[Tensor, Tensor]:
    """softmax(q k^T / sqrt(D)) v: for every query the mean of the values, weighted by how well their keys fit.

    q         (..., T, D)    what each place looks for
    k         (..., S, D)    what each place offers to be found by
    v         (..., S, Dv)   what it hands over; leading axes broadcast
    mask      booleans (True: may look) or floats to be added to the scores; broadcasts to (..., T, S)
    causal    also let no query look ahead; with S > T the queries are the last T places
    dropout   share of the weights to drop, the others growing to make up for it

    Returns (out (..., T, Dv), weights (..., T, S)). A query that may look nowhere gets zeros. The weights, before
    dropout, are there to be looked at: read-only, without history; no gradient flows through them.
    A float mask that requires a gradient, such as a learned bias, gets one. (Vaswani et al. 2017, section 3.2.1)
    """
    q, k, v = inputs = floats(q, k, v)
    ours, theirs, values = q.shape, k.shape, v.shape
    _check(ours, theirs, values, causal, dropout)
    (T, D), S = ours[-2:], theirs[-2]
    lead = broadcast_shape("attention", ours[:-2], theirs[:-2], values[:-2])
    if mask is not None:
        mask = _mask(mask)
        if broadcast_shape("attention's mask", mask.shape, (*lead, T, S)) != (*lead, T, S):
            raise ValueError(f"attention's mask must broadcast to the scores {(*lead, T, S)}, got shape {mask.shape}")
        if mask.requires_grad:
            inputs += (mask,)
    bias = _bias(mask, causal, T, S, q.dtype)
    scale = 1 / math.sqrt(D)
    ### BEGIN SOLUTION
    weights = (q.data * scale) @ k.data.mT
    if bias is not None:
        weights += bias
    _share(weights)
    ### END SOLUTION
    kept = None if dropout == 0 else _kept(weights, dropout, rng)
    out = (weights if kept is None else weights * kept) @ v.data
    shown = weights.view()
    shown.flags.writeable = False  # the rule needs these numbers as they are
    return result(out, "attention", *inputs, weights=weights, kept=kept, scale=scale, out=out), from_numpy(shown)


# %%
q, k, v = np.array([[2.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([[10.0], [20.0], [30.0]])
out, weights = scaled_dot_product_attention(q, k, v)
print("by hand:", weights, out)

manual_seed(0)
q, k, v = randn(6, 4), randn(6, 4), randn(6, 4)
for name, mask in (("free", None), ("causal", causal_mask(6))):
    want = naive_attention(q.data, k.data, v.data, None if mask is None else mask.data)
    got = scaled_dot_product_attention(q, k, v, mask=mask)
    print(f"{name:6} furthest from the loops: {max(np.abs(a.data - b).max() for a, b in zip(got, want)):.1e}")

# %% [markdown]
"""
The second result, the weights, is for looking at: it has no history, no gradient flows through it, and it cannot be
written to, for it is the very array that the rule will use.

How much was gained? The loops, the same with separate operations, and the fused operation, forwards; and what each of
the latter two holds in memory for the way back:
"""


# %%
def separate(q, k, v, causal=True):
    """Five operations, with the rules of module 05."""
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        scores = where(causal_mask(q.shape[-2], k.shape[-2]), scores, -math.inf)
    return softmax(scores) @ v


def fused(q, k, v, causal=True):
    return scaled_dot_product_attention(q, k, v, causal=causal)[0]


def held(function, *inputs):
    """Megabytes that are still there after the function has returned: its result, and what its graph keeps."""
    tracemalloc.start()
    _out = function(*inputs)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / 1e6


q, k, v = (randn(48, 16) for _ in range(3))
loops = milliseconds(naive_attention, q.data, k.data, v.data, causal_mask(48).data)
print(f"T = 48, one head:  loops {loops:.1f} ms, fused {milliseconds(fused, q, k, v):.3f} ms")
q, k, v = (randn(8, 4, 256, 32, requires_grad=True) for _ in range(3))
assert np.allclose(separate(q, k, v).data, fused(q, k, v).data, atol=1e-5)
for function in (separate, fused):
    print(
        f"T = 256, 8 texts, 4 heads: {function.__name__:8} {milliseconds(function, q, k, v):6.2f} ms forwards, "
        f"holds {held(function, q, k, v):5.1f} MB"
    )
print(f"one array of 8 x 4 x 256 x 256 numbers: {8 * 4 * 256 * 256 * 4 / 1e6:.1f} MB")

# %% [markdown]
"""
## Three mistakes that nothing reports

Attention with a wrong mask runs, has the right shapes, and has gradients. These three are made again and again.

**The mask after the softmax.** Compute the shares, then set the forbidden ones to 0. Two things are wrong with it. The
rows no longer add up to 1. And the forbidden keys have still been counted in the *sum* that everybody was divided by, so
the future is audible in the present:
"""


# %%
def masked_too_late(q, k, v):
    weights = softmax(q @ k.T / math.sqrt(q.shape[-1])).data * causal_mask(len(q)).data
    return weights @ v.data, weights


manual_seed(1)
q, k, v = randn(4, 8), randn(4, 8), randn(4, 8)
print("sums of rows, too late:", masked_too_late(q, k, v)[1].sum(axis=1))
print("sums of rows, right:   ", scaled_dot_product_attention(q, k, v, causal=True)[1].data.sum(axis=1))
other = Tensor(np.concatenate([k.data[:3], 3 * k.data[3:]]))
for name, function in (("too late", masked_too_late), ("right", lambda *x: [fused(*x).data])):
    moved = np.abs(function(q, k, v)[0] - function(q, other, v)[0]).max(axis=1)
    print(f"another last key changes the answer at places 0 to 3 by, {name:8}: {moved}")

# %% [markdown]
"""
**The wrong direction.** A transposed triangle lets every place see the future and not the past. What that does is best
seen in training. The task: read random tokens and predict the next one. They are random, so nobody can: the best loss
is log 4 = 1.386. Whoever gets below that is cheating.
"""

# %%
text = randint(0, 4, (256, 9), rng=0)


def learn_to_predict(mask, steps=60):
    """The loss, at the end, of a small model that predicts the next token and looks through `mask`."""
    manual_seed(0)
    embed = EmbeddingLayer(4, 16, 8)
    query, key, value, out = (Linear(16, n) for n in (16, 16, 16, 4))
    optimizer = Adam([p for layer in (embed, query, key, value, out) for p in layer.parameters()], lr=0.02)
    for step in range(steps):
        x = embed(text[:64, :-1] if step % 2 else text[64:128, :-1])
        seen, _ = scaled_dot_product_attention(query(x), key(x), value(x), mask=mask)
        loss = cross_entropy(out(seen), text[:64, 1:] if step % 2 else text[64:128, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with no_grad():
        x = embed(text[128:, :-1])
        seen, weights = scaled_dot_product_attention(query(x), key(x), value(x), mask=mask)
        return cross_entropy(out(seen), text[128:, 1:]).item(), weights


triangle = causal_mask(8).data
MASKS = {
    "causal": triangle,
    "wrong direction": triangle.T,
    "none at all": None,
    "one place too far": np.tri(8, 8, 1, dtype=bool),
}
for name, mask in MASKS.items():
    print(f"{name:18} loss on texts never seen: {learn_to_predict(mask)[0]:.3f}")

# %% [markdown]
"""
The honest model ends where it must, a little above 1.386 (it has learned some accidents of the texts it saw). The
others read the answer from the place where it stands. In a report their curves look wonderful. Then the model is asked
to write, there is no future to look at, and it writes nonsense.

A loss that is too good is the first sign of a leak. The sure sign is the test above: change a later token, and nothing
at earlier places may move.

**One kind of mask where the other is expected.** Give an additive mask to code that wants booleans: 0, which means
"look", reads as False, and -1e9, "do not look", as True. Or add a boolean mask to the scores: True is 1 and False is 0,
and a score that is higher by 1 is only 2.7 times as heavy:
"""

# %%
manual_seed(2)
q, k, v = randn(4, 8), randn(4, 8), randn(4, 8)
additive = np.where(causal_mask(4).data, 0.0, -1e9)
wrong = {
    "right": additive,
    "additive read as boolean": additive.astype(bool),
    "boolean added": causal_mask(4).data.astype(np.float32),
}
for name, mask in wrong.items():
    weights = scaled_dot_product_attention(q, k, v, mask=mask)[1].data
    ahead = weights[~causal_mask(4).data].sum() / weights.sum()
    print(f"{name:26} row of place 1: {weights[1]}   share of the future: {ahead:.2f}")

# %% [markdown]
"""
In the middle line the last place sees nothing at all and all others see only the future. In the last line the past is
preferred, a little: that model trains, and its leak is so mild that it may go unnoticed for weeks. Hence the check of
the dtype, and the refusal of integers.

## The way back

Three steps forwards, three steps back, last one first. Let g be the gradient of the answer.

*The mean.* `out = weights v` is a product of matrices: `dv = weights^T g`, and `dweights = g v^T`.

*The shares.* From module 05: `dscores = weights * (dweights - sum(weights * dweights))`, with the sum over the row.
That sum looks like another pass over a T x S array; but

```
   sum_j w_j dw_j  =  sum_j w_j (g . v_j)  =  g . sum_j w_j v_j  =  g . out
```

it is the product of two vectors that are there already, of D numbers each.

*The scores.* `scores = scale q k^T`: `dq = scale dscores k`, and `dk = scale dscores^T q`.

And the mask? Where a look was forbidden the share is 0, so `dscores` is 0 by itself. That is why scores and bias need
not be kept: the shares know everything.

By hand: shares [1/2, 1/2], values 0 and 8, g = 1. The answer is 4. dweights = [0, 8]; g . out = 4; dscores =
1/2 * [0 - 4, 8 - 4] = [-2, 2]. Raise the second score and the answer moves towards 8.

**Write the heart of `AttentionBackward.backward`.** Dropout is the one complication: `kept` is None, or holds 0 or
1 / (1 - p) for every weight. The mean was taken with `weights * kept`, so that is what `dv` needs, and `dweights` is
`g v^T` times `kept`. The formula with `g . out` holds with dropout too. Make one array of the size of the scores, and
work in it.

<details><summary>Hint 1</summary>

Four products of matrices, two for each one of the forward pass. A transpose is `swapaxes(-1, -2)`.
</details>
<details><summary>Hint 2</summary>

`np.vecdot(grad, out)` is g . out for every query; with a new last axis it can be subtracted from rows.
</details>
<details><summary>Hint 3</summary>

In order: `used` (weights, or weights times kept) and `dv` from it; `dscores` as `grad` times v transposed; times `kept`
if there is one; minus g . out; times `weights`; then `dq` and `dk`, each times `scale` in place.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "attention-backward", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class AttentionBackward(Function, op="attention"):
    """Back through the mean, the shares and the scores.

    out = weights v           dv = weights^T grad, dweights = grad v^T
    weights = softmax(scores) dscores = weights * (dweights - the weighted mean of dweights), a mean which is grad . out
    scores = scale q k^T      dq = scale dscores k, dk = scale dscores^T q
    """

    def backward(self, grad):
        q, k, v = (x.data for x in self.inputs[:3])
        weights, kept, scale, out = (self.saved[name] for name in ("weights", "kept", "scale", "out"))
        ### BEGIN SOLUTION
        used = weights if kept is None else weights * kept
        dv = used.swapaxes(-1, -2) @ grad
        dscores = grad @ v.swapaxes(-1, -2)
        if kept is not None:
            dscores *= kept
        dscores -= np.vecdot(grad, out)[..., None]
        dscores *= weights
        dq = dscores @ k
        dq *= scale
        dk = dscores.swapaxes(-1, -2) @ q
        dk *= scale
        ### END SOLUTION
        grads = [dq, dk, dv, *(dscores.astype(mask.dtype, copy=False) for mask in self.inputs[3:])]
        return tuple(unbroadcast(dx, x.shape) for dx, x in zip(grads, self.inputs))


# %%
bias = Tensor(np.zeros((1, 2)), requires_grad=True)
out, _ = scaled_dot_product_attention(np.zeros((1, 1)), np.zeros((2, 1)), [[0.0], [8.0]], mask=bias)
out.backward(np.ones((1, 1), np.float32))
print("by hand:", out, "gradient of the scores:", bias.grad)

rng = np.random.default_rng(0)
arrays = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 2))
some = rng.random((4, 5)) > 0.4
some[1] = False


def agrees(**options):
    return gradcheck(lambda *x: scaled_dot_product_attention(*x, **options)[0], arrays)


print("free:", agrees(), " causal:", agrees(causal=True), " with an empty row:", agrees(mask=some))
print("with dropout:", agrees(dropout=0.4, rng=3))


# %%
def there_and_back(function, q, k, v):
    function(q, k, v).sum().backward()
    for x in (q, k, v):
        x.zero_grad()


q, k, v = (randn(8, 4, 256, 32, requires_grad=True) for _ in range(3))
for function in (separate, fused):
    print(f"{function.__name__:8} forwards and backwards: {milliseconds(there_and_back, function, q, k, v):6.2f} ms")

# %% [markdown]
"""
## Several heads

A softmax gives one set of shares. But "it" may want to know two things at once, what it stands for and which verb it
belongs to, and the mean of two places is neither. So take several small attentions instead of one large: cut the width E
into heads of D = E / heads columns, let each attend on its own, put the answers side by side, and mix them by a last
linear layer. The work is the same as before; only the softmax is now taken once per head.

One linear layer makes the queries, keys and values of all heads at once (three times the width: one large product is
faster than three). Then the axes need care:

```
   in_proj(x)       (N, T, 3E)
   reshape          (N, T, 3, heads, D)       cuts the last axis; nothing moves in memory
   [..., i, :, :]   (N, T, heads, D)          i = 0, 1, 2: queries, keys, values
   swap             (N, heads, T, D)          a stack of N * heads small attentions
```

The tempting short cut is to reshape to `(N, heads, T, D)` at once. The shape is right:
"""

# %%
T, heads, D = 3, 2, 2
x = np.array([[10 * t + column for column in range(heads * D)] for t in range(T)])
print("x: tens say the place, ones the column\n", x, sep="")
print("head 0, cut and swapped:", x.reshape(T, heads, D).swapaxes(0, 1)[0].tolist())
print("head 0, reshaped at once:", x.reshape(heads, T, D)[0].tolist())

# %% [markdown]
"""
Cut and swapped, head 0 has columns 0 and 1 of every place. Reshaped at once, its three "places" are scraps of places 0
and 1. It trains, badly, and causal masks no longer mean anything. The same holds for the way back together.

**Write `heads` and the last line of `forward`.** `heads(x)` returns three tensors, `(..., heads, T, D)` each, for x of
any leading shape. In `forward`, `out` is `(..., heads, T, D)`: move the axis back, give it the shape of x, and let
`out_proj` mix the heads.

For x of shape `(2, 5, 12)` and 3 heads, each of the three is `(2, 3, 5, 4)`.

<details><summary>Hint 1</summary>

`*x.shape[:-1]` are the leading axes and T, whatever there is. Tensors have `reshape` and `swapaxes`, so gradients find
their way.
</details>
<details><summary>Hint 2</summary>

After the reshape the axes are `..., T, 3, heads, D`. One `permute` makes them `3, ..., heads, T, D`; count from the
number n of axes of x, where T is axis n - 2.
</details>
<details><summary>Hint 3</summary>

Then index 0 takes the queries, 1 the keys, 2 the values. In `forward` swap axes -3 and -2, make one of the last two by
`reshape`, then comes `self.out_proj`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "attention-heads", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class MultiHeadAttention(Module):
    """Several attentions side by side, each on its own share of the width, and a projection that mixes their answers.

    in_proj    one Linear(E, 3E): queries, keys and values of all heads
    out_proj   Linear(E, E)
    dropout    share of the attention weights to drop while training
    rotary     called as rotary(q, k, offset) -> (q, k) before keys are compared or cached, such as a RotaryEmbedding
    rng        a generator or seed to draw the weights from; the library's own by default

    (Vaswani et al. 2017, section 3.2.2)
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, rotary=None, rng=None):
        self.embed_dim = _positive("MultiHeadAttention", "embed_dim", embed_dim)
        self.num_heads = _positive("MultiHeadAttention", "num_heads", num_heads)
        if embed_dim % num_heads:
            raise ValueError(
                f"MultiHeadAttention shares embed_dim out to its heads: {embed_dim} is not divisible by {num_heads}"
            )
        if not 0 <= dropout <= 1:
            raise ValueError(f"MultiHeadAttention needs a dropout 0 <= p <= 1, got {dropout}")
        self.head_dim = embed_dim // num_heads
        self.dropout = dropout
        self.rotary = rotary
        rng = generator(rng)
        self.in_proj = Linear(embed_dim, 3 * embed_dim, bias, rng)
        self.out_proj = Linear(embed_dim, embed_dim, bias, rng)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (..., T, E), each (..., heads, T, D)."""
        ### BEGIN SOLUTION
        n, qkv = x.ndim, self.in_proj(x).reshape(*x.shape[:-1], 3, self.num_heads, self.head_dim)
        qkv = qkv.permute(n - 1, *range(n - 2), n, n - 2, n + 1)
        return qkv[0], qkv[1], qkv[2]
        ### END SOLUTION

    def forward(self, x: Tensor, mask=None, causal: bool = False, cache=None) -> Tensor:
        """(..., T, E) -> (..., T, E)

        mask    as for `scaled_dot_product_attention`: (T, S) for all, (N, T, S) for each sequence (the heads share it),
                or (N, heads, T, S)
        causal  let no place look ahead
        cache   keeps keys and values of the places before x, for this layer: cache.append(k, v) takes those of x, both
                (..., heads, T, D), and returns those of all S places; with `rotary` len(cache) is the number before x
        """
        x = floating(x)
        if x.ndim < 2 or x.shape[-1] != self.embed_dim:
            raise ValueError(f"{type(self).__name__} needs x (..., T, {self.embed_dim}), got shape {x.shape}")
        if mask is not None:
            mask = _mask(mask)
            if mask.ndim == x.ndim > 2:
                mask = mask.unsqueeze(-3)
        q, k, v = self.heads(x)
        if self.rotary is not None:
            q, k = self.rotary(q, k, 0 if cache is None else len(cache))
        if cache is not None:
            k, v = cache.append(k, v)
        dropout = self.dropout if self.training else 0.0
        out, _ = scaled_dot_product_attention(q, k, v, mask, causal, dropout)
        ### BEGIN SOLUTION
        return self.out_proj(out.swapaxes(-3, -2).reshape(*x.shape[:-1], self.num_heads * self.head_dim))
        ### END SOLUTION

    def extra_repr(self):
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, dropout={self.dropout}"


# %%
layer = MultiHeadAttention(12, 3, rng=0)
x = randn(2, 5, 12, rng=1)
print(layer)
print([part.shape for part in layer.heads(x)], "->", layer(x, causal=True).shape)
changed = Tensor(x.data.copy())
changed.data[:, 4] += 1
print(
    "another last place moves places 0 to 4 by",
    np.abs(layer(changed, causal=True).data - layer(x, causal=True).data).max(axis=(0, 2)),
)

# %% [markdown]
"""
Attention by itself has no idea of order. Shuffle the places, and the answers are shuffled alike, nothing else; which is
why module 11 put the places into the vectors. (Or into the queries and keys: `rotary=` takes a `RotaryEmbedding`.)
"""

# %%
order = np.array([3, 1, 4, 0, 2])
print("shuffled alike:", np.allclose(layer(x[:, order]).data, layer(x).data[:, order], atol=1e-6))
turned = MultiHeadAttention(12, 3, rotary=RotaryEmbedding(4), rng=0)
print("with turned places:", np.allclose(turned(x[:, order]).data, turned(x).data[:, order], atol=1e-6))

# %% [markdown]
"""
## What does a head look at?

A task that cannot be solved place by place: read eight random tokens and write them in reverse. The answer to place 0
stands at place 7. A model with embeddings, one head of attention and a linear layer at the end:
"""

# %%
manual_seed(0)
embed, attention, read = EmbeddingLayer(8, 32, 8), MultiHeadAttention(32, 1), Linear(32, 8)
optimizer = Adam([p for part in (embed, attention, read) for p in part.parameters()], lr=0.02)
for step in range(61):
    tokens = randint(0, 8, (64, 8))
    optimizer.zero_grad()
    loss = cross_entropy(read(attention(embed(tokens))), tokens.data[:, ::-1])
    loss.backward()
    optimizer.step()
    if step % 20 == 0:
        print(f"step {step:3}: loss {loss.item():.3f}   (knowing nothing: {math.log(8):.3f})")


def right(tokens, mask=None):
    """The share of tokens named right."""
    said = read(attention(embed(tokens), mask=mask)).data.argmax(axis=-1)
    return (said == tokens.data[:, ::-1]).mean()


tokens = randint(0, 8, (500, 8))
with no_grad():
    weights = scaled_dot_product_attention(*attention.heads(embed(tokens[:1])))[1].data[0, 0]
    print(
        f"right: {right(tokens):.1%}; if every place may look at itself only: {right(tokens, np.eye(8, dtype=bool)):.1%}"
    )

predict = learn_to_predict(triangle.T)[1].data[:16].mean(axis=0)
pictures.attention(np.stack([weights, predict]), titles=["reversing", "the wrong direction: it reads ahead"])
plt.show()

# %% [markdown]
"""
A row of the picture is one query, and its shades are whom it listens to. On the left nobody told the head about an
anti-diagonal. On the right is the cheat from above, drawn: every place listens to its right-hand neighbour, whose token
it is supposed to predict. When a model is suspiciously good, draw this picture.

## One word at a time

A model that writes asks again after every word. Keys and values of the old words do not change (each place sees only
what came before it), so they can be kept. `cache` is the hook for that: any object with `append(k, v)`, which takes the
keys and values of the new places and returns those of all. Module 17 builds one that wastes nothing; five lines are
enough to see that the numbers are the same:
"""


# %%
class SimpleCache:
    """Keys and values of all places so far, in two tensors that grow."""

    def __init__(self):
        self.kept = None

    def append(self, k, v):
        self.kept = (k, v) if self.kept is None else tuple(cat(pair, axis=-2) for pair in zip(self.kept, (k, v)))
        return self.kept

    def __len__(self):
        return 0 if self.kept is None else self.kept[0].shape[-2]


layer, x = MultiHeadAttention(128, 4, rng=0), randn(1, 256, 128, rng=1)
with no_grad():
    cache = SimpleCache()
    steps = [layer(x[:, t : t + 1], causal=True, cache=cache).data for t in range(256)]
    at_once = layer(x, causal=True).data
    print(
        f"256 words one by one and at once: furthest apart {np.abs(np.concatenate(steps, axis=1) - at_once).max():.1e}"
    )
    last = SimpleCache()
    layer(x[:, :255], cache=last)
    last_kept = last.kept

    def one_more():
        last.kept = last_kept
        return layer(x[:, 255:], causal=True, cache=last)

    everything = milliseconds(layer, x)
    print(f"word 256 with a cache {milliseconds(one_more):.3f} ms, without {everything:.3f} ms")

# %% [markdown]
"""
Note what `causal=True` does with one query and 256 keys: the query stands at the last place and sees everything. Had
the mask been aligned at the first place, it would see one key, and every word would be written as if it were the first.

## What does it cost?

The weights have N * heads * T * T numbers. Everything else has N * T * E. Double the text and the latter doubles; the
weights take four times as much. In bytes, for a layer of width 768 with 12 heads and a batch of 8, kept for the way
back:
"""

# %%
N, heads, E = 8, 12, 768
print("     T    q, k, v and the answer    the weights        share")
for T in (128, 512, 1024, 2048, 8192, 32768):
    vectors, squares = 4 * N * T * E * 4 / 1e6, N * heads * T * T * 4 / 1e6
    print(f"{T:6} {vectors:18.0f} MB {squares:17,.0f} MB {squares / (squares + vectors):12.0%}")

# %% [markdown]
"""
Arithmetic: the projections multiply T vectors with matrices of E x 4E, which is 8 T E^2 operations; the two products of
attention take 4 T^2 E. They are equal at T = 2 E. Measured, forwards and backwards, with a head of 32 columns:
"""

# %%
print("    T    projections     attention    attention's memory")
for T in (64, 128, 256, 512, 1024):
    layer, x = MultiHeadAttention(128, 4, rng=0), randn(2, T, 128, rng=1, requires_grad=True)

    def projections(layer=layer, x=x):
        layer.out_proj(layer.in_proj(x)[..., :128]).sum().backward()

    q, k, v = (Tensor(part.data, requires_grad=True) for part in layer.heads(x))
    times = milliseconds(projections), milliseconds(there_and_back, fused, q, k, v)
    print(f"{T:5} {times[0]:11.2f} ms {times[1]:10.2f} ms {held(fused, q, k, v):14.1f} MB")

# %% [markdown]
"""
The middle columns show it: with T doubled the projections take about twice as long, and attention comes to take four
times, or more where the weights no longer fit into the caches and every pass over them waits for memory. (Kernels such
as FlashAttention, Dao et al. 2022, never write the weights down: they go through the keys in blocks, correct the sum as
they go, and compute the weights once more on the way back.)

## All together

The checks of this lesson in one cell.
"""

# %%
# Numbers worked out by hand.
out, weights = scaled_dot_product_attention(
    [[2.0, 0.0]], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[10.0], [20.0], [30.0]]
)
np.testing.assert_allclose(weights.data, [[0.4458, 0.1084, 0.4458]], atol=1e-4)
np.testing.assert_allclose(out.data, [[20.0]], rtol=1e-6)
np.testing.assert_allclose(bias.grad, [[-2, 2]])

# Loops, separate operations and the fused one, with their gradients.
values = [rng.normal(size=(7, 4)) for _ in range(3)]
for causal in (False, True):
    want, _ = naive_attention(*values, may_look=causal_mask(7).data if causal else None)
    grads = []
    for function in (separate, fused):
        inputs = [Tensor(x, dtype=np.float64, requires_grad=True) for x in values]
        out = function(*inputs, causal)
        np.testing.assert_allclose(out.data, want, rtol=1e-10)
        (out * out).sum().backward()
        grads.append([x.grad for x in inputs])
    for a, b in zip(*grads):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)

# Who may look nowhere gets zeros; the past does not hear the future; float32 stays float32.
nothing, _ = scaled_dot_product_attention(*values, mask=np.zeros((7, 7), bool))
assert not nothing.data.any()
layer, x = MultiHeadAttention(8, 2, rng=0), randn(2, 6, 8, rng=1)
np.testing.assert_allclose(layer(x[:, :4], causal=True).data, layer(x, causal=True).data[:, :4], atol=1e-6)
assert layer(x, causal=True).dtype == np.float32

# Every parameter gets a gradient.
(layer(x) ** 2).sum().backward()
assert all(np.abs(p.grad).max() > 0 for p in layer.parameters())

# What must be refused.
for wrong in (
    lambda: MultiHeadAttention(10, 4),
    lambda: fused(x, x[..., :4], x),
    lambda: layer(x, mask=[[1, 0, 0, 0, 0, 0]]),
):
    try:
        wrong()
    except (TypeError, ValueError) as error:
        print(error)

# %% [markdown]
"""
## Questions

**1.** GPT-3 has 96 layers with 96 heads each, and reads 2,048 tokens. How much memory would the weights of one text
take in float32, in one layer and in all, if they were kept for the way back?

<details><summary>Answer</summary>

96 * 2,048 * 2,048 * 4 bytes = 1.6 GB in one layer, 155 GB in all 96, for a single text. Nobody keeps them: they are
computed again on the way back, layer by layer (`checkpoint` in module 05) or block by block.
</details>

**2.** At which length does attention cost as much arithmetic as the projections of the layer, for GPT-2 small
(E = 768) and for GPT-3 (E = 12,288)? How large a part of all is it at their own lengths, 1,024 and 2,048?

<details><summary>Answer</summary>

8 T E^2 = 4 T^2 E at T = 2 E: 1,536 and 24,576. At 1,024, GPT-2's attention is 1,024 / 1,536 = 0.67 of its projections,
40 % of the two together; in GPT-3 it is 2,048 / 24,576 = 0.08, 8 %. (The MLP of each block, module 13, takes another
16 T E^2.) For a large model the square is harmless in arithmetic long after it has become impossible in memory.
</details>

**3.** A colleague masks with -1e9 instead of `-inf`. For which queries is the result different, and what do they get?

<details><summary>Answer</summary>

Only for those that may look nowhere. For all others e^(-1e9) is 0 either way. In an empty row all scores are about
-1e9; the maximum is subtracted, and what is left is nearly uniform: the query gets the mean of all that it must not
see. In a padded batch these are the places of the padding, so it often does no harm, until somebody averages over
places.
</details>

**4.** You keep keys and values of everything read so far. How much memory is that for one text of 2,048 tokens in
GPT-3, with two bytes per number? And how much arithmetic does it save for the last word?

<details><summary>Answer</summary>

2 * 96 layers * 2,048 * 12,288 * 2 bytes = 9.7 GB for one text. Without it the last word would cost as much as reading
all 2,048 again: about 2,048 times the work. Writing with a cache is bound by reading memory, not by arithmetic.
</details>

**5.** Two heads of 64 columns or one of 128: which has more parameters, which needs more arithmetic, which more memory?

<details><summary>Answer</summary>

Parameters and arithmetic are the same: the projections do not know about heads, and 2 * (T * T * 64) = T * T * 128. The
weights take twice the memory with two heads, for there is one T x T table per head.
</details>
"""
