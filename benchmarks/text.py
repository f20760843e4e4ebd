"""Byte-pair encoding beside the `tokenizers` package: the same text, the same size of vocabulary, the same way to cut
text into words (GPT-2's pattern), one thread each.

Both count the words and merge the commonest pair over and over; of equally common pairs each takes its own, so the
merges part somewhere, and the two vocabularies must compress alike, not be alike. For encoding both are given the very
same merges, and must return the same ids.
"""

import functools
import os
import random
import tempfile
from itertools import chain
from pathlib import Path

import numpy as np

VOCABULARY = 1024


@functools.cache
def made_up_text(size, seed=0):
    """About `size` characters of lines of words that do not exist, the n-th commonest one 1 / n as common as the first.

    Deterministic, and as in natural text most words are among a few and new ones never end.
    """
    rng = random.Random(seed)
    starts, middles, ends = "bcdfghklmnprstw", "aeiouy", "dlmnrst"

    def word():
        return "".join(
            rng.choice(starts) + rng.choice(middles) + (rng.choice(ends) if rng.random() < 0.4 else "")
            for _ in range(rng.choice([1, 1, 2, 2, 3, 4]))
        )

    words = [word() for _ in range(30_000)]
    ranks = np.random.default_rng(seed).zipf(1.15, size=size // 4)
    out, length, line = [], 0, []
    for rank in ranks:
        chosen = words[(int(rank) - 1) % len(words)]
        line.append(chosen.capitalize() if not line else chosen)
        if len(line) == 9:
            out.append(" ".join(line) + rng.choice([".\n", ",\n", "?\n", "; it's so.\n", "\n\n"]))
            length, line = length + len(out[-1]), []
            if length >= size:
                break
    return "".join(out)[:size]


def texts(scale):
    """Two texts of a megabyte, times the scale: one to learn from and a new one. BENCHMARK_TEXT names a file of text to
    take them from instead, a piece of it each."""
    size = round(1_000_000 * scale)
    file = os.environ.get("BENCHMARK_TEXT")
    if not file:
        return made_up_text(size), made_up_text(size, seed=1)
    text = Path(file).read_text(encoding="utf-8")
    if len(text) < size:
        raise ValueError(f"{file} holds {len(text):,} characters, and {size:,} are needed")
    middle = len(text) // 2
    return (text[:size], text[-size:]) if len(text) >= 2 * size else (text[:size], text[middle:] + text[:middle])


def theirs_from(text):
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([text], VOCABULARY, min_frequency=1, show_progress=False)
    return tokenizer


def ours_from(text):
    from tinytorch.text.tokenization import BPETokenizer

    return BPETokenizer(VOCABULARY, []).train(text)


def train(scale=1):
    """Learn the merges. `numbers`: how many tokens there are, and into how many the text falls, in units of 1 %."""
    text, _ = texts(scale)

    def in_tinytorch():
        def numbers():
            tokenizer = ours_from(text)
            return [tokenizer.vocab_size, len(tokenizer.encode(text)) // (len(text) // 100)]

        return lambda: ours_from(text), numbers

    def in_tokenizers():
        def numbers():
            tokenizer = theirs_from(text)
            return [tokenizer.get_vocab_size(), len(tokenizer.encode(text).ids) // (len(text) // 100)]

        return lambda: theirs_from(text), numbers

    return {"tinytorch": in_tinytorch, "tokenizers": in_tokenizers}


def encode(scale=1):
    """Encode a new text with merges learnt on another; what a tokenizer remembers of words is forgotten each time.

    The package takes three times as long over one long text as over portions of it, so it gets portions.
    """
    learnt, new = texts(scale)

    def files():
        folder = tempfile.mkdtemp(prefix="benchmarks-")
        ours_from(learnt).save(folder)
        return Path(folder)

    def in_tinytorch():
        from tinytorch.text.tokenization import BPETokenizer

        folder = files()
        tokenizer = BPETokenizer.load(folder)

        def step():
            return BPETokenizer.load(folder).encode(new)

        return step, lambda: [np.array(tokenizer.encode(new))]

    def in_tokenizers():
        from tokenizers import ByteLevelBPETokenizer

        folder, lines = files(), new.splitlines(keepends=True)
        portions = ["".join(lines[i : i + 10]) for i in range(0, len(lines), 10)]

        def step():
            fresh = ByteLevelBPETokenizer.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
            return list(chain.from_iterable(encoding.ids for encoding in fresh.encode_batch(portions)))

        return step, lambda: [np.array(step())]

    return {"tinytorch": in_tinytorch, "tokenizers": in_tokenizers}
