"""Picking elements: indices, masks, where, gather and scatter, sorting."""

import itertools

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import tensor as T
from tinytorch.core.tensor import Tensor

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)

INDICES = {
    "an integer": 1,
    "a negative integer": -1,
    "an integer of NumPy": np.int64(1),
    "a slice": slice(0, 1),
    "a slice with a step": (slice(None), slice(None, None, -2)),
    "integers and slices": (1, slice(1, 3), -1),
    "all integers": (1, 2, 3),
    "dots": (..., 2),
    "dots in the middle": (0, ..., 1),
    "a new axis": (slice(None), None, 1),
    "a list": [1, 0, 1],
    "an empty list": [],
    "a list behind a slice": (slice(None), [2, 0]),
    "an array": np.array([[0, 1], [1, 0]]),
    "two arrays": (np.array([0, 1]), np.array([2, 0])),
    "arrays that broadcast": (np.array([[0], [1]]), np.array([2, 0, 1])),
    "arrays around a slice": (np.array([0, 1]), slice(None), np.array([3, 1])),
    "a mask": X > 5,
    "a mask of rows": np.array([True, False]),
    "a mask behind a slice": (slice(None), np.array([True, False, True])),
    "a list of booleans": [False, True],
    "nothing": (),
}


def naive_gather(x, dim, index):
    out = np.zeros(index.shape, x.dtype)
    for place in itertools.product(*map(range, index.shape)):
        source = list(place)
        source[dim] = index[place]
        out[place] = x[tuple(source)]
    return out


def naive_scatter_add(x, dim, index, src):
    out = x.copy()
    for place in itertools.product(*map(range, index.shape)):
        target = list(place)
        target[dim] = index[place]
        out[tuple(target)] += src[place]
    return out


class TestGetitem:
    @pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
    def test_it_takes_what_numpy_takes(self, index):
        want = X[index]
        assert_close(Tensor(X)[index], np.asarray(want))

    @pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
    def test_tensors_in_place_of_arrays(self, index):
        def boxed(part):
            return Tensor(part) if isinstance(part, (list, np.ndarray)) and len(part) else part

        given = tuple(map(boxed, index)) if isinstance(index, tuple) else boxed(index)
        assert_close(Tensor(X)[given], np.asarray(X[index]))

    def test_a_comparison_is_an_index(self):
        x = Tensor([3.0, -1.0, 2.0])
        assert x[x > 0].tolist() == [3, 2]
        assert x[x.argmax()].item() == 3

    def test_slices_are_views_and_lists_copies(self):
        x = Tensor(X)
        assert np.shares_memory(x[0, 1:].data, x.data)
        assert not np.shares_memory(x[[0]].data, x.data)
        assert not np.shares_memory(x[x > 3].data, x.data)

    def test_the_function_takes_arrays_too(self):
        assert T.getitem([1, 2, 3], 1).item() == 2


class TestWhere:
    def test_a_where_the_condition_holds_and_b_elsewhere(self):
        assert T.where(Tensor([True, False]), Tensor([1.0, 2.0]), Tensor([3.0, 4.0])).tolist() == [1, 4]

    @pytest.mark.parametrize("condition", [np.array([True, False]), [True, False], Tensor([True, False])])
    def test_conditions_of_any_kind_and_numbers_on_either_side(self, condition):
        assert T.where(condition, Tensor([1.0, 2.0]), 0).tolist() == [1, 0]
        assert T.where(condition, 0, Tensor([1.0, 2.0])).tolist() == [0, 2]
        assert T.where(condition, 1, 0).tolist() == [1, 0]

    def test_all_three_broadcast(self):
        out = T.where(Tensor([[True], [False]]), Tensor([1.0, 2.0, 3.0]), Tensor(0.0))
        assert out.tolist() == [[1, 2, 3], [0, 0, 0]]
        assert T.where(True, Tensor([1.0, 2.0]), 0.0).tolist() == [1, 2]

    def test_masked_fill_fills_where_the_mask_holds(self):
        x = Tensor([[1.0, 2.0], [3.0, 4.0]])
        assert T.masked_fill(x, [[False, True], [False, False]], -np.inf).tolist() == [[1, -np.inf], [3, 4]]
        assert T.masked_fill(x, x > 2, 0).tolist() == [[1, 2], [0, 0]]
        assert x.tolist() == [[1, 2], [3, 4]]


class TestClip:
    def test_values_are_pulled_into_the_bounds(self):
        x = Tensor([-2.0, 0.5, 3.0])
        assert T.clip(x, -1, 1).tolist() == [-1, 0.5, 1]
        assert T.clip(x, min=0).tolist() == [0, 0.5, 3]
        assert T.clip(x, max=0).tolist() == [-2, 0, 0]
        assert T.clip(x, 1, 1).tolist() == [1, 1, 1]

    def test_bounds_may_be_arrays_that_broadcast(self):
        x = Tensor([[-2.0, 5.0], [3.0, 0.0]])
        assert T.clip(x, [0, 1], [[4], [2]]).tolist() == [[0, 4], [2, 1]]
        assert T.clip(x, Tensor([0.0, 1.0])).tolist() == [[0, 5], [3, 1]]


class TestGatherScatter:
    @pytest.mark.parametrize(
        ("dim", "shape"),
        [(0, (4, 3, 4)), (1, (2, 5, 4)), (2, (2, 3, 1)), (-1, (1, 2, 6)), (1, (2, 0, 4)), (0, (3, 1, 2))],
    )
    def test_loops_agree_with_gather_and_scatter_add(self, dim, shape):
        rng = np.random.default_rng(0)
        index = rng.integers(0, X.shape[dim], shape)
        src = rng.normal(size=shape).astype(np.float32)
        assert_close(T.gather(Tensor(X), dim, index), naive_gather(X, dim, index))
        assert_close(T.scatter_add(Tensor(X), dim, index, src), naive_scatter_add(X, dim, index, src))

    def test_the_scores_of_the_labels(self):
        scores = Tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
        assert_close(scores.gather(1, [[2], [0]]), np.array([[0.7], [0.5]], np.float32))
        assert_close(scores.gather(1, Tensor([[2], [0]])), np.array([[0.7], [0.5]], np.float32))

    def test_what_goes_to_one_place_adds_up(self):
        assert T.scatter_add(T.zeros(3), 0, [0, 0, 2], T.ones(3)).tolist() == [2, 0, 1]

    def test_scatter_add_leaves_its_input_alone(self):
        x = T.zeros(3)
        T.scatter_add(x, 0, [0], [5.0])
        assert x.tolist() == [0, 0, 0]

    def test_scatter_add_brings_both_to_one_dtype(self):
        assert_close(T.scatter_add(Tensor([0, 0]), 0, [1], [2]), np.array([0, 2]))
        assert_close(T.scatter_add(Tensor([0, 0]), 0, [1], [2.5]), np.array([0, 2.5], np.float32))
        assert_close(T.scatter_add(Tensor([0.0, 0.0]), 0, [1], np.array([2.5])), np.array([0, 2.5], np.float32))


class TestTake:
    @pytest.mark.parametrize("indices", [1, [0, 2], [[0, 1], [2, 2]], (0, 2), [-1], np.array([1, 1]), Tensor([2, 0])])
    @pytest.mark.parametrize("axis", [None, 1, -2])
    def test_as_numpy_takes(self, indices, axis):
        plain = indices.data if isinstance(indices, Tensor) else indices
        assert_close(T.take(Tensor(X), indices, axis), np.asarray(np.take(X, plain, axis)))


class TestSortTopk:
    def test_sort_gives_values_and_places(self):
        values, places = T.sort(Tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]]))
        assert values.tolist() == [[1, 2, 3], [0, 4, 5]]
        assert places.tolist() == [[1, 2, 0], [0, 2, 1]]

    def test_sort_downwards_along_another_axis(self):
        values, places = T.sort(Tensor([[3.0, 1.0], [0.0, 5.0]]), axis=0, descending=True)
        assert values.tolist() == [[3, 5], [0, 1]]
        assert places.tolist() == [[0, 1], [1, 0]]

    def test_equal_elements_keep_their_order_both_ways(self):
        x = Tensor([2.0, 1.0, 2.0, 1.0, 2.0])
        assert T.sort(x)[1].tolist() == [1, 3, 0, 2, 4]
        assert T.sort(x, descending=True)[1].tolist() == [0, 2, 4, 1, 3]

    def test_topk_gives_the_largest_first_and_the_first_of_equals(self):
        values, places = T.topk(Tensor([[1.0, 4.0, 2.0, 4.0], [0.0, 0.0, 0.0, 0.0]]), 3)
        assert values.tolist() == [[4, 4, 2], [0, 0, 0]]
        assert places.tolist() == [[1, 3, 2], [0, 1, 2]]

    def test_topk_along_another_axis_and_of_everything(self):
        x = Tensor(X)
        assert_close(T.topk(x, 1, axis=0)[0], X[1:])
        assert_close(T.topk(x, 4)[0], X[..., ::-1])

    def test_places_are_int64_and_values_keep_the_dtype(self):
        values, places = T.topk(Tensor([2**24 + 1, 3]), 1)
        assert_close(values, np.array([2**24 + 1]))
        assert places.dtype == np.int64

    def test_sorting_nothing(self):
        values, places = T.sort(Tensor(np.ones((2, 0))))
        assert values.shape == places.shape == (2, 0)
