"""kl_div: from what is believed to what is true."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from support.listening import announced
from tinytorch.core.losses import KLDivLoss, cross_entropy, kl_div
from tinytorch.core.tensor import Tensor

Q = np.random.default_rng(0).dirichlet(np.ones(4), 6)
P = np.random.default_rng(1).dirichlet(np.ones(4), 6)
EACH = Q * (np.log(Q) - np.log(P))


def float64(x):
    return Tensor(x, dtype=np.float64)


def test_the_definition_and_the_four_reductions():
    for reduction, want in [
        ("none", EACH),
        ("sum", EACH.sum()),
        ("mean", EACH.mean()),
        ("batchmean", EACH.sum(axis=1).mean()),
    ]:
        assert_close(kl_div(float64(np.log(P)), float64(Q), reduction), np.asarray(want), rtol=1e-12)
        assert_close(KLDivLoss(reduction)(float64(np.log(P)), float64(Q)), np.asarray(want), rtol=1e-12)


def test_it_is_zero_for_equal_distributions_and_positive_otherwise():
    assert_close(kl_div(np.log(Q), Q, "batchmean"), np.float32(0))
    assert (EACH.sum(axis=1) > 0).all()
    assert kl_div(np.log(P), Q, "batchmean").item() > 0


def test_it_is_cross_entropy_less_entropy():
    got = kl_div(np.log(P), Q, "batchmean").item()
    assert abs(got - (cross_entropy(np.log(P), Q).item() - cross_entropy(np.log(Q), Q).item())) < 1e-6


def test_it_has_a_direction():
    assert abs(kl_div(np.log(P), Q, "sum").item() - kl_div(np.log(Q), P, "sum").item()) > 0.01


def test_what_has_probability_0_adds_nothing():
    got = kl_div([[math.log(0.5), math.log(0.5)], [0.0, -math.inf]], [[1.0, 0.0], [1.0, 0.0]], "none")
    assert_close(got, np.array([[math.log(2), 0], [0, 0]], np.float32))


def test_what_was_thought_impossible_and_happens_costs_infinitely():
    assert kl_div([[0.0, -math.inf]], [[0.0, 1.0]], "sum").item() == math.inf


def test_batchmean_divides_by_the_first_axis_only():
    x, t = np.log(P).reshape(2, 3, 4), Q.reshape(2, 3, 4)
    assert_close(kl_div(float64(x), float64(t), "batchmean"), np.asarray(EACH.sum() / 2), rtol=1e-12)


def test_the_gradient_knows_of_batchmean():
    *_, (_, _, saved) = announced(lambda: kl_div(np.log(P), Q, "batchmean"))
    assert saved["share"] == pytest.approx(1 / 6)


def test_negative_probabilities_are_refused():
    with pytest.raises(ValueError, match="kl_div needs target probabilities of at least 0, got -0.5"):
        kl_div([0.0, 0.0], [0.5, -0.5])


def test_an_empty_batch_has_no_batchmean():
    with pytest.raises(ValueError, match="kl_div cannot average over an empty batch"):
        kl_div(np.zeros((0, 3)), np.zeros((0, 3)), "batchmean")


def test_batchmean_needs_an_axis():
    with pytest.raises(ValueError, match="batchmean"):
        kl_div(0.0, 1.0, "batchmean")
