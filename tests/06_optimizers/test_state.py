"""state_dict and load_state_dict: everything, as copies, all or nothing."""

import copy

import numpy as np
import pytest

from support.checks import assert_close
from tinytorch.core.optimizers import SGD, Adam, AdamW
from tinytorch.core.tensor import Tensor

RULES = {
    "sgd": lambda params, lr: SGD(params, lr=lr),
    "momentum": lambda params, lr: SGD(params, lr=lr, momentum=0.9),
    "adam": lambda params, lr: Adam(params, lr=lr),
    "adamw": lambda params, lr: AdamW(params, lr=lr),
}


def weights():
    return [Tensor(np.arange(6).reshape(2, 3), requires_grad=True, dtype=np.float32), Tensor([1.0], requires_grad=True)]


def walk(optimizer, steps, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        for p in optimizer.parameters:
            p.grad = rng.normal(size=p.shape).astype(np.float32)
        optimizer.step()


def bits(optimizer):
    state = optimizer.state_dict()
    return repr(state["param_groups"]), [
        {key: np.asarray(value).tobytes() for key, value in each.items()} for each in state["state"]
    ]


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_run_goes_on_bit_for_bit(rule):
    first = rule(weights(), 0.1)
    walk(first, 5)
    second = rule(weights(), 0.9)
    for p, q in zip(second.parameters, first.parameters):
        p.data = q.data.copy()
    second.load_state_dict(first.state_dict())
    assert second.lr == 0.1
    walk(first, 5, seed=1)
    walk(second, 5, seed=1)
    assert [p.data.tobytes() for p in first.parameters] == [p.data.tobytes() for p in second.parameters]
    assert bits(first) == bits(second)


class TestStateDict:
    def test_what_is_in_it(self):
        optimizer = Adam([("a", weights()[0]), ("b", weights()[1])], lr=0.5)
        state = optimizer.state_dict()
        assert state["optimizer"] == "Adam"
        assert state["state"] == [{}, {}]
        (group,) = state["param_groups"]
        assert group == {
            "params": [0, 1],
            "param_names": ["a", "b"],
            "lr": 0.5,
            "betas": (0.9, 0.999),
            "eps": 1e-8,
            "weight_decay": 0.0,
        }

    def test_parameters_are_numbered_over_all_groups(self):
        a, b = weights()
        groups = SGD([{"params": [a]}, {"params": [b], "lr": 0.5}]).state_dict()["param_groups"]
        assert [(group["params"], group["lr"]) for group in groups] == [([0], 0.01), ([1], 0.5)]

    def test_arrays_and_counts_after_a_step(self):
        optimizer = Adam(weights())
        walk(optimizer, 3)
        state = optimizer.state_dict()["state"]
        assert [each["step"] for each in state] == [3, 3]
        assert [each["v"].shape for each in state] == [(2, 3), (1,)]

    @pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
    def test_it_is_a_snapshot(self, rule):
        optimizer = rule(weights(), 0.1)
        walk(optimizer, 2)
        state = optimizer.state_dict()
        before = copy.deepcopy(state)
        walk(optimizer, 2)
        optimizer.lr = 0.7
        for each, old in zip(state["state"], before["state"]):
            for key in old:
                assert_close(each[key], old[key], rtol=0, atol=0)
        assert state["param_groups"] == before["param_groups"]

    def test_what_was_loaded_is_not_shared(self):
        optimizer = Adam(weights())
        walk(optimizer, 2)
        state = optimizer.state_dict()
        before = state["state"][0]["m"].copy()
        optimizer.load_state_dict(state)
        walk(optimizer, 2)
        assert_close(state["state"][0]["m"], before, rtol=0, atol=0)


class TestLoading:
    def test_the_groups_stay_the_same_objects(self):
        optimizer = SGD(weights(), lr=0.1)
        group = optimizer.param_groups[0]
        optimizer.load_state_dict(SGD(weights(), lr=0.3).state_dict())
        assert group["lr"] == 0.3
        assert group is optimizer.param_groups[0]
        assert group["params"][0] is optimizer.parameters[0]

    def test_what_was_remembered_before_is_forgotten(self):
        optimizer = Adam(weights())
        walk(optimizer, 3)
        optimizer.load_state_dict(Adam(weights()).state_dict())
        assert optimizer.state == [{}, {}]

    def test_lists_where_tuples_were(self):
        """As JSON gives them back."""
        state = Adam(weights(), betas=(0.5, 0.6)).state_dict()
        state["param_groups"][0]["betas"] = [0.5, 0.6]
        optimizer = Adam(weights())
        optimizer.load_state_dict(state)
        assert optimizer.param_groups[0]["betas"] == (0.5, 0.6)


def broken(change):
    """The state of an Adam after two steps, with `change` made to it."""
    optimizer = Adam([("a", weights()[0]), ("b", weights()[1])])
    walk(optimizer, 2)
    state = optimizer.state_dict()
    change(state)
    return state


BROKEN = {
    "another rule": (lambda s: s.update(optimizer="SGD"), "got the state of SGD"),
    "no groups": (lambda s: s.pop("param_groups"), "needs what state_dict"),
    "a parameter less": (
        lambda s: s["param_groups"][0]["params"].pop(),
        r"groups of \[2\] parameters, the state of \[1\]",
    ),
    "a state less": (lambda s: s["state"].pop(), "this optimizer has groups"),
    "one group more": (lambda s: s["param_groups"].append(s["param_groups"][0]), "this optimizer has groups"),
    "an option less": (lambda s: s["param_groups"][0].pop("eps"), "needs the options"),
    "an option more": (lambda s: s["param_groups"][0].update(gamma=1.0), "needs the options"),
    "nonsense as lr": (lambda s: s["param_groups"][0].update(lr=-1.0), "0 <= lr"),
    "other names": (lambda s: s["param_groups"][0].update(param_names=["b", "a"]), r"are \['a', 'b'\] here and"),
    "no count": (lambda s: s["state"][1].pop("step"), "state of b needs a step count"),
    "count 0": (lambda s: s["state"][1].update(step=0), "state of b needs a step count"),
    "no v": (lambda s: s["state"][1].pop("v"), "state of b needs a step count"),
    "another shape": (lambda s: s["state"][1].update(v=np.ones(2, np.float32)), r"b is \(1,\) float32, but its v"),
    "another dtype": (lambda s: s["state"][1].update(m=np.ones(1)), r"b is \(1,\) float32, but its m .* float64"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    optimizer = Adam([("a", weights()[0]), ("b", weights()[1])], lr=0.7)
    walk(optimizer, 1)
    before = bits(optimizer)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(broken(change))
    assert bits(optimizer) == before


@pytest.mark.parametrize("thing", [None, 3, [], {}, {"state": []}])
def test_what_is_no_state_at_all(thing):
    with pytest.raises(ValueError, match="SGD.load_state_dict needs what state_dict"):
        SGD(weights()).load_state_dict(thing)
