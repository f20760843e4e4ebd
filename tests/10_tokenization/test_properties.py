"""What holds for any text."""

import functools
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from support.bpe import naive_merges, naive_word

from tinytorch.text.tokenization import (
    SPECIAL_TOKENS,
    BPETokenizer,
    CharTokenizer,
    learn_merges,
    merge_word,
    split_special,
    split_words,
)

fixed = settings(derandomize=True, deadline=None, max_examples=60)
blanks = st.sampled_from(" \n\t\r\x0b\x1c\x85\xa0\u3000")
marks = st.sampled_from(["'s", "'ll", "_", "½", "²", "é", "e\u0301", "你", "👍🏽", "<EOS>", "<PAD>", "<", "7"])
texts = st.lists(st.one_of(st.text(max_size=4), blanks, marks, st.text("abc ", max_size=6)), max_size=20).map("".join)
small = st.text("ab", min_size=1, max_size=12)
corpora = st.dictionaries(small.map(str.encode), st.integers(1, 5), min_size=1, max_size=8)


@functools.cache
def trained(vocab_size=330):
    return BPETokenizer(vocab_size).train("the cat's mat, the naïve cat: 你好 你好 7 77 777 <EOS> caféé " * 2)


@fixed
@given(text=texts)
def test_any_text_comes_back_whole(text):
    for tokenizer in (trained(), trained(260)):
        for allow_special in (True, False):
            ids = tokenizer.encode(text, allow_special)
            assert tokenizer.decode(ids) == text
            assert all(0 <= i < tokenizer.vocab_size for i in ids)


@fixed
@given(text=texts)
def test_characters_of_the_corpus_come_back_whole(text):
    tokenizer = CharTokenizer().build_vocab([text, "x"])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode(text.replace("<UNK>", "")), skip_special=True) == "".join(
        split_special(text.replace("<UNK>", ""), SPECIAL_TOKENS)[::2]
    )


@fixed
@given(text=texts)
def test_words_joined_are_the_text_and_none_is_empty(text):
    words = split_words(text)
    assert "".join(words) == text
    assert all(words)


@fixed
@given(text=texts)
def test_pieces_joined_are_the_text_and_alternate(text):
    pieces = split_special(text, SPECIAL_TOKENS)
    assert "".join(pieces) == text
    assert len(pieces) % 2 == 1
    assert all(piece in SPECIAL_TOKENS for piece in pieces[1::2])
    assert not any(special in piece for piece in pieces[::2] for special in SPECIAL_TOKENS)


@fixed
@given(words=corpora, n=st.integers(0, 12))
def test_learning_fast_is_learning_naively(words, n):
    assert learn_merges(words, n) == naive_merges(words, n)


@fixed
@given(words=corpora, n=st.integers(0, 12), other=st.text("abc", min_size=1, max_size=60))
def test_a_word_is_cut_as_by_gpt2s_algorithm(words, n, other):
    merges, cut = learn_merges(words, n)
    made = {pair: 256 + i for i, pair in enumerate(merges)}
    for word in [*words, other.encode()]:
        assert merge_word(word, made) == naive_word(word, merges)
    assert {word: merge_word(word, made) for word in words} == cut


@fixed
@given(words=st.lists(st.text("ab", max_size=200), min_size=1, max_size=3), n=st.integers(0, 20))
def test_words_of_any_length_are_cut_as_by_gpt2s_algorithm(words, n):
    tokenizer = BPETokenizer(260 + n).train(["ab", *words])
    merges, _ = naive_merges(Counter([b"ab", *(word.encode() for word in words if word)]), n)
    for word in [*words, "".join(words) * 2]:
        assert [i - 4 for i in tokenizer.encode(word)] == naive_word(word.encode(), merges)


@fixed
@given(ids=st.lists(st.integers(0, 269), max_size=20))
def test_any_row_of_ids_is_some_text(ids):
    assert trained(300).decode(ids) == b"".join(trained(300).vocab[i] for i in ids).decode(errors="replace")


@fixed
@given(text=texts)
def test_a_tokenizer_from_its_files_encodes_alike(text, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "saved"
    tokenizer = BPETokenizer(290).train(["x", text])
    tokenizer.save(folder)
    assert BPETokenizer.load(folder).encode(text) == tokenizer.encode(text)
    assert BPETokenizer.load(folder).vocab == tokenizer.vocab
