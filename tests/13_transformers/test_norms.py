"""layer_norm and rms_norm: values, gradients, blocks of rows, and what is refused."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.autograd import grad, gradcheck
from tinytorch.core.layers import Module
from tinytorch.core.tensor import Tensor, astype, randn
from tinytorch.models.transformer import LayerNorm, RMSNorm, layer_norm, rms_norm

RNG = np.random.default_rng(0)
SHAPES = [(5,), (3, 5), (2, 3, 4), (2, 1, 3, 5), (4, 1), (1, 7)]
BOTH = {"layer_norm": (layer_norm, 2), "rms_norm": (rms_norm, 1)}
both = pytest.mark.parametrize(("norm", "count"), BOTH.values(), ids=BOTH)
LAYERS = pytest.mark.parametrize("Layer", [LayerNorm, RMSNorm])


def parameters(E, count, dtype=np.float64):
    return [RNG.normal(size=E).astype(dtype) for _ in range(count)]


def separate(norm, x, weight, bias=None, eps=1e-5):
    """The definition, in operations of module 01."""
    if norm is layer_norm:
        normal = (x - x.mean(-1, keepdims=True)) / (x.var(-1, keepdims=True) + eps).sqrt()
        return normal * weight + bias
    return x / ((x * x).mean(-1, keepdims=True) + eps).sqrt() * weight


class TestValues:
    def test_a_vector_by_hand(self):
        out = layer_norm([1.0, 2.0, 3.0, 4.0], np.ones(4), np.zeros(4), eps=1e-12)  # mean 2.5, variance 1.25
        assert_close(out, (np.array([-1.5, -0.5, 0.5, 1.5]) / np.sqrt(1.25)).astype(np.float32))

    def test_weight_and_bias_come_after_the_scaling(self):
        out = layer_norm([1.0, 3.0], [10.0, 2.0], [5.0, -1.0], eps=1e-12)
        assert_close(out, np.array([-5, 1], np.float32))

    def test_the_mean_square_by_hand(self):
        assert_close(rms_norm([1.0, 7.0], [1.0, 2.0], eps=1e-12), np.array([0.2, 2.8], np.float32))

    def test_rms_norm_does_not_shift(self):
        assert_close(rms_norm([[3.0, 3.0, 3.0]], np.ones(3), eps=1e-12), np.ones((1, 3), np.float32))

    @pytest.mark.parametrize("shape", SHAPES)
    @both
    def test_the_definition(self, norm, count, shape):
        x, ps = RNG.normal(2, 3, size=shape), parameters(shape[-1], count)
        inputs = [Tensor(a, dtype=np.float64) for a in (x, *ps)]
        assert_close(norm(*inputs, eps=1e-5), separate(norm, *inputs).data, rtol=1e-10, atol=1e-10)

    def test_the_variance_is_divided_by_the_width_and_not_by_one_less(self):
        out = layer_norm([0.0, 2.0], np.ones(2), np.zeros(2), eps=1e-12)
        assert_close(out, np.array([-1, 1], np.float32))

    def test_eps_is_added_to_the_variance_under_the_root(self):
        out = layer_norm([0.0, 2.0], np.ones(2), np.zeros(2), eps=3.0)
        assert_close(out, np.array([-0.5, 0.5], np.float32))
        assert_close(rms_norm([1.0, 1.0], np.ones(2), eps=3.0), np.array([0.5, 0.5], np.float32))

    @both
    def test_equal_numbers_are_no_division_by_zero(self, norm, count):
        assert np.isfinite(norm(np.zeros((2, 4)), *np.ones((count, 4))).data).all()

    def test_a_large_offset_costs_no_precision_of_the_variance(self):
        x = 1000 + RNG.normal(size=(4, 64))
        want = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
        assert_close(layer_norm(x, np.ones(64), np.zeros(64)), want.astype(np.float32), atol=2e-3)

    @both
    def test_rows_are_independent(self, norm, count):
        x, ps = randn(6, 8, rng=0), parameters(8, count, np.float32)
        whole = norm(x, *ps).data
        assert_close(norm(x[2:3], *ps).data, whole[2:3], rtol=1e-6)

    @both
    def test_more_rows_than_fit_one_block(self, norm, count):
        x, ps = randn(300, 1024, rng=0), parameters(1024, count, np.float32)
        assert_close(norm(x, *ps, eps=1e-5), separate(norm, x, *ps).data, rtol=1e-4, atol=1e-5)

    @both
    def test_a_row_wider_than_a_block(self, norm, count):
        x, ps = randn(2, 200_000, rng=0), parameters(200_000, count, np.float32)
        assert_close(norm(x, *ps, eps=1e-5), separate(norm, x, *ps).data, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4)])
    @both
    def test_no_rows(self, norm, count, shape):
        x = Tensor(np.ones(shape), requires_grad=True)
        out = norm(x, *np.ones((count, 4)))
        out.sum().backward()
        assert out.shape == x.grad.shape == shape

    @both
    def test_arrays_in_any_order_of_memory(self, norm, count):
        x, ps = randn(4, 6, 8, rng=0), parameters(4, count, np.float32)
        turned = x.data.T
        assert_close(norm(Tensor(turned), *ps), norm(Tensor(turned.copy()), *ps).data)
        view = x.T
        assert_close(norm(view, *ps), norm(Tensor(turned.copy()), *ps).data)

    @both
    def test_float32_stays_float32_and_float64_stays_float64(self, norm, count):
        for dtype in (np.float32, np.float64):
            x = Tensor(RNG.normal(size=(3, 4)), dtype=dtype)
            assert norm(x, *(Tensor(p, dtype=dtype) for p in parameters(4, count))).dtype == dtype

    @both
    def test_whole_numbers_become_float32(self, norm, count):
        assert norm([[1, 2, 3]], *np.ones((count, 3))).dtype == np.float32


class TestGradients:
    @pytest.mark.parametrize("shape", SHAPES)
    @both
    def test_finite_differences(self, norm, count, shape):
        arrays = [RNG.normal(size=shape), *parameters(shape[-1], count)]
        assert gradcheck(lambda *inputs: norm(*inputs, eps=1e-3), arrays, rtol=1e-6)

    @pytest.mark.parametrize("shape", [(3, 5), (2, 3, 4)])
    @both
    def test_the_rules_of_module_05_come_to_the_same(self, norm, count, shape):
        arrays, weight = [RNG.normal(size=shape), *parameters(shape[-1], count)], RNG.normal(size=shape)
        got, want = (
            grad(f(*inputs, eps=1e-5), inputs, weight)
            for f in (norm, lambda *inputs, eps: separate(norm, *inputs))
            for inputs in [[Tensor(a, dtype=np.float64, requires_grad=True) for a in arrays]]
        )
        for a, b in zip(got, want):
            assert_close(a, b, rtol=1e-9, atol=1e-11)

    @both
    def test_more_rows_than_fit_one_block(self, norm, count):
        arrays, weight = [RNG.normal(size=(300, 1024)), *parameters(1024, count)], RNG.normal(size=(300, 1024))
        got, want = (
            grad(f(*inputs, eps=1e-5), inputs, weight)
            for f in (norm, lambda *inputs, eps: separate(norm, *inputs))
            for inputs in [[Tensor(a, dtype=np.float64, requires_grad=True) for a in arrays]]
        )
        for a, b in zip(got, want):
            assert_close(a, b, rtol=1e-8, atol=1e-9)

    def test_shifting_or_stretching_a_vector_changes_nothing_so_its_gradient_has_no_such_part(self):
        x = Tensor(RNG.normal(size=(4, 6)), dtype=np.float64, requires_grad=True)
        out = layer_norm(x, *(Tensor(p, dtype=np.float64) for p in parameters(6, 2)), eps=1e-12)
        dx = grad(out, x, RNG.normal(size=(4, 6)))
        assert_close(dx.sum(axis=1), np.zeros(4), atol=1e-10)
        assert_close((dx * x.data).sum(axis=1), np.zeros(4), atol=1e-10)
        assert np.abs(dx).max() > 0.1

    def test_stretching_changes_nothing_for_rms_norm_and_shifting_does(self):
        x = Tensor(RNG.normal(size=(4, 6)), dtype=np.float64, requires_grad=True)
        dx = grad(rms_norm(x, Tensor(np.ones(6), dtype=np.float64), eps=1e-12), x, RNG.normal(size=(4, 6)))
        assert_close((dx * x.data).sum(axis=1), np.zeros(4), atol=1e-10)
        assert np.abs(dx.sum(axis=1)).max() > 0.1

    def test_the_bias_receives_the_sum_of_the_gradients(self):
        bias, weight = Tensor(np.zeros(3), requires_grad=True), RNG.normal(size=(2, 5, 3))
        layer_norm(randn(2, 5, 3), np.ones(3), bias).backward(weight)
        assert_close(bias.grad, weight.sum(axis=(0, 1)).astype(np.float32), rtol=1e-4)

    @both
    def test_neither_inputs_nor_the_gradient_that_comes_in_are_changed(self, norm, count):
        inputs = [Tensor(a, requires_grad=True) for a in (RNG.normal(size=(3, 4)), *parameters(4, count))]
        for tensor in inputs:
            tensor.data.setflags(write=False)
        incoming = RNG.normal(size=(3, 4)).astype(np.float32)
        incoming.setflags(write=False)
        out = norm(*inputs)
        first, second = out._grad_fn.apply(incoming), out._grad_fn.apply(incoming)
        for a, b in zip(first, second):
            assert_close(b, a, rtol=0, atol=0)

    @both
    def test_a_gradient_that_is_a_stretched_view(self, norm, count):
        x = randn(3, 4, rng=0, requires_grad=True)
        ps = parameters(4, count, np.float32)
        dense = grad(norm(x, *ps), x, np.ones((3, 4)))
        norm(x, *ps).sum().backward()
        assert_close(x.grad, dense, atol=1e-6)

    @both
    def test_only_two_numbers_per_row_are_kept_for_the_gradient(self, norm, count):
        out = norm(randn(10, 64, requires_grad=True), *np.ones((count, 64)))
        assert sum(array.size for array in out._grad_fn.saved.values()) == 10 * count

    @both
    def test_parameters_in_float64_beside_float32_receive_float64(self, norm, count):
        x = randn(3, 4, rng=0, requires_grad=True)
        ps = [Tensor(p, dtype=np.float64, requires_grad=True) for p in parameters(4, count)]
        norm(x, *ps).sum().backward()
        assert [x.grad.dtype, *(p.grad.dtype for p in ps)] == [np.float32] + [np.float64] * count


class TestErrors:
    @both
    def test_a_width_that_does_not_fit_is_named(self, norm, count):
        with pytest.raises(ValueError, match=r"norm of width 5 needs inputs \(\.\.\., 5\), got \(2, 4\)"):
            norm(np.ones((2, 4)), *np.ones((count, 5)))

    @both
    def test_a_single_number_is_no_vector(self, norm, count):
        with pytest.raises(ValueError, match=r"norm of width 1 needs inputs \(\.\.\., 1\), got \(\)"):
            norm(3.0, *np.ones((count, 1)))

    @pytest.mark.parametrize("eps", [0, -1e-5, float("nan")])
    @both
    def test_eps_must_be_positive(self, norm, count, eps):
        with pytest.raises(ValueError, match="norm needs eps > 0"):
            norm(np.ones((2, 4)), *np.ones((count, 4)), eps=eps)

    @LAYERS
    @pytest.mark.parametrize(("dim", "error"), [(0, ValueError), (-3, ValueError), (2.0, TypeError), ("4", TypeError)])
    def test_a_layer_needs_a_width(self, Layer, dim, error):
        with pytest.raises(error, match=f"{Layer.__name__} needs .*dim"):
            Layer(dim)


class TestLayers:
    @LAYERS
    def test_it_is_a_module_whose_weight_starts_at_1(self, Layer):
        layer = Layer(4)
        assert isinstance(layer, Module)
        assert_close(layer.weight, np.ones(4, np.float32), rtol=0, atol=0)
        assert layer.weight.requires_grad

    def test_what_they_learn(self):
        assert [name for name, _ in LayerNorm(4).named_parameters()] == ["weight", "bias"]
        assert [name for name, _ in RMSNorm(4).named_parameters()] == ["weight"]
        assert_close(LayerNorm(4).bias, np.zeros(4, np.float32), rtol=0, atol=0)

    def test_they_use_what_they_have_learnt(self):
        x = randn(2, 3, rng=0)
        layer, rms = LayerNorm(3), RMSNorm(3)
        layer.weight.data, layer.bias.data = np.float32([1, 2, 3]), np.float32([4, 5, 6])
        rms.weight.data = np.float32([1, 2, 3])
        assert_close(layer(x), layer_norm(x, [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]).data)
        assert_close(rms(x), rms_norm(x, [1.0, 2.0, 3.0]).data)

    @LAYERS
    def test_eps_reaches_the_function(self, Layer):
        assert_close(
            Layer(2, eps=3.0)([0.0, 2.0]).data, np.float32([-0.5, 0.5] if Layer is LayerNorm else [0, 2 / 5**0.5])
        )

    @LAYERS
    def test_every_vector_leaves_with_about_the_same_length(self, Layer):
        x = randn(3, 5, 64, rng=0) * np.array([0.01, 1.0, 100.0]).reshape(3, 1, 1)
        lengths = np.linalg.norm(Layer(64, eps=1e-9)(x).data, axis=-1)
        assert_close(lengths, np.full((3, 5), 8, np.float32), rtol=1e-3)

    @LAYERS
    def test_it_prints_its_settings(self, Layer):
        assert repr(Layer(8, eps=0.5)) == f"{Layer.__name__}(dim=8, eps=0.5)"

    def test_dtype_follows_the_input_only_where_it_is_wider(self):
        x = astype(randn(2, 3), np.float64)
        assert LayerNorm(3)(x).dtype == np.float64
