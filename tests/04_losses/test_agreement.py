"""The losses beside PyTorch's, forward; gradients are compared in module 05."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import losses
from tinytorch.core.tensor import Tensor

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")
F = torch.nn.functional

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(6, 4)), 2 * RNG.normal(size=(6, 4))
P, Q = RNG.dirichlet(np.ones(4), 6), RNG.dirichlet(np.ones(4), 6)
T = RNG.integers(0, 4, 6)
W = np.array([0.5, 1.0, 2.0, 3.0])
reductions = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def compare(ours, theirs, arrays, dtype, **options):
    arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
    got = ours(*(Tensor(a, dtype=a.dtype) for a in arrays), **options)
    want = theirs(*(torch.from_numpy(a) for a in arrays))
    assert_close(got, want.numpy(), rtol=1e-5 if dtype == np.float32 else 1e-10)


@reductions
@dtypes
@pytest.mark.parametrize(
    ("name", "theirs", "a", "b"),
    [
        ("mse_loss", F.mse_loss, A, B),
        ("l1_loss", F.l1_loss, A, B),
        ("huber_loss", F.huber_loss, A, B),
        ("binary_cross_entropy", F.binary_cross_entropy, P, Q),
        ("binary_cross_entropy", F.binary_cross_entropy, np.round(P), np.round(Q)),
        ("binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits, 20 * A, Q),
        ("kl_div", F.kl_div, np.log(P), Q),
        ("kl_div", F.kl_div, np.log(P), np.eye(4)[T]),
    ],
)
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
def test_elementwise(name, theirs, a, b, reduction, dtype):
    compare(getattr(losses, name), lambda x, y: theirs(x, y, reduction=reduction), [a, b], dtype, reduction=reduction)


@pytest.mark.parametrize("delta", [0.3, 2.5])
def test_huber_delta(delta):
    compare(losses.huber_loss, lambda x, y: F.huber_loss(x, y, delta=delta), [A, B], np.float64, delta=delta)


def test_kl_batchmean():
    compare(
        losses.kl_div,
        lambda x, y: F.kl_div(x, y, reduction="batchmean"),
        [np.log(P), Q],
        np.float64,
        reduction="batchmean",
    )


@reductions
@dtypes
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [None, 2, -100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy_of_class_numbers(weighted, ignore, smoothing, reduction, dtype):
    weight = W.astype(dtype) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing}
    theirs = dict(options, weight=None if weight is None else torch.from_numpy(weight))
    if ignore is not None:
        options["ignore_index"] = theirs["ignore_index"] = ignore
    targets = np.where(np.arange(6) == 4, -100, T) if ignore == -100 else T
    compare(
        losses.cross_entropy,
        lambda x, t: F.cross_entropy(x, t, **theirs),
        [B, targets],
        dtype,
        weight=weight,
        **options,
    )


@reductions
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_probabilities(weighted, smoothing, reduction):
    options = {"reduction": reduction, "label_smoothing": smoothing}
    theirs = dict(options, weight=torch.from_numpy(W) if weighted else None)
    compare(
        losses.cross_entropy,
        lambda x, q: F.cross_entropy(x, q, **theirs),
        [B, Q],
        np.float64,
        weight=W if weighted else None,
        **options,
    )


@reductions
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_with_classes_last_is_pytorchs_with_classes_second(reduction, smoothing):
    rng = np.random.default_rng(1)
    x, t = rng.normal(size=(2, 3, 4, 5)), rng.integers(0, 5, (2, 3, 4))
    compare(
        losses.cross_entropy,
        lambda x, t: F.cross_entropy(x.movedim(-1, 1), t, reduction=reduction, label_smoothing=smoothing),
        [x, t],
        np.float64,
        reduction=reduction,
        label_smoothing=smoothing,
    )


@reductions
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore", [-100, 2])
def test_nll(weighted, ignore, reduction):
    theirs = {"weight": torch.from_numpy(W) if weighted else None, "ignore_index": ignore, "reduction": reduction}
    compare(
        losses.nll_loss,
        lambda x, t: F.nll_loss(x, t, **theirs),
        [np.log(P), T],
        np.float64,
        weight=W if weighted else None,
        ignore_index=ignore,
        reduction=reduction,
    )
