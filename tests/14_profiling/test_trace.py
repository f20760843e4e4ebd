"""The timeline: what the viewers need, and that it says what was measured."""

import json

import pytest

from tinytorch.core.autograd import checkpoint
from tinytorch.core.tensor import Tensor, randn
from tinytorch.profiling.profiler import Profiler


def exported(p, folder):
    p.export(folder / "trace.json")
    return json.loads((folder / "trace.json").read_text(encoding="utf-8"))


@pytest.fixture
def profile(clock, slow):
    with Profiler() as p, p.region("step"):
        clock.wait(1500)
        out = checkpoint(lambda x: slow(slow(x, 1000, 4000), 2000, 8000), Tensor([1.0], requires_grad=True))
        out.backward([1.0])
    return p


def test_what_the_viewers_need(profile, tmp_path):
    trace = exported(profile, tmp_path)
    assert set(trace) == {"traceEvents", "displayTimeUnit"}
    for event in trace["traceEvents"]:
        assert {"name", "cat", "ph", "ts", "dur", "pid", "tid", "args"} == set(event)
        assert (event["ph"], event["pid"], event["tid"]) == ("X", 1, 1)
        assert event["ts"] >= 0
        assert event["dur"] >= 0


def test_times_are_microseconds(profile, tmp_path):
    found = [(e["name"], e["cat"], e["ts"], e["dur"]) for e in exported(profile, tmp_path)["traceEvents"]]
    assert found == [
        ("step", "region", 0, 19.5),
        ("slow", "forward", 1.5, 1),
        ("slow", "forward", 2.5, 2),
        ("CheckpointBackward", "backward", 4.5, 15),
        ("slow", "forward", 4.5, 1),
        ("checkpoint", "forward", 4.5, 0),
        ("slow", "forward", 5.5, 2),
        ("SlowBackward", "backward", 7.5, 8),
        ("SlowBackward", "backward", 15.5, 4),
    ]


def test_events_lie_inside_one_another_or_apart(profile, tmp_path):
    around = []
    for event in exported(profile, tmp_path)["traceEvents"]:
        start, end = event["ts"], event["ts"] + event["dur"]
        while around and around[-1] <= start:
            around.pop()
        assert not around or end <= around[-1]
        around.append(end)


def test_what_is_known_of_an_operation(tmp_path):
    with Profiler() as p:
        randn(2, 3) @ randn(3, 4)
    (event,) = exported(p, tmp_path)["traceEvents"]
    assert event["args"] == {"shapes": "((2, 3), (3, 4))", "bytes": 32, "flops": 48}


def test_real_time_nests_too(tmp_path):
    x = randn(4, 4, requires_grad=True)
    with Profiler() as p:
        for _ in range(3):
            with p.region("step"):
                checkpoint(lambda x: (x * 2).exp(), x).sum().backward()
    events = exported(p, tmp_path)["traceEvents"]
    assert len(events) == 3 * (1 + 2 + 1 + 1 + 1 + 2 + 2 + 1)
    test_events_lie_inside_one_another_or_apart(p, tmp_path)


def test_unknown_arithmetic_is_null_and_not_0(profile, tmp_path):
    slow = [e for e in exported(profile, tmp_path)["traceEvents"] if e["name"] == "slow"]
    assert [e["args"]["flops"] for e in slow] == [None] * 4


def test_nothing_recorded_is_an_empty_timeline(tmp_path):
    assert exported(Profiler(), tmp_path)["traceEvents"] == []
