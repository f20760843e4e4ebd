"""A checkpoint holds everything, is whole or not there, and changes nothing where it does not fit."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tinytorch
from support.checks import assert_close
from tinytorch.core.activations import ReLU
from tinytorch.core.checkpoint import VERSION, CheckpointError, _misfits, load, save
from tinytorch.core.layers import Linear, Module, Sequential
from tinytorch.core.losses import mse_loss
from tinytorch.core.optimizers import SGD, Adam
from tinytorch.core.tensor import Tensor, generator, manual_seed, randn


class Counting(Module):
    """A line with a buffer: how many samples it has seen."""

    def __init__(self, seed=0):
        self.line = Linear(3, 2, rng=seed)
        self.seen = np.zeros(1, np.int64)

    def forward(self, x):
        self.seen += len(x)
        return self.line(x)


def trained(steps=3, seed=0, lr=0.1, model=None):
    """A model and an Adam with two groups, after `steps` steps."""
    model = Counting(seed) if model is None else model
    weight, bias = model.parameters()
    groups = [{"params": [("w", weight)], "lr": lr}, {"params": [("b", bias)], "lr": lr / 4, "betas": (0.5, 0.6)}]
    optimizer = Adam(groups)
    for _ in range(steps):
        optimizer.zero_grad()
        mse_loss(model(randn(4, 3)), Tensor(np.ones((4, 2)))).backward()
        optimizer.step()
    return model, optimizer


def plain(value):
    """Nested values with every array as its dtype, shape and bytes, so that == compares all of it."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value


def everything(model, optimizer):
    """All that a checkpoint may change, bit for bit."""
    return plain([model.state_dict(), optimizer.state_dict(), generator().bit_generator.state])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


class TestRoundTrip:
    def test_model_optimizer_and_generator(self, path):
        model, optimizer = trained()
        save(path, model, optimizer)
        want = everything(model, optimizer)
        other, its_optimizer = trained(steps=1, seed=5, lr=0.9)
        manual_seed(77)
        load(path, other, its_optimizer)
        assert everything(other, its_optimizer) == want
        assert other.seen.tolist() == [12]
        assert [group["lr"] for group in its_optimizer.param_groups] == [0.1, 0.025]
        assert its_optimizer.param_groups[1]["betas"] == (0.5, 0.6)
        assert [state["step"] for state in its_optimizer.state] == [3, 3]

    def test_arrays_stay_where_they_are(self, path):
        model, optimizer = trained()
        save(path, model, optimizer)
        arrays = [*(p.data for p in model.parameters()), model.seen]
        load(path, model, optimizer)
        assert all(a is b for a, b in zip(arrays, [*(p.data for p in model.parameters()), model.seen]))

    def test_the_generator_goes_on_where_it_was(self, path):
        model, optimizer = trained()
        generator().normal()
        save(path, model, optimizer)
        want = generator().normal(size=5).tolist()
        load(path, model, optimizer)
        assert generator().normal(size=5).tolist() == want

    def test_a_model_alone_leaves_the_generator_alone(self, path):
        model, optimizer = trained()
        save(path, model, optimizer)
        manual_seed(5)
        before = generator().bit_generator.state
        load(path, Counting())
        assert generator().bit_generator.state == before

    def test_an_optimizer_before_its_first_step(self, path):
        model, optimizer = trained(steps=0)
        save(path, model, optimizer)
        _, stepped = trained(steps=2)
        load(path, optimizer=stepped)
        assert stepped.state == [{}, {}]

    def test_the_momentum_of_sgd(self, path):
        model = Linear(2, 2, rng=0)
        optimizer = SGD(model, lr=0.1, momentum=0.9)
        model.weight.grad = np.full((2, 2), 2, np.float32)
        optimizer.step()
        save(path, model, optimizer)
        fresh = SGD(model, lr=0.1, momentum=0.9)
        load(path, model, fresh)
        assert plain(fresh.state_dict()) == plain(optimizer.state_dict())
        assert_close(fresh.state[0]["velocity"], np.full((2, 2), 2, np.float32))

    def test_what_is_returned(self, path):
        model, optimizer = trained()
        save(path, model, optimizer, epoch=7)
        content = load(path)
        assert content.keys() == {"model", "optimizer", "random", "epoch"}
        assert plain(content["model"]) == plain(model.state_dict())
        assert content["optimizer"]["optimizer"] == "Adam"
        assert content["epoch"] == 7

    def test_without_an_optimizer(self, path):
        save(path, Counting())
        assert load(path)["optimizer"] is None

    def test_a_dictionary_of_arrays_is_a_model(self, path):
        save(path, {"a": np.arange(3), "b": Tensor([1.5])})
        assert plain(load(path)["model"]) == plain({"a": np.arange(3), "b": np.array([1.5], np.float32)})

    def test_a_plain_class_with_parameters_is_a_model(self, path):
        class Line:
            def __init__(self, slope):
                self.slope = Tensor([slope], requires_grad=True)

            def parameters(self):
                return [self.slope]

        save(path, Line(3.0))
        line = Line(0.0)
        load(path, line)
        assert line.slope.tolist() == [3.0]

    def test_text_and_path_objects_and_bytes_name_files(self, path):
        for name in (path, str(path), os.fsencode(path)):
            save(name, Counting(), name=str(path))
            assert load(name)["name"] == str(path)
        assert os.listdir(path.parent) == [path.name]

    def test_a_graph_that_needed_the_old_weights_is_noticed(self, path):
        model = Counting()
        save(path, model)
        x = Tensor(np.ones((1, 3)), requires_grad=True)
        out = model(x).sum()
        load(path, model)
        with pytest.raises(RuntimeError, match="changed in place"):
            out.backward()


EXTRAS = {
    "numbers": [0, -3, 2**200, 0.1, 1e-300, -0.0, True, False, None],
    "what is no number": [float("inf"), float("-inf")],
    "text": ["", 'naïve, 日本, \u0000, \ud800, "quoted"', "__array__"],
    "nested": {"a": [1, {"b": [], "c": {}}], "": [[]], "a.b": "x"},
    "no elements": np.zeros((0, 3), np.float32),
    "no axes": np.array(2.5),
    "booleans": np.array([True, False]),
    "half": np.array([1.5, np.nan, np.inf], np.float16),
    "integers": [np.array([-1, 2], dtype) for dtype in ("int8", "int16", "int32", "int64")],
    "counts": [np.array([1, 255], dtype) for dtype in ("uint8", "uint16", "uint32", "uint64")],
    "beside each other": [{"a": np.ones(2)}, {"a": np.zeros(2)}],
}


class TestExtras:
    @pytest.mark.parametrize("value", EXTRAS.values(), ids=EXTRAS)
    def test_they_come_back_as_they_were(self, path, value):
        save(path, Counting(), value=value)
        assert plain(load(path)["value"]) == plain(value)

    def test_nan(self, path):
        save(path, Counting(), loss=[float("nan")])
        assert str(load(path)["loss"]) == "[nan]"

    def test_numpy_numbers_become_python_numbers(self, path):
        save(path, Counting(), values=[np.float32(0.5), np.int64(3), np.bool_(True), np.float64(0.1)])
        values = load(path)["values"]
        assert values == [0.5, 3, True, 0.1]
        assert [type(value) for value in values] == [float, int, bool, float]

    def test_tuples_become_lists(self, path):
        save(path, Counting(), betas=(0.9, (0.99,)))
        assert load(path)["betas"] == [0.9, [0.99]]

    def test_tensors_become_arrays(self, path):
        save(path, Counting(), sample=Tensor([[1.0, 2.0]]))
        assert plain(load(path)["sample"]) == plain(np.array([[1, 2]], np.float32))

    @pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3).T, np.arange(10)[::-2], np.arange(3, dtype=">f4")])
    def test_any_layout(self, path, array):
        save(path, Counting(), array=array)
        got = load(path)["array"]
        assert_close(got, array, rtol=0, atol=0)
        assert got.dtype.isnative

    def test_names_that_look_alike_do_not_collide(self, path):
        save(path, Counting(), **{"a.b": np.ones(1), "a": {"b": np.zeros(1)}, "model.line.bias": np.ones(3)})
        content = load(path, Counting())
        assert [content["a.b"].tolist(), content["a"]["b"].tolist()] == [[1], [0]]
        assert content["model.line.bias"].tolist() == [1, 1, 1]

    def test_the_name_of_the_metadata_may_be_used(self, path):
        save(path, Counting(), __metadata__=np.ones(1))
        assert load(path)["__metadata__"].tolist() == [1]

    @pytest.mark.parametrize(
        ("extra", "error", "message"),
        [
            ({"x": 1j}, TypeError, "save: x is a complex"),
            ({"x": [1, {"f": len}]}, TypeError, r"save: x\.1\.f is a builtin_function_or_method"),
            ({"x": {1, 2}}, TypeError, "save: x is a set"),
            ({"x": b"12"}, TypeError, "save: x is a bytes"),
            ({"x": {3: "three"}}, TypeError, "save: x has the key 3; keys must be text"),
            ({"x": {"__array__": "w"}}, TypeError, "save: x has the key '__array__'"),
            ({"x": np.array(["a"])}, TypeError, "save: x is an array of <U1"),
            ({"x": np.array([None])}, TypeError, "save: x is an array of object"),
            ({"x": np.zeros(1, complex)}, TypeError, "save: x is an array of complex128"),
            ({"random": 1}, ValueError, "save keeps the name 'random' for itself"),
        ],
    )
    def test_what_cannot_be_kept_is_refused_before_a_file_is_touched(self, path, extra, error, message):
        save(path, Counting(), note="old")
        with pytest.raises(error, match=message):
            save(path, Counting(), **extra)
        assert load(path)["note"] == "old"
        assert os.listdir(path.parent) == [path.name]


class TestTheFile:
    def test_any_reader_of_the_format_finds_the_weights(self, path):
        model, optimizer = trained()
        save(path, model, optimizer)
        arrays = load_file(path)
        assert plain(arrays["model.line.weight"]) == plain(model.line.weight.data)
        assert plain(arrays["optimizer.state.0.v"]) == plain(optimizer.state[0]["v"])

    def test_it_is_as_large_as_its_arrays_and_a_little_more(self, path):
        model = Linear(300, 300, rng=0)
        optimizer = Adam(model)
        for p in model.parameters():
            p.grad = np.ones_like(p.data)
        optimizer.step()
        save(path, model, optimizer)
        assert 0 < path.stat().st_size - 3 * 4 * model.num_parameters() < 4000

    def test_nothing_is_pickled(self, path):
        class Trap:
            def __reduce__(self):
                return os.abort, ()

        with pytest.raises(TypeError, match="save: x is a Trap"):
            save(path, Counting(), x=Trap())

    def test_the_same_state_is_the_same_file(self, path):
        save(path, *trained(steps=2))
        first = path.read_bytes()
        manual_seed(0)
        save(path, *trained(steps=2))
        assert path.read_bytes() == first


class Died(Exception):
    pass


class TestAllOrNothing:
    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Died(), KeyboardInterrupt()])
    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_a_save_that_fails_leaves_the_old_file_and_no_other(self, path, monkeypatch, call, error):
        save(path, Counting(), note="old")
        before = path.read_bytes()

        def fail(*arguments):
            assert path.read_bytes() == before
            raise error

        monkeypatch.setattr(os, call, fail)
        with pytest.raises(type(error)):
            save(path, Counting(), note="new")
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == [path.name]
        assert load(path)["note"] == "old"

    def test_a_save_that_cannot_open_its_file_says_why(self, path, monkeypatch):
        save(path, Counting(), note="old")

        def fail(*arguments, **options):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", fail)
        with pytest.raises(PermissionError):
            save(path, Counting(), note="new")
        monkeypatch.undo()
        assert load(path)["note"] == "old"

    def test_the_first_save_that_fails_leaves_nothing(self, path, monkeypatch):
        def fail(*arguments):
            raise Died

        monkeypatch.setattr(os, "replace", fail)
        with pytest.raises(Died):
            save(path, Counting())
        assert os.listdir(path.parent) == []

    def test_all_bytes_are_on_the_disk_before_the_name_changes(self, path, monkeypatch):
        """A name that reaches the disk before the bytes is an empty file after a power cut."""
        calls = []
        fsync, replace = os.fsync, os.replace

        def watched_fsync(handle):
            calls.append(("fsync", os.fstat(handle).st_size))
            fsync(handle)

        def watched_replace(old, new):
            calls.append(("replace", os.path.dirname(old) == os.path.dirname(new)))
            replace(old, new)

        monkeypatch.setattr(os, "fsync", watched_fsync)
        monkeypatch.setattr(os, "replace", watched_replace)
        save(path, Counting())
        assert calls[:2] == [("fsync", path.stat().st_size), ("replace", True)]

    @pytest.mark.skipif(os.name != "posix", reason="folders can be opened on POSIX systems only")
    def test_the_new_name_is_on_the_disk_when_save_returns(self, path, monkeypatch):
        synced = []
        fsync = os.fsync

        def watched(handle):
            synced.append(os.fstat(handle).st_ino)
            fsync(handle)

        monkeypatch.setattr(os, "fsync", watched)
        save(path, Counting())
        assert synced == [path.stat().st_ino, path.parent.stat().st_ino]

    def test_through_a_link_the_file_behind_it_is_replaced(self, path, tmp_path):
        (tmp_path / "there").mkdir()
        target = tmp_path / "there" / "real.safetensors"
        path.symlink_to(target)
        save(path, Counting(), note="new")
        assert path.is_symlink()
        assert load(target)["note"] == "new"


DYING = """
import os, signal, sys
import numpy as np
from tinytorch.core.checkpoint import save

path, moment = sys.argv[1:]

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

number = 0
while True:
    number += 1
    if moment != "any" and number == 3:
        setattr(os, moment, die)
    save(path, {"w": np.full(200_000, number, np.float32)}, number=number)
"""


HERE = {**os.environ, "PYTHONPATH": str(Path(tinytorch.__file__).parents[1])}  # the same package in another process


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL exists on POSIX systems only")
class TestKilled:
    """`kill -9` cannot be caught, and nothing is cleaned up after it."""

    @pytest.mark.parametrize("moment", ["fsync", "replace"])
    def test_at_the_worst_moments(self, path, moment):
        done = subprocess.run([sys.executable, "-P", "-c", DYING, str(path), moment], env=HERE)
        assert done.returncode == -9
        content = load(path)
        assert content["number"] == 2
        assert (content["model"]["w"] == 2).all()
        assert len(os.listdir(path.parent)) == 2
        save(path, Counting(), note="what was left behind is no hindrance")
        assert load(path)["note"] == "what was left behind is no hindrance"

    def test_at_any_moment(self, path):
        """What a process that saves without end leaves is its last checkpoint or the one before, never half."""
        rng = random.Random(0)
        for _ in range(2):
            path.unlink(missing_ok=True)
            process = subprocess.Popen([sys.executable, "-P", "-c", DYING, str(path), "any"], env=HERE)
            while not path.exists():
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.05))
            process.kill()
            assert process.wait() == -9
            content = load(path)
            assert (content["model"]["w"] == content["number"]).all()


def refuses(path, message, model=None, optimizer=None, error=CheckpointError):
    """`load` raises `error`, names the file, and changes nothing."""
    if model is None:
        model, optimizer = trained(steps=1, seed=9)
    before = everything(model, optimizer)
    with pytest.raises(error, match=message) as caught:
        load(path, model, optimizer)
    assert str(path) in str(caught.value)
    assert everything(model, optimizer) == before


@pytest.fixture
def data(path):
    """The bytes of a good checkpoint."""
    save(path, *trained())
    return path.read_bytes()


def header_of(data):
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_document(data, change):
    """The file with its document changed, and all else as it was."""
    header, rest = header_of(data)
    document = json.loads(header["__metadata__"]["tinytorch"])
    document = change(document) or document
    header["__metadata__"]["tinytorch"] = document if isinstance(document, str) else json.dumps(document)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + rest


class TestDamaged:
    def test_the_file_as_it_was_is_good(self, path, data):
        path.write_bytes(with_document(data, lambda document: None))
        load(path, *trained(steps=0))

    def test_cut_short_at_many_lengths(self, path, data):
        header = 8 + int.from_bytes(data[:8], "little")
        lengths = {0, 1, 7, 8, 9, header - 1, header, header + 1, len(data) - 1, *range(0, len(data), 97)}
        model, optimizer = trained(steps=1, seed=9)
        for length in sorted(lengths):
            path.write_bytes(data[:length])
            refuses(path, "is not a checkpoint, or is damaged or cut short", model, optimizer)

    def test_longer_than_it_was(self, path, data):
        path.write_bytes(data + b"\0")
        refuses(path, "damaged")

    def test_one_bit_flipped_in_the_arrays(self, path, data):
        start = 8 + int.from_bytes(data[:8], "little")
        model, optimizer = trained(steps=1, seed=9)
        for place in range(start, len(data), 7):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 8]) + data[place + 1 :])
            refuses(path, "is damaged: its checksum does not fit its content", model, optimizer)

    def test_one_bit_flipped_in_the_header(self, path, data):
        """Refused; or the same content in other letters, as 1E-08 for 1e-08."""
        want = plain(load(path))
        end = 8 + int.from_bytes(data[:8], "little")
        for place in range(0, end, 17):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 7]) + data[place + 1 :])
            try:
                got = load(path)
            except CheckpointError:
                continue
            assert plain(got) == want

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda document: document.update(version=VERSION + 1), f"has version {VERSION + 1} of the format"),
            (lambda document: document.update(version=0), "its metadata makes no sense"),
            (lambda document: document.update(version="1"), "its metadata makes no sense"),
            (lambda document: [1, 2], "its metadata makes no sense"),
            (lambda document: '{"version": 1', "damaged or cut short"),
            (lambda document: "[" * 100_000, "damaged or cut short"),
            (lambda document: document.pop("checksum"), None),
            (lambda document: document["content"].update(note="forged"), "its checksum does not fit"),
            (lambda document: document["content"]["optimizer"].update(optimizer="SGD"), "its checksum does not fit"),
        ],
    )
    def test_a_document_that_makes_no_sense(self, path, data, change, message):
        path.write_bytes(with_document(data, change if message else lambda document: change(document) and None))
        refuses(path, message or "its checksum does not fit")


FOREIGN = {
    "nothing": b"",
    "text": b"These are the weights: 1, 2, 3.\n" * 20,
    "zeros": b"\0" * 4096,
    "a pickle": b"\x80\x04K\x01." + b"\0" * 100,
    "an archive": b"PK\x03\x04" + b"\0" * 100,
}


class TestForeign:
    @pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
    def test_what_is_no_safetensors_file(self, path, content):
        path.write_bytes(content)
        refuses(path, "is not a checkpoint, or is damaged or cut short")

    @pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
    def test_a_safetensors_file_of_another_program(self, path, metadata):
        save_file({"line.weight": np.zeros((3, 2), np.float32)}, path, metadata)
        refuses(path, r"not a checkpoint of TinyTorch; safetensors\.numpy\.load_file reads its arrays")

    def test_no_file(self, path):
        refuses(path, "load: there is no file", error=FileNotFoundError)

    def test_a_folder(self, path):
        path.mkdir()
        refuses(path, "is a folder, not a checkpoint")


class Wider(Module):
    def __init__(self):
        self.line = Linear(3, 4, rng=0)
        self.seen = np.zeros(1, np.int64)


class Renamed(Module):
    def __init__(self):
        self.linear = Linear(3, 2, rng=0)
        self.seen = np.zeros(1, np.int64)


class Deeper(Counting):
    def __init__(self):
        super().__init__()
        self.more = Linear(2, 2, rng=0)


class Double(Counting):
    def __init__(self):
        super().__init__()
        self.line.weight.data = self.line.weight.data.astype(np.float64)


class Transposed(Counting):
    def __init__(self):
        super().__init__()
        self.line.weight.data = self.line.weight.data.T.copy()


OTHERS = {
    "as many numbers": (Transposed, r"line\.weight is \(2, 3\) float32 here and \(3, 2\) float32 in the file"),
    "other shapes": (Wider, r"line\.bias is \(4,\) float32 here and \(2,\) float32 in the file"),
    "other names": (Renamed, r"missing: linear\.bias \(2,\)[\s\S]*unexpected: line\.weight \(3, 2\)"),
    "another layer": (
        Deeper,
        r"is not of this Deeper:\n  missing: more\.bias \(2,\)\n  missing: more\.weight \(2, 2\)$",
    ),
    "another dtype": (Double, r"line\.weight is \(3, 2\) float64 here and \(3, 2\) float32 in the file"),
    "a layer less": (lambda: Sequential(ReLU(), Linear(3, 2, rng=0)), r"unexpected: seen \(1,\)"),
}


@pytest.mark.usefixtures("data")
class TestAnother:
    @pytest.mark.parametrize(("make", "message"), OTHERS.values(), ids=OTHERS)
    def test_model(self, path, make, message):
        model = make()
        refuses(path, message, model, SGD(model))

    def test_model_though_the_optimizer_fits(self, path):
        _, optimizer = trained(steps=1)
        refuses(path, "is not of this Renamed", Renamed(), optimizer)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda model: SGD(model), "does not fit this optimizer: .* state of Adam"),
            (lambda model: Adam(model), r"groups of \[2\] parameters, the state of \[1, 1\]"),
            (lambda model: Adam([{"params": [p]} for p in model.parameters()[::-1]]), r"but its [mv] in the state"),
        ],
    )
    def test_optimizer_though_the_model_fits(self, path, make, message):
        model = Counting(4)
        refuses(path, message, model, make(model))

    def test_saved_without_an_optimizer(self, path):
        save(path, Counting())
        refuses(path, "was saved without an optimizer")

    def test_random_generator(self, path):
        content = {"bit_generator": "MT19937", "state": {"key": np.zeros(624, np.uint32), "pos": 1}}
        model, optimizer = trained()

        class Elsewhere:
            class bit_generator:
                state = content

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tinytorch.core.checkpoint.generator", Elsewhere)
            save(path, model, optimizer)
        refuses(path, "holds the state of another kind of random generator")

    def test_a_check_of_ones_own_comes_before_any_change(self, path):
        model, optimizer = trained(steps=1, seed=9)
        before = everything(model, optimizer)

        def check(content):
            raise RuntimeError(f"a {content['optimizer']['optimizer']} will not do")

        with pytest.raises(RuntimeError, match="a Adam will not do"):
            load(path, model, optimizer, check)
        assert everything(model, optimizer) == before

    def test_all_that_does_not_fit_is_said_at_once(self, path):
        with pytest.raises(CheckpointError) as caught:
            load(path, Sequential(Linear(2, 1, rng=0)))
        assert [line.split(":")[0] for line in str(caught.value).splitlines()[1:]] == ["  missing"] * 2 + [
            "  unexpected"
        ] * 3


class TestMisfits:
    def test_a_worked_example(self):
        lines = _misfits({"a": np.zeros(2), "b": np.zeros(3)}, {"b": np.zeros(4), "c": np.zeros(1)})
        assert sorted(line.split("(")[0] for line in lines) == ["b is ", "missing: a ", "unexpected: c "]

    def test_none(self):
        arrays = {"a": np.zeros(2), "b": np.zeros((), np.int64)}
        assert _misfits(arrays, {name: array + 1 for name, array in arrays.items()}) == []


class TestWrongKinds:
    @pytest.mark.parametrize("path", [None, 3, 1.5, ["a"]])
    @pytest.mark.parametrize("function", [save, load])
    def test_paths(self, function, path):
        with pytest.raises(TypeError, match=f"{function.__name__} needs a path as its first argument"):
            function(path, Counting())

    @pytest.mark.parametrize("model", [3, "model", [1.0]])
    def test_models(self, path, data, model):
        for function in (save, load):
            with pytest.raises(TypeError, match=r"a checkpoint needs a model with parameters\(\), got"):
                function(path, model)
        assert path.read_bytes() == data

    def test_nothing_to_save(self, path):
        with pytest.raises(TypeError, match=r"needs a model with parameters\(\), got NoneType"):
            save(path, None)

    def test_a_dictionary_cannot_be_filled(self, path, data):
        with pytest.raises(TypeError, match="load fills a model; for a dictionary"):
            load(path, {})

    def test_optimizers(self, path):
        with pytest.raises(TypeError, match=r"save needs an optimizer with a state_dict\(\), got float"):
            save(path, Counting(), 0.1)

    def test_a_folder_that_is_not_there(self, path):
        with pytest.raises(FileNotFoundError, match=r"save: there is no folder .*nowhere; make it first"):
            save(path.parent / "nowhere" / "run.safetensors", Counting())

    def test_a_folder_in_place_of_a_file(self, path):
        path.mkdir()
        with pytest.raises(IsADirectoryError, match="save needs the path of a file"):
            save(path, Counting())
