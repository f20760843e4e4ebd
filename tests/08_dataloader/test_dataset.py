"""Data sets that hold arrays, parts of data sets, and samples put together into batches."""

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.data.loader import Dataset, Subset, TensorDataset, default_collate, random_split


class Squares(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, index):
        return index, float(index) ** 2


class Doubled(TensorDataset):
    """A subclass that makes its samples itself."""

    def __getitem__(self, index):
        (x,) = super().__getitem__(index)
        return (Tensor(x.data * 2),)


@pytest.fixture
def data():
    return TensorDataset(np.arange(12, dtype=np.float32).reshape(4, 3), np.array([7, 8, 9, 10]))


# TensorDataset


def test_a_sample_is_the_tuple_of_row_i_of_every_tensor(data):
    x, y = data[1]
    assert_close(x, np.array([3, 4, 5], np.float32))
    assert_close(y, np.array(8))


def test_a_negative_number_counts_from_the_end(data):
    assert data[-1][1].item() == 10


@pytest.mark.parametrize(
    "index", [[2, 0], np.array([2, 0]), Tensor([2, 0]), slice(2, None, -2), np.array([True, False, True, False])]
)
def test_many_samples_at_once_keep_their_rows_together(data, index):
    x, y = data[index]
    assert x.shape == (2, 3)
    assert_close(y.data * 3, x.data[:, 0].astype(np.int64) + 21)


def test_a_batch_holds_the_rows_asked_for_in_that_order(data):
    x, y = data.get_batch(np.array([3, 0, 3]))
    assert_close(x, np.array([[9, 10, 11], [0, 1, 2], [9, 10, 11]], np.float32))
    assert_close(y, np.array([10, 7, 10]))


def test_a_subset_of_the_data_set_in_a_loop_ends_by_itself(data):
    assert [y.item() for _, y in data] == [7, 8, 9, 10]


@pytest.mark.parametrize("index", [1, slice(0, 2), slice(None), [0, 1]])
def test_writing_into_a_sample_leaves_the_data_set_as_it_was(data, index):
    data[index][0].data[...] = -1
    assert_close(data.tensors[0], np.arange(12, dtype=np.float32).reshape(4, 3))


def test_writing_into_a_batch_leaves_the_data_set_as_it_was(data):
    data.get_batch(np.arange(4))[0].data[...] = -1
    assert_close(data.tensors[0], np.arange(12, dtype=np.float32).reshape(4, 3))


def test_float64_arrays_become_float32_and_other_dtypes_stay():
    data = TensorDataset(np.ones(2), np.ones(2, np.uint8), np.ones(2, np.int64), np.ones(2, bool), [1.0, 2.0])
    assert [x.dtype for x in data[0]] == [np.float32, np.uint8, np.int64, np.bool_, np.float32]


def test_arrays_are_shared_not_copied():
    array = np.zeros((3, 2), np.float32)
    assert np.shares_memory(TensorDataset(array).tensors[0].data, array)


def test_samples_of_tensors_that_require_gradients_do_not():
    x = Tensor(np.ones((3, 2)), requires_grad=True)
    assert [t.requires_grad for t in (*TensorDataset(x)[0], *TensorDataset(x).get_batch(np.array([0])))] == [False] * 2


def test_the_transform_sees_one_row_or_a_batch_of_the_first_tensor_only():
    shapes = []

    def transform(x):
        shapes.append(x.shape)
        return x + 1

    data = TensorDataset(np.zeros((4, 3), np.float32), np.zeros(4), transform=transform)
    (x, y), (xs, ys) = data[0], data.get_batch(np.array([0, 1]))
    assert shapes == [(3,), (2, 3)]
    assert x.data.tolist() == [1, 1, 1]
    assert xs.data.sum() == 6
    assert y.item() == 0
    assert ys.data.tolist() == [0, 0]


def test_a_transform_that_gives_tensors_is_welcome():
    data = TensorDataset(np.zeros((4, 3), np.uint8), transform=lambda x: Tensor(x, dtype=np.float32))
    assert data[0][0].dtype == data.get_batch(np.array([0]))[0].dtype == np.float32


def test_a_subclass_that_makes_its_own_samples_is_asked_for_each():
    data = Doubled(np.array([1.0, 2.0, 3.0]))
    assert_close(data.get_batch(np.array([2, 0]))[0], np.array([6, 2], np.float32))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((), ValueError, "at least one tensor"),
        ((np.zeros(3), np.zeros(4)), ValueError, "one length, got lengths 3, 4"),
        ((np.zeros(3), np.float32(1)), ValueError, "number 1 has shape"),
        ((Tensor(1.0),), ValueError, "number 0 has shape"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        TensorDataset(*arguments)


def test_a_transform_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match="transform it can call, got int"):
        TensorDataset(np.zeros(3), transform=3)


@pytest.mark.parametrize("index", [(0, 1), None, ...])
def test_an_index_for_more_than_the_rows_is_refused(data, index):
    with pytest.raises(TypeError, match="number, slice or list"):
        data[index]


@pytest.mark.parametrize("fetch", [lambda data: data[4], lambda data: data.get_batch(np.array([4]))])
def test_a_sample_that_is_not_there_raises_index_error(data, fetch):
    with pytest.raises(IndexError, match="4 is out of bounds"):
        fetch(data)


# Dataset


def test_a_data_set_of_ones_own_is_collated_sample_by_sample():
    i, square = Squares().get_batch(np.array([3, 5]))
    assert_close(i, np.array([3, 5]))
    assert_close(square, np.array([9, 25], np.float32))


def test_a_data_set_without_its_two_methods_says_which_is_missing():
    class Empty(Dataset):
        pass

    with pytest.raises(NotImplementedError, match="Empty must define __len__"):
        len(Empty())
    with pytest.raises(NotImplementedError, match="Empty must define __getitem__"):
        Empty()[0]


# default_collate


@pytest.mark.parametrize(
    ("samples", "dtype", "values"),
    [
        ([1, 2], np.int64, [1, 2]),
        ([1.5, 2], np.float32, [1.5, 2]),
        ([True, False], np.bool_, [True, False]),
        ([np.float64(0.5)], np.float32, [0.5]),
        ([np.uint8([1, 2]), np.uint8([3, 4])], np.uint8, [[1, 2], [3, 4]]),
        ([Tensor([1.0]), Tensor([2.0])], np.float32, [[1], [2]]),
        ([Tensor(3), Tensor(4)], np.int64, [3, 4]),
    ],
)
def test_numbers_arrays_and_tensors_are_stacked(samples, dtype, values):
    assert_close(default_collate(samples), np.array(values, dtype))


def test_tuples_are_collated_column_by_column():
    x, (y, name) = default_collate([(1.0, (2, "a")), (3.0, (4, "b"))])
    assert_close(x, np.array([1, 3], np.float32))
    assert_close(y, np.array([2, 4]))
    assert name == ["a", "b"]


def test_dicts_are_collated_key_by_key_whatever_their_order():
    batch = default_collate([{"x": 1, "y": [2.0]}, {"y": [4.0], "x": 3}])
    assert batch.keys() == {"x", "y"}
    assert batch["x"].tolist() == [1, 3]
    assert batch["y"][0].tolist() == [2, 4]


def test_the_batch_does_not_share_memory_with_its_samples():
    sample = np.zeros(2, np.float32)
    default_collate([sample])[0].data[...] = 1
    assert sample.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([], ValueError, "at least one sample"),
        ([(1, 2), (1,)], ValueError, "first is 2 parts and number 1 of the batch is 1 parts"),
        ([{"a": 1}, {"b": 1}], ValueError, "first is a dict of a and number 1 of the batch is a dict of b"),
        ([1, 2, "c"], ValueError, "number 2 of the batch is text"),
        ([(1, 2), np.zeros(2)], ValueError, "number 1 of the batch is a number or an array"),
        ([np.zeros(2), np.zeros(3)], ValueError, r"got \(2,\) first and \(3,\) as number 1"),
        ([np.zeros(2), 1.0], ValueError, r"got \(2,\) first and \(\) as number 1"),
        ([None], TypeError, "not NoneType"),
        ([object()], TypeError, "not object"),
    ],
)
def test_samples_that_cannot_be_put_together_are_named(samples, error, message):
    with pytest.raises(error, match=message):
        default_collate(samples)


# Subset and random_split


def test_a_subset_renumbers_the_samples(data):
    subset = Subset(data, [3, 1])
    assert len(subset) == 2
    assert subset[0][1].item() == 10
    assert subset[-1][1].item() == 8
    assert [y.item() for _, y in subset] == [10, 8]


def test_a_subset_fetches_batches_the_quick_way():
    class Counting(TensorDataset):
        calls = 0

        def get_batch(self, indices):
            self.calls += 1
            return super().get_batch(indices)

    data = Counting(np.arange(10))
    (x,) = Subset(Subset(data, [9, 7, 5, 3]), [2, 0]).get_batch(np.array([1, 0]))
    assert x.tolist() == [9, 5]
    assert data.calls == 1


def test_a_subset_of_a_list_is_collated():
    assert Subset([10, 20, 30], [2, 0]).get_batch(np.array([0, 1])).tolist() == [30, 10]


@pytest.mark.parametrize("indices", [[0, 4], [-1]])
def test_a_subset_refuses_samples_that_are_not_there(data, indices):
    with pytest.raises(ValueError, match=r"indices 0\.\.3, got"):
        Subset(data, indices)


@pytest.mark.parametrize(
    ("lengths", "sizes"),
    [
        ([6, 4], [6, 4]),
        ([10], [10]),
        ([0, 10], [0, 10]),
        ([0.7, 0.3], [7, 3]),
        ([0.55, 0.45], [6, 4]),
        ([1 / 3, 1 / 3, 1 / 3], [4, 3, 3]),
        ([1.0], [10]),
    ],
)
def test_random_split_makes_parts_of_the_sizes_asked_for(lengths, sizes):
    parts = random_split(range(10), lengths, seed=0)
    assert [len(part) for part in parts] == sizes
    assert sorted(i for part in parts for i in part) == list(range(10))


def test_random_split_does_not_cut_in_order():
    first, _ = random_split(range(100), [50, 50], seed=0)
    assert sorted(first.indices.tolist()) != list(range(50))


def test_random_split_repeats_with_its_seed_and_with_the_librarys():
    cut = [part.indices.tolist() for part in random_split(range(20), [15, 5], seed=3)]
    assert [part.indices.tolist() for part in random_split(range(20), [15, 5], seed=3)] == cut
    assert [part.indices.tolist() for part in random_split(range(20), [15, 5], seed=4)] != cut
    manual_seed(3)
    assert [part.indices.tolist() for part in random_split(range(20), [15, 5])] == cut


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([6, 5], ValueError, r"sum to the 10 samples, \[6, 5\] sum to 11"),
        ([0.5, 0.4], ValueError, "sum to 1, .* sum to 0.9"),
        ([-1, 11], ValueError, ">= 0"),
        ([1.5, -0.5], ValueError, ">= 0"),
        ([], TypeError, "counts or of fractions"),
        (["a"], TypeError, "counts or of fractions"),
    ],
)
def test_lengths_that_do_not_add_up_are_refused(lengths, error, message):
    with pytest.raises(error, match=message):
        random_split(range(10), lengths)
