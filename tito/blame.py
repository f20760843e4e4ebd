"""Which blank a failed check points at.

Every check reports the blocks of code that it ran (tito/probes.py). A block that the failing checks run and the passing
ones do not is suspicious; how much so, Ochiai's coefficient says: failing / sqrt(all failing * (failing + passing)).
(Abreu, Zoeteweij & van Gemund 2007 compare it with others.) A blank is as suspicious as its worst block. Names that the
check or the message mention and the way an exception took count beside it.
"""

import ast
import re
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

# How much each kind of evidence adds to a suspicion; chosen on a part of tests/mistakes, see tests/support/messages.py.
EARLIER = 0.25  # a blank of an earlier lesson, whose own checks have passed before
MENTIONED = 1.0  # times how well a name that the check mentions tells failing checks from passing ones
NAMED = 0.3  # the check mentions a name of the blank at all
TITLE = 0.6  # the check's own name does
FADE = 2  # after so many failed checks, names count half: what ran tells more then
SETTLED = 0.9  # so much of all the other evidence is void where what ran tells everything
MESSAGE = 0.8  # the error message names a class of the blank: <AddBackward> returned ...
RAISED = 0.2  # an exception came up in it
REFUSED = 0.05  # an exception was raised there on purpose: it says what it was given
REFUSING = 0.3  # and this blank called what refused
CERTAIN = 9.0  # the suspicion where an exception came up that nobody else can have caused
PASSED_THROUGH = 0.1  # an exception came through it
UNSEEN = 0.03  # a blank of the traceback without any block
OR = 0.9  # a runner-up of so much of the first one's suspicion is named with it

COMMON = {"backward", "forward", "step", "call", "data", "shape"}  # names that tell nothing


@dataclass
class Blank:
    """A cell that the learner wrote, with what it defines."""

    lesson: object
    cell: object
    names: set = field(default_factory=set)


def suspects(lessons, files, stage, reports, failed, blocks, slug):
    """The blanks that may have made the check `failed` fail, the most suspicious first, each with its suspicion.

    lessons  of the package, by slug        files   the package's files, by path, and their text
    reports  of all checks                  blocks  of code and their places, as the checks sent them
    slug     the lesson under test
    """
    blanks, spans = _blanks(lessons, files)
    block = _blocks(blanks, spans, stage, blocks, files)
    reports = [r for r in reports if r["outcome"] in ("passed", "failed") and "file" in r["check"]]
    worst = _worst(reports, failed, block)
    way, refused = _way(failed, spans, stage, files)
    told = _Mentions(reports, failed)
    shared = Counter(name for blank in blanks.values() for name in blank.names)
    unsettled = 1 - SETTLED * max(worst.values(), default=0)
    found = []
    for key, blank in blanks.items():
        if (worst or way) and key not in worst and key not in way:
            continue
        suspicion = worst.get(key, UNSEEN)
        if blank.lesson.slug != slug:
            suspicion *= EARLIER
        names = blank.names - COMMON
        mentioned = max((told.coefficient(name) / shared[name] ** 0.5 for name in names), default=0)
        title = max((told.in_title(name) / shared[name] ** 0.5 for name in names), default=0)
        title = max(title, told.in_title(blank.cell.grade_id.split("-", 1)[-1]))
        evidence = MENTIONED * mentioned + NAMED * bool(names & told.words) + TITLE * title
        evidence /= 1 + told.failing / FADE
        if way and key == way[-1]:
            evidence = REFUSED if refused else evidence + RAISED  # that a check names what refuses is no wonder
        elif refused and [k for k in way if k != way[-1]][-1:] == [key]:
            evidence += REFUSING
        elif key in way:
            evidence += PASSED_THROUGH
        evidence += MESSAGE * any(re.search("[a-z][A-Z]", name) for name in names & told.message)
        suspicion *= 1 + unsettled * evidence
        if way and key == way[-1] and _own_fault(failed["failure"]):
            suspicion = CERTAIN
        found.append((suspicion, blank))
    return sorted(found, key=lambda pair: -pair[0])


def named(found):
    """The blanks to name: the first, and the second where it is hardly less suspicious."""
    return [blank for suspicion, blank in found[:2] if suspicion >= OR * found[0][0]]


def defined(node):
    """The names that a statement at the top level of a file defines."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [name.id for name in node.targets if isinstance(name, ast.Name)]
    return []


def _blanks(lessons, files):
    """The blanks by (lesson, grade_id), and for each file the spans (first line, last line, key) they fill."""
    blanks, spans = {}, defaultdict(list)
    for lesson in lessons.values():
        cells = defaultdict(dict)
        for cell in lesson.cells:
            if cell.target and cell.grade_id:
                for node in lesson.parse(cell).body:
                    cells[cell.target].update(dict.fromkeys(defined(node), cell))
        for target, of in cells.items():
            file = target.replace(".", "/") + ".py"
            for node in ast.parse(files[file]).body:
                for name in defined(node):
                    if name in of:
                        key = lesson.slug, of[name].grade_id
                        blanks.setdefault(key, Blank(lesson, of[name])).names.add(name)
                        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
                        spans[file].append((first, node.end_lineno, key))
    return blanks, spans


def _at(spans, file, line):
    return next((key for first, last, key in spans.get(file, ()) if first <= line <= last), None)


def _blocks(blanks, spans, stage, blocks, files):
    """The blank of each block by its number, without those that only raise: failing checks alone may run them, and
    they find mistakes rather than make them."""
    found = {}
    for part in blocks:
        path = Path(part["file"])
        if not path.is_relative_to(stage / "tinytorch"):
            continue
        file = path.relative_to(stage / "tinytorch").as_posix()
        for number, (line, function, raises) in enumerate(part["places"], part["first"]):
            key = _at(spans, file, line)
            if key is not None:
                names = function.split(".")
                blanks[key].names.update(name for name in names if not name.startswith("__"))
                if not raises:
                    found[number] = key
    return found


def _worst(reports, failed, block):
    """The suspicion of each blank with a block that the check ran.

    Many cases of one check are one opinion said often; cases and checks are counted both.
    """
    cases = {outcome: Counter() for outcome in ("failed", "passed")}
    of_check = defaultdict(lambda: {"failed": set(), "passed": set()})
    for report in reports:
        cases[report["outcome"]].update(report.get("ran", ()))
        of_check[report["check"]["check"]][report["outcome"]].update(report.get("ran", ()))
    checks = {outcome: Counter() for outcome in cases}
    for ran in of_check.values():
        for outcome, numbers in ran.items():
            checks[outcome].update(numbers)
    many = sum(report["outcome"] == "failed" for report in reports)
    some = len({report["check"]["check"] for report in reports if report["outcome"] == "failed"})
    worst = {}
    for number in failed.get("ran", ()):
        if number in block:
            suspicion = (
                _ochiai(cases["failed"][number], cases["passed"][number], many)
                * _ochiai(checks["failed"][number], checks["passed"][number], some)
            ) ** 0.5
            worst[block[number]] = max(suspicion, worst.get(block[number], 0))
    return worst


def _ochiai(failing, passing, all_failing):
    return failing / (all_failing * (failing + passing)) ** 0.5 if failing else 0


def _way(failed, spans, stage, files):
    """The blanks through which the exception came, innermost last, and whether it was raised there on purpose."""
    way, refused = [], False
    for frame in failed["failure"]["frames"]:
        path = Path(frame["file"])
        if path.is_relative_to(stage):
            file = path.relative_to(stage / "tinytorch").as_posix()
            if (key := _at(spans, file, frame["line"])) is not None:
                way.append(key)
                line = files[file].splitlines()[frame["line"] - 1].strip()
                refused = line.startswith(("raise ", "assert "))
    return way, refused


def _own_fault(failure):
    """Whether the exception is the fault of the place where it came up: an unwritten blank, an unknown name."""
    if failure["type"] == "NotImplementedError":
        return re.match(r"module \d+: write ", failure["message"]) is not None
    return failure["type"] in ("NameError", "UnboundLocalError", "ZeroDivisionError")


class _Mentions:
    """The words of the failed check's source, of its name and its message, and how they part failing from passing."""

    def __init__(self, reports, failed):
        outcome, words = {}, {}
        for report in reports:
            check = report["check"]["check"]
            if check not in outcome:
                words[check] = _source_words(report["check"])
            if outcome.get(check) != "failed":
                outcome[check] = report["outcome"]
        self.count = {kind: Counter() for kind in ("failed", "passed")}
        for check, kind in outcome.items():
            self.count[kind].update(words[check])
        self.failing = sum(kind == "failed" for kind in outcome.values())
        self.words = words.get(failed["check"]["check"], set())
        said = re.split(r"(?:^|\n)assert |\n \+  ", failed["failure"]["message"])[0]  # and not the values by the way
        self.message = _words(said)
        self.title = _parts(failed["check"]["id"])

    def coefficient(self, name):
        if name not in self.words:
            return 0
        return _ochiai(self.count["failed"][name], self.count["passed"][name], self.failing)

    def in_title(self, name):
        return bool(parts := _parts(name)) and parts <= self.title


def _words(text):
    return set(re.findall(r"[A-Za-z_]\w*", text))


def _parts(name):
    """The words of which names are made: `CrossEntropy`, `cross_entropy` and `CrossEntropyBackward` have the same."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.removesuffix("Backward"))
    return set(re.findall(r"[a-z0-9]+", name.lower()))


def _source_words(check):
    """The names in the source of a check."""
    tests = _tests(check["file"])
    return tests.get(check["check"]) or tests.get(check["check"].split(".", 1)[-1], set())


_read = {}


def _tests(file):
    """The names that each test of a file mentions, by the test's name as checks have it."""
    path = Path(file)
    key = path, path.stat().st_mtime_ns if path.is_file() else None
    if key not in _read:
        _read[key] = {}
        with suppress(OSError, SyntaxError):  # which collecting it has reported
            _collect(ast.parse(path.read_text(encoding="utf-8")), [], _read[key])
    return _read[key]


def _collect(node, outer, found):
    for child in node.body:
        inner = [*outer, re.sub(r"^[Tt]est_?", "", getattr(child, "name", ""))]
        if isinstance(child, ast.ClassDef):
            _collect(child, inner, found)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            found[".".join(inner)] = _words(ast.unparse(child))
