"""Results in files: the same ones come back, and anything else is refused."""

import json
import os

import pytest

from tinytorch.benchmarking.benchmark import BenchmarkResult, load_results, load_suite, save_results

HERE = {"processor": "abacus", "cores": 2}
RESULTS = [BenchmarkResult("a", [0.1, 0.2, 1 / 3], HERE), BenchmarkResult("büro 日", [5e-324, 1.7e308], HERE, 8, 0.9)]
ENTRY = RESULTS[0].to_dict()


def document(*entries, **changes):
    return json.dumps({"schema": "tinytorch.benchmark/1", "results": list(entries), **changes})


def test_the_same_results_come_back(tmp_path):
    save_results(tmp_path / "r.json", RESULTS)
    assert load_results(tmp_path / "r.json") == RESULTS


def test_one_result_may_come_alone_and_paths_as_text(tmp_path):
    save_results(str(tmp_path / "r.json"), RESULTS[0])
    assert load_results(str(tmp_path / "r.json")) == RESULTS[:1]


def test_it_is_one_json_document_that_says_what_it_is(tmp_path):
    save_results(tmp_path / "r.json", RESULTS)
    held = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert held == {"schema": "tinytorch.benchmark/1", "results": [result.to_dict() for result in RESULTS]}


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    save_results(tmp_path / "r.json", RESULTS)

    def full(*args):
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        save_results(tmp_path / "r.json", RESULTS[:1])
    assert load_results(tmp_path / "r.json") == RESULTS
    assert os.listdir(tmp_path) == ["r.json"]


@pytest.mark.parametrize("results", [[], [RESULTS[0], RESULTS[0]], [ENTRY], "a"])
def test_what_are_no_results_is_not_written(tmp_path, results):
    with pytest.raises((TypeError, ValueError), match="save_results needs"):
        save_results(tmp_path / "r.json", results)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"{'a': 1}", "is not JSON"),
        (document(ENTRY)[:-1].encode(), "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"schema": NaN}', "is not JSON: NaN is no number"),
        (b"[]", "its schema is None"),
        (b'{"results": []}', "its schema is None"),
        (document(ENTRY, schema="tinytorch.benchmark/2"), "its schema is 'tinytorch.benchmark/2'"),
        (document(ENTRY, schema=["tinytorch.benchmark/1"]), "its schema is"),
        (document(ENTRY, more=1), "needs an object with results, schema, got more, results, schema"),
        (document(results={"a": ENTRY}), "results must be a list, got dict"),
        (document(), "at least one result, got none"),
        (document(ENTRY, ENTRY), "different names, got 'a'"),
        (document(ENTRY, 7), "results number 1: .* got int"),
        (document({}), "results number 0: .* got nothing"),
        (document({**ENTRY, "times": []}), "results number 0: .* at least one repeat"),
        (document({**ENTRY, "times": [0]}), "above 0, got 0"),
        (document({**ENTRY, "times": [True]}), "above 0, got True"),
        (document({**ENTRY, "times": ["1"]}), "above 0, got '1'"),
        (document({**ENTRY, "times": [10**400]}), "above 0, got 1000"),
        (document({**ENTRY, "times": "123"}), "needs the times"),
        (document({**ENTRY, "name": None}), "a name"),
        (document({**ENTRY, "loops": 0.5}), "loops"),
        (document({**ENTRY, "level": 2}), "level"),
        (document({**ENTRY, "machine": []}), "machine"),
        (document({**ENTRY, "machine": {"cores": None}}), "text or numbers"),
        (document({**ENTRY, "median": 0.0}), "got level, loops, machine, median, name, times"),
        (document({key: ENTRY[key] for key in ENTRY if key != "loops"}), "got level, machine, name, times"),
    ],
)
def test_any_other_file_is_refused_with_its_name_and_the_reason(tmp_path, content, message):
    path = tmp_path / "hostile.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message) as caught:
        load_results(path)
    assert str(caught.value).startswith(str(path))


def test_a_file_of_results_is_no_suite(tmp_path):
    save_results(tmp_path / "r.json", RESULTS)
    with pytest.raises(ValueError, match="not a document of schema 'tinytorch.suite/1'"):
        load_suite(tmp_path / "r.json")


def test_a_file_that_is_not_there_is_said_by_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_results(tmp_path / "nothing.json")
