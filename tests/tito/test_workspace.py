"""A learner's workspace, made of the small course."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import nbformat
import pytest

from support.learners import fill, solutions
from support.stages import COURSE as REAL
from tito import material
from tito.course import Course
from tito.lesson import FENCE

LESSON = "modules/01_first/01_first.ipynb"
# where this tito is, and another tinytorch beside it; and no plugins of pytest, which only take time
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REAL.root), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
BLANK = 'raise NotImplementedError("module 01: write double")'


@pytest.fixture
def work(root, tmp_path, tito, monkeypatch):
    """A fresh workspace, which is also the current folder."""
    monkeypatch.setattr(material, "root", lambda: root)
    folder = tmp_path / "work"
    assert tito("init", str(folder))[0] == 0
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def begun(work, tito):
    assert tito("start", "01", "--no-open")[:2] == (0, f"{LESSON}\n")
    return work


@pytest.fixture
def course(root):
    return Course.load(root)


@pytest.fixture
def write(begun, course):
    """Fill the blanks of the first lesson; a change may be made to what is written."""

    def fill_first(old="", new=""):
        wrote = solutions(course, course.module(1))
        fill(begun / LESSON, {blank: source.replace(old, new) for blank, source in wrote.items()})

    return fill_first


def remembered(work):
    return json.loads((work / ".tito/state.json").read_text())


def record(work, **parts):
    """Write into the state."""
    path = work / ".tito/state.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | parts))


def book(work, file=LESSON):
    return json.loads((work / file).read_text())


def save(table, work, file=LESSON):
    (work / file).write_text(json.dumps(table))


def cell_of(table, blank="first-double"):
    return next(c for c in table["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == blank)


class TestInit:
    def test_what_is_there(self, work):
        there = {p.relative_to(work).as_posix() for p in work.rglob("*") if p.is_file()}
        assert there >= {"course.toml", "README.md", ".env", ".vscode/settings.json", "pytest.ini", "conftest.py"}
        assert there >= {"tests/01_first/test_first.py", "milestones/01_1900_start.py", "tinytorch/__init__.py"}
        assert list((work / "modules").iterdir()) == []
        assert Course.load(work).workspace == material.version()

    def test_editors_are_told_where_the_package_is(self, work):
        assert (work / ".env").read_text() == f"PYTHONPATH={work}\n"
        settings = json.loads((work / ".vscode/settings.json").read_text())
        assert settings["python.defaultInterpreterPath"] == sys.executable
        assert settings["python.envFile"] == "${workspaceFolder}/.env"
        assert settings["terminal.integrated.env.linux"] == {"PYTHONPATH": "${workspaceFolder}"}

    def test_the_next_command_is_named(self, work, tito, tmp_path):
        assert tito("init", str(tmp_path / "other"))[1] == f"next: cd {tmp_path / 'other'} && tito start 01\n"

    def test_a_folder_in_use_is_left_alone(self, work, tito, tmp_path):
        code, _, err = tito("init", str(work))
        assert code == 2
        assert "tito update" in err
        (tmp_path / "full").mkdir()
        (tmp_path / "full/mine.txt").write_text("mine")
        code, _, err = tito("init", str(tmp_path / "full"))
        assert code == 2
        assert "is not empty" in err

    def test_broken_off_it_can_be_run_again(self, root, tito, tmp_path, monkeypatch):
        monkeypatch.setattr(material, "root", lambda: root)
        from tito import files

        whole, left = files.write, [5]

        def full(path, content, durable=True):
            left[0] -= 1
            if left[0] < 0:
                raise OSError("no space left on device")
            whole(path, content, durable)

        monkeypatch.setattr(files, "write", full)
        code, _, err = tito("init", str(tmp_path / "work"))
        assert code == 3
        assert "no space left" in err
        monkeypatch.setattr(files, "write", whole)
        assert tito("init", str(tmp_path / "work"))[0] == 0

    @pytest.mark.parametrize("page", ["README.md", REAL.root / "README.md"], ids=["workspace", "repository"])
    def test_the_command_lines_of_a_page_are_understood(self, work, page):
        import typer

        from tito.main import app

        lines = re.findall(r"^tito (.*?)(?: {2,}#.*)?$", (work / page).read_text(), re.MULTILINE)
        assert len(lines) > 8
        group = typer.main.get_command(app)
        for line in lines:
            command, words = group, line.split()
            while hasattr(command, "commands"):
                command = command.commands[words.pop(0)]
            command.make_context(command.name, words, resilient_parsing=False).close()


class TestStart:
    def test_the_notebook_is_valid_and_holds_no_solution(self, begun):
        made = nbformat.read(begun / LESSON, as_version=4)
        nbformat.validate(made)
        text = (begun / LESSON).read_text()
        assert "doubled   =   2 * x" not in text
        assert "SOLUTION" not in text
        assert cell_of(book(begun))["source"][-6:] != []
        assert BLANK in "".join(cell_of(book(begun))["source"])
        assert made.metadata.kernelspec.name == "python3"

    def test_it_is_the_same_every_time(self, begun, course):
        text = material.notebook(material.handed_out(course.module(1)), "01_first")
        assert (begun / LESSON).read_text() == text
        ids = [cell["id"] for cell in json.loads(text)["cells"]]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"[0-9a-f]{12}", id) for id in ids)

    def test_a_lesson_that_is_there_stays_as_it_is(self, begun, tito, write):
        write()
        before = (begun / LESSON).read_bytes()
        code, out, err = tito("start", "01", "--no-open")
        assert (code, out) == (0, f"{LESSON}\n")
        assert "stays as it is" in err
        assert (begun / LESSON).read_bytes() == before

    def test_lessons_come_in_order(self, begun, tito):
        code, _, err = tito("start", "04")
        assert code == 2
        assert "04_second comes after 01_first; finish that first: tito complete 01" in err

    def test_as_a_script_and_back_with_the_work_in_it(self, begun, tito, write):
        write()
        assert tito("start", "01", "--as", "py")[1] == "modules/01_first/01_first.py\n"
        script = begun / "modules/01_first/01_first.py"
        assert "doubled   =   2 * x" in script.read_text()
        assert '"grade_id": "first-double"' in script.read_text()
        script.write_text(script.read_text().replace("doubled   =   2 * x", "doubled = x + x"))
        assert tito("start", "01", "--as", "ipynb")[1] == f"{LESSON}\n"
        assert "doubled = x + x" in "".join(cell_of(book(begun))["source"])
        assert len(list((begun / ".tito/backups").iterdir())) == 1

    def test_a_script_from_the_beginning(self, work, tito):
        assert tito("start", "01", "--as", "py")[1] == "modules/01_first/01_first.py\n"
        assert BLANK in (work / "modules/01_first/01_first.py").read_text()
        assert not (work / LESSON).exists()

    def test_a_course_that_moved_on_is_mentioned(self, begun, tito, edit):
        edit("modules/01_first/01_first.py", "Write `double`.", "Write `double` well.")
        assert "run: tito update" in tito("start", "01")[2]


class TestTest:
    def test_the_newer_of_two_forms_counts_and_is_named(self, begun, tito, write):
        tito("start", "01", "--as", "py")
        os.utime(begun / "modules/01_first/01_first.py", (1, 1))
        write()
        code, _, err = tito("test", "01")
        assert code == 0
        assert f"{LESSON} counts: it was saved later than 01_first.py" in err
        assert "next: tito complete 01" in err

    def test_what_is_still_to_write_is_named(self, begun, tito):
        code, out, err = tito("test", "01")
        assert code == 1
        assert "NotImplementedError: module 01: write double" in out
        assert "  first-double: double\n" in err

    def test_a_lesson_not_begun(self, work, tito):
        code, _, err = tito("test", "01")
        assert code == 2
        assert "run: tito start 01" in err


class TestComplete:
    def test_the_package_grows_and_the_next_lesson_opens(self, begun, tito, write):
        write()
        code, out, _ = tito("complete", "01")
        assert code == 0
        assert "milestone 01_1900_start is open" in out
        assert out.endswith("next: tito start 04\n")
        assert "doubled = 2 * x" in (begun / "tinytorch/core/first.py").read_text()
        assert tito("start", "04", "--no-open")[0] == 0
        table = book(begun)
        table["cells"].remove(cell_of(table))
        save(table, begun)
        code, _, err = tito("test", "04")
        assert code == 4
        assert "modules/01_first/01_first.ipynb has lost blank first-double" in err
        assert tito("restore", "01")[1] == f"{LESSON}\n"  # as it was completed
        status = tito("status")[1]
        assert re.search(r"01_first +completed +1 of 1 blanks", status)
        assert re.search(r"04_second +not tested", status)
        assert re.search(r"01_1900_start +open", status)
        state = begun / ".tito/state.json"
        state.write_text("{{")
        code, out, err = tito("status")
        assert re.search(r"01_first +completed", out)
        assert "made anew from your package" in err
        assert [p.read_text() for p in state.parent.glob("*.broken")] == ["{{"]

    def test_an_empty_blank_is_named_and_nothing_is_exported(self, begun, tito):
        code, _, err = tito("complete", "01")
        assert code == 1
        assert "still to write in 01_first:\n  first-double: double\n" in err
        assert not (begun / "tinytorch/core").exists()

    def test_a_wrong_lesson_is_not_complete(self, begun, tito, write):
        write("2 * x", "3 * x")
        code, _, err = tito("complete", "01")
        assert code == 1
        assert "01_first is not complete yet" in err
        assert not (begun / "tinytorch/core").exists()
        assert "completed" not in remembered(begun)

    def test_exporting_empty_blanks_is_allowed_and_said(self, begun, tito):
        code, _, err = tito("export")
        assert code == 0
        assert "still to write in 01_first:\n  first-double: double\n" in err

    def test_work_in_the_package_itself_is_kept(self, begun, tito, write):
        write()
        assert tito("export")[0] == 0
        mine = begun / "tinytorch/core/first.py"
        mine.write_text(mine.read_text() + "x = 1\n")
        assert "edited by hand" in tito("export")[2]
        assert "x = 1" not in mine.read_text()
        (kept,) = (begun / ".tito/backups").rglob("first.py")
        assert kept.read_text().endswith("x = 1\n")


class TestOneOfTwo:
    def test_two_at_once_wait_for_each_other(self, begun, tito, monkeypatch):
        from tito import workspace

        holder = "import sys; from pathlib import Path; from tito.lock import lock\n"
        holder += "with lock(Path('.').resolve(), 'reset 01'): print('held', flush=True); sys.stdin.read()"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": ENVIRONMENT}
        with subprocess.Popen([sys.executable, "-P", "-c", holder], **pipes) as other:
            other.stdout.readline()
            said = []

            def note(text):
                said.append(text)
                other.stdin.close()  # told that somebody waits, the other one ends

            monkeypatch.setattr(workspace, "note", note)
            assert tito("reset", "01")[0] == 0
        assert said[0] == f"waiting for process {other.pid} (reset 01)"


class TestKeepingWork:
    def test_reset_keeps_what_was_there_and_restore_brings_it_back(self, begun, tito, write):
        write()
        before = (begun / LESSON).read_text()
        assert tito("reset", "01")[0] == 0
        assert "doubled   =   2 * x" not in (begun / LESSON).read_text()
        assert tito("restore", "01")[1] == f"{LESSON}\n"
        assert (begun / LESSON).read_text() == before
        tito("restore", "01")  # which was kept as well
        assert "doubled   =   2 * x" not in (begun / LESSON).read_text()

    def test_a_backup_holds_lessons_package_and_state(self, begun, tito, write):
        record(begun, hints={})
        code, out, _ = tito("backup")
        assert code == 0
        kept = begun / out.strip()
        assert (kept / LESSON).is_file()
        assert (kept / "tinytorch/__init__.py").is_file()
        assert (kept / ".tito/state.json").is_file()
        write()
        changed = (begun / LESSON).read_text()
        assert tito("restore", "--from", kept.name)[1] == f"{LESSON}\n"
        assert (begun / LESSON).read_text() != changed
        assert kept.name in tito("restore", "--list")[1]

    def test_a_lesson_that_is_damaged_later_is_there_as_it_was_last_tested(self, begun, tito, write):
        write("2 * x", "3 * x")
        before = (begun / LESSON).read_bytes()
        tito("test", "01")
        (begun / LESSON).write_bytes(before[: len(before) // 2])
        assert tito("test", "01")[0] == 4
        assert tito("restore", "01")[1] == f"{LESSON}\n"
        assert (begun / LESSON).read_bytes() == before

    def test_what_was_kept_after_the_last_test_comes_back_first(self, begun, tito, write):
        write("2 * x", "3 * x")
        tito("test", "01")
        write("2 * x", "4 * x")
        tito("reset", "01")
        tito("restore", "01")
        assert "4 * x" in "".join(cell_of(book(begun))["source"])

    def test_nothing_to_restore(self, begun, tito):
        code, _, err = tito("restore", "01")
        assert code == 2
        assert "no backup of 01_first differs" in err

    def test_a_full_disk_leaves_the_lesson(self, begun, tito, write, monkeypatch):
        write()
        before = (begun / LESSON).read_bytes()

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        code, _, err = tito("reset", "01")
        assert code == 3
        assert "No space left" in err
        assert (begun / LESSON).read_bytes() == before
        assert [p.name for p in begun.rglob(".tito-*")] == []

    def test_one_blank_alone(self, begun, tito, write):
        write()
        table = book(begun)
        table["cells"].append({"cell_type": "code", "id": "mine", "metadata": {}, "source": "double(21)",
                               "outputs": [], "execution_count": None})  # fmt: skip
        save(table, begun)
        assert tito("reset", "01", "first-double")[0] == 0
        assert BLANK in "".join(cell_of(book(begun))["source"])
        assert "".join(book(begun)["cells"][-1]["source"]) == "double(21)"

    def test_diff_shows_the_work_and_nothing_else(self, begun, tito, write):
        assert tito("diff", "01")[:2] == (0, "")
        write()
        out = tito("diff", "01")[1]
        assert f"-    {BLANK}" in out
        assert "+    doubled   =   2 * x" in out
        assert out.startswith("@@ first-double @@\n")


class Stop(BaseException):
    """As if the power had gone."""


class TestInterrupted:
    @pytest.mark.parametrize("command", ["reset 01", "reset 01 first-double", "update", "backup", "start 01 --as py"])
    def test_at_any_write_the_work_is_still_there_and_the_command_can_be_run_again(
        self, begun, tito, write, edit, monkeypatch, command
    ):
        from tito import files, main

        write()
        edit("modules/01_first/01_first.py", "Write `double`.", "Write `double`, please.")
        whole, writes = files.write, 0
        while True:

            def stopped(path, content, durable=True, left=[writes]):  # noqa: B006
                if not left[0]:
                    raise Stop
                left[0] -= 1
                whole(path, content, durable)

            monkeypatch.setattr(files, "write", stopped)
            monkeypatch.setattr(sys, "argv", ["tito", *command.split()])
            with pytest.raises((Stop, SystemExit)) as ended:
                main.main()
            if ended.type is SystemExit:
                assert not ended.value.code
                break
            monkeypatch.setattr(files, "write", whole)
            texts = [path.read_text() for path in begun.rglob("*") if path.suffix in (".ipynb", ".py")]
            assert any("doubled   =   2 * x" in text for text in texts)
            nbformat.read(begun / LESSON, as_version=4)
            assert tito("status")[0] == 0
            writes += 1
        assert writes or command == "backup"


class TestKilled:
    """kill -9 at a write: no handler runs, and what was being written lies there half."""

    DIES = """
import os, sys
from pathlib import Path
from tito import files, main, material
root = Path(sys.argv[1])
material.root = lambda: root
left, replace = [int(sys.argv[2])], os.replace
def killed(here, there):
    if Path(there).is_relative_to(Path.cwd()):
        if not left[0]:
            os.kill(os.getpid(), 9)
        left[0] -= 1
    replace(here, there)
os.replace = killed
sys.argv[:] = ["tito", *sys.argv[3:]]
main.main()
"""

    def dies(self, root, at, *command):
        """Whether the command was killed before it replaced its file number `at`."""
        ran = [sys.executable, "-P", "-c", self.DIES, str(root), str(at), *command]
        done = subprocess.run(ran, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode in (0, -9), done.stderr
        return done.returncode == -9

    @pytest.mark.parametrize(
        ("command", "writes"),
        [(["start", "01", "--no-open"], 1), (["export"], 0), (["complete", "01"], 4), (["update"], 1)],
        ids=["start", "export", "complete", "update"],
    )
    def test_the_next_command_goes_on_and_clears_up(self, work, root, tito, edit, course, command, writes):
        if command[0] != "start":
            tito("start", "01", "--no-open")
            fill(work / LESSON, solutions(course, course.module(1)))
        if command[0] == "update":
            edit("modules/01_first/01_first.py", "Write `double`.", "Write `double`, please.")
        assert self.dies(root, writes, *command)
        assert self.left(work) != []
        assert tito("backup")[0] == 0
        assert self.left(work) == []
        assert tito(*command)[0] == 0
        assert tito("status")[0] == 0
        source = "".join(cell_of(book(work))["source"])
        assert (BLANK if command[0] == "start" else "doubled   =   2 * x") in source

    def left(self, work):
        return [p.name for p in work.rglob("*") if p.name.startswith((".tito-", ".part-"))]

    def test_half_a_backup_is_none(self, begun, tito):
        (begun / ".tito/backups/.part-x/whole").mkdir(parents=True)
        assert tito("restore", "--list")[1] == ""
        tito("backup")
        assert self.left(begun) == []


class TestFullDisk:
    @pytest.mark.parametrize(
        "command", ["complete 01", "export", "update", "backup", "reset 01", "hint 01 first-double"]
    )
    def test_it_is_said_and_nothing_is_lost(self, begun, tito, write, edit, monkeypatch, command):
        from tito import files

        write()
        edit("modules/01_first/01_first.py", "Write `double`.", "Write `double`, please.")
        before = (begun / LESSON).read_bytes()

        def full(*given, **settings):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("tempfile.mkstemp", full)
        monkeypatch.setattr(files.shutil, "copy2", full)
        code, _, err = tito(*command.split())
        assert code == 3
        assert err.splitlines()[-1] == (
            "tito: [Errno 28] No space left on device; nothing of yours is lost: make room, and run the command again"
        )
        assert (begun / LESSON).read_bytes() == before
        monkeypatch.undo()
        monkeypatch.chdir(begun)


class TestSolution:
    def test_only_after_the_checks_passed(self, begun, tito):
        code, out, err = tito("solution", "01")
        assert (code, out) == (2, "")
        assert "tito hint 01 first-double" in err
        counts = {"passed": 2, "failed": 0, "skipped": 0, "lesson": "", "time": ""}
        record(begun, tests={"01_first": {"exit_code": 0, **counts}})
        code, out, _ = tito("solution", "01", "first-double")
        assert code == 0
        assert "doubled   =   2 * x" in out
        assert "SOLUTION" not in out

    def test_giving_up_is_noted(self, begun, tito):
        code, out, _ = tito("solution", "01", "--give-up")
        assert code == 0
        assert "doubled   =   2 * x" in out
        assert list(remembered(begun)["gave_up"]) == ["01_first/first-double"]
        assert "1 solution seen" in tito("status")[1]

    def test_hints_come_from_the_lesson_as_handed_out(self, begun, tito):
        table = book(begun)
        table["cells"] = [cell for cell in table["cells"] if cell["cell_type"] == "code"]
        save(table, begun)
        assert "Twice is `x + x`." in tito("hint", "01", "first-double")[1]


class TestDamage:
    """What can happen to a notebook, and the message that names cell and remedy."""

    def says(self, tito, *texts):
        code, out, err = tito("test", "01")
        assert (code, out) == (4, "")
        for text in texts:
            assert text in err

    def test_cut_off(self, begun, tito):
        text = (begun / LESSON).read_text()
        (begun / LESSON).write_text(text[: text.index("doubled") if "doubled" in text else text.index("area")])
        self.says(tito, "not valid JSON, in or after cell 6", "tito restore 01", "tito reset 01")
        assert tito("reset", "01")[0] == 0

    def test_git_left_its_marks(self, begun, tito):
        (begun / LESSON).write_text("{\n<<<<<<< HEAD\n}")
        self.says(tito, "marks of a git merge")

    def test_not_utf8(self, begun, tito):
        (begun / LESSON).write_bytes(b'{\n"\xff"}')
        self.says(tito, "line 2 is not UTF-8")

    def test_an_older_format(self, begun, tito):
        table = book(begun)
        save({"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": table["cells"]}]}, begun)
        self.says(tito, "notebook format 3, its cells 1 to 7", "jupyter nbconvert --to notebook --inplace")

    @pytest.mark.parametrize("table", [[], {}, {"nbformat": 4}, {"nbformat": 5, "cells": []}])
    def test_no_notebook_at_all(self, begun, tito, table):
        save(table, begun)
        self.says(tito, "is no notebook of format 4")

    def test_a_cell_without_source(self, begun, tito):
        table = book(begun)
        del table["cells"][3]["source"]
        save(table, begun)
        self.says(tito, "cell 4 has no type or no source")

    def test_a_blank_is_gone_and_comes_back(self, begun, tito):
        table = book(begun)
        table["cells"].remove(cell_of(table))
        save(table, begun)
        self.says(tito, "has lost blank first-double (area, double), code cell 4", "tito reset 01 first-double")
        assert tito("reset", "01", "first-double")[0] == 0
        assert (begun / LESSON).read_text() == material.notebook(
            (begun / ".tito/released/01_first.py").read_text(), "01_first"
        )

    def test_a_blank_is_there_twice(self, begun, tito, write):
        write()
        table = book(begun)
        table["cells"].append({**cell_of(table), "id": "copy"})
        save(table, begun)
        self.says(tito, "first-double (area, double) 2 times, in code cells 4 and 6", "tito reset 01 first-double")

    def test_a_syntax_error_in_given_code_is_called_that(self, work, tito, edit):
        edit("modules/01_first/01_first.py", "# %%\ndouble(3)", "# %%\n#| export\ndef half(x):\n    return x / 2")
        tito("start", "01", "--no-open")
        table = book(work)
        table["cells"][-1]["source"][-1] = "    return x / 2)"
        save(table, work)
        self.says(tito, "01_first, code cell 5, line 3: unmatched ')'")

    def test_a_blank_that_does_not_ship(self, begun, tito):
        table = book(begun)
        cell_of(table)["source"] = cell_of(table)["source"][1:]
        save(table, begun)
        self.says(tito, "code cell 4: ", "has lost its first line, `#| export`")

    def test_given_code_is_gone_and_comes_back_beside_the_work(self, work, root, tito, edit, course):
        edit("modules/01_first/01_first.py", "# %%\ndouble(3)", "# %%\n#| export\ndef half(x):\n    return x / 2")
        tito("start", "01", "--no-open")
        fill(work / LESSON, solutions(course, course.module(1)))
        whole, table = (work / LESSON).read_text(), book(work)
        table["cells"].pop()
        save(table, work)
        self.says(tito, "has lost code that is given (half), code cell 5", "tito reset 01 --given")
        assert tito("reset", "01", "--given")[0] == 0
        assert json.loads(whole)["cells"][-1]["source"] == book(work)["cells"][-1]["source"]
        assert "doubled   =   2 * x" in "".join(cell_of(book(work))["source"])

    @pytest.mark.parametrize("text", ["[1]", '{"tests": 1}', '{"tests": {"01_first": {}}}', '{"completed": {"a": 1}}'])
    def test_the_state_is_not_of_our_making(self, begun, tito, text):
        (begun / ".tito/state.json").write_text(text)
        assert tito("status")[0] == 0
        assert len(list((begun / ".tito").glob("*.broken"))) == 1


class TestUpdate:
    def test_a_new_lesson_keeps_the_work(self, begun, tito, write, edit, root):
        write()
        table = book(begun)
        own = {"cell_type": "markdown", "id": "mine", "metadata": {}, "source": "my thoughts"}
        place = table["cells"].index(cell_of(table)) + 1
        table["cells"].insert(place, own)
        save(table, begun)
        before = (begun / LESSON).read_text()
        edit("modules/01_first/01_first.py", "Write `double`.", "Write `double`, please.")
        edit("modules/01_first/01_first.py", "double(3)\n", "double(4)\n")
        edit("tests/01_first/test_first.py", "[0, 1, 2]", "[0, 1, 2, 3]")
        (root / "tests/01_first/test_more.py").write_text("def test_more():\n    assert 1\n")
        code, out, _ = tito("update")
        assert code == 0
        assert "modules/01_first has the new lesson, with your work" in out
        sources = ["".join(cell["source"]) for cell in book(begun)["cells"]]
        at = next(number for number, source in enumerate(sources) if "doubled   =   2 * x" in source)
        assert "please" in sources[at - 1]
        assert sources[at + 1 :] == ["my thoughts", "double(4)"]
        assert "[0, 1, 2, 3]" in (begun / "tests/01_first/test_first.py").read_text()
        assert (begun / "tests/01_first/test_more.py").is_file()
        assert Course.load(begun).workspace == material.version()
        assert before in [p.read_text() for p in (begun / ".tito/backups").rglob("*.ipynb")]
        assert tito("update")[1] == "0 lessons and 0 other files are new\n"

    def test_a_blank_that_changed_is_mentioned(self, begun, tito, write, edit):
        write()
        edit("modules/01_first/01_first.py", '"""Twice x."""', '"""Twice x, in one step."""')
        assert "blank first-double has changed in the lesson; yours stays" in tito("update")[2]
        assert "doubled   =   2 * x" in (begun / LESSON).read_text()

    def test_an_empty_blank_that_changed_is_the_new_one(self, begun, tito, edit):
        edit("modules/01_first/01_first.py", '"""Twice x."""', '"""Twice x, in one step."""')
        tito("update")
        assert "in one step" in (begun / LESSON).read_text()

    def test_settings_of_ones_own_stay_and_changed_checks_are_kept(self, begun, tito, edit):
        (begun / ".vscode/settings.json").write_text("{}")
        mine = begun / "tests/01_first/test_first.py"
        mine.write_text("# mine\n" + mine.read_text())
        _, _, err = tito("update")
        assert ".vscode/settings.json stays as you changed it" in err
        assert (begun / ".vscode/settings.json").read_text() == "{}"
        assert not mine.read_text().startswith("# mine")
        (kept,) = (begun / ".tito/backups").rglob("test_first.py")
        assert kept.read_text().startswith("# mine")

    def test_in_the_course_itself_there_is_nothing_to_update(self, root, tito):
        for command in (["update"], ["backup"], ["start", "01"], ["complete", "01"], ["reset", "01"], ["diff", "01"]):
            code, _, err = tito(*command)
            assert code == 2
            assert "make a workspace of your own: tito init DIR" in err


class TestThePackageIsMine:
    """`tinytorch` comes from the workspace wherever Python runs, though another one is installed."""

    def python(self, *arguments, cwd):
        done = subprocess.run([sys.executable, *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
        return done.stdout.strip() + done.stderr.strip()

    def test_in_a_lesson_run_as_a_script_or_in_a_kernel(self, begun):
        folder = begun / "modules/01_first"
        show = "import tito.here, tinytorch; print(tinytorch.__file__)"
        (folder / "mine.py").write_text(show)
        mine = str(begun / "tinytorch/__init__.py")
        assert self.python("mine.py", cwd=folder) == mine
        assert self.python("-c", show, cwd=folder) == mine
        stale = "import sys; sys.path.insert(0, '" + str(REAL.root) + "'); import tinytorch; import tito.here"
        assert "was imported already; restart the kernel" in self.python("-P", "-c", stale, cwd=folder)
        assert "no workspace in" in self.python("-c", "import tito.here", cwd=REAL.root)

    def test_in_pytest(self, begun):
        (begun / "tests/test_place.py").write_text(
            "import tinytorch\n"
            "from pathlib import Path\n"
            "def test_place():\n"
            "    assert Path(tinytorch.__file__).parents[1] == Path(__file__).parents[1]\n"
        )
        pytest_here = ["-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        assert "1 passed" in self.python(*pytest_here, "../tests/test_place.py", cwd=begun / "modules")

    def test_in_a_milestone(self, begun, tito):
        (begun / "milestones/01_1900_start.py").write_text("import tinytorch\nprint(tinytorch.__file__)\n")
        code, _, err = tito("milestone", "run", "01")
        assert code == 2
        assert "still to complete: 01\n" in err
        record(begun, completed={"01_first": {}})
        assert tito("milestone", "run", "01")[1] == f"{begun / 'tinytorch/__init__.py'}\n"
        shutil.rmtree(begun / "tinytorch")
        code, _, err = tito("milestone", "run", "01")
        assert code == 1
        assert "not the tinytorch of" in err or "there is no package" in err

    def test_in_a_milestone_started_by_its_name(self, begun):
        script = begun / "milestones/01_1900_start.py"
        shown = script.read_text().replace("import sys\n", "import sys\nimport tinytorch\nprint(tinytorch.__file__)\n")
        script.write_text(shown)
        assert self.python("milestones/01_1900_start.py", cwd=begun) == f"{begun / 'tinytorch/__init__.py'}\n[]"

    def test_a_workspace_that_moved_is_found_by_editors_again(self, begun, tito, monkeypatch):
        moved = begun.rename(begun.with_name("moved"))
        monkeypatch.chdir(moved)
        (moved / ".env").write_text((moved / ".env").read_text() + "MINE=1\n")
        tito("start", "01")
        assert (moved / ".env").read_text() == f"PYTHONPATH={moved}\nMINE=1\n"


class TestDoctor:
    def test_in_a_workspace(self, begun, tito, edit):
        code, out, _ = tito("doctor")
        assert code == 0
        assert re.search(rf"OK +workspace +{begun}\n", out)
        assert re.search(rf"OK +import tinytorch +{begun}/tinytorch/__init__.py", out)
        edit("modules/01_first/01_first.py", "Write `double`.", "Write `double` well.")
        (begun / ".env").write_text("PYTHONPATH=/elsewhere\n")
        _, out, _ = tito("doctor")
        assert re.search("WARN +workspace .*another version", out)
        assert re.search("WARN +.env +names another folder", out)


class TestWatch:
    def test_a_save_is_checked_at_once(self, begun, course):
        code = "import sys; from tito.main import main; sys.argv[1:] = ['watch', '01']; main()"
        process = subprocess.Popen(
            [sys.executable, "-P", "-u", "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=begun,
            env=ENVIRONMENT,
        )
        impatience = threading.Timer(60, process.kill)
        impatience.start()
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if line.startswith("watching"):
                    break
            assert "FAIL  first: double is twice (3 of 3 cases)\n" in said
            waited = []
            for product in ("2 * x", "2*x", "2 *x"):  # up to three saves: others work on this machine
                temporary = begun / "modules/01_first/.saving.ipynb"
                temporary.write_bytes((begun / LESSON).read_bytes())
                wrote = solutions(course, course.module(1))
                fill(temporary, {blank: source.replace("2 * x", product) for blank, source in wrote.items()})
                os.replace(temporary, begun / LESSON)  # as editors save
                began = time.monotonic()
                for line in process.stdout:
                    if "saved" in line:
                        break
                waited.append(time.monotonic() - began)
                if waited[-1] < 1:
                    break
            assert min(waited) < 1
            for line in process.stdout:
                if "2 passed" in line:
                    break
            else:
                pytest.fail("no checks after the save")
        finally:
            impatience.cancel()
            process.kill()
            process.communicate()


@pytest.mark.parametrize("module", REAL.modules, ids=lambda module: module.slug)
def test_every_lesson_is_handed_out_as_a_notebook_without_solutions(module):
    text = REAL.source(module).read_text(encoding="utf-8")
    made = json.loads(material.notebook(material.handed_out(module), module.slug))
    code = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert "import tito.here" in "".join(code[0]["source"])
    assert len({cell["id"] for cell in made["cells"]}) == len(made["cells"])
    solution, given, fenced = set(), set(), False
    for line in text.splitlines():
        fence = FENCE.match(line)
        if fence:
            fenced = fence[1] == "BEGIN"
        elif len(line.strip()) >= 12:
            (solution if fenced else given).add(line)
    found = {line for cell in made["cells"] for line in "".join(cell["source"]).splitlines()}
    assert found & (solution - given) == set()
