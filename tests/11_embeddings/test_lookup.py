"""embedding and Embedding: what is picked, what is refused, how the table starts."""

import numpy as np
import pytest

from support.checks import assert_close
from support.listening import announced
from tinytorch.core.layers import Module
from tinytorch.core.tensor import Tensor, manual_seed, randn
from tinytorch.text.embeddings import Embedding, embedding

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


class TestLookup:
    def test_a_worked_example(self):
        out = embedding(Tensor(WEIGHT), [3, 0, 3])
        assert_close(out, np.array([[9, 10, 11], [0, 1, 2], [9, 10, 11]], np.float32))

    def test_it_is_the_product_with_one_hot_rows(self):
        tokens = np.array([[1, 3], [0, 1]])
        assert_close(embedding(Tensor(WEIGHT), tokens), np.eye(4, dtype=np.float32)[tokens] @ WEIGHT)

    @pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint64])
    def test_any_integer_dtype(self, kind):
        tokens = np.array([[0, 3], [1, 2]], kind)
        for given in (tokens, Tensor(tokens)):
            assert_close(embedding(Tensor(WEIGHT), given), WEIGHT[tokens], rtol=0, atol=0)

    @pytest.mark.parametrize("given", [3, [3], (3,), [[3]], np.int64(3), np.array(3), Tensor(3)])
    def test_numbers_lists_arrays_and_tensors(self, given):
        assert_close(embedding(Tensor(WEIGHT), given), WEIGHT[np.array(given, np.int64)], rtol=0, atol=0)

    def test_tokens_that_are_not_contiguous(self):
        tokens = np.arange(12).reshape(3, 4) % 4
        assert_close(embedding(Tensor(WEIGHT), tokens.T[::2]), WEIGHT[tokens.T[::2]], rtol=0, atol=0)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_the_dtype_of_the_table_stays(self, dtype):
        weight = Tensor(WEIGHT, dtype=dtype, requires_grad=True)
        out = embedding(weight, [1, 1, 2])
        out.sum().backward()
        assert (out.dtype, weight.grad.dtype) == (dtype, dtype)

    def test_the_first_and_the_last_row_are_within_range(self):
        assert_close(embedding(Tensor(WEIGHT), [0, 3]), WEIGHT[[0, 3]], rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("tokens", "named"), [([-1], -1), ([0, 4], 4), ([[1, 2], [-7, 3]], -7), (4, 4), ([9, -1], -1)]
    )
    def test_the_offending_token_and_the_range_are_named(self, tokens, named):
        with pytest.raises(ValueError, match=f"token {named} is out of range 0 to 3"):
            embedding(Tensor(WEIGHT), tokens)

    @pytest.mark.parametrize("tokens", [[1.0], [True], np.array([0.5]), Tensor([1.0])])
    def test_only_whole_numbers_are_tokens(self, tokens):
        with pytest.raises(TypeError, match="needs whole numbers as tokens, got (float32|float64|bool)"):
            embedding(Tensor(WEIGHT), tokens)

    def test_text_is_no_token(self):
        with pytest.raises(TypeError):
            embedding(Tensor(WEIGHT), "a")

    def test_sequences_of_different_lengths_are_refused(self):
        with pytest.raises(ValueError, match="rectangular"):
            embedding(Tensor(WEIGHT), [[1, 2], [3]])

    @pytest.mark.parametrize("shape", [(4,), (2, 2, 2), ()])
    def test_a_table_has_two_axes(self, shape):
        with pytest.raises(ValueError, match=r"needs a table \(V, E\), got shape"):
            embedding(Tensor(np.ones(shape)), [0])

    def test_it_is_one_operation_whose_only_input_is_the_table(self):
        weight, tokens = Tensor(WEIGHT), np.array([[1, 2], [3, 3]])
        ((op, inputs, saved),) = announced(lambda: embedding(weight, tokens))
        assert (op, len(inputs), set(saved)) == ("embedding", 1, {"tokens"})
        assert inputs[0] is weight
        assert_close(saved["tokens"], tokens)

    def test_the_tokens_that_are_kept_are_a_copy(self):
        tokens = np.array([1, 2])
        ((_, _, saved),) = announced(lambda: embedding(Tensor(WEIGHT), tokens))
        assert not np.shares_memory(saved["tokens"], tokens)

    def test_looking_up_changes_nothing(self):
        weight, tokens = Tensor(WEIGHT), np.array([1, 2])
        embedding(weight, tokens)
        assert_close(weight, WEIGHT, rtol=0, atol=0)
        assert tokens.tolist() == [1, 2]


class TestEmbedding:
    def test_the_table_is_its_only_parameter(self):
        layer = Embedding(7, 3)
        assert isinstance(layer, Module)
        assert [(name, p.shape, p.dtype) for name, p in layer.named_parameters()] == [("weight", (7, 3), np.float32)]
        assert layer.weight.requires_grad is True

    def test_it_computes_what_the_function_computes(self):
        layer, tokens = Embedding(7, 3), [[0, 6], [2, 2]]
        assert_close(layer(tokens), embedding(layer.weight, tokens).data, rtol=0, atol=0)
        assert_close(layer.forward(tokens), layer(tokens).data, rtol=0, atol=0)

    @pytest.mark.parametrize("E", [4, 64, 1024])
    def test_rows_start_with_a_length_of_about_1(self, E):
        w = Embedding(200_000 // E, E, rng=0).weight.data
        assert abs(w.mean()) < 4 / np.sqrt(w.size * E)
        assert (w**2).sum(axis=1).mean() == pytest.approx(1, abs=0.02)

    def test_the_table_starts_normal(self):
        w = Embedding(1000, 100, rng=0).weight.data * 10
        assert (np.abs(w) < 1).mean() == pytest.approx(0.683, abs=0.01)
        assert (np.abs(w) < 2).mean() == pytest.approx(0.954, abs=0.01)

    def test_no_two_rows_are_alike(self):
        w = Embedding(500, 8).weight.data
        assert len(np.unique(w, axis=0)) == 500

    def test_the_librarys_generator_is_the_default(self):
        manual_seed(7)
        first = Embedding(5, 4).weight.data
        manual_seed(7)
        assert_close(Embedding(5, 4).weight, first, rtol=0, atol=0)
        assert_close(Embedding(5, 4, rng=7).weight, first, rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("sizes", "named"), [((0, 4), "vocab_size"), ((4, 0), "embed_dim"), ((-1, 4), "vocab_size")]
    )
    def test_a_size_is_at_least_1(self, sizes, named):
        with pytest.raises(ValueError, match=f"Embedding needs {named} of at least 1"):
            Embedding(*sizes)

    @pytest.mark.parametrize(
        ("sizes", "named"), [((4.0, 4), "vocab_size"), ((4, "8"), "embed_dim"), ((True, 4), "vocab_size")]
    )
    def test_a_size_is_a_whole_number(self, sizes, named):
        with pytest.raises(TypeError, match=f"Embedding needs an integer {named}"):
            Embedding(*sizes)

    def test_it_prints_its_sizes(self):
        assert repr(Embedding(7, 3)) == "Embedding(vocab_size=7, embed_dim=3)"

    def test_a_frozen_table_gets_no_gradient(self):
        layer = Embedding(7, 3)
        layer.requires_grad_(False)
        x = randn(2, 3, requires_grad=True)
        (layer([1, 2]) * x).sum().backward()
        assert layer.weight.grad is None
        assert_close(x.grad, layer.weight.data[[1, 2]])
