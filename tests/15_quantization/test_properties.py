"""Facts that hold for all shapes and numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.core.tensor import Tensor
from tinytorch.optimization.quantization import Observer, dequantize_int8, int8_matmul, quantize_int8

numbers = st.floats(-(2.0**100), 2.0**100, width=32)
lists = st.lists(numbers, max_size=30)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(values=lists, symmetric=st.booleans())
def test_nothing_is_off_by_more_than_half_a_step(values, symmetric):
    x = np.array(values, np.float32)
    q, scale, zero_point = quantize_int8(Tensor(x), symmetric=symmetric)
    back = dequantize_int8(q, scale, zero_point).numpy().astype(np.float64)
    assert (np.abs(back - x) <= 0.5001 * float(scale)).all()


@settings(derandomize=True, deadline=None, max_examples=100)
@given(values=st.lists(st.integers(-127, 127), min_size=1, max_size=30), exponent=st.integers(-20, 20))
def test_what_is_on_the_grid_stays_where_it_is(values, exponent):
    x = np.array([*values, 127], np.float32) * np.float32(2.0**exponent)
    assert dequantize_int8(*quantize_int8(Tensor(x), symmetric=True)).tolist() == x.tolist()


@settings(derandomize=True, deadline=None, max_examples=100)
@given(values=st.lists(numbers, min_size=1, max_size=30), exponent=st.integers(-10, 10))
def test_the_bytes_do_not_depend_on_the_unit(values, exponent):
    x = np.array(values, np.float32)
    if 0 < np.abs(x).max() < 1e-20:
        x = x * np.float32(2.0**60)
    scaled = x * np.float32(2.0**exponent)
    for symmetric in (False, True):
        assert np.array_equal(
            quantize_int8(Tensor(x), symmetric=symmetric)[0], quantize_int8(Tensor(scaled), symmetric=symmetric)[0]
        )


@settings(derandomize=True, deadline=None, max_examples=100)
@given(values=lists)
def test_symmetric_bytes_of_the_negative_are_negative(values):
    x = np.array(values, np.float32)
    assert np.array_equal(quantize_int8(Tensor(-x), symmetric=True)[0], -quantize_int8(Tensor(x), symmetric=True)[0])


@settings(derandomize=True, deadline=None, max_examples=50)
@given(N=st.integers(0, 4), K=st.integers(0, 2500), M=st.integers(1, 4), seed=st.integers(0, 1000))
def test_integer_products_are_exact(N, K, M, seed):
    rng = np.random.default_rng(seed)
    a, b = (rng.choice([-128, -127, 0, 1, 127], shape).astype(np.int8) for shape in ((N, K), (K, M)))
    assert np.array_equal(int8_matmul(a, b), a.astype(np.int32) @ b.astype(np.int32))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(arrays=st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), min_size=1, max_size=5))
def test_a_histogram_loses_nothing_as_it_grows(arrays):
    observer = Observer(99)
    for array in arrays:
        observer.see(np.array(array))
    values = np.concatenate([np.array(array) for array in arrays])
    assert observer.counts.sum() == len(values)
    assert observer.reach >= np.abs(values).max()
    assert observer.counts.tolist() == np.histogram(values, 2048, (-observer.reach, observer.reach))[0].tolist()
