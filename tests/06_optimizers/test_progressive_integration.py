"""Module 06 with what came before it: gradients turned into better parameters."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import backward, no_grad
from tinytorch.core.layers import Dropout, Linear, Module, Sequential
from tinytorch.core.losses import cross_entropy, mse_loss
from tinytorch.core.optimizers import SGD, Adam, AdamW
from tinytorch.core.tensor import Tensor, manual_seed, randn

RULES = {
    "sgd": lambda params: SGD(params, lr=0.1),
    "momentum": lambda params: SGD(params, lr=0.05, momentum=0.9),
    "nesterov": lambda params: SGD(params, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda params: Adam(params, lr=0.02),
    "adamw": lambda params: AdamW(params, lr=0.02, weight_decay=0.01),
}


def network():
    return Sequential(Linear(2, 16, rng=0), ReLU(), Linear(16, 2, rng=1))


XOR = Tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), Tensor([0, 1, 1, 0])


class TestPriorStackStillWorking:
    def test_the_slope_of_a_square(self):
        w = Tensor([3.0], requires_grad=True)
        (w * w).sum().backward()
        assert_close(w.grad, np.array([6.0], np.float32))

    def test_a_gradient_for_every_parameter(self):
        model = network()
        cross_entropy(model(XOR[0]), XOR[1]).backward()
        assert [p.grad.shape for p in model.parameters()] == [(2, 16), (16,), (16, 2), (2,)]
        assert all(np.abs(p.grad).sum() > 0 for p in model.parameters())

    def test_nothing_is_recorded_under_no_grad(self):
        with no_grad():
            out = network()(XOR[0])
        assert out.requires_grad is False


class TestModule06OptimizersCore:
    def test_plain_descent_goes_against_the_slope(self):
        w = Tensor([0.0], requires_grad=True)
        optimizer = SGD([w], lr=0.1)
        for position in (0.6, 1.08, 1.464):
            optimizer.zero_grad()
            mse_loss(w, Tensor([3.0])).backward()
            optimizer.step()
            assert_close(w, np.array([position], np.float32))

    def test_momentum_adds_up_to_ten_times_the_slope(self):
        w = Tensor([0.0], requires_grad=True)
        optimizer = SGD([w], lr=1.0, momentum=0.9)
        w.grad = np.ones(1, np.float32)
        walked = []
        for _ in range(200):
            before = w.item()
            optimizer.step()
            walked.append(before - w.item())
        assert_close(np.array(walked[:4]), np.array([1, 1.9, 2.71, 3.439]))
        assert_close(walked[-1], 10.0, rtol=1e-4)

    @pytest.mark.parametrize("gradient", [1e-4, -1e-2, 4.0, -1e6])
    def test_the_first_step_of_adam_is_the_learning_rate(self, gradient):
        w = Tensor([1.0], requires_grad=True)
        w.grad = np.array([gradient], np.float32)
        Adam([w], lr=0.01).step()
        assert_close(w, np.array([1 - 0.01 * np.sign(gradient)], np.float32), rtol=1e-4)

    def test_adamw_decays_the_weight_and_adam_the_gradient(self):
        places = []
        for rule in (Adam, AdamW):
            w = Tensor([1.0], requires_grad=True)
            w.grad = np.array([100.0], np.float32)
            rule([w], lr=0.1, weight_decay=0.5).step()
            places.append(w.item())
        assert_close(np.array(places), np.array([0.9, 0.85]))


class TestBackwardIntegration:
    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_every_rule_learns_xor(self, rule):
        model = network()
        optimizer = rule(model.parameters())
        for _ in range(300):
            optimizer.zero_grad()
            loss = cross_entropy(model(XOR[0]), XOR[1])
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.25
        assert model(XOR[0]).argmax(axis=1).tolist() == XOR[1].tolist()

    def test_a_step_does_not_touch_the_gradients_of_backward(self):
        model = network()
        optimizer = Adam(model.parameters(), weight_decay=0.1)
        cross_entropy(model(XOR[0]), XOR[1]).backward()
        before = [p.grad.copy() for p in optimizer.parameters]
        optimizer.step()
        for p, grad in zip(optimizer.parameters, before):
            assert_close(p.grad, grad, rtol=0, atol=0)

    def test_without_zero_grad_gradients_add_up(self):
        w = Tensor([1.0], requires_grad=True)
        for _ in range(2):
            backward((3 * w).sum())
        SGD([w], lr=0.1).step()
        assert_close(w, np.array([0.4], np.float32))

    def test_a_step_between_forward_and_backward_is_noticed(self):
        w = Tensor([2.0], requires_grad=True)
        w.grad = np.ones(1, np.float32)
        loss = (w * w).sum()
        SGD([w], lr=0.1).step()
        with pytest.raises(RuntimeError, match="changed in place"):
            loss.backward()


class TestForwardIntegration:
    def test_the_model_computes_with_the_new_weights(self):
        layer = Linear(2, 1, rng=0)
        x = Tensor([[1.0, 2.0]])
        before = layer(x).item()
        layer(x).sum().backward()
        SGD(layer.parameters(), lr=0.1).step()
        assert_close(layer(x).item(), before - 0.1 * (1 + 4 + 1), rtol=1e-4)

    def test_parameters_keep_their_array_shape_and_dtype(self):
        model = network()
        arrays = [p.data for p in model.parameters()]
        cross_entropy(model(XOR[0]), XOR[1]).backward()
        Adam(model.parameters()).step()
        for p, array in zip(model.parameters(), arrays):
            assert p.data is array
            assert p.dtype == np.float32


class TestCrossModuleIntegration:
    def test_a_model_may_be_given_itself(self):
        model = network()
        optimizer = SGD(model, lr=0.1)
        assert [name for name, _ in optimizer.named_parameters] == ["0.weight", "0.bias", "2.weight", "2.bias"]
        assert all(p is q for p, q in zip(optimizer.parameters, model.parameters()))

    def test_a_plain_class_with_parameters_is_a_model(self):
        class Line:
            def __init__(self):
                self.slope = Tensor([1.0], requires_grad=True)

            def parameters(self):
                return [self.slope]

        line = Line()
        line.slope.grad = np.ones(1, np.float32)
        SGD(line, lr=0.5).step()
        assert_close(line.slope, np.array([0.5], np.float32))

    def test_a_weight_shared_by_two_layers_moves_once(self):
        class Tied(Module):
            def __init__(self):
                self.first = Linear(2, 2, bias=False, rng=0)
                self.second = Linear(2, 2, bias=False, rng=1)
                self.second.weight = self.first.weight

            def forward(self, x):
                return self.second(self.first(x))

        model = Tied()
        before = model.first.weight.data.copy()
        model(Tensor([[1.0, 2.0]])).sum().backward()
        optimizer = SGD(model.parameters(), lr=0.1)
        optimizer.step()
        assert len(optimizer.parameters) == 1
        assert_close(model.second.weight, before - np.float32(0.1) * model.first.weight.grad)

    def test_a_frozen_layer_stays_where_it_is(self):
        model = network()
        optimizer = Adam(model.parameters(), lr=0.1)
        model[0].requires_grad_(False)
        before = [p.data.copy() for p in model.parameters()]
        cross_entropy(model(XOR[0]), XOR[1]).backward()
        optimizer.step()
        moved = [not np.array_equal(p.data, old) for p, old in zip(model.parameters(), before)]
        assert moved == [False, False, True, True]

    def test_a_seeded_run_with_dropout_repeats_bit_for_bit(self):
        weights = []
        for _ in range(2):
            manual_seed(3)
            model = Sequential(Linear(4, 8), Dropout(0.5), Linear(8, 2))
            optimizer = Adam(model.parameters())
            for _ in range(5):
                optimizer.zero_grad()
                cross_entropy(model(randn(6, 4)), Tensor([0, 1, 0, 1, 0, 1])).backward()
                optimizer.step()
            weights.append([p.data.tobytes() for p in model.parameters()])
        assert weights[0] == weights[1]


class TestRegressionPrevention:
    def test_a_parameter_without_gradient_keeps_its_momentum_and_its_count(self):
        a, b = (Tensor([1.0], requires_grad=True) for _ in range(2))
        optimizer = Adam([a, b], lr=0.1)
        for p in (a, b):
            p.grad = np.ones(1, np.float32)
        optimizer.step()
        b.grad = None
        before, memory = b.item(), {key: np.copy(value) for key, value in optimizer.state[1].items()}
        optimizer.step()
        assert b.item() == before
        assert {key: np.copy(value) for key, value in optimizer.state[1].items()} == memory
        assert [state["step"] for state in optimizer.state] == [2, 1]

    def test_a_late_parameter_is_corrected_by_its_own_count(self):
        a, late = (Tensor([1.0], requires_grad=True) for _ in range(2))
        optimizer = Adam([a, late], lr=0.1)
        a.grad = np.ones(1, np.float32)
        for _ in range(50):
            optimizer.step()
        late.grad = np.ones(1, np.float32)
        optimizer.step()
        assert_close(late, np.array([0.9], np.float32))

    def test_a_gradient_that_does_not_fit_moves_nothing(self):
        a, b = (Tensor([1.0, 1.0], requires_grad=True) for _ in range(2))
        a.grad, b.grad = np.ones(2, np.float32), np.ones((2, 1), np.float32)
        optimizer = SGD([a, b], lr=0.1, momentum=0.9)
        with pytest.raises(ValueError, match=r"parameter 1 \(2,\) float32 has a gradient of shape \(2, 1\)"):
            optimizer.step()
        assert_close(a, np.ones(2, np.float32))
        assert optimizer.state == [{}, {}]

    def test_no_parameters_is_an_error(self):
        with pytest.raises(ValueError, match="no parameters"):
            Adam(Sequential(ReLU()).parameters())
