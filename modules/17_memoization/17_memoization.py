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
# 17 · Memoization: no token is read twice
"""

# %%
#| default_exp generation.kv_cache

# %%
#| export
"""Memoization for models that write: keys and values of what was read are kept, so that no token is read twice.

A `KVCache` keeps the numbers, in memory that is taken once; each of its layers is what `MultiHeadAttention` takes as
its `cache`. `Memoized` is a language model with such a cache that also remembers which text it has read, and of the
next text reads only what is new. The axes: N batch, T new places, S places with room, D the size of one head.
"""

import numpy as np

from tinytorch.core.layers import _positive
from tinytorch.core.tensor import Tensor, floating, from_numpy
from tinytorch.models.sampling import _prompts, _token_array, generate, stream


# %% nbgrader={"grade": false, "grade_id": "memoization-bytes", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def cache_bytes(
    batch_size: int, max_seq_len: int, num_layers: int, num_heads: int, head_dim: int, dtype=np.float32
) -> int:
    """How many bytes a `KVCache` of these sizes takes: a key and a value per text, place, layer and head."""
    ### BEGIN SOLUTION
    numbers = 2 * batch_size * max_seq_len * num_layers * num_heads * head_dim
    return numbers * np.dtype(dtype).itemsize
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "memoization-append", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class CacheLayer:
    """What one layer of a `KVCache` holds. Its `len` is the number of places it has taken in.

    keys, values   (N, heads, S, D) arrays with room for S places; what lies beyond `len` means nothing
    lengths        how many places each layer of the cache holds, a list that all of them share
    """

    def __init__(self, index, keys, values, lengths):
        self.index = index
        self.keys = keys
        self.values = values
        self.lengths = lengths

    def __len__(self):
        return self.lengths[self.index]

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Take in keys and values (N, heads, T, D) of the next T places; returns those of all places so far.

        What is returned are views of the cache: nothing is copied, and they are good until it is cut or reset. They
        have no history, so a cache is for writing and not for training.

        Raises ValueError or TypeError for what does not fit, before anything is stored.
        """
        k, v = floating(k), floating(v)
        self._check(k, v)
        ### BEGIN SOLUTION
        start = len(self)
        stop = start + k.shape[-2]
        self.keys[..., start:stop, :] = k.data
        self.values[..., start:stop, :] = v.data
        self.lengths[self.index] = stop
        return from_numpy(self.keys[..., :stop, :]), from_numpy(self.values[..., :stop, :])
        ### END SOLUTION

    def _check(self, k, v):
        who, held, behind = f"KVCache, layer {self.index}", len(self), min(self.lengths)
        N, heads, room, D = self.keys.shape
        for name, x in (("keys", k), ("values", v)):
            if x.ndim != 4 or x.shape != (N, heads, k.shape[2], D):
                raise ValueError(
                    f"{who}: needs {name} ({N}, {heads}, T, {D}), got {x.shape}; "
                    "a cache is for one model and one batch size, KVCache.for_model(model, batch_size)"
                )
            if x.dtype != self.keys.dtype:
                raise TypeError(f"{who}: needs {name} of {self.keys.dtype}, got {x.dtype}; say dtype= when it is made")
        if behind < held:
            raise ValueError(
                f"{who}: holds {held} places, layer {self.lengths.index(behind)} only {behind}; a pass was broken off "
                f"(then truncate({behind}) the cache), or the model has fewer layers than the cache"
            )
        if held + k.shape[2] > room:
            raise ValueError(
                f"{who}: has room for {room} places, holds {held}, got {k.shape[2]} more; "
                "make max_seq_len larger, or make room with truncate(length) or reset()"
            )


# %% nbgrader={"grade": false, "grade_id": "memoization-cache", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class KVCache:
    """The keys and values of everything a model has read so far, for each of its layers.

    batch_size               N, how many texts are read side by side
    max_seq_len              room for so many places; all memory is taken at once
    num_layers, num_heads    of the model
    head_dim                 its embed_dim / num_heads
    dtype                    of the model's numbers
    like                     an array of the kind to keep them in, NumPy's by default

    A sequence of `CacheLayer`: model(tokens, cache=cache) reads the tokens as those that follow what the cache holds,
    and leaves theirs in it. Reading more than there is room for raises ValueError and changes nothing.
    """

    def __init__(
        self,
        batch_size: int,
        max_seq_len: int,
        num_layers: int,
        num_heads: int,
        head_dim: int,
        dtype=np.float32,
        like=None,
    ):
        self.batch_size = _positive("KVCache", "batch_size", batch_size)
        self.max_seq_len = _positive("KVCache", "max_seq_len", max_seq_len)
        self.num_layers = _positive("KVCache", "num_layers", num_layers)
        self.num_heads = _positive("KVCache", "num_heads", num_heads)
        self.head_dim = _positive("KVCache", "head_dim", head_dim)
        self.dtype = np.dtype(dtype)
        if self.dtype.kind != "f":
            raise TypeError(f"KVCache needs a dtype of floats, got {self.dtype}")
        self.lengths = [0] * self.num_layers
        ### BEGIN SOLUTION
        shape = (self.num_layers, self.batch_size, self.num_heads, self.max_seq_len, self.head_dim)
        self.keys = np.empty(shape, self.dtype, like=like)
        self.values = np.empty(shape, self.dtype, like=like)
        pairs = zip(self.keys, self.values)
        self.layers = [CacheLayer(i, keys, values, self.lengths) for i, (keys, values) in enumerate(pairs)]
        ### END SOLUTION

    @classmethod
    def for_model(cls, model, batch_size: int = 1, max_seq_len: int | None = None) -> "KVCache":
        """An empty cache that fits a GPT; with room for as many places as it can read, unless said otherwise."""
        weight = model.parameters()[0].data
        room = model.max_seq_len if max_seq_len is None else max_seq_len
        head_dim = model.embed_dim // model.num_heads
        return cls(batch_size, room, model.num_layers, model.num_heads, head_dim, weight.dtype, like=weight)

    def __len__(self):
        return self.num_layers

    def __getitem__(self, index) -> CacheLayer:
        """The layer number `index`; how many places it holds is its `len`."""
        if not -self.num_layers <= index < self.num_layers:
            raise IndexError(
                f"KVCache has {self.num_layers} layers, got asked for layer {index}; "
                "does the model have more? KVCache.for_model(model) fits"
            )
        return self.layers[index]

    @property
    def position(self) -> int:
        """How many places all layers hold; the next token is read at this place."""
        return min(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of memory taken, from the start and however many places are in use."""
        return self.keys.nbytes + self.values.nbytes

    def truncate(self, length: int):
        """Forget all places but the first `length`. What was stored stays where it is and is written over."""
        if isinstance(length, bool) or not isinstance(length, (int, np.integer)):
            raise TypeError(f"KVCache.truncate needs an integer length, got {length!r}")
        if not 0 <= length <= self.position:
            raise ValueError(f"KVCache.truncate needs a length from 0 to the {self.position} places held, got {length}")
        ### BEGIN SOLUTION
        self.lengths[:] = [int(length)] * self.num_layers
        ### END SOLUTION

    def reset(self):
        """Forget everything, for another text in the same memory."""
        ### BEGIN SOLUTION
        self.truncate(0)
        ### END SOLUTION

    def __repr__(self):
        names = ("batch_size", "max_seq_len", "num_layers", "num_heads", "head_dim", "dtype", "position")
        return f"KVCache({', '.join(f'{name}={getattr(self, name)}' for name in names)})"


# %% nbgrader={"grade": false, "grade_id": "memoization-prefix", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def shared_prefix(a, b) -> int:
    """How many places two batches of texts, arrays (N, S) and (N, T), begin with alike, in every row."""
    ### BEGIN SOLUTION
    shorter = min(a.shape[1], b.shape[1])
    differs = (a[:, :shorter] != b[:, :shorter]).any(axis=0)
    return int(differs.argmax()) if differs.any() else shorter
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "memoization-features", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class Memoized:
    """A language model that remembers the text it read last, and reads of the next one only what is new.

    model   a GPT
    cache   a KVCache for it, from now on this object's own; for one text and all places of the model by default

    `generate` and `stream` give what the model's own give, and keep what they have read for the next call: a text that
    goes on where the last one ended, or begins as it did, is read from there on. Past the model's max_seq_len the
    window moves with every token, and with it the place of all others: nothing can be kept, and all is read anew.

    Call cache.reset() after the model's weights have changed.
    """

    def __init__(self, model, cache: KVCache | None = None):
        cache = KVCache.for_model(model) if cache is None else cache
        needs = model.num_layers, model.num_heads, model.embed_dim // model.num_heads
        has = cache.num_layers, cache.num_heads, cache.head_dim
        if needs != has:
            raise ValueError(
                "Memoized: a model of {} layers with {} heads of {} needs a cache for as many, "
                "got one for {} layers with {} heads of {}; KVCache.for_model(model) fits".format(*needs, *has)
            )
        self.model = model
        self.cache = cache
        self.vocab_size = model.vocab_size
        self.max_seq_len = model.max_seq_len
        self.tokens = np.empty((cache.batch_size, 0), np.intp)
        cache.reset()

    def modules(self):
        """The model's."""
        return self.model.modules()

    def head(self, x: Tensor) -> Tensor:
        """The model's."""
        return self.model.head(x)

    def features(self, tokens) -> Tensor:
        """What the model's `features` give for the last places of a text (N, T), those that had to be read.

        Always the last one, even of a text that was read before.
        """
        tokens = _token_array("Memoized", tokens, self.vocab_size)
        if tokens.ndim != 2 or len(tokens) != self.cache.batch_size or not tokens.size:
            raise ValueError(
                f"Memoized: the cache is for texts ({self.cache.batch_size}, T), T of at least 1, got {tokens.shape}; "
                "make one for this batch, KVCache.for_model(model, batch_size)"
            )
        ### BEGIN SOLUTION
        known = min(shared_prefix(self.tokens, tokens), self.cache.position, tokens.shape[1] - 1)
        self.cache.truncate(known)
        self.tokens = tokens[:, :known]  # should reading fail, this much is still true
        x = self.model.features(tokens[:, known:], self.cache)
        self.tokens = tokens
        return x
        ### END SOLUTION

    def stream(
        self,
        prompt,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop=None,
        rng=None,
    ):
        """The tokens that follow the prompt, one by one as they are found. See `sampling.stream`.

        Raises ValueError, before anything is read, if the cache is for another batch size or has not enough room.
        """
        found = stream(self, prompt, max_new_tokens, temperature, top_k, top_p, stop, rng, use_cache=False)
        N, T = _prompts(prompt, self.vocab_size).shape
        places = min(T + max(max_new_tokens - 1, 0), self.max_seq_len)  # the last token is found and not read
        if self.cache.batch_size != N:
            raise ValueError(
                f"Memoized: the cache is for {self.cache.batch_size} texts at a time, got {N}; "
                "make one for this batch, KVCache.for_model(model, batch_size)"
            )
        if places > self.cache.max_seq_len:
            raise ValueError(
                f"Memoized: {T} tokens and {max_new_tokens} new ones need {places} places, "
                f"the cache has {self.cache.max_seq_len}; make max_seq_len larger, or ask for fewer tokens"
            )
        return found

    def generate(
        self,
        prompt,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop=None,
        rng=None,
    ):
        """The prompt and what follows it, in the form of the prompt: list, array or tensor. See `stream`."""
        self.stream(prompt, max_new_tokens, temperature, top_k, top_p, stop, rng)  # checks, and reads nothing
        return generate(self, prompt, max_new_tokens, temperature, top_k, top_p, stop, rng, use_cache=False)

    def __repr__(self):
        return f"Memoized({type(self.model).__name__}, {self.cache})"
