"""What `tito` writes: data on standard output, messages on standard error, colour only where a terminal shows it."""

import os
import re
import shutil
import sys

CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
# Control characters, and the marks that turn the direction of text around: they could rewrite what is on the screen.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def plain(text):
    """`text` with everything that a terminal would obey, rather than show, written out as an escape."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text).replace("\r\n", "\n"))


def coloured(stream):
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def style(text, name, stream=None):
    """`text` in a colour, if `stream` (standard output) is a terminal and nobody asked for none."""
    stream = stream or sys.stdout
    return f"\x1b[{CODES[name]}m{text}\x1b[0m" if name and coloured(stream) else text


def say(text=""):
    """A line of data."""
    print(text, flush=True)


def note(text):
    """A message about the work; what the data are needs none of them."""
    print(text, file=sys.stderr, flush=True)


def width():
    """Columns to fill: the terminal's, or as many as it takes where there is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 200


def table(rows, *heads):
    """Print `rows` under `heads`, each column as wide as it needs; the last one folds at the end of the line.

    A cell is a text, or (text, style).
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(heads), header_style="bold")
    for i in range(len(heads) or len(rows[0])):
        grid.add_column(heads[i] if heads else "", no_wrap=i < (len(heads) or len(rows[0])) - 1, overflow="fold")
    for row in rows:
        cells = [cell if isinstance(cell, tuple) else (cell, "") for cell in row]
        grid.add_row(*(Text(plain(text), style=name) for text, name in cells))
    console = Console(width=width(), highlight=False, markup=False, no_color=not coloured(sys.stdout))
    with console.capture() as capture:
        console.print(grid)
    for line in capture.get().splitlines():
        say(line.rstrip())
