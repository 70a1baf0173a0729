"""A trace in words: the same headings, lines and rows for the command line and the console."""

from __future__ import annotations

from typing import Any

from icekeel.core.time import format_time, parse_time
from icekeel.operations.projections.outcome import OutcomeTrace

from .dossier import Part, overridden
from .explain import number
from .trace import FeatureTrace, Trace, VersionTrace

Rows = list[dict[str, Any]]


def told(trace: Trace) -> list[Part]:
    """The whole trace, part by part, from the answer back to the data and on to its outcome."""
    parts = [_answer(trace)]
    if trace.why is not None:
        parts.append(Part("Why", [trace.why.sentence], trace.why.rows()))
    if trace.version is not None:
        parts += _version(trace.version)
    parts += [_features(trace), _windows(trace.features), _guard(trace)]
    if trace.outcome is not None:
        parts.append(_outcome(trace.outcome))
    return [*parts, Part("What the audit finds", [trace.audit], _differing(trace.features))]


def _answer(trace: Trace) -> Part:
    record = trace.answer
    around = f", between {number(record.low)} and {number(record.high)}" if record.low is not None else ""
    refused = record.verdict == "refused"
    said = "refused to answer" if refused else f"answered {number(record.answer)}{around}"
    lines = [
        f"{record.model} {said} on {_when(format_time(record.at))}",
        f"given {'to nobody' if refused else f'by {record.source}'}; the model itself said {number(record.prediction)}"
        + (f"; action: {record.action}" if record.action else ""),
        f"arm {record.arm}, which {record.share:.0%} of units get; unit {record.unit or 'none'}, key {record.key or 'none'}",
        f"degraded: {', '.join(record.degraded)}" if record.degraded else "nothing was degraded",
    ]
    lines += [f"caller's trace: {record.trace}"] if record.trace else []
    return Part(f"Answer {record.id}", lines, [{"field": k, "sent": v} for k, v in record.request.items()])


def _version(version: VersionTrace) -> list[Part]:
    fitted = (
        f"{version.rung} on {version.rows:,} rows"
        if version.rows is not None
        else "its bundle cannot be read"
    )
    lines = [
        f"{version.feature_set}, {fitted}; registered {_when(version.registered_at)}: {version.reason}",
        f"learnt from questions of {_when(version.trained_from)} to {_when(version.trained_to)}",
        f"snapshot {version.snapshot[:16]}, bundle {version.bundle[:16]}",
    ]
    if (step := version.serving) is not None:
        lines.append(f"{step.alias} since {_when(step.at)}, by {step.by}: {step.reason}")
    over = [step for step in version.steps if step.override]
    lines += [overridden(one.alias, one.by, parse_time(one.at), one.override) for one in over]
    gates = [{"gate": one.name, "passed": one.passed, "why": one.why} for one in version.gates]
    steps = [
        {
            "at": _when(one.at),
            "alias": one.alias,
            "change": one.action,
            "share": one.share,
            "by": one.by,
            "why": one.reason,
        }
        for one in version.steps
    ]
    return [
        Part(f"Version {version.name}", lines, gates),
        Part("What became of the version", [] if steps else ["it never had a role"], steps),
    ]


def _features(trace: Trace) -> Part:
    rows = [
        {
            "feature": one.name,
            "value": shown(one.value),
            "definition": one.definition or "not known: it is defined otherwise now",
            "request": ", ".join(f"{name}={shown(value)}" for name, value in one.request.items()),
            "audit": one.audited,
        }
        for one in trace.features
    ]
    unused = [one.name for one in trace.features if one.used is False]
    lines = [f"computed but not read by this version: {', '.join(unused)}"] if unused else []
    return Part("Features", lines, rows)


def _windows(features: list[FeatureTrace]) -> Part:
    windows = {one.window: one for feature in features for one in feature.windows}
    rows = [
        {
            "window": text,
            "key": ", ".join(shown(value) for value in one.key.values()),
            "events": one.events,
            "newest": one.newest["id"] if one.newest else "",
            "happened": _when(one.newest["at"]) if one.newest else "",
            "known from": _when(one.newest["known_from"]) if one.newest else "",
        }
        for text, one in windows.items()
    ]
    return Part("Events behind them", [] if rows else ["no window was read"], rows)


def _guard(trace: Trace) -> Part:
    record = trace.answer
    rows = [{"finding": code, "why": why} for code, why in zip(record.codes, record.reasons, strict=False)]
    if not rows:
        rows = [{"finding": record.verdict, "why": why} for why in record.reasons]
    return Part("Guard", [f"verdict: {record.verdict}"], rows)


def _outcome(outcome: OutcomeTrace) -> Part:
    key = ", ".join(f"{name}={shown(value)}" for name, value in outcome.key.items())
    line = {
        "known": f"{shown(outcome.target)}, known since {_when(outcome.known_at)}",
        "absent": f"none came; its time was over on {_when(outcome.known_at)}",
        "pending": f"not known yet; settled on {_when(outcome.known_at)} at the latest",
    }[outcome.status]
    rows = [
        {
            "known from": _when(one.known_from),
            "id": one.id,
            "said": "deleted"
            if one.fields is None
            else ", ".join(f"{k}={shown(v)}" for k, v in one.fields.items()),
        }
        for one in outcome.versions
    ]
    return Part("Outcome", [line, f"looked for in {outcome.table} by {key}"], rows)


def _differing(features: list[FeatureTrace]) -> Rows:
    return [
        {"feature": one.name, "served": shown(one.value), "recomputed": shown(one.recomputed)}
        for one in features
        if one.audited == "differs"
    ]


def shown(value: Any) -> str:
    """A value for people; a time is told by what it is a field of, so it stays a number."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:,.10g}"
    return str(value)


def _when(text: str) -> str:
    """A time to the second."""
    return f"{text[:19]}Z"
