"""What is said of an experiment: before it starts, while it runs, and when it is over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from icekeel.core.errors import Fault, IcekeelError, nearest, shorten
from icekeel.core.frames import Ints
from icekeel.core.time import DAY, HOUR, format_second
from icekeel.define import Model
from icekeel.experiments import (
    Answers,
    Evidence,
    Look,
    Metric,
    PairedDays,
    Question,
    RolloutPlan,
    RolloutState,
    Tally,
    Units,
    course,
    decide,
    describe,
    gather,
    naive_sentence,
    paired_days_needed,
)
from icekeel.experiments.paired import MINIMUM_DAYS
from icekeel.experiments.power import MOST_DAYS
from icekeel.experiments.sequential import bounded_exp
from icekeel.registry import Trial

from .rows import Rows
from .trials import Standing, mismatch, phases_of

MOST_LOOKS = 120
"""Looks that the course is drawn from."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Units of one phase, as they were to be and as they are."""

    phase: str
    share: float
    champion: int
    challenger: int


@dataclass(frozen=True, slots=True)
class TrialReport:
    """One experiment.

    Attributes:
        sentence: The finding, for somebody who decides.
        evidence: By metric, the primary one first.
        looks: The course of the primary metric.
        segments: Field -> value -> evidence, and whether it counts although so many were looked at.
        left_out: How many units or answers, and why.
        naive: What rules that do not know of the other looks would have done.
    """

    title: str
    sentence: str
    verdict: str
    held: str
    days: float
    since: int
    at: int
    steps: Sequence[tuple[int, float]]
    plan: RolloutPlan
    evidence: Mapping[str, Evidence]
    looks: Sequence[Look]
    sizes: Sequence[Sizes]
    odds: float
    segments: Mapping[str, Mapping[str, tuple[Evidence, bool]]]
    failures: Mapping[str, tuple[int, int]]
    left_out: Mapping[str, int]
    naive: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON; times are ISO, what is not finite is null."""
        return {
            "title": self.title,
            "sentence": self.sentence,
            "verdict": self.verdict,
            "held": self.held,
            "days": round(self.days, 2),
            "since": format_second(self.since),
            "steps": [{"at": format_second(at), "share": share} for at, share in self.steps],
            "metrics": {
                name: {**_plain(found), "told": describe(name, found)}
                for name, found in self.evidence.items()
            },
            "sizes": [_plain(one) for one in self.sizes],
            "mismatch_odds": self.odds,
            "segments": {
                name: {value: {**_plain(one), "counts": counts} for value, (one, counts) in values.items()}
                for name, values in self.segments.items()
            },
            "failures": {kind: {"champion": a, "challenger": b} for kind, (a, b) in self.failures.items()},
            "left_out": dict(self.left_out),
            "naive": self.naive,
            "course": [{"at": format_second(look.at), **_plain(look.evidence)} for look in self.looks],
        }


def report_of(model: Model, standing: Standing) -> TrialReport:
    """The report of a trial as it stands."""
    trial, plan = standing.trial, standing.plan
    if trial.in_shadow:
        found = _report(standing, course(standing.looks, plan.claim(plan.primary)))
    else:
        fields = model.rollout.segment_fields if model.rollout else ()
        found = _split_report(standing, fields, standing.rows[plan.primary.name], phases_of(model, trial))
    if trial.ended is not None:
        return replace(found, verdict="ended", sentence=f"Ended {format_second(trial.ended)}: {trial.why}")
    return found


def _split_report(
    standing: Standing, fields: Sequence[str], rows: Rows, phases: Mapping[str, float]
) -> TrialReport:
    """With what only a split test has: sizes of arms, groups, what was left out."""
    primary = standing.plan.primary
    claim, units = standing.plan.claim(primary), standing.units[primary.name]
    seen = [
        (at, Tally.of(primary, rows.gather(primary, at), phases))
        for at in _look_times(standing.trial.since, standing.at, rows.times())
    ]
    return replace(
        _report(standing, course(seen, claim)),
        sizes=_sizes(units, phases),
        segments={
            name: Tally.of(primary, rows.gather(primary, standing.at, place), phases).by_segment(claim)
            for place, name in enumerate(fields)
        },
        left_out={
            "units seen in both arms": units.crossed,
            "answers whose outcome came before them": units.early,
            "answers whose outcome is not known": units.unknown,
        },
    )


def _report(standing: Standing, looks: Sequence[Look]) -> TrialReport:
    trial, state = standing.trial, standing.state
    return TrialReport(
        title=f"{trial.version} against {trial.champion}",
        sentence=standing.verdict.reason,
        verdict=standing.verdict.kind,
        held=standing.held,
        days=state.days,
        since=trial.since,
        at=standing.at,
        steps=trial.steps,
        plan=standing.plan,
        evidence=standing.verdict.evidence,
        looks=looks,
        sizes=(),
        odds=bounded_exp(state.log_mismatch),
        segments={},
        failures={kind: found.struck for kind, found in state.failures.items()},
        left_out={},
        naive=naive_sentence(looks) if looks else "",
    )


def _look_times(since: int, until: int, settled: Ints) -> list[int]:
    """Ends of equal stretches, of hours or days, from the first settled answer on."""
    if not (settled < until).any():
        return []
    earliest = int(settled.min())
    step = HOUR if until - earliest <= 3 * DAY else DAY
    first = max(since, earliest) // step + 1
    times = [at * step for at in range(first, until // step + 1)]
    thin = -(-len(times) // MOST_LOOKS) or 1
    return [*times[::thin], *([until] if not times or times[::thin][-1] < until else [])]


def _sizes(units: Units, phases: Mapping[str, float]) -> list[Sizes]:
    found = []
    for name, share in phases.items():
        mine = units.phase.astype(str) == name
        second = int(units.in_b[mine].sum())
        found.append(Sizes(name, share, int(mine.sum()) - second, second))
    return found


def _plain(found: Any) -> dict[str, Any]:
    values = {name: getattr(found, name) for name in found.__dataclass_fields__}
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }


# Before it starts


@dataclass(frozen=True, slots=True)
class Power:
    """What a test would need, from the project's own past.

    Attributes:
        mean, sd: Of a unit.
        units_per_day: That would take part.
        needed: (effect, units, days) by which it is found.
        detectable: The smallest improvement that the longest time allowed finds.
    """

    metric: str
    mean: float
    sd: float
    units_per_day: float
    needed: Sequence[tuple[float, int, float]]
    detectable: float
    sentences: Sequence[str]


def power_of(
    metric: Metric, plan: RolloutPlan, unit: Any, value: Any, days: float, effects: Sequence[float], noun: str
) -> Power:
    """How large a test of one metric must be.

    Args:
        unit, value: Past questions whose outcome is known: whom they were of, and what came of them.
        days: How long a time they are of.

    Raises:
        IcekeelError: no past outcomes, or all alike.
    """
    known = np.isfinite(value)
    if not known.any() or days <= 0:
        what, hint = "there are no past outcomes of this metric", "icekeel ingest takes them in"
        raise IcekeelError(Fault("no_outcomes", what, metric.name, hint=hint))
    zeros, at = np.zeros(int(known.sum())), np.arange(int(known.sum()))
    units = gather(metric, Answers(unit[known], zeros.astype(bool), at, value[known]))
    weight = units.answers if metric.by_answers else np.ones(len(units.value))
    mean = float(units.value.sum() / weight.sum())
    sd = float(np.std(units.value - mean * weight) / weight.mean())
    if not (mean and sd > 0):
        told = f"It was {mean:.4g} for every unit: no test can find a change in it."
        return Power(metric.name, mean, sd, len(units.value) / days, [], math.inf, [told])
    share = max(0.5, plan.steps[-1]) if plan.steps else 0.5
    coverage = min(1.0, plan.steps[-1] / share) if plan.steps else 1.0
    question = Question(
        mean,
        sd,
        share,
        metric.margin,
        plan.alpha,
        tuned_for=plan.tuned_for,
        binary=metric.kind == "conversion",
    )
    per_day = len(units.value) / days * coverage
    needed = [(effect, question.units(effect), question.units(effect) / per_day) for effect in effects]
    longest = question.detectable(per_day * plan.maximum_days)
    return Power(
        metric.name,
        mean,
        sd,
        per_day,
        needed,
        longest,
        [
            *(question.sentence(effect, per_day, noun) for effect in effects),
            *(_tuned(question, effect) for effect in effects if len(effects) == 1),
            f"In the {plan.maximum_days:g} days allowed it finds {longest:+.1%} or more.",
        ],
    )


def _tuned(question: Question, effect: float) -> str:
    """What to state in the plan where just this effect is looked for."""
    tuned = question.tuned(effect)
    size = float(f"{tuned.tuned_for:.2g}")
    return f"With ik.Rollout(tuned_for={size:_.0f}) it needs {tuned.units(effect) / question.units(effect):.0%} of that."


def paired_sentences(plan: RolloutPlan, past: PairedDays, effects: Sequence[float]) -> list[str]:
    """How long a test in shadow takes, by the differences by day of a version that has been there; see `power_of`."""
    if len(past.days) < MINIMUM_DAYS:
        told = f"once one has answered there on {MINIMUM_DAYS} days it is known how many"
        return [f"That is of a split test. A version in shadow mostly needs fewer: {told}."]
    claim = plan.claim(plan.primary)
    found = [(effect, paired_days_needed(past, effect, claim)) for effect in effects]
    return [
        f"In shadow {effect:+.1%} takes {f'{days:,}' if days else f'more than {MOST_DAYS:,}'} days."
        for effect, days in found
    ]


# Outcomes served elsewhere


def analyse(
    path: Path,
    columns: Mapping[str, str],
    metric: Metric,
    share: float,
    alpha: float,
    challenger: str = "",
) -> TrialReport:
    """The report of an experiment that others served, from a table with a row for each answer or unit.

    Args:
        path: CSV or Parquet.
        columns: `unit`, `arm`, `value`, and where there are such `time`, `segment`, `covariate`, `phase` -> the table's columns.
        share: Declared share of the challenger, of those exposed.
        challenger: Its name among the arms; by default as usual words have it.

    Raises:
        IcekeelError: a share that is none, a file or a column that is missing, arms that are not two or do not say which is
            the challenger's, values that are no numbers, times that are none, rows without a unit, an arm or a time.
    """
    if not 0 < share < 1:
        what = "expected the share that the challenger was to have"
        raise IcekeelError(Fault("bad_share", what, "--share", f"{share:g}", "between 0 and 1"))
    if not path.is_file():
        raise IcekeelError(Fault("no_file", "there is no such file", str(path)))
    import duckdb  # third party, and loaded where it is used

    from icekeel.data.relations import connect

    quoted = {role: '"' + name.replace('"', '""') + '"' for role, name in columns.items()}
    casts = {
        "unit": "VARCHAR",
        "arm": "VARCHAR",
        "value": "DOUBLE",
        "time": "TIMESTAMP",
        "covariate": "DOUBLE",
    }
    chosen = ", ".join(
        f"CAST({name} AS {casts.get(role, 'VARCHAR')}) AS {role}" for role, name in quoted.items()
    )
    reader = "read_parquet" if path.suffix == ".parquet" else "read_csv"
    try:
        with connect(reads=[path]) as connection:
            there = connection.execute(f"SELECT * FROM {reader}(?) LIMIT 0", [str(path)]).description
            _check_columns(path, columns, [name for name, *_ in there or ()])
            table = connection.execute(f"SELECT {chosen} FROM {reader}(?)", [str(path)]).fetchnumpy()
    except duckdb.Error as error:
        said = str(error).splitlines()
        what = next((line for line in said if "onvert" in line and '"' in line), said[0])
        raise IcekeelError(Fault("bad_table", what, str(path))) from error
    for role in ("unit", "arm", "time"):
        if role in table and (lacking := int(np.ma.getmaskarray(table[role]).sum())):
            what = f"{lacking:,} rows have no {role}"
            raise IcekeelError(Fault("missing_values", what, f"{path.name}, {columns[role]}"))
    arms = sorted({str(one) for one in table["arm"]})
    second = _second_of(arms, f"{path.name}, {columns['arm']}", challenger)
    return _analysed(path.name, table, columns, metric, share, alpha, second)


def _check_columns(path: Path, columns: Mapping[str, str], known: Sequence[str]) -> None:
    faults = [
        Fault(
            "unknown_column",
            "no such column",
            f"{path.name}, {role}",
            name,
            ", ".join(known),
            nearest(name, known),
        )
        for role, name in columns.items()
        if name.casefold() not in {one.casefold() for one in known}
    ]
    if faults:
        raise IcekeelError(*faults)


def _second_of(arms: Sequence[str], where: str, named: str) -> str:
    """The challenger's arm of two: mistaken for the other, a finding would say the opposite."""
    if len(arms) != 2:
        what, allowed = "an experiment has two arms", "champion, challenger"
        raise IcekeelError(Fault("bad_arms", what, where, ", ".join(arms[:5]) or "none", allowed))
    usual = [one for one in arms if one.lower() in _SECONDS]
    likely = usual or [one for one in arms if one.lower() not in _FIRSTS]
    if named not in arms if named else len(likely) != 1:
        what = "no arm is called so" if named else "which arm is the challenger's is not clear"
        got, hint = shorten(named) if named else "", "--challenger NAME says so"
        raise IcekeelError(Fault("which_arm", what, where, got, ", ".join(arms), hint))
    return named or likely[0]


def _analysed(
    name: str,
    table: Mapping[str, Any],
    columns: Mapping[str, str],
    metric: Metric,
    share: float,
    alpha: float,
    second: str,
) -> TrialReport:
    n = len(table["unit"])
    at = table["time"].astype("datetime64[us]").astype(np.int64) if "time" in table else np.zeros(n, np.int64)
    text = {key: table[key].astype(str).astype(object) for key in ("segment", "phase") if key in table}
    phases = {one: share for one in sorted(set(text.get("phase", [""])))}
    trial = Trial(
        "",
        next(str(one) for one in table["arm"] if str(one) != second),
        second,
        "",
        int(at.min()),
        ((int(at.min()), share),),
    )
    rows = Rows()
    covariate = np.ma.filled(table["covariate"], np.nan) if "covariate" in table else None
    rows.extend(
        Answers(
            table["unit"],
            table["arm"].astype(str) == second,
            at,
            np.ma.filled(table["value"], np.nan),
            text.get("phase"),
            segment=text.get("segment"),
            covariate=covariate,
        )
    )
    until = int(at.max()) + 1
    plan = RolloutPlan(metric, alpha=alpha, minimum_days=0, maximum_days=1e6)
    units = rows.gather(metric, until)
    tally = Tally.of(metric, units, phases)
    state = RolloutState((until - trial.since) / DAY, tally, {}, mismatch(units, phases))
    standing = Standing(until, trial, plan, state, decide(plan, state), {metric.name: units})
    fields = [columns["segment"]] if "segment" in table else []
    found = _split_report(standing, fields, rows, phases)
    return replace(found, title=f"{found.title} in {name}")


_FIRSTS = ("champion", "control", "a", "0", "old", "baseline", "false")
_SECONDS = ("challenger", "b", "treatment", "test", "variant", "1", "new", "true")
