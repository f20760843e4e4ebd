"""Layers beside PyTorch's, forward; gradients are compared in module 05."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import GELU, ReLU
from tinytorch.core.layers import Dropout, Flatten, Linear, Sequential, linear
from tinytorch.core.tensor import Tensor

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (2, 1, 4, 3)])
def test_linear(shape, dtype):
    rng = np.random.default_rng(0)
    x, w, b = (rng.normal(size=s).astype(dtype) for s in (shape, (3, 4), (4,)))
    tx, tw, tb = (torch.from_numpy(a) for a in (x, w, b))
    ours = linear(Tensor(x, dtype=dtype), Tensor(w, dtype=dtype), Tensor(b, dtype=dtype))
    assert_close(ours, torch.nn.functional.linear(tx, tw.T, tb).numpy())


def test_a_network_with_the_same_weights_computes_the_same():
    ours = Sequential(Flatten(), Linear(12, 8), ReLU(), Dropout(0.5), Linear(8, 8), GELU(), Linear(8, 3)).eval()
    theirs = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(12, 8),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(8, 8),
        torch.nn.GELU(approximate="tanh"),
        torch.nn.Linear(8, 3),
    ).eval()
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    assert list(state) == list(ours.state_dict())
    ours.load_state_dict({name: value.T if name.endswith("weight") else value for name, value in state.items()})
    x = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32)
    assert_close(ours(Tensor(x)), theirs(torch.from_numpy(x)).detach().numpy())


def test_linear_starts_from_the_same_distribution():
    torch.manual_seed(0)
    theirs, ours = torch.nn.Linear(300, 400), Linear(300, 400, rng=0)
    for a, b in [(ours.weight.data, theirs.weight), (ours.bias.data, theirs.bias)]:
        b = b.detach().numpy()
        assert abs(np.abs(a).max() / np.abs(b).max() - 1) < 0.01
        assert abs(a.std() / b.std() - 1) < 0.1


def test_a_model_prints_as_pytorchs():
    ours = Sequential(Linear(4, 8), Dropout(0.1), Sequential(ReLU(), Linear(8, 2, bias=False)), Flatten())
    theirs = torch.nn.Sequential(
        torch.nn.Linear(4, 8),
        torch.nn.Dropout(0.1),
        torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(8, 2, bias=False)),
        torch.nn.Flatten(),
    )
    assert repr(ours) == repr(theirs).replace("p=0.1, inplace=False", "p=0.1")
