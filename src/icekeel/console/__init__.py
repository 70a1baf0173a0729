"""Pages for people: the live status page and self-contained reports, made on the server without scripts.

The room turns values into HTML and knows nothing of HTTP or the command line. All text it is given is data and
is escaped. Chart functions are in `icekeel.console.charts`, which is not loaded here: a server that only
shows its status has no use for the renderer.
"""

from __future__ import annotations

from .alerts import alert_page, alerts_page
from .report import (
    Block,
    Callout,
    Chart,
    Moment,
    Report,
    Section,
    Table,
    Tile,
    Tiles,
    Timeline,
    Tone,
    render,
)
from .status import status_page
from .trace import trace_page
from .trials import experiments_page

__all__ = [
    "Block",
    "Callout",
    "Chart",
    "Moment",
    "Report",
    "Section",
    "Table",
    "Tile",
    "Tiles",
    "Timeline",
    "Tone",
    "alert_page",
    "alerts_page",
    "experiments_page",
    "render",
    "status_page",
    "trace_page",
]
