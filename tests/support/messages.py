"""Does `tito test` point at the blank that is wrong? For every mistake of a lesson, all checks of the lesson run on the
package with that mistake, and the blank that the first failure names is compared with the one the mistake was made in.

`python -m support.messages 05_autograd`, run in tests/, prints one line per mistake and the rates of the lesson;
`--sample 12` takes twelve of the mistakes, drawn with `--seed 0`; `--no-proof` shows how well what ran tells the blank
without trying solutions; `--show` prints what the learner would read. This takes a suite per mistake, forked from one
process.
"""

import argparse
import gc
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy.random  # noqa: F401  so that no fork has to
import pytest  # noqa: F401

from support.mistakes import mistakes
from support.stages import COURSE, ROOT, write_stage
from tito import checks, testing
from tito.lesson import read_lesson


class Messages:
    """Runs the checks of one lesson on its package with a mistake, as `tito test` would."""

    def __init__(self, slug, folder, limit=60, proof=True):
        self.start = testing.once_more(ROOT) if proof else None
        self.limit = limit  # seconds for the checks of one mistake; what was reported by then counts
        self.module, self.folder = COURSE.module(slug), Path(folder)
        self.lessons = {m.slug: read_lesson(COURSE.source(m), m.slug) for m in COURSE.upto(slug)}
        self.package = write_stage(self.folder / "right", self.module.number) / "tinytorch"
        self.files = {
            path.relative_to(self.package).as_posix(): path.read_text(encoding="utf-8")
            for path in self.package.rglob("*.py")
        }
        self.tests = [str(path) for path in testing.checks_in(ROOT / "tests" / slug)]
        self.count = 0
        (self.folder / "settings.ini").write_text(testing.SETTINGS, encoding="utf-8")
        gc.freeze()  # no fork need look at what was there before it

    def events(self, mistake):
        """The files of the package with the mistake, its folder, and what the checks report of it."""
        self.count += 1
        folder = self.folder / str(self.count)
        files = dict(self.files)
        if files[mistake["file"]].count(mistake["old"]) != 1:
            raise ValueError(f"{mistake['name']}: its text does not occur exactly once")
        files[mistake["file"]] = files[mistake["file"]].replace(mistake["old"], mistake["new"])
        shutil.copytree(self.package, folder / "stage" / "tinytorch")
        (folder / "stage" / "tinytorch" / mistake["file"]).write_text(files[mistake["file"]], encoding="utf-8")
        plan = {
            "stage": str(folder / "stage"),
            "tests": self.tests,
            "root": str(ROOT),
            "settings": str(self.folder / "settings.ini"),
            "scratch": str(folder / "scratch"),
            "select": None,
        }
        child = os.fork()
        if not child:
            try:
                self._run(plan, folder)
            finally:
                os._exit(0)
        deadline = time.monotonic() + self.limit
        while not os.waitpid(child, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            time.sleep(0.02)
        events = []
        if (folder / "events").exists():
            with open(folder / "events", encoding="utf-8") as file:
                events = [json.loads(line) for line in file if line.endswith("\n")]
        return folder / "stage", files, events

    def _run(self, plan, folder):
        """In a fork."""
        os.chdir(ROOT)
        os.environ.update(TINYTORCH_STAGE=plan["stage"], MPLBACKEND="Agg", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
        said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        with open(folder / "events", "w", encoding="utf-8", buffering=1) as channel:
            checks.run(plan, lambda **event: channel.write(json.dumps(event) + "\n"))

    def first_failure(self, stage, files, events):
        """What `tito test` explains, or None if nothing failed."""
        shown = testing.Lines(self.module, quiet=True)
        for event in events:
            if event["event"] not in ("problem", "end"):
                shown.take(event)
        return testing.explain(self.module, self.lessons, stage, files, shown, self.start)


def measure(slug, sample=None, seed=0, proof=True):
    """For each mistake (or `sample` of them): the mistake, what `tito test` explains, and the seconds it took."""
    entries = mistakes(slug)
    if sample is not None and sample < len(entries):
        entries = random.Random(seed).sample(entries, sample)
    with tempfile.TemporaryDirectory() as folder:
        runner = Messages(slug, folder, proof=proof)
        for mistake in entries:
            began = time.perf_counter()
            yield mistake, runner.first_failure(*runner.events(mistake)), time.perf_counter() - began


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m support.messages", description="How often the blank is named.")
    parser.add_argument("lessons", nargs="*", default=None, help="05_autograd ...; without any, all lessons")
    parser.add_argument("--sample", type=int, help="so many mistakes of each lesson")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-proof", action="store_true", help="only from what ran, without trying solutions")
    parser.add_argument("--show", action="store_true", help="what the learner reads")
    chosen = parser.parse_args(arguments)
    for slug in chosen.lessons or [module.slug for module in COURSE.modules]:
        first = either = caused = total = 0
        began = time.perf_counter()
        for mistake, failure, seconds in measure(slug, chosen.sample, chosen.seed, not chosen.no_proof):
            blanks = [blank["blank"] for blank in failure["blanks"]] if failure else []
            total += 1
            first += blanks[:1] == [mistake["blank"]]
            either += mistake["blank"] in blanks
            caused += bool(failure and failure["cause"])
            word = "right" if blanks[:1] == [mistake["blank"]] else "or" if mistake["blank"] in blanks else "WRONG"
            named = " or ".join(blanks) or "nothing"
            print(f"  {word:5} {mistake['name']}: {named} (is {mistake['blank']}, {seconds:.1f} s)", flush=True)
            if chosen.show and failure:
                print("\n".join(f"        {line}" for line in testing.lines_of(failure)), flush=True)
        print(
            f"{slug}: {first} of {total} named first, {either} of {total} among the named, "
            f"{caused} with a cause, {time.perf_counter() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
