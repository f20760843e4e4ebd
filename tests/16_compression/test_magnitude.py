"""Pruning by magnitude: which weights go, how many, and what is left alone."""

import copy

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Linear, Module, Sequential
from tinytorch.core.losses import mse_loss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.spatial import BatchNorm2d, Conv1d, Conv2d, ConvTranspose2d
from tinytorch.core.tensor import Tensor, randn
from tinytorch.core.training import Trainer
from tinytorch.data.loader import DataLoader, TensorDataset
from tinytorch.models.transformer import GPT
from tinytorch.optimization.compression import (
    PruningMasks,
    magnitude_prune,
    measure_sparsity,
    smallest,
    sparsity_by_layer,
)


def matrix(numbers, **options):
    layer = Linear(*np.shape(numbers), **options)
    layer.weight.data = np.array(numbers, np.float32)
    return layer


def network():
    return Sequential(Linear(8, 16, rng=0), ReLU(), Linear(16, 4, rng=1))


class TestSmallest:
    @pytest.mark.parametrize(
        ("numbers", "count", "chosen"),
        [
            ([3, 1, 2], 0, []),
            ([3, 1, 2], 1, [1]),
            ([3, 1, 2], 2, [1, 2]),
            ([3, 1, 2], 3, [0, 1, 2]),
            ([0, 5, 0, 5, 0], 2, [0, 2]),
            ([7, 7, 7, 7], 3, [0, 1, 2]),
            ([2, 1, 2, 1, 2], 3, [0, 1, 3]),
        ],
    )
    def test_by_hand(self, numbers, count, chosen):
        mask = smallest(np.array(numbers, np.float32), count)
        assert mask.dtype == bool
        assert np.flatnonzero(mask).tolist() == chosen

    def test_it_only_reads(self):
        numbers = np.array([3.0, 1.0, 2.0])
        smallest(numbers, 2)
        assert numbers.tolist() == [3, 1, 2]


class TestMeasure:
    @pytest.mark.parametrize(
        ("numbers", "sparsity"),
        [([[1, 2], [3, 4]], 0), ([[0, 2], [3, 4]], 0.25), ([[0, 0], [0, -4]], 0.75), ([[0, 0]], 1)],
    )
    def test_the_share_of_zeros(self, numbers, sparsity):
        assert measure_sparsity(matrix(numbers)) == sparsity

    def test_zeros_of_biases_and_norms_do_not_count(self):
        model = Sequential(Conv2d(1, 2, 2, rng=0), BatchNorm2d(2))
        model[0].bias.data[:] = 0
        assert measure_sparsity(model) == 0

    def test_large_layers_count_more_than_small_ones(self):
        model = Sequential(matrix([[0.0, 0.0]]), matrix([[1, 1, 1], [1, 1, 1]]))
        assert measure_sparsity(model) == 0.25
        assert sparsity_by_layer(model) == {"0.weight": 1.0, "1.weight": 0.0}

    def test_minus_zero_is_zero(self):
        assert measure_sparsity(matrix([[-0.0, 1.0]])) == 0.5

    def test_a_model_of_norms_alone_has_no_weights(self):
        assert measure_sparsity(BatchNorm2d(3)) == 0


class TestMagnitudePrune:
    def test_the_smallest_of_a_matrix_go_whatever_their_sign(self):
        layer = matrix([[0.1, -3.0], [-0.2, 0.5]])
        assert_close(magnitude_prune(layer, 0.5).weight, np.array([[0, -3], [0, 0.5]], np.float32))

    @pytest.mark.parametrize("scope", ["global", "layer"])
    def test_large_negative_weights_are_large(self, scope):
        pruned = magnitude_prune(matrix([[-9.0, 1.0, -8.0, 2.0]]), 0.5, scope=scope)
        assert pruned.weight.tolist() == [[-9, 0, -8, 0]]

    def test_what_is_left_is_not_touched(self):
        model = network()
        pruned = magnitude_prune(model, 0.5)
        for p, q in zip(model.parameters(), pruned.parameters()):
            left = q.data != 0
            assert (q.data[left] == p.data[left]).all()

    @pytest.mark.parametrize("sparsity", [0, 0.1, 1 / 3, 0.5, 0.9, 0.999, 1])
    @pytest.mark.parametrize("scope", ["global", "layer"])
    def test_exactly_the_share_that_was_asked_for(self, sparsity, scope):
        pruned = magnitude_prune(network(), sparsity, scope=scope)
        if scope == "layer":
            zeros = [p.size - np.count_nonzero(p.data) for p in pruned.parameters() if p.ndim == 2]
            assert zeros == [round(sparsity * 128), round(sparsity * 64)]
        else:
            assert_close(measure_sparsity(pruned), round(sparsity * 192) / 192)

    def test_equal_weights_do_not_all_go_together(self):
        assert measure_sparsity(magnitude_prune(matrix(np.ones((10, 10))), 0.3)) == 0.3

    def test_global_compares_the_whole_model(self):
        model = Sequential(matrix([[0.1, 0.2]]), matrix([[3.0], [4.0]]))
        assert sparsity_by_layer(magnitude_prune(model, 0.5)) == {"0.weight": 1.0, "1.weight": 0.0}

    def test_layer_takes_the_same_share_of_each(self):
        model = Sequential(matrix([[0.1, 0.2]]), matrix([[3.0], [4.0]]))
        assert sparsity_by_layer(magnitude_prune(model, 0.5, scope="layer")) == {"0.weight": 0.5, "1.weight": 0.5}

    @pytest.mark.parametrize("scope", ["global", "layer"])
    def test_no_bias_and_no_norm_is_ever_pruned(self, scope):
        model = Sequential(Conv2d(1, 3, 2, rng=0), BatchNorm2d(3), Conv2d(3, 2, 2, rng=1))
        for p in model.parameters():
            if p.ndim == 1:
                p.data = np.full(p.shape, 1e-6, np.float32)
        pruned = magnitude_prune(model, 1.0, scope=scope)
        for p in pruned.parameters():
            assert (p.data == (np.float32(1e-6) if p.ndim == 1 else 0)).all()

    def test_a_bias_of_two_axes_is_still_a_bias(self):
        class Line(Module):
            def __init__(self):
                self.weight = Tensor([[1.0, 2.0]], requires_grad=True)
                self.bias = Tensor([[0.1, 0.1]], requires_grad=True)

        pruned = magnitude_prune(Line(), 1.0)
        assert np.count_nonzero(pruned.bias.data) == 2
        assert np.count_nonzero(pruned.weight.data) == 0

    @pytest.mark.parametrize(
        "layer", [Conv1d(2, 3, 2, rng=0), Conv2d(2, 3, 2, rng=0), ConvTranspose2d(2, 3, 2, rng=0), Linear(4, 6, rng=0)]
    )
    def test_every_kind_of_weight(self, layer):
        assert measure_sparsity(magnitude_prune(layer, 0.5)) == 0.5

    def test_the_tables_of_a_gpt_are_looked_up_and_stay(self):
        gpt = GPT(20, 8, 1, 2, 6, rng=0)
        pruned = magnitude_prune(gpt, 1.0)
        touched = [n for (n, p), q in zip(gpt.named_parameters(), pruned.parameters()) if (p.data != q.data).any()]
        layers = ("attention.in_proj", "attention.out_proj", "mlp.fc1", "mlp.fc2")
        assert touched == [f"blocks.0.{layer}.weight" for layer in layers]

    def test_weights_that_are_zero_already_count(self):
        once = magnitude_prune(network(), 0.6)
        assert_close(measure_sparsity(magnitude_prune(once, 0.3)), measure_sparsity(once))
        assert_close(measure_sparsity(magnitude_prune(once, 0.8)), round(0.8 * 192) / 192)

    def test_the_original_does_not_change(self):
        model = network()
        before = copy.deepcopy(model.state_dict())
        pruned = magnitude_prune(model, 0.9)
        pruned[0].bias.data += 1
        for name, array in model.state_dict().items():
            assert_close(array, before[name], rtol=0, atol=0)

    def test_in_place_is_this_very_model(self):
        model = network()
        weights = [p for p in model.parameters() if p.ndim == 2]
        assert magnitude_prune(model, 0.5, in_place=True) is model
        assert sum(np.count_nonzero(p.data) for p in weights) == 96

    def test_a_change_between_forward_and_backward_is_noticed(self):
        model = network()
        loss = model(randn(3, 8, rng=0, requires_grad=True)).sum()
        magnitude_prune(model, 0.5, in_place=True)
        with pytest.raises(RuntimeError, match="changed in place"):
            loss.backward()

    def test_shapes_names_and_dtypes_stay(self):
        model = network()
        pruned = magnitude_prune(model, 0.5)
        assert [(n, p.shape, p.dtype) for n, p in pruned.named_parameters()] == [
            (n, p.shape, p.dtype) for n, p in model.named_parameters()
        ]

    def test_a_frozen_weight_stays_frozen(self):
        model = network()
        model[0].requires_grad_(False)
        assert [p.requires_grad for p in magnitude_prune(model, 0.5).parameters()] == [False, False, True, True]

    def test_a_weight_shared_by_two_layers_is_pruned_once(self):
        model = Sequential(Linear(4, 4, rng=0), Linear(4, 4, rng=1))
        model[1].weight = model[0].weight
        pruned = magnitude_prune(model, 0.5)
        assert pruned[0].weight is pruned[1].weight
        assert np.count_nonzero(pruned[0].weight.data) == 8

    def test_somebody_elses_class_is_a_model(self):
        class Plain:
            def __init__(self):
                self.w = Tensor([[1.0, -5.0, 2.0]], requires_grad=True)

            def parameters(self):
                return [self.w]

        model = Plain()
        assert magnitude_prune(model, 2 / 3).w.tolist() == [[0, -5, 0]]
        assert model.w.tolist() == [[1, -5, 2]]


class TestMasks:
    @pytest.mark.parametrize("rule", [lambda p: SGD(p, lr=0.1, momentum=0.9), lambda p: Adam(p, lr=0.05)])
    def test_training_does_not_grow_weights_back(self, rule):
        model = magnitude_prune(network(), 0.75, scope="layer")
        masks, start = PruningMasks(model), model[0].weight.data.copy()
        optimizer, x, y = rule(model.parameters()), randn(20, 8, rng=2), randn(20, 4, rng=3)
        for _ in range(5):
            optimizer.zero_grad()
            mse_loss(model(x), y).backward()
            optimizer.step()
            masks.apply()
        assert measure_sparsity(model) == 0.75
        assert ((model[0].weight.data == 0) == (start == 0)).all()
        assert (model[0].weight.data != start).any()

    def test_without_masks_they_grow_back(self):
        model = magnitude_prune(network(), 0.75, scope="layer")
        mse_loss(model(randn(20, 8, rng=2)), randn(20, 4, rng=3)).backward()
        Adam(model.parameters()).step()
        assert measure_sparsity(model) < 0.5

    def test_a_trainer_applies_them_after_every_step(self):
        model = magnitude_prune(network(), 0.75, scope="layer")
        data = DataLoader(TensorDataset(randn(20, 8, rng=2), randn(20, 4, rng=3)), batch_size=5)
        masks = PruningMasks(model)
        Trainer(model, Adam(model.parameters()), mse_loss, callbacks=[masks], progress=False).fit(data, epochs=2)
        assert measure_sparsity(model) == 0.75

    def test_biases_are_free(self):
        model = magnitude_prune(network(), 0.5)
        model[0].bias.data[:] = 0
        masks = PruningMasks(model)
        model[0].bias.data[:] = 1
        masks.apply()
        assert (model[0].bias.data == 1).all()

    def test_applying_counts_as_a_change(self):
        model = magnitude_prune(network(), 0.5)
        masks = PruningMasks(model)
        loss = model(randn(3, 8, rng=0)).sum()
        masks.apply()
        with pytest.raises(RuntimeError, match="changed in place"):
            loss.backward()


class TestRefusals:
    @pytest.mark.parametrize("sparsity", [1.5, -0.1, float("nan"), 90])
    def test_a_sparsity_that_is_no_share(self, sparsity):
        model = network()
        before = model.state_dict()
        with pytest.raises(ValueError, match="0 <= sparsity <= 1"):
            magnitude_prune(model, sparsity, in_place=True)
        assert all((model.state_dict()[name] == array).all() for name, array in before.items())

    @pytest.mark.parametrize("sparsity", ["0.5", None, True, [0.5]])
    def test_a_sparsity_that_is_no_number(self, sparsity):
        with pytest.raises(TypeError, match="needs a number as sparsity"):
            magnitude_prune(network(), sparsity)

    def test_an_unknown_scope(self):
        with pytest.raises(ValueError, match="'global' or 'layer', got 'local'"):
            magnitude_prune(network(), 0.5, scope="local")

    @pytest.mark.parametrize(
        "call", [lambda m: magnitude_prune(m, 0.5), measure_sparsity, sparsity_by_layer, PruningMasks]
    )
    def test_a_model_without_parameters(self, call):
        with pytest.raises(ValueError, match="Sequential has none"):
            call(Sequential(ReLU()))
        with pytest.raises(TypeError, match="needs a model with parameters"):
            call([1, 2])

    @pytest.mark.parametrize("call", [lambda m: magnitude_prune(m, 0.5), PruningMasks])
    def test_a_model_without_weights(self, call):
        with pytest.raises(ValueError, match="found no weights in BatchNorm2d"):
            call(BatchNorm2d(3))

    def test_nan_is_named_and_nothing_changes(self):
        model = network()
        model[2].weight.data[1, 1] = np.nan
        before = model[0].weight.data.copy()
        with pytest.raises(ValueError, match=r"2\.weight \(16, 4\) holds NaN"):
            magnitude_prune(model, 0.5, in_place=True)
        assert (model[0].weight.data == before).all()
