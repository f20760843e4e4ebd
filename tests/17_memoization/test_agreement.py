"""Attention word by word through a cache, against PyTorch's attention over the whole text."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.attention import scaled_dot_product_attention
from tinytorch.core.tensor import from_numpy
from tinytorch.generation.kv_cache import KVCache

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")


@pytest.mark.parametrize("cuts", [(1,) * 9, (4, 1, 4), (9,)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_words_in_pieces_agree_with_the_whole_text_at_once(cuts, dtype, tolerance):
    q, k, v = (np.random.default_rng(seed).normal(size=(2, 3, 9, 4)).astype(dtype) for seed in range(3))
    want = torch.nn.functional.scaled_dot_product_attention(*map(torch.tensor, (q, k, v)), is_causal=True)
    layer, stop, parts = KVCache(2, 9, 1, 3, 4, dtype)[0], 0, []
    for count in cuts:
        start, stop = stop, stop + count
        kept = layer.append(*(from_numpy(x[:, :, start:stop]) for x in (k, v)))
        parts.append(scaled_dot_product_attention(from_numpy(q[:, :, start:stop]), *kept, causal=True)[0].data)
    assert_close(np.concatenate(parts, axis=2), want.numpy(), rtol=tolerance, atol=tolerance)
