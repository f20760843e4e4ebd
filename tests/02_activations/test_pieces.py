"""Large arrays are worked through in pieces; nobody can tell from the result."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import activations
from tinytorch.core.activations import _PIECE, _pieces, gelu, log_softmax, silu, softmax, tanh
from tinytorch.core.tensor import Tensor

LARGE = np.random.default_rng(0).normal(size=(3, 803, 127)).astype(np.float32)  # a piece and a sixth
SMALL_PIECE = 100


@pytest.fixture
def short_pieces(monkeypatch):
    monkeypatch.setattr(activations, "_PIECE", SMALL_PIECE)


def test_what_fits_into_one_piece_is_left_as_it_is():
    x, out = np.ones((4, 5)), np.empty((4, 5))
    ((a, b),) = _pieces(x, out)
    assert a is x
    assert b is out


def test_pieces_without_an_axis_are_flat_and_together_the_whole():
    x = np.arange(_PIECE + 7)
    (first, second) = (piece for (piece,) in _pieces(x))
    assert (len(first), len(second)) == (_PIECE, 7)
    assert np.array_equal(np.concatenate([first, second]), x)


def test_pieces_along_the_last_axis_are_whole_rows(short_pieces):
    x = np.zeros((2, 9, 30))
    assert [piece.shape for (piece,) in _pieces(x, axis=-1)] == [(3, 30)] * 6


def test_a_row_longer_than_a_piece_is_not_cut(short_pieces):
    x = np.zeros((2, SMALL_PIECE + 1))
    assert [piece.shape for (piece,) in _pieces(x, axis=-1)] == [(1, SMALL_PIECE + 1)] * 2


@pytest.mark.parametrize("axis", [-2, -3])
def test_along_another_axis_there_is_one_piece(axis, short_pieces):
    x = np.zeros((20, 9, 3))
    ((piece,),) = _pieces(x, axis=axis)
    assert piece is x


def test_pieces_lie_side_by_side_and_write_through(short_pieces):
    x, out = np.arange(250.0).reshape(10, 25), np.zeros((10, 25))
    for a, b in _pieces(x, out):
        b[...] = 2 * a
    assert np.array_equal(out, 2 * x)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("function", [silu, gelu])
def test_elementwise_functions_of_large_arrays(function, order, monkeypatch):
    x = np.asarray(LARGE, order=order)
    got = function(Tensor(x))
    monkeypatch.setattr(activations, "_PIECE", x.size)
    assert_close(got, function(Tensor(x)).data, rtol=0, atol=0)


def test_a_transposed_view_of_a_large_array():
    x = Tensor(LARGE).permute(2, 0, 1)
    assert_close(gelu(x), gelu(Tensor(LARGE)).data.transpose(2, 0, 1), rtol=0, atol=0)


@pytest.mark.parametrize("dim", [0, 1, 2])
@pytest.mark.parametrize("function", [softmax, log_softmax])
def test_softmax_of_large_arrays_along_every_axis(function, dim, monkeypatch):
    got = function(Tensor(LARGE), dim)
    monkeypatch.setattr(activations, "_PIECE", LARGE.size)
    assert_close(got, function(Tensor(LARGE), dim).data, rtol=0, atol=0)
    totals = got.data if function is softmax else np.exp(got.data)
    assert_close(totals.sum(axis=dim), np.ones_like(totals.sum(axis=dim)), rtol=1e-5)


@pytest.mark.parametrize("function", [silu, gelu, softmax, log_softmax, tanh])
@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
def test_nothing_gives_nothing(function, shape, short_pieces):
    assert function(Tensor(np.zeros(shape))).shape == shape
