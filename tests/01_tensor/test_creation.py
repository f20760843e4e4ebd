"""What goes into a tensor, what it looks like, and what comes out again."""

import copy
import pickle

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import tensor as T
from tinytorch.core.tensor import Tensor, as_array, from_numpy, manual_seed, tensor


class TestDtypeOfWhatGoesIn:
    @pytest.mark.parametrize(
        ("data", "dtype"),
        [
            *((1.5, np.float32), ([1.5, 2], np.float32), (np.float64(1), np.float32), (np.ones(2), np.float32)),
            *((np.ones(2, np.longdouble), np.float32), (np.ones(2, np.float32), np.float32), ([], np.float32)),
            *((np.ones(2, np.float16), np.float16), (3, np.int64), ([1, 2], np.int64), (range(3), np.int64)),
            *((np.ones(2, np.int32), np.int32), (np.ones(2, np.uint8), np.uint8), (True, np.bool_)),
            *(([True, False], np.bool_), ([True, 2], np.int64), ([True, 2.5], np.float32)),
        ],
    )
    def test_floats_become_float32_and_everything_else_stays(self, data, dtype):
        assert Tensor(data).dtype == dtype
        assert as_array(data).dtype == dtype

    @pytest.mark.parametrize("dtype", [np.float64, "float64", np.float16, np.int32, bool, np.dtype("uint8")])
    def test_a_dtype_asked_for_is_the_dtype_given(self, dtype):
        assert Tensor([0.0, 1.0], dtype=dtype).dtype == np.dtype(dtype)
        assert tensor([0, 1], dtype=dtype).dtype == np.dtype(dtype)

    def test_float64_asked_for_keeps_its_digits(self):
        assert Tensor(0.1, dtype=np.float64).item() == 0.1
        assert Tensor(np.array([0.1]), dtype="float64").tolist() == [0.1]

    def test_whole_numbers_above_2_to_the_24_survive(self):
        assert Tensor([2**24 + 1, 2**53 + 1]).tolist() == [2**24 + 1, 2**53 + 1]

    def test_a_tensor_of_tensors_stacks_their_values(self):
        assert_close(Tensor([Tensor([1.0, 2.0]), Tensor([3.0, 4.0])]), np.array([[1, 2], [3, 4]], np.float32))
        assert Tensor([Tensor(1), Tensor(2)]).tolist() == [1, 2]


class TestMemory:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
    def test_a_tensor_copies_what_it_is_given(self, dtype):
        array = np.ones(3, dtype)
        x, y = Tensor(array), Tensor(array, dtype=dtype)
        z = Tensor(y)
        array[0] = 5
        y.data[1] = 6
        assert x.tolist() == [1, 1, 1]
        assert z.tolist() == [1, 1, 1]

    def test_the_copy_of_a_transposed_array_is_contiguous(self):
        assert Tensor(np.ones((2, 3), np.float32).T).data.flags.c_contiguous

    def test_from_numpy_shares_memory_and_keeps_float64(self):
        array = np.ones(3)
        x = from_numpy(array)
        array[0] = 5
        assert x.tolist() == [5, 1, 1]
        assert x.dtype == np.float64

    def test_numpy_and_detach_share_memory_and_copy_does_not(self):
        x = Tensor([1.0, 2.0])
        assert x.numpy() is x.data
        assert x.detach().data is x.data
        assert not np.shares_memory(x.copy().data, x.data)

    def test_a_matrix_subclass_becomes_a_plain_array(self):
        class Special(np.ndarray):
            pass

        assert type(Tensor(np.ones(2).view(Special)).data) is np.ndarray


class TestWhatItIs:
    def test_shape_ndim_size_dtype_are_those_of_the_array(self):
        x = Tensor(np.ones((2, 3, 4)))
        assert (x.shape, x.ndim, x.size, x.dtype) == ((2, 3, 4), 3, 24, np.float32)
        assert (Tensor(1).shape, Tensor(1).ndim, Tensor(1).size) == ((), 0, 1)

    def test_shape_follows_when_data_is_replaced(self):
        x = Tensor([1.0, 2.0])
        x.data = np.ones((3, 1), np.float32)
        assert x.shape == (3, 1)

    def test_len_and_iteration_go_over_the_first_axis(self):
        x = Tensor([[1, 2], [3, 4], [5, 6]])
        assert len(x) == 3
        assert [row.tolist() for row in x] == [[1, 2], [3, 4], [5, 6]]

    def test_in_asks_for_a_value(self):
        assert 2.0 in Tensor([1.0, 2.0])
        assert 3.0 not in Tensor([1.0, 2.0])

    def test_one_element_of_any_shape_is_a_number(self):
        x = Tensor([[2.5]])
        assert (x.item(), float(x), int(x), bool(x), bool(Tensor([0.0]))) == (2.5, 2.5, 2, True, False)
        assert type(x.item()) is float
        assert type(Tensor([3]).item()) is int

    def test_an_integer_tensor_counts_and_indexes(self):
        assert list(range(5))[Tensor(3)] == 3
        assert [*range(Tensor(2))] == [0, 1]

    def test_one_number_can_be_formatted(self):
        assert f"{Tensor(2.5):.2f} {Tensor([7]):03d}" == "2.50 007"
        assert f"{Tensor([1.0, 2.0])}" == "Tensor([1., 2.])"

    def test_tolist_gives_python_numbers(self):
        assert Tensor([[1.0, 2.5]]).tolist() == [[1.0, 2.5]]
        assert type(Tensor([[1.0, 2.5]]).tolist()[0][0]) is float

    def test_numpy_reads_a_tensor(self):
        x = Tensor([1.0, 2.0])
        assert np.asarray(x) is x.data
        assert np.asarray(x, np.float64).dtype == np.float64
        assert not np.shares_memory(np.array(x), x.data)

    def test_tensors_are_keys_by_identity(self):
        x, y = Tensor([1.0]), Tensor([1.0])
        assert {x: "x", y: "y"}[x] == "x"


class TestRepr:
    @pytest.mark.parametrize(
        ("x", "text"),
        [
            (Tensor([1.0, 2.5]), "Tensor([1. , 2.5])"),
            (Tensor(3), "Tensor(3)"),
            (Tensor([True]), "Tensor([ True])"),
            (Tensor([[1, 2], [3, 4]]), "Tensor([[1, 2],\n        [3, 4]])"),
            (Tensor(1 / 3), "Tensor(0.3333)"),
            (Tensor([1.0], requires_grad=True), "Tensor([1.], requires_grad=True)"),
            (Tensor([1.0], dtype=np.float64), "Tensor([1.], dtype=float64)"),
            (Tensor(np.ones((2, 0))), "Tensor([], shape=(2, 0))"),
        ],
    )
    def test_it_shows_values_and_what_is_unusual(self, x, text):
        assert repr(x) == text
        assert str(x) == text

    def test_a_long_tensor_shows_its_ends_and_its_shape(self):
        text = repr(Tensor(np.zeros((50, 40))))
        assert "..." in text
        assert text.endswith("shape=(50, 40))")
        assert len(text) < 1000


class TestRequiresGrad:
    def test_it_is_off_unless_asked_for(self):
        assert Tensor([1.0]).requires_grad is False
        assert Tensor([1.0], requires_grad=True).requires_grad is True
        assert tensor([1.0], requires_grad=True).requires_grad is True

    def test_it_can_be_switched_on_a_leaf(self):
        x = Tensor([1.0])
        x.requires_grad = True
        assert x.requires_grad is True
        x.requires_grad = False
        assert x.requires_grad is False

    def test_grad_is_none_before_backward_and_after_zero_grad(self):
        x = Tensor([1.0], requires_grad=True)
        assert x.grad is None
        x.grad = np.ones(1, np.float32)
        x.zero_grad()
        assert x.grad is None

    def test_detach_and_copies_of_the_data_do_not_inherit_it(self):
        x = Tensor([1.0], requires_grad=True)
        assert x.detach().requires_grad is False
        assert Tensor(x).requires_grad is False


class TestCopies:
    @pytest.mark.parametrize("flag", [True, False])
    def test_a_deep_copy_has_an_array_of_its_own_and_the_same_flag_and_dtype(self, flag):
        x = Tensor([1.0, 2.0], dtype=np.float64)
        x.requires_grad = flag
        y = copy.deepcopy(x)
        x.data[0] = 9
        assert (y.tolist(), y.dtype, y.requires_grad) == ([1, 2], np.float64, flag)

    def test_a_frozen_tensor_stays_marked_as_frozen_in_a_deep_copy(self):
        x = Tensor([1.0], requires_grad=True)
        x.requires_grad = False
        assert copy.deepcopy(x)._asked
        assert not copy.deepcopy(Tensor([1.0]))._asked

    def test_a_tensor_shared_in_a_structure_is_shared_in_its_deep_copy(self):
        x = Tensor([1.0])
        first, second = copy.deepcopy([x, x])
        assert first is second

    def test_a_leaf_survives_pickling(self):
        x = pickle.loads(pickle.dumps(Tensor([1.0, 2.0], requires_grad=True)))
        assert (x.tolist(), x.requires_grad) == ([1, 2], True)


class TestMakers:
    @pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 0, 3)])
    def test_zeros_and_ones_take_a_shape_as_numbers_or_as_one_tuple_or_list(self, shape):
        for made in (T.zeros(*shape), T.zeros(shape), T.zeros(list(shape))):
            assert_close(made, np.zeros(shape, np.float32))
        assert_close(T.ones(*shape), np.ones(shape, np.float32))

    def test_full_takes_the_dtype_of_its_value(self):
        assert_close(T.full((2, 3), 1.5), np.full((2, 3), 1.5, np.float32))
        assert_close(T.full(2, 7), np.full(2, 7))
        assert_close(T.full((2,), True), np.full(2, True))

    def test_eye_arange_and_linspace(self):
        assert_close(T.eye(2), np.eye(2, dtype=np.float32))
        assert_close(T.eye(2, 3), np.eye(2, 3, dtype=np.float32))
        assert_close(T.arange(4), np.arange(4))
        assert_close(T.arange(2, 8, 3), np.array([2, 5]))
        assert_close(T.arange(0.0, 1.0, 0.25), np.array([0, 0.25, 0.5, 0.75], np.float32))
        assert_close(T.linspace(0, 1, 5), np.array([0, 0.25, 0.5, 0.75, 1], np.float32))

    @pytest.mark.parametrize(
        "make",
        [
            lambda **k: T.zeros(2, **k),
            lambda **k: T.ones(2, **k),
            lambda **k: T.full((2,), 1.0, **k),
            lambda **k: T.eye(2, **k),
            lambda **k: T.arange(2.0, **k),
            lambda **k: T.linspace(0, 1, 2, **k),
            lambda **k: T.rand(2, **k),
            lambda **k: T.randn(2, **k),
        ],
    )
    def test_all_are_float32_unless_told_otherwise_and_can_require_gradients(self, make):
        assert make().dtype == np.float32
        assert make(dtype=None).dtype == np.float32
        assert make(dtype="float64").dtype == np.float64
        assert make(dtype=np.float16).dtype == np.float16
        assert make().requires_grad is False
        assert make(requires_grad=True).requires_grad is True

    def test_whole_number_makers_are_int64(self):
        assert T.arange(3).dtype == np.int64
        assert T.randint(0, 3, (2,)).dtype == np.int64
        assert T.randint(0, 3, 2, dtype=np.int32).dtype == np.int32


class TestRandom:
    def draw(self):
        return [T.rand(3).tolist(), T.randn(2, 2).tolist(), T.randint(0, 100, (4,)).tolist()]

    def test_a_seed_repeats_everything_drawn_after_it(self):
        manual_seed(5)
        first = self.draw()
        second = self.draw()
        manual_seed(5)
        assert self.draw() == first
        assert first != second

    def test_another_seed_gives_other_numbers(self):
        assert T.rand(8, rng=1).tolist() != T.rand(8, rng=2).tolist()

    def test_rng_as_a_seed_or_a_generator_leaves_the_library_s_own_alone(self):
        manual_seed(5)
        first = self.draw()
        manual_seed(5)
        assert T.rand(3, rng=7).tolist() == T.rand(3, rng=np.random.default_rng(7)).tolist()
        assert self.draw() == first

    def test_a_generator_given_moves_on(self):
        rng = np.random.default_rng(0)
        assert T.generator(rng) is rng
        assert T.randn(3, rng=rng).tolist() != T.randn(3, rng=rng).tolist()

    def test_rand_is_uniform_and_randn_normal(self):
        uniform, normal = T.rand(100, 1000, rng=0).data, T.randn(100, 1000, rng=0).data
        assert uniform.shape == normal.shape == (100, 1000)
        assert 0 <= uniform.min() < 0.001
        assert 0.999 < uniform.max() < 1
        assert abs(uniform.mean() - 0.5) < 0.01
        assert abs(normal.mean()) < 0.01
        assert abs(normal.std() - 1) < 0.01

    def test_randint_draws_every_number_below_high(self):
        assert set(T.randint(2, 5, (200,), rng=0).tolist()) == {2, 3, 4}

    def test_nothing_is_asked_of_numpy_s_global_generator(self):
        state = np.random.get_state()[1].copy()  # noqa: NPY002
        manual_seed(1)
        self.draw()
        assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
