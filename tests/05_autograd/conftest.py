"""Rules that tests define for themselves, and how their operations are called.

The package is imported inside the fixtures, so that one without this lesson fails test by test.
"""

import pytest


@pytest.fixture
def own_rules():
    """What a test adds to the table of rules is taken out again."""
    from tinytorch.core.autograd import Function

    before = dict(Function.rules)
    yield Function.rules
    Function.rules.clear()
    Function.rules.update(before)


@pytest.fixture
def operation(own_rules):
    """operation(backward) is a new operation f(*tensors, **saved) whose output is a copy of its first input's values.

    backward(rule, grad) is its gradient rule, named after the function.
    """
    from tinytorch.core.autograd import Function
    from tinytorch.core.tensor import result

    def define(backward, name="own"):
        type(f"{name.title()}Backward", (Function,), {"backward": backward}, op=name)
        return lambda *inputs, **saved: result(inputs[0].data.copy(), name, *inputs, **saved)

    return define
