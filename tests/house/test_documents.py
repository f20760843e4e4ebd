"""What README, CONTRIBUTING and the lessons tell people to type exists and does what they say."""

import re

import pytest
import typer

from support.stages import COURSE, ROOT, python
from tito.main import app

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(COURSE.source(module) for module in COURSE.modules)]
COMMAND = re.compile(r"(?:^|`)tito ((?:[\w.-]+ ?)+)", re.MULTILINE)


def commands(group, above=()):
    """The names of all commands: ("milestone", "run"), ..."""
    for name, command in group.commands.items():
        yield (*above, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*above, name))


KNOWN = set(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_tito_that_a_page_names_exists(page):
    for typed in COMMAND.findall(page.read_text(encoding="utf-8")):
        words = typed.split()
        if words[0].startswith("-"):
            continue
        name = tuple(words[:2]) if (words[0],) in KNOWN and words[0] == "milestone" and words[1:] else (words[0],)
        assert name in KNOWN, f"tito {typed}"


def test_the_readme_names_commands():
    assert len(COMMAND.findall(PAGES[0].read_text(encoding="utf-8"))) >= 5


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.name)
def test_every_target_of_make_that_a_page_names_exists(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make (?:PYTHON=\S+ )?(\w+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named
    assert named <= targets


@pytest.mark.parametrize("page", PAGES[:2], ids=lambda page: page.name)
def test_every_file_that_a_page_links_to_exists(page):
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_example_of_the_readme_trains_a_network():
    (code,) = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(encoding="utf-8"), re.DOTALL)
    done = python(ROOT, "-W", "error", "-c", code)
    share = re.fullmatch(r"(\d+\.\d)% of 359 digits it has never seen\n", done.stdout)
    assert share, done.stdout + done.stderr
    assert float(share[1]) > 95


def test_the_readme_lists_every_lesson_and_milestone():
    text = PAGES[0].read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d\d) ", text, re.MULTILINE)
    assert rows == [m.id for m in COURSE.modules] + [m.id for m in COURSE.milestones]
