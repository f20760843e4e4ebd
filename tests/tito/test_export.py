"""The exporter: from cells to files that read as if written by hand."""

import jupytext
import nbformat
import pytest

from tito.course import Course, CourseError
from tito.export import build, check, export
from tito.lesson import ExportError


@pytest.fixture
def course(root):
    return Course.load(root)


def files_of(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in (root / "tinytorch").rglob("*") if p.is_file()}


def test_a_file_is_header_docstring_imports_and_cells(course):
    assert build(course)["core/first.py"] == (
        "# Generated from modules/01_first/01_first.py by `tito export`. "
        "To change this file, edit the lesson and export again.\n"
        '"""Doubling."""\n'
        "\n"
        "import math\n"
        "\n"
        "\n"
        "def double(x):\n"
        '    """Twice x."""\n'
        "    doubled = 2 * x\n"
        "    return doubled\n"
        "\n"
        "\n"
        "def area(radius):\n"
        '    """Of a circle."""\n'
        "    return math.pi * radius**2\n"
    )


def test_the_door_shows_what_exists_at_the_stage(course):
    assert '__all__ = ["area", "double"]' in build(course, "01")["__init__.py"]
    assert '__all__ = ["area", "double", "quadruple"]' in build(course)["__init__.py"]


def test_a_stage_has_the_files_of_its_modules_only(course):
    assert set(build(course, "first")) == {"__init__.py", "core/__init__.py", "core/first.py"}


def test_two_exports_are_equal(course, tmp_path):
    export(course, to=tmp_path / "one")
    export(course, to=tmp_path / "two")
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_second_export_changes_nothing(course):
    assert sorted(export(course)) == ["__init__.py", "core/__init__.py", "core/first.py", "core/second.py"]
    assert export(course) == []


def test_a_notebook_exports_as_the_script_does(course, root):
    script = root / "modules/01_first/01_first.py"
    expected = build(course)
    notebook = jupytext.reads(script.read_text(), fmt="py:percent")
    script.unlink()
    nbformat.write(notebook, script.with_suffix(".ipynb"))
    assert build(course) == expected


def test_drift_is_found(course, root):
    export(course)
    assert check(course) == []
    (root / "tinytorch/core/first.py").write_text("changed")
    assert check(course) == ["core/first.py"]


def test_a_file_that_no_lesson_owns_any_more_drifts_and_is_removed(course, root, edit):
    export(course)
    edit("modules/04_second/04_second.py", "default_exp core.second", "default_exp core.third")
    edit("course.toml", '"core.second"', '"core.third"')
    course = Course.load(root)
    assert "core/second.py" in check(course)
    export(course)
    assert not (root / "tinytorch/core/second.py").exists()
    assert check(course) == []


def test_a_file_of_ones_own_in_the_package_is_kept(course, root):
    export(course)
    own = root / "tinytorch/mine.py"
    own.write_text("x = 1\n")
    export(course)
    assert own.read_text() == "x = 1\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    return doubled\n", "    return doubled)\n", r"01_first, code cell 3, line 6: unmatched '\)'"),
        ("#| default_exp core.first", "#| defualt_exp core.first", r"01_first, code cell 1, line 1: unknown directive"),
        ("def area(", "def double(", "01_first, code cell 3, line 10: double is defined twice"),
        ('"""Doubling."""\n', "", "the first cell that exports to core.first must begin with the file's docstring"),
        ("#| default_exp core.first", "", "code cell 2, line 1: export without a file"),
    ],
)
def test_a_lesson_that_cannot_be_exported_is_named_and_nothing_is_written(root, course, edit, old, new, message):
    export(course)
    before = files_of(root)
    edit("modules/01_first/01_first.py", old, new)
    with pytest.raises(ExportError, match=message):
        export(course)
    assert files_of(root) == before


def test_a_file_has_one_owner(course, edit):
    edit("modules/04_second/04_second.py", "default_exp core.second", "default_exp core.first")
    with pytest.raises(ExportError, match=r"core\.first already belongs to module 01_first"):
        build(course)


def test_an_export_that_dies_while_it_writes_leaves_whole_files(course, root, edit, monkeypatch):
    export(course)
    before = files_of(root)
    edit("modules/01_first/01_first.py", "=   2 * x", "= 3 * x")

    def die(*paths):
        raise OSError("the disk is gone")

    monkeypatch.setattr("os.replace", die)
    with pytest.raises(OSError, match="the disk is gone"):
        export(course)
    assert {file: text for file, text in files_of(root).items() if ".export-" not in file} == before


@pytest.mark.parametrize("name", [4, "4", "04", "04_second", "second"])
def test_a_module_has_many_names(course, name):
    assert course.module(name).slug == "04_second"


def test_a_wrong_name_is_answered_with_the_right_ones(course):
    with pytest.raises(CourseError, match="no module 'secnd'; did you mean second\\? There are: 01_first, 04_second"):
        course.module("secnd")


def test_outside_a_course_the_error_says_where_it_looked(tmp_path):
    with pytest.raises(CourseError, match=r"no course\.toml in .* or above it"):
        Course.find_root(tmp_path)


def test_module_numbers_rise(root, edit):
    edit("course.toml", "number = 4", "number = 1")
    with pytest.raises(CourseError, match="module numbers must rise, each used once"):
        Course.load(root)


def test_a_course_table_that_is_no_toml_is_refused(root):
    (root / "course.toml").write_text("[[module]\n")
    with pytest.raises(CourseError, match="does not describe a course"):
        Course.load(root)
