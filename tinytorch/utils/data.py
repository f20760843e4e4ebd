# Generated from course.toml by `tito export`. To change this file, edit the lesson and export again.
"""Data sets and loaders."""

from tinytorch.data.loader import (
    DataLoader,
    Dataset,
    Subset,
    TensorDataset,
    batch_generator,
    batch_indices,
    default_collate,
    prefetched,
    random_split,
)

__all__ = [
    "DataLoader",
    "Dataset",
    "Subset",
    "TensorDataset",
    "batch_generator",
    "batch_indices",
    "default_collate",
    "prefetched",
    "random_split",
]
