"""Each milestone, run as a learner runs it: a script on the exported package, without a terminal."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinytorch
from tinytorch.data.loader import TensorDataset

SCRIPTS = Path(__file__).resolve().parents[2] / "milestones"
NAMES = ["01_1957_perceptron", "02_1969_xor", "03_1986_mlp"]


def run(name, *arguments, cwd):
    """The finished process of a milestone, on the very package that this test has imported."""
    package = str(Path(tinytorch.__file__).resolve().parents[1])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, "-P", "-W", "error", str(SCRIPTS / f"{name}.py"), *arguments],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
    )


def load(name):
    spec = importlib.util.spec_from_file_location("milestone", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=NAMES)
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, run(request.param, "--out", "pictures", cwd=folder), folder


def test_a_milestone_passes_without_a_terminal_and_without_complaints(finished):
    _, process, _ = finished
    assert (process.returncode, process.stderr) == (0, "")


def test_its_last_line_is_the_verdict_with_a_number_and_the_goal(finished):
    _, process, _ = finished
    assert re.match(r"PASS: .*\d\.\d%.*goal: \d\d", process.stdout.splitlines()[-1])


def test_it_reports_progress_while_it_works(finished):
    _, process, _ = finished
    assert len(re.findall(r"^  (?:round|step|epoch) +\d+ ", process.stdout, flags=re.M)) >= 4


def test_it_saves_a_picture_where_it_was_told_and_says_so(finished):
    name, process, folder = finished
    picture = folder / "pictures" / f"{name}.png"
    assert f"picture: {Path('pictures', picture.name)}" in process.stdout
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 20_000


@pytest.mark.parametrize("name", NAMES)
def test_a_milestone_is_one_short_script_that_tells_its_story(name):
    module = load(name)
    assert len((SCRIPTS / f"{name}.py").read_text().splitlines()) < 200
    assert module.__doc__.startswith(name[3:7])
    for heading in ("Data  ", "Goal  ", f"outputs/{name}.png"):
        assert heading in module.__doc__


def test_a_goal_that_is_missed_is_a_failure(monkeypatch, tmp_path, capsys):
    perceptron = load("01_1957_perceptron")
    monkeypatch.setattr(perceptron, "GOAL", 1.01)
    monkeypatch.setattr(sys, "argv", ["milestone", "--out", str(tmp_path)])
    assert perceptron.main() == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAIL: ")


def test_xor_fails_first_and_then_succeeds(tmp_path):
    lines = run("02_1969_xor", "--out", str(tmp_path), "--seed", "1", cwd=tmp_path).stdout
    one, two = (float(number) for number in re.findall(r"layers? gets? (\d+\.\d)%", lines))
    assert one < 80
    assert two >= 99


def test_with_only_the_test_digits_of_mnist_it_says_so_and_lowers_the_goal(monkeypatch, capsys):
    mlp = load("03_1986_mlp")

    def mnist(split):
        if split == "train":
            raise FileNotFoundError("the training files")
        return TensorDataset(np.zeros((10_000, 1, 2, 2), np.uint8), np.arange(10_000))

    monkeypatch.setattr(mlp, "mnist", mnist)
    training, held_out, _, goal = mlp.load("mnist")
    assert (len(training), len(held_out), goal) == (8_000, 2_000, 0.95)
    assert set(training.indices).isdisjoint(held_out.indices)
    assert "only its 10,000 test digits" in capsys.readouterr().out


def test_with_all_of_mnist_the_official_parts_are_used(monkeypatch):
    mlp = load("03_1986_mlp")
    monkeypatch.setattr(mlp, "mnist", lambda split: split)
    training, held_out, _, goal = mlp.load("mnist")
    assert (training, held_out, goal) == ("train", "test", 0.97)


def test_with_nothing_of_mnist_the_error_says_what_to_fetch(monkeypatch, tmp_path):
    mlp = load("03_1986_mlp")

    def mnist(split):
        raise FileNotFoundError(f"put the {split} files there")

    monkeypatch.setattr(mlp, "mnist", mnist)
    with pytest.raises(FileNotFoundError, match="put the test files there"):
        mlp.load("mnist")
