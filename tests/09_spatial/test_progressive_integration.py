"""Module 09 with what came before it: networks that see."""

import numpy as np
import pytest

from support.checks import assert_close
from support.images import convolved
from support.listening import announced
from tinytorch.core.activations import ReLU, Tanh
from tinytorch.core.autograd import Function, checkpoint, gradcheck, no_grad
from tinytorch.core.layers import Dropout, Flatten, Linear, Module, Sequential, kaiming_normal, linear
from tinytorch.core.losses import CrossEntropyLoss, cross_entropy, mse_loss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.spatial import (
    AdaptiveAvgPool2d,
    AvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv1d,
    Conv2d,
    ConvTranspose1d,
    ConvTranspose2d,
    MaxPool2d,
    adaptive_avg_pool2d,
    avg_pool2d,
    batch_norm,
    conv1d,
    conv2d,
    conv_transpose1d,
    conv_transpose2d,
    max_pool2d,
)
from tinytorch.core.tensor import Tensor, from_numpy, manual_seed, randn
from tinytorch.core.training import Trainer, load, save
from tinytorch.data.datasets import digits
from tinytorch.data.loader import DataLoader, TensorDataset

# every operation of this module: name, function, shapes of its tensors
OPERATIONS = {
    "conv2d": (lambda x, w, b: conv2d(x, w, b, 2, 1), [(2, 2, 5, 6), (3, 2, 3, 3), (3,)]),
    "conv1d": (lambda x, w, b: conv1d(x, w, b, 2, 1), [(2, 2, 7), (3, 2, 3), (3,)]),
    "conv_transpose2d": (lambda x, w, b: conv_transpose2d(x, w, b, 2, 1), [(2, 2, 3, 4), (2, 3, 3, 3), (3,)]),
    "conv_transpose1d": (lambda x, w, b: conv_transpose1d(x, w, b, 2, 1), [(2, 2, 4), (2, 3, 3), (3,)]),
    "max_pool2d": (lambda x: max_pool2d(x, 3, 2, 1), [(2, 2, 6, 5)]),
    "avg_pool2d": (lambda x: avg_pool2d(x, 3, 2, 1), [(2, 2, 6, 5)]),
    "adaptive_avg_pool2d": (lambda x: adaptive_avg_pool2d(x, (2, 3)), [(2, 2, 5, 4)]),
    "batch_norm": (lambda x, w, b: batch_norm(x, None, None, w, b, True), [(3, 2, 2, 3), (2,), (2,)]),
}
operations = pytest.mark.parametrize(
    ("name", "function", "shapes"), [(n, *c) for n, c in OPERATIONS.items()], ids=OPERATIONS
)


def drawn(shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in shapes]


def small_network():
    return Sequential(
        Conv2d(1, 6, 3, padding=1),
        BatchNorm2d(6),
        ReLU(),
        MaxPool2d(2),
        Conv2d(6, 12, 3, padding=1),
        ReLU(),
        AdaptiveAvgPool2d(2),
        Flatten(),
        Linear(48, 10),
    )


class TestPriorStackStillWorking:
    def test_a_network_of_linear_layers_learns(self):
        model = Sequential(Linear(2, 8, rng=0), Tanh(), Linear(8, 1, rng=1))
        optimizer = SGD(model, lr=0.1)
        x, y = randn(32, 2, rng=0), randn(32, 1, rng=1)
        first = mse_loss(model(x), y).item()
        for _ in range(20):
            optimizer.zero_grad()
            loss = mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.9 * first
        assert convolved(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2))).item() == 4

    def test_digits_come_as_images(self):
        image, label = digits()[0]
        assert image.shape == (1, 8, 8)
        assert conv2d(image.unsqueeze(0), np.ones((1, 1, 8, 8))).item() == pytest.approx(image.data.sum(), rel=1e-5)
        assert label.dtype == np.int64

    def test_convolution_kernels_start_with_their_whole_window_as_fan_in(self):
        weight = kaiming_normal((64, 16, 5, 5), rng=0)
        assert abs(weight.data.std() / np.sqrt(2 / 400) - 1) < 0.02
        assert conv2d(np.zeros((1, 16, 5, 5)), weight).shape == (1, 64, 1, 1)


class TestModule09SpatialCore:
    def test_a_worked_example(self):
        x = np.arange(9.0).reshape(1, 1, 3, 3)
        assert_close(conv2d(x, [[[[1.0, 0.0], [0.0, -1.0]]]]), np.full((1, 1, 2, 2), -4, np.float32))
        assert_close(max_pool2d(x, 2, 1), np.array([[[[4, 5], [7, 8]]]], np.float32))
        assert_close(avg_pool2d(x, 2, 1), np.array([[[[2, 3], [5, 6]]]], np.float32))

    def test_fast_is_the_definition(self):
        x, w, b = drawn([(3, 4, 9, 8), (6, 2, 3, 3), (6,)])
        got = conv2d(from_numpy(x), from_numpy(w), from_numpy(b), (2, 1), (1, 2), (1, 2), 2)
        assert_close(got, convolved(x, w, b, (2, 1), (1, 2), (1, 2), 2), rtol=1e-12, atol=1e-12)

    def test_a_1x1_kernel_is_a_linear_layer_at_every_pixel(self):
        x, w = drawn([(2, 5, 3, 4), (7, 5, 1, 1)])
        want = linear(from_numpy(x.transpose(0, 2, 3, 1).copy()), from_numpy(w[:, :, 0, 0].T.copy())).data
        assert_close(conv2d(from_numpy(x), from_numpy(w)), want.transpose(0, 3, 1, 2), rtol=1e-12)

    def test_a_kernel_of_the_size_of_the_image_is_a_linear_layer(self):
        x, w = drawn([(2, 3, 4, 5), (7, 3, 4, 5)])
        want = x.reshape(2, -1) @ w.reshape(7, -1).T
        assert_close(conv2d(from_numpy(x), from_numpy(w)).flatten(1), want, rtol=1e-12)

    def test_batch_norm_in_training_and_in_use(self):
        layer = BatchNorm2d(2, momentum=1.0)
        x = Tensor(3 + 2 * drawn([(50, 2, 4, 4)])[0])
        trained = layer(x).data
        assert_close(trained.mean(axis=(0, 2, 3)), np.zeros(2, np.float32), atol=1e-5)
        assert_close(layer.eval()(x), trained, rtol=2e-3, atol=2e-3)


class TestBackwardIntegration:
    """With module 05: every operation has its rule."""

    def test_no_rule_of_this_module_is_left_out_below(self):
        here = {op for op, rule in Function.rules.items() if rule.__module__ == "tinytorch.core.spatial"}
        assert here == set(OPERATIONS)

    @operations
    def test_gradients(self, name, function, shapes):
        assert gradcheck(function, drawn(shapes))

    @operations
    def test_the_rule_is_filed_under_the_name_of_the_operation(self, name, function, shapes):
        x, *rest = (Tensor(a) for a in drawn(shapes))
        x.requires_grad = True
        out = function(x, *rest)
        assert type(out._grad_fn) is Function.rules[name]

    @operations
    def test_one_fused_operation(self, name, function, shapes):
        tensors = [Tensor(a) for a in drawn(shapes)]
        assert [op for op, _, _ in announced(lambda: function(*tensors))] == [name]

    @operations
    def test_float32_stays_float32_there_and_back(self, name, function, shapes):
        tensors = [Tensor(a, requires_grad=True) for a in drawn(shapes)]
        out = function(*tensors)
        assert out.dtype == np.float32
        out.sum().backward()
        assert [t.grad.dtype for t in tensors] == [np.float32] * len(tensors)

    @operations
    def test_the_gradient_that_comes_in_is_not_changed(self, name, function, shapes):
        tensors = [Tensor(a, requires_grad=True) for a in drawn(shapes)]
        out = function(*tensors)
        g = np.ones(out.shape, np.float32)
        out.backward(g)
        assert (g == 1).all()

    @operations
    def test_gradients_add_up_over_two_passes(self, name, function, shapes):
        tensors = [Tensor(a, requires_grad=True) for a in drawn(shapes)]
        function(*tensors).sum().backward()
        once = [t.grad.copy() for t in tensors]
        function(*tensors).sum().backward()
        for t, grad in zip(tensors, once):
            assert_close(t.grad, 2 * grad)

    def test_a_change_in_place_is_noticed(self):
        w = Tensor(np.ones((1, 1, 2, 2)), requires_grad=True)
        out = conv2d(np.ones((1, 1, 3, 3)), w).sum()
        with no_grad():
            w *= 2
        with pytest.raises(RuntimeError, match="changed in place"):
            out.backward()

    def test_a_checkpointed_block_has_the_same_gradients(self):
        block = Sequential(Conv2d(2, 3, 3, rng=0), ReLU(), MaxPool2d(2))
        x = randn(2, 2, 6, 6, rng=0)
        block(x).sum().backward()
        want = block[0].weight.grad.copy()
        block.zero_grad()
        checkpoint(block, x).sum().backward()
        assert_close(block[0].weight.grad, want)


class TestForwardIntegration:
    """What the next modules rely on."""

    @pytest.mark.parametrize(
        ("layer", "image", "want"),
        [
            (Conv2d(3, 8, 3), (2, 3, 32, 30), (2, 8, 30, 28)),
            (Conv2d(3, 8, 3, padding="same"), (2, 3, 32, 30), (2, 8, 32, 30)),
            (Conv2d(3, 8, 7, 2, 3), (1, 3, 224, 224), (1, 8, 112, 112)),
            (Conv1d(4, 6, 5, 2, 2), (2, 4, 100), (2, 6, 50)),
            (ConvTranspose2d(8, 3, 4, 2, 1), (2, 8, 7, 7), (2, 3, 14, 14)),
            (ConvTranspose1d(8, 3, 2, 2), (2, 8, 7), (2, 3, 14)),
            (MaxPool2d(3, 2, 1), (1, 8, 112, 112), (1, 8, 56, 56)),
            (AvgPool2d(2), (1, 8, 7, 7), (1, 8, 3, 3)),
            (AdaptiveAvgPool2d(1), (1, 8, 7, 5), (1, 8, 1, 1)),
            (BatchNorm1d(8), (4, 8), (4, 8)),
            (BatchNorm1d(8), (4, 8, 5), (4, 8, 5)),
            (BatchNorm2d(8), (2, 8, 3, 3), (2, 8, 3, 3)),
        ],
        ids=repr,
    )
    def test_shapes(self, layer, image, want):
        out = layer(np.zeros(image, np.float32))
        assert (out.shape, out.dtype) == (want, np.float32)

    def test_how_many_parameters(self):
        assert Conv2d(64, 128, 3).num_parameters() == 128 * 64 * 9 + 128
        assert Conv2d(64, 64, 3, groups=64, bias=False).num_parameters() == 64 * 9
        assert BatchNorm2d(64).num_parameters() == 128
        assert small_network().num_parameters() == 60 + 12 + 660 + 490

    def test_layers_can_be_asked_for_and_hooked(self):
        model = small_network()
        seen = []
        for layer in model.modules():
            if isinstance(layer, Conv2d):
                layer.register_forward_hook(lambda module, inputs, out: seen.append(out.shape))
        model(np.zeros((2, 1, 8, 8), np.float32))
        assert seen == [(2, 6, 8, 8), (2, 12, 4, 4)]

    def test_a_seeded_network_repeats_bit_for_bit(self):
        outs = []
        for _ in range(2):
            manual_seed(1)
            outs.append(small_network()(randn(3, 1, 8, 8)).data.tobytes())
        assert outs[0] == outs[1]


class TestCrossModuleIntegration:
    def test_a_small_network_learns_to_read_digits(self):
        manual_seed(0)
        train, test = digits(split="train"), digits(split="test")
        model = small_network()
        trainer = Trainer(model, Adam(model, lr=0.01), CrossEntropyLoss())
        trainer.fit(DataLoader(train, batch_size=64, shuffle=True, seed=0), 3)
        assert trainer.evaluate(DataLoader(test, batch_size=256))["accuracy"] > 0.9

    def test_training_and_use_differ_and_evaluating_changes_nothing(self):
        model = small_network()
        model(randn(16, 1, 8, 8, rng=0))
        before = model.state_dict()
        model.eval()
        x = randn(4, 1, 8, 8, rng=1)
        together = model(x).data
        assert_close(np.concatenate([model(x[i : i + 1]).data for i in range(4)]), together, rtol=1e-4, atol=1e-5)
        for name, array in model.state_dict().items():
            assert_close(array, before[name], rtol=0, atol=0)

    def test_the_state_with_its_running_statistics_comes_back_from_a_file(self, tmp_path):
        model, other = small_network(), small_network()
        model(randn(16, 1, 8, 8, rng=0))
        save(tmp_path / "model", model)
        load(tmp_path / "model", other)
        x = randn(2, 1, 8, 8, rng=1)
        assert_close(other.eval()(x), model.eval()(x).data, rtol=0, atol=0)
        assert other[1].num_batches_tracked == 1

    def test_an_optimizer_trains_kernels_and_leaves_running_statistics_alone(self):
        model = Sequential(Conv2d(1, 2, 3), BatchNorm2d(2), Flatten(), Linear(2 * 36, 2))
        optimizer = SGD(model, lr=0.1)
        assert len(optimizer.parameters) == 6
        cross_entropy(model(randn(4, 1, 8, 8, rng=0)), Tensor([0, 1, 0, 1])).backward()
        before = model.state_dict()
        optimizer.step()
        after = model.state_dict()
        moved = [name for name in before if not np.array_equal(before[name], after[name])]
        # the bias before a batch norm is taken away with the mean: what moves it is only rounding
        assert set(moved) - {"0.bias"} == {"0.weight", "1.weight", "1.bias", "3.weight", "3.bias"}

    def test_a_residual_block(self):
        class Block(Module):
            def __init__(self, C):
                self.first = Conv2d(C, C, 3, padding=1, bias=False, rng=0)
                self.norm = BatchNorm2d(C)
                self.second = Conv2d(C, C, 3, padding=1, bias=False, rng=1)

            def forward(self, x):
                return x + self.second(self.norm(self.first(x)))

        block = Block(2)
        x = Tensor(drawn([(3, 2, 4, 4)])[0], requires_grad=True)
        block(x).sum().backward()
        assert x.grad.shape == x.shape
        assert list(block.state_dict()) == [
            "first.weight",
            "norm.weight",
            "norm.bias",
            "second.weight",
            "norm.running_mean",
            "norm.running_var",
            "norm.num_batches_tracked",
        ]

    def test_down_and_up_again(self):
        manual_seed(0)
        model = Sequential(Conv2d(1, 4, 3, 2, 1), ReLU(), ConvTranspose2d(4, 1, 3, 2, 1, 1))
        optimizer = Adam(model, lr=0.02)
        images = from_numpy(digits().tensors[0].data[:64])
        losses = []
        for _ in range(40):
            optimizer.zero_grad()
            loss = mse_loss(model(images), images)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.25 * losses[0]

    def test_batches_of_a_loader_go_in_as_they_come(self):
        images = np.random.default_rng(0).random((10, 3, 6, 6), np.float32)
        model = Sequential(Conv2d(3, 4, 3), Dropout(0.5), AvgPool2d(2))
        shapes = [model(x).shape for (x,) in DataLoader(TensorDataset(images), batch_size=4)]
        assert shapes == [(4, 4, 2, 2), (4, 4, 2, 2), (2, 4, 2, 2)]


class TestRegressionPrevention:
    def test_the_border_of_max_pooling_is_not_zero(self):
        assert max_pool2d(np.full((1, 1, 2, 2), -3.0), 2, 2, 1).data.max() == -3

    def test_ties_are_not_counted_twice(self):
        x = Tensor(np.zeros((1, 1, 4, 4)), requires_grad=True)
        max_pool2d(x, 2).sum().backward()
        assert x.grad.sum() == 4
        assert (x.grad[0, 0, ::2, ::2] == 1).all()

    def test_batch_norm_does_not_cut_the_graph(self):
        x = Tensor([[1.0], [2.0], [4.0]], requires_grad=True)
        batch_norm(x, training=True)[0].sum().backward()
        assert (x.grad != 0).all()

    def test_the_gradient_of_batch_norm_knows_that_mean_and_variance_move(self):
        # a batch of two is always -1 and 1, wherever the two lie
        x = Tensor([[0.0], [10.0]], requires_grad=True, dtype=np.float64)
        batch_norm(x, training=True, eps=0.0).backward(np.array([[1.0], [0.0]]))
        assert_close(x.grad, np.zeros((2, 1)), atol=1e-12)

    def test_the_running_variance_is_the_unbiased_one(self):
        layer = BatchNorm1d(1, momentum=1.0)
        layer(Tensor([[0.0], [2.0]]))
        assert layer.running_var.item() == 2

    def test_in_use_a_single_image_is_fine_and_in_training_it_is_refused(self):
        layer = BatchNorm1d(2)
        with pytest.raises(ValueError, match="more than one value"):
            layer(np.ones((1, 2)))
        assert layer.eval()(np.ones((1, 2))).shape == (1, 2)

    def test_wrong_channels_are_an_error_and_not_a_broadcast(self):
        with pytest.raises(ValueError, match="3 channels, got 1"):
            Conv2d(3, 4, 3)(np.zeros((2, 1, 8, 8)))
        with pytest.raises(ValueError, match="2 channels"):
            batch_norm(np.zeros((3, 2, 4)), training=True, weight=np.ones(4))

    def test_an_image_smaller_than_the_kernel_is_an_error_and_not_an_empty_result(self):
        with pytest.raises(ValueError, match="does not fit"):
            conv2d(np.zeros((1, 1, 2, 2)), np.zeros((1, 1, 3, 3)))
        with pytest.raises(ValueError, match="does not fit"):
            max_pool2d(np.zeros((1, 1, 1, 1)), 2)

    def test_the_columns_between_rows_do_not_leak(self):
        # rows of the layout share their border: what stands at the end of one row must not reach the next one
        x = np.zeros((1, 1, 3, 4))
        x[0, 0, 0, 3] = 1
        want = np.zeros((3, 4))
        want[:2, 2:] = 1
        assert_close(conv2d(from_numpy(x), from_numpy(np.ones((1, 1, 3, 3))), padding=1)[0, 0], want)

    def test_the_first_layer_may_skip_the_gradient_of_the_image(self):
        model = Sequential(Conv2d(1, 2, 3, rng=0), Flatten())
        x = randn(2, 1, 5, 5, rng=0)
        model(x).sum().backward()
        assert x.grad is None
        assert np.abs(model[0].weight.grad).min() > 0
