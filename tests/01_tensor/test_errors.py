"""What cannot be computed is refused: who says so, what was needed, what came; and nothing has changed."""

import re

import numpy as np
import pytest

from tinytorch.core import tensor as T
from tinytorch.core.tensor import Tensor, as_array, broadcast_shape, from_numpy

NUMBERS = "needs numbers or booleans, got"
WHOLE = "needs whole numbers, got"
AXIS = "needs an axis of a tensor of shape (2, 3), got axis"


@pytest.fixture
def x():
    return Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])


@pytest.fixture
def n():
    return Tensor([1, 2])


def refused(function, error, *parts):
    """`function()` raises `error` with all `parts` in its message."""
    with pytest.raises(error) as caught:
        function()
    assert type(caught.value) is error
    for part in parts:
        assert part in str(caught.value)


SHAPES = {
    "add": (lambda x, n: x + n, "add needs shapes that broadcast, got (2, 3) and (2,): at axis -1 lengths 3 and 2"),
    "add of a list": (lambda x, n: [[1.0], [2.0], [3.0]] + x, "add needs shapes", "(3, 1) and (2, 3)", "axis -2"),
    "sub": (lambda x, n: x - n, "sub needs shapes that broadcast, got (2, 3) and (2,)"),
    "mul": (lambda x, n: x * n, "mul needs shapes that broadcast, got (2, 3) and (2,)"),
    "div": (lambda x, n: n / x, "div needs shapes that broadcast, got (2,) and (2, 3)"),
    "pow": (lambda x, n: x**n, "pow needs shapes that broadcast, got (2, 3) and (2,)"),
    "equal": (lambda x, n: x == n, "equal needs shapes that broadcast, got (2, 3) and (2,)"),
    "less": (lambda x, n: x < n, "less needs shapes that broadcast, got (2, 3) and (2,)"),
    "or": (lambda x, n: (x > 1) | (n > 1), "bitwise_or needs shapes that broadcast, got (2, 3) and (2,)"),
    "matmul": (lambda x, n: x @ x, "matmul needs", "got (2, 3) @ (2, 3): 3 and 2; transpose one of them"),
    "matmul with a vector": (lambda x, n: x @ n, "matmul needs", "(2, 3) @ (2,): 3 and 2"),
    "vector with matmul": (lambda x, n: [1.0, 2.0, 3.0] @ x, "matmul needs", "(3,) @ (2, 3): 3 and 2"),
    "matmul of a number": (lambda x, n: Tensor(2.0) @ x, "matmul needs at least vectors, got shapes () and (2, 3)"),
    "matmul by a number": (lambda x, n: x @ 2.0, "matmul needs at least vectors", "for numbers use *"),
    "matmul of batches": (
        lambda x, n: Tensor(np.ones((5, 1, 2))) @ np.ones((4, 2, 1)),
        *("matmul (5, 1, 2) @ (4, 2, 1), before the matrices, needs shapes that broadcast, got (5,) and (4,)",),
    ),
    "reshape": (lambda x, n: x.reshape(4), "reshape needs a shape of 6 elements", "(2, 3), got (4,)"),
    "reshape to what is not left": (lambda x, n: x.reshape(4, -1), "reshape needs a shape of 6", "got (4, 1)"),
    "reshape with two gaps": (lambda x, n: x.reshape(-1, -1), "reshape needs a shape of 6", "got (-1, -1)"),
    "reshape to negative lengths": (lambda x, n: x.reshape(-2, -3), "reshape needs a shape of 6", "got (-2, -3)"),
    "permute too few": (lambda x, n: x.permute(0), "permute needs every axis of shape (2, 3) once, got (0,)"),
    "transpose one": (lambda x, n: x.transpose(1), "permute needs every axis of shape (2, 3) once, got (1,)"),
    "flatten backwards": (lambda x, n: x.flatten(1, 0), "flatten needs start_dim <= end_dim, got 1 and 0", "(2, 3)"),
    "squeeze": (lambda x, n: x.squeeze(0), "squeeze needs axes of length 1, got axis 0 of shape (2, 3)"),
    "broadcast_to": (lambda x, n: x.broadcast_to(4, 3), "broadcast_to needs shapes that broadcast, got (2, 3) and (4"),
    "broadcast_to fewer": (lambda x, n: x.broadcast_to(3), "broadcast_to cannot shrink", "(2, 3) to (3,)"),
    "broadcast_to 1": (lambda x, n: x.broadcast_to(2, 1), "broadcast_to cannot shrink", "(2, 3) to (2, 1)"),
    "cat": (lambda x, n: T.cat([x, x.T]), "cat along axis 0 needs all other lengths equal, got (2, 3) and (3, 2)"),
    "cat of other ndim": (lambda x, n: T.cat([x, n]), "cat along axis 0 needs all other lengths equal", "and (2,)"),
    "cat of nothing": (lambda x, n: T.cat([]), "cat needs at least one tensor, got none"),
    "cat of numbers": (lambda x, n: T.cat([Tensor(1.0), 2.0]), "cat needs an axis of a tensor of shape (), got axis 0"),
    "stack": (lambda x, n: T.stack([x, n]), "stack needs tensors of one shape, got (2, 3) and (2,)"),
    "stack of nothing": (lambda x, n: T.stack([]), "stack needs at least one tensor, got none"),
    "split into nothing": (lambda x, n: x.split(0), "split needs pieces of at least one element, got 0"),
    "split too much": (
        lambda x, n: x.split([1, 2]),
        "split needs sizes that add up to 2 (axis 0 of (2, 3)), got (1, 2)",
    ),
    "split a negative size": (lambda x, n: x.split([3, -1]), "split needs sizes that add up to 2", "got (3, -1)"),
    "split no size": (lambda x, n: x.split([]), "split needs sizes that add up to 2", "got ()"),
    "where": (lambda x, n: T.where([True, False], x, n), "where needs shapes that broadcast, got (2, 3) and (2,)"),
    "where with another mask": (lambda x, n: T.where([True, False], x, 0), "where needs", "(2,) and (2, 3) and ()"),
    "masked_fill": (lambda x, n: x.masked_fill([True, False], 0), "needs shapes that broadcast, got (2,) and () and"),
    "clip without bounds": (lambda x, n: x.clip(), "clip needs a min, a max, or both"),
    "clip crossed": (lambda x, n: x.clip(2, 1), "clip needs min <= max, got 2 and 1"),
    "clip crossed somewhere": (lambda x, n: x.clip([0, 3, 0], 2), "clip needs min <= max"),
    "clip to a larger shape": (
        lambda x, n: x[0].clip(x),
        "clip needs bounds that broadcast to shape (3,)",
        "got (2, 3)",
    ),
    "gather": (
        lambda x, n: x.gather(0, [0]),
        "gather along axis 0 of shape (2, 3) needs an index that fits it, got (1,)",
    ),
    "gather too wide": (lambda x, n: x.gather(0, [[0] * 4]), "gather along axis 0 of shape (2, 3)", "got (1, 4)"),
    "gather outside": (lambda x, n: x.gather(0, [[1, 2]]), "gather along 0 needs indices 0 to 1, got 1 to 2"),
    "gather below": (lambda x, n: x.gather(1, [[-1, 0]]), "gather along 1 needs indices 0 to 2, got -1 to 0"),
    "scatter_add": (lambda x, n: x.scatter_add(0, [[0]], [1.0]), "scatter_add needs src shaped as the index", "(1, 1)"),
    "scatter_add outside": (lambda x, n: x.scatter_add(0, [[2]], [[1.0]]), "scatter_add along 0 needs indices 0 to 1"),
    "scatter_add of a flat index": (lambda x, n: x.scatter_add(0, [0], [1.0]), "scatter_add along axis 0 of shape"),
    "topk of none": (lambda x, n: x.topk(0), "topk needs 1 <= k <= 3 (axis 1 of (2, 3)), got 0"),
    "topk of too many": (lambda x, n: x.topk(3, axis=0), "topk needs 1 <= k <= 2 (axis 0 of (2, 3)), got 3"),
    "pad negative": (lambda x, n: x.pad(-1), "pad needs whole widths of at least 0, got -1"),
    "pad broken": (lambda x, n: x.pad(1.5), "pad needs whole widths of at least 0, got 1.5"),
    "pad three": (lambda x, n: x.pad((1, 2, 3)), "pad needs one width", "pair per axis of shape (2, 3), got (1, 2, 3)"),
    "outer": (lambda x, n: x.outer(n), "outer needs two vectors, got shapes (2, 3) and (2,)"),
    "einsum of fewer": (lambda x, n: T.einsum("ij,jk->ik", x), "einsum 'ij,jk->ik' names 2 operands, got 1"),
    "einsum of more": (lambda x, n: T.einsum("ij->i", x, x), "einsum 'ij->i' names 1 operands, got 2"),
    "einsum of nothing": (lambda x, n: T.einsum("ij"), "einsum needs at least one tensor, got none"),
    "einsum of other ndim": (lambda x, n: T.einsum("ij,ij->", x, n), "gives operand 1 the axes 'ij'", "shape is (2,)"),
    "einsum with too few letters": (lambda x, n: T.einsum("i->i", x), "gives operand 0 the axes 'i'", "(2, 3)"),
    "einsum of two lengths": (lambda x, n: T.einsum("ij,jk", x, x), "needs one length for 'j', got 3 and 2"),
    "einsum on the diagonal": (lambda x, n: T.einsum("ii->i", np.eye(2)), "repeats an index within operand 0"),
    "einsum from nowhere": (lambda x, n: T.einsum("ij->ik", x), "einsum 'ij->ik' asks for an output index"),
    "einsum twice": (lambda x, n: T.einsum("ij->ii", x), "einsum 'ij->ii' asks for an output index"),
    "item": (lambda x, n: x.item(), "item() needs a tensor of one element, got shape (2, 3)"),
    "item of an empty tensor": (lambda x, n: Tensor([]).item(), "item() needs a tensor of one element, got shape (0,)"),
    "float()": (lambda x, n: float(x), "needs a tensor of one element, got shape (2, 3)"),
    "int()": (lambda x, n: int(n), "needs a tensor of one element, got shape (2,)"),
    "bool()": (
        lambda x, n: bool(x),
        "a tensor of shape (2, 3) is neither true nor false; use (x != 0).any() or .all()",
    ),
    "if of an empty tensor": (lambda x, n: bool(Tensor([])), "a tensor of shape (0,) is neither true nor false"),
    "a format": (lambda x, n: f"{x:.2f}", "needs a tensor of one element, got shape (2, 3)"),
    "an index": (lambda x, n: [7, 8][n], "needs a tensor of one element, got shape (2,)"),
}


@pytest.mark.parametrize(("call", "parts"), [(call, parts) for call, *parts in SHAPES.values()], ids=SHAPES)
def test_shapes_and_values_that_do_not_fit(call, parts, x, n, heard):
    refused(lambda: call(x, n), ValueError, *parts)
    assert [op for _, op, _, _ in heard if op not in ("astype", "permute", "greater", "getitem")] == []
    assert x.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert n.tolist() == [1, 2]


AXES = {
    **{
        name: lambda x, axis, name=name: getattr(T, name)(x, axis)
        for name in ("sum", "mean", "var", "std", "max", "min")
    },
    **{name: lambda x, axis, name=name: getattr(T, name)(x, axis) for name in ("argmax", "argmin", "logsumexp")},
    **{name: lambda x, axis, name=name: getattr(T, name)(x, axis) for name in ("cumsum", "squeeze", "sort")},
    **{name: lambda x, axis, name=name: getattr(x, name)(axis) for name in ("any", "all")},
    "swapaxes": lambda x, axis: T.swapaxes(x, 0, axis),
    "permute": lambda x, axis: T.permute(x, 0, axis),
    "flatten": lambda x, axis: T.flatten(x, axis),
    "cat": lambda x, axis: T.cat([x, x], axis),
    "split": lambda x, axis: T.split(x, 1, axis),
    "take": lambda x, axis: T.take(x, [0], axis),
    "gather": lambda x, axis: T.gather(x, axis, [[0]]),
    "scatter_add": lambda x, axis: T.scatter_add(x, axis, [[0]], [[1.0]]),
    "topk": lambda x, axis: T.topk(x, 1, axis),
}
ONE_AXIS = ["argmax", "argmin", "cumsum", "sort", "swapaxes", "cat", "split", "take", "gather", "scatter_add", "topk"]
MADE_OF = {"std": "var"}  # who speaks for whom


@pytest.mark.parametrize("axis", [2, -3])
@pytest.mark.parametrize("name", AXES)
def test_an_axis_that_is_not_there(name, axis, x, heard):
    refused(lambda: AXES[name](x, axis), ValueError, MADE_OF.get(name, name) + " " + AXIS + f" {axis}")
    assert heard == []


@pytest.mark.parametrize("axis", [1.0, "rows"])
@pytest.mark.parametrize("name", AXES)
def test_an_axis_that_is_no_whole_number(name, axis, x, heard):
    refused(
        lambda: AXES[name](x, axis), TypeError, MADE_OF.get(name, name) + " needs whole numbers as axes", repr(axis)
    )
    assert heard == []


@pytest.mark.parametrize("axis", [(0, 1), ()])
@pytest.mark.parametrize("name", ONE_AXIS)
def test_several_axes_where_there_can_be_one(name, axis, x):
    refused(lambda: AXES[name](x, axis), ValueError, f"{name} needs one axis of shape (2, 3), got {axis}")


@pytest.mark.parametrize("name", [name for name in ONE_AXIS if name not in ("argmax", "argmin", "take")])
def test_no_axis_where_there_must_be_one(name, x):
    refused(lambda: AXES[name](x, None), ValueError, f"{name} needs one axis of shape (2, 3), got None")


@pytest.mark.parametrize("name", ["sum", "mean", "var", "max", "min", "logsumexp", "squeeze", "any", "all"])
def test_an_axis_named_twice(name, x):
    refused(lambda: AXES[name](x, (0, -2)), ValueError, f"{name} names an axis twice: (0, -2) for shape (2, 3)")


@pytest.mark.parametrize("axis", [3, -4])
@pytest.mark.parametrize(
    ("name", "call"), [("unsqueeze", T.unsqueeze), ("stack", lambda x, axis: T.stack([x, x], axis))]
)
def test_a_new_axis_out_of_reach(name, call, axis, x):
    refused(lambda: call(x, axis), ValueError, f"{name} needs an axis between -3 and 2 for shape (2, 3), got {axis}")


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda x: x.reshape(2.0, 3), ("reshape " + WHOLE, "(2.0, 3)")),
        (lambda x: x.reshape("a"), ("reshape " + WHOLE, "('a',)")),
        (lambda x: x.reshape(None), ("reshape " + WHOLE, "(None,)")),
        (lambda x: x.broadcast_to(2.5, 2, 3), ("broadcast_to " + WHOLE, "(2.5, 2, 3)")),
        (lambda x: x.unsqueeze(1.0), ("unsqueeze " + WHOLE, "1.0")),
        (lambda x: x.unsqueeze(None), ("unsqueeze " + WHOLE, "None")),
        (lambda x: T.stack([x, x], "a"), ("stack " + WHOLE, "'a'")),
        (lambda x: x.split(1.5), ("split " + WHOLE, "1.5")),
        (lambda x: x.split([0.5, 1.5]), ("split " + WHOLE, "[0.5, 1.5]")),
        (lambda x: x.split(None), ("split " + WHOLE, "None")),
        (lambda x: x.topk(1.5), ("topk " + WHOLE, "1.5")),
        (lambda x: x.topk("a"), ("topk " + WHOLE, "'a'")),
    ],
)
def test_what_must_be_whole(call, parts, x, heard):
    refused(lambda: call(x), TypeError, *parts)
    assert heard == []


class TestNothingToReduce:
    EMPTY = ("mean", "max", "min", "argmax", "argmin", "logsumexp")

    @pytest.mark.parametrize("name", EMPTY)
    def test_there_is_no_largest_or_average_of_nothing(self, name, heard):
        empty = Tensor(np.ones((0, 3)))
        refused(lambda: getattr(T, name)(empty), ValueError, f"{name} needs at least one element, got shape (0, 3)")
        refused(lambda: getattr(T, name)(empty, 0), ValueError, f"{name} needs at least one element", "over axis (0,)")
        assert heard == []

    @pytest.mark.parametrize("name", EMPTY)
    def test_an_empty_result_is_no_error(self, name):
        assert getattr(T, name)(Tensor(np.ones((0, 3))), 1).shape == (0,)

    def test_var_needs_more_elements_than_its_correction(self, x):
        refused(Tensor([]).var, ValueError, "var needs more than 0 elements, got shape (0,) over axis None")
        refused(lambda: Tensor([5.0]).std(correction=1), ValueError, "var needs more than 1 elements, got shape (1,)")
        refused(lambda: x.var(0, correction=2), ValueError, "var needs more than 2 elements", "(2, 3) over axis (0,)")


class TestKinds:
    @pytest.mark.parametrize("operand", [None, "a", b"a"])
    @pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow", "matmul", "outer"])
    def test_text_and_none_are_no_operands(self, name, operand, x):
        message = f"{name} needs tensors, arrays or numbers, got {type(operand).__name__}"
        refused(lambda: getattr(T, name)(x, operand), TypeError, message)
        refused(lambda: getattr(T, name)(operand, x), TypeError, message)

    @pytest.mark.parametrize("operand", [1j, np.array(["a"]), object(), [None], {1: 2}])
    def test_nor_is_what_holds_no_numbers(self, operand, x):
        refused(lambda: x + operand, TypeError, "Tensor " + NUMBERS + f" {type(operand).__name__}")
        refused(lambda: T.exp(operand), TypeError, "Tensor " + NUMBERS + f" {type(operand).__name__}")
        refused(lambda: T.cat([x, operand]), TypeError, "Tensor " + NUMBERS + f" {type(operand).__name__}")

    def test_no_order_between_a_tensor_and_text(self, x):
        refused(lambda: x < None, TypeError, "'Tensor' and 'NoneType'")
        refused(lambda: x >= "a", TypeError, "'Tensor' and 'str'")

    def test_logic_needs_booleans_or_integers(self, x, n):
        refused(lambda: x & True, TypeError, "bitwise_and needs booleans or integers, got float32; compare first")
        refused(lambda: n | 1.5, TypeError, "bitwise_or needs booleans or integers, got float32")
        refused(lambda: n ^ [1.0, 2.0], TypeError, "bitwise_xor needs booleans or integers, got float32")
        refused(lambda: ~x, TypeError, "~ needs booleans or integers, got float32; compare first, as in x > 0")

    @pytest.mark.parametrize("condition", [[1, 0], [1.0, 0.0], "a", None, Tensor([1, 0])])
    def test_a_condition_is_boolean(self, condition):
        refused(lambda: T.where(condition, 1, 0), TypeError, "where needs a boolean condition, got", "compare first")
        refused(lambda: Tensor([1.0, 2.0]).masked_fill(condition, 0), TypeError, "needs a boolean condition, got")

    @pytest.mark.parametrize("index", [[[0.5, 0.0, 0.0]], Tensor([[0.0]]), [[True]], "a", None])
    @pytest.mark.parametrize("name", ["gather", "scatter_add", "take"])
    def test_an_index_along_an_axis_is_of_integers(self, name, index, x):
        arguments = {"gather": (0, index), "scatter_add": (0, index, [[1.0]]), "take": (index,)}[name]
        refused(lambda: getattr(T, name)(x, *arguments), TypeError, f"{name} needs integer indices, got")

    @pytest.mark.parametrize("index", [Tensor([1.0]), np.array([0.0]), [0.5], (0, [1.5])])
    def test_an_index_is_of_integers_or_booleans(self, index, x):
        refused(lambda: x[index], TypeError, "an index needs integers or booleans, got an array of float")

    @pytest.mark.parametrize("index", [2, -3, (0, 3), (0, 0, 0), "a", 1.0, [[2]], np.array([True, False, True])])
    def test_an_index_outside_is_an_index_error(self, index, x, heard):
        with pytest.raises(IndexError):
            x[index]
        assert heard == []

    def test_take_outside_is_an_index_error(self, x):
        refused(lambda: x.take([6]), IndexError, "index 6 is out of bounds")
        refused(lambda: x.take([3], axis=1), IndexError, "index 3 is out of bounds")

    def test_where_clip_and_scatter_add_name_themselves(self, x):
        refused(lambda: T.where([True], x, None), TypeError, "where needs tensors, arrays or numbers, got NoneType")
        refused(lambda: x.clip("a"), TypeError, "clip needs tensors, arrays or numbers, got str")
        refused(
            lambda: x.scatter_add(0, [[0]], None), TypeError, "scatter_add needs tensors, arrays or numbers, got None"
        )

    def test_clip_refuses_bounds_that_wait_for_a_gradient(self, x):
        bound = Tensor(0.0, requires_grad=True)
        refused(lambda: x.clip(bound), ValueError, "clip sends no gradient to its bounds; detach() them, or use where")
        assert x.clip(bound.detach()).tolist() == x.tolist()

    @pytest.mark.parametrize("value", ["a", None, [1, 2], 1j])
    def test_a_border_is_one_number(self, value, x):
        refused(lambda: x.pad(1, value), TypeError, f"pad needs one number for the border, got {value!r}")

    @pytest.mark.parametrize(
        ("dtype", "value"),
        [
            (np.int64, 0.5),
            (np.int64, np.inf),
            (np.int64, np.nan),
            (np.int64, 2**63),
            (np.uint8, 300),
            (np.uint8, -1),
            (bool, 2),
        ],
    )
    def test_a_border_that_the_dtype_cannot_hold(self, dtype, value):
        refused(lambda: Tensor([1, 0], dtype=dtype).pad(1, value), ValueError, f"pad cannot put {value} between")

    def test_einsum_wants_its_letters_first(self, x):
        refused(
            lambda: T.einsum(x, "ij->ji"), TypeError, "einsum needs its letters first, as in 'ij,jk->ik', got Tensor"
        )

    def test_booleans_have_no_negative(self):
        refused(lambda: -Tensor([True]), TypeError, "boolean negative")


class TestIntegers:
    @pytest.mark.parametrize("exponent", [-1, [-1, 2], Tensor([3, -2])])
    def test_a_negative_power_is_no_integer(self, exponent, n):
        refused(
            lambda: n**exponent, ValueError, "pow of integers needs exponents >= 0, got -", "x.astype('float32') first"
        )

    @pytest.mark.parametrize(("dtype", "number"), [(np.uint8, 256), (np.uint8, -1), (np.int8, 128), (np.int64, 2**63)])
    @pytest.mark.parametrize("name", ["add", "mul", "clip"])
    def test_a_number_too_large_for_the_dtype_does_not_wrap_around(self, name, dtype, number):
        x = Tensor([1, 2], dtype=dtype)
        refused(lambda: getattr(T, name)(x, number), ValueError, f"{name}: {number} does not fit", str(x.dtype))

    def test_a_numpy_integer_too_large_does_not_wrap_around_either(self):
        x = Tensor([1, 2], dtype=np.int8)
        refused(lambda: x + np.int64(1000), ValueError, "add: 1000 does not fit the tensor's int8")


class TestMaking:
    @pytest.mark.parametrize("data", [None, "a", ["a"], 1j, [None, 1.0], {1: 2}, object(), np.array(["a"])])
    def test_what_is_no_number(self, data):
        for make in (Tensor, as_array, T.tensor):
            refused(lambda make=make: make(data), TypeError, "Tensor " + NUMBERS + f" {type(data).__name__} with dtype")

    @pytest.mark.parametrize("data", [[[1, 2], [3]], [1, [2]], [[[1]], [[2, 3]]]])
    def test_ragged_rows(self, data):
        refused(lambda: Tensor(data), ValueError, "Tensor needs a rectangular array; the rows given differ in length")

    @pytest.mark.parametrize("dtype", ["complex64", str, object, "datetime64[s]"])
    def test_a_dtype_of_other_things(self, dtype, n):
        for who, make in (("Tensor", lambda: Tensor([1.0], dtype=dtype)), ("astype", lambda: n.astype(dtype))):
            refused(make, TypeError, f"{who} needs a dtype of numbers or booleans, got {dtype}")
        refused(lambda: T.zeros(2, dtype=dtype), TypeError, "needs a dtype of numbers or booleans, got")

    def test_astype_needs_a_dtype(self, n):
        refused(lambda: n.astype(None), TypeError, "astype needs a dtype of numbers or booleans, got None")

    @pytest.mark.parametrize("given", [[1, 2], 3.0, None, np.float64(3), np.array(["a"]), Tensor(1.0)])
    def test_from_numpy_takes_arrays(self, given):
        message = f"from_numpy needs an array of numbers, got {type(given).__name__}; Tensor(data) takes more"
        refused(lambda: from_numpy(given), TypeError, message)

    @pytest.mark.parametrize(
        ("name", "make"),
        [
            *[(name, getattr(T, name)) for name in ("zeros", "ones", "rand", "randn")],
            ("full", lambda *shape: T.full(shape, 1.0)),
            ("randint", lambda *shape: T.randint(0, 2, shape)),
            ("eye", lambda *shape: T.eye(*shape)),
        ],
    )
    def test_lengths_are_whole_numbers_of_at_least_0(self, name, make):
        refused(lambda: make(2, -1), ValueError, f"{name} needs lengths of at least 0, got shape (2, -1)")
        refused(lambda: make(2, 2.5), TypeError, f"{name} needs whole numbers, got (2, 2.5)")
        refused(lambda: make(2, "a"), TypeError, f"{name} needs whole numbers, got (2, 'a')")
        refused(lambda: make((2, 3), (4,)), TypeError, f"{name} needs whole numbers, got ((2, 3), (4,))")

    def test_linspace_takes_a_whole_number_of_steps(self):
        refused(lambda: T.linspace(0, 1, -1), ValueError, "linspace needs lengths of at least 0, got shape (-1,)")
        refused(lambda: T.linspace(0, 1, 2.5), TypeError, "linspace needs whole numbers, got (2.5,)")

    def test_arange_must_get_somewhere(self):
        refused(
            lambda: T.arange(1, 2, 0), ValueError, "arange needs a start and a step other than 0", "start 1 and step 0"
        )
        refused(lambda: T.arange(None), ValueError, "arange needs a start")

    def test_full_of_what_does_not_fill(self):
        refused(lambda: T.full((2,), [1, 2, 3]), ValueError, "(3,)", "(2,)")

    @pytest.mark.parametrize(("low", "high"), [(3, 3), (3, 1)])
    def test_randint_needs_room_between_its_bounds(self, low, high):
        message = f"randint draws low <= n < high and needs low < high, got {low} and {high}"
        refused(lambda: T.randint(low, high, 2), ValueError, message)

    def test_each_generator_draws_its_own_kind_of_number(self):
        refused(
            lambda: T.rand(2, dtype=int), TypeError, "rand draws real numbers and needs a floating dtype, got int64"
        )
        refused(lambda: T.randn(2, dtype=bool), TypeError, "randn draws real numbers", "got bool; use randint")
        refused(lambda: T.randint(0, 2, 2, dtype=float), TypeError, "randint draws whole numbers", "use rand")

    def test_a_refused_draw_draws_nothing(self):
        T.manual_seed(3)
        want = T.rand(3).tolist()
        T.manual_seed(3)
        for make in (lambda: T.rand(-1), lambda: T.randn(2, dtype=int), lambda: T.randint(2, 1, 3)):
            with pytest.raises((ValueError, TypeError)):
                make()
        assert T.rand(3).tolist() == want

    def test_a_refused_seed_leaves_the_generator_alone(self):
        T.manual_seed(3)
        want = T.rand(3).tolist()
        T.manual_seed(3)
        with pytest.raises(ValueError, match="expected non-negative integer"):
            T.manual_seed(-1)
        assert T.rand(3).tolist() == want


class TestGradientsNeedFloats:
    @pytest.mark.parametrize(
        ("make", "dtype"),
        [
            (lambda: Tensor([1], requires_grad=True), "int64"),
            (lambda: Tensor([True], requires_grad=True), "bool"),
            (lambda: T.zeros(2, dtype=int, requires_grad=True), "int64"),
            (lambda: T.arange(3, requires_grad=True), "int64"),
            (lambda: T.full(2, 7, requires_grad=True), "int64"),
            (lambda: T.randint(0, 2, 3, dtype=np.int32, requires_grad=True), "int32"),
        ],
    )
    def test_integers_and_booleans_cannot_require_gradients(self, make, dtype):
        message = f"only floating tensors can require gradients, this one is {dtype}; use x.astype('float32')"
        refused(make, TypeError, message)

    def test_nor_can_they_be_told_to_later(self, n):
        refused(lambda: setattr(n, "requires_grad", True), TypeError, "only floating tensors can require gradients")
        assert n.requires_grad is False

    def test_nor_can_a_tensor_that_does_be_given_integers(self):
        w = Tensor([1.0], requires_grad=True)
        refused(lambda: setattr(w, "data", np.array([1])), TypeError, "a tensor of float32 cannot take data of int64")
        assert (w.tolist(), w._version, w.requires_grad) == ([1], 0, True)


class TestOneNumber:
    def test_a_number_has_no_length_and_cannot_be_walked(self):
        for call in (len, iter, list):
            refused(lambda call=call: call(Tensor(1.0)), TypeError, "a tensor of shape () has no length; use x.item()")

    def test_only_integer_tensors_count(self, x):
        refused(lambda: [7, 8][Tensor(0.0)], TypeError, "only integer tensors can be an index, this one is float32")
        refused(lambda: [7, 8][Tensor(True)], TypeError, "only integer tensors can be an index, this one is bool")
        refused(lambda: range(Tensor(2.0)), TypeError, "only integer tensors can be an index")


@pytest.mark.parametrize("op", ["add", "my layer"])
def test_broadcast_shape_speaks_in_the_name_it_is_given(op):
    with pytest.raises(
        ValueError, match=re.escape(f"{op} needs shapes that broadcast, got (2, 3) and (4, 1, 2): at axis -1")
    ):
        broadcast_shape(op, (2, 3), (4, 1, 2))


def test_the_message_of_a_clash_says_what_to_do():
    with pytest.raises(ValueError, match="differ and neither is 1; reshape one of them, or unsqueeze an axis"):
        broadcast_shape("add", (2,), (3,))
