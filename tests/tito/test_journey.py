"""The whole path of a learner, from the wheel in an environment of its own, outside any clone.

Two lessons of it in every run of the tests; all of them with TINYTORCH_JOURNEY=all, which is `make journey`.
"""

import os

import pytest

from support.learners import Learner, fill, installed, solutions
from support.stages import COURSE, ROOT
from tito.lesson import read_lesson

WAY = COURSE.modules if os.environ.get("TINYTORCH_JOURNEY") == "all" else COURSE.modules[:2]


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return installed(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def learner(programs, tmp_path):
    made = Learner(programs, tmp_path / "my-tinytorch")
    done = made.types("tito", "init", "my-tinytorch", where=tmp_path)
    assert (done.returncode, done.stdout) == (0, "next: cd my-tinytorch && tito start 01\n"), done.stderr
    return made


def files(learner):
    return {path.relative_to(learner.folder).as_posix() for path in (learner.folder / "tinytorch").rglob("*.py")}


def exported(module):
    cells = read_lesson(COURSE.source(module), module.slug).cells
    return {f"tinytorch/{cell.target.replace('.', '/')}.py" for cell in cells if cell.target}


def test_one_lesson_after_the_other_until_the_package_is_whole(learner):
    for module in WAY:
        before = files(learner)
        started = learner.types("tito", "start", module.id)
        assert started.returncode == 0, started.stderr
        fill(learner.folder / started.stdout.strip(), solutions(COURSE, module))
        done = learner.types("tito", "complete", module.id)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        assert exported(module) <= files(learner) - before
        print(done.stderr)
    shown = learner.types("python", "-c", "import tinytorch; print(tinytorch.__file__)").stdout
    assert shown == f"{learner.folder / 'tinytorch/__init__.py'}\n"
    for module in WAY:
        for file in exported(module):
            assert (learner.folder / file).read_text() == (ROOT / file).read_text()


def test_who_leaves_blanks_empty_is_told_which(learner):
    module = COURSE.modules[0]
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
