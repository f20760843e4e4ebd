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
# 05 · Autograd: which weight is to blame

| | |
|---|---|
| **You have** | tensors, activations, layers and losses (modules 01 to 04): a network that answers, and one number for how wrong it is |
| **You will build** | a gradient rule for every operation so far, the recorder that remembers what was computed, the engine that runs the rules backwards, and the tool that proves a rule right |
| **You will be able to** | say where a gradient comes from, why backward costs twice a forward, what fills the memory in training and how to trade it for time; and teach the library an operation of your own |

Needs modules 01 to 04. Exports `core/autograd.py`. The heart of the course, and the hardest lesson so far: about eight
hours. Good places to pause are before the large headings.

```
   forward     x, W, b --[ linear ]--> h --[ relu ]--> a --[ cross_entropy ]--> loss
                               |            |                   |
                          LinearBackward  ReLUBackward   CrossEntropyBackward          what the recorder keeps
                               |            |                   |
   backward    dx, dW, db <--[ ]<--- dh --[ ]<---- da --------[ ]<------------- 1

   1  rules      one per operation: from the slope of its output to the slopes of its inputs
   2  recorder   hears every announcement of `result`, and hangs the right rule on the result
   3  engine     walks from the loss back to the weights, each rule once, in the right order
```

A network has a million weights, and the loss went up by 0.1. Which weight is to blame, and how much? One could change
each weight a little and look: a million forward passes for one step of training. This lesson gets the same million
answers, exactly, for the price of about two.
"""

# %%
#| default_exp core.autograd

# %%
#| export
"""Gradients: one rule per operation, and an engine that runs the rules backwards.

Importing this file installs a recorder in `tinytorch.core.tensor`. From then on every result that depends on a tensor
with `requires_grad` carries `_grad_fn`, an instance of the rule of the operation that made it. The rules hold the
operation's inputs and whatever arrays it saved, never its output: there are no reference cycles, and a graph is freed
by reference counting while `backward` walks it.
"""

import functools
import itertools
import math
from operator import attrgetter
from types import MappingProxyType

import numpy as np
from numpy import generic, ndarray

from tinytorch.core.activations import _pieces
from tinytorch.core.tensor import (
    Tensor,
    as_array,
    generator,
    get_recorder,
    _last_change,
    _memory,
    power,
    result,
    retained,
    set_recorder,
    tick,
    written,
)

# %%
import time
import tracemalloc

import matplotlib.pyplot as plt

from tito import pictures
from tinytorch.core.activations import (
    ReLU,
    Sigmoid,
    gelu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from tinytorch.core.layers import Linear, Sequential, linear
from tinytorch.core.losses import binary_cross_entropy_with_logits, cross_entropy, mse_loss
from tinytorch.core.tensor import arange, cat, einsum, manual_seed, randn

np.set_printoptions(precision=4, suppress=True)

# %% [markdown]
"""
## The idea

### A slope is a price

Take three numbers and an expression that uses one of them twice: `L = (a * b + c) * a`, at a = 2, b = 3, c = 1.

```
   a = 2 ----+------------------------+
             |                        |
   b = 3 --[ * ]-- p = 6              |
                     |                |
   c = 1 ----------[ + ]-- s = 7 ---[ * ]-- L = 14
```

If c were larger by 0.001, how much larger would L be? Then s would be larger by 0.001, and since L is s times 2, L by
0.002. So the slope of L with respect to c, written dL/dc, is 2: every unit of c costs two units of L. It is a price,
and prices multiply along a path. That is the *chain rule*, and all there is to know about it:

```
   dL/dc  =  dL/ds * ds/dc  =  2 * 1  =  2
```

What about a? It reaches L on two paths, directly and by way of p, and L feels both. Prices multiply along a path, and
*add up over paths*. Now do it for all of them, starting from L, where the price of L in units of L is 1:

```
   dL/dL  =  1
   L = s * a       dL/ds =  1 * a  =  2            dL/da gets  1 * s  =  7      the direct path
   s = p + c       dL/dp =  2 * 1  =  2            dL/dc =     2 * 1  =  2
   p = a * b       dL/db =  2 * a  =  4            dL/da gets  2 * b  =  6      the path through p
                                                   dL/da  =    7 + 6  = 13
```

Look at what each line needed: the slope of the operation's output, which the line above had found, and the values of
the operation's inputs. It never needed to know what the whole expression looks like. Check it by nudging:
"""


# %%
def price_list(a, b, c):
    return (a * b + c) * a


nudge = 1e-6
here = price_list(2.0, 3.0, 1.0)
print("dL/da", (price_list(2.0 + nudge, 3.0, 1.0) - here) / nudge)
print("dL/db", (price_list(2.0, 3.0 + nudge, 1.0) - here) / nudge)
print("dL/dc", (price_list(2.0, 3.0, 1.0 + nudge) - here) / nudge)

# %% [markdown]
"""
### Why backwards?

The chain rule does not say from which end to begin. One could start at a, and carry "how fast does this change with
a?" along with every value, forwards: da/da = 1, dp/da = 3, ds/da = 3, dL/da = 3 * 2 + 7 = 13. That is right too, but it
answers for a alone; b needs a walk of its own. With a million weights and one loss it is a million walks.

Backwards, one walk answers for everyone, because there is only one loss to carry. With matrices in place of numbers:
three layers that each turn 400 numbers into 400 others have three 400 by 400 tables of slopes, and the loss has one row
of 400. The product is the same whichever pair is multiplied first. The work is not.
"""


# %%
def time_of(function, repeats=5):
    """The fastest of a few runs, in seconds: the others were disturbed by something."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


rng = np.random.default_rng(0)
row, J3, J2, J1 = rng.standard_normal((1, 400)), *rng.standard_normal((3, 400, 400)) / 20
print("largest difference", np.abs(((row @ J3) @ J2) @ J1 - row @ (J3 @ (J2 @ J1))).max())
backwards = time_of(lambda: ((row @ J3) @ J2) @ J1, 20)
forwards = time_of(lambda: row @ (J3 @ (J2 @ J1)))
print(
    f"from the loss {1e6 * backwards:7.0f} us, from the inputs {1e6 * forwards:7.0f} us: {forwards / backwards:.0f} x"
)

# %% [markdown]
"""
### How a tensor knows where it came from

To walk back, somebody has to remember what was done. In module 01 every operation ended in `result(array, "add", a, b)`
rather than in a plain box, and it seemed a ceremony. `result` *announces*: whoever is installed as the recorder hears
`(out, op, inputs, saved)`. So far nobody listened. Listen:
"""


# %%
def announce(out, op, inputs, saved):
    print(f"   {op:4} of {', '.join(str(x.data) for x in inputs)}  gives {out.data}")


a, b, c = Tensor(2.0), Tensor(3.0), Tensor(1.0)
outside = set_recorder(announce)
L = (a * b + c) * a
set_recorder(outside)

# %% [markdown]
"""
No operator was replaced and no class was changed; we were told. That is enough for gradients. Write down the
announcements in order, walk the list from its end, and do for every line what the table above did by hand:
"""

# %%
tape = []
outside = set_recorder(lambda out, op, inputs, saved: tape.append((out, op, inputs)))
L = (a * b + c) * a
set_recorder(outside)

price = {id(L): 1.0}
for out, op, (x, y) in reversed(tape):
    g = price[id(out)]
    for tensor, slope in ((x, g * y.item()), (y, g * x.item())) if op == "mul" else ((x, g), (y, g)):
        price[id(tensor)] = price.get(id(tensor), 0.0) + slope
print("dL/da, dL/db, dL/dc:", [price[id(x)] for x in (a, b, c)])

# %% [markdown]
"""
Ten lines, and the numbers are right. The rest of this lesson makes these ten lines into something one can train with.
What is missing?

- Two operations have rules; modules 01 to 04 announce more than forty, on arrays, with broadcasting.
- The tape holds everything that was ever computed, needed or not, and never lets go of it. So there will be no tape:
  each result will carry its own rule, and the rule will hold the inputs. What nobody holds any more is gone.
- Nothing notices if `a` is changed between the two walks, if a rule returns nonsense, or if there is no rule.

```
   L._grad_fn  = MulBackward          .inputs = (s, a)
                                                 |
                    s._grad_fn  = AddBackward    .inputs = (p, c)
                                                            |
                              p._grad_fn = MulBackward      .inputs = (a, b)        leaves: _grad_fn is None
```

The arrows point backwards only: from a result to what it was computed from. L holds s; nobody holds L but you. That is
what lets Python free a graph as soon as you drop the loss.

## The recorder

### A rule

A *rule* is a small class. Its name and its operation are tied together where it is written, `class AddBackward(Function,
op="add")`, and Python calls `__init_subclass__` for every such class, which files it under `"add"`. An instance is made
for every recorded operation and keeps its `inputs` and what the operation `saved`. Its one method answers the question
that every line of the table above answered:

```
   backward(grad):   grad is d(loss)/d(output), an array shaped as the output
                     returns d(loss)/d(input) for every input, an array shaped as that input
```

A rule is easy to get wrong, and a wrong gradient does not crash: the model just learns badly. What can be checked
cheaply should be, every time, and the message should name the rule. `apply` is `backward` with such a check. (One more
thing is noted at birth, the number of the operation; the engine needs it later.)

**Write `check`.** `grads` is a tuple. Raise RuntimeError, with `{self}` in the message, if

1. there are not as many gradients as inputs;
2. for an input that requires a gradient: it is None, its shape is not the input's, or its dtype is not.

What comes back for an input that requires none does not matter. If all is well, nothing happens.

A rule that returns an array of shape (2,) for an input of shape (3,) must lead to a RuntimeError that contains both
shapes, and the advice to sum over stretched axes (you will see why under un-broadcasting).

<details><summary>Hint 1</summary>

`self.inputs` and `grads` walk side by side in one `zip`; `enumerate` gives the number of the input for the message.
</details>
<details><summary>Hint 2</summary>

`x._requires_grad` says whether input x matters; if not, `continue`. Compare the length first, before the loop.
</details>
<details><summary>Hint 3</summary>

In the loop three `if` with a `raise` each, in this order: the gradient is None; its `shape` differs from that of x; its
`dtype` differs.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-function", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
_NOTHING = MappingProxyType({})  # what most rules save: one for all of them, which nobody can write to


class Function:
    """The gradient rule of one operation, applied to one set of inputs.

    A rule is a subclass, `class AddBackward(Function, op="add")`, which files itself in `Function.rules` and writes
    `backward(grad)`: from d(loss)/d(output) to d(loss)/d(input), one array per input, shaped as the input. It may
    return None for an input that `needs` no gradient. It returns new arrays, views, or `grad` itself, and never
    changes `grad`, which others may hold.

    inputs   the operation's tensors        saved   what the operation passed on by keyword
    """

    rules = {}
    __slots__ = ("birth", "inputs", "saved")

    def __init_subclass__(cls, op=None):
        filed = Function.rules.get(op)
        if filed is not None and filed.__qualname__ != cls.__qualname__:
            raise ValueError(
                f"operation {op!r} already has the rule {filed.__name__}; give {cls.__name__} another name"
            )
        if op is not None:
            Function.rules[op] = cls

    def __init__(self, *inputs, **saved):
        self.inputs = inputs
        self.saved = saved or _NOTHING
        self.birth = tick()

    def __repr__(self):
        return f"<{type(self).__name__}>"

    @property
    def needs(self):
        """For each input, whether its gradient is asked for."""
        return tuple(x._requires_grad for x in self.inputs)

    def backward(self, grad):
        raise NotImplementedError(f"{type(self).__name__} does not say how gradients go back")

    def check(self, grads):
        """Raise RuntimeError, naming this rule, unless each input that requires one has a gradient of its own shape and
        dtype.
        """
        ### BEGIN SOLUTION
        if len(grads) != len(self.inputs):
            raise RuntimeError(f"{self} returned {len(grads)} gradients for {len(self.inputs)} inputs")
        for i, (x, g) in enumerate(zip(self.inputs, grads)):
            if not x._requires_grad:
                continue
            if g is None:
                raise RuntimeError(f"{self} returned no gradient for input {i}, which requires one")
            if isinstance(g, Tensor) or not hasattr(g, "dtype"):
                raise RuntimeError(f"{self} returned a {type(g).__name__} for input {i}; gradients are arrays")
            if g.shape != x.shape:
                raise RuntimeError(
                    f"{self} returned a gradient of shape {g.shape} for input {i} of shape {x.shape}; "
                    "if the operation broadcasts, its rule must sum over the stretched axes (unbroadcast)"
                )
            if g.dtype != x.dtype:
                raise RuntimeError(f"{self} returned a {g.dtype} gradient for input {i}, which is {x.dtype}")
        ### END SOLUTION

    def apply(self, grad):
        """The gradients of the inputs, one per input, checked."""
        grads = self.backward(grad)
        if type(grads) is not tuple:
            grads = (grads,)
        self.check(grads)
        return grads


# %%
class OneShort(Function):
    """A rule that has lost an element on the way. It names no operation, so it is not filed."""

    def backward(self, grad):
        return grad[:-1]


node = OneShort(Tensor([1.0, 2.0, 3.0], requires_grad=True))
print(node, node.needs, Function.rules)
try:
    node.apply(np.ones(3, np.float32))
except RuntimeError as error:
    print(error)

# %% [markdown]
"""
### Recording

Now the listener. Not every announcement deserves a rule: the pixels of an image need no gradient, and neither does what
is computed from pixels alone. The chain of those who matter starts at *leaves*, tensors made with
`requires_grad=True`, and is passed on: **a result requires a gradient if any of its inputs does.** Comparisons and
indices have no slope, so only floating results can.

And if there is no rule? The tempting answer is to record nothing. Then a forgotten rule looks like a constant: the
gradients upstream are just missing, everything runs, and half of the network never learns. Courses and libraries have
shipped that bug many times. Ours is an error at the moment of the operation.

**Write `record`.** Mark every input that requires a gradient as `_used` (changing it in place will be refused from then
on). If there is none, return. Look up the rule of `op` in `Function.rules`. If there is one, mark `out` as requiring a
gradient, and hang an instance of the rule on it, made from the inputs and what was saved. Without a rule a floating
result is an error: raise NotImplementedError that names the operation. Any other result, of a comparison or of
`argmax`, has no slope and needs no rule.

With a = 2 (a leaf that requires a gradient) and b = 3: after `out = a * b`, `out._requires_grad` is True and
`out._grad_fn` is a `MulBackward` with `inputs` (a, b). After `b * b` neither is there.

<details><summary>Hint 1</summary>

`record` hears of *every* operation, so it should be cheap: one loop over `inputs`, which sets a flag if one of them
requires a gradient, and marks it.
</details>
<details><summary>Hint 2</summary>

The kind of a NumPy dtype is one letter; floats have "f". `Function.rules.get(op)` is the rule, or None.
</details>
<details><summary>Hint 3</summary>

Two assignments end it: True to `_requires_grad`, and to `_grad_fn` the rule called with `inputs` as positional and
`saved` as keyword arguments.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-record", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def record(out, op, inputs, saved):
    """Give `out` the rule of operation `op`, if any input requires a gradient. What is not floating has none."""
    ### BEGIN SOLUTION
    needed = False
    for x in inputs:
        if x._requires_grad:
            needed = x._used = True
    if not needed:
        return
    rule = Function.rules.get(op)
    if rule is not None:
        out._requires_grad = True
        out._grad_fn = rule(*inputs, **saved)
    elif out._data.dtype.kind == "f":
        raise NotImplementedError(f"operation {op!r} has no gradient rule; write class ...(Function, op={op!r})")
    ### END SOLUTION


set_recorder(record)


def is_grad_enabled():
    """Whether operations are being recorded."""
    return get_recorder() is not None


# %%
a, b = Tensor(2.0, requires_grad=True), Tensor(3.0)
print("b * b requires a gradient:", (b * b).requires_grad)
print("a > b has a _grad_fn:     ", (a > b)._grad_fn is not None)
try:
    a * b
except NotImplementedError as error:
    print(error)

# %% [markdown]
"""
From this cell on every operation on such a tensor needs a rule, and there are none yet: that is our list of things to
do.

### Recording nothing, for a while

Recording costs time, and every result keeps its inputs alive. When you only want predictions, and when an optimizer
changes weights, nobody should listen. `with no_grad():` takes the recorder out and puts it back.

Puts *which* back? The tempting line is `set_recorder(record)`. Think of two functions that both use `no_grad`, one
called by the other: when the inner one is done, recording would be switched on in the middle of the outer. And in
module 14 the recorder may be a profiler that wraps ours. So: put back what was there. Since one and the same object may
be entered again before it is left (a decorated function that calls itself), what was there goes onto a stack.

**Write `__enter__` and `__exit__`.** The first takes the recorder out, remembers it at the end of `self._outside`, and
returns `self`. The second puts the last one remembered back. It also runs if the block raised an exception, and returns
nothing, so the exception goes on.

After `with no_grad(): y = a * b`, y does not require a gradient; after the block `is_grad_enabled()` is True again.

<details><summary>Hint 1</summary>

`set_recorder` returns the recorder that it replaces, so one call does both.
</details>
<details><summary>Hint 2</summary>

The recorder that hears nothing is `None`. A list's `append` and `pop` make the stack.
</details>
<details><summary>Hint 3</summary>

`__enter__`: append what `set_recorder` returns for None. `__exit__`: hand the popped one to `set_recorder`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-no-grad", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class no_grad:
    """Record nothing inside: `with no_grad(): ...`, or `@no_grad()` above a function.

    Results computed inside require no gradient, and parameters may be changed in place. The recorder is one for the
    whole process, so this switches recording off for other threads too.
    """

    def __init__(self):
        self._outside = []  # a stack, because one instance may be entered again before it is left

    def __enter__(self):
        ### BEGIN SOLUTION
        self._outside.append(set_recorder(None))
        return self
        ### END SOLUTION

    def __exit__(self, *exception):
        ### BEGIN SOLUTION
        set_recorder(self._outside.pop())
        ### END SOLUTION

    def __call__(self, function):
        @functools.wraps(function)
        def without_gradients(*args, **kwargs):
            with self:
                return function(*args, **kwargs)

        return without_gradients


# %%
with no_grad():
    print("inside: ", is_grad_enabled(), (a * b).requires_grad)
    with no_grad():
        pass
    print("after an inner one:", is_grad_enabled())
print("outside:", is_grad_enabled())


@no_grad()
def countdown(n):
    return [is_grad_enabled()] + (countdown(n - 1) if n else [])


print("a decorated function that calls itself:", countdown(2), "and afterwards", is_grad_enabled())

# %% [markdown]
"""
## The rules

### What was stretched must be summed

Add a bias of shape (4,) to a batch of shape (3, 4). NumPy *stretches* the bias: its four numbers are used three times,
once in every row.

```
   x (3, 4)          b (4,)                 out (3, 4)             if d(loss)/d(out) is      then db is

   . . . .       b0 b1 b2 b3  (row 0)       . . . .                1  2  3  4
   . . . .   +   b0 b1 b2 b3  (row 1)   =   . . . .                1  0  0  2                3  2  3  7
   . . . .       b0 b1 b2 b3  (row 2)       . . . .                1  0  0  1
```

b0 reached the loss on three paths, with the prices 1, 1 and 1, so its slope is 3: over paths, prices add up. The rule
of `add` is "both inputs get grad", and the tempting code is `return grad, grad`. What happens then? Without a check,
this:
"""

# %%
bias, gradient = np.zeros(4), np.array([[1.0, 2, 3, 4], [1, 0, 0, 2], [1, 0, 0, 1]])
bias = bias - 0.1 * gradient  # grad returned as it is, and a step of training
print("the bias has the shape", bias.shape, "after one step:", *bias)

# %% [markdown]
"""
Nothing crashed. The bias is now a matrix, each row of the batch has a bias of its own, and the model breaks on the
first batch of another length. (Under Python's `-=` NumPy would have raised; do not count on it.) This is the most
common mistake in hand-written autograd, and it is why `apply` compares shapes.

Two kinds of axes were stretched: those that the smaller shape did not have at all, which NumPy adds on the *left*, and
those where it has length 1.

```
   grad   (5, 3, 4)
   shape     (1, 4)        axis 0 is new, axis 1 went from 1 to 3: sum over axes 0 and 1, then reshape to (1, 4)
```

**Write `unbroadcast`**: sum `grad` over all stretched axes and return it in `shape`. If the shapes agree, `grad` itself
is returned, uncopied; that line is given.

For the gradient above and shape (4,) it is `[3, 2, 3, 7]`; for shape (3, 1) it is `[[10], [3], [2]]`; for shape () it
is 15.

<details><summary>Hint 1</summary>

`grad.ndim - len(shape)` axes on the left are new: axes 0, 1, ... of `grad`, all of them to be summed over.
</details>
<details><summary>Hint 2</summary>

For a later axis i of `grad`, the length in `shape` is at position i minus the number of new axes. It was stretched if
that length is 1 while grad's is not.
</details>
<details><summary>Hint 3</summary>

Collect the numbers of all such axes in one tuple, hand it to `sum` as `axis`, and let `reshape` put back the axes of
length 1 that the sum dropped.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-unbroadcast", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def unbroadcast(grad, shape):
    """Sum `grad` over the axes along which an array of `shape` was stretched; the result has `shape`. None stays."""
    if grad is None or grad.shape == shape:
        return grad
    ### BEGIN SOLUTION
    extra = grad.ndim - len(shape)
    stretched = tuple(i for i in range(grad.ndim) if i < extra or (shape[i - extra] == 1 and grad.shape[i] != 1))
    return grad.sum(axis=stretched).reshape(shape)
    ### END SOLUTION


# %%
for shape in ((4,), (3, 1), (1, 4), (), (3, 4)):
    print(f"{shape!s:7}", unbroadcast(gradient, shape).tolist())

# %% [markdown]
"""
### Arithmetic

How shall we know that a rule is right? By nudging, as above: change one element of an input by a millionth, look how
much the output changes, and compare. `by_nudging` does it for every element of every input (in float64; in float32 a
millionth would drown), and `compare` prints the largest difference to what the rule says. The output's elements all
count, with different prices, so that a mixed-up axis cannot hide.
"""


# %%
def by_nudging(f, arrays, prices, nudge=1e-6):
    """d(sum of prices * f)/d(array) for every array, one element at a time."""
    here = f(*map(double, arrays)).data
    slopes = [np.zeros_like(array) for array in arrays]
    for array, slope in zip(arrays, slopes):
        for place in np.ndindex(array.shape):
            kept = array[place]
            array[place] = kept + nudge
            slope[place] = ((f(*map(double, arrays)).data - here) * prices).sum() / nudge
            array[place] = kept
    return slopes


def double(array):
    return Tensor(array, dtype=np.float64)


def compare(f, *arrays):
    """The rule of the one operation that f is, beside slopes found by nudging."""
    arrays = [np.array(array, np.float64) for array in arrays]
    out = f(*(Tensor(array, requires_grad=True, dtype=np.float64) for array in arrays))
    prices = np.random.default_rng(1).uniform(0.5, 1.5, out.shape)
    found = out._grad_fn.apply(prices)
    differences = [np.abs(x - y).max() for x, y in zip(found, by_nudging(f, arrays, prices))]
    shapes = " and ".join(str(array.shape) for array in arrays)
    print(f"{type(out._grad_fn).__name__:22} for inputs {shapes:29} off by at most {max(differences):.0e}")


# %% [markdown]
"""
Now the four operations. The slopes are those you know from school; `grad` multiplies each, and whatever was stretched
is summed.

```
   a + b     da = grad              db = grad                 a - b     da = grad             db = -grad
   a * b     da = grad * b          db = grad * a             a / b     da = grad / b         db = -grad * a / b^2
```

A rule may skip the work for an input that requires no gradient, by returning None for it. For add there is nothing to
skip. For a product it is half of the work, and one operand is often a constant, as in `0.5 * x`. And where the operands
have the same shape, nothing was stretched: `AddBackward` and `MulBackward` then return at once, which matters in graphs
of very small operations, where a call of `unbroadcast` takes longer than the product. (For the same reason they read
`_data`, a scalar where there are no axes, and leave it to others to make arrays of scalars.)

**Write the four rules.** Each returns two gradients, un-broadcast to the shapes of a and b. For `SubBackward`,
`MulBackward` and `DivBackward`, None for an input that does not require one; `unbroadcast` hands None on.

For `a = [1, 2]`, `b = [3, 5]` and grad `[1, 10]`: mul gives da `[3, 50]`, db `[1, 20]`; div gives da `[0.333, 2]`, db
`[-0.111, -0.8]`.

<details><summary>Hint 1</summary>

Values are `a.data` and `b.data`, or `a._data` and `b._data`; gradients are arrays too. Tensors would be recorded, and the
rule with them.
</details>
<details><summary>Hint 2</summary>

A conditional expression per input, `... if a.requires_grad else None`. Then un-broadcast to `a.shape` and `b.shape`.
</details>
<details><summary>Hint 3</summary>

In `DivBackward` compute da first, before un-broadcasting. Then db is -da times the quotient a / b, and no square is
needed (which could overflow where the quotient does not).
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-arithmetic", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class AddBackward(Function, op="add"):
    """out = a + b, so da = grad and db = grad."""

    def backward(self, grad):
        a, b = self.inputs
        ### BEGIN SOLUTION
        if isinstance(grad, generic) or a._data.shape == b._data.shape:  # a number, or nothing was stretched
            return grad, grad
        return unbroadcast(grad, a.shape), unbroadcast(grad, b.shape)
        ### END SOLUTION


class SubBackward(Function, op="sub"):
    """out = a - b, so da = grad and db = -grad."""

    def backward(self, grad):
        a, b = self.inputs
        ### BEGIN SOLUTION
        return (
            unbroadcast(grad, a.shape) if a.requires_grad else None,
            -unbroadcast(grad, b.shape) if b.requires_grad else None,
        )
        ### END SOLUTION


class MulBackward(Function, op="mul"):
    """out = a * b, so da = grad * b and db = grad * a."""

    def backward(self, grad):
        a, b = self.inputs
        ### BEGIN SOLUTION
        da = grad * b._data if a._requires_grad else None
        db = grad * a._data if b._requires_grad else None
        if isinstance(grad, generic) or a._data.shape == b._data.shape:
            return da, db
        return unbroadcast(da, a.shape), unbroadcast(db, b.shape)
        ### END SOLUTION


class DivBackward(Function, op="div"):
    """out = a / b, so da = grad / b and db = -grad * a / b^2."""

    def backward(self, grad):
        a, b = self.inputs
        ### BEGIN SOLUTION
        da = grad / b.data
        return (
            unbroadcast(da, a.shape) if a.requires_grad else None,
            unbroadcast(-da * (a.data / b.data), b.shape) if b.requires_grad else None,
        )
        ### END SOLUTION


# %%
matrix, vector = rng.uniform(1, 2, (3, 4)), rng.uniform(1, 2, 4)
for f in (Tensor.add, Tensor.sub, Tensor.mul, Tensor.div):
    compare(f, matrix, vector)

# %% [markdown]
"""
With two rules for add and mul we can walk the example of the first page by hand, along the links that the recorder has
left:
"""

# %%
a, b, c = (Tensor(value, requires_grad=True) for value in (2.0, 3.0, 1.0))
L = (a * b + c) * a
last = L._grad_fn
ds, da_direct = last.apply(np.float32(1))
s = last.inputs[0]
dp, dc = s._grad_fn.apply(ds)
p = s._grad_fn.inputs[0]
da_through_p, db = p._grad_fn.apply(dp)
print(last, "<-", s._grad_fn, "<-", p._grad_fn, "<-", p._grad_fn.inputs)
print(f"dL/da = {da_direct} + {da_through_p} = {da_direct + da_through_p},  dL/db = {db},  dL/dc = {dc}")

# %% [markdown]
"""
That was the chain rule, one link at a time. Doing the same for any graph, in the right order, will be the engine's
work. First it needs more rules.

### Element by element

```
   -x      dx = -grad                     e^x      dx = grad * e^x            |x|    dx = grad * sign(x)
   x^n     dx = grad * n * x^(n-1)        log x    dx = grad / x
                                          sqrt x   dx = grad / (2 sqrt x)
```

Two of them need nothing but what the operation has computed anyway: the slope of e^x is the result itself, that of the
root is made from the result. So `exp` and `sqrt` save their result's *array*, as `self.saved["out"]`, and the backward
pass needs no second exponential. (Only the array. A rule that held the result *tensor* would be held by it in turn: a
cycle, which Python frees late and irregularly.)

**Write `ExpBackward`, `LogBackward` and `SqrtBackward`.** The others are given; `PowBackward` takes pains to be right
at 0, where `0 * x^-1` would be NaN.

With grad 1: exp at x = 0 gives 1; log at x = 4 gives 0.25; sqrt at x = 4 gives 0.25 too, because 1 / (2 * 2).

<details><summary>Hint 1</summary>

`self.saved` is a dictionary with whatever the operation passed to `result` by keyword.
</details>
<details><summary>Hint 2</summary>

For exp, multiply `grad` by the saved array. Do not change either in place: both belong to others as well.
</details>
<details><summary>Hint 3</summary>

For log divide `grad` by the input's array; for sqrt divide it by twice the saved one.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-elementwise", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class NegBackward(Function, op="neg"):
    """out = -x, so dx = -grad."""

    def backward(self, grad):
        return -grad


class PowBackward(Function, op="pow"):
    """out = a^b, so da = grad * b * a^(b-1) and db = grad * a^b * log(a), which is 0 where a is 0."""

    def backward(self, grad):
        a, b = self.inputs
        da = db = None
        if a.requires_grad:
            slope = b.data * power(a.data, np.where(b.data == 0, 1, b.data - 1))  # 0 * x^0: no 0^-1 on the way
            da = unbroadcast(grad * slope.astype(a.dtype, copy=False), a.shape)
        if b.requires_grad:
            base = np.where(a.data > 0, a.data, 1)
            db = unbroadcast(grad * (np.where(a.data > 0, base**b.data, 0) * np.log(base)), b.shape)
        return da, db


class ExpBackward(Function, op="exp"):
    """out = e^x is its own derivative: dx = grad * out."""

    def backward(self, grad):
        ### BEGIN SOLUTION
        return grad * self.saved["out"]
        ### END SOLUTION


class LogBackward(Function, op="log"):
    """out = log(x), so dx = grad / x."""

    def backward(self, grad):
        (x,) = self.inputs
        ### BEGIN SOLUTION
        return grad / x.data
        ### END SOLUTION


class SqrtBackward(Function, op="sqrt"):
    """out = sqrt(x), so dx = grad / (2 out)."""

    def backward(self, grad):
        ### BEGIN SOLUTION
        return grad / (2 * self.saved["out"])
        ### END SOLUTION


class AbsBackward(Function, op="abs"):
    """out = |x|, so dx = grad * sign(x)."""

    def backward(self, grad):
        (x,) = self.inputs
        return grad * np.sign(x.data)


# %%
positive = rng.uniform(1, 2, 5)
for f in (Tensor.neg, Tensor.exp, Tensor.log, Tensor.sqrt, Tensor.abs):
    compare(f, positive)
compare(Tensor.pow, positive, rng.uniform(1, 2, 5))

x = Tensor([0.0, 1.0], requires_grad=True)
y = x.exp()
print("the rule saved the very array of the result:", y._grad_fn.saved["out"] is y.data)

# %% [markdown]
"""
### Matrix products

The operation that networks spend their time in. Element ij of the product is row i of a times column j of b:

```
   out_ij = sum over k of a_ik b_kj

   a_ik is used for all of row i of out, with the price b_kj:      da_ik = sum over j of grad_ij b_kj
   b_kj is used for all of column j of out, with the price a_ik:   db_kj = sum over i of a_ik grad_ij
```

Each line is a matrix product again. And the shapes leave no choice: `grad` is (M, N), and there is just one way to make
an (M, K) out of it and b.

```
   a (M, K) @ b (K, N) = out (M, N)          da (M, K) = grad (M, N) @ b^T (N, K)
                                             db (K, N) = a^T (K, M) @ grad (M, N)

   a = [ 1  2  3 ]    b = [  1 ]    grad = [  1 ]      da = [  1  0   -1 ]     db = [ 1 + 40 ]   [ 41 ]
       [ 4  5  6 ]        [  0 ]           [ 10 ]           [ 10  0  -10 ]          [ 2 + 50 ] = [ 52 ]
                          [ -1 ]                                                    [ 3 + 60 ]   [ 63 ]
```

One forward product became two backward. Remember it for the end of the lesson. And if your matrices happen to be square
the shapes say nothing: a wrong transpose passes unnoticed. Test with lengths that all differ.

The rest is bookkeeping, and given: a vector on the left is made a row, one on the right a column, and `grad` gets the
axis that the result had dropped. Leading axes, as in `(N, T, K) @ (K, M)`, are a batch of products that share b, so b was
stretched.

**Write the heart of `MatmulBackward`.** x and y are now arrays of at least two axes. If a's gradient is asked for,
`dx` is the product above, in the shape of a; likewise `dy` for b. Axes in front that were stretched are summed by
`unbroadcast`. Where x has more than two axes and y exactly two, make one large product of it first, as the forward pass
does: `grad` and `x` as matrices of rows.

The example above is computed in the cell below.

<details><summary>Hint 1</summary>

The transpose of the last two axes is `swapaxes(-1, -2)`; `.T` would turn round all of them.
</details>
<details><summary>Hint 2</summary>

"As a matrix of rows" is a `reshape` to -1 and the length of the last axis. The product then has as many elements as `a`,
and a plain `reshape` to its shape is right; otherwise un-broadcast to `x.shape` first.
</details>
<details><summary>Hint 3</summary>

Three conditions: the reshaping; then `a.requires_grad`, with `grad` times the swapped y; then `b.requires_grad`, with
the swapped x times `grad`, un-broadcast to `y.shape` and reshaped to `b.shape`. Return both, None where not asked for.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-matmul", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class MatmulBackward(Function, op="matmul"):
    """out = a @ b, so da = grad @ b^T and db = a^T @ grad; leading axes that broadcast are summed over.

    A vector on the left is a row, on the right a column.
    """

    def backward(self, grad):
        a, b = self.inputs
        x = a.data[None, :] if a.ndim == 1 else a.data
        y = b.data[:, None] if b.ndim == 1 else b.data
        if a.ndim == 1:
            grad = np.expand_dims(grad, -1 if b.ndim == 1 else -2)
        if b.ndim == 1:
            grad = np.expand_dims(grad, -1)
        dx = dy = None
        ### BEGIN SOLUTION
        if x.ndim > 2 and y.ndim == 2:  # as in the forward pass: one large product
            rows = math.prod(x.shape[:-1])
            grad, x = grad.reshape(rows, grad.shape[-1]), x.reshape(rows, x.shape[-1])
        if a.requires_grad:
            dx = grad @ y.swapaxes(-1, -2)
            dx = dx.reshape(a.shape) if dx.size == a.size else unbroadcast(dx, x.shape).reshape(a.shape)
        if b.requires_grad:
            dy = unbroadcast(x.swapaxes(-1, -2) @ grad, y.shape).reshape(b.shape)
        return dx, dy
        ### END SOLUTION


# %%
a, b = Tensor([[1, 2, 3], [4, 5, 6]], requires_grad=True, dtype=np.float32), Tensor([[1.0], [0.0], [-1.0]], True)
print(*((a @ b)._grad_fn.apply(np.float32([[1], [10]]))), sep="\n")
for left, right in (
    ((3, 4), (4, 2)),
    ((2, 3, 4), (4, 5)),
    ((5, 1, 3, 4), (2, 4, 2)),
    ((4,), (2, 4, 3)),
    ((3, 4), (4,)),
    ((4,), (4,)),
):
    compare(Tensor.matmul, rng.standard_normal(left), rng.standard_normal(right))

# %% [markdown]
"""
### Sums and means

`x.sum(axis=1)` turns (2, 3) into (2,). Every element counted once, so every element gets the price of *its* sum:

```
   x    1  2  3   -> 6            grad   10            dx   10  10  10
        4  5  6   -> 15                 100                100 100 100
```

The tempting line is `grad * np.ones(x.shape)`, or hoping that NumPy will stretch it. NumPy aligns shapes on the right:
grad (2,) against (2, 3) does not fit, which at least is an error. But for a square matrix it fits, along the wrong axis:
"""

# %%
gradient = np.array([10.0, 100.0])
print("stretched by NumPy:  ", *(gradient * np.ones((2, 2))))
print("put back on its axis:", *(gradient[:, None] * np.ones((2, 2))))

# %% [markdown]
"""
So put the axes back first, with length 1, and stretch then. Whether the forward pass used `keepdims` no longer matters.

**Write `stretch`, `SumBackward` and `MeanBackward`.** `stretch(grad, shape, axis)` reshapes `grad` to `shape` with a 1
in place of every length that was summed over (`axis` is a tuple of axes, or None for all of them), and stretches
that to `shape` with `np.broadcast_to`, which copies nothing. The sum's gradient is `grad` stretched. The mean's is that
divided by how many elements went into one mean, `self.saved["count"]`; divide before stretching, while it is small.

`stretch(np.array([10, 100]), (2, 3), (1,))` is `[[10, 10, 10], [100, 100, 100]]`.

<details><summary>Hint 1</summary>

For x of shape (5, 2, 3) reduced over axes 0 and 2, `grad` is reshaped to (1, 2, 1).
</details>
<details><summary>Hint 2</summary>

A list comprehension over `enumerate(shape)`, with 1 where `axis is None` or where the number is in `axis`, and the
length itself elsewhere.
</details>
<details><summary>Hint 3</summary>

Both rules are one call of `stretch`, with the shape of x and `self.saved["axis"]`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-reductions", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def stretch(grad, shape, axis):
    """`grad` of a reduction over `axis` (None: all), stretched back to the `shape` it was reduced from: a view."""
    ### BEGIN SOLUTION
    kept = [1 if axis is None or i in axis else n for i, n in enumerate(shape)]
    return np.broadcast_to(grad.reshape(kept), shape)
    ### END SOLUTION


class SumBackward(Function, op="sum"):
    """Every element counts once in its sum, so dx is grad, stretched back over the axis summed."""

    def backward(self, grad):
        (x,) = self.inputs
        ### BEGIN SOLUTION
        return stretch(grad, x.shape, self.saved["axis"])
        ### END SOLUTION


class MeanBackward(Function, op="mean"):
    """Every element counts 1/n in its mean, so dx is grad / n, stretched back."""

    def backward(self, grad):
        (x,) = self.inputs
        ### BEGIN SOLUTION
        return stretch(grad / self.saved["count"], x.shape, self.saved["axis"])
        ### END SOLUTION


# %%
print(*stretch(gradient, (2, 3), (1,)), " strides", stretch(gradient, (2, 3), (1,)).strides)
block = rng.standard_normal((2, 3, 4))
compare(Tensor.sum, block)
compare(lambda x: x.sum(axis=1), block)
compare(lambda x: x.mean(axis=(0, -1), keepdims=True), block)

# %% [markdown]
"""
A stride of 0 along axis 1: the three columns are one and the same memory. Nobody may write into such an array, which is
why a rule must never change the `grad` it is given.

The variance is given. Each element moves the mean too, which moves all the distances. But those contributions are
proportional to the sum of the distances from the mean, which is 0. So they vanish, and it is as if the mean stood
still. (Here. In a layer that divides by the root of the variance both move and both count; whoever treats them as
constants there gets a wrong gradient from a right forward pass.)
"""


# %%
#| export
class VarBackward(Function, op="var"):
    """out = sum (x - mean)^2 / count. The mean moves too, but its share sums to 0: dx = 2 grad (x - mean) / count."""

    def backward(self, grad):
        (x,) = self.inputs
        slope = grad * (2 / self.saved["count"])
        return (x.data - self.saved["center"]) * stretch(slope, x.shape, self.saved["axis"])


# %%
compare(lambda x: x.var(axis=1, correction=1), block)

# %% [markdown]
"""
### The largest

Only the winner matters: raise the largest element, and the maximum rises by as much; raise another a little, and
nothing happens. So the winner gets `grad`, the rest 0. And if two are equal?

```
   x = [ 3  5  5 ]     max 5,  grad 6         mask * grad       [ 0  6  6 ]     together 12
                                              shared equally    [ 0  3  3 ]     together 6
```

The maximum has a corner there: raise either and it rises, lower either and it stays. There is no slope, only a
convention. `[0 6 6]` is the worst one, because it claims that moving all elements by 1 moves the maximum by 2. We share
equally, as `torch.amax` does. Ties are less rare than they sound: after a ReLU about half of the elements are 0.

**Write `MaxBackward`.** `self.saved["extreme"]` is the maximum with the reduced axes kept at length 1, so it compares
with x directly. Make `share`: 1 where x equals the maximum, 0 elsewhere, in the dtype of `grad`; divided by its own sum
over `axis`; times `grad`, stretched. The minimum is then the same rule under another name.

<details><summary>Hint 1</summary>

The comparison gives booleans, and `astype` with the dtype of `grad` makes ones and zeros of them.
</details>
<details><summary>Hint 2</summary>

The number of winners is the sum of `share` over `axis` with `keepdims=True`, so that dividing by it broadcasts.
</details>
<details><summary>Hint 3</summary>

`share` is a new array and yours alone, so both the division and the product with `stretch(...)` may be in place.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-max", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class MaxBackward(Function, op="max"):
    """Only the largest elements count; those that tie share grad equally."""

    def backward(self, grad):
        (x,) = self.inputs
        axis = self.saved["axis"]
        ### BEGIN SOLUTION
        share = (x.data == self.saved["extreme"]) | (x.data != x.data)  # NaN is the extreme where there is one
        share = share.astype(grad.dtype)
        share /= share.sum(axis=axis, keepdims=True)
        share *= stretch(grad, x.shape, axis)
        return share
        ### END SOLUTION


class MinBackward(MaxBackward, op="min"):
    """As for the maximum, with the smallest elements."""


# %%
ties = Tensor([[3.0, 5.0, 5.0], [7.0, 1.0, 2.0]], requires_grad=True)
print(*ties.max(axis=1)._grad_fn.apply(np.float32([6, 6])))
compare(lambda x: x.max(axis=1), block)
compare(lambda x: x.min(), block)

# %% [markdown]
"""
Two reductions more, given. Element i is in every running sum from i on, so its gradient is the running sum of `grad`
from the other end. And the slope of `logsumexp` is the softmax: a maximum that shares its gradient by how close each
element comes to winning.
"""


# %%
#| export
class CumsumBackward(Function, op="cumsum"):
    """Element i is in every running sum from i on, so dx is the running sum of grad from the other end."""

    def backward(self, grad):
        axis = self.saved["axis"]
        return np.flip(np.flip(grad, axis).cumsum(axis), axis)


class LogsumexpBackward(Function, op="logsumexp"):
    """out = log(sum e^x), so dx = grad * e^(x - out), the softmax of x; zeros where all x are -inf."""

    def backward(self, grad):
        (x,) = self.inputs
        out, axis = self.saved["out"], self.saved["axis"]
        dx = np.exp(x.data - np.where(np.isfinite(out), out, 0))
        total = dx.sum(axis=axis, keepdims=True)  # 1, but for what rounding took from a large out
        dx *= stretch(grad, x.shape, axis) / (total + (total == 0))
        return dx


# %%
compare(lambda x: x.cumsum(axis=1), block)
compare(lambda x: x.logsumexp(axis=-1), block)
print("softmax:", softmax(Tensor([3.0, 5.0, 5.0])))
print("rule:   ", *Tensor([3.0, 5.0, 5.0], requires_grad=True).logsumexp()._grad_fn.apply(np.float32(1)))

# %% [markdown]
"""
### Other shapes, same numbers

An operation that moves elements around has a rule that moves them back. Reshape, and the gradient is reshaped back; cut
a border off, and what was cut off gets nothing. One is a little tricky. `permute(x, 2, 0, 1)` makes axis i of the result
from axis `axes[i]` of x:

```
   x      (A, B, C)                axis of the result   0  1  2
   out    (C, A, B)                came from axis       2  0  1        = axes

   the way back:                   axis of dx           0  1  2
                                   is axis of grad      1  2  0        where do 0, 1, 2 stand in axes?
```

The tempting answer is to apply `axes` once more. For a swap of two axes that is right, since swapping twice is doing
nothing; so tests with matrices pass. For the rotation above it gives (B, C, A).

**Write `ReshapeBackward`, `PermuteBackward` and `CatBackward`.** The last one cuts `grad` along `axis` where the inputs
met, and returns a tuple with a piece for every input. For inputs of lengths 2, 1 and 3 the cuts are at 2 and 3.

<details><summary>Hint 1</summary>

`np.transpose` with the inverse order does it. The inverse sorts the axes 0, 1, ... by where they stand in `axes`:
it is what `argsort` computes.
</details>
<details><summary>Hint 2</summary>

`sorted(range(n), key=...)`, where the key of axis i is `axes[i]`, is such an argsort for a tuple.
</details>
<details><summary>Hint 3</summary>

For `cat`, `itertools.accumulate` of the inputs' lengths along `axis` gives where each ends. `np.split` wants these
places without the last one, and returns a list.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-shapes", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class CopyBackward(Function, op="copy"):
    """The same values: dx = grad."""

    def backward(self, grad):
        return grad


class AstypeBackward(Function, op="astype"):
    """The same values in another dtype: dx is grad in the dtype of x."""

    def backward(self, grad):
        return grad.astype(self.inputs[0].dtype)


class ReshapeBackward(Function, op="reshape"):
    """The same elements: dx is grad in the shape of x."""

    def backward(self, grad):
        ### BEGIN SOLUTION
        return grad.reshape(self.inputs[0].shape)
        ### END SOLUTION


class PermuteBackward(Function, op="permute"):
    """The axes of grad, put back where they came from."""

    def backward(self, grad):
        axes = self.saved["axes"]
        ### BEGIN SOLUTION
        return grad.transpose(sorted(range(len(axes)), key=axes.__getitem__))
        ### END SOLUTION


class BroadcastToBackward(Function, op="broadcast_to"):
    """Stretching copies, so dx sums over the copies."""

    def backward(self, grad):
        return unbroadcast(grad, self.inputs[0].shape)


class CatBackward(Function, op="cat"):
    """grad, cut where the inputs met."""

    def backward(self, grad):
        axis = self.saved["axis"]
        ### BEGIN SOLUTION
        stops = itertools.accumulate(x.shape[axis] for x in self.inputs)
        return tuple(np.split(grad, list(stops)[:-1], axis=axis))
        ### END SOLUTION


class PadBackward(Function, op="pad"):
    """grad without the border."""

    def backward(self, grad):
        x, widths = self.inputs[0], self.saved["widths"]
        return grad[tuple(slice(before, before + n) for (before, _), n in zip(widths, x.shape))]


# %%
compare(lambda x: x.reshape(4, 6), block)
compare(lambda x: x.permute(2, 0, 1), block)
compare(lambda x: x.broadcast_to(5, 2, 3, 4), block)
compare(lambda *xs: cat(xs, axis=1), block, block[:, :1], block)
compare(lambda x: x.pad(((0, 1), (2, 0), (1, 1))), block)
compare(Tensor.copy, block)

# %% [markdown]
"""
### Taken twice

`out = x[index]` copies elements. Where does the gradient go? To where the copies came from. But an element may have been
copied more than once: words of a sentence look up their vectors in a table, and "the" occurs in every line.

```
   x            x0   x1   x2   x3   x4
   index         1    3    1                      dx1 = 1 + 100:  x1 was taken twice, on two paths
   grad          1   10  100                      dx3 = 10
                                                  dx  = [ 0  101  0  10  0 ]
```

Three ways to write it in NumPy. Which are right?
"""


# %%
def by_loop(target, index, values):
    for place, value in zip(index, values):
        target[place] += value


def by_assignment(target, index, values):
    target[index] = values


def by_addition(target, index, values):
    target[index] += values


for way in (by_loop, by_assignment, by_addition):
    dx = np.zeros(5)
    way(dx, np.array([1, 3, 1]), np.array([1.0, 10.0, 100.0]))
    print(f"{way.__name__:13}", dx)

# %% [markdown]
"""
The assignment keeps the last of the two, and so does the addition: NumPy reads `target[index]` once, adds, and
writes back. Half of the gradient of your most frequent words is gone, nothing crashes, and the model learns a bit worse
than it should. It is the most common mistake in hand-written embeddings.

The loop is right and looks slow. NumPy has `np.add.at`, which is right too. Which one is faster depends on how long
the rows are, and not the way one would guess:
"""


# %%
#| export
def add_at(target, index, values):
    """target[index] += values in place, where an element named several times receives every one of its values."""
    if isinstance(index, np.ndarray) and index.dtype.kind in "iu" and target[:1].size >= 64:
        for row, value in zip(index.ravel().tolist(), values.reshape(-1, *target.shape[1:])):
            target[row] += value  # for long rows faster than np.add.at
    else:
        np.add.at(target, index, values)


# %%
tokens = rng.integers(0, 5000, 8192)
print("row length    loop      np.add.at    add_at")
for length in (1, 16, 64, 256):
    values = rng.standard_normal((8192, length)).astype(np.float32)
    target = np.zeros((5000, length), np.float32)
    times, results = [], []
    for way in (by_loop, np.add.at, add_at):
        times.append(1e3 * time_of(functools.partial(way, target, tokens, values), 3))
        results.append(np.zeros_like(target))
        way(results[-1], tokens, values)
    worst = max(np.abs(results[0] - other).max() for other in results)
    print(f"{length:6} {times[0]:10.1f} ms {times[1]:10.1f} ms {times[2]:7.1f} ms   largest difference {worst:.0e}")

# %% [markdown]
"""
For short rows Python's overhead per row is what counts, for long ones it is `np.add.at`, which handles every element by
itself while the loop adds whole rows. `add_at` takes the better one.

And where nothing can occur twice, an assignment is right and faster than either: integers, slices and boolean masks
name every element once at most. Only integer *arrays* can repeat.

**Write `GetitemBackward`**: zeros shaped as x; then, if the index is an integer array or a tuple that contains one,
`add_at`, and otherwise an assignment.

For the picture above it gives `[0, 101, 0, 10, 0]`.

<details><summary>Hint 1</summary>

Make a tuple of every index first, one of length 1 if it is not yet one, so that there is only one case to look at.
</details>
<details><summary>Hint 2</summary>

A part that can repeat is an `np.ndarray` whose dtype has a kind in "iu". `any` over the parts answers the question.
</details>
<details><summary>Hint 3</summary>

`np.zeros_like(x.data)` has the right shape and dtype. `add_at` takes it, the whole index, and `grad`; it works in place
and returns nothing.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-getitem", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class GetitemBackward(Function, op="getitem"):
    """out = x[index]: what was taken gets its grad back, several times taken adds up, the rest gets 0."""

    def backward(self, grad):
        (x,), index = self.inputs, self.saved["index"]
        ### BEGIN SOLUTION
        dx = np.zeros_like(x.data)
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, np.ndarray) and part.dtype.kind in "iu" for part in parts):
            add_at(dx, index, grad)
        else:
            dx[index] = grad
        return dx
        ### END SOLUTION


# %%
x = Tensor(np.zeros(5), requires_grad=True)
print(*x[[1, 3, 1]]._grad_fn.apply(np.float32([1, 10, 100])))
compare(lambda x: x[1, ::-1, None], block)
compare(lambda x: x[:, [0, 2, 2, 0]], block)
compare(lambda x: x[x.data > 0], block)

# %% [markdown]
"""
The remaining operations of module 01 are given. Read `WhereBackward`, it is the pattern for everything that chooses: the
side that was taken gets `grad`, the other 0. `clip` is such a choice too, between the element and a bound that cannot
move. `scatter_add` is the mirror image of indexing: what was added somewhere reads its gradient there. And `einsum` is
all of linear algebra in one rule: for each factor, the einsum of `grad` with the other factors.
"""


# %%
#| export
class WhereBackward(Function, op="where"):
    """grad goes to the side that was taken."""

    def backward(self, grad):
        (a, b), condition = self.inputs, self.saved["condition"]
        return (
            unbroadcast(np.where(condition, grad, 0), a.shape) if a.requires_grad else None,
            unbroadcast(np.where(condition, 0, grad), b.shape) if b.requires_grad else None,
        )


class ClipBackward(Function, op="clip"):
    """Inside the bounds grad passes, outside nothing moves."""

    def backward(self, grad):
        (x,), low, high = self.inputs, self.saved["min"], self.saved["max"]
        inside = np.ones_like(x.data, dtype=bool) if low is None else x.data >= low
        return grad * (inside if high is None else inside & (x.data <= high))


class ScatterAddBackward(Function, op="scatter_add"):
    """x passes through; each element of src reads the place it was added to."""

    def backward(self, grad):
        return grad, grad[self.saved["where"]]


class EinsumBackward(Function, op="einsum"):
    """The gradient of one factor is the einsum of grad with all the others, summed to the indices of that factor."""

    def backward(self, grad):
        inputs, output = self.saved["inputs"], self.saved["output"]
        grads = []
        for i, x in enumerate(self.inputs):
            if not x.requires_grad:
                grads.append(None)
                continue
            others = [y.data for j, y in enumerate(self.inputs) if j != i]
            terms = [output, *(names for j, names in enumerate(inputs) if j != i)]
            known = "".join(name for name in inputs[i] if any(name in term for term in terms))
            dx = np.einsum(f"{','.join(terms)}->{known}", grad, *others, optimize=bool(others))
            kept = [dx.shape[known.index(name)] if name in known else 1 for name in inputs[i]]
            summed = tuple(1 if name not in known else n for name, n in zip(inputs[i], x.shape))
            grads.append(np.broadcast_to(unbroadcast(dx.reshape(kept), summed), x.shape))
        return tuple(grads)


# %%
compare(lambda x: x.clip(-0.5, 0.5), block)
compare(lambda x, y: x.scatter_add(0, np.array([1, 3, 1]), y), np.zeros(5), np.ones(3))
compare(lambda *xs: einsum("nij,jk,k->ni", *xs), block, rng.standard_normal((4, 3)), rng.standard_normal(3))

# %% [markdown]
"""
## The rules of networks

Everything in modules 02 to 04 could be put together from the operations above, and its gradient would come for free.
Those that networks use all the time are *fused* all the same: one operation, one announcement, one rule. It is faster
(fewer passes over memory), it holds fewer arrays, and it is often more exact, as the losses of module 04 were.

### Activations

```
   relu      slope 1 where out > 0, else 0          sigmoid   out (1 - out)         tanh   1 - out^2
```

All three are written in terms of the *result*, which was saved. For the sigmoid: at x = 0 the result is 0.5, and the
slope 0.5 * 0.5 = 0.25. That is its largest.

**Write `ReLUBackward`, `SigmoidBackward` and `TanhBackward`.** At x = 0, where relu has a corner, the slope counts as
0, as everywhere in the field. The other two make one new array, `dx`, and then work on it in place.

For out = `[0, 2]` and grad `[5, 5]`, relu gives `[0, 5]`. For out = 0.5 and grad 1 the sigmoid gives 0.25 and tanh
gives 0.75.

<details><summary>Hint 1</summary>

For relu multiply `grad` by a comparison. A boolean times a float32 is a float32, and it is several times faster than
`np.where` on a random mask.
</details>
<details><summary>Hint 2</summary>

Start with `dx` as one minus something. Then `*=`, once or twice.
</details>
<details><summary>Hint 3</summary>

The sigmoid's `dx` is 1 minus out, times out, times grad. That of tanh is 1 minus the product of out with itself, times
grad.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-activations", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class ReLUBackward(Function, op="relu"):
    """out = max(x, 0), so dx = grad where out > 0 and 0 elsewhere."""

    def backward(self, grad):
        ### BEGIN SOLUTION
        return grad * (self.saved["out"] > 0)
        ### END SOLUTION


class LeakyReLUBackward(Function, op="leaky_relu"):
    """dx = grad where x > 0, and negative_slope * grad elsewhere."""

    def backward(self, grad):
        (x,) = self.inputs
        slope = (x.data > 0).astype(grad.dtype)
        return grad * np.maximum(slope, self.saved["negative_slope"])


class SigmoidBackward(Function, op="sigmoid"):
    """out = 1 / (1 + e^-x) has the slope out (1 - out): dx = grad * out * (1 - out)."""

    def backward(self, grad):
        out = self.saved["out"]
        ### BEGIN SOLUTION
        dx = 1 - out
        dx *= out
        dx *= grad
        return dx
        ### END SOLUTION


class TanhBackward(Function, op="tanh"):
    """dx = grad * (1 - out^2)."""

    def backward(self, grad):
        out = self.saved["out"]
        ### BEGIN SOLUTION
        dx = 1 - out * out
        dx *= grad
        return dx
        ### END SOLUTION


# %%
#| export
class SoftplusBackward(Function, op="softplus"):
    """out = log(1 + e^x), so 1 - e^-out is sigmoid(x), its slope: dx = grad * (1 - e^-out)."""

    def backward(self, grad):
        return grad * -np.expm1(-self.saved["out"])


class SiLUBackward(Function, op="silu"):
    """out = x * gate with gate = sigmoid(x), so dx = grad * gate * (1 + x (1 - gate))."""

    def backward(self, grad):
        (x,), dx = self.inputs, np.empty_like(grad, order="C")
        for a, gate, g, d in _pieces(x.data, self.saved["gate"], grad, dx):
            np.clip(a, -1000, 1000, out=d)  # as in the forward pass: further out the gate is 0 or 1, and 0 * inf is NaN
            d *= 1 - gate
            d += 1
            d *= gate
            d *= g
        return dx


class GELUBackward(Function, op="gelu"):
    """out = x * gate with gate = sigmoid(v) and v = 2 sqrt(2/pi) (x + 0.044715 x^3), so
    dx = grad * gate * (1 + x (1 - gate) dv/dx).
    """

    def backward(self, grad):
        (x,), dx = self.inputs, np.empty_like(grad, order="C")
        for a, gate, g, d in _pieces(x.data, self.saved["gate"], grad, dx):
            near = np.clip(a, -1000, 1000)  # as in the forward pass
            np.multiply(near, near, out=d)
            d *= 3 * 0.044715
            d += 1
            d *= near
            d *= 2 * math.sqrt(2 / math.pi)
            d *= 1 - gate
            d += 1
            d *= gate
            d *= g
        return dx


# %%
signed = rng.standard_normal((3, 5))
for f in (relu, leaky_relu, sigmoid, tanh, softplus, silu, gelu):
    compare(f, signed)

print("\nlayers    slope through that many sigmoids    tanhs        relus")
for depth in (1, 4, 16):
    row = []
    for f in (sigmoid, tanh, relu):
        x, slope = Tensor([1.0], requires_grad=True), np.ones(1, np.float32)
        for _ in range(depth):
            x = f(x)
            (slope,) = slope * x._grad_fn.apply(np.ones(1, np.float32))
        row.append(float(slope[0]) if slope.ndim else float(slope))
    print(f"{depth:6} {row[0]:18.2e} {row[1]:25.2e} {row[2]:10.0f}")

# %% [markdown]
"""
Prices multiply along a path, and a price of at most 0.25 per layer leaves nothing for the first layers of a deep
network: they do not learn. That is why relu came to stay.

### Softmax

Here every output depends on every input: raise one share, and all others fall. With p for the result,

```
   dp_i/dx_j  =  p_i (1 - p_i)  for i = j,    -p_i p_j  otherwise            a table of C x C slopes per row

   p = [0.8  0.2]   grad = [1  0]          table  [  0.16  -0.16 ]       dx = [0.16  -0.16]
                                                  [ -0.16   0.16 ]
```

For a vocabulary of 50,257 the table has 2.5 billion entries, for one word. Nobody needs it. Multiply it by grad on
paper, and it collapses:

```
   dx_j  =  sum_i grad_i dp_i/dx_j  =  p_j grad_j - p_j sum_i (p_i grad_i)  =  p_j (grad_j - what grad is on average)
```

Two passes over the row. That is the general trick of this lesson: a rule never computes the table of slopes (the
*Jacobian*), only its product with `grad`.

**Write the hearts of `SoftmaxBackward` and `LogSoftmaxBackward`.** The log-softmax is `x - log(sum e^x)`, so its gradient
is `grad - p * sum(grad)`, where p is e to the power of the saved result. You work on pieces that the cache holds, as in
module 02: `out` of what was saved, `g` of `grad`, and `d` of the array to fill. Sums go over `axis` and keep it.

For p = `[0.8, 0.2]` and grad `[1, 0]`: softmax `[0.16, -0.16]`, log-softmax `[0.2, -0.2]`.

<details><summary>Hint 1</summary>

For the softmax, `d` can first hold `out * g` (`np.multiply` with `out=d`), only to be summed.
</details>
<details><summary>Hint 2</summary>

Then `d` is overwritten by `g` minus that sum (`np.subtract`), and multiplied by `out` in place.
</details>
<details><summary>Hint 3</summary>

For the log-softmax put the exponentials of `out` into `d`, multiply them by the sum of `g`, and put `g` minus that into
the same array with `np.subtract`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-softmax", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class SoftmaxBackward(Function, op="softmax"):
    """out_i = e^x_i / sum e^x. Raising one share lowers all others: dx = out * (grad - sum(grad * out))."""

    def backward(self, grad):
        dx, axis = np.empty_like(grad, order="C"), self.saved["axis"] - grad.ndim
        for out, g, d in _pieces(self.saved["out"], grad, dx, axis=axis):
            ### BEGIN SOLUTION
            np.subtract(g, np.vecdot(out, g, axis=axis, keepdims=True), out=d)  # vecdot: sums of products
            d *= out
            ### END SOLUTION
        return dx


class LogSoftmaxBackward(Function, op="log_softmax"):
    """out = x - log(sum e^x), so dx = grad - softmax(x) * sum(grad), and softmax(x) is e^out."""

    def backward(self, grad):
        dx, axis = np.empty_like(grad, order="C"), self.saved["axis"] - grad.ndim
        for out, g, d in _pieces(self.saved["out"], grad, dx, axis=axis):
            ### BEGIN SOLUTION
            np.exp(out, out=d)
            d *= g.sum(axis=axis, keepdims=True)
            np.subtract(g, d, out=d)
            ### END SOLUTION
        return dx


# %%
compare(softmax, signed)
compare(lambda x: log_softmax(x, dim=0), signed)

logits = randn(2000, rng=0)
logits.requires_grad = True
p, prices = softmax(logits), rng.standard_normal(2000).astype(np.float32)
table = np.diag(p.data) - np.outer(p.data, p.data)
(collapsed,) = p._grad_fn.apply(prices)
print(f"the table takes {table.nbytes / 1e6:.0f} MB, the rule {collapsed.nbytes / 1e6:.3f} MB;", end=" ")
print(f"largest difference {np.abs(table @ prices - collapsed).max():.0e}")

# %% [markdown]
"""
### The layer

`linear` is a product and a sum in one: `out = x W + b`. The slopes are those of `matmul` and `add`, and here all leading
axes of x are a batch that shares W and b. So make matrices of rows first (given); the products then sum over the batch
by themselves.

```
   x = [ 1  2 ]    W = [ 5 ]    grad = [  1 ]        dW = x^T grad = [ 1 + 30 ]     db = 1 + 10 = 11
       [ 3  4 ]        [ 6 ]           [ 10 ]                        [ 2 + 40 ]
                                                     dx = grad W^T = [  5   6 ]
                                                                     [ 50  60 ]
```

**Write the heart of `LinearBackward`**, and `DropoutBackward`, whose forward pass was `x * mask`. In the first layer of a
network x is data and needs no gradient: then the product for it is left out, a third of the layer's work. Without a bias
there are two inputs, and two gradients are returned. The bias gets the sum of `grad` over all rows; a row of ones times
the matrix is the same sum, as a matrix product, for which NumPy has its fastest code.

<details><summary>Hint 1</summary>

`rows` and `grad` are matrices now. Two conditional expressions: `dx`, put back into `x.shape`, and `dweight`.
</details>
<details><summary>Hint 2</summary>

Return a pair if `self.inputs` has length 2.
</details>
<details><summary>Hint 3</summary>

`np.ones_like(grad, shape=len(grad))` is the row of ones, in the dtype of `grad`. For dropout the gradient takes the
same path as the values: times the mask.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-linear", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class LinearBackward(Function, op="linear"):
    """out = x W + b, so dx = grad W^T, dW = x^T grad, db = the sum of grad over all rows."""

    def backward(self, grad):
        x, weight = self.inputs[:2]
        many = math.prod(x.shape[:-1])
        rows, grad = x.data.reshape(many, x.shape[-1]), grad.reshape(many, grad.shape[-1])
        ### BEGIN SOLUTION
        dx = (grad @ weight.data.T).reshape(x.shape) if x.requires_grad else None
        dweight = rows.T @ grad if weight.requires_grad else None
        if len(self.inputs) == 2:
            return dx, dweight
        return dx, dweight, np.ones_like(grad, shape=len(grad)) @ grad  # faster than grad.sum(axis=0)
        ### END SOLUTION


class DropoutBackward(Function, op="dropout"):
    """out = x * mask, with the mask 0 or 1 / (1 - p), so dx = grad * mask."""

    def backward(self, grad):
        ### BEGIN SOLUTION
        return grad * self.saved["mask"]
        ### END SOLUTION


# %%
compare(linear, rng.standard_normal((2, 3, 4)), rng.standard_normal((4, 5)), rng.standard_normal(5))
batch = rng.standard_normal((128, 512)).astype(np.float32)
print(f"the bias of 512 outputs: sum(axis=0) {1e6 * time_of(lambda: batch.sum(axis=0), 200):.1f} us", end=", ")
print(f"ones @ grad {1e6 * time_of(lambda: np.ones(128, np.float32) @ batch, 200):.1f} us")

# %% [markdown]
"""
### Losses

The squared distance has the slope `2 (pred - target)`, times the element's share in the mean, which module 04 saved.
And cross-entropy? Its loss for one row is `log(sum e^x_j) - x_t`. The first part has the softmax as its slope (see
`logsumexp`), the second the slope -1 at the true class and 0 elsewhere:

```
   logits        [ 2      1      0     ]    the true class is 0
   softmax       [ 0.665  0.245  0.090 ]    what the model believes
   onehot        [ 1      0      0     ]    what is true
   gradient      [-0.335  0.245  0.090 ]    believes minus true; it sums to 0
```

Divide by the number of rows for the mean. No logarithm, no division by a probability: nothing here can overflow, and the
gradient is never larger than 1. The same two operations one after the other, log and softmax, would divide by p and
multiply by p again, and for p = 0 produce NaN.

**Write `MSELossBackward` and the heart of `CrossEntropyBackward`.** The first returns a gradient for pred and, if the
target requires one, its negative. In the second, `dx` is the saved softmax, each row already times its part in the result
(`part`, one number per row: 1 / N of the mean of N). Subtract `part` at each row's true class, `rows`; multiply by `grad`,
a column or one number, unless it is the 1 that nearly every loss starts from: that saves a walk through the whole matrix.
Return it in x's shape. The forward pass's array becomes the gradient, and no new one is made: nobody else holds it, and
a rule runs once.

For the logits above the result is `[-0.3348, 0.2447, 0.0900]`.

<details><summary>Hint 1</summary>

For the squared distance: `self.saved["distance"]` times the number 2 * share * grad.
</details>
<details><summary>Hint 2</summary>

`grad.reshape(-1, 1)` is a column of one number per row, or of a single one. Compare with 1 only where `grad.ndim` is 0.
</details>
<details><summary>Hint 3</summary>

Element `rows[i]` of every row i is `dx[np.arange(len(rows)), rows]`, as in module 04. No row occurs twice, so `-=` is
right on it.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-losses", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
class MSELossBackward(Function, op="mse_loss"):
    """(pred - target)^2 has the slope 2 (pred - target), times each element's share in the result; dtarget = -dpred."""

    def backward(self, grad):
        ### BEGIN SOLUTION
        dpred = self.saved["distance"] * (2 * self.saved["share"] * grad)
        return dpred, -dpred if self.inputs[1].requires_grad else None
        ### END SOLUTION


class HuberLossBackward(Function, op="huber_loss"):
    """The slope is pred - target, held between -delta and delta."""

    def backward(self, grad):
        dpred = self.saved["slope"] * (self.saved["share"] * grad)
        return dpred, -dpred if self.inputs[1].requires_grad else None


class BinaryCrossEntropyBackward(Function, op="binary_cross_entropy"):
    """dp = (p - t) / (p (1 - p)), finite at 0 and 1 as in PyTorch, dt = log(1 - p) - log(p); both times the share."""

    def backward(self, grad):
        (prob, target), saved = self.inputs, self.saved
        p, t = prob.data, target.data
        grad = saved["share"] * grad
        dtarget = (saved["no"] - saved["yes"]) * grad if target.requires_grad else None
        return (p - t) / np.maximum(p * (1 - p), 1e-12) * grad, dtarget


class BCEWithLogitsBackward(Function, op="binary_cross_entropy_with_logits"):
    """softplus(x) - t x has the slope sigmoid(x) - t, times the share; dt = -x."""

    def backward(self, grad):
        (logits, target), saved = self.inputs, self.saved
        grad = saved["share"] * grad
        dlogits = -np.expm1(-saved["softplus"])  # sigmoid(x), as in SoftplusBackward
        dlogits -= target.data
        dlogits *= grad
        return dlogits, -logits.data * grad if target.requires_grad else None


class CrossEntropyBackward(Function, op="cross_entropy"):
    """dlogits = softmax - onehot, times each row's share in the result: what the model believes minus what is true."""

    def backward(self, grad):
        (x,), rows, part, dx = self.inputs, *(self.saved[name] for name in ("rows", "part", "softmax"))
        ### BEGIN SOLUTION
        dx[np.arange(len(rows)), rows] -= part  # nobody else holds this array
        if grad.ndim or grad != 1:
            dx *= grad.reshape(-1, 1)
        return dx if dx.shape == x.shape else dx.reshape(x.shape)
        ### END SOLUTION


class KLDivBackward(Function, op="kl_div"):
    """t (log t - x) has the slopes -t for x and log t - x + 1 for t, times each element's share in the result."""

    def backward(self, grad):
        target, saved = self.inputs[1], self.saved
        grad = saved["share"] * grad
        return -target.data * grad, (saved["surprise"] + 1) * grad if target.requires_grad else None


# %%
logits = Tensor([[2.0, 1.0, 0.0]], requires_grad=True)
print(*cross_entropy(logits, [0])._grad_fn.apply(np.float32(1)))
compare(mse_loss, signed, rng.standard_normal((3, 5)))
compare(lambda x: cross_entropy(x, [0, 4, 4]), signed)
compare(lambda x: cross_entropy(x, [0, 4, -1], weight=arange(5), ignore_index=-1, reduction="none"), signed)
compare(binary_cross_entropy_with_logits, signed, rng.random((3, 5)))

# %% [markdown]
"""
## The engine

### In which order?

Every result has its rule, every rule its inputs. Walking back seems to be three lines: apply the rule, and do the same
for every input with the gradient it got. Try that on a *diamond*, where a result is used twice and the paths meet again:

```
   x ---+---> [ + ] -- y1 --+---> [ + ] -- y2 --+---> [ + ] -- y3
        +---->              +---->              +---->

   y3 sends a gradient to y2 twice; each time y2 sends one to y1 twice; each time y1 sends one to x twice
```
"""


# %%
def naive_backward(node, grad):
    """Add up the leaves' gradients by walking every path. Returns how many rules were run."""
    visits = 1
    for x, dx in zip(node.inputs, node.apply(grad)):
        if x._grad_fn is not None:
            visits += naive_backward(x._grad_fn, dx)
        elif x.requires_grad:
            x.grad = dx if x.grad is None else x.grad + dx
    return visits


for diamonds in (3, 6, 12, 16):
    x = Tensor(1.0, requires_grad=True)
    y = x
    for _ in range(diamonds):
        y = y + y
    visits = naive_backward(y._grad_fn, np.float32(1))
    print(f"{diamonds:2} additions: gradient {x.grad:6.0f}, rules run {visits:6}")

y = x
for _ in range(5000):
    y = y + 1
try:
    naive_backward(y._grad_fn, np.float32(1))
except RecursionError as error:
    print("5000 additions in a row:", error)

# %% [markdown]
"""
The numbers are right, and the work doubles with every addition: at 40 it is a thousand billion visits. A residual
network is such a chain of diamonds, `x = x + f(x)`, block after block. And a long chain exceeds Python's recursion.

The remedy for the first: a rule must *wait* until everybody who used its result has sent a gradient, and then run once,
with the sum. So rules must run in an order in which every user comes before what it used, a *topological order*. The
usual ways to find one are a depth-first search with marks, or counting users. We have it for nothing. **An operation
comes into the world after everything that it was computed from.** Number the operations as they are born (that was
`birth`), and run them from the latest to the earliest.

```
   birth       0          1          2          3
   rule      p=a*b      s=p+c      t=s*a      u=t+p
   order       4th        3rd        2nd        1st        p waits for t's price by way of s, and for u's own
```

The remedy for the second: a list of what is still to be visited, instead of recursion.

While we are at it, check everything *before* the first gradient is computed, so that a failure leaves nothing half done:

- **A second walk.** The engine takes the inputs away from each rule that it has run, to free their memory. So a rule
  whose `inputs` is None has been walked already: raise `_freed(node)`.
- **A change in place.** The rule of `x * y` computes with the values of x and y at the time of `backward`. If
  someone has written into x in the meantime, the gradient is quietly wrong. Births and changes are numbered by one
  clock. So if the last change of *any* tensor is older than the first rule of this graph, and while one trains it
  nearly always is, all is well, at the price of one comparison. If not, `_refuse_changed` looks closely (given): an
  input must not have changed since the birth of the rule, nor may its memory, through a view of it say. An input that
  was itself *computed* must not have changed at all: the rule that computed it may have saved the very array, as exp
  does.

**Write the loop of `_history`.** Walk over `found`, which grows as you go. Refuse a rule that was freed; append every
rule behind its inputs, unless it is `known` already. In the end return what was found, the latest birth
first.

For `y = x + x; z = y * y`: two rules, MulBackward and then AddBackward, each once.

<details><summary>Hint 1</summary>

A list may be appended to while a `for` walks over it: the loop then comes to the new elements as well.
</details>
<details><summary>Hint 2</summary>

`found` keeps what is to be visited, `known` is a set with the same rules: asking a set is fast, and each rule is entered
once although many paths lead there.
</details>
<details><summary>Hint 3</summary>

`earlier` is an input's `_grad_fn`. If it is not None and not in `known`, add it to both. The order comes
from `sorted` with `key=attrgetter("birth")`.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-order", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _freed(node):
    return RuntimeError(
        f"backward reached {node} a second time, but a graph is freed as it is walked. "
        "Add the losses and call backward once, or compute the forward pass again"
    )


def _changed(node):
    return RuntimeError(
        f"an input of {node} was changed in place after it was used, so its gradient cannot be computed. "
        "Change tensors after backward, or write x = x + y instead of changing x"
    )


def _refuse_changed(root, order):
    """Raise if what the rules read was changed after their birth: the tensor itself, or the memory of its array through
    a view or a detached tensor. A result must not have changed at all: its rule may have saved the very array.
    """
    if _last_change() < order[-1].birth:  # mostly nothing was changed since the graph began
        return
    if root._changed:
        raise RuntimeError("the tensor that backward starts from was changed in place after it was computed")
    for node in order:
        for x in (*node.inputs, root) if node is root._grad_fn else node.inputs:
            last = max(x._changed, written.get(id(_memory(x._data)), (None, 0))[1])
            if last > node.birth or (x._changed and x._grad_fn is not None):
                raise _changed(node)


def _history(root, stop=()):
    """The rules that `root` was computed by, latest first; what `stop` holds is not entered.

    An operation comes after all that it was computed from, so the order of birth is a topological order, and no
    recursion is needed.
    """
    found, known = [root._grad_fn], {root._grad_fn, *stop}
    ### BEGIN SOLUTION
    for node in found:
        if node.inputs is None:
            raise _freed(node)
        for x in node.inputs:
            earlier = x._grad_fn
            if earlier is not None and earlier not in known:
                known.add(earlier)
                found.append(earlier)
    return sorted(found, key=attrgetter("birth"), reverse=True)
    ### END SOLUTION


# %%
a, b, c = (Tensor(value, requires_grad=True) for value in (2.0, 3.0, 1.0))
p = a * b
u = (p + c) * a + p
print([(node.birth - p._grad_fn.birth, node) for node in _history(u)])

# %% [markdown]
"""
### Collecting

Now run the rules in that order, and collect the gradients in a dictionary: under its rule for a tensor that was computed,
under the tensor itself for a leaf. When a rule's turn comes, everything for its result has arrived.

A second gradient for the same tensor must be *added*. The obvious `+=` saves memory, and is a trap: many arrays
here belong to someone else. `AddBackward` hands one and the same array to both of its inputs:

```
   out = x + y     L = out + x     grad of L is 1

   the rule of L       out -> g     x -> g        one array, under two names
   the rule of out     x += g       y -> g        x has 2, as it should; y is handed the same array, and has 2, not 1
```

So the first array that arrives is stored as it is, and not touched. When a second one comes, make the sum as a new
array. That one is ours, and nobody else's: note the key in the set `own`. A third gradient, and all that follow, are
added to it in place. (Arrays of embeddings and of shared weights are large, and may get many.) If the sum is a NumPy
number, and of arrays of shape () it is one, it cannot be changed in place: then nothing is noted.

And as soon as a rule has run, it lets go of its inputs and saved arrays (given). With them goes, if nobody else holds
it, all that lies behind: **memory shrinks while backward walks.**

The engine runs rules by the hundred thousand, and `check` walks over the inputs that it is about to walk over itself. So
the loop looks first whether all is as usual: a scalar of the same type, or an array with the same shape and dtype.
Whatever is not, `check` looks at.

**Write the inner part of `_gradients`.** `dinputs` is what the rule `node` made of `grad` (`_runner` is a door for module
14, which will stand there with a clock), and `dx` the gradient of an input `x` that requires one. With `key` its rule,
or itself if it is a leaf: store, add in place, or add and store, as above.

For `x = [1, 2]`, `y = [3, 4]` and `L = ((x + y) + x).sum()`: x has `[2, 2]`, y has `[1, 1]`.

<details><summary>Hint 1</summary>

`x._grad_fn or x` is the key. (A rule is true like any object, so `or` asks only whether there is one.)
</details>
<details><summary>Hint 2</summary>

`grads.get(key)` is what has arrived so far, or None. It is not there yet, or in `own`, or there and somebody else's.
</details>
<details><summary>Hint 3</summary>

Three branches: nothing so far (store); an array, and `key in own` (in place); neither (store the sum of both, and add
the key to `own` if the type of the sum is `ndarray`).
</details>
"""


# %%
#| export
_runner = None  # called as _runner(node, grad) in place of node.apply(grad)


def set_runner(runner):
    """Let `runner(node, grad)` run every rule and return what `node.apply(grad)` returns, which it calls (None: nobody
    stands between). Returns the one it replaces.
    """
    global _runner
    previous, _runner = _runner, runner
    return previous


# %% nbgrader={"grade": false, "grade_id": "autograd-backward", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def _gradients(root, order, seed, keep=()):
    """Run the rules in `order`, from that of `root` back: a dictionary from each leaf, and each rule in `keep`, to its
    gradient.

    A tensor's gradient is collected under its rule, or under the tensor itself if it is a leaf. The arrays may belong
    to others, too: read them only.
    """
    _refuse_changed(root, order)
    grads = {root._grad_fn: seed}
    own, kept = set(), {}
    for node in order:
        grad = grads.pop(node)
        if keep and node in keep:
            kept[node] = grad
        dinputs = node.backward(grad) if _runner is None else _runner(node, grad)
        if type(dinputs) is not tuple:
            dinputs = (dinputs,)
        if len(dinputs) != len(node.inputs):
            node.check(dinputs)
        for x, dx in zip(node.inputs, dinputs):
            if not x._requires_grad:
                continue
            data, kind = x._data, type(dx)
            if kind is not type(data) or (kind is ndarray and (dx.shape != data.shape or dx.dtype != data.dtype)):
                node.check(dinputs)
            ### BEGIN SOLUTION
            key = x._grad_fn or x
            so_far = grads.get(key)
            if so_far is None:
                grads[key] = dx
            elif kind is ndarray and key in own:
                so_far += dx
            else:
                grads[key] = total = so_far + dx
                if type(total) is ndarray:
                    own.add(key)
            ### END SOLUTION
        node.inputs = node.saved = None
    return grads | kept


def _seed(tensor, gradient, who):
    """The gradient to start from: 1 for a single number, otherwise the one given, checked."""
    if not tensor.requires_grad:
        raise RuntimeError(
            f"{who} needs a tensor that depends on one with requires_grad=True, and was computed outside no_grad(); "
            f"this one, of shape {tensor.shape}, has no history"
        )
    if gradient is None:
        if tensor.size != 1:
            raise RuntimeError(
                f"{who} starts from a single number, got shape {tensor.shape}; "
                "reduce it with .mean() or .sum(), or pass the gradient of that shape"
            )
        return np.ones_like(tensor._data)[()]
    if not isinstance(gradient, np.ndarray) or gradient.dtype != tensor.dtype:  # else no copy: rules only read it
        gradient = as_array(gradient, tensor.dtype)
    if gradient.shape != tensor.shape:
        raise ValueError(f"{who} needs a gradient of shape {tensor.shape}, got {gradient.shape}")
    return gradient


# %% [markdown]
"""
Two functions stand on top, given. `backward` is what you will call, also as the method `loss.backward()`: it *adds* to
the `grad` of every leaf, so that several losses, or several parts of a batch, can share one step. (`h.retain_grad()`
asks it to keep the gradient of a tensor that was computed, too.) `grad` returns the gradients instead and leaves every
`.grad` alone.

Adding has a price: forget to reset `grad` before the next batch, and you train on the sum of all batches so far.
"""


# %%
#| export
def backward(tensor, gradient=None):
    """Add d(tensor)/d(leaf) to the `grad` of every leaf that `tensor` was computed from.

    gradient   d(loss)/d(tensor), shaped as it; may be left out for a single number, where it is 1

    Each rule lets go of its arrays once it has run, so a graph can be walked once. If anything is wrong (no history,
    a graph already freed, an input changed in place, a rule that returns the wrong shape), RuntimeError says what,
    and no `grad` has changed.
    """
    seed = _seed(tensor, gradient, "backward")
    if tensor._grad_fn is None:
        grads = {tensor: seed}
    else:
        order = _history(tensor)
        asked = _retained(order)
        grads = _gradients(tensor, order, seed, keep=asked)
        grads = {asked.get(key, key): grad for key, grad in grads.items()}
    taken = {id(seed)}
    for x, grad in grads.items():
        if x.grad is not None:
            x.grad = np.add(x.grad, grad, out=x.grad)
        elif grad.base is None and id(grad) not in taken:
            x.grad = np.asarray(grad)
        else:
            x.grad = np.array(grad)  # a rule may give views, or one array to several inputs: each gets its own
        taken.add(id(grad))


def _retained(order):
    """From rule to tensor, for the results of the rules in `order` that asked to keep their gradients."""
    if not retained:
        return {}
    walked = set(order)
    return {x._grad_fn: x for x in retained.values() if x._grad_fn in walked}


def grad(output, inputs, gradient=None):
    """d(output)/d(input) for each of `inputs` (a tensor or a sequence of them), leaving every `.grad` alone.

    Returns a list of ndarrays, or one ndarray for one tensor. Raises RuntimeError if `output` does not depend on one.
    """
    tensors = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    seed = _seed(output, gradient, "grad")
    if output._grad_fn is None:
        grads = {output: seed}
    else:
        keep = {x._grad_fn for x in tensors if x._grad_fn is not None}
        grads = _gradients(output, _history(output), seed, keep)
    for i, x in enumerate(tensors):
        if (x._grad_fn or x) not in grads:
            raise RuntimeError(f"grad: the output does not depend on input {i}, of shape {x.shape}")
    found = [np.array(grads[x._grad_fn or x]) for x in tensors]
    return found[0] if isinstance(inputs, Tensor) else found


# %%
x = Tensor(1.0, requires_grad=True)
y = x
for _ in range(40):
    y = y + y
rules = len(_history(y))
backward(y)
print(f"40 diamonds: {rules} rules run, gradient {x.grad:.0f} = 2^40: {float(x.grad) == 2.0**40}")

x, y = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
backward(((x + y) + x).sum())
print("x.grad", x.grad, " y.grad", y.grad)
backward((x * 10).sum())
print("x.grad", x.grad, "after a second loss: added, not replaced")

loss = (x * y).sum()
print("without touching .grad:", *grad(loss, [x, y]))
for wrong in (lambda: backward(loss), lambda: backward(x * y), lambda: backward(Tensor(1.0))):
    try:
        wrong()
    except RuntimeError as error:
        print("-", error)

# %% [markdown]
"""
### Behind its back

What happens to a gradient if a value changes between forward and backward? `z = x * y` at x = 2 and y = 3: dz/dy is x,
so 2. Four ways to set x to 100 before `backward` is called:
"""


# %%
def plainly(x):
    x *= 50


def without_recording(x):
    with no_grad():
        x *= 50


def by_element(x):
    with no_grad():
        x[0] = 100


def behind_its_back(x):
    x.data[0] = 100


for change in (plainly, without_recording, by_element, behind_its_back):
    x, y = Tensor([2.0], requires_grad=True), Tensor([3.0], requires_grad=True)
    z = x * y
    try:
        change(x)
        backward(z)
        print(f"{change.__name__}: dz/dy = {y.grad}")
    except RuntimeError as error:
        print(f"{change.__name__}: {error}")

# %% [markdown]
"""
The first is refused on the spot. The second and third are legal, it is how optimizers work; only asking for a gradient
through the old value is not, and the versions show it. The last one writes into the bare NumPy array. No tensor is
involved, so none can notice, and the answer is wrong: the slope at another place than the one where z was computed.
(PyTorch has the same blind spot, under the same name, `.data`.) So: write through the tensor, or after `backward`.

And if something goes wrong in the middle? Say the last of three rules has a mistake. The gradients of the leaves are
handed out at the very end, all or none:
"""


# %%
def halved(x):
    return result(x.data / 2, "halved", x)


class HalvedBackward(Function, op="halved"):
    """out = x / 2, with a mistake: a sum that nobody asked for."""

    def backward(self, grad):
        return (grad / 2).sum()


x, w = Tensor([1.0, 2.0], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
try:
    backward((halved(x) * w).sum())
except RuntimeError as error:
    print(error)
print("x.grad", x.grad, " w.grad", w.grad)

# %% [markdown]
"""
## It learns

Everything is there to train. Twenty points near the line `y = 2 x - 1`; a slope and an offset that start at 0; twenty
times the same five lines. No layer, no optimizer, no formula for the gradient anywhere.
"""

# %%
manual_seed(0)
x = randn(20)
truth = 2 * x - 1 + 0.2 * randn(20)
slope, offset = Tensor(0.0, requires_grad=True), Tensor(0.0, requires_grad=True)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.plot(x.data, truth.data, "k.")
ends, losses = np.array([-2.5, 2.5]), []
for step in range(21):
    loss = mse_loss(slope * x + offset, truth)
    losses.append(loss.item())
    if step in (0, 1, 3, 20):
        print(f"step {step:2}: y = {slope.item():6.3f} x + {offset.item():6.3f}, loss {loss.item():.4f}")
        left.plot(ends, slope.item() * ends + offset.item(), label=f"step {step}")
    slope.zero_grad()
    offset.zero_grad()
    backward(loss)
    with no_grad():
        slope -= 0.2 * slope.grad
        offset -= 0.2 * offset.grad
left.legend()
left.set(xlabel="x", ylabel="y")
right.semilogy(losses)
right.set(xlabel="step", ylabel="loss")
plt.show()

# %% [markdown]
"""
## Memory for time

Training holds every layer's activations until the rules have used them. `checkpoint(f, x)` makes another bargain: run f
unrecorded and keep only x; when the gradient comes by, run f again, recorded this time, and walk through that. The
memory of f's inside is needed for a moment only, and the price is a second forward pass of f.

It is one more operation with a rule, and given. Two details are worth reading. Random numbers must come out alike the
second time, or a dropout mask in the backward pass would be another one than in the forward pass: the generator's
state is kept and put back. And f reaches tensors that it is not handed, such as a layer's weights, which need
gradients too: a little recorder notices all that f uses.
"""


# %%
#| export
def _leaf(x):
    """A tensor with the array of x and without its history."""
    leaf = x.detach()
    leaf.requires_grad = x.requires_grad
    return leaf


def checkpoint(f, *inputs):
    """f(*inputs), keeping only the inputs: `backward` computes f again instead of holding its intermediate arrays.

    f takes tensors and returns one tensor; random numbers drawn inside are drawn again alike. Tensors that f reaches
    on its own, such as a layer's parameters, receive their gradients too. (Chen et al. 2016)
    """
    if not is_grad_enabled():
        return f(*inputs)
    captured = {}

    def notice(out, op, tensors, saved):
        captured.update((id(x), x) for x in tensors if x._requires_grad)

    leaves = [_leaf(x) for x in inputs]  # so that an input which f reaches on its own, too, is told from the one given
    state = generator().bit_generator.state
    recorder = set_recorder(notice)
    try:
        out = f(*leaves)
    finally:
        set_recorder(recorder)
    if out._requires_grad:  # nothing computed here does: f returns a tensor as it found it
        captured[id(out)] = out
    for x in leaves:
        captured.pop(id(x), None)
    return result(out.data, "checkpoint", *inputs, *captured.values(), f=f, given=len(inputs), state=state)


class CheckpointBackward(Function, op="checkpoint"):
    """Compute f again, recorded this time, and send grad back through it as far as the inputs."""

    def backward(self, grad):
        given = self.saved["given"]
        leaves = [_leaf(x) for x in self.inputs[:given]]
        random = generator().bit_generator
        now, random.state = random.state, self.saved["state"]
        recorder = set_recorder(record)
        try:
            out = self.saved["f"](*leaves)
        finally:
            set_recorder(recorder)
            random.state = now
        keys = [x._grad_fn or x for x in (*leaves, *self.inputs[given:])]
        stop, root = set(keys), out._grad_fn or out
        computed = root is not out and root not in stop  # else f returned an input, or what has no history
        grads = _gradients(out, _history(out, stop), grad) if computed else {root: grad}
        return tuple(
            grads.get(key, np.zeros_like(x.data)) if x.requires_grad else None for key, x in zip(keys, self.inputs)
        )


# %%
def segment(x):
    """Sixteen operations."""
    for _ in range(8):
        x = tanh(x) * 1.5
    return x


def first_slope(wrapped):
    """The gradient at the beginning of sixteen such segments."""
    x = start
    for _ in range(16):
        x = checkpoint(segment, x) if wrapped else segment(x)
    return grad(x.mean(), start)


start = randn(256, 256, requires_grad=True, rng=0)
print(f"one array {start.data.nbytes / 1e6:.2f} MB, 256 of them {256 * start.data.nbytes / 1e6:.1f} MB")
for wrapped in (False, True):
    tracemalloc.start()
    first_slope(wrapped)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds = time_of(functools.partial(first_slope, wrapped), 3)
    print(f"{'checkpointed' if wrapped else 'all kept':13} at most {peak / 1e6:5.1f} MB   {1e3 * seconds:6.1f} ms")
print("the same gradients:", np.array_equal(first_slope(False), first_slope(True)))

# %% [markdown]
"""
## Proof

### gradcheck

`by_nudging` has been our witness all along. How far can it be trusted? It took a step of a millionth, in float64.
Smaller should be better: the slope is defined as what happens when the step goes to 0. Try it, for the slope of e^x at
1, with two formulas:

```
   one side    ( f(x + eps) - f(x) ) / eps               off by about  eps   * f'' / 2
   both sides  ( f(x + eps) - f(x - eps) ) / (2 eps)     off by about  eps^2 * f''' / 6
```
"""


# %%
def difference_error(dtype, eps, both):
    """How far off the slope of e^x at 1 is, relative to the slope, computed in `dtype`."""
    x, eps = dtype(1), dtype(eps)
    start = x - eps if both else x
    slope = (np.exp(x + eps) - np.exp(start)) / (2 * eps if both else eps)
    return abs(float(slope) - np.e) / np.e


steps = np.logspace(-12, -0.5, 70)
plt.figure(figsize=(6, 3.2), layout="constrained")
print("dtype     formula      best step    error there    at 1e-6")
for dtype in (np.float32, np.float64):
    for both in (False, True):
        errors = np.array([difference_error(dtype, eps, both) for eps in steps])
        name = f"{dtype.__name__}, {'both sides' if both else 'one side'}"
        best = errors.argmin()
        print(f"{name:22} {steps[best]:9.0e} {errors[best]:13.0e} {difference_error(dtype, 1e-6, both):12.0e}")
        plt.loglog(steps, np.maximum(errors, 1e-14), "-" if both else "--", label=name)
plt.legend()
plt.xlabel("step eps")
plt.ylabel("relative error of the slope")
plt.show()

# %% [markdown]
"""
Every curve is a V. On the right the step is too large for the formula. On the left it is too small for the numbers: the
two values of f agree in nearly all their digits, the difference keeps the few that are left, and dividing by a small eps
magnifies their rounding. In float32 the bottom of the V is too high: a rule that is wrong in the fifth digit would pass.
In float64, with both sides, a step of 1e-6 leaves ten digits. That is what PyTorch's `gradcheck` does, and ours.

**Write the inner part of `gradcheck`.** `x.data[place]` is the element in question, `value` what stands there. Without
recording, put `value + eps` there and compute f; all its output elements, times `weight`, summed, are `above`. The same
with `value - eps` is `below`. Put `value` back, and compute `slope`.

`gradcheck(lambda x: x * x, [3.0])` is True.

<details><summary>Hint 1</summary>

Writing into `x.data` behind the tensor's back is just what is wanted here: no version is counted, no gradient is lost.
</details>
<details><summary>Hint 2</summary>

The inputs are handed to f as separate arguments, and the result is a tensor; take its `data`.
</details>
<details><summary>Hint 3</summary>

In a `with no_grad():` block: set, compute, set, compute. Outside: restore `value`, and divide the difference by twice
eps.
</details>
"""


# %% nbgrader={"grade": false, "grade_id": "autograd-gradcheck", "locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false}
#| export
def gradcheck(f, inputs, eps=1e-6, rtol=1e-6):
    """Whether the gradients of f agree with finite differences at `inputs` (a tensor, array, or sequence of them).

    f      takes tensors, returns a tensor of any shape
    eps    step of the central difference, taken in float64
    rtol   largest error allowed, relative to the larger of 1 and the two derivatives

    Returns True. Raises RuntimeError that names the input, the place, and both numbers.
    """
    if not isinstance(inputs, (list, tuple)):
        inputs = [inputs]
    inputs = [Tensor(x, requires_grad=True, dtype=np.float64) for x in inputs]
    out = f(*inputs)
    weight = np.random.default_rng(0).uniform(0.5, 1.5, out.shape)  # every output element counts, none alike
    exact = grad(out, inputs, weight)
    for i, x in enumerate(inputs):
        for place in np.ndindex(x.shape):
            value = x.data[place]
            ### BEGIN SOLUTION
            with no_grad():
                x.data[place] = value + eps
                above = (f(*inputs).data * weight).sum()
                x.data[place] = value - eps
                below = (f(*inputs).data * weight).sum()
            x.data[place] = value
            slope = (above - below) / (2 * eps)
            ### END SOLUTION
            error = abs(slope - exact[i][place]) / max(1.0, abs(slope), abs(exact[i][place]))
            if not error <= rtol:
                raise RuntimeError(
                    f"gradcheck: at {place} of input {i}, backward gives {exact[i][place]:.9g} "
                    f"and finite differences {slope:.9g}, a relative error of {error:.1e} (allowed {rtol:.0e})"
                )
    return True


# %% [markdown]
"""
An operation of your own, with a rule in which a factor is missing. No shape betrays it, and a model would even train
with it, only strangely.
"""


# %%
def squared(x):
    return result(x.data * x.data, "squared", x)


class SquaredBackward(Function, op="squared"):
    """out = x^2, so dx = 2 grad x."""

    factor = 1

    def backward(self, grad):
        (x,) = self.inputs
        return self.factor * grad * x.data


try:
    gradcheck(squared, [[3.0, -1.0]])
except RuntimeError as error:
    print(error)

SquaredBackward.factor = 2
print("mended:", gradcheck(squared, [[3.0, -1.0]]))

try:
    gradcheck(relu, [0.0])
except RuntimeError as error:
    print(error)

# %% [markdown]
"""
## The picture

`graph` draws what was recorded, given in full: a picture in a notebook, and text in the Mermaid language, which many
editors and web pages render, everywhere else. Inputs stand above, the result below. An operation is round, a leaf has a
frame, data, for which nobody wants a gradient, a dashed one; beside each arrow is the shape of what flows there. Draw
before `backward`, which takes the graph apart.
"""


# %%
#| export
class Graph:
    """A drawing of how a tensor was computed: `str` is Mermaid text, `svg` the picture that notebooks show."""

    largest = 100  # nodes; of more, notebooks show the text alone
    looks = {
        "operation": 'rx="14" fill="#d6e6f4" stroke="#3b76af"',
        "leaf": 'rx="3" fill="#fbe0c4" stroke="#d9730d" stroke-width="2"',
        "data": 'rx="3" fill="#e6e6e6" stroke="#777" stroke-dasharray="4 3"',
    }

    def __init__(self, tensor, names=()):
        self._given = {id(x): name for name, x in names}
        self._names = {}  # from tensor, or the rule that computed it, to (name, label)
        self._kinds = {}  # from name to "operation", "leaf" or "data"
        self._arrows = []  # (from, to, shape)
        self._add(tensor)
        unvisited, seen = [tensor._grad_fn], set()
        while unvisited:
            node = unvisited.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            for x in node.inputs or ():
                self._arrows.append((self._add(x), self._names[node][0], list(x.shape)))
                unvisited.append(x._grad_fn)

    def _add(self, tensor):
        key = tensor._grad_fn or tensor
        if key not in self._names:
            name, kind, label = f"n{len(self._names)}", "operation", type(key).__name__.removesuffix("Backward")
            if key is tensor:
                kind = "leaf" if tensor.requires_grad else "data"
                label = f"{self._given.get(id(tensor), kind)} {list(tensor.shape)}"
            self._names[key], self._kinds[name] = (name, label), kind
        return self._names[key][0]

    def __str__(self):
        nodes = [f'  {name}["{label}"]' for name, label in self._names.values()]
        return "\n".join(["graph LR", *nodes, *(f'  {a} -->|"{shape}"| {b}' for a, b, shape in self._arrows)])

    __repr__ = __str__

    def _rows(self):
        """The places in each row, from the top; and for each place those in the row above that lead to it.

        A node stands as low as its arrows allow, a weight just above where it is used first. In a row that an arrow
        skips it has a place, (name, row), which it shares with all others from that node.
        """
        height, moved = {name: 0 for name in self._kinds}, True  # the longest way to the result
        while moved:
            moved = False
            for a, b, _ in self._arrows:
                if height[a] <= height[b]:
                    height[a], moved = height[b] + 1, True
        top = max(height.values())
        rows = [[name for name in height if height[name] == top - row] for row in range(top + 1)]
        above = {name: [] for name in height}
        for a, b, _ in self._arrows:
            upper = a
            for row in range(top - height[a] + 1, top - height[b]):
                if (a, row) not in above:
                    above[a, row] = [upper]
                    rows[row].append((a, row))
                upper = a, row
            above[b].append(upper)
        return rows, above

    def _middles(self, rows, above, sides):
        """The x of the middle of each place: close to its neighbours, with room for its `sides` (left, right)."""
        near = {place: list(uppers) for place, uppers in above.items()}
        for place, uppers in above.items():
            for upper in uppers:
                near[upper].append(place)
        middle = dict.fromkeys(near, 0.0)
        for row in [*rows, *reversed(rows)] * 12:
            wish = {place: sum(middle[x] for x in near[place]) / max(1, len(near[place])) for place in row}
            row.sort(key=wish.get)
            edge = -math.inf
            for place in row:
                middle[place] = max(wish[place], edge + sides[place][0])
                edge = middle[place] + sides[place][1]
            shift = sum(wish[place] - middle[place] for place in row) / len(row)
            middle.update({place: middle[place] + shift for place in row})
        left = min(middle[place] - sides[place][0] for place in middle)
        return {place: round(x - left) for place, x in middle.items()}

    @property
    def svg(self):
        """The picture, in colours that can be told apart on light and on dark ground."""
        rows, above = self._rows()
        shape = {a: str(text) for a, _, text in self._arrows}
        half = {name: 11 + 3.7 * len(label) for name, label in self._names.values()}  # of the width of a box
        sides = {x: (9 + half.get(x, 0), 9 + max(half.get(x, 0), 5 + 6.7 * len(shape.get(x, "")))) for x in above}
        middle, top = self._middles(rows, above, sides), {x: 10 + 72 * i for i, row in enumerate(rows) for x in row}
        drawn = []
        for b in top:
            into = sorted(above[b], key=middle.get)
            for i, a in enumerate(into):
                end = round(middle[b] + (2 * i - len(into) + 1) * min(8, half.get(b, 0) / len(into)))
                way = f"M{middle[a]} {top[a] + 28 * (a in half)}V{top[a] + 44}"
                way += f"C{middle[a]} {top[a] + 60} {end} {top[b] - 20} {end} {top[b]}"
                way += "m-4 -7l4 7l4 -7" if b in half else ""
                drawn.append(f'<path d="{way}" fill="none" stroke="#888"/>')
        for name, label in self._names.values():
            x, y, w = middle[name], top[name], half[name]
            label = label.replace("&", "&amp;").replace("<", "&lt;")
            drawn.append(f'<rect x="{x - w:g}" y="{y}" width="{2 * w:g}" height="28" {self.looks[self._kinds[name]]}/>')
            drawn.append(f'<text x="{x}" y="{y + 18}" text-anchor="middle" fill="#222">{label}</text>')
            drawn.append(f'<text x="{x + 6}" y="{y + 42}" font-size="11" fill="#777">{shape.get(name, "")}</text>')
        wide, high = round(max(middle[x] + sides[x][1] for x in top)), max(top.values()) + 38
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide}" '
        head += 'style="max-width: 100%; height: auto" font-family="monospace" font-size="12">'
        return "\n".join([head, *drawn, "</svg>"])

    def _repr_mimebundle_(self, include=None, exclude=None):
        picture = {"image/svg+xml": self.svg} if len(self._kinds) <= self.largest else {}
        return {"text/plain": str(self), **picture}


def graph(tensor, names=()):
    """The history of `tensor` as a `Graph`: leaves, data and operations, with the shapes that flow between them.

    names   (name, tensor) pairs, such as `model.named_parameters()`, for leaves to be called by
    """
    return Graph(tensor, names)


# %%
manual_seed(0)
model = Sequential(Linear(4, 8), ReLU(), Linear(8, 3))
loss = cross_entropy(model(randn(16, 4)), np.arange(16) % 3)
print(graph(loss))

# %% [markdown]
"""
The same as a picture, where there is room for one, with the parameters under their names:
"""

# %%
graph(loss, model.named_parameters())

# %% [markdown]
"""
After `backward` the graph is gone, and the gradients are there. In a deep network it pays to look at all of them at
once. Eight layers and the mean size of the gradient of each weight, on a logarithmic scale: with sigmoids between the
layers, and with relus.
"""

# %%
manual_seed(0)
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for axis, Bend in zip(axes, (Sigmoid, ReLU)):
    deep = Sequential(*(layer for _ in range(8) for layer in (Linear(64, 64), Bend())), Linear(64, 3))
    backward(cross_entropy(deep(randn(32, 64)), np.arange(32) % 3))
    pictures.gradients([(name, p.grad) for name, p in deep.named_parameters() if p.ndim == 2], axis)
    axis.set_title(Bend.__name__)
plt.show()

# %% [markdown]
"""
Read from below, the way the gradients went. A sigmoid's slope is 1/4 at most, and every layer multiplies by one: what
arrives at the first layer is nothing that one could learn from. It is why deep networks did not work for so long, and
the first picture to draw when one does not learn. A bar that is missing altogether would say "none" (no path leads
there from the loss) or "0" (every unit on the way is dead).
"""

# %% [markdown]
"""
## What does it cost?

**Per operation.** The smallest possible operation, an addition of two numbers, ten thousand times in a row: bare NumPy;
tensors without recording; recorded; and the walk back. Everything beyond the first line is overhead, and does not depend
on the size of the arrays.
"""

# %%
one, start = Tensor(1.0), Tensor(0.0, requires_grad=True)


def add_up(x, y, count=10_000):
    for _ in range(count):
        x = x + y
    return x


count = 10_000
numpy_time = time_of(lambda: add_up(np.zeros((), np.float32), np.ones((), np.float32)))
quiet = time_of(no_grad()(lambda: add_up(start, one)))
recorded = time_of(lambda: add_up(start, one))
both = time_of(lambda: backward(add_up(start, one)))
for name, seconds in {
    "NumPy": numpy_time,
    "tensors, no_grad": quiet,
    "tensors, recorded": recorded,
    "backward": both - recorded,
}.items():
    print(f"{name:18} {1e6 * seconds / count:6.2f} us per operation")


def numpy_addition(size):
    vector = np.ones(size, np.float32)
    return time_of(lambda: vector + vector, 20)


size = 1
while numpy_addition(size) < (recorded - numpy_time) / count:
    size *= 2
print(f"as long as recording one takes, NumPy adds some {size:,} numbers")

# %% [markdown]
"""
So autograd by the scalar is slow, and by the array it is nearly free: what counts is how few and how large the operations
are. That is the second reason for fused rules.

**In a matrix product.** One product forward, two back, if both gradients are wanted:
"""

# %%
a, b = (randn(512, 512, requires_grad=True) for _ in range(2))
seed = np.ones((512, 512), np.float32)


def timed(a, b, repeats=30):
    """The fastest forward and the fastest backward pass of a @ b."""
    forwards, backwards = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        product = a @ b
        middle = time.perf_counter()
        grad(product, b, seed)
        forwards.append(middle - start)
        backwards.append(time.perf_counter() - middle)
    return min(forwards), min(backwards)


for name, left in {"both": a, "the weight only": a.detach()}.items():
    there, back = timed(left, b)
    print(f"gradients of {name:16} forward {1e3 * there:5.1f} ms, backward {1e3 * back:5.1f} ms: {back / there:.1f} x")

# %% [markdown]
"""
**In memory.** A network of eight layers, and a batch of 2,048. `tracemalloc` counts what is held at four moments. One of
these lines explains most "out of memory" errors.
"""

# %%
manual_seed(0)
deep = Sequential(*(layer for _ in range(8) for layer in (Linear(256, 256), ReLU())))
batch = randn(2048, 256)
activation = batch.data.nbytes

tracemalloc.start()
with no_grad():
    loss = deep(batch).mean()
held = {"after a forward pass under no_grad": tracemalloc.get_traced_memory()[0]}
loss = deep(batch).mean()
held["after a recorded one"] = tracemalloc.get_traced_memory()[0]
tracemalloc.reset_peak()
backward(loss)
held["at most, during backward"] = tracemalloc.get_traced_memory()[1]
held["after backward, with loss and gradients"] = tracemalloc.get_traced_memory()[0]
tracemalloc.stop()
weights = sum(p.data.nbytes for p in deep.parameters())
print(f"one activation {activation / 1e6:.1f} MB, all weights {weights / 1e6:.1f} MB")
for moment, size in held.items():
    print(f"{moment:40} {size / 1e6:6.1f} MB = {size / activation:4.1f} activations")

# %% [markdown]
"""
Each of the eight layers keeps two arrays, its product and the ReLU's result. Backward adds hardly anything at its peak,
because what it allocates for gradients it gains by freeing activations. Could it be less? The ReLU's rule holds its
input like every rule, and does not look at it. PyTorch lets each rule keep just the arrays it names, which here would be
half.

**In depth.** A chain of additions, ten times as long and ten times again. The engine has no recursion, nor has the
release of the graph. What growth there is per operation is memory at work: a long chain no longer fits the processor's
cache, and Python's garbage collector looks through all of it now and then.
"""

# %%
for count in (1000, 10_000, 100_000):
    start.zero_grad()
    seconds = time_of(lambda count=count: backward(add_up(start, one, count)), 20_000 // count or 1)
    print(f"{count:7,} operations deep: {1e6 * seconds / count:5.2f} us per operation")

# %% [markdown]
"""
## All together

The checks of this lesson in one cell.
"""

# %%
# The example of the first page, by the engine.
a, b, c = (Tensor(value, requires_grad=True) for value in (2.0, 3.0, 1.0))
backward((a * b + c) * a)
assert (a.grad, b.grad, c.grad) == (13.0, 4.0, 2.0)

# Rules in float64, far below what a mistake would cause.
checked = {
    "arithmetic": (lambda x, y: (x + y) * (x - y) / (x * x + 1), [block, block[:1]]),
    "products": (lambda x, y: tanh(x @ y), [block, rng.standard_normal((4, 3))]),
    "reductions": (lambda x: x.max(axis=0) * x.mean(axis=0) + x.var(axis=0) + x.sum(), [block]),
    "shapes": (lambda x: cat([x.permute(2, 0, 1).reshape(8, 3), x.reshape(8, 3)]), [block]),
    "indexing": (lambda x: x[:, [0, 2, 2]] * x[..., 1:2], [block]),
    "network": (
        lambda x, w, b: cross_entropy(relu(linear(x, w, b)), [0, 2, 1, 4]),
        list(map(rng.standard_normal, [(4, 3), (3, 5), 5])),
    ),
}
for name, (f, arrays) in checked.items():
    print(f"{name:11}", gradcheck(f, arrays))

# float32 stays float32, shapes stay, and nothing is recorded where nobody asked.
x, w = randn(5, 3), randn(3, 4, requires_grad=True)
backward(softmax(x @ w)[:, 0].sum())
assert w.grad.dtype == np.float32
assert w.grad.shape == w.shape
assert x.grad is None
with no_grad():
    assert not (x @ w).requires_grad
assert is_grad_enabled()

# Every path once, every repeat counted, every tie shared.
x = Tensor([1.0, 2.0, 2.0], requires_grad=True)
backward((x + x).sum() + x[[0, 0, 1]].sum() + x.max())
assert x.grad.tolist() == [4.0, 3.5, 2.5]
print("operations with a rule:", len(Function.rules))

# %% [markdown]
"""
## Questions

**1.** GPT-2 in its smallest size has 124 million weights. Say a forward pass over one batch takes 0.1 s, and a backward
pass twice that. How long does one gradient take by nudging, from both sides? By backward?

<details><summary>Answer</summary>

Two forward passes per weight: 2 * 124e6 * 0.1 s = 24.8 million seconds, 287 days. By backward 0.1 + 0.2 = 0.3 s. The
ratio is eighty million, and it grows with the model.
</details>

**2.** A weight of a matrix costs one multiplication and one addition per token in the forward pass. How many in the
backward pass? GPT-3 has 175 billion weights and saw 300 billion tokens. How many operations was its training? How long
for a processor that does 1e14 per second, and for a thousand of them?

<details><summary>Answer</summary>

Two products instead of one: 4, so 6 in all. 6 * 175e9 * 300e9 = 3.15e23 operations. At 1e14 per second 3.15e9 seconds, a
hundred years; for a thousand processors 36 days, if they never wait.
</details>

**3.** GPT-3: 96 blocks, E = 12,288, T = 2,048, 96 heads. Say a block keeps 16 arrays of shape (T, E) per text, and one
(T, T) array per head. How much is that in float32 for a single text? How much with a checkpoint around every block, and
what does it cost in time?

<details><summary>Answer</summary>

One (T, E) array: 2048 * 12288 * 4 bytes = 101 MB, sixteen of them 1.61 GB. The heads: 96 * 2048 * 2048 * 4 = 1.61 GB.
Together 3.22 GB per block, 309 GB for all. With checkpoints one (T, E) array per block stays, 96 * 101 MB = 9.7 GB, and
one block at a time is unfolded, 3.2 GB: 13 GB instead of 309. The time goes from 1 forward + 2 (backward) to 2 forward +
2: a third more.
</details>

**4.** Someone measures the validation loss like this: `total = 0`, then for each of 100 batches `total = total +
loss(model(x), y)`, and prints `total / 100`. It is right, and runs out of memory. Why? With the network and the batch of
the memory cell, how much is held in the end?

<details><summary>Answer</summary>

`total` is a tensor with a history: it holds every loss, and each loss its graph with all activations. Nobody calls
backward, so nothing is freed. 100 times the line "after a recorded one". Under `no_grad()` it holds one number; `total +=
loss.item()` would do as well.
</details>

**5.** An embedding's rule was written with `dw[tokens] = grad`. In a batch of 8,192 tokens, "the" makes up 5 %, and
"autograd" occurs once. What share of its gradient does each word get? Why does the loss still fall?

<details><summary>Answer</summary>

"the" occurs 410 times and keeps the last of 410 contributions; "autograd" gets all of its one. Rare words learn as they
should, frequent ones a hundred times too slowly, though in about the right direction. So the loss falls, only to a worse
value, and no test of "the gradient is not None" will ever tell. A gradcheck with a repeated token does.
</details>
"""
