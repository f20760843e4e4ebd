"""conv_transpose2d and conv_transpose1d: the adjoints."""

import numpy as np
import pytest

from support.checks import assert_close
from support.listening import announced
from tinytorch.core.autograd import gradcheck
from tinytorch.core.spatial import conv1d, conv2d, conv_transpose1d, conv_transpose2d
from tinytorch.core.tensor import Tensor, from_numpy

# image, weight, stride, padding, output_padding, groups, dilation
CASES = {
    "plain": ((2, 3, 3, 4), (3, 2, 2, 3), 1, 0, 0, 1, 1),
    "stride-2": ((1, 2, 3, 3), (2, 3, 3, 3), 2, 1, 1, 1, 1),
    "unequal": ((2, 2, 4, 2), (2, 2, 3, 2), (1, 3), (1, 0), (0, 2), 1, 1),
    "groups": ((1, 4, 3, 3), (4, 3, 2, 2), 2, 0, 0, 2, 1),
    "dilation": ((1, 2, 3, 4), (2, 2, 2, 3), 2, 1, 1, 1, (3, 2)),
    "dilation-gives-room": ((1, 1, 3, 3), (1, 1, 2, 2), 1, 0, (2, 1), 1, (3, 2)),
    "1x1": ((1, 2, 3, 3), (2, 4, 1, 1), 1, 0, 0, 1, 1),
    "1x1-stride-2": ((1, 2, 3, 3), (2, 2, 1, 1), 2, 0, 1, 1, 1),
    "more-cut-off-than-the-kernel-adds": ((1, 1, 5, 5), (1, 1, 2, 2), 1, 2, 0, 1, 1),
}
cases = pytest.mark.parametrize(
    ("image", "weight", "stride", "padding", "extra", "groups", "dilation"), CASES.values(), ids=CASES
)


def drawn(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in shapes]


def test_one_pixel_stamps_its_kernel():
    kernel = np.array([[[[1, 2], [3, 4]]]], np.float32)
    assert_close(conv_transpose2d([[[[10.0]]]], kernel), 10 * kernel)


def test_stamps_add_up_where_they_overlap():
    x = [[[1.0, 10.0]]]
    assert_close(conv_transpose1d(x, [[[1.0, 2.0, 3.0]]]), np.array([[[1, 12, 23, 30]]], np.float32))
    assert_close(conv_transpose1d(x, [[[1.0, 2.0, 3.0]]], stride=2), np.array([[[1, 2, 13, 20, 30]]], np.float32))
    assert_close(conv_transpose1d(x, [[[1.0, 2.0, 3.0]]], stride=2, padding=1), np.array([[[2, 13, 20]]], np.float32))


def test_output_padding_adds_at_the_end():
    x, w = [[[1.0, 10.0]]], [[[1.0, 2.0, 3.0]]]
    got = conv_transpose1d(x, w, stride=2, padding=1, output_padding=1)
    assert_close(got, np.array([[[2, 13, 20, 30]]], np.float32))
    got = conv_transpose1d(x, w, stride=4, output_padding=3)
    assert_close(got, np.array([[[1, 2, 3, 0, 10, 20, 30, 0, 0, 0]]], np.float32))


@cases
def test_it_is_the_adjoint_of_the_convolution(image, weight, stride, padding, extra, groups, dilation):
    x, w = drawn(image, weight)
    out = conv_transpose2d(from_numpy(x), from_numpy(w), None, stride, padding, extra, groups, dilation)
    (y,) = drawn(out.shape)
    read = conv2d(from_numpy(y), from_numpy(w), None, stride, padding, dilation, groups).data
    assert_close((out.data * y).sum(), (x * read[:, :, : image[2], : image[3]]).sum(), rtol=1e-10)


@cases
def test_gradients(image, weight, stride, padding, extra, groups, dilation):
    def f(x, w, b):
        return conv_transpose2d(x, w, b, stride, padding, extra, groups, dilation)

    assert gradcheck(f, drawn(image, weight, (weight[1] * groups,)))


@pytest.mark.parametrize(
    "settings", [{}, {"stride": 3, "padding": 1, "output_padding": 2}, {"dilation": 2, "stride": 2}]
)
def test_gradients_along_one_axis(settings):
    assert gradcheck(lambda x, w, b: conv_transpose1d(x, w, b, **settings), drawn((2, 2, 4), (2, 3, 3), (3,)))
    assert gradcheck(lambda x, w: conv_transpose1d(x, w, **settings), drawn((2, 2, 4), (2, 3, 3)))


@pytest.mark.parametrize("length", range(5, 12))
def test_the_right_output_padding_leads_back_to_the_size(length):
    w = np.zeros((1, 1, 3))
    down = conv1d(np.zeros((1, 1, length)), w, stride=3, padding=1).shape[2]
    lost = (length + 2 - 3) % 3
    assert conv_transpose1d(np.zeros((1, 1, down)), w, stride=3, padding=1, output_padding=lost).shape[2] == length


def test_the_bias_is_added_once_per_output_channel():
    out = conv_transpose2d(np.zeros((1, 1, 2, 2)), np.zeros((1, 2, 3, 3)), np.array([1.0, -1.0]), stride=2)
    assert out.shape == (1, 2, 5, 5)
    assert (out.data[:, 0] == 1).all()
    assert (out.data[:, 1] == -1).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(dtype):
    x, w, b = (Tensor(a, requires_grad=True, dtype=dtype) for a in drawn((1, 2, 3, 3), (2, 3, 3, 3), (3,)))
    out = conv_transpose2d(x, w, b, 2, 1, 1)
    assert out.dtype == dtype
    out.sum().backward()
    assert [t.grad.dtype for t in (x, w, b)] == [dtype] * 3


def test_an_empty_batch_stays_empty():
    x = Tensor(np.zeros((0, 2, 3, 3)), requires_grad=True)
    out = conv_transpose2d(x, np.ones((2, 3, 3, 3)))
    assert out.shape == (0, 3, 5, 5)
    out.sum().backward()
    assert x.grad.shape == (0, 2, 3, 3)


def test_it_is_one_operation():
    ((op, inputs, _),) = announced(lambda: conv_transpose2d(*(Tensor(a) for a in drawn((1, 2, 3, 3), (2, 3, 3, 3)))))
    assert (op, len(inputs)) == ("conv_transpose2d", 2)


@pytest.mark.parametrize(
    ("x", "weight", "settings", "message"),
    [
        ((2, 3, 3), (2, 3, 2, 2), {}, r"conv_transpose2d needs inputs \(N, C, H, W\), got shape \(2, 3, 3\)"),
        ((1, 3, 3, 3), (2, 3, 2, 2), {}, r"needs inputs of 2 channels, got 3 in \(1, 3, 3, 3\)"),
        ((1, 3, 3, 3), (3, 3, 2, 2), {"groups": 2}, "channels divisible by 2, got 3"),
        ((1, 2, 3, 3), (2, 3, 2, 2), {"output_padding": 1}, "output_padding below the larger of stride"),
        ((1, 2, 3, 3), (2, 3, 2, 2), {"padding": 2}, r"leaves nothing of an output of \(0, 0\) pixels"),
        ((1, 2, 3, 3), (2, 3, 2, 2), {"padding": "same"}, "padding"),
        ((1, 2, 3, 3), (2, 3, 2, 2), {"bias": np.zeros(2)}, r"needs a bias \(3,\)"),
    ],
)
def test_what_does_not_fit_is_said(x, weight, settings, message):
    with pytest.raises((ValueError, TypeError), match=message):
        conv_transpose2d(np.zeros(x), np.zeros(weight), **settings)
