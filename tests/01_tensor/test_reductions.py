"""Sums, means, extremes, running sums, and the logarithm of a sum of exponentials."""

import warnings

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import tensor as T
from tinytorch.core.tensor import Tensor, normalize_axes

X = np.array([[[3, 1, 2, 2], [5, 4, 4, 1], [0, 7, 7, 3]], [[1, 1, 6, 2], [9, 0, 2, 9], [4, 4, 4, 4]]], np.float32)
AXES = [None, 0, 1, 2, -1, -3, (0, 1), (0, 2), (1, -1), (0, 1, 2), [0, 2], ()]


def numpy_axis(axis):
    return tuple(axis) if isinstance(axis, list) else axis


def naive_logsumexp(x, axis):
    return np.log(np.exp(x).sum(axis=axis))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "max", "min"])
def test_the_axes_named_disappear_or_stay_with_length_1(name, axis, keepdims):
    want = np.asarray(getattr(np, name)(X, axis=numpy_axis(axis), keepdims=keepdims))
    assert_close(getattr(T, name)(Tensor(X), axis, keepdims), want)


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "max", "min", "logsumexp", "argmax", "argmin"])
def test_reducing_a_single_number(name):
    want = {"var": 0, "std": 0, "argmax": 0, "argmin": 0}.get(name, 3.0)
    assert getattr(T, name)(Tensor(3.0)).item() == want


def test_a_worked_example():
    x = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]])
    assert x.sum().item() == 24
    assert x.sum(axis=0).tolist() == [5, 7, 12]
    assert x.sum(axis=1, keepdims=True).tolist() == [[6], [18]]
    assert x.mean(axis=1).tolist() == [2, 6]
    assert_close(x.var(axis=1), np.array([2 / 3, 14 / 3], np.float32))
    assert_close(x.var(axis=1, correction=1), np.array([1, 7], np.float32))
    assert_close(x.std(axis=1, correction=1), np.array([1, 7**0.5], np.float32))


def test_a_loop_agrees_with_sum():
    naive = np.zeros(4, np.float32)
    for row in X[0]:
        for j, value in enumerate(row):
            naive[j] += value
    assert_close(T.sum(Tensor(X[0]), axis=0), naive)


def test_the_sum_of_a_mask_counts_and_its_mean_is_a_share():
    mask = Tensor(X) > 3
    assert_close(mask.sum(), np.array(12))
    assert_close(mask.mean(), np.array(0.5, np.float32))


def test_the_mean_of_whole_numbers_is_no_whole_number():
    assert_close(Tensor([1, 2]).mean(), np.array(1.5, np.float32))
    assert_close(Tensor([[1, 2], [4, 4]]).var(axis=1), np.array([0.25, 0], np.float32))


def test_the_variance_of_large_numbers_that_lie_close_together():
    assert_close(Tensor([4096.0, 4097.0, 4098.0]).var(), np.array(2 / 3, np.float32))


def test_var_leaves_its_input_alone():
    x = Tensor(X)
    x.var(axis=1)
    assert_close(x, X, rtol=0)


def test_sums_over_nothing_are_zero():
    assert_close(Tensor(np.ones((2, 0))).sum(axis=1), np.zeros(2, np.float32))
    assert_close(Tensor(np.ones((0, 2))).sum(axis=1), np.zeros(0, np.float32))
    assert_close(Tensor(np.ones((0, 2))).mean(axis=1), np.zeros(0, np.float32))


def test_a_sum_of_a_strided_view():
    assert_close(Tensor(X).transpose(0, 2)[::2].sum(axis=1), X.swapaxes(0, 2)[::2].sum(axis=1))


class TestExtremes:
    @pytest.mark.parametrize("keepdims", [False, True])
    @pytest.mark.parametrize("axis", [None, 0, 1, 2, -1])
    @pytest.mark.parametrize("name", ["argmax", "argmin"])
    def test_where_they_stand(self, name, axis, keepdims):
        want = np.asarray(getattr(np, name)(X, axis=axis, keepdims=keepdims))
        assert_close(getattr(T, name)(Tensor(X), axis, keepdims), want)

    def test_the_first_of_equals(self):
        assert Tensor([1.0, 7.0, 7.0]).argmax().item() == 1
        assert Tensor([1.0, 0.0, 0.0]).argmin().item() == 1

    def test_max_and_min_of_integers_stay_integers(self):
        assert_close(Tensor([[1, 2**24 + 1]]).max(axis=1), np.array([2**24 + 1]))
        assert_close(Tensor([[1, -5]]).min(), np.array(-5))

    def test_infinities_and_nan(self):
        assert Tensor([-np.inf, 1.0]).max().item() == 1
        assert np.isnan(Tensor([np.nan, 1.0]).max().item())


class TestCumsum:
    @pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
    def test_along_an_axis(self, axis):
        assert_close(T.cumsum(Tensor(X), axis), X.cumsum(axis))

    def test_along_the_last_axis_unless_told_otherwise(self):
        assert T.cumsum(Tensor([[1, 2], [3, 4]])).tolist() == [[1, 3], [3, 7]]


class TestLogsumexp:
    @pytest.mark.parametrize("keepdims", [False, True])
    @pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)])
    def test_the_naive_formula_agrees_where_it_can(self, axis, keepdims):
        want = naive_logsumexp(X, axis)
        got = T.logsumexp(Tensor(X), axis, keepdims)
        assert_close(got.reshape(want.shape), np.asarray(want))
        assert got.shape == X.sum(axis=axis, keepdims=keepdims).shape

    def test_extremes_without_overflow_or_warning(self):
        x = [[1000, 1000], [-1000, -1000], [1e38, 0], [-np.inf, 0], [-np.inf, -np.inf], [np.inf, 0], [np.inf, 1000]]
        want = np.array([1000 + np.log(2), -1000 + np.log(2), 1e38, 0, -np.inf, np.inf, np.inf], np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert_close(T.logsumexp(Tensor(np.array(x)), axis=1), want)

    def test_nan_shows(self):
        assert np.isnan(T.logsumexp(Tensor([np.nan, 1.0])).item())

    def test_every_row_is_shifted_by_its_own_maximum(self):
        assert_close(T.logsumexp(Tensor([[500.0, 500.0], [-500.0, -500.0]]), 1), np.float32([500, -500]) + np.log(2))

    def test_shifting_the_input_shifts_the_result(self):
        assert_close(T.logsumexp(Tensor(X) + 100, axis=1), naive_logsumexp(X, 1) + 100)

    def test_integers_become_float32(self):
        assert_close(T.logsumexp(Tensor([0, 0])), np.array(np.log(2), np.float32))


class TestNormalizeAxes:
    @pytest.mark.parametrize(
        ("axis", "want"),
        [(None, None), (0, (0,)), (-1, (2,)), ((0, -1), (0, 2)), ([1], (1,)), ((), ()), (np.int64(1), (1,))],
    )
    def test_axes_are_counted_from_the_left(self, axis, want):
        assert normalize_axes("sum", Tensor(X), axis) == want

    @pytest.mark.parametrize("axis", [3, -4, (0, 3)])
    def test_an_axis_that_is_not_there_is_refused(self, axis):
        with pytest.raises(ValueError, match=r"softmax needs an axis of a tensor of shape \(2, 3, 4\), got axis"):
            normalize_axes("softmax", Tensor(X), axis)

    @pytest.mark.parametrize("axis", [(0, 0), (0, -3)])
    def test_an_axis_named_twice_is_refused(self, axis):
        with pytest.raises(ValueError, match="sum names an axis twice"):
            normalize_axes("sum", Tensor(X), axis)
