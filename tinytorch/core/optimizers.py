# Generated from modules/06_optimizers/06_optimizers.py by `tito export`. To change this file, edit the lesson and export again.
"""Optimizers: from gradients to better parameters.

A rule such as `adam_update` is a function of flat arrays that works in place and makes no temporaries. An `Optimizer`
holds parameters in groups, keeps what the rule remembers about each, and applies the rule piece by piece, a piece being
small enough to stay in the processor's cache from the first operation to the last. A new rule is a subclass with two
methods, `memory` and `update`.
"""

import math
from collections.abc import Mapping
from numbers import Real
from typing import NamedTuple

import numpy as np

from tinytorch.core.tensor import Tensor


def sgd_update(p, g, velocity, scratch, lr, momentum=0.0, weight_decay=0.0, nesterov=False):
    """One step of gradient descent with momentum, in place:

        g        = g + weight_decay * p
        velocity = momentum * velocity + g
        p        = p - lr * velocity            with nesterov:  p - lr * (g + momentum * velocity)

    p, velocity  (n,)  changed in place; velocity may be None where momentum is 0
    g            (n,)  only read
    scratch      two arrays (n,) to compute in

    Sutskever et al. 2013, section 2, with the learning rate outside the velocity, as PyTorch has it.
    """
    s, t = scratch
    if weight_decay:
        g = np.add(g, np.multiply(p, weight_decay, out=s), out=s)
    direction = g
    if momentum:
        velocity *= momentum
        velocity += g
        direction = np.add(g, np.multiply(velocity, momentum, out=t), out=t) if nesterov else velocity
    p -= np.multiply(direction, lr, out=t)


PIECE = 65536  # elements: a piece of p, g, two states and scratch together fill a usual second-level cache


def pieces(*arrays, size: int = PIECE):
    """The arrays side by side, flat, at most `size` elements of each at a time.

    arrays  equally many elements each, contiguous: what is yielded are views, and may be written to
    yields  lists of arrays (n,), n <= size, one for each of `arrays`
    """
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, size):
        yield [array[start : start + size] for array in flat]


def adam_update(p, g, m, v, scratch, step, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """One step of Adam, in place:

        g = g + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g^2
        p = p - lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps)

    p, m, v  (n,)  changed in place
    g        (n,)  only read
    scratch  two arrays (n,) to compute in
    step     how many steps this is, from 1

    Kingma & Ba 2015, Algorithm 1; the divisions by 1 - beta^step undo that m and v started at 0.
    """
    s, t = scratch
    beta1, beta2 = betas
    if weight_decay:
        g = np.add(g, np.multiply(p, weight_decay, out=t), out=t)
    np.subtract(g, m, out=s)
    s *= 1 - beta1
    m += s
    np.multiply(g, g, out=s)
    s *= 1 - beta2
    v *= beta2
    v += s
    root = math.sqrt(1 - beta2**step)
    np.sqrt(v, out=s)
    s += eps * root
    np.divide(m, s, out=s)
    s *= lr * root / (1 - beta1**step)
    p -= s


class _Slot(NamedTuple):
    """One parameter, and what belongs to it."""

    parameter: Tensor
    name: str
    state: dict  # "step" and the arrays named by `memory`; empty before the first step
    options: dict  # its group


def _number(who, name, value, below=math.inf):
    """`value` as a Python float, checked: 0 <= value < below."""
    if not isinstance(value, Real) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{who} needs a number as {name}, got {value!r}")
    if not 0 <= value < below:
        raise ValueError(f"{who} needs 0 <= {name} < {below}, got {value}")
    return float(value)


def _listed(who, params):
    """The parameters in `params`, whatever form they come in, as a list."""
    if isinstance(params, Tensor):
        raise TypeError(f"{who} needs a list of parameters, got one tensor; write {who}([w])")
    if isinstance(params, (Mapping, str)):
        raise TypeError(f"{who} needs a list of parameters or of groups, got a {type(params).__name__}; write [...]")
    for method in ("named_parameters", "parameters"):
        if callable(getattr(params, method, None)):
            params = getattr(params, method)()
            break
    try:
        return list(params)
    except TypeError:
        raise TypeError(f"{who} needs a list of parameters, got {type(params).__name__}") from None


def _named(who, params, first):
    """(name or None, tensor) for each of `params`, checked; `first` is the number of the first one."""
    found = []
    for number, param in enumerate(_listed(who, params), first):
        name = None
        if isinstance(param, tuple) and len(param) == 2 and isinstance(param[0], str):
            name, param = param
        called = f"parameter {number}" if name is None else name
        if not isinstance(param, Tensor):
            raise TypeError(f"{who} needs tensors, but {called} is a {type(param).__name__}")
        if param.dtype.kind != "f":
            raise TypeError(f"{who} moves floating tensors, but {called} is {param.dtype}; try .astype('float32')")
        if param._grad_fn is not None:
            raise ValueError(f"{who}: {called} was computed from other tensors; give the tensors it was computed from")
        if not param.requires_grad:
            raise ValueError(
                f"{who}: {called} {param.shape} has requires_grad=False and would never move; "
                "leave it out: [p for p in model.parameters() if p.requires_grad]"
            )
        found.append((name, param))
    if not found:
        raise ValueError(f"{who} got no parameters; has the model any, and are its layers in attributes or lists?")
    return found


class Optimizer:
    """Parameters in groups, and the step that moves them; a subclass says how, in `memory` and `update`.

    params    tensors, as model.parameters() gives; or (name, tensor) pairs, as model.named_parameters() gives, so that
              errors can name them; or a model; or groups, dicts such as {"params": tensors, "lr": 0.1}
    defaults  the options of the rule, for all groups that do not say otherwise

    `param_groups` is the list of groups, whose options may be changed between steps.
    """

    def __init__(self, params, **defaults):
        self.defaults = self.check_options(defaults)
        self.param_groups = []
        self._slots = []
        self._scratch = {}
        params = _listed(type(self).__name__, params)
        grouped = bool(params) and isinstance(params[0], Mapping)
        for group in params if grouped else [{"params": params}]:
            self.add_param_group(group)

    # For a subclass to say

    def check_options(self, options):
        """`options` with every value checked, numbers as Python floats. A subclass with more options extends this."""
        who = type(self).__name__
        options = dict(options)
        for name in ("lr", "weight_decay"):
            if name in options:
                options[name] = _number(who, name, options[name])
        return options

    def memory(self, options):
        """The names of the arrays, shaped as the parameter and 0 at first, that the rule keeps for each parameter."""
        return ()

    def update(self, p, g, memory, scratch, step, options):
        """Move p, in place.

        p        (n,)  a piece of a parameter
        g        (n,)  its gradient; only to be read
        memory   list of arrays (n,), in the order of `self.memory(options)`, to be changed in place
        scratch  two arrays (n,) to compute in
        step     how many steps this parameter has made, with this one
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how a parameter moves")

    # Parameters

    def add_param_group(self, group):
        """Take in more parameters, a dict {"params": ..., option: value}; absent options are the defaults."""
        who = type(self).__name__
        if not isinstance(group, Mapping) or "params" not in group:
            raise TypeError(f"{who} needs each group as a dict with 'params', got {group!r}")
        unknown = sorted(group.keys() - self.defaults.keys() - {"params"})
        if unknown:
            raise ValueError(f"{who} has no option {unknown[0]!r}; its options are {', '.join(self.defaults)}")
        options = self.check_options(self.defaults | {k: v for k, v in group.items() if k != "params"})
        named = _named(who, group["params"], first=len(self._slots))
        taken = {id(slot.parameter): slot.name for slot in self._slots}
        for number, (name, parameter) in enumerate(named, len(self._slots)):
            called = f"parameter {number}" if name is None else name
            if id(parameter) in taken:
                raise ValueError(f"{who}: {called} is the same tensor as {taken[id(parameter)]}; list it once")
            taken[id(parameter)] = called
        names = [name for name, _ in named]
        options = {"params": [parameter for _, parameter in named], **options}
        if None not in names:
            options["param_names"] = names
        self.param_groups.append(options)
        for number, (name, parameter) in enumerate(named, len(self._slots)):
            self._slots.append(_Slot(parameter, f"parameter {number}" if name is None else name, {}, options))

    @property
    def parameters(self):
        """All parameters, group after group."""
        return [slot.parameter for slot in self._slots]

    @property
    def named_parameters(self):
        """(name, tensor) of all parameters; those that came without a name are "parameter 0" and so on."""
        return [(slot.name, slot.parameter) for slot in self._slots]

    @property
    def state(self):
        """What is remembered about each parameter, in the order of `parameters`; empty before its first step."""
        return [slot.state for slot in self._slots]

    @property
    def lr(self):
        """The learning rate, of the first group if they differ. Assigning sets it for all groups."""
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value):
        value = _number(type(self).__name__, "lr", value)
        for group in self.param_groups:
            group["lr"] = value

    # Steps

    def zero_grad(self):
        """Forget all gradients."""
        for slot in self._slots:
            slot.parameter.grad = None

    def check_gradients(self):
        """Raise ValueError that names every parameter whose gradient holds NaN or infinity."""
        problems = []
        for slot in self._slots:
            grad = slot.parameter.grad
            if grad is not None and not np.isfinite(grad).all():
                nan, infinite = int(np.isnan(grad).sum()), int(np.isinf(grad).sum())
                problems.append(f"{slot.name} {grad.shape}: {nan} NaN, {infinite} infinite of {grad.size}")
        if problems:
            raise ValueError(f"{type(self).__name__}: gradients that are not numbers\n  " + "\n  ".join(problems))

    def step(self, check=False):
        """Move every parameter that has a gradient. With check=True, `check_gradients` first.

        Raises ValueError if a gradient does not fit its parameter; then nothing has moved.
        """
        if check:
            self.check_gradients()
        for group in self.param_groups:
            group["lr"] = _number(type(self).__name__, "lr", group["lr"])
        moving = [slot for slot in self._slots if slot.parameter.grad is not None]
        for slot in moving:
            self._check(slot)
        for slot in moving:
            self._move(slot)

    def _check(self, slot):
        """Raise unless gradient and state fit the parameter as it is now."""
        data, grad = slot.parameter.data, slot.parameter.grad
        problem = None
        if isinstance(grad, Tensor) or not hasattr(grad, "__array_function__"):
            problem = f"needs a NumPy array as its grad, got {type(grad).__name__}"
        elif grad.shape != data.shape or grad.dtype != data.dtype:
            problem = f"has a gradient of shape {grad.shape} and dtype {grad.dtype}; they must be alike"
        elif not data.flags.writeable:
            problem = "has a read-only array and cannot move; give it a copy: w.data = w.data.copy()"
        else:
            for name in self.memory(slot.options):
                if name in slot.state and slot.state[name].shape != data.shape:
                    problem = f"had the shape {slot.state[name].shape} at its last step; make a new optimizer"
        if problem is not None:
            raise ValueError(f"{type(self).__name__}: {slot.name} {data.shape} {data.dtype} {problem}")

    def _move(self, slot):
        """One parameter's step, piece by piece."""
        parameter, _, state, options = slot
        data = parameter.data if parameter.data.flags.c_contiguous else parameter.data.copy()
        names = self.memory(options)
        scratch = self._scratch_like(data)
        state["step"] = state.get("step", 0) + 1
        for name in names:
            if name not in state:
                state[name] = np.zeros_like(data, order="C")
        for p, g, *memory in pieces(data, parameter.grad, *(state[name] for name in names)):
            self.update(p, g, memory, [s[: len(p)] for s in scratch], state["step"], options)
        if data is not parameter.data:
            parameter.data[...] = data
        parameter._version += 1  # so that autograd notices a graph that still needed the old values

    def _scratch_like(self, data):
        """Two flat arrays, kept from step to step, large enough for a piece of `data`."""
        needed = min(data.size, PIECE)
        scratch = self._scratch.get(data.dtype)
        if scratch is None or scratch[0].size < needed:
            scratch = self._scratch[data.dtype] = [np.empty_like(data, shape=needed, order="C") for _ in range(2)]
        return scratch

    # Saving and loading

    def state_dict(self):
        """All that is needed to go on exactly here, as dicts, lists, numbers, text, and copies of arrays.

        {"optimizer": "Adam", "param_groups": [{"lr": ..., "params": [0, 1]}], "state": [{"step": 3, "m": ...}, {}]}
        """
        groups, first = [], 0
        for group in self.param_groups:
            count = len(group["params"])
            groups.append(group | {"params": list(range(first, first + count))})
            first += count
        states = [
            {key: np.array(value) if isinstance(value, np.ndarray) else value for key, value in slot.state.items()}
            for slot in self._slots
        ]
        return {"optimizer": type(self).__name__, "param_groups": groups, "state": states}

    def load_state_dict(self, state):
        """Go on where the optimizer that gave `state` stood, options and learning rate included.

        Raises ValueError if `state` is not of this kind of optimizer with parameters of these shapes; then nothing has
        changed.
        """
        groups, states = self._checked_state(state)
        for group, options in zip(self.param_groups, groups):
            group.update(options)
        for slot, memory in zip(self._slots, states):
            slot.state.clear()
            slot.state.update(memory)

    def _checked_state(self, state):
        """The options of each group and the state of each parameter, as copies, from a `state_dict`."""
        who = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping) or not {"optimizer", "param_groups", "state"} <= state.keys():
            raise ValueError(f"{who} needs what state_dict() returned, got {type(state).__name__}")
        if state["optimizer"] != type(self).__name__:
            raise ValueError(f"{who} got the state of {state['optimizer']}")
        sizes = [len(group["params"]) for group in self.param_groups]
        theirs = [len(group["params"]) for group in state["param_groups"]]
        if sizes != theirs or len(state["state"]) != len(self._slots):
            raise ValueError(f"{who}: this optimizer has groups of {sizes} parameters, the state of {theirs}")
        groups, states = [], []
        for group, saved in zip(self.param_groups, state["param_groups"]):
            options = {key: value for key, value in saved.items() if key not in ("params", "param_names")}
            if options.keys() != self.defaults.keys():
                raise ValueError(f"{who} needs the options {sorted(self.defaults)}, got {sorted(options)}")
            names, other = group.get("param_names"), saved.get("param_names")
            if names and other and list(names) != list(other):
                raise ValueError(f"{who}: the parameters are {names} here and {other} in the state")
            groups.append(self.check_options(options))
        slot_groups = [options for options, size in zip(groups, sizes) for _ in range(size)]
        for slot, options, saved in zip(self._slots, slot_groups, state["state"]):
            states.append(self._checked_memory(who, slot, options, saved))
        return groups, states

    def _checked_memory(self, who, slot, options, saved):
        """What is remembered about one parameter, as copies."""
        shape, dtype = slot.parameter.shape, slot.parameter.dtype
        if not saved:
            return {}
        steps = saved.get("step")
        missing = [name for name in self.memory(options) if name not in saved]
        if not isinstance(steps, (int, np.integer)) or steps < 1 or missing:
            raise ValueError(f"{who}: the state of {slot.name} needs a step count and {list(self.memory(options))}")
        memory = {"step": int(steps)}
        for name in sorted(saved.keys() - {"step"}):
            array = np.array(saved[name])
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"{who}: {slot.name} is {shape} {dtype}, but its {name} in the state {array.shape} {array.dtype}"
                )
            memory[name] = array
        return memory

    def __repr__(self):
        numbers = sum(slot.parameter.size for slot in self._slots)
        text = f"{type(self).__name__}({len(self._slots)} parameters, {numbers:,} numbers"
        for group in self.param_groups:
            options = ", ".join(f"{name}={group[name]}" for name in self.defaults)
            text += f", {options}" if len(self.param_groups) == 1 else f",\n  {len(group['params'])} with {options}"
        return text + ")"


class SGD(Optimizer):
    """Gradient descent, with momentum if asked; see `sgd_update`."""

    def __init__(self, params, lr: float = 0.01, momentum: float = 0.0, weight_decay: float = 0.0, nesterov=False):
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)

    def check_options(self, options):
        options = super().check_options(options)
        options["momentum"] = _number("SGD", "momentum", options["momentum"], below=1)
        options["nesterov"] = bool(options["nesterov"])
        if options["nesterov"] and not options["momentum"]:
            raise ValueError("SGD needs momentum > 0 for nesterov=True, got 0; try momentum=0.9")
        return options

    def memory(self, options):
        return ("velocity",) if options["momentum"] else ()

    def update(self, p, g, memory, scratch, step, options):
        velocity = memory[0] if memory else None
        momentum, decay, nesterov = options["momentum"], options["weight_decay"], options["nesterov"]
        sgd_update(p, g, velocity, scratch, options["lr"], momentum, decay, nesterov)


class Adam(Optimizer):
    """Steps of about `lr`, whatever the size of a parameter's gradients; see `adam_update`.

    betas         how much of the average gradient, and of the average squared gradient, is kept per step
    eps           keeps the division sane where gradients vanish
    weight_decay  is added to the gradient (L2); for decay of the weights themselves see `AdamW`
    """

    def __init__(
        self, params, lr: float = 1e-3, betas: tuple = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0
    ):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def check_options(self, options):
        options = super().check_options(options)
        who = type(self).__name__
        if not isinstance(options["betas"], (tuple, list)) or len(options["betas"]) != 2:
            raise TypeError(f"{who} needs two numbers as betas, got {options['betas']!r}")
        options["betas"] = tuple(_number(who, f"betas[{i}]", b, below=1) for i, b in enumerate(options["betas"]))
        options["eps"] = _number(who, "eps", options["eps"])
        return options

    def memory(self, options):
        return ("m", "v")

    def update(self, p, g, memory, scratch, step, options):
        m, v = memory
        lr, betas, eps, decay = options["lr"], options["betas"], options["eps"], options["weight_decay"]
        adam_update(p, g, m, v, scratch, step, lr, betas, eps, decay)


class AdamW(Adam):
    """Adam that decays the weights themselves, by 1 - lr * weight_decay, before it steps (Loshchilov & Hutter 2019)."""

    def __init__(
        self, params, lr: float = 1e-3, betas: tuple = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01
    ):
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, p, g, memory, scratch, step, options):
        p *= 1 - options["lr"] * options["weight_decay"]
        super().update(p, g, memory, scratch, step, options | {"weight_decay": 0.0})
