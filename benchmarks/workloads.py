"""What is timed: each workload makes the same computation in several libraries, and proves it before the clock starts.

A workload is a function of its scale, 1 for the size in its title, that returns {library: build}. Nothing is imported
or built before `build()`, which returns two functions: `step()` does the work once, and `numbers()` does it once and
returns what was computed, as a list of arrays, the same for every library. "numpy" is the same by hand.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks import by_hand, peers, text

WORKLOADS = {}


class Workload(NamedTuple):
    """Bars are pairs: for one thread and for two."""

    title: str
    build: Callable
    at_most: tuple = (None, None)  # what is accepted of the ratio to `beside`
    stretch: tuple = (None, None)  # and hoped for
    grows: str = "batch"  # what the scale multiplies
    beside: str = "torch"
    seconds: tuple = (None, None)  # accepted and hoped for, where the bar is a time
    memory: tuple = (None, None)  # accepted and hoped for, of the ratio of memory


def workload(title, **options):
    """File a workload under its function's name."""

    def file(function):
        WORKLOADS[function.__name__] = Workload(title, function, **options)
        return function

    return file


def agree(ours, theirs, rtol=1e-3, atol=1e-6):
    """Both lists hold the same arrays, up to rounding, or there is nothing to time.

    Differences may be as large as `rtol` of the number or of the largest in its array, or `atol` of the largest of all:
    among numbers that cancel (the gradient of a bias in front of a batch norm is 0) rounding is all there is.
    """
    ours, theirs = ([np.asarray(array, np.float64) for array in arrays] for arrays in (ours, theirs))
    largest = max((np.abs(array).max() for array in theirs if array.size), default=0)
    for mine, other in zip(ours, theirs, strict=True):
        bound = rtol * np.abs(other).max() if other.size else 0
        np.testing.assert_allclose(mine, other, rtol=rtol, atol=max(bound, atol * largest))


def check(built, beside):
    """Raise AssertionError unless all computed the numbers that `beside` did. built: {library: (step, numbers)}"""
    expected = built[beside][1]()
    for library, (_, numbers) in built.items():
        if library != beside:
            try:
                agree(numbers(), expected)
            except AssertionError as error:
                raise AssertionError(f"{library} and {beside} compute different numbers\n{error}") from None


def scaled(count, scale):
    return max(1, round(count * scale))


# Steps of training


def losses_and_gradients(step, gradients):
    """Four losses, and the gradients of the first step; later ones part as rounding grows."""

    def numbers():
        first = step()
        grads = [np.array(grad) for grad in gradients()]
        return [np.array([first, *(step() for _ in range(3))]), *grads]

    return step, numbers


def training(model, theirs, hand, x, y, optimizer, others=None, **options):
    """Whole steps on one batch: loss of the model against the classes y, gradients, optimizer.

    model, theirs   functions that return ours, and PyTorch's, from nn or what is like it
    hand            function of (slots, x), see by_hand
    optimizer       name in both libraries: "SGD", "Adam", "AdamW"
    others          {library: function of (start, x, y) that builds}, start being the parameters' arrays
    """

    def start():
        from tinytorch import manual_seed

        manual_seed(0)
        return [p.data for p in model().parameters()]

    def in_tinytorch():
        import tinytorch
        from tinytorch import optim
        from tinytorch.nn import functional as F

        tinytorch.manual_seed(0)
        ours = model()
        update = getattr(optim, optimizer)(ours.parameters(), **options)
        inputs, targets = tinytorch.tensor(x), tinytorch.tensor(y)

        def step():
            update.zero_grad()
            loss = F.cross_entropy(ours(inputs), targets)
            loss.backward()
            update.step()
            return loss.item()

        return losses_and_gradients(step, lambda: [p.grad for p in ours.parameters()])

    def in_torch():
        import torch
        from torch.nn import functional as F

        from benchmarks import in_torch

        other = in_torch.with_weights(theirs(), start())
        update = getattr(torch.optim, optimizer)(other.parameters(), **options)
        inputs, targets = torch.tensor(x), torch.tensor(y).reshape(-1)

        def step():
            update.zero_grad()
            logits = other(inputs)
            loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets)
            loss.backward()
            update.step()
            return loss.item()

        return losses_and_gradients(step, lambda: in_torch.gradients(other))

    def in_numpy():
        decay = {"weight_decay": 0.01} if optimizer == "AdamW" else {}
        rule = by_hand.sgd if optimizer == "SGD" else by_hand.adam
        return losses_and_gradients(*by_hand.training(hand(), start(), x, y, rule, **options, **decay))

    built = {"tinytorch": in_tinytorch, "torch": in_torch, "numpy": in_numpy}
    for library, build in (others or {}).items():
        built[library] = lambda build=build: losses_and_gradients(*build(start(), x, y))
    return built


def images(*shape):
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape, dtype=np.float32), rng.integers(0, 10, shape[0])


def sequential(layers):
    """A function that puts the layers together: layers(nn) lists them, for PyTorch's nn and for ours alike."""

    def ours():
        from tinytorch import nn

        return nn.Sequential(*layers(nn))

    def theirs():
        from torch import nn

        return nn.Sequential(*layers(nn))

    return ours, theirs


@workload("MLP 784-512-256-10, batch 128, Adam, whole step", at_most=(1.0, 1.1), stretch=(0.75, 0.75))
def mlp(scale=1):
    def layers(nn):
        return nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10)

    x, y = images(scaled(128, scale), 784)
    others = {"autograd": peers.autograd_mlp, "tinygrad": peers.tinygrad_mlp}
    return training(*sequential(layers), lambda: by_hand.mlp, x, y, "Adam", others, lr=1e-3)


@workload("LeNet 1x28x28 (8, 16 channels), batch 64, SGD, whole step", at_most=(1.5, 2.2), stretch=(1.2, 1.5))
def lenet(scale=1):
    def layers(nn):
        yield from (nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2))
        yield from (nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        yield from (nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 10))

    x, y = images(scaled(64, scale), 1, 28, 28)
    return training(*sequential(layers), lambda: by_hand.lenet, x, y, "SGD", lr=0.01, momentum=0.9)


@workload("CIFAR network 3-32-64, BatchNorm, pooling, batch 64, Adam, step", at_most=(1.3, 2.0), stretch=(1.0, 1.4))
def cifar(scale=1):
    def layers(nn):
        yield from (nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2))
        yield from (nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2))
        yield from (nn.Flatten(), nn.Linear(4096, 10))

    x, y = images(scaled(64, scale), 3, 32, 32)
    return training(*sequential(layers), by_hand.cifar, x, y, "Adam", lr=1e-4)


def language_model(embed_dim, num_layers, num_heads, context, batch, others=None):
    def ours():
        from tinytorch import nn

        return nn.GPT(256, embed_dim, num_layers, num_heads, max_seq_len=context)

    def theirs():
        from benchmarks.in_torch import GPT

        return GPT(256, embed_dim, num_layers, num_heads, context)

    tokens = np.random.default_rng(0).integers(0, 256, (batch, context + 1))
    x, y = tokens[:, :-1], tokens[:, 1:]
    return training(ours, theirs, lambda: by_hand.gpt(num_heads), x, y, "AdamW", others, lr=1e-4)


@workload(
    "GPT 4 x 128, 4 heads, context 128, batch 8, AdamW, whole step",
    at_most=(1.25, 1.5),
    stretch=(1.0, 1.0),
    memory=(1.5, 1.2),
)
def gpt(scale=1):
    return language_model(128, 4, 4, 128, scaled(8, scale), {"autograd": peers.autograd_gpt(4)})


@workload(
    "GPT 6 x 384, 6 heads, context 256, batch 4, AdamW, whole step",
    at_most=(1.25, 1.5),
    stretch=(1.05, 1.2),
    memory=(1.5, 1.2),
)
def gpt_large(scale=1):
    return language_model(384, 6, 6, 256, scaled(4, scale))


@workload(
    "generate 200 tokens, batch 1, GPT 4 x 128, cached keys and values",
    at_most=(1.0, 1.0),
    stretch=(0.7, 0.7),
    grows="tokens",
)
def generate(scale=1):
    prompt, new = [1, 2, 3, 4, 5, 6, 7, 8], scaled(200, scale)

    def model():
        from tinytorch import manual_seed, nn

        manual_seed(0)
        ours = nn.GPT(256, 128, 4, 4, max_seq_len=max(256, new + 8))
        for p in ours.parameters():
            p.data *= 5  # else all tokens are nearly as likely, and rounding chooses
        return ours

    def built(write):
        return write, lambda: [np.array(write())]

    def in_tinytorch():
        ours = model()
        return built(lambda: ours.generate(prompt, new, temperature=0))

    def in_torch():
        from benchmarks import in_torch

        theirs = in_torch.with_weights(
            in_torch.GPT(256, 128, 4, 4, max(256, new + 8)), [p.data for p in model().parameters()]
        )
        return built(lambda: in_torch.write(theirs, prompt, new, 4, 32))

    def in_numpy():
        arrays = [p.data for p in model().parameters()]
        return built(lambda: by_hand.write(arrays, 4, prompt, new))

    return {"tinytorch": in_tinytorch, "torch": in_torch, "numpy": in_numpy}


# Single operations


@workload(
    "graph of 10,000 scalar operations, forward + backward",
    at_most=(0.35, 0.35),
    stretch=(0.2, 0.2),
    grows="operations",
)
def graph(scale=1):
    count = scaled(5_000, scale)

    def run(x):
        y = x
        for _ in range(count):
            y = y * x + x
        x.grad = None
        y.backward()
        return [y.item(), x.grad.item()]

    def in_tinytorch():
        import tinytorch

        x = tinytorch.tensor(0.5, requires_grad=True)
        return lambda: run(x), lambda: run(x)

    def in_torch():
        import torch

        x = torch.tensor(0.5, requires_grad=True)
        return lambda: run(x), lambda: run(x)

    def in_numpy():
        return lambda: by_hand.scalars(0.5, count), lambda: by_hand.scalars(0.5, count)

    return {
        "tinytorch": in_tinytorch,
        "torch": in_torch,
        "numpy": in_numpy,
        "autograd": lambda: peers.autograd_scalars(0.5, count),
        "micrograd": lambda: peers.micrograd_scalars(0.5, count),
    }


def one_operation(ours, theirs, hand, *shapes, others=None):
    """Forward and backward of an operation on random numbers; the gradients that arrive are random too, but for a loss:
    backward starts there, from 1.

    ours, theirs   functions of (F, *inputs), F being nn.functional
    hand           function of the slots of the inputs that returns out, back; back returns the gradient of the first;
                   None: nobody wrote it
    others         {library: function of (arrays, grad) that builds}
    """
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]

    def arriving(shape):
        """The gradient that arrives at an output of this shape."""
        if shape == ():
            return np.float32(1)
        return np.random.default_rng(1).standard_normal(shape, dtype=np.float32)

    def run(function, inputs, grad):
        for x in inputs:
            x.grad = None
        out = function(*inputs)
        out.backward(grad)
        return out

    def in_tinytorch():
        import tinytorch
        from tinytorch.nn import functional as F

        inputs = [tinytorch.tensor(a, requires_grad=True) for a in arrays]
        grad = arriving(ours(F, *inputs).shape)

        def step():
            return run(lambda *inputs: ours(F, *inputs), inputs, grad)

        return step, lambda: [step().data, *(x.grad for x in inputs)]

    def in_torch():
        import torch
        from torch.nn import functional as F

        inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
        grad = torch.tensor(arriving(theirs(F, *inputs).shape))

        def step():
            return run(lambda *inputs: theirs(F, *inputs), inputs, grad)

        return step, lambda: [step().detach().numpy(), *(x.grad.numpy() for x in inputs)]

    def in_numpy():
        slots = [by_hand.Slot(array, np.zeros_like(array)) for array in arrays]
        grad = arriving(np.shape(hand(*slots)[0]))

        def step():
            out, back = hand(*slots)
            return out, back(grad)

        def numbers():
            out, dx = step()
            return [out, dx, *(slot.grad for slot in slots[1:])]

        return step, numbers

    built = {"tinytorch": in_tinytorch, "torch": in_torch}
    if hand is not None:
        built["numpy"] = in_numpy
    for library, build in (others or {}).items():
        built[library] = lambda build=build: build(arrays, arriving)
    return built


@workload("softmax (4096, 1024), forward + backward", at_most=(2.5, 5.7), stretch=(1.5, 1.5), grows="rows")
def softmax(scale=1):
    return one_operation(
        lambda F, x: F.softmax(x),
        lambda F, x: F.softmax(x, dim=-1),
        lambda x: by_hand.softmax(x.value),
        (scaled(4096, scale), 1024),
        others=peers.operation("softmax"),
    )


@workload("layer norm (4096, 1024), forward + backward", at_most=(3.0, 6.3), stretch=(1.5, 1.5), grows="rows")
def layer_norm(scale=1):
    return one_operation(
        lambda F, x, w, b: F.layer_norm(x, w, b),
        lambda F, x, w, b: F.layer_norm(x, (1024,), w, b),
        lambda x, w, b: by_hand.layer_norm(x.value, w, b),
        (scaled(4096, scale), 1024),
        1024,
        1024,
        others=peers.operation("layer_norm"),
    )


@workload("gelu (4096, 1024), forward + backward", at_most=(1.2, 1.8), stretch=(1.5, 1.5), grows="rows")
def gelu(scale=1):
    return one_operation(
        lambda F, x: F.gelu(x),
        lambda F, x: F.gelu(x, approximate="tanh"),
        lambda x: by_hand.gelu(x.value),
        (scaled(4096, scale), 1024),
        others=peers.operation("gelu"),
    )


@workload("cross-entropy (4096, 1024), forward + backward", at_most=(0.9, 1.6), stretch=(1.5, 1.5), grows="rows")
def cross_entropy(scale=1):
    rows = scaled(4096, scale)
    y = np.random.default_rng(1).integers(0, 1024, rows)

    def theirs(F, x):
        import torch

        return F.cross_entropy(x, torch.from_numpy(y))

    def hand(x):
        loss, slope = by_hand.cross_entropy(x.value, y)
        return loss, lambda grad: slope()  # grad is 1

    return one_operation(
        lambda F, x: F.cross_entropy(x, y), theirs, hand, (rows, 1024), others=peers.operation("cross_entropy", y)
    )


@workload(
    "embedding gradient, 8,192 indices into 50,000 x 256", at_most=(1.0, 2.0), stretch=(0.5, 1.0), grows="indices"
)
def embedding(scale=1):
    indices = np.random.default_rng(1).integers(0, 50_000, scaled(8192, scale))

    def theirs(F, w):
        import torch

        return F.embedding(torch.from_numpy(indices), w)

    def hand(w):
        slot = by_hand.Slot(w.value, np.zeros_like(w.value))
        out, back = by_hand.embedding(slot, indices)
        return out, lambda grad: back(grad) or slot.grad

    return one_operation(lambda F, w: F.embedding(w, indices), theirs, hand, (50_000, 256))


@workload("AdamW over 10 million parameters", at_most=(0.9, 1.35), stretch=(0.7, 0.5), grows="parameters")
def adamw(scale=1):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((scaled(1000, scale), 1000), dtype=np.float32) for _ in range(10)]

    def in_tinytorch():
        import tinytorch
        from tinytorch import optim

        parameters = [tinytorch.tensor(a, requires_grad=True) for a in arrays]
        for p, a in zip(parameters, arrays):
            p.grad = a * np.float32(0.1)
        step = optim.AdamW(parameters, lr=1e-3).step
        return step, lambda: [step()] and [p.data.copy() for p in parameters]

    def in_torch():
        import torch

        parameters = [torch.tensor(a, requires_grad=True) for a in arrays]
        for p, a in zip(parameters, arrays):
            p.grad = torch.tensor(a * np.float32(0.1))
        step = torch.optim.AdamW(parameters, lr=1e-3).step
        return step, lambda: [step()] and [p.detach().numpy().copy() for p in parameters]

    def in_numpy():
        values, grads, slots = by_hand.in_one_buffer(arrays)
        np.multiply(values, np.float32(0.1), out=grads)
        step = by_hand.adam(values, grads, lr=1e-3, weight_decay=0.01)
        return step, lambda: [step()] and [slot.value.copy() for slot in slots]

    return {"tinytorch": in_tinytorch, "torch": in_torch, "numpy": in_numpy}


@workload("x + y on 8 elements, recorded, 1,000 times", grows="times")
def add(scale=1):
    values, times = np.arange(8, dtype=np.float32), scaled(1000, scale)

    def built(x, y, array):
        def many():
            for _ in range(times):
                x + y

        return many, lambda: [array(x + y)]

    def in_tinytorch():
        import tinytorch

        return built(*(tinytorch.tensor(values, requires_grad=True) for _ in range(2)), lambda out: out.data)

    def in_torch():
        import torch

        return built(*(torch.tensor(values, requires_grad=True) for _ in range(2)), lambda out: out.detach().numpy())

    return {"tinytorch": in_tinytorch, "torch": in_torch, "numpy": lambda: built(values, values, lambda out: out)}


WORKLOADS["bpe_train"] = Workload(
    "BPE: learn 1,024 tokens from 1 MB of text", text.train, grows="text", beside="tokenizers", seconds=(2.0, 0.5)
)
WORKLOADS["bpe_encode"] = Workload(
    "BPE: encode 1 MB of new text", text.encode, grows="text", beside="tokenizers", seconds=(1 / 3, 0.1)
)
