"""Everything beside PyTorch's, values and gradients."""

import itertools

import numpy as np
import pytest
from support.checks import assert_close

from tinytorch.core import spatial
from tinytorch.core.layers import Flatten, Linear, Sequential
from tinytorch.core.losses import cross_entropy
from tinytorch.core.tensor import Tensor

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")
F = torch.nn.functional


def drawn(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


def compare(ours, theirs, arrays, dtype=np.float64):
    """Values and gradients of the same function of the same arrays."""
    arrays = [a.astype(dtype) for a in arrays]
    mine = [Tensor(a, requires_grad=True, dtype=dtype) for a in arrays]
    yours = [torch.from_numpy(a).requires_grad_() for a in arrays]
    got, want = ours(*mine), theirs(*yours)
    close = {"rtol": 1e-9, "atol": 1e-10} if dtype == np.float64 else {"rtol": 1e-4, "atol": 1e-4}
    assert_close(got, want.detach().numpy(), **close)
    (slope,) = drawn(got.shape, seed=1)
    got.backward(slope.astype(dtype))
    want.backward(torch.from_numpy(slope.astype(dtype)))
    for a, b in zip(mine, yours):
        assert a.grad.dtype == dtype
        assert_close(a.grad, b.grad.numpy(), **close)


SETTINGS = list(itertools.product([1, 2, (3, 1)], [0, (2, 1)], [1, (2, 3)], [1, 2]))


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), SETTINGS)
def test_conv2d(stride, padding, dilation, groups):
    for kernel in [(3, 3), (1, 2)]:
        arrays = drawn((2, 4, 9, 11), (6, 4 // groups, *kernel), (6,))
        compare(
            lambda x, w, b: spatial.conv2d(x, w, b, stride, padding, dilation, groups),
            lambda x, w, b: F.conv2d(x, w, b, stride, padding, dilation, groups),
            arrays,
        )


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (5, 1)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same_padding(kernel, dilation):
    compare(
        lambda x, w, b: spatial.conv2d(x, w, b, 1, "same", dilation),
        lambda x, w, b: F.conv2d(x, w, b, 1, "same", dilation),
        drawn((2, 3, 8, 7), (4, 3, *kernel), (4,)),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("image", "weight"), [((8, 3, 32, 32), (16, 3, 3, 3)), ((4, 64, 14, 14), (32, 64, 3, 3))])
def test_sizes_that_networks_use(image, weight, dtype):
    compare(
        lambda x, w, b: spatial.conv2d(x, w, b, padding=1),
        lambda x, w, b: F.conv2d(x, w, b, padding=1),
        [a / 4 for a in drawn(image, weight, weight[:1])],
        dtype,
    )


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv1d(stride, padding, dilation, groups):
    compare(
        lambda x, w, b: spatial.conv1d(x, w, b, stride, padding, dilation, groups),
        lambda x, w, b: F.conv1d(x, w, b, stride, padding, dilation, groups),
        drawn((3, 4, 13), (2, 4 // groups, 3), (2,)),
    )


@pytest.mark.parametrize(("stride", "extra", "dilation"), [(1, 0, 1), (2, 1, 1), ((3, 2), (2, 0), (1, 3)), (1, 1, 2)])
@pytest.mark.parametrize("padding", [0, 1, (0, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv_transpose2d(stride, padding, extra, groups, dilation):
    compare(
        lambda x, w, b: spatial.conv_transpose2d(x, w, b, stride, padding, extra, groups, dilation),
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride, padding, extra, groups, dilation),
        drawn((2, 4, 4, 5), (4, 3, 3, 2), (3 * groups,)),
    )


@pytest.mark.parametrize(("stride", "padding", "extra"), [(1, 0, 0), (2, 1, 1), (3, 0, 2)])
def test_conv_transpose1d(stride, padding, extra):
    compare(
        lambda x, w, b: spatial.conv_transpose1d(x, w, b, stride, padding, extra),
        lambda x, w, b: F.conv_transpose1d(x, w, b, stride, padding, extra),
        drawn((2, 3, 6), (3, 4, 3), (4,)),
    )


POOLS = [(2, None, 0), (3, 2, 1), (3, 1, 1), ((2, 3), (3, 2), (1, 0)), (2, 3, 0), (4, 2, 2), (1, 1, 0)]


@pytest.mark.parametrize(("kernel", "stride", "padding"), POOLS)
@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
def test_pooling(name, kernel, stride, padding):
    for images in (drawn((2, 3, 8, 9))[0], np.random.default_rng(0).integers(0, 3, (2, 3, 8, 9))):  # and with many ties
        compare(
            lambda x: getattr(spatial, name)(x, kernel, stride, padding),
            lambda x: getattr(F, name)(x, kernel, stride, padding),
            [images],
        )


@pytest.mark.parametrize("size", [1, 2, 3, (4, 5), (7, 1), (9, 10)])
def test_adaptive_pooling(size):
    compare(
        lambda x: spatial.adaptive_avg_pool2d(x, size), lambda x: F.adaptive_avg_pool2d(x, size), drawn((2, 3, 7, 8))
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (5, 4, 6, 7)])
def test_batch_norm(shape, training, dtype):
    mean, var = np.linspace(-1, 1, 4).astype(dtype), np.linspace(0.5, 2, 4).astype(dtype)
    theirs = torch.from_numpy(mean.copy()), torch.from_numpy(var.copy())
    compare(
        lambda x, w, b: spatial.batch_norm(x, mean, var, w, b, training, 0.2, 1e-3),
        lambda x, w, b: F.batch_norm(x, *theirs, w, b, training, 0.2, 1e-3),
        drawn(shape, (4,), (4,)),
        dtype,
    )
    assert_close(mean, theirs[0].numpy(), rtol=1e-5)
    assert_close(var, theirs[1].numpy(), rtol=1e-5)


def networks():
    tn = torch.nn
    ours = Sequential(
        spatial.Conv2d(3, 8, 3, padding=1),
        spatial.BatchNorm2d(8),
        spatial.MaxPool2d(2),
        spatial.Conv2d(8, 8, 3, stride=2, padding=1, groups=2),
        spatial.BatchNorm2d(8, momentum=None),
        spatial.ConvTranspose2d(8, 4, 2, 2),
        spatial.AdaptiveAvgPool2d(2),
        Flatten(),
        Linear(16, 5),
    )
    theirs = tn.Sequential(
        tn.Conv2d(3, 8, 3, padding=1),
        tn.BatchNorm2d(8),
        tn.MaxPool2d(2),
        tn.Conv2d(8, 8, 3, stride=2, padding=1, groups=2),
        tn.BatchNorm2d(8, momentum=None),
        tn.ConvTranspose2d(8, 4, 2, 2),
        tn.AdaptiveAvgPool2d(2),
        tn.Flatten(),
        tn.Linear(16, 5),
    )
    return ours, theirs


def test_a_network_loads_pytorchs_state_and_trains_alike():
    ours, theirs = networks()
    state = {name: value.numpy() for name, value in theirs.state_dict().items()}
    state["8.weight"] = state["8.weight"].T  # our Linear keeps (in, out)
    ours.load_state_dict(state)
    x = np.random.default_rng(0).normal(size=(6, 3, 12, 12)).astype(np.float32)
    t = np.arange(6) % 5
    for _ in range(3):
        loss = cross_entropy(ours(Tensor(x)), Tensor(t))
        loss.backward()
        want = F.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(t))
        want.backward()
        assert_close(loss, want.detach().numpy(), rtol=1e-4)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        want = q.grad.numpy()
        assert_close(p.grad, want.T if name == "8.weight" else want, rtol=1e-3, atol=1e-4, what=name)
    for (name, array), want in zip(ours.named_buffers(), theirs.buffers()):
        assert_close(array, want.numpy(), rtol=1e-4, atol=1e-5, what=name)
    want = theirs.eval()(torch.from_numpy(x)).detach().numpy()
    assert_close(ours.eval()(Tensor(x)), want, rtol=1e-3, atol=1e-4)
