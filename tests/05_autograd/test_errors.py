"""What is refused, and whether the message says what to do."""

import numpy as np
import pytest

from tinytorch.core.autograd import Function, backward, no_grad
from tinytorch.core.tensor import Tensor, result


@pytest.fixture
def x():
    return Tensor([1.0, 2.0], requires_grad=True)


class TestBackwardRefuses:
    @pytest.mark.parametrize("start", [None, [1.0, 1.0]])
    def test_a_tensor_without_history(self, start):
        with pytest.raises(RuntimeError, match=r"requires_grad=True.*this one, of shape \(2,\), has no history"):
            (Tensor([1.0, 2.0]) * 2).backward(start)

    def test_what_was_computed_under_no_grad(self, x):
        with no_grad():
            y = (x * x).sum()
        with pytest.raises(RuntimeError, match=r"computed outside no_grad\(\)"):
            y.backward()

    def test_many_numbers_without_a_start(self, x):
        with pytest.raises(
            RuntimeError, match=r"backward starts from a single number, got shape \(2,\).*\.mean\(\) or \.sum\(\)"
        ):
            (x * x).backward()
        assert x.grad is None

    @pytest.mark.parametrize("start", [1.0, [1.0], [[1.0, 1.0]], [1.0, 1.0, 1.0]])
    def test_a_start_of_another_shape(self, x, start):
        with pytest.raises(ValueError, match=r"backward needs a gradient of shape \(2,\), got \("):
            (x * x).backward(start)
        assert x.grad is None

    def test_a_start_that_is_no_number(self, x):
        with pytest.raises(TypeError, match="needs numbers"):
            (x * x).backward("one")

    def test_a_second_time(self, x):
        loss = (x * x).sum()
        loss.backward()
        with pytest.raises(
            RuntimeError, match="a second time, but a graph is freed as it is walked.*compute the forward pass again"
        ):
            loss.backward()
        assert x.grad.tolist() == [2, 4]

    def test_a_second_loss_through_the_same_graph(self, x):
        h = x * x
        h.sum().backward()
        with pytest.raises(RuntimeError, match="<MulBackward> a second time.*Add the losses and call backward once"):
            h.mean().backward()
        assert x.grad.tolist() == [2, 4]


class TestRequiresGrad:
    @pytest.mark.parametrize("data", [1, [1, 2], [True, False]])
    def test_integers_and_booleans_cannot(self, data):
        dtype = Tensor(data).dtype
        with pytest.raises(TypeError, match=rf"only floating tensors.*this one is {dtype}; use x.astype\('float32'\)"):
            Tensor(data, requires_grad=True)
        y = Tensor(data)
        with pytest.raises(TypeError, match="only floating tensors can require gradients"):
            y.requires_grad = True
        assert not y.requires_grad

    def test_data_of_a_tracked_tensor_stays_floating(self, x):
        with pytest.raises(TypeError, match="cannot take data of int64"):
            x.data = np.array([1, 2])

    def test_a_computed_tensor_cannot_forget(self, x):
        y = x * 2
        with pytest.raises(RuntimeError, match=r"cannot forget its history; use x.detach\(\)"):
            y.requires_grad = False


class TestMissingRules:
    def test_a_float_operation_without_a_rule_is_refused_when_a_gradient_is_asked(self, x):
        with pytest.raises(NotImplementedError, match=r"'cube' has no gradient rule.*Function, op='cube'"):
            result(x.data**3, "cube", x)

    def test_without_gradients_no_rule_is_needed(self):
        assert result(np.ones(2), "cube", Tensor([1.0, 1.0])).tolist() == [1, 1]

    def test_an_operation_to_integers_needs_none(self, x):
        assert result(x.data.astype(np.int64), "count", x).tolist() == [1, 2]

    def test_a_rule_that_was_not_written(self, x, own_rules):
        class EmptyBackward(Function, op="empty"):
            pass

        with pytest.raises(NotImplementedError, match="EmptyBackward does not say how gradients go back"):
            result(x.data, "empty", x).backward([1.0, 1.0])


class TestFiling:
    def test_a_rule_is_filed_under_its_operation(self, own_rules):
        class CubeBackward(Function, op="cube"):
            pass

        assert own_rules["cube"] is CubeBackward

    def test_a_class_without_an_operation_is_not(self, own_rules):
        before = dict(own_rules)

        class HelperBackward(Function):
            pass

        assert own_rules == before

    def test_two_rules_for_one_operation(self, own_rules):
        with pytest.raises(ValueError, match="operation 'add' already has the rule AddBackward; give MyAddBack"):

            class MyAddBackward(Function, op="add"):
                pass

        assert own_rules["add"].__name__ == "AddBackward"

    def test_running_the_cell_of_a_rule_again_replaces_it(self, own_rules):
        def cell():
            class CubeBackward(Function, op="cube"):
                pass

            return CubeBackward

        first, second = cell(), cell()
        assert first is not second
        assert own_rules["cube"] is second

    def test_a_rule_is_printed_by_its_name(self, x):
        assert repr((x * x)._grad_fn) == "<MulBackward>"


class TestWrongRules:
    """The engine checks what a rule returns, and names the rule and the input."""

    @pytest.mark.parametrize(
        ("returned", "message"),
        [
            (lambda g: (g,), "<OwnBackward> returned 1 gradients for 2 inputs"),
            (lambda g: g, "<OwnBackward> returned 1 gradients for 2 inputs"),
            (lambda g: (g, g, g), "<OwnBackward> returned 3 gradients for 2 inputs"),
            (lambda g: (), "<OwnBackward> returned 0 gradients for 2 inputs"),
            (lambda g: None, "<OwnBackward> returned 1 gradients for 2 inputs"),
            (lambda g: (g, None), "<OwnBackward> returned no gradient for input 1, which requires one"),
            (lambda g: (None, g), "<OwnBackward> returned no gradient for input 0"),
            (lambda g: (g, g[:1]), r"<OwnBackward> returned a gradient of shape \(1,\) for input 1 of shape \(2,\)"),
            (lambda g: (g[None], g), r"returned a gradient of shape \(1, 2\) for input 0 of shape \(2,\).*unbroadcast"),
            (lambda g: (g.sum(), g), r"returned a gradient of shape \(\) for input 0 of shape \(2,\)"),
            (lambda g: (g.astype(np.float64), g), "returned a float64 gradient for input 0, which is float32"),
            (lambda g: (g, g.astype(np.int64)), "returned a int64 gradient for input 1, which is float32"),
            (lambda g: (g, g * np.float64(2)), "returned a float64 gradient for input 1, which is float32"),
        ],
    )
    def test_what_it_returns_is_checked(self, operation, returned, message):
        x, y = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
        own = operation(lambda rule, grad: returned(grad))
        with pytest.raises(RuntimeError, match=message):
            own(x, y).sum().backward()
        assert (x.grad, y.grad) == (None, None)

    def test_one_input_may_come_without_a_tuple(self, operation, x):
        operation(lambda rule, grad: 2 * grad)(x).sum().backward()
        assert x.grad.tolist() == [2, 2]

    def test_none_is_allowed_where_nothing_is_needed(self, operation, x):
        y = Tensor([3.0, 4.0])
        operation(lambda rule, grad: (grad, None))(x, y).sum().backward()
        assert (x.grad.tolist(), y.grad) == ([1, 1], None)

    def test_apply_returns_a_tuple(self, x):
        grads = (x * 2)._grad_fn.apply(np.ones(2, np.float32))
        assert type(grads) is tuple
        assert grads[0].tolist() == [2, 2]


def test_the_function_says_who_it_is():
    with pytest.raises(RuntimeError, match="^backward needs a tensor"):
        backward(Tensor(1.0))
