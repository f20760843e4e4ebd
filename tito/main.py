"""`tito`: the course from the command line. Heavy imports wait until a command needs them."""

import sys

import typer

app = typer.Typer(no_args_is_help=True, add_completion=True, help="TinyTorch: build a deep-learning framework.")


def _course():
    from tito.course import Course

    return Course.load(Course.find_root())


def _version(value: bool):
    if value:
        from tito import __version__

        print(f"tito {__version__}")
        raise typer.Exit()


@app.callback()
def _main(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print it.")):
    pass


@app.command()
def export(
    check: bool = typer.Option(False, "--check", help="Change nothing; fail if package and lessons differ."),
    upto: str = typer.Option(None, help="Only the modules up to this one."),
    to: str = typer.Option(None, help="Write the package into this folder instead."),
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
    changed = exporter.export(course, upto, to)
    print(f"{len(changed)} files changed" if changed else "nothing to change")


@app.command(name="list")
def list_():
    """The modules and milestones of the course."""
    course = _course()
    for entry in (*course.modules, *course.milestones):
        print(f"{entry.slug:24} {entry.title}")


milestone = typer.Typer(no_args_is_help=True, help="Replay history on your own package.")
app.add_typer(milestone, name="milestone")


@milestone.command(name="list")
def milestone_list():
    """The milestones of the course."""
    for entry in _course().milestones:
        print(f"{entry.slug:24} {entry.title}")


@milestone.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(context: typer.Context, name: str):
    """Run a milestone; what follows the name goes to its script."""
    import os
    import subprocess

    course = _course()
    script = course.root / "milestones" / f"{course.milestone(name).slug}.py"
    path = os.pathsep.join(filter(None, [str(course.root), os.environ.get("PYTHONPATH")]))
    done = subprocess.run([sys.executable, script, *context.args], env={**os.environ, "PYTHONPATH": path})
    raise typer.Exit(done.returncode)


def main():
    from tito.course import CourseError
    from tito.export import ExportError

    try:
        app()
    except CourseError as error:
        print(f"tito: {error}", file=sys.stderr)
        sys.exit(2)
    except ExportError as error:
        print(f"tito: {error}", file=sys.stderr)
        sys.exit(4)


if __name__ == "__main__":
    main()
