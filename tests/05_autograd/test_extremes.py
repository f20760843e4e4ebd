"""Gradients far out: ten thousand to either side, minus infinity where it is defined. Warnings are errors here."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import activations as A
from tinytorch.core import losses as L
from tinytorch.core import tensor as T
from tinytorch.core.tensor import Tensor

INF = np.inf
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def gradient(f, at, dtype=np.float32, start=None):
    x = Tensor(at, requires_grad=True, dtype=dtype)
    out = f(x)
    out.backward(np.ones(out.shape) if start is None else start)
    return x.grad


@dtypes
@pytest.mark.parametrize(
    ("f", "left", "right"),
    [
        (A.relu, 0, 1),
        (A.leaky_relu, 0.01, 1),
        (lambda x: A.leaky_relu(x, 0.0), 0, 1),
        (A.sigmoid, 0, 0),
        (A.tanh, 0, 0),
        (A.softplus, 0, 1),
        (A.silu, 0, 1),
        (A.gelu, 0, 1),
        (T.abs, -1, 1),
        (lambda x: x.clip(-1, 1), 0, 0),
        (lambda x: L.huber_loss(x, np.zeros(2), "sum"), -1, 1),
        (lambda x: L.l1_loss(x, np.zeros(2), "sum"), -1, 1),
        (lambda x: L.binary_cross_entropy_with_logits(x, np.array([0.0, 1.0]), "sum"), 0, 0),
        (lambda x: L.binary_cross_entropy_with_logits(x, np.array([1.0, 0.0]), "sum"), -1, 1),
        (lambda x: L.binary_cross_entropy_with_logits(x, np.array([0.5, 0.5]), "sum"), -0.5, 0.5),
    ],
)
@pytest.mark.parametrize("far", [1e2, 1e4, 1e30])
def test_far_out_every_slope_is_at_its_limit(f, left, right, far, dtype):
    assert_close(gradient(f, [-far, far], dtype), np.array([left, right], dtype), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize(
    ("f", "want"),
    [
        (A.relu, 0),
        (A.leaky_relu, 0.01),
        (A.sigmoid, 0),
        (A.tanh, 0),
        (A.softplus, 0),
        (A.silu, 0),
        (A.gelu, 0),
        (T.exp, 0),
        (T.abs, -1),
        (lambda x: x.clip(-1, 1), 0),
        (lambda x: x * 2.0, 2),
        (lambda x: x + 1.0, 1),
    ],
)
def test_at_minus_infinity_the_slope_is_its_limit(f, want):
    assert_close(gradient(f, [-INF]), np.array([want], np.float32))


class TestSoftmaxes:
    @dtypes
    def test_a_winner_by_ten_thousand_has_no_slope(self, dtype):
        assert_close(gradient(lambda x: A.softmax(x), [1e4, 0.0, -1e4], dtype, [1.0, 2.0, 3.0]), np.zeros(3, dtype))

    @dtypes
    def test_log_softmax_sends_everything_against_the_winner(self, dtype):
        got = gradient(lambda x: A.log_softmax(x), [1e4, 0.0, -1e4], dtype, [0.0, 1.0, 0.0])
        assert_close(got, np.array([-1, 1, 0], dtype))

    @pytest.mark.parametrize("f", [A.softmax, lambda x: x.logsumexp(axis=-1, keepdims=True)])
    def test_what_is_masked_by_minus_infinity_gets_none(self, f):
        masked = gradient(f, [[1.0, 2.0, -INF], [-INF, 0.0, 1.0]], start=None)
        assert np.isfinite(masked).all()
        assert (masked[0, 2], masked[1, 0]) == (0, 0)

    def test_masking_does_not_change_the_gradient_of_the_rest(self):
        start = np.array([3.0, 5.0, 7.0])
        all_three = gradient(A.softmax, [1.0, 2.0, -INF], start=start)
        assert_close(all_three[:2], gradient(A.softmax, [1.0, 2.0], start=start[:2]))

    def test_a_row_that_is_masked_altogether_gets_zeros(self):
        for f in (A.softmax, lambda x: x.logsumexp(axis=-1)):
            got = gradient(f, [[-INF, -INF], [1.0, 1.0]], start=None)
            assert got[0].tolist() == [0, 0]
            assert np.isfinite(got).all()

    @dtypes
    @pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
    def test_logsumexp_far_out_is_the_winner(self, shift, dtype):
        got = gradient(lambda x: x.logsumexp(), [shift, shift - 1e3], dtype)
        assert_close(got, np.array([1, 0], dtype))

    @pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
    def test_logsumexp_far_out_shares_between_equals(self, shift):
        got = gradient(lambda x: x.logsumexp(), [shift, shift], np.float64)
        assert_close(got, np.array([0.5, 0.5]), rtol=1e-10)

    def test_a_mask_in_front_of_a_softmax(self):
        """As attention does: masked_fill with -inf, then softmax; the mask cuts the gradient off."""
        x = Tensor([[1.0, 2.0, 3.0]], requires_grad=True)
        A.softmax(x.masked_fill(np.array([[False, False, True]]), -INF)).backward([[1.0, 0.0, 9.0]])
        p = np.exp(1) / (np.exp(1) + np.exp(2))
        assert_close(x.grad, np.array([[p * (1 - p), -p * (1 - p), 0]], np.float32))


class TestLosses:
    @dtypes
    def test_cross_entropy_certain_and_right(self, dtype):
        assert_close(gradient(lambda x: L.cross_entropy(x, [0]), [[1e4, -1e4]], dtype), np.zeros((1, 2), dtype))

    @dtypes
    def test_cross_entropy_certain_and_wrong(self, dtype):
        got = gradient(lambda x: L.cross_entropy(x, [1]), [[1e4, -1e4]], dtype)
        assert_close(got, np.array([[1, -1]], dtype))

    def test_cross_entropy_beside_a_masked_class(self):
        got = gradient(lambda x: L.cross_entropy(x, [0]), [[0.0, 0.0, -INF]])
        assert_close(got, np.array([[-0.5, 0.5, 0]], np.float32))

    def test_cross_entropy_of_ignored_rows_that_hold_infinities(self):
        got = gradient(lambda x: L.cross_entropy(x, [0, -100], ignore_index=-100), [[0.0, 0.0], [-INF, 0.0]])
        assert_close(got, np.array([[-0.5, 0.5], [0, 0]], np.float32))

    def test_soft_targets_far_out(self):
        got = gradient(lambda x: L.cross_entropy(x, np.array([[0.5, 0.5]])), [[1e4, -1e4]])
        assert_close(got, np.array([[0.5, -0.5]], np.float32))

    @pytest.mark.parametrize("p", [0.0, 1.0, 1e-30, 1 - 1e-7])
    @pytest.mark.parametrize("t", [0.0, 1.0])
    def test_binary_cross_entropy_is_finite(self, p, t):
        assert np.isfinite(gradient(lambda x: L.binary_cross_entropy(x, [t]), [p])).all()

    def test_mse_of_ten_thousand(self):
        assert_close(gradient(lambda x: L.mse_loss(x, np.zeros(2)), [-1e4, 1e4]), np.array([-1e4, 1e4], np.float32))


class TestPowers:
    def test_a_square_and_a_cube_at_0_and_far_out(self):
        assert_close(gradient(lambda x: x**2, [0.0, 1e4, -1e4]), np.array([0, 2e4, -2e4], np.float32))
        assert_close(gradient(lambda x: x**3, [0.0, 1e4, -1e4]), np.array([0, 3e8, 3e8], np.float32))

    def test_to_the_power_0_nothing_moves_not_even_at_0(self):
        assert gradient(lambda x: x**0, [0.0, 1e4, -1e4]).tolist() == [0, 0, 0]

    def test_the_exponent_of_0_and_of_negative_numbers_gets_0(self):
        assert gradient(lambda n: Tensor([0.0, -2.0]) ** n, [2.0, 2.0]).tolist() == [0, 0]

    def test_a_square_root_close_to_0(self):
        assert_close(gradient(T.sqrt, [1e-30]), np.array([5e14], np.float32))
