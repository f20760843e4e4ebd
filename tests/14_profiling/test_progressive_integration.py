"""Module 14 with what came before it and what comes next.

The profiler listens to every operation (01) and stands before every rule (05); what it counts it finds in layers (03),
convolutions (09), attention (12) and a GPT (13), in training (06, 07) and under `no_grad`, and it changes none of them.
"""

import json
from contextlib import nullcontext

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.attention import MultiHeadAttention
from tinytorch.core.autograd import checkpoint, grad, no_grad
from tinytorch.core.layers import Dropout, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss, cross_entropy
from tinytorch.core.optimizers import SGD, AdamW
from tinytorch.core.spatial import BatchNorm2d, Conv2d
from tinytorch.core.tensor import Tensor, get_recorder, manual_seed, randint, randn, set_observer, sort
from tinytorch.core.training import Trainer
from tinytorch.data.loader import DataLoader, TensorDataset
from tinytorch.models.transformer import GPT
from tinytorch.profiling.profiler import (
    Profiler,
    count_flops,
    count_parameters,
    measure_latency,
    measure_memory,
    profile_backward_pass,
    profile_forward_pass,
)


def small():
    return GPT(20, 16, 2, 4, 12, rng=0)


def one_step(gpt, seed=0):
    tokens = randint(0, 20, (2, 9), rng=seed).data
    loss = cross_entropy(gpt(tokens[:, :-1]), tokens[:, 1:])
    loss.backward()
    return loss


class TestPriorStackStillWorking:
    def test_an_observer_hears_operations(self):
        heard = []
        set_observer(lambda out, op, inputs, saved: heard.append(op))
        randn(2, 3) @ randn(3, 2) + 1
        set_observer(None)
        assert heard == ["matmul", "add"]

    def test_gradients_by_hand(self):
        x = Tensor(3.0, requires_grad=True)
        assert grad(x * x + x, x) == 7

    def test_a_tied_table_is_listed_once(self):
        assert len({id(p) for p in small().parameters()}) == len(small().parameters())

    def test_a_gpt_has_logits_for_every_place(self):
        assert small()([[1, 2, 3]]).shape == (1, 3, 20)

    def test_no_grad_ends_recording(self):
        with no_grad():
            assert get_recorder() is None


class TestModule14ProfilingCore:
    def test_parameters_of_a_linear_layer(self):
        assert count_parameters(Linear(3, 4)) == 16

    def test_flops_of_a_linear_layer_include_bias_and_batch(self):
        assert count_flops(Linear(3, 4), (2, 3)) == 2 * (2 * 3 * 4 + 4)

    def test_memory_of_a_linear_layer(self):
        memory = measure_memory(Linear(100, 100), (50, 100))
        assert (memory.parameters, memory.gradients) == (40_400, 40_400)
        assert 20_000 <= memory.activations < 30_000
        assert memory.peak >= memory.parameters + memory.gradients + 20_000

    def test_every_operation_is_recorded_with_shapes_and_arithmetic(self):
        with Profiler() as p:
            (randn(2, 3) @ randn(3, 4)).exp()
        product, exp = p.events
        assert (product.name, product.flops, product.bytes, product.shapes) == ("matmul", 48, 32, ((2, 3), (3, 4)))
        assert (exp.name, exp.flops, exp.bytes, exp.shapes) == ("exp", 8, 32, ((2, 4),))
        assert 0 <= product.start < product.end <= exp.start < exp.end

    def test_a_latency_lies_between_its_quartiles(self):
        latency = measure_latency(Linear(8, 8), randn(2, 8), warmup=1, repeats=9)
        assert 0 < latency.low <= latency.median <= latency.high


class TestBackwardIntegration:
    """With the engine and the rules of module 05."""

    def test_every_rule_is_timed(self):
        x = randn(4, 3, requires_grad=True)
        with Profiler() as p:
            Linear(3, 2)(x).sum().backward()
        assert [e.name for e in p.events if e.kind == "backward"] == ["SumBackward", "LinearBackward"]
        assert all(e.end > e.start for e in p.events)

    def test_gradients_are_the_same_bit_for_bit(self):
        grads = []
        for profiled in (False, True):
            gpt = small()
            if profiled:
                with Profiler():
                    one_step(gpt)
            else:
                one_step(gpt)
            grads.append([p.grad for p in gpt.parameters()])
        for got, want in zip(*grads):
            assert_close(got, want, rtol=0, atol=0)

    def test_what_a_checkpoint_computes_again_lies_inside_its_rule(self):
        layer, x = Linear(4, 4), randn(2, 4, requires_grad=True)
        with Profiler() as p:
            out = checkpoint(layer, x)
            out.sum().backward()
        names = [e.name for e in p.events]
        assert names == ["linear", "checkpoint", "sum", "SumBackward", "linear", "LinearBackward", "CheckpointBackward"]
        outer = p.events[-1]
        assert all(outer.start <= e.start <= e.end <= outer.end for e in p.events[4:6])

    def test_backward_is_measured_and_not_concluded_from_forward(self, clock, slow):
        x = Tensor(1.0, requires_grad=True)
        found = profile_backward_pass(lambda x: slow(x, 2_000, 7_000), x, lambda out: out, repeats=3)
        assert (found.forward.median, found.backward.median, found.ratio) == (2e-6, 7e-6, 3.5)


class TestForwardIntegration:
    """What quantization (15), compression (16), acceleration (18) and benchmarks (19) rely on."""

    def test_the_functions_are_also_found_on_the_class(self):
        assert Profiler.count_parameters(Linear(3, 4)) == count_parameters(Linear(3, 4))
        assert Profiler().count_flops(Linear(3, 4), (1, 3)) == 28
        assert Profiler.measure_latency is measure_latency
        assert Profiler.measure_memory is measure_memory
        assert Profiler.profile_forward_pass is profile_forward_pass
        assert Profiler.profile_backward_pass is profile_backward_pass

    def test_a_narrower_layer_costs_less(self):
        assert count_flops(Linear(8, 4), (1, 8)) * 2 == count_flops(Linear(8, 8), (1, 8))

    def test_latency_works_for_functions_too(self):
        assert measure_latency(np.sin, np.ones(3), repeats=3).median > 0

    def test_rows_are_data(self):
        with Profiler() as p:
            for _ in range(3):
                Linear(3, 4)(randn(2, 3))
        (row,) = p.rows()
        assert (row.name, row.kind, row.calls, row.flops, row.bytes) == ("linear", "forward", 3, 3 * 56, 3 * 32)

    def test_forward_pass_in_numbers(self):
        found = profile_forward_pass(Linear(64, 64), randn(32, 64), repeats=3)
        assert found.flops == 32 * 64 * 129
        assert found.flops_per_second == found.flops / found.latency.median
        assert 32 * 64 * 4 <= found.peak_bytes < 3 * 32 * 64 * 4


class TestCrossModuleIntegration:
    def test_a_whole_training_run(self):
        manual_seed(0)
        data = DataLoader(TensorDataset(randn(32, 4, rng=0), randint(0, 2, (32,), rng=1)), batch_size=8, seed=0)
        model = Sequential(Linear(4, 8), ReLU(), Linear(8, 2))
        trainer = Trainer(model, SGD(model.parameters(), lr=0.1), CrossEntropyLoss())
        with Profiler() as p:
            trainer.fit(data, epochs=2)
            trainer.evaluate(data)
        calls = {row.name: row.calls for row in p.rows()}
        assert calls["relu"] == 12  # 2 epochs and an evaluation, of 4 batches
        assert calls["ReLUBackward"] == 8

    def test_profiling_changes_no_training(self):
        losses = []
        for profiled in (False, True):
            manual_seed(3)
            gpt = GPT(20, 16, 2, 4, 12, dropout=0.2)
            optimizer = AdamW(gpt.parameters(), lr=0.01)
            with Profiler() if profiled else nullcontext():
                for step in range(3):
                    optimizer.zero_grad()
                    loss = one_step(gpt, step)
                    optimizer.step()
            losses.append(loss.item())
        assert losses[0] == losses[1]

    def test_generation_is_recorded_under_no_grad(self):
        gpt = small()
        with Profiler() as p, no_grad():
            tokens = gpt.generate([1, 2], 4, temperature=0)
        assert tokens == gpt.generate([1, 2], 4, temperature=0)
        assert {row.name: row.calls for row in p.rows()}["attention"] >= 8
        assert {e.kind for e in p.events} == {"forward"}

    def test_the_same_count_by_counting_and_by_profiling(self):
        gpt = small().eval()
        with no_grad(), Profiler() as p:
            gpt(np.zeros((3, 8), np.int64))
        assert p.flops == count_flops(gpt, (3, 8))
        assert p.unknown == {}

    def test_a_timeline_of_a_training_step_is_json(self, tmp_path):
        with Profiler() as p:
            one_step(small())
        p.export(tmp_path / "trace.json")
        events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
        assert len(events) == len(p.events) > 60

    def test_attention_costs_the_square_of_the_length(self):
        layer = MultiHeadAttention(8, 2)
        a, b, c = (count_flops(layer, (1, T, 8)) for T in (8, 16, 24))
        assert c - 2 * b + a == 2 * 8 * 8 * (4 * 8 + 5 * 2)  # the second difference knows only the square


class TestRegressionPrevention:
    def test_flops_do_not_ignore_the_batch(self):
        assert count_flops(Linear(3, 4), (7, 3)) == 7 * count_flops(Linear(3, 4), (1, 3))
        assert count_flops(small(), (4, 8)) == 4 * count_flops(small(), (1, 8))

    def test_a_gpt_has_more_than_8_flops(self):
        assert count_flops(small(), (1, 8)) > 2 * 8 * 2 * 12 * 16 * 16

    def test_an_operation_without_a_formula_is_no_0(self):
        with pytest.raises(ValueError, match=r"no formula for argsort \(1 calls\)"):
            count_flops(lambda x: sort(x)[0], (3, 4))

    def test_counting_leaves_running_statistics_and_modes_alone(self):
        model = Sequential(Conv2d(1, 2, 3), BatchNorm2d(2), Dropout(0.5))
        before = model.state_dict()
        count_flops(model, (2, 1, 6, 6))
        measure_memory(model, (2, 1, 6, 6))
        profile_forward_pass(model, randn(2, 1, 6, 6), repeats=2)
        profile_backward_pass(model, randn(2, 1, 6, 6), lambda out: out.sum(), repeats=2)
        for name, array in model.state_dict().items():
            assert_close(array, before[name], rtol=0, atol=0, what=name)
        assert all(layer.training for layer in model.modules())

    def test_measuring_leaves_gradients_and_randomness_alone(self):
        model, x = Sequential(Linear(4, 4), Dropout(0.5)), randn(2, 4, requires_grad=True)
        model(x).sum().backward()
        want = [p.grad.copy() for p in (*model.parameters(), x)]
        manual_seed(5)
        drawn = randn(3).data
        manual_seed(5)
        measure_memory(model, (2, 4))
        profile_forward_pass(model, x, repeats=2)
        profile_backward_pass(model, x, lambda out: out.sum(), repeats=2)
        assert_close(randn(3), drawn, rtol=0, atol=0)
        for p, grad_before in zip((*model.parameters(), x), want):
            assert_close(p.grad, grad_before, rtol=0, atol=0)

    def test_everything_is_taken_away_again_after_an_exception(self):
        recorder = get_recorder()
        with pytest.raises(ValueError, match="needs inputs"), Profiler():
            Linear(3, 4)(randn(2, 5))
        assert get_recorder() is recorder
        assert set_observer(None) is None
        with Profiler() as p:
            randn(2) + 1
        assert len(p.events) == 1
