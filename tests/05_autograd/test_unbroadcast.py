"""unbroadcast: the way back from a stretched shape is a sum over the copies."""

import itertools

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.autograd import unbroadcast
from tinytorch.core.tensor import Tensor

BACK = [
    # the gradient, the shape it goes back to, the axes to sum over
    ((3, 4), (4,), (0,)),
    ((3, 4), (1, 4), (0,)),
    ((3, 4), (3, 1), (1,)),
    ((3, 4), (1, 1), (0, 1)),
    ((3, 4), (1,), (0, 1)),
    ((3, 4), (), (0, 1)),
    ((4,), (), (0,)),
    ((4,), (1,), (0,)),
    ((2, 3, 4), (3, 4), (0,)),
    ((2, 3, 4), (3, 1), (0, 2)),
    ((2, 3, 4), (2, 1, 4), (1,)),
    ((2, 3, 4), (1, 3, 1), (0, 2)),
    ((2, 3, 4), (4,), (0, 1)),
    ((2, 3, 4), (1,), (0, 1, 2)),
    ((5, 1, 4), (1, 4), (0,)),
    ((1, 4), (4,), (0,)),
    ((1, 1, 4), (4,), (0, 1)),
    ((3, 3), (3,), (0,)),
    ((3, 3), (3, 1), (1,)),
    ((3, 3), (1, 3), (0,)),
    ((0, 4), (1, 4), (0,)),
    ((0, 4), (4,), (0,)),
]


@pytest.mark.parametrize(("shape", "to", "axes"), BACK)
def test_stretched_axes_are_summed_and_no_others(shape, to, axes):
    grad = np.arange(np.prod(shape), dtype=np.float64).reshape(shape) ** 2
    assert_close(unbroadcast(grad, to), grad.sum(axis=axes).reshape(to), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_dtype_stays(dtype):
    for shape, to, _ in BACK:
        assert unbroadcast(np.ones(shape, dtype), to).dtype == dtype


@pytest.mark.parametrize("shape", [(), (4,), (1,), (3, 4), (1, 4), (2, 1, 4), (0, 3)])
def test_what_was_not_stretched_comes_back_as_it_is(shape):
    grad = np.ones(shape)
    assert unbroadcast(grad, shape) is grad


def test_every_element_counts_once_for_every_copy():
    for shape, to in itertools.product([(2, 3, 4)], [(), (4,), (3, 1), (2, 1, 1), (1, 3, 4)]):
        copies = 24 // np.prod(to, dtype=int)
        assert_close(unbroadcast(np.ones(shape), to), np.full(to, float(copies)))


def test_the_gradient_itself_is_never_changed():
    grad = np.ones((3, 4))
    grad.setflags(write=False)
    unbroadcast(grad, (4,))
    unbroadcast(grad, (3, 1))


def test_a_bias_gets_the_sum_over_the_rows():
    x, bias = Tensor(np.ones((5, 3)), requires_grad=True), Tensor(np.zeros(3), requires_grad=True)
    (x + bias).backward(np.arange(15).reshape(5, 3))
    assert_close(bias.grad, np.array([30, 35, 40], np.float32))
    assert_close(x.grad, np.arange(15, dtype=np.float32).reshape(5, 3))


def test_a_number_gets_the_sum_over_everything():
    x, scale = Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True), Tensor(2.0, requires_grad=True)
    (x * scale).sum().backward()
    assert_close(scale.grad, np.float32(15))


def test_a_column_and_a_row_each_get_their_own():
    column, row = Tensor(np.array([[1.0], [2.0]]), requires_grad=True), Tensor([3.0, 4.0, 5.0], requires_grad=True)
    (column * row).sum().backward()
    assert_close(column.grad, np.array([[12], [12]], np.float32))
    assert_close(row.grad, np.array([3, 3, 3], np.float32))
