"""Module 08 with what came before it: real digits, in batches, through layers, losses, optimizers and the trainer."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import relu
from tinytorch.core.autograd import no_grad
from tinytorch.core.layers import Dropout, Linear, Module, Sequential
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.core.training import Trainer
from tinytorch.data.datasets import digits
from tinytorch.data.loader import DataLoader, TensorDataset, batch_indices, default_collate, random_split
from tinytorch.data.transforms import Compose, Normalize, RandomCrop, ToTensor


class Net(Module):
    """The smallest network that reads digits: 64 pixels, some hidden units, 10 classes."""

    def __init__(self, hidden=32):
        self.first = Linear(64, hidden)
        self.second = Linear(hidden, 10)

    def forward(self, images):
        return self.second(relu(self.first(images.reshape(len(images), 64))))


def accuracy(net, data):
    images, labels = data[:]
    with no_grad():
        return float((net(images).data.argmax(axis=1) == labels.data).mean())


class TestPriorStackStillWorking:
    def test_a_linear_layer_computes_x_w_plus_b(self):
        layer = Linear(2, 1)
        layer.weight.data = np.array([[2.0], [3.0]], np.float32)
        layer.bias.data = np.array([1.0], np.float32)
        assert_close(layer(Tensor([[1.0, 1.0]])), np.array([[6.0]], np.float32))

    def test_a_step_of_sgd_goes_down_the_gradient(self):
        w = Tensor([1.0], requires_grad=True)
        (w * w).sum().backward()
        SGD([w], lr=0.25).step()
        assert_close(w, np.array([0.5], np.float32))

    def test_cross_entropy_of_equal_logits_is_log_c(self):
        assert_close(cross_entropy(Tensor(np.zeros((3, 10), np.float32)), Tensor([0, 5, 9])), np.float32(np.log(10)))


class TestModule08DataloaderCore:
    def test_an_epoch_shows_every_digit_once(self):
        data = TensorDataset(*digits("train").tensors, np.arange(1438))
        seen = [i for _, _, number in DataLoader(data, 100, shuffle=True) for i in number.tolist()]
        assert sorted(seen) == list(range(1438))

    def test_batches_have_the_shape_and_dtype_of_images_and_labels(self):
        images, labels = next(iter(DataLoader(digits("train"), 32, shuffle=True)))
        assert (images.shape, images.dtype) == ((32, 1, 8, 8), np.float32)
        assert (labels.shape, labels.dtype) == ((32,), np.int64)

    def test_threads_change_nothing(self):
        data = digits("test", transform=RandomCrop(8, padding=1))
        alone, threaded = (DataLoader(data, 64, shuffle=True, seed=1, num_workers=n) for n in (0, 2))
        for (x, y), (u, v) in zip(alone, threaded, strict=True):
            assert_close(u, x.data, rtol=0, atol=0)
            assert_close(v, y.data)

    def test_collating_samples_one_by_one_is_fetching_them_at_once(self):
        data = digits("test")
        order = batch_indices(len(data), 50, shuffle=True, rng=0)[0]
        for slow, quick in zip(default_collate([data[int(i)] for i in order]), data.get_batch(order), strict=True):
            assert_close(quick, slow.data, rtol=0, atol=0)


class TestBackwardIntegration:
    def test_gradients_of_batches_add_up_to_the_gradient_of_the_whole(self):
        net, data = Net(), digits("test")
        images, labels = data[:]
        cross_entropy(net(images), labels, reduction="sum").backward()
        whole = [p.grad.copy() for p in net.parameters()]
        net.zero_grad()
        for x, y in DataLoader(data, 50, shuffle=True, seed=0):
            cross_entropy(net(x), y, reduction="sum").backward()
        for p, grad in zip(net.parameters(), whole, strict=True):
            assert_close(p.grad, grad, rtol=1e-3, atol=1e-3)

    def test_batches_require_no_gradient_and_get_none(self):
        images, labels = next(iter(DataLoader(digits("train"), 8)))
        cross_entropy(Net()(images), labels).backward()
        assert [images.requires_grad, labels.requires_grad] == [False, False]
        assert images.grad is None

    def test_an_input_made_from_a_batch_can_ask_for_its_gradient(self):
        images, labels = next(iter(DataLoader(digits("train"), 8)))
        images = Tensor(images.data, requires_grad=True)
        cross_entropy(Net()(images), labels).backward()
        assert images.grad.shape == (8, 1, 8, 8)
        assert np.abs(images.grad).max() > 0


class TestForwardIntegration:
    def test_images_come_channels_first_as_convolutions_want_them(self):
        images, _ = digits()[:2]
        assert images.shape == (2, 1, 8, 8)
        assert images.data.flags.c_contiguous

    def test_bytes_in_colour_become_normalised_floats_of_the_same_axes(self):
        photos = np.random.default_rng(0).integers(0, 256, (50, 3, 32, 32), dtype=np.uint8)
        steps = Compose([ToTensor(), RandomCrop(32, padding=4), Normalize([0.5, 0.5, 0.5], [0.25, 0.25, 0.25])])
        (images,) = next(iter(DataLoader(TensorDataset(photos, transform=steps), 16, shuffle=True)))
        assert (images.shape, images.dtype) == ((16, 3, 32, 32), np.float32)
        assert float(images.min()) == -2

    def test_sequences_of_tokens_stay_integers(self):
        tokens = np.arange(12).reshape(4, 3)
        x, y = next(iter(DataLoader(TensorDataset(tokens[:, :-1], tokens[:, 1:]), 4)))
        assert x.dtype == y.dtype == np.int64
        assert_close(y, x.data + 1)


class TestCrossModuleIntegration:
    def test_a_small_network_learns_to_read_digits(self):
        manual_seed(0)
        net = Net()
        optimizer = Adam(net.parameters(), lr=5e-3)
        for _ in range(15):
            for images, labels in DataLoader(digits("train"), 32, shuffle=True):
                net.zero_grad()
                cross_entropy(net(images), labels).backward()
                optimizer.step()
        assert accuracy(net, digits("test")) > 0.93

    def test_the_trainer_trains_on_a_loader(self):
        manual_seed(0)
        net = Net()
        trainer = Trainer(net, Adam(net.parameters(), lr=5e-3), cross_entropy)
        train, validation = random_split(digits("train"), [0.9, 0.1], seed=0)
        before = trainer.evaluate(DataLoader(validation, 64))
        trainer.fit(DataLoader(train, 32, shuffle=True), epochs=6)
        after = trainer.evaluate(DataLoader(validation, 64))
        assert before["accuracy"] < 0.3
        assert after["accuracy"] > 0.85
        assert after["loss"] < before["loss"] / 2

    @pytest.mark.parametrize("seed", [None, 5])
    def test_a_run_that_was_interrupted_ends_in_the_same_weights(self, tmp_path, seed):
        def trainer_and_loader():
            manual_seed(3)
            net = Sequential(Linear(64, 16), Dropout(0.2), Linear(16, 10))
            data = TensorDataset(digits("test")[:][0].data.reshape(359, 64), digits("test")[:][1])
            loader = DataLoader(data, 50, shuffle=True, seed=seed)
            return Trainer(net, Adam(net.parameters(), lr=1e-2), cross_entropy), loader

        whole, loader = trainer_and_loader()
        whole.fit(loader, epochs=4)
        first, loader = trainer_and_loader()
        first.fit(loader, epochs=2)
        first.save_checkpoint(tmp_path / "run")
        manual_seed(99)
        second, loader = trainer_and_loader()
        manual_seed(98)
        second.load_checkpoint(tmp_path / "run")
        second.fit(loader, epochs=4)
        for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
            np.testing.assert_array_equal(a.data, b.data)


class TestRegressionPrevention:
    def test_writing_into_a_batch_does_not_reach_the_data(self):
        data = digits("test")
        for images, _ in DataLoader(data, 64):
            images.data[...] = -1
        assert float(data[:][0].min()) == 0

    def test_evaluating_between_epochs_does_not_change_the_training(self):
        def orders(evaluate):
            manual_seed(0)
            loader = DataLoader(TensorDataset(np.arange(10)), 5, shuffle=True)
            seen = []
            for _ in range(3):
                seen += [batch.tolist() for (batch,) in loader]
                if evaluate:
                    list(DataLoader(digits("test"), 64))
            return seen

        assert orders(evaluate=True) == orders(evaluate=False)

    def test_a_batch_of_one_keeps_its_batch_axis(self):
        images, labels = list(DataLoader(digits("test"), 358))[-1]
        assert images.shape == (1, 1, 8, 8)
        assert labels.shape == (1,)
