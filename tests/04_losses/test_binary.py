"""binary_cross_entropy, from probabilities and from logits."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.losses import binary_cross_entropy, binary_cross_entropy_with_logits
from tinytorch.core.tensor import Tensor


class TestFromProbabilities:
    @pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
    def test_the_formula(self, t):
        p = np.linspace(0.01, 0.99, 99)
        want = -(t * np.log(p) + (1 - t) * np.log(1 - p))
        got = binary_cross_entropy(Tensor(p, dtype=np.float64), Tensor(np.full(99, t), dtype=np.float64), "none")
        assert_close(got, want, rtol=1e-12)

    def test_certain_and_right_costs_nothing(self):
        assert binary_cross_entropy([1.0, 0.0], [1.0, 0.0], "none").tolist() == [0, 0]

    def test_certain_and_wrong_costs_100(self):
        assert binary_cross_entropy([0.0, 1.0], [1.0, 0.0], "none").tolist() == [100, 100]

    def test_a_coin_costs_log_2(self):
        assert_close(binary_cross_entropy([0.5, 0.5], [1.0, 0.0]), np.float32(math.log(2)))

    def test_small_probabilities_keep_their_digits(self):
        """log(1 - p) with p = 1e-9 is 0 in float32; log1p is not."""
        assert_close(binary_cross_entropy([1e-9], [0.0]), np.float32(1e-9), rtol=1e-5, atol=0)

    @pytest.mark.parametrize("wrong", [1.0001, -0.25, 3.0, math.inf, math.nan])
    def test_what_is_no_probability_is_refused_with_its_place(self, wrong):
        with pytest.raises(ValueError, match=rf"probabilities from 0 to 1, got {wrong:.6g} at \(1, 0\).*with_logits"):
            binary_cross_entropy([[0.5, 0.5], [wrong, 0.5]], np.zeros((2, 2)))


class TestFromLogits:
    @pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
    def test_the_formula(self, t):
        x = np.linspace(-15, 15, 61)
        p = 1 / (1 + np.exp(-x))
        want = -(t * np.log(p) + (1 - t) * np.log(1 - p))
        got = binary_cross_entropy_with_logits(
            Tensor(x, dtype=np.float64), Tensor(np.full(61, t), dtype=np.float64), "none"
        )
        assert_close(got, want, rtol=1e-8)

    def test_far_out_the_surprise_is_the_logit(self):
        got = binary_cross_entropy_with_logits([20.0, 90.0, -90.0, 1e4, -1e4], [0.0, 0.0, 1.0, 0.0, 1.0], "none")
        assert_close(got, np.array([20, 90, 90, 1e4, 1e4], np.float32))

    def test_right_and_far_out_it_keeps_its_digits(self):
        assert_close(
            binary_cross_entropy_with_logits([20.0, -20.0], [1.0, 0.0], "none"),
            np.full(2, 2.0611537e-9, np.float32),
            atol=0,
        )


@pytest.mark.parametrize("function", [binary_cross_entropy, binary_cross_entropy_with_logits])
class TestTargets:
    def test_integers_and_booleans_are_targets(self, function):
        want = function([0.25, 0.75], [0.0, 1.0]).data
        assert_close(function([0.25, 0.75], Tensor([0, 1])), want, rtol=0, atol=0)
        assert_close(function([0.25, 0.75], Tensor([False, True])), want, rtol=0, atol=0)

    @pytest.mark.parametrize("wrong", [-1.0, 2.0, math.nan])
    def test_a_target_outside_0_and_1_is_refused_with_its_place(self, function, wrong):
        with pytest.raises(
            ValueError, match=rf"{function.__name__} needs targets from 0 to 1, got {wrong:.6g} at \(2,\)"
        ):
            function([0.5, 0.5, 0.5], [1.0, 0.0, wrong])
