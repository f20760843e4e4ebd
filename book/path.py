"""Draw book/path.svg: which lessons' code imports which, read from the package.

    python book/path.py

An arrow is left out where a longer way says the same. Places are chosen here; arrows are not.
"""

import re
from pathlib import Path

from tito.course import Course

HERE = Path(__file__).resolve().parent
PLACES = {  # column, row
    1: (1.5, 0),
    8: (0, 1),
    2: (1, 1),
    3: (2, 1),
    6: (3, 1),
    4: (1, 2),
    5: (2, 2),
    9: (0, 3),
    7: (1, 3),
    11: (2, 3),
    12: (3, 3),
    14: (1, 4),
    15: (2, 4),
    13: (3, 4),
    18: (0, 5),
    19: (1, 5),
    16: (2, 5),
    17: (3, 5),
    10: (0, 6),
    20: (2, 6),
}
ROUND = {  # these pass between two boxes
    (3, 9): (1.5, 2),
    (3, 11): (2.5, 2),
    (3, 12): (2.5, 2),
    (6, 7): (2.65, 2),
    (6, 13): (2.5, 3),
    (7, 16): (1.5, 4),
    (9, 16): (1.5, 4),
}
ACROSS, DOWN, WIDE, HIGH = 98, 74, 88, 38


def imports(package=HERE.parent / "tinytorch"):
    """Of every lesson: the numbers of the earlier lessons whose files its own files import."""
    files = {}  # from the name of a module of the package to its lesson and its code
    for path in sorted(package.rglob("*.py")):
        code = path.read_text(encoding="utf-8")
        if lesson := re.match(r"# .*\bmodules/(\d\d)_", code):
            files[".".join(path.relative_to(package.parent).with_suffix("").parts)] = int(lesson[1]), code
    found = {number: set() for number in PLACES}
    for number, code in files.values():
        for home, names in re.findall(r"^ *from (tinytorch[\w.]*) import (\([^)]*\)|.*)", code, re.MULTILINE):
            for name in [home, *(f"{home}.{name}" for name in re.findall(r"\w+", names))]:
                earlier = files.get(name, (number,))[0]
                found[number] |= {earlier} if earlier < number else set()
    return found


def arrows(needs):
    """(earlier, later) where no other lesson stands between the two."""

    def behind(number):
        return set().union(*({n} | behind(n) for n in needs[number]))

    return [
        (earlier, later)
        for later, direct in needs.items()
        for earlier in sorted(direct)
        if not any(earlier in behind(other) for other in direct)
    ]


def point(column, row):
    return 6 + WIDE / 2 + column * ACROSS, 6 + HIGH / 2 + row * DOWN


def curve(earlier, later):
    """An SVG path from the lower edge of one box to the upper edge of another."""
    (x0, y0), (x1, y1) = point(*PLACES[earlier]), point(*PLACES[later])
    if y0 == y1:
        return f"M{x0 + WIDE / 2:g},{y0:g} L{x1 - WIDE / 2 - 5:g},{y1:g}"
    y0, y1 = y0 + HIGH / 2, y1 - HIGH / 2 - 5
    if (earlier, later) not in ROUND:
        middle = (y0 + y1) / 2
        return f"M{x0:g},{y0:g} C{x0:g},{middle:g} {x1:g},{middle:g} {x1:g},{y1:g}"
    x, y = point(*ROUND[earlier, later])
    above, below = y - HIGH / 2 - 2, y + HIGH / 2 + 2
    return (
        f"M{x0:g},{y0:g} C{x0:g},{(y0 + above) / 2:g} {x:g},{(y0 + above) / 2:g} {x:g},{above:g} L{x:g},{below:g} "
        f"C{x:g},{(below + y1) / 2:g} {x1:g},{(below + y1) / 2:g} {x1:g},{y1:g}"
    )


def draw(modules):
    wide, high = 3 * ACROSS + WIDE + 12, 6 * DOWN + HIGH + 12
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} {high}" width="{wide * 1.6:g}" '
        'font-family="sans-serif" text-anchor="middle">',
        '<defs><marker id="tip" viewBox="0 0 6 6" refX="1" refY="3" markerWidth="5" markerHeight="5" orient="auto">'
        '<path d="M0,0 L6,3 L0,6 z" fill="#888888"/></marker></defs>',
    ]
    lines += [
        f'<path d="{curve(*arrow)}" fill="none" stroke="#888888" stroke-width="1.1" marker-end="url(#tip)"/>'
        for arrow in arrows(imports())
    ]
    for module in modules:
        x, y = point(*PLACES[module.number])
        lines += [
            f'<rect x="{x - WIDE / 2:g}" y="{y - HIGH / 2:g}" width="{WIDE}" height="{HIGH}" rx="5" fill="#d3e5f2" '
            'stroke="#1f78b4"/>',
            f'<text x="{x:g}" y="{y - 4:g}" font-size="11" font-weight="bold" fill="#1a1a1a">{module.id}</text>',
            f'<text x="{x:g}" y="{y + 11:g}" font-size="12" fill="#1a1a1a">{module.name}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    (HERE / "path.svg").write_text(draw(Course.load(HERE.parent).modules), encoding="utf-8")
