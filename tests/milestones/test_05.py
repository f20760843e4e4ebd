"""The milestone of 2017, part by part: reversing in full, answering with fewer steps than the script takes."""

import contextlib
import copy
import importlib.util
import io
import math
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import tinytorch

FOLDER = Path(__file__).resolve().parents[2] / "milestones"
LINES = (FOLDER / "data" / "questions.txt").read_text(encoding="utf-8").splitlines()
PAIRS = [tuple(line.split("\t")) for line in LINES]
SMALL = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
NUMBERS = SMALL + [start + "teen" for start in ("thir", "four", "fif", "six", "seven", "eigh")]


def load():
    spec = importlib.util.spec_from_file_location("transformer_milestone", FOLDER / "05_2017_transformer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def quietly(function, *arguments):
    """What the function returns, and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        returned = function(*arguments)
    return returned, printed.getvalue()


@pytest.fixture(scope="module")
def reversed_():
    """All of the first part, with as many steps as the script takes: the module, its results, what it printed."""
    tinytorch.manual_seed(0)
    milestone = load()
    return milestone, *quietly(milestone.reverse, np.random.default_rng(0))


@pytest.fixture(scope="module")
def answering():
    """The second part after 120 steps: the module, the task with its model, the history, what was printed."""
    tinytorch.manual_seed(0)
    milestone = load()
    task = milestone.questions(np.random.default_rng(0))
    history, printed = quietly(milestone.train, task.model, task.draw, task.held_out, 120, task.training["lr"])
    return milestone, task, history, printed


class TestReversing:
    def test_attention_reverses_sequences_it_has_never_seen(self, reversed_):
        milestone, (_, _, share), printed = reversed_
        assert share >= milestone.GOAL == 0.95
        assert printed.splitlines()[-1] == f"  {share:.1%} of 1,000 unseen sequences reversed without a mistake"

    def test_a_block_whose_places_see_only_themselves_does_no_better_than_guessing(self, reversed_):
        _, (_, (blind, _), _), printed = reversed_
        assert blind[-1][2] > math.log(26) - 0.02
        assert "  0.0% of 1,000 unseen sequences" in printed

    def test_every_place_looks_at_the_one_it_has_to_copy(self, reversed_):
        _, (model, _, _), _ = reversed_
        maps = model.maps(np.random.default_rng(2).integers(26, size=(50, 16)))
        assert maps.shape == (2, 16, 16)
        assert np.allclose(maps.sum(axis=-1), 1, atol=1e-5)
        assert (maps.mean(axis=0).argmax(axis=-1) == np.arange(16)[::-1]).all()

    def test_it_reports_progress_while_it_works(self, reversed_):
        _, _, printed = reversed_
        assert len(re.findall(r"^  step +\d+ +loss \d", printed, flags=re.MULTILINE)) >= 16


class TestAnswering:
    def test_the_held_out_loss_falls_far_below_guessing(self, answering):
        milestone, task, history, _ = answering
        first, last = history[0][2], history[-1][2]
        assert first > 6
        assert last < 2
        assert last == pytest.approx(milestone.judge(task.model, *task.held_out)[0], abs=1e-5)

    def test_of_a_pair_only_the_answer_has_to_be_foreseen(self, answering):
        milestone, task, _, _ = answering
        x, y = task.held_out
        for tokens, targets, (prompt, answer) in zip(x, y, task.prompts):
            counting = targets != milestone.NOTHING
            assert task.tokenizer.decode(targets[counting]) == answer
            assert task.tokenizer.decode(tokens[: counting.argmax() + 1]) == prompt

    def test_a_fact_that_is_asked_for_is_taught_in_two_other_ways_at_least(self, answering):
        _, task, _, _ = answering
        held_out = {(prompt.rstrip("\t"), answer.rstrip("\n")) for prompt, answer in task.prompts}
        taught = Counter(answer for question, answer in PAIRS if (question, answer) not in held_out)
        assert held_out <= set(PAIRS)
        assert len(held_out) == len(task.prompts) == len(PAIRS) // 10
        assert min(taught[answer] for _, answer in held_out) >= 2

    def test_nothing_that_is_held_out_is_drawn(self, answering):
        _, task, _, _ = answering
        held_out = {row.tobytes() for row in task.held_out[0]}
        drawn = {row.tobytes() for _ in range(100) for row in task.draw()[0]}
        assert len(drawn) > 800
        assert drawn.isdisjoint(held_out)

    def test_an_answer_is_printed_as_it_is_found_and_ends_with_its_line(self, answering, capsys):
        milestone, task, _, _ = answering
        prompt = task.prompts[0][0]
        answer = milestone.write(task, prompt)
        assert capsys.readouterr().out == "  " + prompt.replace("\t", "  ") + answer.rstrip("\n") + "\n"
        tokens = task.tokenizer.encode(prompt)
        assert task.tokenizer.decode(task.model.generate(tokens, **task.sampling)[len(tokens) :]) == answer

    def test_the_share_of_rows_without_a_mistake_is_that_of_greedy_answers(self, answering):
        milestone, task, _, _ = answering
        n = 24
        written = [quietly(milestone.write, task, prompt)[0] for prompt, _ in task.prompts[:n]]
        right = sum(text == answer for text, (_, answer) in zip(written, task.prompts))
        assert milestone.judge(task.model, *(part[:n] for part in task.held_out))[1] == right / n


class TestShakespeare:
    TEXT = "".join("etaoinshrdlu"[i * i % 11] for i in range(3000)) + "VWXYZ" * 100

    @pytest.fixture
    def task(self, monkeypatch):
        milestone = load()
        monkeypatch.setattr(milestone, "tiny_shakespeare", lambda: self.TEXT)
        return milestone.shakespeare(np.random.default_rng(0), T=16)

    def test_every_target_is_the_next_character(self, task):
        for x, y in (task.draw(), task.held_out):
            assert (x[:, 1:] == y[:, :-1]).all()
            assert x.shape[1] == 16

    def test_the_last_tenth_is_held_out_and_judged_whole(self, task):
        x, y = task.held_out
        assert task.tokenizer.decode([*x.ravel(), y[-1, -1]]) == self.TEXT[3150 : 3150 + x.size + 1]
        assert 350 - 16 <= x.size + 1 <= 350

    def test_it_trains_on_the_rest(self, task):
        windows = {task.tokenizer.decode(row) for _ in range(50) for row in task.draw()[0]}
        assert all(window in self.TEXT[:3150] for window in windows)

    def test_a_missing_text_is_missed_before_any_work(self, monkeypatch):
        milestone = load()

        def missing():
            raise FileNotFoundError("put input.txt there")

        monkeypatch.setattr(milestone, "tiny_shakespeare", missing)
        monkeypatch.setattr(milestone, "reverse", lambda rng: pytest.fail("worked first"))
        monkeypatch.setattr(sys, "argv", ["milestone", "--data", "shakespeare"])
        with pytest.raises(FileNotFoundError, match=re.escape("put input.txt there")):
            milestone.main()


class TestVerdict:
    @pytest.fixture
    def milestone(self, reversed_, answering, monkeypatch, tmp_path):
        """The script with both parts done, of which only a last step is trained again."""
        milestone, results, _ = reversed_
        _, task, _, _ = answering
        monkeypatch.setattr(milestone, "reverse", lambda rng: results)
        monkeypatch.setattr(milestone, "questions", lambda rng: task)
        monkeypatch.setattr(task, "model", copy.deepcopy(task.model))  # the other tests have theirs as it was
        monkeypatch.setattr(task, "training", {"steps": 2, "lr": 1e-5})
        monkeypatch.setattr(task, "goal", 2)
        monkeypatch.setattr(sys, "argv", ["milestone", "--out", str(tmp_path / "pictures")])
        return milestone

    def test_both_goals_reached_is_a_pass(self, milestone, capsys):
        assert milestone.main() == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert re.fullmatch(
            r"PASS: 1?\d\d\.\d% of 1,000 .*goal: 95%.*, held-out loss \d\.\d+ .*goal: at most 2.*", last
        )

    def test_a_loss_above_the_goal_is_a_failure(self, milestone, answering, monkeypatch, capsys):
        monkeypatch.setattr(answering[1], "goal", 0.001)
        assert milestone.main() == 1
        assert capsys.readouterr().out.splitlines()[-1].startswith("FAIL: ")

    def test_too_few_reversed_is_a_failure(self, milestone, monkeypatch, capsys):
        monkeypatch.setattr(milestone, "GOAL", 1.01)
        assert milestone.main() == 1
        assert capsys.readouterr().out.splitlines()[-1].startswith("FAIL: ")

    def test_the_picture_lies_where_it_was_told(self, milestone, tmp_path, capsys):
        milestone.main()
        picture = tmp_path / "pictures" / "05_2017_transformer.png"
        assert f"picture: {picture}" in capsys.readouterr().out
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert picture.stat().st_size > 20_000

    def test_the_script_is_short_and_tells_its_story(self, milestone):
        assert len((FOLDER / "05_2017_transformer.py").read_text(encoding="utf-8").splitlines()) < 270
        assert milestone.__doc__.startswith("2017")
        for heading in ("Data  ", "Goal  ", "outputs/05_2017_transformer.png"):
            assert heading in milestone.__doc__


class TestTheQuestions:
    def test_there_are_enough_and_each_is_asked_once(self):
        questions = [question for question, _ in PAIRS]
        assert len(set(questions)) == len(questions) >= 300

    def test_no_two_differ_only_in_case_or_punctuation(self):
        plain = ["".join(re.findall("[a-z]+", question.lower())) for question, _ in PAIRS]
        assert len(set(plain)) == len(plain)

    @pytest.mark.parametrize("line", LINES[:: len(LINES) // 60] + LINES[-1:])
    def test_every_line_is_a_question_a_tab_and_an_answer(self, line):
        assert re.fullmatch(r"[A-Z][A-Za-z ,.'-]*[.?]\t[A-Z][A-Za-z ,.?'-]*[.?]", line)

    def test_the_pages_that_count_them_count_right(self):
        sheet = (FOLDER / "data" / "README.md").read_text(encoding="utf-8")
        assert f"{len(PAIRS)} short questions" in load().__doc__
        assert f"{len(PAIRS)} pairs" in sheet
        assert f"{len({answer for _, answer in PAIRS})} answers" in sheet

    def test_the_sums_are_right(self):
        found = [
            match for _, answer in PAIRS if (match := re.fullmatch(r"(\w+) (plus|minus) (\w+) is (\w+)\.", answer))
        ]
        assert len(found) > 100
        for match in found:
            a, b, c = (NUMBERS.index(match[i].lower()) for i in (1, 3, 4))
            assert c == (a + b if match[2] == "plus" else a - b)
        for a, b in re.findall(r"\tTwice (\w+) is (\w+)\.", "\n".join(LINES)):
            assert NUMBERS.index(b) == 2 * NUMBERS.index(a)

    def test_days_and_months_follow_one_another(self):
        text = "\n".join(LINES)
        after = set(re.findall(r"\tAfter (\w+) comes (\w+)\.", text))
        before = set(re.findall(r"\tBefore (\w+) comes (\w+)\.", text))
        assert after == {(day, following) for following, day in before}
        assert len(after) == len({day for day, _ in after}) == 7 + 12
