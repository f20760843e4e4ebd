"""What the book makes of lessons and docstrings, before Sphinx sees it."""

import re

import lessons
import pytest
import reference

from support.stages import COURSE, ROOT
from tito.course import Course
from tito.lesson import DIRECTIVE, FENCE

MARKDOWN = re.compile(r'^# %% \[markdown\]\n"""\n(.*?)\n"""$', re.MULTILINE | re.DOTALL)
FENCED = re.compile(r"### BEGIN SOLUTION\n(.*?)\n\s*### END SOLUTION", re.DOTALL)


@pytest.fixture(scope="module", params=COURSE.modules, ids=lambda module: module.slug)
def lesson(request):
    """(source, cells of the page)"""
    module = request.param
    return COURSE.source(module).read_text(encoding="utf-8"), lessons.page(COURSE, module).cells


def folded(cell):
    return "hide-input" in cell.metadata.get("tags", ())


def test_every_markdown_cell_is_on_the_page_unchanged_but_for_links(lesson):
    source, cells = lesson
    plain = {re.sub(r"\[([^]]+)\]\(\d\d_\w+\.ipynb\)", r"\1", c.source) for c in cells if c.cell_type == "markdown"}
    texts = MARKDOWN.findall(source)
    assert len(texts) > 10
    assert [text for text in texts if text.strip("\n") not in plain] == []


def test_every_solution_is_folded_below_its_task(lesson):
    source, cells = lesson
    blanks = [FENCED.findall(text) for text in source.split("\n# %%") if FENCED.search(text)]
    found = [(cells[index - 1].source, cell.source) for index, cell in enumerate(cells) if folded(cell)]
    assert len(blanks) == len(found) > 3
    for solutions, (task, solved) in zip(blanks, found):
        assert task.count('raise NotImplementedError("module ') == len(solutions)
        head, _, code = task.partition("\n\n")
        lines = code.split("\n")
        marked = re.search(r"^:emphasize-lines: (.*)$", head, re.MULTILINE)[1].split(",")
        assert [lines[int(number) - 1].split("(")[0].strip() for number in marked] == [
            "raise NotImplementedError"
        ] * len(solutions)
        assert [solution for solution in solutions if solution in task or solution not in solved] == []


def test_no_directive_and_no_fence_is_shown(lesson):
    shown = [line for cell in lesson[1] for line in cell.source.splitlines()]
    assert [line for line in shown if DIRECTIVE.match(line) or FENCE.match(line)] == []


def test_a_page_begins_with_its_title_after_a_hidden_cell_and_has_no_other(lesson):
    hidden, first, *_ = lesson[1]
    assert hidden.metadata.tags == ["remove-cell"]
    assert first.source.startswith("# ")
    assert "\n| **You have** |" in first.source
    texts = (re.sub(r"^```.*?^```", "", c.source, flags=re.M | re.S) for c in lesson[1] if c.cell_type == "markdown")
    assert sum(len(re.findall(r"^# ", text, re.MULTILINE)) for text in texts) == 1


def test_a_page_is_run_again_when_a_lesson_before_it_changes(tmp_path):
    course = Course(tmp_path, COURSE.modules[:3], [])
    for module in course.modules:
        path = tmp_path / "modules" / module.slug / f"{module.slug}.py"
        path.parent.mkdir(parents=True)
        path.write_text("x = 1\n", encoding="utf-8")
    before = [lessons.preparation(course, module) for module in course.modules]
    course.source(course.modules[1]).write_text("x = 2\n", encoding="utf-8")
    after = [lessons.preparation(course, module) for module in course.modules]
    assert [a == b for a, b in zip(before, after)] == [True, True, False]


def test_a_mention_of_another_lesson_becomes_a_link_but_not_in_code_or_of_itself():
    module = COURSE.module("05")
    text = "Module 01 and `module 02`,\n```\nlesson 03\n```\nlesson 05, modules 01 to 04, lesson 99"
    assert lessons.linked(text, COURSE, module) == text.replace("Module 01", "[Module 01](01_tensor.ipynb)")


def test_writing_pages_leaves_alone_what_has_not_changed_and_removes_what_is_gone(tmp_path):
    course = Course(ROOT, COURSE.modules[:1], [])
    (tmp_path / "99_gone.ipynb").write_text("{}")
    lessons.write(course, tmp_path)
    path = tmp_path / "01_tensor.ipynb"
    assert list(tmp_path.iterdir()) == [path]
    written = path.stat().st_mtime_ns
    lessons.write(course, tmp_path)
    assert path.stat().st_mtime_ns == written


DOCSTRING = """What it does, with x * y and `Linear`.

x       (..., in)   what goes in
scale   a number,
        or `None`
a, b    (in, out)
returns (N,), of `x`
And the rest.

    y = 2 * x

A_b goes on
here."""
REST = r"""What it does, with x \* y and \ :py:obj:`Linear`\ .

.. list-table::
   :class: arguments

   * - ``x``
     - ``(..., in)`` what goes in
   * - ``scale``
     - a number, or \ :py:obj:`None`\
   * - ``a``, ``b``
     - ``(in, out)``
   * - ``returns``
     - ``(N,)``\ , of \ ``x``\

And the rest.

::

        y = 2 * x

A\_b goes on here.
"""


def test_a_docstring_becomes_paragraphs_tables_and_code():
    rest = "\n".join(reference.rest(DOCSTRING.split("\n"), known=("x",)))
    assert re.sub(r" +$", "", rest, flags=re.MULTILINE) == REST


def test_the_doors_lead_to_every_name_that_they_hold():
    page = reference.doors(COURSE)
    for door in COURSE.doors:
        assert f"## {door}\n" in page
    for name in ("Linear <tinytorch.core.layers.Linear>", "Adam <tinytorch.core.optimizers.Adam>"):
        assert f"{{py:obj}}`{name}`" in page


def test_the_reference_lists_every_module_that_lessons_export_to():
    listed = re.findall(r"^   (tinytorch\.\S+)$", (ROOT / "book/api/index.md").read_text("utf-8"), re.MULTILINE)
    made = [path for path in (ROOT / "tinytorch").rglob("*.py") if "from modules/" in path.read_text("utf-8")[:100]]
    names = (path.relative_to(ROOT).with_suffix("").parts for path in made)
    assert sorted(listed) == sorted(map(".".join, names))
