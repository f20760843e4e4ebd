"""A clock that only moves when told, and operations that take as long as they say.

The package is imported inside the fixtures, so that one without this lesson fails test by test.
"""

import numpy as np
import pytest


class Clock:
    """Nanoseconds. `step` passes with every reading: what the profiler does is not free either."""

    now = 1_000_000
    step = 0

    def __call__(self):
        self.now += self.step
        return self.now

    def wait(self, nanoseconds):
        self.now += nanoseconds


@pytest.fixture
def clock(monkeypatch):
    from tinytorch.profiling import profiler

    made = Clock()
    monkeypatch.setattr(profiler, "perf_counter_ns", made)
    return made


@pytest.fixture
def slow(clock):
    """An operation: slow(x, forward, backward) takes so many nanoseconds, there and back."""
    from tinytorch.core.autograd import Function
    from tinytorch.core.tensor import result

    class SlowBackward(Function, op="slow"):
        def backward(self, grad):
            clock.wait(self.saved["backward"])
            return np.array(grad)

    def slow(x, forward, backward=0):
        clock.wait(forward)
        return result(x.data + 1, "slow", x, backward=backward)

    yield slow
    del Function.rules["slow"]
