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
# 13 · Transformers: blocks that add to a stream, and a model that writes

| | |
|---|---|
| **You have** | tokens, vectors with places, attention, gradients for all of it, an optimizer (modules 01 to 12) |
| **You will build** | layer norm and RMS norm with their rules, the MLP, the transformer block, GPT, sampling, a small cache, a reader for GPT-2's weights |
| **You will be able to** | say why a block is built as it is, count the parameters of any GPT on paper, train one on a text, and explain temperature, top-k and top-p to the person who turns the knobs |

Needs modules 01 to 12. Exports `models/transformer.py` and `models/sampling.py`. Hard; about five hours.

```
   "the c"                                                                         "a"
      |                                                                             ^
   tokens ---> vector + place ---> block ---> block ---> ... ---> norm ---> logits ---> draw one
   (N, T)        (N, T, E)        (N, T, E)                    (N, T, E)   (N, T, V)
                     ^                                                        |
                     +---------------- one table, used at both ends ----------+
```

Attention moves information between places. What is missing is everything around it: something that keeps numbers in a
sane range through dozens of layers, something that computes *at* each place, a way to stack it all so that gradients
arrive at the bottom, and a loop that turns "what may come next" into a text.
"""

# %%
#| default_exp models.transformer

# %%
#| export
"""Transformers: blocks that add to a stream of vectors, and the language model that is a stack of them.

`layer_norm` and `rms_norm` are single operations with rules of their own, computed a few rows at a time so that what is
written is still in the processor's cache when it is read. All else is layers from earlier modules, put together as in
GPT-2. The axes: N batch, T places, E width, V vocabulary.
"""

import math
import os
import re

import numpy as np

from tinytorch.core.activations import gelu
from tinytorch.core.attention import MultiHeadAttention
from tinytorch.core.autograd import Function
from tinytorch.core.layers import Dropout, Linear, Module, _positive, linear
from tinytorch.core.tensor import Tensor, filled, floats, generator, ones, result, zeros
from tinytorch.text.embeddings import EmbeddingLayer

# %%
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
from safetensors.numpy import save_file

from tito import pictures
from tinytorch.core.attention import scaled_dot_product_attention
from tinytorch.core.autograd import grad, gradcheck
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import AdamW
from tinytorch.core.tensor import randint, randn
from tinytorch.text.embeddings import Embedding
from tinytorch.text.tokenization import CharTokenizer

np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
"""
## Why a norm?

A layer multiplies by a matrix. If the matrix makes vectors 1.2 times longer, what do twenty of them do? And 0.8? Before
you run the cell, work out `1.2 ** 20` and `0.8 ** 20`, roughly.
"""

# %%
x = randn(100, 64, rng=0).data
print("gain     after 1       5        10        20 layers")
for gain in (0.8, 1.0, 1.2):
    signal, sizes = x, []
    for layer in range(20):
        signal = signal @ (gain / 8 * randn(64, 64, rng=layer).data)  # 8 = sqrt(64): gain 1 keeps the size
        sizes.append(signal.std())
    print(gain, "  ", "  ".join(f"{sizes[i]:8.3f}" for i in (0, 4, 9, 19)))

# %% [markdown]
"""
A factor that is hardly wrong once is badly wrong after twenty layers, and no initialisation stays right while the
weights are being trained. So do not hope; *measure and divide*. Take one vector, the numbers at one place of the
text. Subtract its mean, divide by its standard deviation:

```
   x                2     4     4    10        mean 20 / 4 = 5
   x - mean        -3    -1    -1     5        variance (9 + 1 + 1 + 25) / 4 = 9, so divide by 3
   normal          -1   -1/3  -1/3   5/3       mean 0, variance 1
   out = normal * weight + bias                weight and bias are learnt, one number each per column
```

Whatever came in, a vector of a known size goes out. It needs no other examples and no other places, so it works alike
for a batch of one, for the first token, in training and afterwards.

Two things go wrong in practice. A vector of equal numbers has variance 0, so a small eps is added *under the root*. And
people divide by E - 1 (`torch.std` does): nothing crashes, and weights from elsewhere give slightly wrong answers.

### Naive, and why it is slow

As a NumPy expression this is one line. It goes through the whole array again and again, and main memory is slow. We do the same to a few rows at a time: what was written a moment ago is then still in the cache of the processor.
`_row_blocks` below cuts the rows, `_norm_inputs` checks the shapes; both are given.
"""


# %%
def naive_layer_norm(x, weight, bias, eps=1e-5):
    """x (..., E) an array."""
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * weight + bias


print(naive_layer_norm(np.array([2.0, 4.0, 4.0, 10.0]), 1, 0))


# %%
#| export
_BLOCK = 262144  # elements: a few rows at a time, a megabyte in float32, which the second-level cache about holds


def _row_blocks(rows, E):
    """Slices that cut `rows` rows of width E into blocks of about _BLOCK elements."""
    step = max(1, _BLOCK // E)
    return [slice(start, start + step) for start in range(0, rows, step)]


def _norm_inputs(op, x, eps, *parameters):
    """x (..., E) and its parameters (E,) as floating tensors of one dtype."""
    if not eps > 0:
        raise ValueError(f"{op} needs eps > 0, got {eps}")
    x, *parameters = tensors = floats(x, *parameters)
    shape = x.shape
    for p in parameters:
        if not shape or p.shape != shape[-1:]:
            raise ValueError(f"{op} of width {p.size} needs inputs (..., {p.size}), got {shape}")
    return tensors


# %% [markdown]
"""
**Write the heart of `_normalise`**, for one block of rows x. `out` is a view of the output, so everything happens in
place. Fill it with the rows minus their means. The variance of each row is the sum of its `squares` divided by E (for
the sum use `np.vecdot`, the product of each row with a row, which makes no array of squares). The scale of a row is `1
/ sqrt(variance + eps)`; written as `sqrt(E / (squares + E * eps))` it needs one operation less. Multiply by it, by the
weight, and add the bias.

`layer_norm([2.0, 4.0, 4.0, 10.0], np.ones(4), np.zeros(4))` is `[-1, -0.3333, -0.3333, 1.6667]`.

<details><summary>Hint 1</summary>

`np.subtract(a, b, out=out)` writes a - b into `out`. `mean` has one number per row, as a column (..., 1).
</details>
<details><summary>Hint 2</summary>

With both operands `out`, `vecdot` is the sum of squares of each row; with `keepdims=True` it is a column, too. `eps`
goes inside the root.
</details>
<details><summary>Hint 3</summary>

The last three lines are `*=`, `*=` and `+=` on `out`: with `scale`, `weight` and `bias`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transformers-layer-norm", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _normalise(x, weight, bias, eps, out):
    """Fill `out` with the rows of x (..., E), each with mean 0 and variance 1, times weight (E,) plus bias (E,).

    Returns mean and scale of each row, both (..., 1).
    """
    E = len(weight)
    mean = np.vecdot(x, filled(E, 1, weight), keepdims=True) / E  # faster than x.mean(axis=-1)
    ### BEGIN SOLUTION
    np.subtract(x, mean, out=out)
    squares = np.vecdot(out, out, keepdims=True)
    scale = np.sqrt(E / (squares + E * eps))
    out *= scale
    out *= weight
    out += bias
    ### END SOLUTION
    return mean, scale


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Every vector shifted to mean 0 and scaled to variance 1; then each of its numbers times a weight, plus a bias.

    x             (..., E)   the last axis is the vector
    weight, bias  (E,)
    eps           added to the variance, so that a vector of equal numbers becomes zeros and not NaN

    Raises ValueError where the widths differ. (Ba et al. 2016)
    """
    x, weight, bias = _norm_inputs("layer_norm", x, eps, weight, bias)
    data, w, b = x._data, weight._data, bias._data
    out = np.empty_like(data, order="C")
    if data.size <= _BLOCK:
        mean, scale = _normalise(data, w, b, eps, out)
    else:
        rows, out_rows = data.reshape(-1, len(w)), out.reshape(-1, len(w))
        moments = [_normalise(rows[block], w, b, eps, out_rows[block]) for block in _row_blocks(*rows.shape)]
        mean, scale = map(np.concatenate, zip(*moments))
    return result(out, "layer_norm", x, weight, bias, mean=mean, scale=scale)


# %%
print(layer_norm([2.0, 4.0, 4.0, 10.0], np.ones(4), np.zeros(4)))
print(layer_norm([7.0, 7.0, 7.0, 7.0], np.ones(4), np.zeros(4)), "for a vector of equal numbers")
signal = Tensor(x)
for layer in range(20):
    signal = layer_norm(signal @ (1.2 / 8 * randn(64, 64, rng=layer).data), np.ones(64), np.zeros(64))
print(f"the gain of 1.2 again, after 20 layers with a norm after each: {signal.data.std():.3f}")

# %% [markdown]
"""
## A gradient that does not forget

Say the loss is the first number of the output. The output is `(x - mean) * scale`, so the tempting rule is `dx = grad *
scale`: with our vector, `[1, 0, 0, 0] / 3`. It treats mean and scale as constants, and they are not: raise the first
number, and the mean rises for all; the variance changes too, and with it the scale of all.

There is a way to see that the tempting rule is wrong without any derivation. Add 1 to every number of x: the output
stays exactly the same. So the gradient, summed over a row, must be 0. Double the vector: the output stays the same
again. So the gradient must be orthogonal to the vector (measured from its mean). `[1, 0, 0, 0] / 3` is neither. The
right rule takes out just these two parts:

```
   dnormal = grad * weight
   dx      = scale * ( dnormal  -  mean(dnormal)  -  normal * mean(dnormal * normal) )
                                   the shift            the stretch

   grad             1      0      0      0            mean  1/4
   grad * normal   -1      0      0      0            mean -1/4
   in brackets     1/2   -1/3   -1/3    1/6           1 - 1/4 - (-1)(-1/4) = 1/2, and so on
   dx              1/6   -1/9   -1/9    1/18          sums to 0
```

Half of what the tempting rule says, for this number. A model trained with it does learn, only worse, and nobody
notices: this is one of the most common bugs in hand-written frameworks.

**Write the heart of `LayerNormBackward`.** We kept two numbers per row, mean and scale; `center` is `x - mean` of the
block, an array of our own, and `g`, `r`, `d` are the block's gradient, scale and place in `dx`. Because `normal = center
* r`, the parts are, with one array `product = g * center`:

```
   dweight   +=  r @ product                             the sum over rows of grad * normal
   dbias     +=  ones @ g
   constant   =  -r * (g @ weight) / E                   one number per row: minus the shift
   tilt       =  -r^3 * (product @ weight) / E           one number per row: minus the stretch, for center
   d          =  g * weight * r  +  center * tilt  +  constant
```

Sums are written as matrix products because those are several times faster than `sum`. Fill `d` in place:
`np.multiply(g, weight, out=d)`, then `*=` and `+=`.

<details><summary>Hint 1</summary>

A vector times a matrix sums over rows, a matrix times a vector over columns: `r @ product` is (E,), `product @ weight`
is (rows,).
</details>
<details><summary>Hint 2</summary>

`np.ones_like(r) @ g` is the sum of the rows. One number per row becomes a column by `[:, None]`.
</details>
<details><summary>Hint 3</summary>

After `np.multiply(g, weight, out=d)`: `d *= r[:, None]`, `center *= tilt[:, None]`, `d += center`, `d += constant[:,
None]`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transformers-layer-norm-backward", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class LayerNormBackward(Function, op="layer_norm"):
    """out = normal * weight + bias, with normal = (x - mean) * scale. Mean and scale move when x moves, so

    dnormal = grad * weight
    dx      = scale * (dnormal - mean(dnormal) - normal * mean(dnormal * normal))        means over each row
    dweight = the sum of grad * normal, and dbias the sum of grad, over all rows
    """

    def backward(self, grad):
        x, weight, _ = (tensor.data for tensor in self.inputs)
        mean, scale = self.saved["mean"].reshape(-1, 1), self.saved["scale"].ravel()
        E = x.shape[-1]
        rows, grad = x.reshape(-1, E), grad.reshape(-1, E)
        dx = np.empty_like(x, order="C")
        dx_rows = dx.reshape(-1, E)
        dweight, dbias = np.zeros_like(weight), np.zeros_like(weight)
        for block in _row_blocks(len(rows), E):
            g, r, d = grad[block], scale[block], dx_rows[block]
            center = rows[block] - mean[block]
            ### BEGIN SOLUTION
            product = g * center  # grad * normal / scale
            dweight += r @ product
            dbias += np.ones_like(r) @ g
            constant = (g @ weight) * r / -E
            tilt = (product @ weight) * r * r * r / -E
            np.multiply(g, weight, out=d)
            d *= r[:, None]
            center *= tilt[:, None]
            d += center
            d += constant[:, None]
            ### END SOLUTION
        return dx, dweight, dbias


# %%
row = Tensor([2.0, 4.0, 4.0, 10.0], requires_grad=True)
dx = grad(layer_norm(row, np.ones(4), np.zeros(4)), row, [1.0, 0.0, 0.0, 0.0])
for name, rule in {"the rule": dx, "the tempting one": np.array([1, 0, 0, 0]) / 3}.items():
    print(f"{name:16} {rule}  shift {abs(rule.sum()):.4f}, stretch {abs(rule @ (row.data - 5)):.4f}")

arrays = [randn(*shape, rng=i).data for i, shape in enumerate([(3, 5), (5,), (5,)])]
print("agrees with finite differences:", gradcheck(layer_norm, arrays))

# %% [markdown]
"""
### Is it worth the trouble?

The naive formula written with tensors runs through the rules of module 05: right, and every step keeps an array. Both,
forward and backward, on the activations of a text of 1024 tokens and width 768:
"""


# %%
def fastest(function, times=5):
    """Milliseconds of the fastest of some calls."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds) * 1e3


def in_tensors(x, weight, bias):
    return (x - x.mean(-1, keepdims=True)) / (x.var(-1, keepdims=True) + 1e-5).sqrt() * weight + bias


wide, weight, bias = (randn(*shape, rng=0, requires_grad=True) for shape in [(1024, 768), (768,), (768,)])
seed = randn(1024, 768, rng=1).data
for norm in (in_tensors, layer_norm):
    print(f"{norm.__name__:12} {fastest(lambda norm=norm: norm(wide, weight, bias).backward(seed)):7.2f} ms")
kept = layer_norm(wide, weight, bias)._grad_fn.saved
print(
    f"kept for the gradient besides x: {sum(a.nbytes for a in kept.values()) / 1e3:.1f} kB; x has {wide.data.nbytes / 1e3:.0f} kB"
)

# %% [markdown]
"""
## Without the mean: RMS norm

Is the shift needed at all? Newer models (LLaMA and most after it) leave it out: divide by the root of the mean square,
multiply by a weight, no bias. By hand, for `[1, 7]`: the mean square is (1 + 49) / 2 = 25, so the result is `[0.2,
1.4]`.

**Write the heart of `rms_norm` and of its rule.** Forward: `scale` is `1 / sqrt(sum of squares / E + eps)` for all rows
at once; then block by block the rows times their scales into `out_rows[block]`, times the weight. Backward, the part along
the vector goes and the shift stays:

```
   dweight  +=  r @ product                    product = g * rows[block]
   tilt      =  -r^3 * (product @ weight) / E
   d         =  rows[block] * tilt  +  g * weight * r
```

<details><summary>Hint 1</summary>

The forward pass is `layer_norm` without mean and bias: the same einsum, on `rows` as they came in, which must not be
changed.
</details>
<details><summary>Hint 2</summary>

`np.multiply(rows[block], scale[block, None], out=out_rows[block])`, then `out_rows[block] *= weight.data`.
</details>
<details><summary>Hint 3</summary>

In the rule, fill `d` with `np.multiply(rows[block], tilt[:, None], out=d)`; then `product` is free to hold `g * weight`
(`out=product`), is multiplied by `r[:, None]`, and added to `d`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transformers-rms-norm", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """Every vector scaled so that its mean square is 1; then each of its numbers times a weight. Nothing is shifted.

    x       (..., E)
    weight  (E,)

    Raises ValueError where the widths differ. (Zhang & Sennrich 2019)
    """
    x, weight = _norm_inputs("rms_norm", x, eps, weight)
    E = x.shape[-1]
    rows = x.data.reshape(-1, E)
    out = np.empty_like(x.data, order="C")
    out_rows = out.reshape(-1, E)
    ### BEGIN SOLUTION
    scale = 1 / np.sqrt(np.vecdot(rows, rows) / E + eps)
    for block in _row_blocks(len(rows), E):
        np.multiply(rows[block], scale[block, None], out=out_rows[block])
        out_rows[block] *= weight.data
    ### END SOLUTION
    return result(out, "rms_norm", x, weight, scale=scale)


class RMSNormBackward(Function, op="rms_norm"):
    """out = x * scale * weight with scale = 1 / sqrt(mean(x^2) + eps), so with dnormal = grad * weight

    dx      = scale * dnormal - x * scale^3 * mean(dnormal * x)        the mean over each row
    dweight = the sum of grad * x * scale over all rows
    """

    def backward(self, grad):
        (x, weight), scale = (tensor.data for tensor in self.inputs), self.saved["scale"]
        E = x.shape[-1]
        rows, grad = x.reshape(-1, E), grad.reshape(-1, E)
        dx, dweight = np.empty_like(x, order="C"), np.zeros_like(weight)
        dx_rows = dx.reshape(-1, E)
        for block in _row_blocks(len(rows), E):
            g, r, d = grad[block], scale[block], dx_rows[block]
            ### BEGIN SOLUTION
            product = g * rows[block]
            dweight += r @ product
            tilt = (product @ weight) * r * r * r / -E
            np.multiply(rows[block], tilt[:, None], out=d)
            np.multiply(g, weight, out=product)
            product *= r[:, None]
            d += product
            ### END SOLUTION
        return dx, dweight


# %%
print(rms_norm([1.0, 7.0], [1.0, 1.0]), " agrees with finite differences:", gradcheck(rms_norm, arrays[:2]))

# %% [markdown]
"""
As layers, with parameters that start so that they change nothing.
"""


# %%
#| export
class LayerNorm(Module):
    """`layer_norm` with a weight (dim,) that starts at 1 and a bias (dim,) that starts at 0."""

    def __init__(self, dim: int, eps: float = 1e-5):
        dim = _positive("LayerNorm", "dim", dim)
        self.weight = ones(dim, requires_grad=True)
        self.bias = zeros(dim, requires_grad=True)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)"""
        return layer_norm(x, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"dim={self.weight.size}, eps={self.eps}"


class RMSNorm(Module):
    """`rms_norm` with a weight (dim,) that starts at 1."""

    def __init__(self, dim: int, eps: float = 1e-6):
        self.weight = ones(_positive("RMSNorm", "dim", dim), requires_grad=True)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)"""
        return rms_norm(x, self.weight, self.eps)

    def extra_repr(self):
        return f"dim={self.weight.size}, eps={self.eps}"


# %% [markdown]
"""
## Thinking at each place: the MLP

Attention mixes places: what it returns is a weighted mean of values, and a mean is a very simple function. The MLP is
the other half of the work. It looks at one place alone: a linear layer to four times the width, a bend, a linear layer
back. Two thirds of the parameters of a block are here.

**Write `MLP.forward`**: `fc1`, then `gelu`, then `fc2`.

`MLP(8)` has 8 * 32 + 32 + 32 * 8 + 8 = 552 parameters, and maps (..., 8) to (..., 8).

<details><summary>Hint 1</summary>

It is one line: three calls, one inside the other.
</details>
<details><summary>Hint 2</summary>

The innermost is `self.fc1(x)`.
</details>
<details><summary>Hint 3</summary>

`gelu` stands between them and not after the second: the answer must be free to be negative.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transformers-mlp", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class MLP(Module):
    """Two linear layers with a gelu between them: every place thinks for itself.

    hidden_dim   width between the two, 4 * embed_dim unless said otherwise
    rng          a generator or seed to draw the weights from; the library's own by default
    """

    def __init__(self, embed_dim: int, hidden_dim: int | None = None, rng=None):
        embed_dim = _positive("MLP", "embed_dim", embed_dim)
        hidden_dim = 4 * embed_dim if hidden_dim is None else _positive("MLP", "hidden_dim", hidden_dim)
        rng = generator(rng)
        self.fc1 = Linear(embed_dim, hidden_dim, rng=rng)
        self.fc2 = Linear(hidden_dim, embed_dim, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) -> (..., E)"""
        ### BEGIN SOLUTION
        return self.fc2(gelu(self.fc1(x)))
        ### END SOLUTION


# %%
print(MLP(8).num_parameters(), MLP(8)(randn(2, 5, 8)).shape)

# %% [markdown]
"""
## The stream, and blocks that add to it

How should attention and MLP be put together? One after the other, each replacing what came in? Then a layer that has
not learnt anything yet passes on garbage, and everything below it learns from garbage. The idea of residual networks
(He et al. 2015) is to *add*:

```
        the stream (N, T, E)
            |
            +-------> norm1 ---> attention --+        each place asks the others,
            |                                |
            + <------------------------------+        and its answer is added
            |
            +-------> norm2 -----> MLP ------+        each place thinks about what it has heard,
            |                                |
            + <------------------------------+        and its answer is added
            |
            v
```

Follow the line on the left from the bottom to the top: nothing stands in the way, only sums. A sum passes its gradient
on unchanged, so the lowest block receives the gradient of the loss directly, however many blocks there are. Blocks
read from the stream and write into it, and what one writes is there for all the later ones.

The norm could also stand *on* the line, after each sum: `x = norm(x + attention(x))`. The first transformer (2017) had
it there, "post-norm". GPT-2 moved it into the branch, "pre-norm". Which is better? Measure it, after writing it.

**Write `TransformerBlock.forward`**, in two lines: the stream plus the dropped-out answer of attention to the normed
stream; then the same with the MLP and the second norm. Mask, causal and cache go to attention.

With the last matrices of both branches set to 0 the block returns x, bit for bit.

<details><summary>Hint 1</summary>

`self.dropout(...)` is around each answer, never around the sum.
</details>
<details><summary>Hint 2</summary>

`x = x + self.dropout(self.attention(self.norm1(x), mask, causal, cache))` is the first line.
</details>
<details><summary>Hint 3</summary>

The second line must read the new x: `self.norm2(x)` with what attention has just added.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transformers-block", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class TransformerBlock(Module):
    """Attention, then an MLP; each reads a normalised copy of the stream and adds its answer to the stream itself.

    mlp_ratio   width inside the MLP, in multiples of embed_dim
    dropout     share of the attention weights, and of each answer, to drop while training

    The norms come before the layers (pre-norm), as in GPT-2 (Radford et al. 2019, section 2.3).
    """

    def __init__(self, embed_dim: int, num_heads: int, mlp_ratio: float = 4, dropout: float = 0.0, rng=None):
        rng = generator(rng)
        self.norm1 = LayerNorm(embed_dim)
        self.attention = MultiHeadAttention(embed_dim, num_heads, dropout, rng=rng)
        self.norm2 = LayerNorm(embed_dim)
        self.mlp = MLP(embed_dim, int(mlp_ratio * embed_dim), rng=rng)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask=None, causal: bool = False, cache=None) -> Tensor:
        """(..., T, E) -> (..., T, E); mask, causal and cache as for `MultiHeadAttention`."""
        ### BEGIN SOLUTION
        x = x + self.dropout(self.attention(self.norm1(x), mask, causal, cache))
        return x + self.dropout(self.mlp(self.norm2(x)))
        ### END SOLUTION


# %%
block = TransformerBlock(8, 2, rng=0)
stream_in = randn(1, 5, 8, rng=1)
for end in (block.attention.out_proj, block.mlp.fc2):
    end.weight.data, end.bias.data = 0 * end.weight.data, 0 * end.bias.data
print("a block that says nothing changes nothing:", (block(stream_in).data == stream_in.data).all())

# %% [markdown]
"""
### Pre-norm, post-norm, no norm

Three kinds of block, stacked 2, 8 and 32 deep, with weights large enough that each layer keeps the size of its input.
How large is the gradient of the loss by the matrices of the first block, of the last, and of all together? And does a
stack of four learn a small task, repeating the eight tokens it has just read, at a learning rate of 0.01 from the
first step on? (Nothing learnt is a loss of log(6) = 1.79.)
"""


# %%
class PostNormBlock(TransformerBlock):
    def forward(self, x, mask=None, causal=False, cache=None):
        x = self.norm1(x + self.attention(x, mask, causal, cache))
        return self.norm2(x + self.mlp(x))


class NoNormBlock(TransformerBlock):
    def forward(self, x, mask=None, causal=False, cache=None):
        x = x + self.attention(x, mask, causal, cache)
        return x + self.mlp(x)


def gradient_sizes(Block, depth):
    blocks = [Block(64, 4, rng=i) for i in range(depth)]
    for p in (p for block in blocks for p in block.parameters() if p.ndim == 2):
        p.data *= np.float32(math.sqrt(3))  # Linear starts with a variance of 1 / (3 fan_in)
    x = randn(2, 16, 64, rng=0)
    for block in blocks:
        x = block(x, causal=True)
    (LayerNorm(64)(x) * randn(2, 16, 64, rng=99)).mean().backward()
    return [math.hypot(*(np.linalg.norm(p.grad) for p in block.parameters() if p.ndim == 2)) for block in blocks]


print(f"{'':18} depth   first block   last block   all blocks")
with np.errstate(all="ignore"):  # without norms it overflows, which is the point
    for Block in (NoNormBlock, PostNormBlock, TransformerBlock):
        for depth in (2, 8, 32):
            sizes = gradient_sizes(Block, depth)
            print(f"{Block.__name__:18} {depth:5} {sizes[0]:13.3g} {sizes[-1]:12.3g} {math.hypot(*sizes):12.3g}")


# %%
class Repeater(Module):
    """Reads eight tokens and says them again."""

    def __init__(self, Block, depth):
        self.embedding = EmbeddingLayer(6, 32, 16, rng=0)
        self.blocks = [Block(32, 4, rng=i) for i in range(depth)]
        self.norm, self.out = LayerNorm(32), Linear(32, 6, rng=1)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, causal=True)
        return self.out(self.norm(x))


def learn_to_repeat(Block, steps=70):
    rng, model = np.random.default_rng(0), Repeater(Block, 4)
    optimizer = AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        tokens = np.tile(rng.integers(0, 6, (16, 8)), 2)
        optimizer.zero_grad()
        loss = cross_entropy(model(tokens[:, :-1])[:, 7:], tokens[:, 8:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


for Block in (NoNormBlock, PostNormBlock, TransformerBlock):
    losses = learn_to_repeat(Block)
    print(
        f"{Block.__name__:18} loss at the start {losses[0]:.2f}, after 30 steps {losses[30]:.3f}, at the end {losses[-1]:.3f}"
    )

# %% [markdown]
"""
Without norms the gradient of the first block explodes with the depth. With post-norm it does not explode, but the
gradient of all blocks together grows with the depth, so a step that is right for a shallow model is too long for a deep
one: that is why such models need a slow warm-up of the learning rate (Xiong et al. 2020 derive it). With pre-norm it
soon stops growing, because the stream grows as blocks add to it and the last norm divides by just that. And of the
three, one has learnt the task in these steps at this bold rate. The price: the larger the stream, the less a late block
can change it.

## GPT

All parts are here. A GPT is an embedding, a stack of blocks in which nobody looks ahead, a last norm (the stream was
never normalised itself), and a *head* that turns each vector into V logits.

The head is the interesting part. It needs a matrix with a column for every token: how well does this vector fit
"cat"? But there is already a table with a row for every token. Use it twice: the logit of a token is the product of
the vector with that token's own row. This is called *weight tying*. It saves V * E parameters, in a small model with many
tokens most of them, and a rare token's row is then trained at every step, for the head pushes all rows at every step while the
embedding only sees the rows that occur.

### Counting on paper

```
                         numbers                         E = 64, V = 30, T = 64, 2 blocks
   token table           V E                                             1,920
   place table           T E                                             4,096
   attention             E 3E + 3E  +  E E + E        = 4 E^2 + 4 E     16,640
   MLP                   E 4E + 4E  +  4E E + E       = 8 E^2 + 5 E     33,088
   two norms             2 * 2E                       =         4 E        256
   a block                                             12 E^2 + 13 E    49,984    twice: 99,968
   last norm             2E                                                128
   the head              nothing: it is the token table                      0
                                                                       106,112
```

### How to start

GPT-2's recipe. Matrices and tables are drawn from a normal distribution with standard deviation 0.02, biases are 0.
Small weights make small logits, so the first loss is log(V). The matrices that *end* an answer (attention's `out_proj`,
the MLP's `fc2`) are smaller still, by `sqrt(2 * num_layers)`: there are 2 * num_layers answers, and a sum of n
independent numbers is `sqrt(n)` times as large as one. So the stream leaves a stack of any depth about as it entered.

### Tokens, checked first

The functions that read tokens live in a file of their own, together with the sampling below. The first checks what it
is given before anything is computed: numbers that are no integers, tokens that are not in the vocabulary.
"""


# %%
#| export models.sampling
"""Sampling: from logits to a token, and from token to token to a text.

They work on any language model with `features`, `head`, `blocks`, `vocab_size` and `max_seq_len`, as a GPT has.
"""

import contextlib

import numpy as np

from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Module, _positive
from tinytorch.core.optimizers import _number
from tinytorch.core.tensor import Tensor, as_array, from_numpy, generator


# %%
#| export models.sampling
def _token_array(who, tokens, vocab_size):
    """`tokens` as an array of integers, every one of them in the vocabulary."""
    if isinstance(tokens, (str, bytes)):
        raise TypeError(f"{who} needs tokens, got text; encode it first: tokenizer.encode(text)")
    tokens = as_array(tokens)
    if tokens.ndim == 0:
        raise ValueError(f"{who} needs tokens of shape (N, T) or (T,), got one number; put it in a list")
    if tokens.size == 0:
        return tokens.astype(np.intp)  # an empty list has no dtype of its own
    if tokens.dtype.kind not in "iu":
        raise TypeError(f"{who} needs whole numbers as tokens, got {tokens.dtype}; tokenizer.encode gives them")
    low, high = int(tokens.min()), int(tokens.max())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"{who}: token {low if low < 0 else high} is out of range 0 to {vocab_size - 1}; "
            "vocab_size must be that of the tokenizer"
        )
    return tokens


# %% [markdown]
"""
**Write three parts of `GPT`.**

`_initialise`: for every named parameter `p` with two axes, assign to `p.data` float32 normal numbers from `rng` times
`std`, which is 0.02, or 0.02 / sqrt(2 * num_layers) if the name ends with one of `ends`. A parameter whose name ends
with "bias" becomes zeros. The weights of the norms stay at 1.

`features`: the embedding of the tokens, the first of them at place `start`, goes through dropout, then through the
blocks, then through the last norm. Block i gets `cache[i]`, or None if there is no cache.

`head`: the product with the token table, turned on its side, as one `linear` without bias.

A `GPT(30, 64, 2, 4, max_seq_len=64)` has the 106,112 parameters of the table above.

<details><summary>Hint 1</summary>

`self.named_parameters()` gives pairs; `name.endswith(ends)` takes a tuple. `rng.standard_normal(p.shape,
dtype=np.float32)` draws; multiply by `np.float32(std)`, so that nothing becomes float64.
</details>
<details><summary>Hint 2</summary>

`self.embedding(tokens, start)` adds the places too. Inside the loop, `x = block(x, causal=causal, cache=...)`.
</details>
<details><summary>Hint 3</summary>

The table is `self.embedding.token_embedding.weight`, shape (V, E); `linear` wants (E, V), so hand it `.T`. Autograd adds
up the gradients of both uses by itself: it is one tensor.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transformers-gpt", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class GPT(Module):
    """A language model: for every token of a text, which token may come next.

    tokens (N, T) -> vectors with places -> num_layers blocks -> a last norm -> logits (N, T, vocab_size). The logits
    are products with the rows of the token table itself, so that table is learnt from both ends and counts once.

    mlp_ratio, dropout   as for `TransformerBlock`; dropout also of the vectors that enter the first block
    rng                  a generator or seed to draw the weights from; the library's own by default

    Starts as GPT-2 does: matrices normal with standard deviation 0.02, those that end an answer smaller by
    sqrt(2 * num_layers), biases 0. (Radford et al. 2019, section 2.3)
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        max_seq_len: int = 1024,
        dropout: float = 0.0,
        mlp_ratio: float = 4,
        rng=None,
    ):
        self.vocab_size = _positive("GPT", "vocab_size", vocab_size)
        self.embed_dim = _positive("GPT", "embed_dim", embed_dim)
        self.num_layers = _positive("GPT", "num_layers", num_layers)
        self.num_heads = _positive("GPT", "num_heads", num_heads)
        self.max_seq_len = _positive("GPT", "max_seq_len", max_seq_len)
        if embed_dim % num_heads:
            raise ValueError(f"GPT shares embed_dim {embed_dim} out to its heads and cannot divide it by {num_heads}")
        rng = generator(rng)
        self.embedding = EmbeddingLayer(vocab_size, embed_dim, max_seq_len, rng=rng)
        self.dropout = Dropout(dropout)
        self.blocks = [TransformerBlock(embed_dim, num_heads, mlp_ratio, dropout, rng) for _ in range(num_layers)]
        self.norm = LayerNorm(embed_dim)
        self._initialise(rng)

    def _initialise(self, rng):
        ends = ("attention.out_proj.weight", "mlp.fc2.weight")
        ### BEGIN SOLUTION
        for name, p in self.named_parameters():
            if p.ndim == 2:
                std = 0.02 / math.sqrt(2 * self.num_layers) if name.endswith(ends) else 0.02
                p.data = rng.standard_normal(p.shape, dtype=np.float32) * np.float32(std)
            elif name.endswith("bias"):
                p.data = np.zeros_like(p.data)
        ### END SOLUTION

    def features(self, tokens, cache=None) -> Tensor:
        """What the last norm returns, one vector per token: (N, T) integers -> (N, T, E); see `forward`."""
        tokens = _token_array("GPT", tokens, self.vocab_size)
        if cache is not None and len(cache) != self.num_layers:
            raise ValueError(f"GPT of {self.num_layers} layers needs a cache for as many, got {len(cache)} layers")
        start, T = 0 if cache is None else len(cache[0]), tokens.shape[-1]
        if start + T > self.max_seq_len:
            raise ValueError(
                f"GPT: a text of {start + T} tokens is longer than max_seq_len {self.max_seq_len}; "
                "cut the text, or make max_seq_len larger"
            )
        causal = T > 1  # one token, the last, may see all
        ### BEGIN SOLUTION
        x = self.dropout(self.embedding(tokens, start))
        for i, block in enumerate(self.blocks):
            x = block(x, causal=causal, cache=None if cache is None else cache[i])
        return self.norm(x)
        ### END SOLUTION

    def head(self, x: Tensor) -> Tensor:
        """Vectors to logits: (..., E) -> (..., V)"""
        ### BEGIN SOLUTION
        return linear(x, self.embedding.token_embedding.weight.T)
        ### END SOLUTION

    def forward(self, tokens, cache=None) -> Tensor:
        """Logits of the next token at every place: (N, T) integers -> (N, T, V). No place sees a later one.

        cache   keys and values of the tokens before these: cache[i] is for block i, as `MultiHeadAttention` takes it

        Raises TypeError for what is no integer; ValueError for a token out of range or a text longer than max_seq_len.
        """
        return self.head(self.features(tokens, cache))

    def generate(
        self,
        prompt,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop=None,
        rng=None,
        use_cache: bool = True,
    ):
        """The prompt and what follows it, in the form of the prompt: list, array or tensor. See `sampling.generate`."""
        return generate(self, prompt, max_new_tokens, temperature, top_k, top_p, stop, rng, use_cache)

    def stream(
        self,
        prompt,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop=None,
        rng=None,
        use_cache: bool = True,
    ):
        """The tokens that follow the prompt, one by one as they are found. See `sampling.stream`."""
        return stream(self, prompt, max_new_tokens, temperature, top_k, top_p, stop, rng, use_cache)

    @classmethod
    def from_gpt2(cls, path, num_heads: int | None = None) -> "GPT":
        """A model with the weights of a GPT-2 checkpoint: a safetensors file with the names it was published with.

        num_heads   not in the file; GPT-2's heads are 64 wide, so embed_dim / 64 unless said otherwise

        Raises FileNotFoundError, or ValueError that lists all that is missing, misshapen or unknown; nothing has been
        built then.
        """
        settings, arrays = _read_gpt2(path, num_heads)
        model = cls(**settings, rng=0)
        model.load_state_dict(arrays)
        return model

    def extra_repr(self):
        names = ("vocab_size", "embed_dim", "num_layers", "num_heads", "max_seq_len")
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


# %%
V, E, layers, T = 30, 64, 2, 64
gpt = GPT(V, E, layers, num_heads=4, max_seq_len=T, rng=0)
by_hand = V * E + T * E + layers * (12 * E * E + 13 * E) + 2 * E
print("parameters:", gpt.num_parameters(), " by hand:", by_hand)
tokens = randint(0, V, (8, T), rng=1)
print(f"first loss: {cross_entropy(gpt(tokens), randint(0, V, (8, T), rng=2)).item():.3f}   log(V): {math.log(V):.3f}")

before = gpt(tokens).data
changed = tokens.data.copy()
changed[:, 40:] = 0
differs = (gpt(changed).data != before).any(axis=(0, 2))
print("tokens changed from place 40 on; the first logits that differ are those of place", differs.argmax())

# %% [markdown]
"""
The last line is worth a thought. One forward pass over T tokens is T exercises at once: at every place the model is
asked for the next token, and sees only what was before. If it could see one place further, the loss would fall to 0
and the model would be useless.

## From logits to a token

The model says logits, here for five tokens. Which one should come next?

```
   logits              2      1      0     -1     -2
   softmax          .636   .234   .086   .032   .012       draw from these: temperature 1

   temperature 0.5  .865   .117   .016   .002   .000       logits divided by 0.5: the likely become likelier
   temperature 2    .429   .260   .158   .096   .058       divided by 2: flatter, bolder, wronger
   temperature 0       1      0      0      0      0       the limit: always the likeliest ("greedy")

   top_k = 2        .731   .269      0      0      0       only the 2 likeliest; scaled up to add up to 1
   top_p = 0.9      .665   .245   .090      0      0       as few as reach 0.9: .636 + .234 = .871 is not enough,
                                                           with .086 it is .957
```

Greedy is safe and dull; it runs in circles. Temperature 1 is honest, and honesty has a flaw: a vocabulary has tens of
thousands of tokens that are each next to impossible, and together they are not. Sooner or later one is drawn, and the
model has to go on from nonsense. Top-k and top-p cut this tail off. Top-k always keeps the same number; top-p adapts:
one token where the model is sure, hundreds where anything may follow.

The traps: temperature 0 is a division by zero (it must mean argmax). `e^logit` overflows, so the largest logit is
subtracted first. Of equal logits, top-k must keep exactly k. And top-p must keep the token that *reaches* p, or of a
token with probability 0.95 and p = 0.9 nothing is left.

**Write the heart of `token_probabilities`.** Peak and temperature 0 are dealt with (as top_k = 1). First the softmax of
`(logits - peak) / temperature` along the last axis; a tiny temperature may overflow to -inf, which is right, so it goes
under `np.errstate(over="ignore")`. Without top_k and top_p, that is all. Else sort, the likeliest first, with a stable
sort of `-logits`; `np.take_along_axis` gives `ranked`, the probabilities in that order. Top-k: everything from place k
on becomes 0, and the rest is scaled up again. Top-p below 1: a token goes if the tokens *before* it already reach p;
scale up again. `np.put_along_axis` brings them back into place.

<details><summary>Hint 1</summary>

`order = (-logits).argsort(axis=-1, kind="stable")`; the last axis is cut with `ranked[..., top_k:]`; scaling up is
`ranked /= ranked.sum(axis=-1, keepdims=True)`.
</details>
<details><summary>Hint 2</summary>

`ranked.cumsum(axis=-1)` counts a token itself. What stands before token i is the sum up to i - 1: `before` is the
running sum without its last entry, and belongs to `ranked[..., 1:]`. The first token always stays.
</details>
<details><summary>Hint 3</summary>

`ranked[..., 1:][before >= top_p] = 0` writes through the slice into `ranked`. The last line is `np.put_along_axis(p,
order, ranked, axis=-1)`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transformers-probabilities", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export models.sampling
def _check_sampling(temperature, top_k, top_p):
    _number("sampling", "temperature", temperature)
    if top_k is not None:
        _positive("sampling", "top_k", top_k)
    if top_p is not None and not 0 < _number("sampling", "top_p", top_p) <= 1:
        raise ValueError(f"sampling needs 0 < top_p <= 1, or None for all tokens, got {top_p}")


def _peaks(logits):
    """The logits as a float64 array, and the largest number of each row."""
    logits = np.asarray(logits.data if isinstance(logits, Tensor) else logits, np.float64)
    peak = logits.max(axis=-1, keepdims=True)
    if not np.isfinite(peak).all():
        raise ValueError("sampling needs logits that are numbers; these hold NaN or infinity, so the model is broken")
    return logits, peak


def token_probabilities(logits, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None):
    """How likely each token is to be drawn: (..., V) logits -> (..., V) float64 array; every row adds up to 1.

    temperature   divides the logits: below 1 the likely become likelier, at 0 the likeliest (first of equals) is sure
    top_k         only the k likeliest tokens are left
    top_p         only the likeliest tokens are left, as few as have at least this probability together
                  (Holtzman et al. 2020, section 3.1)

    Raises ValueError for a setting that makes no sense, or a row of logits without a largest number.
    """
    _check_sampling(temperature, top_k, top_p)
    logits, peak = _peaks(logits)
    if temperature == 0:
        p = np.zeros_like(logits)
        np.put_along_axis(p, logits.argmax(axis=-1, keepdims=True), 1, axis=-1)
        return p
    ### BEGIN SOLUTION
    with np.errstate(over="ignore"):  # divided by next to nothing, what lies below the peak goes to -inf
        p = np.exp((logits - peak) / temperature)
    p /= p.sum(axis=-1, keepdims=True)
    if top_k is None and top_p is None:
        return p
    order = (-logits).argsort(axis=-1, kind="stable")  # the likeliest first
    ranked = np.take_along_axis(p, order, axis=-1)
    if top_k is not None:
        ranked[..., top_k:] = 0
        ranked /= ranked.sum(axis=-1, keepdims=True)
    if top_p is not None and top_p < 1:
        before = ranked.cumsum(axis=-1)[..., :-1]
        ranked[..., 1:][before >= top_p] = 0
        ranked /= ranked.sum(axis=-1, keepdims=True)
    np.put_along_axis(p, order, ranked, axis=-1)
    ### END SOLUTION
    return p


# %%
five = [2.0, 1.0, 0.0, -1.0, -2.0]
knobs = [{}, {"temperature": 0.5}, {"temperature": 2.0}, {"temperature": 0}, {"top_k": 2}, {"top_p": 0.9}]
figure, axes = plt.subplots(1, 6, figsize=(11, 2), sharey=True)
for axis, options in zip(axes, knobs):
    p = token_probabilities(five, **options)
    name = ", ".join(f"{key} {value}" for key, value in options.items()) or "softmax"
    print(f"{name:16}", p)
    axis.bar(range(5), p)
    axis.set_title(name, fontsize=9)
plt.show()

# %% [markdown]
"""
### Drawing

How do you draw from `[.636, .234, .086, .032, .012]` with nothing but a uniform random number? Lay the probabilities
end to end, and see on which piece the number falls:

```
   0                          .636         .871  .957 .988  1
   |-------------0-------------|-----1------|--2--|-3-|4|
                                        ^
                                      0.78  ->  token 1
```

**Write `sample`.** `heights` is the running sum of `p` along the last axis. `mark` is one uniform number for every row,
from `generator(rng)`, times the last height (which is 1, up to rounding). The token is the number of heights that are
not above the mark.

<details><summary>Hint 1</summary>

Every row needs its own number: the shape is that of p with a last axis of 1, `(*p.shape[:-1], 1)`.
</details>
<details><summary>Hint 2</summary>

The last height, kept as an axis: `heights[..., -1:]`.
</details>
<details><summary>Hint 3</summary>

`(heights <= mark)` is True for the pieces that end before the mark; the sum counts them. A piece of length 0 can never
be hit that way.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transformers-sample", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export models.sampling
def sample(logits, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, rng=None):
    """One token for every row of logits: (..., V) -> (...) integers, drawn as `token_probabilities` says."""
    if temperature == 0:
        _check_sampling(temperature, top_k, top_p)
        return _peaks(logits)[0].argmax(axis=-1)
    p = token_probabilities(logits, temperature, top_k, top_p)
    ### BEGIN SOLUTION
    heights = p.cumsum(axis=-1)
    mark = generator(rng).random((*p.shape[:-1], 1)) * heights[..., -1:]
    return (heights <= mark).sum(axis=-1)
    ### END SOLUTION


# %%
drawn = sample(np.tile(five, (10_000, 1)), rng=0)
print("10,000 draws:  ", np.bincount(drawn) / 10_000)
print("probabilities: ", token_probabilities(five))

# %% [markdown]
"""
## Writing a text

Read the prompt, draw a token, append it, read again. Read *what* again? Everything, says the plain way: for the 100th
token the model reads 99 tokens, all of which it has read before. But nobody looks ahead, so what happened at the
earlier places cannot have changed. Of each earlier place attention needs two things only, its keys and values. Keep
them, and a new token costs one place instead of a hundred.

Module 12 prepared this: `MultiHeadAttention.forward(cache=)` hands its new keys and values to `cache.append` and goes
on with what comes back, all of them so far. (Module 17 returns to this, and does it for large models.)

**Write `_LayerCache.append`.** The arrays `self.k` and `self.v`, with room for `capacity` places on the axis before the
last, are there. Write the new keys and values at places `self.length` and following, count `self.length` up by as many
as came, and return tensors of all the places that are filled: views, made with `from_numpy`.

<details><summary>Hint 1</summary>

How many came is `k.shape[-2]`. Remember where they start before counting up.
</details>
<details><summary>Hint 2</summary>

The places are the second axis from the end: `self.k[..., start : self.length, :] = k.data`.
</details>
<details><summary>Hint 3</summary>

What is returned begins at 0: `from_numpy(self.k[..., : self.length, :])`, and the same with v.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transformers-cache", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export models.sampling
class _LayerCache:
    """Keys and values of the places one block has read, in arrays with room for `capacity` places."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.length = 0
        self.k = self.v = None

    def __len__(self):
        return self.length

    def append(self, k, v):
        """Take in keys and values (..., T, D) of the next T places; returns those of all places so far."""
        if self.k is None:
            shape = (*k.shape[:-2], self.capacity, k.shape[-1])
            self.k, self.v = (np.empty_like(x.data, shape=shape, order="C") for x in (k, v))
        ### BEGIN SOLUTION
        start, self.length = self.length, self.length + k.shape[-2]
        self.k[..., start : self.length, :] = k.data
        self.v[..., start : self.length, :] = v.data
        return from_numpy(self.k[..., : self.length, :]), from_numpy(self.v[..., : self.length, :])
        ### END SOLUTION


# %%
reader = [_LayerCache(T) for _ in gpt.blocks]
pieces = [gpt(tokens[:, start : start + 16], cache=reader).data for start in range(0, T, 16)]
print("read in four pieces with a cache, or at once:", np.abs(np.concatenate(pieces, axis=1) - before).max(), "apart")

# %% [markdown]
"""
Three details decide whether a generator can be trusted.

*The window.* The model has `max_seq_len` places. A text that grows beyond them goes on with its last `max_seq_len`
tokens. Then every token moves to another place in each step, so cached keys are those of the wrong place, and the cache
has to go: from there on each token costs a whole window. (Rotary places, which only know distances, do better.)

*The mode.* Dropout must be off and nothing may be recorded, and afterwards everything must be as it was: also if
something fails, also if somebody stops listening to a stream halfway. `_evaluating` does that; for a stream it is done
for one token at a time, because between two tokens the caller's code runs.

*The end.* In a batch, texts end at different moments. One that has met its stop token repeats it until all have.

**Write the loop of `_continue`**, whose callers see to the mode. The features are those of `tokens` without a cache,
else those of `unread` with it; the logits are the head of the last place; `last` is a `sample` of them with `settings`
and `rng`, except in rows that are `done`, which keep their `last`. Yield a copy. A row is done if its last token is
among `stops`, if there are any; if all are done, return. Now only `last` is unread, as a column; and it is appended to
`tokens`, of which the last `limit` columns are kept.

<details><summary>Hint 1</summary>

`model.features(tokens) if cache is None else model.features(unread, cache)`, then `model.head(x[:, -1])`: logits of one
place, not of all.
</details>
<details><summary>Hint 2</summary>

`np.where(done, last, sample(logits, *settings, rng))`, and `np.isin(last, stops)`.
</details>
<details><summary>Hint 3</summary>

A column is `last[:, None]`; `np.concatenate([tokens, last[:, None]], axis=1)[:, -limit:]` appends it and moves the
window.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transformers-generate", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export models.sampling
def _prompts(prompt, vocab_size):
    """The prompt as an array of tokens (N, T)."""
    try:
        tokens = _token_array("generate", prompt, vocab_size)
    except ValueError as error:
        if "rectangular" in str(error):
            raise ValueError("generate needs prompts of one length; generate from each on its own") from None
        raise
    if tokens.ndim > 2:
        raise ValueError(f"generate needs a prompt of tokens (T,) or (N, T), got shape {tokens.shape}")
    if tokens.size == 0:
        raise ValueError(f"generate needs a prompt of at least one token, got shape {tokens.shape}; begin with <BOS>")
    return tokens.reshape(-1, tokens.shape[-1])


def _stops(stop, vocab_size):
    """The tokens to stop at, as an array; `stop` is None, a token, or several."""
    if stop is None:
        return np.empty(0, np.intp)
    stop = sorted(stop) if isinstance(stop, (set, frozenset)) else stop
    return _token_array("generate's stop", [stop] if isinstance(stop, (int, np.integer)) else stop, vocab_size)


def _layers(model):
    return [layer for layer in model.modules() if isinstance(layer, Module)]


@contextlib.contextmanager
def _evaluating(layers):
    """No recording, and no dropout in `layers`; afterwards each is in the mode it was in."""
    modes = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.training = False
        with no_grad():
            yield
    finally:
        for layer, mode in zip(layers, modes):
            layer.training = mode


def _continue(model, tokens, count, settings, stops, rng, use_cache):
    """The tokens (N,) that follow `tokens` (N, T), one place after the other; to be walked under `_evaluating`."""
    limit = model.max_seq_len
    tokens = unread = tokens[:, -limit:]
    cache = None
    if use_cache:
        cache = [_LayerCache(min(limit, tokens.shape[1] + count)) for _ in model.blocks]
    last = np.zeros(len(tokens), np.intp)
    done = np.zeros(len(tokens), bool)
    for _ in range(count):
        if cache is not None and len(cache[0]) + unread.shape[1] > limit:
            cache = None  # the window moves on, and with it the place of every token
        ### BEGIN SOLUTION
        x = model.features(tokens) if cache is None else model.features(unread, cache)
        logits = model.head(x[:, -1])
        last = np.where(done, last, sample(logits, *settings, rng))
        yield last.copy()
        if len(stops):
            done = np.isin(last, stops)  # for ever: a text that has ended repeats its last token
            if done.all():
                return
        unread = last[:, None]
        tokens = np.concatenate([tokens, last[:, None]], axis=1)[:, -limit:]
        ### END SOLUTION


def _start(model, prompt, count, temperature, top_k, top_p, stop, rng, use_cache):
    """What `_continue` yields for these arguments, once they are checked; and whether the prompt is a single text."""
    tokens = _prompts(prompt, model.vocab_size)
    if count != 0:
        _positive("generate", "max_new_tokens", count)
    _check_sampling(temperature, top_k, top_p)
    stops, settings = _stops(stop, model.vocab_size), (temperature, top_k, top_p)
    found = _continue(model, tokens, count, settings, stops, generator(rng), use_cache)
    return found, np.ndim(prompt.data if isinstance(prompt, Tensor) else prompt) == 1


def stream(
    model,
    prompt,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop=None,
    rng=None,
    use_cache: bool = True,
):
    """The tokens that follow a prompt, one by one as they are found: integers, for a batch arrays (N,).

    prompt          (T,) or (N, T) tokens, in a list, array or tensor; of a long one the last model.max_seq_len are read
    max_new_tokens  how many tokens to go on for
    temperature, top_k, top_p   as for `token_probabilities`
    stop            a token, or several, to end after; in a batch a text that has ended repeats its last token
    rng             a generator or seed; the library's own by default
    use_cache       read every token once and keep its keys and values, instead of reading all of the text for each

    All is checked before anything is computed. Between two tokens the model is in the mode it was in, and recording
    goes on as before.
    """
    found, single = _start(model, prompt, max_new_tokens, temperature, top_k, top_p, stop, rng, use_cache)
    layers = _layers(model)

    def one_by_one():
        while True:
            with _evaluating(layers):
                last = next(found, None)
            if last is None:
                return
            yield int(last[0]) if single else last

    return one_by_one()


def generate(
    model,
    prompt,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop=None,
    rng=None,
    use_cache: bool = True,
):
    """The prompt and the tokens that follow it, in the form of the prompt: a list, an array or a tensor.

    All arguments as for `stream`. A text that stops earlier than others of its batch repeats its last token.
    """
    found, single = _start(model, prompt, max_new_tokens, temperature, top_k, top_p, stop, rng, use_cache)
    with _evaluating(_layers(model)):
        new = list(found)
    tokens = as_array(prompt)
    if new:
        new = np.stack(new, axis=-1)
        tokens = np.concatenate([tokens, new[0] if single else new], axis=-1)
    if isinstance(prompt, Tensor):
        return from_numpy(tokens)
    return tokens if isinstance(prompt, np.ndarray) else tokens.tolist()


# %%
print("with a cache:   ", gpt.generate([1, 2, 3], 10, rng=0))
print("without:        ", gpt.generate([1, 2, 3], 10, rng=0, use_cache=False))
print("two at once:    ", gpt.generate([[1, 2, 3], [4, 5, 6]], 5, rng=0))
print("greedy, untrained:", gpt.generate([1, 2, 3], 10, temperature=0))
for wrong in ({"top_p": 0}, {"temperature": -1}, {"stop": 99}):
    try:
        gpt.generate([1, 2, 3], 10, **wrong)
    except ValueError as error:
        print(error)

# %% [markdown]
"""
The untrained model, asked greedily, repeats itself for ever. That is the tied table at work: the stream still holds
mostly the vector of the token just read, and of all rows that one fits its own row best.

## A model that has read something

A text of seven sentences, character by character. A batch is eight windows of it; the targets are the same windows,
moved by one. Before training, after some, and at the end, let it write.
"""

# %%
TEXT = """the sun rises in the east and sets in the west. the moon follows the sun, and the stars follow the moon.
in the east there is a hill, and on the hill there is a house. in the house there lives a cat.
the cat sleeps in the east room in the morning, and in the west room in the evening.
in the west there is a river, and on the river there is a boat. in the boat there lives a dog.
the dog sleeps under the sail in the morning, and looks at the stars in the evening.
when the moon rises, the dog sings to the moon, and the cat on the hill sings to the dog.
"""
tokenizer = CharTokenizer()
tokenizer.build_vocab([TEXT])
ids = np.array(tokenizer.encode(TEXT))


def windows(rng, N, T):
    """N windows of T tokens from the text, and the same moved by one."""
    places = rng.integers(0, len(ids) - T, N)[:, None] + np.arange(T)
    return ids[places], ids[places + 1]


writer = GPT(tokenizer.vocab_size, 64, 2, 4, max_seq_len=64, rng=0)
optimizer = AdamW(writer.parameters(), lr=4e-3)
rng = np.random.default_rng(0)
start = time.perf_counter()
with pictures.Live() as live:
    for step in range(301):
        inputs, targets = windows(rng, 8, 64)
        optimizer.zero_grad()
        loss = cross_entropy(writer(inputs), targets)
        loss.backward()
        optimizer.step()
        live.add(writer=loss.item(), guessing=math.log(tokenizer.vocab_size))
        if step in (0, 100, 300):
            text = tokenizer.decode(writer.generate(tokenizer.encode("the "), 90, temperature=0.5, rng=0))
            print(f"step {step}, loss {loss.item():.2f}, {time.perf_counter() - start:.1f} s: {text!r}")

# %% [markdown]
"""
First noise, then words, then sentences, some of which are in the text and some of which are not. Who guesses has a
loss of log(V). A loss of 0.3 nats means that on average the right character has the probability e^-0.3 = 0.74. The same trained
model, with the knobs turned:
"""

# %%
for options in ({"temperature": 0}, {"temperature": 0.7}, {"temperature": 1.5}, {"temperature": 1.5, "top_k": 3}):
    print(f"{options}: {tokenizer.decode(writer.generate(tokenizer.encode('in the '), 70, **options, rng=2))!r}")
print("one by one:", end=" ")
for token in writer.stream(tokenizer.encode("the cat"), 200, temperature=0.5, stop=tokenizer.encode("."), rng=4):
    print(tokenizer.decode([token]), end="")
print()

# %% [markdown]
"""
What does it look at while it reads? Module 12 drew the shares of one head that had one thing to do. Here are the four
heads of the first block, whose job nobody has named. A hook of module 03 catches what goes into its attention.
"""

# %%
line, caught = "in the house there", []
attention = writer.blocks[0].attention
handle = attention.register_forward_hook(lambda layer, inputs, out: caught.append(inputs[0]))
with no_grad():
    writer([tokenizer.encode(line)])
    weights = scaled_dot_product_attention(*attention.heads(caught[0]), causal=True)[1]
handle.remove()
pictures.attention(weights.data[0], list(line))
plt.show()

# %% [markdown]
"""
Nothing above the diagonal: no letter sees what comes after it. Below it each head has its own habits, and most of them
look a few letters back, within the word being spelt. That is what it takes to guess the next letter of such a text.
"""

# %% [markdown]
"""
## What does it cost?

Time per token while a text grows, with and without cache. Without, the n-th token reads n tokens. With it, it reads
one, and compares it with n keys. And the cache is not free: it holds keys and values, 2 * layers * E numbers per token.
"""


# %%
def times_per_token(model, count, use_cache):
    """Milliseconds each of `count` tokens took."""
    stamps = [time.perf_counter()]
    for _ in model.stream([1], count, use_cache=use_cache):
        stamps.append(time.perf_counter())
    return np.diff(stamps) * 1e3


larger = GPT(256, 128, 4, 4, max_seq_len=192, rng=0)
cached, plain = (times_per_token(larger, 192, use_cache) for use_cache in (True, False))
print("   tokens read     ms for the next: with cache      without")
for n in (16, 64, 128, 176):
    near = slice(n - 8, n + 8)
    print(f"{n:12} {np.median(cached[near]):32.2f} {np.median(plain[near]):13.2f}")
print(f"all 192: {cached.sum():.0f} ms with, {plain.sum():.0f} ms without")
print(f"cache: {2 * 4 * 128 * 4} bytes per token; weights: {4 * larger.num_parameters() / 1e6:.1f} MB")

plt.figure(figsize=(6, 2))
plt.plot(plain, label="without")
plt.plot(cached, label="with cache")
plt.xlabel("token")
plt.ylabel("ms")
plt.ylim(0, 1.5 * np.quantile(plain, 0.95))
plt.legend()
plt.show()

# %% [markdown]
"""
And training: where do the parameters and the arithmetic of one step sit? A matrix of n numbers costs 2 n operations per
token forward and twice that backward, 6 n in all. Attention adds 12 T E per token and layer for scores and means (half
of it wasted on places ahead).
"""


# %%
def budget(V, E, layers, T):
    """Parameters, and million operations per token and training step, of the parts of a GPT."""
    parts = {"token table (head)": (V * E, 6 * V * E), "places": (T * E, 0)}
    parts["attention: matrices"] = layers * (4 * E * E + 4 * E), 6 * layers * 4 * E * E
    parts["attention: scores"] = 0, layers * 12 * T * E
    parts["MLP"] = layers * (8 * E * E + 5 * E), 6 * layers * 8 * E * E
    parts["norms"] = layers * 4 * E + 2 * E, 0
    return parts


for name, sizes in {"the one above": (256, 128, 4, 192), "GPT-2 medium": (50257, 1024, 24, 1024)}.items():
    parts = budget(*sizes)
    count, work = (sum(column) for column in zip(*parts.values()))
    print(f"{name}: {count:,} parameters, {work / 1e6:,.1f} million operations per token")
    for part, (n, operations) in parts.items():
        print(f"    {part:20} {n / count:6.1%} of the parameters, {operations / work:6.1%} of the arithmetic")

# %% [markdown]
"""
The embedding's share shrinks as models grow; width counts squared, the vocabulary once.

## Somebody else's weights: GPT-2

Your GPT computes what GPT-2 computes, so it can run with GPT-2's weights: they are published as a safetensors file (the
format of module 07's checkpoints). Only the names differ:

```
   ours                                   GPT-2's              shape
   embedding.token_embedding.weight       wte.weight           (V, E)
   embedding.pos_encoding....             wpe.weight           (T, E)
   blocks.0.norm1.weight, .bias           h.0.ln_1....         (E,)
   blocks.0.attention.in_proj....         h.0.attn.c_attn      (E, 3E)     queries, keys, values, as ours
   blocks.0.attention.out_proj....        h.0.attn.c_proj      (E, E)
   blocks.0.norm2....                     h.0.ln_2             (E,)
   blocks.0.mlp.fc1....                   h.0.mlp.c_fc         (E, 4E)
   blocks.0.mlp.fc2....                   h.0.mlp.c_proj       (4E, E)
   norm.weight, .bias                     ln_f....             (E,)
```

GPT-2 stores its matrices (in, out), as we do; most PyTorch checkpoints have them the other way round, and a square
matrix that is transposed by mistake crashes nothing.

**Write the loop of `_gpt2_tensors`.** For every block and every entry of `_GPT2_LAYERS`, add two entries to `table`:
from our name of the weight to the pair of GPT-2's name and shape, `times` multiplied by E; and the same for the bias,
which has one number per output.

`_gpt2_tensors(10, 4, 2, 1)["blocks.0.mlp.fc1.bias"]` is `("h.0.mlp.c_fc.bias", (8,))`.

<details><summary>Hint 1</summary>

Two loops: `for i in range(num_layers)` and `for ours, (theirs, times) in _GPT2_LAYERS.items()`.
</details>
<details><summary>Hint 2</summary>

The shape is `tuple(n * E for n in times)`; its last entry, still as a tuple, is `shape[-1:]`.
</details>
<details><summary>Hint 3</summary>

`table[f"blocks.{i}.{ours}.weight"] = f"h.{i}.{theirs}.weight", shape`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transformers-gpt2", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
_GPT2_LAYERS = {  # what GPT-2 calls the layers of a block, and the shape of their weights as multiples of the width
    "norm1": ("ln_1", (1,)),
    "attention.in_proj": ("attn.c_attn", (1, 3)),
    "attention.out_proj": ("attn.c_proj", (1, 1)),
    "norm2": ("ln_2", (1,)),
    "mlp.fc1": ("mlp.c_fc", (1, 4)),
    "mlp.fc2": ("mlp.c_proj", (4, 1)),
}


def _gpt2_tensors(V, T, E, num_layers):
    """From our name of each parameter to (GPT-2's name, shape). Its matrices are (in, out), as ours are."""
    table = {
        "embedding.token_embedding.weight": ("wte.weight", (V, E)),
        "embedding.pos_encoding.position_embeddings": ("wpe.weight", (T, E)),
        "norm.weight": ("ln_f.weight", (E,)),
        "norm.bias": ("ln_f.bias", (E,)),
    }
    ### BEGIN SOLUTION
    for i in range(num_layers):
        for ours, (theirs, times) in _GPT2_LAYERS.items():
            shape = tuple(n * E for n in times)
            table[f"blocks.{i}.{ours}.weight"] = f"h.{i}.{theirs}.weight", shape
            table[f"blocks.{i}.{ours}.bias"] = f"h.{i}.{theirs}.bias", shape[-1:]
    ### END SOLUTION
    return table


# %% [markdown]
"""
The rest is care, and given: the names, shapes and dtypes are read from the header of the file and compared before one
number is loaded; all that is wrong is listed at once.
"""


# %%
#| export
def _check_gpt2(path, found, num_heads):
    """The settings of the GPT whose tensors are `found` in a file, and its `_gpt2_tensors`.

    found   from GPT-2's name to (name in the file, shape, dtype)
    """
    shapes = {name: shape for name, (_, shape, _) in found.items()}
    V, E = shapes["wte.weight"] if len(shapes.get("wte.weight", ())) == 2 else (0, 0)
    T = (*shapes.get("wpe.weight", ()), 0)[0]
    layers = {int(name.split(".")[1]) for name in found if re.match(r"h\.\d+\.", name)}
    table = _gpt2_tensors(V, T, E, max(layers, default=0) + 1)
    problems = []
    if "wte.weight" in found and not E:
        problems.append(f"shape: wte.weight is {shapes['wte.weight']} and should be (vocab_size, embed_dim)")
    for name, shape in table.values():
        if name not in found:
            problems.append(f"missing: {name}")
        elif E and shapes[name] != shape:
            problems.append(f"shape: {name} is {shapes[name]} and should be {shape}")
        elif found[name][2] not in ("F16", "F32", "F64"):
            problems.append(f"dtype: {name} is {found[name][2]} and should be F16, F32 or F64")
    known = {"lm_head.weight", *(name for name, _ in table.values())}
    masks = ("attn.bias", "attn.masked_bias")
    problems += [f"unknown: {name}" for name in found if name not in known and not name.endswith(masks)]
    if not problems and num_heads is None and E % 64:
        problems.append(f"embed_dim {E} cannot be cut into heads of 64; say num_heads")
    if problems:
        raise ValueError(f"from_gpt2: {path} is no checkpoint of GPT-2:\n  " + "\n  ".join(problems))
    settings = {"vocab_size": V, "embed_dim": E, "num_layers": len(layers), "max_seq_len": T}
    return settings | {"num_heads": E // 64 if num_heads is None else num_heads}, table


def _read_gpt2(path, num_heads):
    """A GPT-2 checkpoint as the arguments of a GPT, and a dictionary from our parameter names to arrays."""
    from safetensors import SafetensorError, safe_open

    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"from_gpt2: there is no file {path}")
    try:
        file = safe_open(path, framework="np")
    except SafetensorError as error:
        raise ValueError(f"from_gpt2: {path} is no safetensors file, or is cut short ({error})") from None
    with file:
        found = {}
        for name in file.keys():  # noqa: SIM118
            part = file.get_slice(name)
            found[name.removeprefix("transformer.")] = name, tuple(part.get_shape()), part.get_dtype()
        settings, table = _check_gpt2(path, found, num_heads)
        read = {theirs: file.get_tensor(found[theirs][0]) for theirs, _ in table.values()}
        if "lm_head.weight" in found and not np.array_equal(
            file.get_tensor(found["lm_head.weight"][0]), read["wte.weight"]
        ):
            raise ValueError(f"from_gpt2: {path} has an lm_head.weight of its own, which in a GPT is wte.weight")
    return settings, {ours: read[theirs].astype(np.float32) for ours, (theirs, _) in table.items()}


# %%
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "model.safetensors"
    table = _gpt2_tensors(50, 16, 128, 2)
    random = np.random.default_rng(0)
    tensors = {f"transformer.{name}": random.normal(0, 0.1, shape).astype(np.float32) for name, shape in table.values()}
    save_file(tensors, path)
    stranger = GPT.from_gpt2(path)
    print(f"read: {stranger.num_layers} blocks of width {stranger.embed_dim}, {stranger.num_heads} heads")
    print("it writes", stranger.generate([1, 2, 3], 5, rng=0))

    del tensors["transformer.ln_f.bias"]
    tensors["transformer.h.1.mlp.c_fc.weight"] = tensors["transformer.h.1.mlp.c_fc.weight"].T.copy()
    save_file(tensors, path)
    try:
        GPT.from_gpt2(path)
    except ValueError as error:
        print(str(error).replace(folder, "..."))

# %% [markdown]
"""
With the real file, the `model.safetensors` of GPT-2 small, and the tokenizer of module 10 reading GPT-2's
`vocab.json` and `merges.txt`, this is all it takes to have GPT-2 write.

## All together
"""

# %%
# Norms: what they promise, and rules that agree with finite differences.
normed = LayerNorm(32)(5 + 3 * randn(4, 7, 32, rng=0)).data
np.testing.assert_allclose(normed.mean(-1), 0, atol=1e-5)
np.testing.assert_allclose(normed.var(-1), 1, rtol=1e-3)
np.testing.assert_allclose((RMSNorm(32)(randn(4, 32, rng=1)).data ** 2).mean(-1), 1, rtol=1e-3)
assert gradcheck(layer_norm, arrays)
assert gradcheck(rms_norm, arrays[:2])

# A model: one table for both ends, nobody looks ahead, and a cache changes no token.
model = GPT(20, 16, 2, 4, max_seq_len=8, rng=0)
assert model.num_parameters() == 20 * 16 + 8 * 16 + 2 * (12 * 16 * 16 + 13 * 16) + 2 * 16
assert sum(isinstance(layer, Embedding) for layer in model.modules()) == 1
early, late = model([[1, 2, 3, 4]]).data, model([[1, 2, 3, 9]]).data
assert (early[:, :3] == late[:, :3]).all()
assert (early[:, 3] != late[:, 3]).any()
for options in ({"temperature": 0}, {"top_k": 3}, {"top_p": 0.5}, {"temperature": 3.0}):
    texts = [model.generate([1, 2], 20, **options, rng=0, use_cache=use_cache) for use_cache in (True, False)]
    assert texts[0] == texts[1]
assert model.generate([1, 2], 20, temperature=0) == model.generate([1, 2], 20, top_k=1)
print("parameters:", model.num_parameters(), " a text:", model.generate([1, 2], 8, rng=0))

# %% [markdown]
"""
## Questions

**1.** GPT-2 small has V = 50,257, T = 1024, E = 768, 12 blocks. Count its parameters. How many would it have without
weight tying?

<details><summary>Answer</summary>

Token table 50257 * 768 = 38,597,376; places 1024 * 768 = 786,432; a block 12 * 768^2 + 13 * 768 = 7,087,872, twelve of
them 85,054,464; the last norm 1,536. Together 124,439,808, the "124M" of its name. An untied head would add 38.6
million, a third.
</details>

**2.** You train a GPT with 512 tokens of vocabulary and the loss starts at 31. What is wrong, probably?

<details><summary>Answer</summary>

It should start at log(512) = 6.2. At 31 the model is confident and wrong: the logits are large. With a tied head that
happens if the table is drawn with standard deviation 1 instead of 0.02: the last norm makes vectors of length sqrt(E),
and their products with such rows have a standard deviation of sqrt(E).
</details>

**3.** How large is the cache of GPT-2 small for one text of 1024 tokens, in float32? And for a model with 96 blocks of
width 12,288 and texts of 2048 tokens, in 16 bits, for a batch of 32?

<details><summary>Answer</summary>

2 * 12 * 768 numbers per token are 18,432, times 4 bytes 73.7 kB; times 1024 it is 75.5 MB, against 498 MB of weights.
The large one: 2 * 96 * 12288 * 2 bytes = 4.7 MB per token, 9.66 GB per text, 309 GB for the batch: nearly as much as
its 350 GB of weights. That is why caches are what people who serve models think about.
</details>

**4.** A model gives the right token a probability of 0.99 at every step, and the other 0.01 to nonsense. What is the
probability that a text of 300 tokens drawn at temperature 1 has no nonsense in it? What does top_p = 0.95 change?

<details><summary>Answer</summary>

0.99^300 = 0.049: nineteen texts in twenty go wrong somewhere. With top_p = 0.95 the first token alone reaches p, so
the nonsense is never drawn. Real distributions are not so neat, but the arithmetic of long texts is.
</details>

**5.** Why is the cache thrown away once the text is longer than `max_seq_len`, and what would happen if it were kept and
only its oldest entry dropped?

<details><summary>Answer</summary>

The vectors of the places are added before the first block. When the window moves by one, every token stands at another
place, so all keys and values, in all blocks, would come out different. Keeping them mixes tokens that believe they are at
place 7 with others that have moved on: the text goes on, and differs from what the model says to the same window. With
places that enter as distances (RotaryEmbedding) the first block's keys can be kept.
</details>
"""
