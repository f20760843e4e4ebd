"""Libraries of TinyTorch's kind, where they are installed: HIPS autograd, micrograd, tinygrad.

`pip install -e '.[peers]'` brings them; those that are absent are left out. autograd and micrograd compute scalars in
float64, and autograd has no optimizers of its own to speak of, so it is given the one by hand. tinygrad compiles each
step once, with clang, and replays it (TinyJit); what that takes is not counted.
"""

import importlib.util
import math
import shutil
import sys

import numpy as np

from benchmarks import by_hand

PEERS = ("autograd", "micrograd", "tinygrad", "tokenizers")


def absent(library):
    """Cannot be asked here."""
    if library == "tinygrad" and shutil.which("clang") is None:
        return True
    return library in PEERS and importlib.util.find_spec(library) is None


# HIPS autograd: NumPy expressions that it differentiates


def _log_softmax(np, x):
    shifted = x - np.max(x, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def _cross_entropy(np, logits, y):
    return -np.mean(_log_softmax(np, logits)[np.arange(len(y)), y])


def _softmax(np, x):
    exps = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return exps / np.sum(exps, axis=-1, keepdims=True)


def _gelu(np, x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _layer_norm(np, x, weight, bias):
    center = x - np.mean(x, axis=-1, keepdims=True)
    variance = np.mean(center * center, axis=-1, keepdims=True)
    return center / np.sqrt(variance + 1e-5) * weight + bias


def _autograd_training(logits, start, x, y, lr, weight_decay=0.0):
    """logits: function of (parameters, x)"""
    import autograd
    import autograd.numpy as anp

    values, grads, slots = by_hand.in_one_buffer(start)
    y = y.reshape(-1)
    gradient = autograd.value_and_grad(lambda p: _cross_entropy(anp, logits(anp, p, x), y))
    update = by_hand.adam(values, grads, lr, weight_decay)

    def step():
        loss, found = gradient([slot.value for slot in slots])
        for slot, grad in zip(slots, found):
            slot.grad[...] = grad
        update()
        return float(loss)

    return step, lambda: [slot.grad for slot in slots]


def autograd_mlp(start, x, y):
    def logits(np, p, x):
        w1, b1, w2, b2, w3, b3 = p
        x = np.maximum(x @ w1 + b1, 0)
        return np.maximum(x @ w2 + b2, 0) @ w3 + b3

    return _autograd_training(logits, start, x, y, lr=1e-3)


def autograd_gpt(heads):
    def attention(np, qkv, wall):
        N, T, E = qkv.shape
        D = E // 3 // heads
        q, k, v = np.transpose(np.reshape(qkv, (N, T, 3, heads, D)), (2, 0, 3, 1, 4))
        shares = _softmax(np, np.matmul(q * (1 / math.sqrt(D)), np.swapaxes(k, -1, -2)) + wall)
        return np.reshape(np.swapaxes(np.matmul(shares, v), 1, 2), (N, T, heads * D))

    def logits(np, p, tokens):
        table, places, *blocks = p
        T = tokens.shape[1]
        wall = np.triu(np.full((T, T), -np.inf, "float32"), 1)
        x = table[tokens] + places[:T]
        for i in range(0, len(blocks) - 2, 12):
            n1, m1, w1, b1, w2, b2, n2, m2, w3, b3, w4, b4 = blocks[i : i + 12]
            x = x + attention(np, _layer_norm(np, x, n1, m1) @ w1 + b1, wall) @ w2 + b2
            x = x + _gelu(np, _layer_norm(np, x, n2, m2) @ w3 + b3) @ w4 + b4
        return np.reshape(_layer_norm(np, x, *blocks[-2:]) @ table.T, (-1, len(table)))

    return lambda start, x, y: _autograd_training(logits, start, x, y, lr=1e-4, weight_decay=0.01)


def autograd_scalars(x, count):
    import autograd

    def function(x):
        y = x
        for _ in range(count):
            y = y * x + x
        return y

    gradient = autograd.value_and_grad(function)
    return lambda: gradient(x), lambda: list(gradient(x))


def _autograd_operation(function, arrays, arriving):
    import autograd.numpy as anp
    from autograd import make_vjp

    vjp = make_vjp(lambda inputs: function(anp, *inputs))
    grad = arriving(np.shape(function(np, *arrays)))

    def step():
        back, out = vjp(arrays)
        return [out, *back(grad)]

    return step, step


# micrograd: scalars


def micrograd_scalars(value, count):
    from micrograd.engine import Value

    def step():
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 4 * count + 1000))  # it walks the graph by recursion
        x = y = Value(value)
        for _ in range(count):
            y = y * x + x
        y.backward()
        return [y.data, x.grad]

    return step, step


# tinygrad: expressions that it fuses and compiles


def tinygrad_mlp(start, x, y):
    from tinygrad import Context, Tensor, TinyJit
    from tinygrad.nn.optim import Adam

    parameters = [Tensor(a).realize() for a in start]
    w1, b1, w2, b2, w3, b3 = parameters
    optimizer = Adam(parameters, lr=1e-3)
    inputs, targets = Tensor(x).realize(), Tensor(y.astype(np.int32)).realize()

    @TinyJit
    def compiled():
        out = (((inputs @ w1 + b1).relu() @ w2 + b2).relu() @ w3 + b3).sparse_categorical_crossentropy(targets)
        grads = out.gradient(*parameters)
        for p, grad in zip(parameters, grads):
            p.grad = grad
        Tensor.realize(out, *grads, *optimizer.schedule_step())
        return out, *grads

    latest = []

    def step():
        with Context(TRAINING=1):
            latest[:] = compiled()
        return latest[0].item()

    return step, lambda: [grad.numpy() for grad in latest[1:]]


_IN_TINYGRAD = {
    "softmax": lambda x: x.softmax(),
    "layer_norm": lambda x, w, b: x.layernorm(eps=1e-5) * w + b,
    "gelu": lambda x: x.gelu(),
    "cross_entropy": lambda x, y: x.sparse_categorical_crossentropy(y),
}


def _tinygrad_operation(function, arrays, arriving, constants):
    from tinygrad import Device, Tensor, TinyJit

    inputs = [Tensor(a).realize() for a in arrays]
    constants = [Tensor(c.astype(np.int32)).realize() for c in constants]
    grad = Tensor(arriving(function(*inputs, *constants).shape)).realize()

    @TinyJit
    def compiled():
        out = function(*inputs, *constants)
        grads = out.gradient(*inputs, gradient=grad)
        Tensor.realize(out, *grads)
        return out, *grads

    def step():
        found = compiled()
        Device[Device.DEFAULT].synchronize()
        return found

    for _ in range(3):  # the first calls compile
        step()
    return step, lambda: [array.numpy() for array in step()]


_IN_AUTOGRAD = {"softmax": _softmax, "layer_norm": _layer_norm, "gelu": _gelu, "cross_entropy": _cross_entropy}


def operation(name, *constants):
    """Who else has the operation: {library: function of (arrays, arriving) that builds}. See one_operation."""

    def in_autograd(arrays, arriving):
        return _autograd_operation(lambda np, *inputs: _IN_AUTOGRAD[name](np, *inputs, *constants), arrays, arriving)

    def in_tinygrad(arrays, arriving):
        return _tinygrad_operation(_IN_TINYGRAD[name], arrays, arriving, constants)

    return {"autograd": in_autograd, "tinygrad": in_tinygrad}
