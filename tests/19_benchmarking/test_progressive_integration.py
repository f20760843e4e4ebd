"""Module 19 with what came before it: models are timed, weighed and held against each other."""

import gc
import time

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.benchmarking.benchmark import (
    Benchmark,
    BenchmarkResult,
    BenchmarkSuite,
    Comparison,
    Interval,
    accuracy,
    compare,
    load_results,
    load_suite,
    machine,
    median_interval,
    regressions,
    save_results,
)
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import is_grad_enabled, no_grad
from tinytorch.core.layers import Dropout, Flatten, Linear, Sequential
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import Adam
from tinytorch.core.spatial import BatchNorm2d, Conv2d, MaxPool2d
from tinytorch.core.tensor import generator, manual_seed, randn
from tinytorch.core.training import Trainer
from tinytorch.data.datasets import digits
from tinytorch.data.loader import DataLoader
from tinytorch.generation.kv_cache import KVCache
from tinytorch.models.transformer import GPT
from tinytorch.optimization.quantization import model_size, quantize_model
from tinytorch.profiling.profiler import count_parameters, measure_latency

QUICK = {"rounds": 3, "warmup": 1, "min_time": 0}


def reader():
    return Sequential(Flatten(), Linear(64, 32, rng=0), ReLU(), Linear(32, 10, rng=1))


class TestPriorStackStillWorking:
    def test_a_latency_of_module_14_lies_within_its_quartiles(self):
        latency = measure_latency(reader(), randn(4, 1, 8, 8), repeats=5)
        assert 0 < latency.low <= latency.median <= latency.high
        assert BenchmarkResult("x", [latency.median], machine()).median == latency.median

    def test_an_int8_model_holds_about_a_quarter(self):
        model = Linear(256, 256, rng=0)
        assert model_size(quantize_model(model)) < 0.27 * model_size(model)
        assert accuracy(np.eye(3), np.arange(3)) == 1

    def test_a_step_of_training_lowers_the_loss(self):
        model, (x, y) = reader(), digits("train")[:64]
        optimizer, losses = Adam(model.parameters(), 1e-3), []
        Benchmark(lambda: losses.append(self.step(model, optimizer, x, y)), "step", repeats=5, min_time=0).run()
        assert losses[-1] < losses[0]
        assert len(losses) == 3 + 1 + 5

    @staticmethod
    def step(model, optimizer, x, y):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()


class TestModule19BenchmarkingCore:
    def test_nine_runs_by_hand(self):
        assert median_interval([31, 28, 35, 30, 29, 90, 33, 30, 32]) == Interval(31, 29, 35, 1 - 20 / 512)

    def test_a_benchmark_keeps_all_times_and_says_where(self, clock):
        result = Benchmark(clock.work(0.25), "work", repeats=9, min_time=1, clock=clock).run()
        assert (result.times, result.loops, result.machine) == ((0.25,) * 9, 4, machine())

    def test_turns_see_through_a_machine_that_slows_down(self, clock):
        clock.drift = 0.05
        assert compare({"A": clock.work(0.1), "B": clock.work(0.1)}, clock=clock).faster is None
        assert compare({"A": clock.work(0.1), "B": clock.work(0.095)}, clock=clock).faster == "B"

    def test_a_planted_regression_is_found_and_a_missing_name_said(self, clock):
        old = [Benchmark(clock.work(t), name, clock=clock).run() for name, t in (("a", 0.1), ("b", 0.2), ("c", 0.3))]
        new = [Benchmark(clock.work(t), name, clock=clock).run() for name, t in (("a", 0.1), ("b", 0.3))]
        found = regressions(old, new)
        assert [change.name for change in found] == ["b"]
        assert found.missing == ("c",)

    def test_different_machines_are_refused(self):
        here, there = machine(), {**machine(), "cores": 4096}
        with pytest.raises(ValueError, match="different machines.*cores"):
            regressions(BenchmarkResult("a", [1.0] * 9, here), BenchmarkResult("a", [1.0] * 9, there))

    def test_a_large_difference_is_seen_with_the_real_clock(self):
        functions = {"long": lambda: time.sleep(0.01), "short": lambda: sum(range(100))}
        compared = compare(functions, rounds=15, warmup=0, min_time=0)
        assert compared.faster == "short"
        assert compared.ratio("long", "short").low > 1


class TestBackwardIntegration:
    def test_timing_a_backward_pass_leaves_its_gradients_right(self):
        model, x = reader(), randn(4, 1, 8, 8, rng=0)

        def step():
            model.zero_grad()
            model(x).sum().backward()

        step()
        want = [p.grad.copy() for p in model.parameters()]
        Benchmark(step, "step", repeats=3, min_time=0).run()
        for p, grad in zip(model.parameters(), want):
            assert_close(p.grad, grad)

    def test_a_benchmark_records_gradients_as_its_function_would_anyway(self):
        seen = []
        Benchmark(lambda: seen.append(is_grad_enabled()), "ask", warmup=0, repeats=1, min_time=0).run()
        with no_grad():
            Benchmark(lambda: seen.append(is_grad_enabled()), "ask", warmup=0, repeats=1, min_time=0).run()
        assert seen == [True, True, False, False]

    def test_a_suite_leaves_no_gradient_no_graph_and_the_random_state(self):
        model = Sequential(Flatten(), Linear(64, 10, rng=0), Dropout(0.5))
        state = generator().bit_generator.state
        BenchmarkSuite({"m": model}, {"digits": digits("test")}, **QUICK).run()
        assert [p.grad for p in model.parameters()] == [None, None]
        assert generator().bit_generator.state == state
        assert is_grad_enabled()
        assert gc.isenabled()


class TestForwardIntegration:
    def test_results_go_into_files_and_come_back(self, tmp_path, clock):
        compared = compare({"A": clock.work(0.1), "B": clock.work(0.2)}, clock=clock)
        save_results(tmp_path / "r.json", compared.results)
        assert Comparison(tuple(load_results(tmp_path / "r.json"))) == compared

    def test_a_suites_rows_hold_plain_numbers(self):
        (row,) = BenchmarkSuite({"m": reader()}, {"digits": digits("test")}, **QUICK).run()
        kinds = {name: type(value) for name, value in vars(row).items()}
        text = dict.fromkeys(("model", "dataset", "metric"), str)
        whole = dict.fromkeys(("parameters", "bytes", "batch"), int)
        assert kinds == {**text, **whole, "quality": float, "latency": BenchmarkResult}

    def test_latencies_of_two_suites_can_be_compared(self, tmp_path, clock):
        def rows(seconds):
            class Slow(Linear):
                def forward(self, x):
                    clock.work(seconds)()
                    return super().forward(x)

            data = {"d": (np.zeros((4, 3), np.float32), np.zeros(4, int))}
            suite = BenchmarkSuite({"m": Slow(3, 2, rng=0)}, data, rounds=9, clock=clock)
            suite.run()
            suite.save(tmp_path / "s.json")
            return load_suite(tmp_path / "s.json")

        old, new = rows(0.1), rows(0.2)
        (change,) = regressions([row.latency for row in old], [row.latency for row in new])
        assert (change.name, change.ratio.median) == ("m on d", pytest.approx(2))


class TestCrossModuleIntegration:
    def test_the_milestones_models_in_one_suite(self, tmp_path):
        manual_seed(0)
        mlp = reader()
        trainer = Trainer(mlp, Adam(mlp.parameters(), 3e-3), cross_entropy)
        trainer.fit(DataLoader(digits("train"), 64, shuffle=True, seed=0), 3)
        cnn = Sequential(Conv2d(1, 4, 3, padding=1), BatchNorm2d(4), ReLU(), MaxPool2d(2), Flatten(), Linear(64, 10))
        gpt = GPT(9, 16, 1, 2, max_seq_len=8, rng=0)
        tokens = np.random.default_rng(0).integers(0, 9, (20, 9))
        models = {"mlp": mlp, "mlp int8": quantize_model(mlp), "cnn": cnn, "gpt": gpt}
        suite = BenchmarkSuite(
            models,
            {"digits": digits("test"), "tokens": (tokens[:, :-1], tokens[:, 1:])},
            pairs=[(name, "tokens" if name == "gpt" else "digits") for name in models],
            **QUICK,
        )
        rows = {row.model: row for row in suite.run()}
        assert rows["mlp"].quality == trainer.evaluate(DataLoader(digits("test"), 100))["accuracy"] > 0.8
        assert abs(rows["mlp int8"].quality - rows["mlp"].quality) < 0.02
        assert rows["mlp int8"].bytes < 0.4 * rows["mlp"].bytes
        for name in ("mlp", "cnn", "gpt"):
            assert rows[name].parameters == count_parameters(models[name])
            assert rows[name].bytes == model_size(models[name])
        suite.save(tmp_path / "s.json")
        assert load_suite(tmp_path / "s.json") == suite.rows
        assert len(suite.table().splitlines()) == 5

    def test_a_cache_makes_the_next_token_faster(self):
        gpt = GPT(50, 64, 3, 4, max_seq_len=256, rng=0).eval()
        tokens = np.random.default_rng(0).integers(0, 50, (1, 256))
        cache = KVCache.for_model(gpt)
        with no_grad():
            gpt(tokens[:, :-1], cache=cache)

            def cached():
                cache.truncate(255)
                return gpt(tokens[:, -1:], cache=cache)

            compared = compare({"all": lambda: gpt(tokens), "last": cached}, rounds=9, warmup=1, min_time=0)
        assert compared.ratio("last").median < 1


class TestRegressionPrevention:
    def test_failures_are_never_replaced_by_a_number(self):
        suite = BenchmarkSuite(
            {"fits": Linear(3, 2, rng=0), "not": Linear(5, 2, rng=0)}, {"d": (np.zeros((4, 3)), [0] * 4)}
        )
        with pytest.raises(ValueError, match=r"Linear\(5, 2\)|linear"):
            suite.run()
        with pytest.raises(RuntimeError, match="nothing yet"):
            suite.table()

    def test_a_model_without_parameters_is_no_model_of_0_bytes(self):
        with pytest.raises(ValueError, match="model 'relu' has no parameters"):
            BenchmarkSuite({"relu": ReLU()}, {"d": (np.zeros((4, 3)), [0] * 4)}, **QUICK).run()

    def test_quality_is_that_of_the_samples_and_not_the_mean_of_batches(self):
        model = Linear(1, 2, bias=False)
        model.weight.data[...] = [[1, -1]]
        inputs, targets = np.ones((5, 1), np.float32), np.array([0, 0, 0, 0, 1])
        (row,) = BenchmarkSuite({"m": model}, {"d": (inputs, targets)}, batch_size=4, **QUICK).run()
        assert row.quality == 0.8

    def test_one_round_is_no_verdict(self, clock):
        assert compare({"A": clock.work(1.0), "B": clock.work(0.1)}, rounds=1, clock=clock).faster is None

    def test_two_runs_of_a_suite_measure_twice(self):
        suite = BenchmarkSuite({"m": reader()}, {"digits": digits("test")}, **QUICK)
        first, second = suite.run()[0], suite.run()[0]
        assert first.quality == second.quality
        assert first.latency.times != second.latency.times
