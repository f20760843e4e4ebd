"""Each mistake in tests/mistakes, made in a package of its stage, fails the tests of its lesson."""

import shutil
import tomllib

import pytest
from support.stages import COURSE, ROOT, run_tests, write_stage

MISTAKES = [
    pytest.param(path.stem, mistake, id=f"{path.stem}:{mistake['name']}")
    for path in sorted(ROOT.glob("tests/mistakes/*.toml"))
    for mistake in tomllib.loads(path.read_text(encoding="utf-8"))["mistake"]
]


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    built = {}

    def of(slug):
        if slug not in built:
            built[slug] = write_stage(tmp_path_factory.mktemp(slug), COURSE.module(slug).number)
        return built[slug]

    return of


@pytest.mark.parametrize(("slug", "mistake"), MISTAKES)
def test_a_mistake_is_caught(slug, mistake, stage, tmp_path):
    shutil.copytree(stage(slug) / "tinytorch", tmp_path / "tinytorch")
    file = tmp_path / "tinytorch" / mistake["file"]
    text = file.read_text(encoding="utf-8")
    assert text.count(mistake["old"]) == 1, "the text to replace must occur exactly once"
    changed = text.replace(mistake["old"], mistake["new"])
    compile(changed, mistake["file"], "exec")
    file.write_text(changed, encoding="utf-8")
    done = run_tests(tmp_path, f"tests/{slug}", "-x", "--ignore-glob=*agreement*")
    assert done.returncode == 1, done.stdout[-2000:]
