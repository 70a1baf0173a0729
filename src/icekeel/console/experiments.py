"""The page of an experiment, and the list of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from icekeel.experiments import Evidence, describe
from icekeel.operations.trials.report import TrialReport

from .charts import Mark, lines
from .pages import moment
from .report import Block, Callout, Report, Section, Table, Tile, Tiles, Tone

TONES: dict[str, Tone] = {"promote": "good", "advance": "good", "stop": "bad"}
WORDS = {
    "promote": "Shown to be good: it may become champion",
    "advance": "No harm: the next step",
    "stop": "Stop",
    "continue": "Undecided: it goes on",
    "ended": "Over",
}


def experiment_page(found: TrialReport) -> Report:
    """The finding first, then how it came, how sure it is, and what stands behind it."""
    primary = found.plan.primary.name
    return Report(
        title=found.title,
        lead=found.sentence,
        sections=[
            Section("The finding", "", [*_callouts(found), _tiles(found, found.evidence.get(primary))]),
            _course(found),
            _metrics(found),
            *([_sizes(found)] if found.sizes else []),
            *([_segments(found)] if found.segments else []),
            _behind(found),
        ],
        foot=f"From answers and outcomes up to {moment(found.at)} UTC. Bounds and verdicts hold at every look.",
    )


def _callouts(found: TrialReport) -> list[Block]:
    tone: Tone = "warn" if found.held else TONES.get(found.verdict, "plain")
    title = "Held: the data cannot be vouched for" if found.held else WORDS.get(found.verdict, found.verdict)
    return [Callout(title, found.held, tone)]


def _tiles(found: TrialReport, one: Evidence | None) -> Block:
    days = Tile("Days", f"{found.days:.1f}", f"since {moment(found.since)}")
    part = found.steps[-1][1]
    share = (
        Tile("Share of the challenger", f"{part:.1%}", f"step {len(found.steps)}")
        if part
        else Tile("Compared", "in shadow", "on the champion's own questions")
    )
    if one is None or math.isnan(one.estimate):
        return Tiles([days, share, Tile("Units", "0")])
    base = abs(one.control) or 1.0
    bounds = f"{one.low / base:+.1%} to {one.high / base:+.1%}" if math.isfinite(one.low) else "too early"
    units = Tile("Units", f"{one.n_a + one.n_b:,}", f"{one.n_a:,} champion, {one.n_b:,} challenger")
    change = Tile(
        f"Improvement of {found.plan.primary.name}", f"{one.estimate / base:+.1%}", f"between {bounds}"
    )
    return Tiles([change, units, days, share])


def _course(found: TrialReport) -> Section:
    looks = [look for look in found.looks if math.isfinite(look.evidence.low)]
    text = (
        "The improvement as a share of the champion's value, with bounds that hold however often one looks: "
        "what lies outside of them is refuted."
    )
    if len(looks) < 2:
        return Section("The course", f"{text} There are too few units yet to draw it.")
    first = looks[0].at
    marks: list[Mark] = [
        (at, f"{share:.3g}")
        for at, share in found.steps
        if first <= at <= looks[-1].at and len(found.steps) > 1
    ]
    shown = {"estimate": "estimate", "lower bound": "low", "upper bound": "high"}
    series: dict[str, Sequence[float | None]] = {
        name: [getattr(look.evidence, end) / (abs(look.evidence.control) or 1.0) for look in looks]
        for name, end in shown.items()
    }
    series["no difference"] = [0.0 for _ in looks]
    chart = lines(
        f"{found.plan.primary.name} of the challenger against the champion's",
        [look.at for look in looks],
        series,
        x_title="",
        y_title="improvement",
        marks=marks,
        percent=True,
    )
    return Section("The course", text, [chart])


def _metrics(found: TrialReport) -> Section:
    rows = []
    for metric in found.plan.metrics:
        one = found.evidence.get(metric.name, Evidence())
        role = "primary" if metric.name == found.plan.primary.name else "guardrail"
        demand = f"no worse than {metric.margin:.1%}" if metric.margin else "better"
        rows.append((metric.name, role, metric.kind, demand, one.control, *_relative(one), _held(found, one)))
    columns = ("metric", "role", "kind", "to be shown", "champion", "improvement", "bounds", "shown?")
    told = "\n\n".join(describe(name, one) + "." for name, one in found.evidence.items())
    return Section("Metrics", told, [Table(columns, rows)])


def _relative(one: Evidence) -> tuple[str, str]:
    if math.isnan(one.estimate):
        return "–", "no data"
    base = abs(one.control) or 1.0
    low, high = one.low / base, one.high / base
    bounds = f"{low:+.1%} to {high:+.1%}" if math.isfinite(low) else "too early"
    return f"{one.estimate / base:+.1%}", bounds


def _held(found: TrialReport, one: Evidence) -> str:
    if one.e_worse >= found.plan.harm_bar:
        return "harm"
    return "yes" if one.e_better >= 1 / found.plan.alpha else "not yet"


def _sizes(found: TrialReport) -> Section:
    rows = [
        (one.phase.rpartition("@")[2] or "all", f"{one.share:.0%}", one.champion, one.challenger, _got(one))
        for one in found.sizes
    ]
    fits = found.odds < 1000
    text = (
        f"The sizes fit the declared shares (odds of a mismatch {found.odds:.2g} to 1; 1,000 to 1 stops promotions)."
        if fits
        else f"The sizes do not fit the declared shares ({found.odds:.2g} to 1): nothing is promoted on such data."
    )
    table = Table(("share of all units", "challenger's part", "champion", "challenger", "its part is"), rows)
    return Section("Sizes of the arms", text, [table])


def _got(one: Any) -> str:
    total = one.champion + one.challenger
    return f"{one.challenger / total:.1%}" if total else "–"


def _segments(found: TrialReport) -> Section:
    rows = [
        (name, value, one.n_a + one.n_b, *_relative(one), "yes" if counts else "no")
        for name, values in found.segments.items()
        for value, (one, counts) in values.items()
    ]
    text = (
        "Of many groups some differ by chance. The last column is corrected for how many were looked at: of all groups so named "
        f"at most {found.plan.alpha:.0%} are named wrongly."
    )
    columns = ("field", "value", "units", "improvement", "bounds", "counts")
    return Section("Groups", text, [Table(columns, rows)])


def _behind(found: TrialReport) -> Section:
    left = list(found.left_out.items())
    failed = [(kind, a, b) for kind, (a, b) in found.failures.items()]
    blocks: list[Block] = [Table(("left out", "how many"), left)] if left else []
    if failed:
        blocks.append(Table(("hard failure", "champion's units", "challenger's units"), failed))
    steps = [(moment(at), f"{share:.3g}" if share else "in shadow") for at, share in found.steps]
    blocks.append(Table(("since", "share"), steps))
    return Section("What stands behind it", found.naive.replace("`", ""), blocks)
