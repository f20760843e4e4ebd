"""The suite: everything measured, nothing filled in."""

import json
import math

import numpy as np
import pytest

from tinytorch.benchmarking.benchmark import (
    BenchmarkResult,
    BenchmarkSuite,
    SuiteRow,
    accuracy,
    load_suite,
    suite_plot,
    suite_table,
)
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import is_grad_enabled
from tinytorch.core.layers import Dropout, Linear, Module, Sequential
from tinytorch.core.spatial import BatchNorm1d
from tinytorch.core.tensor import Tensor, from_numpy
from tinytorch.data.loader import TensorDataset
from tinytorch.optimization.quantization import quantize_model

X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Y = np.arange(10) % 3
HERE = {"processor": "abacus"}
ROW = SuiteRow("m", "d", "accuracy", 0.5, 16, 64, 10, BenchmarkResult("m on d", [0.5, 0.25, 1.0], HERE))
QUICK = {"rounds": 2, "warmup": 0, "min_time": 0}


class Seen(Module):
    """Notes how it is called: batch, mode, whether gradients are recorded."""

    def __init__(self):
        self.layer = Linear(3, 3, rng=0)
        self.seen = []

    def forward(self, x):
        self.seen.append((len(x), self.training, is_grad_enabled()))
        return self.layer(x)


def count_right(outputs, targets):
    return (outputs.argmax(-1) == targets).sum()


class TestAccuracy:
    def test_by_hand(self):
        assert accuracy([[1, 2], [3, 0], [0, 1], [0, 1]], [1, 0, 0, 1]) == 0.75

    def test_negative_targets_do_not_count(self):
        assert accuracy([[1, 2], [3, 0], [0, 1]], [1, -1, 0]) == 0.5

    def test_of_tokens_each_place_counts(self):
        outputs = np.zeros((2, 3, 4))
        outputs[..., 2] = 1
        assert accuracy(Tensor(outputs), np.array([[2, 2, 0], [2, 1, 0]])) == 0.5

    @pytest.mark.parametrize(
        ("outputs", "targets", "message"),
        [
            (np.zeros((4, 2)), [0, 1], r"outputs \(4, 2\) and targets \(2,\)"),
            (np.zeros((2, 2)), [[0], [1]], "a row of outputs for each target"),
            (np.zeros((2, 2)), [0.0, 1.0], "whole numbers"),
            (np.zeros((2, 2)), [-1, -1], "at least one target that counts"),
            (np.zeros((0, 2)), np.zeros(0, int), "at least one target that counts"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, outputs, targets, message):
        with pytest.raises(ValueError, match=message):
            accuracy(outputs, targets)


class TestRows:
    def test_everything_is_what_the_model_does(self):
        model = Linear(3, 3, rng=0)
        (row,) = BenchmarkSuite({"m": model}, {"d": (X, Y)}, **QUICK).run()
        assert row.quality == np.mean((X @ model.weight.data + model.bias.data).argmax(1) == Y)
        assert (row.model, row.dataset, row.metric) == ("m", "d", "accuracy")
        assert (row.parameters, row.bytes, row.batch) == (12, 48, 10)
        assert (row.latency.name, len(row.latency.times)) == ("m on d", 2)

    def test_bytes_are_those_that_are_held(self):
        model = Sequential(Linear(64, 64, rng=0), ReLU(), BatchNorm1d(64))
        int8 = quantize_model(model)
        data = {"d": (np.zeros((4, 64), np.float32), np.zeros(4, int))}
        floats, bytes8 = BenchmarkSuite({"float": model, "int8": int8}, data, **QUICK).run()
        assert floats.bytes >= 4 * (64 * 64 + 64 + 4 * 64)
        assert 64 * 64 <= bytes8.bytes <= floats.bytes - 3 * 64 * 64 + 4 * 64 + 8

    def test_every_model_meets_every_data_set_in_order(self):
        models = {name: Linear(3, 3, rng=0) for name in "ab"}
        rows = BenchmarkSuite(models, {"c": (X, Y), "d": (X[:4], Y[:4])}, **QUICK).run()
        assert [(row.model, row.dataset, row.batch) for row in rows] == [
            ("a", "c", 10),
            ("b", "c", 10),
            ("a", "d", 4),
            ("b", "d", 4),
        ]

    def test_pairs_say_who_meets_whom(self):
        models = {"three": Linear(3, 3, rng=0), "two": Linear(2, 3, rng=0)}
        data = {"wide": (X, Y), "narrow": (X[:, :2], Y)}
        pairs = [("two", "narrow"), ("three", "wide")]
        assert [(row.model, row.dataset) for row in BenchmarkSuite(models, data, pairs=pairs, **QUICK).run()] == pairs

    def test_quality_is_of_all_samples_whatever_the_batches(self):
        model = Linear(3, 3, rng=0)
        rows = [BenchmarkSuite({"m": model}, {"d": (X, Y)}, batch_size=n, **QUICK).run()[0] for n in (1, 3, 4, 10, 99)]
        assert len({row.quality for row in rows}) == 1
        assert [row.batch for row in rows] == [1, 3, 4, 10, 10]

    def test_the_metric_sees_all_outputs_at_once(self):
        seen = []

        def metric(outputs, targets):
            seen.append((outputs.shape, targets.tolist()))
            return 2.5

        (row,) = BenchmarkSuite({"m": Linear(3, 3, rng=0)}, {"d": (X, Y)}, metric, batch_size=4, **QUICK).run()
        assert seen == [((10, 3), Y.tolist())]
        assert (row.metric, row.quality) == ("metric", 2.5)

    def test_a_number_of_numpy_is_a_quality(self):
        (row,) = BenchmarkSuite({"m": Linear(3, 3, rng=0)}, {"d": (X, Y)}, count_right, **QUICK).run()
        assert type(row.quality) is float

    def test_a_dataset_or_tensors_will_do(self):
        model = {"m": Linear(3, 3, rng=0)}
        data = {
            "dataset": TensorDataset(X, Y),
            "tensors": (from_numpy(X), from_numpy(Y)),
            "list": [X.tolist(), Y.tolist()],
        }
        rows = BenchmarkSuite(model, data, **QUICK).run()
        assert len({row.quality for row in rows}) == 1

    def test_models_run_in_evaluation_mode_without_a_graph_and_are_left_as_they_were(self):
        model = Seen()
        model.train()
        before = model.layer.weight.data.copy()
        BenchmarkSuite({"m": model}, {"d": (X, Y)}, batch_size=4, **QUICK).run()
        assert model.seen == [(n, False, False) for n in (4, 4, 2, 4, 4, 4)]
        assert model.training
        assert model.layer.weight.grad is None
        np.testing.assert_array_equal(model.layer.weight.data, before)

    def test_dropout_is_off_while_quality_is_measured(self):
        model = Sequential(Linear(3, 3, rng=0), Dropout(0.9))
        plain, dropped = BenchmarkSuite({"plain": model[:1], "dropped": model}, {"d": (X, Y)}, **QUICK).run()
        assert plain.quality == dropped.quality

    def test_models_on_one_data_set_are_timed_in_turns(self, clock):
        class Slow(Linear):
            def forward(self, x):
                clock.work(0.5, self.name)()
                return super().forward(x)

        models = {name: Slow(3, 3, rng=0) for name in "ab"}
        for name, model in models.items():
            model.name = name
        BenchmarkSuite(models, {"d": (X, Y)}, rounds=3, warmup=0, clock=clock).run()
        assert "".join(clock.calls) == "ab" + "ab" + "ab" + "ba" + "ab"


class TestNothingIsFilledIn:
    def test_a_model_without_parameters_has_no_size(self):
        suite = BenchmarkSuite({"m": Linear(3, 3, rng=0), "relu": ReLU()}, {"d": (X, Y)}, **QUICK)
        with pytest.raises(ValueError, match="model 'relu' has no parameters, so it has no size"):
            suite.run()

    def test_a_function_is_no_model(self):
        with pytest.raises(TypeError, match="model with parameters"):
            BenchmarkSuite({"f": lambda x: x}, {"d": (X, Y)}, **QUICK).run()

    def test_what_a_model_raises_is_raised_with_where(self):
        suite = BenchmarkSuite({"good": Linear(3, 3, rng=0), "bad": Linear(5, 3, rng=0)}, {"d": (X, Y)}, **QUICK)
        with pytest.raises(ValueError, match="Linear|linear") as caught:
            suite.run()
        assert caught.value.__notes__ == ["BenchmarkSuite: this happened to model 'bad' on data set 'd'"]
        with pytest.raises(RuntimeError, match=r"call run\(\) first"):
            suite.table()

    def test_what_the_metric_raises_is_raised_with_where(self):
        def metric(outputs, targets):
            raise OSError("no answers")

        with pytest.raises(OSError, match="no answers") as caught:
            BenchmarkSuite({"m": Linear(3, 3, rng=0)}, {"d": (X, Y)}, metric, **QUICK).run()
        assert "model 'm' on data set 'd'" in caught.value.__notes__[0]

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_metric_that_is_no_number_is_refused(self, value):
        with pytest.raises(ValueError, match="which is no quality"):
            BenchmarkSuite({"m": Linear(3, 3, rng=0)}, {"d": (X, Y)}, lambda o, t: value, **QUICK).run()

    def test_a_model_that_gives_no_tensor_is_refused(self):
        class Pair(Linear):
            def forward(self, x):
                return super().forward(x), 1

        with pytest.raises(TypeError, match="returns one tensor, got tuple"):
            BenchmarkSuite({"m": Pair(3, 3, rng=0)}, {"d": (X, Y)}, **QUICK).run()

    @pytest.mark.parametrize("ask", ["table", "rows", "plot", "save"])
    def test_before_the_run_there_is_nothing_to_show(self, ask, tmp_path):
        suite = BenchmarkSuite({"m": Linear(3, 3, rng=0)}, {"d": (X, Y)})
        with pytest.raises(RuntimeError, match=r"nothing yet: call run\(\) first"):
            suite.rows if ask == "rows" else getattr(suite, ask)(*[tmp_path / "x"] * (ask != "table"))
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("models", "data", "options", "message"),
        [
            ({}, {"d": (X, Y)}, {}, "models as"),
            ([Linear(3, 3)], {"d": (X, Y)}, {}, "models as"),
            ({"m": 3}, {"d": (X, Y)}, {}, "'m' as a function to call"),
            ({"m": Linear(3, 3)}, {}, {}, "datasets as"),
            ({"m": Linear(3, 3)}, {"d": (X, Y[:3])}, {}, r"as many targets as inputs in 'd'.*\(10, 3\) and \(3,\)"),
            ({"m": Linear(3, 3)}, {"d": (X[:0], Y[:0])}, {}, "at least one"),
            ({"m": Linear(3, 3)}, {"d": 3}, {}, r"'d' as \(inputs, targets\), got int"),
            ({"m": Linear(3, 3)}, {"d": (X, Y, Y)}, {}, r"'d' as \(inputs, targets\)"),
            ({"m": Linear(3, 3)}, {"d": (X, Y)}, {"metric": "accuracy"}, "a metric to call"),
            ({"m": Linear(3, 3)}, {"d": (X, Y)}, {"pairs": [("m", "e")]}, "pairs of the name of a model"),
            ({"m": Linear(3, 3)}, {"d": (X, Y)}, {"pairs": []}, "at least one and each once"),
            ({"m": Linear(3, 3)}, {"d": (X, Y)}, {"pairs": [("m", "d")] * 2}, "at least one and each once"),
            ({"m": Linear(3, 3)}, {"d": (X, Y)}, {"batch_size": 0}, "batch_size"),
            ({"m": Linear(3, 3)}, {"d": (X, Y)}, {"rounds": 0}, "whole number of at least 1"),
        ],
    )
    def test_what_makes_no_suite_is_refused(self, models, data, options, message):
        with pytest.raises((TypeError, ValueError), match=message):
            BenchmarkSuite(models, data, **options)


class TestShown:
    def test_a_table_has_a_line_for_each_row(self):
        head, line = suite_table([ROW]).splitlines()
        assert "accuracy" in head
        assert line.split() == ["m", "d", "0.5", "16", "64", "10", "500", "ms", "250", "ms", "1", "s", "(75.0%)"]

    def test_a_picture_is_drawn(self, tmp_path):
        suite_plot([ROW], tmp_path / "suite.png")
        assert (tmp_path / "suite.png").read_bytes()[:4] == b"\x89PNG"

    def test_rows_of_two_machines_are_not_shown_together(self, tmp_path):
        other = BenchmarkResult("m on e", [0.5], {"processor": "slide rule"})
        rows = [ROW, SuiteRow("m", "e", "accuracy", 0.5, 16, 64, 10, other)]
        for show in (suite_table, lambda rows: suite_plot(rows, tmp_path / "x.png")):
            with pytest.raises(ValueError, match="different machines.*'abacus' and 'slide rule'"):
                show(rows)

    def test_a_suite_shows_its_rows(self):
        suite = BenchmarkSuite({"m": Linear(3, 3, rng=0)}, {"d": (X, Y)}, **QUICK)
        suite.run()
        assert suite.table() == suite_table(suite.rows)
        assert repr(suite) == "BenchmarkSuite(m on d)"


class TestFile:
    def test_the_same_rows_come_back(self, tmp_path):
        suite = BenchmarkSuite({"m": Linear(3, 3, rng=0)}, {"d": (X, Y)}, **QUICK)
        rows = suite.run()
        suite.save(tmp_path / "s.json")
        assert load_suite(tmp_path / "s.json") == rows
        assert json.loads((tmp_path / "s.json").read_text())["schema"] == "tinytorch.suite/1"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"quality": None}, "finite number, got None"),
            ({"quality": True}, "finite number, got True"),
            ({"parameters": -1}, "parameters"),
            ({"bytes": 0}, "bytes"),
            ({"batch": 1.5}, "batch"),
            ({"model": ""}, "a name"),
            ({"latency": 0.5}, "got float"),
            ({"energy": 3}, "got batch, bytes, dataset, energy"),
        ],
    )
    def test_rows_that_nobody_measured_are_refused(self, tmp_path, change, message):
        entry = {**ROW.to_dict(), **change}
        (tmp_path / "s.json").write_text(json.dumps({"schema": "tinytorch.suite/1", "rows": [entry]}))
        with pytest.raises(ValueError, match=f"rows number 0: .*{message}"):
            load_suite(tmp_path / "s.json")

    def test_a_row_without_a_measured_latency_is_refused(self):
        with pytest.raises(TypeError, match="a latency is a BenchmarkResult, got float"):
            SuiteRow("m", "d", "accuracy", 0.5, 16, 64, 10, 0.001)


def test_latency_is_of_the_first_samples():
    seen = []

    class First(Linear):
        def forward(self, x):
            seen.append(x.data[0].tolist())
            return super().forward(x)

    BenchmarkSuite({"m": First(3, 3, rng=0)}, {"d": (X, Y)}, batch_size=4, **QUICK).run()
    assert seen == [X[i].tolist() for i in (0, 4, 8, 0, 0, 0)]
