"""Switching recording off, and on again whatever happens."""

import weakref

import numpy as np
import pytest

from tinytorch.core.autograd import is_grad_enabled, no_grad, record
from tinytorch.core.tensor import Tensor, get_recorder, set_recorder


@pytest.fixture(autouse=True)
def recording_afterwards():
    before = get_recorder()
    yield
    set_recorder(before)


@pytest.fixture
def x():
    return Tensor([1.0, 2.0], requires_grad=True)


def test_recording_is_on_from_the_start():
    assert is_grad_enabled()
    assert get_recorder() is record


class TestContext:
    def test_nothing_inside_is_recorded(self, x):
        with no_grad():
            assert not is_grad_enabled()
            y = x * x
        assert not y.requires_grad
        assert y._grad_fn is None
        assert y.tolist() == [1, 4]

    def test_afterwards_everything_is(self, x):
        with no_grad():
            pass
        assert is_grad_enabled()
        assert (x * x).requires_grad

    def test_what_was_recorded_before_keeps_its_history(self, x):
        h = x * x
        with no_grad():
            assert h.requires_grad
        h.sum().backward()
        assert x.grad.tolist() == [2, 4]

    def test_a_leaf_made_inside_may_require_gradients(self):
        with no_grad():
            w = Tensor(3.0, requires_grad=True)
        (w * w).backward()
        assert w.grad == 6

    def test_an_exception_switches_it_on_again(self, x):
        with pytest.raises(ZeroDivisionError), no_grad():
            raise ZeroDivisionError
        assert is_grad_enabled()
        assert (x * x).requires_grad

    def test_an_exception_passes_through(self):
        with pytest.raises(KeyError, match="mine"), no_grad():
            raise KeyError("mine")

    def test_it_binds_itself(self):
        outside = no_grad()
        with outside as inside:
            assert inside is outside

    def test_data_can_be_changed_in_place_inside(self, x):
        with no_grad():
            x -= 1
            x[0] = 7
        assert x.tolist() == [7, 1]
        assert x.requires_grad


class TestNested:
    def test_two_deep(self, x):
        with no_grad():
            with no_grad():
                pass
            assert not is_grad_enabled()
            assert not (x * x).requires_grad
        assert is_grad_enabled()

    def test_one_instance_entered_again_before_it_is_left(self):
        off = no_grad()
        with off:
            with off:
                with off:
                    pass
                assert not is_grad_enabled()
            assert not is_grad_enabled()
        assert is_grad_enabled()

    def test_one_instance_used_twice(self):
        off = no_grad()
        for _ in range(2):
            with off:
                assert not is_grad_enabled()
            assert is_grad_enabled()

    def test_an_exception_in_the_middle(self):
        off = no_grad()
        with off:
            with pytest.raises(ValueError, match="inner"), off:
                raise ValueError("inner")
            assert not is_grad_enabled()
        assert is_grad_enabled()

    def test_whoever_listened_before_listens_again(self):
        def mine(out, op, inputs, saved):
            heard.append(op)

        heard, outside = [], set_recorder(mine)
        try:
            with no_grad():
                Tensor([1.0]) + 1
            Tensor([1.0]) * 2
            assert get_recorder() is mine
        finally:
            set_recorder(outside)
        assert heard == ["mul"]


class TestDecorator:
    def test_nothing_inside_is_recorded(self, x):
        @no_grad()
        def square(x):
            assert not is_grad_enabled()
            return x * x

        assert not square(x).requires_grad
        assert is_grad_enabled()

    def test_arguments_and_results_pass(self):
        @no_grad()
        def f(a, *more, b=1, **named):
            return a, more, b, named

        assert f(1, 2, 3, b=4, c=5) == (1, (2, 3), 4, {"c": 5})

    def test_name_and_docstring_stay(self):
        @no_grad()
        def evaluate():
            """What it does."""

        assert (evaluate.__name__, evaluate.__doc__) == ("evaluate", "What it does.")

    def test_a_function_that_calls_itself(self):
        @no_grad()
        def down(n):
            assert not is_grad_enabled()
            return 0 if n == 0 else 1 + down(n - 1)

        assert down(5) == 5
        assert is_grad_enabled()

    def test_an_exception_switches_it_on_again(self):
        @no_grad()
        def fail():
            raise ZeroDivisionError

        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                fail()
            assert is_grad_enabled()

    def test_a_method(self, x):
        class Model:
            @no_grad()
            def predict(self, x):
                return x * 2

        assert not Model().predict(x).requires_grad


def test_no_history_is_kept_so_no_memory_is(x):
    with no_grad():
        h = x * np.ones(2, np.float32)
        ref = weakref.ref(h.data)
        y = h.exp()
        del h
    assert ref() is None
    assert y.shape == (2,)
