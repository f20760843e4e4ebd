"""conv2d and conv1d: values, shapes, gradients, errors."""

import numpy as np
import pytest

from support.checks import assert_close
from support.images import convolved
from support.listening import announced
from tinytorch.core.autograd import gradcheck, no_grad
from tinytorch.core.spatial import conv1d, conv2d
from tinytorch.core.tensor import Tensor, from_numpy

IMAGE = np.arange(25, dtype=np.float32).reshape(1, 1, 5, 5)
EDGE = np.array([[[[1, 0, -1], [2, 0, -2], [1, 0, -1]]]], np.float32)

# image, weight, stride, padding, dilation, groups
GEOMETRIES = {
    "plain": ((2, 3, 5, 6), (4, 3, 3, 3), 1, 0, 1, 1),
    "padded": ((2, 2, 4, 7), (3, 2, 3, 3), 1, 1, 1, 1),
    "padded-unequally": ((1, 2, 5, 4), (2, 2, 3, 2), 1, (2, 1), 1, 1),
    "wide-kernel": ((2, 1, 4, 9), (2, 1, 1, 5), 1, (0, 2), 1, 1),
    "tall-kernel": ((2, 1, 9, 4), (2, 1, 5, 1), 1, (2, 0), 1, 1),
    "stride-2": ((2, 2, 7, 8), (3, 2, 3, 3), 2, 1, 1, 1),
    "strides-3-and-1": ((1, 2, 8, 5), (2, 2, 2, 3), (3, 1), (1, 0), 1, 1),
    "stride-beyond-the-kernel": ((1, 2, 9, 8), (2, 2, 2, 1), 3, 0, 1, 1),
    "patches-that-touch": ((2, 2, 6, 8), (3, 2, 2, 2), 2, 0, 1, 1),
    "dilation-2": ((1, 2, 8, 7), (2, 2, 3, 3), 1, 2, 2, 1),
    "dilation-and-stride": ((1, 1, 9, 10), (2, 1, 2, 3), (2, 3), (1, 2), (3, 2), 1),
    "groups-2": ((2, 4, 5, 5), (6, 2, 3, 3), 1, 1, 1, 2),
    "depthwise": ((2, 3, 5, 4), (3, 1, 3, 3), 1, 1, 1, 3),
    "depthwise-doubled": ((1, 3, 5, 5), (6, 1, 2, 2), 2, 0, 1, 3),
    "1x1": ((2, 3, 4, 5), (4, 3, 1, 1), 1, 0, 1, 1),
    "1x1-stride-2": ((2, 3, 5, 5), (4, 3, 1, 1), 2, 0, 1, 1),
    "1x1-padded": ((1, 2, 3, 3), (2, 2, 1, 1), 1, 2, 1, 1),
    "kernel-as-large-as-the-image": ((3, 2, 4, 5), (2, 2, 4, 5), 1, 0, 1, 1),
    "border-wider-than-the-image": ((1, 1, 2, 2), (1, 1, 3, 3), 1, 4, 1, 1),
}
geometries = pytest.mark.parametrize(
    ("image", "weight", "stride", "padding", "dilation", "groups"), GEOMETRIES.values(), ids=GEOMETRIES
)


def drawn(*shapes, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


# Values


def test_a_vertical_edge_filter_on_a_ramp_by_hand():
    # every row grows by 1 per pixel: (x - (x + 2)) * (1 + 2 + 1) = -8 everywhere
    assert_close(conv2d(IMAGE, EDGE), np.full((1, 1, 3, 3), -8, np.float32))


def test_the_kernel_is_not_flipped():
    kernel = np.zeros((1, 1, 2, 2), np.float32)
    kernel[0, 0, 0, 1] = 1  # looks at the right neighbour
    assert_close(conv2d(IMAGE, kernel), IMAGE[:, :, :4, 1:])


def test_the_bias_is_added_once_per_output_channel():
    weight = np.ones((2, 1, 3, 3), np.float32)
    out = conv2d(np.zeros((1, 1, 4, 4), np.float32), weight, np.array([1.5, -2.0], np.float32), padding=1)
    assert_close(out, np.broadcast_to(np.array([1.5, -2.0], np.float32)[:, None, None], (1, 2, 4, 4)).copy())


def test_the_border_is_zeros_on_all_four_sides():
    out = conv2d(np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 3, 3), np.float32), padding=1)
    assert_close(out[0, 0], np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]], np.float32))


@geometries
def test_it_is_the_definition(image, weight, stride, padding, dilation, groups):
    x, w, b = drawn(image, weight, weight[:1])
    got = conv2d(from_numpy(x), from_numpy(w), from_numpy(b), stride, padding, dilation, groups)
    assert_close(got, convolved(x, w, b, stride, padding, dilation, groups), rtol=1e-12, atol=1e-12)


def test_work_in_several_blocks_is_the_same_work():
    # 130 * 9 rows of patches: images are done in bands of rows, with a shorter one at the end
    x, w, g = drawn((3, 130, 23, 40), (2, 130, 3, 3), (3, 2, 23, 40))
    x, w = Tensor(x, requires_grad=True, dtype=np.float64), Tensor(w, requires_grad=True, dtype=np.float64)
    out = conv2d(x, w, padding=1)
    assert_close(out, convolved(x.data, w.data, padding=1), rtol=1e-10, atol=1e-10)
    out.backward(g)
    # the gradient of a sum of products, tap by tap
    padded = np.pad(x.data, [(0, 0), (0, 0), (1, 1), (1, 1)])
    dw, dx = np.zeros(w.shape), np.zeros(padded.shape)
    for i in range(3):
        for j in range(3):
            dw[:, :, i, j] = np.einsum("nfhw,nchw->fc", g, padded[:, :, i : i + 23, j : j + 40])
            dx[:, :, i : i + 23, j : j + 40] += np.einsum("nfhw,fc->nchw", g, w.data[:, :, i, j])
    assert_close(w.grad, dw, rtol=1e-10, atol=1e-10)
    assert_close(x.grad, dx[:, :, 1:-1, 1:-1], rtol=1e-10, atol=1e-10)


def test_many_small_images_are_the_same_as_one_by_one():
    x, w = drawn((300, 4, 9, 9), (3, 4, 3, 3))
    got = conv2d(from_numpy(x), from_numpy(w), padding=1).data
    for n in (0, 157, 299):
        assert_close(got[n : n + 1], convolved(x[n : n + 1], w, padding=1), rtol=1e-12, atol=1e-12)


def test_images_in_any_layout_of_memory():
    x, w = drawn((2, 5, 6, 3), (4, 3, 3, 3))
    swapped = from_numpy(x).permute(0, 3, 1, 2)
    assert_close(conv2d(swapped, from_numpy(w)), convolved(np.ascontiguousarray(swapped.data), w), rtol=1e-12)


def test_groups_are_separate_convolutions():
    x, w = drawn((2, 6, 5, 5), (4, 3, 3, 3))
    got = conv2d(from_numpy(x), from_numpy(w), groups=2)
    first = conv2d(from_numpy(x[:, :3]), from_numpy(w[:2])).data
    second = conv2d(from_numpy(x[:, 3:]), from_numpy(w[2:])).data
    assert_close(got, np.concatenate([first, second], axis=1), rtol=1e-12)


def test_dilation_is_a_kernel_with_holes():
    x, w = drawn((1, 2, 9, 9), (3, 2, 3, 3))
    holes = np.zeros((3, 2, 5, 5))
    holes[:, :, ::2, ::2] = w
    assert_close(conv2d(from_numpy(x), from_numpy(w), dilation=2), convolved(x, holes), rtol=1e-12)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (2, 2), (5, 2), (4, 3)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_keeps_the_size_and_pads_the_odd_pixel_at_the_end(kernel, dilation):
    x, w = drawn((1, 1, 6, 7), (1, 1, *kernel))
    totals = [dilation * (k - 1) for k in kernel]
    padded = np.pad(x, [(0, 0), (0, 0), *((t // 2, t - t // 2) for t in totals)])
    got = conv2d(from_numpy(x), from_numpy(w), padding="same", dilation=dilation)
    assert got.shape == (1, 1, 6, 7)
    assert_close(got, convolved(padded, w, dilation=dilation), rtol=1e-12)


def test_valid_is_no_padding():
    x, w = drawn((1, 1, 6, 7), (1, 1, 3, 3))
    assert_close(conv2d(x, w, padding="valid"), conv2d(x, w).data, rtol=0, atol=0)


def test_an_empty_batch_stays_empty_and_teaches_nothing():
    w = Tensor(np.ones((4, 3, 3, 3)), requires_grad=True)
    out = conv2d(np.zeros((0, 3, 8, 8)), w, padding=1)
    assert out.shape == (0, 4, 8, 8)
    out.sum().backward()
    assert_close(w.grad, np.zeros((4, 3, 3, 3), np.float32))


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "padding", "dilation", "want"),
    [
        (5, 3, 1, 0, 1, 3),
        (28, 5, 1, 2, 1, 28),
        (224, 7, 2, 3, 1, 112),
        (32, 3, 2, 1, 1, 16),
        (7, 2, 3, 0, 1, 2),
        (10, 3, 1, 0, 3, 4),
        (10, 3, 2, 1, 2, 4),
        (3, 3, 5, 0, 1, 1),
    ],
)
def test_the_size_of_the_output(length, kernel, stride, padding, dilation, want):
    out = conv1d(np.zeros((1, 1, length)), np.zeros((1, 1, kernel)), None, stride, padding, dilation)
    assert out.shape == (1, 1, want)


def test_signals_are_images_of_one_row():
    x, w, b = drawn((2, 4, 11), (6, 2, 3), (6,))
    for settings in ({}, {"stride": 2, "padding": 3}, {"dilation": 3, "padding": 1}, {"padding": "same"}):
        got = conv1d(from_numpy(x), from_numpy(w), from_numpy(b), groups=2, **settings)
        pairs = {name: value if isinstance(value, str) else (0, value) for name, value in settings.items()}
        pairs = {name: (1, value[1]) if name in ("stride", "dilation") else value for name, value in pairs.items()}
        want = conv2d(from_numpy(x[:, :, None]), from_numpy(w[:, :, None]), from_numpy(b), groups=2, **pairs)
        assert_close(got, want.data[:, :, 0], rtol=1e-12)


def test_a_running_mean_of_a_signal():
    assert_close(conv1d([[[1.0, 2.0, 6.0, 0.0]]], [[[0.5, 0.5]]]), np.array([[[1.5, 4, 3]]], np.float32))


# Gradients


@geometries
def test_gradients(image, weight, stride, padding, dilation, groups):
    def f(x, w, b):
        return conv2d(x, w, b, stride, padding, dilation, groups)

    assert gradcheck(f, drawn(image, weight, weight[:1]))


@pytest.mark.parametrize(
    ("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 2, 2), (1, "same", 2)]
)
def test_gradients_along_one_axis(stride, padding, dilation):
    def f(x, w, b):
        return conv1d(x, w, b, stride, padding, dilation, groups=2)

    assert gradcheck(f, drawn((2, 4, 9), (2, 2, 3), (2,)))


def test_gradients_without_a_bias_and_with_same():
    assert gradcheck(lambda x, w: conv2d(x, w, padding="same"), drawn((2, 2, 4, 5), (3, 2, 2, 4)))


def test_the_gradient_of_a_worked_example():
    x = Tensor([[[[1.0, 2.0], [3.0, 4.0]]]], requires_grad=True)
    w = Tensor([[[[10.0, 20.0]]]], requires_grad=True)
    conv2d(x, w).sum().backward()
    assert_close(x.grad, np.array([[[[10, 20], [10, 20]]]], np.float32))
    assert_close(w.grad, np.array([[[[4, 6]]]], np.float32))


def test_only_what_is_asked_for_is_computed(monkeypatch):
    from tinytorch.core import spatial

    x, w, b = (from_numpy(a) for a in drawn((2, 3, 6, 6), (4, 3, 3, 3), (4,)))
    w.requires_grad = b.requires_grad = True
    out = conv2d(x, w, b)
    monkeypatch.setattr(spatial, "_scatter", None)  # the gradient of the images: nobody may call it
    out.backward(np.ones(out.shape))
    assert x.grad is None
    assert_close(b.grad, np.full(4, 2 * 4 * 4, np.float64))


def test_a_frozen_kernel_still_passes_gradients_on():
    x, w = (from_numpy(a) for a in drawn((1, 2, 4, 4), (3, 2, 3, 3)))
    x.requires_grad = True
    conv2d(x, w, padding=1).sum().backward()
    assert w.grad is None
    assert_close(x.grad[0, :, 1:3, 1:3], np.broadcast_to(w.data.sum(axis=(0, 2, 3))[:, None, None], (2, 2, 2)).copy())


def test_weight_shared_by_two_convolutions_collects_both():
    x, w = drawn((1, 1, 5, 5), (1, 1, 3, 3))
    assert gradcheck(lambda x, w: conv2d(conv2d(x, w, padding=1), w, padding=1), [x, w])


# dtype and announcement


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(dtype):
    x, w, b = (Tensor(a, requires_grad=True, dtype=dtype) for a in drawn((1, 2, 5, 5), (2, 2, 3, 3), (2,)))
    out = conv2d(x, w, b, stride=2, padding=1)
    assert out.dtype == dtype
    out.sum().backward()
    assert [t.grad.dtype for t in (x, w, b)] == [dtype] * 3


def test_integers_become_float32():
    assert conv2d(np.ones((1, 1, 3, 3), np.int64), np.ones((1, 1, 2, 2), np.int64)).dtype == np.float32


def test_the_wider_dtype_wins():
    x = Tensor(np.ones((1, 1, 3, 3)), dtype=np.float32)
    w, b = Tensor(np.ones((1, 1, 2, 2)), dtype=np.float64), Tensor([1.0], dtype=np.float32)
    assert conv2d(x, w, b).dtype == np.float64


@pytest.mark.parametrize(("function", "axes"), [(conv2d, 2), (conv1d, 1)])
def test_it_is_one_operation(function, axes):
    x, w, b = (Tensor(a) for a in drawn((1, 2, *[6] * axes), (3, 2, *[3] * axes), (3,)))
    ((op, inputs, _),) = announced(lambda: function(x, w, b, padding=1))
    assert op == function.__name__
    assert [id(t) for t in inputs] == [id(x), id(w), id(b)]


def test_inputs_are_not_written_to():
    x, w, b = drawn((2, 2, 5, 5), (2, 2, 3, 3), (2,))
    kept = [a.copy() for a in (x, w, b)]
    tensors = [from_numpy(a) for a in (x, w, b)]
    for t in tensors:
        t.requires_grad = True
    g = np.ones((2, 2, 5, 5))
    conv2d(*tensors, padding=1).backward(g)
    for before, after in zip(kept, (x, w, b)):
        assert_close(after, before, rtol=0, atol=0)
    assert (g == 1).all()


def test_nothing_is_kept_under_no_grad():
    x, w = (Tensor(a, requires_grad=True) for a in drawn((1, 1, 4, 4), (1, 1, 3, 3)))
    with no_grad():
        assert conv2d(x, w).requires_grad is False


# Errors


@pytest.mark.parametrize(
    ("x", "weight", "settings", "message"),
    [
        ((3, 8, 8), (4, 3, 3, 3), {}, r"conv2d needs inputs \(N, C, H, W\), got shape \(3, 8, 8\).*unsqueeze"),
        ((8, 8), (4, 3, 3, 3), {}, r"conv2d needs inputs \(N, C, H, W\), got shape \(8, 8\)"),
        ((1, 3, 8, 8), (4, 3, 3), {}, r"weight of 4 axes.*\(4, 3, 3\)"),
        ((1, 3, 8, 8), (4, 3, 0, 3), {}, r"none of them empty.*\(4, 3, 0, 3\)"),
        ((1, 1, 8, 8), (4, 3, 3, 3), {}, r"needs inputs of 3 channels, got 1 in shape \(1, 1, 8, 8\)"),
        ((1, 4, 8, 8), (4, 4, 3, 3), {"groups": 2}, "groups=2 needs inputs of 8 channels, got 4"),
        ((1, 3, 8, 8), (4, 1, 3, 3), {"groups": 2}, "channels divisible by 2, got 3 in and 4 out"),
        ((1, 4, 8, 8), (3, 2, 3, 3), {"groups": 2}, "channels divisible by 2, got 4 in and 3 out"),
        ((1, 1, 4, 9), (1, 1, 5, 5), {}, r"reaches over 5 does not fit into 4 \+ 0 of padding along axis 2"),
        ((1, 1, 9, 2), (1, 1, 5, 5), {"padding": 1}, r"over 5 does not fit into 2 \+ 2 of padding along axis 3"),
        ((1, 1, 4, 4), (1, 1, 3, 3), {"dilation": 2}, "reaches over 5 does not fit into 4"),
        ((1, 1, 4, 4), (1, 1, 3, 3), {"stride": 0}, "stride of at least 1, got 0"),
        ((1, 1, 4, 4), (1, 1, 3, 3), {"dilation": (1, 0)}, r"dilation of at least 1, got \(1, 0\)"),
        ((1, 1, 4, 4), (1, 1, 3, 3), {"padding": -1}, "padding of at least 0, got -1"),
        ((1, 1, 4, 4), (1, 1, 3, 3), {"padding": (1, 1, 1)}, r"padding as one number or 2, got \(1, 1, 1\)"),
        ((1, 1, 4, 4), (1, 1, 3, 3), {"padding": "full"}, "'same' or 'valid', got 'full'"),
        ((1, 1, 4, 4), (1, 1, 3, 3), {"padding": "same", "stride": 2}, "only at stride 1"),
        ((1, 1, 4, 4), (1, 1, 3, 3), {"groups": 0}, "groups of at least 1, got 0"),
        ((1, 1, 4, 4), (2, 1, 3, 3), {"bias": np.zeros(3)}, r"needs a bias \(2,\).*got shape \(3,\)"),
        ((1, 1, 4, 4), (2, 1, 3, 3), {"bias": np.zeros((2, 1))}, r"needs a bias \(2,\).*got shape \(2, 1\)"),
    ],
)
def test_what_does_not_fit_is_said(x, weight, settings, message):
    with pytest.raises(ValueError, match=message):
        conv2d(np.zeros(x), np.zeros(weight), **settings)


@pytest.mark.parametrize("settings", [{"stride": 1.5}, {"padding": True}, {"dilation": "2"}])
def test_settings_are_whole_numbers(settings):
    with pytest.raises((TypeError, ValueError), match="conv2d needs"):
        conv2d(np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 2, 2)), **settings)


def test_conv1d_speaks_of_signals():
    with pytest.raises(ValueError, match=r"conv1d needs inputs \(N, C, L\), got shape \(1, 1, 4, 4\)"):
        conv1d(np.zeros((1, 1, 4, 4)), np.zeros((1, 1, 2)))
    with pytest.raises(ValueError, match="conv1d: a kernel that reaches over 5 does not fit into 4"):
        conv1d(np.zeros((1, 1, 4)), np.zeros((1, 1, 5)))
