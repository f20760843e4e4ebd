"""Parameters, memory, latency and the two passes: numbers by hand, and what is refused or left alone."""

import tracemalloc

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Dropout, Linear, Module, Sequential
from tinytorch.core.spatial import BatchNorm1d
from tinytorch.core.tensor import Tensor, generator, randn, result, set_observer
from tinytorch.models.transformer import GPT
from tinytorch.profiling import profiler
from tinytorch.profiling.profiler import (
    BackwardPass,
    Latency,
    count_parameters,
    measure_latency,
    measure_memory,
    profile_backward_pass,
    profile_forward_pass,
)


def total(out):
    return out.sum()


class TestParameters:
    def test_a_layer_that_learns_nothing_has_none(self):
        assert count_parameters(ReLU()) == 0

    def test_a_shared_tensor_counts_once(self):
        layer = Linear(3, 4)
        assert count_parameters(Sequential(layer, ReLU(), layer)) == 16

    def test_a_shared_tensor_counts_once_in_models_of_others(self):
        class Theirs:
            def __init__(self):
                self.w = randn(5, requires_grad=True)

            def parameters(self):
                return [self.w, self.w]

        assert count_parameters(Theirs()) == 5

    @pytest.mark.parametrize(("V", "E", "L", "T"), [(20, 16, 2, 12), (7, 8, 1, 5)])
    def test_a_gpt_in_closed_form(self, V, E, L, T):
        assert count_parameters(GPT(V, E, L, 4, T)) == V * E + T * E + L * (12 * E * E + 13 * E) + 2 * E

    def test_frozen_ones_count_unless_only_the_others_are_asked_for(self):
        model = Sequential(Linear(3, 4).requires_grad_(False), Linear(4, 2))
        assert count_parameters(model) == 16 + 10
        assert count_parameters(model, trainable_only=True) == 10

    @pytest.mark.parametrize("thing", [None, [1, 2], np.sin])
    def test_what_is_no_model_is_refused(self, thing):
        with pytest.raises(TypeError, match="count_parameters needs a model with parameters"):
            count_parameters(thing)


class TestLatency:
    def test_the_median_and_the_middle_half(self, clock):
        waits = iter([900, 900, 5, 1, 4, 2, 100])
        found = measure_latency(lambda x: clock.wait(next(waits) * 10**9), None, warmup=2, repeats=5)
        assert found == (4, 2, 5)

    def test_warm_up_runs_do_not_count(self, clock):
        calls = []

        def model(x):
            calls.append(x)
            clock.wait(10**9 if len(calls) > 3 else 10**12)

        assert measure_latency(model, "x", warmup=3, repeats=4).median == 1
        assert calls == ["x"] * 7

    def test_as_text(self):
        assert str(Latency(0.0123456, 0.01, 0.02)) == "12.346 ms (10.000 to 20.000)"

    def test_the_mode_is_the_models_own(self):
        seen = []

        class Looks(Module):
            def forward(self, x):
                seen.append((self.training, (x * 1).requires_grad))
                return x

        model, x = Looks(), randn(2, requires_grad=True)
        measure_latency(model, x, 0, 1)
        with no_grad():
            measure_latency(model.eval(), x, 0, 1)
        assert seen == [(True, True), (False, False)]

    @pytest.mark.parametrize("measure", [measure_latency, profile_forward_pass])
    @pytest.mark.parametrize(
        ("counts", "name"), [((-1, 5), "warmup"), ((1, 0), "repeats"), ((1, 2.5), "repeats"), ((True, 1), "warmup")]
    )
    def test_counts_are_checked(self, measure, counts, name):
        with pytest.raises(ValueError, match=f"{measure.__name__} needs {name} as a whole number"):
            measure(ReLU(), randn(2), *counts)

    def test_what_cannot_be_called_is_refused(self):
        with pytest.raises(TypeError, match="needs a model or function to call, got int"):
            measure_latency(3, None)


class TestMemory:
    def test_parameters_and_gradients(self):
        model = Sequential(Linear(30, 20), ReLU(), Linear(20, 10))
        memory = measure_memory(model, (8, 30))
        assert memory.parameters == memory.gradients == 4 * count_parameters(model)

    def test_frozen_layers_get_no_gradients(self):
        model = Sequential(Linear(30, 20).requires_grad_(False), Linear(20, 10))
        assert measure_memory(model, (8, 30)).gradients == 4 * 210

    def test_a_shared_parameter_counts_once(self):
        layer = Linear(10, 10)
        memory = measure_memory(Sequential(layer, layer), (2, 10))
        assert (memory.parameters, memory.gradients) == (440, 440)

    def test_activations_grow_with_the_batch_and_parameters_do_not(self):
        model = Sequential(*(Linear(64, 64) for _ in range(4)))
        small, large = (measure_memory(model, (N, 64)) for N in (100, 200))
        assert small.parameters == large.parameters
        assert abs((large.activations - small.activations) - 4 * 100 * 64 * 4) < 4000
        assert large.peak > small.peak

    def test_activations_are_what_is_kept_for_the_way_back(self):
        model = Sequential(*(Linear(64, 64) for _ in range(4)))
        kept = measure_memory(model, (500, 64))
        with no_grad():
            dropped = measure_memory(model, (500, 64))
        out = 500 * 64 * 4
        assert 4 * out <= kept.activations < 4 * out + 8000
        assert out <= dropped.activations < out + 4000
        assert dropped.gradients == 0
        assert 2 * out <= dropped.peak - dropped.parameters < 2.5 * out  # NumPy's own buffers are in it

    def test_the_peak_is_a_moment_of_both_passes_with_the_parameters(self):
        memory = measure_memory(Linear(200, 200), (10, 200))
        assert memory.peak >= memory.parameters + memory.gradients + memory.activations

    def test_a_model_without_parameters(self):
        memory = measure_memory(ReLU(), (100, 100))
        assert (memory.parameters, memory.gradients) == (0, 0)
        assert 40_000 <= memory.activations < 50_000

    def test_gradients_that_were_there_stay(self):
        layer = Linear(3, 2)
        layer(randn(4, 3)).sum().backward()
        want = layer.weight.grad.copy()
        measure_memory(layer, (4, 3))
        assert_close(layer.weight.grad, want, rtol=0, atol=0)

    def test_a_trace_that_runs_already_goes_on(self):
        tracemalloc.start()
        try:
            measure_memory(Linear(3, 2), (1, 3))
            running = tracemalloc.is_tracing()
        finally:
            tracemalloc.stop()
        assert running

    def test_nothing_is_left_behind_after_an_error(self):
        model = Sequential(BatchNorm1d(3), Linear(3, 2))
        before = model.state_dict()
        with pytest.raises(ValueError, match="needs inputs"):
            measure_memory(model, (4, 5))
        assert not tracemalloc.is_tracing()
        for name, array in model.state_dict().items():
            assert_close(array, before[name], rtol=0, atol=0)

    def test_a_model_that_returns_several_things_is_refused(self):
        class Two(Module):
            def forward(self, x):
                return x, x

        with pytest.raises(TypeError, match="needs a model that returns one tensor, got tuple"):
            measure_memory(Two(), (2, 2))

    @pytest.mark.parametrize(("model", "shape"), [(None, (1,)), (Linear(2, 2), 2)])
    def test_what_is_no_model_or_no_shape_is_refused(self, model, shape):
        with pytest.raises(TypeError, match="measure_memory needs"):
            measure_memory(model, shape)

    def test_as_text(self):
        text = str(profiler.Memory(1_000_000, 2_000_000, 3_500_000, 8_000_000))
        assert text == "parameters 1.00 MB, gradients 2.00 MB, activations 3.50 MB, peak 8.00 MB"


class TestForwardPass:
    def test_unknown_arithmetic_is_None_and_no_rate_is_made_up(self):
        found = profile_forward_pass(lambda x: result(x.data * 2, "twice", x), randn(3), repeats=2)
        assert (found.flops, found.flops_per_second) == (None, None)

    def test_no_arithmetic_is_0(self):
        assert profile_forward_pass(lambda x: x.reshape(4), randn(2, 2), repeats=2).flops == 0

    def test_it_counts_one_pass_and_not_all_runs(self):
        assert profile_forward_pass(Linear(3, 4), randn(2, 3), warmup=2, repeats=5).flops == 56

    def test_an_input_of_the_wrong_shape_leaves_nothing_behind(self):
        with pytest.raises(ValueError, match="needs inputs"):
            profile_forward_pass(Linear(3, 4), randn(2, 5))
        assert set_observer(None) is None

    def test_dropout_draws_afterwards_what_it_would_have_drawn(self):
        state = generator().bit_generator.state
        profile_forward_pass(Dropout(0.5), randn(3, rng=0), repeats=2)
        assert generator().bit_generator.state == state


class TestBackwardPass:
    def test_forward_and_backward_are_clocked_apart(self, clock, slow):
        x = Tensor([1.0], requires_grad=True)
        found = profile_backward_pass(lambda x: slow(x, 2 * 10**9, 7 * 10**9), x, total, repeats=3)
        assert (found.forward, found.backward) == ((2, 2, 2), (7, 7, 7))
        assert found.ratio == 3.5

    def test_the_loss_belongs_to_the_forward_pass(self, clock, slow):
        x = Tensor([1.0], requires_grad=True)
        found = profile_backward_pass(lambda x: x * 1, x, lambda out: slow(out, 5 * 10**9).sum(), repeats=2)
        assert found.forward.median == 5

    def test_warm_up_does_not_count(self, clock, slow):
        waits = iter([100, 100, 3, 3, 3])
        x = Tensor([1.0], requires_grad=True)

        def model(x):
            return slow(x, 0, next(waits) * 10**9)

        assert profile_backward_pass(model, x, total, warmup=2, repeats=3).backward == (3, 3, 3)

    def test_every_run_begins_without_gradients(self):
        layer, seen = Linear(3, 2), []

        def loss(out):
            seen.append(layer.weight.grad)
            return out.sum()

        profile_backward_pass(layer, randn(4, 3), loss, warmup=1, repeats=2)
        assert seen == [None] * 3

    def test_a_model_without_parameters_needs_an_input_with_gradient(self):
        with pytest.raises(ValueError, match="the loss depends on nothing that requires a gradient"):
            profile_backward_pass(ReLU(), randn(3), total)
        x = randn(3, requires_grad=True)
        assert profile_backward_pass(ReLU(), x, total, repeats=2).backward.median > 0
        assert x.grad is None

    def test_under_no_grad_there_is_no_way_back(self):
        with no_grad(), pytest.raises(ValueError, match=r"leave no_grad\(\)"):
            profile_backward_pass(Linear(3, 2), randn(4, 3), total)

    def test_a_loss_that_is_no_tensor_is_refused(self):
        with pytest.raises(TypeError, match="needs a loss_fn that returns a tensor, got float"):
            profile_backward_pass(Linear(3, 2), randn(4, 3), lambda out: out.sum().item())

    def test_a_loss_of_several_numbers_is_refused(self):
        with pytest.raises(RuntimeError, match="starts from a single number"):
            profile_backward_pass(Linear(3, 2), randn(4, 3), lambda out: out)

    def test_the_ratio(self):
        assert BackwardPass(Latency(2.0, 1.0, 3.0), Latency(3.0, 2.0, 4.0)).ratio == 1.5
