"""max_pool2d, avg_pool2d and adaptive_avg_pool2d."""

import numpy as np
import pytest

from support.checks import assert_close
from support.images import as_pair
from support.listening import announced
from tinytorch.core.autograd import gradcheck
from tinytorch.core.spatial import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from tinytorch.core.tensor import Tensor, from_numpy

X = np.array([[[[1, 2, 5, 6], [3, 4, 7, 8], [9, 1, 0, 2], [1, 1, 3, 4]]]], np.float32)

# shape, kernel, stride, padding
CASES = {
    "halves": ((2, 3, 4, 6), 2, None, 0),
    "leaves-a-row-over": ((2, 1, 5, 7), 2, None, 0),
    "overlapping": ((1, 2, 7, 7), 3, 2, 1),
    "unequal": ((2, 1, 5, 8), (2, 3), (1, 2), (1, 1)),
    "gaps": ((1, 1, 8, 8), 2, 3, 1),
    "one": ((1, 2, 3, 3), 1, None, 0),
    "one-with-a-stride": ((1, 2, 4, 5), 1, 2, 0),
    "the-whole-image": ((2, 2, 3, 4), (3, 4), None, 0),
    "row-by-row": ((1, 2, 4, 4), (1, 4), None, 0),
}
cases = pytest.mark.parametrize(("shape", "kernel", "stride", "padding"), CASES.values(), ids=CASES)


def slowly(reduce, x, kernel, stride, padding, value):
    (kh, kw), (ph, pw) = as_pair(kernel), as_pair(padding)
    sh, sw = as_pair(kernel if stride is None else stride)
    padded = np.pad(x, [(0, 0), (0, 0), (ph, ph), (pw, pw)], constant_values=value)
    rows = range(0, padded.shape[2] - kh + 1, sh)
    columns = range(0, padded.shape[3] - kw + 1, sw)
    return np.stack(
        [np.stack([reduce(padded[:, :, i : i + kh, j : j + kw], axis=(2, 3)) for j in columns], -1) for i in rows], -2
    )


def drawn(shape, dtype=np.float64):
    return np.random.default_rng(0).permutation(np.prod(shape)).reshape(shape).astype(dtype)  # no ties


@cases
def test_they_are_the_definition(shape, kernel, stride, padding):
    x = drawn(shape) - 5
    assert_close(
        max_pool2d(from_numpy(x), kernel, stride, padding), slowly(np.max, x, kernel, stride, padding, -np.inf)
    )
    assert_close(avg_pool2d(from_numpy(x), kernel, stride, padding), slowly(np.mean, x, kernel, stride, padding, 0))


def test_worked_examples():
    assert_close(max_pool2d(X, 2), np.array([[[[4, 8], [9, 4]]]], np.float32))
    assert_close(avg_pool2d(X, 2), np.array([[[[2.5, 6.5], [3, 2.25]]]], np.float32))
    assert_close(adaptive_avg_pool2d(X, 1), np.array([[[[57 / 16]]]], np.float32))


def test_the_border_of_max_pooling_never_wins():
    x = np.full((1, 1, 2, 2), -7, np.float32)
    assert_close(max_pool2d(x, 2, 1, 1), np.full((1, 1, 3, 3), -7, np.float32))


def test_the_border_of_avg_pooling_counts_as_zeros():
    x = np.full((1, 1, 2, 2), 4, np.float32)
    assert_close(avg_pool2d(x, 2, 1, 1), np.array([[[[1, 2, 1], [2, 4, 2], [1, 2, 1]]]], np.float32))


@cases
def test_gradients(shape, kernel, stride, padding):
    x = drawn(shape) / 10
    assert gradcheck(lambda x: max_pool2d(x, kernel, stride, padding), x)
    assert gradcheck(lambda x: avg_pool2d(x, kernel, stride, padding), x)


def max_gradient(x, *settings):
    x = Tensor(x, requires_grad=True)
    out = max_pool2d(x, *settings)
    out.backward(np.arange(1, out.size + 1, dtype=np.float32).reshape(out.shape))
    return x.grad


def test_the_gradient_goes_to_the_largest_pixel():
    want = np.zeros((1, 1, 4, 4), np.float32)
    want[0, 0, 1, 1], want[0, 0, 1, 3], want[0, 0, 2, 0], want[0, 0, 3, 3] = 1, 2, 3, 4
    assert_close(max_gradient(X, 2), want)


@pytest.mark.parametrize(
    ("tied", "first"),
    [
        ([[5, 5], [5, 5]], (0, 0)),
        ([[1, 5], [5, 5]], (0, 1)),
        ([[1, 5], [5, 1]], (0, 1)),  # along the first row before down the first column
        ([[1, 1], [5, 5]], (1, 0)),
        ([[0, 0], [-1, 0]], (0, 0)),
    ],
)
def test_of_equals_the_first_gets_all_of_the_gradient(tied, first):
    want = np.zeros((1, 1, 2, 2), np.float32)
    want[0, 0][first] = 1
    assert_close(max_gradient(np.array([[tied]], np.float32), 2), want)


def test_ties_in_windows_of_three():
    x = np.zeros((1, 1, 3, 9), np.float32)
    x[0, 0, 1:, 3] = x[0, 0, 1, 4] = 1
    x[0, 0, 2, 6:] = 1
    want = np.zeros_like(x)
    want[0, 0, 0, 0], want[0, 0, 1, 3], want[0, 0, 2, 6] = 1, 2, 3
    assert_close(max_gradient(x, 3), want)


@pytest.mark.parametrize("kernel", [2, 3])
def test_windows_that_overlap_add_up(kernel):
    """The pixel in the middle is in every window, at each of its places once."""
    x = np.zeros((1, 1, 2 * kernel - 1, 2 * kernel - 1), np.float32)
    x[0, 0, kernel - 1, kernel - 1] = 9
    want = np.zeros_like(x)
    want[x == 9] = sum(range(1, kernel**2 + 1))
    assert_close(max_gradient(x, kernel, 1), want)


def test_pixels_in_no_window_get_nothing():
    assert (max_gradient(drawn((1, 1, 5, 5), np.float32), 2)[..., 4] == 0).all()


@pytest.mark.parametrize(
    ("shape", "size"), [((2, 3, 4, 6), 2), ((1, 2, 7, 5), (3, 4)), ((1, 1, 3, 3), 5), ((2, 2, 5, 5), 1)]
)
def test_adaptive_windows(shape, size):
    x = drawn(shape)
    OH, OW = as_pair(size)
    H, W = shape[2:]
    want = np.empty((*shape[:2], OH, OW))
    for i in range(OH):
        for j in range(OW):
            rows = slice(int(np.floor(i * H / OH)), int(np.ceil((i + 1) * H / OH)))
            columns = slice(int(np.floor(j * W / OW)), int(np.ceil((j + 1) * W / OW)))
            want[:, :, i, j] = x[:, :, rows, columns].mean(axis=(2, 3))
    assert_close(adaptive_avg_pool2d(from_numpy(x), size), want, rtol=1e-12)
    assert gradcheck(lambda x: adaptive_avg_pool2d(x, size), x / 10)


def test_adaptive_pooling_to_a_divisor_is_plain_pooling():
    x = drawn((2, 3, 6, 8))
    assert_close(adaptive_avg_pool2d(from_numpy(x), (3, 4)), avg_pool2d(from_numpy(x), 2).data, rtol=1e-12)


def test_adaptive_pooling_to_the_size_is_nothing():
    x = drawn((1, 2, 3, 4))
    assert_close(adaptive_avg_pool2d(from_numpy(x), (3, 4)), x, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pool", [max_pool2d, avg_pool2d, adaptive_avg_pool2d])
def test_dtype_announcement_and_memory(pool, dtype):
    x = Tensor(drawn((2, 2, 4, 4)), requires_grad=True, dtype=dtype)
    before = x.data.copy()
    ((op, inputs, _),) = announced(lambda: pool(x, 1))
    assert (op, [id(t) for t in inputs]) == (pool.__name__, [id(x)])
    for size in (1, 2):
        out = pool(x, size)
        assert out.dtype == dtype
        assert not np.shares_memory(out.data, x.data)
        x.grad = None
        out.sum().backward()
        assert x.grad.dtype == dtype
    assert_close(x, before, rtol=0, atol=0)


def test_integers_become_float32():
    assert max_pool2d(np.ones((1, 1, 2, 2), np.int64), 2).dtype == np.float32


@pytest.mark.parametrize("pool", [max_pool2d, avg_pool2d])
@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((4, 4), (2,), r"needs images \(N, C, H, W\), got shape \(4, 4\)"),
        ((1, 4, 4), (2,), "unsqueeze"),
        ((1, 1, 4, 2), (3,), r"a window of 3 does not fit into 2 \+ 0 of padding along axis 3"),
        ((1, 1, 4, 4), (0,), "kernel_size of at least 1, got 0"),
        ((1, 1, 4, 4), (2, 0), "stride of at least 1, got 0"),
        ((1, 1, 4, 4), (2, 2, 2), "at most half the kernel, got padding 2 for a kernel of 2"),
        ((1, 1, 4, 4), ((2, 2, 2),), "kernel_size as one number or 2"),
    ],
)
def test_what_does_not_fit_is_said(pool, shape, settings, message):
    with pytest.raises(ValueError, match=f"{pool.__name__}.*{message}|{message}"):
        pool(np.zeros(shape), *settings)


def test_adaptive_errors():
    with pytest.raises(ValueError, match="output_size of at least 1, got 0"):
        adaptive_avg_pool2d(np.zeros((1, 1, 4, 4)), 0)
    with pytest.raises(ValueError, match=r"at least one pixel, got shape \(1, 1, 0, 4\)"):
        adaptive_avg_pool2d(np.zeros((1, 1, 0, 4)), 2)
