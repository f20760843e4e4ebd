"""Reading a lesson, and handing it out without its solutions."""

import os
import subprocess
import sys

import pytest

from support.stages import COURSE as REAL
from support.stages import ROOT
from tito.course import Course
from tito.lesson import FENCE, NOT_NEEDED, ExportError, emptied, left_to_write, qualified_names, read_lesson


@pytest.fixture
def lesson(root):
    course = Course.load(root)
    return read_lesson(course.source(course.module(1)), "01_first")


def test_cells_know_their_line_in_the_script(lesson):
    lines = lesson.path.read_text().splitlines()
    for cell in lesson.cells:
        first = cell.source.splitlines()[0]
        assert lines[cell.line - 1] == first


def test_blanks_are_the_graded_cells_that_ship(lesson):
    assert [cell.grade_id for cell in lesson.blanks] == ["first-double"]


def test_hints_come_from_the_text_above(lesson):
    assert lesson.blanks[0].hints == ["Twice is `x + x`.", "```python\nreturn 2 * x\n```"]


def test_lines_of_a_notebook_for_the_shell_are_no_syntax_errors(root, edit):
    edit("modules/01_first/01_first.py", "double(3)\n", "%timeit double(3)\n!ls\n")
    lesson = read_lesson(root / "modules/01_first/01_first.py", "01_first")
    for cell in lesson.cells:
        lesson.parse(cell)


def test_an_emptied_solution_names_module_and_function():
    source = (
        "class A:\n    def f(self):\n        '''Doc.'''\n        ### BEGIN SOLUTION\n        return 1\n"
        "        ### END SOLUTION\n"
    )
    assert emptied(source, 4) == (
        "class A:\n    def f(self):\n        '''Doc.'''\n        raise NotImplementedError(\"module 04: write A.f\")\n"
    )


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ("raise NotImplementedError('module 01: write f')", ["f"]),
        ('x = 1\n    raise NotImplementedError("module 01: write f")', ["f"]),
        ('# raise NotImplementedError("module 01: write f")\n    return 1', []),
        ('return 1\n    raise NotImplementedError("module 01: write f")', []),
        ('if x:\n        return 1\n    raise NotImplementedError("module 01: write f")', ["f"]),
        ("raise NotImplementedError", []),
        ("return (", []),
    ],
)
def test_what_is_still_to_write_is_what_would_be_raised(body, names):
    assert left_to_write(f"def f(x):\n    {body}\n") == names


@pytest.mark.parametrize(
    "source", ["### BEGIN SOLUTION\nx = 1\n### END SOLUTION\n", "def f():\n    ### BEGIN SOLUTION\n    return 1\n"]
)
def test_a_fence_that_cannot_be_emptied_is_refused(source):
    with pytest.raises(ExportError, match="solution"):
        emptied(source, 1)


def test_names_are_qualified():
    names = qualified_names("class A:\n    def f(self):\n        def g():\n            return 1\n        return g\n")
    assert [names[n] for n in (1, 2, 3, 4, 5)] == ["A", "A.f", "A.f.g", "A.f.g", "A.f"]


@pytest.mark.parametrize("module", REAL.modules, ids=lambda module: module.slug)
class TestEveryLesson:
    def test_emptied_it_holds_no_line_of_a_solution(self, module):
        text = REAL.source(module).read_text(encoding="utf-8")
        handed_out, solution, fenced = emptied(text, module.number).splitlines(), set(), False
        for line in text.splitlines():
            fence = FENCE.match(line)
            if fence:
                fenced = fence[1] == "BEGIN"
            elif fenced and len(line.strip()) >= 12:
                solution.add(line)
        assert len(solution) >= 20
        given = {line for line, n in _outside(text).items() if n}
        assert [line for line in handed_out if line in solution - given] == []

    def test_every_blank_is_fenced_and_has_a_name_of_its_own(self, module):
        lesson = read_lesson(REAL.source(module), module.slug)
        for cell in lesson.blanks:
            assert "### BEGIN SOLUTION" in cell.source, cell.grade_id
        assert len({cell.grade_id for cell in lesson.blanks}) == len(lesson.blanks)

    def test_every_blank_has_hints(self, module):
        lesson = read_lesson(REAL.source(module), module.slug)
        assert [cell.grade_id for cell in lesson.blanks if not cell.hints] == []


def _outside(text):
    """How often each line stands outside the fences."""
    counts, fenced = {}, False
    for line in text.splitlines():
        fence = FENCE.match(line)
        if fence:
            fenced = fence[1] == "BEGIN"
        elif not fenced:
            counts[line] = counts.get(line, 0) + 1
    return counts


@pytest.mark.parametrize("name", NOT_NEEDED)
def test_lessons_are_read_without_what_jupyterlab_would_load_for_a_second(tmp_path, name):
    (tmp_path / f"{name}.py").write_text(f"print('{name}')", encoding="utf-8")
    command = [sys.executable, "-c", "from tito.lesson import import_jupytext; print(import_jupytext().__name__)"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "jupytext\n", "")
