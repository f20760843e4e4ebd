# Generated from modules/05_autograd/05_autograd.py by `tito export`. To change this file, edit the lesson and export again.
"""Gradients: one rule per operation, and an engine that runs the rules backwards.

Importing this file installs a recorder in `tinytorch.core.tensor`. From then on every result that depends on a tensor
with `requires_grad` carries `_grad_fn`, an instance of the rule of the operation that made it. The rules hold the
operation's inputs and whatever arrays it saved, never its output: there are no reference cycles, and a graph is freed
by reference counting while `backward` walks it.
"""

import functools
import itertools
import math
import shutil
import subprocess
from operator import attrgetter

import numpy as np

from tinytorch.core.tensor import (
    Tensor,
    _memory,
    as_array,
    generator,
    get_recorder,
    power,
    result,
    set_recorder,
    tick,
    written,
)


class Function:
    """The gradient rule of one operation, applied to one set of inputs.

    A rule is a subclass, `class AddBackward(Function, op="add")`, which files itself in `Function.rules` and writes
    `backward(grad)`: from d(loss)/d(output) to d(loss)/d(input), one array per input, shaped as the input. It may
    return None for an input that `needs` no gradient. It returns new arrays, views, or `grad` itself, and never
    changes `grad`, which others may hold.

    inputs   the operation's tensors        saved   what the operation passed on by keyword
    """

    rules = {}
    __slots__ = ("birth", "inputs", "saved", "version")

    def __init_subclass__(cls, op=None):
        filed = Function.rules.get(op)
        if filed is not None and filed.__qualname__ != cls.__qualname__:
            raise ValueError(
                f"operation {op!r} already has the rule {filed.__name__}; give {cls.__name__} another name"
            )
        if op is not None:
            Function.rules[op] = cls

    def __init__(self, *inputs, **saved):
        self.inputs = inputs
        self.saved = saved
        self.birth = tick()
        version = 0
        for x in inputs:
            version += x._version
            x._used = True
        self.version = version  # grows if anybody changes an input in place

    def __repr__(self):
        return f"<{type(self).__name__}>"

    @property
    def needs(self):
        """For each input, whether its gradient is asked for."""
        return tuple(x._requires_grad for x in self.inputs)

    def backward(self, grad):
        raise NotImplementedError(f"{type(self).__name__} does not say how gradients go back")

    def apply(self, grad):
        """The gradients of the inputs, checked: one per input, each with its input's shape and dtype.

        Raises RuntimeError naming the rule that is wrong.
        """
        grads = self.backward(grad)
        if type(grads) is not tuple:
            grads = (grads,)
        if len(grads) != len(self.inputs):
            raise RuntimeError(f"{self} returned {len(grads)} gradients for {len(self.inputs)} inputs")
        for i, (x, g) in enumerate(zip(self.inputs, grads)):
            if not x._requires_grad:
                continue
            data = x._data
            if g is None:
                raise RuntimeError(f"{self} returned no gradient for input {i}, which requires one")
            if g.shape != data.shape:
                raise RuntimeError(
                    f"{self} returned a gradient of shape {g.shape} for input {i} of shape {data.shape}; "
                    "if the operation broadcasts, its rule must sum over the stretched axes (unbroadcast)"
                )
            if g.dtype != data.dtype:
                raise RuntimeError(f"{self} returned a {g.dtype} gradient for input {i}, which is {data.dtype}")
        return grads


def record(out, op, inputs, saved):
    """Give `out` the rule of operation `op`, if any input requires a gradient. Only floating results can."""
    for x in inputs:
        if x._requires_grad:
            break
    else:
        return
    if out._data.dtype.kind != "f":
        return
    rule = Function.rules.get(op)
    if rule is None:
        raise NotImplementedError(f"operation {op!r} has no gradient rule; write class ...(Function, op={op!r})")
    out._requires_grad = True
    out._grad_fn = rule(*inputs, **saved)


set_recorder(record)


def is_grad_enabled():
    """Whether operations are being recorded."""
    return get_recorder() is not None


class no_grad:
    """Record nothing inside: `with no_grad(): ...`, or `@no_grad()` above a function.

    Results computed inside require no gradient, and parameters may be changed in place. The recorder is one for the
    whole process, so this switches recording off for other threads too.
    """

    def __init__(self):
        self._outside = []  # a stack, because one instance may be entered again before it is left

    def __enter__(self):
        self._outside.append(set_recorder(None))
        return self

    def __exit__(self, *exception):
        set_recorder(self._outside.pop())

    def __call__(self, function):
        @functools.wraps(function)
        def without_gradients(*args, **kwargs):
            with self:
                return function(*args, **kwargs)

        return without_gradients


def unbroadcast(grad, shape):
    """Sum `grad` over the axes along which an array of `shape` was stretched; the result has `shape`."""
    if grad.shape == shape:
        return grad
    extra = grad.ndim - len(shape)
    stretched = tuple(i for i in range(grad.ndim) if i < extra or (shape[i - extra] == 1 and grad.shape[i] != 1))
    return grad.sum(axis=stretched).reshape(shape)


class AddBackward(Function, op="add"):
    """out = a + b, so da = grad and db = grad."""

    def backward(self, grad):
        a, b = self.inputs
        return unbroadcast(grad, a.shape), unbroadcast(grad, b.shape)


class SubBackward(Function, op="sub"):
    """out = a - b, so da = grad and db = -grad."""

    def backward(self, grad):
        a, b = self.inputs
        return (
            unbroadcast(grad, a.shape) if a.requires_grad else None,
            -unbroadcast(grad, b.shape) if b.requires_grad else None,
        )


class MulBackward(Function, op="mul"):
    """out = a * b, so da = grad * b and db = grad * a."""

    def backward(self, grad):
        a, b = self.inputs
        return (
            unbroadcast(grad * b.data, a.shape) if a.requires_grad else None,
            unbroadcast(grad * a.data, b.shape) if b.requires_grad else None,
        )


class DivBackward(Function, op="div"):
    """out = a / b, so da = grad / b and db = -grad * a / b^2."""

    def backward(self, grad):
        a, b = self.inputs
        da = grad / b.data
        return (
            unbroadcast(da, a.shape) if a.requires_grad else None,
            unbroadcast(-da * (a.data / b.data), b.shape) if b.requires_grad else None,
        )


class NegBackward(Function, op="neg"):
    """out = -x, so dx = -grad."""

    def backward(self, grad):
        return -grad


class PowBackward(Function, op="pow"):
    """out = a^b, so da = grad * b * a^(b-1) and db = grad * a^b * log(a), which is 0 where a is 0."""

    def backward(self, grad):
        a, b = self.inputs
        da = db = None
        if a.requires_grad:
            slope = b.data * power(a.data, np.where(b.data == 0, 1, b.data - 1))  # 0 * x^0: no 0^-1 on the way
            da = unbroadcast(grad * slope.astype(a.dtype, copy=False), a.shape)
        if b.requires_grad:
            base = np.where(a.data > 0, a.data, 1)
            db = unbroadcast(grad * (np.where(a.data > 0, base**b.data, 0) * np.log(base)), b.shape)
        return da, db


class ExpBackward(Function, op="exp"):
    """out = e^x is its own derivative: dx = grad * out."""

    def backward(self, grad):
        return grad * self.saved["out"]


class LogBackward(Function, op="log"):
    """out = log(x), so dx = grad / x."""

    def backward(self, grad):
        (x,) = self.inputs
        return grad / x.data


class SqrtBackward(Function, op="sqrt"):
    """out = sqrt(x), so dx = grad / (2 out)."""

    def backward(self, grad):
        return grad / (2 * self.saved["out"])


class AbsBackward(Function, op="abs"):
    """out = |x|, so dx = grad * sign(x)."""

    def backward(self, grad):
        (x,) = self.inputs
        return grad * np.sign(x.data)


class MatmulBackward(Function, op="matmul"):
    """out = a @ b, so da = grad @ b^T and db = a^T @ grad; leading axes that broadcast are summed over.

    A vector on the left is a row, on the right a column.
    """

    def backward(self, grad):
        a, b = self.inputs
        x = a.data[None, :] if a.ndim == 1 else a.data
        y = b.data[:, None] if b.ndim == 1 else b.data
        if a.ndim == 1:
            grad = np.expand_dims(grad, -1 if b.ndim == 1 else -2)
        if b.ndim == 1:
            grad = np.expand_dims(grad, -1)
        dx = dy = None
        if x.ndim > 2 and y.ndim == 2:  # as in the forward pass: one large product
            grad = grad.reshape(-1, grad.shape[-1])
            x = x.reshape(-1, x.shape[-1])
        if a.requires_grad:
            dx = grad @ y.swapaxes(-1, -2)
            dx = dx.reshape(a.shape) if dx.size == a.size else unbroadcast(dx, x.shape).reshape(a.shape)
        if b.requires_grad:
            dy = unbroadcast(x.swapaxes(-1, -2) @ grad, y.shape).reshape(b.shape)
        return dx, dy


def stretch(grad, shape, axis):
    """`grad` of a reduction over `axis` (None: all), stretched back to the `shape` it was reduced from: a view."""
    kept = [1 if axis is None or i in axis else n for i, n in enumerate(shape)]
    return np.broadcast_to(grad.reshape(kept), shape)


class SumBackward(Function, op="sum"):
    """Every element counts once in its sum, so dx is grad, stretched back over the axis summed."""

    def backward(self, grad):
        (x,) = self.inputs
        return stretch(grad, x.shape, self.saved["axis"])


class MeanBackward(Function, op="mean"):
    """Every element counts 1/n in its mean, so dx is grad / n, stretched back."""

    def backward(self, grad):
        (x,) = self.inputs
        return stretch(grad / self.saved["count"], x.shape, self.saved["axis"])


class VarBackward(Function, op="var"):
    """out = sum (x - mean)^2 / count. The mean moves too, but its share sums to 0: dx = 2 grad (x - mean) / count."""

    def backward(self, grad):
        (x,) = self.inputs
        slope = grad * (2 / self.saved["count"])
        return (x.data - self.saved["center"]) * stretch(slope, x.shape, self.saved["axis"])


class MaxBackward(Function, op="max"):
    """Only the largest elements count; those that tie share grad equally."""

    def backward(self, grad):
        (x,) = self.inputs
        axis = self.saved["axis"]
        share = (x.data == self.saved["extreme"]).astype(grad.dtype)
        share /= share.sum(axis=axis, keepdims=True)
        share *= stretch(grad, x.shape, axis)
        return share


class MinBackward(MaxBackward, op="min"):
    """As for the maximum, with the smallest elements."""


class CumsumBackward(Function, op="cumsum"):
    """Element i is in every running sum from i on, so dx is the running sum of grad from the other end."""

    def backward(self, grad):
        axis = self.saved["axis"]
        return np.flip(np.flip(grad, axis).cumsum(axis), axis)


class LogsumexpBackward(Function, op="logsumexp"):
    """out = log(sum e^x), so dx = grad * e^(x - out), the softmax of x; zeros where all x are -inf."""

    def backward(self, grad):
        (x,) = self.inputs
        out = self.saved["out"]
        dx = np.exp(x.data - np.where(np.isfinite(out), out, 0))
        dx *= stretch(grad, x.shape, self.saved["axis"])
        return dx


class CopyBackward(Function, op="copy"):
    """The same values: dx = grad."""

    def backward(self, grad):
        return grad


class AstypeBackward(Function, op="astype"):
    """The same values in another dtype: dx is grad in the dtype of x."""

    def backward(self, grad):
        return grad.astype(self.inputs[0].dtype)


class ReshapeBackward(Function, op="reshape"):
    """The same elements: dx is grad in the shape of x."""

    def backward(self, grad):
        return grad.reshape(self.inputs[0].shape)


class PermuteBackward(Function, op="permute"):
    """The axes of grad, put back where they came from."""

    def backward(self, grad):
        axes = self.saved["axes"]
        return grad.transpose(sorted(range(len(axes)), key=axes.__getitem__))


class BroadcastToBackward(Function, op="broadcast_to"):
    """Stretching copies, so dx sums over the copies."""

    def backward(self, grad):
        return unbroadcast(grad, self.inputs[0].shape)


class CatBackward(Function, op="cat"):
    """grad, cut where the inputs met."""

    def backward(self, grad):
        axis = self.saved["axis"]
        stops = itertools.accumulate(x.shape[axis] for x in self.inputs)
        return tuple(np.split(grad, list(stops)[:-1], axis=axis))


class PadBackward(Function, op="pad"):
    """grad without the border."""

    def backward(self, grad):
        x, widths = self.inputs[0], self.saved["widths"]
        return grad[tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape))]


def add_at(target, index, values):
    """target[index] += values in place, where an element named several times receives every one of its values."""
    if isinstance(index, np.ndarray) and index.dtype.kind in "iu" and target[:1].size >= 64:
        for row, value in zip(index.ravel().tolist(), values.reshape(-1, *target.shape[1:])):
            target[row] += value  # for long rows faster than np.add.at
    else:
        np.add.at(target, index, values)


class GetitemBackward(Function, op="getitem"):
    """out = x[index]: what was taken gets its grad back, several times taken adds up, the rest gets 0."""

    def backward(self, grad):
        (x,), index = self.inputs, self.saved["index"]
        dx = np.zeros_like(x.data)
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, np.ndarray) and part.dtype.kind in "iu" for part in parts):
            add_at(dx, index, grad)
        else:
            dx[index] = grad
        return dx


class WhereBackward(Function, op="where"):
    """grad goes to the side that was taken."""

    def backward(self, grad):
        (a, b), condition = self.inputs, self.saved["condition"]
        return (
            unbroadcast(np.where(condition, grad, 0), a.shape) if a.requires_grad else None,
            unbroadcast(np.where(condition, 0, grad), b.shape) if b.requires_grad else None,
        )


class ClipBackward(Function, op="clip"):
    """Inside the bounds grad passes, outside nothing moves."""

    def backward(self, grad):
        (x,), low, high = self.inputs, self.saved["min"], self.saved["max"]
        inside = np.ones_like(x.data, dtype=bool) if low is None else x.data >= low
        return grad * (inside if high is None else inside & (x.data <= high))


class ScatterAddBackward(Function, op="scatter_add"):
    """x passes through; each element of src reads the place it was added to."""

    def backward(self, grad):
        return grad, grad[self.saved["where"]]


class EinsumBackward(Function, op="einsum"):
    """The gradient of one factor is the einsum of grad with all the others, summed to the indices of that factor."""

    def backward(self, grad):
        inputs, output = self.saved["inputs"], self.saved["output"]
        grads = []
        for i, x in enumerate(self.inputs):
            if not x.requires_grad:
                grads.append(None)
                continue
            others = [y.data for j, y in enumerate(self.inputs) if j != i]
            terms = [output, *(names for j, names in enumerate(inputs) if j != i)]
            known = "".join(name for name in inputs[i] if any(name in term for term in terms))
            dx = np.einsum(f"{','.join(terms)}->{known}", grad, *others, optimize=bool(others))
            kept = [dx.shape[known.index(name)] if name in known else 1 for name in inputs[i]]
            summed = tuple(1 if name not in known else n for name, n in zip(inputs[i], x.shape))
            grads.append(np.broadcast_to(unbroadcast(dx.reshape(kept), summed), x.shape))
        return tuple(grads)


class ReLUBackward(Function, op="relu"):
    """out = max(x, 0), so dx = grad where out > 0 and 0 elsewhere."""

    def backward(self, grad):
        return grad * (self.saved["out"] > 0)


class LeakyReLUBackward(Function, op="leaky_relu"):
    """dx = grad where x > 0, and negative_slope * grad elsewhere."""

    def backward(self, grad):
        (x,) = self.inputs
        slope = (x.data > 0).astype(grad.dtype)
        return grad * np.maximum(slope, self.saved["negative_slope"])


class SigmoidBackward(Function, op="sigmoid"):
    """out = 1 / (1 + e^-x) has the slope out (1 - out): dx = grad * out * (1 - out)."""

    def backward(self, grad):
        out = self.saved["out"]
        dx = 1 - out
        dx *= out
        dx *= grad
        return dx


class TanhBackward(Function, op="tanh"):
    """dx = grad * (1 - out^2)."""

    def backward(self, grad):
        out = self.saved["out"]
        dx = 1 - out * out
        dx *= grad
        return dx


class SoftplusBackward(Function, op="softplus"):
    """out = log(1 + e^x), so 1 - e^-out is sigmoid(x), its slope: dx = grad * (1 - e^-out)."""

    def backward(self, grad):
        return grad * -np.expm1(-self.saved["out"])


class SiLUBackward(Function, op="silu"):
    """out = x * gate with gate = sigmoid(x), so dx = grad * gate * (1 + x (1 - gate))."""

    def backward(self, grad):
        (x,), gate = self.inputs, self.saved["gate"]
        dx = np.clip(x.data, -1000, 1000)  # as in the forward pass: further out the gate is 0 or 1, and 0 * inf is NaN
        dx *= 1 - gate
        dx += 1
        dx *= gate
        dx *= grad
        return dx


class GELUBackward(Function, op="gelu"):
    """out = x * gate with gate = sigmoid(v) and v = 2 sqrt(2/pi) (x + 0.044715 x^3), so
    dx = grad * gate * (1 + x (1 - gate) dv/dx).
    """

    def backward(self, grad):
        (x,), gate = self.inputs, self.saved["gate"]
        near = np.clip(x.data, -1000, 1000)  # as in the forward pass
        dx = near * near
        dx *= 3 * 0.044715
        dx += 1
        dx *= near
        dx *= 2 * math.sqrt(2 / math.pi)
        dx *= 1 - gate
        dx += 1
        dx *= gate
        dx *= grad
        return dx


class SoftmaxBackward(Function, op="softmax"):
    """out_i = e^x_i / sum e^x. Raising one share lowers all others: dx = out * (grad - sum(grad * out))."""

    def backward(self, grad):
        out, axis = self.saved["out"], self.saved["axis"]
        dx = out * grad
        dx -= out * dx.sum(axis=axis, keepdims=True)
        return dx


class LogSoftmaxBackward(Function, op="log_softmax"):
    """out = x - log(sum e^x), so dx = grad - softmax(x) * sum(grad), and softmax(x) is e^out."""

    def backward(self, grad):
        dx = np.exp(self.saved["out"])
        dx *= grad.sum(axis=self.saved["axis"], keepdims=True)
        return np.subtract(grad, dx, out=dx)


class LinearBackward(Function, op="linear"):
    """out = x W + b, so dx = grad W^T, dW = x^T grad, db = the sum of grad over all rows."""

    def backward(self, grad):
        x, weight = self.inputs[:2]
        rows = x.data.reshape(-1, x.shape[-1])
        grad = grad.reshape(-1, grad.shape[-1])
        dx = (grad @ weight.data.T).reshape(x.shape) if x.requires_grad else None
        dweight = rows.T @ grad if weight.requires_grad else None
        if len(self.inputs) == 2:
            return dx, dweight
        return dx, dweight, np.ones_like(grad, shape=len(grad)) @ grad  # faster than grad.sum(axis=0)


class DropoutBackward(Function, op="dropout"):
    """out = x * mask, with the mask 0 or 1 / (1 - p), so dx = grad * mask."""

    def backward(self, grad):
        return grad * self.saved["mask"]


class MSELossBackward(Function, op="mse_loss"):
    """(pred - target)^2 has the slope 2 (pred - target), times each element's share in the result; dtarget = -dpred."""

    def backward(self, grad):
        dpred = self.saved["distance"] * (2 * self.saved["share"] * grad)
        return dpred, -dpred if self.inputs[1].requires_grad else None


class HuberLossBackward(Function, op="huber_loss"):
    """The slope is pred - target, held between -delta and delta."""

    def backward(self, grad):
        dpred = self.saved["slope"] * (self.saved["share"] * grad)
        return dpred, -dpred if self.inputs[1].requires_grad else None


class BinaryCrossEntropyBackward(Function, op="binary_cross_entropy"):
    """dp = (p - t) / (p (1 - p)), finite at 0 and 1 as in PyTorch, dt = log(1 - p) - log(p); both times the share."""

    def backward(self, grad):
        (prob, target), saved = self.inputs, self.saved
        p, t = prob.data, target.data
        grad = saved["share"] * grad
        dtarget = (saved["no"] - saved["yes"]) * grad if target.requires_grad else None
        return (p - t) / np.maximum(p * (1 - p), 1e-12) * grad, dtarget


class BCEWithLogitsBackward(Function, op="binary_cross_entropy_with_logits"):
    """softplus(x) - t x has the slope sigmoid(x) - t, times the share; dt = -x."""

    def backward(self, grad):
        (logits, target), saved = self.inputs, self.saved
        grad = saved["share"] * grad
        dlogits = -np.expm1(-saved["softplus"])  # sigmoid(x), as in SoftplusBackward
        dlogits -= target.data
        dlogits *= grad
        return dlogits, -logits.data * grad if target.requires_grad else None


class CrossEntropyBackward(Function, op="cross_entropy"):
    """dlogits = softmax - onehot, times each row's share in the result: what the model believes minus what is true."""

    def backward(self, grad):
        (x,), rows, dx = self.inputs, self.saved["rows"], self.saved["exps"]
        grad = grad.reshape(-1) * self.saved["shares"]  # one number, or one per row
        dx *= np.expand_dims(grad / self.saved["totals"], 1)  # e^x / sum is the softmax; nobody else holds this array
        dx[np.arange(len(rows)), rows] -= grad
        return dx.reshape(x.shape)


class KLDivBackward(Function, op="kl_div"):
    """t (log t - x) has the slopes -t for x and log t - x + 1 for t, times each element's share in the result."""

    def backward(self, grad):
        target, saved = self.inputs[1], self.saved
        grad = saved["share"] * grad
        return -target.data * grad, (saved["surprise"] + 1) * grad if target.requires_grad else None


def _freed(node):
    return RuntimeError(
        f"backward reached {node} a second time, but a graph is freed as it is walked. "
        "Add the losses and call backward once, or compute the forward pass again"
    )


def _changed(node):
    return RuntimeError(
        f"an input of {node} was changed in place after it was used, so its gradient cannot be computed. "
        "Change tensors after backward, or write x = x + y instead of changing x"
    )


def _refuse_written(root, nodes):
    """Raise if memory that the rules read was written to after their birth, through a view or a detached tensor."""
    last = max((when for _, when in list(written.values())), default=0)
    for node in nodes:
        if node.birth < last:  # mostly nothing was written since, and this loop has nothing to do
            for x in (*node.inputs, root) if node is root._grad_fn else node.inputs:
                if written.get(id(_memory(x._data)), (None, 0))[1] > node.birth:
                    raise _changed(node)


def _history(root, stop=()):
    """The rules that `root` was computed by, latest first; what `stop` holds is not entered.

    An operation comes after all that it was computed from, so the order of birth is a topological order, and no
    recursion is needed. Everything is checked here, before any gradient is computed.
    """
    if root._version:
        raise RuntimeError("the tensor that backward starts from was changed in place after it was computed")
    found = {root._grad_fn}
    unvisited = [root._grad_fn]
    while unvisited:
        node = unvisited.pop()
        if node.inputs is None:
            raise _freed(node)
        version = 0
        for x in node.inputs:
            version += x._version
            earlier = x._grad_fn
            if earlier is None:
                continue
            if x._version:  # a result is born with version 0, and its rule may have saved the array that changed
                version = math.nan
            if earlier not in found and earlier not in stop:
                found.add(earlier)
                unvisited.append(earlier)
        if version != node.version:
            raise _changed(node)
    return sorted(found, key=attrgetter("birth"), reverse=True)


def _gradients(root, seed, keep=(), stop=()):
    """Run the rules from `root` back: a dictionary from each leaf, and each rule in `keep`, to its gradient.

    A tensor's gradient is collected under its rule, or under the tensor itself if it is a leaf. Also returned: the
    keys whose arrays belong to nobody else and may be changed in place.
    """
    grads = {root._grad_fn: seed}
    own, kept = set(), {}
    order = _history(root, stop)
    _refuse_written(root, order)
    for node in order:
        grad = grads.pop(node)
        if node in keep:
            kept[node] = grad
        dinputs = node.apply(grad)
        distinct = len(dinputs) == 1 or len(set(map(id, dinputs))) == len(dinputs)
        for x, dx in zip(node.inputs, dinputs):
            if not x._requires_grad:
                continue
            key = x._grad_fn or x
            if key not in grads:
                grads[key] = dx
                if distinct and dx is not grad and dx.base is None:
                    own.add(key)
            elif key in own:
                grads[key] += dx
            else:
                grads[key] = grads[key] + dx
                own.add(key)
        node.inputs = node.saved = None
    own.difference_update(kept)
    return grads | kept, own


def _seed(tensor, gradient, who):
    """The gradient to start from: 1 for a single number, otherwise the one given, checked."""
    if not tensor.requires_grad:
        raise RuntimeError(
            f"{who} needs a tensor that depends on one with requires_grad=True, and was computed outside no_grad(); "
            f"this one, of shape {tensor.shape}, has no history"
        )
    if gradient is None:
        if tensor.size != 1:
            raise RuntimeError(
                f"{who} starts from a single number, got shape {tensor.shape}; "
                "reduce it with .mean() or .sum(), or pass the gradient of that shape"
            )
        return np.ones_like(tensor.data)
    gradient = as_array(gradient, tensor.dtype)
    if gradient.shape != tensor.shape:
        raise ValueError(f"{who} needs a gradient of shape {tensor.shape}, got {gradient.shape}")
    return gradient


def backward(tensor, gradient=None):
    """Add d(tensor)/d(leaf) to the `grad` of every leaf that `tensor` was computed from.

    gradient   d(loss)/d(tensor), shaped as it; may be left out for a single number, where it is 1

    Each rule lets go of its arrays once it has run, so a graph can be walked once. If anything is wrong (no history,
    a graph already freed, an input changed in place, a rule that returns the wrong shape), RuntimeError says what,
    and no `grad` has changed.
    """
    seed = _seed(tensor, gradient, "backward")
    if tensor._grad_fn is None:
        grads, own = {tensor: seed}, {tensor}
    else:
        retained = _retained(tensor)
        grads, own = _gradients(tensor, seed, keep=retained)
        grads = {retained.get(key, key): grad for key, grad in grads.items()}
    for x, grad in grads.items():
        if x.grad is None:
            x.grad = np.asarray(grad) if x in own else np.array(grad)
        else:
            x.grad = x.grad + grad if x.grad.ndim == 0 else np.add(x.grad, grad, out=x.grad)


def _retained(root):
    """From rule to tensor, for the computed tensors in the history of `root` that asked to keep their gradients."""
    tensors = [root, *(x for node in _history(root) for x in node.inputs)]
    return {x._grad_fn: x for x in tensors if x._retains_grad and x._grad_fn is not None}


def grad(output, inputs, gradient=None):
    """d(output)/d(input) for each of `inputs` (a tensor or a sequence of them), leaving every `.grad` alone.

    Returns a list of ndarrays, or one ndarray for one tensor. Raises RuntimeError if `output` does not depend on one.
    """
    tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    seed = _seed(output, gradient, "grad")
    if output._grad_fn is None:
        grads = {output: seed}
    else:
        grads, _ = _gradients(output, seed, keep={x._grad_fn for x in tensors if x._grad_fn is not None})
    for i, x in enumerate(tensors):
        if (x._grad_fn or x) not in grads:
            raise RuntimeError(f"grad: the output does not depend on input {i}, of shape {x.shape}")
    found = [np.array(grads[x._grad_fn or x]) for x in tensors]
    return found[0] if isinstance(inputs, Tensor) else found


def checkpoint(f, *inputs):
    """f(*inputs), keeping only the inputs: `backward` computes f again instead of holding its intermediate arrays.

    f takes tensors and returns one tensor; random numbers drawn inside are drawn again alike. Tensors that f reaches
    on its own, such as a layer's parameters, receive their gradients too. (Chen et al. 2016)
    """
    if not is_grad_enabled():
        return f(*inputs)
    captured = {}

    def notice(out, op, tensors, saved):
        captured.update((id(x), x) for x in tensors if x._requires_grad)

    state = generator().bit_generator.state
    recorder = set_recorder(notice)
    try:
        out = f(*inputs)
    finally:
        set_recorder(recorder)
    if out._requires_grad:  # nothing computed here does: f returns a tensor as it found it
        captured[id(out)] = out
    for x in inputs:
        captured.pop(id(x), None)
    return result(out.data, "checkpoint", *inputs, *captured.values(), f=f, given=len(inputs), state=state)


class CheckpointBackward(Function, op="checkpoint"):
    """Compute f again, recorded this time, and send grad back through it as far as the inputs."""

    def backward(self, grad):
        given = self.saved["given"]
        leaves = [Tensor(x, requires_grad=x.requires_grad, dtype=x.dtype) for x in self.inputs[:given]]
        random = generator().bit_generator
        now, random.state = random.state, self.saved["state"]
        recorder = set_recorder(record)
        try:
            out = self.saved["f"](*leaves)
        finally:
            set_recorder(recorder)
            random.state = now
        keys = [x._grad_fn or x for x in (*leaves, *self.inputs[given:])]
        stop, root = set(keys), out._grad_fn or out
        if root is out or root in stop:  # f computed nothing: it returned an input, or what has no history
            grads = {root: grad}
        else:
            grads, _ = _gradients(out, grad, stop=stop)
        return tuple(
            grads.get(key, np.zeros_like(x.data)) if x.requires_grad else None for key, x in zip(keys, self.inputs)
        )


def gradcheck(f, inputs, eps=1e-6, rtol=1e-6):
    """Whether the gradients of f agree with finite differences at `inputs` (a tensor, array, or sequence of them).

    f      takes tensors, returns a tensor of any shape
    eps    step of the central difference, taken in float64
    rtol   largest error allowed, relative to the larger of 1 and the two derivatives

    Returns True. Raises RuntimeError that names the input, the place, and both numbers.
    """
    if isinstance(inputs, (Tensor, np.ndarray, float)):
        inputs = [inputs]
    inputs = [Tensor(x, requires_grad=True, dtype=np.float64) for x in inputs]
    out = f(*inputs)
    weight = np.random.default_rng(0).uniform(0.5, 1.5, out.shape)  # every output element counts, none alike
    exact = grad(out, inputs, weight)
    for i, x in enumerate(inputs):
        for place in np.ndindex(x.shape):
            value = x.data[place]
            with no_grad():
                x.data[place] = value + eps
                above = (f(*inputs).data * weight).sum()
                x.data[place] = value - eps
                below = (f(*inputs).data * weight).sum()
            x.data[place] = value
            slope = (above - below) / (2 * eps)
            error = abs(slope - exact[i][place]) / max(1.0, abs(slope), abs(exact[i][place]))
            if not error <= rtol:
                raise RuntimeError(
                    f"gradcheck: at {place} of input {i}, backward gives {exact[i][place]:.9g} "
                    f"and finite differences {slope:.9g}, a relative error of {error:.1e} (allowed {rtol:.0e})"
                )
    return True


class Graph:
    """A drawing of how a tensor was computed: `str` is Mermaid text, `dot` Graphviz; notebooks show the picture."""

    def __init__(self, tensor):
        self._names = {}  # from tensor, or the rule that computed it, to (name, label)
        self._arrows = []  # (from, to, shape)
        self._add(tensor)
        unvisited, seen = [tensor._grad_fn], set()
        while unvisited:
            node = unvisited.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            for x in node.inputs or ():
                self._arrows.append((self._add(x), self._names[node][0], list(x.shape)))
                unvisited.append(x._grad_fn)

    def _add(self, tensor):
        key = tensor._grad_fn or tensor
        if key not in self._names:
            kind = "leaf" if tensor.requires_grad else "data"
            label = f"{kind} {list(tensor.shape)}" if key is tensor else type(key).__name__.removesuffix("Backward")
            self._names[key] = f"n{len(self._names)}", label
        return self._names[key][0]

    def __str__(self):
        nodes = [f'  {name}["{label}"]' for name, label in self._names.values()]
        return "\n".join(["graph LR", *nodes, *(f'  {a} -->|"{shape}"| {b}' for a, b, shape in self._arrows)])

    __repr__ = __str__

    @property
    def dot(self):
        nodes = [f'  {name} [label="{label}", shape=box];' for name, label in self._names.values()]
        arrows = [f'  {a} -> {b} [label="{shape}"];' for a, b, shape in self._arrows]
        return "\n".join(["digraph {", "  rankdir=LR;", *nodes, *arrows, "}"])

    def _repr_mimebundle_(self, include=None, exclude=None):
        bundle = {"text/plain": str(self), "text/vnd.mermaid": str(self)}
        if shutil.which("dot"):
            drawn = subprocess.run(["dot", "-Tsvg"], input=self.dot, capture_output=True, text=True, check=True)
            bundle["image/svg+xml"] = drawn.stdout
        return bundle


def graph(tensor):
    """The history of `tensor` as a `Graph`: leaves, data and operations, with the shapes that flow between them."""
    return Graph(tensor)
