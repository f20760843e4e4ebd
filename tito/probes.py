"""Which parts of the learner's package a check runs: each block of code notes that it was entered.

`Probes` compiles the package with one more statement at the start of every function and of every branch, which sets a
byte of an array; nothing else changes, and lines, names and sources stay as they were. Imports the standard library
only.
"""

import ast
import builtins
import re
from importlib.machinery import ModuleSpec, SourceFileLoader

NAME = "__tito_seen__"
SET = re.compile(b"\1")


class Probes:
    """The bytes, and for each the file, the line and function of its block, and whether the block ends in `raise`."""

    def __init__(self, tell=None):
        self.seen = bytearray()
        self.tell = tell
        setattr(builtins, NAME, self.seen)

    def loader(self, spec: ModuleSpec):
        """Put our loader in the place of the one that reads source."""
        if type(spec.loader) is SourceFileLoader:
            spec.loader = Loader(spec.loader.name, spec.loader.path, self)

    def take(self):
        """The numbers of the blocks entered since the last call."""
        ran = [found.start() for found in SET.finditer(self.seen)]
        self.seen[:] = bytes(len(self.seen))
        return ran

    def unseen(self, function, *given):
        """function(*given), as if it ran nothing."""
        before = bytes(self.seen)
        try:
            return function(*given)
        finally:
            self.seen[: len(before)] = before

    def compile(self, source, path):
        """The code of a module with its probes."""
        tree = ast.parse(source, path)
        first, places = len(self.seen), []
        for node in tree.body:
            _visit(node, "", first, places)
        self.seen.extend(bytes(len(places)))
        if self.tell:
            self.tell(event="blocks", file=str(path), first=first, places=places)
        return compile(tree, path, "exec", dont_inherit=True)


class Loader(SourceFileLoader):
    """Reads source as ever and compiles it with probes; keeps no compiled file."""

    def __init__(self, name, path, probes):
        super().__init__(name, path)
        self.probes = probes

    def get_code(self, fullname):
        path = self.get_filename(fullname)
        return self.probes.compile(self.get_data(path), path)


def _visit(node, outer, first, places):
    """Put probes into the functions below `node`."""
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            _visit(child, f"{outer}{node.name}.", first, places)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        name = f"{outer}{node.name}"
        start = 1 if ast.get_docstring(node, clean=False) is not None else 0
        rest = _block(node.body[start:], name, first, places) if node.body[start:] else []
        node.body[start:] = rest
    elif isinstance(node, ast.If | ast.Try | ast.With | ast.For | ast.While):  # at the top level
        for field in ("body", "orelse", "finalbody"):
            for child in getattr(node, field, []):
                _visit(child, outer, first, places)


def _block(body, name, first, places):
    """The statements of `body`, the first of them a probe, and probes where the way through it forks."""
    made, fresh = [], True
    for node in body:
        if fresh:
            made.append(_probe(node, first + len(places)))
            last = len(places)
            places.append([node.lineno, name, False])
        _visit_inside(node, name, first, places)
        made.append(node)
        fresh = isinstance(node, ast.If | ast.Try | ast.Match)
    places[last][2] = isinstance(body[-1], ast.Raise)
    return made


def _visit_inside(node, name, first, places):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        _visit(node, f"{name}.", first, places)
    elif isinstance(node, ast.If | ast.Try):
        for handler in getattr(node, "handlers", []):
            handler.body = _block(handler.body, name, first, places)
        for field in ("body", "orelse", "finalbody"):
            if getattr(node, field, None):
                setattr(node, field, _block(getattr(node, field), name, first, places))
    elif isinstance(node, ast.Match):
        for case in node.cases:
            case.body = _block(case.body, name, first, places)
    elif isinstance(node, ast.For | ast.While | ast.With | ast.AsyncFor | ast.AsyncWith):
        for field in ("body", "orelse"):
            for child in getattr(node, field, None) or []:
                _visit_inside(child, name, first, places)


def _probe(node, number):
    """`__tito_seen__[number] = 1`, on the line of `node`."""
    probe = ast.Assign([ast.Subscript(ast.Name(NAME, ast.Load()), ast.Constant(number), ast.Store())], ast.Constant(1))
    ast.copy_location(probe, node)
    return ast.fix_missing_locations(probe)
