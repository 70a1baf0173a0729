"""The report of the print shop: what features and a guard are worth where the truth is known."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

from icekeel import __version__
from icekeel.console import Callout, Report, Section, Table, Tile, Tiles, render
from icekeel.console.charts import Bar, bars, lines
from icekeel.core.time import format_time
from icekeel.registry import Registry, Version

from .cases import MODEL, Case
from .measure import Run

IDLE = 0.0001
"""A feature whose shuffling raises the error by less than this share (0.01 points) gained nothing."""


def write_report(run: Run, registry: Registry, path: Path) -> None:
    """One self-contained HTML file."""
    path.write_text(render(_report(run, registry)), encoding="utf-8")


def summary(run: Run) -> list[str]:
    """The findings, for the terminal."""
    later, job = run.later, _never_seen(run)
    raw, engineered, best = later.mape
    gain, low, high = later.gain
    before, after = run.twice
    errors = _error(run.raw), _error(run.engineered)
    rows = [
        ["", "raw features", "engineered", "less error"],
        ["backtest", *map(_percent, errors), _percent(1 - errors[1] / errors[0])],
        ["later, served", _percent(raw), _percent(engineered), f"{gain:.1%} ({low:.1%} to {high:.1%})"],
    ]
    return [
        "",
        "error of the same LightGBM (MAPE):",
        *_aligned(rows),
        f"the simulator's own formula, without its noise, errs by {best:.2%} on these later quotes",
        "",
        f"{job.name}, never seen together:",
        f"  it costs ${job.truth:,.0f}; without the guard ${job.record.answer:,.0f} would have been asked",
        f"  with it: HTTP {job.status}, {_reasons(job)}",
        f"  of {len(later.asked_at):,} ordinary later quotes the guard flagged {len(later.flagged)}"
        f" ({later.flagged_share:.2%}; its budget is 1 %) and refused {later.refused}",
        "",
        f"the same job is ${before.record.answer:,.0f} {before.name}, ${after.record.answer:,.0f} {after.name}",
        f"one answer takes {later.cpu_us[0]:,.0f} us of CPU (median; 99 %: {later.cpu_us[1]:,.0f})",
        "the simulator's effects were chosen so that features matter: the gain is an illustration",
        f"this run took {run.seconds:.0f} s",
    ]


def _report(run: Run, registry: Registry) -> Report:
    gain, low, high = run.later.gain
    job = _never_seen(run)
    lead = (
        f"The same algorithm errs by {gain:.0%} less with engineered features than with raw ones "
        f"(95 % interval {low:.0%} to {high:.0%}, on {len(run.later.asked_at):,} later quotes). "
        f"A job of ${job.truth:,.0f} that is unlike anything in the training data would have been quoted at "
        f"${job.record.answer:,.0f}; the guard {'refused it' if job.refused else 'let it pass'}."
    )
    sections = [
        _at_a_glance(run),
        _features(run),
        _importance(run),
        _guard(run),
        _after(run),
        _news(run),
        _record(run, registry),
    ]
    foot = (
        f"icekeel demo quotes: icekeel {__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{run.truth.rows['quotes']:,} simulated quotes; this run took {run.seconds:.0f} s."
    )
    return Report("A print shop whose prices are known", lead, sections, foot)


def _at_a_glance(run: Run) -> Section:
    raw, engineered, best = run.later.mape
    job = _never_seen(run)
    tiles = [
        Tile("Error with raw features", f"{raw:.2%}", "MAPE on later quotes"),
        Tile("with engineered features", f"{engineered:.2%}", f"{run.later.gain[0]:.1%} less", "good"),
        Tile("with the true formula", f"{best:.2%}", "noise that no model can foresee"),
        Tile("Never-seen job, unguarded", f"${job.record.answer:,.0f}", f"it costs ${job.truth:,.0f}", "bad"),
        Tile("Ordinary quotes flagged", f"{run.later.flagged_share:.2%}", "1 % was allowed"),
        Tile("CPU per answer", f"{run.later.cpu_us[0]:,.0f} us", f"99 %: {run.later.cpu_us[1]:,.0f} us"),
    ]
    text = (
        "All of this is simulated. The effects of complexity, customer, backlog and season on the price were "
        "chosen so that features matter, after the case that led to Icekeel (8.2 % to 6.2 %). The figures show "
        "that the system finds what is there; they do not say what features will gain on other data."
    )
    return Section("At a glance", "", [Tiles(tiles), Callout("What these figures are", text, "warn")])


def _features(run: Run) -> Section:
    rows = [
        Bar(step["rung"], step["error"], series=version.features)
        for rung in ("linear", "lightgbm")
        for version in (run.raw, run.engineered)
        for step in version.ladder["steps"]
        if step["rung"] == rung
    ]
    weeks, means = run.later.weeks()
    names = ("raw features", "engineered features", "true formula")
    linear = _error(run.engineered, "linear")
    backtest = bars(
        f"LightGBM: {_error(run.raw):.2%} with raw, {_error(run.engineered):.2%} with engineered features",
        rows,
        x_title="MAPE in the backtest",
        percent=True,
    )
    served = lines(
        "The gain holds in every later week"
        if (means[1] < means[0]).all()
        else "The gain does not hold in every later week",
        weeks.tolist(),
        {name: mean.tolist() for name, mean in zip(names, means, strict=True)},
        x_title="",
        y_title="MAPE by week",
        percent=True,
    )
    text = (
        "Both versions climbed the same ladder on the same rows: time-ordered backtests, each fold later than "
        f"what it learnt from. With engineered features a linear model reaches {linear:.2%}, against "
        f"{_error(run.raw):.2%} of LightGBM on raw ones. The group median, the simplest rung, errs by "
        f"{_error(run.raw, 'group'):.0%} and is left out of the picture.\n\n"
        f"After {format_time(int(run.later.asked_at[0]))[:10]} the engineered version served "
        f"{len(run.later.asked_at):,} quotes over HTTP, and the raw one was computed from the same journal. "
        "Both errors are of the raw prediction, before floor and rounding, and include what the guard flagged."
    )
    return Section("The same algorithm, better features", text, [backtest, served])


def _importance(run: Run) -> Section:
    shares: list[tuple[str, float]] = [tuple(pair) for pair in run.engineered.metrics["importance"]]
    raw = {name for name, _ in run.raw.metrics["importance"]}
    rows = [
        Bar(name, share * 100, series="engineered" if name not in raw else "raw")
        for name, share in shares
        if name != "material_cost"
    ]
    idle = [name for name, share in shares if share < IDLE and name not in raw]
    text = (
        "How much the error rises, in points of MAPE, when one feature's values are shuffled among the last "
        f"fold's rows. The cost of the material, {dict(shares)['material_cost'] * 100:.0f} points, is left out "
        "so that the rest can be seen."
    )
    if idle:
        text += f"\n\nGained nothing, by less than 0.01 points: {', '.join(idle)}. What they say, others say as well or nobody needs."
    return Section(
        "Which features carry it",
        text,
        [bars("Points of MAPE that each feature carries", rows, x_title="points of MAPE")],
    )


def _guard(run: Run) -> Section:
    rows = [
        [
            case.name,
            f"${case.truth:,.0f}",
            f"${case.record.answer:,.0f}",
            f"{case.error:+.0%}",
            "refused (HTTP 422)" if case.refused else f"${case.body['prediction']:,.0f}",
        ]
        for case in run.cases[:5]
    ]
    job = _never_seen(run)
    later = run.later
    text = (
        "Custom die-cut, metallic ink and rush occur in the history, and each pair of them does; the three "
        "together never did. Such a job goes to a specialist and costs ten times what its parts suggest, which "
        "nothing in the data could tell. The guard does not know the price either: it knows that nobody knows.\n\n"
        "Each line is one request over HTTP. The price without the guard is read from the journal, which keeps "
        "what the model said also where the caller was refused. True prices are for a new customer at normal "
        "backlog and without season, so a few per cent of difference are no error.\n\n"
        f"On {len(later.asked_at):,} ordinary later quotes the guard flagged {len(later.flagged)}, "
        f"{later.flagged_share:.2%} where 1 % was allowed, and refused {later.refused}. What similar jobs can tell is "
        "answered by them; what was never made, or never in such a number, and dear jobs go to an estimator."
    )
    blocks: list[Table | Callout] = [
        Table(["job", "true price", "without guard", "off by", "with guard"], rows, strong=[4]),
        Callout("What the operator reads", _reasons(job), "good" if job.refused else "bad"),
    ]
    if later.flagged:
        reasons = [[reason] for reason in later.flagged[:5]]
        blocks.append(Table(["reason"], reasons, title="The first ordinary quotes that were flagged"))
    return Section("A job never seen, without and with the guard", text, blocks)


def _after(run: Run) -> Section:
    cases = [run.cases[0], run.cases[1], run.cases[5]]
    rows = [
        [
            case.name,
            f"${case.record.request['material_cost']:,.2f}",
            f"${case.record.prediction:,.2f}",
            f"${case.record.answer:,.2f}",
            "refused" if case.refused else "answered",
        ]
        for case in cases
    ]
    text = (
        "Answers are lifted to the cost of the material, then rounded to $5 (which may take $2.50 off again). "
        "Trees cannot go beyond the prices they have seen: far outside, the model would sell below cost, and the "
        f"floor holds (the guard refuses such a request besides). Among the ordinary later quotes the floor lifted {run.later.floored}. Rounding "
        f"takes the error from {run.later.mape[1]:.2%} to {run.later.rounded_error:.2%}."
    )
    headers = ["job", "material", "model says", "after floor and rounding", "guard"]
    return Section("Floors and rounding", text, [Table(headers, rows)])


def _news(run: Run) -> Section:
    names = ("customer_value", "recency_frequency")
    rows = [
        [
            case.name,
            format_time(case.record.at)[:16].replace("T", " "),
            *(f"{case.record.features[name]:,.1f}" for name in names),
            f"${case.record.answer:,.0f}",
        ]
        for case in run.twice
    ]
    text = (
        "The same job for the same customer, an hour apart. In between, ten orders of the past months are pushed "
        "over HTTP. They count from the moment they were booked: the first question, asked again, would still be "
        "answered as before."
    )
    headers = ["asked", "at (UTC)", *names, "price"]
    return Section("News changes the next answer", text, [Table(headers, rows, strong=[1])])


def _record(run: Run, registry: Registry) -> Section:
    rows = [
        [format_time(one.at)[:10], one.kind, one.version, one.reason] for one in registry.decisions(MODEL)
    ]
    gates = [
        [version.name, gate["name"], "passed" if gate["passed"] else "failed", gate["why"]]
        for version in (run.raw, run.engineered)
        for gate in version.gates
    ]
    alerts = [[format_time(one.at)[:10], one.cause, one.todo] for one in registry.alerts(MODEL)]
    text = run.engineered.ladder["reason"].capitalize() + "."
    blocks = [
        Table(["day", "decision", "version", "reason"], rows),
        Table(["version", "gate", "result", "why"], gates),
    ]
    if alerts:
        text += (
            f"\n\nMonitoring raised {len(alerts)} alerts while the system served. In the simulation the number of "
            "orders grows, but the shares of substrates, die-cuts, inks and turnarounds never change: an alert on "
            "one of those is a false alarm."
        )
        blocks.append(Table(["day", "alert", "first thing to do"], alerts))
    return Section("Gates, decisions, alerts", text, blocks)


def _never_seen(run: Run) -> Case:
    return run.cases[4]


def _reasons(case: Case) -> str:
    return "; ".join(case.record.reasons) or "no objection"


def _error(version: Version, rung: str = "lightgbm") -> float:
    return next(float(step["error"]) for step in version.ladder["steps"] if step["rung"] == rung)


def _percent(share: float) -> str:
    return f"{share:.2%}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    ]
