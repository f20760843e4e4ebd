"""Packages of modules 01..NN in scratch folders, and test runs on them in processes of their own."""

import compileall
import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from tito.course import Course
from tito.export import export

ROOT = Path(__file__).resolve().parents[2]
COURSE = Course.load(ROOT)


@functools.cache
def _fingerprint():
    """Of everything that a package is built from."""
    made_of = [ROOT / "course.toml", *sorted((ROOT / "modules").rglob("*.*")), *sorted((ROOT / "tito").glob("*.py"))]
    digest = hashlib.sha256(version("ruff").encode())
    for path in made_of:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def write_stage(folder, upto):
    """Write the package of modules 01..`upto` into `folder`, and return `folder`. Each is made once, and copied."""
    kept = ROOT / ".pytest_cache" / "packages" / _fingerprint() / str(upto) / "tinytorch"
    if not kept.is_dir():
        kept.parent.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent.parent) as scratch:
            export(COURSE, upto, Path(scratch) / "made")
            compileall.compile_dir(Path(scratch) / "made", quiet=1)
            with contextlib.suppress(OSError):  # another process was faster
                os.rename(Path(scratch) / "made", kept.parent)
    shutil.copytree(kept, Path(folder) / "tinytorch")
    return Path(folder)


def python(folder, *arguments, cwd=ROOT):
    """Run Python with only the package in `folder` as tinytorch; one BLAS thread, pictures to nowhere."""
    return subprocess.run(
        [sys.executable, "-P", *map(str, arguments)],
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": str(folder),
            "TINYTORCH_STAGE": str(folder),
            "OPENBLAS_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # hypothesis works without its plugin, and all starts faster
        },
        capture_output=True,
        text=True,
    )


def run_tests(folder, *arguments):
    """Run pytest on the package in `folder`."""
    return python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
