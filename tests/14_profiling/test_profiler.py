"""Who is billed for which nanosecond, by a clock that the tests move; sums, tables, refusals."""

import sys
import threading
import tracemalloc

import numpy as np
import pytest

from tinytorch.core import tensor as T
from tinytorch.core.autograd import checkpoint, is_grad_enabled, no_grad, set_runner
from tinytorch.core.layers import Linear
from tinytorch.core.tensor import Tensor, get_recorder, randn, result, set_observer
from tinytorch.profiling.profiler import Event, Profiler, _own_times


def leaf():
    return Tensor([1.0, 2.0], requires_grad=True)


def spans(p):
    return [(e.name, e.start, e.end) for e in p.events]


class TestAttribution:
    def test_an_operation_takes_as_long_as_it_takes(self, clock, slow):
        x = leaf()
        with Profiler() as p:
            slow(slow(x, 30), 50)
        assert spans(p) == [("slow", 0, 30), ("slow", 30, 80)]

    def test_the_python_between_two_operations_counts_to_the_second(self, clock, slow):
        x = leaf()
        with Profiler() as p:
            y = slow(x, 30)
            clock.wait(7)
            slow(y, 50)
        assert spans(p) == [("slow", 0, 30), ("slow", 30, 87)]

    def test_what_happens_before_the_first_operation_is_not_on_its_bill(self, clock, slow):
        with Profiler() as p:
            clock.wait(1000)
            slow(leaf(), 30)
        assert spans(p) == [("slow", 1000, 1030)]
        assert p.between == pytest.approx(1000e-9)

    def test_rules_are_timed_from_call_to_return(self, clock, slow):
        with Profiler() as p:
            slow(slow(leaf(), 1, 20), 1, 300).backward([1.0, 1.0])
        assert spans(p)[2:] == [("SlowBackward", 2, 302), ("SlowBackward", 302, 322)]

    def test_the_optimizer_is_not_on_the_bill_of_the_first_operation_of_the_next_step(self, clock, slow):
        with Profiler() as p:
            for _ in range(2):
                slow(leaf(), 10, 20).backward([1.0, 1.0])
                clock.wait(5000)
        forward = [(e.start, e.end) for e in p.events if e.kind == "forward"]
        assert forward == [(0, 10), (5030, 5040)]
        assert p.between == pytest.approx(10_000e-9)

    def test_nor_when_the_walk_back_ends_at_a_tensor_that_was_used_twice(self, clock, slow):
        with Profiler() as p:
            x = leaf()
            slow(x * slow(x, 10, 20), 10, 20).backward([1.0, 1.0])
            clock.wait(5000)
            slow(leaf(), 10)
        assert p.events[-1].end - p.events[-1].start == 10

    def test_after_the_border_of_a_region_an_operation_begins_where_it_is_called(self, clock, slow):
        with Profiler() as p:
            slow(leaf(), 10)
            with p.region("inside"):
                clock.wait(100)
                slow(leaf(), 10)
                clock.wait(100)
            clock.wait(1000)
            slow(leaf(), 10)
        assert spans(p) == [("slow", 0, 10), ("slow", 110, 120), ("inside", 10, 220), ("slow", 1220, 1230)]

    def test_the_profilers_own_time_is_on_nobodys_bill(self, clock, slow):
        clock.step = 1
        x = leaf()
        with Profiler() as p:
            x = slow(x, 0)
            clock.wait(1000)
            for _ in range(5):
                x = slow(x, 30)
        assert [e.end - e.start for e in p.events[2:]] == [31] * 4  # one is the reading of the clock itself
        assert 6e-9 <= p.overhead < 10e-9

    def test_operations_inside_a_rule_begin_after_it(self, clock, slow):
        x = leaf()
        with Profiler() as p:
            out = checkpoint(lambda x: slow(x, 10, 100), x)
            clock.wait(77)
            out.backward([1.0, 1.0])
        again, rule, around = p.events[2:]
        assert (again.name, again.start, again.end) == ("slow", 87, 97)
        assert (rule.name, rule.start, rule.end) == ("SlowBackward", 97, 197)
        assert (around.name, around.start, around.end) == ("CheckpointBackward", 87, 197)

    def test_a_profile_of_somebody_else_is_not_disturbed(self, clock, slow):
        """Then the first operation after a pause begins at the pause."""

        def theirs(frame, event, arg):
            pass

        sys.setprofile(theirs)
        try:
            with Profiler() as p:
                clock.wait(100)
                slow(leaf(), 10)
            kept = sys.getprofile()
        finally:
            sys.setprofile(None)
        assert kept is theirs
        assert spans(p) == [("slow", 0, 110)]

    def test_the_interpreter_is_left_alone_afterwards(self):
        with Profiler() as p:
            randn(2) + 1
            during = sys.getprofile()
            with p.region("r"):
                pass
        assert during is None
        assert sys.getprofile() is None

    def test_real_time_adds_up(self):
        layer, x = Linear(64, 64), randn(32, 64)
        with Profiler() as p:
            for _ in range(5):
                layer(x).sum().backward()
        inside = sum(row.seconds for row in p.rows())
        assert 0 < inside < p.seconds
        assert p.between == pytest.approx(p.seconds - inside, abs=1e-6)
        assert 0 < p.overhead < p.seconds


class TestBytes:
    def test_a_result_of_its_own(self):
        with Profiler() as p:
            randn(3, 4) + 1
        assert p.events[0].bytes == 48

    @pytest.mark.parametrize(
        "view",
        [
            lambda x: x.reshape(4, 3),
            lambda x: x.T,
            lambda x: x[1:],
            lambda x: x.broadcast_to(5, 3, 4),
            lambda x: x[None],
        ],
    )
    def test_a_view_makes_none(self, view):
        with Profiler() as p:
            view(randn(3, 4))
        assert [e.bytes for e in p.events] == [0]

    def test_a_reshape_that_copies_makes_some(self):
        with Profiler() as p:
            randn(3, 4).T.reshape(12)
        assert [e.bytes for e in p.events] == [0, 48]

    def test_a_product_that_is_reshaped_at_the_end_is_no_view_of_an_input(self):
        with Profiler() as p:
            Linear(4, 5)(randn(2, 3, 4))
        assert p.events[0].bytes == 2 * 3 * 5 * 4

    def test_gradients_of_a_rule(self):
        with Profiler() as p:
            Linear(4, 5)(randn(3, 4, requires_grad=True)).sum().backward()
        rule = p.events[-1]
        assert (rule.name, rule.shapes) == ("LinearBackward", ((3, 4), (4, 5), (5,)))
        assert rule.bytes == 4 * (12 + 20 + 5)

    def test_a_gradient_handed_on_is_none(self):
        with Profiler() as p:
            (leaf() + leaf()).backward([1.0, 1.0])
        assert p.events[-1].bytes == 0


class TestOwnTime:
    @pytest.mark.parametrize(
        ("spans", "want"),
        [
            ([], []),
            ([(0, 5)], [5]),
            ([(1, 4), (6, 8), (5, 9), (0, 10)], [3, 2, 2, 3]),
            ([(0, 4), (4, 6), (0, 6)], [4, 2, 0]),
            ([(0, 4), (0, 4)], [4, 0]),
            ([(2, 3), (1, 4), (0, 5)], [1, 2, 2]),
            ([(0, 1), (2, 3)], [1, 1]),
        ],
    )
    def test_without_what_lies_inside(self, spans, want):
        assert _own_times([Event("", "region", a, b, 0, None, ()) for a, b in spans]) == want

    def test_regions_in_regions_add_up_to_the_whole(self, clock, slow):
        with Profiler() as p, p.region("outer"):
            clock.wait(5)
            with p.region("inner"):
                slow(leaf(), 10)
                clock.wait(3)
        rows = {row.name: round(row.seconds * 1e9) for row in p.rows()}
        assert rows == {"slow": 10, "inner": 3, "outer": 5}
        assert p.between == pytest.approx(0, abs=1e-12)

    def test_a_checkpoints_rule_is_not_billed_for_the_operations_inside(self, clock, slow):
        x = leaf()
        with Profiler() as p:
            checkpoint(lambda x: slow(x, 10, 100), x).backward([1.0, 1.0])
        rows = {row.name: round(row.seconds * 1e9) for row in p.rows()}
        assert rows == {"SlowBackward": 100, "slow": 20, "checkpoint": 0, "CheckpointBackward": 0}


class TestRows:
    def test_the_longest_first(self, clock, slow):
        with Profiler() as p:
            slow(leaf(), 10, 500).backward([1.0, 1.0])
        assert [(row.name, row.kind, row.calls) for row in p.rows()] == [
            ("SlowBackward", "backward", 1),
            ("slow", "forward", 1),
        ]

    def test_one_row_per_name_or_per_name_and_shapes(self):
        with Profiler() as p:
            for n in (2, 3, 3):
                randn(n) + randn(n)
        assert [row.calls for row in p.rows()] == [3]
        by_shape = {row.shapes: (row.calls, row.flops, row.bytes) for row in p.rows(by_shape=True)}
        assert by_shape == {((2,), (2,)): (1, 2, 8), ((3,), (3,)): (2, 6, 24)}

    def test_unknown_arithmetic_is_unknown_in_the_sum(self):
        with Profiler() as p:
            T.sort(randn(3))
            T.sort(randn(3))
        rows = {row.name: row.flops for row in p.rows()}
        assert rows == {"argsort": None, "getitem": 0}
        assert p.unknown == {"argsort": 2}
        assert p.flops == 0

    def test_the_table(self, clock, slow):
        with Profiler() as p:
            with p.region("step"):
                y = slow(leaf(), 2_000_000, 3_000_000)
                y.backward([1.0, 1.0])
            randn(2, 3) @ randn(3, 4)
        lines = p.table().splitlines()
        assert lines[0].split() == ["operation", "calls", "ms", "share", "memory", "FLOPs", "FLOPs/s"]
        assert lines[1].split() == ["SlowBackward", "1", "3.000", "60.0%", "8B", "-", "-"]
        assert lines[2].split() == ["slow", "1", "2.000", "40.0%", "8B", "unknown", "-"]
        assert sorted(line.split()[0] for line in lines[3:5]) == ["matmul", "step"]
        assert lines[5] == "5.000 ms in all, 0.000 between the rows; profiling took 0.000; 48 FLOPs forward"
        assert lines[6] == "without slow (1), unknown"
        assert str(p) == p.table()

    def test_the_rate_of_known_arithmetic(self, clock, monkeypatch):
        def product(x):
            clock.wait(1000)
            return result(x.data, "matmul", x)

        with Profiler() as p:
            product(randn(10, 10))
        assert p.table().splitlines()[1].split() == ["matmul", "1", "0.001", "100.0%", "0B", "2k", "2G"]

    def test_a_table_cut_short_says_so(self, clock, slow):
        with Profiler() as p:
            slow(leaf(), 7_000_000)
            leaf() + 1
            leaf() * 2
        lines = p.table(limit=1).splitlines()
        assert lines[1].split()[0] == "slow"
        assert lines[2] == "2 more rows, 0.000 ms"

    def test_shapes_in_the_table(self):
        with Profiler() as p:
            randn(2, 3).exp()
        assert p.table(by_shape=True).splitlines()[1].endswith("  ((2, 3),)")

    def test_nothing_recorded(self):
        p = Profiler()
        assert (p.rows(), p.flops, p.unknown, p.between) == ([], 0, {}, 0)
        assert p.table().splitlines()[-1].startswith("0.000 ms in all")

    def test_a_short_form(self):
        with Profiler() as p:
            randn(2) + 1
        assert repr(p) == f"<Profiler: 1 events in {p.seconds:.6f} s>"


class TestUse:
    @pytest.mark.parametrize("outside", [True, False])
    def test_under_no_grad_everything_is_recorded_and_no_graph_built(self, outside):
        p = Profiler()
        x = leaf()
        first, second = (no_grad(), p) if outside else (p, no_grad())
        with first, second:
            enabled = is_grad_enabled()
            out = x * 2
            x += 1  # parameters may be changed in place, as always under no_grad
        assert (enabled, out.requires_grad, x.tolist()) == (False, False, [2, 3])
        assert [e.name for e in p.events] == ["mul", "add"]

    def test_what_is_computed_inside_is_what_is_computed_outside(self):
        x, layer = randn(3, 4, requires_grad=True), Linear(4, 5)
        want = layer(x)
        want.sum().backward()
        gradient, x.grad = x.grad, None
        with Profiler():
            out = layer(x)
            out.sum().backward()
        assert np.array_equal(out.data, want.data)
        assert np.array_equal(x.grad, gradient)
        assert type(out._grad_fn) is type(want._grad_fn)

    def test_two_at_once_are_refused_and_the_first_goes_on(self):
        with Profiler() as p:
            with pytest.raises(RuntimeError, match=r"somebody is profiling already.*use p.region\(name\)"), Profiler():
                pass
            randn(2) + 1
        assert len(p.events) == 1
        assert set_observer(None) is None

    def test_the_same_one_twice_at_once_is_refused(self):
        p = Profiler()
        with p, pytest.raises(RuntimeError, match="already"), p:
            pass
        with p:
            randn(2) + 1
        assert len(p.events) == 1

    def test_entered_again_it_goes_on(self, clock, slow):
        p = Profiler()
        with p:
            slow(leaf(), 10)
        clock.wait(500)
        with p:
            slow(leaf(), 20)
        assert spans(p) == [("slow", 0, 10), ("slow", 510, 530)]
        assert p.seconds == pytest.approx(30e-9)

    def test_an_exception_passes_and_everything_is_as_before(self):
        recorder, tracing = get_recorder(), tracemalloc.is_tracing()
        p = Profiler(memory=True)
        with pytest.raises(ValueError, match="add needs shapes that broadcast"), p, p.region("r"):
            randn(2) + 1 + randn(3)
        assert [e.name for e in p.events] == ["add", "r"]
        assert get_recorder() is recorder
        assert (set_observer(None), set_runner(None), sys.getprofile()) == (None, None, None)
        assert tracemalloc.is_tracing() == tracing

    def test_an_exception_in_a_rule_passes_too(self, operation_that_fails):
        with pytest.raises(ZeroDivisionError), Profiler() as p:
            operation_that_fails(leaf()).sum().backward()
        assert [e.name for e in p.events] == ["fails", "sum", "SumBackward"]
        assert set_runner(None) is None
        (leaf() * 2).sum().backward()

    def test_a_region_needs_a_running_profiler(self):
        p = Profiler()
        with pytest.raises(RuntimeError, match="region 'r' needs a Profiler that is running"), p.region("r"):
            pass

    def test_other_threads_are_not_recorded_and_not_disturbed(self):
        out = []

        def work():
            y = leaf() * 3
            y.sum().backward()
            out.append(y.tolist())

        with Profiler() as p:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            randn(2) + 1
        assert out == [[3, 6]]
        assert [e.name for e in p.events] == ["add"]

    def test_no_array_is_kept_alive(self):
        import weakref

        with Profiler() as p:
            x = randn(1000)
            y = x + 1
            gone = weakref.ref(y.data)
            del x, y
        assert len(p.events) == 1
        assert gone() is None


@pytest.fixture
def operation_that_fails():
    from tinytorch.core.autograd import Function

    class FailsBackward(Function, op="fails"):
        def backward(self, grad):
            raise ZeroDivisionError

    yield lambda x: result(x.data * 1, "fails", x)
    del Function.rules["fails"]


class TestMemory:
    def test_the_peak_beyond_what_was_there(self):
        kept = randn(100_000)
        with Profiler(memory=True) as p:
            y = kept + 1
            del y
            kept + 2
        assert 400_000 <= p.peak_bytes < 500_000
        assert "peak" in p.table()

    def test_unmeasured_is_no_0(self):
        with Profiler() as p:
            randn(2) + 1
        with pytest.raises(RuntimeError, match=r"Profiler\(memory=True\)"):
            p.peak_bytes  # noqa: B018
        assert "peak" not in p.table()

    def test_a_trace_that_runs_already_goes_on(self):
        tracemalloc.start()
        try:
            with Profiler(memory=True):
                randn(2) + 1
            running = tracemalloc.is_tracing()
        finally:
            tracemalloc.stop()
        assert running


class TestOverhead:
    def test_on_a_step_of_a_gpt_it_is_below_10_percent(self):
        """What it adds to an operation with its rule, found in short blocks, times how many of them a step has."""
        from time import thread_time

        from tinytorch.core.losses import cross_entropy
        from tinytorch.models.transformer import GPT

        x, y, n = leaf(), leaf(), 50

        def block():
            for _ in range(n):
                (x * y).backward([1.0, 1.0])

        def least(f, repeats):
            times = []
            for _ in range(repeats):
                start = thread_time()
                f()
                times.append(thread_time() - start)
            return min(times)

        plain = least(block, 30)
        with Profiler():
            profiled = least(block, 30)
        per_pair = (profiled - plain) / n
        gpt, tokens = GPT(256, 128, 4, 4, 64, rng=0), np.zeros((4, 64), np.int64)

        def step():
            cross_entropy(gpt(tokens), tokens).backward()

        with Profiler() as p:
            step()
        step_time = least(step, 3)
        assert per_pair * len(p.events) / 2 < 0.1 * step_time
