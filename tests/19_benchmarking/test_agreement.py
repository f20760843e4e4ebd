"""Coin throws by PyTorch's distributions, medians by its benchmarks."""

import pytest

from tinytorch.benchmarking.benchmark import BenchmarkResult, _rank

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")


@pytest.mark.parametrize("n", [1, 5, 6, 9, 30, 101])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_chance_is_that_of_a_binomial_distribution(n, level):
    k, coverage = _rank(n, level)
    coin = torch.distributions.Binomial(n, torch.tensor(0.5, dtype=torch.float64))
    outside = coin.log_prob(torch.arange(k, dtype=torch.float64)).exp().sum().item()
    assert coverage == pytest.approx(1 - 2 * outside, abs=1e-12)


def test_the_median_is_that_of_its_own_benchmarks():
    from torch.utils.benchmark import Measurement, TaskSpec

    times = [0.3, 0.1, 0.25, 0.9, 0.2, 0.4]
    theirs = Measurement(1, times, TaskSpec("pass", "pass"))
    assert BenchmarkResult("x", times, {"cores": 1}).median == pytest.approx(theirs.median)
