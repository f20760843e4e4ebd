"""Schedules: from epoch to learning rate."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.training import CosineSchedule, LinearWarmup, Schedule, StepSchedule


def rates(schedule, epochs):
    return np.array([schedule(epoch) for epoch in epochs])


class TestCosine:
    def test_start_middle_and_end(self):
        assert_close(rates(CosineSchedule(0.1, 0.02, 10), [0, 5, 10]), np.array([0.1, 0.06, 0.02]))

    def test_a_quarter_of_the_way(self):
        assert_close(CosineSchedule(1.0, 0.0, 8)(2), (1 + math.sqrt(0.5)) / 2)

    def test_it_stays_at_the_bottom(self):
        assert rates(CosineSchedule(0.1, 0.02, 10), [10, 10.5, 1000]).tolist() == [0.02] * 3

    def test_it_never_rises_without_a_warmup(self):
        assert (np.diff(rates(CosineSchedule(0.1, 0.0, 7), np.linspace(0, 8, 50))) <= 0).all()

    def test_warmup_rises_linearly_and_the_cosine_starts_at_its_end(self):
        schedule = CosineSchedule(1.0, 0.0, 10, warmup=4)
        assert_close(rates(schedule, range(5)), np.array([0.2, 0.4, 0.6, 0.8, 1.0]))
        assert_close(rates(schedule, [7, 10, 11]), np.array([0.5, 0, 0]), atol=1e-12)

    def test_the_first_epoch_is_not_wasted(self):
        assert CosineSchedule(1.0, 0.0, 10, warmup=9)(0) == 0.1


class TestSteps:
    def test_each_step_multiplies(self):
        assert_close(rates(StepSchedule(1.0, 10), [0, 9, 10, 19, 20]), np.array([1, 1, 0.1, 0.1, 0.01]))

    def test_gamma(self):
        assert_close(rates(StepSchedule(0.8, 2, gamma=0.5), range(5)), np.array([0.8, 0.8, 0.4, 0.4, 0.2]))

    def test_within_an_epoch_nothing_changes(self):
        assert StepSchedule(1.0, 1)(0.99) == 1.0


class TestWarmup:
    def test_to_a_constant(self):
        assert_close(rates(LinearWarmup(0.5, 4), range(7)), np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.5]))

    def test_to_a_schedule(self):
        schedule = LinearWarmup(StepSchedule(1.0, 3), 2)
        assert_close(rates(schedule, range(6)), np.array([1 / 3, 2 / 3, 1, 0.1, 0.1, 0.1]))

    def test_it_rises_to_what_the_schedule_says_at_its_end(self):
        schedule = LinearWarmup(lambda epoch: 10.0 - epoch, 4)
        assert_close(rates(schedule, [0, 3, 4, 5]), np.array([6 / 5, 6 * 4 / 5, 6, 5]))

    def test_none_at_all(self):
        assert LinearWarmup(0.5, 0)(0) == 0.5


@pytest.mark.parametrize(
    "schedule", [CosineSchedule(0.1, 0.0, 9, warmup=3), StepSchedule(0.1, 3), LinearWarmup(0.1, 3)], ids=repr
)
class TestAll:
    def test_a_rate_is_a_python_float(self, schedule):
        assert {type(schedule(epoch)) for epoch in (0, 1.5, np.int64(4), np.float64(8))} == {float}

    def test_fractions_lie_between(self, schedule):
        assert schedule(0) <= schedule(0.5) <= schedule(1)

    @pytest.mark.parametrize("epoch", [-1, -0.01, math.nan, math.inf])
    def test_epochs_begin_at_0(self, schedule, epoch):
        with pytest.raises(ValueError, match=f"{type(schedule).__name__} needs epoch >= 0"):
            schedule(epoch)

    def test_an_epoch_is_a_number(self, schedule):
        with pytest.raises(TypeError, match="needs a number as epoch"):
            schedule("1")


class TestRefusals:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: CosineSchedule(0.1, 0.2, 10), "falls from max_lr to min_lr"),
            (lambda: CosineSchedule(-0.1, 0.0, 10), "needs max_lr >= 0"),
            (lambda: CosineSchedule(0.1, -0.1, 10), "needs min_lr >= 0"),
            (lambda: CosineSchedule(0.1, 0.0, 0), "needs total_epochs > 0"),
            (lambda: CosineSchedule(0.1, 0.0, 10, warmup=10), "needs warmup < total_epochs"),
            (lambda: CosineSchedule(0.1, 0.0, 10, warmup=-1), "needs warmup >= 0"),
            (lambda: StepSchedule(0.1, 0), "needs step_size > 0"),
            (lambda: StepSchedule(0.1, 1, gamma=0), "needs gamma > 0"),
            (lambda: LinearWarmup(math.nan, 1), "needs its rate >= 0"),
            (lambda: LinearWarmup(0.1, -1), "needs warmup >= 0"),
        ],
    )
    def test_numbers_that_make_no_sense(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()

    @pytest.mark.parametrize("value", ["0.1", None, True])
    def test_what_is_no_number(self, value):
        with pytest.raises(TypeError, match="CosineSchedule needs a number as max_lr"):
            CosineSchedule(value, 0.0, 10)

    def test_a_schedule_that_says_nothing(self):
        with pytest.raises(NotImplementedError, match="Schedule does not say"):
            Schedule()(0)


def test_printing():
    assert repr(LinearWarmup(StepSchedule(0.1, 3), 2)) == (
        "LinearWarmup(schedule=StepSchedule(max_lr=0.1, step_size=3.0, gamma=0.1), warmup=2.0)"
    )
