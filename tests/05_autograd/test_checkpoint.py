"""checkpoint: the same numbers, computed twice, and less held in between."""

import gc
import weakref

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import relu, tanh
from tinytorch.core.autograd import checkpoint, grad, is_grad_enabled, no_grad
from tinytorch.core.layers import Dropout, Linear, Sequential, dropout
from tinytorch.core.tensor import Tensor, generator, manual_seed, randn, stack


def leaf(*shape, seed=0):
    return randn(*shape, rng=seed, requires_grad=True)


class TestSameNumbers:
    @pytest.mark.parametrize(
        "f",
        [
            lambda x: x * 2,
            lambda x: tanh(x * x) + x,
            lambda x: x.sum(axis=0),
            lambda x: (x @ x.T).exp().mean(),
            lambda x: x,
            lambda x: dropout(x, 0.5, training=False),
            lambda x: x.detach() * x,
            lambda x: stack([x, x]),
        ],
    )
    def test_as_without(self, f):
        x, y = leaf(3, 3), leaf(3, 3)
        with_it, without = checkpoint(f, x), f(y)
        assert_close(with_it, without.data, rtol=0, atol=0)
        weight = randn(*without.shape, rng=1).data
        (with_it * weight).sum().backward()
        (without * weight).sum().backward()
        assert_close(x.grad, y.grad, rtol=0, atol=0)

    def test_several_inputs(self):
        a, b = leaf(3, 4), leaf(4, 2, seed=1)
        checkpoint(lambda a, b: tanh(a @ b), a, b).sum().backward()
        want = grad(tanh(a @ b).sum(), [a, b])
        assert_close(a.grad, want[0], rtol=0, atol=0)
        assert_close(b.grad, want[1], rtol=0, atol=0)

    def test_only_one_of_several_inputs_needs_a_gradient(self):
        a, data = leaf(3, 4), randn(4, 2, rng=1)
        checkpoint(lambda a, b: tanh(a @ b), a, data).sum().backward()
        assert_close(a.grad, grad(tanh(a @ data).sum(), a), rtol=0, atol=0)
        assert data.grad is None

    def test_an_input_that_f_does_not_use_gets_zeros(self):
        a, b = leaf(3), leaf(2)
        checkpoint(lambda a, b: a * 2, a, b).sum().backward()
        assert (a.grad.tolist(), b.grad.tolist()) == ([2, 2, 2], [0, 0])

    def test_the_same_tensor_twice(self):
        x = Tensor([2.0, 3.0], requires_grad=True)
        checkpoint(lambda a, b: a * b, x, x).sum().backward()
        assert x.grad.tolist() == [4, 6]

    def test_in_the_middle_of_a_graph(self):
        w = leaf(4)
        h = w * 3
        (checkpoint(lambda h: h.exp() * h, h) + h).sum().backward()
        v = leaf(4)
        k = v * 3
        (k.exp() * k + k).sum().backward()
        assert_close(w.grad, v.grad)

    def test_one_after_the_other(self):
        x, y = leaf(4), leaf(4)
        out, want = x, y
        for _ in range(5):
            out, want = checkpoint(lambda x: tanh(x * 2), out), tanh(want * 2)
        out.sum().backward()
        want.sum().backward()
        assert_close(x.grad, y.grad, rtol=0, atol=0)

    def test_one_inside_the_other(self):
        x, y = leaf(4), leaf(4)
        checkpoint(lambda x: checkpoint(lambda x: x.exp() + 1, x * 2) * x, x).sum().backward()
        (((y * 2).exp() + 1) * y).sum().backward()
        assert_close(x.grad, y.grad, rtol=0, atol=0)

    def test_float64_stays(self):
        x = Tensor([0.5, 1.0], requires_grad=True, dtype=np.float64)
        checkpoint(lambda x: x.exp(), x).sum().backward()
        assert_close(x.grad, np.exp([0.5, 1.0]), rtol=1e-15)


class TestCaptured:
    """Tensors that f reaches on its own: the parameters of layers above all."""

    def test_the_parameters_of_a_layer(self):
        layer, x = Linear(4, 3, rng=0), leaf(2, 4)
        checkpoint(lambda x: relu(layer(x)), x).sum().backward()
        got = [p.grad for p in layer.parameters()]
        want = grad(relu(layer(x)).sum(), [*layer.parameters(), x])
        for g, w in zip([*got, x.grad], want):
            assert_close(g, w, rtol=0, atol=0)

    def test_a_layer_itself_can_be_f(self):
        layer, x = Sequential(Linear(4, 4, rng=0), Linear(4, 2, rng=1)), leaf(2, 4)
        checkpoint(layer, x).sum().backward()
        want = grad(layer(x).sum(), layer.parameters())
        for p, w in zip(layer.parameters(), want):
            assert_close(p.grad, w, rtol=0, atol=0)

    def test_parameters_learn_though_the_input_is_data(self):
        layer, x = Linear(4, 3, rng=0), randn(2, 4, rng=1)
        out = checkpoint(layer, x)
        assert out.requires_grad
        out.sum().backward()
        assert_close(layer.bias.grad, np.array([2, 2, 2], np.float32))
        assert x.grad is None

    def test_a_parameter_used_inside_and_outside(self):
        w, x = Tensor([2.0, 3.0], requires_grad=True), Tensor([1.0, 1.0])
        (checkpoint(lambda x: x * w * w, x) + w).sum().backward()
        assert w.grad.tolist() == [5, 7]

    def test_a_computed_tensor_sends_its_gradient_on(self):
        w, x = Tensor([2.0, 3.0], requires_grad=True), Tensor([1.0, 1.0])
        h = w * w
        (checkpoint(lambda x: x * h, x) + h).sum().backward()
        assert w.grad.tolist() == [8, 12]

    def test_a_captured_tensor_that_comes_back_unchanged(self):
        w, x = Tensor([2.0, 3.0], requires_grad=True), Tensor([1.0, 1.0], requires_grad=True)
        for h in (w, w * 1):
            w.grad = x.grad = None
            checkpoint(lambda x, h=h: h, x).sum().backward()
            assert w.grad.tolist() == [1, 1]
            assert x.grad.tolist() == [0, 0]

    def test_frozen_parameters_get_none(self):
        layer, x = Linear(4, 3, rng=0), leaf(2, 4)
        layer.bias.requires_grad = False
        checkpoint(layer, x).sum().backward()
        assert layer.bias.grad is None
        assert layer.weight.grad.shape == (4, 3)

    def test_nothing_to_learn_gives_no_history(self):
        out = checkpoint(lambda x: x * 2, Tensor([1.0]))
        assert not out.requires_grad
        assert out.tolist() == [2]


class TestRandomness:
    def test_the_second_time_draws_what_the_first_drew(self):
        manual_seed(1)
        x = Tensor(np.ones(1000), requires_grad=True)
        out = checkpoint(lambda x: dropout(x, 0.5), x)
        generator().random(17)
        out.sum().backward()
        assert_close(x.grad, out.data, rtol=0, atol=0)
        assert 300 < np.count_nonzero(out.data) < 700

    def test_what_is_drawn_afterwards_is_as_without(self):
        drawn = []
        for call in (lambda f, x: f(x), checkpoint):
            manual_seed(1)
            x = Tensor(np.ones(10), requires_grad=True)
            call(lambda x: dropout(x, 0.5), x).sum().backward()
            drawn.append(generator().random(3).tolist())
        assert drawn[0] == drawn[1]

    def test_two_checkpoints_draw_differently(self):
        manual_seed(1)
        layer, x = Dropout(0.5), Tensor(np.ones(100), requires_grad=True)
        first, second = checkpoint(layer, x), checkpoint(layer, x)
        assert first.tolist() != second.tolist()
        (first + second).sum().backward()
        assert_close(x.grad, (first + second).data, rtol=0, atol=0)


class TestRecording:
    def test_under_no_grad_it_is_just_a_call(self):
        calls = []
        with no_grad():
            out = checkpoint(lambda x: calls.append(is_grad_enabled()) or x * 2, leaf(3))
        assert calls == [False]
        assert not out.requires_grad

    def test_f_is_called_once_forward_and_once_back(self):
        calls = []
        x = leaf(3)
        loss = checkpoint(lambda x: calls.append(x) or x * 2, x).sum()
        assert len(calls) == 1
        loss.backward()
        assert len(calls) == 2
        assert calls[1] is not x

    def test_the_whole_of_f_is_one_node(self):
        x = leaf(3)
        out = checkpoint(lambda x: tanh(x * 2).exp(), x)
        assert type(out._grad_fn).__name__ == "CheckpointBackward"
        assert out._grad_fn.inputs == (x,)

    @pytest.mark.parametrize("fails_at", [1, 2])
    def test_when_f_fails_recording_and_randomness_are_restored(self, fails_at):
        calls = []

        def f(x):
            generator().random(5)
            calls.append(x)
            if len(calls) == fails_at:
                raise ZeroDivisionError
            return x * 2

        x = leaf(3)
        with pytest.raises(ZeroDivisionError):
            checkpoint(f, x).sum().backward()
        assert is_grad_enabled()
        assert (x * 2).requires_grad
        assert x.grad is None

    def test_backward_inside_no_grad_records_the_second_time(self):
        x = leaf(3)
        loss = checkpoint(lambda x: x * x, x).sum()
        with no_grad():
            loss.backward()
            assert not is_grad_enabled()
        assert_close(x.grad, 2 * x.data)

    def test_a_second_backward_is_refused(self):
        loss = checkpoint(lambda x: x * x, leaf(3)).sum()
        loss.backward()
        with pytest.raises(RuntimeError, match="a second time"):
            loss.backward()


class TestMemory:
    @staticmethod
    def held(call):
        """How many of the arrays computed by ten blocks of five operations are alive before backward."""
        refs = []

        def block(x):
            for _ in range(5):
                x = tanh(x * 1.5)
                refs.append(weakref.ref(x.data))
            return x

        out = leaf(4)
        for _ in range(10):
            out = call(block, out)
        alive = sum(ref() is not None for ref in refs)
        out.sum().backward()
        return alive

    def test_between_the_checkpoints_nothing_is_held(self):
        gc.disable()
        try:
            assert self.held(lambda f, x: f(x)) == 50
            assert self.held(checkpoint) == 10
        finally:
            gc.enable()

    def test_the_second_graph_is_freed_too(self):
        gc.disable()
        try:
            refs = []

            def f(x):
                y = x.exp()
                refs.append(weakref.ref(y))
                return y * y

            x = leaf(3)
            checkpoint(f, x).sum().backward()
            assert [ref() for ref in refs] == [None, None]
        finally:
            gc.enable()
