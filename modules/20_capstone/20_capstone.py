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
# 20 · Capstone: a program that somebody else can run

| | |
|---|---|
| **You have** | nineteen lessons of parts: tensors, gradients, optimizers, tokenizers, a GPT, bytes instead of floats, a cache, a stopwatch |
| **You will build** | TinyGPT: a text goes in, and out comes a program that goes on writing in its manner; kept in one file, made four times smaller, served in a terminal, with a report card that holds only what was measured |
| **You will be able to** | put parts together so that the seams hold, tell what a model is worth on text it has never seen, hand out text piece by piece without breaking a character, and write down a result so that others can check it |

Needs modules 01 to 17 and 19. Exports `applications/tinygpt.py`. Medium; about four hours.

```
   text --> tokenizer --> windows --> training --> TinyGPT --+--> one file ------> python -m ... chat
     |                                                |      |
     +--> the last tenth is held out -----------------|------+--> quantize() ----> a quarter of the bytes
                          |                           |
                          +--> loss, perplexity --+   +--> stream() --> pieces of text, as they are found
                                                  v          |
                                             report card <---+--> speed, size, processor time
```

Every part has been tested by itself. Where do programs made of tested parts break? At the seams: the target that is one
place off, the validation text that was trained on, the character cut in half between two tokens, the model whose
tokenizer was left on another machine, the number in the report that nobody measured. This lesson is about seams.
"""

# %%
#| default_exp applications.tinygpt

# %%
#| export
"""TinyGPT: a text goes in, and out comes a program that goes on writing in its manner.

`TinyGPT.train` learns from a text and holds its last part out; `save` and `load` keep tokenizer, weights and held-out
text in one file; `quantize` gives a smaller one; `stream` and `chat` write; `measure` finds size, speed and quality, and
`report_card` shows them. `python -m tinytorch.applications.tinygpt` does the same from a terminal. The axes: N windows
in a batch, T places in each.
"""

import codecs
import math
import time
from pathlib import Path

import numpy as np

from tinytorch.core.autograd import no_grad
from tinytorch.core.checkpoint import CheckpointError, _replace_file, load, save
from tinytorch.core.layers import _positive
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import AdamW, _number
from tinytorch.core.tensor import generator
from tinytorch.core.training import CosineSchedule, _evaluating, clip_grad_norm
from tinytorch.generation.kv_cache import KVCache, Memoized
from tinytorch.models.transformer import GPT
from tinytorch.optimization.quantization import model_size, quantize_model
from tinytorch.text.tokenization import BPETokenizer, CharTokenizer, create_tokenizer

# %%
import io
import tempfile

np.set_printoptions(precision=3, suppress=True)

# %% [markdown]
"""
## A text to learn from

Questions and answers, one pair to a line with a tab between: sums of small numbers, and what comes after what. Each
fact is asked for in three ways, so one of them can be held out while the fact itself is still taught. The accents are
there on purpose: é and ç take two bytes each.
"""

# %%
NAMES = "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze".split()
DAYS = "lundi mardi mercredi jeudi vendredi samedi dimanche".split()
pairs = []
for i, a in enumerate(NAMES):
    for b, c in zip(NAMES, NAMES[i:]):
        pairs += [f"{way} ?\tça fait {c}." for way in (f"{a} plus {b}", f"combien font {a} et {b}", f"{b} avec {a}")]
for names in (NAMES, DAYS):
    for a, b in zip(names, names[1:]):
        pairs += [f"{way} ?\tc'est {b}." for way in (f"après {a}", f"qu'est-ce qui suit {a}", f"{a}, et ensuite")]
TEXT = "".join(pair + "\n" for pair in pairs)
print(f"{len(TEXT):,} characters, {len(TEXT.encode()):,} bytes, {len(pairs)} lines; among them")
print(*pairs[10:400:130], sep="\n")

# %% [markdown]
"""
## One place off

A language model learns to name the next token, at every place. So from the tokens of `bonjour` a window of 4 places
is an input and a target that stands one place further to the right:

```
   tokens    b  o  n  j  o  u  r
   input     b  o  n  j                 input [0, 4) of the window at 0
   target       o  n  j  o              target [1, 5)
```

A window needs 5 tokens for 4 places, so of these 7 tokens the windows can begin at 0, 1 and 2: at 7 - 4 = 3 places. The
tempting mistakes are all off by one. Too few beginnings, and the last token is never learnt. Too many, and an index
flies off the end, once in a while, after an hour. Input and target the same, and the loss falls to nothing at once:
here is a model that has learnt to repeat what it sees, and nothing else.

**Write `draw_windows`.** It draws N windows from anywhere in the tokens, every beginning as likely as any other.
`draw_windows(np.arange(7), 4, 2, rng)` gives `x` and `y` of shape (2, 4), and `y` is `x + 1`, because these tokens count
upwards.

<details><summary>Hint 1</summary>

Draw N beginnings with `rng.integers(n, size=...)`, which gives 0 to n - 1. How many beginnings are there?
</details>
<details><summary>Hint 2</summary>

Beginnings as a column (N, 1), plus `np.arange(T + 1)`, is a table of places (N, T + 1). Indexing with it fetches all
windows at once.
</details>
<details><summary>Hint 3</summary>

The input is all columns but the last, the target all but the first.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "capstone-windows", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def draw_windows(ids, T: int, N: int, rng):
    """N windows of T tokens from anywhere in a text, and for every place of them the token that comes next.

    ids      (n,) array of integers, n > T
    returns  x and y (N, T): y is x one place further on. Each of the n - T windows is as likely as any other
    """
    if len(ids) <= T:
        raise ValueError(f"windows of {T} tokens and the token after need a text of at least {T + 1}, got {len(ids)}")
    ### BEGIN SOLUTION
    starts = rng.integers(len(ids) - T, size=(N, 1))
    windows = ids[starts + np.arange(T + 1)]
    return windows[:, :-1], windows[:, 1:]
    ### END SOLUTION


# %%
rng = np.random.default_rng(1)
x, y = draw_windows(np.arange(7), 4, 3, rng)
print(np.hstack([x, np.full((3, 1), -1), y]))
starts = [draw_windows(np.arange(7), 4, 1, rng)[0][0, 0] for _ in range(3000)]
print("how often each beginning came:", np.bincount(starts))

# %% [markdown]
"""
## Training, in one place

You have written this loop in lesson 07 and again in lesson 13. Here it is once more, for good: a window per row, a step
of AdamW, the learning rate up for a tenth of the steps and then down along a cosine, gradients cut to length 1.

**Write `fit`.** The order matters: forget the old gradients, compute the loss, go backwards, clip, step. Call
`on_step(step, loss)` after each, with steps counted from 1 and the loss as a plain float; a tensor would keep the graph
of every step alive.

<details><summary>Hint 1</summary>

For each step: set `optimizer.lr = schedule(step)`, draw a batch, zero, loss, backward, clip, step, `on_step`.
</details>
<details><summary>Hint 2</summary>

`cross_entropy(model(x), y)` takes logits (N, T, V) and targets (N, T) as they are.
</details>
<details><summary>Hint 3</summary>

`clip_grad_norm(model.named_parameters(), 1.0)` goes after `backward` and before `step`; `loss.item()` is the float.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "capstone-fit", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def fit(model, ids, steps: int, batch_size: int, lr: float, rng, on_step=None):
    """Train a language model on windows drawn from a text, with AdamW, a warm-up, a cosine and clipped gradients.

    ids      (n,) array of integers, more than the model has places
    on_step  called as on_step(step, loss) after each step, steps counted from 1
    """
    optimizer = AdamW(model.parameters(), lr, betas=(0.9, 0.99), weight_decay=0.1)
    schedule = CosineSchedule(lr, lr / 30, total_epochs=steps + 1, warmup=steps / 10)  # counted in steps here
    model.train()
    ### BEGIN SOLUTION
    for step in range(1, steps + 1):
        optimizer.lr = schedule(step)
        x, y = draw_windows(ids, model.max_seq_len, batch_size, rng)
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        clip_grad_norm(model.named_parameters(), 1.0)
        optimizer.step()
        if on_step is not None:
            on_step(step, loss.item())
    ### END SOLUTION
    model.eval()


# %%
counting = np.tile(np.arange(5), 40)  # 0 1 2 3 4 0 1 2 3 4 ...
model, seen = GPT(5, 16, 1, 2, max_seq_len=8, rng=0), []
fit(model, counting, 60, 8, 0.02, np.random.default_rng(0), lambda step, loss: seen.append(loss))
print("loss after steps 1, 20, 40, 60:", *(f"{seen[i]:.3f}" for i in (0, 19, 39, 59)))
print("3 4 0 1, and then", *model.generate([3, 4, 0, 1], 6, temperature=0)[4:])

# %% [markdown]
"""
## What is it worth?

The loss of training says how well the model knows what it was shown. Nobody needs that: the text is there already. The
question is how surprised it is by text from the same source that it has never seen. So the last tenth of the text is
held out: no step sees it, the tokenizer does not learn from it, and the model file carries it along, so that whoever
measures the model later measures it on that.

The loss of a whole text is the mean over *all* its tokens but the first, which nothing comes before. The text is longer
than the model can read, so it is cut into windows of T places, side by side; the last one is shorter. With T = 4 and
the 11 tokens of `il fait bon`, 10 are to be foreseen:

```
   window 1    i l _ f    foresees    l _ f a        4 places, mean loss 2.0
   window 2    a i t _    foresees    i t _ b        4 places, mean loss 1.0
   window 3    b o        foresees    o n            2 places, mean loss 4.0
```

The mean is (4 * 2 + 4 * 1 + 2 * 4) / 10 = 2.0. The tempting answer, the mean of the three means, is 2.33: the short
window would count for twice as much as it holds.

**Write `text_loss`.** What is given: no recording, no dropout, and windows in batches of 32.

<details><summary>Hint 1</summary>

With n = len(ids) - 1 places to foresee there are n // T whole windows; reshaping the first n // T * T tokens cuts them.
Targets are the same, from token 1 on.
</details>
<details><summary>Hint 2</summary>

What is left over, if n % T is not 0, is a batch with one short row.
</details>
<details><summary>Hint 3</summary>

`cross_entropy(model(x), y).item()` is the mean of `y.size` losses; add up `mean * y.size`, and divide by n at the end.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "capstone-loss", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def text_loss(model, ids, batch_size: int = 32) -> float:
    """How surprised a language model is by a text: the mean over all its tokens but the first, in nats.

    ids   (n,) array of integers, n of at least 2; read in windows of as many places as the model has, side by side
    """
    ids, T = np.asarray(ids), model.max_seq_len
    n = len(ids) - 1
    if n < 1:
        raise ValueError(f"the loss of a text needs at least 2 tokens, one to foresee the other from, got {len(ids)}")
    with _evaluating(model), no_grad():
        ### BEGIN SOLUTION
        whole, total = n // T * T, 0.0
        x, y = ids[:whole].reshape(-1, T), ids[1 : whole + 1].reshape(-1, T)
        batches = [(x[i : i + batch_size], y[i : i + batch_size]) for i in range(0, len(x), batch_size)]
        if whole < n:
            batches.append((ids[None, whole:-1], ids[None, whole + 1 :]))
        for x, y in batches:
            total += cross_entropy(model(x), y).item() * y.size
        return total / n
        ### END SOLUTION


# %%
fresh = GPT(5, 16, 1, 2, max_seq_len=8, rng=0)
print(f"untrained {text_loss(fresh, counting):.3f}, guessing is log 5 = {math.log(5):.3f}")
print(f"trained   {text_loss(model, counting):.3f}, and on digits in another order {text_loss(model, rng.integers(0, 5, 200)):.3f}")

# %% [markdown]
"""
The exponential of the loss is the **perplexity**: a model with perplexity 20 is as uncertain as somebody who throws a
fair die with 20 sides at every token. It is the number that papers print, and it cannot be compared between tokenizers:
a token of byte pairs holds several characters, so a model that is twice as sure of every character has a *larger*
perplexity per token. What can be compared is the surprise of the whole text shared out among its characters, in bits:
loss * tokens / log 2 / characters.

## A character comes in pieces

The tokens of a byte-pair tokenizer are bytes, and é is two of them, which may well be two tokens. A program that prints
every token as it is found prints half an é, and then the other half:
"""

# %%
tokenizer = BPETokenizer(300).train(TEXT)
ids = tokenizer.encode("zéro, ça va, 你好")
print("token by token:", "".join(tokenizer.decode([i]) for i in ids))
print("all at once:   ", tokenizer.decode(ids))
print("bytes of each: ", *(tokenizer.vocab[i].hex() for i in ids))

# %% [markdown]
"""
Each half by itself is no UTF-8, and decoding puts the sign for "broken" (U+FFFD) in its place. Nothing crashes, and in
English it is never seen: this is the bug that only your users have.

UTF-8 says in the first byte of a character how many follow, so a reader can know when one is complete. The standard
library has such a reader: `codecs.getincrementaldecoder("utf-8")` makes one that keeps what is incomplete until the rest
comes.

**Write `whole_characters`.** It takes chunks of bytes, one after the other, and yields text, whole characters only.
For `[b"z", b"\\xc3", b"\\xa9ro"]` it yields `"z"` and `"éro"`: nothing for the middle chunk. What is still incomplete when
the chunks end is broken and comes out as U+FFFD; it must not be lost, and it must not come early.

<details><summary>Hint 1</summary>

`decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")`, and then `decoder.decode(chunk)` for each chunk gives
the characters that are complete by now, perhaps none.
</details>
<details><summary>Hint 2</summary>

Yield only what is not empty; and yield inside the loop, so that the reader need not wait for the end.
</details>
<details><summary>Hint 3</summary>

After the loop `decoder.decode(b"", final=True)` gives what is left.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "capstone-characters", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def whole_characters(chunks):
    """Text from chunks of UTF-8, piece by piece as they come, never with half a character.

    Joined, the pieces are what decoding all bytes at once gives; bytes that are no UTF-8 become U+FFFD.
    """
    ### BEGIN SOLUTION
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for chunk in chunks:
        if text := decoder.decode(chunk):
            yield text
    if text := decoder.decode(b"", final=True):
        yield text
    ### END SOLUTION


# %%
print(list(whole_characters([b"z", b"\xc3", b"\xa9ro"])), list(whole_characters([b"caf\xc3"])))
print("".join(whole_characters(tokenizer.vocab[i] for i in ids)))

# %% [markdown]
"""
## The application

Now everything goes into one class. What does it have to hold, so that somebody with the file and nothing else can use
it? The weights, of course. The tokenizer: token 17 of another vocabulary is another word, and no error says so. The
sizes from which the model is built before the weights go in. The held-out text, because without it nobody can measure.
And how training went. All of that goes into *one* file, by the checkpoint of lesson 07: written beside the old file and
renamed, with a checksum, without pickle, so that opening a stranger's model runs no code of the stranger. Two files
that belong together are two files that can be mixed up.

**Write `stream`.** The prompt has been checked and turned into `ids`, and `seed` into a generator. Let the memory of
lesson 17 find the tokens, and hand out their text, whole characters only. `self._bytes[i]` are the bytes of token i, and
`self._stops` the tokens that end an answer (None where nothing does).

Do not make `stream` itself a generator, with a `yield` in it: then its checks would run when the first piece is asked
for, and not when it is called.

<details><summary>Hint 1</summary>

`memory.stream(ids, max_new_tokens, temperature, top_k, top_p, stop, rng)` checks its settings and gives the tokens one
by one. Its prompt is one list, so each token is one integer.
</details>
<details><summary>Hint 2</summary>

You need the bytes of every token as it comes: a generator expression over the stream of tokens.
</details>
<details><summary>Hint 3</summary>

`return whole_characters(self._bytes[i] for i in found)`
</details>
"""


# %%
#| export
def _model_format(model):
    """How the numbers of a model are kept: "float32", "int8", or "int8 inputs" where inputs become bytes as well."""
    names = model.state_dict()
    if any(name.endswith(".input_scale") for name in names):
        return "int8 inputs"
    return "int8" if any(name.endswith(".q") for name in names) else "float32"


def _empty_model(sizes, format):
    """A GPT of these sizes to load weights into, with its numbers kept as `format` says."""
    model = GPT(**sizes, rng=0).eval()
    if format == "float32":
        return model
    return quantize_model(model, np.zeros((1, 1), int) if format == "int8 inputs" else None)


_SIZES = ("vocab_size", "embed_dim", "num_layers", "num_heads", "max_seq_len")
_FORMATS = ("float32", "int8", "int8 inputs")
_KINDS = {"char": CharTokenizer, "bpe": BPETokenizer}


# %% nbgrader={"grade": false, "grade_id": "capstone-stream", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class TinyGPT:
    """A language model that can be trained, kept, made smaller and talked to.

    tokenizer  a CharTokenizer or BPETokenizer
    model      a GPT for its vocabulary, or one made from it by `quantize_model`
    held_out   text from the same source that the model was not trained on, to measure it by
    history    rows (step, loss of the batches since the last row, loss of some held-out text)
    after      what `chat` puts after what somebody says
    until      a text that ends what the model says; "" for none
    """

    def __init__(self, tokenizer, model, held_out: str = "", history=(), after: str = "", until: str = ""):
        if tokenizer.vocab_size != model.vocab_size:
            raise ValueError(
                f"TinyGPT: the tokenizer has {tokenizer.vocab_size} tokens and the model {model.vocab_size}; "
                "they do not belong together"
            )
        self.tokenizer = tokenizer
        self.model = model.eval()
        self.held_out = held_out
        self.history = [tuple(row) for row in history]
        self.after = after
        self.until = until
        self._bytes = [token if isinstance(token, bytes) else token.encode() for token in tokenizer.vocab]
        self._stops = [i for i, token in enumerate(self._bytes) if until.encode() in token] if until else None

    @property
    def format(self) -> str:
        """How the weights are kept: "float32", "int8", or "int8 inputs" where inputs become bytes as well."""
        return _model_format(self.model)

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays that the model holds."""
        return model_size(self.model)

    @classmethod
    def train(
        cls,
        text: str,
        *,
        tokenizer: str = "char",
        vocab_size: int | None = None,
        embed_dim: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        context: int = 64,
        steps: int = 500,
        batch_size: int = 16,
        lr: float = 3e-3,
        held_out: float = 0.1,
        seed: int = 0,
        on_step=None,
    ) -> "TinyGPT":
        """Learn to go on as `text` does.

        tokenizer   "char", every character of the text is a token, or "bpe", byte pairs, at most `vocab_size` of them
        context     how many tokens the model sees at once
        held_out    which share of the text, at its end, is kept to measure by: nothing learns from it
        seed        decides the first weights and which windows are drawn: the same seed gives the same model
        on_step     called as on_step(step, loss) after each step

        Where every line of the text is a question, a tab and an answer, the lines are shuffled before the end is held
        out, `chat` puts a tab after a question, and an answer ends with its line.

        Raises TypeError or ValueError for settings that make no sense or a text that is too short, before training.
        """
        if not isinstance(text, str):
            raise TypeError(f"TinyGPT.train needs a text, got {type(text).__name__}; read the file first")
        if not text.strip():
            raise ValueError("TinyGPT.train needs a text to learn from, got one without any character to see")
        for name, value in (("context", context), ("steps", steps), ("batch_size", batch_size)):
            _positive("TinyGPT.train", name, value)
        if not 0 < _number("TinyGPT.train", "held_out", held_out) < 1:
            raise ValueError(f"TinyGPT.train needs 0 < held_out < 1, a share of the text, got {held_out}")
        if not _number("TinyGPT.train", "lr", lr):
            raise ValueError("TinyGPT.train needs lr > 0, got 0")
        rng = np.random.default_rng(seed)
        lines = text.splitlines()
        pairs = all(line.count("\t") == 1 for line in lines)
        if pairs:
            text = "".join(lines[i] + "\n" for i in rng.permutation(len(lines)))
        cut = len(text) - math.ceil(len(text) * held_out)
        learnt, kept = text[:cut], text[cut:]
        if not learnt:
            raise ValueError(f"TinyGPT.train: holding out {held_out:.0%} of {len(text)} characters leaves none")
        tokens = create_tokenizer(tokenizer, learnt, vocab_size)
        ids, unseen = np.array(tokens.encode(learnt, False)), np.array(tokens.encode(kept, False))
        if len(ids) <= context or len(unseen) < 2:
            raise ValueError(
                f"TinyGPT.train needs more than {context} tokens to learn from, the context, and at least 2 to hold "
                f"out, got {len(ids)} and {len(unseen)}; take a longer text or a smaller context"
            )
        model = GPT(tokens.vocab_size, embed_dim, num_layers, num_heads, context, rng=rng)
        history, losses, every = [], [], max(1, steps // 10)

        def after_step(step, loss):
            losses.append(loss)
            if step == 1 or step % every == 0 or step == steps:
                history.append((step, float(np.mean(losses)), text_loss(model, unseen[: 32 * context + 1])))
                model.train()
                losses.clear()
            if on_step is not None:
                on_step(step, loss)

        fit(model, ids, steps, batch_size, lr, rng, after_step)
        return cls(tokens, model, kept, history, *(("\t", "\n") if pairs else ()))

    def encode(self, text: str) -> list[int]:
        """The tokens of a prompt. <EOS> in it is five characters and ends nothing.

        Raises ValueError if it is empty, or has characters that the model has never seen.
        """
        ids = self.tokenizer.encode(text, allow_special=False)
        if not ids:
            raise ValueError("TinyGPT needs a prompt to go on from, got an empty one")
        unknown = self.tokenizer.special_ids.get("<UNK>")
        strange = sorted({character for character, i in zip(text, ids) if i == unknown})
        if strange:
            raise ValueError(
                f"TinyGPT: the prompt has {', '.join(map(repr, strange))}, which the model has never seen; "
                "leave that out, or train with tokenizer='bpe', which knows all characters"
            )
        return ids

    def loss(self, text: str) -> float:
        """How surprised the model is by a text, in nats per token; see `text_loss`. Unknown characters are `<UNK>`."""
        return text_loss(self.model, self.tokenizer.encode(text, allow_special=False))

    def stream(
        self,
        prompt: str,
        max_new_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = None,
        seed=None,
    ):
        """What follows a prompt, piece by piece as it is found; every piece is one or more whole characters.

        temperature, top_k, top_p   as for `token_probabilities`; temperature 0 always takes the likeliest token
        seed                        a seed or generator; the library's own by default

        All is checked when this is called, before the first piece is asked for.
        """
        return self._stream(Memoized(self.model), self.encode(prompt), max_new_tokens, temperature, top_k, top_p, seed)

    def _stream(self, memory, ids, max_new_tokens, temperature, top_k, top_p, seed):
        """The pieces of text that follow the tokens `ids`, found by a `Memoized` model."""
        ### BEGIN SOLUTION
        found = memory.stream(ids, max_new_tokens, temperature, top_k, top_p, self._stops, generator(seed))
        return whole_characters(self._bytes[i] for i in found)
        ### END SOLUTION

    def generate(self, prompt: str, max_new_tokens: int = 200, **settings) -> str:
        """The prompt and what follows it; settings as for `stream`."""
        return prompt + "".join(self.stream(prompt, max_new_tokens, **settings))

    def quantize(self, calibration: str | None = None) -> "TinyGPT":
        """The same with weights in int8, for writing only. This one stays as it is.

        calibration   a text; then the inputs of linear layers become int8 as well, in the range that they have on it
        """
        if self.format != "float32":
            raise ValueError(f"TinyGPT.quantize needs weights in float32, these are {self.format} already")
        batches = None
        if calibration is not None:
            ids = self.encode(calibration)
            T = self.model.max_seq_len
            batches = [np.array([ids[start : start + T]]) for start in range(0, len(ids), T)]
        model = quantize_model(self.model, batches)
        return TinyGPT(self.tokenizer, model, self.held_out, self.history, self.after, self.until)

    def _sizes(self):
        return {name: getattr(self.model, name) for name in _SIZES}

    def save(self, path):
        """Write all of it into one file, at once or not at all; nothing in it is code.

        Raises ValueError if `load` could not build the model again, as one whose layers were made narrower.
        """
        kinds = [kind for kind, tokenizer in _KINDS.items() if type(self.tokenizer) is tokenizer]
        if not kinds:
            raise TypeError(f"TinyGPT.save knows char and bpe tokenizers, got {type(self.tokenizer).__name__}")
        state, again = self.model.state_dict(), _empty_model(self._sizes(), self.format).state_dict()
        form = {name: (array.shape, array.dtype) for name, array in again.items()}
        for name in {**form, **state}:
            here = (state[name].shape, state[name].dtype) if name in state else "nothing"
            if form.get(name) != here:
                raise ValueError(
                    f"TinyGPT.save keeps a GPT in float32 or int8 with all its layers; {name} would be "
                    f"{form.get(name, 'nothing')} when loaded and is {here}. Keep such a model with tinytorch.save"
                )
        about = {
            "sizes": self._sizes(),
            "format": self.format,
            "tokenizer": {"kind": kinds[0], "files": self.tokenizer._files()},
            "held_out": self.held_out,
            "history": self.history,
            "after": self.after,
            "until": self.until,
        }
        save(path, self.model, tinygpt=about)

    @classmethod
    def load(cls, path) -> "TinyGPT":
        """What was saved there, and writes the same.

        Raises FileNotFoundError, or CheckpointError for a file that is damaged or no TinyGPT.
        """
        content = load(path)
        about = content.get("tinygpt")
        if not isinstance(about, dict):
            raise CheckpointError(f"{path} is a checkpoint, but not of a TinyGPT; TinyGPT.save writes those")
        try:
            kind = _KINDS[about["tokenizer"]["kind"]]
            files = about["tokenizer"]["files"]
            tokenizer = kind._from_files(Path(path), *(files[name] for name in kind._names))
            if about["format"] not in _FORMATS:
                raise ValueError(f"weights in {about['format']!r} are not known here")
            model = _empty_model(about["sizes"], about["format"])
            model.load_state_dict(content["model"])
            return cls(tokenizer, model, *(about[name] for name in ("held_out", "history", "after", "until")))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged, or of another version of TinyGPT: {error}") from error

    def chat(self, lines=None, out=None, max_new_tokens=200, temperature=0.8, top_k=None, top_p=None, seed=None):
        """Answer line after line until there are no more; the model sees what was said before.

        lines   where they come from: standard input unless said otherwise; at a terminal each is asked for with "> "
        out     where answers go: standard output unless said otherwise
        others  as for `stream`
        """
        import sys

        terminal = lines is None and sys.stdin.isatty()
        lines, out = iter(sys.stdin if lines is None else lines), sys.stdout if out is None else out
        rng, memory, said = generator(seed), Memoized(self.model), []
        while True:
            out.write("> " if terminal else "")
            out.flush()
            line = next(lines, None)
            if line is None:
                break
            line = line.rstrip("\r\n")
            if not line:
                continue
            try:
                asked = self.encode(line + self.after)
            except ValueError as error:
                out.write(f"({error})\n")
                continue
            if len(said) + len(asked) + max_new_tokens > self.model.max_seq_len:  # forget, and keep what was asked now
                said = []
            said, written = said + asked, ""
            for piece in self._stream(memory, said, max_new_tokens, temperature, top_k, top_p, rng):
                out.write(piece)
                out.flush()
                written += piece
            out.write("" if written.endswith("\n") else "\n")
            said += self.tokenizer.encode(written, allow_special=False)

    def __repr__(self):
        m = self.model
        return (
            f"TinyGPT({self.tokenizer}, {m.num_layers} layers of width {m.embed_dim}, {m.max_seq_len} places, "
            f"{self.format}, {self.nbytes:,} bytes)"
        )


# %%
app = TinyGPT.train(TEXT, embed_dim=64, context=48, steps=300, lr=5e-3, seed=0)
print(app)
for step, trained, unseen in app.history[::3]:
    print(f"step {step:4}   loss {trained:.3f}   held out {unseen:.3f}")
for line in app.held_out.splitlines()[1:5]:
    question, answer = line.split("\t")
    print(f"{question}  {app.generate(question + app.after, temperature=0).split(app.after)[1].strip()}  ({answer})")
