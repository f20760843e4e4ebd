"""`tito test` names the blank that is wrong: from what the failing checks ran, and the passing ones did not."""

import inspect
import linecache
import os
import shutil
import traceback
from types import SimpleNamespace

import pytest

from support.stages import ROOT, python
from tito import material
from tito.blame import Blank, named
from tito.lesson import emptied
from tito.probes import Probes

SOURCE = '''\
"""A module."""

from __future__ import annotations


def sign(x):
    """Of x."""
    if x < 0:
        return -1
    if x > 0:
        return 1
    return 0


class Counter:
    def __init__(self):
        self.n = 0

    def add(self, xs):
        for x in xs:
            if x is None:
                raise ValueError("nothing")
            self.n += x

        def twice():
            return 2 * self.n

        return twice
'''


@pytest.fixture
def probed(tmp_path):
    """The module above with its probes: (its names, the probes, their places)."""
    file, told = tmp_path / "probed.py", []
    file.write_text(SOURCE, encoding="utf-8")
    probes = Probes(lambda **event: told.append(event))
    names = {}
    exec(probes.compile(SOURCE.encode(), file), names)
    return SimpleNamespace(**names), probes, told[0]["places"]


class TestProbes:
    def test_every_way_through_a_function_has_its_own(self, probed):
        module, probes, places = probed
        lines = {}
        for x in (-1, 0, 1):
            assert module.sign(x) == x
            lines[x] = [places[n][0] for n in probes.take()]
        assert lines == {-1: [8, 9], 0: [8, 10, 12], 1: [8, 10, 11]}

    def test_methods_and_functions_inside_are_told_apart(self, probed):
        module, probes, places = probed
        module.Counter().add([1])()
        assert {places[n][1] for n in probes.take()} == {"Counter.__init__", "Counter.add", "Counter.add.twice"}

    def test_what_only_raises_is_marked(self, probed):
        assert [line for line, _, raises in probed[2] if raises] == [22]

    def test_lines_and_sources_stay(self, probed):
        module, _, _ = probed
        with pytest.raises(ValueError, match="nothing") as raised:
            module.Counter().add([None])
        assert traceback.extract_tb(raised.value.__traceback__)[-1].lineno == 22
        assert module.sign.__doc__ == "Of x."
        linecache.clearcache()
        assert inspect.getsource(module.sign) == SOURCE[SOURCE.index("def sign") : SOURCE.index("\n\n\nclass")] + "\n"

    def test_what_is_unseen_leaves_no_trace(self, probed):
        module, probes, _ = probed
        module.sign(1)
        assert probes.unseen(module.sign, -1) == -1
        assert len(probes.take()) == 3
        assert probes.take() == []


TWO = '''

# %% nbgrader={"grade": false, "grade_id": "first-half", KEYS}
#| export
def half(x):
    """Half of x."""
    ### BEGIN SOLUTION
    return x / 2
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "first-mean", KEYS}
#| export
class Pair:
    def __init__(self, a, b):
        self.a, self.b = a, b

    def __repr__(self):
        return f"Pair({self.a}, {self.b})"

    def mean(self):
        ### BEGIN SOLUTION
        return half(self.a + self.b)
        ### END SOLUTION
'''
KEYS = '"locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false'

TWO_TESTS = """\
from tinytorch.core.first import Pair, double, half


def test_a_mean_of_doubles():
    assert Pair(double(1), double(2)).mean() == 3


def test_double():
    assert double(2) == 4


def test_half_of_a_double():
    assert half(double(3)) == 3


def test_a_pair_keeps_its_parts():
    pair = Pair(1, double(1))
    assert (pair.a, pair.b) == (1, 2)
"""


@pytest.fixture
def blanks(root):
    """The small course with three blanks in lesson 01, of which the first check uses all."""
    path = root / "modules/01_first/01_first.py"
    path.write_text(path.read_text() + TWO.replace("KEYS", KEYS))
    (root / "tests/01_first/test_first.py").write_text(TWO_TESTS)
    return path


class TestNaming:
    """The first check fails whichever blank is wrong; the others tell which."""

    @pytest.mark.parametrize(
        ("old", "new", "blank"),
        [
            ("return x / 2", "return x / 3", "first-half"),
            ("2 * x\n    return", "3 * x\n    return", "first-double"),
            ("half(self.a + self.b)", "half(self.a - self.b)", "first-mean"),
        ],
    )
    def test_the_blank_that_failing_checks_share_is_named(self, tito, edit, blanks, old, new, blank):
        edit("modules/01_first/01_first.py", old, new)
        code, out, _ = tito("test", "01")
        assert code == 1
        assert len([line for line in out.splitlines() if line.startswith(("PASS", "FAIL"))]) == 4  # none is left out
        assert "first failure  first.a_mean_of_doubles" in out
        assert f"  blank {blank}; for a hint: tito hint 01 {blank}" in out

    def test_an_empty_blank_is_named_for_certain(self, tito, blanks):
        text = blanks.read_text()
        start = text.index("def half")
        blanks.write_text(
            text[:start] + emptied(text[start:].split("# %%")[0], 1) + "\n# %%" + text[start:].split("# %%", 1)[1]
        )
        _, out, _ = tito("test", "01")
        assert "NotImplementedError: module 01: write half" in out
        assert "blank first-half" in out
        assert "or blank" not in out

    def test_a_blank_of_an_earlier_lesson_is_named_with_its_file(self, tito, edit):
        edit("modules/01_first/01_first.py", "    doubled   =   2 * x\n", "    doubled = 2 * y\n")
        _, out, _ = tito("test", "04")
        where = "blank first-double of an earlier lesson, modules/01_first/01_first.py, line"
        assert where in out
        assert "for a hint: tito hint 01 first-double" in out

    def test_one_check_alone_names_a_blank_too(self, tito, edit, blanks):
        edit("modules/01_first/01_first.py", "return x / 2", "return x / 3")
        _, out, _ = tito("test", "01", "-k", "first.half_of_a_double")
        assert "blank first-half" in out

    def test_what_pytest_prints_was_not_run_by_the_check(self, tito, edit, blanks, root):
        """Only the failing check would run __repr__."""
        edit("modules/01_first/01_first.py", "return x / 2", "return x / 3")
        tests = TWO_TESTS + "\n\ndef test_printed():\n    pair = Pair(2, 4)\n    assert pair.mean() == 3, pair\n"
        (root / "tests/01_first/test_first.py").write_text(tests)
        _, out, _ = tito("test", "01")
        assert "  blank first-half" in out

    def test_a_likely_reason_is_given(self, tito, edit, blanks, root):
        tests = "import numpy as np\n" + TWO_TESTS.replace(
            "double(2) == 4", "double(np.ones((2, 3))).tolist() == [[2] * 3] * 2"
        )
        (root / "tests/01_first/test_first.py").write_text(tests)
        edit("modules/01_first/01_first.py", "2 * x\n    return", "-2 * x\n    return")
        _, out, _ = tito("test", "01", "-k", "first.double")
        assert "likely: the result has the right size and the opposite sign" in out


WRONG = [
    ("first-half", "return x / 2", "return x / 5"),
    ("first-double", "2 * x\n    return", "3 * x\n    return"),
    ("first-mean", "half(self.a + self.b)", "half(self.a - self.b)"),
]


class TestProof:
    """One check runs all blanks and fails; the solution of one of them is what makes it pass."""

    @pytest.fixture
    def alone(self, root, blanks, tmp_path, monkeypatch):
        """The course as it was released, and one check of it."""
        shutil.copytree(root, tmp_path / "released")
        monkeypatch.setattr(material, "root", lambda: tmp_path / "released")
        (root / "tests/01_first/test_first.py").write_text(TWO_TESTS.split("\n\n\ndef test_double")[0])

    @pytest.mark.parametrize(("blank", "old", "new"), WRONG[::2], ids=[blank for blank, _, _ in WRONG[::2]])
    def test_the_blank_whose_solution_makes_the_check_pass_is_named(self, tito, edit, alone, blank, old, new):
        """Those that are right may be written in another way."""
        edit("modules/01_first/01_first.py", "    doubled   =   2 * x\n    return doubled", "    return x + x")
        edit("modules/01_first/01_first.py", old, new)
        _, out, _ = tito("test", "01")
        assert f"  blank {blank}, with whose solution this check passes; for a hint: tito hint 01 {blank}\n" in out
        assert "or blank" not in out

    def test_where_two_are_wrong_nothing_is_proved(self, tito, edit, alone):
        for _, old, new in WRONG[:2]:
            edit("modules/01_first/01_first.py", old, new)
        _, out, _ = tito("test", "01")
        assert "  blank first-" in out
        assert "with whose solution" not in out

    def test_what_a_learner_added_to_a_blank_is_still_there(self, tito, edit, alone):
        edit("modules/01_first/01_first.py", "def half(x):", "def third(x):\n    return x / 3\n\n\ndef half(x):")
        edit("modules/01_first/01_first.py", "return x / 2", "return third(x)")
        edit("modules/01_first/01_first.py", "return half(self", "return third(0) + half(self")
        assert "  blank first-half, with whose" in tito("test", "01")[1]


def test_a_runner_up_is_named_only_if_it_is_nearly_as_suspicious():
    a, b = Blank(None, "a"), Blank(None, "b")
    assert named([(1.0, a), (0.99, b)]) == [a, b]
    assert named([(1.0, a), (0.5, b)]) == [a]
    assert named([]) == []


def test_a_sample_of_mistakes_is_traced_to_its_blanks():
    """The whole measurement is `python -m support.messages`, run in tests/; it takes a suite per mistake."""
    done = python(f"{ROOT / 'tests'}{os.pathsep}{ROOT}", "-m", "support.messages", "03_layers", "--sample", "5")
    assert "03_layers: 5 of 5 named first" in done.stdout, done.stdout + done.stderr
