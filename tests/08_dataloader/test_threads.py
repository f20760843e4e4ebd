"""Fetching ahead in threads: the same batches, bounded, and nothing left behind."""

import gc
import threading
import time
import traceback

import numpy as np
import pytest

from tinytorch.data.loader import DataLoader, Dataset, TensorDataset, batch_generator, prefetched
from tinytorch.data.transforms import RandomCrop


def loader_threads():
    gc.collect()  # not inside of enumerate, for which threads wait that an abandoned loader waits for
    return [thread for thread in threading.enumerate() if thread.name.startswith("tinytorch-loader")]


@pytest.fixture(autouse=True)
def no_thread_survives():
    yield
    assert loader_threads() == []


class Watched(Dataset):
    """Counts which samples were fetched, and in which threads."""

    def __init__(self, n=40, fails_at=None):
        self.n, self.fails_at = n, fails_at
        self.fetched, self.threads = [], set()

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.threads.add(threading.current_thread().name)
        self.fetched.append(index)
        if index == self.fails_at:
            raise ZeroDivisionError("sample without a divisor")
        return index


def wait_until(condition):
    deadline = time.monotonic() + 2
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.001)


def test_results_come_in_the_order_of_their_jobs_even_if_the_first_takes_longest():
    def load(i):
        time.sleep(0.02 if i == 0 else 0)
        return i

    assert list(prefetched(load, [(i,) for i in range(6)], num_workers=3, prefetch=3)) == [0, 1, 2, 3, 4, 5]


def test_no_jobs_give_no_results():
    assert list(prefetched(pow, [], num_workers=2, prefetch=2)) == []


@pytest.mark.parametrize("prefetch", [1, 2, 5, 100])
def test_no_more_than_prefetch_jobs_run_ahead(prefetch):
    begun = []

    def load(i):
        begun.append(i)
        return i

    for i in prefetched(load, ((i,) for i in range(20)), num_workers=2, prefetch=prefetch):
        wait_until(lambda i=i: len(begun) == min(i + 1 + prefetch, 20))
        assert len(begun) == min(i + 1 + prefetch, 20)


def test_the_next_batch_is_fetched_while_the_caller_works():
    data = Watched(8)
    batches = iter(DataLoader(data, 2, num_workers=1, prefetch=1))
    next(batches)
    wait_until(lambda: len(data.fetched) == 4)
    assert data.fetched == [0, 1, 2, 3]
    list(batches)


def test_samples_are_fetched_in_other_threads():
    data = Watched(8)
    list(DataLoader(data, 2, num_workers=2))
    assert data.threads <= {"tinytorch-loader_0", "tinytorch-loader_1"}


@pytest.mark.parametrize("num_workers", [1, 2, 5])
@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_are_the_same_with_and_without_threads(num_workers, shuffle):
    images = np.random.default_rng(0).random((30, 1, 6, 6), dtype=np.float32)
    data = TensorDataset(images, np.arange(30), transform=RandomCrop(6, padding=2))
    alone = DataLoader(data, 4, shuffle=shuffle, seed=2)
    threaded = DataLoader(data, 4, shuffle=shuffle, seed=2, num_workers=num_workers, prefetch=3)
    for _ in range(2):
        for (x, y), (u, v) in zip(list(alone), list(threaded), strict=True):
            np.testing.assert_array_equal(x.data, u.data)
            np.testing.assert_array_equal(y.data, v.data)


def test_random_draws_do_not_depend_on_which_thread_comes_first():
    class Jittery(Watched):
        def __getitem__(self, index):
            time.sleep((index * 7 % 5) * 2e-4)
            return batch_generator().random()

    alone, threaded = (
        [x for batch in DataLoader(Jittery(24), 3, seed=1, num_workers=n, prefetch=4) for x in batch.tolist()]
        for n in (0, 4)
    )
    assert alone == threaded


def test_an_exception_reaches_the_caller_when_its_turn_comes():
    batches = iter(DataLoader(Watched(fails_at=9), 4, num_workers=2, prefetch=5))
    assert next(batches).tolist() == [0, 1, 2, 3]
    assert next(batches).tolist() == [4, 5, 6, 7]
    with pytest.raises(ZeroDivisionError, match="without a divisor") as caught:
        next(batches)
    assert caught.value.__notes__ == ["raised while DataLoader fetched batch 2 of epoch 0"]


def test_the_traceback_shows_the_line_in_the_data_set():
    with pytest.raises(ZeroDivisionError) as caught:
        list(DataLoader(Watched(fails_at=0), 4, num_workers=2))
    frames = traceback.extract_tb(caught.value.__traceback__)
    assert frames[-1].name == "__getitem__"
    assert frames[-1].line == 'raise ZeroDivisionError("sample without a divisor")'


def test_leaving_the_loop_early_stops_the_fetching_and_the_threads():
    data = Watched(4000)
    for _ in DataLoader(data, 4, num_workers=2, prefetch=3):
        assert loader_threads() != []
        break
    assert loader_threads() == []
    assert len(data.fetched) <= 4 * 4


def test_an_exception_in_the_loop_stops_the_threads():
    def train():
        for _ in DataLoader(Watched(), 4, num_workers=2):
            raise KeyError("in the training step")

    with pytest.raises(KeyError, match="training step"):
        train()
    assert loader_threads() == []


def test_a_finished_epoch_leaves_no_threads():
    loader = DataLoader(Watched(), 4, num_workers=3)
    for _ in range(3):
        list(loader)
        assert loader_threads() == []


def test_an_iterator_never_started_makes_no_threads():
    batches = iter(DataLoader(Watched(), 4, num_workers=3))
    assert loader_threads() == []
    del batches


def test_the_next_sample_is_loaded_while_the_caller_still_works_on_one():
    loaded = [threading.Event() for _ in range(6)]

    def load(i):
        loaded[i].set()
        return i

    for i in prefetched(load, ((i,) for i in range(6)), num_workers=2, prefetch=2):
        assert i == 5 or loaded[i + 1].wait(5)
