"""`tito watch`: check a lesson again whenever it is saved."""

import time
from pathlib import Path

from tito import state
from tito.console import note
from tito.course import Course, CourseError
from tito.lesson import ExportError
from tito.testing import check_module


def watch(course, module, select=None, limit=600):
    """Check now, and after every change of the lesson, until Ctrl-C.

    The folder is watched, not the file: editors save by putting a new file in the old one's place.
    """
    import watchfiles

    course.source(module)
    folder = course.root / "modules" / module.slug
    names = {f"{module.slug}.py", f"{module.slug}.ipynb"}
    changes = watchfiles.watch(
        folder,
        watch_filter=lambda change, path: Path(path).name in names,
        debounce=300,
        step=50,
        rust_timeout=800,
        yield_on_timeout=True,  # to look all the same: what was saved before the watch began, or where nothing is told
        raise_interrupt=False,
        recursive=False,
    )
    checked = once(course, module, select, limit)
    note(f"watching {folder.relative_to(course.root).as_posix()}; Ctrl-C ends it")
    for _ in changes:
        if fingerprint(course, module) not in (None, checked):  # a save that changes no code needs no checks
            note(f"\n{time.strftime('%H:%M:%S')}  saved")
            checked = once(Course.load(course.root), module, select, limit)


def fingerprint(course, module):
    try:
        return state.fingerprint(course, module)
    except (CourseError, OSError):
        return None


def once(course, module, select, limit):
    """Check, whatever comes of it. Returns what was checked."""
    checked = fingerprint(course, module)
    try:
        check_module(course, module, select, limit)
    except (CourseError, ExportError) as error:
        note(f"tito: {error}")
    return checked
