"""The loop: means, modes, history, errors that leave the weights alone."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Dropout, Linear, Module, Sequential
from tinytorch.core.losses import CrossEntropyLoss, MSELoss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import Tensor, get_recorder, manual_seed
from tinytorch.core.training import Callback, Running, StepSchedule, Trainer, hits


class Constant(Module):
    """Says w, whatever the input."""

    def __init__(self, w=0.0):
        self.w = Tensor([w], requires_grad=True)

    def forward(self, x):
        return self.w + 0 * x


def numbers(*values):
    """A batch whose mse at w = 0 is the mean of the squares."""
    return np.zeros(len(values), np.float32), np.array(values, np.float32)


def trainer_of(model, lr=0.0, loss_fn=None, **options):
    optimizer = SGD(model, lr=lr)
    return Trainer(model, optimizer, MSELoss() if loss_fn is None else loss_fn, progress=False, **options)


def crescents():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)).astype(np.float32)
    return [(x[i : i + 16], (x[i : i + 16].prod(axis=1) > 0).astype(int)) for i in range(0, 60, 16)]


def classifier():
    return Sequential(Linear(2, 16, rng=0), ReLU(), Linear(16, 2, rng=1))


def bits(model):
    return [p.data.tobytes() for p in model.parameters()]


class TestMeans:
    def test_every_sample_counts_the_same(self):
        batches = [numbers(1, 1, 1, 1), numbers(2, 2)]
        assert_close(trainer_of(Constant()).train_epoch(batches), 2.0)
        assert_close(trainer_of(Constant()).evaluate(batches)["loss"], 2.0)

    def test_accuracy_counts_samples_too(self):
        outputs = [np.eye(3, dtype=np.float32)[[0, 1, 2, 2]], np.eye(3, dtype=np.float32)[[1]]]
        model = Sequential(Linear(3, 3, rng=0))
        model[0].weight.data, model[0].bias.data = np.eye(3, dtype=np.float32), np.zeros(3, np.float32)
        trainer = trainer_of(model, loss_fn=CrossEntropyLoss())
        assert trainer.evaluate([(outputs[0], [0, 1, 1, 2]), (outputs[1], [0])])["accuracy"] == 0.6

    def test_running_means(self):
        running = Running()
        running.add(1.0, 4, 3, 4)
        running.add(4.0, 2, 0, 2)
        assert running.loss == 2.0
        assert running.accuracy == 0.5
        assert Running().accuracy is None


class TestHits:
    def test_a_worked_example(self):
        outputs = Tensor([[2, 1], [0, 3], [5, 4]])
        assert hits(outputs, Tensor([0, 1, 1])) == (2, 3)
        assert hits(outputs, Tensor([0, 1, 1]), ignore_index=0) == (1, 2)
        assert hits(outputs, Tensor([0, 1, 1]), ignore_index=1) == (1, 1)

    def test_sequences(self):
        outputs = Tensor(np.eye(4)[[[0, 1, 2], [3, 3, 3]]])
        assert hits(outputs, Tensor([[0, 1, 0], [3, 0, 3]])) == (4, 6)

    @pytest.mark.parametrize(
        ("outputs", "targets"),
        [(np.zeros((3, 2)), np.zeros((3, 2))), (np.zeros(3), np.zeros(3)), (np.zeros((3, 2)), np.zeros((3, 2), int))],
    )
    def test_what_has_no_classes(self, outputs, targets):
        assert hits(Tensor(outputs), Tensor(targets)) == (0, 0)

    def test_integers(self):
        assert {type(n) for n in hits(Tensor([[1.0, 0.0]]), Tensor([0]))} == {int}


class TestEvaluate:
    def test_without_classes_there_is_no_accuracy(self):
        assert trainer_of(Constant()).evaluate([numbers(1)]) == {"loss": 1.0, "accuracy": None}

    def test_dropout_is_off_inside_and_on_again_afterwards(self):
        model = Sequential(Linear(1, 50, rng=0), Dropout(0.5), Linear(50, 1, rng=1))
        trainer = trainer_of(model)
        batch = [(np.ones((4, 1)), np.ones((4, 1)))]
        assert trainer.evaluate(batch) == trainer.evaluate(batch)
        assert [layer.training for layer in model.modules()] == [True] * 4

    def test_every_layer_gets_its_own_mode_back(self):
        model = Sequential(Dropout(0.5), Linear(1, 1, rng=0), Dropout(0.5))
        model[0].training = False
        trainer_of(model).evaluate([(np.ones((4, 1)), np.ones((4, 1)))])
        assert [layer.training for layer in (model, *model)] == [True, False, True, True]

    def test_modes_come_back_after_an_error(self):
        model = Sequential(Linear(1, 1, rng=0))
        with pytest.raises(ValueError, match="Linear|linear"):
            trainer_of(model).evaluate([(np.ones((4, 2)), np.ones((4, 1)))])
        assert model.training is True
        assert get_recorder() is not None

    def test_nothing_is_recorded(self):
        seen = []

        class Spy(Constant):
            def forward(self, x):
                out = super().forward(x)
                seen.append((self.training, out.requires_grad))
                return out

        trainer_of(Spy()).evaluate([numbers(1)])
        assert seen == [(False, False)]

    def test_weights_and_gradients_stay(self):
        model = Constant()
        model.w.grad = np.ones(1, np.float32)
        before = bits(model)
        trainer_of(model, lr=1.0).evaluate([numbers(1)])
        assert bits(model) == before
        assert model.w.grad.tolist() == [1]

    def test_a_loss_that_is_no_number_is_reported(self):
        assert math.isnan(trainer_of(Constant()).evaluate([numbers(math.nan)])["loss"])

    def test_a_plain_class_with_layers_inside(self):
        class Plain:
            def __init__(self):
                self.drop, self.line = Dropout(0.9), Linear(20, 1, rng=0)

            def parameters(self):
                return self.line.parameters()

            def __call__(self, x):
                return self.line(self.drop(x))

        model = Plain()
        trainer = trainer_of(model)
        batch = [(np.ones((2, 20)), np.ones((2, 1)))]
        assert trainer.evaluate(batch) == trainer.evaluate(batch)
        assert model.drop.training is True


class TestTraining:
    def test_one_step_by_hand(self):
        model = Constant(1.0)
        trainer = trainer_of(model, lr=0.1)
        assert trainer.train_epoch([numbers(3, 3)]) == 4.0
        assert_close(model.w, np.array([1.4], np.float32))

    def test_gradients_of_one_step_do_not_leak_into_the_next(self):
        model = Constant(0.0)
        trainer_of(model, lr=0.1).train_epoch([numbers(1), numbers(1)])
        assert_close(model.w, np.array([0.2 + 0.2 * 0.8], np.float32))

    def test_it_learns(self):
        manual_seed(0)
        model = classifier()
        trainer = Trainer(model, Adam(model, lr=0.02), CrossEntropyLoss(), progress=False)
        history = trainer.fit(crescents(), 60, validation=crescents())
        assert history["validation_accuracy"][-1] > 0.95
        assert history["train_loss"][-1] < 0.2 < history["train_loss"][0]

    def test_training_mode_is_on(self):
        model = Sequential(Dropout(0.5), Linear(2, 1, rng=0)).eval()
        trainer_of(model).train_epoch([(np.ones((4, 2)), np.ones((4, 1)))])
        assert [layer.training for layer in (model, *model)] == [True, True, True]

    def test_a_model_may_keep_a_layer_frozen_in_its_own_train(self):
        class Frozen(Sequential):
            def train(self, mode=True):
                super().train(mode)
                self[0].training = False
                return self

        model = Frozen(Dropout(0.5), Linear(2, 1, rng=0))
        trainer_of(model).train_epoch([(np.ones((4, 2)), np.ones((4, 1)))])
        assert model[0].training is False

    def test_gradients_are_clipped_before_the_step(self):
        model = Constant(0.0)
        trainer = trainer_of(model, lr=1.0, grad_clip_norm=0.5)
        trainer.train_epoch([numbers(100)])
        assert_close(model.w, np.array([0.5], np.float32))
        assert_close(trainer.history["grad_norm"][0], 200.0)

    def test_lists_arrays_and_tensors_are_batches(self):
        for batch in ([[0.0], [2.0]], (np.zeros(1), np.array([2.0])), (Tensor([0.0]), Tensor([2.0]))):
            assert trainer_of(Constant()).train_epoch([batch]) == 4.0


class TestHistory:
    def test_a_row_per_epoch(self):
        trainer = trainer_of(Constant(), lr=0.25)
        trainer.fit([numbers(1, 1)], 2, validation=[numbers(2)])
        assert trainer.history == {
            "train_loss": [1.0, 0.25],
            "train_accuracy": [None, None],
            "validation_loss": [2.25, 1.5625],
            "validation_accuracy": [None, None],
            "lr": [0.25, 0.25],
            "grad_norm": [2.0, 1.0],
        }
        assert trainer.epoch == 2

    def test_fit_returns_it(self):
        trainer = trainer_of(Constant())
        assert trainer.fit([numbers(1)], 1) is trainer.history

    def test_validation_may_come_later(self):
        trainer = trainer_of(Constant())
        trainer.fit([numbers(1)], 1)
        trainer.fit([numbers(1)], 3, validation=[numbers(2)])
        assert trainer.history["validation_loss"] == [None, 4.0, 4.0]

    def test_an_interrupted_epoch_leaves_no_row(self):
        class Interrupt(Callback):
            def step_end(self, trainer, batch, loss):
                if trainer.epoch == 1 and batch == 2:
                    raise KeyboardInterrupt

        trainer = trainer_of(Constant(), callbacks=[Interrupt()])
        with pytest.raises(KeyboardInterrupt):
            trainer.fit([numbers(1)] * 3, 5)
        assert {name: len(values) for name, values in trainer.history.items()} == dict.fromkeys(trainer.history, 1)
        assert trainer.epoch == 1

    def test_an_interrupted_validation_leaves_the_row_of_training(self):
        def interrupted():
            yield numbers(1)
            raise KeyboardInterrupt

        trainer = trainer_of(Constant())
        with pytest.raises(KeyboardInterrupt):
            trainer.fit([numbers(1)], 5, validation=interrupted())
        assert trainer.history["train_loss"] == [1.0]
        assert trainer.history["validation_loss"] == [None]
        assert trainer.model.training is True


class TestEpochs:
    def test_they_are_counted_from_the_first(self):
        trainer = trainer_of(Constant())
        trainer.fit([numbers(1)], 2)
        trainer.fit([numbers(1)], 5)
        assert trainer.epoch == 5

    def test_to_ask_for_what_is_done_is_an_error(self):
        trainer = trainer_of(Constant())
        trainer.fit([numbers(1)], 2)
        with pytest.raises(ValueError, match=r"2 epochs are already done.* for 2 more say epochs=4"):
            trainer.fit([numbers(1)], 2)

    @pytest.mark.parametrize("epochs", [0, -1, 1.5, True, "3", None])
    def test_a_count_that_makes_no_sense(self, epochs):
        with pytest.raises(ValueError, match="epochs >= 1 as a whole number"):
            trainer_of(Constant()).fit([numbers(1)], epochs)


class TestSchedule:
    def test_epochs_count_from_0(self):
        asked = []
        trainer = trainer_of(Constant(), scheduler=lambda epoch: asked.append(epoch) or 0.1 / (epoch + 1))
        trainer.fit([numbers(1)], 3)
        assert asked == [0, 1, 2]
        assert_close(np.array(trainer.history["lr"]), np.array([0.1, 0.05, 0.1 / 3]))

    def test_the_rate_is_used(self):
        model = Constant(0.0)
        trainer_of(model, lr=123.0, scheduler=StepSchedule(0.25, 1)).fit([numbers(1)], 1)
        assert_close(model.w, np.array([0.5], np.float32))

    def test_steps_ask_at_fractions(self):
        asked = []
        trainer = trainer_of(
            Constant(), scheduler=lambda epoch: asked.append(epoch) or 0.1, schedule_steps=True, accumulate=2
        )
        trainer.fit([numbers(1)] * 5, 2)
        assert_close(np.array(asked), np.array([0, 0.4, 0.8, 1, 1.4, 1.8]))

    def test_groups_keep_their_proportions(self):
        model = Sequential(Linear(1, 1, rng=0))
        groups = [{"params": [model[0].weight], "lr": 0.2}, {"params": [model[0].bias], "lr": 0.05}]
        trainer = Trainer(model, SGD(groups), MSELoss(), scheduler=StepSchedule(1.0, 1, gamma=0.5), progress=False)
        trainer.fit([(np.ones((1, 1)), np.ones((1, 1)))], 2)
        assert_close(np.array([group["lr"] for group in trainer.optimizer.param_groups]), np.array([0.5, 0.125]))
        assert trainer.history["lr"] == [1.0, 0.5]

    @pytest.mark.parametrize("rate", [-0.1, math.nan])
    def test_a_rate_that_makes_no_sense_moves_nothing(self, rate):
        model = Constant(1.0)
        with pytest.raises(ValueError, match="the scheduler's rate >= 0"):
            trainer_of(model, scheduler=lambda epoch: rate).fit([numbers(2)], 1)
        assert model.w.tolist() == [1.0]


class TestLossesThatAreNoNumbers:
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_the_run_ends_before_the_weights_change(self, bad):
        model = Constant(1.0)
        trainer = trainer_of(model, lr=0.1)
        message = r"epoch 1, batch 1, learning rate 0\.1, the loss is (nan|inf)\. No weight .* smaller learning rate"
        with pytest.raises(ValueError, match=message):
            trainer.fit([numbers(3), numbers(bad), numbers(3)], 1)
        assert_close(model.w, np.array([1.4], np.float32))  # the first step, and no other
        assert trainer.epoch == 0

    def test_not_even_by_the_good_portions_of_the_same_step(self):
        model = Constant(1.0)
        with pytest.raises(ValueError, match="the loss is nan"):
            trainer_of(model, lr=0.1, accumulate=3).fit([numbers(3), numbers(3), numbers(math.nan)], 1)
        assert model.w.tolist() == [1.0]

    def test_momentum_stays_as_it_was(self):
        model = Constant(1.0)
        optimizer = SGD(model, lr=0.1, momentum=0.9)
        trainer = Trainer(model, optimizer, MSELoss(), progress=False)
        with pytest.raises(ValueError, match="the loss is nan"):
            trainer.fit([numbers(math.nan)], 1)
        assert optimizer.state == [{}]

    def test_bad_data_is_told_from_a_bad_learning_rate(self):
        batch = np.array([[math.nan]], np.float32), np.ones((1, 1), np.float32)
        with pytest.raises(ValueError, match="inputs of this batch hold NaN or infinity: look at the data"):
            trainer_of(Sequential(Linear(1, 1, rng=0))).fit([batch], 1)

    def test_a_bad_gradient_of_a_good_loss(self):
        """The root of 0 is 0, and its slope infinite."""
        model = Constant(1.0)
        trainer = trainer_of(model, lr=0.1, loss_fn=lambda out, y: (out - y).abs().sqrt().mean())
        message = r"epoch 1, batch 0, learning rate 0\.1, the norm of the gradients is (nan|inf).*gradient of w \(1,\)"
        with np.errstate(all="ignore"), pytest.raises(ValueError, match=message):
            trainer.fit([numbers(1)], 1)
        assert model.w.tolist() == [1.0]

    @pytest.mark.parametrize("loss_fn", [lambda out, y: out - y, lambda out, y: 1.0, lambda out, y: None])
    def test_a_loss_that_is_not_one_number(self, loss_fn):
        model = Constant(1.0)
        with pytest.raises(ValueError, match="needs one number from loss_fn, the mean over the batch, got"):
            trainer_of(model, lr=0.1, loss_fn=loss_fn).fit([numbers(1, 2)], 1)
        assert model.w.tolist() == [1.0]


class TestLoaders:
    @pytest.mark.parametrize("loader", [[], (), iter([])])
    def test_no_batches(self, loader):
        trainer = trainer_of(Constant())
        with pytest.raises(ValueError, match="no batches from the loader"):
            trainer.fit(loader, 1)
        with pytest.raises(ValueError, match="no batches from the loader"):
            trainer.evaluate(loader)
        assert trainer.epoch == 0

    def test_a_generator_is_empty_the_second_time(self):
        trainer = trainer_of(Constant())
        with pytest.raises(ValueError, match="gone through only once"):
            trainer.fit((batch for batch in [numbers(1)]), 2)
        assert trainer.epoch == 1

    @pytest.mark.parametrize("batch", [np.ones((4, 2)), Tensor([1.0]), (np.ones(1),), (1.0, 2.0, 3.0), "ab"])
    def test_batches_that_are_no_pairs(self, batch):
        with pytest.raises(TypeError, match=r"needs batches \(inputs, targets\), but batch 1 is"):
            trainer_of(Constant()).fit([numbers(1), batch], 1)

    def test_empty_batches(self):
        with pytest.raises(ValueError, match=r"batch 0 is empty, inputs \(0, 3\)"):
            trainer_of(Constant()).fit([(np.zeros((0, 3)), np.zeros(0))], 1)


class TestCallbacks:
    def test_they_hear_of_everything_in_order(self):
        heard = []

        class Listener(Callback):
            def fit_begin(self, trainer, epochs, batches):
                heard.append(("begin", epochs, batches))

            def step_end(self, trainer, batch, loss):
                heard.append(("step", trainer.epoch, batch, loss))

            def epoch_end(self, trainer):
                heard.append(("epoch", trainer.epoch, trainer.history["validation_loss"][-1]))

            def fit_end(self, trainer):
                heard.append(("end",))

        trainer = trainer_of(Constant(), callbacks=[Listener()], accumulate=2)
        trainer.fit([numbers(1), numbers(3), numbers(2)], 1, validation=[numbers(2)])
        assert heard == [("begin", 1, 3), ("step", 0, 2, 5.0), ("step", 0, 3, 14 / 3), ("epoch", 1, 4.0), ("end",)]

    def test_a_function_is_called_after_every_epoch(self):
        epochs = []
        trainer_of(Constant(), callbacks=[lambda trainer: epochs.append(trainer.epoch)]).fit([numbers(1)], 3)
        assert epochs == [1, 2, 3]

    def test_stop_ends_the_run_after_the_epoch(self):
        def enough(trainer):
            trainer.stop = trainer.epoch == 2

        trainer = trainer_of(Constant(), callbacks=[enough])
        trainer.fit([numbers(1)], 10)
        assert trainer.epoch == 2
        trainer.fit([numbers(1)], 3)
        assert trainer.epoch == 3

    def test_the_end_is_told_after_an_error_too(self):
        ends = []

        class Listener(Callback):
            def fit_end(self, trainer):
                ends.append(trainer.epoch)

        with pytest.raises(ValueError, match="no batches"):
            trainer_of(Constant(), callbacks=[Listener()]).fit([], 1)
        assert ends == [0]

    @pytest.mark.parametrize("callback", [3, None, Callback])
    def test_what_is_no_callback(self, callback):
        with pytest.raises(TypeError, match="callbacks that are Callback objects or functions"):
            trainer_of(Constant(), callbacks=[callback])


class TestConstruction:
    def test_an_optimizer_of_another_model(self):
        with pytest.raises(ValueError, match="none of the model's parameters"):
            Trainer(Constant(), SGD(Constant()), MSELoss())

    def test_an_optimizer_of_a_part_is_fine(self):
        model = classifier()
        before = bits(model)
        Trainer(model, SGD(model[2], lr=0.1), CrossEntropyLoss(), progress=False).train_epoch(crescents())
        assert [a == b for a, b in zip(before, bits(model))] == [True, True, False, False]

    @pytest.mark.parametrize("model", [None, lambda x: x, [Linear(1, 1, rng=0)]])
    def test_what_is_no_model(self, model):
        with pytest.raises(TypeError, match="Trainer needs a model that can be called and has parameters"):
            Trainer(model, SGD(Constant()), MSELoss())

    @pytest.mark.parametrize("optimizer", [None, SGD, 0.1])
    def test_what_is_no_optimizer(self, optimizer):
        with pytest.raises(TypeError, match="Trainer needs an optimizer"):
            Trainer(Constant(), optimizer, MSELoss())

    @pytest.mark.parametrize("options", [{"loss_fn": 3}, {"scheduler": 0.1}])
    def test_what_cannot_be_called(self, options):
        with pytest.raises(TypeError, match="functions as loss_fn and scheduler"):
            trainer_of(Constant(), **options)

    @pytest.mark.parametrize("reduction", ["sum", "none"])
    def test_a_loss_that_is_no_mean(self, reduction):
        with pytest.raises(ValueError, match=f"reduction='mean', got '{reduction}'"):
            trainer_of(Constant(), loss_fn=MSELoss(reduction=reduction))

    @pytest.mark.parametrize("accumulate", [0, -1, 1.5, True])
    def test_accumulate_is_a_count(self, accumulate):
        with pytest.raises(ValueError, match="accumulate >= 1"):
            trainer_of(Constant(), accumulate=accumulate)

    @pytest.mark.parametrize("limit", [0, -1.0, math.nan])
    def test_a_limit_that_makes_no_sense(self, limit):
        with pytest.raises(ValueError, match="grad_clip_norm > 0"):
            trainer_of(Constant(), grad_clip_norm=limit)

    def test_printing(self):
        trainer = trainer_of(Constant())
        trainer.fit([numbers(1)], 2)
        assert repr(trainer) == "Trainer(Constant, SGD, 2 epochs done)"
