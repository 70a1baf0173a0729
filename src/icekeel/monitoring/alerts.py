"""Many findings, few alerts: one for each cause, with its evidence and the first thing to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from icekeel.core.ids import digest
from icekeel.core.time import format_time

Subject = Literal[
    "source", "field", "feature", "prediction", "outcome", "guard", "traffic", "latency", "process"
]
_FIRST = {
    "source": "Look at the newest rows and the delivery times of {name}; block training until it is explained.",
    "feature": "Look at the newest values of {name} and at the rows they were made from.",
    "prediction": "No source explains it: compare today's requests by segment with those of the reference.",
    "outcome": "Inputs look as usual, so the truth may have changed: retrain on recent outcomes and compare.",
}


@dataclass(frozen=True, slots=True)
class Signal:
    """Something that was found, of whichever detector.

    Attributes:
        subject: What it is about: an event table as a whole, a field of the request, a feature, the predictions, the
            outcomes, the guard's flags, how much is asked, how fast it is answered, a process.
        name: Name of the source or feature, or of the statistic.
        sentence: What was found, in figures.
        size: How large, for ordering within a subject.
        change: What kind of change: `late`, `missing`, `doubled`, `stale`, `nulls`, `unit`, `category`, `shape`,
            `level`, `rate`, `type`, `error`, `skew`; empty where it is not known.
        segment: The requests it is about, `carrier=AA`; empty for all.
        since: When it seems to have begun, microseconds UTC; 0 where that is not known.
        examples: Answers that show it, by prediction id, at most ten.
    """

    subject: Subject
    name: str
    sentence: str
    size: float = 0.0
    change: str = ""
    segment: str = ""
    since: int = 0
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """One cause that somebody should know of.

    Attributes:
        id: Derived from model, cause and the time it was opened, so that a replay makes the same.
        at: When it was opened, microseconds UTC.
        model: Name of the model.
        cause: `source Weather`, `feature load`, `prediction` or `outcome`.
        severity: What it costs, in the project's money, or in words.
        title: One line.
        evidence: Sentences, the weightiest first.
        first_thing_to_do: One sentence.
        last_seen: When it was last found, microseconds UTC.
        times: How often it was found.
    """

    id: str
    at: int
    model: str
    cause: str
    severity: str
    title: str
    evidence: tuple[str, ...]
    first_thing_to_do: str
    last_seen: int
    times: int = 1


def group(
    signals: Iterable[Signal],
    *,
    model: str,
    at: int,
    sources: Mapping[str, Sequence[str]],
    open_alerts: Iterable[Alert] = (),
    severity: str = "",
) -> list[Alert]:
    """The alerts that the signals of one period make, those already open updated in place.

    Features are explained by the fewest sources that cover them (greedy set cover, Chvatal 1979): a source
    that itself gave a signal comes first, then the one with the most features among those left. Moved
    predictions and outcomes belong to the first source found; only without one are they causes of their own.

    Args:
        signals: What was found; order does not matter.
        model: Whose they are.
        at: Time of the look, microseconds UTC.
        sources: Feature -> event tables it is computed from; empty or missing for request fields.
        open_alerts: Alerts not yet resolved: one of the same model and cause is kept, with its id and
            opening time, new evidence and a count.
        severity: Cost as the caller estimates it.
    """
    ranked = sorted(signals, key=lambda signal: (-signal.size, signal.name, signal.sentence))
    known = {alert.cause: alert for alert in open_alerts if alert.model == model}
    alerts = []
    for cause, found in _causes(ranked, sources).items():
        alert = _alert(cause, found, model=model, at=at, severity=severity)
        before = known.get(cause)
        if before:
            alert = replace(alert, id=before.id, at=before.at, times=before.times + 1)
        alerts.append(alert)
    return alerts


def _causes(ranked: list[Signal], sources: Mapping[str, Sequence[str]]) -> dict[str, list[Signal]]:
    """Cause -> its signals, every signal under exactly one cause."""
    causes: dict[str, list[Signal]] = {}
    for signal in ranked:
        if signal.subject == "source":
            causes.setdefault(f"source {signal.name}", []).append(signal)
    left = [signal for signal in ranked if signal.subject == "feature"]
    while left:
        cause = _best_cause(left, sources, causes)
        explained = [s for s in left if cause in _candidates(s.name, sources)]
        causes.setdefault(cause, []).extend(explained)
        left = [s for s in left if s not in explained]
    rest = [signal for signal in ranked if signal.subject in ("prediction", "outcome")]
    if rest:
        own = "outcome" if any(signal.subject == "outcome" for signal in rest) else "prediction"
        source = next((cause for cause in causes if cause.startswith("source ")), own)
        causes.setdefault(source, []).extend(rest)
    return causes


def _candidates(feature: str, sources: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"source {name}" for name in sources.get(feature, ())] or [f"feature {feature}"]


def _best_cause(left: list[Signal], sources: Mapping[str, Sequence[str]], causes: Iterable[str]) -> str:
    votes: dict[str, int] = {}
    for signal in left:
        for cause in _candidates(signal.name, sources):
            votes[cause] = votes.get(cause, 0) + 1
    signalled = set(causes)
    return min(votes, key=lambda cause: (cause not in signalled, -votes[cause], cause))


def _alert(cause: str, found: list[Signal], *, model: str, at: int, severity: str) -> Alert:
    subject, _, name = cause.partition(" ")
    features = sum(signal.subject == "feature" for signal in found)
    parts = [f"{features} feature{'s' if features > 1 else ''}"] if features else []
    parts += [f"the {s}s" for s in ("prediction", "outcome") if any(f.subject == s for f in found)]
    moved = " and ".join(parts)
    title = {
        "source": f"{name}: {moved} moved" if moved else f"{name}: {found[0].sentence}",
        "feature": f"{name} moved",
    }.get(subject, f"{moved[:1].upper()}{moved[1:]} moved, and no source explains it")
    return Alert(
        id=digest(f"{model}\n{cause}\n{format_time(at)}".encode())[:16],
        at=at,
        model=model,
        cause=cause,
        severity=severity,
        title=title,
        evidence=tuple(signal.sentence for signal in found),
        first_thing_to_do=_FIRST[subject].format(name=name),
        last_seen=at,
    )
