"""What all optimizers share: parameters in every form, groups, checks before anything moves, arrays in place."""

import math
import tracemalloc

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.layers import Linear
from tinytorch.core.optimizers import PIECE, SGD, Adam, AdamW, Optimizer, pieces
from tinytorch.core.tensor import Tensor, from_numpy

RULES = {
    "sgd": lambda params: SGD(params, lr=0.1, weight_decay=0.1),
    "nesterov": lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda params: Adam(params, lr=0.1, weight_decay=0.1),
    "adamw": lambda params: AdamW(params, lr=0.1, weight_decay=0.1),
}


def weight(*values, grad=None, dtype=None):
    w = Tensor(np.array(values, float), requires_grad=True, dtype=dtype)
    if grad is not None:
        w.grad = np.full(w.shape, grad, w.dtype)
    return w


class TestPieces:
    def test_side_by_side_and_flat(self):
        got = [[piece.tolist() for piece in each] for each in pieces(np.arange(5), 10 * np.arange(5), size=2)]
        assert got == [[[0, 1], [0, 10]], [[2, 3], [20, 30]], [[4], [40]]]

    def test_a_matrix_is_read_row_by_row(self):
        assert [p.tolist() for (p,) in pieces(np.arange(6).reshape(2, 3), size=4)] == [[0, 1, 2, 3], [4, 5]]

    def test_what_is_written_arrives(self):
        array = np.zeros((3, 4))
        for number, (piece,) in enumerate(pieces(array, size=5), 1):
            piece += number
        assert array.tolist() == [[1, 1, 1, 1], [1, 2, 2, 2], [2, 2, 3, 3]]

    def test_one_number_is_one_piece(self):
        array = np.zeros(())
        for (piece,) in pieces(array):
            piece += 1
        assert array.item() == 1

    def test_nothing_has_no_pieces(self):
        assert list(pieces(np.zeros((0, 3)))) == []

    def test_the_usual_size(self):
        assert [len(p) for (p,) in pieces(np.zeros(PIECE + 1))] == [PIECE, 1]


class TestForms:
    def test_a_generator(self):
        a, b = weight(1), weight(2)
        assert [p is q for p, q in zip(SGD(w for w in (a, b)).parameters, (a, b))] == [True, True]

    def test_names_come_along(self):
        optimizer = SGD([("a", weight(1)), ("b", weight(2))])
        assert [name for name, _ in optimizer.named_parameters] == ["a", "b"]

    def test_without_names_parameters_are_numbered_over_all_groups(self):
        optimizer = SGD([{"params": [weight(1), weight(2)]}, {"params": [weight(3)]}])
        assert [name for name, _ in optimizer.named_parameters] == ["parameter 0", "parameter 1", "parameter 2"]

    def test_groups_of_pairs_and_of_models(self):
        optimizer = SGD([{"params": [("w", weight(1))]}, {"params": Linear(2, 1)}])
        assert [name for name, _ in optimizer.named_parameters] == ["w", "weight", "bias"]

    def test_the_class_of_a_name_does_not_matter_for_the_step(self):
        w = weight(1, grad=1)
        SGD([("w", w)], lr=0.5).step()
        assert w.item() == 0.5


class TestRefusals:
    @pytest.mark.parametrize("params", [[], (), iter([]), [{"params": []}]])
    def test_nothing_to_train(self, params):
        with pytest.raises(ValueError, match="SGD got no parameters"):
            SGD(params)

    def test_one_tensor_alone(self):
        with pytest.raises(TypeError, match=r"got one tensor; write SGD\(\[w\]\)"):
            SGD(weight(1, 2))

    @pytest.mark.parametrize("params", [3, None, "weights", {"params": []}, {"w": 1}])
    def test_no_list_at_all(self, params):
        with pytest.raises(TypeError, match="SGD needs a list of parameters"):
            SGD(params)

    @pytest.mark.parametrize("thing", [np.ones(3), 1.0, "w", None, ("w", 1.0), (weight(1),)])
    def test_what_is_no_tensor(self, thing):
        with pytest.raises(TypeError, match="SGD needs tensors, but (parameter 1|w) is a"):
            SGD([weight(1), thing])

    def test_integers(self):
        with pytest.raises(TypeError, match="moves floating tensors, but parameter 0 is int64"):
            SGD([Tensor([1, 2])])

    def test_a_tensor_that_asks_for_no_gradient(self):
        with pytest.raises(ValueError, match=r"b \(1,\) has requires_grad=False"):
            SGD([("a", weight(1)), ("b", Tensor([1.0]))])

    def test_a_computed_tensor(self):
        with pytest.raises(ValueError, match="parameter 0 was computed from other tensors"):
            SGD([weight(1) * 2])

    def test_the_same_tensor_twice(self):
        w = weight(1)
        with pytest.raises(ValueError, match="b is the same tensor as a"):
            SGD([("a", w), ("b", w)])

    def test_the_same_tensor_in_two_groups(self):
        w = weight(1)
        with pytest.raises(ValueError, match="parameter 1 is the same tensor as parameter 0"):
            SGD([{"params": [w]}, {"params": [w]}])

    def test_equal_tensors_are_not_the_same(self):
        assert len(SGD([weight(1, 2), weight(1, 2)]).parameters) == 2

    def test_an_unknown_option(self):
        with pytest.raises(ValueError, match="SGD has no option 'learning_rate'; its options are lr, "):
            SGD([{"params": [weight(1)], "learning_rate": 0.1}])

    def test_a_group_without_params(self):
        with pytest.raises(TypeError, match="each group as a dict with 'params'"):
            SGD([{"lr": 0.1}])

    @pytest.mark.parametrize("lr", [None, "0.1", True, 1j, [0.1]])
    def test_a_learning_rate_that_is_no_number(self, lr):
        with pytest.raises(TypeError, match="Adam needs a number as lr, got"):
            Adam([weight(1)], lr=lr)

    @pytest.mark.parametrize("lr", [-1, math.nan, math.inf])
    def test_a_learning_rate_out_of_range(self, lr):
        with pytest.raises(ValueError, match=r"Adam needs 0 <= lr < inf, got"):
            Adam([weight(1)], lr=lr)

    def test_a_group_refused_changes_nothing(self):
        w = weight(1)
        optimizer = SGD([w])
        with pytest.raises(ValueError, match="same tensor"):
            optimizer.add_param_group({"params": [weight(2), w]})
        assert len(optimizer.param_groups) == 1
        assert len(optimizer.parameters) == 1


class TestLearningRate:
    def test_it_can_be_set(self):
        w = weight(1, grad=1)
        optimizer = SGD([w], lr=0.1)
        optimizer.lr = 0.5
        optimizer.step()
        assert w.item() == 0.5

    def test_it_is_set_for_all_groups(self):
        optimizer = SGD([{"params": [weight(1)], "lr": 1.0}, {"params": [weight(1)]}], lr=0.1)
        assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1]
        assert optimizer.lr == 1.0
        optimizer.lr = 0.3
        assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.3]

    def test_numpy_numbers_become_python_numbers(self):
        optimizer = SGD([weight(1)], lr=np.float32(0.5))
        assert type(optimizer.lr) is float
        optimizer.lr = np.float64(0.25)
        assert type(optimizer.lr) is float

    def test_a_group_may_be_changed_by_hand(self):
        w = weight(1, grad=1)
        optimizer = SGD([w], lr=0.1)
        optimizer.param_groups[0]["lr"] = np.float64(0.5)
        optimizer.step()
        assert w.item() == 0.5
        assert w.dtype == np.float32

    @pytest.mark.parametrize("lr", [-0.1, math.nan])
    def test_nonsense_is_refused_and_changes_nothing(self, lr):
        optimizer = SGD([weight(1)], lr=0.1)
        with pytest.raises(ValueError, match="0 <= lr"):
            optimizer.lr = lr
        assert optimizer.lr == 0.1

    def test_nonsense_put_into_a_group_moves_nothing(self):
        w = weight(1, grad=1)
        optimizer = SGD([w])
        optimizer.param_groups[0]["lr"] = math.nan
        with pytest.raises(ValueError, match="0 <= lr"):
            optimizer.step()
        assert w.item() == 1

    def test_zero_stands_still(self):
        w = weight(1, grad=1)
        Adam([w], lr=0).step()
        assert w.item() == 1


class TestGroups:
    def test_each_moves_by_its_own_options(self):
        a, b = weight(1, grad=1), weight(1, grad=1)
        SGD([{"params": [a], "lr": 0.5}, {"params": [b], "weight_decay": 1.0}], lr=0.1).step()
        assert_close(np.array([a.item(), b.item()]), np.array([0.5, 0.8]))

    def test_a_group_may_join_later(self):
        a, b = weight(1, grad=1), weight(1, grad=1)
        optimizer = SGD([a], lr=0.1)
        optimizer.add_param_group({"params": [b], "lr": 0.5})
        optimizer.step()
        assert_close(np.array([a.item(), b.item()]), np.array([0.9, 0.5]))
        assert [len(group["params"]) for group in optimizer.param_groups] == [1, 1]

    def test_the_callers_dict_is_left_alone(self):
        group = {"params": [weight(1)], "lr": 0.5}
        optimizer = SGD([group])
        optimizer.lr = 0.1
        assert group.keys() == {"params", "lr"}
        assert group["lr"] == 0.5

    def test_momentum_in_one_group_only(self):
        a, b = weight(0, grad=1), weight(0, grad=1)
        optimizer = SGD([{"params": [a], "momentum": 0.5}, {"params": [b]}], lr=1.0)
        optimizer.step()
        optimizer.step()
        assert_close(np.array([a.item(), b.item()]), np.array([-2.5, -2]))


class TestZeroGrad:
    def test_gradients_are_forgotten_not_set_to_zero(self):
        a, b = weight(1, grad=1), weight(1)
        SGD([a, b]).zero_grad()
        assert a.grad is None
        assert b.grad is None

    def test_the_array_of_a_forgotten_gradient_keeps_its_values(self):
        w = weight(1, grad=5)
        kept = w.grad
        SGD([w]).zero_grad()
        assert kept.tolist() == [5]


class TestCheckedGradients:
    def test_names_every_bad_one(self):
        a, b, c = weight(1, 2, grad=1), weight(1, 2, 3, grad=1), weight(1, grad=1)
        b.grad[:] = np.nan, np.inf, -np.inf
        c.grad[:] = np.inf
        with pytest.raises(ValueError, match="Adam") as caught:
            Adam([("a", a), ("layer.b", b), ("c", c)]).check_gradients()
        lines = [line.strip() for line in str(caught.value).splitlines()]
        assert lines[1:] == ["layer.b (3,): 1 NaN, 2 infinite of 3", "c (1,): 0 NaN, 1 infinite of 1"]

    def test_good_and_absent_gradients_pass(self):
        optimizer = SGD([weight(1, grad=1e38), weight(1)])
        assert optimizer.check_gradients() is None

    def test_a_checked_step_moves_nothing(self):
        a, b = weight(1, grad=1), weight(1, grad=np.nan)
        optimizer = SGD([a, b], lr=0.1, momentum=0.9)
        with pytest.raises(ValueError, match="parameter 1"):
            optimizer.step(check=True)
        assert a.item() == 1
        assert optimizer.state == [{}, {}]

    def test_without_asking_nobody_looks(self):
        w = weight(1, grad=np.nan)
        SGD([w]).step()
        assert math.isnan(w.item())


class TestGradientsThatDoNotFit:
    @pytest.mark.parametrize(
        "grad",
        [np.ones(3, np.float32), np.ones((1, 2), np.float32), np.float32(1), np.ones(2, np.float64), np.ones(2, int)],
    )
    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_shape_and_dtype(self, rule, grad):
        w = weight(1, 2)
        w.grad = np.asarray(grad)
        with pytest.raises(ValueError, match=r"w \(2,\) float32 has a gradient of shape .* they must be alike"):
            rule([("w", w)]).step()
        assert w.tolist() == [1, 2]

    @pytest.mark.parametrize("grad", [Tensor([1.0, 1.0]), [1.0, 1.0], 1.0])
    def test_what_is_no_array(self, grad):
        w = weight(1, 2)
        w.grad = grad
        with pytest.raises(ValueError, match="needs a NumPy array as its grad, got"):
            SGD([w]).step()

    def test_a_parameter_reshaped_after_its_first_step(self):
        w = weight(1, 2, grad=1)
        optimizer = Adam([w])
        optimizer.step()
        w.data = np.ones(3, np.float32)
        w.grad = np.ones(3, np.float32)
        with pytest.raises(ValueError, match=r"had the shape \(2,\) at its last step"):
            optimizer.step()

    def test_a_read_only_array(self):
        array = np.ones(2, np.float32)
        array.flags.writeable = False
        w = from_numpy(array)
        w.requires_grad = True
        w.grad = np.ones(2, np.float32)
        with pytest.raises(ValueError, match="read-only"):
            SGD([w]).step()


class TestInPlace:
    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_the_array_is_the_same_and_the_version_grows(self, rule):
        w = weight(1, 2, grad=1)
        array, version = w.data, w._version
        rule([w]).step()
        assert w.data is array
        assert w._version > version

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_the_dtype_is_the_parameters(self, rule, dtype):
        w = weight(1, 2, grad=1, dtype=dtype)
        optimizer = rule([w])
        optimizer.step()
        assert w.dtype == dtype
        assert {value.dtype for value in optimizer.state[0].values() if isinstance(value, np.ndarray)} <= {
            np.dtype(dtype)
        }
        assert (w.data < [1, 2]).all()

    @pytest.mark.parametrize("layout", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2], np.flip])
    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_arrays_in_any_layout_move_alike(self, rule, layout):
        rng = np.random.default_rng(0)
        start, gradients = rng.normal(size=(3, 4)), rng.normal(size=(5, 3, 4))
        finals = []
        for put in (np.array, layout):
            w = from_numpy(put(start))
            w.requires_grad = True
            array, optimizer, undo = w.data, rule([w]), np.flip if put is np.flip else np.array
            for g in gradients:
                w.grad = put(g)
                optimizer.step()
            assert w.data is array
            finals.append(undo(w.data))
        assert_close(finals[1], finals[0], rtol=0, atol=0)

    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_a_step_allocates_next_to_nothing(self, rule):
        w = Tensor(np.ones(4 * PIECE), requires_grad=True)
        w.grad = np.ones_like(w.data)
        optimizer = rule([w])
        optimizer.step()
        tracemalloc.start()
        optimizer.step()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 50_000  # one temporary of a piece would be 262,144 bytes

    def test_an_empty_parameter_is_no_problem(self):
        w = Tensor(np.zeros((0, 3)), requires_grad=True)
        w.grad = np.zeros((0, 3), np.float32)
        Adam([w, weight(1, grad=1)]).step()
        assert w.shape == (0, 3)

    def test_parameters_of_different_sizes_and_dtypes_share_scratch_safely(self):
        big = Tensor(np.ones(100), requires_grad=True)
        small, double = weight(1, grad=1), weight(1, grad=1, dtype=np.float64)
        big.grad = np.ones(100, np.float32)
        SGD([small, double, big], lr=0.5).step()
        assert (small.item(), double.item(), set(big.tolist())) == (0.5, 0.5, {0.5})


class TestARuleOfOnesOwn:
    def test_memory_and_update_are_all_it_takes(self):
        class SignSteps(Optimizer):
            def __init__(self, params, lr=0.5):
                super().__init__(params, lr=lr)

            def memory(self, options):
                return ("total",)

            def update(self, p, g, memory, scratch, step, options):
                (total,), (s, _) = memory, scratch
                total += g
                p -= np.multiply(np.sign(g, out=s), options["lr"] / step, out=s)

        w = weight(1, 1)
        w.grad = np.array([3, -4], np.float32)
        optimizer = SignSteps([w])
        optimizer.step()
        optimizer.step()
        assert_close(w, np.array([0.25, 1.75], np.float32))
        assert_close(optimizer.state[0]["total"], np.array([6, -8], np.float32))

    def test_a_rule_that_says_nothing(self):
        class Nothing(Optimizer):
            pass

        with pytest.raises(NotImplementedError, match="Nothing does not say how a parameter moves"):
            Nothing([weight(1, grad=1)], lr=0.1).step()


class TestPrinting:
    def test_one_group(self):
        assert repr(SGD(Linear(2, 3), lr=0.5)) == (
            "SGD(2 parameters, 9 numbers, lr=0.5, momentum=0.0, weight_decay=0.0, nesterov=False)"
        )

    def test_groups_have_a_line_each(self):
        text = repr(SGD([{"params": [weight(1)], "lr": 0.5}, {"params": [weight(1)]}]))
        assert [line.strip()[:13] for line in text.splitlines()] == ["SGD(2 paramet", "1 with lr=0.5", "1 with lr=0.0"]
