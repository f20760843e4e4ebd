"""Module 07 with what came before it: the loop around forward, backward and step."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU, Tanh
from tinytorch.core.autograd import is_grad_enabled, no_grad
from tinytorch.core.checkpoint import CheckpointError, load, save
from tinytorch.core.layers import Dropout, Linear, Module, Sequential
from tinytorch.core.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss, cross_entropy, mse_loss
from tinytorch.core.optimizers import SGD, Adam, AdamW
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.core.training import (
    Checkpoint,
    CosineSchedule,
    LinearWarmup,
    StepSchedule,
    Trainer,
    clip_grad_norm,
)

XOR = [(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([0, 1, 1, 0]))]
RULES = {
    "sgd": lambda params: SGD(params, lr=0.5),
    "momentum": lambda params: SGD(params, lr=0.1, momentum=0.9),
    "adam": lambda params: Adam(params, lr=0.02),
    "adamw": lambda params: AdamW(params, lr=0.02, weight_decay=0.01),
}


def network(dropout=0.0):
    return Sequential(Linear(2, 16, rng=0), Tanh(), Dropout(dropout), Linear(16, 2, rng=1))


def trainer_of(model, rule=RULES["adam"], loss_fn=None, **options):
    return Trainer(model, rule(model), loss_fn or CrossEntropyLoss(), progress=False, **options)


def bits(model):
    return [p.data.tobytes() for p in model.parameters()]


class TestPriorStackStillWorking:
    def test_the_loop_by_hand_goes_down(self):
        model = network()
        optimizer = SGD(model.parameters(), lr=0.5)
        losses = []
        for _ in range(200):
            optimizer.zero_grad()
            loss = cross_entropy(model(Tensor(XOR[0][0])), Tensor(XOR[0][1]))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.1 < losses[0]

    def test_a_gradient_for_every_parameter(self):
        model = network()
        cross_entropy(model(Tensor(XOR[0][0])), Tensor(XOR[0][1])).backward()
        assert [p.grad.shape for p in model.parameters()] == [(2, 16), (16,), (16, 2), (2,)]
        assert all(np.abs(p.grad).sum() > 0 for p in model.parameters())

    def test_dropout_hears_of_train_and_eval(self):
        layer, x = Dropout(0.5), Tensor(np.ones(1000))
        assert (layer(x).data == 0).any()
        assert (layer.eval()(x).data == 1).all()

    def test_nothing_is_recorded_under_no_grad(self):
        with no_grad():
            out = network()(Tensor(XOR[0][0]))
        assert out.requires_grad is False


class TestModule07TrainingCore:
    def test_a_cosine_falls_from_the_largest_rate_to_the_smallest(self):
        schedule = CosineSchedule(0.1, 0.02, 10)
        assert_close(np.array([schedule(epoch) for epoch in (0, 5, 10, 99)]), np.array([0.1, 0.06, 0.02, 0.02]))

    def test_a_warmup_rises_in_equal_steps(self):
        schedule = LinearWarmup(0.5, 4)
        assert_close(np.array([schedule(epoch) for epoch in range(6)]), np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.5]))

    def test_steps_multiply(self):
        schedule = StepSchedule(1.0, 10)
        assert_close(np.array([schedule(epoch) for epoch in (0, 9, 10, 20)]), np.array([1, 1, 0.1, 0.01]))

    def test_clipping_scales_all_alike_and_returns_the_norm_before(self):
        a, b = Tensor([0.0, 0.0], requires_grad=True), Tensor([0.0], requires_grad=True)
        a.grad, b.grad = np.array([3, 0], np.float32), np.array([4], np.float32)
        assert clip_grad_norm([a, b], 1.0) == 5.0
        assert_close(a.grad, np.array([0.6, 0], np.float32))
        assert_close(b.grad, np.array([0.8], np.float32))

    def test_one_epoch_by_hand(self):
        """From w = 1 with mse to 3 at rate 0.1: the slope is 2 (1 - 3) = -4, the loss 4, the new w 1.4."""
        model = Sequential(Linear(1, 1, bias=False, rng=0))
        model[0].weight.data[...] = 1
        trainer = trainer_of(model, lambda params: SGD(params, lr=0.1), MSELoss())
        history = trainer.fit([(np.ones((1, 1), np.float32), np.full((1, 1), 3, np.float32))], 1)
        assert_close(model[0].weight, np.array([[1.4]], np.float32))
        assert history == {
            "train_loss": [4.0],
            "train_accuracy": [None],
            "validation_loss": [None],
            "validation_accuracy": [None],
            "lr": [0.1],
            "grad_norm": [4.0],
        }

    def test_a_checkpoint_brings_everything_back(self, tmp_path):
        model = network()
        trainer = trainer_of(model)
        trainer.fit(XOR, 3)
        trainer.save_checkpoint(tmp_path / "run.safetensors")
        other = trainer_of(network())
        other.fit(XOR, 1)
        other.load_checkpoint(tmp_path / "run.safetensors")
        assert bits(other.model) == bits(model)
        assert other.history == trainer.history
        assert [state["step"] for state in other.optimizer.state] == [3] * 4


class TestBackwardIntegration:
    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_every_rule_learns_xor(self, rule):
        model = network()
        trainer = trainer_of(model, rule)
        history = trainer.fit(XOR, 300)
        assert history["train_loss"][-1] < 0.1 < history["train_loss"][0]
        assert trainer.evaluate(XOR)["accuracy"] == 1.0

    def test_the_trainer_walks_as_the_loop_by_hand_does(self):
        by_hand, by_trainer = network(), network()
        optimizer = Adam(by_hand, lr=0.02)
        for _ in range(10):
            optimizer.zero_grad()
            cross_entropy(by_hand(Tensor(XOR[0][0])), Tensor(XOR[0][1])).backward()
            optimizer.step()
        trainer_of(by_trainer).fit(XOR, 10)
        assert bits(by_trainer) == bits(by_hand)

    def test_gradients_of_portions_add_up_to_that_of_the_whole(self):
        x, y = XOR[0]
        whole, portions = network(), network()
        trainer_of(whole, accumulate=1).train_epoch([(x, y)])
        trainer_of(portions, accumulate=3).train_epoch([(x[:1], y[:1]), (x[1:2], y[1:2]), (x[2:], y[2:])])
        for p, q in zip(whole.parameters(), portions.parameters()):
            assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-7)

    def test_gradients_are_those_of_the_last_step_alone(self):
        model = network()
        trainer = trainer_of(model, lambda params: SGD(params, lr=0.0))
        trainer.train_epoch(XOR * 5)
        want = network()
        cross_entropy(want(Tensor(XOR[0][0])), Tensor(XOR[0][1])).backward()
        for p, q in zip(model.parameters(), want.parameters()):
            assert_close(p.grad, q.grad, rtol=0, atol=0)

    def test_a_clipped_step_has_the_length_of_the_limit(self):
        model = network()
        before = np.concatenate([p.data.ravel() for p in model.parameters()])
        trainer_of(model, lambda params: SGD(params, lr=1.0), grad_clip_norm=0.01).train_epoch(XOR)
        after = np.concatenate([p.data.ravel() for p in model.parameters()])
        assert_close(float(np.linalg.norm(after - before)), 0.01, rtol=1e-4)


class TestForwardIntegration:
    def test_evaluation_leaves_dropout_out_and_puts_it_back(self):
        model = network(dropout=0.9)
        results = [trainer_of(model).evaluate(XOR) for _ in range(2)]
        assert results[0] == results[1]
        assert_close(results[0]["loss"], cross_entropy(network()(Tensor(XOR[0][0])), Tensor(XOR[0][1])).item())
        assert (model.training, model[2].training) == (True, True)

    def test_training_uses_dropout(self):
        model = network(dropout=0.9).eval()
        trainer = trainer_of(model, lambda params: SGD(params, lr=0.0))
        assert len({trainer.train_epoch(XOR) for _ in range(5)}) == 5

    def test_evaluation_records_nothing_and_recording_goes_on_afterwards(self):
        recorded = []

        class Watched(Sequential):
            def forward(self, x):
                out = super().forward(x)
                recorded.append(out.requires_grad)
                return out

        trainer = trainer_of(Watched(Linear(2, 2, rng=0)))
        trainer.evaluate(XOR)
        trainer.train_epoch(XOR)
        assert recorded == [False, True]
        assert is_grad_enabled() is True

    @pytest.mark.parametrize(
        ("loss_fn", "targets", "accuracy"),
        [
            (CrossEntropyLoss(), np.array([0, 1, 1, 0]), True),
            (MSELoss(), np.ones((4, 2), np.float32), False),
            (BCEWithLogitsLoss(), np.ones((4, 2), np.float32), False),
            (lambda out, y: mse_loss(out, y), np.ones((4, 2), np.float32), False),
        ],
    )
    def test_with_every_kind_of_loss(self, loss_fn, targets, accuracy):
        model = network()
        history = trainer_of(model, loss_fn=loss_fn).fit([(XOR[0][0], targets)], 20)
        assert history["train_loss"][-1] < history["train_loss"][0]
        assert (history["train_accuracy"][-1] is None) is not accuracy


class TestCrossModuleIntegration:
    def test_a_run_with_everything_turned_on(self, tmp_path):
        manual_seed(0)
        rng = np.random.default_rng(0)
        x = rng.normal(size=(120, 2)).astype(np.float32)
        y = (np.hypot(x[:, 0], x[:, 1]) > 1.2).astype(int)
        batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 120, 16)]
        model = Sequential(Linear(2, 32), ReLU(), Dropout(0.1), Linear(32, 2))
        seen = []
        trainer = Trainer(
            model,
            AdamW(model.named_parameters(), lr=0.05),
            CrossEntropyLoss(label_smoothing=0.01),
            scheduler=CosineSchedule(0.05, 0.001, 25, warmup=3),
            grad_clip_norm=1.0,
            callbacks=[Checkpoint(tmp_path / "run.safetensors", every=5), lambda trainer: seen.append(trainer.epoch)],
            accumulate=2,
            schedule_steps=True,
            progress=False,
        )
        history = trainer.fit(batches, 25, validation=batches)
        assert history["validation_accuracy"][-1] > 0.9
        assert seen == list(range(1, 26))
        assert load(tmp_path / "run.safetensors")["trainer"]["history"] == history

    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_an_interrupted_run_ends_with_the_same_bits(self, rule, tmp_path):
        """Dropout draws from the library's generator: it has to go on where it was."""
        path = tmp_path / "run.safetensors"
        manual_seed(3)
        whole = trainer_of(network(dropout=0.5), rule)
        whole.fit(XOR, 6)
        manual_seed(3)
        trainer_of(network(dropout=0.5), rule, callbacks=[Checkpoint(path)]).fit(XOR, 4)
        manual_seed(99)
        resumed = trainer_of(network(dropout=0.5), rule)
        resumed.fit(XOR, 6, resume_from=path)
        assert bits(resumed.model) == bits(whole.model)
        assert resumed.history == whole.history

    def test_a_weight_shared_by_two_layers_is_saved_once_and_stays_shared(self, tmp_path):
        class Tied(Module):
            def __init__(self, seed):
                self.first = Linear(2, 2, bias=False, rng=seed)
                self.second = Linear(2, 2, bias=False, rng=seed)
                self.second.weight = self.first.weight

            def forward(self, x):
                return self.second(self.first(x))

        model, other = Tied(0), Tied(1)
        trainer_of(model).fit(XOR, 3)
        save(tmp_path / "run.safetensors", model)
        load(tmp_path / "run.safetensors", other)
        assert bits(other) == bits(model)
        assert other.first.weight is other.second.weight

    def test_a_frozen_layer_stays_where_it_is(self):
        model = network()
        model[0].requires_grad_(False)
        before = bits(model)
        Trainer(model, SGD(model[3], lr=0.5), CrossEntropyLoss(), progress=False).fit(XOR, 3)
        assert [a == b for a, b in zip(before, bits(model))] == [True, True, False, False]

    def test_groups_keep_their_proportions_under_a_schedule(self):
        model = network()
        optimizer = SGD([{"params": model[0].parameters(), "lr": 0.1}, {"params": model[3].parameters(), "lr": 0.4}])
        trainer = Trainer(model, optimizer, CrossEntropyLoss(), StepSchedule(0.8, 1, gamma=0.5), progress=False)
        trainer.fit(XOR, 2)
        assert_close(np.array([group["lr"] for group in optimizer.param_groups]), np.array([0.1, 0.4]))


class TestRegressionPrevention:
    def test_a_loss_that_is_no_number_leaves_weights_and_momentum(self):
        model = network()
        trainer = trainer_of(model)
        trainer.fit(XOR, 2)
        before, counts = bits(model), [state["step"] for state in trainer.optimizer.state]
        with pytest.raises(ValueError, match="epoch 3, batch 1, .* the loss is nan"):
            trainer.fit([*XOR, (np.full((4, 2), math.nan, np.float32), XOR[0][1])], 3)
        once = trainer_of(network())
        once.fit(XOR, 3)
        assert bits(model) == bits(once.model) != before
        assert [state["step"] for state in trainer.optimizer.state] == [count + 1 for count in counts]

    def test_means_are_over_samples_and_not_over_batches(self):
        x = np.zeros((6, 1), np.float32)
        y = np.array([[1], [1], [1], [1], [2], [2]], np.float32)
        model = Sequential(Linear(1, 1, rng=0))
        model[0].bias.data[...] = 0
        trainer = trainer_of(model, lambda params: SGD(params, lr=0.0), MSELoss())
        batches = [(x[:4], y[:4]), (x[4:], y[4:])]
        assert trainer.evaluate(batches)["loss"] == trainer.train_epoch(batches) == 2.0

    def test_the_leftover_batches_make_a_step(self):
        model = network()
        trainer = trainer_of(model, accumulate=2)
        trainer.train_epoch(XOR * 5)
        assert [state["step"] for state in trainer.optimizer.state] == [3] * 4

    def test_a_damaged_checkpoint_changes_nothing(self, tmp_path):
        path = tmp_path / "run.safetensors"
        trainer = trainer_of(network())
        trainer.fit(XOR, 2)
        trainer.save_checkpoint(path)
        path.write_bytes(path.read_bytes()[:-3])
        trainer.fit(XOR, 4)
        before = bits(trainer.model)
        with pytest.raises(CheckpointError, match="run.safetensors .* damaged or cut short"):
            trainer.load_checkpoint(path)
        assert bits(trainer.model) == before
        assert trainer.epoch == 4

    def test_an_empty_loader_is_an_error(self):
        with pytest.raises(ValueError, match="no batches"):
            trainer_of(network()).fit([], 1)

    def test_epochs_count_from_the_first(self):
        trainer = trainer_of(network())
        trainer.fit(XOR, 2)
        trainer.fit(XOR, 5)
        assert trainer.epoch == 5
        with pytest.raises(ValueError, match="5 epochs are already done"):
            trainer.fit(XOR, 5)
