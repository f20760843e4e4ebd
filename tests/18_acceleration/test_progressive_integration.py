"""Module 18 with what came before it: kernels that give the library's numbers, and an operation that trains."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import silu, softmax
from tinytorch.core.autograd import Function, gradcheck, no_grad
from tinytorch.core.layers import Linear, Module
from tinytorch.core.losses import cross_entropy, mse_loss
from tinytorch.core.optimizers import AdamW, adam_update, pieces
from tinytorch.core.tensor import Tensor, from_numpy, manual_seed, randn
from tinytorch.models.transformer import TransformerBlock, layer_norm
from tinytorch.optimization.acceleration import (
    Point,
    Roofline,
    Workspace,
    blocked_softmax,
    blocks,
    parallel,
    speedup,
    swiglu,
    threaded_matmul,
    tiled_matmul,
)
from tinytorch.profiling.profiler import FLOPS, Profiler, count_flops


class GatedMLP(Module):
    """Llama's MLP: down(silu(gate(x)) * up(x))."""

    def __init__(self, E, hidden, function=swiglu):
        self.gate, self.up, self.down = Linear(E, hidden, rng=1), Linear(E, hidden, rng=2), Linear(hidden, E, rng=3)
        self.function = function

    def forward(self, x):
        return self.down(self.function(self.gate(x), self.up(x)))


def composed(gate, x):
    return gate / (1 + (-gate).exp()) * x


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class TestPriorStackStillWorking:
    def test_a_softmax_of_equal_numbers(self):
        assert_close(softmax([[1.0, 1.0, 1.0, 1.0]]), np.full((1, 4), 0.25, np.float32))

    def test_pieces_of_an_optimizer_give_what_the_whole_gives(self):
        whole, cut = (
            [normal(10), normal(10, seed=1), np.zeros(10, np.float32), np.zeros(10, np.float32)] for _ in "ab"
        )
        for arrays, size in ((whole, 10), (cut, 3)):
            for piece in pieces(*arrays, size=size):
                adam_update(*piece, [np.empty_like(piece[0]) for _ in range(2)], 1, 0.1)
        np.testing.assert_array_equal(whole[0], cut[0])

    def test_a_layer_norm_has_mean_0_and_variance_1(self):
        out = layer_norm(normal(5, 64), np.ones(64, np.float32), np.zeros(64, np.float32)).data
        assert_close(out.mean(axis=1), np.zeros(5, np.float32), atol=1e-5)
        assert_close(out.var(axis=1), np.ones(5, np.float32), rtol=1e-3)


class TestModule18AccelerationCore:
    def test_blocks_by_hand(self):
        assert blocks(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]

    def test_a_product_in_tiles_by_hand(self):
        a, b = np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]])
        assert tiled_matmul(a, b, 1).tolist() == [[11.0]]

    def test_tiles_and_threads_give_the_product(self):
        a, b = normal(70, 50), normal(50, 40, seed=1)
        assert_close(tiled_matmul(a, b, 16), a @ b, atol=1e-5)
        assert_close(threaded_matmul(a, b, 16, 3), a @ b, atol=1e-5)

    def test_parallel_gives_results_in_order(self):
        assert parallel(len, ["a", "bb", ""], 2) == [1, 2, 0]

    def test_a_roof_by_hand(self):
        roof = Roofline(100, 20)
        assert (roof.ridge, roof.attainable(1), roof.attainable(8)) == (5, 20, 100)
        assert (Point("", 6, 3, 2).intensity, Point("", 6, 3, 2).performance) == (2, 3)

    def test_swiglu_by_hand(self):
        gate, x = Tensor([0.0, 0.0], requires_grad=True), Tensor([3.0, -1.0], requires_grad=True)
        out = swiglu(gate, x)
        out.sum().backward()
        assert_close(out, np.zeros(2, np.float32))
        assert_close(gate.grad, np.array([1.5, -0.5], np.float32))
        assert_close(x.grad, np.zeros(2, np.float32))

    def test_scratch_memory_is_used_again(self):
        room, like = Workspace(), normal(1)
        assert room.take("t", (2, 2), like).base is room.take("t", (4,), like).base


class TestBackwardIntegration:
    def test_no_other_rule_is_in_this_module(self):
        here = {op for op, rule in Function.rules.items() if rule.__module__ == "tinytorch.optimization.acceleration"}
        assert here == {"swiglu"}

    def test_gradients_of_the_rule(self):
        assert gradcheck(swiglu, [normal(3, 4), normal(3, 4, seed=1)])

    def test_a_gated_mlp_has_the_gradients_of_the_composed_one(self):
        grads = []
        for function in (swiglu, composed):
            mlp, x = GatedMLP(8, 20, function), Tensor(normal(5, 8), requires_grad=True)
            (mlp(x) * normal(5, 8, seed=1)).sum().backward()
            grads.append([x.grad, *(p.grad for p in mlp.parameters())])
        for fused, plain in zip(*grads):
            assert_close(fused, plain, rtol=1e-4, atol=1e-5)

    def test_backward_frees_the_graph_without_the_collector(self):
        gc.disable()
        try:
            gate, x = Tensor(normal(4), requires_grad=True), Tensor(normal(4), requires_grad=True)
            out = swiglu(gate, x)
            gone = weakref.ref(out), weakref.ref(out._grad_fn)
            out.sum().backward()
            del out
            assert [ref() for ref in gone] == [None, None]
        finally:
            gc.enable()


class TestForwardIntegration:
    @pytest.mark.parametrize("shape", [(6, 8), (2, 3, 8)])
    def test_shapes_and_dtype_pass_through_a_layer(self, shape):
        out = GatedMLP(8, 20)(randn(*shape))
        assert (out.shape, out.dtype) == (shape, np.float32)

    def test_a_transformer_block_takes_it_for_its_mlp(self):
        block = TransformerBlock(16, 4, rng=0)
        block.mlp = GatedMLP(16, 40)
        assert block(randn(2, 5, 16), causal=True).shape == (2, 5, 16)
        assert len(block.parameters()) == 14

    def test_softmax_in_blocks_gives_the_librarys_numbers(self):
        x = normal(300, 50)
        assert_close(blocked_softmax(x, block=1000, threads=2), softmax(from_numpy(x)).data)

    def test_under_no_grad_nothing_is_recorded(self):
        with no_grad():
            assert not GatedMLP(8, 20)(randn(2, 8)).requires_grad


class TestCrossModuleIntegration:
    def test_a_gated_mlp_learns(self):
        manual_seed(0)
        x = randn(64, 8)
        target = (x[:, :1] * x[:, 1:2]).data  # a product, which the gate can form
        mlp, head = GatedMLP(8, 32), Linear(8, 1, rng=4)
        optimizer = AdamW([*mlp.parameters(), *head.parameters()], lr=0.01)
        losses = []
        for _ in range(150):
            optimizer.zero_grad()
            loss = mse_loss(head(mlp(x)), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0] / 20

    def test_training_is_the_same_with_any_number_of_threads(self, monkeypatch):
        weights = []
        for said in ("1", "4"):
            monkeypatch.setenv("TINYTORCH_NUM_THREADS", said)
            mlp = GatedMLP(16, 500)
            optimizer = AdamW(mlp.parameters(), lr=0.01)
            for step in range(2):
                optimizer.zero_grad()
                cross_entropy(mlp(normal(600, 16, seed=step)), np.arange(600) % 16).backward()
                optimizer.step()
            weights.append([p.data for p in mlp.parameters()])
        for one, four in zip(*weights):
            np.testing.assert_array_equal(one, four)

    def test_the_profiler_sees_one_operation_and_one_rule(self, monkeypatch):
        gate, x = (Tensor(normal(50), requires_grad=True) for _ in range(2))
        monkeypatch.setitem(FLOPS, "swiglu", lambda out, inputs, saved: 5 * out.size)
        with Profiler() as p:
            swiglu(gate, x).backward(np.ones(50, np.float32))
        assert [event.name for event in p.events] == ["swiglu", "SwiGLUBackward"]
        assert p.flops == 250
        assert count_flops(GatedMLP(8, 20), (3, 8)) == 3 * (2 * (2 * 8 + 1) * 20 + 5 * 20 + (2 * 20 + 1) * 8)

    def test_it_holds_less_than_the_composed_operations(self):
        peaks = []
        for function in (swiglu, composed):
            gate, x = (Tensor(normal(200, 1000), requires_grad=True) for _ in range(2))
            tracemalloc.start()
            function(gate, x).sum().backward()
            peaks.append(tracemalloc.get_traced_memory()[1] / gate.data.nbytes)
            tracemalloc.stop()
        assert peaks[0] < 5 < 7 < peaks[1]

    def test_compare_takes_operations_on_tensors(self):
        gate, x = from_numpy(normal(4, 5)), from_numpy(normal(4, 5, seed=1))
        assert speedup(lambda: silu(gate) * x, lambda: swiglu(gate, x)).error < 1e-6


class TestRegressionPrevention:
    def test_the_result_does_not_depend_on_the_number_of_threads(self):
        a, b = normal(100, 300), normal(300, 70, seed=1)
        gate, x = normal(4, 70000), normal(4, 70000, seed=1)
        for threads in (2, 3, 7):
            np.testing.assert_array_equal(threaded_matmul(a, b, 16, threads), threaded_matmul(a, b, 16, 1))
            np.testing.assert_array_equal(swiglu(gate, x, threads).data, swiglu(gate, x, 1).data)

    def test_an_error_in_a_thread_is_not_lost(self):
        with pytest.raises(ZeroDivisionError):
            parallel(lambda n: 1 // n, [3, 2, 1, 0], 2)

    def test_kernels_in_kernels_do_not_wait_for_each_other(self):
        a, b = normal(40, 8), normal(8, 8, seed=1)
        for product in parallel(lambda _: threaded_matmul(a, b, 4, 4), range(8), 4):
            assert_close(product, a @ b, atol=1e-5)

    def test_float32_stays_float32(self):
        gate, x = (Tensor(normal(5), requires_grad=True) for _ in range(2))
        out = swiglu(gate, x)
        out.sum().backward()
        found = [out.data, gate.grad, x.grad, blocked_softmax(normal(3, 4)), tiled_matmul(normal(3, 4), normal(4, 3))]
        assert {array.dtype for array in found} == {np.dtype(np.float32)}

    def test_minus_infinity_and_large_gates_are_no_nan(self):
        gate = Tensor([-np.inf, -1e4, 1e4], requires_grad=True)
        out = swiglu(gate, np.ones(3, np.float32))
        out.sum().backward()
        assert_close(out, np.array([0, 0, 1e4], np.float32))
        assert_close(gate.grad, np.array([0, 0, 1], np.float32))
