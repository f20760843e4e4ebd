"""What holds for losses of any numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinytorch.core.activations import log_softmax
from tinytorch.core.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
)
from tinytorch.core.tensor import from_numpy

fixed = settings(derandomize=True, deadline=None, max_examples=60)
numbers = st.floats(-1e4, 1e4, width=32)
logits = arrays(np.float32, (6, 4), elements=numbers)
labels = arrays(np.int64, 6, elements=st.integers(0, 3))
vectors = arrays(np.float32, 6, elements=numbers)
shares = arrays(np.float32, 6, elements=st.floats(0, 1, width=32))


@fixed
@given(vectors, vectors)
def test_distances_are_at_least_0_and_huber_lies_below_both_others(x, y):
    each = [loss(from_numpy(x), from_numpy(y), "none").data for loss in (mse_loss, l1_loss, huber_loss)]
    assert all((values >= 0).all() and np.isfinite(values).all() for values in each)
    assert (each[2] <= each[0] / 2 * np.float32(1 + 1e-5)).all()
    assert (each[2] <= each[1] * np.float32(1 + 1e-5)).all()


@fixed
@given(logits, labels)
def test_cross_entropy_is_finite_and_at_least_0(x, t):
    each = cross_entropy(from_numpy(x), t, reduction="none").data
    assert np.isfinite(each).all()
    assert (each >= 0).all()
    assert each.dtype == np.float32


@fixed
@given(logits, labels)
def test_three_ways_to_the_same_cross_entropy(x, t):
    fused = cross_entropy(from_numpy(x), t, reduction="none").data
    np.testing.assert_allclose(nll_loss(log_softmax(x), t, reduction="none").data, fused, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(cross_entropy(x, np.eye(4)[t], reduction="none").data, fused, rtol=1e-4, atol=1e-3)


@fixed
@given(logits, labels, st.lists(st.floats(0.125, 8, width=16), min_size=4, max_size=4))
def test_a_weighted_mean_lies_between_the_smallest_and_the_largest_row(x, t, weight):
    each = cross_entropy(from_numpy(x), t, reduction="none").data
    mean = cross_entropy(from_numpy(x), t, weight=weight).item()
    assert each.min() * (1 - 1e-4) - 1e-5 <= mean <= each.max() * (1 + 1e-4) + 1e-5


@fixed
@given(vectors, shares)
def test_binary_cross_entropies_are_finite_and_at_least_0(x, t):
    for each in (binary_cross_entropy(np.abs(x) / 1e4, t, "none"), binary_cross_entropy_with_logits(x, t, "none")):
        assert np.isfinite(each.data).all()
        assert (each.data >= -1e-3).all()


@fixed
@given(logits, logits)
def test_the_divergence_between_two_softmaxes_is_at_least_0(x, y):
    x, y = np.clip(x, -50, 50), np.clip(y, -50, 50)
    per_row = kl_div(log_softmax(x), np.exp(log_softmax(y).data), "none").data.sum(axis=1)
    assert (per_row >= -1e-4).all()
