"""scaled_dot_product_attention: shapes, dtypes, dropout, what it announces and what it refuses."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from support.listening import announced
from tinytorch.core.attention import scaled_dot_product_attention
from tinytorch.core.tensor import Tensor, manual_seed, randn

SHAPES = [  # q, k, v
    ((4, 3), (4, 3), (4, 3)),
    ((1, 3), (5, 3), (5, 2)),
    ((2, 4, 3), (2, 5, 3), (2, 5, 1)),
    ((2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 6)),
    ((2, 1, 3, 4, 6), (2, 1, 3, 5, 6), (2, 1, 3, 5, 6)),
    ((2, 3, 4, 6), (2, 1, 5, 6), (2, 1, 5, 6)),
    ((4, 6), (3, 5, 6), (2, 1, 5, 6)),
    ((2, 4, 1), (2, 5, 1), (2, 5, 3)),
]
every_shape = pytest.mark.parametrize("shapes", SHAPES)


def three(shapes, **options):
    return [randn(*shape, rng=seed, **options) for seed, shape in enumerate(shapes)]


def naive(q, k, v):
    """Three einsums and the textbook softmax."""
    scores = np.einsum("...td,...sd->...ts", q, k) / math.sqrt(q.shape[-1])
    exps = np.exp(scores)
    weights = exps / exps.sum(axis=-1, keepdims=True)
    return np.einsum("...ts,...sd->...td", weights, v), weights


class TestValues:
    @every_shape
    def test_it_is_the_definition(self, shapes):
        q, k, v = three(shapes)
        for got, want in zip(scaled_dot_product_attention(q, k, v), naive(q.data, k.data, v.data)):
            assert_close(got, want, rtol=1e-4, atol=1e-6)

    @every_shape
    def test_shares_are_positive_and_add_up_to_1(self, shapes):
        _, weights = scaled_dot_product_attention(*three(shapes))
        assert (weights.data > 0).all()
        assert_close(weights.sum(axis=-1), np.ones(weights.shape[:-1], np.float32))

    def test_the_result_lies_among_the_values(self):
        q, k, v = three([(50, 4), (20, 4), (20, 3)])
        out = scaled_dot_product_attention(q, k, v)[0].data
        assert (out >= v.data.min(axis=0)).all()
        assert (out <= v.data.max(axis=0)).all()

    def test_scores_are_divided_by_the_root_of_the_width(self):
        q, k = Tensor(np.ones((1, 16))), Tensor(np.array([[1.0] * 16, [0.0] * 16]))
        _, weights = scaled_dot_product_attention(q, k, Tensor(np.ones((2, 1))))
        assert_close(np.log(weights.data[0, 0] / weights.data[0, 1]), np.float32(4))

    def test_keys_and_values_in_another_order_change_nothing(self):
        q, k, v = three([(4, 3), (6, 3), (6, 2)])
        order = np.array([5, 0, 3, 1, 4, 2])
        out, weights = scaled_dot_product_attention(q, k, v)
        shuffled, moved = scaled_dot_product_attention(q, k[order], v[order])
        assert_close(shuffled, out.data)
        assert_close(moved, weights.data[:, order])

    def test_each_query_is_answered_on_its_own(self):
        q, k, v = three([(4, 3), (6, 3), (6, 2)])
        want = scaled_dot_product_attention(q, k, v)[0].data
        for i in range(4):
            assert_close(scaled_dot_product_attention(q[i : i + 1], k, v)[0], want[i : i + 1])

    def test_one_outlier_does_not_drown_the_other_rows(self):
        q, k, v = np.array([[1e4], [1.0]]), np.array([[1.0], [0.0]]), np.array([[1.0], [0.0]])
        out, _ = scaled_dot_product_attention(Tensor(q), Tensor(k), Tensor(v))
        assert_close(out, np.array([[1], [1 / (1 + math.exp(-1))]], np.float32))

    def test_arrays_and_lists_are_taken_too(self):
        q, k, v = three(SHAPES[2])
        want = scaled_dot_product_attention(q, k, v)[0].data
        assert_close(scaled_dot_product_attention(q.data, k.data.tolist(), v.data)[0], want)

    def test_views_that_are_not_contiguous(self):
        packed = randn(2, 5, 3, 4, 6, rng=0)
        q, k, v = (packed[:, :, i].swapaxes(1, 2) for i in range(3))
        copies = [Tensor(np.ascontiguousarray(x.data)) for x in (q, k, v)]
        want = scaled_dot_product_attention(*copies)[0].data
        assert_close(scaled_dot_product_attention(q, k, v)[0], want, atol=1e-6)


class TestDtypes:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize(
        "options", [{}, {"causal": True}, {"mask": np.ones((4, 5), bool)}, {"mask": np.zeros((4, 5))}]
    )
    def test_the_dtype_stays(self, dtype, options):
        q, k, v = (Tensor(x.data, dtype=dtype, requires_grad=True) for x in three(SHAPES[3]))
        out, weights = scaled_dot_product_attention(q, k, v, **options, dropout=0.5)
        out.sum().backward()
        assert {x.dtype for x in (out, weights, q.grad, k.grad, v.grad)} == {np.dtype(dtype)}

    @pytest.mark.parametrize("place", [0, 1, 2])
    def test_the_widest_dtype_wins(self, place):
        inputs = three(SHAPES[2])
        inputs[place] = Tensor(inputs[place].data, dtype=np.float64)
        assert [x.dtype for x in scaled_dot_product_attention(*inputs)] == [np.float64] * 2

    def test_integers_become_float32(self):
        out, weights = scaled_dot_product_attention([[1, 0]], [[1, 0], [0, 1]], [[1], [2]])
        assert (out.dtype, weights.dtype) == (np.float32, np.float32)


class TestDropout:
    def test_without_it_nothing_is_drawn(self):
        manual_seed(1)
        before = randn(3).data
        manual_seed(1)
        scaled_dot_product_attention(*three(SHAPES[2]))
        assert_close(randn(3), before, rtol=0, atol=0)

    def test_weights_are_dropped_and_the_others_grow(self):
        keys = Tensor(np.zeros((1000, 2)))
        out, weights = scaled_dot_product_attention(
            Tensor(np.zeros((1000, 2))), keys, Tensor(np.eye(1000)), dropout=0.25, rng=0
        )
        assert_close(np.unique(out.data), np.array([0, 1 / 750], np.float32), atol=1e-9)
        assert (out.data == 0).mean() == pytest.approx(0.25, abs=0.005)
        assert_close(weights, np.full((1000, 1000), 1 / 1000, np.float32))

    def test_the_mean_stays(self):
        q, k, v = three([(2000, 4), (30, 4), (30, 1)])
        q = Tensor(np.repeat(q.data[:1], 2000, axis=0))
        plain, dropped = (scaled_dot_product_attention(q, k, v, dropout=p, rng=0)[0].data for p in (0, 0.5))
        assert dropped.mean() == pytest.approx(plain.mean(), abs=0.02)
        assert dropped.std() > 0.05

    def test_a_seed_repeats_it(self):
        inputs = three(SHAPES[3])
        first, second, other = (scaled_dot_product_attention(*inputs, dropout=0.5, rng=s)[0].data for s in (3, 3, 4))
        assert_close(second, first, rtol=0, atol=0)
        assert np.abs(other - first).max() > 0.01

    def test_all_of_it_leaves_zeros(self):
        q, k, v = three(SHAPES[3], requires_grad=True)
        out, _ = scaled_dot_product_attention(q, k, v, dropout=1.0)
        out.sum().backward()
        assert not out.data.any()
        assert not v.grad.any()

    @pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
    def test_a_share_lies_between_0_and_1(self, p):
        with pytest.raises(ValueError, match="needs a dropout 0 <= p <= 1"):
            scaled_dot_product_attention(*three(SHAPES[0]), dropout=p)


class TestAnnouncement:
    @pytest.mark.parametrize(("options", "inputs"), [({}, 3), ({"causal": True}, 3), ({"mask": np.zeros((4, 4))}, 3)])
    def test_it_is_one_operation_that_saves_weights_and_no_scores(self, options, inputs):
        q, k, v = three(SHAPES[0])
        ((op, taken, saved),) = announced(lambda: scaled_dot_product_attention(q, k, v, **options))
        assert (op, len(taken)) == ("attention", inputs)
        assert [x is y for x, y in zip(taken, (q, k, v))] == [True] * 3
        assert set(saved) == {"weights", "kept", "scale", "out"}
        assert saved["kept"] is None
        assert saved["scale"] == pytest.approx(1 / math.sqrt(3))

    def test_the_weights_returned_are_those_saved_not_a_copy(self):
        q, k, v = three(SHAPES[0], requires_grad=True)
        out, weights = scaled_dot_product_attention(q, k, v)
        assert np.shares_memory(weights.data, out._grad_fn.saved["weights"])

    def test_a_learned_mask_is_an_input_too(self):
        q, k, v = three(SHAPES[0])
        mask = randn(4, 4, requires_grad=True)
        out, _ = scaled_dot_product_attention(q, k, v, mask=mask)
        assert out._grad_fn.inputs[3] is mask


class TestRefused:
    @pytest.mark.parametrize(
        ("shapes", "message"),
        [
            (((3,), (4, 3), (4, 3)), r"needs q, k, v of shape \(\.\.\., T, D\)"),
            (((4, 3), (4, 3), ()), r"needs q, k, v of shape \(\.\.\., T, D\)"),
            (((4, 3), (4, 2), (4, 3)), r"needs one width, got q \(4, 3\), k \(4, 2\)"),
            (((4, 3), (5, 3), (4, 3)), r"needs a value for every key, got k \(5, 3\), v \(4, 3\)"),
            (((2, 4, 3), (3, 4, 3), (3, 4, 3)), "attention needs shapes that broadcast"),
        ],
    )
    def test_shapes_that_do_not_fit(self, shapes, message):
        with pytest.raises(ValueError, match=message):
            scaled_dot_product_attention(*(Tensor(np.ones(shape)) for shape in shapes))

    @pytest.mark.parametrize("shapes", [((0, 3), (4, 3), (4, 2)), ((4, 3), (0, 3), (0, 2)), ((0, 3), (0, 3), (0, 2))])
    def test_no_queries_or_no_keys_are_no_error(self, shapes):
        q, k, v = three(shapes, requires_grad=True)
        out, weights = scaled_dot_product_attention(q, k, v)
        out.sum().backward()
        assert_close(out, np.zeros((shapes[0][0], 2), np.float32))
        assert weights.shape == (shapes[0][0], shapes[1][0])
        assert not any(x.grad.any() for x in (q, k, v))
