"""The loader and PyTorch's, side by side."""

import numpy as np
import pytest

from tinytorch.data.loader import DataLoader, TensorDataset, default_collate, random_split

torch = pytest.importorskip("torch", reason="agreement is checked where torch is installed")


def same(ours, theirs):
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, (list, tuple)) and not isinstance(theirs[0], str):
        return len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs))
    if isinstance(theirs, (list, tuple)):
        return list(ours) == list(theirs)
    return np.array_equal(ours.data, theirs.numpy()) and ours.shape == tuple(theirs.shape)


@pytest.mark.parametrize(
    "samples",
    [
        [1, 2, 3],
        [1.5, 2.5],
        [(1, 2.0), (3, 4.0)],
        [{"x": 1, "y": (2.0, "a")}, {"x": 3, "y": (4.0, "b")}],
        [np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)],
        ["a", "b"],
    ],
)
def test_collating_agrees(samples):
    assert same(default_collate(samples), torch.utils.data.default_collate(samples))


@pytest.mark.parametrize(
    ("n", "batch_size", "drop_last"), [(10, 4, False), (10, 4, True), (8, 4, False), (3, 5, False)]
)
def test_batches_and_their_number_agree(n, batch_size, drop_last):
    x, y = np.arange(3 * n, dtype=np.float32).reshape(n, 3), np.arange(n)
    ours = DataLoader(TensorDataset(x, y), batch_size, drop_last=drop_last)
    theirs = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.tensor(x), torch.tensor(y)), batch_size, drop_last=drop_last
    )
    assert len(ours) == len(theirs)
    assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("lengths", [[7, 3], [0.7, 0.3], [0.55, 0.45], [1 / 3, 1 / 3, 1 / 3], [0.29, 0.71]])
def test_the_sizes_of_random_parts_agree(lengths):
    for n in (10, 100) if isinstance(lengths[0], float) else (10,):
        ours = [len(part) for part in random_split(range(n), lengths)]
        assert ours == [len(part) for part in torch.utils.data.random_split(range(n), lengths)]
