# ---
# jupyter:
#   jupytext:
#     cell_markers: '"""'
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
"""
# 03 · Layers: numbers that will be learnt

| | |
|---|---|
| **You have** | tensors (module 01) and the bends between layers (module 02) |
| **You will build** | `linear` and `dropout`, the starting values of weights, and `Module`: the class that finds every weight of a model, names it, saves it and loads it |
| **You will be able to** | build a network of any shape, say how many numbers it has and where they sit, and choose starting values under which a signal survives thirty layers |

Needs modules 01 and 02. Exports `core/layers.py`. Medium; about three hours.

```
   model                          what Module finds               named
   +--------------------------+
   | 0  Linear  weight, bias  |   weight (784, 512)               0.weight
   | 1  ReLU                  |   bias   (512,)                   0.bias
   | 2  Dropout               |
   | 3  Linear  weight, bias  |   weight (512, 10)                3.weight
   +--------------------------+   bias   (10,)                    3.bias
```

A layer is a function that owns numbers. The function is quickly written. Owning takes more thought: who is asked for
the numbers when they are to be trained, saved or counted, and what do they start from?
"""

# %%
#| default_exp core.layers

# %%
#| export
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

from tinytorch.core.tensor import Tensor, flatten, floating, floats, generator, result

# %%
import time

import matplotlib.pyplot as plt

from tinytorch.core.activations import ReLU, Tanh, relu
from tinytorch.core.tensor import manual_seed, ones, rand, randn

np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
"""
## The linear layer

Every output is a weighted sum of all inputs, plus an offset. Two examples with three features each, two outputs:

```
      x (2, 3)           W (3, 2)       b (2,)          x @ W + b

   [ 1  0  2 ]          [ 1   0 ]                     [ 1+0+2   0+0-2 ]          [ 13  -1 ]
   [ 0  1  1 ]    @     [ 3   5 ]   +  [10  1]    =   [ 0+3+1   0+5-1 ]  + b  =  [ 14   5 ]
                        [ 1  -1 ]
```

Each column of W belongs to one output. Our weights have the shape `(in, out)`, so that the formula reads from left to
right; PyTorch stores the transpose.

With module 01 this is already a line of code, `x @ weight + bias`: two operations, and between them an array that
nobody asked for. As *one* operation the bias is added into the product in place, and module 05 writes one rule for it.
And inputs with more axes, such as `(batch, time, features)`, are flattened into one tall matrix: one large product is
what the machine is best at.

**Write the heart of `linear`.** The arguments are checked and have one dtype: `rows` is the array of x, of any `shape`,
`matrix` that of the weight, `offset` that of the bias or None. Make `rows` a matrix with `fan_in` columns unless it is
one; multiply; add the offset in place if there is one; give `out` its leading axes back.

`linear(Tensor([[1.0, 0.0, 2.0]]), weight, bias)` with the numbers above is `Tensor([[13., -1.]])`; an x of shape
`(8, 5, 3)` gives `(8, 5, 2)`.

<details><summary>Hint 1</summary>

`rows.reshape(n, fan_in)` lines up all n rows, whatever the axes before them; n is the product of their lengths
(`math.prod`; -1 would do, but not where `fan_in` is 0).
</details>
<details><summary>Hint 2</summary>

Multiply `rows` by `matrix` (`rows.dot(matrix)` is a little faster than `@` where there is a single row); adding
`offset` to the result in place adds the same numbers to every row.
</details>
<details><summary>Hint 3</summary>

The way back is `out.reshape(*lead, fan_out)` with `lead = shape[:-1]`. For a vector x of shape `(3,)` that is `(2,)`:
right as well.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "layers-linear", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight + bias, as one operation.

    x       (..., in)      any leading shape; many axes are flattened into one large matrix product
    weight  (in, out)
    bias    (out,) or None
    returns (..., out)

    Raises ValueError where the shapes do not fit.
    """
    inputs = floats(x, weight) if bias is None else floats(x, weight, bias)
    rows, matrix, offset = inputs[0]._data, inputs[1]._data, None if bias is None else inputs[2]._data
    if matrix.ndim != 2:
        raise ValueError(f"linear needs a weight (in, out), got shape {matrix.shape}")
    shape, (fan_in, fan_out) = rows.shape, matrix.shape
    if not shape or shape[-1] != fan_in:
        raise ValueError(f"Linear({fan_in}, {fan_out}) needs inputs (..., {fan_in}), got {shape}")
    if offset is not None and offset.shape != (fan_out,):
        raise ValueError(f"Linear({fan_in}, {fan_out}) needs a bias ({fan_out},), got {offset.shape}")
    ### BEGIN SOLUTION
    lead = shape[:-1]
    if len(shape) != 2:
        rows = rows.reshape(math.prod(lead), fan_in)
    out = rows.dot(matrix)  # rows @ matrix, which has more to look after: with a single row that shows
    if offset is not None:
        out += offset
    if len(shape) != 2:
        out = out.reshape(*lead, fan_out)
    ### END SOLUTION
    return result(out, "linear", *inputs)


# %%
x = Tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])
weight = Tensor([[1.0, 0.0], [3.0, 5.0], [1.0, -1.0]])
bias = Tensor([10.0, 1.0])
print(linear(x, weight, bias))
print(linear(randn(8, 5, 3), weight, bias).shape)

# %% [markdown]
"""
What goes wrong in practice: the sizes do not fit. The message says which layer, what it needs and what came:
"""

# %%
try:
    linear(randn(32, 28, 28), weight, bias)
except ValueError as error:
    print(error)

# %% [markdown]
"""
## What should the weights start from?

Zero? Then the output is zero for every input. All equal to 0.5? Then all hidden units compute the same. Worse: they
stay the same. Here is the slope of a loss for each weight of the first layer, by moving that weight a little:
"""


# %%
def slopes(first, second, x, wanted, step=1e-3):
    """How fast the squared error grows with each weight of the first layer."""

    def error(weights):
        return (((relu(x @ weights) @ second) - wanted) ** 2).sum().item()

    found = np.zeros(first.shape)
    for place in np.ndindex(*first.shape):
        up, down = first.copy(), first.copy()
        up[place] += step
        down[place] -= step
        found[place] = (error(Tensor(up, dtype="float64")) - error(Tensor(down, dtype="float64"))) / (2 * step)
    return found


x = rand(5, 3, dtype=np.float64, rng=0)
wanted = rand(5, 1, dtype=np.float64, rng=1)
print("all weights 0.5:\n", slopes(np.full((3, 4), 0.5), np.full((4, 1), 0.5), x, wanted))
rng = np.random.default_rng(2)
print("random weights:\n", slopes(rng.uniform(0, 1, (3, 4)), rng.uniform(0, 1, (4, 1)), x, wanted))

# %% [markdown]
"""
Four equal columns: four units take four equal steps, for ever. A layer of 500 such units is one unit. So weights must
differ, and the cheapest way to differ is to be random.

### How random?

Follow the size of a signal, its mean square, through one layer without a bend. `out = sum of x_i w_i` over `fan_in`
inputs. If the weights have mean 0, variance v, and know nothing of x, products do not pull in one direction, so only
their squares add up:

```
   mean(out^2)  =  fan_in * v * mean(x^2)           a relu then halves it (it drops the negative half)
```

So with `v = 1 / fan_in` a linear layer keeps the size of the signal; before a relu it must be `v = 2 / fan_in`. In
general `v = gain^2 / fan_in`, and the gain of a relu is the square root of 2. That is Kaiming He's rule. For numbers
drawn evenly from -b to b the variance is `b^2 / 3`, hence `b = gain * sqrt(3 / fan_in)`.

Does a factor matter? It is multiplied once per layer. Thirty layers of 256 units, each time with other weights:
"""


# %%
def sizes(scale, depth=30, width=256):
    """The root mean square of a signal after each of `depth` layers with weights of standard deviation `scale`."""
    rng = np.random.default_rng(0)
    signal = randn(64, width, rng=rng)
    found = []
    for _ in range(depth):
        signal = relu(signal @ Tensor(rng.normal(0, scale, (width, width))))
        found.append(float(np.sqrt((signal.data**2).mean())))
    return found


right = np.sqrt(2 / 256)
print("standard deviation                 after layer 1         10         20         30")
for name, scale in [("half of sqrt(2 / fan_in)", right / 2), ("sqrt(2 / fan_in)", right), ("twice that", right * 2)]:
    found = sizes(scale)
    print(
        f"{name:30}", "".join(f"{found[i - 1]:15.2e}" if i == 1 else f"{found[i - 1]:11.2e}" for i in (1, 10, 20, 30))
    )
    plt.semilogy(found, label=name)
plt.xlabel("layer")
plt.ylabel("size of the signal")
plt.legend()
plt.show()

# %% [markdown]
"""
A factor of two is the difference between a working network and one whose signal grew or shrank by 2 to the power 30.

**Write `kaiming_uniform` and `kaiming_normal`.** `_fans(shape)` gives `(fan_in, fan_out)`; `_uniform(shape, bound,
rng)` and `_normal(shape, std, rng)` draw the numbers and make a tensor that requires a gradient, which is what makes
it a parameter.

For `shape = (200, 50)` and gain 1, `kaiming_uniform` draws between -0.1225 and 0.1225 (the square root of 3 / 200), and
`kaiming_normal` with standard deviation 0.0707.

<details><summary>Hint 1</summary>

Only `fan_in` is needed, the first of the two that `_fans(shape)` gives.
</details>
<details><summary>Hint 2</summary>

The bound is `gain * math.sqrt(3 / fan_in)`.
</details>
<details><summary>Hint 3</summary>

The standard deviation is the root of the variance: `gain / math.sqrt(fan_in)`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "layers-kaiming", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
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
    ### BEGIN SOLUTION
    fan_in, _ = _fans(shape)
    return _uniform(shape, gain * math.sqrt(3 / fan_in), rng)
    ### END SOLUTION


def kaiming_normal(shape: tuple, gain: float = math.sqrt(2), rng=None) -> Tensor:
    """A parameter drawn from a normal distribution with variance gain^2 / fan_in. (He et al. 2015)"""
    ### BEGIN SOLUTION
    fan_in, _ = _fans(shape)
    return _normal(shape, gain / math.sqrt(fan_in), rng)
    ### END SOLUTION


def xavier_uniform(shape: tuple, gain: float = 1.0, rng=None) -> Tensor:
    """A parameter drawn from U(-b, b) with variance 2 gain^2 / (fan_in + fan_out): a compromise between the size of
    signals going forward and of gradients going back. (Glorot & Bengio 2010)
    """
    return _uniform(shape, gain * math.sqrt(6 / sum(_fans(shape))), rng)


def xavier_normal(shape: tuple, gain: float = 1.0, rng=None) -> Tensor:
    """A parameter drawn from a normal distribution with variance 2 gain^2 / (fan_in + fan_out). (the same paper)"""
    return _normal(shape, gain * math.sqrt(2 / sum(_fans(shape))), rng)


# %%
for draw in (kaiming_uniform, kaiming_normal, xavier_uniform, xavier_normal):
    weights = draw((200, 50), gain=1.0, rng=0)
    print(f"{draw.__name__:16} from {weights.data.min():.4f} to {weights.data.max():.4f}, std {weights.data.std():.4f}")

# %% [markdown]
"""
## What counts as a parameter?

A model is layers in layers in lists. To train it somebody must find every weight, each exactly once. The plain idea is
recursion: look at every attribute, and go into every layer.
"""


# %%
def naive_parameters(layer):
    found = []
    for value in vars(layer).values():
        if isinstance(value, Tensor):
            found.append(value)
        elif hasattr(value, "parameters"):
            found.extend(naive_parameters(value))
    return found


class Layer:
    """The smallest thing with parameters."""

    def __init__(self):
        self.weight = randn(2, 2, requires_grad=True)

    def parameters(self):
        return naive_parameters(self)


model = Layer()
model.inner = Layer()
print("a layer in a layer:", len(model.parameters()))
model.more = [Layer(), Layer()]
print("and two in a list:", len(model.parameters()), "- the list was not looked into")
model.inner.weight = model.weight
print("one weight shared by two layers:", len(model.parameters()), "- the same tensor, twice")

# %% [markdown]
"""
A weight missing from the list is never trained, and nothing tells you: the loss goes down a little slower. A weight
that is in it twice is trained with twice the step. And a layer that knows its parent (`child.parent = self`) sends the
recursion round in a circle until Python gives up.

All three have one cure: a list of what is still to be looked at, and a note of what has been seen.

```
   waiting            seen                 found
   [model]
   [0, 1, more]       model
   [weight, 1, more]  model 0              0.weight
   ...
```

**Write `walk(root, deep)`.** It *yields* `(name, thing)` for the root (whose name is empty) and for everything
reachable, each thing once. `_inside(thing)` lists the pairs `(key, part)` directly inside a layer, list, tuple or
dict, and nothing for anything else. A part's name is the name of the whole, a dot, and the key; directly under the
root just the key. With `deep=False` layers other than the root are yielded but not entered. Attributes must come in
the order in which they were set.

For a model with `self.layers = [Linear(2, 3), ReLU()]` the names are `""`, `"layers"`, `"layers.0"`,
`"layers.0.in_features"`, ..., `"layers.0.weight"`, `"layers.0.bias"`, `"layers.1"`.

<details><summary>Hint 1</summary>

As long as something is `waiting`, take the last with `pop()`. If `id(thing)` is in `seen`, go on with the next;
otherwise put it there and yield the pair.
</details>
<details><summary>Hint 2</summary>

Because `pop` takes from the end, the parts must be put there in reverse order: `extend` and `reversed`.
</details>
<details><summary>Hint 3</summary>

Enter if `deep or thing is root or not _is_layer(thing)`; the name of a part is `f"{name}.{key}" if name else str(key)`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "layers-walk", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _is_layer(thing):
    return callable(getattr(thing, "parameters", None)) and not isinstance(thing, type)


def _is_parameter(thing):
    """A tensor somebody asked gradients for. A frozen one still counts; a mask, a table or a cached result does not."""
    return isinstance(thing, Tensor) and thing._grad_fn is None and thing._asked


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
    ### BEGIN SOLUTION
    while waiting:
        name, thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        yield name, thing
        if deep or thing is root or not _is_layer(thing):
            parts = [(f"{name}.{key}" if name else str(key), part) for key, part in _inside(thing)]
            waiting.extend(reversed(parts))
    ### END SOLUTION


# %% [markdown]
"""
### Module

Everything a model can be asked is now a question about `walk`. What counts as what is written at the top of the
package file, and in short: a tensor for which somebody asked gradients is a parameter; a NumPy array in a public
attribute is a *buffer*, which is saved with the model but not trained (running averages, in module 09); anything with a
method `parameters()` is a layer, so a class of your own is one too, and the activations of module 02 are.

Four methods are blank.

**`named_parameters`**: the pairs of `walk(self)` whose thing `_is_parameter`, as a list.

**`train(mode)`**: some layers behave differently while training, and look at `self.training`. Set it to `mode` in every
`Module` among `self.modules()` (other people's classes are left alone) and return `self`, so that calls can be chained.

**`state_dict`**: a dictionary from name to a *copy* of the array, for every parameter and every buffer. Why a copy? A
state that shares memory with the model changes as training goes on, and the "best state so far" is always the last.

**`load_state_dict(state)`**: the way back, and it must never stop halfway: half the weights of one model and half of
another is worse than an error. `missing`, `unexpected` and the NumPy arrays `arrays` are prepared. Add a line to
`problems` for every array whose shape differs from its target's, or whose dtype cannot be cast to the target's
(`np.can_cast(a, b, "same_kind")`); raise ValueError if there are problems; only then copy. `np.copyto(target, array)`
writes into the array that is there, so everyone who holds the tensor sees the new values. After writing into a tensor's
array add 1 to its `_version`, by which module 05 notices.

For `model = Linear(2, 1)`: `model.state_dict()` is `{"weight": array of (2, 1), "bias": array of (1,)}`, and
`model.load_state_dict({"weight": np.zeros((3, 1))})` raises and names `bias` as missing and `weight` as misshapen.

<details><summary>Hint 1</summary>

`named_parameters` and `state_dict` are comprehensions. `named_buffers()` gives `(name, array)`, `named_parameters()`
gives `(name, tensor)`; a copy of an array is `array.copy()`.
</details>
<details><summary>Hint 2</summary>

`train` is a loop over `self.modules()`; `isinstance(layer, Module)` tells your layers from other people's.
</details>
<details><summary>Hint 3</summary>

`load_state_dict` has two loops over `arrays.items()` with the `raise` between them: the first only looks, the second
only writes. A target is a tensor, into whose `data` is written, or an array itself; `np.copyto` with
`casting="same_kind"` writes float64 into float32, too.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "layers-module", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
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
        ### BEGIN SOLUTION
        return [(name, thing) for name, thing in walk(self) if _is_parameter(thing)]
        ### END SOLUTION

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
        ### BEGIN SOLUTION
        for layer in self.modules():
            if isinstance(layer, Module):
                layer.training = mode
        return self
        ### END SOLUTION

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
        ### BEGIN SOLUTION
        parameters = {name: parameter.data.copy() for name, parameter in self.named_parameters()}
        return parameters | {name: array.copy() for name, array in self.named_buffers()}
        ### END SOLUTION

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
        ### BEGIN SOLUTION
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
        ### END SOLUTION

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


# %% [markdown]
"""
## Linear, at last

**Write `Linear.__init__`'s heart**: the weight `(in_features, out_features)` by `kaiming_uniform`, and the bias
`(out_features,)` by `_uniform`, or None without one. PyTorch draws both between `-1 / sqrt(in_features)` and
`+1 / sqrt(in_features)`, and results are easier to compare if we do the same. Which gain gives that bound?
(`gain * sqrt(3 / fan_in) = 1 / sqrt(fan_in)`: the gain is `1 / sqrt(3)`.) Both must come from one generator:
call `generator` once and use what it gives for both, because a *seed* passed twice would start the same numbers twice.

`Linear(4, 3)` has a weight of shape `(4, 3)` and a bias of shape `(3,)`, all between -0.5 and 0.5.

<details><summary>Hint 1</summary>

`kaiming_uniform(shape, gain=1 / math.sqrt(3), rng=rng)`
</details>
<details><summary>Hint 2</summary>

`_uniform((out_features,), 1 / math.sqrt(in_features), rng)`; and with `bias=False` it is None.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "layers-linear-class", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
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
        ### BEGIN SOLUTION
        rng = generator(rng)
        self.weight = kaiming_uniform((in_features, out_features), gain=1 / math.sqrt(3), rng=rng)
        self.bias = _uniform((out_features,), 1 / math.sqrt(in_features), rng) if bias else None
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)"""
        return linear(x, self.weight, self.bias)

    def extra_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


# %% [markdown]
"""
A model of your own is a class with `__init__` and `forward`. Nothing is registered, and lists are fine:
"""


# %%
class Net(Module):
    def __init__(self, width):
        self.first = Linear(4, width)
        self.middle = [Linear(width, width), Tanh(), Linear(width, width)]
        self.last = Linear(width, 2, bias=False)

    def forward(self, x):
        x = relu(self.first(x))
        for layer in self.middle:
            x = layer(x)
        return self.last(x)


manual_seed(0)
net = Net(3)
print(net)
for name, parameter in net.named_parameters():
    print(f"{name:18} {parameter.shape}")
print(net.num_parameters(), "numbers;", "output", net(randn(5, 4)).shape)

# %% [markdown]
"""
States go into a file in module 07. They can be kept and put back now; and a state that does not fit is refused as a
whole, with everything that is wrong:
"""

# %%
best = net.state_dict()
net.last.weight.data = np.zeros((3, 2), np.float32)
net.load_state_dict(best)
print("back again:\n", net.last.weight.data)

best["last.weight"] = np.zeros((2, 2), np.float32)
best["extra"] = best.pop("first.bias")
try:
    net.load_state_dict(best)
except ValueError as error:
    print(error)

# %% [markdown]
"""
## Dropout: training with holes

Every unit relies on all others, and on exactly those that were there in training. Dropout breaks that habit: in every
training step each number is set to 0 with probability p, so no unit can count on another.

Say p = 1/2 and a unit sums four inputs of 1. In training about two are left: the sum is 2. When the model is used
nothing is dropped: the sum is 4. The layer behind has never seen a 4. So the survivors are made larger, by `1 / (1 -
p)`:

```
   x             1    1    1    1     sum 4
   keep          1    0    1    0
   mask          2    0    2    0     keep / (1 - p)
   x * mask      2    0    2    0     sum 4, on average
```

**Write the heart of `dropout`.** Draw one number in [0, 1) for every element with
`generator(rng).random(x.shape, dtype=np.float32)`; keep where it is at least p. The mask is 0 or `1 / (1 - p)`, in the
dtype of x, or float32 would not stay float32; for p = 1 the factor would be 1 / 0, and the mask is all 0. Announce
`"dropout"` and save the mask, for the gradient takes the same way: `mask=mask`.

With p = 0.5, `dropout(ones(4), 0.5, rng=0)` is `Tensor([2., 2., 2., 2.])` or less: each entry is 0 or 2.

<details><summary>Hint 1</summary>

`keep = ... >= p` is an array of True and False. With p = 0.25, three quarters of the numbers are at least 0.25.
</details>
<details><summary>Hint 2</summary>

`x.dtype.type(value)` is `value` as a NumPy number of x's dtype, and a boolean array times that is an array of that
dtype.
</details>
<details><summary>Hint 3</summary>

`mask = keep * x.dtype.type(1 / (1 - p) if p < 1 else 0)`, and `result(x.data * mask, "dropout", x, mask=mask)`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "layers-dropout", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
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
    ### BEGIN SOLUTION
    keep = generator(rng).random(x.shape, dtype=np.float32) >= p
    mask = keep * x.dtype.type(1 / (1 - p) if p < 1 else 0)  # 0 or 1 / (1 - p), in the dtype of x
    return result(x.data * mask, "dropout", x, mask=mask)
    ### END SOLUTION


# %%
print(dropout(ones(12), 0.5, rng=0).data)
print("p      mean of a million ones   share of zeros")
for p in (0.0, 0.1, 0.5, 0.9, 1.0):
    dropped = dropout(ones(1000, 1000), p, rng=0).data
    print(f"{p:.1f} {dropped.mean():22.4f} {(dropped == 0).mean():16.4f}")

# %% [markdown]
"""
The mean stays, except at p = 1, where nothing is left to make up for the rest.

## The small layers

**Write `Dropout.forward` and `Sequential.forward`.** The first calls `dropout` with its own `p` and `training`;
forgetting `training` is a classic: the model is then graded with holes in it, and every run gives another answer. The
second gives x to the first layer, its result to the second, and so on.

`Sequential(Linear(4, 8), ReLU())(randn(2, 4))` has the shape `(2, 8)`, and no negative number in it.

<details><summary>Hint 1</summary>

`dropout(x, self.p, self.training)`
</details>
<details><summary>Hint 2</summary>

A loop over `self.layers`, in which one name always holds the latest result.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "layers-small", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class Dropout(Module):
    """`dropout` with probability p while training, nothing otherwise."""

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ValueError(f"Dropout needs a probability 0 <= p <= 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        return dropout(x, self.p, self.training)
        ### END SOLUTION

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
        ### BEGIN SOLUTION
        out = x
        for layer in self.layers:
            out = layer(out)
        return out
        ### END SOLUTION

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


# %%
manual_seed(0)
model = Sequential(Flatten(), Linear(784, 512), ReLU(), Dropout(0.2), Linear(512, 10))
print(model)
images = rand(2, 28, 28)
print("training, twice the same images: same output?", np.array_equal(model(images).data, model(images).data))
model.eval()
print("eval, twice the same images:     same output?", np.array_equal(model(images).data, model(images).data))

# %% [markdown]
"""
A *hook* watches a module from outside: it is called after every forward. Here it prints what flows through a model,
which is the first thing to do when shapes go wrong. (The activations of module 02 are plain classes without hooks.)
"""


# %%
def show(layer, inputs, output):
    size = (output.data**2).mean() ** 0.5
    print(f"{type(layer).__name__:8} {inputs[0].shape!s:13} -> {output.shape!s:12} size {size:.3f}")


handles = [layer.register_forward_hook(show) for layer in model.children() if isinstance(layer, Module)]
model(images)
for handle in handles:
    handle.remove()

# %% [markdown]
"""
## What does it cost?

**Memory.** A parameter is four bytes, but training holds more than the parameter: its gradient, and with Adam two
running averages. So 16 bytes per number, before a single activation is stored. Where the numbers are is lopsided:
"""

# %%
model = Sequential(Linear(784, 512), ReLU(), Linear(512, 256), ReLU(), Linear(256, 10))
for name, parameter in model.named_parameters():
    share = parameter.size / model.num_parameters()
    megabytes = parameter.data.nbytes / 1e6
    print(f"{name:10} {parameter.shape!s:12} {parameter.size:8,} numbers {megabytes:6.2f} MB {share:7.1%}")
total = model.num_parameters()
print(f"{'together':23} {total:8,} numbers {total * 4 / 1e6:6.2f} MB, in training {total * 16 / 1e6:.1f} MB")

# %% [markdown]
"""
**Time.** One example through `Linear(1024, 1024)` needs a million multiplications and a million additions, and it has
to read four megabytes of weights to do them. For a batch the weights are read once and used for every row. Watch the
time per example:
"""

# %%
layer = Linear(1024, 1024, rng=0)
print("batch   microseconds per example   billion operations per second")
for batch in (1, 4, 16, 64, 256):
    x = randn(batch, 1024, rng=0)
    layer(x)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        layer(x)
        times.append(time.perf_counter() - start)
    seconds = min(times)
    print(f"{batch:5} {seconds / batch * 1e6:22.1f} {2 * batch * 1024 * 1024 / seconds / 1e9:27.1f}")

# %% [markdown]
"""
The same layer, the same arithmetic per example. With one row the processor waits for weights; with many it computes.
This is why training uses batches, and why answering one question at a time with a large model is expensive.

**One operation or two?** `linear` against `x @ w + b`, and a three-axis input as one tall product against many small
ones:
"""


# %%
def fastest(function, repeats=15):
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


x, w, b = randn(256, 512, rng=0), randn(512, 512, rng=1), randn(512, rng=2)
one, two = fastest(lambda: linear(x, w, b)), fastest(lambda: x @ w + b)
print(f"(256, 512)     linear {one:.3f} ms, two operations {two:.3f} ms")
x, w, b = randn(512, 8, 64, rng=0), randn(64, 64, rng=1), randn(64, rng=2)
one, many = fastest(lambda: linear(x, w, b)), fastest(lambda: np.matmul(x.data, w.data) + b.data)
print(f"(512, 8, 64)   linear {one:.3f} ms, 512 small products {many:.3f} ms")

# %% [markdown]
"""
## All together

The checks of this lesson in one cell.
"""

# %%
# linear: the numbers worked out by hand, and the same as two operations of module 01, for any leading axes.
by_hand = linear([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]], [[1.0, 0.0], [3.0, 5.0], [1.0, -1.0]], [10.0, 1.0])
np.testing.assert_allclose(by_hand.data, [[13.0, -1.0], [14.0, 5.0]])
w, b = randn(3, 2, rng=0), randn(2, rng=1)
for lead in [(), (4,), (4, 5), (2, 1, 3)]:
    x = randn(*lead, 3, rng=2)
    np.testing.assert_allclose(linear(x, w, b).data, (x @ w + b).data, rtol=1e-5)

# Starting values: bound and variance as derived; float32; trained.
layer = Linear(100, 400, rng=0)
assert np.abs(layer.weight.data).max() <= 0.1
assert abs(layer.weight.data.var() * 100 - 1 / 3) < 0.01
assert layer.weight.dtype == np.float32
assert layer.weight.requires_grad


# walk: lists and dicts, a shared weight once, a circle without end.
class Knot(Module):
    def __init__(self):
        self.layers = [Linear(2, 2), {"deep": (Linear(2, 2),)}]
        self.tied = self.layers[0].weight
        self.me = self
        self.running = np.zeros(3)


knot = Knot()
names = [name for name, _ in knot.named_parameters()]
print(names)
assert names == ["layers.0.weight", "layers.0.bias", "layers.1.deep.0.weight", "layers.1.deep.0.bias"]
assert list(knot.state_dict()) == [*names, "running"]

# Dropout: zeros and twos in training, nothing in eval.
drop = Dropout(0.5)
assert set(np.unique(drop(ones(1000)).data)) == {0.0, 2.0}
assert drop.eval()(ones(1000)).data.min() == 1.0

# Thirty layers of starting values under which the signal survives.
manual_seed(0)
signal = randn(64, 256)
for _ in range(30):
    signal = relu(signal @ kaiming_normal((256, 256)))
print(f"size of the signal after 30 layers: {(signal.data**2).mean() ** 0.5:.2f}")

# %% [markdown]
"""
## Questions

**1.** How many parameters has the network 784 - 512 - 256 - 10 with biases? How many bytes in training with Adam?

<details><summary>Answer</summary>

784 * 512 + 512 = 401,920; 512 * 256 + 256 = 131,328; 256 * 10 + 10 = 2,570; together 535,818. At 16 bytes each
(weight, gradient, two moments): 8.6 MB. Three quarters of it sit in the first layer.
</details>

**2.** One layer of GPT-3 has matrices of 12288 x 49152 and 49152 x 12288, and four of 12288 x 12288. How many
parameters is that, how many for all 96 layers, and how much memory does training take at 16 bytes each?

<details><summary>Answer</summary>

2 * 12288 * 49152 + 4 * 12288^2 = 12 * 12288^2 = 1.81 billion per layer, 174 billion for 96: nearly all of the 175
billion it is known for. 16 bytes each is 2.8 terabytes, more than thirty accelerators of 80 GB hold; so training it
means splitting it.
</details>

**3.** You forget `model.eval()` before measuring accuracy, with `Dropout(0.5)` in the model. What do you see?

<details><summary>Answer</summary>

An accuracy that is too low and differs from run to run. Nothing crashes. Half the hidden numbers are missing in each
pass, as if you had trained a thinner network.
</details>

**4.** A relu network of 20 layers starts with Linear's default, weights uniform in plus or minus `1 / sqrt(fan_in)`. By
what factor does the signal shrink, biases left aside?

<details><summary>Answer</summary>

The variance of the weights is 1 / (3 fan_in), so each linear layer multiplies the mean square by 1/3 and each relu by
1/2: together 1/6 per layer, and the size by `sqrt(1/6)` = 0.41. After 20 layers 0.41^20 = 1.6e-8. For three layers
nobody minds; for twenty use `kaiming_uniform` with its gain for relu, or normalise between layers (module 09).
</details>

**5.** Two layers share one weight (tied, as GPT's first and last layer are). The naive list has it twice, and the
optimizer subtracts `lr * grad` for every entry. What happens?

<details><summary>Answer</summary>

Its gradient is already the sum of both uses, and the step is taken twice: a doubled learning rate for exactly this
weight. Training diverges at a learning rate that should have been fine.
</details>
"""
