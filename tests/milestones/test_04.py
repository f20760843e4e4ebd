"""The convolutional network of 1998, run as a learner runs it, and its way with photographs on a handful of them."""

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
from tinytorch.data.transforms import Compose, ToTensor

SCRIPT = Path(__file__).resolve().parents[2] / "milestones" / "04_1998_cnn.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The finished process, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("cnn")
    package = str(Path(tinytorch.__file__).resolve().parents[1])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.run(
        [sys.executable, "-P", "-W", "error", str(SCRIPT), "--out", "pictures"],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
    )
    return process, folder


@pytest.fixture
def cnn():
    spec = importlib.util.spec_from_file_location("milestone", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def photographs(n, transform):
    """n pictures in CIFAR-10's format: dark, but for one bright row, whose place is the class."""
    labels = np.arange(n) % 10
    images = np.zeros((n, 3, 32, 32), np.uint8)
    images[np.arange(n), :, 3 * labels] = 255
    return TensorDataset(images, labels, transform=Compose([ToTensor(), transform]))


@pytest.fixture
def few_photographs(cnn, monkeypatch):
    monkeypatch.setattr(cnn.datasets, "cifar10", lambda split, transform: photographs(30, transform))


def test_it_passes_without_a_terminal_and_without_complaints(finished):
    process, _ = finished
    assert (process.returncode, process.stderr) == (0, "")


def test_its_last_line_is_the_verdict_with_a_number_and_the_goal(finished):
    process, _ = finished
    verdict = re.fullmatch(r"PASS: (\d\d\.\d)% of 359 .*\(goal: 98%\)", process.stdout.splitlines()[-1])
    assert float(verdict[1]) >= 98


def test_it_reports_progress_while_it_works(finished):
    process, _ = finished
    lines = re.findall(r"^epoch +(\d+)/20  loss \d.*validation loss \d.*accuracy \d", process.stdout, flags=re.M)
    assert [int(epoch) for epoch in lines] == list(range(1, 21))


def test_it_saves_a_picture_where_it_was_told_and_says_so(finished):
    process, folder = finished
    picture = folder / "pictures" / "04_1998_cnn.png"
    assert f"picture: {Path('pictures', picture.name)}" in process.stdout
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(picture.read_bytes()[16:20], "big") == 1200  # pixels across
    assert picture.stat().st_size > 20_000


def test_it_counts_what_a_fully_connected_layer_would_need(finished):
    process, _ = finished
    said = re.search(r"makes ([\d,]+) numbers out of 64 with 160 weights;\n.* need ([\d,]+)\.", process.stdout)
    assert said.groups() == (f"{16 * 8 * 8:,}", f"{65 * 16 * 8 * 8:,}")


def test_it_is_one_short_script_that_tells_its_story(cnn):
    assert len(SCRIPT.read_text().splitlines()) < 200
    assert cnn.__doc__.startswith("1998")
    for heading in ("Data  ", "Goal  ", "outputs/04_1998_cnn.png"):
        assert heading in cnn.__doc__


def test_a_goal_that_is_missed_is_a_failure(cnn, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(cnn.EPOCHS, "digits", 2)
    monkeypatch.setitem(cnn.GOAL, "digits", 1.01)
    monkeypatch.setattr(sys, "argv", ["milestone", "--out", str(tmp_path)])
    assert cnn.main() == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAIL: ")


def test_photographs_get_a_network_and_a_picture_of_their_own(cnn, few_photographs, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(cnn.EPOCHS, "cifar10", 2)
    monkeypatch.setitem(cnn.GOAL, "cifar10", 0.0)
    monkeypatch.setattr(sys, "argv", ["milestone", "--data", "cifar10", "--out", str(tmp_path)])
    assert cnn.main() == 0
    assert (tmp_path / "04_1998_cnn_cifar10.png").stat().st_size > 20_000
    assert "32,768 numbers out of 3,072 with 896 weights" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_pictures_are_changed_for_training_and_left_alone_when_held_out(cnn, few_photographs, name):
    training, held_out, names = cnn.load(name)
    assert not np.array_equal(training[:][0].numpy(), training[:][0].numpy())
    np.testing.assert_array_equal(held_out[:][0].numpy(), held_out[:][0].numpy())
    assert len(names) == 10


def test_photographs_are_centered_channel_by_channel(cnn, few_photographs):
    _, held_out, _ = cnn.load("cifar10")
    pixels = held_out[0][0].numpy()
    np.testing.assert_allclose(pixels[:, 31, 31], -np.array([0.491 / 0.247, 0.482 / 0.243, 0.447 / 0.262]), rtol=1e-5)


def test_the_maps_in_the_picture_are_those_after_the_first_relu(cnn):
    model = cnn.network("digits").eval()
    image = np.random.default_rng(0).random((1, 8, 8), dtype=np.float32)
    seen = cnn.maps(model, image)
    with tinytorch.no_grad():
        expected = model[2](model[1](model[0](tinytorch.Tensor(image[None]))))
    np.testing.assert_array_equal(seen, expected.numpy()[0])
