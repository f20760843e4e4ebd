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
# 01 · Tensor: an array that remembers what made it

| | |
|---|---|
| **You have** | Python and NumPy |
| **You will build** | `Tensor`: an array with a shape, a dtype and some sixty operations, each of which announces what it did |
| **You will be able to** | predict shape, dtype, bytes and cost of an operation before you run it, say which results share memory, and keep 32-bit numbers out of trouble |

Needs nothing before it. Exports `core/tensor.py`, on which everything later stands. Medium; two evenings of about two
hours, with a good place to stop before "Shapes".

```
   Tensor([[1, 2, 3],       data     1 2 3 4 5 6     six numbers in a row in memory
           [4, 5, 6]])      shape    (2, 3)          how the row is to be read
                            dtype    int64           bytes per number, and what they mean

   a ---+
        +--- add ---> result ---> out
   b ---+                |
                         +------> "out is add of a and b"      to whoever listens (module 05: gradients)
```

There are two kinds of code cells that ship. In some, a part is left to you: a blank, most of them under ten
lines, each described right above it. The others are given: plumbing, checks, and functions that only combine what you
wrote. The long ones say so; read their first lines and move on.

A word of warning about names. `sum`, `max`, `min`, `abs` and `pow` are Python's own functions, and this lesson defines
its own under the same names, because that is what everybody calls them on tensors. From then on, in this notebook,
`sum` means the tensor's sum.
"""

# %%
#| default_exp core.tensor

# %%
#| export
"""Tensors: NumPy arrays whose operations announce themselves.

Every operation here is a free function that computes with NumPy and ends in `result(array, op, *inputs, **saved)`,
which boxes the array and tells whoever listens what was done. Nobody listens until module 05 installs a recorder
that builds the graph for gradients; nothing in this file knows about gradients. The methods of `Tensor` are the
same functions.
"""

import functools
import itertools
import math
import operator
import weakref
from operator import attrgetter

import numpy as np
from numpy import generic, ndarray

# %% [markdown]
"""
The cells that try things out need a clock and a look at sizes.
"""

# %%
import sys
import time
import timeit


def milliseconds(run, repeats=5):
    """The fastest of a few runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[0] * 1000


# %% [markdown]
"""
## Why not lists?

A list holds numbers of any kind, so it cannot hold the numbers themselves: it holds pointers to objects that Python
made somewhere, each with its type and a reference count. An array knows that all of its numbers are of one kind and
lays their bytes side by side.

```
   list   [ * , * , * ]                     array   | 1.0 | 2.0 | 3.0 |
            |   |   |
           1.0 2.0 3.0   (somewhere)
```

What does that cost for a million numbers?
"""

# %%
numbers = [i / 7 for i in range(1_000_000)]
array = np.array(numbers)
size = sys.getsizeof(numbers) + len(numbers) * sys.getsizeof(1.0)
print(f"list:  {size / 1e6:5.1f} MB, doubling takes {milliseconds(lambda: [2 * x for x in numbers]):6.2f} ms")
print(f"array: {array.nbytes / 1e6:5.1f} MB, doubling takes {milliseconds(lambda: 2 * array):6.2f} ms")

# %% [markdown]
"""
NumPy's arrays are the engine of this course. A tensor is such an array in a box, and the box adds two things: a firm
opinion on dtypes, and a place that every result passes through.

## What goes in: dtypes

A float64 has 53 bits for its digits, a float32 has 24, a float16 has 11. Networks do not need 16 correct decimal
places, and much of what computes them waits for bytes from memory. So float32 is the working type here, with half the
bytes of NumPy's own choice. (Processors have no float16 arithmetic worth the name; see the time it takes.)

24 bits: what happens to the first whole number that needs 25 of them? 2^24 is 16,777,216.
"""

# %%
print("dtype     a million take   adding two millions   after 1 comes 1 +     largest")
for dtype in (np.float64, np.float32, np.float16):
    info, million = np.finfo(dtype), np.ones(1_000_000, dtype)
    took = milliseconds(lambda million=million: million + million, 20)
    print(f"{info.dtype!s:8} {million.nbytes / 1e6:12} MB {took:18.2f} ms {info.eps:19.2e} {float(info.max):13.3e}")
print("\nin float32:")
print("2**24 + 1 =", int(np.float32(2**24) + np.float32(1)), "  it should be", 2**24 + 1)
print("adding 1 to 0, twenty million times, ends at", int(np.ones(20_000_000, np.float32).cumsum()[-1]))
print("token 16777217 of a data set, stored as float:", int(np.float32(16777217)))

# %% [markdown]
"""
From 2^24 on, float32 knows only every second whole number. Counting by ones gets stuck there: the number plus one is
rounded back to the number. Nothing crashes. And the last line is why integers must stay integers: positions, labels and
tokens are names, and a name that is rounded is another name.

Hence the rule. It is the first blank.

| given | becomes |
|---|---|
| Python floats, float64 and wider | float32 |
| float32, float16, integers, booleans | as they are |
| anything, with `dtype=` | that dtype, float64 too (module 05 checks gradients in it) |

**Write `as_array`**, the last lines of it. `_fresh` has made `array`, a NumPy array that nobody else holds, and has
refused what is no number. Decide on the dtype if none was asked for, and return the array in that dtype, without
copying it once more where it already has it.

`as_array([1.5, 2])` is `array([1.5, 2. ], dtype=float32)`; `as_array([1, 2]).dtype` is `int64`;
`as_array(0.1, "float64").dtype` is `float64`.

<details><summary>Hint 1</summary>

`array.dtype.kind` is `"f"` for floats, `"i"` and `"u"` for integers, `"b"` for booleans. `array.dtype.itemsize` is the
number of bytes.
</details>
<details><summary>Hint 2</summary>

Wide means: kind `"f"` and more than 4 bytes. Wide becomes `np.float32`, everything else keeps `array.dtype`.
</details>
<details><summary>Hint 3</summary>

`array.astype(dtype, copy=False)` copies only if it must.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "tensor-as-array", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _number_dtype(who, dtype):
    """`dtype` as NumPy's object, if it is one of numbers or booleans."""
    found = np.dtype(dtype)
    if dtype is None or found.kind not in "biuf":
        raise TypeError(f"{who} needs a dtype of numbers or booleans, got {dtype}")
    return found


def _fresh(data):
    """A new array of whatever `data` is; text, None, complex numbers and ragged rows are refused."""
    if isinstance(data, Tensor):
        data = data.data
    if hasattr(data, "__array_function__") and not isinstance(data, np.ndarray):
        array = data.copy()  # an array of another library stays one
    else:
        try:
            array = np.array(data, order="C")
        except ValueError as error:
            raise ValueError(f"Tensor needs a rectangular array; the rows given differ in length ({error})") from None
    if array.dtype.kind not in "biuf":
        raise TypeError(f"Tensor needs numbers or booleans, got {type(data).__name__} with dtype {array.dtype}")
    return array


def as_array(data, dtype=None) -> np.ndarray:
    """A new array of `data`: floats wider than float32 as float32, everything else as it is, unless `dtype` says more.

    data   number, nested sequence, ndarray, Tensor, or any array that speaks NumPy's protocols (it keeps its kind)

    Raises ValueError for ragged rows, TypeError for what is no number (text, None, complex).
    """
    if dtype is not None:
        dtype = _number_dtype("Tensor", dtype)
    array = _fresh(data)
    ### BEGIN SOLUTION
    if dtype is None:
        wide = array.dtype.kind == "f" and array.dtype.itemsize > 4
        dtype = np.float32 if wide else array.dtype
    return array.astype(dtype, copy=False)
    ### END SOLUTION


# %% [markdown]
"""
It cannot run yet: it asks whether it was given a `Tensor`, and there is none. Here it is.

## The box

This cell is long and given, because nearly all of it is one kind of line: the method `x.sum()` calls the function
`sum(x)`, `a + b` calls `add(a, b)`. The functions are the lesson; most of them follow further down, and Python looks
them up only when a method is called. Read as far as `# What it is`: there you see all that a tensor holds. Skim the
rest.

- `data` is the array. Assigning to it counts as a change: `_version` goes up, and module 05 will notice if it still
  needed the old values. Elements written through a tensor change all its views as well, so `written` remembers which
  memory, and when. One clock, `tick`, numbers the operations and the changes.
- `_data` is what stands behind it. An operation on numbers without axes does not give an array in NumPy but a *scalar* of
  type `np.float32` or the like. It computes several times faster than an array of shape `()` (you will measure it), but
  it cannot be written into. So it stays a scalar until somebody asks for `data`.
- `requires_grad`, `grad` and the names with an underscore are for module 05. They cost nothing while unused: they are
  attributes of the class, and an object gets its own only when one is set.
- `__array_ufunc__ = None` tells NumPy to keep its hands off: `array + tensor` then asks the tensor.
- `==` compares element by element, as in NumPy. So `t == u` is a tensor, and neither `if t == u` nor `t in list` means
  what it seems to mean.
"""


# %%
#| export
tick = itertools.count(1).__next__  # a number for each recorded operation and each write, in the order they happen
retained = weakref.WeakValueDictionary()  # by id, the tensors that keep their gradient although they are no leaves
written = {}  # from the id of an array to (weak reference to it, tick of the last write into its memory)


def _memory(array):
    """The array that owns the memory of `array`, which may be a view."""
    while isinstance(getattr(array, "base", None), np.ndarray):
        array = array.base
    return array


def _note_write(array):
    """Remember that the memory of `array` was written to: other tensors may be views of it."""
    owner = _memory(array)
    if isinstance(owner, np.ndarray):
        key = id(owner)
        written[key] = weakref.ref(owner, lambda _: written.pop(key, None)), tick()


def _get_data(self):
    data = self._data
    if type(data) is not ndarray and isinstance(data, generic):
        data = self._data = np.asarray(data)
    return data


def _set_data(self, array):
    if not hasattr(array, "__array_function__"):
        array = as_array(array, self._data.dtype if self._data.dtype.kind == "f" else None)
    if array.dtype.kind not in "biuf" or (self._requires_grad and array.dtype.kind != "f"):
        raise TypeError(f"a tensor of {self._data.dtype} cannot take data of {array.dtype}; use a.astype('float32')")
    if array is self._data:  # x.data += 1 has written into it
        _note_write(array)
    self._data = array
    self._version += 1


_latest = 0  # the tick of the last change of any tensor in place


def _last_change():
    """That tick: a graph born later need not ask what has changed."""
    return _latest


def _set_version(self, count):
    global _latest
    self._changes = count
    self._changed = _latest = tick()


def _set_requires_grad(self, flag):
    if flag and self._data.dtype.kind != "f":
        raise TypeError(
            f"only floating tensors can require gradients, this one is {self._data.dtype}; use x.astype('float32')"
        )
    if not flag and self._grad_fn is not None:
        raise RuntimeError("a computed tensor cannot forget its history; use x.detach()")
    self._requires_grad, self._asked = bool(flag), True


class Tensor:
    """An n-dimensional array, and where it came from.

    data            anything `as_array` takes; always copied
    requires_grad   whether module 05 should work out d(loss)/d(this); floating dtypes only
    dtype           NumPy dtype; by default float32 for floats, the data's own for integers and booleans

    `data` is the ndarray, `grad` an ndarray of its shape once `backward` has run (None before).
    """

    __array_ufunc__ = None  # so that ndarray + Tensor asks Tensor.__radd__
    __hash__ = object.__hash__  # `==` compares elements; as dictionary keys tensors go by identity

    grad = None
    _grad_fn = None  # the rule that knows how to send gradients back, if this was computed and tracked
    _requires_grad = False
    _asked = False  # whether requires_grad was ever set
    _used = False  # some recorded operation has this as an input
    _changes = 0  # how often `data` was replaced or written to
    _changed = 0  # the tick of the last time

    def __init__(self, data, requires_grad=False, dtype=None):
        array = as_array(data, dtype)
        self._data = array if array.ndim else array[()]
        self._requires_grad, self._grad_fn = False, None
        if requires_grad:
            self.requires_grad = True

    data = property(_get_data, _set_data, doc="The ndarray. Assigning to it counts as a change in place.")
    _version = property(attrgetter("_changes"), _set_version, doc="How often the data was changed in place.")
    requires_grad = property(attrgetter("_requires_grad"), _set_requires_grad, doc="Whether gradients flow to this.")

    # What it is

    shape = property(attrgetter("_data.shape"), doc="The length of every axis, as a tuple.")
    ndim = property(attrgetter("_data.ndim"), doc="The number of axes.")
    size = property(attrgetter("_data.size"), doc="The number of elements.")
    dtype = property(attrgetter("_data.dtype"), doc="The NumPy dtype.")

    @property
    def T(self):
        """The axes in reverse order."""
        return permute(self, *range(self.ndim)[::-1])

    def __repr__(self):
        values = np.array2string(self.data, separator=", ", prefix="Tensor(", precision=4)
        shape = f", shape={self.shape}" if self.size > np.get_printoptions()["threshold"] or self.size == 0 else ""
        dtype = f", dtype={self.dtype}" if self.dtype not in (np.float32, np.int64, np.bool_) else ""
        grad = ", requires_grad=True" if self.requires_grad else ""
        return f"Tensor({values}{shape}{dtype}{grad})"

    def __format__(self, spec):
        return format(self.item(), spec) if spec else str(self)

    def __len__(self):
        if self.ndim == 0:
            raise TypeError("a tensor of shape () has no length; use x.item() for its number")
        return len(self._data)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __contains__(self, value):
        return bool((self._data == value).any())

    def __bool__(self):
        if self.size != 1:
            raise ValueError(f"a tensor of shape {self.shape} is neither true nor false; use (x != 0).any() or .all()")
        return bool(self._data.item())

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if self.dtype.kind not in "iu":
            raise TypeError(f"only integer tensors can be an index, this one is {self.dtype}")
        return int(self.item())

    def __array__(self, dtype=None, copy=None):
        return np.array(self.data, dtype=dtype, copy=copy)

    # Out of the box, and in again

    def item(self):
        """The one number inside, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() needs a tensor of one element, got shape {self.shape}")
        return self._data.item()

    def numpy(self):
        """The ndarray itself, not a copy."""
        return self.data

    def tolist(self):
        return self._data.tolist()

    def detach(self):
        """The same array without its history: no gradient passes."""
        return from_numpy(self.data)

    def copy(self):
        """An equal tensor with an array of its own; gradients pass through."""
        return result(self.data.copy(), "copy", self)

    def astype(self, dtype):
        """The same values in another dtype (this very tensor if it has it); gradients pass between floating dtypes."""
        return astype(self, dtype)

    def __deepcopy__(self, memo):
        if self._grad_fn is not None:
            raise RuntimeError("only leaf tensors can be deep-copied; detach() this one first")
        out = Tensor(self.data, dtype=self.dtype)
        if self._asked:
            out.requires_grad = self._requires_grad
        return out

    # Gradients (module 05)

    def backward(self, gradient=None):
        """Add d(this)/d(leaf) to the `grad` of every leaf this was computed from; see `autograd.backward`."""
        try:
            from tinytorch.core.autograd import backward
        except ModuleNotFoundError as error:
            if error.name != "tinytorch.core.autograd":
                raise
            raise NotImplementedError("backward is written in module 05 (autograd), which this package lacks") from None
        backward(self, gradient)

    def zero_grad(self):
        """Forget the gradient."""
        self.grad = None

    def retain_grad(self):
        """Ask `backward` to keep the gradient of this tensor although it is not a leaf."""
        retained[id(self)] = self

    # Arithmetic

    def __add__(self, other):
        return add(self, other)

    def __radd__(self, other):
        return add(other, self)

    def __sub__(self, other):
        return sub(self, other)

    def __rsub__(self, other):
        return sub(other, self)

    def __mul__(self, other):
        return mul(self, other)

    def __rmul__(self, other):
        return mul(other, self)

    def __truediv__(self, other):
        return div(self, other)

    def __rtruediv__(self, other):
        return div(other, self)

    def __pow__(self, other):
        return pow(self, other)

    def __rpow__(self, other):
        return pow(other, self)

    def __matmul__(self, other):
        return matmul(self, other)

    def __rmatmul__(self, other):
        return matmul(other, self)

    def __neg__(self):
        return neg(self)

    def __abs__(self):
        return abs(self)

    # Comparison and logic: boolean tensors, without gradients

    def __eq__(self, other):
        return _compare(np.equal, self, other)

    def __ne__(self, other):
        return _compare(np.not_equal, self, other)

    def __lt__(self, other):
        return _compare(np.less, self, other)

    def __le__(self, other):
        return _compare(np.less_equal, self, other)

    def __gt__(self, other):
        return _compare(np.greater, self, other)

    def __ge__(self, other):
        return _compare(np.greater_equal, self, other)

    def __and__(self, other):
        return _combine(np.bitwise_and, self, other)

    def __or__(self, other):
        return _combine(np.bitwise_or, self, other)

    def __xor__(self, other):
        return _combine(np.bitwise_xor, self, other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self):
        _needs_bits("~", self)
        return result(~self.data, "invert", self)

    def any(self, axis=None, keepdims=False):
        axes = normalize_axes("any", self, axis)
        return result(self.data.any(axis=axes, keepdims=keepdims), "any", self)

    def all(self, axis=None, keepdims=False):
        axes = normalize_axes("all", self, axis)
        return result(self.data.all(axis=axes, keepdims=keepdims), "all", self)

    # In place

    def __iadd__(self, other):
        return _update(self, add, other)

    def __isub__(self, other):
        return _update(self, sub, other)

    def __imul__(self, other):
        return _update(self, mul, other)

    def __itruediv__(self, other):
        return _update(self, div, other)

    def __setitem__(self, index, value):
        _write(self, index, value)

    # The functions of this file, as methods

    def __getitem__(self, index):
        return getitem(self, index)

    def add(self, other):
        return add(self, other)

    def sub(self, other):
        return sub(self, other)

    def mul(self, other):
        return mul(self, other)

    def div(self, other):
        return div(self, other)

    def neg(self):
        return neg(self)

    def pow(self, exponent):
        return pow(self, exponent)

    def matmul(self, other):
        return matmul(self, other)

    def exp(self):
        return exp(self)

    def log(self):
        return log(self)

    def sqrt(self):
        return sqrt(self)

    def abs(self):
        return abs(self)

    def sum(self, axis=None, keepdims=False):
        return sum(self, axis, keepdims)

    def mean(self, axis=None, keepdims=False):
        return mean(self, axis, keepdims)

    def var(self, axis=None, keepdims=False, correction=0):
        return var(self, axis, keepdims, correction)

    def std(self, axis=None, keepdims=False, correction=0):
        return std(self, axis, keepdims, correction)

    def max(self, axis=None, keepdims=False):
        return max(self, axis, keepdims)

    def min(self, axis=None, keepdims=False):
        return min(self, axis, keepdims)

    def argmax(self, axis=None, keepdims=False):
        return argmax(self, axis, keepdims)

    def argmin(self, axis=None, keepdims=False):
        return argmin(self, axis, keepdims)

    def cumsum(self, axis=-1):
        return cumsum(self, axis)

    def logsumexp(self, axis=None, keepdims=False):
        return logsumexp(self, axis, keepdims)

    def reshape(self, *shape):
        return reshape(self, *shape)

    view = reshape

    def transpose(self, *axes):
        return transpose(self, *axes)

    def swapaxes(self, axis1, axis2):
        return swapaxes(self, axis1, axis2)

    def permute(self, *axes):
        return permute(self, *axes)

    def flatten(self, start_dim=0, end_dim=-1):
        return flatten(self, start_dim, end_dim)

    def squeeze(self, axis=None):
        return squeeze(self, axis)

    def unsqueeze(self, axis):
        return unsqueeze(self, axis)

    def broadcast_to(self, *shape):
        return broadcast_to(self, *shape)

    def split(self, sizes, axis=0):
        return split(self, sizes, axis)

    def clip(self, min=None, max=None):
        return clip(self, min, max)

    def masked_fill(self, mask, value):
        return masked_fill(self, mask, value)

    def take(self, indices, axis=None):
        return take(self, indices, axis)

    def gather(self, dim, index):
        return gather(self, dim, index)

    def scatter_add(self, dim, index, src):
        return scatter_add(self, dim, index, src)

    def sort(self, axis=-1, descending=False):
        return sort(self, axis, descending)

    def topk(self, k, axis=-1):
        return topk(self, k, axis)

    def pad(self, widths, value=0):
        return pad(self, widths, value)

    def outer(self, other):
        return outer(self, other)


_Operand = Tensor | np.ndarray | float  # what arithmetic takes, on either side
_Axes = int | tuple[int, ...] | None  # what reductions take; None is all axes

# %%
for data in ([1.5, 2], [1, 2], [True, False], np.ones(2), np.ones(2, np.float16)):
    print(f"{data!s:15} {np.asarray(data).dtype!s:8} -> {Tensor(data).dtype}")
x = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
print(x, x.shape, x.size)

# %% [markdown]
"""
## The idea of this course in ten lines

Module 05 will work out gradients: for every number in a network, how the loss would change with it. For that it must
know, for every result, which operation made it and from what. One could patch every operation later, when gradients
come up, and forget three of them. Or every operation says what it did, from the first day, and whoever is interested
listens. We take the second way, and it has one gate:

```
   def double(x):                                       _recorder is None:   nobody listens, nothing happens
       return result(2 * x.data, "double", x)           _recorder is f:      f(out, "double", (x,), {})
```

**Write `result`.** Make an empty tensor with `_new(Tensor)` (a tensor without its `__init__`, so nothing is
copied or converted). Give it what was computed as `_data`, array or scalar, False as `_requires_grad` and None as
`_grad_fn`; the class says so already, but Python finds faster what each tensor has itself. Tell `_recorder` if there is
one. The end is given: it tells a second listener, with which module 14 will measure, and which hears of everything
whether or not gradients are recorded.

`result(np.float32(3), "three").data` is `array(3., dtype=float32)`.

<details><summary>Hint 1</summary>

Three steps: make the tensor `out`, set its three attributes, call the recorder unless it is None.
</details>
<details><summary>Hint 2</summary>

The recorder is called with four things: the new tensor, the name, the tuple of inputs, the dictionary of what was
saved. `inputs` and `saved` already are a tuple and a dictionary.
</details>
"""

# %%
#| export
_recorder = None  # called with (out, op, inputs, saved) after every operation


def set_recorder(recorder):
    """Let `recorder(out, op, inputs, saved)` hear of every operation (None: nobody). Returns the one it replaces."""
    global _recorder
    previous, _recorder = _recorder, recorder
    return previous


def get_recorder():
    """Whoever hears of every operation now, or None."""
    return _recorder


_observer = None  # called likewise, after the recorder and also where there is none


def set_observer(observer):
    """Let `observer(out, op, inputs, saved)` hear of every operation too, under `no_grad` as elsewhere: it measures
    and changes nothing (None: nobody). Returns the one it replaces.
    """
    global _observer
    previous, _observer = _observer, observer
    return previous


def from_numpy(array) -> Tensor:
    """Box an array without copying it: the tensor and the array share memory, and float64 stays float64.

    Raises TypeError for what is no array of numbers or booleans.
    """
    array_like = isinstance(array, np.ndarray) or hasattr(array, "__array_function__")
    if not array_like or array.dtype.kind not in "biuf":
        raise TypeError(f"from_numpy needs an array of numbers, got {type(array).__name__}; Tensor(data) takes more")
    return _box(array)


_new = Tensor.__new__  # _new(Tensor) is a tensor without its __init__, which would copy and convert

# Python lays out the attributes of all tensors as it finds them in the first few: so the very first has them all.
_first = _new(Tensor)
_first._data = _first._requires_grad = _first._grad_fn = _first._used = _first.grad = None
_first._asked = _first._changes = _first._changed = None
del _first


def _box(data):
    boxed = _new(Tensor)
    boxed._data, boxed._requires_grad, boxed._grad_fn = data, False, None
    return boxed


# %% nbgrader={"grade": false, "grade_id": "tensor-result", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def result(array, op, *inputs, **saved) -> Tensor:
    """Box `array`, which the operation named `op` computed from the tensors `inputs`, and announce it.

    array   ndarray or NumPy scalar; boxed without copying or converting
    saved   what a gradient rule will want to know later: axes, masks, intermediate arrays
    """
    ### BEGIN SOLUTION
    out = _new(Tensor)
    out._data, out._requires_grad, out._grad_fn = array, False, None
    if _recorder is not None:
        _recorder(out, op, inputs, saved)
    ### END SOLUTION
    if _observer is not None:
        _observer(out, op, inputs, saved)
    return out


# %%
def double(x):
    return result(2 * x.data, "double", x)


def listen(out, op, inputs, saved):
    print(f"{op}({', '.join(str(x.shape) for x in inputs)}) -> {out.shape}  saved: {sorted(saved)}")


before = set_recorder(listen)
print(double(x))
set_recorder(before)

# %% [markdown]
"""
And the scalars? Here is one addition in each form. A graph of very many tiny operations, as some models of physics or
finance are, lives on the first line.
"""

# %%
number = np.float32(0.5)
for kind, a in (("scalar", number), ("array of shape ()", np.asarray(number)), ("array of shape (1,)", number[None])):
    seconds = timeit.repeat("a + a", globals={"a": a}, number=1000, repeat=20)
    print(f"{kind:20} {1e9 * min(seconds) / 1000:5.0f} ns")

# %% [markdown]
"""
## Tensors out of nothing (given)

Zeros, ones, a range, random numbers. Skim them. All take `dtype=` (float32 if you say nothing) and `requires_grad=`.
The random ones draw from one generator that `manual_seed(0)` restarts: a run that starts with it can be repeated bit
for bit. `rng=` draws from another one, or from a seed of its own, and leaves the library's alone. It is made when first
needed, because importing `np.random` takes longer than importing everything else here.
"""

# %%
#| export
_generator = None  # made when first needed


def manual_seed(seed):
    """Restart the library's random generator: the same seed repeats a run bit for bit."""
    global _generator
    _generator = np.random.default_rng(seed)


def generator(rng=None):
    """The random generator to draw from: `rng` itself, one seeded with the integer `rng`, or the library's own."""
    if rng is None:
        if _generator is None:
            manual_seed(None)
        return _generator
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)


def tensor(data, dtype=None, requires_grad: bool = False) -> Tensor:
    """`Tensor(data)`, spelled as in PyTorch."""
    return Tensor(data, requires_grad=requires_grad, dtype=dtype)


def _spread(numbers):
    """(2, 3), whether f(2, 3), f((2, 3)) or f([2, 3]) was written."""
    return tuple(numbers[0]) if len(numbers) == 1 and isinstance(numbers[0], (tuple, list)) else tuple(numbers)


def _whole(op, numbers):
    """A tuple of Python integers."""
    try:
        return tuple(map(operator.index, numbers))
    except TypeError:
        raise TypeError(f"{op} needs whole numbers, got {numbers!r}") from None


def _shape(op, numbers):
    """The shape of a new array, in any of the ways of writing it."""
    shape = _whole(op, _spread(numbers))
    if any(n < 0 for n in shape):
        raise ValueError(f"{op} needs lengths of at least 0, got shape {shape}")
    return shape


def _leaf(array, requires_grad):
    out = from_numpy(array)
    if requires_grad:
        out.requires_grad = True
    return out


def _float32_or(dtype):
    return np.dtype(np.float32) if dtype is None else _number_dtype("a tensor", dtype)


def zeros(*shape, dtype=None, requires_grad: bool = False) -> Tensor:
    """A tensor of zeros: zeros(2, 3) or zeros((2, 3))."""
    return _leaf(np.zeros(_shape("zeros", shape), _float32_or(dtype)), requires_grad)


def ones(*shape, dtype=None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones."""
    return _leaf(np.ones(_shape("ones", shape), _float32_or(dtype)), requires_grad)


def full(shape, value, dtype=None, requires_grad: bool = False) -> Tensor:
    """A tensor with `value` everywhere; its dtype is the value's unless said otherwise."""
    return _leaf(np.full(_shape("full", (shape,)), as_array(value, dtype)), requires_grad)


def eye(n: int, m: int | None = None, dtype=None, requires_grad: bool = False) -> Tensor:
    """Ones on the diagonal of an (n, m) matrix, zeros elsewhere."""
    n, m = _shape("eye", (n, n if m is None else m))
    return _leaf(np.eye(n, m, dtype=_float32_or(dtype)), requires_grad)


def arange(start, stop=None, step=1, dtype=None, requires_grad: bool = False) -> Tensor:
    """start, start + step, ... before stop; arange(n) counts from 0. Whole numbers give int64."""
    if start is None or step == 0:
        raise ValueError(f"arange needs a start and a step other than 0, got start {start} and step {step}")
    if stop is None:
        start, stop = 0, start
    return _leaf(as_array(np.arange(start, stop, step), dtype), requires_grad)


def linspace(start, stop, num: int, dtype=None, requires_grad: bool = False) -> Tensor:
    """`num` numbers at equal distances from start to stop, both included."""
    (num,) = _shape("linspace", (num,))
    return _leaf(np.linspace(start, stop, num, dtype=_float32_or(dtype)), requires_grad)


def _random(op, draw, shape, dtype, requires_grad):
    dtype = _float32_or(dtype)
    if dtype.kind != "f":
        raise TypeError(f"{op} draws real numbers and needs a floating dtype, got {dtype}; use randint")
    drawn = draw(_shape(op, shape), dtype=np.float64 if dtype.itemsize > 4 else np.float32)
    return _leaf(np.asarray(drawn, dtype), requires_grad)


def rand(*shape, dtype=None, requires_grad: bool = False, rng=None) -> Tensor:
    """Uniform random numbers in [0, 1)."""
    return _random("rand", generator(rng).random, shape, dtype, requires_grad)


def randn(*shape, dtype=None, requires_grad: bool = False, rng=None) -> Tensor:
    """Normal random numbers with mean 0 and variance 1."""
    return _random("randn", generator(rng).standard_normal, shape, dtype, requires_grad)


def randint(low: int, high: int, shape, dtype=np.int64, requires_grad: bool = False, rng=None) -> Tensor:
    """Random whole numbers, low <= n < high."""
    if low >= high:
        raise ValueError(f"randint draws low <= n < high and needs low < high, got {low} and {high}")
    if np.dtype(dtype).kind not in "iub":
        raise TypeError(f"randint draws whole numbers and needs a dtype of integers, got {dtype}; use rand")
    drawn = generator(rng).integers(low, high, _shape("randint", (shape,)), dtype)
    return _leaf(np.asarray(drawn), requires_grad)


# %%
manual_seed(0)
print(zeros(2, 3), arange(4), linspace(0, 1, 5), sep="\n")
print(randn(3), randn(3), randn(3, rng=0), sep="\n")

# %% [markdown]
"""
## Shapes that meet: broadcasting

Add a bias of shape (3,) to a batch of shape (2, 3), a mean of shape (2, 1) to the same batch. Nobody wants to copy the
bias twice first. The rule that NumPy, PyTorch and everybody else agree on: **write the shapes one above the other,
aligned at the right. At every place the lengths are equal, or one of them is 1 (or missing) and is stretched.**

```
      (2, 3)        (2, 3)        (4, 1)        (2, 3)
   +     (3,)    +  (2, 1)     +     (3,)    +  (2,)
   ----------    ---------     ----------    ----------
      (2, 3)        (2, 3)        (4, 3)      3 against 2: error
```

The third is where accidents happen: predictions (4, 1) minus targets (4,) is not four differences but a table of
sixteen, and its mean is a number that looks like a loss.

**Write `broadcast_shape`**: from any number of shapes to the shape they have together. `_clash(op, shapes, axis, a, b)`
makes the error to raise where lengths `a` and `b` do not fit at `axis` (counted from the right: the last is -1).

`broadcast_shape("add", (2, 3), (3,))` is `(2, 3)`; with `(4, 1), (3,)` it is `(4, 3)`; with `(2, 3), (2,)` it raises.

<details><summary>Hint 1</summary>

Begin with a list of `ndim` ones, and let every shape improve it: two loops, over the shapes and over the lengths of
each.
</details>
<details><summary>Hint 2</summary>

A shape of 2 lengths beside one of 3 begins at place 1. `enumerate` takes the number to begin with as its second
argument.
</details>
<details><summary>Hint 3</summary>

Where the list holds 1, it takes the new length (which may be 1 or 0 as well). Otherwise the new length must be 1 or the
same. Place i, counted from the right, is `i - ndim`. Return a tuple.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "tensor-broadcast-shape", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _clash(op, shapes, axis, a, b):
    return ValueError(
        f"{op} needs shapes that broadcast, got {' and '.join(str(s) for s in shapes)}: at axis {axis} lengths "
        f"{a} and {b} differ and neither is 1; reshape one of them, or unsqueeze an axis"
    )


def broadcast_shape(op: str, *shapes) -> tuple:
    """The shape that arrays of `shapes` have together: aligned at the right, axes of length 1 stretch.

    Raises ValueError, in the name of operation `op`, where two lengths differ and neither is 1.
    """
    if shapes.count(shapes[0]) == len(shapes):  # nothing stretches
        return shapes[0]
    ndim = len(sorted(shapes, key=len)[-1])
    ### BEGIN SOLUTION
    together = [1] * ndim
    for shape in shapes:
        for i, length in enumerate(shape, ndim - len(shape)):
            if together[i] == 1:
                together[i] = length
            elif length != 1 and length != together[i]:
                raise _clash(op, shapes, i - ndim, together[i], length)
    return tuple(together)
    ### END SOLUTION


# %%
for shapes in [((2, 3), (3,)), ((2, 3), (2, 1)), ((4, 1), (4,)), ((8, 1, 6, 1), (7, 1, 5)), ((2, 3), (2,))]:
    try:
        print(shapes, "->", broadcast_shape("add", *shapes))
    except ValueError as error:
        print(shapes, "->", error)

# %% [markdown]
"""
## Two operands (given)

`x + y`, `x + 1`, `1 + x`, `x + [1, 2, 3]`, `array + x`: whatever stands beside a tensor, `pair` makes two tensors of
one dtype with shapes that fit, or an error that says what does not. The dtype rules follow one thought: *nothing
widens by accident*.

| beside a float32 tensor | the result is | why it matters |
|---|---|---|
| Python number, NumPy scalar of any width | float32 | `np.float64(0.1)` would turn everything after it into float64 |
| float64 array or list | float32 | that is NumPy's own choice of dtype, rarely yours |
| integers, booleans | float32 | a mask times a tensor |
| float64 *tensor* | float64 | somebody said `dtype=` and means it |

Beside an integer tensor, whole numbers keep its dtype and a Python float makes the result float32.
"""


# %%
#| export
def as_tensor(x) -> Tensor:
    """x itself if it is a tensor, otherwise a tensor of it."""
    return x if isinstance(x, Tensor) else Tensor(x)


def astype(x: Tensor, dtype) -> Tensor:
    """The values of x in another dtype, x itself if it has it; gradients pass between floating dtypes."""
    x = as_tensor(x)
    dtype = _number_dtype("astype", dtype)
    if dtype == x.dtype:
        return x
    return result(x.data.astype(dtype), "astype" if dtype.kind == "f" else "as_integers", x)


def floating(x) -> Tensor:
    """x as a floating tensor: integers and booleans become float32."""
    if isinstance(x, Tensor) and x._data.dtype.kind == "f":
        return x
    x = as_tensor(x)
    return x if x.dtype.kind == "f" else astype(x, np.float32)


def floats(*inputs) -> tuple[Tensor, ...]:
    """The inputs as floating tensors of one dtype, the widest of theirs; integers and booleans count as float32."""
    dtype = None
    for x in inputs:
        if not isinstance(x, Tensor):
            break
        if dtype is None:
            dtype = x._data.dtype
        elif x._data.dtype is not dtype:
            break
    else:
        if dtype.kind == "f":  # as nearly always: nothing to convert
            return inputs
    tensors = [floating(x) for x in inputs]
    dtype = np.result_type(*(x.dtype for x in tensors))
    return tuple(astype(x, dtype) for x in tensors)


@functools.lru_cache(maxsize=64)
def _filled(n, value, dtype):
    row = np.full(n, value, dtype)
    row.flags.writeable = False
    return row


def filled(n: int, value: float, like):
    """`value` n times, in the dtype of the array `like` and of its kind.

    Not to be written to: whoever asks for the same gets the same array.
    """
    return _filled(n, value, like.dtype) if type(like) is ndarray else np.full_like(like, value, shape=n)


def _common_dtype(a, b):
    """Floats win over integers and never widen because of them; otherwise as NumPy promotes, integers to integers."""
    if (a.kind == "f") != (b.kind == "f"):
        return a if a.kind == "f" else b
    dtype = np.result_type(a, b)
    return dtype if dtype.kind != "f" or a.kind == "f" else np.dtype(np.int64)  # uint64 with int64


def _beside(value, double):
    """`value` as a tensor; its floats as float64 if it stands beside `double` precision."""
    x = Tensor(value)
    return Tensor(value, dtype=np.float64) if double and x.dtype.kind == "f" else x


def _operand(op, value, other):
    """`value` as a tensor beside the tensor `other`, whose dtype it does not widen."""
    dtype = other._data.dtype
    if not isinstance(value, (int, float, np.integer, np.floating, np.bool_)):
        if value is None or isinstance(value, (str, bytes)):
            raise TypeError(f"{op} needs tensors, arrays or numbers, got {type(value).__name__}")
        return _beside(value, dtype == np.float64)
    if dtype.kind != "f":
        if isinstance(value, (float, np.floating)):
            dtype = np.float32
        elif not isinstance(value, (bool, np.bool_)):
            value = int(value)  # an np.int64 too large would wrap around without a word
            dtype = np.int64 if dtype.kind == "b" else dtype
    try:
        if isinstance(other._data, generic):
            return _box(np.asarray(value, dtype)[()])  # a number beside a number
        return _box(np.asarray(value, dtype, like=other._data))
    except OverflowError:
        raise ValueError(f"{op}: {value} does not fit the tensor's {dtype}; x.astype('int64') first") from None


def pair(op: str, a, b, broadcast: bool = True) -> tuple[Tensor, Tensor]:
    """The two operands of operation `op` as tensors of one dtype; their shapes must `broadcast`, unless told not to."""
    if not isinstance(a, Tensor):
        a = _operand(op, a, b) if isinstance(b, Tensor) else as_tensor(a)
    if not isinstance(b, Tensor):
        b = _operand(op, b, a)
    x, y = a._data, b._data
    if type(x) is type(y) and isinstance(x, generic):  # two numbers of one kind: nothing to agree on
        return a, b
    if x.dtype != y.dtype:
        dtype = _common_dtype(x.dtype, y.dtype)
        a, b = astype(a, dtype), astype(b, dtype)
    if broadcast and x.shape != y.shape and x.ndim and y.ndim:  # shape () fits everywhere
        broadcast_shape(op, x.shape, y.shape)
    return a, b


def _several(op, values):
    """Tensors of one dtype from a list of tensors or what could be one; an empty list is an error."""
    values = list(values)
    if not values:
        raise ValueError(f"{op} needs at least one tensor, got none")
    double = any(isinstance(x, Tensor) and x.dtype == np.float64 for x in values)
    tensors = [x if isinstance(x, Tensor) else _beside(x, double) for x in values]
    dtype = tensors[0].dtype
    for x in tensors[1:]:
        dtype = dtype if x.dtype == dtype else _common_dtype(dtype, x.dtype)
    return [x if x.dtype == dtype else astype(x, dtype) for x in tensors]


# %% [markdown]
"""
## Arithmetic

By hand, for two rows: `[1, 2, 3] + [10, 20, 30]` is `[11, 22, 33]`. As a loop, one line of Python per number; as one
call, a loop in C over bytes that lie side by side. How much does that matter?
"""


# %%
def naive_add(a, b):
    return [p + q for p, q in zip(a, b)]


left, right = randn(1_000_000).data, randn(1_000_000).data
left_list, right_list = left.tolist(), right.tolist()
loop, fast = milliseconds(lambda: naive_add(left_list, right_list), 3), milliseconds(lambda: left + right)
print(f"a million sums: Python loop {loop:.1f} ms, one call {fast:.2f} ms, {loop / fast:.0f} times faster")

# %% [markdown]
"""
**Write `add`, `sub`, `mul` and `div`.** `pair` has made `a` and `b` tensors of one dtype whose shapes fit. What is left
is one line each: NumPy's operator on the two arrays, boxed and announced under the function's name.

`add(Tensor([1.0, 2.0]), 10)` is `Tensor([11., 12.])`; `div(Tensor([1, 3]), 2)` is `Tensor([0.5, 1.5])`, a float32.

<details><summary>Hint 1</summary>

What `a` holds is `a._data` (array or scalar, whichever computes faster; `a.data` would make an array of it first). What
`result` wants, in this order: the array, the name, the inputs.
</details>
<details><summary>Hint 2</summary>

For `add` the array is `a._data + b._data`, the name `"add"`, the inputs `a` and `b`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "tensor-add", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def add(a: _Operand, b: _Operand) -> Tensor:
    """Element by element sum; shapes broadcast as in NumPy."""
    a, b = pair("add", a, b)
    ### BEGIN SOLUTION
    return result(a._data + b._data, "add", a, b)
    ### END SOLUTION


def sub(a: _Operand, b: _Operand) -> Tensor:
    """Element by element difference; shapes broadcast."""
    a, b = pair("sub", a, b)
    ### BEGIN SOLUTION
    return result(a._data - b._data, "sub", a, b)
    ### END SOLUTION


def mul(a: _Operand, b: _Operand) -> Tensor:
    """Element by element product; shapes broadcast."""
    a, b = pair("mul", a, b)
    ### BEGIN SOLUTION
    return result(a._data * b._data, "mul", a, b)
    ### END SOLUTION


def div(a: _Operand, b: _Operand) -> Tensor:
    """Element by element quotient; shapes broadcast, integers give float32."""
    a, b = pair("div", a, b)
    a, b = floating(a), floating(b)
    ### BEGIN SOLUTION
    return result(a._data / b._data, "div", a, b)
    ### END SOLUTION


# %%
x = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
print(x + [10, 20, 30])
print(1 / x)
print((x * np.float64(0.1)).dtype, "in a tensor;", (x.data * np.float64(0.1)).dtype, "in plain NumPy")
print("a label times 2 is", Tensor([2**24 + 1]) * 2, "and in float32", Tensor([2.0**24 + 1]) * 2)

# %% [markdown]
"""
## Powers, exponentials, logarithms

`x ** 3` looks like one operation. Measure it against two products before you believe it.
"""

# %%
values = randn(1_000_000).data
general, product = milliseconds(lambda: values**3), milliseconds(lambda: values * values * values)
print(f"x**3 {general:.2f} ms, x*x*x {product:.2f} ms, {general / product:.0f} times faster")

# %% [markdown]
"""
NumPy's power works for every exponent, and its way for 2.7 is its way for 3. The two exponents that networks use all
the time deserve better.

**Write `power`** on arrays. If the exponent is a single number (its `ndim` is 0) and equals 2 or 3, multiply; in every
other case leave it to `**`.

`power(np.array([2.0, -3.0]), np.array(3))` is `array([8., -27.])`.

**Write `exp`, `log` and `sqrt`**, too. NumPy has all three. The thing to think about is `saved`: the slope of `e^x` is
`e^x`, that of the root is `1 / (2 root)`. The rule in module 05 would have to compute them again, unless the output is
saved: `out=out`. The slope of the logarithm is `1 / x`, and x is an input, which is kept anyhow: nothing to save.

`exp(Tensor([0.0, 1.0]))` is `Tensor([1., 2.7183])`; `sqrt(Tensor([4, 9]))` is `Tensor([2., 3.])`.

<details><summary>Hint 1</summary>

Ask `exponent.ndim == 0` first: comparing a whole array with 2 gives an array, which is neither true nor false.
</details>
<details><summary>Hint 2</summary>

Where the output is saved it needs a name, `out`, and appears twice in the call of `result`: first, and as `out=out`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "tensor-exp", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def power(array, exponent):
    """array ** exponent for arrays; squares and cubes as products, which are many times faster than pow."""
    ### BEGIN SOLUTION
    if exponent.ndim == 0:
        if exponent == 2:
            return array * array
        if exponent == 3:
            return array * array * array
    return array**exponent
    ### END SOLUTION


def exp(x: Tensor) -> Tensor:
    """e to the power x, element by element."""
    x = floating(x)
    ### BEGIN SOLUTION
    out = np.exp(x._data)
    return result(out, "exp", x, out=out)
    ### END SOLUTION


def log(x: Tensor) -> Tensor:
    """Natural logarithm, element by element; -inf at 0 and NaN below, with NumPy's warning."""
    x = floating(x)
    ### BEGIN SOLUTION
    return result(np.log(x._data), "log", x)
    ### END SOLUTION


def sqrt(x: Tensor) -> Tensor:
    """Square root, element by element."""
    x = floating(x)
    ### BEGIN SOLUTION
    out = np.sqrt(x._data)
    return result(out, "sqrt", x, out=out)
    ### END SOLUTION


# %% [markdown]
"""
Given: the power with its checks, sign and absolute value, comparisons and logic. Comparisons announce themselves like
everything else, but their results are booleans, to which no gradient belongs.
"""


# %%
#| export
def pow(a: _Operand, b: _Operand) -> Tensor:
    """a to the power b, element by element; shapes broadcast. A negative base needs a whole exponent.

    Raises ValueError for integers to a negative power, which are no integers.
    """
    a, b = pair("pow", a, b)
    if a.dtype.kind in "iu" and b.size and b.data.min() < 0:
        raise ValueError(f"pow of integers needs exponents >= 0, got {b.data.min()}; x.astype('float32') first")
    return result(power(a._data, b._data), "pow", a, b)


def neg(x: Tensor) -> Tensor:
    """-x, element by element."""
    x = as_tensor(x)
    return result(-x._data, "neg", x)


def abs(x: Tensor) -> Tensor:
    """Distance from zero, element by element; the gradient at 0 is 0."""
    x = as_tensor(x)
    return result(np.abs(x._data), "abs", x)


def _compare(compare, a, b):
    """Element by element comparison of a tensor with anything: a boolean tensor, to which no gradient belongs."""
    if not isinstance(b, (Tensor, bool, int, float, generic, list, tuple)) and not hasattr(b, "__array_function__"):
        return NotImplemented
    a, b = pair(compare.__name__, a, b)
    return result(compare(a.data, b.data), compare.__name__, a, b)


def _needs_bits(op, x):
    if x.dtype.kind == "f":
        raise TypeError(f"{op} needs booleans or integers, got {x.dtype}; compare first, as in x > 0")


def _combine(combine, a, b):
    """and, or, xor: of booleans, or of the bits of integers."""
    a, b = pair(combine.__name__, a, b)
    _needs_bits(combine.__name__, a)
    return result(combine(a.data, b.data), combine.__name__, a, b)


# %%
x = Tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]])
print(x**2)
print(exp(log(abs(x))))
print((x > 0) & (x < 4))

# %% [markdown]
"""
## The matrix product

The operation networks spend their time in. Row i of the left, column j of the right, products summed:

```
             b  [ 5  6 ]
                [ 7  8 ]
   a  [ 1  2 ]  [ 19 22 ]      19 = 1*5 + 2*7      22 = 1*6 + 2*8
      [ 3  4 ]  [ 43 50 ]      43 = 3*5 + 4*7      50 = 3*6 + 4*8
```

(M, K) times (K, N) is (M, N): the inner lengths must agree and disappear. Every number of the result costs K products
and K sums, so all cost 2 M K N operations. Three loops say it exactly:
"""


# %%
def naive_matmul(a, b):
    M, K = a.shape
    _, N = b.shape
    out = np.zeros((M, N), np.float32)
    for i in range(M):
        for j in range(N):
            for k in range(K):
                out[i, j] += a[i, k] * b[k, j]
    return out


print(naive_matmul(np.array([[1, 2], [3, 4]]), np.array([[5, 6], [7, 8]])))
a, b = randn(40, 50).data, randn(50, 30).data
loop, fast = milliseconds(lambda: naive_matmul(a, b), 3), milliseconds(lambda: a @ b, 50)
print(f"(40, 50) @ (50, 30): three loops {loop:.1f} ms, BLAS {fast:.4f} ms, {loop / fast:.0f} times faster")

# %% [markdown]
"""
More than two axes: the last two are the matrices, those in front broadcast. (8, 2, 3) @ (8, 3, 4) is eight products,
(8, 2, 3) @ (3, 4) is eight products with the same right side, as in a layer that is applied to a batch of sentences.
That second case hides something: with one right side for all, the eight matrices of 2 rows might as well be one matrix
of 16 rows. A large product is faster than many small ones, because a matrix once read is used for more rows.

**Write the end of `matmul`**; the checks stand. If the left has more than two axes and the right has two, lay the left
out as one matrix, multiply, and give the result its axes back. Otherwise `@` does all.

`matmul(Tensor([[1, 2], [3, 4]]), Tensor([[5, 6], [7, 8]]))` is `Tensor([[19, 22], [43, 50]])`; the shape of
`matmul(ones(8, 2, 3), ones(3, 4))` is `(8, 2, 4)`.

<details><summary>Hint 1</summary>

For a left side (8, 2, 3): reshape to (16, 3), multiply with (3, 4), reshape (16, 4) to (8, 2, 4).
</details>
<details><summary>Hint 2</summary>

`math.prod` of all lengths before the last is the 16. (Do not write -1 for it: with K = 0 there would be nothing to
divide.)
</details>
<details><summary>Hint 3</summary>

The first reshape is to that number and `x.shape[-1]`; the second to `*x.shape[:-1]` and `y.shape[-1]`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "tensor-matmul", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def matmul(a: _Operand, b: _Operand) -> Tensor:
    """Matrix product over the last two axes; leading axes broadcast.

    a (..., M, K), b (..., K, N) -> (..., M, N); a vector on either side is a row or a column that the result drops
    """
    a, b = pair("matmul", a, b, broadcast=False)
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul needs at least vectors, got shapes {a.shape} and {b.shape}; for numbers use *")
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        raise ValueError(
            f"matmul needs as many columns on the left as rows on the right, got {a.shape} @ {b.shape}: "
            f"{a.shape[-1]} and {inner}; transpose one of them, or check the layer's sizes"
        )
    if a.ndim > 2 and b.ndim > 2:
        broadcast_shape(f"matmul {a.shape} @ {b.shape}, before the matrices,", a.shape[:-2], b.shape[:-2])
    x, y = a.data, b.data
    ### BEGIN SOLUTION
    if x.ndim > 2 and y.ndim == 2:  # one large product is faster than many small ones
        rows = math.prod(x.shape[:-1])
        out = (x.reshape(rows, x.shape[-1]) @ y).reshape(*x.shape[:-1], y.shape[-1])
    else:
        out = x @ y
    return result(out, "matmul", a, b)
    ### END SOLUTION


# %%
batch, weight = randn(256, 8, 64), randn(64, 64)
print((batch @ weight).shape, (batch @ randn(64)).shape, (randn(5, 1, 2, 3) @ randn(7, 3, 4)).shape)
many, one = milliseconds(lambda: batch.data @ weight.data, 20), milliseconds(lambda: batch @ weight, 20)
print(f"256 products of (8, 64) @ (64, 64): one by one {many:.2f} ms, as one {one:.2f} ms")
try:
    randn(2, 3) @ randn(2, 3)
except ValueError as error:
    print(error)

# %% [markdown]
"""
## Reductions: which axis disappears?

A reduction takes many numbers to one. The axis you name is the one that *disappears*; `keepdims=True` leaves it there
with length 1, so that the result still broadcasts against what it came from.

```
   x  [ 1  2  3 ]      x.sum()          21
      [ 4  5  6 ]      x.sum(axis=0)    [ 5  7  9 ]      axis 0, downwards, is gone: (3,)
      (2, 3)           x.sum(axis=1)    [ 6  15 ]        axis 1, along the rows, is gone: (2,)
                       x.sum(axis=1, keepdims=True)      [[ 6 ], [ 15 ]]: (2, 1), so x / that works
```

As loops, for two axes: the loop over the axis that disappears is the inner one.
"""


# %%
def naive_sum(x, axis):
    M, N = x.shape
    if axis == 1:
        out = np.zeros(M, x.dtype)
        for i in range(M):
            for j in range(N):
                out[i] += x[i, j]
    else:
        out = np.zeros(N, x.dtype)
        for j in range(N):
            for i in range(M):
                out[j] += x[i, j]
    return out


print(naive_sum(np.array([[1, 2, 3], [4, 5, 6]]), axis=0), naive_sum(np.array([[1, 2, 3], [4, 5, 6]]), axis=1))

# %% [markdown]
"""
First the checks (given). `normalize_axes` turns `None`, `1`, `-1`, `(0, -1)` into `None` or a tuple of axes counted
from the left, and refuses what x does not have.
"""


# %%
#| export
def normalize_axes(op: str, x: Tensor, axis: _Axes) -> tuple | None:
    """`axis` (None, an integer or several) as a tuple of axes 0 <= axis < x.ndim, or None for all of them.

    Raises ValueError, in the name of operation `op`, for an axis that x lacks or that is named twice.
    """
    if axis is None:
        return None
    axes, ndim = [], x.ndim
    if type(axis) is int and -ndim <= axis < ndim:  # the most frequent case, without the loop
        return (axis % ndim,)
    for i in axis if isinstance(axis, (tuple, list)) else (axis,):
        try:
            i = operator.index(i)
        except TypeError:
            raise TypeError(f"{op} needs whole numbers as axes, got {i!r}") from None
        if not -ndim <= i < ndim:
            raise ValueError(f"{op} needs an axis of a tensor of shape {x.shape}, got axis {i}")
        axes.append(i % ndim)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{op} names an axis twice: {axis} for shape {x.shape}")
    return tuple(axes)


def _one_axis(op, x, axis):
    axes = normalize_axes(op, x, axis)
    if axes is None or len(axes) != 1:
        raise ValueError(f"{op} needs one axis of shape {x.shape}, got {axis}")
    return axes[0]


def _count(x, axes):
    """How many elements one reduction over `axes` takes in."""
    return x.size if axes is None else math.prod(x.shape[i] for i in axes)


def _needs_elements(op, x, axes):
    if _count(x, axes) == 0:
        raise ValueError(f"{op} needs at least one element, got shape {x.shape} over axis {axes}")


def _drop(array, axes):
    """An array reduced with keepdims, without the axes it was reduced over."""
    return array.reshape(()) if axes is None else array.squeeze(axes)


# %% [markdown]
"""
**Write `sum`, `mean` and `var`.** Arrays have methods `sum` and `mean` that take `axis=` (a tuple or None, as `axes`
is) and `keepdims=`. Announce each under its name and save what a rule will need:

- `sum` saves `axis=axes`;
- `mean` saves that and `count=`, the number of elements per mean, which `_count(x, axes)` tells;
- `var`, the mean squared distance from the mean, saves `axis`, `count` (n - correction, computed already) and `center`,
  the means with their axes kept.

`x = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]])`: `sum(x, 0)` is `[5, 7, 12]`, `mean(x, 1)` is `[2, 6]`; `var(x, 1)` is
`[0.6667, 4.6667]`, because (1 + 0 + 1) / 3 and (4 + 1 + 9) / 3; with `correction=1` it is `[1, 7]`.

<details><summary>Hint 1</summary>

The array of `sum` is `x.data.sum(axis=axes, keepdims=keepdims)`; the call of `result` ends in `axis=axes`.
</details>
<details><summary>Hint 2</summary>

For `var`, the mean is needed with `keepdims=True` whatever the caller wants, so that it broadcasts against x.
</details>
<details><summary>Hint 3</summary>

Distance from the center; squared; summed as the caller wants it; divided by `count`. The distances are a fresh array
that nobody else holds, so they may be squared in place (`*=`), which saves another one.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "tensor-reductions", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def sum(x: Tensor, axis: _Axes = None, keepdims: bool = False) -> Tensor:
    """Sum over `axis` (None: all; one; several). keepdims leaves the axes with length 1."""
    x = as_tensor(x)
    axes = normalize_axes("sum", x, axis)
    ### BEGIN SOLUTION
    return result(x.data.sum(axis=axes, keepdims=keepdims), "sum", x, axis=axes)
    ### END SOLUTION


def mean(x: Tensor, axis: _Axes = None, keepdims: bool = False) -> Tensor:
    """Average over `axis`; integers give float32."""
    x = floating(x)
    axes = normalize_axes("mean", x, axis)
    _needs_elements("mean", x, axes)
    ### BEGIN SOLUTION
    out = x.data.mean(axis=axes, keepdims=keepdims)
    return result(out, "mean", x, axis=axes, count=_count(x, axes))
    ### END SOLUTION


def var(x: Tensor, axis: _Axes = None, keepdims: bool = False, correction: int = 0) -> Tensor:
    """Mean squared distance from the mean over `axis`.

    correction   subtracted from the count: 0 as in NumPy and normalisation layers, 1 as in torch.var
    """
    x = floating(x)
    axes = normalize_axes("var", x, axis)
    count = _count(x, axes) - correction
    if count <= 0:
        raise ValueError(f"var needs more than {correction} elements, got shape {x.shape} over axis {axes}")
    ### BEGIN SOLUTION
    center = x.data.mean(axis=axes, keepdims=True)
    distance = x.data - center
    distance *= distance
    out = distance.sum(axis=axes, keepdims=keepdims) / count
    return result(out, "var", x, axis=axes, count=count, center=center)
    ### END SOLUTION


def std(x: Tensor, axis: _Axes = None, keepdims: bool = False, correction: int = 0) -> Tensor:
    """Square root of `var`, in the units of x."""
    return sqrt(var(x, axis, keepdims, correction))


# %%
x = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]])
print(sum(x, 0), mean(x, 1), var(x, 1), std(x, 1, correction=1))
print(x - x.mean(axis=1, keepdims=True))
print((x > 2).sum(), (x > 2).mean())

# %% [markdown]
"""
The last line is worth remembering: the sum of a mask counts, its mean is the share that is true, and
`(pred == target).mean()` is the accuracy of a classifier.

What goes wrong in practice: without `keepdims`, `x - x.mean(axis=1)` asks for (2, 3) minus (2,), an error you are glad
of. With a *square* x there is no error: row means are subtracted from columns, and the numbers are wrong.

## Largest, smallest, where

For the largest element the rule of module 05 asks "which elements were equal to it?", so it wants the maxima with their
axes kept.

**Write `max` and `min`.** Compute with `keepdims=True`, save that as `extreme=` (and `axis=axes`), and return the
values with the axes or, if the caller did not ask for them, without: `_drop(array, axes)` drops them.

`max(Tensor([[1, 7, 3], [9, 5, 6]]), axis=1)` is `Tensor([7, 9])`.

<details><summary>Hint 1</summary>

The method `max` of the array takes `axis=axes` and `keepdims=True`.
</details>
<details><summary>Hint 2</summary>

What is boxed is `out if keepdims else _drop(out, axes)`; what is saved is `out`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "tensor-max", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def max(x: Tensor, axis: _Axes = None, keepdims: bool = False) -> Tensor:
    """Largest element over `axis`. Where several tie, they share the gradient equally."""
    x = as_tensor(x)
    axes = normalize_axes("max", x, axis)
    _needs_elements("max", x, axes)
    ### BEGIN SOLUTION
    out = x.data.max(axis=axes, keepdims=True)
    return result(out if keepdims else _drop(out, axes), "max", x, axis=axes, extreme=out)
    ### END SOLUTION


def min(x: Tensor, axis: _Axes = None, keepdims: bool = False) -> Tensor:
    """Smallest element over `axis`. Where several tie, they share the gradient equally."""
    x = as_tensor(x)
    axes = normalize_axes("min", x, axis)
    _needs_elements("min", x, axes)
    ### BEGIN SOLUTION
    out = x.data.min(axis=axes, keepdims=True)
    return result(out if keepdims else _drop(out, axes), "min", x, axis=axes, extreme=out)
    ### END SOLUTION


# %% [markdown]
"""
Given: where the extremes stand, and running sums.
"""


# %%
#| export
def _arg(op, x, axis, keepdims):
    x = as_tensor(x)
    axis = None if axis is None else _one_axis(op, x, axis)
    _needs_elements(op, x, None if axis is None else (axis,))
    find = np.argmax if op == "argmax" else np.argmin
    return result(find(x.data, axis=axis, keepdims=keepdims), op, x)


def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where the largest element stands along `axis` (None: in the flattened tensor); the first one of equals."""
    return _arg("argmax", x, axis, keepdims)


def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Where the smallest element stands along `axis`; the first one of equals."""
    return _arg("argmin", x, axis, keepdims)


def cumsum(x: Tensor, axis: int = -1) -> Tensor:
    """Running sum along `axis`."""
    x = as_tensor(x)
    axis = _one_axis("cumsum", x, axis)
    return result(x.data.cumsum(axis), "cumsum", x, axis=axis)


# %% [markdown]
"""
## A sum that overflows on the way

The logarithm of a sum of exponentials is at the bottom of every classifier (module 04). For x = [1000, 1000] it is
log(2 e^1000) = 1000 + log 2 = 1000.6931. Typed in as it stands:
"""


# %%
def naive_logsumexp(x, axis):
    with np.errstate(over="ignore", divide="ignore"):
        return np.log(np.exp(x).sum(axis=axis))


for row in ([1.0, 2.0, 3.0], [1000.0, 1000.0], [-1000.0, -1000.0]):
    print(f"{row!s:20} -> {naive_logsumexp(np.array(row, np.float32), -1)}")

# %% [markdown]
"""
The answer is an ordinary number, the steps on the way are not: e^89 is beyond float32, and e^-1000 is 0. Take the
largest element m out of the sum before exponentiating:

```
   log(sum e^x)  =  log(e^m sum e^(x-m))  =  m + log(sum e^(x-m))          x - m <= 0, and one of them is 0
```

Now nothing overflows, and the sum is at least 1. For [1000, 1000]: 1000 + log(1 + 1). One case is left: if all x are
-inf, as in a row of masked scores, m is -inf, and -inf - (-inf) is not a number. There, and wherever m is not finite,
shift by 0 instead.

**Write the middle of `logsumexp`.** Leave its result with the axes kept in `out`; the end is written.

`logsumexp(Tensor([[1000.0, 1000.0], [0.0, -np.inf]]), axis=1)` is `Tensor([1000.6931, 0.])`.

<details><summary>Hint 1</summary>

Three lines: the peak, with `keepdims=True`; the peak made finite; `out`.
</details>
<details><summary>Hint 2</summary>

For the second, `np.where` with `np.isfinite(peak)` as the condition.
</details>
<details><summary>Hint 3</summary>

From inside out: x minus the peak, `np.exp`, the sum with `axis=axes` and `keepdims=True`, `np.log`, plus the peak. The
`with` above silences the warnings about log(0), which is the -inf we want, and about overflow where x holds +inf.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "tensor-logsumexp", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def logsumexp(x: Tensor, axis: _Axes = None, keepdims: bool = False) -> Tensor:
    """log of the sum of exp over `axis`, computed around the maximum so that nothing overflows.

    A slice of nothing but -inf gives -inf.
    """
    x = floating(x)
    axes = normalize_axes("logsumexp", x, axis)
    _needs_elements("logsumexp", x, axes)
    with np.errstate(divide="ignore", over="ignore"):  # log(0) is the -inf we want; e^x is inf only beside an inf
        ### BEGIN SOLUTION
        peak = x.data.max(axis=axes, keepdims=True)
        peak = np.where(np.isfinite(peak), peak, 0)  # inf - inf is not a number, and exp(-inf) needs no shift
        out = np.log(np.exp(x.data - peak).sum(axis=axes, keepdims=True)) + peak
        ### END SOLUTION
    return result(out if keepdims else _drop(out, axes), "logsumexp", x, axis=axes, out=out)


# %%
print(logsumexp(Tensor([[1.0, 2.0, 3.0], [1000.0, 1000.0, -np.inf], [-1000.0, -1000.0, -1000.0]]), axis=1))

# %% [markdown]
"""
Here is the place to stop for an evening.

## Shapes: one row of bytes, many readings

Memory has no rows and columns. An array of shape (2, 3) is six numbers side by side plus two *strides*: how many bytes
to walk for one step down, and for one step to the right. Transposing swaps the strides and moves nothing.

```
   memory       1   2   3   4   5   6            4 bytes each

   (2, 3)   strides (12, 4)    1 2 3             one down: 12 bytes, one right: 4
                               4 5 6
   (3, 2)   reshaped, strides (8, 4)             the same walk through memory, new line breaks
                               1 2
                               3 4
                               5 6
   (3, 2)   transposed, strides (4, 12)          another walk through the same memory
                               1 4
                               2 5
                               3 6
```

Reshape and transpose give the same *shape* and different *tensors*. To turn (N, T, H) into (T, N, H) is a permutation;
a reshape would mix up the sentences, nothing would crash, and the model would learn to predict noise.

**Write the middle of `reshape`, and the end of `permute`.** In a shape given to `reshape`, one length may be -1: it is
what is left of `x.size` when the other lengths are divided out. Fill it in; what follows refuses shapes of another
size. `permute` needs one line; save `axes=axes`, so that its rule can put them back.

`reshape(arange(6), 3, -1)` has shape `(3, 2)`; `permute(zeros(2, 3, 4), 2, 0, 1)` has shape `(4, 2, 3)`.

<details><summary>Hint 1</summary>

Only if `shape.count(-1)` is 1. `math.prod` multiplies the other lengths. If that is 0 there is nothing to divide by:
take -1 as 0 then.
</details>
<details><summary>Hint 2</summary>

The new shape is a tuple that takes over every length but the -1. For `permute`, NumPy's method is called `transpose`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "tensor-reshape", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def reshape(x: Tensor, *shape) -> Tensor:
    """The same elements, in the same order, in another shape; one length may be -1 (what is left)."""
    x = as_tensor(x)
    shape = _whole("reshape", _spread(shape))
    ### BEGIN SOLUTION
    if shape.count(-1) == 1:
        known = math.prod(n for n in shape if n != -1)
        rest = x.size // known if known else 0
        shape = tuple(rest if n == -1 else n for n in shape)
    ### END SOLUTION
    if (shape and sorted(shape)[0] < 0) or math.prod(shape) != x.size:
        raise ValueError(f"reshape needs a shape of {x.size} elements for a tensor of shape {x.shape}, got {shape}")
    return result(x.data.reshape(shape), "reshape", x)


def permute(x: Tensor, *axes) -> Tensor:
    """The axes in another order: axis i of the result is axis axes[i] of x."""
    x = as_tensor(x)
    axes = normalize_axes("permute", x, _spread(axes))
    if len(axes) != x.ndim:
        raise ValueError(f"permute needs every axis of shape {x.shape} once, got {axes}")
    ### BEGIN SOLUTION
    return result(x.data.transpose(axes), "permute", x, axes=axes)
    ### END SOLUTION


# %%
x = arange(1, 7).astype(np.float32).reshape(2, 3)
print("reshaped\n", x.reshape(3, 2).data, "\npermuted\n", permute(x, 1, 0).data, sep="")
for name, view in [("x", x), ("reshaped", x.reshape(3, 2)), ("permuted", permute(x, 1, 0))]:
    shared = np.shares_memory(x.data, view.data)
    print(f"{name:10} shape {view.shape}  strides {view.data.strides!s:8} shares memory with x: {shared}")
again = permute(x, 1, 0).reshape(6)
print("permuted, then reshaped:", again, "shares memory:", np.shares_memory(x.data, again.data))

# %% [markdown]
"""
Reshaping and permuting are views: no number is copied. Permuting and *then* reshaping has to copy: no strides read
1 4 2 5 3 6 out of 1 2 3 4 5 6.

Given: everything else about shapes is one of these two. `broadcast_to` stretches without copying, by a stride of 0:
one step right stays at the same bytes.
"""


# %%
#| export
def swapaxes(x: Tensor, axis1: int, axis2: int) -> Tensor:
    """x with two axes exchanged."""
    x = as_tensor(x)
    i, j = _one_axis("swapaxes", x, axis1), _one_axis("swapaxes", x, axis2)
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return result(x.data.transpose(order), "permute", x, axes=tuple(order))


def transpose(x: Tensor, *axes) -> Tensor:
    """transpose(x): axes reversed. transpose(x, i, j): these two swapped. transpose(x, *axes): as `permute`."""
    x = as_tensor(x)
    axes = _spread(axes)
    if not axes:
        return permute(x, *range(x.ndim)[::-1])
    return swapaxes(x, *axes) if len(axes) == 2 else permute(x, *axes)


def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes start_dim to end_dim as one."""
    x = as_tensor(x)
    if x.ndim == 0:
        return reshape(x, 1)
    start, end = _one_axis("flatten", x, start_dim), _one_axis("flatten", x, end_dim)
    if start > end:
        raise ValueError(f"flatten needs start_dim <= end_dim, got {start_dim} and {end_dim} for shape {x.shape}")
    return reshape(x, *x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :])


def squeeze(x: Tensor, axis: _Axes = None) -> Tensor:
    """Drop axes of length 1: all of them, or those named."""
    x = as_tensor(x)
    if axis is None:
        return reshape(x, [n for n in x.shape if n != 1])
    axes = normalize_axes("squeeze", x, axis)
    if any(x.shape[i] != 1 for i in axes):
        raise ValueError(f"squeeze needs axes of length 1, got axis {axis} of shape {x.shape}")
    return reshape(x, [n for i, n in enumerate(x.shape) if i not in axes])


def _new_axis(op, x, axis):
    """Where the new axis comes to stand, counted from the left."""
    (axis,) = _whole(op, (axis,))
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise ValueError(f"{op} needs an axis between {-x.ndim - 1} and {x.ndim} for shape {x.shape}, got {axis}")
    return axis % (x.ndim + 1)


def unsqueeze(x: Tensor, axis: int) -> Tensor:
    """A new axis of length 1, before `axis` of the result."""
    x = as_tensor(x)
    axis = _new_axis("unsqueeze", x, axis)
    return reshape(x, x.shape[:axis] + (1,) + x.shape[axis:])


def broadcast_to(x: Tensor, *shape) -> Tensor:
    """x stretched to `shape`, as arithmetic would, without copying: the result can be read but not written into."""
    x = as_tensor(x)
    shape = _shape("broadcast_to", shape)
    if broadcast_shape("broadcast_to", x.shape, shape) != shape:
        raise ValueError(f"broadcast_to cannot shrink a tensor of shape {x.shape} to {shape}")
    return result(np.broadcast_to(x.data, shape), "broadcast_to", x)


# %%
row = broadcast_to(arange(3), 1000, 3)
print(row.shape, "strides", row.data.strides, "for a length of 1000 that takes no memory")

# %% [markdown]
"""
## Putting together, cutting apart

`cat` joins along an axis that is there, and adds its lengths; `stack` makes a new axis. Two tensors (2, 3): `cat` along
0 gives (4, 3), along 1 (2, 6); `stack` gives (2, 2, 3).

**Write `cat` and `stack`.** Dtypes and shapes are checked. `cat` is NumPy's `concatenate` on the arrays, announced with
all the tensors as inputs and `axis=axis` saved. `stack` needs no operation of its own: give every tensor an axis of
length 1 at the right place, and `cat` along it. Operations made of others have their gradients for free.

`stack([Tensor([1, 2]), Tensor([3, 4])], axis=1)` is `Tensor([[1, 3], [2, 4]])`.

<details><summary>Hint 1</summary>

The arrays are `[x.data for x in tensors]`. All inputs go to `result` as `*tensors`.
</details>
<details><summary>Hint 2</summary>

`unsqueeze(x, axis)` makes the new axis.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "tensor-cat", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def cat(tensors, axis: int = 0) -> Tensor:
    """Tensors one after the other along an axis they have; all other lengths agree."""
    tensors = _several("cat", tensors)
    axis = _one_axis("cat", tensors[0], axis)
    first = tensors[0].shape
    for x in tensors:
        if x.ndim != len(first) or x.shape[:axis] != first[:axis] or x.shape[axis + 1 :] != first[axis + 1 :]:
            raise ValueError(f"cat along axis {axis} needs all other lengths equal, got {first} and {x.shape}")
    ### BEGIN SOLUTION
    return result(np.concatenate([x.data for x in tensors], axis=axis), "cat", *tensors, axis=axis)
    ### END SOLUTION


def stack(tensors, axis: int = 0) -> Tensor:
    """Tensors of one shape along a new axis."""
    tensors = _several("stack", tensors)
    for x in tensors:
        if x.shape != tensors[0].shape:
            raise ValueError(f"stack needs tensors of one shape, got {tensors[0].shape} and {x.shape}")
    axis = _new_axis("stack", tensors[0], axis)
    ### BEGIN SOLUTION
    return cat([unsqueeze(x, axis) for x in tensors], axis)
    ### END SOLUTION


# %% [markdown]
"""
## Picking: indices, masks, and what may not be written

`x[...]` takes what NumPy takes: integers, slices, `None`, `...`, lists and arrays of integers, boolean masks, and
tensors of either. Integers and slices give views; lists, arrays and masks copy, because no stride describes them.

The way back, writing, is where gradients get lost, so it is fenced in. `x += y` makes a *new* array for x: whoever
holds a view of the old one keeps the old values. `x[i] = y` does write into the array. Both are refused where a
gradient would need the old values, once somebody records (module 05).

Given; read `getitem`, skim the rest.
"""


# %%
#| export
def _index(index):
    """An index with arrays of its own in place of tensors, arrays and lists: it is kept for the gradient."""
    if index is None or index is ... or isinstance(index, (int, slice)):
        return index
    if isinstance(index, tuple):
        return tuple(_index(list(i) if isinstance(i, tuple) else i) for i in index)
    if isinstance(index, Tensor):
        index = index.data
    elif isinstance(index, list):
        index = np.asarray(index, dtype=np.int64 if not index else None)
    if not hasattr(index, "__array_function__"):
        return index
    if index.dtype.kind not in "iub":
        raise TypeError(f"an index needs integers or booleans, got an array of {index.dtype}")
    return index.copy()


def getitem(x: Tensor, index) -> Tensor:
    """x[index]: integers, slices, None, ..., integer arrays and boolean masks, as NumPy reads them."""
    x = as_tensor(x)
    index = _index(index)
    return result(x.data[index], "getitem", x, index=index)


def _refuse_in_place(x):
    """In-place changes are for tensors that no gradient will be asked through."""
    if _recorder is not None and x._requires_grad and (x._grad_fn is None or x._used):
        raise RuntimeError(
            "in-place change of a tensor that autograd needs: its old values may be part of a gradient. "
            "Write x = x + y instead of x += y, or change parameters under no_grad()"
        )


def _update(x, op, other):
    """x op= other: the tensor gets a new array, so that views of the old one keep their values."""
    _refuse_in_place(x)
    out = op(x, other)
    if out.shape != x.shape or out.dtype != x.dtype:
        raise ValueError(f"in-place {op.__name__} cannot turn {x.dtype} {x.shape} into {out.dtype} {out.shape}")
    if out._requires_grad:
        return out  # `total += loss`: the name moves on to the sum, which knows its history
    x.data = out.data
    return x


def _write(x, index, value):
    """x[index] = value, into the array itself."""
    if _recorder is not None and (x._requires_grad or (isinstance(value, Tensor) and value._requires_grad)):
        raise RuntimeError("x[...] = value would lose a gradient; use where() or cat(), or write under no_grad()")
    x.data[_index(index)] = value.data if isinstance(value, Tensor) else value
    x._version += 1
    _note_write(x._data)


def split(x: Tensor, sizes, axis: int = 0) -> tuple[Tensor, ...]:
    """x cut along `axis`: into pieces of `sizes` elements (the last may be shorter), or of the sizes listed."""
    x = as_tensor(x)
    axis = _one_axis("split", x, axis)
    length = x.shape[axis]
    if isinstance(sizes, (int, np.integer)):
        if sizes < 1:
            raise ValueError(f"split needs pieces of at least one element, got {sizes}")
        stops = [*range(sizes, length, sizes), length]
    else:
        sizes = _whole("split", sizes)
        stops = np.cumsum(sizes).tolist()
        if stops[-1:] != [length] or any(n < 0 for n in sizes):
            raise ValueError(f"split needs sizes that add up to {length} (axis {axis} of {x.shape}), got {sizes}")
    before = (slice(None),) * axis
    return tuple(x[(*before, slice(start, stop))] for start, stop in zip([0, *stops], stops))


# %%
x = arange(12).reshape(3, 4)
for text, part in [("x[1]", x[1]), ("x[:, ::2]", x[:, ::2]), ("x[[2, 0]]", x[[2, 0]]), ("x[x > 8]", x[x > 8])]:
    view = np.shares_memory(part.data, x.data)
    print(f"{text:10} {part.data.tolist()!s:34} {'view' if view else 'copy'}")
print([part.shape for part in split(x, [1, 3], axis=1)], cat(split(x, 3, axis=1), axis=1).shape)

# %% [markdown]
"""
## Choosing element by element

**Write `where`**: `a` where the condition holds, `b` elsewhere. NumPy has it. Which input is the condition? None: no
gradient can flow to a boolean. So it is saved, `condition=condition`, and a and b are the inputs.

`where(Tensor([True, False]), Tensor([1.0, 2.0]), 0.0)` is `Tensor([1., 0.])`.

<details><summary>Hint 1</summary>

`np.where(condition, taken_if_true, taken_if_false)`
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "tensor-where", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _mask(op, condition):
    """The boolean array of a condition; a copy, because it is kept for the gradient."""
    condition = condition.data if isinstance(condition, Tensor) else condition
    if not hasattr(condition, "__array_function__"):
        condition = np.asarray(condition)
    if condition.dtype != np.bool_:
        raise TypeError(f"{op} needs a boolean condition, got {condition.dtype}; compare first, as in x > 0")
    return condition.copy()


def where(condition, a: _Operand, b: _Operand) -> Tensor:
    """a where the boolean condition holds, b elsewhere; all three broadcast."""
    condition = _mask("where", condition)
    a, b = pair("where", a, b)
    broadcast_shape("where", condition.shape, a.shape, b.shape)
    ### BEGIN SOLUTION
    return result(np.where(condition, a.data, b.data), "where", a, b, condition=condition)
    ### END SOLUTION


# %% [markdown]
"""
Given: filling where a mask holds, which is `where` (attention hides the future with it), and pulling into bounds.
"""


# %%
#| export
def masked_fill(x: Tensor, mask, value) -> Tensor:
    """x, with `value` wherever the boolean mask holds."""
    return where(mask, value, as_tensor(x))


def clip(x: Tensor, min=None, max=None) -> Tensor:
    """x pulled into [min, max]; the gradient is 1 inside, bounds included, and 0 outside; the bounds get none."""
    x = as_tensor(x)
    if min is None and max is None:
        raise ValueError("clip needs a min, a max, or both")
    bounds = []
    for bound in (min, max):
        if bound is not None:
            x, bound = pair("clip", x, bound)
            if bound.requires_grad:
                raise ValueError("clip sends no gradient to its bounds; detach() them, or use where")
            if broadcast_shape("clip", x.shape, bound.shape) != x.shape:
                raise ValueError(f"clip needs bounds that broadcast to shape {x.shape}, got {bound.shape}")
        bounds.append(bound)
    low, high = (None if bound is None else bound.data.astype(x.dtype) for bound in bounds)
    if low is not None and high is not None and (low > high).any():
        raise ValueError(f"clip needs min <= max, got {min} and {max}")
    return result(np.clip(x.data, low, high), "clip", x, min=low, max=high)


# %%
scores = randn(3, 3, rng=0)
future = Tensor(np.triu(np.ones((3, 3), bool), 1))
print(masked_fill(scores, future, -np.inf))

# %% [markdown]
"""
## Gather and scatter

A classifier gives every example a row of scores and every example has one label. `scores[i][label[i]]` for all i at
once is a *gather* along axis 1. The opposite, adding numbers to places that an index names, is a *scatter*: it is where
gradients of lookups go.

```
   gather along 1     x [ 10 11 12 ]   index [ 2 ]   out [ 12 ]         out[i, j] = x[i, index[i, j]]
                        [ 20 21 22 ]         [ 0 ]       [ 20 ]
```
"""


# %%
def naive_gather(x, index):
    out = np.zeros(index.shape, x.dtype)
    for i in range(index.shape[0]):
        for j in range(index.shape[1]):
            out[i, j] = x[i, index[i, j]]
    return out


print(naive_gather(np.array([[10, 11, 12], [20, 21, 22]]), np.array([[2], [0]])).tolist())
out = np.zeros(3)
out[[0, 0, 2]] += 1
print("out[[0, 0, 2]] += 1 gives", out)

# %% [markdown]
"""
The loops say which element to take: row i, and for the column what the index says. NumPy takes arrays for both at once:
`x[rows, index]`, where `rows` is `[[0], [1]]` and broadcasts against the index. That is all that `_places` has to make:
along every axis the numbers 0, 1, 2, ... laid out along that axis, and along `dim` the index itself.

The last line of the cell above is the famous trap: place 0 was named twice and received 1. `+=` reads all the old
values, adds, and writes them back, the second over the first. `np.add.at(out, places, values)` adds one after the
other.

**Write `_places`, and the end of `scatter_add`**, which adds `src` into a *copy* of x, and saves `where=places`.

`_places(1, np.array([[2], [0]]))` is `(array([[0], [1]]), array([[2], [0]]))`.
`scatter_add(zeros(3), 0, [0, 0, 2], ones(3))` is `Tensor([2., 0., 1.])`.

<details><summary>Hint 1</summary>

For an index of shape (2, 5) and `dim` 1, axis 0 needs `np.arange(2)` in the shape (2, 1), so that it broadcasts.
</details>
<details><summary>Hint 2</summary>

In a loop over the axes and lengths of the index: a shape of ones, except for `length` at this axis, for
`np.arange(length, like=index)`. (`like=index` makes the same kind of array as the index.)
</details>
<details><summary>Hint 3</summary>

After the loop, the entry at `dim` is replaced by the index itself, and the list becomes a tuple. `scatter_add` is three
lines: copy the array of x, `np.add.at`, and `result` with the inputs x and src.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "tensor-gather", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _integers(op, index):
    """The array of an index, which must be of integers."""
    index = index.data if isinstance(index, Tensor) else index
    if not hasattr(index, "__array_function__"):
        index = np.asarray(index)
    if index.dtype.kind not in "iu":
        raise TypeError(f"{op} needs integer indices, got {index.dtype}")
    return index


def _check_along(op, x, dim, index):
    """Axis and index array of an operation along `dim`, checked: the index has all axes of x and stays inside."""
    dim, index = _one_axis(op, x, dim), _integers(op, index)
    if index.ndim != x.ndim or any(n > m for i, (n, m) in enumerate(zip(index.shape, x.shape)) if i != dim):
        raise ValueError(f"{op} along axis {dim} of shape {x.shape} needs an index that fits it, got {index.shape}")
    if index.size and (index.min() < 0 or index.max() >= x.shape[dim]):
        raise ValueError(f"{op} along {dim} needs indices 0 to {x.shape[dim] - 1}, got {index.min()} to {index.max()}")
    return dim, index


def _places(dim, index):
    """The full index that takes `index` along axis `dim` and stays in place along the others: an array per axis."""
    ### BEGIN SOLUTION
    places = []
    for axis, length in enumerate(index.shape):
        shape = [1] * index.ndim
        shape[axis] = length
        places.append(np.arange(length, like=index).reshape(shape))
    places[dim] = index
    return tuple(places)
    ### END SOLUTION


def gather(x: Tensor, dim: int, index) -> Tensor:
    """out[i][j]... = x[...index...]: along axis `dim`, pick the element that `index` (same ndim) names."""
    x = as_tensor(x)
    return x[_places(*_check_along("gather", x, dim, index))]


def scatter_add(x: Tensor, dim: int, index, src: _Operand) -> Tensor:
    """x with the elements of `src` added at the places `index` names along axis `dim`; repeats add up."""
    x, src = pair("scatter_add", as_tensor(x), src, broadcast=False)
    dim, index = _check_along("scatter_add", x, dim, index)
    if index.shape != src.shape:
        raise ValueError(f"scatter_add needs src shaped as the index, got {src.shape} and {index.shape}")
    places = _places(dim, index.copy())
    ### BEGIN SOLUTION
    out = x.data.copy()
    np.add.at(out, places, src.data)
    return result(out, "scatter_add", x, src, where=places)
    ### END SOLUTION


# %% [markdown]
"""
Given, made of what you have: `take`, sorting, the k largest, a border, all products of two vectors.
"""


# %%
#| export
def take(x: Tensor, indices, axis: int | None = None) -> Tensor:
    """The elements (axis None: of the flattened tensor) or slices along `axis` at integer `indices`."""
    x = as_tensor(x)
    indices = _integers("take", indices)
    if axis is None:
        return flatten(x)[indices]
    return x[(slice(None),) * _one_axis("take", x, axis) + (indices,)]


def sort(x: Tensor, axis: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """The elements in order along `axis`, and where they were: (values, indices). Equal ones keep their order."""
    x = as_tensor(x)
    axis = _one_axis("sort", x, axis)
    if descending:  # sort the mirror image, so that equal elements keep their order
        mirrored = np.flip(np.flip(x.data, axis).argsort(axis, kind="stable"), axis)
        order = x.shape[axis] - 1 - mirrored
    else:
        order = x.data.argsort(axis, kind="stable")
    indices = result(order, "argsort", x)
    return gather(x, axis, indices), indices


def topk(x: Tensor, k: int, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The k largest elements along `axis`, largest first, and where they are: (values, indices)."""
    x = as_tensor(x)
    axis = _one_axis("topk", x, axis)
    (k,) = _whole("topk", (k,))
    if not 1 <= k <= x.shape[axis]:
        raise ValueError(f"topk needs 1 <= k <= {x.shape[axis]} (axis {axis} of {x.shape}), got {k}")
    _, indices = sort(x.detach(), axis, descending=True)
    indices = indices[(slice(None),) * axis + (slice(k),)]
    return gather(x, axis, indices), indices


def pad(x: Tensor, widths, value: float = 0) -> Tensor:
    """x with a border of `value`: `widths` as in np.pad, one number, or (before, after) for every axis."""
    x = as_tensor(x)
    given = np.asarray(widths)
    if given.dtype.kind not in "iu" or (given < 0).any():
        raise ValueError(f"pad needs whole widths of at least 0, got {widths}")
    if given.shape not in ((), (1,), (2,), (1, 2), (x.ndim, 1), (x.ndim, 2)):
        raise ValueError(f"pad needs one width, (before, after), or a pair per axis of shape {x.shape}, got {widths}")
    fill = np.asarray(value)
    if fill.ndim or fill.dtype.kind not in "biuf":
        raise TypeError(f"pad needs one number for the border, got {value!r}")
    with np.errstate(invalid="ignore"):  # infinity and NaN are no integers
        fits = x.dtype.kind == "f" or fill.astype(x.dtype) == fill
    if not fits:
        raise ValueError(f"pad cannot put {value} between {x.dtype}; x.astype('float32') first")
    widths = tuple(map(tuple, np.broadcast_to(given, (x.ndim, 2)).tolist()))
    out = np.pad(x.data, widths, constant_values=value) if widths else x.data
    return result(out, "pad", x, widths=widths)


def outer(a: Tensor, b: Tensor) -> Tensor:
    """Every element of vector a times every element of vector b: (M,), (N,) -> (M, N)."""
    a, b = pair("outer", a, b, broadcast=False)
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"outer needs two vectors, got shapes {a.shape} and {b.shape}")
    return unsqueeze(a, 1) * unsqueeze(b, 0)


# %%
scores = Tensor([[0.1, 2.0, 2.0, -1.0], [5.0, 0.0, 1.0, 7.0]])
values, places = topk(scores, 2)
print(values, places, sep="\n")
print("score of the labels 3 and 0:", gather(scores, 1, [[3], [0]]).data.ravel())

# %% [markdown]
"""
## One notation for all products: einsum

Give every axis a letter. Multiply elements whose letters agree; sum over every letter that the output does not name.
The dot product is `"i,i->"`, the matrix product `"ij,jk->ik"`, the transpose `"ij->ji"`, the sum of rows `"ij->i"`, and
the attention scores of module 12 `"bhtd,bhsd->bhts"`, which nobody wants to think about in transposes.

As loops, `"ij,jk->ik"` is three nested loops over i, j, k around `out[i, k] += a[i, j] * b[j, k]`: any einsum is such
loops around one line. This cell is given: most of it reads the letters and checks lengths, so that a gradient rule can
be written for it later.
"""


# %%
#| export
def _subscripts(spec, operands):
    """einsum's subscripts in full: (one string per operand, output string), `...` spelled out in capital letters."""
    spec = spec.replace(" ", "")
    left, arrow, output = spec.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(operands):
        raise ValueError(f"einsum '{spec}' names {len(inputs)} operands, got {len(operands)}")
    spare = [letter for letter in "ZYXWVUTSRQPONMLKJIHGFEDCBA" if letter not in spec]
    longest = ""
    for i, (names, x) in enumerate(zip(inputs, operands)):
        free = x.ndim - len(names.replace("...", ""))
        if free < 0 or (free > 0 and "..." not in names):
            raise ValueError(f"einsum '{spec}' gives operand {i} the axes '{names}', but its shape is {x.shape}")
        letters = "".join(spare[:free][::-1])
        longest = letters if len(letters) > len(longest) else longest
        inputs[i] = names.replace("...", letters)
        if len(set(inputs[i])) < len(inputs[i]):
            raise ValueError(f"einsum '{spec}' repeats an index within operand {i}, which has no gradient rule here")
    if arrow:
        output = output.replace("...", longest)
    else:
        once = "".join(inputs)
        output = longest + "".join(sorted(c for c in set(once) if once.count(c) == 1 and c not in longest))
    if len(set(output)) < len(output) or not set(output) <= set("".join(inputs)):
        raise ValueError(f"einsum '{spec}' asks for an output index that no operand has, or for one twice")
    return inputs, output


def einsum(spec: str, *operands) -> Tensor:
    """Sums of products in Einstein's notation, as np.einsum reads it: einsum("ij,jk->ik", a, b) is a @ b.

    No index may repeat within one operand (no traces or diagonals).
    """
    if not isinstance(spec, str):
        raise TypeError(f"einsum needs its letters first, as in 'ij,jk->ik', got {type(spec).__name__}")
    operands = _several("einsum", operands)
    inputs, output = _subscripts(spec, operands)
    lengths = {}
    for names, x in zip(inputs, operands):
        for name, length in zip(names, x.shape):
            if lengths.setdefault(name, length) == 1:
                lengths[name] = length
            elif length not in (1, lengths[name]):
                raise ValueError(f"einsum '{spec}' needs one length for '{name}', got {lengths[name]} and {length}")
    arrays = [x.data for x in operands]
    out = np.einsum(f"{','.join(inputs)}->{output}", *arrays, optimize=len(arrays) > 1)
    return result(out, "einsum", *operands, inputs=inputs, output=output)


# %%
q, k = randn(2, 4, 5, 8), randn(2, 4, 6, 8)
scores = einsum("bhtd,bhsd->bhts", q, k)
print(scores.shape, np.allclose(scores.data, (q @ k.transpose(-1, -2)).data, atol=1e-5))

# %% [markdown]
"""
## What things cost

**Arithmetic against memory.** A sum of two (n, n) matrices does n^2 operations on 12 n^2 bytes (two read, one written,
4 bytes each). A product does 2 n^3 operations on the same bytes. So its work per byte grows with n: 1/12 operation per
byte for the sum, n/6 for the product. Watch what that does.
"""

# %%
print("    n    sum: ms   Gop/s  GB/s     product: ms   Gop/s     product / sum")
for n in (64, 128, 256, 512, 1024):
    a, b = randn(n, n).data, randn(n, n).data
    t_sum = milliseconds(lambda a=a, b=b: a + b, 20)
    t_product = milliseconds(lambda a=a, b=b: a @ b, 20 if n < 512 else 5)
    print(
        f"{n:5} {t_sum:10.4f} {n * n / t_sum / 1e6:7.2f} {12 * n * n / t_sum / 1e6:5.1f}"
        f" {t_product:15.3f} {2 * n**3 / t_product / 1e6:7.1f} {t_product / t_sum:17.1f}"
    )

# %% [markdown]
"""
Doubling n takes the product about eight times as long and the sum about four times, once n is large enough that
starting the call no longer counts. And the product reaches many times more operations per second: it uses every number
it fetched n times, the sum uses it once and waits for the next. Everything in this course that is fast is either a
matrix product or keeps its hands off memory.

**Where the numbers lie.** A processor fetches 64 bytes at a time, sixteen float32. Sum the same count of numbers, once
side by side, once with fifteen between each two. And along an axis: which is the faster walk, along the rows or down
the columns?
"""

# %%
wide = np.ones(16 * 1_000_000, np.float32)
print(f"a million numbers side by side: {milliseconds(lambda: wide[:1_000_000].sum()):.2f} ms")
print(f"every sixteenth of 16 million:  {milliseconds(lambda: wide[::16].sum()):.2f} ms")
table = randn(2000, 2000)
copies = {"table": table.data, "table.T": table.T.data, "a copy of table.T": np.ascontiguousarray(table.T.data)}
for name, data in copies.items():
    doubled = milliseconds(lambda data=data: data + table.data)
    print(f"table + {name:18} strides {data.strides!s:12} {doubled:6.2f} ms")
print(f"reshape, a view: {milliseconds(lambda: table.reshape(-1)) * 1000:6.1f} microseconds")
print(f"permute, a view: {milliseconds(lambda: table.T) * 1000:6.1f} microseconds")
print(f"both, a copy:    {milliseconds(lambda: table.T.reshape(-1)) * 1000:6.1f} microseconds")

# %% [markdown]
"""
A transpose is free when it is made and paid for when it is read.

**What our box costs.** Every operation pays for checking, boxing and announcing, whatever the size. On eight numbers
that is most of the time; on a million nothing.
"""


# %%
def repeated(a, b, times):
    for _ in range(times):
        a + b


for n in (8, 1_000, 1_000_000):
    a, b, times = randn(n), randn(n), 2_000_000 // (n + 1_000)
    ours = milliseconds(lambda a=a, b=b, times=times: repeated(a, b, times), 10) / times * 1000
    bare = milliseconds(lambda a=a, b=b, times=times: repeated(a.data, b.data, times), 10) / times * 1000
    print(f"{n:9,} numbers: tensors {ours:8.2f} microseconds, NumPy {bare:8.2f}, the box {ours / bare - 1:.0%} on top")

# %% [markdown]
"""
## All together

The values worked out above in one cell, naive against fast, and what must not be copied, widened or forgotten.
"""

# %%
np.testing.assert_array_equal((Tensor([[1.0, 2.0, 3.0]]) + Tensor([[1.0], [2.0]])).data, [[2, 3, 4], [3, 4, 5]])
np.testing.assert_array_equal(matmul([[1, 2], [3, 4]], [[5, 6], [7, 8]]).data, [[19, 22], [43, 50]])
x = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]])
np.testing.assert_allclose(var(x, 1).data, [2 / 3, 14 / 3], rtol=1e-6)
np.testing.assert_allclose(logsumexp([[1000.0, 1000.0], [0.0, -np.inf]], 1).data, [1000 + math.log(2), 0], rtol=1e-6)
np.testing.assert_array_equal(stack([[1, 2], [3, 4]], axis=1).data, [[1, 3], [2, 4]])
np.testing.assert_array_equal(scatter_add(zeros(3), 0, [0, 0, 2], ones(3)).data, [2, 0, 1])

sample, other = randn(7, 5, rng=1), randn(5, 6, rng=2)
label = randint(0, 5, (7, 2), rng=3)
np.testing.assert_allclose((sample @ other).data, naive_matmul(sample.data, other.data), rtol=1e-4, atol=1e-6)
np.testing.assert_allclose(sum(sample, 0).data, naive_sum(sample.data, 0), rtol=1e-4, atol=1e-6)
np.testing.assert_allclose(logsumexp(sample, 1).data, naive_logsumexp(sample.data, 1), rtol=1e-5)
np.testing.assert_array_equal(gather(sample, 1, label).data, naive_gather(sample.data, label.data))
np.testing.assert_allclose(einsum("ij,jk->ik", sample, other).data, (sample @ other).data, rtol=1e-4, atol=1e-6)

assert np.shares_memory(sample.T.data, sample.data)
assert not np.shares_memory(sample[[0]].data, sample.data)
print(f"float32 times np.float64(2): {(sample * np.float64(2)).dtype}, labels times 2: {(label * 2).dtype}")

heard = []
before = set_recorder(lambda out, op, inputs, saved: heard.append(op))
loss = ((sample @ other - 1.0) ** 2).mean() + exp(sample).sum(axis=1, keepdims=True).log().max()
set_recorder(before)
print(f"loss {loss:.4f} by way of", " ".join(heard))

# %% [markdown]
"""
## Questions

**1.** `pred` has shape (1000, 1), `target` (1000,). How many bytes does `pred - target` take in float32, and how many
should it have taken? What does `.mean()` of its square tell you then?

<details><summary>Answer</summary>

The shapes broadcast to (1000, 1000): 4 MB instead of 4 kB. The mean is taken over all pairs of a prediction and
anybody's target. It is a positive number that falls when all predictions move to the average target, so training seems
to work and ends in predicting the average. The losses of module 04 refuse such shapes.
</details>

**2.** A, B are (1000, 1000), v is (1000,). How many operations take `(A @ B) @ v` and `A @ (B @ v)`? Which is right?

<details><summary>Answer</summary>

2 * 1000^3 + 2 * 1000^2 = 2.002 billion against 2 * 1000^2 twice = 4 million: 500 times less for the same numbers
(up to rounding). NumPy does what you write, from left to right.
</details>

**3.** Which of these share memory with a contiguous x of shape (4, 6): `x[1:3]`, `x[:, 2]`, `x[[1, 2]]`,
`x.reshape(3, 8)`, `x.T`, `x.T.reshape(24)`, `x + 0`?

<details><summary>Answer</summary>

`x[1:3]`, `x[:, 2]`, `x.reshape(3, 8)` and `x.T`: each is the memory of x with a start and strides. The list index
copies, the reshape of the transpose has to copy, and arithmetic always makes a new array, here with the same numbers.
</details>

**4.** GPT-3 has 175 billion parameters. How many bytes are they in float32 and in float16? One of its weights is
(12288, 49152). How many operations does a product with a batch of 2048 tokens take, and how long on a machine of the
speed that the last line of your table shows?

<details><summary>Answer</summary>

700 GB and 350 GB. The weight has 604 million numbers, 2.4 GB. The product takes 2 * 2048 * 12288 * 49152 = 2.47e12
operations: at 100 Gop/s 25 seconds, for one of the two largest weights in one of 96 layers, forward only. An
accelerator with a thousand times that speed is not a luxury.
</details>

**5.** You average 100 million losses by adding them up in a float32 and dividing at the end; each is about 2. What do
you get? Why does `x.mean()` over an array of 100 million get it right?

<details><summary>Answer</summary>

From 2^25 on (33.5 million) neighbouring floats are 4 apart; 2 more is half way, and is rounded back to the even
neighbour. The sum is stuck at 33.5 million, and the mean comes out as about 0.34. NumPy adds in pairs, pairs of pairs,
and so on (along contiguous memory): the numbers added are always of similar size.
</details>
"""
