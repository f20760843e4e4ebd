"""From a prompt to a text: generate and stream."""

import math

import numpy as np
import pytest

from tinytorch.core.autograd import is_grad_enabled, no_grad
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.models.sampling import generate, stream
from tinytorch.models.transformer import GPT

V, T = 20, 12
PROMPT = [3, 1, 4, 1, 5]


def model(**options):
    """A model whose next token depends on what it has read: its weights are larger than at the start of training."""
    gpt = GPT(
        **{"vocab_size": V, "embed_dim": 16, "num_layers": 2, "num_heads": 4, "max_seq_len": T, "rng": 0} | options
    )
    for p in gpt.parameters():
        if p.ndim == 2:
            p.data = p.data * 12
    return gpt


def by_hand(gpt, prompt, count):
    """Greedy, the plainest way."""
    tokens = list(prompt)
    for _ in range(count):
        with no_grad():
            tokens.append(int(gpt.eval()([tokens[-T:]]).data[0, -1].argmax()))
    return tokens


WAYS = [{}, {"temperature": 0}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.8}, {"temperature": 2.0}]


class TestTokens:
    @pytest.mark.parametrize("use_cache", [True, False])
    @pytest.mark.parametrize("prompt", [[6], PROMPT, PROMPT * 4])
    def test_greedy_takes_the_likeliest_token_again_and_again(self, prompt, use_cache):
        gpt = model()
        want = by_hand(gpt, prompt, 20)
        assert len(set(want[len(prompt) :])) > 2
        assert gpt.generate(prompt, 20, temperature=0, use_cache=use_cache) == want

    @pytest.mark.parametrize("options", WAYS)
    @pytest.mark.parametrize("count", [1, 5, 7, 8, 30])
    def test_a_cache_changes_no_token(self, options, count):
        gpt = model()
        with_cache = gpt.generate(PROMPT, count, **options, rng=1)
        assert with_cache == gpt.generate(PROMPT, count, **options, rng=1, use_cache=False)
        assert len(with_cache) == 5 + count

    def test_top_k_of_1_and_a_tiny_top_p_are_greedy(self):
        gpt = model()
        want = gpt.generate(PROMPT, 10, temperature=0)
        assert gpt.generate(PROMPT, 10, top_k=1, rng=5) == want
        assert gpt.generate(PROMPT, 10, top_p=1e-9, rng=6) == want

    def test_a_top_p_of_1_leaves_all(self):
        gpt = model()
        assert gpt.generate(PROMPT, 10, top_p=1.0, rng=5) == gpt.generate(PROMPT, 10, rng=5)
        assert gpt.generate(PROMPT, 10, top_k=V, rng=5) == gpt.generate(PROMPT, 10, rng=5)

    def test_seeds_repeat(self):
        gpt = model()
        first, second, third = (gpt.generate(PROMPT, 12, rng=seed) for seed in (1, 1, 2))
        assert first == second != third

    def test_the_seed_of_the_library_repeats(self):
        gpt, texts = model(), []
        for _ in range(2):
            manual_seed(4)
            texts.append(gpt.generate(PROMPT, 12))
        assert texts[0] == texts[1]

    def test_greedy_needs_no_seed(self):
        gpt = model()
        assert gpt.generate(PROMPT, 12, temperature=0) == gpt.generate(PROMPT, 12, temperature=0)

    def test_only_allowed_tokens_are_drawn(self):
        gpt = model()
        tokens = gpt.generate(PROMPT, 7, top_k=2, rng=0)
        for t in range(5, 12):
            assert tokens[t] in np.argsort(-gpt([tokens[:t]]).data[0, -1])[:2]

    def test_no_new_tokens(self):
        assert model().generate(PROMPT, 0) == PROMPT

    def test_far_beyond_the_longest_text(self):
        tokens = model().generate(PROMPT, 50, rng=0)
        assert len(tokens) == 55
        assert tokens[:5] == PROMPT
        assert all(0 <= token < V for token in tokens)

    def test_a_prompt_longer_than_the_model_is_kept_and_its_end_is_read(self):
        gpt, prompt = model(), list(np.random.default_rng(0).integers(0, V, 30).tolist())
        tokens = gpt.generate(prompt, 3, temperature=0)
        assert tokens[:30] == prompt
        assert tokens[30:] == gpt.generate(prompt[-T:], 3, temperature=0)[T:]

    def test_dropout_is_off(self):
        gpt, plain = model(dropout=0.9), model()
        assert gpt.generate(PROMPT, 15, rng=0) == plain.generate(PROMPT, 15, rng=0)

    def test_functions_and_methods_are_the_same(self):
        gpt = model()
        assert generate(gpt, PROMPT, 5, rng=0) == gpt.generate(PROMPT, 5, rng=0)
        assert list(stream(gpt, PROMPT, 5, rng=0)) == list(gpt.stream(PROMPT, 5, rng=0))


class TestForms:
    def test_a_list_gives_a_list_of_integers(self):
        tokens = model().generate(PROMPT, 3, rng=0)
        assert [type(token) for token in tokens] == [int] * 8

    def test_an_array_gives_an_array(self):
        tokens = model().generate(np.array(PROMPT), 3, rng=0)
        assert (type(tokens), tokens.shape, tokens.dtype.kind) == (np.ndarray, (8,), "i")

    def test_a_tensor_gives_a_tensor(self):
        tokens = model().generate(Tensor([PROMPT, PROMPT]), 3, rng=0)
        assert (type(tokens), tokens.shape, tokens.requires_grad) == (Tensor, (2, 8), False)

    def test_lists_of_lists_give_lists_of_lists(self):
        tokens = model().generate([PROMPT, PROMPT[::-1]], 3, rng=0)
        assert [len(row) for row in tokens] == [8, 8]

    @pytest.mark.parametrize("form", [list, np.array, Tensor])
    def test_all_forms_say_the_same(self, form):
        gpt = model()
        assert np.asarray(gpt.generate(form(PROMPT), 6, rng=0)).tolist() == gpt.generate(PROMPT, 6, rng=0)

    def test_small_integers_do_not_wrap_around(self):
        gpt = GPT(300, 16, 1, 4, T, rng=0)
        tokens = gpt.generate(np.array([1, 2], np.uint8), 30, temperature=5.0, rng=0)
        assert tokens.max() > 255

    def test_the_prompt_is_not_changed(self):
        for prompt in (np.array(PROMPT), Tensor(PROMPT)):
            model().generate(prompt, 3, rng=0)
            assert np.asarray(prompt).tolist() == PROMPT

    def test_a_batch_says_what_each_says_alone(self):
        gpt = model()
        prompts = np.random.default_rng(0).integers(0, V, (4, 5))
        together = gpt.generate(prompts, 15, temperature=0)
        for row, prompt in zip(together, prompts):
            assert row.tolist() == gpt.generate(prompt.tolist(), 15, temperature=0)

    @pytest.mark.parametrize("options", WAYS)
    def test_a_batch_with_and_without_cache(self, options):
        gpt = model()
        prompts = np.random.default_rng(0).integers(0, V, (3, 4))
        a, b = (gpt.generate(prompts, 15, **options, rng=2, use_cache=use) for use in (True, False))
        assert (a == b).all()

    def test_equal_prompts_of_a_batch_draw_differently(self):
        tokens = model().generate([PROMPT] * 8, 5, temperature=3.0, rng=0)
        assert len({tuple(row) for row in tokens}) > 4


class TestStop:
    def test_the_text_ends_with_the_token_to_stop_at(self):
        gpt = model()
        free = gpt.generate(PROMPT, 20, rng=3)
        stop = free[9]
        first = 5 + free[5:].index(stop)
        assert gpt.generate(PROMPT, 20, stop=stop, rng=3) == free[: first + 1]

    @pytest.mark.parametrize("form", [list, set, tuple, np.array])
    def test_several_tokens_to_stop_at(self, form):
        gpt = model()
        free = gpt.generate(PROMPT, 20, rng=3)
        stops = [free[12], free[9]]
        first = min(5 + free[5:].index(token) for token in stops)
        assert gpt.generate(PROMPT, 20, stop=form(stops), rng=3) == free[: first + 1]

    def test_a_token_to_stop_at_in_the_prompt_stops_nothing(self):
        gpt = model()
        free = gpt.generate(PROMPT, 8, rng=3)
        stop = next(token for token in PROMPT if token not in free[5:])
        assert gpt.generate(PROMPT, 8, stop=stop, rng=3) == free

    def test_nobody_to_stop_at(self):
        gpt = model()
        assert gpt.generate(PROMPT, 8, stop=[], rng=3) == gpt.generate(PROMPT, 8, rng=3)

    def test_a_text_that_ended_repeats_its_last_token_until_all_have(self):
        gpt = model()
        prompts = np.random.default_rng(1).integers(0, V, (4, 5))
        tokens = gpt.generate(prompts, 60, stop=7, temperature=3.0, rng=0)[:, 5:]
        ends = [row.tolist().index(7) for row in tokens]
        assert len(set(ends)) > 1
        assert tokens.shape[1] == max(ends) + 1
        for row, end in zip(tokens, ends):
            assert (row[end:] == 7).all()


class TestStream:
    def test_it_yields_what_generate_returns_one_by_one(self):
        gpt = model()
        tokens = list(gpt.stream(PROMPT, 10, rng=0))
        assert [type(token) for token in tokens] == [int] * 10
        assert PROMPT + tokens == gpt.generate(PROMPT, 10, rng=0)

    def test_a_batch_yields_a_token_for_each(self):
        gpt = model()
        rows = list(gpt.stream([PROMPT, PROMPT[::-1]], 10, rng=0))
        assert [row.shape for row in rows] == [(2,)] * 10
        assert np.stack(rows, axis=1).tolist() == [row[5:] for row in gpt.generate([PROMPT, PROMPT[::-1]], 10, rng=0)]

    def test_a_batch_of_one_stays_a_batch(self):
        assert next(model().stream([PROMPT], 1)).shape == (1,)

    def test_tokens_come_as_they_are_found(self):
        gpt, seen = model(), []
        gpt.norm.register_forward_hook(lambda *_: seen.append(1))
        tokens = gpt.stream(PROMPT, 10, rng=0)
        assert seen == []
        next(tokens)
        next(tokens)
        assert len(seen) == 2

    def test_with_a_cache_every_token_is_read_once(self):
        gpt, read = model(), []
        gpt.norm.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
        gpt.generate(PROMPT, 8, rng=0)
        assert read == [5] + [1] * 7
        read.clear()
        gpt.generate(PROMPT, 8, rng=0, use_cache=False)
        assert read == [5, 6, 7, 8, 9, 10, 11, 12]

    def test_past_the_longest_text_the_window_is_read_anew(self):
        gpt, read = model(), []
        gpt.norm.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[1]))
        gpt.generate(PROMPT, 10, rng=0)
        assert read == [5] + [1] * 7 + [12, 12]

    def test_what_is_yielded_may_be_changed(self):
        gpt = model()
        want = gpt.generate([PROMPT], 8, rng=0)[0][5:]
        got = []
        for row in gpt.stream([PROMPT], 8, rng=0):
            got.append(int(row[0]))
            row[:] = 0
        assert got == want

    def test_logits_are_computed_for_the_last_place_only(self):
        gpt, shapes = model(), []
        head = gpt.head
        gpt.head = lambda x: shapes.append(x.shape) or head(x)
        gpt.generate([PROMPT, PROMPT], 3, rng=0)
        assert shapes == [(2, 16)] * 3


class TestModes:
    def flags(self, gpt):
        return [layer.training for layer in gpt.modules()]

    @pytest.mark.parametrize("mode", [True, False])
    def test_the_mode_is_as_before(self, mode):
        gpt = model(dropout=0.5).train(mode)
        gpt.generate(PROMPT, 3)
        assert set(self.flags(gpt)) == {mode}

    def test_a_part_in_another_mode_stays_in_it(self):
        gpt = model(dropout=0.5)
        gpt.blocks[0].eval()
        before = self.flags(gpt)
        gpt.generate(PROMPT, 3)
        assert self.flags(gpt) == before
        assert len(set(before)) == 2

    def test_between_two_tokens_training_goes_on(self):
        gpt = model(dropout=0.5)
        for _ in gpt.stream(PROMPT, 3):
            assert is_grad_enabled()
            assert set(self.flags(gpt)) == {True}

    def test_inside_nothing_is_recorded_and_the_model_is_evaluated(self):
        gpt, seen = model(dropout=0.5), []
        gpt.norm.register_forward_hook(lambda layer, *_: seen.append((is_grad_enabled(), layer.training)))
        gpt.generate(PROMPT, 3)
        assert seen == [(False, False)] * 3

    @pytest.mark.parametrize("outside", [True, False])
    def test_an_error_inside_leaves_everything_as_before(self, outside):
        gpt = model(dropout=0.5)

        def fail(*_):
            raise RuntimeError("out of paper")

        gpt.blocks[1].register_forward_hook(fail)
        recording = set()
        if outside:
            with pytest.raises(RuntimeError, match="out of paper"):
                gpt.generate(PROMPT, 3)
            recording.add(is_grad_enabled())
        else:
            with no_grad(), pytest.raises(RuntimeError, match="out of paper"):
                gpt.generate(PROMPT, 3)
            recording.add(is_grad_enabled())
        assert recording == {True}
        assert set(self.flags(gpt)) == {True}

    def test_a_stream_that_is_abandoned_leaves_everything_as_before(self):
        gpt = model(dropout=0.5)
        tokens = gpt.stream(PROMPT, 30)
        next(tokens)
        tokens.close()
        assert is_grad_enabled()
        assert set(self.flags(gpt)) == {True}

    def test_no_gradient_is_left_behind(self):
        gpt = model()
        gpt.generate(PROMPT, 3)
        assert [p.grad for p in gpt.parameters()] == [None] * len(gpt.parameters())


class TestErrors:
    """Raised when called, not when the first token is asked for, and before the model is."""

    CASES = {
        "text": (("hello", 3), {}, TypeError, "generate needs tokens, got text; encode it first"),
        "nothing": (([], 3), {}, ValueError, r"generate needs a prompt of at least one token, got shape \(0,\)"),
        "empty rows": (([[], []], 3), {}, ValueError, r"at least one token, got shape \(2, 0\)"),
        "no rows": ((np.zeros((0, 4), int), 3), {}, ValueError, r"at least one token, got shape \(0, 4\)"),
        "floats": (([1.0, 2.0], 3), {}, TypeError, "generate needs whole numbers as tokens, got float32"),
        "booleans": (([True], 3), {}, TypeError, "generate needs whole numbers as tokens, got bool"),
        "ragged": (([[1, 2], [3]], 3), {}, ValueError, "generate needs prompts of one length"),
        "three axes": ((np.zeros((1, 2, 3), int), 3), {}, ValueError, r"\(T,\) or \(N, T\), got shape \(1, 2, 3\)"),
        "one number": ((4, 3), {}, ValueError, "got one number; put it in a list"),
        "too large": (([1, V], 3), {}, ValueError, f"token {V} is out of range 0 to {V - 1}; vocab_size"),
        "negative": (([1, -1], 3), {}, ValueError, f"token -1 is out of range 0 to {V - 1}"),
        "negative count": ((PROMPT, -1), {}, ValueError, "max_new_tokens"),
        "half a token": ((PROMPT, 1.5), {}, TypeError, "generate needs an integer max_new_tokens, got 1.5"),
        "temperature": ((PROMPT, 3), {"temperature": -0.5}, ValueError, "0 <= temperature < inf, got -0.5"),
        "temperature nan": ((PROMPT, 3), {"temperature": math.nan}, ValueError, "temperature"),
        "temperature text": ((PROMPT, 3), {"temperature": "hot"}, TypeError, "a number as temperature, got 'hot'"),
        "top_k": ((PROMPT, 3), {"top_k": 0}, ValueError, "top_k of at least 1, got 0"),
        "top_p 0": ((PROMPT, 3), {"top_p": 0.0}, ValueError, "0 < top_p <= 1, or None for all tokens, got 0.0"),
        "top_p above 1": ((PROMPT, 3), {"top_p": 1.5}, ValueError, "0 < top_p <= 1, or None for all tokens, got 1.5"),
        "stop": ((PROMPT, 3), {"stop": V}, ValueError, f"generate's stop: token {V} is out of range"),
        "stop text": ((PROMPT, 3), {"stop": "."}, TypeError, "generate's stop needs tokens, got text"),
    }

    @pytest.mark.parametrize(("arguments", "options", "error", "match"), CASES.values(), ids=CASES)
    @pytest.mark.parametrize("method", ["generate", "stream"])
    def test_what_makes_no_sense_is_refused_at_once(self, method, arguments, options, error, match):
        gpt, seen = model(), []
        gpt.embedding.register_forward_hook(lambda *_: seen.append(1))
        with pytest.raises(error, match=match):
            getattr(gpt, method)(*arguments, **options)
        assert seen == []

    def test_a_broken_model_is_reported_and_left_as_it_was(self):
        gpt = model(dropout=0.5)
        gpt.norm.bias.data = gpt.norm.bias.data * math.nan
        with pytest.raises(ValueError, match="the model is broken"):
            gpt.generate(PROMPT, 3)
        assert gpt.training
        assert is_grad_enabled()
