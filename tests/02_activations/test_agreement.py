"""The activations beside PyTorch's, forward; gradients are compared in module 05."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import activations
from tinytorch.core.tensor import Tensor

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")
F = torch.nn.functional

PAIRS = {
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "softplus": F.softplus,
    "softmax": lambda x: F.softmax(x, dim=-1),
    "log_softmax": lambda x: F.log_softmax(x, dim=-1),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_forward(name, dtype):
    rng = np.random.default_rng(0)
    rtol = 1e-5 if dtype == np.float32 else 1e-9
    for scale in (1, 10, 1e4):
        x = (scale * rng.normal(size=(5, 7, 11))).astype(dtype)
        want = PAIRS[name](torch.from_numpy(x)).numpy()
        # PyTorch's softplus is x from 20 on, and its gelu loses digits where 1 + tanh(u) cancels
        atol = 2e-6 if dtype == np.float32 else 1e-8
        assert_close(getattr(activations, name)(Tensor(x, dtype=dtype)), want, rtol=rtol, atol=atol)


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_every_dim(name, dim):
    x = np.random.default_rng(1).normal(size=(3, 4, 5)).astype(np.float32)
    want = getattr(F, name)(torch.from_numpy(x), dim=dim).numpy()
    assert_close(getattr(activations, name)(Tensor(x), dim), want)


def test_leaky_slopes():
    x = np.linspace(-3, 3, 13, dtype=np.float32)
    for slope in (0.0, 0.01, 0.2, 1.0):
        want = F.leaky_relu(torch.from_numpy(x), slope).numpy()
        assert_close(activations.leaky_relu(Tensor(x), slope), want)
