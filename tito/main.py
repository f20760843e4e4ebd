"""`tito`: the course from the command line. Heavy imports wait until a command needs them."""

import json
import os
import sys

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
    module: str = typer.Argument(None, help="11, 11_embeddings or embeddings."),
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
    if as_json:
        print(json.dumps(document, indent=2))
    raise typer.Exit(code)


@app.command()
def hint(
    module: str = typer.Argument(help="The module."),
    blank: str = typer.Argument(None, help="The blank, as tito test names it; without it, all are listed."),
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
    if upto and not to and course.module(upto) != course.modules[-1]:
        raise typer.BadParameter("--upto would remove the later modules from the course's own package; say --to DIR")
    changed = exporter.export(course, upto, to)
    print(f"{len(changed)} files changed" if changed else "nothing to change")


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

    course = _course()
    script = course.root / "milestones" / f"{course.milestone(name).slug}.py"
    path = os.pathsep.join(filter(None, [str(course.root), os.environ.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, script, *context.args], env={**os.environ, "PYTHONPATH": path})
    raise typer.Exit(done.returncode)


def main():
    from tito.course import CourseError
    from tito.lesson import ExportError
    from tito.lock import LockError

    codes = {CourseError: 2, LockError: 3, ExportError: 4}
    try:
        app()
    except tuple(codes) as error:
        print(f"tito: {error}", file=sys.stderr)
        sys.exit(codes[type(error)])
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
