"""Module 10 with what came before it: text becomes ids, ids become batches, and a model learns from them."""

import numpy as np
import pytest
from support.checks import assert_close

from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Linear, Module
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import Tensor, manual_seed, randn
from tinytorch.data.loader import DataLoader, TensorDataset
from tinytorch.text.tokenization import BPETokenizer, CharTokenizer, Tokenizer, create_tokenizer, split_words

TEXT = (
    "She sells sea shells by the sea shore. The shells she sells are sea shells, I'm sure.\n"
    "So if she sells sea shells on the sea shore, then I'm sure she sells sea shore shells.\n"
) * 4


class Bigram(Module):
    """The simplest language model: a row of logits for each token that may come before."""

    def __init__(self, vocab_size):
        self.table = randn(vocab_size, vocab_size) * 0.02
        self.table.requires_grad = True

    def forward(self, tokens):
        return self.table[tokens]


def windows(ids, T):
    """Inputs and targets (n, T): pieces of the text, and the same one token later."""
    rows = np.lib.stride_tricks.sliding_window_view(np.array(ids), T + 1)[::T]
    return TensorDataset(rows[:, :-1].copy(), rows[:, 1:].copy())


class TestPriorStackStillWorking:
    def test_a_linear_layer_computes_x_w_plus_b(self):
        layer = Linear(2, 1)
        layer.weight.data = np.array([[2.0], [3.0]], np.float32)
        layer.bias.data = np.array([1.0], np.float32)
        assert_close(layer(Tensor([[1.0, 1.0]])), np.array([[6.0]], np.float32))

    def test_cross_entropy_of_equal_logits_is_log_v(self):
        assert_close(
            cross_entropy(Tensor(np.zeros((2, 3, 8), np.float32)), np.ones((2, 3), int)), np.float32(np.log(8))
        )

    def test_a_loader_shows_every_sample_once(self):
        loader = DataLoader(TensorDataset(np.arange(10)), 3, shuffle=True, seed=0)
        assert sorted(i for (batch,) in loader for i in batch.tolist()) == list(range(10))


class TestModule10TokenizationCore:
    @pytest.mark.parametrize("kind", ["char", "bpe"])
    def test_text_comes_back_whole(self, kind):
        tokenizer = create_tokenizer(kind, TEXT, 300)
        assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT

    def test_byte_pairs_need_fewer_tokens_than_characters(self):
        characters, pairs = create_tokenizer("char", TEXT), create_tokenizer("bpe", TEXT, 320)
        assert len(characters.encode(TEXT)) == len(TEXT)
        assert len(pairs.encode(TEXT)) < 0.4 * len(TEXT)

    def test_a_frequent_word_is_one_token_with_its_blank(self):
        tokenizer = create_tokenizer("bpe", TEXT, 320)
        assert [tokenizer.vocab[i] for i in tokenizer.encode(" shells")] == [b" shells"]

    def test_special_tokens_are_never_split(self):
        for tokenizer in (CharTokenizer(), create_tokenizer("bpe", TEXT, 300)):
            assert tokenizer.encode("<BOS><EOS><PAD><UNK>") == [2, 3, 0, 1]

    def test_files_give_the_tokenizer_back(self, tmp_path):
        for kind in ("char", "bpe"):
            tokenizer = create_tokenizer(kind, TEXT, 300)
            tokenizer.save(tmp_path / kind)
            assert Tokenizer.load(tmp_path / kind).encode(TEXT) == tokenizer.encode(TEXT)


class TestBackwardIntegration:
    def test_only_rows_of_tokens_that_occur_get_a_gradient(self):
        tokenizer = CharTokenizer()
        ids = tokenizer.encode("abca")
        model = Bigram(tokenizer.vocab_size)
        cross_entropy(model(Tensor(ids[:-1])), Tensor(ids[1:])).backward()
        rows = np.flatnonzero(np.abs(model.table.grad).sum(axis=1))
        assert rows.tolist() == sorted(tokenizer.encode("abc"))

    def test_the_row_of_a_token_that_occurs_twice_collects_both_gradients(self):
        tokenizer = CharTokenizer("ab")
        table = Tensor(np.zeros((6, 2), np.float32), requires_grad=True)
        table[Tensor(tokenizer.encode("aba"))].sum().backward()
        assert table.grad.tolist() == [[0, 0]] * 4 + [[2, 2], [1, 1]]

    def test_padding_can_be_kept_out_of_the_loss(self):
        tokenizer = CharTokenizer()
        pad = tokenizer.special_ids["<PAD>"]
        model = Bigram(tokenizer.vocab_size)
        ids, padded = tokenizer.encode("hello"), tokenizer.encode("hello<PAD><PAD><PAD>")
        short = cross_entropy(model(Tensor(ids[:-1])), Tensor(ids[1:]), ignore_index=pad)
        long = cross_entropy(model(Tensor(padded[:-1])), Tensor(padded[1:]), ignore_index=pad)
        assert_close(long, short.data)
        long.backward()
        assert not model.table.grad[pad].any()


class TestForwardIntegration:
    def test_ids_become_integer_tensors(self):
        ids = Tensor(create_tokenizer("bpe", TEXT, 300).encode("she sells"))
        assert ids.dtype == np.int64
        assert ids.ndim == 1

    @pytest.mark.parametrize("kind", ["char", "bpe"])
    def test_every_id_is_a_row_of_a_table_of_vocab_size_rows(self, kind):
        tokenizer = create_tokenizer(kind, TEXT, 300)
        table = randn(tokenizer.vocab_size, 8)
        ids = tokenizer.encode(TEXT + "<EOS> 你好 unheard-of")
        assert table[Tensor(ids)].shape == (len(ids), 8)

    def test_tensors_of_ids_are_decoded(self):
        tokenizer = create_tokenizer("bpe", TEXT, 300)
        batch = Tensor([tokenizer.encode("sea shore"), tokenizer.encode("sea shore")])
        assert [tokenizer.decode(row) for row in batch] == ["sea shore"] * 2

    def test_vocab_size_is_what_is_really_there(self):
        tokenizer = create_tokenizer("bpe", "too short to learn", 1024)
        assert tokenizer.vocab_size == len(tokenizer.vocab) < 1024


class TestCrossModuleIntegration:
    @pytest.mark.parametrize("kind", ["char", "bpe"])
    def test_a_model_of_tokens_learns_from_batches_of_text(self, kind):
        manual_seed(0)
        tokenizer = create_tokenizer(kind, TEXT, 300)
        model = Bigram(tokenizer.vocab_size)
        optimizer = Adam(model.parameters(), lr=0.05)
        loader = DataLoader(windows(tokenizer.encode(TEXT), 8), 16, shuffle=True)
        losses = []
        for _ in range(25):
            for x, y in loader:
                loss = cross_entropy(model(x), y)
                model.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        assert abs(losses[0] - np.log(tokenizer.vocab_size)) < 0.1
        assert losses[-1] < 1.7

    def test_what_a_model_has_learnt_can_be_read(self):
        tokenizer = CharTokenizer().build_vocab(TEXT)
        model = Bigram(tokenizer.vocab_size)
        ids = tokenizer.encode(TEXT)
        for _ in range(60):
            model.zero_grad()
            cross_entropy(model(Tensor(ids[:-1])), Tensor(ids[1:])).backward()
            SGD(model.parameters(), lr=30.0).step()
        with no_grad():
            best = model(Tensor(tokenizer.encode("ST"))).argmax(axis=1)
        assert tokenizer.decode(best) in ("hh", "oh")

    def test_documents_of_different_length_are_padded_to_one_batch(self):
        tokenizer = create_tokenizer("bpe", TEXT, 300)
        rows = [tokenizer.encode(f"<BOS>{text}<EOS>") for text in ("she sells", "sea shells", "by the sea shore")]
        longest = max(map(len, rows))
        data = TensorDataset(np.array([row + tokenizer.encode("<PAD>") * (longest - len(row)) for row in rows]))
        ((batch,),) = DataLoader(data, 3)
        assert batch.shape == (3, longest)
        texts = [tokenizer.decode(row, skip_special=True) for row in batch]
        assert texts == ["she sells", "sea shells", "by the sea shore"]


class TestRegressionPrevention:
    def test_hello_world_is_not_torn_apart(self):
        tokenizer = BPETokenizer(270).train("hello world")
        assert tokenizer.decode(tokenizer.encode("hello world")) == "hello world"
        assert 1 not in tokenizer.encode("hello world")

    def test_words_are_the_same_in_training_and_in_encoding(self):
        tokenizer = BPETokenizer(2000).train(TEXT)
        assert [tokenizer.vocab[i].decode() for i in tokenizer.encode(TEXT)] == split_words(TEXT)

    @pytest.mark.parametrize("text", ["  two  ", "\n\n\tx\r\n", " ", "a \n b"])
    def test_white_space_survives(self, text):
        tokenizer = create_tokenizer("bpe", TEXT, 300)
        assert tokenizer.decode(tokenizer.encode(text)) == text

    def test_a_pair_that_repeats_in_a_word_counts_each_time(self):
        assert BPETokenizer(261).train(["nanana", "xy", "xy"]).merges == [(b"n", b"a")]

    def test_a_byte_never_seen_in_training_is_no_problem(self):
        tokenizer = BPETokenizer(300).train("only ascii")
        assert tokenizer.decode(tokenizer.encode("日本 \U0001f600")) == "日本 \U0001f600"

    def test_ids_out_of_range_do_not_count_from_the_end(self):
        for tokenizer in (CharTokenizer(), create_tokenizer("bpe", TEXT, 300)):
            for wrong in (-1, tokenizer.vocab_size):
                with pytest.raises(ValueError, match="out of range"):
                    tokenizer.decode([5, wrong])
