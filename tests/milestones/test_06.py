"""The contest of 2018, with smaller models and fewer steps than the script takes; every goal can be missed."""

import contextlib
import copy
import importlib.util
import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import tinytorch
from tinytorch.applications.tinygpt import validate_submission

SCRIPT = Path(__file__).resolve().parents[2] / "milestones" / "06_2018_mlperf.py"
LINES = (SCRIPT.parent / "data" / "questions.txt").read_text(encoding="utf-8").splitlines()


def load():
    spec = importlib.util.spec_from_file_location("contest_milestone", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def contest():
    """Both tasks, small: the module, their results, what was printed, what the pruned writer was trained on."""
    milestone, repaired = load(), []
    milestone.EPOCHS, milestone.REPAIR, milestone.ROUNDS, milestone.TOKENS = 4, 1, 3, 8
    milestone.WRITER = {"embed_dim": 32, "num_layers": 1, "num_heads": 2, "context": 32}
    milestone.TRAINING = {"steps": 24, "batch_size": 4, "lr": 5e-3, "vocab_size": 300}
    fit = milestone.fit
    milestone.fit = lambda model, ids, *more: (repaired.append(ids), fit(model, ids, *more))
    train = milestone.TinyGPT.train

    def keeping(*arguments, **settings):
        milestone.app = train(*arguments, **settings)
        return milestone.app

    milestone.TinyGPT = type("Watched", (milestone.TinyGPT,), {"train": staticmethod(keeping)})
    tinytorch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        digits = milestone.read_digits()
        writing, speedup, same = milestone.write_answers(0)
    return SimpleNamespace(
        milestone=milestone,
        tasks=[digits, writing],
        speedup=speedup,
        same=same,
        printed=printed.getvalue(),
        repaired=repaired,
    )


def steps(task):
    return {step["name"]: step for step in task["steps"]}


class TestSteps:
    def test_every_step_keeps_what_the_steps_before_it_did(self, contest):
        digits, writing = contest.tasks
        assert list(steps(digits)) == ["baseline", "int8", "pruned, int8"]
        assert list(steps(writing)) == ["baseline", "int8", "pruned, int8", "pruned, int8, cache"]

    def test_bytes_are_those_of_the_layers(self, contest):
        held = {name: step["bytes"] for name, step in steps(contest.tasks[0]).items()}
        weights, outputs = 64 * 256 + 256 * 128 + 128 * 10, 256 + 128 + 10
        small, fewer = 64 * 128 + 128 * 64 + 64 * 10, 128 + 64 + 10
        assert held == {
            "baseline": 4 * (weights + outputs),
            "int8": weights + 8 * outputs,
            "pruned, int8": small + 8 * fewer,
        }

    def test_only_a_cache_takes_memory_for_a_cache(self, contest):
        digits, writing = ([step["cache_bytes"] for step in task["steps"]] for task in contest.tasks)
        assert digits == [0, 0, 0]
        assert writing == [0, 0, 0, 2 * 32 * 32 * 4]

    def test_a_cache_changes_speed_and_nothing_else(self, contest):
        found = steps(contest.tasks[1])
        plain, cached = found["pruned, int8"], found["pruned, int8, cache"]
        assert contest.same is True
        assert plain["quality"] == cached["quality"]
        assert plain["bytes"] == cached["bytes"]
        assert contest.speedup.median > 0

    def test_every_step_was_timed_as_often_as_told(self, contest):
        for task in contest.tasks:
            assert [step["seconds"]["runs"] for step in task["steps"]] == [3] * len(task["steps"])

    def test_quality_is_measured_on_what_was_held_out(self, contest):
        app = contest.milestone.app
        assert steps(contest.tasks[1])["baseline"]["quality"] == pytest.approx(app.loss(app.held_out))
        assert 0.8 < steps(contest.tasks[0])["baseline"]["quality"] <= 1
        for step in contest.tasks[0]["steps"]:
            assert 359 * step["quality"] == pytest.approx(round(359 * step["quality"]))

    def test_nothing_that_is_held_out_is_trained_on_after_pruning(self, contest):
        app = contest.milestone.app
        (ids,) = contest.repaired
        learnt = app.tokenizer.decode(ids).splitlines()
        assert sorted(learnt + app.held_out.splitlines()) == sorted(LINES)

    def test_it_reports_progress_and_profiles_before_it_changes_anything(self, contest):
        assert len(re.findall(r"^  (?:epoch|step) +\d+ +loss", contest.printed, re.MULTILINE)) >= 9
        assert contest.printed.count("; profiling took ") == 2


class TestGoals:
    @pytest.fixture
    def good(self, contest):
        """Results that reach every goal of the script, to be spoilt."""
        milestone, tasks = load(), copy.deepcopy(contest.tasks)
        for task, quality in zip(tasks, (0.97, 1.8)):
            for step, size in zip(task["steps"], (100_000, 26_000, 20_000, 20_000)):
                step.update(bytes=size, quality=quality)
        return milestone, tasks, SimpleNamespace(median=4.0)

    def missed(self, good, same=True):
        milestone, tasks, speedup = good
        return [what for what, *_, reached in milestone.judge(tasks, speedup, same) if not reached]

    def test_all_can_be_reached(self, good):
        assert self.missed(good) == []
        assert len(good[0].judge(*good[1:], True)) == 12

    @pytest.mark.parametrize(
        ("task", "step", "change", "what"),
        [
            (0, 0, {"quality": 0.949}, "digits read, float32"),
            (1, 0, {"quality": 2.3}, "held-out loss, float32"),
            (0, 1, {"bytes": 27_100}, "digits: bytes of int8"),
            (1, 1, {"bytes": 27_100}, "tinygpt: bytes of int8"),
            (0, 2, {"bytes": 26_000}, "digits: pruned"),
            (1, 2, {"bytes": 26_000}, "tinygpt: pruned"),
            (0, 1, {"quality": 0.964}, "digits: points lost, int8"),
            (0, 2, {"quality": 0.959}, "digits: points lost, pruned, int8"),
            (1, 1, {"quality": 1.83}, "tinygpt: perplexity times, int8"),
            (1, 2, {"quality": 1.86}, "tinygpt: perplexity times, pruned, int8"),
        ],
    )
    def test_each_can_be_missed(self, good, task, step, change, what):
        good[1][task]["steps"][step].update(change)
        assert what in self.missed(good)

    def test_a_slow_cache_misses(self, good):
        good[2].median = 2.9
        assert self.missed(good) == ["tinygpt: times faster with a cache"]

    def test_a_cache_that_writes_something_else_misses(self, good):
        assert self.missed(good, same=False) == ["tinygpt: the same text with a cache"]


class TestVerdict:
    @pytest.fixture
    def milestone(self, contest, monkeypatch, tmp_path):
        """The script with both tasks done."""
        milestone = load()
        monkeypatch.setattr(milestone, "read_digits", lambda: contest.tasks[0])
        monkeypatch.setattr(milestone, "write_answers", lambda seed: (contest.tasks[1], contest.speedup, contest.same))
        easy = {"right": 0, "loss": 9, "share": 1, "points": (100, 100), "perplexity": (9, 9), "speedup": 0}
        monkeypatch.setattr(milestone, "GOALS", easy)
        monkeypatch.setattr(sys, "argv", ["milestone", "--out", str(tmp_path / "results")])
        return milestone

    def test_all_goals_reached_is_a_pass(self, milestone, capsys):
        assert milestone.main() == 0
        printed = capsys.readouterr().out
        assert printed.count("  reached  ") == 12
        assert re.fullmatch(r"PASS: 12 of 12 goals reached after \d+ s \(goal: all 12\)", printed.splitlines()[-1])

    def test_one_missed_is_a_failure(self, milestone, capsys):
        milestone.GOALS["speedup"] = 1e9
        assert milestone.main() == 1
        printed = capsys.readouterr().out
        assert printed.count("  MISSED   ") == 1
        assert printed.splitlines()[-1].startswith("FAIL: 11 of 12 goals reached")

    def test_table_submission_and_picture_hold_what_was_measured(self, milestone, contest, tmp_path, capsys):
        milestone.main()
        printed, folder = capsys.readouterr().out, tmp_path / "results"
        for step in [step for task in contest.tasks for step in task["steps"]]:
            row = rf"^{step['name']} +{step['bytes']:,} .* {step['quality']:.4f}$"
            assert re.search(row, printed, re.MULTILINE)
        document = json.loads((folder / "06_2018_submission.json").read_text(encoding="utf-8"))
        assert validate_submission(document) is None
        assert document["tasks"] == contest.tasks
        picture = (folder / "06_2018_mlperf.png").read_bytes()
        assert picture[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(picture) > 20_000
        assert f"picture: {folder / '06_2018_mlperf.png'}" in printed

    def test_the_script_is_short_and_tells_its_story(self, milestone):
        assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) < 280
        assert milestone.__doc__.startswith("2018")
        for heading in ("Data  ", "Goal  ", "outputs/06_2018_mlperf.png", f"{len(LINES)} questions"):
            assert heading in milestone.__doc__
