"""What is printed while training."""

import io
import re

import numpy as np
import pytest

from tinytorch.core.layers import Linear
from tinytorch.core.losses import CrossEntropyLoss, MSELoss
from tinytorch.core.optimizers import SGD
from tinytorch.core.training import Progress, Trainer

BATCH = np.ones((2, 3), np.float32), np.array([0, 1])


def trainer_of(**options):
    model = Linear(3, 2, rng=0)
    return Trainer(model, SGD(model, lr=0.1), CrossEntropyLoss(), **options)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_line_per_epoch_on_standard_output(capsys):
    trainer_of().fit([BATCH], 2, validation=[BATCH])
    out, err = capsys.readouterr()
    assert err == ""
    for number, line in enumerate(out.splitlines(), 1):
        assert re.fullmatch(
            rf"epoch {number}/2  loss 0\.\d{{4}}  accuracy \d+\.00%  "
            r"validation loss 0\.\d{4}  accuracy \d+\.00%  lr 0\.1  \d+\.\d s",
            line,
        )
    assert number == 2


def test_what_there_is_not_is_not_printed(capsys):
    model = Linear(3, 2, rng=0)
    Trainer(model, SGD(model), MSELoss()).fit([(np.ones((2, 3)), np.ones((2, 2)))], 1)
    line = capsys.readouterr().out
    assert "accuracy" not in line
    assert "validation" not in line


def test_silence_on_request(capsys):
    trainer_of(progress=False).fit([BATCH], 2)
    assert capsys.readouterr() == ("", "")


def test_an_epoch_alone_prints_nothing(capsys):
    trainer_of().train_epoch([BATCH])
    assert capsys.readouterr() == ("", "")


def test_a_long_epoch_speaks_up():
    stream = io.StringIO()
    progress = Progress(stream)
    progress.patience = -1.0
    trainer_of(progress=False, callbacks=[progress]).fit([BATCH, BATCH], 1)
    lines = stream.getvalue().splitlines()
    assert [line.split("  loss")[0] for line in lines] == ["epoch 1/1  batch 1/2", "epoch 1/1  batch 2/2", "epoch 1/1"]


def test_epochs_are_aligned():
    stream = io.StringIO()
    trainer_of(progress=False, callbacks=[Progress(stream)]).fit([BATCH], 10)
    assert {line.index("loss") for line in stream.getvalue().splitlines()} == {len("epoch 10/10  ")}


def test_on_a_terminal_there_is_a_bar_and_the_lines_stay(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    trainer_of(progress=False, callbacks=[Progress(stream)]).fit([BATCH, BATCH], 2)
    text = stream.getvalue()
    assert text.count("epoch 1/2  loss 0.") >= 1
    assert "\x1b[" in text  # control sequences of the bar
    assert "accuracy 50.00%" in text


def test_an_error_leaves_the_terminal_in_order(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    trainer = trainer_of(progress=False, callbacks=[Progress(stream)])
    with pytest.raises(ValueError, match="no batches"):
        trainer.fit([], 1)
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1  # the cursor, off and on
