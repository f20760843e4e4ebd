# Generated from modules/04_losses/04_losses.py by `tito export`. To change this file, edit the lesson and export again.
"""Losses: one number for how wrong a model is.

Every loss takes what the model says, what is true, and `reduction`: "mean" over all elements (or rows), "sum", or
"none" for one number each. Shapes and values are checked before anything is computed.
"""

import numpy as np

from tinytorch.core.activations import log_softmax
from tinytorch.core.layers import Module
from tinytorch.core.tensor import (
    Tensor,
    abs,
    as_array,
    as_tensor,
    floating,
    from_numpy,
    masked_fill,
    mean,
    pair,
    reshape,
    result,
    sum,
)


def _check_reduction(op, reduction, count, shape):
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{op} needs reduction 'mean', 'sum' or 'none', got {reduction!r}")
    if reduction == "mean" and count == 0:
        raise ValueError(f"{op} cannot average over an empty batch, got shape {shape}")


def _elementwise(op, pred, target, reduction):
    """Prediction and target as floating tensors of one dtype and, without any broadcasting, one shape."""
    pred, target = floating(pred), as_tensor(target)
    if pred.shape != target.shape:
        raise ValueError(
            f"{op} needs a target for every prediction, got shapes {pred.shape} and {target.shape}; "
            "reshape one of them, for nothing is broadcast here"
        )
    _check_reduction(op, reduction, pred.size, pred.shape)
    return pair(op, pred, target)


def _reduced(values, reduction):
    """The array `values` reduced, and the share of each element in the result."""
    if reduction == "mean":
        return values.mean(), 1 / values.size
    if reduction == "sum":
        return values.sum(), 1
    return values, 1


def mse_loss(pred: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(pred - target)^2: the squared distance, in the squared units of the target.

    pred, target  any one shape; (4, 1) against (4,) is an error, not 16 differences
    """
    pred, target = _elementwise("mse_loss", pred, target, reduction)
    distance = pred.data - target.data
    out, share = _reduced(distance * distance, reduction)
    return result(out, "mse_loss", pred, target, distance=distance, share=share)


def _reduce(values, reduction):
    """The tensor `values` reduced."""
    return {"mean": mean, "sum": sum, "none": lambda x: x}[reduction](values)


def l1_loss(pred: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """|pred - target|: the distance; one wild target pulls no harder than any other."""
    pred, target = _elementwise("l1_loss", pred, target, reduction)
    return _reduce(abs(pred - target), reduction)


def huber_loss(pred: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """Half the squared distance up to `delta`, from there on a straight line of slope delta. (Huber 1964)

    Raises ValueError unless delta > 0.
    """
    pred, target = _elementwise("huber_loss", pred, target, reduction)
    if not delta > 0:
        raise ValueError(f"huber_loss needs delta > 0, got {delta}")
    distance = pred.data - target.data
    slope = np.clip(distance, -delta, delta)
    out, share = _reduced(slope * (distance - slope / 2), reduction)
    return result(out, "huber_loss", pred, target, slope=slope, share=share)


def _between_0_and_1(op, what, array, advice=""):
    outside = ~((array >= 0) & (array <= 1))  # NaN is outside too
    if outside.any():
        place = tuple(np.argwhere(outside)[0].tolist())
        raise ValueError(f"{op} needs {what} from 0 to 1, got {array[place]:.6g} at {place}{advice}")


def binary_cross_entropy(prob: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """-(t log p + (1 - t) log(1 - p)): how surprised p, the probability given to "yes", is by the truth t, in nats.

    prob    any shape, 0 <= p <= 1; the logs are cut off at -100, so certain and wrong costs 100, not infinity
    target  the same shape, 0 <= t <= 1

    From logits use `binary_cross_entropy_with_logits`, which is exact where p rounds to 0 or 1.
    """
    op = "binary_cross_entropy"
    prob, target = _elementwise(op, prob, target, reduction)
    _between_0_and_1(op, "probabilities", prob.data, "; for logits use binary_cross_entropy_with_logits")
    _between_0_and_1(op, "targets", target.data)
    p, t = prob.data, target.data
    with np.errstate(divide="ignore"):  # log(0) = -inf is what the cut-off is for
        yes = np.maximum(np.log(p), -100)
        no = np.maximum(np.log1p(-p), -100)
    out, share = _reduced((t - 1) * no - t * yes, reduction)
    return result(out, op, prob, target, yes=yes, no=no, share=share)


def binary_cross_entropy_with_logits(logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """`binary_cross_entropy` of sigmoid(logits), computed as softplus(x) - t x, which neither overflows nor rounds.

    logits  any shape, any real numbers
    target  the same shape, 0 <= t <= 1
    """
    op = "binary_cross_entropy_with_logits"
    logits, target = _elementwise(op, logits, target, reduction)
    _between_0_and_1(op, "targets", target.data)
    x, t = logits.data, target.data
    corner, tail = np.maximum(x, 0), np.log1p(np.exp(-np.abs(x)))
    out, share = _reduced(corner - t * x + tail, reduction)  # the small part last: it would drown in the corner
    return result(out, op, logits, target, softplus=corner + tail, share=share)


def _rows(op, x, reduction):
    """x as a floating tensor (..., C), of which there is something to average."""
    x = floating(x)
    if x.ndim == 0:
        raise ValueError(f"{op} needs one number per class, shape (..., C), got shape ()")
    _check_reduction(op, reduction, x.size, x.shape)
    return x


def _classes(op, targets, x, ignore_index):
    """`targets` as an array of class numbers, one per row of the tensor x, and where they count (None: everywhere)."""
    targets = as_tensor(targets).data
    C = x.shape[-1]
    if targets.dtype.kind not in "iu":
        raise TypeError(
            f"{op} needs class numbers as integers of shape {x.shape[:-1]}, or probabilities as floats of shape "
            f"{x.shape}, got {targets.dtype} of shape {targets.shape}"
        )
    if targets.shape != x.shape[:-1]:
        advice = "; rows of 0 and 1 are probabilities: give them as floats" if targets.shape == x.shape else ""
        raise ValueError(
            f"{op} with logits {x.shape} needs one class number per row, targets of shape {x.shape[:-1]}, "
            f"got {targets.shape}{advice}"
        )
    rows = targets.reshape(-1)
    counts = None if ignore_index is None else rows != ignore_index
    wrong = (rows < 0) | (rows >= C)
    if counts is not None:
        wrong &= counts
    if wrong.any():
        place = np.unravel_index(wrong.argmax(), targets.shape)
        where = ", ".join(str(int(i)) for i in place)
        raise ValueError(f"{op} needs targets from 0 to {C - 1} for {C} classes, got {targets[place]} at ({where})")
    if counts is None or counts.all():
        return rows, None
    return np.where(counts, rows, 0), counts


def _class_weights(op, weight, x):
    """The weight of each class as an array in the dtype of x, or None."""
    if weight is None:
        return None
    weight = as_array(weight, x.dtype)
    if weight.shape != x.shape[-1:]:
        raise ValueError(f"{op} needs one weight per class, so {x.shape[-1:]}, got {weight.shape}")
    if not (weight >= 0).all():
        raise ValueError(f"{op} needs weights of at least 0, got {weight.min()}")
    return weight


def _row_shares(op, rows, counts, weight, dtype, reduction):
    """How much each row counts (None: 1 each), and what a mean divides the sum by."""
    if weight is None and counts is None:
        return None, len(rows)
    shares = np.ones(len(rows), dtype) if weight is None else weight[rows]
    if counts is not None:
        shares = shares * counts
    total = shares.sum()
    if total == 0 and reduction == "mean":
        raise ValueError(f"{op} cannot average: every target is ignored or has weight 0")
    return shares, total


def _averaged(losses, total, shape, reduction):
    """The tensor `losses`, one per row: as it is in `shape`, summed, or summed and divided by what all rows count."""
    if reduction == "none":
        return reshape(losses, shape)
    return sum(losses) if reduction == "sum" else sum(losses) / total


def nll_loss(
    log_probs: Tensor,
    targets: Tensor,
    weight=None,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Minus the log-probability of the true class: `cross_entropy` for what is already a log_softmax.

    log_probs (..., C); all else as in `cross_entropy`.
    """
    op = "nll_loss"
    x = _rows(op, log_probs, reduction)
    rows, counts = _classes(op, targets, x, ignore_index)
    shares, total = _row_shares(op, rows, counts, _class_weights(op, weight, x), x.dtype, reduction)
    picked = -x.reshape(-1, x.shape[-1])[np.arange(len(rows)), rows]
    if counts is not None:
        picked = masked_fill(picked, ~counts, 0.0)
    losses = picked if shares is None else picked * shares
    return _averaged(losses, total, x.shape[:-1], reduction)


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    weight=None,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """How surprised a softmax over `logits` is by the true classes, in nats: log(C) for a model that knows nothing.

    logits           (..., C)  any real numbers; shifted by their maximum, so large ones are safe
    targets          (...)     integers, 0 <= t < C; or (..., C) floats, the probability of every class
    weight           (C,)      how much each class counts; the mean is then the weighted one
    ignore_index     targets of this value do not count, whether or not it is a class
    label_smoothing  this share of the target is spread evenly over all classes (Szegedy et al. 2015)
    returns          (), or with reduction="none" one number per row: (...)

    Raises TypeError for targets of the wrong kind, ValueError for a target that is no class, for shapes that do not
    fit, and for a mean over nothing. One fused operation for class numbers: its gradient is (softmax - onehot) / N.
    """
    op = "cross_entropy"
    x, targets = _rows(op, logits, reduction), as_tensor(targets)
    weight = _class_weights(op, weight, x)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{op} needs 0 <= label_smoothing <= 1, got {label_smoothing}")
    if targets.dtype.kind == "f" and targets.shape == x.shape:
        if ignore_index is not None:
            raise ValueError(f"{op} needs class numbers to know which to ignore, got probabilities")
        _between_0_and_1(op, "target probabilities", targets.data)
        return _soft_cross_entropy(x, _smooth(targets, label_smoothing, weight), x.size // x.shape[-1], reduction)
    rows, counts = _classes(op, targets, x, ignore_index)
    shares, total = _row_shares(op, rows, counts, weight, x.dtype, reduction)
    if label_smoothing > 0:
        onehot = np.zeros_like(x.data)
        onehot.reshape(-1, x.shape[-1])[np.arange(len(rows)), rows] = 1
        targets = _smooth(from_numpy(onehot), label_smoothing, weight)
        if counts is not None:
            targets = targets * counts.reshape(*x.shape[:-1], 1)
        return _soft_cross_entropy(x, targets, total, reduction)
    exps = x.data.reshape(-1, x.shape[-1])
    exps = exps - np.maximum(exps.max(axis=1, keepdims=True), np.finfo(x.dtype).min)
    true = exps[np.arange(len(rows)), rows]
    np.exp(exps, out=exps)
    totals = exps.sum(axis=1)
    totals += totals == 0  # nothing but -inf
    losses = np.log(totals) - true
    if counts is not None:
        losses = np.where(counts, losses, 0)
    if shares is not None:
        losses *= shares
    out = losses.reshape(x.shape[:-1]) if reduction == "none" else losses.sum()
    if reduction == "mean":
        out = out / total
        shares = 1 / total if shares is None else shares / total
    return result(out, op, x, rows=rows, exps=exps, totals=totals, shares=1 if shares is None else shares)


def _smooth(targets, smoothing, weight):
    """Probabilities of the classes with the share `smoothing` spread evenly, times the weight of each class."""
    if smoothing > 0:
        targets = targets * (1 - smoothing) + smoothing / targets.shape[-1]
    return targets if weight is None else targets * weight


def _soft_cross_entropy(x, targets, total, reduction):
    """The definition: minus the mean, under the target probabilities, of the log-probabilities."""
    losses = -sum(log_softmax(x) * targets, axis=-1)
    return _averaged(losses, total, x.shape[:-1], reduction)


def kl_div(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """Kullback-Leibler divergence: what it costs, in nats, to believe `input` when `target` is true.

    input      log-probabilities, as log_softmax gives them
    target     probabilities of the same shape; where one is 0 nothing is added
    reduction  "mean" divides by the number of elements, as in PyTorch; "batchmean" by the length of the first axis,
               which gives the divergence per row; "sum"; "none"

    Raises ValueError for negative probabilities.
    """
    batchmean = reduction == "batchmean"
    input, target = _elementwise("kl_div", input, target, "mean" if batchmean else reduction)
    if batchmean and input.ndim == 0:
        raise ValueError("kl_div with reduction 'batchmean' needs at least one axis, got shape ()")
    if (target.data < 0).any():
        raise ValueError(f"kl_div needs target probabilities of at least 0, got {target.data.min():.6g}")
    x, t = input.data, target.data
    surprise = np.where(t > 0, np.log(np.where(t > 0, t, 1)) - x, 0)
    out, share = _reduced(t * surprise, "sum" if batchmean else reduction)
    if batchmean:
        share = 1 / len(x)
        out = out * share
    return result(out, "kl_div", input, target, surprise=surprise, share=share)


class _Loss(Module):
    """A loss function with its settings."""

    def __init__(self, reduction: str = "mean"):
        _check_reduction(type(self).__name__, reduction, 1, None)
        self.reduction = reduction

    def extra_repr(self):
        settings = {name: value for name, value in vars(self).items() if name != "training" and name[0] != "_"}
        return ", ".join(f"{name}={value!r}" for name, value in settings.items())


class MSELoss(_Loss):
    """`mse_loss` as an object."""

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return mse_loss(pred, target, self.reduction)


class L1Loss(_Loss):
    """`l1_loss` as an object."""

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return l1_loss(pred, target, self.reduction)


class HuberLoss(_Loss):
    """`huber_loss` as an object."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction)
        self.delta = delta

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        return huber_loss(pred, target, self.reduction, self.delta)


class BinaryCrossEntropyLoss(_Loss):
    """`binary_cross_entropy` as an object."""

    def forward(self, prob: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy(prob, target, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """`binary_cross_entropy_with_logits` as an object."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return binary_cross_entropy_with_logits(logits, target, self.reduction)


class CrossEntropyLoss(_Loss):
    """`cross_entropy` as an object."""

    def __init__(
        self,
        weight=None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ):
        super().__init__(reduction)
        self.weight = weight
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(logits, targets, self.weight, self.ignore_index, self.label_smoothing, self.reduction)


class NLLLoss(_Loss):
    """`nll_loss` as an object."""

    def __init__(self, weight=None, ignore_index: int | None = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.weight = weight
        self.ignore_index = ignore_index

    def forward(self, log_probs: Tensor, targets: Tensor) -> Tensor:
        return nll_loss(log_probs, targets, self.weight, self.ignore_index, self.reduction)


class KLDivLoss(_Loss):
    """`kl_div` as an object."""

    def __init__(self, reduction: str = "mean"):
        super().__init__("mean" if reduction == "batchmean" else reduction)
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return kl_div(input, target, self.reduction)
