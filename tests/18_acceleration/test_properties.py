"""What holds for any shape, tile, block and number of threads."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.core.activations import silu, softmax
from tinytorch.core.tensor import from_numpy
from tinytorch.optimization.acceleration import (
    Roofline,
    blocked_softmax,
    blocks,
    by_rows,
    naive_matmul,
    parallel,
    rowwise_matmul,
    swiglu,
    threaded_matmul,
    tiled_matmul,
)

fixed = settings(derandomize=True, deadline=None, max_examples=25)
few = st.integers(0, 6)
some = st.integers(0, 40)
least = st.integers(1, 12)
threads = st.integers(1, 4)
positive = st.floats(1e-3, 1e3)


def matrix(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@fixed
@given(st.integers(0, 500), st.integers(1, 600))
def test_blocks_cover_everything_once_in_order(n, size):
    parts = blocks(n, size)
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(n))
    assert all(part.stop - part.start == size for part in parts[:-1])


@fixed
@given(few, few, few)
def test_the_definition_is_the_product(M, K, N):
    a, b = matrix(0, M, K), matrix(1, K, N)
    for product in (naive_matmul, rowwise_matmul):
        assert np.abs(product(a, b) - a @ b).max(initial=0) < 1e-12


@fixed
@given(some, some, some, st.integers(1, 50))
def test_tiles_of_any_size_give_the_product(M, K, N, tile):
    a, b = matrix(0, M, K), matrix(1, K, N)
    got = tiled_matmul(a, b, tile)
    assert got.shape == (M, N)
    assert np.abs(got - a @ b).max(initial=0) < 1e-12


@fixed
@given(some, some, some, least, threads)
def test_threads_give_the_product_and_change_no_bit(M, K, N, rows, count):
    a, b = matrix(0, M, K, dtype=np.float32), matrix(1, K, N, dtype=np.float32)
    got = threaded_matmul(a, b, rows, count)
    assert np.abs(got - a @ b).max(initial=0) < 1e-4
    np.testing.assert_array_equal(got, threaded_matmul(a, b, rows, 1))


@fixed
@given(some, least, st.integers(1, 200), threads)
def test_a_softmax_in_blocks_is_a_softmax_and_threads_change_no_bit(M, C, block, count):
    x = matrix(M, M, C, dtype=np.float32)
    got = blocked_softmax(x, None, count, block)
    assert np.abs(got - softmax(from_numpy(x)).data).max(initial=0) < 1e-6
    assert np.abs(got.sum(axis=1) - 1).max(initial=0) < 1e-5
    np.testing.assert_array_equal(got, blocked_softmax(x, None, 1, block))


@fixed
@given(some, least, st.floats(0.1, 30), threads)
def test_swiglu_is_silu_times_x(M, C, size, count):
    gate, x = (matrix(seed, M, C) * size for seed in range(2))
    got = swiglu(from_numpy(gate), from_numpy(x), count).data
    want = silu(from_numpy(gate)).data * x
    assert np.abs(got - want).max(initial=0) <= 1e-12 * max(1, size * size)


@fixed
@given(st.lists(st.integers(-9, 9), max_size=30), threads)
def test_parallel_is_map(parts, count):
    assert parallel(lambda n: n * n, parts, count) == [n * n for n in parts]


@fixed
@given(some, least, st.integers(1, 100), threads)
def test_every_row_has_its_turn_once(M, C, block, count):
    turns = np.zeros((M, C))

    def kernel(turns):
        turns += 1

    by_rows(kernel, turns, threads=count, block=block)
    assert (turns == 1).all()


@fixed
@given(positive, positive, positive)
def test_nothing_is_above_the_roof_and_something_touches_it(peak, bandwidth, intensity):
    roof = Roofline(peak, bandwidth)
    best = roof.attainable(intensity)
    assert best <= peak
    assert best <= bandwidth * intensity
    assert best in (peak, bandwidth * intensity)
    assert (intensity >= roof.ridge) == (best == peak) or abs(intensity / roof.ridge - 1) < 1e-9
