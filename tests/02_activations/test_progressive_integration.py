"""Module 02 with what came before it: the bends between layers, from tensors."""

import numpy as np
import pytest

from support.checks import assert_close
from support.listening import announced
from tinytorch.core import activations
from tinytorch.core.activations import (
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    softmax,
    softplus,
    tanh,
)
from tinytorch.core.tensor import Tensor, from_numpy, manual_seed, randn, set_recorder

FUNCTIONS = ["relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu", "softplus", "softmax", "log_softmax"]
CLASSES = [ReLU, LeakyReLU, Sigmoid, Tanh, GELU, SiLU, Softplus, Softmax, LogSoftmax]


def function(name):
    return getattr(activations, name)


class TestPriorStackStillWorking:
    def test_sums_broadcast(self):
        assert_close(Tensor([[1.0], [2.0]]) + Tensor([10.0, 20.0]), np.array([[11, 21], [12, 22]], np.float32))

    def test_a_matrix_product_is_rows_times_columns(self):
        assert_close(Tensor([[1.0, 2.0]]) @ Tensor([[3.0], [4.0]]), np.array([[11.0]], np.float32))

    def test_the_same_seed_gives_the_same_numbers(self):
        manual_seed(3)
        first = randn(4).tolist()
        manual_seed(3)
        assert randn(4).tolist() == first


class TestModule02ActivationsCore:
    def test_relu_of_a_worked_example(self):
        assert_close(relu([-2.0, -0.5, 0.0, 1.5]), np.array([0, 0, 0, 1.5], np.float32))

    def test_sigmoid_of_a_worked_example(self):
        assert_close(sigmoid([-2.0, 0.0, 2.0]), np.array([0.11920292, 0.5, 0.88079708], np.float32))

    def test_softmax_of_a_worked_example(self):
        assert_close(softmax([1.0, 2.0, 3.0]), np.array([0.09003057, 0.24472847, 0.66524096], np.float32))

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_every_function_has_a_class_that_computes_the_same(self, name):
        layer = next(cls for cls in CLASSES if cls.__name__.lower() == name.replace("_", ""))()
        x = randn(3, 5, rng=0)
        assert_close(layer(x), function(name)(x).data, rtol=0, atol=0)

    @pytest.mark.parametrize("name", FUNCTIONS)
    @pytest.mark.parametrize("shape", [(1,), (3,), (3, 4), (2, 3, 4), (2, 1, 3, 2)])
    def test_the_shape_stays(self, name, shape):
        assert function(name)(randn(*shape, rng=0)).shape == shape


class TestBackwardIntegration:
    """With module 01, on which these functions stand."""

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_integers_arrays_and_lists_become_float32_tensors(self, name):
        for x in (Tensor([[1, 2], [3, 4]]), np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]):
            out = function(name)(x)
            assert type(out) is Tensor
            assert_close(out, function(name)(Tensor([[1.0, 2.0], [3.0, 4.0]])).data, rtol=0, atol=0)

    def test_tanh_is_a_stretched_sigmoid_in_tensor_arithmetic(self):
        x = randn(50, rng=0)
        assert_close(2 * sigmoid(2 * x) - 1, tanh(x).data)

    def test_softplus_is_log_of_one_plus_exp(self):
        x = randn(50, rng=0)
        assert_close((1 + x.exp()).log(), softplus(x).data)

    def test_log_softmax_is_x_minus_logsumexp(self):
        x = randn(4, 6, rng=0)
        assert_close(log_softmax(x), (x - x.logsumexp(axis=-1, keepdims=True)).data)

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_each_operation_announces_its_name_and_its_input(self, name):
        x = from_numpy(np.array([[0.5, -1.0]], np.float32))
        ((op, inputs, _),) = announced(lambda: function(name)(x))
        assert op == name
        assert len(inputs) == 1
        assert inputs[0] is x


class TestForwardIntegration:
    """What the next modules rely on."""

    @pytest.mark.parametrize("cls", CLASSES)
    def test_a_layer_without_parameters_says_so(self, cls):
        assert cls().parameters() == []

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_the_dtype_stays(self, name, dtype):
        assert function(name)(Tensor([[-1.5, 0.0, 2.0]], dtype=dtype)).dtype == dtype

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("name", FUNCTIONS[:7])
    def test_a_single_number_stays_an_array_of_shape_nothing(self, name, dtype):
        out = function(name)(Tensor(0.5, dtype=dtype))
        assert isinstance(out.data, np.ndarray)
        assert (out.shape, out.dtype) == ((), dtype)

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_an_empty_batch_gives_an_empty_result(self, name):
        assert function(name)(Tensor(np.zeros((0, 4), np.float32))).shape == (0, 4)

    @pytest.mark.parametrize(
        ("name", "saved"),
        [
            ("relu", {"out"}),
            ("leaky_relu", {"negative_slope"}),
            ("sigmoid", {"out"}),
            ("tanh", {"out"}),
            ("softplus", {"out"}),
            ("silu", {"gate"}),
            ("gelu", {"gate"}),
            ("softmax", {"out", "axis"}),
            ("log_softmax", {"out", "axis"}),
        ],
    )
    def test_what_is_saved_for_the_gradient(self, name, saved):
        heard = {}
        previous = set_recorder(lambda out, op, inputs, kept: heard.update(kept, result=out.data))
        try:
            function(name)(Tensor([[0.5, -1.0]]))
        finally:
            set_recorder(previous)
        result = heard.pop("result")
        assert set(heard) == saved
        if "out" in saved:
            assert heard["out"] is result


class TestCrossModuleIntegration:
    def test_two_layers_without_a_bend_are_one(self):
        a, b, x = randn(4, 5, rng=0), randn(5, 3, rng=1), randn(6, 4, rng=2)
        assert_close(x @ a @ b, (x @ (a @ b)).data, rtol=1e-4, atol=1e-5)

    def test_two_bends_make_the_absolute_value(self):
        x = randn(50, rng=0)
        assert_close(relu(x) + relu(-x), abs(x).data)

    def test_a_small_network_computes_xor(self):
        """Two relus and a sum: the bend makes possible what no single layer computes."""
        x = Tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        hidden = relu(x @ Tensor([[1.0, 1.0], [1.0, 1.0]]) + Tensor([0.0, -1.0]))
        assert_close(hidden @ Tensor([[1.0], [-2.0]]), np.array([[0], [1], [1], [0]], np.float32))


class TestRegressionPrevention:
    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_the_input_is_never_changed(self, name):
        x = randn(3, 5, rng=0)
        before = x.data.copy()
        out = function(name)(x)
        assert_close(x, before, rtol=0, atol=0)
        assert not np.shares_memory(out.data, x.data)

    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_an_array_of_another_order_gives_the_same_numbers(self, name):
        x = randn(4, 6, rng=0)
        assert_close(function(name)(x.T), function(name)(Tensor(np.ascontiguousarray(x.data.T))).data, rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("name", "wanted"),
        [
            ("relu", [0, 0, 0, 1e4]),
            ("leaky_relu", [-np.inf, -100, 0, 1e4]),
            ("sigmoid", [0, 0, 0.5, 1]),
            ("tanh", [-1, -1, 0, 1]),
            ("gelu", [0, 0, 0, 1e4]),
            ("silu", [0, 0, 0, 1e4]),
            ("softplus", [0, 0, np.log(2), 1e4]),
            ("softmax", [0, 0, 0, 1]),
            ("log_softmax", [-np.inf, -2e4, -1e4, 0]),
        ],
    )
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_minus_infinity_and_ten_thousand_are_safe(self, name, wanted, dtype):
        x = Tensor([-np.inf, -1e4, 0.0, 1e4], dtype=dtype)
        assert_close(function(name)(x), np.array(wanted, dtype))

    def test_leaky_relu_passes_its_slope(self):
        assert_close(LeakyReLU(0.2)(Tensor([-1.0])), np.array([-0.2], np.float32))
        assert_close(leaky_relu([-1.0]), np.array([-0.01], np.float32))

    def test_softmax_passes_its_dim(self):
        x = randn(2, 3, 4, rng=0)
        assert_close(Softmax(dim=1)(x), softmax(x, 1).data, rtol=0, atol=0)
        assert_close(LogSoftmax(dim=0)(x), log_softmax(x, 0).data, rtol=0, atol=0)
