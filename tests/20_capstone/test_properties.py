"""What holds for texts, cuts and documents of any kind."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.applications.tinygpt import TinyGPT, draw_windows, step_problems, text_loss, whole_characters
from tinytorch.models.transformer import GPT
from tinytorch.text.tokenization import BPETokenizer

fixed = settings(derandomize=True, deadline=None, max_examples=25)
MODEL = GPT(11, 8, 1, 2, 5, rng=0).eval()
BYTES = BPETokenizer(260).train("a")
WRITER = TinyGPT(BYTES, GPT(260, 8, 1, 2, 16, rng=0))
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.one_of(st.integers(-3, 3), st.floats(), st.booleans(), st.none(), st.text(max_size=2))


def cut(data, cuts):
    bounds = [0, *sorted(min(place, len(data)) for place in cuts), len(data)]
    return [data[a:b] for a, b in zip(bounds, bounds[1:])]


@fixed
@given(words, st.lists(st.integers(0, 80), max_size=8))
def test_text_in_any_chunks_comes_out_whole(text, cuts):
    pieces = list(whole_characters(cut(text.encode(), cuts)))
    assert "".join(pieces) == text
    assert all(pieces)


@fixed
@given(st.binary(max_size=20), st.lists(st.integers(0, 20), max_size=8))
def test_any_bytes_in_any_chunks_are_what_decoding_them_at_once_gives(data, cuts):
    assert "".join(whole_characters(cut(data, cuts))) == data.decode(errors="replace")


@fixed
@given(st.integers(1, 8), st.integers(1, 20), st.integers(1, 5), st.integers(0, 99))
def test_windows_lie_within_the_text_and_targets_follow(T, more, N, seed):
    x, y = draw_windows(np.arange(T + more), T, N, np.random.default_rng(seed))
    assert x.shape == y.shape == (N, T)
    assert (y == x + 1).all()
    assert x.min() >= 0
    assert y.max() < T + more


@fixed
@given(st.lists(st.integers(0, 10), min_size=2, max_size=40), st.integers(1, 9))
def test_the_loss_is_the_mean_of_its_windows_by_length(ids, batch_size):
    windows = [ids[start : start + 6] for start in range(0, len(ids) - 1, 5)]
    total = sum(text_loss(MODEL, window) * (len(window) - 1) for window in windows)
    assert text_loss(MODEL, ids, batch_size) == pytest.approx(total / (len(ids) - 1), abs=1e-5)


@fixed
@given(words.filter(bool), st.integers(0, 10), st.integers(0, 99))
def test_what_is_streamed_is_what_is_generated(prompt, count, seed):
    tokens = list(WRITER.model.stream(WRITER.encode(prompt), count, 0.8, rng=seed))
    pieces = list(WRITER.stream(prompt, count, seed=seed))
    assert "".join(pieces) == BYTES.decode(tokens, skip_special=True)


@fixed
@given(
    st.fixed_dictionaries(
        {"name": st.text(max_size=2), "bytes": numbers, "quality": numbers},
        optional={"cache_bytes": numbers, "cpu_seconds": numbers},
    ),
    st.fixed_dictionaries({"median": numbers, "low": numbers, "high": numbers, "runs": numbers}),
)
def test_a_step_without_problems_is_json_with_an_interval(step, seconds):
    step["seconds"] = seconds
    if step_problems("step", step):
        return
    again = json.loads(json.dumps(step, allow_nan=False))
    assert again == step
    assert 0 <= seconds["low"] <= seconds["median"] <= seconds["high"]
    assert step["bytes"] >= 1 <= seconds["runs"]
    assert not {type(value) for value in [*step.values(), *seconds.values()]} - {int, float, str, dict}
