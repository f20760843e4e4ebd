"""Embeddings beside PyTorch's."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.optimizers import SGD
from tinytorch.core.tensor import Tensor
from tinytorch.text.embeddings import Embedding, EmbeddingLayer, embedding

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")

RNG = np.random.default_rng(0)
SHAPES = [(), (1,), (9,), (3, 4), (2, 3, 4), (0,), (2, 0)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_rows_and_gradients(shape, dtype):
    w, tokens = RNG.normal(size=(10, 6)).astype(dtype), RNG.integers(0, 10, shape)
    grad = RNG.normal(size=(*shape, 6)).astype(dtype)
    ours, theirs = Tensor(w, requires_grad=True, dtype=dtype), torch.tensor(w, requires_grad=True)
    out, want = embedding(ours, tokens), torch.nn.functional.embedding(torch.as_tensor(tokens), theirs)
    assert_close(out, want.detach().numpy(), rtol=0, atol=0)
    out.backward(grad)
    want.backward(torch.as_tensor(grad))
    assert_close(ours.grad, theirs.grad.numpy(), rtol=1e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("skew", [1, 4])
def test_large_gradients(skew):
    tokens = (5000 * RNG.random((16, 128)) ** skew).astype(np.int64)
    grad = RNG.normal(size=(16, 128, 32)).astype(np.float32)
    ours, theirs = Tensor(np.zeros((5000, 32)), requires_grad=True), torch.zeros(5000, 32, requires_grad=True)
    embedding(ours, tokens).backward(grad)
    torch.nn.functional.embedding(torch.from_numpy(tokens), theirs).backward(torch.from_numpy(grad))
    assert_close(ours.grad, theirs.grad.numpy(), rtol=1e-4, atol=1e-4)


def test_twenty_steps_of_training():
    layer = Embedding(10, 4, rng=0)
    optimizer = SGD(layer.parameters(), lr=0.1)
    twin = torch.tensor(layer.weight.data, requires_grad=True)
    for _ in range(20):
        tokens = RNG.integers(0, 10, (2, 5))
        optimizer.zero_grad()
        ((layer(tokens) - 1) ** 2).sum().backward()
        optimizer.step()
        ((torch.nn.functional.embedding(torch.from_numpy(tokens), twin) - 1) ** 2).sum().backward()
        twin.data -= 0.1 * twin.grad
        twin.grad = None
    assert_close(layer.weight, twin.detach().numpy(), rtol=1e-4, atol=1e-5)


def test_tokens_and_places_together():
    layer = EmbeddingLayer(10, 4, 8, scale_embeddings=True, rng=0)
    w, p = (torch.tensor(parameter.data, requires_grad=True) for parameter in layer.parameters())
    tokens, grad = RNG.integers(0, 10, (3, 6)), RNG.normal(size=(3, 6, 4)).astype(np.float32)
    out, want = layer(tokens), w[torch.from_numpy(tokens)] * 2 + p[:6]
    out.backward(grad)
    want.backward(torch.from_numpy(grad))
    assert_close(out, want.detach().numpy())
    assert_close(layer.token_embedding.weight.grad, w.grad.numpy())
    assert_close(layer.pos_encoding.position_embeddings.grad, p.grad.numpy())
