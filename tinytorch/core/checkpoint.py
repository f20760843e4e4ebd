# Generated from modules/07_training/07_training.py by `tito export`. To change this file, edit the lesson and export again.
"""Checkpoints: a model, its optimizer and the random generator in one file that is whole or not there.

The file is in the safetensors format: arrays, and in the header's metadata one JSON text with everything else. Nothing
is ever unpickled. `save` writes beside the old file and renames; `load` looks at everything before it changes anything.
"""

import contextlib
import json
import os
import zlib
from collections.abc import Mapping

import numpy as np

from tinytorch.core.tensor import Tensor, generator

VERSION = 1  # of what is in the metadata; a file with a higher one is refused

_RESERVED = ("model", "optimizer", "random")


class CheckpointError(ValueError):
    """A file that cannot be used as a checkpoint, and why. Nothing has been changed."""


def _refused(name, value):
    return TypeError(
        f"save: {name} is a {type(value).__name__}; a checkpoint holds numbers, text, None, arrays, and lists and "
        "dicts of these"
    )


def _store(array, name, arrays):
    """Put a copy-free, contiguous `array` into `arrays` under a name that is free, and return the name."""
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"save: {name} is an array of {array.dtype}; a checkpoint holds numbers of up to 8 bytes")
    while name in arrays or name == "__metadata__":
        name += "_"
    arrays[name] = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    return name


def _items(name, mapping):
    """The items of a dictionary, whose keys must be text, and not the mark of an array."""
    for key in mapping:
        if not isinstance(key, str) or key == "__array__":
            raise TypeError(f"save: {name} has the key {key!r}; keys must be text (and not '__array__')")
    return mapping.items()


def _pack(value, name, arrays):
    """`value` as JSON knows it; arrays go into `arrays`, and {"__array__": name} stands where they were."""
    if isinstance(value, Tensor):
        value = value.data
    if isinstance(value, np.ndarray):
        return {"__array__": _store(value, name, arrays)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _pack(part, f"{name}.{key}" if name else key, arrays) for key, part in _items(name, value)}
    if isinstance(value, (list, tuple)):
        return [_pack(part, f"{name}.{i}", arrays) for i, part in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise _refused(name, value)


def _unpack(value, arrays):
    """The opposite of `_pack`."""
    if isinstance(value, dict):
        if value.keys() == {"__array__"}:
            return arrays[value["__array__"]]
        return {key: _unpack(part, arrays) for key, part in value.items()}
    if isinstance(value, list):
        return [_unpack(part, arrays) for part in value]
    return value


def _replace_file(path, data):
    """Make the file `path` hold the bytes `data`. Whenever a crash comes, it is the old file or the new one."""
    path = os.path.realpath(path)  # through a link, to the file it stands for
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise
    if os.name == "posix":  # elsewhere folders cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _misfits(here, saved):
    """What keeps the arrays in `saved` from being those in `here`, as lines of text; both from name to array."""
    lines = [f"missing: {name} {array.shape}" for name, array in here.items() if name not in saved]
    lines += [f"unexpected: {name} {array.shape}" for name, array in saved.items() if name not in here]
    for name in here.keys() & saved.keys():
        ours, theirs = here[name], saved[name]
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            lines.append(f"{name} is {ours.shape} {ours.dtype} here and {theirs.shape} {theirs.dtype} in the file")
    return sorted(lines)


def _model_state(model):
    """From name to array: the model's own `state_dict`, or its parameters by number; a dictionary is taken as it is."""
    if isinstance(model, Mapping):
        return dict(model)
    if callable(getattr(model, "state_dict", None)):
        return model.state_dict()
    if callable(getattr(model, "parameters", None)):
        return {str(i): p.data for i, p in enumerate(model.parameters())}
    raise TypeError(f"a checkpoint needs a model with parameters(), got {type(model).__name__}")


def _set_model_state(model, state):
    if callable(getattr(model, "load_state_dict", None)):
        model.load_state_dict(state)
        return
    for p, array in zip(model.parameters(), state.values()):
        np.copyto(p.data, array)
        p._version += 1


def _checksum(text, arrays):
    """A number that changes if any character of `text` or any bit of `arrays` does."""
    total = zlib.crc32(text.encode())
    for name, array in sorted(arrays.items()):
        total = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), total)
        total = zlib.crc32(array.reshape(-1), total)
    return total


def _checked_path(who, path):
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{who} needs a path as its first argument, got {type(path).__name__}") from None


def save(path, model, optimizer=None, **extra):
    """Write a checkpoint: the model, the optimizer, the random generator's state, and whatever else there is to keep.

    model  anything with parameters(), or a dictionary from name to array
    extra  numbers, text, None, arrays, and lists and dicts of these; `load` returns them by name

    The file is replaced in one step: after a crash at any moment it is the new one or the old one. A process killed
    while it writes may leave a file `.NAME.PID.tmp` beside it, which can be deleted.
    """
    from safetensors.numpy import save as serialize

    path = _checked_path("save", path)
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"save: there is no folder {folder}; make it first, with os.makedirs")
    if os.path.isdir(path) or not path:
        raise IsADirectoryError(f"save needs the path of a file, got {path!r}")
    if optimizer is not None and not callable(getattr(optimizer, "state_dict", None)):
        raise TypeError(f"save needs an optimizer with a state_dict(), got {type(optimizer).__name__}")
    taken = [name for name in _RESERVED if name in extra]
    if taken:
        raise ValueError(f"save keeps the name {taken[0]!r} for itself; choose another")
    state = {
        "model": _model_state(model),
        "optimizer": None if optimizer is None else optimizer.state_dict(),
        "random": generator().bit_generator.state,
        **extra,
    }
    arrays = {}
    content = _pack(state, "", arrays)
    checksum = _checksum(json.dumps(content), arrays)
    document = json.dumps({"version": VERSION, "checksum": checksum, "content": content})
    _replace_file(path, serialize(arrays, {"tinytorch": document}))


def _read(path):
    """What `save` was given, from a file that has been checked from the first byte to the last."""
    from safetensors import SafetensorError, safe_open

    if os.path.isdir(path):
        raise CheckpointError(f"{path} is a folder, not a checkpoint")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if "tinytorch" not in metadata:
                raise CheckpointError(
                    f"{path} is a safetensors file, but not a checkpoint of TinyTorch; "
                    "safetensors.numpy.load_file reads its arrays"
                )
            document = json.loads(metadata["tinytorch"])
            version = document.get("version") if isinstance(document, dict) else None
            if not isinstance(version, int) or version < 1:
                raise CheckpointError(f"{path} is damaged: its metadata makes no sense")
            if version > VERSION:
                raise CheckpointError(
                    f"{path} has version {version} of the format, written by a newer TinyTorch; "
                    f"this one reads versions up to {VERSION}"
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise FileNotFoundError(f"load: there is no file {path}") from None
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged or cut short ({error})") from None
    content = document.get("content")
    if document.get("checksum") != _checksum(json.dumps(content), arrays):
        raise CheckpointError(f"{path} is damaged: its checksum does not fit its content")
    if not isinstance(content, dict) or not content.keys() >= set(_RESERVED):
        raise CheckpointError(f"{path} lacks some of {', '.join(_RESERVED)}")
    return _unpack(content, arrays)


def _checked_random(path, state):
    """Raise unless the library's random generator can take `state`."""
    trial = type(generator().bit_generator)()
    try:
        trial.state = state
    except (TypeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} holds the state of another kind of random generator ({error})") from None


def load(path, model=None, optimizer=None, check=None):
    """Read a checkpoint; give `model` its weights back, and `optimizer` all that it remembered.

    With an optimizer a run is taken up again, and the library's random generator goes back to where it was as well.

    check    called with what will be returned before anything changes; may raise
    returns  a dict: the extra values by name, "model" (name -> array), "optimizer" (its state, or None) and "random"

    Raises FileNotFoundError, or CheckpointError if the file is truncated, damaged, foreign, of a newer version, or of
    another model or optimizer. Then model, optimizer and random generator are as before.
    """
    path = _checked_path("load", path)
    content = _read(path)
    if model is not None:
        if isinstance(model, Mapping):
            raise TypeError("load fills a model; for a dictionary of arrays use load(path)['model']")
        problems = _misfits(_model_state(model), content["model"])
        if problems:
            raise CheckpointError(f"{path} is not of this {type(model).__name__}:\n  " + "\n  ".join(problems))
    if optimizer is not None:
        if content["optimizer"] is None:
            raise CheckpointError(f"{path} was saved without an optimizer")
        _checked_random(path, content["random"])
    if check is not None:
        check(content)
    if optimizer is not None:
        try:
            optimizer.load_state_dict(content["optimizer"])  # looks at everything before it changes anything
        except ValueError as error:
            raise CheckpointError(f"{path} does not fit this optimizer: {error}") from error
        generator().bit_generator.state = content["random"]
    if model is not None:
        _set_model_state(model, content["model"])
    return content
