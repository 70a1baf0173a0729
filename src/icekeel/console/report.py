"""Reports: sections of charts, tables, figures and decisions, rendered to one HTML file."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from icekeel.operations.accounts.dossier import Part

from .pages import page

Tone = Literal["plain", "good", "warn", "bad"]
Cell = str | int | float | None
_NUMBER = re.compile(r"[-+±−]?[0-9][0-9.,]*( ?[%×xa-zA-Zµ/]{1,6})?|[-–]?")


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture with the finding it shows as its title; `icekeel.console.charts` makes them.

    Attributes:
        svg: Markup that is put into the page as it is, hence never made from outside data by hand.
    """

    kind: ClassVar[str] = "chart"
    title: str
    svg: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headers. Columns of numbers, or of texts such as `12.5 %` and `41 us`, stand to the right.

    Attributes:
        strong: Places of the rows to stand out, such as the winner's.
    """

    kind: ClassVar[str] = "table"
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    strong: Sequence[int] = ()

    @property
    def texts(self) -> list[list[str]]:
        """The cells as they are shown: whole numbers grouped, others to four digits, None as a dash."""
        return [[_text(cell) for _, cell in zip(self.headers, row, strict=True)] for row in self.rows]

    @property
    def numeric(self) -> list[bool]:
        """For each column whether all its cells are numbers."""
        columns = zip(*self.texts, strict=True) if self.rows else ((),) * len(self.headers)
        return [all(_NUMBER.fullmatch(text) for text in column) for column in columns]


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure: what it is, its value with unit, and what to compare it with."""

    label: str
    value: str
    note: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Tiles:
    """Figures side by side."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True)
class Callout:
    """One thing that the reader must not miss."""

    kind: ClassVar[str] = "callout"
    title: str
    text: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Moment:
    """One decision or alert.

    Attributes:
        at: Microseconds UTC.
        label: One or two words: `promote`, `alert`.
    """

    at: int
    label: str
    title: str
    text: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened, in the order given."""

    kind: ClassVar[str] = "timeline"
    moments: Sequence[Moment]


Block = Chart | Table | Tiles | Callout | Timeline


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, paragraphs parted by empty lines, and what shows them."""

    heading: str
    text: str = ""
    blocks: Sequence[Block] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """A title, the whole finding in the lead, and its sections.

    Attributes:
        foot: How the figures were made: versions, seed, command, machine.
        sheet: Whether it is to fit on one sheet of paper: closer set, without a list of sections.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    foot: str = ""
    sheet: bool = False


def section_of(part: Part) -> Section:
    """A part of a dossier or a trace."""
    rows = [[_cell(value) for value in row.values()] for row in part.rows]
    return Section(part.heading, "\n\n".join(part.lines), [Table(list(part.rows[0]), rows)] if rows else [])


def render(report: Report) -> str:
    """The report as one HTML file that fetches nothing and runs nothing, for light, dark, narrow and paper."""
    return page("report.html", report=report)


def _cell(value: object) -> Cell:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str | int | float) or value is None else str(value)


def _text(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, float):
        if math.isnan(cell):
            return "–"
        return f"{cell:,.0f}" if abs(cell) >= 10_000 else f"{cell:.4g}"
    return f"{cell:,}" if isinstance(cell, int) else cell
