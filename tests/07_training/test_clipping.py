"""The norm of all gradients, and its limit."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.tensor import Tensor
from tinytorch.core.training import clip_grad_norm, gradient_norm


def with_gradients(*gradients, dtype=np.float32):
    """Parameters that have these gradients."""
    tensors = []
    for gradient in gradients:
        zeros = np.zeros(1 if gradient is None else np.shape(gradient))
        tensors.append(Tensor(zeros, requires_grad=True, dtype=dtype))
        tensors[-1].grad = None if gradient is None else np.asarray(gradient, dtype)
    return tensors


class TestNorm:
    def test_over_all_parameters_together(self):
        assert gradient_norm(with_gradients([3, 0], [4])) == 5.0

    def test_parameters_without_gradient_count_nothing(self):
        assert gradient_norm(with_gradients([3, 0], None, [4])) == 5.0

    def test_without_any_gradient(self):
        assert gradient_norm(with_gradients(None)) == 0.0
        assert gradient_norm([]) == 0.0

    def test_it_is_a_python_float(self):
        assert type(gradient_norm(with_gradients([3.0]))) is float

    def test_a_single_number(self):
        assert gradient_norm(with_gradients(-2.0)) == 2.0

    def test_any_layout(self):
        (w,) = with_gradients(np.arange(12).reshape(3, 4))
        for grad in (w.grad.T, w.grad[:, ::2], np.broadcast_to(np.float32(2), (3, 4))):
            w.grad = grad
            assert_close(gradient_norm([w]), float(np.sqrt((grad.astype(float) ** 2).sum())))

    @pytest.mark.parametrize("scale", [1e-30, 1e-22, 1e18, 1e30, 1e37])
    def test_squares_outside_the_range_of_float32(self, scale):
        assert_close(gradient_norm(with_gradients([3 * scale, 0], [4 * scale])) / scale, 5.0)

    def test_many_small_terms_are_not_lost(self):
        """A running float32 sum of 1 + 3,000,000 terms of 1e-8 stays 1."""
        gradient = np.full(3_000_001, 1e-4, np.float32)
        gradient[0] = 1
        assert_close(gradient_norm(with_gradients(gradient)), math.sqrt(1.03), rtol=1e-4)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_any_float(self, dtype):
        assert_close(gradient_norm(with_gradients([300, 0], [400], dtype=dtype)), 500.0)

    @pytest.mark.parametrize(("bad", "want"), [(math.nan, math.nan), (math.inf, math.inf), (-math.inf, math.inf)])
    def test_what_is_no_number_shows(self, bad, want):
        got = gradient_norm(with_gradients([1.0, bad], [1.0]))
        assert_close(got, want)


class TestClip:
    def test_all_are_scaled_alike(self):
        a, b = with_gradients([3, 0], [4])
        clip_grad_norm([a, b], 1.0)
        assert_close(a.grad, np.array([0.6, 0], np.float32))
        assert_close(b.grad, np.array([0.8], np.float32))

    def test_it_returns_the_norm_before(self):
        assert clip_grad_norm(with_gradients([3, 0], [4]), 1.0) == 5.0

    @pytest.mark.parametrize("max_norm", [5.0, 10, math.inf])
    def test_short_gradients_are_left_alone(self, max_norm):
        a, b = with_gradients([3, 0], [4])
        before = a.grad, b.grad
        assert clip_grad_norm([a, b], max_norm) == 5.0
        assert a.grad is before[0]
        assert b.grad.tolist() == [4]

    def test_one_array_held_by_two_is_scaled_once(self):
        a, b = with_gradients([3.0], [0.0])
        b.grad = a.grad
        clip_grad_norm([a, b], math.sqrt(18) / 3)
        assert_close(a.grad, np.array([1], np.float32))
        assert_close(b.grad, np.array([1], np.float32))

    @pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 3)])
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_gradients_stay_arrays_of_their_dtype(self, shape, dtype):
        a, b = with_gradients(np.ones(shape), [100.0], dtype=dtype)
        clip_grad_norm([a, b], 0.5)
        assert type(a.grad) is np.ndarray
        assert (a.grad.shape, a.grad.dtype) == (shape, dtype)

    def test_a_generator_of_parameters(self):
        a, b = with_gradients([3, 0], [4])
        assert clip_grad_norm((p for p in (a, b)), 2.5) == 5.0
        assert_close(b.grad, np.array([2], np.float32))

    def test_one_tensor(self):
        (a,) = with_gradients([3, 4])
        assert clip_grad_norm(a, 1.0) == 5.0
        assert_close(a.grad, np.array([0.6, 0.8], np.float32))

    def test_enormous_gradients(self):
        (a,) = with_gradients([3e37, 4e37])
        assert_close(clip_grad_norm([a], 1.0), 5e37)
        assert_close(a.grad, np.array([0.6, 0.8], np.float32))


class TestRefusals:
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_what_is_no_number_is_named_and_nothing_scaled(self, bad):
        a, b, c = with_gradients([30.0], [1.0, bad], None)
        with pytest.raises(ValueError, match=r"NaN or infinity is in the gradient of layer\.b \(2,\)$"):
            clip_grad_norm([("layer.a", a), ("layer.b", b), ("c", c)], 1.0)
        assert a.grad.tolist() == [30]

    def test_without_names_they_are_numbered(self):
        with pytest.raises(ValueError, match=r"in the gradient of parameter 1 \(1,\)"):
            clip_grad_norm(with_gradients([1.0], [math.nan]), 1.0)

    @pytest.mark.parametrize("max_norm", [0, -1, math.nan])
    def test_a_limit_that_makes_no_sense(self, max_norm):
        with pytest.raises(ValueError, match="clip_grad_norm needs max_norm > 0"):
            clip_grad_norm(with_gradients([1.0]), max_norm)
