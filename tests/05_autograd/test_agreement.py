"""Every operation, activation and loss of lessons 01 to 04 beside PyTorch's: the values, and all gradients."""

import functools
import zlib

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import activations as A
from tinytorch.core import losses as L
from tinytorch.core import tensor as T
from tinytorch.core.autograd import checkpoint
from tinytorch.core.layers import linear
from tinytorch.core.tensor import Tensor

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")
F = torch.nn.functional
torch.set_num_threads(1)

PAIRS = [
    ((), ()),
    ((5,), ()),
    ((), (2, 3)),
    ((4,), (4,)),
    ((3, 4), (4,)),
    ((4,), (3, 4)),
    ((1, 4), (3, 4)),
    ((3, 1), (1, 4)),
    ((2, 3, 4), (3, 1)),
    ((2, 1, 4), (5, 1, 3, 1)),
]
SHAPES = [(), (7,), (3, 4), (2, 3, 5)]
MATRICES = [
    ((4,), (4,)),
    ((4,), (4, 3)),
    ((2, 4), (4,)),
    ((2, 4), (4, 3)),
    ((4,), (5, 4, 3)),
    ((5, 2, 4), (4,)),
    ((5, 2, 4), (4, 3)),
    ((2, 4), (5, 4, 3)),
    ((5, 2, 4), (5, 4, 3)),
    ((6, 1, 2, 4), (5, 4, 3)),
]
AXES = [((4,), 0), ((3, 4), 1), ((2, 3, 4), (0, 2)), ((2, 3, 4), -2), ((2, 3), (0, 1))]
ROWS = [(6, 4), (2, 3, 4)]

INDEX = np.array([[0, 2, 1, 0], [2, 2, 0, 0]])
MASK = np.array([[True, False, False, True], [False, True, True, False], [True, True, False, False]])


def normal(rng, shape):
    return rng.normal(size=shape)


def positive(rng, shape):
    return rng.uniform(0.3, 3, shape)


def chances(rng, shape):
    return rng.uniform(0.05, 0.95, shape)


def wide(rng, shape):
    return 20 * rng.normal(size=shape)


def binary(name, ours, theirs, *draws):
    return [(f"{name}-{a}-{b}", ours, theirs, draws, (a, b)) for a, b in PAIRS]


def unary(name, ours, theirs, *draws, shapes=SHAPES):
    return [(f"{name}-{shape}", ours, theirs, draws, [shape] * len(draws)) for shape in shapes]


def reduction(name, ours, theirs):
    return [
        (f"{name}-{shape}-{axis}-{keep}", bind(ours, axis, keep), bind(theirs, axis, keep), [normal], [shape])
        for shape, axis in AXES
        for keep in (False, True)
    ]


def bind(f, *arguments):
    return lambda x: f(x, *arguments)


def picked(index):
    """The same index for both: PyTorch wants its own arrays, and knows no negative steps."""

    def theirs(x):
        parts = index if isinstance(index, tuple) else (index,)
        return x[tuple(torch.from_numpy(p) if isinstance(p, np.ndarray) else p for p in parts)]

    return lambda x: x[index], theirs


def loss(name, ours, theirs, *draws, shapes=SHAPES, reductions=("mean", "sum", "none"), **options):
    for r in reductions:
        yield from unary(
            f"{name}-{r}",
            lambda *xs, r=r: ours(*xs, reduction=r, **options),
            lambda *xs, r=r: theirs(*xs, reduction=r, **options),
            *draws,
            shapes=shapes,
        )


def classes(seed, shape):
    return np.random.default_rng(seed).integers(0, shape[-1], shape[:-1])


def cross_entropies():
    weight = np.array([0.5, 1.0, 2.0, 3.0])
    for shape in ROWS:
        t = classes(0, shape)
        for r in ("mean", "sum", "none"):
            for smoothing in (0.0, 0.1):
                for w in (None, weight):
                    for ignore in (None, 1):

                        def ours(x, t=t, r=r, s=smoothing, w=w, i=ignore):
                            return L.cross_entropy(x, t, w, i, s, r)

                        def theirs(x, t=t, r=r, s=smoothing, w=w, i=ignore):
                            w = None if w is None else torch.tensor(w, dtype=x.dtype)
                            i = -100 if i is None else i
                            t = torch.from_numpy(t)
                            return F.cross_entropy(
                                x.movedim(-1, 1), t, w, ignore_index=i, label_smoothing=s, reduction=r
                            )

                        yield (
                            f"cross_entropy-{shape}-{r}-{smoothing}-{w is None}-{ignore}",
                            ours,
                            theirs,
                            [wide],
                            [shape],
                        )

        def ours(x, t=t):
            return L.nll_loss(A.log_softmax(x), t, weight)

        def theirs(x, t=t):
            w, t = torch.tensor(weight, dtype=x.dtype), torch.from_numpy(t)
            return F.nll_loss(x.log_softmax(-1).movedim(-1, 1), t, w)

        yield f"nll_loss-{shape}", ours, theirs, [normal], [shape]
    yield (
        "cross_entropy-probabilities",
        lambda x, t: L.cross_entropy(x, A.softmax(t), weight),
        lambda x, t: F.cross_entropy(x, t.softmax(-1), torch.tensor(weight, dtype=x.dtype)),
        [normal, normal],
        [(6, 4), (6, 4)],
    )


def indexing():
    for i, index in enumerate(
        [
            1,
            (..., -1),
            (slice(None), slice(1, None, 2)),
            (slice(None), None, 2),
            np.array([0, 2, 2, 0]),
            (slice(None), INDEX),
            (np.array([0, 0, 1]), np.array([3, 3, 1])),
            (np.array([[0], [2]]), np.array([1, 1, 3])),
            MASK,
            MASK[:, 0],
            (slice(None), MASK[0]),
        ]
    ):
        ours, theirs = picked(index)
        yield f"getitem-{i}", ours, theirs, [normal], [(3, 4)]


def einsums():
    for spec, *shapes in [
        ("ij,jk->ik", (2, 3), (3, 4)),
        ("bhid,bhjd->bhij", (2, 2, 3, 4), (2, 2, 5, 4)),
        ("...ij,jk->...ik", (2, 5, 3), (3, 4)),
        ("ij->j", (2, 3)),
        ("i,j,k->ijk", (2,), (3,), (4,)),
        ("ij,ij->", (2, 3), (2, 3)),
    ]:
        ours, theirs = functools.partial(T.einsum, spec), functools.partial(torch.einsum, spec)
        yield f"einsum-{spec}", ours, theirs, [normal] * len(shapes), shapes


def linears():
    for x in [(4,), (5, 4), (2, 5, 4)]:
        yield f"linear-{x}", linear, lambda x, w: F.linear(x, w.T), [normal] * 2, [x, (4, 3)]
        yield f"linear-{x}-bias", linear, lambda x, w, b: F.linear(x, w.T, b), [normal] * 3, [x, (4, 3), (3,)]


CASES = [
    *binary("add", T.add, torch.add, normal, normal),
    *binary("sub", T.sub, torch.sub, normal, normal),
    *binary("mul", T.mul, torch.mul, normal, normal),
    *binary("div", T.div, torch.div, normal, positive),
    *binary("pow", T.pow, torch.pow, positive, normal),
    *unary("pow-2", lambda x: x**2, lambda x: x**2, normal),
    *unary("pow-3", lambda x: x**3, lambda x: x**3, normal),
    *unary("pow-half", lambda x: x**0.5, lambda x: x**0.5, positive),
    *unary("2-pow", lambda x: 2**x, lambda x: 2**x, normal),
    *unary("neg", T.neg, torch.neg, normal),
    *unary("exp", T.exp, torch.exp, normal),
    *unary("log", T.log, torch.log, positive),
    *unary("sqrt", T.sqrt, torch.sqrt, positive),
    *unary("abs", T.abs, torch.abs, normal),
    *unary("sum", T.sum, torch.sum, normal),
    *unary("mean", T.mean, torch.mean, normal),
    *unary("var", lambda x: T.var(x), lambda x: torch.var(x, correction=0), normal, shapes=SHAPES[1:]),
    *unary("max", T.max, torch.amax, normal),
    *unary("min", T.min, torch.amin, normal),
    *reduction("sum", T.sum, torch.sum),
    *reduction("mean", T.mean, torch.mean),
    *reduction("var", lambda x, a, k: T.var(x, a, k, 1), lambda x, a, k: torch.var(x, a, correction=1, keepdim=k)),
    *reduction("std", lambda x, a, k: T.std(x, a, k, 1), lambda x, a, k: torch.std(x, a, correction=1, keepdim=k)),
    *reduction("max", T.max, torch.amax),
    *reduction("min", T.min, torch.amin),
    *reduction("logsumexp", T.logsumexp, torch.logsumexp),
    *unary("max-ties", lambda x: T.max(x * 0, -1), lambda x: torch.amax(x * 0, -1), normal, shapes=SHAPES[1:]),
    *unary("cumsum", T.cumsum, lambda x: x.cumsum(-1), normal, shapes=SHAPES[1:]),
    *[(f"matmul-{a}-{b}", T.matmul, torch.matmul, [normal, normal], [a, b]) for a, b in MATRICES],
    *unary("reshape", lambda x: x.reshape(-1, 2), lambda x: x.reshape(-1, 2), normal, shapes=[(4,), (2, 3)]),
    *unary("permute", lambda x: x.permute(2, 0, 1), lambda x: x.permute(2, 0, 1), normal, shapes=[(2, 3, 4)]),
    *unary("T", lambda x: x.T @ x, lambda x: x.T @ x, normal, shapes=[(3, 4)]),
    *unary(
        "broadcast_to", lambda x: x.broadcast_to(2, 3, 4), lambda x: x.broadcast_to(2, 3, 4), normal, shapes=[(3, 1)]
    ),
    ("cat", lambda *xs: T.cat(xs, 1), lambda *xs: torch.cat(xs, 1), [normal] * 3, [(3, 2), (3, 4), (3, 1)]),
    ("stack", lambda *xs: T.stack(xs, -1), lambda *xs: torch.stack(xs, -1), [normal] * 3, [(3, 2)] * 3),
    ("split", lambda x: x.split(2, 1)[2] * 2, lambda x: x.split(2, 1)[2] * 2, [normal], [(3, 5)]),
    *indexing(),
    (
        "where",
        lambda x, y: T.where(MASK, x, y),
        lambda x, y: torch.where(torch.from_numpy(MASK), x, y),
        [normal] * 2,
        [(4,), (3, 1)],
    ),
    (
        "masked_fill",
        lambda x: x.masked_fill(MASK, 3.0),
        lambda x: x.masked_fill(torch.from_numpy(MASK), 3.0),
        [normal],
        [(3, 4)],
    ),
    *unary("clip", lambda x: x.clip(-0.5, 0.8), lambda x: x.clip(-0.5, 0.8), normal),
    *unary("clip-below", lambda x: x.clip(min=0.1), lambda x: x.clip(min=0.1), normal),
    ("gather", lambda x: x.gather(0, INDEX), lambda x: x.gather(0, torch.from_numpy(INDEX)), [normal], [(3, 4)]),
    (
        "scatter_add",
        lambda x, s: x.scatter_add(0, INDEX, s),
        lambda x, s: x.scatter_add(0, torch.from_numpy(INDEX), s),
        [normal] * 2,
        [(3, 4), (2, 4)],
    ),
    *unary(
        "take", lambda x: x.take([0, 0, 5]), lambda x: x.take(torch.tensor([0, 0, 5])), normal, shapes=[(7,), (3, 4)]
    ),
    *unary("sort", lambda x: x.sort(-1)[0], lambda x: x.sort(-1)[0], normal, shapes=SHAPES[1:]),
    *unary("topk", lambda x: x.topk(2)[0], lambda x: x.topk(2)[0], normal, shapes=SHAPES[1:]),
    *unary("pad", lambda x: x.pad(((1, 2), (0, 3))), lambda x: F.pad(x, (0, 3, 1, 2)), normal, shapes=[(3, 4)]),
    ("outer", T.outer, torch.outer, [normal] * 2, [(3,), (4,)]),
    *einsums(),
    ("copy", lambda x: x.copy(), torch.clone, [normal], [(3, 4)]),
    ("astype", lambda x: x.astype(np.float64) * 2, lambda x: x.double() * 2, [normal], [(3, 4)]),
    *unary("relu", A.relu, torch.relu, normal),
    *unary("leaky_relu", lambda x: A.leaky_relu(x, 0.2), lambda x: F.leaky_relu(x, 0.2), normal),
    *unary("sigmoid", A.sigmoid, torch.sigmoid, wide),
    *unary("tanh", A.tanh, torch.tanh, normal),
    *unary("softplus", A.softplus, lambda x: F.softplus(x, threshold=1e4), wide),
    *unary("silu", A.silu, F.silu, normal),
    *unary("gelu", A.gelu, lambda x: F.gelu(x, approximate="tanh"), normal),
    *unary("softmax", A.softmax, lambda x: x.softmax(-1), normal, shapes=SHAPES[1:]),
    *unary("softmax-0", lambda x: A.softmax(x, 0), lambda x: x.softmax(0), wide, shapes=SHAPES[1:]),
    *unary("log_softmax", A.log_softmax, lambda x: x.log_softmax(-1), wide, shapes=SHAPES[1:]),
    *linears(),
    *loss("mse_loss", L.mse_loss, F.mse_loss, normal, normal),
    *loss("l1_loss", L.l1_loss, F.l1_loss, normal, normal),
    *loss("huber_loss", L.huber_loss, F.huber_loss, wide, normal),
    *loss("huber_loss-2", L.huber_loss, F.huber_loss, normal, normal, delta=0.5),
    *loss("bce", L.binary_cross_entropy, F.binary_cross_entropy, chances, chances),
    *loss("bce_logits", L.binary_cross_entropy_with_logits, F.binary_cross_entropy_with_logits, wide, chances),
    *loss("kl_div", L.kl_div, F.kl_div, normal, chances),
    *loss("kl_batchmean", L.kl_div, F.kl_div, normal, chances, shapes=SHAPES[1:], reductions=["batchmean"]),
    *cross_entropies(),
    (
        "a network",
        lambda x, w, b, v: A.softmax(A.gelu(linear(x, w, b)) @ v).log().mean(axis=0),
        lambda x, w, b, v: (F.gelu(x @ w + b, approximate="tanh") @ v).softmax(-1).log().mean(0),
        [normal] * 4,
        [(6, 4), (4, 8), (8,), (8, 3)],
    ),
    (
        "a checkpointed network",
        lambda x, w: checkpoint(lambda x: A.tanh(x @ w) * x, x),
        lambda x, w: torch.tanh(x @ w) * x,
        [normal] * 2,
        [(6, 4), (4, 4)],
    ),
]


def compare(ours, theirs, arrays, start, rtol, atol):
    xs = [Tensor(array, requires_grad=True, dtype=array.dtype) for array in arrays]
    ys = [torch.tensor(array, requires_grad=True) for array in arrays]
    got, want = ours(*xs), theirs(*ys)
    assert_close(got, want.detach().numpy(), rtol, atol, what="the value")
    start = start.uniform(0.5, 1.5, got.shape)
    got.backward(start)
    want.backward(torch.tensor(start, dtype=want.dtype))
    for i, (x, y) in enumerate(zip(xs, ys)):
        assert_close(x.grad, y.grad.numpy(), rtol, atol, what=f"the gradient of input {i}")


@pytest.mark.parametrize(
    ("name", "ours", "theirs", "draws", "shapes"),
    [pytest.param(*case, id=case[0].replace(" ", "")) for case in CASES],
)
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
def test_values_and_gradients_in_both_precisions(name, ours, theirs, draws, shapes):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    arrays = [np.asarray(draw(rng, shape)) for draw, shape in zip(draws, shapes)]
    compare(ours, theirs, arrays, rng, 1e-10, 1e-12)
    compare(ours, theirs, [array.astype(np.float32) for array in arrays], rng, 2e-5, 2e-6)
