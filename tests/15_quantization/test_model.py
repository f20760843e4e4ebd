"""Whole models: what is replaced, what is held, what is saved."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.attention import MultiHeadAttention
from tinytorch.core.checkpoint import load, save
from tinytorch.core.layers import Dropout, Linear, Module, Sequential, linear
from tinytorch.core.spatial import BatchNorm1d
from tinytorch.core.tensor import Tensor, randn
from tinytorch.models.transformer import GPT
from tinytorch.optimization.quantization import QuantizedEmbedding, QuantizedLinear, model_size, quantize_model
from tinytorch.text.embeddings import Embedding, EmbeddingLayer


def kinds(model):
    return [type(layer).__name__ for layer in model.modules() if isinstance(layer, (QuantizedLinear, Linear))]


class Nested(Module):
    """Linear layers wherever a layer may be."""

    def __init__(self):
        self.direct = Linear(3, 3, rng=0)
        self.listed = [Linear(3, 3, rng=1), [Linear(3, 3, rng=2)]]
        self.named = {"a": Linear(3, 3, rng=3), "b": {"c": Linear(3, 3, rng=4)}}
        self.pair = (Linear(3, 3, rng=5), ReLU())
        self._hidden = Linear(3, 3, rng=6)
        self.inside = Sequential(Linear(3, 3, rng=7))

    def forward(self, x):
        x = self.pair[0](self.named["b"]["c"](self.named["a"](self.listed[1][0](self.listed[0](self.direct(x))))))
        return self.inside(self._hidden(x))


class Plain:
    """Not a Module: anything with parameters() is a layer."""

    def __init__(self):
        self.fc = Linear(3, 2, rng=0)

    def parameters(self):
        return self.fc.parameters()

    def __call__(self, x):
        return self.fc(x)


class TestWhatIsReplaced:
    def test_linear_layers_in_attributes_lists_tuples_and_dicts(self):
        model = Nested()
        quantized = quantize_model(model)
        assert kinds(quantized) == ["QuantizedLinear"] * 8
        x = randn(5, 3)
        assert_close(quantized(x), model(x), atol=0.03)

    def test_the_projections_of_attention(self):
        quantized = quantize_model(MultiHeadAttention(8, 2))
        assert kinds(quantized) == ["QuantizedLinear"] * 2
        assert quantized(randn(2, 5, 8), causal=True).shape == (2, 5, 8)

    @pytest.mark.parametrize("places", ["learned", "sinusoidal", None])
    def test_tables_of_tokens_and_places(self, places):
        layer = EmbeddingLayer(10, 16, max_seq_len=7, pos_encoding=places, scale_embeddings=True)
        quantized = quantize_model(layer)
        tables = [part for part in quantized.modules() if isinstance(part, QuantizedEmbedding)]
        assert [table.shape for table in tables] == [(10, 16), (7, 16)][: 1 if places is None else 2]
        assert_close(quantized([[1, 2, 3]], offset=2), layer([[1, 2, 3]], offset=2), atol=0.02)

    def test_the_longest_text_stays_as_it_was(self):
        quantized = quantize_model(EmbeddingLayer(10, 4, max_seq_len=3))
        with pytest.raises(ValueError, match="exceeds maximum length 3"):
            quantized([0, 1, 2, 3])

    def test_a_model_that_is_one_layer(self):
        assert isinstance(quantize_model(Linear(3, 2)), QuantizedLinear)
        assert isinstance(quantize_model(Embedding(3, 2)), QuantizedEmbedding)

    def test_a_plain_class_with_parameters(self):
        model = Plain()
        quantized = quantize_model(model, randn(10, 3))
        assert isinstance(quantized.fc, QuantizedLinear)
        assert quantized.parameters() == []
        assert len(model.parameters()) == 2

    def test_a_layer_used_twice_stays_one_layer(self):
        shared = Linear(3, 3, rng=0)
        quantized = quantize_model(Sequential(shared, ReLU(), shared))
        assert quantized[0] is quantized[2]

    def test_a_weight_shared_by_two_layers_stays_one_array(self):
        model = Sequential(Linear(3, 3, rng=0), Linear(3, 3, rng=1))
        model[1].weight = model[0].weight
        quantized = quantize_model(model)
        assert quantized[0].q is quantized[1].q
        assert quantized[0].bias is not quantized[1].bias
        assert model_size(quantized) == 9 + 12 + 2 * 12

    def test_a_subclass_with_a_forward_of_its_own_is_left_alone(self):
        class Twice(Linear):
            def forward(self, x):
                return 2 * super().forward(x)

        model = Sequential(Twice(3, 3, rng=0), Linear(3, 3, rng=1))
        quantized = quantize_model(model)
        assert [type(layer) for layer in quantized] == [Twice, QuantizedLinear]
        x = randn(2, 3)
        assert_close(quantized(x), model(x), atol=0.02)

    def test_code_that_reads_the_weight_of_a_layer_still_runs(self):
        class Tied(Module):
            def __init__(self):
                self.down = Linear(6, 3, bias=False, rng=0)

            def forward(self, x):
                return linear(self.down(x), self.down.weight.T)

        model, x = Tied(), randn(2, 6)
        assert_close(quantize_model(model)(x), model(x), atol=0.02)

    def test_everything_else_is_a_copy(self):
        model = Sequential(Linear(3, 3), BatchNorm1d(3))
        quantized = quantize_model(model)
        assert quantized[1] is not model[1]
        for mine, theirs in zip(quantized[1].parameters(), model[1].parameters()):
            assert_close(mine, theirs.numpy(), rtol=0, atol=0)
            assert not np.shares_memory(mine.data, theirs.data)

    @pytest.mark.parametrize("model", [Sequential(ReLU()), BatchNorm1d(3)])
    def test_nothing_to_quantize_is_an_error(self, model):
        with pytest.raises(ValueError, match="found no Linear and no Embedding"):
            quantize_model(model)

    def test_a_quantized_model_cannot_be_quantized_again(self):
        with pytest.raises(ValueError, match="found no Linear"):
            quantize_model(quantize_model(Linear(3, 2)))

    @pytest.mark.parametrize("bits", [4, 2, 16])
    def test_only_eight_bits(self, bits):
        with pytest.raises(ValueError, match="quantize_model stores 8 bits per number"):
            quantize_model(Linear(3, 2), bits=bits)

    def test_a_percentile_without_data_is_an_error(self):
        with pytest.raises(ValueError, match="need calibration_data"):
            quantize_model(Linear(3, 2), percentile=99.0)


class TestTheOriginal:
    @pytest.mark.parametrize("calibrated", [False, True])
    def test_it_stays_as_it_was(self, calibrated):
        model = Sequential(Linear(4, 8), ReLU(), Dropout(0.3), Linear(8, 2))
        model(randn(3, 4)).sum().backward()
        layers, before = model.layers, model.state_dict()
        arrays, grads = [p.data for p in model.parameters()], [p.grad.copy() for p in model.parameters()]
        quantize_model(model, randn(6, 4) if calibrated else None)
        assert model.layers == layers
        assert all(p.data is array and p.requires_grad for p, array in zip(model.parameters(), arrays))
        assert all(np.array_equal(p.grad, grad) for p, grad in zip(model.parameters(), grads))
        assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())
        assert all(layer.training for layer in model.modules() if isinstance(layer, Module))

    def test_the_new_model_shares_no_memory_with_it(self):
        model = GPT(11, 8, 1, 2, max_seq_len=6)
        quantized = quantize_model(model)
        theirs = [p.data for p in model.parameters()]
        mine = [p.data for p in quantized.parameters()] + quantized.buffers()
        assert not any(np.shares_memory(a, b) for a in mine for b in theirs)

    def test_training_it_on_does_not_reach_the_new_model(self):
        model, x = Sequential(Linear(4, 2)), randn(3, 4)
        quantized = quantize_model(model)
        before = quantized(x).numpy().copy()
        for p in model.parameters():
            p.data += 1
        assert_close(quantized(x), before, rtol=0, atol=0)


class TestForInference:
    def test_the_new_model_is_in_eval_mode(self):
        quantized = quantize_model(Sequential(Linear(4, 8), Dropout(0.9)))
        assert [layer.training for layer in quantized.modules()] == [False] * 3
        x = randn(3, 4)
        assert_close(quantized(x), quantized(x), rtol=0, atol=0)

    def test_its_parameters_are_frozen(self):
        quantized = quantize_model(GPT(11, 8, 1, 2, max_seq_len=6), np.array([[1, 2, 3]]))
        assert {p.requires_grad for p in quantized.parameters()} == {False}
        assert quantized([[1, 2, 3]]).requires_grad is False

    def test_gradients_pass_through_to_what_comes_before(self):
        quantized = quantize_model(Sequential(Linear(4, 8), ReLU(), Linear(8, 1)))
        x = Tensor(np.ones((2, 4)), requires_grad=True)
        quantized(x).sum().backward()
        assert np.abs(x.grad).min() > 0


class TestSizes:
    def test_floats_are_four_bytes_each(self):
        assert model_size(Linear(10, 5)) == 4 * (50 + 5)

    def test_bytes_are_one_byte_each(self):
        assert model_size(quantize_model(Linear(10, 5))) == 50 + 4 * (5 + 5)
        assert model_size(quantize_model(Embedding(10, 5))) == 50 + 4 * 10

    def test_of_a_gpt_it_is_what_numpy_says_its_arrays_hold(self):
        quantized = quantize_model(GPT(20, 16, 2, 2, max_seq_len=9))
        held = [p.data.nbytes for p in quantized.parameters()] + [array.nbytes for array in quantized.buffers()]
        assert model_size(quantized) == sum(held)

    def test_buffers_private_arrays_and_frozen_parameters_count(self):
        layer = BatchNorm1d(4).requires_grad_(False)
        layer._cache = [np.zeros(10)]
        assert model_size(layer) == 80 + sum(p.data.nbytes for p in layer.parameters()) + sum(
            array.nbytes for array in layer.buffers()
        )

    def test_a_shared_array_counts_once_and_a_view_as_what_it_keeps_alive(self):
        layer = Linear(4, 4, bias=False)
        layer.again = layer.weight
        layer.row = layer.weight.data[0]
        assert model_size(layer) == 64

    def test_gradients_do_not_count(self):
        layer = Linear(3, 2)
        layer(randn(1, 3)).sum().backward()
        assert model_size(layer) == 32

    @pytest.mark.parametrize("width", [128, 256])
    def test_a_wide_model_is_close_to_a_quarter(self, width):
        model = Sequential(Linear(width, width), ReLU(), Linear(width, width))
        assert model_size(quantize_model(model)) / model_size(model) < 0.265

    def test_no_layer_keeps_the_floats(self):
        quantized = quantize_model(GPT(20, 16, 1, 2, max_seq_len=9), np.array([[1, 2, 3]]))
        big = [array for array in quantized.buffers() if array.size > 64]
        assert {array.dtype for array in big} == {np.dtype(np.int8)}
        assert max(p.size for p in quantized.parameters()) <= 16


class TestState:
    @pytest.fixture(params=[False, True], ids=["weights", "calibrated"])
    def models(self, request):
        data = randn(10, 4) if request.param else None
        return [quantize_model(Sequential(Linear(4, 8, rng=i), ReLU(), Linear(8, 2, rng=i)), data) for i in range(2)]

    def test_a_state_dict_holds_the_bytes(self, models):
        state = models[0].state_dict()
        assert state["0.q"].dtype == np.int8
        assert {"0.q", "0.scale", "0.bias", "2.q", "2.scale", "2.bias"} <= set(state)

    def test_loaded_it_computes_the_same(self, models):
        x = randn(5, 4)
        models[1].load_state_dict(models[0].state_dict())
        assert_close(models[1](x), models[0](x), rtol=0, atol=0)

    def test_through_a_file(self, models, tmp_path):
        x = randn(5, 4)
        save(tmp_path / "model.safetensors", models[0])
        load(tmp_path / "model.safetensors", models[1])
        assert_close(models[1](x), models[0](x), rtol=0, atol=0)

    def test_a_file_of_bytes_is_a_quarter_as_long(self, tmp_path):
        model = Sequential(Linear(256, 256))
        save(tmp_path / "float", model)
        save(tmp_path / "int8", quantize_model(model))
        assert (tmp_path / "int8").stat().st_size < 0.3 * (tmp_path / "float").stat().st_size

    def test_floats_cannot_be_loaded_into_bytes(self):
        model = Linear(3, 2)
        with pytest.raises(ValueError, match=r"missing: q \(3, 2\)"):
            quantize_model(model).load_state_dict(model.state_dict())

    def test_a_gpt_loads_too(self):
        tokens = np.array([[1, 2, 3]])
        first, second = (quantize_model(GPT(9, 8, 1, 2, max_seq_len=5, rng=i), tokens) for i in range(2))
        second.load_state_dict(first.state_dict())
        assert_close(second(tokens), first(tokens), rtol=0, atol=0)
