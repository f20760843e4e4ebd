"""Every operation of lesson 01 in one table, and a way to hear what is announced."""

import dataclasses
import importlib
from collections.abc import Callable

import numpy as np
import pytest


class Lesson:
    """The functions of the lesson, looked up when called: pytest reads this file even where there is no package."""

    def __getattr__(self, name):
        return getattr(importlib.import_module("tinytorch.core.tensor"), name)


T = Lesson()


@dataclasses.dataclass
class Operation:
    """One function of the lesson: how to call it, and what it says.

    call        takes `operands` tensors of shape (3, 4)
    announces   the operations announced, in order, for floating operands: (name, number of inputs, names saved)
    """

    name: str
    call: Callable
    operands: int
    announces: list

    def __str__(self):
        return self.name


def plain(name, call, operands, saved=""):
    return Operation(name, call, operands, [(name, operands, set(saved.split()))])


def made_of(name, call, operands, *steps):
    return Operation(name, call, operands, [(step, count, set(saved.split())) for step, count, saved in steps])


INDEX = np.array([[0, 2, 1, 1], [1, 1, 0, 2]])  # along axis 0 of a (3, 4)
GETITEM = ("getitem", 1, "index")
RESHAPE = ("reshape", 1, "")

OPERATIONS = [
    plain("add", lambda x, y: T.add(x, y), 2),
    plain("sub", lambda x, y: T.sub(x, y), 2),
    plain("mul", lambda x, y: T.mul(x, y), 2),
    plain("div", lambda x, y: T.div(x, y), 2),
    plain("pow", lambda x, y: T.pow(x, y), 2),
    plain("neg", lambda x: T.neg(x), 1),
    plain("abs", lambda x: T.abs(x), 1),
    plain("exp", lambda x: T.exp(x), 1, "out"),
    plain("log", lambda x: T.log(x), 1),
    plain("sqrt", lambda x: T.sqrt(x), 1, "out"),
    plain("equal", lambda x, y: x == y, 2),
    plain("not_equal", lambda x, y: x != y, 2),
    plain("less", lambda x, y: x < y, 2),
    plain("less_equal", lambda x, y: x <= y, 2),
    plain("greater", lambda x, y: x > y, 2),
    plain("greater_equal", lambda x, y: x >= y, 2),
    made_of("matmul", lambda x, y: T.matmul(x, y.T), 2, ("permute", 1, "axes"), ("matmul", 2, "")),
    plain("sum", lambda x: T.sum(x, axis=0), 1, "axis"),
    plain("mean", lambda x: T.mean(x, axis=1), 1, "axis count"),
    plain("var", lambda x: T.var(x, axis=1), 1, "axis count center"),
    made_of("std", lambda x: T.std(x, axis=1), 1, ("var", 1, "axis count center"), ("sqrt", 1, "out")),
    plain("max", lambda x: T.max(x, axis=1), 1, "axis extreme"),
    plain("min", lambda x: T.min(x, axis=1), 1, "axis extreme"),
    plain("argmax", lambda x: T.argmax(x, axis=1), 1),
    plain("argmin", lambda x: T.argmin(x, axis=1), 1),
    plain("any", lambda x: x.any(axis=1), 1),
    plain("all", lambda x: x.all(axis=1), 1),
    plain("cumsum", lambda x: T.cumsum(x, axis=1), 1, "axis"),
    plain("logsumexp", lambda x: T.logsumexp(x, axis=1), 1, "axis out"),
    plain("reshape", lambda x: T.reshape(x, 2, 6), 1),
    plain("permute", lambda x: T.permute(x, 1, 0), 1, "axes"),
    made_of("transpose", lambda x: T.transpose(x), 1, ("permute", 1, "axes")),
    made_of("swapaxes", lambda x: T.swapaxes(x, 0, 1), 1, ("permute", 1, "axes")),
    made_of("flatten", lambda x: T.flatten(x), 1, RESHAPE),
    made_of("squeeze", lambda x: T.squeeze(x), 1, RESHAPE),
    made_of("unsqueeze", lambda x: T.unsqueeze(x, 1), 1, RESHAPE),
    plain("broadcast_to", lambda x: T.broadcast_to(x, 2, 3, 4), 1),
    plain("cat", lambda x, y: T.cat([x, y], axis=1), 2, "axis"),
    made_of("stack", lambda x, y: T.stack([x, y]), 2, RESHAPE, RESHAPE, ("cat", 2, "axis")),
    made_of("split", lambda x: T.split(x, 2, axis=1)[1], 1, GETITEM, GETITEM),
    plain("getitem", lambda x: T.getitem(x, (slice(1, 3), [0, 1])), 1, "index"),
    plain("where", lambda x, y: T.where(x.data > 2, x, y), 2, "condition"),
    made_of("masked_fill", lambda x: T.masked_fill(x, x.data > 2, 7), 1, ("where", 2, "condition")),
    plain("clip", lambda x: T.clip(x, 1, 2), 1, "min max"),
    made_of("take", lambda x: T.take(x, [0, 2], axis=1), 1, GETITEM),
    made_of("gather", lambda x: T.gather(x, 0, INDEX), 1, GETITEM),
    made_of("scatter_add", lambda x, y: T.scatter_add(x, 0, INDEX, y[:2]), 2, GETITEM, ("scatter_add", 2, "where")),
    made_of("sort", lambda x: T.sort(x)[0], 1, ("argsort", 1, ""), GETITEM),
    made_of("topk", lambda x: T.topk(x, 2)[0], 1, ("argsort", 1, ""), GETITEM, GETITEM, GETITEM),
    plain("pad", lambda x: T.pad(x, 1), 1, "widths"),
    made_of("outer", lambda x, y: T.outer(x[0], y[1]), 2, GETITEM, GETITEM, RESHAPE, RESHAPE, ("mul", 2, "")),
    plain("einsum", lambda x, y: T.einsum("ij,kj->ik", x, y), 2, "inputs output"),
    plain("copy", lambda x: x.copy(), 1),
    plain("astype", lambda x: T.astype(x, np.float16), 1),
]


@pytest.fixture(scope="session")
def operations():
    return OPERATIONS


@pytest.fixture(params=OPERATIONS, ids=str)
def operation(request):
    return request.param


@pytest.fixture
def operands():
    """Two arrays (3, 4) of positive whole numbers, with ties."""
    return np.array([[1.0, 2, 3, 2], [4, 1, 2, 5], [3, 3, 1, 1]]), np.array(
        [[2.0, 1, 3, 1], [1, 3, 2, 2], [3, 2, 1, 3]]
    )


@pytest.fixture
def heard():
    """The list of announcements: (out, op, inputs, saved)."""
    announcements = []
    before = T.set_recorder(lambda *announcement: announcements.append(announcement))
    yield announcements
    T.set_recorder(before)


@pytest.fixture
def nobody_listens():
    before = T.set_recorder(None)
    yield
    T.set_recorder(before)
