"""Module 13 with what came before it and what comes next.

Tokens become vectors with places (11), pass through blocks of attention (12) and linear layers (03) that add to a
stream, and come out as logits whose loss (04) reaches every parameter (05); a trained model writes text (10).
"""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import gelu
from tinytorch.core.attention import MultiHeadAttention
from tinytorch.core.autograd import checkpoint, gradcheck, no_grad
from tinytorch.core.checkpoint import load, save
from tinytorch.core.layers import Linear, Module
from tinytorch.core.losses import CrossEntropyLoss, cross_entropy
from tinytorch.core.optimizers import AdamW
from tinytorch.core.tensor import Tensor, cat, manual_seed, randint, randn
from tinytorch.core.training import Trainer, clip_grad_norm
from tinytorch.data.loader import DataLoader, TensorDataset
from tinytorch.models.transformer import (
    GPT,
    MLP,
    LayerNorm,
    LayerNormBackward,
    RMSNorm,
    RMSNormBackward,
    TransformerBlock,
    layer_norm,
    rms_norm,
)
from tinytorch.text.embeddings import EmbeddingLayer
from tinytorch.text.tokenization import CharTokenizer

TEXT = "the cat sat on the mat and the dog sat on the cat"


def small(**options):
    return GPT(
        **{"vocab_size": 20, "embed_dim": 16, "num_layers": 2, "num_heads": 4, "max_seq_len": 12, "rng": 0} | options
    )


def separate_norm(x, weight, bias, eps=1e-5):
    """Layer norm in operations of module 01."""
    return (x - x.mean(-1, keepdims=True)) / (x.var(-1, keepdims=True) + eps).sqrt() * weight + bias


def overfit(text, steps):
    """A tiny GPT that has read one text `steps` times."""
    tokenizer = CharTokenizer()
    tokenizer.build_vocab([text])
    ids = np.array([tokenizer.encode(text)])
    gpt = GPT(tokenizer.vocab_size, 32, 2, 4, ids.shape[1], rng=0)
    optimizer = AdamW(gpt.parameters(), lr=5e-3)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = cross_entropy(gpt(ids[:, :-1]), ids[:, 1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return tokenizer, gpt, losses


class TestPriorStackStillWorking:
    def test_gelu_of_the_tanh_form(self):
        assert_close(gelu(Tensor([1.0, -1.0])), np.array([0.841192, -0.158808], np.float32))

    def test_a_linear_layer_maps_the_last_axis(self):
        assert Linear(4, 12)(randn(2, 5, 4)).shape == (2, 5, 12)

    def test_the_loss_of_equal_logits_is_the_logarithm_of_their_number(self):
        assert_close(cross_entropy(np.zeros((3, 7)), [0, 3, 6]), np.float32(math.log(7)))

    def test_a_shared_parameter_receives_both_gradients(self):
        w = Tensor([[2.0]], requires_grad=True)
        (w * 3 + w.T * 4).sum().backward()
        assert_close(w.grad, np.array([[7]], np.float32))

    def test_adamw_decays_the_weights_themselves(self):
        w = Tensor([1.0], requires_grad=True)
        w.grad = np.zeros(1, np.float32)
        AdamW([w], lr=0.1, weight_decay=0.5).step()
        assert_close(w, np.array([0.95], np.float32))

    def test_characters_go_to_tokens_and_back(self):
        tokenizer = CharTokenizer()
        tokenizer.build_vocab([TEXT])
        assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT

    def test_embeddings_know_their_place(self):
        out = EmbeddingLayer(5, 8, 4, rng=0)(Tensor([[3, 3, 3]]))
        assert len(np.unique(out.data[0], axis=0)) == 3

    def test_attention_looks_back_only(self):
        layer, x = MultiHeadAttention(8, 2, rng=0), randn(1, 6, 8, rng=1)
        assert_close(layer(x[:, :3], causal=True), layer(x, causal=True).data[:, :3], atol=1e-6)


class TestModule13TransformersCore:
    def test_a_norm_by_hand(self):
        out = layer_norm([1.0, 2.0, 3.0, 4.0], np.ones(4), np.zeros(4), eps=1e-12)
        assert_close(out, (np.array([-1.5, -0.5, 0.5, 1.5]) / math.sqrt(1.25)).astype(np.float32))

    def test_a_root_mean_square_by_hand(self):
        assert_close(rms_norm([1.0, 7.0], [1.0, 1.0], eps=1e-12), np.array([0.2, 1.4], np.float32))

    def test_every_vector_leaves_a_norm_with_mean_0_and_variance_1(self):
        out = LayerNorm(16)(5 + 3 * randn(2, 7, 16, rng=0)).data
        assert_close(out.mean(axis=-1), np.zeros((2, 7), np.float32), atol=1e-5)
        assert_close(out.var(axis=-1), np.ones((2, 7), np.float32), rtol=1e-3)

    def test_an_mlp_is_four_times_as_wide_inside(self):
        assert MLP(8).fc1.weight.shape == (8, 32)

    def test_a_block_adds_two_answers_to_its_stream(self):
        block, x = TransformerBlock(8, 2, rng=0), randn(2, 5, 8, rng=1)
        middle = x + block.attention(block.norm1(x))
        assert_close(block(x), (middle + block.mlp(block.norm2(middle))).data, atol=1e-6)

    def test_a_gpt_gives_logits_for_every_place(self):
        assert small()(randint(0, 20, (3, 7))).shape == (3, 7, 20)

    def test_no_place_sees_a_later_one(self):
        gpt, tokens = small(), randint(0, 20, (2, 8), rng=0).data
        before = gpt(tokens).data
        tokens[:, 5:] = (tokens[:, 5:] + 1) % 20
        assert (gpt(tokens).data[:, :5] == before[:, :5]).all()

    def test_parameters_in_closed_form(self):
        assert small().num_parameters() == 20 * 16 + 12 * 16 + 2 * (12 * 16 * 16 + 13 * 16) + 2 * 16

    def test_the_first_loss_knows_nothing(self):
        loss = cross_entropy(small()(randint(0, 20, (4, 12), rng=0)), randint(0, 20, (4, 12), rng=1)).item()
        assert abs(loss - math.log(20)) < 0.1

    def test_greedy_generation_is_the_argmax_again_and_again(self):
        gpt, tokens = small(), [3, 1]
        for _ in range(6):
            tokens.append(int(gpt([tokens]).data[0, -1].argmax()))
        assert gpt.generate([3, 1], 6, temperature=0) == tokens


class TestBackwardIntegration:
    """With the engine and the rules of module 05."""

    def test_norms_are_one_tracked_operation_each(self):
        x = randn(2, 4, requires_grad=True)
        assert type(LayerNorm(4)(x)._grad_fn) is LayerNormBackward
        assert type(RMSNorm(4)(x)._grad_fn) is RMSNormBackward

    def test_they_compute_what_separate_operations_compute_and_so_do_their_rules(self):
        grads = []
        for norm in (layer_norm, separate_norm):
            x, w, b = (randn(*shape, rng=i, requires_grad=True) for i, shape in enumerate([(3, 5, 8), (8,), (8,)]))
            out = norm(x, w, b)
            (out * randn(3, 5, 8, rng=3)).sum().backward()
            grads.append([out.data, x.grad, w.grad, b.grad])
        for got, want in zip(*grads):
            assert_close(got, want, rtol=1e-4, atol=1e-5)

    def test_gradients_agree_with_finite_differences(self):
        rng = np.random.default_rng(0)
        x, w, b = rng.normal(size=(3, 4)), rng.normal(size=4), rng.normal(size=4)
        assert gradcheck(lambda x, w, b: layer_norm(x, w, b), (x, w, b), rtol=1e-6)
        assert gradcheck(lambda x, w: rms_norm(x, w), (x, w), rtol=1e-6)

    def test_every_parameter_of_a_gpt_receives_a_gradient(self):
        gpt = small(max_seq_len=8)
        cross_entropy(gpt(randint(0, 20, (4, 8), rng=0)), randint(0, 20, (4, 8), rng=1)).backward()
        for name, p in gpt.named_parameters():
            assert p.grad.shape == p.shape, name
            assert np.abs(p.grad).max() > 1e-7, name

    def test_the_token_table_is_one_parameter_with_two_uses(self):
        gpt, tokens = small(), randint(0, 20, (2, 6), rng=0)
        weight = randn(2, 6, 20, rng=1).data
        gpt(tokens).backward(weight)
        whole = gpt.embedding.token_embedding.weight.grad
        gpt.zero_grad()
        features = gpt.features(tokens)
        gpt.head(features.detach()).backward(weight)
        head = gpt.embedding.token_embedding.weight.grad.copy()
        gpt.zero_grad()
        features.backward(weight @ gpt.embedding.token_embedding.weight.data)
        assert_close(whole, head + gpt.embedding.token_embedding.weight.grad, rtol=1e-4, atol=1e-5)

    def test_no_later_token_sends_a_gradient_to_an_earlier_logit(self):
        block, x = TransformerBlock(8, 2, rng=0), randn(1, 6, 8, rng=1, requires_grad=True)
        block(x, causal=True)[:, 2].sum().backward()
        assert (np.abs(x.grad[0]).max(axis=1) > 0).tolist() == [True] * 3 + [False] * 3

    def test_checkpointed_blocks_give_the_same_gradients(self):
        grads = []
        for run in (lambda f, x: f(x), checkpoint):
            manual_seed(5)
            blocks = [TransformerBlock(8, 2, dropout=0.3, rng=i) for i in range(2)]
            start = x = randn(2, 5, 8, rng=1, requires_grad=True)
            for block in blocks:
                x = run(block, x)
            x.sum().backward()
            grads.append([start.grad, *(p.grad for block in blocks for p in block.parameters())])
        for got, want in zip(*grads):
            assert_close(got, want, atol=1e-5)

    def test_nothing_is_tracked_under_no_grad(self):
        with no_grad():
            assert small()([[1, 2]]).requires_grad is False


class TestForwardIntegration:
    """What profiling (14), compression (16), caches (17) and the application (20) rely on."""

    def test_everything_is_a_module(self):
        for layer in (LayerNorm(8), RMSNorm(8), MLP(8), TransformerBlock(8, 2), small()):
            assert isinstance(layer, Module)

    @pytest.mark.parametrize("T", [1, 5, 12])
    def test_blocks_keep_the_shape(self, T):
        out = TransformerBlock(16, 4)(randn(2, T, 16), causal=True)
        assert (out.shape, out.dtype, out.requires_grad) == ((2, T, 16), np.float32, True)

    def test_every_large_layer_is_a_linear_with_a_weight_in_by_out(self):
        found = [layer for layer in small().modules() if isinstance(layer, Linear)]
        assert [layer.weight.shape for layer in found] == [(16, 48), (16, 16), (16, 64), (64, 16)] * 2

    def test_a_cache_holds_one_entry_per_block(self):
        class Cache:
            def __init__(self):
                self.parts = []

            def __len__(self):
                return sum(k.shape[-2] for k, _ in self.parts)

            def append(self, k, v):
                self.parts.append((k, v))
                return tuple(cat(part, axis=-2) for part in zip(*self.parts))

        gpt, tokens = small(), randint(0, 20, (2, 9), rng=0)
        caches = [Cache(), Cache()]
        parts = [gpt(tokens[:, start : start + 3], cache=caches).data for start in (0, 3, 6)]
        assert_close(np.concatenate(parts, axis=1), gpt(tokens).data, atol=1e-6)
        assert [k.shape for cache in caches for k, _ in cache.parts] == [(2, 4, 3, 4)] * 6

    def test_generation_with_and_without_cache(self):
        gpt = small()
        assert gpt.generate([1, 2], 20, rng=0) == gpt.generate([1, 2], 20, rng=0, use_cache=False)

    def test_a_stream_is_the_same_text_token_by_token(self):
        gpt = small()
        assert [1, 2, *gpt.stream([1, 2], 9, rng=0)] == gpt.generate([1, 2], 9, rng=0)


class TestCrossModuleIntegration:
    def test_a_tiny_gpt_learns_a_text_by_heart_and_writes_it(self):
        tokenizer, gpt, losses = overfit(TEXT, 70)
        assert abs(losses[0] - math.log(tokenizer.vocab_size)) < 0.2
        assert losses[-1] < 0.1
        start = tokenizer.encode(TEXT[:7])
        assert tokenizer.decode(gpt.generate(start, len(TEXT) - 7, temperature=0)) == TEXT

    def test_a_trainer_trains_it(self):
        tokens = randint(0, 5, (16, 1), rng=0).data + np.arange(9)  # every text counts on from a number
        data = DataLoader(TensorDataset(Tensor(tokens[:, :-1]), Tensor(tokens[:, 1:])), batch_size=8, seed=0)
        gpt = GPT(14, 16, 1, 2, 8, rng=0)
        trainer = Trainer(gpt, AdamW(gpt.parameters(), lr=0.01), CrossEntropyLoss(), grad_clip_norm=1.0)
        trainer.fit(data, epochs=20)
        assert gpt.generate([2, 3], 5, temperature=0) == [2, 3, 4, 5, 6, 7, 8]

    def test_generating_in_the_middle_of_training_changes_nothing(self):
        losses = []
        for look in (False, True):
            manual_seed(0)
            gpt = small(dropout=0.2)
            optimizer = AdamW(gpt.parameters(), lr=0.01)
            for _ in range(3):
                optimizer.zero_grad()
                loss = cross_entropy(gpt(randint(0, 20, (2, 8), rng=1)), randint(0, 20, (2, 8), rng=2))
                loss.backward()
                optimizer.step()
                if look:
                    gpt.generate([1], 5, rng=0)
            losses.append(loss.item())
        assert losses[0] == losses[1]

    def test_gradients_are_clipped_to_a_norm(self):
        gpt = small()
        cross_entropy(gpt(randint(0, 20, (2, 8), rng=1)), randint(0, 20, (2, 8), rng=2)).backward()
        before = clip_grad_norm(gpt.parameters(), 1e-3)
        assert before > 1e-3
        assert_close(math.sqrt(sum(float((p.grad**2).sum()) for p in gpt.parameters())), 1e-3, rtol=1e-3)

    def test_a_checkpoint_brings_back_the_model(self, tmp_path):
        gpt, other = small(), small(rng=1)
        save(tmp_path / "gpt.safetensors", gpt)
        load(tmp_path / "gpt.safetensors", other)
        assert other.generate([1, 2], 10, rng=0) == gpt.generate([1, 2], 10, rng=0)

    def test_optimizers_list_the_token_table_once(self):
        gpt = small()
        assert sum(p is gpt.embedding.token_embedding.weight for p in AdamW(gpt.parameters()).parameters) == 1

    def test_padding_at_the_end_changes_no_earlier_logit(self):
        gpt = small()
        short = gpt([[4, 5, 6]]).data
        assert_close(gpt([[4, 5, 6, 0, 0, 0]]).data[:, :3], short, atol=1e-6)


class TestRegressionPrevention:
    def test_a_norm_does_not_forget_that_mean_and_variance_move(self):
        x = Tensor(np.random.default_rng(0).normal(size=(4, 6)), dtype=np.float64, requires_grad=True)
        (layer_norm(x, np.ones(6), np.zeros(6), eps=1e-12) * randn(4, 6, rng=1)).sum().backward()
        assert_close(x.grad.sum(axis=1), np.zeros(4), atol=1e-6)
        assert_close((x.grad * x.data).sum(axis=1), np.zeros(4), atol=1e-6)

    @pytest.mark.parametrize("temperature", [0, 0.0, 1e-300])
    def test_temperature_0_is_no_division_by_zero(self, temperature):
        gpt = small()
        assert gpt.generate([1, 2], 10, temperature=temperature) == gpt.generate([1, 2], 10, top_k=1)

    def test_generation_runs_past_the_longest_text(self):
        tokens = small().generate([1, 2], 40, rng=0)
        assert len(tokens) == 42

    def test_a_batch_of_prompts(self):
        assert small().generate(np.array([[1, 2], [3, 4], [5, 6]]), 4, rng=0).shape == (3, 6)

    def test_dropout_is_not_ignored(self):
        gpt = small(dropout=0.5)
        tokens = randint(0, 20, (2, 8), rng=0)
        assert np.abs(gpt(tokens).data - gpt(tokens).data).max() > 1e-3
        gpt.eval()
        assert_close(gpt(tokens), gpt(tokens).data, rtol=0, atol=0)

    def test_float32_throughout(self):
        gpt = small()
        loss = cross_entropy(gpt([[1, 2, 3]]), [[2, 3, 4]])
        loss.backward()
        assert {loss.dtype, *(p.grad.dtype for p in gpt.parameters())} == {np.dtype(np.float32)}

    def test_a_text_longer_than_the_model_is_an_error_and_no_silent_cut(self):
        with pytest.raises(ValueError, match="13 tokens is longer than max_seq_len 12"):
            small()(np.zeros((1, 13), np.int64))

    def test_a_token_out_of_range_is_an_error_and_not_the_last_row(self):
        with pytest.raises(ValueError, match="token -1 is out of range"):
            small()([[-1]])
