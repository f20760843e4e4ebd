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
#| default_exp text.embeddings

# %%
#| export
"""Embeddings: from token numbers to vectors, and from places in a sequence to vectors.

`embedding` looks rows up in a table; its rule adds up what every place sends back. What stands where is told to a
model by adding a vector per place (learned or made of sines) or by turning queries and keys (rotary).
"""

import math

import numpy as np

from tinytorch.core.autograd import Function
from tinytorch.core.layers import Module, _positive
from tinytorch.core.tensor import Tensor, as_array, floating, from_numpy, generator, randn, result


# %% nbgrader={"grade": false, "grade_id": "embeddings-lookup", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _token_ids(tokens, vocab_size):
    """An integer array of the tokens, our own copy, every one of them a row of a table of `vocab_size`."""
    ids = as_array(tokens)
    if ids.size == 0:
        return ids.astype(np.intp)  # an empty list has no dtype of its own
    if ids.dtype.kind not in "iu":
        raise TypeError(f"embedding needs whole numbers as tokens, got {ids.dtype}; tokenizer.encode gives them")
    ### BEGIN SOLUTION
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"embedding: token {low if low < 0 else high} is out of range 0 to {vocab_size - 1}; "
            "the table needs as many rows as the tokenizer has tokens, Embedding(len(tokenizer.vocab), ...)"
        )
    return ids.astype(np.intp, copy=False)
    ### END SOLUTION


def embedding(weight: Tensor, tokens) -> Tensor:
    """The rows of a table that the tokens name: out[...] = weight[tokens[...]].

    weight   (V, E)   one row per token
    tokens   (...)    integers 0 <= token < V, in a list, array or tensor of any shape
    returns  (..., E)

    Raises ValueError for a token out of range, negative ones too; TypeError for what is no integer.
    """
    weight = floating(weight)
    if weight.ndim != 2:
        raise ValueError(f"embedding needs a table (V, E), got shape {weight.shape}")
    tokens = _token_ids(tokens, len(weight))
    ### BEGIN SOLUTION
    return result(weight.data.take(tokens, axis=0), "embedding", weight, tokens=tokens)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "embeddings-backward", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _groups(tokens):
    """The places of every token, as pairs (rows, places), one pair for each number of times that tokens occur.

    rows    (m,)        distinct tokens that occur equally often
    places  (m, count)  where in the flat `tokens` each of them stands
    """
    order = tokens.argsort(kind="stable")
    inorder = tokens[order]
    starts = np.flatnonzero(np.diff(inorder, prepend=-1))  # in order, every token begins where the number changes
    counts = np.diff(starts, append=len(inorder))
    for count in np.unique(counts).tolist():
        first = starts[counts == count]
        yield inorder[first], order[first[:, None] + np.arange(count)]


class EmbeddingBackward(Function, op="embedding"):
    """Every row of the table collects the gradients of all the places it was copied to; other rows get 0."""

    def backward(self, grad):
        (weight,), tokens = self.inputs, self.saved["tokens"]
        grad = grad.reshape(-1, weight.shape[1])
        dweight = np.zeros(weight.shape, weight.dtype, like=weight.data)  # untouched rows cost nothing this way
        ### BEGIN SOLUTION
        for rows, places in _groups(tokens.ravel()):
            copies = grad[places]  # (m, count, E)
            dweight[rows] = copies.sum(axis=1) if copies.shape[1] > 1 else copies[:, 0]
        return dweight
        ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "embeddings-embedding", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _table(rows, columns, rng):
    """A parameter (rows, columns) whose rows begin with a length of about 1."""
    table = randn(rows, columns, rng=rng)
    return Tensor(table.data / math.sqrt(columns), requires_grad=True)


class Embedding(Module):
    """One learned vector per token.

    weight (vocab_size, embed_dim) starts normal with standard deviation 1 / sqrt(embed_dim): rows of length about 1.
    rng    a generator or seed to draw it from; the library's own by default
    """

    def __init__(self, vocab_size: int, embed_dim: int, rng=None):
        self.vocab_size = _positive("Embedding", "vocab_size", vocab_size)
        self.embed_dim = _positive("Embedding", "embed_dim", embed_dim)
        ### BEGIN SOLUTION
        self.weight = _table(vocab_size, embed_dim, rng)
        ### END SOLUTION

    def forward(self, tokens) -> Tensor:
        """(...) integers -> (..., embed_dim)"""
        ### BEGIN SOLUTION
        return embedding(self.weight, tokens)
        ### END SOLUTION

    def extra_repr(self):
        return f"vocab_size={self.vocab_size}, embed_dim={self.embed_dim}"


# %% nbgrader={"grade": false, "grade_id": "embeddings-positions", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class PositionalEncoding(Module):
    """One learned vector per place, added to whatever stands there.

    position_embeddings (max_seq_len, embed_dim) starts as the rows of an `Embedding` do.
    """

    def __init__(self, max_seq_len: int, embed_dim: int, rng=None):
        max_seq_len = _positive("PositionalEncoding", "max_seq_len", max_seq_len)
        embed_dim = _positive("PositionalEncoding", "embed_dim", embed_dim)
        self.position_embeddings = _table(max_seq_len, embed_dim, rng)

    def forward(self, x: Tensor, offset: int = 0) -> Tensor:
        """(..., T, E) -> (..., T, E)

        offset   the place of the first vector; above 0 where a sequence is continued

        Raises ValueError if the sequence exceeds the maximum length.
        """
        x = floating(x)
        max_seq_len, E = self.position_embeddings.shape
        if x.ndim < 2 or x.shape[-1] != E:
            raise ValueError(f"{type(self).__name__} needs vectors (..., T, {E}), got shape {x.shape}")
        T = x.shape[-2]
        ### BEGIN SOLUTION
        if offset < 0 or offset + T > max_seq_len:
            raise ValueError(
                f"{type(self).__name__}: a sequence of {T} from place {offset} exceeds maximum length {max_seq_len}; "
                "cut the sequence, or make max_seq_len larger"
            )
        return x + self.position_embeddings[offset : offset + T]
        ### END SOLUTION

    def extra_repr(self):
        return "max_seq_len={}, embed_dim={}".format(*self.position_embeddings.shape)


# %% nbgrader={"grade": false, "grade_id": "embeddings-sinusoidal", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _speeds(dim, base=10000.0):
    """How far each pair of columns turns per place, in radians: from 1 down to nearly 1 / base."""
    return base ** (-np.arange(0, dim, 2) / dim)


def create_sinusoidal_embeddings(max_seq_len: int, embed_dim: int) -> Tensor:
    """A vector for every place, made of sines (even columns) and cosines (odd columns), without anything to learn.

    returns (max_seq_len, embed_dim): column 2i holds sin(t / 10000^(2i / embed_dim)), column 2i + 1 the cosine

    (Vaswani et al. 2017, section 3.5)
    """
    max_seq_len = _positive("create_sinusoidal_embeddings", "max_seq_len", max_seq_len)
    embed_dim = _positive("create_sinusoidal_embeddings", "embed_dim", embed_dim)
    table = np.empty((max_seq_len, embed_dim), np.float32)
    ### BEGIN SOLUTION
    angles = np.outer(np.arange(max_seq_len), _speeds(embed_dim))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles)[:, : embed_dim // 2]
    ### END SOLUTION
    return from_numpy(table)


class SinusoidalEncoding(PositionalEncoding):
    """The vectors of `create_sinusoidal_embeddings`, added to whatever stands there; nothing to learn."""

    def __init__(self, max_seq_len: int, embed_dim: int):
        self.position_embeddings = create_sinusoidal_embeddings(max_seq_len, embed_dim)


# %% nbgrader={"grade": false, "grade_id": "embeddings-rotary", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def rotary(x: Tensor, turns: np.ndarray) -> Tensor:
    """Every pair of neighbouring columns of x turned, by an angle of its own at every place.

    x        (..., T, D)   float32 or float64, D even
    turns    (T, D / 2)    complex numbers of length 1, e^(i angle)
    returns  (..., T, D)
    """
    x = floating(x)
    if x.ndim < 2 or x.shape[-2:] != (turns.shape[0], 2 * turns.shape[1]):
        raise ValueError(f"rotary turns (..., {turns.shape[0]}, {2 * turns.shape[1]}), got shape {x.shape}")
    if x.dtype.itemsize < 4:
        raise TypeError(f"rotary needs float32 or float64, got {x.dtype}; use x.astype('float32')")
    turns = turns.astype(np.result_type(x.dtype, np.complex64))
    ### BEGIN SOLUTION
    out = x.data.copy()
    pairs = out.view(turns.dtype)  # the same memory, two real numbers read as one complex
    pairs *= turns
    ### END SOLUTION
    return result(out, "rotary", x, turns=turns)


class RotaryBackward(Function, op="rotary"):
    """A turn keeps lengths, so dx is grad turned back: times the conjugate."""

    def backward(self, grad):
        turns = self.saved["turns"]
        ### BEGIN SOLUTION
        dx = grad.copy()
        pairs = dx.view(turns.dtype)
        pairs *= turns.conj()
        return dx
        ### END SOLUTION


class RotaryEmbedding(Module):
    """Places as angles: queries and keys are turned by their place, so that their products know only the distance.

    head_dim   width D of a head, even
    base       the slowest pair turns by about 1 / base per place

    Nothing to learn, and no longest sequence. (Su et al. 2021, section 3.2)
    """

    def __init__(self, head_dim: int, base: float = 10000.0):
        self.head_dim = _positive("RotaryEmbedding", "head_dim", head_dim)
        if head_dim % 2:
            raise ValueError(f"RotaryEmbedding turns pairs of columns and needs an even head_dim, got {head_dim}")
        self.base = base
        self._turns = np.empty((0, head_dim // 2), np.complex128)

    def rotate(self, x: Tensor, offset: int = 0) -> Tensor:
        """(..., T, D) -> (..., T, D), the first vector at place `offset`."""
        x = floating(x)
        if x.ndim < 2 or x.shape[-1] != self.head_dim:
            raise ValueError(f"RotaryEmbedding needs vectors (..., T, {self.head_dim}), got shape {x.shape}")
        if offset < 0:
            raise ValueError(f"RotaryEmbedding needs places of at least 0, got offset {offset}")
        stop = offset + x.shape[-2]
        if stop > len(self._turns):  # twice as many as ever needed, so that this happens seldom
            angles = np.outer(np.arange(2 * stop), _speeds(self.head_dim, self.base))
            self._turns = np.exp(1j * angles)
        return rotary(x, self._turns[offset:stop])

    def forward(self, q: Tensor, k: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Queries and keys (N, heads, T, D), turned; `offset` is the number of places that a cache holds already."""
        return self.rotate(q, offset), self.rotate(k, offset)

    def extra_repr(self):
        return f"head_dim={self.head_dim}, base={self.base}"


# %% nbgrader={"grade": false, "grade_id": "embeddings-layer", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class EmbeddingLayer(Module):
    """What a transformer reads: the vector of every token plus the vector of its place.

    max_seq_len       longest sequence, where places are told
    pos_encoding      "learned", "sinusoidal", or None
    scale_embeddings  multiply the tokens' vectors by sqrt(embed_dim) first (Vaswani et al. 2017, section 3.4)
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        max_seq_len: int = 512,
        pos_encoding: str | None = "learned",
        scale_embeddings: bool = False,
        rng=None,
    ):
        if pos_encoding not in ("learned", "sinusoidal", None):
            raise ValueError(f"EmbeddingLayer needs pos_encoding 'learned', 'sinusoidal' or None, got {pos_encoding!r}")
        rng = generator(rng)
        self.token_embedding = Embedding(vocab_size, embed_dim, rng)
        self.pos_encoding = None
        if pos_encoding == "learned":
            self.pos_encoding = PositionalEncoding(max_seq_len, embed_dim, rng)
        elif pos_encoding == "sinusoidal":
            self.pos_encoding = SinusoidalEncoding(max_seq_len, embed_dim)
        self.scale_embeddings = scale_embeddings

    def forward(self, tokens, offset: int = 0) -> Tensor:
        """(..., T) integers -> (..., T, embed_dim), the first token at place `offset`"""
        ### BEGIN SOLUTION
        x = self.token_embedding(tokens)
        if self.scale_embeddings:
            x = x * math.sqrt(self.token_embedding.embed_dim)
        return x if self.pos_encoding is None else self.pos_encoding(x, offset)
        ### END SOLUTION

    def extra_repr(self):
        return f"scale_embeddings={self.scale_embeddings}"
