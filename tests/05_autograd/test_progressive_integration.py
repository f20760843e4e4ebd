"""Module 05 with what came before it: everything that was computed forwards can now be walked back."""

import gc
import weakref

import numpy as np
import pytest

import tinytorch
from support.checks import assert_close
from tinytorch.core import activations, autograd
from tinytorch.core import tensor as T
from tinytorch.core.activations import ReLU, Tanh, gelu, log_softmax, relu, sigmoid, softmax, tanh
from tinytorch.core.autograd import (
    Function,
    backward,
    checkpoint,
    grad,
    gradcheck,
    graph,
    is_grad_enabled,
    no_grad,
    unbroadcast,
)
from tinytorch.core.layers import Dropout, Flatten, Linear, Module, Sequential
from tinytorch.core.losses import (
    CrossEntropyLoss,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
)
from tinytorch.core.tensor import Tensor, get_recorder, manual_seed, randint, randn, set_recorder

RULES = {
    "AddBackward": lambda x: x + x,
    "SubBackward": lambda x: x - 1,
    "MulBackward": lambda x: x * 2,
    "DivBackward": lambda x: x / 2,
    "NegBackward": lambda x: -x,
    "PowBackward": lambda x: x**2,
    "ExpBackward": lambda x: x.exp(),
    "LogBackward": lambda x: x.log(),
    "SqrtBackward": lambda x: x.sqrt(),
    "AbsBackward": lambda x: x.abs(),
    "MatmulBackward": lambda x: x @ np.ones((4, 2)),
    "SumBackward": lambda x: x.sum(axis=0),
    "MeanBackward": lambda x: x.mean(axis=1),
    "VarBackward": lambda x: x.var(),
    "MaxBackward": lambda x: x.max(axis=0),
    "MinBackward": lambda x: x.min(),
    "CumsumBackward": lambda x: x.cumsum(),
    "LogsumexpBackward": lambda x: x.logsumexp(axis=1),
    "ReshapeBackward": lambda x: x.flatten(),
    "PermuteBackward": lambda x: x.T,
    "BroadcastToBackward": lambda x: x.broadcast_to(2, 3, 4),
    "CatBackward": lambda x: T.cat([x, x]),
    "PadBackward": lambda x: x.pad(1),
    "GetitemBackward": lambda x: x[1:, [0, 0, 2]],
    "WhereBackward": lambda x: x.masked_fill(x.data > 1, 0.0),
    "ClipBackward": lambda x: x.clip(0.6, 1.2),
    "ScatterAddBackward": lambda x: x.scatter_add(0, np.zeros((1, 4), int), x[:1]),
    "EinsumBackward": lambda x: T.einsum("ij,kj->ik", x, x),
    "CopyBackward": lambda x: x.copy(),
    "AstypeBackward": lambda x: x.astype(np.float64),
    "ReLUBackward": activations.relu,
    "LeakyReLUBackward": activations.leaky_relu,
    "SigmoidBackward": activations.sigmoid,
    "TanhBackward": activations.tanh,
    "SoftplusBackward": activations.softplus,
    "SiLUBackward": activations.silu,
    "GELUBackward": activations.gelu,
    "SoftmaxBackward": activations.softmax,
    "LogSoftmaxBackward": activations.log_softmax,
    "LinearBackward": lambda x: Linear(4, 2, rng=0)(x),
    "DropoutBackward": lambda x: Dropout(0.5)(x),
    "MSELossBackward": lambda x: mse_loss(x, np.ones((3, 4))),
    "HuberLossBackward": lambda x: huber_loss(x, np.ones((3, 4))),
    "BinaryCrossEntropyBackward": lambda x: binary_cross_entropy(x / 4, np.ones((3, 4))),
    "BCEWithLogitsBackward": lambda x: binary_cross_entropy_with_logits(x, np.ones((3, 4))),
    "CrossEntropyBackward": lambda x: cross_entropy(x, [0, 1, 2]),
    "KLDivBackward": lambda x: kl_div(x, np.ones((3, 4))),
    "CheckpointBackward": lambda x: checkpoint(tanh, x),
}
by_rule = pytest.mark.parametrize(("rule", "f"), RULES.items(), ids=RULES)


@pytest.fixture
def x():
    return Tensor(np.linspace(0.5, 1.5, 12).reshape(3, 4), requires_grad=True)


def network(seed=0):
    return Sequential(Linear(4, 8, rng=seed), Tanh(), Linear(8, 3, rng=seed + 1))


class TestPriorStackStillWorking:
    """With the recorder installed, everything computes what it computed before."""

    def test_arithmetic(self):
        assert_close((Tensor([1.0, 2.0]) * 3 - 1) / 2, np.array([1, 2.5], np.float32))

    def test_tracked_tensors_have_the_values_of_untracked_ones(self):
        data = randn(5, 4, rng=0)
        for f in (lambda x: (x @ x.T).exp().mean(axis=0), softmax, gelu, lambda x: cross_entropy(x, [0, 1, 2, 3, 0])):
            tracked = f(Tensor(data, requires_grad=True))
            assert tracked.requires_grad
            assert_close(tracked, f(data).data, rtol=0, atol=0)

    def test_layers_and_losses(self):
        model = network()
        with no_grad():
            want = cross_entropy(model(randn(6, 4, rng=1)), [0, 1, 2, 0, 1, 2]).item()
        assert cross_entropy(model(randn(6, 4, rng=1)), [0, 1, 2, 0, 1, 2]).item() == want

    def test_integers_stay_integers(self):
        assert (Tensor([1, 2]) + 1).dtype == np.int64


class TestModule05AutogradCore:
    def test_the_square_of_three_has_slope_six(self):
        x = Tensor(3.0, requires_grad=True)
        (x * x).backward()
        assert x.grad == 6

    def test_a_worked_example(self):
        """L = (a b + c)^2 at a=2, b=3, c=-4: d = 2, dL/dd = 4, so dL/da = 12, dL/db = 8, dL/dc = 4."""
        a, b, c = (Tensor(n, requires_grad=True) for n in (2.0, 3.0, -4.0))
        d = a * b + c
        (d * d).backward()
        assert [a.grad.item(), b.grad.item(), c.grad.item()] == [12, 8, 4]

    @by_rule
    def test_every_operation_of_the_earlier_lessons_has_its_rule(self, rule, f, x):
        out = f(x)
        assert type(out._grad_fn).__name__ == rule
        assert isinstance(out._grad_fn, Function)
        out.sum().backward()
        assert (x.grad.shape, x.grad.dtype) == (x.shape, np.float32)
        assert np.isfinite(x.grad).all()

    def test_backward_sends_one_to_every_element_of_a_sum(self, x):
        x.sum().backward()
        assert_close(x.grad, np.ones((3, 4), np.float32))

    def test_a_mean_divides(self, x):
        x.mean().backward()
        assert_close(x.grad, np.full((3, 4), 1 / 12, np.float32))

    def test_unbroadcast_sums_over_the_copies(self):
        assert unbroadcast(np.ones((3, 4)), (4,)).tolist() == [3, 3, 3, 3]
        assert unbroadcast(np.ones((3, 4)), (3, 1)).tolist() == [[4], [4], [4]]

    def test_no_grad(self, x):
        with no_grad():
            assert not is_grad_enabled()
            assert not (x * x).requires_grad
        assert is_grad_enabled()

    def test_gradcheck_tells_right_from_wrong(self):
        assert gradcheck(lambda x: x * x, np.array([1.0, 2.0])) is True
        with pytest.raises(RuntimeError, match=r"at \(0,\) of input 0"):
            gradcheck(lambda x: x * x.detach(), np.array([1.0, 2.0]))

    def test_grad_returns_instead_of_storing(self, x):
        assert_close(grad((x * x).sum(), x), 2 * x.data)
        assert x.grad is None

    def test_checkpoint_computes_the_same(self, x):
        want = grad(tanh(x * x).sum(), x)
        assert_close(grad(checkpoint(lambda x: tanh(x * x), x).sum(), x), want, rtol=0, atol=0)

    def test_graph_names_the_operations(self, x):
        text = str(graph((x * 2).mean()))
        assert text.startswith("graph LR")
        assert [name for name in ("Mul", "Mean", "leaf [3, 4]", "data []") if f'"{name}"' in text] == [
            "Mul",
            "Mean",
            "leaf [3, 4]",
            "data []",
        ]

    def test_the_package_shows_what_the_lesson_builds(self):
        for name in ("no_grad", "is_grad_enabled", "gradcheck", "checkpoint", "grad", "graph", "backward"):
            assert getattr(tinytorch, name) is getattr(autograd, name)


class TestBackwardIntegration:
    """With modules 01 to 04: the gradients that training will use, by closed form."""

    def test_linear_regression(self):
        """The mean of (Xw + b - y)^2 has the gradient 2/n X^T (Xw + b - y)."""
        X, y = randn(10, 3, rng=0), randn(10, 1, rng=1)
        layer = Linear(3, 1, rng=2)
        mse_loss(layer(X), y).backward()
        error = layer(X).data - y.data
        assert_close(layer.weight.grad, 2 / 10 * X.data.T @ error)
        assert_close(layer.bias.grad, 2 / 10 * error.sum(axis=0))

    def test_logistic_regression(self):
        X, t = randn(10, 3, rng=0), (np.arange(10) % 2)[:, None]
        layer = Linear(3, 1, rng=2)
        binary_cross_entropy_with_logits(layer(X), t).backward()
        assert_close(layer.weight.grad, X.data.T @ (sigmoid(layer(X)).data - t).astype(np.float32) / 10)

    def test_softmax_regression(self):
        X, t = randn(10, 4, rng=0), randint(0, 3, 10, rng=1)
        layer = Linear(4, 3, rng=2)
        cross_entropy(layer(X), t).backward()
        belief = softmax(layer(X)).data - np.eye(3, dtype=np.float32)[t.data]
        assert_close(layer.weight.grad, X.data.T @ belief / 10)
        assert_close(layer.bias.grad, belief.mean(axis=0))

    def test_two_layers_by_hand(self):
        X, t = randn(6, 4, rng=0), randint(0, 3, 6, rng=1)
        first, second = Linear(4, 8, rng=2), Linear(8, 3, rng=3)
        h = relu(first(X))
        cross_entropy(second(h), t).backward()
        dlogits = (softmax(second(h)).data - np.eye(3, dtype=np.float32)[t.data]) / 6
        dh = (dlogits @ second.weight.data.T) * (h.data > 0)
        assert_close(second.weight.grad, h.data.T @ dlogits)
        assert_close(first.weight.grad, X.data.T @ dh)
        assert_close(first.bias.grad, dh.sum(axis=0))

    @pytest.mark.parametrize(
        "loss",
        [
            lambda out: mse_loss(out, np.zeros((5, 3))),
            lambda out: l1_loss(out, np.full((5, 3), 9.0)),
            lambda out: huber_loss(out, np.full((5, 3), 9.0)),
            lambda out: binary_cross_entropy(sigmoid(out), np.eye(5, 3)),
            lambda out: binary_cross_entropy_with_logits(out, np.eye(5, 3)),
            lambda out: cross_entropy(out, [0, 1, 2, 0, 1]),
            lambda out: cross_entropy(out, [0, 1, 2, 0, 1], weight=[1.0, 2.0, 3.0], label_smoothing=0.1),
            lambda out: nll_loss(log_softmax(out), [0, 1, 2, 0, 1]),
            lambda out: kl_div(log_softmax(out), np.full((5, 3), 1 / 3), "batchmean"),
        ],
    )
    def test_the_whole_network_agrees_with_finite_differences(self, loss):
        model, data = network(), randn(5, 4, rng=9, dtype=np.float64)
        arrays = [p.data.astype(np.float64) for p in model.parameters()]

        def f(w1, b1, w2, b2):
            return loss(tanh(data @ w1 + b1) @ w2 + b2)

        assert gradcheck(f, arrays) is True

    def test_fused_and_composed_losses_send_the_same_gradient(self):
        logits, t = randn(6, 4, rng=0, requires_grad=True), randint(0, 4, 6, rng=1)
        fused = grad(cross_entropy(logits, t), logits)
        assert_close(grad(nll_loss(log_softmax(logits), t), logits), fused)
        assert_close(grad(-softmax(logits).log()[np.arange(6), t].mean(), logits), fused)

    def test_linear_sends_the_same_gradient_as_matmul_and_add(self):
        x, layer = randn(2, 5, 4, rng=0, requires_grad=True), Linear(4, 3, rng=1)
        weight = randn(2, 5, 3, rng=2).data
        inputs = [x, layer.weight, layer.bias]
        fused = grad(layer(x), inputs, weight)
        for a, b in zip(fused, grad(x @ layer.weight + layer.bias, inputs, weight)):
            assert_close(a, b)

    def test_dropout_passes_back_what_it_let_through(self):
        manual_seed(3)
        x = Tensor(np.ones(100), requires_grad=True)
        out = Dropout(0.5)(x)
        out.sum().backward()
        assert_close(x.grad, out.data, rtol=0, atol=0)


class TestForwardIntegration:
    """What the next modules rely on."""

    def test_a_step_down_the_gradient_lowers_the_loss(self):
        model, X, t = network(), randn(20, 4, rng=5), randint(0, 3, 20, rng=6)
        seen = []
        for _ in range(30):
            loss = cross_entropy(model(X), t)
            seen.append(loss.item())
            model.zero_grad()
            loss.backward()
            with no_grad():
                for p in model.parameters():
                    p -= 0.5 * p.grad
        assert all(later < earlier for earlier, later in zip(seen, seen[1:]))
        assert seen[-1] < 0.8 * seen[0]

    def test_every_parameter_of_a_model_gets_a_gradient_of_its_shape(self):
        model = Sequential(Flatten(), Linear(12, 5, rng=0), ReLU(), Dropout(0.1), Linear(5, 3, rng=1))
        CrossEntropyLoss()(model(randn(7, 3, 4, rng=2)), [0, 1, 2, 0, 1, 2, 0]).backward()
        assert [p.grad.shape for p in model.parameters()] == [(12, 5), (5,), (5, 3), (3,)]
        assert all(p.grad.dtype == np.float32 and np.abs(p.grad).sum() > 0 for p in model.parameters())

    def test_zero_grad_of_a_model_forgets_them(self):
        model = network()
        model(randn(2, 4, rng=0)).sum().backward()
        model.zero_grad()
        assert [p.grad for p in model.parameters()] == [None] * 4

    def test_micro_batches_add_up_to_the_batch(self):
        X, t = randn(12, 4, rng=0), randint(0, 3, 12, rng=1)
        whole, parts = network(), network()
        cross_entropy(whole(X), t).backward()
        for i in range(0, 12, 4):
            (cross_entropy(parts(X[i : i + 4]), t[i : i + 4]) / 3).backward()
        for p, q in zip(whole.parameters(), parts.parameters()):
            assert_close(p.grad, q.grad)

    def test_a_parameter_shared_by_two_layers_gets_both_gradients(self):
        shared = Linear(4, 4, rng=0)
        x = randn(2, 4, rng=1)
        Sequential(shared, Tanh(), shared)(x).sum().backward()
        w1 = Tensor(shared.weight, requires_grad=True)
        w2 = Tensor(shared.weight, requires_grad=True)
        (tanh(x @ w1 + shared.bias.detach()) @ w2).sum().backward()
        assert_close(shared.weight.grad, w1.grad + w2.grad)

    def test_a_new_operation_needs_a_function_and_a_rule(self):
        """As later modules write them: no existing class is touched."""

        class CubeBackward(Function, op="cube"):
            def backward(self, grad):
                (x,) = self.inputs
                return grad * 3 * x.data**2

        def cube(x):
            return T.result(x.data**3, "cube", x)

        try:
            assert gradcheck(cube, np.array([1.0, -2.0])) is True
        finally:
            del Function.rules["cube"]

    def test_frozen_layers_pass_gradients_and_keep_none(self):
        model = network()
        list(model.children())[2].requires_grad_(False)
        model(randn(2, 4, rng=0)).sum().backward()
        assert [p.grad is None for p in model.parameters()] == [False, False, True, True]

    def test_a_loss_of_a_batch_can_be_asked_per_row(self):
        x = randn(5, 3, rng=0, requires_grad=True)
        rows = cross_entropy(x, [0, 1, 2, 0, 1], reduction="none")
        assert_close(grad(rows, x, np.eye(5)[2])[[0, 1, 3, 4]], np.zeros((4, 3), np.float32))


class TestCrossModuleIntegration:
    def test_a_network_learns_xor(self):
        manual_seed(1)
        X, t = Tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0, 1, 1, 0])
        model = Sequential(Linear(2, 8), Tanh(), Linear(8, 2))
        for _ in range(200):
            model.zero_grad()
            cross_entropy(model(X), t).backward()
            with no_grad():
                for p in model.parameters():
                    p -= 1.0 * p.grad
        assert model(X).argmax(axis=1).tolist() == t.tolist()

    def test_a_module_written_by_hand(self):
        class Gated(Module):
            def __init__(self):
                self.value = Linear(4, 4, rng=0)
                self.gate = Linear(4, 4, rng=1)

            def forward(self, x):
                return self.value(x) * sigmoid(self.gate(x)) + x

        model, x = Gated(), randn(3, 4, rng=2, requires_grad=True)
        checked = grad(model(x).sum(), [x, *model.parameters()])
        again = grad(checkpoint(model, x).sum(), [x, *model.parameters()])
        for a, b in zip(checked, again):
            assert_close(a, b)

    def test_attention_written_out(self):
        """softmax(q k^T / sqrt(d)) v with a causal mask, the heart of the last lessons."""
        mask = np.triu(np.ones((3, 3), bool), 1)

        def attend(q, k, v):
            scores = (q @ k.swapaxes(-1, -2)) / 2.0
            return softmax(scores.masked_fill(mask, -np.inf)) @ v

        rng = np.random.default_rng(0)
        assert gradcheck(attend, [rng.normal(size=(2, 3, 4)) for _ in range(3)]) is True

    def test_normalisation_written_out(self):
        def normalise(x, gain):
            centred = x - x.mean(axis=-1, keepdims=True)
            return centred / (x.var(axis=-1, keepdims=True) + 1e-5).sqrt() * gain

        rng = np.random.default_rng(0)
        assert gradcheck(normalise, [rng.normal(size=(3, 4)), rng.normal(size=4)]) is True

    def test_a_lookup_table(self):
        """Rows named twice get two gradients: the embedding of a later lesson."""
        table = randn(5, 3, rng=0, requires_grad=True)
        table[np.array([[1, 1], [4, 1]])].sum().backward()
        assert table.grad[:, 0].tolist() == [0, 3, 0, 0, 1]

    def test_evaluation_under_no_grad_holds_no_activations(self):
        first, x = Linear(4, 8, rng=0), randn(2, 4, rng=1)
        with no_grad():
            h = first(x)
            array = weakref.ref(h.data)
            out = relu(h)
            del h
        assert array() is None
        assert not out.requires_grad


class TestRegressionPrevention:
    def test_importing_installs_the_recorder(self):
        assert get_recorder() is autograd.record

    def test_everything_works_with_nobody_listening(self):
        before = set_recorder(None)
        try:
            assert (Tensor([1.0], requires_grad=True) * 2)._grad_fn is None
        finally:
            set_recorder(before)

    def test_gradients_are_arrays_not_tensors(self, x):
        x.sum().backward()
        assert type(x.grad) is np.ndarray

    def test_no_operation_drops_the_gradient(self, x):
        for rule, f in RULES.items():
            assert f(x).requires_grad, rule

    def test_backward_on_an_untracked_tensor_is_no_silent_success(self):
        with pytest.raises(RuntimeError, match="has no history"):
            Tensor(1.0).backward()
        with pytest.raises(RuntimeError, match="has no history"):
            backward(Tensor(1.0))

    def test_backward_twice_is_no_silent_addition(self, x):
        loss = (x * x).sum()
        loss.backward()
        with pytest.raises(RuntimeError, match="a second time"):
            loss.backward()
        assert_close(x.grad, 2 * x.data)

    def test_data_changed_before_backward_is_no_silent_corruption(self, x):
        data = Tensor(np.ones((3, 4)))
        loss = (x * data).sum()
        data += 1
        with pytest.raises(RuntimeError, match="changed in place"):
            loss.backward()

    def test_a_diamond_of_twelve_storeys_reaches_its_foot_along_every_path(self):
        x = Tensor(1.0, requires_grad=True)
        y = x
        for _ in range(12):
            y = y + y
        y.backward()
        assert x.grad == 2.0**12

    def test_vectors_in_a_matmul(self):
        v, m = Tensor([1.0, 2.0], requires_grad=True), Tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], requires_grad=True)
        (v @ m).sum().backward()
        assert_close(v.grad, np.array([6, 15], np.float32))
        assert_close(m.grad, np.array([[1, 1, 1], [2, 2, 2]], np.float32))
        v.grad = None
        (v @ v).backward()
        assert_close(v.grad, np.array([2, 4], np.float32))

    @pytest.mark.parametrize(("axis", "start"), [(0, [1.0, 10.0]), (1, [1.0, 10.0, 100.0])])
    def test_a_sum_goes_back_along_its_own_axis(self, axis, start):
        x = Tensor(np.ones((3, 2)), requires_grad=True)
        x.sum(axis=axis).backward(start)
        assert_close(x.grad, np.broadcast_to(np.expand_dims(np.float32(start), axis), (3, 2)))

    def test_repeated_indices_add_up(self):
        x = Tensor([1.0, 2.0], requires_grad=True)
        x[[0, 0, 0]].sum().backward()
        assert x.grad.tolist() == [3, 0]

    def test_dropout_of_everything_has_a_gradient_of_zeros(self):
        x = Tensor(np.ones(4), requires_grad=True)
        Dropout(1.0)(x).sum().backward()
        assert x.grad.tolist() == [0, 0, 0, 0]

    def test_training_steps_leave_no_garbage(self):
        model, X, t = network(), randn(5, 4, rng=0), randint(0, 3, 5, rng=1)
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                loss = cross_entropy(model(X), t)
                ref = weakref.ref(loss._grad_fn)
                model.zero_grad()
                loss.backward()
                del loss
                assert ref() is None
        finally:
            gc.enable()
        assert gc.collect() == 0

    def test_a_step_and_its_gradient_stay_float32(self):
        model = network()
        loss = cross_entropy(model(randn(5, 4, rng=0)), [0, 1, 2, 0, 1])
        loss.backward()
        assert loss.dtype == np.float32
        assert {p.grad.dtype for p in model.parameters()} == {np.dtype(np.float32)}
