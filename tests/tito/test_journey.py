"""The whole path of a learner, from the wheel in an environment of its own, outside any clone.

Two lessons of it in every run of the tests; all of them with TINYTORCH_JOURNEY=all, which is `make journey`.
"""

import os
import re

import pytest

from support.learners import Learner, fill, installed, solutions
from support.stages import COURSE, ROOT
from tito.lesson import read_lesson

WAY = COURSE.modules if os.environ.get("TINYTORCH_JOURNEY") == "all" else COURSE.modules[:2]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def learner(programs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    made = Learner(programs, folder / "my-tinytorch")
    done = made.types("tito", "init", "my-tinytorch", where=folder)
    assert (done.returncode, done.stdout) == (0, "next: cd my-tinytorch && tito start 01\n"), done.stderr
    return made


def files(learner):
    return {path.relative_to(learner.folder).as_posix() for path in (learner.folder / "tinytorch").rglob("*.py")}


def exported(module):
    cells = read_lesson(COURSE.source(module), module.slug).cells
    return {f"tinytorch/{cell.target.replace('.', '/')}.py" for cell in cells if cell.target}


def leaves_everything_empty(learner, module):
    """A learner who completes a lesson without writing anything is told what there is to write."""
    learner.types("tito", "start", module.id)
    done = learner.types("tito", "complete", module.id)
    assert done.returncode == 1
    for cell in read_lesson(COURSE.source(module), module.slug).blanks:
        assert f"  {cell.grade_id}: " in done.stderr
    assert "tensor-add: add, sub, mul, div" in done.stderr
    assert files(learner) == {"tinytorch/__init__.py"}
    refused = learner.types("tito", "start", COURSE.modules[1].id)
    assert refused.returncode == 2
    assert f"finish that first: tito complete {module.id}" in refused.stderr


def test_one_lesson_after_the_other_until_the_package_is_whole(learner):
    leaves_everything_empty(learner, WAY[0])
    for module in WAY:
        before = files(learner)
        started = learner.types("tito", "start", module.id)
        assert started.returncode == 0, started.stderr
        fill(learner.folder / started.stdout.strip(), solutions(COURSE, module))
        done = learner.types("tito", "complete", module.id)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        assert exported(module) <= files(learner) - before
    shown = learner.types("python", "-c", "import tinytorch; print(tinytorch.__file__)").stdout
    assert shown == f"{learner.folder / 'tinytorch/__init__.py'}\n"
    for module in WAY:
        for file in exported(module):
            assert (learner.folder / file).read_text() == (ROOT / file).read_text()


@pytest.mark.skipif(WAY is not COURSE.modules, reason="starts a kernel: make journey")
def test_a_kernel_of_jupyter_has_the_learners_package(learner, monkeypatch):
    """The first cell of a lesson, run where JupyterLab runs it: in the lesson's folder, without a word about paths."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where this tito is, and another tinytorch beside it
    learner.types("tito", "start", COURSE.modules[0].id)
    (lesson,) = (learner.folder / "modules" / COURSE.modules[0].slug).glob("*.ipynb")
    first = next(cell for cell in nbformat.read(lesson, as_version=4).cells if cell.cell_type == "code")
    shown = nbformat.v4.new_code_cell("import tinytorch\nprint(tinytorch.__file__)")
    book = nbformat.v4.new_notebook(cells=[first, shown])
    NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": str(lesson.parent)}}).execute()
    assert book.cells[1].outputs[0].text == f"{learner.folder / 'tinytorch/__init__.py'}\n"


@pytest.mark.skipif(WAY is not COURSE.modules, reason="needs more lessons: make journey")
def test_a_milestone_runs_on_it(learner):
    done = learner.types("tito", "milestone", "run", "01")
    assert done.returncode == 0, done.stderr
    assert "PASS" in done.stdout


@pytest.mark.skipif(WAY is not COURSE.modules, reason="runs all checks of a lesson: make journey")
def test_the_guide_for_learners_shows_what_tito_prints(programs, tmp_path):
    guide = (ROOT / "book" / "learner.md").read_text(encoding="utf-8")
    made = Learner(programs, tmp_path / "home" / "my-tinytorch")
    made.types("tito", "init", "my-tinytorch", where=made.folder.parent)
    lesson = made.folder / made.types("tito", "start", "01").stdout.strip()
    wrote = solutions(COURSE, COURSE.module(1))

    fill(lesson, {"tensor-as-array": wrote["tensor-as-array"]})
    (shown,) = re.findall(r"```text\n(PASS.*?\n)```", guide, re.DOTALL)
    done = made.types("tito", "test", "01", "-k", "DtypeOfWhatGoesIn")
    assert [line for line in done.stdout.splitlines() if not line.startswith("SKIP")] == shown.splitlines()

    slip = wrote["tensor-reductions"].replace('sum(axis=axes, keepdims=keepdims), "sum"', 'sum(axis=axes), "sum"')
    assert slip != wrote["tensor-reductions"]
    fill(lesson, wrote | {"tensor-reductions": slip})
    (shown,) = re.findall(r"```text\n(01_tensor Tensor.*?)\n```", guide, re.DOTALL)
    done = made.types("tito", "test", "01")
    first, last = done.stderr.splitlines()
    printed = [first, *(line for line in done.stdout.splitlines() if not line.startswith("PASS")), last]
    assert without_times("\n".join(printed)) == without_times(shown)


def without_times(text):
    return re.sub(r"in \d+\.\d s", "in some time", text)
