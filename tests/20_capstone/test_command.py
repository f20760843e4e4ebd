"""The command line: as a process where that matters, and called where it does not."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tinytorch
from tinytorch.applications.tinygpt import TinyGPT, main

TRAIN = ["--embed-dim", "8", "--num-layers", "1", "--num-heads", "2", "--context", "16", "--steps", "10"]


def run(*arguments, cwd, says=""):
    """`python -m tinytorch.applications.tinygpt` on the very package that this test has imported."""
    package = str(Path(tinytorch.__file__).resolve().parents[1])
    return subprocess.run(
        [sys.executable, "-P", "-W", "error", "-m", "tinytorch.applications.tinygpt", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"},
        input=says,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        cwd=cwd,
    )


@pytest.fixture
def model(app, tmp_path):
    app.save(tmp_path / "days.tinygpt")
    return tmp_path / "days.tinygpt"


class TestAsAProcess:
    def test_a_text_becomes_a_model(self, text, tmp_path):
        (tmp_path / "days.txt").write_text(text, encoding="utf-8")
        done = run("train", "days.txt", "--out", "my.tinygpt", *TRAIN, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(re.findall(r"^  step +\d+   loss \d\.\d{3}   \d+ s$", done.stderr, re.MULTILINE)) == 10
        app = TinyGPT.load(tmp_path / "my.tinygpt")
        assert f"held-out loss {app.loss(app.held_out):.3f} nats per token; saved as my.tinygpt" in done.stdout
        assert (app.model.embed_dim, app.model.max_seq_len, len(app.history)) == (8, 16, 10)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["days.txt", "my.tinygpt"]

    def test_a_conversation_through_a_pipe_ends_with_its_input(self, app, model):
        settings = ("--tokens", 4, "--temperature", 0)
        done = run("chat", model.name, *settings, cwd=model.parent, says="lundi\n\nmardi, é")
        assert (done.returncode, done.stderr) == (0, "")
        first = app.generate("lundi", 4, temperature=0).removeprefix("lundi")
        assert done.stdout.startswith(first)
        assert "> " not in done.stdout

    def test_a_reader_that_leaves_is_no_error(self, model):
        package = str(Path(tinytorch.__file__).resolve().parents[1])
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "tinytorch.applications.tinygpt", "chat", str(model), "--prompt", "lundi"],
            env={**os.environ, "PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=60,
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b"")

    def test_without_a_command_it_says_how_to_begin(self, tmp_path):
        done = run(cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert "train TEXT --out my.tinygpt" in done.stderr
        assert "Traceback" not in done.stderr


class TestCalled:
    def test_one_prompt_is_gone_on_from(self, app, model, capsys):
        assert main(["chat", str(model), "--prompt", "lundi", "--tokens", "5", "--seed", "3"]) == 0
        want = app.generate("lundi", 5, seed=3).removeprefix("lundi")
        assert capsys.readouterr().out == want + "\n" * (not want.endswith("\n"))

    def test_settings_reach_the_model(self, app, model, capsys):
        more = ["--temperature", "2.0", "--top-k", "3", "--top-p", "0.9"]
        assert main(["chat", str(model), "--prompt", "lundi", "--tokens", "5", "--seed", "3", *more]) == 0
        want = app.generate("lundi", 5, seed=3, temperature=2.0, top_k=3, top_p=0.9).removeprefix("lundi")
        assert capsys.readouterr().out.rstrip("\n") == want.rstrip("\n")

    def test_a_smaller_copy_is_another_file(self, app, model, tmp_path, capsys):
        before = model.read_bytes()
        assert main(["quantize", str(model), "--out", str(tmp_path / "small")]) == 0
        small = TinyGPT.load(tmp_path / "small")
        assert small.format == "int8"
        assert f"{app.nbytes:,} bytes of weights are {small.nbytes:,} now" in capsys.readouterr().out
        assert model.read_bytes() == before

    def test_a_report_has_the_numbers_that_it_prints_and_submits(self, app, model, tmp_path, capsys):
        card, claim, other = (tmp_path / name for name in ("report.html", "submission.json", "t.txt"))
        other.write_text("lundi, émardi.", encoding="utf-8")
        arguments = ["--out", str(card), "--submission", str(claim), "--tokens", "4", "--rounds", "2"]
        assert main(["report", str(model), *arguments, "--text", str(other)]) == 0
        printed, page = capsys.readouterr().out, card.read_text(encoding="utf-8")
        assert f"loss {app.loss('lundi, émardi.'):.4f}" in printed
        for step in json.loads(claim.read_text(encoding="utf-8"))["tasks"][0]["steps"]:
            for number in (f"{step['bytes']:,}", f"{1e3 * step['seconds']['median']:.3f}", f"{step['quality']:.4f}"):
                assert number in printed
                assert number in page

    def test_a_package_that_is_not_there_is_named(self, model, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "safetensors", None)
        assert main(["chat", str(model), "--prompt", "lundi"]) == 2
        assert capsys.readouterr().err == "tinygpt: chat needs safetensors: python -m pip install safetensors\n"

    def test_ctrl_c_ends_it(self, model, monkeypatch, capsys):
        def broken_off(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(TinyGPT, "stream", broken_off)
        assert main(["chat", str(model), "--prompt", "lundi"]) == 130
        assert capsys.readouterr().err == "\n"


class TestRefused:
    """Exit code 2, one line that says why, no traceback, nothing written."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["chat"], "which model? Train one first: python -m tinytorch.applications.tinygpt train"),
            (["report", "--out", "r.html"], "which model?"),
            (["chat", "nowhere.tinygpt"], "there is no file nowhere.tinygpt"),
            (["train", "nowhere.txt", "--out", "m"], "there is no file nowhere.txt"),
            (["train", "days.txt", "--out", "nowhere/m"], "there is no folder nowhere to write m into"),
            (["train", "days.txt", "--out", "."], "is a folder"),
            (["train", "empty.txt", "--out", "m"], "needs a text to learn from"),
            (["train", "short.txt", "--out", "m"], "more than 64 tokens to learn from"),
            (["train", "latin1.txt", "--out", "m"], "not UTF-8 at byte 1"),
            (["train", "days.txt", "--out", "m", "--num-heads", "3"], "cannot divide"),
            (["chat", "days.txt"], "is not a checkpoint, or is damaged"),
            (["chat", "days.tinygpt", "--prompt", ""], "an empty one"),
            (["chat", "days.tinygpt", "--prompt", "lundi", "--tokens", "-1"], "max_new_tokens of at least 1, got -1"),
            (["chat", "days.tinygpt", "--prompt", "lundi", "--temperature", "-1"], "temperature"),
            (["report", "days.tinygpt", "--out", "nowhere/r.html"], "there is no folder nowhere"),
            (["report", "days.tinygpt", "--out", "r.html", "--tokens", "99"], "must fit into the 16 places"),
            (["report", "days.tinygpt", "--out", "r.html", "--text", "empty.txt"], "needs a text"),
            (["quantize", "small.tinygpt", "--out", "m"], "these are int8 already"),
        ],
    )
    def test_with_one_line(self, app, text, tmp_path, monkeypatch, capsys, arguments, message):
        monkeypatch.chdir(tmp_path)
        app.save("days.tinygpt")
        app.quantize().save("small.tinygpt")
        Path("days.txt").write_text(text, encoding="utf-8")
        Path("empty.txt").write_text("", encoding="utf-8")
        Path("short.txt").write_text("too short", encoding="utf-8")
        Path("latin1.txt").write_bytes("zéro".encode("latin-1"))
        before = sorted(tmp_path.iterdir())
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert message in err
        assert err.startswith("tinygpt: ")
        assert (out, err.count("\n")) == ("", 1)
        assert sorted(tmp_path.iterdir()) == before

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["sing"], "invalid choice: 'sing'"),
            (["train", "days.txt"], "required: --out"),
            (["train", "days.txt", "--out", "m", "--steps", "many"], "invalid int value: 'many'"),
            (["train", "days.txt", "--out", "m", "--tokenizer", "words"], "invalid choice: 'words'"),
        ],
    )
    def test_bad_usage(self, capsys, arguments, message):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
