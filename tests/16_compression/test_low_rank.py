"""One layer as two thin ones."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import mse_loss
from tinytorch.core.optimizers import SGD
from tinytorch.core.spatial import Conv2d
from tinytorch.core.tensor import Tensor, manual_seed, randn
from tinytorch.optimization.compression import low_rank_approximate


def product(pair):
    return pair[0].weight.data.astype(np.float64) @ pair[1].weight.data


@pytest.mark.parametrize("shape", [(6, 6), (12, 5), (4, 9), (1, 3)])
def test_full_rank_is_the_layer_itself(shape):
    layer, x = Linear(*shape, rng=0), randn(7, shape[0], rng=1)
    assert_close(low_rank_approximate(layer, min(shape))(x), layer(x).data, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_the_error_is_what_the_discarded_singular_values_say(rank):
    layer = Linear(12, 8, rng=0)
    s = np.linalg.svd(layer.weight.data.astype(np.float64), compute_uv=False)
    error = layer.weight.data - product(low_rank_approximate(layer, rank))
    assert_close(np.linalg.norm(error, 2), s[rank], rtol=1e-4)
    assert_close(np.linalg.norm(error), np.sqrt((s[rank:] ** 2).sum()), rtol=1e-4)


def test_a_matrix_of_rank_2_needs_no_more():
    layer, rng = Linear(10, 8, rng=0), np.random.default_rng(0)
    layer.weight.data = (rng.normal(size=(10, 2)) @ rng.normal(size=(2, 8))).astype(np.float32)
    x = randn(5, 10, rng=1)
    assert_close(low_rank_approximate(layer, 2)(x), layer(x).data, rtol=1e-4, atol=1e-4)


def test_by_hand_the_longer_axis_stays():
    layer = Linear(2, 2, bias=False)
    layer.weight.data = np.array([[0, 3], [1, 0]], np.float32)
    assert_close(product(low_rank_approximate(layer, 1)), np.array([[0, 3], [0, 0]], float), atol=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_two_layers_are_thin(rank):
    pair = low_rank_approximate(Linear(20, 10, rng=0), rank)
    assert [type(layer) for layer in pair] == [Linear, Linear]
    assert [(n, p.shape) for n, p in pair.named_parameters()] == [
        ("0.weight", (20, rank)),
        ("1.weight", (rank, 10)),
        ("1.bias", (10,)),
    ]
    assert pair.num_parameters() == rank * 30 + 10


def test_the_bias_comes_once_and_after_both():
    layer = Linear(4, 3, rng=0)
    pair = low_rank_approximate(layer, 2)
    assert_close(pair(np.zeros((1, 4))), layer.bias.data[None])
    assert pair[1].bias is not layer.bias
    assert not np.shares_memory(pair[1].bias.data, layer.bias.data)
    assert low_rank_approximate(Linear(4, 3, bias=False), 2)[1].bias is None


def test_both_halves_carry_the_same_stretch():
    pair = low_rank_approximate(Linear(12, 8, rng=0), 4)
    down, up = pair[0].weight.data, pair[1].weight.data
    assert_close(np.linalg.norm(down, axis=0), np.linalg.norm(up, axis=1), rtol=1e-4)


def test_the_layer_is_not_changed():
    layer = Linear(6, 5, rng=0)
    before = layer.weight.data.copy()
    pair = low_rank_approximate(layer, 5)
    pair[1].weight.data += 1
    assert (layer.weight.data == before).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(dtype):
    layer = Linear(5, 4, rng=0)
    for p in layer.parameters():
        p.data = p.data.astype(dtype)
    assert {p.dtype for p in low_rank_approximate(layer, 2).parameters()} == {np.dtype(dtype)}


def test_it_learns_on():
    pair = low_rank_approximate(Linear(6, 4, rng=0), 2)
    x, y = randn(30, 6, rng=1), randn(30, 4, rng=2)
    optimizer, losses = SGD(pair.parameters(), lr=0.1), []
    for _ in range(20):
        optimizer.zero_grad()
        loss = mse_loss(pair(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_frozen_stays_frozen_and_the_mode_stays():
    layer = Linear(6, 4, rng=0).eval().requires_grad_(False)
    pair = low_rank_approximate(layer, 2)
    assert [p.requires_grad for p in pair.parameters()] == [False] * 3
    assert [layer.training for layer in pair.modules()] == [False] * 3


def test_nothing_is_drawn_at_random():
    x = randn(1, 4).data
    low_rank_approximate(Linear(6, 4, rng=0), 2)
    after = randn(1, 4).data
    manual_seed(0)
    assert (randn(1, 4).data == x).all()
    assert (randn(1, 4).data == after).all()


@pytest.mark.parametrize(("rank", "error"), [(0, ValueError), (-1, ValueError), (6, ValueError), (2.5, TypeError)])
def test_a_rank_that_cannot_be(rank, error):
    with pytest.raises(error, match="rank"):
        low_rank_approximate(Linear(5, 8), rank)


@pytest.mark.parametrize("layer", [ReLU(), Conv2d(1, 2, 3), Sequential(Linear(2, 3)), Tensor([[1.0]])])
def test_only_linear_layers(layer):
    with pytest.raises(TypeError, match=f"needs a Linear, got {type(layer).__name__}"):
        low_rank_approximate(layer, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(value):
    layer = Linear(3, 3)
    layer.weight.data[1, 2] = value
    with pytest.raises(ValueError, match="finite weights"):
        low_rank_approximate(layer, 1)
