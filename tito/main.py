"""`tito`: the course from the command line. Heavy imports wait until a command needs them."""

import enum
import errno
import json
import os
import re
import sys
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="TinyTorch: a deep-learning framework that you write yourself.",
)


def _course():
    from tito.course import Course

    return Course.load(Course.find_root())


def _modules(incomplete: str):
    """For completion in the shell."""
    from tito.course import CourseError

    try:
        names = [module.id for module in _course().modules]
    except CourseError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def _blanks(context: typer.Context, incomplete: str):
    """For completion in the shell: the blanks of the module that stands before."""
    from tito.course import CourseError

    try:
        course = _course()
        text = course.source(course.module(context.params["module"])).read_text(encoding="utf-8")
    except (CourseError, KeyError, OSError, ValueError):
        return []
    ids = re.findall(r'"grade_id": "([\w-]+)"', text)
    return [id for id in ids if id.startswith(incomplete)]


MODULE = typer.Argument(help="11, 11_embeddings or embeddings.", autocompletion=_modules)


def _version(value: bool):
    if value:
        from tito import __version__

        print(f"tito {__version__}")
        raise typer.Exit()


@app.callback()
def _main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
):
    pass


@app.command(name="test")
def check(
    module: str = typer.Argument(None, help="11, 11_embeddings or embeddings.", autocompletion=_modules),
    everything: bool = typer.Option(False, "--all", help="Every module, in order."),
    select: str = typer.Option(None, "-k", metavar="CHECK", help="Only this check, or all whose names hold the words."),
    limit: float = typer.Option(600, "--limit", metavar="SECONDS", min=1, help="Stop a module's checks after this."),
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of lines."),
):
    """Check a lesson: its package is built from your lessons, and from nothing else."""
    from tito import testing

    if (module is None) == (not everything) or (everything and select):
        raise typer.BadParameter("name one module, as in tito test 04, or write --all, which takes no -k")
    course = _course()
    if everything:
        code, results = testing.check_all(course, limit, as_json)
        document = {"schema": "tito.test/1", "exit_code": code, "modules": results}
    else:
        code, document = testing.check_module(course, course.module(module), select, limit, as_json)
        if course.workspace and not as_json:
            from tito import workspace

            if not workspace.list_unwritten(course, course.module(module)) and code == 0 and select is None:
                print(f"next: tito complete {course.module(module).id}", file=sys.stderr)
    if as_json:
        print(json.dumps(document, indent=2))
    raise typer.Exit(code)


@app.command()
def init(folder: str = typer.Argument(metavar="DIR", help="A new or empty folder.")):
    """Make a workspace: a folder of your own to learn in."""
    from tito import workspace

    workspace.init(folder)


class Form(enum.StrEnum):
    py = "py"
    ipynb = "ipynb"


@app.command()
def start(
    module: str = MODULE,
    lab: bool = typer.Option(None, "--lab/--no-open", help="Open JupyterLab, or just say where the lesson is."),
    form: Annotated[Form, typer.Option("--as", help="A notebook, or a Python script.")] = None,
):
    """Begin a lesson, or come back to it. What is there is never overwritten."""
    from tito import workspace

    course = _course()
    path = workspace.start(course, module, form and form.value)
    print(path.relative_to(course.root).as_posix())
    if lab is None:
        lab = path.suffix == ".ipynb" and sys.stdout.isatty() and sys.stdin.isatty() and workspace.has_lab()
    if lab:
        raise typer.Exit(workspace.open_lab(course, path))


@app.command()
def complete(
    module: str = MODULE,
    limit: float = typer.Option(600, "--limit", metavar="SECONDS", min=1, help="Stop the checks after this."),
):
    """Check a lesson, add it to your package, and open the next one."""
    from tito import workspace

    raise typer.Exit(workspace.complete(_course(), module, limit))


@app.command()
def watch(
    module: str = MODULE,
    select: str = typer.Option(None, "-k", metavar="CHECK", help="Only this check, or all whose names hold the words."),
    limit: float = typer.Option(600, "--limit", metavar="SECONDS", min=1, help="Stop the checks after this."),
):
    """Check a lesson now, and again whenever it is saved, until Ctrl-C."""
    from tito import watching

    course = _course()
    watching.watch(course, course.module(module), select, limit)


@app.command()
def diff(module: str = MODULE):
    """Your work beside the lesson as it was handed out."""
    from tito import workspace

    workspace.diff(_course(), module)


@app.command()
def solution(
    module: str = MODULE,
    blank: str = typer.Argument(None, help="Only this blank.", autocompletion=_blanks),
    give_up: bool = typer.Option(False, "--give-up", help="Before the checks have passed; it is noted."),
):
    """The solutions of a lesson, once its checks have passed."""
    from tito import workspace

    workspace.solution(_course(), module, blank, give_up)


@app.command()
def reset(
    module: str = MODULE,
    blank: str = typer.Argument(None, help="Only this blank.", autocompletion=_blanks),
    given: bool = typer.Option(False, "--given", help="Only what is given around the blanks."),
):
    """A lesson as it was handed out; what was there is kept in a backup."""
    from tito import workspace

    if blank and given:
        raise typer.BadParameter("name a blank, or write --given")
    workspace.reset(_course(), module, blank, given)


@app.command()
def backup():
    """Keep a copy of your lessons and your package."""
    from tito import workspace

    workspace.backup(_course())


@app.command()
def restore(
    module: str = typer.Argument(None, help="Only this lesson.", autocompletion=_modules),
    stamp: str = typer.Option(None, "--from", metavar="NAME", help="This backup, not the last one that differs."),
    listed: bool = typer.Option(False, "--list", help="Show the backups there are."),
):
    """Bring work back from a backup; what is there now is kept in another."""
    from tito import workspace

    if listed:
        workspace.list_backups(_course())
    else:
        workspace.own(_course())
        workspace.restore(_course(), module, stamp)


@app.command()
def update():
    """Bring the installed version of the course into this workspace; your work stays."""
    from tito import workspace

    workspace.update(_course())


@app.command()
def hint(
    module: str = MODULE,
    blank: str = typer.Argument(
        None, help="The blank, as tito test names it; without it, all are listed.", autocompletion=_blanks
    ),
):
    """One more hint for a blank, each time you ask."""
    from tito import learner

    learner.hint(_course(), module, blank)


@app.command()
def export(
    check: bool = typer.Option(False, "--check", help="Change nothing; fail if package and lessons differ."),
    upto: str = typer.Option(None, metavar="MODULE", help="Only the modules up to this one."),
    to: str = typer.Option(None, metavar="DIR", help="Write tinytorch into this folder instead of the course's own."),
):
    """Write the package that the lessons describe."""
    from tito import export as exporter

    course = _course()
    if check:
        drifted = exporter.check(course, upto)
        for file in drifted:
            print(f"differs: tinytorch/{file}")
        if drifted:
            print("the package differs from the lessons; run tito export", file=sys.stderr)
            raise typer.Exit(1)
        print("the package is what the lessons say")
        return
    if upto and not to and course.module(upto) not in (course.modules[-1], *course.upto()[-1:]):
        raise typer.BadParameter("--upto would remove the later modules from the course's own package; say --to DIR")
    if course.workspace and not to:
        from tito import workspace

        changed = workspace.export(course, upto)
        for each in course.upto(upto):
            workspace.list_unwritten(course, each)
    else:
        from tito.lock import lock

        with lock(course.root, "export"):
            changed = exporter.export(course, upto, to)
    print(f"{len(changed)} files changed" if changed else "nothing to change")


@app.command()
def release(
    folder: str = typer.Option(..., "--nbgrader", metavar="DIR", help="The folder of nbgrader's course."),
    modules: Annotated[list[str], typer.Argument(help="Only these lessons.", autocompletion=_modules)] = None,
):
    """Write the lessons for instructors, as a course that nbgrader takes."""
    from tito import nbgrader

    nbgrader.release(folder, modules or ())


@app.command(name="list")
def list_():
    """The modules and milestones of the course."""
    from tito.console import table

    course = _course()
    table([(entry.slug, entry.title) for entry in course.modules], "module", "")
    print()
    table([(entry.slug, entry.title) for entry in course.milestones], "milestone", "")


@app.command()
def status():
    """Where you are, what is next, and which milestones are open."""
    from tito import learner

    learner.status(_course())


@app.command()
def doctor():
    """What this machine has, and what to do about what it lacks."""
    from tito import doctor as physician
    from tito.console import table
    from tito.course import Course, CourseError

    try:
        course = Course.load(Course.find_root())
    except CourseError:
        course = None
    lines = list(physician.examine(course))
    table([((state, physician.STYLES[state]), what, found) for state, what, found, _ in lines])
    advice = [(what, remedy) for state, what, _, remedy in lines if state != physician.OK and remedy]
    if advice:
        print("\nwhat to do")
        table(advice)
    raise typer.Exit(3 if any(state == physician.FAIL for state, *_ in lines) else 0)


milestone = typer.Typer(no_args_is_help=True, help="Replay history on your own package.")
app.add_typer(milestone, name="milestone")


@milestone.command(name="list")
def milestone_list():
    """The milestones, and which are open."""
    from tito import learner

    learner.milestones(_course())


@milestone.command()
def info(name: str = typer.Argument(help="01, 01_1957_perceptron or 1957_perceptron.")):
    """The story of a milestone: what it shows, what it needs, what to expect."""
    from tito import learner

    course = _course()
    learner.milestone_info(course, course.milestone(name))


@milestone.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(context: typer.Context, name: str = typer.Argument(help="01, 01_1957_perceptron or 1957_perceptron.")):
    """Run a milestone; what follows its name goes to its script."""
    import subprocess

    from tito import learner

    course = _course()
    script = course.root / "milestones" / f"{course.milestone(name).slug}.py"
    learner.ready(course, course.milestone(name))
    path = os.pathsep.join(filter(None, [str(course.root), os.environ.get("PYTHONPATH")]))
    runner = os.path.join(os.path.dirname(__file__), "here.py")
    command = [sys.executable, "-P", runner, str(course.root), str(script), *context.args]
    raise typer.Exit(subprocess.run(command, env={**os.environ, "PYTHONPATH": path}).returncode)


# The order of the help: as a learner meets them; then what others need.
FIRST = ["init", "start", "test", "watch", "complete", "hint", "diff", "solution", "status"]
FIRST += ["reset", "backup", "restore", "update", "doctor"]
RANK = {name: number for number, name in enumerate(FIRST)}
app.registered_commands.sort(key=lambda command: RANK.get(command.name or command.callback.__name__, 99))


FULL = (errno.ENOSPC, errno.EDQUOT)


def main():
    from tito.course import CourseError
    from tito.lesson import ExportError
    from tito.lock import LockError

    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a console that lacks a letter shows its code
    codes = {CourseError: 2, LockError: 3, ExportError: 4}
    try:
        app()
    except tuple(codes) as error:
        print(f"tito: {error}", file=sys.stderr)
        sys.exit(codes[type(error)])
    except BrokenPipeError:  # whoever read the output has gone
        os._exit(141)
    except OSError as error:  # a full disk, a folder without permission: what was there is as it was
        full = "; nothing of yours is lost: make room, and run the command again" if error.errno in FULL else ""
        print(f"tito: {error}{full}", file=sys.stderr)
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(_stopped())
    except SystemExit as ended:  # typer has caught the interruption, and says nothing
        if ended.code == 130:
            _stopped()
        raise


def _stopped():
    print("tito: stopped", file=sys.stderr)
    return 130


if __name__ == "__main__":
    main()
