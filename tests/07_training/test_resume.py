"""A run that was interrupted and taken up again ends with the same bits as one that was not.

`python test_resume.py PATH` is the run itself, for the tests that kill it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinytorch
from tinytorch.core.activations import Tanh
from tinytorch.core.checkpoint import CheckpointError, load, save
from tinytorch.core.layers import Dropout, Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD, Adam, AdamW
from tinytorch.core.tensor import generator, manual_seed
from tinytorch.core.training import Callback, Checkpoint, CosineSchedule, LinearWarmup, StepSchedule, Trainer

RULES = {
    "sgd": lambda model: SGD(model, lr=0.1),
    "momentum": lambda model: SGD(model, lr=0.05, momentum=0.9),
    "nesterov": lambda model: SGD(model, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda model: Adam(model, lr=0.01),
    "adamw": lambda model: AdamW(model, lr=0.01, weight_decay=0.1),
    "groups": lambda model: Adam([{"params": model[0].named_parameters(), "lr": 0.02}, {"params": [model[3].weight]}]),
}
EPOCHS = 5


class Shuffled:
    """The points in a new order in every epoch, drawn from the library's generator or from one of its own."""

    def __init__(self, seed=None):
        rng = np.random.default_rng(0)
        self.x = rng.normal(size=(50, 2)).astype(np.float32)
        self.y = (self.x.prod(axis=1) > 0).astype(int)
        self.rng = None if seed is None else np.random.default_rng(seed)

    def __len__(self):
        return 7

    def __iter__(self):
        order = (generator() if self.rng is None else self.rng).permutation(50)
        for start in range(0, 50, 8):
            rows = order[start : start + 8]
            yield self.x[rows], self.y[rows]


class Remembered(Shuffled):
    """The same with a state, as loaders have that keep a generator of their own."""

    def state_dict(self):
        return {"random": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.rng.bit_generator.state = state["random"]


def new_trainer(rule, seed, **options):
    manual_seed(seed)
    model = Sequential(Linear(2, 8), Tanh(), Dropout(0.3), Linear(8, 2))
    options = {"scheduler": CosineSchedule(0.05, 0.001, EPOCHS, warmup=2)} | options
    return Trainer(model, RULES[rule](model), CrossEntropyLoss(), progress=False, **options)


def bits(trainer):
    """Everything that training changes."""
    optimizer = [
        {key: np.asarray(value).tobytes() for key, value in state.items()} for state in trainer.optimizer.state
    ]
    rates = [group["lr"] for group in trainer.optimizer.param_groups]
    weights = [p.data.tobytes() for p in trainer.model.parameters()]
    return weights, optimizer, rates, trainer.history, generator().bit_generator.state


class Unplugged(Exception):
    pass


class Plug(Callback):
    """Raises in the middle of an epoch."""

    def __init__(self, epoch, batch=3):
        self.place = epoch, batch

    def step_end(self, trainer, batch, loss):
        if (trainer.epoch, batch) == self.place:
            raise Unplugged


def interrupted(path, rule, epoch, loader=Shuffled, validation=None, **options):
    """Train until something happens in epoch number `epoch` (from 0); then take the run up in a new trainer."""
    first = new_trainer(rule, 0, callbacks=[Checkpoint(path), Plug(epoch)], **options)
    with pytest.raises(Unplugged):
        first.fit(loader(), EPOCHS, validation)
    second = new_trainer(rule, 99, **options)
    second.load_checkpoint(path)
    assert second.epoch == epoch
    second.fit(loader(), EPOCHS, validation)
    return second


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


class TestBitForBit:
    @pytest.mark.parametrize("epoch", [1, 3, 4])
    @pytest.mark.parametrize("rule", RULES)
    def test_with_every_rule(self, path, rule, epoch):
        whole = new_trainer(rule, 0)
        whole.fit(Shuffled(), EPOCHS)
        want = bits(whole)
        assert bits(interrupted(path, rule, epoch)) == want

    @pytest.mark.parametrize(
        "options",
        [
            {"scheduler": None},
            {"scheduler": StepSchedule(0.1, 2)},
            {"scheduler": LinearWarmup(0.1, 3)},
            {"schedule_steps": True},
            {"accumulate": 3},
            {"grad_clip_norm": 0.1},
        ],
        ids=lambda options: next(iter(options)),
    )
    def test_with_every_option(self, path, options):
        whole = new_trainer("adam", 0, **options)
        whole.fit(Shuffled(), EPOCHS)
        want = bits(whole)
        assert bits(interrupted(path, "adam", 2, **options)) == want

    def test_with_validation_in_between(self, path):
        whole = new_trainer("adam", 0)
        whole.fit(Shuffled(), EPOCHS, validation=Shuffled())
        want = bits(whole)
        assert None not in whole.history["validation_loss"]
        assert bits(interrupted(path, "adam", 2, validation=Shuffled())) == want

    def test_with_a_loader_that_remembers(self, path):
        def loader():
            return Remembered(seed=4)

        whole = new_trainer("momentum", 0)
        whole.fit(loader(), EPOCHS)
        want = bits(whole)
        assert bits(interrupted(path, "momentum", 3, loader)) == want

    def test_a_run_interrupted_again_and_again(self, path):
        whole = new_trainer("adamw", 0)
        whole.fit(Shuffled(), EPOCHS)
        want = bits(whole)
        for epoch in (0, 1, 1, 2, 4):
            with pytest.raises(Unplugged):
                new_trainer("adamw", 0, callbacks=[Checkpoint(path), Plug(epoch)]).fit(
                    Shuffled(), EPOCHS, resume_from=path
                )
        last = new_trainer("adamw", 98)
        last.fit(Shuffled(), EPOCHS, resume_from=path)
        assert bits(last) == want

    def test_saved_by_hand_between_two_epochs(self, path):
        whole = new_trainer("adam", 0, scheduler=None)
        for _ in range(4):
            whole.train_epoch(Shuffled())
        want = bits(whole)
        first = new_trainer("adam", 0, scheduler=None)
        first.train_epoch(Shuffled())
        first.train_epoch(Shuffled())
        save(path, first.model, first.optimizer, history=first.history)
        second = new_trainer("adam", 99, scheduler=None)
        second.history = load(path, second.model, second.optimizer)["history"]
        second.train_epoch(Shuffled())
        second.train_epoch(Shuffled())
        assert bits(second) == want

    def test_saving_changes_nothing(self, path):
        silent, saving = new_trainer("adam", 0), new_trainer("adam", 0, callbacks=[Checkpoint(path)])
        manual_seed(0)
        saving.model.load_state_dict(silent.model.state_dict())
        silent.fit(Shuffled(), 2)
        want = bits(silent)
        manual_seed(0)
        saving.fit(Shuffled(), 2)
        assert bits(saving) == want


class TestWhatItTakes:
    """The comparison above notices what is missing."""

    @pytest.mark.parametrize("missing", ["optimizer", "random"])
    def test_without_a_part_the_run_goes_elsewhere(self, path, missing):
        whole = new_trainer("adam", 0)
        whole.fit(Shuffled(), EPOCHS)
        first = new_trainer("adam", 0, callbacks=[Checkpoint(path)])
        first.fit(Shuffled(), 2)
        second = new_trainer("adam", 99)
        content = load(path, second.model)
        second.history = content["trainer"]["history"]
        if missing != "optimizer":
            second.optimizer.load_state_dict(content["optimizer"])
        if missing != "random":
            generator().bit_generator.state = content["random"]
        second.fit(Shuffled(), EPOCHS)
        assert bits(second)[0] != bits(whole)[0]


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL exists on POSIX systems only")
class TestKilled:
    def test_a_process_killed_in_the_middle_of_an_epoch(self, path):
        whole = new_trainer("adam", 0)
        whole.fit(Remembered(seed=4), EPOCHS)
        want = bits(whole)
        here = {**os.environ, "PYTHONPATH": str(Path(tinytorch.__file__).parents[1])}  # the same package over there
        done = subprocess.run([sys.executable, "-P", __file__, str(path)], env=here)
        assert done.returncode == -signal.SIGKILL
        resumed = new_trainer("adam", 99)
        resumed.fit(Remembered(seed=4), EPOCHS, resume_from=path)
        assert bits(resumed) == want
        assert resumed.epoch == EPOCHS


class TestCheckpointCallback:
    @pytest.mark.parametrize(("every", "epochs", "want"), [(1, 5, 5), (2, 5, 4), (5, 5, 5), (3, 5, 3)])
    def test_every_so_many_epochs(self, path, every, epochs, want):
        new_trainer("sgd", 0, callbacks=[Checkpoint(path, every)]).fit(Shuffled(), epochs)
        trainer = new_trainer("sgd", 0)
        trainer.load_checkpoint(path)
        assert trainer.epoch == want

    def test_not_before_its_time(self, path):
        new_trainer("sgd", 0, callbacks=[Checkpoint(path, 2)]).fit(Shuffled(), 1)
        assert not path.exists()

    @pytest.mark.parametrize("every", [0, -1, 1.5, True, "1", None])
    def test_a_count_that_makes_no_sense(self, path, every):
        with pytest.raises(ValueError, match="Checkpoint needs every >= 1 as a whole number"):
            Checkpoint(path, every)


class TestTakingUp:
    def test_without_a_file_the_run_begins(self, path):
        trainer = new_trainer("sgd", 0)
        trainer.fit(Shuffled(), 2, resume_from=path)
        assert trainer.epoch == 2

    def test_a_run_that_was_done_stays_as_it_is(self, path):
        first = new_trainer("adam", 0, callbacks=[Checkpoint(path)])
        first.fit(Shuffled(), 3)
        want = bits(first)
        second = new_trainer("adam", 99)
        assert second.fit(Shuffled(), 3, resume_from=path) == first.history
        assert bits(second) == want

    def test_history_goes_on(self, path):
        first = new_trainer("sgd", 0, callbacks=[Checkpoint(path)])
        first.fit(Shuffled(), 2)
        second = new_trainer("sgd", 99)
        second.fit(Shuffled(), 3, resume_from=path)
        assert second.history["train_loss"][:2] == first.history["train_loss"]
        assert [len(values) for values in second.history.values()] == [3] * 6

    def test_the_schedule_goes_on_where_it_was(self, path):
        rates = interrupted(path, "sgd", 3).history["lr"]
        schedule = CosineSchedule(0.05, 0.001, EPOCHS, warmup=2)
        assert rates == [schedule(epoch) for epoch in range(EPOCHS)]

    def test_a_schedule_may_remember_too(self, path):
        class Halving:
            """Halves the rate whenever it is asked."""

            def __init__(self):
                self.rate = 0.8

            def __call__(self, epoch):
                self.rate /= 2
                return self.rate

            def state_dict(self):
                return {"rate": self.rate}

            def load_state_dict(self, state):
                self.rate = state["rate"]

        batches = list(Shuffled())[:1]
        first = new_trainer("sgd", 0, scheduler=Halving(), callbacks=[Checkpoint(path)])
        first.fit(batches, 2)
        second = new_trainer("sgd", 99, scheduler=Halving())
        second.fit(batches, 4, resume_from=path)
        assert second.history["lr"] == [0.4, 0.2, 0.1, 0.05]

    def test_a_loader_state_waits_for_its_loader(self, path):
        """A checkpoint taken up and saved again before training still holds it."""
        first = new_trainer("sgd", 0)
        first.fit(Remembered(seed=4), 2)
        first.save_checkpoint(path)
        second = new_trainer("sgd", 99)
        second.load_checkpoint(path)
        second.save_checkpoint(path)
        third = new_trainer("sgd", 98)
        third.fit(Remembered(seed=4), EPOCHS, resume_from=path)
        whole = new_trainer("sgd", 0)
        whole.fit(Remembered(seed=4), EPOCHS)
        assert [p.tolist() for p in third.model.parameters()] == [p.tolist() for p in whole.model.parameters()]


def refused(trainer, path, message, error=CheckpointError):
    """`load_checkpoint` raises, and all is as before."""
    before = bits(trainer)
    with pytest.raises(error, match=message):
        trainer.load_checkpoint(path)
    assert bits(trainer) == before


class TestRefusals:
    @pytest.fixture
    def saved(self, path):
        trainer = new_trainer("adam", 0)
        trainer.fit(Shuffled(), 2)
        trainer.save_checkpoint(path)
        return path

    @pytest.fixture
    def trainer(self):
        trainer = new_trainer("adam", 7)
        trainer.fit(Shuffled(), 1)
        return trainer

    def test_no_file(self, path, trainer):
        refused(trainer, path, "there is no file", FileNotFoundError)

    def test_a_file_cut_short(self, saved, trainer):
        saved.write_bytes(saved.read_bytes()[:-1])
        refused(trainer, saved, "run.safetensors is not a checkpoint, or is damaged or cut short")

    def test_a_file_cut_short_stops_fit_too(self, saved, trainer):
        """Rather than begin the run anew, and overwrite what might be repaired."""
        saved.write_bytes(saved.read_bytes()[:-1])
        before = bits(trainer)
        with pytest.raises(CheckpointError, match="damaged or cut short"):
            trainer.fit(Shuffled(), 5, resume_from=saved)
        assert bits(trainer) == before

    def test_another_rule(self, saved):
        refused(new_trainer("momentum", 0), saved, "state of Adam")

    @pytest.mark.parametrize(
        "extra", [{}, {"trainer": None}, {"trainer": {}}, {"trainer": {"history": {"train_loss": []}}}]
    )
    def test_not_saved_by_a_trainer(self, path, trainer, extra):
        save(path, trainer.model, trainer.optimizer, **extra)
        refused(trainer, path, r"was not saved by a Trainer; use load\(path, model, optimizer\)")

    def test_another_kind_of_schedule(self, path, trainer):
        class Remembering(StepSchedule):
            def state_dict(self):
                return {}

            def load_state_dict(self, state):
                raise AssertionError

        other = new_trainer("adam", 0, scheduler=Remembering(0.1, 1))
        other.save_checkpoint(path)
        refused(trainer, path, "was saved with another kind of scheduler")

    def test_a_loader_that_cannot_remember(self, path):
        first = new_trainer("sgd", 0)
        first.fit(Remembered(seed=4), 2)
        first.save_checkpoint(path)
        second = new_trainer("sgd", 99)
        second.load_checkpoint(path)
        before = bits(second)
        with pytest.raises(ValueError, match="holds the state of a loader, but this Shuffled has no load_state_dict"):
            second.fit(Shuffled(), 3)
        assert bits(second) == before


class PullThePlug(Callback):
    """Kills this process in the middle of the fourth epoch."""

    def step_end(self, trainer, batch, loss):
        if (trainer.epoch, batch) == (3, 4):
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    doomed = new_trainer("adam", 0, callbacks=[Checkpoint(sys.argv[1]), PullThePlug()])
    doomed.fit(Remembered(seed=4), EPOCHS)
