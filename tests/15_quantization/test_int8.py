"""Floats as bytes and back."""

import warnings

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.tensor import Tensor, randn
from tinytorch.optimization.quantization import dequantize_int8, quantize_int8, scale_and_zero_point


class TestWorkedExamples:
    def test_five_numbers_asymmetric(self):
        q, scale, zero_point = quantize_int8(Tensor([-1.0, 0.0, 0.5, 2.0, 4.1]))
        assert_close(scale, 0.02)
        assert zero_point == -78
        assert q.tolist() == [-128, -78, -53, 22, 127]
        assert_close(dequantize_int8(q, scale, zero_point), np.array([-1, 0, 0.5, 2, 4.1], np.float32))

    def test_five_numbers_symmetric(self):
        q, scale, zero_point = quantize_int8(Tensor([-2.54, -0.02, 0.0, 0.05, 1.0]), symmetric=True)
        assert_close(scale, 0.02)
        assert zero_point == 0
        assert q.tolist() == [-127, -1, 0, 2, 50]

    def test_halves_go_to_the_even_neighbour(self):
        q, scale, _ = quantize_int8(Tensor([0.5, 1.5, 2.5, 3.5, -0.5, -1.5, 127.0]), symmetric=True)
        assert scale == 1
        assert q.tolist() == [0, 2, 2, 4, 0, -2, 127]

    def test_halves_go_to_even_before_the_zero_point_is_added(self):
        q, scale, zero_point = quantize_int8(Tensor([0.5, 1.5, 2.5, -1.0, 254.0]))
        assert (scale, zero_point) == (1, -127)
        assert q.tolist() == [-127, -125, -125, -128, 127]

    def test_one_scale_per_column(self):
        q, scale, zero_point = quantize_int8(Tensor([[1.27, 127.0], [-0.5, 50.0]]), symmetric=True, axis=1)
        assert_close(scale, np.array([[0.01, 1.0]], np.float32))
        assert zero_point.tolist() == [[0, 0]]
        assert q.tolist() == [[127, 127], [-50, 50]]

    def test_one_scale_per_row(self):
        q, scale, zero_point = quantize_int8(Tensor([[-1.0, 1.55], [0.0, 255.0]]), axis=0)
        assert_close(scale, np.array([[0.01], [1.0]], np.float32))
        assert zero_point.tolist() == [[-28], [-128]]
        assert q.tolist() == [[-128, 127], [-128, 127]]


class TestRanges:
    """A range always contains 0, so that 0.0 is exact; widths of zero do not divide."""

    @pytest.mark.parametrize("values", [[5, 6], [-6, -5], [5, 5, 5], [-7], [0, 0], [0], [1e-30, 0], [1e30, 1e-30], [3]])
    @pytest.mark.parametrize("symmetric", [False, True])
    def test_values_come_back_to_half_a_step(self, values, symmetric):
        x = np.array(values, np.float32)
        q, scale, zero_point = quantize_int8(Tensor(x), symmetric=symmetric)
        back = dequantize_int8(q, scale, zero_point).numpy()
        assert (np.abs(back - x) <= scale * 0.50001).all()

    def test_five_and_six(self):
        q, scale, zero_point = quantize_int8(Tensor([5.0, 6.0]))
        assert_close(scale, 6 / 255)
        assert zero_point == -128
        assert q.tolist() == [84, 127]

    @pytest.mark.parametrize("symmetric", [False, True])
    @pytest.mark.parametrize("rest", [[5, 6], [-5, -6], [-1, 3], [1e-3, 7], [-1e20, 1]])
    def test_zero_comes_back_as_zero(self, rest, symmetric):
        q, scale, zero_point = quantize_int8(Tensor([0.0, *rest]), symmetric=symmetric)
        assert dequantize_int8(q, scale, zero_point)[0].item() == 0

    def test_zeros_have_scale_one(self):
        assert quantize_int8(Tensor(np.zeros((2, 3))))[1] == 1
        q, scale, zero_point = quantize_int8(Tensor([[0.0, 127.0], [0.0, 1.0]]), symmetric=True, axis=1)
        assert scale.tolist() == [[1, 1]]
        assert dequantize_int8(q, scale, zero_point).tolist() == [[0, 127], [0, 1]]

    def test_subnormal_numbers_become_zeros(self):
        q, scale, zero_point = quantize_int8(Tensor(np.array([1e-42, -1e-42], np.float32)), symmetric=True)
        assert (q.tolist(), scale) == ([0, 0], 1)

    def test_a_range_wider_than_float32_holds(self):
        x = np.array([-3e38, 3e38], np.float32)
        q, scale, zero_point = quantize_int8(Tensor(x))
        assert np.isfinite(scale)
        assert_close(dequantize_int8(q, scale, zero_point).numpy() / 1e38, x / 1e38, rtol=0.01)

    @pytest.mark.parametrize("low", [-10.0, -3.3, -1e-3, 0.0])
    @pytest.mark.parametrize("high", [0.0, 1e-3, 2.2, 10.0])
    def test_asymmetric_uses_all_values_but_perhaps_one(self, low, high):
        if low == high:
            high = 1.0
        q, _, _ = quantize_int8(Tensor(np.linspace(low, high, 2001)))
        assert len(np.unique(q)) >= 255

    def test_symmetric_never_uses_minus_128(self):
        q, _, zero_point = quantize_int8(Tensor([-1.0, -0.999, 0.3]), symmetric=True)
        assert (q.min(), zero_point) == (-127, 0)

    @pytest.mark.parametrize(("low", "high"), [(1.0, -1.0), (np.nan, 1.0), (0.0, np.inf)])
    def test_a_range_that_is_none_is_refused(self, low, high):
        with pytest.raises(ValueError, match="scale_and_zero_point needs finite low <= high"):
            scale_and_zero_point(low, high)

    def test_a_range_is_widened_to_zero(self):
        assert scale_and_zero_point(5, 6) == scale_and_zero_point(0, 6)
        assert scale_and_zero_point(-6, -5) == scale_and_zero_point(-6, 0)


class TestForms:
    @pytest.mark.parametrize("symmetric", [False, True])
    @pytest.mark.parametrize(("axis", "shape"), [(None, ()), (0, (3, 1, 1)), (1, (1, 4, 1)), (-1, (1, 1, 5))])
    def test_dtypes_and_shapes(self, axis, shape, symmetric):
        q, scale, zero_point = quantize_int8(randn(3, 4, 5), symmetric=symmetric, axis=axis)
        assert (q.dtype, q.shape, q.nbytes) == (np.int8, (3, 4, 5), 60)
        assert (scale.dtype, scale.shape) == (np.float32, shape)
        assert (zero_point.dtype, zero_point.shape) == (np.int32, shape)

    def test_every_channel_is_quantized_as_if_alone(self):
        x = randn(6, 3) * Tensor([0.01, 1.0, 100.0])
        q, scale, zero_point = quantize_int8(x, axis=1)
        for i in range(3):
            alone = quantize_int8(x[:, i])
            assert_close(q[:, i], alone[0], rtol=0, atol=0)
            assert (scale[0, i], zero_point[0, i]) == alone[1:]

    @pytest.mark.parametrize(("shape", "axis"), [((0,), None), ((0, 3), 1), ((0, 3), 0), ((3, 0), 0), ((2, 0, 4), -1)])
    def test_empty_tensors(self, shape, axis):
        q, scale, zero_point = quantize_int8(Tensor(np.zeros(shape)), axis=axis)
        assert (q.shape, q.dtype) == (shape, np.int8)
        assert dequantize_int8(q, scale, zero_point).shape == shape
        assert (np.asarray(scale) == 1).all()

    def test_a_single_number(self):
        q, scale, zero_point = quantize_int8(Tensor(2.0))
        assert_close(dequantize_int8(q, scale, zero_point), np.float32(2.0))

    @pytest.mark.parametrize("data", [[1, 2, 3], [True, False], np.array([0.5, 1.5]), np.arange(4, dtype=np.float16)])
    def test_arrays_lists_integers_and_booleans_are_taken(self, data):
        q, scale, zero_point = quantize_int8(data)
        assert scale.dtype == np.float32
        assert_close(dequantize_int8(q, scale, zero_point), np.asarray(data, np.float32), atol=0.006)

    def test_double_precision_is_quantized_alike(self):
        x = np.random.default_rng(0).normal(size=50).astype(np.float32)
        for one, other in zip(quantize_int8(Tensor(x)), quantize_int8(Tensor(x, dtype=np.float64))):
            assert_close(one, other, rtol=0, atol=0)

    def test_floats_come_back_as_float32(self):
        assert dequantize_int8(*quantize_int8(randn(3, 4), axis=0)).dtype == np.float32

    def test_bytes_in_a_tensor_are_taken_back_too(self):
        q, scale, zero_point = quantize_int8(Tensor([1.0, 2.0]))
        assert_close(dequantize_int8(Tensor(q), scale, zero_point), dequantize_int8(q, scale, zero_point))

    def test_far_from_the_zero_point_nothing_wraps_around(self):
        assert dequantize_int8(np.array([127, -128], np.int8), 1.0, -128).tolist() == [255, 0]

    def test_the_tensor_is_only_read(self):
        x = randn(4, 4)
        before = x.numpy().copy()
        quantize_int8(x, axis=1)
        assert_close(x, before, rtol=0, atol=0)

    def test_what_is_quantized_holds_no_view_of_the_floats(self):
        x = randn(4, 4)
        assert not any(np.shares_memory(x.data, part) for part in quantize_int8(x, axis=1))


class TestErrors:
    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("axis", [None, 0])
    def test_what_is_not_finite_is_refused(self, bad, axis):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ValueError, match="2 of 4 are NaN or infinite"):
                quantize_int8(Tensor([[1.0, bad], [bad, 2.0]]), axis=axis)

    @pytest.mark.parametrize("bits", [4, 16, 1, 8.5, None])
    def test_only_eight_bits(self, bits):
        with pytest.raises(ValueError, match="8 bits per number, got bits="):
            quantize_int8(Tensor([1.0]), bits=bits)

    @pytest.mark.parametrize("axis", [2, -3])
    def test_an_axis_that_is_not_there(self, axis):
        with pytest.raises(ValueError, match=rf"axis {axis} is not one of a tensor of shape \(2, 3\)"):
            quantize_int8(randn(2, 3), axis=axis)

    @pytest.mark.parametrize("q", [np.zeros(3, np.float32), np.zeros(3, np.int64), Tensor([1, 2]), [1, 2]])
    def test_only_bytes_are_dequantized(self, q):
        with pytest.raises(TypeError, match="needs an array of int8"):
            dequantize_int8(q, 1.0, 0)
