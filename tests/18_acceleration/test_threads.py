"""Threads: the same results, errors that arrive, nobody who waits for ever, nothing started before it is needed."""

import gc
import importlib.util
import os
import threading
import time
import weakref

import numpy as np
import pytest

from tinytorch.core.autograd import Function
from tinytorch.optimization import acceleration
from tinytorch.optimization.acceleration import blocked_softmax, num_threads, parallel, threaded_matmul

SOON = 10  # seconds: what takes longer never comes


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


class TestHowMany:
    def test_as_many_as_are_asked_for(self, monkeypatch):
        monkeypatch.setenv("TINYTORCH_NUM_THREADS", "7")
        assert num_threads(3) == 3

    def test_else_as_many_as_the_environment_says(self, monkeypatch):
        monkeypatch.setenv("TINYTORCH_NUM_THREADS", " 7 ")
        assert num_threads() == 7

    @pytest.mark.parametrize("said", ["", "  ", None])
    def test_else_as_many_as_there_are_processors_for_this_process(self, monkeypatch, said):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 5}, raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: 64)
        if said is None:
            monkeypatch.delenv("TINYTORCH_NUM_THREADS", raising=False)
        else:
            monkeypatch.setenv("TINYTORCH_NUM_THREADS", said)
        assert num_threads() == 3

    @pytest.mark.parametrize(("count", "threads"), [(5, 5), (None, 1)])
    def test_as_many_as_the_machine_has_where_the_system_does_not_tell_which_and_1_where_nobody_knows(
        self, monkeypatch, count, threads
    ):
        monkeypatch.delenv("TINYTORCH_NUM_THREADS", raising=False)
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: count)
        assert num_threads() == threads

    @pytest.mark.parametrize("threads", [0, -1])
    def test_fewer_than_1_are_refused_before_anything_is_done(self, threads):
        done = []
        with pytest.raises(ValueError, match=f"num_threads needs threads of at least 1, got {threads}"):
            parallel(done.append, [1, 2], threads)
        assert done == []

    @pytest.mark.parametrize("threads", [1.5, "2", True])
    def test_what_is_no_integer_is_refused(self, threads):
        with pytest.raises(TypeError, match="num_threads needs an integer threads, got"):
            parallel(abs, [1], threads)

    @pytest.mark.parametrize("said", ["0", "-1", "two", "1.5"])
    def test_nonsense_in_the_environment_is_refused(self, monkeypatch, said):
        monkeypatch.setenv("TINYTORCH_NUM_THREADS", said)
        with pytest.raises(ValueError, match=f"TINYTORCH_NUM_THREADS needs a whole number of at least 1, got '{said}'"):
            parallel(abs, [1])


class TestParallel:
    @pytest.mark.parametrize("threads", [1, 2, 5, None])
    @pytest.mark.parametrize("parts", [[], [3], [1, 2], range(100)])
    def test_results_come_in_the_order_of_parts(self, parts, threads):
        assert parallel(lambda n: n * n, parts, threads) == [n * n for n in parts]

    def test_parts_may_come_from_a_generator(self):
        assert parallel(abs, (n for n in (-1, 2)), 2) == [1, 2]

    @pytest.mark.parametrize("threads", [2, 4])
    def test_that_many_work_at_once_and_the_caller_is_one_of_them(self, threads):
        together, who = threading.Barrier(threads), []

        def part(_):
            together.wait(SOON)  # nobody gets on before all have come
            who.append(threading.get_ident())

        parallel(part, range(threads), threads)
        assert len(set(who)) == threads
        assert threading.get_ident() in who

    def test_never_more_threads_than_parts(self, monkeypatch):
        asked, helpers = [], acceleration._helpers
        monkeypatch.setattr(acceleration, "_helpers", lambda count: asked.append(count) or helpers(count))
        assert parallel(abs, [-1, -2, -3], 8) == [1, 2, 3]
        assert asked == [2]  # and the caller

    def test_with_one_thread_the_caller_does_it_all(self):
        assert parallel(lambda _: threading.get_ident(), range(5), 1) == [threading.get_ident()] * 5

    def test_whoever_is_free_takes_the_next_part(self):
        others, done = threading.Event(), []

        def part(n):
            if n == 0:
                assert others.wait(SOON)  # one is stuck until the other has done all the rest
            else:
                done.append(n)
                if len(done) == 9:
                    others.set()

        parallel(part, range(10), 2)
        assert sorted(done) == list(range(1, 10))

    def test_inside_of_another_all_is_done_on_the_spot(self):
        def inner(_):
            return threading.get_ident()

        def outer(_):
            return threading.get_ident(), parallel(inner, range(3), 4)

        for own, inside in parallel(outer, range(6), 3):
            assert inside == [own] * 3

    def test_afterwards_it_shares_work_out_again(self):
        together = threading.Barrier(2)
        for _ in range(2):
            parallel(lambda _: together.wait(SOON), range(2), 2)

    def test_two_callers_at_once(self):
        found, jobs = {}, []
        for n in range(4):
            jobs.append(threading.Thread(target=lambda n=n: found.update({n: parallel(lambda m: n * m, range(50), 3)})))
        for job in jobs:
            job.start()
        for job in jobs:
            job.join(SOON)
        assert found == {n: [n * m for m in range(50)] for n in range(4)}

    def test_what_numpy_was_told_holds_for_all(self):
        together = threading.Barrier(2)

        def part(_):
            together.wait(SOON)
            return np.ones(2) / np.zeros(2)

        with np.errstate(divide="ignore"):
            assert parallel(part, range(2), 2)[1].tolist() == [np.inf, np.inf]
        with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
            parallel(part, range(2), 2)


class TestErrors:
    def test_an_error_of_a_helper_reaches_the_caller(self):
        caller, raised = threading.get_ident(), threading.Event()

        def part(_):
            if threading.get_ident() == caller:
                assert raised.wait(SOON)
            else:
                raised.set()
                raise ValueError("from a helper")

        with pytest.raises(ValueError, match="from a helper"):
            parallel(part, range(2), 2)

    def test_an_error_of_the_caller_waits_for_the_helpers(self):
        caller, together, done = threading.get_ident(), threading.Barrier(2), []

        def part(_):
            together.wait(SOON)
            if threading.get_ident() == caller:
                raise ValueError("from the caller")
            time.sleep(0.05)
            done.append(True)

        with pytest.raises(ValueError, match="from the caller"):
            parallel(part, range(2), 2)
        assert done == [True]

    def test_of_several_the_earliest_part_counts(self):
        together = threading.Barrier(3)

        def part(n):
            together.wait(SOON)
            time.sleep(0.02 * (2 - n))
            raise ValueError(f"part {n}")

        with pytest.raises(ValueError, match="part 0"):
            parallel(part, range(3), 3)

    def test_nobody_begins_another_part(self):
        failed, begun = threading.Event(), []

        def part(n):
            begun.append(n)
            if n == 0:
                failed.set()
                raise ValueError
            assert failed.wait(SOON)
            time.sleep(0.002)

        with pytest.raises(ValueError):
            parallel(part, range(300), 2)
        assert len(begun) < 100

    @pytest.mark.parametrize("threads", [1, 2])
    @pytest.mark.parametrize("error", [IndexError, StopIteration, KeyboardInterrupt])
    def test_any_error_is_an_error(self, error, threads):
        def part(n):
            if n == 1:
                raise error("of the part")
            return n

        with pytest.raises(error, match="of the part"):
            parallel(part, range(3), threads)

    def test_afterwards_all_goes_on(self):
        with pytest.raises(ZeroDivisionError):
            parallel(lambda n: 1 // n, [1, 0, 2], 2)
        assert parallel(lambda n: 1 // n, [1, 2], 2) == [1, 0]

    def test_no_circle_keeps_what_the_parts_held(self):
        held = []

        def part(n):
            large = np.ones(10)
            held.append(weakref.ref(large))
            raise ValueError

        gc.disable()
        try:
            with pytest.raises(ValueError):
                parallel(part, range(2), 2)
            last = time.monotonic() + SOON
            while any(ref() is not None for ref in held) and time.monotonic() < last:
                time.sleep(0.001)  # until the helper has let go of its last job
            assert [ref() for ref in held] == [None] * len(held)
        finally:
            gc.enable()


@pytest.fixture
def fresh():
    """The module imported once more, as by a program that has just begun; and the threads that are new since then."""
    rules, before = dict(Function.rules), set(threading.enumerate())
    spec = importlib.util.spec_from_file_location("another_acceleration", acceleration.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module, lambda: set(threading.enumerate()) - before
    Function.rules.clear()
    Function.rules.update(rules)


class TestProcess:
    def test_nothing_is_started_before_it_is_needed(self, fresh):
        module, new = fresh
        assert new() == set()
        assert module.parallel(abs, [-1], 4) == [1]
        assert module.parallel(abs, [-1, -2], 1) == [1, 2]
        assert new() == set()
        assert module.parallel(abs, [-1, -2], 2) == [1, 2]
        assert len(new()) == 1

    def test_threads_are_used_again(self, fresh):
        module, new = fresh
        together = threading.Barrier(2)
        for _ in range(20):
            module.parallel(lambda _: together.wait(SOON), range(2), 2)
        assert len(new()) == 1

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_a_forked_process_has_threads_of_its_own(self):
        parallel(abs, range(4), 2)
        child = os.fork()
        if not child:
            code = 1
            try:
                together = threading.Barrier(2)
                parallel(lambda _: together.wait(SOON), range(2), 2)
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestSameBits:
    @pytest.mark.parametrize("threads", [2, 3, 8])
    def test_softmax(self, threads):
        x = normal(300, 33)
        np.testing.assert_array_equal(blocked_softmax(x, None, threads, 500), blocked_softmax(x, None, 1, 500))

    @pytest.mark.parametrize("threads", [2, 3, 8])
    def test_matmul(self, threads):
        a, b = normal(100, 65), normal(65, 37)
        np.testing.assert_array_equal(threaded_matmul(a, b, 16, threads), threaded_matmul(a, b, 16, 1))

    def test_every_row_block_is_a_part(self, monkeypatch):
        seen = []
        monkeypatch.setattr(acceleration, "parallel", lambda f, parts, threads: seen.append((len(parts), threads)))
        threaded_matmul(normal(100, 5), normal(5, 3), 16, 3)
        assert seen == [(7, 3)]

    @pytest.mark.parametrize("rows", [0, -3])
    def test_no_rows_at_a_time_are_refused(self, rows):
        with pytest.raises(ValueError, match=f"threaded_matmul needs rows of at least 1, got {rows}"):
            threaded_matmul(normal(2, 2), normal(2, 2), rows)
