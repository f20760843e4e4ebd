"""What holds for vectors, logits and settings of any numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinytorch.core.tensor import Tensor
from tinytorch.models.sampling import sample, token_probabilities
from tinytorch.models.transformer import GPT, layer_norm, rms_norm

fixed = settings(derandomize=True, deadline=None, max_examples=60)
numbers = st.floats(-100, 100, width=32)
rows = arrays(np.float32, (3, 6), elements=numbers)
logits = arrays(np.float64, (2, 7), elements=st.floats(-50, 50))
ks, ps, temperatures = st.integers(1, 9), st.floats(0.01, 1), st.floats(0.05, 20)
MODEL = GPT(11, 8, 1, 2, 6, rng=0)


@fixed
@given(rows)
def test_layer_norm_gives_mean_0_and_variance_of_at_most_1(x):
    x, one, zero = (Tensor(a, dtype=np.float64) for a in (x, np.ones(6), np.zeros(6)))
    out = layer_norm(x, one, zero).data
    np.testing.assert_allclose(out.mean(axis=1), 0, atol=1e-9)
    assert (out.var(axis=1) < 1 + 1e-9).all()


@fixed
@given(rows, st.floats(-50, 50, width=32), st.floats(0.125, 50, width=32))
def test_layer_norm_forgets_where_and_how_large_a_vector_was(x, shift, factor):
    x = x.astype(np.float64) + np.linspace(0, 20, 6)  # no vector of equal numbers, whose variance is only rounding
    parameters = [Tensor(a, dtype=np.float64) for a in (np.ones(6), np.zeros(6))]
    plain, moved = (
        layer_norm(Tensor(y, dtype=np.float64), *parameters, eps=1e-12).data for y in (x, x * factor + shift)
    )
    np.testing.assert_allclose(moved, plain, atol=1e-5)


@fixed
@given(rows)
def test_rms_norm_keeps_the_direction(x):
    out = rms_norm(x, np.ones(6)).data
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(out, axis=1)
    np.testing.assert_allclose((x * out).sum(axis=1), lengths, rtol=1e-4, atol=1e-5)


@fixed
@given(rows, rows)
def test_gradients_of_norms_are_finite(x, weight):
    for norm, count in ((layer_norm, 2), (rms_norm, 1)):
        t = Tensor(x, requires_grad=True)
        norm(t, *np.ones((count, 6)), eps=1e-5).backward(weight)
        assert np.isfinite(t.grad).all()


@fixed
@given(logits, temperatures, st.none() | ks, st.none() | ps)
def test_probabilities_add_up_to_1_and_the_likeliest_is_always_there(x, temperature, k, p):
    q = token_probabilities(x, temperature, k, p)
    np.testing.assert_allclose(q.sum(axis=1), 1, rtol=1e-12)
    assert (q >= 0).all()
    assert (np.take_along_axis(q, x.argmax(axis=1)[:, None], axis=1) > 0).all()


@fixed
@given(logits, ks, ps)
def test_what_is_kept_is_likelier_than_what_is_not(x, k, p):
    for q in (token_probabilities(x, top_k=k), token_probabilities(x, top_p=p)):
        for row, kept in zip(x, q > 0):
            if not kept.all():
                assert row[kept].min() >= row[~kept].max()


@fixed
@given(logits, ps)
def test_top_p_keeps_enough_and_not_one_too_many(x, p):
    whole = token_probabilities(x)
    for full, kept in zip(whole, token_probabilities(x, top_p=p) > 0):
        assert full[kept].sum() >= p - 1e-9
        assert full[kept].sum() - full[kept].min() < p or full[kept].min() < 1e-15  # below what float64 can take off 1


@fixed
@given(logits, temperatures, temperatures)
def test_warmer_never_makes_the_likeliest_likelier(x, a, b):
    cold, warm = (token_probabilities(x, t).max(axis=1) for t in sorted((a, b)))
    assert (warm <= cold + 1e-12).all()


@fixed
@given(logits, st.integers(0, 2**31), st.none() | ks, st.none() | ps)
def test_what_is_drawn_was_possible(x, seed, k, p):
    tokens = sample(x, 1.0, k, p, rng=seed)
    assert (np.take_along_axis(token_probabilities(x, 1.0, k, p), tokens[:, None], axis=1) > 0).all()


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    st.lists(st.integers(0, 10), min_size=1, max_size=12),
    st.integers(0, 10),
    st.integers(0, 100),
    st.none() | ks,
    st.none() | ps,
)
def test_a_cache_changes_no_token(prompt, count, seed, k, p):
    with_cache = MODEL.generate(prompt, count, 1.0, k, p, rng=seed)
    assert with_cache == MODEL.generate(prompt, count, 1.0, k, p, rng=seed, use_cache=False)
    assert with_cache[: len(prompt)] == prompt
    assert len(with_cache) == len(prompt) + count
