"""Element by element operations, comparisons, broadcasting, and the matrix product."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import tensor as T
from tinytorch.core.tensor import Tensor, broadcast_shape, pair, power

A = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]], np.float32)
B = np.array([[2.0, 4.0, -1.0], [0.5, 2.0, 3.0]], np.float32)


def naive_matmul(a, b):
    """As many loops as there are letters."""
    M, K = a.shape
    N = b.shape[1]
    out = np.zeros((M, N), a.dtype)
    for i in range(M):
        for j in range(N):
            for k in range(K):
                out[i, j] += a[i, k] * b[k, j]
    return out


class TestElementwise:
    def test_add_sub_mul_div_of_a_worked_example(self):
        x, y = Tensor([6.0, 8.0]), Tensor([2.0, 4.0])
        assert (x + y).tolist() == [8, 12]
        assert (x - y).tolist() == [4, 4]
        assert (x * y).tolist() == [12, 32]
        assert (x / y).tolist() == [3, 2]

    def test_the_order_of_operands_counts_in_sub_div_and_pow(self):
        x = Tensor([2.0, 4.0])
        assert (1 - x).tolist() == [-1, -3]
        assert (x - 1).tolist() == [1, 3]
        assert (1 / x).tolist() == [0.5, 0.25]
        assert (x / 2).tolist() == [1, 2]
        assert (2**x).tolist() == [4, 16]
        assert (x**2).tolist() == [4, 16]
        assert (np.array([8.0, 8.0]) / x).tolist() == [4, 2]
        assert (np.array([8.0, 8.0]) - x).tolist() == [6, 4]

    @pytest.mark.parametrize("other", [B, B.tolist(), Tensor(B), tuple(map(tuple, B.tolist()))])
    def test_tensors_arrays_and_lists_stand_on_either_side(self, other):
        assert_close(Tensor(A) + other, A + B)
        assert_close(other + Tensor(A), A + B)
        assert_close(other - Tensor(A), B - A)
        assert_close(other * Tensor(A), A * B)

    def test_an_operator_gives_a_tensor_whatever_stands_left(self):
        for left in (1, 1.0, np.float32(1), np.float64(1), np.int64(1), True, A, A.tolist()):
            assert type(left + Tensor(A)) is Tensor

    def test_operands_are_left_as_they_were(self):
        x, y = Tensor(A), Tensor(B)
        x + y, x - y, x * y, x / y, y**2, -x, abs(x), x < y
        assert_close(x, A, rtol=0)
        assert_close(y, B, rtol=0)

    def test_a_sum_does_not_share_memory_with_its_operands(self):
        x = Tensor(A)
        assert not np.shares_memory((x + 0).data, x.data)

    def test_neg_abs_exp_log_sqrt(self):
        assert_close(-Tensor(A), -A)
        assert_close(abs(Tensor(A)), np.abs(A))
        assert_close(T.exp(Tensor([0.0, 1.0])), np.array([1, np.e], np.float32))
        assert_close(T.log(Tensor([1.0, np.e])), np.array([0, 1], np.float32))
        assert_close(T.sqrt(Tensor([4, 9])), np.array([2, 3], np.float32))

    def test_the_logarithm_of_0_is_minus_infinity_and_numpy_warns(self):
        with pytest.warns(RuntimeWarning, match="divide by zero"):
            assert T.log(Tensor([0.0, 1.0])).tolist() == [-np.inf, 0]
        with pytest.warns(RuntimeWarning, match="invalid value"):
            assert np.isnan(T.log(Tensor(-1.0)).item())

    def test_functions_take_numbers_and_lists_too(self):
        assert T.add(1, 2).item() == 3
        assert T.mul([1, 2], 3).tolist() == [3, 6]
        assert T.sqrt(4).item() == 2
        assert T.neg([1, -2]).tolist() == [-1, 2]
        assert T.abs([1, -2]).tolist() == [1, 2]


class TestPower:
    @pytest.mark.parametrize("exponent", [-2, -1, 0, 0.5, 1, 2, 3, 4, 2.5])
    def test_any_exponent(self, exponent):
        x = np.array([0.5, 1.0, 2.0, 3.0], np.float32)
        assert_close(Tensor(x) ** exponent, x**exponent)

    def test_a_negative_base_with_a_whole_exponent(self):
        assert (Tensor([-2.0, 3.0]) ** 2).tolist() == [4, 9]
        assert (Tensor([-2.0, 3.0]) ** 3).tolist() == [-8, 27]
        assert (Tensor([-2.0, 3.0]) ** 5).tolist() == [-32, 243]

    def test_an_exponent_for_every_element(self):
        assert (Tensor([2.0, 3.0]) ** Tensor([3.0, 2.0])).tolist() == [8, 9]
        assert (Tensor([[2.0], [3.0]]) ** [0, 1]).tolist() == [[1, 2], [1, 3]]
        assert (Tensor([2.0, 3.0]) ** [2, 2]).tolist() == [4, 9]

    def test_integers_to_a_power_stay_integers(self):
        assert_close(Tensor([2, -3]) ** 2, np.array([4, 9]))
        assert_close(Tensor([2, -3]) ** 3, np.array([8, -27]))
        assert_close(Tensor([4, 9]) ** 0.5, np.array([2, 3], np.float32))

    @pytest.mark.parametrize("exponent", [2, 3])
    def test_squares_and_cubes_are_products(self, exponent):
        x = np.random.default_rng(0).normal(size=100).astype(np.float32)
        product = x * x if exponent == 2 else x * x * x
        assert np.array_equal(power(x, np.array(exponent)), product)


class TestComparison:
    def test_comparisons_give_booleans(self):
        x = Tensor([1.0, 2.0, 3.0])
        assert (x == 2).tolist() == [False, True, False]
        assert (x != 2).tolist() == [True, False, True]
        assert (x < 2).tolist() == [True, False, False]
        assert (x <= 2).tolist() == [True, True, False]
        assert (x > 2).tolist() == [False, False, True]
        assert (x >= 2).tolist() == [False, True, True]
        assert (x > 2).dtype == np.bool_

    def test_comparisons_with_something_on_the_left(self):
        x = Tensor([1.0, 2.0, 3.0])
        assert (2 < x).tolist() == [False, False, True]  # noqa: SIM300
        assert (np.array([2.0, 2.0, 2.0]) >= x).tolist() == [True, True, False]
        assert (np.array([2.0, 2.0, 2.0]) == x).tolist() == [False, True, False]

    def test_comparisons_broadcast(self):
        assert (Tensor([[1], [2]]) == Tensor([1, 2])).tolist() == [[True, False], [False, True]]

    def test_labels_above_2_to_the_24_are_told_apart(self):
        assert (Tensor([2**24 + 1]) == 2**24).tolist() == [False]
        assert (Tensor([2**53 + 1]) == Tensor([2**53])).tolist() == [False]

    def test_a_tensor_is_not_equal_to_none_or_text(self):
        assert (Tensor([1.0]) == None) is False  # noqa: E711
        assert (Tensor([1.0]) != "a") is True

    def test_and_or_xor_not_on_masks_from_either_side(self):
        x, y = Tensor([True, True, False, False]), np.array([True, False, True, False])
        for left, right in ((x, y), (y, x), (x, Tensor(y))):
            assert (left & right).tolist() == [True, False, False, False]
            assert (left | right).tolist() == [True, True, True, False]
            assert (left ^ right).tolist() == [False, True, True, False]
        assert (~x).tolist() == [False, False, True, True]

    def test_logic_on_integers_works_on_bits(self):
        assert (Tensor([6]) & 3).tolist() == [2]
        assert (~Tensor([5])).tolist() == [-6]

    def test_any_and_all_over_everything_or_an_axis(self):
        x = Tensor([[True, False], [False, False]])
        assert (bool(x.any()), bool(x.all())) == (True, False)
        assert x.any(axis=1).tolist() == [True, False]
        assert x.all(axis=0, keepdims=True).tolist() == [[False, False]]


class TestBroadcasting:
    @pytest.mark.parametrize(
        ("shapes", "together"),
        [
            *((((2, 3), (3,)), (2, 3)), (((3,), (2, 3)), (2, 3)), (((2, 3), (2, 1)), (2, 3))),
            *((((4, 1), (4,)), (4, 4)), (((8, 1, 6, 1), (7, 1, 5)), (8, 7, 6, 5)), (((), (2, 3)), (2, 3))),
            *((((2, 3),), (2, 3)), (((1,), (0,)), (0,)), (((3, 1), (1, 4), (2, 1, 1)), (2, 3, 4))),
            *((((2, 1), (2, 0)), (2, 0)), (((), ()), ())),
        ],
    )
    def test_shapes_align_at_the_right_and_ones_stretch(self, shapes, together):
        assert broadcast_shape("add", *shapes) == together

    @pytest.mark.parametrize("shapes", [((2, 3), (2,)), ((2, 3), (3, 2)), ((0,), (2,)), ((2, 2), (3, 1, 3))])
    def test_shapes_that_do_not_fit_are_refused(self, shapes):
        with pytest.raises(ValueError, match="needs shapes that broadcast"):
            broadcast_shape("add", *shapes)

    @pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1), (2, 1), (1, 3), (2, 3), (4, 1, 1), (4, 2, 3)])
    def test_values_are_stretched_as_numpy_stretches_them(self, shape):
        other = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        assert_close(Tensor(A) + Tensor(other), A + other)
        assert_close(Tensor(other) * Tensor(A), other * A)

    def test_pair_gives_one_dtype_and_keeps_the_shapes(self):
        a, b = pair("add", Tensor([1, 2]), [[1.5], [2.5]])
        assert (a.dtype, b.dtype, a.shape, b.shape) == (np.float32, np.float32, (2,), (2, 1))

    def test_pair_hands_back_tensors_that_need_no_change(self):
        x, y = Tensor([1.0]), Tensor([2.0])
        assert pair("add", x, y)[0] is x
        assert pair("add", x, y)[1] is y


class TestMatmul:
    def test_a_worked_example(self):
        assert (Tensor([[1, 2], [3, 4]]) @ Tensor([[5, 6], [7, 8]])).tolist() == [[19, 22], [43, 50]]

    def test_three_loops_agree(self):
        rng = np.random.default_rng(0)
        a, b = rng.normal(size=(5, 7)).astype(np.float32), rng.normal(size=(7, 3)).astype(np.float32)
        assert_close(Tensor(a) @ Tensor(b), naive_matmul(a, b), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(
        ("a", "b"),
        [
            *(((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (3,))),
            *(((5, 2, 3), (5, 3, 4)), ((2, 3), (5, 3, 4)), ((3,), (5, 3, 4)), ((6, 1, 2, 3), (5, 3, 4))),
            *(((2, 6, 2, 3), (3, 4)), ((5, 2, 0), (0, 4)), ((0, 2, 3), (3, 4)), ((2, 0), (0, 4)), ((5, 0, 3), (3, 4))),
        ],
    )
    def test_shapes_are_those_of_numpy_and_so_are_the_values(self, a, b):
        rng = np.random.default_rng(1)
        a, b = rng.normal(size=a).astype(np.float32), rng.normal(size=b).astype(np.float32)
        assert_close(Tensor(a) @ Tensor(b), np.asarray(a @ b), rtol=1e-5, atol=1e-5)

    def test_transposed_operands(self):
        rng = np.random.default_rng(2)
        a, b = rng.normal(size=(4, 3, 2)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
        assert_close(Tensor(a).transpose(1, 2) @ Tensor(b).T, a.swapaxes(1, 2) @ b.T, rtol=1e-5, atol=1e-5)

    def test_an_array_on_the_left_or_right(self):
        assert_close(A @ Tensor(B).T, A @ B.T)
        assert_close(Tensor(A) @ B.T, A @ B.T)
        assert_close(Tensor(A) @ B.T.tolist(), A @ B.T)

    def test_integers_stay_integers_exactly(self):
        big = 2**24 + 1
        assert_close(Tensor([[big, 1]]) @ Tensor([[1], [1]]), np.array([[big + 1]]))
