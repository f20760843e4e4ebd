"""Norms, block, GPT and its training beside PyTorch, and GPT-2's checkpoint read by both."""

import math

import numpy as np
import pytest
from safetensors.numpy import save_file

from support.checks import assert_close
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import SGD
from tinytorch.core.tensor import Tensor
from tinytorch.models.transformer import GPT, TransformerBlock, layer_norm, rms_norm

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")
F = torch.nn.functional

RNG = np.random.default_rng(0)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def close(ours, theirs, dtype):
    loose = dtype == np.float32
    for got, want in zip(ours, theirs, strict=True):
        assert_close(got, want.detach().numpy(), rtol=1e-4 if loose else 1e-9, atol=2e-5 if loose else 1e-10)


@DTYPES
@pytest.mark.parametrize("shape", [(4, 8), (2, 3, 5), (200, 1024), (1, 1)])
@pytest.mark.parametrize("kind", ["layer", "rms"])
def test_norms_forward_and_backward(kind, shape, dtype):
    E = shape[-1]
    arrays = [RNG.normal(1, 2, size=shape), *(RNG.normal(size=E) for _ in range(2 if kind == "layer" else 1))]
    arrays, weight = [a.astype(dtype) for a in arrays], RNG.normal(size=shape).astype(dtype)
    ours = [Tensor(a, dtype=dtype, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    out = layer_norm(*ours, eps=1e-5) if kind == "layer" else rms_norm(*ours, eps=1e-5)
    want = (
        F.layer_norm(theirs[0], (E,), *theirs[1:]) if kind == "layer" else F.rms_norm(theirs[0], (E,), theirs[1], 1e-5)
    )
    out.backward(weight)
    want.backward(torch.from_numpy(weight))
    close([out, ours[0].grad], [want, theirs[0].grad], dtype)
    for x, y in zip(ours[1:], theirs[1:]):  # sums over all rows: in float32 their last digits differ
        assert_close(x.grad, y.grad.numpy(), rtol=1e-3 if dtype == np.float32 else 1e-9, atol=2e-4)


def block_forward(p, prefix, x, heads, causal=True):
    """GPT-2's block in PyTorch, with the parameters of ours."""
    N, T, E = x.shape

    def linear(x, name):
        return x @ p[f"{prefix}{name}.weight"] + p[f"{prefix}{name}.bias"]

    def norm(x, name):
        return F.layer_norm(x, (E,), p[f"{prefix}{name}.weight"], p[f"{prefix}{name}.bias"])

    qkv = linear(norm(x, "norm1"), "attention.in_proj").split(E, dim=-1)
    q, k, v = (part.view(N, T, heads, E // heads).transpose(1, 2) for part in qkv)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    x = x + linear(out.transpose(1, 2).reshape(N, T, E), "attention.out_proj")
    return x + linear(F.gelu(linear(norm(x, "norm2"), "mlp.fc1"), approximate="tanh"), "mlp.fc2")


def gpt_forward(p, tokens, layers, heads):
    """GPT-2 in PyTorch, with the parameters of ours."""
    table = p["embedding.token_embedding.weight"]
    x = table[tokens] + p["embedding.pos_encoding.position_embeddings"][: tokens.shape[1]]
    for i in range(layers):
        x = block_forward(p, f"blocks.{i}.", x, heads)
    return F.layer_norm(x, x.shape[-1:], p["norm.weight"], p["norm.bias"]) @ table.T


def twins(layer, dtype):
    """The layer with every parameter moved a little, in `dtype`, and PyTorch tensors of the same numbers by name."""
    for p in layer.parameters():
        p.data = (p.data + 0.1 * RNG.normal(size=p.shape)).astype(dtype)
    return layer, {name: torch.tensor(p.data, requires_grad=True) for name, p in layer.named_parameters()}


@DTYPES
@pytest.mark.parametrize("causal", [False, True])
def test_a_block_forward_and_backward(causal, dtype):
    block, p = twins(TransformerBlock(16, 4, rng=0), dtype)
    arrays = [RNG.normal(size=(3, 6, 16)).astype(dtype) for _ in range(2)]
    x, y = Tensor(arrays[0], dtype=dtype, requires_grad=True), torch.tensor(arrays[0], requires_grad=True)
    out, want = block(x, causal=causal), block_forward(p, "", y, 4, causal)
    out.backward(arrays[1])
    want.backward(torch.from_numpy(arrays[1]))
    close([out, x.grad], [want, y.grad], dtype)
    close([q.grad for q in block.parameters()], [q.grad for q in p.values()], dtype)


@DTYPES
def test_a_gpt_forward_and_backward(dtype):
    gpt, p = twins(GPT(20, 16, 3, 4, 12, rng=0), dtype)
    tokens, targets = RNG.integers(0, 20, size=(2, 3, 9))
    logits, want = gpt(tokens), gpt_forward(p, torch.from_numpy(tokens), 3, 4)
    loss, same = (
        cross_entropy(logits, targets),
        F.cross_entropy(want.flatten(0, 1), torch.from_numpy(targets).flatten()),
    )
    loss.backward()
    same.backward()
    close([logits], [want], dtype)
    close([q.grad for q in gpt.parameters()], [q.grad for q in p.values()], dtype)


def test_twenty_steps_of_training():
    gpt = GPT(20, 16, 2, 4, 12, rng=0)
    p = {name: torch.tensor(q.data, requires_grad=True) for name, q in gpt.named_parameters()}
    optimizer = SGD(gpt.parameters(), lr=0.3)
    tokens, targets = RNG.integers(0, 20, size=(2, 4, 10))
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = cross_entropy(gpt(tokens), targets)
        loss.backward()
        optimizer.step()
        logits = gpt_forward(p, torch.from_numpy(tokens), 2, 4)
        same = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten())
        for q, grad in zip(p.values(), torch.autograd.grad(same, list(p.values()))):
            q.data -= 0.3 * grad
        losses.append((loss.item(), same.item()))
    losses = np.array(losses)
    assert_close(losses[:, 0], losses[:, 1], rtol=1e-3)
    assert losses[-1, 0] < 0.9 * losses[0, 0]


class Conv1D(torch.nn.Module):
    """A linear layer as GPT-2 was published with: weight (in, out)."""

    def __init__(self, fan_in, fan_out):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(fan_in, fan_out) * 0.1)
        self.bias = torch.nn.Parameter(torch.randn(fan_out) * 0.1)

    def forward(self, x):
        return x @ self.weight + self.bias


class Attention(torch.nn.Module):
    def __init__(self, E, heads, T):
        super().__init__()
        self.c_attn, self.c_proj, self.heads = Conv1D(E, 3 * E), Conv1D(E, E), heads
        self.register_buffer("bias", torch.tril(torch.ones(T, T)).view(1, 1, T, T))

    def forward(self, x):
        N, T, E = x.shape
        q, k, v = (y.view(N, T, self.heads, -1).transpose(1, 2) for y in self.c_attn(x).split(E, dim=2))
        scores = q @ k.transpose(-1, -2) / math.sqrt(E // self.heads)
        scores = scores.masked_fill(self.bias[..., :T, :T] == 0, -math.inf)
        return self.c_proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(N, T, E))


class MLP(torch.nn.Module):
    def __init__(self, E):
        super().__init__()
        self.c_fc, self.c_proj = Conv1D(E, 4 * E), Conv1D(4 * E, E)

    def forward(self, x):
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(torch.nn.Module):
    def __init__(self, E, heads, T):
        super().__init__()
        self.ln_1, self.attn = torch.nn.LayerNorm(E), Attention(E, heads, T)
        self.ln_2, self.mlp = torch.nn.LayerNorm(E), MLP(E)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT2(torch.nn.Module):
    """GPT-2 with the names of its published checkpoint."""

    def __init__(self, V, T, E, layers, heads):
        super().__init__()
        self.wte, self.wpe = torch.nn.Embedding(V, E), torch.nn.Embedding(T, E)
        self.h = torch.nn.ModuleList(Block(E, heads, T) for _ in range(layers))
        self.ln_f = torch.nn.LayerNorm(E)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.h:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_gpt2_checkpoint_gives_the_same_logits_in_both(tmp_path, prefix):
    torch.manual_seed(0)
    theirs = GPT2(V=50, T=16, E=128, layers=3, heads=2)
    for name, p in theirs.named_parameters():
        if ".ln_" in name or name.startswith("ln_f"):
            torch.nn.init.normal_(p, 1.0, 0.1)
    path = tmp_path / "model.safetensors"
    save_file({prefix + name: t.detach().numpy() for name, t in theirs.state_dict().items()}, path)
    gpt = GPT.from_gpt2(path)
    assert (gpt.num_heads, gpt.num_layers) == (2, 3)
    tokens = RNG.integers(0, 50, size=(2, 16))
    with torch.no_grad():
        want = theirs(torch.from_numpy(tokens)).numpy()
    assert_close(gpt(tokens), want, rtol=1e-3, atol=1e-3)
    assert np.abs(want).max() > 10
