"""The interval of a median: by hand, by counting, and as often right as it says."""

import math

import numpy as np
import pytest

from tinytorch.benchmarking.benchmark import Interval, _rank, median_interval

NINE = [31, 28, 35, 30, 29, 90, 33, 30, 32]


def chance(n, k):
    """That neither fewer than k of n throws of a coin are heads, nor fewer than k tails."""
    return sum(math.comb(n, heads) for heads in range(k, n - k + 1)) / 2**n


class TestByHand:
    def test_nine_runs(self):
        assert median_interval(NINE) == Interval(31, 29, 35, 1 - 20 / 512)

    def test_how_slow_the_slowest_was_makes_no_difference(self):
        assert median_interval([9000 if t == 90 else t for t in NINE]) == median_interval(NINE)

    def test_a_lower_level_gives_a_narrower_interval(self):
        assert median_interval(NINE, 0.8) == Interval(31, 30, 33, 1 - 92 / 512)

    def test_of_an_even_number_the_median_is_the_mean_of_the_middle_two(self):
        assert median_interval([4, 1, 3, 2]).median == 2.5

    @pytest.mark.parametrize(("n", "sure"), [(1, 0.0), (2, 0.5), (3, 0.75), (5, 0.9375)])
    def test_few_runs_give_all_they_have_and_say_how_little_it_is(self, n, sure):
        assert median_interval(range(n)) == Interval((n - 1) / 2, 0, n - 1, sure)

    def test_it_prints_how_sure_it_is(self):
        assert str(median_interval(NINE)) == "31 (29 to 35, 96.1% sure)"

    def test_the_values_are_left_as_they_were(self):
        values = np.array(NINE, float)
        median_interval(values)
        assert values.tolist() == NINE

    def test_plain_floats_come_out(self):
        assert {type(value) for value in median_interval(np.array(NINE, np.float32))} == {float}


class TestRank:
    @pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.99, 0.999])
    @pytest.mark.parametrize("n", [*range(1, 40), 101, 256])
    def test_it_is_the_largest_that_suffices(self, n, level):
        k, coverage = _rank(n, level)
        assert coverage == pytest.approx(chance(n, k), abs=1e-12)
        assert chance(n, k + 1) < level
        assert coverage >= level or k == 1

    def test_thousands_of_values_are_no_trouble(self):
        k, coverage = _rank(5000, 0.95)
        assert 0.95 <= coverage < 0.953
        assert k == pytest.approx(2500 - 1.96 * math.sqrt(5000) / 2, abs=1.5)

    @pytest.mark.parametrize(("n", "enough"), [(5, False), (6, True)])
    def test_six_are_needed_for_95_percent(self, n, enough):
        assert (_rank(n, 0.95)[1] >= 0.95) is enough


class TestCoverage:
    @pytest.mark.parametrize("n", [5, 9, 12, 30])
    @pytest.mark.parametrize("shape", ["even", "lopsided", "two heaps"])
    def test_it_holds_the_true_median_as_often_as_it_says(self, n, shape):
        rng = np.random.default_rng(n)
        uniform = rng.random((1500, n)) - 0.5  # its median is 0, and that of every rising function of it
        runs = {
            "even": uniform,
            "lopsided": np.exp(12 * uniform) - 1,
            "two heaps": np.sign(uniform) + 0.01 * uniform,
        }[shape]
        intervals = [median_interval(row) for row in runs]
        held = np.mean([low <= 0 <= high for _, low, high, _ in intervals])
        sure = intervals[0].coverage
        assert abs(held - sure) < 4 * math.sqrt(sure * (1 - sure) / len(intervals))

    def test_its_width_falls_with_the_square_root_of_the_number(self):
        rng = np.random.default_rng(0)
        few, many = (
            np.median([np.ptp(median_interval(rng.normal(size=n))[1:3]) for _ in range(100)]) for n in (50, 800)
        )
        assert few / many == pytest.approx(4, rel=0.2)


class TestRefused:
    @pytest.mark.parametrize("values", [[], [[1.0, 2.0]], [1.0, float("nan")], [float("inf")], 3.0])
    def test_what_is_no_list_of_numbers(self, values):
        with pytest.raises(ValueError, match="median_interval needs a list of finite numbers"):
            median_interval(values)

    @pytest.mark.parametrize("level", [0, 1, 95, -0.5, True, "0.95", float("nan")])
    def test_what_is_no_level(self, level):
        with pytest.raises(ValueError, match="level between 0 and 1"):
            median_interval([1.0], level)
