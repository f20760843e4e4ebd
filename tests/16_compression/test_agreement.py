"""Beside PyTorch: its pruning, its singular values, and distillation written in its operations."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.layers import Linear
from tinytorch.core.tensor import Tensor
from tinytorch.optimization.compression import distillation_loss, low_rank_approximate, magnitude_prune

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")
F = torch.nn.functional
prune = pytest.importorskip("torch.nn.utils.prune", reason="agreement is checked where torch is installed")

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("temperature", [1.0, 2.5, 8.0])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_distillation(dtype, temperature, alpha):
    student, teacher = RNG.normal(size=(6, 5)).astype(dtype), 3 * RNG.normal(size=(6, 5)).astype(dtype)
    targets = RNG.integers(0, 5, 6)
    mine = Tensor(student, requires_grad=True, dtype=dtype)
    loss = distillation_loss(mine, Tensor(teacher, dtype=dtype), targets, temperature, alpha)
    loss.backward()
    yours = torch.from_numpy(student).requires_grad_()
    soft = F.kl_div(
        F.log_softmax(yours / temperature, dim=1),
        F.softmax(torch.from_numpy(teacher) / temperature, dim=1),
        reduction="batchmean",
    )
    want = alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(yours, torch.from_numpy(targets))
    want.backward()
    close = {"rtol": 1e-4, "atol": 1e-6} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-12}
    assert_close(loss, want.detach().numpy(), **close)
    assert_close(mine.grad, yours.grad.numpy(), **close)


@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_pruning_by_magnitude(sparsity):
    layer, theirs = Linear(12, 9, rng=0), torch.nn.Linear(12, 9)
    with torch.no_grad():
        theirs.weight.copy_(torch.from_numpy(layer.weight.data.T.copy()))
    prune.l1_unstructured(theirs, "weight", amount=sparsity)
    assert_close(magnitude_prune(layer, sparsity).weight, theirs.weight.detach().numpy().T, rtol=0, atol=0)


@pytest.mark.parametrize("sparsity", [0.3, 0.8])
def test_global_pruning(sparsity):
    layers = [Linear(12, 9, rng=0), Linear(30, 9, rng=1)]
    theirs = [torch.nn.Linear(*layer.weight.shape) for layer in layers]
    with torch.no_grad():
        for layer, other in zip(layers, theirs):
            other.weight.copy_(torch.from_numpy(layer.weight.data.T.copy()))
    prune.global_unstructured(
        [(other, "weight") for other in theirs], pruning_method=prune.L1Unstructured, amount=sparsity
    )

    class Both:
        def __init__(self):
            self.layers = layers

        def parameters(self):
            return [p for layer in self.layers for p in layer.parameters()]

    for layer, other in zip(magnitude_prune(Both(), sparsity).layers, theirs):
        assert_close(layer.weight, other.weight.detach().numpy().T, rtol=0, atol=0)


@pytest.mark.parametrize("rank", [1, 4])
def test_low_rank(rank):
    layer = Linear(12, 9, rng=0)
    u, s, vt = torch.linalg.svd(torch.from_numpy(layer.weight.data).double(), full_matrices=False)
    want = (u[:, :rank] * s[:rank]) @ vt[:rank]
    down, up = low_rank_approximate(layer, rank)
    assert_close(down.weight.data.astype(np.float64) @ up.weight.data, want.numpy(), atol=1e-6)
