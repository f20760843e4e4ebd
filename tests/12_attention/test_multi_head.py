"""MultiHeadAttention: heads, masks, dropout, rotary places, caches, settings."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.attention import MultiHeadAttention, causal_mask, scaled_dot_product_attention
from tinytorch.core.layers import Linear, Module
from tinytorch.core.tensor import Tensor, cat, manual_seed, randn
from tinytorch.text.embeddings import RotaryEmbedding

X = randn(2, 5, 12, rng=0)


def by_loops(layer, x, allowed=None):
    """One sequence, one head, one query at a time."""
    N, T, E = x.shape
    heads = layer.num_heads
    D = E // heads
    qkv = x.data @ layer.in_proj.weight.data + layer.in_proj.bias.data
    mixed = np.zeros((N, T, E), np.float32)
    for n in range(N):
        for h in range(heads):
            own = slice(h * D, (h + 1) * D)
            q, k, v = (qkv[n, :, i * E : (i + 1) * E][:, own] for i in range(3))
            for i in range(T):
                seen = [j for j in range(T) if allowed is None or allowed[n][i][j]]
                fits = np.array([math.exp(q[i] @ k[j] / math.sqrt(D)) for j in seen])
                mixed[n, i, own] = sum(share * v[j] for share, j in zip(fits / fits.sum(), seen))
    return mixed @ layer.out_proj.weight.data + layer.out_proj.bias.data


class Pairs:
    """A cache that keeps what it is given."""

    def __init__(self):
        self.pairs = []

    def append(self, k, v):
        self.pairs.append((k, v))
        return tuple(cat([pair[i] for pair in self.pairs], axis=-2) for i in (0, 1))

    def __len__(self):
        return sum(k.shape[-2] for k, _ in self.pairs)


class TestHeads:
    @pytest.mark.parametrize("heads", [1, 2, 3, 12])
    def test_it_is_the_loops(self, heads):
        layer = MultiHeadAttention(12, heads, rng=1)
        assert_close(layer(X), by_loops(layer, X), rtol=1e-4, atol=1e-5)
        allowed = np.stack([causal_mask(5).data] * 2)
        assert_close(layer(X, causal=True), by_loops(layer, X, allowed), rtol=1e-4, atol=1e-5)

    def test_queries_keys_and_values_have_the_heads_before_the_places(self):
        layer = MultiHeadAttention(12, 3, rng=1)
        qkv = layer.in_proj(X).data
        for i, part in enumerate(layer.heads(X)):
            assert part.shape == (2, 3, 5, 4)
            for h in range(3):
                assert_close(part.data[:, h], qkv[..., 12 * i + 4 * h : 12 * i + 4 * h + 4], rtol=0, atol=0)

    def test_the_weights_of_every_head_can_be_looked_at(self):
        layer = MultiHeadAttention(12, 3, rng=1)
        out, weights = scaled_dot_product_attention(*layer.heads(X), causal=True)
        assert weights.shape == (2, 3, 5, 5)
        want = layer.out_proj(out.swapaxes(1, 2).reshape(2, 5, 12))
        assert_close(layer(X, causal=True), want.data, rtol=0, atol=0)

    @pytest.mark.parametrize("shape", [(5, 12), (1, 5, 12), (3, 2, 5, 12), (1, 12)])
    def test_any_number_of_leading_axes(self, shape):
        layer, x = MultiHeadAttention(12, 3, rng=1), randn(*shape, rng=2)
        rows = x.data.reshape(-1, *shape[-2:])
        want = np.stack([layer(Tensor(row), causal=True).data for row in rows]).reshape(shape)
        assert_close(layer(x, causal=True), want, atol=1e-6)

    def test_one_sequence_does_not_see_another(self):
        layer = MultiHeadAttention(12, 3, rng=1)
        changed = X.data.copy()
        changed[1] += 1
        assert_close(layer(Tensor(changed)).data[0], layer(X).data[0], rtol=0, atol=0)


class TestMasks:
    @pytest.mark.parametrize("shape", [(5, 5), (2, 5, 5), (2, 1, 5), (2, 1, 5, 5), (2, 3, 5, 5), (1, 1, 1, 5), (5,)])
    @pytest.mark.parametrize("floats", [False, True])
    def test_per_sequence_and_per_head(self, shape, floats):
        layer = MultiHeadAttention(12, 3, rng=1)
        allowed = np.random.default_rng(0).random(shape) > 0.3
        allowed[..., 0] = True
        full = allowed[:, None] if len(shape) == 3 else allowed
        full = np.broadcast_to(full, (2, 3, 5, 5))
        out, _ = scaled_dot_product_attention(*layer.heads(X), mask=full)
        want = layer.out_proj(out.swapaxes(1, 2).reshape(2, 5, 12)).data
        mask = np.where(allowed, 0.0, -math.inf) if floats else allowed
        assert_close(layer(X, mask=mask), want, atol=1e-6)

    def test_one_mask_per_sequence_is_the_loops(self):
        layer = MultiHeadAttention(12, 2, rng=1)
        allowed = np.random.default_rng(1).random((2, 5, 5)) > 0.3
        allowed[..., 0] = True
        assert_close(layer(X, mask=allowed), by_loops(layer, X, allowed), rtol=1e-4, atol=1e-5)

    def test_a_mask_and_causal_together(self):
        layer = MultiHeadAttention(12, 2, rng=1)
        allowed = np.random.default_rng(1).random((2, 5, 5)) > 0.3
        allowed[..., 0] = True
        want = by_loops(layer, X, allowed & causal_mask(5).data)
        assert_close(layer(X, mask=allowed, causal=True), want, rtol=1e-4, atol=1e-5)

    def test_a_sequence_without_a_batch_has_a_mask_without_one(self):
        layer = MultiHeadAttention(12, 2, rng=1)
        allowed = np.random.default_rng(1).random((5, 5)) > 0.3
        assert_close(layer(X[0], mask=allowed), layer(X[:1], mask=allowed).data[0], atol=1e-6)

    def test_who_may_look_nowhere_gets_the_bias_of_the_projection(self):
        layer = MultiHeadAttention(12, 2, rng=1)
        allowed = np.ones((5, 5), bool)
        allowed[3] = False
        assert_close(layer(X, mask=allowed).data[0, 3], layer.out_proj.bias.data, rtol=0, atol=0)


class TestDropout:
    def test_it_works_while_training_only(self):
        layer = MultiHeadAttention(12, 3, dropout=0.5, rng=1)
        plain = MultiHeadAttention(12, 3, rng=1)(X).data
        assert np.abs(layer(X).data - plain).max() > 0.01
        assert_close(layer.eval()(X), plain, rtol=0, atol=0)
        assert np.abs(layer.train()(X).data - plain).max() > 0.01

    def test_it_falls_on_the_weights(self):
        layer = MultiHeadAttention(12, 3, dropout=0.5, rng=1)
        manual_seed(4)
        out, _ = scaled_dot_product_attention(*layer.heads(X), dropout=0.5)
        want = layer.out_proj(out.swapaxes(1, 2).reshape(2, 5, 12)).data
        manual_seed(4)
        assert_close(layer(X), want, rtol=0, atol=0)

    def test_a_seed_repeats_it(self):
        layer, outs = MultiHeadAttention(12, 3, dropout=0.5, rng=1), []
        for _ in range(2):
            manual_seed(4)
            outs.append(layer(X).data)
        assert_close(outs[0], outs[1], rtol=0, atol=0)


class TestCache:
    def test_the_keys_of_before_are_seen(self):
        layer, cache = MultiHeadAttention(12, 3, rng=1), Pairs()
        layer(X[:, :3], cache=cache)
        out = layer(X[:, 3:], cache=cache)
        assert_close(out, layer(X).data[:, 3:], atol=1e-6)

    def test_a_causal_query_sees_all_that_came_before_and_nothing_ahead(self):
        layer, cache = MultiHeadAttention(12, 3, rng=1), Pairs()
        first = layer(X[:, :3], causal=True, cache=cache)
        second = layer(X[:, 3:], causal=True, cache=cache)
        assert_close(np.concatenate([first.data, second.data], axis=1), layer(X, causal=True).data, atol=1e-6)

    def test_a_mask_covers_all_keys(self):
        layer, cache = MultiHeadAttention(12, 3, rng=1), Pairs()
        allowed = np.array([[True, False, True, True, True]])
        layer(X[:, :4], cache=cache)
        out = layer(X[:, 4:], mask=allowed, cache=cache)
        assert_close(out, layer(X, mask=allowed).data[:, 4:], atol=1e-6)

    def test_turned_keys_are_cached_and_places_go_on(self):
        layer = MultiHeadAttention(12, 3, rotary=RotaryEmbedding(4), rng=1)
        cache = Pairs()
        parts = [layer(X[:, t : t + 1], causal=True, cache=cache).data for t in range(5)]
        assert_close(np.concatenate(parts, axis=1), layer(X, causal=True).data, atol=1e-5)

    def test_gradients_pass_through_a_cache_that_keeps_tensors(self):
        layer, cache = MultiHeadAttention(12, 3, rng=1), Pairs()
        x = Tensor(X.data, requires_grad=True)
        layer(x[:, :3], causal=True, cache=cache)
        layer(x[:, 3:], causal=True, cache=cache).sum().backward()
        want = Tensor(X.data, requires_grad=True)
        layer(want, causal=True)[:, 3:].sum().backward()
        assert_close(x.grad, want.grad, rtol=1e-4, atol=1e-6)

    def test_without_a_cache_nothing_is_remembered(self):
        layer = MultiHeadAttention(12, 3, rng=1)
        first = layer(X, causal=True).data
        assert_close(layer(X, causal=True), first, rtol=0, atol=0)


class TestRotary:
    def test_queries_and_keys_are_turned_and_values_are_not(self):
        layer = MultiHeadAttention(12, 3, rotary=RotaryEmbedding(4), rng=1)
        q, k, v = layer.heads(X)
        out, _ = scaled_dot_product_attention(layer.rotary.rotate(q), layer.rotary.rotate(k), v)
        assert_close(layer(X), layer.out_proj(out.swapaxes(1, 2).reshape(2, 5, 12)).data, atol=1e-6)

    def test_it_adds_no_parameters(self):
        assert len(MultiHeadAttention(12, 3, rotary=RotaryEmbedding(4)).parameters()) == 4


class TestSettings:
    def test_its_parts(self):
        layer = MultiHeadAttention(12, 3)
        assert isinstance(layer, Module)
        assert [type(part) for part in layer.children()] == [Linear, Linear]
        shapes = {name: p.shape for name, p in layer.named_parameters()}
        assert shapes == {
            "in_proj.weight": (12, 36),
            "in_proj.bias": (36,),
            "out_proj.weight": (12, 12),
            "out_proj.bias": (12,),
        }

    def test_without_bias(self):
        layer = MultiHeadAttention(12, 3, bias=False)
        assert [name for name, _ in layer.named_parameters()] == ["in_proj.weight", "out_proj.weight"]
        assert layer(X).shape == (2, 5, 12)

    def test_a_seed_repeats_it(self):
        first, second = (MultiHeadAttention(12, 3, rng=5).state_dict() for _ in range(2))
        assert {k: v.tobytes() for k, v in first.items()} == {k: v.tobytes() for k, v in second.items()}

    def test_it_prints_its_settings(self):
        first = repr(MultiHeadAttention(12, 3, dropout=0.1)).splitlines()[1]
        assert first.strip() == "embed_dim=12, num_heads=3, dropout=0.1"

    @pytest.mark.parametrize(("E", "heads"), [(12, 5), (10, 4), (3, 4)])
    def test_a_width_that_heads_cannot_share(self, E, heads):
        with pytest.raises(ValueError, match=f"{E} is not divisible by {heads}"):
            MultiHeadAttention(E, heads)

    @pytest.mark.parametrize(("sizes", "named"), [((0, 1), "embed_dim"), ((4, 0), "num_heads"), ((4, -2), "num_heads")])
    def test_sizes_are_at_least_1(self, sizes, named):
        with pytest.raises(ValueError, match=f"MultiHeadAttention needs {named} of at least 1"):
            MultiHeadAttention(*sizes)

    @pytest.mark.parametrize("p", [-0.1, 1.5])
    def test_dropout_is_a_share(self, p):
        with pytest.raises(ValueError, match="needs a dropout 0 <= p <= 1"):
            MultiHeadAttention(12, 3, dropout=p)

    def test_nothing_is_drawn_for_a_layer_that_is_refused(self):
        manual_seed(0)
        want = randn(3).data
        manual_seed(0)
        with pytest.raises(ValueError, match="not divisible"):
            MultiHeadAttention(10, 4)
        assert_close(randn(3), want, rtol=0, atol=0)

    @pytest.mark.parametrize("shape", [(2, 5, 11), (12,), ()])
    def test_inputs_of_another_width_are_refused(self, shape):
        with pytest.raises(ValueError, match=r"MultiHeadAttention needs x \(\.\.\., T, 12\), got shape"):
            MultiHeadAttention(12, 3)(Tensor(np.ones(shape)))
