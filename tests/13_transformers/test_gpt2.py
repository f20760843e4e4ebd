"""GPT.from_gpt2: a checkpoint in the layout that GPT-2 was published in, and every way it can be wrong."""

import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from support.checks import assert_close
from tinytorch.core.tensor import generator
from tinytorch.models.transformer import GPT

V, T, E, LAYERS, HEADS = 30, 10, 16, 2, 4
TOKENS = np.random.default_rng(1).integers(0, V, (3, 7))


def checkpoint(seed=0, V=V, T=T, E=E, layers=LAYERS, dtype=np.float32):
    """Random tensors with the names and shapes of GPT-2's, matrices as (in, out)."""
    rng = np.random.default_rng(seed)
    shapes = {"wte.weight": (V, E), "wpe.weight": (T, E), "ln_f.weight": (E,), "ln_f.bias": (E,)}
    for i in range(layers):
        for name, shape in {
            "ln_1": (E,),
            "attn.c_attn": (E, 3 * E),
            "attn.c_proj": (E, E),
            "ln_2": (E,),
            "mlp.c_fc": (E, 4 * E),
            "mlp.c_proj": (4 * E, E),
        }.items():
            shapes[f"h.{i}.{name}.weight"], shapes[f"h.{i}.{name}.bias"] = shape, shape[-1:]
    return {name: rng.normal(scale=0.3, size=shape).astype(dtype) for name, shape in shapes.items()}


def write(folder, tensors):
    path = folder / "model.safetensors"
    save_file(tensors, path)
    return path


def layer_norm(x, w, b):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * w + b


def gpt2(p, tokens, heads):
    """GPT-2's forward pass in NumPy and float64, from the names in its checkpoint."""
    p = {name: array.astype(np.float64) for name, array in p.items()}
    T = tokens.shape[1]
    x = p["wte.weight"][tokens] + p["wpe.weight"][:T]
    N, _, E = x.shape
    for i in range(sum(name.endswith("ln_1.weight") for name in p)):

        def linear(x, name, i=i):
            return x @ p[f"h.{i}.{name}.weight"] + p[f"h.{i}.{name}.bias"]

        h = layer_norm(x, p[f"h.{i}.ln_1.weight"], p[f"h.{i}.ln_1.bias"])
        q, k, v = (
            part.reshape(N, T, heads, E // heads).transpose(0, 2, 1, 3)
            for part in np.split(linear(h, "attn.c_attn"), 3, axis=-1)
        )
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(E // heads)
        scores = np.where(np.tri(T, dtype=bool), scores, -np.inf)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        x = x + linear((shares @ v).transpose(0, 2, 1, 3).reshape(N, T, E), "attn.c_proj")
        h = linear(layer_norm(x, p[f"h.{i}.ln_2.weight"], p[f"h.{i}.ln_2.bias"]), "mlp.c_fc")
        h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
        x = x + linear(h, "mlp.c_proj")
    return layer_norm(x, p["ln_f.weight"], p["ln_f.bias"]) @ p["wte.weight"].T


class TestReading:
    @pytest.mark.parametrize("heads", [1, 2, 4])
    def test_the_logits_are_gpt2s(self, tmp_path, heads):
        tensors = checkpoint()
        gpt = GPT.from_gpt2(write(tmp_path, tensors), num_heads=heads)
        assert_close(gpt(TOKENS), gpt2(tensors, TOKENS, heads).astype(np.float32), rtol=1e-3, atol=1e-4)

    def test_sizes_are_read_off_the_tensors(self, tmp_path):
        gpt = GPT.from_gpt2(write(tmp_path, checkpoint(V=11, T=6, E=8, layers=3)), num_heads=2)
        assert (gpt.vocab_size, gpt.max_seq_len, gpt.embed_dim, gpt.num_layers, gpt.num_heads) == (11, 6, 8, 3, 2)

    def test_heads_are_64_wide_unless_said_otherwise(self, tmp_path):
        assert GPT.from_gpt2(write(tmp_path, checkpoint(V=5, T=4, E=128, layers=1))).num_heads == 2

    def test_more_than_ten_layers_stay_in_order(self, tmp_path):
        tensors = checkpoint(layers=12)
        gpt = GPT.from_gpt2(write(tmp_path, tensors), num_heads=HEADS)
        for i, block in enumerate(gpt.blocks):
            assert_close(block.mlp.fc1.weight, tensors[f"h.{i}.mlp.c_fc.weight"], rtol=0, atol=0)

    def test_names_may_begin_with_transformer(self, tmp_path):
        tensors = checkpoint()
        plain = GPT.from_gpt2(write(tmp_path, tensors), num_heads=HEADS)
        prefixed = {f"transformer.{name}": array for name, array in tensors.items()}
        gpt = GPT.from_gpt2(write(tmp_path, prefixed), num_heads=HEADS)
        assert_close(gpt(TOKENS), plain(TOKENS).data, rtol=0, atol=0)

    def test_masks_in_the_file_are_ignored(self, tmp_path):
        tensors = checkpoint()
        for i in range(LAYERS):
            tensors[f"h.{i}.attn.bias"] = np.tri(T, dtype=np.float32)[None, None]
            tensors[f"h.{i}.attn.masked_bias"] = np.array(-1e4, np.float32)
        gpt = GPT.from_gpt2(write(tmp_path, tensors), num_heads=HEADS)
        assert_close(gpt(TOKENS), gpt2(checkpoint(), TOKENS, HEADS).astype(np.float32), rtol=1e-3, atol=1e-4)

    def test_a_head_that_is_the_token_table_is_nothing_new(self, tmp_path):
        tensors = checkpoint()
        tensors = {f"transformer.{name}": array for name, array in tensors.items()} | {
            "lm_head.weight": tensors["wte.weight"]
        }
        assert GPT.from_gpt2(write(tmp_path, tensors), num_heads=HEADS).num_layers == LAYERS

    @pytest.mark.parametrize("dtype", [np.float16, np.float64])
    def test_other_floats_become_float32(self, tmp_path, dtype):
        tensors = checkpoint(dtype=dtype)
        gpt = GPT.from_gpt2(write(tmp_path, tensors), num_heads=HEADS)
        assert {p.dtype for p in gpt.parameters()} == {np.dtype(np.float32)}
        assert_close(gpt.embedding.token_embedding.weight, tensors["wte.weight"].astype(np.float32), rtol=0, atol=0)

    def test_the_model_can_be_trained_and_generates(self, tmp_path):
        gpt = GPT.from_gpt2(write(tmp_path, checkpoint()), num_heads=HEADS)
        gpt(TOKENS).sum().backward()
        assert all(np.abs(p.grad).max() > 0 for p in gpt.parameters())
        assert len(gpt.generate([1, 2], 5, rng=0)) == 7

    def test_no_random_number_of_the_library_is_used(self, tmp_path):
        before = generator().bit_generator.state
        GPT.from_gpt2(write(tmp_path, checkpoint()), num_heads=HEADS)
        assert generator().bit_generator.state == before

    def test_a_path_as_text(self, tmp_path):
        assert GPT.from_gpt2(str(write(tmp_path, checkpoint())), num_heads=HEADS).vocab_size == V


class TestErrors:
    @pytest.fixture(autouse=True)
    def nothing_is_built(self, monkeypatch):
        def refuse(*args, **options):
            raise AssertionError("a model was built")

        monkeypatch.setattr(GPT, "__init__", refuse)

    def refused(self, folder, tensors, *messages, **options):
        with pytest.raises(ValueError, match="is no checkpoint of GPT-2") as caught:
            GPT.from_gpt2(write(folder, tensors), **{"num_heads": HEADS} | options)
        lines = [line.strip() for line in str(caught.value).splitlines()[1:]]
        assert lines == list(messages)

    def test_every_missing_tensor_is_named(self, tmp_path):
        tensors = checkpoint()
        del tensors["h.1.attn.c_proj.bias"], tensors["ln_f.weight"]
        self.refused(tmp_path, tensors, "missing: ln_f.weight", "missing: h.1.attn.c_proj.bias")

    def test_a_layer_left_out(self, tmp_path):
        tensors = {name: array for name, array in checkpoint(layers=3).items() if not name.startswith("h.1.")}
        parts = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]
        self.refused(
            tmp_path, tensors, *(f"missing: h.1.{part}.{kind}" for part in parts for kind in ("weight", "bias"))
        )

    def test_every_tensor_that_does_not_fit_is_named_with_both_shapes(self, tmp_path):
        tensors = checkpoint()
        tensors["h.0.mlp.c_fc.weight"] = np.ascontiguousarray(tensors["h.0.mlp.c_fc.weight"].T)  # as Linear in PyTorch
        tensors["wpe.weight"] = tensors["wpe.weight"][:, :-1].copy()
        self.refused(
            tmp_path,
            tensors,
            f"shape: wpe.weight is {(T, E - 1)} and should be {(T, E)}",
            f"shape: h.0.mlp.c_fc.weight is {(4 * E, E)} and should be {(E, 4 * E)}",
        )

    def test_without_the_token_table_the_rest_cannot_be_judged(self, tmp_path):
        tensors = checkpoint()
        del tensors["wte.weight"]
        self.refused(tmp_path, tensors, "missing: wte.weight")

    def test_a_token_table_with_one_axis(self, tmp_path):
        tensors = checkpoint()
        tensors["wte.weight"] = tensors["wte.weight"][0]
        self.refused(tmp_path, tensors, f"shape: wte.weight is {(E,)} and should be (vocab_size, embed_dim)")

    def test_unknown_tensors_are_named(self, tmp_path):
        tensors = checkpoint() | {"h.0.attn.lora.weight": np.zeros(3, np.float32)}
        self.refused(tmp_path, tensors, "unknown: h.0.attn.lora.weight")

    def test_integers_are_no_weights(self, tmp_path):
        tensors = checkpoint()
        tensors["h.0.ln_1.bias"] = np.zeros(E, np.int8)
        self.refused(tmp_path, tensors, "dtype: h.0.ln_1.bias is I8 and should be F16, F32 or F64")

    def test_a_width_that_64_does_not_divide(self, tmp_path):
        self.refused(
            tmp_path, checkpoint(), f"embed_dim {E} cannot be cut into heads of 64; say num_heads", num_heads=None
        )

    def test_a_head_of_its_own(self, tmp_path):
        tensors = checkpoint() | {"lm_head.weight": np.zeros((V, E), np.float32)}
        with pytest.raises(ValueError, match="has an lm_head.weight of its own"):
            GPT.from_gpt2(write(tmp_path, tensors), num_heads=HEADS)

    def test_a_file_of_something_else(self, tmp_path):
        with pytest.raises(ValueError, match="missing: wte.weight"):
            GPT.from_gpt2(write(tmp_path, {"weight": np.zeros(3, np.float32)}))

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="from_gpt2: there is no file"):
            GPT.from_gpt2(tmp_path / "model.safetensors")
        with pytest.raises(FileNotFoundError, match="from_gpt2: there is no file"):
            GPT.from_gpt2(tmp_path)

    @pytest.mark.parametrize("cut", [0, 5, 100, -1])
    def test_a_file_cut_short(self, tmp_path, cut):
        path = write(tmp_path, checkpoint())
        path.write_bytes(path.read_bytes()[:cut])
        with pytest.raises(ValueError, match=re.escape(f"{path} is no safetensors file, or is cut short")):
            GPT.from_gpt2(path)
