"""`tito doctor`: what this machine has, and what to do where something is missing."""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

OK, WARN, FAIL = "OK", "WARN", "FAIL"
STYLES = {OK: "green", WARN: "yellow", FAIL: "red"}

# Asked in a process of its own: tito never imports NumPy or the library.
NUMPY = """
import json, os, time
start = time.perf_counter()
import numpy as np
seconds = time.perf_counter() - start
x = np.ones((256, 256), np.float32)
assert (x @ x)[0, 0] == 256
blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
try:
    from threadpoolctl import threadpool_info
    threads = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
except ImportError:
    threads = None
print(json.dumps({"version": np.__version__, "seconds": seconds, "threads": threads, "file": np.__file__,
                  "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()}))
"""
PACKAGE = "import json, time; s = time.perf_counter(); import tinytorch; e = time.perf_counter()\n"
PACKAGE += "print(json.dumps({'file': tinytorch.__file__, 'seconds': e - s}))"


def ask(code, cwd=None):
    """The answer of a small Python program, or the last line of what went wrong."""
    environment = {**os.environ, "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        return None, "no answer within 60 s"
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    try:
        return json.loads(done.stdout.splitlines()[-1]), None
    except (IndexError, json.JSONDecodeError):
        return None, f"unexpected answer {done.stdout[-80:]!r}"


def python():
    found = f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}"
    if sys.prefix == sys.base_prefix:
        yield WARN, "Python", f"{found}, no virtual environment", "python -m venv .venv keeps these packages apart"
    else:
        yield OK, "Python", found, ""
    cores = f"{os.cpu_count()} cores"
    if hasattr(os, "sched_getaffinity"):
        cores = f"{len(os.sched_getaffinity(0))} of {cores} for us"
    yield OK, "platform", f"{platform.platform()}, {platform.machine()}, {cores}", ""


def numpy():
    answer, problem = ask(NUMPY)
    if problem:
        yield FAIL, "NumPy", problem, f"{sys.executable} -m pip install --force-reinstall numpy"
        return
    yield OK, "NumPy", f"{answer['version']}, imported in {answer['seconds'] * 1e3:.0f} ms", ""
    limits = [f"{name}={os.environ[name]}" for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
              if name in os.environ]  # fmt: skip
    if answer["threads"]:
        threads = f"{max(answer['threads'])} threads"
    else:
        threads = "threads unknown (pip install threadpoolctl shows them)"
    yield OK, "BLAS", ", ".join([answer["blas"], threads, *limits]), ""


def numbers(version):
    """The leading numbers of a version, for comparing: 2.13.0+cpu is (2, 13, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", re.match(r"[\d.]*", version)[0]))


def dependencies():
    from importlib import metadata

    try:
        wanted = metadata.requires("tinytorch") or []
    except metadata.PackageNotFoundError:
        yield WARN, "tinytorch", "not installed, tito runs from a folder", "pip install -e . in your clone"
        return
    yield OK, "tinytorch", metadata.version("tinytorch"), ""
    extras = {}
    for line in wanted:
        name, rest = re.match(r"([A-Za-z0-9_.-]+)(.*)", line).groups()
        if "extra ==" in rest:
            extras.setdefault(name, re.search(r"extra == ['\"](\w+)", rest)[1])
            continue
        least = re.search(r">=\s*([\d.]+)", rest)
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield FAIL, name, "not installed", f"pip install '{name}{rest.split(';')[0].strip()}'"
            continue
        if least and numbers(version) < numbers(least[1]):
            yield FAIL, name, f"{version}, too old", f"pip install --upgrade '{name}>={least[1]}'"
        else:
            yield OK, name, version, ""
    for name, meaning in {
        "torch": "only tito test -k agreement needs it",
        "hypothesis": "only tito test -k properties needs it",
        "jupyterlab": "lessons open in another editor",
    }.items():
        try:
            yield OK, name, metadata.version(name), ""
        except metadata.PackageNotFoundError:
            extra = f", part of the extra [{extras[name]}]" if name in extras else ""
            yield OK, name, f"not installed{extra}: {meaning}", ""


def formatter():
    try:
        from ruff import find_ruff_bin

        path = find_ruff_bin()
        version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (ImportError, OSError, subprocess.SubprocessError) as error:
        return [(FAIL, "ruff program", plain_reason(error), f"{sys.executable} -m pip install --force-reinstall ruff")]
    return [(OK, "ruff program", f"{version.strip()}, {path}", "")]


def plain_reason(error):
    return f"{type(error).__name__}: {error}"


def data():
    folder = os.environ.get("TINYTORCH_DATA")
    where = f"TINYTORCH_DATA = {folder}" if folder else ""
    if not folder:
        try:
            import platformdirs
        except ImportError:
            return  # reported among the dependencies
        folder = platformdirs.user_cache_dir("tinytorch")
        where = f"{folder} (TINYTORCH_DATA is not set)"
    path = Path(folder).expanduser()
    if path.exists() and not path.is_dir():
        yield FAIL, "data folder", f"{where} is not a folder", "set TINYTORCH_DATA to a folder"
        return
    if not path.is_dir():
        existing = next(parent for parent in path.absolute().parents if parent.exists())
        if os.environ.get("TINYTORCH_DATA"):
            yield WARN, "data folder", f"{where} does not exist", "create it, or unset TINYTORCH_DATA"
        elif os.access(existing, os.W_OK):
            yield OK, "data folder", f"{where}, made by the first download", ""
        else:
            yield WARN, "data folder", f"{where} cannot be created", "set TINYTORCH_DATA to a folder of yours"
        return
    files = sorted(file for file in path.rglob("*") if file.is_file())
    names = [f"{file.relative_to(path).as_posix()} {file.stat().st_size / 1e6:.1f} MB" for file in files[:8]]
    if len(files) > 8:
        names.append(f"and {len(files) - 8} more")
    read_only = "" if os.access(path, os.W_OK) else ", read-only"
    yield OK, "data folder", f"{where}{read_only}", ""
    yield OK, "data files", ", ".join(names) or "none yet; a script that needs some fetches them", ""


def workspace(course):
    from tito import material
    from tito.workspace import settled

    if course.workspace == material.version():
        yield OK, "workspace", str(course.root), ""
    else:
        found = f"{course.root}, made from another version of the course than the one installed"
        yield WARN, "workspace", found, "tito update"
    if not settled(course):
        yield WARN, ".env", "names another folder: editors would import another tinytorch", "tito update"


def library(course):
    answer, problem = ask(PACKAGE, course.root if course and course.workspace else None)
    if problem:
        what = "tito export" if course else "pip install -e . in your clone"
        yield WARN if "No module named 'tinytorch'" in problem else FAIL, "import tinytorch", problem, what
        return
    found = f"{answer['file']}, {answer['seconds'] * 1e3:.0f} ms"
    mine = course is None or Path(answer["file"]).resolve().is_relative_to(course.root.resolve())
    if not mine and course.workspace:
        yield FAIL, "import tinytorch", f"{found}, not the one in your workspace", "tito export"
    elif not mine:
        yield WARN, "import tinytorch", f"{found}, which is not this course's", "tito export, and work in its folder"
    else:
        yield OK, "import tinytorch", found, ""


def examine(course):
    """Lines (state, what, found, what to do); `course` is None outside any."""
    yield from python()
    yield from numpy()
    yield from dependencies()
    yield from formatter()
    yield from data()
    if course is None:
        yield OK, "course", "none here; a course root is a folder with a course.toml", ""
    elif course.workspace:
        yield from workspace(course)
    else:
        yield OK, "course", str(course.root), ""
    yield from library(course)
