"""relu, leaky_relu, sigmoid, tanh, softplus, silu and gelu: values, limits, errors."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from support.listening import announced
from tinytorch.core.activations import gelu, leaky_relu, relu, sigmoid, silu, softplus, tanh
from tinytorch.core.tensor import Tensor

GRID = np.linspace(-6, 6, 121)


def exact(formula):
    return np.array([formula(x) for x in GRID])


def gelu_formula(x):
    return x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


@pytest.mark.parametrize(
    ("function", "formula"),
    [
        (relu, lambda x: max(x, 0.0)),
        (leaky_relu, lambda x: x if x > 0 else 0.01 * x),
        (sigmoid, lambda x: 1 / (1 + math.exp(-x))),
        (tanh, math.tanh),
        (softplus, lambda x: math.log(1 + math.exp(x))),
        (silu, lambda x: x / (1 + math.exp(-x))),
        (gelu, gelu_formula),
    ],
    ids=["relu", "leaky_relu", "sigmoid", "tanh", "softplus", "silu", "gelu"],
)
class TestTextbookFormula:
    def test_in_float64(self, function, formula):
        assert_close(function(Tensor(GRID, dtype=np.float64)), exact(formula), rtol=1e-12, atol=1e-14)

    def test_in_float32(self, function, formula):
        assert_close(function(Tensor(GRID)), exact(formula).astype(np.float32), rtol=1e-5, atol=1e-6)


class TestRelu:
    def test_nan_stays_nan(self):
        assert np.isnan(relu([np.nan]).data).all()

    def test_plus_infinity_passes(self):
        assert relu([np.inf]).tolist() == [math.inf]


class TestLeakyRelu:
    @pytest.mark.parametrize("slope", [0.0, 0.3, 1.0])
    def test_slopes_between_0_and_1(self, slope):
        assert_close(leaky_relu([-2.0, 3.0], slope), np.array([-2 * slope, 3], np.float32))

    @pytest.mark.parametrize("slope", [-0.1, 1.5, math.nan])
    def test_any_other_slope_is_refused_with_its_value(self, slope):
        with pytest.raises(ValueError, match=rf"leaky_relu needs 0 <= negative_slope <= 1, got {slope}"):
            leaky_relu([1.0], slope)

    def test_slope_0_is_relu_at_infinity_too(self):
        assert leaky_relu([-math.inf, math.inf], 0.0).tolist() == [0.0, math.inf]


class TestSigmoid:
    def test_far_left_it_keeps_its_digits(self):
        """As tanh(x / 2) / 2 + 1 / 2 it would round to 0 in float32."""
        assert_close(sigmoid([-20.0, -60.0]), np.array([2.0611537e-9, 8.756511e-27], np.float32), rtol=1e-5, atol=0)

    def test_both_infinities(self):
        assert sigmoid([-math.inf, math.inf]).tolist() == [0.0, 1.0]

    @pytest.mark.parametrize("x", [-800.0, -710.0, -90.0, 90.0, 710.0, 800.0])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_beyond_the_largest_exponential_nothing_warns(self, x, dtype):
        assert_close(sigmoid(Tensor([x], dtype=dtype)), np.array([float(x > 0)], dtype), atol=1e-38)


class TestSoftplus:
    def test_far_left_it_keeps_its_digits(self):
        """log(1 + 2e-9) is 0 in float32; log1p is not."""
        assert_close(softplus([-20.0]), np.array([2.0611537e-9], np.float32), rtol=1e-5, atol=0)

    def test_far_right_it_is_x(self):
        assert softplus([100.0, 1e4, math.inf]).tolist() == [100.0, 1e4, math.inf]

    def test_at_0_it_is_log_2(self):
        assert softplus(Tensor(0.0, dtype=np.float64)).item() == math.log(2)


class TestGates:
    @pytest.mark.parametrize("function", [silu, gelu])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_both_infinities(self, function, dtype):
        assert function(Tensor([-math.inf, math.inf], dtype=dtype)).tolist() == [0.0, math.inf]

    @pytest.mark.parametrize("function", [silu, gelu])
    def test_huge_numbers_neither_overflow_nor_warn(self, function):
        assert_close(function([-1e30, -1e13, 1e13, 1e30]), np.array([0, 0, 1e13, 1e30], np.float32))

    def test_gelu_is_the_tanh_form_not_the_exact_one(self):
        x = 1.0
        exact_form = x * (1 + math.erf(x / math.sqrt(2))) / 2
        got = gelu(Tensor(x, dtype=np.float64)).item()
        assert abs(got - gelu_formula(x)) < 1e-12
        assert abs(got - exact_form) > 1e-4

    def test_silu_is_x_times_sigmoid(self):
        x = Tensor(GRID)
        assert_close(silu(x), (x * sigmoid(x)).data)

    def test_what_is_saved_of_gelu_is_the_factor_of_x(self):
        x = Tensor(GRID[GRID != 0])
        ratio = gelu(x).data / x.data
        ((_, _, saved),) = announced(lambda: gelu(x))
        assert_close(saved["gate"], ratio, rtol=1e-5, atol=1e-7)
