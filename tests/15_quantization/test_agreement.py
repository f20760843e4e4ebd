"""Beside PyTorch's quantizers."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.tensor import Tensor
from tinytorch.optimization.quantization import dequantize_int8, quantize_int8

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("symmetric", [False, True])
def test_per_tensor(seed, symmetric):
    x = np.random.default_rng(seed).normal(seed, 2, (20, 30)).astype(np.float32)
    q, scale, zero_point = quantize_int8(Tensor(x), symmetric=symmetric)
    want = torch.fake_quantize_per_tensor_affine(torch.tensor(x), float(scale), int(zero_point), -128, 127)
    assert_close(dequantize_int8(q, scale, zero_point), want.numpy())


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("symmetric", [False, True])
def test_per_channel(axis, symmetric):
    x = np.random.default_rng(0).normal(0.3, np.logspace(-2, 2, 8), (20, 8)).astype(np.float32)
    q, scale, zero_point = quantize_int8(Tensor(x), symmetric=symmetric, axis=axis)
    want = torch.fake_quantize_per_channel_affine(
        torch.tensor(x), torch.tensor(scale.ravel()), torch.tensor(zero_point.ravel()), axis, -128, 127
    )
    assert_close(dequantize_int8(q, scale, zero_point), want.numpy())


@pytest.mark.parametrize("shift", [-4.0, 0.0, 4.0])
def test_scale_and_zero_point_of_a_min_max_observer(shift):
    x = np.random.default_rng(0).normal(shift, 1, 1000).astype(np.float32)
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    _, scale, zero_point = quantize_int8(Tensor(x))
    assert_close(scale, (high - low) / 255)
    assert abs(int(zero_point) - int(-128 - np.round(low / ((high - low) / 255)))) <= 0
