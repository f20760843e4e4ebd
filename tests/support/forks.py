"""A process that has imported what takes long, and does each piece of work in a fork of itself.

`Forks` starts one and asks it; `python -m support.forks NAMES` is that process, with these modules imported. It reads
one piece of work per line. A fork takes the longer the more was imported: 5 ms where it is LIGHT, 16 where it is HEAVY.
"""

import contextlib
import faulthandler
import importlib
import os
import runpy
import subprocess
import sys
import traceback
import warnings

LIGHT = ("numpy.random", "pytest")
HEAVY = (*LIGHT, "hypothesis", "matplotlib.pyplot", "torch")
END = "-- end of the answer --"


def preload(*names):
    """Import those that are installed, so that no fork has to."""
    for name in names:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(name)


def in_fork(work, seconds=240):
    """The exit code of a copy of this process that does `work()`, which returns it; 1 if it takes too long."""
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(seconds, exit=True)
        code = 70
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_lesson(source, folder, output):
    """In a fork: run the lesson from top to bottom on the package in `folder`, every warning an error."""
    os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)
    os.chdir(os.path.dirname(source))
    sys.path.insert(0, folder)
    warnings.simplefilter("error")
    runpy.run_path(source, run_name="__main__")
    return 0


class Forks:
    """The other end: `ask` sends a piece of work and returns the lines of the answer."""

    def __init__(self, *folders, preloaded):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "MPLBACKEND": "Agg",
        }
        command = [sys.executable, "-P", "-m", "support.forks", *preloaded]
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,  # complaints are part of the answer
            text=True,
            encoding="utf-8",
        )

    def ask(self, *work):
        print(*work, sep="\t", file=self.process.stdin, flush=True)
        answer = []
        for line in self.process.stdout:
            if line.rstrip("\n") == END:
                return answer
            answer.append(line.rstrip("\n"))
        raise RuntimeError("\n".join(["the process that forks has ended", *answer]))

    def close(self):
        self.process.communicate()


def main():
    from support import mistakes

    preload(*sys.argv[1:])
    for line in sys.stdin:
        kind, *work = line.rstrip("\n").split("\t")
        if kind == "mistakes":
            mistakes.try_all(*work)
        elif kind == "suite":
            mistakes.try_none(*work)
        else:
            print(in_fork(lambda work=work: run_lesson(*work)))
        print(END, flush=True)


if __name__ == "__main__":
    main()
