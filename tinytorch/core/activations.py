# Generated from modules/02_activations/02_activations.py by `tito export`. To change this file, edit the lesson and export again.
"""Activations: the bend between two layers.

Each is a free function on tensors of any shape and a thin class over it. All are safe from -inf to large numbers: what
would overflow is never computed, or is known to end in the right limit. What the gradient rules of module 05 need is
saved once, usually the output itself.
"""

import math

import numpy as np

from tinytorch.core.tensor import Tensor, floating, normalize_axes, result


def relu(x: Tensor) -> Tensor:
    """max(x, 0), element by element; the slope at 0 is 0. (Nair & Hinton 2010)"""
    x = floating(x)
    out = np.maximum(x.data, 0)
    return result(out, "relu", x, out=out)


def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, negative_slope * x elsewhere.

    Raises ValueError unless 0 <= negative_slope <= 1. (Maas et al. 2013)
    """
    x = floating(x)
    if not 0 <= negative_slope <= 1:
        raise ValueError(f"leaky_relu needs 0 <= negative_slope <= 1, got {negative_slope}")
    if negative_slope == 0:
        return relu(x)  # 0 * inf is not a number
    out = np.empty_like(x.data)
    np.multiply(x.data, negative_slope, out=out)
    np.maximum(x.data, out, out=out)
    return result(out, "leaky_relu", x, negative_slope=negative_slope)


def _gate(x, out):
    """Fill the array `out`, which may be x itself, with 1 / (1 + e^-x): from 0 far left to 1 far right."""
    np.negative(x, out=out)
    with np.errstate(over="ignore"):  # e^-x beyond the largest number is inf, and 1 / inf is the 0 it should be
        np.exp(out, out=out)
    out += 1
    np.reciprocal(out, out=out)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + e^-x): from 0 far left through 1/2 at 0 to 1 far right."""
    x = floating(x)
    out = np.empty_like(x.data)
    _gate(x.data, out)
    return result(out, "sigmoid", x, out=out)


def tanh(x: Tensor) -> Tensor:
    """(e^x - e^-x) / (e^x + e^-x): from -1 through 0 to 1. A sigmoid stretched and centred: 2 sigmoid(2x) - 1."""
    x = floating(x)
    out = np.tanh(x.data)
    return result(out, "tanh", x, out=out)


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), a relu with a round corner; its slope is the sigmoid."""
    x = floating(x)
    out = np.empty_like(x.data)
    np.abs(x.data, out=out)
    np.negative(out, out=out)
    np.exp(out, out=out)  # e^-|x| is at most 1
    np.log1p(out, out=out)
    out += np.maximum(x.data, 0)
    return result(out, "softplus", x, out=out)


_FAR = 1000.0  # so far from 0 that every gate here is exactly 0 or 1, in float64 too


def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x), also called swish. (Elfwing et al. 2017; Ramachandran et al. 2017)"""
    x = floating(x)
    out, gate = np.empty_like(x.data), np.empty_like(x.data)
    _gate(x.data, gate)
    np.maximum(x.data, -_FAR, out=out)  # 0 * -inf is not a number, 0 * -1000 is 0
    out *= gate
    return result(out, "silu", x, gate=gate)


def gelu(x: Tensor) -> Tensor:
    """x times the share of a normal distribution that lies below x, in the tanh form of GPT-2.

    x * (1 + tanh(u)) / 2 with u = sqrt(2 / pi) * (x + 0.044715 x^3), computed as x * sigmoid(2 u), which is the same.
    (Hendrycks & Gimpel 2016)
    """
    x = floating(x)
    out, gate = np.empty_like(x.data), np.empty_like(x.data)
    np.clip(x.data, -_FAR, _FAR, out=out)  # further out the gate stays what it is, and x^3 would overflow
    np.multiply(out, out, out=gate)
    gate *= 0.044715
    gate += 1
    gate *= out
    gate *= 2 * math.sqrt(2 / math.pi)
    _gate(gate, gate)
    np.maximum(x.data, -_FAR, out=out)  # 0 * -inf is not a number, 0 * -1000 is 0
    out *= gate
    return result(out, "gelu", x, gate=gate)


def _axis(op, x, dim):
    """`dim` as an axis of x counted from the front, along which there is something."""
    if not isinstance(dim, (int, np.integer)):
        raise TypeError(f"{op} needs one integer dim, got {dim!r}")
    (axis,) = normalize_axes(op, x, dim)
    if x.shape[axis] == 0:
        raise ValueError(f"{op} needs at least one element along dim {dim}, got shape {x.shape}")
    return axis


def _shifted(x, axis):
    """The array x minus its maximum along `axis`, so that e^shifted is at most 1. Where all are -inf they stay -inf."""
    peak = x.max(axis=axis, keepdims=True)
    return x - np.maximum(peak, np.finfo(x.dtype).min)


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """e^x divided by its sum along `dim`: positive shares that add up to 1.

    -inf gets the share 0; where all along `dim` are -inf there is nothing to share, and all get 0 (PyTorch: NaN).
    """
    x = floating(x)
    axis = _axis("softmax", x, dim)
    out = _shifted(x.data, axis)
    np.exp(out, out=out)
    total = out.sum(axis=axis, keepdims=True)  # at least e^0 = 1, or 0 where all were -inf
    total += total == 0
    out /= total
    return result(out, "softmax", x, out=out, axis=axis)


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """log(softmax(x)) along `dim`, exact where softmax underflows to 0: x minus the logsumexp of x.

    Where all along `dim` are -inf the result is -inf.
    """
    x = floating(x)
    axis = _axis("log_softmax", x, dim)
    out = _shifted(x.data, axis)
    total = np.exp(out).sum(axis=axis, keepdims=True)
    total += total == 0
    out -= np.log(total)
    return result(out, "log_softmax", x, out=out, axis=axis)


class _Activation:
    """A layer without parameters: its `forward` applies one function, its attributes are settings."""

    def __call__(self, x):
        return self.forward(x)

    def parameters(self):
        """Nothing to learn here."""
        return []

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in vars(self).items())})"


class ReLU(_Activation):
    """`relu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return relu(x)


class LeakyReLU(_Activation):
    """`leaky_relu` as a layer."""

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(x, self.negative_slope)


class Sigmoid(_Activation):
    """`sigmoid` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return sigmoid(x)


class Tanh(_Activation):
    """`tanh` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return tanh(x)


class GELU(_Activation):
    """`gelu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)


class SiLU(_Activation):
    """`silu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return silu(x)


class Softplus(_Activation):
    """`softplus` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return softplus(x)


class Softmax(_Activation):
    """`softmax` as a layer."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return softmax(x, self.dim)


class LogSoftmax(_Activation):
    """`log_softmax` as a layer."""

    def __init__(self, dim: int = -1):
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return log_softmax(x, self.dim)
