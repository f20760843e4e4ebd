"""All of it together, and to disk and back."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.checkpoint import CheckpointError, load, save
from tinytorch.core.layers import Flatten, Linear, Module, Sequential
from tinytorch.core.spatial import BatchNorm2d, Conv2d, MaxPool2d
from tinytorch.core.tensor import randint, randn
from tinytorch.models.transformer import GPT
from tinytorch.optimization.compression import (
    compress_model,
    low_rank_approximate,
    magnitude_prune,
    measure_sparsity,
    structured_prune,
)


def network(rng=0):
    return Sequential(Linear(16, 32, rng=rng), ReLU(), Linear(32, 24, rng=rng + 1), ReLU(), Linear(24, 4, rng=rng + 2))


def same(a, b):
    assert [name for name, _ in a.named_parameters()] == [name for name, _ in b.named_parameters()]
    for p, q in zip(a.parameters(), b.parameters()):
        assert_close(p, q.data, rtol=0, atol=0)


class TestCompressModel:
    def test_each_function_by_its_name(self):
        model = network()
        same(compress_model(model, {"magnitude_prune": 0.7}), magnitude_prune(model, 0.7))
        same(compress_model(model, {"structured_prune": 0.5}), structured_prune(model, 0.5))

    def test_structure_first_then_rank_then_zeros_whatever_the_order_in_the_config(self):
        model = network()
        config = {"magnitude_prune": 0.5, "low_rank_approximate": 2, "structured_prune": 0.25}
        want = structured_prune(model, 0.25)
        for i in (0, 2, 4):
            want[i] = low_rank_approximate(want[i], 2)
        want = magnitude_prune(want, 0.5)
        same(compress_model(model, config), want)
        same(compress_model(model, dict(reversed(config.items()))), want)
        assert measure_sparsity(want) == 0.5

    def test_the_rank_is_for_layers_that_it_makes_smaller(self):
        out = compress_model(network(), {"low_rank_approximate": 4})
        assert [type(layer).__name__ for layer in out] == ["Sequential", "ReLU", "Sequential", "ReLU", "Linear"]
        assert out.num_parameters() == 4 * 48 + 32 + 4 * 56 + 24 + 24 * 4 + 4

    def test_a_single_layer_is_a_model(self):
        assert [p.shape for p in compress_model(Linear(10, 10), {"low_rank_approximate": 1}).parameters()] == [
            (10, 1),
            (1, 10),
            (10,),
        ]

    def test_layers_in_lists_and_dicts_and_attributes_are_exchanged(self):
        class Odd(Module):
            def __init__(self):
                self.a = Linear(8, 8)
                self.b = [Linear(8, 8), {"c": Linear(8, 8)}]

            def forward(self, x):
                return self.b[1]["c"](self.b[0](self.a(x)))

        out = compress_model(Odd(), {"low_rank_approximate": 2})
        assert [type(layer) for layer in (out.a, out.b[0], out.b[1]["c"])] == [Sequential] * 3
        assert out(randn(3, 8)).shape == (3, 8)

    def test_a_layer_used_twice_is_exchanged_twice(self):
        layer = Linear(8, 8)
        out = compress_model(Sequential(layer, ReLU(), layer), {"low_rank_approximate": 2})
        assert out[0] is out[2]
        assert out(randn(2, 8)).shape == (2, 8)

    def test_a_gpt(self):
        gpt = GPT(20, 16, 2, 4, 12, rng=0)
        out = compress_model(gpt, {"structured_prune": 0.5, "low_rank_approximate": 3, "magnitude_prune": 0.5})
        assert out.num_parameters() < 0.5 * gpt.num_parameters()
        assert measure_sparsity(out) == 0.5
        assert out.generate([1, 2], 20, rng=0) == out.generate([1, 2], 20, rng=0, use_cache=False)
        assert gpt(randint(0, 20, (1, 3))).shape == out(randint(0, 20, (1, 3))).shape == (1, 3, 20)

    def test_the_original_does_not_change(self):
        model = network()
        before = model.state_dict()
        compress_model(model, {"structured_prune": 0.5, "low_rank_approximate": 2, "magnitude_prune": 0.9})
        after = model.state_dict()
        assert before.keys() == after.keys()
        assert all((after[name] == array).all() for name, array in before.items())

    @pytest.mark.parametrize(
        ("config", "error", "message"),
        [
            ({}, ValueError, "the config is empty"),
            ({"prune": 0.5}, ValueError, "does not know 'prune'; it takes structured_prune, low_rank"),
            (0.5, TypeError, "needs a dict"),
            ({"structured_prune": 1}, ValueError, "0 <= structured_prune < 1"),
            ({"structured_prune": 0.5, "magnitude_prune": 1.5}, ValueError, "0 <= magnitude_prune <= 1"),
            ({"magnitude_prune": "0.5"}, TypeError, "needs a number as magnitude_prune"),
            ({"low_rank_approximate": 0}, ValueError, "low_rank_approximate of at least 1"),
            ({"low_rank_approximate": 0.5}, TypeError, "integer low_rank_approximate"),
            ({"low_rank_approximate": 100}, ValueError, "rank 100 makes no Linear of this Sequential smaller"),
        ],
    )
    def test_configs_that_make_no_sense(self, config, error, message):
        with pytest.raises(error, match=message):
            compress_model(network(), config)

    def test_models_that_are_none(self):
        with pytest.raises(ValueError, match="has none"):
            compress_model(Sequential(ReLU()), {"magnitude_prune": 0.5})
        with pytest.raises(TypeError, match="needs a model"):
            compress_model(None, {"magnitude_prune": 0.5})

    def test_a_weight_that_two_layers_share_is_no_matter_for_svd(self):
        model = Sequential(Linear(8, 8), ReLU(), Linear(8, 8))
        model[2].weight = model[0].weight
        with pytest.raises(ValueError, match="used in two places"):
            compress_model(model, {"low_rank_approximate": 2})

    def test_a_layer_in_a_tuple_cannot_be_exchanged(self):
        class Fixed(Module):
            def __init__(self):
                self.layers = (Linear(8, 8),)

        with pytest.raises(TypeError, match="keep layers in a list"):
            compress_model(Fixed(), {"low_rank_approximate": 2})


def images(rng):
    return Sequential(
        Conv2d(1, 8, 3, rng=rng),
        BatchNorm2d(8),
        ReLU(),
        MaxPool2d(2),
        Flatten(),
        Linear(72, 32, rng=rng + 1),
        ReLU(),
        Linear(32, 10, rng=rng + 2),
    )


CONFIGS = [
    {"magnitude_prune": 0.8},
    {"structured_prune": 0.5},
    {"low_rank_approximate": 2},
    {"structured_prune": 0.25, "low_rank_approximate": 2, "magnitude_prune": 0.5},
]
MODELS = {
    "images": (images, lambda: randn(4, 1, 8, 8, rng=5)),
    "gpt": (lambda rng: GPT(20, 16, 2, 4, 12, rng=rng), lambda: randint(0, 20, (2, 6), rng=5)),
}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: "+".join(name.split("_")[0] for name in config))
@pytest.mark.parametrize("kind", MODELS)
class TestToDiskAndBack:
    def test_into_another_model_compressed_by_the_same_config(self, kind, config, tmp_path):
        make, data = MODELS[kind]
        model, other = compress_model(make(0), config).eval(), compress_model(make(7), config).eval()
        save(tmp_path / "small.safetensors", model)
        load(tmp_path / "small.safetensors", other)
        assert_close(other(data()), model(data()).data, rtol=0, atol=0)
        assert measure_sparsity(other) == measure_sparsity(model)

    def test_the_file_is_smaller_only_where_the_arrays_are(self, kind, config, tmp_path):
        model = MODELS[kind][0](0)
        save(tmp_path / "large", model)
        save(tmp_path / "small", compress_model(model, config))
        large, small = ((tmp_path / name).stat().st_size for name in ("large", "small"))
        assert (small < large) is (config != {"magnitude_prune": 0.8})


def test_a_smaller_model_is_not_mistaken_for_the_large_one(tmp_path):
    save(tmp_path / "small", structured_prune(network(), 0.5))
    with pytest.raises(CheckpointError, match=r"0\.weight is \(16, 32\) float32 here and \(16, 16\)"):
        load(tmp_path / "small", network())


def test_arrays_are_contiguous():
    out = structured_prune(images(0), 0.5)
    assert all(p.data.flags["C_CONTIGUOUS"] for p in out.parameters())
    assert {p.dtype for p in out.parameters()} == {np.dtype(np.float32)}
