"""How commands speak: results to stdout, progress and errors to stderr, JSON on request."""

from __future__ import annotations

import logging
import sys
from typing import Any, NoReturn

import msgspec
from rich.console import Console
from rich.table import Table

from icekeel.core.errors import IcekeelError

stdout = Console(highlight=False, soft_wrap=True)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Progress, for whoever is watching."""
    stderr.print(text, style="dim", markup=False)


def print_json(value: Any) -> None:
    """A result for programs."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_table(title: str, columns: list[str], rows: list[list[Any]]) -> None:
    """A result for people."""
    table = Table(*columns, title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    stdout.print(table)


def fail(error: IcekeelError, *, as_json: bool = False) -> NoReturn:
    """Every fault on stderr, and exit status 1."""
    if as_json:
        document = {"error": error.code, "faults": [fault.as_dict() for fault in error.faults]}
        sys.stderr.write(msgspec.json.encode(document).decode() + "\n")
    else:
        for fault in error.faults:
            stderr.print(f"[bold red]error[/] {_escape(str(fault))}")
    raise SystemExit(1)


def _escape(text: str) -> str:
    return text.replace("[", "\\[")


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
