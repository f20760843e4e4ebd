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
#| default_exp text.tokenization

# %%
#| export
"""Text to numbers and back: a token per character, or byte-pair encoding.

A tokenizer cuts text into tokens and gives each a number, its id. `CharTokenizer` knows a list of characters;
`BPETokenizer` starts from the 256 bytes, so it can write any text, and learns which neighbours to join. Both keep a few
special tokens that are never cut.
"""

import functools
import json
import os
import re
import string
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

SPECIAL_TOKENS = ("<PAD>", "<UNK>", "<BOS>", "<EOS>")


# %% nbgrader={"grade": false, "grade_id": "tokenization-special", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def split_special(text: str, special_tokens) -> list[str]:
    """`text` cut at the special tokens in it: text, special token, text, ..., special token, text.

    Pieces at odd places are special tokens; the pieces of text between them may be empty. Where two special tokens
    begin at the same place, the longer one counts.
    """
    if not special_tokens:
        return [text]
    ### BEGIN SOLUTION
    longest_first = sorted(special_tokens, key=len, reverse=True)
    return re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text)
    ### END SOLUTION


# %%
#| export
def _check_text(who, text):
    if not isinstance(text, str):
        raise TypeError(f"{who} needs text, got {type(text).__name__}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{who} needs text that UTF-8 can write, got {text[error.start]!r} at {error.start}: half a surrogate "
                "pair, which comes from text that was decoded wrongly"
            ) from None


def _texts(who, corpus):
    """The texts of a corpus: a single text, or any number of them."""
    if not isinstance(corpus, Iterable):
        raise TypeError(f"{who} needs a text or several, got {type(corpus).__name__}")
    for text in [corpus] if isinstance(corpus, str) else corpus:
        _check_text(who, text)
        yield text


def _check_special(who, special_tokens):
    """Special tokens as a tuple. Their form keeps them apart from learnt tokens, also in files."""
    special_tokens = tuple(special_tokens)
    for token in special_tokens:
        if not isinstance(token, str) or not re.fullmatch("<[!-~]+>", token):
            raise ValueError(f"{who} needs special tokens of ASCII characters between < and >, as <EOS>, got {token!r}")
    if len(set(special_tokens)) < len(special_tokens):
        raise ValueError(f"{who} needs different special tokens, got {', '.join(special_tokens)}")
    return special_tokens


class Tokenizer:
    """Text to a list of ids, and back.

    vocab          the token of each id
    vocab_size     how many ids there are: 0..vocab_size - 1
    special_ids    the id of each special token; they mark what is not text, and are never cut

    A subclass turns text without special tokens into ids (`_encode`), ids into text (`_decode`), and itself into files
    (`_files`, `_from_files`).
    """

    vocab = None
    special_ids = {}

    @property
    def vocab_size(self) -> int:
        return len(self.vocab)

    def _check_ready(self, method):
        if self.vocab is None:
            raise RuntimeError(f"{self} must be trained before {method}: call train(corpus), or load one from files")

    def encode(self, text: str, allow_special: bool = True) -> list[int]:
        """The ids of `text`.

        allow_special   whether "<EOS>" in the text means the special token. Say False for text from strangers: then
                        it is five characters as any others, and nobody can end your document for you
        """
        self._check_ready("encode")
        _check_text(f"{type(self).__name__}.encode", text)
        if not allow_special:
            return self._encode(text)
        first, *rest = split_special(text, self.special_ids)
        ids = self._encode(first)
        for special, piece in zip(rest[::2], rest[1::2]):
            ids.append(self.special_ids[special])
            ids += self._encode(piece)
        return ids

    def decode(self, ids, skip_special: bool = False) -> str:
        """The text of `ids`, a row of integers: a list, array or tensor.

        skip_special   leave the special tokens out

        Raises ValueError for an id outside 0..vocab_size - 1.
        """
        self._check_ready("decode")
        who = f"{type(self).__name__}.decode"
        array = np.asarray(ids)
        if array.size > 0 and array.dtype.kind not in "iu":
            raise TypeError(f"{who} needs integers, got {array.dtype if array.ndim else type(ids).__name__}")
        if array.ndim != 1:
            raise ValueError(f"{who} needs one row of ids, got shape {array.shape}; decode a batch row by row")
        if array.size == 0:
            return ""
        if array.min() < 0 or array.max() >= self.vocab_size:
            place = int(np.flatnonzero((array < 0) | (array >= self.vocab_size))[0])
            raise ValueError(
                f"{who} needs ids in 0..{self.vocab_size - 1}, got {array[place]} at place {place}: out of range"
            )
        ids = array.tolist()
        if skip_special:
            special = set(self.special_ids.values())
            ids = [i for i in ids if i not in special]
        return self._decode(ids)

    def save(self, path):
        """Write the tokenizer into the folder `path`, which is made if need be."""
        self._check_ready("save")
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{type(self).__name__}.save needs a folder, but {folder} is a file")
        files = self._files()
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            temporary = folder / f".{name}.{os.getpid()}.tmp"
            temporary.write_text(text, encoding="utf-8", newline="\n")
            os.replace(temporary, folder / name)

    @classmethod
    def load(cls, path):
        """The tokenizer that was saved into the folder `path`.

        Raises FileNotFoundError for files that are missing, ValueError for files that are damaged or do not belong
        together.
        """
        folder = Path(path)
        if cls is Tokenizer:
            cls = BPETokenizer if (folder / "merges.txt").is_file() else CharTokenizer
        texts = []
        for name in cls._names:
            try:
                texts.append((folder / name).read_text(encoding="utf-8"))
            except (FileNotFoundError, NotADirectoryError):
                wanted = " and ".join(cls._names)
                raise FileNotFoundError(f"{cls.__name__}.load needs {wanted} in {folder}, {name} is missing") from None
            except UnicodeDecodeError as error:
                raise ValueError(f"{folder / name} is damaged: byte {error.start} is not UTF-8") from None
        return cls._from_files(folder, *texts)


def _read_vocab(path, text):
    """The tokens of a vocab.json by id. Raises ValueError unless ids 0..V-1 each have one token of their own."""

    def unique(pairs):
        if repeated := [token for token, n in Counter(token for token, _ in pairs).items() if n > 1]:
            raise ValueError(f"{path} is damaged: it has the token {repeated[0]!r} twice")
        return dict(pairs)

    try:
        ids = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged or cut off: {error}") from None
    if not isinstance(ids, dict) or not all(type(i) is int for i in ids.values()):
        raise ValueError(f"{path} is no vocabulary: it must be one JSON object from token to id")
    tokens = dict(zip(ids.values(), ids))
    if sorted(tokens) != list(range(len(ids))):
        wrong = next(i for i in range(len(ids)) if i not in tokens)
        raise ValueError(f"{path} needs the ids 0..{len(ids) - 1} for its {len(ids)} tokens, {wrong} is missing")
    return [tokens[i] for i in range(len(ids))]


# %% nbgrader={"grade": false, "grade_id": "tokenization-char", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class CharTokenizer(Tokenizer):
    """A token per character. A character that is not in the vocabulary becomes `<UNK>`, and is lost.

    vocab   the characters to know, in the order of their ids; by default printable ASCII. The special tokens come
            first: `<PAD> <UNK> <BOS> <EOS>` are 0 to 3
    """

    _names = ("vocab.json",)

    def __init__(self, vocab=None):
        characters = sorted(string.printable) if vocab is None else [t for t in vocab if t not in SPECIAL_TOKENS]
        for character in characters:
            if not isinstance(character, str) or len(character) != 1:
                raise ValueError(f"CharTokenizer needs single characters, got {character!r}; see build_vocab for texts")
        if repeated := [character for character, n in Counter(characters).items() if n > 1]:
            raise ValueError(f"CharTokenizer needs each character once, got {repeated[0]!r} twice")
        self._know(characters)

    def _know(self, characters):
        self.vocab = [*SPECIAL_TOKENS, *characters]
        self.special_ids = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
        self._ids = {token: i for i, token in enumerate(self.vocab)}

    def build_vocab(self, corpus, vocab_size: int | None = None):
        """Know the characters of `corpus`, a text or several, in the order of their code points; forget all others.

        vocab_size   keep only the most frequent characters, so that there are at most so many tokens
        """
        who = "CharTokenizer.build_vocab"
        counts = Counter()
        for text in _texts(who, corpus):
            for piece in split_special(text, SPECIAL_TOKENS)[::2]:
                counts.update(piece)
        if not counts:
            raise ValueError(f"{who} needs at least one character, got an empty corpus")
        if vocab_size is not None and vocab_size <= len(SPECIAL_TOKENS):
            raise ValueError(f"{who} needs a vocab_size above {len(SPECIAL_TOKENS)}, got {vocab_size}")
        room = len(counts) if vocab_size is None else vocab_size - len(SPECIAL_TOKENS)
        ### BEGIN SOLUTION
        by_count = sorted(counts, key=lambda character: (-counts[character], character))
        self._know(sorted(by_count[:room]))
        ### END SOLUTION
        return self

    def _encode(self, text):
        ### BEGIN SOLUTION
        unknown = self._ids["<UNK>"]
        return [self._ids.get(character, unknown) for character in text]
        ### END SOLUTION

    def _decode(self, ids):
        ### BEGIN SOLUTION
        return "".join([self.vocab[i] for i in ids])
        ### END SOLUTION

    def _files(self):
        return {"vocab.json": json.dumps({t: i for i, t in enumerate(self.vocab)}, ensure_ascii=False)}

    @classmethod
    def _from_files(cls, folder, vocab):
        path = folder / "vocab.json"
        tokens = _read_vocab(path, vocab)
        if tuple(tokens[: len(SPECIAL_TOKENS)]) != SPECIAL_TOKENS:
            raise ValueError(f"{path} is not of a CharTokenizer: its first tokens are not {', '.join(SPECIAL_TOKENS)}")
        return cls(tokens)

    def __repr__(self):
        return f"CharTokenizer({self.vocab_size} tokens, {len(SPECIAL_TOKENS)} of them special)"


# %%
#| export
@functools.cache
def _word_pattern(ascii):
    """GPT-2's pattern (Radford et al. 2019), for text in ASCII or for any.

    Letters and numbers are Unicode's categories L and N. Python's `\\w` is both of them and the underscore, `\\d` the
    decimal digits alone; the other numbers (as in x², ½, Ⅷ) are looked up once. White space is Unicode's, which
    unlike Python's `\\s` leaves out the four separators U+001C to U+001F.
    """
    if ascii:
        letters, numbers, blank = "[A-Za-z]+", "[0-9]+", r"\t-\r "
        others = rf"[^A-Za-z0-9{blank}]+"
    else:
        more = "".join(chr(i) for i in range(0x20000) if unicodedata.category(chr(i)) in ("Nl", "No"))
        letter = rf"[^\W\d_{more}]"
        letters, numbers = rf"(?:[A-Za-z]++{letter}*|{letter}+)", rf"[\d{more}]+"  # ASCII first: it is quicker
        blank = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
        others = rf"(?:[^\w{blank}]|_)++"
    contractions = "'(?:[stmd]|re|ve|ll)"
    return re.compile(rf"{contractions}| ?{letters}| ?{numbers}| ?{others}|[{blank}]+(?![^{blank}])|[{blank}]+")


def split_words(text: str) -> list[str]:
    """`text` cut into words: letters, numbers or other signs, each with the blank before it; white space that is left.

    Nothing is lost: joined, the words are the text. Merges never reach across the border of a word.
    """
    return _word_pattern(text.isascii()).findall(text)


# %% nbgrader={"grade": false, "grade_id": "tokenization-merge-word", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
_END = -1  # closes a word, so that every token has a neighbour
_GONE = -2  # a place whose token has become part of the one before it
_NOTHING = 1 << 40  # what a pair makes that is no merge: later than everything


def merge_word(word: bytes, made: dict) -> list[int]:
    """The tokens of one word (of at least one byte): of all pairs that merge, the one learnt first, until none does.

    made   what a pair of tokens makes: 0..255 are the bytes, 256 + i is made by merge i
    """
    get, tokens = made.get, [*word, _END]
    makes = [get(pair, _NOTHING) for pair in pairwise(tokens)]
    ### BEGIN SOLUTION
    while (new := min(makes)) < _NOTHING:
        i = makes.index(new)
        tokens[i] = new
        del tokens[i + 1], makes[i + 1]
        makes[i] = get((new, tokens[i + 1]), _NOTHING)
        if i > 0:
            makes[i - 1] = get((tokens[i - 1], new), _NOTHING)
    ### END SOLUTION
    return tokens[:-1]


# %%
#| export
def _merge_long_word(word, made):
    """What `merge_word` gives, in n log n steps instead of n^2: neighbours are linked, and a heap knows who is next."""
    tokens, n = [*word, _END], len(word)
    left, right = list(range(-1, n)), list(range(1, n + 2))
    heap = [(made[pair], i) for i, pair in enumerate(pairwise(word)) if pair in made]
    heapify(heap)
    while heap:
        new, i = heappop(heap)
        j = right[i]
        if made.get((tokens[i], tokens[j])) != new:
            continue  # one of the two has merged with somebody else
        tokens[i], tokens[j] = new, _GONE
        h, k = left[i], right[j]
        right[i], left[k] = k, i
        if (after := made.get((new, tokens[k]))) is not None:
            heappush(heap, (after, i))
        if h >= 0 and (before := made.get((tokens[h], new))) is not None:
            heappush(heap, (before, h))
    return [token for token in tokens[:-1] if token != _GONE]


class _Words(dict):
    """The ids of words met so far; asked for a new word, it works them out."""

    LIMIT = 100_000  # words remembered, at most 32 characters each

    def __init__(self, made, ids):
        self.made, self.ids = made, ids

    def __missing__(self, word):
        merge = merge_word if len(word) <= 32 else _merge_long_word
        return self.remember(word, merge(word.encode(), self.made))

    def remember(self, word, tokens):
        """The ids of `word`, which consists of `tokens`."""
        ids = [self.ids[token] for token in tokens]
        if len(word) <= 32:
            if len(self) >= self.LIMIT:
                self.clear()
            self[word] = ids
        return ids


# %% nbgrader={"grade": false, "grade_id": "tokenization-learn-merges", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def learn_merges(words: dict, n: int):
    """The first `n` merges of byte-pair encoding (Sennrich et al. 2016, Algorithm 1); fewer when all words are whole.

    words     how often each word (bytes) occurs
    returns   the merges, pairs of tokens: 0..255 are the bytes, 256 + i is what pair i makes;
              and from each word to the tokens it consists of in the end

    The most frequent pair is merged first; of equally frequent ones the smallest. The words lie in one row; counts are
    kept up to date at the places that change, and a heap proposes the largest.
    """
    tokens, weight = [], []
    for word, count in words.items():
        tokens += [*word, _END]
        weight += [count] * (len(word) + 1)
    left, right = list(range(-1, len(tokens) - 1)), list(range(1, len(tokens) + 1))

    counts, places = defaultdict(int), defaultdict(list)
    for i, pair in enumerate(pairwise(tokens)):
        counts[pair] += weight[i]
        places[pair].append(i)
    heap = [(-count, pair) for pair, count in counts.items() if _END not in pair]
    heapify(heap)

    merges = []
    while heap and len(merges) < n:
        count, pair = heappop(heap)
        if counts[pair] != -count:  # an old entry: the pair has become rarer since
            if counts[pair] > 0:
                heappush(heap, (-counts[pair], pair))
            continue
        (a, b), new = pair, 256 + len(merges)
        merges.append(pair)
        changed = set()
        for i in sorted(places.pop(pair)):
            j = right[i]
            if tokens[i] != a or tokens[j] != b:
                continue  # merged away meanwhile, like the second pair in "aaa"
            h, k = left[i], right[j]
            ### BEGIN SOLUTION
            for old, pair_now, place in (
                ((tokens[h], a), (tokens[h], new), h),
                ((b, tokens[k]), (new, tokens[k]), i),
            ):
                if _END not in old:
                    counts[old] -= weight[i]
                    counts[pair_now] += weight[i]
                    places[pair_now].append(place)
                    changed.add(pair_now)
            ### END SOLUTION
            tokens[i], tokens[j] = new, _GONE
            right[i], left[k] = k, i
        counts[pair] = 0
        for pair in changed:
            if counts[pair] > 0:  # in "aaaa" the pair aa-a comes and goes
                heappush(heap, (-counts[pair], pair))

    row = filter(_GONE.__ne__, tokens)
    return merges, {word: list(iter(row.__next__, _END)) for word in words}


# %% nbgrader={"grade": false, "grade_id": "tokenization-byte-symbols", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
@functools.cache
def byte_symbols() -> list[str]:
    """A visible character for each of the 256 bytes, as GPT-2's files write them.

    The printable characters of Latin-1 stand for themselves: ! to ~, U+00A1 to U+00AC, U+00AE to U+00FF. The other
    bytes get U+0100, U+0101, ... in their order, so that the blank is U+0120.
    """
    ### BEGIN SOLUTION
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in visible]
    return [chr(byte if byte in visible else 256 + others.index(byte)) for byte in range(256)]
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "tokenization-bpe", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class BPETokenizer(Tokenizer):
    """Byte-level byte-pair encoding: the 256 bytes, and what training found worth joining. Any text comes back whole.

    vocab_size       how many tokens to have after training: special tokens, bytes, merges; fewer where nothing is left
                     to merge
    special_tokens   written <...>; they get the ids from 0, then come the bytes, then the merges

    `vocab` holds the bytes of each token, `merges` the pairs of them in the order they were learnt.
    """

    _names = ("vocab.json", "merges.txt")

    def __init__(self, vocab_size: int = 1024, special_tokens=SPECIAL_TOKENS):
        special_tokens = _check_special("BPETokenizer", special_tokens)
        if not isinstance(vocab_size, int) or isinstance(vocab_size, bool):
            raise TypeError(f"BPETokenizer needs a whole number as vocab_size, got {vocab_size!r}")
        least = 256 + len(special_tokens)
        if vocab_size < least:
            raise ValueError(
                f"BPETokenizer needs a vocab_size of at least {least} for 256 bytes and {len(special_tokens)} special "
                f"tokens, got {vocab_size}"
            )
        self._wanted = vocab_size
        self.special_ids = {token: i for i, token in enumerate(special_tokens)}

    @property
    def vocab_size(self) -> int:
        return self._wanted if self.vocab is None else len(self.vocab)

    def train(self, corpus):
        """Learn the merges from `corpus`, a text or several. Starts anew each time; returns the tokenizer."""
        special_ids = {token: i for i, token in enumerate(self.special_ids)}
        counts = Counter()
        for text in _texts("BPETokenizer.train", corpus):
            ### BEGIN SOLUTION
            for piece in split_special(text, special_ids)[::2]:
                counts.update(split_words(piece))
            ### END SOLUTION
        if not counts:
            raise ValueError("BPETokenizer.train needs at least one character of text, got an empty corpus")
        words = {word.encode(): count for word, count in counts.items()}
        first = len(special_ids)
        merges, cut = learn_merges(words, self._wanted - 256 - first)
        self._know(merges, range(first, first + 256 + len(merges)), special_ids)
        for word in counts:
            self._words.remember(word, cut[word.encode()])
        return self

    def _know(self, merges, ids, special_ids):
        """Take over merges of token numbers. `ids` are the ids of the bytes and of what each merge makes."""
        tokens = [bytes([byte]) for byte in range(256)]
        for a, b in merges:
            tokens.append(tokens[a] + tokens[b])
        self.merges = [(tokens[a], tokens[b]) for a, b in merges]
        self.special_ids = special_ids
        self.vocab = [b""] * (len(ids) + len(special_ids))
        for i, token in chain(zip(ids, tokens), ((i, token.encode()) for token, i in special_ids.items())):
            self.vocab[i] = token
        self._wanted = len(self.vocab)
        self._words = _Words({pair: 256 + rank for rank, pair in enumerate(merges)}, list(ids))

    def _encode(self, text):
        return list(chain.from_iterable(map(self._words.__getitem__, split_words(text))))

    def _decode(self, ids):
        ### BEGIN SOLUTION
        return b"".join([self.vocab[i] for i in ids]).decode("utf-8", errors="replace")
        ### END SOLUTION

    def _files(self):
        symbols = byte_symbols()

        def written(token):
            return "".join([symbols[byte] for byte in token])

        names = [written(token) for token in self.vocab]  # special tokens are ASCII: written as they are
        lines = ["#version: 0.2", *(f"{written(a)} {written(b)}" for a, b in self.merges)]
        return {
            "vocab.json": json.dumps({name: i for i, name in enumerate(names)}, ensure_ascii=False),
            "merges.txt": "\n".join(lines) + "\n",
        }

    @classmethod
    def _from_files(cls, folder, vocab, merges):
        ids = {token: i for i, token in enumerate(_read_vocab(folder / "vocab.json", vocab))}
        number = {symbol: byte for byte, symbol in enumerate(byte_symbols())}  # of each token that may be merged
        if absent := [f"0x{byte:02X}" for symbol, byte in number.items() if symbol not in ids]:
            raise ValueError(f"{folder / 'vocab.json'} needs all 256 bytes, byte {absent[0]} is missing")
        pairs = []
        lines = merges.removesuffix("\n").split("\n")
        first = 1 if lines[0].startswith("#version") else 0
        for n, line in enumerate(lines[first:], first + 1):
            where = f"{folder / 'merges.txt'}, line {n}"
            parts = line.split(" ")
            if len(parts) != 2 or parts[0] not in number or parts[1] not in number:
                raise ValueError(f"{where} is damaged: it needs two tokens that exist by then, got {line!r}")
            token = "".join(parts)
            if token in number:
                raise ValueError(f"{where} is damaged: it makes {token!r}, which exists already")
            if token not in ids:
                raise ValueError(f"{where} makes {token!r}, which is not in vocab.json; the two do not belong together")
            number[token] = 256 + len(pairs)
            pairs.append((number[parts[0]], number[parts[1]]))
        special_ids = {token: i for token, i in ids.items() if token not in number}
        for token in special_ids:
            if not re.fullmatch("<.+>", token):
                raise ValueError(
                    f"{folder / 'merges.txt'} makes no {token!r}, which is in vocab.json and no special token <...>; "
                    "it is cut off, or the two do not belong together"
                )
        tokenizer = cls(len(ids), ())
        tokenizer._know(pairs, [ids[token] for token in number], special_ids)
        return tokenizer

    def __repr__(self):
        if self.vocab is None:
            return f"BPETokenizer(vocab_size={self._wanted}, not trained)"
        return f"BPETokenizer({self.vocab_size} tokens, {len(self.special_ids)} of them special)"


# %%
#| export
def create_tokenizer(kind: str = "char", corpus=None, vocab_size: int | None = None) -> Tokenizer:
    """A tokenizer of a kind, "char" or "bpe", that has learnt from `corpus`, a text or several.

    vocab_size   at most so many tokens; by default 1024 for "bpe" and every character of the corpus for "char"

    Without a corpus "char" knows printable ASCII, and "bpe" is an error.
    """
    if kind not in ("char", "bpe"):
        raise ValueError(f"create_tokenizer needs the kind 'char' or 'bpe', got {kind!r}")
    if kind == "char":
        return CharTokenizer() if corpus is None else CharTokenizer().build_vocab(corpus, vocab_size)
    if corpus is None:
        raise ValueError("create_tokenizer needs a corpus for 'bpe' to learn from, got None")
    return BPETokenizer(1024 if vocab_size is None else vocab_size).train(corpus)
