"""A hundred steps beside PyTorch's."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.optimizers import SGD, Adam, AdamW
from tinytorch.core.tensor import Tensor

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")

CASES = {
    "sgd": (SGD, torch.optim.SGD, {"lr": 0.05}),
    "sgd-momentum": (SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "sgd-nesterov": (SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "sgd-decay": (SGD, torch.optim.SGD, {"lr": 0.05, "weight_decay": 0.1}),
    "sgd-everything": (SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    "adam": (Adam, torch.optim.Adam, {"lr": 0.01}),
    "adam-decay": (Adam, torch.optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    "adam-betas": (Adam, torch.optim.Adam, {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3}),
    "adamw": (AdamW, torch.optim.AdamW, {"lr": 0.01}),
    "adamw-decay": (AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.3}),
}
SHAPES = [(3, 4), (5,), (), (2, 1, 3)]


def both(shapes=SHAPES, dtype=np.float32):
    """The same parameters as our tensors and as theirs."""
    rng = np.random.default_rng(0)
    arrays = [np.asarray(rng.normal(size=shape), dtype) for shape in shapes]
    ours = [Tensor(array, requires_grad=True, dtype=dtype) for array in arrays]
    return ours, [torch.tensor(array, requires_grad=True) for array in arrays]


def walk(ours, theirs, optimizers, steps=100, between=lambda step: None, skip=lambda step, i: False):
    rng = np.random.default_rng(1)
    for step in range(steps):
        between(step)
        for i, (p, q) in enumerate(zip(ours, theirs)):
            grad = np.asarray(rng.normal(size=p.shape) * 10.0 ** rng.integers(-3, 2), p.dtype)
            p.grad, q.grad = (None, None) if skip(step, i) else (grad, torch.tensor(grad))
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("rule", "reference", "options"), CASES.values(), ids=CASES)
def test_a_hundred_steps(rule, reference, options, dtype):
    ours, theirs = both(dtype=dtype)
    walk(ours, theirs, [rule(ours, **options), reference(theirs, **options)])
    for p, q in zip(ours, theirs):
        assert_close(p, q.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rule", "reference", "options"), CASES.values(), ids=CASES)
def test_groups_and_a_learning_rate_changed_mid_way(rule, reference, options):
    ours, theirs = both()
    optimizers = [
        make([{"params": params[:2]}, {"params": params[2:], "lr": 0.002, "weight_decay": 0.2}], **options)
        for make, params in ((rule, ours), (reference, theirs))
    ]

    def between(step):
        if step == 50:
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] *= 0.1

    walk(ours, theirs, optimizers, between=between)
    for p, q in zip(ours, theirs):
        assert_close(p, q.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("rule", "reference", "options"), CASES.values(), ids=CASES)
def test_parameters_that_sometimes_have_no_gradient(rule, reference, options):
    ours, theirs = both()
    optimizers = [rule(ours, **options), reference(theirs, **options)]
    walk(ours, theirs, optimizers, skip=lambda step, i: (step + i) % 3 == 0)
    for p, q in zip(ours, theirs):
        assert_close(p, q.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", ["Adam", "AdamW"])
def test_what_is_remembered(rule):
    ours, theirs = both()
    mine = {"Adam": Adam, "AdamW": AdamW}[rule](ours, lr=0.01)
    reference = getattr(torch.optim, rule)(theirs, lr=0.01)
    walk(ours, theirs, [mine, reference])
    for state, q in zip(mine.state, theirs):
        want = reference.state[q]
        assert state["step"] == int(want["step"])
        assert_close(state["m"] * np.float32(1 - 0.9), want["exp_avg"].numpy())  # ours are sums, theirs averages
        assert_close(state["v"] * np.float32(1 - 0.999), want["exp_avg_sq"].numpy())
