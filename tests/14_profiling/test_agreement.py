"""The same products counted by PyTorch's own counter."""

import numpy as np
import pytest

from tinytorch.core.attention import scaled_dot_product_attention
from tinytorch.core.layers import Linear
from tinytorch.core.spatial import Conv2d, ConvTranspose2d
from tinytorch.profiling.profiler import Profiler, count_flops

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402


def counted(module, *shape):
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(shape))
    return counter.get_total_flops()


@pytest.mark.parametrize(("i", "o"), [(3, 4), (16, 1)])
def test_linear_without_bias(i, o):
    assert count_flops(Linear(i, o, bias=False), (5, i)) == counted(torch.nn.Linear(i, o, bias=False), 5, i)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"groups": 2}, {"dilation": 2}])
def test_convolutions_without_bias(options):
    ours, theirs = Conv2d(4, 6, 3, bias=False, **options), torch.nn.Conv2d(4, 6, 3, bias=False, **options)
    assert count_flops(ours, (2, 4, 9, 9)) == counted(theirs, 2, 4, 9, 9)


def test_transposed_convolutions_without_bias():
    ours, theirs = ConvTranspose2d(4, 6, 3, 2, bias=False), torch.nn.ConvTranspose2d(4, 6, 3, 2, bias=False)
    assert count_flops(ours, (2, 4, 5, 5)) == counted(theirs, 2, 4, 5, 5)


def test_attention_but_for_the_softmax_and_the_scale():
    q, k, v = (np.zeros((2, 4, n, 8), np.float32) for n in (5, 7, 7))
    with Profiler() as p:
        scaled_dot_product_attention(q, k, v)
    with FlopCounterMode(display=False) as counter:
        scores = torch.from_numpy(q) @ torch.from_numpy(k).transpose(-1, -2)
        torch.matmul(scores, torch.from_numpy(v))
    assert p.flops - 2 * 4 * 5 * (7 * 5 + 8) == counter.get_total_flops()
