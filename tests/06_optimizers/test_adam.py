"""Adam and AdamW."""

import itertools

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.optimizers import PIECE, Adam, AdamW, adam_update
from tinytorch.core.tensor import Tensor


def naive(p, g, m, v, step, lr, betas, eps, weight_decay=0.0):
    """Algorithm 1 of the paper, whose m and v are averages; ours are sums."""
    g = g + weight_decay * p
    m = betas[0] * m + (1 - betas[0]) * g
    v = betas[1] * v + (1 - betas[1]) * g**2
    m_hat, v_hat = m / (1 - betas[0] ** step), v / (1 - betas[1] ** step)
    return p - lr * m_hat / (np.sqrt(v_hat) + eps), m, v


def updated(p, g, m, v, step, **options):
    arrays = [np.array([value], np.float32) for value in (p, g, m, v)]
    adam_update(*arrays, np.full((2, 1), np.nan, np.float32), step, **options)
    return [array.item() for array in arrays]


class TestWorkedExamples:
    def test_the_first_step(self):
        p, _, m, v = updated(1, 4, 0, 0, 1, lr=0.1)
        assert_close(np.array([p, m, v]), np.array([0.9, 4.0, 16.0]))

    def test_the_second_step(self):
        p, _, m, v = updated(0.9, -4, 4, 16, 2, lr=0.1)
        assert_close(np.array([m, v]), np.array([-0.4, 31.984]))
        assert_close(p, 0.9 + 0.1 * (0.04 / 0.19) / 4, rtol=1e-4)

    def test_a_gradient_as_small_as_eps_moves_half_as_far(self):
        assert_close(updated(1, 1e-3, 0, 0, 1, lr=0.1, eps=1e-3)[0], 0.95)

    def test_eps_is_added_after_the_correction(self):
        corrected = 0.1 * 1 / (np.sqrt(1.0) + 0.5)
        assert_close(updated(1, 1, 0, 0, 1, lr=0.1, eps=0.5)[0], 1 - corrected)

    def test_decay_of_adam_enters_both_sums(self):
        _, _, m, v = updated(10, 1, 0, 0, 1, lr=0.1, weight_decay=0.3)
        assert_close(np.array([m, v]), np.array([4.0, 16.0]))

    def test_a_gradient_that_flips_hardly_moves(self):
        w = Tensor([0.0], requires_grad=True)
        optimizer = Adam([w], lr=0.1)
        for step in range(100):
            w.grad = np.array([(-1.0) ** step], np.float32)
            optimizer.step()
        assert abs(w.item()) < 0.2  # a hundred steps in one direction would be 10


class TestInPlace:
    @pytest.mark.parametrize("weight_decay", [0.0, 0.1])
    @pytest.mark.parametrize("rule", [Adam, AdamW])
    def test_the_gradient_is_only_read(self, rule, weight_decay):
        w = Tensor([1.0, 1.0], requires_grad=True)
        w.grad = np.broadcast_to(np.float32(1), (2,))
        rule([w], lr=0.1, weight_decay=weight_decay).step()
        assert w.data.max() < 1


@pytest.mark.parametrize(("betas", "weight_decay"), [*itertools.product([(0.9, 0.999), (0.5, 0.7)], [0.0, 0.1])])
@pytest.mark.parametrize("shape", [(), (1,), (7, 3), (2 * PIECE + 5,)])
@pytest.mark.parametrize("rule", [Adam, AdamW])
def test_ten_steps_agree_with_the_expressions(rule, shape, betas, weight_decay):
    rng = np.random.default_rng(0)
    w = Tensor(rng.normal(size=shape), requires_grad=True)
    optimizer = rule([w], lr=0.01, betas=betas, eps=1e-6, weight_decay=weight_decay)
    p, m, v = w.data.astype(np.float64), np.zeros(shape), np.zeros(shape)
    for step in range(1, 11):
        w.grad = np.asarray(rng.normal(size=shape), np.float32)
        if rule is AdamW:
            p = p * (1 - 0.01 * weight_decay)
        p, m, v = naive(p, w.grad, m, v, step, 0.01, betas, 1e-6, weight_decay if rule is Adam else 0.0)
        optimizer.step()
    assert_close(w, p.astype(np.float32), rtol=1e-5, atol=1e-5)
    for name, average, beta in zip("mv", (m, v), betas):
        assert_close(optimizer.state[0][name], np.asarray(average / (1 - beta), np.float32), rtol=1e-5, atol=1e-5)


class TestAdamW:
    def test_decay_does_not_depend_on_the_gradient(self):
        w = Tensor([1.0, 1.0], requires_grad=True)
        w.grad = np.array([1e-3, 1e3], np.float32)
        AdamW([w], lr=0.1, weight_decay=0.5).step()
        assert_close(w, np.array([0.85, 0.85], np.float32))

    def test_decay_stays_out_of_the_sums(self):
        w = Tensor([10.0], requires_grad=True)
        w.grad = np.array([1.0], np.float32)
        optimizer = AdamW([w], lr=0.1, weight_decay=0.5)
        optimizer.step()
        assert_close(optimizer.state[0]["m"], np.array([1], np.float32))

    def test_defaults(self):
        w = Tensor([1.0], requires_grad=True)
        adam, adamw = Adam([w]), AdamW([w])
        assert adam.defaults == {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}
        assert adamw.defaults == {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}

    def test_decay_is_scaled_by_a_learning_rate_changed_mid_way(self):
        w = Tensor([1.0], requires_grad=True)
        w.grad = np.zeros(1, np.float32)
        optimizer = AdamW([w], lr=0.1, weight_decay=0.5)
        optimizer.step()
        optimizer.lr = 0.2
        optimizer.step()
        assert_close(w, np.array([0.95 * 0.9], np.float32))


class TestOptions:
    @pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9, float("nan"))])
    def test_betas_lie_in_0_to_1(self, betas):
        with pytest.raises(ValueError, match=r"Adam needs 0 <= betas\[[01]\] < 1, got"):
            Adam([Tensor([1.0], requires_grad=True)], betas=betas)

    @pytest.mark.parametrize("betas", [0.9, (0.9,), (0.9, 0.99, 0.999), "ab"])
    def test_betas_are_two_numbers(self, betas):
        with pytest.raises(TypeError, match="Adam needs (two numbers|a number)"):
            Adam([Tensor([1.0], requires_grad=True)], betas=betas)

    @pytest.mark.parametrize(("option", "value"), [("lr", -1e-3), ("eps", -1.0), ("weight_decay", -0.1)])
    def test_negative_values(self, option, value):
        with pytest.raises(ValueError, match=f"AdamW needs 0 <= {option} < inf, got {value}"):
            AdamW([Tensor([1.0], requires_grad=True)], **{option: value})

    def test_betas_may_be_0(self):
        w = Tensor([1.0], requires_grad=True)
        w.grad = np.array([-7.0], np.float32)
        Adam([w], lr=0.1, betas=(0.0, 0.0)).step()  # then it goes by the sign
        assert_close(w, np.array([1.1], np.float32))
