"""Every rule beside finite differences, in float64, and what holds for all rules alike.

The table has one entry for every rule of lesson 05. Rules of later lessons stand in later files and are checked there,
so the table is compared with the rules of this file alone.
"""

import functools
import gc
import itertools
import weakref

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import activations as A
from tinytorch.core import losses as L
from tinytorch.core import tensor as T
from tinytorch.core.autograd import Function, checkpoint, grad, gradcheck
from tinytorch.core.layers import dropout, linear
from tinytorch.core.tensor import Tensor

RNG = np.random.default_rng(0)
SHAPES = [(), (4,), (3, 4), (1, 4), (2, 3, 4)]
PAIRS = [
    *itertools.product(SHAPES, SHAPES),
    ((3, 1), (1, 4)),
    ((3, 1), (4,)),
    ((2, 1, 4), (3, 1)),
    ((1, 1), ()),
    ((0, 4), (1, 4)),
]


def normal(*shape):
    return RNG.normal(size=shape)


def positive(*shape):
    return RNG.uniform(0.5, 2, shape)


def spread(*shape):
    """Numbers around 0 that are 0.1 or more apart, in random order: no ties, no corner within a finite difference."""
    size = int(np.prod(shape))
    return (RNG.permutation(size) - size / 2 + 0.25).reshape(shape) / 10


def chances(*shape):
    return RNG.uniform(0.1, 0.9, shape)


def case(f, *inputs, **options):
    return functools.partial(f, **options) if options else f, inputs


def each(f, draw, shapes=SHAPES, **options):
    return [case(f, draw(*shape), **options) for shape in shapes]


def pairs(f, draw_a, draw_b):
    return [case(f, draw_a(*a), draw_b(*b)) for a, b in PAIRS]


def masked(condition):
    return lambda a, b: T.where(condition, a, b)


REDUCTIONS = [
    ((), None),
    ((4,), None),
    ((4,), 0),
    ((4,), -1),
    ((3, 4), None),
    ((3, 4), 0),
    ((3, 4), 1),
    ((3, 4), -2),
    ((3, 4), (0, 1)),
    ((1, 4), 0),
    ((1, 4), (-1,)),
    ((2, 3, 4), None),
    ((2, 3, 4), 1),
    ((2, 3, 4), -1),
    ((2, 3, 4), (0, 2)),
    ((2, 3, 4), (-1, 0)),
    ((2, 3, 4), ()),
]


def reductions(f, draw, **options):
    return [
        case(f, draw(*shape), axis=axis, keepdims=keepdims, **options)
        for shape, axis in REDUCTIONS
        for keepdims in (False, True)
    ]


MATMULS = [
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((1, 3), (3, 1)),
    ((3,), (2, 3, 4)),
    ((2, 3, 4), (4,)),
    ((5, 2, 3, 4), (4,)),
    ((2, 3, 4), (4, 5)),
    ((2, 1, 3, 4), (4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((1, 3, 4), (2, 4, 5)),
    ((2, 3, 4), (1, 4, 5)),
    ((2, 1, 3, 4), (5, 4, 2)),
    ((5, 3, 4), (2, 1, 4, 2)),
    ((2, 1, 2, 3), (1, 3, 3, 2)),
    ((0, 3), (3, 4)),
]

GETITEMS = [
    1,
    -1,
    (1, 2, 3),
    slice(1, 2),
    (slice(None), slice(2, None, -1)),
    (slice(None), None, 1),
    None,
    ...,
    (..., 2),
    (0, ..., slice(1, 3)),
    (),
    [1, 0, 1, 1],
    [],
    np.array([[0, 1], [1, 1]]),
    np.array(1),
    (slice(None), [2, 0, 2, 2]),
    (slice(None), [-1, 2]),
    (np.array([0, 1, 0]), np.array([2, 0, 2])),
    (np.array([[0], [1]]), np.array([2, 0, 2])),
    (np.array([0, 0]), slice(None), np.array([3, 3])),
    (slice(None), 1, np.array([0, 0, 3])),
    (None, [1, 1], slice(None), [0, 0]),
    np.arange(24).reshape(2, 3, 4) % 3 == 0,
    np.zeros((2, 3, 4), bool),
    np.array([True, False]),
    (slice(None), np.array([True, False, True])),
    (np.array([True, True]), 0),
    (np.array([True, True]), np.array([1, 1])),
    (slice(None), [True, False, True], [1, 1]),
]


def picks(index):
    return lambda x: x[index]


PLACES = np.array([[0, 2, 0, 1], [0, 1, 0, 0]])
SOFTMAXES = [((4,), 0), ((3, 4), 0), ((3, 4), -1), ((1, 4), 0), ((2, 3, 4), 1), ((2, 3, 4), -1)]
LOSS_SHAPES = [(), (4,), (3, 4), (2, 3, 4)]
CLASSES = np.array([[2, 0, 1], [3, 1, 2]])


def distances(f, draw, draw_target, **options):
    return [
        case(f, draw(*shape), draw_target(*shape), reduction=reduction, **options)
        for shape in LOSS_SHAPES
        for reduction in ("mean", "sum", "none")
    ]


def cross_entropies():
    for reduction in ("mean", "sum", "none"):
        yield case(lambda x, r: L.cross_entropy(x, 2, reduction=r), normal(4), r=reduction)
        for options in (
            {},
            {"weight": np.array([0.5, 1, 2, 3])},
            {"ignore_index": 2},
            {"weight": np.array([0.5, 1, 0, 3]), "ignore_index": 1},
            {"label_smoothing": 0.1},
        ):
            yield case(L.cross_entropy, normal(3, 4), targets=CLASSES[0], reduction=reduction, **options)
            yield case(L.cross_entropy, normal(2, 3, 4), targets=CLASSES, reduction=reduction, **options)
        yield case(L.cross_entropy, normal(3, 4), chances(3, 4), reduction=reduction)
        yield case(L.nll_loss, normal(3, 4), targets=CLASSES[0], reduction=reduction)


def kl_divs():
    yield from distances(L.kl_div, normal, chances)
    yield case(L.kl_div, normal(3, 4), chances(3, 4), reduction="batchmean")


def checkpoints():
    def block(x, w):
        return A.tanh(x @ w) * x

    yield case(lambda x: checkpoint(A.tanh, x), normal(3, 4))
    yield case(lambda x, w: checkpoint(block, x, w), normal(3, 4), normal(4, 4))
    yield case(lambda x, w: checkpoint(lambda x: block(x, w), x), normal(3, 4), normal(4, 4))
    yield case(lambda x, w: checkpoint(lambda x: block(x, 2 * w), x * x) * w.sum(), normal(3, 4), normal(4, 4))
    yield case(lambda x: checkpoint(lambda a, b: a * b, x, x), normal(4))
    yield case(lambda x: checkpoint(lambda x: checkpoint(A.silu, x * x) + x, x), normal(4))
    yield case(lambda x, w: checkpoint(lambda x, w: x, x, w) + 0 * w, normal(4), normal(4))


def einsums():
    for spec, *shapes in (
        ("i,i->", 3, 3),
        ("i,j->ij", 3, 4),
        ("ij,jk->ik", 34, 42),
        ("ij,kj->ik", 34, 24),
        ("bij,bjk->bik", 234, 245),
        ("ij->ji", 34),
        ("ij->", 34),
        ("ijk->j", 234),
        ("ij,jk,kl->il", 23, 34, 42),
        ("...ij,jk->...ik", 234, 42),
        ("...i,...i->...", 234, 34),
        ("ij,ij->ij", 14, 34),
        ("ij,jk", 23, 32),
        ("i,jk->j", 3, 42),
    ):
        arrays = [normal(*map(int, str(shape))) for shape in shapes]
        yield case(lambda *xs, spec: T.einsum(spec, *xs), *arrays, spec=spec)
    yield case(lambda a, b: T.einsum(",i->i", a, b), normal(), normal(3))


GRADCHECK_CASES = {
    "add": pairs(T.add, normal, normal),
    "sub": pairs(T.sub, normal, normal),
    "mul": pairs(T.mul, normal, normal),
    "div": pairs(T.div, normal, positive),
    "neg": each(T.neg, normal),
    "pow": [
        *pairs(T.pow, positive, normal),
        *(case(lambda x, n: x**n, spread(3, 4), n=n) for n in (0, 1, 2, 3, 4, np.array([[2.0], [3], [0]]))),
        *(case(lambda x, n: x**n, positive(3, 4), n=n) for n in (0.5, -1, -2.5)),
        case(lambda x: 2.5**x, normal(3, 4)),
        case(lambda x: x**x, positive(4)),
    ],
    "exp": each(T.exp, normal),
    "log": each(T.log, positive),
    "sqrt": each(T.sqrt, positive),
    "abs": each(T.abs, spread),
    "matmul": [case(T.matmul, normal(*a), normal(*b)) for a, b in MATMULS] + [case(lambda x: x @ x.T, normal(3, 4))],
    "sum": reductions(T.sum, normal),
    "mean": reductions(T.mean, normal),
    "var": [
        *reductions(T.var, normal),
        *(case(T.var, normal(3, 4), axis=axis, correction=1) for axis in (None, 0, -1)),
        *(case(T.std, normal(3, 4), axis=axis, correction=c) for axis in (None, 0, -1) for c in (0, 1)),
    ],
    "max": reductions(T.max, spread),
    "min": reductions(T.min, spread),
    "cumsum": [case(T.cumsum, normal(*s), axis=axis) for s, axis in [((4,), 0), ((3, 4), 0), ((2, 3, 4), -2)]],
    "logsumexp": reductions(T.logsumexp, normal),
    "copy": each(Tensor.copy, normal),
    "astype": each(lambda x: x.astype(np.longdouble), normal),
    "reshape": [
        *(case(lambda x, to: x.reshape(to), normal(2, 3, 4), to=to) for to in [(24,), (6, -1), (4, 3, 2), (1, 24, 1)]),
        case(lambda x: x.reshape(1, 1), normal()),
        case(lambda x: x.reshape(()), normal(1, 1)),
        case(lambda x: x.flatten(1), normal(2, 3, 4)),
        case(lambda x: x.squeeze(), normal(1, 4)),
        case(lambda x: x.unsqueeze(-1), normal(3, 4)),
        case(lambda x: x.T.reshape(2, 6), normal(3, 4)),
    ],
    "permute": [
        *(case(lambda x, axes: x.permute(axes), normal(2, 3, 4), axes=o) for o in itertools.permutations(range(3))),
        case(lambda x: x.permute(-1, 0, 1), normal(2, 3, 4)),
        case(lambda x: x.permute(1, 3, 0, 2), normal(2, 3, 1, 4)),
        case(lambda x: x.T, normal()),
        case(lambda x: x.swapaxes(0, -1), normal(2, 3, 4)),
    ],
    "broadcast_to": [
        case(lambda x, to: x.broadcast_to(to), normal(*s), to=to)
        for s, to in [((), (2, 3)), ((4,), (3, 4)), ((1, 4), (2, 3, 4)), ((2, 1, 4), (2, 3, 4)), ((3, 4), (3, 4))]
    ],
    "cat": [
        case(lambda *xs: T.cat(xs), normal(4), normal(2), normal(1)),
        case(lambda *xs: T.cat(xs, axis=1), normal(3, 4), normal(3, 1)),
        case(lambda *xs: T.cat(xs, axis=-2), normal(2, 3, 4), normal(2, 1, 4), normal(2, 0, 4)),
        case(lambda x: T.cat([x]), normal(3, 4)),
        case(lambda x, y: T.cat([x, y, x]), normal(2, 4), normal(3, 4)),
        *(case(lambda *xs, axis: T.stack(xs, axis), normal(3, 4), normal(3, 4), axis=axis) for axis in (0, 1, -1)),
    ],
    "pad": [
        case(lambda x, widths: x.pad(widths), normal(3, 4), widths=widths)
        for widths in (0, 2, (1, 2), ((0, 1), (2, 0)), ((0, 0), (0, 0)))
    ]
    + [case(lambda x: x.pad(1, value=7), normal(2, 3, 4)), case(lambda x: x.pad(1), normal())],
    "getitem": [
        *(case(picks(index), normal(2, 3, 4)) for index in GETITEMS),
        *(case(picks(index), normal()) for index in ((), None, ..., np.array(True))),
        case(picks([2, 0, 2, -1]), normal(3, 100)),
        case(picks([[0, 0], [1, 0]]), normal(2, 100)),
        case(lambda x: T.cat(x.split(2, axis=1), axis=0), normal(3, 4)),
        case(lambda x: x.take([1, 1, 5]), normal(3, 4)),
        case(lambda x: x.gather(0, PLACES), normal(3, 4)),
        *(case(lambda x, d: x.sort(0, descending=d)[0] * PLACES[:1], spread(3, 4), d=d) for d in (False, True)),
        case(lambda x: x.topk(2)[0], spread(3, 4)),
    ],
    "where": [
        *pairs(masked(np.array([True, False, False, True])), normal, normal),
        case(masked(np.array([[True], [False], [True]])), normal(1, 4), normal(2, 1, 1)),
        *(case(masked(np.array(c)), normal(4), normal(4)) for c in (True, False)),
        case(lambda x: x.masked_fill(CLASSES[:, :1] > 2, 7), normal(2, 4)),
    ],
    "clip": [
        case(lambda x, low, high: x.clip(low, high), spread(*shape), low=low, high=high)
        for shape in SHAPES
        for low, high in ((-0.2, 0.3), (None, 0.1), (0.1, None), (np.float64(-0.1), np.float64(0.1)))
    ]
    + [case(lambda x: x.clip(np.array([[-0.3], [0], [0.3]]), np.linspace(0.3, 0.4, 4)), spread(3, 4))],
    "scatter_add": [
        case(lambda x, src: x.scatter_add(0, PLACES, src), normal(3, 4), normal(2, 4)),
        case(lambda x, src: x.scatter_add(-1, PLACES, src), normal(2, 3), normal(2, 4)),
    ],
    "einsum": list(einsums()),
    "relu": each(A.relu, spread),
    "leaky_relu": each(A.leaky_relu, spread)
    + [case(A.leaky_relu, spread(3, 4), negative_slope=slope) for slope in (0, 0.3, 1)],
    "sigmoid": each(A.sigmoid, normal),
    "tanh": each(A.tanh, normal),
    "softplus": each(A.softplus, normal),
    "silu": each(A.silu, normal),
    "gelu": each(A.gelu, normal),
    "softmax": [case(A.softmax, normal(*shape), dim=dim) for shape, dim in SOFTMAXES],
    "log_softmax": [case(A.log_softmax, normal(*shape), dim=dim) for shape, dim in SOFTMAXES],
    "linear": [
        *(case(linear, normal(*shape, 3), normal(3, 5)) for shape in [(), (4,), (1,), (2, 4), (0,)]),
        *(case(linear, normal(*shape, 3), normal(3, 5), normal(5)) for shape in [(), (4,), (1,), (2, 4), (2, 1, 4)]),
    ],
    "dropout": [case(dropout, normal(*shape), p=p, rng=3) for shape in SHAPES for p in (0.3, 1)],
    "mse_loss": distances(L.mse_loss, normal, normal),
    "huber_loss": [
        *distances(L.huber_loss, spread, lambda *shape: np.full(shape, 0.01), delta=0.2),
        *distances(L.huber_loss, normal, normal),
    ],
    "binary_cross_entropy": distances(L.binary_cross_entropy, chances, chances),
    "binary_cross_entropy_with_logits": distances(L.binary_cross_entropy_with_logits, normal, chances),
    "cross_entropy": list(cross_entropies()),
    "kl_div": list(kl_divs()),
    "checkpoint": list(checkpoints()),
}

every_case = pytest.mark.parametrize(
    ("f", "inputs"),
    [
        pytest.param(f, inputs, id=f"{op}-{i}-" + "-".join(str(x.shape).replace(" ", "") for x in inputs))
        for op, cases in GRADCHECK_CASES.items()
        for i, (f, inputs) in enumerate(cases)
    ],
)
every_operation = pytest.mark.parametrize(("op", "cases"), GRADCHECK_CASES.items(), ids=GRADCHECK_CASES)


def tracked(inputs, dtype=np.float64, needs=None):
    needs = (True,) * len(inputs) if needs is None else needs
    return [Tensor(x, dtype=dtype, requires_grad=need) for x, need in zip(inputs, needs)]


def test_every_rule_of_this_lesson_is_in_the_table():
    here = {op for op, rule in Function.rules.items() if rule.__module__ == "tinytorch.core.autograd"}
    assert here == set(GRADCHECK_CASES)


@every_case
def test_gradients_agree_with_finite_differences(f, inputs):
    assert gradcheck(f, inputs, rtol=1e-6) is True


class TestAllRules:
    @every_operation
    def test_the_cases_reach_the_rule(self, op, cases, monkeypatch):
        applied = []
        rule = Function.rules[op]
        backward = rule.backward
        monkeypatch.setattr(rule, "backward", lambda self, grad: applied.append(type(self)) or backward(self, grad))
        for f, inputs in cases:
            f(*(inputs := tracked(inputs))).sum().backward()
        assert rule in applied

    @every_operation
    def test_float32_stays_float32(self, op, cases):
        for f, inputs in cases:
            inputs = tracked(inputs, np.float32)
            f(*inputs).sum().backward()
            for x in inputs:
                assert (type(x.grad), x.grad.shape, x.grad.dtype) == (np.ndarray, x.shape, np.float32)

    @every_operation
    def test_an_input_gets_the_same_gradient_when_no_other_needs_one(self, op, cases):
        for f, inputs in cases:
            everyone = tracked(inputs)
            weight = RNG.normal(size=(out := f(*everyone)).shape)
            want = grad(out, everyone, weight)
            for i in range(len(inputs)):
                alone = tracked(inputs, needs=[i == j for j in range(len(inputs))])
                f(*alone).backward(weight)
                assert_close(alone[i].grad, want[i], rtol=1e-12, atol=1e-13)
                assert [x.grad for x in alone[:i] + alone[i + 1 :]] == [None] * (len(inputs) - 1)

    @every_operation
    def test_the_gradient_that_comes_in_is_never_changed(self, op, cases):
        for f, inputs in cases:
            out = f(*tracked(inputs))
            incoming = np.ones_like(out.data)
            incoming.setflags(write=False)
            out._grad_fn.apply(incoming)

    @every_operation
    def test_inputs_are_never_changed(self, op, cases):
        for f, inputs in cases:
            inputs = tracked(inputs)
            for x in inputs:
                x.data.setflags(write=False)
            f(*inputs).sum().backward()

    @every_operation
    def test_no_two_gradients_share_memory(self, op, cases):
        for f, inputs in cases:
            inputs = tracked(inputs)
            f(*inputs).sum().backward()
            arrays = [x.grad for x in inputs] + [x.data for x in inputs]
            assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(arrays, 2))
            assert all(x.grad.flags.writeable for x in inputs)

    @every_operation
    def test_a_result_dies_with_its_last_name(self, op, cases):
        gc.disable()
        try:
            for f, inputs in cases:
                inputs = tracked(inputs)
                out = f(*inputs)
                refs = weakref.ref(out), weakref.ref(out._grad_fn)
                del out
                assert [ref() for ref in refs] == [None, None]
        finally:
            gc.enable()


class TestTies:
    """Where several elements are largest, each gets an equal part: the one direction in which none is preferred."""

    X = np.array([[3.0, 1, 3], [3, 3, 3], [0, 1, 2]])

    @pytest.mark.parametrize(("largest", "sign"), [(T.max, 1), (T.min, -1)])
    @pytest.mark.parametrize("keepdims", [False, True])
    @pytest.mark.parametrize(
        ("axis", "want"),
        [
            (None, [[0.2, 0, 0.2], [0.2, 0.2, 0.2], [0, 0, 0]]),
            (0, [[0.5, 0, 0.5], [0.5, 1, 0.5], [0, 0, 0]]),
            (1, [[0.5, 0, 0.5], [1 / 3, 1 / 3, 1 / 3], [0, 0, 1]]),
            ((0, 1), [[0.2, 0, 0.2], [0.2, 0.2, 0.2], [0, 0, 0]]),
            ((), [[1, 1, 1], [1, 1, 1], [1, 1, 1]]),
        ],
    )
    def test_they_share(self, largest, sign, axis, want, keepdims):
        x = Tensor(sign * self.X, requires_grad=True, dtype=np.float64)
        largest(x, axis=axis, keepdims=keepdims).sum().backward()
        assert_close(x.grad, np.array(want, np.float64), rtol=1e-12)

    @pytest.mark.parametrize("largest", [T.max, T.min])
    def test_the_shares_are_of_the_gradient_of_their_own_row(self, largest):
        x = Tensor([[2.0, 2.0], [5.0, 5.0]], requires_grad=True)
        largest(x, axis=1).backward([10.0, 100.0])
        assert_close(x.grad, np.array([[5, 5], [50, 50]], np.float32))

    def test_infinities_tie_too(self):
        x = Tensor([-np.inf, -np.inf], requires_grad=True)
        x.max().backward()
        assert x.grad.tolist() == [0.5, 0.5]


class TestCorners:
    """At a corner there is no derivative; the choice is PyTorch's."""

    @pytest.mark.parametrize(
        ("f", "at", "want"),
        [
            (T.abs, 0, 0),
            (A.relu, 0, 0),
            (lambda x: A.leaky_relu(x, 0.1), 0, 0.1),
            (lambda x: x.clip(0, 1), 0, 1),
            (lambda x: x.clip(0, 1), 1, 1),
            (lambda x: x**0, 0, 0),
            (lambda x: x**1, 0, 1),
            (lambda x: x**2, 0, 0),
            (lambda x: 0.0**x, 2, 0),
            (lambda x: L.huber_loss(x, np.zeros(()), delta=2.0), 2, 2),
        ],
    )
    def test_the_slope(self, f, at, want):
        x = Tensor(float(at), requires_grad=True)
        f(x).backward()
        assert_close(x.grad, np.float32(want))

    def test_binary_cross_entropy_is_finite_where_it_is_certain(self):
        p = Tensor([0.0, 1.0], requires_grad=True)
        L.binary_cross_entropy(p, [1.0, 0.0], "sum").backward()
        assert_close(p.grad, np.array([-1e12, 1e12], np.float32))

    def test_astype_gives_each_side_its_own_dtype(self):
        x = Tensor([1.0, 2.0], requires_grad=True, dtype=np.float16)
        (x.astype(np.float64) * 3).sum().backward()
        assert_close(x.grad, np.array([3, 3], np.float16))
        assert x.grad.dtype == np.float16


class TestGradcheckItself:
    """A check that never complains would pass every rule above."""

    def test_a_gradient_that_lacks_a_factor_is_found(self):
        with pytest.raises(
            RuntimeError, match=r"gradcheck: at \(0,\) of input 0, backward gives 3.* and finite differences 6"
        ):
            gradcheck(lambda x: x.detach() * x * np.array([2.0]), np.array([1.5]))

    def test_the_input_and_the_place_are_named(self, operation):
        def backward(rule, grad):
            wrong = np.zeros_like(grad)
            wrong[1, 0] = 1e-4
            return grad, wrong

        same = operation(backward)
        with pytest.raises(RuntimeError, match=r"at \(1, 0\) of input 1.*0\.0001.* finite differences 0"):
            gradcheck(same, [np.ones((2, 2)), np.ones((2, 2))])

    @pytest.mark.parametrize("size", [1e-5, 1e-4, 1.0, -2.0, np.nan])
    def test_a_wrong_sign_or_a_small_error_or_nan_is_found(self, operation, size):
        same = operation(lambda rule, grad: grad * (1 + size))
        with pytest.raises(RuntimeError, match="relative error"):
            gradcheck(same, np.array([1.0]))

    def test_every_place_is_looked_at(self, operation):
        for place in np.ndindex(2, 3):

            def backward(rule, grad, place=place):
                wrong = grad.copy()
                wrong[place] *= 1.01
                return wrong

            same = operation(backward, f"wrong{place}")
            with pytest.raises(RuntimeError, match=rf"at \({place[0]}, {place[1]}\) of input 0"):
                gradcheck(same, np.ones((2, 3)))

    def test_every_output_counts_by_its_own_weight(self, operation):
        """Equal weights would not notice two outputs taken for each other."""
        swapped = operation(lambda rule, grad: grad[::-1].copy())
        with pytest.raises(RuntimeError, match="relative error"):
            gradcheck(swapped, np.array([1.0, 2.0]))

    def test_rtol_is_the_error_allowed(self, operation):
        near = operation(lambda rule, grad: grad * 1.001)
        assert gradcheck(near, np.array([1.0]), rtol=1e-2) is True
        with pytest.raises(RuntimeError, match=r"relative error of 1\.0e-03 \(allowed 1e-04\)"):
            gradcheck(near, np.array([1.0]), rtol=1e-4)

    def test_eps_is_the_step(self):
        """Across the corner of a relu the central difference with step 1 from 0.5 is 3/4."""
        with pytest.raises(RuntimeError, match=r"backward gives \S+ and finite differences \S+,"):
            gradcheck(A.relu, 0.5, eps=1.0)
        assert gradcheck(A.relu, 0.5, eps=0.4) is True

    @pytest.mark.parametrize(
        "inputs",
        [2.0, np.float64(2), np.array(2.0), np.array([2.0]), Tensor([2.0]), [Tensor([2.0])], (np.array([2]),)],
        ids=["float", "NumPy's float", "array ()", "array", "tensor", "list", "integers"],
    )
    def test_what_it_takes(self, inputs):
        assert gradcheck(lambda x: x * x * x, inputs) is True

    def test_it_works_in_float64_on_copies(self):
        seen = set()

        def f(x):
            seen.add(x.dtype)
            return x * x

        x = Tensor([1.0, 2.0], requires_grad=True)
        gradcheck(f, x)
        assert seen == {np.dtype(np.float64)}
        assert x.tolist() == [1, 2]
        assert x.grad is None

    def test_every_step_starts_from_the_same_place(self):
        """A check that forgets to put a value back measures the next slope somewhere else."""
        seen = []

        def f(x):
            seen.append(x.data.copy())
            return (x * x).sum()

        gradcheck(f, np.array([1.0, 2.0]))
        moved = [(np.abs(x - [1.0, 2.0]) > 0).sum() for x in seen]
        assert moved == [0, 1, 1, 1, 1]
        assert all(np.abs(x - [1.0, 2.0]).max() < 2e-6 for x in seen)
