"""What `tito` remembers of a course, in .tito/state.json: results of checks, and hints already shown."""

import hashlib
import json
import os
import tempfile
import time

from tito.lock import lock


def load(course):
    """The state; empty where there is none. A file that cannot be read is set aside, not overwritten."""
    path = course.root / ".tito" / "state.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        os.replace(path, path.with_suffix(f".{time.strftime('%Y%m%d-%H%M%S')}.broken"))
        return {}


def update(course, change):
    """Apply the function `change` to the state and write it, one `tito` at a time, whole or not at all."""
    with lock(course.root, "state"):
        state = load(course)
        change(state)
        folder = course.root / ".tito"
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".state-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(state, file, indent=2, sort_keys=True)
        os.replace(temporary, folder / "state.json")


def fingerprint(course, module):
    """Of the lesson as it is now."""
    return hashlib.sha256(course.source(module).read_bytes()).hexdigest()


def remember(course, module, result):
    """Note how the checks of `module` ended."""
    entry = {key: result[key] for key in ("exit_code", "passed", "failed", "skipped")}
    entry |= {"lesson": fingerprint(course, module), "time": time.strftime("%Y-%m-%d %H:%M")}
    update(course, lambda state: state.setdefault("tests", {}).__setitem__(module.slug, entry))


def standing(course, module, state):
    """How far `module` is: "passed", "failed", "changed" since its last checks, or "not tested"."""
    entry = state.get("tests", {}).get(module.slug)
    if entry is None:
        return "not tested"
    if entry["lesson"] != fingerprint(course, module):
        return "changed"
    return "passed" if entry["exit_code"] == 0 else "failed"
