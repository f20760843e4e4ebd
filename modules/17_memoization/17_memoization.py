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

| | |
|---|---|
| **You have** | attention, and a GPT that writes one token after the other (modules 12 and 13) |
| **You will build** | a cache for keys and values with room for every layer, that can be cut and used again; and a model that remembers what it has read, from one call to the next |
| **You will be able to** | say which numbers of a transformer change when a token is added and which never do, what keeping them costs in bytes for any model, why writing gets no slower as the text grows, and when a memory has to be thrown away |

Needs modules 01 to 13. Exports `generation/kv_cache.py`. Easy; about two hours.

```
                                         keys and values of the places before
                                         +-----+-----+-----+-----+ . . . . +
   new token ---> q, k, v ---- k, v ---> | the | cat | sat | on  |  room   |    one such row of shelves per layer
                  |                      +-----+-----+-----+-----+ . . . . +
                  q ------------ asks them all ---------------^
                  |
                  +---> one new row of the answer ---> next layer ---> ... ---> next token
```

A model that writes 500 tokens the plain way reads the first one 500 times and computes the same numbers for it every
time. Module 13 has a small cache that avoids this, and says little about it. This lesson takes it apart: why it is
exact and no approximation, what it costs, and what else it is good for.
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

# %%
import functools
import time
import tracemalloc

import matplotlib.pyplot as plt

from tinytorch.core.attention import scaled_dot_product_attention
from tinytorch.core.autograd import no_grad
from tinytorch.core.tensor import randn
from tinytorch.models.transformer import GPT

np.set_printoptions(precision=3, suppress=True)

# %% [markdown]
"""
## Remember what you have worked out

Each Fibonacci number is the sum of the two before it: 0, 1, 1, 2, 3, 5, 8, ... Written down as it is said, the function
calls itself twice. How many calls does the 20th number take? For the 5th you can draw them all:

```
                       5
               4               3
           3       2         2     1
         2   1   1   0     1   0
        1 0
```

Fifteen calls; the tree below 3 is there twice, the tree below 2 three times. The tree for n holds the trees for n - 1
and n - 2, so the calls grow as the numbers themselves do.
"""


# %%
calls = 0


def fibonacci(n):
    global calls
    calls += 1
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


for n in (5, 10, 15, 20):
    calls = 0
    print(f"fibonacci({n}) = {fibonacci(n):5}   after {calls:6,} calls")

# %% [markdown]
"""
Most of them ask what was answered before. So write the answers down in a dictionary, and look there first. That is
memoization: the memo is the dictionary.
"""


# %%
def memoize(function):
    """A function that asks `function` once for each argument, and remembers what it said."""
    known = {}

    @functools.wraps(function)
    def remembering(argument):
        if argument not in known:
            known[argument] = function(argument)
        return known[argument]

    remembering.known = known
    return remembering


fibonacci = memoize(fibonacci)  # the calls inside go through this name, so they are remembered too
for n in (20, 200):
    calls = 0
    answer = fibonacci(n)
    print(f"fibonacci({n}) = {answer:,}   after {calls:3} more calls, {len(fibonacci.known)} answers kept")

# %% [markdown]
"""
Python has it ready, as `functools.cache` and, with a limit to how much is kept, `functools.lru_cache(maxsize=...)`: when
it is full, the answer that nobody has asked for the longest makes way. A tokenizer is a good place for one: merging the
bytes of a word is hard work (module 10), and a text says the same words again and again.

Before you put a memo in front of anything, ask three questions. They are the plan of this lesson.

1. **What is the key?** The answer must depend on the key and on nothing else.
2. **What does it cost?** Time is bought with memory. Where nobody asks twice, the memo is a leak.
3. **When does it become wrong?** If anything but the key changes the answer, old answers lie, and no error says so.

The third is the hard one. Here is what it looks like:
"""

# %%
rate = 0.1
price = memoize(lambda steps: round(100 * (1 + rate) ** steps, 2))
first = price(10)
rate = 0.2
print(f"at rate 0.1: {first}   at rate 0.2, from the memo: {price(10)}   the truth: {round(100 * 1.2**10, 2)}")

# %% [markdown]
"""
For a language model the hidden rate is its weights. What is the key?

## Which numbers are new?

A model has read "the cat" and now reads "the cat sat". Which of all the numbers inside it are new? Take one head of
attention with two columns, and for the three tokens these queries, keys and values:

```
            q         k         v                scores q . k / sqrt(2), and who may look at whom
   the    (1, 0)    (1, 0)    (4, 0)                    the     cat     sat
   cat    (0, 1)    (0, 1)    (0, 4)             the    0.71     -       -
   sat    (1, 1)    (1, 1)    (4, 4)             cat    0       0.71     -
                                                 sat    0.71    0.71    1.41     <-- the only new row
```

A query never looks ahead, so the rows of "the" and "cat" have no place for the third token: nothing in them can change.
What does the last row need? Its own query, and the keys and values of *all* places. So of the old tokens the keys and
the values are needed again, and the queries never. That is why it is called a KV cache.
"""

# %%
q = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
k = q.copy()
v = 4 * q
for length in (1, 2, 3):
    answer, weights = scaled_dot_product_attention(q[:length], k[:length], v[:length], causal=True)
    print(f"{length} token{'s' if length > 1 else ' '}   answers", *answer.data)

last, _ = scaled_dot_product_attention(q[2:], k, v)
print("the last query alone, against all keys:", *last.data)

# %% [markdown]
"""
Read the lines downwards: every answer stays what it was when its token came. The last query alone gives the last
answer.

That was one layer. The second one computes its keys and values from the answers of the first, and these stay what they
were; so the second layer's keys and values stay as well, and so on to the top. The MLPs and the norms work on each
place by itself. So this holds for the whole model: **what stands at a place depends on the tokens up to there and on
nothing that comes later.** There is the key of our memo: the beginning of the text, up to and including the token.

Is that so of our GPT? Read 12 tokens, then the same 12 and one more.
"""

# %%
gpt = GPT(vocab_size=256, embed_dim=128, num_layers=4, num_heads=4, max_seq_len=512, rng=0).eval()
text = np.random.default_rng(0).integers(0, 256, (1, 512))
with no_grad():
    short, longer = gpt.features(text[:, :12]).data, gpt.features(text[:, :13]).data
    swapped = gpt.features(np.roll(text[:, :13], 1)).data
print(f"a token added at the end:   the first 12 places move by {np.abs(longer[:, :12] - short).max():.1e}")
print(f"the last one put in front:  all places move by at least {np.abs(swapped - longer).max(axis=-1).min():.2f}")

# %% [markdown]
"""
The first number is 0 or next to it: a matrix product of 13 rows may add up in another order than one of 12, and round
differently. Nothing else happens to the old places.

A token put in *front* is another matter. Every place after it has another beginning, and stands one further to the
right besides. A key that stays the same makes the memo; this one has changed everywhere.

What goes wrong in practice: a model in which places look both ways, as BERT's do, has no such key. One more token
changes every number in it, and there is nothing to cache.

## Writing, twice

First the naive loop, as anybody would write it: read everything, take the likeliest token, and start over.
"""


# %%
def write_naively(model, tokens, count):
    """`count` more tokens, the likeliest each time. Every token is read again for each."""
    for _ in range(count):
        logits = model([tokens]).data[0, -1]
        tokens = [*tokens, int(logits.argmax())]
    return tokens


class GrowingCache:
    """Keys and values of one layer, the simplest way: new ones are joined to the old in a new array."""

    def __init__(self):
        self.k = self.v = None

    def __len__(self):
        return 0 if self.k is None else self.k.shape[-2]

    def append(self, k, v):
        k, v = k.data, v.data
        if self.k is not None:
            k, v = np.concatenate([self.k, k], axis=-2), np.concatenate([self.v, v], axis=-2)
        self.k, self.v = k, v
        return from_numpy(k), from_numpy(v)


def write_with(cache, model, tokens, count):
    """The same tokens; each is read once, and what the layers need of it later stays in the cache."""
    unread = tokens
    for _ in range(count):
        logits = model([unread], cache=cache).data[0, -1]
        unread = [int(logits.argmax())]
        tokens = [*tokens, *unread]
    return tokens


prompt = text[0, :5].tolist()
with no_grad():
    naive = write_naively(gpt, prompt, 40)
    cached = write_with([GrowingCache() for _ in gpt.blocks], gpt, prompt, 40)
print(naive == cached, naive[:12], "...")
print(f"read without a cache: {sum(range(5, 45))} tokens, with one: {5 + 39}")

# %% [markdown]
"""
The loop hands the model only what it has not read. The first time that is the whole prompt, and then always one token.
The model asks the cache of its first layer for its `len` to know at which place the new tokens stand; attention calls
`append` with the new keys and values and goes on with all of them.

Two things can go wrong here without any error. If the place started at 0 again for each piece, every token would get
the position vector of the first. And if several tokens are read at once, they must not look ahead *among themselves*,
while all of them see everything before:

```
                     held by the cache      new
                     the  cat  sat      on   the  mat
              on      x    x    x       x                   the triangle stands at the right end:
              the     x    x    x       x    x              query t is place `held + t`
              mat     x    x    x       x    x    x
```

`causal=True` in module 12 takes the queries for the *last* places of the text, which is this picture.

## Shelves instead of a growing pile

`GrowingCache` is right, and copies all it holds for every token. For T tokens that is 1 + 2 + ... + T, about T^2 / 2
places copied: we wanted to get rid of a square and built another one. And for a moment old and new are both there, so
it needs twice the memory just when there is most of it.

We know better than that: a model reads at most `max_seq_len` places. So take the memory once, for all of them, and let
every token be written into its place. What is held so far is a *slice* of that, and a slice of an array is a view,
which costs nothing.

How much memory is it? For every text, place, layer and head, a key and a value of `head_dim` numbers each. A model of 2
layers with 2 heads of 4 columns, for one text of 3 places: `2 * 1 * 3 * 2 * 2 * 4 = 96` numbers, 384 bytes in float32.

**Write `cache_bytes`.** `cache_bytes(1, 3, 2, 2, 4)` is 384, and with `dtype=np.float16` half of that.

<details><summary>Hint 1</summary>

It is a product of all sizes and one small number more. Which, and why?
</details>
<details><summary>Hint 2</summary>

Two: keys and values.
</details>
<details><summary>Hint 3</summary>

`np.dtype(np.float16).itemsize` is 2, the bytes of one number.
</details>
"""


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


# %%
models = {  # layers, heads, columns of a head, places, parameters
    "this lesson's": (4, 4, 32, 512, sum(p.size for p in gpt.parameters())),
    "GPT-2 small": (12, 12, 64, 1024, 124e6),
    "GPT-2 XL": (48, 25, 64, 1024, 1.56e9),
    "GPT-3": (96, 96, 128, 2048, 175e9),
}
print("float32           a token     one whole text    32 whole texts    the weights")
for name, (layers, heads, D, T, weights) in models.items():
    token, one, many = (cache_bytes(N, S, layers, heads, D) for N, S in ((1, 1), (1, T), (32, T)))
    print(
        f"{name:14} {token / 1e3:7,.0f} KB {one / 1e6:14,.1f} MB {many / 1e9:14,.2f} GB {4 * weights / 1e9:12,.3f} GB"
    )

# %% [markdown]
"""
Nothing in it depends on the vocabulary or on the MLPs, and every text needs its own. Compare the last two columns: with
a few dozen readers the cache is as large as the model, and it is what limits how many can be served at a time.

## One layer

**Write `append`.** The checks are given. What is left: where do the new places begin and end? Write the new keys and
values there, note how many places are held now, and return the keys and the values of all of them, as tensors that
share the memory of the cache (`from_numpy` boxes an array without copying it).

With room for 3 places, one text, one head and one column: append the key 5, and what comes back has shape `(1, 1, 1,
1)`. Append 6 and 7 at once, and back come 5, 6, 7 in shape `(1, 1, 3, 1)`; `len` is 3.

<details><summary>Hint 1</summary>

Before anything is written, `len` of this layer is the place of the first new token. The number of new places is the
length of the axis before the last.
</details>
<details><summary>Hint 2</summary>

`array[..., 2:5, :] = x` writes three places of all texts and heads at once. `self.lengths` is a list that belongs to
the whole cache: change the entry of this layer, `self.index`.
</details>
<details><summary>Hint 3</summary>

Four statements besides the two bounds: write keys, write values, note the upper bound as the new length, return the two
slices from 0 up to it. Reading `len` again after noting it gives the upper bound, not the lower one.
</details>
"""


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


# %% [markdown]
"""
Look at what `_check` refuses, and why all of it is refused *before* the first number is written. Shapes: NumPy would
broadcast a batch of one text into the places of two without a word. Room: a slice past the end is cut off in silence,
`array[7:9]` of 8 places takes one token of two. And a layer that is ahead of another: if you interrupt a pass through
the model, the lower layers have noted tokens that the upper ones never saw.

## All layers

**Write the two missing pieces of `KVCache`.** In `__init__`: one array for all keys and one for all values,
of shape `(layers, N, heads, S, D)`, and the list `self.layers` with a `CacheLayer` for each, which gets *its part* of
both arrays and the list `self.lengths` that all share. In `truncate`: make every layer forget all places but the first
`length`.

`KVCache(batch_size=1, max_seq_len=3, num_layers=2, num_heads=2, head_dim=4).nbytes` is the 384 from above, and its
`[1].keys.shape` is `(1, 2, 3, 4)`.

<details><summary>Hint 1</summary>

`np.empty(shape, self.dtype, like=like)` takes memory without writing to it. Going through an array with `for` goes
along its first axis, and what it yields are views.
</details>
<details><summary>Hint 2</summary>

`zip` of the two arrays gives for each layer its keys and its values; `enumerate` of that gives its number as well.
</details>
<details><summary>Hint 3</summary>

To forget, nothing has to be erased: what lies beyond the length means nothing and will be written over. But the layers
hold the *list*, so change what is in it, with `self.lengths[:] = ...`; a new list under the old name would be known to
the cache alone.
</details>
"""


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
        attention = model.blocks[0].attention  # structured pruning takes heads away, equally many from every block
        heads = attention.num_heads, attention.head_dim
        return cls(batch_size, room, model.num_layers, *heads, weight.dtype, like=weight)

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
        self.truncate(0)

    def __repr__(self):
        names = ("batch_size", "max_seq_len", "num_layers", "num_heads", "head_dim", "dtype", "position")
        return f"KVCache({', '.join(f'{name}={getattr(self, name)}' for name in names)})"


# %% [markdown]
"""
`gpt(tokens, cache=cache)` takes it as it took the list of growing ones. Is it the same, in pieces of any size, for a
batch, and in both precisions? Then the next 40 tokens once more.
"""


# %%
def furthest(model, tokens, cuts):
    """How far the logits of a text in pieces are from those of the whole text."""
    cache = KVCache.for_model(model, len(tokens))
    with no_grad():
        parts = [model(piece, cache=cache).data for piece in np.split(tokens, cuts, axis=1)]
        return np.abs(np.concatenate(parts, axis=1) - model(tokens).data).max()


exact = GPT(256, 128, 4, 4, 64, rng=0)
for p in exact.parameters():
    p.data = p.data.astype(np.float64)
three = np.random.default_rng(1).integers(0, 256, (3, 64))
for name, cuts in {"one by one": range(1, 64), "40, then one by one": range(40, 64), "7, 30, 27": [7, 37]}.items():
    print(f"{name:20} float32 {furthest(gpt, three, cuts):.0e}   float64 {furthest(exact, three, cuts):.0e}")

cache = KVCache.for_model(gpt)
with no_grad():
    print(write_with(cache, gpt, prompt, 40) == naive)
print(cache)
print(f"{cache.nbytes:,} bytes, as the formula says: {cache_bytes(1, 512, 4, 4, 32):,}")

# %% [markdown]
"""
And what did the shelves save? The keys and values of one layer of GPT-2's size, 12 heads of 64 columns, token by token,
in an array that grows and in one that was there from the start:
"""


# %%
def fill(make_cache, count):
    """Append `count` tokens; seconds taken, and the most memory that was held at a time."""
    k, v = randn(1, 12, 1, 64, rng=0), randn(1, 12, 1, 64, rng=1)
    tracemalloc.start()
    start = time.perf_counter()
    cache = make_cache()
    for _ in range(count):
        cache.append(k, v)
    seconds, peak = time.perf_counter() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return 1e3 * seconds, peak / 1e6


print("tokens         growing                on shelves")
for count in (128, 256, 512, 1024):
    growing, shelves = fill(GrowingCache, count), fill(lambda count=count: KVCache(1, count, 1, 12, 64)[0], count)
    print("{:6} {:9.1f} ms {:5.1f} MB {:9.1f} ms {:5.1f} MB".format(count, *growing, *shelves))

# %% [markdown]
"""
With twice the tokens the shelves take twice as long. The growing one soon takes four times as long and more, and at its
peak it holds everything twice.

## Time per token

Now the question that all of this is for. How long does the next token take, when 1, 32, ..., 511 stand before it? With a
cache that holds them, one token is read; without one, all of them and it. `truncate` is what lets us measure the same
token again and again.
"""


# %%
def fastest(function, repeats=5):
    """Seconds of the fastest run: the others were disturbed by something."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


lengths = np.array([1, 32, 64, 128, 192, 256, 320, 384, 448, 512])
with_cache, without = [], []
with no_grad():
    for T in lengths:
        cache.reset()
        if T > 1:
            gpt.features(text[:, : T - 1], cache)

        def one_token(T=T):
            cache.truncate(T - 1)
            gpt.head(gpt.features(text[:, T - 1 : T], cache)[:, -1])

        def whole_text(T=T):
            gpt.head(gpt.features(text[:, :T])[:, -1])

        with_cache.append(fastest(one_token, 15))
        without.append(fastest(whole_text, 3))

print("place     without        with")
for T, slow, fast in zip(lengths, without, with_cache):
    print(f"{T:5} {1e3 * slow:8.2f} ms {1e3 * fast:8.2f} ms   {slow / fast:5.1f} times as fast")

figure, axis = plt.subplots(figsize=(6, 3.5), layout="constrained")
axis.plot(lengths, 1e3 * np.array(without), marker=".", label="everything read again")
axis.plot(lengths, 1e3 * np.array(with_cache), marker=".", label="with a KV cache")
axis.set(xlabel="place of the token", ylabel="milliseconds for it", ylim=(0, None))
axis.legend()
plt.show()

# %% [markdown]
"""
One line climbs, the other is nearly flat. Nearly: the new query still has to look at all the keys. Count the
multiplications and additions for one token at place T, in a model of L layers of width E: 24 L E^2 for the matrices of
attention and MLP (2 * 12 E^2 per layer), and 4 L E T for the scores and the weighted mean. Without a cache, the first
of them for all T places, and the second as well.

What does a whole text of 512 cost? With the cache we simply write one. Without, the curve above is added up from place 1
to 512, which is what the naive loop would take (it takes that long; try it).
"""

# %%
L, E = gpt.num_layers, gpt.embed_dim
print("place   operations without        with   of these for looking back")
for T in (1, 64, 512):
    matrices, looking = 24 * L * E * E, 4 * L * E * T
    print(
        f"{T:5} {T * (matrices + looking) / 1e6:16.1f} M {(matrices + looking) / 1e6:10.2f} M {looking / 1e6:13.2f} M"
    )

slow = np.interp(np.arange(1, 513), lengths, without).sum()
fast = fastest(lambda: gpt.generate([1], 512, rng=0), 2)
print(f"512 tokens: {slow:.2f} s without, {fast:.2f} s with a cache, {slow / fast:.0f} times as fast")

# %% [markdown]
"""
## A prompt at once

A prompt is known from its beginning. It could be read token by token into the cache, and the arithmetic would be the
same as for all at once. Is the time?
"""

# %%
with no_grad():

    def at_once():
        cache.reset()
        gpt.features(text[:, :256], cache)

    def one_by_one():
        cache.reset()
        for t in range(256):
            gpt.features(text[:, t : t + 1], cache)

    print(f"256 tokens one by one {1e3 * fastest(one_by_one, 2):6.1f} ms, at once {1e3 * fastest(at_once, 3):6.1f} ms")

    print("texts side by side     time for a token of each     tokens per second       cache")
    for N in (1, 4, 16, 64):
        many = KVCache.for_model(gpt, N, max_seq_len=65)
        gpt.features(np.tile(text[:, :64], (N, 1)), many)

        def next_of_each(N=N, many=many):
            many.truncate(64)
            gpt.head(gpt.features(np.tile(text[:, 64:65], (N, 1)), many)[:, -1])

        seconds = fastest(next_of_each, 5)
        print(f"{N:18} {1e3 * seconds:25.2f} ms {N / seconds:21,.0f} {many.nbytes / 1e6:8.1f} MB")

# %% [markdown]
"""
Both tables say the same thing. A single token uses every weight once: all weights are fetched from memory, each for
one multiplication. With 256 places, or 64 texts, each weight that was fetched is used 256 or 64 times (and, in our
case, Python's own overhead is paid once for all), until it is the arithmetic that takes the time. So those who serve a
model read prompts at once, and let many texts be written side by side, as many as their caches leave room for.

## A model that remembers

`truncate` is good for more than measuring. Three endings for one sentence, a question put in two ways, a talk that goes
on: the beginning is the same, so read it once, then one end, take that back, and read the next.

But so far *we* keep the books: what has been read, what is new, how much to take back. That is work for a machine, and
if it is done wrong, there is no error, only another text. The key of our memo is the beginning of a text. So let an
object keep the tokens it has read beside their keys and values, compare them with the next text, and read from the
first difference on. It needs one function and one method.

```
   read last     the  cat  sat  on   the  mat
   asked for     the  cat  sat  by   the  door
                 ---- known ---   ^-- from here on: cut the cache to 3 places, read 3 tokens
```

**Write `shared_prefix`**: in how many places do two batches of texts begin alike? A batch is read side by side, so the
first place where *any* row differs ends it. One batch may be longer than the other.

For `[[1, 2, 3]]` and `[[1, 2, 9, 3]]` it is 2; for `[[1, 2], [5, 6]]` and `[[1, 2, 3], [5, 7, 8]]` it is 1; for `[[1,
2]]` and `[[1, 2, 3]]` it is 2.

<details><summary>Hint 1</summary>

Cut both to the length of the shorter one and compare: an array of booleans. Then `any` over the rows says for each
place whether it differs.
</details>
<details><summary>Hint 2</summary>

`argmax` of booleans is the place of the first True.
</details>
<details><summary>Hint 3</summary>

If there is no True at all, `argmax` says 0, which would mean that nothing is shared. What is right then?
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "memoization-prefix", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def shared_prefix(a, b) -> int:
    """How many places two batches of texts, arrays (N, S) and (N, T), begin with alike, in every row."""
    ### BEGIN SOLUTION
    shorter = min(a.shape[1], b.shape[1])
    differs = (a[:, :shorter] != b[:, :shorter]).any(axis=0)
    return int(differs.argmax()) if differs.any() else shorter
    ### END SOLUTION


# %% [markdown]
"""
**Write `features`**: how many of the places of this text are in the cache already? As many as the text shares with the
one that was read last; not more than the cache holds, for somebody may have reset it; and never all of them, because
the last place has to be read to have an answer. Cut the cache to these, note the text, and let the model read the rest.

After `[[3, 1, 4]]`, the text `[[3, 1, 4, 1]]` makes the model read one token, and `[[3, 1, 5, 9]]` after that two.

<details><summary>Hint 1</summary>

`min` of three numbers: `shared_prefix` of the tokens that are noted and the new ones, `self.cache.position`, and one
less than the length of the text.
</details>
<details><summary>Hint 2</summary>

The model's own `features` takes the tokens to read and a cache, and goes on from the place where the cache ends.
</details>
<details><summary>Hint 3</summary>

Note the *whole* text, and do it before the model reads: if the reading is interrupted, the cache has not moved on in
all layers, `position` says so, and the note does no harm. The other way round, an interruption at the very end would
leave the old text noted above the keys of the new one.
</details>
"""


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
        self.tokens = tokens
        return self.model.features(tokens[:, known:], self.cache)
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


# %% [markdown]
"""
Note how little had to be done for `generate`: module 13's own works with anything that has `features` and `head`. It
hands over the whole text for each token, as if there were no cache, and `features` reads the one token that is new.

Here is a conversation: someone writes 30 tokens, the model answers with 30, and so on. Without a memory between the
calls, each answer begins with reading everything that was said so far.
"""


# %%
def converse(writer, turns=6):
    """What was said in some turns; prints how many tokens were read in each."""
    said, rng = [], np.random.default_rng(2)
    for turn in range(turns):
        said = [*said, *rng.integers(0, 256, 30).tolist()]
        said = writer.generate(said, 30, rng=turn)
        print(f"{sum(read):5}", end="")
        read.clear()
    print("  tokens read in each turn")
    return said


read = []
handle = gpt.norm.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
plain, remembered = converse(gpt), converse(Memoized(gpt))
handle.remove()
print("the same text:", plain == remembered)

# %% [markdown]
"""
The first line grows with every turn, although module 13's cache works within each. The second does not: 30 new tokens,
29 of its own, and the one that it found last in the turn before and had not read.

### Past the end

The model knows 512 places. After that, module 13 lets the window move: the oldest token drops out, and every other one
moves a place to the left. So no text begins as the one before, the key changes at its first place, and all is read again
for every token. `Memoized` needs no special case for that, because it compares:
"""

# %%
small = GPT(256, 32, 2, 4, max_seq_len=16, rng=0)
handle = small.norm.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
memo = Memoized(small)
after = memo.generate(prompt, 18, rng=0)
print("read for each token:", read)
handle.remove()
print("the same text:", after == small.generate(prompt, 18, rng=0, use_cache=False))

cache = KVCache.for_model(small, max_seq_len=10)
with no_grad():
    small(text[:, :8], cache=cache)
    try:
        small(text[:, 8:12], cache=cache)
    except ValueError as error:
        print(error)
print("nothing has changed:", cache.position)

# %% [markdown]
"""
A plain `KVCache` that is full says so before it stores anything, and whoever owns it decides: a larger one, a shorter
text, or a new start. Writing on at place 0, over the oldest keys, would go without an error; the new token would stand
at a place that the model takes for another.

### When it becomes wrong

The third question. What is in the cache came from the weights as they were. Train the model for one step, and the keys
of the old text are those of another model:
"""

# %%
memo = Memoized(small)
memo.features(text[:, :8])
for p in small.parameters():
    p.data = p.data * np.float32(1.5)  # as if trained
stale = memo.features(text[:, :9]).data[:, -1]
memo.cache.reset()
fresh = memo.features(text[:, :9]).data[:, -1]
true = small.features(text[:, :9]).data[:, -1]
print(f"from old keys: off by {np.abs(stale - true).max():.2f}; after cache.reset(): {np.abs(fresh - true).max():.0e}")

# %% [markdown]
"""
## All together

The checks of this lesson in one cell.
"""

# %%
# One layer, by hand.
layer = KVCache(1, 3, 1, 1, 1)[0]
layer.append(*(from_numpy(np.full((1, 1, 1, 1), x, np.float32)) for x in (5, 50)))
ks, vs = layer.append(*(from_numpy(np.array(x, np.float32).reshape(1, 1, 2, 1)) for x in ([6, 7], [60, 70])))
assert ks.data.ravel().tolist() == [5, 6, 7]
assert vs.data.ravel().tolist() == [50, 60, 70]
assert len(layer) == 3

# Bytes: the formula is what is held.
assert cache_bytes(1, 3, 2, 2, 4) == KVCache(1, 3, 2, 2, 4).nbytes == 384

# With and without, to the last digits of float64, in pieces of any size.
for cuts in ([1, 2, 3], range(1, 20), [13]):
    assert furthest(exact, three[:, :20], cuts) < 1e-12

# Taken back and written anew.
cache = KVCache.for_model(exact)
with no_grad():
    exact(three[:1, :20], cache=cache)
    cache.truncate(9)
    again = exact(three[1:2, :6], cache=cache).data
    both = np.concatenate([three[:1, :9], three[1:2, :6]], axis=1)
    assert np.abs(again - exact(both).data[:, 9:]).max() < 1e-12
assert cache.position == 15

# Prefixes.
assert shared_prefix(np.array([[1, 2, 3]]), np.array([[1, 2, 9, 3]])) == 2
assert shared_prefix(np.array([[1, 2], [5, 6]]), np.array([[1, 2, 3], [5, 7, 8]])) == 1
assert shared_prefix(np.array([[1, 2]]), np.array([[1, 2, 3]])) == 2

# The same tokens as the model's own, greedy and drawn, within its places and past them, one text after the other.
memo = Memoized(small)
for seed, temperature in enumerate((0, 1.0, 0.5)):
    for count in (3, 11, 25):
        want = small.generate(prompt, count, temperature, rng=seed, use_cache=False)
        assert memo.generate(prompt, count, temperature, rng=seed) == want

# What must be refused.
for wrong in (
    lambda: KVCache(1, 4, 2, 4, 8).truncate(1),
    lambda: KVCache(2, 4, 2, 4, 8)[0].append(randn(1, 4, 1, 8), randn(1, 4, 1, 8)),
    lambda: Memoized(small, KVCache(1, 16, 3, 4, 8)),
    lambda: Memoized(small, KVCache.for_model(small, max_seq_len=8)).generate(prompt, 10),
):
    try:
        wrong()
    except ValueError as error:
        print(error)

# %% [markdown]
"""
## Questions

**1.** GPT-3 in half precision (2 bytes a number): how many bytes does the cache of one full text of 2,048 tokens take?
A server has 640 GB of fast memory, and the weights are in half precision as well. How many such texts can it write side
by side?

<details><summary>Answer</summary>

2 * 96 layers * 96 heads * 128 columns * 2 bytes = 4.7 MB a token, 9.7 GB for 2,048. The weights are 175e9 * 2 = 350 GB,
which leaves 290 GB: 30 texts. Later models let several heads share one key and value (grouped queries): with 8 pairs
instead of 96 a text takes a twelfth, and 360 fit.
</details>

**2.** Past the end the window moves, and everything is read again because places are told by their number. Suppose
the places were told by rotary embeddings, where only distances count. Could the cache then drop its oldest place and
keep the others?

<details><summary>Answer</summary>

In the first layer, yes: its keys depend on the token and on the turn, and turned keys keep their distances. In the
second layer the keys were computed from answers that had looked at the place which is gone. Reading the shorter text
from scratch gives other numbers. Many programs drop it all the same, because it is cheap and reads well; but it is
another model than the one that reads the window anew, and a test for equality would say so.
</details>

**3.** A thousand users begin their talks with the same instruction of 1,000 tokens and add 50 of their own. How many
tokens are read with a cache for each user, and how many if the beginning is shared? What does the sharing need from the
memory?

<details><summary>Answer</summary>

1,050,000, and 1,000 + 50,000: a twentieth. The keys of the beginning are the same numbers for all, and nobody writes to
them. So it is enough to have them once, if the memory is not one long array per text but pages which several texts can
point to, as an operating system does with the pages of programs. (Kwon et al. 2023 build exactly this.) It also ends the
waste of our shelves: we take room for `max_seq_len` places, however short the text turns out to be.
</details>

**4.** Without a cache, writing T tokens takes 24 L E^2 * T^2 / 2 operations for the matrices alone. With one it takes
24 L E^2 * T. For GPT-3 and T = 2,048: how many are these, and how long do they take at 1e14 operations a second? Then:
each token has to fetch 350 GB of weights at 2e12 bytes a second. Which of the two limits the writing with a cache?

<details><summary>Answer</summary>

24 * 96 * 12,288^2 = 3.5e11 for a token. Without: 3.5e11 * 2,048^2 / 2 = 7.3e17, two hours. With: 7.1e14, 7 seconds.
Fetching: 350e9 / 2e12 = 0.175 s for a token, 358 s for the text. So the arithmetic of a single text hardly matters; the
weights travel fifty times longer than they are used. With 50 texts side by side the two are in balance, if their caches
fit, and there the first question comes back.
</details>
"""
