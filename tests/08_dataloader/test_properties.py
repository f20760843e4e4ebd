"""What holds for data sets and loaders of any size."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinytorch.data.loader import DataLoader, Subset, TensorDataset, batch_indices, default_collate, random_split
from tinytorch.data.transforms import RandomCrop, RandomHorizontalFlip

fixed = settings(derandomize=True, deadline=None, max_examples=60)
sizes = st.integers(1, 60)
seeds = st.integers(0, 2**32)


@fixed
@given(n=sizes, batch_size=st.integers(1, 70), seed=seeds, workers=st.integers(0, 3), prefetch=st.integers(1, 4))
def test_an_epoch_shows_every_sample_exactly_once(n, batch_size, seed, workers, prefetch):
    loader = DataLoader(
        TensorDataset(np.arange(n)), batch_size, shuffle=True, seed=seed, num_workers=workers, prefetch=prefetch
    )
    for _ in range(2):
        assert sorted(i for (batch,) in loader for i in batch.tolist()) == list(range(n))


@fixed
@given(n=sizes, batch_size=st.integers(1, 70), shuffle=st.booleans(), drop_last=st.booleans(), seed=seeds)
def test_all_batches_are_full_except_perhaps_the_last(n, batch_size, shuffle, drop_last, seed):
    batches = batch_indices(n, batch_size, shuffle, drop_last, np.random.default_rng(seed))
    lengths = [len(batch) for batch in batches]
    assert sum(lengths) == (n - n % batch_size if drop_last else n)
    assert all(length == batch_size for length in lengths[: -1 if not drop_last else None])
    assert all(0 < length <= batch_size for length in lengths)


@fixed
@given(n=sizes, batch_size=st.integers(1, 20), seed=seeds)
def test_batches_are_cut_from_one_permutation(n, batch_size, seed):
    batches = batch_indices(n, batch_size, True, False, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.concatenate(batches), np.random.default_rng(seed).permutation(n))


@fixed
@given(n=sizes, width=st.integers(1, 5), data=st.data())
def test_a_batch_of_rows_is_what_collating_the_samples_gives(n, width, data):
    rows = TensorDataset(np.arange(n * width, dtype=np.float32).reshape(n, width), np.arange(n))
    indices = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=10)))
    for quick, slow in zip(rows.get_batch(indices), default_collate([rows[int(i)] for i in indices]), strict=True):
        np.testing.assert_array_equal(quick.data, slow.data, strict=True)


@fixed
@given(n=sizes, data=st.data())
def test_a_subset_of_a_subset_is_the_subset_of_its_indices(n, data):
    first = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20))
    second = np.array(data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1, max_size=20)))
    nested = Subset(Subset(TensorDataset(np.arange(n)), first), second)
    assert [x.item() for (x,) in nested] == np.array(first)[second].tolist()


@fixed
@given(counts=st.lists(st.integers(0, 15), min_size=1, max_size=5).filter(sum), seed=seeds)
def test_parts_by_count_hold_every_sample_exactly_once(counts, seed):
    parts = random_split(range(sum(counts)), counts, seed=seed)
    assert [len(part) for part in parts] == counts
    assert sorted(i for part in parts for i in part) == list(range(sum(counts)))


@fixed
@given(n=sizes, weights=st.lists(st.integers(1, 20), min_size=1, max_size=5), seed=seeds)
def test_parts_by_fraction_are_at_most_one_sample_off(n, weights, seed):
    fractions = [weight / sum(weights) for weight in weights]
    parts = random_split(range(n), fractions, seed=seed)
    assert sorted(i for part in parts for i in part) == list(range(n))
    assert all(abs(len(part) - n * fraction) <= 1 for part, fraction in zip(parts, fractions))


@fixed
@given(n=st.integers(1, 8), h=st.integers(1, 9), w=st.integers(1, 9), padding=st.integers(0, 3), seed=seeds)
def test_a_crop_is_a_window_of_the_padded_image(n, h, w, padding, seed):
    images = np.random.default_rng(seed).random((n, 2, 6, 7))
    if h > 6 + 2 * padding or w > 7 + 2 * padding:
        with pytest.raises(ValueError, match="cannot cut"):
            RandomCrop((h, w), padding)(images)
        return
    out = RandomCrop((h, w), padding)(images, rng=seed)
    padded = np.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (h, w), axis=(2, 3))
    for image, places in zip(out, windows):
        assert (places == image[:, None, None]).all(axis=(0, 3, 4)).any()


@fixed
@given(seed=seeds)
def test_flipping_twice_with_the_same_draws_changes_nothing(seed):
    images = np.random.default_rng(seed).random((5, 1, 4, 6))
    flip = RandomHorizontalFlip(0.5)
    np.testing.assert_array_equal(flip(flip(images, rng=seed), rng=seed), images)
