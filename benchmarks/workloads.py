"""What is timed: each workload makes the same computation in both libraries, and proves it before the clock starts.

A workload returns {"tinytorch": step, "torch": step}; calling a step does the work once.
"""

import numpy as np
import torch
from torch.nn import functional as F

import tinytorch
from tinytorch import nn, optim
from tinytorch.nn import functional

WORKLOADS = {}


def workload(title, at_most=None):
    """File a workload under its function's name, with the largest ratio to PyTorch that is accepted at one thread."""

    def file(function):
        WORKLOADS[function.__name__] = (title, at_most, function)
        return function

    return file


def agree(ours, theirs, rtol=1e-4):
    """Both computed the same, or there is nothing to time."""
    np.testing.assert_allclose(np.asarray(ours, np.float64), np.asarray(theirs, np.float64), rtol=rtol, atol=1e-5)


def tensor_of(parameter):
    """A torch parameter with the values of ours."""
    return torch.tensor(parameter.data.copy(), requires_grad=True)


@workload("MLP 784-512-256-10, batch 128, Adam, whole step", at_most=1.5)
def mlp():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((128, 784), dtype=np.float32)
    y = rng.integers(0, 10, 128)
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))
    theirs = [tensor_of(p) for p in model.parameters()]
    ours, other = optim.Adam(model.parameters(), lr=1e-3), torch.optim.Adam(theirs, lr=1e-3)
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
        w1, b1, w2, b2, w3, b3 = theirs
        h = F.relu(torch.addmm(b1, torch_inputs, w1))
        h = F.relu(torch.addmm(b2, h, w2))
        loss = F.cross_entropy(torch.addmm(b3, h, w3), torch_targets)
        loss.backward()
        other.step()
        return loss.item()

    agree([step() for _ in range(5)], [torch_step() for _ in range(5)])
    return {"tinytorch": step, "torch": torch_step}


@workload("graph of 10,000 scalar operations, forward + backward")
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
