"""Module 16 with what came before it and what comes next.

Networks of linear layers (03), convolutions (09) and transformers (13) lose weights, units, heads and rank, learn on
(05, 06, 07), are saved and loaded (07), and read digits (08) nearly as well as before.
"""

import copy
import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU, softmax
from tinytorch.core.attention import MultiHeadAttention
from tinytorch.core.autograd import gradcheck, no_grad
from tinytorch.core.checkpoint import load, save
from tinytorch.core.layers import Dropout, Flatten, Linear, Module, Sequential
from tinytorch.core.losses import CrossEntropyLoss, cross_entropy, kl_div
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.spatial import BatchNorm2d, Conv2d, MaxPool2d
from tinytorch.core.tensor import Tensor, manual_seed, randint, randn
from tinytorch.core.training import Trainer
from tinytorch.data.datasets import digits
from tinytorch.data.loader import DataLoader
from tinytorch.models.transformer import GPT, MLP
from tinytorch.optimization.compression import (
    KnowledgeDistillation,
    PrunedAttention,
    PruningMasks,
    compress_model,
    distillation_loss,
    low_rank_approximate,
    magnitude_prune,
    measure_sparsity,
    structured_prune,
    to_csr,
)


def reader(width=64, rng=0):
    return Sequential(Flatten(), Linear(64, width, rng=rng), ReLU(), Linear(width, 10, rng=rng + 1))


def learn(model, epochs, masks=None):
    """Some epochs on the digits, with masks after every step."""
    optimizer = Adam(model.parameters(), lr=5e-3)
    for epoch in range(epochs):
        for images, labels in DataLoader(digits("train"), batch_size=64, shuffle=True, seed=epoch):
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()
            if masks is not None:
                masks.apply()
    return model


def accuracy(model):
    images, labels = digits("test").tensors
    with no_grad():
        return float((model(images).argmax(axis=1) == labels).data.mean())


@pytest.fixture(scope="module")
def trained():
    manual_seed(0)
    return learn(reader(), 8)


class TestPriorStackStillWorking:
    def test_a_linear_layer_stores_inputs_by_outputs(self):
        assert Linear(4, 12).weight.shape == (4, 12)

    def test_a_convolution_stores_outputs_first(self):
        assert Conv2d(2, 6, 3).weight.shape == (6, 2, 3, 3)

    def test_kl_div_by_hand(self):
        assert_close(kl_div(np.log([[0.5, 0.5]]), [[1.0, 0.0]], "batchmean").item(), math.log(2))

    def test_softmax_shares_add_up_to_1(self):
        assert_close(softmax(randn(3, 5, rng=0)).sum(axis=-1), np.ones(3, np.float32))

    def test_attention_keeps_heads_side_by_side(self):
        layer, x = MultiHeadAttention(8, 2, rng=0), randn(1, 3, 8, rng=1)
        q, _, v = layer.heads(x)
        whole = layer.in_proj(x).data
        assert_close(q.data[0, 1], whole[0, :, 4:8])
        assert_close(v.data[0, 0], whole[0, :, 16:20])

    def test_a_deep_copy_is_independent(self):
        layer = Linear(2, 2, rng=0)
        other = copy.deepcopy(layer)
        other.weight.data += 1
        assert_close(other.weight.data - layer.weight.data, np.ones((2, 2), np.float32))

    def test_the_digits_are_read_by_a_small_network(self, trained):
        assert accuracy(trained) > 0.93


class TestModule16CompressionCore:
    def test_half_of_a_matrix_by_hand(self):
        layer = Linear(2, 2)
        layer.weight.data = np.array([[0.1, -3.0], [-0.2, 0.5]], np.float32)
        pruned = magnitude_prune(layer, 0.5)
        assert_close(pruned.weight, np.array([[0, -3], [0, 0.5]], np.float32))
        assert_close(pruned.bias, layer.bias.data)
        assert measure_sparsity(pruned) == 0.5

    def test_units_by_hand(self):
        model = Sequential(Linear(1, 3), ReLU(), Linear(3, 1))
        model[0].weight.data, model[0].bias.data = np.array([[3, 1, 2]], np.float32), np.zeros(3, np.float32)
        model[2].weight.data = np.array([[1], [1], [1]], np.float32)
        pruned = structured_prune(model, 0.34)
        assert pruned[0].weight.tolist() == [[3, 2]]
        assert pruned[2].weight.tolist() == [[1], [1]]
        assert (pruned[0].out_features, pruned[2].in_features) == (2, 2)

    def test_heads_are_gone(self):
        pruned = structured_prune(MultiHeadAttention(16, 4, rng=0), 0.5)
        assert isinstance(pruned, PrunedAttention)
        assert (pruned.in_proj.weight.shape, pruned.out_proj.weight.shape) == ((16, 24), (8, 16))

    def test_rank_1_of_a_matrix_of_rank_1_is_exact(self):
        layer = Linear(2, 3, bias=False)
        layer.weight.data = np.array([[1, 2, 3], [2, 4, 6]], np.float32)
        x = randn(4, 2, rng=0)
        assert_close(low_rank_approximate(layer, 1)(x), layer(x).data, rtol=1e-4, atol=1e-5)

    def test_distillation_by_hand(self):
        loss = distillation_loss([[0.0, 0.0]], [[math.log(3), 0.0]], [0], temperature=1.0, alpha=0.5)
        soft = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
        assert_close(loss.item(), 0.5 * soft + 0.5 * math.log(2))

    def test_zeros_are_not_stored(self):
        csr = to_csr([[0.0, 2.0], [0.0, 0.0]])
        assert (csr.values.tolist(), csr.columns.tolist(), csr.starts.tolist()) == ([2], [1], [0, 1, 1])

    @pytest.mark.parametrize(
        "call",
        [
            lambda: magnitude_prune(MLP(4), 1.5),
            lambda: structured_prune(MLP(4), 1),
            lambda: low_rank_approximate(Linear(4, 4), 0),
            lambda: KnowledgeDistillation(MLP(4), MLP(4), temperature=0),
            lambda: compress_model(Sequential(ReLU()), {"magnitude_prune": 0.5}),
        ],
    )
    def test_nonsense_is_refused(self, call):
        with pytest.raises(ValueError, match="needs|has no"):
            call()


class TestBackwardIntegration:
    """With the engine of module 05 and the optimizers of module 06."""

    def test_the_gradient_of_distillation(self):
        teacher = Tensor(np.random.default_rng(0).normal(size=(3, 4)), dtype=np.float64)
        student = np.random.default_rng(1).normal(size=(3, 4))
        assert gradcheck(lambda s: distillation_loss(s, teacher, [0, 3, 1], 2.0, 0.5), (student,), rtol=1e-6)

    def test_softening_does_not_shrink_the_gradient(self):
        sizes = []
        for T in (4.0, 40.0):
            s = Tensor(np.random.default_rng(1).normal(size=(3, 4)), requires_grad=True)
            distillation_loss(s, np.random.default_rng(0).normal(size=(3, 4)), alpha=1, temperature=T).backward()
            sizes.append(np.linalg.norm(s.grad))
        assert 0.8 < sizes[1] / sizes[0] < 1.25

    def test_every_parameter_of_a_pruned_gpt_receives_a_gradient(self):
        gpt = structured_prune(GPT(20, 16, 2, 4, 8, rng=0), 0.5)
        cross_entropy(gpt(randint(0, 20, (4, 8), rng=0)), randint(0, 20, (4, 8), rng=1)).backward()
        for name, p in gpt.named_parameters():
            assert p.grad.shape == p.shape, name
            assert np.abs(p.grad).max() > 1e-7, name

    def test_an_optimizer_moves_what_is_left_and_masks_hold_the_rest(self):
        model = magnitude_prune(reader(), 0.5, scope="layer")
        masks, before = PruningMasks(model), model[1].weight.data.copy()
        optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            cross_entropy(model(randn(32, 1, 8, 8, rng=0)), randint(0, 10, (32,), rng=1)).backward()
            optimizer.step()
            masks.apply()
        assert measure_sparsity(model) == 0.5
        assert (model[1].weight.data[before != 0] != before[before != 0]).mean() > 0.9

    def test_frozen_layers_stay_frozen(self):
        model = reader()
        model[1].requires_grad_(False)
        for small in (structured_prune(model, 0.5), magnitude_prune(model, 0.5)):
            assert [p.requires_grad for p in small.parameters()] == [False, False, True, True]


class TestForwardIntegration:
    """What benchmarking (19) and the application (20) rely on: compressed models are models."""

    @pytest.mark.parametrize(
        "config", [{"magnitude_prune": 0.5}, {"structured_prune": 0.5}, {"low_rank_approximate": 4}]
    )
    def test_a_compressed_model_is_a_module_of_the_same_kind(self, config):
        for model, x in ((reader(), randn(3, 1, 8, 8)), (GPT(20, 16, 1, 4, 8, rng=0), randint(0, 20, (3, 5)))):
            small = compress_model(model, config)
            assert type(small) is type(model)
            assert isinstance(small, Module)
            out = small(x)
            assert (out.shape, out.dtype) == (model(x).shape, np.float32)

    def test_a_pruned_gpt_has_a_cache_of_its_heads(self):
        pruned = structured_prune(GPT(20, 16, 2, 4, 8, rng=0), 0.5)
        shapes = []

        class Cache:
            def __len__(self):
                return 0

            def append(self, k, v):
                shapes.append((k.shape, v.shape))
                return k, v

        pruned([[1, 2, 3]], cache=[Cache(), Cache()])
        assert shapes == [((1, 2, 3, 4), (1, 2, 3, 4))] * 2
        attention = pruned.blocks[0].attention
        assert (attention.num_heads, attention.head_dim) == (2, 4)

    def test_modes_are_kept(self):
        model = Sequential(Linear(4, 8), Dropout(0.5), ReLU(), Linear(8, 2)).eval()
        for config in ({"magnitude_prune": 0.5}, {"structured_prune": 0.5}, {"low_rank_approximate": 1}):
            small = compress_model(model, config)
            assert {layer.training for layer in small.modules() if isinstance(layer, Module)} == {False}


class TestCrossModuleIntegration:
    def test_most_weights_of_a_reader_of_digits_are_not_needed(self, trained):
        pruned = magnitude_prune(trained, 0.6)
        assert accuracy(pruned) > accuracy(trained) - 0.06

    def test_it_learns_on_with_a_fifth_of_its_weights(self, trained):
        pruned = magnitude_prune(trained, 0.8)
        masks = PruningMasks(pruned)
        before = accuracy(pruned)
        learn(pruned, 3, masks)
        assert_close(measure_sparsity(pruned), 0.8, atol=1e-3)
        assert accuracy(pruned) > max(before, 0.92)

    def test_half_its_units_are_enough(self, trained):
        pruned = structured_prune(trained, 0.5)
        learn(pruned, 3)
        assert pruned.num_parameters() < 0.52 * trained.num_parameters()
        assert accuracy(pruned) > 0.92

    def test_a_trainer_trains_what_is_left(self, trained):
        pruned = magnitude_prune(trained, 0.7)
        masks = PruningMasks(pruned)
        optimizer = Adam(pruned.parameters(), lr=1e-3)
        trainer = Trainer(pruned, optimizer, CrossEntropyLoss(), callbacks=[masks], progress=False)
        trainer.fit(DataLoader(digits("train"), batch_size=128, seed=0), epochs=1)
        assert_close(measure_sparsity(pruned), 0.7, atol=1e-3)

    def test_a_student_learns_more_from_a_teacher_than_from_a_hundred_labels(self, trained):
        images, labels = (t.data[:100] for t in digits("train").tensors)
        found = []
        for alpha in (0.0, 0.9):
            student = reader(16, rng=3)
            distillation = KnowledgeDistillation(trained, student, temperature=4.0, alpha=alpha)
            optimizer = Adam(distillation.parameters(), lr=0.01)
            for _ in range(150):
                optimizer.zero_grad()
                distillation(Tensor(images), Tensor(labels)).backward()
                optimizer.step()
            found.append(accuracy(student))
        assert found[1] > found[0] + 0.02

    def test_convolutions_with_their_norms(self):
        model = Sequential(
            Conv2d(1, 8, 3, padding=1, rng=0), BatchNorm2d(8), ReLU(), MaxPool2d(2), Flatten(), Linear(128, 10, rng=1)
        )
        model(randn(16, 1, 8, 8, rng=2))
        pruned = structured_prune(model.eval(), 0.5)
        assert [p.shape for p in pruned.parameters()] == [(4, 1, 3, 3), (4,), (4,), (4,), (64, 10), (10,)]
        assert [a.shape for a in pruned.buffers()] == [(4,), (4,), ()]
        reference = copy.deepcopy(model)
        lost = [i for i in range(8) if model[0].bias.data[i] not in pruned[0].bias.data]
        for i in lost:
            reference[5].weight.data[16 * i : 16 * i + 16] = 0
        x = randn(5, 1, 8, 8, rng=3)
        assert_close(pruned(x), reference(x).data, rtol=1e-4, atol=1e-5)

    def test_a_checkpoint_of_a_pruned_gpt(self, tmp_path):
        gpt, other = (structured_prune(GPT(20, 16, 2, 4, 8, rng=seed), 0.5) for seed in (0, 1))
        save(tmp_path / "gpt.safetensors", gpt)
        load(tmp_path / "gpt.safetensors", other)
        assert other.generate([1, 2], 10, rng=0) == gpt.generate([1, 2], 10, rng=0)


class TestRegressionPrevention:
    def test_biases_are_not_pruned(self):
        model = reader()
        model[1].bias.data[:] = 1e-9
        assert np.count_nonzero(magnitude_prune(model, 0.9)[1].bias.data) == 64

    def test_structured_means_smaller_shapes(self):
        assert structured_prune(reader(), 0.5)[1].weight.shape == (64, 32)

    def test_the_loss_of_distillation_has_a_gradient(self):
        student = reader(8)
        KnowledgeDistillation(reader(), student)(randn(2, 1, 8, 8), Tensor([1, 2])).backward()
        assert all(np.abs(p.grad).max() > 0 for p in student.parameters() if p.ndim == 2)

    def test_the_divergence_is_not_the_other_way_round(self):
        loss = distillation_loss([[0.0, 0.0]], [[30.0, 0.0]], alpha=1, temperature=1.0)
        assert_close(loss.item(), math.log(2))

    def test_nothing_changes_unless_it_is_asked_for(self):
        model = reader()
        before = model.state_dict()
        magnitude_prune(model, 0.9)
        structured_prune(model, 0.9)
        compress_model(model, {"structured_prune": 0.5, "low_rank_approximate": 2, "magnitude_prune": 0.5})
        KnowledgeDistillation(model, reader(8))(randn(2, 1, 8, 8), Tensor([1, 2])).backward()
        after = model.state_dict()
        assert all((after[name] == array).all() for name, array in before.items())
        assert [p.grad for p in model.parameters()] == [None] * 4
