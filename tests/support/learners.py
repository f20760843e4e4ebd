"""Learners made of a few lines: they install the wheel and write the reference solutions into the blanks."""

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import jupytext

from support.stages import ROOT
from tito.lesson import FENCE, read_lesson


def solutions(course, module):
    """Of the lesson with its solutions: blank to source, fences left out."""
    lesson = read_lesson(course.source(module), module.slug)
    return {cell.grade_id: unfenced(cell.source) for cell in lesson.blanks}


def unfenced(source):
    return "\n".join(line for line in source.splitlines() if not FENCE.match(line))


def fill(path, wrote):
    """Write `wrote` (blank to source) into the lesson at `path`, as an editor would: only those cells change."""
    if path.suffix == ".py":
        book = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
        for cell in book.cells:
            cell.source = wrote.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
        path.write_text(jupytext.writes(book, fmt="py:percent"), encoding="utf-8")
    else:
        table = json.loads(path.read_text(encoding="utf-8"))
        for cell in table["cells"]:
            blank = cell["metadata"].get("nbgrader", {}).get("grade_id")
            if blank in wrote:
                cell["source"] = wrote[blank].splitlines(keepends=True)
        path.write_text(json.dumps(table, indent=1), encoding="utf-8")


def closure(names):
    """The installed distributions that `names` need, themselves included; extras are left out."""
    from importlib import metadata

    from packaging.requirements import Requirement

    found, waiting = {}, [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        if wanted.name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        found[wanted.name] = metadata.distribution(wanted.name)
        waiting += [Requirement(line) for line in found[wanted.name].requires or ()]
    return list(found.values())


def installed(folder):
    """A virtual environment with the wheel of this project and what that needs, and nothing else. Returns its programs.

    The wheel is built and installed; what it needs is linked from the environment of the tests.
    """
    wheels = folder / "wheels"
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    home = folder / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    programs = home / ("Scripts" if os.name == "nt" else "bin")
    scheme = {"base": str(home), "platbase": str(home)}
    packages = Path(sysconfig.get_path("purelib", "venv", scheme))
    with open(ROOT / "pyproject.toml", "rb") as file:
        needs = tomllib.load(file)["project"]["dependencies"]
    for distribution in closure(needs):
        for file in distribution.files:
            top, there = file.parts[0], Path(distribution.locate_file(file))
            if top != "..":
                link = packages / top
                if top != "__pycache__" and not link.exists():
                    link.symlink_to(Path(distribution.locate_file(top)))
            elif there.name.split(".")[0] == "ruff":  # a program, not a script
                (programs / there.name).symlink_to(there.resolve())
    into = ["--python", str(programs / "python"), "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *into, str(wheel)], check=True)
    return programs


class Learner:
    """Somebody at a terminal, with one environment and one workspace."""

    def __init__(self, programs, folder):
        self.programs, self.folder = programs, folder
        folder.parent.mkdir(parents=True, exist_ok=True)

    def types(self, *command, where=None):
        """The finished process of a command, run in the workspace."""
        program, *arguments = command
        environment = {"PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}", "HOME": str(self.folder.parent)}
        environment["OPENBLAS_NUM_THREADS"] = "1"
        return subprocess.run(
            [self.programs / program, *arguments],
            cwd=where or self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )
