"""For every N, the tests of lesson N pass on a package of lessons 01..N alone, and fail with each mistake made in it.

`python -m support.mistakes 04_losses`, run in tests/, shows the same for one lesson, mistake by mistake.
"""

import pytest

from support.mistakes import mistakes
from support.stages import COURSE, ROOT
from tito.lesson import read_lesson
from tito.testing import SECOND

LISTS = sorted(path.stem for path in (ROOT / "tests" / "mistakes").glob("*.toml"))


@pytest.mark.parametrize("slug", [module.slug for module in COURSE.modules])
def test_a_stage_passes_its_own_tests(slug, forks):
    assert forks.ask("suite", slug) == ["no mistake: 0"]


@pytest.mark.parametrize("slug", LISTS)
def test_with_any_mistake_a_stage_fails_its_own_tests(slug, light_forks):
    assert light_forks.ask("mistakes", slug) == [f"{m['name']}: 1" for m in mistakes(slug)]


@pytest.mark.parametrize("slug", LISTS)
def test_every_mistake_names_the_blank_it_is_made_in(slug):
    lesson = read_lesson(COURSE.source(COURSE.module(slug)), slug)
    assert {m["blank"] for m in mistakes(slug)} <= {cell.grade_id for cell in lesson.blanks}


@pytest.mark.parametrize("slug", LISTS)
def test_a_learner_without_hypothesis_is_told_of_every_mistake(slug):
    catching = {m["caught_by"].split("::")[0] for m in mistakes(slug) if "caught_by" in m}
    assert catching & {f"test_{name}.py" for name in SECOND} == set()


@pytest.mark.parametrize("module", COURSE.modules, ids=lambda module: module.slug)
def test_every_lesson_has_at_least_eight_mistakes(module):
    found = mistakes(module.slug)
    assert len({m["name"] for m in found}) == len(found) >= 8
