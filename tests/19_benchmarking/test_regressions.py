"""What became slower: found, tolerated, missing, and never between two machines."""

import numpy as np
import pytest

from tinytorch.benchmarking.benchmark import BenchmarkResult, Regressions, regressions

HERE = {"processor": "abacus", "cores": 2}
STEADY = [1 + i / 1000 for i in range(9)]  # 1 to 1.008


def result(name, factor=1.0, times=STEADY, **here):
    return BenchmarkResult(name, [factor * t for t in times], {**HERE, **here})


class TestFound:
    def test_one_that_takes_longer(self):
        found = regressions([result("a"), result("b")], [result("a"), result("b", 1.5)])
        (change,) = found
        assert (change.name, change.old, change.new) == ("b", result("b"), result("b", 1.5))
        assert change.ratio.median == pytest.approx(1.5)
        assert change.ratio.low == pytest.approx(1.5 / 1.008)
        assert not found.ok

    def test_one_that_takes_less_is_none(self):
        found = regressions(result("a"), result("a", 0.5))
        assert found == []
        assert found.ok

    @pytest.mark.parametrize(("factor", "count"), [(1.05, 0), (1.058, 0), (1.059, 1), (1.2, 1)])
    def test_its_whole_interval_must_lie_above_the_tolerance(self, factor, count):
        assert len(regressions([result("a")], [result("a", factor)])) == count  # from factor / 1.008

    @pytest.mark.parametrize(("tolerance", "count"), [(0, 1), (0.1, 1), (0.48, 1), (0.5, 0)])
    def test_the_tolerance_is_a_share(self, tolerance, count):
        assert len(regressions([result("a")], [result("a", 1.5)], tolerance)) == count

    def test_a_wide_interval_is_no_proof(self):
        wild = [0.5, 0.8, 1.2, 1.5, 1.5, 1.6, 2.0, 3.0, 9.0]
        assert regressions([result("a")], [result("a", times=wild)]) == []

    def test_the_worst_comes_first(self):
        names = {"a": 1.2, "b": 3.0, "c": 2.0}
        found = regressions([result(name) for name in names], [result(name, f) for name, f in names.items()])
        assert [change.name for change in found] == ["b", "c", "a"]

    def test_missing_and_added_are_said(self):
        found = regressions([result("a"), result("gone")], [result("new"), result("a")])
        assert found == []
        assert (found.missing, found.added, found.ok) == (("gone",), ("new",), False)
        assert str(found).splitlines() == [
            "nothing is slower",
            "missing: gone, measured before and not now",
            "added: new, not measured before",
        ]

    def test_added_alone_is_fine(self):
        assert regressions([result("a")], [result("a"), result("new")]).ok

    def test_it_prints_what_was_and_what_is(self):
        found = regressions([result("a", 0.001)], [result("a", 0.002)])
        assert str(found) == "slower: a: 1.004 ms -> 2.008 ms, 2 (1.984 to 2.016, 99.2% sure) times as long"

    def test_a_report_of_nothing_is_empty(self):
        assert Regressions() == []
        assert Regressions().ok


class TestHowOften:
    """The noise is lopsided, and one run in twenty takes five times as long."""

    @staticmethod
    def runs(rng, seconds, count):
        return seconds * rng.lognormal(0, 0.05, count) * rng.choice([1, 5], size=count, p=[0.95, 0.05])

    def reported(self, factor, tolerance, count=150):
        rng = np.random.default_rng(0)
        return np.mean(
            [
                len(
                    regressions(
                        result("a", times=self.runs(rng, 1, 30)),
                        result("a", times=self.runs(rng, factor, 30)),
                        tolerance,
                    )
                )
                for _ in range(count)
            ]
        )

    def test_false_alarms_are_rarer_than_promised(self):
        assert self.reported(1.0, tolerance=0) <= 0.025

    def test_what_is_just_tolerable_is_reported_as_rarely(self):
        assert self.reported(1.1, tolerance=0.1) <= 0.025

    def test_a_planted_one_of_a_third_is_found_nearly_always(self):
        assert self.reported(1.33, tolerance=0.05) > 0.95


class TestRefused:
    def test_different_machines_with_what_differs(self):
        with pytest.raises(ValueError, match=r"old and new were measured on different machines.*\(cores: 2 and 64\)"):
            regressions([result("a")], [result("a", cores=64)])

    def test_different_machines_among_the_old(self):
        with pytest.raises(ValueError, match="'a' and 'b' were measured on different machines"):
            regressions([result("a"), result("b", cores=64)], [result("a")])

    def test_nothing_in_common(self):
        with pytest.raises(ValueError, match="nothing to compare, a before and b, c now"):
            regressions([result("a")], [result("b"), result("c")])

    @pytest.mark.parametrize(("n", "level"), [(6, 0.95), (3, 0.8), (1, 0.5)])
    def test_too_few_repeats_for_the_level(self, n, level):
        few = result("a", times=[1.0] * n)
        for old, new in ((few, result("a")), (result("a"), few)):
            with pytest.raises(ValueError, match=f"{n} repeats of 'a' cannot give"):
                regressions(old, new, level=level)

    @pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf"), "5 %", None, True])
    def test_what_is_no_tolerance(self, tolerance):
        with pytest.raises(ValueError, match="tolerance of at least 0, such as 0.05"):
            regressions([result("a")], [result("a")], tolerance)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ([], [result("a")], "at least one"),
            ([result("a")] * 2, [result("a")], "more than once"),
            ([1], [1], "got int"),
        ],
    )
    def test_what_are_no_results(self, old, new, message):
        with pytest.raises((TypeError, ValueError), match=message):
            regressions(old, new)
