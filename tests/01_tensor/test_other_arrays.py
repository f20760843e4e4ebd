"""Arrays of another library that speaks NumPy's protocols pass through unconverted."""

import numpy as np
import pytest

from tinytorch.core.tensor import Tensor, from_numpy


def unwrapped(value):
    if isinstance(value, Foreign):
        return value.array
    if isinstance(value, np.ndarray):
        raise TypeError("a foreign array meets one of NumPy")
    if isinstance(value, (list, tuple)):
        return type(value)(map(unwrapped, value))
    return value


def unwrapped_index(index):
    """An index may hold arrays of either kind."""
    if isinstance(index, tuple):
        return tuple(map(unwrapped_index, index))
    return index.array if isinstance(index, Foreign) else index


def wrapped(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return Foreign(np.asarray(value))
    return value


class Foreign(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on some device: it answers NumPy's functions, and refuses to be turned into a NumPy array."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a foreign array was converted to NumPy")

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        out = kwargs.pop("out", None)
        if out:
            kwargs["out"] = unwrapped(out)
        if method == "at":
            target, index, *values = inputs
            return ufunc.at(target.array, unwrapped_index(index), *unwrapped(values))
        done = getattr(ufunc, method)(*unwrapped(inputs), **kwargs)
        return out[0] if out else wrapped(done)

    def __array_function__(self, function, types, args, kwargs):
        if function is np.asarray:  # the one way in
            return Foreign(np.asarray(args[0].array if isinstance(args[0], Foreign) else args[0], *args[1:], **kwargs))
        return wrapped(function(*unwrapped(args), **{key: unwrapped(value) for key, value in kwargs.items()}))

    def __getattr__(self, name):
        value = getattr(self.array, name)
        if not callable(value):
            return value
        return lambda *args, **kwargs: wrapped(value(*unwrapped(args), **kwargs))

    def __getitem__(self, index):
        return Foreign(np.asarray(self.array[unwrapped_index(index)]))

    def __len__(self):
        return len(self.array)

    def __bool__(self):
        return bool(self.array)


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_every_operation_returns_the_kind_of_array_it_was_given(operation, operands, dtype):
    arrays = [a.astype(dtype) for a in operands[: operation.operands]]
    out = operation.call(*[from_numpy(Foreign(a)) for a in arrays])
    assert type(out.data) is Foreign
    want = operation.call(*[from_numpy(a) for a in arrays])
    np.testing.assert_array_equal(out.data.array, want.data)


@pytest.mark.parametrize("other", [2, 2.0, np.float64(2)])
def test_numbers_beside_it_become_its_kind(other):
    x = from_numpy(Foreign(np.array([1.0, 2.0], np.float32)))
    for out in (x + other, other - x, x * other, other / x, x**other, x > other):
        assert type(out.data) is Foreign


def test_a_tensor_of_it_copies_it_and_keeps_its_kind():
    array = Foreign(np.array([1.0, 2.0]))
    x = Tensor(array)
    assert type(x.data) is Foreign
    assert x.dtype == np.float32
    assert not np.shares_memory(x.data.array, array.array)


def test_the_tensor_is_still_usable_as_one():
    x = from_numpy(Foreign(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)))
    assert (x.shape, len(x), x.tolist(), x.sum().item()) == ((2, 2), 2, [[1, 2], [3, 4]], 10)
    y = x.detach()
    y += 1
    assert type(y.data) is Foreign
    assert (x[x > 2]).tolist() == [3, 4]
