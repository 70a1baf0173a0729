"""What an audit found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Verdict = Literal["pass", "warn", "block"]
VERDICTS: tuple[Verdict, ...] = ("pass", "warn", "block")
"""From harmless to worst."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One audit and what it found.

    Attributes:
        audit: Which: `labels`, `leakage`, `subgroups`.
        what: The finding in a sentence, with its figures.
        todo: The first thing to do; empty where nothing is.
        cost: What it may cost in the project's money a year; None where nobody can say.
        evidence: JSON values.
    """

    audit: str
    verdict: Verdict
    what: str
    todo: str = ""
    cost: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
