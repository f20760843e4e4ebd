"""A learner's workspace: made, filled lesson by lesson, kept safe, brought up to date."""

import ast
import hashlib
import importlib.util
import json
import os
import re
import sys
import time
from pathlib import Path

from tito import files, material, notebook, state, templates
from tito.console import note, plain, say, style
from tito.course import Course, CourseError
from tito.lesson import FENCE, left_to_write, read_lesson
from tito.lock import lock

# for tests of the course
LEFT_OUT = {f"tests/support/{name}.py" for name in ("forks", "learners", "messages", "mistakes", "stages")}
TAUGHT = re.compile(r"(milestones/|tests/(conftest\.py$|support/|\d\d_))")


def contents(root):
    """What a workspace at `root` holds before anything is written in it: path within it to content."""
    table = (material.root() / "course.toml").read_text(encoding="utf-8")
    made = {}
    for path in material.parts(material.root()):
        name = path.relative_to(material.root()).as_posix()
        if TAUGHT.match(name) and name not in LEFT_OUT:
            made[name] = path.read_bytes()
            if name.startswith("milestones/") and path.suffix == ".py":
                made[name] = at_home(made[name].decode("utf-8")).encode()
    made["pytest.ini"] = templates.PYTEST.encode()
    made["conftest.py"] = templates.CONFTEST.encode()
    made["README.md"] = templates.README.encode()
    made[".vscode/settings.json"] = templates.SETTINGS.replace("@python@", json.dumps(sys.executable)).encode()
    made[".env"] = f"PYTHONPATH={root}\n".encode()
    head = "# The course of this workspace. tito update writes it anew.\n"
    made["course.toml"] = f'{head}workspace = "{material.version()}"\n\n{table}'.encode()  # last: it makes the rest one
    return made


def at_home(script):
    """A milestone's script that uses the package of its workspace, however it is started."""
    tree = ast.parse(script)
    first = next(n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom) and not _of_future(n))
    lines = script.splitlines(keepends=True)
    lines.insert(first.lineno - 1, templates.AT_HOME)
    return "".join(lines)


def _of_future(node):
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def digest(content):
    return hashlib.sha256(content).hexdigest()


def init(target):
    """Make a workspace in the folder `target`, which is new or empty."""
    root = Path(target).expanduser().resolve()
    unfinished = root / ".tito" / "unfinished"
    if (root / "course.toml").is_file() and not unfinished.is_file():
        raise CourseError(f"{root} is a course already; to bring it up to date, run there: tito update")
    if root.exists() and not root.is_dir():
        raise CourseError(f"{root} is a file; name a folder")
    if root.is_dir() and not unfinished.is_file() and any(root.iterdir()):
        raise CourseError(f"{root} is not empty; name a new folder")
    made = contents(root)
    files.sweep(root)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    (root / "modules").mkdir(exist_ok=True)
    if not (root / "tinytorch" / "__init__.py").exists():
        files.write(root / "tinytorch" / "__init__.py", templates.PACKAGE)
    for name, content in made.items():
        files.write(root / name, content, durable=False)
    remember_contents(root, made)
    unfinished.unlink()
    note(f"{root} is ready: {len(material.released().modules)} lessons to come")
    say(f"next: cd {target} && tito start {material.released().modules[0].id}")


def remember_contents(root, made):
    table = {name: digest(content) for name, content in made.items()}
    files.write(root / ".tito" / "contents.json", json.dumps(table, indent=1) + "\n")


def own(course):
    """CourseError unless this is a workspace."""
    if not course.workspace:
        raise CourseError(f"{course.root} holds the lessons themselves; make a workspace of your own: tito init DIR")


def released(course, module):
    """The lesson as it was handed out in this workspace."""
    path = course.root / ".tito" / "released" / f"{module.slug}.py"
    if not path.is_file():
        with lock(course.root, f"read {module.slug}", note=note):
            files.write(path, material.handed_out(module))
    return path


def sound(course, module):
    """Check that the lesson is there and whole, and those before it that changed since they were completed."""
    known = state.load(course)
    for each in course.upto(module.slug):
        if each == module or state.standing(course, each, known) != "completed":
            whole(course, each)
            remember_whole(course, each)


def whole(course, module):
    """Check that the lesson is there and whole; where it is there in two forms, say which counts."""
    path, *older = course.sources(module) or [course.source(module)]
    if older:
        note(f"{notebook.place(path, course.root)} counts: it was saved later than {older[0].name}")
    script = released(course, module)
    handed = script.with_suffix(".ipynb")  # the same, quicker to read
    if not handed.is_file() or handed.stat().st_mtime_ns < script.stat().st_mtime_ns:
        with lock(course.root, f"read {module.slug}", note=note):
            files.write(handed, material.notebook(script.read_text(encoding="utf-8"), module.slug), durable=False)
    notebook.sound(course, module, handed)


def remember_whole(course, module):
    """Keep the lesson as it is: should an editor or a full disk damage it, there is something to restore."""
    path = course.source(module)
    copy = course.root / ".tito" / "backups" / files.LAST / path.relative_to(course.root)
    if differs(path, copy):
        with lock(course.root, f"keep {module.slug}", note=note):
            files.write(copy, path.read_bytes(), durable=False)


def unwritten(course, module):
    """What is still to be written: blank to the names in it."""
    found = {cell.grade_id: left_to_write(cell.body) for cell in read_lesson(course.source(module), module.slug).blanks}
    return {blank: names for blank, names in found.items() if names}


def list_unwritten(course, module):
    """Name the blanks that are still empty. Returns how many."""
    found = unwritten(course, module)
    if found:
        note(f"still to write in {module.slug}:")
        for blank, names in found.items():
            note(f"  {blank}: {', '.join(names)}")
    return len(found)


def environment(course):
    """For a process in which `tinytorch` is to be the workspace's."""
    others = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p != str(course.root)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(course.root), *others])}


def settle(course):
    """Write .env anew if the workspace was moved; other lines in it stay."""
    if not settled(course):
        path = course.root / ".env"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
        others = [line for line in lines if not line.startswith("PYTHONPATH=")]
        files.write(path, "".join([f"PYTHONPATH={course.root}\n", *others]))


def settled(course):
    """Whether .env names this folder."""
    path = course.root / ".env"
    return path.is_file() and f"PYTHONPATH={course.root}" in path.read_text(encoding="utf-8").splitlines()


def start(course, name, form=None):
    """Put a lesson into the workspace, unless it is there. Returns its path."""
    own(course)
    module = course.module(name)
    with lock(course.root, f"start {module.slug}", note=note):
        settle(course)
        if first := state.waits_for(course, module, state.load(course)):
            raise CourseError(f"{module.slug} comes after {first.slug}; finish that first: tito complete {first.id}")
        if course.workspace != material.version():
            note("another version of the course is installed than this workspace was made from; run: tito update")
        found = course.sources(module)
        folder = course.root / "modules" / module.slug
        path = folder / f"{module.slug}.{form or 'ipynb'}"
        if not found:
            text = material.handed_out(module)
            beside = material.released().source(module).parent
            for each in sorted(beside.iterdir()):
                if each.is_file() and each.suffix not in (".py", ".ipynb"):
                    files.write(folder / each.name, each.read_bytes())
            files.write(course.root / ".tito" / "released" / f"{module.slug}.py", text)
            files.write(path, text if form == "py" else material.notebook(text, module.slug))
            note(f"{module.slug}: {module.title}")
        elif form is None or found[0] == path:
            path = found[0]
            note(f"{module.slug} is there already, and stays as it is")
        else:
            whole(course, module)
            text = found[0].read_text(encoding="utf-8")
            if path.is_file():
                keep(course, [path])
            if form == "py":
                book = notebook.read(text, script=False)
                book.metadata["jupytext"] = {"cell_markers": '"""'}
                files.write(path, notebook.written(book, script=True))
            else:
                files.write(path, material.notebook(text, module.slug))
            note(f"{path.name} holds what was in {found[0].name}, and counts from now on")
    return path


def keep(course, paths):
    """A backup of `paths`, and a word about it."""
    made = files.keep(course.root, paths)
    if made:
        note(f"kept: {made.relative_to(course.root).as_posix()} ({', '.join(path.name for path in paths[:3])})")
    return made


def has_lab():
    return importlib.util.find_spec("jupyterlab") is not None


def open_lab(course, path):
    """JupyterLab on a lesson, its kernels with the workspace's package. Returns its exit code."""
    import subprocess

    if not has_lab():
        note("tito: JupyterLab is not installed; install it with: python -m pip install jupyterlab")
        return 3
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={course.root}", str(path)]
    return subprocess.run(command, cwd=course.root, env=environment(course)).returncode


def complete(course, name, limit=600):
    """Check a lesson and add it to the workspace's package. Returns the exit code."""
    from tito import testing

    own(course)
    module = course.module(name)
    if first := state.waits_for(course, module, state.load(course)):
        raise CourseError(f"{module.slug} comes after {first.slug}; finish that first: tito complete {first.id}")
    sound(course, module)
    if list_unwritten(course, module):
        return testing.FAILED
    before = {m.slug: state.fingerprint(course, m) for m in course.upto(module.slug)}
    code, result = testing.check_module(course, module, None, limit)
    if code:
        note(f"{module.slug} is not complete yet")
        return code
    with lock(course.root, f"complete {module.slug}", note=note):
        if before != {m.slug: state.fingerprint(course, m) for m in course.upto(module.slug)}:
            note(f"a lesson changed while its checks ran; run again: tito complete {module.id}")
            return testing.FAILED
        known = state.load(course)
        done = [m.slug for m in course.modules if m.slug in known.get("completed", {})]
        last = max([*done, module.slug])
        changed = export(course, last)
        files.keep(course.root, [course.source(module)])
        entry = {"lesson": before[module.slug], "time": time.strftime("%Y-%m-%d %H:%M"), "checks": result["passed"]}
        state.update(course, lambda s: s.setdefault("completed", {}).__setitem__(module.slug, entry))
        prove(course)
    say(f"{module.slug} is complete: {len(changed)} files of your package changed")
    after = next((m for m in course.modules if m.number > module.number), None)
    reached = {m.number for m in course.modules if m.slug in {*done, module.slug}}
    for entry in course.milestones:
        if module.number in entry.needs and set(entry.needs) <= reached:
            say(f"milestone {entry.slug} is open: tito milestone run {entry.id}")
    say(f"next: tito start {after.id}" if after else "next: tito milestone list")
    return testing.PASSED


def export(course, upto=None):
    """Write the workspace's package; what was edited in it by hand is kept in a backup. Returns the changed files."""
    from tito import export as exporter

    with lock(course.root, "export", note=note):
        built = exporter.build(course, upto)
        folder = course.root / "tinytorch"
        known = state.load(course).get("exported", {})
        edited = []
        for file, wrote in known.items():
            path, wanted = folder / file, digest(exporter.as_bytes(built.get(file, b"")))
            if path.is_file() and digest(path.read_bytes()) not in (wrote, wanted):
                edited.append(path)
        if edited:
            note("these files of tinytorch/ were edited by hand, and come from your lessons again:")
            keep(course, edited)
        changed = exporter.export(course, upto, built=built)
        wrote = {file: digest(exporter.as_bytes(content)) for file, content in built.items()}
        state.update(course, lambda s: s.__setitem__("exported", wrote))
        return changed


def prove(course):
    """ExportError unless Python, started in the workspace, imports the workspace's package."""
    from tito.doctor import PACKAGE, ask
    from tito.lesson import ExportError

    answer, problem = ask(PACKAGE, course.root)
    if problem:
        raise ExportError(f"your package cannot be imported: {problem}")
    if not Path(answer["file"]).resolve().is_relative_to(course.root.resolve()):
        raise CourseError(f"python imports {answer['file']}, not the tinytorch of this workspace; run: tito doctor")


def diff(course, name):
    """Print the work in a lesson beside the lesson as handed out. Returns 0; like `git diff`, nothing means equal."""
    own(course)
    module = course.module(name)
    path = course.source(module)
    notebook.readable(course, module, path)
    base = notebook.read(released(course, module).read_text(encoding="utf-8"), script=True)
    mine = notebook.read(path.read_text(encoding="utf-8"), path.suffix == ".py")
    colours = {"+": "green", "-": "red", "@": "dim"}
    lines = list(notebook.difference(base, mine))
    for line in lines:
        say(style(plain(line), colours.get(line[0])))
    if not lines:
        note(f"{module.slug} is as it was handed out")


def reset(course, name, blank=None, given=False):
    """A lesson as handed out: all of it, one blank, or what is given around the blanks. What was there is kept."""
    own(course)
    module = course.module(name)
    path = course.source(module)
    with lock(course.root, f"reset {module.slug}", note=note):
        text = released(course, module).read_text(encoding="utf-8")
        script = path.suffix == ".py"
        if blank is None and not given:
            text = material.handed_out(module)
            keep(course, course.sources(module))
            files.write(path, text if script else material.notebook(text, module.slug))
            files.write(course.root / ".tito" / "released" / f"{module.slug}.py", text)
            for older in course.sources(module)[1:]:
                older.unlink()
            note(f"{module.slug} is as it was handed out")
            return
        names = [cell.grade_id for cell in read_lesson(released(course, module), module.slug).blanks]
        if blank is not None and blank not in names:
            raise CourseError(f"module {module.slug} has no blank {blank!r}. There are: {', '.join(names)}")
        notebook.readable(course, module, path)
        keep(course, [path])
        told = rewrite(path, text, text, module.slug, [blank] if blank else [])
        for line in told:
            note(line)
        note(f"{blank} is empty again" if blank else "what is given is as it was handed out")


def rewrite(path, base, new, slug, anew=()):
    """Join the work in the lesson at `path` with the lesson `new`, and write it. Returns what to tell."""
    script = path.suffix == ".py"
    mine = notebook.read(path.read_text(encoding="utf-8"), script)
    fresh = notebook.read(new if script else material.notebook(new, slug), script)
    made, told = notebook.merged(mine, notebook.read(base, True), fresh, anew)
    files.write(path, notebook.written(made, script))
    return told


def work(course):
    """All files that hold a learner's work."""
    found = [path for module in course.modules for path in course.sources(module)]
    found += sorted(p for p in (course.root / "tinytorch").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return [*found, course.root / ".tito" / "state.json"]


def backup(course):
    """Keep a copy of all work."""
    own(course)
    with lock(course.root, "backup", note=note):
        made = files.keep(course.root, work(course))
    say(made.relative_to(course.root).as_posix())


def restore(course, name=None, stamp=None):
    """Bring back one lesson, or all work, from the last backup that differs, or from the one named."""
    own(course)
    module = course.module(name) if name else None
    with lock(course.root, "restore", note=note):
        kept = files.backups(course.root, f"modules/{module.slug}" if module else ".")
        if stamp is not None:
            kept = [folder for folder in kept if folder.name == stamp]
            if not kept:
                raise CourseError(f"there is no backup {stamp!r}; tito restore --list shows those there are")
        for folder in reversed(kept):
            part = folder / "modules" / module.slug if module else folder
            copies = [p for p in sorted(part.rglob("*")) if p.is_file()] if part.is_dir() else []
            changed = [p for p in copies if differs(p, course.root / p.relative_to(folder))]
            if not changed:
                continue
            keep(course, [course.root / p.relative_to(folder) for p in changed])
            for copy in changed:
                files.write(course.root / copy.relative_to(folder), copy.read_bytes())
                say(copy.relative_to(folder).as_posix())
            note(f"restored from {folder.relative_to(course.root).as_posix()}")
            return
    what = f" of {module.slug}" if module else ""
    raise CourseError(f"no backup{what} differs from what is there")


def differs(one, other):
    return not other.is_file() or one.read_bytes() != other.read_bytes()


def list_backups(course):
    own(course)
    for folder in files.backups(course.root):
        held = sorted(p for p in folder.rglob("*") if p.is_file())
        names = [p.relative_to(folder).as_posix() for p in held]
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        say(f"{folder.name}  {', '.join(names[:2])}{more}")


def solution(course, name, blank=None, give_up=False):
    """Print the solutions of a lesson, or of one blank."""
    module = course.module(name)
    original = material.released()
    lesson = read_lesson(original.source(original.module(module.slug)), module.slug)
    cells = {cell.grade_id: cell for cell in lesson.blanks}
    if blank is not None and blank not in cells:
        raise CourseError(f"module {module.slug} has no blank {blank!r}. There are: {', '.join(cells)}")
    if course.workspace:
        known = state.load(course)
        passed = known.get("tests", {}).get(module.slug, {}).get("exit_code") == 0
        if not passed and module.slug not in known.get("completed", {}):
            if not give_up:
                hint = f"tito hint {module.id} {blank or next(iter(cells))}"
                raise CourseError(
                    f"the checks of {module.slug} have not all passed. For a hint: {hint}. "
                    f"To see the solution all the same, which is noted: tito solution {module.id}"
                    f"{f' {blank}' if blank else ''} --give-up"
                )
            now = time.strftime("%Y-%m-%d %H:%M")
            seen = [f"{module.slug}/{each}" for each in ([blank] if blank else cells)]
            state.update(course, lambda s: s.setdefault("gave_up", {}).update(dict.fromkeys(seen, now)))
            note("noted; tito status counts the solutions you have seen")
    for id, cell in cells.items():
        if blank in (None, id):
            say(style(f"# {id}", "bold"))
            say("\n".join(line for line in cell.body.splitlines() if not FENCE.match(line)).strip("\n"))
            say()


def update(course):
    """Bring a newer course into the workspace, and keep the work in it."""
    own(course)
    with lock(course.root, "update", note=note):
        settle(course)
        made = contents(course.root)
        try:
            before = json.loads((course.root / ".tito" / "contents.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = {}
        changed = []
        for name, content in made.items():
            path = course.root / name
            if not path.is_file() or path.read_bytes() != content:
                changed.append(name)
        gone = [name for name in before if name not in made and (course.root / name).is_file()]
        touched = [n for n in [*changed, *gone] if (course.root / n).is_file()
                   and digest((course.root / n).read_bytes()) != before.get(n)]  # fmt: skip
        settings = {
            n for n in touched if not TAUGHT.match(n) and n != "course.toml" and n in before
        }  # stay as they are
        mine = [course.root / n for n in touched if n not in settings]
        lessons, table = [], Course.load(material.root())
        for module in table.modules:
            base = course.root / ".tito" / "released" / f"{module.slug}.py"
            if course.sources(module) and base.is_file():
                new = material.handed_out(module)
                if new != base.read_text(encoding="utf-8"):
                    whole(course, module)
                    lessons.append((module, course.source(module), base, new))
        keep(course, [*mine, *(path for _, path, _, _ in lessons)])
        for module, path, base, new in lessons:
            for line in rewrite(path, base.read_text(encoding="utf-8"), new, module.slug):
                note(f"{module.slug}: {line}")
            files.write(base, new)
            say(f"modules/{module.slug} has the new lesson, with your work")
        for name in changed:
            if name not in settings and name != "course.toml":
                files.write(course.root / name, made[name])
        for name in gone:
            (course.root / name).unlink()
        remember_contents(course.root, made)
        if "course.toml" in changed:
            files.write(course.root / "course.toml", made["course.toml"])
        for name in sorted(settings):
            note(f"{name} stays as you changed it")
        say(f"{len(lessons)} lessons and {len([*changed, *gone]) - len(settings)} other files are new")
