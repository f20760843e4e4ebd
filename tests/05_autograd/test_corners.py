"""Where an engine is easily wrong: numbers of no axis, shared inputs, empty axes, rules that return no arrays."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.autograd import checkpoint, gradcheck
from tinytorch.core.layers import linear
from tinytorch.core.tensor import Tensor


def test_the_gradient_of_a_single_number_is_an_array_after_adding_too():
    x = Tensor(2.0, requires_grad=True)
    for _ in range(2):
        (x * 3).backward()
    assert (type(x.grad), x.grad.shape, x.grad.dtype) == (np.ndarray, (), np.float32)


@pytest.mark.parametrize("given", [lambda w: w, lambda w: w * 1.0])
def test_a_checkpointed_function_may_reach_its_own_input_from_outside(given):
    w = Tensor([2.0, 3.0], requires_grad=True)
    x = given(w)
    checkpoint(lambda a: a * x, x).sum().backward()
    assert w.grad.tolist() == [4, 6]


def test_a_nested_checkpoint_may_too():
    w = Tensor([2.0, 3.0], requires_grad=True)
    checkpoint(lambda a: checkpoint(lambda b: b * w, a) * a, w).sum().backward()
    assert w.grad.tolist() == [12, 27]


def test_a_nested_tuple_is_an_index_with_repeats():
    x = Tensor([1.0, 2.0], requires_grad=True)
    x[(0, 0),].sum().backward()
    assert x.grad.tolist() == [2, 0]


@pytest.mark.parametrize(("a", "b"), [((2, 3, 4), (4, 0)), ((2, 3, 0), (0, 5))])
def test_empty_products_go_back(a, b):
    x, y = Tensor(np.ones(a), requires_grad=True), Tensor(np.ones(b), requires_grad=True)
    (x @ y).sum().backward()
    assert (x.grad.shape, y.grad.shape) == (a, b)


def test_empty_linear():
    x, w = Tensor(np.ones((2, 3)), requires_grad=True), Tensor(np.ones((3, 0)), requires_grad=True)
    linear(x, w).sum().backward()
    assert (x.grad.shape, w.grad.shape) == ((2, 3), (3, 0))


@pytest.mark.parametrize(
    "wrong", [lambda g: (g, 1.0), lambda g: [g, g], lambda g: (g, Tensor(g)), lambda g: (g, [1.0, 1.0])]
)
def test_a_rule_that_returns_no_arrays_is_named(operation, wrong):
    x, y = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="<OwnBackward> returned"):
        operation(lambda rule, grad: wrong(grad))(x, y).sum().backward()


def test_logsumexp_of_equals_in_float32():
    for at in (1e4, 1e8):
        x = Tensor([at, at], requires_grad=True)
        x.logsumexp().backward()
        assert_close(x.grad, np.array([0.5, 0.5], np.float32))


def test_where_there_is_nan_it_is_the_largest_and_gets_the_gradient():
    x = Tensor([np.nan, 1.0], requires_grad=True)
    x.max().backward()
    assert x.grad.tolist() == [1, 0]


def test_gradcheck_takes_a_whole_number():
    assert gradcheck(lambda x: x * x, 3)
