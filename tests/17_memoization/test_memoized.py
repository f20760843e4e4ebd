"""A model with a cache says what it says without, and Memoized reads nothing twice."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.autograd import is_grad_enabled, no_grad
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.generation.kv_cache import KVCache, Memoized, shared_prefix
from tinytorch.models.sampling import generate, stream
from tinytorch.models.transformer import GPT

V, T = 20, 12
PROMPT = [3, 1, 4, 1, 5]


def model(dtype=np.float32, **options):
    """A model whose next token depends on what it has read: its weights are larger than at the start of training."""
    sizes = {"vocab_size": V, "embed_dim": 16, "num_layers": 3, "num_heads": 4, "max_seq_len": T, "rng": 0}
    gpt = GPT(**sizes | options)
    for p in gpt.parameters():
        p.data = (p.data * 12 if p.ndim == 2 else p.data).astype(dtype)
    return gpt


def texts(n, length=T, seed=0):
    return np.random.default_rng(seed).integers(0, V, (n, length))


def watched(gpt):
    """How many places the model reads in each pass from now on."""
    read = []
    gpt.norm.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
    return read


class TestLogits:
    @pytest.mark.parametrize("cuts", [(1,) * 12, (5,) + (1,) * 7, (12,), (4, 4, 4), (1, 6, 2, 3), (3, 0, 9)])
    @pytest.mark.parametrize("n", [1, 3])
    def test_they_are_those_without_a_cache_to_1e_12(self, cuts, n):
        gpt, tokens, stop, parts = model(np.float64), texts(n), 0, []
        cache = KVCache.for_model(gpt, n)
        with no_grad():
            want = gpt(tokens).data
            for count in cuts:
                assert cache.position == stop
                start, stop = stop, stop + count
                parts.append(gpt(tokens[:, start:stop], cache=cache).data)
        got = np.concatenate(parts, axis=1)
        assert got.dtype == np.float64
        assert np.abs(got - want).max() < 1e-12
        assert want.std() > 0.5

    def test_in_float32_they_differ_by_rounding(self):
        gpt, tokens = model(), texts(2)
        cache = KVCache.for_model(gpt, 2)
        with no_grad():
            got = np.concatenate([gpt(tokens[:, t : t + 1], cache=cache).data for t in range(T)], axis=1)
            assert got.dtype == np.float32
            assert_close(got, gpt(tokens).data, rtol=1e-4, atol=1e-4)

    def test_after_truncate_another_end_is_read(self):
        gpt, (a, b) = model(np.float64), texts(2)
        b[:5] = a[:5]
        cache = KVCache.for_model(gpt)
        with no_grad():
            gpt([a], cache=cache)
            cache.truncate(5)
            got = gpt([b[5:]], cache=cache).data
            assert np.abs(got - gpt([b]).data[:, 5:]).max() < 1e-12
            assert np.abs(got - gpt([a]).data[:, 5:]).max() > 1

    def test_after_reset_another_text_is_read(self):
        gpt, tokens = model(np.float64), texts(2)
        cache = KVCache.for_model(gpt)
        with no_grad():
            for text in tokens:
                cache.reset()
                assert np.abs(gpt([text], cache=cache).data - gpt([text]).data).max() < 1e-12

    def test_a_cache_without_enough_room_stays_empty(self):
        gpt, read = model(), []
        cache = KVCache.for_model(gpt, max_seq_len=4)
        gpt.blocks[0].register_forward_hook(lambda *_: read.append(1))
        with no_grad(), pytest.raises(ValueError, match="has room for 4 places, holds 0, got 5 more"):
            gpt([PROMPT], cache=cache)
        assert (cache.position, read) == (0, [])

    def test_a_cache_for_another_batch_stays_empty(self):
        gpt = model()
        cache = KVCache.for_model(gpt, 2)
        with no_grad(), pytest.raises(ValueError, match=r"needs keys \(2, 4, T, 4\), got \(1, 4, 5, 4\)"):
            gpt([PROMPT], cache=cache)
        assert cache.lengths == [0, 0, 0]

    def test_a_model_with_more_layers_is_told(self):
        gpt = model()
        with no_grad(), pytest.raises((IndexError, ValueError), match="2 layers"):
            gpt([PROMPT], cache=KVCache(1, T, 2, 4, 4))

    def test_a_model_with_fewer_layers_is_told(self):
        gpt, cache = model(), KVCache(1, T, 4, 4, 4)

        def read_twice():
            for _ in range(2):
                gpt([PROMPT], cache=cache)

        with no_grad(), pytest.raises(ValueError, match="layers"):
            read_twice()


class TestSharedPrefix:
    CASES = {
        "nothing known": ([[]], [[1, 2]], 0),
        "nothing asked": ([[1, 2]], [[]], 0),
        "equal": ([[1, 2, 3]], [[1, 2, 3]], 3),
        "longer": ([[1, 2]], [[1, 2, 3]], 2),
        "shorter": ([[1, 2, 3]], [[1, 2]], 2),
        "the first differs": ([[9, 2, 3]], [[1, 2, 3]], 0),
        "the middle differs": ([[1, 9, 3]], [[1, 2, 3]], 1),
        "the last differs": ([[1, 2, 9]], [[1, 2, 3, 4]], 2),
        "equal again later": ([[1, 9, 3, 4]], [[1, 2, 3, 4]], 1),
        "one row earlier than the other": ([[1, 2, 3], [1, 2, 3]], [[1, 2, 3], [1, 9, 3]], 1),
        "each row elsewhere": ([[1, 2, 9], [1, 9, 3]], [[1, 2, 3], [1, 2, 3]], 1),
    }

    @pytest.mark.parametrize(("a", "b", "count"), CASES.values(), ids=CASES)
    def test_it_ends_where_any_row_differs(self, a, b, count):
        a, b = (np.array(x, np.intp) for x in (a, b))
        assert shared_prefix(a, b) == shared_prefix(b, a) == count
        assert type(shared_prefix(a, b)) is int


class TestFeatures:
    def test_only_what_is_new_is_read(self):
        gpt = model()
        read, memo = watched(gpt), Memoized(gpt)
        for text, new in (
            (PROMPT, 5),
            ([*PROMPT, 9], 1),
            ([*PROMPT, 9, 2, 6], 2),
            ([*PROMPT, 9, 7, 7, 7], 3),  # differs from place 6 on
            (PROMPT, 1),  # shorter: its last place is read again
            (PROMPT, 1),
            ([7], 1),
            (PROMPT, 5),
        ):
            with no_grad():
                x = memo.features([text])
            assert read.pop() == x.shape[1] == new
            assert memo.cache.position == len(text)

    def test_they_are_the_models_own(self):
        gpt = model(np.float64)
        memo = Memoized(gpt)
        for text in (PROMPT, [*PROMPT, 9, 2], [3, 1, 4, 8, 8, 8], [3, 1], [3, 1], [5]):
            with no_grad():
                got, want = memo.features([text]).data, gpt.features([text]).data
            assert np.abs(got - want[:, -got.shape[1] :]).max() < 1e-12

    def test_a_batch_is_read_from_the_first_difference_of_any_text(self):
        gpt, tokens = model(np.float64), texts(3, 8)
        read, memo = watched(gpt), Memoized(gpt, KVCache.for_model(gpt, 3))
        other = tokens.copy()
        other[1, 6] = (other[1, 6] + 1) % V
        with no_grad():
            memo.features(tokens)
            got = memo.features(other).data
            assert np.abs(got - gpt.features(other).data[:, 6:]).max() < 1e-12
        assert read == [8, 2, 8]

    def test_a_text_that_is_changed_in_place_is_noticed(self):
        gpt, text = model(np.float64), texts(1, 8)
        memo = Memoized(gpt)
        with no_grad():
            memo.features(text)
            text[0, 3] = (text[0, 3] + 1) % V
            got = memo.features(text).data
            assert np.abs(got - gpt.features(text).data[:, 3:]).max() < 1e-12

    def test_reset_makes_it_read_all_anew(self):
        gpt = model()
        memo, read = Memoized(gpt), watched(gpt)
        with no_grad():
            memo.features([PROMPT])
            for p in gpt.parameters():
                p.data = p.data * np.float32(0.5)
            memo.cache.reset()
            assert_close(memo.features([PROMPT]), gpt.features([PROMPT]).data)
        assert read == [5, 5, 5]

    @pytest.mark.parametrize("place", ["embedding", "blocks.0", "blocks.1", "norm"])
    @pytest.mark.parametrize("end", [[9, 2], [6, 6], [6, 6, 9], [9], []])
    def test_a_pass_that_was_broken_off_does_no_harm(self, place, end):
        gpt = model(np.float64)
        memo, broken = Memoized(gpt), [False]

        def fail(*_):
            if broken[0]:
                raise KeyboardInterrupt

        dict(gpt.named_modules())[place].register_forward_hook(fail)
        with no_grad():
            memo.features([[*PROMPT, 6, 6]])
            broken[0] = True
            with pytest.raises(KeyboardInterrupt):
                memo.features([[*PROMPT, 9, 2]])
            broken[0] = False
            text = [[*PROMPT, *end]]
            got = memo.features(text).data
            assert np.abs(got - gpt.features(text).data[:, -got.shape[1] :]).max() < 1e-12

    def test_a_text_the_model_refuses_does_no_harm(self):
        gpt = model(np.float64)
        memo = Memoized(gpt)
        with no_grad():
            memo.features([PROMPT])
            with pytest.raises(ValueError, match="longer than max_seq_len"):
                memo.features([PROMPT * 3])
            got = memo.features([[*PROMPT, 9]]).data
            assert np.abs(got - gpt.features([[*PROMPT, 9]]).data[:, 5:]).max() < 1e-12

    def test_it_starts_with_an_empty_cache(self):
        gpt = model(np.float64)
        cache = KVCache.for_model(gpt)
        with no_grad():
            gpt([PROMPT], cache=cache)
            got = Memoized(gpt, cache).features([PROMPT[::-1]]).data
            assert np.abs(got - gpt.features([PROMPT[::-1]]).data).max() < 1e-12


WAYS = [{"temperature": 0}, {}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.8}, {"temperature": 2.0}]


class TestTokens:
    @pytest.mark.parametrize("options", WAYS)
    @pytest.mark.parametrize("count", [1, 7, 8, 9, 30])
    def test_they_are_those_of_the_model(self, options, count):
        gpt = model()
        want = gpt.generate(PROMPT, count, **options, rng=1, use_cache=False)
        assert Memoized(gpt).generate(PROMPT, count, **options, rng=1) == want
        assert len(want) == 5 + count

    @pytest.mark.parametrize("options", WAYS)
    def test_also_of_a_batch(self, options):
        gpt, prompts = model(), texts(3, 4)
        memo = Memoized(gpt, KVCache.for_model(gpt, 3))
        for seed in (1, 2):
            want = gpt.generate(prompts, 15, **options, rng=seed, use_cache=False)
            assert (memo.generate(prompts, 15, **options, rng=seed) == want).all()

    @pytest.mark.parametrize("prompt", [[6], PROMPT, PROMPT * 4])
    def test_also_of_prompts_of_any_length(self, prompt):
        gpt = model()
        want = gpt.generate(prompt, 10, rng=1, use_cache=False)
        assert len(set(want[len(prompt) :])) > 2
        assert Memoized(gpt).generate(prompt, 10, rng=1) == want

    def test_one_after_the_other_does_not_matter(self):
        gpt = model()
        memo = Memoized(gpt)
        for prompt in ([6], PROMPT, PROMPT * 4, [6, 7], PROMPT):
            assert memo.generate(prompt, 9, rng=3) == gpt.generate(prompt, 9, rng=3, use_cache=False)

    def test_stop_ends_the_text(self):
        gpt = model()
        free = gpt.generate(PROMPT, 20, rng=3)
        want = gpt.generate(PROMPT, 20, stop=free[9], rng=3)
        assert Memoized(gpt).generate(PROMPT, 20, stop=free[9], rng=3) == want != free

    @pytest.mark.parametrize("form", [list, np.array, Tensor])
    def test_they_come_in_the_form_of_the_prompt(self, form):
        gpt = model()
        tokens = Memoized(gpt).generate(form(PROMPT), 3, rng=0)
        assert type(tokens) is type(form(PROMPT))
        assert np.asarray(tokens).tolist() == gpt.generate(PROMPT, 3, rng=0)

    def test_stream_yields_what_generate_returns(self):
        memo = Memoized(model())
        tokens = list(memo.stream(PROMPT, 10, rng=0))
        assert [type(token) for token in tokens] == [int] * 10
        assert PROMPT + tokens == memo.generate(PROMPT, 10, rng=0)

    def test_the_functions_of_sampling_take_it_for_a_model(self):
        gpt = model()
        memo, want = Memoized(gpt), gpt.generate(PROMPT, 10, rng=0)
        assert generate(memo, PROMPT, 10, rng=0, use_cache=False) == want
        assert PROMPT + list(stream(memo, PROMPT, 10, rng=0, use_cache=False)) == want

    def test_the_seed_of_the_library_is_used_once(self):
        gpt, found = model(), []
        for writer in (gpt, Memoized(gpt)):
            manual_seed(4)
            found.append(writer.generate(PROMPT, 12))
        assert found[0] == found[1]

    def test_no_new_tokens(self):
        assert Memoized(model()).generate(PROMPT, 0) == PROMPT


class TestReading:
    def test_every_token_is_read_once(self):
        gpt = model()
        memo, read = Memoized(gpt), watched(gpt)
        memo.generate(PROMPT, 8, rng=0)
        assert read == [5] + [1] * 7

    def test_a_text_that_goes_on_is_read_from_where_it_ended(self):
        gpt = model()
        memo, read = Memoized(gpt), watched(gpt)
        text = memo.generate(PROMPT, 2, rng=0)
        read.clear()
        memo.generate([*text, 9, 2], 3, rng=0)
        assert read == [3, 1, 1]  # the token found last, and the two new ones

    def test_a_beginning_that_is_shared_is_read_once(self):
        gpt = model()
        memo, read = Memoized(gpt), watched(gpt)
        for end in ([1, 2], [6, 7], [6, 8]):
            assert memo.generate([*PROMPT, *end], 2, rng=0) == gpt.generate([*PROMPT, *end], 2, rng=0)
        assert read[::4] == [7, 2, 1]

    def test_past_the_longest_text_the_window_is_read_anew(self):
        gpt = model()
        memo, read = Memoized(gpt), watched(gpt)
        memo.generate(PROMPT, 10, temperature=0)
        assert read[:8] == [5] + [1] * 7
        assert min(read[8:]) > 1

    def test_the_mode_is_as_before_and_nothing_is_recorded_inside(self):
        gpt, seen = model(dropout=0.5), []
        gpt.norm.register_forward_hook(lambda layer, *_: seen.append((is_grad_enabled(), layer.training)))
        memo = Memoized(gpt)
        want = model().generate(PROMPT, 5, rng=0)
        assert memo.generate(PROMPT, 5, rng=0) == want
        assert seen == [(False, False)] * 5
        assert is_grad_enabled()
        assert {layer.training for layer in gpt.modules()} == {True}

    def test_it_prints_what_it_holds(self):
        memo = Memoized(model())
        memo.generate(PROMPT, 2, rng=0)
        assert repr(memo).startswith("Memoized(GPT, KVCache(batch_size=1, max_seq_len=12, num_layers=3,")
        assert repr(memo).endswith("position=6))")


class TestErrors:
    SIZES = {
        "layers": ((1, T, 2, 4, 4), "3 layers with 4 heads of 4 needs .* got one for 2 layers with 4 heads of 4"),
        "more layers": ((1, T, 4, 4, 4), "got one for 4 layers with 4 heads of 4"),
        "heads": ((1, T, 3, 2, 4), "got one for 3 layers with 2 heads of 4"),
        "head size": ((1, T, 3, 4, 8), r"got one for 3 layers with 4 heads of 8; KVCache.for_model\(model\) fits"),
    }

    @pytest.mark.parametrize(("sizes", "match"), SIZES.values(), ids=SIZES)
    def test_a_cache_that_does_not_fit_the_model(self, sizes, match):
        with pytest.raises(ValueError, match=f"Memoized: a model of .*{match}"):
            Memoized(model(), KVCache(*sizes))

    @pytest.mark.parametrize("method", ["generate", "stream"])
    def test_a_cache_for_another_batch_size(self, method):
        gpt = model()
        memo, read = Memoized(gpt, KVCache.for_model(gpt, 2)), watched(gpt)
        with pytest.raises(ValueError, match="Memoized: the cache is for 2 texts at a time, got 1; make one for this"):
            getattr(memo, method)(PROMPT, 3)
        assert read == []

    @pytest.mark.parametrize("method", ["generate", "stream"])
    def test_a_cache_without_enough_room(self, method):
        gpt = model()
        memo, read = Memoized(gpt, KVCache.for_model(gpt, max_seq_len=7)), watched(gpt)
        with pytest.raises(
            ValueError, match="5 tokens and 4 new ones need 8 places, the cache has 7; make max_seq_len"
        ):
            getattr(memo, method)(PROMPT, 4)
        assert read == []

    def test_a_cache_with_just_enough_room(self):
        gpt = model()
        memo = Memoized(gpt, KVCache.for_model(gpt, max_seq_len=7))
        assert memo.generate(PROMPT, 3, rng=0) == gpt.generate(PROMPT, 3, rng=0)
        assert memo.generate(PROMPT, 0) == PROMPT

    @pytest.mark.parametrize(
        ("arguments", "options", "error", "match"),
        [
            (("hello", 3), {}, TypeError, "generate needs tokens, got text"),
            (([], 3), {}, ValueError, "at least one token"),
            ((PROMPT, -1), {}, ValueError, "max_new_tokens"),
            ((PROMPT, 1.5), {}, TypeError, "generate needs an integer max_new_tokens, got 1.5"),
            ((PROMPT, 3), {"temperature": math.nan}, ValueError, "temperature"),
            ((PROMPT, 3), {"stop": V}, ValueError, f"generate's stop: token {V} is out of range"),
        ],
    )
    def test_what_the_model_refuses_is_refused_as_it_does(self, arguments, options, error, match):
        with pytest.raises(error, match=match):
            Memoized(model()).generate(*arguments, **options)

    @pytest.mark.parametrize("tokens", [PROMPT, [PROMPT, PROMPT], [[]], [[PROMPT]]])
    def test_features_need_the_batch_of_the_cache(self, tokens):
        with pytest.raises(ValueError, match=r"Memoized: the cache is for texts \(1, T\), T of at least 1, got \("):
            Memoized(model()).features(tokens)

    def test_features_need_tokens_of_the_vocabulary(self):
        with pytest.raises(ValueError, match=f"Memoized: token {V} is out of range"):
            Memoized(model()).features([[V]])
