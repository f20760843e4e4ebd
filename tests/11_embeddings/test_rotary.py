"""RotaryEmbedding: places as angles."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from support.listening import announced
from tinytorch.core.tensor import Tensor, from_numpy, randn
from tinytorch.text.embeddings import RotaryEmbedding, rotary


def turned_by_hand(x, offset, base=10000.0):
    """Every pair (a, b) at place t becomes (a cos - b sin, a sin + b cos), one number at a time."""
    out = np.empty_like(x, dtype=np.float64)
    T, D = x.shape[-2:]
    for t in range(T):
        for i in range(0, D, 2):
            angle = (t + offset) / base ** (i / D)
            a, b = x[..., t, i], x[..., t, i + 1]
            out[..., t, i] = a * math.cos(angle) - b * math.sin(angle)
            out[..., t, i + 1] = a * math.sin(angle) + b * math.cos(angle)
    return out.astype(x.dtype)


class TestRotation:
    def test_a_quarter_turn(self):
        out = rotary(Tensor([[1.0, 0.0, 3.0, 4.0]]), np.array([[1j, -1j]]))
        assert_close(out, np.array([[0, 1, 4, -3]], np.float32))

    @pytest.mark.parametrize("offset", [0, 1, 17])
    @pytest.mark.parametrize("shape", [(1, 2), (5, 6), (3, 5, 4), (2, 3, 7, 8), (2, 0, 4)])
    def test_the_pairs_are_turned_as_by_hand(self, shape, offset):
        x = randn(*shape, rng=0)
        assert_close(RotaryEmbedding(shape[-1]).rotate(x, offset), turned_by_hand(x.data, offset), atol=1e-5)

    @pytest.mark.parametrize("base", [2.0, 500000.0])
    def test_the_base_sets_the_slowest_turn(self, base):
        x = randn(4, 6, rng=0)
        assert_close(RotaryEmbedding(6, base).rotate(x), turned_by_hand(x.data, 0, base), atol=1e-5)

    def test_place_0_is_not_turned(self):
        x = randn(2, 1, 4, rng=0)
        assert_close(RotaryEmbedding(4).rotate(x), x.data, rtol=0, atol=0)

    def test_lengths_stay(self):
        x = randn(2, 3, 50, 8, rng=0)
        out = RotaryEmbedding(8).rotate(x, 100)
        assert_close((out * out).sum(axis=-1), (x * x).sum(axis=-1).data, rtol=1e-5)

    def test_products_of_queries_and_keys_know_only_the_distance(self):
        turn = RotaryEmbedding(8)
        q, k = (np.broadcast_to(randn(8, rng=seed).data, (20, 8)) for seed in (0, 1))
        near, far = ((q @ k.T).data for q, k in (turn(from_numpy(q), from_numpy(k), offset) for offset in (0, 300)))
        assert_close(far, near, rtol=1e-3, atol=1e-3)
        for distance in (-7, 0, 3):
            assert np.ptp(np.diagonal(near, distance)) < 1e-4

    def test_a_sequence_in_two_parts_is_the_sequence(self):
        x, turn = randn(2, 9, 4, rng=0), RotaryEmbedding(4)
        parts = [turn.rotate(x[:, :5]).data, turn.rotate(x[:, 5:], 5).data]
        assert_close(np.concatenate(parts, axis=1), turn.rotate(x).data, rtol=0, atol=0)

    def test_one_place_far_out_is_exact(self):
        x = Tensor([[1.0, 0.0]])
        want = np.array([[math.cos(30000), math.sin(30000)]], np.float32)
        assert_close(RotaryEmbedding(2).rotate(x, 30000), want, atol=1e-6)

    def test_queries_and_keys_are_turned_alike_and_may_differ_in_heads_and_length(self):
        turn = RotaryEmbedding(4)
        q, k = randn(2, 6, 3, 4, rng=0), randn(2, 2, 5, 4, rng=1)
        turned_q, turned_k = turn(q, k, offset=2)
        assert_close(turned_q, turn.rotate(q, 2).data, rtol=0, atol=0)
        assert_close(turned_k, turn.rotate(k, 2).data, rtol=0, atol=0)


class TestTheRest:
    def test_x_stays_as_it_was(self):
        x = randn(3, 4, rng=0)
        before = x.data.copy()
        RotaryEmbedding(4).rotate(x, 1)
        assert_close(x, before, rtol=0, atol=0)

    def test_vectors_that_are_not_contiguous(self):
        x = randn(5, 2, 3, 4, rng=0)
        moved = x.permute(1, 2, 0, 3)
        want = turned_by_hand(np.ascontiguousarray(moved.data), 3)
        assert_close(RotaryEmbedding(4).rotate(moved, 3), want, atol=1e-5)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_the_dtype_stays(self, dtype):
        x = Tensor(np.ones((3, 4)), dtype=dtype, requires_grad=True)
        out = RotaryEmbedding(4).rotate(x)
        out.sum().backward()
        assert (out.dtype, x.grad.dtype) == (dtype, dtype)

    def test_float64_is_turned_in_float64(self):
        x = Tensor(np.random.default_rng(0).normal(size=(50, 6)), dtype=np.float64)
        assert_close(RotaryEmbedding(6).rotate(x), turned_by_hand(x.data, 0), rtol=1e-13, atol=1e-13)

    def test_half_precision_is_refused(self):
        with pytest.raises(TypeError, match="rotary needs float32 or float64, got float16"):
            RotaryEmbedding(4).rotate(Tensor(np.ones((3, 4)), dtype=np.float16))

    def test_the_gradient_is_turned_back(self):
        x = randn(2, 5, 4, rng=0, requires_grad=True)
        turn = RotaryEmbedding(4)
        turn.rotate(x, 7).backward(turn.rotate(randn(2, 5, 4, rng=1), 7).data)
        assert_close(x.grad, randn(2, 5, 4, rng=1).data, atol=1e-5)

    def test_it_is_one_operation(self):
        ((op, inputs, saved),) = announced(lambda: RotaryEmbedding(4).rotate(randn(3, 4)))
        assert (op, len(inputs), set(saved)) == ("rotary", 1, {"turns"})

    def test_nothing_is_learned_or_saved(self):
        turn = RotaryEmbedding(4)
        turn.rotate(randn(3, 4))
        assert (turn.parameters(), turn.state_dict()) == ([], {})

    def test_pairs_need_an_even_width(self):
        with pytest.raises(ValueError, match="needs an even head_dim, got 5"):
            RotaryEmbedding(5)

    @pytest.mark.parametrize("shape", [(3, 6), (4,), ()])
    def test_another_width_is_refused(self, shape):
        with pytest.raises(ValueError, match=r"RotaryEmbedding needs vectors \(\.\.\., T, 4\), got shape"):
            RotaryEmbedding(4).rotate(Tensor(np.ones(shape)))

    def test_a_place_before_the_first_is_refused(self):
        with pytest.raises(ValueError, match="places of at least 0, got offset -1"):
            RotaryEmbedding(4).rotate(randn(3, 4), -1)

    @pytest.mark.parametrize("turns", [(3, 3), (4, 2), (1, 2)])
    def test_turns_that_do_not_fit_are_refused(self, turns):
        with pytest.raises(
            ValueError, match=rf"rotary turns \(\.\.\., {turns[0]}, {2 * turns[1]}\), got shape \(3, 4\)"
        ):
            rotary(randn(3, 4), np.ones(turns, np.complex128))

    def test_it_prints_its_settings(self):
        assert repr(RotaryEmbedding(4)) == "RotaryEmbedding(head_dim=4, base=10000.0)"
