"""The activations as layers: settings, printing, calling."""

import numpy as np
import pytest

from support.checks import assert_close
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
)
from tinytorch.core.tensor import Tensor


@pytest.mark.parametrize(
    ("layer", "printed"),
    [
        (ReLU(), "ReLU()"),
        (LeakyReLU(), "LeakyReLU(negative_slope=0.01)"),
        (LeakyReLU(0.2), "LeakyReLU(negative_slope=0.2)"),
        (Sigmoid(), "Sigmoid()"),
        (Tanh(), "Tanh()"),
        (GELU(), "GELU()"),
        (SiLU(), "SiLU()"),
        (Softplus(), "Softplus()"),
        (Softmax(), "Softmax(dim=-1)"),
        (LogSoftmax(), "LogSoftmax(dim=-1)"),
        (LogSoftmax(1), "LogSoftmax(dim=1)"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_layer_prints_as_it_is_written(layer, printed):
    assert repr(layer) == printed


def test_settings_can_be_changed_afterwards():
    layer = LeakyReLU(0.5)
    layer.negative_slope = 0.25
    assert_close(layer(Tensor([-4.0])), np.array([-1.0], np.float32))


@pytest.mark.parametrize("cls", [ReLU, LeakyReLU, Sigmoid, Tanh, GELU, SiLU, Softplus, Softmax, LogSoftmax])
def test_calling_a_layer_calls_forward(cls):
    class Doubled(cls):
        def forward(self, x):
            return super().forward(x) * 2

    x = Tensor([[0.5, -1.0]])
    assert_close(Doubled()(x), 2 * cls().forward(x).data)


def test_a_chain_of_layers_is_a_chain_of_calls():
    y = Tensor([[1.0, -1.0]])
    for layer in (LeakyReLU(0.5), Sigmoid(), Softmax()):
        y = layer(y)
    a, b = 1 / (1 + np.exp(-1.0)), 1 / (1 + np.exp(0.5))
    assert_close(y, (np.exp([[a, b]]) / np.exp([a, b]).sum()).astype(np.float32))
