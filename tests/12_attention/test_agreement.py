"""Attention beside PyTorch's, forward and backward."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.attention import MultiHeadAttention, scaled_dot_product_attention
from tinytorch.core.optimizers import SGD
from tinytorch.core.tensor import Tensor

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")
F = torch.nn.functional

RNG = np.random.default_rng(0)
BOOLEAN = RNG.random((2, 1, 6, 6)) > 0.4
BOOLEAN[..., 0] = True
FLOAT = np.where(RNG.random((3, 6, 6)) > 0.8, -math.inf, RNG.normal(size=(3, 6, 6)))
FLOAT[..., 0] = 0
MASKS = {"none": (None, False), "causal": (None, True), "boolean": (BOOLEAN, False), "float": (FLOAT, False)}


def compare(ours, theirs, dtype):
    for got, want in zip(ours, theirs):
        assert_close(
            got, want.numpy(), rtol=1e-4 if dtype == np.float32 else 1e-9, atol=1e-5 if dtype == np.float32 else 1e-10
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("mask", "causal"), MASKS.values(), ids=MASKS)
def test_scaled_dot_product_attention(mask, causal, dtype):
    arrays = [RNG.normal(size=(2, 3, 6, 4)).astype(dtype) for _ in range(4)]
    ours = [Tensor(x, dtype=dtype, requires_grad=True) for x in arrays[:3]]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays[:3]]
    kind = None if mask is None else torch.from_numpy(mask if mask.dtype == bool else mask.astype(dtype))
    out, _ = scaled_dot_product_attention(*ours, mask=mask, causal=causal)
    want = F.scaled_dot_product_attention(*theirs, attn_mask=kind, is_causal=causal)
    out.backward(arrays[3])
    want.backward(torch.from_numpy(arrays[3]))
    compare([out, *(x.grad for x in ours)], [want.detach(), *(x.grad for x in theirs)], dtype)


def twin(layer, dtype):
    """PyTorch's layer with the weights of ours."""
    made = torch.nn.MultiheadAttention(
        layer.embed_dim, layer.num_heads, batch_first=True, dtype=torch.from_numpy(np.zeros(1, dtype)).dtype
    )
    with torch.no_grad():
        made.in_proj_weight.copy_(torch.from_numpy(layer.in_proj.weight.data.T))
        made.in_proj_bias.copy_(torch.from_numpy(layer.in_proj.bias.data))
        made.out_proj.weight.copy_(torch.from_numpy(layer.out_proj.weight.data.T))
        made.out_proj.bias.copy_(torch.from_numpy(layer.out_proj.bias.data))
    return made


LAYER_MASKS = {
    "none": None,
    "boolean": RNG.random((6, 6)) > 0.4,
    "float": RNG.normal(size=(6, 6)),
    "causal": "causal",
}
LAYER_MASKS["boolean"][:, 0] = True


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mask", LAYER_MASKS.values(), ids=LAYER_MASKS)
def test_multi_head_attention_with_the_same_weights(mask, dtype):
    layer = MultiHeadAttention(8, 2, rng=0)
    for p in layer.parameters():
        p.data = p.data.astype(dtype)
    theirs = twin(layer, dtype)
    x, grad = RNG.normal(size=(3, 6, 8)).astype(dtype), RNG.normal(size=(3, 6, 8)).astype(dtype)
    ours_x, theirs_x = Tensor(x, dtype=dtype, requires_grad=True), torch.tensor(x, requires_grad=True)
    causal = isinstance(mask, str)
    out = layer(ours_x, mask=None if causal else mask, causal=causal)
    if causal:
        refused = torch.from_numpy(~np.tri(6, dtype=bool))
    elif mask is None or mask.dtype != bool:
        refused = None if mask is None else torch.from_numpy(mask.astype(dtype))
    else:
        refused = torch.from_numpy(~mask)  # theirs: True = may not look
    want, _ = theirs(theirs_x, theirs_x, theirs_x, attn_mask=refused, need_weights=False)
    out.backward(grad)
    want.backward(torch.from_numpy(grad))
    compare(
        [out, ours_x.grad, layer.in_proj.weight.grad.T, layer.in_proj.bias.grad, layer.out_proj.weight.grad.T],
        [
            want.detach(),
            theirs_x.grad,
            theirs.in_proj_weight.grad,
            theirs.in_proj_bias.grad,
            theirs.out_proj.weight.grad,
        ],
        dtype,
    )


def test_weights_per_head():
    layer = MultiHeadAttention(8, 2, rng=0)
    x = RNG.normal(size=(3, 6, 8)).astype(np.float32)
    _, weights = scaled_dot_product_attention(*layer.heads(Tensor(x)))
    t = torch.from_numpy(x)
    _, want = twin(layer, np.float32)(t, t, t, average_attn_weights=False)
    assert_close(weights, want.detach().numpy(), rtol=1e-4)


def test_twenty_steps_of_training():
    layer = MultiHeadAttention(8, 2, rng=0)
    theirs = twin(layer, np.float32)
    optimizer = SGD(layer.parameters(), lr=0.5)
    x, target = RNG.normal(size=(2, 4, 6, 8)).astype(np.float32)
    walls = torch.from_numpy(~np.tri(6, dtype=bool))
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = ((layer(Tensor(x), causal=True) - Tensor(target)) ** 2).mean()
        loss.backward()
        optimizer.step()
        t = torch.from_numpy(x)
        out, _ = theirs(t, t, t, attn_mask=walls, need_weights=False)
        same = ((out - torch.from_numpy(target)) ** 2).mean()
        theirs.zero_grad()
        same.backward()
        for p in theirs.parameters():
            p.data -= 0.5 * p.grad
        losses.append((loss.item(), same.item()))
    losses = np.array(losses)
    assert_close(losses[:, 0], losses[:, 1], rtol=1e-4)
    assert losses[-1, 0] < 0.9 * losses[0, 0]
