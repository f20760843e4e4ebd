"""Files that are written whole or not at all, and copies of what is about to be replaced."""

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path

LAST = "last-tested"  # the backup of lessons as `tito test` last read them whole; the others are named for their time


def write(path, content, durable=True):
    """Replace the file `path` by `content` (text or bytes) in one step; a failure leaves what was there.

    `durable` waits for the disk: for what nobody could write again.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tito-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode("utf-8"))
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def sweep(root):
    """Remove what commands that were killed left half-written. Only where no other command writes: under the lock."""
    folders = [root, root / ".tito", root / ".tito" / "backups"]
    for part in (f".tito/backups/{LAST}", ".tito/released", ".vscode", "milestones", "modules", "tests", "tinytorch"):
        folders += [Path(folder) for folder, _, _ in os.walk(root / part)]
    for folder in filter(Path.is_dir, folders):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                if name.startswith(".tito-"):
                    (folder / name).unlink()
                elif name.startswith(".part-"):
                    shutil.rmtree(folder / name)


def backups(root, part="."):
    """The backups of a workspace, oldest first: by their time, or by that of the files in their folder `part`."""

    def when(folder):
        if folder.name != LAST:
            return folder.name, 1
        times = [path.stat().st_mtime for path in (folder / part).rglob("*") if path.is_file()]
        return time.strftime("%Y%m%d-%H%M%S", time.localtime(max(times, default=0))), 0

    folder = root / ".tito" / "backups"
    return sorted((p for p in folder.iterdir() if p.name[0] != "."), key=when) if folder.is_dir() else []


def keep(root, paths):
    """Copy those of `paths` (files below `root`) that exist into a new backup. Returns its folder, None if none do."""
    paths = [path for path in paths if path.is_file()]
    if not paths:
        return None
    folder = root / ".tito" / "backups"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part-") as scratch:
        whole = Path(scratch) / "whole"
        for path in paths:
            copy = whole / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
        stamp, number = time.strftime("%Y%m%d-%H%M%S"), 1
        while True:
            made = folder / (stamp if number == 1 else f"{stamp}-{number:02d}")
            if not made.exists():
                whole.rename(made)
                return made
            number += 1
