"""The lessons in the hands of instructors who use nbgrader.

What nbgrader itself does with them takes a minute and is tried where it is installed (`pip install -e '.[grade]'`) and
TINYTORCH_JOURNEY=all asks for it, which is `make journey`.
"""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from support.learners import fill, solutions
from support.stages import COURSE, ROOT
from tito import nbgrader
from tito.lesson import read_lesson

KEYS = {"grade", "grade_id", "locked", "points", "schema_version", "solution", "task"}
TWO = [COURSE.modules[0], COURSE.modules[1]]


@pytest.mark.parametrize(("points", "parts", "want"), [(10, 4, [2, 3, 2, 3]), (5, 5, [1] * 5), (2, 3, [1, 1, 1])])
def test_points_are_shared_in_whole_numbers(points, parts, want):
    assert nbgrader.share(points, parts) == want


def test_every_blank_gets_a_cell_of_checks_with_points():
    module = TWO[1]
    book = nbformat.reads(nbgrader.source(COURSE, module), as_version=4)
    nbformat.validate(book)
    graded = [cell for cell in book.cells if cell.metadata.get("nbgrader", {}).get("grade")]
    blanks = [cell.grade_id for cell in read_lesson(COURSE.source(module), module.slug).blanks]
    assert [cell.metadata.nbgrader.grade_id for cell in graded] == [f"{blank}-checks" for blank in blanks]
    assert all(set(cell.metadata.nbgrader) == KEYS for cell in book.cells if "nbgrader" in cell.metadata)
    assert sum(cell.metadata.nbgrader.points for cell in graded) == max(module.points, len(blanks))
    assert any("### BEGIN SOLUTION" in cell.source for cell in book.cells)


@pytest.mark.parametrize("module", COURSE.modules, ids=lambda module: module.slug)
def test_every_blank_has_checks_of_its_own(module):
    known = nbgrader.checks_of(COURSE, module)
    blanks = re.findall(r'"grade_id": "([\w-]+)"', COURSE.source(module).read_text(encoding="utf-8"))
    assert [blank for blank in blanks if not known.get(blank)] == []


def test_the_names_of_checks_are_those_of_tito():
    assert nbgrader.check_name("test_shapes.py::TestReshape::test_it[1-2]") == "shapes.Reshape.it"
    assert nbgrader.check_name("test_progressive_integration.py::TestForward::test_it") == "Forward.it"
    assert nbgrader.check_name("test_shapes.py::test_it") == "shapes.it"


@pytest.mark.skipif(os.environ.get("TINYTORCH_JOURNEY") != "all", reason="takes minutes: make journey")
def test_nbgrader_generates_grades_and_gives_feedback(tmp_path):
    pytest.importorskip("nbgrader", reason="pip install -e '.[grade]'")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1", "JUPYTER_PLATFORM_DIRS": "1"}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # it calls alembic

    def types(program, *arguments):
        done = subprocess.run(
            [sys.executable, "-P", "-m", program, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    types("tito.main", "release", "--nbgrader", ".", *(module.id for module in TWO))
    for module in TWO:
        name, wrote = module.slug, solutions(COURSE, module)
        types("nbgrader", "generate_assignment", name)
        text = (tmp_path / "release" / name / f"{name}.ipynb").read_text()
        assert "SOLUTION" not in text
        for student, left_out in {"good": None, "bad": list(wrote)[-1]}.items():
            home = tmp_path / "submitted" / student / name
            home.mkdir(parents=True)
            (home / f"{name}.ipynb").write_text(text)
            fill(home / f"{name}.ipynb", {blank: code for blank, code in wrote.items() if blank != left_out})
        types("nbgrader", "autograde", name)
        types("nbgrader", "generate_feedback", name)
        for student in ("good", "bad"):
            page = (tmp_path / "feedback" / student / name / f"{name}.html").read_text()
            assert ("checks failed" in page) == (student == "bad")
    base = sqlite3.connect(tmp_path / "gradebook.db")
    rows = base.execute(
        "select s.student_id, b.name, g.auto_score, cell.name, gc.max_score from grade g"
        " join submitted_notebook sn on sn.id = g.notebook_id join submitted_assignment s on s.id = sn.assignment_id"
        " join base_cell cell on cell.id = g.cell_id join grade_cells gc on gc.id = cell.id"
        " join assignment b on b.id = s.assignment_id"
    ).fetchall()
    base.close()
    for module in TWO:
        blanks = list(solutions(COURSE, module))
        good = {cell: score == most for who, name, score, cell, most in rows if (who, name) == ("good", module.slug)}
        assert good == {f"{blank}-checks": True for blank in blanks}
        bad = {cell for who, name, score, cell, most in rows if (who, name) == ("bad", module.slug) and not score}
        assert f"{blanks[-1]}-checks" in bad
        assert len(bad) < len(blanks)
