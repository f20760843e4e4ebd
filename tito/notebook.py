"""The learner's lesson beside the released one: is it whole, what is changed, and how both are joined again."""

import ast
import copy
import difflib
import hashlib
import json
import re
import warnings

from tito.lesson import ExportError, import_jupytext, read_lesson


def place(path, root):
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def readable(course, module, path):
    """ExportError that names cell and remedy if the file cannot be a notebook of today."""
    where = place(path, course.root)
    remedy = f"tito restore {module.id} brings back the last backup, tito reset {module.id} the empty lesson"
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ExportError(f"{where}, line {line} is not UTF-8; save it as UTF-8, or: {remedy}", module.slug) from None
    if path.suffix != ".ipynb":
        return
    try:
        table = json.loads(text)
    except json.JSONDecodeError as error:
        cell = len(re.findall(r'"cell_type"\s*:', text[: error.pos]))
        about = f"in or after cell {cell}" if cell else "before its first cell"
        what = "ends too early" if error.pos >= len(text.rstrip()) else error.msg
        if re.search(r"^<<<<<<< ", text, re.MULTILINE):
            what, remedy = "holds the marks of a git merge", f"settle the merge, or: {remedy}"
        message = f"{where} is not valid JSON, {about}: {what} (line {error.lineno}). {remedy}"
        raise ExportError(message, module.slug) from None
    form = table.get("nbformat") if isinstance(table, dict) else None
    if form == 3 and table.get("worksheets"):
        cells = sum(len(sheet.get("cells", ())) for sheet in table["worksheets"])
        raise ExportError(
            f"{where} was saved in notebook format 3, its cells 1 to {cells} in worksheets. Convert it with "
            f"jupyter nbconvert --to notebook --inplace {where}, or: {remedy}",
            module.slug,
        )
    if form != 4 or not isinstance(table.get("cells"), list):
        raise ExportError(f"{where} is no notebook of format 4: no cell can be read. {remedy}", module.slug)
    for number, cell in enumerate(table["cells"], 1):
        if not isinstance(cell, dict) or "cell_type" not in cell or not isinstance(cell.get("source"), str | list):
            raise ExportError(f"{where}, cell {number} has no type or no source. {remedy}", module.slug)


def names(source):
    """What a piece of code defines at top level."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return set()
    found = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    targets = [t for node in body if isinstance(node, ast.Assign) for t in node.targets]
    return found | {t.id for t in targets if isinstance(t, ast.Name)}


def sound(course, module, handed):
    """ExportError that names cell and remedy if the learner's lesson cannot be read, or lacks or repeats a cell of the
    one at `handed`."""
    path = course.source(module)
    readable(course, module, path)
    mine = read_lesson(path, module.slug)
    base = read_lesson(handed, module.slug)
    where = place(path, course.root)
    for cell in mine.cells:
        mine.parse(cell)  # a cell that does not parse is said to be that, not to be gone
    defined = {}
    for cell in mine.cells:
        if cell.target:
            defined.setdefault(cell.target, set()).update(names(cell.body))
    for cell in base.cells:
        blank = cell.grade_id if cell.target else None
        if blank:
            found = [each for each in mine.cells if each.grade_id == blank]
            what = f"blank {blank} ({', '.join(sorted(names(cell.body)))})"
            if not found:
                raise ExportError(
                    f"{where} has lost {what}, code cell {cell.number} of the lesson as it was handed out. "
                    f"To have it back, empty: tito reset {module.id} {blank}",
                    module.slug,
                )
            if len(found) > 1:
                numbers = " and ".join(str(each.number) for each in found)
                raise ExportError(
                    f"{where} has {what} {len(found)} times, in code cells {numbers}. Merge them if you split it, "
                    f"else delete all but one; or have one, empty: tito reset {module.id} {blank}",
                    module.slug,
                )
            if not found[0].target:
                raise ExportError(
                    f"{where}: {what} has lost its first line, `#| export`; write it back at the top of the cell",
                    module.slug,
                    found[0].number,
                )
        elif cell.target and names(cell.body) and not names(cell.body) & defined.get(cell.target, set()):
            given = ", ".join(sorted(names(cell.body)))
            raise ExportError(
                f"{where} has lost code that is given ({given}), code cell {cell.number} of the lesson as it was "
                f"handed out. To have it back, your blanks as they are: tito reset {module.id} --given",
                module.slug,
            )


def read(text, script):
    """The text of a percent script or notebook as a notebook."""
    jupytext = import_jupytext()
    import nbformat

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cells without an id, or two with the same
        return jupytext.reads(text, fmt="py:percent") if script else nbformat.reads(text, as_version=4)


def written(book, script):
    """A notebook as the text of a percent script or a notebook."""
    jupytext = import_jupytext()
    import nbformat

    return jupytext.writes(book, fmt="py:percent") if script else nbformat.writes(book) + "\n"


def blank(cell):
    """The name of the blank that a cell is, or None."""
    return cell.metadata.get("nbgrader", {}).get("grade_id") if cell.cell_type == "code" else None


def merged(mine, base, new, anew=()):
    """The lesson `new` with the work in `mine`, which was handed out as `base`. Returns (notebook, what to tell).

    Blanks that were written stay, except those named in `anew`; cells of one's own stay behind the cell they followed;
    everything else is as in `new`.
    """
    handed = {blank(cell): cell.source.strip() for cell in base.cells if blank(cell)}
    coming = {blank(cell): cell.source.strip() for cell in new.cells if blank(cell)}
    texts = {cell.source.strip() for cell in base.cells} | {cell.source.strip() for cell in new.cells}
    given = set().union(*(names(cell.source) for cell in new.cells if cell.cell_type == "code"))
    work, own, told, anchor = {}, {}, [], None
    for cell in mine.cells:
        name, text = blank(cell), cell.source.strip()
        if name in handed or name in coming:
            anchor = name
            if name not in anew and text != handed.get(name):
                if name in work:
                    told.append(f"blank {name} is there twice; the first one stays")
                    continue
                work[name] = cell.source
                if name not in coming:
                    own.setdefault(anchor, []).append(cell)
                    told.append(f"blank {name} is no longer part of the lesson; your cell stays")
                elif coming[name] != handed.get(name):
                    told.append(f"blank {name} has changed in the lesson; yours stays")
        elif text in texts:
            anchor = text
        elif cell.cell_type == "code" and cell.source.startswith("#| export") and names(cell.source) & given:
            told.append(f"given code that you had changed is as released: {', '.join(sorted(names(cell.source)))}")
        elif text:
            own.setdefault(anchor, []).append(cell)
    made, place_of = copy.deepcopy(new), {None: 0}
    for cell in made.cells:
        if blank(cell) in work:
            cell.source = work[blank(cell)]
    order = [blank(cell) or cell.source.strip() for cell in new.cells]
    before = [blank(cell) or cell.source.strip() for cell in base.cells]
    for number, key in enumerate(order, 1):
        place_of.setdefault(key, number)
    behind = {}
    for key, cells in own.items():
        while key not in place_of:  # gone from the new lesson: behind what came before it
            index = before.index(key) if key in before else 0
            key = before[index - 1] if index else None
        behind.setdefault(place_of[key], []).extend(cells)
    cells = list(behind.get(0, []))
    for number, cell in enumerate(made.cells, 1):
        cells += [cell, *behind.get(number, [])]
    taken = {cell.get("id") for cell in made.cells}
    for number, cell in enumerate(cells):
        if any(cell is each for each in made.cells):
            continue
        if cell.get("id") in taken or "id" not in cell:
            cell.id = hashlib.sha256(f"own {number} {cell.source}".encode()).hexdigest()[:12]
        taken.add(cell.id)
    made.cells = cells
    return made, told


def difference(base, mine):
    """The lines by which two notebooks differ, with three around them, each place headed by its cell; no outputs."""

    def lines(book):
        texts, cells = [], []
        for number, cell in enumerate(book.cells, 1):
            inside = ["", *cell.source.strip().splitlines()]
            texts += inside
            cells += [blank(cell) or f"cell {number}"] * len(inside)
        return texts, cells

    (old, _), (new, cells) = lines(base), lines(mine)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for group in matcher.get_grouped_opcodes(3):
        first = next(j for kind, _, _, j, _ in group if kind != "equal")
        yield f"@@ {cells[min(first, len(cells) - 1)]} @@"
        for kind, i, i_end, j, j_end in group:
            if kind == "equal":
                yield from (f" {line}" for line in old[i:i_end])
            else:
                yield from (f"-{line}" for line in old[i:i_end])
                yield from (f"+{line}" for line in new[j:j_end])
