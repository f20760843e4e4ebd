"""The networks of the workloads, written as PyTorch users write them, with the numbers of ours."""

import torch
from torch import nn
from torch.nn import functional as F


def turned(model):
    """For each parameter: is it the weight of a Linear, which PyTorch keeps as (out, in) and we as (in, out)?"""
    modules = dict(model.named_modules())
    for name, _ in model.named_parameters():
        owner, _, kind = name.rpartition(".")
        yield kind == "weight" and isinstance(modules[owner], nn.Linear)


@torch.no_grad()
def with_weights(model, arrays):
    """The model with the parameters of ours, which come in the same order."""
    for p, array, turn in zip(model.parameters(), arrays, turned(model), strict=True):
        values = torch.tensor(array)
        p.copy_(values.T if turn else values)
    return model


def gradients(model):
    """As arrays, turned as ours are."""
    grads = [p.grad.numpy() for p in model.parameters()]
    return [grad.T if turn else grad for grad, turn in zip(grads, turned(model))]


class Block(nn.Module):
    def __init__(self, embed_dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.norm1 = nn.LayerNorm(embed_dim)
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.norm2 = nn.LayerNorm(embed_dim)
        self.fc1 = nn.Linear(embed_dim, 4 * embed_dim)
        self.fc2 = nn.Linear(4 * embed_dim, embed_dim)

    def forward(self, x, cache=None):
        N, T, E = x.shape
        q, k, v = (
            part.view(N, T, self.num_heads, -1).transpose(1, 2) for part in self.in_proj(self.norm1(x)).chunk(3, dim=-1)
        )
        if cache is not None:
            k, v = cache.append(k, v)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
        x = x + self.out_proj(out.transpose(1, 2).reshape(N, T, E))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_layers, num_heads, max_seq_len):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, embed_dim)
        self.places = nn.Embedding(max_seq_len, embed_dim)
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, tokens, cache=None):
        start = len(cache[0]) if cache else 0
        x = self.tokens(tokens) + self.places.weight[start : start + tokens.shape[1]]
        for i, block in enumerate(self.blocks):
            x = block(x, cache[i] if cache else None)
        return F.linear(self.norm(x), self.tokens.weight)


class CacheLayer:
    """Keys and values of one layer, in memory that is taken once."""

    def __init__(self, num_heads, places, head_dim):
        self.keys, self.values = torch.empty(2, 1, num_heads, places, head_dim)
        self.length = 0

    def __len__(self):
        return self.length

    def append(self, k, v):
        start, self.length = self.length, self.length + k.shape[2]
        self.keys[:, :, start : self.length] = k
        self.values[:, :, start : self.length] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


@torch.no_grad()
def write(model, prompt, new, num_heads, head_dim):
    """The `new` likeliest tokens after the list `prompt`, with a cache."""
    cache = [CacheLayer(num_heads, len(prompt) + new, head_dim) for _ in model.blocks]
    tokens = list(prompt)
    ahead = torch.tensor([tokens])
    for _ in range(new):
        ahead = model(ahead, cache)[:, -1].argmax(dim=-1, keepdim=True)
        tokens.append(ahead.item())
    return tokens
