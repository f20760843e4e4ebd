"""The other end of `tito test`: runs in a process of its own and reports every check as one line of JSON.

`tito` starts this file by its path, `python -P checks.py PLAN`, where PLAN is a JSON file:

    stage     the folder that holds the package under test; `tinytorch` is found there and nowhere else
    tests     what to hand to pytest
    root      the course root, `tests` below it is where helpers are imported from
    settings  a pytest configuration file
    scratch   a folder for what the tests write
    select    None, or the text after `-k`

Standard output carries the reports and nothing else; whatever the code under test prints goes elsewhere.
This file imports pytest and the standard library only, so the package under test is the first of its name.
"""

import inspect
import json
import os
import re
import sys
import time
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

OPTIONAL = ("hypothesis", "torch")  # a file of checks that needs one of these is skipped where it is not installed


class OnlyFromStage:
    """Finds `tinytorch` in one folder; an installed package of that name does not exist for this process."""

    def __init__(self, stage, probes=None):
        self.stage, self.probes = stage, probes

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] != "tinytorch":
            return None
        spec = PathFinder.find_spec(name, [self.stage] if path is None else path, target)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r} in the package of the lessons so far", name=name)
        if self.probes is not None:
            self.probes.loader(spec)
        return spec


@cache
def sibling(name):
    """A module beside this file; `tito` need not be importable here."""
    spec = spec_from_file_location(f"tito_{name}", Path(__file__).with_name(f"{name}.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def strangers(stage):
    """Files of `tinytorch` modules that were loaded from outside `stage`: there must be none."""
    found = []
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "tinytorch":
            file = getattr(module, "__file__", None)
            if file and not Path(file).resolve().is_relative_to(Path(stage).resolve()):
                found.append(f"{name} from {file}")
    return found


def words(identifier):
    """`TestModule04LossesCore` and `test_sum_of_rows` as a person writes them."""
    identifier = re.sub(r"^test_?", "", identifier, flags=re.I)
    identifier = re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", identifier)
    return " ".join(w if w.isupper() and len(w) > 1 else w.lower() for w in identifier.split("_") if w)


def slug(text):
    """`text` in characters that no shell has plans for."""
    return re.sub(r"[^A-Za-z0-9_.,+@%=-]+", "-", text).strip("-") or "empty"


class Names:
    """Of a test, its check (one line of the report), its case, and how to select each with `-k`."""

    def __init__(self):
        self.taken = {}

    def of(self, item):
        function = getattr(item, "originalname", None) or item.name.split("[")[0]
        classes = [part.name for part in item.listchain() if type(part).__name__ in ("Class", "UnitTestCase")]
        parts = [re.sub(r"^[Tt]est_?", "", part) for part in [*classes, function]]
        if item.path.stem != "test_progressive_integration" or not classes:
            parts.insert(0, re.sub(r"^test_", "", item.path.stem))
        check = slug(".".join(parts))
        case = item.callspec.id if hasattr(item, "callspec") else None
        names = {
            "id": self.free(check if case is None else f"{check}.{slug(case)}", item.nodeid),
            "check": check,
            "group": words(parts[0]),
            "name": ": ".join(words(part) for part in parts[1:]),
            "case": case,
            "file": str(item.path),
        }
        return names

    def free(self, name, nodeid):
        number, wanted = 1, name
        while self.taken.setdefault(wanted, nodeid) != nodeid:
            number += 1
            wanted = f"{name}.{number}"
        return wanted


def selected(names, select):
    """Which of `names` the text `select` means: a check or case by its exact name, else all that contain its words."""
    exact = [n for n in names if select in (n["id"], n["check"])]
    if exact:
        return exact
    plain = [w for w in re.split(r"[^a-z0-9]+", select.lower()) if w]
    return [n for n in names if plain and all(w in f"{n['id']} {n['group']} {n['name']}".lower() for w in plain)]


def failure(error, node):
    """What is known about one exception: its text and the way to it, innermost frame last."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append({"file": code.co_filename, "line": trace.tb_lineno, "function": code.co_qualname})
        trace = trace.tb_next
    try:
        text = str(error)
    except Exception as broken:  # a learner's exception may be unable to print itself
        text = f"(its message raised {type(broken).__name__})"
    source, first = "", None
    if hasattr(node, "function"):
        try:
            lines, first = inspect.getsourcelines(node.function)
            source = "".join(lines)
        except OSError:
            pass
    return {
        "type": "AssertionError" if isinstance(error, AssertionError) else type(error).__name__,
        "message": text,
        "frames": frames,
        "test": {"file": str(node.path), "line": first, "source": source},
    }


def explained(error, compared, node):
    """What differs and the likely reason, in words; nothing where the explanation itself fails."""
    try:
        name = getattr(node, "originalname", None) or node.name
        difference, cause = sibling("causes").explain(error, compared, getattr(node, "path", None), name)
    except Exception:  # values under test can be anything, and raise on comparison or printing
        difference = cause = None
    return {"difference": difference, "cause": cause}


class Reporter:
    """The pytest plugin: selects, and sends what happens."""

    def __init__(self, plan, send, probes):
        self.plan, self.send, self.probes = plan, send, probes
        self.names, self.items, self.errors, self.explained = Names(), {}, {}, {}
        self.loose = 0  # failures and skips of whole files
        self.compared = None  # the comparison in an assertion of the running check that failed last

    # Reports of collection: a file that cannot be loaded, or that skips as a whole.

    def pytest_exception_interact(self, node, call, report):
        self.errors[report.nodeid] = (call.excinfo.value, node)
        self.explained[report.nodeid] = explained(call.excinfo.value, self.compared, node)

    def pytest_collectreport(self, report):
        if report.outcome == "passed":
            return
        path = report.nodeid.split("::")[0]
        stem = re.sub(r"^test_", "", Path(path).stem) if path.endswith(".py") else Path(path).name
        check = {"id": stem, "check": stem, "group": words(stem), "name": "", "case": None}
        check["file"] = str(Path(self.plan["root"], path))
        if self.plan["select"] and report.outcome == "skipped":
            return
        self.loose += 1
        event = {"event": "result", "check": check, "outcome": report.outcome, "seconds": 0.0}
        if report.outcome == "skipped":
            event["reason"] = reason(report)
        else:
            error, node = self.errors.get(report.nodeid, (None, None))
            if error is None:
                event["failure"] = {"type": "Error", "message": str(report.longrepr), "frames": [], "test": None}
            else:
                if type(error).__name__ == "CollectError" and error.__cause__ is not None:
                    error = error.__cause__
                event["failure"] = failure(error, node)
                if absent := absent_package(error, check["file"]):
                    event.update(outcome="skipped", reason=f"needs {absent}, which is not installed")
                    del event["failure"]
        self.send(**event)

    def pytest_collection_modifyitems(self, config, items):
        for item in items:
            self.items[item.nodeid] = self.names.of(item)
        if self.plan["select"]:
            keep = {n["id"] for n in selected(list(self.items.values()), self.plan["select"])}
            dropped = [item for item in items if self.items[item.nodeid]["id"] not in keep]
            items[:] = [item for item in items if self.items[item.nodeid]["id"] in keep]
            config.hook.pytest_deselected(items=dropped)
        self.send(event="collected", checks=[self.items[item.nodeid] for item in items])

    # Reports of checks. A check has three phases; the first that fails or skips decides.

    def pytest_runtest_logstart(self, nodeid):
        self.send(event="start", id=self.items[nodeid]["id"])
        self.probes.take()
        self.phases, self.began, self.compared, self.ran = [], time.perf_counter(), None, set()

    def pytest_runtest_makereport(self):
        self.ran.update(self.probes.take())
        yield  # pytest prints values for its report
        self.probes.take()

    def pytest_assertrepr_compare(self, op, left, right):
        self.compared = op, left, right  # and pytest words it

    def pytest_runtest_logreport(self, report):
        self.phases.append(report)

    def pytest_runtest_logfinish(self, nodeid):
        event = {"event": "result", "check": self.items[nodeid], "outcome": "passed"}
        event["seconds"] = round(time.perf_counter() - self.began, 4)
        event["ran"] = sorted(self.ran)
        for report in self.phases:
            if report.outcome == "failed":
                if nodeid in self.errors:
                    event["failure"] = failure(*self.errors[nodeid]) | self.explained[nodeid]
                else:  # pytest itself objects, to an expected failure that passed for one
                    event["failure"] = {"type": "Failed", "message": str(report.longrepr), "frames": [], "test": None}
                event["outcome"] = "failed"
                event["output"] = report.capstdout[-4000:]
                break
            if report.outcome == "skipped":
                event.update(outcome="skipped", reason=reason(report))
                break
        self.errors.pop(nodeid, None)
        self.explained.pop(nodeid, None)
        self.send(**event)


def reason(report):
    """Why a check was skipped."""
    if hasattr(report, "wasxfail"):
        return f"known to fail: {report.wasxfail}" if report.wasxfail else "known to fail"
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def absent_package(error, file):
    """The optional package that the test file itself imports and that is not installed, if that is what is wrong."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return None
    name, trace = error.name.split(".")[0], error.__traceback__
    innermost = None
    while trace is not None:
        if not trace.tb_frame.f_code.co_filename.startswith("<frozen importlib"):
            innermost = trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    return name if name in OPTIONAL and innermost is not None and Path(innermost) == Path(file) else None


def quiet(module, name, probes):
    """What pytest calls to word a failed assertion prints values, and so runs code that the check did not ask for."""
    function = getattr(module, name, None)
    if function is not None:
        setattr(module, name, lambda *given: probes.unseen(function, *given))


def run(plan, send):
    """Run the checks of a plan and report each through `send`. Returns pytest's exit code, or 3."""
    probes = sibling("probes").Probes(send)
    sys.meta_path.insert(0, OnlyFromStage(plan["stage"], probes))
    if any(name.split(".")[0] == "tinytorch" for name in sys.modules):
        send(event="problem", message=f"tinytorch was imported before the checks: {strangers(plan['stage'])}")
        return 3
    try:
        import pytest
        from _pytest.assertion import rewrite
    except ModuleNotFoundError:
        send(event="problem", message=f"pytest is not installed for {sys.executable}")
        return 3
    around = pytest.hookimpl(hookwrapper=True, tryfirst=True)
    around(Reporter.pytest_runtest_makereport)
    for name in ("_saferepr", "_call_reprcompare", "_format_assertmsg"):
        quiet(rewrite, name, probes)
    options = ["-c", plan["settings"], "--rootdir", plan["root"], "--confcutdir", str(Path(plan["root"], "tests"))]
    options += ["-p", "no:cacheprovider", "-p", "no:doctest", "-p", "no:logging", "--basetemp", plan["scratch"]]
    options += ["--capture=sys"]  # cheaper than by descriptor; what gets past it lands in a file of our own
    options += ["--continue-on-collection-errors"]  # a file that needs what is not installed stops no other
    options += ["--tb=native", "--no-summary"]  # nobody reads them, and the usual form parses a file per failure
    status = int(pytest.main([*options, *plan["tests"]], plugins=[reporter := Reporter(plan, send, probes)]))
    if found := strangers(plan["stage"]):
        send(event="problem", message=f"not from the lessons: {', '.join(found)}")
        return 3
    package = sys.modules.get("tinytorch")
    send(event="end", status=status, package=getattr(package, "__file__", None), loose=reporter.loose)
    return status


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        plan = json.load(file)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # from here on, what is printed is no report

    def send(**event):
        channel.write(json.dumps(event, allow_nan=False) + "\n")

    return run(plan, send)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads that a check left behind do not keep us
