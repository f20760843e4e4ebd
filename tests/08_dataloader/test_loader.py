"""The loader: which samples come in which batch, in which order, and the same order again."""

import json

import numpy as np
import pytest

from tinytorch.core.tensor import Tensor, generator, manual_seed, rand
from tinytorch.data.loader import DataLoader, Dataset, TensorDataset, batch_generator, batch_indices


def numbers(n):
    return TensorDataset(np.arange(n))


def epoch(loader):
    return [batch[0].tolist() for batch in loader]


class Noisy(Dataset):
    """Samples that draw a random number while they are made."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return index, batch_generator().random()


# Batches of indices


def test_batches_without_shuffling_are_in_order():
    assert [b.tolist() for b in batch_indices(7, 3)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_drop_last_leaves_out_only_a_batch_that_is_not_full():
    assert [b.tolist() for b in batch_indices(7, 3, drop_last=True)] == [[0, 1, 2], [3, 4, 5]]
    assert [b.tolist() for b in batch_indices(6, 3, drop_last=True)] == [[0, 1, 2], [3, 4, 5]]
    assert batch_indices(2, 3, drop_last=True) == []


def test_shuffling_keeps_the_sizes_and_draws_from_the_generator_given():
    batches = batch_indices(7, 3, shuffle=True, rng=np.random.default_rng(5))
    order = np.random.default_rng(5).permutation(7).tolist()
    assert [b.tolist() for b in batches] == [order[:3], order[3:6], order[6:]]


def test_drop_last_leaves_out_other_samples_in_every_epoch():
    rng = np.random.default_rng(0)
    kept = {tuple(sorted(np.concatenate(batch_indices(7, 3, True, True, rng)).tolist())) for _ in range(20)}
    assert len(kept) > 1


# Batches of samples


def test_a_batch_stacks_samples_and_keeps_picture_and_label_together():
    data = TensorDataset(np.arange(20, dtype=np.float32).reshape(10, 2), np.arange(10))
    batches = list(DataLoader(data, batch_size=4, shuffle=True, seed=0))
    assert [x.shape for x, _ in batches] == [(4, 2), (4, 2), (2, 2)]
    for x, y in batches:
        assert x.dtype == np.float32
        assert x.data[:, 0].tolist() == (2 * y.data).tolist()


@pytest.mark.parametrize(
    ("n", "batch_size", "drop_last", "batches"),
    [(10, 4, False, 3), (10, 4, True, 2), (8, 4, False, 2), (8, 4, True, 2), (3, 4, False, 1), (5, 1, True, 5)],
)
def test_len_is_the_number_of_batches(n, batch_size, drop_last, batches):
    loader = DataLoader(numbers(n), batch_size, drop_last=drop_last)
    assert len(loader) == len(epoch(loader)) == batches


def test_any_sequence_is_a_data_set():
    assert [b.tolist() for b in DataLoader([1.0, 2.0, 3.0], 2)] == [[1, 2], [3]]
    assert [b.tolist() for b in DataLoader(Tensor([[1.0], [2.0]]), 2)] == [[[1], [2]]]
    assert [(x.tolist(), y) for x, y in DataLoader([(1, "a"), (2, "b")], 2)] == [([1, 2], ["a", "b"])]


def test_collate_fn_gets_the_list_of_samples():
    loader = DataLoader([[1], [1, 2], [3]], batch_size=2, collate_fn=lambda samples: [len(s) for s in samples])
    assert list(loader) == [[1, 2], [1]]


def test_a_tensor_dataset_is_asked_for_whole_batches():
    class Counting(TensorDataset):
        calls = 0

        def get_batch(self, indices):
            self.calls += 1
            return super().get_batch(indices)

    data = Counting(np.arange(10))
    assert epoch(DataLoader(data, 4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert data.calls == 3


# Orders that repeat, and orders that do not


def test_every_epoch_has_an_order_of_its_own():
    loader = DataLoader(numbers(50), 50, shuffle=True, seed=0)
    orders = {tuple(epoch(loader)[0]) for _ in range(5)}
    assert len(orders) == 5


def test_the_same_seed_repeats_all_epochs():
    first, second = (DataLoader(numbers(20), 6, shuffle=True, seed=7) for _ in range(2))
    assert [epoch(first) for _ in range(3)] == [epoch(second) for _ in range(3)]


def test_without_a_seed_manual_seed_repeats_the_order():
    loader = DataLoader(numbers(20), 6, shuffle=True)
    manual_seed(1)
    first = epoch(loader)
    manual_seed(1)
    assert epoch(DataLoader(numbers(20), 6, shuffle=True)) == first
    manual_seed(2)
    assert epoch(loader) != first


def test_a_loader_with_a_seed_leaves_the_librarys_generator_alone():
    manual_seed(0)
    expected = rand(3).tolist()
    manual_seed(0)
    epoch(DataLoader(numbers(20), 6, shuffle=True, seed=1))
    assert rand(3).tolist() == expected


def test_evaluating_without_shuffling_leaves_the_librarys_generator_alone():
    manual_seed(0)
    expected = rand(3).tolist()
    manual_seed(0)
    list(DataLoader(Noisy(), 4))
    assert rand(3).tolist() == expected


def test_the_order_of_an_epoch_is_drawn_when_its_loop_begins():
    manual_seed(0)
    expected = epoch(DataLoader(numbers(20), 6, shuffle=True))
    manual_seed(0)
    batches = iter(DataLoader(numbers(20), 6, shuffle=True))
    rand(100)
    assert [batch[0].tolist() for batch in batches] == expected


def test_two_loops_over_one_loader_do_not_disturb_each_other():
    loader = DataLoader(numbers(9), 3, shuffle=True, seed=0)
    pairs = [(a[0].tolist(), b[0].tolist()) for a, b in zip(loader, loader)]
    again = DataLoader(numbers(9), 3, shuffle=True, seed=0)
    first, second = epoch(again), epoch(again)
    assert pairs == list(zip(first, second))


def test_a_loop_left_early_counts_as_an_epoch():
    left, whole = (DataLoader(numbers(20), 6, shuffle=True, seed=7) for _ in range(2))
    next(iter(left))
    epoch(whole)
    assert epoch(left) == epoch(whole)


# Random draws while a batch is made


def test_draws_made_while_fetching_differ_from_batch_to_batch_and_epoch_to_epoch():
    loader = DataLoader(Noisy(), 4)
    draws = [x for _ in range(3) for _, noise in loader for x in noise.tolist()]
    assert len(set(draws)) == 36


def test_draws_made_while_fetching_repeat_with_the_seed():
    a, b = ([x.tolist() for _, x in DataLoader(Noisy(), 4, seed=5)] for _ in range(2))
    assert a == b


def test_outside_a_loader_batch_generator_is_the_librarys_or_the_one_given():
    rng = np.random.default_rng(0)
    assert batch_generator() is generator()
    assert batch_generator(rng) is rng
    list(DataLoader(Noisy(), 4))
    assert batch_generator() is generator()


def test_a_loader_inside_a_data_set_does_not_disturb_the_outer_one():
    class Nested(Noisy):
        def __getitem__(self, index):
            before = batch_generator()
            list(DataLoader(Noisy(), 4, seed=1))
            return index, float(batch_generator() is before)

    assert [same for _, x in DataLoader(Nested(), 4) for same in x.tolist()] == [1.0] * 12


# Going on after an interruption


@pytest.mark.parametrize("kind", [Noisy, lambda: numbers(12)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_loader_resumed_from_its_state_goes_on_as_if_nothing_had_happened(kind, shuffle):
    loader = DataLoader(kind(), 5, shuffle=shuffle, seed=3)
    list(loader)
    list(loader)
    state = json.loads(json.dumps(loader.state_dict()))
    third = [[part.tolist() for part in batch] for batch in loader]
    resumed = DataLoader(kind(), 5, shuffle=shuffle, seed=99)
    resumed.load_state_dict(state)
    assert [[part.tolist() for part in batch] for batch in resumed] == third


def test_the_state_of_one_epoch_does_not_change_while_the_next_one_runs():
    loader = DataLoader(numbers(12), 5, shuffle=True, seed=3)
    state = loader.state_dict()
    kept = json.dumps(state)
    list(loader)
    assert json.dumps(state) == kept
    assert json.dumps(loader.state_dict()) != kept


def test_without_a_seed_the_state_goes_on_with_the_librarys_generator():
    loader = DataLoader(Noisy(), 5)
    list(loader)
    state = loader.state_dict()
    assert state == {"epoch": 1, "generator": None}
    resumed = DataLoader(Noisy(), 5)
    resumed.load_state_dict(state)
    manual_seed(0)
    a = [x.tolist() for _, x in loader]
    manual_seed(0)
    assert [x.tolist() for _, x in resumed] == a


@pytest.mark.parametrize("state", [None, {}, {"epoch": 1}, {"epoch": 1, "generator": None, "more": 2}])
def test_a_state_that_is_none_is_refused(state):
    with pytest.raises(ValueError, match="what state_dict"):
        DataLoader(numbers(3)).load_state_dict(state)


# Arguments


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dataset": (i for i in range(3))}, TypeError, "len.dataset. and dataset.i., got generator"),
        ({"dataset": {1, 2}}, TypeError, "got set"),
        ({"dataset": []}, ValueError, "this list is empty"),
        ({"dataset": np.zeros((0, 3))}, ValueError, "this ndarray is empty"),
        ({"batch_size": 0}, ValueError, "batch_size >= 1, got 0"),
        ({"batch_size": -3}, ValueError, "batch_size >= 1, got -3"),
        ({"batch_size": 2.0}, TypeError, "whole number as batch_size, got 2.0"),
        ({"batch_size": None}, TypeError, "whole number as batch_size, got None"),
        ({"batch_size": True}, TypeError, "whole number as batch_size, got True"),
        ({"num_workers": -1}, ValueError, "num_workers >= 0"),
        ({"prefetch": 0}, ValueError, "prefetch >= 1"),
        ({"prefetch": "2"}, TypeError, "whole number as prefetch"),
        ({"seed": 1.5}, TypeError, "whole number as seed"),
        ({"seed": -1}, ValueError, "seed >= 0"),
        ({"collate_fn": 3}, TypeError, "collate_fn it can call, got int"),
        ({"batch_size": 5, "drop_last": True}, ValueError, "leaves nothing of 4 samples"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        DataLoader(**{"dataset": [1, 2, 3, 4], **arguments})


def test_an_error_in_a_data_set_says_which_batch_it_was_in():
    class Broken(Noisy):
        def __getitem__(self, index):
            return {0: 1}[index // 8]

    with pytest.raises(KeyError) as caught:
        list(DataLoader(Broken(), 4))
    assert caught.value.__notes__ == ["raised while DataLoader fetched batch 2 of epoch 0"]


def test_printing_a_loader_says_what_it_does():
    assert repr(DataLoader(numbers(10), 4, shuffle=True)) == "DataLoader(10 samples in 3 batches of 4, shuffle=True)"
