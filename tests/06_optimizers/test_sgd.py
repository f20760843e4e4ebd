"""Gradient descent: plain, with momentum, Nesterov's, with decay."""

import itertools

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.optimizers import PIECE, SGD, sgd_update
from tinytorch.core.tensor import Tensor


def naive(p, g, velocity, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
    g = g + weight_decay * p
    velocity = momentum * velocity + g
    return p - lr * (g + momentum * velocity if nesterov else velocity), velocity


def updated(p, g, velocity, **options):
    arrays = [np.array([value], np.float32) for value in (p, g, velocity)]
    sgd_update(*arrays, np.full((2, 1), np.nan, np.float32), **options)
    return [array.item() for array in arrays]


class TestWorkedExamples:
    def test_plain(self):
        assert_close(updated(10, 1, 0, lr=0.1)[0], 9.9)

    def test_momentum(self):
        p, _, velocity = updated(10, 1, 2, lr=0.1, momentum=0.9)
        assert_close(velocity, 2.8)
        assert_close(p, 9.72)

    def test_nesterov_looks_ahead(self):
        p, _, velocity = updated(10, 1, 2, lr=0.1, momentum=0.9, nesterov=True)
        assert_close(velocity, 2.8)
        assert_close(p, 9.648)

    def test_decay_pulls_towards_zero(self):
        assert_close(updated(10, 0, 0, lr=0.1, weight_decay=0.5)[0], 9.5)

    def test_decay_enters_the_velocity(self):
        p, _, velocity = updated(10, 1, 2, lr=0.1, momentum=0.9, weight_decay=0.5)
        assert_close(velocity, 0.9 * 2 + 1 + 5)
        assert_close(p, 10 - 0.1 * 7.8)

    def test_decay_and_nesterov_together(self):
        p, _, velocity = updated(10, 1, 2, lr=0.1, momentum=0.9, weight_decay=0.5, nesterov=True)
        assert_close(velocity, 7.8)
        assert_close(p, 10 - 0.1 * (6 + 0.9 * 7.8))


class TestInPlace:
    @pytest.mark.parametrize("nesterov", [False, True])
    @pytest.mark.parametrize("weight_decay", [0.0, 0.1])
    def test_the_gradient_is_only_read(self, weight_decay, nesterov):
        g = np.ones(3, np.float32)
        g.flags.writeable = False
        p, velocity, scratch = np.ones(3, np.float32), np.ones(3, np.float32), np.empty((2, 3), np.float32)
        sgd_update(p, g, velocity, scratch, 0.1, 0.9, weight_decay, nesterov)
        assert p.max() < 1

    def test_plain_descent_needs_no_velocity(self):
        p = np.ones(1, np.float32)
        sgd_update(p, np.ones(1, np.float32), None, np.empty((2, 1), np.float32), lr=0.25)
        assert p.item() == 0.75


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("momentum", "weight_decay"), [*itertools.product([0.5, 0.9], [0.0, 0.1])])
@pytest.mark.parametrize("shape", [(), (1,), (7, 3), (2 * PIECE + 5,)])
def test_ten_steps_agree_with_the_expressions(shape, momentum, weight_decay, nesterov):
    rng = np.random.default_rng(0)
    w = Tensor(rng.normal(size=shape), requires_grad=True)
    optimizer = SGD([w], lr=0.1, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    p, velocity = w.data.astype(np.float64), np.zeros(shape)
    for _ in range(10):
        w.grad = np.asarray(rng.normal(size=shape), np.float32)
        p, velocity = naive(p, w.grad, velocity, 0.1, momentum, weight_decay, nesterov)
        optimizer.step()
    assert_close(w, p.astype(np.float32), rtol=1e-5, atol=1e-5)
    assert_close(optimizer.state[0]["velocity"], velocity.astype(np.float32), rtol=1e-5, atol=1e-5)


class TestMemory:
    def test_without_momentum_nothing_is_kept(self):
        w = Tensor(np.ones(10), requires_grad=True)
        w.grad = np.ones(10, np.float32)
        optimizer = SGD([w], lr=0.1)
        optimizer.step()
        assert optimizer.state == [{"step": 1}]

    def test_momentum_may_be_switched_on_later(self):
        w = Tensor([0.0], requires_grad=True)
        w.grad = np.ones(1, np.float32)
        optimizer = SGD([w], lr=1.0)
        optimizer.step()
        optimizer.param_groups[0]["momentum"] = 0.5
        optimizer.step()
        optimizer.step()
        assert_close(w, np.array([-1 - 1 - 1.5], np.float32))


class TestOptions:
    def test_nesterov_needs_momentum(self):
        w = Tensor([1.0], requires_grad=True)
        with pytest.raises(ValueError, match=r"momentum > 0 for nesterov=True"):
            SGD([w], nesterov=True)

    @pytest.mark.parametrize(("option", "value"), [("lr", -0.1), ("momentum", 1.0), ("momentum", -0.1)])
    def test_values_out_of_range(self, option, value):
        w = Tensor([1.0], requires_grad=True)
        with pytest.raises(ValueError, match=f"SGD needs 0 <= {option} < .*, got {value}"):
            SGD([w], **{option: value})

    def test_the_default_learning_rate(self):
        assert SGD([Tensor([1.0], requires_grad=True)]).lr == 0.01
