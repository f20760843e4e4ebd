"""Rules that work on large arrays piece by piece give what they give on the whole."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import activations
from tinytorch.core.activations import gelu, log_softmax, silu, softmax
from tinytorch.core.autograd import grad
from tinytorch.core.losses import cross_entropy
from tinytorch.core.tensor import Tensor

RNG = np.random.default_rng(0)
LARGE, PRICES = RNG.normal(size=(2, 3, 803, 127)).astype(np.float32)  # a piece and a sixth each
CASES = [(silu, ()), (gelu, ()), *((f, (dim,)) for f in (softmax, log_softmax) for dim in (0, 1, 2))]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(("function", "options"), CASES)
def test_gradients_of_large_arrays(function, options, order, monkeypatch):
    x = Tensor(LARGE, requires_grad=True)
    got = grad(function(x, *options), x, np.asarray(PRICES, order=order))
    monkeypatch.setattr(activations, "_PIECE", LARGE.size)
    assert_close(got, grad(function(x, *options), x, PRICES), rtol=0, atol=0)


def test_the_gradient_given_is_read_and_never_handed_out():
    x, prices = Tensor([1.0, 2.0], requires_grad=True), np.array([3.0, 4.0], np.float32)
    for y in (x, x + 0.0):
        x.grad = None
        y.backward(prices)
        x.grad += 1
        assert_close(prices, np.array([3, 4], np.float32))


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_cross_entropy_of_many_rows(reduction, monkeypatch):
    x, classes = Tensor(LARGE, requires_grad=True), RNG.integers(0, 127, (3, 803))
    prices = PRICES[..., 0] if reduction == "none" else np.float32(2)
    losses = cross_entropy(x, classes, reduction=reduction)
    got = grad(losses, x, np.asarray(prices))
    monkeypatch.setattr(activations, "_PIECE", LARGE.size)
    whole = cross_entropy(x, classes, reduction=reduction)
    assert_close(losses, whole.data, rtol=0, atol=0)
    assert_close(got, grad(whole, x, np.asarray(prices)), rtol=0, atol=0)
