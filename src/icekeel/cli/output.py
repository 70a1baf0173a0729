"""How commands speak: results to stdout, progress and errors to stderr, JSON on request."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import msgspec

from icekeel.core.errors import IcekeelError

WIDEST_PAGE = 120
"""Columns of a table on a page for people, where no terminal says how many there are."""


def say(text: str) -> None:
    """Progress, for whoever is watching."""
    print(text, file=sys.stderr, flush=True)


def print_text(text: str) -> None:
    """A result in a sentence."""
    print(text, flush=True)


def print_json(value: Any) -> None:
    """A result for programs."""
    print(msgspec.json.format(msgspec.json.encode(value), indent=2).decode(), flush=True)


def print_line(value: Any) -> None:
    """A message between processes: JSON on one line, at once."""
    print(msgspec.json.encode(value).decode(), flush=True)


def print_rows(
    rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str = "", most: int = 10_000
) -> None:
    """A result that is a list: the same keys are the columns of a table for people.

    Args:
        rows: What was found; all with the same keys.
        as_json: For programs.
        empty: What people are told where there is nothing.
        most: How wide the table may be where no terminal has a width of its own.
    """
    if as_json:
        print_json(rows)
    elif not rows:
        say(empty)
    else:
        names = [name.replace("_", " ") for name in rows[0]]
        print_table(names, [list(row.values()) for row in rows], most=most)


def print_parts(parts: Iterable[tuple[str, Sequence[str], Sequence[Mapping[str, Any]]]]) -> None:
    """A page for people: headings, each with lines and a table under it."""
    for heading, lines, rows in parts:
        print(f"\n{heading}")
        for line in lines:
            print(f"  {line}")
        if rows:
            print_rows(rows, as_json=False, most=WIDEST_PAGE)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, most: int = 10_000) -> None:
    """A table for people, at most so wide where no terminal has a width of its own."""
    # Loaded where it is used: rich takes a third of the time of `icekeel --help`.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console(highlight=False)
    if not console.is_terminal:  # no line of a list is broken for a program or a file
        console = Console(highlight=False, width=min(most, Console(width=10_000).measure(table).maximum))
    console.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if 10_000 <= abs(value) < 1e15 else f"{value:,.4g}"
    if isinstance(value, Mapping):
        return "; ".join(f"{name} ({_cell(one)})" for name, one in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def fail(error: IcekeelError, *, as_json: bool = False) -> NoReturn:
    """Every fault on stderr, and exit status 1."""
    if as_json:
        document = {"error": error.code, "faults": [fault.as_dict() for fault in error.faults]}
        print(msgspec.json.encode(document).decode(), file=sys.stderr)
    else:
        bold = "\x1b[1;31merror\x1b[0m" if sys.stderr.isatty() else "error"
        for fault in error.faults:
            print(f"{bold} {fault}", file=sys.stderr)
    raise SystemExit(1)


class JsonLines(logging.Formatter):
    """Log records as JSON: event name and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        known = vars(logging.makeLogRecord({}))
        extra = {
            key: str(value) for key, value in vars(record).items() if key not in known and key != "message"
        }
        line = {
            "at": record.created,
            "level": record.levelname,
            "event": record.getMessage(),
            "room": record.name,
            **extra,
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def log_as_json() -> None:
    """Send the log of a serving process to stderr as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
