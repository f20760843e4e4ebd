"""One `tito` at a time writes to a course: an operating-system lock, freed even when its holder is killed.

Whoever gets it first removes what those who were killed left half-written.
"""

import contextlib
import os
import time

from tito.files import sweep

try:
    import fcntl

    def _try(file):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

except ImportError:  # Windows
    import msvcrt

    def _try(file):
        file.seek(1 << 20)  # not the text at the start, which others read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)


_held = set()  # by this process; what is called while a course is locked may lock it again


class LockError(Exception):
    """Somebody else is writing, and did not finish in time."""


@contextlib.contextmanager
def lock(root, purpose, wait=30.0, note=lambda text: None):
    """Hold `root`/.tito/lock while the block runs. Waits `wait` seconds for another holder, then raises LockError."""
    if root in _held:
        yield
        return
    folder = root / ".tito"
    folder.mkdir(exist_ok=True)
    path = folder / "lock"
    with open(path, "a+", encoding="utf-8") as file:
        deadline, told = time.monotonic() + wait, False
        while True:
            try:
                _try(file)
                break
            except OSError:
                file.seek(0)
                holder = file.read(200).strip() or "another tito"
                if time.monotonic() > deadline:
                    raise LockError(f"{path} is held by {holder}; wait for it, or end it, and try again") from None
                if not told:
                    note(f"waiting for {holder}")
                    told = True
                time.sleep(0.1)
        file.truncate(0)
        file.write(f"process {os.getpid()} ({purpose})\n")
        file.flush()
        _held.add(root)
        try:
            sweep(root)
            yield
        finally:
            _held.discard(root)
            file.truncate(0)
