"""The package as a reader finds it: in step with the lessons, imports in one direction, no residue of a notebook."""

import ast
import re

import pytest

from support.stages import COURSE, ROOT, python
from tito.export import check, read_lesson

FILES = sorted((ROOT / "tinytorch").rglob("*.py"))
OWNER = {
    f"tinytorch.{cell.target}": module.number
    for module in COURSE.modules
    for cell in read_lesson(COURSE.source(module), module.slug).cells
    if cell.target
}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node, node.module


def test_the_package_is_what_the_lessons_say():
    assert check(COURSE) == []


@pytest.mark.parametrize("name", sorted(OWNER))
def test_imports_go_backwards_in_module_number(name):
    tree = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    for node, target in imported(tree):
        if target not in OWNER:
            continue
        late = (name, target) == ("tinytorch.core.tensor", "tinytorch.core.autograd") and id(node) not in top
        assert late or OWNER[target] <= OWNER[name], f"{name} (module {OWNER[name]}) imports {target}"


def test_the_library_never_imports_the_tools():
    for path in FILES:
        names = {target.split(".")[0] for _, target in imported(ast.parse(path.read_text(encoding="utf-8")))}
        assert not names & {"tito", "jupytext", "nbformat", "typer", "torch"}, path


def test_the_tools_never_import_the_library():
    for path in sorted((ROOT / "tito").rglob("*.py")):
        names = {target.split(".")[0] for _, target in imported(ast.parse(path.read_text(encoding="utf-8")))}
        assert "tinytorch" not in names, path


RESIDUE = re.compile(r"# %%|#\||### (BEGIN|END)|\b(TODO|FIXME|XXX)\b|[Hh]int \d|={8}|[\U0001f300-\U0001faff]")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_of_the_notebook_is_left(path):
    found = [line for line in path.read_text(encoding="utf-8").splitlines() if RESIDUE.search(line)]
    assert found == []


def test_importing_prints_nothing_and_loads_only_numpy():
    heavy = ["matplotlib", "rich", "pooch", "safetensors", "torch", "typer", "jupytext", "pytest"]
    code = f"import sys, tinytorch; print([name for name in {heavy} if name in sys.modules])"
    done = python(ROOT, "-c", code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_doors_hold_the_objects_of_their_owners():
    code = (
        "import tinytorch, tinytorch.core.layers as layers, tinytorch.core.optimizers as optimizers\n"
        "assert tinytorch.nn.Linear is layers.Linear and tinytorch.optim.SGD is optimizers.SGD\n"
        "assert tinytorch.nn.functional.linear is layers.linear\n"
    )
    done = python(ROOT, "-c", code)
    assert done.returncode == 0, done.stderr
