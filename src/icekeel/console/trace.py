"""The page of one answer: what gave it, from what, and what came of it."""

from __future__ import annotations

from dataclasses import replace

from icekeel.operations.accounts.explain import number
from icekeel.operations.accounts.trace import Trace
from icekeel.operations.accounts.trace_words import told

from .lineage import Item, lineage
from .pages import moment
from .report import Block, Callout, Report, Section, Tile, Tiles, Tone, render, section_of

_OUTCOME: dict[str, Tone] = {"known": "good", "absent": "plain", "pending": "plain"}


def trace_page(trace: Trace) -> str:
    """The page as one HTML file that fetches nothing and runs nothing."""
    record = trace.answer
    answer, *rest = told(trace)
    unknown = Callout("Not known any more, or not as it should be", "\n\n".join(trace.notes), "warn")
    notes = [unknown] if trace.notes else []
    sections = [
        Section("Answer", "\n\n".join(answer.lines[1:]), [*notes, _tiles(trace), *section_of(answer).blocks]),
        *map(section_of, rest),
    ]
    if any(one.windows for one in trace.features):
        place = next(at for at, section in enumerate(sections) if section.heading == "Features")
        sections.insert(place, Section("Where it comes from", "", [_picture(trace)]))
    lead = f"{answer.lines[0]}. Audit: {trace.audit}."
    return render(Report(f"Answer {record.id}", lead, sections, f"icekeel trace {record.id}"))


def _tiles(trace: Trace) -> Tiles:
    record, outcome = trace.answer, trace.outcome
    around = f"{number(record.low)} to {number(record.high)}" if record.low is not None else "no interval"
    refused = record.verdict == "refused"
    tiles = [
        Tile(
            "Answer", "refused" if refused else number(record.answer), around, "bad" if refused else "plain"
        ),
        Tile("Version", record.version, f"{record.arm}, {record.share:.0%} of units"),
        Tile(
            "Guard",
            record.verdict.replace("_", " "),
            f"{len(record.reasons)} finding{'' if len(record.reasons) == 1 else 's'}",
            "good" if record.verdict == "pass" else "warn",
        ),
        Tile("Asked", moment(record.at), f"{record.cpu_us:,} us of CPU"),
    ]
    if outcome is not None:
        value = number(outcome.target) if outcome.target is not None else outcome.status
        count = len(outcome.versions)
        times = {0: "not told", 1: "told once"}.get(count, f"told {count} times")
        tiles.append(Tile("Outcome", value, times, _OUTCOME[outcome.status]))
    differs = [one for one in trace.features if one.audited == "differs"]
    compared = any(one.audited for one in trace.features)
    tone: Tone = "bad" if differs else "good" if compared else "plain"
    tiles.append(
        Tile(
            "Audit",
            f"{len(differs)} differ" if differs else "equal" if compared else "not compared",
            "",
            tone,
        )
    )
    return Tiles(tiles)


def _picture(trace: Trace) -> Block:
    items = [
        Item(
            one.name,
            [window.window for window in one.windows],
            bool(one.request),
            (),
            0.05,
        )
        for one in trace.features
        if one.definition is not None
    ]
    windows = {window.window: window for one in trace.features for window in one.windows}
    events = sum(window.events for window in windows.values())
    title = f"{len(items)} features from {len(windows)} windows, which held {events:,} events"
    return replace(lineage(title, "request", trace.answer.version, items), note="")
