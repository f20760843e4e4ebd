# ---
# jupyter:
#   jupytext:
#     cell_markers: '"""'
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
"""
# 08 · Data: real digits, in batches

| | |
|---|---|
| **You have** | tensors, layers, losses, gradients, optimizers and a training loop (modules 01 to 07) |
| **You will build** | a data set, a loader that shuffles it and cuts it into batches, threads that fetch ahead, random crops and flips, and readers for the files that MNIST and CIFAR-10 come in |
| **You will be able to** | train on 1,797 real handwritten digits, resume a run and see the same batches again, and say where the time of a loader goes |

Needs modules 01 to 07. Exports `data/loader.py`, `data/transforms.py`, `data/datasets.py`. Medium; about three hours.

```
 files on disk          data set                loader                     training loop
 +-----------+      len(d) = 1797         order   5 0 3 1 4 2
 | 0 0 8 3   |      d[0] = image, label    batches [5 0] [3 1] [4 2]        for images, labels in loader:
 | 60000 28  | -->  d[1] = image, label -->   |                        -->      loss = ...
 | 28 pixels |      ...                       +- one array each:
 +-----------+                                   (2, 1, 8, 8), (2,)
```

So far every example had its numbers typed in. Real data lie in files, there are too many to push through a network at
once, and the order in which they are shown matters. Each box of the picture is one part of this lesson, from the left
of the training loop back to the disk.
"""

# %%
#| default_exp data.loader

# %%
#| export
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

# %% [markdown]
"""
## What is a data set?

Two questions are enough: *how many?* and *which one is number i?* Python has names for them, `__len__` and
`__getitem__`, so a plain list of pairs is already a data set. `Dataset` below writes the agreement down and adds one
thing to it: `get_batch`, for data that can be fetched many at a time. We come back to that when we have measured why.
"""


# %%
#| export
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


# %% [markdown]
"""
The squares of the numbers from 0, as a data set. Nothing is stored; sample 7 is worked out when somebody asks for it.
Data sets that are larger than the memory read a file here.
"""


# %%
class Squares(Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return float(index), float(index) ** 2


squares = Squares()
print(len(squares), "samples; number 7 is", squares[7])

# %% [markdown]
"""
## Data that fit into memory

Most data of this course do: all pictures in one array `(N, 1, 8, 8)`, all labels in another `(N,)`. Sample `i` is
then row `i` of each. `TensorDataset` holds such arrays side by side and refuses arrays of different lengths, because
then picture 5 and label 5 would not belong together.

```
   images (4, 1, 8, 8)   [ img0 | img1 | img2 | img3 ]
   labels (4,)           [   7  |   2  |   1  |   0  ]
                                    ^
                                 data[1] = (img1, 2)
```

A question before the code: if `data[1]` is a *view* of row 1, what does `image, label = data[1]; image *= 0` do to
your data? It blanks the picture in the data set, silently, for all later epochs. So samples are copies.

**Write `TensorDataset.__getitem__` and `TensorDataset.get_batch`.** Both pick rows of every tensor in `self.tensors`
and give them to `self._sample`, which is written for you: it applies the transform (later in this lesson) and boxes
the arrays as tensors. `__getitem__` takes an integer, a slice, or an array of integers and must copy; `get_batch`
gets an array of integers only.

With `data = TensorDataset(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([7, 8, 9]))`: `data[1]` is
`(Tensor([3., 4.]), Tensor(8))` and `data.get_batch(np.array([2, 0]))` is
`(Tensor([[5., 6.], [1., 2.]]), Tensor([9, 7]))`.

<details><summary>Hint 1</summary>

The ndarray in a tensor is `tensor.data`, and row `index` of it is `tensor.data[index]`, whatever kind of index that
is. For a single integer or a slice NumPy gives a view, for an array of integers a copy.
</details>
<details><summary>Hint 2</summary>

`np.array(x)` copies `x`. For a batch, `array.take(indices, axis=0)` picks rows into a new array; it does the same as
`array[indices]` and is quicker for small rows.
</details>
<details><summary>Hint 3</summary>

`return self._sample([np.array(tensor.data[index]) for tensor in self.tensors])`, and the same with `take` in
`get_batch`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "loader-tensordataset", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
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
        ### BEGIN SOLUTION
        return self._sample([np.array(tensor.data[index]) for tensor in self.tensors])
        ### END SOLUTION

    def get_batch(self, indices: np.ndarray):
        """The rows `indices` (n,) of every tensor: one index operation each."""
        if type(self).__getitem__ is not TensorDataset.__getitem__:
            return super().get_batch(indices)  # a subclass that makes its samples itself: its rule counts
        ### BEGIN SOLUTION
        return self._sample([tensor.data.take(indices, axis=0) for tensor in self.tensors])
        ### END SOLUTION

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


# %%
data = TensorDataset(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([7, 8, 9]))
print(data)
print("data[1]              ", data[1])
print("data.get_batch([2,0])", data.get_batch(np.array([2, 0])))

image, label = data[1]
image.data *= 0
print("after blanking a sample, the data set still has", data[1][0])

# %% [markdown]
"""
## From samples to a batch

A data set that makes its samples one at a time gives a *list* of samples, and a network wants one array. Putting them
together is called collating. Three samples, each a pair:

```
   [ (2.0, 4.0),                column 0: 2.0  3.0  5.0   ->  Tensor([2., 3., 5.])
     (3.0, 9.0),      ->        column 1: 4.0  9.0  25.0  ->  Tensor([4., 9., 25.])
     (5.0, 25.0) ]
```

A tuple is collated column by column, a dict key by key, and a column may again consist of tuples: so the function
calls itself. At the bottom lie numbers and arrays, which are stacked along a new first axis, and texts, which stay a
list.

**Write `default_collate`.** `_stack(samples)` is given: it makes one tensor from numbers, arrays or tensors of one
shape, and `_check_alike` raises an error where samples do not fit together. What is left is the recursion.

- `default_collate([(1, "a"), (2, "b")])` is `(Tensor([1, 2]), ["a", "b"])`
- `default_collate([{"x": 1.0}, {"x": 3.0}])` is `{"x": Tensor([1., 3.])}`

<details><summary>Hint 1</summary>

Look at the first sample to decide which of the four cases it is: dict, tuple or list, text, or something to stack.
</details>
<details><summary>Hint 2</summary>

`zip(*samples)` turns a list of pairs into a pair of columns: `zip(*[(1, "a"), (2, "b")])` gives `(1, 2)` and
`("a", "b")`.
</details>
<details><summary>Hint 3</summary>

For a dict: `{key: default_collate([sample[key] for sample in samples]) for key in first}`; for a tuple:
`tuple(default_collate(column) for column in zip(*samples))`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "loader-collate", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
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
    ### BEGIN SOLUTION
    if isinstance(first, dict):
        return {key: default_collate([sample[key] for sample in samples]) for key in first}
    if isinstance(first, (tuple, list)):
        return tuple(default_collate(column) for column in zip(*samples))
    if isinstance(first, (str, bytes)):
        return samples
    return _stack(samples)
    ### END SOLUTION


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


# %%
print(default_collate([(1, "a"), (2, "b")]))
print(default_collate([{"x": 1.0}, {"x": 3.0}]))
print(squares.get_batch(np.array([2, 3, 5])))

# %% [markdown]
"""
## One index operation, or a hundred and twenty-eight?

`Squares` fetched its three samples one by one and stacked them. `TensorDataset` picked all rows at once. Both give
the same batch. Does it matter? Measure it: pictures of the size of MNIST, batches of 128.
"""

# %%
import time


def best_time(function, repeats=30):
    """The shortest of several runs, in microseconds: the one that was disturbed least."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) * 1e6


pictures = TensorDataset(np.zeros((10_000, 1, 28, 28), np.float32), np.zeros(10_000, np.int64))
chosen = np.random.default_rng(0).integers(0, 10_000, 128)


def one_by_one():
    return default_collate([pictures[int(i)] for i in chosen])


for a, b in zip(one_by_one(), pictures.get_batch(chosen)):
    assert np.array_equal(a.data, b.data)
slow, fast = best_time(one_by_one), best_time(lambda: pictures.get_batch(chosen))
print(f"128 samples, stacked: {slow:7.1f} us     one index operation: {fast:6.1f} us     ratio {slow / fast:.0f}")

# %% [markdown]
"""
Microseconds do not sound like much. But a small network may need no longer to train on such a batch than the naive
way needs to put it together, and then every run takes twice as long. This is what `get_batch` is for: the loader asks
for the whole batch, and a data set that knows a quick way uses it.

## In which order?

One pass over all samples is an *epoch*. Cut it into batches of size `B`: from 10 samples and `B = 4` come batches of
4, 4 and 2. The last one is short; `drop_last=True` leaves it out (some layers dislike a batch of a single sample).

```
   shuffle=False   [0 1 2 3] [4 5 6 7] [8 9]
   shuffle=True    [3 9 0 6] [1 8 2 5] [7 4]      every number once, in an order drawn anew for each epoch
```

What goes wrong in practice: drawing `B` random indices for every batch, "because random is random". Then in an epoch
over `N` samples each one is missed with probability (1 - 1/N)^N, about 37 %. A permutation misses none.

**Write `batch_indices`:** the list of index arrays of one epoch.

`[b.tolist() for b in batch_indices(10, 4)]` is `[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]`; with `drop_last=True` the
`[8, 9]` is missing.

<details><summary>Hint 1</summary>

First the order of all `n` indices as one array: `np.arange(n)`, or a permutation drawn from `rng`.
</details>
<details><summary>Hint 2</summary>

Batches begin at `0, batch_size, 2 * batch_size, ...`: `range(0, n, batch_size)`. A slice that reaches beyond the end
is cut by Python.
</details>
<details><summary>Hint 3</summary>

With `drop_last`, shorten the order first: `order = order[: n - n % batch_size]`. Then
`[order[i : i + batch_size] for i in range(0, len(order), batch_size)]`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "loader-batch-indices", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def batch_indices(n: int, batch_size: int, shuffle: bool = False, drop_last: bool = False, rng=None):
    """The indices 0..n-1, each exactly once, as a list of integer arrays of `batch_size` (the last may be shorter).

    shuffle     draw their order from `rng` (the library's generator by default)
    drop_last   leave out a last batch that is not full
    """
    rng = generator(rng)
    ### BEGIN SOLUTION
    order = rng.permutation(n) if shuffle else np.arange(n)
    if drop_last:
        order = order[: n - n % batch_size]
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    ### END SOLUTION


# %%
print([b.tolist() for b in batch_indices(10, 4)])
print([b.tolist() for b in batch_indices(10, 4, drop_last=True)])
rng = np.random.default_rng(0)
for epoch in range(3):
    print("epoch", epoch, [b.tolist() for b in batch_indices(10, 4, shuffle=True, rng=rng)])

# %% [markdown]
"""
## Whose random numbers?

Orders are drawn from the library's generator, so `manual_seed` repeats a run, or from the loader's own if it was made
with `seed=`. There is one more customer for random numbers: later in this lesson images are flipped and cropped at
random *while a batch is fetched*, and soon several threads will fetch batches at the same time. If they all drew from
one generator, the picture that got flipped would depend on which thread came first, and no run could be repeated.

The way out: every batch gets a generator of its own, seeded by the epoch and the number of the batch. Who fetches it,
and when, then makes no difference. `batch_generator()` is where a random transform asks for it.
"""


# %%
#| export
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


# %% [markdown]
"""
## Fetching ahead

While the network computes, nobody fetches; while a batch is fetched, the network waits. If a batch takes 4 ms to
fetch and 6 ms to train on, each step takes 10 ms. With a second thread the fetching of batch 2 runs beside the
training on batch 1:

```
   alone     fetch 1 | train 1   | fetch 2 | train 2   |              10 ms a step
   thread    fetch 1 | fetch 2 . | fetch 3 . |
                     | train 1   | train 2   | train 3                  6 ms a step: the larger of the two
```

How far ahead? A thread that runs as fast as it can would fill the memory with batches nobody has used yet. So at most
`prefetch` batches are fetched or being fetched ahead of the one in use.

Three things must be right, and each of them is wrong in some published loader:
- **order**: batches come out in the order they were asked for, although the second may be ready first;
- **errors**: an exception in a thread reaches the training loop with its traceback, instead of a loop that waits
  forever;
- **the end**: when the loop does `break` after the first batch, the threads stop.

A thread pool of the standard library gives a *future* for each job: a promise of its result. `future.result()` waits
for it, and raises what the job raised. Keep the futures in a queue, in order, and the first two points are done. The
third is the `finally` that is already there: a generator that is abandoned is closed, and closing runs `finally`.

**Write `prefetched`.** `jobs` are tuples of arguments for `load`.
`list(prefetched(pow, [(2, 3), (5, 2)], num_workers=2, prefetch=1))` is `[8, 25]`.

<details><summary>Hint 1</summary>

`pool.submit(load, *job)` starts a job and returns its future at once. Submit the first `prefetch` of them into a
`deque`.
</details>
<details><summary>Hint 2</summary>

Then, as long as the queue is not empty: take the oldest future, wait for its result, submit the next job (so that it
runs while the caller works), and only then `yield` the result.
</details>
<details><summary>Hint 3</summary>

`itertools.islice(jobs, k)` gives at most `k` more jobs from an iterator, also when there are none left:
`waiting.extend(pool.submit(load, *job) for job in itertools.islice(jobs, 1))`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "loader-prefetched", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def prefetched(load, jobs, num_workers: int, prefetch: int):
    """Yield `load(*job)` for every job, in order, while threads already work on the next ones.

    At most `prefetch` results are ready or in the making beyond the one last yielded. An exception in `load` is raised
    here, with its traceback, when its turn comes. When the caller stops early, jobs not begun are cancelled and the
    threads end.
    """
    jobs = iter(jobs)
    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="tinytorch-loader")
    try:
        ### BEGIN SOLUTION
        waiting = deque(pool.submit(load, *job) for job in itertools.islice(jobs, prefetch))
        while waiting:
            loaded = waiting.popleft().result()
            waiting.extend(pool.submit(load, *job) for job in itertools.islice(jobs, 1))
            yield loaded
        ### END SOLUTION
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# %%
print(list(prefetched(pow, [(2, 3), (5, 2), (7, 1)], num_workers=2, prefetch=2)))

begun = []
for number in prefetched(lambda i: begun.append(i) or i, ((i,) for i in range(100)), num_workers=1, prefetch=3):
    if number == 4:
        break
time.sleep(0.01)
print("stopped at job 4; jobs begun:", len(begun), "of 100; threads left:", threading.active_count() - 1)

# %% [markdown]
"""
Why threads and not processes? Python runs one thread's *Python* code at a time (the global interpreter lock), but
NumPy lets go of the lock inside its large operations, and reading a file or waiting for a disk lets go of it too.
Threads share memory, so a batch is handed over by passing a reference; another process would have to send 400 kB
through a pipe. The price: a transform written as a Python loop over pixels gains nothing from threads. Both cases are
measured below.

## The loader

Now the parts come together. `DataLoader` keeps what you chose, draws the order of the next epoch when a `for` loop
starts, and fetches the batches one after the other, or through `prefetched`.

**Write `DataLoader.__len__`:** how many batches an epoch has. For 10 samples and batches of 4 it is 3, with
`drop_last` 2; for 8 samples it is 2 both times.

<details><summary>Hint 1</summary>

Whole batches: `n // batch_size`. When is there one more?
</details>
<details><summary>Hint 2</summary>

Without `drop_last` the division is rounded up. `math.ceil(n / batch_size)` does it.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "loader-len", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
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
        ### BEGIN SOLUTION
        return n // self.batch_size if self.drop_last else math.ceil(n / self.batch_size)
        ### END SOLUTION

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


# %%
loader = DataLoader(squares, batch_size=4, shuffle=True, seed=1)
print(loader)
for epoch in range(2):
    print("epoch", epoch, [x.tolist() for x, _ in loader])

# %% [markdown]
"""
A run that was killed after epoch 2 is resumed from its checkpoint. If the loader started over with its seed, epoch 3
would repeat the order of epoch 1. Its `state_dict` makes it go on:
"""

# %%
saved = loader.state_dict()
resumed = DataLoader(squares, batch_size=4, shuffle=True, seed=99)
resumed.load_state_dict(saved)
print("third epoch  ", [x.tolist() for x, _ in loader])
print("after resume ", [x.tolist() for x, _ in resumed])

# %% [markdown]
"""
And an error in a thread arrives where it can be seen, with the line that raised it and a note of where in the epoch
it happened:
"""


# %%
class Broken(Squares):
    def __getitem__(self, index):
        if index == 6:
            raise OSError("cannot read sample 6")
        return super().__getitem__(index)


try:
    for batch in DataLoader(Broken(), batch_size=4, num_workers=2):
        print("got", batch[0].tolist())
except OSError as error:
    print(f"{type(error).__name__}: {error} ({error.__notes__[0]})")

# %% [markdown]
"""
## Keeping some samples back

A network can learn its training samples by heart. Only samples it never saw tell what it has understood, so a part of
the data is held out. Cutting at 80 % of the way is wrong if the data are sorted (the last classes would be missing
from training), so the parts are drawn at random. The seed matters too: with a new split in every run, the samples
held out today were trained on yesterday.

A part needs no copy of the data, only a list of indices: sample `i` of the `Subset` is sample `indices[i]` of the
whole.

**Write `random_split`.** `_part_sizes` is given: it turns fractions into counts and checks that they add up.

For 10 samples, `[len(part) for part in random_split(range(10), [0.7, 0.3])]` is `[7, 3]`, and together the parts hold
each sample once.

<details><summary>Hint 1</summary>

Draw one permutation of all indices, then cut it into pieces of the sizes wanted.
</details>
<details><summary>Hint 2</summary>

The cuts lie at the running totals of the sizes: `np.cumsum([7, 3])` is `[7, 10]`. `np.split(order, cuts)` cuts there;
the last total is the end and needs no cut.
</details>
<details><summary>Hint 3</summary>

`return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes)[:-1])]` with
`order = generator(seed).permutation(len(dataset))`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "loader-random-split", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
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
    ### BEGIN SOLUTION
    order = generator(seed).permutation(len(dataset))
    return [Subset(dataset, part) for part in np.split(order, np.cumsum(sizes)[:-1])]
    ### END SOLUTION


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


# %%
train, held_out = random_split(squares, [0.7, 0.3], seed=0)
print(train, train.indices.tolist())
print(held_out, held_out.indices.tolist())

# %% [markdown]
"""
## Transforms: many pictures from one

A handwritten 3 that sits one pixel further to the left is still a 3. A network that has seen it in one place only may
not know. So each time a picture is drawn it is changed a little, at random, in ways that do not change what it shows:
shifted, mirrored (a cat, not a digit: why?), its brightness normalised.

`Transform` does the plumbing. Whatever comes in, one image `(H, W)` or `(C, H, W)` or a whole batch `(N, C, H, W)`,
`apply` sees a batch `(N, C, H, W)`; so each transform is written once, for a batch, without a loop over images.
"""


# %%
#| export data.transforms
"""Changes to images on their way into a batch: normalised, mirrored, cropped at random.

Every transform works on a whole batch (N, C, H, W) at once; a random one still decides for each image separately.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tinytorch.core.tensor import Tensor, from_numpy


class Transform:
    """One change to an image (H, W) or (C, H, W), or to every image of a batch (N, C, H, W).

    Arrays give arrays and tensors give tensors (without history); the input is left as it was. A subclass defines
    `apply(batch, rng)`, which gets and returns arrays (N, C, H, W); a random one draws from `batch_generator(rng)`.
    """

    def __call__(self, images, rng=None):
        array = images.data if isinstance(images, Tensor) else images
        if not isinstance(array, np.ndarray):
            raise TypeError(f"{self!r} needs an array or a tensor, got {type(images).__name__}")
        if array.ndim not in (2, 3, 4):
            raise ValueError(f"{self!r} needs images (H, W), (C, H, W) or (N, C, H, W), got shape {array.shape}")
        missing = 4 - array.ndim
        out = self.apply(array.reshape((1,) * missing + array.shape), rng)
        out = out.reshape(out.shape[missing:])
        return from_numpy(out) if isinstance(images, Tensor) else out

    def apply(self, batch, rng=None):
        raise NotImplementedError(f"{type(self).__name__} must define apply(batch, rng) for arrays (N, C, H, W)")

    def __repr__(self):
        return f"{type(self).__name__}()"


class Compose:
    """Several transforms, one after the other; plain functions of an image array are welcome among them."""

    def __init__(self, transforms):
        self.transforms = list(transforms)
        for transform in self.transforms:
            if not callable(transform):
                raise TypeError(f"Compose needs transforms it can call, got {type(transform).__name__}")

    def __call__(self, images, rng=None):
        for transform in self.transforms:
            takes_rng = isinstance(transform, (Transform, Compose))
            images = transform(images, rng) if takes_rng else transform(images)
        return images

    def __repr__(self):
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


# %% [markdown]
"""
### From bytes to numbers around zero

Pixels come as bytes, 0 to 255. `ToTensor` divides by 255. `Normalize` then subtracts the mean and divides by the
standard deviation, one of each per colour channel, so that the numbers are spread around 0 as the initial weights of
the layers expect. By hand: a red channel with mean 0.5 and standard deviation 0.25, pixel 0.75: (0.75 - 0.5) / 0.25 =
1.

The broadcasting needs care. `mean` has shape `(C,)` and the batch `(N, C, H, W)`; NumPy aligns shapes at the right,
so `batch - mean` would line the channels up with the *columns* `W`. With 3 channels and 32 columns that fails loudly.
With 28 channels and 28 columns it would not.

**Write `Normalize.apply` and `ToTensor.apply`.**

`Normalize([0.5], [0.25])(np.float32([[0.75, 0.25]]))` is `[[1., -1.]]`; `ToTensor()(np.uint8([[0, 51, 255]]))` is
`Tensor([[0., 0.2, 1.]])`.

<details><summary>Hint 1</summary>

`self.mean` and `self.std` were stored with shape `(C, 1, 1)`, which broadcasts against `(N, C, H, W)` as it should.
</details>
<details><summary>Hint 2</summary>

Bytes divided by a `np.float32` give float32. Divided by the Python number 255 they would give float64, twice the
memory, and everything after would compute in float64 too.
</details>
<details><summary>Hint 3</summary>

`return (batch - self.mean) / self.std` and `return batch / np.float32(255)` (only for `uint8`; floats are scaled
already: `batch.astype(np.float32)`).
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transforms-normalize", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export data.transforms
class Normalize(Transform):
    """(x - mean) / std, channel by channel; float images in, float images out.

    mean, std   a number, or one per channel (C,); std > 0
    """

    def __init__(self, mean, std):
        self.mean = np.asarray(mean, dtype=np.float32).reshape(-1, 1, 1)
        self.std = np.asarray(std, dtype=np.float32).reshape(-1, 1, 1)
        if not (self.std > 0).all():
            raise ValueError(f"Normalize needs std > 0, got {std}")

    def apply(self, batch, rng=None):
        if batch.dtype.kind != "f":
            raise TypeError(f"{self!r} needs floating images, got {batch.dtype}; put ToTensor() before it")
        C = batch.shape[1]
        if len(self.mean) not in (1, C) or len(self.std) not in (1, C):
            raise ValueError(f"{self!r} has {max(len(self.mean), len(self.std))} channels, the images have {C}")
        ### BEGIN SOLUTION
        return (batch - self.mean) / self.std
        ### END SOLUTION

    def __repr__(self):
        return f"Normalize({self.mean.ravel().tolist()}, {self.std.ravel().tolist()})"


class ToTensor(Transform):
    """A tensor of float32 in 0..1 from bytes 0..255; floating and boolean images become float32 unscaled.

    The axes stay where they are: channels come first already.
    """

    def __call__(self, images, rng=None):
        out = super().__call__(images, rng)
        return out if isinstance(out, Tensor) else from_numpy(out)

    def apply(self, batch, rng=None):
        if batch.dtype != np.uint8 and batch.dtype.kind not in "fb":
            raise TypeError(
                f"ToTensor knows the range of uint8 (0..255), not of {batch.dtype}; divide by the largest value first"
            )
        ### BEGIN SOLUTION
        if batch.dtype == np.uint8:
            return batch / np.float32(255)
        return batch.astype(np.float32)
        ### END SOLUTION


# %%
print(Normalize([0.5], [0.25])(np.float32([[0.75, 0.25]])))
print(ToTensor()(np.uint8([[0, 51, 255]])))

# %% [markdown]
"""
### A coin for every picture

`RandomHorizontalFlip(p)` mirrors an image left to right with probability `p`. For a batch the tempting code throws
one coin and flips all of it or none. Nothing crashes; but then each gradient step sees pictures that all look one
way, and half of the variety is gone. Every picture needs a coin of its own.

The naive version says what is meant:
"""


# %%
def flip_naive(batch, p, rng):
    return np.stack([image[:, :, ::-1] if rng.random() < p else image for image in batch])


# %% [markdown]
"""
**Write `RandomHorizontalFlip.apply`** without a Python loop: draw all coins at once, and change only the images whose
coin says so. The input must stay as it was.

With `p=1`, `[[1, 2, 3]]` becomes `[[3, 2, 1]]`; with `p=0` it stays.

<details><summary>Hint 1</summary>

`rng.random(N) < self.p` is an array of N booleans. It can be used as an index: `batch[flip]` are the images to be
flipped.
</details>
<details><summary>Hint 2</summary>

The last axis is `W`. `x[..., ::-1]` reverses it and leaves all others.
</details>
<details><summary>Hint 3</summary>

Copy first, then overwrite a part: `out = batch.copy()`, `out[flip] = batch[flip][..., ::-1]`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transforms-flip", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export data.transforms
class RandomHorizontalFlip(Transform):
    """Each image mirrored left to right with probability `p`."""

    def __init__(self, p: float = 0.5):
        if not 0 <= p <= 1:
            raise ValueError(f"RandomHorizontalFlip needs a probability 0..1, got {p}")
        self.p = p

    def apply(self, batch, rng=None):
        rng = batch_generator(rng)
        ### BEGIN SOLUTION
        flip = rng.random(len(batch)) < self.p
        out = batch.copy()
        out[flip] = batch[flip][..., ::-1]
        return out
        ### END SOLUTION

    def __repr__(self):
        return f"RandomHorizontalFlip({self.p})"


# %%
photos = np.random.default_rng(0).random((128, 3, 32, 32), dtype=np.float32)
flipped = RandomHorizontalFlip(0.5)(photos, rng=7)
assert np.array_equal(flipped, flip_naive(photos, 0.5, np.random.default_rng(7)))
print("mirrored:", int((flipped != photos).any(axis=(1, 2, 3)).sum()), "of", len(photos))

# %% [markdown]
"""
### A window for every picture

`RandomCrop(size, padding)` puts a border of zeros around the image and cuts a window of `size` out of it at a random
place. A digit of 8 x 8 with a border of 1 gives a 10 x 10 field and 3 x 3 places for the window: nine slightly
shifted copies of every digit.

```
   . . . . .        padding=1 around 3 x 3          a window of 3 x 3 at (top 0, left 1):
   . a b c .        window places: 5 - 3 + 1 = 3         . . .
   . d e f .        in each direction                    a b c
   . g h i .                                             d e f
   . . . . .
```

What goes wrong in practice: `rng.integers(0, H - size)` leaves out the last place, because the upper end is excluded.
With `padding=0` and `size == H` it even has nothing to draw from.

NumPy can show *all* windows of an array without copying anything: `sliding_window_view(x, (h, w), axis=(2, 3))` has
shape `(N, C, places down, places across, h, w)`. Picking one place per image is then a single index operation.

**Write `RandomCrop.apply`.** `padded` is given. Draw `top` and `left` for every image (first all `top`, then all
`left`), and pick.

<details><summary>Hint 1</summary>

`rng.integers(0, places, N)` draws N whole numbers `0 .. places - 1`, where `places = padded.shape[2] - h + 1`
downwards.
</details>
<details><summary>Hint 2</summary>

`windows[np.arange(N), :, top, left]` takes, for each image n, its own `top[n]` and `left[n]`, and all channels: shape
`(N, C, h, w)`.
</details>
<details><summary>Hint 3</summary>

`windows = sliding_window_view(padded, (h, w), axis=(2, 3))`, `top = rng.integers(0, windows.shape[2], N)`,
`left = rng.integers(0, windows.shape[3], N)`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "transforms-crop", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export data.transforms
class RandomCrop(Transform):
    """A window of `size` at a random place of each image, after a border of `padding` zeros was put around it.

    size   (h, w), or one number for both
    """

    def __init__(self, size, padding: int = 0):
        self.size = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
        self.padding = padding
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"RandomCrop needs a size >= 1 or (h, w), got {size}")
        if padding < 0:
            raise ValueError(f"RandomCrop needs padding >= 0, got {padding}")

    def apply(self, batch, rng=None):
        rng = batch_generator(rng)
        N, C, H, W = batch.shape
        h, w = self.size
        p = self.padding
        if h > H + 2 * p or w > W + 2 * p:
            raise ValueError(f"{self!r} cannot cut {h} x {w} from images of {H} x {W} with a border of {p}")
        padded = np.zeros((N, C, H + 2 * p, W + 2 * p), batch.dtype)
        padded[:, :, p : p + H, p : p + W] = batch
        ### BEGIN SOLUTION
        windows = sliding_window_view(padded, (h, w), axis=(2, 3))  # (N, C, places down, places across, h, w)
        top = rng.integers(0, windows.shape[2], N)
        left = rng.integers(0, windows.shape[3], N)
        return windows[np.arange(N), :, top, left]
        ### END SOLUTION

    def __repr__(self):
        return f"RandomCrop({self.size}, padding={self.padding})"


# %%
def crop_naive(batch, size, padding, rng):
    padded = np.pad(batch, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    places = padded.shape[2] - size + 1
    top, left = rng.integers(0, places, len(batch)), rng.integers(0, places, len(batch))
    return np.stack([image[:, t : t + size, u : u + size] for image, t, u in zip(padded, top, left)])


assert np.array_equal(RandomCrop(32, 4)(photos, rng=3), crop_naive(photos, 32, 4, np.random.default_rng(3)))
slow, fast = best_time(lambda: crop_naive(photos, 32, 4, rng)), best_time(lambda: RandomCrop(32, 4)(photos, rng))
print(f"crop 128 images, a loop: {slow:.0f} us   all at once: {fast:.0f} us   ratio {slow / fast:.1f}")
slow, fast = (
    best_time(lambda: flip_naive(photos, 0.5, rng)),
    best_time(lambda: RandomHorizontalFlip(0.5)(photos, rng)),
)
print(f"flip 128 images, a loop: {slow:.0f} us   all at once: {fast:.0f} us   ratio {slow / fast:.1f}")

# %% [markdown]
"""
## From the disk

### The idx format: 16 bytes tell everything

MNIST comes in four files in a format called idx. Here are two pictures of 2 x 3 pixels in it, byte by byte (in
hexadecimal):

```
   00 00 08 03 | 00 00 00 02 | 00 00 00 02 | 00 00 00 03 | 00 01 02 03 04 05 06 07 08 09 0a 0b
   -----+-----   -----+-----   -----+-----   -----+-----   ----------------+------------------
   zero, zero,      2 images     2 rows        3 columns    2 * 2 * 3 = 12 bytes of pixels
   type 08 = bytes,
   03 axes
```

Each length is a number of four bytes, the largest part first ("big-endian"); the machine you sit at most likely keeps
the smallest first, so reading `00 00 00 02` the wrong way round gives 33,554,432 images.

Which brings up the question to ask of every file: *what if it is damaged?* A download that stopped half-way, a web
page saved under the name of the data. A careless reader believes the header and asks for memory for 33,554,432
images; or it reads half of the images and trains on them without a word. So the header is checked first, and then the
number of bytes that really are there against the number the header promises.

**Write `idx_header`:** read the header from an open file, check it, and give `(dtype, shape)`. For the bytes above:
`(dtype('uint8'), (2, 2, 3))`. Anything else than two zero bytes, a known type and at least one axis raises
`ValueError` with the file's `name`; so does a header that ends too early.

<details><summary>Hint 1</summary>

`stream.read(4)` gives up to four bytes; `data[2]` is the third of them as a number, so `data[2]` is the type and
`data[3]` the number of axes.
</details>
<details><summary>Hint 2</summary>

Read `4 * axes` more bytes, check that you got them all, and turn each four into a number:
`np.frombuffer(data, ">u4")` reads big-endian unsigned integers of four bytes.
</details>
<details><summary>Hint 3</summary>

`shape = tuple(int(length) for length in np.frombuffer(lengths, ">u4"))`: Python integers, so that their product
cannot overflow.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "datasets-idx-header", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export data.datasets
"""The data sets of the course: 1,797 digits that come with the package, and official files that are fetched once.

    digits()               8 x 8 handwritten digits, in the package
    mnist(split)           28 x 28 handwritten digits
    fashion_mnist(split)   28 x 28 pieces of clothing, in the same format
    cifar10(split)         32 x 32 colour photographs of ten kinds of things
    tiny_shakespeare()     a million characters of Shakespeare

Files are looked for in the folder that TINYTORCH_DATA names, or else in the user's cache folder, and downloaded into it
(checksums verified) when they are missing. Nothing in a data file is ever executed or unpickled, and nothing is
allocated on the word of a header: lengths are checked against the official ones and against the bytes that are there.
"""

import contextlib
import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def idx_header(stream, name):
    """The dtype and shape that the header of an idx file announces, read from an open binary file.

    Layout: two zero bytes, a type code, the number of axes, then each axis as four bytes, most significant first.
    Raises ValueError, naming the file `name`, if this is no such header.
    """
    ### BEGIN SOLUTION
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX_TYPES or start[3] == 0:
        raise ValueError(
            f"{name} is no idx file: expected to begin with 00 00, a type and a number of axes, found {start.hex(' ')}"
        )
    lengths = stream.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise ValueError(
            f"{name} is truncated: expected {start[3]} lengths in its header, found {len(lengths)} bytes of them"
        )
    return np.dtype(_IDX_TYPES[start[2]]), tuple(int(length) for length in np.frombuffer(lengths, ">u4"))
    ### END SOLUTION


# %%
import io

two_pictures = bytes.fromhex("00000803 00000002 00000002 00000003") + bytes(range(12))
print(idx_header(io.BytesIO(two_pictures), "two pictures"))
try:
    idx_header(io.BytesIO(b"<!DOCTYPE html>"), "t10k-images-idx3-ubyte")
except ValueError as error:
    print(error)

# %% [markdown]
"""
`read_idx` does the rest: it opens the file, compressed or not, reads as many bytes as the header promises but never
more than are there, and compares. The values come in pieces of a megabyte, so a header that lies costs nothing.
"""


# %%
#| export data.datasets
def read_idx(path, shape=None):
    """The array in an idx file, gzipped or not.

    shape   the shape it must have; checked before any value is read. None takes what the header says

    Raises ValueError, naming the file, what was expected and what was found, if it is damaged or another file.
    """
    path = Path(path)
    with _open(path) as stream:
        try:
            dtype, found = idx_header(stream, path)
            if shape is not None and found != tuple(shape):
                raise ValueError(f"{path} is not the official file: expected an array {tuple(shape)}, found {found}")
            size = math.prod(found) * dtype.itemsize
            data = _read(stream, size + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is damaged or truncated ({error}); delete it and fetch it again") from None
    if len(data) != size:
        found_bytes = f"{len(data):,}" if len(data) < size else "more"
        raise ValueError(
            f"{path} does not fit its header: expected {size:,} bytes of values for an array {found}, "
            f"found {found_bytes}; delete it and fetch it again"
        )
    return np.frombuffer(data, dtype).reshape(found).astype(dtype.newbyteorder("="), copy=False)


def _open(path):
    """The file, decompressed on the way if its first bytes say that it is gzipped."""
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if gzipped else open(path, "rb")


def _read(stream, limit):
    """The rest of the stream, at most `limit` bytes, held only as they come."""
    data = bytearray()
    while len(data) < limit and (piece := stream.read(min(limit - len(data), 1 << 20))):
        data += piece
    return data


# %%
import tempfile

with tempfile.TemporaryDirectory() as folder:
    whole, cut, liar = Path(folder, "whole"), Path(folder, "cut.gz"), Path(folder, "liar")
    whole.write_bytes(two_pictures)
    cut.write_bytes(gzip.compress(two_pictures)[:-9])
    liar.write_bytes(bytes.fromhex("00000803 80000000 0000001c 0000001c") + bytes(range(12)))
    print(read_idx(whole).tolist())
    for path in (cut, liar):
        try:
            read_idx(path)
        except ValueError as error:
            print("ValueError:", str(error).replace(folder + os.sep, ""))

# %% [markdown]
"""
### CIFAR-10: no header at all

The binary version of CIFAR-10 has no header. Each record is one byte of label and 3 x 32 x 32 = 3,072 bytes of
pixels: all red ones, then green, then blue.

```
   | label | 1024 red | 1024 green | 1024 blue |  label | 1024 red | ...        3073 bytes a record
```

Without a header nothing says how many records there should be, and a file cut at the end of a record looks whole. So
the reader must know by heart that an official file holds 10,000 of them; `cifar10` checks that. What can be checked
here: the length is a multiple of 3,073, and every label is one of ten.

(There is also a "python version" of CIFAR-10. It is a pickle, and opening a pickle means running whatever program its
author put in. We never do that with data.)

**Write `parse_cifar`:** from the bytes of a file make images `(N, 3, 32, 32)` uint8 and labels `(N,)` int64.

<details><summary>Hint 1</summary>

`np.frombuffer(data, np.uint8)` sees the bytes as an array without copying. `reshape(-1, 3073)` makes one row per
record.
</details>
<details><summary>Hint 2</summary>

Column 0 is the labels, the other columns are the pixels, in the order channel, row, column.
</details>
<details><summary>Hint 3</summary>

`labels = records[:, 0].astype(np.int64)` and `images = records[:, 1:].reshape(-1, 3, 32, 32)`. Check `labels.max()`
before returning.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "datasets-parse-cifar", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export data.datasets
_CIFAR_RECORD = 1 + 3 * 32 * 32
_CIFAR_FILE = 10_000 * _CIFAR_RECORD  # bytes in an official file


def parse_cifar(data, name):
    """The images (N, 3, 32, 32) uint8 and labels (N,) int64 in the bytes of a CIFAR-10 binary file.

    Raises ValueError, naming the file `name`, unless it consists of whole records with labels 0..9.
    """
    if not data or len(data) % _CIFAR_RECORD:
        raise ValueError(
            f"{name} is damaged or truncated: expected records of {_CIFAR_RECORD} bytes, found {len(data):,} bytes, "
            f"which is {len(data) / _CIFAR_RECORD:.2f} records"
        )
    ### BEGIN SOLUTION
    records = np.frombuffer(data, np.uint8).reshape(-1, _CIFAR_RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        worst = int(labels.argmax())
        raise ValueError(f"{name} is damaged: expected labels 0..9, found {labels[worst]} in record {worst}")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels
    ### END SOLUTION


# %%
red_frog = bytes([6]) + bytes([255] * 1024 + [0] * 2048)
images, labels = parse_cifar(red_frog * 2, "two frogs")
print(images.shape, images.dtype, "labels", labels, "one pixel (red, green, blue):", images[0, :, 5, 5])

# %% [markdown]
"""
### Finding and fetching

The rest is plumbing, and given. Files are looked for in the folder that the environment variable `TINYTORCH_DATA`
names, otherwise in your cache folder; what is missing is downloaded once, and kept only if its SHA-256 checksum is
the one written in the code. Without a network there is one error that says which file to put where.

Two decisions are worth a look:
- **Pixels stay bytes in memory** and become floats batch by batch (`ToTensor` as a transform). The next section
  measures what that saves.
- **The digits come with the package**, so that everything works without a network: 1,797 pictures of 8 x 8, 46 kB.
  Which 359 of them are held out is written in the file, not drawn, so that your accuracy and your neighbour's are
  about the same pictures.
"""


# %%
#| export data.datasets
#| data data/digits.npz
#| data data/digits.txt
# In the notebook of this lesson there is no __file__: the digits then lie in the current folder, beside the notebook.
_DIGITS = Path(globals().get("__file__", "datasets.py")).with_name("digits.npz")


def digits(split: str | None = None, transform=None):
    """1,797 real handwritten digits of 8 x 8 pixels: a `TensorDataset` of images and labels.

    split    "train" (1,438), "test" (359, held out, always the same ones) or None for all, in their first order
    images   (N, 1, 8, 8) float32, 0 (paper) .. 1 (ink); then `transform`
    labels   (N,) int64, 0..9

    E. Alpaydin and C. Kaynak 1998, UCI Machine Learning Repository, CC BY 4.0; see digits.txt beside this file.
    """
    _check_split("digits", split, (None, "train", "test"))
    with np.load(_DIGITS, allow_pickle=False) as file:
        images, labels, test = file["images"], file["labels"], file["test"]
    held_out = np.zeros(len(images), bool)
    held_out[test] = True
    chosen = {None: slice(None), "train": ~held_out, "test": held_out}[split]
    images = images[chosen, None] / np.float32(16)
    return TensorDataset(images, labels[chosen].astype(np.int64), transform=transform)


def _check_split(name, split, splits):
    if split not in splits:
        raise ValueError(f"{name} has the splits {', '.join(map(repr, splits))}, got {split!r}")


# %%
#| export data.datasets
FASHION_MNIST_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class _Source(NamedTuple):
    """Where the official files of a data set come from."""

    name: str
    folders: tuple  # where below the data folder to look; downloads go to the first
    urls: tuple  # addresses that serve the files, tried in this order; each ends in "/"
    sha256: dict  # file name -> checksum


_MNIST = _Source(
    "mnist",
    ("mnist", "MNIST", "MNIST/raw", "."),
    ("https://storage.googleapis.com/cvdf-datasets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
    {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
)
_FASHION_MNIST = _Source(
    "fashion_mnist",
    ("fashion-mnist", "fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),  # never ".": MNIST's files are named alike
    ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    {
        "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
)
_CIFAR10 = _Source(
    "cifar10",
    ("cifar10", "cifar-10", "CIFAR10", "."),
    ("https://www.cs.toronto.edu/~kriz/",),
    {"cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"},
)
_TINY_SHAKESPEARE = _Source(
    "tiny_shakespeare",
    ("tinyshakespeare", "tiny_shakespeare", "tiny-shakespeare"),
    ("https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",),
    {"input.txt": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
)


def data_folder() -> Path:
    """Where data files are looked for and downloaded to: TINYTORCH_DATA, or else the user's cache folder."""
    if folder := os.environ.get("TINYTORCH_DATA"):
        return Path(folder).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("tinytorch"))


def _find(source, *names):
    """The path of the first of `names` that lies in one of the source's folders, or None."""
    for folder in source.folders:
        for name in names:
            path = data_folder() / folder / name
            if path.is_file():
                return path
    return None


def _obtain(source, names):
    """The paths of the official files `names`: those that are here, and the others after a download."""
    paths = [_find(source, name, name.removesuffix(".gz")) for name in names]
    missing = [name for name, path in zip(names, paths) if path is None]
    if missing:
        _download(source, missing)
        paths = [path or _find(source, name) for name, path in zip(names, paths)]
    return paths


def _download(source, names):
    """Fetch files and verify their checksums. Raises FileNotFoundError that says what to put where by hand."""
    import pooch

    folder = data_folder() / source.folders[0]
    for i, name in enumerate(names):
        failures = []
        for url in source.urls:
            try:
                pooch.retrieve(url + name, f"sha256:{source.sha256[name]}", fname=name, path=folder)
                break
            except (OSError, ValueError) as error:
                reason = "wrong checksum" if isinstance(error, ValueError) else type(error).__name__
                failures.append(f"{reason} at {url}")
        else:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty
            wanted = "\n".join(f"    {source.urls[0]}{name}" for name in names[i:])
            raise FileNotFoundError(
                f"{source.name} needs files that are not here, and downloading them failed ({'; '.join(failures)}). "
                f"Put\n{wanted}\ninto {folder}, or set TINYTORCH_DATA to a folder that holds them."
            ) from None


def _idx_dataset(source, split, transform):
    _check_split(source.name, split, ("train", "test"))
    prefix, n = {"train": ("train", 60_000), "test": ("t10k", 10_000)}[split]
    pictures, classes = _obtain(source, [f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"])
    images = read_idx(pictures, (n, 28, 28))
    labels = read_idx(classes, (n,)).astype(np.int64)
    if not 0 <= labels.min() <= labels.max() <= 9:
        raise ValueError(f"{classes} is damaged: expected labels 0..9, found {labels.min()}..{labels.max()}")
    return _bytes_dataset(images[:, None], labels, transform)


def _bytes_dataset(images, labels, transform):
    """Pictures that are kept as bytes and become float32 in 0..1 as they are drawn."""
    scale = ToTensor()
    return TensorDataset(images, labels, transform=scale if transform is None else Compose([scale, transform]))


def mnist(split: str = "train", transform=None):
    """Handwritten digits of 28 x 28 pixels (LeCun, Cortes, Burges): a `TensorDataset` of images and labels.

    split    "train" (60,000) or "test" (10,000)
    images   kept as bytes, drawn as float32 (n, 1, 28, 28) in 0 (paper) .. 1 (ink); then `transform`
    labels   (N,) int64, 0..9

    Raises FileNotFoundError when files are missing and cannot be fetched, ValueError when one is damaged.
    """
    return _idx_dataset(_MNIST, split, transform)


def fashion_mnist(split: str = "train", transform=None):
    """Pieces of clothing of 28 x 28 pixels (Xiao, Rasul, Vollgraf 2017), in all else as `mnist`.

    The names of the ten classes are `FASHION_MNIST_CLASSES`.
    """
    return _idx_dataset(_FASHION_MNIST, split, transform)


def cifar10(split: str = "train", transform=None):
    """Colour photographs of 32 x 32 pixels (Krizhevsky 2009): a `TensorDataset` of images and labels.

    split    "train" (50,000) or "test" (10,000)
    images   kept as bytes, drawn as float32 (n, 3, 32, 32) in 0..1; then `transform`
    labels   (N,) int64, 0..9, named in `CIFAR10_CLASSES`

    Reads the binary version, unpacked (cifar-10-batches-bin) or as the archive cifar-10-binary.tar.gz; never the python
    version, which is a pickle. Raises FileNotFoundError when files are missing and cannot be fetched, ValueError when
    one is damaged.
    """
    _check_split("cifar10", split, ("train", "test"))
    names = ["test_batch.bin"] if split == "test" else [f"data_batch_{i}.bin" for i in range(1, 6)]
    files = [_find(_CIFAR10, f"cifar-10-batches-bin/{name}", name) for name in names]
    if None in files:
        (archive,) = _obtain(_CIFAR10, ["cifar-10-binary.tar.gz"])
        contents = _members(archive, [f"cifar-10-batches-bin/{name}" for name in names])
    else:
        contents = []
        for file in files:
            with open(file, "rb") as stream:
                contents.append((file, _read(stream, _CIFAR_FILE + 1)))
    parts = []
    for name, data in contents:
        if len(data) != _CIFAR_FILE:
            found = f"{len(data):,}" if len(data) < _CIFAR_FILE else "more"
            raise ValueError(f"{name} is damaged or truncated: expected {_CIFAR_FILE:,} bytes, found {found}")
        parts.append(parse_cifar(data, name))
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts))
    return _bytes_dataset(images, labels, transform)


def _members(archive, names):
    """(name, contents) of some files in a tar archive, in one pass over it; nothing is unpacked to disk."""
    import tarfile

    found = {}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.name in names and member.isfile():
                    found[member.name] = _read(tar.extractfile(member), _CIFAR_FILE + 1)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ValueError(f"{archive} is damaged or truncated ({error}); delete it and fetch it again") from None
    if missing := [name for name in names if name not in found]:
        raise ValueError(
            f"{archive} is another archive: expected {', '.join(missing)} in it, found {len(found)} of them"
        )
    return [(f"{archive}/{name}", found[name]) for name in names]


def tiny_shakespeare() -> str:
    """About a million characters from Shakespeare's plays, the usual text for small character models.

    Raises FileNotFoundError when the file is missing and cannot be fetched, ValueError when it is not the official one.
    """
    path = data_folder() / "tinyshakespeare.txt"
    if not path.is_file():
        path = _find(_TINY_SHAKESPEARE, "tinyshakespeare.txt") or _obtain(_TINY_SHAKESPEARE, ["input.txt"])[0]
    data = path.read_bytes()
    found, expected = hashlib.sha256(data).hexdigest(), _TINY_SHAKESPEARE.sha256["input.txt"]
    if found != expected:
        raise ValueError(
            f"{path} is not the official text: expected 1,115,394 bytes with sha256 {expected[:16]}..., "
            f"found {len(data):,} bytes with {found[:16]}...; delete it and fetch it again"
        )
    return data.decode("ascii")


# %% [markdown]
"""
Here are ten of the digits, as numbers and as the loader gives them.
"""

# %%
import matplotlib.pyplot as plt

from tito.pictures import tiles

everything = digits()
print(everything)
images, labels = everything[:10]
print(
    "images",
    images.shape,
    images.dtype,
    "from",
    float(images.min()),
    "to",
    float(images.max()),
    "  labels",
    labels.tolist(),
)

tiles(images.data, labels.tolist(), columns=10)
plt.show()

# %% [markdown]
"""
## Systems thinking, measured

### Bytes or floats?

A pixel is a byte in the file. As float32 it takes four. How much is that for the data sets of the course, and what
does it cost to convert each batch as it is drawn instead?
"""

# %%
for name, shape in [("mnist", (60_000, 1, 28, 28)), ("cifar10", (50_000, 3, 32, 32))]:
    n = int(np.prod(shape))
    print(f"{name:8s} {n / 1e6:6.0f} MB as bytes, {4 * n / 1e6:6.0f} MB as float32")

as_floats = TensorDataset(np.zeros((10_000, 1, 28, 28), np.float32))
as_bytes = TensorDataset(np.zeros((10_000, 1, 28, 28), np.uint8), transform=ToTensor())
a, b = best_time(lambda: as_floats.get_batch(chosen), 200), best_time(lambda: as_bytes.get_batch(chosen), 200)
print(f"a batch of 128: {a:.1f} us from floats, {b:.1f} us from bytes, {b - a:.1f} us for converting")

# %% [markdown]
"""
### What does the loader itself cost?

The shortest code that could possibly do the job slices arrays by hand. Beside it, the loader, over the same 10,000
pictures in batches of 128; then the same with one sample at a time.
"""


# %%
def by_hand():
    x, y = (tensor.data for tensor in pictures.tensors)
    order = np.random.default_rng(0).permutation(10_000)
    for start in range(0, 10_000, 128):
        rows = order[start : start + 128]
        from_numpy(x[rows]), from_numpy(y[rows])


def through(loader):
    for _ in loader:
        pass


class Slow(TensorDataset):
    """Samples one by one: what every data set without a quick way does."""

    def __getitem__(self, index):
        return super().__getitem__(index)


batches = math.ceil(10_000 / 128)
fast_loader = DataLoader(pictures, batch_size=128, shuffle=True, seed=0)
slow_loader = DataLoader(Slow(*pictures.tensors), batch_size=128, shuffle=True, seed=0)
hand, fast = best_time(by_hand, 10) / batches, best_time(lambda: through(fast_loader), 10) / batches
slow = best_time(lambda: through(slow_loader), 2) / batches
print("per batch of 128 pictures:")
print(f"    by hand            {hand:7.1f} us")
print(f"    the loader         {fast:7.1f} us   ({fast - hand:+.1f} us)")
print(f"    sample by sample   {slow:7.1f} us   ({slow / fast:.0f} times the loader)")

# %% [markdown]
"""
### When do threads help?

Three transforms of the same batch: one *waits* (as for a disk or a network), one computes in NumPy, one computes in
Python. The training step is NumPy work of some milliseconds. Guess before you run the cell: which of them gain from
two threads that fetch ahead?
"""

# %%
work = np.random.default_rng(0).random((400, 400), dtype=np.float32)


def train_step():
    for _ in range(4):
        work @ work


def waits(images):
    time.sleep(0.004)
    return images


def numpy_work(images):
    for _ in range(4):
        images = np.sqrt(images * images)
    return images


def python_work(images):
    sum(i * i for i in range(60_000))
    return images


def epoch_time(transform, num_workers):
    small = TensorDataset(np.ones((1280, 1, 28, 28), np.float32), transform=transform)
    start = time.perf_counter()
    for _ in DataLoader(small, batch_size=128, num_workers=num_workers):
        train_step()
    return time.perf_counter() - start


print("one epoch of 10 batches, in ms      alone   2 threads")
for transform in (waits, numpy_work, python_work):
    alone, threads = (min(epoch_time(transform, n) for _ in range(3)) * 1e3 for n in (0, 2))
    print(f"    {transform.__name__:28s} {alone:8.1f} {threads:8.1f}   ratio {alone / threads:.2f}")

# %% [markdown]
"""
Waiting disappears behind the training step. NumPy work gains where a core is idle and nothing where the training step
already uses them all; Python work gains nothing, since the interpreter runs one thread of it at a time. So
`num_workers=0` is the right default, and threads are for data that come from a disk or a network.

### Does the order matter?

Sort the digits by their label and train on them in that order, then with shuffling; everything else the same. Each
batch of the sorted run holds one kind of digit, so every step tells the network to answer that digit, whatever it
sees.
"""

# %%
from tinytorch.core.activations import relu
from tinytorch.core.layers import Linear, Module
from tinytorch.core.losses import cross_entropy
from tinytorch.core.optimizers import Adam
from tinytorch.core.tensor import manual_seed


class Net(Module):
    def __init__(self):
        self.first = Linear(64, 64)
        self.second = Linear(64, 10)

    def forward(self, images):
        return self.second(relu(self.first(images.reshape(len(images), 64))))


def train_and_test(loader, epochs):
    manual_seed(0)
    net = Net()
    optimizer = Adam(net.parameters(), lr=3e-3)
    for _ in range(epochs):
        for images, labels in loader:
            loss = cross_entropy(net(images), labels)
            net.zero_grad()
            loss.backward()
            optimizer.step()
    images, labels = digits("test")[:]
    return float((net(images).data.argmax(axis=1) == labels.data).mean())


images, labels = digits("train")[:]
by_label = np.argsort(labels.data, kind="stable")
in_order = TensorDataset(images.data[by_label], labels.data[by_label])
print("in the order of their labels:", f"{train_and_test(DataLoader(in_order, batch_size=64), 5):.1%}")
print("shuffled:                    ", f"{train_and_test(DataLoader(in_order, 64, shuffle=True, seed=0), 5):.1%}")

# %% [markdown]
"""
## All together

The checks of this lesson in one cell, and then real digits through the whole stack: the data set, shifted a little at
random, in shuffled batches, for twelve epochs.
"""

# %%
# Every sample once per epoch; the same batches with and without threads; the same again after a resume.
counting = TensorDataset(np.arange(23), transform=None)
for workers in (0, 3):
    loader = DataLoader(counting, batch_size=5, shuffle=True, num_workers=workers, seed=5)
    order = np.concatenate([batch[0].data for batch in loader])
    assert sorted(order.tolist()) == list(range(23))
    assert order.tolist() != sorted(order.tolist())
    print(f"num_workers={workers}: {order.tolist()}")
assert len(loader) == 5
assert len(DataLoader(counting, 5, drop_last=True)) == 4

# Random transforms draw from the batch's generator: threads change nothing.
shifted = digits("train", transform=RandomCrop(8, padding=1))
alone, threaded = (list(DataLoader(shifted, 256, shuffle=True, seed=3, num_workers=n)) for n in (0, 4))
assert all(np.array_equal(a[0].data, b[0].data) for a, b in zip(alone, threaded))

# Parts hold everything exactly once.
parts = random_split(counting, [0.6, 0.2, 0.2], seed=0)
assert sorted(np.concatenate([part.indices for part in parts]).tolist()) == list(range(23))

start = time.perf_counter()
accuracy = train_and_test(DataLoader(shifted, batch_size=32, shuffle=True, seed=0), epochs=12)
print(f"{accuracy:.1%} of the 359 held-out digits read correctly, after {time.perf_counter() - start:.1f} s")

# %% [markdown]
"""
## Questions

**1.** 50,000 images, batches of 128. How many batches has an epoch with and without `drop_last`, and how many images
does `drop_last` skip?

<details><summary>Answer</summary>

50,000 / 128 = 390.6: 391 batches, the last with 80 images; 390 with `drop_last`, which skips those 80 (0.16 %). With
shuffling it is another 80 in every epoch.
</details>

**2.** A loader draws 128 random indices for each batch, instead of cutting a permutation. What share of the images
does it miss in an epoch?

<details><summary>Answer</summary>

One draw misses a given image with probability 1 - 1/50,000; 50,000 draws miss it with (1 - 1/50,000)^50,000, which is
e^-1 = 36.8 %. More than a third of the data is not seen in that epoch, and 26 % is seen twice or more. Over many
epochs it evens out, but it is slower than it need be.
</details>

**3.** A batch of 256 photographs of 224 x 224 in three colours, as float32. How large is it, and how much memory do
`num_workers=8, prefetch=16` hold at most?

<details><summary>Answer</summary>

256 * 3 * 224 * 224 * 4 bytes = 154 MB. Sixteen ahead and one in use: 17 * 154 MB = 2.6 GB. As bytes it would be a
quarter. Without a bound on `prefetch` a loader that is faster than the training would fill any memory.
</details>

**4.** A step trains for 80 ms; fetching its batch takes 200 ms of waiting for a disk. How many threads are needed so
that training never waits? What does the epoch gain?

<details><summary>Answer</summary>

Three: in 80 ms each thread does 80 / 200 = 0.4 batches, so 2.5 threads keep up, and there are no half threads;
`prefetch` must be at least 3 as well, or only two batches are ever under way. A step takes 80 ms instead of 280: 3.5
times faster, if the disk can serve three readers.
</details>

**5.** A language model is trained on 300 billion tokens, each stored as two bytes, in batches of 3.2 million tokens
(GPT-3's numbers). How large is the file, how many steps is one epoch, and why does nobody shuffle tokens?

<details><summary>Answer</summary>

600 GB, about 94,000 steps. The order of tokens *is* the text. What is shuffled is which pieces of 2,048 tokens come
next: a permutation of 146 million integers, 1.2 GB as int64. The file stays on disk, and a sample is a slice of it:
`__len__` and `__getitem__` again.
</details>
"""
