"""Run the tests of a lesson on its package with one mistake made in it, for every mistake in its list.

`python -m support.mistakes 04_losses` prints one line per mistake: its name and the exit code of pytest. The first line
is the package without any, all tests of the lesson; mistakes are caught without those that `tito test` leaves out. What
takes long to import is imported once; each run is a fork of this process (support/forks.py).

A mistake may name the test that catches it, `caught_by = "test_file.py::test_name[case]"`; then only that one runs.
`--find` runs the tests of the lesson and prints the first that fails.
"""

import contextlib
import functools
import gc
import importlib.util
import os
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from support.forks import LIGHT, in_fork, preload
from support.stages import COURSE, ROOT, write_stage
from tito.testing import SECOND

LEFT_OUT = [f"--ignore-glob=*/test_{name}.py" for name in SECOND]  # as in `tito test`

# plugins of pytest that no test of a lesson needs; to start them takes a third of the time of a mistake
UNUSED = ["cacheprovider", "debugging", "doctest", "faulthandler", "junitxml", "legacypath", "logging", "pastebin"]
UNUSED += ["setuponly", "setupplan", "stepwise", "subtests", "unittest"]


def mistakes(slug):
    """The entries of tests/mistakes for a lesson."""
    with open(ROOT / "tests" / "mistakes" / f"{slug}.toml", "rb") as file:
        return tomllib.load(file)["mistake"]


class First:
    """A pytest plugin that writes the name of the first failing test into a file."""

    def __init__(self, file):
        self.file = file

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.file.exists():
            self.file.write_text(report.nodeid.split("/", 2)[2], encoding="utf-8")


def run(tests, folder, output):
    """In a fork: pytest's exit code for the tests on the package in `folder`."""
    sys.path.insert(0, str(folder))
    os.environ["TINYTORCH_STAGE"] = str(folder)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.chdir(ROOT)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    options = ["-q", "-x", "--tb=native", "--basetemp", str(folder / "scratch")]
    options += [f"-pno:{name}" for name in UNUSED] + ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*options, *tests], plugins=[First(folder / "first")]))


@contextlib.contextmanager
def made(mistake, package):
    """The package with the mistake in it; afterwards as it was, compiled files included."""
    file = package / mistake["file"]
    compiled = Path(importlib.util.cache_from_source(file))
    source, cache, times = file.read_bytes(), compiled.read_bytes(), file.stat()
    text = source.decode("utf-8")
    if text.count(mistake["old"]) != 1:
        raise ValueError("its text does not occur exactly once")
    compiled.unlink()  # else, as long as before and of the same second, the file would be taken for what was compiled
    file.write_text(text.replace(mistake["old"], mistake["new"]), encoding="utf-8")
    try:
        yield
    finally:
        file.write_bytes(source)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        compiled.write_bytes(cache)


def report(name, tests, expected, folder, find=False):
    """Print how the tests end on the package in `folder`; what they said where that was not expected."""
    code = in_fork(functools.partial(run, tests, folder, folder / "output"))
    first = folder / "first"
    print(f"{name}: {first.read_text(encoding='utf-8') if find and first.exists() else code}", flush=True)
    first.unlink(missing_ok=True)
    if code != expected:
        print((folder / "output").read_text(encoding="utf-8")[-2000:], file=sys.stderr, flush=True)


def try_none(slug):
    """Print the line of the lesson as it is."""
    with tempfile.TemporaryDirectory() as folder:
        report("no mistake", [f"tests/{slug}"], 0, write_stage(Path(folder), COURSE.module(slug).number))


def try_all(slug, find=False):
    """Print the line of each mistake in the list of a lesson."""
    with tempfile.TemporaryDirectory() as folder:
        folder = write_stage(Path(folder), COURSE.module(slug).number)
        gc.freeze()  # no fork need look at what was there before it
        for mistake in mistakes(slug):
            one = None if find else mistake.get("caught_by")
            tests = [f"tests/{slug}/{one}" if one else f"tests/{slug}", *LEFT_OUT]
            try:
                with made(mistake, folder / "tinytorch"):
                    report(mistake["name"], tests, 1, folder, find)
            except ValueError as error:
                print(f"{mistake['name']}: {error}", flush=True)


if __name__ == "__main__":
    preload(*LIGHT)
    try_none(sys.argv[1])
    try_all(sys.argv[1], "--find" in sys.argv)
