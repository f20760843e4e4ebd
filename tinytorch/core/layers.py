# Generated from modules/03_layers/03_layers.py by `tito export`. To change this file, edit the lesson and export again.
"""Layers: functions that own the numbers they will learn.

`Module` finds parameters and layers inside layers by walking attributes, lists, tuples and dictionaries; nothing has to
be registered and `super().__init__()` need not be called. What it finds:

    parameter   a Tensor whose `requires_grad` was ever set: trained, or frozen for now
    buffer      a NumPy array in a public attribute: saved with the model, not trained
    layer       any object with a method `parameters()`, this library's or not
"""

import math
import reprlib

import numpy as np

from tinytorch.core.tensor import Tensor, astype, flatten, floating, generator, result


def _one_dtype(a, b):
    """Two tensors in the wider of their dtypes."""
    if a.dtype == b.dtype:
        return a, b
    dtype = np.result_type(a.dtype, b.dtype)
    return astype(a, dtype), astype(b, dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight + bias, as one operation.

    x       (..., in)      any leading shape; many axes are flattened into one large matrix product
    weight  (in, out)
    bias    (out,) or None
    returns (..., out)

    Raises ValueError where the shapes do not fit.
    """
    x, weight = floating(x), floating(weight)
    if weight.ndim != 2:
        raise ValueError(f"linear needs a weight (in, out), got shape {weight.shape}")
    fan_in, fan_out = weight.shape
    if x.ndim == 0 or x.shape[-1] != fan_in:
        raise ValueError(f"Linear({fan_in}, {fan_out}) needs inputs (..., {fan_in}), got {x.shape}")
    x, weight = _one_dtype(x, weight)
    if bias is not None:
        bias = floating(bias)
        if bias.shape != (fan_out,):
            raise ValueError(f"Linear({fan_in}, {fan_out}) needs a bias ({fan_out},), got {bias.shape}")
        x, bias = _one_dtype(x, bias)
    rows = x.data if x.ndim == 2 else x.data.reshape(-1, fan_in)
    out = rows @ weight.data
    if bias is not None:
        out += bias.data
    if x.ndim != 2:
        out = out.reshape(*x.shape[:-1], fan_out)
    return result(out, "linear", x, weight) if bias is None else result(out, "linear", x, weight, bias)


def _fans(shape):
    """How many numbers each output is summed from, and how many outputs each input goes to.

    (in, out) for matrices; (out, in, K, ...) for convolution kernels, where every position of the kernel counts.
    """
    if len(shape) < 2:
        raise ValueError(f"an initialiser needs a shape of at least two axes, got {tuple(shape)}")
    if len(shape) == 2:
        return shape
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _uniform(shape, bound, rng):
    array = generator(rng).uniform(-bound, bound, shape).astype(np.float32)
    return Tensor(array, requires_grad=True)


def _normal(shape, std, rng):
    array = generator(rng).normal(0, std, shape).astype(np.float32)
    return Tensor(array, requires_grad=True)


def kaiming_uniform(shape: tuple, gain: float = math.sqrt(2), rng=None) -> Tensor:
    """A parameter drawn from U(-b, b) with variance gain^2 / fan_in, so that signals keep their size going forward.

    shape   (in, out), or (out, in, K, ...) for convolutions
    gain    sqrt(2) makes up for a relu, which halves the signal's mean square; 1 for no bend

    (He et al. 2015)
    """
    fan_in, _ = _fans(shape)
    return _uniform(shape, gain * math.sqrt(3 / fan_in), rng)


def kaiming_normal(shape: tuple, gain: float = math.sqrt(2), rng=None) -> Tensor:
    """A parameter drawn from a normal distribution with variance gain^2 / fan_in. (He et al. 2015)"""
    fan_in, _ = _fans(shape)
    return _normal(shape, gain / math.sqrt(fan_in), rng)


def xavier_uniform(shape: tuple, gain: float = 1.0, rng=None) -> Tensor:
    """A parameter drawn from U(-b, b) with variance 2 gain^2 / (fan_in + fan_out): a compromise between the size of
    signals going forward and of gradients going back. (Glorot & Bengio 2010)
    """
    return _uniform(shape, gain * math.sqrt(6 / sum(_fans(shape))), rng)


def xavier_normal(shape: tuple, gain: float = 1.0, rng=None) -> Tensor:
    """A parameter drawn from a normal distribution with variance 2 gain^2 / (fan_in + fan_out). (the same paper)"""
    return _normal(shape, gain * math.sqrt(2 / sum(_fans(shape))), rng)


def _is_layer(thing):
    return callable(getattr(thing, "parameters", None)) and not isinstance(thing, type)


def _is_parameter(thing):
    """A tensor somebody asked gradients for. A frozen one still counts; a mask, a table or a cached result does not."""
    return isinstance(thing, Tensor) and thing._grad_fn is None and "_requires_grad" in vars(thing)


def _inside(thing):
    """The (key, part) pairs directly inside a container or layer; nothing inside anything else."""
    if isinstance(thing, (list, tuple)):
        return list(enumerate(thing))
    if isinstance(thing, dict):
        return list(thing.items())
    if not _is_layer(thing):
        return []
    pairs = list(getattr(thing, "__dict__", {}).items())
    if not isinstance(thing, Module):  # somebody else's layer may hold its parameters where we do not look
        pairs += enumerate(thing.parameters())
    return pairs


def walk(root, deep=True):
    """Everything reachable from `root`, each object once, as (dotted name, object); the root's name is empty.

    Looks into the attributes of layers, and into lists, tuples and dicts, in the order in which things were put there.
    With deep=False layers inside are listed and not entered.
    """
    seen = {}  # from id to object, which keeps the ids from being given to others
    waiting = [("", root)]
    while waiting:
        name, thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        yield name, thing
        if deep or thing is root or not _is_layer(thing):
            parts = [(f"{name}.{key}" if name else str(key), part) for key, part in _inside(thing)]
            waiting.extend(reversed(parts))


class _Hook:
    """What `register_forward_hook` hands back: `remove()` takes the hook away again."""

    def __init__(self, hooks, function):
        self._hooks = hooks
        self._key = object()
        hooks[self._key] = function

    def remove(self):
        self._hooks.pop(self._key, None)


class Module:
    """A layer or a whole model: write `forward`, put tensors and layers into attributes, and the rest works.

    Calling a module calls `forward`. `training` tells layers such as dropout whether the model is being trained;
    `train()` and `eval()` set it here and in every layer inside.
    """

    training = True
    _hooks = {}  # shared by all modules without hooks, and never written to

    def forward(self, *inputs):
        raise NotImplementedError(f"{type(self).__name__} does not say what forward computes")

    def __call__(self, *inputs, **options):
        out = self.forward(*inputs, **options)
        if self._hooks:
            for hook in list(self._hooks.values()):
                changed = hook(self, inputs, out)
                out = out if changed is None else changed
        return out

    def register_forward_hook(self, hook):
        """Call hook(module, inputs, output) after every forward; what it returns, unless None, replaces the output.

        Returns a handle; `handle.remove()` ends it.
        """
        if "_hooks" not in vars(self):
            self._hooks = {}
        return _Hook(self._hooks, hook)

    # What is inside

    def named_parameters(self):
        """(dotted name, tensor) for every parameter, here and in the layers inside; a shared one once."""
        return [(name, thing) for name, thing in walk(self) if _is_parameter(thing)]

    def parameters(self):
        """Every tensor to be trained, here and in the layers inside; a shared one once."""
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self):
        """(dotted name, array) for every buffer: NumPy arrays in public attributes of this and the layers inside."""
        found = []
        for name, layer in self.named_modules():
            for key, value in getattr(layer, "__dict__", {}).items():
                if isinstance(value, np.ndarray) and not key.startswith("_"):
                    found.append((f"{name}.{key}" if name else key, value))
        return found

    def buffers(self):
        """Every array that belongs to the state but is not trained, such as running statistics."""
        return [array for _, array in self.named_buffers()]

    def named_modules(self):
        """(dotted name, layer) for this module, whose name is empty, and every layer inside."""
        return [(name, thing) for name, thing in walk(self) if _is_layer(thing)]

    def modules(self):
        """This module and every layer inside."""
        return [layer for _, layer in self.named_modules()]

    def named_children(self):
        """(name, layer) for the layers directly inside."""
        return [(name, thing) for name, thing in walk(self, deep=False) if name and _is_layer(thing)]

    def children(self):
        """The layers directly inside."""
        return [layer for _, layer in self.named_children()]

    def num_parameters(self):
        """How many numbers the parameters hold."""
        return sum(parameter.size for parameter in self.parameters())

    # What can be done to all of it

    def train(self, mode=True):
        """Tell this module and all inside that training is on (or, with False, off). Returns the module."""
        for layer in self.modules():
            if isinstance(layer, Module):
                layer.training = mode
        return self

    def eval(self):
        """Tell this module and all inside that training is off. Returns the module."""
        return self.train(False)

    def zero_grad(self):
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.zero_grad()

    def requires_grad_(self, flag=True):
        """Freeze all parameters (False) or let them be trained again (True). Returns the module."""
        for parameter in self.parameters():
            parameter.requires_grad = flag
        return self

    # Saving and loading

    def state_dict(self):
        """A dictionary from dotted name to a copy of the array, for every parameter and buffer."""
        parameters = {name: parameter.data.copy() for name, parameter in self.named_parameters()}
        return parameters | {name: array.copy() for name, array in self.named_buffers()}

    def load_state_dict(self, state, strict=True):
        """Copy the arrays of `state` into the parameters and buffers of the same names.

        Everything is checked first: if a name is missing or unexpected (allowed with strict=False) or a shape or dtype
        does not fit, ValueError lists them all and nothing has changed. Returns (missing, unexpected) names.
        """
        targets = dict(self.named_parameters()) | dict(self.named_buffers())
        missing = [name for name in targets if name not in state]
        unexpected = [name for name in state if name not in targets]
        arrays = {name: np.asarray(state[name]) for name in targets if name in state}
        problems = []
        if strict:
            problems += [f"missing: {name} {targets[name].shape}" for name in missing]
            problems += [f"unexpected: {name}" for name in unexpected]
        for name, array in arrays.items():
            target = targets[name]
            if array.shape != target.shape:
                problems.append(f"shape: {name} is {target.shape} here and {array.shape} in the state")
            elif not np.can_cast(array.dtype, target.dtype, "same_kind"):
                problems.append(f"dtype: {name} is {target.dtype} here and {array.dtype} in the state")
        if problems:
            raise ValueError(f"load_state_dict: this state is not {type(self).__name__}'s:\n  " + "\n  ".join(problems))
        for name, array in arrays.items():
            target = targets[name]
            np.copyto(target.data if isinstance(target, Tensor) else target, array, casting="same_kind")
            if isinstance(target, Tensor):
                target._version += 1
        return missing, unexpected

    # Printing

    def extra_repr(self):
        """What the printed form says between the brackets: the settings."""
        return ""

    @reprlib.recursive_repr("...")
    def __repr__(self):
        lines = [f"({name}): " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        lines = [self.extra_repr(), *lines] if self.extra_repr() else lines
        return f"{type(self).__name__}(\n  " + "\n  ".join(lines) + "\n)"


def _positive(who, name, value):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{who} needs an integer {name}, got {value!r}")
    if value < 1:
        raise ValueError(f"{who} needs {name} of at least 1, got {value}")
    return int(value)


class Linear(Module):
    """x @ weight + bias: every output is a weighted sum of all inputs, plus an offset.

    weight (in_features, out_features) and bias (out_features,) start uniform in +-1 / sqrt(in_features), as in PyTorch.
    rng    a generator or seed to draw them from; the library's own by default
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, rng=None):
        self.in_features = _positive("Linear", "in_features", in_features)
        self.out_features = _positive("Linear", "out_features", out_features)
        rng = generator(rng)
        self.weight = kaiming_uniform((in_features, out_features), gain=1 / math.sqrt(3), rng=rng)
        self.bias = _uniform((out_features,), 1 / math.sqrt(in_features), rng) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)"""
        return linear(x, self.weight, self.bias)

    def extra_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def dropout(x: Tensor, p: float = 0.5, training: bool = True, rng=None) -> Tensor:
    """x with each element set to 0 with probability p and the others divided by 1 - p, so that the mean stays.

    Not training, or with p = 0, x itself; with p = 1 all zeros. Raises ValueError unless 0 <= p <= 1.
    (Srivastava et al. 2014)
    """
    x = floating(x)
    if not 0 <= p <= 1:
        raise ValueError(f"dropout needs a probability 0 <= p <= 1, got {p}")
    if not training or p == 0:
        return x
    keep = generator(rng).random(x.shape, dtype=np.float32) >= p
    mask = keep * x.dtype.type(1 / (1 - p) if p < 1 else 0)  # 0 or 1 / (1 - p), in the dtype of x
    return result(x.data * mask, "dropout", x, mask=mask)


class Dropout(Module):
    """`dropout` with probability p while training, nothing otherwise."""

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout needs a probability 0 <= p <= 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)

    def extra_repr(self):
        return f"p={self.p}"


class Identity(Module):
    """x, unchanged: a place holder."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class Flatten(Module):
    """Axes start_dim to end_dim as one: (N, C, H, W) -> (N, C * H * W) by default."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim = start_dim
        self.end_dim = end_dim

    def forward(self, x: Tensor) -> Tensor:
        return flatten(x, self.start_dim, self.end_dim)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Sequential(Module):
    """Layers one after the other, each fed with what the one before it returns: Sequential(Linear(4, 8), ReLU())."""

    def __init__(self, *layers):
        for layer in layers:
            self.append(layer)

    @property
    def layers(self):
        """The layers as a list."""
        return [layer for name, layer in vars(self).items() if name.isdecimal()]

    def append(self, layer):
        """One more layer at the end. Returns the module."""
        return self._put(len(self), layer)

    def _put(self, place, layer):
        if not callable(layer) or isinstance(layer, type):
            raise TypeError(f"Sequential needs layers, one by one: Sequential(Linear(4, 8), ReLU()); got {layer!r}")
        setattr(self, str(place), layer)  # named by number, as in PyTorch: "0.weight"
        return self

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.layers:
            out = layer(out)
        return out

    def __len__(self):
        return len(self.layers)

    def __iter__(self):
        return iter(self.layers)

    def __getitem__(self, index):
        """One layer, or for a slice a Sequential of the same layers."""
        layers = self.layers
        return Sequential(*layers[index]) if isinstance(index, slice) else layers[index]

    def __setitem__(self, index, layer):
        """Another layer in the place of number `index`."""
        self._put(range(len(self))[int(index)], layer)
