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
# 11 · Embeddings: a vector for every token, and for its place

| | |
|---|---|
| **You have** | tensors, layers, gradients, optimizers (modules 01 to 08), and a tokenizer that turns text into whole numbers (module 10) |
| **You will build** | the lookup and its gradient; `Embedding`; places that are learned, made of sines, or turned; `EmbeddingLayer`, which is what a transformer reads |
| **You will be able to** | say where the gradient of a lookup goes and make it fast, choose how a model learns about order, and work out what a vocabulary costs before you pay for it |

Needs modules 01 to 05 in the code; 06 to train, 10 for real text. Exports `text/embeddings.py`. Medium; about four hours.

```
   text          "the cat sat"
                   |  module 10
   tokens        [ 4    7    2 ]           whole numbers: names, not quantities
                   |    |    |
   table (V, E)   row 4 row 7 row 2        one learned vector per token           Embedding
                   +    +    +
   places         row 0 row 1 row 2        one vector per place                   PositionalEncoding, sines
                   |    |    |
   vectors       (T, E) floats             what attention takes (module 12)       EmbeddingLayer
```

A network multiplies and adds; a token is a name. The step in between is a table, and it raises three questions: where do
its gradients go, how large should its rows be, and who tells the model what stands where?
"""

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

# %%
import time

import matplotlib.pyplot as plt

from tinytorch.core.autograd import gradcheck
from tinytorch.core.layers import Linear
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import manual_seed, randint

np.set_printoptions(precision=3, suppress=True)


def milliseconds(function, *inputs):
    """The shortest of seven runs."""
    times = []
    for _ in range(7):
        start = time.perf_counter()
        function(*inputs)
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


# %% [markdown]
"""
## What is the difference between token 4 and token 7?

Three. And that is the trouble: the difference means nothing. A tokenizer hands out numbers in the order in which it met
the words, as a cloakroom does; coat 8 is not twice coat 4. Feed these numbers into a `Linear` layer and it has to
believe that token 8 has twice as much of everything.

What a name needs is a row of its own. The textbook way: a row of V numbers, all 0, with a single 1 at the token's place
(*one-hot*). Now multiply with a matrix, as any layer does, and look at what is left of the product:

```
                        W (V = 5, E = 3)
                         .1   .4  -.2
   one-hot of 3          .0   .7   .3
   [0  0  0  1  0]   @   .9  -.1   .2     =   0 * row 0 + 0 * row 1 + 0 * row 2 + 1 * row 3 + 0 * row 4
                         .5   .5  -.6     =   [.5  .5  -.6]
                        -.3   .8   .1
```

A whole matrix product to copy one row. So do not multiply: look the row up. How much is saved, on a vocabulary of
moderate size?
"""

# %%
V, E, n = 10_000, 64, 1_000
rng = np.random.default_rng(0)
W = rng.normal(size=(V, E)).astype(np.float32)
some = rng.integers(0, V, n)
one_hot = np.zeros((n, V), np.float32)
one_hot[np.arange(n), some] = 1
print("the same numbers:", np.array_equal(one_hot @ W, W[some]))
print(f"product: {one_hot.nbytes / 1e6:8.3f} MB of input, {milliseconds(np.matmul, one_hot, W):8.3f} ms")
print(f"lookup:  {some.nbytes / 1e6:8.3f} MB of input, {milliseconds(W.take, some, 0):8.3f} ms")

# %% [markdown]
"""
Keep the product in mind all the same. It is the definition; whenever you are unsure what a lookup should do, on the way
back for instance, ask what the product would do.

### Which rows are there?

A table of V rows has rows 0 to V - 1. A token beyond that is an error, and NumPy says so. A token below 0 is an error
too, and NumPy says nothing:
"""

# %%
small = np.arange(15, dtype=np.float32).reshape(5, 3)
print("row -1 of 5:", small[-1], " which is row 4:", small[4])

# %% [markdown]
"""
Where do negative tokens come from? Padding: many programs mark places that are not there with -1 or -100. Read as "the
last row", every gap in every text trains the last token of the vocabulary, and nothing ever crashes. So the lookup
checks both ends. The other end has a typical cause as well: a tokenizer that was trained again and has grown, and a
table that has not. The message should name both numbers.

**Write the heart of `_token_ids` and of `embedding`.** In the first, `ids` is an integer array; raise `ValueError` with
the words "out of range" if its smallest element is below 0 or its largest is not below `vocab_size`, and otherwise
return it with the dtype `np.intp`, the one that NumPy indexes with. In the second, take the rows and announce
`"embedding"` with the table as its only input, saving `tokens=`: tokens are whole numbers, no gradient belongs to them.

With a table whose rows are `[0, 1, 2], [3, 4, 5], ...`, tokens `[3, 0, 3]` give rows 3, 0 and 3 again:
`[[9, 10, 11], [0, 1, 2], [9, 10, 11]]`.

<details><summary>Hint 1</summary>

`ids.min()` and `ids.max()` are all you need; an empty array never gets there.
</details>
<details><summary>Hint 2</summary>

An array has a method that takes whole rows by number: `take`, with `axis=0`. The result has the shape of the tokens,
followed by the length of a row.
</details>
<details><summary>Hint 3</summary>

`result` is called with the rows taken, the name of the operation, the tensor `weight`, and the tokens by keyword.
`ids.astype(np.intp, copy=False)` costs nothing where the dtype is right already.
</details>
"""


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


# %%
table = Tensor(small)
print(embedding(table, [3, 0, 3]))
print("tokens (2, 4) give", embedding(table, [[0, 1, 2, 3], [4, 4, 4, 4]]).shape)
for wrong in ([1, -1], [1, 5]):
    try:
        embedding(table, wrong)
    except ValueError as error:
        print(error)

# %% [markdown]
"""
Any shape of tokens goes in, and the shape that comes out is the same with one axis more. A batch of N texts of T tokens
becomes `(N, T, E)`.

## Who changed the loss?

Forwards, rows were copied. Backwards, every copy reports how the loss would have liked it to be different, and the
reports have to reach the row it was copied from. Take tokens `[4, 1, 4, 4]` and one column, so that a row is one
number, and let the gradients of the four outputs be 1, 10, 100 and 1000:

```
   place        0      1      2      3
   token        4      1      4      4
   grad         1     10    100   1000

   row 1 was copied to place 1             gets    10
   row 4 was copied to places 0, 2, 3      gets  1101
   rows 0, 2, 3 were not copied            get      0
```

Three copies of row 4 had three chances to change the loss, so its slope is the sum of three. The one-hot product says
the same: its rule is `one_hot.T @ grad`, and the column of token 4 has three ones. Now the line that everybody writes
first, and the line that everybody corrects it to:
"""

# %%
tokens, grad = np.array([4, 1, 4, 4]), np.array([[1], [10], [100], [1000]], np.float32)
assigned, added = np.zeros((2, 5, 1), np.float32)
assigned[tokens] = grad
added[tokens] += grad
print("dweight[tokens] = grad   ", assigned.ravel())
print("dweight[tokens] += grad  ", added.ravel())
print("one_hot.T @ grad         ", (np.eye(5, dtype=np.float32)[tokens].T @ grad).ravel())

# %% [markdown]
"""
Both lose two of three reports. The second does so because NumPy reads all four rows, adds, and then writes all four
back: the last one wins. Nothing crashes and training works, a little. What is lost is most of the gradient of the most
frequent tokens, which is to say of nearly everything a text consists of.

The loop is right, and so is `np.add.at`, which NumPy has for this purpose:
"""


# %%
def by_loop(grad, tokens, V):
    dweight = np.zeros((V, grad.shape[1]), grad.dtype)
    for token, row in zip(tokens.tolist(), grad):
        dweight[token] += row
    return dweight


def by_add_at(grad, tokens, V):
    dweight = np.zeros((V, grad.shape[1]), grad.dtype)
    np.add.at(dweight, tokens, grad)
    return dweight


print(by_loop(grad, tokens, 5).ravel(), by_add_at(grad, tokens, 5).ravel())

# %% [markdown]
"""
A loop of additions of one row each is slow because Python is asked once per token. Better to ask once per *kind* of
token. Say we knew which tokens occur exactly once: their rows can be written in one stroke, `dweight[rows] = ...`,
because none is written twice. Those that occur exactly twice: gather their gradients as an array `(m, 2, E)`, sum over
the middle axis, write in one stroke. And so on for every number of occurrences there is. How many different numbers
can there be? Few: in a text of n tokens, words that occur 1, 2, 3, ... k times already make up k (k + 1) / 2 tokens, so
there are never more than about sqrt(2 n) of them.

`_groups` below does the bookkeeping. It sorts the places by token (a stable argsort), so that equal tokens stand in a
row; where the number changes, a new token begins; and the distances between these beginnings are the counts.

```
   tokens     4  1  4  4  2          in order    1  2  4  4  4
   order      1  4  0  2  3          starts      0  1  2          counts  1  1  3

   count 1:   rows [1, 2]    places [[1], [4]]
   count 3:   rows [4]       places [[0, 2, 3]]
```

**Write the heart of `EmbeddingBackward.backward`.** `dweight` is full of zeros. For every pair that
`_groups(tokens.ravel())` yields, take `grad[places]`, which has the shape `(m, count, E)`, sum it over its middle axis,
and put the result into the rows. Where count is 1 there is nothing to add, and a sum over one element is a copy that
can be saved.

For the four gradients above: row 1 gets 10, row 4 gets 1101.

<details><summary>Hint 1</summary>

`dweight[rows] = ...` is right here, and only here, because within one group no row is named twice.
</details>
<details><summary>Hint 2</summary>

`grad[places].sum(axis=1)` is `(m, E)`, one row for each of `rows`.
</details>
<details><summary>Hint 3</summary>

The loop has two lines: gather the copies, then assign their sum, or `copies[:, 0]` if `copies.shape[1]` is 1. After it,
return `dweight`.
</details>
"""


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


# %%
print([(rows.tolist(), places.tolist()) for rows, places in _groups(np.array([4, 1, 4, 4, 2]))])
weight = Tensor(np.zeros((5, 1)), requires_grad=True)
embedding(weight, tokens).backward(grad)
print("gradient:", weight.grad.ravel())
print("agrees with finite differences:", gradcheck(lambda w: embedding(w, tokens), rng.normal(size=(5, 2))))

# %% [markdown]
"""
Is it worth it? 8,192 tokens (a batch of 8 texts of 1,024) in a table of 50,000 rows of 256 numbers, once drawn
evenly, and once as in a real text, where the commonest token is everywhere (*Zipf's law*: the token of rank r occurs in
proportion to 1 / r). And the same for a small table of characters. All functions return the same array.
"""


# %%
def by_groups(grad, tokens, V):
    weight = from_numpy(np.empty((V, grad.shape[1]), grad.dtype))  # its shape is all the rule asks for
    return EmbeddingBackward(weight, tokens=tokens).backward(grad)


n = 8_192
tables = [("evenly", 50_000, 256, False), ("as in a text", 50_000, 256, True), ("characters", 100, 64, True)]
for name, V, E, skewed in tables:
    shares = 1 / np.arange(1, V + 1) if skewed else np.ones(V)
    tokens, grad = rng.choice(V, n, p=shares / shares.sum()), rng.normal(size=(n, E)).astype(np.float32)
    counts = np.bincount(tokens)
    print(f"{name}: {np.count_nonzero(counts)} different tokens, the commonest {counts.max()} times")
    want = by_loop(grad, tokens, V)
    for way in (by_loop, by_add_at, by_groups):
        np.testing.assert_allclose(way(grad, tokens, V), want, atol=1e-3)
        print(f"   {way.__name__:10} {milliseconds(way, grad, tokens, V):7.2f} ms")
print(f"np.zeros {milliseconds(np.zeros, (50_000, 256)):.3f} ms, np.ones {milliseconds(np.ones, (50_000, 256)):.3f} ms")

# %% [markdown]
"""
There is no way around one thing: the result has the size of the table, most of it zeros. That is what the last line is
about. `np.zeros` asks the operating system for memory that is zero anyway and touches nothing; pages whose rows no token
names are never written. `np.ones` has to write, and so does `np.zeros_like`, which is why the rule does not use it.

## How large should a row be?

Before training, rows are random numbers. How large? The answer depends on what comes next, so let us ask for
something simple: a row should have a length of about 1, whatever its width. A vector of E numbers with standard
deviation s has the length s * sqrt(E): with s = 1, rows of 64 numbers would have the length 8, and rows of 1024 the
length 32. Hence s = 1 / sqrt(E).

**Write `Embedding`.** `__init__` puts a parameter into `self.weight`; `_table(rows, columns, rng)`, given, draws it.
`forward` looks the tokens up.

`Embedding(5, 3)([4, 0]).shape` is `(2, 3)`, and its only parameter is the table.

<details><summary>Hint 1</summary>

The table has one row per token, `vocab_size` of them, and `embed_dim` columns.
</details>
<details><summary>Hint 2</summary>

`forward` has one line, and `embedding` does all the work in it.
</details>
<details><summary>Hint 3</summary>

Hand `rng` on to `_table`; in `forward` the two arguments are `self.weight` and the tokens.
</details>
"""


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


# %%
manual_seed(0)
for E in (4, 64, 1024):
    rows = Embedding(1000, E).weight.data
    print(
        f"E = {E:4}: standard deviation {rows.std():.3f}, mean length of a row {np.linalg.norm(rows, axis=1).mean():.3f}"
    )

# %% [markdown]
"""
## What does a table learn?

Nobody tells a table what words mean. It learns from what it is used for. Use it to guess the next word, and words that
are followed by the same things have to end up with rows that do the same thing. Here is a world of 12 words in which
animals eat and sleep, and machines run and rust:
"""

# %%
words = ["the", "cat", "dog", "horse", "car", "train", "lorry", "eats", "sleeps", "runs", "rusts", "."]
number = {word: i for i, word in enumerate(words)}
sentences = [
    ["the", noun, verb, "."]
    for nouns, verbs in [(["cat", "dog", "horse"], ["eats", "sleeps"]), (["car", "train", "lorry"], ["runs", "rusts"])]
    for noun in nouns
    for verb in verbs
]
text = np.array([[number[word] for word in sentence] for sentence in sentences])
print(text.shape, text[0].tolist(), "is", " ".join(sentences[0]))

manual_seed(0)
embed, guess = Embedding(len(words), 6), Linear(6, len(words))
before = embed.weight.data.copy()
optimizer = Adam([*embed.parameters(), *guess.parameters()], lr=0.05)
for step in range(201):
    optimizer.zero_grad()
    loss = cross_entropy(guess(embed(text[:, :-1])), text[:, 1:])
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"step {step:3}: loss {loss.item():.3f}")


# %%
def likeness(rows):
    """Cosines of the angles between rows: 1 where two point the same way."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


_, panels = plt.subplots(1, 2, figsize=(8, 4))
for panel, rows, title in zip(panels, (before, embed.weight.data), ("before", "after")):
    panel.imshow(likeness(rows), vmin=-1, vmax=1, cmap="RdBu")
    panel.set_xticks(range(len(words)), words, rotation=90)
    panel.set_yticks(range(len(words)), words)
    panel.set_title(title)
plt.tight_layout()
plt.show()
after = likeness(embed.weight.data)
animals, machines = [number[w] for w in ("cat", "dog", "horse")], [number[w] for w in ("car", "train", "lorry")]
print(f"cat and dog {after[animals[0], animals[1]]:.2f}, car and lorry {after[machines[0], machines[2]]:.2f}")
print(f"an animal and a machine, mean: {after[np.ix_(animals, machines)].mean():.2f}")

# %% [markdown]
"""
The squares in the right picture are the animals, the machines, and the verbs, each of which is followed by a full stop.
Nobody said that a cat is like a dog; it is only that the same words follow.

What goes wrong in practice: the gradient of a row is exactly 0 if its token does not occur, so a token that training
never meets keeps its random row for ever. The model has no opinion about it; it has noise.

## Who bites whom?

"man bites dog" and "dog bites man" consist of the same tokens, and the table gives them the same three rows, in another
order. Whatever sums or averages over the text cannot tell them apart, and attention (module 12) is a weighted average.
"""

# %%
embed, (man, bites, dog) = Embedding(3, 4, rng=0), range(3)
print("man bites dog:", embed([man, bites, dog]).mean(axis=0).data)
print("dog bites man:", embed([dog, bites, man]).mean(axis=0).data)

# %% [markdown]
"""
So the vectors must say where they stand. The simplest idea that works: a second table, one row per *place*, and the two
are added. After that, "dog" at place 0 and "dog" at place 2 are different vectors.

```
   tokens              dog          bites          man
   token rows       [ .1  .4 ]   [ .0  .7 ]    [ .5 -.6 ]
   place rows     + [ .2  .2 ]   [-.3  .1 ]    [ .1  .0 ]
                  = [ .3  .6 ]   [-.3  .8 ]    [ .6 -.6 ]
```

Does adding not spoil both? In two dimensions it would. In a few hundred there is room: the model learns to keep words
in some directions and places in others, and a matrix product can read either.

A table of places has a last row. What should happen to a longer text? Not an index error from the depths, and not what
`table[:T]` does with a slice that is too long, which is to return fewer rows without a word. It should say that the
sequence exceeds the maximum.

**Write the heart of `PositionalEncoding.forward`.** `x` has T vectors in its last axis but one; the first stands at
place `offset` (0, unless a text is continued; module 17 will need that). If the sequence starts before 0 or ends beyond
`max_seq_len`, raise `ValueError` with the words "exceeds maximum" and the numbers. Otherwise return x plus the rows of
the places.

With `max_seq_len` 5, three vectors from offset 2 are the longest that fit: places 2, 3, 4.

<details><summary>Hint 1</summary>

The last place in use is `offset + T - 1`, and the last row is `max_seq_len - 1`.
</details>
<details><summary>Hint 2</summary>

Slice the tensor, not its array: `self.position_embeddings[...]` announces itself, and the gradient finds its way back.
</details>
<details><summary>Hint 3</summary>

The slice runs from `offset` to `offset + T`. Adding `(T, E)` to `(N, T, E)` broadcasts over the batch, and the rule of
`+` from module 05 sums over it on the way back.
</details>
"""


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


# %%
places = PositionalEncoding(5, 4, rng=1)
print("man bites dog:", places(embed([man, bites, dog])).data[2], "is the dog")
print("dog bites man:", places(embed([dog, bites, man])).data[0], "is the dog")
places(Tensor(np.zeros((8, 3, 4)))).sum().backward()
print("gradient of every place, from a batch of 8 texts of length 3:", places.position_embeddings.grad[:, 0])
try:
    places(Tensor(np.zeros((1, 3, 4))), offset=3)
except ValueError as error:
    print(error)

# %% [markdown]
"""
Look at the gradients: place 0 occurs in every text, place 4 in none. The last rows of a table of places are trained by
the longest texts only. If those are rare, a model that saw 500 tokens of 512 again and again falls to pieces at 510,
where its rows are still nearly random.

## Can places be computed?

A number has digits. Write the places in binary, and each bit alternates at its own speed: the last at every step, the
one before it at every second, then every fourth:

```
   place      0    1    2    3    4    5    6    7
   bit 2      0    0    0    0    1    1    1    1        slow
   bit 1      0    0    1    1    0    0    1    1
   bit 0      0    1    0    1    0    1    0    1        fast
```

Together the bits name the place. Now make the jumps smooth: a wave instead of a bit, fast in the first columns, slow in
the last. Vaswani et al. use pairs of a sine and a cosine; pair i turns by `1 / 10000^(2i / E)` radians per place:

```
   table[t, 2i]     =  sin(t / 10000^(2i / E))
   table[t, 2i + 1] =  cos(t / 10000^(2i / E))
```

For E = 4 there are two pairs; the first turns by 1 radian per place, the second by 1 / 10000^(1/2) = 0.01. Place 2 is
`[sin 2, cos 2, sin 0.02, cos 0.02]` = `[0.909, -0.416, 0.020, 1.000]`.

**Write the heart of `create_sinusoidal_embeddings`.** `table` is there, empty, in float32. Compute the angle of every
place and pair, `(max_seq_len, pairs)`, from `_speeds(embed_dim)`, given; fill the even columns with its sine and the
odd ones with its cosine. An odd width has one sine more than cosines.

<details><summary>Hint 1</summary>

All products of two vectors are `np.outer`. The places are `np.arange(max_seq_len)`.
</details>
<details><summary>Hint 2</summary>

`table[:, 0::2]` are the even columns and `table[:, 1::2]` the odd ones.
</details>
<details><summary>Hint 3</summary>

There are `embed_dim // 2` odd columns: cut the cosines to so many. Leave the angles in float64, as `np.outer` gives
them: at place 100,000 a float32 has lost the digits that its sine depends on.
</details>
"""


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


# %%
waves = create_sinusoidal_embeddings(100, 64)
print("place 2, width 4:", create_sinusoidal_embeddings(3, 4)[2])
_, panels = plt.subplots(1, 2, figsize=(9, 3))
panels[0].imshow(waves.data, aspect="auto", cmap="RdBu")
panels[0].set(xlabel="column", ylabel="place", title="fast on the left, slow on the right")
for place in (20, 50, 80):
    panels[1].plot(waves.data @ waves.data[place], label=f"with place {place}")
panels[1].set(xlabel="place", title="products of places")
panels[1].legend()
plt.tight_layout()
plt.show()

# %% [markdown]
"""
The right picture is why it works. The product of two places is largest with itself, falls off to both sides, and has
the same shape everywhere. It has to: with `sin a sin b + cos a cos b = cos(a - b)`, every pair contributes the cosine of
a *difference*, so the product depends on the distance alone.

Nothing to learn, nothing to store in a checkpoint, and any length can be computed. What it does not give is skill at
lengths that were never trained: the numbers are defined there, the model has not seen them.

## Turning instead of adding

Attention will compare vectors by their products: the query of one place with the key of another. What should such a
product know about places? That the key stands three to the left; not that it stands at 517. Sines, once added, bring
along mixed terms (word times place) that depend on where the pair stands. Su et al. asked for a way to put the place
in so that *only* the distance comes out, and found one: do not add, turn.

Take two columns as a point in the plane, and turn it by the angle t at place t. Turn the query at place 5 and the key
at place 3. The angle between them has changed by 5 - 3, and the product of two vectors depends on their lengths and on
the angle between them, on nothing else:

```
                 query at      key at       angle of q    angle of k     between them
                 place 5       place 3        a + 5         b + 3         a - b + 2
                 place 105     place 103      a + 105       b + 103       a - b + 2
```

Wide vectors are turned pair by pair, each pair at its own speed, the speeds of the sines above. And there is a way to
write it that needs no sines at all. Read a pair (a, b) as the complex number a + bi; then to turn by an angle is to
multiply with `e^(i angle)`. By hand: (1, 0) turned by a quarter is 1 * i = i, which is (0, 1); (3, 4) turned back by a
quarter is (3 + 4i) * (-i) = 4 - 3i, which is (4, -3).

**Write the hearts of `rotary` and `RotaryBackward`.** `turns` holds one complex number of length 1 per place and pair.
Copy the array of x; a `view` of the copy with the dtype of `turns` reads neighbours as complex numbers, in the same
memory; multiply the view in place by `turns`. The result is the copy. Backwards, what was turned is turned back: the
same with the conjugate.

`rotary(Tensor([[1.0, 0.0, 3.0, 4.0]]), np.array([[1j, -1j]]))` is `[[0, 1, 4, -3]]`.

<details><summary>Hint 1</summary>

`x.data.copy()` is contiguous whatever x was, and that is what `view` needs. Never turn `x.data` itself, or `grad`.
</details>
<details><summary>Hint 2</summary>

`out.view(turns.dtype)` has the shape `(..., T, D / 2)`; `*=` on it changes `out`.
</details>
<details><summary>Hint 3</summary>

In the rule: a copy of grad, its view, times `turns.conj()`, and return the copy. A turn is linear and keeps lengths, so
its transpose is the turn back.
</details>
"""


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


# %%
print(rotary(Tensor([[1.0, 0.0, 3.0, 4.0]]), np.array([[1j, -1j]])))
turn = RotaryEmbedding(64)
manual_seed(0)
q, k = (Tensor(np.broadcast_to(row.data, (40, 64))) for row in (randn(64), randn(64)))
for offset in (0, 1000):
    turned_q, turned_k = turn(q, k, offset)
    line = np.diagonal((turned_q @ turned_k.T).data, 3)
    print(f"places from {offset:4}: products at distance 3 from {line.min():.3f} to {line.max():.3f}")
print("lengths before and after:", np.linalg.norm(q.data[7]), np.linalg.norm(turned_q.data[7]))
print("agrees with finite differences:", gradcheck(RotaryEmbedding(6).rotate, rng.normal(size=(2, 3, 6))))

# %% [markdown]
"""
One query, one key, forty places each: the product at distance 3 is the same number everywhere, a thousand places
further on too. Values are not turned: what is handed over should be the word, wherever it was found. In module 12
`MultiHeadAttention` takes a `RotaryEmbedding` and does this by itself, as GPT-J, PaLM and LLaMA do.

## Everything a transformer reads

`EmbeddingLayer` puts the parts together: tokens, then places, learned or sines or none (for models that turn). One
question is left, the sizes. If two vectors are added, the longer one is heard. Compare:
"""

# %%
manual_seed(0)
for E in (16, 64, 256, 1024):
    rows, waves = Embedding(100, E).weight.data, create_sinusoidal_embeddings(100, E).data
    token, place, scaled = (np.linalg.norm(a, axis=1).mean() for a in (rows, waves, rows * np.sqrt(E)))
    print(f"E = {E:4}: a token {token:5.2f}, its place in sines {place:5.2f}, the token times sqrt(E) {scaled:5.2f}")

# %% [markdown]
"""
Every pair of a sine and a cosine has the length 1, so a place has the length sqrt(E / 2), and a token of length 1
drowns in it. That is the reason for a line in Vaswani et al. that is easily overlooked: they multiply the tokens by
sqrt(E) *before* they add the places. With learned places, which start as small as the tokens, there is no need.

**Write `EmbeddingLayer.forward`.** Look the tokens up; if `scale_embeddings`, multiply by the square root of the width;
then, unless `pos_encoding` is None, add the places, from `offset` on.

With width 16 the factor is 4. Scaling after adding the places would multiply them too, and change nothing about who is
heard.

<details><summary>Hint 1</summary>

`self.token_embedding` and `self.pos_encoding` are layers: call them.
</details>
<details><summary>Hint 2</summary>

The width is `self.token_embedding.embed_dim`, and `math.sqrt` of it is a Python float, which leaves float32 as it is.
</details>
<details><summary>Hint 3</summary>

Three steps, in this order: look up, scale if asked to, and return x or `self.pos_encoding(x, offset)`.
</details>
"""


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


# %%
tokens = randint(0, 50, (2, 10), rng=0)
for mode in ("learned", "sinusoidal", None):
    layer = EmbeddingLayer(50, 16, max_seq_len=32, pos_encoding=mode)
    print(
        f"{str(mode):10} {layer(tokens).shape}, {len(layer.parameters())} parameters, {layer.num_parameters()} numbers"
    )
print(layer)

# %% [markdown]
"""
Does a model need places? Here is a task that nobody can solve without: a text of four equal tokens, where the answer
depends on the place alone. Knowing nothing costs log 2 = 0.693.
"""

# %%
tokens, wanted = Tensor([[0, 0, 0, 0]]), Tensor([[0, 0, 1, 1]])
for mode in ("learned", "sinusoidal", None):
    manual_seed(0)
    layer, guess = EmbeddingLayer(1, 8, 4, pos_encoding=mode), Linear(8, 2)
    optimizer = Adam([*layer.parameters(), *guess.parameters()], lr=0.05)
    losses = []
    for _ in range(81):
        optimizer.zero_grad()
        loss = cross_entropy(guess(layer(tokens)), wanted)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"{str(mode):10} loss after 0, 40, 80 steps: {losses[0]:.3f} {losses[40]:.3f} {losses[80]:.3f}")

# %% [markdown]
"""
Without places the loss goes down to the loss of knowing nothing, and stays there.

## What does it cost?

**Memory.** A table is V * E numbers of four bytes. Training holds more: the gradient, which is as large as the table
however few rows were used, and for Adam two moments.
"""

# %%
print("                        V       E       table    with gradient and Adam")
for name, V, E in [
    ("characters", 99, 128),
    ("small BPE", 1_024, 384),
    ("GPT-2 small", 50_257, 768),
    ("GPT-2 large", 50_257, 1_280),
    ("a recent model", 128_256, 4_096),
]:
    size = V * E * 4 / 1e6
    print(f"{name:16} {V:10,} {E:7,} {size:9.1f} MB {4 * size:11.1f} MB")
layer = Embedding(1_000, 64)
print(
    "measured: 4,000 x 128 takes",
    Embedding(4_000, 128).weight.data.nbytes / layer.weight.data.nbytes,
    "times 1,000 x 64",
)

# %% [markdown]
"""
**Time.** A lookup does no arithmetic at all: it copies n rows. Backwards there are n additions of rows, and the zeros.
And the optimizer walks over the *whole* table at every step, used or not. How do the three grow?
"""

# %%
print("      V       n     forward     backward   step of Adam")
for V, n in [(1_000, 1_000), (1_000, 16_000), (10_000, 1_000), (100_000, 1_000)]:
    layer, tokens, grad = Embedding(V, 64), randint(0, V, n), np.ones((n, 64), np.float32)
    optimizer, out = Adam(layer.parameters()), layer(tokens)
    back = milliseconds(out._grad_fn.backward, grad)
    out.backward(grad)
    print(f"{V:7,} {n:7,} {milliseconds(layer, tokens):8.3f} ms {back:9.3f} ms {milliseconds(optimizer.step):11.3f} ms")

# %% [markdown]
"""
Forward and backward follow n, and notice V only as far as a larger table fits worse into caches and pages. The step
follows V. For a large vocabulary the dearest part of an embedding is neither the lookup nor its gradient: it is the
optimizer, busy moving rows that nobody asked for. (Adam moves them even where the gradient is 0, as long as its
momentum lasts. Language models mostly accept that, because they use the same table again at the end, to turn vectors
back into words, and there every row gets a gradient.)

## All together

The checks of this lesson in one cell.
"""

# %%
# Numbers worked out by hand.
assert embedding(Tensor(small), [3, 0, 3]).tolist() == [[9, 10, 11], [0, 1, 2], [9, 10, 11]]
weight = Tensor(np.zeros((5, 1)), requires_grad=True)
embedding(weight, [4, 1, 4, 4]).backward(np.array([[1], [10], [100], [1000]], np.float32))
assert weight.grad.ravel().tolist() == [0, 10, 0, 0, 1101]
np.testing.assert_allclose(create_sinusoidal_embeddings(3, 4).data[2], [0.9093, -0.4161, 0.0200, 0.9998], atol=1e-4)

# Four functions, one gradient.
tokens, grad = rng.integers(0, 300, 2_000), rng.normal(size=(2_000, 8)).astype(np.float32)
ways = [by_loop(grad, tokens, 300), by_add_at(grad, tokens, 300), np.eye(300, dtype=np.float32)[tokens].T @ grad]
for way in ways:
    np.testing.assert_allclose(by_groups(grad, tokens, 300), way, atol=1e-4)

# A text in two parts is the text; float32 stays float32; everybody gets a gradient.
for mode in ("learned", "sinusoidal", None):
    layer = EmbeddingLayer(20, 8, 9, pos_encoding=mode, scale_embeddings=True)
    tokens = randint(0, 20, (2, 9))
    whole, parts = layer(tokens), [layer(tokens[:, :4]).data, layer(tokens[:, 4:], offset=4).data]
    np.testing.assert_array_equal(whole.data, np.concatenate(parts, axis=1))
    assert whole.dtype == np.float32
    whole.sum().backward()
    assert all(np.abs(p.grad).max() > 0 for p in layer.parameters())

# %% [markdown]
"""
## Questions

**1.** A text of 1,000 tokens contains "the" 60 times and "zebra" once. With `dweight[tokens] = grad`, which part of
their gradients survives? What does it do to the model?

<details><summary>Answer</summary>

Of "zebra" all of it, of "the" one report in 60: less than 2 %. And not a random sample of them, but always the last
place in the text. Frequent words learn sixty times too slowly and rare ones as they should; the loss still falls, which
is why nobody notices.
</details>

**2.** Your vocabulary has 50,257 tokens, and a batch holds 8 texts of 1,024. At most how large a part of the table gets
a gradient other than 0? How much memory does the gradient take at E = 768, and how much would the used rows take alone?

<details><summary>Answer</summary>

8 * 1,024 = 8,192 tokens, 16 % of the rows if all were different, far fewer in real text. The gradient takes
50,257 * 768 * 4 bytes = 154 MB; 8,192 rows take 25 MB.
</details>

**3.** GPT-3 has V = 50,257, E = 12,288, places up to 2,048 and 175 billion parameters. How large is its table of tokens,
and which share of the model is it? And the places? Compare GPT-2 small: E = 768, places up to 1,024, 124 million.

<details><summary>Answer</summary>

50,257 * 12,288 = 618 million numbers, 0.35 % of 175 billion; in float32 they would take 2.5 GB. Places: 2,048 * 12,288 =
25 million. In GPT-2 small the tokens are 38.6 million, 31 % of the model, and the places 0.8 million. The table grows
with E, the layers with E^2: in small models the vocabulary is most of what you pay for, in large ones it is nothing.
</details>

**4.** A model with learned places was trained with `max_seq_len=512`, but all its texts had 300 tokens or fewer. What
happens at 400? What would happen with sines, and with turns?

<details><summary>Answer</summary>

Nothing is refused: row 400 exists. It has its first random values, for no gradient ever reached it, so from place 300 on
the model reads noise. Sines are defined at 400 and change smoothly, but the layers above have never seen these
combinations. With turns every *pair* of places at a distance below 300 looks as it did in training; only the longer
distances are new. That is why turned models can be stretched to longer texts with little further training.
</details>
"""
