"""Changes in place: refused where a gradient would be wrong, allowed where none is asked for."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.autograd import checkpoint, grad, no_grad
from tinytorch.core.tensor import Tensor, _last_change, exp, written

CHANGED = "an input of <.*Backward> was changed in place after it was used"


def write(x):
    x[0] = 9.0


def add(x):
    x += 1


def multiply(x):
    x *= 2


def assign(x):
    x.data = x.data + 1


def augment_data(x):
    x.data -= 1


CHANGES = [write, add, multiply, assign, augment_data]
every_change = pytest.mark.parametrize("change", CHANGES)


class TestChangedAfterUse:
    """The values a rule needs are no longer there, so backward says so instead of computing with the new ones."""

    @every_change
    def test_data_beside_a_parameter(self, change):
        w, x = Tensor([2.0, 3.0], requires_grad=True), Tensor([1.0, 1.0])
        loss = (w * x).sum()
        change(x)
        with pytest.raises(RuntimeError, match=CHANGED):
            loss.backward()
        assert w.grad is None

    @every_change
    def test_a_parameter_under_no_grad(self, change):
        w = Tensor([2.0, 3.0], requires_grad=True)
        loss = (w * w).sum()
        with no_grad():
            change(w)
        with pytest.raises(RuntimeError, match=f"{CHANGED}.*Change tensors after backward, or write x = x [+] y"):
            loss.backward()
        assert w.grad is None

    @every_change
    def test_a_computed_tensor_under_no_grad(self, change):
        """exp saved its output for its own rule; the change reaches it though no later rule is concerned."""
        w = Tensor([2.0, 3.0], requires_grad=True)
        h = w.exp()
        with no_grad():
            change(h)
        with pytest.raises(RuntimeError, match=CHANGED):
            (h * 2).sum().backward()
        assert w.grad is None

    @every_change
    def test_a_computed_tensor_between_two_uses(self, change):
        w = Tensor([2.0, 3.0], requires_grad=True)
        h = w.exp()
        early = h * h
        with no_grad():
            change(h)
        with pytest.raises(RuntimeError, match=CHANGED):
            early.sum().backward()

    @every_change
    def test_the_tensor_that_backward_starts_from(self, change):
        w = Tensor([2.0, 3.0], requires_grad=True)
        y = w.exp()
        with no_grad():
            change(y)
        with pytest.raises(RuntimeError, match="the tensor that backward starts from was changed in place"):
            y.backward([1.0, 1.0])
        assert w.grad is None

    def test_a_change_far_back_is_found_before_any_rule_runs(self, operation):
        ran = []
        late = operation(lambda rule, grad: ran.append(rule) or grad)
        x, w = Tensor([1.0, 1.0]), Tensor([2.0, 3.0], requires_grad=True)
        loss = late((w * x).exp() + 1).sum()
        x += 1
        with pytest.raises(RuntimeError, match="an input of <MulBackward>"):
            loss.backward()
        assert ran == []

    def test_the_graph_is_still_whole_afterwards(self):
        """Nothing was freed: another root of the same graph that does not concern the change goes through."""
        x, w = Tensor([1.0, 1.0]), Tensor([2.0, 3.0], requires_grad=True)
        h = w * 2
        loss = (h * x).sum()
        x += 1
        with pytest.raises(RuntimeError, match="an input of <MulBackward>"):
            loss.backward()
        h.sum().backward()
        assert w.grad.tolist() == [2, 2]

    def test_changing_back_does_not_help(self):
        x, w = Tensor([1.0, 1.0]), Tensor([2.0, 3.0], requires_grad=True)
        loss = (w * x).sum()
        x += 1
        x -= 1
        with pytest.raises(RuntimeError, match=CHANGED):
            loss.backward()

    def test_grad_is_as_careful_as_backward(self):
        x, w = Tensor([1.0, 1.0]), Tensor([2.0, 3.0], requires_grad=True)
        loss = (w * x).sum()
        x += 1
        with pytest.raises(RuntimeError, match=CHANGED):
            grad(loss, w)

    def test_a_checkpoint_is_as_careful(self):
        w, v = Tensor([2.0, 3.0], requires_grad=True), Tensor([1.0, 1.0], requires_grad=True)
        for changed in (w, v):
            loss = checkpoint(lambda w: (w * v).exp(), w).sum()
            with no_grad():
                changed += 1
            with pytest.raises(RuntimeError, match="an input of <CheckpointBackward> was changed in place"):
                loss.backward()


class TestChangedBeforeUse:
    @every_change
    def test_data_may_change_before_it_is_used(self, change):
        w, x = Tensor([2.0, 3.0], requires_grad=True), Tensor([1.0, 1.0])
        change(x)
        (w * x).sum().backward()
        assert_close(w.grad, x.data)

    @every_change
    def test_a_parameter_may_change_between_two_steps(self, change):
        w = Tensor([2.0, 3.0], requires_grad=True)
        (w * w).sum().backward()
        with no_grad():
            change(w)
        w.grad = None
        (w * w).sum().backward()
        assert_close(w.grad, 2 * w.data)

    @every_change
    def test_what_was_used_without_being_recorded_may_change(self, change):
        x = Tensor([1.0, 2.0])
        y = x * 2
        change(x)
        assert y.tolist() == [2, 4]
        assert not y.requires_grad


class TestRefusedAtOnce:
    """With recording on, a tensor that requires a gradient is not changed in place."""

    @pytest.mark.parametrize("change", [add, multiply])
    def test_a_parameter(self, change):
        w = Tensor([2.0, 3.0], requires_grad=True)
        with pytest.raises(RuntimeError, match="in-place change of a tensor that autograd needs.*under no_grad"):
            change(w)
        assert w.tolist() == [2, 3]

    @pytest.mark.parametrize("change", [add, multiply])
    def test_a_computed_tensor_that_was_used(self, change):
        w = Tensor([2.0, 3.0], requires_grad=True)
        h = w * 2
        loss = (h * h).sum()
        with pytest.raises(RuntimeError, match="in-place change of a tensor that autograd needs"):
            change(h)
        loss.backward()
        assert w.grad.tolist() == [16, 24]

    def test_writing_into_a_tracked_tensor(self):
        w = Tensor([2.0, 3.0], requires_grad=True)
        for x in (w, w * 2):
            with pytest.raises(RuntimeError, match=r"x\[...\] = value would lose a gradient; use where\(\) or cat\(\)"):
                x[0] = 1.0
        assert w.tolist() == [2, 3]

    def test_writing_a_tracked_value(self):
        w, x = Tensor(2.0, requires_grad=True), Tensor([1.0, 1.0])
        with pytest.raises(RuntimeError, match="would lose a gradient"):
            x[0] = w * 2
        assert x.tolist() == [1, 1]


class TestAugmentedAssignment:
    """`total += loss` is the common case, and it means total = total + loss."""

    def test_a_sum_over_losses(self):
        w = Tensor(3.0, requires_grad=True)
        total = Tensor(0.0)
        for factor in (1.0, 2.0, 3.0):
            total += w * factor
        total.backward()
        assert (total.item(), w.grad.item()) == (18, 6)

    def test_starting_from_a_number(self):
        w = Tensor(3.0, requires_grad=True)
        total = 0
        for factor in (1.0, 2.0, 3.0):
            total += w * factor
        total.backward()
        assert w.grad == 6

    def test_the_name_moves_on_and_the_old_tensor_stays(self):
        w = Tensor([1.0, 2.0], requires_grad=True)
        zero = total = Tensor([0.0, 0.0])
        total += w
        assert total is not zero
        assert zero.tolist() == [0, 0]
        assert not zero.requires_grad

    @pytest.mark.parametrize(
        ("f", "want"),
        [
            (lambda h: h.__iadd__(1), 2),
            (lambda h: h.__isub__(1), 2),
            (lambda h: h.__imul__(3), 6),
            (lambda h: h.__itruediv__(2), 1),
        ],
    )
    def test_of_a_computed_tensor_that_nothing_used(self, f, want):
        w = Tensor([1.0, 2.0], requires_grad=True)
        f(w * 2).sum().backward()
        assert_close(w.grad, np.full(2, want, np.float32))

    def test_of_untracked_tensors_it_is_in_place(self):
        x = same = Tensor([1.0, 2.0])
        x += 1
        assert x is same
        assert same.tolist() == [2, 3]

    def test_under_no_grad_a_parameter_is_changed_and_stays_a_leaf(self):
        w = same = Tensor([1.0, 2.0], requires_grad=True)
        with no_grad():
            w -= 0.5
        assert w is same
        assert w.tolist() == [0.5, 1.5]
        assert w.requires_grad
        assert w._grad_fn is None

    def test_shape_and_dtype_stay(self):
        x = Tensor([1.0, 2.0])
        with pytest.raises(ValueError, match=r"in-place add cannot turn float32 \(2,\) into float32 \(3, 2\)"):
            x += np.ones((3, 2))
        with pytest.raises(ValueError, match=r"in-place mul cannot turn int64 \(1,\) into float32 \(1,\)"):
            Tensor([1]).__imul__(0.5)


class TestVersions:
    """A tensor counts its changes, and one clock numbers changes and rules."""

    def test_a_tensor_is_born_with_0(self):
        w = Tensor([1.0], requires_grad=True)
        assert [x._version for x in (w, w * 2, w.detach(), w.copy())] == [0, 0, 0, 0]

    @every_change
    def test_every_change_counts(self, change):
        x = Tensor([1.0, 2.0])
        for n in (1, 2, 3):
            change(x)
            assert x._version == n

    def test_reading_does_not_count(self):
        x = Tensor([1.0, 2.0])
        x.data.sum(), x.numpy(), x.tolist(), x + 1, x[0], x.copy()
        assert x._version == 0

    def test_a_refused_change_does_not_count(self):
        x = Tensor([1.0, 2.0])
        with pytest.raises(ValueError, match="in-place add cannot turn"):
            x += np.ones((3, 2))
        with pytest.raises(IndexError):
            x[5] = 1.0
        assert x._version == 0

    @every_change
    def test_a_change_comes_after_the_rules_born_before_and_before_those_born_after(self, change):
        x, w = Tensor([1.0, 2.0]), Tensor([1.0, 2.0], requires_grad=True)
        earlier = (x * w)._grad_fn
        change(x)
        later = (x * w)._grad_fn
        assert earlier.birth < _last_change() < later.birth

    def test_backward_and_zero_grad_count_nothing(self):
        w = Tensor([1.0], requires_grad=True)
        (w * w).backward()
        w.zero_grad()
        assert w._version == 0


class TestWritesThroughAnotherTensor:
    """Views and detached tensors share the memory that a rule will read."""

    @pytest.mark.parametrize(
        "write",
        [
            lambda x: x[:1].__setitem__(0, 100.0),
            lambda x: x.reshape(1, 2)[0].__setitem__(1, 100.0),
            lambda x: x.detach().__setitem__(0, 100.0),
            lambda x: x.detach().__setattr__("data", np.add(x.data, 1, out=x.data)),
        ],
        ids=["a slice", "a row of a reshaped tensor", "a detached tensor", "data of a detached tensor"],
    )
    def test_are_refused_before_a_gradient_is_wrong(self, write):
        w, x = Tensor([1.0, 1.0], requires_grad=True), Tensor([2.0, 3.0])
        loss = (w * x).sum()
        write(x)
        with pytest.raises(RuntimeError, match="MulBackward.* was changed in place"):
            loss.backward()
        assert w.grad is None

    def test_are_refused_where_the_rule_saved_its_result(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        y = exp(x)
        y.detach()[0] = 100.0
        with pytest.raises(RuntimeError, match="ExpBackward.* was changed in place"):
            y.backward([1.0, 1.0])

    def test_before_the_operation_are_no_matter(self):
        w, x = Tensor([1.0, 1.0], requires_grad=True), Tensor([2.0, 3.0])
        x[:1][0] = 100.0
        (w * x).sum().backward()
        assert_close(w.grad, [100.0, 3.0])

    def test_into_other_memory_are_no_matter(self):
        w, x = Tensor([1.0, 1.0], requires_grad=True), Tensor([2.0, 3.0])
        loss = (w * x).sum()
        x.copy()[:1][0] = 100.0
        loss.backward()
        assert_close(w.grad, [2.0, 3.0])

    def test_are_forgotten_with_the_memory(self):
        before = len(written)
        x = Tensor([2.0, 3.0])
        x[:1][0] = 100.0
        assert len(written) == before + 1
        del x
        assert len(written) == before
