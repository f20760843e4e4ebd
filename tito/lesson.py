"""A lesson as read from its file: code cells, their directives, the blanks left to the learner and their hints."""

import ast
import functools
import json
import re
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

DIRECTIVE = re.compile(r"^#\|\s*(default_exp|export|data)\b[ \t]*(\S*)[ \t]*$")
FENCE = re.compile(r"^\s*### (BEGIN|END) SOLUTION\s*$")
CODE_HEADER = re.compile(r"^# %%(?!%)(?!.*\[(markdown|md|raw)\])")
MAGIC = re.compile(r"^[%!]", re.MULTILINE)  # lines for the notebook, not for Python
EMPTY = re.compile(r"""^\s*raise NotImplementedError\(["']module \d\d: write ([^"']+)["']\)""", re.MULTILINE)
HINT = re.compile(r"<details>\s*<summary>\s*Hint[^<]*</summary>(.*?)</details>", re.DOTALL)


class ExportError(Exception):
    """A lesson that cannot become a package: names the module, the code cell (counted from 1) and the line in it."""

    def __init__(self, message, module="", cell=None, line=None):
        where = module + (f", code cell {cell}" if cell else "") + (f", line {line}" if line else "")
        super().__init__(f"{where}: {message}" if where else message)
        self.module, self.cell, self.line, self.message = module, cell, line, message


@dataclass
class Cell:
    """One code cell.

    number  counts code cells from 1          line  of its first source line in a percent script, else None
    target  the package file it ships to      body  the source without directives, line for line
    text    the nearest Markdown cell above it
    """

    number: int
    source: str
    grade_id: str | None = None
    target: str | None = None
    body: str = ""
    text: str = ""
    line: int | None = None

    @property
    def hints(self):
        return [hint.strip() for hint in HINT.findall(self.text)]


@dataclass
class Lesson:
    slug: str
    path: Path
    cells: list = field(default_factory=list)
    data: list = field(default_factory=list)

    @property
    def blanks(self):
        """The cells that leave something to write."""
        return [cell for cell in self.cells if cell.grade_id and cell.target]

    def parse(self, cell):
        """The syntax tree of a code cell; ExportError with cell and line if it has none."""
        try:
            return ast.parse(cell.body if cell.target else MAGIC.sub("#", cell.body))
        except SyntaxError as error:
            text = (error.text or "").rstrip("\n")
            mark = " " * max((error.offset or 1) - 1, 0) + "^"
            place = f" (line {cell.line + error.lineno - 1} of {self.path.name})" if cell.line and error.lineno else ""
            message = f"{error.msg}{place}\n    {text}\n    {mark}"
            raise ExportError(message, self.slug, cell.number, error.lineno) from None


def read_lesson(path, slug):
    """The code cells of a lesson (percent script or notebook), their directives read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read as a lesson: {error}", slug) from error
    return _read(text, path, slug)


def _cell(cell_type, source, metadata, **others):
    return SimpleNamespace(cell_type=cell_type, source="".join(source), metadata=metadata)


# What JupyterLab brings along: a checker of web addresses for jsonschema, and a server for jupytext to extend. They
# take longer to load than a lesson to check.
NOT_NEEDED = ("rfc3987_syntax", "jupyter_server")


def import_jupytext():
    """The library jupytext, imported as where JupyterLab is not installed."""
    hidden = [name for name in NOT_NEEDED if sys.modules.setdefault(name, None) is None]
    import jupytext

    for name in hidden:
        del sys.modules[name]
    return jupytext


@functools.lru_cache(maxsize=64)
def _read(text, path, slug):
    script = path.suffix != ".ipynb"
    try:
        if script:
            cells = import_jupytext().reads(text, fmt="py:percent").cells
        else:  # nbformat would take a quarter of a second to say the same
            cells = [_cell(**cell) for cell in json.loads(text)["cells"]]
    except Exception as error:  # whatever a damaged file makes a parser raise
        raise ExportError(f"{path} cannot be read as a lesson: {error}", slug) from error
    lines = text.splitlines()
    heads = iter([number for number, line in enumerate(lines, 1) if CODE_HEADER.match(line)] if script else ())
    lesson, default, above, number = Lesson(slug, path), None, "", 0
    for cell in cells:
        if cell.cell_type != "code":
            above = cell.source
            continue
        number += 1
        made = Cell(number, cell.source, cell.metadata.get("nbgrader", {}).get("grade_id"), text=above)
        made.line = _first_line(lines, next(heads, None), cell.source)
        if made.grade_id:  # code that is given may stand between the text and its blank
            above = ""
        kept = []
        for line, source in enumerate(cell.source.splitlines(), 1):
            found = DIRECTIVE.match(source)
            if not found:
                if source.startswith("#|"):
                    raise ExportError(f"unknown directive {source!r}", slug, number, line)
                kept.append(source)
                continue
            kept.append("")  # so that line numbers stay
            word, argument = found.groups()
            if word == "default_exp":
                default = argument
            elif word == "data":
                lesson.data.append(argument)
            else:
                made.target = argument or default
                if made.target is None:
                    raise ExportError("export without a file; put `#| default_exp some.file` first", slug, number, line)
        made.body = "\n".join(kept)
        lesson.cells.append(made)
    if not any(cell.target for cell in lesson.cells):
        raise ExportError(f"{path} exports nothing; its cells need `#| export`", slug)
    return lesson


def _first_line(lines, head, source):
    """The number of the line that starts `source` in the cell whose header is line `head`; None if it is not there."""
    first = source.split("\n", 1)[0]
    if head is not None:
        for number in range(head + 1, min(head + 4, len(lines)) + 1):
            if lines[number - 1] == first:
                return number
    return None


def qualified_names(source):
    """For each line of a cell, the qualified name of the innermost function or class around it."""
    names = {}

    def visit(node, outer):
        for child in ast.iter_child_nodes(node):
            inner = outer
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = f"{outer}.{child.name}" if outer else child.name
                first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                names.update(dict.fromkeys(range(first, child.end_lineno + 1), inner))
            visit(child, inner)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # a backslash in a text
        visit(ast.parse(source), "")
    return names


def left_to_write(source):
    """The names that a blank still has to get: where the error it was handed out with would be raised.

    Behind a return, or in a comment, it is only a line that somebody left there.
    """
    found = []
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return EMPTY.findall(source)
    for node in ast.walk(tree):
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(node, block, None)
            for statement in statements if isinstance(statements, list) else ():
                if isinstance(statement, ast.Raise):
                    found += EMPTY.findall(f"raise {ast.unparse(statement.exc)}" if statement.exc else "")
                if isinstance(statement, ast.Return | ast.Raise):
                    break
    return found


def emptied(source, number):
    """The source of a cell, or of a whole percent script, with every fenced solution replaced by an error that says
    what is to be written in module `number`."""
    names, kept, fenced = qualified_names(source), [], False
    for line, text in enumerate(source.splitlines(), 1):
        fence = FENCE.match(text)
        if fence and fence[1] == "BEGIN":
            if fenced or line not in names:
                raise ExportError(f"line {line}: a solution must be fenced inside a function", f"module {number:02d}")
            indent = text[: len(text) - len(text.lstrip())]
            kept.append(f'{indent}raise NotImplementedError("module {number:02d}: write {names[line]}")')
        if not fenced and not fence:
            kept.append(text)
        if fence:
            fenced = fence[1] == "BEGIN"
    if fenced:
        raise ExportError("a solution is fenced at its beginning and not at its end", f"module {number:02d}")
    return "\n".join(kept) + "\n"
