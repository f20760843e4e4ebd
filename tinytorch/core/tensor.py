# Generated from modules/01_tensor/01_tensor.py by `tito export`. To change this file, edit the lesson and export again.
"""Tensors: NumPy arrays whose operations announce themselves.

Every operation here is a free function that computes with NumPy and ends in `result(array, op, *inputs, **saved)`,
which boxes the array and tells whoever listens what was done. Nobody listens until module 05 installs a recorder
that builds the graph for gradients; nothing in this file knows about gradients. The methods of `Tensor` are the
same functions.
"""

import itertools
import math
import operator
import weakref
from operator import attrgetter

import numpy as np


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
    if dtype is None:
        wide = array.dtype.kind == "f" and array.dtype.itemsize > 4
        dtype = np.float32 if wide else array.dtype
    return array.astype(dtype, copy=False)


tick = itertools.count(1).__next__  # a number for each recorded operation and each write, in the order they happen
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


def _set_data(self, array):
    if not hasattr(array, "__array_function__"):
        array = as_array(array, self._data.dtype if self._data.dtype.kind == "f" else None)
    if array.dtype.kind not in "biuf" or (self._requires_grad and array.dtype.kind != "f"):
        raise TypeError(f"a tensor of {self._data.dtype} cannot take data of {array.dtype}; use a.astype('float32')")
    if array is self._data:  # x.data += 1 has written into it
        _note_write(array)
    self._data = array
    self._version += 1


def _set_requires_grad(self, flag):
    if flag and self._data.dtype.kind != "f":
        raise TypeError(
            f"only floating tensors can require gradients, this one is {self._data.dtype}; use x.astype('float32')"
        )
    if not flag and self._grad_fn is not None:
        raise RuntimeError("a computed tensor cannot forget its history; use x.detach()")
    self._requires_grad = bool(flag)


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
    _retains_grad = False  # keep the gradient although this is not a leaf
    _used = False  # some recorded operation has this as an input
    _version = 0  # how often `data` was replaced or written to

    def __init__(self, data, requires_grad=False, dtype=None):
        self._data = as_array(data, dtype)
        if requires_grad:
            self.requires_grad = True

    data = property(attrgetter("_data"), _set_data, doc="The ndarray. Assigning to it counts as a change in place.")
    requires_grad = property(attrgetter("_requires_grad"), _set_requires_grad, doc="Whether gradients flow to this.")

    # What it is

    @property
    def shape(self):
        return self._data.shape

    @property
    def ndim(self):
        return self._data.ndim

    @property
    def size(self):
        return self._data.size

    @property
    def dtype(self):
        return self._data.dtype

    @property
    def T(self):
        """The axes in reverse order."""
        return permute(self, *range(self.ndim)[::-1])

    def __repr__(self):
        values = np.array2string(self._data, separator=", ", prefix="Tensor(", precision=4)
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
        return np.array(self._data, dtype=dtype, copy=copy)

    # Out of the box, and in again

    def item(self):
        """The one number inside, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() needs a tensor of one element, got shape {self.shape}")
        return self._data.item()

    def numpy(self):
        """The ndarray itself, not a copy."""
        return self._data

    def tolist(self):
        return self._data.tolist()

    def detach(self):
        """The same array without its history: no gradient passes."""
        return from_numpy(self._data)

    def copy(self):
        """An equal tensor with an array of its own; gradients pass through."""
        return result(self._data.copy(), "copy", self)

    def astype(self, dtype):
        """The same values in another dtype (this very tensor if it has it); gradients pass between floating dtypes."""
        return astype(self, dtype)

    def __deepcopy__(self, memo):
        if self._grad_fn is not None:
            raise RuntimeError("only leaf tensors can be deep-copied; detach() this one first")
        out = Tensor(self._data, dtype=self.dtype)
        if "_requires_grad" in vars(self):  # said of this tensor, be it True or False
            out._requires_grad = self._requires_grad
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
        self._retains_grad = True

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
        return result(~self._data, "invert", self)

    def any(self, axis=None, keepdims=False):
        axes = normalize_axes("any", self, axis)
        return result(self._data.any(axis=axes, keepdims=keepdims), "any", self)

    def all(self, axis=None, keepdims=False):
        axes = normalize_axes("all", self, axis)
        return result(self._data.all(axis=axes, keepdims=keepdims), "all", self)

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


_recorder = None  # called with (out, op, inputs, saved) after every operation


def set_recorder(recorder):
    """Let `recorder(out, op, inputs, saved)` hear of every operation (None: nobody). Returns the one it replaces."""
    global _recorder
    previous, _recorder = _recorder, recorder
    return previous


def get_recorder():
    """Whoever hears of every operation now, or None."""
    return _recorder


def from_numpy(array) -> Tensor:
    """Box an array without copying it: the tensor and the array share memory, and float64 stays float64.

    Raises TypeError for what is no array of numbers or booleans.
    """
    array_like = isinstance(array, np.ndarray) or hasattr(array, "__array_function__")
    if not array_like or array.dtype.kind not in "biuf":
        raise TypeError(f"from_numpy needs an array of numbers, got {type(array).__name__}; Tensor(data) takes more")
    boxed = Tensor.__new__(Tensor)
    boxed._data = array
    return boxed


def result(array, op, *inputs, **saved) -> Tensor:
    """Box `array`, which the operation named `op` computed from the tensors `inputs`, and announce it.

    array   ndarray or NumPy scalar; boxed without copying or converting
    saved   what a gradient rule will want to know later: axes, masks, intermediate arrays
    """
    out = Tensor.__new__(Tensor)
    out._data = np.asarray(array) if isinstance(array, np.generic) else array
    if _recorder is not None:
        _recorder(out, op, inputs, saved)
    return out


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


def _clash(op, shapes, axis, a, b):
    return ValueError(
        f"{op} needs shapes that broadcast, got {' and '.join(str(s) for s in shapes)}: at axis {axis} lengths "
        f"{a} and {b} differ and neither is 1; reshape one of them, or unsqueeze an axis"
    )


def broadcast_shape(op: str, *shapes) -> tuple:
    """The shape that arrays of `shapes` have together: aligned at the right, axes of length 1 stretch.

    Raises ValueError, in the name of operation `op`, where two lengths differ and neither is 1.
    """
    ndim = len(sorted(shapes, key=len)[-1])
    together = [1] * ndim
    for shape in shapes:
        for i, length in enumerate(shape, ndim - len(shape)):
            if together[i] == 1:
                together[i] = length
            elif length != 1 and length != together[i]:
                raise _clash(op, shapes, i - ndim, together[i], length)
    return tuple(together)


def as_tensor(x) -> Tensor:
    """x itself if it is a tensor, otherwise a tensor of it."""
    return x if isinstance(x, Tensor) else Tensor(x)


def astype(x: Tensor, dtype) -> Tensor:
    """The values of x in another dtype, x itself if it has it; gradients pass between floating dtypes."""
    x = as_tensor(x)
    dtype = _number_dtype("astype", dtype)
    return x if dtype == x.dtype else result(x.data.astype(dtype), "astype", x)


def floating(x) -> Tensor:
    """x as a floating tensor: integers and booleans become float32."""
    x = as_tensor(x)
    return x if x.data.dtype.kind == "f" else astype(x, np.float32)


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
        return from_numpy(np.asarray(value, dtype, like=other._data))
    except OverflowError:
        raise ValueError(f"{op}: {value} does not fit the tensor's {dtype}; x.astype('int64') first") from None


def pair(op: str, a, b, broadcast: bool = True) -> tuple[Tensor, Tensor]:
    """The two operands of operation `op` as tensors of one dtype; their shapes must `broadcast`, unless told not to."""
    if not isinstance(a, Tensor):
        a = _operand(op, a, b) if isinstance(b, Tensor) else as_tensor(a)
    if not isinstance(b, Tensor):
        b = _operand(op, b, a)
    x, y = a._data, b._data
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


def add(a: _Operand, b: _Operand) -> Tensor:
    """Element by element sum; shapes broadcast as in NumPy."""
    a, b = pair("add", a, b)
    return result(a.data + b.data, "add", a, b)


def sub(a: _Operand, b: _Operand) -> Tensor:
    """Element by element difference; shapes broadcast."""
    a, b = pair("sub", a, b)
    return result(a.data - b.data, "sub", a, b)


def mul(a: _Operand, b: _Operand) -> Tensor:
    """Element by element product; shapes broadcast."""
    a, b = pair("mul", a, b)
    return result(a.data * b.data, "mul", a, b)


def div(a: _Operand, b: _Operand) -> Tensor:
    """Element by element quotient; shapes broadcast, integers give float32."""
    a, b = pair("div", a, b)
    a, b = floating(a), floating(b)
    return result(a.data / b.data, "div", a, b)


def power(array, exponent):
    """array ** exponent for arrays; squares and cubes as products, which are many times faster than pow."""
    if exponent.ndim == 0:
        if exponent == 2:
            return array * array
        if exponent == 3:
            return array * array * array
    return array**exponent


def exp(x: Tensor) -> Tensor:
    """e to the power x, element by element."""
    x = floating(x)
    out = np.exp(x.data)
    return result(out, "exp", x, out=out)


def log(x: Tensor) -> Tensor:
    """Natural logarithm, element by element; -inf at 0 and NaN below, with NumPy's warning."""
    x = floating(x)
    return result(np.log(x.data), "log", x)


def sqrt(x: Tensor) -> Tensor:
    """Square root, element by element."""
    x = floating(x)
    out = np.sqrt(x.data)
    return result(out, "sqrt", x, out=out)


def pow(a: _Operand, b: _Operand) -> Tensor:
    """a to the power b, element by element; shapes broadcast. A negative base needs a whole exponent.

    Raises ValueError for integers to a negative power, which are no integers.
    """
    a, b = pair("pow", a, b)
    if a.dtype.kind in "iu" and b.size and b.data.min() < 0:
        raise ValueError(f"pow of integers needs exponents >= 0, got {b.data.min()}; x.astype('float32') first")
    return result(power(a.data, b.data), "pow", a, b)


def neg(x: Tensor) -> Tensor:
    """-x, element by element."""
    x = as_tensor(x)
    return result(-x.data, "neg", x)


def abs(x: Tensor) -> Tensor:
    """Distance from zero, element by element; the gradient at 0 is 0."""
    x = as_tensor(x)
    return result(np.abs(x.data), "abs", x)


def _compare(compare, a, b):
    """Element by element comparison of a tensor with anything: a boolean tensor, to which no gradient belongs."""
    if not isinstance(b, (Tensor, bool, int, float, np.generic, list, tuple)) and not hasattr(b, "__array_function__"):
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
    if x.ndim > 2 and y.ndim == 2:  # one large product is faster than many small ones
        rows = math.prod(x.shape[:-1])
        out = (x.reshape(rows, x.shape[-1]) @ y).reshape(*x.shape[:-1], y.shape[-1])
    else:
        out = x @ y
    return result(out, "matmul", a, b)


def normalize_axes(op: str, x: Tensor, axis: _Axes) -> tuple | None:
    """`axis` (None, an integer or several) as a tuple of axes 0 <= axis < x.ndim, or None for all of them.

    Raises ValueError, in the name of operation `op`, for an axis that x lacks or that is named twice.
    """
    if axis is None:
        return None
    axes = []
    for i in axis if isinstance(axis, (tuple, list)) else (axis,):
        try:
            i = operator.index(i)
        except TypeError:
            raise TypeError(f"{op} needs whole numbers as axes, got {i!r}") from None
        if not -x.ndim <= i < x.ndim:
            raise ValueError(f"{op} needs an axis of a tensor of shape {x.shape}, got axis {i}")
        axes.append(i % x.ndim)
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


def sum(x: Tensor, axis: _Axes = None, keepdims: bool = False) -> Tensor:
    """Sum over `axis` (None: all; one; several). keepdims leaves the axes with length 1."""
    x = as_tensor(x)
    axes = normalize_axes("sum", x, axis)
    return result(x.data.sum(axis=axes, keepdims=keepdims), "sum", x, axis=axes)


def mean(x: Tensor, axis: _Axes = None, keepdims: bool = False) -> Tensor:
    """Average over `axis`; integers give float32."""
    x = floating(x)
    axes = normalize_axes("mean", x, axis)
    _needs_elements("mean", x, axes)
    out = x.data.mean(axis=axes, keepdims=keepdims)
    return result(out, "mean", x, axis=axes, count=_count(x, axes))


def var(x: Tensor, axis: _Axes = None, keepdims: bool = False, correction: int = 0) -> Tensor:
    """Mean squared distance from the mean over `axis`.

    correction   subtracted from the count: 0 as in NumPy and normalisation layers, 1 as in torch.var
    """
    x = floating(x)
    axes = normalize_axes("var", x, axis)
    count = _count(x, axes) - correction
    if count <= 0:
        raise ValueError(f"var needs more than {correction} elements, got shape {x.shape} over axis {axes}")
    center = x.data.mean(axis=axes, keepdims=True)
    distance = x.data - center
    distance *= distance
    out = distance.sum(axis=axes, keepdims=keepdims) / count
    return result(out, "var", x, axis=axes, count=count, center=center)


def std(x: Tensor, axis: _Axes = None, keepdims: bool = False, correction: int = 0) -> Tensor:
    """Square root of `var`, in the units of x."""
    return sqrt(var(x, axis, keepdims, correction))


def max(x: Tensor, axis: _Axes = None, keepdims: bool = False) -> Tensor:
    """Largest element over `axis`. Where several tie, they share the gradient equally."""
    x = as_tensor(x)
    axes = normalize_axes("max", x, axis)
    _needs_elements("max", x, axes)
    out = x.data.max(axis=axes, keepdims=True)
    return result(out if keepdims else _drop(out, axes), "max", x, axis=axes, extreme=out)


def min(x: Tensor, axis: _Axes = None, keepdims: bool = False) -> Tensor:
    """Smallest element over `axis`. Where several tie, they share the gradient equally."""
    x = as_tensor(x)
    axes = normalize_axes("min", x, axis)
    _needs_elements("min", x, axes)
    out = x.data.min(axis=axes, keepdims=True)
    return result(out if keepdims else _drop(out, axes), "min", x, axis=axes, extreme=out)


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


def logsumexp(x: Tensor, axis: _Axes = None, keepdims: bool = False) -> Tensor:
    """log of the sum of exp over `axis`, computed around the maximum so that nothing overflows.

    A slice of nothing but -inf gives -inf.
    """
    x = floating(x)
    axes = normalize_axes("logsumexp", x, axis)
    _needs_elements("logsumexp", x, axes)
    with np.errstate(divide="ignore", over="ignore"):  # log(0) is the -inf we want; e^x is inf only beside an inf
        peak = x.data.max(axis=axes, keepdims=True)
        peak = np.where(np.isfinite(peak), peak, 0)  # inf - inf is not a number, and exp(-inf) needs no shift
        out = np.log(np.exp(x.data - peak).sum(axis=axes, keepdims=True)) + peak
    return result(out if keepdims else _drop(out, axes), "logsumexp", x, axis=axes, out=out)


def reshape(x: Tensor, *shape) -> Tensor:
    """The same elements, in the same order, in another shape; one length may be -1 (what is left)."""
    x = as_tensor(x)
    shape = _whole("reshape", _spread(shape))
    if shape.count(-1) == 1:
        known = math.prod(n for n in shape if n != -1)
        rest = x.size // known if known else 0
        shape = tuple(rest if n == -1 else n for n in shape)
    if any(n < 0 for n in shape) or math.prod(shape) != x.size:
        raise ValueError(f"reshape needs a shape of {x.size} elements for a tensor of shape {x.shape}, got {shape}")
    return result(x.data.reshape(shape), "reshape", x)


def permute(x: Tensor, *axes) -> Tensor:
    """The axes in another order: axis i of the result is axis axes[i] of x."""
    x = as_tensor(x)
    axes = normalize_axes("permute", x, _spread(axes))
    if len(axes) != x.ndim:
        raise ValueError(f"permute needs every axis of shape {x.shape} once, got {axes}")
    return result(x.data.transpose(axes), "permute", x, axes=axes)


def swapaxes(x: Tensor, axis1: int, axis2: int) -> Tensor:
    """x with two axes exchanged."""
    x = as_tensor(x)
    i, j = _one_axis("swapaxes", x, axis1), _one_axis("swapaxes", x, axis2)
    order = list(range(x.ndim))
    order[i], order[j] = j, i
    return permute(x, *order)


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


def cat(tensors, axis: int = 0) -> Tensor:
    """Tensors one after the other along an axis they have; all other lengths agree."""
    tensors = _several("cat", tensors)
    axis = _one_axis("cat", tensors[0], axis)
    first = tensors[0].shape
    for x in tensors:
        if x.ndim != len(first) or x.shape[:axis] != first[:axis] or x.shape[axis + 1 :] != first[axis + 1 :]:
            raise ValueError(f"cat along axis {axis} needs all other lengths equal, got {first} and {x.shape}")
    return result(np.concatenate([x.data for x in tensors], axis=axis), "cat", *tensors, axis=axis)


def stack(tensors, axis: int = 0) -> Tensor:
    """Tensors of one shape along a new axis."""
    tensors = _several("stack", tensors)
    for x in tensors:
        if x.shape != tensors[0].shape:
            raise ValueError(f"stack needs tensors of one shape, got {tensors[0].shape} and {x.shape}")
    axis = _new_axis("stack", tensors[0], axis)
    return cat([unsqueeze(x, axis) for x in tensors], axis)


def _index(index):
    """An index with arrays of its own in place of tensors, arrays and lists: it is kept for the gradient."""
    if isinstance(index, tuple):
        return tuple(_index(i) for i in index)
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
    x._data[_index(index)] = value._data if isinstance(value, Tensor) else value
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
    return result(np.where(condition, a.data, b.data), "where", a, b, condition=condition)


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
    places = []
    for axis, length in enumerate(index.shape):
        shape = [1] * index.ndim
        shape[axis] = length
        places.append(np.arange(length, like=index).reshape(shape))
    places[dim] = index
    return tuple(places)


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
    out = x.data.copy()
    np.add.at(out, places, src.data)
    return result(out, "scatter_add", x, src, where=places)


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
