"""What holds for texts, pieces and editions of any kind."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.core.autograd import no_grad
from tinytorch.core.tensor import from_numpy
from tinytorch.generation.kv_cache import KVCache, Memoized, cache_bytes, shared_prefix
from tinytorch.models.transformer import GPT

fixed = settings(derandomize=True, deadline=None, max_examples=25)
V, T = 11, 9
MODEL = GPT(V, 8, 2, 2, T, rng=0)
for p in MODEL.parameters():
    p.data = p.data.astype(np.float64) * 8
tokens = st.lists(st.integers(0, V - 1), min_size=1, max_size=T)
few = st.lists(st.integers(0, 1), max_size=6)  # texts of two letters, which often begin alike
sizes = st.integers(1, 5)


@fixed
@given(tokens, st.lists(st.integers(0, T), max_size=6))
def test_a_text_in_any_pieces_gives_the_same_logits(text, cuts):
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    cache = KVCache.for_model(MODEL)
    with no_grad():
        parts = [MODEL([text[a:b]], cache=cache).data for a, b in zip(bounds, bounds[1:]) if a < b]
        assert np.abs(np.concatenate(parts, axis=1) - MODEL([text]).data).max() < 1e-12


@fixed
@given(st.lists(tokens, min_size=1, max_size=6))
def test_texts_in_any_order_give_the_same_features(texts):
    memo = Memoized(MODEL)
    with no_grad():
        for text in texts:
            got = memo.features([text]).data
            assert np.abs(got - MODEL.features([text]).data[:, -got.shape[1] :]).max() < 1e-12


@fixed
@given(st.lists(few.filter(bool), min_size=1, max_size=8))
def test_texts_that_begin_alike_give_the_same_features(texts):
    memo, known = Memoized(MODEL), []
    with no_grad():
        for text in texts:
            got = memo.features([text]).data
            alike = next((i for i, (a, b) in enumerate(zip(known, text)) if a != b), min(len(known), len(text)))
            assert got.shape[1] == len(text) - min(alike, len(text) - 1)
            assert np.abs(got - MODEL.features([text]).data[:, -got.shape[1] :]).max() < 1e-12
            known = text


@fixed
@given(tokens, st.integers(0, 14), st.integers(0, 100), st.sampled_from([0, 0.5, 1.0, 3.0]))
def test_a_memory_changes_no_token(prompt, count, seed, temperature):
    want = MODEL.generate(prompt, count, temperature, rng=seed, use_cache=False)
    assert Memoized(MODEL).generate(prompt, count, temperature, rng=seed) == want


@fixed
@given(st.lists(st.tuples(few, few), min_size=1, max_size=3))
def test_a_shared_prefix_is_shared_and_could_not_be_longer(rows):
    width = [min(len(pair[side]) for pair in rows) for side in (0, 1)]
    a, b = (np.array([pair[side][: width[side]] for pair in rows], np.intp).reshape(len(rows), -1) for side in (0, 1))
    n = shared_prefix(a, b)
    assert (a[:, :n] == b[:, :n]).all()
    assert n == min(a.shape[1], b.shape[1]) or (a[:, n] != b[:, n]).any()


@fixed
@given(st.lists(st.one_of(st.integers(1, 4), st.integers(-6, 0)), max_size=12))
def test_appending_and_taking_back_is_a_list_with_a_limit(steps):
    cache, kept, count = KVCache(1, 10, 2, 1, 1), [], 0
    for step in steps:
        if step > 0 and len(kept) + step <= 10:
            new = np.arange(count, count + step, dtype=np.float32)
            count += step
            kept += new.tolist()
            for layer in cache:
                k, v = layer.append(*(from_numpy((sign * new)[None, None, :, None]) for sign in (1, -1)))
                assert k.data.ravel().tolist() == kept
                assert (-v.data).ravel().tolist() == kept
        elif step <= 0:
            cache.truncate(max(0, len(kept) + step))
            del kept[max(0, len(kept) + step) :]
        assert cache.position == len(kept)


@fixed
@given(sizes, sizes, sizes, sizes, sizes, st.sampled_from([np.float16, np.float32, np.float64]))
def test_the_formula_is_what_is_held(N, S, layers, heads, D, dtype):
    assert KVCache(N, S, layers, heads, D, dtype).nbytes == cache_bytes(N, S, layers, heads, D, dtype)
