"""Byte-pair encoding as its definition says: one pair after the other, everything counted anew. Slow."""

from collections import Counter


def merged(tokens, pair, new):
    """`tokens` with `new` for every occurrence of `pair`, from left to right."""
    out, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(tokens[i])
            i += 1
    return out


def naive_merges(words, n):
    """The first `n` merges of `words` (from bytes to how often they occur), and what the words consist of then."""
    cut = {word: list(word) for word in words}
    merges = []
    while len(merges) < n:
        counts = Counter()
        for word, tokens in cut.items():
            for pair in zip(tokens, tokens[1:]):
                counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        cut = {word: merged(tokens, best, 256 + len(merges)) for word, tokens in cut.items()}
        merges.append(best)
    return merges, cut


def naive_word(word, merges):
    """The tokens of one word as GPT-2 finds them: of all pairs that merge, every occurrence of the one learnt first."""
    tokens, rank = list(word), {pair: i for i, pair in enumerate(merges)}
    while known := [rank[pair] for pair in zip(tokens, tokens[1:]) if pair in rank]:
        tokens = merged(tokens, merges[min(known)], 256 + min(known))
    return tokens
