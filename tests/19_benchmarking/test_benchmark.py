"""Measuring: warm-up, loops, turns, the garbage collector, and what goes wrong."""

import gc
import time
from itertools import chain, cycle, repeat

import pytest

from support.checks import assert_close
from tinytorch.benchmarking.benchmark import Benchmark, _in_turns, _loops, compare, differences, machine


class TestLoops:
    @pytest.mark.parametrize(
        ("seconds", "min_time", "loops"),
        [
            (0.25, 0.0, 1),
            (0.25, 0.25, 1),
            (0.25, 0.26, 2),
            (0.25, 0.5, 2),
            (0.25, 0.75, 4),
            (3e-5, 1e-4, 4),
            (1e-6, 1e-3, 1024),
        ],
    )
    def test_calls_are_doubled_until_they_take_long_enough(self, clock, seconds, min_time, loops):
        assert _loops("work", clock.work(seconds), min_time, clock) == loops

    def test_a_clock_that_stands_still_is_found_out(self):
        calls = []
        with pytest.raises(ValueError, match="'idle': .* calls take less than 1e-06 s; does the clock go"):
            _loops("idle", lambda: calls.append(1), 1e-6, lambda: 0.0)
        assert len(calls) < 2000

    def test_a_time_is_that_of_one_call(self, clock):
        result = Benchmark(clock.work(0.25), "work", min_time=1, repeats=5, clock=clock).run()
        assert result.loops == 4
        assert result.times == (0.25,) * 5


class TestRun:
    def test_only_what_comes_after_the_warm_up_counts(self, clock):
        seconds = chain([9.0, 9.0, 9.0, 9.0], repeat(0.5))  # three of warm-up, one that finds the loops
        result = Benchmark(clock.work(seconds), "work", warmup=3, repeats=7, clock=clock).run()
        assert result.times == (0.5,) * 7

    @pytest.mark.parametrize("warmup", [0, 1, 5])
    def test_it_calls_as_often_as_it_says(self, clock, warmup):
        Benchmark(clock.work(0.5), "work", warmup=warmup, repeats=7, clock=clock).run()
        assert len(clock.calls) == warmup + 1 + 7

    def test_each_repeat_is_kept(self, clock):
        seconds = chain([1.0], iter([0.5, 0.25, 2.0]))
        result = Benchmark(clock.work(seconds), "work", warmup=0, repeats=3, clock=clock).run()
        assert_close(result.times, [0.5, 0.25, 2.0])
        assert result.median == pytest.approx(0.5)

    def test_it_says_where_and_how_sure(self, clock):
        result = Benchmark(clock.work(0.5), "work", repeats=9, level=0.8, clock=clock).run()
        assert differences(result.machine, machine()) == []
        assert (result.name, result.level, result.coverage) == ("work", 0.8, 1 - 92 / 512)

    def test_the_true_clock_is_the_default(self):
        result = Benchmark(lambda: time.sleep(0.002), "sleep", repeats=3, warmup=0).run()
        assert result.minimum >= 0.002

    def test_what_a_function_raises_is_raised(self):
        def broken():
            raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            Benchmark(broken, "broken").run()

    def test_an_error_in_the_middle_leaves_no_result(self, clock):
        with pytest.raises(StopIteration):
            Benchmark(clock.work(iter([0.5] * 9)), "work", warmup=0, repeats=20, clock=clock).run()

    def test_work_that_takes_no_time_is_no_measurement(self, clock):
        with pytest.raises(ValueError, match="above 0, got 0.0"):
            Benchmark(clock.work(0.0), "nothing", min_time=0, clock=clock).run()

    def test_it_prints_what_it_will_do(self):
        assert repr(Benchmark(len, "x", repeats=5)) == "Benchmark('x', warmup=3, repeats=5)"


class TestGarbage:
    def test_the_collector_rests_while_the_clock_goes(self, clock):
        seen = []

        def work():
            seen.append(gc.isenabled())
            clock.now += 0.5

        Benchmark(work, "work", warmup=0, repeats=2, clock=clock).run()
        assert seen == [False] * 3
        assert gc.isenabled()

    def test_it_works_again_after_an_error(self, clock):
        with pytest.raises(StopIteration):
            Benchmark(clock.work(iter([0.5] * 3)), "work", warmup=0, clock=clock).run()
        assert gc.isenabled()

    def test_one_that_was_off_stays_off(self, clock):
        gc.disable()
        try:
            Benchmark(clock.work(0.5), "work", clock=clock).run()
            assert not gc.isenabled()
        finally:
            gc.enable()


class TestTurns:
    def test_every_other_round_goes_backwards(self, clock):
        functions = {name: clock.work(0.5, name) for name in "ABC"}
        _in_turns(functions, 2, 4, 0, clock)
        assert "".join(clock.calls) == "AABBCC" + "ABC" + "ABC" + "CBA" + "ABC" + "CBA"

    def test_each_has_its_own_loops(self, clock):
        measured = _in_turns({"A": clock.work(0.5, "A"), "B": clock.work(0.125, "B")}, 0, 2, 0.5, clock)
        assert measured == {"A": (1, (0.5, 0.5)), "B": (4, (0.125, 0.125))}
        assert "".join(clock.calls) == "A" + "B" * 7 + "ABBBB" + "BBBBA"

    def test_times_stay_with_their_names(self, clock):
        a, b = cycle([1.0, 2.0, 3.0]), cycle([10.0, 20.0, 30.0])
        measured = _in_turns({"A": clock.work(a), "B": clock.work(b)}, 0, 3, 0, clock)
        assert_close(measured["A"][1], [2.0, 3.0, 1.0])
        assert_close(measured["B"][1], [20.0, 30.0, 10.0])


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"warmup": -1}, "warmup as a whole number of at least 0"),
            ({"warmup": 1.5}, "warmup as a whole number"),
            ({"repeats": 0}, "repeats as a whole number of at least 1"),
            ({"repeats": True}, "repeats as a whole number"),
            ({"min_time": -1}, "min_time in seconds"),
            ({"min_time": float("nan")}, "min_time in seconds"),
            ({"level": 95}, "level between 0 and 1"),
            ({"clock": 3.0}, "a clock to call"),
        ],
    )
    def test_options_that_make_no_sense_before_anything_runs(self, clock, options, message):
        with pytest.raises((TypeError, ValueError), match=message):
            Benchmark(clock.work(0.5), "work", **options)
        assert clock.calls == []

    @pytest.mark.parametrize(("function", "name"), [(3, "work"), (None, "work"), (len, ""), (len, None)])
    def test_what_cannot_be_called_or_has_no_name(self, function, name):
        with pytest.raises(TypeError, match="Benchmark needs"):
            Benchmark(function, name)

    @pytest.mark.parametrize("functions", [{}, {"A": len}, [len, len], None])
    def test_a_comparison_of_fewer_than_two(self, functions):
        with pytest.raises(ValueError, match="compare needs at least two functions"):
            compare(functions)
