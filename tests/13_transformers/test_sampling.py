"""From logits to probabilities to a token."""

import math

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.models.sampling import sample, token_probabilities

FIVE = np.log([0.4, 0.3, 0.15, 0.1, 0.05])  # five logits whose softmax can be read off
RNG = np.random.default_rng(0)


class TestProbabilities:
    def test_by_default_a_softmax(self):
        assert_close(token_probabilities(FIVE), np.array([0.4, 0.3, 0.15, 0.1, 0.05]))

    @pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 2.0, 10.0])
    def test_temperature_divides_the_logits(self, temperature):
        want = np.exp(FIVE / temperature)
        assert_close(token_probabilities(FIVE, temperature), want / want.sum())

    def test_half_the_temperature_squares_the_probabilities(self):
        p = np.array([0.4, 0.3, 0.15, 0.1, 0.05]) ** 2
        assert_close(token_probabilities(FIVE, 0.5), p / p.sum())

    @pytest.mark.parametrize("temperature", [0, 0.0, 1e-3, 1e-300, 5e-324])
    def test_at_or_near_temperature_0_the_likeliest_is_sure(self, temperature):
        assert_close(token_probabilities(FIVE, temperature), np.array([1.0, 0, 0, 0, 0]), rtol=0, atol=1e-12)

    def test_at_a_huge_temperature_all_are_alike(self):
        assert_close(token_probabilities(FIVE, 1e300), np.full(5, 0.2))

    def test_of_equals_the_first_is_sure_at_temperature_0(self):
        assert token_probabilities([1.0, 2.0, 2.0], 0).tolist() == [0, 1, 0]

    @pytest.mark.parametrize(
        ("k", "want"),
        [
            (1, [1, 0, 0, 0, 0]),
            (2, [4 / 7, 3 / 7, 0, 0, 0]),
            (3, [0.4 / 0.85, 0.3 / 0.85, 0.15 / 0.85, 0, 0]),
            (5, [0.4, 0.3, 0.15, 0.1, 0.05]),
            (99, [0.4, 0.3, 0.15, 0.1, 0.05]),
        ],
    )
    def test_top_k_keeps_the_k_likeliest(self, k, want):
        assert_close(token_probabilities(FIVE, top_k=k), np.array(want, float))

    def test_top_k_keeps_exactly_k_of_equals_the_first_ones(self):
        assert token_probabilities(np.zeros(5), top_k=2).tolist() == [0.5, 0.5, 0, 0, 0]

    @pytest.mark.parametrize(
        ("p", "kept"), [(1e-9, 1), (0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.84, 3), (0.86, 4), (0.96, 5), (1, 5)]
    )
    def test_top_p_keeps_as_few_as_reach_p(self, p, kept):
        want = np.array([0.4, 0.3, 0.15, 0.1, 0.05]) * (np.arange(5) < kept)
        assert_close(token_probabilities(FIVE, top_p=p), want / want.sum())

    def test_the_token_that_reaches_p_exactly_is_the_last_one_kept(self):
        assert token_probabilities(np.zeros(4), top_p=0.5).tolist() == [0.5, 0.5, 0, 0]

    def test_top_p_of_1_keeps_even_what_is_next_to_impossible(self):
        p = token_probabilities([0.0, -700.0], top_p=1.0)
        assert p[1] > 0

    def test_the_order_of_the_tokens_does_not_matter(self):
        order = np.array([3, 0, 4, 2, 1])
        for options in ({"top_k": 3}, {"top_p": 0.8}, {"top_k": 4, "top_p": 0.6}):
            assert_close(token_probabilities(FIVE[order], **options), token_probabilities(FIVE, **options)[order])

    def test_top_p_counts_what_top_k_has_left(self):
        p = token_probabilities(FIVE, top_k=2, top_p=0.55)  # of 4/7 and 3/7 the first alone reaches 0.55
        assert_close(p, np.array([1.0, 0, 0, 0, 0]))

    def test_temperature_comes_before_top_p(self):
        sharp = token_probabilities(FIVE, temperature=0.25, top_p=0.7)  # 0.4^4 is 0.74 of the sum of fourth powers
        assert_close(sharp, np.array([1.0, 0, 0, 0, 0]))

    def test_every_row_of_a_batch_for_itself(self):
        logits = RNG.normal(size=(2, 3, 7))
        for options in ({}, {"temperature": 0}, {"top_k": 2}, {"top_p": 0.5}):
            p = token_probabilities(logits, **options)
            assert p.shape == (2, 3, 7)
            assert_close(p[1, 2], token_probabilities(logits[1, 2], **options))

    def test_tensors_in_float32_give_float64(self):
        p = token_probabilities(Tensor(FIVE))
        assert p.dtype == np.float64
        assert_close(p, np.array([0.4, 0.3, 0.15, 0.1, 0.05]), rtol=1e-6)

    def test_logits_are_not_changed(self):
        logits = FIVE.copy()
        token_probabilities(logits, 0.5, 2, 0.9)
        assert (logits == FIVE).all()

    def test_forbidden_tokens_stay_at_0_and_large_logits_are_safe(self):
        p = token_probabilities([1e4, -math.inf, 1e4, -1e4])
        assert p.tolist() == [0.5, 0, 0.5, 0]

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("temperature", [0, 1.0])
    def test_a_broken_model_is_reported(self, bad, temperature):
        with pytest.raises(ValueError, match="logits that are numbers.*the model is broken"):
            token_probabilities([[0.0, 1.0], [0.0, bad]], temperature)

    def test_a_row_that_forbids_everything_is_reported(self):
        with pytest.raises(ValueError, match="the model is broken"):
            token_probabilities([-math.inf, -math.inf])

    @pytest.mark.parametrize("temperature", [-1, -1e-9, math.nan, math.inf])
    def test_a_temperature_below_0(self, temperature):
        with pytest.raises(ValueError, match="sampling needs 0 <= temperature < inf, got"):
            token_probabilities(FIVE, temperature)

    @pytest.mark.parametrize(("k", "error"), [(0, ValueError), (-2, ValueError), (1.5, TypeError), ("3", TypeError)])
    def test_a_top_k_that_is_no_count(self, k, error):
        with pytest.raises(error, match="sampling needs .*top_k"):
            token_probabilities(FIVE, top_k=k)

    @pytest.mark.parametrize("p", [0, -0.1, 1.0001, math.nan])
    def test_a_top_p_that_is_no_probability(self, p):
        with pytest.raises(ValueError, match="sampling needs 0 <=? ?top_p"):
            token_probabilities(FIVE, top_p=p)


class TestSample:
    @pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.8}])
    def test_tokens_come_as_often_as_their_probabilities_say(self, options):
        n = 40_000
        tokens = sample(np.broadcast_to(FIVE, (n, 5)), **options, rng=0)
        assert_close(np.bincount(tokens, minlength=5) / n, token_probabilities(FIVE, **options), atol=0.01, rtol=0)

    def test_one_row_gives_one_token_and_a_batch_one_each(self):
        assert np.shape(sample(FIVE, rng=0)) == ()
        assert sample(np.zeros((2, 3, 5)), rng=0).shape == (2, 3)

    def test_what_has_probability_0_is_never_drawn(self):
        logits = np.array([-math.inf, 0.0, -math.inf, 0.0, -math.inf])
        assert set(sample(np.broadcast_to(logits, (2000, 5)), rng=0).tolist()) == {1, 3}

    @pytest.mark.parametrize("options", [{"temperature": 0}, {"top_k": 1}, {"top_p": 1e-9}])
    def test_the_likeliest(self, options):
        logits = RNG.normal(size=(50, 9))
        assert (sample(logits, **options, rng=0) == logits.argmax(axis=-1)).all()

    def test_the_likeliest_of_equals_is_the_first(self):
        for options in ({"temperature": 0}, {"top_k": 1}):
            assert sample(np.array([0.0, 3.0, 3.0, 3.0]), **options) == 1

    def test_temperature_0_draws_nothing(self):
        rng = np.random.default_rng(0)
        sample(FIVE, temperature=0, rng=rng)
        assert rng.random() == np.random.default_rng(0).random()

    def test_seeds_repeat(self):
        logits = np.zeros((20, 50))
        assert (sample(logits, rng=7) == sample(logits, rng=7)).all()
        assert (sample(logits, rng=7) != sample(logits, rng=8)).any()

    def test_by_default_the_generator_of_the_library_draws(self):
        logits, drawn = np.zeros((20, 50)), []
        for _ in range(2):
            manual_seed(3)
            drawn.append(sample(logits).tolist())
        assert drawn[0] == drawn[1]
