"""The course for nbgrader: source notebooks with a checked cell per blank, and what those cells run."""

import functools
import re
import tomllib
from pathlib import Path

from tito import files, material
from tito.checks import slug
from tito.console import note, say
from tito.course import Course, CourseError
from tito.lesson import ExportError, read_lesson

CONFIG = '''\
"""nbgrader's settings for this course. Written by `tito release --nbgrader`; change what you like."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "tinytorch"
c.ClearSolutions.code_stub = {"python": 'raise NotImplementedError("this blank is empty")'}
c.ExecutePreprocessor.timeout = 600  # seconds for one cell; the first checks of a lesson run them all
'''

HEADING = """\
## Checks

Save the notebook, then run these cells. Each one belongs to a blank. The checks run on a package made of this notebook,
as it was saved, and of the released lessons before it."""

CHECKS = """\
from tito.nbgrader import checks
checks("{module}", "{blank}", {names})"""


def release(folder, names=()):
    """Write the course into `folder`: source/NN_name/NN_name.ipynb for every lesson, or for those in `names`."""
    course = material.released()
    root = Path(folder).expanduser().resolve()
    if (root / "course.toml").exists():
        raise CourseError(f"{root} is a course of tito; name another folder for nbgrader's")
    modules = [course.module(name) for name in names] or course.modules
    for module in modules:
        home = root / "source" / module.slug
        files.write(home / f"{module.slug}.ipynb", source(course, module))
        for path in sorted(course.source(module).parent.iterdir()):
            if path.is_file() and path.suffix not in (".py", ".ipynb"):
                files.write(home / path.name, path.read_bytes())
    if not (root / "nbgrader_config.py").exists():
        files.write(root / "nbgrader_config.py", CONFIG)
    note(f"{len(modules)} lessons in {root / 'source'}")
    say(f"next: cd {folder} && nbgrader generate_assignment {modules[0].slug}")


def source(course, module):
    """The notebook of a lesson with its solutions, and at its end the checks of every blank, for points."""
    import nbformat

    path = course.source(module)
    book = nbformat.reads(material.notebook(path.read_text(encoding="utf-8"), module.slug), as_version=4)
    blanks = [cell.grade_id for cell in read_lesson(path, module.slug).blanks]
    known = checks_of(course, module)
    book.cells.append(nbformat.v4.new_markdown_cell(HEADING, id="checks"))
    for number, (blank, points) in enumerate(zip(blanks, share(module.points, len(blanks)), strict=True)):
        text = CHECKS.format(module=module.slug, blank=blank, names=known.get(blank, []))
        cell = nbformat.v4.new_code_cell(text, id=f"checks-{number}")
        cell.metadata["nbgrader"] = {
            "grade": True,
            "grade_id": f"{blank}-checks",
            "locked": True,
            "points": points,
            "schema_version": 3,
            "solution": False,
            "task": False,
        }
        book.cells.append(cell)
    return nbformat.writes(book) + "\n"


def share(points, parts):
    """`points` in `parts` whole numbers that differ by one at most; one each if there are too few."""
    points = max(points, parts)
    return [points * (i + 1) // parts - points * i // parts for i in range(parts)]


def checks_of(course, module):
    """For every blank, the checks that catch a mistake in it."""
    path = course.root / "tests" / "mistakes" / f"{module.slug}.toml"
    found = {}
    if path.is_file():
        for mistake in tomllib.loads(path.read_text(encoding="utf-8"))["mistake"]:
            if test := mistake.get("caught_by"):
                found.setdefault(mistake["blank"], set()).add(check_name(test))
    return {blank: sorted(names) for blank, names in found.items()}


def check_name(test):
    """`test_shapes.py::TestReshape::test_it` as `tito test` calls it: shapes.Reshape.it."""
    file, *classes, function = test.split("::")
    parts = [re.sub(r"^[Tt]est_?", "", part) for part in [*classes, function.split("[")[0]]]
    stem = re.sub(r"^test_", "", Path(file).stem)
    if stem != "progressive_integration" or not classes:
        parts.insert(0, stem)
    return slug(".".join(parts))


class Submitted(Course):
    """The released course with one lesson in place of its own."""

    path = slug = None

    def sources(self, module):
        return [self.path] if module.slug == self.slug else super().sources(module)


@functools.lru_cache(maxsize=1)
def _results(path, content):
    """Every check of the notebook at `path` (which holds `content`): its name, outcome and message."""
    from tito.testing import check_module

    course = Submitted.load(material.root())
    course.path, course.slug = path, path.stem
    code, result = check_module(course, course.module(path.stem), as_json=True, remember=False)
    if result["problem"]:
        raise AssertionError(result["problem"])
    first = result["first_failure"]
    return {check["id"]: check["outcome"] for check in result["checks"]}, first


def checks(module, blank, names, folder="."):
    """AssertionError unless all of `names` (none: all there are) pass on the notebook of `module` in `folder`."""
    path = Path(folder).resolve() / f"{module}.ipynb"
    content = path.read_bytes()
    try:
        outcomes, first = _results(path, content)
    except ExportError as error:
        raise AssertionError(str(error)) from None
    wanted = names or list(outcomes)
    failed = [name for name in wanted if outcomes.get(name, "failed") == "failed"]
    if failed:
        message = f"{blank}: {len(failed)} of {len(wanted)} checks failed: {', '.join(failed[:5])}"
        if first and first["check"].startswith(failed[0]):
            message += f"\n{first['type']}: {first['message']}"
        raise AssertionError(message)
    if all(outcomes[name] == "skipped" for name in wanted):
        raise AssertionError(f"{blank}: its checks were skipped")
