"""`tito test`: build the package of the lessons 01..NN in a scratch folder, and run the checks of NN on it.

Nothing here imports the library. The checks run in a process of their own (tito/checks.py), which finds
`tinytorch` in the scratch folder and nowhere else.
"""

import ast
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tito import state
from tito.blame import CERTAIN, defined, named, suspects
from tito.console import note, plain, say, style
from tito.export import ExportError, build, export
from tito.lesson import read_lesson
from tito.trial import culprit

PASSED, FAILED, USAGE, ENVIRONMENT, UNPARSED, NOTHING, LATE = 0, 1, 2, 3, 4, 5, 124
SEVERITY = [PASSED, NOTHING, FAILED, UNPARSED, LATE, ENVIRONMENT]  # of several modules, the gravest is the result
WORDS = {"passed": ("PASS", "green"), "failed": ("FAIL", "red"), "skipped": ("SKIP", "yellow")}

# Files of checks that say once more what the others say, with drawn examples and beside PyTorch: they take long, and
# need hypothesis and torch. `-k properties` and `-k agreement` run them, and so does pytest.
SECOND = ("agreement", "properties")

SCRATCH = "tito-checks-"  # how the folders begin in which checks run

SETTINGS = """\
[pytest]
addopts = --import-mode=importlib --continue-on-collection-errors --tb=native --no-summary
xfail_strict = true
verbosity_test_cases = -1
filterwarnings = error
"""


def check_module(course, module, select=None, limit=600, as_json=False, remember=True):
    """Check one module and print the result. Returns (exit code, the result as a dictionary)."""
    if course.workspace:
        from tito.workspace import sound

        sound(course, module)
    lessons = {m.slug: read_lesson(course.source(m), m.slug) for m in course.upto(module.slug)}
    lesson = lessons[module.slug]
    for each in lessons.values():
        for cell in each.cells:
            each.parse(cell)  # a cell that does not parse ends it here, with its place
    if not as_json:
        note(f"{module.slug} {module.title}, from {_relative(lesson.path)}")
    shown = Lines(module, quiet=as_json)
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as folder:
        stage = Path(folder) / "stage"
        files = build(course, module.slug)
        export(course, to=stage, built=files)
        problem, code = _run(course, module, stage, Path(folder), select, limit, shown)
        first = explain(module, lessons, stage, files, shown, once_more(course.root))
    counts = {outcome: sum(e["outcome"] == outcome for e in shown.checks()) for outcome in WORDS}
    result = {
        "schema": "tito.test/1",
        "module": module.slug,
        "lesson": str(lesson.path),
        "exit_code": code,
        **counts,
        "problem": problem,
        "first_failure": first,
        "checks": shown.checks(),
    }
    if select is None and remember:
        state.remember(course, module, result)
    if not as_json:
        _conclude(result)
    return code, result


def _sweep(folder):
    """Remove what checks left that were killed a day ago or before."""
    for scratch in folder.glob(f"{SCRATCH}*/plan.json"):
        with contextlib.suppress(OSError):
            if scratch.stat().st_mtime < time.time() - 24 * 3600:
                shutil.rmtree(scratch.parent)


def _run(course, module, stage, folder, select, limit, shown):
    """Run the checks in a process of their own, which reports line by line. Returns (problem, exit code)."""
    tests = course.root / "tests" / module.slug
    chosen = checks_in(tests, select)
    if not chosen:
        return f"there are no checks in {tests}", NOTHING
    late = threading.Event()
    with open(folder / "said", "w+b") as said:
        process = _launch(course.root, stage, chosen, select, folder, said)

        def kill():
            late.set()
            _kill(process)

        timer = threading.Timer(limit, kill)
        timer.start()
        problem = end = None
        with process:
            try:
                for line in _lines(process.stdout):
                    event = json.loads(line)
                    if event["event"] == "problem":
                        problem = event["message"]
                    elif event["event"] == "end":
                        end = event
                    else:
                        shown.take(event)
            finally:
                timer.cancel()
                if process.poll() is None:
                    _kill(process)
        if late.is_set():
            running = f", in {shown.running}" if shown.running else ""
            return f"the checks did not end within {limit:g} s{running}", LATE
        if problem:
            return problem, ENVIRONMENT
        if end and end["package"] and not Path(end["package"]).resolve().is_relative_to(stage.resolve()):
            return f"the checks ran on {end['package']}, not on the package of your lessons", ENVIRONMENT
        if end is None:
            said.seek(0)
            tail = said.read().decode("utf-8", "replace").strip().splitlines()[-12:]
            during = f" during {shown.running}" if shown.running else ""
            return f"the checks ended{during} with exit code {process.returncode}:\n" + "\n".join(tail), FAILED
    if not shown.events:
        what = f"no check matches {select!r}" if select else f"no checks were found in {tests}"
        return what, NOTHING
    outcomes = {event["outcome"] for event in shown.events}
    if outcomes == {"skipped"}:
        return "every check was skipped", NOTHING
    return None, FAILED if "failed" in outcomes else PASSED


def _launch(root, stage, tests, select, folder, said):
    """The process that runs the files `tests` on the package in `stage`; its standard output carries the reports."""
    (folder / "settings.ini").write_text(SETTINGS, encoding="utf-8")
    plan = {
        "stage": str(stage),
        "tests": [str(path) for path in tests],
        "root": str(root),
        "settings": str(folder / "settings.ini"),
        "scratch": str(folder / "scratch"),
        "select": select,
    }
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    environment = {
        **os.environ,
        "TINYTORCH_STAGE": str(stage),
        "PYTHONPATH": str(root / "tests"),
        "MPLBACKEND": "Agg",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # whatever else is installed has no say, and takes no time
        "PYTHONUNBUFFERED": "1",
    }
    return subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).with_name("checks.py")), str(folder / "plan.json")],
        cwd=stage,  # whatever a check starts finds this package first
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        bufsize=0,
        stderr=said,
        start_new_session=True,
    )


def once_more(root):
    """For tito/trial.py: start(folder, file, name) runs one check on the package in `folder`."""

    @contextlib.contextmanager
    def start(folder, file, name):
        process = _launch(root, folder, [file], name, folder, subprocess.DEVNULL)
        try:
            yield process
        finally:
            _kill(process)
            process.communicate()

    return start


def checks_in(folder, select=None):
    """The files of a lesson's checks: without the second ones, unless `select` names them."""
    left_out = {f"test_{name}.py" for name in SECOND if name not in (select or "")}
    return sorted(path for path in folder.glob("test_*.py") if path.name not in left_out)


def _lines(pipe):
    """The lines that come through a pipe, as they come; a few at a time, because to wake for each one costs more."""
    left = b""
    while read := os.read(pipe.fileno(), 1 << 20):
        *whole, left = (left + read).split(b"\n")
        yield from whole
        time.sleep(0.02)
    if left:
        yield left


def _kill(process):
    """End the process and whatever it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


class Lines:
    """The reports as they come: one line per check, once all its cases are in."""

    def __init__(self, module, quiet):
        self.module, self.quiet = module, quiet
        self.events, self.expected, self.cases, self.blocks = [], {}, {}, []
        self.running = None

    def take(self, event):
        if event["event"] == "collected":
            for check in event["checks"]:
                self.expected[check["check"]] = self.expected.get(check["check"], 0) + 1
        elif event["event"] == "blocks":
            self.blocks.append(event)
        elif event["event"] == "start":
            self.running = event["id"]
        elif event["event"] == "result":
            self.running = None
            self.events.append(event)
            name = event["check"]["check"]
            cases = self.cases.setdefault(name, [])
            cases.append(event)
            if len(cases) >= self.expected.get(name, 1) and not self.quiet:
                self.show(self.summary(cases))

    @staticmethod
    def summary(cases):
        """One check from its cases: failed if one failed, skipped if all were."""
        outcomes = [event["outcome"] for event in cases]
        outcome = "failed" if "failed" in outcomes else "passed" if "passed" in outcomes else "skipped"
        check = cases[0]["check"]
        return {
            "id": check["check"],
            "group": check["group"],
            "name": check["name"],
            "outcome": outcome,
            "cases": len(cases),
            "failed_cases": [e["check"]["case"] for e in cases if e["outcome"] == "failed" and e["check"]["case"]],
            "reason": cases[0].get("reason"),
            "seconds": round(sum(event["seconds"] for event in cases), 4),
        }

    def show(self, check):
        word, colour = WORDS[check["outcome"]]
        text = f"{check['group']}: {check['name']}" if check["name"] else check["group"]
        if check["failed_cases"]:
            text += f" ({len(check['failed_cases'])} of {check['cases']} cases)"
        if check["outcome"] == "skipped" and check["reason"]:
            text += f" ({check['reason']})"
        say(f"{style(word, colour)}  {plain(text)}")

    def checks(self):
        return [self.summary(cases) for cases in self.cases.values()]


def explain(module, lessons, stage, files, shown, start=None):
    """The first failure in a learner's terms: what came, where in the lesson, which blank, how to run it again.

    None if nothing failed. `start` runs that check once more, to prove which blank it is (tito/trial.py); without
    proof, several are named where what ran does not tell them apart.
    """
    event = next((event for event in shown.events if event["outcome"] == "failed"), None)
    if event is None:
        return None
    failure = event["failure"]
    owner = {cell.target: lesson for lesson in lessons.values() for cell in lesson.cells if cell.target}
    ranked = suspects(lessons, files, stage, shown.events, event, shown.blocks, module.slug)
    suspected, proven = named(ranked), None
    # Where something was divided by 0, the 0 may come from elsewhere.
    sure = ranked and ranked[0][0] >= CERTAIN and failure["type"] != "ZeroDivisionError"
    if start and ranked and not sure:
        proven = culprit([blank for _, blank in ranked], files, stage, event, start)
        suspected = [proven] if proven else suspected
    place = None
    for frame in reversed(failure["frames"]):  # innermost first
        path = Path(frame["file"])
        if not path.is_relative_to(stage):
            continue
        file = path.relative_to(stage / "tinytorch").as_posix()
        target = file.removesuffix(".py").replace("/", ".")
        if target in owner:
            found = locate(owner[target], target, files[file], frame["line"])
            ours = found and any(found[0] is blank.cell for blank in suspected[:1])
            if found and (place is None or ours):
                place = _place(owner[target], *found, frame["function"])
            if ours:  # rather than where an argument was refused further in
                break
    blanks = [_blank(blank, module) for blank in suspected]
    return {
        "check": event["check"]["id"],
        "type": failure["type"],
        "message": failure["message"].strip() or "(no message)",
        "difference": failure.get("difference"),
        "cause": failure.get("cause"),
        "where": place,
        "blank": blanks[0]["blank"] if blanks else None,
        "blanks": blanks,
        "proven": proven is not None,
        "test": failure.get("test"),
        "output": event.get("output", ""),
        "again": f"tito test {module.id} -k {event['check']['id']}",
    }


def _blank(blank, module):
    """A suspect as the learner finds it: its name, its lesson and place, and how to ask for a hint."""
    lesson, cell = blank.lesson, blank.cell
    return {
        "blank": cell.grade_id,
        "lesson": lesson.slug,
        "where": _relative(lesson.path) + (f", line {cell.line}" if cell.line else f", code cell {cell.number}"),
        "earlier": lesson.slug != module.slug,
    }


def locate(lesson, target, text, line):
    """The lesson's cell, and the line in it, that became line `line` of the package file `text`; None if neither.

    ruff may have moved the line, but it does not change the syntax tree: the trees are walked side by side.
    """
    cells = {}
    for cell in lesson.cells:
        if cell.target == target:
            for node in lesson.parse(cell).body:
                for name in defined(node):
                    cells[name] = cell, node
    for node in ast.parse(text).body:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        if first <= line <= node.end_lineno:
            for name in defined(node):
                if name in cells:
                    cell, mine = cells[name]
                    lines = {}
                    for here, there in zip(ast.walk(node), ast.walk(mine)):
                        if hasattr(here, "lineno") and hasattr(there, "lineno"):
                            lines.setdefault(here.lineno, there.lineno)
                    nearest = max((n for n in lines if n <= line), default=None)
                    return cell, lines.get(nearest, mine.lineno)
    return None


def _place(lesson, cell, line, function):
    """Where in the lesson: `modules/04_losses/04_losses.py, line 212 (code cell 9, line 5), in cross_entropy`."""
    inside = f"code cell {cell.number}, line {line}"
    at = f"line {cell.line + line - 1} ({inside})" if cell.line else inside
    return f"{_relative(lesson.path)}, {at}, in {function}"


def _relative(path):
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def lines_of(first):
    """What the learner reads of the first failure."""
    lines = plain(first["message"]).splitlines()
    lines = [line for line in lines if not re.match(r"\s*(Use -v|\.\.\.Full output|Use '-vv')", line)] or lines
    if first["difference"] and lines[0].startswith("assert "):  # pytest shows both values in full
        lines = [lines[0], *(line for line in lines[1:] if line.startswith(" +"))]
    kind = "" if first["type"] == "AssertionError" else f"{first['type']}: "
    yield _cut(f"{kind}{lines[0]}")
    yield from (_cut(line) for line in lines[1:12] if not re.match(r" \+ {6,}where", line))  # two steps back are enough
    if first["difference"] and "expected" not in lines[0]:
        yield plain(first["difference"])
    if first["cause"]:
        yield f"likely: {plain(first['cause'])}"
    if first["where"]:
        yield f"in {first['where']}"
    test = first["test"]
    if test and test["line"]:
        yield f"checked by {_relative(Path(test['file']))}, line {test['line']}"
    for i, blank in enumerate(first["blanks"]):
        said = f"{'or blank' if i else 'blank'} {blank['blank']}"
        if blank["earlier"]:
            said += f" of an earlier lesson, {blank['where']}"
        if first["proven"]:
            said += ", with whose solution this check passes"
        yield f"{said}; for a hint: tito hint {blank['lesson'][:2]} {blank['blank']}"
    yield f"again: {first['again']}"


def _cut(line, width=200):
    return line if len(line) <= width else line[: width - 3] + "..."


def _conclude(result):
    """The first failure, the counts, and what to do next."""
    first = result["first_failure"]
    if first:
        say()
        say(style("first failure", "bold") + f"  {plain(first['check'])}")
        for line in lines_of(first):
            say(f"  {line}")
    if result["problem"]:
        note(f"tito: {result['problem']}")
    counts = ", ".join(f"{result[outcome]} {outcome}" for outcome in WORDS if result[outcome] or outcome == "passed")
    seconds = sum(check["seconds"] for check in result["checks"])
    note(f"{result['module']}: {counts} in {seconds:.1f} s")


def check_all(course, limit=600, as_json=False):
    """Check every module; the exit code is the gravest."""
    results = []
    for module in course.upto():
        try:
            _, result = check_module(course, module, None, limit, as_json)
        except ExportError as error:
            note(f"tito: {error}")
            result = {"schema": "tito.test/1", "module": module.slug, "exit_code": UNPARSED, "problem": str(error)}
        results.append(result)
    if not as_json:
        say()
        for result in results:
            word = "PASS" if result["exit_code"] == PASSED else "FAIL"
            total = sum(result.get(outcome, 0) for outcome in WORDS)
            said = f"{result.get('passed', 0)} of {total} checks" if total else result["problem"].splitlines()[0]
            say(f"{style(word, 'green' if word == 'PASS' else 'red')}  {result['module']:20} {plain(said)}")
    return max((result["exit_code"] for result in results), key=SEVERITY.index), results
