"""Byte pairs: what is learnt, and how a word is cut with it."""

import copy
import pickle
import random

import pytest
from support.bpe import naive_merges, naive_word

from tinytorch.text.tokenization import (
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
    create_tokenizer,
    learn_merges,
    merge_word,
    split_words,
)

FIVE = {b"low": 5, b"lower": 2, b"lowest": 1, b"newer": 6, b"wider": 3}
TEXT = (
    "The sea was calm in the morning. The seagulls screamed, and the seamen sang: heave, heave, heave away!\n"
    "By noon the wind had turned, and by the evening there were waves as high as the mast.\n\n"
    "'We're lost,' said the captain's mate; he'd said so 17 times before.   'We aren't,' said the captain.\n"
)


def as_bytes(merges):
    made = [bytes([byte]) for byte in range(256)]
    for a, b in merges:
        made.append(made[a] + made[b])
    return made[256:]


def made(merges):
    return {pair: 256 + i for i, pair in enumerate(merges)}


# learning


def test_five_words_worked_out_by_hand():
    merges, cut = learn_merges(FIVE, 5)
    # er 11; lo, ow and w-er 8 each; w-er still 8; e-wer, n-e and lo-w 6 each; n-ewer 6
    assert as_bytes(merges) == [b"er", b"lo", b"wer", b"ewer", b"newer"]
    assert cut[b"newer"] == [260]
    assert cut[b"lower"] == [257, 258]
    assert cut[b"lowest"] == [257, *b"west"]


def test_a_pair_counts_as_often_as_its_words_occur():
    assert as_bytes(learn_merges({b"ab": 1, b"ac": 1, b"ad": 1, b"xy": 4}, 1)[0]) == [b"xy"]


def test_a_pair_counts_every_time_it_occurs_in_a_word():
    assert as_bytes(learn_merges({b"xyxyxy": 1, b"ab": 2}, 1)[0]) == [b"xy"]


def test_of_equally_frequent_pairs_the_smallest_is_merged_first_whatever_the_order_of_the_words():
    words = [b"zy", b"ab", b"mn", b"aa"]
    for seed in range(5):
        random.Random(seed).shuffle(words)
        assert as_bytes(learn_merges(dict.fromkeys(words, 1), 4)[0]) == [b"aa", b"ab", b"mn", b"zy"]


def test_of_equally_frequent_pairs_those_of_older_tokens_are_smaller():
    assert as_bytes(learn_merges({b"abz": 3, b"ab": 5, b"yx": 3}, 3)[0]) == [b"ab", b"yx", b"abz"]


@pytest.mark.parametrize(
    ("word", "tokens"),
    [
        (b"aa", [256]),
        (b"aaa", [256, 97]),
        (b"aaaa", [256, 256]),
        (b"aaaaa", [256, 256, 97]),
        (b"baaab", [98, 256, 97, 98]),
    ],
)
def test_overlapping_pairs_are_merged_from_the_left(word, tokens):
    assert merge_word(word, {(97, 97): 256}) == tokens
    merges, cut = learn_merges({word: 1, b"aa": 100}, 1)
    assert merges == [(97, 97)]
    assert cut[word] == tokens


def test_words_of_one_letter_are_learnt_from_as_from_any():
    words = {b"a" * n: n for n in range(1, 20)}
    for n in (1, 2, 5, 100):
        assert learn_merges(words, n) == naive_merges(words, n)


def test_merges_never_reach_from_word_to_word():
    merges, cut = learn_merges({b"ab": 3, b"cd": 3}, 10)
    assert as_bytes(merges) == [b"ab", b"cd"]
    assert cut == {b"ab": [256], b"cd": [257]}


def test_learning_stops_when_every_word_is_one_token():
    assert learn_merges({b"a": 9, b"b": 1}, 3) == ([], {b"a": [97], b"b": [98]})


def test_nothing_is_learnt_when_nothing_is_asked_for():
    assert learn_merges({b"abc": 2}, 0) == ([], {b"abc": [97, 98, 99]})


def test_learning_fast_is_learning_naively():
    words = {}
    for word in split_words(TEXT * 3):
        words[word.encode()] = words.get(word.encode(), 0) + 1
    merges, cut = learn_merges(words, 300)
    assert (merges, cut) == naive_merges(words, 300)


def test_learnt_tokens_are_all_different():
    tokens = as_bytes(learn_merges({word.encode(): 1 for word in split_words(TEXT)}, 1000)[0])
    assert len(set(tokens)) == len(tokens) > 100


# cutting a word


def test_the_pair_learnt_first_is_merged_first_wherever_it_stands():
    merges = [(98, 99), (97, 98)]  # bc before ab
    assert merge_word(b"abc", made(merges)) == [97, 256]
    assert merge_word(b"abcab", made(merges)) == [97, 256, 257]


def test_a_merge_can_make_the_next_one_possible_on_either_side():
    merges = [(98, 99), (97, 256), (257, 100), (120, 258)]
    assert merge_word(b"abcd", made(merges)) == [258]
    assert merge_word(b"xabcd", made(merges)) == [259]
    assert merge_word(b"xbcd", made(merges)) == [120, 256, 100]


def test_a_word_without_merges_is_its_bytes():
    assert merge_word("é".encode(), {}) == [0xC3, 0xA9]
    assert merge_word(b"a", {(97, 98): 256}) == [97]


def test_cutting_a_word_of_the_corpus_gives_what_learning_left_of_it():
    words = {word.encode(): 1 for word in split_words(TEXT)}
    for n in (10, 100, 1000):
        merges, cut = learn_merges(words, n)
        assert {word: merge_word(word, made(merges)) for word in words} == cut


@pytest.mark.parametrize("length", [31, 32, 33, 34, 500])
def test_long_words_are_cut_as_short_ones(length):
    tokenizer = BPETokenizer(400).train(TEXT)
    letters = "".join(c for c in TEXT if c.isalpha()) * 3
    merges = [pair for pair, _ in sorted(tokenizer._words.made.items(), key=lambda entry: entry[1])]
    for start in range(0, 60, 7):
        word = letters[start : start + length]
        assert [i - 4 for i in tokenizer.encode(word)] == naive_word(word.encode(), merges)
    assert [i - 4 for i in tokenizer.encode("a" * length)] == naive_word(b"a" * length, merges)
    for odd in ("th" * length, "e" * length, "hea" * length, "é" * length, "a" + "é" * length):
        assert [i - 4 for i in tokenizer.encode(odd)] == naive_word(odd.encode(), merges)


# the tokenizer


def test_ids_are_special_tokens_then_bytes_then_merges():
    tokenizer = BPETokenizer(262).train("aaaa bbb")
    assert tokenizer.vocab[:4] == [b"<PAD>", b"<UNK>", b"<BOS>", b"<EOS>"]
    assert tokenizer.vocab[4:260] == [bytes([i]) for i in range(256)]
    assert tokenizer.vocab[260:] == [b"aa", b"bb"]
    assert tokenizer.merges == [(b"a", b"a"), (b"b", b"b")]
    assert tokenizer.vocab_size == 262
    assert tokenizer.encode("aaab") == [260, 4 + 97, 4 + 98]


def test_hello_world_comes_back_with_its_blank_which_belongs_to_the_word():
    tokenizer = BPETokenizer(300).train("hello world hello world")
    ids = tokenizer.encode("hello world")
    assert tokenizer.decode(ids) == "hello world"
    assert [tokenizer.vocab[i] for i in ids] == [b"hello", b" world"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "  two  blanks ",
        "\n\t\r\n",
        "naïve café",
        "Привет, мир",
        "你好世界",
        "👩‍👩‍👧 👍🏽",
        "\x00\x7f\u0080",
        "\U0010ffff",
        "e\u0301",
        "<UNK",
    ],
)
def test_any_text_comes_back_whole(text):
    tokenizer = BPETokenizer(300).train(TEXT)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert 1 not in tokenizer.encode(text)


def test_text_is_cut_into_words_alike_in_training_and_in_encoding():
    tokenizer = BPETokenizer(2000).train(TEXT)
    assert [tokenizer.vocab[i].decode() for i in tokenizer.encode(TEXT)] == split_words(TEXT)


def test_encoding_merges_only_inside_words():
    tokenizer = BPETokenizer(300).train("ab ab ab")
    assert [tokenizer.vocab[i] for i in tokenizer.encode("ab1ab\nab")] == [b"ab", b"1", b"ab", b"\n", b"ab"]


def test_special_tokens_in_the_corpus_are_neither_learnt_from_nor_merged_across():
    tokenizer = BPETokenizer(270).train(["a<EOS>b<PAD>" * 50, "xy"])
    assert tokenizer.merges == [(b"x", b"y")]


def test_texts_of_a_corpus_are_not_joined():
    assert BPETokenizer(270).train(["ab", "cd"]).merges == [(b"a", b"b"), (b"c", b"d")]
    assert BPETokenizer(270).train(iter(["ab", "cd"])).vocab_size == 262


def test_training_ends_early_when_nothing_is_left_to_merge():
    tokenizer = BPETokenizer(1000)
    assert tokenizer.vocab_size == 1000
    assert tokenizer.train("abc") is tokenizer
    assert tokenizer.vocab_size == len(tokenizer.vocab) == 262


def test_training_again_starts_anew():
    tokenizer = BPETokenizer(262).train("hello hello")
    tokenizer.encode("hello abc")
    tokenizer.train("xyz xyz abc")
    again = BPETokenizer(262).train("xyz xyz abc")
    assert tokenizer.vocab == again.vocab
    assert tokenizer.encode("hello abc xyz") == again.encode("hello abc xyz")


def test_training_is_the_same_for_the_same_words_in_another_order():
    lines = TEXT.splitlines(keepends=True)
    assert BPETokenizer(400).train(lines).merges == BPETokenizer(400).train(lines[::-1]).merges


def test_a_vocabulary_of_bytes_alone_is_possible():
    tokenizer = BPETokenizer(256, special_tokens=()).train("aaa")
    assert tokenizer.encode("aé<EOS>") == list("aé<EOS>".encode())
    assert tokenizer.vocab_size == 256


def test_special_tokens_can_be_ones_own():
    tokenizer = BPETokenizer(300, ["<|end|>", "<|user|>"]).train(TEXT)
    assert tokenizer.special_ids == {"<|end|>": 0, "<|user|>": 1}
    assert tokenizer.encode("<|user|><EOS>")[:2] == [1, 2 + ord("<")]


def test_more_merges_never_make_more_tokens():
    lengths = [len(BPETokenizer(size).train(TEXT).encode(TEXT)) for size in (260, 270, 300, 400, 800)]
    assert lengths[0] == len(TEXT.encode())
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] < lengths[0] / 2


def test_half_a_character_is_decoded_as_the_replacement_sign():
    tokenizer = BPETokenizer(260).train("é")
    first, second = tokenizer.encode("é")
    assert tokenizer.decode([first]) == "\ufffd"
    assert tokenizer.decode([second, 4 + 97, first]) == "\ufffda\ufffd"


def test_a_character_may_be_spread_over_several_tokens():
    tokenizer = BPETokenizer(261).train("日本日本")
    ids = tokenizer.encode("日本語")
    assert len(ids) > 3
    assert tokenizer.decode(ids) == "日本語"


def test_words_remembered_are_bounded_and_forgetting_changes_nothing():
    tokenizer = BPETokenizer(300).train(TEXT)
    before = [tokenizer.encode(word) for word in split_words(TEXT)]
    tokenizer._words.LIMIT = 10
    assert [tokenizer.encode(word + "s") for word in split_words(TEXT)] != before
    assert len(tokenizer._words) <= 10
    tokenizer.encode("y" * 1000)
    assert "y" * 1000 not in tokenizer._words
    assert [tokenizer.encode(word) for word in split_words(TEXT)] == before


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_copy_encodes_alike(twin):
    tokenizer = BPETokenizer(300).train(TEXT)
    assert twin(tokenizer).encode(TEXT + "new words") == tokenizer.encode(TEXT + "new words")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: BPETokenizer(259), ValueError, "at least 260 for 256 bytes and 4 special tokens, got 259"),
        (lambda: BPETokenizer(256, ["<a>"]), ValueError, "at least 257 for 256 bytes and 1 special tokens, got 256"),
        (lambda: BPETokenizer(300.0), TypeError, r"whole number as vocab_size, got 300\.0"),
        (lambda: BPETokenizer("300"), TypeError, "whole number as vocab_size, got '300'"),
        (lambda: BPETokenizer(True), TypeError, "whole number as vocab_size, got True"),
        (lambda: BPETokenizer(300, ["<a>", "<a>"]), ValueError, "different special tokens, got <a>, <a>"),
        (lambda: BPETokenizer(300, ["end"]), ValueError, "between < and >, as <EOS>, got 'end'"),
        (lambda: BPETokenizer(300, [""]), ValueError, "got ''"),
        (lambda: BPETokenizer(300, ["<>"]), ValueError, "got '<>'"),
        (lambda: BPETokenizer(300, ["<a b>"]), ValueError, "got '<a b>'"),
        (lambda: BPETokenizer(300, ["<é>"]), ValueError, "got '<é>'"),
        (lambda: BPETokenizer(300, [3]), ValueError, "got 3"),
        (lambda: BPETokenizer(300).train(""), ValueError, "got an empty corpus"),
        (lambda: BPETokenizer(300).train(["", ""]), ValueError, "got an empty corpus"),
        (lambda: BPETokenizer(300).train("<EOS>"), ValueError, "got an empty corpus"),
        (lambda: BPETokenizer(300).train([b"ab"]), TypeError, "train needs text, got bytes"),
        (lambda: BPETokenizer(300).train(3), TypeError, "a text or several, got int"),
        (lambda: BPETokenizer(300).train("a\ud800"), ValueError, "half a surrogate pair"),
        (
            lambda: BPETokenizer(300).encode("a"),
            RuntimeError,
            "not trained.* must be trained before encode: call train",
        ),
        (lambda: BPETokenizer(300).decode([5]), RuntimeError, "must be trained before decode"),
        (lambda: BPETokenizer(300).save("nowhere"), RuntimeError, "must be trained before save"),
    ],
)
def test_what_cannot_be_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_printing_an_untrained_tokenizer_says_so():
    assert repr(BPETokenizer(300)) == "BPETokenizer(vocab_size=300, not trained)"


# create_tokenizer


def test_create_tokenizer_makes_either_kind():
    characters = create_tokenizer("char", "abc abc")
    pairs = create_tokenizer("bpe", "abc abc", 262)
    assert (type(characters), type(pairs)) == (CharTokenizer, BPETokenizer)
    assert characters.vocab[4:] == [" ", "a", "b", "c"]
    assert pairs.vocab == BPETokenizer(262).train("abc abc").vocab
    assert all(isinstance(tokenizer, Tokenizer) for tokenizer in (characters, pairs))


def test_create_tokenizer_keeps_to_the_size_asked_for():
    assert create_tokenizer("char", "aabbc", vocab_size=6).vocab[4:] == ["a", "b"]
    assert create_tokenizer("bpe", TEXT, vocab_size=300).vocab_size == 300
    every = " ".join(f"{i:x}" for i in range(5000))
    assert create_tokenizer("bpe", every).vocab_size == 1024


def test_create_tokenizer_of_characters_without_a_corpus_knows_printable_ascii():
    assert create_tokenizer("char").vocab == CharTokenizer().vocab


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("word", "abc"), "the kind 'char' or 'bpe', got 'word'"),
        (("bpe",), "a corpus for 'bpe' to learn from, got None"),
    ],
)
def test_create_tokenizer_refuses_what_it_does_not_know(arguments, message):
    with pytest.raises(ValueError, match=message):
        create_tokenizer(*arguments)
