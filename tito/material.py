"""The released course, of which workspaces are made: packed beside this file in a wheel, around it in a clone."""

import hashlib
from pathlib import Path

from tito.course import Course, CourseError
from tito.lesson import CODE_HEADER, emptied, import_jupytext

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
FIRST_CELL = """\
# %%
# From here on, `import tinytorch` means the package in this workspace: the one you write. If there is no `tito` here,
# choose as kernel the Python into which you installed it.
import tito.here

"""


def root():
    """The folder of the released course."""
    here = Path(__file__).resolve().parent
    for folder in (here / "course", here.parent):
        if (folder / "course.toml").is_file() and (folder / "modules").is_dir():
            return folder
    raise CourseError(f"this installation of tito ({here}) holds no lessons; install it again")


def released():
    """The released course."""
    return Course.load(root())


def version():
    """What distinguishes this release from others."""
    digest = hashlib.sha256()
    for path in parts(root()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def parts(folder):
    """All files that belong to a release, in order."""
    yield folder / "course.toml"
    for part in ("modules", "milestones", "tests"):
        for path in sorted((folder / part).rglob("*")):
            if path.is_file() and not any(p.startswith((".", "__pycache__")) for p in path.relative_to(folder).parts):
                yield path


def handed_out(module):
    """The lesson as a percent script with its blanks empty."""
    course = released()
    text = emptied(course.source(module).read_text(encoding="utf-8"), module.number)
    lines = text.splitlines(keepends=True)
    first = next(number for number, line in enumerate(lines) if CODE_HEADER.match(line))
    return "".join([*lines[:first], FIRST_CELL, *lines[first:]])


def notebook(text, slug):
    """A percent script as the text of a notebook: the same one every time."""
    jupytext = import_jupytext()
    import nbformat

    made = jupytext.reads(text, fmt="py:percent")
    made.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    made.nbformat, made.nbformat_minor = 4, 5
    for position, cell in enumerate(made.cells):
        cell.metadata.pop("cell_marker", None)
        cell.id = hashlib.sha256(f"{slug}:{position}".encode()).hexdigest()[:12]
    return nbformat.writes(made) + "\n"
