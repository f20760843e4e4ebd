"""Results as a table, a file, a picture, and beside those of another day."""

import copy
import json
import sys

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import report


def result(name="mlp", threads=1, median=0.9, **changes):
    """As the benchmarks make one."""
    times = {"tinytorch": 0.9, "torch": 1.0, "numpy": 0.8}
    return {
        "name": name,
        "title": f"{name}, whole step",
        "threads": threads,
        "beside": "torch",
        "at_most": 1.0,
        "stretch": 0.75,
        "seconds": (None, None),
        "memory_bars": (1.5, 1.2),
        "times": {library: {"minimum": t, "median": t, "rounds": [t]} for library, t in times.items()},
        "ratios": {"tinytorch": {"minimum": median, "median": median}, "numpy": {"minimum": 0.8, "median": 0.8}},
        "memory": {"tinytorch": 3 << 20, "torch": 2 << 20},
        "growth": {"of": "batch", "exponents": {"tinytorch": [0.5, 0.75, 1.0]}},
    } | changes


def content(*results):
    return {**report.environment(), "results": list(results)}


@pytest.fixture
def files(tmp_path):
    """A function that saves results and returns the file."""

    def save(name, *results):
        report.save(tmp_path / name, content(*results))
        return tmp_path / name

    return save


def run(monkeypatch, *arguments):
    """The exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
    try:
        command.main()
    except SystemExit as stop:
        return stop.code
    return 0


class TestFile:
    def test_it_names_its_schema_the_machine_and_the_versions(self, files):
        saved = json.loads(files("a.json", result()).read_text())
        assert saved["schema"] == "tinytorch-benchmarks/1"
        assert saved["cores"] >= 1
        assert saved["versions"]["numpy"]
        assert {"date", "machine", "processor", "python"} <= saved.keys()
        assert saved["results"][0]["ratios"]["tinytorch"]["median"] == 0.9

    def test_what_is_saved_is_loaded(self, files):
        one = result()
        assert report.load(files("a.json", one))["results"] == [json.loads(json.dumps(one))]

    @pytest.mark.parametrize("text", ["{}", "[]", '{"schema": "tinytorch-benchmarks/0"}', "no json"])
    def test_other_files_are_refused(self, tmp_path, text):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match="a.json"):
            report.load(tmp_path / "a.json")

    @pytest.mark.skipif(sys.platform == "darwin", reason="threadpoolctl does not know Apple's BLAS")
    def test_the_blas_is_named_where_somebody_knows_it(self):
        pytest.importorskip("threadpoolctl", reason="it is what knows")
        np.ones((2, 2)) @ np.ones((2, 2))
        named = report.libraries()
        assert all(library["num_threads"] >= 1 for library in named)
        assert {"openblas", "mkl", "blis", "flexiblas"} & {library["internal_api"] for library in named}


class TestCompare:
    @pytest.mark.parametrize(
        ("before", "after", "code"), [(1.0, 1.1, 0), (1.0, 1.2, 1), (1.0, 0.5, 0), (0.5, 0.57, 0), (0.5, 0.6, 1)]
    )
    def test_worse_by_more_than_the_noise_exits_with_1(self, monkeypatch, files, before, after, code):
        old, new = files("old.json", result(median=before)), files("new.json", result(median=after))
        assert run(monkeypatch, "--results", new, "--compare", old) == code

    def test_the_noise_can_be_set(self, monkeypatch, files):
        old, new = files("old.json", result(median=1.0)), files("new.json", result(median=1.2))
        assert run(monkeypatch, "--results", new, "--compare", old, "--noise", 0.25) == 0

    def test_old_new_and_change_are_printed_for_each_workload(self, monkeypatch, files, capsys):
        old = files("old.json", result(median=1.0), result("gpt", median=1.0), result("gone"))
        new = files("new.json", result(median=1.5), result("gpt", median=0.7), result("added"))
        run(monkeypatch, "--results", new, "--compare", old)
        lines = {tuple(line.split()[:2]): line for line in capsys.readouterr().out.splitlines()}
        assert lines["mlp", "1"].split()[2:] == ["1.000", "1.500", "+50%", "WORSE"]
        assert lines["gpt", "1"].split()[2:] == ["1.000", "0.700", "-30%", "better"]
        assert lines["added", "1"].split()[2:] == ["0.900", "new"]
        assert lines["gone", "1"].split()[2:] == ["0.900", "not", "measured", "now"]

    def test_thread_counts_are_compared_apart(self):
        old = content(result(threads=1, median=1.0), result(threads=2, median=2.0))
        new = content(result(threads=1, median=1.0), result(threads=2, median=3.0))
        assert report.compare(old, new)[1] == [("mlp", 2)]

    def test_memory_is_compared_too(self):
        new = content(result(memory={"tinytorch": 4 << 20, "torch": 2 << 20}))
        assert report.compare(content(result()), new)[1] == [("mlp, memory", 1)]

    def test_times_are_compared_where_there_is_no_ratio(self):
        start = result("import", ratios={}, memory=None, seconds=(0.02, 0.006))
        slower = copy.deepcopy(start)
        slower["times"]["tinytorch"]["median"] *= 2
        assert report.compare(content(start), content(slower))[1] == [("import", 1)]


class TestTable:
    def test_a_row_holds_ratios_bars_by_hand_memory_and_exponents(self):
        row = report.row(result(), ["numpy", "autograd"])
        assert " ".join(row.split()) == "mlp, whole step 1 0.90 0.90 1.00 0.75 0.80 1.50 0.50 0.75 1.00 (batch)"

    def test_what_was_not_measured_is_left_blank(self):
        row = report.row(result(memory=None, growth=None, at_most=None, stretch=None), ["numpy"])
        assert " ".join(row.split()) == "mlp, whole step 1 0.90 0.90 0.80"

    def test_bars_on_seconds_and_memory_are_remarked_on(self):
        lines = report.remarks(result(seconds=(2.0, 0.5)))
        assert "took 0.9000 s; at most 2.0000, stretch 0.5000" in lines[0]
        assert "3.0 MiB beside 2.0, 1.50 times; at most 1.5, stretch 1.2" in lines[1]


class TestPicture:
    def test_it_is_drawn(self, monkeypatch, files, tmp_path):
        new = files("new.json", result(), result("gpt", at_most=None), result(threads=2), result("import", ratios={}))
        assert run(monkeypatch, "--results", new, "--picture", tmp_path / "deep" / "a.png") == 0
        assert (tmp_path / "deep" / "a.png").read_bytes().startswith(b"\x89PNG")

    def test_without_a_ratio_there_is_nothing_to_draw(self, tmp_path):
        with pytest.raises(ValueError, match="needs results with ratios"):
            report.picture(content(result(ratios={})), tmp_path / "a.png")


def test_an_unknown_workload_is_refused_before_anything_runs(monkeypatch, capsys):
    assert run(monkeypatch, "mpl") == 2
    assert "there is no workload mpl; there are mlp, lenet" in capsys.readouterr().err


class TestFromMeasurementToFile:
    @pytest.fixture
    def measured(self, monkeypatch, capsys):
        """The lines of a process that times `add`."""
        pytest.importorskip("torch", reason="times are beside PyTorch's")
        options = ("--time", "--threads", 1, "--rounds", 2, "--seconds", 0.001, "--times-only")
        assert run(monkeypatch, "add", *options) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    def test_what_is_measured_is_printed_saved_and_comparable(self, monkeypatch, measured, tmp_path, capsys):
        monkeypatch.setattr(command, "run", lambda *arguments, threads: iter(measured))
        file = tmp_path / "a.json"
        assert run(monkeypatch, "add", "--threads", 1, "--json", file) == 0
        (saved,) = report.load(file)["results"]
        assert saved["times"].keys() == {"tinytorch", "torch", "numpy"}
        assert len(saved["times"]["torch"]["rounds"]) == 2
        assert saved["clock"] == "process_time"
        assert saved["ratios"]["tinytorch"]["median"] > 0
        assert "x + y on 8 elements, recorded, 1,000 times" in capsys.readouterr().out
        assert run(monkeypatch, "--results", file, "--compare", file) == 0
