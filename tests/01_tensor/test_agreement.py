"""Every operation beside PyTorch's, forward; gradients are compared in module 05."""

import operator

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import tensor as T
from tinytorch.core.tensor import Tensor, from_numpy

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 3, 4))
P = RNG.uniform(0.5, 3, size=(2, 3, 4))
M, N = RNG.normal(size=(2, 4, 5)), RNG.normal(size=(4, 5))
I, J = RNG.integers(-9, 9, (2, 3, 4)), RNG.integers(1, 5, (2, 3, 4))
BITS = A > 0
MASK = RNG.uniform(size=(2, 3, 4)) > 0.5
AXES = [None, 0, 1, -1, (0, 2), (0, 1, 2)]
floats = pytest.mark.parametrize("dtype", [np.float32, np.float64])
keeps = pytest.mark.parametrize("keepdims", [False, True])


def compare(ours, theirs, *arrays, dtype=None, rtol=None):
    """Results of both, in values, shape and dtype; floating arrays as `dtype`."""
    arrays = [np.asarray(a, dtype if a.dtype.kind == "f" else None) for a in arrays]
    got = ours(*map(from_numpy, arrays))
    want = theirs(*(torch.from_numpy(a.copy()) for a in arrays))
    got, want = (out if isinstance(out, tuple) else (out,) for out in (got, want))
    assert len(got) == len(want)
    for ours, theirs in zip(got, want, strict=True):
        assert ours.dtype == theirs.numpy().dtype
        assert_close(ours, theirs.numpy(), rtol=rtol or (1e-10 if dtype == np.float64 else 1e-5), atol=1e-6)


@floats
@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        *(
            ("add", A, B),
            ("sub", A, B),
            ("mul", A, B),
            ("div", A, P),
            ("pow", P, A),
            ("add", A, B[0, :1]),
            ("div", A[:1], P),
        ),
        *(("mul", A[:, :1], B[:1, :, :1]), ("sub", A[0, 0], B), ("pow", P[:1], B[..., :1])),
    ],
)
def test_arithmetic(name, a, b, dtype):
    compare(getattr(T, name), getattr(torch, name), a, b, dtype=dtype)


@floats
@pytest.mark.parametrize(("name", "a"), [("exp", A), ("log", P), ("sqrt", P), ("abs", A), ("neg", A)])
def test_one_operand(name, a, dtype):
    compare(getattr(T, name), getattr(torch, name), a, dtype=dtype)


@floats
@pytest.mark.parametrize("exponent", [2, 3, -1, 0.5, 0, 2.5])
def test_powers(exponent, dtype):
    compare(lambda x: x**exponent, lambda x: x**exponent, P, dtype=dtype)
    compare(lambda x: 2.5**x, lambda x: 2.5**x, exponent * P, dtype=dtype)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow"])
def test_integers(name):
    compare(getattr(T, name), getattr(torch, name), I, J)


@pytest.mark.parametrize("scalar", [2, 2.5, True])
def test_scalars_beside_every_kind_of_tensor(scalar):
    for array in (A.astype(np.float16), A.astype(np.float32), A, I, I.astype(np.int32), BITS):
        for combine in (lambda x: x + scalar, lambda x: x * scalar, lambda x: scalar / (x + 20)):
            if not (array.dtype == bool and scalar is True):  # logic in PyTorch
                compare(combine, combine, array, dtype=array.dtype, rtol=1e-3 if array.dtype == np.float16 else 1e-5)


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
@pytest.mark.parametrize(("a", "b"), [(A, B), (A.round(), B.round()), (I, J), (I, J[0]), (A, I), (BITS, MASK)])
def test_comparisons(name, a, b):
    compare(getattr(operator, name), getattr(torch, name), a, b, dtype=np.float32)


@pytest.mark.parametrize(("a", "b"), [(BITS, MASK), (I, J), (BITS, MASK[0])])
def test_logic(a, b):
    compare(lambda x, y: (x & y, x | y, x ^ y, ~x), lambda x, y: (x & y, x | y, x ^ y, ~x), a, b)


@keeps
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("name", ["any", "all"])
def test_any_and_all(name, axis, keepdims):
    theirs = {} if axis is None else {"dim": axis, "keepdim": keepdims}
    ours = {} if axis is None else {"axis": axis, "keepdims": keepdims}
    compare(lambda x: getattr(x, name)(**ours), lambda x: getattr(x, name)(**theirs), BITS)


@floats
@pytest.mark.parametrize(
    ("a", "b"), [(A, M), (A, N), (A[0], N), (A[0, 0], N), (A, N[:, 0]), (A[0], M), (A[0, 0], N[:, 0]), (A[:, None], M)]
)
def test_matmul(a, b, dtype):
    compare(T.matmul, torch.matmul, a, b, dtype=dtype)


def test_matmul_of_integers():
    compare(T.matmul, torch.matmul, I, J.swapaxes(1, 2).copy())


@floats
@keeps
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ["sum", "mean", "amax", "amin", "logsumexp"])
def test_reductions(name, axis, keepdims, dtype):
    dims = tuple(range(3)) if axis is None else axis
    ours = getattr(T, {"amax": "max", "amin": "min"}.get(name, name))
    compare(
        lambda x: ours(x, axis, keepdims), lambda x: getattr(torch, name)(x, dims, keepdim=keepdims), A, dtype=dtype
    )


@floats
@keeps
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("correction", [0, 1])
@pytest.mark.parametrize("name", ["var", "std"])
def test_var_and_std(name, correction, axis, keepdims, dtype):
    compare(
        lambda x: getattr(T, name)(x, axis, keepdims, correction),
        lambda x: getattr(torch, name)(x, axis, correction=correction, keepdim=keepdims),
        A,
        dtype=dtype,
    )


def test_var_defaults_to_numpys_correction_where_pytorch_defaults_to_1():
    compare(T.var, lambda x: torch.var(x, correction=0), A, dtype=np.float64)
    compare(lambda x: T.var(x, correction=1), torch.var, A, dtype=np.float64)


@keeps
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_places_of_extremes(name, axis, keepdims):
    keep = keepdims and axis is not None  # over everything, PyTorch keeps no axes
    compare(
        lambda x: getattr(T, name)(x, axis, keep), lambda x: getattr(torch, name)(x, axis, keep), A, dtype=np.float32
    )


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sums_and_running_sums_of_every_kind(axis):
    for array in (A, I, I.astype(np.int32), I.astype(np.int8), BITS):
        compare(lambda x: T.sum(x, axis), lambda x: torch.sum(x, axis), array, dtype=np.float32)
        compare(lambda x: T.cumsum(x, axis), lambda x: torch.cumsum(x, axis), array, dtype=np.float32)


@pytest.mark.parametrize("row", [[1e4, -1e4], [-np.inf, 0], [-np.inf, -np.inf], [np.inf, 1], [np.nan, 1]])
def test_logsumexp_of_extremes(row):
    compare(T.logsumexp, lambda x: torch.logsumexp(x, 0), np.array(row), dtype=np.float32)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        *[(f, f) for f in (lambda x: x.reshape(4, 6), lambda x: x.reshape(-1, 4), lambda x: x.view(2, -1))],
        *[(f, f) for f in (lambda x: x.permute(2, 0, 1), lambda x: x.transpose(0, -1), lambda x: x.swapaxes(0, 1))],
        *[
            (f, f)
            for f in (
                lambda x: x.flatten(),
                lambda x: x.flatten(1),
                lambda x: x.flatten(0, 1),
                lambda x: x[:1].squeeze(),
            )
        ],
        *[(f, f) for f in (lambda x: x[:, :1].squeeze(1), lambda x: x.unsqueeze(0), lambda x: x.unsqueeze(-1))],
        *[(f, f) for f in (lambda x: x.broadcast_to((5, 2, 3, 4)), lambda x: x[:, :1].broadcast_to((2, 6, 4)))],
        (lambda x: T.cat([x, x], 1), lambda x: torch.cat([x, x], 1)),
        (lambda x: T.cat([x, x[:1]]), lambda x: torch.cat([x, x[:1]])),
        (lambda x: T.stack([x, x], -1), lambda x: torch.stack([x, x], -1)),
        *[(f, f) for f in (lambda x: tuple(x.split(2, 1)), lambda x: tuple(x.split([1, 3], -1)))],
        (lambda x: T.pad(x, ((0, 0), (1, 2), (3, 0))), lambda x: torch.nn.functional.pad(x, (3, 0, 1, 2))),
        (lambda x: T.pad(x, 1, 7), lambda x: torch.nn.functional.pad(x, (1,) * 6, value=7)),
    ],
)
@pytest.mark.parametrize("array", [A.astype(np.float32), I])
def test_shapes(ours, theirs, array):
    compare(ours, theirs, array, dtype=np.float32)


@pytest.mark.parametrize(
    "index",
    [
        *(
            1,
            -1,
            slice(1, None),
            (0, slice(None), 2),
            (..., 1),
            (slice(None), None, 1),
            (slice(None), slice(None, None, 2)),
        ),
        *([1, 0, 1], (slice(None), [2, 0]), ([0, 1], [2, 0]), ([0, 1], slice(None), [3, 1]), (None, ..., [0])),
    ],
)
def test_indices(index):
    compare(lambda x: x[index], lambda x: x[index], A, dtype=np.float32)


def test_masks_and_arrays_of_either_as_indices():
    compare(lambda x, m: x[m], lambda x, m: x[m], A, MASK, dtype=np.float32)
    compare(lambda x, m: x[m], lambda x, m: x[m], A, MASK[..., 0], dtype=np.float32)
    compare(lambda x, i: x[0][i], lambda x, i: x[0][i], A, np.array([[2, 0], [1, 1]]), dtype=np.float32)
    compare(lambda x: x[x > 0], lambda x: x[x > 0], A, dtype=np.float32)


@floats
def test_where_masked_fill_and_clip(dtype):
    compare(lambda m, x, y: T.where(m, x, y), torch.where, MASK, A, B, dtype=dtype)
    compare(lambda m, x: T.where(m[0], x, 0.0), lambda m, x: torch.where(m[0], x, 0.0), MASK, A, dtype=dtype)
    compare(lambda m, x: x.masked_fill(m, 2), lambda m, x: x.masked_fill(m, 2), MASK, A, dtype=dtype)
    compare(lambda m, x: x.masked_fill(m, -np.inf), lambda m, x: x.masked_fill(m, -np.inf), MASK, A, dtype=dtype)
    for low, high in [(-0.5, 0.5), (None, 0.25), (-0.25, None), (0.1, 0.1)]:
        compare(lambda x, a=low, b=high: x.clip(a, b), lambda x, a=low, b=high: x.clip(a, b), A, dtype=dtype)
    compare(lambda x, a: x.clip(a, a + 1), lambda x, a: x.clip(a, a + 1), A, B, dtype=dtype)


def test_where_masked_fill_and_clip_of_integers():
    compare(lambda m, x, y: T.where(m, x, y), torch.where, MASK, I, J)
    compare(lambda m, x: x.masked_fill(m, 5), lambda m, x: x.masked_fill(m, 5), MASK, I)
    compare(lambda x: x.clip(-2, 3), lambda x: x.clip(-2, 3), I)
    compare(lambda m, x: T.where(m, x, 1), lambda m, x: torch.where(m, x, 1), MASK, I)


@pytest.mark.parametrize(
    ("dim", "shape"), [(0, (5, 3, 4)), (1, (2, 6, 4)), (-1, (2, 3, 1)), (1, (1, 2, 3)), (0, (0, 3, 4))]
)
@pytest.mark.parametrize("array", [A.astype(np.float32), A, I])
def test_gather_and_scatter_add(array, dim, shape):
    rng = np.random.default_rng(1)
    index = rng.integers(0, array.shape[dim], shape)
    src = rng.normal(size=shape).astype(array.dtype)
    compare(lambda x, i: T.gather(x, dim, i), lambda x, i: x.gather(dim, i), array, index, dtype=array.dtype)
    compare(
        lambda x, i, s: T.scatter_add(x, dim, i, s),
        lambda x, i, s: x.scatter_add(dim, i, s),
        *(array, index, src),
        dtype=array.dtype,
    )


def test_take_of_the_flattened_tensor_and_along_an_axis():
    index = np.array([3, 0, 3])
    compare(T.take, torch.take, A, index, dtype=np.float32)
    compare(lambda x, i: T.take(x, i, 2), lambda x, i: torch.index_select(x, 2, i), A, index, dtype=np.float32)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("array", [A, A.round(), I])
def test_sort(array, axis, descending):
    compare(
        lambda x: T.sort(x, axis, descending),
        lambda x: tuple(torch.sort(x, dim=axis, descending=descending, stable=True)),
        array,
        dtype=np.float32,
    )


@pytest.mark.parametrize(("k", "axis"), [(1, 0), (2, 1), (3, 1), (4, -1)])
def test_topk(k, axis):
    compare(lambda x: T.topk(x, k, axis), lambda x: tuple(torch.topk(x, k, axis)), A, dtype=np.float32)
    compare(lambda x: T.topk(x, k, axis)[0], lambda x: torch.topk(x, k, axis)[0], I)


def test_nan_is_the_largest():
    row = np.array([1.0, np.nan, 2.0])
    compare(T.sort, lambda x: tuple(torch.sort(x)), row, dtype=np.float32)
    compare(lambda x: T.topk(x, 2), lambda x: tuple(torch.topk(x, 2)), row, dtype=np.float32)
    compare(T.max, torch.max, row, dtype=np.float32)
    compare(T.argmax, torch.argmax, row, dtype=np.float32)


@floats
@pytest.mark.parametrize(
    ("spec", "arrays"),
    [
        *(("ijk->kji", [A]), ("ijk->j", [A]), ("ijk->", [A]), ("ijk,ijk->ij", [A, B]), ("ijk,ikl->ijl", [A, M])),
        *(
            ("ijk,kl->ijl", [A, N]),
            ("...k,kl->...l", [A, N]),
            ("i,j->ij", [A[0, 0], N[0]]),
            ("ijk,ijk,k->i", [A, B, A[0, 0]]),
        ),
        *(("bij,bik", [A, B]), ("...ij,...kj->...ik", [A, B])),
    ],
)
def test_einsum(spec, arrays, dtype):
    compare(lambda *xs: T.einsum(spec, *xs), lambda *xs: torch.einsum(spec, *xs), *arrays, dtype=dtype)


def test_outer():
    compare(T.outer, torch.outer, A[0, 0], N[0], dtype=np.float32)
    compare(T.outer, torch.outer, I[0, 0], J[1, 1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "int32", "uint8", "bool"])
def test_astype_is_to(dtype):
    for array in (np.array([0.0, 1.7, 3.2], np.float32), np.array([0, 1, 3]), np.array([True, False])):
        compare(lambda x: x.astype(dtype), lambda x: x.to(getattr(torch, dtype)), array, dtype=np.float32)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: T.arange(5), lambda: torch.arange(5)),
        (lambda: T.arange(1.0, 2.0, 0.25), lambda: torch.arange(1.0, 2.0, 0.25)),
        (lambda: T.linspace(0, 1, 7), lambda: torch.linspace(0, 1, 7)),
        (lambda: T.eye(3, 2), lambda: torch.eye(3, 2)),
        (lambda: T.full((2, 2), 1.5), lambda: torch.full((2, 2), 1.5)),
        (lambda: T.full((2,), 7), lambda: torch.full((2,), 7)),
        (lambda: T.full((2,), True), lambda: torch.full((2,), True)),
        (lambda: T.zeros(2, 3), lambda: torch.zeros(2, 3)),
        (lambda: T.ones((2, 3)), lambda: torch.ones((2, 3))),
        (lambda: Tensor([1, 2]), lambda: torch.tensor([1, 2])),
        (lambda: Tensor([1.0, 2]), lambda: torch.tensor([1.0, 2])),
        (lambda: Tensor([True]), lambda: torch.tensor([True])),
        (lambda: Tensor([]), lambda: torch.tensor([])),
    ],
)
def test_what_is_made_has_the_same_values_and_dtype(ours, theirs):
    compare(ours, theirs)


@pytest.mark.parametrize("kind", ["float32", "int64"])
def test_updates_and_writes(kind):
    def change(x):
        x += 2
        x *= 3
        x[0] = 7
        x[1, 1:, 0] = x[0, 0, 0] - 1
        x[x > 20] = 0
        return x

    compare(change, change, (10 * A).astype(kind), dtype=np.float32)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        *(
            (np.float32, np.float64),
            (np.float32, np.int64),
            (np.float64, np.int32),
            (np.float16, np.int64),
            (np.int32, np.int64),
        ),
        *(
            (np.bool_, np.int64),
            (np.bool_, np.float32),
            (np.uint8, np.int8),
            (np.uint8, np.int64),
            (np.float16, np.float32),
        ),
    ],
)
def test_two_dtypes_meet_in_the_same_third(a, b):
    x, y = np.ones(3, a), np.ones(3, b)
    ours, theirs = from_numpy(x) * from_numpy(y), torch.from_numpy(x) * torch.from_numpy(y)
    assert ours.dtype == theirs.numpy().dtype
    ours, theirs = from_numpy(y) + from_numpy(x), torch.from_numpy(y) + torch.from_numpy(x)
    assert ours.dtype == theirs.numpy().dtype
