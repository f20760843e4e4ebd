"""The rules of lesson 11 against finite differences, loops and each other."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.autograd import Function, gradcheck
from tinytorch.core.tensor import Tensor
from tinytorch.text.embeddings import (
    EmbeddingBackward,
    PositionalEncoding,
    RotaryBackward,
    RotaryEmbedding,
    SinusoidalEncoding,
    embedding,
    rotary,
)

RNG = np.random.default_rng(0)
TOKENS = {
    "none": np.zeros(0, np.int64),
    "one": np.array(3),
    "each once": np.arange(5),
    "one often": np.full((2, 4), 2),
    "some often": np.array([[0, 4, 0], [4, 0, 1]]),
    "first and last": np.array([0, 4]),
    "three axes": RNG.integers(0, 5, (2, 3, 4)),
}
TURNS = np.exp(1j * RNG.normal(size=(4, 3)))
CASES = {
    "embedding": [(lambda w, t=t: embedding(w, t), RNG.normal(size=(5, 3))) for t in TOKENS.values() if t.size],
    "rotary": [(lambda x: rotary(x, TURNS), RNG.normal(size=shape)) for shape in [(4, 6), (2, 4, 6), (2, 1, 4, 6)]],
}
every_case = pytest.mark.parametrize(("f", "x"), [case for cases in CASES.values() for case in cases])


def loop(grad, tokens, V):
    """The rule as a loop over all places, in float64."""
    dweight = np.zeros((V, grad.shape[-1]))
    for token, row in zip(tokens.ravel(), grad.reshape(-1, grad.shape[-1])):
        dweight[token] += row
    return dweight


def gradient(weight, tokens, grad):
    weight = Tensor(weight, requires_grad=True, dtype=weight.dtype)
    embedding(weight, tokens).backward(grad)
    return weight.grad


def test_every_rule_of_this_lesson_is_in_the_table():
    here = {op for op, rule in Function.rules.items() if rule.__module__ == "tinytorch.text.embeddings"}
    assert here == set(CASES)
    assert (Function.rules["embedding"], Function.rules["rotary"]) == (EmbeddingBackward, RotaryBackward)


@every_case
class TestEveryRule:
    def test_it_agrees_with_finite_differences(self, f, x):
        assert gradcheck(f, x, rtol=1e-6) is True

    def test_float32_stays_float32(self, f, x):
        x = Tensor(x, requires_grad=True)
        out = f(x)
        out.sum().backward()
        assert (out.dtype, x.grad.dtype, x.grad.shape) == (np.float32, np.float32, x.shape)

    def test_neither_the_input_nor_the_gradient_that_comes_in_is_changed(self, f, x):
        x = Tensor(x, requires_grad=True)
        x.data.setflags(write=False)
        out = f(x)
        incoming = np.ones_like(out.data)
        incoming.setflags(write=False)
        out._grad_fn.apply(incoming)

    def test_the_gradient_has_memory_of_its_own(self, f, x):
        x = Tensor(x, requires_grad=True)
        out = f(x)
        incoming = np.ones_like(out.data)
        (dx,) = out._grad_fn.apply(incoming)
        assert not np.shares_memory(dx, incoming)
        assert not np.shares_memory(dx, x.data)

    def test_a_gradient_that_is_not_contiguous(self, f, x):
        x = Tensor(x, requires_grad=True, dtype=np.float64)
        out = f(x)
        incoming = RNG.normal(size=out.shape[::-1]).T
        (got,) = out._grad_fn.apply(incoming)
        (want,) = out._grad_fn.apply(np.ascontiguousarray(incoming))
        assert_close(got, want, rtol=1e-12)


class TestEmbeddingBackward:
    @pytest.mark.parametrize("tokens", TOKENS.values(), ids=TOKENS)
    def test_it_is_the_loop(self, tokens):
        grad = RNG.normal(size=(*tokens.shape, 3))
        assert_close(gradient(np.zeros((5, 3)), tokens, grad), loop(grad, tokens, 5), rtol=1e-12)

    @pytest.mark.parametrize("V", [7, 300, 50_000])
    @pytest.mark.parametrize("skew", [0, 3])
    def test_many_tokens_of_all_frequencies(self, V, skew):
        tokens = (V * RNG.random(3000) ** (1 + skew)).astype(np.int64)
        grad = RNG.normal(size=(3000, 4))
        got = gradient(np.zeros((V, 4)), tokens, grad)
        assert_close(got, loop(grad, tokens, V), rtol=1e-10, atol=1e-10)
        assert not got[np.setdiff1d(np.arange(V), tokens)].any()

    def test_it_is_the_transposed_one_hot_product(self):
        tokens, grad = RNG.integers(0, 9, (4, 5)), RNG.normal(size=(4, 5, 3))
        hot = np.eye(9)[tokens.ravel()]
        assert_close(gradient(np.zeros((9, 3)), tokens, grad), hot.T @ grad.reshape(-1, 3))

    def test_the_sum_of_all_gradients_arrives(self):
        tokens, grad = RNG.integers(0, 50, 1000), RNG.normal(size=(1000, 4))
        assert_close(gradient(np.zeros((50, 4)), tokens, grad).sum(axis=0), grad.sum(axis=0))

    def test_the_order_of_the_places_does_not_matter(self):
        tokens, grad, order = RNG.integers(0, 9, 40), RNG.normal(size=(40, 3)), RNG.permutation(40)
        shuffled = gradient(np.zeros((9, 3)), tokens[order], grad[order])
        assert_close(shuffled, gradient(np.zeros((9, 3)), tokens, grad))

    @pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int32, np.uint64])
    def test_small_and_unsigned_dtypes(self, kind):
        tokens = np.array([100, 3, 100, 0], kind)
        got = gradient(np.zeros((120, 2)), tokens, np.ones((4, 2)))
        assert {int(i): int(got[i, 0]) for i in np.flatnonzero(got[:, 0])} == {0: 1, 3: 1, 100: 2}


class TestWholeLayers:
    @pytest.mark.parametrize("cls", [PositionalEncoding, SinusoidalEncoding])
    def test_adding_places(self, cls):
        layer = cls(5, 3)
        assert gradcheck(lambda x: layer(x, 1), RNG.normal(size=(2, 4, 3)))

    def test_turning_queries_and_keys(self):
        turn = RotaryEmbedding(4)

        def products(q, k):
            q, k = turn(q, k, offset=3)
            return q @ k.swapaxes(-1, -2)

        assert gradcheck(products, [RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 3, 4))])
