"""swiglu and softmax beside PyTorch's, forwards and back."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.tensor import Tensor
from tinytorch.optimization.acceleration import blocked_softmax, swiglu

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")
F = torch.nn.functional

dtypes = pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-12)])


def normal(*shape, seed=0):
    return 3 * np.random.default_rng(seed).normal(size=shape)


@dtypes
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(7,), (4, 5), (2, 3, 50000)])
def test_swiglu(shape, threads, dtype, rtol):
    arrays = [normal(*shape, seed=seed).astype(dtype) for seed in range(3)]
    ours = [Tensor(array, requires_grad=True, dtype=dtype) for array in arrays[:2]]
    theirs = [torch.tensor(array, requires_grad=True) for array in arrays[:2]]
    got, want = swiglu(*ours, threads), F.silu(theirs[0]) * theirs[1]
    got.backward(arrays[2])
    want.backward(torch.tensor(arrays[2]))
    assert_close(got, want.detach().numpy(), rtol=rtol, atol=rtol)
    for a, b in zip(ours, theirs):
        assert_close(a.grad, b.grad.numpy(), rtol=rtol, atol=rtol)


@dtypes
@pytest.mark.parametrize("shape", [(1, 1), (300, 17), (5, 1000)])
def test_softmax(shape, dtype, rtol):
    x = normal(*shape).astype(dtype)
    assert_close(
        blocked_softmax(x, threads=2, block=64), F.softmax(torch.tensor(x), dim=1).numpy(), rtol=rtol, atol=rtol
    )
