"""What holds for tensors of any shape and any numbers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from support.checks import assert_close
from tinytorch.core import tensor as T
from tinytorch.core.tensor import Tensor, broadcast_shape, from_numpy, normalize_axes

fixed = settings(derandomize=True, deadline=None, max_examples=25)
numbers = st.floats(-100, 100, width=32)
shapes = hn.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
filled = hn.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5)
any_array = hn.arrays(np.float32, shapes, elements=numbers)
arrays = hn.arrays(np.float32, filled, elements=numbers)
ties = hn.arrays(np.float32, filled, elements=st.integers(-2, 2).map(float))
operands = hn.arrays(np.float32, (3, 4), elements=st.floats(0.5, 5, width=32))
friends = hn.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4)


def axis_of(x):
    return st.integers(-x.ndim, x.ndim - 1)


@fixed
@given(hn.mutually_broadcastable_shapes(num_shapes=3, min_side=0, max_side=4))
def test_shapes_that_fit_have_the_shape_numpy_gives_them(found):
    assert broadcast_shape("add", *found.input_shapes) == found.result_shape


@fixed
@given(shapes, shapes)
def test_broadcast_shape_refuses_what_numpy_refuses(a, b):
    try:
        want = np.broadcast_shapes(a, b)
    except ValueError:
        with pytest.raises(ValueError, match="add needs shapes that broadcast"):
            broadcast_shape("add", a, b)
    else:
        assert broadcast_shape("add", a, b) == want


@fixed
@given(friends, st.data())
def test_arithmetic_stretches_as_numpy_does(found, data):
    a, b = (data.draw(hn.arrays(np.float32, shape, elements=numbers)) for shape in found.input_shapes)
    assert_close(Tensor(a) + Tensor(b), np.asarray(a + b), rtol=0, atol=0)
    assert_close(Tensor(a) * b, np.asarray(a * b), rtol=0, atol=0)
    assert_close(a - Tensor(b), np.asarray(a - b), rtol=0, atol=0)
    assert_close(Tensor(a) / (np.abs(b) + 1), np.asarray(a / (np.abs(b) + 1)), rtol=0, atol=0)
    assert_close(Tensor(a) < Tensor(b), np.asarray(a < b))
    assert_close(T.where(Tensor(a) > b, a, b), np.maximum(a, b), rtol=0, atol=0)
    assert (Tensor(a) + Tensor(b)).shape == found.result_shape


@fixed
@given(friends)
def test_broadcast_to_is_what_arithmetic_with_zeros_does(found):
    x = T.randn(found.input_shapes[0], rng=0)
    assert_close(x.broadcast_to(found.result_shape), (x + T.zeros(found.result_shape)).data, rtol=0, atol=0)


@fixed
@given(any_array, st.data())
def test_reshaping_there_and_back_is_nothing(x, data):
    lengths = data.draw(st.permutations(x.shape))
    there = Tensor(x).reshape(lengths)
    assert there.data.ravel().tolist() == x.ravel().tolist()
    assert_close(there.reshape(x.shape), x, rtol=0, atol=0)
    assert_close(there.flatten().reshape(x.shape), x, rtol=0, atol=0)


@fixed
@given(arrays, st.data())
def test_one_length_can_be_left_to_reshape(x, data):
    place = data.draw(axis_of(x))
    shape = [*x.shape]
    shape[place] = -1
    assert Tensor(x).reshape(*shape).shape == x.shape


@fixed
@given(any_array, st.data())
def test_permuting_there_and_back_is_nothing(x, data):
    axes = data.draw(st.permutations(range(x.ndim)))
    there = Tensor(x).permute(*axes)
    assert_close(there, x.transpose(axes), rtol=0, atol=0)
    assert_close(there.permute(*np.argsort(axes).tolist()), x, rtol=0, atol=0)


@fixed
@given(any_array, st.integers(-5, 4))
def test_squeeze_takes_away_what_unsqueeze_added(x, axis):
    axis = max(-x.ndim - 1, min(axis, x.ndim))
    wider = Tensor(x).unsqueeze(axis)
    assert wider.shape == np.expand_dims(x, axis).shape
    assert_close(wider.squeeze(axis), x, rtol=0, atol=0)


@fixed
@given(arrays, st.integers(1, 6), st.data())
def test_cat_puts_together_what_split_cut(x, size, data):
    axis = data.draw(axis_of(x))
    parts = T.split(Tensor(x), size, axis)
    assert [part.shape[axis] for part in parts[:-1]] == [size] * (math.ceil(x.shape[axis] / size) - 1)
    assert_close(T.cat(parts, axis), x, rtol=0, atol=0)


@fixed
@given(st.lists(st.integers(0, 3), min_size=1, max_size=4).filter(any))
def test_split_gives_back_what_cat_joined(lengths):
    parts = [T.randn(2, n, rng=n) for n in lengths]
    for part, back in zip(parts, T.split(T.cat(parts, axis=1), lengths, axis=1), strict=True):
        assert_close(back, part.data, rtol=0, atol=0)


@fixed
@given(arrays, st.integers(1, 4), st.data())
def test_indexing_a_stack_gives_back_what_was_stacked(x, count, data):
    axis = data.draw(st.integers(0, x.ndim))
    stacked = T.stack([Tensor(x) + i for i in range(count)], axis)
    for i in range(count):
        assert_close(stacked[(slice(None),) * axis + (i,)], x + np.float32(i), rtol=0, atol=0)


@fixed
@given(arrays, st.data())
def test_slicing_the_border_off_undoes_pad(x, data):
    widths = [data.draw(st.tuples(st.integers(0, 3), st.integers(0, 3))) for _ in x.shape]
    padded = T.pad(Tensor(x), widths, value=7)
    inside = tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True))
    assert padded.shape == tuple(before + n + after for (before, after), n in zip(widths, x.shape, strict=True))
    assert_close(padded[inside], x, rtol=0, atol=0)
    assert_close(padded.sum(), x.sum() + np.float32(7) * (padded.size - x.size), rtol=1e-4, atol=1e-2)


@fixed
@given(any_array, st.data())
def test_every_index_of_numpy_is_an_index(x, data):
    index = data.draw(hn.basic_indices(x.shape, allow_newaxis=True))
    assert_close(Tensor(x)[index], np.asarray(x[index]), rtol=0, atol=0)


@fixed
@given(any_array, st.data())
def test_masks_pick_and_fill(x, data):
    mask = data.draw(hn.arrays(bool, x.shape))
    assert_close(Tensor(x)[Tensor(mask)], x[mask], rtol=0, atol=0)
    filled = Tensor(x).masked_fill(mask, 500)
    assert ((filled == 500).data == mask).all()
    assert_close(filled[~mask], x[~mask], rtol=0, atol=0)


@fixed
@given(ties, st.data())
def test_topk_is_the_beginning_of_a_descending_sort(x, data):
    axis = data.draw(axis_of(x))
    k = data.draw(st.integers(1, x.shape[axis]))
    values, places = T.topk(Tensor(x), k, axis)
    all_values, all_places = T.sort(Tensor(x), axis, descending=True)
    assert_close(values, np.take(all_values.data, range(k), axis), rtol=0, atol=0)
    assert_close(places, np.take(all_places.data, range(k), axis))
    assert_close(T.topk(Tensor(x), 1, axis)[0], x.max(axis=axis, keepdims=True), rtol=0, atol=0)
    assert_close(T.topk(Tensor(x), 1, axis)[1], x.argmax(axis=axis, keepdims=True))


@fixed
@given(ties, st.booleans(), st.data())
def test_sort_orders_keeps_everything_and_says_where_it_was(x, descending, data):
    axis = data.draw(axis_of(x))
    values, places = T.sort(Tensor(x), axis, descending)
    steps = np.diff(values.data, axis=axis)
    assert (steps <= 0).all() if descending else (steps >= 0).all()
    assert_close(values, np.take_along_axis(x, places.data, axis), rtol=0, atol=0)
    assert (np.sort(places.data, axis) == np.sort(np.argsort(x, axis), axis)).all()
    assert (np.diff(places.data, axis=axis)[steps == 0] > 0).all()


@fixed
@given(arrays, st.data())
def test_scatter_add_puts_back_what_gather_took(x, data):
    axis = data.draw(axis_of(x))
    order = np.argsort(data.draw(hn.arrays(np.float32, x.shape, elements=numbers)), axis)
    taken = T.gather(Tensor(x), axis, order)
    assert_close(taken, np.take_along_axis(x, order, axis), rtol=0, atol=0)
    assert_close(T.scatter_add(T.zeros(x.shape), axis, order, taken), x, rtol=0, atol=0)


@fixed
@given(arrays, st.data())
def test_scatter_add_adds_everything_up(x, data):
    axis = data.draw(axis_of(x))
    index = data.draw(hn.arrays(np.int64, x.shape, elements=st.integers(0, x.shape[axis] - 1)))
    out = T.scatter_add(T.zeros(x.shape), axis, index, Tensor(x))
    assert_close(out.sum(axis), x.sum(axis=axis), rtol=1e-4, atol=1e-3)


@fixed
@given(arrays, st.data())
def test_logsumexp_lies_between_the_maximum_and_the_maximum_plus_log_n(x, data):
    axis = data.draw(axis_of(x))
    out, largest = T.logsumexp(Tensor(x), axis).data, x.max(axis=axis)
    slack = 1e-5 * (1 + np.abs(largest))
    assert (out >= largest - slack).all()
    assert (out <= largest + np.log(x.shape[axis]) + slack).all()


@fixed
@given(arrays, st.floats(-1e4, 1e4, width=32), st.data())
def test_shifting_all_numbers_shifts_logsumexp(x, shift, data):
    axis = data.draw(axis_of(x))
    x = x.astype(np.float64)
    assert_close(T.logsumexp(from_numpy(x + shift), axis), T.logsumexp(from_numpy(x), axis).data + shift, rtol=1e-9)


@fixed
@given(any_array, st.data())
def test_a_reduction_over_axes_is_one_over_each_in_turn(x, data):
    axes = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True)) if x.ndim else []
    together, one_by_one = Tensor(x).sum(tuple(axes)), Tensor(x)
    for axis in sorted(axes, reverse=True):
        one_by_one = one_by_one.sum(axis)
    assert_close(together, one_by_one.data, rtol=1e-4, atol=1e-3)
    assert together.shape == tuple(n for i, n in enumerate(x.shape) if i not in axes)
    assert Tensor(x).sum(axes, keepdims=True).shape == tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    assert normalize_axes("sum", Tensor(x), [axis - x.ndim for axis in axes]) == tuple(axes)


@fixed
@given(arrays, st.data())
def test_mean_lies_between_min_and_max_and_var_is_the_mean_squared_distance_from_it(x, data):
    axis = data.draw(axis_of(x))
    low, mean, high = (getattr(Tensor(x), name)(axis, keepdims=True).data for name in ("min", "mean", "max"))
    assert (low - 1e-4 <= mean).all()
    assert (mean <= high + 1e-4).all()
    assert_close(Tensor(x).var(axis, keepdims=True), ((x - mean) ** 2).mean(axis=axis, keepdims=True), rtol=1e-4)
    assert_close(Tensor(x).std(axis) ** 2, Tensor(x).var(axis).data, rtol=1e-4)


@fixed
@given(arrays, st.data())
def test_differences_of_cumsum_are_the_elements(x, data):
    axis = data.draw(axis_of(x))
    running = T.cumsum(from_numpy(x.astype(np.float64)), axis)
    assert_close(np.diff(running.data, axis=axis, prepend=0.0), x.astype(np.float64), rtol=1e-9, atol=1e-9)


@fixed
@given(arrays, numbers, numbers)
def test_clip_stays_inside_and_leaves_what_is_inside_alone(x, a, b):
    low, high = min(a, b), max(a, b)
    out = T.clip(Tensor(x), low, high).data
    assert ((out >= low) & (out <= high)).all()
    assert (out[(x >= low) & (x <= high)] == x[(x >= low) & (x <= high)]).all()


@fixed
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), hn.array_shapes(min_dims=0, max_dims=2, min_side=0))
def test_matmul_and_einsum_are_the_same_sum(M, K, N, leading):
    a, b = T.randn(*leading, M, K, rng=0), T.randn(K, N, rng=1)
    assert_close(a @ b, np.matmul(a.data, b.data), rtol=1e-4, atol=1e-5)
    assert_close(a @ b, T.einsum("...mk,kn->...mn", a, b).data, rtol=1e-4, atol=1e-5)
    assert_close((a @ b).swapaxes(-1, -2), (b.T @ a.swapaxes(-1, -2)).data, rtol=1e-4, atol=1e-5)


@fixed
@given(st.lists(st.integers(-(2**62), 2**62), min_size=1))
def test_whole_numbers_go_in_and_come_out_exactly(values):
    x = Tensor(values)
    assert x.tolist() == values
    assert (x + 1 - 1).tolist() == values
    assert T.cat([x, x])[len(values) :].tolist() == values
    assert x.max().item() == max(values)
    assert T.sort(x)[0].tolist() == sorted(values)


@settings(derandomize=True, deadline=None, max_examples=10)
@given(x=operands, y=operands)
def test_float32_stays_float32_and_operands_stay_what_they_are_in_every_operation(operations, x, y):
    for operation in operations:
        given = [Tensor(x), Tensor(y)][: operation.operands]
        out = operation.call(*given)
        assert out.dtype == NOT_FLOAT32.get(operation.name, np.float32), operation.name
        for tensor, array in zip(given, (x, y), strict=False):
            assert_close(tensor, array, rtol=0, atol=0, what=operation.name)


NOT_FLOAT32 = {
    **dict.fromkeys(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "any", "all"), np.bool_),
    **dict.fromkeys(("argmax", "argmin"), np.int64),
    "astype": np.float16,
}
