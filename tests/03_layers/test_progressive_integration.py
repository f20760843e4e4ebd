"""Module 03 with what came before it: layers from tensors and activations."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU, Softmax, relu, softmax
from tinytorch.core.layers import (
    Dropout,
    Flatten,
    Identity,
    Linear,
    Module,
    Sequential,
    dropout,
    kaiming_normal,
    kaiming_uniform,
    linear,
)
from tinytorch.core.tensor import Tensor, manual_seed, ones, randn, set_recorder


class Net(Module):
    """Layers in attributes and in a list, and no super().__init__()."""

    def __init__(self):
        self.first = Linear(4, 3, rng=0)
        self.rest = [Linear(3, 3, rng=1), ReLU(), Linear(3, 2, bias=False, rng=2)]

    def forward(self, x):
        x = relu(self.first(x))
        for layer in self.rest:
            x = layer(x)
        return x


def heard(function):
    """The names of the operations that `function()` announces."""
    names = []
    previous = set_recorder(lambda out, op, inputs, saved: names.append(op))
    try:
        function()
    finally:
        set_recorder(previous)
    return names


class TestPriorStackStillWorking:
    def test_a_matrix_product_is_rows_times_columns(self):
        assert_close(Tensor([[1.0, 2.0]]) @ Tensor([[3.0], [4.0]]), np.array([[11.0]], np.float32))

    def test_relu_drops_the_negative_half(self):
        assert_close(relu([-2.0, 3.0]), np.array([0, 3], np.float32))

    def test_shares_add_up_to_1(self):
        assert_close(softmax(randn(3, 5, rng=0)).sum(axis=-1), np.ones(3, np.float32))


class TestModule03LayersCore:
    def test_linear_of_a_worked_example(self):
        layer = Linear(3, 2)
        layer.weight.data = np.array([[1, 0], [3, 5], [1, -1]], np.float32)
        layer.bias.data = np.array([10, 1], np.float32)
        assert_close(layer(Tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])), np.array([[13, -1], [14, 5]], np.float32))

    def test_parameters_are_found_in_attributes_and_lists(self):
        names = [name for name, _ in Net().named_parameters()]
        assert names == ["first.weight", "first.bias", "rest.0.weight", "rest.0.bias", "rest.2.weight"]

    def test_dropout_zeroes_or_doubles_at_one_half(self):
        assert set(dropout(ones(1000), 0.5, rng=0).tolist()) == {0.0, 2.0}

    def test_eval_reaches_every_layer_and_switches_dropout_off(self):
        model = Sequential(Dropout(0.9), Sequential(Dropout(0.9)))
        x = ones(20)
        assert_close(model.eval()(x), x.data)
        assert model.train()(x).tolist() != x.tolist()

    def test_a_state_goes_out_and_comes_back(self):
        a, b = Net(), Net()
        b.first.weight.data = np.zeros((4, 3), np.float32)
        b.load_state_dict(a.state_dict())
        x = randn(5, 4, rng=3)
        assert_close(b(x), a(x).data, rtol=0, atol=0)


class TestBackwardIntegration:
    """With modules 01 and 02, on which layers stand."""

    @pytest.mark.parametrize("lead", [(), (1,), (5,), (2, 5), (2, 1, 3), (0,), (2, 0)])
    def test_linear_equals_a_product_and_a_sum(self, lead):
        x, w, b = randn(*lead, 3, rng=0), randn(3, 4, rng=1), randn(4, rng=2)
        assert_close(linear(x, w, b), (x @ w + b).data)
        assert_close(linear(x, w), (x @ w).data)

    def test_a_layer_is_one_operation(self):
        assert heard(lambda: Linear(3, 4)(randn(2, 3))) == ["linear"]
        assert heard(lambda: Linear(3, 4, bias=False)(randn(2, 5, 3))) == ["linear"]

    def test_activations_of_module_02_are_layers_too(self):
        model = Sequential(Linear(2, 3), ReLU(), Softmax(dim=0))
        assert [type(layer).__name__ for layer in model.children()] == ["Linear", "ReLU", "Softmax"]
        assert_close(model(randn(4, 2, rng=0)).sum(axis=0), np.ones(3, np.float32))

    def test_random_numbers_come_from_the_one_generator(self):
        manual_seed(7)
        first = Linear(3, 4).state_dict(), dropout(ones(8), 0.5).tolist()
        manual_seed(7)
        second = Linear(3, 4).state_dict(), dropout(ones(8), 0.5).tolist()
        assert first[1] == second[1]
        assert_close(first[0]["weight"], second[0]["weight"], rtol=0, atol=0)
        assert_close(first[0]["bias"], second[0]["bias"], rtol=0, atol=0)


class TestForwardIntegration:
    """What the next modules rely on."""

    def test_weights_are_float32_leaves_that_require_gradients(self):
        for parameter in Net().parameters():
            assert parameter.dtype == np.float32
            assert parameter.requires_grad
            assert parameter.grad is None

    @pytest.mark.parametrize(
        "layer", [Linear(4, 4, rng=0), Dropout(0.5), Identity(), Flatten(), Sequential(Linear(4, 4, rng=0), ReLU())]
    )
    def test_float32_stays_float32(self, layer):
        assert layer(randn(3, 4, rng=0)).dtype == np.float32

    def test_float64_inputs_and_weights_stay_float64(self):
        x, w = Tensor(np.ones((2, 3)), dtype=np.float64), Tensor(np.ones((3, 4)), dtype=np.float64)
        assert linear(x, w, Tensor(np.ones(4), dtype=np.float64)).dtype == np.float64
        assert dropout(x, 0.5).dtype == np.float64

    def test_the_mask_is_saved_for_the_gradient(self):
        kept = {}
        previous = set_recorder(lambda out, op, inputs, saved: kept.update(saved, out=out.data))
        try:
            dropout(ones(100), 0.25, rng=0)
        finally:
            set_recorder(previous)
        assert set(kept) == {"mask", "out"}
        assert_close(kept["mask"], kept["out"])

    def test_the_inputs_of_linear_are_announced_in_order(self):
        seen = []
        previous = set_recorder(lambda out, op, inputs, saved: seen.extend(inputs))
        layer, x = Linear(3, 4), randn(2, 3)
        try:
            layer(x)
        finally:
            set_recorder(previous)
        assert [id(t) for t in seen] == [id(x), id(layer.weight), id(layer.bias)]

    def test_zero_grad_forgets_every_gradient(self):
        net = Net()
        for parameter in net.parameters():
            parameter.grad = np.ones(parameter.shape, np.float32)
        net.zero_grad()
        assert [parameter.grad for parameter in net.parameters()] == [None] * 5


class TestCrossModuleIntegration:
    def test_a_network_for_images(self):
        model = Sequential(Flatten(), Linear(28 * 28, 16), ReLU(), Dropout(0.1), Linear(16, 10), Softmax())
        out = model(randn(5, 1, 28, 28, rng=0))
        assert out.shape == (5, 10)
        assert_close(out.sum(axis=1), np.ones(5, np.float32))

    def test_two_hidden_units_compute_xor(self):
        model = Sequential(Linear(2, 2), ReLU(), Linear(2, 1))
        model.load_state_dict(
            {
                "0.weight": [[1.0, 1.0], [1.0, 1.0]],
                "0.bias": [0.0, -1.0],
                "2.weight": [[1.0], [-2.0]],
                "2.bias": [0.0],
            }
        )
        x = Tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        assert_close(model(x), np.array([[0], [1], [1], [0]], np.float32))

    def test_the_signal_survives_thirty_relu_layers_with_kaimings_gain(self):
        for draw in (kaiming_normal, kaiming_uniform):
            rng = np.random.default_rng(0)
            x = randn(32, 256, rng=rng)
            for _ in range(30):
                x = relu(x @ draw((256, 256), rng=rng))
            assert 0.2 < float((x.data**2).mean() ** 0.5) < 5


class TestRegressionPrevention:
    def test_layers_do_not_change_their_input(self):
        x = randn(2, 4, rng=0)
        before = x.data.copy()
        Sequential(Dropout(0.5), Linear(4, 4), Dropout(1.0), Flatten(), Identity())(x)
        assert_close(x, before, rtol=0, atol=0)

    def test_adding_the_bias_does_not_change_the_bias(self):
        layer = Linear(3, 2, rng=0)
        before = layer.bias.data.copy()
        layer(randn(1, 3))
        assert_close(layer.bias, before, rtol=0, atol=0)

    def test_a_wrong_width_is_reported_by_the_layer_it_reached(self):
        with pytest.raises(ValueError, match=r"Linear\(3, 4\) needs inputs \(\.\.\., 3\), got \(2, 5\)"):
            Linear(3, 4)(randn(2, 5))

    def test_two_models_share_nothing(self):
        a, b = Net(), Net()
        a.eval()
        a.first.weight.data = np.zeros((4, 3), np.float32)
        assert b.training
        assert b.first.training
        assert b.first.weight.data.any()
