"""Arithmetic in closed form, by counting naively, and a formula for everything that announces itself."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest

import tinytorch
from tinytorch.core import tensor as T
from tinytorch.core.activations import GELU, ReLU, Softmax
from tinytorch.core.attention import MultiHeadAttention, scaled_dot_product_attention
from tinytorch.core.autograd import Function, checkpoint
from tinytorch.core.layers import Dropout, Linear, Sequential
from tinytorch.core.losses import cross_entropy, mse_loss
from tinytorch.core.spatial import (
    AvgPool2d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    ConvTranspose2d,
    MaxPool2d,
    adaptive_avg_pool2d,
)
from tinytorch.core.tensor import einsum, randn, result
from tinytorch.models.transformer import GPT, MLP, LayerNorm, TransformerBlock
from tinytorch.profiling.profiler import FLOPS, NO_ARITHMETIC, Profiler, count_flops
from tinytorch.text.embeddings import Embedding

OURS = {op: rule for op, rule in Function.rules.items() if rule.__module__.startswith("tinytorch.")}
UNKNOWN = {"argsort"}  # depends on the numbers


def announced_by_name():
    """The operations whose names stand in a call of `result` in a file of modules 01 to 14."""
    for path in Path(tinytorch.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        module = re.search(r"modules/(\d\d)_", text.split("\n", 1)[0])  # the first line says where a file comes from
        if module is None or int(module[1]) > 14:
            continue
        for node in ast.walk(ast.parse(text)):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "result"
            if called and isinstance(node.args[1], ast.Constant):
                yield node.args[1].value


class TestTable:
    @pytest.mark.parametrize("op", sorted(OURS))
    def test_every_operation_with_a_rule_has_a_formula_or_is_said_to_need_none(self, op):
        assert (op in FLOPS) + (op in NO_ARITHMETIC) == 1

    def test_every_operation_that_any_file_announces_is_known_or_known_to_be_unknown(self):
        names = set(announced_by_name())
        assert {"linear", "attention", "layer_norm", "invert"} <= names
        assert names - set(FLOPS) - NO_ARITHMETIC == UNKNOWN & names

    def test_comparisons_and_searches_are_known_too(self):
        x = randn(2, 3)
        with Profiler() as p:
            (x == x), (x != x), (x < x), (x <= x), (x > x), (x >= x), x.argmax(), x.argmin(0)
            (x > 0) & (x > 1) | ~(x > 2) ^ (x > 3)
            (x > 0).any(), (x > 0).all(), x.astype("int64")
        assert p.unknown == {}
        assert {e.flops for e in p.events} == {0, 6}

    def test_no_name_stands_in_both(self):
        assert set(FLOPS) & NO_ARITHMETIC == set()

    def test_no_name_is_invented(self):
        compared = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "argmax", "argmin"}
        bits = {"bitwise_and", "bitwise_or", "bitwise_xor", "invert", "any", "all", "as_integers"}
        assert set(FLOPS) | NO_ARITHMETIC == set(OURS) | compared | bits


class TestClosedForms:
    @pytest.mark.parametrize(("rows", "i", "o"), [((1,), 3, 4), ((5,), 1, 1), ((2, 7), 6, 5), ((0,), 3, 4)])
    @pytest.mark.parametrize("bias", [True, False])
    def test_linear(self, rows, i, o, bias):
        N = int(np.prod(rows))
        assert count_flops(Linear(i, o, bias), (*rows, i)) == N * o * (2 * i + bias)

    def test_mlp(self):
        model = Sequential(Linear(784, 128), ReLU(), Linear(128, 10))
        assert count_flops(model, (32, 784)) == 32 * (128 * (2 * 784 + 1) + 128 + 10 * (2 * 128 + 1))

    @pytest.mark.parametrize(
        ("C", "F", "K", "stride", "padding", "groups"), [(3, 8, 3, 1, 0, 1), (4, 6, 5, 2, 2, 2), (8, 8, 1, 1, 0, 8)]
    )
    def test_conv2d(self, C, F, K, stride, padding, groups):
        side = (12 + 2 * padding - K) // stride + 1
        layer = Conv2d(C, F, K, stride, padding, groups=groups)
        assert count_flops(layer, (5, C, 12, 12)) == 5 * F * side * side * (2 * C // groups * K * K + 1)

    def test_conv1d_without_bias(self):
        assert count_flops(Conv1d(3, 8, 4, bias=False), (2, 3, 10)) == 2 * 8 * 7 * 2 * 3 * 4

    def test_a_transposed_convolution_costs_what_its_convolution_costs(self):
        back, there = ConvTranspose2d(6, 4, 3, 2, bias=False), Conv2d(4, 6, 3, 2, bias=False)
        assert count_flops(back, (2, 6, 5, 5)) == count_flops(there, (2, 4, 11, 11)) == 2 * 25 * 6 * 2 * 4 * 9

    def test_a_transposed_convolution_adds_its_bias_to_every_pixel(self):
        assert count_flops(ConvTranspose2d(2, 3, 2), (1, 2, 4, 4)) == 2 * 16 * 2 * 3 * 4 + 3 * 25

    @pytest.mark.parametrize("bias", [True, False])
    def test_attention(self, bias):
        N, T, E, H = 3, 7, 12, 4
        D = E // H
        scores = H * T * T * (2 * D + 5 + 2 * D) + H * T * D
        want = N * (T * 4 * E * (2 * E + bias) + scores)
        assert count_flops(MultiHeadAttention(E, H, bias=bias), (N, T, E)) == want

    def test_attention_with_fewer_queries_than_keys_and_wider_values(self):
        q, k, v = randn(2, 3, 4), randn(2, 5, 4), randn(2, 5, 6)
        with Profiler() as p:
            scaled_dot_product_attention(q, k, v)
        assert p.flops == 2 * 3 * (4 + 5 * (8 + 5 + 12))

    def test_attention_with_dropout_multiplies_once_more(self):
        x = randn(2, 3, 4)
        with Profiler() as p:
            scaled_dot_product_attention(x, x, x, dropout=0.5)
        assert p.flops == 2 * 3 * (4 + 3 * (8 + 5 + 1 + 8))

    @pytest.mark.parametrize(("N", "T", "V", "E", "L", "H"), [(1, 1, 5, 4, 1, 1), (3, 8, 20, 16, 2, 4)])
    def test_gpt(self, N, T, V, E, L, H):
        attention = T * E * 3 * (2 * E + 1) + 4 * T * T * E + 5 * H * T * T + T * E + T * E * (2 * E + 1)
        mlp = T * 4 * E * (2 * E + 1) + 10 * T * 4 * E + T * E * (8 * E + 1)
        block = attention + mlp + 2 * 7 * T * E + 2 * T * E
        want = N * (T * E + L * block + 7 * T * E + 2 * T * E * V)
        assert count_flops(GPT(V, E, L, H, 8), (N, T)) == want

    def test_a_block_and_its_parts(self):
        block = TransformerBlock(8, 2)
        parts = count_flops(MultiHeadAttention(8, 2), (2, 5, 8)) + count_flops(MLP(8), (2, 5, 8))
        assert count_flops(block, (2, 5, 8)) == parts + 2 * count_flops(LayerNorm(8), (2, 5, 8)) + 2 * 80

    def test_pools(self):
        assert count_flops(MaxPool2d(2), (2, 3, 8, 8)) == count_flops(AvgPool2d(2), (2, 3, 8, 8)) == 2 * 3 * 16 * 4
        assert count_flops(lambda x: adaptive_avg_pool2d(x, 1), (2, 3, 8, 8)) == 2 * 3 * 64

    def test_batch_norm_is_cheaper_in_evaluation(self):
        x, norm = randn(2, 3, 4, 4), BatchNorm2d(3)
        with Profiler() as p:
            norm(x)
        assert p.flops == 6 * x.size
        assert count_flops(norm, x.shape) == 3 * x.size

    def test_looking_up_is_no_arithmetic(self):
        assert count_flops(Embedding(10, 4), (3, 5)) == 0

    def test_evaluation_mode_drops_nothing(self):
        assert count_flops(Sequential(Dropout(0.5), GELU(), Softmax()), (2, 3)) == 6 * 10 + 6 * 5

    @pytest.mark.parametrize(
        ("spec", "shapes", "want"),
        [
            ("ij,jk->ik", [(2, 3), (3, 4)], 48),
            ("ij,ij->ij", [(2, 3), (2, 3)], 6),
            ("ij->i", [(2, 3)], 6),
            ("ij->ji", [(2, 3)], 0),
            ("nij,jk->nik", [(5, 2, 3), (3, 4)], 240),
            ("ij,jk->ik", [(0, 3), (3, 4)], 0),
        ],
    )
    def test_einsum(self, spec, shapes, want):
        with Profiler() as p:
            einsum(spec, *(T.zeros(shape) for shape in shapes))
        assert p.flops == want

    def test_an_einsum_of_three_is_unknown(self):
        with Profiler() as p:
            einsum("ij,jk,kl->il", randn(2, 3), randn(3, 4), randn(4, 5))
        assert p.unknown == {"einsum": 1}

    @pytest.mark.parametrize(
        ("a", "b", "want"),
        [
            ((3,), (3,), 6),
            ((2, 3), (3,), 12),
            ((3,), (3, 4), 24),
            ((5, 2, 3), (3, 4), 240),
            ((5, 2, 3), (5, 3, 4), 240),
        ],
    )
    def test_matmul(self, a, b, want):
        with Profiler() as p:
            randn(*a) @ randn(*b)
        assert p.flops == want

    def test_losses(self):
        with Profiler() as p:
            mse_loss(randn(4, 5), randn(4, 5))
            cross_entropy(randn(4, 5), [0, 1, 2, 3])
        assert [e.flops for e in p.events] == [60, 80]

    def test_a_clip_counts_its_bounds(self):
        with Profiler() as p:
            randn(6).clip(0, 1), randn(6).clip(max=1)
        assert [e.flops for e in p.events] == [12, 6]

    def test_a_checkpoint_counts_what_happens_inside(self):
        layer, x = Linear(3, 4), randn(2, 3, requires_grad=True)
        assert count_flops(lambda x: checkpoint(layer, x), (2, 3)) == 56
        with Profiler() as p:
            checkpoint(layer, x)
        assert (p.flops, p.unknown) == (56, {})


class TestCounting:
    def test_twice_the_batch_twice_the_work(self):
        model = Sequential(Conv2d(1, 4, 3), MaxPool2d(2), ReLU())
        assert count_flops(model, (6, 1, 8, 8)) == 6 * count_flops(model, (1, 1, 8, 8))

    def test_tokens_for_models_that_look_them_up_numbers_for_others(self):
        seen = []

        def model(x):
            seen.append(x.dtype)
            return x

        count_flops(model, (1,))
        count_flops(model, (1,), dtype=np.int64)
        assert seen == [np.float32, np.int64]
        assert count_flops(Sequential(Embedding(5, 3), Linear(3, 2)), (1, 4)) == 4 * 2 * 7

    def test_unknown_operations_are_named_with_their_number(self):
        def twice(x):
            return result(x.data * 2, "twice", result(x.data, "odd", x))

        with pytest.raises(ValueError, match=r"no formula for odd \(2 calls\), twice \(2 calls\); put one into FLOPS"):
            count_flops(lambda x: twice(twice(x)), (2, 2))

    def test_a_new_formula_is_used(self, monkeypatch):
        monkeypatch.setitem(FLOPS, "twice", lambda out, inputs, saved: out.size)
        assert count_flops(lambda x: result(x.data * 2, "twice", x), (2, 2)) == 4

    @pytest.mark.parametrize("shape", [3, None, "12"])
    def test_a_shape_is_a_shape(self, shape):
        with pytest.raises(TypeError, match="count_flops needs the shape of an input, the batch included"):
            count_flops(Linear(3, 4), shape)

    def test_an_input_of_the_wrong_shape_is_the_layers_error_and_leaves_nothing_behind(self):
        model = Sequential(Linear(3, 4))
        with pytest.raises(ValueError, match=r"Linear\(3, 4\) needs inputs"):
            count_flops(model, (2, 5))
        assert T.set_observer(None) is None
        assert model.training is True
        assert model(randn(1, 3)).requires_grad is True

    def test_counting_inside_a_profile_is_not_part_of_it(self):
        with Profiler() as p:
            count_flops(Linear(3, 4), (2, 3))
            randn(2) + 1
        assert [e.name for e in p.events] == ["add"]
