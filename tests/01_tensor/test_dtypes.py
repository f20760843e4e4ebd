"""No operation widens by accident: every one is walked through with every kind of operand."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import tensor as T
from tinytorch.core.tensor import Tensor, astype, filled, floating, floats, from_numpy

BOOLEAN = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "any", "all"}
PLACES = {"argmax", "argmin"}
ALWAYS_FLOATING = {"div", "exp", "log", "sqrt", "mean", "var", "std", "logsumexp"}
ARITHMETIC = ["add", "sub", "mul", "div", "pow"]
SCALARS = [2, 2.0, True, np.float64(2), np.float32(2), np.float16(2), np.longdouble(2), np.int64(2), np.bool_(True)]


def expected(name, dtype):
    if name in BOOLEAN:
        return np.bool_
    if name in PLACES:
        return np.int64
    return np.float16 if name == "astype" else dtype


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_floating_dtype_goes_in_and_comes_out(operation, operands, dtype):
    out = operation.call(*[from_numpy(a.astype(dtype)) for a in operands[: operation.operands]])
    assert out.dtype == expected(operation.name, dtype)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_integers_never_become_float64(operation, operands, dtype):
    out = operation.call(*[from_numpy(a.astype(dtype)) for a in operands[: operation.operands]])
    if operation.name in ALWAYS_FLOATING:
        assert out.dtype == np.float32
    elif operation.name in BOOLEAN | PLACES or operation.name == "astype":
        assert out.dtype == expected(operation.name, dtype)
    else:
        assert out.dtype.kind in "iu"
        assert out.dtype == dtype or operation.name in ("sum", "cumsum")  # sums of small integers are int64


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda s: f"{type(s).__name__}")
@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_scalar_of_any_width_leaves_a_floating_tensor_its_dtype(name, scalar, dtype):
    x = Tensor([1.0, 2.0], dtype=dtype)
    assert getattr(T, name)(x, scalar).dtype == dtype
    assert getattr(T, name)(scalar, x).dtype == dtype


@pytest.mark.parametrize(
    "other",
    [
        np.ones(2),
        np.array(2.0),
        [1.0, 2.0],
        np.arange(1, 3),
        [1, 2],
        np.array([True, True]),
        Tensor([1, 2]),
        Tensor([True]),
    ],
)
@pytest.mark.parametrize("name", ARITHMETIC)
def test_arrays_lists_masks_and_integer_tensors_leave_float32_alone(name, other):
    x = Tensor([1.0, 2.0])
    assert getattr(T, name)(x, other).dtype == np.float32
    assert getattr(T, name)(T.add(other, 1), x).dtype == np.float32


def test_operators_with_numpy_on_the_left_give_float32():
    x = Tensor([1.0, 2.0])
    for left in (np.float64(2), np.ones(2), np.array(1.0), np.int64(3)):
        for out in (left + x, left - x, left * x, left / x, left**x):
            assert type(out) is Tensor
            assert out.dtype == np.float32


@pytest.mark.parametrize(
    ("scalar", "dtype"),
    [(2, np.int64), (True, np.int64), (np.int8(2), np.int64), (2.0, np.float32), (np.float64(2), np.float32)],
)
def test_beside_integers_whole_numbers_keep_them_and_floats_make_float32(scalar, dtype):
    assert (Tensor([1, 2]) * scalar).dtype == dtype
    assert (Tensor(np.array([1, 2], np.int8)) * scalar).dtype == (np.int8 if dtype == np.int64 else dtype)


def test_booleans_in_arithmetic():
    mask = Tensor([True, False])
    assert (mask * 2).dtype == np.int64
    assert (mask * 2.5).dtype == np.float32
    assert (mask * Tensor([1.5, 2.5])).dtype == np.float32
    assert (mask + Tensor([1, 2])).dtype == np.int64


def test_a_float64_tensor_is_meant_and_wins():
    x = Tensor([0.1], dtype=np.float64)
    assert (x + Tensor([1.0])).dtype == np.float64
    assert (x + Tensor([1])).dtype == np.float64
    assert (x @ Tensor([1.0])).dtype == np.float64
    assert T.cat([x, Tensor([1.0])]).dtype == np.float64


@pytest.mark.parametrize("beside", [0.1, np.float64(0.1), [0.1], np.array([0.1])])
def test_beside_float64_no_digit_is_lost_on_the_way(beside):
    x = Tensor([1.0], dtype=np.float64)
    assert (x * beside).tolist() == [0.1]
    assert T.where([False], x, beside).tolist() == [0.1]
    if not np.isscalar(beside):
        assert (x @ beside).item() == 0.1
        assert T.cat([x, beside]).tolist() == [1, 0.1]
        assert T.einsum("i,i->", x, beside).item() == 0.1
        assert T.scatter_add(x * 0, 0, [0], beside).tolist() == [0.1]


def test_uint64_and_int64_stay_integers():
    out = Tensor(np.array([1], np.uint64)) + Tensor([-2])
    assert out.dtype == np.int64
    assert out.tolist() == [-1]


@pytest.mark.parametrize(
    "call",
    [
        lambda x: T.where(x > 1, x, 0.0),
        lambda x: T.where(x > 1, 1.0, 0.0),
        lambda x: T.where(x > 1, x, np.float64(0)),
        lambda x: T.where(x > 1, x, np.zeros(2)),
        lambda x: T.masked_fill(x, x > 1, -np.inf),
        lambda x: T.masked_fill(x, x > 1, np.float64(3)),
        lambda x: T.clip(x, np.float64(0), np.float64(1)),
        lambda x: T.clip(x, np.zeros(2), 1.5),
        lambda x: T.pad(x, 1, np.float64(3)),
        lambda x: T.cat([x, np.zeros(2)]),
        lambda x: T.stack([x, [1, 2]]),
        lambda x: T.scatter_add(x, 0, [0], np.ones(1)),
        lambda x: T.einsum("i,i->", x, np.ones(2)),
        lambda x: T.matmul(x, np.ones((2, 2))),
        lambda x: T.outer(x, np.ones(2)),
        lambda x: x * (x > 1),
        lambda x: (x > 1).mean(),
        lambda x: x.std(correction=1),
    ],
)
def test_float32_stays_float32_beside_anything_else(call):
    assert call(Tensor([1.0, 2.0])).dtype == np.float32


@pytest.mark.parametrize(
    "call",
    [
        lambda x: T.clip(x, 0, 2),
        lambda x: T.clip(x, np.int64(0)),
        lambda x: T.clip(x, [0, 1]),
        lambda x: T.pad(x, 1),
        lambda x: T.pad(x, 1, 3.0),
        lambda x: T.masked_fill(x, x > 1, 0),
        lambda x: T.where(x > 1, x, -1),
        lambda x: T.cat([x, [1, 2]]),
        lambda x: x**2,
        lambda x: x**3,
        lambda x: abs(-x),
        lambda x: x @ [1, 2],
    ],
)
def test_int64_stays_int64_beside_whole_numbers(call):
    assert call(Tensor([1, 2])).dtype == np.int64


def test_clip_of_integers_to_broken_bounds_is_float32():
    assert_close(T.clip(Tensor([0, 3]), 0.5, 2.5), np.array([0.5, 2.5], np.float32))


def test_astype_and_floating():
    x = Tensor([1.5, 2.0])
    assert x.astype(np.float32) is x
    assert floating(x) is x
    assert_close(x.astype("int64"), np.array([1, 2]))
    assert_close(astype([0, 2], bool), np.array([False, True]))
    assert_close(floating(Tensor([1, 2])), np.array([1, 2], np.float32))
    assert_close(floating([True]), np.array([1], np.float32))
    assert floating(Tensor([1.0], dtype=np.float64)).dtype == np.float64


def test_floats_of_one_dtype_are_left_as_they_are():
    x, y = Tensor([1.0]), Tensor([[2.0]])
    a, b = floats(x, y)
    assert a is x
    assert b is y


@pytest.mark.parametrize(
    ("inputs", "dtype"),
    [
        (([1, 2], Tensor([3, 4])), np.float32),
        ((Tensor([1.0]), [True], 2), np.float32),
        ((Tensor([1.0], dtype=np.float16), Tensor([2.0])), np.float32),
        ((Tensor([1.0]), Tensor([2.0], dtype=np.float64), Tensor([3.0])), np.float64),
        ((Tensor([1]), Tensor([2])), np.float32),
        ((np.ones(2),), np.float32),
    ],
)
def test_floats_are_as_wide_as_the_widest(inputs, dtype):
    made = floats(*inputs)
    assert [x.dtype for x in made] == [dtype] * len(inputs)
    for x, given in zip(made, inputs):
        assert_close(x, np.asarray(getattr(given, "data", given), dtype))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_filled_has_the_dtype_of_its_model(dtype):
    row = filled(3, 0.5, np.zeros((2, 2), dtype))
    assert_close(row, np.full(3, 0.5, dtype))
    assert row.dtype == dtype


def test_filled_is_shared_and_nobody_can_write_to_it():
    like = np.zeros(2, np.float32)
    row = filled(4, 1, like)
    assert filled(4, 1, like) is row
    with pytest.raises(ValueError, match="read-only"):
        row += 1
