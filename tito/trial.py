"""Is it this blank? A check that failed runs again with the course's solution of one blank in place of the learner's.

If it passes then, that blank is what makes it fail, and nobody need guess from what ran. This comes after the verdict:
whether a check passes never depends on it.
"""

import ast
import contextlib
import json
import re
import shutil
import subprocess

from tito import material
from tito.blame import defined
from tito.course import CourseError

AT_ONCE, ROUNDS = 2, 2  # suspects tried side by side, and how often
SECONDS = 10  # for a trial; a check that took half of it is not tried


def culprit(ranked, files, stage, event, start):
    """The first of the blanks `ranked` without which the check of `event` passes; None if there is none.

    files  the package's, by path, and their text        stage  the folder it is in
    start  start(folder, file, name) is the process that runs the check `name` of `file` on the package in `folder`
    """
    if event["seconds"] > SECONDS / 2 or "file" not in event["check"]:
        return None
    waiting = [pair for blank in ranked for pair in [(blank, solved(blank, files))] if pair[1]]
    for first in range(0, min(len(waiting), AT_ONCE * ROUNDS), AT_ONCE):
        some = waiting[first : first + AT_ONCE]
        with contextlib.ExitStack() as stack:
            running = []
            for number, (_, changed) in enumerate(some, first):
                folder = stage.parent / f"trial-{number}"
                shutil.copytree(stage, folder, ignore=shutil.ignore_patterns("__pycache__"))
                for file, text in changed.items():
                    (folder / "tinytorch" / file).write_text(text, encoding="utf-8")
                running.append(stack.enter_context(start(folder, event["check"]["file"], event["check"]["id"])))
            outcomes = [passes(process) for process in running]
        for (blank, _), passed in zip(some, outcomes):
            if passed:
                return blank
    return None


def passes(process):
    """Whether the one check that the process runs passes."""
    try:
        said, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return False
    events = [json.loads(line) for line in said.splitlines()]
    return [event["outcome"] for event in events if event["event"] == "result"] == ["passed"]


def solved(blank, files):
    """The files of the package that change, with their text, if the course's solution takes the place of `blank`."""
    source = solution(blank.lesson.slug, blank.cell.grade_id)
    file = blank.cell.target.replace(".", "/") + ".py"
    if source is None or file not in files:
        return {}
    theirs = {name for node in ast.parse(source).body for name in defined(node)}
    lines, spans = files[file].splitlines(), []
    for node in ast.parse(files[file]).body:
        if theirs & set(defined(node)):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            spans.append((first, node.end_lineno))
    if not spans:
        return {}
    gone = {line for first, last in spans for line in range(first, last + 1)}
    lines = [
        *(line for number, line in enumerate(lines[: spans[0][0] - 1], 1) if number not in gone),
        *source.splitlines(),
        *(line for number, line in enumerate(lines, 1) if number >= spans[0][0] and number not in gone),
    ]
    text = "\n".join(lines) + "\n"
    return {} if same(text, files[file]) else {file: text}


def same(one, other):
    return ast.dump(ast.parse(one)) == ast.dump(ast.parse(other))


def solution(slug, grade_id):
    """The cell of a blank as the course solves it; None if the installed course has no such blank."""
    try:
        course = material.released()
        text = course.source(course.module(slug)).read_text(encoding="utf-8")
    except (CourseError, OSError):
        return None
    cell = re.search(rf'^# %%.*"grade_id": "{re.escape(grade_id)}".*\n((?:(?!# %%).*\n?)*)', text, re.MULTILINE)
    return cell and cell[1]
