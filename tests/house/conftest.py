"""One process for all work that is done in forks."""

import pytest

from support.forks import Forks
from support.stages import ROOT


@pytest.fixture(scope="session")
def forks():
    process = Forks(ROOT / "tests", ROOT)
    yield process
    process.close()
