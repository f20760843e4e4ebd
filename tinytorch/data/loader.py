# Generated from modules/08_dataloader/08_dataloader.py by `tito export`. To change this file, edit the lesson and export again.
"""Data sets, and the loader that draws batches from them.

A data set answers two questions: how many samples, and which is number i. `DataLoader` decides in what order they
are shown, stacks them into batches, and can fetch ahead in threads. A `TensorDataset` hands out a whole batch with
one index operation per tensor instead of one per sample.
"""

import copy
import itertools
import math
import threading
from collections import deque
from collections.abc import Sized
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tinytorch.core.tensor import Tensor, from_numpy, generator


class Dataset:
    """Samples that are numbered from 0.

    A subclass defines `__len__` and `__getitem__(i)`; a sample is a tensor, array, number or text, or a tuple or dict
    of those. It may also define `get_batch`, where many samples can be fetched faster than one by one.
    """

    def __len__(self):
        raise NotImplementedError(f"{type(self).__name__} must define __len__: how many samples it has")

    def __getitem__(self, index):
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(index): the sample of that number")

    def get_batch(self, indices: np.ndarray):
        """The samples number `indices` (n,), stacked by `default_collate`."""
        return default_collate([self[int(i)] for i in indices])


class TensorDataset(Dataset):
    """Rows of one or several arrays of equal length: sample i is the tuple of their rows i.

    tensors     tensors or arrays (N, ...); shared, not copied, except that float64 arrays become float32
    transform   called with the first tensor's array: one row (...) for one sample, (n, ...) for many

    Samples and batches are tuples of tensors, one per tensor given; they are copies, without history. An index is an
    integer, a slice, or an array of integers. Raises ValueError when there is nothing to hold or the lengths differ.
    """

    def __init__(self, *tensors, transform=None):
        if not tensors:
            raise ValueError("TensorDataset needs at least one tensor, got none")
        self.tensors = tuple(_as_rows(tensor, i) for i, tensor in enumerate(tensors))
        lengths = [len(tensor) for tensor in self.tensors]
        if len(set(lengths)) > 1:
            raise ValueError(f"TensorDataset needs tensors of one length, got lengths {', '.join(map(str, lengths))}")
        if transform is not None and not callable(transform):
            raise TypeError(f"TensorDataset needs a transform it can call, got {type(transform).__name__}")
        self.transform = transform

    def __len__(self):
        return len(self.tensors[0])

    def __getitem__(self, index):
        if isinstance(index, Tensor):
            index = index.data
        if isinstance(index, tuple) or index is None or index is Ellipsis:
            raise TypeError(f"TensorDataset needs a number, slice or list of numbers as index, got {index!r}")
        return self._sample([np.array(tensor.data[index]) for tensor in self.tensors])

    def get_batch(self, indices: np.ndarray):
        """The rows `indices` (n,) of every tensor: one index operation each."""
        if type(self).__getitem__ is not TensorDataset.__getitem__:
            return super().get_batch(indices)  # a subclass that makes its samples itself: its rule counts
        return self._sample([tensor.data.take(indices, axis=0) for tensor in self.tensors])

    def _sample(self, arrays):
        if self.transform is not None:
            arrays[0] = self.transform(arrays[0])
        return tuple(array if isinstance(array, Tensor) else from_numpy(array) for array in arrays)

    def __repr__(self):
        rows = ", ".join(f"{tensor.shape[1:]} {tensor.dtype}" for tensor in self.tensors)
        transform = "" if self.transform is None else f", transform={self.transform}"
        return f"TensorDataset({len(self)} samples of {rows}{transform})"


def _as_rows(data, position):
    """`data` as a tensor with at least one axis, sharing memory where it can."""
    if isinstance(data, Tensor):
        tensor = data.detach()
    elif isinstance(data, np.ndarray) and data.dtype != np.float64:
        tensor = from_numpy(data)
    else:
        tensor = Tensor(data)
    if tensor.ndim == 0:
        raise ValueError(f"TensorDataset needs tensors with a row per sample, but number {position} has shape ()")
    return tensor


def default_collate(samples):
    """A list of samples as one batch.

    Numbers, arrays and tensors are stacked along a new first axis (n, ...): integers as int64, floats as float32.
    Tuples and lists give a tuple of collated columns, dicts a dict of collated values, texts a list.

    Raises ValueError where samples differ in shape, length or keys; TypeError for what cannot be stacked.
    """
    samples = list(samples)
    if not samples:
        raise ValueError("default_collate needs at least one sample, got none")
    _check_alike(samples)
    first = samples[0]
    if isinstance(first, dict):
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        return tuple(default_collate(column) for column in zip(*samples))
    if isinstance(first, (str, bytes)):
        return samples
    return _stack(samples)


def _check_alike(samples):
    """Raise unless all samples are built as the first one is."""
    first = _layout(samples[0])
    for i, sample in enumerate(samples):
        if _layout(sample) != first:
            raise ValueError(
                f"default_collate needs samples that are built alike, but the first is {first} and "
                f"number {i} of the batch is {_layout(sample)}"
            )


def _layout(sample):
    if isinstance(sample, dict):
        return f"a dict of {', '.join(sorted(map(str, sample)))}"
    if isinstance(sample, (tuple, list)):
        return f"{len(sample)} parts"
    return "text" if isinstance(sample, (str, bytes)) else "a number or an array"


def _stack(samples):
    """Numbers, arrays or tensors of one shape as one tensor with a row for each."""
    arrays = []
    for i, sample in enumerate(samples):
        array = sample.data if isinstance(sample, Tensor) else np.asarray(sample)
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"default_collate can stack numbers, arrays and tensors, not {type(sample).__name__}; "
                f"give the loader a collate_fn that can"
            )
        if arrays and array.shape != arrays[0].shape:
            raise ValueError(
                f"default_collate needs samples of one shape to stack them, got {arrays[0].shape} first and "
                f"{array.shape} as number {i} of the batch; crop or pad them, or give the loader a collate_fn"
            )
        arrays.append(array)
    batch = np.stack(arrays)
    return from_numpy(batch.astype(np.float32) if batch.dtype == np.float64 else batch)


def batch_indices(n: int, batch_size: int, shuffle: bool = False, drop_last: bool = False, rng=None):
    """The indices 0..n-1, each exactly once, as a list of integer arrays of `batch_size` (the last may be shorter).

    shuffle     draw their order from `rng` (the library's generator by default)
    drop_last   leave out a last batch that is not full
    """
    rng = generator(rng)
    order = rng.permutation(n) if shuffle else np.arange(n)
    if drop_last:
        order = order[: n - n % batch_size]
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


class _Fetching(threading.local):
    """What the loader is fetching in this thread: the seed of the batch, and its generator once somebody asked."""

    seed = None
    rng = None


_fetching = _Fetching()


def batch_generator(rng=None):
    """The generator a random transform should draw from.

    That is `rng` if given; while a `DataLoader` fetches a batch, the generator of that batch; otherwise the library's.
    One generator per batch makes its draws independent of the thread that fetches it, and when.
    """
    if rng is not None or _fetching.seed is None:
        return generator(rng)
    if _fetching.rng is None:
        _fetching.rng = np.random.default_rng(_fetching.seed)
    return _fetching.rng


def prefetched(load, jobs, num_workers: int, prefetch: int):
    """Yield `load(*job)` for every job, in order, while threads already work on the next ones.

    At most `prefetch` results are ready or in the making beyond the one last yielded. An exception in `load` is raised
    here, with its traceback, when its turn comes. When the caller stops early, jobs not begun are cancelled and the
    threads end.
    """
    jobs = iter(jobs)
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="tinytorch-loader")
    try:
        waiting = deque(pool.submit(load, *job) for job in itertools.islice(jobs, prefetch))
        while waiting:
            loaded = waiting.popleft().result()
            waiting.extend(pool.submit(load, *job) for job in itertools.islice(jobs, 1))
            yield loaded
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class DataLoader:
    """Batches of a data set, epoch after epoch: each `for` loop over it is one epoch.

    dataset      anything with `len(dataset)` and `dataset[i]`; a `Dataset` is asked for whole batches (`get_batch`)
    batch_size   samples per batch; the last batch of an epoch may be smaller
    shuffle      a new random order in every epoch
    drop_last    leave out a last batch that is not full
    collate_fn   called with a list of samples instead of stacking them
    num_workers  threads that fetch ahead; 0 fetches when asked. The batches are the same
    prefetch     how many batches to have fetched, or being fetched, beyond the one in use (with workers)
    seed         seeds a generator of the loader's own; without it the library's is used (`manual_seed`)

    `state_dict()` at the end of an epoch lets another loader go on with the same orders.
    """

    def __init__(
        self,
        dataset,
        batch_size: int = 1,
        shuffle: bool = False,
        drop_last: bool = False,
        collate_fn=None,
        num_workers: int = 0,
        prefetch: int = 2,
        seed: int | None = None,
    ):
        if not isinstance(dataset, Sized) or not hasattr(dataset, "__getitem__"):
            raise TypeError(
                f"DataLoader needs a data set with len(dataset) and dataset[i], got {type(dataset).__name__}; "
                f"a stream of samples can be put into a list first"
            )
        if len(dataset) == 0:
            raise ValueError(f"DataLoader needs at least one sample, but this {type(dataset).__name__} is empty")
        self.dataset = dataset
        self.batch_size = _whole_number("batch_size", batch_size, least=1)
        self.num_workers = _whole_number("num_workers", num_workers, least=0)
        self.prefetch = _whole_number("prefetch", prefetch, least=1)
        self.shuffle = bool(shuffle)
        self.drop_last = bool(drop_last)
        if self.drop_last and len(dataset) < self.batch_size:
            raise ValueError(
                f"DataLoader with drop_last=True and batch_size={self.batch_size} leaves nothing of "
                f"{len(dataset)} samples; use a smaller batch_size"
            )
        if collate_fn is not None and not callable(collate_fn):
            raise TypeError(f"DataLoader needs a collate_fn it can call, got {type(collate_fn).__name__}")
        self.collate_fn = collate_fn
        self._rng = None if seed is None else generator(_whole_number("seed", seed, least=0))
        self._epoch = 0

    def __len__(self):
        """Batches per epoch."""
        n = len(self.dataset)
        return n // self.batch_size if self.drop_last else math.ceil(n / self.batch_size)

    def __iter__(self):
        rng = generator() if self._rng is None else self._rng
        if self._rng is None and not self.shuffle:
            # Nothing is drawn for the order, so read the library's generator without moving it: to evaluate between
            # two epochs must not change what the second one draws.
            rng = copy.deepcopy(rng)
        batches = batch_indices(len(self.dataset), self.batch_size, self.shuffle, self.drop_last, rng)
        seed = (int(rng.integers(2**63)), self._epoch)
        self._epoch += 1
        jobs = (((*seed, number), indices) for number, indices in enumerate(batches))
        if self.num_workers:
            return prefetched(self._fetch, jobs, self.num_workers, self.prefetch)
        return itertools.starmap(self._fetch, jobs)

    def _fetch(self, seed, indices):
        """The batch of the samples `indices`; its random transforms draw from a generator seeded with `seed`."""
        before = _fetching.seed, _fetching.rng
        _fetching.seed, _fetching.rng = seed, None
        try:
            if self.collate_fn is None and isinstance(self.dataset, Dataset):
                return self.dataset.get_batch(indices)
            return (self.collate_fn or default_collate)([self.dataset[int(i)] for i in indices])
        except Exception as error:
            error.add_note(f"raised while DataLoader fetched batch {seed[-1]} of epoch {seed[-2]}")
            raise
        finally:
            _fetching.seed, _fetching.rng = before

    def state_dict(self):
        """Where the loader's random orders stand: numbers and text only, so that it can be stored as JSON.

        Without a seed of its own the orders come from the library's generator, whose state is not in here.
        """
        return {"epoch": self._epoch, "generator": None if self._rng is None else self._rng.bit_generator.state}

    def load_state_dict(self, state):
        """Go on where the loader that gave `state` stood."""
        if not isinstance(state, dict) or state.keys() != {"epoch", "generator"}:
            raise ValueError(f"DataLoader needs what state_dict() gave (epoch, generator), got {state!r}")
        rng = None
        if state["generator"] is not None:
            rng = np.random.default_rng()
            rng.bit_generator.state = state["generator"]
        self._epoch = _whole_number("epoch", state["epoch"], least=0)
        self._rng = rng

    def __repr__(self):
        order = ", shuffle=True" if self.shuffle else ""
        workers = f", num_workers={self.num_workers}" if self.num_workers else ""
        return f"DataLoader({len(self.dataset)} samples in {len(self)} batches of {self.batch_size}{order}{workers})"


def _whole_number(name, value, least):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"DataLoader needs a whole number as {name}, got {value!r}")
    if value < least:
        raise ValueError(f"DataLoader needs {name} >= {least}, got {value}")
    return int(value)


class Subset(Dataset):
    """The samples number `indices` (n,) of a data set, in that order, without a copy of it."""

    def __init__(self, dataset, indices):
        self.dataset = dataset
        self.indices = np.asarray(indices, dtype=np.int64)
        if self.indices.ndim != 1:
            raise ValueError(f"Subset needs a list of indices, got an array of shape {self.indices.shape}")
        n = len(dataset)
        outside = self.indices[(self.indices < 0) | (self.indices >= n)]
        if outside.size:
            raise ValueError(f"Subset needs indices 0..{n - 1}, got {outside[0]}")

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, index):
        chosen = self.indices[index.data if isinstance(index, Tensor) else index]
        return self.dataset[int(chosen) if chosen.ndim == 0 else chosen]

    def get_batch(self, indices: np.ndarray):
        if isinstance(self.dataset, Dataset):
            return self.dataset.get_batch(self.indices[indices])
        return super().get_batch(indices)

    def __repr__(self):
        return f"Subset({len(self)} of {len(self.dataset)} samples)"


def random_split(dataset, lengths, seed: int | None = None):
    """Cut a data set into parts at random: every sample is in exactly one `Subset`.

    lengths   counts that sum to len(dataset), or fractions that sum to 1 (rounded down; the samples left over go to
              the first parts, one each)
    seed      the same seed makes the same cut; None draws from the library's generator
    """
    sizes = _part_sizes(len(dataset), lengths)
    order = generator(seed).permutation(len(dataset))
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes)[:-1])]


def _part_sizes(n, lengths):
    lengths = list(lengths)
    if not lengths or any(isinstance(x, bool) or not isinstance(x, (int, float, np.number)) for x in lengths):
        raise TypeError(f"random_split needs a list of counts or of fractions, got {lengths}")
    if any(x < 0 for x in lengths):
        raise ValueError(f"random_split needs lengths >= 0, got {lengths}")
    if all(isinstance(x, (int, np.integer)) for x in lengths):
        if sum(lengths) != n:
            raise ValueError(f"random_split needs counts that sum to the {n} samples, {lengths} sum to {sum(lengths)}")
        return lengths
    if not math.isclose(sum(lengths), 1.0, abs_tol=1e-6):
        raise ValueError(f"random_split needs fractions that sum to 1, {lengths} sum to {sum(lengths):.6g}")
    sizes = [int(n * x + 1e-9) for x in lengths]
    for i in range(n - sum(sizes)):
        sizes[i % len(sizes)] += 1
    return sizes
