"""Names that a project file uses before they exist: the one fault that Python itself stops at.

A file that runs is never looked at. In one that does not, each such name is found here and gets a stand-in, so
that the rest of the file can be read and all its faults are reported together.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator, Mapping

from icekeel.core.errors import Fault, nearest

EARLY = ("cyclic_definition", "used_before_defined", "unknown_name")
"""The codes of these faults."""


def early_names(tree: ast.Module, file: str) -> dict[str, Fault]:
    """All names that a module or one of its classes uses before they exist, each with its fault and line."""
    known = {*dir(builtins), "__file__", "__name__", "__doc__"}
    found: dict[str, Fault] = {}
    for name, fault in _scope(tree.body, "", known, {}, file):
        found.setdefault(name, fault)
    return found


def _scope(
    body: list[ast.stmt], owner: str, known: set[str], outside: Mapping[str, ast.stmt], file: str
) -> Iterator[tuple[str, Fault]]:
    here = _definitions(body)
    uses = {name: {use.id for use in _loads(statement)} for name, statement in here.items()}
    bound = set(known)
    for statement in body:
        for use in _loads(statement):
            if use.id not in bound:
                bound.add(use.id)
                parts = (owner, *sorted(_binds(statement))[:1])
                place = f"{file}:{use.lineno} {'.'.join(filter(None, parts))}".rstrip()
                yield use.id, _fault(use.id, statement, place, here, outside, uses, bound)
        if isinstance(statement, ast.ClassDef):
            yield from _scope(statement.body, statement.name, bound, here, file)
        bound |= _binds(statement)


def _fault(
    name: str,
    statement: ast.stmt,
    place: str,
    here: Mapping[str, ast.stmt],
    outside: Mapping[str, ast.stmt],
    uses: Mapping[str, set[str]],
    bound: set[str],
) -> Fault:
    for start in sorted(_binds(statement)):
        if ring := _path(name, start, uses):
            what, hint = "these are made of each other", "give what they share a name of its own, above both"
            return Fault("cyclic_definition", what, place, " -> ".join([start, *ring]), hint=hint)
    if found := here.get(name) or outside.get(name):
        if isinstance(found, ast.ClassDef) and any(statement is inner for inner in found.body):
            hint = f"inside the class write the bare name, without {name}."
        else:
            hint = f"it is defined on line {found.lineno}: move that above"
        return Fault("used_before_defined", f'"{name}" has no value yet', place, name, hint=hint)
    candidates = [*(bound - {name}), *here, *outside]
    return Fault("unknown_name", f'nothing is called "{name}"', place, name, hint=nearest(name, candidates))


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


def _definitions(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """The statement that first binds each name."""
    found: dict[str, ast.stmt] = {}
    for statement in body:
        for name in _binds(statement):
            found.setdefault(name, statement)
    return found


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
