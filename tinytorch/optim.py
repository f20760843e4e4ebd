# Generated from course.toml by `tito export`. To change this file, edit the lesson and export again.
"""Optimizers."""

from tinytorch.core.optimizers import SGD, Adam, AdamW, Optimizer

__all__ = ["Adam", "AdamW", "Optimizer", "SGD"]
