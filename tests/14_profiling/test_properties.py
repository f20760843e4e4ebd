"""What holds for any shapes, any nesting, any numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.core.layers import Linear
from tinytorch.core.tensor import einsum, zeros
from tinytorch.profiling.profiler import Event, Profiler, _latency, _own_times, _trace, count_flops

fixed = settings(derandomize=True, deadline=None, max_examples=60)
lengths = st.integers(1, 5)


def naive_product(a, b):
    """How many multiplications and additions the definition of a @ b takes, counted one by one."""
    count = 0
    for _ in range(a[0]):
        for _ in range(b[1]):
            for _ in range(a[1]):
                count += 2
    return count


@fixed
@given(lengths, lengths, lengths)
def test_a_product_costs_what_loops_count(m, k, n):
    with Profiler() as p:
        zeros(m, k) @ zeros(k, n)
        einsum("ij,jk->ik", zeros(m, k), zeros(k, n))
    assert p.events[0].flops == naive_product((m, k), (k, n))
    assert p.events[1].flops == p.events[0].flops


@fixed
@given(st.lists(lengths, min_size=1, max_size=3), lengths, lengths)
def test_flops_are_proportional_to_the_rows(rows, i, o):
    assert count_flops(Linear(i, o), (*rows, i)) == int(np.prod(rows)) * count_flops(Linear(i, o), (1, i))


@st.composite
def nested(draw, start=0, depth=0):
    """Events in the order of their ends, and where the last one ends."""
    events, now = [], start
    for _ in range(draw(st.integers(0, 3 if depth < 3 else 0))):
        now += draw(st.integers(0, 3))
        inside, end = draw(nested(now, depth + 1))
        end += draw(st.integers(0, 3))
        events += [*inside, Event("e", "region", now, end, 0, None, ())]
        now = end
    return events, now


@fixed
@given(nested())
def test_own_times_are_never_negative_and_add_up_to_what_is_covered(drawn):
    events, end = drawn
    own = _own_times(events)
    assert all(n >= 0 for n in own)
    covered = np.zeros(end, bool)
    for event in events:
        covered[event.start : event.end] = True
    assert sum(own) == covered.sum()


@fixed
@given(nested())
def test_a_timeline_is_sorted_and_loses_nothing(drawn):
    events, _ = drawn
    traced = _trace(events)["traceEvents"]
    keys = [(e["ts"], -e["dur"]) for e in traced]
    assert keys == sorted(keys)
    spans = [(round(e["ts"] * 1000), -round((e["ts"] + e["dur"]) * 1000)) for e in traced]
    assert spans == sorted((e.start, -e.end) for e in events)


@fixed
@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=20), st.integers(2, 9))
def test_one_interruption_does_not_move_the_median_beyond_the_others(seconds, times):
    slow = [*seconds, *seconds, max(seconds) * 10**times]
    assert min(seconds) <= _latency(slow).median <= max(seconds)
