"""Module 12 with what came before it and what comes next.

Vectors with places (11) become queries, keys and values (03), every query takes from the values whose keys fit, one
rule sends the gradients back (05), and what comes out has the shape that came in, so that blocks (13) can be stacked.
"""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import softmax
from tinytorch.core.attention import (
    AttentionBackward,
    MultiHeadAttention,
    causal_mask,
    scaled_dot_product_attention,
)
from tinytorch.core.autograd import backward, checkpoint, gradcheck, no_grad
from tinytorch.core.layers import Linear, Module
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import Tensor, cat, manual_seed, randint, randn, where
from tinytorch.text.embeddings import EmbeddingLayer, RotaryEmbedding

INF = math.inf


def attend(*args, **options):
    return scaled_dot_product_attention(*args, **options)[0]


class ListCache:
    """Keys and values of the places before, the simplest way."""

    def __init__(self):
        self.k = self.v = None

    def append(self, k, v):
        self.k = k if self.k is None else cat([self.k, k], axis=-2)
        self.v = v if self.v is None else cat([self.v, v], axis=-2)
        return self.k, self.v

    def __len__(self):
        return 0 if self.k is None else self.k.shape[-2]


class TestPriorStackStillWorking:
    def test_softmax_shares_add_up_to_1(self):
        assert_close(softmax(randn(3, 5, rng=0)).sum(axis=-1), np.ones(3, np.float32))

    def test_matrices_multiply_batch_by_batch(self):
        a, b = randn(2, 3, 4, 5, rng=0), randn(2, 3, 5, 4, rng=1)
        assert_close(a @ b, np.einsum("nhij,nhjk->nhik", a.data, b.data), atol=1e-5)

    def test_a_linear_layer_maps_the_last_axis(self):
        assert Linear(4, 12)(randn(2, 5, 4)).shape == (2, 5, 12)

    def test_the_gradient_of_a_product(self):
        a, b = Tensor([[1.0, 2.0]], requires_grad=True), Tensor([[3.0], [4.0]], requires_grad=True)
        (a @ b).backward(np.array([[2]], np.float32))
        assert_close(a.grad, np.array([[6, 8]], np.float32))
        assert_close(b.grad, np.array([[2], [4]], np.float32))

    def test_adam_steps_by_the_learning_rate(self):
        w = Tensor([1.0], requires_grad=True)
        w.grad = np.ones(1, np.float32)
        Adam([w], lr=0.1).step()
        assert_close(w, np.array([0.9], np.float32))

    def test_embeddings_know_their_place(self):
        out = EmbeddingLayer(5, 8, 4, rng=0)(Tensor([[3, 3, 3]]))
        assert out.shape == (1, 3, 8)
        assert len(np.unique(out.data[0], axis=0)) == 3


class TestModule12AttentionCore:
    def test_a_lookup_by_hand(self):
        q = Tensor([[1.0, 0.0]])
        k = Tensor([[1.0, 0.0], [0.0, 1.0]])
        v = Tensor([[10.0], [20.0]])
        share = math.exp(1 / math.sqrt(2))
        share = share / (share + 1)
        out, weights = scaled_dot_product_attention(q, k, v)
        assert_close(weights, np.array([[share, 1 - share]], np.float32))
        assert_close(out, np.array([[10 * share + 20 * (1 - share)]], np.float32))

    def test_equal_keys_share_equally(self):
        out, weights = scaled_dot_product_attention(
            randn(3, 4), Tensor(np.ones((5, 4))), Tensor(np.arange(5.0)[:, None])
        )
        assert_close(weights, np.full((3, 5), 0.2, np.float32))
        assert_close(out, np.full((3, 1), 2, np.float32))

    def test_a_key_that_fits_far_better_is_a_lookup(self):
        keys, values = 100 * np.eye(4), np.arange(8.0).reshape(4, 2)
        out = attend(Tensor(np.eye(4)[[2, 0]]), Tensor(keys), Tensor(values))
        assert_close(out, values[[2, 0]].astype(np.float32))

    def test_who_may_look_at_whom(self):
        assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]

    def test_nobody_looks_ahead(self):
        v = Tensor(np.array([[1.0], [3.0], [8.0]]))
        out = attend(Tensor(np.zeros((3, 2))), Tensor(np.zeros((3, 2))), v, causal=True)
        assert_close(out, np.array([[1], [2], [4]], np.float32))

    def test_true_means_may_look(self):
        v = Tensor(np.array([[1.0], [3.0], [8.0]]))
        z = Tensor(np.zeros((1, 2)))
        out = attend(z, Tensor(np.zeros((3, 2))), v, mask=[[True, False, True]])
        assert_close(out, np.array([[4.5]], np.float32))

    def test_a_float_mask_is_added_to_the_scores(self):
        z = np.zeros((1, 2))
        _, weights = scaled_dot_product_attention(z, np.zeros((3, 2)), np.ones((3, 1)), mask=[[0.0, math.log(2), -INF]])
        assert_close(weights, np.array([[1 / 3, 2 / 3, 0]], np.float32))

    def test_who_may_look_nowhere_gets_zeros(self):
        mask = np.array([[True, True], [False, False]])
        out, weights = scaled_dot_product_attention(randn(2, 4), randn(2, 4), randn(2, 3), mask=mask)
        assert_close(out.data[1], np.zeros(3, np.float32), rtol=0, atol=0)
        assert_close(weights.data[1], np.zeros(2, np.float32), rtol=0, atol=0)

    @pytest.mark.parametrize("heads", [1, 2, 4, 8])
    def test_every_head_attends_on_its_share_of_the_width(self, heads):
        layer, x = MultiHeadAttention(8, heads, rng=0), randn(2, 5, 8, rng=1)
        qkv = layer.in_proj(x).data
        D = 8 // heads
        parts = []
        for h in range(heads):
            q, k, v = (qkv[..., i * 8 + h * D : i * 8 + (h + 1) * D] for i in range(3))
            parts.append(attend(Tensor(q), Tensor(k), Tensor(v)).data)
        want = layer.out_proj(Tensor(np.concatenate(parts, axis=-1)))
        assert_close(layer(x), want.data, atol=1e-6)

    def test_a_width_that_heads_cannot_share_is_refused(self):
        with pytest.raises(ValueError, match="10 is not divisible by 4"):
            MultiHeadAttention(10, 4)


class TestBackwardIntegration:
    """With the engine and the rules of module 05."""

    def test_attention_is_one_tracked_operation(self):
        q = randn(3, 4, requires_grad=True)
        out, weights = scaled_dot_product_attention(q, q, q)
        assert type(out._grad_fn) is AttentionBackward
        assert [x is q for x in out._grad_fn.inputs] == [True] * 3
        assert (weights.requires_grad, weights._grad_fn) == (False, None)

    def test_it_computes_what_separate_operations_compute_and_so_does_its_rule(self):
        grads = []
        for fused in (True, False):
            q, k, v = (Tensor(randn(2, 3, 6, 4, rng=i).data, requires_grad=True) for i in range(3))
            if fused:
                out = attend(q, k, v, causal=True)
            else:
                scores = where(causal_mask(6), q @ k.swapaxes(-1, -2) / 2, -INF)
                out = softmax(scores) @ v
            (out * randn(2, 3, 6, 4, rng=3)).sum().backward()
            grads.append([out.data, q.grad, k.grad, v.grad])
        for got, want in zip(*grads):
            assert_close(got, want, rtol=1e-4, atol=1e-5)

    def test_gradients_agree_with_finite_differences(self):
        rng = np.random.default_rng(0)
        arrays = rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 2))
        assert gradcheck(lambda q, k, v: attend(q, k, v), arrays, rtol=1e-6)
        assert gradcheck(lambda q, k, v: attend(q, k, v, causal=True), arrays, rtol=1e-6)

    def test_nobody_ahead_receives_a_gradient(self):
        x = randn(1, 6, 8, rng=0, requires_grad=True)
        MultiHeadAttention(8, 2, rng=1)(x, causal=True)[:, 2].sum().backward()
        moved = np.abs(x.grad[0]).max(axis=1) > 0
        assert moved.tolist() == [True, True, True, False, False, False]

    def test_who_may_look_nowhere_passes_no_gradient(self):
        q, k, v = (randn(3, 4, rng=i, requires_grad=True) for i in range(3))
        mask = np.array([[True] * 3, [False] * 3, [True] * 3])
        attend(q, k, v, mask=mask).sum().backward()
        assert not q.grad[1].any()
        assert np.isfinite(np.concatenate([q.grad, k.grad, v.grad])).all()
        assert np.abs(q.grad[0]).max() > 0

    def test_every_parameter_receives_a_gradient(self):
        layer = MultiHeadAttention(8, 2, rng=0)
        (layer(randn(2, 5, 8, rng=1)) ** 2).sum().backward()
        assert [p.grad.shape for p in layer.parameters()] == [(8, 24), (24,), (8, 8), (8,)]
        parts = np.split(layer.in_proj.weight.grad, 3, axis=1)
        assert all(np.abs(part).max() > 1e-4 for part in parts)

    def test_a_checkpointed_layer_gives_the_same_gradients(self):
        grads = []
        for run in (lambda f, x: f(x), checkpoint):
            manual_seed(5)
            layer = MultiHeadAttention(8, 2, dropout=0.3, rng=0)
            x = randn(2, 5, 8, rng=1, requires_grad=True)
            backward(run(layer, x).sum())
            grads.append([x.grad, *(p.grad for p in layer.parameters())])
        for got, want in zip(*grads):
            assert_close(got, want)

    def test_nothing_is_tracked_under_no_grad(self):
        with no_grad():
            out = MultiHeadAttention(8, 2)(randn(2, 5, 8))
        assert out.requires_grad is False


class TestForwardIntegration:
    """What transformer blocks (13) and caches (17) rely on."""

    @pytest.mark.parametrize("T", [1, 10, 50, 100, 256])
    def test_the_shape_that_goes_in_comes_out(self, T):
        out = MultiHeadAttention(16, 4)(randn(2, T, 16), causal=True)
        assert (out.shape, out.dtype, out.requires_grad) == ((2, T, 16), np.float32, True)

    def test_layers_can_be_stacked_with_a_sum_around_each(self):
        x = randn(2, 7, 16, rng=0)
        layers = [MultiHeadAttention(16, 4, rng=i) for i in range(4)]
        out = x
        for layer in layers:
            out = out + layer(out, causal=True)
        out.sum().backward()
        assert out.shape == x.shape
        assert all(np.abs(p.grad).max() > 0 for layer in layers for p in (layer.in_proj.weight, layer.out_proj.weight))

    def test_a_cache_receives_the_new_keys_and_values_of_every_head(self):
        received = []

        class Notes:
            def append(self, k, v):
                received.append((k.shape, v.shape))
                return k, v

        MultiHeadAttention(16, 4)(randn(2, 3, 16), cache=Notes())
        assert received == [((2, 4, 3, 4), (2, 4, 3, 4))]

    @pytest.mark.parametrize("rotary", [None, RotaryEmbedding(4)])
    @pytest.mark.parametrize("cuts", [[1] * 9, [9], [4, 5], [6, 1, 1, 1]])
    def test_reading_with_a_cache_is_reading_at_once(self, cuts, rotary):
        layer, x = MultiHeadAttention(16, 4, rotary=rotary, rng=0), randn(2, 9, 16, rng=1)
        cache, parts, start = ListCache(), [], 0
        for n in cuts:
            parts.append(layer(x[:, start : start + n], causal=True, cache=cache).data)
            start += n
        assert len(cache) == 9
        assert_close(np.concatenate(parts, axis=1), layer(x, causal=True).data, atol=1e-6)

    def test_what_is_read_later_does_not_change_what_was_said_before(self):
        layer, x = MultiHeadAttention(16, 4, rng=0), randn(2, 9, 16, rng=1)
        assert_close(layer(x[:, :5], causal=True), layer(x, causal=True).data[:, :5], atol=1e-6)


class Reverser(Module):
    """Reads a sequence and names its tokens from the last to the first: impossible without looking around."""

    def __init__(self, V, T, E, heads, attention=True):
        self.embed = EmbeddingLayer(V, E, T, rng=0)
        self.attention = MultiHeadAttention(E, heads, rng=1) if attention else None
        self.out = Linear(E, V, rng=2)

    def forward(self, tokens):
        x = self.embed(tokens)
        return self.out(x if self.attention is None else self.attention(x))


class TestCrossModuleIntegration:
    def test_attention_learns_to_reverse_and_a_model_without_cannot(self):
        tokens = randint(0, 8, (64, 5), rng=0)
        wanted = Tensor(tokens.data[:, ::-1].copy())
        right = {}
        for attention in (True, False):
            model = Reverser(8, 5, 32, 2, attention)
            optimizer = Adam(model.parameters(), lr=0.02)
            for _ in range(80):
                optimizer.zero_grad()
                cross_entropy(model(tokens), wanted).backward()
                optimizer.step()
            right[attention] = (model(tokens).argmax(axis=-1).data == wanted.data).mean()
        assert right[True] > 0.95
        assert right[False] < 0.5

    def test_from_tokens_to_a_loss_gradients_reach_every_table(self):
        model = Reverser(8, 5, 16, 4)
        cross_entropy(model(randint(0, 8, (4, 5), rng=0)), randint(0, 8, (4, 5), rng=1)).backward()
        for name, parameter in model.named_parameters():
            assert np.abs(parameter.grad).max() > 1e-6, name

    def test_optimizers_find_four_parameters(self):
        layer = MultiHeadAttention(8, 2, rng=0)
        optimizer = SGD(layer, lr=0.1)
        names = ["in_proj.weight", "in_proj.bias", "out_proj.weight", "out_proj.bias"]
        assert [name for name, _ in optimizer.named_parameters] == names
        assert layer.num_parameters() == 8 * 24 + 24 + 8 * 8 + 8

    def test_the_parameters_go_through_a_state_dict(self):
        layers = [MultiHeadAttention(8, 2, rng=seed) for seed in (0, 1)]
        layers[1].load_state_dict(layers[0].state_dict())
        x = randn(2, 5, 8)
        assert_close(layers[1](x), layers[0](x).data, rtol=0, atol=0)

    def test_padding_at_the_end_of_a_text_changes_nothing(self):
        embed, layer = EmbeddingLayer(10, 8, 6, rng=0), MultiHeadAttention(8, 2, rng=1)
        short = layer(embed(Tensor([[4, 5, 6]])))
        padded = Tensor([[4, 5, 6, 0, 0, 0]])
        out = layer(embed(padded), mask=(padded != 0).reshape(1, 1, 1, 6))
        assert_close(out.data[:, :3], short.data, atol=1e-6)

    def test_without_places_the_order_of_the_others_does_not_matter(self):
        layer, x = MultiHeadAttention(8, 2, rng=0), randn(1, 6, 8, rng=1)
        order = np.array([3, 1, 5, 0, 2, 4])
        assert_close(layer(x[:, order]), layer(x).data[:, order], atol=1e-6)

    def test_with_turned_queries_and_keys_only_distances_matter(self):
        layer = MultiHeadAttention(8, 2, rotary=RotaryEmbedding(4), rng=0)
        x = randn(1, 6, 8, rng=1)
        q, k, _ = layer.heads(x)
        scores = [(a @ b.swapaxes(-1, -2)).data for a, b in (layer.rotary(q, k, offset) for offset in (0, 50))]
        assert_close(scores[1], scores[0], rtol=1e-3, atol=1e-4)
        order = np.arange(6)[::-1].copy()
        assert np.abs(layer(x[:, order]).data - layer(x).data[:, order]).max() > 1e-3


class TestRegressionPrevention:
    def test_large_scores_are_finite(self):
        q = Tensor(1e4 * np.eye(4), requires_grad=True)
        out = attend(q, q, Tensor(np.arange(4.0)[:, None]))
        assert_close(out, np.arange(4, dtype=np.float32)[:, None])
        out.sum().backward()
        assert np.isfinite(q.grad).all()

    def test_an_added_minus_1e9_is_as_good_as_a_wall(self):
        x = randn(2, 5, 8, rng=0)
        mask = np.where(causal_mask(5).data, 0.0, -1e9)
        layer = MultiHeadAttention(8, 2, rng=1)
        assert_close(layer(x, mask=mask), layer(x, causal=True).data)

    @pytest.mark.parametrize("mask", [np.tri(4, dtype=np.int64), [[1, 0, 1, 0]]])
    def test_ones_and_zeros_are_no_mask(self, mask):
        with pytest.raises(TypeError, match="a mask needs booleans .* or floats .* got int64"):
            attend(randn(4, 2), randn(4, 2), randn(4, 2), mask=mask)

    def test_the_scores_of_wide_heads_do_not_grow(self):
        spread = []
        for D in (4, 64, 1024):
            _, weights = scaled_dot_product_attention(randn(200, D, rng=0), randn(50, D, rng=1), randn(50, 1, rng=2))
            spread.append(np.log(weights.data).std(axis=1).mean())
        assert_close(np.array(spread), np.ones(3), atol=0.15)

    def test_the_weights_can_be_read_and_not_written(self):
        _, weights = scaled_dot_product_attention(randn(3, 4), randn(3, 4), randn(3, 4))
        with pytest.raises(ValueError, match="read-only"):
            weights.data[0] = 0
        with pytest.raises(ValueError, match="read-only"):
            weights[0] = 0.0

    def test_inputs_are_never_changed(self):
        q, k, v, mask = randn(3, 4, rng=0), randn(5, 4, rng=1), randn(5, 2, rng=2), randn(3, 5, rng=3)
        before = [x.data.copy() for x in (q, k, v, mask)]
        attend(q, k, v, mask=mask)
        for x, old in zip((q, k, v, mask), before):
            assert_close(x, old, rtol=0, atol=0)

    def test_empty_sequences_and_batches(self):
        layer = MultiHeadAttention(8, 2)
        for shape in [(0, 5, 8), (2, 0, 8), (0, 8)]:
            for causal in (False, True):
                out = layer(Tensor(np.ones(shape)), causal=causal)
                out.sum().backward()
                assert out.shape == shape

    def test_one_place_alone_takes_its_own_value(self):
        v = randn(2, 1, 4, rng=0)
        assert_close(attend(randn(2, 1, 4), randn(2, 1, 4), v, causal=True), v.data)
