"""What holds for gradients of any numbers, shapes and graphs."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, mutually_broadcastable_shapes

from tinytorch.core import tensor as T
from tinytorch.core.activations import log_softmax, softmax
from tinytorch.core.autograd import grad, unbroadcast
from tinytorch.core.losses import cross_entropy
from tinytorch.core.tensor import Tensor

fixed = settings(derandomize=True, deadline=None, max_examples=25)
numbers = st.floats(-100, 100, width=32)
shapes = array_shapes(min_dims=0, max_dims=3, max_side=4)
matrices = arrays(np.float64, (3, 4), elements=numbers)
whole = st.integers(-9, 9).map(float)  # sums and products of these are exact in float64


def whole_arrays(shape):
    return arrays(np.float64, shape, elements=whole)


def leaf(array):
    return Tensor(array, requires_grad=True, dtype=np.float64)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@fixed
@given(matrices, matrices, matrices, st.floats(-3, 3), st.floats(-3, 3))
def test_backward_is_linear_in_the_gradient_it_starts_from(array, u, v, a, b):
    def back(start):
        x = leaf(array)
        return grad((x / 50).exp() * x, x, start)

    close(back(a * u + b * v), a * back(u) + b * back(v))


@fixed
@given(matrices, st.floats(-3, 3), st.floats(-3, 3))
def test_the_gradient_of_a_sum_is_the_sum_of_the_gradients(array, a, b):
    x = leaf(array)
    f, g = (x * x).sum(), (x / 50).exp().mean()
    both = grad(f * a + g * b, x)
    close(both, a * grad((x * x).sum(), x) + b * grad((x / 50).exp().mean(), x))


@fixed
@given(matrices, matrices)
def test_the_gradient_of_a_product_is_leibniz_rule(p, q):
    x, y = leaf(p), leaf(q)
    dx, dy = grad((x * y).sum(), [x, y])
    close(dx, q)
    close(dy, p)


@fixed
@given(st.data(), mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4))
def test_unbroadcast_is_the_adjoint_of_broadcasting(data, drawn):
    """<broadcast(x), g> = <x, unbroadcast(g)> for all x and g."""
    (shape, _), whole_shape = drawn.input_shapes, drawn.result_shape
    x, g = data.draw(whole_arrays(shape)), data.draw(whole_arrays(whole_shape))
    back = unbroadcast(g, shape)
    assert back.shape == shape
    assert (np.broadcast_to(x, whole_shape) * g).sum() == (x * back).sum()


@fixed
@given(st.data(), mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3))
def test_sums_products_and_differences_give_every_operand_its_own_shape(data, drawn):
    x, y = (leaf(data.draw(whole_arrays(shape))) for shape in drawn.input_shapes)
    (x * y + x - y).sum().backward()
    for a, b in ((x, y.data + 1), (y, x.data - 1)):
        want = unbroadcast(np.broadcast_to(b, drawn.result_shape), a.shape)
        assert a.grad.shape == a.shape
        assert (a.grad == want).all()


def adjoint(f, x, out_shape, data):
    """For a linear f: <f(x), g> = <x, backward(g)>, exactly."""
    x = leaf(x)
    out = f(x)
    assert out.shape == out_shape
    g = data.draw(whole_arrays(out_shape))
    assert (out.data * g).sum() == (x.data * grad(out, x, g)).sum()


@fixed
@given(st.data(), array_shapes(min_dims=0, max_dims=4, max_side=3))
def test_permute_goes_back_by_the_inverse_permutation(data, shape):
    axes = data.draw(st.permutations(range(len(shape))))
    x = leaf(data.draw(whole_arrays(shape)))
    y = x.permute(axes)
    g = data.draw(whole_arrays(y.shape))
    back = grad(y, x, g)
    assert (back == g.transpose(np.argsort(axes).astype(int))).all()
    assert (back.transpose(axes) == g).all()


@fixed
@given(st.data(), shapes)
def test_reshape_keeps_every_element_of_the_gradient_in_order(data, shape):
    x = data.draw(whole_arrays(shape))
    adjoint(lambda x: x.reshape(-1), x, (x.size,), data)


@fixed
@given(st.data(), array_shapes(min_dims=1, max_dims=3, max_side=4), st.booleans())
def test_sum_and_cumsum_are_linear(data, shape, keepdims):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = data.draw(whole_arrays(shape))
    adjoint(lambda x: x.sum(axis, keepdims), x, x.sum(axis=axis, keepdims=keepdims).shape, data)
    adjoint(lambda x: x.cumsum(axis), x, shape, data)


@fixed
@given(st.data(), st.lists(st.integers(-3, 2), max_size=8))
def test_indexing_by_any_integers_is_linear(data, index):
    x = data.draw(whole_arrays((3, 2)))
    adjoint(lambda x: x[index], x, (len(index), 2), data)
    adjoint(lambda x: x[index, 0], x, (len(index),), data)


@fixed
@given(st.data(), st.lists(st.integers(0, 2), min_size=1, max_size=8))
def test_rows_taken_n_times_get_n_gradients(data, index):
    for width in (2, 100):
        x = leaf(np.zeros((3, width)))
        x[index].sum().backward()
        assert (x.grad == np.bincount(index, minlength=3)[:, None]).all()


@fixed
@given(st.data(), arrays(bool, (3, 4)))
def test_indexing_by_any_mask_is_linear(data, mask):
    x = data.draw(whole_arrays((3, 4)))
    adjoint(lambda x: x[mask], x, (int(mask.sum()),), data)


@fixed
@given(st.data(), st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_cat_and_split_are_each_others_way_back(data, lengths):
    xs = [leaf(data.draw(whole_arrays((2, n)))) for n in lengths]
    out = T.cat(xs, axis=1)
    g = data.draw(whole_arrays(out.shape))
    grads = grad(out, xs, g)
    assert (np.concatenate(grads, axis=1) == g).all()
    adjoint(lambda x: T.cat(x.split(lengths, axis=1)[::-1], axis=1), out.data, out.shape, data)


@fixed
@given(st.data(), st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2))
def test_pad_is_linear(data, widths):
    x = data.draw(whole_arrays((2, 3)))
    adjoint(lambda x: x.pad(widths), x, np.pad(x, widths).shape, data)


@fixed
@given(whole_arrays((2, 3)), whole_arrays((3, 4)), whole_arrays((2, 4)))
def test_matmul_moves_from_one_side_to_the_other(a, b, g):
    """<a b, g> = <a, g b^T> = <b, a^T g>."""
    x, y = leaf(a), leaf(b)
    dx, dy = grad(x @ y, [x, y], g)
    assert ((a @ b) * g).sum() == (a * dx).sum() == (b * dy).sum()


@fixed
@given(matrices, matrices)
def test_the_gradient_of_a_softmax_sums_to_0(array, g):
    x = leaf(array)
    for f in (softmax, log_softmax):
        np.testing.assert_allclose(grad(f(x), x, g).sum(axis=1), 0, atol=1e-9)


@fixed
@given(matrices, arrays(np.int64, 3, elements=st.integers(0, 3)), st.sampled_from(["mean", "sum"]))
def test_the_gradient_of_cross_entropy_sums_to_0_and_is_at_most_the_share(array, targets, reduction):
    x = leaf(array)
    dx = grad(cross_entropy(x, targets, reduction=reduction), x)
    np.testing.assert_allclose(dx.sum(axis=1), 0, atol=1e-12)
    assert (np.abs(dx) <= (1 / 3 if reduction == "mean" else 1) + 1e-12).all()
    assert (dx[np.arange(3), targets] <= 0).all()


@fixed
@given(arrays(np.float64, (3, 4), elements=st.integers(0, 2).map(float)), st.sampled_from([None, 0, 1]))
def test_the_gradients_of_max_sum_to_1_however_many_tie(array, axis):
    x = leaf(array)
    y = x.max(axis)
    dx = grad(y, x, np.ones(y.shape))
    np.testing.assert_allclose(dx.sum(axis=axis), 1)
    assert (dx[array < array.max(axis=axis, keepdims=True)] == 0).all()


@fixed
@given(st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=10))
def test_any_graph_of_sums_and_products(steps):
    """The engine beside derivatives carried forward (value and slope together), on random graphs."""
    x = leaf(np.array(2.0))
    tensors, duals = [x], [(2.0, 1.0)]
    for op, i, j in steps:
        i, j = i % len(tensors), j % len(tensors)
        (u, du), (v, dv) = duals[i], duals[j]
        if op == "*" and abs(u * v) > 1e6:
            op = "+"
        tensors.append({"+": T.add, "-": T.sub, "*": T.mul}[op](tensors[i], tensors[j]))
        duals.append({"+": (u + v, du + dv), "-": (u - v, du - dv), "*": (u * v, u * dv + v * du)}[op])
    assert tensors[-1].item() == duals[-1][0]
    assert grad(tensors[-1], x) == duals[-1][1]
