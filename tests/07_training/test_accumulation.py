"""A step from several portions is the step from the whole batch."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss, MSELoss, NLLLoss, cross_entropy
from tinytorch.core.optimizers import SGD
from tinytorch.core.tensor import Tensor
from tinytorch.core.training import Trainer, grouped, mean_count

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(10, 4))
CLASSES = np.array([0, 1, 2, 2, 0, 0, 1, 2, 1, 0])
LOSSES = {
    "mse": (MSELoss(), RNG.normal(size=(10, 3))),
    "classes": (CrossEntropyLoss(), CLASSES),
    "function": (lambda out, y: cross_entropy(out, y), CLASSES),
    "probabilities": (CrossEntropyLoss(), RNG.dirichlet(np.ones(3), 10)),
    "ignored": (CrossEntropyLoss(ignore_index=2), CLASSES),
    "weighted": (CrossEntropyLoss(weight=np.array([0.2, 1.0, 3.0])), CLASSES),
    "both": (CrossEntropyLoss(weight=np.array([0.2, 1.0, 3.0]), ignore_index=0), CLASSES),
    "smoothed": (CrossEntropyLoss(label_smoothing=0.1, ignore_index=1), CLASSES),
}


def cut(targets, sizes, dtype=np.float64):
    """Batches of the given sizes."""
    stops = np.cumsum([0, *sizes])
    kind = dtype if targets.dtype.kind == "f" else None
    return [(Tensor(INPUTS[a:b], dtype=dtype), Tensor(targets[a:b], dtype=kind)) for a, b in zip(stops[:-1], stops[1:])]


def trained(loss_fn, batches, accumulate, dtype=np.float64):
    model = Sequential(Linear(4, 3, rng=0))
    for p in model.parameters():
        p.data = p.data.astype(dtype)
    trainer = Trainer(model, SGD(model.parameters(), lr=0.5), loss_fn, accumulate=accumulate, progress=False)
    loss = trainer.train_epoch(batches)
    return loss, [p.data for p in model.parameters()]


@pytest.mark.parametrize("sizes", [(5, 5), (4, 4, 2), (1, 2, 7), (3, 3, 3, 1)])
@pytest.mark.parametrize(("loss_fn", "targets"), LOSSES.values(), ids=LOSSES)
def test_portions_are_the_whole_batch(loss_fn, targets, sizes):
    whole = trained(loss_fn, cut(targets, [10]), 1)
    portions = trained(loss_fn, cut(targets, sizes), len(sizes))
    assert_close(portions[0], whole[0], rtol=1e-12)
    for got, want in zip(portions[1], whole[1]):
        assert_close(got, want, rtol=1e-12, atol=1e-14)


def test_in_float32_too():
    whole, portions = (
        trained(MSELoss(), cut(LOSSES["mse"][1], s, np.float32), len(s), np.float32) for s in ([10], [4, 4, 2])
    )
    for got, want in zip(portions[1], whole[1]):
        assert_close(got, want, rtol=1e-5)


def test_the_leftover_portion_makes_a_step():
    """5 batches, 2 at a time: steps from 2, 2 and 1."""
    steps = []

    class Counting(SGD):
        def step(self, check=False):
            steps.append([p.grad.copy() for p in self.parameters])
            super().step(check)

    model = Sequential(Linear(4, 3, rng=0))
    trainer = Trainer(model, Counting(model.parameters(), lr=0.0), CrossEntropyLoss(), accumulate=2, progress=False)
    batches = cut(CLASSES, [2, 2, 2, 2, 2], np.float32)
    trainer.train_epoch(batches)
    assert len(steps) == 3
    alone = Trainer(model, Counting(model.parameters(), lr=0.0), CrossEntropyLoss(), progress=False)
    alone.train_epoch(batches[4:])
    assert_close(steps[2][0], steps[3][0], rtol=1e-6)


def test_the_loss_reported_is_not_scaled():
    losses = [trained(MSELoss(), cut(LOSSES["mse"][1], [5, 5]), k)[0] for k in (1, 2)]
    first = trained(MSELoss(), cut(LOSSES["mse"][1], [10]), 1)[0]
    assert_close(losses[1], first, rtol=1e-12)


def test_a_portion_in_which_everything_is_ignored_is_skipped():
    loss_fn, targets = CrossEntropyLoss(ignore_index=2), np.array([0, 1, 1, 2, 2, 2, 0, 1, 0, 1])
    whole, portions = (trained(loss_fn, cut(targets, s), len(s)) for s in ([10], [3, 3, 4]))
    for got, want in zip(portions[1], whole[1]):
        assert_close(got, want, rtol=1e-12)


def test_a_step_in_which_everything_is_ignored_is_an_error():
    with pytest.raises(ValueError, match="epoch 1, batch 0, .* every target is ignored"):
        trained(CrossEntropyLoss(ignore_index=2), cut(np.full(10, 2), [10]), 1)


class TestGrouped:
    @pytest.mark.parametrize(
        ("text", "size", "want"),
        [
            ("abcde", 2, ["ab", "cd", "e"]),
            ("abcd", 2, ["ab", "cd"]),
            ("abc", 1, ["a", "b", "c"]),
            ("ab", 5, ["ab"]),
            ("", 2, []),
        ],
    )
    def test_lists_in_order_and_the_rest(self, text, size, want):
        assert ["".join(group) for group in grouped(text, size)] == want

    def test_groups_are_lists_of_their_own(self):
        groups = list(grouped("abcd", 2))
        assert groups == [["a", "b"], ["c", "d"]]

    def test_it_takes_no_more_than_it_needs(self):
        stream = iter("abcde")
        next(grouped(stream, 2))
        assert next(stream) == "c"


class TestCount:
    def test_one_per_target(self):
        assert mean_count(MSELoss(), Tensor(np.zeros((4, 3)))) == 12
        assert mean_count(CrossEntropyLoss(), Tensor(np.zeros((4, 5), int))) == 20

    def test_ignored_classes_do_not_count(self):
        assert mean_count(CrossEntropyLoss(ignore_index=-1), Tensor([0, -1, 2, -1])) == 2

    def test_classes_count_with_their_weights(self):
        loss_fn = CrossEntropyLoss(weight=np.array([0.5, 2.0]), ignore_index=-1)
        assert mean_count(loss_fn, Tensor([0, 1, 1, -1])) == 4.5
        assert mean_count(NLLLoss(weight=np.array([0.5, 2.0])), Tensor([0, 0])) == 1.0
