"""A course of two small lessons in a scratch folder, and `tito` run in it."""

import sys

import pytest

COURSE = """\
name = "Small"
version = "1"

[[module]]
number = 1
name = "first"
title = "First"

[[module]]
number = 4
name = "second"
title = "Second"

[[milestone]]
number = 1
name = "1900_start"
title = "A start"
needs = [1]

[[milestone]]
number = 2
name = "1901_more"
title = "More"
needs = [1, 4]

[doors."tinytorch"]
functions = ["core.first", "core.second"]
"""

KEYS = '"locked": false, "points": 0, "schema_version": 3, "solution": true, "task": false'

FIRST = '''\
# ---
# jupyter:
#   jupytext:
#     cell_markers: '"""'
# ---

# %% [markdown]
"""
# First
"""

# %%
#| default_exp core.first

# %%
#| export
"""Doubling."""

import math

# %% [markdown]
"""
Write `double`.

<details><summary>Hint 1</summary>

Twice is `x + x`.

</details>

<details><summary>Hint 2</summary>

```python
return 2 * x
```

</details>
"""

# %% nbgrader={"grade": false, "grade_id": "first-double", KEYS}
#| export
def double(x):
    """Twice x."""
    ### BEGIN SOLUTION
    doubled   =   2 * x
    return doubled
    ### END SOLUTION


def area(radius):
    """Of a circle."""
    return math.pi * radius**2

# %%
double(3)
'''

SECOND = '''\
# %%
#| default_exp core.second

# %%
#| export
"""Four times."""

from tinytorch.core.first import double

# %% nbgrader={"grade": false, "grade_id": "second-quadruple", KEYS}
#| export
class Machine:
    """Does it."""

    def quadruple(self, x):
        ### BEGIN SOLUTION
        return double(double(x))
        ### END SOLUTION


def quadruple(x):
    """Four times x."""
    return Machine().quadruple(x)
'''

FIRST_TESTS = """\
import pytest
from tinytorch.core.first import area, double


@pytest.mark.parametrize("x", [0, 1, 2])
def test_double_is_twice(x):
    assert double(x) == 2 * x


def test_area_of_the_unit_circle():
    assert area(1) == pytest.approx(3.14159265)
"""

SECOND_TESTS = """\
import tinytorch
from tinytorch.core.second import quadruple


class TestModule04SecondCore:
    def test_quadruple(self):
        assert quadruple(3) == 12


def test_the_door_is_open():
    assert tinytorch.double(2) == 4
"""


START = '''\
"""1900: a start.

Goal  3
"""
import sys

print(sys.argv[1:])
sys.exit(7)
'''


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The folder of the small course; also the current one."""
    folder = tmp_path / "course"
    for path, text in {
        "course.toml": COURSE,
        "modules/01_first/01_first.py": FIRST,
        "modules/04_second/04_second.py": SECOND,
        "tests/01_first/test_first.py": FIRST_TESTS,
        "tests/04_second/test_progressive_integration.py": SECOND_TESTS,
        "milestones/01_1900_start.py": START,
    }.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.replace("KEYS", KEYS), encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NO_COLOR", "1")
    return folder


@pytest.fixture
def edit(root):
    """Replace text that occurs once in a file of the course."""

    def replace(file, old, new):
        path = root / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), encoding="utf-8")

    return replace


@pytest.fixture
def tito(root, monkeypatch, capfd):
    """Run `tito` with these arguments: (exit code, standard output, standard error)."""
    from tito.main import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tito", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capfd.readouterr()

    return run
