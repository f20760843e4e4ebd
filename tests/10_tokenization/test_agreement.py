"""The same pair of files and the same text, given to the `tokenizers` package."""

import random
import unicodedata

import pytest

from tinytorch.text.tokenization import BPETokenizer

tokenizers = pytest.importorskip("tokenizers", reason="agreement is checked where tokenizers is installed")

TEXT = (
    "It's a naïve question: can 3 or 42 tokenizers agree?\n\n  They'll cut 你好世界 and привет, x² and ½ alike...\t"
    "We've seen\u00a0worse, said the café's owner; I'd say so 17 times.   The   end\n"
)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    theirs = tokenizers.ByteLevelBPETokenizer()
    theirs.train_from_iterator([TEXT * 3], 500, min_frequency=1, special_tokens=["<|endoftext|>"], show_progress=False)
    theirs.save_model(str(folder))
    return theirs, BPETokenizer.load(folder), folder


def test_their_pair_of_files_is_read(both):
    theirs, ours, _ = both
    assert ours.vocab_size == theirs.get_vocab_size()
    assert ours.special_ids == {"<|endoftext|>": theirs.token_to_id("<|endoftext|>")}


def test_ids_agree(both):
    theirs, ours, _ = both
    rng = random.Random(0)
    for _ in range(500):
        start = rng.randrange(len(TEXT))
        odd = "".join(
            character
            for character in (chr(rng.randrange(rng.choice([128, 0x3000, 0xD800]))) for _ in range(10))
            if unicodedata.category(character) != "Cn"
        )
        text = TEXT[start : start + rng.randrange(40)] + odd + "<|endoftext|>" + TEXT[-rng.randrange(9) :]
        assert ours.encode(text) == theirs.encode(text).ids
        assert theirs.decode(ours.encode(text), skip_special_tokens=False) == text


def test_our_pair_of_files_is_read(tmp_path):
    ours = BPETokenizer(400, ["<|endoftext|>"]).train(TEXT * 3)
    ours.save(tmp_path)
    theirs = tokenizers.ByteLevelBPETokenizer.from_file(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    for text in (TEXT, "something else: 你好, they'd said ½"):
        assert theirs.encode(text).ids == ours.encode(text)


def test_training_learns_as_many_merges_that_compress_as_well(both):
    theirs, _, _ = both
    ours = BPETokenizer(500, ["<|endoftext|>"]).train(TEXT * 3)
    assert ours.vocab_size == theirs.get_vocab_size()
    assert abs(len(ours.encode(TEXT)) - len(theirs.encode(TEXT).ids)) <= 2
