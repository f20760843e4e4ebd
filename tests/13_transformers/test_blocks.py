"""MLP and TransformerBlock: a stream, and layers that add to it."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import gelu
from tinytorch.core.autograd import gradcheck
from tinytorch.core.tensor import Tensor, cat, manual_seed, randn
from tinytorch.models.transformer import MLP, TransformerBlock

RNG = np.random.default_rng(0)


def doubled(layer):
    """The same layer in float64, its biases not 0."""
    for p in layer.parameters():
        p.data = p.data.astype(np.float64) + 0.1 * RNG.normal(size=p.shape)
    return layer


class TestMLP:
    def test_two_linear_layers_with_a_gelu_between(self):
        mlp, x = MLP(4, rng=0), randn(2, 3, 4, rng=1)
        hidden = gelu(Tensor(x.data @ mlp.fc1.weight.data + mlp.fc1.bias.data)).data
        assert_close(mlp(x), hidden @ mlp.fc2.weight.data + mlp.fc2.bias.data, atol=1e-6)

    @pytest.mark.parametrize(("hidden", "want"), [(None, 32), (5, 5), (8, 8)])
    def test_four_times_as_wide_inside_unless_said_otherwise(self, hidden, want):
        mlp = MLP(8, hidden)
        assert (mlp.fc1.weight.shape, mlp.fc2.weight.shape) == ((8, want), (want, 8))
        assert mlp.num_parameters() == 2 * 8 * want + want + 8

    def test_every_place_thinks_for_itself(self):
        mlp, x = MLP(4, rng=0), randn(2, 5, 4, rng=1)
        assert_close(mlp(x[:, 3]), mlp(x).data[:, 3], atol=1e-6)

    @pytest.mark.parametrize(
        ("arguments", "name"), [((0,), "embed_dim"), ((4, 0), "hidden_dim"), ((4, -1), "hidden_dim")]
    )
    def test_widths_that_are_none(self, arguments, name):
        with pytest.raises(ValueError, match=f"MLP needs {name} of at least 1"):
            MLP(*arguments)

    def test_the_same_seed_draws_the_same_weights(self):
        x = randn(3, 4)
        assert_close(MLP(4, rng=5)(x), MLP(4, rng=5)(x).data, rtol=0, atol=0)


class TestBlock:
    @pytest.mark.parametrize("causal", [False, True])
    def test_norm_then_layer_then_sum(self, causal):
        block, x = TransformerBlock(8, 2, rng=0), randn(2, 5, 8, rng=1)
        middle = x.data + block.attention(block.norm1(x), causal=causal).data
        want = middle + block.mlp(block.norm2(Tensor(middle))).data
        assert_close(block(x, causal=causal), want, atol=1e-6)

    def test_a_block_whose_layers_answer_nothing_passes_the_stream_on_bit_for_bit(self):
        block, x = TransformerBlock(8, 2, rng=0), randn(2, 5, 8, rng=1)
        for linear in (block.attention.out_proj, block.mlp.fc2):
            linear.weight.data, linear.bias.data = linear.weight.data * 0, linear.bias.data * 0
        assert_close(block(x), x.data, rtol=0, atol=0)

    def test_the_gradient_of_such_a_block_passes_through_too(self):
        block, x = TransformerBlock(8, 2, rng=0), randn(2, 5, 8, rng=1, requires_grad=True)
        for linear in (block.attention.out_proj, block.mlp.fc2):
            linear.weight.data = linear.weight.data * 0
        incoming = RNG.normal(size=(2, 5, 8)).astype(np.float32)
        block(x).backward(incoming)
        assert_close(x.grad, incoming, atol=1e-6)

    def test_the_stream_itself_is_not_normalised(self):
        block, x = doubled(TransformerBlock(8, 2, rng=0)), Tensor(RNG.normal(size=(1, 3, 8)), dtype=np.float64)
        small, large = (block(x * factor).data - x.data * factor for factor in (1e5, 1e7))
        assert_close(large, small, rtol=1e-3, atol=1e-4)
        assert np.abs(large).max() > 0.1

    @pytest.mark.parametrize("ratio", [1, 2, 4, 1.5])
    def test_parameters_in_closed_form(self, ratio):
        E = 8
        hidden = int(ratio * E)
        count = 2 * 2 * E + (4 * E * E + 4 * E) + (2 * E * hidden + hidden + E)
        assert TransformerBlock(E, 2, mlp_ratio=ratio).num_parameters() == count

    def test_four_times_the_width_makes_12_squares(self):
        assert TransformerBlock(16, 2).num_parameters() == 12 * 16 * 16 + 13 * 16

    def test_names_of_the_parameters(self):
        names = [name for name, _ in TransformerBlock(4, 1).named_parameters()]
        assert names == [
            "norm1.weight",
            "norm1.bias",
            "attention.in_proj.weight",
            "attention.in_proj.bias",
            "attention.out_proj.weight",
            "attention.out_proj.bias",
            "norm2.weight",
            "norm2.bias",
            "mlp.fc1.weight",
            "mlp.fc1.bias",
            "mlp.fc2.weight",
            "mlp.fc2.bias",
        ]

    @pytest.mark.parametrize("options", [{}, {"causal": True}, {"mask": np.tri(3, dtype=bool)}])
    def test_finite_differences(self, options):
        block = doubled(TransformerBlock(4, 2, rng=0))
        assert gradcheck(lambda x: block(x, **options), RNG.normal(size=(2, 3, 4)), rtol=1e-6)

    def test_finite_differences_of_every_parameter(self):
        block, x = (
            doubled(TransformerBlock(4, 2, mlp_ratio=1, rng=0)),
            Tensor(RNG.normal(size=(1, 3, 4)), dtype=np.float64),
        )
        named = block.named_parameters()

        def f(*parameters):
            for (name, _), p in zip(named, parameters):
                *path, last = name.split(".")
                owner = block
                for part in path:
                    owner = getattr(owner, part)
                setattr(owner, last, p)
            return block(x, causal=True)

        assert gradcheck(f, [p.data for _, p in named], rtol=1e-6)

    def test_a_mask_reaches_attention(self):
        block, x = TransformerBlock(8, 2, rng=0), randn(2, 4, 8, rng=1)
        assert_close(block(x, mask=np.tri(4, dtype=bool)), block(x, causal=True).data, atol=1e-6)
        assert np.abs(block(x).data - block(x, causal=True).data).max() > 1e-3

    def test_a_cache_reaches_attention(self):
        class Cache:
            k = v = None

            def append(self, k, v):
                self.k = k if self.k is None else cat([self.k, k], axis=-2)
                self.v = v if self.v is None else cat([self.v, v], axis=-2)
                return self.k, self.v

        block, x, cache = TransformerBlock(8, 2, rng=0), randn(2, 6, 8, rng=1), Cache()
        parts = [block(x[:, i : i + 2], causal=True, cache=cache).data for i in (0, 2, 4)]
        assert_close(np.concatenate(parts, axis=1), block(x, causal=True).data, atol=1e-6)

    def test_both_answers_are_dropped_and_the_stream_is_not(self):
        block, x = TransformerBlock(8, 2, dropout=1.0, rng=0), randn(2, 5, 8, rng=1)
        assert_close(block(x), x.data, rtol=0, atol=0)
        assert np.abs(block.eval()(x).data - x.data).max() > 0.01

    def test_dropout_is_for_training(self):
        block, plain = (TransformerBlock(8, 2, dropout=p, rng=0) for p in (0.5, 0.0))
        x = randn(2, 5, 8, rng=1)
        assert_close(block.eval()(x), plain(x).data, rtol=0, atol=0)
        manual_seed(0)
        first, second = block.train()(x).data, block(x).data
        assert np.abs(first - second).max() > 0.01

    def test_dropout_reaches_the_weights_of_attention(self):
        assert TransformerBlock(8, 2, dropout=0.25).attention.dropout == 0.25

    def test_heads_that_do_not_divide_the_width(self):
        with pytest.raises(ValueError, match="10 is not divisible by 4"):
            TransformerBlock(10, 4)

    def test_a_width_that_does_not_fit(self):
        with pytest.raises(ValueError, match=r"layer_norm of width 8 needs inputs \(\.\.\., 8\), got \(2, 5, 6\)"):
            TransformerBlock(8, 2)(randn(2, 5, 6))
