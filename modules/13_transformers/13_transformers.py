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
from tinytorch.core.layers import Dropout, Linear, Module, _one_dtype, _positive, linear
from tinytorch.core.tensor import Tensor, floating, generator, ones, result, zeros
from tinytorch.text.embeddings import EmbeddingLayer


# %% nbgrader={"grade": false, "grade_id": "transformers-layer-norm", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
_BLOCK = 131072  # elements: a few rows at a time, which the second-level cache holds together with what is made of them


def _row_blocks(rows, E):
    """Slices that cut `rows` rows of width E into blocks of about _BLOCK elements."""
    step = max(1, _BLOCK // E)
    return [slice(start, start + step) for start in range(0, rows, step)]


def _norm_inputs(op, x, eps, *parameters):
    """x (..., E) and its parameters (E,) as floating tensors of one dtype."""
    x = floating(x)
    if not eps > 0:
        raise ValueError(f"{op} needs eps > 0, got {eps}")
    tensors = [x]
    for p in map(floating, parameters):
        if x.ndim == 0 or p.shape != x.shape[-1:]:
            raise ValueError(f"{op} of width {p.size} needs inputs (..., {p.size}), got {x.shape}")
        x, p = _one_dtype(x, p)
        tensors.append(p)
    return [x, *(_one_dtype(x, p)[1] for p in tensors[1:])]


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Every vector shifted to mean 0 and scaled to variance 1; then each of its numbers times a weight, plus a bias.

    x             (..., E)   the last axis is the vector
    weight, bias  (E,)
    eps           added to the variance, so that a vector of equal numbers becomes zeros and not NaN

    Raises ValueError where the widths differ. (Ba et al. 2016)
    """
    x, weight, bias = _norm_inputs("layer_norm", x, eps, weight, bias)
    E = x.shape[-1]
    rows = x.data.reshape(-1, E)
    out = np.empty_like(rows)
    mean = rows @ np.ones_like(rows, shape=E) / E  # faster than rows.mean(axis=1)
    scale = np.empty_like(mean)
    for block in _row_blocks(len(rows), E):
        normal = out[block]
        ### BEGIN SOLUTION
        np.subtract(rows[block], mean[block, None], out=normal)
        variance = np.einsum("ij,ij->i", normal, normal) / E
        scale[block] = 1 / np.sqrt(variance + eps)
        normal *= scale[block, None]
        normal *= weight.data
        normal += bias.data
        ### END SOLUTION
    return result(out.reshape(x.shape), "layer_norm", x, weight, bias, mean=mean, scale=scale)


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
        mean, scale = self.saved["mean"], self.saved["scale"]
        E = x.shape[-1]
        rows, grad = x.reshape(-1, E), grad.reshape(-1, E)
        dx = np.empty_like(rows)
        dweight, dbias = np.zeros_like(weight), np.zeros_like(weight)
        for block in _row_blocks(len(rows), E):
            g, r, d = grad[block], scale[block], dx[block]
            center = rows[block] - mean[block, None]
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
        return dx.reshape(x.shape), dweight, dbias


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
    out = np.empty_like(rows)
    ### BEGIN SOLUTION
    scale = 1 / np.sqrt(np.einsum("ij,ij->i", rows, rows) / E + eps)
    for block in _row_blocks(len(rows), E):
        np.multiply(rows[block], scale[block, None], out=out[block])
        out[block] *= weight.data
    ### END SOLUTION
    return result(out.reshape(x.shape), "rms_norm", x, weight, scale=scale)


class RMSNormBackward(Function, op="rms_norm"):
    """out = x * scale * weight with scale = 1 / sqrt(mean(x^2) + eps), so with dnormal = grad * weight

    dx      = scale * dnormal - x * scale^3 * mean(dnormal * x)        the mean over each row
    dweight = the sum of grad * x * scale over all rows
    """

    def backward(self, grad):
        (x, weight), scale = (tensor.data for tensor in self.inputs), self.saved["scale"]
        E = x.shape[-1]
        rows, grad = x.reshape(-1, E), grad.reshape(-1, E)
        dx, dweight = np.empty_like(rows), np.zeros_like(weight)
        for block in _row_blocks(len(rows), E):
            g, r, d = grad[block], scale[block], dx[block]
            ### BEGIN SOLUTION
            product = g * rows[block]
            dweight += r @ product
            tilt = (product @ weight) * r * r * r / -E
            np.multiply(rows[block], tilt[:, None], out=d)
            np.multiply(g, weight, out=product)
            product *= r[:, None]
            d += product
            ### END SOLUTION
        return dx.reshape(x.shape), dweight


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


# %% nbgrader={"grade": false, "grade_id": "transformers-block", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
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


# %% nbgrader={"grade": false, "grade_id": "transformers-probabilities", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
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


def _check_sampling(temperature, top_k, top_p):
    _number("sampling", "temperature", temperature)
    if top_k is not None:
        _positive("sampling", "top_k", top_k)
    if top_p is not None and not 0 < _number("sampling", "top_p", top_p) <= 1:
        raise ValueError(f"sampling needs 0 < top_p <= 1, or None for all tokens, got {top_p}")


def token_probabilities(logits, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None):
    """How likely each token is to be drawn: (..., V) logits -> (..., V) float64 array; every row adds up to 1.

    temperature   divides the logits: below 1 the likely become likelier, at 0 the likeliest (first of equals) is sure
    top_k         only the k likeliest tokens are left
    top_p         only the likeliest tokens are left, as few as have at least this probability together
                  (Holtzman et al. 2020, section 3.1)

    Raises ValueError for a setting that makes no sense, or a row of logits without a largest number.
    """
    _check_sampling(temperature, top_k, top_p)
    logits = np.asarray(logits.data if isinstance(logits, Tensor) else logits, np.float64)
    peak = logits.max(axis=-1, keepdims=True)
    if not np.isfinite(peak).all():
        raise ValueError("sampling needs logits that are numbers; these hold NaN or infinity, so the model is broken")
    if temperature == 0:
        top_k, temperature = 1, 1.0
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


# %% nbgrader={"grade": false, "grade_id": "transformers-sample", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export models.sampling
def sample(logits, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, rng=None):
    """One token for every row of logits: (..., V) -> (...) integers, drawn as `token_probabilities` says."""
    p = token_probabilities(logits, temperature, top_k, top_p)
    if temperature == 0:
        return p.argmax(axis=-1)
    ### BEGIN SOLUTION
    heights = p.cumsum(axis=-1)
    mark = generator(rng).random((*p.shape[:-1], 1)) * heights[..., -1:]
    return (heights <= mark).sum(axis=-1)
    ### END SOLUTION


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


# %% nbgrader={"grade": false, "grade_id": "transformers-generate", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
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
    """The tokens (N,) that follow `tokens` (N, T), one place after the other."""
    layers = [layer for layer in model.modules() if isinstance(layer, Module)]
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
        with _evaluating(layers):
            x = model.features(tokens) if cache is None else model.features(unread, cache)
            logits = model.head(x[:, -1])
        last = np.where(done, last, sample(logits, *settings, rng))
        yield last.copy()
        done = np.isin(last, stops)  # for ever: a text that has ended repeats its last token
        if done.all():
            return
        unread = last[:, None]
        tokens = np.concatenate([tokens, last[:, None]], axis=1)[:, -limit:]
        ### END SOLUTION


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
    tokens = _prompts(prompt, model.vocab_size)
    if max_new_tokens != 0:
        _positive("generate", "max_new_tokens", max_new_tokens)
    _check_sampling(temperature, top_k, top_p)
    stops, settings = _stops(stop, model.vocab_size), (temperature, top_k, top_p)
    found = _continue(model, tokens, max_new_tokens, settings, stops, generator(rng), use_cache)
    single = np.ndim(prompt.data if isinstance(prompt, Tensor) else prompt) == 1
    return (int(last[0]) for last in found) if single else found


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
    new = list(stream(model, prompt, max_new_tokens, temperature, top_k, top_p, stop, rng, use_cache))
    tokens = as_array(prompt)
    if new:
        tokens = np.concatenate([tokens, np.stack(new, axis=-1)], axis=-1)
    if isinstance(prompt, Tensor):
        return from_numpy(tokens)
    return tokens if isinstance(prompt, np.ndarray) else tokens.tolist()


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
