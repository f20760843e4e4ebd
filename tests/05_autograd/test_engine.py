"""The walk back: order, sums, memory, what it asks for and what it leaves alone."""

import gc
import weakref

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core import tensor as T
from tinytorch.core.autograd import Function, backward, checkpoint, grad, no_grad, set_runner
from tinytorch.core.layers import linear
from tinytorch.core.tensor import Tensor, from_numpy, randn


@pytest.fixture
def count_passes(operation):
    """An operation that counts how often its rule runs, and complains if its node is looked at without end."""
    runs = []

    def count(rule, grad):
        runs.append(rule)
        return grad

    passes = operation(count, "pass")
    rule, slot, looks = Function.rules["pass"], Function.inputs, []

    def look(self):
        looks.append(self)
        assert len(looks) < 5000, "the engine visits the same rules again and again: once per path instead of once"
        return slot.__get__(self)

    rule.inputs = property(look, slot.__set__)
    passes.runs = runs
    return passes


class TestOrder:
    def test_one_step(self):
        x = Tensor(3.0, requires_grad=True)
        (x * x).backward()
        assert x.grad == 6

    def test_a_diamond(self):
        """y = a + b with a = x^2 and b = 5 x^2 reaches x twice, once along each side."""
        x = Tensor(3.0, requires_grad=True)
        square = x * x
        (square + square * 5).backward()
        assert x.grad == 36

    def test_a_short_and_a_long_way_to_the_same_tensor(self):
        """The rule of h has to wait for the long way, though the short one arrives first."""
        x = Tensor(2.0, requires_grad=True)
        h = x * x
        long = h
        for _ in range(10):
            long = long * 1.0
        (h + long).backward()
        assert x.grad == 8

    def test_both_orders_of_the_two_ways(self):
        for swap in (False, True):
            x = Tensor(2.0, requires_grad=True)
            h = x * x
            ways = h * 3, (h * 2).exp().log()
            (ways[swap] + ways[not swap]).backward()
            assert_close(x.grad, np.float32(20))

    @pytest.mark.parametrize("order", ["abc", "acb", "bac", "bca", "cab", "cba"])
    def test_three_uses_in_any_order(self, order):
        x = Tensor(2.0, requires_grad=True)
        h = x * x
        uses = {"a": lambda: h * 3, "b": lambda: h * h, "c": lambda: (h * h) * h}
        terms = [uses[name]() for name in order]
        (terms[0] + terms[1] + terms[2]).backward()
        assert_close(x.grad, np.float32((3 + 2 * 4 + 3 * 16) * 4))

    def test_a_ladder_of_fibonacci(self):
        """Two rungs meet in each rung: as many paths as the 30th Fibonacci number."""
        a = b = x = Tensor(1.0, requires_grad=True)
        for _ in range(28):
            a, b = b, a + b
        b.backward()
        assert x.grad == 832040

    def test_forty_doublings_are_forty_rule_applications(self, count_passes):
        x = Tensor(1.0, requires_grad=True)
        y = x
        for _ in range(40):
            y = count_passes(y + y)
        y.backward()
        assert len(count_passes.runs) == 40
        assert x.grad == 2.0**40

    def test_a_grid_of_diamonds_runs_every_rule_once(self, count_passes):
        x = Tensor(1.0, requires_grad=True)
        left = right = x
        for _ in range(20):
            left, right = count_passes(left + right), count_passes(left - right)
        (left + right).backward()
        assert len(count_passes.runs) == len(set(map(id, count_passes.runs))) == 40
        assert x.grad == 2 * 2.0**10

    def test_what_does_not_lead_to_the_loss_is_not_visited(self, count_passes):
        x = Tensor(1.0, requires_grad=True)
        aside = count_passes(x) * 3
        (x * 2).backward()
        assert (count_passes.runs, x.grad.item()) == ([], 2)
        aside.backward()
        assert (len(count_passes.runs), x.grad.item()) == (1, 5)


@pytest.fixture
def only_reference_counting():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("only_reference_counting")
class TestDepth:
    """A recursive walk would end at Python's limit of a thousand calls, or at the end of the stack."""

    def test_a_hundred_thousand_operations_in_a_row(self):
        y = x = Tensor(1.0, requires_grad=True)
        for _ in range(100_000):
            y = -y
        y.backward()
        assert x.grad == 1

    def test_a_hundred_thousand_operations_are_dropped_without_backward(self):
        y = x = Tensor(1.0, requires_grad=True)
        refs = []
        for i in range(100_000):
            y = -y
            if i % 10_000 == 0:
                refs.append(weakref.ref(y))
        del y
        assert [ref() for ref in refs] == [None] * 10
        assert x.grad is None


class TestSums:
    def test_a_leaf_used_twice_in_one_operation(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        (x + x).sum().backward()
        assert_close(x.grad, np.array([2, 2], np.float32))

    def test_a_leaf_on_both_sides_of_a_product(self):
        x = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        (x @ x).sum().backward()
        one = np.ones((2, 2), np.float32)
        assert_close(x.grad, one @ x.data.T + x.data.T @ one)

    def test_a_leaf_used_in_many_operations(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        (x * 2 + x * 3 - x + x.reshape(2, 1).T.sum(axis=0)).sum().backward()
        assert_close(x.grad, np.array([5, 5], np.float32))

    def test_a_second_backward_adds_to_grad(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        (x * x).sum().backward()
        (x * 3).sum().backward()
        assert_close(x.grad, np.array([5, 7], np.float32))
        x.zero_grad()
        assert x.grad is None
        (x * 3).sum().backward()
        assert_close(x.grad, np.array([3, 3], np.float32))

    def test_accumulated_losses_equal_their_sum(self):
        w = randn(3, 2, rng=0)
        data = [randn(4, 3, rng=i + 1) for i in range(3)]
        at_once, by_part = (Tensor(w, requires_grad=True) for _ in range(2))
        total = 0.0
        for x in data:
            total += (x @ at_once).exp().mean()
            (x @ by_part).exp().mean().backward()
        total.backward()
        assert_close(by_part.grad, at_once.grad)

    def test_the_gradient_given_to_backward_is_the_start(self):
        x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
        (x * x).backward([1.0, 10.0, 100.0])
        assert_close(x.grad, np.array([2, 40, 600], np.float32))

    @pytest.mark.parametrize("start", [2.0, np.float32(2), np.array(2), [[2]], Tensor([[2]])])
    def test_the_start_is_converted(self, start):
        x = Tensor([[3.0]] if np.ndim(start) else 3.0, requires_grad=True)
        (x * x).backward(start)
        assert_close(x.grad, np.full(x.shape, 12, np.float32))

    def test_a_single_number_of_any_shape_starts_from_1(self):
        x = Tensor([[3.0]], requires_grad=True)
        (x * x).backward()
        assert_close(x.grad, np.array([[6]], np.float32))

    def test_backward_from_a_leaf_is_the_identity(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        x.backward([5.0, 7.0])
        assert x.grad.tolist() == [5, 7]
        x.backward([1.0, 1.0])
        assert x.grad.tolist() == [6, 8]

    def test_the_method_and_the_function_are_one(self):
        x = Tensor(2.0, requires_grad=True)
        (x * x).backward()
        backward(x * x)
        backward(x * x, gradient=10.0)
        (x * x).backward(gradient=10.0)
        assert x.grad == 4 + 4 + 40 + 40


class TestGradients:
    """What ends up in `grad`: plain arrays, of the shape and dtype of the data, owned by nobody else."""

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0, 3)])
    def test_they_are_arrays_of_the_shape_and_dtype_of_the_data(self, shape, dtype):
        x = Tensor(np.ones(shape), requires_grad=True, dtype=dtype)
        (x * 2 + x).sum().backward()
        assert (type(x.grad), x.grad.shape, x.grad.dtype) == (np.ndarray, shape, dtype)
        assert_close(x.grad, np.full(shape, 3, dtype))

    @pytest.mark.parametrize("boxed", [False, True])
    @pytest.mark.parametrize("way", [lambda x: x * 1, lambda x: x.reshape(()), lambda x: x.reshape(1)[0]])
    @pytest.mark.parametrize("times", [2, 3, 4])
    def test_a_number_gets_every_one_of_its_gradients(self, times, way, boxed):
        x = Tensor(2.0, requires_grad=True)
        if boxed:
            assert x.data.ndim == 0  # asked for, a scalar becomes an array and stays one
        total = way(x)
        for _ in range(times - 1):
            total = total + way(x)
        total.backward()
        assert x.grad.tolist() == times

    def test_one_float64_on_the_way_changes_no_dtype_at_the_end(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        y = x * Tensor([3.0, 4.0], dtype=np.float64)
        assert y.dtype == np.float64
        y.sum().backward()
        assert_close(x.grad, np.array([3, 4], np.float32))
        assert x.grad.dtype == np.float32

    def test_they_can_be_written_to(self):
        x = Tensor(np.ones((2, 3)), requires_grad=True)
        x.sum().backward()
        x.grad *= 2
        assert x.grad.tolist() == [[2, 2, 2], [2, 2, 2]]

    @pytest.mark.parametrize(
        "f",
        [
            lambda x, y: x + y,
            lambda x, y: (x + y) + (x - y),
            lambda x, y: x.copy() + y.copy(),
            lambda x, y: T.cat([x, y]),
            lambda x, y: x.reshape(3, 1).T + y.reshape(1, 3),
            lambda x, y: T.where(np.array([True, False, True]), x, y),
        ],
    )
    def test_two_leaves_never_share_one(self, f):
        x, y = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(3), requires_grad=True)
        f(x, y).sum().backward()
        want = y.grad.copy()
        x.grad += 100
        assert_close(y.grad, want, rtol=0, atol=0)

    def test_a_later_backward_does_not_reach_into_another_leaf(self):
        """x + y hands one array to both; adding to it for x would add to y."""
        x, y = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(3), requires_grad=True)
        (x + y).sum().backward()
        (x * 10).sum().backward()
        assert (x.grad.tolist(), y.grad.tolist()) == ([11, 11, 11], [1, 1, 1])

    def test_a_sum_on_the_way_does_not_reach_into_another_branch(self):
        """Both terms of h + k receive one array; h also has another use, whose gradient must be added to h alone."""
        for first in (True, False):
            x = Tensor(np.ones(3), requires_grad=True)
            h, k = x * 2, x * 3
            extra = h * 5 if first else None
            total = h + k
            extra = h * 5 if extra is None else extra
            assert_close(grad((total + extra).sum(), [h, k])[1], np.ones(3, np.float32))

    def test_a_rule_may_hand_one_new_array_to_both_inputs(self, operation):
        def both(rule, grad):
            twice = grad * 2
            return twice, twice

        x, y = Tensor(np.ones(3), requires_grad=True), Tensor(np.ones(3), requires_grad=True)
        aside = x * 10.0
        (operation(both)(x, y) + aside).sum().backward()
        assert (x.grad.tolist(), y.grad.tolist()) == ([12, 12, 12], [2, 2, 2])
        assert not np.shares_memory(x.grad, y.grad)

    def test_the_start_is_never_changed(self):
        start = np.ones(3, np.float32)
        x = Tensor(np.ones(3), requires_grad=True)
        ((x + x) + x).backward(start)
        assert start.tolist() == [1, 1, 1]
        y = Tensor(np.ones(3), requires_grad=True)
        y.backward(start)
        y.grad += 5
        (y * 2).backward(start)
        assert start.tolist() == [1, 1, 1]

    def test_what_was_saved_by_the_caller_is_never_changed(self):
        data, other = np.ones(3, np.float32), np.full(3, 2, np.float32)
        x, y = from_numpy(data), from_numpy(other)
        x.requires_grad = y.requires_grad = True
        (x * y + x * y).sum().backward()
        x.grad *= 100
        assert (data.tolist(), other.tolist()) == ([1, 1, 1], [2, 2, 2])


class TestWhatNeedsGradients:
    def test_results_of_tracked_inputs_are_tracked(self):
        x, y = Tensor([1.0], requires_grad=True), Tensor([1.0])
        assert (x * y).requires_grad
        assert type(((x * y) + y)._grad_fn).__name__ == "AddBackward"

    def test_results_of_untracked_inputs_are_not(self):
        out = Tensor([1.0]) * Tensor([2.0])
        assert not out.requires_grad
        assert out._grad_fn is None

    @pytest.mark.parametrize(
        "f",
        [
            lambda x: x > 1,
            lambda x: x == x,
            lambda x: x.argmax(),
            lambda x: x.argmin(axis=0),
            lambda x: x.sort()[1],
            lambda x: x.topk(1)[1],
            lambda x: x.astype(np.int64),
            lambda x: x.astype(bool),
            lambda x: (x > 1).any(),
        ],
    )
    def test_what_is_no_float_has_no_history(self, f):
        out = f(Tensor([1.0, 2.0], requires_grad=True) * 1)
        assert not out.requires_grad
        assert out._grad_fn is None

    def test_a_detached_tensor_passes_nothing(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        (x.detach() * x).sum().backward()
        assert_close(x.grad, np.array([1, 2], np.float32))

    def test_data_gets_no_gradient(self):
        x, w = Tensor([1.0, 2.0]), Tensor([3.0, 4.0], requires_grad=True)
        (x * w).sum().backward()
        assert x.grad is None

    def test_computed_tensors_keep_no_gradient(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        h = x * 2
        (h * h).sum().backward()
        assert h.grad is None

    def test_a_frozen_parameter_gets_none(self):
        x, w = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
        w.requires_grad = False
        (x * w).sum().backward()
        assert w.grad is None
        assert_close(x.grad, np.array([3, 4], np.float32))

    def test_needs_tells_the_rule_what_is_asked_for(self, operation):
        asked = []
        both = operation(lambda rule, grad: asked.append(rule.needs) or (grad, grad))
        for needs in [(True, False), (False, True), (True, True)]:
            x, y = (Tensor([1.0], requires_grad=need) for need in needs)
            both(x, y).backward()
        assert asked == [(True, False), (False, True), (True, True)]

    def test_what_a_rule_says_of_an_input_without_need_is_ignored(self, operation):
        odd = operation(lambda rule, grad: (grad, "whatever"))
        x, y = Tensor([1.0], requires_grad=True), Tensor([[1.0, 2.0]])
        odd(x, y).backward()
        assert x.grad.tolist() == [1]
        assert y.grad is None

    @pytest.mark.parametrize("product", [T.matmul, linear])
    def test_a_product_that_nobody_asks_for_is_not_computed(self, product):
        for needs in [(True, False), (False, True)]:
            a, b = (Tensor(np.ones((2, 2)), requires_grad=need) for need in needs)
            grads = product(a, b)._grad_fn.backward(np.ones((2, 2), np.float32))
            assert [dx is None for dx in grads] == [not need for need in needs]


class TestRetainGrad:
    def test_a_computed_tensor_keeps_its_gradient_if_asked(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        h = x * 2
        h.retain_grad()
        (h * h).sum().backward()
        assert_close(h.grad, np.array([4, 8], np.float32))
        assert_close(x.grad, np.array([8, 16], np.float32))

    def test_all_its_uses_count(self):
        x = Tensor(1.0, requires_grad=True)
        h = x * 2
        h.retain_grad()
        (h * 3 + h * h + h).backward()
        assert h.grad == 3 + 4 + 1

    def test_the_root_can_be_asked_too(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        y = x * 2
        y.retain_grad()
        y.backward([5.0, 7.0])
        assert_close(y.grad, np.array([5, 7], np.float32))
        assert_close(x.grad, np.array([10, 14], np.float32))

    def test_the_kept_gradient_is_its_own(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        h = x + 0.0
        h.retain_grad()
        (h + 0.0).sum().backward()
        h.grad += 100
        assert x.grad.tolist() == [1, 1]

    def test_a_leaf_may_be_asked_in_vain(self):
        x = Tensor(2.0, requires_grad=True)
        x.retain_grad()
        (x * x).backward()
        assert x.grad == 4


class TestGrad:
    """grad(output, inputs): the gradients as a result, and nothing else changed."""

    def test_it_returns_what_backward_would_add(self):
        x, y = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
        dx, dy = grad((x * y * y).sum(), [x, y])
        assert_close(dx, np.array([9, 16], np.float32))
        assert_close(dy, np.array([6, 16], np.float32))

    def test_it_leaves_every_grad_alone(self):
        x, y = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
        x.grad = np.array([7.0, 7.0], np.float32)
        h = x * y
        h.retain_grad()
        grad(h.sum(), [x])
        assert x.grad.tolist() == [7, 7]
        assert (y.grad, h.grad) == (None, None)

    def test_one_tensor_gives_one_array(self):
        x = Tensor(3.0, requires_grad=True)
        dx = grad(x * x, x)
        assert (type(dx), dx.shape, dx.item()) == (np.ndarray, (), 6)

    def test_a_list_gives_a_list(self):
        x = Tensor(3.0, requires_grad=True)
        assert [type(dx) for dx in grad(x * x, (x,))] == [np.ndarray]
        assert [dx.item() for dx in grad(x * x, [x, x])] == [6, 6]

    def test_of_a_computed_tensor(self):
        x = Tensor(3.0, requires_grad=True)
        h = x * x
        assert [dx.item() for dx in grad(h * h, [h, x])] == [18, 108]

    def test_of_the_output_itself(self):
        x = Tensor(3.0, requires_grad=True)
        y = x * x
        assert grad(y, y) == 1
        assert grad(x, x) == 1

    def test_from_a_gradient(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        assert_close(grad(x * x, x, [1.0, 10.0]), np.array([2, 40], np.float32))

    def test_the_arrays_belong_to_the_caller(self):
        x, y = Tensor([1.0, 2.0], requires_grad=True), Tensor([1.0, 2.0], requires_grad=True)
        dx, dy = grad((x + y).sum(), [x, y])
        dx += 100
        assert dy.tolist() == [1, 1]

    def test_no_dependence_is_an_error(self):
        x, y = Tensor([1.0], requires_grad=True), Tensor([1.0, 2.0], requires_grad=True)
        with pytest.raises(RuntimeError, match=r"grad: the output does not depend on input 1, of shape \(2,\)"):
            grad(x * x, [x, y])

    def test_no_history_is_an_error(self):
        with pytest.raises(RuntimeError, match=r"grad needs a tensor that depends on one with requires_grad=True"):
            grad(Tensor(1.0), Tensor(1.0))


@pytest.mark.usefixtures("only_reference_counting")
class TestMemory:
    def test_a_graph_that_nobody_names_is_gone(self):
        x = Tensor(np.ones(3), requires_grad=True)
        h = x.exp()
        y = (h * h).sum()
        refs = [weakref.ref(thing) for thing in (h, h.data, h._grad_fn, y, y._grad_fn)]
        del h, y
        assert [ref() for ref in refs] == [None] * 5

    def test_after_backward_the_root_holds_nothing(self):
        x = Tensor(np.ones(3), requires_grad=True)
        h = x.exp()
        loss = (h * h).sum()
        refs = weakref.ref(h), weakref.ref(h.data), weakref.ref(h._grad_fn)
        del h
        loss.backward()
        assert [ref() for ref in refs] == [None] * 3
        assert (loss._grad_fn.inputs, loss._grad_fn.saved) == (None, None)

    def test_the_graph_is_freed_while_backward_runs(self, operation):
        """When the rule of the first operation runs, the arrays of all later ones are gone."""
        alive = []

        def look(rule, grad):
            alive.append([name for name, ref in refs.items() if ref() is not None])
            return grad

        first = operation(look)
        x = Tensor(np.ones(3), requires_grad=True)
        h = first(x).exp()
        k = h * 2.0
        out = k.exp()
        loss = out.sum()
        refs = {name: weakref.ref(y.data) for name, y in {"h": h, "k": k, "out": out}.items()}
        del h, k, out
        assert all(ref() is not None for ref in refs.values())
        loss.backward()
        assert alive == [[]]

    def test_backward_needs_memory_for_one_step_not_for_all(self, operation):
        """In a chain of 50 products, at every step at most a few of the 50 arrays are still alive behind the walk."""
        left = []

        def look(rule, grad):
            left.append(sum(ref() is not None for ref in refs))
            return grad * 1.0

        step = operation(look)
        y = Tensor(np.ones(3), requires_grad=True)
        refs = []
        for _ in range(50):
            y = step(y, marker=np.ones(3))
            refs.append(weakref.ref(y._grad_fn.saved["marker"]))
        y.backward(np.ones(3))
        assert left == list(range(50, 0, -1))

    def test_gradients_on_the_way_are_dropped_too(self, operation):
        seen, most = [], []

        def look(rule, grad):
            most.append(sum(ref() is not None for ref in seen))
            dx = grad * 1.0
            seen.append(weakref.ref(dx))
            return dx

        step = operation(look)
        y = Tensor(np.ones(3), requires_grad=True)
        for _ in range(50):
            y = step(y)
        y.backward(np.ones(3))
        assert max(most) <= 3

    def test_backward_leaves_no_garbage(self):
        gc.collect()
        x = Tensor(np.ones(3), requires_grad=True)
        for _ in range(10):
            ((x * x).exp() + x).sum().backward()
        assert gc.collect() == 0

    def test_a_leaf_does_not_hold_its_uses(self):
        x = Tensor(np.ones(3), requires_grad=True)
        y = x * 2
        ref = weakref.ref(y._grad_fn)
        del y
        assert ref() is None
        assert x.requires_grad


class TestAllOrNothing:
    def test_a_rule_that_fails_leaves_every_grad_as_it_was(self, operation):
        def fail(rule, grad):
            raise ZeroDivisionError("in the middle")

        bad = operation(fail)
        x, y = Tensor([1.0], requires_grad=True), Tensor([1.0], requires_grad=True)
        x.grad = np.array([7.0], np.float32)
        h = y * 2
        h.retain_grad()
        with pytest.raises(ZeroDivisionError, match="in the middle"):
            (bad(x) + x * 3 + h).sum().backward()
        assert x.grad.tolist() == [7]
        assert (y.grad, h.grad) == (None, None)

    def test_a_graph_freed_in_part_is_refused_as_a_whole(self):
        x, y = Tensor([1.0], requires_grad=True), Tensor([1.0], requires_grad=True)
        h = x * 2
        h.sum().backward()
        x.grad = None
        with pytest.raises(RuntimeError, match="MulBackward.* a second time"):
            (y * 3 + h).sum().backward()
        assert (x.grad, y.grad) == (None, None)

    def test_what_is_refused_before_the_walk_can_be_tried_again(self):
        """A wrong start or an input changed in place frees nothing."""
        x = Tensor([1.0, 2.0], requires_grad=True)
        y = x * x
        with pytest.raises(RuntimeError, match="starts from a single number"):
            y.backward()
        with pytest.raises(ValueError, match="gradient of shape"):
            y.backward([1.0])
        y.backward([1.0, 1.0])
        assert x.grad.tolist() == [2, 4]

    def test_backward_works_inside_no_grad(self):
        x = Tensor(3.0, requires_grad=True)
        y = x * x
        with no_grad():
            y.backward()
        assert x.grad == 6


class TestRunner:
    def test_a_runner_stands_between_the_engine_and_every_rule(self):
        ran = []

        def run(node, grad):
            ran.append((type(node).__name__, grad.tolist()))
            return node.apply(grad)

        x = Tensor(3.0, requires_grad=True)
        y = x * x + x
        assert set_runner(run) is None
        y.backward()
        assert set_runner(None) is run
        assert ran == [("AddBackward", 1), ("MulBackward", 1)]
        assert x.grad == 7

    def test_it_also_stands_before_the_rules_of_a_checkpoint(self):
        ran = []

        def run(node, grad):
            ran.append(type(node).__name__)
            return node.apply(grad)

        x = Tensor(3.0, requires_grad=True)
        y = checkpoint(lambda x: x * x, x)
        set_runner(run)
        y.backward()
        set_runner(None)
        assert ran == ["CheckpointBackward", "MulBackward"]
        assert x.grad == 6
