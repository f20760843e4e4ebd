"""What holds for images and kernels of any size."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.checks import assert_close
from support.images import convolved

from tinytorch.core.spatial import avg_pool2d, batch_norm, conv2d, conv_transpose2d, max_pool2d
from tinytorch.core.tensor import from_numpy

fixed = settings(derandomize=True, deadline=None, max_examples=60)
small = st.integers(1, 3)
pairs = st.tuples(small, small)
borders = st.tuples(st.integers(0, 3), st.integers(0, 3))
sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@st.composite
def convolutions(draw):
    """Arrays x and weight, and (stride, padding, dilation, groups), that fit together."""
    groups = draw(small)
    (H, W), (KH, KW), dilation, padding = draw(sizes), draw(pairs), draw(pairs), draw(borders)
    assume(dilation[0] * (KH - 1) < H + 2 * padding[0] and dilation[1] * (KW - 1) < W + 2 * padding[1])
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    x = rng.normal(size=(draw(st.integers(0, 3)), groups * draw(small), H, W))
    weight = rng.normal(size=(groups * draw(small), x.shape[1] // groups, KH, KW))
    return x, weight, (draw(pairs), padding, dilation, groups)


@fixed
@given(convolutions())
def test_a_convolution_is_the_sum_over_its_taps(drawn):
    x, w, how = drawn
    assert_close(conv2d(from_numpy(x), from_numpy(w), None, *how), convolved(x, w, None, *how), rtol=1e-10, atol=1e-10)


@fixed
@given(convolutions())
def test_a_convolution_is_linear_in_the_image_and_in_the_kernel(drawn):
    x, w, how = drawn
    out = conv2d(from_numpy(x), from_numpy(w), None, *how).data
    assert_close(conv2d(from_numpy(2 * x), from_numpy(w), None, *how), 2 * out, rtol=1e-12)
    assert_close(conv2d(from_numpy(x), from_numpy(-3 * w), None, *how), -3 * out, rtol=1e-12)


@fixed
@given(convolutions())
def test_the_gradients_are_adjoint_to_the_convolution(drawn):
    # conv2d is linear in each argument, so <conv(x, w), g> = <x, dx> = <w, dw>
    x, w, how = drawn
    x, w = from_numpy(x), from_numpy(w)
    x.requires_grad = w.requires_grad = True
    out = conv2d(x, w, None, *how)
    g = np.random.default_rng(0).normal(size=out.shape)
    out.backward(g)
    assert_close((x.data * x.grad).sum(), (out.data * g).sum(), rtol=1e-9, atol=1e-9)
    assert_close((w.data * w.grad).sum(), (out.data * g).sum(), rtol=1e-9, atol=1e-9)


@fixed
@given(convolutions())
def test_the_transpose_is_the_adjoint(drawn):
    x, w, (stride, padding, dilation, groups) = drawn
    read = conv2d(from_numpy(x), from_numpy(w), None, stride, padding, dilation, groups)
    y = np.random.default_rng(0).normal(size=read.shape)
    reach = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(y.shape[2:], stride, dilation, w.shape[2:])]
    assume(all(r > 2 * p for r, p in zip(reach, padding)))
    extra = [h + 2 * p - r for h, p, r in zip(x.shape[2:], padding, reach)]
    stamped = conv_transpose2d(from_numpy(y), from_numpy(w), None, stride, padding, extra, groups, dilation)
    assert stamped.shape == x.shape
    assert_close((stamped.data * x).sum(), (y * read.data).sum(), rtol=1e-9, atol=1e-9)


@fixed
@given(convolutions(), st.integers(1, 4), st.integers(1, 4))
def test_a_moved_image_gives_a_moved_answer(drawn, down, right):
    x, w, (_, _, dilation, groups) = drawn
    wide = np.pad(x, [(0, 0), (0, 0), (12, 12), (12, 12)])
    moved = np.roll(wide, (down, right), axis=(2, 3))
    out = conv2d(from_numpy(wide), from_numpy(w), None, 1, 0, dilation, groups).data
    want = np.roll(out, (down, right), axis=(2, 3))
    assert_close(conv2d(from_numpy(moved), from_numpy(w), None, 1, 0, dilation, groups), want, rtol=1e-10, atol=1e-10)


@fixed
@given(sizes, pairs, pairs, st.integers(0, 2**32))
def test_a_mean_is_no_larger_than_the_maximum_and_both_lie_within_the_image(size, kernel, stride, seed):
    assume(kernel[0] <= size[0] and kernel[1] <= size[1])
    x = np.random.default_rng(seed).normal(size=(2, 2, *size))
    largest = max_pool2d(from_numpy(x), kernel, stride).data
    mean = avg_pool2d(from_numpy(x), kernel, stride).data
    assert largest.shape == mean.shape
    assert (mean <= largest + 1e-12).all()
    assert np.isin(largest, x).all()
    assert (mean >= x.min() - 1e-12).all()


@fixed
@given(sizes, pairs, pairs, st.integers(0, 2**32))
def test_pooling_hands_on_all_of_the_gradient(size, kernel, stride, seed):
    assume(kernel[0] <= size[0] and kernel[1] <= size[1])
    rng = np.random.default_rng(seed)
    for pool in (max_pool2d, avg_pool2d):
        x = from_numpy(rng.integers(0, 3, (2, 2, *size)).astype(np.float64))
        x.requires_grad = True
        out = pool(x, kernel, stride)
        g = rng.normal(size=out.shape)
        out.backward(g)
        assert_close(x.grad.sum(axis=(2, 3)), g.sum(axis=(2, 3)), rtol=1e-9, atol=1e-9)


@fixed
@given(st.integers(2, 9), small, sizes, st.floats(0.125, 100), st.floats(-100, 100), st.integers(0, 2**32))
def test_batch_norm_does_not_see_shift_and_scale(N, C, size, scale, shift, seed):
    x = np.random.default_rng(seed).normal(size=(N, C, *size))
    out = batch_norm(from_numpy(x), training=True, eps=0.0).data
    assert_close(batch_norm(from_numpy(scale * x + shift), training=True, eps=0.0), out, rtol=1e-6, atol=1e-6)
    assert_close(out.mean(axis=(0, 2, 3)), np.zeros(C), atol=1e-10)
    assert_close(out.var(axis=(0, 2, 3)), np.ones(C), rtol=1e-8)
