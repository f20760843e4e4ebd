"""GPT: its parameters and how they start, who sees whom, and what is refused."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.activations import softmax
from tinytorch.core.autograd import gradcheck
from tinytorch.core.losses import cross_entropy
from tinytorch.core.tensor import Tensor, cat, randint
from tinytorch.models.transformer import GPT

TOKENS = randint(0, 20, (3, 8), rng=0)


def model(**options):
    return GPT(
        **{"vocab_size": 20, "embed_dim": 16, "num_layers": 2, "num_heads": 4, "max_seq_len": 12, "rng": 0} | options
    )


class ListCache:
    def __init__(self):
        self.k = self.v = None

    def __len__(self):
        return 0 if self.k is None else self.k.shape[-2]

    def append(self, k, v):
        self.k = k if self.k is None else cat([self.k, k], axis=-2)
        self.v = v if self.v is None else cat([self.v, v], axis=-2)
        return self.k, self.v


class TestForward:
    @pytest.mark.parametrize("shape", [(1, 1), (3, 8), (2, 12), (0, 4), (5,)])
    def test_a_row_of_logits_for_every_token(self, shape):
        out = model()(np.zeros(shape, np.int64))
        assert (out.shape, out.dtype) == ((*shape, 20), np.float32)

    def test_tokens_as_list_array_or_tensor(self):
        gpt = model()
        want = gpt(TOKENS).data
        for tokens in (TOKENS.data, TOKENS.tolist(), TOKENS.data.astype(np.uint8), TOKENS.data.astype(np.int32)):
            assert_close(gpt(tokens), want, rtol=0, atol=0)

    def test_it_is_embedding_blocks_norm_and_the_table_again(self):
        gpt = model()
        x = gpt.embedding(TOKENS)
        for block in gpt.blocks:
            x = block(x, causal=True)
        want = gpt.norm(x).data @ gpt.embedding.token_embedding.weight.data.T
        assert_close(gpt(TOKENS), want, atol=1e-6)

    def test_features_and_head_make_the_logits(self):
        gpt = model()
        features = gpt.features(TOKENS)
        assert features.shape == (3, 8, 16)
        assert_close(gpt.head(features), gpt(TOKENS).data, rtol=0, atol=0)

    def test_texts_of_a_batch_do_not_see_each_other(self):
        gpt = model()
        assert_close(gpt(TOKENS[1:2]), gpt(TOKENS).data[1:2], atol=1e-6)

    def test_places_matter(self):
        logits = model()([[7, 7, 7]]).data[0]
        assert np.abs(logits[0] - logits[2]).max() > 1e-3

    def test_what_comes_later_leaves_earlier_logits_bit_for_bit(self):
        gpt = model()
        before = gpt(TOKENS).data
        for t in range(1, 8):
            changed = TOKENS.data.copy()
            changed[:, t:] = (changed[:, t:] + 1) % 20
            after = gpt(changed).data
            assert (after[:, :t] == before[:, :t]).all()
            assert (after[:, t:] != before[:, t:]).any()

    def test_every_place_sees_all_before_it(self):
        gpt = model()
        for p in gpt.parameters():
            p.data = p.data * 5
        before = gpt(TOKENS).data
        changed = TOKENS.data.copy()
        changed[:, 0] = (changed[:, 0] + 1) % 20
        assert (np.abs(gpt(changed).data - before).max(axis=(0, 2)) > 1e-4).all()

    @pytest.mark.parametrize("cuts", [[1] * 8, [8], [3, 5], [5, 1, 1, 1]])
    def test_reading_with_caches_is_reading_at_once(self, cuts):
        gpt, parts, start = model(), [], 0
        cache = [ListCache() for _ in gpt.blocks]
        for n in cuts:
            parts.append(gpt(TOKENS[:, start : start + n], cache=cache).data)
            start += n
        assert [len(layer) for layer in cache] == [8, 8]
        assert_close(np.concatenate(parts, axis=1), gpt(TOKENS).data, atol=1e-6)

    def test_dropout_touches_what_enters_the_first_block(self):
        gpt = model(dropout=1.0)
        assert_close(gpt(TOKENS), np.zeros((3, 8, 20), np.float32))
        assert np.abs(gpt.eval()(TOKENS).data).max() > 0.01
        assert [block.dropout.p for block in gpt.blocks] == [1.0, 1.0]


class TestParameters:
    @pytest.mark.parametrize(("V", "E", "L", "H", "T"), [(20, 16, 2, 4, 12), (50, 8, 1, 1, 5), (7, 12, 3, 3, 9)])
    def test_how_many_in_closed_form(self, V, E, L, H, T):
        gpt = GPT(V, E, L, H, T)
        assert gpt.num_parameters() == V * E + T * E + L * (12 * E * E + 13 * E) + 2 * E
        assert sum(p.data.nbytes for p in gpt.parameters()) == 4 * gpt.num_parameters()

    def test_the_token_table_is_also_the_head_and_counts_once(self):
        gpt = model()
        shapes = [p.shape for p in gpt.parameters()]
        assert shapes.count((20, 16)) == 1
        assert (16, 20) not in shapes
        gpt.embedding.token_embedding.weight.data[7] = 0
        assert_close(gpt(TOKENS).data[..., 7], np.zeros((3, 8), np.float32))

    def test_the_table_collects_gradients_from_both_ends(self):
        gpt = model()
        table = gpt.embedding.token_embedding.weight
        gpt.features(TOKENS).sum().backward()
        entered = table.grad
        table.grad = None
        features = gpt.features(TOKENS).detach()
        weight = np.random.default_rng(0).normal(size=(3, 8, 20)).astype(np.float32)
        left = np.einsum("ntv,nte->ve", weight, features.data)
        gpt.zero_grad()
        gpt(TOKENS).backward(weight)
        assert np.abs(entered).max() > 0
        assert not np.allclose(table.grad, left, atol=1e-3)
        unused = np.setdiff1d(np.arange(20), TOKENS.data)
        assert_close(table.grad[unused], left[unused], rtol=1e-4, atol=1e-5)

    def test_matrices_start_with_a_deviation_of_2_hundredths(self):
        gpt = GPT(300, 64, 2, 4, 200, rng=0)
        for name, p in gpt.named_parameters():
            if p.ndim == 2:
                want = 0.01 if name.endswith(("out_proj.weight", "fc2.weight")) else 0.02  # 0.02 / sqrt(2 * 2)
                assert_close(
                    np.array([p.data.std(), p.data.mean()]), np.array([want, 0]), rtol=0.05, atol=1e-3, what=name
                )

    @pytest.mark.parametrize("layers", [1, 8])
    def test_what_ends_an_answer_starts_smaller_the_more_layers_there_are(self, layers):
        gpt = GPT(10, 64, layers, 4, 8, rng=0)
        std = np.mean([b.attention.out_proj.weight.data.std() for b in gpt.blocks])
        assert_close(std, 0.02 / math.sqrt(2 * layers), rtol=0.03)

    def test_biases_start_at_0_and_norms_at_1(self):
        for name, p in model().named_parameters():
            if p.ndim == 1:
                assert_close(p, np.full(p.shape, float(name.endswith("weight")), np.float32), rtol=0, atol=0, what=name)

    def test_the_stream_keeps_its_size_however_deep_the_model(self):
        growth = []
        for layers in (2, 16):
            gpt = GPT(50, 32, layers, 4, 16, rng=0)
            x = start = gpt.embedding(randint(0, 50, (4, 16), rng=1))
            for block in gpt.blocks:
                x = block(x, causal=True)
            growth.append(x.data.std() / start.data.std())
        assert growth[1] < 1.5 * growth[0]

    @pytest.mark.parametrize(("V", "E"), [(20, 16), (256, 64), (1000, 32)])
    def test_the_first_loss_is_about_log_v(self, V, E):
        gpt = GPT(V, E, 2, 4, 16, rng=0)
        loss = cross_entropy(gpt(randint(0, V, (8, 16), rng=1)), randint(0, V, (8, 16), rng=2)).item()
        assert abs(loss - math.log(V)) < 0.1

    def test_the_same_seed_draws_the_same_model(self):
        assert_close(model()(TOKENS), model()(TOKENS).data, rtol=0, atol=0)
        assert np.abs(model(rng=1)(TOKENS).data - model()(TOKENS).data).max() > 1e-3

    def test_states_go_from_model_to_model(self):
        other = model(rng=1)
        other.load_state_dict(model().state_dict())
        assert_close(other(TOKENS), model()(TOKENS).data, rtol=0, atol=0)

    def test_finite_differences_through_the_whole_model(self):
        gpt = GPT(5, 4, 1, 2, 4, rng=0)
        for p in gpt.parameters():
            p.data = p.data.astype(np.float64) * 10
        table = gpt.embedding.token_embedding

        def f(weight, place):
            table.weight, gpt.embedding.pos_encoding.position_embeddings = weight, place
            return gpt([[0, 3, 3], [1, 0, 4]])

        places = gpt.embedding.pos_encoding.position_embeddings
        assert gradcheck(f, [table.weight.data, places.data], rtol=1e-6)

    def test_it_prints_its_settings(self):
        assert "vocab_size=20, embed_dim=16, num_layers=2, num_heads=4, max_seq_len=12" in repr(model())


class TestErrors:
    @pytest.mark.parametrize("name", ["vocab_size", "embed_dim", "num_layers", "num_heads", "max_seq_len"])
    @pytest.mark.parametrize(
        ("value", "error"), [(0, ValueError), (-1, ValueError), (2.5, TypeError), ("8", TypeError)]
    )
    def test_a_setting_that_is_no_count_is_named(self, name, value, error):
        with pytest.raises(error, match=f"GPT needs .*{name}.*, got"):
            model(**{name: value})

    def test_heads_that_do_not_divide_the_width(self):
        with pytest.raises(ValueError, match="GPT shares embed_dim 16 out to its heads and cannot divide it by 5"):
            model(num_heads=5)

    @pytest.mark.parametrize("p", [-0.1, 1.1])
    def test_a_dropout_that_is_no_share(self, p):
        with pytest.raises(ValueError, match="Dropout needs a probability"):
            model(dropout=p)

    @pytest.mark.parametrize("token", [20, 500, -1])
    def test_a_token_out_of_range_is_named(self, token):
        with pytest.raises(ValueError, match=f"GPT: token {token} is out of range 0 to 19; vocab_size must be"):
            model()([[1, token, 2]])

    def test_a_text_longer_than_the_model(self):
        with pytest.raises(ValueError, match="GPT: a text of 13 tokens is longer than max_seq_len 12"):
            model()(np.zeros((1, 13), np.int64))

    @pytest.mark.parametrize("layers", [1, 3])
    def test_a_cache_for_another_number_of_layers_is_refused_before_it_is_written(self, layers):
        cache = [ListCache() for _ in range(layers)]
        with pytest.raises(ValueError, match=f"GPT of 2 layers needs a cache for as many, got {layers} layers"):
            model()(TOKENS, cache=cache)
        assert [len(layer) for layer in cache] == [0] * layers

    def test_a_text_longer_than_the_model_counts_what_is_cached(self):
        gpt = model()
        cache = [ListCache() for _ in gpt.blocks]
        gpt(np.zeros((1, 10), np.int64), cache=cache)
        with pytest.raises(ValueError, match="GPT: a text of 13 tokens is longer than max_seq_len 12"):
            gpt(np.zeros((1, 3), np.int64), cache=cache)
        assert [len(layer) for layer in cache] == [10, 10]

    @pytest.mark.parametrize("tokens", [[[1.0, 2.0]], [[True, False]]])
    def test_what_is_no_whole_number(self, tokens):
        with pytest.raises(TypeError, match="GPT needs whole numbers as tokens, got"):
            model()(tokens)

    def test_a_single_number(self):
        with pytest.raises(ValueError, match="GPT needs tokens of shape"):
            model()(3)

    def test_nothing_was_computed_before_an_error(self):
        gpt, seen = model(), []
        for block in gpt.blocks:
            block.register_forward_hook(lambda *_: seen.append(1))
        for tokens in ([[20]], np.zeros((1, 13), np.int64)):
            with pytest.raises(ValueError):
                gpt(tokens)
        assert seen == []

    def test_probabilities_of_every_place_add_up_to_1(self):
        assert_close(softmax(Tensor(model()(TOKENS).data)).sum(axis=-1), np.ones((3, 8), np.float32))
