"""What `tito` remembers of a course, in .tito/state.json: results of checks, lessons completed, hints already shown."""

import hashlib
import json
import os
import re
import time

from tito.console import note
from tito.files import write
from tito.lock import lock

TESTED = {"exit_code", "passed", "failed", "skipped", "lesson", "time"}  # what is remembered of a lesson's checks


def load(course):
    """The state. A file that is damaged is set aside, and the state made anew from what the course's folder shows."""
    path = course.root / ".tito" / "state.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        if _whole(state):
            return state
    except FileNotFoundError:
        return rebuilt(course)
    except ValueError:
        pass
    aside = path.with_suffix(f".{time.strftime('%Y%m%d-%H%M%S')}.broken")
    os.replace(path, aside)
    note(f"the state was damaged and is made anew from your package; the old one is {aside.name} in .tito")
    return rebuilt(course)


def _whole(state):
    """Whether it has the shape that we write."""
    if not isinstance(state, dict) or not all(isinstance(part, dict) for part in state.values()):
        return False
    entries = [entry for part in ("tests", "completed") for entry in state.get(part, {}).values()]
    tests = state.get("tests", {}).values()
    return all(isinstance(entry, dict) for entry in entries) and all(set(entry) >= TESTED for entry in tests)


def rebuilt(course):
    """The state as far as a workspace's own package shows it: lessons that were exported with nothing left to write."""
    if not course.workspace:
        return {}
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in (course.root / "tinytorch").rglob("*.py")]
    completed = {}
    for module in course.modules:
        head, empty = re.compile(rf"^# .* modules/{module.slug}/"), f'NotImplementedError("module {module.id}: write '
        mine = [text for text in texts if head.match(text)]
        if not mine or any(empty in text for text in mine):
            break
        completed[module.slug] = {"time": "before the state was made anew"}
    return {"completed": completed} if completed else {}


def update(course, change):
    """Apply the function `change` to the state and write it, one `tito` at a time, whole or not at all."""
    with lock(course.root, "state"):
        state = load(course)
        change(state)
        write(course.root / ".tito" / "state.json", json.dumps(state, indent=2, sort_keys=True) + "\n")


def fingerprint(course, module):
    """Of the lesson as it is now. Of a notebook the code alone counts: running a cell saves its output, no more."""
    path = course.source(module)
    content = path.read_bytes()
    if path.suffix == ".ipynb":
        try:
            code = [cell["source"] for cell in json.loads(content)["cells"] if cell["cell_type"] == "code"]
            content = json.dumps(["".join(source) for source in code]).encode()
        except (ValueError, LookupError, TypeError):
            pass  # damaged: all of it counts
    return hashlib.sha256(content).hexdigest()


def remember(course, module, result):
    """Note how the checks of `module` ended."""
    entry = {key: result[key] for key in ("exit_code", "passed", "failed", "skipped")}
    entry |= {"lesson": fingerprint(course, module), "time": time.strftime("%Y-%m-%d %H:%M")}
    update(course, lambda state: state.setdefault("tests", {}).__setitem__(module.slug, entry))


def standing(course, module, state):
    """How far `module` is: "passed", "failed", "changed" since its last checks, "not tested"; in a workspace also
    "completed", "not started", or "locked" until the one before it is completed."""
    entry = state.get("tests", {}).get(module.slug)
    if course.workspace:
        completed = state.get("completed", {}).get(module.slug)
        if not course.sources(module):
            return "locked" if waits_for(course, module, state) else "not started"
        if completed and completed.get("lesson") in (None, fingerprint(course, module)):
            return "completed"
    if entry is None:
        return "not tested"
    if entry["lesson"] != fingerprint(course, module):
        return "changed"
    return "passed" if entry["exit_code"] == 0 else "failed"


def waits_for(course, module, state):
    """The first earlier module of a workspace that is not completed; None if the way is free."""
    done = state.get("completed", {})
    return next((m for m in course.modules if m.number < module.number and m.slug not in done), None)
