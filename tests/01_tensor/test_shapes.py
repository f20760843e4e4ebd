"""Reshaping, permuting, joining and cutting: which element goes where, and what shares memory."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import tensor as T
from tinytorch.core.tensor import Tensor, arange

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


class TestReshape:
    @pytest.mark.parametrize("shape", [(24,), (4, 6), (3, 2, 4), (2, 1, 12), (1, 24, 1), (2, 3, 4)])
    def test_elements_keep_their_order_row_by_row(self, shape):
        assert_close(Tensor(X).reshape(*shape), X.reshape(shape))
        assert_close(Tensor(X).reshape(shape), X.reshape(shape))
        assert_close(Tensor(X).reshape(list(shape)), X.reshape(shape))

    def test_a_worked_example(self):
        assert Tensor([[1, 2, 3], [4, 5, 6]]).reshape(3, 2).tolist() == [[1, 2], [3, 4], [5, 6]]

    @pytest.mark.parametrize(
        ("given", "want"), [((-1,), (24,)), ((6, -1), (6, 4)), ((-1, 4, 3), (2, 4, 3)), ((2, -1, 4, 1), (2, 3, 4, 1))]
    )
    def test_minus_1_is_what_is_left(self, given, want):
        assert Tensor(X).reshape(*given).shape == want

    def test_minus_1_in_an_empty_tensor(self):
        assert Tensor(np.ones((0, 3))).reshape(-1, 3).shape == (0, 3)
        assert Tensor(np.ones((2, 0))).reshape(0, -1).shape == (0, 0)

    def test_a_number_and_a_tensor_of_one_element(self):
        assert Tensor(5.0).reshape(1, 1).tolist() == [[5]]
        assert Tensor([[5.0]]).reshape(()).shape == ()

    def test_a_view_shares_memory_and_a_permuted_tensor_must_be_copied(self):
        x = Tensor(X)
        assert np.shares_memory(x.reshape(6, 4).data, x.data)
        assert not np.shares_memory(x.permute(2, 0, 1).reshape(24).data, x.data)
        assert_close(x.permute(2, 0, 1).reshape(24), X.transpose(2, 0, 1).reshape(24))

    def test_the_tensor_itself_keeps_its_shape(self):
        x = Tensor(X)
        x.reshape(24)
        assert x.shape == (2, 3, 4)


class TestPermute:
    @pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (-1, 0, 1)])
    def test_axis_i_of_the_result_is_axis_axes_i_of_x(self, axes):
        out = Tensor(X).permute(*axes)
        assert out.shape == tuple(X.shape[i] for i in axes)
        assert_close(out, X.transpose(axes))
        assert_close(T.permute(Tensor(X), axes), X.transpose(axes))

    def test_a_permuted_tensor_is_a_view(self):
        x = Tensor(X)
        assert np.shares_memory(x.permute(2, 0, 1).data, x.data)

    def test_T_and_transpose_without_axes_reverse_the_axes(self):
        assert_close(Tensor(X).T, X.T)
        assert_close(Tensor(X).transpose(), X.T)
        assert Tensor(3.0).T.shape == ()

    @pytest.mark.parametrize(("i", "j"), [(0, 1), (1, 2), (0, 2), (-1, 0), (-1, -2), (1, 1)])
    def test_transpose_and_swapaxes_exchange_two_axes(self, i, j):
        assert_close(Tensor(X).transpose(i, j), X.swapaxes(i, j))
        assert_close(Tensor(X).swapaxes(i, j), X.swapaxes(i, j))
        assert_close(T.transpose(X, i, j), X.swapaxes(i, j))

    def test_transpose_with_all_axes_permutes(self):
        assert_close(Tensor(X).transpose(1, 2, 0), X.transpose(1, 2, 0))

    def test_transposing_twice_is_nothing(self):
        assert_close(Tensor(X).transpose(0, 2).transpose(0, 2), X)


class TestFlattenSqueezeUnsqueeze:
    @pytest.mark.parametrize(
        ("start", "end", "shape"),
        [(0, -1, (24,)), (1, -1, (2, 12)), (0, 1, (6, 4)), (1, 1, (2, 3, 4)), (-2, 2, (2, 12))],
    )
    def test_flatten_joins_axes_start_to_end(self, start, end, shape):
        assert_close(Tensor(X).flatten(start, end), X.reshape(shape))

    def test_flatten_of_a_number_is_a_vector(self):
        assert Tensor(3.0).flatten().tolist() == [3]

    @pytest.mark.parametrize(
        ("axis", "shape"),
        [(None, (3, 4)), (0, (3, 1, 4)), (2, (1, 3, 4)), (-2, (1, 3, 4)), ((0, 2), (3, 4)), ((), None)],
    )
    def test_squeeze_drops_axes_of_length_1(self, axis, shape):
        x = Tensor(np.ones((1, 3, 1, 4)))
        assert x.squeeze(axis).shape == (shape or x.shape)

    @pytest.mark.parametrize(
        ("axis", "shape"), [(0, (1, 2, 3)), (1, (2, 1, 3)), (2, (2, 3, 1)), (-1, (2, 3, 1)), (-3, (1, 2, 3))]
    )
    def test_unsqueeze_makes_an_axis_of_length_1(self, axis, shape):
        assert Tensor(np.ones((2, 3))).unsqueeze(axis).shape == shape

    def test_unsqueeze_of_a_number(self):
        assert Tensor(3.0).unsqueeze(0).tolist() == [3]
        assert Tensor(3.0).unsqueeze(-1).tolist() == [3]


class TestBroadcastTo:
    def test_it_stretches_without_copying(self):
        x = Tensor([1.0, 2.0, 3.0])
        out = x.broadcast_to(1000, 3)
        assert_close(out, np.broadcast_to(x.data, (1000, 3)))
        assert out.data.strides == (0, 4)
        assert np.shares_memory(out.data, x.data)

    def test_shapes_as_a_tuple_too(self):
        assert T.broadcast_to(Tensor([[1.0], [2.0]]), (3, 2, 2)).shape == (3, 2, 2)
        assert Tensor(1.0).broadcast_to(2).tolist() == [1, 1]


class TestCatStackSplit:
    def test_cat_of_a_worked_example(self):
        x, y = Tensor([[1, 2], [3, 4]]), Tensor([[5, 6]])
        assert T.cat([x, y]).tolist() == [[1, 2], [3, 4], [5, 6]]
        assert T.cat([x, y.T], axis=1).tolist() == [[1, 2, 5], [3, 4, 6]]

    @pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
    def test_cat_along_every_axis(self, axis):
        assert_close(T.cat([Tensor(X), X + 1, Tensor(X)], axis), np.concatenate([X, X + 1, X], axis))

    def test_cat_of_one_and_of_an_empty_tensor(self):
        assert_close(T.cat([Tensor(X)]), X)
        assert_close(T.cat([Tensor(X), np.ones((0, 3, 4))]), X)

    def test_stack_of_a_worked_example(self):
        x, y = Tensor([1, 2]), Tensor([3, 4])
        assert T.stack([x, y]).tolist() == [[1, 2], [3, 4]]
        assert T.stack([x, y], axis=1).tolist() == [[1, 3], [2, 4]]
        assert T.stack([Tensor(1), Tensor(2)]).tolist() == [1, 2]

    @pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -4])
    def test_stack_at_every_place(self, axis):
        assert_close(T.stack([Tensor(X), X + 1], axis), np.stack([X, X + 1], axis))

    def test_generators_of_tensors_are_taken(self):
        assert T.cat(Tensor([i]) for i in range(3)).tolist() == [0, 1, 2]
        assert T.stack(Tensor(i) for i in range(3)).tolist() == [0, 1, 2]

    def test_split_into_pieces_of_one_size_the_last_may_be_shorter(self):
        assert [part.tolist() for part in T.split(arange(5), 2)] == [[0, 1], [2, 3], [4]]
        assert [part.tolist() for part in T.split(arange(4), 2)] == [[0, 1], [2, 3]]
        assert [part.tolist() for part in T.split(arange(3), np.int64(5))] == [[0, 1, 2]]

    def test_split_into_pieces_of_the_sizes_listed(self):
        parts = T.split(Tensor(X), [1, 0, 3], axis=-1)
        assert [part.shape for part in parts] == [(2, 3, 1), (2, 3, 0), (2, 3, 3)]
        assert_close(parts[2], X[..., 1:])

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_cat_puts_together_what_split_cut(self, axis):
        assert_close(T.cat(T.split(Tensor(X), 2, axis), axis), X)

    def test_pieces_are_views(self):
        x = Tensor(X)
        assert all(np.shares_memory(part.data, x.data) for part in x.split(1))


class TestPad:
    @pytest.mark.parametrize(
        "widths", [0, 1, (1, 2), ((1, 2),), ((1, 2), (0, 3)), ((1,), (2,)), [[0, 0], [1, 0]], np.int64(2)]
    )
    def test_widths_are_read_as_numpy_reads_them(self, widths):
        x = X[0]
        assert_close(T.pad(Tensor(x), widths, value=9), np.pad(x, widths, constant_values=9))

    def test_the_border_is_zero_unless_told_otherwise(self):
        assert T.pad(Tensor([1, 2]), 1).tolist() == [0, 1, 2, 0]
        assert T.pad(Tensor([1.0, 2.0]), 1, -np.inf).tolist() == [-np.inf, 1, 2, -np.inf]

    def test_a_number_has_no_border(self):
        assert T.pad(Tensor(3.0), 1).tolist() == 3


class TestOuterEinsum:
    def test_outer_of_a_worked_example(self):
        assert T.outer([1, 2, 3], [10, 20]).tolist() == [[10, 20], [20, 40], [30, 60]]

    @pytest.mark.parametrize(
        ("spec", "shapes"),
        [
            *(("i,i->", [(3,), (3,)]), ("i,j->ij", [(3,), (2,)]), ("ij,jk->ik", [(2, 3), (3, 4)])),
            *(("ij->ji", [(2, 3)]), ("ij->i", [(2, 3)]), ("ij->", [(2, 3)]), ("ij->ij", [(2, 3)])),
            *(("ij,kj", [(2, 3), (4, 3)]), ("ba", [(2, 3)]), ("bhtd,bhsd->bhts", [(2, 2, 3, 4), (2, 2, 5, 4)])),
            *(("...ij,...jk->...ik", [(2, 2, 3), (2, 3, 4)]), ("...ij,jk->...ik", [(5, 6, 2, 3), (3, 4)])),
            *(("...ij,...jk", [(5, 2, 3), (6, 5, 3, 4)]), ("i...->...", [(2, 3, 4)]), ("...", [(2, 3)])),
            *(
                ("ij,ij,j->i", [(2, 3), (2, 3), (3,)]),
                ("ij,ij->ij", [(1, 3), (2, 3)]),
                (" i j , j -> i ", [(2, 3), (3,)]),
            ),
            *(("Zi,ZY->iY", [(2, 3), (2, 4)]), ("Zi...,Z->...", [(2, 3, 5), (2,)]), (",i->i", [(), (3,)])),
        ],
    )
    def test_einsum_reads_its_letters_as_numpy_does(self, spec, shapes):
        rng = np.random.default_rng(0)
        arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
        assert_close(T.einsum(spec, *arrays), np.asarray(np.einsum(spec, *arrays)), rtol=1e-4, atol=1e-5)

    def test_einsum_of_integers_stays_exact(self):
        assert_close(T.einsum("i,i->", [2**24 + 1, 1], [1, 1]), np.array(2**24 + 2))
