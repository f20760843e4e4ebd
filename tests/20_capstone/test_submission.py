"""A submission: how a step is made, and which fields a checker refuses."""

import json
import math

import numpy as np
import pytest

from tinytorch.applications.tinygpt import SCHEMA, measured_step, step_problems, validate_submission, write_submission
from tinytorch.benchmarking.benchmark import BenchmarkResult
from tinytorch.core.layers import Linear
from tinytorch.optimization.quantization import QuantizedLinear

HERE = {"processor": "any"}
WALL = BenchmarkResult("w", (2.0, 4.0, 3.0), HERE)
PROCESSOR = BenchmarkResult("p", (1.0, 1.0, 9.0), HERE)
STEP = "submission.tasks[0].steps[1]"


def spoilt(document, path, value):
    """The document with another value at a path; the value DELETE takes the field away."""
    place = document
    for key in path[:-1]:
        place = place[key]
    if value is DELETE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


DELETE = object()
STEPS = ("tasks", 0, "steps", 1)
WRONG = [
    (("schema",), "tinytorch.submission/2", "submission.schema must be 'tinytorch.submission/1'"),
    (("schema",), DELETE, "submission.schema is missing"),
    (("machine",), {}, "submission.machine must be an object"),
    (("machine",), "a laptop", "submission.machine must be an object"),
    (("machine", "cores"), 2.5, "submission.machine.cores must be a text or a whole number, got 2.5"),
    (("machine", "cores"), True, "submission.machine.cores must be"),
    (("tasks",), [], "submission.tasks must be a list with at least one task"),
    (("tasks",), {}, "submission.tasks must be a list"),
    (("tasks", 0), "digits", r"submission.tasks\[0\] must be an object, got str"),
    (("tasks", 0, "task"), "", r"submission.tasks\[0\].task must be a text"),
    (("tasks", 0, "quality"), None, r"submission.tasks\[0\].quality must be a text, got None"),
    (("tasks", 0, "better"), "best", r"submission.tasks\[0\].better must be 'lower' or 'higher', got 'best'"),
    (("tasks", 0, "per"), DELETE, r"submission.tasks\[0\].per is missing"),
    (("tasks", 0, "steps"), [], r"submission.tasks\[0\].steps must be a list with at least one step"),
    (("tasks", 0, "steps", 0, "name"), "first", r"steps\[0\].name must be 'baseline'"),
    ((*STEPS, "name"), "baseline", r"steps\[1\].name 'baseline' is there already"),
    (STEPS, 3, r"steps\[1\] must be an object, got int"),
    (("remarks",), "none", "submission.remarks is not a field"),
]
WRONG_STEP = [
    (("name",), "", ".name must be a text, got ''"),
    (("name",), 3, ".name must be a text, got 3"),
    (("bytes",), 0, ".bytes must be a whole number of at least 1, got 0"),
    (("bytes",), -5, ".bytes must be a whole number of at least 1, got -5"),
    (("bytes",), 10.0, ".bytes must be a whole number of at least 1, got 10.0"),
    (("bytes",), "10", ".bytes must be a whole number of at least 1, got '10'"),
    (("bytes",), True, ".bytes must be a whole number of at least 1, got True"),
    (("bytes",), np.int64(3), ".bytes must be a whole number of at least 1, got np.int64(3)"),
    (("bytes",), DELETE, ".bytes is missing"),
    (("cache_bytes",), -1, ".cache_bytes must be a whole number of at least 0, got -1"),
    (("cpu_seconds",), -0.1, ".cpu_seconds must be a number of at least 0, got -0.1"),
    (("cpu_seconds",), math.inf, ".cpu_seconds must be a number of at least 0, got inf"),
    (("quality",), math.nan, ".quality must be a number, got nan"),
    (("quality",), None, ".quality must be a number, got None"),
    (("seconds",), 0.002, ".seconds must be an object, got float"),
    (("seconds", "low"), DELETE, ".seconds.low is missing"),
    (("seconds", "mean"), 0.1, ".seconds.mean is not a field"),
    (("seconds", "runs"), 0, ".seconds.runs must be a whole number of at least 1, got 0"),
    (("seconds", "median"), math.nan, ".seconds.median must be a number of at least 0, got nan"),
    (("seconds", "median"), -1.0, ".seconds.median must be a number of at least 0, got -1.0"),
    (("seconds", "low"), 0.0025, ".seconds must have low <= median <= high"),
    (("seconds", "high"), 0.0015, ".seconds must have low <= median <= high"),
    (("byte",), 3, ".byte is not a field; there are name, bytes, seconds, quality, cache_bytes, cpu_seconds"),
]


class TestStep:
    def test_times_are_for_one_token(self):
        step = measured_step("cache", Linear(4, 2), WALL, PROCESSOR, 4, 1.25, 96)
        assert step == {
            "name": "cache",
            "bytes": 40,
            "cache_bytes": 96,
            "seconds": {"median": 0.75, "low": 0.5, "high": 1.0, "runs": 3},
            "cpu_seconds": 0.25,
            "quality": 1.25,
        }

    def test_bytes_are_those_held(self):
        layer = QuantizedLinear.from_linear(Linear(100, 10))
        assert measured_step("int8", layer, WALL, PROCESSOR, 1, 0.0)["bytes"] == 1000 + 40 + 40

    def test_what_it_makes_is_valid(self):
        assert step_problems("here", measured_step("any", Linear(4, 2), WALL, PROCESSOR, 3, -0.5)) == []


class TestValidation:
    def test_a_good_one_passes(self, submission):
        assert submission["schema"] == SCHEMA
        assert [step_problems("s", step) for step in submission["tasks"][0]["steps"]] == [[], []]
        assert validate_submission(submission) is None

    @pytest.mark.parametrize(("path", "value", "message"), WRONG)
    def test_what_is_wrong_is_named(self, submission, path, value, message):
        with pytest.raises(ValueError, match=message):
            validate_submission(spoilt(submission, path, value))

    @pytest.mark.parametrize(("path", "value", "message"), WRONG_STEP)
    def test_a_wrong_field_of_a_step_is_named_with_its_place(self, submission, path, value, message):
        document = spoilt(submission, (*STEPS, *path), value)
        assert step_problems("here", document["tasks"][0]["steps"][1])[0].startswith(f"here{message}")
        with pytest.raises(ValueError) as raised:
            validate_submission(document)
        assert STEP + message in str(raised.value)
        assert len(str(raised.value).splitlines()) == 2

    def test_all_that_is_wrong_is_said_at_once(self, submission):
        step = submission["tasks"][0]["steps"][1]
        step.update(bytes=0, quality=math.nan, cpu_seconds=-1, cache_bytes=0.5, name=" ")
        step["seconds"] = {"median": None, "low": 1, "high": "2", "runs": False}
        assert len(step_problems("s", step)) == 8

    @pytest.mark.parametrize("document", [None, [], "text", 3])
    def test_what_is_no_object_is_none(self, document):
        with pytest.raises(ValueError, match="submission must be an object"):
            validate_submission(document)

    @pytest.mark.parametrize("key", ["low", "median", "high"])
    def test_an_interval_may_be_a_point(self, submission, key):
        seconds = submission["tasks"][0]["steps"][1]["seconds"]
        seconds.update(low=seconds[key], median=seconds[key], high=seconds[key])
        assert validate_submission(submission) is None

    def test_whole_numbers_are_numbers(self, submission):
        submission["tasks"][0]["steps"][1].update(quality=1, cpu_seconds=0)
        assert validate_submission(submission) is None

    def test_nothing_is_changed(self, submission):
        before = json.dumps(submission)
        validate_submission(submission)
        assert json.dumps(submission) == before


class TestWriting:
    def test_it_is_json_and_comes_back(self, submission, tmp_path):
        write_submission(tmp_path / "submission.json", submission)
        assert json.loads((tmp_path / "submission.json").read_text(encoding="utf-8")) == submission

    def test_a_wrong_one_is_not_written(self, submission, tmp_path):
        submission["tasks"][0]["steps"][0]["quality"] = math.nan
        with pytest.raises(ValueError, match="quality must be a number"):
            write_submission(tmp_path / "submission.json", submission)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_not_there_is_named(self, submission, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere to write s\.json into"):
            write_submission(tmp_path / "nowhere" / "s.json", submission)

    def test_a_folder_is_no_file(self, submission, tmp_path):
        with pytest.raises(IsADirectoryError, match="is a folder"):
            write_submission(tmp_path, submission)
