"""linear and Linear: shapes, starting values, dtypes, errors."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.layers import Linear, kaiming_normal, kaiming_uniform, linear, xavier_normal, xavier_uniform
from tinytorch.core.tensor import Tensor, randn


def test_a_vector_gives_a_vector():
    assert_close(linear([1.0, 2.0], [[1.0], [10.0]], [100.0]), np.array([121], np.float32))


def test_every_row_of_a_batch_is_computed_alone():
    layer, x = Linear(3, 2, rng=0), randn(4, 5, 3, rng=1)
    whole = layer(x).data
    for i in range(4):
        for j in range(5):
            assert_close(layer(x[i, j]), whole[i, j])


def test_an_input_that_is_not_contiguous():
    x, w = randn(3, 4, 5, rng=0), randn(4, 2, rng=1)
    assert_close(linear(x.swapaxes(1, 2), w), (x.swapaxes(1, 2) @ w).data)


def test_integers_become_float32():
    out = linear(Tensor([[1, 2]]), Tensor([[1], [1]]), Tensor([1]))
    assert_close(out, np.array([[4]], np.float32))


@pytest.mark.parametrize("wide", [0, 1, 2])
def test_mixed_dtypes_give_the_wider(wide):
    arrays = [np.ones((2, 3)), np.ones((3, 4)), np.ones(4)]
    tensors = [Tensor(a, dtype=np.float64 if i == wide else np.float32) for i, a in enumerate(arrays)]
    assert_close(linear(*tensors), np.full((2, 4), 4.0))


class TestStartingValues:
    def test_shapes(self):
        layer = Linear(3, 5)
        assert (layer.weight.shape, layer.bias.shape) == ((3, 5), (5,))
        assert (layer.in_features, layer.out_features) == (3, 5)

    def test_weights_and_biases_fill_the_interval_of_one_over_root_in_features(self):
        layer = Linear(400, 300, rng=0)
        for values in (layer.weight.data, layer.bias.data):
            assert np.abs(values).max() <= 1 / 20
            assert np.abs(values).max() > 0.98 / 20
            assert values.min() < -0.97 / 20
        assert abs(layer.weight.data.mean()) < 1e-3
        assert abs(layer.weight.data.var() - 1 / (3 * 400)) < 1e-5

    def test_the_bound_goes_with_in_features_not_out_features(self):
        assert np.abs(Linear(4, 10_000, rng=0).weight.data).max() > 0.49

    def test_a_seed_repeats_and_weight_and_bias_differ(self):
        a, b = Linear(1, 8, rng=5), Linear(1, 8, rng=5)
        assert_close(a.weight, b.weight.data, rtol=0, atol=0)
        assert a.weight.data[0].tolist() != a.bias.data.tolist()

    def test_no_two_units_start_alike(self):
        columns = Linear(4, 50, rng=0).weight.data.T
        assert len({tuple(column) for column in columns.tolist()}) == 50

    def test_without_bias(self):
        layer = Linear(3, 2, bias=False, rng=0)
        assert layer.bias is None
        assert len(layer.parameters()) == 1
        assert_close(layer(Tensor(np.zeros((1, 3)))), np.zeros((1, 2), np.float32))


class TestErrors:
    @pytest.mark.parametrize("shape", [(2, 5), (3, 2), (5,), (), (3, 3, 4)])
    def test_an_input_of_another_width(self, shape):
        with pytest.raises(ValueError, match=r"Linear\(3, 4\) needs inputs \(\.\.\., 3\), got \("):
            linear(Tensor(np.ones(shape)), randn(3, 4))

    def test_a_weight_that_is_no_matrix(self):
        with pytest.raises(ValueError, match=r"linear needs a weight \(in, out\), got shape \(3,\)"):
            linear(randn(2, 3), randn(3))

    @pytest.mark.parametrize("shape", [(3,), (1,), (4, 1), ()])
    def test_a_bias_that_does_not_fit_is_not_broadcast(self, shape):
        with pytest.raises(ValueError, match=r"Linear\(3, 4\) needs a bias \(4,\), got \("):
            linear(randn(2, 3), randn(3, 4), randn(*shape))

    @pytest.mark.parametrize(("sizes", "name"), [((0, 3), "in_features"), ((3, 0), "out_features"), ((-1, 3), "in_f")])
    def test_a_layer_without_inputs_or_outputs(self, sizes, name):
        with pytest.raises(ValueError, match=f"Linear needs {name}.* of at least 1"):
            Linear(*sizes)

    @pytest.mark.parametrize("size", [2.0, "3", None, True])
    def test_sizes_are_integers(self, size):
        with pytest.raises(TypeError, match="Linear needs an integer in_features"):
            Linear(size, 3)

    def test_sizes_may_be_numpy_integers(self):
        assert Linear(np.int64(3), np.int32(2)).weight.shape == (3, 2)


def test_initialisers_have_the_promised_spread():
    shape, fan_in, fan_out = (300, 200), 300, 200
    for gain in (1.0, math.sqrt(2)):
        for draw, variance in [
            (kaiming_uniform, gain**2 / fan_in),
            (kaiming_normal, gain**2 / fan_in),
            (xavier_uniform, 2 * gain**2 / (fan_in + fan_out)),
            (xavier_normal, 2 * gain**2 / (fan_in + fan_out)),
        ]:
            weight = draw(shape, gain=gain, rng=0)
            assert (weight.shape, weight.dtype, weight.requires_grad) == (shape, np.float32, True)
            assert abs(weight.data.mean()) < 0.02 * math.sqrt(variance)
            assert abs(weight.data.var() / variance - 1) < 0.02, draw.__name__
            bound = math.sqrt(3 * variance)
            if "uniform" in draw.__name__:
                assert 0.99 * bound < np.abs(weight.data).max() <= bound * (1 + 1e-6)
            else:
                assert np.abs(weight.data).max() > 2 * bound


def test_kaimings_default_gain_is_that_of_relu():
    for draw in (kaiming_uniform, kaiming_normal):
        assert abs(draw((300, 200), rng=0).data.var() * 300 / 2 - 1) < 0.02


def test_xaviers_default_gain_is_1():
    for draw in (xavier_uniform, xavier_normal):
        assert abs(draw((300, 200), rng=0).data.var() * 500 / 2 - 1) < 0.02


def test_initialisers_count_every_position_of_a_convolution_kernel():
    weight = kaiming_uniform((200, 16, 3, 3), gain=1.0, rng=0)  # (out, in, K, K)
    assert abs(weight.data.var() * 16 * 9 - 1) < 0.02
    weight = xavier_uniform((200, 16, 3, 3), rng=0)
    assert abs(weight.data.var() * (200 + 16) * 9 / 2 - 1) < 0.02


def test_initialisers_need_two_axes():
    with pytest.raises(ValueError, match=r"at least two axes, got \(3,\)"):
        kaiming_uniform((3,))
