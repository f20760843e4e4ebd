"""Fair timing: contestants take turns, and each turn counts its fastest and its middle call."""

import statistics
import time


def calls_for(step, seconds):
    """How many calls of `step` take about `seconds`."""
    step()
    start = time.perf_counter()
    step()
    return max(1, min(1000, int(seconds / max(time.perf_counter() - start, 1e-9))))


def interleaved(steps, rounds=5, seconds=0.3):
    """Time the functions in the dictionary `steps` in turn, A B A B ...

    Returns for each name the fastest call and the median over rounds of the median call, in seconds.
    """
    calls = {name: calls_for(step, seconds) for name, step in steps.items()}
    fastest = dict.fromkeys(steps, float("inf"))
    middle = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times = []
            for _ in range(calls[name]):
                start = time.perf_counter()
                step()
                times.append(time.perf_counter() - start)
            fastest[name] = min(fastest[name], *times)
            middle[name].append(statistics.median(times))
    return {name: {"minimum": fastest[name], "median": statistics.median(middle[name])} for name in steps}
