"""`import tito.here` makes `import tinytorch` mean the package of the workspace around this script or notebook.

The first code cell of every lesson does it. It looks upwards from the script, or from the current folder where there is
none, for the workspace; puts that first on the path; and proves that `tinytorch` would come from there.
`python -m tito.here ROOT SCRIPT ...` runs a script in this way.
"""

import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path

MARK = re.compile(rb"^workspace *=", re.MULTILINE)


def workspace(start):
    """The nearest workspace at or above `start`, or None."""
    start = Path(start).resolve()
    for folder in (start, *start.parents):
        table = folder / "course.toml"
        if table.is_file() and MARK.search(table.read_bytes()):
            return folder
    return None


def prove(root):
    """ImportError unless `tinytorch` is, or would be, imported from the folder `root`."""
    inside = Path(root).resolve()
    loaded = sys.modules.get("tinytorch")
    spec = loaded.__spec__ if loaded else importlib.util.find_spec("tinytorch")
    origin = getattr(spec, "origin", None)
    if origin is None:
        raise ImportError(f"there is no package in {inside / 'tinytorch'}; run: tito export")
    if not Path(origin).resolve().is_relative_to(inside):
        what = "was imported already; restart the kernel" if loaded else "would be imported; run: tito doctor"
        raise ImportError(f"not the tinytorch of {inside}, but {origin} {what}")


def use(root):
    """Put `root` first on the path, and prove it."""
    root = str(root)
    sys.path[:] = [root, *(entry for entry in sys.path if entry != root)]
    importlib.invalidate_caches()
    prove(root)


def _start():
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    of_mine = script and not Path(script).resolve().is_relative_to(sys.prefix)  # not pytest, not a kernel's launcher
    places = [Path(script).parent] if of_mine else []
    return next(filter(None, map(workspace, [*places, os.getcwd()])), None)


def _run(root, script, *arguments):
    import runpy

    sys.argv[:] = [script, *arguments]
    try:
        use(root)
    except ImportError as error:
        sys.exit(f"tito: {error}")
    sys.path.insert(1, str(Path(script).parent))  # as if the script had been started by its name
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    _run(*sys.argv[1:])
else:
    found = _start()
    if found is None:
        raise ImportError(f"no workspace in {os.getcwd()} or above it; lessons belong into one: tito init DIR")
    use(found)
