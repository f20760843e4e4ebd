"""What holds for all matrices, shares and logits."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.tensor import Tensor, randn
from tinytorch.optimization.compression import (
    distillation_loss,
    low_rank_approximate,
    magnitude_prune,
    smallest,
    structured_prune,
    to_csr,
)

fixed = settings(derandomize=True, deadline=None, max_examples=50)
sizes = st.integers(1, 8)
shapes = st.tuples(sizes, sizes)
few = st.sampled_from([0.0, 0.0, 1.0, -1.0, 0.5, -3.0])  # with many zeros and many equals


def layer_of(array):
    layer = Linear(*array.shape, rng=0)
    layer.weight.data = array
    return layer


@fixed
@given(arrays(np.float32, st.integers(1, 30), elements=few), st.floats(0, 1))
def test_no_number_that_stays_is_smaller_than_one_that_goes(numbers, share):
    numbers = np.abs(numbers)
    count = round(share * numbers.size)
    mask = smallest(numbers, count)
    assert mask.sum() == count
    if 0 < count < numbers.size:
        assert numbers[mask].max() <= numbers[~mask].min()


@fixed
@given(arrays(np.float32, shapes, elements=few), st.floats(0, 1))
def test_pruning_keeps_the_largest(weight, sparsity):
    pruned = magnitude_prune(layer_of(weight), sparsity).weight.data
    gone = pruned != weight
    assert (pruned[gone] == 0).all()
    assert (pruned == 0).sum() >= round(sparsity * weight.size)
    if gone.any() and (pruned != 0).any():
        assert np.abs(weight[gone]).max() <= np.abs(pruned[pruned != 0]).min()


@fixed
@given(arrays(np.float32, shapes, elements=few))
def test_csr_there_and_back(matrix):
    csr = to_csr(matrix)
    assert_close(csr.dense(), matrix, rtol=0, atol=0)
    assert len(csr.values) == len(csr.columns) == csr.starts[-1] == np.count_nonzero(matrix)


@fixed
@given(shapes, st.integers(1, 8), st.integers(0, 99))
def test_the_error_of_low_rank_is_the_discarded_singular_values(shape, rank, seed):
    layer, rank = Linear(*shape, rng=seed), min(rank, *shape)
    down, up = low_rank_approximate(layer, rank)
    s = np.linalg.svd(layer.weight.data.astype(np.float64), compute_uv=False)
    error = np.linalg.norm(layer.weight.data - down.weight.data.astype(np.float64) @ up.weight.data)
    assert_close(error, np.sqrt((s[rank:] ** 2).sum()), rtol=1e-4, atol=1e-6)


@fixed
@given(sizes, st.integers(1, 20), sizes, st.floats(0, 0.99), st.integers(0, 99))
def test_units_are_removed_from_both_sides(fan_in, units, fan_out, ratio, seed):
    model = Sequential(Linear(fan_in, units, rng=seed), ReLU(), Linear(units, fan_out, rng=seed + 1))
    pruned = structured_prune(model, ratio)
    left = pruned[0].out_features
    assert 1 <= left == pruned[2].in_features
    assert units * (1 - ratio) - 1e-6 <= left < units * (1 - ratio) + 1
    x = randn(3, fan_in, rng=seed)
    stay = [int(np.flatnonzero(model[0].bias.data == b)[0]) for b in pruned[0].bias.data]
    heard = model[:2](x).data[:, stay] @ model[2].weight.data[stay] + model[2].bias.data
    assert_close(pruned(x), heard, rtol=1e-4, atol=1e-5)


logits = arrays(np.float64, (3, 4), elements=st.floats(-20, 20))


@fixed
@given(logits, logits, st.floats(0.5, 20))
def test_a_divergence_is_never_negative(student, teacher, temperature):
    a, b = (Tensor(x, dtype=np.float64) for x in (student, teacher))
    assert distillation_loss(a, b, alpha=1, temperature=temperature).item() >= -1e-9


@fixed
@given(logits, logits, st.floats(0.5, 20))
def test_the_gradient_of_each_row_adds_up_to_nothing(student, teacher, temperature):
    s = Tensor(student, dtype=np.float64, requires_grad=True)
    distillation_loss(s, Tensor(teacher, dtype=np.float64), [0, 1, 2], temperature, 0.5).backward()
    assert_close(s.grad.sum(axis=1), np.zeros(3), atol=1e-9)
