"""Products with weights in bytes."""

import numpy as np
import pytest

from support.checks import assert_close
from support.listening import announced
from tinytorch.core.autograd import gradcheck, no_grad
from tinytorch.core.layers import Linear
from tinytorch.core.tensor import Tensor, randn
from tinytorch.optimization import quantization
from tinytorch.optimization.quantization import (
    QuantizedLinear,
    dequantize_int8,
    int8_matmul,
    quantize_int8,
    quantized_linear,
)


def bytes_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(-128, 128, shape).astype(np.int8)


def arrays(layer):
    return [value for value in vars(layer).values() if isinstance(value, np.ndarray)]


class TestIntegerProducts:
    @pytest.mark.parametrize(
        "shapes", [(1, 1, 1), (3, 5, 2), (2, 1024, 3), (2, 1025, 3), (5, 3000, 17), (0, 4, 2), (2, 0, 3)]
    )
    def test_the_same_as_in_int32(self, shapes):
        N, K, M = shapes
        a, b = bytes_of(N, K), bytes_of(K, M, seed=1)
        out = int8_matmul(a, b)
        assert out.dtype == np.int32
        assert np.array_equal(out, a.astype(np.int32) @ b.astype(np.int32))

    @pytest.mark.parametrize("K", [1024, 1025, 5000])
    @pytest.mark.parametrize(("first", "second"), [(-128, -128), (-128, 127), (127, 127)])
    def test_the_largest_sums_are_exact(self, K, first, second):
        a, b = np.full((2, K), first, np.int8), np.full((K, 3), second, np.int8)
        a[0, 0] = 1  # an odd number, which float32 would round away above 2^24
        assert int8_matmul(a, b).tolist() == [[first * second * (K - 1) + second] * 3, [first * second * K] * 3]

    @pytest.mark.parametrize("block", [1, 7, 1 << 20])
    def test_the_size_of_blocks_does_not_matter(self, block, monkeypatch):
        monkeypatch.setattr(quantization, "_BLOCK", block)
        a, b = bytes_of(2, 2100), bytes_of(2100, 3, seed=1)
        assert np.array_equal(int8_matmul(a, b), a.astype(np.int32) @ b.astype(np.int32))

    def test_both_are_only_read(self):
        a, b = bytes_of(2, 3), bytes_of(3, 2, seed=1)
        before = a.copy(), b.copy()
        int8_matmul(a, b)
        assert np.array_equal(a, before[0])
        assert np.array_equal(b, before[1])

    def test_floats_are_refused(self):
        with pytest.raises(TypeError, match="needs int8 arrays, got float32 and int8"):
            int8_matmul(np.ones((2, 2), np.float32), bytes_of(2, 2))

    @pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((3,), (3, 2)), ((1, 2, 3), (3, 2))])
    def test_shapes_that_do_not_fit(self, shapes):
        with pytest.raises(ValueError, match=r"needs shapes \(N, K\) and \(K, M\)"):
            int8_matmul(bytes_of(*shapes[0]), bytes_of(*shapes[1]))

    def test_sums_that_int32_may_not_hold_are_refused(self):
        K = quantization.LONGEST + 1
        assert K * 128 * 128 > 2**31 - 1 >= quantization.LONGEST * 128 * 128
        with pytest.raises(ValueError, match="may exceed int32"):
            int8_matmul(np.ones((1, K), np.int8), np.ones((K, 1), np.int8))


class TestOperation:
    @pytest.mark.parametrize("shape", [(6,), (1, 6), (5, 6), (2, 3, 6), (0, 6), (2, 0, 6)])
    @pytest.mark.parametrize("bias", [None, np.arange(4, dtype=np.float32)])
    def test_the_product_with_the_floats_that_the_bytes_stand_for(self, shape, bias):
        x = randn(shape)
        q, scale, _ = quantize_int8(randn(6, 4), symmetric=True, axis=1)
        want = x.numpy() @ (q * scale) + (0 if bias is None else bias)
        assert_close(quantized_linear(x, q, scale, bias), want.astype(np.float32))

    @pytest.mark.parametrize("block", [1, 10, 1000])
    def test_in_blocks_of_any_size(self, block, monkeypatch):
        monkeypatch.setattr(quantization, "_BLOCK", block)
        x, (q, scale, _) = randn(3, 50), quantize_int8(randn(50, 4), symmetric=True, axis=1)
        assert_close(quantized_linear(x, q, scale), x.numpy() @ (q * scale))

    @pytest.mark.parametrize(
        ("dtype", "want"), [(np.float16, np.float32), (np.float32, np.float32), (np.float64, np.float64)]
    )
    def test_dtypes(self, dtype, want):
        x, (q, scale, _) = randn(3, 5).astype(dtype), quantize_int8(randn(5, 4), symmetric=True, axis=1)
        assert quantized_linear(x, q, scale, np.ones(4, np.float32)).dtype == want

    @pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
    @pytest.mark.parametrize("block", [3, 1000])
    def test_the_gradient_of_the_input(self, shape, block, monkeypatch):
        monkeypatch.setattr(quantization, "_BLOCK", block)
        q, scale, _ = quantize_int8(randn(5, 4), symmetric=True, axis=1)
        x = Tensor(np.random.default_rng(0).normal(size=shape), dtype=np.float64, requires_grad=True)
        bias = np.arange(4, dtype=np.float32)
        assert gradcheck(lambda x: (quantized_linear(x, q, scale, bias) ** 2).sum(), [x], rtol=1e-6) is True

    def test_the_gradient_in_half_precision_keeps_its_dtype(self):
        q, scale, _ = quantize_int8(randn(5, 4), symmetric=True, axis=1)
        x = Tensor(np.ones((2, 5)), dtype=np.float16, requires_grad=True)
        quantized_linear(x, q, scale).sum().backward()
        assert x.grad.dtype == np.float16

    def test_it_announces_itself_and_its_input(self):
        x = randn(2, 5)
        for layer, name in [
            (QuantizedLinear(randn(5, 4)), "quantized_linear"),
            (QuantizedLinear(randn(5, 4), input_range=(-1, 1)), "int8_linear"),
        ]:
            (inputs,) = [inputs for op, inputs, _ in announced(lambda layer=layer: layer(x)) if op == name]
            assert inputs[0] is x


class TestLayer:
    @pytest.mark.parametrize("bias", [True, False])
    def test_from_linear_computes_with_the_rounded_weights(self, bias):
        linear = Linear(7, 5, bias=bias)
        layer = QuantizedLinear.from_linear(linear)
        x = randn(3, 7)
        q, scale, _ = quantize_int8(linear.weight, symmetric=True, axis=1)
        assert np.array_equal(layer.q, q)
        want = x.numpy() @ dequantize_int8(q, scale).numpy() + (linear.bias.numpy() if bias else 0)
        assert_close(layer(x), want.astype(np.float32))

    def test_close_to_the_layer_it_came_from(self):
        linear, x = Linear(64, 32), randn(10, 64)
        error = np.abs(QuantizedLinear.from_linear(linear)(x).numpy() - linear(x).numpy()).max()
        assert 0 < error < 0.02

    def test_it_holds_bytes_and_a_scale_and_a_bias_per_output(self):
        layer = QuantizedLinear.from_linear(Linear(64, 32))
        assert sorted((a.dtype.name, a.shape) for a in arrays(layer)) == [
            ("float32", (1, 32)),
            ("float32", (32,)),
            ("int8", (64, 32)),
        ]
        assert not any(isinstance(value, (Tensor, Linear)) for value in vars(layer).values())

    def test_nothing_is_kept_by_a_forward_pass(self):
        layer = QuantizedLinear.from_linear(Linear(8, 4))
        before = dict(vars(layer))
        layer(randn(2, 8))
        assert vars(layer) == before

    def test_a_large_output_does_not_coarsen_a_small_one(self):
        weight = np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32)
        weight[:, 1] *= 1000
        layer = QuantizedLinear(Tensor(weight))
        assert np.abs(layer.weight.numpy() - weight)[:, 0].max() <= 0.5 / 127

    def test_the_weight_in_floats_is_made_anew(self):
        layer = QuantizedLinear(randn(3, 2))
        assert layer.weight.data is not layer.weight.data
        assert_close(layer.weight, layer.q * layer.scale)

    def test_the_bias_is_its_own(self):
        linear = Linear(3, 2)
        layer = QuantizedLinear.from_linear(linear)
        linear.bias.data[:] = 7
        assert (layer.bias != 7).all()

    def test_there_is_nothing_to_train(self):
        layer = QuantizedLinear.from_linear(Linear(3, 2))
        assert layer.parameters() == []
        assert [name for name, _ in layer.named_buffers()] == ["q", "scale", "bias"]

    @pytest.mark.parametrize("input_range", [None, (-1, 1)])
    @pytest.mark.parametrize("shape", [(2, 4), (3,), ()])
    def test_inputs_of_another_width(self, shape, input_range):
        layer = QuantizedLinear(randn(5, 2), input_range=input_range)
        with pytest.raises(ValueError, match=r"QuantizedLinear\(5, 2\) needs inputs \(\.\.\., 5\), got"):
            layer(randn(shape))

    def test_a_weight_that_is_no_matrix(self):
        with pytest.raises(ValueError, match=r"needs a weight \(in, out\), got shape \(3,\)"):
            QuantizedLinear(randn(3))

    def test_a_weight_with_nan(self):
        with pytest.raises(ValueError, match="1 of 4 are NaN"):
            QuantizedLinear(Tensor([[1.0, np.nan], [0.0, 1.0]]))

    def test_it_prints_its_sizes_and_the_kind_of_its_inputs(self):
        assert repr(QuantizedLinear(randn(3, 2))) == (
            "QuantizedLinear(in_features=3, out_features=2, bias=False, inputs=float)"
        )
        assert repr(QuantizedLinear(randn(3, 2), randn(2), (-1, 1))).endswith("bias=True, inputs=int8)")


class TestIntegerInputs:
    """With an input range, the sums are of whole numbers."""

    @pytest.mark.parametrize("input_range", [(-1.0, 1.0), (-0.17, 3.0), (0.0, 5.0), (2.0, 5.0), (-4.0, -1.0)])
    @pytest.mark.parametrize("bias", [True, False])
    def test_as_worked_out_in_whole_numbers(self, input_range, bias):
        linear = Linear(300, 6, bias=bias)
        layer = QuantizedLinear.from_linear(linear, input_range)
        x = np.random.default_rng(0).uniform(*input_range, (4, 300)).astype(np.float32)
        s, z = float(layer.input_scale), int(layer.input_zero_point)
        x_q = np.clip(np.rint(x / np.float32(s)) + z, -128, 127).astype(np.int64)
        sums = (x_q - z) @ layer.q.astype(np.int64)
        want = sums * s * layer.scale[0].astype(np.float64) + (linear.bias.numpy() if bias else 0)
        assert_close(layer(Tensor(x)), want.astype(np.float32), rtol=1e-5, atol=1e-5)

    def test_the_sums_are_those_of_int32(self, monkeypatch):
        seen = []

        def spy(a, b):
            seen.append((a, b, int8_matmul(a, b)))
            return seen[-1][2]

        monkeypatch.setattr(quantization, "int8_matmul", spy)
        QuantizedLinear(randn(2000, 5), input_range=(-2, 3))(randn(3, 2000))
        (a, b, sums) = seen[0]
        assert (a.dtype, b.dtype, sums.dtype) == (np.int8, np.int8, np.int32)
        assert np.array_equal(sums, a.astype(np.int32) @ b.astype(np.int32))

    def test_zeros_give_the_bias(self):
        linear = Linear(50, 4)
        layer = QuantizedLinear.from_linear(linear, (-0.3, 9.0))
        assert_close(layer(Tensor(np.zeros((2, 50)))), np.stack([linear.bias.numpy()] * 2), atol=1e-5)

    def test_inputs_beyond_the_range_are_clipped_to_it(self):
        layer = QuantizedLinear(Tensor([[1.0]]), input_range=(-1, 1.55))
        out = layer(Tensor([[5.0], [-5.0], [np.inf], [-np.inf]])).numpy()
        assert_close(out, np.array([[1.55], [-1.0], [1.55], [-1.0]], np.float32))

    def test_nan_is_refused(self):
        with pytest.raises(ValueError, match="the inputs hold NaN"):
            QuantizedLinear(randn(2, 2), input_range=(-1, 1))(Tensor([[1.0, np.nan]]))

    def test_no_more_bytes_than_with_float_inputs_but_two_numbers(self):
        linear = Linear(64, 32)
        static = QuantizedLinear.from_linear(linear, (-1, 1))
        sizes = [sum(a.nbytes for a in arrays(layer)) for layer in (static, QuantizedLinear.from_linear(linear))]
        assert sizes[0] - sizes[1] == 8

    @pytest.mark.parametrize("shape", [(6,), (5, 6), (2, 3, 6), (0, 6)])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_shapes_and_dtypes(self, shape, dtype):
        out = QuantizedLinear(randn(6, 4), input_range=(-3, 3))(randn(shape).astype(dtype))
        assert (out.shape, out.dtype) == ((*shape[:-1], 4), dtype)

    def test_no_gradient_is_made_up_for_rounding(self):
        layer = QuantizedLinear(randn(2, 2), input_range=(-1, 1))
        x = Tensor([[1.0, 2.0]], requires_grad=True)
        with pytest.raises(NotImplementedError, match="'int8_linear' has no gradient rule"):
            layer(x)
        with no_grad():
            assert layer(x).requires_grad is False

    def test_the_input_is_only_read(self):
        x = randn(3, 4)
        before = x.numpy().copy()
        QuantizedLinear(randn(4, 2), input_range=(-1, 1))(x)
        assert_close(x, before, rtol=0, atol=0)
