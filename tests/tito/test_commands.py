"""`tito` as it is typed: output, messages and exit codes."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from support.stages import ROOT


def before(edit, *lines):
    """Put lines before the solution of `double`."""
    solution = "    doubled   =   2 * x\n"
    edit("modules/01_first/01_first.py", solution, "".join(f"    {line}\n" for line in lines) + solution)


def fails(edit):
    edit("modules/01_first/01_first.py", "2 * x\n    return", "2 * x + x\n    return")


class TestTest:
    def test_a_right_lesson_passes(self, tito):
        code, out, err = tito("test", "01")
        assert code == 0
        assert out.splitlines() == ["PASS  first: double is twice", "PASS  first: area of the unit circle"]
        assert "01_first: 2 passed" in err

    def test_a_wrong_lesson_is_answered_with_place_blank_and_command(self, tito, edit):
        fails(edit)
        code, out, _ = tito("test", "01")
        assert code == 1
        assert "FAIL  first: double is twice (2 of 3 cases)" in out
        assert "first failure  first.double_is_twice.1" in out
        assert "assert 3 == (2 * 1)" in out
        assert "blank first-double; for a hint: tito hint 01 first-double" in out
        assert "again: tito test 01 -k first.double_is_twice.1" in out

    def test_the_command_to_run_again_runs_that_check(self, tito, edit):
        fails(edit)
        _, out, _ = tito("test", "01")
        again = re.search(r"again: tito (.*)", out)[1].split()
        code, out, err = tito(*again)
        assert code == 1
        assert "1 failed" in err
        assert "area" not in out

    def test_an_exception_is_placed_in_the_lesson(self, tito, edit, root):
        edit("modules/01_first/01_first.py", "doubled   =   2 * x", "doubled = 2 * y")
        code, out, _ = tito("test", "01")
        line = 1 + (root / "modules/01_first/01_first.py").read_text().splitlines().index("    doubled = 2 * y")
        assert code == 1
        assert "NameError: name 'y' is not defined" in out
        assert f"in modules/01_first/01_first.py, line {line} (code cell 3, line 5), in double" in out

    def test_an_empty_blank_says_what_to_write(self, tito, root):
        from tito.lesson import emptied

        path = root / "modules/01_first/01_first.py"
        path.write_text(emptied(path.read_text(), 1))
        code, out, _ = tito("test", "01")
        assert code == 1
        assert "NotImplementedError: module 01: write double" in out
        assert "blank first-double" in out

    def test_a_mistake_in_an_earlier_lesson_is_placed_there(self, tito, edit):
        edit("modules/01_first/01_first.py", "    doubled   =   2 * x\n", "    doubled = 2 * x / 0\n")
        code, out, _ = tito("test", "04")
        assert code == 1
        assert "modules/01_first/01_first.py" in out
        assert "blank first-double" in out

    def test_a_cell_that_does_not_parse_is_named_before_anything_runs(self, tito, edit, root):
        edit("modules/01_first/01_first.py", "double(3)\n", "double(3\n")
        code, out, err = tito("test", "01")
        assert (code, out) == (4, "")
        line = 1 + (root / "modules/01_first/01_first.py").read_text().splitlines().index("double(3")
        assert f"01_first, code cell 4, line 1: '(' was never closed (line {line} of 01_first.py)" in err

    def test_one_check_by_words(self, tito):
        code, out, _ = tito("test", "01", "-k", "unit circle")
        assert (code, out) == (0, "PASS  first: area of the unit circle\n")

    def test_what_killed_checks_left_is_cleared_up_a_day_later(self, tito, tmp_path, monkeypatch):
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        for name, hours in (("tito-checks-old", 25), ("tito-checks-new", 1), ("tito-mine", 25)):
            plan = tmp_path / name / "plan.json"
            plan.parent.mkdir()
            plan.touch()
            os.utime(plan, (time.time() - hours * 3600,) * 2)
        tito("test", "01", "-k", "circle")
        assert sorted(path.name for path in tmp_path.glob("tito*")) == ["tito-checks-new", "tito-mine"]

    def test_an_interruption_is_said(self, tito, monkeypatch):
        from tito import testing

        def interrupted(*given):
            raise KeyboardInterrupt

        monkeypatch.setattr(testing, "build", interrupted)
        code, out, err = tito("test", "01")
        assert (code, out, err.splitlines()[-1]) == (130, "", "tito: stopped")

    def test_nothing_selected_is_no_pass(self, tito):
        code, out, err = tito("test", "01", "-k", "triangle")
        assert (code, out) == (5, "")
        assert "no check matches 'triangle'" in err

    def test_no_checks_at_all_is_no_pass(self, tito, root):
        (root / "tests/01_first/test_first.py").unlink()
        code, _, err = tito("test", "01")
        assert code == 5
        assert "there are no checks in" in err

    def test_a_file_of_checks_that_needs_what_is_not_installed_is_skipped_and_the_others_run(self, tito, root):
        # hypothesis is there, but not for this file
        hide = "import sys\nsys.modules['hypothesis'] = None\nimport hypothesis\n"
        (root / "tests/01_first/test_drawn.py").write_text(hide)
        code, out, _ = tito("test", "01")
        assert code == 0
        assert "SKIP  drawn (needs hypothesis, which is not installed)" in out
        assert "PASS  first: area of the unit circle" in out

    @pytest.mark.parametrize("name", ["agreement", "properties"])
    def test_what_is_said_a_second_time_runs_when_it_is_asked_for(self, tito, root, name):
        (root / f"tests/01_first/test_{name}.py").write_text("def test_it():\n    raise SystemError\n")
        code, out, _ = tito("test", "01")
        assert (code, name in out) == (0, False)
        code, out, _ = tito("test", "01", "-k", name)
        assert code == 1
        assert f"again: tito test 01 -k {name}.it\n" in out

    def test_skipping_everything_is_no_pass(self, tito, root):
        (root / "tests/01_first/test_first.py").write_text("import pytest\npytest.skip('', allow_module_level=True)\n")
        code, _, err = tito("test", "01")
        assert code == 5
        assert "every check was skipped" in err

    def test_a_check_that_never_ends_is_stopped(self, tito, edit):
        edit(
            "modules/01_first/01_first.py",
            "    doubled   =   2 * x\n",
            "    while x == 1:\n        pass\n    doubled = 2 * x\n",
        )
        code, _, err = tito("test", "01", "--limit", "4")
        assert code == 124
        assert "did not end within 4 s, in first.double_is_twice.1" in err

    def test_a_lesson_that_ends_the_process_is_no_pass(self, tito, edit):
        edit(
            "modules/01_first/01_first.py",
            "    doubled   =   2 * x\n",
            "    __import__('os')._exit(0)\n    doubled = 2 * x\n",
        )
        code, _, err = tito("test", "01")
        assert code == 1
        assert "the checks ended during first.double_is_twice.0 with exit code 0" in err

    def test_a_later_module_does_not_exist_for_the_checks(self, tito, root):
        (root / "tests/01_first/test_first.py").write_text("def test_later():\n    import tinytorch.core.second\n")
        code, out, _ = tito("test", "01")
        assert code == 1
        assert "No module named 'tinytorch.core.second' in the package of the lessons so far" in out

    def test_a_file_of_checks_that_cannot_be_loaded_stops_no_other(self, tito, root):
        (root / "tests/01_first/test_absent.py").write_text("import no_such_package\n\n\ndef test_it():\n    pass\n")
        code, out, err = tito("test", "01")
        assert code == 1
        assert "FAIL  absent" in out
        assert "2 passed, 1 failed" in err

    def test_what_the_lesson_prints_is_no_report(self, tito, edit):
        before(edit, "print('PASS')")
        code, out, _ = tito("test", "01")
        assert code == 0
        assert len(out.splitlines()) == 2

    def test_a_warning_is_an_error(self, tito, edit):
        before(edit, "import warnings", "warnings.warn('careful')")
        code, out, _ = tito("test", "01")
        assert code == 1
        assert "UserWarning: careful" in out

    def test_json_is_one_document(self, tito, edit):
        fails(edit)
        code, out, _ = tito("test", "01", "--json")
        document = json.loads(out)
        assert code == document["exit_code"] == 1
        assert document["schema"] == "tito.test/1"
        assert (document["passed"], document["failed"]) == (1, 1)
        assert document["first_failure"]["blank"] == "first-double"
        assert [check["outcome"] for check in document["checks"]] == ["failed", "passed"]

    def test_all_modules(self, tito, edit):
        code, out, _ = tito("test", "--all")
        assert code == 0
        assert out.splitlines()[-2:] == [
            "PASS  01_first             2 of 2 checks",
            "PASS  04_second            2 of 2 checks",
        ]

    def test_all_modules_go_on_after_one_that_does_not_parse(self, tito, edit):
        edit("modules/04_second/04_second.py", "return double(double(x))", "return double(double(x)")
        code, out, _ = tito("test", "--all")
        assert code == 4
        assert "PASS  01_first" in out
        assert "FAIL  04_second" in out

    @pytest.mark.parametrize("arguments", [[], ["01", "--all"], ["--all", "-k", "x"], ["--limit", "0", "01"], ["nine"]])
    def test_what_makes_no_sense_is_a_usage_error(self, tito, arguments):
        assert tito("test", *arguments)[0] == 2


class TestStatus:
    def test_at_the_start_nothing_is_tested(self, tito):
        code, out, _ = tito("status")
        assert code == 0
        assert re.search(r"01_first +not tested +1 of 1 blanks", out)
        assert re.search(r"01_1900_start +waits for 01 ", out)
        assert out.endswith("next: tito test 01\n")

    def test_a_pass_opens_the_milestone_and_a_change_closes_it(self, tito, edit):
        tito("test", "01")
        _, out, _ = tito("status")
        assert re.search(r"01_first +passed +1 of 1 blanks +2 of 2 checks", out)
        assert re.search(r"01_1900_start +open", out)
        assert re.search(r"02_1901_more +waits for 04", out)
        assert out.endswith("next: tito test 04\n")
        edit("modules/01_first/01_first.py", "double(3)\n", "double(4)\n")
        _, out, _ = tito("status")
        assert re.search(r"01_first +changed", out)

    def test_one_check_alone_proves_no_module(self, tito):
        tito("test", "01", "-k", "circle")
        assert re.search(r"01_first +not tested", tito("status")[1])

    def test_unwritten_blanks_are_counted(self, tito, root):
        from tito.lesson import emptied

        path = root / "modules/01_first/01_first.py"
        path.write_text(emptied(path.read_text(), 1))
        assert "0 of 1 blanks" in tito("status")[1]

    def test_a_state_file_that_is_broken_is_kept_aside(self, tito, root):
        (root / ".tito").mkdir()
        (root / ".tito/state.json").write_text("{")
        assert tito("status")[0] == 0
        assert [p.read_text() for p in (root / ".tito").glob("*.broken")] == ["{"]


class TestHint:
    def test_one_more_each_time(self, tito):
        assert "Twice is `x + x`." in tito("hint", "01", "first-double")[1]
        assert "return 2 * x" in tito("hint", "01", "first-double")[1]
        code, out, err = tito("hint", "01", "first-double")
        assert "hint 2 of 2" in out
        assert "that was the last hint" in err

    def test_without_a_blank_they_are_listed(self, tito):
        _, out, err = tito("hint", "first")
        assert re.search(r"first-double +2 hints", out)
        assert err == "one more each time: tito hint 01 first-double\n"

    def test_an_unknown_blank_is_answered_with_the_known(self, tito):
        code, _, err = tito("hint", "01", "second")
        assert code == 2
        assert "There are: first-double" in err


class TestMilestone:
    def test_list(self, tito):
        assert re.search(r"02_1901_more +waits for 01 04 +More", tito("milestone", "list")[1])

    def test_lessons_in_a_row_are_a_range(self):
        from tito.learner import runs

        assert runs([1, 3, 4, 6, 7, 8, 10, 11, 12, 13]) == "01 03 04 06-08 10-13"

    def test_info_tells_the_story(self, tito):
        code, out, _ = tito("milestone", "info", "1")
        assert code == 0
        assert "1900: a start." in out
        assert "run it: tito milestone run 01" in out

    def test_run_passes_arguments_and_exit_code_on(self, tito):
        tito("export")
        code, out, _ = tito("milestone", "run", "1900_start", "--data", "mnist")
        assert (code, out) == (7, "['--data', 'mnist']\n")


class TestTheRest:
    def test_export_then_check(self, tito):
        assert tito("export", "--check")[0] == 1
        assert tito("export")[0] == 0
        assert tito("export", "--check") == (0, "the package is what the lessons say\n", "")

    def test_a_stage_is_never_written_over_the_whole_package(self, tito, root):
        tito("export")
        assert tito("export", "--upto", "01")[0] == 2
        assert (root / "tinytorch/core/second.py").is_file()

    def test_a_stage_goes_elsewhere(self, tito, tmp_path):
        assert tito("export", "--upto", "01", "--to", str(tmp_path / "stage"))[0] == 0
        assert not (tmp_path / "stage/tinytorch/core/second.py").exists()

    def test_list(self, tito):
        code, out, _ = tito("list")
        assert code == 0
        assert re.search(r"04_second +Second", out)
        assert re.search(r"01_1900_start +A start", out)

    def test_version(self, tito):
        from tito import __version__

        assert tito("--version") == (0, f"tito {__version__}\n", "")

    def test_outside_a_course(self, tito, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        code, _, err = tito("status")
        assert code == 2
        assert "no course.toml" in err

    def test_doctor_finds_this_machine_in_order(self, tito):
        code, out, _ = tito("doctor")
        assert code == 0
        assert re.search(r"OK +NumPy", out)

    @pytest.mark.parametrize(("typed", "want"), [("test ", "01 04"), ("hint 01 first", "first-double")])
    def test_the_shell_completes_modules_and_blanks(self, root, typed, want):
        words = f"tito {typed}"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "_TITO_COMPLETE": "complete_bash", "COMP_WORDS": words}
        environment["COMP_CWORD"] = str(len(words.split(" ")) - 1)
        code = "import sys; from tito.main import app; sys.argv[0] = 'tito'; app(prog_name='tito')"
        done = subprocess.run([sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True)
        assert done.stdout.split() == want.split(), done.stderr

    def test_help_loads_nothing_heavy(self):
        heavy = ["jupytext", "nbformat", "numpy", "pytest", "rich.console", "matplotlib", "tinytorch"]
        code = (
            "import sys\nfrom tito.main import app\n"
            f"print([name for name in {heavy} if name in sys.modules and not name.startswith('rich')])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"
