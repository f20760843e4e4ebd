"""Module 17 with what came before it: attention and GPT write with a KVCache what they write without one."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.attention import MultiHeadAttention, causal_mask, scaled_dot_product_attention
from tinytorch.core.autograd import no_grad
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import AdamW
from tinytorch.core.tensor import Tensor, from_numpy, manual_seed, randn
from tinytorch.generation.kv_cache import KVCache, Memoized, cache_bytes, shared_prefix
from tinytorch.models.transformer import GPT, TransformerBlock
from tinytorch.text.embeddings import RotaryEmbedding
from tinytorch.text.tokenization import CharTokenizer

TEXT = "the cat sat on the mat and the rat sat on the hat "


def spread(gpt, dtype=np.float32):
    """The model with larger matrices, so that its next token depends on what it has read."""
    for p in gpt.parameters():
        p.data = (p.data * 12 if p.ndim == 2 else p.data).astype(dtype)
    return gpt


class TestPriorStackStillWorking:
    def test_attention_takes_the_mean_of_the_values(self):
        out, _ = scaled_dot_product_attention([[0.0, 0.0]], [[1.0, 2.0], [3.0, 4.0]], [[2.0], [4.0]])
        assert_close(out, np.array([[3.0]], np.float32))

    def test_fewer_queries_than_keys_are_the_last_places(self):
        assert causal_mask(2, 4).data.tolist() == [[True, True, True, False], [True] * 4]

    def test_a_gpt_generates_the_same_with_and_without_its_own_cache(self):
        gpt = spread(GPT(20, 16, 2, 4, 12, rng=0))
        assert gpt.generate([3, 1], 15, rng=0) == gpt.generate([3, 1], 15, rng=0, use_cache=False)


class TestModule17MemoizationCore:
    def test_three_tokens_by_hand(self):
        cache = KVCache(1, 3, 1, 1, 2)
        keys = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
        for t in range(3):
            row = from_numpy(keys[None, None, t : t + 1])
            k, v = cache[0].append(row, row * 10)
            assert k.tolist() == [[keys[: t + 1].tolist()]]
            assert v.tolist() == [[(10 * keys[: t + 1]).tolist()]]
            assert cache.position == t + 1

    def test_a_cache_for_a_model_takes_two_numbers_per_text_place_and_column_of_each_layer(self):
        cache = KVCache.for_model(GPT(11, 24, 3, 4, 16), 5)
        assert cache.nbytes == 2 * 5 * 16 * 3 * 24 * 4 == cache_bytes(5, 16, 3, 4, 6)

    def test_truncate_takes_tokens_back(self):
        gpt = spread(GPT(20, 16, 2, 4, 12, rng=0), np.float64)
        cache = KVCache.for_model(gpt)
        with no_grad():
            gpt([[3, 1, 4, 1, 5]], cache=cache)
            cache.truncate(3)
            assert cache.position == 3
            got = gpt([[9, 2]], cache=cache).data
            assert np.abs(got - gpt([[3, 1, 4, 9, 2]]).data[:, 3:]).max() < 1e-12

    def test_memoized_reads_only_what_is_new(self):
        gpt, read = GPT(20, 16, 2, 4, 12, rng=0), []
        gpt.norm.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
        memo = Memoized(gpt)
        with no_grad():
            for text in ([3, 1, 4], [3, 1, 4, 1], [3, 1, 5, 9]):
                memo.features([text])
        assert read == [3, 1, 2]
        assert shared_prefix(np.array([[3, 1, 4, 1]]), np.array([[3, 1, 5, 9]])) == 2


class TestBackwardIntegration:
    def test_writing_between_two_steps_leaves_training_as_it_is(self):
        losses = []
        for write in (False, True):
            gpt = GPT(20, 16, 2, 4, 12, rng=0)
            optimizer, memo = AdamW(gpt.parameters(), lr=0.01), Memoized(gpt)
            tokens = np.random.default_rng(0).integers(0, 20, (4, 9))
            for _ in range(5):
                if write:
                    memo.cache.reset()
                    memo.generate(tokens[0, :3], 4, rng=0)
                optimizer.zero_grad()
                loss = cross_entropy(gpt(tokens[:, :-1]), tokens[:, 1:])
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
        assert losses[:5] == losses[5:]

    def test_generating_records_nothing_and_leaves_no_gradient(self):
        gpt = GPT(20, 16, 2, 4, 12, rng=0)
        Memoized(gpt).generate([1, 2, 3], 4)
        assert [p.grad for p in gpt.parameters()] == [None] * len(gpt.parameters())

    def test_gradients_of_the_queries_pass_a_cache_and_those_of_the_past_end_in_it(self):
        layer = MultiHeadAttention(8, 2, rng=0)
        cache = KVCache(1, 4, 1, 2, 4)
        first, second = (randn(1, 2, 8, rng=seed, requires_grad=True) for seed in (1, 2))
        layer(first, causal=True, cache=cache[0])
        layer(second, causal=True, cache=cache[0]).sum().backward()
        assert np.abs(second.grad).max() > 0
        assert first.grad is None


class TestForwardIntegration:
    @pytest.mark.parametrize("rotary", [None, RotaryEmbedding(4)])
    def test_attention_word_by_word(self, rotary):
        layer, x = MultiHeadAttention(16, 4, rotary=rotary, rng=0), randn(2, 7, 16, rng=1)
        cache = KVCache(2, 7, 1, 4, 4)
        with no_grad():
            steps = [layer(x[:, t : t + 1], causal=True, cache=cache[0]).data for t in range(7)]
            assert_close(np.concatenate(steps, axis=1), layer(x, causal=True).data)

    def test_a_block_in_two_pieces(self):
        block, x = TransformerBlock(16, 4, rng=0), randn(2, 7, 16, rng=1)
        cache = KVCache(2, 7, 1, 4, 4)
        with no_grad():
            pieces = [block(part, causal=True, cache=cache[0]).data for part in (x[:, :4], x[:, 4:])]
            assert_close(np.concatenate(pieces, axis=1), block(x, causal=True).data)

    @pytest.mark.parametrize("cuts", [(1,) * 10, (6, 1, 1, 2), (3, 7)])
    def test_a_gpt_in_pieces_gives_the_same_logits_to_1e_12(self, cuts):
        gpt = spread(GPT(20, 16, 3, 4, 10, rng=0), np.float64)
        tokens = np.random.default_rng(0).integers(0, 20, (2, 10))
        cache, stops = KVCache.for_model(gpt, 2), np.cumsum(cuts)
        with no_grad():
            got = [gpt(tokens[:, stop - count : stop], cache=cache).data for count, stop in zip(cuts, stops)]
            assert np.abs(np.concatenate(got, axis=1) - gpt(tokens).data).max() < 1e-12
        assert cache.position == 10


class TestCrossModuleIntegration:
    def test_a_model_that_has_learnt_a_text_recites_it_with_a_cache(self):
        manual_seed(0)
        tokenizer = CharTokenizer().build_vocab(TEXT)
        ids = np.array(tokenizer.encode(TEXT))
        gpt = GPT(tokenizer.vocab_size, 32, 2, 4, 64, rng=0)
        optimizer = AdamW(gpt.parameters(), lr=0.01)
        for _ in range(80):
            optimizer.zero_grad()
            cross_entropy(gpt(ids[None, :-1]), ids[None, 1:]).backward()
            optimizer.step()
        memo = Memoized(gpt)
        assert tokenizer.decode(memo.generate(tokenizer.encode("the cat"), 43, temperature=0)) == TEXT

    def test_a_conversation_is_read_once(self):
        gpt, read = spread(GPT(20, 16, 2, 4, 40, rng=0)), []
        memo, text = Memoized(gpt), []
        for turn, asked in enumerate(([3, 1, 4], [1, 5], [9, 2, 6, 5])):
            want = gpt.generate([*text, *asked], 5, rng=turn)
            handle = gpt.norm.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
            text = memo.generate([*text, *asked], 5, rng=turn)
            handle.remove()
            assert text == want
        assert read == [3, 1, 1, 1, 1, 3, 1, 1, 1, 1, 5, 1, 1, 1, 1]
        assert sum(read) == len(text) - 1

    def test_half_of_a_text_in_a_batch_and_the_rest_of_each(self):
        gpt = spread(GPT(20, 16, 2, 4, 10, rng=0), np.float64)
        tokens = np.random.default_rng(0).integers(0, 20, (3, 10))
        cache = KVCache.for_model(gpt, 3)
        with no_grad():
            gpt(tokens[:, :6], cache=cache)
            together = gpt(tokens[:, 6:], cache=cache).data
            for row, got in zip(tokens, together):
                assert np.abs(got - gpt(Tensor(row[None])).data[0, 6:]).max() < 1e-12


class TestRegressionPrevention:
    def test_the_first_token_is_stored(self):
        gpt = spread(GPT(20, 16, 2, 4, 10, rng=0))
        cache = KVCache.for_model(gpt)
        with no_grad():
            gpt([[3]], cache=cache)
            a = gpt([[5]], cache=cache).data
            cache.reset()
            gpt([[4]], cache=cache)
            b = gpt([[5]], cache=cache).data
        assert np.abs(a - b).max() > 0.1

    def test_places_go_on_where_the_cache_ends(self):
        gpt, starts = GPT(20, 16, 2, 4, 10, rng=0), []
        gpt.embedding.register_forward_hook(lambda _, inputs, __: starts.append(inputs[1]))
        cache = KVCache.for_model(gpt)
        with no_grad():
            for tokens in ([3, 1, 4], [1], [5, 9]):
                gpt([tokens], cache=cache)
        assert starts == [0, 3, 4]

    def test_every_layer_keeps_its_own(self):
        gpt = spread(GPT(20, 16, 3, 4, 10, rng=0))
        cache = KVCache.for_model(gpt)
        with no_grad():
            gpt([[3, 1, 4]], cache=cache)
        for i in range(3):
            for j in range(i):
                assert np.abs(cache[i].keys[:, :, :3] - cache[j].keys[:, :, :3]).min() > 0
                assert np.abs(cache[i].values[:, :, :3] - cache[j].values[:, :, :3]).min() > 0

    def test_several_new_places_do_not_see_ahead(self):
        gpt = spread(GPT(20, 16, 2, 4, 10, rng=0), np.float64)
        outs = []
        for last in (5, 6):
            cache = KVCache.for_model(gpt)
            with no_grad():
                gpt([[3, 1, 4]], cache=cache)
                outs.append(gpt([[1, 2, last]], cache=cache).data[0])
        assert np.abs(outs[0][:2] - outs[1][:2]).max() < 1e-12
        assert np.abs(outs[0][2] - outs[1][2]).max() > 0.1

    def test_past_the_end_is_an_error_and_not_the_first_place_again(self):
        gpt = GPT(20, 16, 2, 4, 10, rng=0)
        cache = KVCache.for_model(gpt, max_seq_len=4)
        with no_grad():
            gpt([[3, 1, 4, 1]], cache=cache)
            kept = cache.keys.copy()
            with pytest.raises(ValueError, match="has room for 4 places, holds 4, got 1 more"):
                gpt([[5]], cache=cache)
        np.testing.assert_array_equal(cache.keys, kept)
        assert cache.position == 4

    def test_nothing_of_the_model_is_replaced(self):
        gpt = GPT(20, 16, 2, 4, 10, rng=0)
        gpt.train()
        before = [{key: id(value) for key, value in vars(layer).items()} for layer in gpt.modules()]
        Memoized(gpt).generate([3, 1], 12, rng=0)
        assert [{key: id(value) for key, value in vars(layer).items()} for layer in gpt.modules()] == before
