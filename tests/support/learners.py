"""Learners made of a few lines: they write the reference solutions into the blanks of a notebook or script."""

import json

import jupytext

from tito.lesson import FENCE, read_lesson


def solutions(course, module):
    """Of the lesson with its solutions: blank to source, fences left out."""
    lesson = read_lesson(course.source(module), module.slug)
    return {cell.grade_id: unfenced(cell.source) for cell in lesson.blanks}


def unfenced(source):
    return "\n".join(line for line in source.splitlines() if not FENCE.match(line))


def fill(path, wrote):
    """Write `wrote` (blank to source) into the lesson at `path`, as an editor would: only those cells change."""
    if path.suffix == ".py":
        book = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
        for cell in book.cells:
            cell.source = wrote.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
        path.write_text(jupytext.writes(book, fmt="py:percent"), encoding="utf-8")
    else:
        table = json.loads(path.read_text(encoding="utf-8"))
        for cell in table["cells"]:
            blank = cell["metadata"].get("nbgrader", {}).get("grade_id")
            if blank in wrote:
                cell["source"] = wrote[blank].splitlines(keepends=True)
        path.write_text(json.dumps(table, indent=1), encoding="utf-8")
