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
from tinytorch.core.tensor import Tensor, broadcast_shape, floating, from_numpy, generator, pair, result


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


# %% nbgrader={"grade": false, "grade_id": "attention-shares", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _share(scores):
    """Turn every row of the array `scores` into shares that add up to 1, in place; rows of -inf into zeros."""
    ### BEGIN SOLUTION
    scores -= scores.max(axis=-1, keepdims=True, initial=np.finfo(scores.dtype).min)
    np.exp(scores, out=scores)
    total = scores @ np.ones_like(scores, shape=scores.shape[-1:])  # faster than scores.sum(axis=-1)
    total += total == 0
    scores *= (1 / total)[..., None]
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "attention-forward", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _check(q, k, v, causal, dropout):
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise ValueError(f"attention needs q, k, v of shape (..., T, D), got {q.shape}, {k.shape}, {v.shape}")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"attention compares queries with keys and needs one width, got q {q.shape}, k {k.shape}")
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"attention needs a value for every key, got k {k.shape}, v {v.shape}")
    if causal and k.shape[-2] < q.shape[-2]:
        raise ValueError(
            f"causal attention needs at least as many keys as queries, got {k.shape[-2]} and {q.shape[-2]}"
        )
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
    q, k = pair("attention", floating(q), floating(k), broadcast=False)
    q, v = pair("attention", q, floating(v), broadcast=False)
    q, k = pair("attention", q, k, broadcast=False)
    _check(q, k, v, causal, dropout)
    T, S, D = q.shape[-2], k.shape[-2], q.shape[-1]
    lead = broadcast_shape("attention", q.shape[:-2], k.shape[:-2], v.shape[:-2])
    inputs = [q, k, v]
    if mask is not None:
        mask = _mask(mask)
        if broadcast_shape("attention's mask", mask.shape, (*lead, T, S)) != (*lead, T, S):
            raise ValueError(f"attention's mask must broadcast to the scores {(*lead, T, S)}, got shape {mask.shape}")
        if mask.requires_grad:
            inputs.append(mask)
    bias = _bias(mask, causal, T, S, q.dtype)
    scale = 1 / math.sqrt(D)
    ### BEGIN SOLUTION
    weights = (q.data * scale) @ k.data.swapaxes(-1, -2)
    if bias is not None:
        weights += bias
    _share(weights)
    ### END SOLUTION
    kept = None if dropout == 0 else _kept(weights, dropout, rng)
    out = (weights if kept is None else weights * kept) @ v.data
    shown = weights.view()
    shown.flags.writeable = False  # the rule needs these numbers as they are
    return result(out, "attention", *inputs, weights=weights, kept=kept, scale=scale, out=out), from_numpy(shown)


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
        dscores -= np.einsum("...d,...d->...", grad, out)[..., None]
        dscores *= weights
        dq = dscores @ k
        dq *= scale
        dk = dscores.swapaxes(-1, -2) @ q
        dk *= scale
        ### END SOLUTION
        grads = [dq, dk, dv, *(dscores.astype(mask.dtype, copy=False) for mask in self.inputs[3:])]
        return tuple(unbroadcast(dx, x.shape) for dx, x in zip(grads, self.inputs))


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
        self.dropout = dropout
        self.rotary = rotary
        rng = generator(rng)
        self.in_proj = Linear(embed_dim, 3 * embed_dim, bias, rng)
        self.out_proj = Linear(embed_dim, embed_dim, bias, rng)

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x (..., T, E), each (..., heads, T, D)."""
        ### BEGIN SOLUTION
        qkv = self.in_proj(x).reshape(*x.shape[:-1], 3, self.num_heads, self.embed_dim // self.num_heads)
        return tuple(qkv[..., i, :, :].swapaxes(-3, -2) for i in range(3))
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
            raise ValueError(f"MultiHeadAttention needs x (..., T, {self.embed_dim}), got shape {x.shape}")
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
        return self.out_proj(out.swapaxes(-3, -2).reshape(x.shape))
        ### END SOLUTION

    def extra_repr(self):
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, dropout={self.dropout}"
