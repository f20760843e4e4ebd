"""What holds for activations of any numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinytorch.core.activations import gelu, leaky_relu, log_softmax, relu, sigmoid, silu, softmax, softplus, tanh
from tinytorch.core.tensor import Tensor, from_numpy

fixed = settings(derandomize=True, deadline=None, max_examples=60)
numbers = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, -0.0, 1e4, -1e4, -np.inf])
any_array = arrays(np.float32, array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5), elements=numbers)


@fixed
@given(any_array)
def test_no_activation_ever_returns_nan_or_another_dtype(x):
    for function in (relu, leaky_relu, sigmoid, tanh, softplus, silu, gelu, softmax, log_softmax):
        out = function(from_numpy(x)).data
        assert not np.isnan(out).any(), function.__name__
        assert out.dtype == np.float32
        assert out.shape == x.shape


@fixed
@given(any_array)
def test_shares_lie_between_0_and_1_and_add_up_to_1_or_to_0(x):
    out = softmax(from_numpy(x)).data
    assert ((out >= 0) & (out <= 1)).all()
    nothing = (x == -np.inf).all(axis=-1)
    np.testing.assert_allclose(out.sum(axis=-1), np.where(nothing, 0, 1), atol=1e-5)


@fixed
@given(any_array)
def test_exp_of_log_softmax_is_softmax(x):
    np.testing.assert_allclose(
        np.exp(log_softmax(from_numpy(x)).data), softmax(from_numpy(x)).data, rtol=1e-4, atol=1e-6
    )


@fixed
@given(any_array, st.randoms(use_true_random=False))
def test_softmax_follows_a_change_of_order(x, random):
    order = list(range(x.shape[-1]))
    random.shuffle(order)
    got = softmax(Tensor(x[..., order])).data
    np.testing.assert_allclose(got, softmax(from_numpy(x)).data[..., order], rtol=1e-5, atol=1e-7)


@fixed
@given(arrays(np.float64, 8, elements=st.floats(-700, 700)))
def test_sigmoid_of_minus_x_is_what_is_missing_to_1(x):
    total = sigmoid(from_numpy(x)).data + sigmoid(from_numpy(-x)).data
    np.testing.assert_allclose(total, 1, rtol=1e-12)


@fixed
@given(arrays(np.float64, 8, elements=st.floats(-700, 700)))
def test_softplus_of_x_minus_softplus_of_minus_x_is_x(x):
    difference = softplus(from_numpy(x)).data - softplus(from_numpy(-x)).data
    np.testing.assert_allclose(difference, x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", [relu, leaky_relu, sigmoid, tanh, softplus])
@fixed
@given(arrays(np.float32, 20, elements=numbers))
def test_these_never_fall(function, x):
    x = np.sort(x)
    out = function(from_numpy(x)).data
    assert (out[1:] >= out[:-1] - np.float32(1e-6) * np.abs(out[:-1])).all() or np.isinf(out).any()
