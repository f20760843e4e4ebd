"""Comparisons, limits, points and the picture, with a clock that only moves when told."""

import sys

import numpy as np
import pytest

from tinytorch.core.tensor import Tensor
from tinytorch.optimization import acceleration
from tinytorch.optimization.acceleration import (
    Point,
    Roofline,
    Speedup,
    measure_bandwidth,
    measure_peak,
    measure_point,
    plot_roofline,
    speedup,
)
from tinytorch.profiling.profiler import Latency


@pytest.fixture
def clock(monkeypatch):
    """Nanoseconds; `clock.wait(n)` lets some pass, and `clock.each` is how many pass between two readings, in turn."""

    class Clock:
        now = 0
        each = ()

        def __call__(self):
            if self.each:
                step, *rest = self.each
                self.each = (*rest, step)
                self.now += step
            return self.now

        def wait(self, nanoseconds):
            self.now += nanoseconds

    made = Clock()
    monkeypatch.setattr(acceleration, "perf_counter_ns", made)
    return made


def takes(clock, log, name, seconds, value=1.0):
    """A function that takes the seconds given, one after the other, and returns an array."""
    left = list(seconds)

    def function():
        log.append(name)
        clock.wait(left.pop(0) * 10**9 if left else 10**12)
        return np.full(3, value)

    return function


class TestCompare:
    def test_medians_and_gain(self, clock):
        found = speedup(takes(clock, [], "a", [9, 9, 6, 8, 100]), takes(clock, [], "b", [9, 9, 2, 50, 1]), repeats=3)
        assert (found.naive.median, found.fast.median, found.factor) == (8, 2, 4)

    def test_both_are_run_in_turn(self, clock):
        log = []
        speedup(takes(clock, log, "a", []), takes(clock, log, "b", []), warmup=2, repeats=3)
        assert log == ["a", "b"] * 6

    @pytest.mark.parametrize("warmup", [0, 1, 4])
    def test_warm_up_runs_do_not_count(self, clock, warmup):
        cold = [1000] * (1 + warmup)
        found = speedup(takes(clock, [], "a", [*cold, 4]), takes(clock, [], "b", [*cold, 2]), warmup, 1)
        assert found.factor == 2

    def test_how_far_apart_they_are(self, clock):
        found = speedup(lambda: np.array([1.0, -50.0]), lambda: np.array([1.001, -50.0]))
        assert found.error == pytest.approx(0.001 / 50)

    @pytest.mark.parametrize(
        ("a", "b"), [([1.0, 2.0], [1.0, 2.1]), ([1.0, 2.0], [1.0, np.nan]), ([0.0], [1.0]), ([1.0], [0.0])]
    )
    def test_other_numbers_are_refused(self, a, b):
        with pytest.raises(ValueError, match="speedup: the results differ by .* so speed means nothing yet"):
            speedup(lambda: np.array(a), lambda: np.array(b))

    def test_what_is_allowed_can_be_said(self):
        assert speedup(lambda: np.array([2.0]), lambda: np.array([2.1]), rtol=0.1).error == pytest.approx(0.1 / 2.1)

    def test_other_shapes_are_refused(self):
        with pytest.raises(ValueError, match=r"naive gives shape \(2,\), fast \(1, 2\); they must compute the same"):
            speedup(lambda: np.ones(2), lambda: np.ones((1, 2)))

    def test_what_returns_nothing_is_refused(self):
        with pytest.raises(TypeError, match="speedup needs functions that return floats, got object and float64"):
            speedup(lambda: None, lambda: np.ones(2))

    def test_tensors_numbers_and_empty_arrays_can_be_compared(self):
        for value in (Tensor([1.0, 2.0]), 3.5, np.zeros(0), np.zeros(2)):
            assert speedup(lambda value=value: value, lambda value=value: value).error == 0

    @pytest.mark.parametrize(("warmup", "repeats"), [(-1, 3), (1, 0), (1, 2.5)])
    def test_counts_are_checked(self, warmup, repeats):
        with pytest.raises(ValueError, match="speedup needs .* as a whole number of at least"):
            speedup(lambda: 1.0, lambda: 1.0, warmup, repeats)

    def test_what_cannot_be_called_is_refused(self):
        with pytest.raises(TypeError, match="speedup needs a model or function to call, got float"):
            speedup(lambda: 1.0, 1.0)

    def test_as_text(self):
        found = Speedup(Latency(0.003, 0, 0), Latency(0.002, 0, 0), 0.0)
        assert str(found) == "   3.000 ms ->    2.000 ms,  1.50 times as fast"


class TestRoofline:
    @pytest.mark.parametrize(("intensity", "want"), [(0.5, 10), (1, 20), (5, 100), (8, 100), (1000, 100)])
    def test_the_smaller_of_two_limits(self, intensity, want):
        assert Roofline(100, 20).attainable(intensity) == want

    def test_the_ridge_is_where_both_are_equal(self):
        roof = Roofline(300, 20)
        assert roof.ridge == 15
        assert roof.attainable(15) == 300

    def test_a_point(self):
        point = Point("p", 600, 300, 2)
        assert (point.intensity, point.performance) == (2, 300)


class TestLimits:
    def test_bandwidth_counts_two_reads_and_a_write(self, clock):
        clock.each = (500, 1000)  # between runs, and in them
        assert measure_bandwidth(4000, 4) == pytest.approx(3 * 4000 / 1e-6)

    def test_bandwidth_is_that_of_the_fastest_run(self, clock):
        clock.each = (500, 4000, 500, 1000, 500, 2000)
        assert measure_bandwidth(4000, 3) == pytest.approx(3 * 4000 / 1e-6)

    def test_peak_counts_a_multiplication_and_an_addition(self, clock):
        clock.each = (500, 1000)
        assert measure_peak(10, repeats=2) == pytest.approx(2000 / 1e-6)

    def test_peak_is_that_of_the_fastest_run(self, clock):
        clock.each = (500, 3000, 500, 1000, 500, 2000)
        assert measure_peak(10, np.float64, 3) == pytest.approx(2000 / 1e-6)

    def test_a_point_has_the_median_time(self, clock):
        log = []
        point = measure_point("p", takes(clock, log, "f", [9, 9, 1, 100, 3]), 30, 10, warmup=2, repeats=3)
        assert point == ("p", 30, 10, 3)
        assert len(log) == 5

    @pytest.mark.parametrize("measure", [measure_bandwidth, measure_peak])
    @pytest.mark.parametrize("size", [0, -4])
    def test_sizes_of_nothing_are_refused(self, measure, size):
        with pytest.raises(ValueError, match=f"{measure.__name__} needs n.* of at least 1, got {size}"):
            measure(size)

    @pytest.mark.parametrize("measure", [measure_bandwidth, measure_peak])
    def test_no_runs_are_refused(self, measure):
        with pytest.raises(ValueError, match=f"{measure.__name__} needs repeats of at least 1, got 0"):
            measure(64, repeats=0)

    def test_less_than_one_number_is_refused(self):
        with pytest.raises(ValueError, match="measure_bandwidth needs nbytes for at least one number, 4, got 3"):
            measure_bandwidth(3)

    def test_a_peak_of_integers_is_refused(self):
        with pytest.raises(TypeError, match="measure_peak needs a floating dtype, got int64"):
            measure_peak(4, np.int64)

    @pytest.mark.parametrize(("flops", "bytes", "name"), [(0, 1, "flops"), (1, 0, "bytes"), (-1, 1, "flops")])
    def test_a_point_that_has_no_place_is_refused(self, flops, bytes, name):
        with pytest.raises(ValueError, match=f"measure_point needs {name} above 0 to place 'relu', got"):
            measure_point("relu", lambda: None, flops, bytes)


class TestPicture:
    ROOF = Roofline(100e9, 20e9)
    POINTS = (Point("slow", 10**9, 10**9, 0.1), Point("fast", 10**9, 10**8, 0.02))

    def test_the_roof(self):
        roof = plot_roofline(self.ROOF).axes[0].lines[0]
        for x, y in zip(*roof.get_data()):
            assert y == pytest.approx(self.ROOF.attainable(x) / 1e9)
        assert 5 in roof.get_xdata()

    def test_points_stand_at_their_place_under_their_name(self):
        lines = plot_roofline(self.ROOF, self.POINTS).axes[0].lines[1:]
        assert [line.get_label() for line in lines] == ["slow", "fast"]
        assert [line.get_xydata().tolist() for line in lines] == [
            [[1.0, pytest.approx(10)]],
            [[10.0, pytest.approx(50)]],
        ]

    def test_the_roof_covers_all_points(self):
        far = Point("far", 10**9, 10, 1), Point("near", 10, 10**9, 1)
        x = plot_roofline(self.ROOF, far).axes[0].lines[0].get_xdata()
        assert min(x) < 1e-8
        assert max(x) > 1e8

    def test_it_is_written_as_a_picture(self, tmp_path):
        plot_roofline(self.ROOF, self.POINTS, tmp_path / "roof.png")
        assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")

    def test_it_opens_no_window(self):
        pyplot = sys.modules.get("matplotlib.pyplot")
        before = pyplot.get_fignums() if pyplot else []
        plot_roofline(self.ROOF, iter(self.POINTS))
        pyplot = sys.modules.get("matplotlib.pyplot")
        assert (pyplot.get_fignums() if pyplot else []) == before
