"""Matrices without their zeros."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.layers import Linear
from tinytorch.core.tensor import Tensor
from tinytorch.optimization.compression import magnitude_prune, to_csr

HAND = np.array([[0, 5, 0, 1], [0, 0, 0, 0], [2, 0, 0, 0]], np.float32)


def test_by_hand():
    csr = to_csr(HAND)
    assert csr.values.tolist() == [5, 1, 2]
    assert csr.columns.tolist() == [1, 3, 0]
    assert csr.starts.tolist() == [0, 2, 2, 3]
    assert csr.shape == (3, 4)


@pytest.mark.parametrize(
    "matrix", [HAND, HAND.T, np.zeros((2, 3), np.float32), np.ones((3, 2), np.float32), np.zeros((0, 4), np.float32)]
)
def test_there_and_back(matrix):
    assert_close(to_csr(matrix).dense(), np.ascontiguousarray(matrix), rtol=0, atol=0)


def test_bytes_are_those_of_the_arrays():
    csr = to_csr(HAND)
    assert csr.nbytes == 3 * 4 + 3 * 2 + 4 * 4
    assert csr.values.dtype == np.float32


def test_bytes_shrink_with_the_weights_where_dense_ones_do_not():
    layer = Linear(100, 80, rng=0)
    full, tenth = (to_csr(magnitude_prune(layer, s).weight).nbytes for s in (0, 0.9))
    assert (full, tenth) == (8000 * 6 + 101 * 4, 800 * 6 + 101 * 4)
    assert magnitude_prune(layer, 0.9).weight.data.nbytes == layer.weight.data.nbytes


def test_many_columns_need_four_bytes():
    wide = np.zeros((1, 70_000), np.float32)
    wide[0, 69_999] = 3
    csr = to_csr(wide)
    assert csr.columns.tolist() == [69_999]
    assert_close(csr.dense(), wide, rtol=0, atol=0)


def test_tensors_are_matrices_too():
    assert_close(to_csr(Tensor(HAND)).dense(), HAND)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), ()])
def test_only_matrices(shape):
    with pytest.raises(ValueError, match="needs a matrix"):
        to_csr(np.ones(shape))
