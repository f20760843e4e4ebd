"""Tables of vectors in bytes."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.tensor import Tensor, randn
from tinytorch.optimization.quantization import QuantizedEmbedding
from tinytorch.text.embeddings import Embedding


@pytest.fixture
def embedding():
    return Embedding(10, 6, rng=0)


def test_one_scale_per_row(embedding):
    layer = QuantizedEmbedding.from_embedding(embedding)
    assert (layer.q.dtype, layer.q.shape, layer.scale.shape) == (np.int8, (10, 6), (10, 1))
    assert (np.abs(layer.q).max(axis=1) == 127).all()


@pytest.mark.parametrize("tokens", [[3], [[1, 2], [9, 0]], [4, 7, 4], 5])
def test_rows_come_back_to_half_a_step(embedding, tokens):
    layer = QuantizedEmbedding.from_embedding(embedding)
    out = layer(tokens)
    want = embedding(tokens).numpy()
    assert (out.shape, out.dtype) == (want.shape, np.float32)
    assert (np.abs(out.numpy() - want) <= 0.501 * layer.scale[np.asarray(tokens)]).all()


@pytest.mark.parametrize("tokens", [[10], [-1], [[0, 99]]])
def test_tokens_out_of_range(embedding, tokens):
    with pytest.raises(ValueError, match="out of range"):
        QuantizedEmbedding.from_embedding(embedding)(tokens)


def test_no_tokens(embedding):
    assert QuantizedEmbedding.from_embedding(embedding)([]).shape == (0, 6)


def test_tensors_of_tokens_are_taken(embedding):
    layer = QuantizedEmbedding.from_embedding(embedding)
    assert_close(layer(Tensor([1, 2])), layer([1, 2]))


def test_only_what_is_looked_up_becomes_floats(embedding):
    layer = QuantizedEmbedding.from_embedding(embedding)
    assert {name: value.dtype for name, value in vars(layer).items()} == {"q": np.int8, "scale": np.float32}
    assert layer[2:5].shape == (3, 6)
    assert_close(layer[2:5], layer.weight.numpy()[2:5])


def test_the_whole_table_in_floats(embedding):
    layer = QuantizedEmbedding.from_embedding(embedding)
    assert_close(layer.weight, layer.q * layer.scale)
    assert layer.shape == (10, 6)


def test_a_common_word_does_not_coarsen_a_rare_one():
    table = np.random.default_rng(0).uniform(-1, 1, (2, 50)).astype(np.float32)
    table[1] *= 1000
    assert np.abs(QuantizedEmbedding(Tensor(table)).weight.numpy() - table)[0].max() <= 0.5 / 127


def test_a_table_of_one_axis_is_refused():
    with pytest.raises(ValueError, match=r"needs a table \(V, E\), got shape \(3,\)"):
        QuantizedEmbedding(randn(3))


def test_it_prints_its_sizes(embedding):
    assert repr(QuantizedEmbedding.from_embedding(embedding)) == "QuantizedEmbedding(vocab_size=10, embed_dim=6)"
