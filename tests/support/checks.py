"""Comparison with a message to act on."""

import numpy as np


class Different(AssertionError):
    """Two values that should be equal, kept for whoever looks for the reason."""

    def __init__(self, message, got, want):
        super().__init__(message)
        self.got, self.want = got, want


def assert_close(got, want, rtol=1e-5, atol=1e-6, what=""):
    """Fail unless `got` has the shape, the kind of dtype and the values of `want`; say what came and where it differs.

    Both may be tensors, arrays or numbers. NaN equals NaN.
    """
    name = f"{what}: " if what else ""
    typed = isinstance(want, np.ndarray)
    got, want = np.asarray(getattr(got, "data", got)), np.asarray(getattr(want, "data", want))
    if got.shape != want.shape:
        raise Different(f"{name}expected shape {want.shape}, got shape {got.shape}", got, want)
    if typed and got.dtype.kind != want.dtype.kind:
        raise Different(f"{name}expected dtype {want.dtype}, got dtype {got.dtype}", got, want)
    close = np.isclose(got, want, rtol=rtol, atol=atol, equal_nan=True)
    if not close.all():
        place = tuple(int(i) for i in np.argwhere(~close)[0])
        message = (
            f"{name}values differ at {int((~close).sum())} of {want.size} places; first at index {place}: "
            f"expected {want[place]!r}, got {got[place]!r} (shape {want.shape}, expected {want.dtype}, got {got.dtype})"
        )
        raise Different(message, got, want)
