"""Who may look at whom: booleans, floats, causal, all of them together, and what is refused."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.attention import causal_mask, scaled_dot_product_attention
from tinytorch.core.tensor import Tensor, randn

INF = math.inf
Q, K, V = randn(2, 3, 4, 6, rng=0), randn(2, 3, 5, 6, rng=1), randn(2, 3, 5, 2, rng=2)
RNG = np.random.default_rng(0)


def naive(q, k, v, may_look=None, bias=None):
    """The definition, one query at a time, in float64."""
    lead, T, S = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2]), q.shape[-2], k.shape[-2]
    q, k, v = (np.broadcast_to(x, lead + x.shape[-2:]).astype(np.float64) for x in (q, k, v))
    may_look = np.broadcast_to(True if may_look is None else may_look, (*lead, T, S))
    bias = np.broadcast_to(0.0 if bias is None else bias, (*lead, T, S))
    out, weights = np.zeros((*lead, T, v.shape[-1])), np.zeros((*lead, T, S))
    for place in np.ndindex(*lead, T):
        fits = {}
        for j in range(S):
            score = sum(q[place] * k[place[:-1]][j]) / math.sqrt(q.shape[-1]) + bias[place][j]
            if may_look[place][j] and score > -INF:
                fits[j] = score
        total = sum(math.exp(score - max(fits.values())) for score in fits.values())
        for j, score in fits.items():
            weights[place][j] = math.exp(score - max(fits.values())) / total
            out[place] += weights[place][j] * v[place[:-1]][j]
    return out.astype(np.float32), weights.astype(np.float32)


def check(got, want):
    for x, y in zip(got, want):
        assert_close(x, y, rtol=1e-4, atol=1e-5)


class TestCausalMask:
    @pytest.mark.parametrize("T", [0, 1, 2, 7])
    def test_query_i_may_look_at_keys_up_to_i(self, T):
        want = np.array([[j <= i for j in range(T)] for i in range(T)], bool).reshape(T, T)
        np.testing.assert_array_equal(causal_mask(T).data, want)

    @pytest.mark.parametrize(("T", "S"), [(1, 5), (3, 4), (2, 2), (0, 3)])
    def test_with_more_keys_the_queries_are_the_last_places(self, T, S):
        np.testing.assert_array_equal(causal_mask(T, S).data, causal_mask(S).data[S - T :])

    def test_it_is_boolean(self):
        assert causal_mask(3).dtype == np.bool_

    def test_fewer_keys_than_queries_are_refused(self):
        with pytest.raises(ValueError, match="at least as many keys as queries, got 3 queries and 2 keys"):
            causal_mask(3, 2)


class TestBooleans:
    @pytest.mark.parametrize(
        "shape", [(4, 5), (1, 5), (4, 1), (5,), (), (3, 4, 5), (2, 1, 4, 5), (2, 1, 1, 5), (2, 3, 4, 5)]
    )
    def test_any_shape_that_broadcasts(self, shape):
        mask = RNG.random(shape) > 0.4
        check(scaled_dot_product_attention(Q, K, V, mask=mask), naive(Q.data, K.data, V.data, mask))

    @pytest.mark.parametrize("kind", [list, np.array, Tensor])
    def test_lists_arrays_and_tensors(self, kind):
        mask = (RNG.random((4, 5)) > 0.4).tolist()
        got = scaled_dot_product_attention(Q, K, V, mask=kind(mask))
        check(got, naive(Q.data, K.data, V.data, np.array(mask)))

    def test_shares_are_divided_among_those_that_may_be_seen(self):
        mask = RNG.random((4, 5)) > 0.4
        mask[:, 0] = True
        _, weights = scaled_dot_product_attention(Q, K, V, mask=mask)
        assert_close(weights.sum(axis=-1), np.ones((2, 3, 4), np.float32))
        assert not weights.data[..., ~mask].any()

    def test_what_may_not_be_seen_does_not_matter(self):
        mask = np.array([True, True, False, True, False])
        want = scaled_dot_product_attention(Q, K, V, mask=mask)[0]
        k, v = K.data.copy(), V.data.copy()
        k[..., ~mask, :], v[..., ~mask, :] = 1e3, -1e3
        assert_close(scaled_dot_product_attention(Q, Tensor(k), Tensor(v), mask=mask)[0], want.data, rtol=0, atol=0)

    def test_all_true_is_no_mask(self):
        want = scaled_dot_product_attention(Q, K, V)
        check(scaled_dot_product_attention(Q, K, V, mask=np.ones((4, 5), bool)), [x.data for x in want])

    def test_nothing_but_walls_gives_zeros(self):
        out, weights = scaled_dot_product_attention(Q, K, V, mask=np.zeros((4, 5), bool))
        assert not out.data.any()
        assert not weights.data.any()


class TestFloats:
    @pytest.mark.parametrize("shape", [(4, 5), (1, 5), (4, 1), (5,), (3, 1, 1), (3, 4, 5), (2, 1, 4, 5)])
    def test_they_are_added_to_the_scores(self, shape):
        bias = RNG.normal(size=shape)
        check(scaled_dot_product_attention(Q, K, V, mask=bias), naive(Q.data, K.data, V.data, bias=bias))

    def test_minus_infinity_is_a_wall(self):
        mask = RNG.random((4, 5)) > 0.4
        mask[2] = False
        walls = np.where(mask, 0.0, -INF)
        check(scaled_dot_product_attention(Q, K, V, mask=walls), naive(Q.data, K.data, V.data, mask))

    @pytest.mark.parametrize("low", [-1e9, -1e300, float(np.finfo(np.float32).min), float(np.finfo(np.float64).min)])
    def test_very_low_numbers_are_walls_without_a_warning(self, low):
        mask = np.tri(4, 5, dtype=bool)
        bias = Tensor(np.where(mask, 0.0, low), dtype=np.float64)
        q, k, v = (Tensor(x.data, dtype=np.float32) for x in (Q, K, V))
        out, weights = scaled_dot_product_attention(q, k, v, mask=bias)
        assert out.dtype == np.float32
        assert_close(weights, scaled_dot_product_attention(q, k, v, mask=mask)[1].data, atol=1e-6)

    def test_one_number_for_all_changes_nothing(self):
        want = scaled_dot_product_attention(Q, K, V)
        check(scaled_dot_product_attention(Q, K, V, mask=3.0), [x.data for x in want])

    def test_ones_and_zeros_as_floats_are_added_like_any_others(self):
        ones = np.tri(4, 5)
        check(scaled_dot_product_attention(Q, K, V, mask=ones), naive(Q.data, K.data, V.data, bias=ones))


class TestCausal:
    def test_it_is_the_causal_mask(self):
        want = scaled_dot_product_attention(Q, K, V, mask=causal_mask(4, 5))
        got = scaled_dot_product_attention(Q, K, V, causal=True)
        for x, y in zip(got, want):
            assert_close(x, y.data, rtol=0, atol=0)

    @pytest.mark.parametrize("shape", [(4, 5), (5,), (2, 1, 1, 5)])
    def test_together_with_booleans_both_must_allow(self, shape):
        mask = RNG.random(shape) > 0.3
        want = naive(Q.data, K.data, V.data, mask & causal_mask(4, 5).data)
        check(scaled_dot_product_attention(Q, K, V, mask=mask, causal=True), want)

    @pytest.mark.parametrize("shape", [(4, 5), (5,), (3, 1, 1)])
    def test_together_with_floats(self, shape):
        bias = RNG.normal(size=shape)
        want = naive(Q.data, K.data, V.data, causal_mask(4, 5).data, bias)
        check(scaled_dot_product_attention(Q, K, V, mask=bias, causal=True), want)

    def test_the_last_query_sees_everything_and_the_first_of_as_many_only_itself(self):
        _, weights = scaled_dot_product_attention(Q, K[:, :, :4], V[:, :, :4], causal=True)
        assert_close(weights.data[..., 0, :], np.broadcast_to(np.float32([1, 0, 0, 0]), (2, 3, 4)))
        assert (weights.data[..., 3, :] > 0).all()

    def test_fewer_keys_than_queries_are_refused(self):
        with pytest.raises(ValueError, match="at least as many keys as queries, got 4 and 5"):
            scaled_dot_product_attention(K, Q, Q, causal=True)


class TestRefused:
    @pytest.mark.parametrize("shape", [(5, 4), (4, 4), (2, 4, 5), (1, 2, 3, 4, 5), (2, 1, 3, 4, 5)])
    def test_a_mask_that_does_not_fit(self, shape):
        with pytest.raises(ValueError, match="attention's mask"):
            scaled_dot_product_attention(Q, K, V, mask=np.ones(shape, bool))

    @pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64])
    def test_integers(self, kind):
        with pytest.raises(TypeError, match="of ones and zeros make booleans, mask == 1"):
            scaled_dot_product_attention(Q, K, V, mask=np.ones((4, 5), kind))

    def test_a_refused_mask_leaves_everything_as_it_was(self):
        before = Q.data.copy()
        with pytest.raises(ValueError, match="mask"):
            scaled_dot_product_attention(Q, K, V, mask=np.ones((3, 3), bool))
        assert_close(Q, before, rtol=0, atol=0)
