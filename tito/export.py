"""From lessons to library: the cells marked `#| export` become the files of the package.

Everything is read, compiled and formatted in memory first; only then are files replaced, one rename each. The result
depends on the lessons and on course.toml alone.
"""

import ast
import os
import re
import subprocess
import tempfile
from pathlib import Path

from tito.lesson import FENCE, ExportError, read_lesson

HEADER = "# Generated from {source} by `tito export`. To change this file, edit the lesson and export again.\n"
MARK = re.compile(r"^# Generated from .* by `tito export`\.")


def _drop_lines(body, nodes):
    """The lines of a cell without those of `nodes` and without fences."""
    gone = {line for node in nodes for line in range(node.lineno, node.end_lineno + 1)}
    lines = enumerate(body.splitlines(), 1)
    return "\n".join(text for line, text in lines if line not in gone and not FENCE.match(text))


def _definitions(lesson, target):
    """The names that the cells of one package file define at top level, each with the number of its cell."""
    defined = {}
    for cell in (cell for cell in lesson.cells if cell.target == target):
        for node in lesson.parse(cell).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                if node.name in defined:
                    message = f"{node.name} is defined twice, also in code cell {defined[node.name]}"
                    raise ExportError(message, lesson.slug, cell.number, node.lineno)
                defined[node.name] = cell.number
            elif isinstance(node, ast.Assign):
                defined.update((name.id, cell.number) for name in node.targets if isinstance(name, ast.Name))
    return defined


def _file_text(lesson, target, siblings):
    """The text of one package file, before ruff: header, docstring, imports, cells.

    `siblings` maps the module's files to the names they define; a name used here and defined there is imported.
    """
    doc, imports, bodies = None, {}, []
    used = set()
    for cell in (cell for cell in lesson.cells if cell.target == target):
        tree = lesson.parse(cell)
        hoisted = []
        for i, node in enumerate(tree.body):
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports[ast.unparse(node)] = node
                hoisted.append(node)
            elif doc is None and i == 0 and not bodies and isinstance(node, ast.Expr) and _is_text(node.value):
                doc = ast.get_source_segment(cell.body, node)
                hoisted.append(node)
        used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
        bodies.append(_drop_lines(cell.body, hoisted).strip("\n"))
    if doc is None:
        raise ExportError(f"the first cell that exports to {target} must begin with the file's docstring", lesson.slug)
    bound = {alias.asname or alias.name.split(".")[0] for node in imports.values() for alias in node.names}
    for other, names in siblings.items():
        wanted = sorted((used & set(names)) - bound - set(siblings[target]))
        if other != target and wanted:
            imports[f"from tinytorch.{other} import {', '.join(wanted)}"] = None
    source = f"modules/{lesson.slug}/{lesson.slug}.py"
    body = "\n\n\n".join(body for body in bodies if body)
    return HEADER.format(source=source) + doc + "\n\n" + "\n".join(imports) + "\n\n\n" + body + "\n"


def _is_text(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _ruff(texts):
    """Every text with sorted imports, in the project's format; the user's own settings do not matter."""
    from ruff.__main__ import find_ruff_bin

    with tempfile.TemporaryDirectory() as folder:
        for path, text in texts.items():
            file = Path(folder) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        common = ["--isolated", "--no-cache", "--quiet", folder]
        options = ["--config", "line-length=120", "--config", "target-version='py311'"]
        fix = ["check", "--select", "I", "--config", "lint.isort.known-first-party=['tinytorch']", "--fix"]
        for command in (fix, ["format"]):
            done = subprocess.run([find_ruff_bin(), *command, *options, *common], capture_output=True, text=True)
            if done.returncode:
                raise ExportError(f"ruff {command[0]} failed: {done.stdout}{done.stderr}")
        return {path: (Path(folder) / path).read_text(encoding="utf-8") for path in texts}


def _public(text, kind):
    return [n.name for n in ast.parse(text).body if isinstance(n, kind) and not n.name.startswith("_")]


def _door(name, table, files, doors):
    """The text of one door: the names it shows of the files that exist, or None if there are none."""
    lines, names = [], []
    for file, text in files.items():
        shown = []
        if file in table.get("classes", ()):
            shown += _public(text, ast.ClassDef)
        if file in table.get("functions", ()):
            shown += _public(text, ast.FunctionDef)
        if shown:
            lines.append(f"from tinytorch.{file} import {', '.join(shown)}")
            names += shown
    if not names:
        return None
    inner = sorted(d.rpartition(".")[2] for d in doors if d.rpartition(".")[0] == name)
    if inner:
        lines.append(f"from {name} import {', '.join(inner)}")
    exported = ", ".join(f'"{n}"' for n in sorted(set(names + inner)))
    return lines, exported


TITLES = {
    "tinytorch": "TinyTorch: a deep-learning framework in NumPy, written lesson by lesson.",
    "tinytorch.nn": "Layers, activations and losses as classes.",
    "tinytorch.nn.functional": "Activations, layers and losses as functions.",
    "tinytorch.optim": "Optimizers.",
    "tinytorch.utils.data": "Data sets and loaders.",
}


TOP = """\
__version__ = "0.1.0"
float32, float64, int32, int64 = np.float32, np.float64, np.int32, np.int64

"""


def build(course, upto=None):
    """The package of the modules up to `upto` (None: all): from path within it to text, or bytes for data files."""
    texts, binary, owner = {}, {}, {}
    for module in course.upto(upto):
        lesson = read_lesson(course.source(module), module.slug)
        targets = dict.fromkeys(cell.target for cell in lesson.cells if cell.target)
        siblings = {target: _definitions(lesson, target) for target in targets}
        for target in targets:
            if target in owner:
                raise ExportError(f"{target} already belongs to module {owner[target]}", lesson.slug)
            owner[target] = lesson.slug
            texts[target] = _file_text(lesson, target, siblings)
        for file in lesson.data:
            path = lesson.path.parent / Path(file).name
            if not path.is_file():
                raise ExportError(f"data file {path.name} is not beside the lesson", lesson.slug)
            binary[file] = path.read_bytes()
    files = {}
    source = HEADER.format(source="course.toml")
    shown = [name for name in course.doors if _door(name, course.doors[name], texts, ())]
    for name in shown:
        lines, exported = _door(name, course.doors[name], texts, shown)
        extra = ""
        if name == "tinytorch":
            lines += ["import numpy as np"] + [
                f"from {d.rpartition('.')[0]} import {d.rpartition('.')[2]}" for d in shown if d.count(".") == 1
            ]
            extra = TOP
        path = name.split(".")[1:]
        package = any(d.startswith(name + ".") for d in shown) or not path
        file = "/".join([*path, "__init__.py"]) if package else "/".join(path) + ".py"
        head, body = f'{source}"""{TITLES.get(name, name)}"""\n\n', "\n".join(lines)
        files[file] = f"{head}{body}\n\n{extra}__all__ = [{exported}]\n"
    for target, text in texts.items():
        files[target.replace(".", "/") + ".py"] = text
    for file in list(files):
        for folder in Path(file).parents:
            files.setdefault((folder / "__init__.py").as_posix(), source)
    done = dict(sorted(_ruff(files).items()))
    for file, text in done.items():
        left = [line for line in text.splitlines() if FENCE.match(line) or line.startswith(("# %%", "#|"))]
        if left:
            raise ExportError(f"{file} would still hold {left[0]!r}")
        compile(text, file, "exec")
    return {**done, **dict(sorted(binary.items()))}


def _bytes(content):
    return content if isinstance(content, bytes) else content.encode()


def _ours(folder):
    """The files under `folder` that an earlier export wrote."""
    for path in sorted(folder.rglob("*.py")):
        with path.open(encoding="utf-8") as file:
            if MARK.match(file.readline()):
                yield path


def check(course, upto=None):
    """The package's files that differ from what the lessons say, as paths within it."""
    folder, built = course.root / "tinytorch", build(course, upto)
    drifted = [f for f, c in built.items() if not (folder / f).is_file() or (folder / f).read_bytes() != _bytes(c)]
    stray = [p.relative_to(folder).as_posix() for p in _ours(folder)] if folder.is_dir() else []
    return sorted(drifted + [file for file in stray if file not in built])


def export(course, upto=None, to=None):
    """Write the package to `to`/tinytorch (default: the course's own folder). Returns the paths that changed."""
    folder, built = Path(to or course.root) / "tinytorch", build(course, upto)
    changed = []
    for file, content in built.items():
        path = folder / file
        if path.is_file() and path.read_bytes() == _bytes(content):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".export-")
        with os.fdopen(handle, "wb") as out:
            out.write(_bytes(content))
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        changed.append(file)
    for path in list(_ours(folder)):
        if path.relative_to(folder).as_posix() not in built:
            path.unlink()
            changed.append(path.relative_to(folder).as_posix())
    return changed
