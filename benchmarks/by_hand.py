"""The workloads in NumPy alone, as somebody writes them who knows what is to be computed: no tensors, no graph.

A layer is a function of arrays that returns its output and a function `back`, from the gradient of the output to that
of the input. Gradients of parameters are written where the optimizer finds them. Images are (N, H, W, C) inside, so
that the patches of a convolution are copied in long runs; big arrays are walked a few rows at a time, which the
processor's cache holds. `back` may overwrite the gradient it is given.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

BLOCK = 65536  # elements


def blocks(x):
    """The rows of x in slices of about BLOCK elements."""
    rows = max(1, BLOCK // x.shape[-1])
    return [slice(start, start + rows) for start in range(0, len(x), rows)]


def row_sums(x):
    return x @ np.ones(x.shape[-1], x.dtype)


def column_sums(x, out=None):
    return np.matmul(np.ones(len(x), x.dtype), x, out=out)


# Parameters and optimizers


class Slot(NamedTuple):
    value: np.ndarray
    grad: np.ndarray


def in_one_buffer(arrays):
    """Copies of the arrays as views of one long array, with room for their gradients: (values, gradients, slots)."""
    values = np.concatenate([array.reshape(-1) for array in arrays])
    grads = np.zeros_like(values)
    ends = np.cumsum([array.size for array in arrays])[:-1]
    parts = zip(arrays, np.split(values, ends), np.split(grads, ends))
    return values, grads, [Slot(v.reshape(a.shape), g.reshape(a.shape)) for a, v, g in parts]


def sgd(values, grads, lr, momentum=0.9):
    velocity, scratch = np.zeros_like(values), np.empty_like(values)

    def step():
        np.multiply(velocity, momentum, out=velocity)
        np.add(velocity, grads, out=velocity)
        np.subtract(values, np.multiply(velocity, lr, out=scratch), out=values)

    return step


def adam(values, grads, lr, weight_decay=0.0, beta1=0.9, beta2=0.999, eps=1e-8):
    """AdamW where weight_decay > 0."""
    m, v, s, t = np.zeros_like(values), np.zeros_like(values), np.empty(BLOCK, values.dtype), 0

    def step():
        nonlocal t
        t += 1
        root = math.sqrt(1 - beta2**t)
        for start in range(0, values.size, BLOCK):
            piece = slice(start, start + BLOCK)
            p, g, mm, vv = values[piece], grads[piece], m[piece], v[piece]
            u = s[: p.size]
            if weight_decay:
                p *= 1 - lr * weight_decay
            mm += np.multiply(np.subtract(g, mm, out=u), 1 - beta1, out=u)
            vv *= beta2
            vv += np.multiply(np.multiply(g, g, out=u), 1 - beta2, out=u)
            np.add(np.sqrt(vv, out=u), eps * root, out=u)
            p -= np.multiply(np.divide(mm, u, out=u), lr * root / (1 - beta1**t), out=u)

    return step


def training(forward, start, x, y, optimizer, **options):
    """A function that makes whole steps on one batch and returns the loss, and one that returns the gradients.

    forward   (slots, x) -> logits (M, C), back
    """
    values, grads, slots = in_one_buffer(start)
    update = optimizer(values, grads, **options)
    y = y.reshape(-1)

    def step():
        logits, back = forward(slots, x)
        loss, slope = cross_entropy(logits, y)
        back(slope())
        update()
        return loss

    return step, lambda: [slot.grad for slot in slots]


# Layers


def linear(x, weight, bias, first=False):
    """first: nobody asks for dx."""
    out = x @ weight.value
    out += bias.value

    def back(grad):
        np.matmul(x.T, grad, out=weight.grad)
        column_sums(grad, out=bias.grad)
        return None if first else grad @ weight.value.T

    return out, back


def relu(x):
    """In place: nobody else needs x."""
    out = np.maximum(x, 0, out=x)

    def back(grad):
        grad *= out > 0
        return grad

    return out, back


def softmax(x):
    out = np.empty_like(x)
    for rows in blocks(x):
        block = np.subtract(x[rows], x[rows].max(axis=-1, keepdims=True), out=out[rows])
        np.exp(block, out=block)
        block *= (1 / row_sums(block))[:, None]

    def back(grad):
        dx = np.empty_like(x)
        for rows in blocks(x):
            shares, g = out[rows], grad[rows]
            np.subtract(g, np.einsum("ij,ij->i", g, shares)[:, None], out=dx[rows])
            dx[rows] *= shares
        return dx

    return out, back


def cross_entropy(logits, y):
    """Mean over the rows, and a function that returns the gradient, (softmax - onehot) / N."""
    N = len(logits)
    shares = np.empty_like(logits)
    loss = 0.0
    for rows in blocks(logits):
        peak = logits[rows].max(axis=-1, keepdims=True)
        block = np.exp(np.subtract(logits[rows], peak, out=shares[rows]), out=shares[rows])
        total = row_sums(block)
        places = np.arange(len(block)), y[rows]
        loss += float(np.sum(np.log(total) + peak[:, 0] - logits[rows][places]))
        block *= (1 / (N * total))[:, None]
        block[places] -= np.float32(1 / N)
    return np.float32(loss / N), lambda: shares


def gelu(x):
    """The tanh form of GPT-2, written as x * gate with gate = sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    out, gate, c = np.empty_like(x), np.empty_like(x), 2 * math.sqrt(2 / math.pi)
    for rows in blocks(x):
        z, g = x[rows], gate[rows]
        np.multiply(z, z, out=g)
        g *= -0.044715 * c
        g -= c
        g *= z
        with np.errstate(over="ignore"):  # 1 / inf is the 0 it should be
            np.exp(g, out=g)
        g += 1
        np.reciprocal(g, out=g)
        np.multiply(z, g, out=out[rows])

    def back(grad):
        dx = np.empty_like(x)
        for rows in blocks(x):
            z, g, d = x[rows], gate[rows], dx[rows]
            np.multiply(z, z, out=d)
            d *= 3 * 0.044715 * c
            d += c
            d *= z  # 2 u' x
            d *= 1 - g
            d += 1
            d *= g
            d *= grad[rows]
        return dx

    return out, back


def layer_norm(x, weight, bias, eps=1e-5):
    E = x.shape[-1]
    out, mean, scale = np.empty_like(x), row_sums(x) / E, np.empty_like(x, shape=len(x))
    for rows in blocks(x):
        block = np.subtract(x[rows], mean[rows, None], out=out[rows])
        scale[rows] = 1 / np.sqrt(np.einsum("ij,ij->i", block, block) / E + eps)
        block *= scale[rows, None]
        block *= weight.value
        block += bias.value

    def back(grad):
        dx = np.empty_like(x)
        weight.grad[...], bias.grad[...] = 0, 0
        for rows in blocks(x):
            g, s, d = grad[rows], scale[rows], dx[rows]
            normal = np.subtract(x[rows], mean[rows, None])
            normal *= s[:, None]
            weight.grad[...] += column_sums(np.multiply(g, normal, out=d))
            bias.grad[...] += column_sums(g)
            normal *= (d @ weight.value / -E)[:, None]
            np.multiply(g, weight.value, out=d)
            d += normal
            d -= (row_sums(g * weight.value) / E)[:, None]
            d *= s[:, None]
        return dx

    return out, back


def embedding(table, indices):
    out = table.value[indices]

    def back(grad):
        """Adds to the gradient of the table, for a row may be asked for twice and may have got some already."""
        rows = table.grad
        for i, g in zip(indices.reshape(-1).tolist(), grad.reshape(-1, grad.shape[-1])):
            rows[i] += g

    return out, back


# Images, (N, H, W, C) inside


def taken_apart(x, K):
    """A view of x (N, H, W, C) as the patches under a K x K kernel: (N, OH, OW, K, K, C)."""
    return sliding_window_view(x, (K, K), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)


def bordered(x, p):
    return np.pad(x, ((0, 0), (p, p), (p, p), (0, 0))) if p else x


def conv(x, weight, bias, padding, first=False):
    """weight (F, C, K, K); one image at a time, whose patches stay in the cache. first: nobody asks for dx."""
    F, C, K, _ = weight.value.shape
    seen = taken_apart(bordered(x, padding), K)
    N, OH, OW = seen.shape[:3]
    kernels = weight.value.transpose(2, 3, 1, 0).reshape(K * K * C, F)
    out, patches = np.empty((N, OH * OW, F), x.dtype), np.empty((OH, OW, K, K, C), x.dtype)
    flat = patches.reshape(OH * OW, -1)
    for n in range(N):
        patches[...] = seen[n]
        np.matmul(flat, kernels, out=out[n])
    out += bias.value

    def back_first(grad):
        grad = grad.reshape(N, OH * OW, F)
        column_sums(grad.reshape(-1, F), out=bias.grad)
        dkernels = np.zeros_like(kernels)
        for n in range(N):
            patches[...] = seen[n]
            dkernels += flat.T @ grad[n]
        weight.grad[...] = dkernels.reshape(K, K, C, F).transpose(3, 2, 0, 1)

    def back(grad):
        """Patches of the gradient under the kernel turned around serve dx and dweight alike."""
        H, W = x.shape[1:3]
        column_sums(grad.reshape(-1, F), out=bias.grad)
        slopes = taken_apart(bordered(grad.reshape(N, OH, OW, F), K - 1 - padding), K)
        turned = weight.value[:, :, ::-1, ::-1].transpose(2, 3, 0, 1).reshape(K * K * F, C)
        dx, dturned = np.empty_like(x), np.zeros((C, K * K * F), x.dtype)
        patches = np.empty((H, W, K, K, F), x.dtype)
        flat = patches.reshape(H * W, -1)
        for n in range(N):
            patches[...] = slopes[n]
            np.matmul(flat, turned, out=dx[n].reshape(H * W, C))
            dturned += x[n].reshape(H * W, C).T @ flat
        weight.grad[...] = dturned.reshape(C, K, K, F).transpose(3, 0, 1, 2)[:, :, ::-1, ::-1]
        return dx

    return out.reshape(N, OH, OW, F), back_first if first else back


def max_pool(x):
    """2 x 2, after a relu: where two pixels tie they are 0, and the relu lets nothing through."""
    corners = [(slice(None), slice(i, None, 2), slice(j, None, 2)) for i in (0, 1) for j in (0, 1)]
    a, b, c, d = (x[corner] for corner in corners)
    out = np.maximum(np.maximum(a, b), np.maximum(c, d))

    def back(grad):
        dx = np.empty_like(x)
        for corner in corners:
            np.multiply(grad, x[corner] == out, out=dx[corner])
        return dx

    return out, back


def batch_norm(x, weight, bias, running, momentum=0.1, eps=1e-5):
    """running: arrays of the mean and the variance, which follow those of the batch."""
    rows = x.reshape(-1, x.shape[-1])
    M = len(rows)
    mean = column_sums(rows) / M
    normal = rows - mean
    variance = np.einsum("ij,ij->j", normal, normal) / M
    scale = 1 / np.sqrt(variance + eps)
    normal *= scale
    running[0] += momentum * (mean - running[0])
    running[1] += momentum * (variance * (M / (M - 1)) - running[1])
    out = normal * weight.value
    out += bias.value

    def back(grad):
        grad = grad.reshape(rows.shape)
        column_sums(grad, out=bias.grad)
        np.einsum("ij,ij->j", grad, normal, out=weight.grad)
        grad -= bias.grad / M
        grad -= np.multiply(normal, weight.grad / M, out=normal)
        grad *= weight.value * scale
        return grad.reshape(x.shape)

    return out.reshape(x.shape), back


def flatten(x):
    """(N, H, W, C) -> (N, C * H * W), in the order in which the weights of the next layer expect it."""
    N, H, W, C = x.shape
    out = x.transpose(0, 3, 1, 2).reshape(N, -1)
    return out, lambda grad: np.ascontiguousarray(grad.reshape(N, C, H, W).transpose(0, 2, 3, 1))


# Networks: (slots, x) -> logits, back


def chain(x, *layers):
    """Layers, functions of one array, one after the other, and the way back through them in reverse."""
    backs = []
    for layer in layers:
        x, back = layer(x)
        backs.append(back)

    def all_back(grad):
        for back in reversed(backs):
            grad = back(grad)
        return grad

    return x, all_back


def mlp(slots, x):
    w1, b1, w2, b2, w3, b3 = slots
    return chain(
        x,
        lambda x: linear(x, w1, b1, first=True),
        relu,
        lambda x: linear(x, w2, b2),
        relu,
        lambda x: linear(x, w3, b3),
    )


def lenet(slots, x):
    w1, b1, w2, b2, w3, b3, w4, b4 = slots
    return chain(
        x.transpose(0, 2, 3, 1),
        lambda x: conv(x, w1, b1, 2, first=True),
        relu,
        max_pool,
        lambda x: conv(x, w2, b2, 0),
        relu,
        max_pool,
        flatten,
        lambda x: linear(x, w3, b3),
        relu,
        lambda x: linear(x, w4, b4),
    )


def cifar():
    """The network, with running statistics of its own."""
    running = [[np.zeros(F, np.float32), np.ones(F, np.float32)] for F in (32, 64)]

    def network(slots, x):
        w1, b1, n1, m1, w2, b2, n2, m2, w3, b3 = slots
        return chain(
            np.ascontiguousarray(x.transpose(0, 2, 3, 1)),
            lambda x: conv(x, w1, b1, 1, first=True),
            lambda x: batch_norm(x, n1, m1, running[0]),
            relu,
            max_pool,
            lambda x: conv(x, w2, b2, 1),
            lambda x: batch_norm(x, n2, m2, running[1]),
            relu,
            max_pool,
            flatten,
            lambda x: linear(x, w3, b3),
        )

    return network


def attention(qkv, N, heads):
    """Causal, of rows (N * T, 3 * E): queries, keys and values of all heads side by side. Returns (N * T, E), back."""
    T, E = len(qkv) // N, qkv.shape[1] // 3
    D = E // heads
    q, k, v = np.ascontiguousarray(qkv.reshape(N, T, 3, heads, D).transpose(2, 0, 3, 1, 4))
    q *= 1 / math.sqrt(D)
    shares = q @ k.swapaxes(-1, -2)
    shares += np.triu(np.full((T, T), -np.inf, qkv.dtype), 1)
    shares -= shares.max(axis=-1, keepdims=True)
    np.exp(shares, out=shares)
    shares *= (1 / row_sums(shares))[..., None]
    mixed = shares @ v
    out = mixed.swapaxes(1, 2).reshape(N * T, E)

    def back(grad):
        g = np.ascontiguousarray(grad.reshape(N, T, heads, D).swapaxes(1, 2))
        dqkv = np.empty((N, T, 3, heads, D), qkv.dtype)
        dq, dk, dv = dqkv.transpose(2, 0, 3, 1, 4)
        dv[...] = shares.swapaxes(-1, -2) @ g
        dscores = g @ v.swapaxes(-1, -2)
        dscores -= np.einsum("...d,...d->...", g, mixed)[..., None]
        dscores *= shares
        np.multiply(dscores @ k, 1 / math.sqrt(D), out=dq)
        dk[...] = dscores.swapaxes(-1, -2) @ q
        return dqkv.reshape(qkv.shape)

    return out, back


def answering(x, *layers):
    """x, and what the layers make of it added to it."""
    out, back = chain(x, *layers)
    out += x

    def back_to_both(grad):
        dx = back(grad)
        dx += grad
        return dx

    return out, back_to_both


def gpt_block(x, slots, N, heads):
    n1, m1, w1, b1, w2, b2, n2, m2, w3, b3, w4, b4 = slots
    x, attention_back = answering(
        x,
        lambda x: layer_norm(x, n1, m1),
        lambda x: linear(x, w1, b1),
        lambda x: attention(x, N, heads),
        lambda x: linear(x, w2, b2),
    )
    x, mlp_back = answering(
        x,
        lambda x: layer_norm(x, n2, m2),
        lambda x: linear(x, w3, b3),
        gelu,
        lambda x: linear(x, w4, b4),
    )
    return x, lambda grad: attention_back(mlp_back(grad))


def gpt(heads):
    def network(slots, tokens):
        (N, T), E = tokens.shape, slots[0].value.shape[1]
        table, places, *blocks, last_weight, last_bias = slots
        x, embedding_back = embedding(table, tokens)
        x += places.value[:T]
        x, backs = x.reshape(N * T, E), []
        for i in range(0, len(blocks), 12):
            x, back = gpt_block(x, blocks[i : i + 12], N, heads)
            backs.append(back)
        last, last_back = layer_norm(x, last_weight, last_bias)

        def all_back(grad):
            np.matmul(grad.T, last, out=table.grad)
            dx = last_back(grad @ table.value)
            for back in reversed(backs):
                dx = back(dx)
            places.grad[...] = 0
            dx.reshape(N, T, E).sum(axis=0, out=places.grad[:T])
            embedding_back(dx)

        return last @ table.value.T, all_back

    return network


def write(arrays, heads, prompt, new):
    """The `new` likeliest tokens after the list `prompt`, keys and values kept. arrays: a GPT's parameters."""
    table, places, *blocks, last_weight, last_bias = [Slot(array, None) for array in arrays]
    E, total = table.value.shape[1], len(prompt) + new
    D = E // heads
    kept = np.empty((len(blocks) // 12, 2, heads, total, D), np.float32)
    tokens, start = list(prompt), 0
    while len(tokens) < total:
        T = len(tokens) - start
        x = table.value[tokens[start:]] + places.value[start : start + T]
        for layer, (keys, values) in enumerate(kept):
            n1, m1, w1, b1, w2, b2, n2, m2, w3, b3, w4, b4 = blocks[12 * layer : 12 * layer + 12]
            qkv = linear(layer_norm(x, n1, m1)[0], w1, b1)[0]
            q, k, v = qkv.reshape(T, 3, heads, D).transpose(1, 2, 0, 3)
            keys[:, start : start + T], values[:, start : start + T] = k, v
            scores = (q * np.float32(1 / math.sqrt(D))) @ keys[:, : start + T].swapaxes(-1, -2)
            if T > 1:
                scores += np.triu(np.full((T, start + T), -np.inf, np.float32), start + 1)
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=-1, keepdims=True)
            mixed = (scores @ values[:, : start + T]).swapaxes(0, 1).reshape(T, E)
            x += linear(mixed, w2, b2)[0]
            x += linear(gelu(linear(layer_norm(x, n2, m2)[0], w3, b3)[0])[0], w4, b4)[0]
        start = len(tokens)
        last = layer_norm(x[-1:], last_weight, last_bias)[0]
        tokens.append(int((last @ table.value.T).argmax()))
    return tokens


def scalars(x, count):
    """y = y * x + x, `count` times from y = x, with the numbers written down on the way; dy / dx on the way back."""
    x = np.float32(x)
    y, seen = x, []
    for _ in range(count):
        seen.append(y)
        y = y * x + x
    dy, dx = np.float32(1), np.float32(0)
    for before in reversed(seen):
        dx += dy + dy * before
        dy *= x
    return y, dx + dy
