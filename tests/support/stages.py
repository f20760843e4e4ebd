"""Packages of modules 01..NN in scratch folders, and test runs on them in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

from tito.course import Course
from tito.export import build

ROOT = Path(__file__).resolve().parents[2]
COURSE = Course.load(ROOT)


def write_stage(folder, upto):
    """Write the package of modules 01..`upto` into `folder`, and return `folder`."""
    for file, content in build(COURSE, upto).items():
        path = Path(folder) / "tinytorch" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
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
        },
        capture_output=True,
        text=True,
    )


def run_tests(folder, *arguments):
    """Run pytest on the package in `folder`."""
    return python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments)
