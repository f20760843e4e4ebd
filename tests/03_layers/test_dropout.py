"""dropout: what stays, what goes, and when."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.layers import Dropout
from tinytorch.core.layers import dropout as drop
from tinytorch.core.tensor import Tensor, manual_seed, ones, randn


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_dropout_keeps_the_mean(p):
    assert abs(drop(ones(400, 500), p, rng=0).data.mean() - 1) < 5 * math.sqrt(p / (1 - p) / 200_000)


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_the_share_of_zeros_is_p(p):
    zeros = (drop(ones(400, 500), p, rng=0).data == 0).mean()
    assert abs(zeros - p) < 5 * math.sqrt(p * (1 - p) / 200_000)


def test_survivors_are_divided_by_one_minus_p():
    x = randn(1000, rng=0)
    out = drop(x, 0.75, rng=0).data
    survived = out != 0
    assert 0 < survived.sum() < 1000
    assert_close(out[survived], x.data[survived] * 4)


def test_every_element_is_drawn_alone():
    out = drop(ones(100, 100), 0.5, rng=0).data != 0
    assert 0.3 < out.any(axis=0).mean() <= 1
    assert not (out == out[0]).all()
    assert not (out == out[:, :1]).all()


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_not_training_it_is_the_identity(p):
    x = randn(5)
    assert drop(x, p, training=False) is x


def test_p_0_is_the_identity():
    x = randn(5)
    assert drop(x, 0.0) is x


def test_p_1_gives_zeros_without_a_warning():
    assert drop([1.0, -2.0], 1.0).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_a_p_that_is_no_probability_is_refused(p):
    for use in (lambda: drop(ones(3), p), lambda: drop(ones(3), p, training=False), lambda: Dropout(p)):
        with pytest.raises(ValueError, match=rf"ropout needs a probability 0 <= p <= 1, got {p}"):
            use()


def test_a_seed_repeats_a_mask_and_two_calls_differ():
    x = ones(64)
    assert drop(x, 0.5, rng=3).tolist() == drop(x, 0.5, rng=3).tolist()
    manual_seed(0)
    assert drop(x, 0.5).tolist() != drop(x, 0.5).tolist()


def test_a_generator_is_drawn_from():
    rng = np.random.default_rng(0)
    assert drop(ones(64), 0.5, rng=rng).tolist() != drop(ones(64), 0.5, rng=rng).tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_dtype_stays(dtype):
    assert drop(Tensor(np.ones(8), dtype=dtype), 0.3).dtype == dtype


def test_one_half_is_the_default():
    assert set(drop(ones(100), rng=0).tolist()) == {0.0, 2.0}
    assert repr(Dropout()) == "Dropout(p=0.5)"


class TestLayer:
    def test_it_drops_while_training_only(self):
        layer, x = Dropout(0.5), ones(200)
        assert (layer(x).data == 0).any()
        assert layer.eval()(x) is x
        assert (layer.train()(x).data == 0).any()

    def test_it_uses_its_own_p(self):
        assert set(Dropout(0.75)(ones(200)).tolist()) == {0.0, 4.0}
        assert set(Dropout(0)(ones(200)).tolist()) == {1.0}
        assert set(Dropout(1)(ones(200)).tolist()) == {0.0}

    def test_it_has_no_parameters_and_no_state(self):
        assert Dropout(0.5).parameters() == []
        assert Dropout(0.5).state_dict() == {}
