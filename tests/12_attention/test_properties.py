"""What holds for queries, keys, values and masks of any numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinytorch.core.attention import MultiHeadAttention, causal_mask, scaled_dot_product_attention
from tinytorch.core.tensor import Tensor, from_numpy

fixed = settings(derandomize=True, deadline=None, max_examples=40)
numbers = st.floats(-100, 100, width=32)
queries, keys = arrays(np.float32, (4, 3), elements=numbers), arrays(np.float32, (5, 3), elements=numbers)
values = arrays(np.float32, (5, 2), elements=numbers)
masks = arrays(np.bool_, (4, 5))


@fixed
@given(queries, keys, values, masks)
def test_shares_add_up_to_1_or_0_and_stay_where_they_may_be(q, k, v, mask):
    out, weights = scaled_dot_product_attention(q, k, v, mask=mask)
    np.testing.assert_allclose(weights.data.sum(axis=-1), mask.any(axis=1), rtol=1e-5)
    assert not weights.data[~mask].any()
    assert np.isfinite(out.data).all()


@fixed
@given(queries, keys, values, masks)
def test_gradients_are_finite_and_zero_where_nobody_looks(q, k, v, mask):
    q, k, v = (Tensor(x, requires_grad=True) for x in (q, k, v))
    scaled_dot_product_attention(q, k, v, mask=mask)[0].sum().backward()
    assert all(np.isfinite(x.grad).all() for x in (q, k, v))
    assert not q.grad[~mask.any(axis=1)].any()
    assert not k.grad[~mask.any(axis=0)].any()
    assert not v.grad[~mask.any(axis=0)].any()


@fixed
@given(queries, keys, values, masks)
def test_booleans_and_walls_are_the_same(q, k, v, mask):
    walls = np.where(mask, 0, -np.inf).astype(np.float32)
    for a, b in zip(scaled_dot_product_attention(q, k, v, mask), scaled_dot_product_attention(q, k, v, walls)):
        np.testing.assert_array_equal(a.data, b.data)


@fixed
@given(queries, keys, values, st.floats(-1e3, 1e3, width=32))
def test_adding_one_number_to_all_scores_changes_little(q, k, v, number):
    _, plain = scaled_dot_product_attention(q / 10, k / 10, v)
    _, shifted = scaled_dot_product_attention(q / 10, k / 10, v, mask=number)
    np.testing.assert_allclose(shifted.data, plain.data, rtol=1e-2, atol=1e-3)


@fixed
@given(queries, keys, values)
def test_the_result_lies_between_the_smallest_and_the_largest_value(q, k, v):
    out = scaled_dot_product_attention(q, k, v)[0].data
    slack = 1e-4 * np.abs(v).max() + 1e-6
    assert (out >= v.min(axis=0) - slack).all()
    assert (out <= v.max(axis=0) + slack).all()


@fixed
@given(st.integers(0, 12), st.integers(0, 12))
def test_each_query_sees_one_more_than_the_one_before(T, more):
    seen = causal_mask(T, T + more).data.sum(axis=1)
    assert seen.tolist() == list(range(more + 1, more + T + 1))


@fixed
@given(arrays(np.float32, (6, 4), elements=st.floats(-3, 3, width=32)), st.integers(1, 5))
def test_the_future_does_not_change_the_past(x, t):
    layer = MultiHeadAttention(4, 2, rng=0)
    changed = x.copy()
    changed[t:] += 1
    a, b = (layer(from_numpy(rows), causal=True).data for rows in (x, changed))
    np.testing.assert_allclose(a[:t], b[:t], rtol=1e-5, atol=1e-6)
