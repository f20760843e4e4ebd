"""keep_memory: what is freed is used again, and what is no size is refused."""

import os
import platform
import sys

import numpy as np
import pytest

from tinytorch.optimization.acceleration import keep_memory

GLIBC = platform.libc_ver()[0] == "glibc"


def in_a_fork(function):
    """The exit code of a child that runs `function`: what it does to the process ends with it."""
    child = os.fork()
    if not child:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not GLIBC, reason="only glibc can be told to keep memory")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_freed_memory_is_used_again_without_page_faults():
    import resource

    def faults():
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    def child():
        assert keep_memory()
        x = np.ones(1 << 20, np.float32)
        for _ in range(2):
            before = faults()
            y = x + x
            del y
        assert faults() - before < 16  # of 1024 pages

    assert in_a_fork(child) == 0


def test_other_systems_do_not_listen(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert keep_memory() is False


@pytest.mark.parametrize("nbytes", [0, -1, 1 << 31])
def test_sizes_that_are_none_are_refused(nbytes):
    with pytest.raises(ValueError, match=f"keep_memory needs nbytes .*, got {nbytes}"):
        keep_memory(nbytes)


@pytest.mark.parametrize("nbytes", [1.5, None, True])
def test_what_is_no_integer_is_refused(nbytes):
    with pytest.raises(TypeError, match="keep_memory needs an integer nbytes"):
        keep_memory(nbytes)
