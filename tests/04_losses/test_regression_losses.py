"""mse_loss, l1_loss and huber_loss."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.losses import HuberLoss, huber_loss, l1_loss, mse_loss
from tinytorch.core.tensor import Tensor, randn


@pytest.mark.parametrize("function", [mse_loss, l1_loss, huber_loss])
class TestAll:
    def test_a_perfect_prediction_costs_nothing(self, function):
        x = randn(3, 4, rng=0)
        assert function(x, x).item() == 0

    def test_too_much_costs_as_much_as_too_little(self, function):
        x, y = randn(20, rng=0), randn(20, rng=1)
        assert_close(function(x, y, "none"), function(y, x, "none").data)

    @pytest.mark.parametrize("shape", [(), (3,), (3, 4), (2, 3, 4)])
    def test_any_one_shape(self, function, shape):
        assert function(randn(*shape), randn(*shape), "none").shape == shape
        assert function(randn(*shape), randn(*shape)).shape == ()

    @pytest.mark.parametrize(("a", "b"), [((4, 1), (4,)), ((4,), (1,)), ((2, 3), (3,)), ((3,), ()), ((2, 3), (3, 2))])
    def test_nothing_broadcasts(self, function, a, b):
        with pytest.raises(ValueError, match="nothing is broadcast"):
            function(randn(*a), randn(*b))

    def test_integer_targets_take_the_predictions_dtype(self, function):
        assert_close(function([1.0, 2.0], Tensor([1, 2])), np.float32(0))


def test_mse_squares():
    assert_close(mse_loss([1.0, -3.0], [0.0, 0.0], "none"), np.array([1, 9], np.float32))


def test_l1_does_not_square():
    assert_close(l1_loss([1.0, -3.0], [0.0, 0.0], "none"), np.array([1, 3], np.float32))


class TestHuber:
    @pytest.mark.parametrize("delta", [0.5, 1.0, 2.0])
    def test_half_the_square_inside_and_a_line_outside(self, delta):
        d = np.linspace(-4, 4, 81)
        want = np.where(np.abs(d) <= delta, d * d / 2, delta * (np.abs(d) - delta / 2))
        got = huber_loss(Tensor(d, dtype=np.float64), Tensor(np.zeros(81), dtype=np.float64), "none", delta)
        assert_close(got, want, rtol=1e-12, atol=1e-15)

    def test_the_class_passes_delta(self):
        assert_close(HuberLoss(delta=2.0)([5.0], [0.0]), np.float32(2 * (5 - 1)))
        assert repr(HuberLoss(delta=2.0)) == "HuberLoss(reduction='mean', delta=2.0)"

    @pytest.mark.parametrize("delta", [0, -1.0, math.nan])
    def test_delta_is_positive(self, delta):
        with pytest.raises(ValueError, match=f"huber_loss needs delta > 0, got {delta}"):
            huber_loss([1.0], [1.0], delta=delta)

    def test_far_out_it_is_delta_times_l1_less_a_constant(self):
        assert_close(huber_loss([1e6], [0.0], delta=3.0), np.float32(3 * 1e6 - 4.5))
