"""Every operation says what it did: the result, its name, its inputs, and what a gradient rule will want."""

import inspect

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import tensor as T
from tinytorch.core.tensor import Tensor, from_numpy, get_recorder, result, set_observer, set_recorder

HELPERS = {
    *("Tensor", "tensor", "as_array", "as_tensor", "astype", "from_numpy", "floating", "pair", "power", "result"),
    *("broadcast_shape", "normalize_axes", "generator", "manual_seed", "get_recorder", "set_recorder"),
    *("set_observer", "floats", "filled"),
    *("zeros", "ones", "full", "eye", "arange", "linspace", "rand", "randn", "randint"),
}
OPERATORS = {
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "any", "all", "copy", "astype"),
}


def test_an_operation_announces_itself_by_name_with_its_inputs_and_what_it_saves(operation, operands, heard):
    inputs = [Tensor(a) for a in operands[: operation.operands]]
    out = operation.call(*inputs)
    assert [(op, len(given), set(saved)) for _, op, given, saved in heard] == operation.announces
    assert heard[-1][0] is out
    assert all(isinstance(x, Tensor) for _, _, given, _ in heard for x in given)


def test_the_announced_inputs_are_the_very_tensors_given(operation, operands, heard):
    inputs = [Tensor(a) for a in operands[: operation.operands]]
    operation.call(*inputs)
    named = [x for _, _, given, _ in heard for x in given]
    assert all(any(x is y for y in named) for x in inputs)


def test_every_function_of_the_lesson_is_in_the_table_of_operations(operations):
    functions = {name for name, f in vars(T).items() if inspect.isfunction(f) and f.__module__ == T.__name__}
    functions = {name for name in functions if not name.startswith("_")}
    assert functions - HELPERS == {op.name for op in operations} - OPERATORS


class TestSaved:
    """What the rules of module 05 find under each keyword."""

    def saved(self, heard, op):
        return next(saved for _, name, _, saved in heard if name == op)

    @pytest.mark.parametrize(("axis", "kept"), [(None, None), (1, (1,)), (-1, (1,)), ((0, -1), (0, 1))])
    @pytest.mark.parametrize("op", ["sum", "mean", "var", "max", "min", "logsumexp"])
    def test_reductions_save_their_axes_counted_from_the_left(self, op, axis, kept, heard):
        getattr(T, op)(Tensor(np.ones((2, 3))), axis)
        assert self.saved(heard, op)["axis"] == kept

    def test_mean_saves_how_many_elements_one_mean_takes_in(self, heard):
        T.mean(Tensor(np.ones((2, 3, 4))), axis=(0, 2))
        assert self.saved(heard, "mean")["count"] == 8

    def test_var_saves_the_divisor_and_the_means_with_their_axes(self, heard):
        T.var(Tensor([[1.0, 2, 3], [4, 5, 9]]), axis=1, correction=1)
        assert self.saved(heard, "var")["count"] == 2
        assert_close(self.saved(heard, "var")["center"], np.array([[2], [6]], np.float32))

    @pytest.mark.parametrize(("op", "extreme"), [("max", [[3], [9]]), ("min", [[1], [4]])])
    def test_max_and_min_save_the_extremes_with_their_axes(self, op, extreme, heard):
        getattr(T, op)(Tensor([[1.0, 2, 3], [4, 5, 9]]), axis=1)
        assert_close(self.saved(heard, op)["extreme"], np.array(extreme, np.float32))

    def test_logsumexp_saves_its_values_with_their_axes(self, heard):
        out = T.logsumexp(Tensor([[1.0, 2, 3], [4, 5, 9]]), axis=1)
        assert_close(self.saved(heard, "logsumexp")["out"], out.data.reshape(2, 1), rtol=0)

    @pytest.mark.parametrize("op", ["exp", "sqrt"])
    def test_exp_and_sqrt_save_their_output_without_copying_it(self, op, heard):
        out = getattr(T, op)(Tensor([1.0, 2.0]))
        assert self.saved(heard, op)["out"] is out.data

    def test_permute_saves_the_order(self, heard):
        Tensor(np.ones((2, 3, 4))).permute(-1, 0, 1)
        assert self.saved(heard, "permute")["axes"] == (2, 0, 1)

    def test_cat_and_cumsum_save_their_axis_counted_from_the_left(self, heard):
        T.cat([np.ones((2, 3)), np.ones((2, 1))], axis=-1)
        T.cumsum(np.ones((2, 3)))
        assert self.saved(heard, "cat")["axis"] == 1
        assert self.saved(heard, "cumsum")["axis"] == 1

    def test_pad_saves_the_width_on_each_side(self, heard):
        T.pad(Tensor(np.ones((2, 3))), ((0, 1), (2, 3)))
        assert self.saved(heard, "pad")["widths"] == ((0, 1), (2, 3))

    def test_where_saves_the_condition_and_a_later_change_of_the_mask_does_not_reach_it(self, heard):
        mask = np.array([True, False])
        T.where(mask, Tensor([1.0, 2.0]), 0.0)
        mask[:] = False
        assert self.saved(heard, "where")["condition"].tolist() == [True, False]

    def test_getitem_saves_the_index_and_a_later_change_of_it_does_not_reach_it(self, heard):
        index = np.array([1, 1])
        Tensor([1.0, 2.0])[index]
        index[:] = 0
        assert self.saved(heard, "getitem")["index"].tolist() == [1, 1]

    def test_clip_saves_bounds_of_its_own_dtype_or_none(self, heard):
        T.clip(Tensor([1.0, 2.0]), max=1.5)
        assert self.saved(heard, "clip")["min"] is None
        assert_close(self.saved(heard, "clip")["max"], np.array(1.5, np.float32))

    def test_scatter_add_saves_where_it_added(self, heard):
        T.scatter_add(Tensor(np.zeros((2, 3))), 1, [[2], [0]], Tensor(np.ones((2, 1))))
        rows, columns = self.saved(heard, "scatter_add")["where"]
        assert rows.tolist() == [[0], [1]]
        assert columns.tolist() == [[2], [0]]

    def test_einsum_saves_its_letters_with_dots_spelled_out(self, heard):
        T.einsum("...ij, jk -> ...ik", np.ones((2, 3, 4)), np.ones((4, 5)))
        saved = self.saved(heard, "einsum")
        assert saved["inputs"] == ["Zij", "jk"]
        assert saved["output"] == "Zik"


class TestResult:
    def test_it_boxes_an_array_without_copying_or_converting(self):
        for array in (np.ones(3), np.ones(3, np.float16), np.arange(3)):
            assert result(array, "made").data is array

    @pytest.mark.parametrize("scalar", [np.float32(3), np.float64(3), np.int64(3), np.bool_(True)])
    def test_a_numpy_scalar_becomes_an_array_of_shape_0_and_of_its_dtype(self, scalar):
        out = result(scalar, "made").data
        assert type(out) is np.ndarray
        assert out.shape == ()
        assert out.dtype == scalar.dtype
        assert out == scalar

    def test_it_passes_on_output_name_inputs_and_what_is_saved(self, heard):
        x, y = Tensor(1.0), Tensor(2.0)
        out = result(np.ones(2), "made", x, y, axis=1, mask=None)
        [(told, op, inputs, saved)] = heard
        assert told is out
        assert op == "made"
        assert inputs == (x, y)
        assert inputs[0] is x
        assert saved == {"axis": 1, "mask": None}

    def test_the_recorder_sees_the_finished_tensor(self, heard):
        result(np.ones(2), "made")
        assert heard[0][0].shape == (2,)

    def test_nothing_happens_where_nobody_listens(self, nobody_listens):
        assert result(np.ones(2), "made").tolist() == [1, 1]

    def test_a_boxed_result_requires_no_gradient_and_has_no_history(self, nobody_listens):
        out = result(np.ones(2), "made", Tensor(1.0, requires_grad=True))
        assert out.requires_grad is False
        assert out.grad is None


class TestRecorder:
    def test_setting_one_returns_the_one_before(self):
        def first(*announcement):
            pass

        original = set_recorder(first)
        assert get_recorder() is first
        assert set_recorder(None) is first
        assert get_recorder() is None
        set_recorder(original)

    def test_an_observer_hears_the_same_after_the_recorder_and_also_without_one(self):
        told = []
        original = set_recorder(lambda out, op, inputs, saved: told.append(("recorder", op)))
        assert set_observer(lambda out, op, inputs, saved: told.append((out.item(), op, inputs, saved))) is None
        x = Tensor(2.0)
        result(np.ones(()), "made", x, axis=1)
        set_recorder(None)
        abs(x)
        set_observer(None)
        set_recorder(original)
        abs(x)
        assert told == [("recorder", "made"), (1, "made", (x,), {"axis": 1}), (2, "abs", (x,), {})]

    def test_operators_methods_and_functions_announce_alike(self, heard):
        x, y = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
        T.add(x, y), x.add(y), x + y, x + 1, 1 + x, x + np.ones(2), np.ones(2) + x
        assert [op for _, op, _, _ in heard] == ["add"] * 7

    def test_a_scalar_beside_a_tensor_is_announced_as_a_tensor(self, heard):
        x = Tensor([1.0, 2.0])
        3 - x
        [(_, op, (three, given), _)] = heard
        assert (op, three.item(), given is x) == ("sub", 3.0, True)

    def test_a_conversion_on_the_way_is_announced_so_that_gradients_find_back(self, heard):
        Tensor([1.0]) + Tensor([1.0], dtype=np.float64)
        assert [op for _, op, _, _ in heard] == ["astype", "add"]

    def test_making_and_detaching_tensors_announces_nothing(self, heard):
        Tensor([1.0]), T.zeros(2), T.randn(2), from_numpy(np.ones(2)), Tensor([1.0]).detach()
        assert heard == []


@pytest.mark.parametrize(
    "name",
    [
        *("add", "sub", "mul", "div", "pow", "matmul", "neg", "abs", "exp", "log", "sqrt"),
        *("sum", "mean", "var", "std", "max", "min", "argmax", "argmin", "cumsum"),
    ],
)
def test_a_method_computes_what_the_function_of_its_name_computes(name):
    x, y = Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor([[2.0, 1.0], [2.0, 3.0]])
    operands = (x, y) if name in ("add", "sub", "mul", "div", "pow", "matmul") else (x,)
    assert_close(getattr(operands[0], name)(*operands[1:]), getattr(T, name)(*operands).data, rtol=0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("sum", (1, True)), ("mean", (1, True)), ("var", (1, True, 1)), ("std", (1, True, 1)), ("max", (0, True))),
        *(("min", (0, True)), ("argmax", (0, True)), ("argmin", (0, True)), ("cumsum", (0,)), ("logsumexp", (0, True))),
        *(
            ("reshape", (4, 1)),
            ("transpose", (0, 1)),
            ("swapaxes", (0, 1)),
            ("permute", (1, 0, 2)),
            ("flatten", (0, 1)),
        ),
        *(("squeeze", (-1,)), ("unsqueeze", (1,)), ("broadcast_to", (3, 2, 2, 1)), ("clip", (2, 3))),
        *(("masked_fill", ([[[True], [False]]], 5.0)), ("take", ([1], 0)), ("gather", (0, [[[1], [0]]]))),
        *(("scatter_add", (0, [[[1], [0]]], [[[5.0], [6.0]]])), ("pad", (1, 9)), ("pad", (1,))),
    ],
)
def test_a_method_hands_on_all_its_arguments(name, arguments):
    x = Tensor([[[1.0], [4.0]], [[3.0], [2.0]]])
    assert_close(getattr(x, name)(*arguments), getattr(T, name)(x, *arguments).data, rtol=0)


def test_split_sort_topk_outer_hand_on_all_their_arguments():
    x = Tensor([[1.0, 4.0, 2.0]])
    assert [part.tolist() for part in x.split([1, 2], 1)] == [[[1]], [[4, 2]]]
    assert [out.tolist() for out in x.sort(0, True)] == [[[1, 4, 2]], [[0, 0, 0]]]
    assert [out.tolist() for out in x.sort(-1, True)] == [[[4, 2, 1]], [[1, 2, 0]]]
    assert [out.tolist() for out in x.topk(1, 0)] == [[[1, 4, 2]], [[0, 0, 0]]]
    assert x[0].outer([1.0, 2.0]).tolist() == [[1, 2], [4, 8], [2, 4]]
    assert x.view(3, 1).tolist() == [[1], [4], [2]]
