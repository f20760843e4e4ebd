"""cross_entropy and nll_loss: classes, probabilities, weights, what is ignored, what is refused."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import log_softmax
from tinytorch.core.losses import CrossEntropyLoss, NLLLoss, cross_entropy, nll_loss
from tinytorch.core.tensor import Tensor, randint, randn

INF = math.inf


def surprise(x, t):
    """Minus the log-probability of class t[i] in row i, in float64."""
    x = np.asarray(x, np.float64)
    x = x - x.max(axis=1, keepdims=True)
    return np.log(np.exp(x).sum(axis=1)) - x[np.arange(len(t)), t]


def from_logits(x, t, **options):
    return cross_entropy(x, t, **options)


def from_log_probs(x, t, **options):
    return nll_loss(log_softmax(x), t, **options)


both = pytest.mark.parametrize("function", [from_logits, from_log_probs])
X, T = randn(12, 5, rng=0), randint(0, 5, 12, rng=1)
EACH = surprise(X.data, T.data).astype(np.float32)


@pytest.mark.parametrize("C", [1, 2, 10, 50257])
def test_knowing_nothing_costs_log_c(C):
    assert_close(cross_entropy(np.zeros((3, C)), [0, C // 2, C - 1]), np.float32(math.log(C)), rtol=1e-6)


@both
class TestClassNumbers:
    def test_the_definition(self, function):
        assert_close(function(X, T, reduction="none"), EACH)
        assert_close(function(X, T), EACH.mean())
        assert_close(function(X, T, reduction="sum"), EACH.sum())

    @pytest.mark.parametrize("lead", [(12,), (3, 4), (2, 3, 2), (12, 1)])
    def test_any_leading_shape(self, function, lead):
        x, t = X.reshape(*lead, 5), T.reshape(*lead)
        assert_close(function(x, t, reduction="none"), EACH.reshape(lead))
        assert_close(function(x, t), EACH.mean())

    def test_one_row_without_a_batch(self, function):
        out = function(X[0], T[0], reduction="none")
        assert_close(out, EACH[0])
        assert_close(function(X[0], int(T.data[0])), EACH[0])

    @pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
    def test_any_integer_dtype(self, function, dtype):
        assert_close(function(X, T.data.astype(dtype)), EACH.mean())

    def test_logits_that_are_not_contiguous(self, function):
        assert_close(function(Tensor(X.data.T.copy()).T, T), EACH.mean())

    def test_adding_a_constant_to_a_row_changes_nothing(self, function):
        assert_close(function(X + 1000, T, reduction="none"), EACH, rtol=1e-3, atol=1e-3)

    def test_a_class_that_may_not_be_chosen(self, function):
        x = [[0.0, -INF, 0.0]]
        assert_close(function(x, [0]), np.float32(math.log(2)))
        assert function(x, [1]).item() == INF

    def test_a_row_that_may_choose_nothing_costs_infinitely_without_a_warning(self, function):
        assert function([[-INF, -INF]], [0]).item() == INF

    def test_the_rows_have_maxima_of_their_own(self, function):
        assert_close(function([[1000.0, 1000.0], [0.0, 0.0]], [0, 0]), np.float32(math.log(2)))


@both
class TestWeights:
    def test_the_mean_is_the_weighted_one(self, function):
        weight = np.array([1, 2, 3, 0, 5], np.float32)
        w = weight[T.data]
        assert_close(function(X, T, weight=weight, reduction="none"), EACH * w)
        assert_close(function(X, T, weight=weight, reduction="sum"), (EACH * w).sum())
        assert_close(function(X, T, weight=weight), (EACH * w).sum() / w.sum())

    def test_equal_weights_change_nothing_in_the_mean(self, function):
        assert_close(function(X, T, weight=[7] * 5), EACH.mean())

    def test_a_weight_may_be_a_tensor(self, function):
        assert_close(function(X, T, weight=Tensor([1.0] * 5)), EACH.mean())

    @pytest.mark.parametrize("weight", [[1.0] * 4, [[1.0] * 5], 1.0])
    def test_there_is_one_weight_per_class(self, function, weight):
        with pytest.raises(ValueError, match=r"needs one weight per class, so \(5,\)"):
            function(X, T, weight=weight)

    @pytest.mark.parametrize("wrong", [-1.0, math.nan])
    def test_a_weight_is_not_negative(self, function, wrong):
        with pytest.raises(ValueError, match="needs weights of at least 0"):
            function(X, T, weight=[1.0, 1.0, wrong, 1.0, 1.0])


@both
class TestIgnoring:
    def test_ignored_rows_count_neither_above_nor_below_the_line(self, function):
        kept = T.data != 3
        assert 0 < kept.sum() < 12
        assert_close(function(X, T, ignore_index=3), EACH[kept].mean())
        assert_close(function(X, T, ignore_index=3, reduction="sum"), EACH[kept].sum())
        assert_close(function(X, T, ignore_index=3, reduction="none"), EACH * kept)

    @pytest.mark.parametrize("mark", [-100, -1, 99])
    def test_the_mark_need_not_be_a_class(self, function, mark):
        t = T.data.copy()
        t[::2] = mark
        assert_close(function(X, t, ignore_index=mark), EACH[1::2].mean())

    def test_nothing_to_ignore_is_fine(self, function):
        assert_close(function(X, T, ignore_index=-100), EACH.mean())

    def test_together_with_weights(self, function):
        weight = np.array([1, 2, 3, 4, 5], np.float32)
        w = weight[T.data] * (T.data != 2)
        assert_close(function(X, T, weight=weight, ignore_index=2), (EACH * w).sum() / w.sum())

    def test_an_ignored_row_may_hold_anything(self, function):
        x = [[0.0, 0.0], [-INF, 0.0]]
        assert_close(function(x, [0, -100], ignore_index=-100), np.float32(math.log(2)))
        assert_close(
            function(x, [0, -100], ignore_index=-100, reduction="none"), np.array([math.log(2), 0], np.float32)
        )

    def test_a_mean_over_nothing_is_refused(self, function):
        with pytest.raises(ValueError, match="cannot average: every target is ignored"):
            function(X, np.full(12, -100), ignore_index=-100)
        assert function(X, np.full(12, -100), ignore_index=-100, reduction="sum").item() == 0

    def test_other_wrong_targets_are_still_refused(self, function):
        t = T.data.copy()
        t[5] = -1
        with pytest.raises(ValueError, match=r"got -1 at \(5\)"):
            function(X, t, ignore_index=-100)


class TestProbabilities:
    def test_certainty_is_a_class_number(self):
        assert_close(cross_entropy(X, np.eye(5)[T.data], reduction="none"), EACH)
        assert_close(cross_entropy(X, np.eye(5)[T.data]), EACH.mean())

    def test_the_surprise_is_averaged_under_the_target(self):
        q = np.random.default_rng(0).dirichlet(np.ones(5), 12).astype(np.float32)
        each = -(q * log_softmax(X).data).sum(axis=1)
        assert_close(cross_entropy(X, q, reduction="none"), each)
        assert_close(cross_entropy(X, q), each.mean())
        x, q = X.reshape(3, 4, 5), q.reshape(3, 4, 5)
        assert_close(cross_entropy(x, q), each.mean())
        assert cross_entropy(x, q, reduction="none").shape == (3, 4)

    def test_weights_multiply_classes_and_the_mean_is_over_rows(self):
        q, weight = np.eye(5)[T.data], np.array([1, 2, 3, 4, 5], np.float32)
        assert_close(cross_entropy(X, q, weight=weight), (EACH * weight[T.data]).mean())

    @pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
    def test_what_is_no_probability_is_refused(self, wrong):
        with pytest.raises(ValueError, match=rf"target probabilities from 0 to 1, got {wrong:.6g} at \(0, 1\)"):
            cross_entropy([[0.0, 0.0]], [[0.5, wrong]])

    def test_nothing_can_be_ignored_among_probabilities(self):
        with pytest.raises(ValueError, match="class numbers to know which to ignore"):
            cross_entropy(X, np.eye(5)[T.data], ignore_index=0)


class TestSmoothing:
    @pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0])
    def test_it_mixes_the_target_with_all_classes_alike(self, epsilon):
        q = (1 - epsilon) * np.eye(5)[T.data] + epsilon / 5
        want = cross_entropy(X, q, reduction="none").data
        assert_close(cross_entropy(X, T, label_smoothing=epsilon, reduction="none"), want)
        assert_close(cross_entropy(X, T, label_smoothing=epsilon), want.mean())
        assert_close(cross_entropy(X, np.eye(5)[T.data], label_smoothing=epsilon), want.mean())

    def test_ignored_rows_are_not_smoothed_either(self):
        kept = T.data != 3
        want = cross_entropy(X.data[kept], T.data[kept], label_smoothing=0.2).data
        assert_close(cross_entropy(X, T, label_smoothing=0.2, ignore_index=3), want)
        none = cross_entropy(X, T, label_smoothing=0.2, ignore_index=3, reduction="none")
        assert (none.data[~kept] == 0).all()

    @pytest.mark.parametrize("wrong", [-0.1, 1.5, math.nan])
    def test_a_share_outside_0_and_1_is_refused(self, wrong):
        with pytest.raises(ValueError, match=f"cross_entropy needs 0 <= label_smoothing <= 1, got {wrong}"):
            cross_entropy(X, T, label_smoothing=wrong)


class TestErrors:
    @pytest.mark.parametrize(("t", "value", "place"), [([0, 3], 3, 1), ([-1, 0], -1, 0), ([0, -100], -100, 1)])
    def test_a_target_that_is_no_class_is_named_with_its_place(self, t, value, place):
        for function in (cross_entropy, nll_loss):
            with pytest.raises(
                ValueError,
                match=rf"{function.__name__} needs targets from 0 to 2 for 3 classes, got {value} at \({place}\)",
            ):
                function(np.zeros((2, 3)), t)

    def test_the_place_has_as_many_axes_as_the_targets(self):
        with pytest.raises(ValueError, match=r"got 7 at \(1, 0\)"):
            cross_entropy(np.zeros((2, 2, 3)), [[0, 1], [7, 2]])

    def test_a_large_unsigned_number_does_not_wrap(self):
        with pytest.raises(ValueError, match="got 255"):
            cross_entropy(np.zeros((1, 3)), np.array([255], np.uint8))

    @pytest.mark.parametrize("t", [[0.0, 1.0], [True, False], [[0.5, 0.5]]])
    def test_targets_of_the_wrong_kind(self, t):
        with pytest.raises(TypeError, match=r"integers of shape \(2,\), or probabilities as floats of shape \(2, 3\)"):
            cross_entropy(np.zeros((2, 3)), t)

    @pytest.mark.parametrize("t", [[0], [0, 1, 2], [[0], [1]], 0])
    def test_targets_of_the_wrong_shape(self, t):
        with pytest.raises(
            ValueError, match=r"logits \(2, 3\) needs one class number per row, targets of shape \(2,\)"
        ):
            cross_entropy(np.zeros((2, 3)), t)

    def test_one_hot_integers_are_told_to_be_floats(self):
        with pytest.raises(ValueError, match="give them as floats"):
            cross_entropy(np.zeros((2, 3)), [[1, 0, 0], [0, 0, 1]])

    @pytest.mark.parametrize("function", [cross_entropy, nll_loss])
    def test_a_single_number_has_no_classes(self, function):
        with pytest.raises(ValueError, match=r"needs one number per class, shape \(\.\.\., C\)"):
            function(Tensor(1.0), 0)

    def test_nll_takes_no_probabilities(self):
        with pytest.raises(TypeError, match="nll_loss needs class numbers"):
            nll_loss(np.zeros((2, 3)), np.zeros((2, 3)))


class TestClasses:
    def test_every_setting_arrives(self):
        weight = [1.0, 2.0, 3.0, 4.0, 5.0]
        loss = CrossEntropyLoss(weight=weight, ignore_index=1, label_smoothing=0.3, reduction="sum")
        want = cross_entropy(X, T, weight, 1, 0.3, "sum").data
        assert_close(loss(X, T), want, rtol=0, atol=0)
        loss = NLLLoss(weight=weight, ignore_index=1, reduction="sum")
        assert_close(loss(X, T), nll_loss(X, T, weight, 1, "sum").data, rtol=0, atol=0)

    def test_it_prints_its_settings(self):
        assert repr(CrossEntropyLoss(label_smoothing=0.1)) == (
            "CrossEntropyLoss(reduction='mean', weight=None, ignore_index=None, label_smoothing=0.1)"
        )
        assert repr(NLLLoss(reduction="sum").eval()) == "NLLLoss(reduction='sum', weight=None, ignore_index=None)"
