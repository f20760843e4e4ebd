"""Module 01 on top of NumPy: arrays that say where they came from."""

import copy
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import tinytorch
from support.checks import assert_close
from tinytorch.core import tensor as T
from tinytorch.core.tensor import (
    Tensor,
    arange,
    as_array,
    broadcast_shape,
    cat,
    exp,
    floating,
    from_numpy,
    gather,
    log,
    logsumexp,
    manual_seed,
    normalize_axes,
    ones,
    pair,
    permute,
    randint,
    randn,
    reshape,
    result,
    scatter_add,
    set_recorder,
    stack,
    where,
    zeros,
)

DOORS = [
    "Tensor",
    "tensor",
    "zeros",
    "ones",
    "full",
    "eye",
    "arange",
    "linspace",
    "rand",
    "randn",
    "randint",
    "manual_seed",
]


class TestPriorStackStillWorking:
    """NumPy, Python, and the way into the package."""

    @pytest.mark.parametrize("name", DOORS)
    def test_the_package_hands_out_what_this_module_makes(self, name):
        assert getattr(tinytorch, name) is getattr(T, name)

    def test_this_module_needs_numpy_and_nothing_else(self):
        modules = {module.__name__ for module in vars(T).values() if isinstance(module, types.ModuleType)}
        assert modules - sys.stdlib_module_names == {"numpy"}

    def test_importing_it_leaves_numpys_random_generators_asleep(self):
        code = "import sys, tinytorch.core.tensor; print('numpy.random' in sys.modules)"
        here = {**os.environ, "PYTHONPATH": str(Path(tinytorch.__file__).parents[1])}
        done = subprocess.run([sys.executable, "-P", "-c", code], env=here, capture_output=True, text=True, check=True)
        assert done.stdout == "False\n"

    def test_numpy_keeps_float32_beside_python_numbers_and_so_do_tensors(self):
        for x in (np.ones(2, np.float32), ones(2)):
            assert [(x * 2.5).dtype, (2 + x).dtype, (x**2).dtype, (x > 1).dtype] == ["f4", "f4", "f4", "?"]

    def test_numpy_widens_float32_beside_float64_and_tensors_do_not(self):
        assert (np.ones(2, np.float32) * np.float64(2)).dtype == np.float64
        assert (ones(2) * np.float64(2)).dtype == np.float32
        assert (np.ones(2) * ones(2)).dtype == np.float32

    def test_an_array_on_the_left_leaves_the_operator_to_the_tensor(self):
        for out in (np.ones(2) + ones(2), np.ones(2) @ ones(2), np.ones(2) < ones(2), np.float64(1) / ones(2)):
            assert type(out) is Tensor

    def test_numpy_refuses_to_compute_with_a_tensor_behind_its_back(self):
        with pytest.raises(TypeError, match="does not support ufuncs"):
            np.exp(ones(2))


class TestModule01TensorCore:
    def test_as_array_brings_floats_to_float32_and_leaves_integers_and_booleans(self):
        assert [as_array(data).dtype for data in (1.5, np.ones(2), [1, 2], True)] == ["f4", "f4", "i8", "?"]

    def test_result_boxes_an_array_and_tells_the_recorder(self, heard):
        x, array = ones(2), np.ones(3)
        out = result(array, "made", x, axis=1)
        assert out.data is array
        assert heard == [(out, "made", (x,), {"axis": 1})]

    def test_broadcast_shape_of_worked_examples(self):
        assert broadcast_shape("add", (2, 3), (3,)) == (2, 3)
        assert broadcast_shape("add", (4, 1), (3,)) == (4, 3)
        with pytest.raises(ValueError, match=r"add needs shapes that broadcast, got \(2, 3\) and \(2,\)"):
            broadcast_shape("add", (2, 3), (2,))

    def test_arithmetic_of_a_worked_example(self):
        x, y = Tensor([6.0, 8.0]), Tensor([2.0, 4.0])
        assert [(x + y).tolist(), (x - y).tolist(), (x * y).tolist(), (x / y).tolist()] == [
            [8, 12],
            [4, 4],
            [12, 32],
            [3, 2],
        ]

    def test_exp_log_sqrt_and_powers_of_worked_examples(self):
        assert_close(exp([0.0, 1.0]), np.array([1, np.e], np.float32))
        assert_close(log([1.0, np.e]), np.array([0, 1], np.float32))
        assert (T.sqrt(Tensor([4.0, 9.0])) ** 3).tolist() == [8, 27]

    def test_matmul_of_a_worked_example(self):
        assert (Tensor([[1.0, 2.0], [3.0, 4.0]]) @ Tensor([[5.0, 6.0], [7.0, 8.0]])).tolist() == [[19, 22], [43, 50]]
        assert (ones(5, 2, 3) @ ones(3, 4)).shape == (5, 2, 4)

    def test_reductions_of_a_worked_example(self):
        x = Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]])
        assert [x.sum(0).tolist(), x.mean(1).tolist(), x.max(1).tolist(), x.min().item()] == [
            [5, 7, 12],
            [2, 6],
            [3, 9],
            1,
        ]
        assert_close(x.var(1), np.array([2 / 3, 14 / 3], np.float32))

    def test_logsumexp_of_a_worked_example(self):
        assert_close(logsumexp([[1000.0, 1000.0], [0.0, 0.0]], axis=1), np.float32([1000, 0]) + np.float32(np.log(2)))

    def test_reshape_and_permute_of_worked_examples(self):
        x = arange(6).reshape(2, -1)
        assert reshape(x, 3, 2).tolist() == [[0, 1], [2, 3], [4, 5]]
        assert permute(x, 1, 0).tolist() == [[0, 3], [1, 4], [2, 5]]

    def test_cat_and_stack_of_worked_examples(self):
        x, y = Tensor([1, 2]), Tensor([3, 4])
        assert [cat([x, y]).tolist(), stack([x, y]).tolist()] == [[1, 2, 3, 4], [[1, 2], [3, 4]]]

    def test_where_of_a_worked_example(self):
        assert where([True, False], Tensor([1.0, 2.0]), Tensor([3.0, 4.0])).tolist() == [1, 4]

    def test_gather_and_scatter_add_of_worked_examples(self):
        scores = Tensor([[0.5, 0.25, 4.0], [2.0, 3.0, 1.0]])
        assert gather(scores, 1, [[2], [0]]).tolist() == [[4], [2]]
        assert scatter_add(zeros(3), 0, [0, 0, 2], ones(3)).tolist() == [2, 0, 1]


RULES = {  # what module 05 will write as classes: gradients of the inputs from the gradient of the output
    "add": lambda g, x, y: (g, g),
    "sub": lambda g, x, y: (g, -g),
    "mul": lambda g, x, y: (g * y, g * x),
    "matmul": lambda g, x, y: (g @ y.T, x.T @ g),
    "exp": lambda g, x, out: (g * out,),
    "sum": lambda g, x, axis: (g + np.zeros_like(x) if axis is None else np.expand_dims(g, axis) + np.zeros_like(x),),
    "mean": lambda g, x, axis, count: (np.expand_dims(g, axis) / count + np.zeros_like(x),),
    "getitem": lambda g, x, index: (added_at(np.zeros_like(x), index, g),),
    "permute": lambda g, x, axes: (g.transpose(np.argsort(axes)),),
    "max": lambda g, x, axis, extreme: ((x == extreme) / (x == extreme).sum(axis=axis, keepdims=True) * g,),
}


def added_at(target, index, values):
    np.add.at(target, index, values)
    return target


def gradients(loss, announcements):
    """d(loss)/d(tensor) of every tensor by its id, from the announcements alone."""
    found = {id(loss): np.ones_like(loss.data)}
    for out, op, inputs, saved in reversed(announcements):
        if id(out) in found:
            for x, grad in zip(inputs, RULES[op](found[id(out)], *(x.data for x in inputs), **saved), strict=True):
                found[id(x)] = found.get(id(x), 0) + grad
    return found


class TestBackwardIntegration:
    """What this module promises module 05, which computes gradients from what operations announce."""

    def gradient(self, f, x, heard):
        x = from_numpy(np.array(x))
        return gradients(f(x), heard)[id(x)]

    @pytest.mark.parametrize(
        ("f", "x", "want"),
        [
            (lambda x: (x * x).sum(), [1.0, 2.0], [2, 4]),
            (lambda x: (x + x - 3 * x).sum(), [1.0, 2.0], [-1, -1]),
            (lambda x: exp(x).sum(), [0.0, 1.0], [1, np.e]),
            (lambda x: (x.mean(axis=1) * [1.0, 2.0]).sum(), [[1.0, 2.0], [3.0, 4.0]], [[0.5, 0.5], [1, 1]]),
            (lambda x: (x.sum(axis=0) * [1.0, 2.0]).sum(), [[1.0, 2.0], [3.0, 4.0]], [[1, 2], [1, 2]]),
            (lambda x: (x @ [[1.0], [2.0]]).sum(), [[1.0, 2.0], [3.0, 4.0]], [[1, 2], [1, 2]]),
            (lambda x: ([[1.0, 2.0]] @ x.T).sum(), [[1.0, 2.0], [3.0, 4.0]], [[1, 2], [1, 2]]),
            (lambda x: (x[[0, 0, 1]] * [1.0, 2.0, 4.0]).sum(), [5.0, 6.0], [3, 4]),
            (lambda x: x.max(), [1.0, 3.0, 3.0], [0, 0.5, 0.5]),
        ],
    )
    def test_what_is_announced_suffices_for_gradients(self, f, x, want, heard):
        assert_close(self.gradient(f, x, heard), np.array(want, np.float64))

    def test_a_thousand_steps_are_announced_in_the_order_they_were_done(self, heard):
        x = y = from_numpy(np.ones(1))
        for _ in range(1000):
            y = y * 1.001
        assert len(heard) == 1000
        assert all(later[2][0] is earlier[0] for earlier, later in zip(heard, heard[1:], strict=False))
        assert_close(gradients(y, heard)[id(x)], np.array([1.001**1000]))

    def test_backward_without_module_05_says_what_is_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tinytorch.core.autograd", None)  # as if the file were not there
        x = Tensor([1.0], requires_grad=True)
        with pytest.raises(
            NotImplementedError, match=r"backward is written in module 05 \(autograd\), which this package lacks"
        ):
            (x * 2).sum().backward()
        assert x.grad is None

    def test_backward_with_module_05_is_its_function(self, monkeypatch):
        calls = []
        module = types.ModuleType("tinytorch.core.autograd")
        module.backward = lambda *arguments: calls.append(arguments)
        monkeypatch.setitem(sys.modules, "tinytorch.core.autograd", module)
        x, gradient = ones(2), np.ones(2)
        x.backward()
        x.backward(gradient)
        assert [(out is x, given) for out, given in calls] == [(True, None), (True, gradient)]

    def test_a_module_05_that_is_broken_is_not_taken_for_a_missing_one(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tinytorch.core.autograd", types.ModuleType("tinytorch.core.autograd"))
        with pytest.raises(ImportError, match="cannot import name 'backward'"):
            ones(2).sum().backward()

    @pytest.mark.parametrize("make", [lambda: ones(2), lambda: Tensor([1.0]), lambda: ones(2) + 1])
    def test_what_module_05_keeps_on_tensors_is_empty_before(self, make):
        x = make()
        assert vars(x).keys() - {"_used"} == {"_data", "_requires_grad", "_grad_fn"}
        assert (x._requires_grad, x._grad_fn) == (False, None)

    def test_a_recorder_that_fails_is_not_silenced(self):
        def broken(out, op, inputs, saved):
            raise ZeroDivisionError(op)

        before = set_recorder(broken)
        try:
            with pytest.raises(ZeroDivisionError, match="exp"):
                exp(ones(2))
        finally:
            set_recorder(before)


class TestForwardIntegration:
    """What the modules to come rely on."""

    def test_operations_of_other_modules_end_in_result(self, heard):
        def relu(x):
            x = floating(x)
            return result(np.maximum(x.data, 0), "relu", x)

        assert_close(relu([-1, 2]), np.array([0, 2], np.float32))
        assert [op for _, op, _, _ in heard] == ["astype", "relu"]

    def test_pair_floating_and_normalize_axes_prepare_operands(self):
        a, b = pair("loss", [1, 2], np.array([0.5, 1.5]))
        assert (a.dtype, b.dtype) == (np.float32, np.float32)
        assert floating(True).dtype == np.float32
        assert normalize_axes("softmax", ones(2, 3), -1) == (1,)

    def test_a_layer_multiplies_adds_and_keeps_leading_axes(self):
        x, W, b = ones(7, 5, 3), ones(3, 2), Tensor([0.0, 1.0])
        assert_close(x @ W + b, np.tile(np.array([3, 4], np.float32), (7, 5, 1)))

    def test_softmax_can_be_written_with_what_is_here(self):
        x = Tensor([[64.0, 64.0], [0.0, np.log(3)]])
        assert_close(exp(x - logsumexp(x, axis=-1, keepdims=True)), np.array([[0.5, 0.5], [0.25, 0.75]], np.float32))

    def test_a_masked_score_counts_for_nothing(self):
        scores = zeros(2, 2).masked_fill([[False, True], [False, False]], -np.inf)
        weights = exp(scores - logsumexp(scores, axis=-1, keepdims=True))
        assert_close(weights, np.array([[1, 0], [0.5, 0.5]], np.float32))

    def test_an_optimizer_changes_the_data_and_the_change_is_counted(self):
        p = Tensor([1.0, 2.0], requires_grad=True)
        p.grad = np.array([1.0, 4.0], np.float32)
        p.data = p.data - 0.5 * p.grad
        assert (p.tolist(), p.dtype, p._version) == ([0.5, 0], np.float32, 1)
        p.zero_grad()
        assert p.grad is None

    def test_a_loader_picks_batches_and_an_embedding_rows(self):
        images, tokens = randn(10, 2, 2, rng=0), Tensor([[3, 0], [3, 9]])
        assert_close(images[[3, 0]], images.data[[3, 0]], rtol=0)
        assert images[tokens].shape == (2, 2, 2, 2)

    def test_a_model_can_be_copied(self):
        model = {"weight": Tensor([1.0], requires_grad=True), "names": ["weight"]}
        other = copy.deepcopy(model)
        other["weight"].data[0] = 5
        assert model["weight"].tolist() == [1]
        assert other["weight"].requires_grad


class TestCrossModuleIntegration:
    """With NumPy and Python around it."""

    def test_numpy_reads_what_tensors_hold(self):
        x = Tensor([[1.0, 2.0], [3.0, 4.0]])
        assert np.array_equal(x, [[1, 2], [3, 4]])
        assert np.asarray(x).mean() == 2.5
        assert np.concatenate([np.asarray(x), np.asarray(x)]).shape == (4, 2)

    def test_json_carries_a_tensor(self):
        x = randn(2, 3, rng=0)
        assert_close(Tensor(json.loads(json.dumps(x.tolist()))), x.data, rtol=0, atol=0)

    def test_python_sums_zips_unpacks_and_compares(self):
        x = Tensor([[1.0, 2.0], [3.0, 4.0]])
        first, second = x
        assert sum(x).tolist() == [4, 6]
        assert [a.item() * b.item() for a, b in zip(first, second, strict=True)] == [3, 8]
        assert max(first, key=float).item() == 2
        assert (first < second).all()

    def test_a_table_of_one_hot_rows(self):
        labels = Tensor([2, 0, 1])
        compared = (labels.unsqueeze(1) == arange(3)).astype(np.float32)
        assert_close(compared, T.eye(3)[labels].data)
        assert_close(compared, scatter_add(zeros(3, 3), 1, labels.unsqueeze(1), ones(3, 1)).data)

    def test_standardizing_a_batch(self):
        x = randn(100, 3, rng=0) * 5 + 2
        z = (x - x.mean(0)) / x.std(0)
        assert_close(z.mean(0), np.zeros(3, np.float32), atol=1e-5)
        assert_close(z.var(0), np.ones(3, np.float32), rtol=1e-4)

    def test_all_pairs_of_distances_two_ways(self):
        x, y = randn(5, 3, rng=0), randn(4, 3, rng=1)
        plain = ((x.unsqueeze(1) - y) ** 2).sum(-1)
        fast = (x**2).sum(1, keepdims=True) - 2 * (x @ y.T) + (y**2).sum(1)
        assert plain.shape == (5, 4)
        assert_close(plain, fast.data, rtol=1e-4, atol=1e-5)

    def test_the_classes_a_model_gets_right(self):
        scores = Tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
        assert_close((scores.argmax(1) == [1, 1, 1]).mean(), np.float32(2 / 3))


class TestRegressionPrevention:
    def test_token_ids_above_2_to_the_24_stay_what_they_are(self):
        ids = Tensor([2**24 + 1, 2**31 + 1])
        for out in (ids + 0, ids.reshape(2, 1).flatten(), ids[[0, 1]], cat([ids]), ids.clip(0, 2**40), ids.copy()):
            assert out.tolist() == [2**24 + 1, 2**31 + 1]

    def test_nothing_makes_float64_of_float32(self):
        x = randn(3, 4, rng=0)
        for out in (
            x * 0.1,
            x / np.float64(3),
            x - np.ones(4),
            x.mean(),
            x.std(),
            x * (x > 0),
            where(x > 0, x, 0.0),
            x**2,
        ):
            assert out.dtype == np.float32

    def test_a_column_and_a_row_make_a_table(self):
        assert (ones(4, 1) - ones(4)).shape == (4, 4)

    def test_shape_is_never_stale(self):
        x = ones(2, 3)
        x.data = x.data.reshape(3, 2)
        assert (x.shape, len(x), x.T.shape) == ((3, 2), 3, (2, 3))

    def test_vectors_multiply_from_either_side(self):
        W = Tensor([[1.0, 2.0], [3.0, 4.0]])
        assert [([1.0, 1.0] @ W).tolist(), (W @ [1.0, 1.0]).tolist(), (W[0] @ W[1]).item()] == [[4, 6], [3, 7], 11]

    def test_a_tensor_is_no_condition_and_equality_no_identity(self):
        x = ones(2)
        with pytest.raises(ValueError, match="neither true nor false"):
            bool(x == x)
        assert {x: 1}[x] == 1

    def test_operations_leave_their_operands_alone(self, operations, operands):
        for operation in operations:
            given = [Tensor(a) for a in operands[: operation.operands]]
            operation.call(*given)
            for x, before in zip(given, operands, strict=False):
                assert_close(x, before.astype(np.float32), rtol=0, atol=0, what=operation.name)

    def test_a_seed_makes_a_run_repeat(self):
        def run():
            manual_seed(0)
            return (randn(3, 3) @ randn(3, 2) + randint(0, 5, (2,))).tolist()

        assert run() == run()

    def test_sums_run_along_the_axis_named(self):
        x = Tensor([[1.0, 2.0], [10.0, 20.0]])
        assert [x.sum(0).tolist(), x.sum(1).tolist(), x.sum((0, 1)).item()] == [[11, 22], [3, 30], 33]

    def test_no_warning_at_the_edges(self):
        for out in (logsumexp([-np.inf, -np.inf]), logsumexp([1e38, 1e38]), exp([-1e4]), where([True], 1.0, np.inf)):
            assert not np.isnan(out.data).any()
