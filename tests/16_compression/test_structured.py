"""Units that are really gone, and a model that computes what it would if nobody heard them."""

import copy

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import GELU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from tinytorch.core.attention import MultiHeadAttention
from tinytorch.core.layers import Dropout, Flatten, Identity, Linear, Module, Sequential
from tinytorch.core.spatial import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    MaxPool2d,
)
from tinytorch.core.tensor import Tensor, randint, randn
from tinytorch.models.transformer import GPT, MLP, LayerNorm, TransformerBlock
from tinytorch.optimization.compression import PrunedAttention, measure_sparsity, structured_prune
from tinytorch.text.embeddings import RotaryEmbedding


def shaken(model, seed=0):
    """The model in eval mode with every parameter and running statistic drawn at random, so that none is 0 or 1."""
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data = rng.normal(0.1, 0.5, p.shape).astype(np.float32)
    for name, array in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            array[...] = rng.uniform(0.5, 1.5, array.shape)
    return model.eval()


def gone(old, new, axis=0):
    """The numbers of the slices of the array `old` that `new` lacks."""
    old, new = (np.moveaxis(a, axis, 0) for a in (old, new))
    return [i for i, slice_ in enumerate(old) if not any(np.array_equal(slice_, kept) for kept in new)]


CHAINS = {
    "two linears": lambda: [Linear(8, 6), ReLU(), Linear(6, 3)],
    "no bend": lambda: [Linear(8, 6), Linear(6, 3)],
    "no bias": lambda: [Linear(8, 6, bias=False), ReLU(), Linear(6, 3, bias=False)],
    "three linears": lambda: [Linear(8, 6), Tanh(), Linear(6, 10), Dropout(), GELU(), Linear(10, 3)],
    "batch norm": lambda: [Linear(8, 6), BatchNorm1d(6), ReLU(), Linear(6, 3)],
    "a sequential inside": lambda: [Sequential(Linear(8, 6), SiLU()), Identity(), Sequential(Linear(6, 3))],
}
IMAGES = {
    "conv conv": lambda: [Conv2d(2, 6, 3), ReLU(), Conv2d(6, 3, 3)],
    "conv norm conv": lambda: [Conv2d(2, 6, 3, padding=1), BatchNorm2d(6), ReLU(), Conv2d(6, 3, 3, stride=2)],
    "max pool": lambda: [Conv2d(2, 6, 3, bias=False), ReLU(), MaxPool2d(2), Conv2d(6, 3, 2)],
    "flatten": lambda: [Conv2d(2, 6, 3), ReLU(), Flatten(), Linear(6 * 36, 3)],
    "pool and flatten": lambda: [Conv2d(2, 6, 3), GELU(), AvgPool2d(2), Flatten(), Linear(6 * 9, 3)],
    "mean of each channel": lambda: [Conv2d(2, 6, 3), ReLU(), AdaptiveAvgPool2d(1), Flatten(), Linear(6, 3)],
    "norm after flatten": lambda: [Conv2d(2, 6, 3), Flatten(), BatchNorm1d(6 * 36), ReLU(), Linear(6 * 36, 3)],
    "a whole network": lambda: [
        *(Conv2d(2, 6, 3, padding=1), BatchNorm2d(6), ReLU(), MaxPool2d(2)),
        *(Conv2d(6, 4, 3), ReLU(), Flatten(), Linear(16, 10), Dropout(), Tanh(), Linear(10, 3)),
    ],
}


def chain_and_input(name):
    layers = {**CHAINS, **IMAGES}[name]()
    x = randn(5, 8, rng=1) if name in CHAINS else randn(4, 2, 8, 8, rng=1)
    return shaken(Sequential(*layers)), x


def leaves(model):
    return [layer for layer in model.modules() if not isinstance(layer, Sequential)]


def deafened(model, pruned, own=False):
    """A copy of the chain in which the units that `pruned` lacks are heard by nobody; with own=True, are zero."""
    model = copy.deepcopy(model)
    old, new = leaves(model), leaves(pruned)
    lost, count = [], 1
    for a, b in zip(old, new):
        if isinstance(a, (Linear, Conv2d)):
            rows = a.weight.data if isinstance(a, Linear) else a.weight.data.swapaxes(0, 1)
            each = len(rows) // count if lost else 1
            for u in lost:
                if not own:
                    rows[u * each : (u + 1) * each] = 0
            columns, theirs = (w.weight.data.T if isinstance(w, Linear) else w.weight.data for w in (a, b))
            stay = [i for i in range(len(rows)) if i // each not in lost]  # of what a unit is made of
            lost, count = gone(columns[:, stay], theirs), len(columns)
            if own:
                columns[lost] = 0
                if a.bias is not None:
                    a.bias.data[lost] = 0
        elif own and isinstance(a, (BatchNorm1d, BatchNorm2d)):
            each = len(a.weight.data) // count
            for u in lost:
                a.weight.data[u * each : (u + 1) * each] = 0
                a.bias.data[u * each : (u + 1) * each] = 0
    return model


@pytest.mark.parametrize("name", [*CHAINS, *IMAGES])
class TestChains:
    @pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
    def test_it_computes_what_the_original_does_when_nobody_hears_those_units(self, name, ratio):
        model, x = chain_and_input(name)
        pruned = structured_prune(model, ratio)
        assert_close(pruned(x), deafened(model, pruned)(x).data, rtol=1e-4, atol=1e-4)
        assert np.abs(pruned(x).data - model(x).data).max() > 1e-3

    def test_it_computes_what_the_original_does_with_those_units_zeroed(self, name):
        model, x = chain_and_input(name)
        pruned = structured_prune(model, 0.5)
        assert_close(pruned(x), deafened(model, pruned, own=True)(x).data, rtol=1e-4, atol=1e-4)

    def test_every_layer_but_the_ends_is_half_as_wide(self, name):
        model, _ = chain_and_input(name)
        pruned = structured_prune(model, 0.5)
        made = [layer for layer in leaves(pruned) if isinstance(layer, (Linear, Conv2d))]
        before = [layer for layer in leaves(model) if isinstance(layer, (Linear, Conv2d))]
        axes = [1 if isinstance(layer, Linear) else 0 for layer in before]
        widths = [layer.weight.shape[axis] for layer, axis in zip(before, axes)]
        assert [layer.weight.shape[axis] for layer, axis in zip(made, axes)] == [*(w // 2 for w in widths[:-1]), 3]
        assert pruned.num_parameters() < model.num_parameters()

    def test_settings_say_what_the_arrays_are(self, name):
        for layer in leaves(structured_prune(chain_and_input(name)[0], 0.5)):
            if isinstance(layer, Linear):
                assert (layer.in_features, layer.out_features) == layer.weight.shape
            elif isinstance(layer, Conv2d):
                assert (layer.out_channels, layer.in_channels) == layer.weight.shape[:2]
            elif isinstance(layer, (BatchNorm1d, BatchNorm2d)):
                arrays = layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var
                assert {a.shape for a in arrays} == {(layer.num_features,)}

    def test_the_original_does_not_change(self, name):
        model, x = chain_and_input(name)
        before, state = model(x).data, model.state_dict()
        pruned = structured_prune(model, 0.5)
        for p in pruned.parameters():
            p.data += 1
        assert_close(model(x), before, rtol=0, atol=0)
        assert all((model.state_dict()[key] == array).all() for key, array in state.items())

    def test_nothing_to_remove_is_the_same_model(self, name):
        model, x = chain_and_input(name)
        assert_close(structured_prune(model, 0.0)(x), model(x).data, rtol=0, atol=0)

    def test_it_trains(self, name):
        model, x = chain_and_input(name)
        pruned = structured_prune(model, 0.5).train()
        pruned(x).sum().backward()
        assert all(p.grad.shape == p.shape for p in pruned.parameters())


class TestWhichUnits:
    def small(self, first, second):
        model = Sequential(Linear(1, 4, bias=False), ReLU(), Linear(4, 1, bias=False))
        model[0].weight.data = np.array([first], np.float32)
        model[2].weight.data = np.array(second, np.float32)[:, None]
        return model

    def test_units_that_are_hardly_driven_go(self):
        assert structured_prune(self.small([5, 0.1, 4, 0.2], [1, 1, 1, 1]), 0.5)[0].weight.tolist() == [[5, 4]]

    def test_units_that_are_hardly_heard_go(self):
        pruned = structured_prune(self.small([5, 4, 1, 2], [0.1, 0.1, 3, 3]), 0.5)
        assert pruned[0].weight.tolist() == [[1, 2]]
        assert pruned[2].weight.tolist() == [[3], [3]]

    def test_weights_of_opposite_sign_do_not_cancel(self):
        model = Sequential(Linear(2, 2, bias=False), ReLU(), Linear(2, 1, bias=False))
        model[0].weight.data = np.array([[3, 1], [-3, 1]], np.float32)
        model[2].weight.data = np.ones((2, 1), np.float32)
        assert structured_prune(model, 0.5)[0].weight.tolist() == [[3], [-3]]

    def test_scaling_a_unit_up_and_its_hearer_down_changes_nothing(self):
        a = structured_prune(self.small([3, 1, 2, 4], [1, 1, 1, 1]), 0.5)
        b = structured_prune(self.small([3, 100, 2, 4], [1, 0.01, 1, 1]), 0.5)
        assert a[0].weight.tolist() == b[0].weight.tolist() == [[3, 4]]

    def test_equals_stay_from_the_first(self):
        model = self.small([1, 1, 1, 1], [1, 1, 1, 1])
        model[2].weight.data += np.array([[0.0], [0.0], [1e-3], [0.0]], np.float32)
        assert_close(structured_prune(model, 0.5)[2].weight, np.array([[1], [1.001]], np.float32))

    def test_the_bias_drives_too(self):
        model = Sequential(Linear(1, 2), ReLU(), Linear(2, 1))
        model[0].weight.data, model[0].bias.data = np.array([[1, 2]], np.float32), np.array([9, 0], np.float32)
        model[2].weight.data = np.ones((2, 1), np.float32)
        assert structured_prune(model, 0.5)[0].weight.tolist() == [[1]]

    def test_behind_a_norm_the_norm_says_how_strong_a_channel_is(self):
        model = shaken(Sequential(Conv2d(1, 3, 1), BatchNorm2d(3), ReLU(), Conv2d(3, 1, 1)))
        model[0].weight.data = np.array([100, 1, 1], np.float32).reshape(3, 1, 1, 1)
        model[1].weight.data, model[1].bias.data = np.array([0.1, 2, 3], np.float32), np.zeros(3, np.float32)
        model[3].weight.data = np.ones((1, 3, 1, 1), np.float32)
        assert structured_prune(model, 0.4)[1].weight.tolist() == [2, 3]

    @pytest.mark.parametrize(("ratio", "left"), [(0.0, 100), (0.29, 71), (0.5, 50), (0.995, 1), (0.009, 100)])
    def test_the_share_is_rounded_down(self, ratio, left):
        pruned = structured_prune(Sequential(Linear(2, 100, rng=0), ReLU(), Linear(100, 2, rng=1)), ratio)
        assert pruned[0].out_features == left

    def test_one_unit_is_always_left(self):
        model = Sequential(Linear(2, 3, rng=0), ReLU(), Linear(3, 2, rng=1))
        assert structured_prune(model, 0.99)[0].out_features == 1

    def test_kept_units_keep_their_order(self):
        model = Sequential(Linear(4, 9, rng=0), ReLU(), Linear(9, 2, rng=1))
        places = [model[0].weight.data[0].tolist().index(v) for v in structured_prune(model, 0.5)[0].weight.data[0]]
        assert places == sorted(places)
        assert len(places) == 5

    def test_no_layer_is_left_with_zeros(self):
        assert measure_sparsity(structured_prune(chain_and_input("a whole network")[0], 0.5)) == 0

    def test_keep_leaves_units_alone(self):
        model = Sequential(Linear(4, 8, rng=0), ReLU(), Linear(8, 8, rng=1), ReLU(), Linear(8, 2, rng=2))
        pruned = structured_prune(model, 0.5, keep=["0"])
        assert [layer.weight.shape for layer in pruned if isinstance(layer, Linear)] == [(4, 8), (8, 4), (4, 2)]

    def test_one_dimensional_convolutions(self):
        model = shaken(Sequential(Conv1d(2, 6, 3), ReLU(), Conv1d(6, 4, 3), ReLU(), Flatten(), Linear(16, 2)))
        pruned, x = structured_prune(model, 0.5), randn(3, 2, 8, rng=0)
        assert [p.shape for p in pruned.parameters() if p.ndim > 1] == [(3, 2, 3), (2, 3, 3), (8, 2)]
        reference = copy.deepcopy(model)
        first = gone(model[0].weight.data, pruned[0].weight.data)
        reference[2].weight.data[:, first] = 0
        ours = np.delete(model[2].weight.data, first, axis=1)
        for u in gone(ours, pruned[2].weight.data):
            reference[5].weight.data[4 * u : 4 * u + 4] = 0
        assert_close(pruned(x), reference(x).data, rtol=1e-4, atol=1e-4)

    def test_places_of_a_sequence_take_turns_when_they_are_flattened(self):
        model = shaken(Sequential(Linear(3, 4), ReLU(), Flatten(), Linear(5 * 4, 2)))
        pruned, x = structured_prune(model, 0.5), randn(6, 5, 3, rng=0)
        lost = gone(model[0].weight.data, pruned[0].weight.data, axis=1)
        reference = copy.deepcopy(model)
        reference[3].weight.data.reshape(5, 4, 2)[:, lost] = 0
        assert_close(pruned(x), reference(x).data, rtol=1e-4, atol=1e-4)

    def test_a_unit_of_a_sigmoid_is_not_heard_rather_than_at_one_half(self):
        model = shaken(Sequential(Linear(8, 6), Sigmoid(), Linear(6, 3)))
        pruned, x = structured_prune(model, 0.5), randn(5, 8, rng=0)
        assert_close(pruned(x), deafened(model, pruned)(x).data, rtol=1e-4, atol=1e-5)


def lost_heads(old, new, D):
    rows, kept = (layer.out_proj.weight.data.reshape(-1, D, old.embed_dim) for layer in (old, new))
    return gone(rows, kept)


class TestTransformers:
    @pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
    @pytest.mark.parametrize("bias", [True, False])
    def test_attention_without_some_heads(self, ratio, bias):
        layer, x = shaken(MultiHeadAttention(16, 4, bias=bias)), randn(2, 5, 16, rng=0)
        pruned = structured_prune(layer, ratio)
        left = 4 - int(4 * ratio)
        assert [p.shape for p in pruned.parameters() if p.ndim == 2] == [(16, 12 * left), (4 * left, 16)]
        reference = copy.deepcopy(layer)
        for h in lost_heads(layer, pruned, 4):
            reference.out_proj.weight.data[4 * h : 4 * h + 4] = 0
        for options in ({}, {"causal": True}, {"mask": randn(2, 5, 5, rng=1).data > 0}):
            assert_close(pruned(x, **options), reference(x, **options).data, rtol=1e-4, atol=1e-4)

    def test_queries_keys_and_values_of_one_head_go_together(self):
        layer = shaken(MultiHeadAttention(8, 4))
        pruned = structured_prune(layer, 0.5)
        stay = [h for h in range(4) if h not in lost_heads(layer, pruned, 2)]
        want = layer.in_proj.weight.data.reshape(8, 3, 4, 2)[:, :, stay].reshape(8, -1)
        assert_close(pruned.in_proj.weight, want, rtol=0, atol=0)
        assert_close(pruned.in_proj.bias, layer.in_proj.bias.data.reshape(3, 4, 2)[:, stay].ravel(), rtol=0, atol=0)

    def test_the_head_that_says_least_goes(self):
        layer = shaken(MultiHeadAttention(8, 4))
        layer.out_proj.weight.data[4:6] *= 1e-3  # head 2 is hardly heard
        layer.in_proj.weight.data.reshape(8, 3, 4, 2)[:, :, 1] *= 1e-3  # head 1 is hardly driven
        layer.in_proj.bias.data.reshape(3, 4, 2)[:, 1] *= 1e-3
        assert lost_heads(layer, structured_prune(layer, 0.5), 2) == [1, 2]

    def test_rotary_embeddings_and_dropout_go_along(self):
        layer = shaken(MultiHeadAttention(16, 4, dropout=0.3, rotary=RotaryEmbedding(4)))
        pruned, x = structured_prune(layer, 0.5), randn(2, 5, 16, rng=0)
        reference = copy.deepcopy(layer)
        for h in lost_heads(layer, pruned, 4):
            reference.out_proj.weight.data[4 * h : 4 * h + 4] = 0
        assert_close(pruned(x, causal=True), reference(x, causal=True).data, rtol=1e-4, atol=1e-4)
        assert pruned.dropout == 0.3
        pruned.train()
        assert np.abs(pruned(x).data - pruned(x).data).max() > 1e-3

    def test_an_mlp_with_fewer_hidden_units(self):
        mlp, x = shaken(MLP(8)), randn(3, 8, rng=0)
        pruned = structured_prune(mlp, 0.5)
        assert [p.shape for p in pruned.parameters()] == [(8, 16), (16,), (16, 8), (8,)]
        reference = copy.deepcopy(mlp)
        reference.fc2.weight.data[gone(mlp.fc1.weight.data, pruned.fc1.weight.data, axis=1)] = 0
        assert_close(pruned(x), reference(x).data, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("ratio", [0.25, 0.5])
    def test_a_gpt_loses_heads_and_hidden_units_in_every_block(self, ratio):
        gpt = shaken(GPT(20, 16, 2, 4, 12))
        pruned, tokens = structured_prune(gpt, ratio), randint(0, 20, (2, 9), rng=0)
        reference = copy.deepcopy(gpt)
        for old, new, block in zip(gpt.blocks, pruned.blocks, reference.blocks):
            assert new.attention.num_heads == 4 - int(4 * ratio)
            assert new.mlp.fc1.out_features == 64 - int(64 * ratio)
            for h in lost_heads(old.attention, new.attention, 4):
                block.attention.out_proj.weight.data[4 * h : 4 * h + 4] = 0
            block.mlp.fc2.weight.data[gone(old.mlp.fc1.weight.data, new.mlp.fc1.weight.data, axis=1)] = 0
        assert_close(pruned(tokens), reference(tokens).data, rtol=1e-3, atol=1e-3)

    def test_a_pruned_gpt_writes_with_and_without_its_cache(self):
        pruned = structured_prune(shaken(GPT(20, 16, 2, 4, 12)), 0.5)
        assert pruned.generate([1, 2], 20, rng=0) == pruned.generate([1, 2], 20, rng=0, use_cache=False)

    def test_it_can_be_pruned_again(self):
        layer, x = shaken(MultiHeadAttention(16, 4)), randn(2, 5, 16, rng=0)
        twice = structured_prune(structured_prune(layer, 0.5), 0.5)
        assert (twice.num_heads, twice.head_dim, twice.out_proj.weight.shape) == (1, 4, (4, 16))
        assert_close(twice(x), structured_prune(layer, 0.75)(x).data, rtol=1e-4, atol=1e-5)

    def test_keep_names_layers_by_their_place(self):
        gpt = GPT(20, 16, 2, 4, 12)
        pruned = structured_prune(gpt, 0.5, keep=["blocks.0.attention", "blocks.1.mlp"])
        assert [type(block.attention) for block in pruned.blocks] == [MultiHeadAttention, PrunedAttention]
        assert [block.mlp.fc1.out_features for block in pruned.blocks] == [32, 64]

    def test_wrong_widths_are_named(self):
        with pytest.raises(ValueError, match=r"PrunedAttention needs x \(\.\.\., T, 16\), got shape \(2, 3, 8\)"):
            structured_prune(MultiHeadAttention(16, 4), 0.5)(randn(2, 3, 8))

    def test_it_prints_its_size(self):
        printed = repr(structured_prune(MultiHeadAttention(16, 4), 0.5))
        assert "PrunedAttention" in printed
        assert "num_heads=2" in printed
        assert "head_dim=4" in printed

    def test_a_block_in_a_chain_is_pruned_inside(self):
        model = shaken(Sequential(TransformerBlock(8, 2), LayerNorm(8), Linear(8, 3)))
        pruned = structured_prune(model, 0.5)
        assert pruned[0].attention.num_heads == 1
        assert pruned[2].weight.shape == (8, 3)
        assert pruned(randn(2, 4, 8)).shape == (2, 4, 3)


class Net(Module):
    def __init__(self):
        self.first = Linear(4, 8, rng=0)
        self.second = Linear(8, 2, rng=1)

    def forward(self, x):
        return self.second(self.first(x))


class Odd(Module):
    def forward(self, x):
        return x + x.mean(axis=-1, keepdims=True)


class Doubled(Linear):
    def forward(self, x):
        return 2 * super().forward(x)


class TestRefusals:
    @pytest.mark.parametrize("ratio", [1, 1.0, 1.5, -0.1, float("nan")])
    def test_a_ratio_that_leaves_nothing(self, ratio):
        with pytest.raises(ValueError, match="0 <= prune_ratio < 1"):
            structured_prune(Net(), ratio)

    @pytest.mark.parametrize("ratio", ["half", None, True])
    def test_a_ratio_that_is_no_number(self, ratio):
        with pytest.raises(TypeError, match="prune_ratio"):
            structured_prune(Net(), ratio)

    @pytest.mark.parametrize(
        ("layer", "named"),
        [
            (Softmax(), r"1 \(Softmax\)"),
            (LogSoftmax(), r"1 \(LogSoftmax\)"),
            (LayerNorm(8), r"1 \(LayerNorm\)"),
            (Odd(), r"1 \(Odd\)"),
            (Flatten(0), r"1 \(Flatten\)"),
            (TransformerBlock(8, 2), r"1 \(TransformerBlock\)"),
            (Doubled(8, 8), r"1 \(Doubled\)"),
            (lambda x: x, r"1 \(function\)"),
        ],
        ids=["softmax", "log softmax", "layer norm", "own", "flatten all", "block", "subclass", "function"],
    )
    def test_a_layer_it_does_not_know_between_two_it_does(self, layer, named):
        model = Sequential(Linear(4, 8), layer, Linear(8, 2))
        with pytest.raises(ValueError, match=rf"0 \(Linear\).*does not know how to adjust {named}.*keep=\['0'\]"):
            structured_prune(model, 0.5)

    def test_at_the_end_such_layers_do_no_harm(self):
        model = Sequential(Linear(4, 8, rng=0), ReLU(), Linear(8, 3, rng=1), Softmax())
        assert structured_prune(model, 0.5)[0].out_features == 4

    @pytest.mark.parametrize(
        ("layers", "named"),
        [
            ([Conv2d(2, 4, 3, groups=2), ReLU(), Conv2d(4, 2, 3)], r"0 \(Conv2d\)"),
            ([Conv2d(2, 4, 3), ReLU(), Conv2d(4, 4, 3, groups=2)], r"2 \(Conv2d\)"),
            ([ConvTranspose2d(2, 4, 2), ReLU(), Conv2d(4, 2, 3)], r"0 \(ConvTranspose2d\)"),
            ([Conv2d(2, 4, 3), ReLU(), ConvTranspose2d(4, 2, 2)], r"2 \(ConvTranspose2d\)"),
            ([Conv2d(2, 4, 3), ReLU(), Linear(4, 2)], r"2 \(Linear\)"),
            ([Linear(2, 4), ReLU(), Linear(5, 2)], r"2 \(Linear\)"),
            ([Linear(2, 4), BatchNorm1d(5), Linear(4, 2)], r"1 \(BatchNorm1d\)"),
            ([Linear(2, 4), MaxPool2d(2), Linear(4, 2)], r"1 \(MaxPool2d\)"),
        ],
    )
    def test_layers_that_do_not_fit_or_cannot_shrink(self, layers, named):
        with pytest.raises(ValueError, match=f"does not know how to adjust {named}"):
            structured_prune(Sequential(*layers), 0.5)

    def test_layers_whose_order_only_forward_knows(self):
        with pytest.raises(ValueError, match=r"what hears the units of first \(Linear\).*keep=\['first'\]"):
            structured_prune(Net(), 0.5)

    def test_a_model_of_one_layer(self):
        with pytest.raises(ValueError, match="found no units to remove in Linear"):
            structured_prune(Linear(4, 2), 0.5)

    def test_a_model_without_parameters(self):
        with pytest.raises(ValueError, match="Sequential has none"):
            structured_prune(Sequential(ReLU()), 0.5)
        with pytest.raises(TypeError, match="needs a model"):
            structured_prune("model", 0.5)

    def test_a_weight_used_in_two_places(self):
        model = Sequential(Linear(4, 4), ReLU(), Linear(4, 4))
        model[2].weight = model[0].weight
        with pytest.raises(ValueError, match=r"0 \(Linear\).*used in two places"):
            structured_prune(model, 0.5)

    def test_a_layer_used_in_two_places(self):
        layer = Linear(4, 4)
        with pytest.raises(ValueError, match="used in two places"):
            structured_prune(Sequential(layer, ReLU(), layer), 0.5)

    def test_a_sequential_used_twice_is_pruned_inside_and_kept_at_its_ends(self):
        inner = Sequential(Linear(4, 8, rng=0), ReLU(), Linear(8, 4, rng=1))
        pruned = structured_prune(Sequential(inner, ReLU(), inner), 0.5)
        assert pruned[0] is pruned[2]
        assert [p.shape for p in pruned.parameters() if p.ndim == 2] == [(4, 4), (4, 4)]

    def test_names_to_keep_that_are_none(self):
        model = Sequential(Linear(4, 8), ReLU(), Linear(8, 2))
        with pytest.raises(ValueError, match="no layer of this model: 'fc1'"):
            structured_prune(model, 0.5, keep=["fc1"])
        with pytest.raises(TypeError, match=r"write \['0'\]"):
            structured_prune(model, 0.5, keep="0")

    def test_nan_is_named(self):
        model = Sequential(Linear(4, 8), ReLU(), Linear(8, 2))
        model[2].weight.data[0, 0] = np.nan
        with pytest.raises(ValueError, match=r"2\.weight \(8, 2\) holds NaN"):
            structured_prune(model, 0.5)

    def test_an_mlp_that_is_low_rank_already(self):
        mlp = MLP(8)
        mlp.fc1 = Sequential(Linear(8, 2), Linear(2, 32))
        with pytest.raises(ValueError, match="its fc1 is a Sequential. Prune structure first"):
            structured_prune(mlp, 0.5)

    def test_frozen_parameters_stay_frozen(self):
        model = Sequential(Linear(4, 8), ReLU(), Linear(8, 2))
        model[0].requires_grad_(False)
        pruned = structured_prune(model, 0.5)
        assert [p.requires_grad for p in pruned.parameters()] == [False, False, True, True]

    def test_a_tensor_is_no_model(self):
        with pytest.raises(TypeError, match="got Tensor"):
            structured_prune(Tensor([1.0]), 0.5)
