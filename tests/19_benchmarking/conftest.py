"""A clock that only moves when work is done, and work that takes as long as it says."""

import pytest


class Clock:
    """Seconds. `drift` is how much longer everything takes for each second that has passed."""

    def __init__(self):
        self.now = 0.0
        self.drift = 0.0
        self.calls = []

    def __call__(self):
        return self.now

    def work(self, seconds, name="work"):
        """A function that notes its name and takes `seconds`: a number, or what an iterator gives next."""

        def run():
            self.calls.append(name)
            self.now += (seconds if isinstance(seconds, float) else next(seconds)) * (1 + self.drift * self.now)

        return run


@pytest.fixture
def clock():
    return Clock()
