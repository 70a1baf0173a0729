"""The page of a rehearsal: what went wrong on purpose, how soon it was found, what it was called and what it cost."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

import icekeel
from icekeel.core.time import MINUTE, format_time
from icekeel.operations.rehearsal.faults import CHALLENGED
from icekeel.operations.rehearsal.result import ABSORBED, FOUND, MISSED, UNSEEN, Outcome, Rehearsed

from .charts import Bar, Span, bars, spans
from .report import Block, Callout, Cell, Moment, Report, Section, Table, Tile, Tiles, Timeline, Tone

MOST_ACTIONS = 2


def lead(found: Rehearsed) -> str:
    """The whole finding in a few sentences."""
    shown, minutes = found.shown, found.minutes
    caught = [one for one in shown if one.status in (FOUND, ABSORBED)]
    harmless = sum(one.status == ABSORBED for one in shown)
    text = f"{len(caught)} of {len(shown)} faults were found" if shown else "No fault touched anything"
    text += f", {harmless} of them by showing that they did no harm. " if harmless else ". "
    if minutes:
        text += f"Half of the alerts came within {_minutes(median(minutes))} of the first sign, the last after {_minutes(max(minutes))}. "
    named = [one.right for one in found.outcomes if one.right is not None]
    if named:
        text += f"{sum(named)} of {len(named)} named the cause. "
    alarms, days = len(found.false_alarms), f"{found.quiet_days:g} quiet days"
    return text + f"{alarms or 'No'} false alarm{'s' * (alarms > 1)} in {days}."


def rehearsal_page(found: Rehearsed) -> Report:
    """The page."""
    missed = [one for one in found.outcomes if one.status == MISSED or one.right is False]
    sections = [
        Section("At a glance", "", [_tiles(found)]),
        Section("Fault by fault", _text(found), [*_delays(found), _table(found)]),
        Section("What was said and done", "", [_course(found)]),
        *([Section("What to mend", "", list(_mend(missed)))] if missed else []),
        Section(
            "The days as they went",
            "Each fault from its beginning to its end, and under them the alerts while they were open.",
            [_days(found)],
        ),
        _worth(found),
        _quiet(found),
    ]
    return Report(
        f"{found.model.replace('_', ' ').capitalize()}: rehearsed",
        lead(found),
        sections,
        foot=(
            f"Icekeel {icekeel.__version__}, icekeel rehearse, seed {found.seed}, "
            f"{format_time(found.start)[:10]} to {format_time(found.end)[:10]}: {found.asked:,} questions and {found.pushed:,} "
            f"events over HTTP in virtual time, {found.walls.get('requests_per_second', 0):,.0f} questions a second."
        ),
    )


def _tiles(found: Rehearsed) -> Tiles:
    shown, minutes = found.shown, found.minutes
    caught = sum(one.status in (FOUND, ABSORBED) for one in shown)
    named = [one.right for one in found.outcomes if one.right is not None]
    cost = sum(one.cost for one in found.outcomes)
    lost = sum(one.unanswered for one in found.outcomes)
    return Tiles(
        [
            Tile("faults found", f"{caught} of {len(shown)}", "", "good" if caught == len(shown) else "bad"),
            Tile(
                "until the alert",
                _minutes(median(minutes)) if minutes else "-",
                f"median, virtual time; the last after {_minutes(max(minutes))}" if minutes else "",
            ),
            Tile(
                "cause named",
                f"{sum(named)} of {len(named)}",
                "of those with an alert",
                "good" if named and sum(named) >= 0.9 * len(named) else "warn",
            ),
            Tile(
                "false alarms",
                f"{len(found.false_alarms)}",
                f"in {found.quiet_days:g} quiet days",
                "bad" if found.false_alarms else "good",
            ),
            Tile("cost of the gaps", _money(found, cost), "until each was found"),
            Tile("without an answer", f"{lost:,}", "questions refused or lost until then"),
        ]
    )


def _text(found: Rehearsed) -> str:
    text = (
        "Minutes count from the first event, question or act that a fault touched to its alert; of a changed truth, from its "
        "first outcomes. The cost is what answers were worse until then than those of the same replay without any fault."
    )
    if found.skipped:
        text += f" This project has no place for {', '.join(map(_words, found.skipped))}."
    unseen = [one.kind for one in found.outcomes if one.status == UNSEEN]
    if unseen:
        text += f" Nothing came that {', '.join(map(_words, unseen))} could touch."
    return text


def _delays(found: Rehearsed) -> Iterator[Block]:
    alarmed = sorted(
        (one for one in found.outcomes if one.status == FOUND and one.kind not in CHALLENGED),
        key=lambda one: one.minutes or 0.0,
    )
    if alarmed:
        within = sum((one.minutes or 0) <= 10 for one in alarmed)
        title = f"{within} of {len(alarmed)} alerts came within ten minutes"
        rows = [Bar(_name(one), one.minutes or 0.0) for one in alarmed]
        yield bars(title, rows, x_title="virtual minutes from the first sign to the alert", digits=0)


def _table(found: Rehearsed) -> Table:
    rows: list[list[Cell]] = [
        [
            _words(one.kind),
            one.where or "-",
            _verdict(one),
            one.called or "-",
            _money(found, one.cost) if one.status != UNSEEN else "-",
            one.unanswered,
        ]
        for one in found.outcomes
    ]
    headers = ["fault", "where", "found after", "called", "cost", "unanswered"]
    bad = [place for place, one in enumerate(found.outcomes) if one.status == MISSED or one.right is False]
    return Table(headers, rows, strong=bad)


def _verdict(one: Outcome) -> str:
    return {FOUND: _minutes(one.minutes or 0.0), ABSORBED: "harmless", MISSED: "not found", UNSEEN: "-"}[
        one.status
    ]


def _course(found: Rehearsed) -> Timeline:
    """What was said of each fault, and what was decided after it."""
    moments = []
    for one in found.outcomes:
        if one.status in (FOUND, ABSORBED):
            tone: Tone = "warn" if one.right is False else "good"
            text = " ".join(f"Then {action.rstrip('.')}." for action in one.actions[:MOST_ACTIONS])
            at = one.shown + round((one.minutes or 0.0) * MINUTE)
            moments.append(Moment(at, one.called or "harmless", f"{_name(one)}: {one.sentence}", text, tone))
    return Timeline(moments)


def _mend(missed: list[Outcome]) -> Iterator[Block]:
    for one in missed:
        expected = " or ".join(one.expected)
        if one.status == MISSED:
            harm = f"{one.differ:,} answers differed, {one.unanswered:,} were not given."
            yield Callout(f"{_name(one)}: no alert", f"Expected: {expected}. {harm}", "bad")
        else:
            yield Callout(
                f"{_name(one)}: called {one.called}", f"Expected: {expected}. {one.sentence}", "warn"
            )


def _days(found: Rehearsed) -> Block:
    rows = [Span(_words(one.kind), one.start, one.end) for one in found.outcomes]
    rows += [
        Span(f"alert: {cause}", at, max(until, at + 10 * MINUTE))
        for cause, at, until in sorted(found.alerts, key=lambda one: (one[1], one[0]))
    ]
    return spans(f"{len(found.outcomes)} faults and {len(found.alerts)} alerts", rows)


def _worth(found: Rehearsed) -> Section:
    heading = "What each mechanism was worth"
    if not found.worth:
        return Section(
            heading,
            "`icekeel rehearse --without guard` replays once more without it: retraining, guard, canary, freshness.",
        )
    best = max(found.worth, key=lambda one: one.usd)
    rows = [Bar(one.mechanism, one.usd) for one in found.worth]
    text = "\n\n".join(
        f"Without {one.mechanism} the same days cost {_money(found, one.usd)} more, and {one.found:.0%} of the faults were found."
        for one in found.worth
    )
    title = f"{best.mechanism.capitalize()} was worth the most"
    return Section(
        heading, text, [bars(title, rows, x_title="what the same days cost more without it", digits=2)]
    )


def _quiet(found: Rehearsed) -> Section:
    if not found.false_alarms:
        return Section("Quiet time", f"The same {found.quiet_days:g} days without faults raised no alert.")
    rows: list[list[Cell]] = [[format_time(one.at)[:16], one.cause, one.title] for one in found.false_alarms]
    return Section(
        "Quiet time", "Alerts where nothing was wrong.", [Table(["when", "cause", "what it said"], rows)]
    )


def _name(one: Outcome) -> str:
    return f"{_words(one.kind)}, {one.where}" if one.where else _words(one.kind)


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _minutes(value: float) -> str:
    if value >= 2 * 1440:
        return f"{value / 1440:.1f} d"
    return f"{value / 60:.1f} h" if value >= 120 else f"{value:.0f} min"


def _money(found: Rehearsed, amount: float) -> str:
    amount = 0.0 if abs(amount) < 0.005 else amount
    return f"{'-' if amount < 0 else ''}{found.money}{abs(amount):,.{0 if abs(amount) >= 100 else 2}f}"
