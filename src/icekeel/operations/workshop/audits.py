"""Everything that can be audited of a model: its training set, and the answers it gave."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from icekeel.core.errors import Fault, ProjectError, nearest
from icekeel.core.time import format_time
from icekeel.define import Model
from icekeel.define.audits import AUDITS
from icekeel.operations.skew.skew import SKEW_AUDIT, AuditResult
from icekeel.registry import CHAMPION, Registry, Version
from icekeel.training.audits import Finding, Verdict, under

from .workshop import Say, Workshop

RUN = "audit"
"""Kind of the run that the registry keeps of every audit on request."""
MOST_NAMED = 20
BLOCKING = 0.01
"""Share of the compared answers from which on skew blocks."""


@dataclass(frozen=True, slots=True)
class Audited:
    """All that was found of one model at once.

    Attributes:
        model: Its name.
        version: The champion at that time; empty where there was none.
        at: Microseconds UTC.
        findings: In the order in which audits are told.
    """

    model: str
    version: str
    at: int
    findings: Sequence[Finding]

    @property
    def blocked(self) -> bool:
        """Whether any finding blocks."""
        return any(finding.verdict == "block" for finding in self.findings)


def audit_model(
    model: Model,
    workshop: Workshop,
    registry: Registry,
    skew: Callable[[], AuditResult],
    *,
    only: Sequence[str],
    now: int,
    say: Say,
) -> Audited:
    """Make the audits named, all by default, and keep a run of them.

    Args:
        skew: Recomputes answers.

    Raises:
        ProjectError: there is no such audit, or the project turns it off.
        TrainingError: there is nothing to learn from, and more than answers were to be audited.
    """
    names = _chosen(model, only)
    findings = []
    if set(names) - {SKEW_AUDIT}:
        findings += workshop.audit(model.name, names, now, say)
    if SKEW_AUDIT in names:
        findings.append(under(model.audits, skew_finding(skew())))
    alias = registry.aliases(model.name).get(CHAMPION)
    audited = Audited(model.name, "" if alias is None else alias.version, now, findings)
    with registry.atomically():
        run = registry.start_run(RUN, details=asdict(audited), at=now)
        registry.finish_run(run, "done", at=now)
    return audited


def findings_of(registry: Registry, version: Version) -> list[Mapping[str, Any]]:
    """What is on record of a version, as `Finding`s in JSON: of its training, and the latest on request while it was champion."""
    found = {str(one["audit"]): one for one in version.metrics.get("audits", ())}
    for run in registry.runs(RUN):
        if run.details.get("version") == version.name:
            found |= {str(one["audit"]): one for one in run.details["findings"]}
    return [found[name] for name in AUDITS if name in found]


def blocked_by(registry: Registry, model: str) -> tuple[int, list[str]]:
    """When a model was last audited, and which audits blocked the last time that each was made on request."""
    runs = [
        run for run in registry.runs(RUN) if run.details.get("model") == model and "findings" in run.details
    ]
    latest = {str(one["audit"]): str(one["verdict"]) for run in runs for one in run.details["findings"]}
    at = runs[-1].started_at if runs else 0
    return at, [name for name, verdict in latest.items() if verdict == "block"]


def _chosen(model: Model, only: Sequence[str]) -> Collection[str]:
    faults = [
        Fault("unknown_audit", f'no audit "{name}"', "", "", ", ".join(AUDITS), nearest(name, AUDITS))
        for name in only
        if name not in AUDITS
    ]
    faults += [
        Fault("audit_off", f'the project turns "{name}" off', f'Model "{model.name}", audits, off')
        for name in only
        if name in model.audits.off
    ]
    if faults:
        raise ProjectError(*faults)
    return [name for name in only or AUDITS if name not in model.audits.off]


def skew_finding(result: AuditResult) -> Finding:
    """Answers that were served other than they are recomputed, as a finding; `evidence` names each feature."""
    wrong = len({one.prediction_id for one in result.differences})
    verdict: Verdict = "pass"
    if wrong:
        verdict = "block" if wrong >= BLOCKING * result.rows else "warn"
    what = (
        result.title
        if wrong
        else f"{result.rows:,} answers of {result.features} features equal recomputed ones"
    )
    if not result.rows:
        left = "; ".join(f"{count:,}: {why}" for why, count in result.left_out.items())
        what = f"no answer was compared{' (' + left + ')' if left else ''}"
    evidence = {
        "rows": result.rows,
        "features": result.features,
        "late": result.late,
        "left_out": dict(result.left_out),
        "differences": differing(result),
    }
    return Finding(SKEW_AUDIT, verdict, what, result.todo, evidence=evidence)


def differing(result: AuditResult) -> list[dict[str, Any]]:
    """Each feature that differs, the most frequent first."""
    rows = []
    for name, count in result.counts.items():
        found, cause = result.of(name), result.causes.get(name)
        rows.append(
            {
                "feature": name,
                "answers": count,
                "prediction_ids": [one.prediction_id for one in found[:MOST_NAMED]],
                "asked_at": format_time(found[0].asked_at),
                "served": _plain(found[0].served),
                "recomputed": _plain(found[0].recomputed),
                "cause": cause.kind if cause else "",
                "evidence": cause.sentence if cause else "",
                "todo": cause.todo if cause else "",
            }
        )
    return rows


def _plain(value: Any) -> Any:
    """A value as JSON has it: no NaN, no NumPy."""
    if value is None or isinstance(value, str):
        return value
    return None if value != value else float(value)  # noqa: PLR0124
