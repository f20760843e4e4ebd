"""What operations announce."""

from tinytorch.core.tensor import set_recorder


def announced(function):
    """(operation, inputs, saved) of everything that `function()` announces."""
    found = []
    previous = set_recorder(lambda out, op, inputs, saved: found.append((op, inputs, saved)))
    try:
        function()
    finally:
        set_recorder(previous)
    return found
