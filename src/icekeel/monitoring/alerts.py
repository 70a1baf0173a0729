"""Many findings, few alerts: one for each cause, with its diagnosis, its evidence and the first thing to do."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from icekeel.core.ids import digest
from icekeel.core.time import DAY, HOUR, format_time

Subject = Literal[
    "source", "field", "feature", "prediction", "outcome", "guard", "traffic", "latency", "process"
]
Diagnosis = Literal["bad data", "shift", "changed truth", "capacity", "code"]
BAD_DATA: Diagnosis = "bad data"
BROKEN = frozenset({"late", "missing", "doubled", "stale", "nulls", "unit", "category", "type"})
"""Changes that data make which are wrong, not merely others than before."""
MOST_EXAMPLES = 10
SAME = 6 * HOUR
"""An alert that names an effect opened at most so long before its cause was found is the cause's own."""
BEFORE = HOUR
"""An effect may seem to begin so long before its cause; what began earlier is of another."""
STANDING = DAY
"""So long after a cause was last found it still explains its effects."""
_EFFECTS = ("prediction", "outcome", "guard")
_CAUSES = ("source", "field", "feature")
_DIAGNOSED: Mapping[str, Diagnosis] = {
    **{"traffic": "capacity", "latency": "capacity", "disk": "capacity"},
    **dict.fromkeys(
        ("keeper", "store", "clock", "skew", "training", "duty", "champion", "challenger", "shadow"), "code"
    ),
    **dict.fromkeys(("feature", "prediction", "segment", "guard"), "shift"),
}
_FIRST = {
    "source": "Look at the newest rows and the delivery times of {name}; no version is trained until that is resolved.",
    "field": "Ask who sends {name} what was changed; no version is trained until that is resolved.",
    "feature": "Look at the newest values of {name} and at the rows they were made from.",
    "segment": "Look at the newest requests with {name}: are they others than before, or answered otherwise?",
    "prediction": "No source explains it: compare today's requests by segment with those of the reference.",
    "outcome": "Inputs look as usual, so the truth may have changed: retrain on recent outcomes and compare.",
    "guard": "Look at what the guard flags: icekeel guard, and the queue of icekeel review.",
    "traffic": "Look at who asks: fewer requests mean a caller that is down; for more, start more workers.",
    "latency": "Look at the load of the machine and start more workers: icekeel up --workers N.",
    "keeper": "Look at the keeper's log; until it runs, features are as old as the last event it read.",
    "store": "Look at the disk and run icekeel rebuild: the online windows are made anew from the journal.",
    "disk": "Free space on the disk; what waits is done as soon as there is room.",
    "clock": "Set the machine's clock; times in the journal are those it showed.",
}
_SHIFTED = "Look whether {name} has truly changed; nothing is blocked, and the next training learns it."


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One cause that somebody should know of.

    Attributes:
        id: Derived from model, cause and the time it was opened, so that a replay makes the same.
        at: When it was opened, microseconds UTC.
        model: Name of the model.
        cause: `source Weather`, `field distance`, `feature load`, `segment carrier=AA`, `prediction`, `outcome`, ...
        title: One line.
        evidence: Sentences, the weightiest first.
        todo: The first thing to do, one sentence.
        last_seen: When it was last found, microseconds UTC.
        times: How often it was found.
        diagnosis: What kind of cause it is; what follows depends on it.
        since: When the change seems to have begun, microseconds UTC.
        examples: Answers that show it, by prediction id, at most ten.
        severity_usd_per_day: What it costs; None where nobody can say.
        absorbed: Ids of open alerts about effects of this very cause.
    """

    id: str
    at: int
    model: str
    cause: str
    title: str
    evidence: tuple[str, ...]
    todo: str
    last_seen: int
    times: int = 1
    diagnosis: Diagnosis = "shift"
    since: int = 0
    examples: tuple[str, ...] = ()
    severity_usd_per_day: float | None = None
    absorbed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Origins:
    """What a model's features are computed from.

    Attributes:
        sources: Feature -> event tables.
        fields: Feature -> fields of the request, those that windows are keyed by not among them.
        outcomes: The event table that tells what came of an answer.
    """

    sources: Mapping[str, Sequence[str]]
    fields: Mapping[str, Sequence[str]]
    outcomes: str = ""

    def of(self, feature: str, found: Collection[str]) -> list[str]:
        """Causes that may have moved a feature: those already found, else its tables, else its fields, else itself."""
        tables = [f"source {name}" for name in self.sources.get(feature, ())]
        named = [f"field {name}" for name in self.fields.get(feature, ())]
        return [c for c in (*tables, *named) if c in found] or tables or named or [f"feature {feature}"]


def group(
    signals: Iterable[Signal],
    *,
    model: str,
    at: int,
    origins: Origins,
    open_alerts: Iterable[Alert] = (),
) -> list[Alert]:
    """The alerts that the signals of one look make, those already open updated in place.

    Levels of the outcomes' own table are outcomes. Features are explained by the fewest causes that cover them (greedy
    set cover, Chvatal 1979): one that itself gave a signal, or stands from before, comes first, then the one with the
    most features among those left. Moved predictions and outcomes belong to the first source or field found, else to
    the segment in which they moved; only without one are they causes of their own. One look may see the effect and a
    later one the cause: the alert is then the same, under the cause's name.

    Args:
        signals: What was found; order does not matter.
        model: Whose they are.
        at: Time of the look, microseconds UTC.
        origins: What features are computed from.
        open_alerts: Alerts not yet resolved: one of the same model and cause is kept, with its id and
            opening time, new evidence and a count.
    """
    told = [_as_truth(signal, origins) for signal in signals]
    ranked = sorted(told, key=lambda signal: (-signal.size, signal.name, signal.sentence))
    known = {alert.cause: alert for alert in open_alerts if alert.model == model}
    standing = [cause for cause, alert in known.items() if at - alert.last_seen <= STANDING]
    alerts = []
    for cause, found in _causes(ranked, origins, standing).items():
        alert = _alert(cause, found, model=model, at=at)
        effects = [
            one
            for one in known.values()
            if at - one.at <= SAME
            and (one.since or one.at) >= alert.since - BEFORE
            and _is_effect(one.cause, cause, origins)
        ]
        before = known.get(cause) or next(iter(effects), None)
        if before:
            alert = _renewed(alert, before)
        absorbed = tuple(one.id for one in effects if one.id != alert.id)
        alerts.append(replace(alert, absorbed=absorbed))
    return alerts


def _as_truth(signal: Signal, origins: Origins) -> Signal:
    """What comes of answers is larger or smaller than it was: that is the truth, not a fault of who tells it."""
    moved = (
        signal.subject == "source" and signal.name == origins.outcomes and signal.change in ("level", "shape")
    )
    return replace(signal, subject="outcome") if moved else signal


def _renewed(alert: Alert, before: Alert) -> Alert:
    """An alert found again: what it was opened as stays, and a diagnosis of bad data is not taken back."""
    wrong = before.diagnosis == BAD_DATA
    return replace(
        alert,
        id=before.id,
        at=before.at,
        times=before.times + 1,
        examples=tuple(dict.fromkeys((*before.examples, *alert.examples)))[:MOST_EXAMPLES],
        # Later looks know less of when it began; an effect that was seen first says nothing of its cause.
        since=before.since or before.at if before.cause == alert.cause else alert.since,
        severity_usd_per_day=before.severity_usd_per_day,
        diagnosis=BAD_DATA if wrong else alert.diagnosis,
        todo=before.todo if wrong else alert.todo,
    )


def _is_effect(effect: str, cause: str, origins: Origins) -> bool:
    """Whether an open alert about `effect` is explained by `cause`."""
    kind, _, name = effect.partition(" ")
    strong = cause.startswith(("source ", "field "))
    if kind == "feature":
        return strong and cause in origins.of(name, (cause,))
    return (strong and kind in (*_EFFECTS, "segment")) or (cause.startswith("segment ") and kind in _EFFECTS)


def _causes(ranked: list[Signal], origins: Origins, standing: Sequence[str]) -> dict[str, list[Signal]]:
    """Cause -> its signals, every signal under exactly one cause."""
    causes: dict[str, list[Signal]] = {}
    for signal in ranked:
        if signal.subject == "process":
            causes.setdefault(signal.name, []).append(signal)
    for signal in ranked:
        if signal.subject in ("source", "field"):
            # Nothing that nobody reads arrives: a keeper that stands still makes every source look late.
            late = "keeper" in (*causes, *standing) and signal.change in ("late", "missing", "stale")
            causes.setdefault("keeper" if late else f"{signal.subject} {signal.name}", []).append(signal)
    left = [signal for signal in ranked if signal.subject == "feature" and not signal.segment]
    while left:
        found = {*causes, *standing}
        cause = _best_cause(left, origins, found)
        kind, _, name = cause.partition(" ")
        explained = [
            s for s in left if cause in origins.of(s.name, found) or (kind == "feature" and s.name == name)
        ]
        causes.setdefault(cause, []).extend(explained)
        left = [s for s in left if s not in explained]
    rest = [s for s in ranked if s.subject in _EFFECTS or (s.subject == "feature" and s.segment)]
    if rest:
        causes.setdefault(_cause_of(rest, [*causes, *standing]), []).extend(rest)
    if loads := [signal for signal in ranked if signal.subject in ("traffic", "latency")]:
        own = "traffic" if any(signal.subject == "traffic" for signal in loads) else "latency"
        slow = own == "latency"
        cause = next((one for one in ("store", "disk", "keeper") if one in causes and slow), own)
        causes.setdefault(cause, []).extend(loads)
    return causes


def _best_cause(left: list[Signal], origins: Origins, found: Collection[str]) -> str:
    votes: dict[str, int] = {}
    for signal in left:
        for cause in origins.of(signal.name, found):
            votes[cause] = votes.get(cause, 0) + 1
    best = min(votes, key=lambda cause: (cause not in found, -votes[cause], cause))
    if best not in found and best.startswith("field ") and votes[best] == 1:
        # One feature alone says which field it was only where it is made of no other.
        signal = next(s for s in left if best in origins.of(s.name, found))
        if len(origins.of(signal.name, found)) > 1:
            return f"feature {signal.name}"
    return best


def _cause_of(rest: list[Signal], found: Sequence[str]) -> str:
    """What moved predictions, outcomes and flags: a source or field, the segment they moved in, or they themselves.

    Where more than two segments of one field moved, all have.
    """
    strong = next((cause for cause in found if cause.startswith(("source ", "field "))), None)
    if strong is not None:
        return strong
    segments = list(dict.fromkeys(signal.segment for signal in rest if signal.segment))
    if segments:
        field = segments[0].partition("=")[0]
        if sum(one.partition("=")[0] == field for one in segments) <= 2:
            return f"segment {segments[0]}"
    subjects = {signal.subject for signal in rest}
    own = next((one for one in ("outcome", "prediction", "guard") if one in subjects), "prediction")
    return next((cause for cause in found if cause.startswith("segment ") and not segments), own)


def _alert(cause: str, found: list[Signal], *, model: str, at: int) -> Alert:
    kind, _, name = cause.partition(" ")
    diagnosis = diagnose(cause, found)
    shifted = kind in ("source", "field") and diagnosis == "shift"
    own = [signal for signal in found if signal.subject not in _EFFECTS] if kind in _CAUSES else found
    begun = [signal.since for signal in own if signal.since]
    return Alert(
        id=alert_id(model, cause, at),
        at=at,
        model=model,
        cause=cause,
        title=_title(kind, name or kind, found),
        evidence=tuple(dict.fromkeys(signal.sentence for signal in found)),
        todo=(_SHIFTED if shifted else _FIRST.get(kind, "Look at the log.")).format(name=name),
        last_seen=at,
        diagnosis=diagnosis,
        since=min(begun, default=at),
        examples=tuple(dict.fromkeys(one for signal in found for one in signal.examples))[:MOST_EXAMPLES],
    )


def alert_id(model: str, cause: str, at: int) -> str:
    """The id of an alert, the same each time a stretch of time is replayed."""
    return digest(f"{model}\n{cause}\n{format_time(at)}".encode())[:16]


def _title(kind: str, name: str, found: list[Signal]) -> str:
    features = len({signal.name for signal in found if signal.subject == "feature" and not signal.segment})
    parts = [f"{features} feature{'s' if features > 1 else ''}"] if features else []
    parts += [f"the {s}s" for s in ("prediction", "outcome") if any(f.subject == s for f in found)]
    moved = " and ".join(parts)
    own = next((s for s in found if s.subject == kind and s.name == name), None)
    if kind == "feature":
        return f"{name} moved"
    if kind in ("source", "field", "segment"):
        if not moved:
            return _named(name, found[0].sentence)
        return f"{name}: {own.change}, and {moved} moved" if own and own.change else f"{name}: {moved} moved"
    if kind in ("prediction", "outcome"):
        return f"{moved[:1].upper()}{moved[1:]} moved, and no source explains it"
    return _named(name, found[0].sentence)


def _named(name: str, sentence: str) -> str:
    return sentence if sentence.startswith(name) else f"{name}: {sentence}"


def diagnose(cause: str, found: Iterable[Signal]) -> Diagnosis:
    """What kind of cause it is, by its name and the kinds of change that were found.

    Wrong data are those that are late, missing, doubled, stale or null, or in another unit, category or type; a
    source of which nothing is said but that it is one, is taken for wrong. Outcomes that are worse while nothing
    else moved are a changed truth. What no signal told of, as a command that failed, is a matter of the system.
    """
    kind = cause.partition(" ")[0]
    signals = list(found)
    if not signals and kind not in _DIAGNOSED:
        return "code"
    if kind in _DIAGNOSED and kind not in ("feature", "prediction", "segment"):
        return _DIAGNOSED[kind]
    if any(signal.change in BROKEN and signal.subject not in ("traffic", "process") for signal in signals):
        return BAD_DATA
    if kind == "outcome":
        return "changed truth"
    if kind in ("source", "field"):
        own = [signal.change for signal in signals if signal.subject == kind]
        return BAD_DATA if "" in own else "shift"
    return _DIAGNOSED.get(kind, "code")
