"""Facts that hold for all numbers."""

import math

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from support.checks import assert_close
from tinytorch.core.checkpoint import _pack, _unpack
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.optimizers import SGD
from tinytorch.core.tensor import Tensor
from tinytorch.core.training import (
    CosineSchedule,
    LinearWarmup,
    Running,
    StepSchedule,
    Trainer,
    clip_grad_norm,
    gradient_norm,
    grouped,
)

few = settings(derandomize=True, deadline=None, max_examples=40)
rates = st.floats(1e-6, 10)
epochs = st.floats(0, 200)
numbers = st.floats(-1e3, 1e3, width=32)
gradients = st.lists(st.lists(numbers, min_size=1, max_size=5), min_size=1, max_size=4)


def parameters(values, dtype=np.float32):
    tensors = []
    for gradient in values:
        tensors.append(Tensor(np.zeros(len(gradient)), requires_grad=True, dtype=dtype))
        tensors[-1].grad = np.array(gradient, dtype)
    return tensors


def flat(tensors):
    return np.concatenate([tensor.grad for tensor in tensors]).astype(np.float64)


@few
@given(gradients)
def test_the_norm_is_that_of_all_gradients_side_by_side(values):
    tensors = parameters(values)
    assert_close(gradient_norm(tensors), float(np.linalg.norm(flat(tensors))), rtol=1e-5, atol=1e-12)


@few
@given(gradients, st.floats(1e-3, 1e4))
def test_clipped_gradients_are_never_longer_and_point_the_same_way(values, max_norm):
    tensors = parameters(values)
    before = flat(tensors)
    norm = clip_grad_norm(tensors, max_norm)
    after = flat(tensors)
    assert_close(norm, float(np.linalg.norm(before)), rtol=1e-5, atol=1e-12)
    assert np.linalg.norm(after) <= max_norm * (1 + 1e-5)
    if norm <= max_norm:
        assert after.tolist() == before.tolist()
    else:
        assert_close(np.linalg.norm(after), max_norm, rtol=1e-5)
        assert_close(after / max_norm, before / norm, rtol=1e-4, atol=1e-6)


@few
@given(gradients, st.floats(1e-2, 1e3))
def test_to_clip_twice_is_to_clip_once(values, max_norm):
    tensors = parameters(values, np.float64)
    clip_grad_norm(tensors, max_norm)
    once = flat(tensors)
    clip_grad_norm(tensors, max_norm)
    assert_close(flat(tensors), once, rtol=1e-12, atol=0)


@few
@given(gradients, st.integers(-60, 60))
def test_the_norm_grows_with_the_gradients(values, exponent):
    tensors = parameters(values)
    norm = gradient_norm(tensors)
    assume(norm == 0 or 1e-12 < norm < 1e12)
    for tensor in tensors:
        tensor.grad = tensor.grad * np.float32(2.0**exponent)
    assume(all((tensor.grad == 0).sum() == value.count(0) for tensor, value in zip(tensors, values)))
    assert_close(gradient_norm(tensors) / 2.0**exponent, norm, rtol=1e-4)


@st.composite
def cosines(draw, longest=50):
    max_lr = draw(rates)
    start = draw(st.floats(0, longest))
    return CosineSchedule(max_lr, max_lr * draw(st.floats(0, 1)), start + draw(st.floats(1, 100)), start)


@few
@given(cosines(), epochs)
def test_a_cosine_stays_within_its_bounds(schedule, epoch):
    rate = schedule(epoch)
    assert 0 <= rate <= schedule.max_lr * (1 + 1e-12)
    if epoch >= schedule.warmup:
        assert rate >= schedule.min_lr * (1 - 1e-12)


@few
@given(cosines(), st.tuples(epochs, epochs).map(sorted))
def test_a_cosine_rises_until_the_end_of_its_warmup_and_falls_after_it(schedule, two):
    first, second = two
    if second <= schedule.warmup:
        assert schedule(first) <= schedule(second) * (1 + 1e-12)
    elif first >= schedule.warmup:
        assert schedule(first) >= schedule(second) * (1 - 1e-12)


@few
@given(cosines(longest=0), st.floats(0, 1))
def test_a_cosine_looks_the_same_from_both_ends(schedule, share):
    there, back = (schedule(schedule.total_epochs * part) for part in (share, 1 - share))
    assert_close(there + back, schedule.max_lr + schedule.min_lr, rtol=1e-9)


@few
@given(rates, st.floats(0.5, 50), st.floats(0.01, 1), st.tuples(epochs, epochs).map(sorted))
def test_steps_only_go_down_and_only_by_whole_steps(max_lr, step_size, gamma, two):
    schedule = StepSchedule(max_lr, step_size, gamma)
    first, second = (schedule(epoch) for epoch in two)
    assert second <= first <= max_lr
    taken = two[1] // step_size - two[0] // step_size
    assert_close(second, first * gamma**taken, rtol=1e-9, atol=1e-300)


@few
@given(rates, st.floats(0, 100), epochs)
def test_a_warmup_is_a_line_to_the_rate(rate, warmup, epoch):
    got = LinearWarmup(rate, warmup)(epoch)
    assert 0 < got <= rate
    assert_close(got, rate * min(1, (epoch + 1) / (warmup + 1)), rtol=1e-12)


@few
@given(st.lists(st.integers(), max_size=30), st.integers(1, 10))
def test_groups_hold_everything_once_and_in_order(items, size):
    groups = list(grouped(iter(items), size))
    assert [item for group in groups for item in group] == items
    assert all(len(group) == size for group in groups[:-1])
    assert len(groups) == math.ceil(len(items) / size)


@few
@given(st.lists(st.lists(numbers, min_size=1, max_size=6), min_size=1, max_size=6))
def test_the_mean_of_batches_is_the_mean_of_all(values):
    running = Running()
    for batch in values:
        running.add(float(np.mean(batch)), len(batch))
    everything = [value for batch in values for value in batch]
    assert_close(running.loss, float(np.mean(everything)), rtol=1e-6, atol=1e-3)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_portions_of_any_sizes_make_the_step_of_the_whole_batch(sizes, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, y = rng.normal(size=(sum(sizes), 3)), rng.integers(0, 2, sum(sizes))
    stops = np.cumsum([0, *sizes])
    batches = [(Tensor(x[a:b], dtype=np.float64), Tensor(y[a:b])) for a, b in zip(stops[:-1], stops[1:])]
    steps = []
    for loader in (batches, [(Tensor(x, dtype=np.float64), Tensor(y))]):
        model = Sequential(Linear(3, 2, rng=0))
        for p in model.parameters():
            p.data = p.data.astype(np.float64)
        trainer = Trainer(model, SGD(model, lr=1.0), CrossEntropyLoss(), accumulate=len(sizes), progress=False)
        trainer.train_epoch(loader)
        steps.append(model[0].weight.data)
    assert_close(steps[0], steps[1], rtol=1e-10, atol=1e-14)


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
arrays = st.lists(numbers, max_size=4).map(lambda values: np.array(values, np.float32))
keys = st.text(max_size=4).filter(lambda key: key != "__array__")
nested = st.recursive(leaves | arrays, lambda inside: st.lists(inside, max_size=4) | st.dictionaries(keys, inside))


def plain(value):
    if isinstance(value, np.ndarray):
        return "array", value.dtype.str, value.tobytes()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list) else value


@few
@given(nested)
def test_what_is_packed_is_unpacked(value):
    found = {}
    packed = _pack(value, "extra", found)
    assert plain(_unpack(packed, found)) == plain(value)
