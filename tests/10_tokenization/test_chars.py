"""One token per character, and what both tokenizers do with special tokens and with ids."""

import string

import numpy as np
import pytest

from tinytorch.core.tensor import Tensor
from tinytorch.text.tokenization import SPECIAL_TOKENS, BPETokenizer, CharTokenizer, split_special


@pytest.fixture(params=["char", "bpe"])
def either(request):
    if request.param == "char":
        return CharTokenizer()
    return BPETokenizer(280).train("the cat sat on the mat, the end")


# the vocabulary of characters


def test_special_tokens_come_first_then_the_characters_in_order():
    tokenizer = CharTokenizer(["b", "a"])
    assert tokenizer.vocab == ["<PAD>", "<UNK>", "<BOS>", "<EOS>", "b", "a"]
    assert tokenizer.vocab_size == 6
    assert tokenizer.special_ids == {"<PAD>": 0, "<UNK>": 1, "<BOS>": 2, "<EOS>": 3}
    assert tokenizer.encode("abba") == [5, 4, 4, 5]


def test_without_a_vocabulary_it_knows_printable_ascii():
    tokenizer = CharTokenizer()
    assert tokenizer.vocab_size == 4 + len(string.printable)
    assert tokenizer.decode(tokenizer.encode(string.printable)) == string.printable
    assert tokenizer.encode("é\x00") == [1, 1]


def test_a_vocabulary_may_already_hold_the_special_tokens():
    first = CharTokenizer(["x", "y"])
    assert CharTokenizer(first.vocab).vocab == first.vocab


def test_build_vocab_sorts_the_characters_of_the_corpus_and_forgets_the_old_ones():
    tokenizer = CharTokenizer()
    assert tokenizer.build_vocab("hello world") is tokenizer
    assert tokenizer.vocab[4:] == sorted(set("hello world"))
    assert tokenizer.encode("hexed") == [tokenizer.vocab.index(c) for c in "he"] + [1] + [
        tokenizer.vocab.index(c) for c in "ed"
    ]


@pytest.mark.parametrize("corpus", ["abcé", ["ab", "cé"], ("ab", "", "cé"), iter(["abcé"])])
def test_a_corpus_is_one_text_or_several(corpus):
    assert CharTokenizer().build_vocab(corpus).vocab[4:] == ["a", "b", "c", "é"]


def test_special_tokens_in_the_corpus_are_not_made_of_characters():
    assert CharTokenizer().build_vocab("a<EOS>b<PAD>").vocab[4:] == ["a", "b"]


def test_a_small_vocabulary_keeps_the_most_frequent_characters_and_the_smaller_of_equals():
    tokenizer = CharTokenizer().build_vocab("zzzyybbaac", vocab_size=7)
    assert tokenizer.vocab[4:] == ["a", "b", "z"]
    assert tokenizer.vocab_size == 7


def test_an_unknown_character_becomes_unk_and_is_lost():
    tokenizer = CharTokenizer("ab")
    assert tokenizer.encode("axb") == [4, 1, 5]
    assert tokenizer.decode([4, 1, 5]) == "a<UNK>b"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: CharTokenizer("aba"), ValueError, "each character once, got 'a' twice"),
        (lambda: CharTokenizer(["a", "bc"]), ValueError, "single characters, got 'bc'"),
        (lambda: CharTokenizer(["a", ""]), ValueError, "single characters, got ''"),
        (lambda: CharTokenizer([1]), ValueError, "single characters, got 1"),
        (lambda: CharTokenizer().build_vocab(""), ValueError, "at least one character, got an empty corpus"),
        (lambda: CharTokenizer().build_vocab([]), ValueError, "at least one character, got an empty corpus"),
        (lambda: CharTokenizer().build_vocab(["a", 3]), TypeError, "build_vocab needs text, got int"),
        (lambda: CharTokenizer().build_vocab(None), TypeError, "a text or several, got NoneType"),
        (lambda: CharTokenizer().build_vocab("a", 4), ValueError, "vocab_size above 4, got 4"),
    ],
)
def test_what_is_no_vocabulary_or_corpus_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_corpus_that_is_refused_leaves_the_vocabulary_as_it_was():
    tokenizer = CharTokenizer("ab")
    with pytest.raises(TypeError):
        tokenizer.build_vocab(["xyz", 3])
    assert tokenizer.vocab[4:] == ["a", "b"]


# special tokens


def test_split_special_has_text_at_even_and_special_tokens_at_odd_places():
    assert split_special("a<EOS>b<PAD>", SPECIAL_TOKENS) == ["a", "<EOS>", "b", "<PAD>", ""]
    assert split_special("<BOS><BOS>", SPECIAL_TOKENS) == ["", "<BOS>", "", "<BOS>", ""]
    assert split_special("a b", SPECIAL_TOKENS) == ["a b"]
    assert split_special("", SPECIAL_TOKENS) == [""]
    assert split_special("a<EOS>", ()) == ["a<EOS>"]


@pytest.mark.parametrize("tokens", [["<|a|>", "<|a|>>"], ["<|a|>>", "<|a|>"]])
def test_of_two_special_tokens_at_one_place_the_longer_counts(tokens):
    assert split_special("x<|a|>>y<|a|>", tokens) == ["x", "<|a|>>", "y", "<|a|>", ""]


def test_special_tokens_are_text_and_no_pattern():
    assert split_special("<ab><a+><a.>", ["<a+>", "<a.>"]) == ["<ab>", "<a+>", "", "<a.>", ""]


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
def test_a_special_token_is_one_id_wherever_it_stands(either, special):
    (number,) = either.encode(special)
    assert number == either.special_ids[special] == SPECIAL_TOKENS.index(special)
    assert either.encode(f"at{special}{special} the") == either.encode("at") + [number] * 2 + either.encode(" the")
    assert either.decode(either.encode(f"at{special}e")) == f"at{special}e"


def test_a_special_token_that_is_not_complete_is_text(either):
    ids = either.encode("<EOS <eos> EOS>")
    assert min(ids) > 3
    assert either.decode(ids) == "<EOS <eos> EOS>"


def test_text_from_strangers_can_be_kept_from_speaking_in_special_tokens(either):
    ids = either.encode("end<EOS>", allow_special=False)
    assert min(ids) > 3
    assert len(ids) > len(either.encode("end<EOS>"))
    assert either.decode(ids) == "end<EOS>"


def test_decoding_can_leave_special_tokens_out(either):
    ids = either.encode("<BOS>the cat<EOS><PAD><PAD>")
    assert either.decode(ids) == "<BOS>the cat<EOS><PAD><PAD>"
    assert either.decode(ids, skip_special=True) == "the cat"
    assert either.decode([3, 0], skip_special=True) == ""


# ids and texts of all kinds


def test_encoding_gives_a_list_of_python_integers(either):
    ids = either.encode("the<EOS>")
    assert type(ids) is list
    assert {type(i) for i in ids} == {int}


def test_encoding_twice_gives_two_lists(either):
    first = either.encode("the cat")
    first.clear()
    assert either.decode(either.encode("the cat")) == "the cat"


@pytest.mark.parametrize("kind", [list, tuple, np.array, Tensor, lambda ids: np.array(ids, np.uint8)])
def test_ids_may_be_a_list_array_or_tensor(kind):
    tokenizer = CharTokenizer()
    assert tokenizer.decode(kind(tokenizer.encode("the cat"))) == "the cat"


def test_nothing_is_nothing(either):
    assert either.encode("") == []
    assert either.decode([]) == ""
    assert either.decode(np.array([], np.int64)) == ""


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([4, -1], ValueError, r"got -1 at place 1: out of range"),
        ([104], ValueError, r"ids in 0\.\.103, got 104 at place 0: out of range"),
        ([0, 103, 500, -7], ValueError, "got 500 at place 2"),
        ([[4, 5]], ValueError, r"one row of ids, got shape \(1, 2\); decode a batch row by row"),
        (7, ValueError, r"one row of ids, got shape \(\)"),
        ([4.0], TypeError, "integers, got float64"),
        ([True], TypeError, "integers, got bool"),
        ("ab", TypeError, "integers, got str"),
        (None, TypeError, "integers, got NoneType"),
    ],
)
def test_what_are_no_ids_is_refused(ids, error, message):
    with pytest.raises(error, match=message):
        CharTokenizer().decode(ids)


def test_the_last_id_is_in_range(either):
    last = either.vocab_size - 1
    assert len(either.decode([0, last])) > len("<PAD>")
    with pytest.raises(ValueError, match="out of range"):
        either.decode([last + 1])


@pytest.mark.parametrize("text", [b"abc", 3, None, ["abc"]])
def test_only_text_is_encoded(either, text):
    with pytest.raises(TypeError, match=rf"encode needs text, got {type(text).__name__}"):
        either.encode(text)


def test_half_a_surrogate_pair_is_no_text(either):
    with pytest.raises(ValueError, match=r"got '\\ud83d' at 3: half a surrogate pair"):
        either.encode("ab\u00e9\ud83d")


def test_printing_says_what_it_is(either):
    assert repr(either) == f"{type(either).__name__}({either.vocab_size} tokens, 4 of them special)"
