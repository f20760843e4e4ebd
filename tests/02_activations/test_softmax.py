"""softmax and log_softmax: shares along one axis."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import log_softmax, softmax
from tinytorch.core.tensor import Tensor, randn

INF = np.inf


def naive_softmax(x, axis):
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
def test_softmax_agrees_with_the_naive_form_along_every_axis(dim):
    x = randn(3, 4, 5, rng=0)
    assert_close(softmax(x, dim), naive_softmax(x.data, dim), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
def test_log_softmax_agrees_with_the_log_of_the_naive_form_along_every_axis(dim):
    x = randn(3, 4, 5, rng=0)
    assert_close(log_softmax(x, dim), np.log(naive_softmax(x.data, dim)), rtol=1e-5, atol=1e-6)


def test_the_last_axis_is_the_default():
    x = randn(3, 4, rng=0)
    assert_close(softmax(x), softmax(x, 1).data, rtol=0, atol=0)
    assert_close(log_softmax(x), log_softmax(x, 1).data, rtol=0, atol=0)


def test_adding_a_constant_changes_nothing():
    assert_close(softmax([1000.0, 1001.0, 1002.0]), softmax([0.0, 1.0, 2.0]).data)
    assert_close(log_softmax([-1000.0, -999.0]), log_softmax([0.0, 1.0]).data)


def test_every_row_has_its_own_maximum():
    """With one maximum for all, the second row would underflow to nothing."""
    assert_close(softmax([[1000.0, 1000.0], [0.0, 0.0]]), np.full((2, 2), 0.5, np.float32))
    assert_close(log_softmax([[1e6, 1e6], [0.0, 0.0]]), np.full((2, 2), np.log(0.5), np.float32))


def test_equal_numbers_get_equal_shares():
    assert_close(softmax(np.zeros((2, 8))), np.full((2, 8), 0.125, np.float32))


def test_minus_infinity_gets_nothing_and_the_rest_shares():
    assert_close(softmax([0.0, -INF, 0.0]), np.array([0.5, 0, 0.5], np.float32))
    assert_close(log_softmax([0.0, -INF, 0.0]), np.array([np.log(0.5), -INF, np.log(0.5)], np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_of_nothing_but_minus_infinity_gets_zeros(dtype):
    x = Tensor([[-INF, -INF], [0.0, 0.0]], dtype=dtype)
    assert_close(softmax(x), np.array([[0, 0], [0.5, 0.5]], dtype))
    assert_close(log_softmax(x), np.array([[-INF, -INF], [np.log(0.5)] * 2], dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_smallest_finite_number_works_as_a_mask_too(dtype):
    lowest = np.finfo(dtype).min
    assert_close(softmax(Tensor([[lowest, 0.0], [lowest, lowest]], dtype=dtype)), np.array([[0, 1], [0.5, 0.5]], dtype))


def test_log_softmax_is_exact_where_the_share_underflows():
    assert log_softmax([0.0, -200.0]).tolist() == [0.0, -200.0]


def test_one_element_has_the_whole_share():
    assert softmax([[3.0], [-5.0]]).tolist() == [[1.0], [1.0]]
    assert log_softmax([[3.0], [-5.0]]).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("function", [softmax, log_softmax])
class TestErrors:
    @pytest.mark.parametrize("dim", [2, -3])
    def test_an_axis_that_is_not_there_is_named(self, function, dim):
        with pytest.raises(ValueError, match=rf"{function.__name__}.*\(2, 3\).*{dim}"):
            function(randn(2, 3, rng=0), dim)

    @pytest.mark.parametrize("dim", [None, (0, 1), 1.0, "rows"])
    def test_dim_is_one_integer(self, function, dim):
        with pytest.raises(TypeError, match=f"{function.__name__} needs one integer dim"):
            function(randn(2, 3, rng=0), dim)

    def test_a_single_number_has_no_axis(self, function):
        with pytest.raises(ValueError, match=function.__name__):
            function(Tensor(1.0))

    def test_an_axis_without_elements_has_no_shares(self, function):
        with pytest.raises(ValueError, match=rf"{function.__name__} needs at least one element.*\(3, 0\)"):
            function(Tensor(np.zeros((3, 0))))
