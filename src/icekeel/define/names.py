"""Names that a project file uses before they exist: the one fault that Python itself stops at.

A file that runs is never looked at. In one that does not, each such name is found here and gets a stand-in, so
that the rest of the file can be read and all its faults are reported together.
"""

from __future__ import annotations

import ast
import builtins
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from icekeel.core.errors import Fault, nearest

EARLY = ("cyclic_definition", "used_before_defined", "unknown_name")
"""The codes of these faults."""


def early_names(tree: ast.Module, file: str) -> dict[str, Fault]:
    """All names that a module or one of its classes uses before they exist, each with its fault and line."""
    known = {*dir(builtins), "__file__", "__name__", "__doc__"}
    starred = any(isinstance(one, ast.ImportFrom) and one.names[0].name == "*" for one in tree.body)
    found: dict[str, Fault] = {}
    rings: dict[frozenset[str], Fault] = {}
    for name, fault in _early(_Scope("", tree.body, None), known, file):
        if starred and fault.code == "unknown_name":
            continue
        told = rings.setdefault(
            frozenset(fault.got.split(" -> ")), fault
        )  # a ring is one, wherever it is entered
        found.setdefault(name, told if fault.code == told.code == "cyclic_definition" else fault)
    return found


_CALLED = {"log": "ln", "max": "greatest", "min": "least", "where": "when", "switch": "case"}
"""What other languages call words of this one."""


def unknown_words(path: Path) -> list[Fault]:
    """Every `ik.word` of a project file that the language does not have, with its line and the nearest one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = [alias for one in ast.walk(tree) if isinstance(one, ast.Import) for alias in one.names]
    found = []
    for alias in (one for one in imported if one.name == "icekeel"):
        language = sys.modules[alias.name]  # or the file would have stopped at its import
        here = alias.asname or alias.name
        for use in ast.walk(tree):
            named = (
                isinstance(use, ast.Attribute) and isinstance(use.value, ast.Name) and use.value.id == here
            )
            if isinstance(use, ast.Attribute) and named and not hasattr(language, use.attr):
                near = _CALLED.get(use.attr)
                hint = f"did you mean {here}.{near}?" if near else nearest(use.attr, language.__all__)
                place = f"{path.name}:{use.lineno}"
                found.append(Fault("unknown_word", f"there is no {here}.{use.attr}", place, hint=hint))
    return found


class _Scope:
    """The names of a module or of a class in it, and what each is made of."""

    def __init__(self, owner: str, body: list[ast.stmt], outer: _Scope | None) -> None:
        self.owner, self.body, self.outer = owner, body, outer
        self.definitions: dict[str, ast.stmt] = {}
        for statement in body:
            for name in _binds(statement):
                self.definitions.setdefault(name, statement)
        self.uses = {name: _needs(statement) for name, statement in self.definitions.items()}

    def ring(self, name: str, statement: ast.stmt) -> list[str]:
        """A ring of definitions that the statement closes by using the name; empty where there is none."""
        for start in sorted(_binds(statement)):
            if way := _path(name, start, self.uses):
                return [start, *way]
        way = _path(name, self.owner, self.outer.uses) if self.outer and name not in self.definitions else []
        return [self.owner, *way] if len(way) > 1 else []


def _early(scope: _Scope, known: set[str], file: str) -> Iterator[tuple[str, Fault]]:
    bound = set(known)
    for statement in scope.body:
        for use in _loads(statement):
            if use.id not in bound:
                parts = (scope.owner, *sorted(_binds(statement))[:1])
                place = f"{file}:{use.lineno} {'.'.join(filter(None, parts))}".rstrip()
                yield use.id, _fault(use.id, statement, place, scope, bound)
                bound.add(use.id)
        if isinstance(statement, ast.ClassDef):
            yield from _early(_Scope(statement.name, statement.body, scope), bound, file)
        bound |= _binds(statement)


def _fault(name: str, statement: ast.stmt, place: str, scope: _Scope, bound: set[str]) -> Fault:
    if ring := scope.ring(name, statement):
        what, hint = "these are made of each other", "give what they share a name of its own, above both"
        return Fault("cyclic_definition", what, place, " -> ".join(ring), hint=hint)
    outside = scope.outer.definitions if scope.outer else {}
    if name == scope.owner:
        hint = f"inside the class write the bare name, without {name}."
        return Fault("used_before_defined", f'"{name}" has no value yet', place, name, hint=hint)
    if found := scope.definitions.get(name) or outside.get(name):
        hint = f"it is defined on line {found.lineno}: move that above"
        return Fault("used_before_defined", f'"{name}" has no value yet', place, name, hint=hint)
    near = nearest(name, [*bound, *scope.definitions, *outside])
    return Fault("unknown_name", f'nothing is called "{name}"', place, name, hint=near)


def _path(start: str, end: str, uses: Mapping[str, set[str]]) -> list[str]:
    """A way from one name to another through what each is made of; empty where there is none."""
    ways, seen = [[start]], {start}
    while ways:
        way = ways.pop(0)
        if way[-1] == end:
            return way
        for name in sorted(uses.get(way[-1], set()) - seen):
            seen.add(name)
            ways.append([*way, name])
    return []


def _needs(statement: ast.stmt) -> set[str]:
    """Names that a statement needs at once, those of a class's body included."""
    needed = {use.id for use in _loads(statement)}
    if isinstance(statement, ast.ClassDef):
        own = set[str]().union(*map(_binds, statement.body))
        needed |= set[str]().union(*map(_needs, statement.body)) - own
    return needed


def _binds(statement: ast.stmt) -> set[str]:
    """Names that a statement gives a value, wherever inside it that happens."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.AnnAssign) and statement.value is None:
        return set()
    parts = _now(statement, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    stores = {node.id for node in parts if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    inner = (node for node in ast.iter_child_nodes(statement) if isinstance(node, ast.stmt))
    return stores.union(*map(_binds, inner))


def _loads(statement: ast.stmt) -> list[ast.Name]:
    """Names whose value the statement needs at once: none of function bodies, annotations and its own loops."""
    if isinstance(statement, ast.ClassDef):
        parts: list[ast.AST] = [*statement.bases, *statement.keywords, *statement.decorator_list]
    elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        parts = [
            *statement.decorator_list,
            *statement.args.defaults,
            *filter(None, statement.args.kw_defaults),
        ]
    elif isinstance(statement, ast.AnnAssign):
        parts = [statement.annotation, *filter(None, [statement.value])]
    else:
        parts = [statement]
    names = [node for part in parts for node in _now(part) if isinstance(node, ast.Name)]
    own = {node.id for node in names if isinstance(node.ctx, ast.Store)} if parts == [statement] else set()
    targets = own - {t.id for t in _targets(statement)}
    return [node for node in names if isinstance(node.ctx, ast.Load) and node.id not in targets]


def _targets(statement: ast.stmt) -> list[ast.Name]:
    """Names of a plain assignment: `a = a + 1` does need `a`."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return [node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def _now(node: ast.AST, *without: type[ast.AST]) -> Iterator[ast.AST]:
    """What lies in a tree, apart from what runs later and from the insides of what is named."""
    yield node
    if not isinstance(node, (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, *without)):
        for child in ast.iter_child_nodes(node):
            yield from _now(child, *without)
