"""The reference: docstrings, which are plain text, as the reStructuredText that Sphinx reads; and a page of the doors.

A paragraph stays a paragraph, names in backquotes become links where they are known, indented lines stay as they are,
and what is aligned in columns (name, shape, meaning) becomes a table.
"""

import ast
import inspect
import re
import types

NAME = r"\*{0,2}[A-Za-z_][\w.]*"
ARGUMENT = re.compile(rf"({NAME}(?:, {NAME})*)  +(?=\S)")
SHAPE = re.compile(r"(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?")
LINK = re.compile(r"[A-Za-z_][\w.]*(?:\(\))?")


def rest(lines, known=()):
    """The lines of a docstring as reStructuredText; `known` are names that need no link, such as the arguments'."""
    out = []
    for block in re.split(r"\n *\n", "\n".join(lines).strip("\n")):
        rows = block.split("\n")
        if any(ARGUMENT.match(row) for row in rows):
            out += _table(rows, known)
        elif re.search(r"\S   +\S", block) or rows[0].startswith("    "):
            out += ["::", "", *("    " + row for row in rows), ""]
        else:
            out += [_prose(rows, known), ""]
    return out


def _table(rows, known):
    """Lines of `name  (shape)  meaning` as a table, with what comes before and after them as prose."""
    start = max(found.end() for row in rows if (found := ARGUMENT.match(row)))
    cells, before, after = [], [], []
    for row in rows:
        found = ARGUMENT.match(row)
        if found and not after:
            cells.append([found[1], row[found.end() :]])
        elif cells and not after and re.fullmatch(rf"{NAME}(, {NAME})* *", row[:start]) and row[start - 1] == " ":
            cells.append([row[:start].strip(), row[start:]])  # the longest name, one space before the next column
        elif cells and not after and row.startswith("  "):
            cells[-1][1] += " " + row.strip()
        else:
            (after if cells else before).append(row)
    out = [_prose(before, known), ""] if before else []
    out += [".. list-table::", "   :class: arguments", ""]
    for name, text in cells:
        shape = SHAPE.match(text)[0]
        meaning = _prose([text[len(shape) :]], known)
        if shape and meaning:
            shape = f"``{shape}``" + (" " if text[len(shape)] == " " else "\\ ")
        elif shape:
            shape = f"``{shape}``"
        names = ", ".join(f"``{each}``" for each in name.split(", "))
        out += [f"   * - {names}", f"     - {shape}{meaning}"]
    return [*out, "", *([_prose(after, known), ""] if after else [])]


def _prose(rows, known):
    """One paragraph: `names` linked or set as code, all else escaped that reStructuredText would take for markup."""
    parts = re.split(r"`([^`]+)`", " ".join(" ".join(rows).split()))
    text = "".join(_quoted(part, known) if index % 2 else _plain(part) for index, part in enumerate(parts))
    return f"\\ {text}" if re.match(r"\w\. ", text) else text  # a name's first letter begins no list


def _plain(text):
    return re.sub(r"([\\*|_`])", r"\\\1", text)


def _quoted(text, known):
    linked = LINK.fullmatch(text) and text not in known
    return f"\\ :py:obj:`{text}`\\ " if linked else f"\\ ``{text}``\\ "


def doors(course):
    """The page that says which names `tinytorch`, `tinytorch.nn` and the other doors show, and where each is made."""
    lines = ["# The doors", "", "What each import holds. A name leads to the module that makes it.", ""]
    for door in course.doors:
        path = course.root.joinpath(*door.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lines += [f"## {door}", "", ast.get_docstring(tree), ""]
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module not in course.doors:
                names = (f"{{py:obj}}`{each.name} <{node.module}.{each.name}>`" for each in node.names)
                lines += [f"{{py:mod}}`{node.module}`", f": {', '.join(names)}", ""]
    return "\n".join(lines)


def process(app, what, name, obj, options, lines):
    try:
        known = inspect.signature(obj).parameters
    except (TypeError, ValueError):
        known = ()
    lines[:] = rest(lines, known)


def skip(app, what, name, obj, skipped, options):
    """Leave out what is Python's own, such as a counter's next, with Python's docstring."""
    return True if isinstance(obj, types.MethodWrapperType) else None


def setup(app):
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-skip-member", skip)
    return {"version": "1", "parallel_read_safe": True}
