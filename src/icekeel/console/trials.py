"""The page that lists experiments; each has one of its own."""

from __future__ import annotations

from collections.abc import Sequence

from icekeel.registry import Trial

from .pages import moment
from .report import Block, Moment, Report, Section, Timeline, render


def experiments_page(trials: Sequence[Trial]) -> str:
    """All experiments of a project, as HTML."""
    running = sum(one.ended is None for one in trials)
    lead = f"{running} running, {len(trials) - running} over." if trials else "There was none yet."
    blocks: list[Block] = [Timeline([_told(one) for one in trials])] if trials else []
    return render(Report("Experiments", lead, [Section("All of them", "", blocks)]))


def _told(one: Trial) -> Moment:
    share = "in shadow" if one.in_shadow else "share " + " then ".join(f"{part:.3g}" for _, part in one.steps)
    title = f"{one.model}: {one.version} against {one.champion}, {share}"
    if one.ended is None:
        return Moment(one.since, "running", title, f"icekeel experiment report {one.model}", "good")
    return Moment(one.since, "over", title, f"Ended {moment(one.ended)}. {one.why}".rstrip())
