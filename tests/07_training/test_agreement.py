"""Clipping, schedules and whole runs beside PyTorch's."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU, Tanh
from tinytorch.core.checkpoint import save
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss, MSELoss
from tinytorch.core.optimizers import SGD, Adam, AdamW
from tinytorch.core.tensor import Tensor
from tinytorch.core.training import Callback, CosineSchedule, LinearWarmup, StepSchedule, Trainer, clip_grad_norm

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")

RULES = {
    "sgd": (SGD, torch.optim.SGD, {"lr": 0.1}),
    "momentum": (SGD, torch.optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "adam": (Adam, torch.optim.Adam, {"lr": 0.01}),
    "adamw": (AdamW, torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("max_norm", [0.01, 1.0, 7.0, 1e6])
def test_clipping(max_norm, dtype):
    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for shape in [(3, 4), (5,), (), (2, 1, 3)]:
        grad = np.asarray(rng.normal(size=shape), dtype)
        ours.append(Tensor(np.zeros(shape), requires_grad=True, dtype=dtype))
        theirs.append(torch.zeros(shape, dtype=torch.from_numpy(np.zeros(1, dtype)).dtype, requires_grad=True))
        ours[-1].grad, theirs[-1].grad = grad, torch.tensor(grad)
    ours.append(Tensor([0.0], requires_grad=True))
    theirs.append(torch.zeros(1, requires_grad=True))  # without gradient
    norm = clip_grad_norm(ours, max_norm)
    assert_close(norm, torch.nn.utils.clip_grad_norm_(theirs, max_norm).item())
    for p, q in zip(ours[:-1], theirs[:-1]):
        assert_close(p.grad, q.grad.numpy(), rtol=1e-4)  # PyTorch divides by the norm + 1e-6


def their_rates(make, epochs, lr):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(optimizer)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(rates)


SCHEDULERS = torch.optim.lr_scheduler
SCHEDULES = {
    "cosine": (CosineSchedule(0.1, 0.002, 30), 31, lambda o: SCHEDULERS.CosineAnnealingLR(o, 30, eta_min=0.002)),
    "step": (StepSchedule(0.1, 7, gamma=0.3), 40, lambda o: SCHEDULERS.StepLR(o, 7, gamma=0.3)),
    "exponential": (StepSchedule(0.1, 1, gamma=0.9), 40, lambda o: SCHEDULERS.ExponentialLR(o, 0.9)),
    "linear": (LinearWarmup(0.1, 4), 10, lambda o: SCHEDULERS.LinearLR(o, start_factor=1 / 5, total_iters=4)),
    "warmup, then cosine": (
        CosineSchedule(0.1, 0.001, 20, warmup=4),
        21,
        lambda o: SCHEDULERS.SequentialLR(
            o,
            [
                SCHEDULERS.LinearLR(o, start_factor=1 / 5, total_iters=4),
                SCHEDULERS.CosineAnnealingLR(o, 16, eta_min=0.001),
            ],
            milestones=[4],
        ),
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
@pytest.mark.parametrize(("ours", "epochs", "theirs"), SCHEDULES.values(), ids=SCHEDULES)
def test_schedules(ours, epochs, theirs):
    assert_close(np.array([ours(epoch) for epoch in range(epochs)]), their_rates(theirs, epochs, 0.1), rtol=1e-9)


class Losses(Callback):
    """The loss of every step."""

    def __init__(self):
        self.values = []
        self._total = 0.0

    def step_end(self, trainer, batch, loss):
        self.values.append(batch * loss - self._total)
        self._total = 0.0 if batch == 4 else batch * loss


def both(activation, reference):
    """The same network twice."""
    ours = Sequential(Linear(4, 16, rng=0), activation(), Linear(16, 8, rng=1), activation(), Linear(8, 3, rng=2))
    theirs = torch.nn.Sequential(
        torch.nn.Linear(4, 16), reference(), torch.nn.Linear(16, 8), reference(), torch.nn.Linear(8, 3)
    )
    with torch.no_grad():
        for p, q in zip(ours.parameters(), theirs.parameters()):
            q.copy_(torch.tensor(p.data.T.copy()))
    return ours, theirs


def batches(classes):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 8, 4)).astype(np.float32)
    y = rng.integers(0, 3, (4, 8)) if classes else rng.normal(size=(4, 8, 3)).astype(np.float32)
    return list(zip(x, y))


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize(("rule", "reference", "options"), RULES.values(), ids=RULES)
def test_twenty_steps(rule, reference, options, classes, clip):
    """Five epochs of four batches, the rate falling along a cosine: the same losses, the same weights in the end."""
    ours, theirs = both(Tanh, torch.nn.Tanh)
    losses = Losses()
    loss_fn, their_loss = (
        (CrossEntropyLoss(), torch.nn.CrossEntropyLoss()) if classes else (MSELoss(), torch.nn.MSELoss())
    )
    trainer = Trainer(
        ours,
        rule(ours, **options),
        loss_fn,
        CosineSchedule(options["lr"], 0.0, 10),
        clip,
        callbacks=[losses],
        progress=False,
    )
    trainer.fit(batches(classes), 5)

    optimizer = reference(theirs.parameters(), **options)
    scheduler = SCHEDULERS.CosineAnnealingLR(optimizer, 10)
    wanted = []
    for _ in range(5):
        for x, y in batches(classes):
            optimizer.zero_grad()
            loss = their_loss(theirs(torch.tensor(x)), torch.tensor(y))
            loss.backward()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip)
            optimizer.step()
            wanted.append(loss.item())
        scheduler.step()
    assert len(wanted) == 20
    assert_close(np.array(losses.values), np.array(wanted), rtol=1e-5)
    for p, q in zip(ours.parameters(), theirs.parameters()):
        assert_close(p, q.detach().numpy().T, rtol=1e-5, atol=1e-6)


def test_accumulation_is_the_large_batch_of_theirs():
    ours, theirs = both(ReLU, torch.nn.ReLU)
    x, y = batches(True)[0]
    trainer = Trainer(ours, SGD(ours, lr=0.5), CrossEntropyLoss(), accumulate=3, progress=False)
    trainer.fit([(x[:3], y[:3]), (x[3:6], y[3:6]), (x[6:], y[6:])], 1)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.5)
    torch.nn.CrossEntropyLoss()(theirs(torch.tensor(x)), torch.tensor(y)).backward()
    optimizer.step()
    for p, q in zip(ours.parameters(), theirs.parameters()):
        assert_close(p, q.detach().numpy().T)


def test_their_reader_finds_our_weights(tmp_path):
    reader = pytest.importorskip("safetensors.torch", reason="agreement is checked where torch is installed")
    ours, _ = both(ReLU, torch.nn.ReLU)
    save(tmp_path / "run.safetensors", ours)
    arrays = reader.load_file(tmp_path / "run.safetensors")
    for name, p in ours.named_parameters():
        assert_close(arrays[f"model.{name}"].numpy(), p.data, rtol=0, atol=0)
