"""Results and machines: what they hold, how they print, and what cannot have been measured."""

import dataclasses
import json
import os

import numpy as np
import pytest

from tinytorch.benchmarking import benchmark
from tinytorch.benchmarking.benchmark import BenchmarkResult, Interval, differences, machine, plot, table

HERE = {"processor": "abacus", "cores": 2}


class TestMachine:
    def test_it_says_what_a_time_depends_on(self):
        here = machine()
        assert list(here) == ["processor", "cores", "system", "python", "numpy", "blas", "threads"]
        assert here["numpy"] == np.__version__
        assert 1 <= here["cores"] <= os.cpu_count()
        assert all(here.values())

    def test_it_goes_through_json_and_stays_the_same(self):
        assert json.loads(json.dumps(machine())) == machine()

    def test_threads_that_were_asked_for_are_part_of_it(self, monkeypatch):
        for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
            monkeypatch.delenv(name, raising=False)
        free = machine()
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert differences(free, machine()) == ["threads: 'as BLAS likes' and 'OMP_NUM_THREADS=3'"]

    @pytest.mark.parametrize(
        ("a", "b", "lines"),
        [
            ({"cores": 2}, {"cores": 2}, []),
            ({"cores": 2, "numpy": "2"}, {"numpy": "3", "cores": 4}, ["cores: 2 and 4", "numpy: '2' and '3'"]),
            ({"cores": 2}, {}, ["cores: 2 and None"]),
            ({}, {"cores": 2}, ["cores: None and 2"]),
        ],
    )
    def test_differences_name_each_thing(self, a, b, lines):
        assert differences(a, b) == lines


class TestResult:
    def test_every_time_is_kept_in_its_order(self):
        assert BenchmarkResult("x", [3.0, 1.0, 2.0], HERE).times == (3.0, 1.0, 2.0)

    def test_its_numbers_are_those_of_the_interval(self):
        result = BenchmarkResult("x", [31, 28, 35, 30, 29, 90, 33, 30, 32], HERE)
        assert (result.median, result.low, result.high, result.coverage) == (31, 29, 35, 1 - 20 / 512)
        assert result.interval == Interval(31, 29, 35, 1 - 20 / 512)
        assert result.minimum == 28

    def test_its_level_is_used(self):
        result = BenchmarkResult("x", [*range(1, 10)], HERE, level=0.8)
        assert (result.low, result.high) == (3, 7)

    def test_it_cannot_be_changed(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            BenchmarkResult("x", [1.0], HERE).times = (2.0,)

    def test_equal_ones_are_equal_and_hash_alike(self):
        a, b = (BenchmarkResult("x", times, HERE, 4) for times in ([1, 2.5], (np.float32(1), 2.5)))
        assert a == b
        assert hash(a) == hash(b)
        assert a != BenchmarkResult("x", [1, 2.5], {**HERE, "cores": 3}, 4)

    @pytest.mark.parametrize(
        ("seconds", "text"), [(2.5, "2.5 s"), (0.0125, "12.5 ms"), (3e-6, "3 us"), (4.25e-7, "425 ns"), (1.0, "1 s")]
    )
    def test_times_print_with_a_unit_that_suits_them(self, seconds, text):
        assert str(BenchmarkResult("x", [seconds], HERE)) == f"x: {text} ({text} to {text}, 0.0% sure, 1 repeat)"

    def test_a_dictionary_brings_it_back(self):
        result = BenchmarkResult("x", [0.1, 0.2, 1 / 3], HERE, 8, 0.9)
        assert BenchmarkResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result

    def test_numbers_of_numpy_become_pythons(self):
        result = BenchmarkResult("x", [np.float32(0.5)], HERE, np.int64(2), np.float64(0.9))
        assert [type(value) for value in (result.times[0], result.loops, result.level)] == [float, int, float]

    @pytest.mark.parametrize(
        "times", [[], [0.0], [-1.0], [float("nan")], [float("inf")], ["1"], [True], "1", 1.0, None]
    )
    def test_times_that_nobody_measured_are_refused(self, times):
        with pytest.raises(ValueError, match="'x' needs"):
            BenchmarkResult("x", times, HERE)

    @pytest.mark.parametrize(
        ("name", "here", "loops", "level", "message"),
        [
            ("", HERE, 1, 0.95, "name"),
            (3, HERE, 1, 0.95, "name"),
            ("x", {}, 1, 0.95, "machine"),
            ("x", None, 1, 0.95, "machine"),
            ("x", {"cores": [2]}, 1, 0.95, "text or numbers"),
            ("x", {2: "cores"}, 1, 0.95, "text or numbers"),
            ("x", HERE, 0, 0.95, "loops"),
            ("x", HERE, 1.5, 0.95, "loops"),
            ("x", HERE, 1, 95, "level"),
        ],
    )
    def test_whatever_else_is_wrong_is_named(self, name, here, loops, level, message):
        with pytest.raises((TypeError, ValueError), match=message):
            BenchmarkResult(name, [1.0], here, loops, level)


class TestTableAndPicture:
    def test_a_table_has_a_line_for_each_with_its_numbers(self):
        results = [BenchmarkResult("a", [1.0, 2.0, 3.0], HERE), BenchmarkResult("long name", [5e-6], HERE, 16)]
        _, first, second = table(results).splitlines()
        assert first.split() == ["a", "2", "s", "1", "s", "3", "s", "75.0%", "1", "s", "3", "1"]
        assert second.split() == ["long", "name", *["5", "us"] * 3, "0.0%", "5", "us", "1", "16"]

    def test_a_picture_shows_every_repeat_and_every_interval(self, tmp_path, monkeypatch):
        from matplotlib.axes import Axes

        drawn, plain = [], Axes.plot
        monkeypatch.setattr(Axes, "plot", lambda self, x, *a, **k: (drawn.append(x), plain(self, x, *a, **k))[1])
        results = [BenchmarkResult("$a$", [0.001, 0.002, 0.004], HERE), BenchmarkResult("b", [0.005], HERE)]
        plot(results, tmp_path / "picture.png")
        assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
        assert [np.round(x, 9).tolist() for x in drawn] == [[1, 2, 4], [1, 4], 2, [5], [5, 5], 5]

    @pytest.mark.parametrize("draw", [table, lambda results: plot(results, "never.png")], ids=["table", "plot"])
    def test_neither_puts_two_machines_side_by_side(self, draw):
        results = [BenchmarkResult("a", [1.0], HERE), BenchmarkResult("b", [1.0], {**HERE, "cores": 64})]
        with pytest.raises(ValueError, match=r"'a' and 'b' were measured on different machines.*\(cores: 2 and 64\)"):
            draw(results)

    @pytest.mark.parametrize(
        ("results", "message"),
        [
            ([], "at least one"),
            ([3], "results of benchmarks, got int"),
            ([BenchmarkResult("a", [1.0], HERE)] * 2, "'a'"),
        ],
    )
    def test_what_is_no_list_of_results_is_refused(self, results, message):
        with pytest.raises((TypeError, ValueError), match=message):
            table(results)


def test_the_processor_is_named():
    assert benchmark._processor()
