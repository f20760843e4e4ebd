"""Module 15 with what came before it: trained models in a quarter of the bytes."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import Function
from tinytorch.core.checkpoint import load, save
from tinytorch.core.layers import Linear, Module, Sequential
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import SGD
from tinytorch.core.tensor import Tensor, randn
from tinytorch.models.transformer import GPT
from tinytorch.optimization.quantization import (
    Observer,
    QuantizedEmbedding,
    QuantizedLinear,
    dequantize_int8,
    int8_matmul,
    model_size,
    quantize_int8,
    quantize_model,
)


class TestPriorStackStillWorking:
    def test_the_network_reads_digits(self, reader):
        assert reader.accuracy(reader.model) > 0.92
        assert isinstance(quantize_model(reader.model), Sequential)

    def test_the_gpt_has_learnt_its_text(self, writer):
        knows_nothing = GPT(writer.tokenizer.vocab_size, 96, 1, 4, max_seq_len=24)
        assert writer.perplexity(writer.model) < 0.6 * writer.perplexity(knows_nothing)
        assert isinstance(quantize_model(knows_nothing), GPT)


class TestModule15QuantizationCore:
    def test_five_numbers(self):
        x = [-1.0, 0.0, 0.5, 2.0, 4.1]
        q, scale, zero_point = quantize_int8(Tensor(x))
        assert (q.dtype, q.tolist(), zero_point) == (np.int8, [-128, -78, -53, 22, 127], -78)
        assert_close(dequantize_int8(q, scale, zero_point), np.array(x, np.float32), atol=1e-6)

    @pytest.mark.parametrize("values", [[5, 6], [5, 5], [-2, -1], [0, 0]])
    def test_ranges_contain_zero(self, values):
        q, scale, zero_point = quantize_int8(Tensor(values))
        assert np.abs(dequantize_int8(q, scale, zero_point).numpy() - values).max() <= 0.5001 * scale

    def test_whole_numbers_are_added_up_exactly(self):
        a, b = (np.random.default_rng(i).integers(-128, 128, (64, 64)).astype(np.int8) for i in range(2))
        assert np.array_equal(int8_matmul(a, b), a.astype(np.int32) @ b.astype(np.int32))

    def test_a_linear_layer_in_bytes(self):
        linear, x = Linear(32, 16), randn(4, 32)
        layer = QuantizedLinear.from_linear(linear)
        assert layer.q.nbytes == linear.weight.data.nbytes // 4
        assert_close(layer(x), linear(x), atol=0.02)

    def test_calibration_finds_the_range(self):
        observer = Observer()
        observer.see(Tensor([-1.0, 3.0]))
        assert observer.range() == (-1.0, 3.0)

    @pytest.mark.parametrize("calibrated", [False, True])
    def test_digits_are_read_as_well_as_before(self, reader, calibrated):
        quantized = quantize_model(reader.model, reader.loader if calibrated else None)
        assert reader.accuracy(quantized) > reader.accuracy(reader.model) - 0.005
        assert model_size(quantized) <= 0.27 * model_size(reader.model)

    @pytest.mark.parametrize("calibrated", [False, True])
    def test_the_gpt_is_hardly_more_surprised_than_before(self, writer, calibrated):
        quantized = quantize_model(writer.model, writer.tokens if calibrated else None)
        assert writer.perplexity(quantized) < 1.02 * writer.perplexity(writer.model)
        assert model_size(quantized) <= 0.27 * model_size(writer.model)


class TestBackwardIntegration:
    def test_an_adapter_before_a_quantized_layer_learns(self):
        adapter, frozen = Linear(4, 4, rng=0), QuantizedLinear(randn(4, 2))
        optimizer = SGD(adapter.parameters(), lr=0.5)
        x, labels = randn(20, 4), Tensor(np.arange(20) % 2)
        losses = []
        for _ in range(30):
            loss = cross_entropy(frozen(adapter(x)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]

    def test_the_gradient_is_that_of_the_rounded_weight(self):
        layer = QuantizedLinear(randn(5, 3))
        x = Tensor(np.ones((2, 5)), requires_grad=True)
        layer(x).sum().backward()
        assert_close(x.grad, np.stack([layer.weight.numpy().sum(axis=1)] * 2))

    def test_every_rule_of_this_lesson_is_known(self):
        mine = {op for op, rule in Function.rules.items() if rule.__module__ == "tinytorch.optimization.quantization"}
        assert mine == {"quantized_linear"}


class TestForwardIntegration:
    def test_a_quantized_layer_stands_where_a_linear_layer_stood(self):
        model = Sequential(QuantizedLinear(randn(4, 8)), ReLU(), QuantizedLinear(randn(8, 2), input_range=(0, 5)))
        out = model(randn(2, 3, 4))
        assert (out.shape, out.dtype) == ((2, 3, 2), np.float32)

    def test_a_table_stands_where_an_embedding_stood(self):
        out = QuantizedEmbedding(randn(9, 4))(np.array([[1, 2, 3]]))
        assert (out.shape, out.dtype) == ((1, 3, 4), np.float32)

    def test_a_quantized_gpt_goes_on_writing(self, writer):
        prompt = writer.tokenizer.encode("The first boat")
        quantized = quantize_model(writer.model, writer.tokens)
        cached = quantized.generate(prompt, 15, temperature=0)
        assert len(cached) == len(prompt) + 15
        assert cached == quantized.generate(prompt, 15, temperature=0, use_cache=False)

    def test_the_most_likely_next_letters_are_the_same(self, writer):
        quantized = quantize_model(writer.model)
        same = quantized(writer.tokens).argmax(axis=-1).numpy() == writer.model(writer.tokens).argmax(axis=-1).numpy()
        assert same.mean() > 0.95


class TestCrossModuleIntegration:
    def test_a_file_brings_the_quantized_gpt_back(self, writer, tmp_path):
        first = quantize_model(writer.model, writer.tokens)
        save(tmp_path / "gpt", first)
        second = quantize_model(GPT(writer.tokenizer.vocab_size, 96, 1, 4, max_seq_len=24), writer.tokens)
        load(tmp_path / "gpt", second)
        assert_close(second(writer.tokens), first(writer.tokens), rtol=0, atol=0)

    def test_a_loader_calibrates(self, reader):
        quantized = quantize_model(reader.model, reader.loader, percentile=99.9)
        assert [bool(layer.input_scale) for layer in quantized if isinstance(layer, QuantizedLinear)] == [True] * 3

    def test_a_models_own_class_stays(self):
        class Two(Module):
            def __init__(self):
                self.layers = [Linear(3, 3), Linear(3, 1)]
                self.note = "mine"

            def forward(self, x):
                for layer in self.layers:
                    x = layer(x)
                return x

        quantized = quantize_model(Two())
        assert (type(quantized), quantized.note) == (Two, "mine")
        assert quantized(randn(2, 3)).shape == (2, 1)


class TestRegressionPrevention:
    def test_bytes_are_bytes_and_not_floats_with_round_numbers(self):
        assert quantize_int8(randn(10, 10))[0].nbytes == 100

    def test_the_original_is_not_kept_beside(self):
        model = Sequential(Linear(64, 64))
        quantized = quantize_model(model)
        assert not any(isinstance(thing, (Linear, Tensor)) for thing in vars(quantized[0]).values())
        assert model_size(quantized) < 0.3 * model_size(model)

    def test_calibration_has_an_effect(self):
        model, x = Sequential(Linear(4, 2, rng=0)), randn(10, 4)
        narrow, wide = (quantize_model(model, scale * x) for scale in (0.01, 1.0))
        error = [np.abs(quantized(x).numpy() - model(x).numpy()).max() for quantized in (narrow, wide)]
        assert error[1] < 0.1 < error[0]

    def test_calibrating_on_nothing_is_an_error(self):
        with pytest.raises(ValueError, match="no data reached layer"):
            quantize_model(Sequential(Linear(4, 2)), [])

    def test_negative_inputs_survive(self):
        model = Sequential(Linear(3, 2, rng=0))
        x = Tensor([[-3.0, -2.0, -1.0]])
        assert_close(quantize_model(model, x)(x), model(x), atol=0.05)

    def test_the_original_never_changes(self, reader):
        before = reader.model.state_dict()
        quantize_model(reader.model, reader.loader)
        assert all(np.array_equal(array, before[name]) for name, array in reader.model.state_dict().items())
        assert all(type(layer) is not QuantizedLinear for layer in reader.model)
