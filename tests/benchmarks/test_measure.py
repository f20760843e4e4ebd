"""What the benchmarks measure with: turns, ratios, exponents, memory."""

import math

import numpy as np
import pytest

from benchmarks import measure


class TestTurns:
    def test_contestants_take_turns_and_each_gets_as_many_rounds(self):
        order = []
        steps = {name: lambda name=name: order.append(name) for name in "ab"}
        clock = iter(range(10_000))
        found = measure.interleaved(steps, rounds=3, seconds=2, clock=lambda: next(clock))
        assert "".join(order) == "aabb" + "aabb" * 3  # to see how long a call takes; then two calls a turn
        assert found == {name: {"minimum": 1, "rounds": [1, 1, 1]} for name in "ab"}

    def test_a_round_counts_its_middle_call_and_the_whole_its_fastest(self):
        lasts = iter([0, 5, 5, 1, 9, 4, 6, 20])  # two calls to warm up, then two rounds of three
        now = [0]

        def step():
            now[0] += next(lasts)

        found = measure.interleaved({"a": step}, rounds=2, seconds=15, clock=lambda: now[0])
        assert found == {"a": {"minimum": 1, "rounds": [5, 6]}}

    def test_one_thread_is_timed_without_other_programs(self):
        assert measure.clock_for(1).__name__ == "process_time"
        assert measure.clock_for(2).__name__ == "perf_counter"


class TestRatios:
    def test_the_median_is_that_of_the_rounds_ratios(self):
        times = {
            "ours": {"minimum": 2.0, "rounds": [2.0, 30.0, 6.0]},
            "theirs": {"minimum": 1.0, "rounds": [1.0, 10.0, 1.5]},  # the second round was slow for both
        }
        assert measure.ratios(times, "ours", "theirs") == {"minimum": 2.0, "median": 3.0}


class TestExponents:
    @pytest.mark.parametrize("p", [0, 0.5, 1, 2, 3])
    def test_a_power_law_gives_its_power(self, p):
        sizes = [64, 128, 256, 512]
        assert measure.slope(sizes, [7e-6 * size**p for size in sizes]) == pytest.approx(p, abs=1e-12)

    def test_it_is_the_line_of_least_squares_between_logarithms(self):
        sizes, values = [1, 10, 100, 1000], [1, 3, 200, 900]
        expected = np.polyfit(np.log(sizes), np.log(values), 1)[0]
        assert measure.slope(sizes, values) == pytest.approx(expected)

    def test_one_size_has_no_exponent(self):
        with pytest.raises(ValueError, match="needs two sizes or more, got 1"):
            measure.slope([3], [4])

    @pytest.mark.parametrize(
        ("sizes", "kept"),
        [([64, 128, 256, 512, 1024, 2048], [512, 1024, 2048]), ([10, 100, 1000], [100, 1000]), ([1, 2], [2])],
    )
    def test_the_upper_half_is_counted_in_logarithms_with_the_middle(self, sizes, kept):
        assert measure.upper_half(sizes, [-size for size in sizes]) == [kept, [-size for size in kept]]

    def test_what_each_call_costs_does_not_count_in_the_upper_half(self):
        sizes = [2**i for i in range(21)]
        exponent = measure.slope(*measure.upper_half(sizes, [50 + size for size in sizes]))
        assert math.isclose(exponent, 1, abs_tol=0.02)


class TestMemory:
    def test_the_peak_is_what_the_step_held_at_once(self):
        if measure.peak_memory(lambda: None) is None:
            pytest.skip("this system does not count the peak of a process's memory")
        array = 64 << 20

        def step():
            first = np.ones(array, np.uint8)
            del first
            np.ones(array, np.uint8)

        assert 0.9 * array < measure.peak_memory(step) < 1.3 * array  # the system counts roughly

    def test_it_is_unknown_where_the_system_does_not_count(self, monkeypatch):
        monkeypatch.setattr(measure, "_status", lambda field: (_ for _ in ()).throw(OSError("no such field")))
        assert measure.peak_memory(lambda: None) is None
