"""What goes wrong is said, with its place, before anything has changed."""

import math
import re

import numpy as np
import pytest

from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss, MSELoss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import Tensor
from tinytorch.core.training import (
    Callback,
    CosineSchedule,
    LinearWarmup,
    StepSchedule,
    Trainer,
    clip_grad_norm,
    gradient_norm,
)

RULES = {
    "sgd": lambda model: SGD(model, lr=0.1),
    "momentum": lambda model: SGD(model, lr=0.1, momentum=0.9),
    "adam": lambda model: Adam(model, lr=0.01),
}


def network():
    return Sequential(Linear(3, 8, rng=0), ReLU(), Linear(8, 2, rng=1))


def batches(count=5, size=4):
    rng = np.random.default_rng(0)
    return [(rng.normal(size=(size, 3)).astype(np.float32), rng.integers(0, 2, size)) for _ in range(count)]


def spoiled(number, value=math.nan):
    """Batches of which one holds a value that is no number."""
    loader = batches()
    loader[number][0][2, 1] = value
    return loader


def bits(trainer):
    weights = [p.data.tobytes() for p in trainer.model.parameters()]
    memory = [{key: np.asarray(value).tobytes() for key, value in each.items()} for each in trainer.optimizer.state]
    return weights, memory


def trainer_of(rule="adam", loss_fn=None, **options):
    model = network()
    return Trainer(model, RULES[rule](model), loss_fn or CrossEntropyLoss(), progress=False, **options)


class TestNoNumbers:
    @pytest.mark.parametrize("number", [0, 2, 4])
    @pytest.mark.parametrize("rule", RULES)
    def test_weights_and_memory_are_those_before_the_step(self, rule, number):
        """As after a run that ended with the batch before."""
        good = trainer_of(rule)
        if number:
            good.train_epoch(batches()[:number])
        bad = trainer_of(rule)
        with pytest.raises(ValueError, match=f"epoch 1, batch {number}, learning rate .*, the loss is nan"):
            bad.fit(spoiled(number), 3)
        assert bits(bad) == bits(good)

    def test_the_epoch_is_counted_from_1_and_the_batch_from_0(self):
        class Spoil(Callback):
            def epoch_end(self, trainer):
                if trainer.epoch == 2:
                    loader[3][0][...] = math.nan

        loader = batches()
        trainer = trainer_of(callbacks=[Spoil()])
        with pytest.raises(
            ValueError, match=r"^Trainer: epoch 3, batch 3, learning rate 0\.01, the loss is nan\. No w"
        ):
            trainer.fit(loader, 5)
        assert trainer.epoch == 2

    def test_the_learning_rate_is_that_of_the_step(self):
        trainer = trainer_of(scheduler=StepSchedule(0.5, 1))
        with pytest.raises(ValueError, match=r"learning rate 0\.5,"):
            trainer.fit(spoiled(1), 1)

    def test_a_history_of_whole_epochs_remains(self):
        trainer = trainer_of()
        trainer.fit(batches(), 2)
        history = {name: list(values) for name, values in trainer.history.items()}
        with pytest.raises(ValueError, match="epoch 3, batch 4"):
            trainer.fit(spoiled(4), 5)
        assert trainer.history == history

    @pytest.mark.parametrize("portion", [0, 1, 2])
    def test_one_portion_of_a_step_spoils_all_of_it(self, portion):
        trainer = trainer_of(accumulate=3)
        before = bits(trainer)
        with pytest.raises(ValueError, match="epoch 1, batch 0, .* the loss is nan"):
            trainer.fit(spoiled(portion), 1)
        assert bits(trainer) == before

    def test_a_loss_that_overflows(self):
        trainer = trainer_of(loss_fn=lambda out, y: (out * 1e30).exp().mean())
        before = bits(trainer)
        with (
            np.errstate(over="ignore"),
            pytest.raises(ValueError, match="the loss is inf.*Try a smaller learning rate"),
        ):
            trainer.fit(batches(), 1)
        assert bits(trainer) == before

    def test_the_run_may_go_on_with_better_data(self):
        trainer = trainer_of()
        with pytest.raises(ValueError, match="the loss is nan"):
            trainer.fit(spoiled(0), 2)
        trainer.fit(batches(), 2)
        clean = trainer_of()
        clean.fit(batches(), 2)
        assert bits(trainer) == bits(clean)
        assert trainer.history == clean.history


class TestLoaders:
    def test_an_empty_loader_changes_nothing(self):
        trainer = trainer_of()
        before = bits(trainer)
        with pytest.raises(ValueError, match=r"^Trainer got no batches from the loader\. A generator .* only once"):
            trainer.fit([], 3)
        assert bits(trainer) == before
        assert trainer.epoch == 0

    def test_an_empty_validation_loader(self):
        trainer = trainer_of()
        with pytest.raises(ValueError, match="no batches from the loader"):
            trainer.fit(batches(), 3, validation=[])
        assert trainer.epoch == 1
        assert trainer.model.training is True

    @pytest.mark.parametrize("loader", [None, 3])
    def test_what_cannot_be_gone_through(self, loader):
        with pytest.raises(TypeError, match="not iterable"):
            trainer_of().fit(loader, 1)

    def test_a_dictionary_is_no_batch(self):
        with pytest.raises(TypeError, match="but batch 0 is a dict"):
            trainer_of().fit([{"inputs": np.ones((4, 3)), "targets": np.zeros(4, int)}], 1)

    def test_inputs_that_do_not_fit_the_model(self):
        trainer = trainer_of()
        before = bits(trainer)
        with pytest.raises(ValueError, match=r"needs inputs \(\.\.\., 3\), got \(4, 2\)|\(4, 2\)"):
            trainer.fit([(np.ones((4, 2), np.float32), np.zeros(4, int))], 1)
        assert bits(trainer) == before

    def test_targets_that_are_no_classes(self):
        trainer = trainer_of()
        before = bits(trainer)
        with pytest.raises(ValueError, match="2"):
            trainer.fit([(np.ones((4, 3), np.float32), np.full(4, 2))], 1)
        assert bits(trainer) == before


class TestClipping:
    @pytest.mark.parametrize("max_norm", [-1, -math.inf, 0.0, math.nan])
    def test_a_limit_that_makes_no_sense(self, max_norm):
        w = Tensor([1.0], requires_grad=True)
        w.grad = np.array([5.0], np.float32)
        with pytest.raises(ValueError, match=re.escape(f"clip_grad_norm needs max_norm > 0, got {max_norm}")):
            clip_grad_norm([w], max_norm)
        assert w.grad.tolist() == [5]

    @pytest.mark.parametrize("max_norm", ["1", None, True, [1.0]])
    def test_a_limit_that_is_no_number(self, max_norm):
        with pytest.raises(TypeError, match="clip_grad_norm needs a number as max_norm"):
            clip_grad_norm([Tensor([1.0], requires_grad=True)], max_norm)

    @pytest.mark.parametrize(
        ("parameters", "name"),
        [
            (network(), "parameter 0 is Linear"),
            ([np.ones(2)], "parameter 0 is array"),
            ([Tensor([1.0]), None], "parameter 1 is None"),
            ([("layer.w", 3)], "layer.w is 3"),
        ],
    )
    def test_what_is_no_tensor(self, parameters, name):
        with pytest.raises(TypeError, match=f"clip_grad_norm needs tensors, as model.parameters.. gives, but {name}"):
            clip_grad_norm(parameters, 1.0)

    def test_all_bad_gradients_are_named(self):
        tensors = [Tensor([1.0], requires_grad=True) for _ in range(3)]
        for tensor, value in zip(tensors, (math.nan, 1.0, math.inf)):
            tensor.grad = np.array([value], np.float32)
        with pytest.raises(ValueError, match=r"in the gradient of a \(1,\), c \(1,\)$"):
            clip_grad_norm(list(zip("abc", tensors)), 1.0)

    def test_the_norm_alone_refuses_nothing(self):
        w = Tensor([1.0], requires_grad=True)
        w.grad = np.array([math.nan], np.float32)
        assert math.isnan(gradient_norm([w]))


class TestSchedules:
    @pytest.mark.parametrize(
        ("make", "who", "name"),
        [
            (lambda bad: CosineSchedule(bad, 0.0, 10), "CosineSchedule", "max_lr"),
            (lambda bad: CosineSchedule(0.1, bad, 10), "CosineSchedule", "min_lr"),
            (lambda bad: CosineSchedule(0.1, 0.0, bad), "CosineSchedule", "total_epochs"),
            (lambda bad: CosineSchedule(0.1, 0.0, 10, warmup=bad), "CosineSchedule", "warmup"),
            (lambda bad: StepSchedule(bad, 10), "StepSchedule", "max_lr"),
            (lambda bad: StepSchedule(0.1, bad), "StepSchedule", "step_size"),
            (lambda bad: StepSchedule(0.1, 10, bad), "StepSchedule", "gamma"),
            (lambda bad: LinearWarmup(bad, 4), "LinearWarmup", "its rate"),
            (lambda bad: LinearWarmup(0.1, bad), "LinearWarmup", "warmup"),
            (lambda bad: StepSchedule(0.1, 10)(bad), "StepSchedule", "epoch"),
        ],
    )
    def test_every_argument_is_checked(self, make, who, name):
        for bad in (-1.0, math.nan, math.inf):
            with pytest.raises(ValueError, match=f"{who} needs {name} >=? 0, got {bad}"):
                make(bad)
        for bad in ("0.1", None, True, [0.1]):
            with pytest.raises(TypeError, match=f"{who} needs a number as {name}, got"):
                make(bad)

    @pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf])
    def test_a_rate_that_makes_no_sense_is_found_before_the_step(self, rate):
        trainer = trainer_of(scheduler=lambda epoch: rate if epoch else 0.01)
        with pytest.raises(ValueError, match="Trainer needs the scheduler's rate >= 0"):
            trainer.fit(batches(), 3)
        whole = trainer_of(scheduler=lambda epoch: 0.01)
        whole.fit(batches(), 1)
        assert bits(trainer) == bits(whole)

    @pytest.mark.parametrize("rate", [None, "0.1", Tensor([0.1])])
    def test_a_rate_that_is_no_number(self, rate):
        with pytest.raises(TypeError, match="Trainer needs a number as the scheduler's rate"):
            trainer_of(scheduler=lambda epoch: rate).fit(batches(), 1)

    def test_steps_within_an_epoch_need_to_know_how_many_there_are(self):
        with pytest.raises(TypeError, match="schedule_steps=True needs a loader with a length"):
            trainer_of(scheduler=StepSchedule(0.1, 1), schedule_steps=True).fit(iter(batches()), 1)


class TestConstruction:
    @pytest.mark.parametrize("limit", ["1", True, [1.0]])
    def test_a_limit_that_is_no_number(self, limit):
        with pytest.raises(TypeError, match="Trainer needs a number as grad_clip_norm"):
            trainer_of(grad_clip_norm=limit)

    @pytest.mark.parametrize("accumulate", ["2", None, 2.0, math.nan])
    def test_accumulate_is_a_whole_number(self, accumulate):
        with pytest.raises(ValueError, match="Trainer needs accumulate >= 1 as a whole number"):
            trainer_of(accumulate=accumulate)

    def test_a_loss_that_needs_other_targets_says_so(self):
        model = network()
        trainer = Trainer(model, SGD(model), MSELoss(), progress=False)
        with pytest.raises(ValueError, match=r"\(4, 2\).*\(4,\)"):
            trainer.fit([(np.ones((4, 3), np.float32), np.zeros(4, np.float32))], 1)
