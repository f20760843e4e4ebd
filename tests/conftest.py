"""Every test starts from the same random state; the report says which package is tested."""

import gc
import os
from pathlib import Path

import pytest

import tinytorch


def pytest_report_header():
    return f"tinytorch: {Path(tinytorch.__file__).parent}"


def pytest_configure():
    gc.disable()  # thousands of tests are made and stay until the end: nobody need look for garbage among them
    stage = os.environ.get("TINYTORCH_STAGE")
    if stage and not Path(tinytorch.__file__).resolve().is_relative_to(Path(stage).resolve()):
        raise pytest.UsageError(f"tinytorch came from {tinytorch.__file__}, not from the stage {stage}")


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def seeded():
    tinytorch.manual_seed(0)
