"""Fair measures: contestants take turns; memory is counted in a fresh process; growth is a slope between logarithms."""

import ctypes
import gc
import math
import statistics
import time
from pathlib import Path


def clock_for(threads):
    """Which clock to time work on that many threads with.

    One thread: the time that the processor spent on this process, so that other programs do not count. Several: the
    time that passed, for which the machine must be otherwise idle.
    """
    return time.process_time if threads == 1 else time.perf_counter


def clock_of_children():
    """A clock of the processor's time for all processes that this one has started and waited for; where the system does
    not tell (Windows), one of the time that passes."""
    try:
        import resource
    except ImportError:
        return time.perf_counter

    def clock():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    return clock


def calls_for(step, seconds, clock):
    """How many calls of `step` take about `seconds`."""
    step()
    start = clock()
    step()
    return max(1, min(1000, int(seconds / max(clock() - start, 1e-9))))


def interleaved(steps, rounds=5, seconds=0.3, clock=time.perf_counter):
    """Time the functions in the dictionary `steps` in turn, A B A B ...

    Python's search for garbage goes on, but leaves out all objects that were there before: how many those are depends
    on who else has been imported, and whoever makes many small objects would pay for them.

    Returns for each name {"minimum": fastest call, "rounds": median call of each round}, in seconds.
    """
    gc.collect()
    gc.freeze()
    try:
        return _in_turns(steps, rounds, seconds, clock)
    finally:
        gc.unfreeze()


def _in_turns(steps, rounds, seconds, clock):
    calls = {name: calls_for(step, seconds, clock) for name, step in steps.items()}
    found = {name: {"minimum": math.inf, "rounds": []} for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            times = []
            for _ in range(calls[name]):
                start = clock()
                step()
                times.append(clock() - start)
            found[name]["minimum"] = min(found[name]["minimum"], *times)
            found[name]["rounds"].append(statistics.median(times))
    return found


def ratios(times, library, beside):
    """How many times as long `library` takes as `beside`, from what `interleaved` found.

    "minimum" is the ratio of the fastest calls; "median" that of the ratios of the rounds, in each of which both ran
    one after the other and shared whatever else the machine was doing.
    """
    ours, theirs = times[library], times[beside]
    each = [mine / other for mine, other in zip(ours["rounds"], theirs["rounds"], strict=True)]
    return {"minimum": ours["minimum"] / theirs["minimum"], "median": statistics.median(each)}


def slope(sizes, values):
    """The exponent p of the power law values = c * sizes^p that fits best: least squares between the logarithms."""
    if len(sizes) < 2:
        raise ValueError(f"an exponent needs two sizes or more, got {len(sizes)}")
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    return statistics.linear_regression(x, y).slope


def upper_half(sizes, values):
    """Those of the larger sizes, by logarithm, with the size in the middle: there what grows fastest has the upper
    hand, and what every call costs no longer counts."""
    middle = math.sqrt(sizes[0] * sizes[-1])
    kept = [(size, value) for size, value in zip(sizes, values) if size >= middle * (1 - 1e-9)]
    return [list(column) for column in zip(*kept)]


def _status(field):
    """A line of /proc/self/status, which is in kB, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise OSError(f"this system does not tell {field}")


def _settle():
    """Give back to the system what Python and the C library keep of freed memory, where the C library knows how."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def peak_memory(step, times=3):
    """Bytes that the process grows by, at most, while `step` runs `times` times: resident memory, everything included.

    Linux counts the peak in VmHWM, which writing 5 to clear_refs sets back to what is in use now. Elsewhere None.
    """
    try:
        _settle()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before = _status("VmRSS")
        for _ in range(times):
            step()
        return max(0, _status("VmHWM") - before)
    except OSError:
        return None
