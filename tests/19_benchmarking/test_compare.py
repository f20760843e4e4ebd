"""Two programs on one machine: ratios round by round, verdicts, and how often they are wrong."""

import numpy as np
import pytest

from tinytorch.benchmarking.benchmark import (
    BenchmarkResult,
    Comparison,
    Interval,
    compare,
    paired_ratio,
    unpaired_ratio,
)

HERE = {"processor": "abacus", "cores": 2}
UNEVEN = [1.0, 1.25, 1.5, 2.0, 4.0, 2.5, 1.0, 3.0, 1.75]


def result(name, times, **here):
    return BenchmarkResult(name, tuple(times), {**HERE, **here})


class TestPairs:
    def test_the_ratio_is_that_of_each_round(self):
        base = result("A", UNEVEN)
        assert paired_ratio(result("B", [t / 2 for t in UNEVEN]), base) == Interval(0.5, 0.5, 0.5, 1 - 20 / 512)

    def test_it_is_not_the_ratio_of_the_medians(self):
        a, b = result("A", [1.0, 2.0, 3.0]), result("B", [3.0, 2.0, 6.0])
        assert paired_ratio(b, a).median == 2.0
        assert b.median / a.median == 1.5

    def test_more_than_1_is_longer_than_the_base(self):
        assert paired_ratio(result("slow", [4.0]), result("fast", [1.0])).median == 4.0

    def test_a_level_of_ones_own(self):
        assert paired_ratio(result("B", range(1, 10)), result("A", [1.0] * 9), 0.8)[1:3] == (3, 7)

    def test_rounds_that_do_not_match_are_refused(self):
        with pytest.raises(ValueError, match="got 2 of 'B' and 3 of 'A'"):
            paired_ratio(result("B", [1.0, 2.0]), result("A", [1.0, 2.0, 3.0]))

    @pytest.mark.parametrize("ratio", [paired_ratio, unpaired_ratio])
    def test_different_machines_are_refused_with_what_differs(self, ratio):
        with pytest.raises(ValueError, match=r"different machines.*\(cores: 2 and 64; numpy: None and '2'\)"):
            ratio(result("B", [1.0], cores=64, numpy="2"), result("A", [1.0]))


class TestUnpaired:
    def test_both_intervals_at_once(self):
        # 97.5 % of nine values are from the smallest but one to the largest but one only with 96.1 %: so all nine
        a, b = result("A", range(10, 19)), result("B", range(20, 38, 2))
        assert unpaired_ratio(b, a) == Interval(28 / 14, 20 / 18, 36 / 10, 1 - 4 / 512)

    def test_it_asks_for_more_of_each_than_of_both(self):
        a = result("A", range(10, 19))
        assert unpaired_ratio(a, a, 0.9).coverage == pytest.approx(1 - 40 / 512)
        assert (unpaired_ratio(a, a, 0.9).low, unpaired_ratio(a, a, 0.9).high) == (11 / 17, 17 / 11)

    def test_few_runs_are_never_less_than_not_sure_at_all(self):
        assert unpaired_ratio(result("A", [1.0]), result("A", [1.0])).coverage == 0


class TestVerdict:
    def test_a_machine_that_slows_down_is_seen_through(self, clock):
        clock.drift = 0.05
        same = compare({"A": clock.work(0.1), "B": clock.work(0.1)}, clock=clock)
        assert same.faster is None
        assert same.ratio("B").low < 1 < same.ratio("B").high
        assert compare({"A": clock.work(0.1), "B": clock.work(0.095)}, clock=clock).faster == "B"

    def test_one_after_the_other_it_is_not(self, clock):
        clock.drift = 0.05
        work = clock.work(0.1)
        first, second = ([self.timed(work, clock) for _ in range(30)] for _ in range(2))
        assert result("A", first).high < result("B", second).low

    @staticmethod
    def timed(work, clock):
        start = clock()
        work()
        return clock() - start

    @pytest.mark.parametrize(("a", "b", "faster"), [(1.0, 2.0, "A"), (2.0, 1.0, "B"), (1.0, 1.0, None)])
    def test_the_faster_takes_less(self, clock, a, b, faster):
        assert compare({"A": clock.work(a), "B": clock.work(b)}, rounds=8, clock=clock).faster == faster

    @pytest.mark.parametrize(("rounds", "faster"), [(1, None), (5, None), (6, "B"), (7, "B")])
    def test_too_few_rounds_are_no_verdict(self, clock, rounds, faster):
        compared = compare({"A": clock.work(1.0), "B": clock.work(0.1)}, rounds=rounds, clock=clock)
        assert compared.faster == faster
        assert compared.verdict.startswith("no verdict" if faster is None else "B is the fastest")

    def test_too_few_rounds_are_said_with_what_they_give(self):
        compared = Comparison((result("A", [1.0] * 3), result("B", [2.0] * 3)))
        assert compared.verdict == "no verdict: 3 rounds give 75.0%, 95.0% is asked for; take more"

    def test_of_three_the_fastest_beats_both(self, clock):
        functions = {"A": clock.work(3.0), "B": clock.work(1.0), "C": clock.work(2.0)}
        compared = compare(functions, rounds=8, clock=clock)
        assert compared.names == ("A", "B", "C")
        assert compared.faster == "B"
        assert compared.ratio("C", "B").median == pytest.approx(2)
        assert compared.ratio("C").median == pytest.approx(2 / 3)

    def test_of_three_two_that_tie_are_no_fastest(self, clock):
        functions = {"A": clock.work(3.0), "B": clock.work(1.0), "C": clock.work(1.0)}
        assert compare(functions, rounds=8, clock=clock).faster is None

    def test_an_interval_that_reaches_1_is_none(self):
        ratios = [0.5] * 7 + [1.0, 1.0]  # second smallest 0.5, second largest 1
        assert Comparison((result("A", [1.0] * 9), result("B", ratios))).faster is None
        assert Comparison((result("A", [1.0] * 9), result("B", [*ratios[:8], 0.5]))).faster == "B"

    def test_it_prints_the_table_the_ratios_and_the_verdict(self, clock):
        lines = str(compare({"A": clock.work(1.0), "B": clock.work(2.0)}, rounds=9, clock=clock)).splitlines()
        assert lines[-2:] == ["B / A: 2 (2 to 2, 96.1% sure)", "A is the fastest"]
        assert len(lines) == 5

    def test_a_function_compared_with_itself_is_faster_as_rarely_as_promised(self):
        rng, wrong, count = np.random.default_rng(0), 0, 800
        for _ in range(count):
            times = rng.lognormal(0, 0.1, (2, 9)) * rng.choice([1, 5], size=(2, 9), p=[0.9, 0.1])
            wrong += Comparison((result("A", times[0]), result("B", times[1]))).faster is not None
        promised = 20 / 512
        assert abs(wrong / count - promised) < 4 * (promised / count) ** 0.5


class TestRefused:
    def test_one_result(self):
        with pytest.raises(ValueError, match="at least two results, got only 'A'"):
            Comparison((result("A", [1.0]),))

    def test_two_of_one_name(self):
        with pytest.raises(ValueError, match="different names, got 'A' more than once"):
            Comparison((result("A", [1.0]), result("A", [1.0])))

    def test_two_machines(self):
        with pytest.raises(ValueError, match="different machines"):
            Comparison((result("A", [1.0]), result("B", [1.0], cores=3)))

    def test_rounds_that_do_not_match(self):
        with pytest.raises(ValueError, match="for each round"):
            Comparison((result("A", [1.0]), result("B", [1.0, 2.0])))

    def test_a_name_that_is_not_there(self):
        compared = Comparison((result("A", [1.0]), result("B", [1.0])))
        with pytest.raises(KeyError, match="of A, B, not of 'C'"):
            compared.ratio("C")
