"""Two processes for all work that is done in forks."""

import pytest

from support.forks import HEAVY, LIGHT, Forks
from support.stages import ROOT


def started(preloaded):
    process = Forks(ROOT / "tests", ROOT, preloaded=preloaded)
    yield process
    process.close()


@pytest.fixture(scope="session")
def forks():
    """For lessons and suites, which need most things."""
    yield from started(HEAVY)


@pytest.fixture(scope="session")
def light_forks():
    """For single tests, by the hundred."""
    yield from started(LIGHT)
