"""What holds for times, levels and programs of any kind."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.benchmarking.benchmark import (
    BenchmarkResult,
    Comparison,
    _in_turns,
    _rank,
    differences,
    median_interval,
    paired_ratio,
    regressions,
    unpaired_ratio,
)

fixed = settings(derandomize=True, deadline=None, max_examples=40)
HERE = {"processor": "abacus"}
seconds = st.floats(1e-9, 1e6)
times = st.lists(seconds, min_size=1, max_size=40)
levels = st.floats(0.01, 0.999)
machines = st.dictionaries(st.sampled_from("abc"), st.one_of(st.integers(0, 2), st.sampled_from("xy")), min_size=1)


def result(name, values):
    return BenchmarkResult(name, values, HERE)


@fixed
@given(times, levels)
def test_an_interval_lies_within_the_data_and_holds_the_median(values, level):
    median, low, high, coverage = median_interval(values, level)
    assert min(values) <= low <= median <= high <= max(values)
    assert {low, high} <= set(values)
    assert 0 <= coverage < 1


@fixed
@given(times, st.tuples(levels, levels).map(sorted))
def test_a_surer_interval_is_never_narrower(values, pair):
    wide, narrow = median_interval(values, pair[1]), median_interval(values, pair[0])
    assert wide.low <= narrow.low <= narrow.high <= wide.high
    assert wide.coverage >= narrow.coverage


@fixed
@given(times, st.randoms(use_true_random=False))
def test_the_order_of_the_runs_makes_no_difference(values, random):
    shuffled = random.sample(values, len(values))
    assert median_interval(values) == median_interval(shuffled)


@fixed
@given(times, st.sampled_from([0.25, 2.0, 1024.0]))
def test_another_unit_changes_nothing_else(values, unit):
    here, there = median_interval(values), median_interval([unit * t for t in values])
    assert there == (unit * here.median, unit * here.low, unit * here.high, here.coverage)


@fixed
@given(st.integers(1, 60), levels)
def test_more_runs_use_a_smaller_share_of_themselves(n, level):
    share = [(m + 2 - 2 * _rank(m, level)[0]) / m for m in (n, 4 * n, 16 * n)]
    assert share[0] >= share[1] >= share[2]


@fixed
@given(times.filter(lambda values: len(values) > 6), seconds)
def test_one_run_gone_wild_moves_the_interval_by_one_place_at_most(values, wild):
    ordered = sorted(values)
    k, _ = _rank(len(values), 0.95)
    got = median_interval([wild, *values[1:]])
    assert got.low >= (ordered[k - 2] if k > 1 else min(wild, ordered[0]))
    assert got.high <= (ordered[len(values) - k + 1] if k > 1 else max(wild, ordered[-1]))


@fixed
@given(st.text('a$ \n"\\é日', min_size=1, max_size=9), times, machines, st.integers(1, 2**40), levels)
def test_json_brings_every_result_back(name, values, here, loops, level):
    made = BenchmarkResult(name, values, here, loops, level)
    assert BenchmarkResult.from_dict(json.loads(json.dumps(made.to_dict()))) == made


@fixed
@given(machines, machines)
def test_there_are_differences_if_and_only_if_machines_differ(a, b):
    assert bool(differences(a, b)) == (a != b)
    assert len(differences(a, b)) == len(differences(b, a))
    assert differences(a, a) == []


@fixed
@given(st.lists(st.tuples(seconds, st.floats(0.1, 10)), min_size=6, max_size=30), st.floats(0.1, 10))
def test_what_slows_both_down_in_a_round_does_not_count(rounds, factor):
    moods = np.array([mood for _, mood in rounds])
    a, b = result("A", [1.0] * len(moods)), result("B", [factor] * len(moods))
    slow_a, slow_b = result("A", moods.tolist()), result("B", (factor * moods).tolist())
    np.testing.assert_allclose(paired_ratio(slow_b, slow_a), paired_ratio(b, a), rtol=1e-9)


@fixed
@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=30))
def test_at_most_one_is_the_fastest_and_the_order_does_not_matter(pairs):
    a, b = (result(name, column) for name, column in zip("AB", zip(*pairs)))
    assert Comparison((a, b)).faster == Comparison((b, a)).faster


@fixed
@given(times.filter(lambda values: len(values) > 6), times.filter(lambda values: len(values) > 6), st.floats(0, 2))
def test_both_ways_round_at_most_one_is_a_regression(old, new, tolerance):
    a, b = result("x", old), result("x", new)
    assert len(regressions(a, b, tolerance)) + len(regressions(b, a, tolerance)) <= 1
    assert regressions(a, a, tolerance) == []
    there, back = unpaired_ratio(a, b), unpaired_ratio(b, a)
    np.testing.assert_allclose([there.low, there.high], [1 / back.high, 1 / back.low])
    assert there.coverage == back.coverage >= 0.95


@fixed
@given(st.lists(st.integers(1, 64), min_size=1, max_size=4), st.integers(0, 3), st.integers(1, 5), st.integers(0, 100))
def test_in_turns_everything_is_called_as_often_and_timed_exactly(costs, warmup, repeats, min_time):
    now, calls = [0], dict.fromkeys(map(str, range(len(costs))), 0)

    def work(name, cost):
        def run():
            now[0] += cost
            calls[name] += 1

        return run

    functions = {name: work(name, cost) for name, cost in zip(calls, costs)}
    measured = _in_turns(functions, warmup, repeats, min_time, lambda: now[0])
    for (name, (loops, found)), cost in zip(measured.items(), costs):
        assert found == (cost,) * repeats
        assert loops * cost >= min_time
        assert loops == 1 or loops * cost < 2 * min_time
        assert calls[name] == warmup + (2 * loops - 1) + repeats * loops
