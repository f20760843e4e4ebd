"""The rule of attention against finite differences and against the rules of module 05."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import softmax
from tinytorch.core.attention import MultiHeadAttention, causal_mask, scaled_dot_product_attention
from tinytorch.core.autograd import Function, gradcheck
from tinytorch.core.tensor import Tensor, manual_seed, where
from tinytorch.text.embeddings import RotaryEmbedding

RNG = np.random.default_rng(0)
MASK = RNG.random((4, 5)) > 0.4
MASK[1] = False
BIAS = np.where(MASK, RNG.normal(size=(4, 5)), -math.inf)

SHAPES = {
    "plain": [(4, 3), (5, 3), (5, 2)],
    "batch and heads": [(2, 2, 4, 3), (2, 2, 5, 3), (2, 2, 5, 3)],
    "one key head": [(2, 2, 4, 3), (2, 1, 5, 3), (2, 1, 5, 2)],
    "shared queries": [(4, 3), (2, 5, 3), (2, 5, 2)],
    "one column": [(4, 1), (5, 1), (5, 1)],
}
OPTIONS = {
    "free": {},
    "causal": {"causal": True},
    "boolean": {"mask": MASK},
    "float": {"mask": BIAS},
    "boolean and causal": {"mask": MASK, "causal": True},
    "dropout": {"dropout": 0.4, "rng": 3},
    "causal and dropout": {"causal": True, "dropout": 0.4, "rng": 3},
}
CASES = [
    pytest.param(arrays, options, id=f"{a}-{b}")
    for a, shapes in SHAPES.items()
    for b, options in OPTIONS.items()
    for arrays in [[RNG.normal(size=shape) for shape in shapes]]
]
every_case = pytest.mark.parametrize(("arrays", "options"), CASES)


def tracked(arrays, dtype=np.float64, needs=(True, True, True, True)):
    return [Tensor(x, dtype=dtype, requires_grad=need) for x, need in zip(arrays, needs)]


def test_attention_has_the_only_rule_of_this_lesson():
    assert [op for op, rule in Function.rules.items() if rule.__module__ == "tinytorch.core.attention"] == ["attention"]


@every_case
class TestEveryCase:
    def test_gradients_agree_with_finite_differences(self, arrays, options):
        assert gradcheck(lambda q, k, v: scaled_dot_product_attention(q, k, v, **options)[0], arrays, rtol=1e-6)

    def test_float32_stays_float32(self, arrays, options):
        inputs = tracked(arrays, np.float32)
        out, _ = scaled_dot_product_attention(*inputs, **options)
        out.sum().backward()
        assert [(x.grad.dtype, x.grad.shape) for x in inputs] == [(np.float32, x.shape) for x in inputs]

    def test_an_input_gets_the_same_gradient_when_no_other_needs_one(self, arrays, options):
        everyone = tracked(arrays)
        out, _ = scaled_dot_product_attention(*everyone, **options)
        weight = RNG.normal(size=out.shape)
        out.backward(weight)
        for i in range(3):
            alone = tracked(arrays, needs=[i == j for j in range(3)])
            scaled_dot_product_attention(*alone, **options)[0].backward(weight)
            assert_close(alone[i].grad, everyone[i].grad, rtol=1e-12, atol=1e-13)

    def test_neither_inputs_nor_the_gradient_that_comes_in_are_changed(self, arrays, options):
        inputs = tracked(arrays)
        for x in inputs:
            x.data.setflags(write=False)
        out, _ = scaled_dot_product_attention(*inputs, **options)
        incoming = RNG.normal(size=out.shape)
        incoming.setflags(write=False)
        first = out._grad_fn.apply(incoming)
        second = out._grad_fn.apply(incoming)
        for a, b in zip(first, second):
            assert_close(b, a, rtol=0, atol=0)

    def test_no_two_gradients_share_memory(self, arrays, options):
        out, _ = scaled_dot_product_attention(*tracked(arrays), **options)
        grads = out._grad_fn.apply(np.ones(out.shape))
        assert not any(np.shares_memory(grads[i], grads[j]) for i, j in [(0, 1), (0, 2), (1, 2)])


class TestSeparateOperations:
    @pytest.mark.parametrize("options", [{}, {"causal": True}, {"mask": MASK}])
    def test_the_rules_of_module_05_come_to_the_same(self, options):
        arrays = [RNG.normal(size=shape) for shape in SHAPES["batch and heads"]]
        weight = RNG.normal(size=(2, 2, 4, 3))
        fused, separate = tracked(arrays), tracked(arrays)
        scaled_dot_product_attention(*fused, **options)[0].backward(weight)
        q, k, v = separate
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(3)
        allowed = causal_mask(4, 5).data if "causal" in options else options.get("mask", np.ones((4, 5), bool))
        (softmax(where(allowed, scores, -math.inf)) @ v).backward(weight)
        for x, y in zip(fused, separate):
            assert_close(x.grad, y.grad, rtol=1e-9, atol=1e-12)


class TestLearnedMask:
    @pytest.mark.parametrize("shape", [(4, 5), (5,), (2, 1, 5), (2, 4, 5), (1, 4, 1), ()])
    def test_a_bias_gets_a_gradient_of_its_own_shape(self, shape):
        arrays = [RNG.normal(size=s) for s in [(2, 4, 3), (2, 5, 3), (2, 5, 2), shape]]

        def f(q, k, v, bias):
            return scaled_dot_product_attention(q, k, v, mask=bias, causal=True)[0]

        assert gradcheck(f, arrays, rtol=1e-6)

    def test_a_bias_in_another_dtype_gets_a_gradient_in_its_own(self):
        q, k, v = tracked([RNG.normal(size=s) for s in SHAPES["plain"]], np.float32)
        bias = Tensor(np.zeros((4, 5)), dtype=np.float64, requires_grad=True)
        out, _ = scaled_dot_product_attention(q, k, v, mask=bias)
        out.sum().backward()
        assert (out.dtype, bias.grad.dtype, q.grad.dtype) == (np.float32, np.float64, np.float32)

    def test_raising_the_score_of_a_key_moves_the_result_towards_its_value(self):
        bias = Tensor(np.zeros((1, 2)), requires_grad=True)
        zeros = np.zeros((2, 1))
        scaled_dot_product_attention(zeros[:1], zeros, [[0.0], [8.0]], mask=bias)[0].backward(
            np.ones((1, 1), np.float32)
        )
        assert_close(bias.grad, np.array([[-2, 2]], np.float32))


class TestZeros:
    def test_a_row_that_sees_nothing_has_gradients_of_zero(self):
        inputs = tracked([RNG.normal(size=s) for s in SHAPES["plain"]])
        scaled_dot_product_attention(*inputs, mask=np.zeros((4, 5), bool))[0].sum().backward()
        for x in inputs:
            assert_close(x.grad, np.zeros(x.shape))

    def test_values_that_are_all_alike_make_the_scores_indifferent(self):
        q, k, v = tracked([RNG.normal(size=(4, 3)), RNG.normal(size=(5, 3)), np.ones((5, 2))])
        scaled_dot_product_attention(q, k, v)[0].backward(RNG.normal(size=(4, 2)))
        assert_close(q.grad, np.zeros((4, 3)), atol=1e-14)
        assert_close(k.grad, np.zeros((5, 3)), atol=1e-14)


class TestWholeLayer:
    @pytest.mark.parametrize("rotary", [None, RotaryEmbedding(2)])
    @pytest.mark.parametrize("options", [{}, {"causal": True}, {"mask": RNG.random((2, 3, 3)) > 0.3}])
    def test_inputs_and_parameters(self, options, rotary):
        layer = MultiHeadAttention(4, 2, rotary=rotary, rng=0)

        def f(x, *parameters):
            for linear, (weight, bias) in zip((layer.in_proj, layer.out_proj), (parameters[:2], parameters[2:])):
                linear.weight, linear.bias = weight, bias
            return layer(x, **options)

        arrays = [RNG.normal(size=(2, 3, 4)), *(p.data.astype(np.float64) for p in layer.parameters())]
        assert gradcheck(f, arrays, rtol=1e-6)

    def test_with_dropout(self):
        layer = MultiHeadAttention(4, 2, dropout=0.5, rng=0)

        def f(x):
            manual_seed(1)
            return layer(x)

        assert gradcheck(f, RNG.normal(size=(2, 3, 4)), rtol=1e-6)
