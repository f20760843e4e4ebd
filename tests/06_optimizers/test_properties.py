"""Facts that hold for all shapes and numbers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from support.checks import assert_close
from tinytorch.core.optimizers import SGD, Adam, pieces
from tinytorch.core.tensor import Tensor

shapes = st.lists(st.integers(0, 6), max_size=3).map(tuple)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(shape=shapes, size=st.integers(1, 50))
def test_pieces_cover_everything_once_and_in_order(shape, size):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    parts = [piece for (piece,) in pieces(array, size=size)]
    assert [value for part in parts for value in part.tolist()] == array.ravel().tolist()
    assert all(len(part) == size for part in parts[:-1])


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    scale=st.floats(-12, 12).map(lambda exponent: 10.0**exponent),
    gradients=st.lists(st.floats(-1, 1), min_size=1, max_size=20),
)
def test_adam_does_not_care_about_the_scale_of_the_loss(scale, gradients):
    places = []
    for factor in (1.0, scale):
        w = Tensor([0.0], requires_grad=True, dtype=np.float64)
        optimizer = Adam([w], lr=0.1, eps=0.0)
        w.grad = np.array([factor])
        optimizer.step()
        for g in gradients:
            w.grad = np.array([factor * g])
            optimizer.step()
        places.append(w.item())
    assert_close(places[1], places[0], rtol=1e-6, atol=1e-9)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    start=st.floats(-100, 100),
    lr=st.floats(0.01, 0.9),
    weight_decay=st.floats(0, 1),
)
def test_plain_descent_on_a_parabola_shrinks_by_a_known_factor(start, lr, weight_decay):
    w = Tensor([start], requires_grad=True, dtype=np.float64)
    optimizer = SGD([w], lr=lr, weight_decay=weight_decay)
    for _ in range(5):
        w.grad = w.data.copy()  # of w^2 / 2
        optimizer.step()
    assert_close(w.item(), start * (1 - lr * (1 + weight_decay)) ** 5, rtol=1e-9, atol=1e-12)
