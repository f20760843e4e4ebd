"""What a learner asks between tests: where am I, what is next, one more hint."""

import ast
import re
import textwrap

from tito import state
from tito.console import note, plain, say, style, table
from tito.course import CourseError
from tito.lesson import ExportError, left_to_write, read_lesson

COLOURS = {"completed": "green", "passed": "green", "failed": "red", "changed": "yellow"}
COLOURS |= dict.fromkeys(("not tested", "not started", "locked"), "dim")
NEXT = {"not started": "start", "locked": "start", "passed": "complete"}  # in a workspace; everything else: test


def unwritten(course, module):
    """How many blanks of the lesson still raise the error they were handed out with, and how many there are."""
    blanks = read_lesson(course.source(module), module.slug).blanks
    return sum(bool(left_to_write(cell.body)) for cell in blanks), len(blanks)


def status(course):
    """Print how far every module is, and what is next."""
    known = state.load(course)
    rows, following = [], None
    for module in course.modules:
        standing = state.standing(course, module, known)
        written = ""
        if course.sources(module):
            try:
                left, blanks = unwritten(course, module)
                written = f"{blanks - left} of {blanks} blanks"
            except ExportError:
                written = "cannot be read"
        entry = known.get("tests", {}).get(module.slug)
        checks = f"{entry['passed']} of {entry['passed'] + entry['failed']} checks, {entry['time']}" if entry else ""
        if seen := sum(each.startswith(f"{module.slug}/") for each in known.get("gave_up", {})):
            checks += f", {seen} solution{'s' * (seen > 1)} seen"
        rows.append((module.slug, (standing, COLOURS[standing]), written, checks))
        if following is None and standing != ("completed" if course.workspace else "passed"):
            following = module, standing
    table(rows, "module", "state", "written", "last checks")
    say()
    milestones(course)
    say()
    if following is None:
        say("next: every module has passed; tito milestone list")
    else:
        module, standing = following
        say(f"next: tito {NEXT.get(standing, 'test')} {module.id}")


def milestones(course):
    """Print the milestones: open, or which modules they wait for."""
    known = state.load(course)
    if course.workspace:
        done = {m.number for m in course.modules if m.slug in known.get("completed", {})}
    else:
        done = {m.number for m in course.modules if state.standing(course, m, known) == "passed"}
    rows = []
    for entry in course.milestones:
        missing = [number for number in entry.needs if number not in done]
        how = (f"waits for {runs(missing)}", "dim") if missing else ("open", "green")
        rows.append((entry.slug, how, entry.title))
    table(rows, "milestone", "state", "")


def runs(numbers):
    """`02-06 08 10 11`: three and more in a row are written as a range."""
    rows = []
    for number in numbers:
        if rows and number == rows[-1][-1] + 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    parts = []
    for row in rows:
        parts += [f"{row[0]:02d}-{row[-1]:02d}"] if len(row) > 2 else [f"{number:02d}" for number in row]
    return " ".join(parts)


def ready(course, milestone):
    """CourseError if a workspace lacks lessons that the milestone needs."""
    done = state.load(course).get("completed", {})
    missing = [m.number for m in course.modules if m.number in milestone.needs and m.slug not in done]
    if course.workspace and missing:
        raise CourseError(
            f"{milestone.slug} runs on what you write in lessons {runs(milestone.needs)}; "
            f"still to complete: {runs(missing)}"
        )


def milestone_info(course, milestone):
    """Print the story at the top of a milestone's script, and what it needs."""
    script = course.root / "milestones" / f"{milestone.slug}.py"
    say(style(f"{milestone.slug}  {milestone.title}", "bold"))
    say()
    say(plain(ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""))
    say()
    say(f"needs lessons {runs(milestone.needs)}")
    say(f"run it: tito milestone run {milestone.id}")


def hint(course, name, blank):
    """Print the next hint of a blank, or the blanks there are."""
    module = course.module(name)
    path = course.source(module)
    if course.workspace:  # the lesson's own text, whatever became of it in the learner's hands
        from tito.workspace import released

        path = released(course, module)
    lesson = read_lesson(path, module.slug)
    cells = {cell.grade_id: cell for cell in lesson.blanks}
    if blank is None:
        table([(id, f"{len(cell.hints)} hints") for id, cell in cells.items()], "blank", "")
        note(f"one more each time: tito hint {module.id} {next(iter(cells))}")
        return
    if blank not in cells:
        raise CourseError(f"module {module.slug} has no blank {blank!r}. There are: {', '.join(cells)}")
    hints = cells[blank].hints
    if not hints:
        raise CourseError(f"the lesson gives no hints for {blank}")
    shown = state.load(course).get("hints", {}).get(f"{module.slug}/{blank}", 0)
    number = min(shown + 1, len(hints))
    say(style(f"{blank}, hint {number} of {len(hints)}", "bold"))
    say(plain(_readable(hints[number - 1])))
    if number == len(hints):
        note("that was the last hint")

    def count(known):
        known.setdefault("hints", {})[f"{module.slug}/{blank}"] = number

    state.update(course, count)


def _readable(markdown):
    """Markdown as text for a terminal: without the fences of code."""
    return textwrap.dedent(re.sub(r"^```\w*\n?", "", markdown, flags=re.MULTILINE)).strip("\n")
