"""What changes a tensor in place, what only looks like it, and what is refused; every change is counted."""

import operator

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import tensor as T
from tinytorch.core.tensor import Tensor, from_numpy, set_recorder

UPDATES = {operator.iadd: T.add, operator.isub: T.sub, operator.imul: T.mul, operator.itruediv: T.div}
updates = pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.__name__)
WRITES = {
    "an element": ((0, 1), 9),
    "a negative index": (-1, 9),
    "a row": (1, [7, 8, 9]),
    "a column": ((slice(None), 0), [7, 8]),
    "everything": (..., 0),
    "a mask": (np.array([[True, False, True], [False, False, True]]), -1),
    "a mask and as many values": (np.array([[True, False, True], [False, False, False]]), [7, 8]),
    "a list": ([1, 0], [[1, 2, 3], [4, 5, 6]]),
    "an array of a column": ((slice(None), np.array([2, 0])), 9),
    "a row that is stretched": (slice(None), np.array([7.0, 8.0, 9.0])),
    "nothing": (slice(0, 0), 9),
}


@pytest.fixture
def x():
    return Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


@pytest.fixture
def tracked():
    """A recorder that marks what depends on a tensor with requires_grad, as module 05 will."""

    def mark(out, op, inputs, saved):
        if any(x.requires_grad for x in inputs):
            out._grad_fn, out._requires_grad = op, True
            for x in inputs:
                x._used = True

    before = set_recorder(mark)
    yield
    set_recorder(before)


class TestUpdates:
    def test_a_worked_example(self):
        x = Tensor([1.0, 2.0])
        x += 1
        assert x.tolist() == [2, 3]
        x -= [1.0, 0.0]
        assert x.tolist() == [1, 3]
        x *= Tensor([2.0, 4.0])
        assert x.tolist() == [2, 12]
        x /= 2
        assert x.tolist() == [1, 6]

    @updates
    @pytest.mark.parametrize(
        "other", [2, 2.5, [4.0, 5.0, 6.0], np.float64(2), np.full((2, 1), 3.0), Tensor([[1], [2]])]
    )
    def test_they_compute_what_the_operator_computes_and_keep_the_tensor_and_its_dtype(self, update, other, x):
        kept = x
        want = UPDATES[update](x, other)
        x = update(x, other)
        assert x is kept
        assert_close(x, want.data, rtol=0, atol=0)
        assert x.dtype == np.float32

    @pytest.mark.parametrize("update", [operator.iadd, operator.isub, operator.imul])
    def test_integers_beside_whole_numbers_stay_integers(self, update):
        x = Tensor([6, 8])
        assert_close(update(x, 2), UPDATES[update](np.array([6, 8]), 2).data)

    def test_integers_cannot_be_divided_in_place(self):
        x = Tensor([6, 8])
        with pytest.raises(ValueError, match=r"in-place div cannot turn int64 \(2,\) into float32 \(2,\)"):
            x /= 2
        assert_close(x, np.array([6, 8]))

    @updates
    def test_the_array_is_a_new_one_so_that_views_and_old_arrays_keep_their_values(self, update, x):
        array, row, detached, shared = x.data, x[0], x.detach(), x.reshape(6)
        update(x, 2)
        assert array.tolist() == [[1, 2, 3], [4, 5, 6]]
        assert row.tolist() == [1, 2, 3]
        assert detached.tolist() == [[1, 2, 3], [4, 5, 6]]
        assert shared.tolist() == [1, 2, 3, 4, 5, 6]
        assert not np.shares_memory(x.data, array)

    @updates
    def test_a_tensor_updated_by_itself(self, update, x):
        want = {operator.iadd: 6, operator.isub: 0, operator.imul: 9, operator.itruediv: 1}[update]
        assert update(x, x).data[0, 2] == want

    @pytest.mark.parametrize("other", [np.ones((4, 2, 3)), np.ones((1, 2, 3))])
    def test_an_update_that_would_change_the_shape_is_refused(self, other, x):
        with pytest.raises(ValueError, match=r"in-place add cannot turn float32 \(2, 3\) into float32"):
            x += other
        assert (x.tolist(), x._version) == ([[1, 2, 3], [4, 5, 6]], 0)

    @pytest.mark.parametrize(
        ("make", "other", "message"),
        [
            (lambda: Tensor([1, 2]), 1.5, r"cannot turn int64 \(2,\) into float32 \(2,\)"),
            (lambda: Tensor([1, 2]), np.ones(2), r"cannot turn int64 \(2,\) into float32 \(2,\)"),
            (lambda: Tensor([True]), 1, r"cannot turn bool \(1,\) into int64 \(1,\)"),
            (lambda: Tensor([1.0]), Tensor([1.0], dtype=np.float64), r"cannot turn float32 \(1,\) into float64 \(1,\)"),
            (lambda: Tensor([1, 2], dtype=np.int8), Tensor([1, 2]), "cannot turn int8"),
        ],
    )
    def test_an_update_that_would_change_the_dtype_is_refused(self, make, other, message):
        x, before = make(), make()
        with pytest.raises(ValueError, match="in-place mul " + message):
            x *= other
        assert_close(x, before.data)
        assert (x.dtype, x._version) == (before.dtype, 0)

    @pytest.mark.parametrize(("other", "error"), [(np.ones(2), ValueError), (None, TypeError), ("a", TypeError)])
    def test_an_update_that_cannot_be_computed_changes_nothing(self, other, error, x):
        array = x.data
        with pytest.raises(error, match="add needs"):
            x += other
        assert x.data is array
        assert (x.tolist(), x._version) == ([[1, 2, 3], [4, 5, 6]], 0)

    def test_an_update_is_announced_as_the_operation_it_is(self, x, heard):
        y = x
        x -= 1
        [(_, op, inputs, _)] = heard
        assert op == "sub"
        assert inputs[0] is y

    def test_the_other_assignments_only_move_the_name_to_a_new_tensor(self, x):
        for update, other in [(operator.ipow, 2), (operator.imatmul, [[1.0], [2.0], [3.0]])]:
            assert update(x, other) is not x
        assert (x.tolist(), x._version) == ([[1, 2, 3], [4, 5, 6]], 0)
        mask = x > 2
        assert operator.iand(mask, x > 5) is not mask
        assert mask.sum().item() == 4


class TestDataAssignment:
    def test_an_array_is_taken_as_it_is(self, x):
        array = np.ones((3, 1), np.float32)
        x.data = array
        assert x.data is array
        assert (x.shape, x.ndim, x.size) == ((3, 1), 2, 3)

    @pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, np.bool_])
    def test_the_dtype_is_that_of_the_array(self, dtype, x):
        x.data = np.ones(2, dtype)
        assert x.dtype == dtype

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("data", [[1, 2], (1.0, 2.0), Tensor([1, 2]), Tensor([1.0, 2.0], dtype=np.float64)])
    def test_lists_and_tensors_are_copied_in_the_dtype_of_a_floating_tensor(self, data, dtype):
        x = Tensor([0.0], dtype=dtype)
        x.data = data
        assert (x.tolist(), x.dtype) == ([1, 2], dtype)
        assert not (isinstance(data, Tensor) and np.shares_memory(x.data, data.data))

    def test_a_list_of_floats_loses_no_fraction_to_an_integer_tensor(self):
        x = Tensor([1, 2])
        x.data = [1.5, 2.5]
        assert_close(x, np.array([1.5, 2.5], np.float32))

    @pytest.mark.parametrize("data", [None, "a", np.array(["a"]), [None], 1j, np.array([1j])])
    def test_what_is_no_number_is_refused_and_changes_nothing(self, data, x):
        array = x.data
        with pytest.raises(TypeError, match="needs numbers|cannot take data of"):
            x.data = data
        assert x.data is array
        assert x._version == 0

    def test_ragged_rows_are_refused_and_change_nothing(self, x):
        array = x.data
        with pytest.raises(ValueError, match="rectangular"):
            x.data = [[1.0], [2.0, 3.0]]
        assert x.data is array
        assert x._version == 0

    def test_it_keeps_what_was_said_about_gradients(self):
        x = Tensor([1.0], requires_grad=True)
        x.grad = np.ones(1, np.float32)
        x.data = np.zeros(1, np.float32)
        assert x.requires_grad
        assert x.grad.tolist() == [1]

    def test_an_update_of_the_data_writes_into_the_array_and_is_counted(self, x):
        array = x.data
        x.data -= 1
        assert x.data is array
        assert (x.tolist(), x._version) == ([[0, 1, 2], [3, 4, 5]], 1)


class TestWriting:
    @pytest.mark.parametrize(("index", "value"), WRITES.values(), ids=WRITES)
    def test_as_numpy_writes(self, index, value, x):
        want = x.data.copy()
        want[index] = value
        x[index] = value
        assert_close(x, want, rtol=0, atol=0)

    @pytest.mark.parametrize(("index", "value"), WRITES.values(), ids=WRITES)
    def test_tensors_in_place_of_arrays_as_index_and_as_value(self, index, value, x):
        want = x.data.copy()
        want[index] = value
        parts = index if isinstance(index, tuple) else (index,)
        boxed = tuple(Tensor(part) if isinstance(part, (list, np.ndarray)) else part for part in parts)
        x[boxed] = Tensor(value)
        assert_close(x, want, rtol=0, atol=0)

    def test_a_comparison_is_an_index(self, x):
        x[x > 4] = 0
        assert x.tolist() == [[1, 2, 3], [4, 0, 0]]

    def test_it_writes_into_the_array_itself_and_views_see_it(self, x):
        array, row = x.data, x[0]
        x[0, 0] = 9
        assert x.data is array
        assert row.tolist() == [9, 2, 3]

    def test_a_view_writes_into_the_tensor_it_was_taken_from(self, x):
        row = x[0]
        row[1] = 9
        assert x.tolist() == [[1, 9, 3], [4, 5, 6]]

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_])
    def test_the_dtype_stays(self, dtype):
        x = Tensor([0, 1], dtype=dtype)
        x[0] = np.float64(1)
        x[1] = Tensor([1.0], dtype=np.float64).reshape(())
        assert (x.dtype, x.tolist()) == (dtype, [1, 1])

    @pytest.mark.parametrize(
        ("index", "value", "error"),
        [
            *((2, 0, IndexError), ((0, 3), 0, IndexError), ((0, 0, 0), 0, IndexError), ("a", 0, IndexError)),
            *(([0.5], 0, TypeError), (Tensor([0.0]), 0, TypeError), (np.array([True, False, True]), 0, IndexError)),
            *((0, [1, 2], ValueError), (slice(None), np.ones((3, 2)), ValueError), (0, "a", ValueError)),
            *((0, np.ones((2, 3)), ValueError), ((0, 0), 1j, TypeError), ([0, 1], [[1, 2]], ValueError)),
        ],
    )
    def test_what_cannot_be_written_changes_nothing(self, index, value, error, x):
        with pytest.raises(error):
            x[index] = value
        assert (x.tolist(), x._version) == ([[1, 2, 3], [4, 5, 6]], 0)

    def test_a_stretched_tensor_cannot_be_written_into(self):
        x = Tensor([1.0, 2.0])
        out = x.broadcast_to(3, 2)
        with pytest.raises(ValueError, match="read-only"):
            out[0] = 0
        assert (x.tolist(), out._version) == ([1, 2], 0)

    def test_writing_announces_nothing(self, x, heard):
        x[0] = 5
        assert heard == []


class TestCounting:
    def test_every_change_counts_once(self, x):
        changes = [
            lambda: operator.iadd(x, 1),
            lambda: operator.isub(x, 1),
            lambda: operator.imul(x, 2),
            lambda: operator.itruediv(x, 2),
            lambda: operator.setitem(x, 0, 1),
            lambda: operator.setitem(x, x > 3, 1),
            lambda: setattr(x, "data", np.ones((2, 3), np.float32)),
            lambda: setattr(x, "data", [[1.0]]),
        ]
        for count, change in enumerate(changes):
            assert x._version == count
            change()
        assert x._version == len(changes)

    def test_looking_does_not_count(self, operations, operands):
        for operation in operations:
            inputs = [Tensor(a) for a in operands[: operation.operands]]
            operation.call(*inputs)
            assert [x._version for x in inputs] == [0] * operation.operands
        x = inputs[0]
        repr(x), x.tolist(), list(x), len(x), x.T, x.detach(), x.numpy(), np.asarray(x), 1.0 in x
        assert x._version == 0

    def test_every_tensor_counts_for_itself(self, x):
        y, z = x.copy(), Tensor(x)
        x += 1
        y[0] = 1
        y[1] = 1
        assert (x._version, y._version, z._version) == (1, 2, 0)

    def test_asking_for_gradients_is_no_change(self, x):
        x.requires_grad = True
        x.grad = np.ones((2, 3), np.float32)
        x.zero_grad()
        assert x._version == 0


@pytest.mark.usefixtures("tracked")
class TestWhileAGradientIsAwaited:
    @updates
    def test_a_leaf_is_not_updated(self, update):
        w = Tensor([1.0, 2.0], requires_grad=True)
        with pytest.raises(
            RuntimeError, match=r"in-place change of a tensor that autograd needs.*Write x = x \+ y instead"
        ):
            update(w, 2)
        assert (w.tolist(), w._version) == ([1, 2], 0)

    @updates
    def test_nor_is_a_computed_tensor_that_something_was_computed_from(self, update):
        y = Tensor([1.0, 2.0], requires_grad=True) * 3
        y.exp()
        with pytest.raises(RuntimeError, match="in-place change of a tensor that autograd needs"):
            update(y, 2)
        assert (y.tolist(), y._version) == ([3, 6], 0)

    @updates
    def test_a_running_total_moves_on_to_the_sum_which_knows_its_history(self, update):
        w = Tensor([1.0], requires_grad=True)
        total = start = Tensor([8.0])
        total = update(total, w * 2)
        assert total is not start
        assert total.requires_grad
        assert start.tolist() == [8]
        middle = total
        total = update(total, w)
        assert total is not middle
        assert total._grad_fn == UPDATES[update].__name__

    def test_tensors_without_gradients_are_free(self, x):
        kept = x
        x += 1
        x[0] = 0
        assert x is kept
        assert (x.tolist(), x._version) == ([[0, 0, 0], [5, 6, 7]], 2)

    def test_nothing_is_written_into_a_tensor_that_requires_gradients(self):
        w = Tensor([1.0, 2.0], requires_grad=True)
        for x in (w, w * 3):
            before = x.tolist()
            with pytest.raises(RuntimeError, match=r"would lose a gradient; use where\(\) or cat\(\)"):
                x[0] = 5
            assert (x.tolist(), x._version) == (before, 0)

    def test_no_value_that_requires_gradients_is_written(self, x):
        w = Tensor(5.0, requires_grad=True)
        with pytest.raises(RuntimeError, match="would lose a gradient"):
            x[0, 0] = w
        assert (x.tolist(), x._version) == ([[1, 2, 3], [4, 5, 6]], 0)

    def test_detached_it_may_be_written(self, x):
        x[0, 0] = Tensor(5.0, requires_grad=True).detach()
        assert x.tolist()[0] == [5, 2, 3]

    def test_a_computed_tensor_cannot_forget_its_history_or_be_deep_copied(self):
        y = Tensor([1.0], requires_grad=True) * 2
        with pytest.raises(RuntimeError, match=r"cannot forget its history; use x.detach\(\)"):
            y.requires_grad = False
        with pytest.raises(RuntimeError, match=r"only leaf tensors can be deep-copied; detach\(\) this one first"):
            y.__deepcopy__({})
        assert y.requires_grad


class TestWhileNobodyListens:
    @updates
    def test_parameters_can_be_updated(self, update, nobody_listens):
        w = kept = Tensor([6.0, 8.0], requires_grad=True)
        w = update(w, 2)
        assert w is kept
        assert w.requires_grad
        assert w.tolist() == UPDATES[update]([6.0, 8.0], 2).tolist()

    def test_parameters_can_be_written(self, nobody_listens):
        w = Tensor([1.0, 2.0], requires_grad=True)
        w[0] = Tensor(5.0, requires_grad=True)
        assert (w.tolist(), w._version) == ([5, 2], 1)


def test_a_shared_array_shows_what_is_written_through_either_tensor():
    array = np.zeros(3, np.float32)
    x, y = from_numpy(array), from_numpy(array)
    x[0] = 1
    y[1] = 2
    assert array.tolist() == x.tolist() == y.tolist() == [1, 2, 0]
