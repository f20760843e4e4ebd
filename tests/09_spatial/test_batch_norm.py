"""batch_norm, BatchNorm1d and BatchNorm2d."""

import numpy as np
import pytest

from support.checks import assert_close
from support.listening import announced
from tinytorch.core.autograd import gradcheck
from tinytorch.core.spatial import BatchNorm1d, BatchNorm2d, batch_norm
from tinytorch.core.tensor import Tensor, from_numpy

SHAPES = [(6, 3), (4, 3, 5), (3, 2, 4, 5), (2, 1, 1, 1), (2, 2, 1, 2, 3)]


def drawn(*shapes, dtype=np.float64):
    rng = np.random.default_rng(0)
    return [(3 * rng.normal(size=shape) + 2).astype(dtype) for shape in shapes]


def axes_of(x):
    return tuple(i for i in range(x.ndim) if i != 1)


def along(channels, ndim):
    return channels.reshape(1, -1, *[1] * (ndim - 2))


def test_a_batch_of_four_by_hand():
    # mean 4, variance (9 + 1 + 1 + 9) / 4 = 5
    x = [[1.0], [3.0], [5.0], [7.0]]
    assert_close(batch_norm(x, training=True, eps=0.0), np.array([[-3], [-1], [1], [3]], np.float32) / np.sqrt(5))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_definition_in_training(shape):
    C = shape[1]
    x, w, b = drawn(shape, (C,), (C,))
    mean, var = x.mean(axis=axes_of(x), keepdims=True), x.var(axis=axes_of(x), keepdims=True)
    want = (x - mean) / np.sqrt(var + 1e-5) * along(w, x.ndim) + along(b, x.ndim)
    got = batch_norm(from_numpy(x), None, None, from_numpy(w), from_numpy(b), training=True)
    assert_close(got, want, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_definition_in_use(shape):
    C = shape[1]
    x, w, b, mean = drawn(shape, (C,), (C,), (C,))
    var = mean**2 + 0.5
    want = (x - along(mean, x.ndim)) / np.sqrt(along(var, x.ndim) + 0.01) * along(w, x.ndim) + along(b, x.ndim)
    kept = mean.copy(), var.copy()
    got = batch_norm(from_numpy(x), mean, var, from_numpy(w), from_numpy(b), eps=0.01)
    assert_close(got, want, rtol=1e-12)
    assert_close(mean, kept[0], rtol=0, atol=0)
    assert_close(var, kept[1], rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(70000, 3), (3, 400, 100), (2, 3, 150, 300)])
def test_channels_in_several_blocks(shape):
    (x,) = drawn(shape, dtype=np.float32)
    out = batch_norm(from_numpy(x), training=True).data
    assert_close(out.mean(axis=axes_of(x)), np.zeros(shape[1], np.float32), atol=1e-5)
    assert_close(out.std(axis=axes_of(x)), np.ones(shape[1], np.float32), rtol=1e-4)


def test_running_statistics_by_hand():
    mean, var = np.zeros(1, np.float32), np.ones(1, np.float32)
    batch_norm([[1.0], [3.0], [5.0], [7.0]], mean, var, training=True)
    assert_close(mean, np.array([0.4], np.float32))  # 0.9 * 0 + 0.1 * 4
    assert_close(var, np.array([0.9 + 0.1 * 20 / 3], np.float32))  # the sample variance: 20 / 3, not 20 / 4


@pytest.mark.parametrize("shape", SHAPES)
def test_running_statistics_in_place(shape):
    C = shape[1]
    x, mean = drawn(shape, (C,))
    var = mean**2
    want_mean = 0.7 * mean + 0.3 * x.mean(axis=axes_of(x))
    want_var = 0.7 * var + 0.3 * x.var(axis=axes_of(x), ddof=1)
    batch_norm(from_numpy(x), mean, var, training=True, momentum=0.3)
    assert_close(mean, want_mean, rtol=1e-12)
    assert_close(var, want_var, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_in_training(shape):
    C = shape[1]

    def f(x, w, b):
        return batch_norm(x, None, None, w, b, training=True, eps=0.1)

    assert gradcheck(f, drawn(shape, (C,), (C,)))


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_in_use(shape):
    C = shape[1]
    mean, var = np.linspace(-1, 1, C), np.linspace(0.5, 2, C)
    assert gradcheck(lambda x, w, b: batch_norm(x, mean, var, w, b), drawn(shape, (C,), (C,)))
    assert gradcheck(lambda x: batch_norm(x, mean, var), drawn(shape))


def test_a_shift_or_a_stretch_of_the_input_changes_nothing_so_neither_has_a_slope():
    (x,) = drawn((8, 2, 3, 3))
    x = Tensor(x, requires_grad=True, dtype=np.float64)
    out = batch_norm(x, training=True, eps=0.0)
    out.backward(drawn(out.shape)[0])
    assert_close(x.grad.sum(axis=(0, 2, 3)), np.zeros(2), atol=1e-10)
    assert_close((x.grad * x.data).sum(axis=(0, 2, 3)), np.zeros(2), atol=1e-10)


def test_only_what_is_asked_for():
    (x,) = drawn((5, 2))
    w, b = Tensor(np.ones(2), requires_grad=True, dtype=np.float64), Tensor(np.zeros(2), dtype=np.float64)
    x = from_numpy(x)
    batch_norm(x, None, None, w, b, training=True).sum().backward()
    assert x.grad is None
    assert b.grad is None
    assert_close(w.grad, np.zeros(2), atol=1e-10)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(dtype, training):
    x, w, b = (Tensor(a, requires_grad=True, dtype=dtype) for a in drawn((4, 2, 3, 3), (2,), (2,)))
    mean, var = np.zeros(2, np.float32), np.ones(2, np.float32)
    out = batch_norm(x, mean, var, w, b, training)
    assert out.dtype == dtype
    out.sum().backward()
    assert [t.grad.dtype for t in (x, w, b)] == [dtype] * 3
    assert (mean.dtype, var.dtype) == (np.float32, np.float32)


def test_an_empty_batch_in_use():
    x = Tensor(np.zeros((0, 2, 3)), requires_grad=True)
    out = batch_norm(x, np.zeros(2), np.ones(2))
    assert out.shape == (0, 2, 3)
    out.sum().backward()
    assert x.grad.shape == (0, 2, 3)


def test_a_far_away_mean_does_not_cost_digits():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(64, 1)) + 3000).astype(np.float32)
    want = (x.astype(np.float64) - x.mean(dtype=np.float64)) / np.sqrt(x.var(dtype=np.float64) + 1e-5)
    assert_close(batch_norm(from_numpy(x), training=True), want.astype(np.float32), atol=2e-3)


def test_it_is_one_operation_and_leaves_its_input_alone():
    x, w, b = (Tensor(a) for a in drawn((4, 2, 3), (2,), (2,)))
    before = x.data.copy()
    ((op, inputs, _),) = announced(lambda: batch_norm(x, None, None, w, b, training=True))
    assert (op, [id(t) for t in inputs]) == ("batch_norm", [id(x), id(w), id(b)])
    assert_close(x, before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((4,), {"training": True}, r"needs inputs \(N, C, ...\), got shape \(4,\)"),
        ((4, 3), {}, "needs running_mean and running_var when it is not training"),
        ((4, 3), {"running_mean": np.zeros(3)}, "needs running_mean and running_var"),
        ((1, 3), {"training": True}, r"more than one value per channel to train on, got shape \(1, 3\)"),
        ((0, 3, 2), {"training": True}, "more than one value per channel"),
        ((4, 3), {"training": True, "weight": np.ones(2)}, r"3 channels needs weight \(3,\), got shape \(2,\)"),
        ((4, 3), {"training": True, "bias": np.ones((3, 1))}, r"needs bias \(3,\), got shape \(3, 1\)"),
        (
            (4, 3),
            {"running_mean": np.zeros(3), "running_var": np.ones(4)},
            r"needs running_var \(3,\), got shape \(4,\)",
        ),
    ],
)
def test_what_does_not_fit_is_said(shape, settings, message):
    with pytest.raises(ValueError, match=f"batch_norm.*{message}"):
        batch_norm(np.zeros(shape), **settings)


def test_nothing_has_changed_after_an_error():
    mean, var = np.zeros(3), np.ones(3)
    with pytest.raises(ValueError, match="weight"):
        batch_norm(np.ones((4, 3)), mean, var, np.ones(2), training=True)
    assert mean.tolist() == [0, 0, 0]


# The layers


def test_a_layer_in_training_uses_the_batch_and_remembers():
    layer = BatchNorm2d(3)
    x = Tensor(drawn((5, 3, 4, 4))[0])
    out = layer(x).data
    assert_close(out.mean(axis=(0, 2, 3)), np.zeros(3, np.float32), atol=1e-5)
    assert_close(out.var(axis=(0, 2, 3)), np.ones(3, np.float32), rtol=1e-3)
    assert_close(layer.running_mean, 0.1 * x.data.mean(axis=(0, 2, 3)))
    assert_close(layer.running_var, 0.9 + 0.1 * x.data.var(axis=(0, 2, 3), ddof=1))
    assert layer.num_batches_tracked == 1


def test_a_layer_in_use_treats_every_row_alone():
    layer = BatchNorm1d(2)
    for seed in range(3):
        layer(Tensor(np.random.default_rng(seed).normal(5, 2, (16, 2))))
    layer.eval()
    before = {name: array.copy() for name, array in layer.named_buffers()}
    x = Tensor(drawn((6, 2))[0])
    rows = [layer(x[i : i + 1]).data for i in range(6)]
    assert_close(layer(x), np.concatenate(rows))
    for name, array in layer.named_buffers():
        assert_close(array, before[name], rtol=0, atol=0)


def test_after_many_batches_training_and_use_agree():
    rng = np.random.default_rng(0)
    layer = BatchNorm1d(2, momentum=None)
    for _ in range(200):
        layer(Tensor(rng.normal([3, -1], [2, 0.5], (64, 2))))
    assert_close(layer.running_mean, np.array([3, -1], np.float32), atol=0.05)
    assert_close(layer.running_var, np.array([4, 0.25], np.float32), rtol=0.05)


def test_momentum_none_is_the_plain_average():
    layer = BatchNorm1d(1, momentum=None)
    for value in (1.0, 4.0, 7.0):
        layer(Tensor([[value - 1], [value + 1]]))
    assert_close(layer.running_mean, np.array([4], np.float32))
    assert_close(layer.running_var, np.array([2], np.float32))


def test_the_state_has_pytorchs_names_and_comes_back():
    layer, other = BatchNorm2d(3), BatchNorm2d(3)
    layer(Tensor(drawn((2, 3, 4, 4))[0]))
    state = layer.state_dict()
    assert list(state) == ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    assert state["num_batches_tracked"].dtype == np.int64
    other.load_state_dict(state)
    x = Tensor(drawn((3, 3, 2, 2))[0])
    assert_close(other.eval()(x), layer.eval()(x).data, rtol=0, atol=0)
    assert other.num_batches_tracked == 1


def test_the_running_statistics_are_not_parameters():
    assert [p.tolist() for p in BatchNorm1d(2).parameters()] == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("cls", "shape", "message"),
    [
        (BatchNorm1d, (4, 3, 2, 2), r"BatchNorm1d\(3.*needs inputs \(N, C\) or \(N, C, L\), got shape \(4, 3, 2, 2\)"),
        (BatchNorm2d, (4, 3), r"BatchNorm2d\(3.*needs inputs \(N, C, H, W\), got shape \(4, 3\)"),
        (BatchNorm2d, (4, 2, 5, 5), r"BatchNorm2d\(3.*got shape \(4, 2, 5, 5\)"),
    ],
)
def test_a_layer_says_what_it_needs(cls, shape, message):
    layer = cls(3)
    with pytest.raises(ValueError, match=message):
        layer(np.zeros(shape))
    assert layer.num_batches_tracked == 0
