"""What is timed: each workload makes the same computation in both libraries, and proves it before the clock starts.

A workload returns {"tinytorch": step, "torch": step}; calling a step does the work once.
"""

import numpy as np
import torch
from torch.nn import functional as F

import tinytorch
from benchmarks import peers
from tinytorch import nn, optim
from tinytorch.nn import functional

WORKLOADS = {}


def workload(title, at_most=None):
    """File a workload under its function's name, with the largest ratio to PyTorch that is accepted at one thread."""

    def file(function):
        WORKLOADS[function.__name__] = (title, at_most, function)
        return function

    return file


def agree(ours, theirs, rtol=1e-4, atol=1e-5):
    """Both computed the same, or there is nothing to time."""
    np.testing.assert_allclose(np.asarray(ours, np.float64), np.asarray(theirs, np.float64), rtol=rtol, atol=atol)


def training(model, theirs, x, y, optimizer, torch_optimizer):
    """Whole steps of training on one batch: loss of `model(x)` against the classes y, gradients, optimizer."""
    peers.copy_weights(theirs, model)
    ours, other = optimizer(model.parameters()), torch_optimizer(theirs.parameters())
    inputs, targets = tinytorch.tensor(x), tinytorch.tensor(y)
    torch_inputs, torch_targets = torch.tensor(x), torch.tensor(y)

    def step():
        ours.zero_grad()
        loss = functional.cross_entropy(model(inputs), targets)
        loss.backward()
        ours.step()
        return loss.item()

    def torch_step():
        other.zero_grad()
        logits = theirs(torch_inputs)
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), torch_targets.reshape(-1))
        loss.backward()
        other.step()
        return loss.item()

    # before the first update the losses are the same number; later ones part as rounding grows
    agree([step() for _ in range(4)], [torch_step() for _ in range(4)], rtol=1e-3)
    return {"tinytorch": step, "torch": torch_step}


def images(*shape):
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, dtype=np.float32), rng.integers(0, 10, shape[0])


@workload("MLP 784-512-256-10, batch 128, Adam, whole step", at_most=1.0)
def mlp():
    def network(nn):
        return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))

    return training(
        network(nn),
        network(torch.nn),
        *images(128, 784),
        lambda p: optim.Adam(p, lr=1e-3),
        lambda p: torch.optim.Adam(p, lr=1e-3),
    )


@workload("LeNet 1x28x28 (8, 16 channels), batch 64, SGD, whole step", at_most=1.5)
def lenet():
    def network(nn):
        return nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(400, 120),
            nn.ReLU(),
            nn.Linear(120, 10),
        )

    return training(
        network(nn),
        network(torch.nn),
        *images(64, 1, 28, 28),
        lambda p: optim.SGD(p, lr=0.01, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9),
    )


@workload("CIFAR network 3-32-64, BatchNorm, pooling, batch 64, Adam, step", at_most=1.3)
def cifar():
    def network(nn):
        return nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(4096, 10),
        )

    return training(
        network(nn),
        network(torch.nn),
        *images(64, 3, 32, 32),
        lambda p: optim.Adam(p, lr=1e-4),
        lambda p: torch.optim.Adam(p, lr=1e-4),
    )


def language_model(embed_dim, num_layers, num_heads, context, batch):
    tokens = np.random.default_rng(0).integers(0, 256, (batch, context + 1))
    return training(
        nn.GPT(256, embed_dim, num_layers, num_heads, max_seq_len=context),
        peers.GPT(256, embed_dim, num_layers, num_heads, context),
        tokens[:, :-1],
        tokens[:, 1:],
        lambda p: optim.AdamW(p, lr=1e-4),
        lambda p: torch.optim.AdamW(p, lr=1e-4),
    )


@workload("GPT 4 x 128, 4 heads, context 128, batch 8, AdamW, whole step", at_most=1.25)
def gpt():
    return language_model(128, 4, 4, 128, 8)


@workload("GPT 6 x 384, 6 heads, context 256, batch 4, AdamW, whole step", at_most=1.25)
def gpt_large():
    return language_model(384, 6, 6, 256, 4)


@workload("generate 200 tokens, batch 1, GPT 4 x 128, cached keys and values", at_most=1.0)
def generate():
    model, theirs = nn.GPT(256, 128, 4, 4, max_seq_len=256), peers.GPT(256, 128, 4, 4, 256)
    for p in model.parameters():
        p.data *= 5  # else all tokens are nearly as likely, and rounding chooses
    peers.copy_weights(theirs, model)
    prompt = [1, 2, 3, 4, 5, 6, 7, 8]
    agree(model.generate(prompt, 200, temperature=0), peers.write(theirs, prompt, 200, 4, 32))
    return {
        "tinytorch": lambda: model.generate(prompt, 200, temperature=0),
        "torch": lambda: peers.write(theirs, prompt, 200, 4, 32),
    }


@workload("graph of 10,000 scalar operations, forward + backward", at_most=0.35)
def graph():
    x, other = tinytorch.tensor(0.5, requires_grad=True), torch.tensor(0.5, requires_grad=True)

    def run(x):
        y = x
        for _ in range(5_000):
            y = y * x + x
        x.grad = None
        y.backward()
        return y.item(), float(x.grad)

    agree(run(x), run(other))
    return {"tinytorch": lambda: run(x), "torch": lambda: run(other)}


def one_operation(function, torch_function, *shapes):
    """Forward and backward of an operation on random numbers; the gradients that arrive are random too."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]
    ours = [tinytorch.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    out = function(*ours)
    grad = rng.standard_normal(out.shape, dtype=np.float32)
    torch_grad = torch.tensor(grad)

    def run(function, inputs, grad):
        for x in inputs:
            x.grad = None
        out = function(*inputs)
        out.backward(grad)
        return out

    agree(run(function, ours, grad).data, run(torch_function, theirs, torch_grad).detach())
    for x, y in zip(ours, theirs):
        agree(x.grad, y.grad, rtol=1e-3, atol=1e-3 if x.ndim == 1 else 1e-5)
    return {
        "tinytorch": lambda: run(function, ours, grad),
        "torch": lambda: run(torch_function, theirs, torch_grad),
    }


@workload("softmax (4096, 1024), forward + backward", at_most=2.5)
def softmax():
    return one_operation(functional.softmax, lambda x: F.softmax(x, dim=-1), (4096, 1024))


@workload("layer norm (4096, 1024), forward + backward", at_most=3.0)
def layer_norm():
    return one_operation(
        functional.layer_norm, lambda x, w, b: F.layer_norm(x, (1024,), w, b), (4096, 1024), 1024, 1024
    )


@workload("gelu (4096, 1024), forward + backward", at_most=1.2)
def gelu():
    return one_operation(functional.gelu, lambda x: F.gelu(x, approximate="tanh"), (4096, 1024))


@workload("cross-entropy (4096, 1024), forward + backward", at_most=0.9)
def cross_entropy():
    y = np.random.default_rng(1).integers(0, 1024, 4096)
    targets, torch_targets = tinytorch.tensor(y), torch.tensor(y)
    return one_operation(
        lambda x: functional.cross_entropy(x, targets), lambda x: F.cross_entropy(x, torch_targets), (4096, 1024)
    )


@workload("embedding gradient, 8,192 indices into 50,000 x 256", at_most=1.0)
def embedding():
    indices = np.random.default_rng(1).integers(0, 50_000, 8192)
    torch_indices = torch.tensor(indices)
    return one_operation(
        lambda w: functional.embedding(w, indices), lambda w: F.embedding(torch_indices, w), (50_000, 256)
    )


@workload("AdamW over 10 million parameters", at_most=0.9)
def adamw():
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((1000, 1000), dtype=np.float32) for _ in range(10)]
    ours = [tinytorch.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    for x, y, a in zip(ours, theirs, arrays):
        x.grad, y.grad = a * 0.1, torch.tensor(a * 0.1)
    optimizer, other = optim.AdamW(ours, lr=1e-3), torch.optim.AdamW(theirs, lr=1e-3)
    optimizer.step()
    other.step()
    for x, y in zip(ours, theirs):
        agree(x.data, y.detach())
    return {"tinytorch": optimizer.step, "torch": other.step}


@workload("x + y on 8 elements, recorded")
def add():
    values = np.arange(8, dtype=np.float32)
    x, y = (tinytorch.tensor(values, requires_grad=True) for _ in range(2))
    a, b = (torch.tensor(values, requires_grad=True) for _ in range(2))
    agree((x + y).data, (a + b).detach())

    def many(x, y):
        for _ in range(1000):
            x + y

    return {"tinytorch": lambda: many(x, y), "torch": lambda: many(a, b), "numpy": lambda: many(values, values)}
