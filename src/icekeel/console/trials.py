"""The page that lists experiments; each has one of its own."""

from __future__ import annotations

from collections.abc import Sequence

from icekeel.registry import Trial

from .pages import moment
from .report import Block, Report, Section, Table, render


def experiments_page(trials: Sequence[Trial]) -> str:
    """All experiments of a project, as HTML."""
    rows = [
        (
            one.model,
            one.version,
            one.champion,
            moment(one.since),
            "in shadow" if one.in_shadow else " then ".join(f"{share:.3g}" for _, share in one.steps),
            "running" if one.ended is None else f"ended {moment(one.ended)}",
            one.why or f"icekeel experiment report {one.model}",
        )
        for one in trials
    ]
    running = sum(one.ended is None for one in trials)
    lead = f"{running} running, {len(trials) - running} over." if trials else "There was none yet."
    table = Table(("model", "challenger", "champion", "since", "shares", "state", "why, or its report"), rows)
    blocks: list[Block] = [table] if rows else []
    return render(Report("Experiments", lead, [Section("All of them", "", blocks)]))
