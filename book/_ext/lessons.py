"""The lessons as pages: what a learner gets, then one solution of every blank, folded, and what the code prints.

`page` turns a lesson of `modules/` into a notebook; Sphinx (myst-nb) runs it and lays it out. The notebooks stand in
`book/lessons/`, which git ignores, and are written anew only where they would differ.
"""

import hashlib
import re

from tito.lesson import DIRECTIVE, EMPTY, FENCE, emptied

CODE = re.compile(r"(^```.*?^```|`[^`]*`|<summary>.*?</summary>)", re.MULTILINE | re.DOTALL)
FOLDED = {"code_prompt_show": "One solution", "code_prompt_hide": "One solution"}
MENTION = re.compile(r"\b((?:[Mm]odule|[Ll]esson) (\d\d))\b")


def page(course, module):
    """The notebook of a lesson as the book shows it, not yet run."""
    import jupytext

    path = course.source(module)
    book = jupytext.read(path, fmt="py:percent")
    cells = [_cell("code", preparation(course, module), tags=["remove-cell"])]
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cells.append(_cell("markdown", linked(cell.source, course, module)))
        elif any(map(FENCE.match, cell.source.splitlines())):
            task = shown(emptied(cell.source, module.number))
            empty = ",".join(str(number) for number, line in enumerate(task.split("\n"), 1) if EMPTY.match(line))
            options = f":class: task\n:emphasize-lines: {empty}"
            cells.append(_cell("markdown", f"```{{code-block}} python\n{options}\n\n{task}\n```"))
            cells.append(_cell("code", shown(cell.source), tags=["hide-input"], mystnb=FOLDED))
        elif source := shown(cell.source):
            cells.append(_cell("code", source))
    for number, cell in enumerate(cells):
        cell.id = f"{module.slug}-{number}".replace("_", "-")
    book.cells = cells
    book.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return book


def _cell(kind, source, **metadata):
    from nbformat import from_dict

    return from_dict(
        {"cell_type": kind, "metadata": metadata, "source": source}
        | ({"outputs": [], "execution_count": None} if kind == "code" else {})
    )


def shown(source):
    """A code cell without its directives and without the fences around solutions."""
    lines = (line for line in source.splitlines() if not DIRECTIVE.match(line) and not FENCE.match(line))
    return "\n".join(lines).strip("\n")


def linked(text, course, module):
    """Markdown in which every "module 05" and "lesson 05" leads to that lesson, except to this one and in code."""

    def link(found):
        words, number = found.groups()
        known = [each for each in course.modules if each.id == number and each != module]
        return f"[{words}]({known[0].slug}.ipynb)" if known else words

    parts = CODE.split(text)
    return "".join(part if index % 2 else MENTION.sub(link, part) for index, part in enumerate(parts))


def preparation(course, module):
    """The first cell, which nobody sees. It names what the lesson runs on: when that changes, it is run again."""
    mark = hashlib.sha256()
    for each in course.modules[: module.number - 1]:
        mark.update(course.source(each).read_bytes())
    return (
        f"# on lessons {mark.hexdigest()[:16]}\n"
        "import os, shutil\n"
        f'shutil.copytree(os.path.join(os.environ["TINYTORCH_LESSONS"], "{module.slug}"), ".", dirs_exist_ok=True)\n'
        '%config InlineBackend.figure_formats = ["retina"]'
    )


def write(course, folder):
    """Write the page of every lesson into `folder`, where nothing else stays."""
    import nbformat

    wanted = {f"{module.slug}.ipynb": module for module in course.modules}
    for path in folder.glob("*"):
        if path.name not in wanted:
            path.unlink()
    for name, module in wanted.items():
        write_if_changed(folder / name, nbformat.writes(page(course, module)) + "\n")


def write_if_changed(path, text):
    """Leave a file alone that says this already: Sphinx would read it anew."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
