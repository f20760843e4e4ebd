"""Run the tests of a lesson on its package with one mistake made in it, for every mistake in its list.

`python -m support.mistakes 04_losses` prints one line per mistake: its name and the exit code of pytest. The first line
is the package without any, all tests of the lesson; mistakes are caught without those that need PyTorch. What takes
long to import is imported once; each run is a fork of this process (support/forks.py).

A mistake may name the test that catches it, `caught_by = "test_file.py::test_name[case]"`; then only that one runs.
`--find` runs the tests of the lesson and prints the first that fails.
"""

import compileall
import functools
import gc
import importlib.util
import os
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest

from support.forks import in_fork, preload
from support.stages import COURSE, ROOT, write_stage


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
    options = [
        "-q",
        "-x",
        "--tb=native",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:logging",
        "--basetemp",
        str(folder / "scratch"),
    ]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*options, *tests], plugins=[First(folder / "first")]))


def try_all(slug, find=False):
    """Print the line of each mistake in the list of a lesson."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        package = write_stage(folder / "right", COURSE.module(slug).number) / "tinytorch"
        compileall.compile_dir(package, quiet=1)  # copies keep it, but for the file that is changed
        nothing = {"name": "no mistake", "file": "__init__.py", "old": "", "new": ""}
        entries = mistakes(slug)
        gc.freeze()  # no fork need look at what was there before it
        for number, mistake in enumerate([nothing, *entries]):
            wrong = folder / str(number)
            shutil.copytree(package, wrong / "tinytorch")
            file = wrong / "tinytorch" / mistake["file"]
            text = file.read_text(encoding="utf-8")
            if mistake["old"] and text.count(mistake["old"]) != 1:
                print(f"{mistake['name']}: its text does not occur exactly once", flush=True)
                continue
            text = text.replace(mistake["old"], mistake["new"]) if mistake["old"] else text
            file.write_text(text, encoding="utf-8")
            # as long as before and of the same second, it would be taken for what was compiled
            Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)
            one = None if find else mistake.get("caught_by")
            tests = [f"tests/{slug}/{one}" if one else f"tests/{slug}"]
            if mistake is not nothing:
                tests.append("--ignore-glob=*agreement*")
            code = in_fork(functools.partial(run, tests, wrong, folder / "output"))
            first = wrong / "first"
            print(f"{mistake['name']}: {first.read_text() if find and first.exists() else code}", flush=True)
            if code != (0 if mistake is nothing else 1):
                print((folder / "output").read_text(encoding="utf-8")[-2000:], file=sys.stderr, flush=True)
            shutil.rmtree(wrong)


if __name__ == "__main__":
    preload("hypothesis", "numpy.random")
    try_all(sys.argv[1], "--find" in sys.argv)
