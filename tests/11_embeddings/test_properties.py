"""What holds for tokens and vectors of any numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinytorch.core.tensor import Tensor, from_numpy
from tinytorch.text.embeddings import EmbeddingLayer, RotaryEmbedding, create_sinusoidal_embeddings, embedding

fixed = settings(derandomize=True, deadline=None, max_examples=60)
tokens = arrays(np.int64, array_shapes(max_dims=3, max_side=6), elements=st.integers(0, 6))
vectors = arrays(np.float32, st.tuples(st.integers(1, 5), st.just(4)), elements=st.floats(-100, 100, width=32))


@fixed
@given(tokens)
def test_every_row_receives_as_much_as_it_was_used(ids):
    weight = Tensor(np.zeros((7, 3)), requires_grad=True)
    embedding(weight, ids).sum().backward()
    used = np.bincount(ids.ravel(), minlength=7)
    np.testing.assert_array_equal(weight.grad, np.repeat(used[:, None], 3, axis=1))


@fixed
@given(tokens)
def test_looking_up_in_a_column_of_numbers_gives_the_tokens_back(ids):
    out = embedding(Tensor(np.arange(7, dtype=np.float32)[:, None]), ids)
    np.testing.assert_array_equal(out.data[..., 0], ids)


@fixed
@given(arrays(np.int64, array_shapes(max_dims=2, max_side=4), elements=st.integers(-3, 9)))
def test_tokens_are_refused_exactly_when_one_is_out_of_range(ids):
    refused = False
    try:
        embedding(Tensor(np.zeros((7, 3))), ids)
    except ValueError:
        refused = True
    assert refused == bool(((ids < 0) | (ids > 6)).any())


@fixed
@given(st.integers(0, 9), st.integers(0, 9))
def test_a_sequence_may_be_cut_anywhere(n, cut):
    ids, layer = np.arange(n) % 7, EmbeddingLayer(7, 3, 9, rng=0)
    cut = min(cut, n)
    parts = [layer(ids[:cut]).data, layer(ids[cut:], offset=cut).data]
    np.testing.assert_array_equal(np.concatenate(parts), layer(ids).data)


@fixed
@given(vectors, st.integers(0, 1000))
def test_turns_keep_lengths(x, offset):
    out = RotaryEmbedding(4).rotate(from_numpy(x), offset).data
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), np.linalg.norm(x, axis=1), rtol=1e-5, atol=1e-5)


@fixed
@given(vectors, st.integers(0, 50), st.integers(0, 50))
def test_turning_twice_is_turning_by_the_sum(x, first, second):
    turn = RotaryEmbedding(4)
    row = from_numpy(x[:1])
    twice = turn.rotate(turn.rotate(row, first), second).data
    np.testing.assert_allclose(twice, turn.rotate(row, first + second).data, rtol=1e-4, atol=1e-3)


@fixed
@given(st.integers(1, 200), st.integers(1, 20))
def test_sines_lie_between_minus_1_and_1_and_do_not_depend_on_how_many_there_are(T, E):
    table = create_sinusoidal_embeddings(T, E).data
    assert np.abs(table).max() <= 1
    np.testing.assert_array_equal(table, create_sinusoidal_embeddings(T + 7, E).data[:T])
