"""The course as `course.toml` describes it: modules, milestones, doors, and where their files lie."""

import difflib
import itertools
import tomllib
from dataclasses import dataclass, field
from pathlib import Path


class CourseError(Exception):
    """The course table is missing or wrong, or has no such module or milestone."""


@dataclass(frozen=True)
class Entry:
    number: int
    name: str
    title: str

    @property
    def id(self):
        return f"{self.number:02d}"

    @property
    def slug(self):
        return f"{self.id}_{self.name}"


@dataclass(frozen=True)
class Module(Entry):
    points: int = 0


@dataclass(frozen=True)
class Milestone(Entry):
    needs: tuple = ()


@dataclass
class Course:
    root: Path
    modules: list
    milestones: list
    doors: dict = field(default_factory=dict)
    workspace: str | None = None  # in a learner's workspace: the release that it was made from

    @staticmethod
    def find_root(start="."):
        """The nearest folder at or above `start` that holds a course.toml."""
        start = Path(start).resolve()
        for folder in (start, *start.parents):
            if (folder / "course.toml").is_file():
                return folder
        raise CourseError(
            f"no course.toml in {start} or above it; change into your workspace, or make one: tito init DIR"
        )

    @classmethod
    def load(cls, root):
        path = Path(root) / "course.toml"
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            modules = [Module(**entry) for entry in table["module"]]
            milestones = [
                Milestone(**{**entry, "needs": tuple(entry.get("needs", ()))}) for entry in table.get("milestone", [])
            ]
        except FileNotFoundError:
            raise CourseError(f"{path} is missing") from None
        except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
            raise CourseError(f"{path} does not describe a course: {error}") from None
        if [m.number for m in modules] != sorted({m.number for m in modules}):
            raise CourseError(f"{path}: module numbers must rise, each used once")
        return cls(Path(root), modules, milestones, table.get("doors", {}), table.get("workspace"))

    def module(self, name):
        """The module meant by 5, "5", "05", "05_autograd" or "autograd"."""
        return _find("module", name, self.modules)

    def milestone(self, name):
        """The milestone meant by 3, "03", "03_1986_mlp" or "1986_mlp"."""
        return _find("milestone", name, self.milestones)

    def sources(self, module):
        """The lesson's files, percent script or notebook or both, the one saved last at the front."""
        folder = self.root / "modules" / module.slug
        found = [path for path in (folder / f"{module.slug}{end}" for end in (".py", ".ipynb")) if path.is_file()]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)

    def source(self, module):
        """The lesson's file: percent script or notebook, whichever was saved last."""
        found = self.sources(module)
        if found:
            return found[0]
        if self.workspace:
            raise CourseError(f"lesson {module.slug} is not in this workspace yet; run: tito start {module.id}")
        raise CourseError(f"module {module.slug} has no lesson in {self.root / 'modules' / module.slug}")

    def upto(self, name=None):
        """The modules up to and including `name`; without a name all, or in a workspace those that have begun."""
        if name is None and self.workspace:
            return list(itertools.takewhile(self.sources, self.modules))
        last = self.modules[-1].number if name is None else self.module(name).number
        return [m for m in self.modules if m.number <= last]


def _find(kind, name, entries):
    text = str(name)
    for entry in entries:
        if text in (entry.slug, entry.name) or (text.isdigit() and int(text) == entry.number):
            return entry
    names = [entry.slug for entry in entries]
    close = difflib.get_close_matches(text, names + [entry.name for entry in entries], n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    raise CourseError(f"no {kind} {text!r}{hint} There are: {', '.join(names)}")
