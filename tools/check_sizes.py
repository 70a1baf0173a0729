"""Fails where a module or function of `src` outgrows its limit, is named for nothing, or is a stub.

Limits: modules of 600 lines, functions of 60 (the docstring not counted).
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
MODULE_LINES = 600
FUNCTION_LINES = 60
NAMELESS = {"utils", "common", "helpers", "base", "models", "types"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> int:
    """Prints the longest modules and functions and every fault; 1 where there is one."""
    texts = {path: path.read_text() for path in sorted(SOURCE.rglob("*.py"))}
    functions = [
        (body_lines(node), path, node)
        for path, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, Function)
    ]
    faults = [
        *module_faults(texts),
        *(
            f"{shown(path)}:{node.lineno} {node.name}: {length} lines; allowed: {FUNCTION_LINES}"
            for length, path, node in functions
            if length > FUNCTION_LINES
        ),
    ]
    lines = {path: text.count("\n") for path, text in texts.items()}
    print(f"{sum(lines.values())} lines in {len(lines)} modules; the longest:")
    for path in sorted(lines, key=lambda path: -lines[path])[:5]:
        print(f"  {lines[path]:4} {shown(path)}")
    for length, path, node in sorted(functions, key=lambda each: -each[0])[:5]:
        print(f"  {length:4} {shown(path)}:{node.lineno} {node.name}")
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def module_faults(texts: dict[Path, str]) -> Iterator[str]:
    """Modules that are too long, named for nothing, or promise what they do not hold."""
    for path, text in texts.items():
        if text.count("\n") > MODULE_LINES:
            yield f"{shown(path)}: {text.count(chr(10))} lines; allowed: {MODULE_LINES}"
        if {path.stem, path.parent.name} & NAMELESS:
            yield f"{shown(path)}: name a module for its subject"
        if "NotImplementedError" in text:
            yield f"{shown(path)}: NotImplementedError; write it or leave it out"


def body_lines(node: Function) -> int:
    """Lines from `def` to the end without the docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def shown(path: Path) -> str:
    """The path as seen from the repository."""
    return str(path.relative_to(SOURCE.parent))


if __name__ == "__main__":
    sys.exit(main())
