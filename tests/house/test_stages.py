"""For every N, lesson N runs on a package of lessons 01..N and nothing else (its tests: test_mistakes.py)."""

import re

import pytest

from support.stages import COURSE, ROOT, run_tests, write_stage


@pytest.mark.parametrize("module", COURSE.modules, ids=lambda module: module.slug)
def test_a_lesson_runs_from_top_to_bottom(module, tmp_path, forks):
    write_stage(tmp_path, module.number)
    source = ROOT / "modules" / module.slug / f"{module.slug}.py"
    assert forks.ask("lesson", source, tmp_path, tmp_path / "output") == ["0"], (tmp_path / "output").read_text()[
        -3000:
    ]


def test_no_progressive_test_passes_on_an_empty_package(tmp_path):
    (tmp_path / "tinytorch").mkdir()
    (tmp_path / "tinytorch" / "__init__.py").write_text("def manual_seed(seed):\n    pass\n")
    suites = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/*/test_progressive_integration.py"))
    done = run_tests(tmp_path, *suites, "--continue-on-collection-errors")
    assert not re.search(r"\d+ passed", done.stdout), done.stdout[-2000:]
    assert len(re.findall(r"^ERROR ", done.stdout, re.MULTILINE)) >= len(suites)
